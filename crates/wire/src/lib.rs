//! Codecs without sockets: bytes to types and back, never panicking on input.
//!
//! Invariants: nothing here does I/O, keeps time or allocates without a bound that is named; every
//! parser has tables, properties and a fuzz target.

pub mod fields;
pub mod h1;
pub mod head;

pub use fields::{Fields, Known};
pub use head::{Length, Method, RequestHead, ResponseHead, Version};

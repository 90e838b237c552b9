//! Codecs without sockets: bytes to types and back, never panicking on input.
//!
//! Invariants: nothing here does I/O, keeps time or allocates without a bound that is named; every
//! parser has tables, properties and a fuzz target.

pub mod amqp;
pub mod client_hello;
pub mod cloudevents;
pub mod fields;
pub mod forwarded;
pub mod grpc;
pub mod grpc_web;
pub mod h1;
pub mod head;
pub mod hpack;
pub mod path;
pub mod problem;
pub mod proxy_protocol;
pub mod proxy_status;
pub mod structured;

pub use fields::{Fields, Known, KnownNames};
pub use head::{Length, Method, RequestHead, ResponseHead, Version};

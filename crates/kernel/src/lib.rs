//! The words that every room of Weft shares.
//!
//! Invariants: no I/O, no async runtime, no dependency on any other room, and under 2,000 lines.
//! Time ([`Tick`], [`Clock`]) and chance ([`Rng`]) are values that are handed in, so that whatever
//! is built from them can be replayed from a seed.
//!
//! Reading order: [`error`] and [`reason`] (what can go wrong, and how it is named everywhere),
//! [`handshake`], [`time`], [`rng`], [`units`], [`name`], [`limits`], [`memory`].

pub mod error;
pub mod handshake;
pub mod limits;
pub mod memory;
pub mod name;
pub mod reason;
pub mod rng;
pub mod time;
pub mod units;

pub use error::{Code, Error, Result, Retry, Side};
pub use handshake::HandshakeFault;
pub use name::Name;
pub use reason::Reason;
pub use rng::Rng;
pub use time::{Clock, Deadline, ManualClock, SystemClock, Tick};
pub use units::{ByteSize, format_duration, parse_duration, parse_share};

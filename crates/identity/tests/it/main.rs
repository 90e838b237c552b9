//! Handshakes between real configurations, in memory, with authorities made on the spot and a clock
//! that stands still.
#![allow(clippy::unwrap_used, missing_docs)]

mod authority;
mod client;
mod faults;
mod handshake;
mod peer;
mod server;

//! The sockets of Weft against the real kernel: every port is 0, every wait has a deadline.
#![allow(clippy::unwrap_used)]

mod accept;
mod client;
mod client_pool;
mod connect;
mod handover;
mod listen;
mod relay;
mod stage;
mod tasks;
mod worker;

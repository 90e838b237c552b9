//! Streams on a simulated disk.

#![allow(clippy::unwrap_used, reason = "tests")]

mod model;
mod streams;

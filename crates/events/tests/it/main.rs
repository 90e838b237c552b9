//! Streams on a simulated disk.

#![allow(clippy::unwrap_used, reason = "tests")]

mod conditions;
mod index;
mod model;
mod projection;
mod retention;
mod rows;
mod shared;
mod simulation;
mod streams;
mod times;

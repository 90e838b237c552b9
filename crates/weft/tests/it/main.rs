//! Tests of the binary's room, in one binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod config;
mod faults;
mod http1;
mod resilience;

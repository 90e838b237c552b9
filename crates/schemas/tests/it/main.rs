//! The registry on a ledger.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod hold;
mod mutated;
mod registry;

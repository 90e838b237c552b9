//! The room from outside: distribution, hashing, reloads, resolution and checks.
#![allow(clippy::unwrap_used)]

mod balance;
mod fleet;
mod hashing;
mod health;
mod registry;
mod resolve;

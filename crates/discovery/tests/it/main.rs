//! The room from outside: distribution, hashing, reloads, sources, resolution and checks.
#![allow(clippy::unwrap_used)]

mod balance;
mod fleet;
mod hashing;
mod health;
mod resolve;
mod services;
mod source;

//! The ledger as a whole, on a disk that a seed makes fail.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout, missing_docs)]

mod admin;
mod clock;
mod cold;
mod conformance;
mod copies;
mod ends;
mod flips;
mod forgetting;
mod lives;
mod looking;
mod maps;
mod remote;
mod simulation;
mod threads;
mod waits;

//! The ledger as a whole, on a disk that a seed makes fail.
#![allow(clippy::unwrap_used, missing_docs)]

mod conformance;
mod simulation;

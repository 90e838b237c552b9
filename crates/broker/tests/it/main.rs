//! The broker on the real ledger over a simulated disk.

#![allow(clippy::unwrap_used, missing_docs)]

mod conformance;
mod consuming;
mod dead;
mod declared;
mod defining;
mod engines;
mod limits;
mod lost;
mod node;
mod parked;
mod ready;
mod scheduling;
mod simulation;
mod together;
mod topics;
mod waiting;

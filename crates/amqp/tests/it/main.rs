//! The front-end on a real broker and a real ledger over a simulated disk, spoken to in frames.

#![allow(clippy::unwrap_used, missing_docs)]

mod client;
mod consumers;
mod copies;
mod durability;
mod engines;
mod exchange;
mod frames;
mod hostile;
mod life;
mod limits;
mod lost;
mod node;
mod order;
mod permissions;
mod quiet;
mod slow;
mod transactions;
mod turns;

//! The API and the push delivery over the real broker and ledger, on a disk in memory.

#![allow(clippy::unwrap_used, missing_docs)]

mod consuming;
mod engines;
mod events;
mod hostile;
mod node;
mod queues;
mod schemas;
mod socket;
mod streams;
mod target;
mod topics;

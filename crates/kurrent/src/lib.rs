//! KurrentDB's gRPC protocol (EventStoreDB's before) in front of the event streams, for applications that were written
//! for it.
//!
//! A client sees what KurrentDB would show it, names of exceptions and details of statuses included; what differs is
//! listed in `docs/patterns/kurrentdb.md`. Streams are the store's own: what is appended here is read over HTTP as
//! CloudEvents, and the other way round.
//!
//! Invariants: an append is answered once it is on the disk; what a client does not read is bounded by its own flow
//! control, since answers are made when they are asked for; a method that is not there says so as `UNIMPLEMENTED`, and
//! nothing answers as if it worked. Positions are those of the store and one, so that nought is before all events.
//!
//! Reading order: [`target`], `service` (which method is which), `frame`, `answer` and `fault` (gRPC), `event`
//! (between their events and CloudEvents), `append`, `batch`, `session`, `change`, `metadata`, `filter`, `links`,
//! `read`, `subscribe`, `persistent`, `persistent_info`, `consume`, `node`.

mod answer;
mod append;
mod batch;
mod change;
mod consume;
mod event;
mod fault;
mod filter;
mod frame;
mod links;
mod messages;
mod metadata;
mod node;
mod persistent;
mod persistent_info;
mod read;
mod service;
mod session;
mod subscribe;
pub mod target;

pub use target::{KURRENT, Kurrent, KurrentTargets};

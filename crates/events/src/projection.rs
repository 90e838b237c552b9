//! Projections: read models that are folded from events, document by document.
//!
//! A [`Definition`] says which events are meant, which documents each is about, and what it does to them. It is
//! compiled, and a `Build` of it has a map of its own with its documents and with how far it has got;
//! both change in one transaction, so that no event is applied twice or left out, whatever ends the process. A changed
//! definition makes another build beside the one that answers, and takes its place in one transaction once it is as far.
//!
//! Invariants:
//! - Documents are the pure fold of all events before the position of their build, however these were batched.
//! - What cannot be applied to a document parks that document alone: later events of it wait in the log, in order, and
//!   are applied from there when it is resumed.
//! - Documents, lists, parked documents and what is read at once have bounds.
//!
//! Reading order: [`definition`], [`document`], `fold` (the pure parts); `rows`, `build`, [`service`], [`read`], [`moment`].

mod build;
pub mod definition;
pub mod document;
mod fold;
pub mod moment;
pub mod read;
mod rows;
pub mod service;

pub use definition::{Definition, Rule, Source};
pub use read::{Listed, Listing, Shown};
pub use rows::Parked;
pub use service::{Projection, Projections, Runner, Status};

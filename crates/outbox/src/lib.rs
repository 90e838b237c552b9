//! Outboxes: what services commit to PostgreSQL, published to topics exactly once and in the order of the commits.
//!
//! A service writes its event into a table, or into the log, in the transaction that changes its data. An [`Outbox`]
//! reads the database's log by logical replication, and publishes each event together with the position that it came
//! from, as one transaction of the ledger.
//!
//! Invariants:
//! - An event that was committed is published once, whoever crashes when; one that was rolled back never.
//! - Events stand in their topics in the order in which their transactions were committed, and within one in the order
//!   in which they were written.
//! - The server is told that it may forget its log only after what was in it is durable here.
//! - Nothing is read from a log that is not known to be the one that was read before: then the outbox stands still, and
//!   says why, until a person decides.
//! - Memory has a bound, however large a transaction is.
//!
//! This is the only room that knows the `postgres-protocol` crate. Deliberately absent: the rows that were in the
//! table before the slot, updates and deletions, and the streaming of transactions that are not committed yet.
//!
//! Reading order: [`options`], [`database`], [`template`]; [`lsn`], [`kept`], [`judge`], [`track`], [`pgoutput`],
//! [`event`], [`fault`] (the pure parts); `client`, `setup`, `reader`, `watch`, [`service`], [`state`].

mod array;
mod client;
pub mod database;
pub mod event;
pub mod fault;
pub mod judge;
pub mod kept;
pub mod lsn;
pub mod options;
pub mod pgoutput;
mod reader;
mod refused;
pub mod service;
mod setup;
pub mod state;
pub mod template;
pub mod track;
mod watch;

pub use database::Database;
pub use lsn::Lsn;
pub use options::Options;
pub use service::Outbox;
pub use template::Template;

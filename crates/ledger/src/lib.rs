//! The transactional store beneath everything asynchronous: logs, queues (groups) and maps under one
//! transaction, durable before it answers.
//!
//! Three primitives, one commit. A *log* is a sequence of records at positions; a *group* is a durable
//! state of consumption over one log (a queue is a log of its own with the group that owns it, a
//! subscription a group over a log that many share); a *map* is ordered keys with versions. A *timer* is
//! an entry of a map that is handed out when its time has come. A [`Transaction`] is any number of
//! operations over any of them, all or nothing. A *namespace* is a component's own share of names and of
//! what is due.
//!
//! Invariants:
//! - What was acknowledged at [`Durability::Fsync`] survives the loss of power; what was not is after a
//!   restart either whole or absent.
//! - Readers and leases see only what is durable at the level at which it was submitted.
//! - A failed write poisons the ledger: it refuses every further submit and goes on reading.
//! - Memory is per exception (leased, waiting, done out of order), never per settled message or entry of a
//!   map, and every buffer has a bound.
//! - What is due in a namespace is told there alone, and waits for nobody else.
//! - A timer is handed out again until a transaction has ended or moved it.
//! - Time is an argument: leases and relative delays count on the monotonic clock, what survives a
//!   restart on the wall clock.
//!
//! Two traits: a [`Store`] may stand across a network, so that everything that may need I/O is an
//! [`StoreAnswer`]; an [`EmbeddedStore`] is this process's own, and answers what is asked per message at once.
//!
//! Deliberately absent: replication (that is the Postgres store behind the same [`Store`]), a task that
//! does what is due (who has a namespace asks [`Store::next_due`], and calls [`Store::overdue`] and
//! [`Store::take_timers`]), and any idea of what a record means.
//!
//! Reading order: [`record`], [`transaction`], [`options`] (the words), [`store`] (what can be asked),
//! `ledger` (the embedded store), `core` (the pure state behind it; of maps `core::map` and
//! `core::entries`), then `format`, `wal`, `segment`, `checkpoint`, `recover`, `manifest`, `flush` and
//! `service` (how it reaches the disk).

pub mod admin;
mod checkpoint;
#[cfg(feature = "conformance")]
pub mod conformance;
mod core;
pub mod crypt;
pub mod disk;
mod flush;
mod format;
mod ledger;
mod manifest;
pub mod options;
pub mod record;
mod recover;
mod segment;
mod service;
pub mod store;
pub mod transaction;
mod wal;

pub use ledger::Ledger;
pub use options::{
    DedupeWindow, Durability, GroupOptions, GroupStart, Limit, LogOptions, LogRetention,
    MapOptions, NAME_BYTES_MAX, Options, Storage, WAL_FILE_SIZES,
};
pub use record::{
    ConsumerId, GroupId, LeasedRecord, Limits, LogId, MapId, ReadItem, Record, Timer, Token, Value,
    Why,
};
pub use recover::Recovered;
pub use store::{
    EmbeddedStore, Exception, GroupConsumer, GroupStats, Joined, LeaseLimits, Leased, LogStats,
    Pending, Standing, Stats, Store, StoreAnswer, WaitReady, due_changed, has_ended, room,
    until_durable, until_seen, wait_ready,
};
pub use transaction::{
    Appended, Due, Expect, ExpectValue, NewRecord, Op, Receipt, Refused, Seen, Settle, Transaction,
};

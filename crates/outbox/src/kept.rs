//! What the ledger keeps of an outbox: whose log it reads, and up to where that was published.
//!
//! It is put in the transaction that publishes, so that what is published and that it is known are one. A position
//! alone would not tell the log of this database from that of a backup, or of another server: so the last whole
//! transaction is kept with its number and time ([`Mark`]), and is asked for again whenever reading begins.

use serde::{Deserialize, Serialize};

use crate::lsn::Lsn;

/// A transaction that was published whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Where the record of its commit begins.
    pub commit: Lsn,
    /// Where that record ends.
    pub end: Lsn,
    /// Its number.
    pub xid: u32,
    /// When it was committed: microseconds since 2000.
    pub at: i64,
}

/// How much of a transaction was published of which more follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Where the record of its commit begins.
    pub commit: Lsn,
    /// Its number.
    pub xid: u32,
    /// Where the last change that was published stands.
    pub change: Lsn,
    /// Which of those that stand there it was, counted from 1: rows of one COPY share a place.
    pub nth: u32,
}

/// What is kept of an outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Number of the server's cluster, which a restored copy has too and another server has not.
    pub system: String,
    /// Its timeline, which is another one after a restore to a point in time and after a failover.
    pub timeline: u32,
    /// Name of the database.
    pub database: String,
    /// Name of the slot.
    pub slot: String,
    /// Whether the slot was not known to be there when this was put: it is about to be made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub making: bool,
    /// From where on everything is published.
    pub start: Lsn,
    /// The last transaction that was published whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Mark>,
    /// What was published of the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// Up to where the server was told that everything was published, although nothing was there to be: what a
    /// server that shuts down waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Lsn>,
}

impl Kept {
    /// From where on the log is asked for, and behind which the slot must not be.
    pub fn base(&self) -> Lsn {
        self.done.map_or(self.start, |done| done.commit)
    }

    /// Behind this the server has nothing that was published.
    pub fn end(&self) -> Lsn {
        let end = self.done.map_or(self.start, |done| done.end);
        end.max(self.told.unwrap_or_default())
    }
}

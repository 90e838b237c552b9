//! What can be changed, in one commit: operations, transactions and their receipts.

use std::{fmt, time::Duration};

use bytes::Bytes;
use smallvec::SmallVec;
use weft_kernel::Error;

use crate::{
    options::Durability,
    record::{GroupId, LogId, MapId, Timer, Token},
};

/// The longest key of a record, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// The longest note of a retry, in bytes.
pub const NOTE_BYTES_MAX: usize = 4096;
/// The longest key of a map entry, in bytes.
pub const MAP_KEY_BYTES_MAX: usize = 1024;
/// The largest value of a map entry, in bytes.
pub const MAP_VALUE_BYTES_MAX: usize = 1 << 20;

/// A record to be appended.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NewRecord {
    /// At most [`KEY_BYTES_MAX`] bytes; empty for none.
    pub key: Bytes,
    /// The payload; with the key at most `record_bytes_max` bytes.
    pub data: Bytes,
    /// Not handed out before: wall-clock milliseconds, 0 for at once.
    pub due_ms: u64,
    /// Not handed out as ready from then on: wall-clock milliseconds, 0 for never.
    pub expires_ms: u64,
    /// The higher the sooner in a prioritized group.
    pub priority: u8,
    /// Who it is, for a log with a dedupe window.
    pub dedupe: Option<u128>,
}

impl NewRecord {
    /// A record with a payload and nothing else.
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }

    /// The same with a key.
    #[must_use]
    pub fn keyed(self, key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), ..self }
    }
}

/// Which position an append must get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Expect {
    /// Whichever is next.
    #[default]
    Any,
    /// Exactly this one, or the transaction fails with `position_conflict`.
    Next(u64),
}

/// What an entry of a map must be, or the transaction fails with `version_conflict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ExpectValue {
    /// Whatever it is.
    #[default]
    Any,
    /// Not there.
    Absent,
    /// There.
    Present,
    /// There, with this version.
    Version(u64),
}

/// When a delivery that was given back may be handed out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now,
    /// After this span, whatever the wall clock does meanwhile.
    After(Duration),
    /// At these wall-clock milliseconds.
    At(u64),
}

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settle {
    /// It is dealt with.
    Done,
    /// It is to be handed out again, at its old place among what is ready.
    Retry {
        /// When.
        due: Due,
        /// Whether this counts as a failure.
        failed: bool,
        /// At most [`NOTE_BYTES_MAX`] bytes; replaces the note that it had.
        note: Bytes,
    },
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Adds a record at the end of a log.
    Append {
        /// The log.
        log: LogId,
        /// Which position it must get.
        expect: Expect,
        /// The record.
        record: NewRecord,
    },
    /// Removes every record below a position, also from the group that owns the log, whose leases of
    /// them become void. Of no effect where nothing is.
    Trim {
        /// The log.
        log: LogId,
        /// The first position to stay.
        before: u64,
    },
    /// Removes one record, also from the group that owns the log, whose lease of it becomes void.
    Remove {
        /// The log.
        log: LogId,
        /// The position.
        position: u64,
        /// Whether the record must be there, or the transaction fails with `no_message`; else the
        /// operation is of no effect where nothing is. What an operation before it settles, or may have
        /// purged, counts as gone.
        required: bool,
    },
    /// Ends a delivery; `lease_lost` unless the token is that of the record's running lease.
    Settle {
        /// The group.
        group: GroupId,
        /// The delivery's position.
        position: u64,
        /// The delivery's token.
        token: Token,
        /// What becomes of it.
        how: Settle,
    },
    /// Settles one record of a group as done without a lease of it; `no_message` if it is settled or was
    /// never there. In a group that owns its log the record is removed.
    Discard {
        /// The group.
        group: GroupId,
        /// The position.
        position: u64,
        /// Whether it may be held by somebody, whose lease becomes void then; else `version_conflict`.
        held: bool,
    },
    /// Moves a group to a position: it is the next that is handed out. Retries, notes and leases of the
    /// group are forgotten. In a group that owns its log what lies before is removed.
    Seek {
        /// The group.
        group: GroupId,
        /// The next position to be handed out; beyond the end counts as the end.
        to: u64,
    },
    /// Settles as done what a group has and has not leased to anybody, whether ready or waiting.
    Purge {
        /// The group.
        group: GroupId,
    },
    /// Sets an entry of a map.
    Put {
        /// The map.
        map: MapId,
        /// 1 to [`MAP_KEY_BYTES_MAX`] bytes.
        key: Bytes,
        /// At most [`MAP_VALUE_BYTES_MAX`] bytes.
        value: Bytes,
        /// When it is gone, or due in a map of timers: wall-clock milliseconds, 0 for never.
        expires_ms: u64,
        /// What must be there now.
        expect: ExpectValue,
    },
    /// Removes an entry of a map.
    Delete {
        /// The map.
        map: MapId,
        /// The key.
        key: Bytes,
        /// What must be there now.
        expect: ExpectValue,
    },
}

/// Operations that happen together or not at all.
///
/// They are checked in order, each against what the ones before it and every transaction submitted
/// earlier leave behind. If one fails, nothing is applied, and [`Refused::op`] says which.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Transaction {
    /// In order.
    pub ops: SmallVec<[Op; 1]>,
    /// When it counts as done.
    pub durability: Durability,
}

impl Transaction {
    /// A transaction without operations, durable at `durability`.
    pub fn new(durability: Durability) -> Self {
        Self { ops: SmallVec::new(), durability }
    }

    /// The same with one more operation.
    #[must_use]
    pub fn with(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// The same with a record appended to a log.
    #[must_use]
    pub fn append(self, log: LogId, record: NewRecord) -> Self {
        self.with(Op::Append { log, expect: Expect::Any, record })
    }

    /// The same with a delivery settled.
    #[must_use]
    pub fn settle(self, group: GroupId, position: u64, token: Token, how: Settle) -> Self {
        self.with(Op::Settle { group, position, token, how })
    }

    /// The same with a map entry set.
    #[must_use]
    pub fn put(
        self,
        map: MapId,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        expect: ExpectValue,
    ) -> Self {
        self.with(Op::Put { map, key: key.into(), value: value.into(), expires_ms: 0, expect })
    }

    /// The same with a map entry removed.
    #[must_use]
    pub fn delete(self, map: MapId, key: impl Into<Bytes>, expect: ExpectValue) -> Self {
        self.with(Op::Delete { map, key: key.into(), expect })
    }
}

impl Transaction {
    /// The same with a timer set, or set anew, in a map of timers: due at wall-clock milliseconds.
    #[must_use]
    pub fn set_timer(
        self,
        map: MapId,
        key: impl Into<Bytes>,
        due_ms: u64,
        data: impl Into<Bytes>,
    ) -> Self {
        let (key, value) = (key.into(), data.into());
        self.with(Op::Put { map, key, value, expires_ms: due_ms, expect: ExpectValue::Any })
    }

    /// The same with a timer ended that was taken; refused with `version_conflict` if it was cancelled or
    /// set anew meanwhile.
    #[must_use]
    pub fn end_timer(self, timer: &Timer) -> Self {
        self.delete(timer.map, timer.key.clone(), ExpectValue::Version(timer.version))
    }
}

/// What became of one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its position; for a duplicate that of the first one.
    pub position: u64,
    /// Whether its id was in the log's window already, so that nothing was appended.
    pub duplicate: bool,
}

/// What a submitted transaction is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its number: the order in which transactions take effect.
    pub seq: u64,
    /// The level at which it counts as done.
    pub durability: Durability,
    /// When readers and consumers see what it appends.
    pub seen: Seen,
    /// One per [`Op::Append`], in order.
    pub appended: SmallVec<[Appended; 1]>,
    /// How many records [`Op::Purge`] settled, over all of them.
    pub purged: u64,
}

/// When records that were appended are seen: once they are written, and what stands before them in their
/// logs and is to be synced is on disk. That may be later than the level at which they count as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Seen {
    /// The number of the transaction up to which all must be written; 0 for none.
    pub written: u64,
    /// The number of the transaction up to which all must be on disk; 0 for none.
    pub synced: u64,
}

impl Seen {
    /// When what is seen by either is seen.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { written: self.written.max(other.written), synced: self.synced.max(other.synced) }
    }
}

/// Why a transaction was not taken; nothing of it was applied.
#[derive(Debug)]
pub struct Refused {
    /// The index of the operation that failed; `None` if it was not one of them.
    pub op: Option<usize>,
    /// What is wrong.
    pub error: Error,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { op: None, error }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused.op {
            Some(op) => refused.error.at(format!("operation {op}")),
            None => refused.error,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.op {
            Some(op) => write!(f, "operation {op}: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

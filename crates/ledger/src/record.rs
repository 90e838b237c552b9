//! What is stored and handed out: ids, records, deliveries and the values of maps.

use std::fmt;

use bytes::Bytes;

macro_rules! ids {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal;)+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name(pub u32);

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, concat!($word, " {}"), self.0)
                }
            }
        )+
    };
}

ids! {
    /// A log's number, for the life of the log; never given to another.
    LogId = "log";
    /// A group's number, for the life of the group; never given to another.
    GroupId = "group";
    /// A map's number, for the life of the map; never given to another.
    MapId = "map";
}

/// Who asks for deliveries; chosen by the caller, distinct within a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub u64);

impl ConsumerId {
    /// The store's owner: it never joins, and leases past pause and single-active.
    pub const SYSTEM: Self = Self(0);
}

/// One record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The log it belongs to.
    pub log: LogId,
    /// Its position in the log.
    pub position: u64,
    /// When it was appended: wall-clock milliseconds.
    pub time_ms: u64,
    /// Its key, up to [`KEY_BYTES_MAX`](crate::transaction::KEY_BYTES_MAX) bytes; empty for none.
    pub key: Bytes,
    /// Its payload.
    pub data: Bytes,
    /// Not to be handed out before: wall-clock milliseconds, 0 for at once.
    pub due_ms: u64,
    /// Not to be handed out from then on: wall-clock milliseconds, 0 for never.
    pub expires_ms: u64,
    /// 0 to 255, the higher the sooner in a prioritized group.
    pub priority: u8,
    /// Its place in the gapless order over all ordered logs; `None` in a log that is not ordered.
    pub global: Option<u64>,
}

/// What a read found at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadItem {
    /// The record.
    Record(Record),
    /// The record's bytes do not fit their checksum, or cannot be read.
    Lost {
        /// The log.
        log: LogId,
        /// The position.
        position: u64,
        /// What was found instead.
        why: String,
    },
}

impl ReadItem {
    /// Where it is in its log.
    pub const fn position(&self) -> u64 {
        match self {
            Self::Record(record) => record.position,
            Self::Lost { position, .. } => *position,
        }
    }
}

/// What was found of something wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// What is there, ascending.
    pub(crate) items: Vec<ReadItem>,
    /// Below this position nothing else is there; nothing is known of what lies at it and behind.
    pub(crate) to: u64,
}

/// How much one call may hand back; whichever is reached first, but always at least one item if there
/// is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Items.
    pub records: u32,
    /// Bytes of keys and payloads.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { records: 256, bytes: 1 << 20 }
    }
}

/// What tells one hand-out of a record from every other one: the fencing token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// One per opening of the store: a token of an earlier life never fits.
    pub epoch: u32,
    /// One per hand-out within that life.
    pub lease: u64,
}

/// Why something was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was its turn.
    Ready,
    /// The lease of its last hand-out ran out.
    LeaseExpired,
    /// Its `expires_ms` has passed.
    Expired,
}

/// One record, handed out once, to be settled before its lease runs out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedRecord {
    /// The group that handed it out.
    pub group: GroupId,
    /// Its position in the group's log.
    pub position: u64,
    /// What settles it.
    pub token: Token,
    /// How often it was handed out, this time included: since the store was opened, and before that as
    /// far as a stored retry told.
    pub handouts: u32,
    /// How often it was settled as failed.
    pub failures: u32,
    /// The note of its last retry; empty if none.
    pub note: Bytes,
    /// The record.
    pub record: Record,
    /// Why it was handed out.
    pub why: Why,
    /// To whom; for [`Why::LeaseExpired`] who had it and let it run out.
    pub consumer: ConsumerId,
}

/// An entry of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// What was put.
    pub data: Bytes,
    /// The sequence number of the transaction that put it.
    pub version: u64,
    /// When it is gone: wall-clock milliseconds, 0 for never.
    pub expires_ms: u64,
}

/// A timer whose time has come. It is over once a transaction ends it
/// ([`Transaction::end_timer`](crate::Transaction::end_timer)), or sets it anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The map that it is in.
    pub map: MapId,
    /// Its key.
    pub key: Bytes,
    /// When it was due: wall-clock milliseconds.
    pub due_ms: u64,
    /// The sequence number of the transaction that set it.
    pub version: u64,
    /// What it carries.
    pub data: Bytes,
}

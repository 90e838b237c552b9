//! What a store, a log and a group can be told, with the defaults.

use std::{ops::RangeInclusive, time::Duration};

use weft_kernel::ByteSize;

use crate::{crypt::Keys, record::LogId};

/// When an operation counts as done, and may be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Durability {
    /// Once it is in the memory of the process: gone if the process ends.
    Memory,
    /// Once it is with the operating system: gone if the machine stops.
    Os,
    /// Once the disk has confirmed it.
    #[default]
    Fsync,
}

impl Durability {
    /// Every level, from the weakest.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Os, Self::Fsync];

    /// The stable word, the same in configuration, API and acknowledgements.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::Fsync => "fsync",
        }
    }

    /// The level of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.word() == word)
    }
}

/// The sizes that one write-ahead file can have: room for a header and a few frames, up to places of 32 bits.
pub const WAL_FILE_SIZES: RangeInclusive<ByteSize> = ByteSize(16 << 10)..=ByteSize(1 << 30);

/// What the embedded store may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The largest key and payload of one record together (1 MiB).
    pub record_bytes_max: ByteSize,
    /// The most operations in one transaction (10,000).
    pub operations_max: usize,
    /// The most bytes of one transaction as written (8 MiB).
    pub transaction_bytes_max: ByteSize,
    /// The most bytes that may wait to be written; more is refused as `storage_busy` (16 MiB).
    pub pending_bytes_max: ByteSize,
    /// How much of what was written last is kept in memory for readers (16 MiB).
    pub recent_bytes: ByteSize,
    /// The size of one write-ahead file, of [`WAL_FILE_SIZES`] (64 MiB).
    pub wal_file_bytes: ByteSize,
    /// How many full write-ahead files are kept before the oldest is written into a segment (2).
    pub wal_files_kept: usize,
    /// How much of what has changed in maps is kept in memory before a checkpoint is stored; three times
    /// as much is refused as `storage_busy` (8 MiB).
    pub map_changes_bytes: ByteSize,
    /// How much of what was read of maps is kept in memory (8 MiB).
    pub map_cache_bytes: ByteSize,
    /// How long a thread may be at one piece of work, a write or a sync, before the ledger counts as
    /// stalled, and how long its end is waited for (10 s).
    pub stall: Duration,
    /// Whether to open a ledger of which files are missing, or whose checkpoint is damaged, without what
    /// they held; refused otherwise.
    pub accept_loss: bool,
    /// The keys that files are encrypted with; none by default, and files are plain.
    pub keys: Keys,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            record_bytes_max: ByteSize(1 << 20),
            operations_max: 10_000,
            transaction_bytes_max: ByteSize(8 << 20),
            pending_bytes_max: ByteSize(16 << 20),
            recent_bytes: ByteSize(16 << 20),
            wal_file_bytes: ByteSize(64 << 20),
            wal_files_kept: 2,
            map_changes_bytes: ByteSize(8 << 20),
            map_cache_bytes: ByteSize(8 << 20),
            stall: Duration::from_secs(10),
            accept_loss: false,
            keys: Keys::default(),
        }
    }
}

/// Where the records of a log live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Storage {
    /// On disk, and there after a restart.
    #[default]
    Disk,
    /// In memory: never written, gone with the process, the log and its groups as well.
    Memory,
}

/// How long records stay in a log that no group owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogRetention {
    /// Records older than this go.
    pub age: Option<Duration>,
    /// The oldest records go while the log has more bytes than this.
    pub bytes: Option<u64>,
    /// Nothing goes that a group of the log has not settled, whatever `age` and `bytes` say.
    pub keep_unread: bool,
    /// The hard bound: the oldest records go while the log has more bytes than this, unread or not.
    pub bytes_max: Option<u64>,
}

/// How long the ids of appended records are remembered, so that a second append of one is known.
///
/// Both bounds hold at once: an id is remembered for at least `time` unless more than `ids_max` came
/// after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupeWindow {
    /// At least so long.
    pub time: Duration,
    /// At most about so many (24 to 40 bytes of memory each).
    pub ids_max: u32,
}

/// How much a log may hold; an append beyond it is refused as `queue_full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Limit {
    /// Records.
    pub records: Option<u64>,
    /// Bytes as stored: key, payload and 20 to 40 more each.
    pub bytes: Option<u64>,
}

/// What a log is told when it is created.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Where its records live; cannot be altered.
    pub storage: Storage,
    /// How long they stay.
    pub retention: LogRetention,
    /// Keeps only the last record of each key, once the older ones are no longer recent.
    pub compact: bool,
    /// Takes part in the gapless order over all ordered logs; cannot be altered.
    pub ordered: bool,
    /// Remembers the ids of appended records.
    pub dedupe: Option<DedupeWindow>,
    /// How much it may hold.
    pub limit: Option<Limit>,
}

/// Where a new group starts in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GroupStart {
    /// With the oldest record.
    #[default]
    First,
    /// With the newest record that is there.
    Last,
    /// With the next one appended.
    Next,
    /// With this position.
    Position(u64),
    /// With the first record appended at or after these wall-clock milliseconds.
    Time(u64),
}

/// What a group is told when it is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// The log it consumes; cannot be altered.
    pub log: LogId,
    /// Whether settled records leave the log: then it is a queue. One owner at most, and no other group
    /// beside it; cannot be altered.
    pub owner: bool,
    /// Where it starts; of no effect later.
    pub start: GroupStart,
    /// How long a delivery may take unless the consumer asks otherwise (30 s).
    pub lease: Duration,
    /// Order per key: while a record of a key is leased or waits for its retry, later ones of that key
    /// wait. Records without a key are free. Cannot be altered.
    pub keyed: bool,
    /// Higher priority first; after every [`AGEING`] hand-outs from higher
    /// levels one goes to the oldest record of the lower ones, so that none starves. Cannot be altered.
    pub prioritized: bool,
    /// One consumer is active at a time: the one of the highest priority, among equals the first.
    pub single: bool,
}

impl GroupOptions {
    /// The options of a group over `log` from its first record, with nothing else asked for.
    pub fn over(log: LogId) -> Self {
        Self {
            log,
            owner: false,
            start: GroupStart::First,
            lease: Duration::from_secs(30),
            keyed: false,
            prioritized: false,
            single: false,
        }
    }

    /// The options of the group that owns `log`: a queue.
    pub fn owning(log: LogId) -> Self {
        Self { owner: true, ..Self::over(log) }
    }
}

/// The longest name of a log, group or map, in bytes.
pub const NAME_BYTES_MAX: usize = 512;

/// After so many hand-outs from higher levels a prioritized group hands out one of a lower level.
pub const AGEING: u32 = 16;
/// The most records of blocked keys that a keyed group sets aside before it stops looking ahead.
pub const SET_ASIDE_MAX: usize = 10_000;

/// How a map is kept, and what the time of its entries means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct MapOptions {
    /// Whether its entries are timers: handed out by [`Store::take_timers`](crate::Store::take_timers)
    /// when their time has come, and there until they are deleted; else they are gone then.
    pub timers: bool,
}

impl MapOptions {
    /// A map of timers.
    pub const TIMERS: Self = Self { timers: true };
}

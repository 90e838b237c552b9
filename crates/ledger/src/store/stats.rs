//! What a store, a log and a group hold and have done.

/// What a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogStats {
    /// The position of its oldest record, or its end if it has none.
    pub first: u64,
    /// The position after its newest visible record.
    pub end: u64,
    /// Records between the two.
    pub records: u64,
    /// Their bytes as stored: key, payload and 20 to 40 more each.
    pub bytes: u64,
    /// The bytes of those behind `end`, which cannot be read yet.
    pub unseen_bytes: u64,
    /// When its oldest record was appended, in wall-clock milliseconds; 0 without one.
    pub oldest_ms: u64,
    /// When its newest record was appended, in wall-clock milliseconds; 0 without one.
    pub last_ms: u64,
}

/// How a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GroupStats {
    /// Records that can be handed out now, those behind a blocked key included.
    pub ready: u64,
    /// Records that are handed out.
    pub leased: u64,
    /// Records that wait for their retry or their due time.
    pub waiting: u64,
    /// The bytes of those that are handed out: in a segment a guess for those that were never read.
    pub leased_bytes: u64,
    /// The bytes of those that wait, likewise.
    pub waiting_bytes: u64,
    /// Records above `low` that are settled.
    pub done_above: u64,
    /// Everything below is settled.
    pub low: u64,
    /// The next position that was never looked at.
    pub cursor: u64,
    /// When the oldest record that is not settled was appended, in wall-clock milliseconds; 0 if unknown
    /// or none.
    pub oldest_ms: u64,
    /// Hand-outs since the store was opened.
    pub handouts: u64,
    /// Records settled as done since the store was opened.
    pub done: u64,
    /// Failures counted since the store was opened.
    pub failures: u64,
    /// Leases that ran out since the store was opened.
    pub expired_leases: u64,
    /// Records that could not be read when they were to be handed out, since the store was opened.
    pub lost: u64,
    /// Consumers that have joined.
    pub consumers: u32,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether something is ready and a consumer waits that may have it: it is about to be handed out.
    pub awaited: bool,
}

/// What the store as a whole has done and holds, since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    /// The number of the newest transaction that is on disk.
    pub durable: u64,
    /// The number of the newest transaction submitted.
    pub submitted: u64,
    /// Transactions.
    pub transactions: u64,
    /// Transactions that were refused for one of their operations, or for their size.
    pub refused: u64,
    /// Records appended.
    pub appended: u64,
    /// Appends that were known already.
    pub duplicates: u64,
    /// Write groups.
    pub groups: u64,
    /// Syncs.
    pub syncs: u64,
    /// Time spent in syncs, in nanoseconds.
    pub sync_nanos: u64,
    /// Bytes written to the write-ahead log.
    pub written_bytes: u64,
    /// Bytes that wait to be written.
    pub pending_bytes: u64,
    /// Logs.
    pub logs: u64,
    /// Groups of consumption.
    pub consumption_groups: u64,
    /// Maps.
    pub maps: u64,
    /// About the bytes that memory takes for entries of maps: those that have changed since the last
    /// checkpoint, and those that were read.
    pub map_bytes: u64,
    /// Bytes of all records.
    pub record_bytes: u64,
    /// Bytes of the checkpoint's tables.
    pub index_bytes: u64,
    /// Whether appends are refused because the disk has no room.
    pub full: bool,
    /// Whether a file cannot be opened, read or made for now, and maintenance is suspended.
    pub unavailable: bool,
    /// Whether nothing is taken because a write has failed.
    pub poisoned: bool,
    /// Bytes of the files of the write-ahead log, those that are ready to be used included.
    pub wal_bytes: u64,
    /// Bytes of all segments.
    pub segment_bytes: u64,
    /// Damage that was found: records and files.
    pub damaged: u64,
}

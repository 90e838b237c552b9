//! What must be read from the disk, and how the storage is asked for it.

use crate::{
    format::Place,
    record::{Limits, LogId, ReadItem},
    store::Pending,
};

/// Records that are not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// One record of a write-ahead file.
    Place(LogId, u64, Place),
    /// Records `from..=to` of a log, in a segment.
    Segment { segment: u32, log: LogId, from: u64, to: u64, limits: Limits },
}

/// Who reads them, off the lock.
pub(crate) trait Cold: Send + Sync {
    /// Reads, in the order of what is wanted: one item for a place, any number for a segment.
    fn read(&self, wants: Vec<Want>) -> Pending<'static, Vec<ReadItem>>;
}

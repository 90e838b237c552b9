//! What must be read from the disk, and how the storage is asked for it.

use weft_kernel::Result;

use crate::{
    checkpoint::Checkpoint,
    format::Place,
    record::{Limits, LogId, Told},
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

impl Want {
    /// The log, and the first position.
    pub(crate) const fn first(&self) -> (LogId, u64) {
        match *self {
            Self::Place(log, position, _) => (log, position),
            Self::Segment { log, from, .. } => (log, from),
        }
    }

    /// The position behind the last.
    pub(crate) const fn end(&self) -> u64 {
        match *self {
            Self::Place(_, position, _) => position + 1,
            Self::Segment { to, .. } => to + 1,
        }
    }
}

/// Who reads what is wanted, off the lock.
pub(crate) trait Cold: Send + Sync {
    /// Reads, an answer for each that is wanted. An error says nothing about the records: the place
    /// may have been given up meanwhile.
    fn read(&self, wants: Vec<Want>) -> Pending<'static, Vec<Result<Told>>>;
    /// Has something read from the checkpoint, by a thread that reads, or at once where there is none.
    fn spawn(&self, read: ReadJob);
    /// The checkpoint, for who reads in the caller's thread.
    fn checkpoint(&self) -> &Checkpoint;
}

/// What is done with the checkpoint by who reads it.
pub(crate) type ReadJob = Box<dyn FnOnce(&Checkpoint) + Send>;

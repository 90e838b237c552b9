//! From submitted to durable: what waits to be written, and what becomes visible when it is.

use std::collections::VecDeque;

use weft_kernel::{Error, Reason, Result};

use super::{Core, Now, Wakes, log::Log};
use crate::{options::Durability, record::LogId, transaction::Seen, wal::FrameAt};

/// Frames that wait to be written into one file, back to back.
#[derive(Debug)]
pub(super) struct PendingBytes {
    pub(super) file: u32,
    pub(super) offset: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) last_seq: u64,
    pub(super) level: Durability,
}

impl PendingBytes {
    /// Room for about as much as the group before had.
    pub(super) fn new(at: FrameAt, bytes: usize) -> Self {
        Self {
            file: at.file,
            offset: at.offset,
            bytes: Vec::with_capacity(bytes.clamp(4 << 10, 1 << 20)),
            last_seq: 0,
            level: Durability::Memory,
        }
    }
}

/// What is written next with one write.
#[derive(Debug)]
pub(crate) struct WriteGroup {
    /// The number of the file.
    pub(crate) file: u32,
    /// Where in it.
    pub(crate) offset: u32,
    /// Whole frames, without their checksums.
    pub(crate) bytes: Vec<u8>,
    /// The number of the last transaction in it.
    pub(crate) last_seq: u64,
    /// The strongest level that any of them asks for.
    pub(crate) level: Durability,
}

/// Ends of logs that become visible once a transaction is written or synced, in order.
#[derive(Debug, Default)]
pub(super) struct Visible {
    written: VecDeque<(u64, LogId, u64)>,
    synced: VecDeque<Synced>,
}

/// The end of a log that becomes visible once a transaction is synced, and the one that appended is
/// written.
#[derive(Debug)]
struct Synced {
    at: u64,
    seq: u64,
    log: LogId,
    end: u64,
}

impl Visible {
    /// A record was appended to a log: notes and answers when it may be seen. What was acknowledged at a
    /// weaker level is not seen before what stands before it in the log.
    pub(super) fn appended(
        &mut self,
        log: &mut Log,
        seq: u64,
        level: Durability,
        durable: u64,
    ) -> Seen {
        if level == Durability::Fsync {
            log.unsynced = seq;
        }
        if log.unsynced <= durable {
            match self.written.back_mut() {
                Some((last, id, end)) if *last == seq && *id == log.id => *end = log.next,
                _ => self.written.push_back((seq, log.id, log.next)),
            }
            return Seen { written: seq, synced: 0 };
        }
        // In order, so that the front is what is seen first.
        let at = log.unsynced.max(self.synced.back().map_or(0, |back| back.at));
        match self.synced.back_mut() {
            Some(back) if back.at == at && back.seq == seq && back.log == log.id => {
                back.end = log.next;
            }
            _ => self.synced.push_back(Synced { at, seq, log: log.id, end: log.next }),
        }
        Seen { written: seq, synced: at }
    }

    /// The ends that a sync up to `seq` lets be seen; what is not written yet has its turn when it is.
    fn synced(&mut self, seq: u64, written: u64) -> Option<(LogId, u64)> {
        while self.synced.front().is_some_and(|front| front.at <= seq) {
            let front = self.synced.pop_front()?;
            if front.seq <= written {
                return Some((front.log, front.end));
            }
            let place = self.written.partition_point(|(at, _, _)| *at <= front.seq);
            self.written.insert(place, (front.seq, front.log, front.end));
        }
        None
    }
}

impl Core {
    /// Whether anything waits to be written.
    pub(crate) fn has_pending(&self) -> bool {
        self.pending.front().is_some_and(|front| !front.bytes.is_empty())
    }

    /// Takes what is written next, all that waits for one file, and those who waited for room.
    pub(crate) fn take_group(&mut self) -> Option<(WriteGroup, Wakes)> {
        while self.pending.len() > 1 && self.pending.front().is_some_and(|at| at.bytes.is_empty()) {
            self.pending.pop_front();
        }
        let front = self.pending.pop_front().filter(|front| !front.bytes.is_empty())?;
        self.pending_bytes = self.pending_bytes.saturating_sub(front.bytes.len());
        self.busy = false;
        self.group_bytes = front.bytes.len();
        self.stats.groups += 1;
        self.stats.written_bytes += front.bytes.len() as u64;
        let group = WriteGroup {
            file: front.file,
            offset: front.offset,
            bytes: front.bytes,
            last_seq: front.last_seq,
            level: front.level,
        };
        Some((group, Wakes(std::mem::take(&mut self.room))))
    }

    /// Takes note of a task that waits for room; `false` if there is some.
    pub(crate) fn wait_room(&mut self, waker: &std::task::Waker) -> bool {
        let room = !self.busy
            && self.pending_bytes <= self.options.pending_bytes_max.as_usize()
            && !self.maps_full();
        if room || self.ended.is_some() {
            return false;
        }
        if !self.room.iter().any(|other| other.will_wake(waker)) {
            self.room.push(waker.clone());
        }
        true
    }

    /// Files became ready: those who waited for room.
    pub(crate) fn made_room(&mut self) -> Wakes {
        self.busy = false;
        Wakes(std::mem::take(&mut self.room))
    }

    /// Everything up to `seq` is with the operating system.
    pub(crate) fn written(&mut self, seq: u64, now: Now) -> Wakes {
        self.written = self.written.max(seq);
        let mut wakes = Wakes::default();
        while let Some(&(at, id, end)) = self.visible.written.front()
            && at <= seq
        {
            self.visible.written.pop_front();
            self.show(id, end, now, &mut wakes);
        }
        wakes
    }

    /// Everything up to `seq` is on disk.
    pub(crate) fn durable(&mut self, seq: u64, nanos: u64, now: Now) -> Wakes {
        let mut wakes = self.written(seq, now);
        self.stats.syncs += 1;
        self.stats.sync_nanos += nanos;
        self.durable = self.durable.max(seq);
        while let Some((id, end)) = self.visible.synced(seq, self.written) {
            self.show(id, end, now, &mut wakes);
        }
        wakes
    }

    fn show(&mut self, id: LogId, end: u64, now: Now, wakes: &mut Wakes) {
        let Some(log) = self.logs.get_mut(&id.0) else { return };
        if end <= log.visible {
            return;
        }
        let from = log.visible;
        log.show(end);
        let instant = log.instant > from;
        for index in 0..log.groups.len() {
            let Some(group) = self.logs.get(&id.0).and_then(|log| log.groups.get(index)) else {
                return;
            };
            if instant && let Some(queue) = self.queues.get_mut(&group.0) {
                queue.group.offer(from, end, now);
            }
            self.rouse(group.0, now, wakes);
        }
    }

    /// Nothing more is taken, and nothing that waits will ever be durable. The first end counts.
    pub(crate) fn end(&mut self, why: Ended) -> Wakes {
        self.ended.get_or_insert(why);
        Wakes(std::mem::take(&mut self.room))
    }

    /// Nothing more is submitted; what was is still written.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn refuse_if_ended(&self) -> Result<()> {
        match &self.ended {
            None if self.closed => Err(Ended::Closed.error()),
            None => Ok(()),
            Some(why) => Err(why.error()),
        }
    }
}

/// Why a ledger takes nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was closed: somebody else may have it, with all that was kept.
    Closed,
    /// A write has failed; how.
    Failed(String),
}

impl Ended {
    /// What whoever asks is told.
    pub(crate) fn error(&self) -> Error {
        match self {
            Self::Closed => Error::new(Reason::Draining, "the ledger was closed"),
            Self::Failed(how) => {
                let text = "a write to the disk has failed, and nothing more is taken";
                Error::new(Reason::StoragePoisoned, text).note(how)
            }
        }
    }
}

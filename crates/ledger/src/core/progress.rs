//! From submitted to durable: what waits to be written, and what becomes visible when it is.

use std::collections::VecDeque;

use weft_kernel::{Error, Reason, Result};

use super::{Core, Now, Wakes, log::Log};
use crate::{options::Durability, record::LogId, wal::FrameAt};

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
    synced: VecDeque<(u64, LogId, u64)>,
}

impl Visible {
    /// A record was appended to a log: notes when it may be seen. What was acknowledged at a weaker
    /// level is not seen before what stands before it in the log.
    pub(super) fn appended(&mut self, log: &mut Log, seq: u64, level: Durability, durable: u64) {
        let sync = level == Durability::Fsync || log.unsynced > durable;
        let queue = if sync { &mut self.synced } else { &mut self.written };
        if sync {
            log.unsynced = seq;
        }
        match queue.back_mut() {
            Some((last, id, end)) if *last == seq && *id == log.id => *end = log.next,
            _ => queue.push_back((seq, log.id, log.next)),
        }
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
        let room = !self.busy && self.pending_bytes <= self.options.pending_bytes_max.as_usize();
        if room || self.poisoned.is_some() {
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
        while let Some(&(at, id, end)) = self.visible.synced.front()
            && at <= seq
        {
            self.visible.synced.pop_front();
            self.show(id, end, now, &mut wakes);
        }
        wakes
    }

    fn show(&mut self, id: LogId, end: u64, now: Now, wakes: &mut Wakes) {
        let Some(log) = self.logs.get_mut(&id.0) else { return };
        if end <= log.visible {
            return;
        }
        log.visible = end;
        for index in 0..log.groups.len() {
            let Some(group) = self.logs.get(&id.0).and_then(|log| log.groups.get(index)) else {
                return;
            };
            self.rouse(group.0, now, wakes);
        }
    }

    /// A write has failed: nothing more is taken, and nothing that waits will ever be durable.
    pub(crate) fn poison(&mut self, why: impl Into<String>) -> Wakes {
        if self.poisoned.is_none() {
            self.poisoned = Some(why.into());
        }
        Wakes(std::mem::take(&mut self.room))
    }

    /// Nothing more is submitted; what was is still written.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn refuse_if_poisoned(&self) -> Result<()> {
        match &self.poisoned {
            None if self.closed => Err(poisoned("the ledger was closed")),
            None => Ok(()),
            Some(why) => Err(poisoned(why)),
        }
    }
}

/// The error of a ledger that takes nothing more.
pub(crate) fn poisoned(why: &str) -> Error {
    Error::new(Reason::StoragePoisoned, "a write to the disk has failed, and nothing more is taken")
        .note(why)
}

//! When the records of a queue expire.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{Core, Now, Wakes};
use crate::{format::Image, record::LogId};

/// Times and positions, the earliest first. Settled positions stay until their time or the next sweep.
#[derive(Debug, Default)]
pub(crate) struct Expiring {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
}

impl Expiring {
    /// Enters a record; sweeps when more than half cannot be live.
    pub(crate) fn insert(
        &mut self,
        expires_ms: u64,
        position: u64,
        records: u64,
        live: impl Fn(u64) -> bool,
    ) {
        if self.heap.len() as u64 > 2 * records + 1024 {
            self.heap.retain(|Reverse((_, position))| live(*position));
        }
        self.heap.push(Reverse((expires_ms, position)));
    }

    /// Enters a record again that was taken out.
    pub(crate) fn again(&mut self, at_ms: u64, position: u64) {
        self.heap.push(Reverse((at_ms, position)));
    }

    /// The earliest time.
    pub(crate) fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes out a position whose time has come.
    pub(crate) fn pop(&mut self, wall_ms: u64) -> Option<u64> {
        if self.next()? > wall_ms {
            return None;
        }
        self.heap.pop().map(|Reverse((_, position))| position)
    }
}

impl Core {
    /// Enters when a record is due and expires.
    pub(super) fn note_expiry(&mut self, image: &Image<'_>) {
        if image.expires_ms == 0 && image.due_ms == 0 {
            return;
        }
        let Some(log) = self.logs.get_mut(&image.log) else { return };
        let Some(queue) = log.owner.and_then(|owner| self.queues.get_mut(&owner.0)) else { return };
        if image.due_ms != 0 {
            let size = u32::try_from(image.len).unwrap_or(u32::MAX);
            queue.group.delay(image.position, image.due_ms, image.priority, size);
        }
        if image.expires_ms != 0 {
            let group = &queue.group;
            let expiring = log.expiring.get_or_insert_with(Box::<Expiring>::default);
            expiring.insert(image.expires_ms, image.position, log.records, |at| !group.settled(at));
        }
    }

    /// Records of a queue in a segment of which it is not known when they expire, since the ledger was
    /// opened: the log, the segment, and the first and last position.
    pub(crate) fn next_unseen(&mut self) -> Option<(LogId, u32, u64, u64)> {
        while let Some((id, first, last)) = self.unseen.pop() {
            let Some(log) = self.logs.get(&id.0) else { continue };
            let first = first.max(log.first);
            let index = log.extents.partition_point(|extent| extent.last < first);
            let Some(extent) = log.extents.get(index).filter(|extent| extent.first <= last) else {
                continue;
            };
            if extent.last < last {
                self.unseen.push((id, extent.last + 1, last));
            }
            return Some((id, extent.segment, first.max(extent.first), last.min(extent.last)));
        }
        None
    }

    /// When records expire, by position; or they could not be read, and have their turn again.
    pub(crate) fn seen(
        &mut self,
        id: LogId,
        range: (u64, u64),
        times: Option<Vec<(u64, u64)>>,
        now: Now,
    ) -> Wakes {
        let mut wakes = Wakes::default();
        let Some(times) = times else {
            self.unseen.push((id, range.0, range.1));
            return wakes;
        };
        let Some(log) = self.logs.get_mut(&id.0) else { return wakes };
        let Some(owner) = log.owner else { return wakes };
        let Some(queue) = self.queues.get(&owner.0) else { return wakes };
        let expiring = log.expiring.get_or_insert_with(Box::<Expiring>::default);
        for (position, expires_ms) in times {
            if !queue.group.settled(position) {
                expiring.insert(expires_ms, position, log.records, |at| !queue.group.settled(at));
            }
        }
        self.arm_group(owner.0, now, &mut wakes);
        wakes
    }
}

//! What waits for its time: retries after a delay, and records that are due later.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use weft_kernel::Tick;

use super::{Group, Now};
use crate::transaction::Due;

/// What is kept of a record's former hand-outs, or of one that is due later and was never handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retry {
    /// When it may be handed out again: wall-clock milliseconds, for a restart; 0 for at once.
    pub(crate) due_ms: u64,
    pub(crate) failures: u32,
    pub(crate) handouts: u32,
    pub(crate) note: Bytes,
    /// The bytes of the record; 0 if they are not known. Kept in memory only.
    pub(crate) size: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    Tick(Tick),
    Wall(u64),
}

/// The positions that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// When each is due, its level, and the bytes of its record; 0 if they are not known.
    at: BTreeMap<u64, (At, u8, u32)>,
    bytes: u64,
    ticks: BTreeSet<(Tick, u64)>,
    walls: BTreeSet<(u64, u64)>,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// The bytes of all records that wait, as far as known.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn insert_tick(&mut self, position: u64, due: Tick, level: u8, size: u32) {
        self.insert(position, (At::Tick(due), level, size));
        self.ticks.insert((due, position));
    }

    pub(super) fn insert_wall(&mut self, position: u64, due_ms: u64, level: u8, size: u32) {
        self.insert(position, (At::Wall(due_ms), level, size));
        self.walls.insert((due_ms, position));
    }

    fn insert(&mut self, position: u64, waits: (At, u8, u32)) {
        self.remove(position);
        self.bytes += u64::from(waits.2);
        self.at.insert(position, waits);
    }

    /// Looks up the bytes of the records of which they are not known.
    pub(super) fn measure(&mut self, size: impl Fn(u64) -> u64) {
        for (&position, (_, _, known)) in self.at.iter_mut().filter(|(_, waits)| waits.2 == 0) {
            *known = u32::try_from(size(position)).unwrap_or(u32::MAX);
            self.bytes += u64::from(*known);
        }
    }

    pub(super) fn remove(&mut self, position: u64) -> Option<u8> {
        let (at, level, size) = self.at.remove(&position)?;
        self.bytes -= u64::from(size);
        match at {
            At::Tick(due) => self.ticks.remove(&(due, position)),
            At::Wall(due_ms) => self.walls.remove(&(due_ms, position)),
        };
        Some(level)
    }

    pub(super) fn within(&self, first: u64, last: u64) -> Vec<u64> {
        self.at.range(first..=last).map(|(&position, _)| position).collect()
    }

    pub(super) fn below(&self, before: u64) -> Vec<u64> {
        self.at.range(..before).map(|(&position, _)| position).collect()
    }

    pub(super) fn due_ms(&self, position: u64, now: Now) -> Option<u64> {
        Some(match self.at.get(&position)?.0 {
            At::Tick(due) => now.wall_at(due),
            At::Wall(due_ms) => due_ms,
        })
    }

    /// When the next of them is due, if nobody sets the wall clock.
    pub(super) fn next(&self, now: Now) -> Tick {
        let tick = self.ticks.first().map_or(Tick::NEVER, |&(due, _)| due);
        let wall = self.walls.first().map_or(Tick::NEVER, |&(due_ms, _)| now.tick_at(due_ms));
        tick.min(wall)
    }

    /// Whether any of them waits for a time of the wall clock.
    pub(super) fn is_for_wall(&self) -> bool {
        !self.walls.is_empty()
    }

    /// Takes out one that is due.
    fn pop_due(&mut self, now: Now) -> Option<(u64, u8)> {
        let tick = self.ticks.first().filter(|(due, _)| *due <= now.tick).map(|&(_, at)| at);
        let wall = || self.walls.first().filter(|(due, _)| *due <= now.wall_ms).map(|&(_, at)| at);
        let position = tick.or_else(wall)?;
        Some((position, self.remove(position)?))
    }
}

impl Group {
    /// Ends a lease with a retry; what is to be written down.
    pub(crate) fn retry_lease(
        &mut self,
        position: u64,
        due: Due,
        failed: bool,
        note: Bytes,
        now: Now,
    ) -> Option<Retry> {
        let lease = self.leases.remove(position)?;
        let due_ms = match due {
            Due::Now => 0,
            Due::After(span) => now.after(span),
            Due::At(due_ms) => due_ms,
        };
        let failures = self.retries.get(&position).map_or(0, |retry| retry.failures);
        let failures = failures.saturating_add(u32::from(failed));
        self.counts.failures += u64::from(failed);
        let retry = Retry { due_ms, failures, handouts: lease.handouts, note, size: lease.size };
        self.retries.insert(position, retry.clone());
        self.touch_retry(position);
        match due {
            Due::After(span) if !span.is_zero() => {
                self.waiting.insert_tick(position, now.tick.plus(span), lease.level, lease.size);
            }
            Due::At(due_ms) if due_ms > now.wall_ms => {
                self.waiting.insert_wall(position, due_ms, lease.level, lease.size);
            }
            _ => self.give_back(position, lease.level),
        }
        Some(retry)
    }

    /// A record that nobody has looked at is due later: it is passed over until then. So it is after a
    /// restart, when the record itself may be in a segment that nobody has read.
    pub(crate) fn delay(&mut self, position: u64, due_ms: u64, level: u8, size: u32) {
        if position >= self.cursor && !self.settled(position) && self.ahead.insert(position) {
            self.unlooked.remove(position);
            let retry = self.retries.entry(position).or_default();
            retry.due_ms = retry.due_ms.max(due_ms);
            retry.size = size;
            self.waiting.insert_wall(position, retry.due_ms, level, size);
            self.touch_retry(position);
        }
    }

    /// Makes ready what is due by now.
    pub(crate) fn wake_due(&mut self, now: Now, end: u64) {
        while let Some((position, level)) = self.waiting.pop_due(now) {
            // Not visible yet: the look in order will find it, and it is due by then.
            if position >= end {
                self.ahead.remove(&position);
                continue;
            }
            self.give_back(position, level);
        }
        // These count as ready now; the look in order will find them.
        while self.unlooked.pop_due(now).is_some() {}
    }
}

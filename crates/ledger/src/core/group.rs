//! A group: which records of a log are settled, leased, waiting, or to be handed out next. Pure.
//!
//! Everything below `low` is settled, and so are the runs in `done`. From `low` to `cursor` each
//! position that is not settled is in exactly one place: ready again (`back`, or `levels` when there
//! are priorities), leased, waiting for its time, expired and not yet told, or set aside behind its
//! key. From `cursor` on nothing was looked at, but for the few in `ahead` that time has singled out.
//! So a queue that is consumed in order costs a few words, however long it is.

mod consumers;
mod cursor;
mod expiry;
mod keys;
mod lease;
mod leases;
mod offer;
mod priority;
mod retry;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use weft_kernel::Tick;

pub(crate) use self::{
    consumers::Consumers,
    cursor::{Found, Sight},
    lease::{Lease, Picked, Tokens, Wanted},
    retry::Retry,
};
use self::{keys::Keys, leases::Leases, offer::Offers, priority::Levels, retry::Waiting};
use super::{now::Now, runs::Runs};
use crate::options::GroupOptions;

/// What a group has done since the store was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) handouts: u64,
    pub(crate) done: u64,
    pub(crate) failures: u64,
    pub(crate) expired_leases: u64,
    pub(crate) lost: u64,
}

/// The state of a group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) options: GroupOptions,
    low: u64,
    cursor: u64,
    done: Runs,
    retries: BTreeMap<u64, Retry>,
    back: Runs,
    levels: Option<Box<Levels>>,
    keys: Option<Box<Keys>>,
    leases: Leases,
    /// No lease ends before; a lower bound, made exact whenever it is reached.
    earliest: Tick,
    waiting: Waiting,
    ahead: BTreeSet<u64>,
    /// What is due later and was not looked at since the store was opened, so that its key and its level
    /// are not known: it is passed over when it is looked at, and counts as waiting until then.
    unlooked: Waiting,
    expired: BTreeMap<u64, u8>,
    offers: Offers,
    pub(crate) consumers: Consumers,
    pub(crate) counts: Counts,
    /// What the next checkpoint has to write: the group's own row, and rows of retries.
    pub(crate) dirty: bool,
    dirty_retries: BTreeSet<u64>,
    /// Whether checkpoints write it at all.
    kept: bool,
    /// The entry for this group in the order of timers, so that it is not entered twice.
    pub(crate) timer: Tick,
    /// Whether it is among those that wait for a time of the wall clock.
    pub(crate) on_wall: bool,
    /// The last transaction that was checked and moves this group, so that a lease is not settled
    /// behind it in the same transaction.
    pub(crate) moved_by: u64,
}

impl Group {
    /// A group that has settled everything below `low`; `kept` if checkpoints write it.
    pub(crate) fn new(options: GroupOptions, low: u64, kept: bool) -> Self {
        Self {
            levels: options.prioritized.then(Box::default),
            keys: options.keyed.then(Box::default),
            consumers: Consumers::new(options.single),
            options,
            low,
            cursor: low,
            done: Runs::default(),
            retries: BTreeMap::new(),
            back: Runs::default(),
            leases: Leases::default(),
            earliest: Tick::NEVER,
            waiting: Waiting::default(),
            ahead: BTreeSet::new(),
            unlooked: Waiting::default(),
            expired: BTreeMap::new(),
            offers: Offers::default(),
            counts: Counts::default(),
            dirty: true,
            dirty_retries: BTreeSet::new(),
            kept,
            timer: Tick::NEVER,
            on_wall: false,
            moved_by: 0,
        }
    }

    /// Everything below is settled.
    pub(crate) const fn low(&self) -> u64 {
        self.low
    }

    /// The next position that was not looked at.
    pub(crate) const fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The settled runs above [`Group::low`].
    pub(crate) const fn done(&self) -> &Runs {
        &self.done
    }

    /// How many leases run.
    pub(crate) fn leased(&self) -> usize {
        self.leases.len()
    }

    /// How many records wait for their time.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len() + self.unlooked.len()
    }

    /// The bytes of the records that are leased, as far as known.
    pub(crate) const fn leased_bytes(&self) -> u64 {
        self.leases.bytes()
    }

    /// The bytes of the records that wait for their time, as far as known.
    pub(crate) const fn waiting_bytes(&self) -> u64 {
        self.waiting.bytes() + self.unlooked.bytes()
    }

    /// The bytes of a record that somebody has, had, or waits for; 0 if they are not known.
    pub(crate) fn size(&self, position: u64) -> u32 {
        let leased = self.leases.get(&position).map(|lease| lease.size);
        leased.or_else(|| self.retries.get(&position).map(|retry| retry.size)).unwrap_or(0)
    }

    /// Looks up the bytes of the records that wait, where they are not known.
    pub(crate) fn measure(&mut self, size: impl Fn(u64) -> u64) {
        self.waiting.measure(&size);
        self.unlooked.measure(&size);
    }

    /// The running lease of a position.
    pub(crate) fn lease(&self, position: u64) -> Option<&Lease> {
        self.leases.get(&position)
    }

    /// The positions of which anything is kept, or was and a checkpoint may know.
    pub(crate) fn retried(&self) -> Vec<u64> {
        self.retries.keys().chain(&self.dirty_retries).copied().collect()
    }

    /// The positions whose row has changed since it was last asked.
    pub(crate) fn take_dirty_retries(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.dirty_retries)
    }

    /// The row of a position has to be written, or taken away.
    pub(crate) fn touch_retry(&mut self, position: u64) {
        if self.kept {
            self.dirty_retries.insert(position);
        }
    }

    /// What is kept of a position's former hand-outs.
    pub(crate) fn retry(&self, position: u64) -> Option<&Retry> {
        self.retries.get(&position)
    }

    /// When a waiting position is due, in wall-clock milliseconds.
    pub(crate) fn waits_until(&self, position: u64, now: Now) -> Option<u64> {
        self.waiting.due_ms(position, now).or_else(|| self.unlooked.due_ms(position, now))
    }

    /// Whether a position stands behind an earlier one of its key.
    pub(crate) fn blocked(&self, position: u64) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.aside(position))
    }

    /// Whether a position is settled.
    pub(crate) fn settled(&self, position: u64) -> bool {
        position < self.low || self.done.contains(position)
    }

    /// How many positions below `end` are neither settled, nor leased, nor waiting.
    pub(crate) fn ready_below(&self, end: u64) -> u64 {
        let open = end.saturating_sub(self.low).saturating_sub(self.done.len());
        open.saturating_sub((self.leases.len() + self.waiting()) as u64)
    }

    /// Whether a lease could give something; may be wrong only once after each look.
    pub(crate) fn ready(&self, end: u64) -> bool {
        let again = match &self.levels {
            Some(levels) => !levels.is_empty(),
            None => !self.back.is_empty(),
        };
        again || (self.cursor < end && !self.keys.as_ref().is_some_and(|keys| keys.full()))
    }

    /// Makes a position ready (again), at its place.
    fn give_back(&mut self, position: u64, level: u8) {
        match &mut self.levels {
            Some(levels) => levels.insert(level, position),
            None => {
                self.back.insert(position);
            }
        }
    }

    /// Takes a position that is not leased out of wherever it stands; its level if it was anywhere.
    fn take_out(&mut self, position: u64) -> Option<u8> {
        if let Some(level) = self.waiting.remove(position) {
            return Some(level);
        }
        if let Some(level) = self.expired.remove(&position) {
            return Some(level);
        }
        let found = match &mut self.levels {
            Some(levels) => levels.remove(position),
            None => self.back.remove(position).then_some(0),
        };
        if found.is_some() {
            return found;
        }
        self.keys.as_mut().and_then(|keys| keys.remove_aside(position).then_some(0))
    }

    /// A position is settled for good: the lease, the retry and the hold on its key end.
    fn finish(&mut self, position: u64) {
        if self.retries.remove(&position).is_some() {
            self.touch_retry(position);
        }
        self.ahead.remove(&position);
        self.unlooked.remove(position);
        if let Some(keys) = &mut self.keys
            && let Some(next) = keys.release(position)
        {
            self.give_back(next, 0);
        }
        if position == self.low {
            self.low = self.done.swallow(position + 1);
            self.cursor = self.cursor.max(self.low);
        } else if position > self.low {
            self.done.insert(position);
        }
        self.dirty = true;
    }

    /// Settles a position whatever its state, as when its record was removed; `false` if it was settled.
    pub(crate) fn remove(&mut self, position: u64) -> bool {
        if self.settled(position) {
            return false;
        }
        if self.leases.remove(position).is_none() {
            self.take_out(position);
        }
        self.finish(position);
        true
    }

    /// Settles everything below a position.
    pub(crate) fn trim(&mut self, before: u64) {
        if before <= self.low {
            return;
        }
        self.leases.remove_below(before);
        let mut taken: Vec<u64> = self.waiting.below(before);
        taken.extend(self.expired.range(..before).map(|(&position, _)| position));
        for position in taken {
            self.take_out(position);
        }
        match &mut self.levels {
            Some(levels) => levels.remove_below(before),
            None => self.back.remove_below(before),
        }
        let gone: Vec<u64> = self.retries.range(..before).map(|(&position, _)| position).collect();
        for position in gone {
            self.retries.remove(&position);
            self.unlooked.remove(position);
            self.touch_retry(position);
        }
        self.ahead = self.ahead.split_off(&before);
        let freed = self.keys.as_mut().map(|keys| keys.trim(before)).unwrap_or_default();
        for position in freed {
            self.give_back(position, 0);
        }
        self.done.remove_below(before);
        self.low = self.done.swallow(before);
        self.cursor = self.cursor.max(self.low);
        self.dirty = true;
    }

    /// Begins anew at a position: nothing is leased, waiting or remembered any more.
    pub(crate) fn seek(&mut self, to: u64) {
        for (position, _) in std::mem::take(&mut self.retries) {
            self.touch_retry(position);
        }
        self.leases = Leases::default();
        self.earliest = Tick::NEVER;
        self.waiting = Waiting::default();
        self.back.clear();
        self.ahead.clear();
        self.unlooked = Waiting::default();
        self.expired.clear();
        self.done.clear();
        if self.levels.is_some() {
            self.levels = Some(Box::default());
        }
        if self.keys.is_some() {
            self.keys = Some(Box::default());
        }
        self.low = to;
        self.cursor = to;
        self.dirty = true;
    }

    /// Settles all below `end` that is not leased, and tells the runs.
    pub(crate) fn purge(&mut self, end: u64) -> Vec<(u64, u64)> {
        let mut runs = Vec::new();
        let mut kept: Vec<u64> = self.leases.keys().copied().filter(|&at| at < end).collect();
        kept.sort_unstable();
        let mut at = self.low;
        for stop in kept.into_iter().chain([end]) {
            while at < stop {
                at = self.done.next_out(at);
                if at >= stop {
                    break;
                }
                let last = self.done.next_in(at).unwrap_or(u64::MAX).min(stop) - 1;
                runs.push((at, last));
                at = last + 1;
            }
            at = at.max(stop + 1);
        }
        self.settle_runs(&runs);
        runs
    }

    /// Settles runs of positions that nobody has leased (or whose leases do not matter any more).
    pub(crate) fn settle_runs(&mut self, runs: &[(u64, u64)]) {
        for &(first, last) in runs {
            self.settle_run(first, last);
        }
    }

    fn settle_run(&mut self, first: u64, last: u64) {
        // What stands somewhere is dealt with one by one; the rest of the run is one insertion.
        let mut taken: Vec<u64> = self.waiting.within(first, last);
        taken.extend(self.expired.range(first..=last).map(|(&position, _)| position));
        taken.extend(self.retries.range(first..=last).map(|(&position, _)| position));
        if let Some(keys) = &self.keys {
            taken.extend(keys.within(first, last));
        }
        if self.leases.len() as u64 > last - first {
            taken.extend((first..=last).filter(|position| self.leases.contains_key(position)));
        } else {
            let leases = self.leases.keys().copied();
            taken.extend(leases.filter(|position| (first..=last).contains(position)));
        }
        taken.sort_unstable();
        taken.dedup();
        for position in taken {
            self.remove(position);
        }
        match &mut self.levels {
            Some(levels) => levels.remove_run(first, last),
            None => {
                while let Some(at) = self.back.next_in(first).filter(|&at| at <= last) {
                    self.back.remove(at);
                }
            }
        }
        while let Some(at) = self.ahead.range(first..=last).next().copied() {
            self.ahead.remove(&at);
        }
        if last >= self.low {
            self.done.insert_run(first.max(self.low), last);
            self.low = self.done.swallow(self.low);
            self.cursor = self.cursor.max(self.low);
        }
        self.dirty = true;
    }

    /// State of one retry, as a checkpoint or the log had it.
    pub(crate) fn restore_retry(&mut self, position: u64, retry: Retry) {
        if self.settled(position) {
            return;
        }
        if self.ahead.contains(&position) {
            // It was due once, was handed out, and is due again later.
            if let Some(level) = self.waiting.remove(position) {
                self.waiting.insert_wall(position, retry.due_ms, level, retry.size);
            }
        } else if position >= self.cursor {
            self.unlooked.insert_wall(position, retry.due_ms, 0, retry.size);
        }
        self.retries.insert(position, retry);
    }

    /// When this group has to be looked at again, for something whose time comes.
    pub(crate) fn next_due(&self, now: Now) -> Tick {
        if !self.expired.is_empty() {
            return now.tick;
        }
        self.earliest.min(self.waiting.next(now)).min(self.unlooked.next(now))
    }

    /// Whether something waits for a time of the wall clock.
    pub(crate) fn is_for_wall(&self) -> bool {
        self.waiting.is_for_wall() || self.unlooked.is_for_wall()
    }

    /// Notes kept and counts of a position, for a delivery.
    fn history(&self, position: u64) -> (u32, u32, Bytes) {
        if self.retries.is_empty() {
            return (0, 0, Bytes::new());
        }
        match self.retries.get(&position) {
            Some(retry) => (retry.handouts, retry.failures, retry.note.clone()),
            None => (0, 0, Bytes::new()),
        }
    }

    /// Whether a lease of this token runs.
    #[cfg(test)]
    fn holds(&self, token: u64) -> bool {
        self.leases.values().any(|lease| lease.lease == token)
    }
}

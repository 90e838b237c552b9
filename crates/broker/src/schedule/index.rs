//! Which schedules there are, in memory: when each is due, and which of them the configuration declares.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use super::MISSED_AFTER_MS;

/// Which schedules there are, by when they are due.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    by_due: BTreeSet<(u64, Bytes)>,
    due_of: HashMap<Bytes, Due>,
    /// Those that the configuration declares.
    declared: BTreeSet<Bytes>,
    /// The latest transaction of which anything was noted.
    seq: u64,
    /// The latest time that the wall clock has shown.
    seen_ms: u64,
    /// Since when there has always been one that is due.
    late_since_ms: Option<u64>,
    /// Those that could not fire when they were tried last.
    put_off: HashSet<Bytes>,
}

/// When a schedule is due, and the transaction that said so: a later one is never undone by who comes to
/// note an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) ms: u64,
    pub(super) seq: u64,
}

impl Schedules {
    pub(super) fn set(&mut self, entry: Bytes, due: Due) {
        self.seq = self.seq.max(due.seq);
        if self.due_of.get(&entry).is_some_and(|known| known.seq > due.seq) {
            return;
        }
        self.remove(&entry);
        self.by_due.insert((due.ms, entry.clone()));
        self.due_of.insert(entry, due);
    }

    /// Forgets what a transaction has deleted.
    pub(super) fn forget(&mut self, entry: &Bytes, seq: u64) {
        self.seq = self.seq.max(seq);
        if self.due_of.get(entry).is_none_or(|known| known.seq <= seq) {
            self.remove(entry);
            self.declared.remove(entry);
            self.put_off.remove(entry);
        }
    }

    /// Notes whether the configuration declares a schedule.
    pub(super) fn declare(&mut self, entry: &Bytes, declared: bool) {
        if !declared {
            self.declared.remove(entry);
        } else if !self.declared.contains(entry) {
            self.declared.insert(entry.clone());
        }
    }

    /// Whether the configuration declares a schedule.
    pub(super) fn is_declared(&self, entry: &Bytes) -> bool {
        self.declared.contains(entry)
    }

    /// Those that the configuration declares.
    pub(super) fn declared(&self) -> Vec<Bytes> {
        self.declared.iter().cloned().collect()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Bytes> {
        self.due_of.keys().cloned().collect()
    }

    /// The latest transaction of which anything was noted.
    pub(super) const fn seq(&self) -> u64 {
        self.seq
    }

    /// The first that is due, and when.
    pub(super) fn first(&self) -> Option<(Bytes, Due)> {
        let (_, entry) = self.by_due.first()?;
        Some((entry.clone(), *self.due_of.get(entry)?))
    }

    /// The first that is due now, and since when there has always been one.
    pub(super) fn due(&mut self, now_ms: u64) -> Option<(Bytes, Due, u64)> {
        let Some((entry, due)) = self.first().filter(|(_, due)| due.ms <= now_ms) else {
            self.late_since_ms = None;
            return None;
        };
        let since_ms = *self.late_since_ms.get_or_insert(now_ms);
        Some((entry, due, since_ms.min(now_ms)))
    }

    /// Notes that one could not fire; whether that is new.
    pub(super) fn put_off(&mut self, entry: &Bytes) -> bool {
        self.put_off.insert(entry.clone())
    }

    /// Notes that one has fired; whether it was put off before.
    pub(super) fn no_longer_put_off(&mut self, entry: &Bytes) -> bool {
        self.put_off.remove(entry)
    }

    fn remove(&mut self, entry: &Bytes) {
        if let Some(due) = self.due_of.remove(entry) {
            self.by_due.remove(&(due.ms, entry.clone()));
        }
    }

    /// Whether the wall clock was set back since it was looked at last.
    pub(super) fn set_back(&mut self, now_ms: u64) -> bool {
        let back = self.seen_ms.saturating_sub(now_ms) > MISSED_AFTER_MS;
        self.seen_ms = if back { now_ms } else { self.seen_ms.max(now_ms) };
        back
    }
}

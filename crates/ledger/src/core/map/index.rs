//! The order in which entries of a map expire, or timers are due: the soonest in memory, all in the
//! checkpoint.
//!
//! Times of entries that no checkpoint has are in memory, as the entries are. Of those that it has, memory
//! holds a window: all up to a bound. Behind the bound the checkpoint is read again, a window at a time.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

/// When, in wall-clock milliseconds, and the key.
pub(crate) type Time = (u64, Bytes);

/// How many times are read from a checkpoint at once; at most twice as many stay.
pub(crate) const WINDOW: usize = 256;

/// The times of a map.
#[derive(Debug, Default)]
pub(crate) struct TimeIndex {
    /// Of entries that have changed since the last capture.
    changed: BTreeSet<Time>,
    /// Of entries that are being stored.
    captured: BTreeSet<Time>,
    /// Of entries that the checkpoint has.
    window: BTreeSet<Time>,
    /// The same by key.
    window_keys: HashMap<Bytes, u64>,
    /// Up to where the window has them all; without, it has all that the checkpoint has.
    bound: Option<Time>,
}

impl TimeIndex {
    /// Up to where all are known.
    pub(crate) const fn bound(&self) -> Option<&Time> {
        self.bound.as_ref()
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.bound.is_none() && self.first().is_none()
    }

    fn first(&self) -> Option<&Time> {
        let firsts = [self.changed.first(), self.captured.first(), self.window.first()];
        firsts.into_iter().flatten().min()
    }

    /// When the next one comes, or the checkpoint is to be read.
    pub(crate) fn next(&self) -> Option<u64> {
        self.first().into_iter().chain(&self.bound).map(|(time, _)| *time).min()
    }

    /// An entry that changes gets a time; 0 for none.
    pub(crate) fn set(&mut self, key: &Bytes, time: u64) {
        if time != 0 {
            self.changed.insert((time, key.clone()));
        }
    }

    /// An entry changes, or goes: `time` is what memory knows that it has.
    pub(crate) fn unset(&mut self, key: &Bytes, time: Option<u64>) {
        if let Some(time) = time.filter(|time| *time != 0) {
            self.take(&(time, key.clone()));
        }
        if let Some(time) = self.window_keys.remove(key) {
            self.window.remove(&(time, key.clone()));
        }
    }

    /// Takes one out that was handed out.
    pub(crate) fn take(&mut self, time: &Time) {
        if !self.changed.remove(time) && !self.captured.remove(time) && self.window.remove(time) {
            self.window_keys.remove(&time.1);
        }
    }

    /// Those whose time has come, in order, at most `limit`; and whether the checkpoint may have more.
    pub(crate) fn due(&self, wall_ms: u64, limit: usize) -> (Vec<Time>, bool) {
        let all = [&self.changed, &self.captured, &self.window];
        let due = |times: &&'_ BTreeSet<Time>| -> Vec<Time> {
            times.iter().take_while(|(time, _)| *time <= wall_ms).take(limit).cloned().collect()
        };
        let mut found: Vec<Time> = all.iter().flat_map(due).collect();
        found.sort_unstable();
        let mut more = false;
        if let Some(bound) = self.bound.as_ref().filter(|(time, _)| *time <= wall_ms) {
            // Behind it the checkpoint may have one that comes before what is known.
            found.retain(|time| time <= bound);
            more = found.len() < limit;
        }
        found.truncate(limit);
        (found, more)
    }

    /// What has changed is being stored.
    pub(crate) fn capture(&mut self) {
        self.captured.append(&mut self.changed);
    }

    /// What was captured is stored: of that the soonest belong to the window.
    pub(crate) fn stored(&mut self) {
        let captured = std::mem::take(&mut self.captured);
        let mut last = None;
        for (count, time) in captured.into_iter().enumerate() {
            if self.bound.as_ref().is_some_and(|bound| time > *bound) {
                break;
            }
            if count == WINDOW {
                self.bound = last;
                break;
            }
            last = Some(time.clone());
            self.window_keys.insert(time.1.clone(), time.0);
            self.window.insert(time);
        }
        if let Some(bound) = &self.bound {
            while let Some(time) = self.window.pop_last() {
                if time <= *bound {
                    self.window.insert(time);
                    break;
                }
                self.window_keys.remove(&time.1);
            }
        }
        if self.window.len() > 2 * WINDOW {
            while self.window.len() > WINDOW
                && let Some((_, key)) = self.window.pop_last()
            {
                self.window_keys.remove(&key);
            }
            self.bound = self.window.last().cloned();
        }
    }

    /// Takes in what the checkpoint has behind the bound; it goes up to `last`, or to the end.
    pub(crate) fn refill(&mut self, rows: Vec<Time>, last: Option<Time>) {
        for time in rows {
            self.window_keys.insert(time.1.clone(), time.0);
            self.window.insert(time);
        }
        self.bound = last;
    }

    /// How many of those that the checkpoint has are in memory.
    #[cfg(test)]
    pub(crate) fn window(&self) -> usize {
        assert_eq!(self.window.len(), self.window_keys.len());
        self.window.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(at: u64) -> Time {
        (at, Bytes::from(format!("{at}")))
    }

    /// Takes all that is due, with `disk` as what the checkpoint has.
    fn take_all(index: &mut TimeIndex, disk: &BTreeSet<Time>, wall_ms: u64) -> Vec<u64> {
        let mut taken = Vec::new();
        loop {
            let (found, more) = index.due(wall_ms, 7);
            for time in &found {
                index.take(time);
                taken.push(time.0);
            }
            assert!(index.window() <= 3 * WINDOW);
            if found.is_empty() && !more {
                return taken;
            }
            if more {
                let behind = disk.iter().filter(|time| index.bound().is_none_or(|b| *time > b));
                let rows: Vec<Time> = behind.take(WINDOW).cloned().collect();
                let last = rows.last().cloned().filter(|_| rows.len() == WINDOW);
                index.refill(rows, last);
            }
        }
    }

    #[test]
    fn what_is_behind_the_window_comes_in_its_order() {
        let mut index = TimeIndex::default();
        let mut disk = BTreeSet::new();
        for round in 0..20u64 {
            for at in 0..200 {
                let at = 1 + (at * 7919 + round * 104_729) % 100_003;
                index.unset(&time(at).1, Some(at));
                index.set(&time(at).1, at);
                disk.insert(time(at));
            }
            index.capture();
            index.stored();
            assert!(index.window() <= 2 * WINDOW, "{}", index.window());
        }
        assert_eq!(index.next(), Some(disk.first().unwrap().0));
        let all: Vec<u64> = disk.iter().map(|(at, _)| *at).collect();
        let half = all[all.len() / 2];
        let mut taken = take_all(&mut index, &disk, half);
        assert_eq!(taken.len(), all.len() / 2 + 1);
        // What is set late and comes before what the checkpoint has is not put off.
        index.set(&time(half + 1).1, half + 1);
        taken.extend(take_all(&mut index, &disk, u64::MAX));
        taken.dedup();
        assert_eq!(taken.len(), all.len() + usize::from(!all.contains(&(half + 1))));
        assert!(taken.is_sorted());
        assert!(index.is_empty());
    }
}

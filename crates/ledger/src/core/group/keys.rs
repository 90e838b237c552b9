//! Order per key: of each key one record is in play, and those behind it wait in a queue of their own.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::super::fast::Numbers;
use crate::options::SET_ASIDE_MAX;

/// The keys that have a record in play.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// Key to what stands behind the record in play. Empty queues take no memory of their own.
    behind: HashMap<Bytes, VecDeque<u64>>,
    /// The record in play of each key.
    holders: Numbers<u64, Bytes>,
    /// Records that stand behind.
    aside: Numbers<u64, Bytes>,
}

impl Keys {
    /// Whether so many records stand behind that the group stops looking ahead.
    pub(super) fn full(&self) -> bool {
        self.aside.len() >= SET_ASIDE_MAX
    }

    /// Puts a record in play, or behind the one that is; says which.
    pub(super) fn hold(&mut self, key: Bytes, position: u64) -> bool {
        if let Some(queue) = self.behind.get_mut(&key) {
            queue.push_back(position);
            self.aside.insert(position, key);
            return false;
        }
        self.behind.insert(key.clone(), VecDeque::new());
        self.holders.insert(position, key);
        true
    }

    /// Whether a record is in play.
    pub(super) fn holds(&self, position: u64) -> bool {
        self.holders.contains_key(&position)
    }

    /// Whether a record stands behind.
    pub(super) fn aside(&self, position: u64) -> bool {
        self.aside.contains_key(&position)
    }

    /// The record in play is done: the next of its key, now in play.
    pub(super) fn release(&mut self, position: u64) -> Option<u64> {
        let key = self.holders.remove(&position)?;
        let queue = self.behind.get_mut(&key)?;
        let Some(next) = queue.pop_front() else {
            self.behind.remove(&key);
            return None;
        };
        self.aside.remove(&next);
        self.holders.insert(next, key);
        Some(next)
    }

    /// Takes out a record that stands behind; `false` if it does not.
    pub(super) fn remove_aside(&mut self, position: u64) -> bool {
        let Some(key) = self.aside.remove(&position) else { return false };
        if let Some(queue) = self.behind.get_mut(&key) {
            queue.retain(|&other| other != position);
        }
        true
    }

    /// Those of `first..=last` that are in play or stand behind.
    pub(super) fn within(&self, first: u64, last: u64) -> impl Iterator<Item = u64> + '_ {
        let positions = self.holders.keys().chain(self.aside.keys()).copied();
        positions.filter(move |position| (first..=last).contains(position))
    }

    /// Forgets everything below a position; what comes into play by that.
    pub(super) fn trim(&mut self, before: u64) -> Vec<u64> {
        let gone: Vec<u64> = self.aside.keys().copied().filter(|&at| at < before).collect();
        for position in gone {
            self.remove_aside(position);
        }
        let held: Vec<u64> = self.holders.keys().copied().filter(|&at| at < before).collect();
        held.into_iter().filter_map(|position| self.release(position)).collect()
    }
}

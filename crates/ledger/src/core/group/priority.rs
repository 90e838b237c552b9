//! Priorities: per level the ready positions, and ageing, so that no level starves.

use std::collections::BTreeMap;

use super::super::runs::Runs;
use crate::options::AGEING;

/// The ready positions by level.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    levels: BTreeMap<u8, Runs>,
    /// Hand-outs from a higher level since one went to a lower one while it waited.
    since: u32,
}

impl Levels {
    /// Whether none is ready.
    pub(super) fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Puts a position in.
    pub(super) fn insert(&mut self, level: u8, position: u64) {
        self.levels.entry(level).or_default().insert(position);
    }

    /// Takes the position out whose turn it is: the oldest of the highest level, or, once
    /// [`AGEING`] of those went before lower ones that waited, the oldest of all lower levels.
    pub(super) fn take(&mut self) -> Option<(u64, u8)> {
        let (&highest, _) = self.levels.last_key_value()?;
        let mut level = highest;
        if self.levels.len() == 1 {
            self.since = 0;
        } else if self.since < AGEING {
            self.since += 1;
        } else {
            self.since = 0;
            let lower = self.levels.range(..highest);
            level = lower.min_by_key(|(_, runs)| runs.first()).map_or(highest, |(&level, _)| level);
        }
        let runs = self.levels.get_mut(&level)?;
        let position = runs.pop_first()?;
        if runs.is_empty() {
            self.levels.remove(&level);
        }
        Some((position, level))
    }

    /// Takes a position out; its level.
    pub(super) fn remove(&mut self, position: u64) -> Option<u8> {
        let level = self
            .levels
            .iter_mut()
            .find_map(|(&level, runs)| runs.remove(position).then_some(level))?;
        self.tidy();
        Some(level)
    }

    /// Takes out what is below a position.
    pub(super) fn remove_below(&mut self, before: u64) {
        self.levels.values_mut().for_each(|runs| runs.remove_below(before));
        self.tidy();
    }

    /// Takes out `first..=last`.
    pub(super) fn remove_run(&mut self, first: u64, last: u64) {
        for runs in self.levels.values_mut() {
            while let Some(at) = runs.next_in(first).filter(|&at| at <= last) {
                runs.remove(at);
            }
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        self.levels.retain(|_, runs| !runs.is_empty());
    }
}

//! A set of positions as runs: memory is per gap, not per position.

use std::collections::BTreeMap;

/// A set of positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    /// First to last position of each run; runs neither touch nor overlap.
    runs: BTreeMap<u64, u64>,
    len: u64,
}

impl Runs {
    /// How many positions are in it.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// How many runs there are.
    pub(crate) fn gaps(&self) -> usize {
        self.runs.len()
    }

    /// Whether none is.
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a position is in it.
    pub(crate) fn contains(&self, position: u64) -> bool {
        self.len > 0
            && self.runs.range(..=position).next_back().is_some_and(|(_, &last)| last >= position)
    }

    /// Puts a position in; says whether it was not there.
    pub(crate) fn insert(&mut self, position: u64) -> bool {
        self.insert_run(position, position) == 1
    }

    /// Puts `first..=last` in; says how many of them were not there.
    pub(crate) fn insert_run(&mut self, first: u64, last: u64) -> u64 {
        if first > last {
            return 0;
        }
        let (mut from, mut to, mut had) = (first, last, 0);
        if let Some((&run, &end)) = self.runs.range(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            if end >= last {
                return 0;
            }
            from = run;
            had += end - run + 1;
        }
        // Whatever begins inside or right behind is swallowed.
        while let Some((&run, &end)) = self.runs.range(from.saturating_add(1)..).next() {
            if run > to.saturating_add(1) {
                break;
            }
            had += end - run + 1;
            to = to.max(end);
            self.runs.remove(&run);
        }
        self.runs.insert(from, to);
        let added = to - from + 1 - had;
        self.len += added;
        added
    }

    /// Takes a position out; says whether it was there.
    pub(crate) fn remove(&mut self, position: u64) -> bool {
        let Some((&run, &end)) = self.runs.range(..=position).next_back() else { return false };
        if end < position {
            return false;
        }
        if run == position {
            self.runs.remove(&run);
        } else {
            self.runs.insert(run, position - 1);
        }
        if end > position {
            self.runs.insert(position + 1, end);
        }
        self.len -= 1;
        true
    }

    /// Takes out everything below a position.
    pub(crate) fn remove_below(&mut self, position: u64) {
        while let Some((&run, &end)) = self.runs.first_key_value() {
            if run >= position {
                break;
            }
            self.runs.remove(&run);
            self.len -= end - run + 1;
            if end >= position {
                self.runs.insert(position, end);
                self.len += end - position + 1;
                break;
            }
        }
    }

    /// The lowest position.
    pub(crate) fn first(&self) -> Option<u64> {
        self.runs.first_key_value().map(|(&run, _)| run)
    }

    /// Takes the lowest position out.
    pub(crate) fn pop_first(&mut self) -> Option<u64> {
        let (&run, &end) = self.runs.first_key_value()?;
        self.runs.remove(&run);
        if end > run {
            self.runs.insert(run + 1, end);
        }
        self.len -= 1;
        Some(run)
    }

    /// If the lowest run begins at `position`, takes it out and gives the position after it.
    pub(crate) fn swallow(&mut self, position: u64) -> u64 {
        match self.runs.first_key_value() {
            Some((&run, &end)) if run == position => {
                self.runs.remove(&run);
                self.len -= end - run + 1;
                end + 1
            }
            _ => position,
        }
    }

    /// The first position at or after `position` that is not in it.
    pub(crate) fn next_out(&self, position: u64) -> u64 {
        match self.runs.range(..=position).next_back() {
            Some((_, &end)) if end >= position => end + 1,
            _ => position,
        }
    }

    /// The first position at or after `position` that is in it.
    pub(crate) fn next_in(&self, position: u64) -> Option<u64> {
        if self.contains(position) {
            return Some(position);
        }
        self.runs.range(position..).next().map(|(&run, _)| run)
    }

    /// The runs, ascending, first and last position of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs.iter().map(|(&run, &end)| (run, end))
    }

    /// Takes everything out.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(steps in proptest::collection::vec((0u8..5, 0u64..40, 0u64..6), 1..200)) {
            let (mut runs, mut model) = (Runs::default(), BTreeSet::new());
            for (what, at, span) in steps {
                match what {
                    0 => prop_assert_eq!(runs.insert(at), model.insert(at)),
                    1 => {
                        let before = model.len();
                        model.extend(at..=at + span);
                        prop_assert_eq!(runs.insert_run(at, at + span), (model.len() - before) as u64);
                    }
                    2 => prop_assert_eq!(runs.remove(at), model.remove(&at)),
                    3 => {
                        runs.remove_below(at / 4);
                        model.retain(|&position| position >= at / 4);
                    }
                    _ => prop_assert_eq!(runs.pop_first(), model.pop_first()),
                }
                prop_assert_eq!(runs.len(), model.len() as u64);
                prop_assert_eq!(runs.first(), model.first().copied());
                prop_assert_eq!(runs.contains(at), model.contains(&at));
                prop_assert_eq!(runs.next_in(at), model.range(at..).next().copied());
                let out = (at..).find(|position| !model.contains(position));
                prop_assert_eq!(Some(runs.next_out(at)), out);
                let all: Vec<u64> = runs.iter().flat_map(|(first, last)| first..=last).collect();
                prop_assert_eq!(all, model.iter().copied().collect::<Vec<_>>());
                let touching = runs.iter().zip(runs.iter().skip(1)).any(|(a, b)| a.1 + 1 >= b.0);
                prop_assert!(!touching);
            }
        }
    }
}

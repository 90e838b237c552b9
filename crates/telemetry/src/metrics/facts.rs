//! Requests counted by what was found out about them: a consumer, a version, the state of a cache.
//!
//! The values come from whoever asks, so their number is bounded over all routes; what finds no room is
//! counted as `_OTHER`, and what is too long is cut.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How many values are told apart over all routes and workers.
const VALUES_MAX: usize = 10_000;
/// How many bytes of a value are kept.
const VALUE_BYTES_MAX: usize = 128;
/// The value of those that found no room.
const OTHER: &str = "_OTHER";

/// The first digit of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class(usize);

impl Class {
    const WORDS: [&'static str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

    fn of(status: u16) -> Self {
        let class = usize::from(status / 100);
        Self(if class < Self::WORDS.len() { class } else { 0 })
    }

    /// The label value.
    pub(super) const fn word(self) -> &'static str {
        Self::WORDS[self.0]
    }
}

/// The requests of one value, by the class of their status.
type Row = [u64; Class::WORDS.len()];

/// How many values are still told apart; of a whole registry.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(VALUES_MAX)))
    }
}

impl Budget {
    fn takes_one(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Gives back what the values of a meter took that goes.
    pub(super) fn give_back(&self, values: usize) {
        self.0.fetch_add(values, Ordering::Relaxed);
    }
}

/// What one worker has counted on one route. The lock is held by nobody else but a scrape.
#[derive(Debug, Default)]
pub(super) struct Facts(Mutex<BTreeMap<&'static str, HashMap<Box<str>, Row>>>);

impl Facts {
    /// Counts a request.
    pub(super) fn record(&self, name: &'static str, value: &str, status: u16, budget: &Budget) {
        let class = Class::of(status).0;
        let value = &value[..value.floor_char_boundary(VALUE_BYTES_MAX)];
        let mut facts = self.lock();
        let rows = facts.entry(name).or_default();
        if let Some(row) = rows.get_mut(value) {
            row[class] += 1;
            return;
        }
        // `_OTHER` takes no room: there is one for each name, and names are in the code.
        let value = if value != OTHER && budget.takes_one() { value } else { OTHER };
        rows.entry(value.into()).or_default()[class] += 1;
    }

    /// Adds what was counted to sums over all workers.
    pub(super) fn gather(&self, sums: &mut BTreeMap<(&'static str, Box<str>, Class), u64>) {
        for (name, rows) in &*self.lock() {
            for (value, row) in rows {
                for (class, count) in row.iter().enumerate().filter(|(_, count)| **count > 0) {
                    *sums.entry((name, value.clone(), Class(class))).or_default() += count;
                }
            }
        }
    }

    /// How much of the budget it has taken.
    pub(super) fn values(&self) -> usize {
        self.lock().values().flat_map(HashMap::keys).filter(|value| &***value != OTHER).count()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, HashMap<Box<str>, Row>>> {
        // Counters stay usable after a panic elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(of: &[&Facts]) -> Vec<(&'static str, String, &'static str, u64)> {
        let mut sums = BTreeMap::new();
        of.iter().for_each(|facts| facts.gather(&mut sums));
        let row = |((name, value, class), count): ((_, Box<str>, Class), _)| {
            (name, value.into_string(), class.word(), count)
        };
        sums.into_iter().map(row).collect()
    }

    #[test]
    fn requests_are_summed_over_workers_by_value_and_class() {
        let (budget, one, two) = (Budget::default(), Facts::default(), Facts::default());
        for (facts, value, status) in [
            (&one, "acme", 200),
            (&two, "acme", 204),
            (&one, "acme", 429),
            (&two, "zeta", 0),
            (&one, "zeta", 999),
        ] {
            facts.record("consumer", value, status, &budget);
        }
        assert_eq!(
            sums(&[&one, &two]),
            [
                ("consumer", "acme".to_owned(), "2xx", 2),
                ("consumer", "acme".to_owned(), "4xx", 1),
                ("consumer", "zeta".to_owned(), "none", 2),
            ]
        );
        assert_eq!((one.values(), two.values()), (2, 2));
    }

    #[test]
    fn values_without_end_become_one_and_long_ones_are_cut() {
        let (budget, facts) = (Budget::default(), Facts::default());
        for number in 0..VALUES_MAX + 50 {
            facts.record("consumer", &number.to_string(), 200, &budget);
        }
        facts.record("consumer", "7", 200, &budget);
        facts.record("consumer", OTHER, 200, &budget);
        assert_eq!(facts.values(), VALUES_MAX);
        let all = sums(&[&facts]);
        assert_eq!(all.len(), VALUES_MAX + 1);
        let count = |value: &str| all.iter().find(|row| row.1 == value).map(|row| row.3);
        assert_eq!((count(OTHER), count("7")), (Some(51), Some(2)));
        budget.give_back(facts.values());
        let long = Facts::default();
        long.record("consumer", &"ü".repeat(100), 200, &budget);
        assert_eq!(sums(&[&long])[0].1, "ü".repeat(64));
    }
}

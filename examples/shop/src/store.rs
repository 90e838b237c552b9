//! A map in memory that forgets its oldest entries, so that a demo that runs all night stays small.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// At most this many entries are kept.
const ENTRIES_MAX: usize = 10_000;

/// What is known, by key.
#[derive(Debug)]
pub(crate) struct Store<K, V>(Mutex<Entries<K, V>>);

#[derive(Debug)]
struct Entries<K, V> {
    by_key: BTreeMap<K, V>,
    by_age: VecDeque<K>,
}

impl<K: Ord + Clone, V: Clone> Store<K, V> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Entries { by_key: BTreeMap::new(), by_age: VecDeque::new() }))
    }

    /// Keeps a value; the one that was there, if any, is replaced.
    pub(crate) fn put(&self, key: K, value: V) {
        let mut entries = self.lock();
        if entries.by_key.insert(key.clone(), value).is_some() {
            return;
        }
        entries.by_age.push_back(key);
        if entries.by_age.len() > ENTRIES_MAX
            && let Some(oldest) = entries.by_age.pop_front()
        {
            entries.by_key.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.lock().by_key.get(key).cloned()
    }

    /// Changes a value in place and gives the result.
    pub(crate) fn change(&self, key: &K, change: impl FnOnce(&mut V)) -> Option<V> {
        let mut entries = self.lock();
        let value = entries.by_key.get_mut(key)?;
        change(value);
        Some(value.clone())
    }

    pub(crate) fn remove(&self, key: &K) -> Option<V> {
        let mut entries = self.lock();
        let value = entries.by_key.remove(key)?;
        entries.by_age.retain(|kept| kept != key);
        Some(value)
    }

    /// All values, by key.
    pub(crate) fn all(&self) -> Vec<V> {
        self.lock().by_key.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let store = Store::new();
        for key in 0..ENTRIES_MAX + 2 {
            store.put(key, key);
        }
        store.put(2, 77);
        assert_eq!(
            (store.get(&1), store.get(&2), store.all().len()),
            (None, Some(77), ENTRIES_MAX)
        );
        assert_eq!((store.remove(&2), store.remove(&2)), (Some(77), None));
        assert_eq!(store.change(&3, |value| *value += 1), Some(4));
    }
}

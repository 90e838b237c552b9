//! What was read of entries that no change is known of: bounded, in two generations, of which the older
//! goes as a whole when the younger is half full.

use std::{collections::HashMap, mem};

use bytes::Bytes;

use super::ENTRY_BYTES;
use crate::record::Value;

/// What was read.
#[derive(Clone, Debug)]
pub(crate) enum Cached {
    /// There is no such entry.
    Absent,
    /// Of a large entry its version and expiry.
    Head {
        /// The number of the transaction that put it.
        version: u64,
        /// When its time is over, or comes.
        expires_ms: u64,
    },
    /// The entry.
    Whole(Value),
}

/// Values up to this size are kept.
const VALUE_BYTES_MAX: usize = 4 << 10;

type Entries = HashMap<u32, HashMap<Bytes, Cached>>;

/// Entries of all maps that were read.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    young: Entries,
    old: Entries,
    bytes: [u64; 2],
}

impl Cache {
    /// What is known of a key.
    pub(crate) fn get(&self, map: u32, key: &[u8]) -> Option<&Cached> {
        let find = |entries: &'_ Entries| -> bool {
            entries.get(&map).is_some_and(|entries| entries.contains_key(key))
        };
        let entries = if find(&self.young) { &self.young } else { &self.old };
        entries.get(&map)?.get(key)
    }

    /// Notes what was read, the whole of it: there until [`Cache::trim`].
    pub(crate) fn insert(&mut self, map: u32, key: Bytes, value: Option<Value>) {
        let data = value.as_ref().map_or(0, |value| value.data.len());
        self.bytes[0] += ENTRY_BYTES + (key.len() + data) as u64;
        let cached = value.map_or(Cached::Absent, Cached::Whole);
        self.young.entry(map).or_default().insert(key, cached);
    }

    /// Notes what was read for what is expected of it: of a large value no more than that.
    pub(crate) fn insert_head(&mut self, map: u32, key: Bytes, value: Option<Value>) {
        match value {
            Some(Value { data, version, expires_ms }) if data.len() > VALUE_BYTES_MAX => {
                self.bytes[0] += ENTRY_BYTES + key.len() as u64;
                let head = Cached::Head { version, expires_ms };
                self.young.entry(map).or_default().insert(key, head);
            }
            value => self.insert(map, key, value),
        }
    }

    /// A key changes: what was read of it is of no use.
    pub(crate) fn remove(&mut self, map: u32, key: &[u8]) {
        for entries in [&mut self.young, &mut self.old] {
            if let Some(entries) = entries.get_mut(&map) {
                entries.remove(key);
            }
        }
    }

    /// A map is gone.
    pub(crate) fn remove_map(&mut self, map: u32) {
        self.young.remove(&map);
        self.old.remove(&map);
    }

    /// Lets go of the older half if there is more than `bytes_max`.
    pub(crate) fn trim(&mut self, bytes_max: u64) {
        if self.bytes[0] > bytes_max / 2 {
            self.old = mem::take(&mut self.young);
            self.bytes = [0, self.bytes[0]];
        }
        if self.bytes[1] > bytes_max {
            // A single transaction has read more than may stay.
            self.old.clear();
            self.bytes[1] = 0;
        }
    }

    /// About the bytes that it takes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes[0] + self.bytes[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(size: usize) -> Option<Value> {
        Some(Value { data: vec![7; size].into(), version: 3, expires_ms: 0 })
    }

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_came_last() {
        let mut cache = Cache::default();
        for key in 0..10_000u32 {
            cache.insert(1, Bytes::copy_from_slice(&key.to_be_bytes()), value(100));
            cache.trim(100_000);
            assert!(cache.bytes() <= 100_000 + 300, "{}", cache.bytes());
        }
        assert!(matches!(cache.get(1, &9_999u32.to_be_bytes()), Some(Cached::Whole(_))));
        assert!(cache.get(1, &0u32.to_be_bytes()).is_none());
        cache.remove(1, &9_999u32.to_be_bytes());
        assert!(cache.get(1, &9_999u32.to_be_bytes()).is_none());
        cache.remove_map(1);
        assert!(cache.get(1, &9_998u32.to_be_bytes()).is_none());
    }

    #[test]
    fn of_a_large_value_no_more_is_kept_than_what_is_expected_of_it() {
        let mut cache = Cache::default();
        cache.insert_head(1, "large".into(), value(1 << 20));
        cache.insert_head(1, "small".into(), value(9));
        assert!(matches!(cache.get(1, b"large"), Some(Cached::Head { version: 3, .. })));
        assert!(matches!(cache.get(1, b"small"), Some(Cached::Whole(_))));
        assert!(cache.bytes() < 1_000);
    }
}

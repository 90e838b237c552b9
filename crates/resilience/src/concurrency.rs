//! Concurrent requests by key: how many a consumer, an address or whoever else may have under way at once.
//!
//! Unlike a [bulkhead](crate::bulkhead) it has no queue, and counts each key for itself. It remembers a key as
//! long as something of it is under way and no longer, so that its memory is bounded by what is under way at all.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 16;
/// A part that has room for more keys than this is made smaller once it is empty.
const ROOM_KEPT: usize = 256;

/// How much is under way, by key; a clone is a handle to the same.
#[derive(Clone, Debug)]
pub struct Concurrency(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: NonZeroU32,
    hasher: RandomState,
    shards: [Mutex<Counts>; SHARDS],
}

/// Counts by hash of the key.
type Counts = HashMap<u64, u32, BuildHasherDefault<Same>>;

/// A place under a key; dropping it gives it back.
#[derive(Debug)]
#[must_use = "dropped, it counts no more"]
pub struct Permit {
    of: Arc<Inner>,
    key: u64,
    under_way: u32,
}

impl Concurrency {
    /// At most so many at once under each key.
    pub fn new(most: NonZeroU32) -> Self {
        let shards = Default::default();
        Self(Arc::new(Inner { most, hasher: RandomState::new(), shards }))
    }

    /// A place under a key; `None` if all are taken.
    pub fn take(&self, key: impl Hash) -> Option<Permit> {
        self.count(key, self.most())
    }

    /// A place under a key, also where none is free.
    pub fn take_beyond(&self, key: impl Hash) -> Option<Permit> {
        self.count(key, u32::MAX)
    }

    fn count(&self, key: impl Hash, most: u32) -> Option<Permit> {
        let inner = &self.0;
        let key = inner.hasher.hash_one(key);
        let mut shard = inner.shard(key);
        // At least one may be under way, so that a refusal leaves no key behind that was not there.
        let count = shard.entry(key).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        let under_way = *count;
        drop(shard);
        Some(Permit { of: Arc::clone(inner), key, under_way })
    }

    /// How many there may be under one key.
    pub fn most(&self) -> u32 {
        self.0.most.get()
    }

    /// Keys that have something under way.
    pub fn keys(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}

impl Inner {
    fn shard(&self, key: u64) -> MutexGuard<'_, Counts> {
        lock(&self.shards[key as usize % SHARDS])
    }
}

/// Nothing within the lock can panic half-way: each change is one store.
fn lock(shard: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Permit {
    /// How many were under way under its key when it was given, itself among them.
    pub const fn under_way(&self) -> u32 {
        self.under_way
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut shard = self.of.shard(self.key);
        if let Some(count) = shard.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                shard.remove(&self.key);
                if shard.is_empty() && shard.capacity() > ROOM_KEPT {
                    shard.shrink_to_fit();
                }
            }
        }
    }
}

/// Takes a hash for what it is.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn of(most: u32) -> Concurrency {
        Concurrency::new(NonZeroU32::new(most).unwrap())
    }

    #[test]
    fn each_key_has_its_places_and_gets_them_back() {
        let limit = of(2);
        let first = limit.take("a").unwrap();
        let second = limit.take("a").unwrap();
        assert_eq!((first.under_way(), second.under_way()), (1, 2));
        assert!(limit.take("a").is_none());
        let other = limit.take("b").unwrap();
        assert_eq!(limit.keys(), 2);
        drop(first);
        let third = limit.take("a").unwrap();
        let beyond = limit.take_beyond("a").unwrap();
        assert_eq!(beyond.under_way(), 3);
        drop((second, third, other, beyond));
        assert_eq!(limit.keys(), 0);
        assert!(limit.take("a").is_some());
    }

    #[test]
    fn it_is_exact_over_threads_and_keeps_no_room() {
        let limit = of(3);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let limit = limit.clone();
                thread::spawn(move || {
                    for key in 0..20_000_u32 {
                        let permit = limit.take(key % 3);
                        assert!(permit.is_none_or(|permit| permit.under_way() <= 3));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(limit.keys(), 0);
        let many: Vec<_> = (0..100_000_u32).map(|key| limit.take(key).unwrap()).collect();
        assert_eq!(limit.keys(), 100_000);
        drop(many);
        let room: usize = limit.0.shards.iter().map(|shard| lock(shard).capacity()).sum();
        assert!(room <= SHARDS * ROOM_KEPT, "{room}");
    }
}

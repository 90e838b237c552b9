//! What an endpoint has said, for all workers. It is bounded in number and in bytes: two halves, of which the older
//! goes as a whole when the younger is full; what is asked for moves to the younger one.

use std::collections::HashMap;

use weft_kernel::Tick;

use super::Known;
use crate::credential::{ByDigest, Digest};

/// The most entries of one half, and the most bytes of the answers that they come from.
const HALF_MAX: usize = 8192;
const HALF_BYTES_MAX: usize = 8 << 20;

#[derive(Clone)]
struct Entry {
    known: Known,
    until: Tick,
    bytes: usize,
}

#[derive(Default)]
pub(super) struct Memory {
    young: HashMap<Digest, Entry, ByDigest>,
    old: HashMap<Digest, Entry, ByDigest>,
    young_bytes: usize,
}

impl Memory {
    pub(super) fn put(&mut self, digest: Digest, known: Known, until: Tick, bytes: usize) {
        self.insert(digest, Entry { known, until, bytes });
    }

    /// What is known still.
    pub(super) fn find(&mut self, digest: &Digest, now: Tick) -> Option<Known> {
        if let Some(found) = self.young.get(digest) {
            return Some(&found.known).filter(|_| now < found.until).cloned();
        }
        let found = self.old.remove(digest).filter(|found| now < found.until)?;
        let known = found.known.clone();
        self.insert(*digest, found);
        Some(known)
    }

    fn insert(&mut self, digest: Digest, entry: Entry) {
        let full = self.young.len() >= HALF_MAX || self.young_bytes > HALF_BYTES_MAX;
        if full && !self.young.contains_key(&digest) {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += entry.bytes;
        if let Some(before) = self.young.insert(digest, entry) {
            self.young_bytes -= before.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    #[test]
    fn it_is_bounded_forgets_in_time_and_keeps_what_is_asked_for() {
        let of = |number: usize| Digest::of_token(&number.to_le_bytes());
        let active = || Known::Active(Arc::default(), Tick::NEVER);
        let mut memory = Memory::default();
        let (now, late) = (Tick::ZERO, Tick::ZERO.plus(Duration::from_secs(9)));
        memory.put(of(0), active(), late, 10);
        for number in 1..=HALF_MAX * 4 {
            memory.put(of(number), Known::Inactive, late, 0);
            assert!(number % 1000 != 0 || memory.find(&of(0), now).is_some(), "{number}");
        }
        assert!(memory.find(&of(1), now).is_none(), "nobody asked for it");
        assert!(memory.young.len() + memory.old.len() <= 2 * HALF_MAX);
        assert!(memory.find(&of(0), late).is_none(), "its time is over");
        for number in 0..2_000 {
            memory.put(of(number), active(), late, 32 << 10);
            // One that is put again counts once.
            memory.put(of(number), active(), late, 32 << 10);
        }
        let held = memory.young.values().chain(memory.old.values()).map(|entry| entry.bytes);
        assert!(held.sum::<usize>() <= 2 * HALF_BYTES_MAX + (64 << 10));
    }
}

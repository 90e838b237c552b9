//! What was answered, for all workers. It is bounded in number and in bytes: two halves, of which the older goes as a
//! whole when the younger is full; what is asked for moves to the younger one.

use std::collections::HashMap;

use weft_kernel::Tick;

use super::Known;
use crate::credential::{ByDigest, Digest};

/// The most entries of one half, and the most bytes of the answers that they come from.
const HALF_MAX: usize = 8192;
const HALF_BYTES_MAX: usize = 8 << 20;

#[derive(Clone)]
pub(super) struct Entry<A> {
    /// What was said; `None` if it could not be said.
    pub(super) answer: Option<A>,
    pub(super) renew: Tick,
    pub(super) until: Tick,
    pub(super) bytes: usize,
}

impl<A: Clone> Entry<A> {
    fn known(&self, now: Tick) -> Option<Known<A>> {
        if now >= self.until {
            return None;
        }
        Some(match self.answer.clone() {
            None => Known::Failed,
            Some(answer) if now >= self.renew => Known::Old(answer),
            Some(answer) => Known::Said(answer),
        })
    }
}

type Half<A> = HashMap<Digest, Entry<A>, ByDigest>;

pub(super) struct Memory<A> {
    young: Half<A>,
    old: Half<A>,
    young_bytes: usize,
}

impl<A> Default for Memory<A> {
    fn default() -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), young_bytes: 0 }
    }
}

impl<A: Clone> Memory<A> {
    /// What is known still.
    pub(super) fn find(&mut self, digest: &Digest, now: Tick) -> Option<Known<A>> {
        if let Some(found) = self.young.get(digest) {
            return found.known(now);
        }
        let found = self.old.remove(digest)?;
        let known = found.known(now)?;
        self.put(*digest, found);
        Some(known)
    }

    pub(super) fn put(&mut self, digest: Digest, entry: Entry<A>) {
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

    /// Has an answer that counts still be renewed no sooner than then; `false` if there is none.
    pub(super) fn postpone(&mut self, digest: &Digest, renew: Tick, now: Tick) -> bool {
        let mut both = [&mut self.young, &mut self.old].into_iter();
        let found = both.find_map(|half| half.get_mut(digest));
        match found.filter(|found| found.answer.is_some() && now < found.until) {
            Some(found) => {
                found.renew = renew;
                true
            }
            None => false,
        }
    }

    pub(super) fn remove(&mut self, digest: &Digest) {
        if let Some(gone) = self.young.remove(digest) {
            self.young_bytes -= gone.bytes;
        }
        self.old.remove(digest);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn of(number: usize) -> Digest {
        Digest::of_opaque("test", &number.to_le_bytes())
    }

    fn entry(seconds: u64, bytes: usize) -> Entry<&'static str> {
        let until = Tick::ZERO.plus(Duration::from_secs(seconds));
        Entry { answer: Some("so"), renew: until, until, bytes }
    }

    #[test]
    fn it_is_bounded_forgets_in_time_and_keeps_what_is_asked_for() {
        let mut memory = Memory::default();
        let (now, late) = (Tick::ZERO, Tick::ZERO.plus(Duration::from_secs(9)));
        memory.put(of(0), entry(9, 10));
        for number in 1..=HALF_MAX * 4 {
            memory.put(of(number), entry(9, 0));
            assert!(number % 1000 != 0 || memory.find(&of(0), now).is_some(), "{number}");
        }
        assert!(memory.find(&of(1), now).is_none(), "nobody asked for it");
        assert!(memory.young.len() + memory.old.len() <= 2 * HALF_MAX);
        assert!(memory.find(&of(0), late).is_none(), "its time is over");
        for number in 0..2_000 {
            memory.put(of(number), entry(9, 32 << 10));
            // One that is put again counts once.
            memory.put(of(number), entry(9, 32 << 10));
        }
        let held = memory.young.values().chain(memory.old.values()).map(|entry| entry.bytes);
        assert!(held.sum::<usize>() <= 2 * HALF_BYTES_MAX + (64 << 10));
        for number in 0..2_000 {
            memory.remove(&of(number));
        }
        assert_eq!(memory.young_bytes, 0);
    }

    #[test]
    fn an_answer_grows_old_before_its_end_and_a_failure_leaves_it() {
        let at = |seconds| Tick::ZERO.plus(Duration::from_secs(seconds));
        let mut memory = Memory::default();
        memory.put(of(0), Entry { renew: at(5), ..entry(9, 0) });
        assert_eq!(memory.find(&of(0), at(4)), Some(Known::Said("so")));
        assert_eq!(memory.find(&of(0), at(5)), Some(Known::Old("so")));
        assert!(memory.postpone(&of(0), at(7), at(5)));
        assert_eq!(memory.find(&of(0), at(6)), Some(Known::Said("so")));
        assert!(!memory.postpone(&of(0), at(12), at(9)), "its time is over");
        assert!(!memory.postpone(&of(1), at(12), at(5)), "nothing was said");
        memory.put(of(1), Entry { answer: None, ..entry(9, 0) });
        assert_eq!(memory.find(&of(1), at(6)), Some(Known::Failed));
        assert!(!memory.postpone(&of(1), at(12), at(6)), "a failure is no answer");
    }
}

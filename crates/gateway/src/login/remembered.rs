//! Things that count once: refresh tokens that were used, logout tokens that came, warnings that were given.
//!
//! Each is remembered by its digest for a time of its own. The memory is of this node, and bounded: when it is full,
//! the oldest goes.

use std::collections::{HashMap, VecDeque};

use crate::credential::{ByDigest, Digest};

/// The most that is remembered.
const REMEMBERED_MAX: usize = 65_536;

/// What was once, each with the second at which that may be forgotten.
#[derive(Default)]
pub(super) struct Remembered {
    until: HashMap<Digest, i64, ByDigest>,
    /// In the order in which they came.
    order: VecDeque<(Digest, i64)>,
}

impl Remembered {
    /// Remembers it until then; whether it is new.
    pub(super) fn insert(&mut self, what: Digest, now: i64, until: i64) -> bool {
        while let Some((oldest, over)) = self.order.front().copied() {
            if over > now && self.order.len() < REMEMBERED_MAX {
                break;
            }
            self.order.pop_front();
            // One that came again since stands further behind, too.
            if self.until.get(&oldest) == Some(&over) {
                self.until.remove(&oldest);
            }
        }
        if self.has(&what, now) {
            return false;
        }
        self.until.insert(what, until);
        self.order.push_back((what, until));
        true
    }

    /// Whether it was.
    pub(super) fn has(&self, what: &Digest, now: i64) -> bool {
        self.until.get(what).is_some_and(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_counts_once_in_its_time_and_memory_is_bounded() {
        let (mut remembered, of) =
            (Remembered::default(), |name: &str| Digest::of_session("jti", name));
        assert!(remembered.insert(of("a"), 10, 20));
        assert!(!remembered.insert(of("a"), 19, 30), "it was there");
        assert!(remembered.has(&of("a"), 19) && !remembered.has(&of("b"), 19));
        assert!(!remembered.has(&of("a"), 20) && remembered.insert(of("a"), 20, 30));
        for number in 0..REMEMBERED_MAX + 10 {
            assert!(remembered.insert(of(&number.to_string()), 21, 100));
        }
        assert!(remembered.until.len() <= REMEMBERED_MAX);
        assert!(remembered.order.len() <= REMEMBERED_MAX);
        assert!(remembered.has(&of("65540"), 22) && !remembered.has(&of("a"), 22));
        assert!(remembered.insert(of("last"), 100, 200));
        assert_eq!((remembered.until.len(), remembered.order.len()), (1, 1));
    }
}

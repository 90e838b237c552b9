//! Nonces that were shown, for as long as their signatures are good, so that none is taken twice.
//!
//! There is a bounded memory for each key, shared by all workers: a client that signs without end fills its own and
//! nobody else's. While it is full, signatures of that key are refused, since it could not be told whether one comes
//! again.

use std::collections::HashMap;

use parking_lot::Mutex;
use weft_kernel::Name;

use crate::credential::{ByDigest, Digest};

/// The most nonces of a key that are remembered.
const NONCES_MAX: usize = 65_536;

/// What is remembered of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce {
    pub(super) key: Name,
    pub(super) digest: Digest,
    /// The last second at which its signature is good.
    pub(super) until: i64,
}

/// Whether a nonce may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// It was used now, for the first time.
    Now,
    /// It was used before.
    Before,
    /// It cannot be said, since too many are remembered.
    Unknown,
}

/// Nonces of all keys.
#[derive(Debug, Default)]
pub struct Nonces(Mutex<HashMap<Name, Shown>>);

#[derive(Debug, Default)]
struct Shown {
    until: HashMap<Digest, i64, ByDigest>,
    /// The second at which those that are over were last taken out.
    swept: i64,
}

impl Nonces {
    /// Uses a nonce.
    pub fn spend(&self, nonce: &Nonce, now: i64) -> Used {
        let mut all = self.0.lock();
        let of = all.entry(nonce.key.clone()).or_default();
        if of.until.len() >= NONCES_MAX && of.swept < now {
            of.swept = now;
            of.until.retain(|_, until| *until >= now);
        }
        if of.until.get(&nonce.digest).is_some_and(|until| *until >= now) {
            return Used::Before;
        }
        if of.until.len() >= NONCES_MAX {
            return Used::Unknown;
        }
        of.until.insert(nonce.digest, nonce.until);
        Used::Now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::name;

    #[test]
    fn a_nonce_is_used_once_in_its_time_and_memory_is_bounded() {
        let nonces = Nonces::default();
        let of = |key: &str, number: usize, until| Nonce {
            key: name(key),
            digest: Digest::of_nonce(key, &number.to_string()),
            until,
        };
        assert_eq!(nonces.spend(&of("a", 0, 10), 5), Used::Now);
        assert_eq!(nonces.spend(&of("a", 0, 10), 10), Used::Before);
        assert_eq!(nonces.spend(&of("b", 0, 10), 5), Used::Now);
        assert_eq!(nonces.spend(&of("a", 0, 30), 11), Used::Now, "its time was over");
        for number in 1..NONCES_MAX {
            assert_eq!(nonces.spend(&of("a", number, 20), 12), Used::Now);
        }
        assert_eq!(nonces.spend(&of("a", NONCES_MAX, 20), 12), Used::Unknown);
        assert_eq!(nonces.spend(&of("b", NONCES_MAX, 20), 12), Used::Now, "another key");
        assert_eq!(nonces.spend(&of("a", NONCES_MAX, 40), 21), Used::Now, "old ones have gone");
        assert_eq!(nonces.spend(&of("a", 0, 30), 21), Used::Before);
    }
}

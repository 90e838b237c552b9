//! What a worker remembers of tokens that it has verified, so that a client that shows the same token again
//! costs a look and not a signature.
//!
//! Each worker has its own, without a lock. It is bounded: two halves, of which the older goes as a whole when the
//! younger is full; what is asked for moves to the younger one. Whatever may change a decision, a reload or other
//! keys, changes the generation, and all is forgotten; the time of a token is looked at each time.
//!
//! A signed token is known by itself, byte by byte, so that none is taken for another; one that its issuer was asked
//! about by its digest, which that question has.

use std::{
    borrow::Borrow,
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
};

use weft_identity::token::Claims;
use weft_kernel::Tick;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    consumer::Consumer,
    credential::{ByDigest, Digest},
    issuer::Issuer,
};

/// The most decisions of one half.
const HALF_MAX: usize = 1024;
/// The longest token that is remembered: its claims are.
pub(crate) const TOKEN_BYTES_MAX: usize = 4096;

/// A token that was verified.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) claims: Arc<Claims>,
    pub(crate) consumer: Option<Consumer>,
    /// Whether it is for an audience of its issuer, or that has none.
    pub(crate) is_for_issuer: bool,
    /// When it must be decided anew.
    pub(crate) until: Tick,
}

impl Verified {
    pub(crate) fn new(
        issuer: Arc<Issuer>,
        claims: Arc<Claims>,
        consumer: Option<Consumer>,
        until: Tick,
    ) -> Self {
        let audiences = issuer.audiences.as_deref();
        let is_for_issuer =
            audiences.is_none_or(|all| all.is_empty() || all.iter().any(|one| claims.is_for(one)));
        Self { issuer, claims, consumer, is_for_issuer, until }
    }
}

struct Decisions<K, S> {
    generation: u64,
    young: HashMap<K, Arc<Verified>, S>,
    old: HashMap<K, Arc<Verified>, S>,
}

impl<K, S: Default> Default for Decisions<K, S> {
    fn default() -> Self {
        Self { generation: 0, young: HashMap::default(), old: HashMap::default() }
    }
}

/// Hashes tokens in one go. None is remembered that was not verified, so nobody can choose what stands here.
#[derive(Clone, Copy, Debug, Default)]
struct ByToken(u64);

impl BuildHasher for ByToken {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

impl Hasher for ByToken {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_usize(&mut self, number: usize) {
        self.0 ^= number as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

thread_local! {
    static SIGNED: RefCell<Decisions<Box<[u8]>, ByToken>> = RefCell::default();
    static OPAQUE: RefCell<Decisions<Digest, ByDigest>> = RefCell::default();
}

impl<K: Hash + Eq, S: BuildHasher + Default> Decisions<K, S> {
    fn of(&mut self, generation: u64) -> &mut Self {
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
        self
    }

    fn put(&mut self, key: K, verified: Arc<Verified>) {
        if self.young.len() >= HALF_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, verified);
    }

    fn find<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<Arc<Verified>>
    where
        K: Borrow<Q>,
    {
        if let Some(found) = self.young.get(key) {
            return Some(Arc::clone(found));
        }
        let (key, found) = self.old.remove_entry(key)?;
        self.put(key, Arc::clone(&found));
        Some(found)
    }
}

/// What this worker has decided of a signed token.
pub(crate) fn find(generation: u64, token: &[u8]) -> Option<Arc<Verified>> {
    SIGNED.with_borrow_mut(|decisions| decisions.of(generation).find(token))
}

/// Has this worker remember it, unless it is too long.
pub(crate) fn put(generation: u64, token: &[u8], verified: Arc<Verified>) {
    if token.len() <= TOKEN_BYTES_MAX {
        SIGNED.with_borrow_mut(|decisions| decisions.of(generation).put(token.into(), verified));
    }
}

/// What this worker has decided of a token that its issuer was asked about.
pub(crate) fn find_opaque(generation: u64, digest: &Digest) -> Option<Arc<Verified>> {
    OPAQUE.with_borrow_mut(|decisions| decisions.of(generation).find(digest))
}

/// Has this worker remember it.
pub(crate) fn put_opaque(generation: u64, digest: Digest, verified: Arc<Verified>) {
    OPAQUE.with_borrow_mut(|decisions| decisions.of(generation).put(digest, verified));
}

#[cfg(test)]
mod tests {
    use weft_identity::token::{KeySet, Rules};

    use super::*;
    use crate::{fixture::name, issuer::Keys};

    fn verified() -> Arc<Verified> {
        let issuer = Issuer {
            name: name("corp"),
            rules: Rules::default(),
            audiences: None,
            keys: Some(Keys::Fixed(Arc::new(KeySet::default()))),
            introspection: None,
            consumer_claim: None,
            consumers: Box::default(),
        };
        let (issuer, until) = (Arc::new(issuer), Tick::NEVER);
        Arc::new(Verified::new(issuer, Arc::default(), None, until))
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_asked_for() {
        let (one, of) = (verified(), |number: usize| number.to_le_bytes());
        put(7, &of(0), Arc::clone(&one));
        for number in 1..=HALF_MAX * 5 {
            put(7, &of(number), Arc::clone(&one));
            assert!(number % 100 != 0 || find(7, &of(0)).is_some(), "{number}");
        }
        assert!(find(7, &of(1)).is_none() && find(7, &of(HALF_MAX * 5)).is_some());
        let held = SIGNED.with_borrow(|all| all.young.len() + all.old.len());
        assert!(held <= 2 * HALF_MAX, "{held}");
        put(7, &[7; TOKEN_BYTES_MAX + 1], Arc::clone(&one));
        assert!(find(7, &[7; TOKEN_BYTES_MAX + 1]).is_none(), "it is too long");
        assert!(find(8, &of(0)).is_none(), "another generation");
        assert!(find(7, &of(0)).is_none(), "and that is forgotten");
        let digest = Digest::of_opaque("corp", b"token");
        put_opaque(7, digest, one);
        assert!(find_opaque(7, &digest).is_some() && find_opaque(8, &digest).is_none());
    }
}

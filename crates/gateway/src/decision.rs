//! What a worker remembers of tokens that it has verified, so that a client that shows the same token again
//! costs a digest and not a signature.
//!
//! Each worker has its own, without a lock. It is bounded: two halves, of which the older goes as a whole when the
//! younger is full; what is asked for moves to the younger one. Whatever may change a decision, a reload or other
//! keys, changes the generation, and all is forgotten; the time of a token is looked at each time.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use weft_identity::token::Claims;
use weft_kernel::Tick;

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
    /// When it must be decided anew.
    pub(crate) until: Tick,
}

type Half = HashMap<Digest, Arc<Verified>, ByDigest>;

#[derive(Default)]
struct Decisions {
    generation: u64,
    young: Half,
    old: Half,
}

thread_local! {
    static DECISIONS: RefCell<Decisions> = RefCell::default();
}

impl Decisions {
    fn of(&mut self, generation: u64) -> &mut Self {
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
        self
    }

    fn put(&mut self, digest: Digest, verified: Arc<Verified>) {
        if self.young.len() >= HALF_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, verified);
    }

    fn find(&mut self, digest: &Digest) -> Option<Arc<Verified>> {
        if let Some(found) = self.young.get(digest) {
            return Some(Arc::clone(found));
        }
        let found = self.old.remove(digest)?;
        self.put(*digest, Arc::clone(&found));
        Some(found)
    }
}

/// What this worker has decided of a token.
pub(crate) fn find(generation: u64, digest: &Digest) -> Option<Arc<Verified>> {
    DECISIONS.with_borrow_mut(|decisions| decisions.of(generation).find(digest))
}

/// Has this worker remember it.
pub(crate) fn put(generation: u64, digest: Digest, verified: Arc<Verified>) {
    DECISIONS.with_borrow_mut(|decisions| decisions.of(generation).put(digest, verified));
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
        Arc::new(Verified { issuer, claims: Arc::default(), consumer: None, until })
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_asked_for() {
        let (one, of) = (verified(), |number: usize| Digest::of_token(&number.to_le_bytes()));
        put(7, of(0), Arc::clone(&one));
        for number in 1..=HALF_MAX * 5 {
            put(7, of(number), Arc::clone(&one));
            assert!(number % 100 != 0 || find(7, &of(0)).is_some(), "{number}");
        }
        assert!(find(7, &of(1)).is_none() && find(7, &of(HALF_MAX * 5)).is_some());
        let held = DECISIONS.with_borrow(|all| all.young.len() + all.old.len());
        assert!(held <= 2 * HALF_MAX, "{held}");
        assert!(find(8, &of(0)).is_none(), "another generation");
        assert!(find(7, &of(0)).is_none(), "and that is forgotten");
    }
}

//! Places of requests with keys: how many a node has in hand at once, and how many bytes of theirs.
//!
//! A request takes a place before anything of its body is read, and has it, whether it gathers its body, waits,
//! is carried out, or is answered faster than its client reads, until its answer has been taken. Bytes are
//! counted before they are kept. An owner, which is a consumer on a route, may have as much as is free beside
//! it (the dynamic threshold of Choudhury and Hahne): one alone gets half of all, each of `n` gets one part of
//! `n + 1`, and so nobody takes the last place from who has none.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use weft_kernel::{Error, Reason, Result, Retry};

/// The most requests of all owners.
const PLACES_MAX: usize = 8192;
/// The most bytes of all owners.
const BYTES_MAX: usize = 256 << 20;
/// About what a piece of a body takes beside its bytes.
const PIECE_BYTES: usize = 64;

/// What is taken, of all or by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    places: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Shares {
    all: Share,
    owners: HashMap<Arc<[u8]>, Share>,
}

/// The places of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<Shares>>);

fn overload(of: &str) -> Error {
    let say = format!("too many {of} with idempotency keys are in hand");
    Error::new(Reason::Overload, say).retry(Retry::After(Duration::from_secs(1)))
}

impl Places {
    /// A place for a request of an owner.
    ///
    /// # Errors
    /// [`Reason::Overload`] if the owner has as many as are free.
    pub(super) fn take(&self, owner: &[u8]) -> Result<Place> {
        let mut shares = self.0.lock();
        let free = PLACES_MAX.saturating_sub(shares.all.places);
        let has = shares.owners.get(owner).map_or(0, |share| share.places);
        if has >= free {
            return Err(overload("requests"));
        }
        let owner: Arc<[u8]> = match shares.owners.get_key_value(owner) {
            Some((owner, _)) => Arc::clone(owner),
            None => owner.into(),
        };
        shares.all.places += 1;
        shares.owners.entry(Arc::clone(&owner)).or_default().places += 1;
        drop(shares);
        Ok(Place { places: self.clone(), owner, bytes: 0 })
    }
}

/// A place of a request, and the bytes that are kept for it.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    owner: Arc<[u8]>,
    bytes: usize,
}

impl Place {
    /// Counts a piece of so many bytes that is about to be kept.
    ///
    /// # Errors
    /// [`Reason::Overload`] if the owner has as much as is free.
    pub(super) fn keep(&mut self, bytes: usize) -> Result<()> {
        let bytes = bytes + PIECE_BYTES;
        let mut shares = self.places.0.lock();
        let free = BYTES_MAX.saturating_sub(shares.all.bytes);
        let Some(share) = shares.owners.get_mut(&self.owner) else { return Ok(()) };
        if share.bytes + bytes > free {
            return Err(overload("bytes of requests"));
        }
        share.bytes += bytes;
        shares.all.bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Nothing is kept for it any more.
    pub(super) fn let_go(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut shares = self.places.0.lock();
        shares.all.bytes -= bytes;
        if let Some(share) = shares.owners.get_mut(&self.owner) {
            share.bytes -= bytes;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.let_go();
        let mut shares = self.places.0.lock();
        shares.all.places -= 1;
        if let Some(share) = shares.owners.get_mut(&self.owner) {
            share.places -= 1;
            if share.places == 0 {
                shares.owners.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_takes_all_it_can_leaves_half_and_is_given_back_all() {
        let places = Places::default();
        let take = |owner: &str| places.take(owner.as_bytes());
        let hog: Vec<_> = std::iter::from_fn(|| take("hog").ok()).collect();
        assert_eq!(hog.len(), PLACES_MAX / 2);
        let other: Vec<_> = std::iter::from_fn(|| take("other").ok()).collect();
        assert_eq!(other.len(), PLACES_MAX / 4);
        assert!(take("third").is_ok(), "who has none is given one");
        assert_eq!(take("hog").err().map(|error| error.reason()), Some(Reason::Overload));
        drop((hog, other));
        let shares = places.0.lock();
        assert_eq!((shares.all, shares.owners.len()), (Share::default(), 0));
    }

    #[test]
    fn bytes_are_counted_before_they_are_kept() {
        let places = Places::default();
        let mut hog = places.take(b"hog").unwrap();
        let mut kept = 0;
        while hog.keep(1 << 20).is_ok() {
            kept += 1;
        }
        assert_eq!(kept, 128, "half of 256 MiB");
        let mut other = places.take(b"other").unwrap();
        other.keep(40 << 20).unwrap();
        assert_eq!(other.keep(60 << 20).map_err(|error| error.reason()), Err(Reason::Overload));
        hog.let_go();
        other.keep(60 << 20).unwrap();
        drop((hog, other));
        assert_eq!(places.0.lock().all, Share::default());
    }
}

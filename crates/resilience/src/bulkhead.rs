//! A bulkhead: at most so many calls at once, a bounded queue in which others wait their turn for a
//! bounded time, and a refusal for the rest, so that one slow service cannot take all there is.
//!
//! Places go to those who wait in the order in which they came, whichever thread they are on, and
//! nobody who comes later slips past them. A wait that is dropped leaves the queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many calls at once, and how many wait.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Calls at once.
    pub in_flight_max: usize,
    /// Calls that wait for a place; 0 refuses at once what finds none.
    pub queue_max: usize,
    /// How long a call waits at most.
    pub queue_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { in_flight_max: 1_024, queue_max: 1_024, queue_timeout: Duration::from_secs(1) }
    }
}

/// A call that found no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// All places are taken, and so is the queue.
    #[error("the bulkhead is full, and so is its queue")]
    Full,
    /// It waited as long as it may.
    #[error("the bulkhead had no place in time")]
    TimedOut,
}

/// A bulkhead, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Calls under way.
    pub in_flight: usize,
    /// Calls that wait.
    pub queued: usize,
    /// Calls refused because the queue was full.
    pub full: u64,
    /// Calls that waited too long.
    pub timed_out: u64,
}

/// A bulkhead that all threads share; a clone is a handle to the same.
///
/// ```
/// use weft_resilience::bulkhead::{Bulkhead, Options, Refused};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Refused> {
/// let bulkhead = Bulkhead::new(Options { in_flight_max: 1, queue_max: 0, ..Options::default() });
/// let permit = bulkhead.acquire(None).await?;
/// assert_eq!(bulkhead.acquire(None).await.err(), Some(Refused::Full));
/// drop(permit);
/// assert!(bulkhead.try_acquire().is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Bulkhead(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Options,
    places: Arc<Semaphore>,
    queued: AtomicUsize,
    full: AtomicU64,
    timed_out: AtomicU64,
}

/// A place in the bulkhead; dropping it gives the place to the next.
#[derive(Debug)]
#[must_use = "dropped, it lets the next call in"]
pub struct Permit {
    _place: OwnedSemaphorePermit,
}

/// Counts a call that waits, until it is dropped.
struct Waiting<'a>(&'a Inner);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, AcqRel);
    }
}

impl Bulkhead {
    /// An empty bulkhead; it has at least one place.
    pub fn new(options: Options) -> Self {
        let places = options.in_flight_max.clamp(1, Semaphore::MAX_PERMITS);
        let options = Options { in_flight_max: places, ..options };
        Self(Arc::new(Inner {
            places: Arc::new(Semaphore::new(places)),
            queued: AtomicUsize::new(0),
            full: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            options,
        }))
    }

    /// Takes a place if one is free now.
    pub fn try_acquire(&self) -> Result<Permit, Refused> {
        self.take().ok_or_else(|| {
            self.0.full.fetch_add(1, Relaxed);
            Refused::Full
        })
    }

    /// Takes a place, waiting for it in the queue if need be, and no longer than the queue's timeout
    /// or `deadline`. Cancel-safe: a dropped wait gives up its turn and nothing else.
    pub async fn acquire(&self, deadline: Option<Duration>) -> Result<Permit, Refused> {
        if let Some(permit) = self.take() {
            return Ok(permit);
        }
        let inner = &*self.0;
        let queued = inner.queued.fetch_add(1, AcqRel);
        let waiting = Waiting(inner);
        if queued >= inner.options.queue_max {
            inner.full.fetch_add(1, Relaxed);
            return Err(Refused::Full);
        }
        let longest = inner.options.queue_timeout;
        let longest = deadline.map_or(longest, |deadline| deadline.min(longest));
        let place = tokio::time::timeout(longest, inner.places.clone().acquire_owned()).await;
        drop(waiting);
        match place {
            Ok(Ok(place)) => Ok(Permit { _place: place }),
            // The semaphore is never closed, so what is left is that time ran out.
            Ok(Err(_)) | Err(_) => {
                inner.timed_out.fetch_add(1, Relaxed);
                Err(Refused::TimedOut)
            }
        }
    }

    pub(crate) fn take(&self) -> Option<Permit> {
        // A place that is freed while others wait is theirs before it shows here as free.
        let place = Arc::clone(&self.0.places).try_acquire_owned().ok()?;
        Some(Permit { _place: place })
    }

    /// The bulkhead, for people.
    pub fn snapshot(&self) -> Snapshot {
        let inner = &*self.0;
        Snapshot {
            in_flight: inner.options.in_flight_max.saturating_sub(inner.places.available_permits()),
            queued: inner.queued.load(Relaxed),
            full: inner.full.load(Relaxed),
            timed_out: inner.timed_out.load(Relaxed),
        }
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.0.options
    }
}

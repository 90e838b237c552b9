//! Adaptive concurrency: finds out from latency how much a service can do at once, and sheds the
//! rest, the least critical first.
//!
//! Time is cut into rounds. Each compares the mean latency with the baseline, the latency without
//! queues: while it stays within the tolerance the limit may grow, and beyond it the limit follows
//! the gradient `tolerated ÷ latency` down. Tolerated is a multiple of the baseline, and never less
//! than a tenth of a second above it: callers who each wait for their answer before they ask again
//! make a queue at any service that is fully used, which is no reason to refuse them. Growth needs
//! demand: a limit that nobody reaches is not raised.
//!
//! The baseline falls with the latency and never drifts up by itself, or a lasting overload would
//! become the norm. It rises only when less load did not help: in a queue, latency falls as the work
//! in flight does (Little's law), so if it stays the service has become slower and is not congested.
//! That is why no window is needed in which traffic is stopped to measure.
//!
//! The gradient is that of Netflix's concurrency-limits and of Envoy's adaptive concurrency filter.
//! Invariants: the limit stays within `min` and `max`; what is in flight never exceeds it; no lock is
//! ever waited for.

mod control;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed},
    },
    time::Duration,
};

use weft_kernel::Tick;

use self::control::{Control, Round};

/// What a request that was shed is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A round has at least so many outcomes.
const ROUND_SAMPLES_MIN: u64 = 10;

/// How the limit is found.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The least requests in flight that are always let through.
    pub min: u32,
    /// The most requests in flight, whatever the latency.
    pub max: u32,
    /// The limit before anything is known.
    pub initial: u32,
    /// How many times the baseline the mean latency may be; a tenth of a second above it is always
    /// tolerated.
    pub tolerance: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { min: 3, max: 1_000, initial: 1_000, tolerance: 2.0 }
    }
}

/// How much a request matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Criticality {
    /// Shed last: it may use the whole limit.
    Critical,
    /// What is not said to be otherwise: nine tenths of the limit.
    #[default]
    Default,
    /// Shed first: six tenths of the limit.
    Sheddable,
}

impl Criticality {
    /// Every class, the most critical first.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Default, Self::Sheddable];

    /// The stable word for configuration, headers and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Default => "default",
            Self::Sheddable => "sheddable",
        }
    }

    /// How much of a limit requests of this class may fill; at least one.
    pub const fn share(self, limit: u32) -> u32 {
        let tenths = match self {
            Self::Critical => 10,
            Self::Default => 9,
            Self::Sheddable => 6,
        };
        let share = (limit as u64 * tenths).div_ceil(10);
        if share == 0 { 1 } else { share as u32 }
    }
}

/// A request that was not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{in_flight} requests are in flight, and the service can do no more")]
pub struct Shed {
    /// How many requests were in flight.
    pub in_flight: u32,
    /// When it is worth trying again.
    pub retry_after: Duration,
}

/// A limiter, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The limit on requests in flight.
    pub limit: u32,
    /// Requests in flight.
    pub in_flight: u32,
    /// The latency without queues, as far as known.
    pub baseline: Option<Duration>,
    /// Requests shed of each class, in the order of [`Criticality::ALL`].
    pub shed: [u64; 3],
}

/// A limiter that all threads share; a clone is a handle to the same.
///
/// ```
/// use weft_kernel::Tick;
/// use weft_resilience::adaptive::{Criticality, Limiter, Options};
///
/// let limiter = Limiter::new(Options { initial: 10, ..Options::default() });
/// let now = Tick::from_nanos(3_600_000_000_000);
/// let mut held: Vec<_> =
///     (0..6).flat_map(|_| limiter.admit(Criticality::Sheddable, now)).collect();
/// assert!(limiter.admit(Criticality::Sheddable, now).is_err(), "six tenths are taken");
/// held.push(limiter.admit(Criticality::Critical, now)?);
/// assert_eq!(limiter.in_flight(), 7);
/// for permit in held {
///     permit.finish(true, now);
/// }
/// assert_eq!(limiter.in_flight(), 0);
/// # Ok::<(), weft_resilience::adaptive::Shed>(())
/// ```
#[derive(Clone, Debug)]
pub struct Limiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: AtomicU32,
    in_flight: AtomicU32,
    /// The most that were in flight in this round.
    peak: AtomicU32,
    /// Successes of this round: how many (16 bits) and their latencies' sum in microseconds.
    good: AtomicU64,
    /// Failures of this round.
    bad: AtomicU32,
    /// When the round may end.
    end: AtomicU64,
    /// Only tried, never waited for.
    control: Mutex<Control>,
    shed: [AtomicU64; 3],
}

const SUM_BITS: u32 = 48;
const SUM: u64 = (1 << SUM_BITS) - 1;
/// Beyond so many samples a round counts no more, lest their number overflow its bits.
const ROUND_SAMPLES_MAX: u64 = 60_000;

impl Limiter {
    /// A limiter that knows nothing yet.
    pub fn new(options: Options) -> Self {
        let control = Control::new(options);
        Self(Arc::new(Inner {
            limit: AtomicU32::new(control.limit()),
            in_flight: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            good: AtomicU64::new(0),
            bad: AtomicU32::new(0),
            end: AtomicU64::new(0),
            control: Mutex::new(control),
            shed: Default::default(),
        }))
    }

    /// Asks to let a request through.
    pub fn admit(&self, criticality: Criticality, now: Tick) -> Result<Permit, Shed> {
        let inner = &*self.0;
        let share = criticality.share(inner.limit.load(Relaxed));
        let before = inner.in_flight.fetch_add(1, AcqRel);
        if before >= share {
            inner.in_flight.fetch_sub(1, AcqRel);
            inner.shed[criticality as usize].fetch_add(1, Relaxed);
            return Err(Shed { in_flight: before, retry_after: RETRY_AFTER });
        }
        // Read first: a write would take the cache line from every other core.
        if inner.peak.load(Relaxed) <= before {
            inner.peak.fetch_max(before + 1, Relaxed);
        }
        Ok(Permit { limiter: self.clone(), started: now })
    }

    /// The limit on requests in flight.
    pub fn limit(&self) -> u32 {
        self.0.limit.load(Relaxed)
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.0.in_flight.load(Relaxed)
    }

    /// The limiter, for people.
    pub fn snapshot(&self) -> Snapshot {
        let baseline = self.0.control.lock().unwrap_or_else(PoisonError::into_inner).baseline();
        Snapshot {
            limit: self.limit(),
            in_flight: self.in_flight(),
            baseline,
            shed: [0, 1, 2].map(|class| self.0.shed[class].load(Relaxed)),
        }
    }

    fn record(&self, ok: bool, latency: Duration, now: Tick) {
        let inner = &*self.0;
        let seen = inner.good.load(Relaxed) >> SUM_BITS;
        if ok && seen < ROUND_SAMPLES_MAX {
            // A minute bounds what one sample weighs, and with it the sum.
            let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min(60_000_000);
            inner.good.fetch_add(1 << SUM_BITS | micros, AcqRel);
        } else if !ok {
            inner.bad.fetch_add(1, AcqRel);
        }
        let samples = seen + 1 + u64::from(inner.bad.load(Relaxed));
        if samples >= ROUND_SAMPLES_MIN && now.nanos() >= inner.end.load(Relaxed) {
            self.close_round(now);
        }
    }

    #[cold]
    fn close_round(&self, now: Tick) {
        let inner = &*self.0;
        // Whoever comes second finds the round closed, or leaves it to the one who is at it.
        let Ok(mut control) = inner.control.try_lock() else {
            return;
        };
        if now.nanos() < inner.end.load(Acquire) {
            return;
        }
        let good = inner.good.swap(0, AcqRel);
        let round = Round {
            good: good >> SUM_BITS,
            latencies: Duration::from_micros(good & SUM),
            bad: u64::from(inner.bad.swap(0, AcqRel)),
            peak: inner.peak.swap(inner.in_flight.load(Relaxed), AcqRel),
        };
        let end = control.close(&round, now);
        inner.limit.store(control.limit(), Relaxed);
        inner.end.store(end.nanos(), Relaxed);
    }
}

/// The permission of one request to be in flight. Dropped without an outcome, it says nothing about
/// the service.
#[derive(Debug)]
#[must_use = "dropped, it lets the next request through"]
pub struct Permit {
    limiter: Limiter,
    started: Tick,
}

impl Permit {
    /// Tells how the service answered, once: `ok` if its latency says how the service is, `false` if
    /// the service showed that it is overloaded (a timeout, 503, 429). Any other failure says nothing.
    /// The request stays in flight: how long a client takes to read an answer, or a stream lasts, is no
    /// latency of the service, but it keeps its place.
    ///
    /// The latency is the caller's to say, since what waited in a queue of its own before it was sent is
    /// no fault of the service.
    pub fn record(&self, ok: bool, latency: Duration, now: Tick) {
        self.limiter.record(ok, latency, now);
    }

    /// Tells how the service answered since the request was let through, and ends the request.
    pub fn finish(self, ok: bool, now: Tick) {
        self.record(ok, now.since(self.started), now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.0.in_flight.fetch_sub(1, AcqRel);
    }
}

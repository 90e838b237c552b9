//! The breaker of one endpoint: takes it out of the balancer while it fails, and probes it back in.
//!
//! It trips for one of three reasons: no connection came to stand, so many failures in a row, or too
//! small a share of successes among enough samples in a window of ten exact buckets. What cannot be
//! connected to cannot be used by anybody, so that one sign is enough; but it may only be restarting,
//! so it is probed again soon. For the other reasons it is out for an exponentially
//! growing, jittered time, after which exactly one request may probe it: success restores the
//! endpoint with a clean record, failure sends it out for longer. An endpoint that is out is simply
//! not ready to the balancer, which flows around it; how much of a service may be out at once is the
//! balancer's business. The semantics are those of linkerd2-proxy's unified breaker.
//!
//! Invariants: one word holds the state and every change is one compare-and-swap, so that a trip, a
//! probe and a recovery each have one winner; a success never ejects; no lock, no allocation.

use std::{
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    time::Duration,
};

use weft_kernel::{Rng, Tick};

use crate::ring::Counts;

/// How long a probe may stay unanswered before another is allowed; the default request deadline.
pub const PROBE_LEASE: Duration = Duration::from_secs(15);

/// When an endpoint is ejected, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Failures in a row that eject; 0 never does.
    pub consecutive: u32,
    /// The window of the success ratio (at least 10 ms).
    pub window: Duration,
    /// Below so many samples in the window the ratio says nothing.
    pub samples_min: u32,
    /// The share of successes below which the endpoint is ejected; 0 never does.
    pub success_ratio_min: f64,
    /// How long the first ejection lasts.
    pub base: Duration,
    /// How long the longest lasts; each failed probe doubles the time up to this.
    pub max: Duration,
    /// Up to this share is taken off each time at random, so that proxies do not probe together.
    pub jitter: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            consecutive: 5,
            window: Duration::from_secs(30),
            samples_min: 20,
            success_ratio_min: 0.5,
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
            jitter: 0.5,
        }
    }
}

/// How a request to the endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Ok,
    /// The endpoint failed: a reset, a timeout, a 5xx.
    Failed,
    /// No connection to the endpoint came to stand.
    Unreachable,
    /// The endpoint turned it away (429, RESOURCE_EXHAUSTED): it is alive but full, so this counts
    /// against the ratio and not in a row; on a probe it keeps the endpoint out.
    Limited,
}

impl From<bool> for Outcome {
    fn from(ok: bool) -> Self {
        if ok { Self::Ok } else { Self::Failed }
    }
}

/// Whether an endpoint may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Yes.
    Ready,
    /// By one request, which must win [`Ejection::take_probe`] first.
    Probe,
    /// No.
    Out {
        /// When it is worth asking again; [`Tick::NEVER`] while it is held out by hand.
        until: Tick,
    },
}

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No connection came to stand.
    Unreachable,
    /// Failures in a row.
    Consecutive,
    /// Too small a share of successes.
    SuccessRatio,
    /// The probe failed.
    Probe,
}

impl Reason {
    /// The stable word for logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Consecutive => "consecutive",
            Self::SuccessRatio => "success_ratio",
            Self::Probe => "probe",
        }
    }
}

/// What a recorded outcome has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The endpoint is out.
    Ejected {
        /// Why.
        reason: Reason,
        /// When it may be probed.
        until: Tick,
    },
    /// The endpoint is back.
    Restored,
}

/// An override by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// Never used.
    Out,
    /// Used whatever its record.
    In,
}

/// The endpoint's record, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Whether it may be used.
    pub availability: Availability,
    /// The override, if there is one.
    pub forced: Option<Forced>,
    /// Failures in a row just now.
    pub consecutive: u32,
    /// Samples in the window.
    pub samples: u64,
    /// The share of successes among them; `None` without samples.
    pub success_ratio: Option<f64>,
    /// How often it was ejected since it is known, failed probes included.
    pub ejections: u64,
}

/// How long an endpoint is out the first time that it cannot be connected to.
pub const UNREACHABLE_BASE: Duration = Duration::from_millis(100);
/// How long it is out at most, doubling each time.
pub const UNREACHABLE_MAX: Duration = Duration::from_secs(10);

const NANOS: u64 = u64::MAX >> 2;
const READY: u64 = 0;
const OUT: u64 = 1 << 62;
const PROBING: u64 = 2 << 62;

/// The record of one endpoint, shared by all threads without a lock.
///
/// ```
/// use weft_kernel::{Rng, Tick};
/// use weft_resilience::ejection::{Availability, Change, Ejection, Options};
///
/// let (endpoint, mut rng) = (Ejection::new(Options::default()), Rng::seeded(1));
/// let now = Tick::from_nanos(3_600_000_000_000);
/// for _ in 0..4 {
///     assert_eq!(endpoint.record(false, now, &mut rng), None);
/// }
/// let Some(Change::Ejected { until, .. }) = endpoint.record(false, now, &mut rng) else {
///     panic!("five failures in a row eject");
/// };
/// assert_eq!(endpoint.available(now), Availability::Out { until });
///
/// // Later, one request probes it.
/// assert_eq!(endpoint.available(until), Availability::Probe);
/// assert!(endpoint.take_probe(until) && !endpoint.take_probe(until));
/// assert_eq!(endpoint.record(true, until, &mut rng), Some(Change::Restored));
/// assert_eq!(endpoint.available(until), Availability::Ready);
/// ```
#[derive(Debug)]
pub struct Ejection {
    options: Options,
    /// Two bits of kind, and the tick at which a probe is allowed.
    word: AtomicU64,
    forced: AtomicU8,
    consecutive: AtomicU32,
    /// Ejections since it was last well, for the time that the next one lasts.
    row: AtomicU32,
    /// How often in a row it could not be connected to.
    unreached: AtomicU32,
    ejections: AtomicU64,
    counts: Counts,
}

impl Ejection {
    /// An endpoint with a clean record.
    pub fn new(options: Options) -> Self {
        Self {
            word: AtomicU64::new(READY),
            forced: AtomicU8::new(0),
            consecutive: AtomicU32::new(0),
            row: AtomicU32::new(0),
            unreached: AtomicU32::new(0),
            ejections: AtomicU64::new(0),
            counts: Counts::new(options.window),
            options,
        }
    }

    /// Whether the endpoint may be used now.
    pub fn available(&self, now: Tick) -> Availability {
        match self.forced() {
            Some(Forced::Out) => return Availability::Out { until: Tick::NEVER },
            Some(Forced::In) => return Availability::Ready,
            None => {}
        }
        let word = self.word.load(Relaxed);
        let until = Tick::from_nanos(word & NANOS);
        match word & !NANOS {
            READY => Availability::Ready,
            _ if now >= until => Availability::Probe,
            _ => Availability::Out { until },
        }
    }

    /// Takes the one probe; `false` if another has it, or none is due.
    ///
    /// Who wins sends a request and records its outcome; who cannot send it after all calls
    /// [`Ejection::release_probe`]. A probe without an outcome lapses after [`PROBE_LEASE`].
    pub fn take_probe(&self, now: Tick) -> bool {
        let word = self.word.load(SeqCst);
        let due = word & !NANOS != READY && now.nanos() >= word & NANOS;
        due && self.forced().is_none() && self.swap(word, PROBING | stamp(now.plus(PROBE_LEASE)))
    }

    /// Gives back a probe that was not sent, so that another request may take it at once.
    pub fn release_probe(&self, now: Tick) {
        let word = self.word.load(SeqCst);
        if word & !NANOS == PROBING {
            self.swap(word, OUT | stamp(now));
        }
    }

    /// Counts the outcome of a request; says what it has changed, to the one caller that changed it.
    ///
    /// While the endpoint is out, outcomes of requests sent before are ignored. While a probe is
    /// under way, the first outcome to arrive is taken as the probe's.
    pub fn record(&self, outcome: impl Into<Outcome>, now: Tick, rng: &mut Rng) -> Option<Change> {
        let outcome = outcome.into();
        let word = self.word.load(SeqCst);
        match word & !NANOS {
            READY => self.count(outcome, now, rng),
            PROBING if outcome == Outcome::Ok => self.restore(word),
            PROBING if outcome == Outcome::Unreachable => {
                self.eject(word, Reason::Unreachable, now, rng)
            }
            PROBING => self.eject(word, Reason::Probe, now, rng),
            _ => None,
        }
    }

    /// Brings back an endpoint that was used although it is out, and did its part.
    pub fn revive(&self) -> Option<Change> {
        let word = self.word.load(SeqCst);
        if word & !NANOS == OUT { self.restore(word) } else { None }
    }

    /// How often in a row it could not be connected to.
    pub fn unreached(&self) -> u32 {
        self.unreached.load(Relaxed)
    }

    fn restore(&self, word: u64) -> Option<Change> {
        self.counts.clear();
        self.consecutive.store(0, Relaxed);
        if !self.swap(word, READY) {
            return None;
        }
        self.row.store(0, Relaxed);
        self.unreached.store(0, Relaxed);
        Some(Change::Restored)
    }

    fn count(&self, outcome: Outcome, now: Tick, rng: &mut Rng) -> Option<Change> {
        self.counts.record(outcome == Outcome::Ok, now);
        match outcome {
            Outcome::Ok => {
                // Read first: a write would take the cache line from every other core.
                if self.consecutive.load(Relaxed) != 0 {
                    self.consecutive.store(0, Relaxed);
                }
                return None;
            }
            Outcome::Failed => {
                let row = self.consecutive.fetch_add(1, Relaxed).saturating_add(1);
                if self.options.consecutive > 0 && row >= self.options.consecutive {
                    return self.eject(READY, Reason::Consecutive, now, rng);
                }
            }
            Outcome::Unreachable => return self.eject(READY, Reason::Unreachable, now, rng),
            Outcome::Limited => {}
        }
        let (good, bad) = self.counts.tally(now);
        let samples = good + bad;
        let enough = samples >= u64::from(self.options.samples_min);
        if enough && (good as f64) < self.options.success_ratio_min * samples as f64 {
            return self.eject(READY, Reason::SuccessRatio, now, rng);
        }
        None
    }

    fn eject(&self, from: u64, reason: Reason, now: Tick, rng: &mut Rng) -> Option<Change> {
        let (counter, base, max) = match reason {
            Reason::Unreachable => (&self.unreached, UNREACHABLE_BASE, UNREACHABLE_MAX),
            _ => (&self.row, self.options.base, self.options.max),
        };
        let row = counter.load(Relaxed);
        let span = base.saturating_mul(1 << row.min(31)).min(max).min(self.options.max);
        let jitter = self.options.jitter.clamp(0.0, 1.0);
        let until = stamp(now.plus(span.mul_f64(1.0 - jitter * rng.unit())));
        if !self.swap(from, OUT | until) {
            return None;
        }
        counter.store(row.saturating_add(1), Relaxed);
        self.consecutive.store(0, Relaxed);
        self.ejections.fetch_add(1, Relaxed);
        Some(Change::Ejected { reason, until: Tick::from_nanos(until) })
    }

    fn swap(&self, from: u64, to: u64) -> bool {
        self.word.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }

    /// Holds the endpoint out until [`Ejection::unforce`].
    pub fn force_out(&self) {
        self.forced.store(1, Relaxed);
    }

    /// Holds the endpoint in, whatever its record, until [`Ejection::unforce`].
    pub fn force_in(&self) {
        self.forced.store(2, Relaxed);
    }

    /// Leaves the endpoint to its record again.
    pub fn unforce(&self) {
        self.forced.store(0, Relaxed);
    }

    fn forced(&self) -> Option<Forced> {
        match self.forced.load(Relaxed) {
            1 => Some(Forced::Out),
            2 => Some(Forced::In),
            _ => None,
        }
    }

    /// The record, for people.
    pub fn snapshot(&self, now: Tick) -> Snapshot {
        let (good, bad) = self.counts.tally(now);
        let samples = good + bad;
        Snapshot {
            availability: self.available(now),
            forced: self.forced(),
            consecutive: self.consecutive.load(Relaxed),
            samples,
            success_ratio: (samples > 0).then(|| good as f64 / samples as f64),
            ejections: self.ejections.load(Relaxed),
        }
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

/// A tick in the bits that a word has for it (146 years).
fn stamp(tick: Tick) -> u64 {
    tick.nanos().min(NANOS)
}

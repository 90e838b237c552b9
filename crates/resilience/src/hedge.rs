//! Hedging: a second request to another endpoint when the first takes longer than most do.
//!
//! It trades a few more requests for a shorter tail, so it is bounded twice: by the delay, which is
//! a high quantile of what requests take, and by a budget, a share of the requests. Only what may
//! be sent twice may be hedged; that is the caller's to know.
//!
//! The budget is earned when a request begins, whatever becomes of it: it is a share of what a service
//! is sent anyway, and an endpoint that answers nothing at all must not use up the means against it.
//! The delay is learnt from good answers alone, or a service that fails quickly would be hedged ever
//! sooner.
//!
//! Invariants: hedges never exceed `budget × requests`; no lock, and nothing is computed per request
//! beyond a bucket and two additions.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Relaxed},
    time::Duration,
};

/// When a hedge is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delay {
    /// After this time.
    Fixed(Duration),
    /// After the time within which this share (0 to 1) of requests is answered.
    Quantile(f64),
}

/// When and how often a request is hedged.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How long after the request, and after each hedge, the next is sent.
    pub delay: Delay,
    /// Hedges for one request.
    pub max: u32,
    /// Hedges as a share of all requests (0.05 is one in twenty).
    pub budget: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { delay: Delay::Quantile(0.95), max: 1, budget: 0.05 }
    }
}

/// Fewer samples say nothing about a quantile of 0.95.
const SAMPLES_MIN: u32 = 100;
/// After so many samples all counts are halved, so that the past fades.
const SAMPLES_HALVE: u32 = 4_096;
/// The delay is computed anew after so many samples.
const REFRESH: u32 = 64;

/// Four buckets for each doubling of a microsecond, up to over an hour.
const STEPS: usize = 4;
const BUCKETS: usize = 32 * STEPS;

/// One hedge in the unit of the credit.
const HEDGE: u64 = 1_000_000;
/// Unspent hedges that are kept for a bad moment.
const CREDIT_MAX: u64 = 100 * HEDGE;

/// What is known of a service's latency, and its credit of hedges; shared by all threads.
///
/// ```
/// use std::time::Duration;
/// use weft_resilience::hedge::{Hedger, Options};
///
/// let hedger = Hedger::new(Options::default());
/// assert_eq!(hedger.delay(), None, "nothing is known yet");
/// for _ in 0..190 {
///     hedger.begin();
///     hedger.record(Duration::from_millis(10));
/// }
/// let delay = hedger.delay().ok_or("enough is known")?;
/// assert!((10..13).contains(&delay.as_millis()));
/// let hedges = (0..100).filter(|_| hedger.allow()).count();
/// assert_eq!(hedges, 9, "a twentieth of 190");
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug)]
pub struct Hedger {
    options: Options,
    buckets: Box<[AtomicU32; BUCKETS]>,
    samples: AtomicU32,
    recorded: AtomicU32,
    /// The delay in nanoseconds; 0 while unknown.
    delay: AtomicU64,
    credit: AtomicU64,
    gain: u64,
}

impl Hedger {
    /// A hedger that knows nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            buckets: Box::new(std::array::from_fn(|_| AtomicU32::new(0))),
            samples: AtomicU32::new(0),
            recorded: AtomicU32::new(0),
            delay: AtomicU64::new(0),
            credit: AtomicU64::new(0),
            gain: (options.budget.clamp(0.0, 1.0) * HEDGE as f64) as u64,
            options,
        }
    }

    /// Counts a request that may be hedged, and earns its share of a hedge.
    pub fn begin(&self) {
        let earn = |credit: u64| Some(credit.saturating_add(self.gain).min(CREDIT_MAX));
        if self.credit.load(Relaxed) < CREDIT_MAX {
            // The closure always changes something, so there is no failure to look at.
            let _ = self.credit.fetch_update(Relaxed, Relaxed, earn);
        }
    }

    /// Learns how long a good answer took, whoever gave it.
    pub fn record(&self, latency: Duration) {
        if matches!(self.options.delay, Delay::Fixed(_)) {
            return;
        }
        self.buckets[bucket(latency)].fetch_add(1, Relaxed);
        let samples = self.samples.fetch_add(1, Relaxed) + 1;
        let recorded = self.recorded.fetch_add(1, Relaxed).wrapping_add(1);
        if samples >= SAMPLES_MIN && (samples == SAMPLES_MIN || recorded.is_multiple_of(REFRESH)) {
            self.refresh();
        }
        if samples == SAMPLES_HALVE {
            self.halve();
        }
    }

    /// How long to wait before the next hedge; `None` while too little is known.
    pub fn delay(&self) -> Option<Duration> {
        match self.options.delay {
            Delay::Fixed(span) => Some(span),
            Delay::Quantile(_) => match self.delay.load(Relaxed) {
                0 => None,
                nanos => Some(Duration::from_nanos(nanos)),
            },
        }
    }

    /// Takes one hedge out of the budget; `false` if there is none.
    pub fn allow(&self) -> bool {
        let take = |credit: u64| credit.checked_sub(HEDGE);
        self.credit.fetch_update(AcqRel, Relaxed, take).is_ok()
    }

    /// Hedges for one request.
    pub fn max(&self) -> u32 {
        self.options.max
    }

    #[cold]
    fn refresh(&self) {
        let Delay::Quantile(quantile) = self.options.delay else {
            return;
        };
        let counts: [u64; BUCKETS] =
            std::array::from_fn(|index| u64::from(self.buckets[index].load(Relaxed)));
        let total: u64 = counts.iter().sum();
        let rank = ((quantile.clamp(0.0, 1.0) * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        for (index, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                self.delay.store(upper_nanos(index), Relaxed);
                return;
            }
        }
    }

    /// Halves all counts. What others add meanwhile is kept; the number of samples is then near
    /// enough, for it only says when to do this again.
    #[cold]
    fn halve(&self) {
        let mut left = 0u32;
        for bucket in self.buckets.iter() {
            let count = bucket.load(Relaxed);
            bucket.fetch_sub(count - count / 2, Relaxed);
            left = left.saturating_add(count / 2);
        }
        self.samples.store(left.max(SAMPLES_MIN), Relaxed);
    }
}

/// The bucket of a latency: the power of two below it and the two bits after its first.
fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
    let power = micros.ilog2() as usize;
    let step = if power >= 2 { micros >> (power - 2) & 3 } else { micros << (2 - power) & 3 };
    (power * STEPS + step as usize).min(BUCKETS - 1)
}

/// The end of a bucket, in nanoseconds.
fn upper_nanos(index: usize) -> u64 {
    let (power, step) = (index / STEPS, (index % STEPS) as u64);
    (1_000 << power) / 4 * (5 + step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_below_the_end_of_its_bucket_and_within_a_quarter_of_it() {
        for micros in (0..20_000).chain([1_000_000, 59_999_999, 3_600_000_000]) {
            let latency = Duration::from_micros(micros);
            let upper = upper_nanos(bucket(latency)) as f64;
            let exact = latency.as_nanos().max(1_000) as f64;
            assert!(upper > exact && upper <= exact * 1.2501 + 500.0, "{micros}: {upper}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        assert!((1..BUCKETS).all(|index| upper_nanos(index) >= upper_nanos(index - 1)));
    }

    #[test]
    fn the_delay_follows_what_requests_take_now() {
        let hedger = Hedger::new(Options { delay: Delay::Quantile(0.5), ..Options::default() });
        for _ in 0..4_000 {
            hedger.record(Duration::from_millis(100));
        }
        for _ in 0..8_000 {
            hedger.record(Duration::from_millis(2));
        }
        let delay = hedger.delay().unwrap();
        assert!((2_000..2_600).contains(&delay.as_micros()), "{delay:?}");
    }

    #[test]
    fn a_fixed_delay_needs_no_samples_but_its_budget_does() {
        let span = Duration::from_millis(7);
        let hedger = Hedger::new(Options { delay: Delay::Fixed(span), ..Options::default() });
        assert_eq!(hedger.delay(), Some(span));
        assert!(!hedger.allow());
        for _ in 0..20 {
            hedger.begin();
        }
        assert!(hedger.allow() && !hedger.allow());
    }
}

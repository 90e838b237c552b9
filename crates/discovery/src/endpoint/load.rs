//! How loaded an endpoint seems: a moving latency that jumps up at once and comes down slowly, and
//! what it has in flight.
//!
//! Peak-EWMA as Finagle and Linkerd have it: a sample above the estimate replaces it, one below
//! pulls it down with a decay of 10 s, and without samples it falls towards zero, so that an endpoint
//! that was avoided is tried again. A new one is taken to answer in 30 ms. What is fast because it
//! fails must not look attractive: a failure never lowers the estimate, and a penalty counts as a
//! latency equal to the time that is left of it.
//!
//! Two workers may write at once and one sample may be lost; it is an estimate.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use weft_kernel::Tick;

/// The time in which an estimate loses all but 1/e of its weight.
pub const DECAY: Duration = Duration::from_secs(10);
/// What an endpoint without samples is taken to need.
pub const INITIAL: Duration = Duration::from_millis(30);
/// How long a failed or overloaded endpoint is avoided when it does not say itself.
pub const PENALTY: Duration = Duration::from_secs(5);
/// The longest time for which an endpoint is avoided because it says so.
pub const PENALTY_MAX: Duration = Duration::from_secs(60);

/// Added to every estimate, in nanoseconds: so that what is in flight counts even at no latency.
const FLOOR_NANOS: f64 = 1_000.0;
/// Requests in flight take the lower bits of one counter, all requests ever the upper: so that
/// beginning a request is one locked instruction.
const ACTIVE_BITS: u32 = 20;
const ACTIVE_MASK: u64 = (1 << ACTIVE_BITS) - 1;

/// What is left after `elapsed_nanos` of a weight of one: e^(-elapsed/decay).
fn left(elapsed_nanos: u64) -> f64 {
    let x = elapsed_nanos as f64 / DECAY.as_nanos() as f64;
    // Every pick asks twice, and nearly always within one decay: there the series of the inverse is
    // off by less than half a percent, at a fraction of the cost.
    if x < 1.0 {
        1.0 / (1.0 + x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x / 24.0))))
    } else {
        (-x).exp()
    }
}

/// The load of one endpoint, written by every worker.
#[derive(Debug)]
pub(super) struct Load {
    traffic: AtomicU64,
    stamp: AtomicU64,
    latency: AtomicU64,
    penalty_until: AtomicU64,
}

impl Load {
    /// The load of an endpoint that is new at `now`.
    pub(super) fn new(now: Tick) -> Self {
        Self {
            traffic: AtomicU64::new(0),
            stamp: AtomicU64::new(now.nanos()),
            latency: AtomicU64::new((INITIAL.as_nanos() as f64).to_bits()),
            penalty_until: AtomicU64::new(0),
        }
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        self.traffic.fetch_add((1 << ACTIVE_BITS) + 1, Relaxed);
    }

    /// A request is over.
    pub(super) fn end(&self) {
        self.traffic.fetch_sub(1, Relaxed);
    }

    /// Requests in flight.
    pub(super) fn active(&self) -> u32 {
        (self.traffic.load(Relaxed) & ACTIVE_MASK) as u32
    }

    /// Requests ever begun.
    pub(super) fn begun(&self) -> u64 {
        self.traffic.load(Relaxed) >> ACTIVE_BITS
    }

    /// Takes in how long an answer took; one of a failure can only raise the estimate.
    pub(super) fn observe(&self, took: Duration, failed: bool, now: Tick) {
        let then = self.stamp.load(Relaxed);
        let weight = left(now.nanos().saturating_sub(then));
        let old = f64::from_bits(self.latency.load(Relaxed));
        let sample = took.as_nanos() as f64;
        let new = if sample >= old {
            sample
        } else if failed {
            return;
        } else {
            old * weight + sample * (1.0 - weight)
        };
        self.stamp.store(now.nanos().max(then), Relaxed);
        self.latency.store(new.to_bits(), Relaxed);
    }

    /// Avoids the endpoint for a time; a longer penalty stands.
    pub(super) fn penalise(&self, span: Duration, now: Tick) {
        self.penalty_until.fetch_max(now.plus(span.min(PENALTY_MAX)).nanos(), Relaxed);
    }

    /// Whether it is to be avoided now.
    pub(super) fn penalised(&self, now: Tick) -> bool {
        self.penalty_until.load(Relaxed) > now.nanos()
    }

    /// The latency that is expected now.
    pub(super) fn latency(&self, now: Tick) -> Duration {
        Duration::from_nanos(self.latency_nanos(now) as u64)
    }

    fn latency_nanos(&self, now: Tick) -> f64 {
        let estimate = f64::from_bits(self.latency.load(Relaxed))
            * left(now.nanos().saturating_sub(self.stamp.load(Relaxed)));
        let penalty = self.penalty_until.load(Relaxed).saturating_sub(now.nanos());
        if penalty == 0 { estimate } else { estimate.max(penalty as f64) }
    }

    /// The peak-EWMA cost of one more request; `share` is the weight relative to the mean.
    pub(super) fn cost(&self, share: f64, now: Tick) -> f64 {
        (self.latency_nanos(now) + FLOOR_NANOS) * (1.0 + f64::from(self.active()) / share)
    }

    /// The cost of one more request by what is in flight alone; a penalised endpoint comes last.
    pub(super) fn crowd(&self, share: f64, now: Tick) -> f64 {
        let crowd = f64::from(self.active()) / share;
        if self.penalised(now) { crowd + ACTIVE_MASK as f64 } else { crowd }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Tick {
        Tick::ZERO.plus(MS * millis as u32)
    }

    #[test]
    fn a_peak_counts_at_once_and_comes_down_slowly() {
        let load = Load::new(at(0));
        assert_eq!(load.latency(at(0)), INITIAL);
        load.observe(MS * 200, false, at(10));
        assert_eq!(load.latency(at(10)), MS * 200);
        load.observe(MS, false, at(1_010));
        let after_one_second = load.latency(at(1_010));
        assert!(after_one_second > MS * 170 && after_one_second < MS * 190, "{after_one_second:?}");
        for millis in (1_010..60_000).step_by(10) {
            load.observe(MS, false, at(millis));
        }
        let settled = load.latency(at(60_000));
        assert!(settled > MS / 2 && settled < MS * 3, "{settled:?}");
    }

    #[test]
    fn without_samples_it_falls_towards_zero() {
        let load = Load::new(at(0));
        assert!(load.latency(at(10_000)) < MS * 12);
        assert!(load.latency(at(100_000)) < MS);
        assert!(load.cost(1.0, at(10_000_000)) >= FLOOR_NANOS);
    }

    #[test]
    fn a_fast_failure_does_not_look_attractive() {
        let load = Load::new(at(0));
        load.observe(MS * 50, false, at(0));
        for millis in 0..1_000 {
            load.observe(Duration::from_micros(10), true, at(millis));
        }
        assert!(load.latency(at(1_000)) > MS * 45);
        load.penalise(PENALTY, at(1_000));
        assert_eq!(load.latency(at(1_000)), PENALTY);
        assert!(load.penalised(at(5_999)) && !load.penalised(at(6_000)));
        load.penalise(Duration::MAX, at(1_000));
        assert!(!load.penalised(at(61_000)), "a peer cannot send itself away for ever");
    }

    #[test]
    fn what_is_in_flight_counts_by_weight() {
        let load = Load::new(at(0));
        for _ in 0..6 {
            load.begin();
        }
        load.end();
        assert_eq!((load.active(), load.begun()), (5, 6));
        assert!(load.cost(1.0, at(0)) > load.cost(2.0, at(0)));
        assert_eq!(load.crowd(2.0, at(0)), 2.5);
    }

    #[test]
    fn the_series_keeps_to_the_exponential() {
        let decay = DECAY.as_nanos() as u64;
        for percent in 0..300 {
            let exact = (-(percent as f64) / 100.0).exp();
            assert!((left(decay / 100 * percent) / exact - 1.0).abs() < 0.005, "{percent}");
        }
    }
}

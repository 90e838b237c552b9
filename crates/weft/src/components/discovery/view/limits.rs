//! What holds requests to a service back: its breaker, its adaptive concurrency and its bulkhead.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_kernel::Tick;
use weft_resilience::{
    adaptive::{self, Criticality},
    breaker::Breaker,
    bulkhead::Bulkhead,
};

use super::millis;

/// The breaker of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Breaker")]
pub struct BreakerView {
    /// `closed`, `open` or `half_open`.
    pub state: String,
    /// `enforce`, `metrics_only`, `isolated` or `disabled`.
    pub mode: String,
    /// How long it is in that state.
    pub since_seconds: u64,
    /// The share of failures in its window.
    pub failure_ratio: Option<f64>,
    /// The share of slow calls in it.
    pub slow_ratio: Option<f64>,
    /// How many calls the window holds.
    pub calls: u64,
    /// How often it has opened.
    pub opens: u64,
    /// How many calls it has refused.
    pub refusals: u64,
}

/// Adaptive concurrency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Concurrency")]
pub struct ConcurrencyView {
    /// Requests that are let through at once.
    pub limit: u32,
    /// Requests in flight.
    pub in_flight: u32,
    /// The latency without load.
    pub baseline_ms: Option<f64>,
    /// Critical requests that were shed.
    pub shed_critical: u64,
    /// Ordinary requests that were shed.
    pub shed_default: u64,
    /// Sheddable requests that were shed.
    pub shed_sheddable: u64,
}

/// A bulkhead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Bulkhead")]
pub struct BulkheadView {
    /// Requests in flight.
    pub in_flight: usize,
    /// The most of them.
    pub in_flight_max: usize,
    /// Requests that wait.
    pub queued: usize,
    /// Requests that found it full.
    pub full: u64,
    /// Requests that waited too long.
    pub timed_out: u64,
}

impl BreakerView {
    pub(super) fn of(breaker: &Breaker, now: Tick) -> Self {
        let shot = breaker.snapshot(now);
        Self {
            state: shot.state.word().into(),
            mode: shot.mode.word().into(),
            since_seconds: now.since(shot.since).as_secs(),
            failure_ratio: shot.failure_ratio,
            slow_ratio: shot.slow_ratio,
            calls: shot.calls,
            opens: shot.opens,
            refusals: shot.refusals,
        }
    }

    /// What matters most in one word: a breaker that was set by hand says so.
    pub(super) fn state_or_mode(&self) -> String {
        let by_hand = ["isolated", "disabled"].contains(&&*self.mode);
        if by_hand { self.mode.clone() } else { self.state.clone() }
    }
}

impl ConcurrencyView {
    pub(super) fn of(limiter: &adaptive::Limiter) -> Self {
        let shot = limiter.snapshot();
        let shed = |of: Criticality| {
            let at = Criticality::ALL.iter().position(|one| *one == of).unwrap_or_default();
            shot.shed[at]
        };
        Self {
            limit: shot.limit,
            in_flight: shot.in_flight,
            baseline_ms: shot.baseline.map(millis),
            shed_critical: shed(Criticality::Critical),
            shed_default: shed(Criticality::Default),
            shed_sheddable: shed(Criticality::Sheddable),
        }
    }
}

impl BulkheadView {
    pub(super) fn of(bulkhead: &Bulkhead) -> Self {
        let shot = bulkhead.snapshot();
        Self {
            in_flight: shot.in_flight,
            in_flight_max: bulkhead.options().in_flight_max,
            queued: shot.queued,
            full: shot.full,
            timed_out: shot.timed_out,
        }
    }
}

//! A request while an endpoint works on it, and what it leaves behind when it is over.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use weft_kernel::{Rng, Tick};
use weft_resilience::ejection;

use super::{Endpoint, PENALTY};

/// How a request to an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the endpoint did its part.
    pub ok: bool,
    /// Whether its breaker takes note, of success or failure.
    pub counts_for_ejection: bool,
    /// It is alive but turned the request away (429, `RESOURCE_EXHAUSTED`): its breaker counts that
    /// against the share of successes, not in a row.
    pub limited: bool,
    /// No connection to it came to stand.
    pub unreachable: bool,
    /// It is to be avoided for this long, where there are others.
    pub back_off: Option<Duration>,
}

impl Outcome {
    /// It answered.
    pub const OK: Self = Self {
        ok: true,
        counts_for_ejection: true,
        limited: false,
        unreachable: false,
        back_off: None,
    };
    /// It failed.
    pub const FAILED: Self = Self { ok: false, back_off: Some(PENALTY), ..Self::OK };
    /// It could not be connected to.
    pub const UNREACHABLE: Self = Self { unreachable: true, ..Self::FAILED };

    /// It failed and says when it will be well again (503 with `Retry-After`).
    pub fn unavailable(retry_after: Option<Duration>) -> Self {
        Self { back_off: Some(retry_after.unwrap_or(PENALTY)), ..Self::FAILED }
    }

    /// It turned the request away (429); `retry_after` is what it said itself.
    pub fn limited(retry_after: Option<Duration>) -> Self {
        Self { limited: true, ..Self::unavailable(retry_after) }
    }
}

/// A request that an endpoint is working on; dropped without an outcome it counts as cancelled.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
    begun: Tick,
    latency: Option<Duration>,
    counted: bool,
    probe: bool,
    open: bool,
}

impl InFlight {
    pub(super) fn new(endpoint: Arc<Endpoint>, now: Tick) -> Self {
        endpoint.hot.load.begin();
        let counted = endpoint.home.count_in();
        // What is sent to an endpoint that is ejected is its probe, or there was nobody else.
        let probe = endpoint.is_ejected();
        Self { endpoint, begun: now, latency: None, counted, probe, open: true }
    }

    /// Who works on it.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// It had what its caller sent only then: what went before is not its time.
    pub fn handed(&mut self, at: Tick) {
        self.begun = self.begun.max(at);
    }

    /// The head of the answer came: this is the latency that counts, however long the body streams.
    pub fn responded(&mut self, now: Tick) {
        self.latency.get_or_insert(now.since(self.begun));
    }

    /// It is over. What the breaker made of it is handed back for log and metrics.
    pub fn finish(
        mut self,
        outcome: Outcome,
        now: Tick,
        rng: &mut Rng,
    ) -> Option<ejection::Change> {
        self.open = false;
        self.leave();
        let hot = &self.endpoint.hot;
        let latency = self.latency.unwrap_or_else(|| now.since(self.begun));
        hot.load.observe(latency, !outcome.ok, now);
        if let Some(span) = outcome.back_off {
            hot.load.penalise(span, now);
        }
        if !outcome.ok {
            hot.failures.fetch_add(1, Relaxed);
        }
        if !outcome.counts_for_ejection {
            self.give_probe_back();
            return None;
        }
        let recorded = match outcome {
            Outcome { ok: true, .. } => ejection::Outcome::Ok,
            Outcome { limited: true, .. } => ejection::Outcome::Limited,
            Outcome { unreachable: true, .. } => ejection::Outcome::Unreachable,
            _ => ejection::Outcome::Failed,
        };
        self.endpoint.record(recorded, self.probe, now, rng)
    }

    /// A probe that was cancelled has shown nothing: another request may try.
    fn give_probe_back(&self) {
        if self.probe
            && let Some(ejection) = self.endpoint.ejection.load().as_deref()
        {
            ejection.release_probe(self.begun);
        }
    }

    fn leave(&self) {
        self.endpoint.hot.load.end();
        if self.counted {
            self.endpoint.home.count_out();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.open {
            self.leave();
            self.give_probe_back();
        }
    }
}

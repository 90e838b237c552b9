//! The pure control law of adaptive concurrency: a round in, the next limit out.

use std::time::Duration;

use weft_kernel::Tick;

use super::Options;

/// A round lasts at least this long, and at least twice the mean latency, so that the effect of the
/// last change is seen before the next.
const ROUND_MIN: Duration = Duration::from_millis(100);
/// And at most this long, however slow the service.
const ROUND_MAX: Duration = Duration::from_secs(5);
/// What a request may take beyond the baseline whatever the ratio. A service that answers in a
/// millisecond takes ten when it, or the machine that Weft runs on, is merely busy: a caller does not
/// notice that wait, but a refusal. What stands in a queue for longer is overload.
const WAIT_TOLERATED: f64 = 0.1;
/// From this share of overload answers on, the limit is cut whatever the latency.
const BAD_SHARE_MAX: f64 = 0.1;
/// How far it is cut.
const CUT: f64 = 0.9;
/// How fast the limit grows until the first sign of a queue.
const STARTUP_GROWTH: f64 = 1.5;
/// How far the limit goes at once towards what the gradient says.
const SMOOTHING: f64 = 0.5;
/// The gradient of one round is not trusted further than this.
const GRADIENT_MIN: f64 = 0.5;
/// How fast the baseline follows a lower latency.
const BASELINE_FALL: f64 = 0.2;
/// How fast it follows a higher one once the limit can fall no further.
const BASELINE_RISE: f64 = 0.1;
/// If the work in flight fell to this share and the latency did not fall to the second, it is no
/// queue that makes the service slow.
const LESS_LOAD: f64 = 0.7;
const STILL_SLOW: f64 = 0.85;

/// What a round has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    /// Requests that ended well.
    pub(super) good: u64,
    /// The sum of their latencies.
    pub(super) latencies: Duration,
    /// Requests that the service was too busy for.
    pub(super) bad: u64,
    /// The most that were in flight at once.
    pub(super) peak: u32,
}

#[derive(Debug)]
pub(super) struct Control {
    options: Options,
    limit: f64,
    /// Mean latency without queues, in seconds; 0 before the first round.
    baseline: f64,
    startup: bool,
    began: Option<Tick>,
    /// Work in flight and mean latency when the present congestion was first seen.
    congested: Option<(f64, f64)>,
}

impl Control {
    pub(super) fn new(options: Options) -> Self {
        let min = options.min.max(1);
        let options = Options { min, max: options.max.max(min), ..options };
        let limit = f64::from(options.initial.clamp(options.min, options.max));
        Self { options, limit, baseline: 0.0, startup: true, began: None, congested: None }
    }

    pub(super) fn limit(&self) -> u32 {
        (self.limit as u32).clamp(self.options.min, self.options.max)
    }

    pub(super) fn baseline(&self) -> Option<Duration> {
        (self.baseline > 0.0).then(|| Duration::from_secs_f64(self.baseline))
    }

    /// Takes a round into account; returns when the next may end.
    pub(super) fn close(&mut self, round: &Round, now: Tick) -> Tick {
        let span = self.began.replace(now).map(|began| now.since(began).as_secs_f64());
        let total = round.latencies.as_secs_f64();
        let latency = if round.good > 0 { (total / round.good as f64).max(1e-6) } else { 0.0 };
        if round.bad as f64 > BAD_SHARE_MAX * (round.good + round.bad) as f64 {
            self.startup = false;
            self.limit *= CUT;
        } else if let Some(span) = span.filter(|span| *span > 0.0 && latency > 0.0) {
            // Little's law: what was in flight on average.
            let in_flight = (total / span).min(f64::from(round.peak.max(1)));
            self.follow(latency, in_flight, f64::from(round.peak));
        }
        self.limit = self.limit.clamp(f64::from(self.options.min), f64::from(self.options.max));
        let wait = Duration::from_secs_f64(2.0 * latency).clamp(ROUND_MIN, ROUND_MAX);
        now.plus(wait)
    }

    fn follow(&mut self, latency: f64, in_flight: f64, peak: f64) {
        if self.baseline == 0.0 {
            self.baseline = latency;
        } else if latency < self.baseline {
            self.baseline += BASELINE_FALL * (latency - self.baseline);
        }
        let headroom = self.limit.sqrt();
        let ratio = self.options.tolerance.max(1.0) * self.baseline;
        let gradient = ratio.max(self.baseline + WAIT_TOLERATED) / latency;
        // What waits in queues beyond the tolerated latency; a few requests prove nothing.
        let queued = in_flight * (1.0 - gradient);
        if gradient >= 1.0 {
            self.congested = None;
            if peak >= self.limit / 2.0 {
                self.limit =
                    if self.startup { self.limit * STARTUP_GROWTH } else { self.limit + headroom };
            }
            return;
        }
        self.judge(latency, in_flight);
        if queued > headroom {
            self.startup = false;
            let reached = self.limit.min(peak);
            let target = reached * gradient.max(GRADIENT_MIN) + headroom;
            self.limit += SMOOTHING * (target.min(self.limit) - self.limit);
        }
    }

    /// Raises the baseline if it is the service that has become slower.
    fn judge(&mut self, latency: f64, in_flight: f64) {
        if self.limit() == self.options.min {
            self.baseline += BASELINE_RISE * (latency - self.baseline);
        }
        match self.congested {
            Some((load, was)) if in_flight <= LESS_LOAD * load => {
                if latency >= STILL_SLOW * was {
                    self.baseline = latency;
                }
                self.congested = None;
            }
            Some((load, _)) if in_flight < load => {}
            _ => self.congested = Some((in_flight, latency)),
        }
    }
}

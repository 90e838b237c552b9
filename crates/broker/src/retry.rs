//! When a message that failed is tried again: exponential, bounded, with jitter.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_kernel::Rng;

/// How long a message waits before its next try.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// Before the second try (1 s).
    pub first: Duration,
    /// How much longer before each further one (2).
    pub factor: f64,
    /// The longest wait (10 min).
    pub max: Duration,
    /// By which share it may be shorter or longer (0.2).
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(600),
            jitter: 0.2,
        }
    }
}

impl Backoff {
    /// At once, every time: as AMQP gives back what was not acknowledged.
    pub const NONE: Self =
        Self { first: Duration::ZERO, factor: 1.0, max: Duration::ZERO, jitter: 0.0 };

    /// The wait after the `failures`-th failure, counted from 1.
    pub fn wait(&self, failures: u32, rng: &mut Rng) -> Duration {
        if self.first.is_zero() {
            return Duration::ZERO;
        }
        let power = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let span = self.first.as_secs_f64() * self.factor.powi(power);
        // A span beyond any number is the longest.
        let span = if span.is_finite() {
            span.min(self.max.as_secs_f64())
        } else {
            self.max.as_secs_f64()
        };
        rng.around(Duration::from_secs_f64(span.max(0.0)), self.jitter)
    }

    /// What is wrong with it, each fault in a sentence.
    pub(crate) fn faults(&self, faults: &mut Vec<String>) {
        if !(1.0..=100.0).contains(&self.factor) {
            faults.push("retry: the factor is from 1 to 100".into());
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            faults.push("retry: the jitter is from 0 to 1".into());
        }
        if self.first > self.max {
            faults.push("retry: the first wait is longer than the longest".into());
        }
        if self.max > Duration::from_secs(366 * 86_400) {
            faults.push("retry: the longest wait is at most a year".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_stay_within_the_jitter() {
        let mut rng = Rng::seeded(1);
        let backoff = Backoff::default();
        for (failures, secs) in
            [(1, 1.0), (2, 2.0), (3, 4.0), (10, 512.0), (11, 600.0), (u32::MAX, 600.0)]
        {
            for _ in 0..100 {
                let wait = backoff.wait(failures, &mut rng).as_secs_f64();
                assert!((secs * 0.8..=secs * 1.2).contains(&wait), "{failures}: {wait}");
            }
        }
        assert_eq!(Backoff::NONE.wait(9, &mut rng), Duration::ZERO);
    }

    #[test]
    fn every_fault_is_named() {
        let mut faults = Vec::new();
        Backoff { first: Duration::MAX, factor: f64::NAN, max: Duration::ZERO, jitter: 2.0 }
            .faults(&mut faults);
        assert_eq!(faults.len(), 3);
    }
}

//! The retry budget: how many retries a service may be sent, as a share of its requests.
//!
//! Without one, a service that begins to fail is sent twice its load exactly when it can bear none.
//! Every request deposits a share of a retry, every retry withdraws a whole one, and both are
//! forgotten after the window. The balance is that of Finagle's and tower's budgets:
//! `per_second × window + ratio × requests − retries`, all within the window.
//!
//! Invariant: in no window do the retries exceed `per_second × window + ratio × requests`, however
//! many threads withdraw at once.

use std::time::Duration;

use weft_kernel::Tick;

use crate::ring::{Ring, SIGNED_ZERO};

/// One retry in the unit that slots are counted in.
const RETRY: u64 = 1_000;
/// Half of what a slot can hold: from there on deposits stop, far beyond any rate one process sees.
const SLOT_MAX: u64 = SIGNED_ZERO + SIGNED_ZERO / 2;

/// How a budget is filled.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Retries earned by each request: 0.2 is one retry for five requests.
    pub ratio: f64,
    /// Retries per second that are allowed however few requests there are.
    pub per_second: u32,
    /// How long a deposit and a withdrawal count (at least 10 ms; a tenth of it is the granularity).
    pub window: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { ratio: 0.2, per_second: 10, window: Duration::from_secs(10) }
    }
}

/// The balance of one service, shared by all threads without a lock.
///
/// ```
/// use weft_kernel::Tick;
/// use weft_resilience::budget::{Budget, Options};
///
/// let budget = Budget::new(&Options { ratio: 0.2, per_second: 0, ..Options::default() });
/// let now = Tick::from_nanos(3_600_000_000_000);
/// for _ in 0..10 {
///     budget.deposit(now);
/// }
/// assert!(budget.withdraw(now) && budget.withdraw(now));
/// assert!(!budget.withdraw(now), "ten requests earn two retries");
/// ```
#[derive(Debug)]
pub struct Budget {
    ring: Ring,
    gain: u64,
    reserve: i64,
}

impl Budget {
    /// A budget that holds its reserve.
    pub fn new(options: &Options) -> Self {
        let reserve = f64::from(options.per_second) * options.window.as_secs_f64() * RETRY as f64;
        Self {
            ring: Ring::new(options.window, SIGNED_ZERO),
            gain: (options.ratio.clamp(0.0, 1_000.0) * RETRY as f64) as u64,
            reserve: reserve as i64,
        }
    }

    /// Counts one request (not a retry).
    pub fn deposit(&self, now: Tick) {
        self.ring.update(now, |slot| slot.saturating_add(self.gain).min(SLOT_MAX));
    }

    /// Takes one retry out; `false` if there is none.
    pub fn withdraw(&self, now: Tick) -> bool {
        if self.sum(now) < RETRY as i64 {
            return false;
        }
        self.ring.update(now, |slot| slot.saturating_sub(RETRY));
        if self.sum(now) >= 0 {
            return true;
        }
        // Another thread took the last one at the same time: whoever sees less than nothing gives back.
        self.ring.amend(now, |slot| slot + RETRY);
        false
    }

    /// How many retries are left.
    pub fn balance(&self, now: Tick) -> u64 {
        u64::try_from(self.sum(now)).unwrap_or(0) / RETRY
    }

    fn sum(&self, now: Tick) -> i64 {
        self.ring
            .live(now)
            .fold(self.reserve, |sum, slot| sum.saturating_add(slot as i64 - SIGNED_ZERO as i64))
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(&Options::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Tick = Tick::from_nanos(3_600_000_000_000);

    #[test]
    fn the_reserve_comes_back_after_the_window() {
        let budget = Budget::new(&Options { ratio: 0.0, per_second: 2, ..Options::default() });
        assert_eq!(budget.balance(START), 20);
        assert_eq!((0..50).filter(|_| budget.withdraw(START)).count(), 20);
        assert_eq!(budget.balance(START), 0);
        assert_eq!(budget.balance(START.plus(Duration::from_secs(9))), 0);
        assert_eq!(budget.balance(START.plus(Duration::from_secs(11))), 20);
    }

    #[test]
    fn nonsense_in_options_gives_no_retries_rather_than_many() {
        for ratio in [f64::NAN, -1.0, f64::NEG_INFINITY] {
            let budget = Budget::new(&Options { ratio, per_second: 0, window: Duration::ZERO });
            for _ in 0..100 {
                budget.deposit(START);
            }
            assert!(!budget.withdraw(START), "{ratio}");
        }
        let endless = Budget::new(&Options { window: Duration::MAX, ..Options::default() });
        assert!(endless.withdraw(START));
    }
}

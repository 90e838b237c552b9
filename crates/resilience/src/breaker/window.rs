//! The sliding windows of the breaker, in atomics: the last calls, or the calls of the last time.

use std::{
    sync::atomic::{AtomicU8, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed},
    time::Duration,
};

use weft_kernel::Tick;

use super::{Options, WINDOW_CALLS_MAX, Window, core::Tally};
use crate::ring::Counts;

pub(super) enum Sliding {
    Calls(LastCalls),
    Time(LastTime),
}

impl Sliding {
    pub(super) fn new(options: &Options) -> Self {
        match options.window {
            Window::Calls(calls) => Self::Calls(LastCalls::new(calls)),
            Window::Time(span) => Self::Time(LastTime::new(span)),
        }
    }

    /// Counts a call and returns the window with it.
    pub(super) fn record(&self, failed: bool, slow: bool, now: Tick) -> Tally {
        match self {
            Self::Calls(window) => window.record(failed, slow),
            Self::Time(window) => window.record(failed, slow, now),
        }
    }

    pub(super) fn tally(&self, now: Tick) -> Tally {
        match self {
            Self::Calls(window) => window.tally(window.sums.load(Acquire)),
            Self::Time(window) => window.tally(now),
        }
    }

    pub(super) fn clear(&self) {
        match self {
            Self::Calls(window) => window.clear(),
            Self::Time(window) => {
                window.failures.clear();
                window.slowness.clear();
            }
        }
    }
}

const CALL: u8 = 1;
const FAILED: u8 = 2;
const SLOW: u8 = 4;
const SUM_BITS: u32 = 21;
const SUM: u64 = (1 << SUM_BITS) - 1;

/// The last so many calls: a ring of outcomes, and their sums in one word.
///
/// Whoever swaps an outcome into a place of the ring moves the sums by the difference to the outcome
/// that it took out. Every swap and every move therefore cancel out, whatever their order, and the
/// sums are exact once all have been done.
pub(super) struct LastCalls {
    places: Box<[AtomicU8]>,
    next: AtomicU64,
    sums: AtomicU64,
}

impl LastCalls {
    fn new(calls: u32) -> Self {
        let calls = calls.clamp(1, WINDOW_CALLS_MAX);
        Self {
            places: (0..calls).map(|_| AtomicU8::new(0)).collect(),
            next: AtomicU64::new(0),
            sums: AtomicU64::new(0),
        }
    }

    fn record(&self, failed: bool, slow: bool) -> Tally {
        let mark = CALL | if failed { FAILED } else { 0 } | if slow { SLOW } else { 0 };
        let next = self.next.fetch_add(1, Relaxed) % self.places.len() as u64;
        let taken = self.places[next as usize].swap(mark, AcqRel);
        let moved = amount(mark).wrapping_sub(amount(taken));
        self.tally(self.sums.fetch_add(moved, AcqRel).wrapping_add(moved))
    }

    /// The sums, or nothing while another thread is between its swap and its move.
    fn tally(&self, sums: u64) -> Tally {
        let tally = Tally {
            calls: sums & SUM,
            failed: sums >> SUM_BITS & SUM,
            slow: sums >> (2 * SUM_BITS),
        };
        let sound = tally.calls <= self.places.len() as u64
            && tally.failed <= tally.calls
            && tally.slow <= tally.calls;
        if sound { tally } else { Tally::default() }
    }

    fn clear(&self) {
        for place in &self.places {
            let taken = place.swap(0, AcqRel);
            self.sums.fetch_sub(amount(taken), AcqRel);
        }
    }
}

/// What a mark adds to each sum.
fn amount(mark: u8) -> u64 {
    u64::from(mark & CALL)
        | u64::from(mark & FAILED != 0) << SUM_BITS
        | u64::from(mark & SLOW != 0) << (2 * SUM_BITS)
}

/// The calls of the last time, once by failure and once by slowness.
pub(super) struct LastTime {
    failures: Counts,
    slowness: Counts,
}

impl LastTime {
    fn new(span: Duration) -> Self {
        Self { failures: Counts::new(span), slowness: Counts::new(span) }
    }

    fn record(&self, failed: bool, slow: bool, now: Tick) -> Tally {
        self.failures.record(!failed, now);
        self.slowness.record(!slow, now);
        self.tally(now)
    }

    fn tally(&self, now: Tick) -> Tally {
        let (good, failed) = self.failures.tally(now);
        let calls = good + failed;
        Tally { calls, failed, slow: self.slowness.tally(now).1.min(calls) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_calls_push_out_the_ones_before() {
        let window = LastCalls::new(4);
        for (failed, slow, expect) in [
            (true, false, (1, 1, 0)),
            (true, true, (2, 2, 1)),
            (false, false, (3, 2, 1)),
            (false, true, (4, 2, 2)),
            (false, false, (4, 1, 2)),
            (false, false, (4, 0, 1)),
        ] {
            let tally = window.record(failed, slow);
            assert_eq!((tally.calls, tally.failed, tally.slow), expect);
        }
        window.clear();
        assert_eq!(window.tally(window.sums.load(Acquire)), Tally::default());
        assert_eq!(window.record(true, false), Tally { calls: 1, failed: 1, slow: 0 });
    }

    #[test]
    fn a_clear_amid_many_writers_leaves_exact_sums() {
        let window = LastCalls::new(64);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let window = &window;
                scope.spawn(move || {
                    for call in 0..5_000 {
                        window.record(call % 3 == writer, call % 5 == 0);
                        if writer == 0 && call % 100 == 0 {
                            window.clear();
                        }
                    }
                });
            }
        });
        let held: u64 = window.places.iter().map(|place| amount(place.load(Acquire))).sum();
        assert_eq!(window.sums.load(Acquire), held);
    }
}

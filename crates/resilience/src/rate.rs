//! Rate limits by key: how much a consumer, an address or whoever else may have within a time.
//!
//! A [`Rate`] is pure: its [`Scale`] decides over a state of sixteen bytes. A [`Limiter`] keeps one state for each key
//! that has used something of late, in bounded memory, and is exact however many threads ask it.
//!
//! | algorithm | what it promises | after a pause |
//! |---|---|---|
//! | [`Algorithm::Gcra`] | evenly `units` within `per`, and `burst` of them at once | the burst is there again |
//! | [`Algorithm::SlidingWindow`] | about `units` in any window of `per`, however they are spread | all of them |
//!
//! GCRA is the generic cell rate algorithm of ATM, a leaky bucket that keeps a single instant. The sliding
//! window counts two fixed ones, and takes the former as spread evenly.
//!
//! What is not granted is not counted. What cannot be refused is [reserved](Limiter::reserve): it comes after what
//! the key owed before, and may leave a debt itself. A cost that is only known in the end is
//! [settled](Limiter::settle) against what was [taken](Taken) for it in the beginning.

mod limiter;
pub mod shared;

use std::{num::NonZeroU64, time::Duration};

use weft_kernel::Tick;

pub use self::limiter::{Hashed, Limiter};

/// Bits behind the point of an instant of GCRA: a rate that does not divide a second loses nothing.
const FRACTION: u32 = 32;

/// How use is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// A leaky bucket: evenly, with a burst.
    #[default]
    Gcra,
    /// A sliding window over two fixed ones.
    SlidingWindow,
}

/// How much may be had within which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units within the time.
    pub units: NonZeroU64,
    /// The time; at least a microsecond, at most ten years.
    pub per: Duration,
    /// Units that may be had at once, with [`Algorithm::Gcra`]; a sliding window has all of them.
    pub burst: NonZeroU64,
    /// How use is counted.
    pub algorithm: Algorithm,
}

/// What a rate says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is granted.
    pub granted: bool,
    /// Units that are left now.
    pub remaining: u64,
    /// Time until nothing is used any more, if nothing else comes.
    pub reset: Duration,
    /// Time after which the same would be granted: zero if it is, `None` if it never can be.
    pub retry_after: Option<Duration>,
}

/// Units that were granted, and have not come back before an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The units.
    pub units: u64,
    /// When they were granted.
    pub at: Tick,
    /// When all that was used by then will have come back.
    pub until: Tick,
}

impl Taken {
    /// What was granted with this verdict.
    pub const fn new(units: u64, verdict: &Verdict, at: Tick) -> Self {
        Self { units, at, until: at.plus(verdict.reset) }
    }
}

/// What is remembered of a key. Nothing is [`State::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct State(u128);

impl Rate {
    /// Evenly `units` within `per`, all of which may be had at once.
    pub const fn new(units: NonZeroU64, per: Duration) -> Self {
        Self { units, per, burst: units, algorithm: Algorithm::Gcra }
    }

    /// The rate with what counting by it takes, worked out once.
    pub fn scale(self) -> Scale {
        const TEN_YEARS: u128 = 3_652 * 86_400 * 1_000_000_000;
        let per = self.per.as_nanos().clamp(1_000, TEN_YEARS);
        // 59 bits of ten years, and 32 behind the point. At least the smallest part of an instant.
        let unit = (per << FRACTION).div_ceil(u128::from(self.units.get()));
        let burst = unit.saturating_mul(u128::from(self.burst.get()));
        Scale { rate: self, per: saturated(per), unit, burst }
    }
}

/// A [`Rate`], with the times by which it counts.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    rate: Rate,
    /// The time, in nanoseconds.
    per: u64,
    /// The time in which a unit comes back, as a part of an instant.
    unit: u128,
    /// The time in which the burst comes back.
    burst: u128,
}

impl Scale {
    /// The rate.
    pub const fn rate(&self) -> &Rate {
        &self.rate
    }

    /// What is said of a request that costs so much, and what is remembered of it.
    pub fn take(&self, state: State, cost: u64, now: Tick) -> (Verdict, State) {
        match self.rate.algorithm {
            Algorithm::Gcra => self.take_of_bucket(state, cost, now),
            Algorithm::SlidingWindow => self.take_of_window(state, cost, now),
        }
    }

    /// What is remembered of a cost that cannot be refused any more.
    #[must_use]
    pub fn charge(&self, state: State, cost: u64, now: Tick) -> State {
        match self.rate.algorithm {
            Algorithm::Gcra => {
                let full = state.0.max(instant(now));
                State(full.saturating_add(self.time_of(cost)))
            }
            Algorithm::SlidingWindow => {
                let window = Window::of(state, self.index(now));
                window.with(cost).state()
            }
        }
    }

    /// What is remembered when a cost is given back that was granted right before.
    #[must_use]
    pub fn give_back(&self, state: State, cost: u64, now: Tick) -> State {
        match self.rate.algorithm {
            Algorithm::Gcra => State(state.0.saturating_sub(self.time_of(cost))),
            Algorithm::SlidingWindow => {
                let window = Window::of(state, self.index(now));
                Window { current: window.current.saturating_sub(cost), ..window }.state()
            }
        }
    }

    /// What is remembered when what was taken turns out to cost so much: the rest is charged, or given back as far
    /// as it has not come back by itself, so that nothing is had twice.
    #[must_use]
    pub fn settle(&self, state: State, taken: &Taken, cost: u64, now: Tick) -> State {
        let Some(back) = taken.units.checked_sub(cost) else {
            return self.charge(state, cost - taken.units, now);
        };
        match self.rate.algorithm {
            Algorithm::Gcra => {
                let held = instant(taken.until).saturating_sub(instant(now));
                State(state.0.saturating_sub(self.time_of(back).min(held)))
            }
            Algorithm::SlidingWindow => {
                let (index, then) = (self.index(now), self.index(taken.at));
                let mut window = Window::of(state, index);
                match window.index.checked_sub(then) {
                    Some(0) => window.current = window.current.saturating_sub(back),
                    Some(1) => window.former = window.former.saturating_sub(back),
                    _ => {}
                }
                window.state()
            }
        }
    }

    /// Time until nothing of a key is remembered; zero if nothing is.
    pub fn reset(&self, state: State, now: Tick) -> Duration {
        match self.rate.algorithm {
            Algorithm::Gcra => span(state.0.saturating_sub(instant(now))),
            Algorithm::SlidingWindow => {
                let index = self.index(now);
                let window = Window::of(state, index);
                let windows = match (window.former, window.current) {
                    (_, 1..) => 2,
                    (1.., 0) => 1,
                    (0, 0) => return Duration::ZERO,
                };
                let end = u128::from(window.index + windows) * u128::from(self.per);
                Duration::from_nanos(saturated(end.saturating_sub(u128::from(now.nanos()))))
            }
        }
    }

    /// How much of a key is in use, to be held against that of others under the same rate; nought if nothing is
    /// remembered.
    fn used(&self, state: State, now: Tick) -> u128 {
        match self.rate.algorithm {
            Algorithm::Gcra => state.0.saturating_sub(instant(now)),
            Algorithm::SlidingWindow => {
                let index = self.index(now);
                let window = Window::of(state, index);
                let elapsed = now.nanos().saturating_sub(window.index * self.per).min(self.per);
                let fading = u128::from(window.former) * u128::from(self.per - elapsed);
                fading + u128::from(window.current) * u128::from(self.per)
            }
        }
    }

    fn take_of_bucket(&self, state: State, cost: u64, now: Tick) -> (Verdict, State) {
        let now = instant(now);
        let full = state.0.max(now);
        let after = full.saturating_add(self.time_of(cost));
        let latest = now.saturating_add(self.burst);
        let granted = after <= latest;
        let kept = if granted { after } else { full };
        let verdict = Verdict {
            granted,
            remaining: saturated(latest.saturating_sub(kept) / self.unit),
            reset: span(kept - now),
            retry_after: match granted {
                true => Some(Duration::ZERO),
                false => (cost <= self.rate.burst.get()).then(|| span(after - latest)),
            },
        };
        // A refusal is not remembered, so that a state that is empty stays so.
        (verdict, if granted { State(after) } else { state })
    }

    fn take_of_window(&self, state: State, cost: u64, now: Tick) -> (Verdict, State) {
        let index = self.index(now);
        let window = Window::of(state, index);
        let elapsed = now.nanos() - index * self.per;
        let units = u128::from(self.rate.units.get());
        // What is left of the former window, rounded up.
        let former = match window.former {
            0 => 0,
            former => {
                let fading = u128::from(former) * u128::from(self.per - elapsed);
                fading.div_ceil(u128::from(self.per))
            }
        };
        let used = former + u128::from(window.current);
        let granted = used + u128::from(cost) <= units;
        let kept = if granted { window.with(cost) } else { window };
        let after = used + if granted { u128::from(cost) } else { 0 };
        let verdict = Verdict {
            granted,
            remaining: saturated(units.saturating_sub(after)),
            reset: self.reset(kept.state(), now),
            retry_after: match granted {
                true => Some(Duration::ZERO),
                false => self.fits_after(window, cost, elapsed),
            },
        };
        (verdict, if granted { kept.state() } else { state })
    }

    /// Time after which a cost fits that does not fit now.
    fn fits_after(&self, window: Window, cost: u64, elapsed: u64) -> Option<Duration> {
        let (per, cost, elapsed) = (u128::from(self.per), u128::from(cost), u128::from(elapsed));
        // What may be left of a window for the cost to fit beside what has been had in the next.
        let room = |beside: u128| u128::from(self.rate.units.get()).checked_sub(beside + cost);
        let fading = |of: u64, room: u128| match u128::from(of) {
            of if of <= room => 0,
            of => per - room * per / of,
        };
        let nanos = match room(window.current.into()) {
            Some(room) => fading(window.former, room).saturating_sub(elapsed),
            None => per - elapsed + fading(window.current, room(0)?),
        };
        Some(Duration::from_nanos(saturated(nanos)))
    }

    /// The number of the window of a tick.
    const fn index(&self, now: Tick) -> u64 {
        now.nanos() / self.per
    }

    /// The time in which so many units come back, as a part of an instant.
    const fn time_of(&self, units: u64) -> u128 {
        match units {
            1 => self.unit,
            units => self.unit.saturating_mul(units as u128),
        }
    }
}

/// An instant with its fraction.
fn instant(now: Tick) -> u128 {
    u128::from(now.nanos()) << FRACTION
}

/// A span of instants, rounded up to a nanosecond.
fn span(of: u128) -> Duration {
    Duration::from_nanos(saturated(of.div_ceil(1 << FRACTION)))
}

fn saturated(of: u128) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

/// What was had in a window and in the one before it.
#[derive(Clone, Copy, Debug)]
struct Window {
    index: u64,
    former: u64,
    current: u64,
}

impl Window {
    /// What a state says of the window of this number.
    fn of(state: State, index: u64) -> Self {
        let (seen, former, current) =
            ((state.0 >> 64) as u64, (state.0 >> 32) as u32, state.0 as u32);
        let (former, current) = match index.checked_sub(seen) {
            Some(0) => (former, current),
            Some(1) => (current, 0),
            Some(_) => (0, 0),
            // Another thread has looked at the clock later, and was first.
            None => return Self { index: seen, former: former.into(), current: current.into() },
        };
        Self { index, former: former.into(), current: current.into() }
    }

    const fn with(self, cost: u64) -> Self {
        Self { current: self.current.saturating_add(cost), ..self }
    }

    fn state(self) -> State {
        let count = |of: u64| u128::from(u32::try_from(of).unwrap_or(u32::MAX));
        State(u128::from(self.index) << 64 | count(self.former) << 32 | count(self.current))
    }
}

#[cfg(test)]
mod tests;

//! The stock of one key: units that a node has got from a store which several nodes share, and has not used yet.
//!
//! A node asks for a slice of units, uses it up by itself, and asks for more before it is at its end. So most requests
//! wait for nobody, and no unit is had that the store has not counted before. A stock is no more than a slice, or
//! what requests wait for, and is given up a while after it came.
//!
//! A stock is pure: it is given the time, and says what is to be asked.

use std::time::Duration;

use weft_kernel::Tick;

use super::super::{Rate, Verdict};

/// Parts of what may be had at once that a slice is, unless it is said.
const SLICES: u64 = 100;
/// The most units of a slice, unless it is said.
const SLICE_MAX: u64 = 1_000;

/// The smallest slice that is asked for before it is needed: who needs one unit a minute is to get no second one.
const AHEAD_MIN: u64 = 4;
/// The shortest and the longest time that units are kept which nobody uses.
const KEPT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What stocks of a limit go by.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How much may be had within which time, by all nodes together.
    pub rate: Rate,
    /// Units that a node has in stock, at most.
    pub slice: u64,
}

/// Units of a key that a node has in stock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// Units that may be used.
    units: u64,
    /// Units that were had beyond those, or, below nought, that are to go back to the store.
    owed: i64,
    /// Units that requests wait for, all together and the least of them.
    wanted: u64,
    least: u64,
    /// Whether the store has been asked, and has not answered.
    asked: bool,
    /// When the units are given up.
    until: Tick,
    /// When the store may have something again.
    empty: Tick,
    /// What the store had left, and when all will be back.
    left: u64,
    full: Tick,
}

/// What a stock says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is known.
    Known(Verdict),
    /// The store has to answer first.
    Waits,
}

/// What a store is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Units that are wanted.
    pub units: u64,
    /// Units without which none are of use.
    pub least: u64,
    /// Units that were had already; below nought, so many go back.
    pub charge: i64,
}

/// What a store gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Units: none, or between what is of use and what was wanted.
    pub units: u64,
    /// Units that it has left for anybody.
    pub left: u64,
    /// Time until it has all of them, if nobody takes any.
    pub reset: Duration,
    /// Time until it has what is of use, beyond what it gives.
    pub retry_after: Duration,
}

impl Terms {
    /// The terms of a rate, with a slice that is small beside it unless one is said.
    pub fn new(rate: Rate, slice: Option<u64>) -> Self {
        let burst = rate.burst.get();
        let slice = slice.unwrap_or((burst / SLICES).clamp(1, SLICE_MAX)).clamp(1, burst);
        Self { rate, slice }
    }

    /// How long units are kept that nobody uses: about as long as a slice takes to come back, between a second and
    /// a minute.
    fn keeps(&self) -> Duration {
        let nanos = self.rate.per.as_nanos().saturating_mul(self.slice.into());
        let nanos = nanos / u128::from(self.rate.units.get());
        let span = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        span.clamp(KEPT.0, KEPT.1)
    }
}

impl Stock {
    /// Whether nothing of it is to be remembered.
    pub fn is_idle(&self, now: Tick) -> bool {
        let holds = self.units > 0 && self.until > now;
        !self.asked && self.owed == 0 && self.wanted == 0 && !holds && self.empty <= now
    }

    /// Asks for so many units.
    pub fn take(&mut self, cost: u64, terms: &Terms, now: Tick) -> Taken {
        if self.until <= now {
            self.units = 0;
        }
        if cost > terms.rate.burst.get() {
            return Taken::Known(self.refusal(None, now));
        }
        // Whoever has had more than was asked for pays first.
        if self.units >= cost && self.owed <= 0 {
            self.units -= cost;
            return Taken::Known(Verdict {
                granted: true,
                remaining: self.left.saturating_add(self.units).min(terms.rate.burst.get()),
                reset: self.full.since(now),
                retry_after: Some(Duration::ZERO),
            });
        }
        if self.empty > now {
            return Taken::Known(self.refusal(Some(self.empty.since(now)), now));
        }
        let lacks = cost.saturating_sub(self.units).max(1);
        self.least = if self.wanted == 0 { lacks } else { self.least.min(lacks) };
        self.wanted = self.wanted.saturating_add(cost);
        Taken::Waits
    }

    fn refusal(&self, retry_after: Option<Duration>, now: Tick) -> Verdict {
        let reset = self.full.since(now);
        Verdict { granted: false, remaining: self.units, reset, retry_after }
    }

    /// Counts what a request has cost in the end, in the place of what was granted for it.
    pub fn settle(&mut self, granted: u64, cost: u64, terms: &Terms, now: Tick) {
        if self.until <= now {
            (self.units, self.until) = (0, now.plus(terms.keeps()));
        }
        match cost.checked_sub(granted) {
            None => {
                self.units = self.units.saturating_add(granted - cost);
                let beyond = self.units.saturating_sub(terms.slice);
                self.units -= beyond;
                self.owe(-signed(beyond));
            }
            Some(more) => {
                let had = more.min(self.units);
                self.units -= had;
                self.owe(signed(more - had));
            }
        }
    }

    /// Gives back what was granted right before.
    pub fn give_back(&mut self, cost: u64) {
        self.units = self.units.saturating_add(cost);
    }

    const fn owe(&mut self, units: i64) {
        self.owed = self.owed.saturating_add(units);
    }

    /// What the store is to be asked now, if anything.
    pub fn ask(&mut self, terms: &Terms, now: Tick) -> Option<Ask> {
        let ahead = terms.slice >= AHEAD_MIN && self.units < terms.slice / 2 && self.empty <= now;
        if self.asked || !(ahead || self.wanted > 0 || self.owed != 0) {
            return None;
        }
        self.asked = true;
        let wanted = std::mem::take(&mut self.wanted).max(terms.slice);
        let units = wanted.min(terms.rate.burst.get()).saturating_sub(self.units);
        let least = std::mem::take(&mut self.least).clamp(1, units.max(1));
        Some(Ask { units, least, charge: self.owed })
    }

    /// The store has answered.
    pub fn answered(&mut self, ask: &Ask, answer: &Answer, terms: &Terms, now: Tick) {
        // Whoever waits takes again.
        (self.asked, self.wanted, self.least) = (false, 0, 0);
        self.owed = self.owed.saturating_sub(ask.charge);
        self.units = self.units.saturating_add(answer.units);
        (self.left, self.full) = (answer.left, now.plus(answer.reset));
        if answer.units > 0 {
            self.until = now.plus(terms.keeps());
        }
        let lacks = answer.units < ask.units;
        self.empty = if lacks { now.plus(answer.retry_after) } else { Tick::ZERO };
    }

    /// The store has not answered. What it may have given is not had.
    pub const fn failed(&mut self) {
        (self.asked, self.wanted, self.least) = (false, 0, 0);
    }
}

fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

//! The permission to make one call, which carries its outcome back.

use std::time::Duration;

use weft_kernel::Tick;

use super::{Breaker, Outcome, core::Input};

/// As what a call was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// As one of many while closed.
    Call,
    /// As a trial.
    Trial,
    /// Without being counted.
    Free,
}

/// The permission to make one call. Dropped without an outcome, it counts as if it never was.
#[derive(Debug)]
#[must_use = "dropped without an outcome, the call is not counted"]
pub struct Permit {
    breaker: Breaker,
    held: Held,
    generation: u64,
}

impl Permit {
    pub(super) fn new(breaker: &Breaker, held: Held, generation: u64) -> Self {
        Self { breaker: breaker.clone(), held, generation }
    }

    pub(super) fn free(breaker: &Breaker) -> Self {
        Self::new(breaker, Held::Free, 0)
    }

    /// Tells how the call ended and how long it took.
    pub fn finish(mut self, outcome: Outcome, elapsed: Duration, now: Tick) {
        let slow = self.breaker.is_slow(elapsed);
        let generation = self.generation;
        match std::mem::replace(&mut self.held, Held::Free) {
            Held::Call => self.breaker.count(generation, outcome, slow, now),
            Held::Trial => {
                let input = Input::Trial { generation, outcome: Some(outcome), slow };
                self.breaker.step(input, now);
            }
            Held::Free => {}
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.held == Held::Trial {
            let input = Input::Trial { generation: self.generation, outcome: None, slow: false };
            // Giving a place back changes no state, so the time is not asked for.
            self.breaker.step(input, Tick::ZERO);
        }
    }
}

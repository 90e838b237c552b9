//! The pure machine of the breaker: a state, an input and the time in; effects out.
//!
//! It knows nothing of threads or windows. What it is told of the window is a [`Tally`]; what it is
//! told of a call is the generation it was admitted in, which every change of state ends.

use std::time::Duration;

use weft_kernel::Tick;

use super::{Cause, Change, Mode, Options, Outcome, State, Window};

/// What a call is told that comes while all trial calls are out: nobody knows when they end.
pub const TRIAL_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a window of calls holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All calls.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that were slow.
    pub slow: u64,
}

/// The trial calls of a half-open breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trials {
    /// Admitted and not given back.
    pub given: u32,
    /// Finished.
    pub done: u32,
    /// Finished with a failure.
    pub failed: u32,
    /// Finished slowly.
    pub slow: u32,
}

impl Trials {
    /// The finished ones as a tally.
    pub fn tally(self) -> Tally {
        Tally {
            calls: u64::from(self.done),
            failed: u64::from(self.failed),
            slow: u64::from(self.slow),
        }
    }
}

/// The state with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open {
        /// Until this tick.
        until: Tick,
    },
    /// Trial calls pass.
    HalfOpen(Trials),
}

impl Phase {
    fn state(self) -> State {
        match self {
            Self::Closed => State::Closed,
            Self::Open { .. } => State::Open,
            Self::HalfOpen(_) => State::HalfOpen,
        }
    }
}

/// What can happen to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A call asks to be made.
    Admit,
    /// A call of a closed breaker was counted.
    Counted {
        /// The generation it was admitted in.
        generation: u64,
        /// The window with it.
        tally: Tally,
    },
    /// A trial call ended.
    Trial {
        /// The generation it was admitted in.
        generation: u64,
        /// How; `None` if it was given back without a verdict.
        outcome: Option<Outcome>,
        /// Whether it was slow.
        slow: bool,
    },
    /// The mode is set.
    Mode(Mode),
    /// Everything begins anew.
    Reset,
}

/// What a call that asks is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go, as one of many.
    Pass,
    /// Go, as a trial.
    Trial,
    /// Do not go.
    Refuse {
        /// When it is worth asking again.
        retry_after: Duration,
    },
}

/// What follows from a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The answer to [`Input::Admit`].
    pub verdict: Option<Verdict>,
    /// The change of state, if there was one.
    pub change: Option<Change>,
    /// The window is to be emptied.
    pub clear: bool,
}

/// The whole state of a breaker but for its window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Whether it refuses calls.
    pub mode: Mode,
    /// The state with what belongs to it.
    pub phase: Phase,
    /// Since when it is in that state.
    pub since: Tick,
    /// Grows with every change of state, so that late outcomes are told apart.
    pub generation: u64,
    /// How often it has opened.
    pub opens: u64,
}

/// What the window says: why the breaker should open, if it should.
pub fn breach(options: &Options, tally: Tally) -> Option<Cause> {
    let calls_min = match options.window {
        Window::Calls(span) => options.calls_min.min(span),
        Window::Time(_) => options.calls_min,
    };
    if tally.calls < u64::from(calls_min.max(1)) {
        return None;
    }
    reaches(options, tally, tally.calls)
}

/// Whether failures or slow calls reach their share of `calls`.
fn reaches(options: &Options, tally: Tally, calls: u64) -> Option<Cause> {
    let over = |part: u64, share: f64| part > 0 && part as f64 >= share * calls as f64;
    if over(tally.failed, options.failure_ratio) {
        return Some(Cause::Failures);
    }
    over(tally.slow, options.slow_ratio).then_some(Cause::Slow)
}

impl Machine {
    /// A closed breaker.
    pub fn new(mode: Mode, now: Tick) -> Self {
        Self { mode, phase: Phase::Closed, since: now, generation: 0, opens: 0 }
    }

    /// Does one step.
    pub fn step(&mut self, options: &Options, input: Input, now: Tick) -> Effects {
        match input {
            Input::Admit => self.admit(options, now),
            Input::Counted { generation, tally } => {
                if generation != self.generation || self.phase != Phase::Closed {
                    return Effects::default();
                }
                match breach(options, tally) {
                    Some(cause) => self.open(options, cause, now),
                    None => Effects::default(),
                }
            }
            Input::Trial { generation, outcome, slow } => {
                if generation != self.generation {
                    return Effects::default();
                }
                self.trial(options, outcome, slow, now)
            }
            Input::Mode(mode) => {
                self.mode = mode;
                self.anew(now)
            }
            Input::Reset => self.anew(now),
        }
    }

    fn admit(&mut self, options: &Options, now: Tick) -> Effects {
        let mut effects = Effects::default();
        effects.verdict = Some(match (self.mode, &mut self.phase) {
            (Mode::Disabled, _) => Verdict::Pass,
            (Mode::Isolated, _) => Verdict::Refuse { retry_after: options.open },
            (_, Phase::Closed) => Verdict::Pass,
            (_, Phase::Open { until }) if now < *until => {
                Verdict::Refuse { retry_after: until.since(now) }
            }
            (_, Phase::Open { .. }) => {
                let first = Trials { given: 1, ..Trials::default() };
                effects.change = Some(self.enter(Phase::HalfOpen(first), Cause::Waited, now));
                Verdict::Trial
            }
            (_, Phase::HalfOpen(trials)) if trials.given < options.half_open => {
                trials.given += 1;
                Verdict::Trial
            }
            (_, Phase::HalfOpen(_)) => Verdict::Refuse { retry_after: TRIAL_RETRY_AFTER },
        });
        effects
    }

    fn trial(
        &mut self,
        options: &Options,
        outcome: Option<Outcome>,
        slow: bool,
        now: Tick,
    ) -> Effects {
        let Phase::HalfOpen(trials) = &mut self.phase else {
            return Effects::default();
        };
        let Some(outcome) = outcome else {
            trials.given = trials.given.saturating_sub(1);
            return Effects::default();
        };
        trials.done += 1;
        trials.failed += u32::from(outcome == Outcome::Failed);
        trials.slow += u32::from(slow);
        let trials = *trials;
        // Once enough have gone wrong, the rest cannot change the verdict: it opens at once.
        if let Some(cause) = reaches(options, trials.tally(), u64::from(options.half_open)) {
            return self.open(options, cause, now);
        }
        if trials.done < options.half_open {
            return Effects::default();
        }
        let change = self.enter(Phase::Closed, Cause::Recovered, now);
        Effects { change: Some(change), clear: true, verdict: None }
    }

    fn open(&mut self, options: &Options, cause: Cause, now: Tick) -> Effects {
        self.opens += 1;
        let change = self.enter(Phase::Open { until: now.plus(options.open) }, cause, now);
        Effects { change: Some(change), ..Effects::default() }
    }

    fn anew(&mut self, now: Tick) -> Effects {
        let was = self.phase.state();
        let change = self.enter(Phase::Closed, Cause::Set, now);
        Effects { change: (was != State::Closed).then_some(change), clear: true, verdict: None }
    }

    fn enter(&mut self, phase: Phase, cause: Cause, now: Tick) -> Change {
        let change = Change { from: self.phase.state(), to: phase.state(), cause, at: now };
        self.phase = phase;
        self.since = now;
        self.generation += 1;
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(calls: u64, failed: u64, slow: u64) -> Tally {
        Tally { calls, failed, slow }
    }

    #[test]
    fn the_window_is_judged_by_shares_and_only_with_enough_calls() {
        let options = Options::default();
        let lone = Options { calls_min: 0, ..Options::default() };
        let wide = Options { calls_min: 1_000, ..Options::default() };
        let never = Options { failure_ratio: 1.1, slow_ratio: f64::NAN, ..Options::default() };
        for (options, tally, expect) in [
            (&options, tally(99, 99, 99), None),
            (&options, tally(100, 49, 99), None),
            (&options, tally(100, 50, 0), Some(Cause::Failures)),
            (&options, tally(100, 0, 100), Some(Cause::Slow)),
            (&options, tally(100, 0, 0), None),
            (&lone, tally(0, 0, 0), None),
            (&lone, tally(1, 1, 0), Some(Cause::Failures)),
            (&wide, tally(100, 50, 0), Some(Cause::Failures)),
            (&never, tally(100, 100, 100), None),
        ] {
            assert_eq!(breach(options, tally), expect, "{tally:?}");
        }
    }

    #[test]
    fn it_opens_waits_tries_and_closes() {
        let options = Options { half_open: 2, ..Options::default() };
        let start = Tick::from_nanos(3_600_000_000_000);
        let mut machine = Machine::new(Mode::Enforce, start);
        let breach = Input::Counted { generation: 0, tally: tally(100, 60, 0) };
        let opened = machine.step(&options, breach, start).change;
        assert_eq!(opened.map(|change| change.cause), Some(Cause::Failures));

        let refuse = |seconds| Some(Verdict::Refuse { retry_after: Duration::from_secs(seconds) });
        assert_eq!(machine.step(&options, Input::Admit, start).verdict, refuse(30));
        let later = start.plus(Duration::from_secs(30));
        assert_eq!(machine.step(&options, Input::Admit, later).verdict, Some(Verdict::Trial));
        assert_eq!(machine.step(&options, Input::Admit, later).verdict, Some(Verdict::Trial));
        assert_eq!(machine.step(&options, Input::Admit, later).verdict, refuse(1));

        let generation = machine.generation;
        let ended = |outcome| Input::Trial { generation, outcome, slow: false };
        machine.step(&options, ended(None), later);
        assert_eq!(machine.step(&options, Input::Admit, later).verdict, Some(Verdict::Trial));
        machine.step(&options, ended(Some(Outcome::Ok)), later);
        let closed = machine.step(&options, ended(Some(Outcome::Ok)), later);
        assert_eq!(
            (closed.change.map(|change| change.to), closed.clear),
            (Some(State::Closed), true)
        );
        // What was admitted before the change says nothing about the state after it.
        assert_eq!(machine.step(&options, breach, later), Effects::default());
        assert_eq!(machine.step(&options, ended(Some(Outcome::Failed)), later), Effects::default());
    }
}

//! The breaker of a service: stops calling what fails, and finds out with a few trial calls when it
//! works again. Its semantics are Resilience4j's: closed, open, half-open; failures and slow calls
//! as shares of a window of calls or of time.
//!
//! [`core`] is the pure machine of the three states; [`Breaker`] shares it between threads. While
//! the breaker is closed, or open, or half-open with all trials out, a call touches atomics only;
//! the lock is taken for a trial and for a change of state.
//!
//! Invariants: at most `half_open` trials are out or counted at a time; an outcome counts only in
//! the state in which its call was admitted; a permit that is dropped gives its place back.

pub mod core;
mod gate;
mod permit;
mod window;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release},
    },
    time::Duration,
};

use weft_kernel::Tick;

pub use self::permit::Permit;
use self::{
    core::{Effects, Input, Machine, Phase, Verdict},
    gate::Gate,
    permit::Held,
    window::Sliding,
};

/// What outcomes are judged over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last so many calls (1 to [`WINDOW_CALLS_MAX`]).
    Calls(u32),
    /// The calls of the last so much time (at least 10 ms; a tenth of it is the granularity).
    Time(Duration),
}

/// The most calls that a window of calls can span.
pub const WINDOW_CALLS_MAX: u32 = 65_536;

/// When a breaker opens, and how it closes again.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// What outcomes are judged over.
    pub window: Window,
    /// Below so many calls in the window nothing is judged; at most the window of calls.
    pub calls_min: u32,
    /// The share of failures from which it opens (0.5 is half).
    pub failure_ratio: f64,
    /// The share of slow calls from which it opens.
    pub slow_ratio: f64,
    /// From how long on a call is slow; `None` judges no slowness.
    pub slow_after: Option<Duration>,
    /// How long it stays open before trial calls.
    pub open: Duration,
    /// How many trial calls decide whether it closes.
    pub half_open: u32,
    /// Whether it refuses calls at all.
    pub mode: Mode,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            window: Window::Calls(100),
            calls_min: 100,
            failure_ratio: 0.5,
            slow_ratio: 1.0,
            slow_after: None,
            open: Duration::from_secs(30),
            half_open: 10,
            mode: Mode::Enforce,
        }
    }
}

/// Whether a breaker refuses calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It refuses calls while open.
    Enforce,
    /// It goes through its states but admits every call: a dry run, seen in the snapshot.
    MetricsOnly,
    /// It refuses every call until the mode is set anew.
    Isolated,
    /// It admits every call and counts none.
    Disabled,
}

impl Mode {
    /// The stable word for configuration, API and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::MetricsOnly => "metrics_only",
            Self::Isolated => "isolated",
            Self::Disabled => "disabled",
        }
    }
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Calls pass and are judged.
    Closed,
    /// Calls are refused.
    Open,
    /// Trial calls pass.
    HalfOpen,
}

impl State {
    /// The stable word for API and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// How an admitted call ended. What is neither (the caller went away) is told by dropping the permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Ok,
    /// The service failed.
    Failed,
}

/// A call that was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the breaker is open; try again after {retry_after:?}")]
pub struct Refused {
    /// When it is worth trying again.
    pub retry_after: Duration,
}

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Too many calls failed.
    Failures,
    /// Too many calls were slow.
    Slow,
    /// It has been open for its time.
    Waited,
    /// The trial calls went well.
    Recovered,
    /// Somebody set it.
    Set,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The state before.
    pub from: State,
    /// The state since.
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Tick,
}

/// A breaker, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Its state.
    pub state: State,
    /// Whether it refuses calls.
    pub mode: Mode,
    /// The share of failures in the window, or among the trial calls; `None` without calls.
    pub failure_ratio: Option<f64>,
    /// The share of slow calls there.
    pub slow_ratio: Option<f64>,
    /// How many calls that window holds.
    pub calls: u64,
    /// Since when it is in its state.
    pub since: Tick,
    /// How often it has opened.
    pub opens: u64,
    /// How many calls it has refused, or in [`Mode::MetricsOnly`] would have.
    pub refusals: u64,
}

type Hook = Box<dyn Fn(&Change) + Send + Sync>;

/// A breaker that all threads share; a clone is a handle to the same.
///
/// ```
/// use std::time::Duration;
/// use weft_kernel::Tick;
/// use weft_resilience::breaker::{Breaker, Options, Outcome, State, Window};
///
/// let options = Options { window: Window::Calls(4), calls_min: 4, ..Options::default() };
/// let now = Tick::from_nanos(3_600_000_000_000);
/// let breaker = Breaker::new(options, now);
/// for outcome in [Outcome::Ok, Outcome::Ok, Outcome::Failed, Outcome::Failed] {
///     let permit = breaker.admit(now)?;
///     permit.finish(outcome, Duration::from_millis(3), now);
/// }
/// assert_eq!(breaker.state(now), State::Open);
/// assert!(breaker.admit(now).is_err());
/// # Ok::<(), weft_resilience::breaker::Refused>(())
/// ```
#[derive(Clone)]
pub struct Breaker(Arc<Inner>);

struct Inner {
    options: Options,
    machine: Mutex<Machine>,
    /// Mode, phase and generation of the machine, so that most calls need no lock.
    gate: AtomicU64,
    /// Until when it is open, in nanoseconds.
    until: AtomicU64,
    refusals: AtomicU64,
    window: Sliding,
    hook: Option<Hook>,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(options: Options, now: Tick) -> Self {
        Self::build(options, now, None)
    }

    /// A closed breaker that tells each change of state, in order, to `hook`.
    ///
    /// The hook runs on the thread that caused the change, under the breaker's lock: it must be
    /// brief and must not call the breaker.
    pub fn with_hook(
        options: Options,
        now: Tick,
        hook: impl Fn(&Change) + Send + Sync + 'static,
    ) -> Self {
        Self::build(options, now, Some(Box::new(hook)))
    }

    fn build(options: Options, now: Tick, hook: Option<Hook>) -> Self {
        let options = Options { half_open: options.half_open.max(1), ..options };
        let machine = Machine::new(options.mode, now);
        Self(Arc::new(Inner {
            gate: AtomicU64::new(Gate::of(&machine, &options).word()),
            until: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            window: Sliding::new(&options),
            machine: Mutex::new(machine),
            options,
            hook,
        }))
    }

    /// Asks to make a call.
    pub fn admit(&self, now: Tick) -> Result<Permit, Refused> {
        let gate = self.gate();
        let retry_after = match (gate.mode(), gate.state()) {
            (Mode::Disabled, _) => return Ok(Permit::free(self)),
            (Mode::Isolated, _) => self.0.options.open,
            (_, State::Closed) => return Ok(Permit::new(self, Held::Call, gate.generation())),
            (_, State::Open) if now.nanos() < self.0.until.load(Relaxed) => {
                Tick::from_nanos(self.0.until.load(Relaxed)).since(now)
            }
            (_, State::HalfOpen) if gate.full() => core::TRIAL_RETRY_AFTER,
            _ => match self.step(Input::Admit, now) {
                (Some(Verdict::Refuse { retry_after }), _) => retry_after,
                (Some(Verdict::Trial), generation) => {
                    return Ok(Permit::new(self, Held::Trial, generation));
                }
                (_, generation) => return Ok(Permit::new(self, Held::Call, generation)),
            },
        };
        self.0.refusals.fetch_add(1, Relaxed);
        if gate.mode() == Mode::MetricsOnly {
            return Ok(Permit::free(self));
        }
        Err(Refused { retry_after })
    }

    /// Refuses every call until the mode is set anew.
    pub fn isolate(&self, now: Tick) {
        self.set_mode(Mode::Isolated, now);
    }

    /// Sets the mode, and begins anew as closed with an empty window.
    pub fn set_mode(&self, mode: Mode, now: Tick) {
        self.step(Input::Mode(mode), now);
    }

    /// Begins anew as closed with an empty window, in the same mode.
    pub fn reset(&self, now: Tick) {
        self.step(Input::Reset, now);
    }

    /// The state that a call at `now` would meet: an open breaker whose time is over is half-open.
    pub fn state(&self, now: Tick) -> State {
        match self.gate().state() {
            State::Open if now.nanos() >= self.0.until.load(Relaxed) => State::HalfOpen,
            state => state,
        }
    }

    /// Whether it refuses calls.
    pub fn mode(&self) -> Mode {
        self.gate().mode()
    }

    /// The breaker, for people.
    pub fn snapshot(&self, now: Tick) -> Snapshot {
        let (phase, mode, since, opens) = {
            let machine = self.0.machine.lock().unwrap_or_else(PoisonError::into_inner);
            (machine.phase, machine.mode, machine.since, machine.opens)
        };
        let tally = match phase {
            Phase::HalfOpen(trials) => trials.tally(),
            Phase::Closed | Phase::Open { .. } => self.0.window.tally(now),
        };
        let share = |part: u64| (tally.calls > 0).then(|| part as f64 / tally.calls as f64);
        Snapshot {
            state: self.state(now),
            mode,
            failure_ratio: share(tally.failed),
            slow_ratio: share(tally.slow),
            calls: tally.calls,
            since,
            opens,
            refusals: self.0.refusals.load(Relaxed),
        }
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    fn gate(&self) -> Gate {
        Gate::from_word(self.0.gate.load(Acquire))
    }

    /// Counts a call that was admitted while closed, and opens if the window says so.
    fn count(&self, generation: u64, outcome: Outcome, slow: bool, now: Tick) {
        if self.gate().generation() != generation {
            return;
        }
        let tally = self.0.window.record(outcome == Outcome::Failed, slow, now);
        if core::breach(&self.0.options, tally).is_some() {
            self.step(Input::Counted { generation, tally }, now);
        }
    }

    fn is_slow(&self, elapsed: Duration) -> bool {
        self.0.options.slow_after.is_some_and(|limit| elapsed >= limit)
    }

    /// Steps the machine and does what it asks; returns the verdict and the generation it is of.
    fn step(&self, input: Input, now: Tick) -> (Option<Verdict>, u64) {
        let inner = &*self.0;
        let mut machine = inner.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let Effects { verdict, change, clear } = machine.step(&inner.options, input, now);
        if clear {
            inner.window.clear();
        }
        if let Phase::Open { until } = machine.phase {
            inner.until.store(until.nanos(), Relaxed);
        }
        inner.gate.store(Gate::of(&machine, &inner.options).word(), Release);
        if let (Some(change), Some(hook)) = (&change, &inner.hook) {
            hook(change);
        }
        (verdict, machine.generation)
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gate = self.gate();
        f.debug_struct("Breaker")
            .field("state", &gate.state())
            .field("mode", &gate.mode())
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

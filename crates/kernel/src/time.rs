//! Time as a value: a [`Tick`] is a monotonic instant that fits an atomic, a [`Clock`] hands it out.
//!
//! State machines take `now: Tick` and never ask for the time, so that a test or a simulation decides
//! how it passes.

use std::{
    fmt,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

/// A monotonic instant: nanoseconds since an origin that belongs to its clock (584 years fit).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(u64);

impl Tick {
    /// The clock's origin.
    pub const ZERO: Self = Self(0);
    /// A tick that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// A tick from nanoseconds since the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This tick and `span` more, saturating at [`Tick::NEVER`].
    #[must_use]
    pub const fn plus(self, span: Duration) -> Self {
        let nanos = span.as_nanos();
        if nanos > u64::MAX as u128 {
            return Self::NEVER;
        }
        Self(self.0.saturating_add(nanos as u64))
    }

    /// This tick less `span`, saturating at [`Tick::ZERO`].
    #[must_use]
    pub const fn minus(self, span: Duration) -> Self {
        let nanos = span.as_nanos();
        if nanos > u64::MAX as u128 {
            return Self::ZERO;
        }
        Self(self.0.saturating_sub(nanos as u64))
    }
}

impl fmt::Debug for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("never");
        }
        write!(f, "t+{:?}", Duration::from_nanos(self.0))
    }
}

/// Hands out the time.
pub trait Clock: Send + Sync {
    /// The monotonic time.
    fn now(&self) -> Tick;
    /// The wall-clock time, for what people and protocols read.
    fn wall(&self) -> SystemTime;
}

/// The machine's clock; its origin is the first use in the process, so that all copies agree.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

fn origin() -> Instant {
    static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    // One hour in the past, so that "long ago" can be told from "never" right after the start.
    *ORIGIN.get_or_init(|| {
        let now = Instant::now();
        now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
    })
}

impl SystemClock {
    /// The tick at an [`Instant`] of this process.
    pub fn at(instant: Instant) -> Tick {
        Tick::ZERO.plus(instant.saturating_duration_since(origin()))
    }

    /// The [`Instant`] of a tick, for timers; `None` beyond what an [`Instant`] can hold.
    pub fn instant(tick: Tick) -> Option<Instant> {
        origin().checked_add(tick.since(Tick::ZERO))
    }

    /// The monotonic time, without a trait object.
    pub fn tick() -> Tick {
        Self::at(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Tick {
        Self::tick()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that stands still until it is moved; for tests and simulations.
#[derive(Debug)]
pub struct ManualClock {
    nanos: AtomicU64,
    wall_origin: SystemTime,
    /// Milliseconds that the wall clock was set forward, or back.
    set_ms: AtomicI64,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self {
            nanos: AtomicU64::new(3_600_000_000_000),
            wall_origin: SystemTime::UNIX_EPOCH,
            set_ms: AtomicI64::new(0),
        }
    }
}

impl ManualClock {
    /// Moves the clock on by `span`.
    pub fn advance(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Sets the wall clock alone so many milliseconds forward, or back.
    pub fn set_wall_by(&self, ms: i64) {
        self.set_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Tick {
        Tick::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    fn wall(&self) -> SystemTime {
        let at = self.wall_origin + self.now().since(Tick::ZERO);
        let set = self.set_ms.load(Ordering::Relaxed);
        let by = Duration::from_millis(set.unsigned_abs());
        if set < 0 { at - by } else { at + by }
    }
}

/// When a whole request must be over, whatever happens within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Tick);

impl Deadline {
    /// No deadline.
    pub const NONE: Self = Self(Tick::NEVER);

    /// The deadline `span` after `now`.
    pub const fn after(now: Tick, span: Duration) -> Self {
        Self(now.plus(span))
    }

    /// The deadline at `tick`.
    pub const fn at(tick: Tick) -> Self {
        Self(tick)
    }

    /// The instant of the deadline.
    pub const fn tick(self) -> Tick {
        self.0
    }

    /// The earlier of two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        if other.0 < self.0 { other } else { self }
    }

    /// What is left; `None` without a deadline, zero once it has passed.
    pub fn left(self, now: Tick) -> Option<Duration> {
        (self.0 != Tick::NEVER).then(|| self.0.since(now))
    }

    /// Whether it has passed.
    pub fn passed(self, now: Tick) -> bool {
        self.0 != Tick::NEVER && now >= self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_saturate() {
        assert_eq!(Tick::NEVER.plus(Duration::from_secs(1)), Tick::NEVER);
        assert_eq!(Tick::ZERO.plus(Duration::MAX), Tick::NEVER);
        assert_eq!(Tick::ZERO.minus(Duration::from_secs(1)), Tick::ZERO);
        assert_eq!(Tick::ZERO.since(Tick::NEVER), Duration::ZERO);
    }

    #[test]
    fn system_ticks_and_instants_round_trip() {
        let now = Instant::now();
        assert_eq!(SystemClock::instant(SystemClock::at(now)), Some(now));
    }

    #[test]
    fn a_deadline_passes_once() {
        let clock = ManualClock::default();
        let deadline = Deadline::after(clock.now(), Duration::from_secs(2));
        assert_eq!(deadline.left(clock.now()), Some(Duration::from_secs(2)));
        clock.advance(Duration::from_secs(3));
        assert!(deadline.passed(clock.now()));
        assert_eq!(deadline.left(clock.now()), Some(Duration::ZERO));
        assert!(!Deadline::NONE.passed(Tick::NEVER));
        assert_eq!(Deadline::NONE.left(clock.now()), None);
    }
}

//! One reading of both clocks.

use std::time::{Duration, UNIX_EPOCH};

use weft_kernel::{Clock, Tick};

/// The monotonic time and the wall-clock time, read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Now {
    /// Monotonic: for leases and relative delays.
    pub(crate) tick: Tick,
    /// Wall-clock milliseconds: for what survives a restart.
    pub(crate) wall_ms: u64,
}

impl Now {
    /// Reads a clock.
    pub(crate) fn read(clock: &dyn Clock) -> Self {
        let wall = clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { tick: clock.now(), wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }

    /// By how many milliseconds the wall clock is ahead of the monotonic one.
    pub(crate) fn ahead_ms(self) -> i64 {
        let of_tick = self.tick.nanos() / 1_000_000;
        let ms = |of: u64| i64::try_from(of).unwrap_or(i64::MAX);
        ms(self.wall_ms).saturating_sub(ms(of_tick))
    }

    /// The tick at which the wall clock will show `wall_ms`, if nobody sets it.
    pub(crate) const fn tick_at(self, wall_ms: u64) -> Tick {
        self.tick.plus(Duration::from_millis(wall_ms.saturating_sub(self.wall_ms)))
    }

    /// What the wall clock will show at a tick, if nobody sets it.
    pub(crate) fn wall_at(self, tick: Tick) -> u64 {
        self.after(tick.since(self.tick))
    }

    /// What the wall clock will show after a span.
    pub(crate) fn after(self, span: Duration) -> u64 {
        // Rounded up, so that nothing is due early.
        let millis = span.as_nanos().div_ceil(1_000_000);
        self.wall_ms.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

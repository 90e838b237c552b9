//! The time of the request path: the only place in `net` and `proxy` where a clock is looked at.
//!
//! The monotonic time is the runtime's own, by which its timers ring. In a build of the node that is the
//! machine's, and costs no more; a test that pauses the runtime's clock (`start_paused`) pauses with it
//! every limit, delay and idle time of the request path, and moves on without waiting. The wall clock
//! follows, where the feature `test-util` is on.

use std::time::SystemTime;

use tokio::time::Instant;
use weft_kernel::{SystemClock, Tick};

/// The monotonic time.
#[inline]
pub fn now() -> Tick {
    SystemClock::at(Instant::now().into_std())
}

/// The instant of a tick, for timers; `None` beyond what an [`Instant`] can hold.
#[inline]
pub(crate) fn instant(at: Tick) -> Option<Instant> {
    SystemClock::instant(at).map(Instant::from_std)
}

/// The wall-clock time, for what people and protocols read.
#[inline]
pub fn wall() -> SystemTime {
    let wall = SystemTime::now();
    #[cfg(feature = "test-util")]
    let wall =
        wall + Instant::now().into_std().saturating_duration_since(std::time::Instant::now());
    wall
}

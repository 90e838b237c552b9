//! The watchdog: tells a ledger whose threads make no progress, which no error and no lock would.
//!
//! Each thread marks when it begins a piece of work and when it rests. One that is at the same piece for
//! longer than [`Options::stall`](crate::Options::stall) hangs: in a call on a disk that does not
//! answer, or for a lock. The watchdog looks in a thread of its own that waits for none of their locks
//! longer than a moment, and keeps what it saw where readiness can read it without them.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use weft_kernel::{Error, Reason, Result};

use super::Service;
use crate::core::Ended;

/// How often it looks in the time after which a piece of work counts as hanging.
const LOOKS: u32 = 10;
/// How much longer maintenance may take: it may write a whole file behind in one piece.
const MAINTENANCE: u32 = 6;

/// What one thread is at.
#[derive(Debug)]
pub(super) struct Pulse {
    began: Instant,
    /// Milliseconds from `began` to the last beat, and one more; 0 at rest.
    beat: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { began: Instant::now(), beat: AtomicU64::new(0) }
    }
}

impl Pulse {
    /// A piece of work begins.
    pub(super) fn beat(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.beat.store(since + 1, Ordering::Relaxed);
    }

    /// There is nothing to do.
    pub(super) fn rest(&self) {
        self.beat.store(0, Ordering::Relaxed);
    }

    /// How long the present piece of work takes so far; `None` at rest.
    fn busy(&self) -> Option<Duration> {
        let beat = self.beat.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.began.elapsed().saturating_sub(Duration::from_millis(beat)))
    }
}

/// The threads that everything waits for.
#[derive(Debug, Default)]
pub(super) struct Pulses {
    pub(super) syncer: Pulse,
    pub(super) maintenance: Pulse,
}

/// How the ledger is, for those who must not wait for it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failed: AtomicBool,
    closed: AtomicBool,
    stalled: Mutex<Option<&'static str>>,
}

impl Health {
    /// Nothing more is taken.
    pub(crate) fn end(&self, why: &Ended) {
        let end = if *why == Ended::Closed { &self.closed } else { &self.failed };
        end.store(true, Ordering::Release);
    }

    /// Why nothing more is taken, if that is so.
    pub(crate) fn ended(&self) -> Result<()> {
        if self.failed.load(Ordering::Acquire) {
            let text = "a write to the disk has failed, and nothing more is taken";
            return Err(Error::new(Reason::StoragePoisoned, text));
        }
        if self.closed.load(Ordering::Acquire) { Err(Ended::Closed.error()) } else { Ok(()) }
    }

    /// What hangs.
    pub(crate) fn stalled(&self) -> Option<&'static str> {
        *self.stalled.lock()
    }

    fn set_stalled(&self, now: Option<&'static str>) {
        let before = std::mem::replace(&mut *self.stalled.lock(), now);
        match (before, now) {
            (None, Some(what)) => tracing::error!(
                what,
                "the ledger makes no progress: nothing is acknowledged until it goes on"
            ),
            (Some(what), None) => tracing::info!(what, "the ledger goes on"),
            _ => {}
        }
    }
}

impl Service {
    /// Looks until it is told to stop.
    pub(super) fn run_watchdog(&self) {
        // Since when nobody gets the lock of the state.
        let mut held: Option<Instant> = None;
        let every = self.options.stall / LOOKS;
        while !self.stopping.load(Ordering::Acquire) {
            self.watch.wait(every);
            let free = self.shared.core.try_lock_for(every).is_some();
            held = if free { None } else { Some(held.unwrap_or_else(Instant::now)) };
            self.shared.health.set_stalled(self.stalled(held));
        }
    }

    fn stalled(&self, held: Option<Instant>) -> Option<&'static str> {
        let most = self.options.stall;
        let hangs = |pulse: &Pulse, most| pulse.busy().is_some_and(|busy| busy > most);
        if hangs(&self.pulses.syncer, most) {
            return Some("the thread that writes and syncs the log");
        }
        if hangs(&self.pulses.maintenance, most * MAINTENANCE) {
            return Some("the thread that writes behind and gives space back");
        }
        held.filter(|since| since.elapsed() > most).map(|_| "the lock of the state")
    }
}

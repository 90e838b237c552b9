//! Memory that a thread has freed, and that its allocator keeps for it.
//!
//! An allocator that is fast keeps what a thread frees for that thread, and what others free of its memory
//! waits until the thread comes by. One that has come to rest after much work never does: it has to be asked
//! to give all of that back to the system, on that very thread.

use std::{sync::OnceLock, time::Duration};

use crate::Tick;

/// How long a thread does nothing before it gives back what it has no use for.
pub const REST: Duration = Duration::from_secs(5);

static GIVE_BACK: OnceLock<fn()> = OnceLock::new();

/// Names what has the allocator give back all that it keeps for the thread that calls it. The first one
/// holds; without one, nothing is given back.
pub fn give_back_by(give_back: fn()) {
    // Whoever comes second is a test in the same process.
    let _ = GIVE_BACK.set(give_back);
}

/// Gives back what the allocator keeps for the calling thread; takes as long as it has pages to look at.
pub fn give_back() {
    if let Some(give_back) = GIVE_BACK.get() {
        give_back();
    }
}

/// What the allocator may be keeping for one thread: something from when the thread works until it has
/// rested for long.
#[derive(Debug, Default)]
pub struct Spare {
    worked: Option<Tick>,
}

impl Spare {
    /// The thread has just worked.
    pub fn worked(&mut self, now: Tick) {
        self.worked = Some(now);
    }

    /// How long the thread may sleep that would sleep for `most`.
    pub fn sleep(&self, most: Duration) -> Duration {
        if self.worked.is_some() { most.min(REST) } else { most }
    }

    /// Gives back what is kept for the calling thread, once after each stretch of work; whether it was now.
    pub fn look(&mut self, now: Tick) -> bool {
        if self.worked.is_none_or(|worked| now.since(worked) < REST) {
            return false;
        }
        self.worked = None;
        give_back();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    static GIVEN: AtomicU32 = AtomicU32::new(0);

    #[test]
    fn memory_is_given_back_once_after_each_stretch_of_work() {
        give_back_by(|| {
            GIVEN.fetch_add(1, Ordering::Relaxed);
        });
        let long = Duration::from_secs(3600);
        let at = |secs| Tick::ZERO.plus(Duration::from_secs(secs));
        let mut spare = Spare::default();
        assert!(!spare.look(at(50)), "it has not worked");
        assert_eq!(spare.sleep(long), long);
        spare.worked(at(50));
        assert_eq!(spare.sleep(long), REST);
        assert_eq!(spare.sleep(Duration::from_secs(1)), Duration::from_secs(1));
        spare.worked(at(55));
        assert!(!spare.look(at(59)));
        assert!(spare.look(at(60)));
        assert!(!spare.look(at(90)), "nothing was done since");
        spare.worked(at(91));
        assert!(spare.look(at(96)));
        assert_eq!(GIVEN.load(Ordering::Relaxed), 2);
    }
}

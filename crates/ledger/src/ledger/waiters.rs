//! Who waits for a transaction to be done: one waker per waiting task, woken by the sync that covers it.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use crate::options::Durability;

/// Tasks that wait at a level, and how far it has come.
#[derive(Debug)]
struct Level {
    reached: AtomicU64,
    waiting: Mutex<Vec<(u64, Waker)>>,
}

/// Tasks that wait.
#[derive(Debug)]
pub(super) struct Waiters {
    written: Level,
    synced: Level,
    poisoned: AtomicBool,
}

impl Level {
    fn new(seq: u64) -> Self {
        Self { reached: AtomicU64::new(seq), waiting: Mutex::default() }
    }

    fn advance(&self, seq: u64) {
        // Under the lock, so that nobody enters between who is woken and what is reached.
        let mut waiting = self.waiting.lock();
        self.reached.fetch_max(seq, Ordering::AcqRel);
        if waiting.is_empty() {
            return;
        }
        let mut woken = std::mem::take(&mut *waiting);
        // Nearly all of them are covered by the sync after next; those that are not stay.
        woken.retain(|(at, waker)| {
            let stays = *at > seq;
            if stays {
                waiting.push((*at, waker.clone()));
            }
            !stays
        });
        drop(waiting);
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Waiters {
    pub(super) fn new(seq: u64) -> Self {
        Self { written: Level::new(seq), synced: Level::new(seq), poisoned: AtomicBool::new(false) }
    }

    fn level(&self, level: Durability) -> Option<&Level> {
        match level {
            Durability::Memory => None,
            Durability::Os => Some(&self.written),
            Durability::Fsync => Some(&self.synced),
        }
    }

    /// The newest transaction that is done at a level; `None` for all.
    pub(super) fn reached(&self, level: Durability) -> Option<u64> {
        self.level(level).map(|level| level.reached.load(Ordering::Acquire))
    }

    /// A level has come as far as a transaction.
    pub(super) fn advance(&self, seq: u64, level: Durability) {
        self.written.advance(seq);
        if level == Durability::Fsync {
            self.synced.advance(seq);
        }
    }

    /// Nothing will be done any more.
    pub(super) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
        for level in [&self.written, &self.synced] {
            let woken = std::mem::take(&mut *level.waiting.lock());
            woken.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }

    /// Whether a transaction is done (true), or never will be (false).
    pub(super) fn poll(&self, seq: u64, level: Durability, context: &Context<'_>) -> Poll<bool> {
        let Some(level) = self.level(level) else { return Poll::Ready(true) };
        if level.reached.load(Ordering::Acquire) >= seq {
            return Poll::Ready(true);
        }
        let mut waiting = level.waiting.lock();
        if level.reached.load(Ordering::Acquire) >= seq {
            return Poll::Ready(true);
        }
        if self.poisoned.load(Ordering::Acquire) {
            return Poll::Ready(false);
        }
        // A task that is polled for another reason is entered again at most now and then: the last
        // entries are where it would be.
        let waker = context.waker();
        let near = waiting.iter().rev().take(4);
        if !near.into_iter().any(|(at, other)| *at == seq && other.will_wake(waker)) {
            waiting.push((seq, waker.clone()));
        }
        Poll::Pending
    }
}

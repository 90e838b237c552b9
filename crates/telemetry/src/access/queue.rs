//! The bounded way of packed entries from the workers to the writer thread.
//!
//! Each worker has two buffers of its own. It appends to whichever is free, and the writer takes one at
//! a time by swapping in an empty one, so a worker never waits: at worst it is sent to its other
//! buffer. The writer sleeps until somebody appends to an idle queue, then lets entries gather a
//! moment, so that waking it is paid once per moment and not per request.

use std::{
    sync::{
        Mutex, OnceLock, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use super::entry::Entry;
use crate::metrics::Shards;

/// How long entries gather after the first.
const LINGER: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Queue {
    workers: Box<[Buffers]>,
    buffer_max: usize,
    pending: AtomicBool,
    closed: AtomicBool,
    reader: OnceLock<Thread>,
}

/// A worker's buffers, off the cache lines of its neighbours.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Buffers([Mutex<Buffer>; 2]);

#[derive(Debug, Default)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u64,
}

impl Queue {
    /// A queue that holds at most `bytes_max` per worker.
    pub(super) fn new(shards: Shards, bytes_max: usize) -> Self {
        Self {
            workers: (0..=shards.workers()).map(|_| Buffers::default()).collect(),
            buffer_max: bytes_max / 2,
            pending: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            reader: OnceLock::new(),
        }
    }

    /// Appends an entry; `false` if it finds no room.
    #[inline]
    pub(super) fn push(&self, worker: usize, entry: &Entry<'_>) -> bool {
        let Buffers(buffers) = &self.workers[worker.min(self.workers.len() - 1)];
        let taken = buffers.iter().any(|buffer| {
            let mut buffer = match buffer.try_lock() {
                Ok(buffer) => buffer,
                Err(TryLockError::Poisoned(buffer)) => buffer.into_inner(),
                Err(TryLockError::WouldBlock) => return false,
            };
            let Buffer { bytes, count } = &mut *buffer;
            let taken = entry.pack(bytes, self.buffer_max);
            *count += u64::from(taken);
            taken
        });
        if taken && !self.pending.load(Ordering::Acquire) {
            self.wake();
        }
        taken
    }

    /// Wakes the writer, for entries or for something else that it should look at.
    #[cold]
    pub(super) fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel)
            && let Some(reader) = self.reader.get()
        {
            reader.unpark();
        }
    }

    /// Tells the writer to write what is there and end.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
    }

    /// Waits until there is something to look at; for the writer thread alone. `false` once closed.
    pub(super) fn wait(&self) -> bool {
        let _ = self.reader.set(thread::current());
        while !self.pending.swap(false, Ordering::AcqRel) {
            thread::park();
        }
        if self.closed.load(Ordering::Acquire) {
            return false;
        }
        thread::sleep(LINGER);
        true
    }

    /// Takes everything out, one buffer at a time.
    pub(super) fn drain(&self, spare: &mut Buffer, mut each: impl FnMut(&Buffer)) {
        for buffer in self.workers.iter().flat_map(|Buffers(pair)| pair) {
            let mut guard = match buffer.lock() {
                Ok(guard) => guard,
                Err(poisoned) => poisoned.into_inner(),
            };
            if guard.count == 0 {
                continue;
            }
            std::mem::swap(&mut *guard, spare);
            drop(guard);
            each(spare);
            spare.bytes.clear();
            spare.count = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_or_doubled_between_workers_and_writer() {
        let queue = Queue::new(Shards::new(3), 1 << 20);
        let (mut got, mut refused) = (vec![0u64; 3], 0u64);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..3)
                .map(|worker| {
                    let queue = &queue;
                    scope.spawn(move || {
                        let entry = Entry { status: worker as u16, ..Entry::default() };
                        (0..20_000).filter(|_| !queue.push(worker, &entry)).count() as u64
                    })
                })
                .collect();
            let mut spare = Buffer::default();
            let mut take = |got: &mut Vec<u64>| {
                queue.drain(&mut spare, |buffer| {
                    let mut from = &buffer.bytes[..];
                    let mut count = 0;
                    while let Some(entry) = Entry::unpack(&mut from) {
                        got[usize::from(entry.status)] += 1;
                        count += 1;
                    }
                    assert_eq!(count, buffer.count);
                });
            };
            while workers.iter().any(|worker| !worker.is_finished()) {
                take(&mut got);
            }
            take(&mut got);
            for worker in workers {
                refused += worker.join().unwrap();
            }
        });
        assert_eq!(got.iter().sum::<u64>() + refused, 60_000);
        assert!(got.iter().all(|count| *count > 0), "{got:?}");
    }

    #[test]
    fn a_queue_holds_what_it_may_and_no_more() {
        let queue = Queue::new(Shards::new(1), 10_000);
        let taken = (0..1_000).filter(|_| queue.push(0, &Entry::default())).count();
        assert!((50..100).contains(&taken), "{taken}");
        let mut held = 0;
        queue.drain(&mut Buffer::default(), |buffer| held += buffer.bytes.len());
        assert!(held <= 10_000);
        assert!(queue.push(0, &Entry::default()));
    }
}

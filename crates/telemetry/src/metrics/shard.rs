//! Counters that each worker thread keeps for itself, summed when somebody looks.
//!
//! A locked read-modify-write on a line that another core holds costs tens of nanoseconds; a plain load
//! and store on a line of one's own costs one. So each worker has its own cell, made when it first
//! counts, and only that worker writes to it. A second writer would lose counts, never corrupt them; who
//! is not a worker uses [`Shards::control`], whose cell takes locked instructions instead.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// How many workers there are; a number of each worker's own selects its cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shards(usize);

impl Shards {
    /// Shards for `workers` request-path threads, numbered from 0, and one more for everybody else.
    pub const fn new(workers: usize) -> Self {
        Self(workers)
    }

    /// The number of request-path workers.
    pub const fn workers(self) -> usize {
        self.0
    }

    /// The shard of every thread that is not a request-path worker.
    pub const fn control(self) -> usize {
        self.0
    }
}

/// One `T` per shard, made on first use.
#[derive(Debug)]
pub(super) struct Cells<T>(Box<[OnceLock<Box<Padded<T>>>]>);

/// Keeps the cells of two workers off one cache line (and its adjacent-line prefetch).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Padded<T>(T);

impl<T: Default> Cells<T> {
    pub(super) fn new(shards: Shards) -> Self {
        Self((0..=shards.workers()).map(|_| OnceLock::new()).collect())
    }

    /// The cell of `worker`, and how to write to it; a number too large means the shared shard.
    #[inline]
    pub(super) fn at(&self, worker: usize) -> (&T, Mode) {
        let shared = self.0.len() - 1;
        let index = worker.min(shared);
        let mode = if index == shared { Mode::Shared } else { Mode::Own };
        (&self.0[index].get_or_init(Box::default).0, mode)
    }

    /// Every cell that exists, with the number of its worker.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.0.iter().enumerate().filter_map(|(at, cell)| Some((at, &cell.get()?.0)))
    }

    /// The sum of one counter over all cells; wrapping, as gauges go down on other workers than up.
    pub(super) fn sum(&self, pick: impl Fn(&T) -> &Tally) -> u64 {
        self.iter().fold(0u64, |sum, (_, cell)| sum.wrapping_add(pick(cell).get()))
    }
}

/// Whether a cell has one writer or many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Own,
    Shared,
}

/// A counter that readers on other threads may look at any time.
#[derive(Debug, Default)]
pub(super) struct Tally(AtomicU64);

impl Tally {
    #[inline]
    pub(super) fn add(&self, count: u64, mode: Mode) {
        match mode {
            Mode::Own => {
                self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
            }
            Mode::Shared => {
                self.0.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_and_everybody_else_add_up_to_the_whole() {
        let shards = Shards::new(3);
        let cells = Cells::<Tally>::new(shards);
        std::thread::scope(|scope| {
            for worker in [0, 1, 2, shards.control(), shards.control(), 99] {
                let cells = &cells;
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        let (tally, mode) = cells.at(worker);
                        tally.add(1, mode);
                    }
                });
            }
        });
        assert_eq!(cells.sum(|tally| tally), 60_000);
        assert_eq!(cells.iter().count(), 4);
    }

    #[test]
    fn a_gauge_may_go_down_elsewhere() {
        let cells = Cells::<Tally>::new(Shards::new(2));
        let (up, mode) = cells.at(0);
        up.add(1, mode);
        let (down, mode) = cells.at(1);
        down.add(u64::MAX, mode);
        assert_eq!(cells.sum(|tally| tally), 0);
    }
}

//! When the records of a queue expire.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Times and positions, the earliest first. Settled positions stay until their time or the next sweep.
#[derive(Debug, Default)]
pub(crate) struct Expiring {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
}

impl Expiring {
    /// Enters a record; sweeps when more than half cannot be live.
    pub(crate) fn insert(
        &mut self,
        expires_ms: u64,
        position: u64,
        records: u64,
        live: impl Fn(u64) -> bool,
    ) {
        if self.heap.len() as u64 > 2 * records + 1024 {
            self.heap.retain(|Reverse((_, position))| live(*position));
        }
        self.heap.push(Reverse((expires_ms, position)));
    }

    /// Enters a record again that was taken out.
    pub(crate) fn again(&mut self, at_ms: u64, position: u64) {
        self.heap.push(Reverse((at_ms, position)));
    }

    /// The earliest time.
    pub(crate) fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes out a position whose time has come.
    pub(crate) fn pop(&mut self, wall_ms: u64) -> Option<u64> {
        if self.next()? > wall_ms {
            return None;
        }
        self.heap.pop().map(|Reverse((_, position))| position)
    }
}

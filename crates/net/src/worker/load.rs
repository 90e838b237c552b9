//! How many connections each worker has, and which worker should take the next.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// One worker's count, alone on its cache lines: it changes with each connection.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Count(AtomicUsize);

/// The counts of all workers.
#[derive(Clone, Debug)]
pub(super) struct Loads(Arc<[Count]>);

/// A connection that is counted for a worker, wherever it is on its way.
#[derive(Debug)]
pub(super) struct Counted {
    loads: Loads,
    index: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.loads.0[self.index].0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Loads {
    pub(super) fn new(count: usize) -> Self {
        Self((0..count).map(|_| Count::default()).collect())
    }

    pub(super) fn all(&self) -> Vec<usize> {
        self.0.iter().map(|count| count.0.load(Ordering::Relaxed)).collect()
    }

    /// Counts one more connection for a worker.
    pub(super) fn count(&self, index: usize) -> Counted {
        self.0[index].0.fetch_add(1, Ordering::Relaxed);
        Counted { loads: self.clone(), index }
    }

    /// Who should take the connection that `index` has accepted, if it should be another.
    ///
    /// Moving one costs a wake-up of another core, so a difference of an eighth is let be; but when
    /// there are few, each may carry a thousand streams, and a difference of one already counts.
    pub(super) fn better_than(&self, index: usize) -> Option<usize> {
        let mine = self.0[index].0.load(Ordering::Relaxed);
        if mine == 0 {
            return None;
        }
        let (least, count) = self
            .0
            .iter()
            .enumerate()
            .map(|(other, count)| (other, count.0.load(Ordering::Relaxed)))
            .min_by_key(|(_, count)| *count)?;
        (least != index && mine > count + count / 8).then_some(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_connection_goes_to_a_worker_with_clearly_fewer() {
        for (counts, from, expect) in [
            (&[0, 0][..], 0, None),
            (&[1, 0], 0, Some(1)),
            (&[1, 1], 0, None),
            (&[2, 1], 0, Some(1)),
            (&[2, 1], 1, None),
            (&[17, 16], 0, None),
            (&[18, 16], 0, None),
            (&[19, 16], 0, Some(1)),
            (&[9, 3, 2, 8], 0, Some(2)),
            (&[5], 0, None),
        ] {
            let loads = Loads::new(counts.len());
            let held: Vec<Vec<Counted>> = counts
                .iter()
                .enumerate()
                .map(|(index, count)| (0..*count).map(|_| loads.count(index)).collect())
                .collect();
            assert_eq!(loads.all(), counts);
            assert_eq!(loads.better_than(from), expect, "{counts:?} from {from}");
            drop(held);
            assert_eq!(loads.all(), vec![0; counts.len()]);
        }
    }

    #[test]
    fn whatever_the_kernel_does_the_spread_stays_small() {
        let mut rng = weft_kernel::Rng::seeded(3);
        let loads = Loads::new(4);
        let mut open: Vec<Counted> = Vec::new();
        for round in 0..20_000 {
            // The worst spread: the kernel gives everything to one worker for a while.
            let from = (round / 1000) % 4;
            open.push(loads.count(loads.better_than(from).unwrap_or(from)));
            if open.len() > 400 {
                open.swap_remove(rng.below(open.len() as u64) as usize);
            }
            let all = loads.all();
            let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
            assert!(*most <= least + least / 4 + 40, "{all:?}");
        }
    }
}

//! Which deliveries live streams hold, so that settling one by its text makes room in its stream.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use weft_broker::Settler;
use weft_kernel::{SystemClock, Tick};

/// The deliveries of all streams; a handle.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<HashMap<u64, Settler>>>);

impl Streams {
    /// Who settles a delivery that a stream holds.
    pub(crate) fn holder(&self, lease: u64) -> Option<Settler> {
        self.0.lock().get(&lease).cloned()
    }

    /// A delivery is settled.
    pub(crate) fn forget(&self, lease: u64) {
        self.0.lock().remove(&lease);
    }

    /// What a stream holds; dropped, nothing.
    pub(crate) fn hold(&self, settler: Settler, lease: Duration) -> Holding {
        Holding { streams: self.clone(), settler, lease, held: VecDeque::new() }
    }
}

/// What one stream holds.
pub(crate) struct Holding {
    streams: Streams,
    settler: Settler,
    lease: Duration,
    held: VecDeque<(Tick, u64)>,
}

impl Holding {
    /// Holds deliveries, and forgets those whose lease must be over: one that was renewed is then settled
    /// without making room, which its end has done.
    pub(crate) fn hold(&mut self, leases: impl Iterator<Item = u64>) {
        let now = SystemClock::tick();
        let until = now.plus(self.lease.saturating_mul(2));
        let mut all = self.streams.0.lock();
        while let Some((_, lease)) = self.held.pop_front_if(|(until, _)| *until < now) {
            all.remove(&lease);
        }
        for lease in leases {
            all.insert(lease, self.settler.clone());
            self.held.push_back((until, lease));
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut all = self.streams.0.lock();
        for (_, lease) in &self.held {
            all.remove(lease);
        }
    }
}

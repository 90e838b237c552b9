//! What a consumer holds unsettled, so that its prefetch can be kept.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::Notify;
use weft_ledger::GroupId;

use super::{ConsumerOptions, Lease};

/// What a consumer holds unsettled.
#[derive(Debug, Default)]
pub(crate) struct Held {
    leases: Mutex<Leases>,
    /// Told when something was let go.
    pub(super) freed: Notify,
}

#[derive(Debug, Default)]
struct Leases {
    /// By group and position.
    running: HashMap<(GroupId, u64), One>,
    bytes: u64,
}

/// A lease that runs.
#[derive(Debug)]
struct One {
    number: u64,
    /// The bytes of its message.
    bytes: u32,
    /// The whole of it, if it is to be settled when its consumer goes away.
    lease: Option<Box<Lease>>,
}

impl Leases {
    fn remove(&mut self, group: GroupId, position: u64) {
        if let Some(One { bytes, .. }) = self.running.remove(&(group, position)) {
            self.bytes -= u64::from(bytes);
        }
    }
}

impl Held {
    /// Holds a lease; with `whole` all of it is kept for [`Held::take`].
    pub(super) fn hold(&self, lease: &Lease, bytes: u32, whole: bool) {
        let mut leases = self.leases.lock();
        leases.remove(lease.group, lease.position);
        let number = lease.token.lease;
        let kept = whole.then(|| Box::new(lease.clone()));
        leases.running.insert((lease.group, lease.position), One { number, bytes, lease: kept });
        leases.bytes += u64::from(bytes);
    }

    /// Lets settled leases go.
    pub(crate) fn let_go<'a>(&self, settled: impl Iterator<Item = &'a Lease>) {
        let mut leases = self.leases.lock();
        for lease in settled {
            let running = leases.running.get(&(lease.group, lease.position));
            if running.is_some_and(|one| one.number == lease.token.lease) {
                leases.remove(lease.group, lease.position);
            }
        }
        drop(leases);
        self.freed.notify_one();
    }

    /// Lets a lease go that ran out.
    pub(crate) fn expired(&self, group: GroupId, position: u64) {
        self.leases.lock().remove(group, position);
        self.freed.notify_one();
    }

    /// How many messages and bytes more there is room for.
    pub(super) fn room(&self, options: &ConsumerOptions) -> (u32, u64) {
        let leases = self.leases.lock();
        let held = u32::try_from(leases.running.len()).unwrap_or(u32::MAX);
        let bytes = options.prefetch_bytes.saturating_sub(leases.bytes);
        if held > 0 && bytes == 0 {
            return (0, 0);
        }
        (options.prefetch.saturating_sub(held), bytes.max(1))
    }

    /// Lets all go, and gives those that were kept whole.
    pub(super) fn take(&self) -> Vec<Lease> {
        let mut leases = self.leases.lock();
        leases.bytes = 0;
        leases.running.drain().filter_map(|(_, one)| one.lease.map(|lease| *lease)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.leases.lock().running.len()
    }
}

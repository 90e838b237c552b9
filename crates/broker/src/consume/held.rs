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
    /// By group and position: the lease's number and the bytes of its message.
    running: HashMap<(GroupId, u64), (u64, u32)>,
    bytes: u64,
}

impl Leases {
    fn remove(&mut self, group: GroupId, position: u64) {
        if let Some((_, bytes)) = self.running.remove(&(group, position)) {
            self.bytes -= u64::from(bytes);
        }
    }
}

impl Held {
    pub(super) fn hold(&self, lease: &Lease, bytes: u32) {
        let mut leases = self.leases.lock();
        leases.remove(lease.group, lease.position);
        leases.running.insert((lease.group, lease.position), (lease.token.lease, bytes));
        leases.bytes += u64::from(bytes);
    }

    /// Lets settled leases go.
    pub(crate) fn let_go<'a>(&self, settled: impl Iterator<Item = &'a Lease>) {
        let mut leases = self.leases.lock();
        for lease in settled {
            let running = leases.running.get(&(lease.group, lease.position));
            if running.is_some_and(|(number, _)| *number == lease.token.lease) {
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

    pub(super) fn len(&self) -> usize {
        self.leases.lock().running.len()
    }
}

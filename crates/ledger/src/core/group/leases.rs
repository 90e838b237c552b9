//! The leases of a group that run, and how many bytes the records have that they are of.

use std::ops::Deref;

use super::Lease;
use crate::core::fast::Numbers;

/// The running leases by position.
#[derive(Debug, Default)]
pub(super) struct Leases {
    at: Numbers<u64, Lease>,
    bytes: u64,
}

impl Deref for Leases {
    type Target = Numbers<u64, Lease>;

    fn deref(&self) -> &Self::Target {
        &self.at
    }
}

impl Leases {
    /// The bytes of all records that are leased, as far as known.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn insert(&mut self, position: u64, lease: Lease) {
        self.bytes += u64::from(lease.size);
        if let Some(old) = self.at.insert(position, lease) {
            self.bytes -= u64::from(old.size);
        }
    }

    pub(super) fn remove(&mut self, position: u64) -> Option<Lease> {
        let lease = self.at.remove(&position)?;
        self.bytes -= u64::from(lease.size);
        Some(lease)
    }

    /// Changes a lease; not its size.
    pub(super) fn get_mut(&mut self, position: u64) -> Option<&mut Lease> {
        self.at.get_mut(&position)
    }

    /// Removes the leases of positions below `before`.
    pub(super) fn remove_below(&mut self, before: u64) {
        let bytes = &mut self.bytes;
        self.at.retain(|&position, lease| {
            let stays = position >= before;
            *bytes -= if stays { 0 } else { u64::from(lease.size) };
            stays
        });
    }
}

//! The files of a ledger: what can be read of them without the core.

use std::sync::Arc;

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};

use crate::{
    checkpoint::{self, Checkpoint},
    core::Want,
    crypt::Keys,
    disk::{Disk, failed},
    format::{Image, Place, record::trusted},
    record::{ReadItem, Told},
    segment::SegmentSet,
    wal::WalSet,
};

const QUARANTINE: &str = "quarantine";

/// The files of a ledger.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) keys: Keys,
    pub(crate) wal: WalSet,
    pub(crate) segments: SegmentSet,
    pub(crate) checkpoint: Checkpoint,
}

impl Files {
    /// The image at a place, its checksum and its name verified.
    pub(crate) fn image(&self, log: u32, position: u64, place: &Place) -> Result<Bytes> {
        let gone = || Error::new(Reason::StorageCorrupt, "the write-ahead file is not there");
        let bytes = self.wal.get(place.file).ok_or_else(gone)?.read(place)?;
        let image = Image::checked(&bytes).map_err(|error| {
            Error::new(Reason::StorageCorrupt, "a record does not fit its checksum").because(error)
        })?;
        // While it was read the file may have been put to another use.
        if self.wal.get(place.file).is_none() || (image.log, image.position) != (log, position) {
            return Err(gone());
        }
        Ok(bytes)
    }

    /// What is wanted, in that order.
    pub(crate) fn read(&self, wants: &[Want]) -> Vec<Result<Told>> {
        wants.iter().map(|want| self.read_one(want)).collect()
    }

    fn read_one(&self, want: &Want) -> Result<Told> {
        match want {
            Want::Place(log, position, place) => {
                let image = self.image(log.0, *position, place)?;
                let record = trusted(&image).map_err(|error| {
                    Error::new(Reason::StorageCorrupt, "a record is malformed").because(error)
                })?;
                Ok(Told { items: vec![ReadItem::Record(record)], to: position + 1 })
            }
            Want::Segment { segment, log, from, to, limits } => {
                self.segments.get(*segment)?.read(log.0, *from, *to, *limits)
            }
        }
    }

    /// The bytes that the checkpoint takes.
    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        checkpoint::bytes(&self.disk)
    }
}

/// Keeps damaged bytes where somebody can look at them; what is there already under the name stays.
pub(crate) fn quarantine(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<()> {
    let path = format!("{QUARANTINE}/{name}");
    let cannot = |error| failed("cannot set damaged bytes aside", &path, error);
    let file = disk.open(&path, true).map_err(cannot)?;
    if file.len().map_err(cannot)? < bytes.len() as u64 {
        file.write_at(0, bytes).and_then(|()| file.sync_data()).map_err(cannot)?;
        disk.sync_dir(QUARANTINE).map_err(cannot)?;
    }
    Ok(())
}

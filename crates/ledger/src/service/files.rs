//! The files of a ledger: what can be read of them without the core.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};

use super::Damages;
use crate::{
    checkpoint::{self, Checkpoint},
    core::Want,
    crypt::Keys,
    disk::{Disk, failed},
    format::{Image, Place, record::trusted},
    record::{ReadItem, Told},
    segment::{Segment, SegmentSet},
    wal::WalSet,
};

/// Where damaged bytes are kept.
pub(crate) const QUARANTINE: &str = "quarantine";
/// The most bytes of one piece of them.
const PIECE_BYTES_MAX: u64 = 1 << 20;

/// The files of a ledger.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) keys: Keys,
    pub(crate) wal: WalSet,
    pub(crate) segments: SegmentSet,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) damages: Arc<Damages>,
}

impl Files {
    /// The image at a place, its checksum and its name verified.
    pub(crate) fn image(&self, log: u32, position: u64, place: &Place) -> Result<Bytes> {
        let gone = || Error::new(Reason::StorageCorrupt, "the write-ahead file is not there");
        let bytes = self.wal.get(place.file).ok_or_else(gone)?.read(place)?;
        let image = match Image::checked(&bytes) {
            Ok(image) => image,
            Err(error) => {
                // While it was read the file may have been put to another use.
                if self.wal.get(place.file).is_some() {
                    let at = u64::from(place.frame) + u64::from(place.record);
                    self.set_aside(&format!("wal-{}-{at}", place.file), &bytes);
                }
                let text = "a record does not fit its checksum";
                return Err(Error::new(Reason::StorageCorrupt, text).because(error));
            }
        };
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
                let open = self.segments.get(*segment)?;
                let mut torn = Vec::new();
                let told = open.read(log.0, *from, *to, *limits, &mut |range| torn.push(range));
                torn.into_iter().for_each(|range| self.set_segment_aside(&open, range));
                told
            }
        }
    }

    /// Keeps bytes of a segment that do not fit their checksums.
    pub(crate) fn set_segment_aside(&self, segment: &Segment, range: Range<u64>) {
        let len = (range.end.saturating_sub(range.start)).min(PIECE_BYTES_MAX);
        if let Ok(bytes) = segment.bytes(range.start, len as usize) {
            self.set_aside(&format!("segment-{}-{}", segment.number(), range.start), &bytes);
        }
    }

    /// Keeps damaged bytes; that they cannot be kept is no reason to stop.
    pub(crate) fn set_aside(&self, name: &str, bytes: &[u8]) {
        if !self.damages.piece() {
            return;
        }
        if let Err(error) = quarantine(&*self.disk, name, bytes) {
            tracing::error!(error = %error.detail(), "damaged bytes could not be set aside");
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

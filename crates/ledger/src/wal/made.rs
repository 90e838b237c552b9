//! How far the log goes: the newest file that was made, and a transaction that was safe when the log rested,
//! so that what is missing of it is missed.
//!
//! Numbers are gapless: every file from the first that the checkpoint needs up to the newest has to be
//! there, and in them every transaction up to the one that was safe. It is written once a file is there
//! with its name, and when nothing has been written for a while; twice in one block, so that damage to
//! one copy is survived.

use weft_kernel::{Error, Reason, Result};

use super::FOLDER;
use crate::{
    disk::{Disk, failed, read_up_to, unreadable},
    format::{
        header::{self, COPY_AT, SECTOR},
        varint::Reader,
    },
};

/// Where it is kept.
pub(crate) const PATH: &str = "wal/made";
const MAGIC: &[u8; 8] = b"WEFTMADE";

/// What is on record of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Made {
    /// The number of the newest file.
    pub(crate) newest: u32,
    /// A transaction that was safe; later ones may be.
    pub(crate) safe: u64,
}

impl Made {
    fn sector(self) -> Vec<u8> {
        let mut key = self.newest.to_le_bytes().to_vec();
        key.extend(self.safe.to_le_bytes());
        header::sector(MAGIC, 0, 0, &key)
    }

    fn read(key: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(key);
        Some(Self { newest: reader.u32().ok()?, safe: reader.u64().unwrap_or_default() })
    }
}

/// What is on record; `None` if it was never written.
///
/// # Errors
/// `storage_corrupt` when both copies are damaged, `misconfigured` for another format version.
pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Made>> {
    let cannot = |error| unreadable("cannot read how far the log goes", PATH, error);
    let file = match disk.open(PATH, false) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(cannot)?,
    };
    let block = read_up_to(&*file, 0, header::LEN).map_err(cannot)?;
    if block.iter().all(|&byte| byte == 0) {
        // A crash while it was made.
        return Ok(None);
    }
    // A crash between the two leaves one that is one behind.
    let copies = [&block[..], block.get(COPY_AT..).unwrap_or_default()];
    let mut newest = None;
    for copy in copies {
        let alone = copy.get(..SECTOR).unwrap_or_default();
        if let Some(key) = header::key(alone, MAGIC, 0).map_err(|error| error.at(PATH))? {
            newest = newest.max(Made::read(key).map(|made| (made.newest, made.safe)));
        }
    }
    if newest.is_none() {
        let text = "the record of how far the log goes is damaged, and so is its copy";
        return Err(Error::new(Reason::StorageCorrupt, text).at(PATH));
    }
    Ok(newest.map(|(newest, safe)| Made { newest, safe }))
}

/// Puts it on record, safely.
pub(crate) fn write(disk: &dyn Disk, made: Made) -> Result<()> {
    let cannot = |error| failed("cannot write how far the log goes", PATH, error);
    let there = disk.list(FOLDER).map_err(cannot)?.iter().any(|name| PATH.ends_with(name));
    let file = disk.open(PATH, true).map_err(cannot)?;
    if !there {
        file.allocate_zeroed(header::LEN as u64).map_err(cannot)?;
    }
    let sector = made.sector();
    for at in [COPY_AT as u64, 0] {
        file.write_at(at, &sector).and_then(|()| file.sync_data()).map_err(cannot)?;
    }
    if there { Ok(()) } else { disk.sync_dir(FOLDER).map_err(cannot) }
}

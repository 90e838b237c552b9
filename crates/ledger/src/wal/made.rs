//! The number of the newest file that was made, so that a file that is missing is missed.
//!
//! Numbers are gapless: every file from the first that the checkpoint needs up to this one has to be
//! there. It is written once a file is there with its name, twice in one block, so that damage to one
//! copy is survived.

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

fn sector(number: u32) -> Vec<u8> {
    header::sector(MAGIC, 0, 0, &number.to_le_bytes())
}

/// The number; `None` if it was never written.
///
/// # Errors
/// `storage_corrupt` when both copies are damaged, `misconfigured` for another format version.
pub(crate) fn read(disk: &dyn Disk) -> Result<Option<u32>> {
    let cannot = |error| unreadable("cannot read the number of the newest file", PATH, error);
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
            newest = newest.max(Reader::new(key).u32().ok());
        }
    }
    if newest.is_none() {
        let text = "the number of the newest write-ahead file is damaged, and so is its copy";
        return Err(Error::new(Reason::StorageCorrupt, text).at(PATH));
    }
    Ok(newest)
}

/// Sets the number, safely.
pub(crate) fn write(disk: &dyn Disk, number: u32) -> Result<()> {
    let cannot = |error| failed("cannot write the number of the newest file", PATH, error);
    let there = disk.list(FOLDER).map_err(cannot)?.iter().any(|name| PATH.ends_with(name));
    let file = disk.open(PATH, true).map_err(cannot)?;
    if !there {
        file.allocate_zeroed(header::LEN as u64).map_err(cannot)?;
    }
    let sector = sector(number);
    for at in [COPY_AT as u64, 0] {
        file.write_at(at, &sector).and_then(|()| file.sync_data()).map_err(cannot)?;
    }
    if there { Ok(()) } else { disk.sync_dir(FOLDER).map_err(cannot) }
}

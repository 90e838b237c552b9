//! What an operator does with the files of a ledger: look at them, verify them, copy them out and back.
//!
//! [`inspect`], [`verify`] and [`restore`] work on a folder that no process has open, and change
//! nothing in it (`restore` in the one that it reads from). [`crate::Ledger::backup`] copies a ledger
//! that runs.

mod copy;
mod look;

use std::{path::Path, sync::Arc};

use serde::Serialize;
use weft_kernel::{Error, Reason, Result};

use crate::{
    crypt::Keys,
    disk::{Disk, RealDisk},
    recover::lock,
};

pub(crate) use copy::backup;

/// One file of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileView {
    /// Its path within the folder.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// What it is: `wal`, `spare`, `segment`, `checkpoint`, `quarantine` or `other`.
    pub kind: &'static str,
    /// The id of the master key that it is encrypted under; `None` in the clear.
    pub key: Option<String>,
    /// Records in it; of a write-ahead file transactions.
    pub entries: u64,
}

/// What a ledger's folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The format version of the files.
    pub version: u32,
    /// The last transaction that the checkpoint reflects.
    pub checkpoint_seq: u64,
    /// The last transaction in the write-ahead log, or that of the checkpoint if it is later.
    pub last_seq: u64,
    /// The first write-ahead file that is needed.
    pub first_file: u32,
    /// Rows of the checkpoint's tables, by name.
    pub rows: Vec<(String, u64)>,
    /// Every file, by path.
    pub files: Vec<FileView>,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Transactions of the write-ahead log that are whole.
    pub transactions: u64,
    /// Records in segments that are whole.
    pub records: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes at the end of the log that were being written when the last life ended; never acknowledged.
    pub torn_bytes: u64,
    /// What is damaged, a sentence each.
    pub damage: Vec<String>,
}

fn open(folder: &Path) -> Result<Arc<dyn Disk>> {
    if !folder.is_dir() {
        let text = format!("there is no folder {}", folder.display());
        return Err(Error::new(Reason::Misconfigured, text));
    }
    match RealDisk::open(folder) {
        Ok(disk) => Ok(Arc::new(disk)),
        Err(error) => Err(Error::new(Reason::Misconfigured, "the folder cannot be opened")
            .because(error)
            .at(folder.display().to_string())),
    }
}

/// What the ledger in `folder` holds.
///
/// # Errors
/// `storage_busy` while a process has it open; `misconfigured` for a version or key that is not understood.
pub fn inspect(folder: &Path, keys: &Keys) -> Result<Inspection> {
    inspect_disk(open(folder)?, keys)
}

/// [`inspect`] on any disk.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_disk(disk: Arc<dyn Disk>, keys: &Keys) -> Result<Inspection> {
    let _lock = lock(&*disk)?;
    look::inspect(disk, keys)
}

/// Reads every byte of the ledger in `folder` that matters and holds it to its checksum.
///
/// # Errors
/// As [`inspect`]; damage is no error but what it finds.
pub fn verify(
    folder: &Path,
    keys: &Keys,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verification> {
    verify_disk(open(folder)?, keys, progress)
}

/// [`verify`] on any disk.
///
/// # Errors
/// As [`verify`].
pub fn verify_disk(
    disk: Arc<dyn Disk>,
    keys: &Keys,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verification> {
    let _lock = lock(&*disk)?;
    look::verify(disk, keys, progress)
}

/// Copies the backup in `from` into the folder `to`, which must hold no ledger, and verifies what it copied.
///
/// # Errors
/// `misconfigured` when `to` holds a ledger already; `storage_corrupt` when the backup is damaged; what
/// the disks say. What was copied until then is left behind.
pub fn restore(
    from: &Path,
    to: &Path,
    keys: &Keys,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verification> {
    let source = open(from)?;
    std::fs::create_dir_all(to).map_err(|error| {
        Error::new(Reason::Misconfigured, "the folder cannot be made").because(error)
    })?;
    restore_disk(source, open(to)?, keys, progress)
}

/// [`restore`] on any disks.
///
/// # Errors
/// As [`restore`].
pub fn restore_disk(
    from: Arc<dyn Disk>,
    to: Arc<dyn Disk>,
    keys: &Keys,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verification> {
    let _locks = (lock(&*from)?, lock(&*to)?);
    copy::restore(&*from, &*to, progress)?;
    let found = look::verify(to, keys, &mut |_, _| {})?;
    if let Some(damage) = found.damage.first() {
        let text = format!("the backup is damaged: {damage}");
        return Err(Error::new(Reason::StorageCorrupt, text));
    }
    Ok(found)
}

/// Names the newest master key in the header of every file that is encrypted under an older one; gives
/// how many there were. Afterwards the older keys are not needed any more.
///
/// # Errors
/// As [`inspect`].
pub fn rewrap(folder: &Path, keys: &Keys) -> Result<u64> {
    rewrap_disk(open(folder)?, keys)
}

/// [`rewrap`] on any disk.
///
/// # Errors
/// As [`rewrap`].
pub fn rewrap_disk(disk: Arc<dyn Disk>, keys: &Keys) -> Result<u64> {
    let _lock = lock(&*disk)?;
    look::rewrap(&*disk, keys)
}

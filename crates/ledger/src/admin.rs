//! What an operator does with the files of a ledger: look at them, verify them, copy them out and back.
//!
//! [`inspect`], [`verify`] and [`restore`] work on a folder that no process has open, and change
//! nothing in it (`restore` in the one that it reads from): it may be read-only. [`crate::Ledger::backup`]
//! copies a ledger that runs. A copy that did not end is refused by name by all of them, and by a start.

mod copy;
mod look;
mod tables;

use std::{path::Path, sync::Arc};

use serde::Serialize;
use weft_kernel::{ByteSize, Error, Reason, Result, SystemClock};

use crate::{
    crypt::Keys,
    disk::{Disk, RealDisk},
    ledger::Ledger,
    manifest::{self, Copying},
    options::Options,
    recover::{lock, lock_shared},
};

pub(crate) use copy::{backup, refuse_own};

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
    /// What the folder is: `ledger`, `backup`, `unfinished backup` or `unfinished restore`.
    pub state: String,
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
    /// What could not be looked into, a sentence each.
    pub damage: Vec<String>,
}

/// Bytes that a start or a running node has found damaged and set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quarantined {
    /// The path within the folder; it names the file that they are from, and where they were in it.
    pub path: String,
    /// How many.
    pub bytes: u64,
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
    /// What was found damaged before, and is no part of the ledger any more.
    pub quarantine: Vec<Quarantined>,
    /// What is damaged, a sentence each.
    pub damage: Vec<String>,
}

impl Verification {
    /// Notes a damage, once.
    fn tell(&mut self, what: String) {
        if !self.damage.contains(&what) {
            self.damage.push(what);
        }
    }
}

fn there(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let text = format!("there is no folder {}", folder.display());
    Err(Error::new(Reason::Misconfigured, text))
}

/// A folder that is there, to be read.
fn open_to_read(folder: &Path) -> Result<Arc<dyn Disk>> {
    there(folder)?;
    Ok(Arc::new(RealDisk::read_only(folder)))
}

/// A folder to be changed; made if it is missing.
fn open(folder: &Path) -> Result<Arc<dyn Disk>> {
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
/// `storage_busy` while a process has it open; `misconfigured` for a version or key that is not understood,
/// and for a folder without a ledger.
pub fn inspect(folder: &Path, keys: &Keys) -> Result<Inspection> {
    inspect_disk(open_to_read(folder)?, keys)
}

/// [`inspect`] on any disk.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_disk(disk: Arc<dyn Disk>, keys: &Keys) -> Result<Inspection> {
    let _lock = lock_shared(&*disk)?;
    look::inspect(&disk, keys)
}

/// Reads every byte of the ledger in `folder` that matters and holds it to its checksum, and finds what
/// a start would find; a backup is held to its manifest as well. Takes as much memory as a node that has
/// the ledger open.
///
/// # Errors
/// As [`inspect`]; damage, and what cannot be read, is no error but what it finds.
pub fn verify(
    folder: &Path,
    keys: &Keys,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verification> {
    verify_disk(open_to_read(folder)?, keys, progress)
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
    let _lock = lock_shared(&*disk)?;
    look::verify(&disk, keys, progress)
}

/// Goes on knowingly without what is missing or damaged in `folder`, so that a node starts on it again;
/// gives what was lost, a sentence each. What can be looked at of it is kept under `quarantine/`.
///
/// # Errors
/// `misconfigured` without a ledger, or for a version or key that is not understood; `storage_busy`
/// while a process has it open; what the disk says.
pub fn repair(folder: &Path, keys: &Keys) -> Result<Vec<String>> {
    let disk = open_to_read(folder)?;
    look::refuse_empty(&*disk)?;
    // Files of the size that the node has are made when it starts: here a small one has to do.
    let wal_file_bytes = ByteSize(1 << 20);
    let options =
        Options { keys: keys.clone(), accept_loss: true, wal_file_bytes, ..Options::default() };
    let clock = Arc::new(SystemClock);
    let (ledger, recovered) = Ledger::open(open(folder)?, options, clock)?;
    ledger.close()?;
    Ok(recovered.damage)
}

/// Copies the backup in `from`, or the ledger that nobody has open there, into the folder `to`, which must
/// hold no ledger, and verifies what it copied. Until that is done no node starts on `to`; what fails
/// removes what it has copied. What was damaged in the ledger already when the backup was made comes back as
/// it was, and is named in what is given back.
///
/// # Errors
/// `definition_conflict` when `to` holds anything of a ledger already; `malformed_request` when one of the
/// folders lies in the other; `storage_corrupt` when the backup is damaged or not complete;
/// `storage_busy` while a process has either open; what the disks say.
pub fn restore(
    from: &Path,
    to: &Path,
    keys: &Keys,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verification> {
    let source = open_to_read(from)?;
    refuse_own(from, to)?;
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
    let _from = lock_shared(&*from)?;
    look::refuse_empty(&*from)?;
    copy::refuse_full(&*to)?;
    let _to = lock(&*to)?;
    copy::refuse_full(&*to)?;
    copy::complete(&*to, Copying::Restore, || {
        let as_written = copy::restore(&*from, &*to, progress)?;
        let found = look::verify_ledger(&to, keys, &mut |_, _| {})?;
        // What was damaged when the backup was made is so in the only copy that there may be of the rest.
        if !found.damage.is_empty() && !as_written {
            return Err(manifest::damaged(&found.damage));
        }
        Ok(found)
    })
}

/// Names the newest master key in the header of every file that is encrypted under an older one; gives
/// how many there were. Afterwards the older keys are not needed any more.
///
/// # Errors
/// As [`inspect`], and `storage_corrupt` for a backup that is not what was written.
pub fn rewrap(folder: &Path, keys: &Keys) -> Result<u64> {
    there(folder)?;
    rewrap_disk(open(folder)?, keys)
}

/// [`rewrap`] on any disk.
///
/// # Errors
/// As [`rewrap`].
pub fn rewrap_disk(disk: Arc<dyn Disk>, keys: &Keys) -> Result<u64> {
    look::refuse_empty(&*disk)?;
    let _lock = lock(&*disk)?;
    look::rewrap(&*disk, keys)
}

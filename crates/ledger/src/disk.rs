//! The disk as an argument: the few things that the ledger asks of files, so that a simulation can be the disk.
//!
//! Paths are relative to the disk's root, with `/` between names. All calls block. What is written
//! is safe only after [`File::sync_data`], and a name only after [`Disk::sync_dir`] of its folder:
//! the simulated disk takes both at their word.

mod overlay;
mod real;
#[cfg(any(test, feature = "simulation"))]
pub mod simulated;

use std::{any::Any, fmt, io, path::Path, sync::Arc};

use rustix::io::Errno;
use weft_kernel::{Error, Reason};

pub(crate) use overlay::Overlay;
pub use real::RealDisk;
#[cfg(any(test, feature = "simulation"))]
pub use simulated::SimulatedDisk;

/// A folder of files.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file for reading and writing; with `create`, makes it (and its folder) if it is missing.
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn File>>;
    /// The names of the files in a folder, sorted; none if there is no such folder.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Removes a file; it stays readable for those who have it open.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Gives a file another name, in the place of what has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a folder of which no file is left; nothing where folders are but parts of names.
    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        let _ = dir;
        Ok(())
    }
    /// Removes what was made to have a place for files, as far as nothing else has come into it: for a copy
    /// that failed.
    fn unmake(&self) {}
    /// Makes the names in a folder safe.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Takes the disk for this opener alone, until what is given back is dropped; `WouldBlock` while another has it.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;
    /// Takes the disk together with others who only read, and keeps those away who would change it. Where
    /// nothing can be written and there is nothing to lock, nobody is there to be kept away.
    fn lock_shared(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        match self.lock() {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(Box::new(())),
            held => held,
        }
    }
    /// The process that has the disk, if that can be told.
    fn holder(&self) -> Option<u32> {
        None
    }
    /// The folder of the machine that it is, if it is one.
    fn folder(&self) -> Option<&Path> {
        None
    }
    /// The bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file.
pub trait File: Send + Sync + fmt::Debug {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `bytes` from `offset` on and says how many there were: fewer only at the end of the file.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`; the file grows if it must.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file, or lengthens it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Writes zeros up to `len` and sets the length to it, so that to write there later changes no metadata.
    fn allocate_zeroed(&self, len: u64) -> io::Result<()>;
    /// Returns when all that was written, and the length, are on the disk.
    fn sync_data(&self) -> io::Result<()>;
}

/// All bytes from `offset` on, `len` of them or as many as there are.
pub(crate) fn read_up_to(file: &dyn File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let there = file.len()?.saturating_sub(offset);
    let mut bytes = vec![0; len.min(usize::try_from(there).unwrap_or(usize::MAX))];
    let read = file.read_at(offset, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the system has nothing left to open a file with (descriptors of the process or of the machine,
/// memory): nothing was changed, and it passes.
pub(crate) fn passes(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN))
}

/// What a failed change of a disk means to a caller, where the change can be begun anew: a file that is
/// opened, made or given another name. What was written in place and may or may not be there is
/// [`broken`].
pub(crate) fn failed(doing: &'static str, path: &str, error: io::Error) -> Error {
    let reason = if full(&error) {
        Reason::StorageFull
    } else if passes(&error) {
        Reason::StorageUnavailable
    } else {
        Reason::StoragePoisoned
    };
    Error::new(reason, doing).because(error).at(path.to_owned())
}

/// What a failed write or sync of what is there already means: nothing after it can be trusted, whatever
/// the reason was.
pub(crate) fn broken(doing: &'static str, path: &str, error: io::Error) -> Error {
    Error::new(Reason::StoragePoisoned, doing).because(error).at(path.to_owned())
}

/// What it means that the folder of a ledger cannot be opened: nothing has changed.
pub(crate) fn unopened(folder: &str, error: io::Error) -> Error {
    let reason = if full(&error) { Reason::StorageFull } else { Reason::StorageUnavailable };
    Error::new(reason, "the folder of the ledger cannot be opened")
        .because(error)
        .at(folder.to_owned())
}

/// What a failed read of a disk means to a caller: nothing has changed, and it may be tried again.
pub(crate) fn unreadable(doing: &'static str, path: &str, error: io::Error) -> Error {
    Error::new(Reason::StorageUnavailable, doing).because(error).at(path.to_owned())
}

/// What a failed change of the disk that a copy goes to means: nothing to the ledger that is copied.
pub(crate) fn failed_copy(path: &str, error: io::Error) -> Error {
    let (reason, text) = if full(&error) {
        (Reason::StorageFull, "the disk that is copied to has no room for the copy")
    } else {
        (Reason::StorageUnavailable, "the copy cannot be written")
    };
    Error::new(reason, text).because(error).at(path.to_owned())
}

#[cfg(test)]
mod tests;

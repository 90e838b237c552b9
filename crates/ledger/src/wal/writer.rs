//! The set of open files: which are there, which are ready to be written, and which can be used again.

use std::{collections::BTreeMap, io, sync::Arc};

use parking_lot::Mutex;
use weft_kernel::{Error, Reason, Result};

use super::{
    Closed, FOLDER, HEADER_LEN, WalFile,
    file::name,
    made::{self, Made},
};
use crate::{
    crypt::Keys,
    disk::{Disk, broken, failed, unreadable},
};

/// Where a new file is made before it has a number.
const NEW: &str = "wal/new";
const SPARE: &str = "spare-";

/// The files of the write-ahead log.
#[derive(Debug)]
pub(crate) struct WalSet {
    disk: Arc<dyn Disk>,
    keys: Keys,
    capacity: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u32, Arc<WalFile>>,
    spares: Vec<String>,
    /// What is on record.
    made: Made,
}

impl WalSet {
    /// No files yet; new ones get `capacity` bytes.
    pub(crate) fn new(disk: Arc<dyn Disk>, keys: Keys, capacity: u64) -> Self {
        Self { disk, keys, capacity, state: Mutex::default() }
    }

    /// Finds the files that can be used again, and removes what a crash left half made.
    pub(crate) fn find_spares(&self) -> Result<()> {
        let names =
            self.disk.list(FOLDER).map_err(|error| unreadable("cannot list", FOLDER, error))?;
        for found in names {
            let path = format!("{FOLDER}/{found}");
            let whole = found.starts_with(SPARE)
                && self
                    .disk
                    .open(&path, false)
                    .and_then(|file| file.len())
                    .is_ok_and(|len| len == self.capacity);
            if whole {
                self.state.lock().spares.push(path);
            } else if found.starts_with(SPARE) || path == NEW {
                self.disk.remove(&path).map_err(|error| failed("cannot remove", &path, error))?;
            }
        }
        Ok(())
    }

    /// Takes in a file that recovery has opened.
    pub(crate) fn insert(&self, file: WalFile) {
        self.state.lock().files.insert(file.number, Arc::new(file));
    }

    /// The file of a number.
    pub(crate) fn get(&self, number: u32) -> Option<Arc<WalFile>> {
        self.state.lock().files.get(&number).cloned()
    }

    /// The numbers of all files that are open.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.state.lock().files.keys().copied().collect()
    }

    /// The bytes of all files and spares.
    pub(crate) fn bytes(&self) -> u64 {
        let state = self.state.lock();
        (state.files.len() + state.spares.len()) as u64 * self.capacity
    }

    /// Makes file `number` ready to be written: from a spare if there is one, otherwise from new zeros.
    ///
    /// # Errors
    /// `storage_full` when there is no room for it; nothing is left behind then.
    pub(crate) fn prepare(&self, number: u32) -> Result<()> {
        let path = name(number);
        let spare = self.state.lock().spares.last().cloned();
        let made = match &spare {
            Some(spare) => spare.as_str(),
            None => {
                self.make().map_err(|error| {
                    // What was made of it only takes room away from others.
                    let _ = self.disk.remove(NEW);
                    failed("cannot make a write-ahead file", &path, error)
                })?;
                NEW
            }
        };
        let cannot = |error| failed("cannot make a write-ahead file", &path, error);
        self.disk.rename(made, &path).map_err(cannot)?;
        if spare.is_some() {
            self.state.lock().spares.pop();
        }
        let file = self.disk.open(&path, false).map_err(cannot)?;
        let file = WalFile::begin(file, number, &self.keys)?;
        self.disk.sync_dir(FOLDER).map_err(cannot)?;
        // From here on it is missed when it is not there.
        self.record(|made| made.newest = made.newest.max(number))?;
        self.insert(file);
        Ok(())
    }

    /// Puts file `number`, which was made ready in a former life and never used, to use; makes it anew if
    /// it is not as it should be.
    ///
    /// # Errors
    /// As [`WalSet::prepare`].
    pub(crate) fn prepare_again(&self, number: u32) -> Result<()> {
        let path = name(number);
        let cannot = |error| failed("cannot make a write-ahead file", &path, error);
        let file = self.disk.open(&path, false).map_err(cannot)?;
        if file.len().map_err(cannot)? != self.capacity {
            return self.prepare(number);
        }
        let file = WalFile::begin(file, number, &self.keys)?;
        self.disk.sync_dir(FOLDER).map_err(cannot)?;
        self.record(|made| made.newest = made.newest.max(number))?;
        self.insert(file);
        Ok(())
    }

    /// Puts on record that all up to transaction `seq` is safe, and no other is known to be.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn record_safe(&self, seq: u64) -> Result<()> {
        self.record(|made| made.safe = seq)
    }

    /// Takes over what was on record when the ledger was opened.
    pub(crate) fn recorded(&self, made: Made) {
        self.state.lock().made = made;
    }

    fn record(&self, change: impl FnOnce(&mut Made)) -> Result<()> {
        let before = self.state.lock().made;
        let mut made = before;
        change(&mut made);
        if made != before {
            made::write(&*self.disk, made)?;
            self.state.lock().made = made;
        }
        Ok(())
    }

    fn make(&self) -> io::Result<()> {
        if self.disk.free_bytes()? < self.capacity {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let file = self.disk.open(NEW, true)?;
        file.allocate_zeroed(self.capacity)?;
        file.sync_data()
    }

    /// Gives file `number` free to be used again; up to `spares_max` are kept, more are removed.
    ///
    /// The caller has seen to it that nothing in it is needed, also after a crash. Who reads from it
    /// still has to ask [`WalSet::get`] again afterwards, before trusting what was read.
    pub(crate) fn recycle(&self, number: u32, spares_max: usize) -> Result<()> {
        let path = name(number);
        let Some(file) = self.state.lock().files.remove(&number) else { return Ok(()) };
        let same = file.file().len().is_ok_and(|len| len == self.capacity);
        let keep = same && self.state.lock().spares.len() < spares_max;
        if !keep {
            return self.disk.remove(&path).map_err(|error| failed("cannot remove", &path, error));
        }
        let spare = format!("{FOLDER}/{SPARE}{number:010}");
        self.disk.rename(&path, &spare).map_err(|error| failed("cannot rename", &path, error))?;
        self.state.lock().spares.push(spare);
        Ok(())
    }
}

/// Writes groups of frames, one after the other, and knows what of them is safe.
#[derive(Debug)]
pub(crate) struct Writer {
    file: Arc<WalFile>,
    written: u32,
    synced: u32,
    /// A write or a sync has failed. What the system says after that proves nothing: it may have
    /// dropped what it could not write.
    failed: bool,
}

impl Writer {
    /// Begins with a file that has no frames yet.
    pub(crate) fn new(file: Arc<WalFile>) -> Self {
        Self::resume(file, HEADER_LEN)
    }

    /// Goes on at `offset` of a file; what is before is safe, and nothing is behind.
    pub(crate) fn resume(file: Arc<WalFile>, offset: u32) -> Self {
        Self { file, written: offset, synced: offset, failed: false }
    }

    /// The number of the file that is written.
    pub(crate) fn number(&self) -> u32 {
        self.file.number
    }

    /// Where the next group goes.
    pub(crate) fn offset(&self) -> u32 {
        self.written
    }

    /// Whether something was written that is not safe.
    pub(crate) fn unsynced(&self) -> bool {
        self.synced < self.written
    }

    /// Goes on in `file`; what was written so far, up to transaction `last`, is made safe first.
    pub(crate) fn turn_to(&mut self, file: Arc<WalFile>, last: u64) -> Result<()> {
        if self.unsynced() {
            self.sync()?;
        }
        self.file.set_last(last);
        *self = Self::new(file);
        Ok(())
    }

    /// Marks the end of the log for good: `last` was the last transaction, and all is safe.
    pub(crate) fn close(&mut self, last: u64) -> Result<()> {
        self.refuse_if_failed()?;
        self.file.close(Closed { end: self.written, seq: last })
    }

    /// Writes a group of frames where the last one ended. An encrypted file gets a copy that is
    /// encrypted, so that `bytes` can be kept for readers.
    ///
    /// # Errors
    /// What the disk says; from then on everything is refused. But for `storage_full`: the same group
    /// may be written again, at the same place.
    pub(crate) fn write(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.refuse_if_failed()?;
        let (offset, synced) = (self.written, self.synced);
        let at = u64::from(offset);
        let written = if self.file.encrypted() {
            let mut copy = bytes.to_vec();
            self.file.seal(&mut copy, offset, synced)?;
            self.file.file().write_at(at, &copy)
        } else {
            self.file.seal(bytes, offset, synced)?;
            self.file.file().write_at(at, bytes)
        };
        if let Err(error) = &written
            && matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        {
            // Nothing of it counts before it is written whole.
            return written
                .map_err(|error| failed("no room to write the log", &name(self.number()), error));
        }
        self.outcome(written, "a write to the log failed")?;
        self.written += bytes.len() as u32;
        Ok(())
    }

    /// Makes all that was written safe.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.refuse_if_failed()?;
        let synced = self.file.file().sync_data();
        self.outcome(synced, "a sync of the log failed")?;
        self.synced = self.written;
        Ok(())
    }

    fn refuse_if_failed(&self) -> Result<()> {
        if self.failed {
            let text = "a write to the log or a sync of it has failed before";
            return Err(Error::new(Reason::StoragePoisoned, text).at(name(self.number())));
        }
        Ok(())
    }

    fn outcome(&mut self, outcome: io::Result<()>, doing: &'static str) -> Result<()> {
        self.failed |= outcome.is_err();
        outcome.map_err(|error| broken(doing, &name(self.number()), error))
    }
}

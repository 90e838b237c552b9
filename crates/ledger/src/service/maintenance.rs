//! Maintenance: files made ready ahead, full ones written behind, space given back, segments looked over.

use std::sync::atomic::Ordering;

use weft_kernel::{Reason, Result, SystemClock, memory::Spare};

use super::{KEEP, Service};
use crate::flush::House;

/// Files that are ready beside the one that is written: the next, and the reserve for a full disk.
const AHEAD: u32 = 2;

impl Service {
    /// Runs maintenance until it is told to stop.
    pub(super) fn run_maintenance(&self) {
        let mut spare = Spare::default();
        while !self.stopping.load(Ordering::Acquire) {
            self.pulses.maintenance.beat();
            if self.maintenance_step() {
                spare.worked(SystemClock::tick());
            } else {
                spare.look(SystemClock::tick());
                self.pulses.maintenance.rest();
                self.house.wait(KEEP);
            }
        }
        self.pulses.maintenance.rest();
    }

    /// One round; whether there was anything to do. A full disk, one that cannot be read, and a system
    /// that has nothing left to open a file with are waited out; anything else that fails ends the taking.
    pub(super) fn maintenance_step(&self) -> bool {
        if self.shared.core.lock().ended().is_some() {
            return false;
        }
        self.wake_held();
        match self.keep() {
            Ok(did) => {
                if self.unread.swap(false, Ordering::Relaxed) {
                    tracing::info!("maintenance of the ledger continues");
                }
                did
            }
            Err(error) if error.reason() == Reason::StorageUnavailable => {
                // Nothing was changed: the log still holds it all, and it is tried again.
                if !self.unread.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        error = %error,
                        "maintenance of the ledger is suspended: a file cannot be opened, read or made; it is tried \
                         again"
                    );
                }
                false
            }
            Err(error) if error.reason() == Reason::StorageFull => {
                self.set_full(true);
                false
            }
            Err(error) => {
                self.poison(&error);
                false
            }
        }
    }

    /// What waits for room is tried again by the writer.
    fn wake_held(&self) {
        if self.holds_back() {
            self.work.set();
        }
    }

    fn keep(&self) -> Result<bool> {
        let prepared = self.prepare();
        self.set_short(
            prepared.as_ref().is_err_and(|error| error.reason() == Reason::StorageUnavailable),
        );
        let full = out_of_room(prepared)?;
        let mut flusher = self.flusher.lock();
        let kept = if full { 0 } else { self.options.wal_files_kept };
        let written = self.written_files();
        let house = self.house();
        let mut did = false;
        if written.len() > kept
            && let Some(&oldest) = written.first()
        {
            // Without room for what lives of it there may still be some for less.
            did = !out_of_room(flusher.flush(&house, oldest))?;
        }
        if flusher.due(&house) {
            did |= !out_of_room(flusher.store(&house))?;
        }
        let mut tidied = false;
        out_of_room(flusher.tidy(&house).map(|did| tidied = did))?;
        if !full {
            // On a disk that is nearly full everything goes on without it.
            out_of_room(self.files.checkpoint.reserve())?;
        }
        drop(flusher);
        if full && out_of_room(self.prepare())? {
            // What was given free was not what is missing.
            self.set_full(true);
        }
        Ok(did || tidied)
    }

    /// Sees to it that enough files are ready.
    fn prepare(&self) -> Result<()> {
        loop {
            let (current, ready) = {
                let mut core = self.shared.core.lock();
                let cursor = core.cursor();
                (cursor.file(), cursor.last_ready())
            };
            if ready >= current + AHEAD {
                self.set_full(self.holds_back());
                return Ok(());
            }
            self.files.wal.prepare(ready + 1)?;
            let mut core = self.shared.core.lock();
            core.cursor().ready(ready + 1);
            let wakes = core.made_room();
            drop(core);
            wakes.wake();
        }
    }

    pub(super) fn set_full(&self, full: bool) {
        let mut core = self.shared.core.lock();
        if core.cursor().is_full() == full {
            return;
        }
        core.cursor().set_full(full);
        let wakes = core.made_room();
        drop(core);
        wakes.wake();
        if full {
            tracing::error!("the disk is full: appends are refused until there is room");
        } else {
            tracing::info!("the disk has room again");
        }
    }

    /// Appends are refused, not put off, while the next file cannot be made for want of something else
    /// than room.
    fn set_short(&self, short: bool) {
        let mut core = self.shared.core.lock();
        if core.cursor().is_short() == short {
            return;
        }
        core.cursor().set_short(short);
        let wakes = core.made_room();
        drop(core);
        wakes.wake();
        if short {
            tracing::error!(
                "the next log file cannot be made: appends are refused until it can be"
            );
        } else {
            tracing::info!("log files can be made again");
        }
    }

    /// The files that are full and safe, oldest first.
    fn written_files(&self) -> Vec<u32> {
        let current = self.writing_file();
        self.files.wal.numbers().into_iter().filter(|number| *number < current).collect()
    }

    fn house(&self) -> House<'_> {
        House { shared: &self.shared, files: &self.files, now: self.now(), service: self }
    }

    /// Stores a checkpoint of what has changed.
    ///
    /// # Errors
    /// `storage_full`, `storage_poisoned`: the log still holds everything.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        let mut flusher = self.flusher.lock();
        let house = self.house();
        flusher.store(&house)
    }

    /// Runs `act` while no file is written behind, given free or removed.
    pub(crate) fn still<T>(&self, act: impl FnOnce(&Self) -> T) -> T {
        let _flusher = self.flusher.lock();
        act(self)
    }

    /// Makes safe what was submitted, for the flusher.
    pub(crate) fn make_safe(&self) -> Result<()> {
        self.write_all()
    }
}

/// Whether something failed for want of room; any other failure stays one.
fn out_of_room(done: Result<()>) -> Result<bool> {
    match done {
        Ok(()) => Ok(false),
        Err(error) if error.reason() == Reason::StorageFull => Ok(true),
        Err(error) => Err(error),
    }
}

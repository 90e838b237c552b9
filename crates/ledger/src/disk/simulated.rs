//! A disk in memory that a seed can stop, tear and spoil: what the ledger's promises are tried on.
//!
//! Each file is kept twice: as the process sees it, and as it would be found after the power failed.
//! [`File::sync_data`] carries the first over into the second, sector by sector; names are carried
//! over by [`Disk::sync_dir`]. [`SimulatedDisk::restart`] is the power coming back: of what was not
//! synced each sector is there or not, as the generator draws, and of the changes of names a prefix.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use parking_lot::Mutex;
use weft_kernel::Rng;

use super::{Disk, File};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// How a simulated disk goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The power fails when so many syncs have been done: that one does not take place, nor does anything after it.
    pub halt_at_sync: Option<u64>,
    /// From this sync on, each fails (and its bytes may or may not be safe).
    pub fail_sync_from: Option<u64>,
    /// From this write on, each fails.
    pub fail_write_from: Option<u64>,
    /// The most bytes that all files may have together.
    pub bytes_max: Option<u64>,
    /// The process is killed when so many changes have been begun (files made, written, cut, renamed,
    /// removed and synced): that one does not take place, nor does anything after it.
    pub halt_at_change: Option<u64>,
    /// Reads of paths that begin so fail.
    pub unreadable: Option<String>,
}

/// A disk in memory; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk(Arc<Mutex<World>>);

#[derive(Debug, Default)]
struct World {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    /// Changes of names that no sync of their folder has made safe, oldest first.
    changes: Vec<Change>,
    faults: Faults,
    halted: bool,
    syncs: u64,
    writes: u64,
    changed: u64,
    /// One per life: a handle of a former life is dead.
    life: u64,
    /// The life whose opener has the disk for itself.
    locked: Option<u64>,
}

#[derive(Debug, Default, Clone)]
struct Contents {
    seen: Vec<u8>,
    safe: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// Lengths that it had since the last sync, oldest first.
    lengths: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Change {
    folder: String,
    sets: Vec<(String, Option<usize>)>,
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn error(kind: io::ErrorKind, says: &str) -> io::Error {
    io::Error::new(kind, says.to_owned())
}

impl SimulatedDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what goes wrong from now on; counts go on from where they are ([`SimulatedDisk::syncs`]).
    pub fn set_faults(&self, faults: Faults) {
        self.0.lock().faults = faults;
    }

    /// How many syncs there have been, of files and of folders.
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// How many writes there have been.
    pub fn writes(&self) -> u64 {
        self.0.lock().writes
    }

    /// How many changes there have been: files made, written, cut, renamed, removed and synced.
    pub fn changed(&self) -> u64 {
        self.0.lock().changed
    }

    /// Whether the power has failed.
    pub fn halted(&self) -> bool {
        self.0.lock().halted
    }

    /// The power fails now: every call fails until [`SimulatedDisk::restart`].
    pub fn halt(&self) {
        self.0.lock().halted = true;
    }

    /// The power comes back: what was not synced is kept, lost or torn as `rng` draws; all files that were open are dead, and no fault is set.
    pub fn restart(&self, rng: &mut Rng) {
        let mut world = self.0.lock();
        // Some crashes keep everything or nothing, so that both ends are tried as well.
        let keep = [0.0, 1.0, 0.5, 0.9, 0.1][rng.below(5) as usize];
        for file in &mut world.files {
            let dirty = std::mem::take(&mut file.dirty);
            // A length is changed as a whole, by the file system's journal, and in the order of the changes.
            let lengths = std::mem::take(&mut file.lengths);
            let changes = (lengths.len() as f64 * keep).ceil() as u64;
            if let Some(len) = rng.below(changes + 1).checked_sub(1) {
                file.safe.resize(lengths[len as usize], 0);
            }
            for sector in dirty {
                if rng.chance(keep) {
                    file.carry(sector);
                }
            }
            file.seen.clone_from(&file.safe);
        }
        let kept = rng.below(world.changes.len() as u64 + 1) as usize;
        let changes = std::mem::take(&mut world.changes);
        for change in changes.into_iter().take(kept) {
            set(&mut world.safe_names, change.sets);
        }
        world.names = world.safe_names.clone();
        world.life += 1;
        world.halted = false;
        world.faults = Faults::default();
    }

    /// The process ends and is started again while the power stays on: files that were open are dead, nothing is lost.
    pub fn reopen(&self) {
        let mut world = self.0.lock();
        world.life += 1;
        world.halted = false;
        world.faults = Faults::default();
    }

    /// Changes one bit of a file, in what is seen and in what is safe; false if there is no such bit.
    pub fn flip(&self, path: &str, bit: u64) -> bool {
        let mut world = self.0.lock();
        let Some(&index) = world.names.get(path) else { return false };
        let file = &mut world.files[index];
        let byte = (bit / 8) as usize;
        if byte >= file.seen.len() {
            return false;
        }
        file.seen[byte] ^= 1 << (bit % 8);
        if let Some(safe) = file.safe.get_mut(byte) {
            *safe ^= 1 << (bit % 8);
        }
        true
    }

    /// Another disk with the same files, all of them safe.
    #[must_use]
    pub fn fork(&self) -> Self {
        let world = self.0.lock();
        let mut fork = World::default();
        for (name, &index) in &world.names {
            let seen = world.files[index].seen.clone();
            fork.names.insert(name.clone(), fork.files.len());
            fork.files.push(Contents { safe: seen.clone(), seen, ..Contents::default() });
        }
        fork.safe_names.clone_from(&fork.names);
        Self(Arc::new(Mutex::new(fork)))
    }

    /// Cuts a file, in what is seen and in what is safe.
    pub fn cut(&self, path: &str, len: u64) {
        let mut world = self.0.lock();
        if let Some(&index) = world.names.get(path) {
            world.files[index].seen.truncate(len as usize);
            world.files[index].safe.truncate(len as usize);
        }
    }

    /// Takes a file away, in what is seen and in what is safe.
    pub fn lose(&self, path: &str) {
        let mut world = self.0.lock();
        world.names.remove(path);
        world.safe_names.remove(path);
    }

    /// The bytes of a file as the process sees them.
    pub fn contents(&self, path: &str) -> Option<Vec<u8>> {
        let world = self.0.lock();
        world.names.get(path).map(|&index| world.files[index].seen.clone())
    }

    /// The paths of all files with their lengths.
    pub fn files(&self) -> Vec<(String, u64)> {
        let world = self.0.lock();
        let length = |index: usize| world.files[index].seen.len() as u64;
        world.names.iter().map(|(name, &index)| (name.clone(), length(index))).collect()
    }
}

fn set(names: &mut BTreeMap<String, usize>, sets: Vec<(String, Option<usize>)>) {
    for (name, file) in sets {
        match file {
            Some(file) => names.insert(name, file),
            None => names.remove(&name),
        };
    }
}

impl Contents {
    /// Carries a sector over into what is safe, as far as the safe length goes.
    fn carry(&mut self, sector: usize) {
        let from = sector * SECTOR;
        let to = (from + SECTOR).min(self.seen.len()).min(self.safe.len());
        if from >= to {
            return;
        }
        self.safe[from..to].copy_from_slice(&self.seen[from..to]);
    }
}

impl World {
    fn alive(&self) -> io::Result<()> {
        if self.halted { Err(error(io::ErrorKind::Other, "the power is off")) } else { Ok(()) }
    }

    /// Counts a change; fails if the process is to be killed at it.
    fn changing(&mut self) -> io::Result<()> {
        self.alive()?;
        self.changed += 1;
        if self.faults.halt_at_change.is_some_and(|at| self.changed >= at) {
            self.halted = true;
        }
        self.alive()
    }

    fn change(&mut self, folder: &str, sets: Vec<(String, Option<usize>)>) {
        set(&mut self.names, sets.clone());
        self.changes.push(Change { folder: folder.to_owned(), sets });
    }

    fn used(&self) -> u64 {
        self.names.values().map(|&index| self.files[index].seen.len() as u64).sum()
    }

    /// Whether the files may grow by `more` bytes.
    fn room(&self, more: u64) -> io::Result<()> {
        match self.faults.bytes_max {
            Some(max) if self.used() + more > max => {
                Err(error(io::ErrorKind::StorageFull, "no space left on the simulated disk"))
            }
            _ => Ok(()),
        }
    }

    /// Counts a write; fails if it is to fail.
    fn writing(&mut self) -> io::Result<()> {
        self.changing()?;
        self.writes += 1;
        match self.faults.fail_write_from {
            Some(from) if self.writes >= from => {
                Err(error(io::ErrorKind::Other, "a write was made to fail"))
            }
            _ => Ok(()),
        }
    }

    /// Counts a sync; fails if it is to fail, or if the power is to fail with it.
    fn syncing(&mut self) -> io::Result<()> {
        self.changing()?;
        self.syncs += 1;
        if self.faults.halt_at_sync.is_some_and(|at| self.syncs >= at) {
            self.halted = true;
        }
        self.alive()?;
        match self.faults.fail_sync_from {
            Some(from) if self.syncs >= from => {
                Err(error(io::ErrorKind::Other, "a sync was made to fail"))
            }
            _ => Ok(()),
        }
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn File>> {
        let mut world = self.0.lock();
        world.alive()?;
        let index = match world.names.get(path) {
            Some(&index) => index,
            None if create => {
                world.changing()?;
                let index = world.files.len();
                world.files.push(Contents::default());
                world.change(folder(path), vec![(path.to_owned(), Some(index))]);
                index
            }
            None => return Err(error(io::ErrorKind::NotFound, "there is no such file")),
        };
        let file =
            SimulatedFile { disk: self.clone(), index, life: world.life, path: path.to_owned() };
        Ok(Arc::new(file))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let world = self.0.lock();
        world.alive()?;
        let within = world.names.keys().filter(|name| folder(name) == dir);
        Ok(within.filter_map(|name| name.rsplit('/').next()).map(str::to_owned).collect())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut world = self.0.lock();
        world.alive()?;
        if !world.names.contains_key(path) {
            return Err(error(io::ErrorKind::NotFound, "there is no such file"));
        }
        world.changing()?;
        world.change(folder(path), vec![(path.to_owned(), None)]);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.0.lock();
        world.alive()?;
        let Some(&index) = world.names.get(from) else {
            return Err(error(io::ErrorKind::NotFound, "there is no such file"));
        };
        world.changing()?;
        world.change(folder(to), vec![(from.to_owned(), None), (to.to_owned(), Some(index))]);
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut world = self.0.lock();
        world.syncing()?;
        let (safe, rest) = std::mem::take(&mut world.changes)
            .into_iter()
            .partition(|change: &Change| change.folder == dir);
        world.changes = rest;
        for change in safe {
            set(&mut world.safe_names, change.sets);
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut world = self.0.lock();
        world.alive()?;
        if world.locked == Some(world.life) {
            return Err(error(io::ErrorKind::WouldBlock, "another opener has the disk"));
        }
        world.locked = Some(world.life);
        Ok(Box::new(Held { disk: self.clone(), life: world.life }))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let world = self.0.lock();
        world.alive()?;
        Ok(world.faults.bytes_max.map_or(u64::MAX / 2, |max| max.saturating_sub(world.used())))
    }
}

/// Gives the disk free when it is dropped.
struct Held {
    disk: SimulatedDisk,
    life: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut world = self.disk.0.lock();
        if world.locked == Some(self.life) {
            world.locked = None;
        }
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    index: usize,
    life: u64,
    path: String,
}

impl SimulatedFile {
    fn with<T>(&self, act: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.disk.0.lock();
        if world.life != self.life {
            return Err(error(io::ErrorKind::Other, "the file was opened in a former life"));
        }
        act(&mut world)
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|world| {
            world.writing()?;
            let end = offset as usize + bytes.len();
            let len = world.files[self.index].seen.len();
            world.room(end.saturating_sub(len) as u64)?;
            let file = &mut world.files[self.index];
            if len < end {
                file.seen.resize(end, 0);
                file.lengths.push(end);
                file.dirty.extend(len / SECTOR..end.div_ceil(SECTOR));
            }
            file.seen[offset as usize..end].copy_from_slice(bytes);
            file.dirty.extend(offset as usize / SECTOR..end.div_ceil(SECTOR));
            Ok(())
        })
    }
}

impl File for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|world| {
            world.alive()?;
            Ok(world.files[self.index].seen.len() as u64)
        })
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.with(|world| {
            world.alive()?;
            if world.faults.unreadable.as_ref().is_some_and(|path| self.path.starts_with(path)) {
                return Err(error(io::ErrorKind::Other, "a read was made to fail"));
            }
            let seen = &world.files[self.index].seen;
            let from = (offset as usize).min(seen.len());
            let count = bytes.len().min(seen.len() - from);
            bytes[..count].copy_from_slice(&seen[from..from + count]);
            Ok(count)
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.put(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|world| {
            world.writing()?;
            let old = world.files[self.index].seen.len();
            world.room((len as usize).saturating_sub(old) as u64)?;
            let file = &mut world.files[self.index];
            file.seen.resize(len as usize, 0);
            file.lengths.push(len as usize);
            file.dirty.extend(old / SECTOR..(len as usize).div_ceil(SECTOR));
            Ok(())
        })
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        self.set_len(0)?;
        self.put(0, &vec![0; len as usize])
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|world| {
            world.syncing()?;
            let file = &mut world.files[self.index];
            file.lengths.clear();
            let len = file.seen.len();
            file.safe.resize(len, 0);
            for sector in std::mem::take(&mut file.dirty) {
                file.carry(sector);
            }
            Ok(())
        })
    }
}

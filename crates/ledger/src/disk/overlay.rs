//! Any disk as something to look at: what is changed stays in memory, and is gone with it.
//!
//! Recovery and the tables of a checkpoint write when they are opened. Over this disk they can be
//! opened to look at a ledger that must not change, or cannot: the disk beneath is only read.
//! Memory is taken for each block of 4 KiB that was changed; zeros take none.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::Path,
    sync::Arc,
};

use parking_lot::Mutex;

use super::{Disk, File};

const BLOCK: usize = 4096;

/// A disk whose changes are kept in memory.
#[derive(Debug)]
pub(crate) struct Overlay {
    base: Arc<dyn Disk>,
    /// Files that were opened or made, and names that are gone (`None`).
    names: Mutex<BTreeMap<String, Option<Arc<OverlayFile>>>>,
}

fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "there is no such file")
}

impl Overlay {
    /// What `base` holds, with no change yet.
    pub(crate) fn new(base: Arc<dyn Disk>) -> Self {
        Self { base, names: Mutex::default() }
    }

    fn file(&self, path: &str, create: bool) -> io::Result<Arc<OverlayFile>> {
        let mut names = self.names.lock();
        match names.get(path) {
            Some(Some(file)) => return Ok(file.clone()),
            Some(None) if !create => return Err(missing()),
            Some(None) => {}
            None => match self.base.open(path, false) {
                Ok(base) => {
                    let file = Arc::new(OverlayFile::over(base)?);
                    names.insert(path.to_owned(), Some(file.clone()));
                    return Ok(file);
                }
                Err(error) if create && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            },
        }
        let file = Arc::new(OverlayFile::default());
        names.insert(path.to_owned(), Some(file.clone()));
        Ok(file)
    }
}

impl Disk for Overlay {
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn File>> {
        Ok(self.file(path, create)?)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut found: BTreeSet<String> = self.base.list(dir)?.into_iter().collect();
        for (path, file) in &*self.names.lock() {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            if folder != dir {
                continue;
            }
            match file {
                Some(_) => found.insert(name.to_owned()),
                None => found.remove(name),
            };
        }
        Ok(found.into_iter().collect())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.file(path, false)?;
        self.names.lock().insert(path.to_owned(), None);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.file(from, false)?;
        let mut names = self.names.lock();
        names.insert(from.to_owned(), None);
        names.insert(to.to_owned(), Some(file));
        Ok(())
    }

    fn sync_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    /// Always given: it is this opener's own, whoever has the disk beneath.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX / 2)
    }

    fn folder(&self) -> Option<&Path> {
        self.base.folder()
    }
}

/// A file whose changes are kept in memory.
#[derive(Default)]
struct OverlayFile {
    base: Option<Arc<dyn File>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    len: u64,
    /// How much of the file beneath still shows: what was once cut off comes back as zeros.
    shown: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl fmt::Debug for OverlayFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OverlayFile").field(&self.base).finish()
    }
}

impl OverlayFile {
    fn over(base: Arc<dyn File>) -> io::Result<Self> {
        let len = base.len()?;
        let state = State { len, shown: len, blocks: BTreeMap::new() };
        Ok(Self { base: Some(base), state: Mutex::new(state) })
    }

    /// Fills `out` with what lies beneath at `offset`, zeros behind its end.
    fn beneath(&self, shown: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.fill(0);
        let count = usize::try_from(shown.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = count.min(out.len());
        if let (Some(base), true) = (&self.base, count > 0) {
            base.read_at(offset, &mut out[..count])?;
        }
        Ok(())
    }
}

/// The parts of `offset..offset + len` by block: the block, where in it, and where in the range.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % BLOCK as u64) as usize;
        let count = (BLOCK - within).min(len - done);
        let part = (at / BLOCK as u64, within, done..done + count);
        done += count;
        Some(part)
    })
}

impl File for OverlayFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let state = self.state.lock();
        let there = usize::try_from(state.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = there.min(bytes.len());
        let out = &mut bytes[..count];
        self.beneath(state.shown, offset, out)?;
        if count == 0 {
            return Ok(0);
        }
        let last = (offset + count as u64 - 1) / BLOCK as u64;
        // Few blocks are changed of large files that are read whole.
        for (&block, changed) in state.blocks.range(offset / BLOCK as u64..=last) {
            let begins = block * BLOCK as u64;
            let from = begins.max(offset);
            let to = (begins + BLOCK as u64).min(offset + count as u64);
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&changed[(from - begins) as usize..(to - begins) as usize]);
        }
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        for (block, within, range) in parts(offset, bytes.len()) {
            if !state.blocks.contains_key(&block) {
                let mut copy = vec![0; BLOCK].into_boxed_slice();
                self.beneath(state.shown, block * BLOCK as u64, &mut copy)?;
                state.blocks.insert(block, copy);
            }
            if let Some(changed) = state.blocks.get_mut(&block) {
                changed[within..within + range.len()].copy_from_slice(&bytes[range]);
            }
        }
        state.len = state.len.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if len < state.len {
            state.shown = state.shown.min(len);
            drop(state.blocks.split_off(&len.div_ceil(BLOCK as u64)));
            let within = (len % BLOCK as u64) as usize;
            if let Some(last) = state.blocks.get_mut(&(len / BLOCK as u64)) {
                last[within..].fill(0);
            }
        }
        state.len = len;
        Ok(())
    }

    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        self.set_len(0)?;
        self.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

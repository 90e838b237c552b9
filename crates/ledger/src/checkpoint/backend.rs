//! The file under the tables: as it is, or in blocks that are encrypted one by one.
//!
//! Block 0 holds what redb writes in place, in steps smaller than a block, to change from one state
//! to the next; it has no rows and stays in the clear. Every other block is 4 KiB of the tables
//! behind a nonce and before a tag.

use std::{io, sync::Arc};

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::{
    crypt::{BLOCK_EXTRA, Sealer},
    disk::File,
};

const BLOCK: usize = 4096;
const STORED: usize = BLOCK + BLOCK_EXTRA;

/// A file as redb sees it.
#[derive(Debug)]
pub(crate) struct Backend {
    file: Arc<dyn File>,
    sealer: Option<Sealer>,
    /// Held while blocks are read, changed in part and written back.
    writing: Mutex<()>,
}

/// Where a block lies in the file.
const fn place(block: u64) -> u64 {
    if block == 0 { 0 } else { BLOCK as u64 + (block - 1) * STORED as u64 }
}

/// Where a byte of the tables would lie at the earliest, as the length of a file.
const fn stored_len(len: u64) -> u64 {
    let blocks = len.div_ceil(BLOCK as u64);
    if blocks <= 1 { len } else { place(blocks) }
}

fn short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the tables end before that place")
}

impl Backend {
    /// The tables in `file`, encrypted if there is a key.
    pub(crate) fn new(file: Arc<dyn File>, sealer: Option<Sealer>) -> Self {
        Self { file, sealer, writing: Mutex::new(()) }
    }

    /// Block `block` in the clear; zeros if it was never written.
    fn block(&self, sealer: &Sealer, block: u64) -> io::Result<Vec<u8>> {
        let size = if block == 0 { BLOCK } else { STORED };
        let mut stored = vec![0; size];
        let read = self.file.read_at(place(block), &mut stored)?;
        if block == 0 || read == 0 || stored.iter().all(|&byte| byte == 0) {
            stored.truncate(BLOCK);
            return Ok(stored);
        }
        match sealer.open_block(block, &mut stored) {
            Some(plain) => Ok(plain.to_vec()),
            None => {
                let text = "a block of the checkpoint is not what was written";
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
        }
    }

    /// The blocks that `offset..offset + len` touches, each with its part of the range.
    fn parts(
        offset: u64,
        len: usize,
    ) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
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
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        let stored = self.file.len()?;
        if self.sealer.is_none() || stored <= BLOCK as u64 {
            return Ok(stored);
        }
        Ok(BLOCK as u64 + (stored - BLOCK as u64) / STORED as u64 * BLOCK as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let Some(sealer) = &self.sealer else {
            return if self.file.read_at(offset, out)? == out.len() {
                Ok(())
            } else {
                Err(short())
            };
        };
        if offset + out.len() as u64 > self.len()? {
            return Err(short());
        }
        for (block, within, range) in Self::parts(offset, out.len()) {
            let count = range.len();
            out[range].copy_from_slice(&self.block(sealer, block)?[within..within + count]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = if self.sealer.is_some() { stored_len(len) } else { len };
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let Some(sealer) = &self.sealer else { return self.file.write_at(offset, data) };
        let _guard = self.writing.lock();
        for (block, within, range) in Self::parts(offset, data.len()) {
            let part = &data[range];
            if block == 0 {
                self.file.write_at(within as u64, part)?;
                continue;
            }
            let mut stored = vec![0; STORED];
            let sealed = if part.len() == BLOCK {
                sealer.seal_block(block, part, &mut stored)
            } else {
                let mut plain = self.block(sealer, block)?;
                plain[within..within + part.len()].copy_from_slice(part);
                sealer.seal_block(block, &plain, &mut stored)
            };
            sealed.map_err(io::Error::other)?;
            self.file.write_at(place(block), &stored)?;
        }
        Ok(())
    }
}

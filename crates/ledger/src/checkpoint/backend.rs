//! The file under the tables: every block of it is held to a checksum, or encrypted, which does the same.
//!
//! Block 0 holds what redb changes in place to pass from one state to the next: all of it is in the
//! first bytes. It lies twice in the file, each copy in a sector of its own with a number and a
//! checksum, and what is written goes to the copy that is not the safe one; so a tear leaves the state
//! before, and damage to one copy the other. Every other block is 4 KiB of the tables followed by a
//! checksum over its number and bytes, or behind a nonce and before a tag.

use std::{io, sync::Arc};

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::{
    crypt::{BLOCK_EXTRA, Sealer},
    disk::{File, read_up_to},
    format::header::SECTOR,
};

const BLOCK: usize = 4096;
/// The bytes of a block's checksum, and what makes the length a multiple of eight.
const SUM: usize = 8;
/// The bytes of block 0 that are kept: all that redb writes there.
const HEAD: usize = 480;

/// What guards the blocks.
#[derive(Debug)]
enum Guard {
    Sum,
    Seal(Sealer),
}

impl Guard {
    /// The bytes that a block takes in the file.
    const fn stored(&self) -> usize {
        match self {
            Self::Sum => BLOCK + SUM,
            Self::Seal(_) => BLOCK + BLOCK_EXTRA,
        }
    }

    fn close(&self, block: u64, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut stored = vec![0; self.stored()];
        match self {
            Self::Sum => {
                stored[..BLOCK].copy_from_slice(plain);
                stored[BLOCK..BLOCK + 4].copy_from_slice(&sum(block, plain).to_le_bytes());
            }
            Self::Seal(sealer) => {
                sealer.seal_block(block, plain, &mut stored).map_err(io::Error::other)?;
            }
        }
        Ok(stored)
    }

    fn open(&self, block: u64, mut stored: Vec<u8>) -> io::Result<Vec<u8>> {
        let plain = match self {
            Self::Sum => {
                let whole = stored[BLOCK..BLOCK + 4] == sum(block, &stored[..BLOCK]).to_le_bytes();
                stored.truncate(BLOCK);
                whole.then_some(stored)
            }
            Self::Seal(sealer) => sealer.open_block(block, &mut stored).map(<[u8]>::to_vec),
        };
        plain.ok_or_else(|| damaged("a block of the checkpoint is not what was written"))
    }
}

fn sum(block: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block.to_le_bytes()), bytes)
}

fn damaged(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Block 0.
#[derive(Debug)]
struct Head {
    bytes: [u8; HEAD],
    /// The number of its last change.
    change: u64,
    /// Which copy is safe.
    safe: usize,
    /// Whether the other copy is newer, and not safe yet.
    pending: bool,
}

impl Head {
    fn sector(&self) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        sector[..HEAD].copy_from_slice(&self.bytes);
        sector[HEAD..HEAD + 8].copy_from_slice(&self.change.to_le_bytes());
        let crc = crc32c::crc32c(&sector[..SECTOR - 4]);
        sector[SECTOR - 4..].copy_from_slice(&crc.to_le_bytes());
        sector
    }

    /// The newest whole copy; a file that is new has none yet.
    fn read(file: &dyn File, new: bool) -> io::Result<Self> {
        let stored = read_up_to(file, 0, 2 * SECTOR)?;
        let mut newest: Option<Self> = None;
        for (copy, sector) in stored.chunks_exact(SECTOR).enumerate() {
            let crc = crc32c::crc32c(&sector[..SECTOR - 4]);
            if sector[SECTOR - 4..] != crc.to_le_bytes() {
                continue;
            }
            let mut head = Self { bytes: [0; HEAD], change: 0, safe: copy, pending: false };
            head.bytes.copy_from_slice(&sector[..HEAD]);
            let mut change = [0; 8];
            change.copy_from_slice(&sector[HEAD..HEAD + 8]);
            head.change = u64::from_le_bytes(change);
            if newest.as_ref().is_none_or(|newest| newest.change < head.change) {
                newest = Some(head);
            }
        }
        match newest {
            Some(head) => Ok(head),
            None if new => Ok(Self { bytes: [0; HEAD], change: 0, safe: 1, pending: false }),
            None => Err(damaged("both copies of the checkpoint's first block are damaged")),
        }
    }
}

/// A file as redb sees it.
#[derive(Debug)]
pub(crate) struct Backend {
    file: Arc<dyn File>,
    guard: Guard,
    /// Held while block 0 is looked at, and while blocks are read, changed in part and written back.
    head: Mutex<Head>,
}

/// How the bytes of the tables lie in the file.
#[derive(Clone, Copy)]
struct Lengths {
    stored: u64,
}

impl Lengths {
    /// Where a block lies.
    const fn place(self, block: u64) -> u64 {
        if block == 0 { 0 } else { BLOCK as u64 + (block - 1) * self.stored }
    }

    /// The length of the file for `len` bytes of tables.
    const fn file(self, len: u64) -> u64 {
        self.place(if len == 0 { 1 } else { len.div_ceil(BLOCK as u64) })
    }

    /// The bytes of tables in a file of `len`.
    const fn tables(self, len: u64) -> u64 {
        if len < BLOCK as u64 {
            return 0;
        }
        BLOCK as u64 + (len - BLOCK as u64) / self.stored * BLOCK as u64
    }
}

fn short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the tables end before that place")
}

impl Backend {
    /// The tables in `file`, which are to be made if it is `new`; encrypted if there is a key.
    ///
    /// # Errors
    /// What the disk says; `InvalidData` when both copies of the first block are damaged.
    pub(crate) fn new(file: Arc<dyn File>, sealer: Option<Sealer>, new: bool) -> io::Result<Self> {
        let head = Mutex::new(Head::read(&*file, new)?);
        Ok(Self { file, guard: sealer.map_or(Guard::Sum, Guard::Seal), head })
    }

    const fn lengths(&self) -> Lengths {
        Lengths { stored: self.guard.stored() as u64 }
    }

    /// Block `block` (not the first) as the tables have it; zeros if it was never written.
    fn block(&self, block: u64) -> io::Result<Vec<u8>> {
        let mut stored = vec![0; self.guard.stored()];
        let read = self.file.read_at(self.lengths().place(block), &mut stored)?;
        if stored.iter().all(|&byte| byte == 0) {
            stored.truncate(BLOCK);
            return Ok(stored);
        }
        if read < stored.len() {
            return Err(short());
        }
        self.guard.open(block, stored)
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

    fn write_head(&self, head: &mut Head, within: usize, part: &[u8]) -> io::Result<()> {
        let end = (within + part.len()).min(HEAD);
        let kept = end.saturating_sub(within);
        if part[kept..].iter().any(|&byte| byte != 0) {
            return Err(io::Error::other("the first block of the tables has more than it should"));
        }
        if kept > 0 {
            head.bytes[within..end].copy_from_slice(&part[..kept]);
        }
        if !head.pending {
            head.change += 1;
            head.pending = true;
        }
        let copy = 1 - head.safe;
        self.file.write_at((copy * SECTOR) as u64, &head.sector())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lengths().tables(self.file.len()?))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset + out.len() as u64 > self.len()? {
            return Err(short());
        }
        for (block, within, range) in Self::parts(offset, out.len()) {
            let count = range.len();
            if block > 0 {
                out[range].copy_from_slice(&self.block(block)?[within..within + count]);
                continue;
            }
            let head = self.head.lock();
            let mut plain = [0; BLOCK];
            plain[..HEAD].copy_from_slice(&head.bytes);
            out[range].copy_from_slice(&plain[within..within + count]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(self.lengths().file(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut head = self.head.lock();
        self.file.sync_data()?;
        if head.pending {
            head.pending = false;
            head.safe = 1 - head.safe;
            // So that damage to one copy is not a step back; if it is torn, the safe one is there.
            let copy = 1 - head.safe;
            self.file.write_at((copy * SECTOR) as u64, &head.sector())?;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut head = self.head.lock();
        for (block, within, range) in Self::parts(offset, data.len()) {
            let part = &data[range];
            if block == 0 {
                self.write_head(&mut head, within, part)?;
                continue;
            }
            let stored = if part.len() == BLOCK {
                self.guard.close(block, part)?
            } else {
                let mut plain = self.block(block)?;
                plain[within..within + part.len()].copy_from_slice(part);
                self.guard.close(block, &plain)?
            };
            self.file.write_at(self.lengths().place(block), &stored)?;
        }
        Ok(())
    }
}

//! One file of the write-ahead log: its header, its mark of being closed, and how a record is read from it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};

use super::{FOLDER, HEADER_LEN, scan, scan::Known};
use crate::{
    crypt::{Keys, Sealer},
    disk::{Disk, File, failed, read_up_to, unreadable},
    format::{
        Place, frame,
        header::{self, COPY_AT, CRC_AT, SECTOR},
        varint::Reader,
    },
};

/// How a write-ahead file begins.
pub(crate) const MAGIC: &[u8; 8] = b"WEFTWAL\0";
const CLOSED_MAGIC: &[u8; 8] = b"WEFTEND\0";
/// The mark lies in the sector behind the header, so that neither is torn with the other.
const CLOSED_AT: u64 = SECTOR as u64;
const ZEROS: usize = 1 << 20;

/// The path of a file.
pub(crate) fn name(number: u32) -> String {
    format!("{FOLDER}/{number:010}.wal")
}

/// The number in the name of a file; `None` for a spare.
pub(crate) fn number(name: &str) -> Option<u32> {
    name.strip_suffix(".wal").filter(|digits| digits.len() == 10)?.parse().ok()
}

/// An open file.
#[derive(Debug)]
pub(crate) struct WalFile {
    /// Its number.
    pub(crate) number: u32,
    file: Arc<dyn File>,
    sealer: Option<Sealer>,
    /// The length that it was made with; 0 if its header does not tell.
    size: u64,
    /// The last transaction in it, once it is full.
    last: AtomicU64,
}

/// Where a file was closed: nothing of it is written behind, and all before is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    /// The offset at which it ends.
    pub(crate) end: u32,
    /// The last transaction in it, or before it.
    pub(crate) seq: u64,
}

fn context(number: u32) -> [u8; 12] {
    let mut context = *b"weft wal\0\0\0\0";
    context[8..].copy_from_slice(&number.to_le_bytes());
    context
}

fn corrupt(text: impl Into<String>, number: u32) -> Error {
    Error::new(Reason::StorageCorrupt, text.into()).at(name(number))
}

impl WalFile {
    /// Puts `file` to use as number `number`: writes its header and syncs it.
    pub(crate) fn begin(file: Arc<dyn File>, number: u32, keys: &Keys) -> Result<Self> {
        let cannot = |error| failed("cannot begin a write-ahead file", &name(number), error);
        let (sealer, key) = keys.fresh(&context(number))?;
        let size = file.len().map_err(cannot)?;
        file.write_at(0, &header::block(MAGIC, number, size, &key))
            .and_then(|()| file.sync_data())
            .map_err(cannot)?;
        Ok(Self { number, file, sealer, size, last: AtomicU64::new(0) })
    }

    /// Opens file `number`, and says whether its header is whole: one that is torn is that of a file that was never used.
    ///
    /// # Errors
    /// `misconfigured` for a version or key that is not understood.
    pub(crate) fn open(disk: &dyn Disk, number: u32, keys: &Keys) -> Result<(Self, bool)> {
        let path = name(number);
        let cannot = |error| unreadable("cannot open a write-ahead file", &path, error);
        let file = disk.open(&path, false).map_err(cannot)?;
        let header = read_up_to(&*file, 0, HEADER_LEN as usize).map_err(cannot)?;
        let last = AtomicU64::new(0);
        let Some(header) =
            header::read(&header, MAGIC, number).map_err(|error| error.at(name(number)))?
        else {
            return Ok((Self { number, file, sealer: None, size: 0, last }, false));
        };
        let sealer = keys.open(header.key, &context(number)).map_err(|error| error.at(path))?;
        Ok((Self { number, file, sealer, size: header.size, last }, true))
    }

    /// How many bytes it is shorter than it was made.
    pub(crate) fn cut(&self) -> Result<u64> {
        let cannot =
            |error| unreadable("cannot read a write-ahead file", &name(self.number), error);
        Ok(self.size.saturating_sub(self.file.len().map_err(cannot)?))
    }

    /// The last transaction in it; 0 while it is not full.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// It is full: `seq` is the last transaction in it.
    pub(crate) fn set_last(&self, seq: u64) {
        self.last.store(seq, Ordering::Release);
    }

    /// Where it was closed, if it was.
    pub(crate) fn closed(&self) -> Result<Option<Closed>> {
        let cannot =
            |error| unreadable("cannot read a write-ahead file", &name(self.number), error);
        let head = read_up_to(&*self.file, 0, HEADER_LEN as usize).map_err(cannot)?;
        Ok(closed(&head, self.number))
    }

    /// All its bytes; what lies behind the mark of being closed is not among them.
    pub(crate) fn read_all(&self) -> Result<Vec<u8>> {
        let path = name(self.number);
        let cannot = |error| unreadable("cannot read a write-ahead file", &path, error);
        let head = read_up_to(&*self.file, 0, HEADER_LEN as usize).map_err(cannot)?;
        let end = closed(&head, self.number)
            .map_or(usize::MAX, |closed| closed.end.max(HEADER_LEN) as usize);
        read_up_to(&*self.file, 0, end).map_err(cannot)
    }

    /// All its bytes with the frames that are whole in the clear; places lead to images in them.
    pub(crate) fn read_plain(&self) -> Result<Vec<u8>> {
        let mut bytes = self.read_all()?;
        if self.sealer.is_some() {
            for whole in scan(&bytes, self.number, Known::default()).frames {
                // What cannot be decrypted will not fit its checksum either.
                let _ = self.open_body(whole.offset, &mut bytes[whole.body]);
            }
        }
        Ok(bytes)
    }

    /// Marks that the file ends at `end` and that `seq` was the last transaction, safely.
    pub(crate) fn close(&self, Closed { end, seq }: Closed) -> Result<()> {
        let mut mark = vec![0; SECTOR];
        mark[..8].copy_from_slice(CLOSED_MAGIC);
        mark[8..12].copy_from_slice(&end.to_le_bytes());
        mark[12..20].copy_from_slice(&seq.to_le_bytes());
        let crc = crc32c::crc32c_append(self.number, &mark[..CRC_AT]);
        mark[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        self.file
            .write_at(CLOSED_AT, &mark)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| failed("cannot close a write-ahead file", &name(self.number), error))
    }

    /// Opens the file again behind `end`: what lies there is zeroed before the mark of being closed goes,
    /// so that nothing that a crash left behind can come back.
    pub(crate) fn reopen(&self, end: u32) -> Result<()> {
        let path = name(self.number);
        let cannot = |error| failed("cannot go on in a write-ahead file", &path, error);
        let zeros = vec![0; ZEROS];
        let mut at = u64::from(end);
        while at < self.size {
            let count = usize::try_from(self.size - at).unwrap_or(ZEROS).min(ZEROS);
            self.file.write_at(at, &zeros[..count]).map_err(cannot)?;
            at += count as u64;
        }
        self.file.sync_data().map_err(cannot)?;
        self.file
            .write_at(CLOSED_AT, &zeros[..SECTOR])
            .and_then(|()| self.file.sync_data())
            .map_err(cannot)
    }

    /// The length that it was made with.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Names the newest master key in the header; false if it did already.
    pub(crate) fn rewrap(&self, keys: &Keys) -> Result<bool> {
        let path = name(self.number);
        let cannot =
            |error| failed("cannot rewrite the header of a write-ahead file", &path, error);
        let old = read_up_to(&*self.file, 0, HEADER_LEN as usize).map_err(cannot)?;
        let Some(had) = header::read(&old, MAGIC, self.number)? else { return Ok(false) };
        let Some(key) = keys.rewrap(had.key, &context(self.number))? else { return Ok(false) };
        let header = header::sector(MAGIC, self.number, had.size, &key);
        // One after the other, so that a crash leaves one of them whole.
        for at in [COPY_AT as u64, 0] {
            self.file.write_at(at, &header).and_then(|()| self.file.sync_data()).map_err(cannot)?;
        }
        Ok(true)
    }

    /// The file beneath.
    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Whether its frames are encrypted.
    pub(crate) fn encrypted(&self) -> bool {
        self.sealer.is_some()
    }

    /// Fills in checksums and `synced`, and encrypts, what is about to be written at `offset`.
    pub(crate) fn seal(&self, bytes: &mut [u8], offset: u32, synced: u32) -> Result<()> {
        if let Some(sealer) = &self.sealer {
            let frames: Vec<(usize, usize)> = frame::walk(bytes).collect();
            for (at, len) in frames {
                let body = at + frame::HEADER;
                sealer.seal(u64::from(offset) + at as u64, &mut bytes[body..body + len])?;
            }
        }
        frame::seal(bytes, self.number, synced);
        Ok(())
    }

    /// Decrypts the body of the frame at `offset` in place and gives its entries; `None` if it was tampered with.
    pub(crate) fn open_body<'a>(&self, offset: u32, body: &'a mut [u8]) -> Option<&'a [u8]> {
        match &self.sealer {
            None => Some(body),
            Some(sealer) => sealer.open(u64::from(offset), body).map(|plain| &*plain),
        }
    }

    /// The bytes of the image at `place`; its checksum is left to the caller.
    pub(crate) fn read(&self, place: &Place) -> Result<Bytes> {
        let path = name(self.number);
        let cannot = |error| unreadable("cannot read a record", &path, error);
        let corrupt = || corrupt("a record's place is not in its frame", self.number);
        let (from, len) = (place.record as usize, place.len as usize);
        if self.sealer.is_none() {
            let at = u64::from(place.frame) + u64::from(place.record);
            let bytes = read_up_to(&*self.file, at, len).map_err(cannot)?;
            return if bytes.len() == len { Ok(bytes.into()) } else { Err(corrupt()) };
        }
        let at = u64::from(place.frame);
        let header = read_up_to(&*self.file, at, frame::HEADER).map_err(cannot)?;
        let body = header
            .get(4..8)
            .map_or(0, |len| u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize);
        let mut body = read_up_to(&*self.file, at + frame::HEADER as u64, body).map_err(cannot)?;
        let plain = self.open_body(place.frame, &mut body).ok_or_else(corrupt)?;
        let from = from.checked_sub(frame::HEADER).ok_or_else(corrupt)?;
        plain.get(from..from + len).map(Bytes::copy_from_slice).ok_or_else(corrupt)
    }
}

fn closed(bytes: &[u8], number: u32) -> Option<Closed> {
    let mark = bytes.get(SECTOR..2 * SECTOR)?;
    let crc = u32::from_le_bytes([mark[508], mark[509], mark[510], mark[511]]);
    if mark[..8] != *CLOSED_MAGIC || crc32c::crc32c_append(number, &mark[..CRC_AT]) != crc {
        return None;
    }
    let mut reader = Reader::new(&mark[8..]);
    Some(Closed { end: reader.u32().ok()?, seq: reader.u64().ok()? })
}

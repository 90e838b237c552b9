//! One file of the write-ahead log: its header, its mark of being closed, and how a record is read from it.

use std::sync::Arc;

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};

use super::{FOLDER, HEADER_LEN, scan};
use crate::{
    crypt::{Keys, Sealer},
    disk::{Disk, File, failed, read_up_to, unreadable},
    format::{
        Place, frame,
        header::{self, COPY_AT, CRC_AT, SECTOR},
    },
};

/// How a write-ahead file begins.
pub(crate) const MAGIC: &[u8; 8] = b"WEFTWAL\0";
const CLOSED_MAGIC: &[u8; 8] = b"WEFTEND\0";
/// The mark lies in the sector behind the header, so that neither is torn with the other.
const CLOSED_AT: u64 = SECTOR as u64;

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
        let (sealer, key) = keys.fresh(&context(number))?;
        file.write_at(0, &header::block(MAGIC, number, &key))
            .and_then(|()| file.sync_data())
            .map_err(|error| failed("cannot begin a write-ahead file", &name(number), error))?;
        Ok(Self { number, file, sealer })
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
        let Some(key) =
            header::key(&header, MAGIC, number).map_err(|error| error.at(name(number)))?
        else {
            return Ok((Self { number, file, sealer: None }, false));
        };
        let sealer = keys.open(key, &context(number)).map_err(|error| error.at(path))?;
        Ok((Self { number, file, sealer }, true))
    }

    /// All its bytes; what lies behind the mark of being closed is not among them.
    pub(crate) fn read_all(&self) -> Result<Vec<u8>> {
        let path = name(self.number);
        let cannot = |error| unreadable("cannot read a write-ahead file", &path, error);
        let head = read_up_to(&*self.file, 0, HEADER_LEN as usize).map_err(cannot)?;
        let end = closed(&head, self.number).map_or(usize::MAX, |end| end.max(HEADER_LEN) as usize);
        read_up_to(&*self.file, 0, end).map_err(cannot)
    }

    /// All its bytes with the frames that are whole in the clear; places lead to images in them.
    pub(crate) fn read_plain(&self) -> Result<Vec<u8>> {
        let mut bytes = self.read_all()?;
        if self.sealer.is_some() {
            for whole in scan(&bytes, self.number, 0, None).frames {
                // What cannot be decrypted will not fit its checksum either.
                let _ = self.open_body(whole.offset, &mut bytes[whole.body]);
            }
        }
        Ok(bytes)
    }

    /// Marks that the file ends at `end`, safely.
    pub(crate) fn close(&self, end: u32) -> Result<()> {
        let mut mark = vec![0; SECTOR];
        mark[..8].copy_from_slice(CLOSED_MAGIC);
        mark[8..12].copy_from_slice(&end.to_le_bytes());
        let crc = crc32c::crc32c_append(self.number, &mark[..CRC_AT]);
        mark[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        self.file
            .write_at(CLOSED_AT, &mark)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| failed("cannot close a write-ahead file", &name(self.number), error))
    }

    /// Names the newest master key in the header; false if it did already.
    pub(crate) fn rewrap(&self, keys: &Keys) -> Result<bool> {
        let path = name(self.number);
        let cannot =
            |error| failed("cannot rewrite the header of a write-ahead file", &path, error);
        let old = read_up_to(&*self.file, 0, HEADER_LEN as usize).map_err(cannot)?;
        let Some(key) = header::key(&old, MAGIC, self.number)? else { return Ok(false) };
        let Some(key) = keys.rewrap(key, &context(self.number))? else { return Ok(false) };
        let header = header::sector(MAGIC, self.number, &key);
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

/// Where a file was closed, if it was.
fn closed(bytes: &[u8], number: u32) -> Option<u32> {
    let mark = bytes.get(SECTOR..2 * SECTOR)?;
    let crc = u32::from_le_bytes([mark[508], mark[509], mark[510], mark[511]]);
    if mark[..8] != *CLOSED_MAGIC || crc32c::crc32c_append(number, &mark[..CRC_AT]) != crc {
        return None;
    }
    Some(u32::from_le_bytes([mark[8], mark[9], mark[10], mark[11]]))
}

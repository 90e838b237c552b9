//! Writes a segment from front to back.

use std::sync::Arc;

use weft_kernel::Result;

use super::{
    Extent, FOLDER, MAGIC, context,
    index::{Index, trailer},
    name,
};
use crate::{
    crypt::{Keys, Sealer, TAG},
    disk::{Disk, File, failed},
    format::{Image, header},
};

const BUFFER: usize = 1 << 20;

/// A segment that is being written; it is nothing until [`SegmentWriter::finish`] has returned.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    number: u32,
    file: Arc<dyn File>,
    sealer: Option<Sealer>,
    index: Index,
    buffer: Vec<u8>,
    written: u64,
}

impl SegmentWriter {
    /// Begins segment `number`.
    pub(crate) fn create(disk: &dyn Disk, number: u32, keys: &Keys) -> Result<Self> {
        let path = name(number);
        let cannot = |error| failed("cannot begin a segment", &path, error);
        let (sealer, key) = keys.fresh(&context(number))?;
        let file = disk.open(&path, true).map_err(cannot)?;
        file.set_len(0).map_err(cannot)?;
        let buffer = header::block(MAGIC, number, 0, &key);
        Ok(Self { number, file, sealer, index: Index::default(), buffer, written: 0 })
    }

    /// Adds a record; they come sorted by log and position. The image is copied as it is.
    pub(crate) fn push(&mut self, image: &Image<'_>, bytes: &[u8]) -> Result<()> {
        let from = self.written + self.buffer.len() as u64;
        match &self.sealer {
            None => self.buffer.extend_from_slice(bytes),
            Some(sealer) => {
                let len = bytes.len() + TAG;
                self.buffer.extend_from_slice(&(len as u32).to_le_bytes());
                let at = self.buffer.len();
                self.buffer.extend_from_slice(bytes);
                self.buffer.resize(at + len, 0);
                sealer.seal(from, &mut self.buffer[at..])?;
            }
        }
        let to = self.written + self.buffer.len() as u64;
        self.index.note(image, from, to);
        if self.buffer.len() >= BUFFER { self.drain() } else { Ok(()) }
    }

    fn drain(&mut self) -> Result<()> {
        self.file
            .write_at(self.written, &self.buffer)
            .map_err(|error| failed("cannot write a segment", &name(self.number), error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the index and makes the file and its name safe; gives what it holds and its bytes.
    pub(crate) fn finish(mut self, disk: &dyn Disk) -> Result<(Vec<Extent>, u64)> {
        let at = self.written + self.buffer.len() as u64;
        let mut index = self.index.encode();
        if let Some(sealer) = &self.sealer {
            index.resize(index.len() + TAG, 0);
            sealer.seal(at, &mut index)?;
        }
        self.buffer.extend_from_slice(&index);
        self.buffer.extend_from_slice(&trailer(at, &index, self.number));
        self.drain()?;
        self.file
            .sync_data()
            .and_then(|()| disk.sync_dir(FOLDER))
            .map_err(|error| failed("cannot sync a segment", &name(self.number), error))?;
        Ok((self.index.extents.iter().map(|placed| placed.extent).collect(), self.written))
    }
}

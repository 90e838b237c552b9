//! Reads ranges of a log out of a segment; what does not fit its checksum comes as lost, and what follows is found again.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use weft_kernel::{Error, Reason, Result};

use super::{
    Extent, MAGIC, SPARSE_BYTES, TRAILER, context,
    index::{Index, parse_trailer},
    name,
};
use crate::{
    crypt::{Keys, Sealer},
    disk::{Disk, File, failed, read_up_to, unreadable},
    format::{Image, header, record::trusted},
    record::{Limits, LogId, ReadItem, Told},
};

/// The least that is read at once.
const CHUNK: usize = 64 << 10;
/// The most that is read at once, unless one record is larger.
const CHUNK_MAX: u64 = 1 << 20;
/// The bytes before an encrypted record.
const LENGTH: usize = 4;

/// An open segment with its index.
#[derive(Debug)]
pub(crate) struct Segment {
    number: u32,
    file: Arc<dyn File>,
    sealer: Option<Sealer>,
    pub(super) index: Index,
    pub(super) len: u64,
    rebuilt: bool,
}

impl Segment {
    /// Opens segment `number`; an index that is damaged is made anew from the records.
    ///
    /// # Errors
    /// `misconfigured` when it has another version or needs a key that is not there, `storage_corrupt`
    /// when it is missing, or its header is gone while it is encrypted.
    pub(crate) fn open(disk: &dyn Disk, number: u32, keys: &Keys) -> Result<Self> {
        let (file, sealer) = open(disk, number, keys)?;
        let path = name(number);
        let cannot = |error| unreadable("cannot open a segment", &path, error);
        let len = file.len().map_err(cannot)?;
        let end = len.saturating_sub(TRAILER as u64);
        let trailer = read_up_to(&*file, end, TRAILER).map_err(cannot)?;
        let mut segment =
            Self { number, file, sealer, index: Index::default(), len: end, rebuilt: false };
        match segment.read_index(&trailer, len)? {
            Some(index) => segment.index = index,
            None => {
                segment.index = segment.rebuild()?;
                segment.rebuilt = true;
            }
        }
        Ok(segment)
    }

    fn read_index(&mut self, trailer: &[u8], len: u64) -> Result<Option<Index>> {
        let Some((at, size, crc)) = parse_trailer(trailer, len, self.number) else {
            return Ok(None);
        };
        self.len = at;
        let cannot = |error| unreadable("cannot read a segment", &name(self.number), error);
        let mut stored = read_up_to(&*self.file, at, size).map_err(cannot)?;
        if crc32c::crc32c(&stored) != crc {
            return Ok(None);
        }
        let plain = match &self.sealer {
            None => &stored[..],
            Some(sealer) => match sealer.open(at, &mut stored) {
                Some(plain) => plain,
                None => return Ok(None),
            },
        };
        Ok(Index::decode(plain).ok())
    }

    /// Walks all records; what is damaged is left out, and with it what no length leads to any more.
    fn rebuild(&self) -> Result<Index> {
        let mut index = Index::default();
        let mut cursor = Chunks::new(self, header::LEN as u64, self.len, CHUNK_MAX);
        while let Some(step) = cursor.next()? {
            let Step::Whole { from, to, image } = step else { break };
            let Ok(found) = Image::checked(&image) else { continue };
            index.note(&found, from, to);
        }
        Ok(index)
    }

    /// The extents that it has.
    pub(crate) fn extents(&self) -> impl Iterator<Item = &Extent> {
        self.index.extents.iter().map(|placed| &placed.extent)
    }

    /// Whether its index was damaged and made anew.
    pub(crate) fn rebuilt(&self) -> bool {
        self.rebuilt
    }

    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Bytes of the file as they are.
    pub(crate) fn bytes(&self, from: u64, len: usize) -> Result<Vec<u8>> {
        read_up_to(&*self.file, from, len)
            .map_err(|error| unreadable("cannot read a segment", &name(self.number), error))
    }

    /// The records of `log` from `from` to `to`, both included, up to `limits`; what is lost of them as
    /// [`ReadItem::Lost`], and where the bytes lie that do not fit their checksums.
    pub(crate) fn read(
        &self,
        log: u32,
        from: u64,
        to: u64,
        limits: Limits,
        torn: &mut dyn FnMut(Range<u64>),
    ) -> Result<Told> {
        let mut told = Told { items: Vec::new(), to: to + 1 };
        let mut bytes = 0;
        let hint = self.hint(log, to.saturating_sub(from).saturating_add(1), limits);
        self.visit(log, from, to, hint, &mut |visited| {
            let (position, item) = match visited {
                Visited::Record(image) => match trusted(&image) {
                    Ok(record) => (record.position, ReadItem::Record(record)),
                    Err(_) => return true,
                },
                Visited::Lost { position, why } => {
                    (position, ReadItem::Lost { log: LogId(log), position, why })
                }
                Visited::Torn(range) => {
                    torn(range);
                    return true;
                }
            };
            if let ReadItem::Record(record) = &item {
                bytes += (record.key.len() + record.data.len()) as u64;
            }
            if bytes > limits.bytes && !told.items.is_empty() {
                told.to = position;
                return false;
            }
            told.items.push(item);
            let full = told.items.len() >= limits.records as usize || bytes >= limits.bytes;
            if full {
                told.to = position + 1;
            }
            !full
        })?;
        // A few small records would keep all alive that was read to find them.
        if self.sealer.is_none() && bytes < chunk(hint) as u64 / 2 {
            for item in &mut told.items {
                if let ReadItem::Record(record) = item {
                    record.key = Bytes::copy_from_slice(&record.key);
                    record.data = Bytes::copy_from_slice(&record.data);
                }
            }
        }
        Ok(told)
    }

    /// About how many bytes are to be read for so many positions of a log, up to `limits`.
    fn hint(&self, log: u32, positions: u64, limits: Limits) -> u64 {
        let each = self.index.of(log).map_or(0, |placed| {
            let extent = &placed.extent;
            extent.bytes / extent.records.max(1)
        });
        let bytes = each.saturating_mul(positions.min(u64::from(limits.records)));
        // The place of the index before the first of them may lie so far away.
        bytes.min(limits.bytes).saturating_add(SPARSE_BYTES)
    }

    /// Walks the records of `log` from `from` to `to`, both included, until `visit` says no; `hint` is about how many bytes are wanted.
    pub(crate) fn visit(
        &self,
        log: u32,
        from: u64,
        to: u64,
        hint: u64,
        visit: &mut dyn FnMut(Visited) -> bool,
    ) -> Result<()> {
        let placed = self.index.of(log);
        // An index that was made anew does not know of what was damaged at the ends of an extent.
        let beyond = if self.rebuilt { to.saturating_add(1) } else { 0 };
        let Some(placed) = placed else {
            lost(from, beyond, visit);
            return Ok(());
        };
        if !lost(from, beyond.min(placed.extent.first), visit) {
            return Ok(());
        }
        if from > placed.extent.last || to < placed.extent.first {
            lost(from.max(placed.extent.last + 1), beyond, visit);
            return Ok(());
        }
        let (from, to) = (from.max(placed.extent.first), to.min(placed.extent.last));
        let at = placed.sparse.partition_point(|(position, _)| *position <= from).max(1) - 1;
        let mut cursor = Chunks::new(self, placed.sparse[at].1, placed.to, hint);
        // The position that is due next: what comes before a whole record was lost.
        let mut due = placed.sparse[at].0;
        // Where bytes since the last whole record were none: what is missing there was lost.
        let mut broken: Option<u64> = None;
        while let Some(step) = cursor.next()? {
            let whole = match &step {
                Step::Whole { image, .. } => Image::checked(image)
                    .ok()
                    .filter(|found| found.log == log && found.position >= due)
                    .map(|found| found.position),
                Step::Broken { .. } => None,
            };
            let Some(position) = whole else {
                let (Step::Whole { from: at, .. } | Step::Broken { from: at }) = step;
                broken = broken.or(Some(at));
                if let Step::Whole { to: next, .. } = step
                    && next < placed.to
                    && cursor.peeks_whole(log, due)?
                {
                    continue;
                }
                // Its length cannot be trusted either: go on at the next place of the index.
                match placed.sparse.iter().find(|(_, place)| *place > at) {
                    Some(&(_, place)) => cursor.seek(place),
                    None => break,
                }
                continue;
            };
            let Step::Whole { from: whole_at, image, .. } = step else { continue };
            if let Some(at) = broken.take() {
                visit(Visited::Torn(at..whole_at));
                if !lost(due.max(from), position.min(to + 1), visit) {
                    return Ok(());
                }
            }
            if position > to {
                return Ok(());
            }
            due = position + 1;
            if position >= from && !visit(Visited::Record(image)) {
                return Ok(());
            }
        }
        let more = match broken {
            None => true,
            Some(at) => {
                visit(Visited::Torn(at..placed.to));
                lost(due.max(from), to + 1, visit)
            }
        };
        if more {
            lost(placed.extent.last + 1, beyond, visit);
        }
        Ok(())
    }
}

/// How much is read at once where about `hint` bytes are wanted.
fn chunk(hint: u64) -> usize {
    usize::try_from(hint.min(CHUNK_MAX)).unwrap_or(CHUNK).max(CHUNK)
}

/// Opens the file of a segment, and its key.
fn open(disk: &dyn Disk, number: u32, keys: &Keys) -> Result<(Arc<dyn File>, Option<Sealer>)> {
    let path = name(number);
    let cannot = |error| unreadable("cannot open a segment", &path, error);
    let file = disk.open(&path, false).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(Reason::StorageCorrupt, "the segment is missing").at(path.clone())
        }
        _ => cannot(error),
    })?;
    let block = read_up_to(&*file, 0, header::LEN).map_err(cannot)?;
    let key = header::key(&block, MAGIC, number).map_err(|error| error.at(path.clone()))?;
    if key.is_none() && keys.encrypt() {
        let text = "the header of the segment is damaged, and with it the key of its records";
        return Err(Error::new(Reason::StorageCorrupt, text).at(path));
    }
    let sealer = match key {
        None => None,
        Some(key) => keys.open(key, &context(number)).map_err(|error| error.at(path))?,
    };
    Ok((file, sealer))
}

/// Whether segment `number` is of a version and under a key that are understood; damage is not looked for.
///
/// # Errors
/// `misconfigured` if it is not, and what the disk says.
pub(crate) fn check(disk: &dyn Disk, number: u32, keys: &Keys) -> Result<()> {
    match open(disk, number, keys) {
        Err(error) if error.reason() != Reason::StorageCorrupt => Err(error),
        _ => Ok(()),
    }
}

/// Names the newest master key in a segment's header; false if it did already, or the header is damaged.
pub(crate) fn rewrap(disk: &dyn Disk, number: u32, keys: &Keys) -> Result<bool> {
    let path = name(number);
    let cannot = |error| failed("cannot rewrite the header of a segment", &path, error);
    let file = disk.open(&path, false).map_err(cannot)?;
    let block = read_up_to(&*file, 0, header::LEN).map_err(cannot)?;
    let Some(key) = header::key(&block, MAGIC, number)? else { return Ok(false) };
    let Some(key) = keys.rewrap(key, &context(number))? else { return Ok(false) };
    let sector = header::sector(MAGIC, number, 0, &key);
    // One after the other, so that a crash leaves one of them whole.
    for at in [header::COPY_AT as u64, 0] {
        file.write_at(at, &sector).and_then(|()| file.sync_data()).map_err(cannot)?;
    }
    Ok(true)
}

/// Reports the positions `from..to` as lost; false to stop. Some of them may have been gone before:
/// who knows which ones were alive tells them apart.
fn lost(from: u64, to: u64, visit: &mut dyn FnMut(Visited) -> bool) -> bool {
    (from..to).all(|position| {
        let why = "its bytes in the segment do not fit their checksum".to_owned();
        visit(Visited::Lost { position, why })
    })
}

/// What a walk meets.
#[derive(Debug)]
pub(crate) enum Visited {
    /// A record's image, its checksum verified.
    Record(Bytes),
    /// A record that was there.
    Lost { position: u64, why: String },
    /// Bytes of the file that do not fit their checksums; the records that they held follow as lost.
    Torn(Range<u64>),
}

#[derive(Debug)]
enum Step {
    /// The bytes that a length names; not verified.
    Whole { from: u64, to: u64, image: Bytes },
    /// A length that leads nowhere, or a record that cannot be decrypted.
    Broken { from: u64 },
}

/// Walks the records of a range of the file, reading it in chunks.
struct Chunks<'a> {
    segment: &'a Segment,
    at: u64,
    end: u64,
    chunk: Bytes,
    want: usize,
}

impl<'a> Chunks<'a> {
    fn new(segment: &'a Segment, at: u64, end: u64, hint: u64) -> Self {
        Self { segment, at, end, chunk: Bytes::new(), want: chunk(hint) }
    }

    fn seek(&mut self, at: u64) {
        self.at = at;
        self.chunk = Bytes::new();
    }

    /// Sees to it that `len` bytes are at hand; false if the range has fewer.
    fn fill(&mut self, len: usize) -> Result<bool> {
        if self.chunk.len() >= len {
            return Ok(true);
        }
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        if left < len {
            return Ok(false);
        }
        let count = self.want.max(len).min(left);
        let read = read_up_to(&*self.segment.file, self.at, count).map_err(|error| {
            unreadable("cannot read a segment", &name(self.segment.number), error)
        })?;
        self.chunk = read.into();
        Ok(self.chunk.len() >= len)
    }

    /// The bytes of the record here: (before it, of it).
    fn lengths(&mut self) -> Result<Option<(usize, usize)>> {
        let left = self.end - self.at;
        self.fill(usize::try_from(left).unwrap_or(usize::MAX).min(10))?;
        let (before, len) = if self.segment.sealer.is_some() {
            let Some(bytes) = self.chunk.get(..LENGTH) else { return Ok(None) };
            let len = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            (LENGTH, u64::from(len))
        } else {
            match Image::len_of(&self.chunk) {
                Ok(len) => (0, len),
                Err(_) => return Ok(None),
            }
        };
        if len == 0 || len > left.saturating_sub(before as u64) {
            return Ok(None);
        }
        Ok(Some((before, len as usize)))
    }

    fn next(&mut self) -> Result<Option<Step>> {
        let from = self.at;
        if from >= self.end {
            return Ok(None);
        }
        let Some((before, len)) = self.lengths()? else {
            // Nothing can be said of what follows; the caller seeks, or ends.
            self.at = self.end;
            return Ok(Some(Step::Broken { from }));
        };
        if !self.fill(before + len)? {
            self.at = self.end;
            return Ok(Some(Step::Broken { from }));
        }
        let bytes = self.chunk.split_to(before + len);
        self.at += (before + len) as u64;
        let image = match &self.segment.sealer {
            None => bytes,
            Some(sealer) => {
                let mut copy = BytesMut::from(&bytes[before..]);
                match sealer.open(from, &mut copy).map(|plain| plain.len()) {
                    Some(len) => copy.freeze().slice(..len),
                    None => Bytes::new(),
                }
            }
        };
        Ok(Some(Step::Whole { from, to: self.at, image }))
    }

    /// Whether a whole record of `log` from `due` on lies here; moves nothing.
    fn peeks_whole(&mut self, log: u32, due: u64) -> Result<bool> {
        let (at, chunk) = (self.at, self.chunk.clone());
        let step = self.next()?;
        (self.at, self.chunk) = (at, chunk);
        Ok(match step {
            Some(Step::Whole { image, .. }) => {
                Image::checked(&image).is_ok_and(|found| found.log == log && found.position >= due)
            }
            _ => false,
        })
    }
}

//! A frame: one transaction in the write-ahead log, whole or not there.
//!
//! `crc32c | length | seq | synced | entries [| tag]`, padded to eight bytes. The checksum covers
//! all behind it and begins from the number of the file, so that what a recycled file still holds
//! of its former life never fits. `synced` is the offset up to which the file was safe when the
//! frame was written: a bad frame below the `synced` of a later good one had been acknowledged,
//! any other was torn by the crash.

use super::{
    Malformed,
    entry::{Entry, Kind, Ranges, tag},
    record::NewImage,
    varint,
    varint::Reader,
};

/// The bytes before the entries.
pub(crate) const HEADER: usize = 20;
/// Frames begin at multiples of it.
pub(crate) const ALIGN: usize = 8;
/// The bytes of the tag behind the entries when they are encrypted.
pub(crate) const TAG: usize = 16;

/// The bytes of a frame whose entries (and tag) have `len`.
pub(crate) const fn padded(len: usize) -> usize {
    (HEADER + len).div_ceil(ALIGN) * ALIGN
}

/// Where a record's image lies in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordAt {
    /// From the beginning of the frame.
    pub(crate) record: u32,
    /// The bytes of the image.
    pub(crate) len: u32,
}

/// Writes one frame at the end of a buffer; checksum and `synced` are filled in by [`seal`].
#[derive(Debug)]
pub(crate) struct FrameWriter<'a> {
    buffer: &'a mut Vec<u8>,
    start: usize,
    tag: bool,
}

impl<'a> FrameWriter<'a> {
    /// Begins the frame of `seq`; `tag` leaves room for the tag of an encryption.
    #[inline]
    pub(crate) fn begin(buffer: &'a mut Vec<u8>, seq: u64, tag: bool) -> Self {
        let start = buffer.len();
        let mut header = [0; HEADER];
        header[8..16].copy_from_slice(&seq.to_le_bytes());
        buffer.extend_from_slice(&header);
        Self { buffer, start, tag }
    }

    /// A record.
    #[inline]
    pub(crate) fn append(&mut self, image: &NewImage<'_>) -> RecordAt {
        self.buffer.push(tag::APPEND);
        let at = self.buffer.len();
        image.put(self.buffer);
        RecordAt { record: (at - self.start) as u32, len: (self.buffer.len() - at) as u32 }
    }

    /// All records of a log below `before` go.
    pub(crate) fn trim(&mut self, log: u32, before: u64) {
        self.put(tag::TRIM, &[u64::from(log), before]);
    }

    /// Records of a log go; `runs` are first and last positions, ascending.
    pub(crate) fn remove(&mut self, log: u32, runs: &[(u64, u64)]) {
        self.put(tag::REMOVE, &[u64::from(log)]);
        Ranges::put(self.buffer, runs);
    }

    /// Records are done for a group; `runs` are first and last positions, ascending.
    pub(crate) fn settled(&mut self, group: u32, runs: &[(u64, u64)]) {
        self.put(tag::SETTLED, &[u64::from(group)]);
        Ranges::put(self.buffer, runs);
    }

    /// A record waits for its retry.
    pub(crate) fn retry(
        &mut self,
        group: u32,
        position: u64,
        due_ms: u64,
        failures: u32,
        handouts: u32,
        note: &[u8],
    ) {
        self.put(
            tag::RETRY,
            &[u64::from(group), position, due_ms, u64::from(failures), u64::from(handouts)],
        );
        varint::put_counted(self.buffer, note);
    }

    /// A group begins anew.
    pub(crate) fn seek(&mut self, group: u32, to: u64) {
        self.put(tag::SEEK, &[u64::from(group), to]);
    }

    /// A key gets a value.
    pub(crate) fn put_value(&mut self, map: u32, key: &[u8], value: &[u8], expires_ms: u64) {
        self.put(tag::PUT, &[u64::from(map), expires_ms]);
        varint::put_counted(self.buffer, key);
        varint::put_counted(self.buffer, value);
    }

    /// A key goes.
    pub(crate) fn delete(&mut self, map: u32, key: &[u8]) {
        self.put(tag::DELETE, &[u64::from(map)]);
        varint::put_counted(self.buffer, key);
    }

    /// A log, group or map is made.
    pub(crate) fn define(&mut self, kind: Kind, id: u32, name: &[u8], options: &[u8]) {
        self.of_kind(tag::DEFINE, kind, id);
        varint::put_counted(self.buffer, name);
        varint::put_counted(self.buffer, options);
    }

    /// A log, group or map goes.
    pub(crate) fn drop_kind(&mut self, kind: Kind, id: u32) {
        self.of_kind(tag::DROP, kind, id);
    }

    /// A log, group or map gets other options.
    pub(crate) fn alter(&mut self, kind: Kind, id: u32, options: &[u8]) {
        self.of_kind(tag::ALTER, kind, id);
        varint::put_counted(self.buffer, options);
    }

    /// The ledger was opened.
    pub(crate) fn epoch(&mut self, epoch: u32) {
        self.put(tag::EPOCH, &[u64::from(epoch)]);
    }

    /// Nothing.
    pub(crate) fn marker(&mut self) {
        self.buffer.push(tag::MARKER);
    }

    /// Ends the frame and gives its bytes, padding included.
    #[inline]
    pub(crate) fn finish(self) -> usize {
        let zeros = [0; TAG + ALIGN];
        if self.tag {
            self.buffer.extend_from_slice(&zeros[..TAG]);
        }
        let len = self.buffer.len() - self.start - HEADER;
        self.buffer[self.start + 4..self.start + 8].copy_from_slice(&(len as u32).to_le_bytes());
        let size = padded(len);
        self.buffer.extend_from_slice(&zeros[..size - HEADER - len]);
        size
    }

    #[inline]
    fn put(&mut self, tag: u8, numbers: &[u64]) {
        self.buffer.push(tag);
        for &number in numbers {
            varint::put(self.buffer, number);
        }
    }

    fn of_kind(&mut self, tag: u8, kind: Kind, id: u32) {
        self.buffer.push(tag);
        self.buffer.push(kind.byte());
        varint::put(self.buffer, u64::from(id));
    }
}

/// The length of the entries that a header names, as a place in memory.
fn body_len(header: &[u8]) -> usize {
    u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize
}

/// The frames of a buffer that [`FrameWriter`] filled, as (begin, bytes of entries and tag).
pub(crate) fn walk(buffer: &[u8]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = buffer.get(at..at + HEADER)?;
        let found = (at, body_len(header));
        at += padded(found.1);
        Some(found)
    })
}

/// Fills in what only the one who writes the frames knows; `buffer` holds whole frames.
pub(crate) fn seal(buffer: &mut [u8], file: u32, synced: u32) {
    let mut at = 0;
    while at + HEADER <= buffer.len() {
        let end = at + HEADER + body_len(&buffer[at..]);
        buffer[at + 16..at + 20].copy_from_slice(&synced.to_le_bytes());
        let crc = crc32c::crc32c_append(file, &buffer[at + 4..end]);
        buffer[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at += padded(end - at - HEADER);
    }
}

/// A frame that was found in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// The number of the transaction.
    pub(crate) seq: u64,
    /// Up to where the file was safe when this was written.
    pub(crate) synced: u32,
    /// The entries (and the tag).
    pub(crate) body: &'a [u8],
    /// All its bytes, padding included.
    pub(crate) size: usize,
}

/// What lies at a place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A whole frame.
    Frame(Frame<'a>),
    /// Zeros, or the end of the file: nothing was written here.
    Blank,
    /// Bytes that are no frame of this file.
    Bad,
}

/// What lies at the beginning of `bytes`, which are the rest of file `file`.
pub(crate) fn read(bytes: &[u8], file: u32) -> Found<'_> {
    let Some(header) = bytes.get(..HEADER) else {
        return if bytes.iter().all(|&byte| byte == 0) { Found::Blank } else { Found::Bad };
    };
    if header == [0; HEADER] {
        return Found::Blank;
    }
    let len = body_len(header);
    let size = padded(len);
    if size > bytes.len() || size > super::FRAME_BYTES_MAX {
        return Found::Bad;
    }
    let crc = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    if crc32c::crc32c_append(file, &bytes[4..HEADER + len]) != crc {
        return Found::Bad;
    }
    let mut reader = Reader::new(&header[8..]);
    let (Ok(seq), Ok(synced)) = (reader.u64(), reader.u32()) else { return Found::Bad };
    Found::Frame(Frame { seq, synced, body: &bytes[HEADER..HEADER + len], size })
}

/// The entries of a frame's (plain) body, each with where its bytes lie in the frame.
///
/// After an error it ends: the rest of the frame cannot be told apart.
pub(crate) fn entries(
    body: &[u8],
) -> impl Iterator<Item = Result<(Entry<'_>, RecordAt), Malformed>> + '_ {
    let mut reader = Reader::new(body);
    let mut over = false;
    std::iter::from_fn(move || {
        if over || reader.left() == 0 {
            return None;
        }
        let at = reader.at();
        let entry = Entry::read(&mut reader, body);
        over = entry.is_err();
        // The tag of an entry is one byte; an image begins behind it.
        let place = RecordAt {
            record: (HEADER + at + 1) as u32,
            len: (reader.at() - at).saturating_sub(1) as u32,
        };
        Some(entry.map(|entry| (entry, place)))
    })
}

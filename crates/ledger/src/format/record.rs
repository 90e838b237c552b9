//! The image of a record: self-contained and checksummed, so that it goes from the write-ahead log into a segment as it is.
//!
//! `length varint | crc32c | flags | log | position | time | what the flags name | key | data`. The
//! checksum runs over key and data first and over the header last: [`payload_crc`] is computed
//! before any lock is taken, and only the twenty bytes of the header are left to do under it.

use bytes::Bytes;

use super::{Malformed, varint, varint::Reader};
use crate::record::{LogId, Record};

const KEY: u8 = 1;
const DUE: u8 = 2;
const EXPIRES: u8 = 4;
const PRIORITY: u8 = 8;
const DEDUPE: u8 = 16;
const GLOBAL: u8 = 32;
const KNOWN: u8 = 63;
/// The most bytes of a header: flags, log, position, time, priority, due, expiry, id, global, key length.
const HEADER_MAX: usize = 1 + 5 + 10 + 10 + 1 + 10 + 10 + 16 + 10 + 10;
const CRC_LEN: usize = 4;

/// The checksum of what a record carries; the part that needs no position.
pub(crate) fn payload_crc(key: &[u8], data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), data)
}

/// A record that is about to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewImage<'a> {
    /// The log that it belongs to.
    pub(crate) log: u32,
    /// Its position in that log.
    pub(crate) position: u64,
    /// When it was taken, in wall milliseconds.
    pub(crate) time_ms: u64,
    /// Not before, in wall milliseconds; 0 for at once.
    pub(crate) due_ms: u64,
    /// Not after, in wall milliseconds; 0 for never.
    pub(crate) expires_ms: u64,
    /// 0 is the usual.
    pub(crate) priority: u8,
    /// The id by which a repetition is known.
    pub(crate) dedupe: Option<u128>,
    /// Its place in the global order.
    pub(crate) global: Option<u64>,
    /// Empty for none.
    pub(crate) key: &'a [u8],
    /// What it carries.
    pub(crate) data: &'a [u8],
    /// [`payload_crc`] of key and data.
    pub(crate) payload_crc: u32,
}

impl NewImage<'_> {
    /// Appends the image to `buffer`.
    #[inline]
    pub(crate) fn put(&self, buffer: &mut Vec<u8>) {
        // The length and the checksum go before the header, so the header begins behind their room.
        const FROM: usize = varint::MAX + CRC_LEN;
        let mut head = [0u8; FROM + HEADER_MAX];
        let mut flags = 0;
        let mut at = FROM + 1;
        at = varint::write(&mut head, at, u64::from(self.log));
        at = varint::write(&mut head, at, self.position);
        at = varint::write(&mut head, at, self.time_ms);
        if self.priority != 0 {
            flags |= PRIORITY;
            head[at] = self.priority;
            at += 1;
        }
        if self.due_ms != 0 {
            flags |= DUE;
            at = varint::write(&mut head, at, self.due_ms);
        }
        if self.expires_ms != 0 {
            flags |= EXPIRES;
            at = varint::write(&mut head, at, self.expires_ms);
        }
        if let Some(id) = self.dedupe {
            flags |= DEDUPE;
            head[at..at + 16].copy_from_slice(&id.to_le_bytes());
            at += 16;
        }
        if let Some(global) = self.global {
            flags |= GLOBAL;
            at = varint::write(&mut head, at, global);
        }
        if !self.key.is_empty() {
            flags |= KEY;
            at = varint::write(&mut head, at, self.key.len() as u64);
        }
        head[FROM] = flags;
        let crc = crc32c::crc32c_append(self.payload_crc, &head[FROM..at]);
        head[varint::MAX..FROM].copy_from_slice(&crc.to_le_bytes());
        let rest = CRC_LEN + (at - FROM) + self.key.len() + self.data.len();
        let begin = varint::MAX - varint::len(rest as u64);
        varint::write(&mut head, begin, rest as u64);
        buffer.extend_from_slice(&head[begin..at]);
        buffer.extend_from_slice(self.key);
        buffer.extend_from_slice(self.data);
    }
}

/// How many bytes the image of a record has; `dedupe` if there is an id in it.
pub(crate) fn image_len(record: &Record, dedupe: bool) -> usize {
    let set = |value: u64| if value == 0 { 0 } else { varint::len(value) };
    let rest = CRC_LEN
        + 1
        + varint::len(u64::from(record.log.0))
        + varint::len(record.position)
        + varint::len(record.time_ms)
        + usize::from(record.priority != 0)
        + set(record.due_ms)
        + set(record.expires_ms)
        + if dedupe { 16 } else { 0 }
        + record.global.map_or(0, varint::len)
        + set(record.key.len() as u64)
        + record.key.len()
        + record.data.len();
    varint::len(rest as u64) + rest
}

/// A record as its image says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image<'a> {
    /// The log that it belongs to.
    pub(crate) log: u32,
    /// Its position in that log.
    pub(crate) position: u64,
    /// When it was taken, in wall milliseconds.
    pub(crate) time_ms: u64,
    /// Not before, in wall milliseconds; 0 for at once.
    pub(crate) due_ms: u64,
    /// Not after, in wall milliseconds; 0 for never.
    pub(crate) expires_ms: u64,
    /// 0 is the usual.
    pub(crate) priority: u8,
    /// The id by which a repetition is known.
    pub(crate) dedupe: Option<u128>,
    /// Its place in the global order.
    pub(crate) global: Option<u64>,
    /// Empty for none.
    pub(crate) key: &'a [u8],
    /// What it carries.
    pub(crate) data: &'a [u8],
    /// All bytes of the image.
    pub(crate) len: usize,
    crc: u32,
    header: &'a [u8],
}

impl<'a> Image<'a> {
    /// The image that `bytes` begin with; its checksum is not looked at ([`Image::whole`] does).
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = Reader::new(bytes);
        let body = outer.counted()?;
        let mut reader = Reader::new(body);
        let crc = reader.u32()?;
        let flags = reader.byte()?;
        if flags & !KNOWN != 0 {
            return Err(Malformed("unknown flags of a record"));
        }
        let has = |flag: u8| flags & flag != 0;
        let log = reader.varint32()?;
        let position = reader.varint()?;
        let time_ms = reader.varint()?;
        let priority = if has(PRIORITY) { reader.byte()? } else { 0 };
        let due_ms = if has(DUE) { reader.varint()? } else { 0 };
        let expires_ms = if has(EXPIRES) { reader.varint()? } else { 0 };
        let dedupe = if has(DEDUPE) { Some(u128::from_le_bytes(reader.array()?)) } else { None };
        let global = if has(GLOBAL) { Some(reader.varint()?) } else { None };
        let key_len = if has(KEY) { reader.varint32()? as usize } else { 0 };
        let header = &body[CRC_LEN..reader.at()];
        let key = reader.bytes(key_len)?;
        let data = reader.bytes(reader.left())?;
        Ok(Self {
            log,
            position,
            time_ms,
            due_ms,
            expires_ms,
            priority,
            dedupe,
            global,
            key,
            data,
            len: outer.at(),
            crc,
            header,
        })
    }

    /// The image that `bytes` begin with, if its checksum fits.
    pub(crate) fn checked(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let image = Self::parse(bytes)?;
        if image.whole() { Ok(image) } else { Err(Malformed("the checksum of a record")) }
    }

    /// Whether its bytes fit its checksum.
    pub(crate) fn whole(&self) -> bool {
        crc32c::crc32c_append(payload_crc(self.key, self.data), self.header) == self.crc
    }

    /// The bytes of the whole image that `bytes` begin with, as its length says.
    pub(crate) fn len_of(bytes: &[u8]) -> Result<u64, Malformed> {
        let mut reader = Reader::new(bytes);
        let rest = reader.varint()?;
        rest.checked_add(reader.at() as u64).ok_or(Malformed("a number beyond 64 bits"))
    }
}

/// The record that `image` holds, as slices of it; its checksum was looked at before.
pub(crate) fn trusted(image: &Bytes) -> Result<Record, Malformed> {
    let found = Image::parse(image)?;
    Ok(Record {
        log: LogId(found.log),
        position: found.position,
        time_ms: found.time_ms,
        key: if found.key.is_empty() { Bytes::new() } else { image.slice_ref(found.key) },
        data: image.slice_ref(found.data),
        due_ms: found.due_ms,
        expires_ms: found.expires_ms,
        priority: found.priority,
        global: found.global,
    })
}

//! The index of a segment: which logs it has records of, and where.

use super::{END_MAGIC, SPARSE_BYTES, TRAILER};
use crate::format::{Image, Malformed, header, varint, varint::Reader};

/// The records of one log in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The log.
    pub(crate) log: u32,
    /// The first position.
    pub(crate) first: u64,
    /// The last position.
    pub(crate) last: u64,
    /// How many records; fewer than positions if some were gone when it was written.
    pub(crate) records: u64,
    /// The bytes of their images.
    pub(crate) bytes: u64,
    /// When the oldest was taken, in wall milliseconds.
    pub(crate) first_ms: u64,
    /// When the newest was taken, in wall milliseconds.
    pub(crate) last_ms: u64,
    /// When the first of them expires, in wall milliseconds; 0 if none does.
    pub(crate) expires_ms: u64,
}

/// An extent with where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) extent: Extent,
    /// From the beginning of the file.
    pub(crate) from: u64,
    /// The end of its bytes.
    pub(crate) to: u64,
    /// Positions and where their records begin, about every 16 KiB.
    pub(crate) sparse: Vec<(u64, u64)>,
}

/// The index, extents sorted by log.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Index {
    pub(crate) extents: Vec<Placed>,
}

impl Index {
    /// The extent of a log.
    pub(crate) fn of(&self, log: u32) -> Option<&Placed> {
        let at = self.extents.binary_search_by_key(&log, |placed| placed.extent.log).ok()?;
        self.extents.get(at)
    }

    /// Notes a record whose bytes lie at `from..to`; records come sorted by log and position.
    pub(crate) fn note(&mut self, image: &Image<'_>, from: u64, to: u64) {
        let Image { log, position, time_ms, expires_ms, .. } = *image;
        match self.extents.last_mut() {
            Some(placed) if placed.extent.log == log => {
                let extent = &mut placed.extent;
                extent.last = position;
                extent.records += 1;
                extent.bytes += to - from;
                extent.first_ms = extent.first_ms.min(time_ms);
                extent.last_ms = extent.last_ms.max(time_ms);
                extent.expires_ms = earlier(extent.expires_ms, expires_ms);
                placed.to = to;
                if placed.sparse.last().is_none_or(|(_, at)| from - at >= SPARSE_BYTES) {
                    placed.sparse.push((position, from));
                }
            }
            _ => {
                let extent = Extent {
                    log,
                    first: position,
                    last: position,
                    records: 1,
                    bytes: to - from,
                    first_ms: time_ms,
                    last_ms: time_ms,
                    expires_ms,
                };
                self.extents.push(Placed { extent, from, to, sparse: vec![(position, from)] });
            }
        }
    }

    /// The bytes of the index.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        varint::put(&mut bytes, self.extents.len() as u64);
        for Placed { extent, from, to, sparse } in &self.extents {
            for number in [
                u64::from(extent.log),
                extent.first,
                extent.last - extent.first,
                extent.records,
                extent.bytes,
                extent.first_ms,
                extent.last_ms - extent.first_ms,
                extent.expires_ms,
                *from,
                to - from,
                sparse.len() as u64,
            ] {
                varint::put(&mut bytes, number);
            }
            let (mut position, mut at) = (extent.first, *from);
            for &(next, place) in sparse {
                varint::put(&mut bytes, next - position);
                varint::put(&mut bytes, place - at);
                (position, at) = (next, place);
            }
        }
        bytes
    }

    /// The index that `bytes` hold.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let overflow = Malformed("a number beyond 64 bits");
        let mut reader = Reader::new(bytes);
        let count = reader.varint()?;
        let mut extents: Vec<Placed> = Vec::new();
        for _ in 0..count {
            let log = reader.varint32()?;
            if extents.last().is_some_and(|before| before.extent.log >= log) {
                return Err(Malformed("logs of an index that do not ascend"));
            }
            let first = reader.varint()?;
            let last = first.checked_add(reader.varint()?).ok_or(overflow)?;
            let (records, of_bytes, first_ms) =
                (reader.varint()?, reader.varint()?, reader.varint()?);
            let last_ms = first_ms.checked_add(reader.varint()?).ok_or(overflow)?;
            let expires_ms = reader.varint()?;
            let from = reader.varint()?;
            let to = from.checked_add(reader.varint()?).ok_or(overflow)?;
            let places = reader.varint()?;
            let mut sparse: Vec<(u64, u64)> = Vec::new();
            let (mut position, mut at) = (first, from);
            for _ in 0..places {
                position = position.checked_add(reader.varint()?).ok_or(overflow)?;
                at = at.checked_add(reader.varint()?).filter(|at| *at < to).ok_or(overflow)?;
                sparse.push((position, at));
            }
            if sparse.first().is_none_or(|(_, at)| *at != from) {
                return Err(Malformed("an extent without a first place"));
            }
            let bytes = of_bytes;
            let extent = Extent { log, first, last, records, bytes, first_ms, last_ms, expires_ms };
            extents.push(Placed { extent, from, to, sparse });
        }
        Ok(Self { extents })
    }
}

/// The earlier of two times, where 0 is none.
const fn earlier(one: u64, other: u64) -> u64 {
    if one == 0 || (other != 0 && other < one) { other } else { one }
}

/// The last bytes of a segment: where its index lies.
pub(crate) fn trailer(at: u64, stored: &[u8], number: u32) -> [u8; TRAILER] {
    let mut bytes = [0; TRAILER];
    bytes[..8].copy_from_slice(&at.to_le_bytes());
    bytes[8..16].copy_from_slice(&(stored.len() as u64).to_le_bytes());
    bytes[16..20].copy_from_slice(&crc32c::crc32c(stored).to_le_bytes());
    bytes[20..24].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..24]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    bytes[32..].copy_from_slice(END_MAGIC);
    bytes
}

/// Where the index of a segment of `len` bytes lies and its checksum; `None` if the trailer is not whole.
pub(crate) fn parse_trailer(bytes: &[u8], len: u64, number: u32) -> Option<(u64, usize, u32)> {
    let mut reader = Reader::new(bytes);
    let (at, size) = (reader.u64().ok()?, reader.u64().ok()?);
    let (crc, found, own) = (reader.u32().ok()?, reader.u32().ok()?, reader.u32().ok()?);
    let whole = bytes.len() == TRAILER
        && bytes[32..] == *END_MAGIC
        && crc32c::crc32c(&bytes[..24]) == own
        && found == number
        && at >= header::LEN as u64
        && at.checked_add(size)? == len.checked_sub(TRAILER as u64)?;
    whole.then_some((at, usize::try_from(size).ok()?, crc))
}

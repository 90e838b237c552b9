//! What a file holds after a crash: the frames that count, what was torn, and what had been safe and is damaged.
//!
//! A frame names the offset up to which its file was safe when it was written, and the first frame
//! of a file is written only when all of the file before is safe. So whatever does not fit below
//! the greatest such offset had been acknowledged and was damaged since: it is set aside, reported,
//! and what follows is kept. What does not fit above it was being written when the crash came: the
//! file ends there, and what lies behind was never acknowledged.

use std::ops::Range;

use super::HEADER_LEN;
use crate::format::{
    frame::{self, ALIGN, Found},
    varint::Reader,
};

/// A whole frame in the bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Where it begins.
    pub(crate) offset: u32,
    /// The number of its transaction.
    pub(crate) seq: u64,
    /// Where its entries lie.
    pub(crate) body: Range<usize>,
}

/// Bytes that had been safe and do not fit their checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Where they lie.
    pub(crate) bytes: Range<u32>,
    /// The transactions that they held.
    pub(crate) lost: Range<u64>,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Scan {
    /// The frames that count, in order.
    pub(crate) frames: Vec<Whole>,
    /// What was safe and is lost.
    pub(crate) damage: Vec<Damage>,
    /// Where the file ends.
    pub(crate) end: u32,
    /// The bytes behind the end that were being written when the crash came.
    pub(crate) torn: u32,
}

/// What file `number` holds.
///
/// `before` is the number of the last transaction before the file, 0 if that is not known; `next` that of the first one in a
/// later file, if there is one: then all of this file had been safe.
pub(crate) fn scan(bytes: &[u8], number: u32, before: u64, next: Option<u64>) -> Scan {
    let found: Vec<_> = frames(bytes, number, before).collect();
    let safe = match next {
        Some(_) => u32::MAX,
        None => found.iter().map(|whole| whole.1).max().unwrap_or(HEADER_LEN),
    };
    let mut result = Scan { end: HEADER_LEN, ..Scan::default() };
    let mut last = before;
    for (whole, _, size) in found {
        if whole.offset > result.end {
            if whole.offset > safe {
                result.torn = whole.offset + size - result.end;
                break;
            }
            let from = if last == 0 { whole.seq } else { last + 1 };
            let lost = from..whole.seq.max(from);
            result.damage.push(Damage { bytes: result.end..whole.offset, lost });
        }
        result.end = whole.offset + size;
        last = whole.seq;
        result.frames.push(whole);
    }
    if next.is_none() && safe > result.end && safe != u32::MAX {
        // The proof itself lies behind a tear; what it proves safe is lost all the same.
        result.damage.push(Damage { bytes: result.end..safe, lost: last + 1..last + 1 });
        result.end = safe;
    }
    if let Some(next) = next
        && next > last + 1
    {
        let to = u32::try_from(bytes.len()).unwrap_or(u32::MAX).max(result.end);
        result.damage.push(Damage { bytes: result.end..to, lost: last + 1..next });
    }
    if result.torn == 0 && next.is_none() {
        result.torn = written(bytes, result.end);
    }
    result
}

/// The transaction of the first whole frame of file `number`.
pub(crate) fn first_seq(bytes: &[u8], number: u32) -> Option<u64> {
    frames(bytes, number, 0).next().map(|(whole, _, _)| whole.seq)
}

/// Every whole frame of the file, with its `synced` and its size, whatever lies between them.
fn frames(bytes: &[u8], number: u32, before: u64) -> impl Iterator<Item = (Whole, u32, u32)> + '_ {
    let used = used(bytes);
    let (mut at, mut last) = (HEADER_LEN as usize, before);
    // Whether what lies at `at` has to be a frame; when not, only what looks like one is looked at.
    let mut follows = true;
    std::iter::from_fn(move || {
        while at < used && at + frame::HEADER <= bytes.len() {
            if (follows || plausible(&bytes[at..], at, last))
                && let Found::Frame(frame) = frame::read(&bytes[at..], number)
            {
                let body = at + frame::HEADER;
                let whole = Whole {
                    offset: at as u32,
                    seq: frame.seq,
                    body: body..body + frame.body.len(),
                };
                at += frame.size;
                last = last.max(frame.seq);
                follows = true;
                return Some((whole, frame.synced, frame.size as u32));
            }
            follows = false;
            at += ALIGN;
        }
        None
    })
}

/// Where the zeros at the end of a file begin, or a little later: most of it may never have been
/// written, and no frame begins with zeros alone.
fn used(bytes: &[u8]) -> usize {
    const BLOCK: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    while end >= BLOCK.len() && bytes[end - BLOCK.len()..end] == BLOCK {
        end -= BLOCK.len();
    }
    end
}

/// Whether a header can be that of a frame at `at` after transaction `last`; keeps the search through garbage short.
fn plausible(bytes: &[u8], at: usize, last: u64) -> bool {
    let mut reader = Reader::new(bytes);
    let (Ok(_), Ok(len), Ok(seq), Ok(synced)) =
        (reader.u32(), reader.u32(), reader.u64(), reader.u32())
    else {
        return false;
    };
    let most = (bytes.len() / frame::HEADER) as u64 + at as u64;
    frame::padded(len as usize) <= bytes.len()
        && seq != 0
        && (last == 0 || (seq >= last && seq - last <= most))
        && synced >= HEADER_LEN
        && synced as usize <= at
        && (synced as usize).is_multiple_of(ALIGN)
}

/// How many bytes from `end` on are not zero, in one run.
fn written(bytes: &[u8], end: u32) -> u32 {
    let rest = bytes.get(end as usize..).unwrap_or_default();
    let blank = rest.chunks(frame::HEADER).position(|chunk| chunk.iter().all(|&byte| byte == 0));
    (blank.map_or(rest.len(), |chunks| chunks * frame::HEADER)) as u32
}

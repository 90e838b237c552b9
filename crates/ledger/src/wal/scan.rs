//! What a file holds after a crash: the frames that count, what was torn, and what had been safe and is damaged.
//!
//! A frame names the offset up to which its file was safe when it was written, and the first frame
//! of a file is written only when all of the file before is safe. So whatever does not fit below
//! the greatest such offset had been acknowledged and was damaged since: it is set aside, reported,
//! and what follows is kept. What does not fit above it was being written when the crash came: the
//! file ends there, and what lies behind was never acknowledged.

use std::ops::Range;

use super::{Closed, HEADER_LEN};
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

/// Bytes that had been safe and do not fit their checksum, or are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Where they lie.
    pub(crate) bytes: Range<u32>,
    /// The transactions that they held; `None` if nothing tells.
    pub(crate) lost: Option<Range<u64>>,
}

impl Damage {
    /// The transactions that are lost, in words.
    pub(crate) fn lost(&self) -> String {
        match &self.lost {
            None => "how many transactions are lost is not known".to_owned(),
            Some(lost) => match lost.end - lost.start {
                0 => "no transaction is lost".to_owned(),
                1 => "1 transaction is lost".to_owned(),
                count => format!("{count} transactions are lost"),
            },
        }
    }
}

/// What is known of a file besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// The number of the last transaction before the file; 0 if that is not known.
    pub(crate) before: u64,
    /// The number of the first transaction in a later file, if there is one: then all of this file had been safe.
    pub(crate) next: Option<u64>,
    /// Where it was closed.
    pub(crate) closed: Option<Closed>,
    /// How many bytes it is shorter than it was made.
    pub(crate) cut: u64,
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
pub(crate) fn scan(bytes: &[u8], number: u32, known: Known) -> Scan {
    let Known { before, next, closed, cut } = known;
    let found: Vec<_> = frames(bytes, number, before).collect();
    let proven = found.iter().map(|whole| whole.1).max().unwrap_or(HEADER_LEN);
    let safe = match (next, closed) {
        (Some(_), _) => u32::MAX,
        (None, Some(closed)) => proven.max(closed.end),
        (None, None) => proven,
    };
    let mut result = Scan { end: HEADER_LEN, ..Scan::default() };
    let mut last = before;
    for (whole, _, size) in found {
        if whole.offset > result.end {
            if whole.offset > safe {
                result.torn = whole.offset + size - result.end;
                break;
            }
            // A marker repeats the number of what it proves.
            let lost = (last != 0).then(|| last + 1..whole.seq.max(last + 1));
            result.damage.push(Damage { bytes: result.end..whole.offset, lost });
        } else if last != 0 && whole.seq > last + 1 {
            // A file before, or its end, is missing.
            let at = whole.offset..whole.offset;
            result.damage.push(Damage { bytes: at, lost: Some(last + 1..whole.seq) });
        }
        result.end = whole.offset + size;
        last = whole.seq;
        result.frames.push(whole);
    }
    let to = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if let Some(next) = next {
        if last != 0 && next > last + 1 {
            let lost = Some(last + 1..next);
            result.damage.push(Damage { bytes: result.end..to.max(result.end), lost });
        } else if last == 0 && closed.is_none_or(|closed| closed.end > HEADER_LEN) {
            // Not one frame of a file that was full.
            result.damage.push(Damage { bytes: result.end..to.max(result.end), lost: None });
        }
        return result;
    }
    if safe > result.end {
        // The proof lies behind a tear; what it proves safe is lost all the same.
        let lost = closed.filter(|closed| closed.end == safe && last != 0);
        let lost = lost.map(|closed| last + 1..closed.seq.max(last) + 1);
        result.damage.push(Damage { bytes: result.end..safe, lost });
        result.end = safe;
    } else if closed.is_none() && cut > 0 {
        // Nothing tells where the log ended: it may have been in what is missing.
        let most = u32::try_from(u64::from(to) + cut).unwrap_or(u32::MAX);
        result.damage.push(Damage { bytes: to.max(result.end)..most, lost: None });
    }
    if result.torn == 0 {
        result.torn = written(bytes, result.end, last);
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

/// How many bytes from `end` on were being written when the crash came, as far as the header of a frame
/// tells: it follows on `last`. Stale bytes of what the file held before do not.
fn written(bytes: &[u8], end: u32, last: u64) -> u32 {
    let rest = bytes.get(end as usize..).unwrap_or_default();
    let mut reader = Reader::new(rest);
    let (Ok(_), Ok(len), Ok(seq)) = (reader.u32(), reader.u32(), reader.u64()) else { return 0 };
    let follows = seq == last || seq == last + 1 || (last == 0 && seq != 0);
    if !follows || !plausible(rest, end as usize, last) {
        return 0;
    }
    u32::try_from(frame::padded(len as usize).min(rest.len())).unwrap_or(u32::MAX)
}

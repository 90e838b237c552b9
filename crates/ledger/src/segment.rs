//! Segments: where records go when their write-ahead file is given free, sorted by log and position.
//!
//! One segment holds an extent for each log that had records in the file; an index at its end says
//! where each extent lies, with a place every 16 KiB. A segment is written once and never changed;
//! when most of it is dead, what lives is written into another and the file is removed.

mod index;
mod reader;
mod set;
mod writer;

pub(crate) use index::Extent;
pub(crate) use reader::{Segment, Visited, check, rewrap};
pub(crate) use set::{SegmentSet, Sizes, name, number};
pub(crate) use writer::SegmentWriter;

/// Where the files lie.
pub(crate) const FOLDER: &str = "segments";
/// How many bytes of an extent lie between two places of its index.
pub(crate) const SPARSE_BYTES: u64 = 16 << 10;

/// How a segment begins.
pub(crate) const MAGIC: &[u8; 8] = b"WEFTSEG\0";
const END_MAGIC: &[u8; 8] = b"WEFTSEGE";
/// The bytes at its end that lead to its index.
pub(crate) const TRAILER: usize = 40;

fn context(number: u32) -> [u8; 12] {
    let mut context = *b"weft seg\0\0\0\0";
    context[8..].copy_from_slice(&number.to_le_bytes());
    context
}

#[cfg(test)]
mod tests;

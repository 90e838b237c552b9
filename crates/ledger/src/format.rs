//! The bytes on the disk: varints, the image of a record, the entries of a transaction, and the frame around them.
//!
//! Everything here is pure: encoding appends to a buffer that is handed in, decoding borrows from
//! what it is given, never panics and never allocates. `docs/formats/ledger.md` says the same byte
//! by byte, and golden files hold both to it. Numbers of fixed width are little-endian.
//!
//! Reading order: [`varint`], [`record`] (what a segment holds as it is), [`entry`] (what a
//! transaction does), [`frame`] (a transaction in the write-ahead log), [`header`] (how each file begins).

pub(crate) mod entry;
pub(crate) mod frame;
pub(crate) mod header;
pub(crate) mod record;
pub(crate) mod varint;

pub(crate) use entry::{Entry, Kind};
pub(crate) use frame::{FrameWriter, RecordAt};
pub(crate) use record::{Image, NewImage, image_len, payload_crc};

/// The format version that this code writes; it reads this one alone.
pub(crate) const VERSION: u32 = 3;
/// The most bytes of one frame, header and padding included; what claims to be longer is none.
pub(crate) const FRAME_BYTES_MAX: usize = 256 << 20;
/// The most bytes of a transaction, whatever is asked for: the rest of its frame is for the header and for
/// what each operation has beside what it carries.
pub(crate) const TRANSACTION_BYTES_MAX: u64 = FRAME_BYTES_MAX as u64 - (64 << 20);

/// Bytes that are not what the format says; the text says which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed bytes: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Where the image of a record lies in the write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// The number of the file.
    pub(crate) file: u32,
    /// Where its frame begins in the file.
    pub(crate) frame: u32,
    /// Where the image begins in the frame.
    pub(crate) record: u32,
    /// The bytes of the image.
    pub(crate) len: u32,
}

#[cfg(test)]
pub(crate) mod tests;

//! The write-ahead log: numbered files of one size into which every transaction goes first.
//!
//! The core decides where each frame lies ([`Cursor`]) while it encodes it; the syncer writes what
//! has gathered with one write and one sync ([`Writer`]); what was written last is kept in memory
//! for readers ([`Recent`]); at recovery [`scan`] says what a file holds, what was torn by the crash,
//! and what had been safe and is damaged.
//!
//! Files are zeroed when they are made and used again when what they hold is kept elsewhere, so that
//! a sync writes no metadata. After each recovery a new file is begun, and the one before is marked
//! as closed where its good bytes end: nothing that the crash left behind can come back. Their numbers
//! are gapless, and the newest is on record ([`made`]), so that [`survey`] names what is missing.

mod cursor;
mod file;
pub(crate) mod made;
mod recent;
mod scan;
mod survey;
mod writer;

pub(crate) use cursor::{Cursor, FrameAt, Purpose, Refused};
pub(crate) use file::{Closed, MAGIC, WalFile, name, number};
pub(crate) use recent::Recent;
pub(crate) use scan::{Damage, Known, Scan, first_seq, scan};
pub(crate) use survey::{Survey, survey};
pub(crate) use writer::{WalSet, Writer};

/// Where the files lie.
pub(crate) const FOLDER: &str = "wal";
/// The bytes before the first frame of a file.
pub(crate) const HEADER_LEN: u32 = 4096;

#[cfg(test)]
mod tests;

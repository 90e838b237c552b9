//! What a shared subscription is: its name, what it reads, and how it hands out.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weft_kernel::{Error, Reason, Result};

use crate::name::StreamName;

/// The name of the stream of all events.
pub const ALL: &str = "$all";

/// The name of a shared subscription: a stream, or what else is read, and a name among those of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedName {
    /// What is read, as its owner calls it.
    pub stream: StreamName,
    /// Its name among the subscriptions of the same.
    pub group: StreamName,
}

impl SharedName {
    /// Its key in maps. Names have no NUL.
    pub(crate) fn key(&self) -> Bytes {
        [self.stream.as_str(), "\0", self.group.as_str()].concat().into_bytes().into()
    }

    /// What the keys of subscriptions of a stream begin with.
    pub(crate) fn prefix(stream: Option<&StreamName>) -> Vec<u8> {
        stream.map_or_else(Vec::new, |stream| [stream.as_str(), "\0"].concat().into_bytes())
    }

    pub(crate) fn of_key(key: &[u8]) -> Result<Self> {
        let corrupt = || {
            Error::new(Reason::StorageCorrupt, "the name of a shared subscription cannot be read")
        };
        let at = key.iter().position(|byte| *byte == 0).ok_or_else(corrupt)?;
        let stream = StreamName::of_bytes(&key[..at]).ok_or_else(corrupt)?;
        let group = StreamName::of_bytes(&key[at + 1..]).ok_or_else(corrupt)?;
        Ok(Self { stream, group })
    }
}

/// What is read. Events are counted by version in a stream, and by position in all else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// All events.
    All,
    /// The events of a stream. It need not be there yet.
    Stream(String),
    /// The events of a category.
    Category(String),
    /// The events of a type.
    Type(String),
}

/// Which consumer an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Strategy {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The one that came first, as long as it has room.
    First,
    /// Always the same for a stream, as long as it is there.
    Pinned,
    /// Always the same for a correlation id.
    PinnedByCorrelation,
}

/// A shared subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// What is read.
    pub source: Source,
    /// The version or position of the first event.
    pub from: u64,
    /// Which consumer an event is for.
    pub strategy: Strategy,
    /// How long a consumer has an event until others get it, in milliseconds; nought for as long as it is there.
    pub lease_ms: u64,
    /// How often an event is handed out again before it is parked.
    pub retries_max: u32,
    /// The most consumers; nought for [`CONSUMERS_MAX`].
    pub consumers_max: u32,
    /// Events that are read ahead of what is asked for.
    pub ahead: u32,
    /// What else its owner wants to know of it.
    pub note: Vec<u8>,
}

/// The most consumers of one subscription.
pub const CONSUMERS_MAX: usize = 1_000;
/// The most events that one consumer has.
pub const HELD_MAX: usize = 2_000;
/// The most that are read ahead.
pub const AHEAD_MAX: u32 = 2_000;
/// The longest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 64 << 10;

impl Definition {
    pub(crate) fn check(&self) -> Result<()> {
        if self.note.len() > NOTE_BYTES_MAX {
            let say = "the note of a shared subscription has 64 KiB at most";
            return Err(Error::new(Reason::MalformedRequest, say));
        }
        Ok(())
    }

    pub(crate) fn consumers_max(&self) -> usize {
        match self.consumers_max as usize {
            0 => CONSUMERS_MAX,
            most => most.min(CONSUMERS_MAX),
        }
    }

    pub(crate) fn ahead(&self) -> usize {
        self.ahead.clamp(1, AHEAD_MAX) as usize
    }
}

//! Events, as they are appended and as they are read.
//!
//! An event is a message of the broker in the form of a CloudEvent, so that a stream can be subscribed to without
//! a second copy. Its version stands in the attribute `streamversion`, the name of its stream is the key of its record.

use weft_broker::{
    Message,
    message::{Form, Value},
};
use weft_kernel::{Error, Reason, Result};
use weft_ledger::record::Record;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{
    index::{Keys, check_tags, keys},
    name::StreamName,
};

/// The attribute in which the version of an event stands.
pub const VERSION: &str = "streamversion";
/// The largest event, attributes included.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// An event to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    message: Message,
    keys: Keys,
}

impl NewEvent {
    /// Of a message.
    ///
    /// # Errors
    /// `malformed_message` for one that is no CloudEvent, says which version it has, or has more or longer tags than an
    /// event may have; `message_too_large` for one of more than [`EVENT_BYTES_MAX`].
    pub fn new(message: Message) -> Result<Self> {
        let wrong = |say: &'static str| Error::new(Reason::MalformedMessage, say);
        if message.form() != Form::Event {
            return Err(wrong("an event of a stream is a CloudEvent"));
        }
        if message.event().is_some_and(|event| event.get(VERSION).is_some()) {
            return Err(wrong("an event has the attribute `streamversion` once it is appended"));
        }
        check_tags(&message)?;
        if message.stored().len() > EVENT_BYTES_MAX {
            let say = "an event of a stream has 1 MiB at most, with its attributes";
            return Err(Error::new(Reason::MessageTooLarge, say));
        }
        let keys = keys(&message);
        Ok(Self { message, keys })
    }

    /// What is appended.
    pub const fn message(&self) -> &Message {
        &self.message
    }

    /// By which it is known again.
    pub(crate) fn hash(&self) -> u64 {
        identity(&self.message)
            .map_or(0, |(source, id)| xxh3_64_with_seed(id.as_bytes(), xxh3_64(source.as_bytes())))
    }

    /// What it is looked up by.
    pub(crate) const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What stands in the log of it.
    pub(crate) fn stored(&self, version: u64) -> bytes::Bytes {
        self.message.with_attribute(VERSION, Value::Text(&version.to_string())).stored().clone()
    }
}

/// What tells an event from all others, as CloudEvents have it: its source, and its id there.
pub(crate) fn identity(message: &Message) -> Option<(&str, &str)> {
    let event = message.event()?;
    Some((event.source(), event.id()))
}

/// An event that was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its stream.
    pub stream: StreamName,
    /// Its place in the stream, from nought.
    pub version: u64,
    /// Its place among all events.
    pub position: u64,
    /// When it was appended, in milliseconds since 1970.
    pub time_ms: u64,
    /// The event itself.
    pub message: Message,
}

impl Recorded {
    /// Of a record of the log.
    pub(crate) fn read(record: Record) -> Result<Self> {
        let Record { position, time_ms, key, data, .. } = record;
        let corrupt = |say: &str| {
            Error::new(Reason::StorageCorrupt, format!("the event at position {position} {say}"))
        };
        let stream = StreamName::of_bytes(&key).ok_or_else(|| corrupt("has no stream"))?;
        let message = Message::from_stored(data)?;
        let version = message.event().and_then(|event| event.get(VERSION)?.as_text()?.parse().ok());
        let version = version.ok_or_else(|| corrupt("has no version"))?;
        Ok(Self { stream, version, position, time_ms, message })
    }
}

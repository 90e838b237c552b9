//! The metadata of a stream, which are the last event of the stream `$$NAME`: how much of the stream is seen.
//!
//! What a stream has in excess is not seen by who reads or follows it, and is removed when its metadata are written.

use weft_events::{
    Direction, Expected, NewEvent, PageLimits, Rejected, StreamName, head::Life, store::Change,
};
use weft_kernel::{Error, Reason};
use weft_net::clock;

use crate::{fault::Fault, target::Kurrent};

/// What stands before the name of a stream in that of its metadata.
const PREFIX: &str = "$$";
/// The type of an event of metadata.
const KIND: &str = "$metadata";

/// The most of a stream that is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    events_max: Option<u64>,
    age_max_s: Option<u64>,
    before: Option<u64>,
}

impl Metadata {
    /// Of the data of an event; what is none says nothing.
    fn read(data: &[u8]) -> Self {
        let json: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
        let number = |name: &str| json.get(name).and_then(serde_json::Value::as_u64);
        Self {
            events_max: number("$maxCount").filter(|max| *max > 0),
            age_max_s: number("$maxAge").filter(|age| *age > 0),
            before: number("$tb").filter(|before| *before > 0),
        }
    }

    /// The first version that is seen of a stream whose next event has this one.
    pub(crate) fn first(&self, next: u64) -> u64 {
        let kept = self.events_max.map_or(0, |max| next.saturating_sub(max));
        kept.max(self.before.unwrap_or(0))
    }

    /// The time before which events are not seen, in milliseconds since 1970.
    pub(crate) fn since_ms(&self) -> u64 {
        let Some(age) = self.age_max_s else { return 0 };
        let now = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_sub(age.saturating_mul(1000))
    }
}

/// The metadata of a stream.
pub(crate) async fn of(kurrent: &Kurrent, stream: &StreamName) -> Result<Metadata, Fault> {
    let Some(name) = name(stream) else { return Ok(Metadata::default()) };
    if kurrent.events.stream(&name).await?.is_none_or(|info| info.life != Life::Open) {
        return Ok(Metadata::default());
    }
    let limits = PageLimits { events: 1, ..PageLimits::default() };
    match kurrent.events.read(&name, u64::MAX, Direction::Backward, limits).await {
        Ok(page) => {
            let last = page.events.first();
            Ok(last.map_or_else(Metadata::default, |last| Metadata::read(&last.message.body())))
        }
        Err(error) if error.reason() == Reason::NotFound => Ok(Metadata::default()),
        Err(error) => Err(error.into()),
    }
}

/// The stream of the metadata of a stream; those of metadata have none.
fn name(stream: &StreamName) -> Option<StreamName> {
    if is_of(stream) {
        return None;
    }
    StreamName::new(&format!("{PREFIX}{stream}")).ok()
}

/// Whether a stream is one of metadata.
pub(crate) fn is_of(stream: &StreamName) -> bool {
    stream.as_str().starts_with(PREFIX)
}

/// Removes what a stream has in excess, if an event that was appended is of metadata.
pub(crate) async fn written(
    kurrent: &Kurrent,
    stream: &StreamName,
    event: &NewEvent,
) -> Result<(), Fault> {
    let Some(name) = stream.as_str().strip_prefix(PREFIX) else { return Ok(()) };
    let message = event.message();
    if message.event().is_none_or(|event| event.kind() != KIND) {
        return Ok(());
    }
    let (Ok(name), metadata) = (StreamName::new(name), Metadata::read(&message.body())) else {
        return Ok(());
    };
    let Some(info) = kurrent.events.stream(&name).await? else { return Ok(()) };
    let first = metadata.first(info.next).min(info.next);
    if first <= info.first {
        return Ok(());
    }
    match kurrent.events.change(&name, Expected::Exists, Change::Truncate(first)).await {
        // It went meanwhile.
        Ok(_) | Err(Rejected::Conflict(_)) => Ok(()),
        Err(rejected) => Err(Error::from(rejected).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_is_seen() {
        for (json, next, first) in [
            (r#"{"$maxCount":3}"#, 10, 7),
            (r#"{"$maxCount":3,"$tb":8}"#, 10, 8),
            (r#"{"$maxCount":30}"#, 10, 0),
            (r#"{"$maxCount":0,"$tb":-1}"#, 10, 0),
            (r#"{"$acl":{}}"#, 10, 0),
            ("[]", 10, 0),
            ("no json", 10, 0),
        ] {
            assert_eq!(Metadata::read(json.as_bytes()).first(next), first, "{json}");
        }
        assert_eq!(Metadata::read(b"{}").since_ms(), 0);
        assert!(Metadata::read(br#"{"$maxAge":60}"#).since_ms() > 1_600_000_000_000);
        assert_eq!(Metadata::read(br#"{"$maxAge":18446744073709551615}"#).since_ms(), 0);
    }
}

//! Between KurrentDB's events and CloudEvents.
//!
//! An event that comes by this protocol has its UUID as `id`, its type as `type`, its content type as
//! `datacontenttype`, and the name of its stream as `source`. Its metadata stand in the attribute `kurrentmetadata`, as
//! text if they are and in base64 otherwise. An event that came over HTTP has no such attribute: its metadata are then
//! its own attributes as JSON, and its UUID is made of `source` and `id` if that is none.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use weft_broker::{
    MessageBuilder,
    message::{Item, Value},
};
use weft_events::{NewEvent, Recorded, StreamName, event::VERSION};
use weft_wire::cloudevents::{Attribute, Event, Shape};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    fault::Fault,
    messages::{StreamIdentifier, Uuid, read_response as proto, uuid},
};

/// The attribute in which metadata stand.
pub(crate) const METADATA: &str = "kurrentmetadata";
/// The content type of JSON, and of everything else.
pub(crate) const JSON: &str = "application/json";
pub(crate) const BYTES: &str = "application/octet-stream";

/// The largest event, its metadata among it.
pub(crate) const EVENT_BYTES_MAX: usize = 1 << 20;

/// An event that is to be appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proposed<'a> {
    pub(crate) id: u128,
    pub(crate) kind: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) metadata: &'a [u8],
    pub(crate) data: &'a [u8],
}

impl Proposed<'_> {
    /// The event as it is kept.
    pub(crate) fn event(&self, stream: &StreamName) -> Result<NewEvent, Fault> {
        let text = std::str::from_utf8(self.metadata).ok();
        let binary = Attribute::Binary(self.metadata.into());
        let metadata = text.map_or_else(|| binary.clone(), |text| Attribute::Text(text.into()));
        let mut event = Event {
            id: text_of(self.id).into(),
            source: source(stream).into(),
            kind: self.kind.into(),
            data_content_type: Some(self.content_type.into()),
            extensions: vec![(METADATA.into(), metadata)],
            data: Some(self.data.into()),
            ..Event::default()
        };
        // Each of these is put right once.
        while let Err(fault) = event.check() {
            match fault.attribute.as_str() {
                // Text of several lines is none that an attribute may have.
                METADATA if text.is_some() && event.extensions[0].1 != binary => {
                    event.extensions[0].1 = binary.clone();
                }
                "datacontenttype" if event.data_content_type.as_deref() != Some(BYTES) => {
                    event.data_content_type = Some(BYTES.into());
                }
                _ => return Err(Fault::invalid(format!("an event cannot be kept: {fault}"))),
            }
        }
        Ok(NewEvent::new(MessageBuilder::from_wire(&event, &[])?)?)
    }
}

/// The source of the events of a stream: a path.
fn source(stream: &StreamName) -> String {
    let mut source = "/streams/".to_owned();
    for byte in stream.as_str().bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'$' => {
                source.push(char::from(byte));
            }
            _ => source.push_str(&format!("%{byte:02X}")),
        }
    }
    source
}

/// An event as a client reads it.
pub(crate) fn recorded(event: &Recorded, is_structured: bool) -> proto::ReadEvent {
    let head = event.message.event();
    let get = |name: &str| head.and_then(|head| head.get(name));
    let kind = head.map_or("", |head| head.kind());
    let content_type = match Shape::of(get("datacontenttype").and_then(Value::as_text)) {
        Shape::Json => JSON,
        _ => BYTES,
    };
    let metadata = match get(METADATA) {
        Some(Value::Text(text)) => text.as_bytes().to_vec(),
        Some(Value::Binary(bytes)) => bytes.to_vec(),
        _ => attributes(event),
    };
    let position = place(event.position);
    let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let recorded = proto::RecordedEvent {
        id: Some(uuid_of(id_of(event), is_structured)),
        stream_identifier: Some(identifier(&event.stream)),
        stream_revision: event.version,
        prepare_position: position,
        commit_position: position,
        metadata: [
            of("type", kind),
            of("content-type", content_type),
            // Ticks of a hundred nanoseconds since 1970.
            of("created", &(event.time_ms.saturating_mul(10_000)).to_string()),
        ]
        .into(),
        custom_metadata: metadata,
        data: event.message.body().to_vec(),
    };
    proto::ReadEvent {
        event: Some(recorded),
        link: None,
        position: Some(proto::read_event::Position::CommitPosition(position)),
    }
}

/// The UUID of an event.
pub(crate) fn id_of(event: &Recorded) -> u128 {
    let head = event.message.event();
    let (source, id) = head.map_or(("", ""), |head| (head.source(), head.id()));
    parse(id).unwrap_or_else(|| derived(source, id))
}

/// Attributes of an event that came over HTTP, as JSON.
fn attributes(event: &Recorded) -> Vec<u8> {
    let mut all = serde_json::Map::new();
    all.insert("specversion".to_owned(), "1.0".into());
    for item in event.message.event().into_iter().flat_map(|event| event.items()) {
        let Item::Attribute(name, value) = item else { continue };
        if matches!(name, "type" | VERSION) {
            continue;
        }
        let value = match value {
            Value::Text(text) => text.into(),
            Value::Integer(number) => number.into(),
            Value::Boolean(truth) => truth.into(),
            Value::Binary(bytes) => STANDARD.encode(bytes).into(),
        };
        all.insert(name.to_owned(), value);
    }
    serde_json::Value::Object(all).to_string().into_bytes()
}

/// A position of the store as clients have it: nought is before all events.
pub(crate) const fn place(position: u64) -> u64 {
    position.saturating_add(1)
}

/// The name of a stream as it is sent.
pub(crate) fn identifier(stream: &StreamName) -> StreamIdentifier {
    StreamIdentifier { stream_name: stream.as_str().as_bytes().to_vec() }
}

/// A UUID as it is sent.
pub(crate) fn uuid_of(id: u128, is_structured: bool) -> Uuid {
    let value = if is_structured {
        uuid::Value::Structured(uuid::Structured {
            most_significant_bits: ((id >> 64) as u64).cast_signed(),
            least_significant_bits: (id as u64).cast_signed(),
        })
    } else {
        uuid::Value::String(text_of(id))
    };
    Uuid { value: Some(value) }
}

/// A UUID as it came.
pub(crate) fn read_uuid(uuid: Option<&Uuid>) -> Result<u128, Fault> {
    let missing = || Fault::invalid("an event has no UUID");
    match uuid.and_then(|uuid| uuid.value.as_ref()).ok_or_else(missing)? {
        uuid::Value::Structured(bits) => {
            let (most, least) = (bits.most_significant_bits, bits.least_significant_bits);
            Ok(u128::from(most.cast_unsigned()) << 64 | u128::from(least.cast_unsigned()))
        }
        uuid::Value::String(text) => {
            parse(text).ok_or_else(|| Fault::invalid("the id of an event is no UUID"))
        }
    }
}

/// A UUID of its text, with hyphens (RFC 9562 section 4).
pub(crate) fn parse(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    let is_hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    if bytes.len() != 36 {
        return None;
    }
    bytes.iter().enumerate().try_fold(0_u128, |id, (at, byte)| match byte {
        b'-' if is_hyphen(at) => Some(id),
        _ if is_hyphen(at) => None,
        byte => Some(id << 4 | u128::from(char::from(*byte).to_digit(16)?)),
    })
}

/// The text of a UUID.
pub(crate) fn text_of(id: u128) -> String {
    let hex = format!("{id:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A UUID of an event that has none: always the same for the same `source` and `id` (version 8 of RFC 9562).
pub(crate) fn derived(source: &str, id: &str) -> u128 {
    let hash = xxh3_128(format!("{source}\0{id}").as_bytes());
    let version = 0xf000_u128 << 64;
    let variant = 0xc000_u128 << 48;
    (hash & !version & !variant) | (0x8000_u128 << 64) | (0x8000_u128 << 48)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weft_broker::Message;

    use super::*;

    fn kept(event: &NewEvent) -> Recorded {
        let stream = StreamName::new("order-1").unwrap();
        let message = event.message().with_attribute(VERSION, Value::Text("4"));
        let message = Message::from_stored(message.stored().clone()).unwrap();
        Recorded { stream, version: 4, position: 9, time_ms: 1_700_000_000_123, message }
    }

    #[test]
    fn an_event_comes_back_as_it_was() {
        let stream = StreamName::new("order-1 ä").unwrap();
        for (metadata, data, content_type) in [
            (&b"{\"a\":1}"[..], &b"{}"[..], JSON),
            (b"{\n}", b"", JSON),
            (b"", b"\xff\0", BYTES),
            (b"\xff\xfe", b"no json", JSON),
        ] {
            let proposed = Proposed { id: 77, kind: "placed", content_type, metadata, data };
            let event = proposed.event(&stream).unwrap();
            assert_eq!(event.message().event().unwrap().source(), "/streams/order-1%20%C3%A4");
            let read = recorded(&kept(&event), false).event.unwrap();
            assert_eq!(read.custom_metadata, metadata);
            assert_eq!(read.data, data);
            assert_eq!(read.metadata["content-type"], content_type);
            assert_eq!(read.metadata["type"], "placed");
            assert_eq!(read.metadata["created"], "17000000001230000");
            assert_eq!(read.id, Some(uuid_of(77, false)));
            assert_eq!((read.stream_revision, read.commit_position), (4, 10));
        }
    }

    #[test]
    fn an_event_of_http_has_its_attributes_as_metadata() {
        let message = MessageBuilder::event(0)
            .attribute("id", Value::Text("e1"))
            .attribute("source", Value::Text("/shop"))
            .attribute("type", Value::Text("placed"))
            .attribute("subject", Value::Text("1"))
            .body(b"text")
            .finish()
            .unwrap();
        let event = recorded(&kept(&NewEvent::new(message).unwrap()), true).event.unwrap();
        let metadata: serde_json::Value = serde_json::from_slice(&event.custom_metadata).unwrap();
        let expect = serde_json::json!({
            "specversion": "1.0", "id": "e1", "source": "/shop", "subject": "1"
        });
        assert_eq!(metadata, expect);
        assert_eq!(event.metadata["content-type"], BYTES);
        let id = read_uuid(event.id.as_ref()).unwrap();
        assert_eq!((id, text_of(id).as_bytes()[14]), (derived("/shop", "e1"), b'8'));
    }

    #[test]
    fn what_no_event_can_be_is_refused() {
        let stream = StreamName::new("a").unwrap();
        let proposed = Proposed { id: 1, kind: "", content_type: JSON, metadata: b"", data: b"" };
        assert!(proposed.event(&stream).is_err());
        let odd = Proposed { kind: "x", content_type: "not a type", ..proposed };
        let kept = kept(&odd.event(&stream).unwrap());
        assert_eq!(recorded(&kept, false).event.unwrap().metadata["content-type"], BYTES);
    }

    proptest! {
        #[test]
        fn uuids_come_back(id in any::<u128>(), is_structured in any::<bool>()) {
            prop_assert_eq!(read_uuid(Some(&uuid_of(id, is_structured))).ok(), Some(id));
            prop_assert_eq!(parse(&text_of(id).to_uppercase()), Some(id));
        }

        #[test]
        fn any_text_is_a_uuid_or_not(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}

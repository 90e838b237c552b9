//! Events in JSON: one, or a list of them.
//!
//! Each value is read once, and strings without escapes are borrowed. Data that is JSON stays the very
//! text that it was; only after the last member is it known what the data is, because the content type
//! may stand behind it.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Attribute, Event, Fault, SPEC_VERSION, Shape};

/// Reads one event.
pub fn parse(bytes: &[u8]) -> Result<Event<'_>, Fault> {
    let mut fault = None;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = One { fault: &mut fault, index: None }
        .deserialize(&mut reader)
        .and_then(|event| reader.end().map(|()| event));
    read.map_err(|error| fault.unwrap_or_else(|| broken(&error)))
}

/// Reads a list of at most `events_max` events.
pub fn parse_batch(bytes: &[u8], events_max: usize) -> Result<Vec<Event<'_>>, Fault> {
    let mut fault = None;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = reader
        .deserialize_seq(Many { fault: &mut fault, events_max })
        .and_then(|events| reader.end().map(|()| events));
    read.map_err(|error| fault.unwrap_or_else(|| broken(&error)))
}

fn broken(error: &serde_json::Error) -> Fault {
    Fault::new(
        "event",
        match error.classify() {
            serde_json::error::Category::Eof => "the JSON ends too early",
            serde_json::error::Category::Data => {
                "must be a JSON object (a batch: an array of them)"
            }
            _ => "is not JSON",
        },
    )
}

struct One<'f> {
    fault: &'f mut Option<Fault>,
    index: Option<usize>,
}

struct Many<'f> {
    fault: &'f mut Option<Fault>,
    events_max: usize,
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Event<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Event<'de>, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Event<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Event<'de>, M::Error> {
        let mut event = Event::default();
        let (mut version, mut data, mut base64) = (false, None, None);
        let mut read = || -> Result<Result<(), Fault>, M::Error> {
            while let Some(Text(name)) = map.next_key()? {
                let twice = Ok(Err(Fault::new(&name, "is there twice")));
                match &*name {
                    "data" => {
                        if data.replace(map.next_value::<&RawValue>()?.get()).is_some() {
                            return twice;
                        }
                    }
                    "data_base64" => match map.next_value()? {
                        Member::Null => {}
                        Member::Value(Attribute::Text(text)) if base64.is_none() => {
                            base64 = Some(text);
                        }
                        Member::Value(Attribute::Text(_)) => return twice,
                        _ => return Ok(Err(Fault::new(&name, "must be a string"))),
                    },
                    _ => match map.next_value()? {
                        Member::Null => {}
                        Member::Value(value) => {
                            version |= name == "specversion";
                            if let Err(fault) = event.set(name, value) {
                                return Ok(Err(fault));
                            }
                        }
                        Member::Other => {
                            let why = "must be a string, a boolean or a whole number of 32 bits";
                            return Ok(Err(Fault::new(&name, why)));
                        }
                    },
                }
            }
            Ok(Ok(()))
        };
        let checked = read()?
            .and_then(|()| {
                version.then_some(()).ok_or_else(|| Fault::new("specversion", "is required: 1.0"))
            })
            .and_then(|()| put_data(&mut event, data, base64))
            .and_then(|()| event.check());
        if let Err(fault) = checked {
            *self.fault = Some(Fault { index: self.index, ..fault });
            return Err(M::Error::custom(""));
        }
        Ok(event)
    }
}

fn put_data<'a>(
    event: &mut Event<'a>,
    data: Option<&'a str>,
    base64: Option<Cow<'a, str>>,
) -> Result<(), Fault> {
    event.data = match (data, base64) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            return Err(Fault::new("data_base64", "must not be there beside data"));
        }
        (None, Some(text)) => {
            let bytes =
                STANDARD.decode(text.as_bytes()).map_err(|_error: base64::DecodeError| {
                    Fault::new("data_base64", "is not base64")
                })?;
            Some(Cow::Owned(bytes))
        }
        (Some(raw), None) => {
            // Data without a content type is JSON, and other bindings have to be told so.
            if event.data_content_type.is_none() {
                event.data_content_type = Some(Cow::Borrowed("application/json"));
            }
            if event.shape() == Shape::Json {
                Some(Cow::Borrowed(raw.as_bytes()))
            } else if let Ok(Text(text)) = serde_json::from_str(raw) {
                Some(match text {
                    Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                    Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                })
            } else {
                let why = "must be a string, because datacontenttype is not JSON";
                return Err(Fault::new("data", why));
            }
        }
    };
    Ok(())
}

impl<'de> Visitor<'de> for Many<'_> {
    type Value = Vec<Event<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
        let mut events = Vec::new();
        while let Some(event) = {
            let index = Some(events.len());
            list.next_element_seed(One { fault: self.fault, index })?
        } {
            if events.len() == self.events_max {
                *self.fault = Some(Fault::new("event", "the batch holds too many events"));
                return Err(S::Error::custom(""));
            }
            events.push(event);
        }
        Ok(events)
    }
}

/// A string, borrowed if it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        reader.deserialize_str(Texts)
    }
}

/// The value of an attribute's member.
enum Member<'a> {
    Null,
    Value(Attribute<'a>),
    Other,
}

impl<'de> Deserialize<'de> for Member<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Member<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the value of an attribute")
            }

            fn visit_unit<E>(self) -> Result<Member<'de>, E> {
                Ok(Member::Null)
            }

            fn visit_bool<E>(self, set: bool) -> Result<Member<'de>, E> {
                Ok(Member::Value(Attribute::Bool(set)))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Member<'de>, E> {
                let small = i32::try_from(number).ok();
                Ok(small.map_or(Member::Other, |small| Member::Value(Attribute::Integer(small))))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Member<'de>, E> {
                let small = i32::try_from(number).ok();
                Ok(small.map_or(Member::Other, |small| Member::Value(Attribute::Integer(small))))
            }

            fn visit_f64<E>(self, _number: f64) -> Result<Member<'de>, E> {
                Ok(Member::Other)
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Member<'de>, E> {
                Ok(Member::Value(Attribute::Text(Cow::Borrowed(text))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Member<'de>, E> {
                Ok(Member::Value(Attribute::Text(Cow::Owned(text.to_owned()))))
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Member<'de>, M::Error> {
                use serde::de::IgnoredAny;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Member::Other)
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Member<'de>, S::Error> {
                while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Member::Other)
            }
        }
        reader.deserialize_any(Members)
    }
}

/// Appends one event.
pub fn write(event: &Event<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"specversion\":\"");
    out.extend_from_slice(SPEC_VERSION.as_bytes());
    out.push(b'"');
    let required = [("id", &event.id), ("source", &event.source), ("type", &event.kind)];
    for (name, value) in required {
        member(name, out);
        string(value, out);
    }
    let optional = [
        ("subject", &event.subject),
        ("time", &event.time),
        ("datacontenttype", &event.data_content_type),
        ("dataschema", &event.data_schema),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            member(name, out);
            string(value, out);
        }
    }
    for (name, value) in &event.extensions {
        member(name, out);
        match value {
            Attribute::Text(text) => string(text, out),
            Attribute::Bool(true) => out.extend_from_slice(b"true"),
            Attribute::Bool(false) => out.extend_from_slice(b"false"),
            Attribute::Integer(number) => {
                out.extend_from_slice(number.to_string().as_bytes());
            }
            Attribute::Binary(bytes) => base64(bytes, out),
        }
    }
    if let Some(data) = &event.data {
        match (event.shape(), std::str::from_utf8(data)) {
            (Shape::Json, Ok(text)) if serde_json::from_str::<&RawValue>(text).is_ok() => {
                member("data", out);
                out.extend_from_slice(data.trim_ascii());
            }
            (Shape::Text, Ok(text)) => {
                member("data", out);
                string(text, out);
            }
            _ => {
                member("data_base64", out);
                base64(data, out);
            }
        }
    }
    out.push(b'}');
}

fn member(name: &str, out: &mut Vec<u8>) {
    out.push(b',');
    string(name, out);
    out.push(b':');
}

/// Appends a string with its quotes, escaped where JSON demands it.
fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\') {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                b'0' + (byte >> 4),
                b"0123456789abcdef"[usize::from(byte & 15)],
            ]),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or_default();
    out.truncate(start + written);
    out.push(b'"');
}

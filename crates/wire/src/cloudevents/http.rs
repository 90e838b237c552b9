//! Events in HTTP's binary mode: an attribute is a field `ce-…`, the data is the body.
//!
//! What a field cannot carry as it is (controls, spaces, quotes, percent signs, and what is not ASCII) is
//! percent-encoded, by section 3.1.3.2 of the HTTP binding. Every attribute reads as text.

use std::borrow::Cow;

use super::{Attribute, Event, Fault, SPEC_VERSION, check_name};

const PREFIX: &str = "ce-";

/// Whether a request of these field names holds an event in binary mode.
pub fn is_event<'n>(names: impl IntoIterator<Item = &'n str>) -> bool {
    names.into_iter().any(|name| name.eq_ignore_ascii_case("ce-specversion"))
}

/// Reads an event from fields and a body. Fields that are no attributes are passed over. A body without
/// bytes and without a content type is no data.
pub fn parse<'a>(
    fields: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    body: &'a [u8],
) -> Result<Event<'a>, Fault> {
    let mut event = Event::default();
    let mut version = false;
    for (name, value) in fields {
        if name.eq_ignore_ascii_case("content-type") {
            let text = std::str::from_utf8(value).map_err(|_error: std::str::Utf8Error| {
                Fault::new("datacontenttype", "is not UTF-8")
            })?;
            event.set(Cow::Borrowed("datacontenttype"), Attribute::Text(text.trim().into()))?;
            continue;
        }
        let (Some(head), Some(rest)) = (name.get(..PREFIX.len()), name.get(PREFIX.len()..)) else {
            continue;
        };
        if !head.eq_ignore_ascii_case(PREFIX) {
            continue;
        }
        let name: Cow<'a, str> = if rest.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(rest.to_ascii_lowercase())
        } else {
            Cow::Borrowed(rest)
        };
        check_name(&name)?;
        if name == "datacontenttype" {
            return Err(Fault::new(&name, "is the field Content-Type in this mode"));
        }
        version |= name == "specversion";
        let value = decode(value).ok_or_else(|| Fault::new(&name, "is not UTF-8"))?;
        event.set(name, Attribute::Text(value))?;
    }
    if !version {
        return Err(Fault::new("specversion", "is required: the field ce-specversion, 1.0"));
    }
    if !body.is_empty() || event.data_content_type.is_some() {
        event.data = Some(Cow::Borrowed(body));
    }
    event.check()?;
    Ok(event)
}

/// Hands each field to `put`, its value encoded; the body is [`Event::data`].
pub fn write(event: &Event<'_>, mut put: impl FnMut(&str, &str)) {
    put("ce-specversion", SPEC_VERSION);
    put("ce-id", &encode(&event.id));
    put("ce-source", &encode(&event.source));
    put("ce-type", &encode(&event.kind));
    let optional = [
        ("ce-subject", &event.subject),
        ("ce-time", &event.time),
        ("ce-dataschema", &event.data_schema),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            put(name, &encode(value));
        }
    }
    let mut name = String::from(PREFIX);
    for (extension, value) in &event.extensions {
        name.truncate(PREFIX.len());
        name.push_str(extension);
        put(&name, &encode(&value.canonical()));
    }
    if let Some(content_type) = &event.data_content_type {
        put("content-type", content_type);
    }
}

impl Attribute<'_> {
    /// The value as a string, by the type system's canonical encodings.
    pub fn canonical(&self) -> Cow<'_, str> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
            Self::Integer(number) => Cow::Owned(number.to_string()),
            Self::Binary(bytes) => Cow::Owned(STANDARD.encode(bytes)),
        }
    }
}

/// Percent-encodes what may not stand in a field.
pub fn encode(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| (0x21..0x7f).contains(&b) && b != b'"' && b != b'%';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if plain(byte) {
            out.push(byte.into());
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(b"0123456789ABCDEF"[usize::from(digit)].into());
            }
        }
    }
    Cow::Owned(out)
}

/// Takes quotes off and percent-encoding back; `None` if the result is not UTF-8. A percent sign that
/// no two hexadecimal digits follow stays what it is.
pub fn decode(value: &[u8]) -> Option<Cow<'_, str>> {
    let value = value.trim_ascii();
    let quoted = value.len() >= 2 && value.starts_with(b"\"") && value.ends_with(b"\"");
    let inner = if quoted { &value[1..value.len() - 1] } else { value };
    let escaped = quoted && inner.contains(&b'\\');
    if !escaped && !inner.contains(&b'%') {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    let digit = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16)).map(|d| d as u8);
    let mut out = Vec::with_capacity(inner.len());
    let mut at = 0;
    while let Some(byte) = inner.get(at) {
        at += 1;
        match (*byte, digit(inner.get(at)), digit(inner.get(at + 1))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 2;
            }
            (b'\\', ..) if quoted => {
                out.extend(inner.get(at));
                at += 1;
            }
            (byte, ..) => out.push(byte),
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

//! CloudEvents 1.0: the event, and its bindings to JSON, HTTP and AMQP.
//!
//! By the CloudEvents specification 1.0.2 and its JSON format, HTTP and AMQP bindings. An [`Event`]
//! borrows what it can from the bytes it was read from. Its data is always what a binary binding would
//! carry as the body; whether that is JSON, text or bytes follows from the content type, so that an
//! event keeps its meaning through any chain of bindings. Times and URIs stay the text they came as:
//! a text binding could not tell them from strings, and nothing is lost by keeping them.
//!
//! Invariants: an event that was read has passed [`Event::check`]; a [`Fault`] names the attribute.

pub mod amqp;
pub mod http;
pub mod json;

use std::borrow::Cow;

/// The version of the specification that every event here has.
pub const SPEC_VERSION: &str = "1.0";
/// The media type of one event in JSON.
pub const STRUCTURED: &str = "application/cloudevents+json";
/// The media type of a list of events in JSON.
pub const BATCH: &str = "application/cloudevents-batch+json";
/// The most extension attributes an event may have.
pub const EXTENSIONS_MAX: usize = 64;
/// The longest name of an attribute. The specification asks for at most 20.
pub const NAME_BYTES_MAX: usize = 128;

/// An event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event<'a> {
    /// Identifies the event among those of its source.
    pub id: Cow<'a, str>,
    /// Where it happened: a URI reference.
    pub source: Cow<'a, str>,
    /// What happened: the attribute `type`.
    pub kind: Cow<'a, str>,
    /// What it happened to, within the source.
    pub subject: Option<Cow<'a, str>>,
    /// When it happened: RFC 3339, as it came.
    pub time: Option<Cow<'a, str>>,
    /// The media type of the data.
    pub data_content_type: Option<Cow<'a, str>>,
    /// The schema of the data: a URI.
    pub data_schema: Option<Cow<'a, str>>,
    /// Further attributes, in the order they came, each name once.
    pub extensions: Vec<(Cow<'a, str>, Attribute<'a>)>,
    /// What a binary binding carries as its body. Absent is not the same as empty.
    pub data: Option<Cow<'a, [u8]>>,
}

/// The value of an extension attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute<'a> {
    /// A string, a URI, a URI reference or a timestamp: they look the same on the wire.
    Text(Cow<'a, str>),
    /// A boolean.
    Bool(bool),
    /// A whole number of 32 bits.
    Integer(i32),
    /// Bytes; base64 in text bindings, where they read as [`Attribute::Text`].
    Binary(Cow<'a, [u8]>),
}

/// What is wrong with an event, and with which attribute of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{attribute}: {why}")]
pub struct Fault {
    /// The attribute, `data`, or `event` if it is the whole.
    pub attribute: String,
    /// What is wrong with it.
    pub why: &'static str,
    /// Which event of a batch, from 0.
    pub index: Option<usize>,
}

impl Fault {
    fn new(attribute: &str, why: &'static str) -> Self {
        let cut = attribute.floor_char_boundary(NAME_BYTES_MAX);
        Self { attribute: attribute[..cut].to_owned(), why, index: None }
    }
}

/// What a body holds, by its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The data alone; the attributes are elsewhere.
    Binary,
    /// One event.
    Structured,
    /// A list of events.
    Batch,
}

impl Mode {
    /// The mode that a content type asks for; `None` for a CloudEvents format other than JSON.
    pub fn of(content_type: &str) -> Option<Self> {
        let essence = essence(content_type);
        let cloud = b"application/cloudevents";
        if essence.eq_ignore_ascii_case(STRUCTURED)
            || essence.as_bytes().eq_ignore_ascii_case(cloud)
        {
            return Some(Self::Structured);
        }
        if essence.eq_ignore_ascii_case(BATCH) {
            return Some(Self::Batch);
        }
        let head = essence.as_bytes().get(..cloud.len()).unwrap_or_default();
        (!head.eq_ignore_ascii_case(cloud)).then_some(Self::Binary)
    }
}

/// How data is best shown in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As the JSON value that it is.
    Json,
    /// As a string.
    Text,
    /// As base64.
    Binary,
}

impl Shape {
    /// What a media type says about its content.
    pub fn of(content_type: Option<&str>) -> Self {
        let Some(content_type) = content_type else { return Self::Binary };
        let essence = essence(content_type);
        let ends = |suffix: &str| {
            essence.len() >= suffix.len()
                && essence.as_bytes()[essence.len() - suffix.len()..]
                    .eq_ignore_ascii_case(suffix.as_bytes())
        };
        if ends("/json") || ends("+json") {
            Self::Json
        } else if ends("/xml")
            || ends("+xml")
            || essence.as_bytes().get(..5).is_some_and(|head| head.eq_ignore_ascii_case(b"text/"))
        {
            Self::Text
        } else {
            Self::Binary
        }
    }
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

impl<'a> Event<'a> {
    /// Whether every attribute is as the specification wants it.
    pub fn check(&self) -> Result<(), Fault> {
        let required = [("id", &self.id), ("source", &self.source), ("type", &self.kind)];
        for (name, value) in required {
            if value.is_empty() {
                return Err(Fault::new(name, "is required and must not be empty"));
            }
            text(name, value)?;
        }
        uri("source", &self.source)?;
        let optional = [
            ("subject", &self.subject),
            ("time", &self.time),
            ("datacontenttype", &self.data_content_type),
            ("dataschema", &self.data_schema),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                if value.is_empty() {
                    return Err(Fault::new(name, "must not be empty when it is there"));
                }
                text(name, value)?;
            }
        }
        if self.time.as_deref().is_some_and(|time| !is_rfc3339(time)) {
            return Err(Fault::new(
                "time",
                "is not a time of RFC 3339, such as 2026-01-02T15:04:05Z",
            ));
        }
        if let Some(content_type) = &self.data_content_type
            && !is_media_type(content_type)
        {
            return Err(Fault::new("datacontenttype", "is not a media type, such as text/plain"));
        }
        if let Some(schema) = &self.data_schema {
            uri("dataschema", schema)?;
        }
        if self.extensions.len() > EXTENSIONS_MAX {
            return Err(Fault::new("event", "has more than 64 extension attributes"));
        }
        for (index, (name, value)) in self.extensions.iter().enumerate() {
            check_name(name)?;
            if self.extensions[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(Fault::new(name, "is there twice"));
            }
            if let Attribute::Text(value) = value {
                text(name, value)?;
            }
        }
        Ok(())
    }

    /// The same event, borrowing from nothing.
    pub fn into_owned(self) -> Event<'static> {
        fn own<T: ToOwned + ?Sized>(value: Cow<'_, T>) -> Cow<'static, T> {
            Cow::Owned(value.into_owned())
        }
        Event {
            id: own(self.id),
            source: own(self.source),
            kind: own(self.kind),
            subject: self.subject.map(own),
            time: self.time.map(own),
            data_content_type: self.data_content_type.map(own),
            data_schema: self.data_schema.map(own),
            extensions: self
                .extensions
                .into_iter()
                .map(|(name, value)| {
                    let value = match value {
                        Attribute::Text(text) => Attribute::Text(own(text)),
                        Attribute::Binary(bytes) => Attribute::Binary(own(bytes)),
                        Attribute::Bool(set) => Attribute::Bool(set),
                        Attribute::Integer(number) => Attribute::Integer(number),
                    };
                    (own(name), value)
                })
                .collect(),
            data: self.data.map(own),
        }
    }

    /// The value of an extension attribute.
    pub fn extension(&self, name: &str) -> Option<&Attribute<'a>> {
        self.extensions.iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// How its data is best shown in JSON, by its content type alone.
    pub fn shape(&self) -> Shape {
        Shape::of(self.data_content_type.as_deref())
    }

    /// Sets an attribute by its name on the wire. `twice` if it was set before.
    fn set(&mut self, name: Cow<'a, str>, value: Attribute<'a>) -> Result<(), Fault> {
        let slot = match &*name {
            "id" => return fill(&mut self.id, &name, value),
            "source" => return fill(&mut self.source, &name, value),
            "type" => return fill(&mut self.kind, &name, value),
            "subject" => &mut self.subject,
            "time" => &mut self.time,
            "datacontenttype" => &mut self.data_content_type,
            "dataschema" => &mut self.data_schema,
            "specversion" => {
                return match value {
                    Attribute::Text(version) if version == SPEC_VERSION => Ok(()),
                    _ => Err(Fault::new("specversion", "must be 1.0")),
                };
            }
            _ => {
                if self.extensions.len() == EXTENSIONS_MAX {
                    return Err(Fault::new("event", "has more than 64 extension attributes"));
                }
                self.extensions.push((name, value));
                return Ok(());
            }
        };
        let mut taken = slot.take().unwrap_or_default();
        fill(&mut taken, &name, value)?;
        *slot = Some(taken);
        Ok(())
    }
}

fn fill<'a>(slot: &mut Cow<'a, str>, name: &str, value: Attribute<'a>) -> Result<(), Fault> {
    if !slot.is_empty() {
        return Err(Fault::new(name, "is there twice"));
    }
    let Attribute::Text(text) = value else {
        return Err(Fault::new(name, "must be a string"));
    };
    *slot = text;
    Ok(())
}

fn check_name(name: &str) -> Result<(), Fault> {
    let fits = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !fits {
        return Err(Fault::new(name, "is no name of an attribute: use a-z and 0-9"));
    }
    if matches!(name, "data" | "data_base64") {
        return Err(Fault::new(name, "is no name of an attribute: it is reserved"));
    }
    Ok(())
}

/// A string without control characters and noncharacters, as the type system asks.
fn text(name: &str, value: &str) -> Result<(), Fault> {
    if value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Ok(());
    }
    let forbidden = |c: char| {
        c.is_control() || matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
    };
    if value.chars().any(forbidden) {
        return Err(Fault::new(name, "holds a control character"));
    }
    Ok(())
}

fn uri(name: &str, value: &str) -> Result<(), Fault> {
    if value.is_empty() || value.bytes().any(|b| b == b' ' || b == b'<' || b == b'>' || b == b'"') {
        return Err(Fault::new(name, "is not a URI reference"));
    }
    Ok(())
}

fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    essence(text).split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub))
}

/// `2026-01-02T15:04:05.123Z` or with `+01:00`; a leap second is taken, any number of decimals.
fn is_rfc3339(text: &str) -> bool {
    let Some((fixed, mut rest)) = text.as_bytes().split_first_chunk::<19>() else { return false };
    let number = |from: usize, length: usize| {
        fixed[from..from + length]
            .iter()
            .try_fold(0u32, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u32::from(b - b'0')))
    };
    let shape = fixed[4] == b'-'
        && fixed[7] == b'-'
        && matches!(fixed[10], b'T' | b't' | b' ')
        && fixed[13] == b':'
        && fixed[16] == b':';
    let (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) =
        (number(0, 4), number(5, 2), number(8, 2), number(11, 2), number(14, 2), number(17, 2))
    else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => 31,
    };
    if !shape
        || !(1..=12).contains(&month)
        || !(1..=days).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return false;
    }
    if let Some(decimals) = rest.strip_prefix(b".") {
        let digits = decimals.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return false;
        }
        rest = &decimals[digits..];
    }
    match rest {
        b"Z" | b"z" => true,
        [b'+' | b'-', a, b, b':', c, d] => {
            [a, b, c, d].iter().all(|b| b.is_ascii_digit())
                && (*a, *b) <= (b'2', if *a == b'2' { b'3' } else { b'9' })
                && *c <= b'5'
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;

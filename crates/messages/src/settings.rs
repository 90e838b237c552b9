//! What topics, queues, subscriptions and schedules are told, and how they tell it.
//!
//! Each has one [`Section`] that says the names, units, ranges, defaults and meanings of its settings. The
//! configuration file, the API in what it takes and what it shows, the command line and the reference
//! are views of it. What is read is whole: nothing is left to be filled in behind it. What is told can be
//! said again as it is.

pub mod queue;
pub mod schedule;
pub mod subscription;
pub mod topic;

use std::{collections::HashSet, fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use weft_kernel::{ByteSize, Error, Reason, Result, format_duration, parse_duration};
use weft_ledger::Durability;

use crate::schema::{self, Fault, Object, Section, Shape};

/// A year, in milliseconds: the bound of what is waited for.
pub(crate) const YEAR_MS: u64 = 366 * 86_400_000;
/// A century, in milliseconds: the bound of what is kept.
pub(crate) const AGES_MS: u64 = 36_500 * 86_400_000;
/// The largest message of a topic or of a queue that is declared here: what HTTP carries.
pub const MESSAGE_MAX: ByteSize = ByteSize(16 << 20);

/// A body whose shape is known.
pub(crate) trait Body: DeserializeOwned {
    /// What it may be: an object.
    const SHAPE: &'static Shape;

    /// Takes from the text what a value does not keep of it.
    fn with_text(&mut self, _body: &[u8]) {}
}

/// The settings of a thing that is declared.
pub trait Settings: DeserializeOwned + Serialize + Clone + Send + Sync + 'static {
    /// Their definition.
    const SECTION: &'static Section;

    /// What is wrong with them that their shapes cannot say.
    fn faults(&self) -> Vec<Fault>;

    /// Reads a value that fits the shape of the section; what is left out has its default.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place.
    fn read(value: Value) -> Result<Self, Vec<Fault>> {
        let shape = const { &Shape::Section(Self::SECTION) };
        let faults = schema::faults(shape, &value);
        if !faults.is_empty() {
            return Err(faults);
        }
        let whole: Self = serde_json::from_value(schema::complete(shape, value))
            .map_err(|error| vec![Fault::said(&[], error.to_string())])?;
        let faults = whole.faults();
        if faults.is_empty() { Ok(whole) } else { Err(faults) }
    }
}

/// A body that says nothing.
#[derive(Debug, Deserialize)]
pub(crate) struct Nothing {}

impl Body for Nothing {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[]));
}

/// Reads a JSON body; an empty one is an empty object.
///
/// # Errors
/// [`Reason::MalformedRequest`] that says where the faults are.
pub(crate) fn read<T: Body>(body: &[u8]) -> Result<T> {
    let refuse = |say: String| Error::new(Reason::MalformedRequest, say);
    let body = body.trim_ascii();
    let body = if body.is_empty() { b"{}" } else { body };
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| refuse(format!("the body is not JSON: {error}")))?;
    if !value.is_object() {
        return Err(refuse("the body is not a JSON object".into()));
    }
    schema::check(T::SHAPE, &value).map_err(refuse)?;
    let unread = |error| {
        let say = "the body cannot be read: a member is there twice, or a number is out of range";
        refuse(say.into()).because(error)
    };
    // A member that is there twice is one that a value does not show.
    serde_json::from_slice::<Distinct>(body).map_err(unread)?;
    let mut read: T = serde_json::from_value(schema::complete(T::SHAPE, value)).map_err(unread)?;
    read.with_text(body);
    Ok(read)
}

/// What the faults of settings say, as the error of a request.
pub(crate) fn refuse(faults: &[Fault]) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = faults.iter().map(Fault::text).collect();
    Err(Error::new(Reason::MalformedRequest, told.join("; ")))
}

/// The faults that the broker finds in options, by the settings that are meant.
fn of_broker(checked: Result<()>) -> Vec<Fault> {
    let Err(error) = checked else { return Vec::new() };
    error
        .said()
        .split("; ")
        .map(|fault| match fault.split_once(": ") {
            Some((option, cause)) => match option {
                "message_bytes_max" => Fault::said(&["message_max"], cause),
                "failures_max" => Fault::said(&["retry", "failures_max"], cause),
                "ephemeral" => Fault::said(&["expires"], cause),
                "target" => Fault::said(&["push", "service"], cause),
                option if option.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => {
                    Fault::said(&[option], cause)
                }
                _ => Fault::said(&[], fault),
            },
            None => Fault::said(&[], fault),
        })
        .collect()
}

/// In what two declarations differ: each setting with both of its values.
pub(crate) fn differences<T: Serialize>(is: &T, asked: &T) -> String {
    fn walk(place: &str, is: &Value, asked: &Value, told: &mut Vec<String>) {
        match (is, asked) {
            _ if is == asked => {}
            (Value::Object(is), Value::Object(asked)) => {
                let names: HashSet<&String> = is.keys().chain(asked.keys()).collect();
                let mut names: Vec<&String> = names.into_iter().collect();
                names.sort_unstable();
                for name in names {
                    let place =
                        if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                    let at = |of: &serde_json::Map<String, Value>| {
                        of.get(name).cloned().unwrap_or_default()
                    };
                    walk(&place, &at(is), &at(asked), told);
                }
            }
            _ => told.push(format!("`{place}` is {is} and not {asked}")),
        }
    }
    let mut told = Vec::new();
    if let (Ok(is), Ok(asked)) = (serde_json::to_value(is), serde_json::to_value(asked)) {
        walk("", &is, &asked, &mut told);
    }
    told.join(", ")
}

/// JSON in which no object has a member twice.
struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(DistinctVisitor)
    }
}

struct DistinctVisitor;

impl<'de> Visitor<'de> for DistinctVisitor {
    type Value = Distinct;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Distinct, A::Error> {
        let mut seen = HashSet::new();
        while let Some((name, Distinct)) = map.next_entry::<String, _>()? {
            if !seen.insert(name) {
                return Err(A::Error::custom("a member is there twice"));
            }
        }
        Ok(Distinct)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Distinct, A::Error> {
        while seq.next_element::<Distinct>()?.is_some() {}
        Ok(Distinct)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_str<E>(self, _: &str) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_unit<E>(self) -> Result<Distinct, E> {
        Ok(Distinct)
    }
}

/// A duration: `"30s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        parse_duration(&text).map(Self).map_err(D::Error::custom)
    }
}

/// A number of bytes: `"64KiB"`, or a bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&ByteSize(self.0).to_string())
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::String(text) => {
                text.parse().map(|size: ByteSize| Self(size.0)).map_err(D::Error::custom)
            }
            Value::Number(number) => number
                .as_u64()
                .map(Self)
                .ok_or_else(|| D::Error::custom("a size is a whole number of bytes")),
            _ => Err(D::Error::custom("a size is a text such as \"64KiB\", or a number of bytes")),
        }
    }
}

/// Something, or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch<T> {
    /// `"off"`.
    Off,
    /// The thing itself.
    On(T),
}

impl<T> Switch<T> {
    /// The thing, if there is one.
    pub fn on(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::On(thing) => Some(thing),
        }
    }
}

impl<T> From<Option<T>> for Switch<T> {
    fn from(thing: Option<T>) -> Self {
        thing.map_or(Self::Off, Self::On)
    }
}

impl<T: Serialize> Serialize for Switch<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => to.serialize_str("off"),
            Self::On(thing) => thing.serialize(to),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Switch<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::String(text) if text == "off" => Ok(Self::Off),
            Value::Bool(false) => Ok(Self::Off),
            other => serde_json::from_value(other).map(Self::On).map_err(D::Error::custom),
        }
    }
}

/// When a message is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is on the disk.
    Fsync,
    /// The operating system has it.
    Os,
    /// It is in memory.
    Memory,
}

impl From<Level> for Durability {
    fn from(level: Level) -> Self {
        match level {
            Level::Fsync => Self::Fsync,
            Level::Os => Self::Os,
            Level::Memory => Self::Memory,
        }
    }
}

impl From<Durability> for Level {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Fsync => Self::Fsync,
            Durability::Os => Self::Os,
            Durability::Memory => Self::Memory,
        }
    }
}

#[cfg(test)]
mod tests;

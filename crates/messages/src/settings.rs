//! What topics, queues, subscriptions and schedules are told in JSON, and how they tell it.
//!
//! The names and the units are those of the configuration file, and so are the defaults; what is not
//! known is refused. The same types are read and written, so that an answer can be sent back as it is.

pub(crate) mod queue;
pub(crate) mod schedule;
pub(crate) mod subscription;
pub(crate) mod topic;

use std::time::Duration;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;
use weft_kernel::{ByteSize, Error, Reason, Result, format_duration, parse_duration};
use weft_ledger::Durability;

use crate::schema::{self, Object, Shape};

/// A year, in milliseconds: the bound of what is waited for.
pub(crate) const YEAR_MS: u64 = 366 * 86_400_000;
/// A century, in milliseconds: the bound of what is kept.
pub(crate) const AGES_MS: u64 = 36_500 * 86_400_000;

/// A body whose shape is known.
pub(crate) trait Body: DeserializeOwned {
    /// What it may be: an object.
    const SHAPE: &'static Shape;
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
/// [`Reason::MalformedRequest`] that says where the fault is.
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
    // What passes the shape can be read, but for a member that is there twice, which a value does not show.
    serde_json::from_slice(body).map_err(|error| {
        let say = "the body cannot be read: a member is there twice, or a number is out of range";
        refuse(say.into()).because(error)
    })
}

/// Reads what is there, or the default for null.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// A thing that one of its members can stand for, as in the configuration.
pub(crate) trait Short: DeserializeOwned {
    /// The member.
    const MEMBER: &'static str;
}

/// Reads a thing, or the member that stands for it.
pub(crate) fn short<'de, D: Deserializer<'de>, T: Short>(from: D) -> Result<Option<T>, D::Error> {
    let whole = match Value::deserialize(from)? {
        Value::Null => return Ok(None),
        whole @ Value::Object(_) => whole,
        member => {
            [(T::MEMBER.to_owned(), member)].into_iter().collect::<serde_json::Map<_, _>>().into()
        }
    };
    serde_json::from_value(whole).map(Some).map_err(D::Error::custom)
}

/// A duration: `"30s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

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
pub(crate) struct Size(pub(crate) u64);

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
pub(crate) enum Switch<T> {
    /// `"off"`.
    Off,
    /// The thing itself.
    On(T),
}

impl<T> Switch<T> {
    /// The thing, if there is one.
    pub(crate) fn on(self) -> Option<T> {
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

impl<'de, T: serde::de::DeserializeOwned> Deserialize<'de> for Switch<T> {
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
pub(crate) enum Level {
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

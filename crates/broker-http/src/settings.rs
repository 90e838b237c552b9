//! What topics, queues, subscriptions and schedules are told, and how they tell it.
//!
//! Each has one `Section` that says the names, units, ranges, defaults and meanings of its settings. The
//! configuration file, the API in what it takes and what it shows, the command line and the reference
//! are views of it. What is read is whole: nothing is left to be filled in behind it. What is told can be
//! said again as it is.

pub mod queue;
pub mod schedule;
pub mod subscription;
pub mod topic;

use std::{collections::HashSet, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;
use weft_broker::engine::{EMBEDDED, Lack};
use weft_kernel::{ByteSize, Result, format_duration, parse_duration};
use weft_ledger::Durability;

use weft_api::Settings;

use crate::schema::{self, Fault, Shape};

/// A year, in milliseconds: the bound of what is waited for.
pub(crate) const YEAR_MS: u64 = 366 * 86_400_000;
/// A century, in milliseconds: the bound of what is kept.
pub(crate) const AGES_MS: u64 = 36_500 * 86_400_000;
/// The largest message of a topic: what HTTP carries.
pub const MESSAGE_MAX: ByteSize = ByteSize(16 << 20);
/// The largest message of a queue that has a bound: what AMQP carries, with its properties.
pub const QUEUE_MESSAGE_MAX: ByteSize = ByteSize(129 << 20);

/// The engine that a setting names, as options have it.
fn engine(name: &str) -> Option<String> {
    (name != EMBEDDED).then(|| name.to_owned())
}

/// The setting that stands for an option of the broker; none for what is no option.
fn setting_of(option: &str) -> Option<Vec<&str>> {
    Some(match option {
        "message_bytes_max" => vec!["message_max"],
        "message_ttl" => vec!["ttl"],
        "failures_max" => vec!["retry", "failures_max"],
        "ephemeral" => vec!["expires"],
        "target" => vec!["push", "service"],
        option if option.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => {
            vec![option]
        }
        _ => return None,
    })
}

/// The faults that the broker finds in options, by the settings that are meant.
fn of_broker(checked: Result<()>) -> Vec<Fault> {
    let Err(error) = checked else { return Vec::new() };
    let fault_of = |fault: &str| {
        let known = fault.split_once(": ").and_then(|(option, cause)| {
            setting_of(option).map(|setting| Fault::said(&setting, cause))
        });
        known.unwrap_or_else(|| Fault::said(&[], fault))
    };
    error.said().split("; ").map(fault_of).collect()
}

/// What settings ask for and their engine does not have.
pub fn faults_of_lacks(engine: &str, lacks: &[Lack]) -> Vec<Fault> {
    let fault_of = |lack: &Lack| {
        let setting = match lack.option {
            // It is a queue that messages are moved to; pushing is not the engine's.
            "target" => vec!["queue"],
            "retry" => vec!["retry", "first"],
            "keep_unread" => vec!["retention", "keep_unread"],
            option => setting_of(option).unwrap_or_default(),
        };
        Fault::said(&setting, lack.cause(engine)).help(
            "take the setting back, or write what does without: `off`, `none`, or `0s` for a delay",
        )
    };
    lacks.iter().map(fault_of).collect()
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

/// Tells settings as the section that defines them does.
macro_rules! described {
    ($($Settings:ty),*) => {$(
        impl schemars::JsonSchema for $Settings {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Settings).rsplit("::").next().unwrap_or_default().trim().into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let shape = const { &Shape::Section(<$Settings as Settings>::SECTION) };
                schemars::Schema::try_from(schema::published(shape)).unwrap_or_default()
            }
        }
    )*};
}

described!(
    topic::TopicSettings,
    queue::QueueSettings,
    subscription::SubscriptionSettings,
    schedule::ScheduleSettings
);

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

//! YAML as a tree in which every node knows its place.
//!
//! Scalars stay text: the setting that reads one decides what it is, so `port: "80"` and `port: 80`
//! mean the same and `version: 1.10` never becomes 1.1. Only what takes any value at all, such as the body
//! of a message, asks whether a scalar stands in quotes ([`Text::value`]). Aliases are expanded here, under a budget
//! that an alias bomb hits long before memory does.

mod parse;

use std::sync::Arc;

use serde_json::{Number, Value};

pub use self::parse::parse;
pub(crate) use self::parse::parse_alone;
pub(super) use self::parse::{parse_built_in, parse_cut};
use super::source::Place;

/// The deepest nesting.
pub const DEPTH_MAX: usize = 64;
/// The most nodes of a file, aliases expanded.
pub const NODES_MAX: usize = 2_000_000;
/// The most nodes that aliases may add to a file.
pub const ALIASED_MAX: usize = 200_000;

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it stands; of a map or list, its beginning.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Nothing: `~`, `null`, or no text at all.
    Null,
    /// A scalar.
    Text(Text),
    /// A list.
    List(Vec<Node>),
    /// A map; keys are distinct.
    Map(Vec<(Key, Node)>),
    /// Something that was already reported; whoever reads it stays silent.
    Bad,
}

/// A scalar.
#[derive(Clone, Debug)]
pub struct Text {
    /// Its text, variables replaced.
    pub text: Arc<str>,
    /// The variable that it was taken from, if it was.
    pub variable: Option<Arc<str>>,
    /// Whether it stands without quotes: what takes any value tells `5` from `"5"` by it.
    pub plain: bool,
}

impl Text {
    /// A text that is one whatever it holds.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), variable: None, plain: false }
    }

    /// What it is where any value may be: a number or a truth value if it stands without quotes and reads as
    /// one in JSON. A whole number beyond 64 bits, of which digits would be lost, stays text.
    pub fn value(&self) -> Value {
        let read = match &*self.text {
            _ if !self.plain => None,
            "True" | "TRUE" => Some(true.into()),
            "False" | "FALSE" => Some(false.into()),
            text => serde_json::from_str(text).ok(),
        };
        let rounded = |number: &Number| number.is_f64() && !self.text.contains(['.', 'e', 'E']);
        match read {
            Some(Value::Number(number)) if !rounded(&number) => number.into(),
            Some(Value::Bool(truth)) => truth.into(),
            _ => Value::String(self.text.to_string()),
        }
    }
}

/// A key of a map.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its text.
    pub text: Arc<str>,
    /// Where it stands.
    pub place: Place,
}

impl Node {
    /// A node that stands in no file.
    pub fn built_in(kind: Kind) -> Self {
        Self { place: Place::BUILT_IN, kind }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(k, _)| *k.text == *key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(&text.text),
            _ => None,
        }
    }

    /// The entries of a map.
    pub fn entries(&self) -> &[(Key, Self)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// What it is, for a message.
    pub fn about(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".into(),
            Kind::Text(text) => {
                let short: String = text.text.chars().take(60).collect();
                let more = if short.len() < text.text.len() { "…" } else { "" };
                format!("`{short}{more}`")
            }
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
            Kind::Bad => "something unreadable".into(),
        }
    }

    /// Whether it holds the same, wherever it stands.
    pub(super) fn reads_like(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Null, Kind::Null) => true,
            (Kind::Text(a), Kind::Text(b)) => a.text == b.text,
            (Kind::List(a), Kind::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.reads_like(b))
            }
            (Kind::Map(a), Kind::Map(b)) => {
                let same = |((key, a), (other, b)): (&(Key, Self), &(Key, Self))| {
                    key.text == other.text && a.reads_like(b)
                };
                a.len() == b.len() && a.iter().zip(b).all(same)
            }
            _ => false,
        }
    }

    /// How many values it holds, itself included.
    pub(super) fn count(&self) -> usize {
        1 + match &self.kind {
            Kind::List(items) => items.iter().map(Self::count).sum(),
            Kind::Map(entries) => entries.iter().map(|(_, value)| value.count()).sum::<usize>(),
            _ => 0,
        }
    }
}

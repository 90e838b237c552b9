//! YAML as a tree in which every node knows its place.
//!
//! Scalars stay text: the setting that reads one decides what it is, so `port: "80"` and `port: 80`
//! mean the same and `version: 1.10` never becomes 1.1. Only what takes any value at all, such as the body
//! of a message, asks whether a scalar stands in quotes ([`Node::json`]). Aliases are expanded here, under a budget
//! that an alias bomb hits long before memory does.

mod parse;
mod scalar;

use std::sync::Arc;

use serde_json::Value;

pub use self::parse::parse;
pub(crate) use self::parse::parse_alone;
pub(super) use self::parse::{parse_built_in, parse_cut};
use self::scalar::Scalar;
use super::{problem::Problem, source::Place};

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
    /// It as it is written, if a secret was put into it: what is shown in its place.
    pub written: Option<Arc<str>>,
    /// Whether it stands without quotes: what takes any value tells `5` from `"5"` by it.
    pub plain: bool,
}

impl Text {
    /// A text that is one whatever it holds.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), variable: None, written: None, plain: false }
    }

    /// A text that stands without quotes.
    pub fn plain(text: impl Into<Arc<str>>) -> Self {
        Self { plain: true, ..Self::new(text) }
    }

    /// What it is where any value may be, as JSON: a number or a truth value if it stands without quotes and
    /// is one by the core schema of YAML, else a text.
    ///
    /// # Errors
    /// Why JSON has no such number.
    pub fn json(&self) -> Result<String, &'static str> {
        match scalar::read(&self.text) {
            Scalar::Bool(truth) if self.plain => Ok(truth.to_string()),
            Scalar::Number(number) if self.plain => Ok(number),
            Scalar::Beyond(why) if self.plain => Err(why),
            _ => Ok(Value::from(&*self.text).to_string()),
        }
    }

    /// The same as a value, for what is asked of its kind alone: digits may be rounded.
    pub fn value(&self) -> Value {
        let read = self.json().ok().and_then(|json| serde_json::from_str(&json).ok());
        read.unwrap_or_else(|| Value::from(&*self.text))
    }
}

/// Whether a scalar without quotes would be read as a text that is no number.
pub fn is_plain_text(text: &str) -> bool {
    text.parse::<f64>().is_err() && scalar::read(text) == Scalar::Text
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

    /// A scalar as it is written, if a secret was put into it.
    pub fn written(&self) -> Option<&Arc<str>> {
        match &self.kind {
            Kind::Text(text) => text.written.as_ref(),
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

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        self.entries_mut().iter_mut().find(|(k, _)| *k.text == *key).map(|(_, value)| value)
    }

    /// The entries of a map, to be changed.
    pub fn entries_mut(&mut self) -> &mut [(Key, Self)] {
        match &mut self.kind {
            Kind::Map(entries) => entries,
            _ => &mut [],
        }
    }

    /// What it is where any value may be, as JSON, digit for digit.
    ///
    /// # Errors
    /// The number that JSON does not have, with its place; `None` if something in it was reported before.
    pub fn json(&self) -> Result<String, Option<Problem>> {
        let listed = |items: Vec<String>, open, close| format!("{open}{}{close}", items.join(","));
        Ok(match &self.kind {
            Kind::Bad => return Err(None),
            Kind::Null => "null".to_owned(),
            Kind::Text(text) => text.json().map_err(|why| {
                let problem = Problem::error(self.place, format!("`{}`: {why}", text.text));
                Some(problem.help("write it in quotes, and it is a text"))
            })?,
            Kind::List(items) => {
                let items = items.iter().map(Self::json).collect::<Result<_, _>>()?;
                listed(items, '[', ']')
            }
            Kind::Map(entries) => {
                let entry = |(key, node): &(Key, Self)| {
                    Ok(format!("{}:{}", Value::from(&*key.text), node.json()?))
                };
                listed(entries.iter().map(entry).collect::<Result<_, Option<Problem>>>()?, '{', '}')
            }
        })
    }

    /// The first whole number in it of which a [`Value`] keeps not every digit.
    pub fn too_long(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => {
                let json = text.json().ok()?;
                let is_whole = json.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
                let fits = json.parse::<i64>().is_ok() || json.parse::<u64>().is_ok();
                (is_whole && !fits).then_some(&*text.text)
            }
            Kind::List(items) => items.iter().find_map(Self::too_long),
            Kind::Map(entries) => entries.iter().find_map(|(_, node)| node.too_long()),
            Kind::Null | Kind::Bad => None,
        }
    }

    /// What it is, for a message.
    pub fn about(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".into(),
            Kind::Text(text) => {
                let text = text.written.as_ref().unwrap_or(&text.text);
                let short: String = text.chars().take(60).collect();
                let more = if short.len() < text.len() { "…" } else { "" };
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

    /// Moves it to where its text stands now, so many bytes on or back.
    pub(super) fn shift(&mut self, by: i64) {
        self.place = self.place.shifted(by);
        match &mut self.kind {
            Kind::List(items) => items.iter_mut().for_each(|item| item.shift(by)),
            Kind::Map(entries) => {
                for (key, value) in entries {
                    key.place = key.place.shifted(by);
                    value.shift(by);
                }
            }
            _ => {}
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

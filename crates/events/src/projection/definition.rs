//! Definitions of projections: which events, which documents, and what happens to these. Pure.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use weft_broker::filter::{EVENT, HEADERS, LookedAt};
use weft_expression::{Expression, Kind, Members, Object, Operand, Scope, Variables, Wanted};
use weft_kernel::{Error, Reason, Result};
use xxhash_rust::xxh3::xxh3_64;

use super::document::{Change, Document, Fault};
use crate::{
    event::Recorded,
    name::StreamName,
    query::{EventQuery, QueryItem, TYPES_MAX},
};

/// The longest key of a document, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// The most documents that an event is about.
pub const KEYS_MAX: usize = 64;
/// The most types of events of a definition, and the most fields that each changes.
pub const RULES_MAX: usize = 256;
/// The most items of a list, and those that it has unless more are said.
pub const ITEMS_MAX: u64 = 10_000;
/// Items of a list without a bound of its own.
pub const ITEMS: u64 = 1_000;
/// The key without one of its own: a document for each stream.
pub const KEY: &str = "stream.name";

/// Events of which a projection is folded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Of streams of this category.
    pub category: Option<String>,
    /// With all of these tags.
    pub tags: Vec<String>,
}

/// What an event of a type does to the documents that it is about. All expressions see these as they were before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Which documents, in the place of the key of the projection.
    pub key: Option<String>,
    /// Fields that get a value.
    pub set: BTreeMap<String, String>,
    /// Fields that a number is added to; they begin with nought.
    pub add: BTreeMap<String, String>,
    /// Lists that a value is put behind.
    pub append: BTreeMap<String, String>,
    /// Items that each list keeps, the newest.
    pub max: Option<u64>,
    /// Fields that go.
    pub remove: Vec<String>,
    /// Whether the document goes.
    pub delete: bool,
}

/// What is folded of which events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Which events; all of them if there is nothing.
    pub from: Vec<Source>,
    /// Which document an event is about: a text, a whole number, or a list of them.
    pub key: String,
    /// What events do, by their type.
    pub on: BTreeMap<String, Rule>,
}

impl Definition {
    /// What it is known again by.
    pub fn hash(&self) -> u64 {
        xxh3_64(self.text().as_bytes())
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Makes it ready for use.
    ///
    /// # Errors
    /// `malformed_request` with what is wrong, and where.
    pub fn compile(&self) -> Result<Compiled> {
        self.compile_as(false)
    }

    /// As [`Self::compile`], for one that was taken before, maybe by an earlier version.
    pub(super) fn compile_as(&self, declared: bool) -> Result<Compiled> {
        let wrong = |say: String| Error::new(Reason::MalformedRequest, say);
        if self.on.is_empty() || self.on.len() > RULES_MAX {
            return Err(wrong("a projection has 1 to 256 types of events in `on`".into()));
        }
        let compile = |at: &dyn std::fmt::Display, text: &str, scope: &'static Scope| {
            let compiled = match declared {
                true => Expression::compile_again(text, scope),
                false => Expression::compile(text, scope, Wanted::Any),
            };
            compiled.map_err(|why| wrong(format!("{at}: {why}")))
        };
        let key = compile(&"key", &self.key, &KEY_SCOPE)?;
        let mut rules = BTreeMap::new();
        for (kind, rule) in &self.on {
            let at = |what: &str| format!("on.{kind}.{what}");
            let key = rule.key.as_deref().map(|key| compile(&at("key"), key, &KEY_SCOPE));
            let mut steps = Vec::new();
            for (of, make) in [
                (&rule.set, Step::Set as fn(Expression) -> Step),
                (&rule.add, Step::Add),
                (&rule.append, Step::Append),
            ] {
                for (field, text) in of {
                    steps.push((field.clone(), make(compile(&at(field), text, &CHANGE_SCOPE)?)));
                }
            }
            steps.extend(rule.remove.iter().map(|field| (field.clone(), Step::Remove)));
            let mut fields: Vec<_> = steps.iter().map(|(field, _)| field).collect();
            fields.sort_unstable();
            if let Some(twice) = fields.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(wrong(format!("on.{kind}: `{}` is changed twice", twice[0])));
            }
            if rule.delete != steps.is_empty() || steps.len() > RULES_MAX {
                let say = "deletes the document, or changes 1 to 256 fields of it";
                return Err(wrong(format!("on.{kind}: an event {say}")));
            }
            let items = rule.max.unwrap_or(ITEMS);
            if !(1..=ITEMS_MAX).contains(&items) {
                return Err(wrong(format!("on.{kind}.max: a list keeps 1 to 10000 items")));
            }
            let items = usize::try_from(items).unwrap_or(usize::MAX);
            rules.insert(kind.clone(), Steps { key: key.transpose()?, steps, items });
        }
        let types: Vec<String> = self.on.keys().cloned().collect();
        let types = if types.len() > TYPES_MAX { Vec::new() } else { types };
        let item = |from: &Source| QueryItem {
            types: types.clone(),
            tags: from.tags.clone(),
            category: from.category.clone(),
            ..QueryItem::default()
        };
        let mut items: Vec<_> = self.from.iter().map(item).collect();
        if items.is_empty() {
            items.push(item(&Source::default()));
        }
        // Of a great many types of all events there is nothing to ask the index for.
        let query = match items.contains(&QueryItem::default()) {
            true => None,
            false => Some(EventQuery::new(items)?),
        };
        let is_by_stream = self.key == KEY && self.on.values().all(|rule| rule.key.is_none());
        Ok(Compiled { key, rules, query, is_by_stream })
    }
}

enum Step {
    Set(Expression),
    Add(Expression),
    Append(Expression),
    Remove,
}

struct Steps {
    key: Option<Expression>,
    steps: Vec<(String, Step)>,
    items: usize,
}

/// A definition that is ready for use.
pub struct Compiled {
    key: Expression,
    rules: BTreeMap<String, Steps>,
    query: Option<EventQuery>,
    /// Whether there is a document for each stream, of its events alone.
    is_by_stream: bool,
}

impl Compiled {
    /// The events that it may be about; `None` for all of them.
    pub const fn query(&self) -> Option<&EventQuery> {
        self.query.as_ref()
    }

    /// The events that a document may be folded of, where that is fewer than [`Self::query`] gives.
    pub(super) fn of_stream(&self, key: &str) -> Option<EventQuery> {
        let stream = StreamName::new(key).ok().filter(|_| self.is_by_stream)?;
        EventQuery::new(vec![QueryItem { stream: Some(stream), ..QueryItem::default() }]).ok()
    }

    /// The documents that an event is about, each once; none if it does nothing.
    ///
    /// # Errors
    /// That its key cannot be worked out.
    pub fn keys(&self, event: &Recorded) -> Result<Vec<String>, Fault> {
        use serde_json::Value;
        let Some(rule) = self.rule(event) else { return Ok(Vec::new()) };
        let Some(seen) = Seen::of(event, None) else { return Ok(Vec::new()) };
        let key = rule.key.as_ref().unwrap_or(&self.key);
        let value = key.json(&seen).map_err(|failure| Fault::new(format!("key: {failure}")))?;
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        if values.len() > KEYS_MAX {
            return Err(Fault::new("key: an event is about 64 documents at most".into()));
        }
        let mut keys = Vec::with_capacity(values.len());
        for value in values {
            let key = match value {
                Value::String(text) => text,
                Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
                _ => return Err(Fault::new("key: it gives no text and no whole number".into())),
            };
            if key.is_empty() || key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) {
                let say = "key: a key has 1 to 512 bytes, and no control characters";
                return Err(Fault::new(say.into()));
            }
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// Applies an event to one of the documents that it is about: all of it, or nothing if it fails.
    ///
    /// # Errors
    /// Why it cannot be applied.
    pub fn apply(&self, event: &Recorded, document: &mut Option<Document>) -> Result<(), Fault> {
        let Some(Steps { steps, items, .. }) = self.rule(event) else { return Ok(()) };
        if steps.is_empty() {
            *document = None;
            return Ok(());
        }
        let Some(seen) = Seen::of(event, document.as_ref()) else { return Ok(()) };
        let (mut changes, mut removed) = (Vec::with_capacity(steps.len()), Vec::new());
        for (field, step) in steps {
            let value = |of: &Expression| {
                of.json(&seen).map_err(|failure| Fault::new(format!("{field}: {failure}")))
            };
            let change = match step {
                Step::Set(of) => Change::Set(value(of)?),
                Step::Add(of) => Change::Add(value(of)?),
                Step::Append(of) => Change::Append(value(of)?, *items),
                Step::Remove => {
                    removed.push(field.as_str());
                    continue;
                }
            };
            changes.push((field.as_str(), change));
        }
        match document {
            Some(document) => document.change(changes, &removed, event.position),
            None => {
                let mut new = Document::default();
                new.change(changes, &removed, event.position)?;
                *document = Some(new);
                Ok(())
            }
        }
    }

    fn rule(&self, event: &Recorded) -> Option<&Steps> {
        self.rules.get(event.message.event()?.kind())
    }
}

const VARIABLES: [(&str, Kind); 4] = [
    ("event", Kind::Object(&EVENT)),
    ("headers", Kind::Object(&HEADERS)),
    ("data", Kind::Any),
    ("stream", Kind::Object(&STREAM)),
];

static KEY_SCOPE: Scope = Scope { variables: &VARIABLES, budget: 1_000_000 };

static CHANGE_SCOPE: Scope = Scope {
    variables: &[
        VARIABLES[0],
        VARIABLES[1],
        VARIABLES[2],
        VARIABLES[3],
        ("document", Kind::Object(&DOCUMENT)),
    ],
    budget: 1_000_000,
};

static STREAM: Object = Object {
    fields: &[
        ("name", Kind::Text),
        ("category", Kind::Text),
        ("id", Kind::Text),
        ("version", Kind::Uint),
        ("position", Kind::Uint),
    ],
    others: None,
    check: weft_expression::scope::any_name,
};

pub(super) static DOCUMENT: Object =
    Object { fields: &[], others: Some(Kind::Any), check: weft_expression::scope::any_name };

/// An event, and the document that it is about, as their variables.
struct Seen<'a> {
    message: LookedAt<'a>,
    stream: Stream<'a>,
    document: Option<&'a Document>,
}

impl<'a> Seen<'a> {
    fn of(event: &'a Recorded, document: Option<&'a Document>) -> Option<Self> {
        Some(Self { message: LookedAt::of(&event.message)?, stream: Stream(event), document })
    }
}

impl Variables for Seen<'_> {
    fn variable(&self, name: &str) -> Option<Operand<'_>> {
        match name {
            "stream" => Some(Operand::Object(&self.stream)),
            "document" => Some(match self.document {
                Some(document) => Operand::Object(document),
                None => Operand::Object(&Nothing),
            }),
            name => self.message.variable(name),
        }
    }
}

/// The document that is not there yet.
struct Nothing;

impl Members for Nothing {
    fn get(&self, _: &str) -> Option<Operand<'_>> {
        None
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        Vec::new()
    }
}

struct Stream<'a>(&'a Recorded);

impl Members for Stream<'_> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        let Recorded { stream, version, position, .. } = self.0;
        Some(match name {
            "name" => Operand::Text(stream.as_str().into()),
            "category" => Operand::Text(stream.category().into()),
            // What has no hyphen is its own category, and its own id.
            "id" => {
                let name = stream.as_str();
                Operand::Text(name.split_once('-').map_or(name, |(_, id)| id).into())
            }
            "version" => Operand::Uint(*version),
            "position" => Operand::Uint(*position),
            _ => return None,
        })
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        STREAM.fields.iter().map(|(name, _)| Cow::Borrowed(*name)).collect()
    }
}

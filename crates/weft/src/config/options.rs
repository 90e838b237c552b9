//! What topics, queues, subscriptions and schedules are told: a view of the definitions that the API has.
//!
//! Their tables are made of [`schema::Section`]s, and a section of the file is read by the very code that
//! reads a body of the API, so that both take the same, mean the same by it and refuse the same. What is
//! the file's own is that every scalar is a text, and that every fault has a place in it.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use weft_api::{
    Settings,
    schema::{self, Cause, Fault, Section, text::Kind as TextKind, typed},
};
use weft_kernel::{ByteSize, Name};

use super::{
    problem::{Problem, nearest},
    setting::{Absent, Cx, Field, Setting, Shape, Table},
    source::{Place, read_bounded},
    tree::{Kind, Node, parse_alone},
};

/// The largest file of options.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The options of a thing, with the places at which they stand.
#[derive(Clone, Debug)]
pub struct Options<T> {
    /// The options.
    pub settings: T,
    node: Node,
}

impl<T> Options<T> {
    /// Where an option stands, or else what it would stand in.
    pub fn place(&self, path: &[&str]) -> Place {
        let mut node = &self.node;
        for step in path {
            match node.get(step) {
                Some(inner) => node = inner,
                None => break,
            }
        }
        node.place
    }
}

impl<T: Settings> Options<T> {
    /// Reports a fault of theirs where it stands.
    pub fn report(&self, fault: &Fault, cx: &mut Cx) {
        report(fault, &self.node, T::SECTION, cx);
    }
}

impl<T: Settings> Setting for Options<T> {
    const ABSENT: Absent = Absent::Required;

    fn shape() -> Shape {
        Shape::Section(table(T::SECTION))
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let value = value(node, &schema::Shape::Section(T::SECTION))?;
        let text = free_text(node, T::SECTION, cx)?;
        match T::read_text(value, text.as_bytes()) {
            Ok(settings) if said_in_vain(node, T::SECTION, cx) => {
                Some(Self { settings, node: node.clone() })
            }
            Ok(_) => None,
            Err(faults) => {
                said_in_vain(node, T::SECTION, cx);
                for fault in &faults {
                    report(fault, node, T::SECTION, cx);
                }
                None
            }
        }
    }
}

/// The body of the API that a file in YAML or JSON stands for: options as a configuration has them below
/// the name, or what is shown of a thing, with its options in it.
///
/// # Errors
/// Why it cannot be read.
pub fn body_of(path: &Path, section: &'static Section) -> Result<Value, String> {
    let text = read_bounded(path, FILE_BYTES_MAX)?;
    let text = std::str::from_utf8(&text).map_err(|_error| "this file is not UTF-8")?;
    let node = parse_alone(text).ok_or("this file is not YAML")?;
    let node = node.get("options").unwrap_or(&node);
    let free = section.settings.iter().filter(|of| matches!(of.shape, schema::Shape::Any));
    for (name, free) in free.filter_map(|of| Some((of.name, node.get(of.name)?))) {
        check_free(free).map_err(|why| format!("`{name}`: {why}"))?;
    }
    match value(node, &schema::Shape::Section(section)) {
        Some(value @ Value::Object(_)) => Ok(value),
        Some(Value::Null) => Ok(Value::Object(serde_json::Map::new())),
        _ => Err(format!("expected a map of {} settings, found {}", section.name, node.about())),
    }
}

/// The JSON text of those options that may be any value, whose every digit counts; `None` if JSON does not
/// have what stands there, which is reported.
fn free_text(node: &Node, section: &'static Section, cx: &mut Cx) -> Option<String> {
    let mut members = Vec::new();
    let free = section.settings.iter().filter(|of| matches!(of.shape, schema::Shape::Any));
    for (name, value) in free.filter_map(|of| Some((of.name, node.get(of.name)?))) {
        match value.json() {
            Ok(json) => members.push(format!("\"{name}\":{json}")),
            Err(problem) => {
                problem.into_iter().for_each(|problem| cx.report(problem));
                return None;
            }
        }
    }
    Some(format!("{{{}}}", members.join(",")))
}

/// Checks that a value of a body is one that JSON has and that keeps its digits.
fn check_free(node: &Node) -> Result<(), String> {
    let why = match (node.json(), node.too_long()) {
        (Err(problem), _) => problem.map_or_else(|| "unreadable".to_owned(), |of| of.message),
        (Ok(_), Some(number)) => format!("`{number}`: a whole number of more than 64 bits"),
        (Ok(_), None) => return Ok(()),
    };
    Err(format!("{why}; write it in quotes, and it is a text"))
}

/// A value that a flag gives where any may be: what is JSON is meant as such, and else it is a text.
///
/// # Errors
/// That digits of a number would be lost.
pub fn free_value(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value) => {
            parse_alone(text).map_or(Ok(()), |node| check_free(&node))?;
            Ok(value)
        }
        Err(_text) => Ok(text.into()),
    }
}

/// Reports options that mean something only at the moment at which they are said; whether there are none.
fn said_in_vain(node: &Node, section: &'static Section, cx: &mut Cx) -> bool {
    let before = cx.problems.len();
    for (key, _) in node.entries() {
        if section.setting(&key.text).is_some_and(|setting| setting.moment) {
            let say = format!(
                "`{}` counts from when it is said, and a file says it at each start",
                key.text
            );
            cx.report(Problem::error(key.place, say).help("make it over the API, or by command"));
        }
    }
    cx.problems.len() == before
}

/// A node as JSON, its scalars as what they are asked for; `None` if something in it was reported before.
fn value(node: &Node, shape: &schema::Shape) -> Option<Value> {
    Some(match &node.kind {
        Kind::Bad => return None,
        // A scalar alone is the very text; within lists and maps it is what it is in YAML.
        Kind::List(_) | Kind::Map(_) if matches!(shape, schema::Shape::Any) => any(node)?,
        Kind::Null => Value::Null,
        Kind::Text(text) => typed(shape, &text.text),
        Kind::List(items) => {
            let item = match shape {
                schema::Shape::List(item, ..) | schema::Shape::Many(item, _) => item,
                _ => &schema::Shape::Any,
            };
            items.iter().map(|node| value(node, item)).collect::<Option<_>>()?
        }
        Kind::Map(entries) => {
            let inner = |key: &str| match shape.within() {
                schema::Shape::Section(section) => {
                    section.setting(key).map_or(&schema::Shape::Any, |setting| &setting.shape)
                }
                schema::Shape::Map(item) => item,
                _ => &schema::Shape::Any,
            };
            let entry = |(key, node): &(super::tree::Key, Node)| {
                Some((key.text.to_string(), value(node, inner(&key.text))?))
            };
            Value::Object(entries.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}

/// A node as JSON where nothing is asked for.
fn any(node: &Node) -> Option<Value> {
    Some(match &node.kind {
        Kind::Bad => return None,
        Kind::Null => Value::Null,
        Kind::Text(text) => text.value(),
        Kind::List(items) => items.iter().map(any).collect::<Option<_>>()?,
        Kind::Map(entries) => {
            let entry =
                |(key, node): &(super::tree::Key, Node)| Some((key.text.to_string(), any(node)?));
            Value::Object(entries.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}

/// Reports a fault where it stands.
fn report(fault: &Fault, node: &Node, section: &'static Section, cx: &mut Cx) {
    let mut at = At { node: Some(node), key: node.place, outer: node.place, section, shape: None };
    for step in &fault.place {
        at = at.inner(step);
    }
    let last = fault.place.last().map_or("", String::as_str);
    let place = at.node.map_or(at.outer, |node| node.place);
    match &fault.cause {
        Cause::Unknown(known) => cx.report(
            Problem::error(at.key, format!("{} has no key `{last}`", at.section.name))
                .near(last, known.iter().copied()),
        ),
        Cause::Missing(_) => {
            let about = at.section.setting(last).map_or("", |setting| setting.about);
            cx.report(Problem::error(at.outer, format!("`{last}` is missing")).help(about));
        }
        Cause::Expected(what) => {
            let Some(node) = at.node else {
                return cx.report(Problem::error(place, format!("expected {what}")));
            };
            let near = match (at.shape.map(schema::Shape::within), node.text()) {
                (Some(schema::Shape::Choice(words)), Some(text)) => {
                    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                    nearest(text, &words).map(str::to_owned)
                }
                _ => None,
            };
            let problem = Problem::error(place, format!("expected {what}, found {}", node.about()));
            cx.report(match near {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem,
            });
        }
        Cause::Rule(rule) => cx.report(Problem::error(place, *rule)),
        Cause::Said(cause, remedy) => {
            let problem = Problem::error(place, cause.clone());
            cx.report(match remedy {
                Some(remedy) => problem.help(remedy.clone()),
                None => problem,
            });
        }
    }
}

/// A place in a section, on the way to a fault.
struct At<'n> {
    /// What stands there, if anything does.
    node: Option<&'n Node>,
    /// The key by which it was come to.
    key: Place,
    /// What it stands in, or would.
    outer: Place,
    /// The section that it is a key of, or is.
    section: &'static Section,
    /// What it may be, once that is not the section itself.
    shape: Option<&'static schema::Shape>,
}

impl<'n> At<'n> {
    fn inner(self, step: &str) -> Self {
        let outer = self.node.map_or(self.outer, |node| node.place);
        let section = match self.shape.map(schema::Shape::within) {
            Some(schema::Shape::Section(inner)) => *inner,
            _ => self.section,
        };
        let shape = match self.shape.map(schema::Shape::within) {
            None | Some(schema::Shape::Section(_)) => {
                section.setting(step).map(|setting| &setting.shape)
            }
            Some(schema::Shape::Map(item) | schema::Shape::List(item, ..)) => Some(*item),
            Some(schema::Shape::Many(item, _)) => Some(*item),
            Some(_) => None,
        };
        let found = self.node.and_then(|node| match &node.kind {
            Kind::Map(entries) => {
                let entry = entries.iter().find(|(key, _)| *key.text == *step);
                entry.map(|(key, node)| (key.place, node))
            }
            Kind::List(items) => {
                items.get(step.parse::<usize>().ok()?).map(|node| (node.place, node))
            }
            // A bare value stands for the one that is short for all.
            _ => (section.short == Some(step)).then_some((node.place, node)),
        });
        Self {
            node: found.map(|(_, node)| node),
            key: found.map_or(outer, |(key, _)| key),
            outer,
            section,
            shape: shape.or(Some(&schema::Shape::Any)),
        }
    }
}

/// The table of a section; made once, and the same one ever after.
pub fn table(section: &'static Section) -> &'static Table {
    static TABLES: LazyLock<Mutex<BTreeMap<&'static str, &'static Table>>> =
        LazyLock::new(Mutex::default);
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    tables.entry(section.name).or_insert_with(|| {
        let field = |setting: &'static schema::Setting| {
            let (absent, default) = match (setting.absent, &setting.shape) {
                (schema::Absent::Required, _) => (Absent::Required, None),
                (schema::Absent::Unset, _) => (Absent::Unset, None),
                (schema::Absent::Empty, schema::Shape::Section(_)) => (Absent::Defaults, None),
                (schema::Absent::Empty, _) => (Absent::Empty, None),
                (schema::Absent::Default(text), _) => (Absent::Required, Some(text)),
            };
            Field {
                key: setting.name,
                about: setting.about,
                shape: Box::leak(Box::new(|| shape(&setting.shape))),
                absent,
                default,
            }
        };
        let in_files = section.settings.iter().filter(|setting| !setting.moment);
        Box::leak(Box::new(Table {
            name: section.name,
            about: section.about,
            short: section.short,
            fields: Vec::leak(in_files.map(field).collect()),
            with: None,
        }))
    })
}

/// What an option may be in a file.
pub fn shape(of: &'static schema::Shape) -> Shape {
    match of {
        schema::Shape::Bool => Shape::Bool,
        schema::Shape::Int(min, max) => Shape::Int { min: *min, max: *max },
        schema::Shape::Number(min, max) => Shape::Number { min: *min, max: *max },
        schema::Shape::Share => Shape::Number { min: 0.0, max: 1.0 },
        schema::Shape::Text(kind) => text(kind),
        schema::Shape::Choice(words) => Shape::Words(words),
        schema::Shape::Span(..) => Duration::shape(),
        schema::Shape::Size(_) | schema::Shape::SizeTo(_) => ByteSize::shape(),
        schema::Shape::Off(inner) => Shape::Switch(Box::new(shape(inner))),
        schema::Shape::Either(forms) => Shape::Either(forms.iter().map(shape).collect()),
        schema::Shape::List(item, ..) => Shape::List(Box::new(shape(item))),
        schema::Shape::Many(item, _) => Shape::Many(Box::new(shape(item))),
        schema::Shape::Map(item) => Shape::Map { key: "text", value: Box::new(shape(item)) },
        schema::Shape::Section(section) => Shape::Section(table(section)),
        schema::Shape::Any => Shape::Any,
        // These are for bodies of the API alone.
        schema::Shape::Words(_) | schema::Shape::Object(_) | schema::Shape::Declared(..) => {
            Shape::Text { what: "text", pattern: None }
        }
    }
}

fn text(kind: &'static TextKind) -> Shape {
    // The pattern of a kind may be narrower than what is taken, which an editor would complain of.
    match kind.word {
        "path" => Shape::Text { what: "path", pattern: Some("^/") },
        "service" => Name::shape(),
        word => Shape::Text { what: word, pattern: None },
    }
}

//! YAML as JSON values, with every scalar as text: what a number is decides whoever reads it, so that a
//! version of 1.10 stays one.
//!
//! Anchors, aliases and tags are refused: a list of endpoints needs none, and without them a text is no
//! larger read than written.

use granit_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// The deepest nesting.
const DEPTH_MAX: usize = 32;

enum Open {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

/// Reads one document.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let options = granit_parser::options! { emit_comments: false };
    let parser: Parser<'_, StrInput<'_>> = Parser::new_from_str_with_options(text, options);
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    for next in parser {
        let (event, span) = next.map_err(|error| {
            format!("line {}: this is not YAML: {}", error.marker().line(), error.info())
        })?;
        let at = |what: &str| format!("line {}: {what}", span.start.line());
        let value = match event {
            Event::DocumentStart(..) if root.is_some() => {
                return Err(at("a second document begins here"));
            }
            Event::Alias(_) => return Err(at("aliases are not used here: write it out")),
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(_, anchor, _)
            | Event::MappingStart(_, anchor, _)
                if anchor != 0 =>
            {
                return Err(at("anchors are not used here"));
            }
            Event::Scalar(text, style, _, _) => {
                let null = style == ScalarStyle::Plain
                    && ["", "~", "null", "Null", "NULL"].contains(&&*text);
                if null { Value::Null } else { Value::String(text.into_owned()) }
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() >= DEPTH_MAX {
                    return Err(at("this is nested too deep"));
                }
                open.push(match event {
                    Event::SequenceStart(..) => Open::List(Vec::new()),
                    _ => Open::Map(Map::new(), None),
                });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(items)) => Value::Array(items),
                Some(Open::Map(entries, _)) => Value::Object(entries),
                None => continue,
            },
            _ => continue,
        };
        match open.last_mut() {
            None => root = Some(value),
            Some(Open::List(items)) => items.push(value),
            Some(Open::Map(entries, key)) => match (key.take(), value) {
                (None, Value::String(text)) => {
                    if entries.contains_key(&text) {
                        return Err(at(&format!("`{text}` stands twice")));
                    }
                    *key = Some(text);
                }
                (None, _) => return Err(at("a key must be text")),
                (Some(key), value) => {
                    entries.insert(key, value);
                }
            },
        }
    }
    root.filter(|root| !root.is_null()).ok_or_else(|| "the file holds nothing".to_owned())
}

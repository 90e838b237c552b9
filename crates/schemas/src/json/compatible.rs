//! Whether a reader with one JSON Schema takes everything that fits another, by what the schemas say.
//!
//! The kinds of issues are Confluent's, and so is the idea of content models: in an open one any property may
//! stand, so that one which is added may have been there already, as something else; in a closed one only those
//! that are named. What cannot be seen to fit is told as an issue.

mod arrays;
mod combined;
mod objects;
mod values;

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Schema;
use crate::issue::{DEPTH_MAX, Findings, Issue, Newer};

/// What keeps a reader from taking what fits a writer's schema.
pub(crate) fn issues(reader: &Schema, writer: &Schema, newer: Newer) -> Vec<Issue> {
    let mut pair = Pair {
        reader,
        writer,
        known: HashMap::new(),
        regexes: HashMap::new(),
        findings: Findings::new(newer),
    };
    let (new, old) = (reader.documents.root(), writer.documents.root());
    pair.compare(At { document: 0, value: new }, At { document: 0, value: old }, "#", 0);
    pair.findings.issues
}

/// A schema, with the document that its references begin in.
#[derive(Clone, Copy)]
struct At<'a> {
    document: usize,
    value: &'a Value,
}

impl<'a> At<'a> {
    /// A schema of the same document.
    fn of(self, value: &'a Value) -> Self {
        Self { value, ..self }
    }

    fn object(self) -> Option<&'a Map<String, Value>> {
        self.value.as_object()
    }

    fn get(self, key: &str) -> Option<Self> {
        self.value.get(key).map(|value| self.of(value))
    }

    fn number(self, key: &str) -> Option<f64> {
        self.value.get(key).and_then(Value::as_f64)
    }

    /// Whether it takes anything.
    fn is_any(self) -> bool {
        const SAYING: &[&str] = &[
            "title",
            "description",
            "default",
            "examples",
            "$id",
            "$comment",
            "$schema",
            "$defs",
            "definitions",
        ];
        match self.value {
            Value::Bool(true) => true,
            Value::Object(object) => object.keys().all(|key| SAYING.contains(&key.as_str())),
            _ => false,
        }
    }
}

struct Pair<'a> {
    reader: &'a Schema,
    writer: &'a Schema,
    /// Pairs of places that were compared, or are being, and whether they fit.
    known: HashMap<(*const Value, *const Value), bool>,
    /// Patterns of names that were made lately; `None` for what cannot be made.
    regexes: HashMap<&'a str, Option<regex::Regex>>,
    findings: Findings,
}

impl<'a> Pair<'a> {
    /// Compares a new schema with an old one; what does not fit is found.
    fn compare(&mut self, new: At<'a>, old: At<'a>, path: &str, depth: usize) {
        if depth > DEPTH_MAX {
            self.findings.give_up();
            return;
        }
        if !self.findings.step() || !self.findings.spend(path.len() / 16) {
            return;
        }
        let (new, new_moved) = followed(self.reader, new, &mut self.findings);
        let (old, old_moved) = followed(self.writer, old, &mut self.findings);
        if !new_moved && !old_moved {
            self.compare_here(new, old, path, depth);
            return;
        }
        let pair: (*const Value, *const Value) = (new.value, old.value);
        if self.known.get(&pair) == Some(&true) {
            return;
        }
        self.known.insert(pair, true);
        let mark = self.findings.mark();
        self.compare_here(new, old, path, depth);
        let fits = !self.findings.since(mark);
        self.known.insert(pair, fits);
    }

    fn compare_here(&mut self, new: At<'a>, old: At<'a>, path: &str, depth: usize) {
        let (reads, _) = self.words();
        if new.is_any() || *old.value == Value::Bool(false) {
            return;
        }
        if *new.value == Value::Bool(false) {
            self.add("TYPE_CHANGED", path, format!("the {reads} schema takes nothing"));
            return;
        }
        // The same text is the same schema, unless it refers to something.
        if std::ptr::eq(new.value, old.value) {
            return;
        }
        if !self.types(new, old, path) {
            return;
        }
        self.values(new, old, path);
        self.objects(new, old, path, depth);
        self.arrays(new, old, path, depth);
        self.combined(new, old, path, depth);
    }

    /// Whether one fits, without telling why not.
    fn fits(&mut self, new: At<'a>, old: At<'a>, path: &str, depth: usize) -> bool {
        let mark = self.findings.mark();
        self.compare(new, old, path, depth + 1);
        let fits = !self.findings.since(mark);
        self.findings.undo(mark);
        fits
    }

    /// What the reader's schema is called, and the writer's.
    fn words(&self) -> (&'static str, &'static str) {
        (self.findings.reader(), self.findings.writer())
    }

    fn add(&mut self, kind: &'static str, path: &str, said: impl Into<String>) {
        self.findings.add(kind, path, said);
    }

    /// Whether types overlap, so that the rest is worth a look.
    fn types(&mut self, new: At<'a>, old: At<'a>, path: &str) -> bool {
        let (reads, wrote) = self.words();
        let Some(takes) = types(self.reader, new, 0, &mut self.findings) else { return true };
        let were = types(self.writer, old, 0, &mut self.findings).unwrap_or(ALL);
        let left = were & !takes;
        if left == 0 {
            return true;
        }
        let kind = match were & takes == 0 || were == ALL {
            true => "TYPE_CHANGED",
            false => "TYPE_NARROWED",
        };
        let said = format!(
            "the {reads} schema does not take {}, which the {wrote} one takes",
            words(left)
        );
        self.add(kind, path, said);
        false
    }
}

/// A schema that is only a reference is what it refers to.
fn followed<'a>(schema: &'a Schema, mut at: At<'a>, findings: &mut Findings) -> (At<'a>, bool) {
    let mut moved = false;
    // Siblings of `$ref` count from draft 2019-09 on; they are looked at when the reference stands alone.
    for _ in 0..32 {
        let Some(object) = at.object() else { break };
        let reference = super::resolve::REFERENCES.iter().find_map(|key| object.get(*key));
        let Some(reference) = reference.and_then(Value::as_str) else { break };
        if !findings.spend(4 + reference.len() / 16) {
            break;
        }
        let Some((document, value)) = schema.documents.resolve(at.document, reference) else {
            break;
        };
        at = At { document, value };
        moved = true;
    }
    (at, moved)
}

const TYPES: &[&str] = &["null", "boolean", "object", "array", "string", "integer", "number"];
const ALL: u8 = 0b111_1111;
const INTEGER: u8 = 1 << 5;
const NUMBER: u8 = 1 << 6;

fn words(bits: u8) -> String {
    let all = TYPES.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
    all.map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
}

/// The types of what a schema takes, where it says so.
fn types<'a>(schema: &'a Schema, at: At<'a>, depth: usize, findings: &mut Findings) -> Option<u8> {
    if depth > 8 || !findings.spend(2) {
        return None;
    }
    let (at, _) = followed(schema, at, findings);
    let of = |word: &Value| {
        let bit =
            TYPES.iter().position(|known| word.as_str() == Some(known)).map_or(0, |at| 1 << at);
        // Whoever takes numbers takes whole ones.
        if bit == NUMBER { NUMBER | INTEGER } else { bit }
    };
    match at.value.get("type") {
        Some(Value::Array(all)) => return Some(all.iter().map(of).fold(0, |all, one| all | one)),
        Some(word) => return Some(of(word)),
        None => {}
    }
    let valued = |value: &Value| match value {
        Value::Null => 1,
        Value::Bool(_) => 1 << 1,
        Value::Object(_) => 1 << 2,
        Value::Array(_) => 1 << 3,
        Value::String(_) => 1 << 4,
        Value::Number(number) if number.is_f64() => NUMBER,
        Value::Number(_) => INTEGER,
    };
    if let Some(all) = at.value.get("enum").and_then(Value::as_array) {
        if !findings.spend(all.len() / 4) {
            return None;
        }
        return Some(all.iter().map(valued).fold(0, |all, one| all | one));
    }
    if let Some(value) = at.value.get("const") {
        return Some(valued(value));
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(all) = at.value.get(key).and_then(Value::as_array) {
            let each = all.iter().map(|one| types(schema, at.of(one), depth + 1, findings));
            return each.collect::<Option<Vec<u8>>>().map(|all| all.iter().fold(0, |a, b| a | b));
        }
    }
    let all = at.value.get("allOf").and_then(Value::as_array)?;
    let each = all.iter().filter_map(|one| types(schema, at.of(one), depth + 1, findings));
    each.reduce(|all, one| all & one)
}

/// The work of hashing a value, or of comparing it with another.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => 1 + text.len() / 16,
        Value::Array(all) => 1 + all.iter().map(weight).sum::<usize>(),
        Value::Object(all) => {
            1 + all.iter().map(|(name, of)| 1 + name.len() / 16 + weight(of)).sum::<usize>()
        }
        _ => 1,
    }
}

#[cfg(test)]
#[path = "compatible_tests.rs"]
mod tests;

//! Schema resolution of Avro: whether a reader with one schema reads everything that was written with another.
//!
//! The rules are those of the specification, "Schema Resolution"; kinds of issues have the names that Avro's and
//! Confluent's tools give them. A pair of named types is compared once; while it is, it is taken to fit, so that
//! recursion ends.

use std::collections::HashMap;

use super::{Body, Decimal, Field, Named, Schema, Type};
use crate::issue::{DEPTH_MAX, Findings, Issue, Newer};

/// What keeps a reader from reading what a writer wrote.
pub(crate) fn issues(reader: &Schema, writer: &Schema, newer: Newer) -> Vec<Issue> {
    let mut pair = Pair { reader, writer, known: HashMap::new(), findings: Findings::new(newer) };
    pair.compare(&reader.root, &writer.root, "", 0);
    pair.findings.issues
}

struct Pair<'a> {
    reader: &'a Schema,
    writer: &'a Schema,
    /// Pairs of named types that were compared, or are being, and whether they fit.
    known: HashMap<(usize, usize), bool>,
    findings: Findings,
}

impl<'a> Pair<'a> {
    /// Compares types; what does not fit is found.
    fn compare(&mut self, reader: &'a Type, writer: &'a Type, path: &str, depth: usize) {
        if depth > DEPTH_MAX {
            self.findings.give_up();
            return;
        }
        if !self.findings.step() || !self.findings.spend(path.len() / 16) {
            return;
        }
        match (reader, writer) {
            (Type::Bytes(Some(reads)), Type::Bytes(Some(wrote))) => {
                self.decimals(*reads, *wrote, path);
            }
            (Type::Union(reads), Type::Union(branches)) => {
                let same: HashMap<&str, &Type> = reads
                    .iter()
                    .filter_map(|branch| Some((name(self.reader, branch)?, branch)))
                    .collect();
                for (at, branch) in branches.iter().enumerate() {
                    if self.findings.is_over() {
                        return;
                    }
                    let path = format!("{path}/{at}");
                    // The branch of the same name first, as resolution does: it is mostly that.
                    let same = name(self.writer, branch).and_then(|name| same.get(name));
                    self.branch(reads, same.copied(), branch, &path, depth);
                }
            }
            (_, Type::Union(branches)) => {
                for branch in branches {
                    if self.findings.is_over() {
                        return;
                    }
                    self.compare(reader, branch, path, depth + 1);
                }
            }
            (Type::Union(reads), _) => self.branch(reads, None, writer, path, depth),
            (Type::Array(reader), Type::Array(writer)) => {
                self.compare(reader, writer, &format!("{path}/items"), depth + 1);
            }
            (Type::Map(reader), Type::Map(writer)) => {
                self.compare(reader, writer, &format!("{path}/values"), depth + 1);
            }
            (Type::Named(from), Type::Named(to)) => self.named(*from, *to, path, depth),
            (reader, writer) if promotes(reader, writer) => {}
            (reader, writer) => {
                let (reader, writer) = (self.reader.word(reader), self.writer.word(writer));
                let said =
                    format!("reader type: {reader} not compatible with writer type: {writer}");
                self.findings.add("TYPE_MISMATCH", path, said);
            }
        }
    }

    /// Whether a branch of a reader's union reads what was written.
    fn branch(
        &mut self,
        branches: &'a [Type],
        first: Option<&'a Type>,
        writer: &'a Type,
        path: &str,
        depth: usize,
    ) {
        let mark = self.findings.mark();
        for branch in first.into_iter().chain(branches) {
            if self.findings.is_over() {
                return;
            }
            self.compare(branch, writer, path, depth + 1);
            if !self.findings.since(mark) {
                return;
            }
            self.findings.undo(mark);
        }
        let word = self.writer.word(writer);
        let said = format!("reader union lacking writer type: {word}");
        self.findings.add("MISSING_UNION_BRANCH", path, said);
    }

    fn named(&mut self, from: usize, to: usize, path: &str, depth: usize) {
        if let Some(fits) = self.known.get(&(from, to)) {
            if !fits {
                let name = &self.reader.named[from].name;
                self.findings.add(
                    "TYPE_MISMATCH",
                    path,
                    format!("{name} does not fit, as told before"),
                );
            }
            return;
        }
        self.known.insert((from, to), true);
        let mark = self.findings.mark();
        let (reader, writer) = (&self.reader.named[from], &self.writer.named[to]);
        match (&reader.body, &writer.body) {
            (Body::Record(fields), Body::Record(written)) => {
                self.names(reader, writer, path);
                self.fields(fields, written, path, depth);
            }
            (Body::Enum { symbols, default }, Body::Enum { symbols: written, .. }) => {
                self.names(reader, writer, path);
                let missing: Vec<&str> = match default {
                    Some(_) => Vec::new(),
                    None => {
                        if !self.findings.spend(written.len() * 4) {
                            return;
                        }
                        let missing = written.iter().filter(|symbol| !symbols.contains(*symbol));
                        missing.map(String::as_str).take(20).collect()
                    }
                };
                if !missing.is_empty() {
                    let path = format!("{path}/symbols");
                    let said = format!(
                        "the {} schema is missing enum symbols [{}], and has no default",
                        self.findings.reader(),
                        missing.join(", ")
                    );
                    self.findings.add("MISSING_ENUM_SYMBOLS", &path, said);
                }
            }
            (
                Body::Fixed { size, decimal },
                Body::Fixed { size: written, decimal: written_decimal },
            ) => {
                self.names(reader, writer, path);
                if size != written {
                    let said = format!("expected: {written}, found: {size}");
                    self.findings.add("FIXED_SIZE_MISMATCH", &format!("{path}/size"), said);
                }
                if let (Some(reads), Some(wrote)) = (decimal, written_decimal) {
                    self.decimals(*reads, *wrote, path);
                }
            }
            _ => {
                let words =
                    (self.reader.word(&Type::Named(from)), self.writer.word(&Type::Named(to)));
                let said = format!(
                    "reader type: {} not compatible with writer type: {}",
                    words.0, words.1
                );
                self.findings.add("TYPE_MISMATCH", path, said);
            }
        }
        let fits = !self.findings.since(mark);
        self.known.insert((from, to), fits);
    }

    /// Decimals are read as one another if they have the same digits ("Decimal" of the specification).
    fn decimals(&mut self, reads: Decimal, wrote: Decimal, path: &str) {
        for (what, reads, wrote) in
            [("precision", reads.precision, wrote.precision), ("scale", reads.scale, wrote.scale)]
        {
            if reads != wrote {
                let said = format!("the {what} of the decimal: expected: {wrote}, found: {reads}");
                self.findings.add("TYPE_MISMATCH", &format!("{path}/{what}"), said);
            }
        }
    }

    fn names(&mut self, reader: &Named, writer: &Named, path: &str) {
        if reader.short() != writer.short() && !reader.aliases.contains(&writer.name) {
            let said = format!("expected: {}", writer.name);
            self.findings.add("NAME_MISMATCH", &format!("{path}/name"), said);
        }
    }

    fn fields(&mut self, fields: &'a [Field], written: &'a [Field], path: &str, depth: usize) {
        if !self.findings.spend((fields.len() + written.len()) * 4) {
            return;
        }
        let by_name: HashMap<&str, &Field> =
            written.iter().map(|field| (field.name.as_str(), field)).collect();
        for (at, field) in fields.iter().enumerate() {
            if !self.findings.spend(field.aliases.len() + path.len() / 16) {
                return;
            }
            let names = std::iter::once(&field.name).chain(&field.aliases);
            let found = names.into_iter().find_map(|name| by_name.get(name.as_str()));
            if let Some(writer) = found {
                self.compare(&field.of, &writer.of, &format!("{path}/fields/{at}/type"), depth + 1);
                continue;
            }
            let enum_default = match &field.of {
                Type::Named(at) => {
                    matches!(self.reader.named[*at].body, Body::Enum { default: Some(_), .. })
                }
                _ => false,
            };
            if !field.has_default && !enum_default {
                let path = format!("{path}/fields/{at}");
                let said = format!(
                    "The field '{}' at path '{path}' in the {} schema has no default value and is missing in the {} schema",
                    field.name,
                    self.findings.reader(),
                    self.findings.writer()
                );
                self.findings.add("READER_FIELD_MISSING_DEFAULT_VALUE", &path, said);
            }
        }
    }
}

/// Whether what was written as one type is read as another.
fn promotes(reader: &Type, writer: &Type) -> bool {
    reader == writer
        || matches!(
            (reader, writer),
            (Type::Long, Type::Int)
                | (Type::Float, Type::Int | Type::Long)
                | (Type::Double, Type::Int | Type::Long | Type::Float)
                | (Type::Bytes(_), Type::Bytes(_) | Type::String)
                | (Type::String, Type::Bytes(_))
        )
}

/// The name of a named type.
fn name<'a>(schema: &'a Schema, of: &Type) -> Option<&'a str> {
    match of {
        Type::Named(at) => Some(&schema.named[*at].name),
        _ => None,
    }
}

#[cfg(test)]
#[path = "compatible_tests.rs"]
mod tests;

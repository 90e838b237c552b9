//! Whether a reader with one Protobuf schema reads what was written with another.
//!
//! The rules are those of "Updating A Message Type" of the language guide, in Confluent's words: a field is its
//! number, names do not count, and unknown fields and values are kept.

use std::collections::{HashMap, HashSet};

use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};

use super::{MAIN, Schema};
use crate::issue::{Findings, Issue, Newer};

/// What keeps a reader from reading what a writer wrote.
pub(crate) fn issues(reader: &Schema, writer: &Schema, newer: Newer) -> Vec<Issue> {
    let mut pair = Pair { findings: Findings::new(newer), seen: HashSet::new(), left: Vec::new() };
    let (new, old) = (reader.main.package_name(), writer.main.package_name());
    if new != old {
        let said = pair.findings.change(format_args!("'{new}'"), format_args!("'{old}'"));
        let said = format!("the package {said}");
        pair.findings.add("PACKAGE_CHANGED", "#/", said);
    }
    for was in all_of(writer) {
        let path = path_of(&was, old);
        let is_entry = was.is_map_entry();
        match reader.pool().get_message_by_name(&renamed(was.full_name(), old, new)) {
            Some(is) => pair.put(is, was),
            None if is_entry => {}
            None => pair.findings.add(
                "MESSAGE_REMOVED",
                &path,
                format!("the {} schema lacks the message {}", pair.findings.reader(), was.name()),
            ),
        }
    }
    while let Some((is, was)) = pair.left.pop().filter(|_| !pair.findings.is_over()) {
        let path = path_of(&was, old);
        pair.message(&is, &was, &path, (new, old));
    }
    // What was found first is what stands first.
    pair.findings.issues.sort_by(|a, b| a.path.cmp(&b.path));
    pair.findings.issues
}

struct Pair {
    findings: Findings,
    seen: HashSet<(String, String)>,
    left: Vec<(MessageDescriptor, MessageDescriptor)>,
}

fn all_of(schema: &Schema) -> impl Iterator<Item = MessageDescriptor> {
    schema.pool().all_messages().filter(|message| message.parent_file().name() == MAIN)
}

/// A name of one package in another.
fn renamed(name: &str, from: &str, to: &str) -> String {
    match name.strip_prefix(from).and_then(|rest| rest.strip_prefix('.')) {
        Some(rest) if !to.is_empty() => format!("{to}.{rest}"),
        Some(rest) => rest.to_owned(),
        None if from.is_empty() && !to.is_empty() => format!("{to}.{name}"),
        None => name.to_owned(),
    }
}

fn path_of(message: &MessageDescriptor, package: &str) -> String {
    let name = message.full_name();
    let name = name.strip_prefix(package).map_or(name, |rest| rest.trim_start_matches('.'));
    format!("#/{}", name.replace('.', "/"))
}

impl Pair {
    fn put(&mut self, new: MessageDescriptor, old: MessageDescriptor) {
        if self.seen.insert((new.full_name().to_owned(), old.full_name().to_owned())) {
            self.left.push((new, old));
        }
    }

    fn message(
        &mut self,
        new: &MessageDescriptor,
        old: &MessageDescriptor,
        path: &str,
        packages: (&str, &str),
    ) {
        let oneofs = |of: &MessageDescriptor| -> HashSet<String> {
            let all = of.oneofs().filter(|one| !one.is_synthetic());
            all.map(|one| one.name().to_owned()).collect()
        };
        let (has, had) = (oneofs(new), oneofs(old));
        for was in old.fields() {
            if !self.findings.step() || !self.findings.spend(path.len() / 16) {
                return;
            }
            let at = format!("{path}/{}", was.number());
            match new.get_field(was.number()) {
                Some(is) => self.field(&is, &was, &at, packages),
                None => self.removed(&has, &was, &at),
            }
        }
        for is in new.fields().filter(|is| old.get_field(is.number()).is_none()) {
            if is.cardinality() == Cardinality::Required {
                let at = format!("{path}/{}", is.number());
                let said = self.requires(is.name());
                self.findings.add("REQUIRED_FIELD_ADDED", &at, said);
            }
        }
        self.oneofs(new, old, &had, path);
    }

    /// That the reader's schema requires a field which the writer's does not.
    fn requires(&self, name: &str) -> String {
        let (reads, wrote) = (self.findings.reader(), self.findings.writer());
        format!("the {reads} schema requires the field {name}, which the {wrote} one does not")
    }

    fn removed(&mut self, oneofs: &HashSet<String>, was: &FieldDescriptor, at: &str) {
        let name = was.name();
        if was.cardinality() == Cardinality::Required {
            let said =
                format!("the {} schema lacks the required field {name}", self.findings.reader());
            self.findings.add("REQUIRED_FIELD_REMOVED", at, said);
        }
        if let Some(oneof) = real_oneof(was)
            && oneofs.contains(&oneof)
        {
            let reader = self.findings.reader();
            let said = format!("the oneof {oneof} of the {reader} schema lacks the field {name}");
            self.findings.add("ONEOF_FIELD_REMOVED", at, said);
        }
    }

    fn field(
        &mut self,
        is: &FieldDescriptor,
        was: &FieldDescriptor,
        at: &str,
        (new, old): (&str, &str),
    ) {
        let name = is.name();
        let required = |field: &FieldDescriptor| field.cardinality() == Cardinality::Required;
        if required(is) && !required(was) {
            let said = self.requires(name);
            self.findings.add("REQUIRED_FIELD_ADDED", at, said);
        }
        let (kind, old_kind) = (is.kind(), was.kind());
        match (&kind, &old_kind) {
            (Kind::Message(to), Kind::Message(from)) => {
                if is.is_map() != was.is_map() {
                    let said = format!("the field {name} is a map in one of the schemas alone");
                    self.findings.add("FIELD_KIND_CHANGED", at, said);
                } else if is.is_map() || renamed(from.full_name(), old, new) == to.full_name() {
                    // Of maps the entries are compared, whatever they are called.
                    self.put(to.clone(), from.clone());
                } else {
                    let said = format!(
                        "the type of {name} {}",
                        self.findings.change(to.full_name(), from.full_name())
                    );
                    self.findings.add("FIELD_NAMED_TYPE_CHANGED", at, said);
                }
            }
            (Kind::Enum(to), Kind::Enum(from)) => {
                let (from, to) = (renamed(from.full_name(), old, new), to.full_name());
                if from != to {
                    let said = format!("the type of {name} {}", self.findings.change(to, from));
                    self.findings.add("FIELD_NAMED_TYPE_CHANGED", at, said);
                }
            }
            (Kind::Message(_), _) | (_, Kind::Message(_)) => {
                let said = format!(
                    "the field {name} {}",
                    self.findings.change(word(&kind), word(&old_kind))
                );
                self.findings.add("FIELD_KIND_CHANGED", at, said);
            }
            _ if family(&kind) != family(&old_kind) => {
                let said = format!(
                    "the kind of {name} {}",
                    self.findings.change(word(&kind), word(&old_kind))
                );
                self.findings.add("FIELD_SCALAR_KIND_CHANGED", at, said);
            }
            _ => {}
        }
        let is_number = !matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_));
        if is.is_list() != was.is_list() && is_number && !is.is_map() && !was.is_map() {
            let said = format!("the number {name} is repeated in one of the schemas alone");
            self.findings.add("FIELD_NUMERIC_LABEL_CHANGED", at, said);
        }
    }

    fn oneofs(
        &mut self,
        new: &MessageDescriptor,
        old: &MessageDescriptor,
        had: &HashSet<String>,
        path: &str,
    ) {
        let mut moved: HashMap<String, Vec<u32>> = HashMap::new();
        for is in new.fields() {
            if !self.findings.spend(4 + path.len() / 16) {
                return;
            }
            let (Some(oneof), Some(was)) = (real_oneof(&is), old.get_field(is.number())) else {
                continue;
            };
            if real_oneof(&was).is_some() {
                continue;
            }
            if had.contains(&oneof) {
                let at = format!("{path}/{}", is.number());
                let said = format!(
                    "the field {} is in the oneof {oneof} of the {} schema, and outside of it in the {} one",
                    is.name(),
                    self.findings.reader(),
                    self.findings.writer()
                );
                self.findings.add("FIELD_MOVED_TO_EXISTING_ONEOF", &at, said);
            } else {
                moved.entry(oneof).or_default().push(is.number());
            }
        }
        for (oneof, fields) in moved.into_iter().filter(|(_, fields)| fields.len() > 1) {
            let at = format!("{path}/{oneof}");
            let said = format!(
                "the fields {fields:?} are in the oneof {oneof} of the {} schema, and outside of it in the {} one",
                self.findings.reader(),
                self.findings.writer()
            );
            self.findings.add("MULTIPLE_FIELDS_MOVED_TO_ONEOF", &at, said);
        }
    }
}

/// The name of the oneof that a field is in, if somebody wrote it.
fn real_oneof(field: &FieldDescriptor) -> Option<String> {
    let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic())?;
    Some(oneof.name().to_owned())
}

/// A kind as the language writes it.
fn word(kind: &Kind) -> String {
    match kind {
        Kind::Message(of) => of.full_name().to_owned(),
        Kind::Enum(of) => of.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

/// Kinds of one family are read as one another.
fn family(kind: &Kind) -> u8 {
    match kind {
        Kind::Int32 | Kind::Uint32 | Kind::Int64 | Kind::Uint64 | Kind::Bool | Kind::Enum(_) => 0,
        Kind::Sint32 | Kind::Sint64 => 1,
        Kind::String | Kind::Bytes => 2,
        Kind::Fixed32 | Kind::Sfixed32 => 3,
        Kind::Fixed64 | Kind::Sfixed64 => 4,
        Kind::Float => 5,
        Kind::Double => 6,
        Kind::Message(_) => 7,
    }
}

#[cfg(test)]
#[path = "compatible_tests.rs"]
mod tests;

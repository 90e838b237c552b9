//! Levels of compatibility: which schemas must read what was written with which.

use std::{fmt, str::FromStr};

use crate::{
    error::{Error, Result},
    issue::{Issue, Newer},
    schema::Schema,
};

/// Level of compatibility of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Level {
    /// Anything goes.
    None,
    /// The new schema reads what was written with the latest.
    #[default]
    Backward,
    /// The new schema reads what was written with any.
    BackwardTransitive,
    /// The latest schema reads what is written with the new one.
    Forward,
    /// All schemas read what is written with the new one.
    ForwardTransitive,
    /// Both ways with the latest.
    Full,
    /// Both ways with all.
    FullTransitive,
}

impl Level {
    const ALL: [Self; 7] = [
        Self::None,
        Self::Backward,
        Self::BackwardTransitive,
        Self::Forward,
        Self::ForwardTransitive,
        Self::Full,
        Self::FullTransitive,
    ];

    /// Its word in the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    /// Whether a new schema is held to all versions, and not to the latest alone.
    pub const fn is_transitive(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }

    const fn is_backward(self) -> bool {
        matches!(
            self,
            Self::Backward | Self::BackwardTransitive | Self::Full | Self::FullTransitive
        )
    }

    const fn is_forward(self) -> bool {
        matches!(self, Self::Forward | Self::ForwardTransitive | Self::Full | Self::FullTransitive)
    }

    /// What of a new schema does not fit an old one at this level. With `lenient`, a property that is added to an
    /// open content model is taken not to have been there before.
    pub fn issues(self, new: &Schema, old: &Schema, lenient: bool) -> Vec<Issue> {
        const OPEN: &[&str] =
            &["PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL", "ITEM_ADDED_TO_OPEN_CONTENT_MODEL"];
        let mut found = Vec::new();
        if self.is_backward() {
            found.extend(new.issues_as(old, Newer::Reader));
        }
        if self.is_forward() {
            found.extend(old.issues_as(new, Newer::Writer));
        }
        found.retain(|issue| !lenient || !OPEN.contains(&issue.kind));
        found
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|level| level.word().eq_ignore_ascii_case(word));
        found.ok_or(Error::InvalidLevel)
    }
}

/// What may be done with a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Schemas are registered and deleted.
    #[default]
    ReadWrite,
    /// Nothing is.
    ReadOnly,
    /// Nothing is, whatever a subject says; as the mode of all subjects alone.
    ReadOnlyOverride,
    /// Schemas are registered with ids and versions that they had elsewhere.
    Import,
}

impl Mode {
    const ALL: [Self; 4] = [Self::ReadWrite, Self::ReadOnly, Self::ReadOnlyOverride, Self::Import];

    /// Its word in the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ReadWrite => "READWRITE",
            Self::ReadOnly => "READONLY",
            Self::ReadOnlyOverride => "READONLY_OVERRIDE",
            Self::Import => "IMPORT",
        }
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|mode| mode.word().eq_ignore_ascii_case(word));
        found.ok_or(Error::InvalidMode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Format;

    #[test]
    fn each_level_looks_in_its_direction() {
        let read = |text: &str| Schema::read(Format::Avro, text, &[]).unwrap();
        let (narrow, wide) = (read("\"int\""), read("\"long\""));
        for (level, widened, narrowed) in [
            (Level::None, 0, 0),
            (Level::Backward, 0, 1),
            (Level::BackwardTransitive, 0, 1),
            (Level::Forward, 1, 0),
            (Level::ForwardTransitive, 1, 0),
            (Level::Full, 1, 1),
            (Level::FullTransitive, 1, 1),
        ] {
            assert_eq!(level.issues(&wide, &narrow, false).len(), widened, "{level}");
            assert_eq!(level.issues(&narrow, &wide, false).len(), narrowed, "{level}");
            assert_eq!(level.word().to_lowercase().parse::<Level>().unwrap(), level);
        }
        assert_eq!("sideways".parse::<Level>().unwrap_err().code(), 42203);
        assert_eq!("sideways".parse::<Mode>().unwrap_err().code(), 42204);
    }

    /// Messages call the schemas new and old as they are, whichever of them reads.
    #[test]
    fn the_schema_that_lacks_something_is_named() {
        let avro = |rest: &str| format!(r#"{{"type":"enum","name":"E","symbols":["A"{rest}]}}"#);
        let json = |max: u32| format!(r#"{{"type":"string","maxLength":{max}}}"#);
        let fields = |rest: &str| {
            format!(
                r#"{{"type":"object","properties":{{"a":{{}}{rest}}},"additionalProperties":false}}"#
            )
        };
        let proto = |kind: &str, rest: &str| {
            format!("syntax = \"proto3\"; message M {{ {kind} a = 1; }} {rest}")
        };
        let record = |rest: &str| format!(r#"{{"type":"record","name":"R","fields":[{rest}]}}"#);
        let field = r#"{"name":"a","type":"int"}"#;
        for (format, new, old, backward, forward) in [
            (
                Format::Avro,
                avro(""),
                avro(r#","B""#),
                "the new schema is missing enum symbols [B]",
                "",
            ),
            (
                Format::Avro,
                avro(r#","B""#),
                avro(""),
                "",
                "the old schema is missing enum symbols [B]",
            ),
            (
                Format::Avro,
                record(field),
                record(""),
                "in the new schema has no default value and is missing in the old schema",
                "",
            ),
            (
                Format::Avro,
                record(""),
                record(field),
                "",
                "in the old schema has no default value and is missing in the new schema",
            ),
            (Format::Json, json(3), json(9), "maxLength was 9 and is 3", ""),
            (Format::Json, json(9), json(3), "", "maxLength was 3 and is 9"),
            (
                Format::Json,
                r#"{"type":["string","null"]}"#.to_owned(),
                r#"{"type":"string"}"#.to_owned(),
                "",
                "the old schema does not take null, which the new one takes",
            ),
            (
                Format::Json,
                fields(r#","b":{}"#),
                fields(""),
                "",
                "the old schema has a closed content model and lacks the property b, which the new one has",
            ),
            (
                Format::Protobuf,
                proto("int32", "message N {}"),
                proto("string", ""),
                "the kind of a was string and is int32",
                "the kind of a was string and is int32|the old schema lacks the message N",
            ),
        ] {
            let read = |text: &str| Schema::read(format, text, &[]).unwrap();
            let (new, old) = (read(&new), read(&old));
            for (level, expect) in [(Level::Backward, backward), (Level::Forward, forward)] {
                let found = level.issues(&new, &old, false);
                let said: Vec<&str> = found.iter().map(|one| one.said.as_str()).collect();
                let expect: Vec<&str> = expect.split('|').filter(|part| !part.is_empty()).collect();
                assert_eq!(said.len(), expect.len(), "{level}: {said:?}");
                for (said, expect) in said.iter().zip(expect) {
                    assert!(said.contains(expect), "{level}: {said}");
                }
            }
        }
        let read = |format, text| Schema::read(format, text, &[]).unwrap();
        let (new, old) = (read(Format::Json, "{}"), read(Format::Avro, "\"int\""));
        let found = Level::Full.issues(&new, &old, false);
        assert!(found.iter().all(|one| one.said == "the schema was AVRO and is JSON"), "{found:?}");
    }
}

//! A schema of any format.

use std::{fmt, str::FromStr};

use crate::{
    avro,
    error::{Error, Result},
    issue::{Findings, Issue, Newer},
    json, protobuf,
};

/// The largest schema, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 1_000_000;
/// The largest schema with all that it refers to, in bytes.
pub const TOGETHER_BYTES_MAX: usize = 4_000_000;

/// The format of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// Avro.
    #[default]
    Avro,
    /// JSON Schema.
    Json,
    /// Protobuf.
    Protobuf,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Json, Self::Protobuf, Self::Avro];

    /// Its word in the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
            Self::Protobuf => "PROTOBUF",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|format| format.word().eq_ignore_ascii_case(word));
        found.ok_or_else(|| Error::invalid(format!("unknown schema type {word}")))
    }
}

/// A schema that another refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referred {
    /// The name by which it is referred to.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A schema that was read: it can be compared, and payloads held to it.
#[derive(Debug)]
pub struct Schema(Read);

#[derive(Debug)]
enum Read {
    Avro(avro::Schema),
    Json(Box<json::Schema>),
    Protobuf(protobuf::Schema),
}

/// What is wrong with a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFault {
    /// Where in the payload, as a pointer; empty for all of it.
    pub path: String,
    /// What is wrong.
    pub said: String,
}

impl Schema {
    /// Reads a schema with those that it refers to, each after its own.
    ///
    /// # Errors
    /// [`Error::InvalidSchema`] that says what is wrong and where.
    pub fn read(format: Format, text: &str, references: &[Referred]) -> Result<Self> {
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(Error::invalid(format!("it is larger than {SCHEMA_BYTES_MAX} bytes")));
        }
        let together: usize = references.iter().map(|one| one.text.len()).sum();
        if together + text.len() > TOGETHER_BYTES_MAX {
            let said =
                format!("with what it refers to it is larger than {TOGETHER_BYTES_MAX} bytes");
            return Err(Error::invalid(said));
        }
        let named = || references.iter().map(|one| (one.name.as_str(), one.text.as_str()));
        Ok(Self(match format {
            Format::Avro => Read::Avro(avro::Schema::read(text, named().map(|(_, text)| text))?),
            Format::Json => Read::Json(Box::new(json::Schema::read(text, named())?)),
            Format::Protobuf => Read::Protobuf(protobuf::Schema::read(text, named())?),
        }))
    }

    /// Its format.
    pub fn format(&self) -> Format {
        match self.0 {
            Read::Avro(_) => Format::Avro,
            Read::Json(_) => Format::Json,
            Read::Protobuf(_) => Format::Protobuf,
        }
    }

    /// Its text as it is kept and shown; `normalized` with what does not count in a fixed order.
    pub fn text(&self, normalized: bool) -> String {
        match &self.0 {
            Read::Avro(schema) => schema.canonical(),
            Read::Json(schema) => schema.canonical(normalized),
            Read::Protobuf(schema) if normalized => schema.canonical(),
            Read::Protobuf(schema) => schema.text().to_owned(),
        }
    }

    /// What it is known by: two texts of the same schema have one.
    pub fn canonical(&self, normalized: bool) -> String {
        match &self.0 {
            Read::Protobuf(schema) => schema.canonical(),
            _ => self.text(normalized),
        }
    }

    /// Its serialised descriptor in base64, if it is Protobuf.
    pub fn serialized(&self) -> Option<String> {
        match &self.0 {
            Read::Protobuf(schema) => Some(schema.serialized()),
            _ => None,
        }
    }

    /// What keeps a reader with this schema from reading what was written with another.
    pub fn issues(&self, writer: &Self) -> Vec<Issue> {
        self.issues_as(writer, Newer::Reader)
    }

    /// The same, where either may be the new one.
    pub(crate) fn issues_as(&self, writer: &Self, newer: Newer) -> Vec<Issue> {
        match (&self.0, &writer.0) {
            (Read::Avro(reader), Read::Avro(writer)) => avro::issues(reader, writer, newer),
            (Read::Json(reader), Read::Json(writer)) => json::issues(reader, writer, newer),
            (Read::Protobuf(reader), Read::Protobuf(writer)) => {
                protobuf::issues(reader, writer, newer)
            }
            _ => {
                let mut findings = Findings::new(newer);
                let said = findings.change(self.format(), writer.format());
                findings.add("SCHEMA_TYPE_CHANGED", "", format!("the schema {said}"));
                findings.issues
            }
        }
    }

    /// Holds a payload to it. `framed` says that indexes of the message stand before one of Protobuf, as they
    /// do behind the id of a schema.
    ///
    /// # Errors
    /// What is wrong with the payload.
    pub fn check(&self, payload: &[u8], framed: bool) -> Result<(), PayloadFault> {
        let outcome = match &self.0 {
            Read::Avro(schema) => avro::check(schema, payload),
            Read::Json(schema) => schema.check(payload),
            Read::Protobuf(schema) if framed => match protobuf::indexes(payload) {
                Some((indexes, message)) => schema.check(&indexes, message),
                None => {
                    Err((String::new(), "the indexes of its message cannot be read".to_owned()))
                }
            },
            Read::Protobuf(schema) => schema.check(&[0], payload),
        };
        outcome.map_err(|(path, said)| PayloadFault { path, said })
    }
}

//! Avro schemas (specification 1.12): reading, and their canonical text.
//!
//! A schema is read into types that refer to named ones by number, so that recursion in it is no recursion in
//! memory. The depth of JSON bounds the depth of what is read.

mod canonical;
mod compatible;
mod payload;
mod read;

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

pub(crate) use self::{compatible::issues, payload::check};
use crate::error::Result;

/// How much of a name a message shows.
const NAME_SHOWN_MAX: usize = 200;

/// A schema, with those that it refers to.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) root: Type,
    pub(crate) named: Vec<Named>,
    json: Value,
}

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    /// Of a decimal number, if it says so.
    Bytes(Option<Decimal>),
    String,
    Array(Box<Self>),
    Map(Box<Self>),
    Union(Vec<Self>),
    /// The number of a named type.
    Named(usize),
}

/// A decimal number: how many digits it has, and how many of them after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub(crate) precision: u64,
    pub(crate) scale: u64,
}

/// A named type.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// Its full name.
    pub(crate) name: String,
    /// Other full names of it.
    pub(crate) aliases: HashSet<String>,
    pub(crate) body: Body,
}

/// What a named type is.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// Its definition is not read to its end.
    Open,
    Record(Vec<Field>),
    Enum {
        symbols: BTreeSet<String>,
        default: Option<String>,
    },
    Fixed {
        size: u64,
        decimal: Option<Decimal>,
    },
}

/// A field of a record.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) of: Type,
    pub(crate) has_default: bool,
}

impl Named {
    /// Its name without its namespace.
    pub(crate) fn short(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

impl Schema {
    /// Reads a schema; `references` are the texts of those that it refers to, each after its own.
    pub(crate) fn read<'a>(
        text: &str,
        references: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        let mut reader = read::Reader::default();
        for reference in references {
            reader.read(&read::json(reference)?)?;
        }
        let json = read::json(text)?;
        let root = reader.read(&json)?;
        Ok(Self { root, named: reader.named, json })
    }

    /// Its text as it is kept: without white space, attributes in a fixed order.
    pub(crate) fn canonical(&self) -> String {
        canonical::write(&self.json)
    }

    /// How a type is called in messages.
    pub(crate) fn word(&self, of: &Type) -> String {
        match of {
            Type::Null => "NULL".to_owned(),
            Type::Boolean => "BOOLEAN".to_owned(),
            Type::Int => "INT".to_owned(),
            Type::Long => "LONG".to_owned(),
            Type::Float => "FLOAT".to_owned(),
            Type::Double => "DOUBLE".to_owned(),
            Type::Bytes(_) => "BYTES".to_owned(),
            Type::String => "STRING".to_owned(),
            Type::Array(_) => "ARRAY".to_owned(),
            Type::Map(_) => "MAP".to_owned(),
            Type::Union(_) => "UNION".to_owned(),
            Type::Named(at) => {
                let named = &self.named[*at];
                let kind = match named.body {
                    Body::Record(_) | Body::Open => "RECORD",
                    Body::Enum { .. } => "ENUM",
                    Body::Fixed { .. } => "FIXED",
                };
                let name: String = named.name.chars().take(NAME_SHOWN_MAX).collect();
                format!("{kind} {name}")
            }
        }
    }
}

/// The numbers of named types by their full names.
type Names = HashMap<String, usize>;

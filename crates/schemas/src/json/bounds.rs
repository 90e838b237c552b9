//! Bounds of a schema: how large and how deep it is once every reference is followed.

use std::collections::HashMap;

use serde_json::Value;

use super::resolve::{Documents, REFERENCES};
use crate::error::{Error, Result};

/// The most schemas that a schema comes to, each reference followed.
const SIZE_MAX: u64 = 200_000;
/// The deepest that schemas stand in one another, each reference followed once.
const DEPTH_MAX: usize = 160;
/// The most schemas in a row that look at the same value.
const IN_PLACE_MAX: usize = 24;

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 4_096;
/// The most that all patterns of a document come to, in bytes.
const PATTERNS_BYTES_MAX: usize = 128 * 1_024;

/// Keywords with a schema for a part of the value.
const PARTS: &[&str] = &[
    "additionalProperties",
    "items",
    "additionalItems",
    "contains",
    "propertyNames",
    "unevaluatedProperties",
    "unevaluatedItems",
];
/// Keywords with schemas by name for parts of the value.
const NAMED_PARTS: &[&str] = &["properties", "patternProperties"];
/// Keywords with a schema for the same value.
const SAME: &[&str] = &["not", "if", "then", "else"];
/// Keywords with a list of schemas for the same value.
const SAME_LISTS: &[&str] = &["allOf", "anyOf", "oneOf"];
/// Keywords with schemas by name for the same value.
const NAMED_SAME: &[&str] = &["dependentSchemas", "dependencies"];

/// Keywords with values, in which nothing is a schema.
const VALUES: &[&str] = &["enum", "const", "default", "examples", "example"];

/// # Errors
/// That a pattern is too long, that a reference leads nowhere or only to itself, or that a bound is exceeded.
pub(super) fn check(documents: &Documents) -> Result<()> {
    let all = documents.others().iter().map(|(_, other)| other);
    for document in std::iter::once(documents.root()).chain(all) {
        let mut left = PATTERNS_BYTES_MAX;
        patterns(document, &mut left)?;
    }
    let mut walk = Walk { documents, sizes: HashMap::new(), open: Vec::new() };
    walk.schema(0, documents.root(), 0, 0).map(|_| ())
}

struct Walk<'a> {
    documents: &'a Documents,
    /// How much a place that is referred to comes to.
    sizes: HashMap<*const Value, u64>,
    /// The places that are being walked, with how many parts deep.
    open: Vec<(*const Value, usize)>,
}

impl Walk<'_> {
    /// How many schemas one comes to. `part` counts the parts of the value above it, `same` those that look at
    /// the same value.
    fn schema(&mut self, document: usize, value: &Value, part: usize, same: usize) -> Result<u64> {
        let Value::Object(object) = value else { return Ok(1) };
        if self.open.len() > DEPTH_MAX || same > IN_PLACE_MAX {
            return Err(Error::invalid("it is nested too deep"));
        }
        self.open.push((value, part));
        let mut size: u64 = 1;
        let add = |size: &mut u64, more: u64| {
            *size += more;
            match *size > SIZE_MAX {
                true => Err(Error::invalid(format!("it comes to more than {SIZE_MAX} schemas"))),
                false => Ok(()),
            }
        };
        for (key, inner) in object {
            let key = key.as_str();
            match inner {
                Value::String(reference) if REFERENCES.contains(&key) => {
                    add(&mut size, self.reference(document, reference, part, same)?)?;
                }
                Value::Array(all) if SAME_LISTS.contains(&key) => {
                    for one in all {
                        add(&mut size, self.schema(document, one, part, same + 1)?)?;
                    }
                }
                Value::Array(all) if matches!(key, "items" | "prefixItems") => {
                    for one in all {
                        add(&mut size, self.schema(document, one, part + 1, 0)?)?;
                    }
                }
                Value::Object(all) if NAMED_PARTS.contains(&key) => {
                    for one in all.values() {
                        add(&mut size, self.schema(document, one, part + 1, 0)?)?;
                    }
                }
                Value::Object(all) if NAMED_SAME.contains(&key) => {
                    for one in all.values() {
                        add(&mut size, self.schema(document, one, part, same + 1)?)?;
                    }
                }
                inner if PARTS.contains(&key) => {
                    add(&mut size, self.schema(document, inner, part + 1, 0)?)?;
                }
                inner if SAME.contains(&key) => {
                    add(&mut size, self.schema(document, inner, part, same + 1)?)?;
                }
                _ => {}
            }
        }
        self.open.pop();
        Ok(size)
    }

    fn reference(&mut self, document: usize, text: &str, part: usize, same: usize) -> Result<u64> {
        if is_known(text) {
            return Ok(1);
        }
        let documents = self.documents;
        let Some((document, to)) = documents.resolve(document, text) else {
            return Err(Error::invalid(format!("the reference {text} leads nowhere")));
        };
        let place: *const Value = to;
        if let Some((_, above)) = self.open.iter().find(|(open, _)| std::ptr::eq(*open, place)) {
            return match *above == part {
                true => Err(Error::invalid(format!("a schema refers to itself by {text}"))),
                false => Ok(1),
            };
        }
        // What was measured where more room was left may be too deep here: the chain is walked again if it may be.
        if let Some(size) = self.sizes.get(&place)
            && self.open.len() < DEPTH_MAX / 4
            && same < IN_PLACE_MAX / 4
        {
            return Ok(*size);
        }
        let size = self.schema(document, to, part, same + 1)?;
        self.sizes.insert(place, size);
        Ok(size)
    }
}

/// Measures patterns wherever they stand: a validator makes those too that nothing leads to.
fn patterns(value: &Value, left: &mut usize) -> Result<()> {
    let mut take = |pattern: &str| {
        if pattern.len() > PATTERN_BYTES_MAX {
            let said = format!("a pattern is longer than {PATTERN_BYTES_MAX} bytes");
            return Err(Error::invalid(said));
        }
        let rest = left.checked_sub(pattern.len());
        *left = rest.ok_or_else(|| {
            Error::invalid(format!("its patterns are longer than {PATTERNS_BYTES_MAX} bytes"))
        })?;
        Ok(())
    };
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                match inner {
                    Value::String(pattern) if key == "pattern" => take(pattern)?,
                    Value::Object(all) if key == "patternProperties" => {
                        all.keys().try_for_each(|pattern| take(pattern))?;
                    }
                    _ => {}
                }
            }
            let inner = object.iter().filter(|(key, _)| !VALUES.contains(&key.as_str()));
            inner.into_iter().try_for_each(|(_, inner)| patterns(inner, left))
        }
        Value::Array(all) => all.iter().try_for_each(|inner| patterns(inner, left)),
        _ => Ok(()),
    }
}

/// Whether a reference is to a schema of schemas, which every validator has.
fn is_known(reference: &str) -> bool {
    let known = ["http://json-schema.org/draft-", "https://json-schema.org/draft/"];
    known.iter().any(|start| reference.starts_with(start))
}

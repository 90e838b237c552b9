//! JSON Schema, drafts 4 to 2020-12: reading, canonical text, and payloads.
//!
//! What is read is measured first (`bounds`), so that neither the validator nor a comparison can be led astray
//! by references that go round in circles or multiply.

mod bounds;
mod compatible;
mod payload;
mod resolve;

use std::sync::OnceLock;

use jsonschema::{Draft, PatternOptions, Registry, Validator};
use serde_json::{Map, Value};

pub(crate) use self::compatible::issues;
use self::resolve::Documents;
use crate::error::{Error, Result};

/// Where documents stand that have no `$id` of their own.
const BASE: &str = "json-schema:///";
/// Steps back that a pattern with look-around may take.
const BACKTRACK_MAX: usize = 100_000;
/// The deepest payload.
const PAYLOAD_DEPTH_MAX: usize = 64;
/// How much of a value a message shows.
const SHOWN_MAX: usize = 200;

/// A schema, with those that it refers to.
pub(crate) struct Schema {
    documents: Documents,
    validator: OnceLock<Validator>,
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schema").finish_non_exhaustive()
    }
}

impl Schema {
    /// Reads a schema; `references` are the names by which it refers to others, with their texts.
    pub(crate) fn read<'a>(
        text: &str,
        references: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self> {
        let value = parse(text)?;
        if !value.is_object() && !value.is_boolean() {
            return Err(Error::invalid("a JSON Schema is an object, or true or false"));
        }
        let others = references.into_iter().map(|(name, text)| Ok((name.to_owned(), parse(text)?)));
        let documents = Documents::new(value, others.collect::<Result<_>>()?);
        bounds::check(&documents)?;
        let schema = Self { documents, validator: OnceLock::new() };
        let validator = schema.compile()?;
        let _ = schema.validator.set(validator);
        Ok(schema)
    }

    fn compile(&self) -> Result<Validator> {
        let wrong = |said: String| Error::invalid(shown(&said));
        let mut registry = Registry::new();
        for (name, value) in self.documents.others() {
            let address = if name.contains("://") { name.clone() } else { format!("{BASE}{name}") };
            registry =
                registry.add(&address, value.clone()).map_err(|error| wrong(error.to_string()))?;
        }
        let registry = registry.prepare().map_err(|error| wrong(error.to_string()))?;
        let mut options = jsonschema::options();
        // What does not say its draft is of the one that Confluent's registry takes it for.
        if self.documents.root().get("$schema").is_none() {
            options = options.with_draft(Draft::Draft7);
        }
        let built = options
            .with_registry(&registry)
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_MAX))
            .build(self.documents.root());
        built.map_err(|error| wrong(format!("at #{}: {error}", error.instance_path())))
    }

    /// Its text as it is kept, without white space; `sorted` with members by name.
    pub(crate) fn canonical(&self, sorted: bool) -> String {
        match sorted {
            true => by_name(self.documents.root()).to_string(),
            false => self.documents.root().to_string(),
        }
    }

    /// What is wrong with a payload, with its path.
    pub(crate) fn check(&self, payload: &[u8]) -> Result<(), (String, String)> {
        let fault = |said: String| Err((String::new(), said));
        let value = payload::read(payload)?;
        if depth(&value) > PAYLOAD_DEPTH_MAX {
            return fault(format!("it is nested deeper than {PAYLOAD_DEPTH_MAX}"));
        }
        let Some(validator) = self.validator.get() else { return Ok(()) };
        match validator.validate(&value) {
            Ok(()) => Ok(()),
            Err(error) => Err((error.instance_path().to_string(), shown(&error.to_string()))),
        }
    }
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::invalid(format!("it is no JSON: {error}")))
}

fn depth(value: &Value) -> usize {
    1 + match value {
        Value::Array(all) => all.iter().map(depth).max().unwrap_or(0),
        Value::Object(all) => all.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn by_name(value: &Value) -> Value {
    match value {
        Value::Array(all) => Value::Array(all.iter().map(by_name).collect()),
        Value::Object(all) => {
            let mut members: Vec<_> = all.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let members = members.into_iter().map(|(name, value)| (name.clone(), by_name(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// A message, no longer than is worth reading.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Schema> {
        Schema::read(text, [])
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for (text, said) in [
            ("{}", None),
            ("true", None),
            (
                r##"{"type":"object","properties":{"a":{"$ref":"#/$defs/a"}},"$defs":{"a":{"type":"string"}}}"##,
                None,
            ),
            (
                r##"{"$defs":{"node":{"properties":{"next":{"$ref":"#/$defs/node"}}}},"$ref":"#/$defs/node"}"##,
                None,
            ),
            (r##"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object"}"##, None),
            (r##"{"properties":{"self":{"$ref":"#"}}}"##, None),
            ("[]", Some("an object, or true or false")),
            ("nonsense", Some("no JSON")),
            (r##"{"type":"wat"}"##, Some("at #/type")),
            (r##"{"properties":{"a":7}}"##, Some("at #/properties/a")),
            (r##"{"$ref":"#"}"##, Some("refers to itself")),
            (
                r##"{"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"anyOf":[{"$ref":"#"}]}}}"##,
                Some("refers to itself"),
            ),
            (r##"{"$ref":"#/nowhere"}"##, Some("#/nowhere")),
            (r##"{"$ref":"other.json"}"##, Some("other.json")),
            (r##"{"$ref":"http://127.0.0.1:1/x.json"}"##, Some("x.json")),
            (r##"{"$ref":"file:///etc/passwd"}"##, Some("passwd")),
            (r##"{"pattern":"("}"##, Some("pattern")),
        ] {
            match (read(text), said) {
                (Ok(_), None) => {}
                (Err(error), Some(said)) => {
                    assert!(error.to_string().contains(said), "{text}: {error}");
                }
                (outcome, _) => panic!("{text}: {outcome:?}"),
            }
        }
    }

    /// References that double at each step would be read a million times; a chain of ten thousand would take
    /// the stack.
    #[test]
    fn what_multiplies_or_goes_deep_is_refused() {
        let of = |count: usize, each: &dyn Fn(usize) -> String| {
            let all: Vec<String> =
                (0..count).map(|at| format!(r##""d{at}":{}"##, each(at))).collect();
            format!(r##"{{"$defs":{{{},"d{count}":{{}}}},"$ref":"#/$defs/d0"}}"##, all.join(","))
        };
        let doubling = of(40, &|at| {
            let to = at + 1;
            format!(
                r##"{{"properties":{{"a":{{"$ref":"#/$defs/d{to}"}},"b":{{"$ref":"#/$defs/d{to}"}}}}}}"##
            )
        });
        let links = |count| of(count, &|at| format!(r##"{{"$ref":"#/$defs/d{}"}}"##, at + 1));
        assert!(read(&links(23)).is_ok());
        assert!(read(&links(24)).is_err());
        let chain = of(10_000, &|at| format!(r##"{{"$ref":"#/$defs/d{}"}}"##, at + 1));
        let spread = of(10_000, &|at| {
            format!(r##"{{"properties":{{"a":{{"$ref":"#/$defs/d{}"}}}}}}"##, at + 1)
        });
        let nested = format!("{}{{}}{}", r#"{"not":"#.repeat(10_000), "}".repeat(10_000));
        let pattern = format!(r#"{{"pattern":"{}"}}"#, "a?".repeat(475_000));
        let names = format!(r#"{{"patternProperties":{{"{}":{{}}}}}}"#, "a?".repeat(475_000));
        let many: Vec<String> =
            (0..12_000).map(|at| format!(r#""p{at}":{{"pattern":"^[a-z]{{1,40}}$"}}"#)).collect();
        let many = format!(r#"{{"$defs":{{{}}}}}"#, many.join(","));
        for text in [doubling, chain, spread, nested, pattern, names, many] {
            let began = std::time::Instant::now();
            assert!(read(&text).is_err(), "{}…", &text[..60]);
            assert!(began.elapsed() < std::time::Duration::from_secs(5));
        }
    }

    #[test]
    fn a_payload_is_held_to_it_with_its_path() {
        let address =
            r#"{"type":"object","properties":{"zip":{"type":"string","pattern":"^[0-9]{5}$"}}}"#;
        let text = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},
            "to":{"$ref":"address.json"}}}"#;
        let schema = Schema::read(text, [("address.json", address)]).unwrap();
        for (payload, expect) in [
            (r#"{"id":7,"to":{"zip":"10115"}}"#, None),
            (r#"{"id":"7"}"#, Some(("/id", "integer"))),
            (r#"{"id":7,"to":{"zip":"1011"}}"#, Some(("/to/zip", "match"))),
            ("{}", Some(("", "\"id\" is a required property"))),
            ("{", Some(("", "no JSON"))),
            // The last would fit.
            (r#"{"id":"7","id":7}"#, Some(("/id", "twice"))),
        ] {
            match (schema.check(payload.as_bytes()), expect) {
                (Ok(()), None) => {}
                (Err((at, said)), Some((path, expect))) => {
                    assert!(at == path && said.contains(expect), "{payload}: {at} {said}");
                }
                (outcome, _) => panic!("{payload}: {outcome:?}"),
            }
        }
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(schema.check(deep.as_bytes()).is_err());
        assert!(schema.check("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn normal_form_sorts_and_the_other_does_not() {
        let schema = read(r#"{ "type": "object", "properties": {"b": {}, "a": {}} }"#).unwrap();
        assert_eq!(schema.canonical(false), r#"{"type":"object","properties":{"b":{},"a":{}}}"#);
        assert_eq!(schema.canonical(true), r#"{"properties":{"a":{},"b":{}},"type":"object"}"#);
    }
}

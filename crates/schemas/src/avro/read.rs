//! Reads schemas of JSON: names, references, defaults.

use std::{cell::Cell, collections::HashSet};

use serde_json::{Map, Value};

use super::{Body, Decimal, Field, Named, Names, Type};
use crate::error::{Error, Result};

/// The most values that defaults come to, each held to all that it may be.
const DEFAULTS_MAX: u32 = 1_000_000;

/// What has been read so far.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) named: Vec<Named>,
    names: Names,
    /// How many values of defaults were held to their types.
    defaults: Cell<u32>,
}

/// The JSON of a text; a text that is no JSON may be the name of a type.
pub(super) fn json(text: &str) -> Result<Value> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(_) if is_full_name(text.trim()) => Ok(Value::String(text.trim().to_owned())),
        Err(error) => Err(Error::invalid(format!("it is no JSON: {error}"))),
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|next| next.is_ascii_alphanumeric() || next == b'_')
}

fn is_full_name(text: &str) -> bool {
    text.split('.').all(is_name)
}

fn primitive(word: &str) -> Option<Type> {
    Some(match word {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int,
        "long" => Type::Long,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes(None),
        "string" => Type::String,
        _ => return None,
    })
}

/// A name within a namespace, in full.
fn full(name: &str, space: &str) -> String {
    match name.contains('.') || space.is_empty() {
        true => name.trim_start_matches('.').to_owned(),
        false => format!("{space}.{name}"),
    }
}

impl Reader {
    pub(super) fn read(&mut self, json: &Value) -> Result<Type> {
        self.of(json, "", "")
    }

    fn of(&mut self, json: &Value, space: &str, path: &str) -> Result<Type> {
        match json {
            Value::String(name) => self.by_name(name, space, path),
            Value::Array(branches) => self.union(branches, space, path),
            Value::Object(object) => self.object(object, space, path),
            _ => Err(wrong(path, "a schema is a name, an object or a list")),
        }
    }

    fn by_name(&self, name: &str, space: &str, path: &str) -> Result<Type> {
        if let Some(of) = primitive(name) {
            return Ok(of);
        }
        let found = self.names.get(&full(name, space)).or_else(|| self.names.get(name));
        match found {
            Some(at) => Ok(Type::Named(*at)),
            None => Err(wrong(path, format!("\"{name}\" is not a defined name"))),
        }
    }

    fn union(&mut self, branches: &[Value], space: &str, path: &str) -> Result<Type> {
        let mut of = Vec::with_capacity(branches.len());
        let mut kinds = HashSet::new();
        for (at, branch) in branches.iter().enumerate() {
            let path = format!("{path}/{at}");
            let branch = self.of(branch, space, &path)?;
            let kind = match &branch {
                Type::Union(_) => return Err(wrong(&path, "a union holds no union at once")),
                Type::Named(at) => self.named[*at].name.clone(),
                Type::Array(_) => "array".to_owned(),
                Type::Map(_) => "map".to_owned(),
                Type::Bytes(_) => "Bytes".to_owned(),
                plain => format!("{plain:?}"),
            };
            if !kinds.insert(kind.clone()) {
                return Err(wrong(&path, format!("the union has {kind} twice")));
            }
            of.push(branch);
        }
        Ok(Type::Union(of))
    }

    fn object(&mut self, object: &Map<String, Value>, space: &str, path: &str) -> Result<Type> {
        let word = match object.get("type") {
            Some(Value::String(word)) => word,
            // A type within a type, as some write it.
            Some(inner @ (Value::Object(_) | Value::Array(_))) => {
                return self.of(inner, space, path);
            }
            _ => return Err(wrong(path, "the schema has no `type`")),
        };
        match word.as_str() {
            "array" => {
                let items = object.get("items").ok_or_else(|| wrong(path, "it has no `items`"))?;
                Ok(Type::Array(Box::new(self.of(items, space, &format!("{path}/items"))?)))
            }
            "map" => {
                let of = object.get("values").ok_or_else(|| wrong(path, "it has no `values`"))?;
                Ok(Type::Map(Box::new(self.of(of, space, &format!("{path}/values"))?)))
            }
            "record" | "error" => self.record(object, space, path),
            "enum" => self.enumeration(object, space, path),
            "fixed" => self.fixed(object, space, path),
            "bytes" => Ok(Type::Bytes(decimal(object))),
            word => self.by_name(word, space, path),
        }
    }

    /// Enters a named type that is open yet; gives its number and the namespace within it.
    fn enter(
        &mut self,
        object: &Map<String, Value>,
        space: &str,
        path: &str,
    ) -> Result<(usize, String)> {
        let said = object.get("name").and_then(Value::as_str);
        let said = said.ok_or_else(|| wrong(path, "it has no `name`"))?;
        let own = object.get("namespace").and_then(Value::as_str).unwrap_or(space);
        let name = full(said, own);
        if !is_full_name(&name) {
            return Err(wrong(path, format!("\"{said}\" is no name")));
        }
        if primitive(&name).is_some() {
            return Err(wrong(path, format!("\"{said}\" is the name of a type of Avro")));
        }
        let within = name.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
        let aliases = texts(object, "aliases", path)?;
        let aliases = aliases.iter().map(|alias| full(alias, &within)).collect();
        let at = self.named.len();
        if self.names.insert(name.clone(), at).is_some() {
            return Err(wrong(path, format!("\"{name}\" is defined twice")));
        }
        self.named.push(Named { name, aliases, body: Body::Open });
        Ok((at, within))
    }

    fn record(&mut self, object: &Map<String, Value>, space: &str, path: &str) -> Result<Type> {
        let (at, within) = self.enter(object, space, path)?;
        let Some(Value::Array(said)) = object.get("fields") else {
            return Err(wrong(path, "the record has no list of `fields`"));
        };
        let mut fields = Vec::with_capacity(said.len());
        let mut names = HashSet::new();
        for (number, field) in said.iter().enumerate() {
            let path = format!("{path}/fields/{number}");
            let name = field.get("name").and_then(Value::as_str).unwrap_or_default();
            if !is_name(name) {
                return Err(wrong(&path, format!("\"{name}\" is no name of a field")));
            }
            if !names.insert(name) {
                return Err(wrong(&path, format!("the record has the field \"{name}\" twice")));
            }
            let of = field.get("type").ok_or_else(|| wrong(&path, "the field has no `type`"))?;
            let of = self.of(of, &within, &format!("{path}/type"))?;
            let default = field.get("default");
            if let Some(default) = default
                && !self.is_default(&of, default, 0)
            {
                if self.defaults.get() > DEFAULTS_MAX {
                    let said = format!("the defaults come to more than {DEFAULTS_MAX} values");
                    return Err(wrong(&path, said));
                }
                let word: String = default.to_string().chars().take(200).collect();
                return Err(wrong(&path, format!("Invalid default for field {name}: {word}")));
            }
            let aliases = match field.as_object() {
                Some(field) => texts(field, "aliases", &path)?,
                None => Vec::new(),
            };
            let has_default = default.is_some();
            fields.push(Field { name: name.to_owned(), aliases, of, has_default });
        }
        self.named[at].body = Body::Record(fields);
        Ok(Type::Named(at))
    }

    fn enumeration(
        &mut self,
        object: &Map<String, Value>,
        space: &str,
        path: &str,
    ) -> Result<Type> {
        let (at, _) = self.enter(object, space, path)?;
        if !object.get("symbols").is_some_and(Value::is_array) {
            return Err(wrong(path, "the enum has no list of `symbols`"));
        }
        let symbols = texts(object, "symbols", path)?;
        let mut seen = HashSet::new();
        for symbol in &symbols {
            if !is_name(symbol) || !seen.insert(symbol) {
                return Err(wrong(path, format!("\"{symbol}\" is no symbol, or is there twice")));
            }
        }
        let default = object.get("default").and_then(Value::as_str).map(str::to_owned);
        if let Some(default) = &default
            && !seen.contains(default)
        {
            return Err(wrong(path, format!("the default \"{default}\" is none of the symbols")));
        }
        let symbols = symbols.into_iter().collect();
        self.named[at].body = Body::Enum { symbols, default };
        Ok(Type::Named(at))
    }

    fn fixed(&mut self, object: &Map<String, Value>, space: &str, path: &str) -> Result<Type> {
        let (at, _) = self.enter(object, space, path)?;
        let size = object.get("size").and_then(Value::as_u64);
        let size = size.filter(|size| i32::try_from(*size).is_ok());
        let size = size.ok_or_else(|| wrong(path, "the `size` is no whole number"))?;
        self.named[at].body = Body::Fixed { size, decimal: decimal(object) };
        Ok(Type::Named(at))
    }

    /// Whether a value can be the default of a type.
    fn is_default(&self, of: &Type, value: &Value, depth: usize) -> bool {
        let steps = self.defaults.get().saturating_add(1);
        self.defaults.set(steps);
        if depth > crate::issue::DEPTH_MAX || steps > DEFAULTS_MAX {
            return false;
        }
        let bytes = |text: &str| text.chars().all(|c| u32::from(c) <= 0xff);
        match of {
            Type::Null => value.is_null(),
            Type::Boolean => value.is_boolean(),
            Type::Int => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            Type::Long => value.as_i64().is_some(),
            Type::Float | Type::Double => {
                value.is_number()
                    || matches!(value.as_str(), Some("NaN" | "Infinity" | "-Infinity"))
            }
            Type::Bytes(_) => value.as_str().is_some_and(bytes),
            Type::String => value.is_string(),
            Type::Array(items) => value
                .as_array()
                .is_some_and(|all| all.iter().all(|item| self.is_default(items, item, depth + 1))),
            Type::Map(of) => value
                .as_object()
                .is_some_and(|all| all.values().all(|item| self.is_default(of, item, depth + 1))),
            Type::Union(of) => of.iter().any(|branch| self.is_default(branch, value, depth + 1)),
            Type::Named(at) => match &self.named[*at].body {
                Body::Open => value.is_object(),
                Body::Fixed { size, .. } => value
                    .as_str()
                    .is_some_and(|text| bytes(text) && text.chars().count() as u64 == *size),
                Body::Enum { symbols, .. } => {
                    value.as_str().is_some_and(|text| symbols.contains(text))
                }
                Body::Record(fields) => value.as_object().is_some_and(|all| {
                    let count = u32::try_from(fields.len()).unwrap_or(u32::MAX);
                    self.defaults.set(self.defaults.get().saturating_add(count));
                    fields.iter().all(|field| match all.get(&field.name) {
                        Some(value) => self.is_default(&field.of, value, depth + 1),
                        None => field.has_default,
                    })
                }),
            },
        }
    }
}

/// The decimal number that a type of bytes is; what is wrongly said counts as not said, by the specification.
fn decimal(object: &Map<String, Value>) -> Option<Decimal> {
    if object.get("logicalType").and_then(Value::as_str) != Some("decimal") {
        return None;
    }
    let precision = object.get("precision").and_then(Value::as_u64).filter(|count| *count > 0)?;
    let scale = match object.get("scale") {
        Some(scale) => scale.as_u64().filter(|scale| *scale <= precision)?,
        None => 0,
    };
    Some(Decimal { precision, scale })
}

fn texts(object: &Map<String, Value>, member: &str, path: &str) -> Result<Vec<String>> {
    let Some(said) = object.get(member) else { return Ok(Vec::new()) };
    let all = said.as_array().map(|all| all.iter().map(|one| one.as_str().map(str::to_owned)));
    let all = all.and_then(Iterator::collect::<Option<Vec<_>>>);
    all.ok_or_else(|| wrong(path, format!("`{member}` is no list of texts")))
}

fn wrong(path: &str, said: impl std::fmt::Display) -> Error {
    let path = if path.is_empty() { "/" } else { path };
    Error::invalid(format!("at {path}: {said}"))
}

#[cfg(test)]
mod tests {
    use super::super::Schema;

    #[test]
    fn what_is_no_schema_is_refused_with_its_place() {
        for (text, said) in [
            (r#""string""#, None),
            ("string", None),
            (r#"{"type":"record","name":"a.B","fields":[]}"#, None),
            (
                r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#,
                None,
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":4}}]}"#,
                None,
            ),
            (r#"{"type":"fixed","name":"F","size":16}"#, None),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null","int"],"default":7}]}"#,
                None,
            ),
            ("{", Some("it is no JSON")),
            ("7", Some("at /: a schema is a name")),
            (r#""Nobody""#, Some("\"Nobody\" is not a defined name")),
            (r#"["int","int"]"#, Some("at /1: the union has Int twice")),
            (r#"["int",["null"]]"#, Some("at /1: a union holds no union")),
            (r#"{"type":"array"}"#, Some("it has no `items`")),
            (r#"{"type":"enum","name":"E","symbols":["A","A"]}"#, Some("there twice")),
            (
                r#"{"type":"enum","name":"E","symbols":["A"],"default":"B"}"#,
                Some("none of the symbols"),
            ),
            (r#"{"type":"fixed","name":"F","size":-1}"#, Some("`size`")),
            (r#"{"type":"record","name":"1","fields":[]}"#, Some("\"1\" is no name")),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":"wat"}]}"#,
                Some("at /fields/0/type"),
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":"x"}]}"#,
                Some("at /fields/0: Invalid default for field a"),
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
                Some("at /fields/1: the record has the field \"a\" twice"),
            ),
        ] {
            match (Schema::read(text, []), said) {
                (Ok(_), None) => {}
                (Err(error), Some(said)) => {
                    assert!(error.to_string().contains(said), "{text}: {error}");
                }
                (outcome, _) => panic!("{text}: {:?}", outcome.map(|_| ())),
            }
        }
    }

    #[test]
    fn what_is_nested_ten_thousand_deep_is_refused() {
        let text = format!(
            "{}\"int\"{}",
            r#"{"type":"array","items":"#.repeat(10_000),
            "}".repeat(10_000)
        );
        assert!(Schema::read(&text, []).is_err());
    }

    #[test]
    fn a_reference_gives_names() {
        let other = r#"{"type":"record","name":"a.Other","fields":[]}"#;
        let text = r#"{"type":"record","name":"a.R","fields":[{"name":"o","type":"Other"}]}"#;
        assert!(Schema::read(text, []).is_err());
        assert!(Schema::read(text, [other]).is_ok());
    }
}

//! Reads payloads: values of JSON whose members are each there once.
//!
//! Of two members of one name the readers of a payload take now the first and now the last. A value that holds both
//! could pass a schema with one and be taken with the other, so that it is refused.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads a payload.
///
/// # Errors
/// What is wrong with it, with its path: that it is no JSON, or that a member is there twice.
pub(super) fn read(payload: &[u8]) -> Result<Value, (String, String)> {
    let mut place = Place::default();
    let mut from = serde_json::Deserializer::from_slice(payload);
    let read = Once(&mut place).deserialize(&mut from);
    match read.and_then(|value| from.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(_) if place.is_twice => Err((place.path, "the member is there twice".to_owned())),
        Err(error) => Err((String::new(), format!("it is no JSON: {error}"))),
    }
}

/// Where the reading is.
#[derive(Default)]
struct Place {
    path: String,
    /// Whether the member at the path is there twice.
    is_twice: bool,
}

impl Place {
    fn enter(&mut self, name: &str) {
        self.path.push('/');
        match name.contains(['~', '/']) {
            true => self.path.push_str(&name.replace('~', "~0").replace('/', "~1")),
            false => self.path.push_str(name),
        }
    }
}

/// A value of a place.
struct Once<'a>(&'a mut Place);

impl<'de> DeserializeSeed<'de> for Once<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
        let here = self.0.path.len();
        let mut items = Vec::new();
        self.0.enter("0");
        while let Some(item) = all.next_element_seed(Once(self.0))? {
            items.push(item);
            self.0.path.truncate(here);
            self.0.enter(&items.len().to_string());
        }
        self.0.path.truncate(here);
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Value, A::Error> {
        let here = self.0.path.len();
        let mut members = Map::new();
        while let Some(name) = all.next_key::<String>()? {
            self.0.enter(&name);
            if members.contains_key(&name) {
                self.0.is_twice = true;
                return Err(A::Error::custom("a member is there twice"));
            }
            let value = all.next_value_seed(Once(self.0))?;
            members.insert(name, value);
            self.0.path.truncate(here);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_one_that_others_read() {
        for text in [
            "null",
            "[1,-2,3.5,1e300,18446744073709551615,true,\"\\u00e9\",{},[]]",
            r#" {"b":{"a":1},"a":[{"a":1},{"a":2}]} "#,
        ] {
            let expect: Value = serde_json::from_str(text).unwrap();
            assert_eq!(read(text.as_bytes()).unwrap(), expect, "{text}");
        }
    }

    #[test]
    fn a_member_that_is_there_twice_is_placed() {
        for (text, path, said) in [
            (r#"{"n":-5,"n":1}"#, "/n", "twice"),
            (r#"{"a":[0,{"b/c":{"n":1}},{"b/c":{"n":1,"\u006e":1}}]}"#, "/a/2/b~1c/n", "twice"),
            (r#"{"a":1"#, "", "no JSON"),
            ("{} {}", "", "no JSON"),
            ("1e999", "", "no JSON"),
            ("", "", "no JSON"),
        ] {
            let (at, why) = read(text.as_bytes()).unwrap_err();
            assert!(at == path && why.contains(said), "{text}: {at} {why}");
        }
        assert!(read("[".repeat(100_000).as_bytes()).is_err());
    }
}

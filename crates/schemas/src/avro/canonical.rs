//! The text of a schema as it is kept: no white space, attributes in a fixed order, everything that was said.

use serde_json::{Map, Value};

/// The order of attributes; others follow by name.
const ORDER: &[&str] =
    &["type", "name", "namespace", "doc", "fields", "symbols", "items", "values", "size"];
/// The order of attributes of a field.
const FIELD_ORDER: &[&str] = &["name", "type", "doc", "default", "order", "aliases"];

pub(super) fn write(schema: &Value) -> String {
    canonical(schema).to_string()
}

fn canonical(schema: &Value) -> Value {
    match schema {
        Value::Array(branches) => Value::Array(branches.iter().map(canonical).collect()),
        Value::Object(object) => {
            // `{"type": "string"}` says no more than `"string"`.
            if let (Some(word @ Value::String(_)), 1) = (object.get("type"), object.len()) {
                return word.clone();
            }
            Value::Object(sorted(object, ORDER, |name, value| match (name, value) {
                ("type", Value::String(_)) => value.clone(),
                ("type" | "items" | "values", value) => canonical(value),
                ("fields", Value::Array(fields)) => {
                    Value::Array(fields.iter().map(field).collect())
                }
                (_, value) => value.clone(),
            }))
        }
        other => other.clone(),
    }
}

fn field(field: &Value) -> Value {
    let Value::Object(object) = field else { return field.clone() };
    Value::Object(sorted(object, FIELD_ORDER, |name, value| match name {
        "type" => canonical(value),
        _ => value.clone(),
    }))
}

fn sorted(
    object: &Map<String, Value>,
    order: &[&str],
    each: impl Fn(&str, &Value) -> Value,
) -> Map<String, Value> {
    let place = |name: &str| order.iter().position(|known| *known == name).unwrap_or(order.len());
    let mut members: Vec<(&String, &Value)> = object.iter().collect();
    members.sort_by(|(a, _), (b, _)| (place(a), a).cmp(&(place(b), b)));
    members.into_iter().map(|(name, value)| (name.clone(), each(name, value))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Schema;

    #[test]
    fn the_same_schema_has_the_same_text() {
        for (text, expect) in [
            (r#" "string" "#, r#""string""#),
            (r#"{"type": "string"}"#, r#""string""#),
            (r#"[ "null", {"type":"int"} ]"#, r#"["null","int"]"#),
            (
                r#"{"fields": [{"type": {"type": "long"}, "name": "a", "default": 1}], "name": "R", "zed": 1, "type": "record"}"#,
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long","default":1}],"zed":1}"#,
            ),
            (
                r#"{"logicalType": "uuid", "type": "string"}"#,
                r#"{"type":"string","logicalType":"uuid"}"#,
            ),
        ] {
            let schema = Schema::read(text, []).unwrap();
            assert_eq!(schema.canonical(), expect);
            let again = Schema::read(&schema.canonical(), []).unwrap();
            assert_eq!(again.canonical(), expect);
        }
    }
}

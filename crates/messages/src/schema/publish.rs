//! A shape as JSON Schema (2020-12).

use serde_json::{Map, Value, json};

use super::{Form, Member, Object, Shape, quantity};

/// The schema of a shape.
pub fn published(shape: &Shape) -> Value {
    match shape {
        Shape::Any => json!({}),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Int(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Number(min, max) => json!({ "type": "number", "minimum": min, "maximum": max }),
        Shape::Text(kind) => {
            let mut schema = json!({ "type": "string", "description": said(kind.what) });
            if !kind.pattern.is_empty() {
                schema["pattern"] = anchored(kind.pattern).into();
            }
            if let Some(format) = kind.format {
                schema["format"] = format.into();
            }
            schema
        }
        Shape::Words(words) => json!({ "enum": words }),
        Shape::Span(min, max) => json!({
            "type": "string",
            "description": "A duration, such as 250ms, 30s or 1m30s.",
            "pattern": anchored(&quantity::span_pattern(*min, *max)),
        }),
        Shape::Size(min) => json!({ "anyOf": [
            {
                "type": "string",
                "description": "A size, such as 64KiB.",
                "pattern": anchored(&quantity::size_pattern(*min)),
            },
            { "type": "integer", "minimum": min, "maximum": quantity::SIZE_MAX },
        ]}),
        Shape::Off(inner) => any(vec![json!({ "enum": ["off", false] }), published(inner)]),
        Shape::Either(forms) => any(forms.iter().map(published).collect()),
        Shape::List(of, min, max) => json!({
            "type": "array", "items": published(of), "minItems": min, "maxItems": max,
        }),
        Shape::Map(of) => json!({ "type": "object", "additionalProperties": published(of) }),
        Shape::Object(object) => whole(object),
    }
}

fn whole(object: &Object) -> Value {
    if object.forms.is_empty() {
        return form(object, None);
    }
    json!({ "oneOf": object.forms.iter().map(|one| form(object, Some(one))).collect::<Vec<_>>() })
}

fn form(object: &Object, form: Option<&Form>) -> Value {
    let required = |member: &Member| {
        member.required || form.is_some_and(|form| form.required.contains(&member.name))
    };
    let property = |member: &Member| {
        if form.is_some_and(|form| form.without.contains(&member.name)) {
            return json!({ "type": "null" });
        }
        if let Some((name, words)) = form.and_then(|form| form.only)
            && name == member.name
        {
            return json!({ "enum": words });
        }
        if required(member) {
            return published(&member.shape);
        }
        any(vec![published(&member.shape), json!({ "type": "null" })])
    };
    let properties: Map<String, Value> =
        object.members.iter().map(|member| (member.name.to_owned(), property(member))).collect();
    let needed: Vec<&str> =
        object.members.iter().filter(|one| required(one)).map(|one| one.name).collect();
    let mut schema = json!({
        "type": "object", "properties": properties, "additionalProperties": false,
    });
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    schema
}

/// Any of some schemas; one that is itself a choice gives its own.
fn any(forms: Vec<Value>) -> Value {
    let mut flat = Vec::new();
    for form in forms {
        match form {
            Value::Object(mut object) if object.len() == 1 && object.contains_key("anyOf") => {
                if let Some(Value::Array(inner)) = object.remove("anyOf") {
                    flat.extend(inner);
                }
            }
            form => flat.push(form),
        }
    }
    json!({ "anyOf": flat })
}

fn anchored(pattern: &str) -> String {
    format!("^{pattern}$")
}

/// What a kind is, as a sentence.
fn said(what: &str) -> String {
    let mut chars = what.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", chars.as_str())
}

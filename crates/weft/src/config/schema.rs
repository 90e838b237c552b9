//! The JSON Schema (2020-12) of a configuration, for editors.

use serde_json::{Map, Value, json};

use super::{
    catalogue::Catalogue,
    setting::{Field, Shape, Table},
};

/// The schema of the whole configuration.
pub fn schema(catalogue: &'static Catalogue) -> Value {
    let mut definitions = Map::new();
    let root = section(catalogue.table(), &mut definitions);
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Weft configuration",
    });
    if let (Value::Object(schema), Value::Object(root)) = (&mut schema, root) {
        schema.extend(root);
        // Sections of one's own, for anchors.
        schema.insert("patternProperties".into(), json!({ "^x-": true }));
        schema.insert("$defs".into(), Value::Object(definitions));
    }
    schema
}

fn section(table: &'static Table, definitions: &mut Map<String, Value>) -> Value {
    let with = table.with.map_or(&[][..], |with| with.fields);
    let mut properties = Map::new();
    for field in table.fields.iter().chain(with) {
        properties.insert(field.key.into(), property(field, definitions));
    }
    let required: Vec<&str> =
        table.fields.iter().filter(|field| field.required()).map(|field| field.key).collect();
    let mut schema = json!({
        "type": "object",
        "description": words(table.about),
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(field: &Field, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = shape(&(field.shape)(), definitions);
    // Nothing at all stands for the default, as if the key were not there.
    if !field.required() {
        schema = any(vec![schema, json!({ "type": "null" })]);
    }
    schema["description"] = json!(words(field.about));
    if let Some(default) = field.default {
        schema["default"] = match default {
            "true" => json!(true),
            "false" => json!(false),
            text => text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number)),
        };
    }
    schema
}

/// Lines of a doc comment as one line.
pub(super) fn words(about: &str) -> String {
    about.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A scalar that is no text may be a variable.
fn or_variable(schema: Value) -> Value {
    any(vec![schema, json!({ "type": "string", "pattern": r"\$\{" })])
}

fn any(forms: Vec<Value>) -> Value {
    let flat: Vec<Value> = forms
        .into_iter()
        .flat_map(|form| match form {
            Value::Object(mut object) if object.len() == 1 && object.contains_key("anyOf") => {
                match object.remove("anyOf") {
                    Some(Value::Array(inner)) => inner,
                    _ => Vec::new(),
                }
            }
            form => vec![form],
        })
        .collect();
    json!({ "anyOf": flat })
}

fn shape(of: &Shape, definitions: &mut Map<String, Value>) -> Value {
    match of {
        Shape::Bool => or_variable(json!({ "type": "boolean" })),
        Shape::Int { min, max } => {
            or_variable(json!({ "type": "integer", "minimum": min, "maximum": max }))
        }
        Shape::Number { min, max } => any(vec![
            json!({ "type": "number", "minimum": min, "maximum": max }),
            json!({ "type": "string", "pattern": r"%$|\$\{" }),
        ]),
        Shape::Text { pattern: None, .. } => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Text { pattern: Some(pattern), .. } => any(vec![
            json!({ "type": "string", "pattern": format!(r"({pattern})|\$\{{") }),
            // `503` and `0` are numbers to an editor.
            json!({ "type": "integer" }),
        ]),
        Shape::Secret => json!({ "type": "string", "minLength": 1 }),
        Shape::Words(list) => {
            let known: Vec<&str> = list.iter().map(|(word, _)| *word).collect();
            // An editor reads `1.2` and `off` as it likes.
            let mut forms = vec![json!({ "enum": known })];
            forms.extend(
                known
                    .iter()
                    .filter_map(|word| word.parse::<f64>().ok())
                    .map(|number| json!({ "const": number })),
            );
            if known.contains(&"off") {
                forms.push(json!({ "const": false }));
            }
            or_variable(if forms.len() == 1 { forms.remove(0) } else { any(forms) })
        }
        Shape::List(item) => json!({ "type": "array", "items": shape(item, definitions) }),
        Shape::Many(item) => {
            let item = shape(item, definitions);
            any(vec![item.clone(), json!({ "type": "array", "items": item })])
        }
        Shape::Map { value, .. } => {
            json!({ "type": "object", "additionalProperties": shape(value, definitions) })
        }
        Shape::Section(table) => {
            let name = table.name.replace(' ', "-");
            if !definitions.contains_key(&name) {
                definitions.insert(name.clone(), Value::Null);
                let body = section(table, definitions);
                definitions.insert(name.clone(), body);
            }
            let whole = json!({ "$ref": format!("#/$defs/{name}") });
            match table.short.and_then(|short| table.field(short)) {
                Some(field) => any(vec![shape(&(field.shape)(), definitions), whole]),
                None => whole,
            }
        }
        Shape::Switch(inner) => {
            any(vec![json!({ "enum": ["off", "on", false, true] }), shape(inner, definitions)])
        }
        Shape::Any => json!({}),
        Shape::Either(forms) => any(forms.iter().map(|form| shape(form, definitions)).collect()),
    }
}

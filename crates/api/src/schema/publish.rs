//! A shape as JSON Schema (2020-12).

use serde_json::{Map, Value, json};

use super::{
    Absent, Form, Object, Section, Setting, Shape, check::choices, quantity, text::SHARE, typed,
};

/// The schema of a shape.
pub fn published(shape: &'static Shape) -> Value {
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
        Shape::Choice(words) => json!({ "enum": choices(words) }),
        Shape::Share => any(vec![
            json!({ "type": "number", "minimum": 0.0, "maximum": 1.0 }),
            json!({
                "type": "string",
                "description": "A share such as 20%.",
                "pattern": anchored(SHARE.pattern),
            }),
        ]),
        Shape::Span(min, max) => json!({
            "type": "string",
            "description": "A duration, such as 250ms, 30s or 1m30s.",
            "pattern": anchored(&quantity::span_pattern(*min, *max)),
        }),
        Shape::Size(min) => size(*min, quantity::SIZE_MAX),
        Shape::SizeTo(max) => size(1, *max),
        Shape::Off(inner) => any(vec![json!({ "enum": ["off", false] }), published(inner)]),
        Shape::Either(forms) => any(forms.iter().map(published).collect()),
        Shape::List(of, min, max) => json!({
            "type": "array", "items": published(of), "minItems": min, "maxItems": max,
        }),
        Shape::Many(of, max) => any(vec![
            published(of),
            json!({ "type": "array", "items": published(of), "maxItems": max }),
        ]),
        Shape::Map(of) => json!({ "type": "object", "additionalProperties": published(of) }),
        Shape::Object(object) => whole(&Parts::of(object)),
        Shape::Section(section) => {
            let short = section.short_setting().map(|short| published(&short.shape));
            let section = whole(&Parts::of_section(section));
            match short {
                Some(short) => any(vec![short, section]),
                None => section,
            }
        }
        Shape::Declared(section, view) => {
            let options = whole(&Parts::of_section(section));
            let mut properties: Map<String, Value> =
                view.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
            properties.insert("options".into(), options.clone());
            any(vec![
                options,
                json!({
                    "type": "object",
                    "description": "As it is shown; what tells how it stands declares nothing.",
                    "properties": properties,
                    "additionalProperties": false,
                    "required": ["options"],
                }),
            ])
        }
    }
}

fn size(min: u64, max: u64) -> Value {
    json!({ "anyOf": [
        {
            "type": "string",
            "description": "A size, such as 64KiB.",
            "pattern": anchored(&quantity::size_pattern(min, max)),
        },
        { "type": "integer", "minimum": min, "maximum": max },
    ]})
}

/// The members of an object or of a section.
struct Parts {
    list: Vec<Part>,
    forms: &'static [Form],
}

struct Part {
    name: &'static str,
    shape: &'static Shape,
    required: bool,
    setting: Option<&'static Setting>,
}

impl Parts {
    fn of(object: &'static Object) -> Self {
        let list = object.members.iter().map(|member| Part {
            name: member.name,
            shape: &member.shape,
            required: member.required,
            setting: None,
        });
        Self { list: list.collect(), forms: object.forms }
    }

    fn of_section(section: &'static Section) -> Self {
        let list = section.settings.iter().map(|setting| Part {
            name: setting.name,
            shape: &setting.shape,
            required: setting.absent == Absent::Required,
            setting: Some(setting),
        });
        Self { list: list.collect(), forms: section.forms }
    }
}

fn whole(object: &Parts) -> Value {
    if object.forms.is_empty() {
        return form(object, None);
    }
    json!({ "oneOf": object.forms.iter().map(|one| form(object, Some(one))).collect::<Vec<_>>() })
}

fn form(object: &Parts, form: Option<&Form>) -> Value {
    let required =
        |part: &Part| part.required || form.is_some_and(|form| form.required.contains(&part.name));
    let property = |part: &Part| {
        if form.is_some_and(|form| form.without.contains(&part.name)) {
            return json!({ "type": "null" });
        }
        if let Some((name, words)) = form.and_then(|form| form.only)
            && name == part.name
        {
            return json!({ "enum": words });
        }
        let mut schema = published(part.shape);
        if !required(part) {
            schema = any(vec![schema, json!({ "type": "null" })]);
        }
        if let Some(setting) = part.setting {
            schema["description"] = setting.about.into();
            if let Absent::Default(text) = setting.absent {
                schema["default"] = typed(part.shape, text);
            }
        }
        schema
    };
    let properties: Map<String, Value> =
        object.list.iter().map(|part| (part.name.to_owned(), property(part))).collect();
    let needed: Vec<&str> =
        object.list.iter().filter(|one| required(one)).map(|one| one.name).collect();
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

//! What a value that fits its shape stands for: short forms unfolded, and defaults put in.

use serde_json::{Map, Value};

use super::{Absent, Section, Shape};

/// The whole of a value that fits its shape: every setting is there, but for those that are unset.
pub fn complete(shape: &Shape, value: Value) -> Value {
    match (shape, value) {
        (Shape::Off(inner), value) => match value {
            Value::Bool(false) => "off".into(),
            Value::String(text) if text == "off" => text.into(),
            value => complete(inner, value),
        },
        (Shape::Choice(_), Value::String(text)) => text.replace('_', "-").into(),
        (Shape::Share, Value::String(text)) => {
            super::text::share(&text).map_or(Value::Null, Value::from)
        }
        (Shape::Many(of, _), Value::Array(items)) => {
            items.into_iter().map(|item| complete(of, item)).collect()
        }
        (Shape::Many(of, _), one) => vec![complete(of, one)].into(),
        (Shape::List(of, ..), Value::Array(items)) => {
            items.into_iter().map(|item| complete(of, item)).collect()
        }
        (Shape::Map(of), Value::Object(members)) => {
            members.into_iter().map(|(name, value)| (name, complete(of, value))).collect()
        }
        (Shape::Object(object), Value::Object(members)) => {
            let shape_of = |name: &str| object.members.iter().find(|member| member.name == name);
            let there = members.into_iter().filter(|(_, value)| !value.is_null());
            there
                .map(|(name, value)| match shape_of(&name) {
                    Some(member) => (name, complete(&member.shape, value)),
                    None => (name, value),
                })
                .collect()
        }
        (Shape::Declared(section, _), Value::Object(mut members)) => {
            match members.remove("options") {
                Some(Value::Object(options)) => filled(section, options),
                _ => filled(section, members),
            }
        }
        (Shape::Section(section), Value::Object(members)) => filled(section, members),
        (Shape::Section(section), value) => match section.short {
            Some(short) => filled(section, [(short.to_owned(), value)].into_iter().collect()),
            None => value,
        },
        (_, value) => value,
    }
}

fn filled(section: &Section, mut given: Map<String, Value>) -> Value {
    let mut whole = Map::new();
    for setting in section.settings {
        let value = match (given.remove(setting.name).unwrap_or_default(), setting.absent) {
            (Value::Null, Absent::Default(text)) => typed(&setting.shape, text),
            (Value::Null, Absent::Empty) => match &setting.shape {
                Shape::Many(..) | Shape::List(..) => Value::Array(Vec::new()),
                _ => Value::Object(Map::new()),
            },
            (Value::Null, Absent::Required | Absent::Unset) => continue,
            (value, _) => value,
        };
        whole.insert(setting.name.to_owned(), complete(&setting.shape, value));
    }
    whole.into()
}

/// What a bare text stands for where a shape is asked for: a number where it may be one, and itself
/// where nothing else fits.
pub fn typed(shape: &Shape, text: &str) -> Value {
    let read = match shape {
        Shape::Bool => match text {
            "true" | "True" | "TRUE" => Some(true.into()),
            "false" | "False" | "FALSE" => Some(false.into()),
            _ => None,
        },
        Shape::Int(..) => text.replace('_', "").parse::<u64>().ok().map(Value::from),
        Shape::Size(_) | Shape::SizeTo(_) => text.parse::<u64>().ok().map(Value::from),
        Shape::Number(..) | Shape::Share => {
            text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from)
        }
        Shape::Off(_) if matches!(text, "off" | "Off" | "OFF" | "false" | "False" | "FALSE") => {
            Some("off".into())
        }
        Shape::Off(inner) | Shape::Many(inner, _) => Some(typed(inner, text)),
        Shape::Section(section) => section.short_setting().map(|short| typed(&short.shape, text)),
        Shape::Either(forms) => {
            forms.iter().map(|form| typed(form, text)).find(|value| !value.is_string())
        }
        _ => None,
    };
    read.unwrap_or_else(|| text.into())
}

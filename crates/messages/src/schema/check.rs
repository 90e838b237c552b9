//! Holds a value to a shape.

use serde_json::{Map, Value};
use weft_kernel::{ByteSize, format_duration};

use super::{Form, Object, Shape, quantity};

/// Checks a value.
///
/// # Errors
/// Where it is wrong, and what it may be there.
pub fn check(shape: &Shape, value: &Value) -> Result<(), String> {
    at(shape, value, &mut Vec::new())
}

/// The way to a value from the outermost one.
type Place<'a> = Vec<String>;

fn at(shape: &Shape, value: &Value, place: &mut Place<'_>) -> Result<(), String> {
    let fits = match (shape, value) {
        (Shape::Any, _) | (Shape::Bool, Value::Bool(_)) => true,
        (Shape::Int(min, max), Value::Number(number)) => {
            number.as_u64().is_some_and(|number| (*min..=*max).contains(&number))
        }
        (Shape::Number(min, max), Value::Number(number)) => {
            number.as_f64().is_some_and(|number| (*min..=*max).contains(&number))
        }
        (Shape::Text(kind), Value::String(text)) => (kind.fits)(text),
        (Shape::Words(words), Value::String(text)) => words.contains(&&**text),
        (Shape::Span(min, max), Value::String(text)) => quantity::span(text, *min, *max).is_some(),
        (Shape::Size(min), Value::String(text)) => quantity::size(text, *min).is_some(),
        (Shape::Size(min), Value::Number(number)) => {
            number.as_u64().is_some_and(|size| (*min..=quantity::SIZE_MAX).contains(&size))
        }
        (Shape::Off(_), Value::Bool(false)) => true,
        (Shape::Off(_), Value::String(text)) if text == "off" => true,
        (Shape::Off(inner), _) if same_kind(inner, value) => {
            return at(inner, value, place).map_err(|say| or_off(inner, say));
        }
        (Shape::Either(forms), _) => {
            // The one form that a value of its kind can be meant as says best what is wrong.
            let mut of_kind = forms.iter().filter(|form| same_kind(form, value));
            match (of_kind.next(), of_kind.next()) {
                (Some(one), None) => return at(one, value, place),
                (None, _) => false,
                _ => forms.iter().any(|form| at(form, value, place).is_ok()),
            }
        }
        (Shape::List(of, min, max), Value::Array(items)) => {
            if !(*min..=*max).contains(&items.len()) {
                false
            } else {
                for (index, item) in items.iter().enumerate() {
                    place.push(index.to_string());
                    at(of, item, place)?;
                    place.pop();
                }
                true
            }
        }
        (Shape::Map(of), Value::Object(members)) => {
            for (name, value) in members {
                place.push(shown(name));
                at(of, value, place)?;
                place.pop();
            }
            true
        }
        (Shape::Object(object), Value::Object(members)) => return whole(object, members, place),
        _ => false,
    };
    if fits { Ok(()) } else { Err(fault(place, &format!("is {}", what(shape)))) }
}

/// Checks the members of an object.
fn whole(object: &Object, given: &Map<String, Value>, place: &mut Place<'_>) -> Result<(), String> {
    for (name, value) in given {
        let Some(member) = object.members.iter().find(|member| member.name == name) else {
            let known: Vec<&str> = object.members.iter().map(|member| member.name).collect();
            let say = if known.is_empty() {
                "is not known here: there is nothing to say".to_owned()
            } else {
                format!("is not known here: there is {}", known.join(", "))
            };
            place.push(shown(name));
            return Err(fault(place, &say));
        };
        if value.is_null() && !member.required {
            continue;
        }
        place.push(member.name.to_owned());
        at(&member.shape, value, place)?;
        place.pop();
    }
    let has = |name: &str| given.get(name).is_some_and(|value| !value.is_null());
    if let Some(missing) = object.members.iter().find(|one| one.required && !has(one.name)) {
        place.push(missing.name.to_owned());
        return Err(fault(place, &format!("is missing: it is {}", what(&missing.shape))));
    }
    let fits = |form: &Form| {
        form.required.iter().all(|name| has(name))
            && !form.without.iter().any(|name| has(name))
            && form.only.is_none_or(|(name, words)| {
                given.get(name).and_then(Value::as_str).is_some_and(|word| words.contains(&word))
            })
    };
    if object.forms.is_empty() || object.forms.iter().any(fits) {
        return Ok(());
    }
    Err(if place.is_empty() {
        format!("the body: {}", object.rule)
    } else {
        format!("the body: `{}`: {}", place.join("."), object.rule)
    })
}

/// Whether a value is of a kind that a shape has at all.
fn same_kind(shape: &Shape, value: &Value) -> bool {
    match shape {
        Shape::Any => true,
        Shape::Bool => value.is_boolean(),
        Shape::Int(..) | Shape::Number(..) => value.is_number(),
        Shape::Text(_) | Shape::Words(_) | Shape::Span(..) => value.is_string(),
        Shape::Size(_) => value.is_string() || value.is_number(),
        Shape::Off(inner) => {
            value.is_string() || *value == Value::Bool(false) || same_kind(inner, value)
        }
        Shape::Either(forms) => forms.iter().any(|form| same_kind(form, value)),
        Shape::List(..) => value.is_array(),
        Shape::Map(_) | Shape::Object(_) => value.is_object(),
    }
}

/// What a value of a shape is, in words.
fn what(shape: &Shape) -> String {
    match shape {
        Shape::Any => "anything".into(),
        Shape::Bool => "true or false".into(),
        Shape::Int(min, u64::MAX) => format!("a whole number from {min} up"),
        Shape::Int(min, max) => format!("a whole number from {min} to {max}"),
        Shape::Number(min, max) => format!("a number from {min} to {max}"),
        Shape::Text(kind) => kind.what.into(),
        Shape::Words(words) => match words.split_last() {
            Some((last, [])) => format!("`{last}`"),
            Some((last, first)) => format!("{} or {last}", first.join(", ")),
            None => "nothing".into(),
        },
        Shape::Span(min, max) => {
            let span = |ms: &u64| format_duration(std::time::Duration::from_millis(*ms));
            format!("a duration from {} to {}, such as 250ms, 30s or 1m30s", span(min), span(max))
        }
        Shape::Size(0) => "a size such as 64KiB, or a whole number of bytes".into(),
        Shape::Size(min) => {
            format!("a size from {}, such as 64KiB, or a whole number of bytes", ByteSize(*min))
        }
        Shape::Off(inner) => match what(inner) {
            said if said.starts_with("off") => said,
            said => format!("{said}, or off"),
        },
        Shape::Either(forms) => forms.iter().map(what).collect::<Vec<_>>().join("; or "),
        Shape::List(of, min, max) => {
            format!("a list with {min} to {max} items, each of them {}", what(of))
        }
        Shape::Map(of) => format!("an object whose members are each {}", what(of)),
        Shape::Object(object) => {
            let known: Vec<&str> = object.members.iter().map(|member| member.name).collect();
            format!("an object with {}", known.join(", "))
        }
    }
}

/// A fault of what could also have been off.
fn or_off(inner: &Shape, say: String) -> String {
    // What is said of a member of it is the member's alone.
    let inner = what(inner);
    if say.ends_with(&inner) && !inner.starts_with("off") { format!("{say}, or off") } else { say }
}

fn fault(place: &[String], say: &str) -> String {
    if place.is_empty() {
        format!("the body {say}")
    } else {
        format!("the body: `{}` {say}", place.join("."))
    }
}

/// A name of the client's, short enough to be shown.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

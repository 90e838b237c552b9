//! Holds a value to a shape.

use serde_json::{Map, Value};
use weft_kernel::{ByteSize, format_duration};

use super::{Absent, Form, Object, Section, Shape, quantity, text::SHARE};

/// What is wrong with a value.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Where: the way to it from the outermost value, by names and indices.
    pub place: Vec<String>,
    /// Why.
    pub cause: Cause,
}

/// Why a value is wrong.
#[derive(Clone, Debug)]
pub enum Cause {
    /// There is no member of this name; these there are.
    Unknown(Vec<&'static str>),
    /// It must be there.
    Missing(&'static Shape),
    /// It is none of what it may be, which is said in words.
    Expected(String),
    /// Its members do not go with each other; the rule says which do.
    Rule(&'static str),
    /// What no shape can say, and what to do about it.
    Said(String, Option<String>),
}

impl Fault {
    /// A fault that no shape can say.
    pub fn said(place: &[&str], cause: impl Into<String>) -> Self {
        let place = place.iter().map(|step| (*step).to_owned()).collect();
        Self { place, cause: Cause::Said(cause.into(), None) }
    }

    /// The same with what to do about it.
    pub fn help(mut self, remedy: impl Into<String>) -> Self {
        if let Cause::Said(_, help) = &mut self.cause {
            *help = Some(remedy.into());
        }
        self
    }

    /// The fault in the words of the API.
    pub fn text(&self) -> String {
        let place = self.place.join(".");
        let is = match &self.cause {
            Cause::Unknown(known) if known.is_empty() => {
                "is not known here: there is nothing to say".to_owned()
            }
            Cause::Unknown(known) => format!("is not known here: there is {}", known.join(", ")),
            Cause::Missing(shape) => format!("is missing: it is {}", what(shape)),
            Cause::Expected(what) => format!("is {what}"),
            Cause::Rule(rule) if place.is_empty() => return format!("the body: {rule}"),
            Cause::Rule(rule) => return format!("the body: `{place}`: {rule}"),
            Cause::Said(cause, remedy) => {
                let place = if place.is_empty() { place } else { format!("{place}: ") };
                let remedy = remedy.as_ref().map(|remedy| format!("; {remedy}"));
                return format!("{place}{cause}{}", remedy.unwrap_or_default());
            }
        };
        if place.is_empty() {
            format!("the body {is}")
        } else {
            format!("the body: `{place}` {is}")
        }
    }
}

/// Checks a value.
///
/// # Errors
/// Everything that is wrong: where, and what it may be there.
pub fn check(shape: &'static Shape, value: &Value) -> Result<(), String> {
    let faults = faults(shape, value);
    if faults.is_empty() {
        return Ok(());
    }
    Err(faults.iter().map(Fault::text).collect::<Vec<_>>().join("; "))
}

/// Everything that is wrong with a value.
pub fn faults(shape: &'static Shape, value: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    at(shape, value, &mut Vec::new(), &mut faults);
    faults
}

fn at(shape: &'static Shape, value: &Value, place: &mut Vec<String>, faults: &mut Vec<Fault>) {
    let fits = match (shape, value) {
        (Shape::Any, _) | (Shape::Bool, Value::Bool(_)) => true,
        (Shape::Int(min, max), Value::Number(number)) => {
            number.as_u64().is_some_and(|number| (*min..=*max).contains(&number))
        }
        (Shape::Number(min, max), Value::Number(number)) => {
            number.as_f64().is_some_and(|number| (*min..=*max).contains(&number))
        }
        (Shape::Share, Value::Number(number)) => {
            number.as_f64().is_some_and(|number| (0.0..=1.0).contains(&number))
        }
        (Shape::Share, Value::String(text)) => (SHARE.fits)(text),
        (Shape::Text(kind), Value::String(text)) => (kind.fits)(text),
        (Shape::Words(words), Value::String(text)) => words.contains(&&**text),
        (Shape::Choice(words), Value::String(text)) => {
            let text = text.replace('_', "-");
            words.iter().any(|(word, _)| *word == text)
        }
        (Shape::Span(min, max), Value::String(text)) => quantity::span(text, *min, *max).is_some(),
        (Shape::Size(min), Value::String(text)) => quantity::size(text, *min).is_some(),
        (Shape::Size(min), Value::Number(number)) => {
            number.as_u64().is_some_and(|size| (*min..=quantity::SIZE_MAX).contains(&size))
        }
        (Shape::SizeTo(max), Value::String(text)) => {
            quantity::size(text, 1).is_some_and(|size| size <= *max)
        }
        (Shape::SizeTo(max), Value::Number(number)) => {
            number.as_u64().is_some_and(|size| (1..=*max).contains(&size))
        }
        (Shape::Off(_), Value::Bool(false)) => true,
        (Shape::Off(_), Value::String(text)) if text == "off" => true,
        (Shape::Off(inner), _) if same_kind(inner, value) => {
            let from = faults.len();
            at(inner, value, place, faults);
            for fault in faults.iter_mut().skip(from).filter(|fault| fault.place == *place) {
                or_off(inner, &mut fault.cause);
            }
            return;
        }
        (Shape::Either(forms), _) => {
            // The one form that a value of its kind can be meant as says best what is wrong.
            let mut of_kind = forms.iter().filter(|form| same_kind(form, value));
            match (of_kind.next(), of_kind.next()) {
                (Some(one), None) => return at(one, value, place, faults),
                (None, _) => false,
                _ => forms.iter().any(|form| self::faults(form, value).is_empty()),
            }
        }
        (Shape::List(of, min, max), Value::Array(items)) => {
            if (*min..=*max).contains(&items.len()) {
                return each(of, items, place, faults);
            }
            false
        }
        (Shape::Many(of, max), Value::Array(items)) => {
            if items.len() <= *max {
                return each(of, items, place, faults);
            }
            false
        }
        (Shape::Many(of, _), _) if same_kind(of, value) => return at(of, value, place, faults),
        (Shape::Map(of), Value::Object(members)) => {
            for (name, value) in members {
                place.push(shown(name));
                at(of, value, place, faults);
                place.pop();
            }
            return;
        }
        (Shape::Object(object), Value::Object(members)) => {
            return whole(&Members::of(object), members, place, faults);
        }
        (Shape::Section(section), Value::Object(members)) => {
            return whole(&Members::of_section(section), members, place, faults);
        }
        (Shape::Section(section), _) => match section.short_setting() {
            Some(short) if same_kind(&short.shape, value) => {
                return at(&short.shape, value, place, faults);
            }
            _ => false,
        },
        (Shape::Declared(section, view), Value::Object(members)) => {
            let Some(options) = members.get("options") else {
                return whole(&Members::of_section(section), members, place, faults);
            };
            for name in members.keys().filter(|name| *name != "options") {
                if !view.contains(&&**name) {
                    place.push(shown(name));
                    let known = view.iter().copied().chain(["options"]).collect();
                    faults.push(Fault { place: place.clone(), cause: Cause::Unknown(known) });
                    place.pop();
                }
            }
            place.push("options".into());
            match options {
                Value::Object(options) => {
                    whole(&Members::of_section(section), options, place, faults);
                }
                _ => {
                    faults.push(Fault { place: place.clone(), cause: Cause::Expected(what(shape)) })
                }
            }
            place.pop();
            return;
        }
        _ => false,
    };
    if !fits {
        faults.push(Fault { place: place.clone(), cause: Cause::Expected(what(shape)) });
    }
}

fn each(of: &'static Shape, items: &[Value], place: &mut Vec<String>, faults: &mut Vec<Fault>) {
    for (index, item) in items.iter().enumerate() {
        place.push(index.to_string());
        at(of, item, place, faults);
        place.pop();
    }
}

/// The members of an object or of a section.
struct Members {
    list: Vec<(&'static str, &'static Shape, bool)>,
    forms: &'static [Form],
    rule: &'static str,
}

impl Members {
    fn of(object: &'static Object) -> Self {
        let list = object.members.iter().map(|one| (one.name, &one.shape, one.required));
        Self { list: list.collect(), forms: object.forms, rule: object.rule }
    }

    fn of_section(section: &'static Section) -> Self {
        let list = section
            .settings
            .iter()
            .map(|one| (one.name, &one.shape, one.absent == Absent::Required));
        Self { list: list.collect(), forms: section.forms, rule: section.rule }
    }
}

/// Checks the members of an object.
fn whole(
    object: &Members,
    given: &Map<String, Value>,
    place: &mut Vec<String>,
    faults: &mut Vec<Fault>,
) {
    let from = faults.len();
    for (name, value) in given {
        let Some((name, shape, required)) = object.list.iter().find(|(member, ..)| member == name)
        else {
            place.push(shown(name));
            let known = object.list.iter().map(|(name, ..)| *name).collect();
            faults.push(Fault { place: place.clone(), cause: Cause::Unknown(known) });
            place.pop();
            continue;
        };
        if value.is_null() && !required {
            continue;
        }
        place.push((*name).to_owned());
        at(shape, value, place, faults);
        place.pop();
    }
    let has = |name: &str| given.get(name).is_some_and(|value| !value.is_null());
    for (name, shape, _) in object.list.iter().filter(|(name, _, must)| *must && !has(name)) {
        let mut place = place.clone();
        place.push((*name).to_owned());
        // Null where something must be was told above.
        if !faults.iter().any(|fault| fault.place == place) {
            faults.push(Fault { place, cause: Cause::Missing(shape) });
        }
    }
    let fits = |form: &Form| {
        form.required.iter().all(|name| has(name))
            && !form.without.iter().any(|name| has(name))
            && form.only.is_none_or(|(name, words)| {
                given.get(name).and_then(Value::as_str).is_some_and(|word| words.contains(&word))
            })
    };
    let formed = object.forms.is_empty() || object.forms.iter().any(fits);
    // Which form was meant is not known while its members are wrong.
    if !formed && faults.len() == from {
        faults.push(Fault { place: place.clone(), cause: Cause::Rule(object.rule) });
    }
}

/// Whether a value is of a kind that a shape has at all.
fn same_kind(shape: &Shape, value: &Value) -> bool {
    match shape {
        Shape::Any => true,
        Shape::Bool => value.is_boolean(),
        Shape::Int(..) | Shape::Number(..) => value.is_number(),
        Shape::Text(_) | Shape::Words(_) | Shape::Choice(_) | Shape::Span(..) => value.is_string(),
        Shape::Size(_) | Shape::SizeTo(_) | Shape::Share => value.is_string() || value.is_number(),
        Shape::Off(inner) => {
            value.is_string() || *value == Value::Bool(false) || same_kind(inner, value)
        }
        Shape::Either(forms) => forms.iter().any(|form| same_kind(form, value)),
        Shape::List(..) => value.is_array(),
        Shape::Many(of, _) => value.is_array() || same_kind(of, value),
        Shape::Map(_) | Shape::Object(_) | Shape::Declared(..) => value.is_object(),
        Shape::Section(section) => {
            let short = section.short_setting();
            value.is_object() || short.is_some_and(|short| same_kind(&short.shape, value))
        }
    }
}

/// What a value of a shape is, in words.
pub fn what(shape: &Shape) -> String {
    match shape {
        Shape::Any => "anything".into(),
        Shape::Bool => "true or false".into(),
        Shape::Int(min, u64::MAX) => format!("a whole number from {min} up"),
        Shape::Int(min, max) => format!("a whole number from {min} to {max}"),
        Shape::Number(min, max) => format!("a number from {min} to {max}"),
        Shape::Share => "a number from 0 to 1; or a share such as 20%".into(),
        Shape::Text(kind) => kind.what.into(),
        Shape::Words(words) => either_of(words),
        Shape::Choice(words) => {
            let known = choices(words);
            either_of(&known.iter().map(String::as_str).collect::<Vec<_>>())
        }
        Shape::Span(min, max) => {
            let span = |ms: &u64| format_duration(std::time::Duration::from_millis(*ms));
            format!("a duration from {} to {}, such as 250ms, 30s or 1m30s", span(min), span(max))
        }
        Shape::Size(0) => "a size such as 64KiB, or a whole number of bytes".into(),
        Shape::Size(min) => {
            format!("a size from {}, such as 64KiB, or a whole number of bytes", ByteSize(*min))
        }
        Shape::SizeTo(max) => format!(
            "a size from 1B to {}, such as 64KiB, or a whole number of bytes",
            ByteSize(*max)
        ),
        Shape::Off(inner) => match what(inner) {
            said if said.starts_with("off") => said,
            said => format!("{said}, or off"),
        },
        Shape::Either(forms) => forms.iter().map(what).collect::<Vec<_>>().join("; or "),
        Shape::List(of, min, max) => {
            format!("a list with {min} to {max} items, each of them {}", what(of))
        }
        Shape::Many(of, max) => {
            format!("{}; or a list with 0 to {max} items, each of them {}", what(of), what(of))
        }
        Shape::Map(of) => format!("an object whose members are each {}", what(of)),
        Shape::Object(object) => {
            let known: Vec<&str> = object.members.iter().map(|member| member.name).collect();
            format!("an object with {}", known.join(", "))
        }
        Shape::Section(section) | Shape::Declared(section, _) => {
            let known: Vec<&str> = section.settings.iter().map(|one| one.name).collect();
            let known = format!("an object with {}", known.join(", "));
            match section.short_setting() {
                Some(short) => format!("{}; or {known}", what(&short.shape)),
                None => known,
            }
        }
    }
}

/// The words of a choice in every way to write them.
pub(super) fn choices(words: &[(&str, &str)]) -> Vec<String> {
    let known = words.iter().map(|(word, _)| (*word).to_owned());
    let other = words.iter().filter(|(word, _)| word.contains('-'));
    known.chain(other.map(|(word, _)| word.replace('-', "_"))).collect()
}

fn either_of(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, [])) => format!("`{last}`"),
        Some((last, first)) => format!("{} or {last}", first.join(", ")),
        None => "nothing".into(),
    }
}

/// Says of a fault that off would do as well.
fn or_off(inner: &Shape, cause: &mut Cause) {
    if let Cause::Expected(said) = cause
        // What is said of a member of it is the member's alone.
        && said.ends_with(&what(inner))
        && !said.starts_with("off")
    {
        said.push_str(", or off");
    }
}

/// A name of the client's, short enough to be shown.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

//! Bodies: what is read of a request, checked by a shape before it is read.
//!
//! The shape is the definition: it is published, checked by and told of; the Rust type behind it takes
//! whatever fits.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use weft_kernel::{Error, Reason, Result};

use crate::schema::{self, Fault, Object, Section, Shape};

/// A body whose shape is known.
pub trait Body: DeserializeOwned {
    /// What it may be: an object.
    const SHAPE: &'static Shape;

    /// Takes from the text what a value does not keep of it.
    fn with_text(&mut self, _body: &[u8]) {}
}

/// The settings of a thing that is declared.
pub trait Settings: Body + Serialize + Clone + Send + Sync + 'static {
    /// Their definition.
    const SECTION: &'static Section;

    /// What is wrong with them that their shapes cannot say.
    fn faults(&self) -> Vec<Fault>;

    /// Reads a value that fits the shape of the section; what is left out has its default.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place.
    fn read(value: Value) -> Result<Self, Vec<Fault>> {
        Self::read_text(value, b"{}")
    }

    /// As [`Settings::read`], with the text of what a value does not keep of it ([`Body::with_text`]).
    ///
    /// # Errors
    /// Everything that is wrong, each with its place.
    fn read_text(value: Value, text: &[u8]) -> Result<Self, Vec<Fault>> {
        let shape = const { &Shape::Section(Self::SECTION) };
        let faults = schema::faults(shape, &value);
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut whole: Self = serde_json::from_value(schema::complete(shape, value))
            .map_err(|error| vec![Fault::said(&[], error.to_string())])?;
        whole.with_text(text);
        let faults = whole.faults();
        if faults.is_empty() { Ok(whole) } else { Err(faults) }
    }
}

/// A body that says nothing.
#[derive(Debug, Deserialize)]
pub struct Nothing {}

impl Body for Nothing {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[]));
}

/// Reads a JSON body; an empty one is an empty object.
///
/// # Errors
/// [`Reason::MalformedRequest`] that says where the faults are.
pub fn read<T: Body>(body: &[u8]) -> Result<T> {
    let refuse = |say: String| Error::new(Reason::MalformedRequest, say);
    let body = body.trim_ascii();
    let body = if body.is_empty() { b"{}" } else { body };
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| refuse(format!("the body is not JSON: {error}")))?;
    if !value.is_object() {
        return Err(refuse("the body is not a JSON object".into()));
    }
    schema::check(T::SHAPE, &value).map_err(refuse)?;
    let unread = |error| {
        let say = "the body cannot be read: a member is there twice, or a number is out of range";
        refuse(say.into()).because(error)
    };
    // A member that is there twice is one that a value does not show.
    serde_json::from_slice::<Distinct>(body).map_err(unread)?;
    let mut read: T = serde_json::from_value(schema::complete(T::SHAPE, value)).map_err(unread)?;
    read.with_text(body);
    Ok(read)
}

/// What the faults of settings say, as the error of a request.
pub fn refuse(faults: &[Fault]) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = faults.iter().map(Fault::text).collect();
    Err(Error::new(Reason::MalformedRequest, told.join("; ")))
}

/// JSON in which no object has a member twice.
struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(DistinctVisitor)
    }
}

struct DistinctVisitor;

impl<'de> Visitor<'de> for DistinctVisitor {
    type Value = Distinct;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Distinct, A::Error> {
        let mut seen = HashSet::new();
        while let Some((name, Distinct)) = map.next_entry::<String, _>()? {
            if !seen.insert(name) {
                return Err(A::Error::custom("a member is there twice"));
            }
        }
        Ok(Distinct)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Distinct, A::Error> {
        while seq.next_element::<Distinct>()?.is_some() {}
        Ok(Distinct)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_str<E>(self, _: &str) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_unit<E>(self) -> Result<Distinct, E> {
        Ok(Distinct)
    }
}

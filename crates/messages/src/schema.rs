//! What bodies and parameters may be: tables, by which requests are checked and from which the OpenAPI
//! document is made, so that what the document forbids is refused and the other way round.
//!
//! A fault is told in the words of the API, with its place; never in those of the code. What a schema
//! cannot say (an expression, a time zone, options that contradict each other) is checked behind it.
//!
//! Reading order: [`Shape`], `check`, `publish`, `quantity`.

mod check;
mod publish;
pub(crate) mod quantity;
pub mod text;

pub use check::check;
pub use publish::published;

/// What a value may be.
#[derive(Debug)]
pub enum Shape {
    /// Anything.
    Any,
    /// True or false.
    Bool,
    /// A whole number within bounds.
    Int(u64, u64),
    /// A number within bounds.
    Number(f64, f64),
    /// A text of a kind.
    Text(&'static text::Kind),
    /// One of a few words.
    Words(&'static [&'static str]),
    /// A duration within bounds, in milliseconds.
    Span(u64, u64),
    /// A number of bytes from a least one on, as a text with its unit or as a number.
    Size(u64),
    /// `"off"`, `false`, or the other.
    Off(&'static Shape),
    /// Any one of these.
    Either(&'static [Shape]),
    /// A list with so many items at least and at most.
    List(&'static Shape, usize, usize),
    /// An object of any names.
    Map(&'static Shape),
    /// An object of known members.
    Object(&'static Object),
}

/// An object of known members. One that is not required may be null, as if it were not there.
#[derive(Debug)]
pub struct Object {
    /// Its members.
    pub members: &'static [Member],
    /// Its forms, if not all members go with each other.
    pub forms: &'static [Form],
    /// What is said of one that has none of the forms.
    pub rule: &'static str,
}

/// A member of an object.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
}

/// A form of an object: which of its members it has.
#[derive(Debug)]
pub struct Form {
    /// A member that must have one of some words.
    pub only: Option<(&'static str, &'static [&'static str])>,
    /// Members that must be there, beside those that always must.
    pub required: &'static [&'static str],
    /// Members that must not be there.
    pub without: &'static [&'static str],
}

/// A parameter of a query.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// What it may be.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
}

impl Object {
    /// An object whose members all go with each other.
    pub const fn of(members: &'static [Member]) -> Self {
        Self { members, forms: &[], rule: "" }
    }
}

impl Member {
    /// A member that may be there.
    pub const fn may(name: &'static str, shape: Shape) -> Self {
        Self { name, shape, required: false }
    }

    /// A member that must be there.
    pub const fn must(name: &'static str, shape: Shape) -> Self {
        Self { name, shape, required: true }
    }
}

impl Shape {
    /// Whether an object of this shape has a member that must be there.
    pub fn is_required(&self) -> bool {
        match self {
            Self::Object(object) => {
                object.members.iter().any(|member| member.required) || !object.forms.is_empty()
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;

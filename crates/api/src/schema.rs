//! What bodies and parameters may be: tables, by which requests are checked and from which the OpenAPI
//! document is made, so that what the document forbids is refused and the other way round.
//!
//! A fault is told in the words of the API, with its place; never in those of the code. What a schema
//! cannot say (an expression, a time zone, options that contradict each other) is checked behind it.
//!
//! Reading order: [`Shape`], [`Section`], `check`, `complete`, `publish`, `quantity`.

mod check;
mod complete;
mod publish;
pub(crate) mod quantity;
pub mod text;

pub use check::{Cause, Fault, check, faults, what};
pub use complete::{complete, typed};
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
    /// One of a few words, each with what it means; `_` may be written for `-`.
    Choice(&'static [(&'static str, &'static str)]),
    /// A share: a number from 0 to 1, or a text such as `20%`.
    Share,
    /// A duration within bounds, in milliseconds.
    Span(u64, u64),
    /// A number of bytes from a least one on, as a text with its unit or as a number.
    Size(u64),
    /// A number of bytes from 1 to a most one, likewise.
    SizeTo(u64),
    /// `"off"`, `false`, or the other.
    Off(&'static Shape),
    /// Any one of these.
    Either(&'static [Shape]),
    /// A list with so many items at least and at most.
    List(&'static Shape, usize, usize),
    /// One item, or a list of at most so many.
    Many(&'static Shape, usize),
    /// An object of any names.
    Map(&'static Shape),
    /// An object of known members.
    Object(&'static Object),
    /// A section of settings.
    Section(&'static Section),
    /// What is declared: its settings alone, or as it is shown, with the settings as its member
    /// `options` beside members of these names, which tell how it stands and declare nothing.
    Declared(&'static Section, &'static [&'static str]),
}

/// A section of settings: the one definition of what a thing can be told, of which the configuration,
/// the API, the command line and the reference are views.
#[derive(Debug)]
pub struct Section {
    /// What it is called in the reference.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// The setting that a bare value, in place of the section, stands for.
    pub short: Option<&'static str>,
    /// Its settings.
    pub settings: &'static [Setting],
    /// Its forms, if not all settings go with each other.
    pub forms: &'static [Form],
    /// What is said of one that has none of the forms.
    pub rule: &'static str,
}

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What it does, with its unit.
    pub about: &'static str,
    /// What it may be.
    pub shape: Shape,
    /// What stands in for it when it is left out.
    pub absent: Absent,
    /// Whether it means something only at the moment at which it is said, so that no file can say it.
    pub moment: bool,
}

/// What stands in for a setting that is left out, or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Nothing: it must be there.
    Required,
    /// Nothing; what that means, the setting says.
    Unset,
    /// The defaults of its section, or an empty map or list.
    Empty,
    /// A value, as it would be written.
    Default(&'static str),
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

impl Section {
    /// The setting of this name.
    pub fn setting(&self, name: &str) -> Option<&'static Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }

    /// The setting that a bare value stands for.
    pub fn short_setting(&self) -> Option<&'static Setting> {
        self.setting(self.short?)
    }
}

impl Setting {
    /// A setting with a default.
    pub const fn new(
        name: &'static str,
        shape: Shape,
        default: &'static str,
        about: &'static str,
    ) -> Self {
        Self { name, about, shape, absent: Absent::Default(default), moment: false }
    }

    /// A setting that must be there.
    pub const fn must(name: &'static str, shape: Shape, about: &'static str) -> Self {
        Self { name, about, shape, absent: Absent::Required, moment: false }
    }

    /// A setting without which there is nothing of it.
    pub const fn may(name: &'static str, shape: Shape, about: &'static str) -> Self {
        Self { name, about, shape, absent: Absent::Unset, moment: false }
    }

    /// A section of defaults, or a map or list that is empty by itself.
    pub const fn group(name: &'static str, shape: Shape, about: &'static str) -> Self {
        Self { name, about, shape, absent: Absent::Empty, moment: false }
    }

    /// The same, for what means something only at the moment at which it is said.
    pub const fn of_the_moment(self) -> Self {
        Self { moment: true, ..self }
    }
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
    /// The shape of a value that may be off, when it is not.
    pub fn within(&self) -> &Self {
        match self {
            Self::Off(inner) => inner.within(),
            shape => shape,
        }
    }

    /// Whether an object of this shape has a member that must be there.
    pub fn is_required(&self) -> bool {
        match self {
            Self::Object(object) => {
                object.members.iter().any(|member| member.required) || !object.forms.is_empty()
            }
            Self::Section(section) | Self::Declared(section, _) => {
                section.settings.iter().any(|setting| setting.absent == Absent::Required)
                    || !section.forms.is_empty()
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;

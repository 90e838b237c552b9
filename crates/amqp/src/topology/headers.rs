//! Matching by headers: the arguments of a binding against the headers of a message.

use weft_wire::amqp::{Entry, Table, Value};

/// How many of a binding's arguments a message must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    All,
    Any,
}

/// A binding's arguments, checked.
#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    mode: Mode,
    /// Whether names that begin with `x-` count.
    with_x: bool,
    arguments: Box<[u8]>,
}

/// An `x-match` that is none of the four words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WrongMatch {
    /// A text that is none of them.
    Value(String),
    /// Not a text.
    Type,
}

impl Matcher {
    /// Reads the arguments of a binding.
    pub(crate) fn new(arguments: Table<'_>) -> Result<Self, WrongMatch> {
        let (mode, with_x) = match arguments.get("x-match") {
            None => (Mode::All, false),
            Some(Value::Long(word)) => match word {
                b"all" => (Mode::All, false),
                b"any" => (Mode::Any, false),
                b"all-with-x" => (Mode::All, true),
                b"any-with-x" => (Mode::Any, true),
                _ => return Err(WrongMatch::Value(String::from_utf8_lossy(word).into_owned())),
            },
            Some(_) => return Err(WrongMatch::Type),
        };
        Ok(Self { mode, with_x, arguments: arguments.bytes().into() })
    }

    /// Whether a message with these headers is wanted.
    pub(crate) fn takes(&self, headers: Table<'_>) -> bool {
        let Ok(arguments) = Table::parse(&self.arguments) else { return false };
        let mut wanted = arguments.entries().filter(|entry| {
            entry.name != b"x-match" && (self.with_x || !entry.name.starts_with(b"x-"))
        });
        let fits = |want: Entry<'_>| match headers.entries().find(|entry| entry.name == want.name) {
            None => false,
            Some(given) => want.value == Value::Void || equal(want.value, given.value),
        };
        match self.mode {
            Mode::All => wanted.all(fits),
            Mode::Any => wanted.any(fits),
        }
    }
}

/// Numbers are equal whatever their width; all else by type and value.
fn equal(one: Value<'_>, other: Value<'_>) -> bool {
    let float = |value: Value<'_>| match value {
        Value::F32(number) => Some(f64::from(number)),
        Value::F64(number) => Some(number),
        _ => None,
    };
    match (one.integer(), other.integer()) {
        (Some(one), Some(other)) => one == other,
        (None, None) => match (float(one), float(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        },
        (Some(whole), None) => float(other).is_some_and(|other| whole as f64 == other),
        (None, Some(whole)) => float(one).is_some_and(|one| whole as f64 == one),
    }
}

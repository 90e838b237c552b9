//! A CEL expression over a message: its variables, and how they are read.

use std::{borrow::Cow, sync::OnceLock};

use weft_expression::{
    Document, Kind, Members, Object, Operand, Scope, Variables, Wanted,
    scope::{self, any_name},
};
use weft_kernel::{Error, Reason, Result};

use super::Judged;
use crate::message::{Event, Item, Message, Value as Attribute};

/// The largest body that is parsed for an expression, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

static SCOPE: Scope = Scope {
    variables: &[
        ("event", Kind::Object(&EVENT)),
        ("headers", Kind::Object(&HEADERS)),
        ("data", Kind::Any),
    ],
    budget: 4_000_000,
};

/// What expressions see of the attributes of an event.
pub static EVENT: Object = Object {
    fields: &[
        ("id", Kind::Text),
        ("source", Kind::Text),
        ("type", Kind::Text),
        ("specversion", Kind::Text),
        ("subject", Kind::Text),
        ("time", Kind::Text),
        ("datacontenttype", Kind::Text),
        ("dataschema", Kind::Text),
    ],
    others: Some(Kind::Any),
    check: attribute_name,
};

/// What they see of its headers.
pub static HEADERS: Object = Object { fields: &[], others: Some(Kind::Text), check: header_name };

fn attribute_name(name: &str) -> scope::Result<()> {
    if name == "data" {
        return Err("the body is `data`, not `event.data`".into());
    }
    let may_be = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match !name.is_empty() && name.bytes().all(may_be) {
        true => any_name(name),
        false => Err(format!(
            "no event has an attribute `{name}`: their names are lower-case letters and digits"
        )),
    }
}

fn header_name(name: &str) -> scope::Result<()> {
    match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => {
            let lower = name.to_ascii_lowercase();
            Err(format!("headers have their names in lower case: `{lower}`"))
        }
        false => any_name(name),
    }
}

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Expression(weft_expression::Expression);

impl Expression {
    /// Compiles an expression; one that was declared before may fail on every message still, which is
    /// counted then.
    pub(super) fn compile(text: &str, declared: bool) -> Result<Self> {
        let compiled = match declared {
            true => weft_expression::Expression::compile_again(text, &SCOPE),
            false => weft_expression::Expression::compile(text, &SCOPE, Wanted::Bool),
        };
        let refuse = |why| Error::new(Reason::MalformedRequest, format!("filter: {why}"));
        compiled.map(Self).map_err(refuse)
    }

    /// What it says of an event.
    pub(super) fn judge(&self, message: &Message) -> Judged {
        let Some(looked_at) = LookedAt::of(message) else { return Judged::Failed };
        match self.0.is_true(&looked_at) {
            Ok(true) => Judged::Takes,
            Ok(false) => Judged::Passes,
            Err(_) => Judged::Failed,
        }
    }
}

/// An event as the variables `event`, `headers` and `data`.
pub struct LookedAt<'a> {
    attributes: Attributes<'a>,
    headers: Headers<'a>,
    message: &'a Message,
    /// The body, parsed when it is read for the first time; nothing if it is too large.
    data: OnceLock<Option<Document>>,
}

impl<'a> LookedAt<'a> {
    /// Of a message; `None` for one that is no event.
    pub fn of(message: &'a Message) -> Option<Self> {
        let event = message.event()?;
        let (attributes, headers) = (Attributes(event), Headers(event));
        Some(Self { attributes, headers, message, data: OnceLock::new() })
    }
}

impl Variables for LookedAt<'_> {
    fn variable(&self, name: &str) -> Option<Operand<'_>> {
        match name {
            "event" => Some(Operand::Object(&self.attributes)),
            "headers" => Some(Operand::Object(&self.headers)),
            "data" => {
                let data = self.data.get_or_init(|| {
                    let body = self.message.body();
                    let json = || serde_json::from_slice(&body).unwrap_or_default();
                    (body.len() <= BODY_BYTES_MAX).then(|| Document::new(&json()))
                });
                data.as_ref().map(Operand::Document)
            }
            _ => None,
        }
    }
}

struct Attributes<'a>(Event<'a>);

impl Members for Attributes<'_> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        Some(match self.0.get(name) {
            Some(Attribute::Integer(number)) => Operand::Int(i64::from(number)),
            Some(Attribute::Boolean(truth)) => Operand::Bool(truth),
            Some(Attribute::Binary(bytes)) => Operand::Bytes(bytes),
            Some(Attribute::Text(text)) => Operand::Text(text.into()),
            None if name == "specversion" => Operand::Text("1.0".into()),
            None => return None,
        })
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        let names = self.0.items().filter_map(|item| match item {
            Item::Attribute(name, _) if name != "specversion" => Some(Cow::Borrowed(name)),
            _ => None,
        });
        std::iter::once(Cow::Borrowed("specversion")).chain(names).collect()
    }
}

struct Headers<'a>(Event<'a>);

impl<'a> Headers<'a> {
    fn all(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.items().filter_map(|item| match item {
            Item::Header(name, value) => Some((name, value)),
            _ => None,
        })
    }
}

impl Members for Headers<'_> {
    /// The last of its name, as it always was.
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        // Names are in lower case here, however they were sent.
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let named = self.all().filter(|(of, _)| of.eq_ignore_ascii_case(name));
        named.last().map(|(_, value)| Operand::Text(value.into()))
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        let mut names: Vec<_> =
            self.all().map(|(name, _)| Cow::Owned(name.to_ascii_lowercase())).collect();
        names.sort();
        names.dedup();
        names
    }
}

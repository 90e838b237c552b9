//! Which messages a subscription takes.
//!
//! All parts must agree: the type is in the list, each attribute is equal or begins so, and the CEL
//! expression is true. What costs less is asked first. An expression sees the attributes as `event`
//! (a map of names; absent ones are absent: `has(event.subject)`), the headers as `headers`, and a JSON
//! body as `data`; the body is parsed only if the expression names `data`. An expression that fails on
//! a message (a field that is not there, types that do not compare) does not take it, and that is told
//! apart ([`Judged::Failed`]); one that would fail on every message is refused when it is declared.
//!
//! Bounds are those of `weft_expression`, beside a body that is parsed, which has at most 1 MiB.

mod expression;

use serde::{Deserialize, Serialize};
use weft_kernel::{Error, Reason, Result};

use self::expression::Expression;
pub use self::expression::{EVENT, HEADERS, LookedAt};
use crate::message::{Form, Message};

/// The most types and attribute conditions of one filter.
pub const CONDITIONS_MAX: usize = 256;

/// How an attribute is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compare {
    /// It is this text.
    Equal(String),
    /// It begins with this text.
    Prefix(String),
}

/// Which messages a subscription takes; all of them by default.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterOptions {
    /// The event's `type` is one of these, or begins so where one ends in `*`; any if empty.
    pub types: Vec<String>,
    /// Each named attribute, or else header, is as it says.
    pub attributes: Vec<(String, Compare)>,
    /// A CEL expression over `event`, `headers` and `data` that must be true.
    pub expression: Option<String>,
}

impl FilterOptions {
    /// Whether it takes everything.
    pub fn takes_all(&self) -> bool {
        self.types.is_empty() && self.attributes.is_empty() && self.expression.is_none()
    }

    /// Makes it ready for use.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] with what is wrong with the expression, or if there is too much.
    pub fn compile(&self) -> Result<Filter> {
        self.compile_as(false)
    }

    /// As [`FilterOptions::compile`], for what was declared before and is found again.
    ///
    /// # Errors
    /// When the expression cannot be read at all.
    pub(crate) fn compile_declared(&self) -> Result<Filter> {
        self.compile_as(true)
    }

    fn compile_as(&self, declared: bool) -> Result<Filter> {
        if self.types.len() + self.attributes.len() > CONDITIONS_MAX {
            return Err(Error::new(
                Reason::MalformedRequest,
                "filter: at most 256 types and attributes",
            ));
        }
        let compile = |text| Expression::compile(text, declared);
        let expression = self.expression.as_deref().map(compile).transpose()?;
        Ok(Filter { options: self.clone(), expression })
    }
}

/// What a filter says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It takes it.
    Takes,
    /// It does not.
    Passes,
    /// Its expression fails on the message, so that it does not take it.
    Failed,
}

/// A filter that is ready for use.
#[derive(Debug)]
pub struct Filter {
    options: FilterOptions,
    expression: Option<Expression>,
}

impl Filter {
    /// Whether it takes everything, so that nothing needs to be looked at.
    pub fn takes_all(&self) -> bool {
        self.options.takes_all()
    }

    /// Whether it takes a message. An AMQP message is looked at as the event that it is.
    pub fn takes(&self, message: &Message) -> bool {
        self.judge(message) == Judged::Takes
    }

    /// What it says of a message.
    pub fn judge(&self, message: &Message) -> Judged {
        if self.takes_all() {
            return Judged::Takes;
        }
        let converted;
        let message = match message.form() {
            Form::Event => message,
            Form::Amqp => match message.to_event("") {
                Ok(event) => {
                    converted = event;
                    &converted
                }
                Err(_) => return Judged::Failed,
            },
        };
        let Some(event) = message.event() else { return Judged::Failed };
        let types = &self.options.types;
        if !types.is_empty() && !types.iter().any(|kind| fits(kind, event.kind())) {
            return Judged::Passes;
        }
        let fits = self.options.attributes.iter().all(|(name, compare)| {
            let text = event.get(name).and_then(|value| value.as_text());
            match (text.or_else(|| event.header(name)), compare) {
                (Some(text), Compare::Equal(wanted)) => text == wanted,
                (Some(text), Compare::Prefix(wanted)) => text.starts_with(wanted.as_str()),
                (None, _) => false,
            }
        });
        match &self.expression {
            _ if !fits => Judged::Passes,
            None => Judged::Takes,
            Some(expression) => expression.judge(message),
        }
    }
}

/// Whether a type is the one that is wanted, or begins so.
fn fits(wanted: &str, kind: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => kind == wanted,
    }
}

#[cfg(test)]
mod tests;

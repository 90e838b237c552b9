//! The types of settings that speak HTTP: hosts, paths, methods, fields, statuses, addresses.

mod address;
mod field;
mod field_match;
mod host;
mod path;
mod pattern;
mod status;

pub use self::{
    address::Authority,
    field::{
        CookieName, CookiePath, FieldName, HeaderName, HeaderOps, HeaderValue, Pseudonym,
        RequestOps,
    },
    field_match::{FieldForms, FieldMatch},
    host::HostPattern,
    path::{PathForms, PathMatch, PlainPath, TemplatePath},
    pattern::Pattern,
    status::{Method, Status, Statuses},
};

/// A text type whose reader is a function from text to value, with a sentence when it does not fit.
macro_rules! texts {
    ($($name:ty, $what:literal, $pattern:expr, $parse:expr;)+) => {$(
        impl Setting for $name {
            fn shape() -> Shape {
                Shape::Text { what: $what, pattern: $pattern }
            }

            fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
                let text = cx.text(node, concat!("a ", $what))?;
                let parse: fn(&str) -> Result<Self, String> = $parse;
                parse(text).map_err(|what| cx.report(Problem::error(node.place, what))).ok()
            }
        }
    )+};
}
use texts;

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

/// What follows the scheme of a URL, if this is one.
fn beyond_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    let legal = !scheme.is_empty()
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    legal.then_some(rest)
}

/// The host of what follows a scheme, with its port.
fn authority_of(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// The host of what follows a scheme, without its port.
fn bare_host(rest: &str) -> &str {
    let authority = authority_of(rest);
    match authority.rfind(':') {
        Some(colon) if !authority.ends_with(']') => &authority[..colon],
        _ => authority,
    }
}

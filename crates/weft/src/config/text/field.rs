//! Header fields and cookies: their names, their values, and changes to them.

use weft_proxy::plan;

use super::{shown, texts};
use crate::config::{
    leaf::{Many, Pairs},
    problem::Problem,
    setting::{Absent, Cx, Setting, Shape, settings},
    tree::Node,
};

/// The name of a header field, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderName(pub String);

/// The name of a header field that a configuration may change, in lower case: not one that frames a
/// message or belongs to its connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldName(pub String);

/// The value of a header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderValue(pub String);

/// The name of a cookie; its case counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName(pub String);

/// The `Path` of a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookiePath(pub String);

/// What a proxy calls itself: a name or a host, with or without a port (RFC 9110 section 7.6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pseudonym(pub String);

texts! {
    HeaderName, "header name", Some(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), |text| {
        http::HeaderName::from_bytes(text.as_bytes())
            .map(|name| Self(name.as_str().to_owned()))
            .map_err(|_error| format!("`{}` is not the name of a header field", shown(text)))
    };
    FieldName, "header name", Some(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), |text| {
        let name = http::HeaderName::from_bytes(text.as_bytes())
            .map_err(|_error| format!("`{}` is not the name of a header field", shown(text)))?;
        if weft_proxy::route::is_framing(name.as_str()) {
            return Err(format!(
                "`{name}` frames a message or belongs to its connection: Weft writes it itself"
            ));
        }
        Ok(Self(name.as_str().to_owned()))
    };
    CookieName, "cookie name", Some(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), |text| {
        weft_proxy::cookie::Template::new(text, "/", None).map(|_| Self(text.to_owned()))
    };
    CookiePath, "path", Some("^/[^;]*$"), |text| {
        weft_proxy::cookie::Template::new("a", text, None).map(|_| Self(text.to_owned()))
    };
    Pseudonym, "name", None, |text| {
        let is_name = !text.is_empty() && text.bytes().all(weft_wire::fields::is_token);
        match is_name || weft_wire::h1::is_authority(text.as_bytes()) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("`{}` is neither a name nor a host", shown(text))),
        }
    };
}

impl Setting for HeaderValue {
    fn shape() -> Shape {
        Shape::Text { what: "header value", pattern: None }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = cx.text(node, "a header value")?;
        if let Some(written) = node.written() {
            cx.secrets.push(node.place);
            if http::HeaderValue::from_str(text).is_err() || text.trim() != text {
                let what = format!(
                    "`{}` cannot be a header value: only visible ASCII characters, spaces and tabs can, \
                     and no space at its ends",
                    shown(written)
                );
                cx.report(Problem::error(node.place, what));
                return None;
            }
            return Some(Self(text.to_owned()));
        }
        match http::HeaderValue::from_str(text) {
            Ok(_) if text.trim() == text => {}
            Ok(_) => {
                let what = "a header value neither begins nor ends with a space";
                cx.report(Problem::error(node.place, what));
                return None;
            }
            Err(_) => {
                let what = format!(
                    "`{}` cannot be a header value: only visible ASCII characters, spaces and tabs can",
                    shown(text)
                );
                cx.report(Problem::error(node.place, what));
                return None;
            }
        }
        if let Some(name) = foreign_variable(text) {
            cx.report(
                Problem::warning(
                    node.place,
                    format!(
                        "`{}` is sent as it is written: nothing is put in its place",
                        shown(name)
                    ),
                )
                .help(
                    "services are told of the client by X-Forwarded-For, -Proto and -Host anyway",
                ),
            );
        }
        Some(Self(text.to_owned()))
    }
}

/// A variable as other proxies have them in header values: `$remote_addr`, `%REQ(…)%`, `%[src]`.
fn foreign_variable(text: &str) -> Option<&str> {
    if let Some((at, _)) = text
        .match_indices('$')
        .find(|(at, _)| text[at + 1..].starts_with(|c: char| c.is_ascii_lowercase()))
    {
        let name = &text[at + 1..];
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        return Some(&text[at..at + 1 + end.unwrap_or(name.len())]);
    }
    let at = text.find("%[").or_else(|| {
        text.match_indices('%').map(|(at, _)| at).find(|at| {
            let rest = &text[at + 1..];
            let end =
                rest.find(|c: char| !c.is_ascii_uppercase() && c != '_').unwrap_or(rest.len());
            end > 2 && rest[end..].starts_with(['(', '%'])
        })
    })?;
    Some(&text[at..])
}

settings! {
    /// Changes to the fields of a message: first removed, then set, then added.
    pub struct HeaderOps = "header changes" {
        /// Fields that replace all of their name.
        set: Pairs<FieldName, HeaderValue>,
        /// Fields that are added to those of their name.
        add: Pairs<FieldName, Many<HeaderValue>>,
        /// Names whose fields are removed.
        remove: Many<FieldName>,
    }
}

/// Changes to the fields of a request, which has one `Host`.
#[derive(Clone, Debug)]
pub struct RequestOps(pub HeaderOps);

impl Setting for RequestOps {
    const ABSENT: Absent = HeaderOps::ABSENT;

    fn shape() -> Shape {
        HeaderOps::shape()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let ops = HeaderOps::read(node, cx)?;
        match weft_proxy::route::check_request_ops(&ops.plan()) {
            Ok(()) => Some(Self(ops)),
            Err(what) => {
                cx.report(Problem::error(node.place, what));
                None
            }
        }
    }

    fn absent() -> Option<Self> {
        HeaderOps::absent().map(Self)
    }
}

impl HeaderOps {
    /// As the request path wants them.
    pub fn plan(&self) -> plan::HeaderOps {
        let pair = |(name, value): &(FieldName, HeaderValue)| (name.0.clone(), value.0.clone());
        plan::HeaderOps {
            remove: self.remove.iter().map(|name| name.0.clone()).collect(),
            set: self.set.0.iter().map(pair).collect(),
            add: self
                .add
                .0
                .iter()
                .flat_map(|(name, values)| {
                    values.iter().map(|value| (name.0.clone(), value.0.clone()))
                })
                .collect(),
        }
    }
}

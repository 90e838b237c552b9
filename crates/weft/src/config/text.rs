//! The types of settings that speak HTTP: hosts, paths, methods, fields, statuses, addresses.

use ipnet::IpNet;
use weft_discovery::Location;
use weft_net::Address;
use weft_proxy::plan;
use weft_wire::path;

use super::{
    leaf::{Many, Pairs},
    problem::Problem,
    setting::{Absent, Cx, Setting, Shape, settings},
    tree::{Kind, Node},
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

/// A host to match, `*` for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(pub Option<plan::Host>);

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

/// A request method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method(pub String);

/// A status, 200 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u16);

/// A range of statuses: `503`, `5xx`, `500-504`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(pub std::ops::RangeInclusive<u16>);

/// A regular expression that compiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub String);

/// A path that stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainPath(pub String);

/// A path with captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplatePath(pub String);

/// A host, with or without a port, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority(pub String);

texts! {
    HostPattern, "host", None, host_pattern;
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
    Method, "method", Some("^[A-Z][A-Z-]*$"), |text| {
        let known = text.parse::<http::Method>().is_ok();
        let upper = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        match (known, upper) {
            (true, true) => Ok(Self(text.to_owned())),
            (true, false) => Err(format!("methods are in upper case: write {}", text.to_ascii_uppercase())),
            _ => Err(format!("`{}` is not a method", shown(text))),
        }
    };
    Status, "status", Some("^[2-5][0-9][0-9]$"), |text| match text.parse::<u16>() {
        Ok(status @ 200..=599) if text.len() == 3 => Ok(Self(status)),
        _ => Err(format!("`{}` is not a status from 200 to 599", shown(text))),
    };
    Statuses, "status or range", Some("^[1-5]([0-9][0-9](-[1-5][0-9][0-9])?|xx)$"), statuses;
    Pattern, "regular expression", None, |text| match regex::Regex::new(text) {
        Ok(_) => Ok(Self(text.to_owned())),
        Err(error) => Err(format!("this regular expression does not compile: {}", last_line(&error))),
    };
    PlainPath, "path", Some("^/"), |text| plain_path(text).map(Self);
    TemplatePath, "path", Some("^/"), |text| template(text).map(Self);
    Authority, "host", None, |text| {
        let good = !text.is_empty()
            && text.parse::<http::uri::Authority>().is_ok_and(|authority| authority.as_str() == text)
            && !text.contains('@');
        match beyond_scheme(text) {
            _ if good => Ok(Self(text.to_ascii_lowercase())),
            Some(rest) => Err(format!(
                "`{}` is a URL, and a host is wanted: write `{}`",
                shown(text),
                shown(authority_of(rest))
            )),
            None => Err(format!("`{}` is not a host", shown(text))),
        }
    };
    Address, "address", None, |text| {
        text.parse().map_err(|_error| {
            if let Some(rest) = beyond_scheme(text) {
                return format!(
                    "`{}` is a URL, and an address to listen on is wanted: write `{}`",
                    shown(text),
                    shown(authority_of(rest))
                );
            }
            format!(
                "`{}` is not an address to listen on: write 0.0.0.0:8080, [::]:8080 or unix:/run/weft.sock",
                shown(text)
            )
        })
    };
    Location, "endpoint", None, |text| {
        text.parse().map_err(|error: weft_discovery::options::ParseLocationError| match beyond_scheme(text) {
            None => match text.strip_prefix("file:") {
                Some(path) => {
                    format!("`{}` is a file, which is written so: {{ file: {path} }}", shown(text))
                }
                None => error.to_string(),
            },
            Some(rest) => {
                let authority = authority_of(rest);
                let secure = text.starts_with("https:") || text.starts_with("grpcs:");
                let port = if secure { 443 } else { 80 };
                let whole = if authority.len() > bare_host(rest).len() {
                    authority.to_owned()
                } else {
                    format!("{authority}:{port}")
                };
                let tls = if secure { ", and `tls: on` for the service" } else { "" };
                format!(
                    "`{}` is a URL, and an endpoint is wanted: write `{}`{tls}",
                    shown(text),
                    shown(&whole)
                )
            }
        })
    };
    IpNet, "network", None, |text| {
        let single = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        text.parse().ok().or_else(single).ok_or_else(|| {
            format!("`{}` is not a network: write 10.0.0.0/8, or a single address", shown(text))
        })
    };
}

impl Setting for HeaderValue {
    fn shape() -> Shape {
        Shape::Text { what: "header value", pattern: None }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = cx.text(node, "a header value")?;
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

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or("").trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
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

fn host_pattern(text: &str) -> Result<HostPattern, String> {
    if text == "*" {
        return Ok(HostPattern(None));
    }
    if let Some(rest) = beyond_scheme(text) {
        return Err(format!(
            "`{}` is a URL, and a host is wanted: write `{}`",
            shown(text),
            shown(bare_host(rest))
        ));
    }
    let lower = text.to_ascii_lowercase();
    // The dot of the root names the same host.
    let lower = match lower.strip_suffix('.') {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => lower,
    };
    let (wildcard, name) = match lower.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, lower.as_str()),
    };
    let bracketed = name.starts_with('[') && name.ends_with(']') && !wildcard;
    let labels = name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    if name.contains('*') {
        return Err(format!(
            "`{}`: a wildcard stands alone for the first labels, as in *.example.com",
            shown(text)
        ));
    }
    if !bracketed && name.contains(':') {
        return Err(format!("`{}`: a host is matched without its port", shown(text)));
    }
    let literal = || name[1..name.len() - 1].parse::<std::net::Ipv6Addr>().is_ok();
    if !(labels || bracketed && literal()) {
        return Err(format!(
            "`{}` is not a host such as shop.example.com or *.example.com",
            shown(text)
        ));
    }
    let name = name.to_owned();
    Ok(HostPattern(Some(if wildcard {
        plan::Host::Wildcard(name)
    } else {
        plan::Host::Exact(name)
    })))
}

fn statuses(text: &str) -> Result<Statuses, String> {
    let fail = || {
        format!(
            "`{}` is not a status, a class such as 5xx, or a range such as 500-504",
            shown(text)
        )
    };
    let one = |text: &str| {
        text.parse::<u16>().ok().filter(|status| text.len() == 3 && (100..=599).contains(status))
    };
    if let Some(class) = text.strip_suffix("xx") {
        let class =
            class.parse::<u16>().ok().filter(|class| (1..=5).contains(class)).ok_or_else(fail)?;
        return Ok(Statuses(class * 100..=class * 100 + 99));
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = one(from).zip(one(to)).ok_or_else(fail)?;
    if from > to {
        return Err(format!("`{}`: this range is empty", shown(text)));
    }
    Ok(Statuses(from..=to))
}

/// A path as requests have it once they are normalised; anything else could never match.
fn plain_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("`{}`: a path begins with `/`", shown(text)));
    }
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || "?#\\\"<>`^|".contains(*c)) {
        return Err(format!("`{}`: {bad:?} cannot stand in a path", shown(text)));
    }
    if text.contains("//") {
        return Err(format!(
            "`{}`: requests have their slashes merged, so `//` never matches",
            shown(text)
        ));
    }
    if text.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(format!(
            "`{}`: `.` and `..` are resolved before a path is matched",
            shown(text)
        ));
    }
    let rules = path::Rules { encoded_slash: path::EncodedSlash::Keep, ..path::Rules::default() };
    match path::normalise(text, rules) {
        Ok(normal) if normal == text => Ok(text.to_owned()),
        Ok(normal) => Err(format!(
            "`{}`: requests have their paths normalised, so write `{}`",
            shown(text),
            shown(&normal)
        )),
        Err(_) => Err(format!(
            "`{}`: no request has such a path, since an escape in it is broken or not let in",
            shown(text)
        )),
    }
}

fn template(text: &str) -> Result<String, String> {
    let mut names: Vec<&str> = Vec::new();
    let segments: Vec<&str> = text.split('/').collect();
    for (at, segment) in segments.iter().enumerate() {
        if !segment.contains(['{', '}']) {
            continue;
        }
        let name =
            segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(|| {
                format!("`{}`: a capture is a whole segment, as in /orders/{{id}}", shown(text))
            })?;
        let (rest, name) = match name.strip_prefix('*') {
            Some(name) => (true, name),
            None => (false, name),
        };
        let legal = !name.is_empty()
            && !name.as_bytes()[0].is_ascii_digit()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !legal {
            return Err(format!(
                "`{}`: a capture's name is letters, digits and `_`, and begins with no digit",
                shown(text)
            ));
        }
        if names.contains(&name) {
            return Err(format!("`{}`: the capture `{name}` stands twice", shown(text)));
        }
        if rest && at + 1 != segments.len() {
            return Err(format!(
                "`{}`: `{{*{name}}}` takes the rest, so it must be last",
                shown(text)
            ));
        }
        names.push(name);
    }
    plain_path(&text.replace(['{', '}', '*'], ""))?;
    Ok(text.to_owned())
}

settings! {
    /// A path, said with its kind.
    pub struct PathForms = "path" {
        /// This path and no other.
        exact: Option<PlainPath>,
        /// This path and all below it, by whole segments.
        prefix: Option<PlainPath>,
        /// A path with captures: `/orders/{id}`, and `{*rest}` as the last segment.
        template: Option<TemplatePath>,
        /// A regular expression that the whole path must fit.
        regex: Option<Pattern>,
    }

    /// What the value of a field must be.
    pub struct FieldForms = "field" {
        /// Exactly this.
        exact: Option<String>,
        /// It begins with this.
        prefix: Option<String>,
        /// A regular expression that the whole value must fit.
        regex: Option<Pattern>,
        /// `true`: there, with any value; `false`: not there.
        present: Option<bool>,
        /// Turns the condition round.
        not: bool = "false",
    }
}

/// A path to match: `/a` is that path, `/a/*` all below, `/a/{id}` a template, `~…` an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMatch(pub plan::Path);

impl Setting for PathMatch {
    const ABSENT: Absent = Absent::Unset;

    fn shape() -> Shape {
        Shape::Either(vec![
            Shape::Text { what: "path", pattern: Some("^(/|~|\\*$)") },
            PathForms::shape(),
        ])
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        if matches!(node.kind, Kind::Map(_)) {
            let forms = PathForms::read(node, cx)?;
            let path = match forms {
                PathForms {
                    exact: Some(path), prefix: None, template: None, regex: None, ..
                } => plan::Path::Exact(path.0),
                PathForms {
                    exact: None, prefix: Some(path), template: None, regex: None, ..
                } => prefix(&path.0),
                PathForms {
                    exact: None, prefix: None, template: Some(path), regex: None, ..
                } => plan::Path::Template(path.0),
                PathForms {
                    exact: None, prefix: None, template: None, regex: Some(path), ..
                } => plan::Path::Regex(path.0),
                _ => {
                    cx.report(Problem::error(
                        node.place,
                        "exactly one of exact, prefix, template, regex must be said",
                    ));
                    return None;
                }
            };
            return Some(Self(path));
        }
        let text = cx.text(node, "a path")?;
        let path = if text == "*" {
            Ok(plan::Path::Any)
        } else if let Some(regex) = text.strip_prefix('~') {
            let text = super::tree::Text { text: regex.into(), variable: None };
            return Pattern::read(&Node { place: node.place, kind: Kind::Text(text) }, cx)
                .map(|pattern| Self(plan::Path::Regex(pattern.0)));
        } else if text.contains(['{', '}']) {
            template(text).map(plan::Path::Template)
        } else if let Some(above) = text.strip_suffix("/*") {
            plain_path(if above.is_empty() { "/" } else { above }).map(|path| prefix(&path))
        } else if text.contains('*') {
            Err(format!(
                "`{}`: `*` stands only for everything below, as in /orders/*; otherwise use a template such as /orders/{{id}} or ~regex",
                shown(text)
            ))
        } else {
            plain_path(text).map(plan::Path::Exact)
        };
        path.map(Self).map_err(|what| cx.report(Problem::error(node.place, what))).ok()
    }

    fn absent() -> Option<Self> {
        Some(Self(plan::Path::Any))
    }
}

fn prefix(path: &str) -> plan::Path {
    match path.trim_end_matches('/') {
        "" => plan::Path::Any,
        path => plan::Path::Prefix(path.to_owned()),
    }
}

/// What a value must be: `text` is that text, `*` any, `~…` an expression; a map says more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldMatch {
    /// The condition.
    pub value: plan::FieldValue,
    /// Whether it is turned round.
    pub invert: bool,
}

impl Setting for FieldMatch {
    fn shape() -> Shape {
        Shape::Either(vec![Shape::Text { what: "value", pattern: None }, FieldForms::shape()])
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        if matches!(node.kind, Kind::Map(_)) {
            let forms = FieldForms::read(node, cx)?;
            let not = forms.not;
            let mut said = Vec::new();
            said.extend(forms.exact.map(|text| (plan::FieldValue::Exact(text), false)));
            said.extend(forms.prefix.map(|text| (plan::FieldValue::Prefix(text), false)));
            said.extend(forms.regex.map(|text| (plan::FieldValue::Regex(text.0), false)));
            said.extend(forms.present.map(|there| (plan::FieldValue::Present, !there)));
            if let (Some((value, invert)), 0) = (said.pop(), said.len()) {
                return Some(Self { value, invert: invert != not });
            }
            cx.report(Problem::error(
                node.place,
                "exactly one of exact, prefix, regex, present must be said",
            ));
            return None;
        }
        let text = cx.text(node, "a value")?;
        let value = if text == "*" {
            plan::FieldValue::Present
        } else if let Some(regex) = text.strip_prefix('~') {
            let text = super::tree::Text { text: regex.into(), variable: None };
            plan::FieldValue::Regex(
                Pattern::read(&Node { place: node.place, kind: Kind::Text(text) }, cx)?.0,
            )
        } else {
            plan::FieldValue::Exact(text.to_owned())
        };
        Some(Self { value, invert: false })
    }
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

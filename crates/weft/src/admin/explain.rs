//! Which route a request would get on each listener, and why not another: for the API from the running
//! tables, for the command line from a configuration.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_proxy::{
    plan::{self, Plan, Protocol},
    router::{Captures, Found, Lookup, Lost, Missing, Table},
};
use weft_wire::{Fields, path};

use super::view::{TargetView, conditions};

/// The request that is asked about.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Its method.
    pub method: String,
    /// Its URL, or its path alone.
    pub url: String,
    /// Its header fields.
    #[serde(default, deserialize_with = "some")]
    pub headers: BTreeMap<String, String>,
    /// The one listener that is meant; all that speak HTTP otherwise.
    #[serde(default)]
    pub listener: Option<String>,
}

/// What is there, or the default for null.
fn some<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// What would become of the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    /// Its method.
    pub method: String,
    /// Its host, as it is matched.
    pub host: String,
    /// For each listener.
    pub listeners: Vec<Verdict>,
}

/// What would become of the request on a listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The listener.
    pub listener: String,
    /// The path, as it is matched.
    pub path: String,
    /// The route that it gets.
    pub route: Option<Won>,
    /// Why it gets none.
    pub refused: Option<String>,
    /// Matches that come near and lose, the nearest first.
    pub near: Vec<Near>,
}

/// The route that a request gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Won {
    /// The route.
    pub route: String,
    /// Which of its matches fits, counted from 0.
    pub match_index: u32,
    /// The conditions of that match.
    pub conditions: String,
    /// Where its requests go.
    pub target: TargetView,
}

/// A match that comes near and loses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Near {
    /// The route.
    pub route: String,
    /// Which of its matches, counted from 0.
    pub match_index: u32,
    /// Its conditions.
    pub conditions: String,
    /// What it lost by: `later`, `less_specific`, `query`, `header`, `method`, `path` or `host`.
    pub lost: String,
    /// The same in words.
    pub why: String,
}

/// Explains a request over these tables, which were compiled from `plan`.
///
/// # Errors
/// What about the question cannot be understood.
pub fn explain<'a>(
    plan: &Plan,
    table: impl Fn(&plan::Listener) -> Option<&'a Table>,
    asked: &Asked,
) -> Result<Explained, String> {
    let Question { method, host, target, fields } = Question::of(asked)?;
    let speaks = |listener: &&plan::Listener| {
        matches!(listener.protocol, Protocol::Http)
            && asked.listener.as_deref().is_none_or(|name| name == listener.name.as_str())
    };
    let mut listeners = Vec::new();
    for listener in plan.listeners.iter().filter(speaks) {
        if let Some(table) = table(listener) {
            listeners.push(verdict(plan, listener, table, method, &host, target, &fields));
        }
    }
    if let (Some(name), true) = (&asked.listener, listeners.is_empty()) {
        return Err(format!("there is no HTTP listener `{name}`"));
    }
    Ok(Explained { method: method.into(), host, listeners })
}

/// A request that is asked about, taken apart.
pub(super) struct Question<'a> {
    pub(super) method: &'a str,
    /// Its host, in lower case and without its port.
    pub(super) host: String,
    pub(super) target: &'a str,
    pub(super) fields: Fields,
}

impl<'a> Question<'a> {
    /// Takes a request apart.
    ///
    /// # Errors
    /// What about it cannot be understood.
    pub(super) fn of(asked: &'a Asked) -> Result<Self, String> {
        let method = asked.method.as_str();
        if method.is_empty() || !method.bytes().all(weft_wire::fields::is_token) {
            return Err(format!("`{method}` is not a method"));
        }
        let (authority, target) = split(&asked.url)?;
        let mut fields = Fields::new();
        let mut host = authority;
        for (name, value) in &asked.headers {
            let name = name.to_ascii_lowercase();
            if name == "host" && host.is_none() {
                host = Some(value);
            } else if !fields.append(&name, value.as_bytes()) {
                return Err(format!("`{name}: {value}` is not a header field"));
            }
        }
        let host = host.unwrap_or_default();
        if !host.is_empty() && !fields.append("host", host.as_bytes()) {
            return Err(format!("`{host}` is not a host"));
        }
        let host = without_port(host).to_ascii_lowercase();
        Ok(Self { method, host, target, fields })
    }
}

fn verdict(
    plan: &Plan,
    listener: &plan::Listener,
    table: &Table,
    method: &str,
    host: &str,
    target: &str,
    fields: &Fields,
) -> Verdict {
    let mut verdict = Verdict {
        listener: listener.name.to_string(),
        path: target.into(),
        route: None,
        refused: None,
        near: Vec::new(),
    };
    let odd = fields.iter().map(|(name, _)| name).find(|name| name.contains('_'));
    if let Some(name) = odd.filter(|_| !listener.http.underscores) {
        verdict.refused = Some(format!("header name `{name}` has an underscore: 400"));
        return verdict;
    }
    let rules = path::Rules {
        encoded_slash: match listener.http.encoded_slash {
            plan::EncodedSlash::Reject => path::EncodedSlash::Reject,
            plan::EncodedSlash::Keep => path::EncodedSlash::Keep,
        },
        ..path::Rules::default()
    };
    let normal = match path::normalise(target, rules) {
        Ok(normal) => normal,
        Err(reason) => {
            verdict.refused = Some(format!("{}: {}", reason.word(), reason.about().trim()));
            return verdict;
        }
    };
    let (path, query) = match &normal {
        Cow::Borrowed(text) => split_query(text),
        Cow::Owned(text) => split_query(text),
    };
    verdict.path = path.into();
    let lookup = Lookup { host, method, path, query, fields, certificate: None };
    match table.find(&lookup, &mut Captures::default()) {
        Ok(found) => verdict.route = won(plan, found),
        Err(Missing::NotFound) => verdict.refused = Some("no route matches: 404".into()),
        Err(Missing::MethodNotAllowed { allow }) => {
            verdict.refused = Some(format!("method {method} is not offered, but {allow}: 405"));
        }
    }
    for candidate in table.explain(&lookup).candidates {
        if let Some(route) = plan.routes.get(candidate.route as usize) {
            verdict.near.push(Near {
                route: route.name.to_string(),
                match_index: candidate.match_index,
                conditions: match_text(route, candidate.match_index),
                lost: word(candidate.lost).into(),
                why: candidate.why,
            });
        }
    }
    verdict
}

fn won(plan: &Plan, found: Found) -> Option<Won> {
    let route = plan.routes.get(found.route as usize)?;
    Some(Won {
        route: route.name.to_string(),
        match_index: found.match_index,
        conditions: match_text(route, found.match_index),
        target: TargetView::of(&route.target),
    })
}

/// The conditions of a match; a route without any has one that fits everything.
fn match_text(route: &plan::Route, index: u32) -> String {
    let of = route.matches.get(index as usize);
    of.map_or_else(|| conditions(&plan::Match::default()), conditions)
}

const fn word(lost: Lost) -> &'static str {
    match lost {
        Lost::Later => "later",
        Lost::LessSpecific => "less_specific",
        Lost::Query => "query",
        Lost::Certificate => "certificate",
        Lost::Header => "header",
        Lost::Method => "method",
        Lost::Path => "path",
        Lost::Host => "host",
    }
}

/// The authority of a URL, if it has one, and its request target.
fn split(url: &str) -> Result<(Option<&str>, &str), String> {
    let url = url.split('#').next().unwrap_or_default();
    if url.starts_with('/') || url == "*" {
        return Ok((None, url));
    }
    let (scheme, rest) = url
        .split_once("://")
        .ok_or_else(|| format!("`{url}` is neither a path (`/orders`) nor a URL (`http://…`)"))?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(format!("`{scheme}` is not http or https"));
    }
    match rest.find(['/', '?']) {
        Some(0) | None if rest.is_empty() || rest.starts_with(['/', '?']) => {
            Err(format!("`{url}` has no host"))
        }
        Some(at) if rest.as_bytes().get(at) == Some(&b'/') => Ok((Some(&rest[..at]), &rest[at..])),
        // An empty path is the root (RFC 9110 section 4.2.3); a query behind it needs a slash written.
        Some(_) => Err(format!("write a slash before the query of `{url}`")),
        None => Ok((Some(rest), "/")),
    }
}

pub(super) fn split_query(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => &host[..colon],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Loader;

    fn plan(text: &str) -> Plan {
        let loaded = Loader::default().load_text(Path::new("weft.yaml"), text, &|_| None);
        loaded.unwrap().plan.proxy
    }

    fn ask(plan: &Plan, method: &str, url: &str) -> Result<Verdict, String> {
        let table = Table::compile((0..).zip(&plan.routes)).unwrap();
        let asked = Asked {
            method: method.into(),
            url: url.into(),
            headers: BTreeMap::new(),
            listener: None,
        };
        let explained = explain(plan, |_| Some(&table), &asked)?;
        Ok(explained.listeners.into_iter().next().unwrap())
    }

    const CONFIG: &str = "
listeners: { web: { address: 127.0.0.1:0 } }
services: { orders: { endpoints: 127.0.0.1:9 }, shop: { endpoints: 127.0.0.1:9 } }
routes:
  - { name: order, match: { path: '/orders/{id}', method: GET }, to: orders }
  - { name: shop, match: { host: shop.example, path: /orders/* }, to: shop }
";

    #[test]
    fn the_winner_and_the_losers_are_told() {
        let plan = plan(CONFIG);
        let verdict = ask(&plan, "GET", "http://shop.example:8080//orders/./7?x=1#top").unwrap();
        assert_eq!((verdict.path.as_str(), verdict.refused), ("/orders/7", None));
        assert_eq!(verdict.route.map(|won| won.route).as_deref(), Some("shop"));
        let near: Vec<_> = verdict.near.iter().map(|near| (&*near.route, &*near.lost)).collect();
        assert_eq!(near, [("order", "less_specific")]);

        let verdict = ask(&plan, "POST", "/orders/7").unwrap();
        assert!(verdict.route.is_none());
        assert!(verdict.refused.unwrap().contains("405"));
        let verdict = ask(&plan, "GET", "/ordrs/7").unwrap();
        assert_eq!(verdict.near[0].lost, "path");
        let verdict = ask(&plan, "GET", "/orders%2f7").unwrap();
        assert!(verdict.refused.unwrap().starts_with("unsafe_path"));
    }

    #[test]
    fn what_cannot_be_asked_is_said() {
        let plan = plan(CONFIG);
        for (method, url, part) in [
            ("", "/", "not a method"),
            ("GE T", "/", "not a method"),
            ("GET", "orders", "neither"),
            ("GET", "ftp://x/", "http or https"),
            ("GET", "http://", "no host"),
            ("GET", "http:///x", "no host"),
            ("GET", "http://x?y", "slash before the query"),
            ("GET", "http://a\nb/", "not a host"),
        ] {
            let error = ask(&plan, method, url).unwrap_err();
            assert!(error.contains(part), "{method} {url}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_question_is_answered_or_refused(method in "\\PC{0,8}", url in "[a-z:/?#%.\\[\\]é]{0,40}") {
            let plan = plan(CONFIG);
            if let Ok(verdict) = ask(&plan, &method, &url) {
                proptest::prop_assert_eq!(verdict.route.is_some(), verdict.refused.is_none());
            }
        }
    }
}

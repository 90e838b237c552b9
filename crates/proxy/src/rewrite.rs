//! Changing where a request goes: its path before it is sent on, or the `Location` of a redirect.
//!
//! The request's path is normal already, and what is made of it is normalised again, so that neither an
//! expression nor a capture can lead out of the root or smuggle a query in. A query passes untouched.
//!
//! Invariants: everything that can be checked is checked when it is compiled; a path made here begins
//! with one slash and is at most [`PATH_BYTES_MAX`] long; a `Location` holds printable ASCII alone, and
//! leads to another host only where the configuration or the request's own `Host` names it.

use std::fmt::Write;

use regex::Regex;
use weft_kernel::{Error, Reason, Result};
use weft_wire::path;

use crate::{
    plan::{self, PathRewrite},
    router::{Captures, Found, check_host, check_path, describe, template_names},
};

/// Longest path that is made; more is refused.
pub const PATH_BYTES_MAX: usize = 64 * 1024;

/// Most bytes by which one expression may be compiled.
const COMPILED_MAX: usize = 1 << 20;

/// How the path of a route's requests is rewritten, compiled.
#[derive(Clone, Debug)]
pub struct Rewriter {
    path: Option<PathRule>,
}

impl Rewriter {
    /// Compiles the rewrite of a route with these matches.
    ///
    /// # Errors
    /// What is wrong with it: a path that is not normal, a capture that a match does not have, an
    /// expression that is none, a host that is none.
    pub fn compile(plan: &plan::Rewrite, matches: &[plan::Match]) -> Result<Self, String> {
        if let Some(plan::HostRewrite::Literal(host)) = &plan.host {
            authority(host, None).ok_or_else(|| format!("`{host}` is not a host"))?;
        }
        let path = plan.path.as_ref().map(|path| PathRule::compile(path, matches)).transpose()?;
        Ok(Self { path })
    }

    /// The target (path and query) to send instead of `target`, which `found` and `captures` come from;
    /// `None` if it stays.
    ///
    /// # Errors
    /// [`Reason::UnsafePath`] if the path cannot be sent.
    pub fn target(
        &self,
        target: &str,
        found: &Found,
        captures: &Captures,
    ) -> Result<Option<String>> {
        let (Some(rule), true) = (&self.path, target.starts_with('/')) else { return Ok(None) };
        let (path, query) = split(target);
        let mut made = rule.apply(path, found, captures)?;
        if let Some(query) = query {
            made.push('?');
            made.push_str(query);
        }
        Ok(Some(made))
    }
}

/// A redirect, compiled.
#[derive(Clone, Debug)]
pub struct Redirector {
    scheme: Option<Scheme>,
    host: Option<Box<str>>,
    port: Option<u16>,
    path: Option<PathRule>,
    status: u16,
    strip_query: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    const fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Redirector {
    /// Compiles the redirect of a route with these matches.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(plan: &plan::Redirect, matches: &[plan::Match]) -> Result<Self, String> {
        let scheme = match plan.scheme.as_deref() {
            None => None,
            Some("http") => Some(Scheme::Http),
            Some("https") => Some(Scheme::Https),
            Some(other) => return Err(format!("scheme `{other}` is neither http nor https")),
        };
        if !matches!(plan.status, 301 | 302 | 303 | 307 | 308) {
            return Err(format!("{} is not the status of a redirect", plan.status));
        }
        if plan.port == Some(0) {
            return Err("a redirect cannot lead to port 0".into());
        }
        if let Some(host) = &plan.host {
            check_host(host)?;
        }
        Ok(Self {
            scheme,
            host: plan.host.as_deref().map(Into::into),
            port: plan.port,
            path: plan.path.as_ref().map(|path| PathRule::compile(path, matches)).transpose()?,
            status: plan.status,
            strip_query: plan.strip_query,
        })
    }

    /// The status of the response.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The `Location` for a request: `secure` if it came by TLS, `host` as its `Host` field has it with
    /// the port, and the normalised `target` from which `found` and `captures` come.
    ///
    /// A port that is not set is the request's, but for a scheme that is set: then it is that scheme's
    /// usual one. The usual port of a scheme is not written.
    ///
    /// # Errors
    /// [`Reason::UnsafePath`] if the path cannot be led to, [`Reason::MalformedRequest`] if the host is
    /// none.
    pub fn location(
        &self,
        secure: bool,
        host: &str,
        target: &str,
        found: &Found,
        captures: &Captures,
    ) -> Result<String> {
        let (path, query) = split(target);
        let path = match &self.path {
            Some(rule) if path.starts_with('/') => rule.apply(path, found, captures)?,
            _ if path.starts_with('/') => path.to_owned(),
            _ => "/".to_owned(),
        };
        let came = if secure { Scheme::Https } else { Scheme::Http };
        let scheme = self.scheme.unwrap_or(came);
        let (name, port) = match host {
            "" => ("", None),
            host => authority(host, Some(came.port())).ok_or_else(|| {
                Error::new(
                    Reason::MalformedRequest,
                    "the host is not a name or address with a port",
                )
            })?,
        };
        let name = self.host.as_deref().unwrap_or(name);
        let mut location = String::with_capacity(name.len() + target.len() + 16);
        if !name.is_empty() {
            location.push_str(scheme.text());
            location.push_str("://");
            location.push_str(name);
            let kept = port.filter(|_| self.scheme.is_none());
            let port = self.port.or(kept).unwrap_or(scheme.port());
            if port != scheme.port() {
                // Writing to a string cannot fail.
                let _ = write!(location, ":{port}");
            }
        } else if path.starts_with("//") {
            // Without a host before it this would name one.
            return Err(refused());
        }
        push_printable(&mut location, &path);
        if let Some(query) = query.filter(|_| !self.strip_query) {
            location.push('?');
            push_printable(&mut location, query);
        }
        Ok(location)
    }
}

#[derive(Clone, Debug)]
enum PathRule {
    Prefix(Box<str>),
    Full(Box<str>),
    Regex(Regex, Box<str>),
    /// For each match of the route.
    Template(Box<[Vec<Part>]>),
}

#[derive(Clone, Debug)]
enum Part {
    Text(Box<str>),
    Capture(usize),
}

impl PathRule {
    fn compile(plan: &PathRewrite, matches: &[plan::Match]) -> Result<Self, String> {
        Ok(match plan {
            PathRewrite::Prefix(prefix) => {
                if !prefix.is_empty() {
                    check_path(prefix)?;
                }
                Self::Prefix(prefix.as_str().into())
            }
            PathRewrite::Full(path) => {
                check_path(path)?;
                Self::Full(path.as_str().into())
            }
            PathRewrite::Regex { pattern, replace } => {
                let regex = regex::RegexBuilder::new(pattern)
                    .size_limit(COMPILED_MAX)
                    .build()
                    .map_err(|error| describe(pattern, &error))?;
                check_replacement(&regex, replace)?;
                check_outcome(&regex, replace)?;
                Self::Regex(regex, replace.as_str().into())
            }
            PathRewrite::Template(text) => {
                if matches.is_empty() {
                    return Err(format!("`{text}` needs matches with a template"));
                }
                let parts = matches.iter().map(|one| parts(text, &one.path));
                Self::Template(parts.collect::<Result<_, String>>()?)
            }
        })
    }

    /// The new path, normalised.
    fn apply(&self, path: &str, found: &Found, captures: &Captures) -> Result<String> {
        let mut made = String::with_capacity(path.len() + 32);
        match self {
            Self::Full(full) => return Ok(String::from(&**full)),
            Self::Prefix(prefix) => {
                let rest = path.get(found.prefix_len as usize..).unwrap_or_default();
                if rest.is_empty() {
                    made.push_str(if prefix.is_empty() { "/" } else { prefix });
                } else {
                    made.push_str(prefix.strip_suffix('/').unwrap_or(prefix));
                    made.push_str(rest);
                }
            }
            Self::Regex(regex, replace) => {
                let mut last = 0;
                for groups in regex.captures_iter(path) {
                    let Some(whole) = groups.get(0) else { break };
                    made.push_str(&path[last..whole.start()]);
                    groups.expand(replace, &mut made);
                    last = whole.end();
                    if made.len() > PATH_BYTES_MAX {
                        return Err(refused());
                    }
                }
                made.push_str(&path[last..]);
            }
            Self::Template(matches) => {
                let parts = matches.get(found.match_index as usize).ok_or_else(refused)?;
                for part in parts {
                    match part {
                        Part::Text(text) => made.push_str(text),
                        Part::Capture(index) => {
                            made.push_str(captures.get(*index, path).ok_or_else(refused)?);
                        }
                    }
                }
            }
        }
        finish(made)
    }
}

/// Normalises a path that was made, or refuses it.
fn finish(made: String) -> Result<String> {
    // What came had no dot segments any more, so those that are here the rewrite made, out of the
    // client's text: to resolve them would lead where nobody meant to.
    if made.len() > PATH_BYTES_MAX
        || !made.starts_with('/')
        || made.contains('?')
        || made.split('/').any(is_dots)
    {
        return Err(refused().note(made.chars().take(200).collect::<String>()));
    }
    // The listener has decided about encoded slashes when the request came in.
    let rules = path::Rules { encoded_slash: path::EncodedSlash::Keep, ..path::Rules::default() };
    match path::normalise(&made, rules) {
        Ok(std::borrow::Cow::Owned(normal)) => Ok(normal),
        Ok(std::borrow::Cow::Borrowed(_)) => Ok(made),
        Err(_) => Err(refused().note(made.chars().take(200).collect::<String>())),
    }
}

/// Whether a segment is one or two dots to anybody: as they stand, escaped, or with parameters behind.
fn is_dots(segment: &str) -> bool {
    let mut rest = segment;
    let mut dots = 0;
    loop {
        rest = match rest.as_bytes() {
            [b'.', ..] => &rest[1..],
            [b'%', b'2', b'e' | b'E', ..] => &rest[3..],
            _ => break,
        };
        dots += 1;
    }
    (1..=2).contains(&dots) && (rest.is_empty() || rest.starts_with(';'))
}

fn refused() -> Error {
    Error::new(Reason::UnsafePath, "the path cannot be rewritten to one that is safe to send")
}

fn split(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}

/// Text and captures of `/v2/orders/{id}`, for a match with this path.
fn parts(text: &str, path: &plan::Path) -> Result<Vec<Part>, String> {
    let names = template_names(path);
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let close = rest[open..].find('}').map(|close| open + close);
        let Some(close) = close.filter(|close| *close > open) else {
            return Err(format!("`{text}` has a brace without its other"));
        };
        literal.push_str(&rest[..open]);
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal).into()));
        }
        let name = &rest[open + 1..close];
        let name = name.strip_prefix('*').unwrap_or(name);
        let index = names.iter().position(|other| other == name).ok_or_else(|| {
            format!("`{text}` uses `{name}`, which not every match of the route captures")
        })?;
        parts.push(Part::Capture(index));
        rest = &rest[close + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.into()));
    }
    // With a letter for each capture it must be a path like any other.
    let sample: String = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text,
            Part::Capture(_) => "x",
        })
        .collect();
    check_path(&sample).map_err(|what| format!("`{text}`: {what}"))?;
    Ok(parts)
}

/// Checks that a replacement names groups that are there, and could stand in a path.
fn check_replacement(regex: &Regex, replace: &str) -> Result<(), String> {
    let plain = |byte: u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b'?' | b'#' | b'\\');
    if !replace.bytes().all(plain) {
        return Err(format!("`{replace}` holds what cannot stand in a path"));
    }
    if replace.split('/').any(is_dots) {
        return Err(format!("`{replace}` has a dot segment, which no path may get"));
    }
    for (at, _) in replace.match_indices('%') {
        let digits = replace.as_bytes().get(at + 1..at + 3).unwrap_or_default();
        let escapes = digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit);
        if !escapes && !replace[at + 1..].starts_with('$') {
            return Err(format!("`{replace}` has a `%` that escapes nothing"));
        }
    }
    let mut rest = replace;
    while let Some(dollar) = rest.find('$') {
        rest = &rest[dollar + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            rest = tail;
            continue;
        }
        let name = match rest.strip_prefix('{') {
            Some(braced) => braced.split_once('}').map(|(name, _)| name).unwrap_or_default(),
            None => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                &rest[..end.unwrap_or(rest.len())]
            }
        };
        let there = match name.parse::<usize>() {
            Ok(number) => number < regex.captures_len(),
            Err(_) => regex.capture_names().flatten().any(|other| other == name),
        };
        if !there {
            return Err(format!(
                "`{replace}` uses group `{name}`, which the expression does not have (write `${{1}}x` \
                 for group 1 before a letter)"
            ));
        }
    }
    Ok(())
}

/// Checks that a replacement makes a path of some path, as far as a few that the expression matches can
/// tell: what is never a path would be every client's 400.
fn check_outcome(regex: &Regex, replace: &str) -> Result<(), String> {
    let pattern = regex.as_str().trim_start_matches('^');
    let plain = pattern.find(|c: char| r"\.+*?()|[]{}^$".contains(c)).unwrap_or(pattern.len());
    // A character with `?` or `*` behind it need not be there.
    let literal = match pattern[plain..].starts_with(['?', '*', '{']) {
        true => &pattern[..pattern[..plain].char_indices().next_back().map_or(0, |(at, _)| at)],
        false => &pattern[..plain],
    };
    let starts = ["/".to_owned(), "/a".to_owned(), literal.to_owned(), format!("/a/{literal}")];
    let ends = ["", "/", "b", "/b", "7", "/7/b", "/b/c/d", "/b/7", ".html"];
    let paths = starts.iter().flat_map(|start| ends.map(|end| format!("{start}{end}")));
    let mut made = None;
    let likely = |path: &String| path.starts_with('/') && !path.contains("//");
    for path in paths.filter(likely).filter(|path| regex.is_match(path)) {
        let one = regex.replace_all(&path, replace).into_owned();
        if finish(one.clone()).is_ok() {
            return Ok(());
        }
        made.get_or_insert((path, one));
    }
    match made {
        None => Ok(()),
        Some((path, one)) => Err(format!(
            "`{replace}` makes no path: `{path}` would become `{one}`, and a path begins with a slash"
        )),
    }
}

/// Name and port of `name:port`; nothing that could end an authority passes.
fn authority(host: &str, usual: Option<u16>) -> Option<(&str, Option<u16>)> {
    let (name, port) = match host.rsplit_once(':') {
        // An empty port is the usual one (RFC 3986 section 3.2.3); one that is to be written is written.
        Some((name, "")) if usual.is_some() => (name, usual),
        Some((name, port)) if !port.ends_with(']') => {
            if port.is_empty() || port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            (name, Some(port.parse().ok()?))
        }
        _ => (host, usual),
    };
    let fits = match name.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)),
    };
    (fits && !name.is_empty()).then_some((name, port))
}

/// Appends text, with escapes for all that is not printable ASCII.
fn push_printable(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if matches!(byte, b'!'..=b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests;

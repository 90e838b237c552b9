//! Paths: plain ones, templates, and what a request's path must be.

use weft_proxy::plan;
use weft_wire::path;

use super::{Pattern, shown, texts};
use crate::config::{
    problem::Problem,
    setting::{Absent, Cx, Setting, Shape, settings},
    tree::{Kind, Node, Text},
};

/// A path that stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainPath(pub String);

/// A path with captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplatePath(pub String);

texts! {
    PlainPath, "path", Some("^/"), |text| plain_path(text).map(Self);
    TemplatePath, "path", Some("^/"), |text| template(text).map(Self);
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
            if segment.contains('*') {
                return Err(format!(
                    "`{}`: in a template `*` stands for itself; what is below is `{{*rest}}`, as in \
                     /orders/{{id}}/{{*rest}}",
                    shown(text)
                ));
            }
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
            let text = Text::new(regex);
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

//! `${NAME}`, `${NAME:-default}` and `${secret:NAME}` in values, replaced before a setting reads them.
//!
//! A text with a secret in it remembers how it was written, which is what is shown in its place. `$${` writes `${`. A dollar sign that no brace follows stays as it is, so regular expressions need
//! no escapes. What a variable or a secret holds is never read for further ones.

use std::sync::Arc;

use super::{
    problem::Problem,
    source::{Place, Sources},
    tree::{Kind, Node},
};

/// Where variables come from.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a secret begins with.
pub const SECRET: &str = "${secret:";

/// A secret, or why there is none; `None` if that was told elsewhere.
pub type Secret = Result<Arc<str>, Option<Box<Problem>>>;

/// What is put in the place of variables and secrets.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    /// Variables by name.
    pub variables: Variables<'a>,
    /// Secrets by name.
    pub secrets: &'a dyn Fn(&str) -> Secret,
}

/// Replaces the variables and secrets in all values below a node.
pub fn substitute(
    node: &mut Node,
    sources: &Sources,
    values: Values<'_>,
    problems: &mut Vec<Problem>,
) {
    match &mut node.kind {
        Kind::Text(text) if text.text.contains("${") => match expand(&text.text, values) {
            Ok(expanded) => {
                text.written = expanded.is_secret.then(|| Arc::clone(&text.text));
                text.text = expanded.text.into();
                text.variable = expanded.variable.map(Into::into);
            }
            Err((at, what)) => {
                let place = within(node.place, &text.text, at, sources);
                problems.extend(match what {
                    Fault::Missing(name) => Some(
                        Problem::error(place, format!("the variable `{name}` is not set")).help(
                            format!(
                                "set it, or write `${{{name}:-default}}`, or `$${{` for the text itself"
                            ),
                        ),
                    ),
                    Fault::Secret(problem) => {
                        problem.map(|problem| Problem { place: Some(place), ..*problem })
                    }
                    Fault::Syntax(message) => Some(Problem::error(place, message).help(
                        "write `${NAME}`, `${NAME:-default}`, `${secret:NAME}`, or `$${` for the text itself",
                    )),
                });
                node.kind = Kind::Bad;
            }
        },
        Kind::List(items) => {
            for item in items {
                substitute(item, sources, values, problems);
            }
        }
        Kind::Map(entries) => {
            for (_, value) in entries {
                substitute(value, sources, values, problems);
            }
        }
        _ => {}
    }
}

/// The names of the secrets that values below a node ask for, as far as they can be read.
pub fn secrets_in(node: &Node, names: &mut Vec<Arc<str>>) {
    match &node.kind {
        Kind::Text(text) if text.text.contains("${") => {
            let found = std::cell::RefCell::new(Vec::new());
            let secrets = |name: &str| {
                found.borrow_mut().push(Arc::from(name));
                Ok(Arc::from(""))
            };
            // What is wrong with the text is told when it is replaced.
            let variables = |_: &str| Some(String::new());
            let _ = expand(&text.text, Values { variables: &variables, secrets: &secrets });
            names.append(&mut found.into_inner());
        }
        Kind::List(items) => items.iter().for_each(|item| secrets_in(item, names)),
        Kind::Map(entries) => entries.iter().for_each(|(_, value)| secrets_in(value, names)),
        _ => {}
    }
}

/// The place of a part of a scalar, if the scalar stands in the file just as it reads.
fn within(place: Place, text: &str, part: std::ops::Range<usize>, sources: &Sources) -> Place {
    let Some(written) = sources.text(place) else { return place };
    let skip = match written.find(text) {
        Some(skip) if skip <= 1 => skip,
        _ => return place,
    };
    let clip = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Place {
        start: place.start + clip(skip + part.start),
        end: place.start + clip(skip + part.end),
        ..place
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Missing(String),
    Secret(Option<Box<Problem>>),
    Syntax(&'static str),
}

struct Expanded {
    text: String,
    /// The last variable or secret of it.
    variable: Option<String>,
    is_secret: bool,
}

fn expand(text: &str, values: Values<'_>) -> Result<Expanded, (std::ops::Range<usize>, Fault)> {
    let mut out = String::with_capacity(text.len());
    let mut variable = None;
    let mut is_secret = false;
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let offset = text.len() - rest.len() + at;
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at]);
            out.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let Some(end) = inner.find('}') else {
            return Err((offset..text.len(), Fault::Syntax("this variable has no closing brace")));
        };
        let whole = offset..offset + end + 3;
        if let Some(name) = inner[..end].strip_prefix(&SECRET[2..]) {
            let is_name = |b: u8| b.is_ascii_alphanumeric() || b"._/-".contains(&b);
            if name.is_empty() || !name.bytes().all(is_name) {
                return Err((
                    whole,
                    Fault::Syntax("a secret's name is letters, digits, `.`, `_`, `-` and `/`"),
                ));
            }
            match (values.secrets)(name) {
                Ok(secret) => out.push_str(&secret),
                Err(problem) => return Err((whole, Fault::Secret(problem))),
            }
            variable = Some(inner[..end].to_owned());
            is_secret = true;
            rest = &inner[end + 1..];
            continue;
        }
        let (name, default) = match inner[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inner[..end], None),
        };
        let legal = !name.is_empty()
            && !name.as_bytes()[0].is_ascii_digit()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !legal {
            return Err((
                whole,
                Fault::Syntax(
                    "a variable's name is letters, digits and `_`, and begins with no digit",
                ),
            ));
        }
        // As in a shell, `:-` also stands in for a variable that is set to nothing.
        let value = (values.variables)(name).filter(|value| default.is_none() || !value.is_empty());
        match (value, default) {
            (Some(value), _) => {
                out.push_str(&value);
                variable = Some(name.to_owned());
            }
            (None, Some(default)) => out.push_str(default),
            (None, None) => return Err((whole, Fault::Missing(name.to_owned()))),
        }
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(Expanded { text: out, variable, is_secret })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<String, Fault> {
        let variables = |name: &str| match name {
            "PORT" => Some("8080".to_owned()),
            "EMPTY" => Some(String::new()),
            "LOOP" => Some("${LOOP}".to_owned()),
            _ => None,
        };
        let secrets = |name: &str| match name {
            "key" | "vault/db.password" => Ok(format!("<{name} ${{PORT}}>").into()),
            _ => Err(None),
        };
        let values = Values { variables: &variables, secrets: &secrets };
        expand(text, values).map(|expanded| expanded.text).map_err(|(_, fault)| fault)
    }

    #[test]
    fn variables_are_replaced() {
        for (text, expect) in [
            ("0.0.0.0:${PORT}", "0.0.0.0:8080"),
            ("${PORT}${PORT}", "80808080"),
            ("${NONE:-9}", "9"),
            ("${NONE:-}", ""),
            ("${EMPTY:-9}", "9"),
            ("${EMPTY}", ""),
            ("$${PORT}", "${PORT}"),
            ("a$", "a$"),
            ("^a$|b", "^a$|b"),
            ("${LOOP}", "${LOOP}"),
            ("Bearer ${secret:key}", "Bearer <key ${PORT}>"),
            ("${PORT}${secret:vault/db.password}", "8080<vault/db.password ${PORT}>"),
            ("$${secret:key}", "${secret:key}"),
        ] {
            assert_eq!(check(text).as_deref(), Ok(expect), "{text}");
        }
        assert_eq!(check("${NONE}"), Err(Fault::Missing("NONE".into())));
        assert_eq!(check("${secret:other}"), Err(Fault::Secret(None)));
        for text in [
            "${",
            "${}",
            "${A B}",
            "${1}",
            "${PORT",
            "${secret:}",
            "${secret:a b}",
            "${secret:a:-b}",
        ] {
            assert!(matches!(check(text), Err(Fault::Syntax(_))), "{text}");
        }
    }
}

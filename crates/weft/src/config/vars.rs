//! `${NAME}` and `${NAME:-default}` in values, replaced before a setting reads them.
//!
//! `$${` writes `${`. A dollar sign that no brace follows stays as it is, so regular expressions need
//! no escapes. What a variable holds is never read for further variables.

use super::{
    problem::Problem,
    source::{Place, Sources},
    tree::{Kind, Node},
};

/// Where variables come from.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces the variables in all values below a node.
pub fn substitute(
    node: &mut Node,
    sources: &Sources,
    variables: Variables<'_>,
    problems: &mut Vec<Problem>,
) {
    match &mut node.kind {
        Kind::Text(text) if text.text.contains("${") => match expand(&text.text, variables) {
            Ok((expanded, variable)) => {
                text.text = expanded.into();
                text.variable = variable.map(Into::into);
            }
            Err((at, what)) => {
                let place = within(node.place, &text.text, at, sources);
                problems.push(match what {
                    Fault::Missing(name) => Problem::error(
                        place,
                        format!("the variable `{name}` is not set"),
                    )
                    .help(format!(
                        "set it, or write `${{{name}:-default}}`, or `$${{` for the text itself"
                    )),
                    Fault::Syntax(message) => Problem::error(place, message)
                        .help("write `${NAME}`, `${NAME:-default}`, or `$${` for the text itself"),
                });
                node.kind = Kind::Bad;
            }
        },
        Kind::List(items) => {
            for item in items {
                substitute(item, sources, variables, problems);
            }
        }
        Kind::Map(entries) => {
            for (_, value) in entries {
                substitute(value, sources, variables, problems);
            }
        }
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
    Syntax(&'static str),
}

type Expanded = (String, Option<String>);

fn expand(
    text: &str,
    variables: Variables<'_>,
) -> Result<Expanded, (std::ops::Range<usize>, Fault)> {
    let mut out = String::with_capacity(text.len());
    let mut variable = None;
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
        let value = variables(name).filter(|value| default.is_none() || !value.is_empty());
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
    Ok((out, variable))
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
        expand(text, &variables).map(|(text, _)| text).map_err(|(_, fault)| fault)
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
        ] {
            assert_eq!(check(text).as_deref(), Ok(expect), "{text}");
        }
        assert_eq!(check("${NONE}"), Err(Fault::Missing("NONE".into())));
        for text in ["${", "${}", "${A B}", "${1}", "${PORT"] {
            assert!(matches!(check(text), Err(Fault::Syntax(_))), "{text}");
        }
    }
}

//! The whole configuration as it is in effect: every value, its default if it has none, and where it
//! came from. Secrets are never shown; what comes out can be read again where it holds none.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::{
    leaf::is_off,
    load::Loaded,
    merge::effective,
    sections::Route,
    setting::{Field, Shape, Table, unfold},
    source::{Place, Sources},
    tree::{Kind, Node, Text, is_plain_text, parse_built_in},
    vars::Variables,
};

/// A value with where it came from.
struct Shown {
    what: What,
    origin: String,
}

enum What {
    Text(String),
    /// A text with `${secret:NAME}` in it, as it is written.
    Written(String),
    /// A number or a truth value.
    Plain(String),
    List(Vec<Shown>),
    Map(Vec<(String, Shown)>),
}

/// The configuration as YAML, with a comment behind each value.
pub fn yaml(loaded: &Loaded, variables: Variables<'_>) -> String {
    let mut out = String::new();
    write_yaml(&shown(loaded, variables), 0, &mut out);
    out
}

/// The configuration as JSON: `value`, and `origins` by JSON pointer.
pub fn json(loaded: &Loaded, variables: Variables<'_>) -> Value {
    let mut origins = Map::new();
    let value = write_json(&shown(loaded, variables), "", &mut origins);
    let mut object = Map::new();
    object.insert("value".into(), value);
    object.insert("origins".into(), Value::Object(origins));
    Value::Object(object)
}

fn shown(loaded: &Loaded, variables: Variables<'_>) -> Shown {
    let (tree, catalogue) = (loaded.tree(variables), loaded.catalogue);
    Printer { tree: &tree, sources: &loaded.sources, policies: catalogue.policies() }
        .section(&tree, catalogue.table())
}

struct Printer<'a> {
    tree: &'a Node,
    sources: &'a Sources,
    policies: &'static Table,
}

impl Printer<'_> {
    fn origin(&self, node: &Node) -> String {
        let mut origin = match self.sources.position(node.place) {
            Some(at) => format!("{}:{}", at.path.display(), at.line),
            None => "default".into(),
        };
        if let Kind::Text(text) = &node.kind
            && let Some(variable) = &text.variable
        {
            let _ = write!(origin, ", ${{{variable}}}");
        }
        origin
    }

    fn section(&self, node: &Node, table: &'static Table) -> Shown {
        let unfolded = match node.kind {
            Kind::Map(_) | Kind::Null => None,
            _ => unfold(node, table),
        };
        let node = unfolded.as_ref().unwrap_or(node);
        // A route shows the policy that is in effect for it.
        let policy = (table.name == Route::TABLE.name).then(|| self.effective(node));
        let mut entries: Vec<(String, Shown)> = Vec::new();
        for field in table.fields {
            entries.push((field.key.into(), self.field(node.get(field.key), field)));
        }
        if let Some(policy) = policy {
            // What needs a service has no part in a route that Weft answers itself.
            let served = node.get("to").is_some();
            let idle = |key: &str| ["retry", "hedge", "mirror", "fallback"].contains(&key);
            for field in self.policies.fields.iter().filter(|field| served || !idle(field.key)) {
                entries.push((field.key.into(), self.field(policy.get(field.key), field)));
            }
        }
        // What is not said and has no effect is left out.
        entries.retain(|(_, shown)| !matches!(&shown.what, What::Plain(text) if text == "null"));
        Shown { what: What::Map(entries), origin: self.origin(node) }
    }

    fn effective(&self, route: &Node) -> Node {
        let names: Vec<&str> = match route.get("policies").map(|node| &node.kind) {
            Some(Kind::List(items)) => items.iter().filter_map(Node::text).collect(),
            Some(Kind::Text(text)) => vec![&text.text],
            _ => Vec::new(),
        };
        let policies = self.tree.get("policies");
        effective(route, self.policies, names.into_iter(), |name| {
            policies.and_then(|node| node.get(name))
        })
    }

    fn field(&self, node: Option<&Node>, field: &Field) -> Shown {
        let shape = (field.shape)();
        match (node.filter(|node| !matches!(node.kind, Kind::Null)), field.default) {
            (Some(node), _) => self.shape(node, &shape),
            (None, Some(default)) => self.shape(&parse_built_in(default), &shape),
            (None, None) => self.absent(&shape, field),
        }
    }

    fn absent(&self, shape: &Shape, field: &Field) -> Shown {
        use super::setting::Absent;
        let empty = Node { place: Place::BUILT_IN, kind: Kind::Map(Vec::new()) };
        let what = match (field.absent, shape) {
            (Absent::Defaults, Shape::Section(table)) => return self.section(&empty, table),
            (Absent::Empty, Shape::Map { .. }) => What::Map(Vec::new()),
            (Absent::Empty, _) => What::List(Vec::new()),
            _ => What::Plain("null".into()),
        };
        Shown { what, origin: "default".into() }
    }

    fn shape(&self, node: &Node, shape: &Shape) -> Shown {
        if let Some(written) = node.written() {
            return Shown { what: What::Written(written.to_string()), origin: self.origin(node) };
        }
        match (shape, &node.kind) {
            (Shape::Secret, Kind::Text(text)) => {
                let shown = if text.text.starts_with("file:") {
                    text.text.to_string()
                } else {
                    "***".into()
                };
                Shown { what: What::Text(shown), origin: self.origin(node) }
            }
            (Shape::Section(table), Kind::Map(_) | Kind::Text(_)) => self.section(node, table),
            (Shape::Switch(inner), kind) => {
                let on = matches!(kind, Kind::Text(text) if matches!(&*text.text, "on" | "true"));
                match &**inner {
                    _ if is_off(node) => {
                        Shown { what: What::Text("off".into()), origin: self.origin(node) }
                    }
                    Shape::Section(table) if on => {
                        let empty = Node { place: node.place, kind: Kind::Map(Vec::new()) };
                        self.section(&empty, table)
                    }
                    inner => self.shape(node, inner),
                }
            }
            (Shape::Either(forms), kind) => {
                let fits = forms.iter().find(|form| match kind {
                    Kind::Map(_) => matches!(form, Shape::Section(_) | Shape::Map { .. }),
                    _ => true,
                });
                match fits {
                    Some(form) => self.shape(node, form),
                    None => self.plain(node, shape),
                }
            }
            (Shape::List(inner) | Shape::Many(inner), Kind::List(items)) => Shown {
                what: What::List(items.iter().map(|item| self.shape(item, inner)).collect()),
                origin: self.origin(node),
            },
            (Shape::Many(inner), _) => self.shape(node, inner),
            (Shape::Map { value, .. }, Kind::Map(entries)) => Shown {
                what: What::Map(
                    entries
                        .iter()
                        .map(|(key, node)| (key.text.to_string(), self.shape(node, value)))
                        .collect(),
                ),
                origin: self.origin(node),
            },
            _ => self.plain(node, shape),
        }
    }

    fn plain(&self, node: &Node, shape: &Shape) -> Shown {
        let what = match (&node.kind, shape) {
            (Kind::Text(Text { written: Some(written), .. }), _) => {
                What::Written(written.to_string())
            }
            (Kind::Text(text), _) if text.text.contains("PRIVATE KEY") => What::Text("***".into()),
            // As it is written: what is no JSON is the very text.
            (Kind::Text(text), Shape::Any) if text.plain && !is_plain_text(&text.text) => {
                What::Plain(text.text.to_string())
            }
            (Kind::Text(text), Shape::Bool | Shape::Int { .. }) => {
                What::Plain(text.text.replace('_', ""))
            }
            (Kind::Text(text), _) => What::Text(text.text.to_string()),
            (Kind::List(items), _) => {
                What::List(items.iter().map(|item| self.plain(item, shape)).collect())
            }
            (Kind::Map(entries), _) => What::Map(
                entries
                    .iter()
                    .map(|(key, value)| (key.text.to_string(), self.plain(value, shape)))
                    .collect(),
            ),
            (Kind::Null | Kind::Bad, _) => What::Plain("null".into()),
        };
        Shown { what, origin: self.origin(node) }
    }
}

fn write_yaml(shown: &Shown, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match &shown.what {
        What::Map(entries) => {
            for (key, value) in entries {
                let _ = write!(out, "{indent}{}:", scalar(key));
                write_value(value, depth, out);
            }
        }
        What::List(items) => {
            for item in items {
                let _ = write!(out, "{indent}-");
                match &item.what {
                    What::Map(entries) if !entries.is_empty() => {
                        // The first key stands beside the dash.
                        let mut inner = String::new();
                        write_yaml(item, depth + 1, &mut inner);
                        out.push(' ');
                        out.push_str(inner.trim_start_matches(' '));
                    }
                    _ => write_value(item, depth, out),
                }
            }
        }
        What::Text(_) | What::Written(_) | What::Plain(_) => write_value(shown, depth, out),
    }
}

fn write_value(shown: &Shown, depth: usize, out: &mut String) {
    let origin = &shown.origin;
    let _ = match &shown.what {
        What::Text(text) => writeln!(out, " {} # {origin}", scalar(text)),
        What::Written(text) => writeln!(out, " {} # {origin}", Value::from(&**text)),
        What::Plain(text) => writeln!(out, " {text} # {origin}"),
        What::List(items) if items.is_empty() => writeln!(out, " [] # {origin}"),
        What::Map(entries) if entries.is_empty() => writeln!(out, " {{}} # {origin}"),
        What::List(_) | What::Map(_) => {
            out.push('\n');
            write_yaml(shown, depth + 1, out);
            Ok(())
        }
    };
}

/// A text as a YAML scalar: plain where nothing could read it otherwise, else quoted as JSON quotes.
fn scalar(text: &str) -> String {
    let plain = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && !["null", "true", "false", "yes", "no", "on", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str())
        && is_plain_text(text);
    // `${` would be read as a variable when the output is read again.
    let text = text.replace("${", "$${");
    if plain { text } else { Value::String(text).to_string() }
}

fn write_json(shown: &Shown, pointer: &str, origins: &mut Map<String, Value>) -> Value {
    match &shown.what {
        What::Map(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| {
                    let step = key.replace('~', "~0").replace('/', "~1");
                    (key.clone(), write_json(value, &format!("{pointer}/{step}"), origins))
                })
                .collect(),
        ),
        What::List(items) => items
            .iter()
            .enumerate()
            .map(|(at, item)| write_json(item, &format!("{pointer}/{at}"), origins))
            .collect(),
        What::Text(text) | What::Written(text) => {
            origins.insert(pointer.into(), Value::String(shown.origin.clone()));
            Value::String(text.clone())
        }
        What::Plain(text) => {
            origins.insert(pointer.into(), Value::String(shown.origin.clone()));
            serde_json::from_str(text).unwrap_or_else(|_| Text::plain(&**text).value())
        }
    }
}

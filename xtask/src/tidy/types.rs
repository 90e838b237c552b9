//! One name for one thing: what a crate shows at its root has no namesake.
//!
//! A type that is exported at the root of a crate is read without its module, so no other crate may export
//! the same name, and no second public type of the crate may have it. Types that stay in their module are
//! read with it (`breaker::Snapshot`), and may be called as their neighbours are.

use std::collections::BTreeMap;

use super::{
    Finding,
    tree::{Tree, is_test},
};

/// Names that are read with their module or crate, wherever they stand.
const OF_ITS_MODULE: [&str; 4] = ["Error", "Options", "Service", "Handle"];

/// No two public types of one name where a reader takes them for one.
pub(super) fn namesakes(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut roots: BTreeMap<String, String> = BTreeMap::new();
    for (path, text) in tree.ending("/src/lib.rs") {
        let Some(folder) = path.strip_suffix("lib.rs").filter(|path| path.starts_with("crates/"))
        else {
            continue;
        };
        for name in exported(text) {
            if OF_ITS_MODULE.contains(&name.as_str()) {
                continue;
            }
            let defined = definitions(tree, folder, &name);
            if let [first, second, ..] = defined.as_slice() {
                let says = format!(
                    "`{name}` is exported at the root of its crate, and is also a type of {first}"
                );
                findings.push(Finding::new(second, 0, says));
            }
            if let Some(other) = roots.insert(name.clone(), path.to_owned()) {
                let says = format!("`{name}` is exported by {other} too: one name for one thing");
                findings.push(Finding::new(path, 0, says));
            }
        }
    }
    findings
}

/// The files below a folder that define a public type of a name.
fn definitions<'a>(tree: &'a Tree, folder: &str, name: &str) -> Vec<&'a str> {
    tree.rust()
        .filter(|(path, _)| path.starts_with(folder) && !is_test(path))
        .filter(|(_, text)| text.lines().filter_map(public_type).any(|found| found == name))
        .map(|(path, _)| path)
        .collect()
}

/// The name of the public type that a line at the left margin begins.
fn public_type(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub ")?;
    let (kind, rest) = rest.split_once(' ')?;
    matches!(kind, "struct" | "enum" | "trait" | "type" | "union")
        .then(|| rest.split(|of: char| !of.is_alphanumeric() && of != '_').next())?
}

/// The types that `pub use` of a crate's own modules brings to its root.
fn exported(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for statement in text.split("\npub use ").skip(1) {
        let Some((paths, _)) = statement.split_once(';') else { continue };
        // What another crate defines keeps its name.
        if paths.starts_with("weft_") {
            continue;
        }
        let words = paths.replace("::", " :: ").replace(['{', '}', ',', '\n'], " , ");
        let words: Vec<&str> = words.split_whitespace().collect();
        for (at, word) in words.iter().enumerate() {
            let next = words.get(at + 1);
            let is_path = next.is_some_and(|next| *next == "::" || *next == "as");
            let is_type =
                word.starts_with(char::is_uppercase) && word.chars().any(char::is_lowercase);
            if is_type && !is_path {
                names.push((*word).to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_are_types_of_the_crates_own_modules() {
        let text = "mod a;\npub use a::{One, inner::{Two, LIMIT}, Three as Four, word};\n\
                    pub use weft_ledger::Durability;\npub use Enum::Variant;\n";
        assert_eq!(exported(text), ["One", "Two", "Four", "Variant"]);
    }

    #[test]
    fn namesakes_are_found_within_a_crate_and_across_crates() {
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "mod x;\npub use x::{Route, Options};\n"),
            ("crates/a/src/x.rs", "pub struct Route;\npub struct Options;"),
            ("crates/a/src/y.rs", "pub enum Route {}\npub struct Snapshot;"),
            ("crates/a/src/z.rs", "pub struct Snapshot;\npub(crate) struct Route;"),
            ("crates/b/src/lib.rs", "mod x;\npub use x::{Options, Route};\n"),
            ("crates/b/src/x.rs", "pub struct Route<T>(T);\npub struct Options;"),
        ]);
        let found: Vec<String> = namesakes(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["crates/a/src/y.rs", "crates/b/src/lib.rs"]);
    }
}

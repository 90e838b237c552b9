//! Every Rust file belongs to a crate's module tree, and none has a name that means nothing.

use std::collections::BTreeSet;

use super::{Finding, tree::Tree};

/// Names that say where something was put, not what it is.
const EMPTY_NAMES: [&str; 9] =
    ["util", "utils", "helper", "helpers", "common", "manager", "managers", "misc", "stuff"];

/// No file is left over that no module declares.
pub(super) fn orphans(tree: &Tree) -> Vec<Finding> {
    let mut reached = BTreeSet::new();
    for (manifest, _) in tree.ending("Cargo.toml") {
        let folder = manifest.trim_end_matches("Cargo.toml");
        for (path, _) in tree.ending(".rs") {
            if path.strip_prefix(folder).is_some_and(is_root) {
                reach(tree, path, true, &mut reached);
            }
        }
    }
    tree.ending(".rs")
        .filter(|(path, _)| !reached.contains(*path))
        .map(|(path, _)| Finding::new(path, 0, "no module declares this file"))
        .collect()
}

/// Whether a file, by its path from the crate's folder, is where cargo begins to compile.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(
        parts.as_slice(),
        ["build.rs"]
            | ["src", "lib.rs" | "main.rs"]
            | ["tests" | "benches" | "examples" | "fuzz_targets", _]
            | ["src", "bin", _]
            | ["tests" | "benches" | "examples", _, "main.rs"]
            | ["src", "bin", _, "main.rs"]
    )
}

/// Notes a file and all that its declarations lead to.
fn reach(tree: &Tree, path: &str, root: bool, reached: &mut BTreeSet<String>) {
    let Some(text) = tree.get(path) else { return };
    if !reached.insert(path.to_owned()) {
        return;
    }
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let below = match file.trim_end_matches(".rs") {
        _ if root => folder.to_owned(),
        "mod" => folder.to_owned(),
        stem => format!("{folder}/{stem}"),
    };
    let mut named_path = None;
    for line in text.lines().map(str::trim) {
        if let Some(included) = quoted_after(line, "include!(") {
            reach(tree, &join(folder, included), true, reached);
        }
        if let Some(given) = quoted_after(line, "#[path = ") {
            named_path = Some(given);
            continue;
        }
        let Some(name) = declared(line) else {
            // Other attributes may stand between the path and its module.
            if !line.starts_with("#[") {
                named_path = None;
            }
            continue;
        };
        match named_path.take() {
            Some(given) => reach(tree, &join(folder, given), true, reached),
            None => {
                reach(tree, &format!("{below}/{name}.rs"), false, reached);
                reach(tree, &format!("{below}/{name}/mod.rs"), false, reached);
            }
        }
    }
}

/// The name in `mod name;`, at any visibility.
fn declared(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub").map_or(line, |rest| {
        let rest = rest.trim_start();
        rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest)
    });
    line.trim_start().strip_prefix("mod ")?.strip_suffix(';')
}

/// The text in quotes right after a prefix.
fn quoted_after<'a>(line: &'a str, prefix: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(prefix)?;
    rest.strip_prefix('"')?.split('"').next()
}

/// A path as seen from a folder, with `..` resolved.
pub(super) fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// No `mod.rs`, and no name that says nothing.
pub(super) fn names(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, _) in tree.ending(".rs") {
        let parts = path.trim_end_matches(".rs").split('/');
        if let Some(name) = parts.clone().find(|part| EMPTY_NAMES.contains(part)) {
            let says = format!("`{name}` says nothing: name it after what it holds");
            findings.push(Finding::new(path, 0, says));
        }
        if parts.clone().next_back() == Some("mod") {
            findings.push(Finding::new(path, 0, "write `x.rs` beside `x/`, not `x/mod.rs`"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|finding| finding.path).collect()
    }

    #[test]
    fn orphans_are_what_no_declaration_leads_to() {
        let tree = Tree::of(&[
            ("a/Cargo.toml", ""),
            ("a/src/lib.rs", "mod one;\npub(crate) mod two;\n// mod four;\nmod inline {}"),
            ("a/src/one.rs", "#[cfg(test)]\nmod tests;"),
            ("a/src/one/tests.rs", ""),
            ("a/src/two.rs", "#[path = \"elsewhere/five.rs\"]\n#[allow(x)]\nmod six;"),
            ("a/src/elsewhere/five.rs", ""),
            ("a/src/three.rs", "include!(\"generated/x.rs\");"),
            ("a/src/four.rs", ""),
            ("a/tests/it/main.rs", "mod deep;"),
            ("a/tests/it/deep.rs", ""),
            ("a/tests/it/lost.rs", ""),
            ("a/src/bin/tool.rs", "include!(\"../generated/x.rs\");"),
            ("a/src/generated/x.rs", ""),
        ]);
        assert_eq!(
            paths(orphans(&tree)),
            ["a/src/four.rs", "a/src/three.rs", "a/tests/it/lost.rs"]
        );
    }

    #[test]
    fn names_that_mean_nothing_are_found() {
        let tree = Tree::of(&[
            ("a/src/util/x.rs", ""),
            ("a/src/helpers.rs", ""),
            ("a/src/x/mod.rs", ""),
            ("a/src/commons.rs", ""),
        ]);
        let found = ["a/src/helpers.rs", "a/src/util/x.rs", "a/src/x/mod.rs"];
        assert_eq!(paths(names(&tree)), found);
    }

    #[test]
    fn declarations_at_any_visibility() {
        for (line, expect) in [
            ("mod a;", Some("a")),
            ("pub mod a;", Some("a")),
            ("pub(in crate::x) mod a;", Some("a")),
            ("mod a {", None),
            ("module a;", None),
        ] {
            assert_eq!(declared(line), expect, "{line}");
        }
    }
}

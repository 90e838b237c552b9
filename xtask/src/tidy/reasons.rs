//! Every reason word of the kernel has a page that says what to do, with facts that are true.
//!
//! The facts (status, side, retry) are read from the kernel's source, because xtask imports nothing
//! of ours; a table that can no longer be read is itself a finding.

use std::collections::BTreeMap;

use super::{Finding, tree::Tree};

const REASONS: &str = "crates/kernel/src/reason.rs";
const ERRORS: &str = "crates/kernel/src/error.rs";
const PAGES: &str = "docs/errors/";
const INDEX: &str = "docs/errors/README.md";
const SECTIONS: [&str; 3] = ["## What happened", "## Whose fault", "## What to do"];

/// Each word has its page with the right facts, each page its word.
pub(super) fn pages(tree: &Tree) -> Vec<Finding> {
    let Some(table) = tree.get(REASONS) else { return Vec::new() };
    let facts = match facts(table, tree.get(ERRORS).unwrap_or_default()) {
        Ok(facts) => facts,
        Err(why) => return vec![Finding::new(REASONS, 0, why)],
    };
    let mut findings = Vec::new();
    let index = tree.get(INDEX).unwrap_or_default();
    for (word, fact) in &facts {
        let path = format!("{PAGES}{word}.md");
        let Some(page) = tree.get(&path) else {
            findings.push(Finding::new(&path, 0, format!("the reason `{word}` has no page")));
            continue;
        };
        if page.lines().next() != Some(&format!("# `{word}`")) {
            findings.push(Finding::new(&path, 1, format!("begin with \"# `{word}`\"")));
        }
        if !page.lines().any(|line| line == fact) {
            findings.push(Finding::new(&path, 0, format!("the line of facts must be: {fact}")));
        }
        for section in SECTIONS.iter().filter(|section| !page.lines().any(|line| line == **section))
        {
            findings.push(Finding::new(&path, 0, format!("the section `{section}` is missing")));
        }
        if !index.contains(&format!("({word}.md)")) {
            findings.push(Finding::new(INDEX, 0, format!("`{word}` is not in the index")));
        }
    }
    for (path, _) in tree.files().range(PAGES.to_owned()..) {
        let Some(name) = path.strip_prefix(PAGES) else { break };
        let word = name.trim_end_matches(".md");
        if path != INDEX && !facts.contains_key(word) {
            findings.push(Finding::new(path, 0, format!("there is no reason `{word}`")));
        }
    }
    findings
}

/// The line of facts of each word.
fn facts(reasons: &str, errors: &str) -> Result<BTreeMap<String, String>, String> {
    let http = numbers(errors, "http");
    let grpc = numbers(errors, "grpc");
    let mut facts = BTreeMap::new();
    for line in reasons.lines().map(str::trim) {
        let Some((name, row)) = line.strip_suffix(';').and_then(|line| line.split_once(" = \""))
        else {
            continue;
        };
        let cells: Vec<&str> = row.split(", ").collect();
        let [word, code, side, retry, _proxy_status] = cells.as_slice() else { continue };
        let of = |numbers: &BTreeMap<String, String>, name: &str| {
            numbers.get(name).cloned().ok_or_else(|| format!("no number is found for `{name}`"))
        };
        // A reason may have a status of its own, apart from its code's.
        let status = numbers(reasons, "http").remove(name);
        let status = status.map_or_else(|| of(&http, code), Ok)?;
        let word = word.trim_end_matches('"');
        let (side, retry) = (side.to_lowercase(), retry.to_lowercase());
        let fact =
            format!("HTTP {status} · gRPC {} · side `{side}` · retry `{retry}`", of(&grpc, code)?);
        facts.insert(word.to_owned(), fact);
    }
    if facts.is_empty() { Err("the table of reasons is not found".to_owned()) } else { Ok(facts) }
}

/// What each variant is mapped to in the `match` of a function: `Self::A | Self::B => 503,`.
fn numbers(source: &str, function: &str) -> BTreeMap<String, String> {
    let mut numbers = BTreeMap::new();
    let Some((_, body)) = source.split_once(&format!("fn {function}(self)")) else {
        return numbers;
    };
    let body = body.split("fn ").next().unwrap_or_default();
    for arm in body.split(',') {
        let Some((variants, number)) = arm.split_once("=>") else { continue };
        let number: String = number.trim().chars().take_while(char::is_ascii_digit).collect();
        if number.is_empty() {
            continue;
        }
        for variant in variants.split("Self::").skip(1) {
            let name = variant.trim_end_matches(['|', ' ', '\n']);
            numbers.insert(name.to_owned(), number.clone());
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "
        pub const fn http(self) -> u16 {
            match self { Self::Big => 431, _ => self.code().http() }
        }
    reasons! {
    /// Doc.
    Gone = \"gone\", NotFound, Caller, No, \"x\";
    /// Doc.
    Big = \"big\", TooLarge, Caller, Safe, \"x\";
    }";
    const CODES: &str = "
    pub const fn http(self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::TooLarge
            | Self::Other => 413,
        }
    }
    pub const fn grpc(self) -> u8 {
        match self { Self::NotFound => 5, Self::TooLarge => 8, }
    }";

    fn page(word: &str, fact: &str) -> String {
        format!("# `{word}`\n\n{fact}\n\n{}\n", SECTIONS.join("\n\ntext\n\n"))
    }

    fn check(pages_and_index: &[(&str, &str)], expect: &[&str]) {
        let mut files = vec![(REASONS, TABLE), (ERRORS, CODES)];
        files.extend(pages_and_index);
        let says: Vec<String> =
            pages(&Tree::of(&files)).into_iter().map(|found| found.says).collect();
        assert_eq!(says, expect);
    }

    #[test]
    fn each_word_has_a_true_page_and_each_page_a_word() {
        let gone = page("gone", "HTTP 404 · gRPC 5 · side `caller` · retry `no`");
        let big = page("big", "HTTP 431 · gRPC 8 · side `caller` · retry `safe`");
        let index = "[gone](gone.md) [big](big.md)";
        let all = [
            ("docs/errors/gone.md", gone.as_str()),
            ("docs/errors/big.md", big.as_str()),
            (INDEX, index),
        ];
        check(&all, &[]);
        check(&[all[0], all[2]], &["the reason `big` has no page"]);
        check(&[all[0], all[1], (INDEX, "[gone](gone.md)")], &["`big` is not in the index"]);
        let stray = ("docs/errors/stray.md", "");
        check(&[all[0], all[1], all[2], stray], &["there is no reason `stray`"]);
        let stale = big.replace("431", "413");
        check(
            &[all[0], ("docs/errors/big.md", &stale), all[2]],
            &["the line of facts must be: HTTP 431 · gRPC 8 · side `caller` · retry `safe`"],
        );
    }

    #[test]
    fn a_table_that_cannot_be_read_is_a_finding() {
        let tree = Tree::of(&[(REASONS, "nothing"), (ERRORS, CODES)]);
        assert_eq!(pages(&tree).len(), 1);
        let tree = Tree::of(&[(REASONS, TABLE), (ERRORS, "nothing")]);
        assert_eq!(pages(&tree).len(), 1);
    }
}

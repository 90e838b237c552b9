//! How files begin, how long they are, and what must not stand in them.

use super::{
    Finding,
    tree::{Tree, is_generated, is_test},
};

const LINES_WARN: usize = 500;
const LINES_MAX: usize = 800;
const TEST_LINES_MAX: usize = 1_200;
const KERNEL_LINES_MAX: usize = 2_000;

// Put together here, so that the rules do not find themselves.
const MARKERS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const MACROS: [&str; 3] =
    [concat!("#[ig", "nore"), concat!("to", "do!("), concat!("unimple", "mented!(")];
const MACHINE_PATHS: [&str; 3] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Files in which people write words.
const TEXT: [&str; 12] = [
    ".rs", ".md", ".toml", ".yaml", ".yml", ".sh", ".proto", ".py", ".ts", ".tsx", ".css", ".html",
];

/// Each file begins with what it is for.
pub(super) fn openings(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| Finding::new(path, 1, "begin with `//!` and what the file is for"))
        .collect()
}

/// No file is too long to read.
pub(super) fn sizes(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut kernel = 0;
    for (path, text) in tree.rust() {
        let lines = text.lines().count();
        let most = if is_test(path) { TEST_LINES_MAX } else { LINES_MAX };
        if lines > most {
            findings.push(Finding::new(path, 0, format!("{lines} lines: {most} is the end")));
        } else if lines > LINES_WARN && !is_test(path) {
            findings.push(Finding::warning(path, 0, format!("{lines} lines: can it be split?")));
        }
        if path.starts_with("crates/kernel/src/") {
            kernel += lines;
        }
    }
    if kernel > KERNEL_LINES_MAX {
        let says = format!("{kernel} lines: the kernel ends at {KERNEL_LINES_MAX}");
        findings.push(Finding::new("crates/kernel", 0, says));
    }
    findings
}

/// Nothing is left for later, and no test is switched off.
pub(super) fn markers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, line, text) in lines(tree) {
        if let Some(marker) = MARKERS.iter().find(|marker| holds_word(text, marker)) {
            findings.push(Finding::new(path, line, format!("{marker}: do it, or let it go")));
        }
        if path.ends_with(".rs")
            && let Some(left) = MACROS.iter().find(|left| text.contains(*left))
        {
            findings.push(Finding::new(path, line, format!("`{left}` is not finished work")));
        }
    }
    findings
}

/// Nothing depends on whose machine it is.
pub(super) fn machine_paths(tree: &Tree) -> Vec<Finding> {
    let found = lines(tree).filter_map(|(path, line, text)| {
        let name = MACHINE_PATHS.iter().find(|name| {
            let mut found = text.match_indices(*name);
            found.any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '.'))
        })?;
        Some(Finding::new(path, line, format!("`{name}` is a path of one machine")))
    });
    found.collect()
}

/// The request path looks at the clock in one place, so that a test can pause all of it.
pub(super) fn clocks(tree: &Tree) -> Vec<Finding> {
    const PATHS: [&str; 2] = ["crates/net/src/", "crates/proxy/src/"];
    const PLACE: &str = "crates/net/src/clock.rs";
    const CLOCKS: [&str; 3] = ["Instant::now", "SystemTime::now", "SystemClock"];
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        if path == PLACE || is_test(path) || !PATHS.iter().any(|room| path.starts_with(room)) {
            continue;
        }
        let own = text.lines().take_while(|line| *line != "#[cfg(test)]");
        for (at, line) in own.enumerate().filter(|(_, line)| !line.trim().starts_with("//")) {
            if let Some(clock) = CLOCKS.iter().find(|clock| line.contains(**clock)) {
                let says = format!("`{clock}`: ask `net::clock`, which a test can pause");
                findings.push(Finding::new(path, at + 1, says));
            }
        }
    }
    findings
}

/// Every line that a person wrote, with its file and number.
fn lines(tree: &Tree) -> impl Iterator<Item = (&str, usize, &str)> {
    tree.files()
        .iter()
        .filter(|(path, _)| TEXT.iter().any(|end| path.ends_with(end)) || path.starts_with(".ci/"))
        .filter(|(path, _)| !is_generated(path))
        .flat_map(|(path, text)| {
            text.lines().enumerate().map(move |(at, line)| (path.as_str(), at + 1, line))
        })
}

fn holds_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let joins = |c: char| c.is_alphanumeric() || c == '_';
        !text[..at].ends_with(joins) && !text[at + word.len()..].starts_with(joins)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_begin_with_their_purpose() {
        let tree = Tree::of(&[
            ("a.rs", "//! Good."),
            ("b.rs", "use x;\n//! Late."),
            ("generated/c.rs", "x"),
        ]);
        let paths: Vec<String> = openings(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(paths, ["b.rs"]);
    }

    #[test]
    fn the_request_path_has_one_clock() {
        let read = "//! x\nlet now = Instant::now();\n#[cfg(test)]\nlet now = Instant::now();";
        let tree = Tree::of(&[
            ("crates/net/src/clock.rs", read),
            ("crates/net/src/pool.rs", read),
            ("crates/proxy/tests/it/node.rs", read),
            ("crates/proxy/src/answer.rs", "//! `Instant::now`\nclock::now();"),
            ("crates/broker/src/queue.rs", read),
        ]);
        let found: Vec<(String, usize)> =
            clocks(&tree).into_iter().map(|finding| (finding.path, finding.line)).collect();
        assert_eq!(found, [("crates/net/src/pool.rs".to_owned(), 2)]);
    }

    #[test]
    fn sizes_warn_then_fail() {
        let text = |lines: usize| "x\n".repeat(lines);
        for (path, lines, expect) in [
            ("a.rs", 500, None),
            ("a.rs", 501, Some(true)),
            ("a.rs", 800, Some(true)),
            ("a.rs", 801, Some(false)),
            ("a/tests/b.rs", 1_200, None),
            ("a/tests/b.rs", 1_201, Some(false)),
            ("a/generated/b.rs", 5_000, None),
        ] {
            let findings = sizes(&Tree::of(&[(path, &text(lines))]));
            assert_eq!(findings.first().map(|finding| finding.warning), expect, "{path} {lines}");
        }
        let kernel: Vec<_> =
            (0..5).map(|at| (format!("crates/kernel/src/{at}.rs"), text(401))).collect();
        let kernel: Vec<_> = kernel.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(sizes(&Tree::of(&kernel)).len(), 1);
    }

    #[test]
    fn what_is_left_for_later_is_found() {
        for (path, line, expect) in [
            ("a.rs", concat!("// TO", "DO: more"), 1),
            ("a.md", concat!("FIX", "ME"), 1),
            ("a.rs", concat!("let TO", "DOS = 1;"), 0),
            ("a.rs", concat!("#[ig", "nore]"), 1),
            ("a.rs", concat!("to", "do!()"), 1),
            ("a.md", concat!("`#[ig", "nore]` is refused"), 0),
            ("a.bin", concat!("TO", "DO"), 0),
        ] {
            assert_eq!(markers(&Tree::of(&[(path, line)])).len(), expect, "{line}");
        }
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        for (line, expect) in [
            (concat!("see /wo", "rk/x"), 1),
            (concat!("(/ho", "me/me)"), 1),
            (concat!("net/wo", "rk/x"), 0),
            (concat!("../ro", "ot/x"), 0),
            ("framework/x", 0),
        ] {
            assert_eq!(machine_paths(&Tree::of(&[("a.md", line)])).len(), expect, "{line}");
        }
    }
}

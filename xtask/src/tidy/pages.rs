//! What the pages tell a reader to type exists, and their links lead somewhere.

use super::{Finding, modules::join, tree::Tree};

/// The commands of the code blocks name tasks, packages and files that are there.
pub(super) fn commands(tree: &Tree) -> Vec<Finding> {
    let packages: Vec<&str> = tree
        .ending("Cargo.toml")
        .filter_map(|(_, manifest)| {
            let name = manifest.lines().find_map(|line| line.strip_prefix("name = \""))?;
            Some(name.trim_end_matches('"'))
        })
        .collect();
    let mut findings = Vec::new();
    for (path, page) in tree.ending(".md") {
        for (line, command) in typed(page) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let mut say = |says: String| findings.push(Finding::new(path, line, says));
            if let ["cargo", "xtask", task, ..] = words.as_slice()
                && !crate::TASKS.iter().any(|known| known.name == *task)
            {
                say(format!("there is no `cargo xtask {task}`"));
            }
            for pair in words.windows(2) {
                if let ["-p" | "--package", package] = pair
                    && words.first() == Some(&"cargo")
                    && !packages.contains(package)
                {
                    say(format!("there is no package `{package}`"));
                }
            }
            for word in words {
                if let Some(file) = word.strip_prefix("./")
                    && !file.starts_with("target/")
                    && !tree.exists(file)
                {
                    say(format!("there is no `{word}`"));
                }
            }
        }
    }
    findings
}

/// Commands of Weft's own, in code blocks and between backticks, are ones that it or a component has.
pub(super) fn own_commands(tree: &Tree) -> Vec<Finding> {
    let Some(cli) = tree.get("crates/weft/src/cli.rs") else { return Vec::new() };
    let mut known = variants(cli, "Command");
    for (path, text) in tree.rust() {
        if path.starts_with("crates/weft/src/components/") {
            known.extend(variants(text, "Nouns"));
            known.extend(of_tables(text));
        }
    }
    known.push("help".to_owned());
    let mut findings = Vec::new();
    for (path, page) in tree.ending(".md") {
        let inline = page.lines().enumerate().flat_map(|(at, line)| {
            let quoted = line.split('`').skip(1).step_by(2);
            quoted.map(move |command| (at + 1, command))
        });
        for (line, command) in typed(page).chain(inline) {
            let mut words = command.split_whitespace();
            if words.next() == Some("weft")
                && let Some(word) = words.next()
                && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
                && !word.starts_with('-')
                && !known.iter().any(|name| name == word)
            {
                findings.push(Finding::new(path, line, format!("there is no `weft {word}`")));
            }
        }
    }
    findings.dedup();
    findings
}

/// The nouns of rows of the table of operations.
fn of_tables(text: &str) -> impl Iterator<Item = String> {
    let nouns = text.split(": Noun = Noun {").skip(1);
    nouns.filter_map(|noun| Some(noun.split_once("name: \"")?.1.split_once('"')?.0.to_owned()))
}

/// The variants of an enum, as clap names them.
fn variants(text: &str, of: &str) -> Vec<String> {
    let body = text.split_once(&format!("pub enum {of} {{")).map_or("", |(_, rest)| rest);
    let body = body.split("\n}").next().unwrap_or_default();
    let mut names = Vec::new();
    for line in body.lines().map(str::trim).filter(|line| !line.starts_with(['/', '#'])) {
        let name: String = line.chars().take_while(char::is_ascii_alphanumeric).collect();
        let mut kebab = String::new();
        for c in name.chars() {
            if c.is_ascii_uppercase() && !kebab.is_empty() {
                kebab.push('-');
            }
            kebab.push(c.to_ascii_lowercase());
        }
        names.push(kebab);
    }
    names
}

/// The lines of the fenced blocks of shell, without prompt and comment.
fn typed(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    page.lines().enumerate().filter_map(move |(at, line)| {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = fence.is_none().then(|| language.trim());
            return None;
        }
        matches!(fence?, "" | "sh" | "bash" | "shell" | "console").then(|| {
            (at + 1, line.trim().trim_start_matches("$ ").split(" #").next().unwrap_or(""))
        })
    })
}

/// Links between pages lead to files that are there.
pub(super) fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, page) in tree.ending(".md") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut fenced = false;
        for (at, line) in page.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            }
            if fenced {
                continue;
            }
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let target = link.split(['#', ' ']).next().unwrap_or_default();
                let outside = target.is_empty() || target.contains(':');
                if !outside && !tree.exists(&join(folder, target)) {
                    findings.push(Finding::new(path, at + 1, format!("there is no `{target}`")));
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|finding| finding.says).collect()
    }

    #[test]
    fn commands_must_exist() {
        let page = "```sh\n$ cargo xtask test --quick\ncargo xtask fly # up\ncargo run -p weft-shop\n\
                    cargo test -p attic\n./.ci/run\n./nowhere.sh\n./target/release/weft\n```\n\
                    ```yaml\ncargo xtask swim\n```\ncargo xtask sink";
        let tree = Tree::of(&[
            ("README.md", page),
            (".ci/run", ""),
            ("shop/Cargo.toml", "[package]\nname = \"weft-shop\""),
        ]);
        let found = [
            "there is no `cargo xtask fly`",
            "there is no package `attic`",
            "there is no `./nowhere.sh`",
        ];
        assert_eq!(says(commands(&tree)), found);
    }

    #[test]
    fn commands_of_weft_must_exist() {
        let cli = "pub enum Command {\n    /// Runs.\n    Up(up::Up),\n    #[command(hide = true)]\n    \
                   HandOver(x),\n}\nfn Fly() {}";
        let nouns = "pub enum Nouns {\n    /// Birds.\n    Bird(x),\n}\n";
        let rows = "static NEST: Noun = Noun {\n    name: \"bird-nest\",\n    about: \"x\",\n};";
        let page = "`weft up` and `weft bird` and `weft bird-nest` and `weft fly --high`, a `weft.yaml`, weft sink\n```sh\nweft hand-over\n\
                    weft --version\nweft swim\n```\n";
        let tree = Tree::of(&[
            ("crates/weft/src/cli.rs", cli),
            ("crates/weft/src/components/birds.rs", nouns),
            ("crates/weft/src/components/birds/api.rs", rows),
            ("a.md", page),
        ]);
        let found = ["there is no `weft swim`", "there is no `weft fly`"];
        assert_eq!(says(own_commands(&tree)), found);
    }

    #[test]
    fn links_must_lead_somewhere() {
        let page = "[a](b.md) [c](../README.md#x) [d](https://example.com) [e](#here) [f](gone.md)";
        let tree = Tree::of(&[
            ("docs/a.md", page),
            ("docs/b.md", "[folder](../docs) ```x](y)```"),
            ("README.md", "```\n[x](y)\n```"),
        ]);
        assert_eq!(says(links(&tree)), ["there is no `gone.md`", "there is no `y`"]);
    }
}

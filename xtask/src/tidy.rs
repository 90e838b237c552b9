//! `cargo xtask tidy`: what the style page asks and no compiler checks.
//!
//! Each rule is a pure function from the tree of files to findings, so that it is tested on trees
//! that are written down in the test.

mod floors;
mod modules;
mod pages;
mod reasons;
mod text;
mod tree;
mod types;

use std::fmt;

use anyhow::{Result, bail};

use tree::Tree;

/// What a rule found in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// 0 when it is about the whole file.
    line: usize,
    says: String,
    /// A warning is shown and passes.
    warning: bool,
}

impl Finding {
    fn new(path: &str, line: usize, says: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, says: says.into(), warning: false }
    }

    fn warning(path: &str, line: usize, says: impl Into<String>) -> Self {
        Self { warning: true, ..Self::new(path, line, says) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.warning { "warning" } else { "error" };
        match self.line {
            0 => write!(f, "{word}: {}: {}", self.path, self.says),
            line => write!(f, "{word}: {}:{line}: {}", self.path, self.says),
        }
    }
}

/// A rule.
type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: &[Rule] = &[
    floors::arrows,
    floors::manifests,
    modules::orphans,
    modules::names,
    types::namesakes,
    text::openings,
    text::sizes,
    text::markers,
    text::machine_paths,
    text::clocks,
    reasons::pages,
    pages::commands,
    pages::own_commands,
    pages::links,
];

/// The task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("tidy takes no arguments");
    }
    check()
}

/// Reads the tree and applies every rule; prints what they find.
pub(crate) fn check() -> Result<()> {
    let tree = Tree::read(&crate::root())?;
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    findings.sort();
    findings.iter().for_each(|finding| println!("{finding}"));
    let errors = findings.iter().filter(|finding| !finding.warning).count();
    if errors > 0 {
        bail!("{errors} found");
    }
    println!("{} files are tidy", tree.files().len());
    Ok(())
}

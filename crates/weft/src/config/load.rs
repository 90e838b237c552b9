//! From a path to a checked plan, or to everything that is wrong.

use std::{
    collections::{BTreeSet, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    build,
    merge::{self, Read},
    plan::Plan,
    problem::{Problem, Severity},
    setting::Cx,
    source::{Place, Sources},
    tree::{self, Node},
    vars::{self, Variables},
};

/// A configuration that may run.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What to do.
    pub plan: Plan,
    /// What is suspicious.
    pub warnings: Vec<Problem>,
    /// The files that it was read from.
    pub sources: Arc<Sources>,
    /// Files that it refers to: certificates, keys, secrets.
    pub files: BTreeSet<PathBuf>,
    /// All files merged, with the place of each value; for `weft config`.
    pub tree: Node,
}

/// A configuration that may not run.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Everything that is wrong or suspicious, in the order of the files.
    pub problems: Vec<Problem>,
    /// The files that it was read from.
    pub sources: Arc<Sources>,
    /// Files that it refers to; a change of one may mend it.
    pub files: BTreeSet<PathBuf>,
}

impl Refused {
    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let first = self.problems.iter().find(|problem| problem.severity == Severity::Error);
        let Some(first) = first else { return f.write_str("the configuration was refused") };
        if let Some(position) = first.place.and_then(|place| self.sources.position(place)) {
            write!(f, "{position}: ")?;
        } else if let Some(file) = &first.file {
            write!(f, "{}: ", file.display())?;
        }
        f.write_str(&first.message)?;
        match self.errors() {
            0 | 1 => Ok(()),
            more => write!(f, " (and {} more)", more - 1),
        }
    }
}

impl std::error::Error for Refused {}

/// Loads a file, or a folder of files, with the variables of the environment.
pub fn load(path: &Path) -> Result<Loaded, Box<Refused>> {
    Loader::default().load(path, &|name| std::env::var(name).ok())
}

/// Loads configurations one after the other, and keeps what outlives a change: a service whose TLS
/// settings stay keeps its `rustls::ClientConfig`, and with it its sessions and connections.
#[derive(Debug, Default)]
pub struct Loader {
    tls: build::Tls,
}

impl Loader {
    /// Loads a file, or a folder of files, with these variables.
    pub fn load(&mut self, path: &Path, variables: Variables<'_>) -> Result<Loaded, Box<Refused>> {
        let mut problems = Vec::new();
        let sources = Sources::read(path, &mut problems);
        load_sources(sources, problems, variables, &mut self.tls)
    }

    /// Loads a text as if it stood in a file at `path`.
    pub fn load_text(
        &mut self,
        path: &Path,
        text: &str,
        variables: Variables<'_>,
    ) -> Result<Loaded, Box<Refused>> {
        let mut sources = Sources::default();
        sources.add(path, text);
        load_sources(sources, Vec::new(), variables, &mut self.tls)
    }
}

fn load_sources(
    sources: Sources,
    problems: Vec<Problem>,
    variables: Variables<'_>,
    tls: &mut build::Tls,
) -> Result<Loaded, Box<Refused>> {
    let sources = Arc::new(sources);
    let mut cx = Cx { sources: Arc::clone(&sources), problems, ..Cx::default() };
    let mut roots = Vec::new();
    for file in 0..u32::try_from(sources.files().len()).unwrap_or(0) {
        if let Some(mut root) = tree::parse(&sources, file, &mut cx.problems) {
            vars::substitute(&mut root, &sources, variables, &mut cx.problems);
            roots.push(root);
        }
    }
    let some = !roots.is_empty();
    let tree = merge::merge(roots, &mut cx);
    let plan = if some {
        let read: Read = merge::read(&tree, &mut cx);
        tls.begin();
        Some(build::plan(&read, tls, &mut cx))
    } else {
        None
    };
    let problems = in_order(cx.problems);
    let sources =
        if cx.secrets.is_empty() { sources } else { Arc::new(sources.redacted(&cx.secrets)) };
    let refused = problems.iter().any(|problem| problem.severity == Severity::Error);
    match plan {
        Some(plan) if !refused => {
            tls.end();
            Ok(Loaded { plan, warnings: problems, sources, files: cx.files, tree })
        }
        _ => Err(Box::new(Refused { problems, sources, files: cx.files })),
    }
}

/// Problems in the order of the files, each once: a policy is read for every route that names it.
fn in_order(problems: Vec<Problem>) -> Vec<Problem> {
    let mut seen: HashSet<(Option<Place>, Option<PathBuf>, String)> = HashSet::new();
    let mut problems: Vec<Problem> = problems
        .into_iter()
        .filter(|problem| {
            seen.insert((problem.place, problem.file.clone(), problem.message.clone()))
        })
        .collect();
    problems.sort_by_key(|problem| problem.place);
    problems
}

//! From a path to a checked plan, or to everything that is wrong.

use std::{
    collections::{BTreeSet, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    build,
    catalogue::Catalogue,
    kept::{Cut, Kept, Placed},
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
    /// What may stand in them.
    pub catalogue: &'static Catalogue,
    /// The files with their secrets.
    texts: Arc<Sources>,
}

impl Loaded {
    /// All files merged, with the place of each value; for those who want to see it. It is made anew,
    /// since keeping it would cost as much as the plan.
    pub fn tree(&self, variables: Variables<'_>) -> Node {
        let mut cx = Cx::default();
        let roots = roots(&self.texts, &whole(&self.texts), variables, &mut cx.problems);
        merge::merge(roots.unwrap_or_default(), self.catalogue, &mut cx)
    }
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
/// settings stay keeps its `rustls::ClientConfig`, and with it its sessions and connections, and a route
/// whose text stays is not read again.
#[derive(Debug)]
pub struct Loader {
    catalogue: &'static Catalogue,
    tls: build::Tls,
    kept: Kept,
}

impl Default for Loader {
    /// A loader for the components of a node.
    fn default() -> Self {
        Self::new(crate::components::catalogue())
    }
}

impl Loader {
    /// A loader of configurations with these sections.
    pub fn new(catalogue: &'static Catalogue) -> Self {
        Self { catalogue, tls: build::Tls::default(), kept: Kept::default() }
    }

    /// Loads a file, or a folder of files, with these variables.
    pub fn load(&mut self, path: &Path, variables: Variables<'_>) -> Result<Loaded, Box<Refused>> {
        let mut problems = Vec::new();
        let sources = Sources::read(path, &mut problems);
        self.load_sources(sources, problems, variables)
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
        self.load_sources(sources, Vec::new(), variables)
    }

    fn load_sources(
        &mut self,
        sources: Sources,
        problems: Vec<Problem>,
        variables: Variables<'_>,
    ) -> Result<Loaded, Box<Refused>> {
        let sources = Arc::new(sources);
        if problems.is_empty()
            && let Some(loaded) = self.load_changes(&sources, variables)
        {
            return Ok(loaded);
        }
        let cuts = whole(&sources);
        self.read(&sources, problems, cuts, variables).map_err(|cx| {
            let sources = redacted(&cx);
            let problems = in_order(cx.problems);
            Box::new(Refused { problems, sources, files: cx.files })
        })
    }

    /// Loads what changed since the last load, and takes the rest as it was. `None` if that cannot be, or
    /// if anything is wrong: who reads everything tells it better.
    fn load_changes(&mut self, sources: &Arc<Sources>, variables: Variables<'_>) -> Option<Loaded> {
        if self.kept.is_empty() {
            return None;
        }
        let files = (0..).zip(sources.files());
        let cuts: Vec<Cut<'_>> =
            files.map(|(number, file)| self.kept.cut(&file.path, number, &file.text)).collect();
        if cuts.iter().all(|cut| cut.items.is_empty()) {
            return None;
        }
        self.read(sources, Vec::new(), cuts, variables).ok()
    }

    /// Reads what was not cut out; the error holds what is wrong, if anything was found before it was
    /// given up.
    fn read(
        &mut self,
        sources: &Arc<Sources>,
        problems: Vec<Problem>,
        cuts: Vec<Cut<'_>>,
        variables: Variables<'_>,
    ) -> Result<Loaded, Cx> {
        let mut cx = Cx { sources: Arc::clone(sources), problems, ..Cx::default() };
        let Some(roots) = roots(sources, &cuts, variables, &mut cx.problems) else {
            return Err(cx);
        };
        if roots.is_empty() {
            return Err(cx);
        }
        let tree = merge::merge(roots, self.catalogue, &mut cx);
        let policies = tree.get("policies");
        let kept: Vec<Placed> = cuts.into_iter().flat_map(|cut| cut.items).collect();
        if !kept.is_empty() && !self.kept.has_policies(policies) {
            return Err(cx);
        }
        let read: Read = merge::read(&tree, self.catalogue, &mut cx);
        self.tls.begin();
        let built = build::plan(&tree, &read, self.catalogue, kept, &mut self.tls, &mut cx);
        let wrong = cx.problems.iter().any(|problem| problem.severity == Severity::Error);
        let Some((plan, routes)) = built.filter(|_| !wrong) else { return Err(cx) };
        self.tls.end();
        let items = routes.into_iter().map(|route| (route.place, route.keep.then_some(route.item)));
        self.kept = Kept::new(sources, policies, items.collect());
        Ok(Loaded {
            plan,
            sources: redacted(&cx),
            warnings: in_order(cx.problems),
            files: cx.files,
            catalogue: self.catalogue,
            texts: Arc::clone(sources),
        })
    }
}

fn whole(sources: &Sources) -> Vec<Cut<'_>> {
    sources.files().iter().map(|file| Cut::whole(&file.text)).collect()
}

/// Parses what was not cut out of each file. `None` if it shows that it should not have been cut out.
fn roots(
    sources: &Sources,
    cuts: &[Cut<'_>],
    variables: Variables<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Node>> {
    let mut roots = Vec::with_capacity(cuts.len());
    for ((number, file), cut) in (0..).zip(sources.files()).zip(cuts) {
        let root = tree::parse_cut(sources, number, cut, problems);
        if root.as_ref().map_or(!cut.items.is_empty(), |root| !cut.fits(root, &file.text)) {
            return None;
        }
        roots.extend(root.map(|mut root| {
            vars::substitute(&mut root, sources, variables, problems);
            root
        }));
    }
    Some(roots)
}

/// The files as they may be shown.
fn redacted(cx: &Cx) -> Arc<Sources> {
    if cx.secrets.is_empty() {
        Arc::clone(&cx.sources)
    } else {
        Arc::new(cx.sources.redacted(&cx.secrets))
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

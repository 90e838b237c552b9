//! From a path to a checked plan, or to everything that is wrong.

use std::{
    collections::{BTreeSet, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    build,
    catalogue::Catalogue,
    kept::{Cut, Kept, Placed, PlacedSection, Standing},
    merge::{self, Read},
    plan::Plan,
    problem::{Problem, Severity},
    remembered::Remembered,
    secrets::{self, Commands, Secrets},
    sections::root,
    setting::Cx,
    source::{Place, Sources},
    tree::{self, Node},
    vars::{self, SECRET, Values, Variables},
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
        // No secret is needed to show how it is written.
        let values = Values { variables, secrets: &|_name| Ok("".into()) };
        let parsed = parse(&self.texts, &whole(&self.texts), &mut cx.problems);
        let mut roots = parsed.map(|(roots, _)| roots).unwrap_or_default();
        for root in &mut roots {
            vars::substitute(root, &self.texts, values, &mut cx.problems);
        }
        merge::merge(roots, self.catalogue, &mut cx)
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
/// settings stay keeps its `rustls::ClientConfig`, and with it its sessions and connections, a route
/// whose text stays is not read again, what was made of large sections that stay is not made again, and what commands of secrets have printed is kept.
#[derive(Debug)]
pub struct Loader {
    catalogue: &'static Catalogue,
    tls: build::Tls,
    kept: Kept,
    remembered: Remembered,
    commands: Arc<Commands>,
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
        let (tls, kept, remembered, commands) = Default::default();
        Self { catalogue, tls, kept, remembered, commands }
    }

    /// The commands of secrets.
    pub const fn commands(&self) -> &Arc<Commands> {
        &self.commands
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
        let loaded = self.load_all(sources, problems, variables);
        self.commands.loaded(loaded.is_ok());
        loaded
    }

    fn load_all(
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
        if cuts.iter().all(Cut::is_whole) {
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
        let Some((mut roots, sections)) = parse(sources, &cuts, &mut cx.problems) else {
            return Err(cx);
        };
        let standing = Standing::new(&roots, &sections);
        let (has_secrets, unused) = self.replace(&mut roots, variables, &mut cx);
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
        let built = build::plan(
            &tree,
            &read,
            self.catalogue,
            (kept, &self.remembered, &standing),
            &mut self.tls,
            &mut cx,
        );
        if has_secrets {
            secrets::check(&tree, &mut cx);
        }
        let wrong = cx.problems.iter().any(|problem| problem.severity == Severity::Error);
        cx.problems.extend(unused.into_iter().filter(|_| !wrong));
        let Some((plan, routes)) = built.filter(|_| !wrong) else { return Err(cx) };
        self.tls.end();
        let items = routes.into_iter().map(|route| (route.place, route.keep.then_some(route.item)));
        self.kept = Kept::new(sources, policies, items.collect(), sections);
        Ok(Loaded {
            plan,
            sources: redacted(&cx),
            warnings: in_order(cx.problems),
            files: cx.files,
            catalogue: self.catalogue,
            texts: Arc::clone(sources),
        })
    }

    /// Replaces variables and secrets, and tells whether there were any of the latter, and of which there were
    /// none.
    fn replace(
        &self,
        roots: &mut [Node],
        variables: Variables<'_>,
        cx: &mut Cx,
    ) -> (bool, Vec<Problem>) {
        let (sources, problems) = (&cx.sources, &mut cx.problems);
        let none = |_: &str| {
            let say = "a secret cannot be part of where secrets are read from";
            Err(Some(Box::new(Problem::error(Place::BUILT_IN, say))))
        };
        for node in roots.iter_mut().filter_map(|root| root.get_mut(root::SECRETS.key())) {
            let values = Values { variables, secrets: &none };
            vars::substitute(node, sources, values, problems);
        }
        let secrets = Secrets::new(roots, sources, variables, &self.commands);
        if sources.files().iter().any(|file| file.text.contains(SECRET)) {
            let mut names = Vec::new();
            roots.iter().for_each(|root| vars::secrets_in(root, &mut names));
            secrets.prefetch(&names);
        }
        let values = Values { variables, secrets: &|name| secrets.get(name) };
        let sections = roots.iter_mut().flat_map(Node::entries_mut);
        for (_, node) in sections.filter(|(key, _)| *key.text != *root::SECRETS.key()) {
            vars::substitute(node, sources, values, problems);
        }
        let (files, is_asked, unused) = secrets.end();
        cx.files.extend(files);
        (is_asked, unused)
    }
}

fn whole(sources: &Sources) -> Vec<Cut<'_>> {
    sources.files().iter().map(|file| Cut::whole(&file.text)).collect()
}

/// Parses what was not cut out of each file, and puts sections back that were; gives those of each file that are to be
/// kept too. `None` if it shows that something should not have been cut out.
fn parse(
    sources: &Sources,
    cuts: &[Cut<'_>],
    problems: &mut Vec<Problem>,
) -> Option<(Vec<Node>, Vec<Vec<PlacedSection>>)> {
    let (mut roots, mut sections) =
        (Vec::with_capacity(cuts.len()), Vec::with_capacity(cuts.len()));
    for ((number, file), cut) in (0..).zip(sources.files()).zip(cuts) {
        let Some(mut root) = tree::parse_cut(sources, number, cut, problems) else {
            if !cut.is_whole() {
                return None;
            }
            sections.push(Vec::new());
            continue;
        };
        if !cut.fits(&root, &file.text) {
            return None;
        }
        sections.push(cut.put_back(&mut root, &file.text)?);
        roots.push(root);
    }
    Some((roots, sections))
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

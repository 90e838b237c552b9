//! Secrets: what `${secret:NAME}` stands for, read from the sources of the section `secrets`.
//!
//! A source is read when something asks for it, and its files are watched like any that the configuration refers
//! to. What a command prints is kept by [`Commands`] from load to load.
//!
//! Invariants: a text with a secret in it is read by settings alone that never show what they hold (`check`);
//! nothing that is told of a configuration holds one (`scrub`).

mod command;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::command::{Command, Commands};
use super::{
    problem::Problem,
    sections::{SecretSource, root},
    setting::{At, Cx},
    source::{Place, Sources, read_bounded},
    tree::{Kind, Node},
    vars::{Secret, Variables},
};

/// The largest secret.
const BYTES_MAX: usize = 64 * 1024;
/// The shortest secret that is looked for in what is told; a shorter one would be found everywhere.
const SCRUBBED_MIN: usize = 4;

/// Reads a secret from a file, without the ends of lines behind it; the error is a sentence.
pub fn read_file(path: &Path) -> Result<String, String> {
    text_of(read_bounded(path, BYTES_MAX as u64)?)
}

fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    let mut text = String::from_utf8(bytes).map_err(|_error| "this is not UTF-8 text")?;
    if text.contains('\0') {
        return Err("this is not text: it holds a NUL".into());
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// Where a secret is read from.
#[derive(Clone, Debug)]
enum Source {
    File(PathBuf),
    Folder(PathBuf),
    Env(String),
    Command(Command),
}

/// What the section says of one, or a report of what is wrong with it.
fn source(name: &At<weft_kernel::Name>, said: &SecretSource, cx: &mut Cx) -> Option<Source> {
    let file = said.file.as_ref().map(|path| (path.place, Source::File(path.0.clone())));
    let folder = said.folder.as_ref().map(|path| (path.place, Source::Folder(path.0.clone())));
    let env = said.env.as_ref().map(|env| (env.place, Source::Env(env.value.clone())));
    let command = said.command.as_ref().map(|command| {
        let mut run: Vec<PathBuf> =
            command.run.iter().map(|part| part.value.clone().into()).collect();
        if let (Some(program), Some(at)) = (run.first_mut(), command.run.first())
            && at.contains('/')
        {
            *program = cx.path(&Node { place: at.place, kind: Kind::Null }, &at.value);
        }
        let (timeout, every) = (command.timeout.0, command.every.0);
        (command.place, Source::Command(Command { run, timeout, every }))
    });
    let mut all = [file, folder, env, command].into_iter().flatten();
    match (all.next(), all.next()) {
        (Some((_, source)), None) => Some(source),
        (Some((first, _)), Some((second, _))) => {
            let say = format!("secret `{}` has two sources", name.value);
            cx.report(Problem::error(second, say).and(first, "the other one"));
            None
        }
        (None, _) => {
            let say = format!("secret `{}` has no source", name.value);
            let help = "say one of `file`, `folder`, `env` and `command`";
            cx.report(Problem::error(name.place, say).help(help));
            None
        }
    }
}

/// Reads the section for what is wrong with it.
pub(super) fn read(root: &Node, cx: &mut Cx) {
    for (name, said) in root::SECRETS.entries(root, cx) {
        source(&name, &said, cx);
    }
}

/// The secrets of a configuration, as far as anything asks for them.
pub(super) struct Secrets<'a> {
    /// By name, `None` for those that were reported when their section was read.
    declared: HashMap<Arc<str>, (Place, Option<Source>)>,
    variables: Variables<'a>,
    commands: &'a Commands,
    known: RefCell<HashMap<String, Secret>>,
    files: RefCell<BTreeSet<PathBuf>>,
}

impl<'a> Secrets<'a> {
    /// The secrets that these roots declare, whose variables were replaced in that section.
    pub(super) fn new(
        roots: &[Node],
        sources: &Arc<Sources>,
        variables: Variables<'a>,
        commands: &'a Commands,
    ) -> Self {
        let mut declared = HashMap::new();
        for root in roots {
            let names = root::SECRETS.names(root);
            // It is read again to tell what is wrong, once it is known what all files say.
            let mut cx = Cx { sources: Arc::clone(sources), ..Cx::default() };
            let read = root::SECRETS.entries(root, &mut cx);
            for (name, place) in names.iter() {
                let said = read.iter().find(|(read, _)| read.as_str() == name);
                let source = said.and_then(|(name, said)| source(name, said, &mut cx));
                declared.entry(name.into()).or_insert((place, source));
            }
        }
        let (known, files) = Default::default();
        Self { declared, variables, commands, known, files }
    }

    /// Has those commands run at once, and side by side, that these names ask for.
    pub(super) fn prefetch(&self, names: &[Arc<str>]) {
        let asked = names.iter().filter_map(|name| match self.declared.get(name) {
            Some((_, Some(Source::Command(command)))) => Some(command),
            _ => None,
        });
        self.commands.prefetch(asked);
    }

    /// The secret of a name, or what is wrong.
    pub(super) fn get(&self, name: &str) -> Secret {
        if let Some(known) = self.known.borrow().get(name) {
            return known.clone();
        }
        let found = self.find(name);
        self.known.borrow_mut().insert(name.to_owned(), found.clone());
        found
    }

    fn find(&self, name: &str) -> Secret {
        let wrong = |say: String| Problem::error(Place::BUILT_IN, say);
        let within = || {
            let (folder, file) = name.rsplit_once('/')?;
            self.declared.get(folder).map(|found| (folder, Some(file), found))
        };
        let whole = self.declared.get(name).map(|found| (name, None, found));
        let Some((source, file, (place, kind))) = whole.or_else(within) else {
            let names = self.declared.keys().map(|name| &**name);
            let mut names: Vec<&str> = names.collect();
            names.sort_unstable();
            let problem = wrong(format!("there is no secret `{name}`"));
            return Err(boxed(match names.is_empty() {
                true => problem.help(format!("declare it: `secrets: {{ {name}: {{ file: … }} }}`")),
                false => problem.near(name, names),
            }));
        };
        let Some(kind) = kind else { return Err(None) };
        let read = match (kind, file) {
            (Source::Folder(_), None) => {
                let problem = wrong(format!("secret `{source}` is a folder"));
                let help = format!("name the file: `${{secret:{source}/FILE}}`");
                return Err(boxed(problem.help(help).and(*place, "declared here")));
            }
            (Source::Folder(folder), Some(file)) if file.is_empty() || file.starts_with('.') => {
                Err(format!("no file of {} has the name `{file}`", folder.display()))
            }
            (Source::Folder(folder), Some(file)) => self.file(&folder.join(file)),
            (_, Some(_)) => {
                let problem = wrong(format!("secret `{source}` is no folder"));
                return Err(boxed(problem.and(*place, "declared here")));
            }
            (Source::File(path), None) => self.file(path),
            (Source::Env(name), None) => (self.variables)(name)
                .ok_or_else(|| format!("the environment variable `{name}` is not set")),
            (Source::Command(command), None) => {
                self.commands.get(command).map(|secret| secret.to_string())
            }
        };
        match read {
            Ok(secret) if secret.is_empty() => Err("it is empty".to_owned()),
            other => other,
        }
        .map(Into::into)
        .map_err(|what| {
            let problem = wrong(format!("secret `{name}` cannot be read: {what}"));
            boxed(problem.and(*place, "declared here"))
        })
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        self.files.borrow_mut().insert(path.to_owned());
        read_file(path).map_err(|what| format!("{}: {what}", path.display()))
    }

    /// The files that were read, or would have been; whether anything was asked for; and a warning for what was
    /// not.
    pub(super) fn end(self) -> (BTreeSet<PathBuf>, bool, Vec<Problem>) {
        let asked = self.known.into_inner();
        let used = |name: &str| {
            asked.keys().any(|of| {
                of.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let unused =
            self.declared.iter().filter(|(name, _)| !used(name)).map(|(name, (place, _))| {
                Problem::warning(*place, format!("nothing asks for the secret `{name}`"))
            });
        (self.files.into_inner(), !asked.is_empty(), unused.collect())
    }
}

fn boxed(problem: Problem) -> Option<Box<Problem>> {
    Some(Box::new(problem))
}

/// Reports secrets in settings that would show them.
pub(super) fn check(tree: &Node, cx: &mut Cx) {
    let kept: HashSet<Place> = cx.secrets.iter().copied().collect();
    let mut shown = Vec::new();
    let mut texts: Vec<Arc<str>> = Vec::new();
    walk(tree, &mut |node, text, written| {
        if !kept.contains(&node.place) {
            shown.push((node.place, Arc::clone(written)));
            texts.push(Arc::clone(text));
        }
    });
    if shown.is_empty() {
        return;
    }
    let places: HashSet<Place> = shown.iter().map(|(place, _)| *place).collect();
    // Whatever else was said of it may hold it.
    cx.problems.retain(|problem| problem.place.is_none_or(|place| !places.contains(&place)));
    scrub(&texts, &mut cx.problems);
    for (place, written) in shown {
        let say = format!("`{written}` cannot stand here: this setting is shown as it is");
        let help = "secrets may stand where a secret, a header value or PEM text is expected";
        cx.report(Problem::error(place, say).help(help));
    }
}

/// Takes secrets out of what is told.
fn scrub(texts: &[Arc<str>], problems: &mut [Problem]) {
    let texts = texts.iter().filter(|text| text.len() >= SCRUBBED_MIN);
    for text in texts {
        let clean = |say: &mut String| {
            if say.contains(&**text) {
                *say = say.replace(&**text, "***");
            }
        };
        for problem in &mut *problems {
            clean(&mut problem.message);
            problem.help.iter_mut().for_each(clean);
            problem.also.iter_mut().for_each(|(_, why)| clean(why));
        }
    }
}

/// Goes over all texts with secrets in them.
fn walk(node: &Node, see: &mut impl FnMut(&Node, &Arc<str>, &Arc<str>)) {
    match &node.kind {
        Kind::Text(text) => {
            if let Some(written) = &text.written {
                see(node, &text.text, written);
            }
        }
        Kind::List(items) => items.iter().for_each(|item| walk(item, see)),
        Kind::Map(entries) => entries.iter().for_each(|(_, value)| walk(value, see)),
        Kind::Null | Kind::Bad => {}
    }
}

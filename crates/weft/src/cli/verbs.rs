//! The verbs of a noun that come of the table of operations: list, show, create and delete.
//!
//! A row that names a noun and a verb is a command; its path says what must be named, the settings of its
//! body which flags there are, and its query whether what is there can be changed. A noun with more to do
//! flattens [`Verbs`] into its own commands.

use std::{marker::PhantomData, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Subcommand};
use http::Method;
use serde_json::Value;
use weft_api::{
    Noun, Operation, Verb,
    schema::{Section, Shape},
};

use super::{
    admin::{self, Admin},
    columns::{columns, members},
    options::{self, Options},
};
use crate::{component::Component, components::Components};

/// The path of a setting, another name of its flag, and a letter.
pub type Also = (&'static str, &'static str, Option<char>);

/// A noun of the command line: what of it is not in the table.
pub trait Named: std::fmt::Debug + Clone + Send + Sync + 'static {
    /// The noun.
    const NOUN: &'static Noun;
    /// Further names of the flags of its settings.
    const ALSO: &'static [Also] = &[];

    /// Its list for people, where the table has no columns.
    fn list(answer: Value) -> anyhow::Result<String> {
        Ok(members(&answer))
    }

    /// One of it for people.
    fn show(answer: Value) -> anyhow::Result<String> {
        Ok(members(&answer))
    }
}

/// The verbs of a noun.
#[derive(Clone, Debug)]
pub struct Verbs<N> {
    call: Call,
    of: PhantomData<N>,
}

/// What is asked for.
#[derive(Clone, Debug)]
struct Call {
    noun: &'static Noun,
    operation: &'static Operation,
    verb: Verb,
    name: String,
    /// Its name once more, where that must be said.
    confirm: Option<String>,
    change: bool,
    options: Option<Options>,
}

/// The rows of a noun, each with its verb.
fn rows(noun: &'static Noun) -> impl Iterator<Item = (&'static Operation, Verb)> {
    Components::operations().into_iter().filter_map(move |operation| {
        let (of, verb) = operation.verb?;
        (of == noun).then_some((operation, verb))
    })
}

/// The settings that a row declares.
fn section(operation: &Operation) -> Option<&'static Section> {
    match operation.takes.first()?.1 {
        Shape::Section(section) | Shape::Declared(section, _) => Some(section),
        _ => None,
    }
}

/// Whether what is there can be changed by declaring it anew.
fn can_change(operation: &Operation) -> bool {
    operation.query.iter().any(|parameter| parameter.name == "change")
}

fn command(noun: &'static Noun, operation: &Operation, verb: Verb, also: &[Also]) -> Command {
    let command = Command::new(verb.word());
    let name = || {
        let help = format!("The {}", noun.name);
        Arg::new("name").value_name(noun.name.to_uppercase()).help(help).required(true)
    };
    match verb {
        Verb::List { help, .. } => command.about(help),
        Verb::Show { help } => command.about(help).arg(name()),
        Verb::Create => {
            let about = format!(
                "Make a {}; it is no error if it is there already with the same settings",
                noun.name
            );
            let mut command = command.about(about).arg(name());
            if can_change(operation) {
                command = command.arg(
                    Arg::new("change")
                        .long("change")
                        .action(ArgAction::SetTrue)
                        .help("Change it where it is there with other settings"),
                );
            }
            match section(operation) {
                Some(section) => options::augment(command, section, also),
                None => command,
            }
        }
        Verb::Delete { help, confirm, .. } => {
            let command = command.about(help).arg(name());
            if !confirm {
                return command;
            }
            let help = format!("The {} once more, so that nothing is deleted by a slip", noun.name);
            command.arg(
                Arg::new("confirm")
                    .long("confirm")
                    .value_name(noun.name.to_uppercase())
                    .required(true)
                    .help(help),
            )
        }
    }
}

fn augment(command: Command, noun: &'static Noun, also: &[Also]) -> Command {
    rows(noun).fold(command, |command, (operation, verb)| {
        command.subcommand(self::command(noun, operation, verb, also))
    })
}

fn call(noun: &'static Noun, matches: &ArgMatches) -> Result<Call, clap::Error> {
    let missing = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
    let (word, matches) = matches.subcommand().ok_or_else(missing)?;
    let found = rows(noun).find(|(_, verb)| verb.word() == word);
    let (operation, verb) = found.ok_or_else(missing)?;
    let text = |id: &str| {
        let value = matches.try_get_one::<String>(id).ok().flatten();
        value.cloned().unwrap_or_default()
    };
    let name = text("name");
    let confirm = matches!(verb, Verb::Delete { confirm: true, .. }).then(|| text("confirm"));
    let change = matches.try_get_one::<bool>("change").ok().flatten().copied().unwrap_or(false);
    let options = match (verb, section(operation)) {
        (Verb::Create, Some(section)) => Some(Options::given(section, matches)?),
        _ => None,
    };
    Ok(Call { noun, operation, verb, name, confirm, change, options })
}

impl Call {
    fn run(
        &self,
        admin: &Admin,
        list: impl FnOnce(Value) -> anyhow::Result<String>,
        show: impl FnOnce(Value) -> anyhow::Result<String>,
    ) -> anyhow::Result<ExitCode> {
        if let Some(confirm) = &self.confirm {
            admin::confirmed(self.noun.name, &self.name, confirm)?;
        }
        let method: Method = self.operation.method.parse()?;
        let place = self.operation.place_names().next().unwrap_or_default();
        let path =
            self.operation.path.replace(&format!("{{{place}}}"), &admin::segment(&self.name));
        match self.verb {
            Verb::List { member, columns: shown, .. } => {
                let most = self.most().map_or(String::new(), |most| format!("?max={most}"));
                admin.show(&method, &format!("{path}{most}"), None, |answer| {
                    if shown.is_empty() {
                        return list(answer);
                    }
                    let all = if member.is_empty() { &answer } else { &answer[member] };
                    let mut told = columns(all, shown);
                    if let Some(next) = answer["next"].as_str() {
                        let next = admin::segment(next);
                        told += &format!("there are more: GET {path}?after={next}\n");
                    }
                    Ok(told)
                })
            }
            Verb::Show { .. } => admin.show(&method, &path, None, show),
            Verb::Create => {
                let body = self.options.as_ref().map(Options::body).transpose()?;
                let change = if self.change { "?change=true" } else { "" };
                let path = format!("{path}{change}");
                admin.show(&method, &path, body.as_ref().map(admin::json), |answer| {
                    Ok(members(&answer))
                })
            }
            Verb::Delete { done, .. } => admin.show(&method, &path, None, |_| {
                Ok(format!("{done} {} {}\n", self.noun.name, self.name))
            }),
        }
    }

    /// The most that one answer lists, if it lists by pages.
    fn most(&self) -> Option<u64> {
        let max = self.operation.query.iter().find(|parameter| parameter.name == "max")?;
        match max.shape {
            Shape::Int(_, most) => Some(most),
            _ => None,
        }
    }
}

impl<N: Named> Verbs<N> {
    /// Exits with 0 if it was done, with 1 if the node refused, with 2 if it could not be asked.
    pub fn run(self, admin: &Admin) -> anyhow::Result<ExitCode> {
        self.call.run(admin, N::list, N::show)
    }
}

impl<N: Named> Subcommand for Verbs<N> {
    fn augment_subcommands(command: Command) -> Command {
        augment(command, N::NOUN, N::ALSO)
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        rows(N::NOUN).any(|(_, verb)| verb.word() == name)
    }
}

impl<N: Named> FromArgMatches for Verbs<N> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { call: call(N::NOUN, matches)?, of: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A noun that has these verbs alone.
#[derive(Debug, Args)]
pub struct Plain<N: Named> {
    #[command(subcommand)]
    verbs: Verbs<N>,
    #[command(flatten)]
    admin: Admin,
}

impl<N: Named> Plain<N> {
    /// Exits with 0 if it was done, with 1 if the node refused, with 2 if it could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        self.verbs.run(&self.admin)
    }
}

/// All nouns of a component whose nouns have these verbs alone.
pub struct OfTable<C> {
    call: Call,
    admin: Admin,
    of: PhantomData<fn(C)>,
}

impl<C> std::fmt::Debug for OfTable<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.call.fmt(f)
    }
}

impl<C: Component> OfTable<C> {
    fn nouns() -> Vec<&'static Noun> {
        let mut all: Vec<&'static Noun> = Vec::new();
        for row in C::operations() {
            if let Some((noun, _)) = row.operation.verb
                && !all.contains(&noun)
            {
                all.push(noun);
            }
        }
        all
    }
}

impl<C: Component> Subcommand for OfTable<C> {
    fn augment_subcommands(command: Command) -> Command {
        Self::nouns().into_iter().fold(command, |command, noun| {
            let of_noun =
                Command::new(noun.name).subcommand_required(true).arg_required_else_help(true);
            // What the arguments say of themselves is not what the noun is.
            let of_noun = Admin::augment_args(augment(of_noun, noun, &[])).about(noun.title());
            command.subcommand(of_noun)
        })
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        Self::nouns().iter().any(|noun| noun.name == name)
    }
}

impl<C: Component> FromArgMatches for OfTable<C> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let missing = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
        let (word, matches) = matches.subcommand().ok_or_else(missing)?;
        let noun = Self::nouns().into_iter().find(|noun| noun.name == word).ok_or_else(missing)?;
        let admin = Admin::from_arg_matches(matches)?;
        Ok(Self { call: call(noun, matches)?, admin, of: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<C: Component> crate::component::Noun for OfTable<C> {
    fn run(self) -> anyhow::Result<ExitCode> {
        let show = |answer: Value| Ok(members(&answer));
        self.call.run(&self.admin, show, show)
    }
}

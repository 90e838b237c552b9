//! The options of `create`: a flag for each setting of a definition, by its path (`--retry-first 5s`), and
//! a file of them.
//!
//! The flags are made of the very table that the API and the configuration are read by, so that none of
//! them can lack what another has. A section with a short form has a flag for that too (`--retry 3`).

use std::{marker::PhantomData, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use serde_json::{Map, Value};
use weft_api::{
    Settings,
    schema::{self, Section, Shape, typed},
};
use weft_messages::settings::{
    queue::QueueSettings, schedule::ScheduleSettings, subscription::SubscriptionSettings,
    topic::TopicSettings,
};

use crate::config::options::body_of;

/// What can be created, and under which names some of its flags go beside their own.
pub(super) trait Creatable: Settings + std::fmt::Debug {
    /// The path of a setting, another name of its flag, and a letter.
    const ALSO: &'static [(&'static str, &'static str, Option<char>)];
}

impl Creatable for TopicSettings {
    const ALSO: &'static [(&'static str, &'static str, Option<char>)] =
        &[("retention.size", "size", None)];
}

impl Creatable for QueueSettings {
    const ALSO: &'static [(&'static str, &'static str, Option<char>)] =
        &[("retry.failures_max", "failures-max", None), ("limit.messages", "messages-max", None)];
}

impl Creatable for SubscriptionSettings {
    const ALSO: &'static [(&'static str, &'static str, Option<char>)] =
        &[("retry.failures_max", "failures-max", None)];
}

impl Creatable for ScheduleSettings {
    const ALSO: &'static [(&'static str, &'static str, Option<char>)] =
        &[("to.topic", "topic", None), ("to.queue", "queue", None), ("data", "", Some('d'))];
}

/// The options of a thing to create.
#[derive(Clone, Debug)]
pub(super) struct Options<T> {
    file: Option<PathBuf>,
    given: Vec<(Vec<&'static str>, Value)>,
    of: PhantomData<T>,
}

/// A flag: the way to its setting, what it may be, and what it says.
struct Flag {
    path: Vec<&'static str>,
    shape: &'static Shape,
    about: String,
    /// Whether it stands for a section by its short form.
    short_of: Option<&'static str>,
}

impl Flag {
    fn name(&self) -> String {
        self.path.join("-").replace('_', "-")
    }
}

/// What stands for a value in help.
fn value_name(shape: &'static Shape) -> String {
    match shape {
        Shape::Off(inner) => format!("{}|off", value_name(inner)),
        Shape::Many(item, _) => value_name(item),
        Shape::Bool => "true|false".into(),
        Shape::Int(..) | Shape::Number(..) => "NUMBER".into(),
        Shape::Share => "SHARE".into(),
        Shape::Span(..) => "DURATION".into(),
        Shape::Size(_) | Shape::SizeTo(_) => "SIZE".into(),
        Shape::Choice(words) => words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join("|"),
        Shape::Text(kind) => {
            let word = kind.word.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            word.to_uppercase()
        }
        Shape::Section(section) => {
            section.short_setting().map_or("VALUE".into(), |short| value_name(&short.shape))
        }
        _ => "VALUE".into(),
    }
}

fn flags(section: &'static Section, above: &[&'static str], into: &mut Vec<Flag>) {
    for setting in section.settings {
        let path: Vec<&'static str> = above.iter().copied().chain([setting.name]).collect();
        let mut about = setting.about.replace('`', "");
        about.truncate(about.trim_end_matches('.').len());
        match setting.absent {
            schema::Absent::Default(text) => about += &format!(" [default: {text}]"),
            schema::Absent::Required | schema::Absent::Unset | schema::Absent::Empty => {}
        }
        match setting.shape.within() {
            Shape::Section(inner) => {
                if inner.short.is_some() {
                    into.push(Flag {
                        path: path.clone(),
                        shape: &setting.shape,
                        about,
                        short_of: inner.short,
                    });
                }
                flags(inner, &path, into);
            }
            _ => into.push(Flag { path, shape: &setting.shape, about, short_of: None }),
        }
    }
}

fn all<T: Creatable>() -> Vec<Flag> {
    let mut all = Vec::new();
    flags(T::SECTION, &[], &mut all);
    all
}

impl<T: Creatable> Args for Options<T> {
    fn augment_args(command: Command) -> Command {
        let mut command = command.arg(
            Arg::new("from_file")
                .long("from-file")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help(
                    "Take the options from a file, in YAML or JSON, as weft.yaml has them below the \
                     name or as show gives them as JSON; flags go before it",
                ),
        );
        for flag in all::<T>() {
            let name = flag.name();
            let mut arg = Arg::new(name.clone())
                .long(name)
                .value_name(value_name(flag.shape))
                .help(flag.about.clone())
                .help_heading("Settings");
            arg = match flag.shape.within() {
                Shape::Bool => {
                    arg.num_args(0..=1).require_equals(true).default_missing_value("true")
                }
                Shape::Many(..) => arg.action(ArgAction::Append),
                Shape::Map(_) => arg.action(ArgAction::Append).value_name("NAME=VALUE"),
                _ => arg,
            };
            let path = flag.path.join(".");
            for (of, name, letter) in T::ALSO {
                if *of == path {
                    if !name.is_empty() {
                        arg = arg.visible_alias(*name);
                    }
                    arg = letter.map_or(arg.clone(), |letter| arg.clone().short(letter));
                }
            }
            let required = T::SECTION
                .setting(flag.path.first().copied().unwrap_or_default())
                .is_some_and(|setting| setting.absent == schema::Absent::Required);
            // Of a section that must be there, one of its flags says it, and which is the node's to judge.
            if required && flag.short_of.is_none() && flag.path.len() == 1 {
                arg = arg.required_unless_present("from_file");
            }
            command = command.arg(arg);
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Creatable> FromArgMatches for Options<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Vec::new();
        for flag in all::<T>() {
            let Some(mut values) = matches.get_many::<String>(&flag.name()) else { continue };
            let value = match flag.shape.within() {
                Shape::Many(item, _) => values.map(|text| typed(item, text)).collect(),
                Shape::Map(item) => {
                    let mut members = Map::new();
                    for text in values {
                        let Some((name, value)) = text.split_once('=') else {
                            let say = format!("--{} is NAME=VALUE\n", flag.name());
                            return Err(clap::Error::raw(
                                clap::error::ErrorKind::InvalidValue,
                                say,
                            ));
                        };
                        members.insert(name.to_owned(), typed(item, value));
                    }
                    members.into()
                }
                // What is JSON is meant as such.
                Shape::Any => values.next_back().map_or(Value::Null, |text| {
                    serde_json::from_str(text).unwrap_or_else(|_text| text.as_str().into())
                }),
                _ => values.next_back().map_or(Value::Null, |text| typed(flag.shape, text)),
            };
            given.push((flag.path, value));
        }
        let file = matches.get_one::<PathBuf>("from_file").cloned();
        Ok(Self { file, given, of: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<T: Creatable> Options<T> {
    /// The body that declares them.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn body(&self) -> anyhow::Result<Value> {
        let mut whole = match &self.file {
            None => Value::Object(Map::new()),
            Some(path) => body_of(path, T::SECTION)
                .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?,
        };
        for (path, value) in &self.given {
            put(&mut whole, T::SECTION, path, value.clone());
        }
        Ok(whole)
    }
}

/// Where something is declared; with `change`, what is there is changed.
pub(super) fn create(path: &str, change: bool) -> String {
    if change { format!("{path}?change=true") } else { path.to_owned() }
}

/// Puts a value at a path; a section that its short form stood for until then is unfolded.
fn put(whole: &mut Value, section: &'static Section, path: &[&'static str], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    let Value::Object(members) = whole else { return };
    let Some(setting) = section.setting(first) else { return };
    if rest.is_empty() {
        members.insert((*first).to_owned(), value);
        return;
    }
    let Shape::Section(inner) = setting.shape.within() else { return };
    let below = members.entry(*first).or_insert_with(|| Map::new().into());
    if !below.is_object() {
        let short = std::mem::take(below);
        let mut unfolded = Map::new();
        unfolded.extend(inner.short.map(|name| (name.to_owned(), short)));
        *below = unfolded.into();
    }
    put(below, inner, rest, value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of<T: Creatable>(flags: &[&str]) -> Value {
        let command = Options::<T>::augment_args(Command::new("create"));
        let matches = command.try_get_matches_from([&["create"], flags].concat()).unwrap();
        let body = Options::<T>::from_arg_matches(&matches).unwrap().body().unwrap();
        if let Err(faults) = T::read(body.clone()) {
            panic!("{faults:?}");
        }
        body
    }

    #[test]
    fn flags_say_what_the_other_views_say() {
        assert_eq!(
            of::<QueueSettings>(&[
                "--lease",
                "1m",
                "--failures-max",
                "off",
                "--retry-jitter",
                "20%",
                "--priorities",
                "--limit",
                "1000",
                "--limit-overflow=drop-oldest",
                "--dead-letter",
                "off",
            ]),
            json!({
                "lease": "1m", "retry": {"failures_max": "off", "jitter": "20%"}, "priorities": true,
                "limit": {"messages": 1000, "overflow": "drop-oldest"}, "dead_letter": "off",
            })
        );
        assert_eq!(
            of::<TopicSettings>(&["--retention", "7d", "--size", "1GiB", "--compact=false"]),
            json!({"retention": {"age": "7d", "size": "1GiB"}, "compact": false})
        );
        assert_eq!(
            of::<SubscriptionSettings>(&[
                "--topic",
                "t",
                "--push",
                "billing",
                "--push-path",
                "/in",
                "--filter-type",
                "a",
                "--filter-type",
                "b",
                "--filter-attributes",
                "source=/eu/*",
                "--filter-expression",
                "data.total > 1.0",
            ]),
            json!({
                "topic": "t", "push": {"service": "billing", "path": "/in"},
                "filter": {
                    "type": ["a", "b"], "attributes": {"source": "/eu/*"},
                    "expression": "data.total > 1.0",
                },
            })
        );
        assert_eq!(
            of::<ScheduleSettings>(&["--cron", "@daily", "--queue", "q", "-d", r#"{"a": 1}"#]),
            json!({"cron": "@daily", "to": {"queue": "q"}, "data": {"a": 1}})
        );
    }

    #[test]
    fn every_setting_has_a_flag_that_no_other_has() {
        fn check<T: Creatable>() {
            let mut command = Options::<T>::augment_args(Command::new("create"));
            command.build();
            let help = command.render_long_help().to_string();
            for flag in all::<T>() {
                assert!(help.contains(&format!("--{}", flag.name())), "{}", flag.name());
            }
        }
        check::<TopicSettings>();
        check::<QueueSettings>();
        check::<SubscriptionSettings>();
        check::<ScheduleSettings>();
    }

    #[test]
    fn a_file_gives_what_flags_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("queue.yaml");
        for text in
            ["lease: 2m\nretry: 3\n", r#"{"name": "q", "options": {"lease": "2m", "retry": 3}}"#]
        {
            std::fs::write(&file, text).unwrap();
            let from = file.to_str().unwrap();
            assert_eq!(
                of::<QueueSettings>(&["--from-file", from, "--retry-first", "5s"]),
                json!({"lease": "2m", "retry": {"failures_max": 3, "first": "5s"}})
            );
        }
    }
}

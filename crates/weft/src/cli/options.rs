//! The options of `create`: a flag for each setting of a definition, by its path (`--retry-first 5s`), and
//! a file of them.
//!
//! The flags are made of the very table that the API and the configuration are read by, so that none of
//! them can lack what another has. A section with a short form has a flag for that too (`--retry 3`).

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value};
use weft_api::schema::{self, Section, Shape, typed};

use super::verbs::Also;
use crate::config::options::{body_of, free_value};

/// The options of a thing to create.
#[derive(Clone, Debug)]
pub(super) struct Options {
    section: &'static Section,
    file: Option<PathBuf>,
    given: Vec<(Vec<&'static str>, Value)>,
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

fn all(section: &'static Section) -> Vec<Flag> {
    let mut all = Vec::new();
    flags(section, &[], &mut all);
    all
}

/// Adds the flags of a section to a command.
pub(super) fn augment(command: Command, section: &'static Section, also: &[Also]) -> Command {
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
    for flag in all(section) {
        let name = flag.name();
        let mut arg = Arg::new(name.clone())
            .long(name)
            .value_name(value_name(flag.shape))
            .help(flag.about.clone())
            .help_heading("Settings");
        arg = match flag.shape.within() {
            Shape::Bool => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
            Shape::Many(..) => arg.action(ArgAction::Append),
            Shape::Map(_) => arg.action(ArgAction::Append).value_name("NAME=VALUE"),
            _ => arg,
        };
        let path = flag.path.join(".");
        for (of, name, letter) in also {
            if *of == path {
                if !name.is_empty() {
                    arg = arg.visible_alias(*name);
                }
                arg = letter.map_or(arg.clone(), |letter| arg.clone().short(letter));
            }
        }
        let required = section
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

impl Options {
    /// What flags and file say.
    ///
    /// # Errors
    /// If a flag is not what it may be.
    pub(super) fn given(
        section: &'static Section,
        matches: &ArgMatches,
    ) -> Result<Self, clap::Error> {
        let mut given = Vec::new();
        for flag in all(section) {
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
                Shape::Any => match values.next_back().map(|text| free_value(text)) {
                    Some(Ok(value)) => value,
                    Some(Err(why)) => {
                        let say = format!("--{}: {why}\n", flag.name());
                        return Err(clap::Error::raw(clap::error::ErrorKind::InvalidValue, say));
                    }
                    None => Value::Null,
                },
                _ => values.next_back().map_or(Value::Null, |text| typed(flag.shape, text)),
            };
            given.push((flag.path, value));
        }
        let file = matches.get_one::<PathBuf>("from_file").cloned();
        Ok(Self { section, file, given })
    }

    /// The body that declares them.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn body(&self) -> anyhow::Result<Value> {
        let mut whole = match &self.file {
            None => Value::Object(Map::new()),
            Some(path) => body_of(path, self.section)
                .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?,
        };
        for (path, value) in &self.given {
            put(&mut whole, self.section, path, value.clone());
        }
        Ok(whole)
    }
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

    use weft_api::Settings;
    use weft_broker_http::settings::{
        queue::QueueSettings, schedule::ScheduleSettings, subscription::SubscriptionSettings,
        topic::TopicSettings,
    };

    use super::*;
    use crate::cli::{
        queue::Queues, schedule::Schedules, subscription::Subscriptions, topic::Topics,
        verbs::Named,
    };

    fn of<N: Named, T: Settings + std::fmt::Debug>(flags: &[&str]) -> Value {
        let command = augment(Command::new("create"), T::SECTION, N::ALSO);
        let matches = command.try_get_matches_from([&["create"], flags].concat()).unwrap();
        let body = Options::given(T::SECTION, &matches).unwrap().body().unwrap();
        if let Err(faults) = T::read(body.clone()) {
            panic!("{faults:?}");
        }
        body
    }

    #[test]
    fn flags_say_what_the_other_views_say() {
        assert_eq!(
            of::<Queues, QueueSettings>(&[
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
            of::<Topics, TopicSettings>(&[
                "--retention",
                "7d",
                "--size",
                "1GiB",
                "--compact=false"
            ]),
            json!({"retention": {"age": "7d", "size": "1GiB"}, "compact": false})
        );
        assert_eq!(
            of::<Subscriptions, SubscriptionSettings>(&[
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
            of::<Schedules, ScheduleSettings>(&[
                "--cron",
                "@daily",
                "--queue",
                "q",
                "-d",
                r#"{"a": 1}"#
            ]),
            json!({"cron": "@daily", "to": {"queue": "q"}, "data": {"a": 1}})
        );
    }

    #[test]
    fn every_setting_has_a_flag_that_no_other_has() {
        fn check<N: Named, T: Settings>() {
            let mut command = augment(Command::new("create"), T::SECTION, N::ALSO);
            command.build();
            let help = command.render_long_help().to_string();
            for flag in all(T::SECTION) {
                assert!(help.contains(&format!("--{}", flag.name())), "{}", flag.name());
            }
        }
        check::<Topics, TopicSettings>();
        check::<Queues, QueueSettings>();
        check::<Subscriptions, SubscriptionSettings>();
        check::<Schedules, ScheduleSettings>();
    }

    #[test]
    fn no_digit_of_a_number_is_lost() {
        let long = "123456789012345678901234567890";
        let command = augment(Command::new("create"), ScheduleSettings::SECTION, Schedules::ALSO);
        for (data, fits) in [(long, false), ("{\"a\": [-1, 2.50]}", true), ("\"5\"", true)] {
            let flags = ["create", "--every", "1h", "--queue", "q", "--data", data];
            let matches = command.clone().try_get_matches_from(flags).unwrap();
            let given = Options::given(ScheduleSettings::SECTION, &matches);
            assert_eq!(given.is_ok(), fits, "{data}: {given:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("schedule.yaml");
        for data in [long, "[.nan]"] {
            std::fs::write(&file, format!("every: 1h\nto: t\ndata: {data}\n")).unwrap();
            let told = body_of(&file, ScheduleSettings::SECTION).unwrap_err();
            assert!(told.contains("in quotes"), "{told}");
        }
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
                of::<Queues, QueueSettings>(&["--from-file", from, "--retry-first", "5s"]),
                json!({"lease": "2m", "retry": {"failures_max": 3, "first": "5s"}})
            );
        }
    }
}

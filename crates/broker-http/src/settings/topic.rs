//! The settings of a topic.

use serde::{Deserialize, Serialize};
use weft_broker::{
    Enforcement, PayloadSchema,
    engine::EMBEDDED,
    options::{self, Dedupe, TopicOptions},
};

use weft_api::{Body, Settings};

use super::{AGES_MS, Level, MESSAGE_MAX, Size, Span, Switch, engine, of_broker};
use crate::schema::{
    Fault, Section, Setting, Shape,
    text::{ANY, ENGINE},
};

/// When a message is acknowledged.
pub(super) const DURABILITY: Shape = Shape::Choice(&[
    ("fsync", "it is on the disk"),
    ("os", "the operating system has it: it survives the process, not the machine"),
    ("memory", "it is in memory, and written soon"),
]);
/// A window in which ids are known again, or an age.
pub(super) const AGE: Shape = Shape::Off(&Shape::Span(1, AGES_MS));

const TOPIC: Section = Section {
    name: "topic",
    about: "A durable log of messages that many subscriptions read.",
    short: None,
    settings: &[
        Setting::new(
            "engine",
            Shape::Text(&ENGINE),
            EMBEDDED,
            "Engine that keeps the topic and its subscriptions; it cannot be changed.",
        ),
        Setting::group("retention", Shape::Section(&RETENTION), "Retention of messages."),
        Setting::new(
            "durability",
            DURABILITY,
            "fsync",
            "Durability: what has happened to a message when its publish is acknowledged.",
        ),
        Setting::new(
            "dedupe",
            AGE,
            "10m",
            "Deduplication window: time for which a message with an id that was seen before is a \
             duplicate; at least the last million ids are remembered within that time.",
        ),
        Setting::new(
            "message_max",
            Shape::SizeTo(MESSAGE_MAX.0),
            "1MiB",
            "Maximum size of a message, attributes included; at most 16MiB.",
        ),
        Setting::new(
            "compact",
            Shape::Bool,
            "false",
            "Log compaction: only the newest message of each key has to stay.",
        ),
        Setting::group(
            "schema",
            Shape::Section(&SCHEMA),
            "Schema of the registry that messages are held to.",
        ),
    ],
    forms: &[],
    rule: "",
};

const SCHEMA: Section = Section {
    name: "schema",
    about: "Schema of the registry that the payloads of a topic are held to, when they are published.",
    short: Some("subject"),
    settings: &[
        Setting::new(
            "subject",
            Shape::Text(&ANY),
            "",
            "Subject of the registry; empty for none. A payload is held to its latest version, or to the one whose \
             id it begins with.",
        ),
        Setting::new(
            "enforce",
            Shape::Choice(&[
                ("off", "nobody looks"),
                ("warn", "it is taken, counted and logged"),
                ("reject", "it is refused"),
            ]),
            "off",
            "What becomes of a message whose payload does not fit.",
        ),
    ],
    forms: &[],
    rule: "",
};

const RETENTION: Section = Section {
    name: "retention",
    about: "Retention of the messages of a topic; without a limit they stay for ever.",
    short: Some("age"),
    settings: &[
        Setting::new("age", AGE, "7d", "Maximum age of a message."),
        Setting::new(
            "size",
            Shape::Off(&Shape::Size(0)),
            "off",
            "Size of the topic above which the oldest messages are deleted.",
        ),
        Setting::new(
            "keep_unread",
            Shape::Bool,
            "true",
            "Whether messages that a durable subscription has not read are kept beyond `age` and `size`.",
        ),
        Setting::new(
            "size_max",
            Shape::Off(&Shape::Size(0)),
            "off",
            "Size of the topic above which the oldest messages are deleted, read or not.",
        ),
    ],
    forms: &[],
    rule: "",
};

/// The members with which a topic is shown beside its options.
const VIEW: &[&str] = &[
    "name",
    "engine",
    "unavailable",
    "first",
    "end",
    "messages",
    "bytes",
    "oldest",
    "newest",
    "published",
    "duplicates",
    "subscriptions",
];

/// The settings of a topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicSettings {
    engine: String,
    retention: Retention,
    durability: Level,
    dedupe: Switch<Span>,
    message_max: Size,
    compact: bool,
    schema: Schema,
}

/// The schema that messages are held to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Schema {
    subject: String,
    enforce: Enforcement,
}

/// How long messages stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Retention {
    age: Switch<Span>,
    size: Switch<Size>,
    keep_unread: bool,
    size_max: Switch<Size>,
}

impl Body for TopicSettings {
    const SHAPE: &'static Shape = &Shape::Declared(&TOPIC, VIEW);
}

impl Settings for TopicSettings {
    const SECTION: &'static Section = &TOPIC;

    fn faults(&self) -> Vec<Fault> {
        of_broker(self.options().check())
    }
}

/// The ids that are remembered.
pub(super) fn dedupe(window: Switch<Span>) -> Option<Dedupe> {
    window.on().map(|span| Dedupe { time: span.0, ..Dedupe::default() })
}

impl TopicSettings {
    /// The name of the engine.
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// The broker's options.
    pub fn options(&self) -> TopicOptions {
        TopicOptions {
            engine: engine(&self.engine),
            durability: self.durability.into(),
            retention: options::Retention {
                age: self.retention.age.on().map(|span| span.0),
                bytes: self.retention.size.on().map(|size| size.0),
                keep_unread: self.retention.keep_unread,
                bytes_max: self.retention.size_max.on().map(|size| size.0),
            },
            dedupe: dedupe(self.dedupe),
            compact: self.compact,
            message_bytes_max: self.message_max.0,
            schema: (!self.schema.subject.is_empty()).then(|| PayloadSchema {
                subject: self.schema.subject.clone(),
                enforce: self.schema.enforce,
            }),
        }
    }

    /// The settings that options stand for.
    pub fn of(options: &TopicOptions) -> Self {
        let retention = &options.retention;
        Self {
            engine: options.engine.clone().unwrap_or_else(|| EMBEDDED.to_owned()),
            retention: Retention {
                age: retention.age.map(Span).into(),
                size: retention.bytes.map(Size).into(),
                keep_unread: retention.keep_unread,
                size_max: retention.bytes_max.map(Size).into(),
            },
            durability: options.durability.into(),
            dedupe: options.dedupe.map(|dedupe| Span(dedupe.time)).into(),
            message_max: Size(options.message_bytes_max),
            compact: options.compact,
            schema: match &options.schema {
                Some(schema) => Schema { subject: schema.subject.clone(), enforce: schema.enforce },
                None => Schema { subject: String::new(), enforce: Enforcement::Off },
            },
        }
    }
}

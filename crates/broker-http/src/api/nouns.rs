//! The nouns of messages, and the columns in which the command line lists them.

use weft_api::{Noun, Verb};

/// A topic.
pub static TOPIC: Noun =
    Noun { name: "topic", about: "durable logs of messages that many subscriptions read" };
/// A queue.
pub static QUEUE: Noun = Noun { name: "queue", about: "messages that are each handled once" };
/// A subscription.
pub static SUBSCRIPTION: Noun = Noun { name: "subscription", about: "cursors over topics" };
/// A schedule.
pub static SCHEDULE: Noun =
    Noun { name: "schedule", about: "messages that are published later, or again and again" };

/// An engine.
pub static ENGINE: Noun =
    Noun { name: "engine", about: "what keeps messages, and what each of them can do" };

pub(super) const TOPICS: Verb = Verb::List {
    help: "Every topic",
    member: "topics",
    columns: &[
        ("topic", "name"),
        ("messages", "messages"),
        ("bytes", "bytes"),
        ("next", "end"),
        ("subscriptions", "subscriptions"),
    ],
};

pub(super) const QUEUES: Verb = Verb::List {
    help: "Every queue",
    member: "queues",
    columns: &[
        ("queue", "name"),
        ("ready", "ready"),
        ("leased", "leased"),
        ("waiting", "waiting"),
        ("consumers", "consumers"),
        ("dead", "dead_lettered"),
    ],
};

pub(super) const SUBSCRIPTIONS: Verb = Verb::List {
    help: "Every subscription, with how far it is behind",
    member: "subscriptions",
    columns: &[
        ("subscription", "name"),
        ("topic", "topic"),
        ("state", "state"),
        ("lag", "lag_messages"),
        ("seconds", "lag_seconds"),
        ("leased", "leased"),
        ("waiting", "waiting"),
        ("consumers", "consumers"),
    ],
};

pub(super) const SCHEDULES: Verb = Verb::List {
    help: "Every schedule, with when it is due",
    member: "schedules",
    columns: &[
        ("schedule", "id"),
        ("origin", "origin"),
        ("when", "cron"),
        ("zone", "time_zone"),
        ("next", "next"),
        ("topic", "to.topic"),
        ("queue", "to.queue"),
    ],
};

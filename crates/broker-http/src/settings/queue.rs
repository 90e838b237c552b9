//! The settings of a queue, and those that it shares with a subscription.

use serde::{Deserialize, Serialize};
use weft_broker::{
    engine::EMBEDDED,
    options::{self, DeadLetter, OnFailure, QueueLimit, QueueOptions},
    retry::Backoff,
};
use weft_kernel::ByteSize;

use weft_api::{Body, Settings};

use super::{
    AGES_MS, Level, QUEUE_MESSAGE_MAX, Size, Span, Switch, YEAR_MS, engine, of_broker,
    topic::{AGE, DURABILITY, dedupe},
};
use crate::schema::{
    Fault, Section, Setting, Shape,
    text::{ENGINE, NAME},
};

/// How long a consumer may work on a message.
pub(super) const LEASE: Setting = Setting::new(
    "lease",
    Shape::Span(10, YEAR_MS),
    "30s",
    "Lease: the time in which a consumer must settle a message, or renew the lease. A consumer may ask \
     for another, of 12 h at most.",
);
/// What happens after a failure.
pub(super) const RETRY: Setting =
    Setting::group("retry", Shape::Section(&REDELIVERY), "Redelivery after a failure.");
/// In which order messages are handed out.
pub(super) const ORDER: Setting = Setting::new(
    "order",
    Shape::Choice(&[
        ("none", "as they came; while one is worked on or waits for a retry, later ones pass it"),
        (
            "key",
            "as they came for each key: later ones of the key wait, and go on once it is settled, also by \
             dead-lettering it",
        ),
        (
            "key-park",
            "as for `key`, but once one is dead-lettered, later ones of its key follow it there",
        ),
    ]),
    "none",
    "Order of delivery.",
);
/// The queue for dead letters.
pub(super) const DEAD_LETTER: Shape = Shape::Off(&Shape::Text(&NAME));

const QUEUE: Section = Section {
    name: "queue",
    about: "Messages that are each handled once.",
    short: None,
    settings: &[
        Setting::new(
            "engine",
            Shape::Text(&ENGINE),
            EMBEDDED,
            "Engine that keeps the queue; it cannot be changed.",
        ),
        Setting::new(
            "durability",
            DURABILITY,
            "fsync",
            "Durability: what has happened to a message when its publish is acknowledged.",
        ),
        LEASE,
        RETRY,
        ORDER,
        Setting::new(
            "priorities",
            Shape::Bool,
            "false",
            "Priorities of messages, 0 to 9; the higher go first, and the lower do not starve.",
        ),
        Setting::new(
            "ttl",
            Shape::Off(&Shape::Span(0, AGES_MS)),
            "off",
            "Time to live of a message that is not leased; it is then dead-lettered, or dropped where \
             `dead_letter` is off.",
        ),
        Setting::new("expires", AGE, "off", "Time without use after which the queue is deleted."),
        Setting::group("limit", Shape::Section(&LIMIT), "Maximum of waiting messages."),
        Setting::new(
            "single_active",
            Shape::Bool,
            "false",
            "Single active consumer: one at a time gets messages, and the next takes over when it is gone.",
        ),
        Setting::may(
            "dead_letter",
            DEAD_LETTER,
            "Dead-letter queue; `off` drops messages that failed for good; `NAME.dead` otherwise, \
             which is made when it is needed and keeps them for 14 days.",
        ),
        Setting::new(
            "dedupe",
            AGE,
            "10m",
            "Deduplication window: time for which a message with an id that was seen before is a duplicate.",
        ),
        Setting::new(
            "message_max",
            Shape::Off(&Shape::SizeTo(QUEUE_MESSAGE_MAX.0)),
            "1MiB",
            "Maximum size of a message, attributes included; at most 129MiB. HTTP carries 16MiB at most. `off` has no \
             bound but what the ledger keeps.",
        ),
    ],
    forms: &[],
    rule: "",
};

/// After how many failures a message is given up.
const FAILURES_MAX: Shape = Shape::Off(&Shape::Int(1, u32::MAX as u64));

const REDELIVERY: Section = Section {
    name: "redelivery",
    about: "Redelivery of messages that failed: exponential backoff, then the dead-letter queue.",
    short: Some("failures_max"),
    settings: &[
        Setting::new(
            "failures_max",
            FAILURES_MAX,
            "10",
            "Number of failures after which a message is dead-lettered; `off` for never.",
        ),
        Setting::new("first", Shape::Span(0, YEAR_MS), "1s", "Delay after the first failure."),
        Setting::new(
            "factor",
            Shape::Number(1.0, 100.0),
            "2",
            "Factor by which each further delay grows.",
        ),
        Setting::new("max", Shape::Span(0, YEAR_MS), "10m", "Maximum delay."),
        Setting::new(
            "jitter",
            Shape::Share,
            "20%",
            "Jitter: share by which each delay varies in either direction.",
        ),
    ],
    forms: &[],
    rule: "",
};

const LIMIT: Section = Section {
    name: "limit",
    about: "Maximum of the messages that wait in a queue.",
    short: Some("messages"),
    settings: &[
        Setting::new(
            "messages",
            Shape::Off(&Shape::Int(0, u64::MAX)),
            "off",
            "Number of messages.",
        ),
        Setting::new("size", Shape::Off(&Shape::Size(0)), "off", "Size of the messages."),
        Setting::new(
            "overflow",
            Shape::Choice(&[
                ("refuse", "the publisher is refused"),
                (
                    "drop-oldest",
                    "the oldest message that is not leased makes room, and is dead-lettered if the \
                     queue does that",
                ),
            ]),
            "refuse",
            "Overflow behaviour of a full queue.",
        ),
    ],
    forms: &[],
    rule: "",
};

/// The members with which a queue is shown beside its options.
const VIEW: &[&str] = &[
    "name",
    "engine",
    "unavailable",
    "ready",
    "leased",
    "waiting",
    "bytes",
    "oldest",
    "consumers",
    "dead_letters_waiting",
    "lost",
    "parked_keys",
    "published",
    "duplicates",
    "delivered",
    "accepted",
    "failed",
    "rejected",
    "dead_lettered",
    "expired",
    "dropped",
];

/// The settings of a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueSettings {
    engine: String,
    durability: Level,
    lease: Span,
    retry: Redelivery,
    order: Order,
    priorities: bool,
    ttl: Switch<Span>,
    expires: Switch<Span>,
    limit: Limit,
    single_active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<Switch<String>>,
    dedupe: Switch<Span>,
    message_max: Switch<Size>,
}

/// How a failure is dealt with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Redelivery {
    failures_max: Switch<u32>,
    first: Span,
    factor: f64,
    max: Span,
    jitter: f64,
}

impl Redelivery {
    /// The failures after which a message is given up, and the waits before.
    pub(super) fn options(&self) -> (Option<u32>, Backoff) {
        let backoff = Backoff {
            first: self.first.0,
            factor: self.factor,
            max: self.max.0,
            jitter: self.jitter,
        };
        (self.failures_max.on(), backoff)
    }

    pub(super) fn of(failures_max: Option<u32>, backoff: &Backoff) -> Self {
        Self {
            failures_max: failures_max.into(),
            first: Span(backoff.first),
            factor: backoff.factor,
            max: Span(backoff.max),
            jitter: backoff.jitter,
        }
    }
}

/// In which order messages are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Order {
    /// As they came; one that is retried is overtaken.
    None,
    /// As they came for each key.
    Key,
    /// The same, and once one is dead, the later ones of its key follow it.
    KeyPark,
}

impl From<Order> for options::Order {
    fn from(word: Order) -> Self {
        match word {
            Order::None => Self::None,
            Order::Key => Self::Key { on_failure: OnFailure::Block },
            Order::KeyPark => Self::Key { on_failure: OnFailure::Park },
        }
    }
}

impl From<options::Order> for Order {
    fn from(order: options::Order) -> Self {
        match order {
            options::Order::None => Self::None,
            options::Order::Key { on_failure: OnFailure::Block } => Self::Key,
            options::Order::Key { on_failure: OnFailure::Park } => Self::KeyPark,
        }
    }
}

/// The most that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Limit {
    messages: Switch<u64>,
    size: Switch<Size>,
    overflow: Overflow,
}

/// What happens to a message for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Overflow {
    Refuse,
    DropOldest,
}

impl Body for QueueSettings {
    const SHAPE: &'static Shape = &Shape::Declared(&QUEUE, VIEW);
}

impl Settings for QueueSettings {
    const SECTION: &'static Section = &QUEUE;

    fn faults(&self) -> Vec<Fault> {
        of_broker(self.options().check())
    }
}

impl QueueSettings {
    /// The name of the engine.
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// The queue for dead letters, if one is named.
    pub fn dead_letter(&self) -> Option<&str> {
        named(self.dead_letter.as_ref())
    }

    /// The largest message, if it is bounded.
    pub fn message_max(&self) -> Option<ByteSize> {
        self.message_max.on().map(|size| ByteSize(size.0))
    }

    /// The broker's options.
    pub fn options(&self) -> QueueOptions {
        self.options_over(QueueOptions::default())
    }

    /// The broker's options, with those for which there is no setting as they are in `base`.
    pub(crate) fn options_over(&self, base: QueueOptions) -> QueueOptions {
        let (failures_max, retry) = self.retry.options();
        let dead_letter = match (dead_letter(self.dead_letter.as_ref()), &base.dead_letter) {
            (DeadLetter::Queue, DeadLetter::Hook(_)) => base.dead_letter.clone(),
            (said, _) => said,
        };
        let dead_letters = dead_letter != DeadLetter::None;
        let message_ttl = self.ttl.on().map(|span| span.0);
        QueueOptions {
            engine: engine(&self.engine),
            durability: self.durability.into(),
            lease: self.lease.0,
            failures_max,
            retry,
            order: self.order.into(),
            priorities: self.priorities,
            message_ttl,
            expired_to_dead_letter: dead_letters && message_ttl.is_some(),
            expires: self.expires.on().map(|span| span.0),
            limit: QueueLimit {
                messages: self.limit.messages.on(),
                bytes: self.limit.size.on().map(|size| size.0),
                overflow: match self.limit.overflow {
                    Overflow::DropOldest => {
                        options::Overflow::DropOldest { dead_letter: dead_letters }
                    }
                    Overflow::Refuse => options::Overflow::Refuse,
                },
            },
            single_active: self.single_active,
            dead_letter,
            dedupe: dedupe(self.dedupe),
            message_bytes_max: self.message_max.on().map_or(u64::MAX, |size| size.0),
            ..base
        }
    }

    /// The settings that options stand for, as far as there is a setting for them.
    pub fn of(options: &QueueOptions) -> Self {
        Self {
            engine: options.engine.clone().unwrap_or_else(|| EMBEDDED.to_owned()),
            durability: options.durability.into(),
            lease: Span(options.lease),
            retry: Redelivery::of(options.failures_max, &options.retry),
            order: options.order.into(),
            priorities: options.priorities,
            ttl: options.message_ttl.map(Span).into(),
            expires: options.expires.map(Span).into(),
            limit: Limit {
                messages: options.limit.messages.into(),
                size: options.limit.bytes.map(Size).into(),
                overflow: match options.limit.overflow {
                    options::Overflow::Refuse => Overflow::Refuse,
                    options::Overflow::DropOldest { .. } => Overflow::DropOldest,
                },
            },
            single_active: options.single_active,
            dead_letter: dead_letter_setting(&options.dead_letter),
            dedupe: options.dedupe.map(|dedupe| Span(dedupe.time)).into(),
            message_max: match options.message_bytes_max {
                u64::MAX => Switch::Off,
                bytes => Switch::On(Size(bytes)),
            },
        }
    }
}

/// The queue that a setting names.
pub(super) fn named(setting: Option<&Switch<String>>) -> Option<&str> {
    match setting {
        Some(Switch::On(name)) => Some(name),
        Some(Switch::Off) | None => None,
    }
}

/// Where messages go that failed for good.
pub(super) fn dead_letter(setting: Option<&Switch<String>>) -> DeadLetter {
    match setting {
        None => DeadLetter::Queue,
        Some(Switch::Off) => DeadLetter::None,
        Some(Switch::On(name)) => DeadLetter::To(name.clone()),
    }
}

pub(super) fn dead_letter_setting(dead_letter: &DeadLetter) -> Option<Switch<String>> {
    match dead_letter {
        DeadLetter::Queue | DeadLetter::Hook(_) => None,
        DeadLetter::None => Some(Switch::Off),
        DeadLetter::To(name) => Some(Switch::On(name.clone())),
    }
}

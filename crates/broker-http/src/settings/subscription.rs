//! The settings of a subscription.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_broker::{
    filter::{Compare, FilterOptions},
    name::Pattern,
    options::{PushTarget, Start, SubscriptionOptions, SubscriptionTarget},
};
use weft_kernel::{Error, Reason, Result};

use weft_api::{Body, Settings};

use super::{
    Span, Switch, YEAR_MS, of_broker,
    queue::{
        DEAD_LETTER, LEASE, ORDER, Order, RETRY, Redelivery, dead_letter, dead_letter_setting,
        named,
    },
    topic::AGE,
};
use crate::{
    schema::{
        Fault, Form, Section, Setting, Shape,
        text::{ANY, CEL, NAME, PATH, SERVICE, START, TOPICS},
    },
    time,
};

const SUBSCRIPTION: Section = Section {
    name: "subscription",
    about: "A named cursor over a topic, pulled by clients or pushed to a service or queue.",
    short: None,
    settings: &[
        Setting::must(
            "topic",
            Shape::Text(&TOPICS),
            "Topic, or pattern of topics: `*` stands for one word, `>` for all that follow.",
        ),
        Setting::new(
            "start",
            Shape::Text(&START),
            "next",
            "Start position: `first`, `last`, `next`, a position, or a time such as 2026-01-31T00:00:00Z.",
        ),
        Setting::group("filter", FILTER, "Filter of messages; all otherwise."),
        LEASE,
        RETRY,
        ORDER,
        Setting::new(
            "single_active",
            Shape::Bool,
            "false",
            "Single active consumer: one at a time gets messages.",
        ),
        Setting::may(
            "dead_letter",
            DEAD_LETTER,
            "Dead-letter queue; `off` drops messages that failed for good; `NAME.dead` otherwise.",
        ),
        Setting::new(
            "expires",
            AGE,
            "off",
            "Time without use after which the subscription is deleted.",
        ),
        Setting::new(
            "push",
            Shape::Off(&Shape::Section(&PUSH)),
            "off",
            "Service to which messages are pushed by HTTP POST.",
        ),
        Setting::may("queue", Shape::Text(&NAME), "Queue that each message is put into."),
    ],
    forms: &[
        Form { only: None, required: &[], without: &["queue"] },
        Form { only: None, required: &["queue"], without: &["push"] },
        Form { only: Some(("push", &["off"])), required: &["queue"], without: &[] },
    ],
    rule: "a subscription leads to a service or to a queue, not to both: make one for each",
};

/// Which messages something is for: a filter, or its expression alone.
pub(crate) const FILTER: Shape = Shape::Section(&Section {
    name: "filter",
    about: "Filter of a subscription; all conditions must hold.",
    short: Some("expression"),
    settings: &[
        Setting::group(
            "type",
            Shape::Many(&Shape::Text(&ANY), 256),
            "Types of events, of which one must fit; a `*` at the end stands for anything.",
        ),
        Setting::group(
            "attributes",
            Shape::Map(&Shape::Text(&ANY)),
            "Attributes that must have these values; a `*` at the end stands for anything.",
        ),
        Setting::may(
            "expression",
            Shape::Text(&CEL),
            "CEL expression over the attributes and `data`, such as `data.total > 100.0`.",
        ),
    ],
    forms: &[],
    rule: "",
});

const PUSH: Section = Section {
    name: "push",
    about: "Push delivery to a service, whose answer settles the message: 2xx accepts, 4xx rejects, 5xx \
            and 429 fail.",
    short: Some("service"),
    settings: &[
        Setting::must("service", Shape::Text(&SERVICE), "Name of the service."),
        Setting::new("path", Shape::Text(&PATH), "/", "Path of the requests."),
        Setting::new(
            "concurrency",
            Shape::Int(1, 10_000),
            "64",
            "Maximum number of concurrent deliveries; fewer while the service answers slowly or not.",
        ),
        Setting::new("timeout", Shape::Span(1, YEAR_MS), "15s", "Timeout of a delivery."),
    ],
    forms: &[],
    rule: "",
};

/// The members with which a subscription is shown beside its options.
const VIEW: &[&str] = &[
    "name",
    "topic",
    "engine",
    "unavailable",
    "state",
    "ready",
    "leased",
    "waiting",
    "lag_messages",
    "lag_seconds",
    "cursor",
    "consumers",
    "topics",
    "dead_letters_waiting",
    "lost",
    "parked_keys",
    "delivered",
    "accepted",
    "failed",
    "dead_lettered",
    "filtered",
    "filter_failed",
];

/// The settings of a subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubscriptionSettings {
    topic: String,
    start: String,
    filter: FilterSettings,
    lease: Span,
    retry: Redelivery,
    order: Order,
    single_active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<Switch<String>>,
    expires: Switch<Span>,
    push: Switch<PushSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
}

/// Which messages a subscription is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FilterSettings {
    /// Any of these types.
    #[serde(rename = "type", default, skip_serializing_if = "Vec::is_empty")]
    types: Vec<String>,
    /// Attributes that must have these values; a `*` at the end stands for anything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
    /// A CEL expression that must be true.
    #[serde(skip_serializing_if = "Option::is_none")]
    expression: Option<String>,
}

/// How messages are pushed to a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PushSettings {
    /// The service.
    pub service: String,
    /// The path that is posted to.
    pub path: String,
    /// The most under way at once.
    pub concurrency: u32,
    /// The time for one delivery.
    pub timeout: Span,
}

impl Body for SubscriptionSettings {
    const SHAPE: &'static Shape = &Shape::Declared(&SUBSCRIPTION, VIEW);
}

impl Settings for SubscriptionSettings {
    const SECTION: &'static Section = &SUBSCRIPTION;

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let options = match self.options() {
            Ok(options) => options,
            Err(error) => {
                faults.push(Fault::said(&["start"], error.said()));
                return faults;
            }
        };
        if Pattern::is_one(&self.topic) && matches!(options.start, Start::Position(_)) {
            let say = "a position is one of a single topic, and this subscription reads several";
            faults.push(Fault::said(&["start"], say).help("write first, last, next, or a time"));
        }
        if let Err(error) = options.filter.compile() {
            faults.push(Fault::said(&["filter", "expression"], error.said()));
        }
        let filter = FilterOptions::default();
        faults.extend(of_broker(SubscriptionOptions { filter, ..options }.check()));
        faults
    }
}

impl FilterSettings {
    /// A filter of nothing but an expression.
    pub(crate) fn expression(text: String) -> Self {
        Self { expression: Some(text), ..Self::default() }
    }

    /// The broker's options.
    pub(crate) fn options(&self) -> FilterOptions {
        let attributes = self.attributes.iter();
        FilterOptions {
            types: self.types.clone(),
            attributes: attributes.map(|(name, value)| (name.clone(), compare(value))).collect(),
            expression: self.expression.clone(),
        }
    }

    fn of(options: &FilterOptions) -> Self {
        Self {
            types: options.types.clone(),
            attributes: options
                .attributes
                .iter()
                .map(|(name, compare)| {
                    let text = match compare {
                        Compare::Equal(text) => text.clone(),
                        Compare::Prefix(text) => format!("{text}*"),
                    };
                    (name.clone(), text)
                })
                .collect(),
            expression: options.expression.clone(),
        }
    }
}

fn compare(value: &str) -> Compare {
    match value.strip_suffix('*') {
        Some(prefix) => Compare::Prefix(prefix.to_owned()),
        None => Compare::Equal(value.to_owned()),
    }
}

/// Where reading begins: `first`, `last`, `next`, a position, or a time.
pub(crate) fn start(name: &str, text: &str) -> Result<Start> {
    Ok(match text {
        "first" => Start::First,
        "last" => Start::Last,
        "next" => Start::Next,
        number if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            Start::Position(number.parse().map_err(|error: std::num::ParseIntError| {
                Error::new(Reason::MalformedRequest, format!("`{name}` is no position"))
                    .because(error)
            })?)
        }
        time => Start::Time(time::parse(name, time).map_err(|error| {
            let say = format!(
                "`{name}` is first, last, next, a position, or a time such as 2026-01-31T00:00:00Z"
            );
            Error::new(Reason::MalformedRequest, say).because(error)
        })?),
    })
}

fn start_setting(start: Start) -> String {
    match start {
        Start::First => "first".into(),
        Start::Last => "last".into(),
        Start::Next => "next".into(),
        Start::Position(position) => position.to_string(),
        Start::Time(ms) => time::text(ms),
    }
}

impl SubscriptionSettings {
    /// The topic, or a pattern of topics.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The queue for dead letters, if one is named.
    pub fn dead_letter(&self) -> Option<&str> {
        named(self.dead_letter.as_ref())
    }

    /// The queue that each message is put into.
    pub fn queue(&self) -> Option<&str> {
        self.queue.as_deref()
    }

    /// How messages are pushed to a service.
    pub fn push(&self) -> Option<&PushSettings> {
        match &self.push {
            Switch::On(push) => Some(push),
            Switch::Off => None,
        }
    }

    /// The broker's options.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] for a start that is none.
    pub fn options(&self) -> Result<SubscriptionOptions> {
        let (failures_max, retry) = self.retry.options();
        Ok(SubscriptionOptions {
            ephemeral: self.expires.on().map(|span| span.0),
            start: start("start", &self.start)?,
            filter: self.filter.options(),
            target: match (&self.push, &self.queue) {
                (Switch::On(push), _) => SubscriptionTarget::Push(PushTarget {
                    service: push.service.clone(),
                    path: push.path.clone(),
                    concurrency: push.concurrency,
                    timeout: push.timeout.0,
                    configured: false,
                }),
                (Switch::Off, Some(queue)) => SubscriptionTarget::Queue(queue.clone()),
                (Switch::Off, None) => SubscriptionTarget::Pull,
            },
            lease: self.lease.0,
            failures_max,
            retry,
            order: self.order.into(),
            single_active: self.single_active,
            dead_letter: dead_letter(self.dead_letter.as_ref()),
            paused: false,
        })
    }

    /// The settings that options stand for.
    pub fn of(topic: &str, options: &SubscriptionOptions) -> Self {
        let (push, queue) = match &options.target {
            SubscriptionTarget::Pull => (Switch::Off, None),
            SubscriptionTarget::Push(target) => {
                let push = PushSettings {
                    service: target.service.clone(),
                    path: target.path.clone(),
                    concurrency: target.concurrency,
                    timeout: Span(target.timeout),
                };
                (Switch::On(push), None)
            }
            SubscriptionTarget::Queue(queue) => (Switch::Off, Some(queue.clone())),
        };
        Self {
            topic: topic.to_owned(),
            start: start_setting(options.start),
            filter: FilterSettings::of(&options.filter),
            lease: Span(options.lease),
            retry: Redelivery::of(options.failures_max, &options.retry),
            order: options.order.into(),
            single_active: options.single_active,
            dead_letter: dead_letter_setting(&options.dead_letter),
            expires: options.ephemeral.map(Span).into(),
            push,
            queue,
        }
    }
}

//! The settings of a subscription.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_broker::{
    filter::{Compare, FilterOptions},
    options::{Start, SubscriptionOptions, SubscriptionTarget},
};
use weft_kernel::{Error, Reason, Result};

use super::{
    Body, Short, Span, Switch, or_default,
    queue::{
        DEAD_LETTER, LEASE, LIFE, ORDER, OrderWord, RETRY, RetrySettings, dead_letter,
        dead_letter_setting,
    },
    short,
};
use crate::{
    schema::{
        Member, Object, Shape,
        text::{ANY, CEL, NAME, PUSH, START, TOPICS},
    },
    time,
};

/// Which messages something is for: a filter, or its expression alone.
pub(crate) const FILTER: Shape = Shape::Either(&[
    Shape::Text(&CEL),
    Shape::Object(&Object::of(&[
        Member::may(
            "type",
            Shape::Either(&[Shape::Text(&ANY), Shape::List(&Shape::Text(&ANY), 0, 256)]),
        ),
        Member::may("attributes", Shape::Map(&Shape::Text(&ANY))),
        Member::may("expression", Shape::Text(&CEL)),
    ])),
]);

impl Body for SubscriptionSettings {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[
        Member::must("topic", Shape::Text(&TOPICS)),
        Member::may("start", Shape::Text(&START)),
        Member::may("filter", FILTER),
        Member::may("lease", LEASE),
        Member::may("retry", RETRY),
        Member::may("order", ORDER),
        Member::may("single_active", Shape::Bool),
        Member::may("dead_letter", DEAD_LETTER),
        Member::may("expires", LIFE),
        Member::may("push", Shape::Off(&Shape::Text(&PUSH))),
        Member::may("queue", Shape::Text(&NAME)),
    ]));
}

/// A subscription's settings; what is left out has its default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SubscriptionSettings {
    /// The topic, or a pattern of topics.
    pub(crate) topic: Option<String>,
    start: Option<String>,
    #[serde(deserialize_with = "short")]
    filter: Option<FilterSettings>,
    lease: Option<Span>,
    #[serde(deserialize_with = "short")]
    retry: Option<RetrySettings>,
    order: Option<OrderWord>,
    single_active: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<Switch<String>>,
    expires: Option<Switch<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    push: Option<Switch<PushSettings>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
}

/// To whom messages are pushed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum PushSettings {
    /// The service alone.
    Service(String),
    /// With all that can be said of it in the configuration.
    Whole {
        /// The service.
        service: String,
        /// The rest.
        #[serde(flatten)]
        rest: serde_json::Map<String, serde_json::Value>,
    },
}

impl Short for FilterSettings {
    const MEMBER: &'static str = "expression";
}

/// Which messages a subscription is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FilterSettings {
    /// Any of these types; a `*` at the end stands for anything.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    types: Option<OneOrMany>,
    /// Attributes that must have these values; a `*` at the end stands for anything.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    attributes: BTreeMap<String, String>,
    /// A CEL expression that must be true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expression: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl FilterSettings {
    /// A filter of nothing but an expression.
    pub(crate) fn expression(text: String) -> Self {
        Self { expression: Some(text), ..Self::default() }
    }

    /// The broker's filter.
    pub(crate) fn options(&self) -> FilterOptions {
        let types = match &self.types {
            None => Vec::new(),
            Some(OneOrMany::One(one)) => vec![one.clone()],
            Some(OneOrMany::Many(many)) => many.clone(),
        };
        FilterOptions {
            types,
            attributes: self
                .attributes
                .iter()
                .map(|(name, value)| (name.clone(), compare(value)))
                .collect(),
            expression: self.expression.clone(),
        }
    }

    fn of(options: &FilterOptions) -> Option<Self> {
        (!options.takes_all()).then(|| Self {
            types: (!options.types.is_empty()).then(|| OneOrMany::Many(options.types.clone())),
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
        })
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
    /// The broker's options.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] for a start that is none, and for a service to push to: that takes
    /// a route, so the configuration declares it.
    pub(crate) fn options(&self) -> Result<SubscriptionOptions> {
        let default = SubscriptionOptions::default();
        if matches!(self.push, Some(Switch::On(_))) {
            return Err(Error::new(
                Reason::MalformedRequest,
                "`push` goes by a route, so it is declared in the configuration",
            ));
        }
        let (failures_max, retry) = RetrySettings::options(self.retry.as_ref());
        Ok(SubscriptionOptions {
            ephemeral: self.expires.and_then(Switch::on).map(|span| span.0),
            start: self.start.as_deref().map_or(Ok(default.start), |text| start("start", text))?,
            filter: self.filter.as_ref().map_or(default.filter, FilterSettings::options),
            target: self
                .queue
                .as_ref()
                .map_or(default.target, |queue| SubscriptionTarget::Queue(queue.clone())),
            lease: self.lease.map_or(default.lease, |span| span.0),
            failures_max,
            retry,
            order: self.order.map_or(default.order, Into::into),
            single_active: self.single_active.unwrap_or(default.single_active),
            dead_letter: dead_letter(self.dead_letter.as_ref()),
            paused: false,
        })
    }

    /// The settings that options stand for.
    pub(crate) fn of(topic: &str, options: &SubscriptionOptions) -> Self {
        let (push, queue) = match &options.target {
            SubscriptionTarget::Pull => (None, None),
            SubscriptionTarget::Push(service) => {
                (Some(Switch::On(PushSettings::Service(service.clone()))), None)
            }
            SubscriptionTarget::Queue(queue) => (None, Some(queue.clone())),
        };
        Self {
            topic: Some(topic.to_owned()),
            start: Some(start_setting(options.start)),
            filter: FilterSettings::of(&options.filter),
            lease: Some(Span(options.lease)),
            retry: Some(RetrySettings::of(options.failures_max, &options.retry)),
            order: Some(options.order.into()),
            single_active: Some(options.single_active),
            dead_letter: dead_letter_setting(&options.dead_letter),
            expires: Some(options.ephemeral.map(Span).into()),
            push,
            queue,
        }
    }
}

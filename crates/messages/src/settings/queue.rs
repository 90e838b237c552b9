//! The settings of a queue, and those that it shares with a subscription.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_broker::{
    options::{DeadLetter, OnFailure, Order, Overflow, QueueLimit, QueueOptions},
    retry::Backoff,
};

use super::{
    Body, Level, Short, Size, Span, Switch, short,
    topic::{DEDUPE, DURABILITY, dedupe, dedupe_setting},
};
use crate::schema::{
    Member, Object, Shape,
    text::{self, NAME, SHARE},
};

/// How long a consumer may work on a message.
pub(super) const LEASE: Shape = Shape::Span(10, super::YEAR_MS);
/// A time after which something goes.
pub(super) const LIFE: Shape = Shape::Off(&Shape::Span(1, super::AGES_MS));
/// Where dead letters go.
pub(super) const DEAD_LETTER: Shape = Shape::Off(&Shape::Text(&NAME));
/// The words for orders.
pub(super) const ORDER: Shape = Shape::Words(&["none", "key", "key-park", "key_park"]);
/// After how many failures a message is given up.
const FAILURES_MAX: Shape = Shape::Off(&Shape::Int(1, u32::MAX as u64));
/// How a failure is dealt with.
pub(super) const RETRY: Shape = Shape::Either(&[
    FAILURES_MAX,
    Shape::Object(&Object::of(&[
        Member::may("failures_max", FAILURES_MAX),
        Member::may("first", Shape::Span(0, super::YEAR_MS)),
        Member::may("factor", Shape::Number(1.0, 100.0)),
        Member::may("max", Shape::Span(0, super::YEAR_MS)),
        Member::may("jitter", Shape::Either(&[Shape::Number(0.0, 1.0), Shape::Text(&SHARE)])),
    ])),
]);
/// How many messages may wait.
const MESSAGES: Shape = Shape::Off(&Shape::Int(0, u64::MAX));

impl Body for QueueSettings {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[
        Member::may("durability", DURABILITY),
        Member::may("lease", LEASE),
        Member::may("retry", RETRY),
        Member::may("order", ORDER),
        Member::may("priorities", Shape::Bool),
        Member::may("ttl", Shape::Off(&Shape::Span(0, super::AGES_MS))),
        Member::may("expires", LIFE),
        Member::may(
            "limit",
            Shape::Either(&[
                MESSAGES,
                Shape::Object(&Object::of(&[
                    Member::may("messages", MESSAGES),
                    Member::may("size", Shape::Off(&Shape::Size(0))),
                    Member::may(
                        "overflow",
                        Shape::Words(&["refuse", "drop-oldest", "drop_oldest"]),
                    ),
                ])),
            ]),
        ),
        Member::may("single_active", Shape::Bool),
        Member::may("dead_letter", DEAD_LETTER),
        Member::may("dedupe", DEDUPE),
        Member::may("message_max", Shape::Size(1)),
    ]));
}

/// A queue's settings; what is left out has its default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct QueueSettings {
    durability: Option<Level>,
    lease: Option<Span>,
    #[serde(deserialize_with = "short")]
    retry: Option<RetrySettings>,
    order: Option<OrderWord>,
    priorities: Option<bool>,
    ttl: Option<Switch<Span>>,
    expires: Option<Switch<Span>>,
    #[serde(deserialize_with = "short")]
    limit: Option<LimitSettings>,
    single_active: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<Switch<String>>,
    dedupe: Option<Switch<Span>>,
    message_max: Option<Size>,
}

/// How a failure is dealt with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RetrySettings {
    failures_max: Option<Switch<u32>>,
    first: Option<Span>,
    factor: Option<f64>,
    max: Option<Span>,
    #[serde(deserialize_with = "jitter")]
    jitter: Option<f64>,
}

impl Short for RetrySettings {
    const MEMBER: &'static str = "failures_max";
}

/// A share as a number, or as a text such as `20%`.
fn jitter<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(text) => text::share(&text),
        other => other.as_f64(),
    })
}

impl RetrySettings {
    /// The failures after which a message is given up, and the waits before.
    pub(super) fn options(setting: Option<&Self>) -> (Option<u32>, Backoff) {
        let default = Backoff::default();
        let Some(retry) = setting else { return (QueueOptions::default().failures_max, default) };
        let failures_max = match retry.failures_max {
            None => QueueOptions::default().failures_max,
            Some(switch) => switch.on(),
        };
        let backoff = Backoff {
            first: retry.first.map_or(default.first, |span| span.0),
            factor: retry.factor.unwrap_or(default.factor),
            max: retry.max.map_or(default.max, |span| span.0),
            jitter: retry.jitter.unwrap_or(default.jitter),
        };
        (failures_max, backoff)
    }

    pub(super) fn of(failures_max: Option<u32>, backoff: &Backoff) -> Self {
        Self {
            failures_max: Some(failures_max.into()),
            first: Some(Span(backoff.first)),
            factor: Some(backoff.factor),
            max: Some(Span(backoff.max)),
            jitter: Some(backoff.jitter),
        }
    }
}

/// In which order messages are handed out.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum OrderWord {
    /// As they came; one that is retried is overtaken.
    #[serde(rename = "none")]
    None,
    /// As they came for each key.
    #[serde(rename = "key")]
    Key,
    /// The same, and once one is dead, the later ones of its key follow it.
    #[serde(rename = "key-park", alias = "key_park")]
    KeyPark,
}

impl From<OrderWord> for Order {
    fn from(word: OrderWord) -> Self {
        match word {
            OrderWord::None => Self::None,
            OrderWord::Key => Self::Key { on_failure: OnFailure::Block },
            OrderWord::KeyPark => Self::Key { on_failure: OnFailure::Park },
        }
    }
}

impl From<Order> for OrderWord {
    fn from(order: Order) -> Self {
        match order {
            Order::None => Self::None,
            Order::Key { on_failure: OnFailure::Block } => Self::Key,
            Order::Key { on_failure: OnFailure::Park } => Self::KeyPark,
        }
    }
}

/// The most that waits.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitSettings {
    messages: Option<Switch<u64>>,
    size: Option<Switch<Size>>,
    overflow: Option<OverflowWord>,
}

impl Short for LimitSettings {
    const MEMBER: &'static str = "messages";
}

/// What happens to a message for which there is no room.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum OverflowWord {
    #[serde(rename = "refuse")]
    Refuse,
    #[serde(rename = "drop-oldest", alias = "drop_oldest")]
    DropOldest,
}

impl QueueSettings {
    /// The broker's options.
    pub(crate) fn options(&self) -> QueueOptions {
        let default = QueueOptions::default();
        let (failures_max, retry) = RetrySettings::options(self.retry.as_ref());
        let dead_letter = dead_letter(self.dead_letter.as_ref());
        let buries = dead_letter != DeadLetter::None;
        let message_ttl = self.ttl.and_then(Switch::on).map(|span| span.0);
        let limit = self.limit.clone().unwrap_or_default();
        QueueOptions {
            durability: self.durability.map_or(default.durability, Into::into),
            lease: self.lease.map_or(default.lease, |span| span.0),
            failures_max,
            retry,
            order: self.order.map_or(default.order, Into::into),
            priorities: self.priorities.unwrap_or(default.priorities),
            message_ttl,
            expired_to_dead_letter: buries && message_ttl.is_some(),
            expires: self.expires.and_then(Switch::on).map(|span| span.0),
            limit: QueueLimit {
                messages: limit.messages.and_then(Switch::on),
                bytes: limit.size.and_then(Switch::on).map(|size| size.0),
                overflow: match limit.overflow {
                    Some(OverflowWord::DropOldest) => Overflow::DropOldest { dead_letter: buries },
                    Some(OverflowWord::Refuse) | None => Overflow::Refuse,
                },
            },
            single_active: self.single_active.unwrap_or(default.single_active),
            dead_letter,
            dedupe: dedupe(self.dedupe),
            message_bytes_max: self.message_max.map_or(default.message_bytes_max, |size| size.0),
            ..default
        }
    }

    /// The settings that options stand for, as far as there is a setting for them.
    pub(crate) fn of(options: &QueueOptions) -> Self {
        Self {
            durability: Some(options.durability.into()),
            lease: Some(Span(options.lease)),
            retry: Some(RetrySettings::of(options.failures_max, &options.retry)),
            order: Some(options.order.into()),
            priorities: Some(options.priorities),
            ttl: Some(options.message_ttl.map(Span).into()),
            expires: Some(options.expires.map(Span).into()),
            limit: Some(LimitSettings {
                messages: Some(options.limit.messages.into()),
                size: Some(options.limit.bytes.map(Size).into()),
                overflow: Some(match options.limit.overflow {
                    Overflow::Refuse => OverflowWord::Refuse,
                    Overflow::DropOldest { .. } => OverflowWord::DropOldest,
                }),
            }),
            single_active: Some(options.single_active),
            dead_letter: dead_letter_setting(&options.dead_letter),
            dedupe: Some(dedupe_setting(options.dedupe)),
            message_max: Some(Size(options.message_bytes_max)),
        }
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

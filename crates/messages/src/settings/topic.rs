//! The settings of a topic.

use serde::{Deserialize, Serialize};
use weft_broker::options::{Dedupe, Retention, TopicOptions};

use super::{Body, Level, Short, Size, Span, Switch, short};
use crate::schema::{Member, Object, Shape};

/// The words for when a message is acknowledged.
pub(super) const DURABILITY: Shape = Shape::Words(&["fsync", "os", "memory"]);
/// A window in which ids are known again.
pub(super) const DEDUPE: Shape = Shape::Off(&Shape::Span(1, super::AGES_MS));
/// An age.
const AGE: Shape = Shape::Off(&Shape::Span(1, super::AGES_MS));

impl Body for TopicSettings {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[
        Member::may("retention", Shape::Either(&[AGE, Shape::Object(&RETENTION)])),
        Member::may("durability", DURABILITY),
        Member::may("dedupe", DEDUPE),
        Member::may("message_max", Shape::Size(1)),
        Member::may("compact", Shape::Bool),
    ]));
}

const RETENTION: Object = Object::of(&[
    Member::may("age", AGE),
    Member::may("size", Shape::Off(&Shape::Size(0))),
    Member::may("keep_unread", Shape::Bool),
    Member::may("size_max", Shape::Off(&Shape::Size(0))),
]);

/// A topic's settings; what is left out has its default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TopicSettings {
    #[serde(deserialize_with = "short")]
    retention: Option<RetentionSettings>,
    durability: Option<Level>,
    dedupe: Option<Switch<Span>>,
    message_max: Option<Size>,
    compact: Option<bool>,
}

/// How long messages stay.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RetentionSettings {
    age: Option<Switch<Span>>,
    size: Option<Switch<Size>>,
    keep_unread: Option<bool>,
    size_max: Option<Switch<Size>>,
}

impl Short for RetentionSettings {
    const MEMBER: &'static str = "age";
}

/// The ids that are remembered of a dedupe setting.
pub(super) fn dedupe(setting: Option<Switch<Span>>) -> Option<Dedupe> {
    match setting {
        None => Some(Dedupe::default()),
        Some(switch) => switch.on().map(|span| Dedupe { time: span.0, ..Dedupe::default() }),
    }
}

/// The setting of ids that are remembered.
pub(super) fn dedupe_setting(dedupe: Option<Dedupe>) -> Switch<Span> {
    dedupe.map(|dedupe| Span(dedupe.time)).into()
}

impl TopicSettings {
    /// The broker's options.
    pub(crate) fn options(&self) -> TopicOptions {
        let default = TopicOptions::default();
        let retention = self.retention.clone().unwrap_or_default();
        TopicOptions {
            durability: self.durability.map_or(default.durability, Into::into),
            retention: Retention {
                age: retention.age.map_or(default.retention.age, |age| age.on().map(|span| span.0)),
                bytes: retention.size.and_then(Switch::on).map(|size| size.0),
                keep_unread: retention.keep_unread.unwrap_or(true),
                bytes_max: retention.size_max.and_then(Switch::on).map(|size| size.0),
            },
            dedupe: dedupe(self.dedupe),
            compact: self.compact.unwrap_or(default.compact),
            message_bytes_max: self.message_max.map_or(default.message_bytes_max, |size| size.0),
        }
    }

    /// The settings that options stand for, all of them.
    pub(crate) fn of(options: &TopicOptions) -> Self {
        let retention = &options.retention;
        Self {
            retention: Some(RetentionSettings {
                age: Some(retention.age.map(Span).into()),
                size: Some(retention.bytes.map(Size).into()),
                keep_unread: Some(retention.keep_unread),
                size_max: Some(retention.bytes_max.map(Size).into()),
            }),
            durability: Some(options.durability.into()),
            dedupe: Some(dedupe_setting(options.dedupe)),
            message_max: Some(Size(options.message_bytes_max)),
            compact: Some(options.compact),
        }
    }
}

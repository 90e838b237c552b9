//! The settings of a schedule.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use weft_broker::schedule::{Missed, ScheduleTarget, When};
use weft_kernel::{Error, Reason, Result, format_duration};

use super::{Body, Span};
use crate::{
    schema::{
        Form, Member, Object, Shape,
        text::{CRON, EVENT_TYPE, KEY, MEDIA, NAME, TIME, ZONE},
    },
    time,
};

/// Where a message goes.
pub(crate) const TO: Shape = Shape::Object(&Object {
    members: &[Member::may("topic", Shape::Text(&NAME)), Member::may("queue", Shape::Text(&NAME))],
    forms: &[
        Form { only: None, required: &["topic"], without: &["queue"] },
        Form { only: None, required: &["queue"], without: &["topic"] },
    ],
    rule: "it is one of `topic` and `queue`",
});

impl Body for ScheduleSettings {
    const SHAPE: &'static Shape = &Shape::Object(&Object {
        members: &[
            Member::may("cron", Shape::Text(&CRON)),
            Member::may("every", Shape::Span(1_000, super::YEAR_MS)),
            Member::may("at", Shape::Text(&TIME)),
            Member::may("delay", Shape::Span(0, super::YEAR_MS)),
            Member::may("time_zone", Shape::Text(&ZONE)),
            Member::must("to", TO),
            Member::may("type", Shape::Text(&EVENT_TYPE)),
            Member::may("key", Shape::Text(&KEY)),
            Member::may("data", Shape::Any),
            Member::may("content_type", Shape::Text(&MEDIA)),
            Member::may("missed", Shape::Words(&["skip", "once"])),
            Member::may("jitter", Shape::Span(0, super::YEAR_MS)),
        ],
        forms: &[
            Form { only: None, required: &["cron"], without: &["every", "at", "delay"] },
            Form { only: None, required: &["every"], without: &["cron", "at", "delay"] },
            Form {
                only: None,
                required: &["at"],
                without: &["cron", "every", "delay", "time_zone", "missed", "jitter"],
            },
            Form {
                only: None,
                required: &["delay"],
                without: &["cron", "every", "at", "time_zone", "missed", "jitter"],
            },
        ],
        rule: "a schedule has one of `cron`, `every`, `at` and `delay`; `time_zone`, `missed` and `jitter` \
               are for what recurs",
    });
}

/// A schedule's settings: one of `cron`, `every`, `at` and `delay`, a target and a message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleSettings {
    #[serde(default)]
    cron: Option<String>,
    #[serde(default)]
    every: Option<Span>,
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    delay: Option<Span>,
    #[serde(default)]
    time_zone: Option<String>,
    to: To,
    /// The `type` of the message.
    #[serde(default, rename = "type")]
    pub(crate) event_type: Option<String>,
    /// The key of the message.
    #[serde(default)]
    pub(crate) key: Option<String>,
    /// The body of the message: a JSON value, or with another `content_type` a text.
    #[serde(default)]
    pub(crate) data: Option<Box<RawValue>>,
    /// The media type of the body.
    #[serde(default)]
    pub(crate) content_type: Option<String>,
    #[serde(default)]
    missed: Option<MissedWord>,
    #[serde(default)]
    jitter: Option<Span>,
}

/// Where a message goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "EitherTo")]
pub(crate) enum To {
    /// To a topic.
    Topic(String),
    /// To a queue.
    Queue(String),
}

/// The same as it is written: the other may be null.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EitherTo {
    topic: Option<String>,
    queue: Option<String>,
}

impl TryFrom<EitherTo> for To {
    type Error = &'static str;

    fn try_from(to: EitherTo) -> Result<Self, Self::Error> {
        match (to.topic, to.queue) {
            (Some(topic), None) => Ok(Self::Topic(topic)),
            (None, Some(queue)) => Ok(Self::Queue(queue)),
            _ => Err("it is one of `topic` and `queue`"),
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MissedWord {
    Skip,
    Once,
}

impl From<To> for ScheduleTarget {
    fn from(to: To) -> Self {
        match to {
            To::Topic(name) => Self::Topic(name),
            To::Queue(name) => Self::Queue(name),
        }
    }
}

impl From<&ScheduleTarget> for To {
    fn from(target: &ScheduleTarget) -> Self {
        match target {
            ScheduleTarget::Topic(name) => Self::Topic(name.clone()),
            ScheduleTarget::Queue(name) => Self::Queue(name.clone()),
        }
    }
}

impl ScheduleSettings {
    /// Where it publishes.
    pub(crate) fn target(&self) -> ScheduleTarget {
        self.to.clone().into()
    }

    /// When it fires.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] without exactly one way to say it.
    pub(crate) fn when(&self) -> Result<When> {
        let recurring = |cron: String| When::Recurring {
            cron,
            zone: self.time_zone.clone().unwrap_or_default(),
            missed: match self.missed {
                Some(MissedWord::Skip) => Missed::Skip,
                Some(MissedWord::Once) | None => Missed::Once,
            },
            jitter: self.jitter.map_or(Duration::ZERO, |span| span.0),
        };
        let single = self.time_zone.is_none() && self.missed.is_none() && self.jitter.is_none();
        match (&self.cron, self.every, &self.at, self.delay) {
            (Some(cron), None, None, None) => Ok(recurring(cron.clone())),
            (None, Some(every), None, None) => {
                Ok(recurring(format!("@every {}", format_duration(every.0))))
            }
            (None, None, Some(at), None) if single => Ok(When::At(time::parse("at", at)?)),
            (None, None, None, Some(delay)) if single => {
                let delay = u64::try_from(delay.0.as_millis()).unwrap_or(u64::MAX);
                Ok(When::At(time::now_ms().saturating_add(delay)))
            }
            (None, None, Some(_), None) | (None, None, None, Some(_)) => Err(Error::new(
                Reason::MalformedRequest,
                "`time_zone`, `missed` and `jitter` are for what recurs",
            )),
            _ => Err(Error::new(
                Reason::MalformedRequest,
                "a schedule has one of `cron`, `every`, `at` and `delay`",
            )),
        }
    }

    /// The media type of the body.
    pub(crate) fn media(&self) -> &str {
        self.content_type.as_deref().unwrap_or("application/json")
    }

    /// The body: the JSON text itself, or the text that it holds.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] if the media type is not JSON and `data` is no text.
    pub(crate) fn body(&self) -> Result<Option<Vec<u8>>> {
        let Some(data) = &self.data else { return Ok(None) };
        if weft_wire::cloudevents::Shape::of(Some(self.media()))
            == weft_wire::cloudevents::Shape::Json
        {
            return Ok(Some(data.get().as_bytes().to_vec()));
        }
        match serde_json::from_str(data.get()) {
            Ok(Value::String(text)) => Ok(Some(text.into_bytes())),
            _ => Err(Error::new(
                Reason::MalformedRequest,
                "`data` is a text where `content_type` is not JSON",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::read;

    fn when(text: &str) -> Result<When> {
        read::<ScheduleSettings>(text.as_bytes())?.when()
    }

    #[test]
    fn there_is_one_way_to_say_when() {
        let to = r#""to": {"queue": "q"}"#;
        assert!(matches!(
            when(&format!(r#"{{"cron": "0 3 * * *", "time_zone": "Europe/Berlin", {to}}}"#)).unwrap(),
            When::Recurring { cron, zone, missed: Missed::Once, .. }
                if cron == "0 3 * * *" && zone == "Europe/Berlin"
        ));
        assert!(matches!(
            when(&format!(r#"{{"every": "5m", "missed": "skip", {to}}}"#)).unwrap(),
            When::Recurring { cron, missed: Missed::Skip, .. } if cron == "@every 5m"
        ));
        assert_eq!(
            when(&format!(r#"{{"at": "1970-01-01T00:00:01Z", {to}}}"#)).unwrap(),
            When::At(1000)
        );
        for (text, said) in [
            (format!(r#"{{{to}}}"#), "has one of"),
            (format!(r#"{{"cron": "@daily", "at": "1970-01-01T00:00:01Z", {to}}}"#), "has one of"),
            (format!(r#"{{"delay": "1s", "jitter": "1s", {to}}}"#), "for what recurs"),
            (r#"{"delay": "1s"}"#.to_owned(), "`to` is missing"),
            (r#"{"delay": "1s", "to": {"queue": "a", "topic": "b"}}"#.to_owned(), "the body"),
        ] {
            let error = when(&text).unwrap_err();
            assert!(error.said().contains(said), "{text}: {}", error.said());
        }
    }

    #[test]
    fn the_body_is_the_very_text() {
        let settings = |rest: &str| {
            let text = format!(r#"{{"delay": "1s", "to": {{"topic": "t"}}, {rest}}}"#);
            read::<ScheduleSettings>(text.as_bytes()).unwrap()
        };
        assert_eq!(
            settings(r#""data": {"b": 1,  "a": 2.50}"#).body().unwrap().unwrap(),
            br#"{"b": 1,  "a": 2.50}"#
        );
        assert_eq!(
            settings(r#""data": "hi", "content_type": "text/plain""#).body().unwrap().unwrap(),
            b"hi"
        );
        assert!(settings(r#""data": 1, "content_type": "text/plain""#).body().is_err());
        assert_eq!(settings(r#""key": "k""#).body().unwrap(), None);
    }
}

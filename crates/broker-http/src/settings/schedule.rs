//! The settings of a schedule.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use weft_broker::{
    cron::Cron,
    schedule::{Missed, ScheduleTarget, When},
};
use weft_kernel::{Error, Reason, Result, format_duration};

use weft_api::{Body, Settings};

use super::{Span, YEAR_MS};
use crate::{
    schema::{
        Fault, Form, Member, Object, Section, Setting, Shape,
        text::{CRON, EVENT_TYPE, KEY, MEDIA, NAME, TIME, ZONE},
    },
    time,
};

const SCHEDULE: Section = Section {
    name: "schedule",
    about: "A message that is published at times.",
    short: None,
    settings: &[
        Setting::may(
            "cron",
            Shape::Text(&CRON),
            "Cron expression of five or six fields, `@daily` and the like, or `@every 5m`.",
        ),
        Setting::may(
            "every",
            Shape::Span(1_000, YEAR_MS),
            "Interval; the same as `cron: @every …`.",
        ),
        Setting::may("at", Shape::Text(&TIME), "Time of a single publish.").of_the_moment(),
        Setting::may("delay", Shape::Span(0, YEAR_MS), "Delay before a single publish.")
            .of_the_moment(),
        Setting::new(
            "time_zone",
            Shape::Text(&ZONE),
            "UTC",
            "Time zone of the cron expression, such as Europe/Berlin.",
        ),
        Setting::must("to", Shape::Section(&PLACE), "Topic or queue that is published to."),
        Setting::new("type", Shape::Text(&EVENT_TYPE), "weft.schedule", "`type` of the message."),
        Setting::may("key", Shape::Text(&KEY), "Key of the message."),
        Setting::may(
            "data",
            Shape::Any,
            "Body of the message; the schedule and its message have at most 1 MiB together.",
        ),
        Setting::new(
            "content_type",
            Shape::Text(&MEDIA),
            "application/json",
            "Media type of the body.",
        ),
        Setting::new(
            "missed",
            Shape::Choice(&[
                ("skip", "nothing"),
                ("once", "one message, however many were missed"),
            ]),
            "once",
            "Treatment of occurrences that were missed while the node was down.",
        ),
        Setting::new(
            "jitter",
            Shape::Span(0, YEAR_MS),
            "0",
            "Jitter: maximum random delay of each occurrence.",
        ),
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
};

const PLACE: Section = Section {
    name: "place of messages",
    about: "Destination of messages: a topic or a queue.",
    short: Some("topic"),
    settings: &[
        Setting::may("topic", Shape::Text(&NAME), "Name of the topic."),
        Setting::may("queue", Shape::Text(&NAME), "Name of the queue."),
    ],
    forms: &[
        Form { only: None, required: &["topic"], without: &["queue"] },
        Form { only: None, required: &["queue"], without: &["topic"] },
    ],
    rule: "exactly one of `topic` and `queue` is needed",
};

/// Where a message goes, in a body where a bare name would be that of a queue.
pub(crate) const TO: Shape = Shape::Object(&Object {
    members: &[Member::may("topic", Shape::Text(&NAME)), Member::may("queue", Shape::Text(&NAME))],
    forms: &[
        Form { only: None, required: &["topic"], without: &["queue"] },
        Form { only: None, required: &["queue"], without: &["topic"] },
    ],
    rule: "exactly one of `topic` and `queue` is needed",
});

/// The members with which a schedule is shown beside its options.
const VIEW: &[&str] = &[
    "id",
    "kind",
    "at",
    "cron",
    "time_zone",
    "missed",
    "jitter",
    "to",
    "next",
    "made",
    "fired",
    "origin",
    "key",
    "event",
];

/// The settings of a schedule: one of `cron`, `every`, `at` and `delay`, a target and a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScheduleSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
    /// Where it publishes.
    pub(crate) to: Destination,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<MissedWord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<Span>,
    /// The very text of `data` as JSON.
    #[serde(skip)]
    text: Option<Box<RawValue>>,
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "EitherDestination")]
pub enum Destination {
    /// A topic.
    Topic(String),
    /// A queue.
    Queue(String),
}

/// The same as it is written: the other may be null.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EitherDestination {
    topic: Option<String>,
    queue: Option<String>,
}

impl TryFrom<EitherDestination> for Destination {
    type Error = &'static str;

    fn try_from(to: EitherDestination) -> Result<Self, Self::Error> {
        match (to.topic, to.queue) {
            (Some(topic), None) => Ok(Self::Topic(topic)),
            (None, Some(queue)) => Ok(Self::Queue(queue)),
            _ => Err("exactly one of `topic` and `queue` is needed"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MissedWord {
    Skip,
    Once,
}

impl From<Destination> for ScheduleTarget {
    fn from(to: Destination) -> Self {
        match to {
            Destination::Topic(name) => Self::Topic(name),
            Destination::Queue(name) => Self::Queue(name),
        }
    }
}

impl From<&ScheduleTarget> for Destination {
    fn from(target: &ScheduleTarget) -> Self {
        match target {
            ScheduleTarget::Topic(name) => Self::Topic(name.clone()),
            ScheduleTarget::Queue(name) => Self::Queue(name.clone()),
        }
    }
}

impl Body for ScheduleSettings {
    const SHAPE: &'static Shape = &Shape::Declared(&SCHEDULE, VIEW);

    fn with_text(&mut self, body: &[u8]) {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Data {
            data: Option<Box<RawValue>>,
            options: Option<Box<Data>>,
        }
        let Data { data, options } = serde_json::from_slice(body).unwrap_or_default();
        self.text = options.map_or(data, |options| options.data);
    }
}

impl Settings for ScheduleSettings {
    const SECTION: &'static Section = &SCHEDULE;

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let zone = self.time_zone.as_deref().unwrap_or_default();
        let zone = Cron::new("@daily", zone).map(|_| zone);
        if let Err(error) = &zone {
            faults.push(Fault::said(&["time_zone"], error.said()));
        }
        if let Some(cron) = &self.cron {
            if let Err(error) = Cron::new(cron, zone.as_ref().copied().unwrap_or_default()) {
                faults.push(Fault::said(&["cron"], error.said()));
            } else if let (Ok(_), Err(error)) =
                (&zone, self.when().and_then(|when| when.first(time::now_ms())))
            {
                let fault = Fault::said(&["cron"], error.said());
                faults.push(fault.help("write a day and a month that come together"));
            }
        }
        if let Err(error) = self.body() {
            faults.push(Fault::said(&["data"], error.said()));
        }
        faults
    }
}

impl ScheduleSettings {
    /// What it publishes to.
    pub fn to(&self) -> &Destination {
        &self.to
    }

    /// The `type` of the message.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// The key of the message.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }

    /// When it fires.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] without a way to say it.
    pub fn when(&self) -> Result<When> {
        let recurring = |cron: String| When::Recurring {
            cron,
            zone: self.time_zone.clone().unwrap_or_default(),
            missed: match self.missed {
                Some(MissedWord::Skip) => Missed::Skip,
                Some(MissedWord::Once) | None => Missed::Once,
            },
            jitter: self.jitter.map_or(Duration::ZERO, |span| span.0),
        };
        match (&self.cron, self.every, &self.at, self.delay) {
            (Some(cron), ..) => Ok(recurring(cron.clone())),
            (_, Some(every), ..) => Ok(recurring(format!("@every {}", format_duration(every.0)))),
            (_, _, Some(at), _) => Ok(When::At(time::parse("at", at)?)),
            (.., Some(delay)) => {
                let delay = u64::try_from(delay.0.as_millis()).unwrap_or(u64::MAX);
                Ok(When::At(time::now_ms().saturating_add(delay)))
            }
            _ => Err(Error::new(Reason::MalformedRequest, SCHEDULE.rule)),
        }
    }

    /// The media type of the body.
    pub fn media(&self) -> &str {
        self.content_type.as_deref().unwrap_or("application/json")
    }

    /// The body: where the media type is JSON, `data` as JSON, so that a text is a JSON text; else the very
    /// text that `data` is.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] if the media type is not JSON and `data` is no text.
    pub fn body(&self) -> Result<Option<Vec<u8>>> {
        let Some(data) = &self.data else { return Ok(None) };
        let is_json = weft_wire::cloudevents::Shape::of(Some(self.media()))
            == weft_wire::cloudevents::Shape::Json;
        match (data, &self.text) {
            (_, Some(text)) if is_json => Ok(Some(text.get().as_bytes().to_vec())),
            (data, None) if is_json => Ok(Some(data.to_string().into_bytes())),
            (Value::String(text), _) => Ok(Some(text.clone().into_bytes())),
            _ => Err(Error::new(
                Reason::MalformedRequest,
                "`data` is a text where `content_type` is not JSON",
            )),
        }
    }

    /// The settings that a schedule stands for; `event` is its message.
    pub(crate) fn of(when: &When, target: &ScheduleTarget, key: &[u8], event: &Value) -> Self {
        let text = |name: &str| event[name].as_str().map(str::to_owned);
        let (at, cron, rest) = match when {
            When::At(ms) => (Some(time::text(*ms)), None, None),
            When::Recurring { cron, zone, missed, jitter } => {
                let zone = if zone.is_empty() { "UTC" } else { zone };
                let missed = match missed {
                    Missed::Once => MissedWord::Once,
                    Missed::Skip => MissedWord::Skip,
                };
                (None, Some(cron.clone()), Some((zone.to_owned(), missed, Span(*jitter))))
            }
        };
        let data = event.get("data").cloned();
        Self {
            cron,
            every: None,
            at,
            delay: None,
            time_zone: rest.as_ref().map(|(zone, ..)| zone.clone()),
            to: target.into(),
            event_type: text("type").unwrap_or_default(),
            key: (!key.is_empty()).then(|| String::from_utf8_lossy(key).into_owned()),
            content_type: data.as_ref().and_then(|_| text("datacontenttype")),
            data,
            missed: rest.as_ref().map(|(_, missed, _)| *missed),
            jitter: rest.map(|(.., jitter)| jitter),
            text: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_api::body::read;

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

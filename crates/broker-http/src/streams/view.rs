//! Streams and events, as they are shown.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use weft_events::{Recorded, StreamInfo, StreamName, head::Life};
use weft_wire::{cloudevents::json, problem::write_json_string};

use crate::{event, time};

/// A stream.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Stream")]
pub(super) struct StreamView {
    /// Its name.
    name: String,
    /// What stands before the first hyphen of it.
    category: String,
    /// How many events it has.
    events: u64,
    /// The version of the first of them.
    first: u64,
    /// The version that the next one will have.
    next: u64,
    /// `open`, `deleted` (the next event begins it again) or `ended` (it never takes another).
    state: &'static str,
}

impl StreamView {
    pub(super) fn of(name: &StreamName, info: &StreamInfo) -> Self {
        let StreamInfo { next, first, life } = *info;
        Self {
            name: name.to_string(),
            category: name.category().to_owned(),
            events: next - first,
            first,
            next,
            state: match life {
                Life::Open => "open",
                Life::Deleted => "deleted",
                Life::Ended => "ended",
            },
        }
    }
}

/// Streams.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StreamsView {
    pub(super) streams: Vec<StreamView>,
    /// The name to go on after, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// An event of a stream.
#[derive(JsonSchema)]
#[schemars(rename = "StreamEvent")]
#[allow(dead_code, reason = "it is written by hand")]
pub(super) struct EventView {
    /// Its stream.
    stream: String,
    /// Its place in the stream, from nought.
    version: u64,
    /// Its place among all events.
    position: u64,
    /// When it was appended (RFC 3339).
    time: String,
    /// The event, as JSON of CloudEvents; null if it cannot be shown as one.
    event: Option<Map<String, Value>>,
}

/// A page of events.
#[derive(JsonSchema)]
#[schemars(rename = "StreamEvents")]
#[allow(dead_code, reason = "it is written by hand")]
pub(super) struct EventsView {
    /// The events, in the order in which they were asked for.
    events: Vec<EventView>,
    /// The version, or position among all, to go on with; left out at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// What became of appends.
#[derive(JsonSchema)]
#[schemars(rename = "StreamAppends")]
#[allow(dead_code, reason = "it is written by hand")]
pub(super) struct AppendsView {
    /// Of each, in order.
    appends: Vec<AppendView>,
    /// The position of the last event among all; left out without one that is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
}

#[derive(JsonSchema)]
#[schemars(rename = "StreamAppend")]
#[allow(dead_code, reason = "it is written by hand")]
struct AppendView {
    /// The stream.
    stream: String,
    /// The version of its first event; left out without events.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
    /// The version of its last event; left out without events.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    /// Whether they were there already, by their ids.
    known: bool,
}

/// A list of events.
pub(super) fn events(out: &mut Vec<u8>, events: &[Recorded]) {
    out.push(b'[');
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        self::event(out, event);
    }
    out.push(b']');
}

/// An event.
pub(super) fn event(out: &mut Vec<u8>, recorded: &Recorded) {
    out.push(b'{');
    text(out, "stream", recorded.stream.as_str());
    number(out, "version", recorded.version);
    number(out, "position", recorded.position);
    text(out, "time", &time::text(recorded.time_ms));
    out.extend_from_slice(b",\"event\":");
    let begun = out.len();
    let written =
        event::with(&recorded.message, recorded.position, |event, _| json::write(event, out));
    if written.is_err() {
        out.truncate(begun);
        out.extend_from_slice(b"null");
    }
    out.push(b'}');
}

/// A member that is a number.
pub(super) fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    begin(out, name);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A member that is a text.
pub(super) fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    begin(out, name);
    write_json_string(value, out);
}

fn begin(out: &mut Vec<u8>, name: &str) {
    if !matches!(out.last(), None | Some(b'{')) {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

//! Appending: the events of a request, to one stream or to several at once.

use serde::Deserialize;
use serde_json::value::RawValue;
use weft_api::{
    Body,
    schema::{Member, Object, Shape, text},
};
use weft_events::{Append, AppendBatch, AppendReceipt, Conflict, NewEvent, Rejected, StreamName};
use weft_kernel::{Error, Reason, Result};
use weft_ledger::Durability;
use weft_wire::{
    cloudevents::json,
    problem::{CONTENT_TYPE, Problem},
};

use super::{
    Ask,
    condition::{CONDITION, Condition},
    expected, expected_of, stream, view,
};
use crate::{
    api::publish::{Intake, Wish, read},
    event::{self, Origin},
    projections::token::{TOKEN, token},
    response::{Content, JSON, Response},
};

/// The most appends of a batch.
const APPENDS_MAX: usize = 1_000;

/// `POST /v1/streams/{stream}/events`
pub(super) async fn append(ask: Ask<'_>) -> Result<Response> {
    let stream = stream(&ask)?;
    let mut query = ask.query()?;
    let expected = expected(&mut query)?;
    let durability = durability(query.take("durability").as_deref())?;
    let event_type = query.take("type");
    let source = ask.request.path.strip_suffix("/events").unwrap_or(&ask.request.path);
    let intake = Intake {
        fields: &ask.request.fields,
        body: &ask.request.body,
        source,
        event_type: event_type.as_deref().unwrap_or("weft.event"),
        origin: Origin::of(&ask.request.fields, ask.request.traceparent()).correlated(),
    };
    let events = read(&intake, &Wish::default())?;
    let events = events.into_iter().map(|publish| NewEvent::new(publish.message));
    let appends = vec![Append { stream, expected, events: events.collect::<Result<_>>()? }];
    put(&ask, AppendBatch { appends, durability, ..AppendBatch::default() }).await
}

/// Events for several streams.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Several {
    appends: Vec<One>,
    condition: Option<Condition>,
    durability: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    stream: String,
    expected: Option<Wanted>,
    #[serde(default)]
    events: Vec<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Wanted {
    Version(u64),
    Word(String),
}

impl Body for Several {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[
        Member::must("appends", Shape::List(&ONE, 1, APPENDS_MAX)),
        Member::may("condition", CONDITION),
        Member::may("durability", Shape::Words(&["memory", "os", "fsync"])),
    ]));
}

const ONE: Shape = Shape::Object(&Object::of(&[
    Member::must("stream", Shape::Text(&text::NAME)),
    Member::may("expected", Shape::Any),
    Member::may("events", Shape::Any),
]));

/// `POST /v1/events`
pub(super) async fn append_all(ask: Ask<'_>) -> Result<Response> {
    let Several { appends, condition, durability: asked } = ask.body()?;
    let origin = Origin::of(&ask.request.fields, ask.request.traceparent()).correlated();
    let mut batch =
        AppendBatch { durability: durability(asked.as_deref())?, ..AppendBatch::default() };
    batch.conditions.extend(condition.map(Condition::read).transpose()?);
    for One { stream, expected, events } in &appends {
        let expected = match expected {
            None => weft_events::Expected::Any,
            Some(Wanted::Version(version)) => weft_events::Expected::Version(*version),
            Some(Wanted::Word(word)) => expected_of(word)?,
        };
        let event = |raw: &RawValue| {
            let event =
                json::parse(raw.get().as_bytes()).map_err(|fault| event::refused(&fault))?;
            NewEvent::new(event::store(event, &origin)?)
        };
        let events = events.iter().map(|raw| event(raw)).collect::<Result<_>>()?;
        batch.appends.push(Append { stream: StreamName::new(stream)?, expected, events });
    }
    put(&ask, batch).await
}

fn durability(word: Option<&str>) -> Result<Durability> {
    let unknown = || Error::new(Reason::MalformedRequest, "`durability` is memory, os or fsync");
    word.map_or(Ok(Durability::Fsync), |word| Durability::from_word(word).ok_or_else(unknown))
}

async fn put(ask: &Ask<'_>, batch: AppendBatch) -> Result<Response> {
    match ask.state.events.append(batch).await {
        Ok(receipt) => {
            // Of what was there already, whoever reads with it waits for no more than there is.
            let known = ask.state.events.next_position();
            let end = receipt.position.map_or(known, |position| position + 1);
            let token = token(ask.state.events.epoch(), end);
            Ok(Response::of(200, JSON, written(&receipt)).with(TOKEN, &token))
        }
        Err(rejected) => refusal(rejected),
    }
}

fn written(receipt: &AppendReceipt) -> Vec<u8> {
    let mut out = b"{\"appends\":[".to_vec();
    for (at, written) in receipt.written.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"{" } else { b",{" });
        view::text(&mut out, "stream", written.stream.as_str());
        let versions = &written.versions;
        if !versions.is_empty() {
            view::number(&mut out, "first", versions.start);
            view::number(&mut out, "last", versions.end - 1);
        }
        out.extend_from_slice(if written.is_known {
            b",\"known\":true}"
        } else {
            b",\"known\":false}"
        });
    }
    out.push(b']');
    if let Some(position) = receipt.position {
        view::number(&mut out, "position", position);
    }
    out.push(b'}');
    out
}

/// Tells why nothing was done; of a conflict also the events that whoever appends has not seen.
pub(super) fn refusal(rejected: Rejected) -> Result<Response> {
    let mut members = Vec::with_capacity(256);
    let events = match &rejected {
        Rejected::Failed(_) => return Err(rejected.into()),
        Rejected::Conflict(conflict) => {
            let Conflict { stream, expected, actual, events, .. } = &**conflict;
            view::text(&mut members, "stream", stream.as_str());
            view::text(&mut members, "expected", &expected.to_string());
            if let Some(actual) = actual {
                view::number(&mut members, "actual", *actual);
            }
            events
        }
        Rejected::Matched(matched) => {
            if let Some(after) = matched.after {
                view::number(&mut members, "after", after);
            }
            &matched.events
        }
    };
    if !members.is_empty() {
        members.push(b',');
    }
    members.extend_from_slice(b"\"events\":");
    view::events(&mut members, events);
    let error = Error::from(rejected);
    let problem = Problem::of(&error);
    let mut body = Vec::with_capacity(256 + members.len());
    problem.write(&mut body);
    // Members of its own stand behind those that every problem has (RFC 9457 section 3.2).
    body.pop();
    body.push(b',');
    body.append(&mut members);
    body.push(b'}');
    let mut response = Response::of(problem.status(), CONTENT_TYPE, Vec::new());
    response.content = Content::Whole(body.into());
    Ok(response)
}

//! Publishing: requests become messages, in one transaction each.

use std::{borrow::Cow, time::Duration};

use aws_lc_rs::rand;
use bytes::Bytes;
use weft_broker::{Message, Publish, engine::AnyTarget, request::INBOX};
use weft_kernel::{Error, Reason, Result};
use weft_ledger::Durability;
use weft_wire::{
    Fields, Known,
    cloudevents::{Attribute, Event, Mode, http, json},
};

use super::Ask;
use crate::{
    event::{self, CORRELATION, Origin, PARTITION_KEY},
    handle::Handle,
    query::Query,
    response::{JSON, Response},
    time,
};

/// The largest body: more would not fit into one transaction.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// The most events of a batch: what one transaction may hold.
const EVENTS_MAX: usize = 5_000;
/// The longest delay and the longest time to live.
const SPAN_MAX: Duration = Duration::from_secs(366 * 86_400);

/// What comes in, whichever way.
#[derive(Clone, Copy)]
pub(crate) struct Intake<'a> {
    /// The fields of the request.
    pub(crate) fields: &'a Fields,
    /// Its body.
    pub(crate) body: &'a [u8],
    /// The `source` of an event that is made of a body.
    pub(crate) source: &'a str,
    /// Its `type`.
    pub(crate) event_type: &'a str,
    /// What events get of the request.
    pub(crate) origin: Origin<'a>,
}

/// What a publisher may ask for beside the messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// The key of events without a partition key.
    pub(crate) key: Bytes,
    pub(crate) durability: Option<Durability>,
    pub(crate) expect: Option<u64>,
    pub(crate) due_ms: u64,
    pub(crate) ttl: Option<Duration>,
    pub(crate) priority: u8,
}

/// `POST /v1/topics/{topic}/messages`
pub(super) async fn to_topic(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let topic = ask.topic(&mut query)?;
    let (event_type, mut wish) = wish(&mut query)?;
    if let Some(expect) = ask.request.text("weft-expected-position") {
        wish.expect = Some(expect.parse().map_err(|error: std::num::ParseIntError| {
            let say = "Weft-Expected-Position is the position that the first message must get";
            Error::new(Reason::MalformedRequest, say).because(error)
        })?);
    }
    let least = topic.options().durability;
    if wish.durability.is_some_and(|asked| asked < least) {
        let say = format!("`durability` is at least {}, as the topic says", least.word());
        return Err(Error::new(Reason::MalformedRequest, say));
    }
    take(ask, &topic.into(), event_type, &wish).await
}

/// `POST /v1/queues/{queue}/messages`
pub(super) async fn to_queue(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    if ask.names.at(0).starts_with(INBOX) {
        return reply(ask);
    }
    let queue = ask.queue(&mut query)?;
    let (event_type, mut wish) = wish(&mut query)?;
    let delay = query.span("delay", SPAN_MAX)?;
    let at = query.take("at").map(|text| time::parse("at", &text)).transpose()?;
    wish.due_ms = match (delay, at) {
        (Some(_), Some(_)) => {
            let say = "`delay` and `at` say the same: give one of them";
            return Err(Error::new(Reason::MalformedRequest, say));
        }
        (Some(delay), None) => {
            time::now_ms().saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
        }
        (None, at) => at.unwrap_or(0),
    };
    wish.ttl = query.span("ttl", SPAN_MAX)?;
    wish.priority = u8::try_from(query.number("priority", 0, 9)?.unwrap_or(0)).unwrap_or(0);
    let least = queue.options().durability;
    if wish.durability.is_some_and(|asked| asked < least) {
        let say = format!("`durability` is at least {}, as the queue says", least.word());
        return Err(Error::new(Reason::MalformedRequest, say));
    }
    take(ask, &queue.into(), event_type, &wish).await
}

fn wish<'a>(query: &mut Query<'a>) -> Result<(Option<Cow<'a, str>>, Wish)> {
    let event_type = query.take("type");
    let key = query.take("key").map(|key| Bytes::copy_from_slice(key.as_bytes()));
    let durability = query.take("durability").map(|word| {
        Durability::from_word(&word).ok_or_else(|| {
            Error::new(Reason::MalformedRequest, "`durability` is memory, os or fsync")
        })
    });
    let wish = Wish {
        key: key.unwrap_or_default(),
        durability: durability.transpose()?,
        ..Wish::default()
    };
    Ok((event_type, wish))
}

async fn take(
    ask: Ask<'_>,
    target: &AnyTarget,
    event_type: Option<Cow<'_, str>>,
    wish: &Wish,
) -> Result<Response> {
    let source = ask.request.path.strip_suffix("/messages").unwrap_or(&ask.request.path);
    let intake = Intake {
        fields: &ask.request.fields,
        body: &ask.request.body,
        source,
        event_type: event_type.as_deref().unwrap_or("weft.message"),
        origin: Origin::of(&ask.request.fields, ask.request.traceparent()),
    };
    publish(ask.handle, target, &intake, wish).await
}

/// Publishes what has come in, and answers once it is kept.
///
/// # Errors
/// [`Reason::MalformedMessage`] for what is no event though it says so, and what the broker says.
pub(crate) async fn publish(
    handle: &Handle,
    target: &AnyTarget,
    intake: &Intake<'_>,
    wish: &Wish,
) -> Result<Response> {
    let messages = read(intake, wish)?;
    let count = messages.len();
    let done = handle.engines().publish(target, &messages, wish.expect).await?;
    let mut out = Vec::with_capacity(128);
    out.push(b'{');
    if let Some((first, last)) = done.stored {
        number(&mut out, "first", first);
        number(&mut out, "last", last);
    }
    number(&mut out, "count", count as u64);
    out.extend_from_slice(b"\"duplicates\":[");
    for (at, (index, position)) in done.duplicates.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"[" } else { b",[" });
        out.extend_from_slice(index.to_string().as_bytes());
        out.push(b',');
        out.extend_from_slice(position.to_string().as_bytes());
        out.push(b']');
    }
    out.extend_from_slice(b"],");
    if target.is_topic() {
        number(&mut out, "subscriptions", done.subscriptions.into());
    }
    out.extend_from_slice(b"\"durability\":\"");
    out.extend_from_slice(done.durability.word().as_bytes());
    out.extend_from_slice(b"\"}");
    Ok(Response::of(200, JSON, out))
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(value.to_string().as_bytes());
    out.push(b',');
}

/// The messages of a request: events in any of the three modes, or a body that becomes one.
pub(crate) fn read<'a>(intake: &Intake<'a>, wish: &Wish) -> Result<Vec<Publish>> {
    let content_type = intake.fields.get_str(Known::ContentType).unwrap_or_default();
    let refused = |fault| event::refused(&fault);
    match Mode::of(content_type) {
        None => Err(Error::new(
            Reason::MalformedMessage,
            "of the formats of CloudEvents only JSON is read here",
        )),
        Some(Mode::Structured) => {
            let event = json::parse(intake.body).map_err(refused)?;
            Ok(vec![one(event, intake, wish)?])
        }
        Some(Mode::Batch) => {
            let events = json::parse_batch(intake.body, EVENTS_MAX).map_err(refused)?;
            events.into_iter().map(|event| one(event, intake, wish)).collect()
        }
        Some(Mode::Binary) if http::is_event(intake.fields.iter().map(|(name, _)| name)) => {
            let event = http::parse(intake.fields.iter(), intake.body).map_err(refused)?;
            Ok(vec![one(event, intake, wish)?])
        }
        Some(Mode::Binary) => {
            let event = Event {
                id: id()?.into(),
                source: intake.source.into(),
                kind: intake.event_type.into(),
                time: Some(time::text(time::now_ms()).into()),
                data_content_type: Some(content_type)
                    .filter(|text| !text.is_empty())
                    .map(Cow::Borrowed),
                data: (!intake.body.is_empty()).then_some(Cow::Borrowed(intake.body)),
                ..Event::default()
            };
            event.check().map_err(refused)?;
            Ok(vec![Publish { new_id: true, ..one(event, intake, wish)? }])
        }
    }
}

fn one<'a>(event: Event<'a>, intake: &Intake<'a>, wish: &Wish) -> Result<Publish> {
    let key = match event.extension(PARTITION_KEY) {
        Some(Attribute::Text(key)) => Bytes::copy_from_slice(key.as_bytes()),
        _ => wish.key.clone(),
    };
    Ok(Publish {
        key,
        due_ms: wish.due_ms,
        ttl: wish.ttl,
        priority: wish.priority,
        durability: wish.durability,
        ..Publish::new(event::store(event, &intake.origin)?)
    })
}

/// A new id: 128 random bits in hexadecimal.
fn id() -> Result<String> {
    let mut bits = [0; 16];
    rand::fill(&mut bits)
        .map_err(|_error| Error::new(Reason::Internal, "there are no random bits"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bits)))
}

/// The one message of a request, for who sends a request and waits for its reply.
pub(super) fn single(ask: &Ask<'_>, event_type: Option<&str>, key: Bytes) -> Result<Publish> {
    let intake = Intake {
        fields: &ask.request.fields,
        body: &ask.request.body,
        source: ask.request.path.strip_suffix("/request").unwrap_or(&ask.request.path),
        event_type: event_type.unwrap_or("weft.request"),
        // A reply is known by a correlation id of its own.
        origin: Origin::traced(ask.request.traceparent()),
    };
    let mut messages = read(&intake, &Wish { key, ..Wish::default() })?;
    match (messages.pop(), messages.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(Error::new(Reason::MalformedMessage, "a request is one event, not a batch")),
    }
}

/// A reply: handed to whoever waits for it, and kept nowhere.
fn reply(ask: Ask<'_>) -> Result<Response> {
    let Publish { message, .. } = single(&ask, Some("weft.reply"), Bytes::new())?;
    let correlation = correlation(&message).or_else(|| ask.request.text("weft-correlation-id"));
    let correlation = correlation.ok_or_else(|| {
        let say = "a reply has the `correlationid` of its request";
        Error::new(Reason::MalformedMessage, say)
    })?;
    let correlation = correlation.to_owned();
    if ask.handle.engines().embedded().reply(ask.names.at(0), &correlation, message) {
        return Ok(Response::empty(204));
    }
    Err(Error::new(Reason::NoListener, "nobody waits for this reply any more"))
}

fn correlation(message: &Message) -> Option<&str> {
    message.event()?.get(CORRELATION)?.as_text()
}

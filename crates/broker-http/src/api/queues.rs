//! Queues: declared, seen, looked into, emptied, deleted.

use serde::Deserialize;
use serde_json::{Value, json};
use weft_api::Settings as _;
use weft_broker::{
    Death, Peeked, QueueOptions, RedriveOptions, State,
    engine::{AnyQueue, AnyTarget, Engines},
};
use weft_kernel::{Error, Reason, Result};
use weft_ledger::Limits;

use super::{
    Ask, ask, receive,
    view::{Attempt, Dead, Purged, QueueView, Redriven},
};
use crate::{
    body::{self, Body},
    handle::is_declared,
    response::{JSON, Response},
    schema::{
        Member, Object, Shape,
        text::{KEY, NAME},
    },
    settings::{
        queue::QueueSettings,
        schedule::{Destination, TO},
        subscription::{FILTER, FilterSettings},
    },
    time,
};
use weft_wire::problem::write_json_string as text;

/// How many messages one look shows.
pub(super) const PEEK_MAX: u64 = 1_000;
/// With so many bytes an answer ends.
const BYTES_MAX: usize = 8 << 20;
/// The words for how a message stands.
pub(super) const STATES: [&str; 4] = ["ready", "blocked", "leased", "waiting"];

/// `GET /v1/queues`
pub(super) async fn list(ask: Ask<'_>) -> Result<Response> {
    let engines = ask.handle.engines();
    let view = |queue: AnyQueue| async move {
        let told = ask::numbers(engines.queue_view(&queue).await)?;
        Ok(told.map(|(stats, away)| shown(&queue, &stats, away)))
    };
    ask::list(&ask, "queues", engines.queues(), |queue| &queue.key().space, view).await
}

/// `GET /v1/queues/{queue}`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let queue = ask.queue(&mut query)?;
    Response::json(200, &view(ask.handle.engines(), &queue).await?)
}

/// `PUT /v1/queues/{queue}`
pub(super) async fn put(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let key = ask.key(&mut query)?;
    let change = ask::change(&mut query)?;
    let settings: QueueSettings = ask.body()?;
    let engines = ask.handle.engines();
    if let Ok(was) = engines.queue(&key) {
        let options = was.options();
        // To declare it again is to use it, and what belongs to a connection is nobody else's.
        let own = QueueOptions { exclusive: None, ..options.clone() };
        engines.declare_queue(&key, own).await?;
        let is = QueueSettings::of(&options);
        if is != settings {
            body::refuse(&settings.faults())?;
            ask.may_change(
                &format!("queue {key}"),
                ask.handle.declared().queues.contains(&key),
                change,
                &is,
                &settings,
            )?;
            engines.alter_queue(&was, settings.options_over(options)).await?;
        }
        return Response::json(200, &view(engines, &was).await?);
    }
    body::refuse(&settings.faults())?;
    let queue = engines.declare_queue(&key, settings.options()).await?;
    Response::json(201, &view(engines, &queue).await?)
}

/// `DELETE /v1/queues/{queue}`
pub(super) async fn delete(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let key = ask.key(&mut query)?;
    if ask.handle.declared().queues.contains(&key) {
        return Err(is_declared(&format!("queue {key}")));
    }
    let engines = ask.handle.engines();
    engines.delete_queue(&engines.queue(&key)?).await?;
    Ok(Response::empty(204))
}

/// `GET /v1/queues/{queue}/messages`
pub(super) async fn peek(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let queue = ask.queue(&mut query)?;
    let from = query.number("from", 0, u64::MAX)?.unwrap_or(0);
    let max = query.number("max", 1, PEEK_MAX)?.unwrap_or(100);
    let state = query.take("state");
    if let Some(state) = state.as_deref()
        && !STATES.contains(&state)
    {
        let say = "`state` is ready, blocked, leased or waiting";
        return Err(Error::new(Reason::MalformedRequest, say));
    }
    let engines = ask.handle.engines();
    let mut left = u32::try_from(max).unwrap_or(u32::MAX);
    let mut next = from;
    let mut out = b"{\"messages\":[".to_vec();
    let mut first = true;
    while left > 0 && out.len() < BYTES_MAX {
        let limits = Limits { records: left, ..Limits::default() };
        let peeked = match engines.peek(&queue, next, limits).await {
            Ok(peeked) => peeked,
            // Who goes on from there is told why it fails.
            Err(_) if next > from => break,
            Err(error) => return Err(error),
        };
        let Some(last) = peeked.last() else { break };
        next = last.position + 1;
        left = left.saturating_sub(u32::try_from(peeked.len()).unwrap_or(u32::MAX));
        for message in &peeked {
            if state.as_deref().is_some_and(|wanted| wanted != word(message.state)) {
                continue;
            }
            if !first {
                out.push(b',');
            }
            first = false;
            write(&mut out, message, false);
        }
    }
    out.extend_from_slice(b"],\"next\":");
    out.extend_from_slice(next.to_string().as_bytes());
    out.push(b'}');
    Ok(Response::of(200, JSON, out))
}

/// `GET /v1/queues/{queue}/messages/{position}`
pub(super) async fn one(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let queue = ask.queue(&mut query)?;
    let missing =
        || Error::new(Reason::NoMessage, format!("there is no message {} here", ask.names.at(1)));
    let position: u64 = ask.names.at(1).parse().map_err(|_error| missing())?;
    let one = Limits { records: 1, bytes: 1 };
    let peeked = ask.handle.engines().peek(&queue, position, one).await?;
    let message = peeked.first().filter(|found| found.position == position).ok_or_else(missing)?;
    let mut out = Vec::with_capacity(1024);
    write(&mut out, message, true);
    Ok(Response::of(200, JSON, out))
}

/// `DELETE /v1/queues/{queue}/messages`
pub(super) async fn purge(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let queue = ask.queue(&mut query)?;
    let confirm = query.take("confirm");
    if confirm.as_deref() != Some(&*queue.key().name) {
        let say = "to drop every message that nobody holds, say the queue's name: `?confirm=NAME`";
        return Err(Error::new(Reason::MalformedRequest, say));
    }
    let purged = ask.handle.engines().purge(&queue).await?;
    Response::json(200, &Purged { purged })
}

/// How dead letters are sent on.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RedriveSettings {
    filter: Option<FilterSettings>,
    key: Option<String>,
    rate: Option<u32>,
    max: Option<u64>,
    dry_run: Option<bool>,
    to: Option<ToOrQueue>,
}

impl Body for RedriveSettings {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[
        Member::may("filter", FILTER),
        Member::may("key", Shape::Text(&KEY)),
        Member::may("rate", Shape::Int(1, u32::MAX as u64)),
        Member::may("max", Shape::Int(0, u64::MAX)),
        Member::may("dry_run", Shape::Bool),
        Member::may("to", Shape::Either(&[Shape::Text(&NAME), TO])),
    ]));
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ToOrQueue {
    Queue(String),
    To(Destination),
}

/// `POST /v1/queues/{queue}/redrive`
pub(super) async fn redrive(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let queue = ask.queue(&mut query)?;
    let asked: RedriveSettings = ask.body()?;
    let engines = ask.handle.engines();
    let target: Option<AnyTarget> = match asked.to {
        None => None,
        Some(ToOrQueue::Queue(name) | ToOrQueue::To(Destination::Queue(name))) => {
            Some(engines.queue(&queue.key().sibling(&name)?)?.into())
        }
        Some(ToOrQueue::To(Destination::Topic(name))) => {
            Some(engines.topic(&queue.key().sibling(&name)?)?.into())
        }
    };
    let options = RedriveOptions {
        filter: asked.filter.unwrap_or_default().options(),
        key: asked.key.map(Into::into),
        max: asked.max,
        per_second: asked.rate,
        dry_run: asked.dry_run.unwrap_or_default(),
        ..RedriveOptions::default()
    };
    let dry_run = options.dry_run;
    let done = engines.redrive(&queue, target.as_ref(), options).await?;
    let told = Redriven { redriven: done.redriven, left: done.left, dry_run };
    Response::json(200, &told)
}

fn word(state: State) -> &'static str {
    match state {
        State::Ready => "ready",
        State::Blocked => "blocked",
        State::Leased => "leased",
        State::Waiting(_) => "waiting",
    }
}

/// Appends a message as it stands in a queue; with each attempt that failed if `whole`.
fn write(out: &mut Vec<u8>, peeked: &Peeked, whole: bool) {
    out.extend_from_slice(b"{\"state\":");
    text(word(peeked.state), out);
    for (name, ms) in [
        ("due", if let State::Waiting(due_ms) = peeked.state { due_ms } else { 0 }),
        ("expires", peeked.expires_ms),
    ] {
        if ms > 0 {
            out.push(b',');
            text(name, out);
            out.push(b':');
            text(&time::text(ms), out);
        }
    }
    let numbers = format!(
        ",\"handouts\":{},\"failures\":{},\"priority\":{},",
        peeked.handouts, peeked.failures, peeked.priority
    );
    out.extend_from_slice(numbers.as_bytes());
    let message = peeked.message.as_ref();
    receive::stored(out, peeked.position, peeked.published_ms, &peeked.key, message);
    let death = message.and_then(|message| message.death());
    let mut more = serde_json::Map::new();
    if let Some(death) = &death {
        more.insert("dead".into(), json!(dead(death)));
    }
    if whole {
        let history = death.as_ref().map_or(&peeked.history, |death| &death.history);
        let attempts: Vec<Value> = history
            .attempts()
            .map(|attempt| {
                json!(Attempt {
                    time: time::text(attempt.at_ms),
                    ended: attempt.ended.word(),
                    reason: attempt.reason.to_string(),
                })
            })
            .collect();
        more.insert("attempts".into(), attempts.into());
    }
    for (name, value) in more {
        out.push(b',');
        text(&name, out);
        out.push(b':');
        out.extend_from_slice(value.to_string().as_bytes());
    }
    out.push(b'}');
}

/// What happened to a dead letter.
fn dead(death: &Death) -> Dead {
    Dead {
        cause: death.cause.word(),
        reason: death.reason.to_string(),
        from: death.origin.text(),
        position: death.position,
        published: time::text(death.published_ms),
        died: time::text(death.died_ms),
        failures: death.failures.into(),
        handouts: death.handouts.into(),
    }
}

async fn view(engines: &Engines, queue: &AnyQueue) -> Result<QueueView> {
    let stats = engines.queue_view(queue).await?;
    Ok(shown(queue, &stats, None))
}

/// A queue with its numbers, or why there are none.
fn shown(
    queue: &AnyQueue,
    stats: &weft_broker::QueueView,
    unavailable: Option<String>,
) -> QueueView {
    let counts = stats.counts;
    QueueView {
        name: queue.key().name.to_string(),
        engine: queue.engine().to_owned(),
        unavailable,
        options: QueueSettings::of(&queue.options()),
        ready: stats.ready,
        leased: stats.leased,
        waiting: stats.waiting,
        bytes: stats.bytes,
        oldest: (stats.oldest_ms > 0).then(|| time::text(stats.oldest_ms)),
        consumers: stats.consumers,
        dead_letters_waiting: stats.dead_letters_waiting,
        lost: stats.lost,
        parked_keys: stats.parked,
        published: counts.published,
        duplicates: counts.duplicates,
        delivered: counts.delivered,
        accepted: counts.accepted,
        failed: counts.failed,
        rejected: counts.rejected,
        dead_lettered: counts.dead_lettered,
        expired: counts.expired,
        dropped: counts.dropped,
    }
}

//! Reading streams: what there is, page by page, and what comes, as server-sent events.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::stream as chunks;
use weft_events::{
    Direction, EventStore, Follower, PageLimits, Recorded, StreamName,
    follow::{Followed, Told},
};
use weft_kernel::{Error, Reason, Result};
use weft_net::Stop;

use super::{
    Ask, stream,
    view::{self, StreamView, StreamsView},
};
use crate::{
    query::Query,
    response::{EVENT_STREAM, JSON, Response},
    sse,
};

/// The most events of a page, and those that it has unless more are asked for.
pub(super) const MAX: u64 = 10_000;
const PAGE: u64 = 100;
/// How much of them.
const BYTES: u64 = 8 << 20;
/// The most streams of a page.
pub(super) const STREAMS_MAX: u64 = 1_000;
/// What is told of who has been told all that there was.
const CAUGHT_UP: &str = "weft.caught-up";

/// `GET /v1/streams`
pub(super) async fn list(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let (prefix, after) = (query.take("prefix").unwrap_or_default(), query.take("after"));
    let max = query.number("max", 1, STREAMS_MAX)?.unwrap_or(PAGE);
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let mut found = ask.state.events.streams(&prefix, after.as_deref(), max + 1).await?;
    let is_more = found.len() > max;
    found.truncate(max);
    let next = found.last().filter(|_| is_more).map(|(name, _)| name.to_string());
    let streams = found.iter().map(|(name, info)| StreamView::of(name, info)).collect();
    Response::json(200, &StreamsView { streams, next })
}

/// `GET /v1/streams/{stream}`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    let name = stream(&ask)?;
    let info = ask.state.events.stream(&name).await?.ok_or_else(|| absent(&name))?;
    Response::json(200, &StreamView::of(&name, &info))
}

fn absent(name: &StreamName) -> Error {
    Error::new(Reason::NotFound, format!("there is no stream `{name}`"))
}

/// `GET /v1/streams/{stream}/events`
pub(super) async fn read(ask: Ask<'_>) -> Result<Response> {
    let name = stream(&ask)?;
    let asked = Asked::of(&ask)?;
    if asked.follows {
        let next = ask.state.events.stream(&name).await?.map_or(0, |info| info.next);
        let from = asked.begin(next)?;
        return Ok(follow(&ask, Followed::Stream { name, from }, false));
    }
    let from = asked.from();
    let page = ask.state.events.read(&name, from, asked.direction, asked.limits).await?;
    Ok(shown(&page.events, page.next))
}

/// `GET /v1/events`
pub(super) async fn read_all(ask: Ask<'_>) -> Result<Response> {
    let asked = Asked::of(&ask)?;
    if asked.follows {
        let from = asked.begin(ask.state.events.next_position())?;
        return Ok(follow(&ask, Followed::All { from }, true));
    }
    let page = ask.state.events.read_all(asked.from(), asked.direction, asked.limits).await?;
    Ok(shown(&page.events, page.next))
}

/// What of events is asked for.
struct Asked {
    /// The version or position to begin with; where it begins or ends without one.
    from: Option<u64>,
    direction: Direction,
    limits: PageLimits,
    /// Whether what comes is asked for.
    follows: bool,
    /// The last that a client has seen that comes again.
    last: Option<u64>,
}

impl Asked {
    fn of(ask: &Ask<'_>) -> Result<Self> {
        let mut query: Query<'_> = ask.query()?;
        let follows = ask.request.accepts(EVENT_STREAM);
        let from = match query.take("from").as_deref() {
            None | Some("start") => None,
            Some("end") => Some(u64::MAX),
            Some(number) => Some(number.parse().map_err(|error: std::num::ParseIntError| {
                let say = "`from` is start, end, or a number";
                Error::new(Reason::MalformedRequest, say).because(error)
            })?),
        };
        let direction = match query.take("direction").as_deref() {
            None | Some("forward") => Direction::Forward,
            Some("backward") => Direction::Backward,
            Some(_) => {
                let say = "`direction` is forward or backward";
                return Err(Error::new(Reason::MalformedRequest, say));
            }
        };
        let max = query.number("max", 1, MAX)?;
        if follows && (max.is_some() || direction == Direction::Backward) {
            let say = "`max` and `direction=backward` are for pages";
            return Err(Error::new(Reason::MalformedRequest, say));
        }
        let events = usize::try_from(max.unwrap_or(PAGE)).unwrap_or(usize::MAX);
        let last = match ask.request.text("last-event-id").filter(|_| follows).map(str::parse) {
            None => None,
            Some(Ok(last)) => Some(last),
            Some(Err(_)) => {
                let say = "Last-Event-ID is the number of the last event that came";
                return Err(Error::new(Reason::MalformedRequest, say));
            }
        };
        Ok(Self { from, direction, limits: PageLimits { events, bytes: BYTES }, follows, last })
    }

    /// Where a page begins.
    fn from(&self) -> u64 {
        let beginning = match self.direction {
            Direction::Forward => 0,
            Direction::Backward => u64::MAX,
        };
        self.from.unwrap_or(beginning)
    }

    /// Where who follows begins, if the next event has this number.
    fn begin(&self, next: u64) -> Result<u64> {
        match self.last {
            // A client that comes again knows best where it was.
            Some(last) if last >= next => {
                let say = format!(
                    "Last-Event-ID is {last}, and there are events up to {next}: they were restored or made \
                     anew, so begin without one"
                );
                Err(Error::new(Reason::PositionConflict, say))
            }
            Some(last) => Ok(last + 1),
            None => Ok(self.from.unwrap_or(0).min(next)),
        }
    }
}

fn shown(events: &[Recorded], next: Option<u64>) -> Response {
    let mut out = b"{\"events\":".to_vec();
    view::events(&mut out, events);
    if let Some(next) = next {
        view::number(&mut out, "next", next);
    }
    out.push(b'}');
    Response::of(200, JSON, out).with("cache-control", "no-store")
}

/// Tells events as they come.
fn follow(ask: &Ask<'_>, followed: Followed, is_all: bool) -> Response {
    let events: &EventStore = &ask.state.events;
    let follower = events.follow(followed, PageLimits { events: 256, bytes: 1 << 20 });
    let ready = VecDeque::from([sse::HELLO]);
    let state = Following { follower, ready, stop: ask.state.stop.clone(), is_all };
    let chunks = chunks::unfold(Some(state), |state| async {
        let mut state = state?;
        match state.next().await {
            Ok(chunk) => Some((Ok(chunk?), Some(state))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Response::stream(EVENT_STREAM, Box::pin(chunks))
}

struct Following {
    follower: Follower,
    ready: VecDeque<Bytes>,
    stop: Stop,
    /// Whether events are numbered by their position.
    is_all: bool,
}

impl Following {
    /// The next piece; `None` at the drain.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(ready) = self.ready.pop_front() {
            return Ok(Some(ready));
        }
        let told = tokio::select! {
            biased;
            () = self.stop.draining() => return Ok(None),
            told = tokio::time::timeout(sse::HEARTBEAT, self.follower.next()) => told,
        };
        let Ok(told) = told else { return Ok(Some(sse::ALIVE)) };
        let mut out = Vec::with_capacity(512);
        match told? {
            Told::CaughtUp => sse::write(&mut out, "", CAUGHT_UP, b"{}"),
            Told::Event(event) => {
                let number = if self.is_all { event.position } else { event.version };
                let mut data = Vec::with_capacity(512);
                view::event(&mut data, &event);
                let kind = event.message.event().map_or("", |event| event.kind());
                sse::write(&mut out, &number.to_string(), kind, &data);
            }
        }
        Ok(Some(out.into()))
    }
}

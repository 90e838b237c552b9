//! Reading streams: what there is, page by page, and what comes, as server-sent events.

use std::sync::Arc;

use bytes::Bytes;
use weft_events::{
    EventStore, Follower, Page, PageLimits, StreamName,
    follow::{Followed, Told},
    head::Life,
};
use weft_kernel::{Error, Reason, Result};

use super::{
    Ask,
    asked::{Asked, Of},
    stream,
    view::{self, StreamView, StreamsView},
};
use crate::{
    response::{JSON, Response},
    sse,
};

/// The most events of a page, and those that it has unless more are asked for.
pub(super) const MAX: u64 = 10_000;
pub(super) const PAGE: u64 = 100;
/// How much of them: an answer is made whole, and stays until its client has read it.
pub(super) const BYTES: u64 = 1 << 20;
/// What a follower holds ahead of its client.
const AHEAD: PageLimits = PageLimits { events: 64, bytes: 128 << 10, before: u64::MAX };
/// The most streams of a page.
pub(super) const STREAMS_MAX: u64 = 1_000;
/// What is told of who has been told all that there was.
const CAUGHT_UP: &str = "weft.caught-up";
/// A page without anything.
const NOTHING: Page = Page { events: Vec::new(), next: None };

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
    let asked = Asked::of(&ask, false)?;
    let store = &ask.state.events;
    let bounds = asked.bounds(store, Of::Stream(&name)).await?;
    if asked.follows {
        let next = store.stream(&name).await?.map_or(0, |info| info.next);
        let from = asked.begin(&bounds, next)?;
        return Ok(follow(&ask, Followed::Stream { name, from }, false));
    }
    let Some((from, limits)) = asked.page(&bounds) else {
        // A stream that is not there is told as such, whatever is asked of it.
        let is_there = store.stream(&name).await?.is_some_and(|info| info.life == Life::Open);
        return if is_there { Ok(shown(&NOTHING)) } else { Err(absent(&name)) };
    };
    let page = store.read(&name, from, asked.direction, limits).await?;
    if page.events.is_empty() {
        asked.is_there(store.stream(&name).await?.map_or(0, |info| info.next))?;
    }
    Ok(shown(&bounds.within(page, &Of::Stream(&name))))
}

/// `GET /v1/events`
pub(super) async fn read_all(ask: Ask<'_>) -> Result<Response> {
    let mut asked = Asked::of(&ask, true)?;
    let store = &ask.state.events;
    let bounds = asked.bounds(store, Of::All).await?;
    let events = asked.events.take();
    if asked.follows {
        let from = asked.begin(&bounds, store.next_position())?;
        let followed = match events {
            Some(query) => Followed::Matching { query: Arc::new(query), from },
            None => Followed::All { from },
        };
        return Ok(follow(&ask, followed, true));
    }
    let Some((from, limits)) = asked.page(&bounds) else {
        return Ok(shown(&NOTHING));
    };
    asked.is_there(store.next_position())?;
    let page = match &events {
        Some(query) => store.read_by(query, from, asked.direction, limits).await?,
        None => store.read_all(from, asked.direction, limits).await?,
    };
    Ok(shown(&bounds.within(page, &Of::All)))
}

fn shown(page: &Page) -> Response {
    let mut out = b"{\"events\":".to_vec();
    view::events(&mut out, &page.events);
    if let Some(next) = page.next {
        view::number(&mut out, "next", next);
    }
    out.push(b'}');
    Response::of(200, JSON, out).with("cache-control", "no-store")
}

/// Tells events as they come.
fn follow(ask: &Ask<'_>, followed: Followed, is_all: bool) -> Response {
    let events: &EventStore = &ask.state.events;
    let follower = events.follow(followed, AHEAD);
    sse::response(Following { follower, is_all }, ask.state.stop.clone())
}

struct Following {
    follower: Follower,
    /// Whether events are numbered by their position.
    is_all: bool,
}

impl sse::Teller for Following {
    async fn next(&mut self) -> Result<Bytes> {
        let told = self.follower.next().await?;
        let mut out = Vec::with_capacity(512);
        match told {
            Told::CaughtUp => sse::write(&mut out, "", CAUGHT_UP, b"{}"),
            Told::Event(event) => {
                let number = if self.is_all { event.position } else { event.version };
                let mut data = Vec::with_capacity(512);
                view::event(&mut data, &event);
                let kind = event.message.event().map_or("", |event| event.kind());
                sse::write(&mut out, &number.to_string(), kind, &data);
            }
        }
        Ok(out.into())
    }
}

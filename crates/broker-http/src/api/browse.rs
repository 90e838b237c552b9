//! Reading a topic without a subscription: pages, replays and tails.

use std::{borrow::Cow, collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use weft_broker::{
    Browsed, Start,
    engine::{AnyTopic, Engines},
    filter::Filter,
};
use weft_kernel::{Error, Reason, Result};
use weft_ledger::Limits;
use weft_net::Stop;

use super::{Ask, receive};
use crate::{
    event,
    response::{EVENT_STREAM, JSON, LINES, Response},
    settings::subscription::{FilterSettings, start},
    sse,
};

/// How many messages one page has.
pub(super) const MAX: u64 = 10_000;
/// The longest poll.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How much is read at once.
const READ_RECORDS: u32 = 1_000;
const READ_BYTES: u64 = 1 << 20;
/// How many messages one page looks at to find what its filter takes.
const LOOKED_MAX: u64 = if cfg!(test) { 4_000 } else { 100_000 };

/// Messages that are no longer there: from a position up to the first that is kept behind it.
#[derive(Clone, Copy)]
struct Gap {
    from: u64,
    first: u64,
}

impl Gap {
    /// As the data of an event, the member of a page, or a line.
    fn to_json(self) -> String {
        format!("{{\"from\":{},\"first\":{}}}", self.from, self.first)
    }
}

/// What was read.
enum Read {
    /// Some messages, with the ones that the filter does not take left out.
    Messages(Vec<Browsed>),
    /// Nothing: what would come next has gone.
    Gap(Gap),
    /// Nothing: the present end.
    End,
}

/// What of a topic is read.
struct Reader {
    engines: Engines,
    topic: AnyTopic,
    /// The next position to be read.
    next: u64,
    /// Whether somebody counts on what stands there: it was named, or what is before it was read.
    is_named: bool,
    /// What was read of it already, behind a gap.
    ahead: Vec<Browsed>,
    /// How many messages were looked at.
    looked: u64,
    filter: Option<Arc<Filter>>,
}

impl Reader {
    /// Some messages from the next position on. Retention may pass whoever reads, at any time: what has
    /// gone is told before what comes behind it.
    async fn read(&mut self, records: u32, bytes: u64) -> Result<Read> {
        let mut stored = std::mem::take(&mut self.ahead);
        if stored.is_empty() {
            let limits = Limits { records, bytes };
            stored = self.engines.browse(&self.topic, self.next, limits).await?;
        }
        let begins = stored.first().map(|stored| stored.position);
        if begins != Some(self.next)
            && let Some(gap) = self.gap(begins).await?
        {
            self.next = gap.first;
            if std::mem::replace(&mut self.is_named, true) {
                self.ahead = stored;
                return Ok(Read::Gap(gap));
            }
        }
        if let Some(begins) = begins.filter(|_| !self.topic.options().compact) {
            let follows = |(stored, at): &(&Browsed, u64)| stored.position == *at;
            let whole = stored.iter().zip(begins..).take_while(follows).count();
            self.ahead = stored.split_off(whole);
        }
        let Some(last) = stored.last() else { return Ok(Read::End) };
        self.is_named = true;
        self.next = last.position + 1;
        self.looked += stored.len() as u64;
        if let Some(filter) = &self.filter {
            stored.retain(|stored| {
                // What is damaged is shown to be, whatever it was.
                stored.message.as_ref().is_none_or(|message| filter.takes(message))
            });
            if stored.is_empty() {
                // What is at hand is read without waiting, and others want their turn.
                tokio::task::yield_now().await;
            }
        }
        Ok(Read::Messages(stored))
    }

    /// What has gone between the next position and the first message behind it. What a compacted topic
    /// does not keep between its messages was replaced, and is no gap.
    async fn gap(&self, first: Option<u64>) -> Result<Option<Gap>> {
        let from = self.next;
        if let Some(first) = first.filter(|first| *first <= from || !self.topic.options().compact) {
            return Ok((first > from).then_some(Gap { from, first }));
        }
        let kept = self.engines.topic_view(&self.topic).await?.first;
        let first = first.map_or(kept, |first| first.min(kept));
        Ok((first > from).then_some(Gap { from, first }))
    }
}

/// `GET /v1/topics/{topic}/messages`
pub(super) async fn browse(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let topic = ask.topic(&mut query)?;
    let tails = ask.request.accepts(EVENT_STREAM);
    let lines = ask.request.accepts(LINES);
    let from = query.take("from");
    let max = query.number("max", 1, MAX)?;
    let wait = query.span("wait", WAIT_MAX)?;
    let filter = query.take("filter").map(Cow::into_owned);
    if (tails || lines) && wait.is_some() || tails && max.is_some() {
        let say = "`wait` is for pages, and `max` for pages and replays";
        return Err(Error::new(Reason::MalformedRequest, say));
    }
    let filter = filter
        .map(|text| FilterSettings::expression(text).options().compile().map(Arc::new))
        .transpose()?;
    // A client that comes again knows best where it was.
    let resumed = if tails { ask.request.text("last-event-id") } else { None };
    let engines = ask.handle.engines().clone();
    let (next, is_named) = match resumed.map(str::parse::<u64>) {
        Some(Ok(last)) => {
            let next = last.saturating_add(1);
            let view = engines.topic_view(&topic).await?;
            if next > view.end {
                return Err(ahead(&topic, view.end, last));
            }
            (next, true)
        }
        Some(Err(_)) => {
            let say = "Last-Event-ID is the position of the last message that came";
            return Err(Error::new(Reason::MalformedRequest, say));
        }
        None => {
            let from = match from.as_deref() {
                None if tails => Start::Next,
                None => Start::First,
                Some(text) => start("from", text)?,
            };
            let is_named = matches!(from, Start::Position(_));
            (engines.position(&topic, from).await?, is_named)
        }
    };
    let reader = Reader { engines, topic, next, is_named, ahead: Vec::new(), looked: 0, filter };
    if tails {
        let ready = VecDeque::from([sse::HELLO]);
        let tail = Tail { reader, ready, stop: ask.handle.stop().clone() };
        let chunks = stream::unfold(Some(tail), |tail| async {
            let mut tail = tail?;
            match tail.next().await {
                Ok(chunk) => Some((Ok(chunk?), Some(tail))),
                Err(error) => Some((Err(error), None)),
            }
        });
        return Ok(Response::stream(EVENT_STREAM, Box::pin(chunks)));
    }
    if lines {
        return Ok(Response::stream(LINES, Box::pin(replay(reader, max.unwrap_or(u64::MAX)))));
    }
    page(&ask, reader, max.unwrap_or(100), wait.unwrap_or_default()).await
}

/// That a client has seen more than there is: the topic was restored, or made anew.
fn ahead(topic: &AnyTopic, end: u64, last: u64) -> Error {
    let say = format!(
        "Last-Event-ID is {last}, and topic {} ends at {end}: it was restored or made anew, so begin \
         without one",
        topic.key()
    );
    Error::new(Reason::PositionConflict, say)
}

async fn page(ask: &Ask<'_>, mut reader: Reader, max: u64, wait: Duration) -> Result<Response> {
    let mut out = b"{\"messages\":[".to_vec();
    let mut left = max;
    let (begins, mut gap) = (reader.next, None);
    let until = tokio::time::Instant::now() + wait;
    loop {
        let records = u32::try_from(left).unwrap_or(READ_RECORDS).min(READ_RECORDS);
        match reader.read(records, READ_BYTES).await? {
            Read::Gap(found) if found.from == begins => gap = Some(found),
            // A page tells of one gap, and that is before its messages: the next one begins there.
            Read::Gap(found) => {
                reader.next = found.from;
                break;
            }
            Read::Messages(messages) => {
                for stored in &messages {
                    if left < max {
                        out.push(b',');
                    }
                    left -= 1;
                    message(&mut out, stored);
                }
                let late = !wait.is_zero() && tokio::time::Instant::now() >= until;
                if left == 0
                    || out.len() as u64 > READ_BYTES * 8
                    || reader.looked >= LOOKED_MAX
                    || late
                    || ask.handle.stop().is_draining()
                {
                    break;
                }
            }
            Read::End if left < max || wait.is_zero() || gap.is_some() => break,
            Read::End => {
                let more = tokio::select! {
                    biased;
                    () = ask.handle.stop().draining() => false,
                    more = tokio::time::timeout_at(
                        until, reader.engines.until_beyond(&reader.topic, reader.next)
                    ) => match more {
                        Ok(more) => {
                            more?;
                            true
                        }
                        Err(_elapsed) => false,
                    },
                };
                if !more {
                    break;
                }
            }
        }
    }
    out.extend_from_slice(b"],\"next\":");
    out.extend_from_slice(reader.next.to_string().as_bytes());
    if let Some(gap) = gap {
        out.extend_from_slice(b",\"gap\":");
        out.extend_from_slice(gap.to_json().as_bytes());
    }
    out.push(b'}');
    Ok(Response::of(200, JSON, out).with("cache-control", "no-store"))
}

/// Appends a message of a topic.
fn message(out: &mut Vec<u8>, stored: &Browsed) {
    out.push(b'{');
    receive::stored(
        out,
        stored.position,
        stored.published_ms,
        &stored.key,
        stored.message.as_ref(),
    );
    out.push(b'}');
}

/// One message per line, up to the present end.
fn replay(reader: Reader, max: u64) -> impl stream::Stream<Item = Result<Bytes>> + Send {
    stream::unfold(Some((reader, max)), |state| async {
        let (mut reader, mut left) = state?;
        while left > 0 {
            let records = u32::try_from(left).unwrap_or(READ_RECORDS).min(READ_RECORDS);
            let messages = match reader.read(records, READ_BYTES).await {
                Ok(Read::Messages(messages)) => messages,
                Ok(Read::Gap(gap)) => {
                    let line = format!("{{\"gap\":{}}}\n", gap.to_json());
                    return Some((Ok(line.into()), Some((reader, left))));
                }
                Ok(Read::End) => return None,
                Err(error) => return Some((Err(error), None)),
            };
            let mut out = Vec::with_capacity(messages.len() * 256);
            for stored in &messages {
                message(&mut out, stored);
                out.push(b'\n');
            }
            left = left.saturating_sub(messages.len() as u64);
            if !out.is_empty() {
                return Some((Ok(out.into()), Some((reader, left))));
            }
        }
        None
    })
}

/// What follows a topic.
struct Tail {
    reader: Reader,
    ready: VecDeque<Bytes>,
    stop: Stop,
}

impl Tail {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(ready) = self.ready.pop_front() {
            return Ok(Some(ready));
        }
        let silent = tokio::time::Instant::now() + sse::HEARTBEAT;
        loop {
            if self.stop.is_draining() {
                return Ok(None);
            }
            if tokio::time::Instant::now() >= silent {
                return Ok(Some(sse::ALIVE));
            }
            match self.reader.read(READ_RECORDS, READ_BYTES).await? {
                Read::Messages(messages) if messages.is_empty() => {}
                Read::Messages(messages) => return Ok(Some(events(&messages))),
                Read::Gap(gap) => return Ok(Some(sse::gap(&gap.to_json()))),
                Read::End => {
                    let more =
                        self.reader.engines.until_beyond(&self.reader.topic, self.reader.next);
                    tokio::select! {
                        biased;
                        () = self.stop.draining() => return Ok(None),
                        more = tokio::time::timeout_at(silent, more) => match more {
                            Ok(more) => more?,
                            Err(_elapsed) => return Ok(Some(sse::ALIVE)),
                        },
                    }
                }
            }
        }
    }
}

/// Messages as server-sent events: the position as the id, the type as the event, the structured event as
/// the data. Of one that is damaged that is told, in its place.
fn events(messages: &[Browsed]) -> Bytes {
    let mut out = Vec::with_capacity(messages.len() * 256);
    let mut data = Vec::with_capacity(256);
    for stored in messages {
        let id = stored.position.to_string();
        let shown = stored.message.as_ref().map(|message| {
            event::with(message, stored.position, |event, _| {
                data.clear();
                weft_wire::cloudevents::json::write(event, &mut data);
                sse::write(&mut out, &id, &event.kind, &data);
            })
        });
        let kind = match shown {
            Some(Ok(())) => continue,
            Some(Err(_)) => sse::UNREADABLE,
            None => sse::DAMAGED,
        };
        data.clear();
        message(&mut data, stored);
        sse::write(&mut out, &id, kind, &data);
    }
    out.into()
}

/// `GET /v1/topics/{topic}/last`
pub(super) async fn last(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let topic = ask.topic(&mut query)?;
    let key = query.take("key");
    let engines = ask.handle.engines();
    let none = || Error::new(Reason::NoMessage, "there is no message yet");
    let mut out = b"{".to_vec();
    match key {
        Some(key) => {
            let found = engines.last(&topic, key.as_bytes()).await?.ok_or_else(none)?;
            receive::stored(
                &mut out,
                found.position,
                found.published_ms,
                &found.key,
                found.message.as_ref(),
            );
        }
        None => {
            let at = engines.position(&topic, Start::Last).await?;
            let found = engines
                .browse(&topic, at, Limits { records: 1, bytes: 1 })
                .await?
                .pop()
                .ok_or_else(none)?;
            receive::stored(
                &mut out,
                found.position,
                found.published_ms,
                &found.key,
                found.message.as_ref(),
            );
        }
    }
    out.push(b'}');
    Ok(Response::of(200, JSON, out))
}

#[cfg(test)]
mod tests;

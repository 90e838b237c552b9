//! Reading: of a stream and of all, forward and backward, to an end.

use std::sync::Arc;

use bytes::Bytes;
use weft_events::{Direction, EventQuery, Page, PageLimits, Recorded, StreamName, head::Life};
use weft_kernel::Reason;
use weft_proxy::Reply;

use crate::{
    answer::{self, Producer},
    append::stream,
    event::identifier,
    fault::Fault,
    filter::Filter,
    frame::{Requests, put},
    links::{Links, Shown},
    messages::{
        ReadRequest, ReadResponse,
        read_request::{Options, of_all, of_stream, options, uuid_form},
        read_response as proto,
    },
    metadata::{self, Metadata},
    subscribe,
    target::Kurrent,
};

/// Events that are read at once.
const PAGE: usize = 256;

/// `Streams/Read`
pub(crate) async fn read(kurrent: &Kurrent, mut requests: Requests) -> Result<Reply, Fault> {
    let options = requests.only::<ReadRequest>().await?.options.unwrap_or_default();
    let Options { of, read_direction, until, filtered, uuid_option, resolve_links } = options;
    let direction = match read_direction {
        0 => Direction::Forward,
        1 => Direction::Backward,
        _ => return Err(Fault::invalid("events are read forwards or backwards")),
    };
    let form = uuid_option.and_then(|option| option.form);
    let is_structured = matches!(form, Some(uuid_form::Form::Structured(_)));
    let filter = match filtered {
        Some(options::Filtered::Filter(filter)) => Some(Filter::of(filter)?),
        _ => None,
    };
    let count = match until {
        Some(options::Until::Count(count)) => Some(count),
        Some(options::Until::Subscription(_)) if direction == Direction::Forward => None,
        Some(options::Until::Subscription(_)) => {
            return Err(Fault::invalid("a subscription goes forwards"));
        }
        None => return Err(Fault::invalid("a read says how many events it is of")),
    };
    match of {
        Some(options::Of::Stream(of)) => {
            let stream = stream(of.stream_identifier.as_ref())?;
            if filter.is_some() {
                return Err(Fault::invalid("a filter is for all events, and not for one stream"));
            }
            let links = Links::of(&stream)?;
            let shown = Shown { is_structured, links, is_resolved: resolve_links };
            check(kurrent, &stream).await?;
            let Some(count) = count else {
                return subscribe::to_stream(kurrent, stream, of.from, shown).await;
            };
            let from = match of.from {
                Some(of_stream::From::Revision(version)) => version,
                Some(of_stream::From::Start(_)) | None => 0,
                Some(of_stream::From::End(_)) => u64::MAX,
            };
            of_one(kurrent, stream, from, direction, count, shown).await
        }
        Some(options::Of::All(of)) => {
            let shown = Shown { is_structured, ..Shown::default() };
            let Some(count) = count else {
                return subscribe::to_all(kurrent, of.from, filter, shown);
            };
            let end = kurrent.events.next_position();
            let at = match (of.from, direction) {
                // At a place and behind it; backward, before it. A place is the position and one.
                (Some(of_all::From::Position(at)), Direction::Forward) => {
                    Some(at.commit_position.saturating_sub(1))
                }
                (Some(of_all::From::Position(at)), Direction::Backward) => {
                    at.commit_position.checked_sub(2)
                }
                (Some(of_all::From::End(_)), Direction::Forward) => None,
                (Some(of_all::From::End(_)), Direction::Backward) => Some(u64::MAX),
                (Some(of_all::From::Start(_)) | None, Direction::Forward) => Some(0),
                (Some(of_all::From::Start(_)) | None, Direction::Backward) => None,
            };
            let of = Of::All { filter, end };
            let kurrent = kurrent.clone();
            let reading = Reading { kurrent, of, at, direction, left: count, shown };
            Ok(answer::produced(reading))
        }
        None => Err(Fault::invalid("a read is of a stream or of all")),
    }
}

/// Whether a stream can be read that may be there or not.
async fn check(kurrent: &Kurrent, stream: &StreamName) -> Result<(), Fault> {
    let info = kurrent.events.stream(stream).await?;
    if info.is_some_and(|info| info.life == Life::Ended) {
        return Err(Fault::deleted(stream));
    }
    Ok(())
}

async fn of_one(
    kurrent: &Kurrent,
    stream: StreamName,
    from: u64,
    direction: Direction,
    count: u64,
    shown: Shown,
) -> Result<Reply, Fault> {
    let absent = || {
        let stream_identifier = Some(identifier(&stream));
        let absent = proto::StreamNotFound { stream_identifier };
        let content = Some(proto::Content::StreamNotFound(absent));
        Ok(answer::message(&ReadResponse { content }))
    };
    if let Some(links) = &shown.links {
        if !is_there(kurrent, links).await? {
            return absent();
        }
        let of =
            Of::Links { query: Arc::clone(links.query()), end: kurrent.events.next_position() };
        let (kurrent, at) = (kurrent.clone(), Some(from));
        let reading = Reading { kurrent, of, at, direction, left: count, shown };
        return Ok(answer::produced(reading));
    }
    let info = kurrent.events.stream(&stream).await?;
    let Some(info) = info.filter(|info| info.next > 0 && info.life == Life::Open) else {
        return absent();
    };
    let metadata = metadata::of(kurrent, &stream).await?;
    let from = match direction {
        Direction::Forward => from.max(metadata.first(info.next)),
        Direction::Backward => from,
    };
    let of = Of::Stream { stream, metadata, first: metadata.first(info.next) };
    let (kurrent, at) = (kurrent.clone(), Some(from));
    let reading = Reading { kurrent, of, at, direction, left: count, shown };
    Ok(answer::produced(reading))
}

/// Whether there is any link.
async fn is_there(kurrent: &Kurrent, links: &Links) -> Result<bool, Fault> {
    let limits = PageLimits { events: 16, ..PageLimits::default() };
    let mut at = Some(0);
    while let Some(from) = at {
        let page = kurrent.events.read_by(links.query(), from, Direction::Forward, limits).await?;
        if page.events.iter().any(|event| links.has(event)) {
            return Ok(true);
        }
        at = page.next;
        tokio::task::yield_now().await;
    }
    Ok(false)
}

/// What is read.
enum Of {
    Stream {
        stream: StreamName,
        metadata: Metadata,
        /// The first version that is seen.
        first: u64,
    },
    Links {
        query: Arc<EventQuery>,
        /// Where the log ended when it was asked for.
        end: u64,
    },
    All {
        filter: Option<Filter>,
        /// Where the log ended when it was asked for.
        end: u64,
    },
}

struct Reading {
    kurrent: Kurrent,
    of: Of,
    /// The version or position to go on with; `None` at the end.
    at: Option<u64>,
    direction: Direction,
    left: u64,
    shown: Shown,
}

impl Producer for Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        while let Some(at) = self.at.filter(|_| self.left > 0) {
            let page = self.page(at).await?;
            self.at = page.next;
            let mut out = Vec::new();
            for event in &page.events {
                match self.sees(event) {
                    Seen::Yes if self.left > 0 => {
                        self.left -= 1;
                        put(&mut out, &self.shown.response(event));
                    }
                    Seen::End => self.at = None,
                    _ => {}
                }
            }
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
            // Much may not be wanted.
            tokio::task::yield_now().await;
        }
        Ok(None)
    }
}

enum Seen {
    Yes,
    No,
    /// Nor are those behind it.
    End,
}

impl Reading {
    async fn page(&self, at: u64) -> Result<Page, Fault> {
        let events = &self.kurrent.events;
        let most = usize::try_from(self.left).unwrap_or(PAGE).min(PAGE);
        let limits = |events| PageLimits { events, ..PageLimits::default() };
        match &self.of {
            Of::Stream { stream, .. } => {
                match events.read(stream, at, self.direction, limits(most)).await {
                    Ok(page) => Ok(page),
                    // It was deleted meanwhile.
                    Err(error) if error.reason() == Reason::NotFound => {
                        Ok(Page { events: Vec::new(), next: None })
                    }
                    Err(error) => Err(error.into()),
                }
            }
            Of::Links { query, end } => {
                let limits = PageLimits { before: *end, ..limits(most) };
                Ok(events.read_by(query, at, self.direction, limits).await?)
            }
            Of::All { filter, .. } => {
                let most = if filter.is_some() { PAGE } else { most };
                Ok(events.read_all(at, self.direction, limits(most)).await?)
            }
        }
    }

    fn sees(&self, event: &Recorded) -> Seen {
        match &self.of {
            Of::Stream { metadata, first, .. } => {
                let is_seen = event.version >= *first && event.time_ms >= metadata.since_ms();
                match (is_seen, self.direction) {
                    (true, _) => Seen::Yes,
                    (false, Direction::Forward) => Seen::No,
                    (false, Direction::Backward) => Seen::End,
                }
            }
            Of::All { end, .. } if event.position >= *end => match self.direction {
                Direction::Forward => Seen::End,
                Direction::Backward => Seen::No,
            },
            Of::Links { .. } if !self.shown.has(event) => Seen::No,
            Of::All { filter: Some(filter), .. } if !filter.takes(event) => Seen::No,
            Of::Links { .. } | Of::All { .. } => Seen::Yes,
        }
    }
}

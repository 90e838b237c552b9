//! Reading: of a stream and of all, forward and backward, to an end.

use bytes::Bytes;
use weft_events::{Direction, Page, PageLimits, Recorded, StreamName, head::Life};
use weft_kernel::Reason;
use weft_proxy::Reply;
use weft_wire::grpc::Status;

use crate::{
    answer::{self, Producer},
    append::{is_projected, stream},
    event::{identifier, recorded},
    fault::Fault,
    filter::Filter,
    frame::{Requests, put},
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
    let Options { of, read_direction, until, filtered, uuid_option, .. } = options;
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
            check(kurrent, &stream).await?;
            let Some(count) = count else {
                return subscribe::to_stream(kurrent, stream, of.from, is_structured).await;
            };
            let from = match of.from {
                Some(of_stream::From::Revision(version)) => version,
                Some(of_stream::From::Start(_)) | None => 0,
                Some(of_stream::From::End(_)) => u64::MAX,
            };
            of_one(kurrent, stream, from, direction, count, is_structured).await
        }
        Some(options::Of::All(of)) => {
            let Some(count) = count else {
                return subscribe::to_all(kurrent, of.from, filter, is_structured);
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
            let reading = Reading { kurrent, of, at, direction, left: count, is_structured };
            Ok(answer::produced(reading))
        }
        None => Err(Fault::invalid("a read is of a stream or of all")),
    }
}

/// Whether a stream can be read that may be there or not.
async fn check(kurrent: &Kurrent, stream: &StreamName) -> Result<(), Fault> {
    if is_projected(stream.as_str()) {
        let say = format!(
            "stream `{stream}` is one of projections, which are not there: read all with a filter"
        );
        return Err(Fault::new(Status::Unimplemented, say));
    }
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
    is_structured: bool,
) -> Result<Reply, Fault> {
    let info = kurrent.events.stream(&stream).await?;
    let Some(info) = info.filter(|info| info.next > 0 && info.life == Life::Open) else {
        let stream_identifier = Some(identifier(&stream));
        let absent = proto::StreamNotFound { stream_identifier };
        let content = Some(proto::Content::StreamNotFound(absent));
        return Ok(answer::message(&ReadResponse { content }));
    };
    let metadata = metadata::of(kurrent, &stream).await?;
    let from = match direction {
        Direction::Forward => from.max(metadata.first(info.next)),
        Direction::Backward => from,
    };
    let of = Of::Stream { stream, metadata, first: metadata.first(info.next) };
    let (kurrent, at) = (kurrent.clone(), Some(from));
    let reading = Reading { kurrent, of, at, direction, left: count, is_structured };
    Ok(answer::produced(reading))
}

/// What is read.
enum Of {
    Stream {
        stream: StreamName,
        metadata: Metadata,
        /// The first version that is seen.
        first: u64,
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
    is_structured: bool,
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
                        put(&mut out, &response(event, self.is_structured));
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
            Of::All { filter: Some(filter), .. } if !filter.takes(event) => Seen::No,
            Of::All { .. } => Seen::Yes,
        }
    }
}

/// An event as it is answered.
pub(crate) fn response(event: &Recorded, is_structured: bool) -> ReadResponse {
    let event = recorded(event, is_structured);
    ReadResponse { content: Some(proto::Content::Event(event)) }
}

//! What of events is asked for: which, from where to where, and how many.

use std::str::FromStr;

use weft_events::{Direction, EventQuery, EventStore, Page, PageLimits, QueryItem, StreamName};
use weft_kernel::{Error, Reason, Result};

use super::{Ask, read};
use crate::{query::Query, response::EVENT_STREAM, time};

/// A question for events.
pub(super) struct Asked {
    /// The version or position to begin with; where it begins or ends without one.
    from: Option<u64>,
    /// The milliseconds within which the events were appended, both among them.
    since: Option<u64>,
    until: Option<u64>,
    pub(super) direction: Direction,
    pub(super) limits: PageLimits,
    /// Whether what comes is asked for.
    pub(super) follows: bool,
    /// The last that a client has seen that comes again.
    last: Option<u64>,
    /// What the events are to match; of all alone.
    pub(super) events: Option<EventQuery>,
}

/// Of what times are looked up.
pub(super) enum Of<'a> {
    All,
    Stream(&'a StreamName),
}

/// Numbers between which events are asked for: from one to before another.
pub(super) struct Bounds {
    start: u64,
    end: u64,
}

fn wrong(say: &'static str) -> Error {
    Error::new(Reason::MalformedRequest, say)
}

impl Asked {
    /// Reads a query; `is_all` has one of all events choose among them.
    pub(super) fn of(ask: &Ask<'_>, is_all: bool) -> Result<Self> {
        let mut query: Query<'_> = ask.query()?;
        let follows = ask.request.accepts(EVENT_STREAM);
        let from = match query.take("from").as_deref() {
            None | Some("start") => None,
            Some("end") => Some(u64::MAX),
            Some(number) => Some(number.parse().map_err(|error: std::num::ParseIntError| {
                wrong("`from` is start, end, or a number").because(error)
            })?),
        };
        let direction = match query.take("direction").as_deref() {
            None | Some("forward") => Direction::Forward,
            Some("backward") => Direction::Backward,
            Some(_) => return Err(wrong("`direction` is forward or backward")),
        };
        let mut moment = |name| query.take(name).map(|text| time::parse(name, &text)).transpose();
        let (since, until) = (moment("since")?, moment("until")?);
        let max = query.number("max", 1, read::MAX)?;
        let is_bounded = max.is_some() || until.is_some();
        if follows && (is_bounded || direction == Direction::Backward) {
            return Err(wrong("`max`, `until` and `direction=backward` are for pages"));
        }
        let max = usize::try_from(max.unwrap_or(read::PAGE)).unwrap_or(usize::MAX);
        let limits = PageLimits { events: max, bytes: read::BYTES, ..PageLimits::default() };
        let last = ask.request.text("last-event-id").filter(|_| follows).map(u64::from_str);
        let last = last.transpose().map_err(|error| {
            wrong("Last-Event-ID is the number of the last event that came").because(error)
        })?;
        let events = if is_all { item(&mut query)? } else { None };
        Ok(Self { from, since, until, direction, limits, follows, last, events })
    }

    /// Looks up where the times are.
    pub(super) async fn bounds(&self, store: &EventStore, of: Of<'_>) -> Result<Bounds> {
        let at = async |time_ms| match &of {
            Of::All => store.position_at(time_ms).await,
            Of::Stream(name) => store.version_at(name, time_ms).await,
        };
        let start = match self.since {
            Some(since) => at(since).await?,
            None => 0,
        };
        let end = match self.until {
            Some(until) => at(until.saturating_add(1)).await?,
            None => u64::MAX,
        };
        Ok(Bounds { start, end })
    }

    /// Holds a number from which on is asked to the number of the next event: one beyond it was seen where events have
    /// been lost since.
    pub(super) fn is_there(&self, next: u64) -> Result<()> {
        match self.from {
            Some(from)
                if from > next && from < u64::MAX && self.direction == Direction::Forward =>
            {
                let say = format!(
                    "`from` is {from}, and the next event is {next}: they were restored or made anew"
                );
                Err(Error::new(Reason::PositionConflict, say))
            }
            _ => Ok(()),
        }
    }

    /// Where a page begins, and what it may have; `None` for nothing.
    pub(super) fn page(&self, Bounds { start, end }: &Bounds) -> Option<(u64, PageLimits)> {
        let limits = PageLimits { before: *end, ..self.limits };
        match self.direction {
            Direction::Forward => Some((self.from.unwrap_or(0).max(*start), limits)),
            Direction::Backward => {
                let last = end.checked_sub(1)?;
                Some((self.from.unwrap_or(u64::MAX).min(last), limits))
            }
        }
    }

    /// Where who follows begins, if the next event has this number.
    pub(super) fn begin(&self, bounds: &Bounds, next: u64) -> Result<u64> {
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
            None => {
                self.is_there(next)?;
                Ok(self.from.unwrap_or(0).max(bounds.start).min(next))
            }
        }
    }
}

impl Bounds {
    /// A page without what was appended before, where reading backward came to it.
    pub(super) fn within(&self, mut page: Page, of: &Of<'_>) -> Page {
        let number = |event: &weft_events::Recorded| match of {
            Of::All => event.position,
            Of::Stream(_) => event.version,
        };
        page.events.retain(|event| number(event) >= self.start);
        page.next = page.next.filter(|next| *next >= self.start);
        page
    }
}

/// What events are to match, by the parameters of a query.
fn item(query: &mut Query<'_>) -> Result<Option<EventQuery>> {
    let list = |text: Option<std::borrow::Cow<'_, str>>| -> Vec<String> {
        text.iter().flat_map(|text| text.split(',')).map(|one| one.trim().to_owned()).collect()
    };
    let item = QueryItem {
        types: list(query.take("type")),
        tags: list(query.take("tags")),
        category: query.take("category").map(Into::into),
        stream: query.take("stream").map(|name| StreamName::new(&name)).transpose()?,
        correlation: query.take("correlation").map(Into::into),
    };
    if item == QueryItem::default() {
        return Ok(None);
    }
    EventQuery::new(vec![item]).map(Some)
}

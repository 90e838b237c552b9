//! Reading events: of one stream by version, of all by position, forward and backward.

use weft_kernel::{Error, Reason, Result};
use weft_ledger::record::{Limits as RecordLimits, ReadItem};

use crate::{
    event::Recorded,
    head::{Chunk, Head, Run},
    name::StreamName,
    row::{decode, row_key, row_prefix},
    store::{EventStore, Inner},
};

/// Events that are read at once backward.
const WINDOW_MAX: usize = 256;
/// How much of them.
const WINDOW_BYTES: usize = 8 << 20;
/// Chunks that are read at once.
const CHUNKS: usize = 8;

/// Which way is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Direction {
    /// From old to new.
    #[default]
    Forward,
    /// From new to old.
    Backward,
}

/// How much is read at once; whichever is reached first, but always one event if there is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimits {
    /// Events.
    pub events: usize,
    /// Bytes.
    pub bytes: u64,
    /// The version or position to end before; forward alone.
    pub before: u64,
}

impl Default for PageLimits {
    fn default() -> Self {
        Self { events: 256, bytes: 1 << 20, before: u64::MAX }
    }
}

/// Events of a stream, or of all, in the direction in which they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The events.
    pub events: Vec<Recorded>,
    /// The version or position to go on with; `None` at the end. Forward there may be more one day.
    pub next: Option<u64>,
}

/// What is still to be read of a page.
pub(crate) struct Room {
    events: usize,
    bytes: u64,
    is_first: bool,
}

impl Room {
    pub(crate) const fn is_left(&self) -> bool {
        self.is_first || (self.events > 0 && self.bytes > 0)
    }

    fn count(&mut self, event: &Recorded) {
        self.is_first = false;
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(event.message.len() as u64);
    }

    /// How many more there may be, one at least.
    pub(crate) fn events_max(&self) -> usize {
        self.events.max(1)
    }

    /// An event of the log goes into a page.
    fn take(&mut self, item: ReadItem, into: &mut Vec<Recorded>) -> Result<()> {
        self.take_if(item, into, |_| true)
    }

    /// An event of the log goes into a page if it is one of those that are meant.
    pub(crate) fn take_if(
        &mut self,
        item: ReadItem,
        into: &mut Vec<Recorded>,
        is_meant: impl Fn(&Recorded) -> bool,
    ) -> Result<()> {
        let record = match item {
            ReadItem::Record(record) => record,
            ReadItem::Lost { position, why, .. } => {
                let say = format!("the event at position {position} cannot be read");
                return Err(Error::new(Reason::StorageCorrupt, say).note(why));
            }
        };
        let event = Recorded::read(record)?;
        if is_meant(&event) {
            self.count(&event);
            into.push(event);
        }
        Ok(())
    }

    fn limits(&self, count: u64) -> RecordLimits {
        let most = self.events.max(1) as u64;
        let records = u32::try_from(count.min(most)).unwrap_or(u32::MAX);
        RecordLimits { records, bytes: self.bytes.max(1) }
    }
}

impl From<PageLimits> for Room {
    fn from(limits: PageLimits) -> Self {
        Self { events: limits.events, bytes: limits.bytes, is_first: limits.events > 0 }
    }
}

impl EventStore {
    /// Events of a stream from a version on, that one among them if it is there.
    ///
    /// # Errors
    /// `not_found` for a stream that is not there, and what the store says.
    pub async fn read(
        &self,
        name: &StreamName,
        from: u64,
        direction: Direction,
        limits: PageLimits,
    ) -> Result<Page> {
        let head = self.0.head(name).await?;
        if !head.is_there() {
            let say = format!("there is no stream `{name}`");
            return Err(Error::new(Reason::NotFound, say));
        }
        match direction {
            Direction::Forward => self.0.forward(name, &head, from, limits).await,
            Direction::Backward => self.0.backward(name, &head, from, limits.into()).await,
        }
    }

    /// Events of all streams from a position on, that one among them if it is there.
    ///
    /// # Errors
    /// What the store says.
    pub async fn read_all(
        &self,
        from: u64,
        direction: Direction,
        limits: PageLimits,
    ) -> Result<Page> {
        let mut room = Room::from(limits);
        let mut events = Vec::new();
        match direction {
            Direction::Forward => {
                let mut at = from;
                while room.is_left() {
                    let count = limits.before.saturating_sub(at);
                    let items = self.0.store.read(self.0.log, at, room.limits(count)).await?;
                    if count == 0 || items.is_empty() {
                        return Ok(Page { events, next: None });
                    }
                    for item in items {
                        at = item.position() + 1;
                        if at > limits.before {
                            return Ok(Page { events, next: None });
                        }
                        room.take(item, &mut events)?;
                    }
                }
                Ok(Page { events, next: Some(at) })
            }
            Direction::Backward => {
                let mut end = from.saturating_add(1).min(self.0.seen().await?);
                let mut window = room.events.max(1) as u64;
                while room.is_left() && end > 0 {
                    let start = end.saturating_sub(window);
                    let Some(read) = self.0.span(start, end).await? else {
                        window /= 2;
                        continue;
                    };
                    // Where much was removed, more is looked at at once.
                    window =
                        if read.is_empty() { window.saturating_mul(2) } else { WINDOW_MAX as u64 };
                    for item in read.into_iter().rev() {
                        if !room.is_left() {
                            break;
                        }
                        end = item.position();
                        room.take(item, &mut events)?;
                    }
                    if room.is_left() {
                        end = start;
                    }
                }
                Ok(Page { events, next: end.checked_sub(1) })
            }
        }
    }

    /// Events of a stream from a version on, whether it is there or not.
    pub(crate) async fn versions(
        &self,
        name: &StreamName,
        from: u64,
        limits: PageLimits,
    ) -> Result<Vec<Recorded>> {
        let head = self.0.head(name).await?;
        Ok(self.0.forward(name, &head, from, limits).await?.events)
    }
}

impl Inner {
    async fn forward(
        &self,
        name: &StreamName,
        head: &Head,
        from: u64,
        limits: PageLimits,
    ) -> Result<Page> {
        let (mut room, end) = (Room::from(limits), head.next.min(limits.before));
        let (mut events, mut at, mut is_seen) = (Vec::new(), from.max(head.first), false);
        while at < end && room.is_left() {
            let runs = self.runs(name, head, at).await?;
            if runs.is_empty() {
                return Err(lost(name, at));
            }
            for run in runs.into_iter().map_while(|run| run.before(end)) {
                let mut done = 0;
                while done < u64::from(run.count) && room.is_left() {
                    let position = run.position + done;
                    let left = u64::from(run.count) - done;
                    let items = self.store.read(self.log, position, room.limits(left)).await?;
                    let within =
                        |item: &ReadItem| item.position() < run.position + u64::from(run.count);
                    let items: Vec<_> = items.into_iter().take_while(within).collect();
                    if items.is_empty() && !is_seen {
                        // It is on its way to the disk.
                        self.seen().await?;
                        is_seen = true;
                        continue;
                    }
                    if items.is_empty() {
                        // It was removed meanwhile.
                        done = u64::from(run.count);
                    }
                    for item in items {
                        done = item.position() + 1 - run.position;
                        room.take(item, &mut events)?;
                    }
                    at = run.version + done;
                }
                if !room.is_left() {
                    break;
                }
            }
        }
        Ok(Page { events, next: (at < end).then_some(at) })
    }

    async fn backward(
        &self,
        name: &StreamName,
        head: &Head,
        from: u64,
        mut room: Room,
    ) -> Result<Page> {
        self.seen().await?;
        let (mut events, mut window) = (Vec::new(), WINDOW_MAX as u64);
        // Versions before this one are still to be read.
        let mut end = from.saturating_add(1).min(head.next);
        while end > head.first && room.is_left() {
            let runs: Vec<Run> = if end > head.inline() {
                head.places(head.inline()).collect()
            } else {
                let chunks = self.chunks_from(name, end - 1).await?;
                chunks.first().map(|chunk| chunk.places(chunk.start).collect()).unwrap_or_default()
            };
            if runs.is_empty() {
                return Err(lost(name, end - 1));
            }
            for run in runs.into_iter().rev() {
                while end > run.version.max(head.first) && room.is_left() {
                    let count = end - run.version.max(head.first);
                    let count = count.min(room.events.max(1) as u64).min(window);
                    let last = run.position + (end - run.version);
                    let Some(items) = self.span(last - count, last).await? else {
                        window = (count / 2).max(1);
                        continue;
                    };
                    for item in items.into_iter().rev() {
                        if !room.is_left() {
                            break;
                        }
                        end = run.version + (item.position() - run.position);
                        room.take(item, &mut events)?;
                    }
                    if room.is_left() {
                        end = end.min(run.version + (last - count - run.position));
                    }
                }
                if !room.is_left() {
                    break;
                }
            }
        }
        Ok(Page { events, next: (end > head.first).then(|| end - 1) })
    }

    /// The chunks from the one on that has a version.
    pub(crate) async fn chunks_from(&self, name: &StreamName, version: u64) -> Result<Vec<Chunk>> {
        // Each stands under the version that it ends before.
        let (prefix, after) = (row_prefix(name), row_key(name, version));
        let rows = self.store.scan(self.chunks, &prefix, Some(after), CHUNKS).await?;
        rows.iter().map(|(_, value)| decode(&value.data)).collect()
    }

    /// What stands from a position to before another; `None` if that is more than is read at once.
    async fn span(&self, start: u64, end: u64) -> Result<Option<Vec<ReadItem>>> {
        let (mut at, mut found, mut bytes) = (start, Vec::new(), 0);
        while at < end {
            let records = u32::try_from(end - at).unwrap_or(u32::MAX).min(WINDOW_MAX as u32);
            let limits = RecordLimits { records, bytes: 1 << 20 };
            let items = self.store.read(self.log, at, limits).await?;
            let Some(last) = items.last().map(ReadItem::position) else { break };
            for item in items.into_iter().filter(|item| item.position() < end) {
                bytes += if let ReadItem::Record(record) = &item { record.data.len() } else { 0 };
                found.push(item);
            }
            let is_much = found.len() > WINDOW_MAX || bytes > WINDOW_BYTES;
            if is_much && end - start > 1 {
                return Ok(None);
            }
            at = last + 1;
        }
        Ok(Some(found))
    }
}

fn lost(name: &StreamName, version: u64) -> Error {
    let say = format!("version {version} of stream `{name}` has no place");
    Error::new(Reason::StorageCorrupt, say)
}

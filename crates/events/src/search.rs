//! Reading the events that match a query: candidates by the rows of the index and by memory, held to what they are.
//!
//! Rows are looked at for a span of positions at a time, which grows while little is found and shrinks where there is
//! too much. An event is shown only if it matches itself, so rows may say too much, and never too little.

use bytes::Bytes;
use weft_kernel::Result;
use weft_ledger::{
    record::{Limits as RecordLimits, ReadItem},
    store::room,
    transaction::{ExpectValue, Op},
};

use crate::{
    event::Recorded,
    head::{Head, Run},
    index::{Key, Place, Recent, keys, read_row, write_row},
    name::StreamName,
    query::{EventQuery, Wanted},
    read::{Direction, Page, PageLimits, Room},
    store::{EventStore, Inner},
    submit::Tried,
};

/// Positions that are looked at first.
const SPAN: u64 = 4_096;
/// Rows that are read at once, and the most of a value for a span.
const ROWS: usize = 64;
const ROWS_MAX: usize = 256;
/// The most positions of a stream for a span.
const POSITIONS_MAX: usize = 65_536;
/// Of so few positions the events are looked at, rather than more rows.
const FEW: usize = 8;
/// The most events that are read at once, how much of them, and what lies between two of them at most.
const EVENTS: usize = 256;
const BYTES_MAX: usize = 8 << 20;
const BETWEEN: u64 = 8;

impl EventStore {
    /// Events that match a query, from a position on, that one among them.
    ///
    /// # Errors
    /// What the store says.
    pub async fn read_by(
        &self,
        query: &EventQuery,
        from: u64,
        direction: Direction,
        limits: PageLimits,
    ) -> Result<Page> {
        match direction {
            Direction::Forward => Ok(self.0.find_forward(query, from, limits).await?.0),
            Direction::Backward => self.0.find_backward(query, from, limits).await,
        }
    }
}

impl Inner {
    /// Takes what is in no rows yet from the log, at the start.
    pub(crate) async fn recall(&self) -> Result<()> {
        let mut at = self.order.lock().recent.upto();
        loop {
            let items = self.store.read(self.log, at, RecordLimits::default()).await?;
            let Some(last) = items.last().map(ReadItem::position) else { return Ok(()) };
            at = last + 1;
            {
                let mut order = self.order.lock();
                for event in items.into_iter().filter_map(readable) {
                    order.recent.push(&event.stream, event.position, &keys(&event.message));
                }
            }
            self.index_while(Recent::is_due).await?;
        }
    }

    /// Makes rows of the newest events as long as that is `due`.
    pub(crate) async fn index_while(&self, due: impl Fn(&Recent) -> bool) -> Result<()> {
        loop {
            let tried = self.index(&mut self.order.lock(), &due);
            match tried {
                Ok(()) => return Ok(()),
                Err(Tried::Failed(error)) => return Err(error),
                Err(_) => room(&*self.store).await,
            }
        }
    }

    /// Events that match from a position on, and the position up to which was looked if the page has an end.
    pub(crate) async fn find_forward(
        &self,
        query: &EventQuery,
        from: u64,
        limits: PageLimits,
    ) -> Result<(Page, u64)> {
        let mut room = Room::from(limits);
        let end = self.seen().await?.min(limits.before);
        let (upto, newest) = self.newest(query, from, end);
        let (mut events, mut at, mut span) = (Vec::new(), from, SPAN);
        while room.is_left() && at < end {
            let (stop, found) = if at < upto {
                let stop = at.saturating_add(span).min(upto).min(end);
                (stop, self.candidates(query, at, stop).await?)
            } else {
                (end, Some(newest.clone()))
            };
            let Some(positions) = found else {
                span = (span / 2).max(1);
                continue;
            };
            span = if positions.len() < EVENTS { span.saturating_mul(2) } else { span };
            let (mut left, mut count) = (&positions[..], EVENTS);
            while !left.is_empty() && room.is_left() {
                let now = left.len().min(count).min(room.events_max());
                let Some(items) = self.fetch(&left[..now]).await? else {
                    count = (now / 2).max(1);
                    continue;
                };
                for item in items {
                    if !room.is_left() {
                        break;
                    }
                    at = item.position() + 1;
                    room.take_if(item, &mut events, |event| query.matches(event))?;
                }
                left = &left[now..];
            }
            if room.is_left() {
                at = stop;
            }
        }
        Ok((Page { events, next: (!room.is_left()).then_some(at) }, end))
    }

    async fn find_backward(
        &self,
        query: &EventQuery,
        from: u64,
        limits: PageLimits,
    ) -> Result<Page> {
        let mut room = Room::from(limits);
        let mut end = from.saturating_add(1).min(self.seen().await?);
        let (upto, newest) = self.newest(query, 0, end);
        let (mut events, mut span) = (Vec::new(), SPAN);
        while room.is_left() && end > 0 {
            let (start, found) = if end > upto {
                (upto, Some(newest.clone()))
            } else {
                let start = end.saturating_sub(span);
                (start, self.candidates(query, start, end).await?)
            };
            let Some(positions) = found else {
                span = (span / 2).max(1);
                continue;
            };
            span = if positions.len() < EVENTS { span.saturating_mul(2) } else { span };
            let (mut left, mut count) = (&positions[..], EVENTS);
            while !left.is_empty() && room.is_left() {
                let rest = left.len() - left.len().min(count).min(room.events_max());
                let Some(items) = self.fetch(&left[rest..]).await? else {
                    count = ((left.len() - rest) / 2).max(1);
                    continue;
                };
                for item in items.into_iter().rev() {
                    if !room.is_left() {
                        break;
                    }
                    end = item.position();
                    room.take_if(item, &mut events, |event| query.matches(event))?;
                }
                left = &left[..rest];
            }
            if room.is_left() {
                end = start;
            }
        }
        Ok(Page { events, next: end.checked_sub(1).filter(|_| !room.is_left()) })
    }

    /// Where rows end, and the positions behind that of what may match, within bounds.
    fn newest(&self, query: &EventQuery, from: u64, end: u64) -> (u64, Vec<u64>) {
        let order = self.order.lock();
        let upto = order.recent.upto();
        let found = order.recent.matching(from.max(upto), |keys| query.may_match(keys));
        (upto, found.take_while(|position| *position < end).collect())
    }

    /// Positions from one to before another of events that may match, in order; `None` if that is too much to look at.
    async fn candidates(
        &self,
        query: &EventQuery,
        start: u64,
        end: u64,
    ) -> Result<Option<Vec<u64>>> {
        let mut found = Vec::new();
        for wanted in query.wanted() {
            match self.candidates_of(wanted, start, end).await? {
                Some(of_item) => found.extend(of_item),
                None => return Ok(None),
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(Some(found))
    }

    /// The same for an item of a query.
    async fn candidates_of(
        &self,
        Wanted { all, any, stream }: &Wanted,
        start: u64,
        end: u64,
    ) -> Result<Option<Vec<u64>>> {
        let mut found: Option<Vec<u64>> = None;
        if let Some((name, _)) = stream {
            found = self.positions(name, start, end).await?;
        }
        let alone = all.iter().map(std::slice::from_ref);
        for keys in alone.chain([&any[..]]).filter(|keys| !keys.is_empty()) {
            if found.as_ref().is_some_and(|found| found.len() <= FEW) {
                break;
            }
            // Of what is too much the events themselves tell, as long as anything says which.
            let Some(of_keys) = self.posted(keys, start, end).await? else { continue };
            match &mut found {
                None => found = Some(of_keys),
                Some(found) => found.retain(|position| of_keys.binary_search(position).is_ok()),
            }
        }
        Ok(found)
    }

    /// Positions at which rows say that events have one of these values, in order; `None` for too many rows.
    async fn posted(&self, keys: &[Key], start: u64, end: u64) -> Result<Option<Vec<u64>>> {
        let mut found = Vec::new();
        for key in keys {
            if !self.posted_of(*key, start, end, &mut found).await? {
                return Ok(None);
            }
        }
        if keys.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        Ok(Some(found))
    }

    async fn posted_of(
        &self,
        key: Key,
        start: u64,
        end: u64,
        found: &mut Vec<u64>,
    ) -> Result<bool> {
        let mut after = start.checked_sub(1).map(|before| key.row(before));
        for _ in 0..ROWS_MAX / ROWS {
            let rows = self.store.scan(self.index, &key.prefix(), after.take(), ROWS).await?;
            let is_all = rows.len() < ROWS;
            for (row, value) in rows {
                let (last, positions) = read_row(&row, &value.data)?;
                let meant = |(at, rest): &Place| (start..end).contains(at) && *rest == key.rest();
                found.extend(positions.iter().copied().filter(meant).map(|(at, _)| at));
                if last.saturating_add(1) >= end {
                    return Ok(true);
                }
                after = Some(row);
            }
            if is_all {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Positions of a stream, in order; `None` for too many.
    async fn positions(&self, name: &StreamName, start: u64, end: u64) -> Result<Option<Vec<u64>>> {
        let head = self.head(name).await?;
        // The first version that stands at the position or behind it.
        let (mut low, mut high) = (head.first, head.next);
        while low < high {
            let version = low + (high - low) / 2;
            match self.runs(name, &head, version).await?.first() {
                Some(run) if run.position < start => low = version + 1,
                _ => high = version,
            }
        }
        let (mut found, mut version) = (Vec::new(), low);
        while version < head.next {
            let runs = self.runs(name, &head, version).await?;
            let Some(last) = runs.last() else { return Ok(Some(found)) };
            version = last.version + u64::from(last.count);
            for run in runs {
                let of_run = run.position..run.position.saturating_add(run.count.into()).min(end);
                if of_run.is_empty() {
                    return Ok(Some(found));
                }
                found.extend(of_run);
                if found.len() > POSITIONS_MAX {
                    return Ok(None);
                }
            }
        }
        Ok(Some(found))
    }

    /// Where some versions of a stream stand, from one on.
    pub(crate) async fn runs(&self, name: &StreamName, head: &Head, from: u64) -> Result<Vec<Run>> {
        if from >= head.inline() {
            return Ok(head.places(from).collect());
        }
        let chunks = self.chunks_from(name, from).await?;
        Ok(chunks.iter().flat_map(|chunk| chunk.places(from)).collect())
    }

    /// What stands at positions, in order; `None` if that is more than is read at once.
    async fn fetch(&self, positions: &[u64]) -> Result<Option<Vec<ReadItem>>> {
        let (mut found, mut bytes) = (Vec::with_capacity(positions.len()), 0);
        for near in positions.chunk_by(|one, other| other - one <= BETWEEN) {
            let (mut at, last) = (near[0], near[near.len() - 1]);
            while at <= last {
                let records = u32::try_from(last - at + 1).unwrap_or(u32::MAX);
                let limits = RecordLimits { records, bytes: 1 << 20 };
                let items = self.store.read(self.log, at, limits).await?;
                let Some(end) = items.last().map(ReadItem::position) else { break };
                at = end + 1;
                let wanted = |item: &ReadItem| near.binary_search(&item.position()).is_ok();
                for item in items.into_iter().filter(wanted) {
                    bytes +=
                        if let ReadItem::Record(record) = &item { record.data.len() } else { 0 };
                    found.push(item);
                }
                if bytes > BYTES_MAX && positions.len() > 1 {
                    return Ok(None);
                }
            }
        }
        Ok(Some(found))
    }

    /// What rows have to lose for events that go: at which positions, and with which values each.
    pub(crate) async fn unindexed(&self, gone: &mut [(Key, u64)]) -> Result<Vec<Op>> {
        gone.sort_unstable_by_key(|(key, at)| (key.group(), *at));
        let mut ops = Vec::new();
        for of_key in gone.chunk_by(|one, other| one.0.group() == other.0.group()) {
            let (key, mut left) = (of_key[0].0, of_key);
            while let Some((_, first)) = left.first() {
                let after = first.checked_sub(1).map(|before| key.row(before));
                let count = left.len().min(ROWS);
                let rows = self.store.scan(self.index, &key.prefix(), after, count).await?;
                if rows.is_empty() {
                    break;
                }
                for (row, value) in rows {
                    let (last, positions) = read_row(&row, &value.data)?;
                    let (these, later) = left.split_at(left.partition_point(|(_, at)| *at <= last));
                    left = later;
                    ops.extend(self.without(row, last, positions, these)?);
                }
            }
        }
        Ok(ops)
    }

    /// A row without positions that have gone; `None` if it has none of them.
    fn without(
        &self,
        row: Bytes,
        last: u64,
        mut positions: Vec<Place>,
        gone: &[(Key, u64)],
    ) -> Result<Option<Op>> {
        let before = positions.len();
        positions.retain(|(at, _)| gone.binary_search_by_key(at, |(_, gone)| *gone).is_err());
        let (map, key, expect) = (self.index, row, ExpectValue::Any);
        Ok(match positions.len() {
            0 => Some(Op::Delete { map, key, expect }),
            left if left == before => None,
            _ => {
                let value = write_row(last, &positions)?;
                Some(Op::Put { map, key, value, expires_ms: 0, expect })
            }
        })
    }
}

/// An event, if it can be read.
pub(crate) fn readable(item: ReadItem) -> Option<Recorded> {
    match item {
        ReadItem::Record(record) => Recorded::read(record).ok(),
        ReadItem::Lost { .. } => None,
    }
}

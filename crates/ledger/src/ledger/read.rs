//! Reading logs and maps.

use bytes::Bytes;
use weft_kernel::Result;

use super::{Ledger, Shared, deliver::decode};
use crate::{
    core::{Source, Want},
    options::Durability,
    record::{GroupId, Limits, LogId, MapId, ReadItem, Value},
    store::Exception,
};

impl Shared {
    /// Reads what is wanted from the disk; a place that was given up meanwhile is looked up again.
    pub(super) async fn cold(&self, wants: Vec<Want>) -> Vec<ReadItem> {
        let Some(cold) = self.cold.get().cloned() else { return Vec::new() };
        let mut items = cold.read(wants).await;
        for _ in 0..3 {
            let again: Vec<(usize, Want)> = items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| match item {
                    ReadItem::Lost { log, position, .. } => {
                        match self.core.lock().source(*log, *position) {
                            Source::Cold(want) => Some((index, want)),
                            _ => None,
                        }
                    }
                    ReadItem::Record(_) => None,
                })
                .collect();
            if again.is_empty() {
                break;
            }
            for (index, want) in again {
                if let Some(ReadItem::Record(record)) = cold.read(vec![want]).await.pop() {
                    items[index] = ReadItem::Record(record);
                }
            }
            if !items.iter().any(|item| matches!(item, ReadItem::Lost { .. })) {
                break;
            }
        }
        items
    }

    /// The records of sources, in order; what was removed meanwhile is left out.
    pub(super) async fn gather(&self, log: LogId, sources: Vec<(u64, Source)>) -> Vec<ReadItem> {
        let mut items = Vec::with_capacity(sources.len());
        let mut wants = Vec::new();
        let lost = |position| ReadItem::Lost {
            log,
            position,
            why: "the bytes in memory are not a record".to_owned(),
        };
        for (position, source) in sources {
            match source {
                Source::Image(image) => {
                    items.push(decode(&image).map_or_else(|| lost(position), ReadItem::Record));
                }
                Source::Record(record) => items.push(ReadItem::Record(record)),
                Source::Cold(want) => wants.push(want),
                Source::Gone => {}
            }
        }
        if !wants.is_empty() {
            let mut read = self.cold(wants).await;
            let core = self.core.lock();
            read.retain(|item| core.is_there(log, position_of(item)));
            drop(core);
            items.extend(read);
            items.sort_by_key(position_of);
        }
        items
    }
}

pub(super) fn position_of(item: &ReadItem) -> u64 {
    match item {
        ReadItem::Record(record) => record.position,
        ReadItem::Lost { position, .. } => *position,
    }
}

impl Ledger {
    pub(super) async fn read(
        &self,
        log: LogId,
        from: u64,
        limits: Limits,
    ) -> Result<Vec<ReadItem>> {
        let mut from = from;
        loop {
            let sources = self.shared.core.lock().sources(log, from, limits)?;
            let Some(last) = sources.last().map(|(position, source)| match source {
                Source::Cold(Want::Segment { to, .. }) => *to,
                _ => *position,
            }) else {
                return Ok(Vec::new());
            };
            let items = self.shared.gather(log, sources).await;
            if !items.is_empty() {
                return Ok(items);
            }
            // All that was there has gone meanwhile.
            from = last + 1;
        }
    }

    /// The first position of a log that was appended at or after a time (wall-clock milliseconds), or
    /// its end.
    ///
    /// # Errors
    ///
    /// `no_message` without the log.
    pub async fn position_at(&self, log: LogId, time_ms: u64) -> Result<u64> {
        let mut from = self.shared.core.lock().position_near(log, time_ms)?;
        loop {
            let items = self.read(log, from, Limits::default()).await?;
            let Some(last) = items.last().map(position_of) else { return Ok(from) };
            let found = items.iter().find(|item| match item {
                ReadItem::Record(record) => record.time_ms >= time_ms,
                ReadItem::Lost { .. } => false,
            });
            if let Some(found) = found {
                return Ok(position_of(found));
            }
            from = last + 1;
        }
    }

    pub(super) async fn peek(
        &self,
        group: GroupId,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(Exception, ReadItem)>> {
        let now = self.shared.now();
        let (log, exceptions, sources) = {
            let core = self.shared.core.lock();
            let (log, exceptions) = core.exceptions(group, from, limit, now)?;
            let sources: Vec<(u64, Source)> = exceptions
                .iter()
                .map(|exception| (exception.position, core.source(log, exception.position)))
                .collect();
            (log, exceptions, sources)
        };
        let mut items = self.shared.gather(log, sources).await.into_iter().peekable();
        let pairs = exceptions.into_iter().filter_map(|exception| {
            items
                .next_if(|item| position_of(item) == exception.position)
                .map(|item| (exception, item))
        });
        Ok(pairs.collect())
    }

    pub(super) async fn get(&self, map: MapId, key: &[u8]) -> Result<Option<Value>> {
        let now = self.shared.now();
        let (value, changed) = {
            let core = self.shared.core.lock();
            let map = core.map(map)?;
            (map.get(key, now.wall_ms).cloned(), map.changed)
        };
        // Its absence may be as fresh as its presence.
        let seq = value.as_ref().map_or(changed, |value| value.version);
        self.shared.until(seq, Durability::Fsync).await?;
        Ok(value)
    }

    pub(super) async fn scan(
        &self,
        map: MapId,
        prefix: &[u8],
        after: Option<Bytes>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Value)>> {
        let now = self.shared.now();
        let (found, changed) = {
            let core = self.shared.core.lock();
            let map = core.map(map)?;
            (map.scan(prefix, after.as_deref(), limit, now.wall_ms), map.changed)
        };
        self.shared.until(changed, Durability::Fsync).await?;
        Ok(found)
    }
}

//! Reading logs.

use weft_kernel::{Error, Reason, Result};

use super::{Ledger, Shared, deliver::decode};
use crate::{
    core::{Source, Want, Whereabouts, shown},
    record::{GroupId, Limits, LogId, ReadItem, Told},
    service::LostRecord,
    store::Exception,
};

/// How often a place is looked up anew before a caller has to try again. Each time it has moved.
const LOOKUPS_MAX: usize = 16;

impl Shared {
    /// Reads what is wanted from the disk; a place that was given up meanwhile is looked up again.
    /// What does not fit its checksum is told as lost; an error leaves open what is there.
    pub(super) async fn cold(&self, mut wants: Vec<Want>) -> Vec<Result<Told>> {
        let Some(cold) = self.cold.get().cloned() else { return Vec::new() };
        let mut told = cold.read(wants.clone()).await;
        for _ in 0..LOOKUPS_MAX {
            let mut moved = Vec::new();
            for (index, (want, told)) in wants.iter_mut().zip(&mut told).enumerate() {
                let Err(error) = told else { continue };
                let whereabouts = self.core.lock().whereabouts(want);
                match whereabouts {
                    Whereabouts::Moved(to) => {
                        *want = to;
                        moved.push((index, to));
                    }
                    Whereabouts::Gone(to) => *told = Ok(Told { items: Vec::new(), to }),
                    Whereabouts::There if error.reason() == Reason::StorageCorrupt => {
                        *told = Ok(lost(want, error));
                    }
                    Whereabouts::There => {}
                }
            }
            if moved.is_empty() {
                break;
            }
            let again = cold.read(moved.iter().map(|(_, want)| *want).collect()).await;
            for ((index, _), again) in moved.into_iter().zip(again) {
                told[index] = again;
            }
        }
        told
    }

    /// Tells of a record that is there and cannot be read.
    pub(super) fn tell_lost(&self, log: LogId, position: u64, why: String) {
        let name = self.core.lock().log(log).map(|log| shown(&log.name)).unwrap_or_default();
        self.damages.tell_record(&LostRecord { log, name, position, why });
    }

    /// The records of sources, in order, and up to where they are told of; what was removed meanwhile
    /// is left out.
    ///
    /// # Errors
    /// What the disk says, if nothing could be read.
    pub(super) async fn gather(&self, log: LogId, sources: Vec<(u64, Source)>) -> Result<Told> {
        let mut found = Told { items: Vec::with_capacity(sources.len()), to: 0 };
        let mut wants = Vec::new();
        for (position, source) in sources {
            found.to = position + 1;
            match source {
                Source::Image(image) => found.items.push(decode(&image).map_or_else(
                    || lost_one(log, position, "the bytes in memory are not a record"),
                    ReadItem::Record,
                )),
                Source::Record(record) => found.items.push(ReadItem::Record(record)),
                Source::Cold(want) => {
                    found.to = want.end();
                    wants.push(want);
                }
                Source::Gone => {}
            }
        }
        if wants.is_empty() {
            return Ok(found);
        }
        for (want, told) in wants.iter().zip(self.cold(wants.clone()).await) {
            let (to, error) = match told {
                Ok(told) => {
                    found.items.extend(told.items);
                    (told.to, None)
                }
                Err(error) => (want.first().1, Some(error)),
            };
            if to < want.end() {
                found.items.retain(|item| item.position() < to);
                found.to = to;
                match error {
                    Some(error) if found.items.is_empty() => return Err(error),
                    _ => break,
                }
            }
        }
        let core = self.core.lock();
        found.items.retain(|item| core.is_there(log, item.position()));
        drop(core);
        for item in &found.items {
            if let ReadItem::Lost { log, position, why } = item {
                self.tell_lost(*log, *position, why.clone());
            }
        }
        found.items.sort_by_key(ReadItem::position);
        Ok(found)
    }
}

/// What is lost of something that is where it should be, and damaged.
fn lost(want: &Want, error: &Error) -> Told {
    let ((log, first), why) = (want.first(), error.detail());
    let to = match want {
        Want::Place(..) => want.end(),
        Want::Segment { limits, .. } => want.end().min(first + u64::from(limits.records)),
    };
    Told { items: (first..to).map(|position| lost_one(log, position, &why)).collect(), to }
}

fn lost_one(log: LogId, position: u64, why: &str) -> ReadItem {
    ReadItem::Lost { log, position, why: why.to_owned() }
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
            if sources.is_empty() {
                return Ok(Vec::new());
            }
            let found = self.shared.gather(log, sources).await?;
            if !found.items.is_empty() {
                return Ok(found.items);
            }
            // All that was there has gone meanwhile.
            from = found.to;
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
            let Some(last) = items.last().map(ReadItem::position) else { return Ok(from) };
            let found = items.iter().find(|item| match item {
                ReadItem::Record(record) => record.time_ms >= time_ms,
                ReadItem::Lost { .. } => false,
            });
            if let Some(found) = found {
                return Ok(found.position());
            }
            from = last + 1;
        }
    }

    pub(super) async fn peek(
        &self,
        group: GroupId,
        from: u64,
        limits: Limits,
    ) -> Result<Vec<(Exception, ReadItem)>> {
        let (mut from, mut left, mut found) = (from, limits, Vec::new());
        while left.records > 0 {
            let now = self.shared.now();
            let next = self.shared.core.lock().exceptions(group, from, left, now)?;
            if next.found.is_empty() {
                break;
            }
            let told = match self.shared.gather(next.log, next.sources).await {
                Ok(told) => told,
                // What was read before is told, and who goes on from there is told why it fails.
                Err(_) if !found.is_empty() => break,
                Err(error) => return Err(error),
            };
            from = told.to.max(from + 1);
            let mut items = told.items.into_iter().peekable();
            for exception in next.found {
                // Between them is what was read through because it was near.
                while items.next_if(|item| item.position() < exception.position).is_some() {}
                let Some(item) = items.next_if(|item| item.position() == exception.position) else {
                    continue;
                };
                let size = match &item {
                    ReadItem::Record(record) => (record.key.len() + record.data.len()) as u64,
                    ReadItem::Lost { .. } => 0,
                };
                if size > left.bytes && !found.is_empty() {
                    return Ok(found);
                }
                left.records -= 1;
                left.bytes = left.bytes.saturating_sub(size);
                found.push((exception, item));
            }
            if left.bytes == 0 {
                break;
            }
        }
        Ok(found)
    }

    pub(super) async fn recall(&self, group: GroupId, position: u64) -> Result<bool> {
        let one = Limits { records: 1, bytes: 1 };
        let found = self.peek(group, position, one).await?.pop();
        let Some((_, item)) = found.filter(|(exception, _)| exception.position == position) else {
            return Ok(false);
        };
        let key = match item {
            ReadItem::Record(record) => record.key,
            ReadItem::Lost { .. } => return Ok(false),
        };
        let now = self.shared.now();
        let (recalled, wakes) = self.shared.core.lock().recall(group, position, key, now)?;
        wakes.wake();
        Ok(recalled)
    }
}

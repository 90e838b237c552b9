//! From what was picked to deliveries: finding the bytes, and sorting out what is not to be delivered.

use bytes::{Bytes, BytesMut};
use weft_kernel::{Error, Result};

use super::Shared;
use crate::{
    core::{Item, Now, Source, Unfit, Want, is_instant},
    format::Image,
    record::{GroupId, LeasedRecord, LogId, ReadItem, Record, Token, Told, Why},
};

/// Payloads up to this size are copied out of the buffers that were written, so that one small message
/// that is held for long does not hold megabytes.
const COPY_MAX: usize = 256 << 10;
/// So much is copied in one piece.
const CHUNK: usize = 16 << 10;

fn instant(record: &Record) -> bool {
    is_instant(record.time_ms, record.due_ms, record.expires_ms)
}

/// Copies small payloads together, a few to an allocation.
#[derive(Default)]
struct Copier {
    chunk: BytesMut,
}

impl Copier {
    fn copy(&mut self, image: &Bytes, part: &[u8], left: usize) -> Bytes {
        if part.is_empty() {
            return Bytes::new();
        }
        if part.len() > COPY_MAX {
            return image.slice_ref(part);
        }
        if self.chunk.capacity() - self.chunk.len() < part.len() {
            self.chunk = BytesMut::with_capacity(left.min(CHUNK).max(part.len()));
        }
        self.chunk.extend_from_slice(part);
        self.chunk.split_to(part.len()).freeze()
    }
}

fn record(image: &Bytes, parsed: &Image<'_>, copier: &mut Copier, left: usize) -> Record {
    Record {
        log: LogId(parsed.log),
        position: parsed.position,
        time_ms: parsed.time_ms,
        key: copier.copy(image, parsed.key, left),
        data: copier.copy(image, parsed.data, left),
        due_ms: parsed.due_ms,
        expires_ms: parsed.expires_ms,
        priority: parsed.priority,
        global: parsed.global,
    }
}

/// The record of an image in memory.
pub(super) fn decode(image: &Bytes) -> Option<Record> {
    let parsed = Image::parse(image).ok()?;
    Some(record(image, &parsed, &mut Copier::default(), image.len()))
}

/// Deliveries, and what turned out not to be one.
#[derive(Default)]
pub(super) struct Sorted {
    pub(super) deliveries: Vec<LeasedRecord>,
    pub(super) unfit: Vec<(u64, Token, Unfit)>,
    /// Still to be read, with what to read.
    pub(super) cold: Vec<(Item, Want)>,
    /// What is there and cannot be read, and why.
    pub(super) lost: Vec<(LogId, u64, String)>,
}

impl Sorted {
    /// Sorts what was picked from a group.
    pub(super) fn sort(group: GroupId, items: Vec<Item>, now: Now) -> Self {
        let mut sorted = Self { deliveries: Vec::with_capacity(items.len()), ..Self::default() };
        let mut copier = Copier::default();
        let size = |item: &Item| match &item.source {
            Source::Image(image) => image.len(),
            _ => 0,
        };
        let mut left: usize = items.iter().map(size).sum();
        for Item { picked, source } in items {
            match source {
                Source::Image(image) => {
                    let found = Image::parse(&image).ok();
                    let found = found.map(|parsed| record(&image, &parsed, &mut copier, left));
                    left -= image.len();
                    sorted.take(group, Item { picked, source: Source::Gone }, found, now);
                }
                Source::Record(record) => {
                    sorted.take(group, Item { picked, source: Source::Gone }, Some(record), now);
                }
                Source::Gone => {
                    sorted.take(group, Item { picked, source: Source::Gone }, None, now);
                }
                Source::Cold(want) => {
                    sorted.cold.push((Item { picked, source: Source::Gone }, want));
                }
            }
        }
        sorted
    }

    fn take(&mut self, group: GroupId, item: Item, record: Option<Record>, now: Now) {
        let picked = item.picked;
        let unfit = match &record {
            None => Some(Unfit::Lost),
            Some(_) if picked.why != Why::Ready => None,
            Some(record) if picked.offered && instant(record) => None,
            Some(record) if record.expires_ms != 0 && record.expires_ms <= now.wall_ms => {
                Some(Unfit::Expired)
            }
            Some(record) if record.due_ms > now.wall_ms => Some(Unfit::Due(record.due_ms)),
            Some(_) => None,
        };
        match (unfit, record) {
            (None, Some(record)) => self.deliveries.push(LeasedRecord {
                group,
                position: picked.position,
                token: picked.token,
                handouts: picked.handouts,
                failures: picked.failures,
                note: picked.note,
                record,
                why: picked.why,
                consumer: picked.consumer,
            }),
            (unfit, _) => {
                let unfit = unfit.unwrap_or(Unfit::Lost);
                self.unfit.push((picked.position, picked.token, unfit));
            }
        }
    }

    /// Takes up what was read: for each of the cold ones an answer. What could not be read is given
    /// back, and the reason told.
    pub(super) fn thaw(
        &mut self,
        group: GroupId,
        cold: Vec<Item>,
        read: Vec<Result<Told>>,
        now: Now,
    ) -> Option<Error> {
        let mut failed = None;
        let mut read = read.into_iter();
        for item in cold {
            let (position, token) = (item.picked.position, item.picked.token);
            match read.next() {
                Some(Ok(told)) => {
                    let record = told.items.into_iter().find_map(|found| match found {
                        ReadItem::Record(record) if record.position == position => Some(record),
                        ReadItem::Lost { log, position: at, why } if at == position => {
                            self.lost.push((log, position, why));
                            None
                        }
                        _ => None,
                    });
                    self.take(group, item, record, now);
                }
                unread => {
                    failed = unread.and_then(Result::err).or(failed);
                    self.unfit.push((position, token, Unfit::Returned));
                }
            }
        }
        failed
    }
}

/// Gives back what was leased for somebody who went away before it was read.
pub(super) struct Returning<'a> {
    pub(super) shared: &'a Shared,
    pub(super) group: GroupId,
    pub(super) leases: Vec<(u64, Token, Unfit)>,
}

impl Drop for Returning<'_> {
    fn drop(&mut self) {
        if !self.leases.is_empty() {
            let now = self.shared.now();
            let wakes = self.shared.core.lock().unfit(self.group, &self.leases, now);
            wakes.wake();
        }
    }
}

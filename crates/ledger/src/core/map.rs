//! Maps: ordered keys with versions, of which memory holds only what no checkpoint has yet.
//!
//! An entry is looked for in three places, and the first that knows its key counts: what has changed since
//! the last capture, what was captured and is being stored, and the tables of the checkpoint. A key that
//! went is known as gone (a tombstone) until the checkpoint has lost it too. Nothing here reads the disk:
//! an entry that memory does not know is *cold*, and read before the lock is taken.

mod cache;
mod index;

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};

pub(crate) use self::index::{Time, WINDOW};
pub(super) use self::{
    cache::{Cache, Cached},
    index::TimeIndex,
};
use super::{SpaceId, timers::Taken};
use crate::{options::MapOptions, record::Value, transaction::ExpectValue};

/// About what an entry takes in memory besides its key and value.
pub(super) const ENTRY_BYTES: u64 = 160;

/// What has become of a key.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The entry, or `None` for one that is gone.
    pub(crate) value: Option<Value>,
    /// Whether neither the checkpoint nor what is being stored has the key: if it goes again, nothing has
    /// to be deleted.
    new: bool,
}

/// Keys that have changed.
pub(crate) type Changes = BTreeMap<Bytes, Change>;

/// Part of a map's keys, in order.
#[derive(Clone, Debug)]
pub(crate) struct KeyRange {
    /// What the keys begin with.
    pub(crate) prefix: Bytes,
    /// The key that they stand behind.
    pub(crate) after: Option<Bytes>,
}

impl KeyRange {
    /// Where it begins.
    pub(crate) fn begin(&self) -> Bound<&[u8]> {
        match &self.after {
            Some(after) if *after >= self.prefix => Bound::Excluded(after),
            _ => Bound::Included(&self.prefix),
        }
    }
}

/// A map.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) name: Arc<str>,
    pub(crate) space: SpaceId,
    /// Those that somebody has, if its entries are timers.
    pub(super) timers: Option<Taken>,
    /// When its entries expire, or are due.
    pub(super) times: TimeIndex,
    changes: Changes,
    captured: Option<Arc<Changes>>,
    /// About the bytes of both in memory.
    bytes: [u64; 2],
    /// Whether a checkpoint may have entries of it.
    pub(super) stored: bool,
    /// The number of the last transaction that changed anything, so that readers wait for it.
    pub(crate) changed: u64,
    pub(crate) dirty: bool,
    /// What the transaction under check has put (true) or deleted.
    staged: BTreeMap<Bytes, bool>,
    attempt: u64,
}

const fn cost(key: &Bytes, value: Option<&Value>) -> u64 {
    let data = match value {
        Some(value) => value.data.len(),
        None => 0,
    };
    ENTRY_BYTES + (key.len() + data) as u64
}

/// The expiry that a change gives its key, if it leaves it one.
fn time_of(changes: &Changes, key: &[u8]) -> Option<u64> {
    Some(changes.get(key)?.value.as_ref()?.expires_ms)
}

impl Map {
    /// An empty map.
    pub(crate) fn new(name: Arc<str>, space: SpaceId, options: MapOptions) -> Self {
        Self {
            name,
            space,
            timers: options.timers.then(Taken::default),
            times: TimeIndex::default(),
            changes: Changes::new(),
            captured: None,
            bytes: [0; 2],
            stored: false,
            changed: 0,
            dirty: true,
            staged: BTreeMap::new(),
            attempt: 0,
        }
    }

    /// About the bytes that its changes take in memory.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes[0] + self.bytes[1]
    }

    /// What it was made with.
    pub(crate) const fn options(&self) -> MapOptions {
        MapOptions { timers: self.timers.is_some() }
    }

    /// Whether a checkpoint may have entries of it.
    pub(crate) const fn is_stored(&self) -> bool {
        self.stored
    }

    /// Whether an entry of this expiry is there: its time is not over, or does not end it.
    pub(crate) const fn stays(&self, expires_ms: u64, wall_ms: u64) -> bool {
        expires_ms == 0 || expires_ms > wall_ms || self.timers.is_some()
    }

    /// An entry as it is stored, or that it is gone; `None` if only the checkpoint knows.
    pub(crate) fn known(&self, key: &[u8]) -> Option<Option<&Value>> {
        let captured = || self.captured.as_ref().and_then(|captured| captured.get(key));
        match self.changes.get(key).or_else(captured) {
            Some(change) => Some(change.value.as_ref()),
            None if self.stored => None,
            None => Some(None),
        }
    }

    /// Checks what an operation of the transaction `attempt` expects of a key, and notes what it does.
    /// `version` is that of the entry that is there.
    pub(crate) fn stage(
        &mut self,
        key: &Bytes,
        expect: ExpectValue,
        version: Option<u64>,
        put: bool,
        attempt: u64,
    ) -> Result<()> {
        if self.attempt != attempt {
            self.attempt = attempt;
            self.staged.clear();
        }
        if expect != ExpectValue::Any {
            let staged = self.staged.get(key).copied();
            let there = staged.unwrap_or(version.is_some());
            let fits = match expect {
                ExpectValue::Any => true,
                ExpectValue::Absent => !there,
                ExpectValue::Present => there,
                ExpectValue::Version(wanted) => staged.is_none() && version == Some(wanted),
            };
            if !fits {
                let say = match expect {
                    ExpectValue::Absent => "the entry is there already",
                    ExpectValue::Present => "the entry is not there",
                    _ => "the entry has another version",
                };
                return Err(Error::new(Reason::VersionConflict, say));
            }
        }
        self.staged.insert(key.clone(), put);
        Ok(())
    }

    /// Sets an entry; `absent` if it is known that the checkpoint does not have it.
    pub(super) fn put(&mut self, key: Bytes, value: Value, absent: bool) {
        self.changed = self.changed.max(value.version);
        self.forget_time(&key);
        self.times.set(&key, value.expires_ms);
        let captured = self.captured.as_ref().is_some_and(|captured| captured.contains_key(&key));
        let new = !captured && (absent || !self.stored);
        self.bytes[0] += cost(&key, Some(&value));
        match self.changes.get_mut(&key) {
            Some(change) => {
                self.bytes[0] -= cost(&key, change.value.as_ref());
                change.value = Some(value);
            }
            None => drop(self.changes.insert(key, Change { value: Some(value), new })),
        }
    }

    /// Removes an entry, whether it is there or not.
    pub(super) fn delete(&mut self, key: &Bytes, seq: u64) {
        self.changed = self.changed.max(seq);
        self.forget_time(key);
        let captured = self.captured.as_ref().is_some_and(|captured| captured.contains_key(key));
        if let Some(change) = self.changes.get_mut(key) {
            self.bytes[0] -= cost(key, change.value.as_ref());
            // What came and went since the last capture leaves nothing behind.
            if change.new {
                self.changes.remove(key);
                return;
            }
            change.value = None;
        } else if captured || self.stored {
            self.changes.insert(key.clone(), Change { value: None, new: false });
        } else {
            return;
        }
        self.bytes[0] += cost(key, None);
    }

    /// A key has no time any more, and nobody has its timer.
    fn forget_time(&mut self, key: &Bytes) {
        let captured = || time_of(self.captured.as_deref()?, key);
        let time = time_of(&self.changes, key).or_else(captured);
        self.times.unset(key, time);
        if let Some(taken) = &mut self.timers {
            taken.forget(key);
        }
    }

    /// Entries of a range that memory knows of, and keys that are gone or whose time is over, until there
    /// are `limit` entries. What a checkpoint has between them counts too.
    pub(crate) fn overlay(
        &self,
        range: &KeyRange,
        limit: usize,
        wall_ms: u64,
    ) -> Vec<(Bytes, Option<Value>)> {
        let bounds = (range.begin(), Bound::Unbounded);
        let within = |(key, _): &(&Bytes, &Change)| key.starts_with(&range.prefix);
        let nothing = Changes::new();
        let captured = self.captured.as_deref().unwrap_or(&nothing);
        let mut older = captured.range::<[u8], _>(bounds).take_while(within).peekable();
        let mut newer = self.changes.range::<[u8], _>(bounds).take_while(within).peekable();
        let (mut found, mut there) = (Vec::new(), 0);
        while there < limit {
            let next = match (newer.peek(), older.peek()) {
                (Some((new, _)), Some((old, _))) => {
                    if new == old {
                        older.next();
                        newer.next()
                    } else if new < old {
                        newer.next()
                    } else {
                        older.next()
                    }
                }
                (Some(_), None) => newer.next(),
                _ => older.next(),
            };
            let Some((key, change)) = next else { break };
            let value = change.value.as_ref();
            let value = value.filter(|value| self.stays(value.expires_ms, wall_ms)).cloned();
            there += usize::from(value.is_some());
            found.push((key.clone(), value));
        }
        found
    }

    /// Takes what has changed for a checkpoint, with what the last one could not store.
    pub(super) fn capture(&mut self) -> Option<Arc<Changes>> {
        let changes = std::mem::take(&mut self.changes);
        match &mut self.captured {
            Some(before) => Arc::make_mut(before).extend(changes),
            None if changes.is_empty() => return None,
            none => *none = Some(Arc::new(changes)),
        }
        self.bytes = [0, self.bytes()];
        self.times.capture();
        self.captured.clone()
    }

    /// The checkpoint has what was captured; gives that, to be let go off the lock.
    pub(super) fn let_go(&mut self) -> Option<Arc<Changes>> {
        let captured = self.captured.take()?;
        self.bytes[1] = 0;
        self.stored = true;
        self.times.stored();
        Some(captured)
    }

    /// Whether memory has a change of a key.
    pub(super) fn changes(&self, key: &[u8]) -> bool {
        self.changes.contains_key(key)
            || self.captured.as_ref().is_some_and(|captured| captured.contains_key(key))
    }

    /// Takes in times that the checkpoint has behind `after`, as far as no change has come over them.
    /// Nothing, if others have been taken in meanwhile.
    pub(super) fn refill(&mut self, after: Option<&Time>, rows: Vec<Time>) {
        if self.times.bound() != after {
            return;
        }
        let whole = rows.len() < WINDOW;
        let last = rows.last().cloned().filter(|_| !whole);
        let taken = |key: &Bytes| self.timers.as_ref().is_some_and(|taken| taken.has(key));
        let fits = |time: &Time| !self.changes(&time.1) && !taken(&time.1);
        let rows: Vec<Time> = rows.into_iter().filter(fits).collect();
        self.times.refill(rows, last);
    }
}

//! Maps: ordered keys with versions, wholly in memory.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};

use super::{SpaceId, timers::Timers};
use crate::{options::MapOptions, record::Value, transaction::ExpectValue};

/// A map.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) name: Arc<str>,
    pub(crate) space: SpaceId,
    /// The order in which they are due, if its entries are timers.
    pub(super) timers: Option<Timers>,
    entries: BTreeMap<Bytes, Value>,
    bytes: u64,
    /// The number of the last transaction that changed anything, so that readers wait for it.
    pub(crate) changed: u64,
    pub(crate) dirty: bool,
    /// Keys that have changed since the last capture, each with whether a checkpoint may have it.
    pub(crate) dirty_keys: BTreeMap<Bytes, bool>,
    /// What the transaction under check has put (true) or deleted.
    pub(crate) staged: BTreeMap<Bytes, bool>,
    pub(crate) attempt: u64,
}

impl Map {
    /// An empty map.
    pub(crate) fn new(name: Arc<str>, space: SpaceId, options: MapOptions) -> Self {
        Self {
            name,
            space,
            timers: options.timers.then(Timers::default),
            entries: BTreeMap::new(),
            bytes: 0,
            changed: 0,
            dirty: true,
            dirty_keys: BTreeMap::new(),
            staged: BTreeMap::new(),
            attempt: 0,
        }
    }

    /// Bytes of keys and values.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it was made with.
    pub(crate) const fn options(&self) -> MapOptions {
        MapOptions { timers: self.timers.is_some() }
    }

    /// Whether an entry is there: its time is not over, or does not end it.
    const fn stays(&self, value: &Value, wall_ms: u64) -> bool {
        value.expires_ms == 0 || value.expires_ms > wall_ms || self.timers.is_some()
    }

    /// An entry, unless its time is over.
    pub(crate) fn get(&self, key: &[u8], wall_ms: u64) -> Option<&Value> {
        self.entries.get(key).filter(|value| self.stays(value, wall_ms))
    }

    /// The entry as it is stored.
    pub(crate) fn stored(&self, key: &[u8]) -> Option<&Value> {
        self.entries.get(key)
    }

    /// All keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.entries.keys()
    }

    /// Entries of a prefix behind a key.
    pub(crate) fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        wall_ms: u64,
    ) -> Vec<(Bytes, Value)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.entries
            .range::<[u8], _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, value)| self.stays(value, wall_ms))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Checks what an operation of the transaction `attempt` expects of a key, and notes what it does.
    pub(crate) fn stage(
        &mut self,
        key: &Bytes,
        expect: ExpectValue,
        put: bool,
        attempt: u64,
        wall_ms: u64,
    ) -> Result<()> {
        if self.attempt != attempt {
            self.attempt = attempt;
            self.staged.clear();
        }
        if expect != ExpectValue::Any {
            let staged = self.staged.get(key).copied();
            let version = self.get(key, wall_ms).map(|value| value.version);
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

    /// Sets an entry.
    pub(crate) fn put(&mut self, key: Bytes, value: Value) {
        self.bytes += (key.len() + value.data.len()) as u64;
        self.changed = self.changed.max(value.version);
        let (len, due_ms) = (key.len(), value.expires_ms);
        let old = self.entries.insert(key.clone(), value);
        if let Some(timers) = &mut self.timers {
            if let Some(old) = &old {
                timers.unset(&key, old.expires_ms);
            }
            timers.set(&key, due_ms);
        }
        self.dirty_keys.entry(key).or_insert(old.is_some());
        if let Some(old) = old {
            self.bytes = self.bytes.saturating_sub((len + old.data.len()) as u64);
        }
    }

    /// Removes an entry.
    pub(crate) fn delete(&mut self, key: &[u8], seq: u64) {
        self.changed = self.changed.max(seq);
        if let Some((key, old)) = self.entries.remove_entry(key) {
            if let Some(timers) = &mut self.timers {
                timers.unset(&key, old.expires_ms);
            }
            self.bytes = self.bytes.saturating_sub((key.len() + old.data.len()) as u64);
            // What came and went since the last capture leaves nothing behind.
            if self.dirty_keys.get(&key) == Some(&false) {
                self.dirty_keys.remove(&key);
            } else {
                self.dirty_keys.insert(key, true);
            }
        }
    }

    /// Takes up an entry that a checkpoint had.
    pub(crate) fn restore(&mut self, key: Bytes, value: Value) {
        self.put(key, value);
        self.dirty_keys.clear();
    }
}

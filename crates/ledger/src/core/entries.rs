//! Entries of maps, and what has to be read of them before something can be done with them.
//!
//! Nobody reads the disk under the lock. Who needs what memory does not know is told so, reads it, takes
//! the lock again and hands it in; it is taken if no checkpoint was stored meanwhile, for then nothing
//! that was read can have changed unseen, and read again otherwise.

use std::sync::Arc;

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};

use super::{
    Core, Now, Wakes,
    map::{Cached, Changes, Time},
    missing,
};
use crate::{
    options::Durability,
    record::{MapId, Value},
    transaction::{ExpectValue, Op, Transaction},
};

/// Of what was stored, so much stays for those who read it again.
const STAYS_MAX: usize = 1024;
/// How many times what may wait for a checkpoint, until more is not taken.
const WAITING_MAX: u64 = 3;

/// What memory knows of an entry.
#[derive(Debug)]
pub(crate) enum Look<'a> {
    /// All of it.
    Whole(&'a Value),
    /// Its version, its expiry, and that it is large.
    Head((u64, u64)),
    /// That it is not there.
    Absent,
    /// Nothing: the checkpoint may have it.
    Cold,
}

/// What has to be read from the checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    pub(crate) entries: Vec<(MapId, Bytes)>,
    pub(crate) refills: Vec<Refill>,
}

impl Missing {
    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.refills.is_empty()
    }
}

/// Times of a map that are to be read, behind one.
#[derive(Clone, Debug)]
pub(crate) struct Refill {
    pub(crate) map: MapId,
    pub(crate) after: Option<Time>,
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) entries: Vec<(MapId, Bytes, Option<Value>)>,
    pub(crate) times: Vec<(Refill, Vec<Time>)>,
}

/// What an operation expects of an entry.
fn expected(op: &Op) -> Option<(MapId, &Bytes)> {
    match op {
        Op::Put { map, key, expect, .. } | Op::Delete { map, key, expect } => {
            (*expect != ExpectValue::Any).then_some((*map, key))
        }
        _ => None,
    }
}

/// Whether any operation expects something of an entry.
pub(crate) fn expect_entries(ops: &[Op]) -> bool {
    ops.iter().any(|op| expected(op).is_some())
}

impl Core {
    /// What memory knows of an entry.
    pub(crate) fn look(&self, id: MapId, key: &[u8]) -> Look<'_> {
        let Some(map) = self.maps.get(&id.0) else { return Look::Absent };
        match map.known(key) {
            Some(Some(value)) => Look::Whole(value),
            Some(None) => Look::Absent,
            None => match self.cache.get(id.0, key) {
                Some(Cached::Whole(value)) => Look::Whole(value),
                Some(Cached::Head { version, expires_ms }) => Look::Head((*version, *expires_ms)),
                Some(Cached::Absent) => Look::Absent,
                None => Look::Cold,
            },
        }
    }

    /// The version of an entry that is there; `None` without it.
    pub(super) fn version_of(&self, id: MapId, key: &[u8], now: Now) -> Result<Option<u64>> {
        let map = self.map(id)?;
        let (version, expires_ms) = match self.look(id, key) {
            Look::Whole(value) => (value.version, value.expires_ms),
            Look::Head(head) => head,
            Look::Absent => return Ok(None),
            Look::Cold => {
                let say = "the entry was not read before it was looked at";
                return Err(Error::new(Reason::Internal, say));
            }
        };
        Ok(map.stays(expires_ms, now.wall_ms).then_some(version))
    }

    /// Entries of which something is expected and memory knows nothing.
    pub(crate) fn cold(&self, ops: &[Op]) -> Vec<(MapId, Bytes)> {
        let cold = ops.iter().filter_map(expected);
        let cold = cold.filter(|(map, key)| matches!(self.look(*map, key), Look::Cold));
        cold.map(|(map, key)| (map, key.clone())).collect()
    }

    /// How many checkpoints were stored since the ledger was opened.
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Takes in what was read since `generation`; with `heads` only to be expected something of. Nothing, if
    /// a checkpoint was stored meanwhile. It is there as long as the lock is not given back.
    pub(crate) fn take_in(&mut self, generation: u64, fetched: Fetched, heads: bool) {
        if generation != self.generation {
            return;
        }
        self.cache.trim(self.options.map_cache_bytes.0);
        for (id, key, value) in fetched.entries {
            // What has changed meanwhile counts.
            if self.maps.get(&id.0).is_none_or(|map| map.known(&key).is_some()) {
                continue;
            }
            if heads {
                self.cache.insert_head(id.0, key, value);
            } else {
                self.cache.insert(id.0, key, value);
            }
        }
        for (Refill { map, after }, rows) in fetched.times {
            if let Some(map) = self.maps.get_mut(&map.0) {
                map.refill(after.as_ref(), rows);
            }
        }
    }

    /// Sets an entry.
    pub(super) fn put_entry(&mut self, id: u32, key: Bytes, value: Value) {
        let absent = matches!(self.cache.get(id, &key), Some(Cached::Absent));
        self.cache.remove(id, &key);
        let Some(map) = self.maps.get_mut(&id) else { return };
        if value.expires_ms != 0 && map.timers.is_none() {
            self.expiring.insert(id);
        }
        let before = map.bytes();
        map.put(key, value, absent);
        self.changed_bytes = self.changed_bytes + map.bytes() - before;
    }

    /// Removes an entry.
    pub(super) fn delete_entry(&mut self, id: u32, key: &Bytes, seq: u64) {
        self.cache.remove(id, key);
        let Some(map) = self.maps.get_mut(&id) else { return };
        let before = map.bytes();
        map.delete(key, seq);
        self.changed_bytes = self.changed_bytes + map.bytes() - before;
    }

    /// Whether so much has changed in maps that a checkpoint is due.
    pub(crate) const fn maps_changed(&self) -> bool {
        self.changed_bytes > self.options.map_changes_bytes.0
    }

    /// Whether more changes of maps would be more than may wait for a checkpoint.
    pub(super) const fn maps_full(&self) -> bool {
        self.changed_bytes > self.options.map_changes_bytes.0.saturating_mul(WAITING_MAX)
    }

    /// The checkpoint has what was captured last: gives what memory kept of it, to be let go off the lock,
    /// and who waited for room.
    pub(crate) fn stored(&mut self) -> (Vec<Arc<Changes>>, Wakes) {
        self.generation += 1;
        let mut stored = Vec::new();
        let mut stays = STAYS_MAX;
        for (&id, map) in &mut self.maps {
            let before = map.bytes();
            let Some(captured) = map.let_go() else { continue };
            self.changed_bytes = self.changed_bytes + map.bytes() - before;
            for (key, change) in captured.iter().take(stays) {
                stays -= 1;
                // What has changed again is known anyway.
                if !map.changes(key) {
                    self.cache.insert_head(id, key.clone(), change.value.clone());
                }
            }
            stored.push(captured);
        }
        self.cache.trim(self.options.map_cache_bytes.0);
        (stored, self.made_room())
    }

    /// Deletes entries of maps whose time is over, as one transaction; who is to be woken, if there were
    /// any, and what has to be read before there can be more. Refused for want of room, they go with a later
    /// call.
    pub(crate) fn expire_entries(&mut self, now: Now, limit: usize) -> (Option<Wakes>, Missing) {
        let mut transaction = Transaction::new(Durability::Os);
        let mut missing = Missing::default();
        let maps = &self.maps;
        self.expiring.retain(|id| maps.get(id).is_some_and(|map| !map.times.is_empty()));
        for &id in &self.expiring {
            let left = limit - transaction.ops.len();
            let Some(map) = self.maps.get(&id).filter(|_| left > 0) else { break };
            let (due, more) = map.times.due(now.wall_ms, left);
            if more {
                let after = map.times.bound().cloned();
                missing.refills.push(Refill { map: MapId(id), after });
            }
            let expect = ExpectValue::Any;
            let delete = |(_, key)| Op::Delete { map: MapId(id), key, expect };
            transaction.ops.extend(due.into_iter().map(delete));
        }
        if transaction.ops.is_empty() {
            return (None, missing);
        }
        (self.submit(transaction, &[], now).ok().map(|(_, wakes)| wakes), missing)
    }

    /// Makes out whether a map is there.
    ///
    /// # Errors
    /// `no_message` without it.
    pub(crate) fn has_map(&self, id: MapId) -> Result<()> {
        self.maps.get(&id.0).map(|_| ()).ok_or_else(|| missing(id))
    }
}

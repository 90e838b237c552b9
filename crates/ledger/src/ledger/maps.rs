//! Reading maps: what memory knows at once, the rest from the checkpoint, off the lock.

use bytes::Bytes;
use parking_lot::MutexGuard;
use tokio::sync::oneshot;
use weft_kernel::{Error, Reason, Result};

use super::{Ledger, Shared};
use crate::{
    checkpoint::{
        Checkpoint,
        maps::{Scan, times},
    },
    core::{Core, Fetched, KeyRange, Look, Missing, TIMES_AT_ONCE, expect_entries},
    options::Durability,
    record::{MapId, Value},
    store::StoreAnswer,
    transaction::Op,
};

/// What memory knows of an entry.
struct Known {
    /// `None` if it does not know.
    value: Option<Option<Value>>,
    limits: ShowLimits,
    generation: u64,
}

/// Which entry of a map is shown, and from when on.
#[derive(Clone, Copy)]
struct ShowLimits {
    /// What expires at or before this is over.
    over_ms: u64,
    /// The transaction that last changed the map.
    changed: u64,
}

impl ShowLimits {
    /// The transaction that must be durable before an entry, or its absence, is shown.
    fn seq(self, value: Option<&Value>) -> u64 {
        // Its absence may be as fresh as its presence.
        value.map_or(self.changed, |value| value.version)
    }

    fn shown(self, value: Option<Value>) -> Option<Value> {
        value.filter(|value| value.expires_ms == 0 || value.expires_ms > self.over_ms)
    }
}

/// The error of a ledger that has no files any more.
fn closed() -> Error {
    Error::new(Reason::StorageUnavailable, "the ledger is being closed")
}

/// Reads what is missing.
fn fetch(checkpoint: &Checkpoint, missing: Missing) -> Result<Fetched> {
    let mut fetched = Fetched::default();
    if !missing.entries.is_empty() {
        let found = checkpoint.entries(&missing.entries)?;
        let entries = missing.entries.into_iter().zip(found);
        fetched.entries = entries.map(|((map, key), value)| (map, key, value)).collect();
    }
    for refill in missing.refills {
        let rows = times(checkpoint, refill.map.0, refill.after.as_ref(), TIMES_AT_ONCE)?;
        fetched.times.push((refill, rows));
    }
    Ok(fetched)
}

impl Shared {
    /// Reads from the checkpoint, in a thread of those that read.
    async fn aside<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Checkpoint) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let cold = self.cold.get().ok_or_else(closed)?;
        let (answer, told) = oneshot::channel();
        cold.spawn(Box::new(move |checkpoint| {
            // Who no longer waits needs no answer.
            if !answer.is_closed() {
                let _ = answer.send(read(checkpoint));
            }
        }));
        self.tell(told.await.unwrap_or_else(|_| Err(closed())))
    }

    /// Tells the operator too of damage that a read has met.
    fn tell<T>(&self, read: Result<T>) -> Result<T> {
        read.inspect_err(|error| {
            if error.reason() == Reason::StorageCorrupt {
                self.damages.tell(format!("entries of maps cannot be read: {}", error.detail()));
            }
        })
    }

    /// The lock of the state, with everything in memory that operations expect something of. Reads the
    /// disk, in this thread, only where memory does not know it.
    pub(super) fn lock_with(&self, ops: &[Op]) -> Result<MutexGuard<'_, Core>> {
        let mut core = self.core.lock();
        if !expect_entries(ops) {
            return Ok(core);
        }
        loop {
            let entries = core.cold(ops);
            if entries.is_empty() {
                return Ok(core);
            }
            let generation = core.generation();
            drop(core);
            let cold = self.cold.get().ok_or_else(closed)?;
            let missing = Missing { entries, refills: Vec::new() };
            let fetched = self.tell(fetch(cold.checkpoint(), missing))?;
            core = self.core.lock();
            core.take_in(generation, fetched, true);
        }
    }

    /// Has read what operations expect something of, so that [`Shared::lock_with`] finds it in memory.
    pub(super) async fn warm(&self, ops: &[Op]) -> Result<()> {
        if !expect_entries(ops) {
            return Ok(());
        }
        let (entries, generation) = {
            let core = self.core.lock();
            (core.cold(ops), core.generation())
        };
        if entries.is_empty() {
            return Ok(());
        }
        let missing = Missing { entries, refills: Vec::new() };
        let fetched = self.aside(move |checkpoint| fetch(checkpoint, missing)).await?;
        self.core.lock().take_in(generation, fetched, true);
        Ok(())
    }

    /// Reads what is missing; what was read is to be handed in at once.
    pub(super) async fn fetch(&self, missing: Missing) -> Result<Fetched> {
        self.aside(move |checkpoint| fetch(checkpoint, missing)).await
    }

    /// Reads what is missing in this thread, and hands it in.
    pub(crate) fn fetch_now(&self, generation: u64, missing: Missing) -> Result<()> {
        let cold = self.cold.get().ok_or_else(closed)?;
        let fetched = self.tell(fetch(cold.checkpoint(), missing))?;
        self.core.lock().take_in(generation, fetched, false);
        Ok(())
    }
}

impl Ledger {
    /// An entry, at once if memory knows it and it is durable.
    pub(super) fn get<'a>(
        &'a self,
        map: MapId,
        key: &'a [u8],
    ) -> StoreAnswer<'a, Result<Option<Value>>> {
        let known = match self.known(map, key) {
            Ok(known) => known,
            Err(error) => return StoreAnswer::ready(Err(error)),
        };
        let durable = self.shared.waiters.reached(Durability::Fsync).unwrap_or(u64::MAX);
        match known.value {
            Some(value) if known.limits.seq(value.as_ref()) <= durable => {
                StoreAnswer::ready(Ok(known.limits.shown(value)))
            }
            _ => StoreAnswer::later(self.get_slowly(map, key, known)),
        }
    }

    /// What memory knows of an entry.
    fn known(&self, map: MapId, key: &[u8]) -> Result<Known> {
        let now = self.shared.now();
        let core = self.shared.core.lock();
        let of = core.map(map)?;
        let over_ms = if of.options().timers { 0 } else { now.wall_ms };
        let value = match core.look(map, key) {
            Look::Whole(value) => Some(Some(value.clone())),
            Look::Absent => Some(None),
            Look::Head(_) | Look::Cold => None,
        };
        let limits = ShowLimits { over_ms, changed: of.changed };
        Ok(Known { value, limits, generation: core.generation() })
    }

    async fn get_slowly(&self, map: MapId, key: &[u8], known: Known) -> Result<Option<Value>> {
        let value = match known.value {
            Some(value) => value,
            None => {
                let key = Bytes::copy_from_slice(key);
                let wanted = vec![(map, key.clone())];
                let read = self.shared.aside(move |checkpoint| checkpoint.entries(&wanted));
                let value = read.await?.pop().flatten();
                let entries = vec![(map, key, value.clone())];
                let fetched = Fetched { entries, times: Vec::new() };
                self.shared.core.lock().take_in(known.generation, fetched, true);
                value
            }
        };
        self.shared.until(known.limits.seq(value.as_ref()), Durability::Fsync).await?;
        Ok(known.limits.shown(value))
    }

    pub(super) async fn scan(
        &self,
        map: MapId,
        prefix: &[u8],
        after: Option<Bytes>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Value)>> {
        let range = KeyRange { prefix: Bytes::copy_from_slice(prefix), after };
        let now = self.shared.now();
        loop {
            let (scan, stored, changed, seq) = {
                let core = self.shared.core.lock();
                let of = core.map(map)?;
                let overlay = of.overlay(&range, limit, now.wall_ms);
                let over_ms = if of.options().timers { 0 } else { now.wall_ms };
                let scan = Scan { map, range: range.clone(), overlay, limit, over_ms };
                (scan, of.is_stored(), of.changed, core.seq())
            };
            let (upto, found) = if stored {
                self.shared.aside(move |checkpoint| checkpoint.scan(scan)).await?
            } else {
                let found = scan.overlay.into_iter();
                (0, found.filter_map(|(key, value)| Some((key, value?))).collect())
            };
            // Of a checkpoint that was stored meanwhile, memory knows more.
            if upto <= seq {
                self.shared.until(changed, Durability::Fsync).await?;
                return Ok(found);
            }
        }
    }
}

//! Timers: entries of a map whose time is not their end, but when they are handed out.
//!
//! A timer is set, moved and cancelled as an entry is put and deleted, in any transaction. One whose time
//! has come is taken by its namespace, and stays in the map until a transaction deletes or moves it: who
//! takes it and goes away, also in a crash, has it handed out again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use weft_kernel::Tick;

use super::{Core, Look, Missing, Now, Refill, map::Map, space::SpaceId};
use crate::record::{MapId, Timer};

/// Longest that a timer is waited for before the wall clock, which may have been set, is looked at again.
const WALL_CHECK: Duration = Duration::from_secs(1);
/// So many timers at most are read from the checkpoint at once.
const READ_MAX: usize = 64;

/// Timers of a map that somebody has.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Until when.
    until: BTreeMap<Bytes, Tick>,
    /// The same by time.
    returns: BTreeSet<(Tick, Bytes)>,
}

impl Taken {
    /// Whether somebody has a timer.
    pub(super) fn has(&self, key: &Bytes) -> bool {
        self.until.contains_key(key)
    }

    /// A timer is not there any more, or set anew.
    pub(super) fn forget(&mut self, key: &Bytes) {
        if let Some(until) = self.until.remove(key) {
            self.returns.remove(&(until, key.clone()));
        }
    }

    /// Somebody has a timer.
    fn take(&mut self, key: &Bytes, until: Tick) {
        self.forget(key);
        self.until.insert(key.clone(), until);
        self.returns.insert((until, key.clone()));
    }

    /// Those that somebody has had for too long.
    fn returned(&self, now: Tick, limit: usize) -> Vec<Bytes> {
        let over = self.returns.iter().take_while(|(until, _)| *until <= now);
        over.take(limit).map(|(_, key)| key.clone()).collect()
    }
}

/// Timers that were taken.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    pub(crate) timers: Vec<Timer>,
    /// The number of the transaction that has to be durable for them.
    pub(crate) seq: u64,
    /// What has to be read before there can be more.
    pub(crate) missing: Missing,
}

impl Map {
    /// When a timer is to be handed out next, or the wall clock is to be looked at again.
    pub(super) fn next_timer(&self, now: Now) -> Option<Tick> {
        let taken = self.timers.as_ref()?;
        let look = now.tick.plus(WALL_CHECK);
        let due = self.times.next().map(|due_ms| now.tick_at(due_ms).min(look));
        let back = taken.returns.first().map(|(until, _)| *until);
        due.into_iter().chain(back).min()
    }
}

impl Core {
    /// When a timer of a namespace is to be handed out next.
    pub(super) fn next_timer(&mut self, space: SpaceId, now: Now) -> Option<Tick> {
        let ids = &self.spaces.get(space).timer_maps;
        ids.iter().filter_map(|id| self.maps.get(id)?.next_timer(now)).min()
    }

    /// Takes timers of a namespace whose time has come, at most `limit`, each for `lease`, as far as
    /// memory has them.
    pub(crate) fn take_timers(
        &mut self,
        space: SpaceId,
        limit: usize,
        lease: Duration,
        now: Now,
    ) -> Handed {
        let until = now.tick.plus(lease);
        let mut handed = Handed::default();
        for id in self.spaces.get(space).timer_maps.clone() {
            self.take_timers_of(MapId(id), limit, until, now, &mut handed);
        }
        handed
    }

    fn take_timers_of(
        &mut self,
        id: MapId,
        limit: usize,
        until: Tick,
        now: Now,
        handed: &mut Handed,
    ) {
        let left = limit - handed.timers.len();
        let Some(map) = self.maps.get(&id.0).filter(|_| left > 0) else { return };
        let Some(taken) = &map.timers else { return };
        let returned = taken.returned(now.tick, left);
        let (due, more) = map.times.due(now.wall_ms, left - returned.len());
        if more {
            let after = map.times.bound().cloned();
            handed.missing.refills.push(Refill { map: id, after });
        }
        let mut cold = Vec::new();
        for key in returned.into_iter().chain(due.into_iter().map(|(_, key)| key)) {
            let value = match self.look(id, &key) {
                Look::Whole(value) if cold.is_empty() => value.clone(),
                Look::Head(_) | Look::Cold if cold.len() < READ_MAX => {
                    cold.push((id, key));
                    continue;
                }
                Look::Absent => {
                    debug_assert!(false, "what goes has no time");
                    continue;
                }
                // They go in their order.
                Look::Whole(_) => continue,
                Look::Head(_) | Look::Cold => break,
            };
            let Some(map) = self.maps.get_mut(&id.0) else { return };
            map.times.take(&(value.expires_ms, key.clone()));
            if let Some(taken) = &mut map.timers {
                taken.take(&key, until);
            }
            handed.seq = handed.seq.max(value.version);
            let (due_ms, version, data) = (value.expires_ms, value.version, value.data);
            handed.timers.push(Timer { map: id, key, due_ms, version, data });
        }
        handed.missing.entries.extend(cold);
    }
}

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

use super::{Core, Now, group::WALL_CHECK, space::SpaceId};
use crate::record::{MapId, Timer};

/// The order in which the timers of a map are due.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(u64, Bytes)>,
    /// Those that somebody has, until when.
    taken: BTreeMap<Bytes, Tick>,
    /// The same by time.
    returns: BTreeSet<(Tick, Bytes)>,
}

impl Timers {
    /// A timer is set; 0 for one that is never due.
    pub(super) fn set(&mut self, key: &Bytes, due_ms: u64) {
        if due_ms != 0 {
            self.due.insert((due_ms, key.clone()));
        }
    }

    /// A timer is not there any more, or set anew.
    pub(super) fn unset(&mut self, key: &Bytes, due_ms: u64) {
        self.due.remove(&(due_ms, key.clone()));
        if let Some(until) = self.taken.remove(key) {
            self.returns.remove(&(until, key.clone()));
        }
    }

    /// When one is to be handed out next, or the wall clock is to be looked at again.
    pub(super) fn next(&self, now: Now) -> Option<Tick> {
        let look = now.tick.plus(WALL_CHECK);
        let due = self.due.first().map(|(due_ms, _)| now.tick_at(*due_ms).min(look));
        let back = self.returns.first().map(|(until, _)| *until);
        due.into_iter().chain(back).min()
    }

    /// Takes one whose time has come, for others to have it again at `until`.
    fn take(&mut self, now: Now, until: Tick) -> Option<Bytes> {
        let key = if self.returns.first().is_some_and(|(until, _)| *until <= now.tick) {
            self.returns.pop_first()?.1
        } else if self.due.first().is_some_and(|(due_ms, _)| *due_ms <= now.wall_ms) {
            self.due.pop_first()?.1
        } else {
            return None;
        };
        self.taken.insert(key.clone(), until);
        self.returns.insert((until, key.clone()));
        Some(key)
    }
}

impl Core {
    /// When a timer of a namespace is to be handed out next.
    pub(super) fn next_timer(&self, space: SpaceId, now: Now) -> Option<Tick> {
        let timers = self.timer_maps.iter().filter_map(|id| self.maps.get(id));
        let own = timers.filter(|map| map.space == space);
        own.filter_map(|map| map.timers.as_ref().and_then(|timers| timers.next(now))).min()
    }

    /// Takes timers of a namespace whose time has come, at most `limit`, each for `lease`; and the number
    /// of the transaction that has to be durable for them.
    pub(crate) fn take_timers(
        &mut self,
        space: SpaceId,
        limit: usize,
        lease: Duration,
        now: Now,
    ) -> (Vec<Timer>, u64) {
        let until = now.tick.plus(lease);
        let (mut found, mut seq) = (Vec::new(), 0);
        for id in &self.timer_maps {
            let Some(map) = self.maps.get_mut(id).filter(|map| map.space == space) else {
                continue;
            };
            while found.len() < limit
                && let Some(key) = map.timers.as_mut().and_then(|timers| timers.take(now, until))
            {
                let Some(value) = map.stored(&key) else { continue };
                seq = seq.max(value.version);
                let (due_ms, version, data) = (value.expires_ms, value.version, value.data.clone());
                found.push(Timer { map: MapId(*id), key, due_ms, version, data });
            }
        }
        (found, seq)
    }
}

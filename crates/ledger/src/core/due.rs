//! Time: when which group has to be looked at, and what is done then.

use std::cmp::Ordering;

use bytes::Bytes;
use weft_kernel::{Result, Tick};

use super::{Core, Item, Now, Wakes, missing, space::SpaceId};
use crate::record::GroupId;

/// After so many milliseconds a record is looked at again that could not expire when its time came.
const AGAIN_MS: u64 = 1000;
/// And after so many one that is about to be seen, or to be taken.
const SOON_MS: u64 = 20;
/// A clock that differs by so many milliseconds from what was reckoned with was set.
const SET_MS: u64 = 500;
/// About so many bytes are leased to the system at once, because it reads them all.
const OVERDUE_BYTES: u64 = 8 << 20;

/// How much more is leased to the system.
struct Left {
    records: usize,
    bytes: u64,
}

/// An entry in the order of timers; the earliest is the greatest, for a heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timer {
    at: Tick,
    group: u32,
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at).then_with(|| other.group.cmp(&self.group))
    }
}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Core {
    /// Enters when a group has to be looked at next, if that is earlier than what is entered.
    pub(super) fn arm_group(&mut self, id: u32, now: Now, wakes: &mut Wakes) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let mut at = queue.group.next_due(now);
        let mut on_wall = queue.group.is_for_wall();
        if queue.group.options.owner
            && let Some(log) = self.logs.get(&queue.group.options.log.0)
            && let Some(expires_ms) = log.expiring.as_ref().and_then(|expiring| expiring.next())
        {
            at = at.min(now.tick_at(expires_ms));
            on_wall = true;
        }
        let space = self.spaces.get(queue.space);
        if on_wall != queue.group.on_wall {
            queue.group.on_wall = on_wall;
            if on_wall {
                space.on_wall.insert(id);
                space.ahead_ms.get_or_insert(now.ahead_ms());
            } else {
                space.on_wall.remove(&id);
            }
        }
        if at >= queue.group.timer {
            return;
        }
        queue.group.timer = at;
        space.looks.push(Timer { at, group: id });
        wakes.push(space.tell(at));
    }

    /// When something is due next in a namespace; whoever asks is told when it becomes earlier.
    pub(crate) fn next_due(&mut self, space: SpaceId, now: Now) -> Option<Tick> {
        let timer = self.next_timer(space, now);
        let space = self.spaces.get(space);
        let next = space.looks.peek().map(|timer| timer.at).into_iter().chain(timer).min();
        space.told(next);
        next
    }

    /// Whether a group of a namespace waits for a time of the wall clock.
    pub(crate) fn waits_for_wall(&mut self, space: SpaceId) -> bool {
        !self.spaces.get(space).on_wall.is_empty()
    }

    /// Reckons anew when groups have to be looked at that wait for a time of the wall clock, if that was set.
    fn look_at_wall(&mut self, space: SpaceId, now: Now, wakes: &mut Wakes) {
        let of = self.spaces.get(space);
        let (ahead_ms, before) = (now.ahead_ms(), of.ahead_ms);
        if of.on_wall.is_empty() || before.is_none_or(|before| ahead_ms.abs_diff(before) < SET_MS) {
            return;
        }
        of.ahead_ms = Some(ahead_ms);
        let groups: Vec<u32> = of.on_wall.iter().copied().collect();
        for id in groups {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.group.timer = Tick::NEVER;
                self.arm_group(id, now, wakes);
            }
        }
    }

    /// Whether something is due earlier than was told; else wakes the task when it is.
    pub(crate) fn poll_due(&mut self, space: SpaceId, waker: &std::task::Waker) -> bool {
        self.spaces.get(space).poll(waker)
    }

    /// Does what is due in a namespace: makes waiting records ready, and leases to the system what ran out or
    /// expired: at most `limit`, and about 8 MiB.
    pub(crate) fn overdue(
        &mut self,
        space: SpaceId,
        now: Now,
        limit: usize,
    ) -> (Vec<(GroupId, Item)>, Wakes) {
        let mut wakes = Wakes::default();
        let mut items = Vec::new();
        let mut left = Left { records: limit, bytes: OVERDUE_BYTES };
        self.look_at_wall(space, now, &mut wakes);
        while let Some(timer) = self.spaces.get(space).looks.peek().copied()
            && timer.at <= now.tick
            && left.records > 0
            && left.bytes > 0
        {
            self.spaces.get(space).looks.pop();
            self.due_group(timer.group, now, &mut left, &mut items, &mut wakes);
        }
        (items, wakes)
    }

    /// Has a record told to the system with what is overdue next; whether it can be.
    pub(crate) fn recall(
        &mut self,
        id: GroupId,
        position: u64,
        key: Bytes,
        now: Now,
    ) -> Result<(bool, Wakes)> {
        let queue = self.queues.get_mut(&id.0).ok_or_else(|| missing(id))?;
        let recalled = queue.group.recall(position, key);
        let mut wakes = Wakes::default();
        self.arm_group(id.0, now, &mut wakes);
        Ok((recalled, wakes))
    }

    fn due_group(
        &mut self,
        id: u32,
        now: Now,
        left: &mut Left,
        items: &mut Vec<(GroupId, Item)>,
        wakes: &mut Wakes,
    ) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.group.timer = Tick::NEVER;
        let log_id = queue.group.options.log;
        let Some(log) = self.logs.get_mut(&log_id.0) else { return };
        queue.group.wake_due(now, log.visible);
        if queue.group.options.owner
            && let Some(expiring) = &mut log.expiring
        {
            // What is leased, offered or not visible yet cannot expire now: it is looked at again.
            while let Some(position) = expiring.pop(now.wall_ms) {
                if position >= log.visible || queue.group.offered(position, now) {
                    expiring.again(now.wall_ms + SOON_MS, position);
                } else if queue.group.lease(position).is_some() {
                    expiring.again(now.wall_ms + AGAIN_MS, position);
                } else {
                    queue.group.expire(position);
                }
            }
        }
        let each = (log.bytes / log.records.max(1)).max(1);
        let fit = usize::try_from((left.bytes / each).max(1)).unwrap_or(usize::MAX);
        let most = left.records.min(fit);
        let mut picked = queue.group.run_out(now, most, &mut self.tokens);
        let rest = most - picked.len();
        picked.extend(queue.group.tell_expired(
            now,
            rest,
            |position| log.size(position),
            &mut self.tokens,
        ));
        left.records -= picked.len();
        left.bytes = left.bytes.saturating_sub(each.saturating_mul(picked.len() as u64));
        for picked in picked {
            let source = self.source(log_id, picked.position);
            items.push((GroupId(id), Item { picked, source }));
        }
        self.rouse(id, now, wakes);
    }
}

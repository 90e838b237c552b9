//! What time ends: leases that run out, and records that expire.

use bytes::Bytes;
use weft_kernel::Tick;

use super::{Group, Lease, Now, Picked, Tokens};
use crate::record::{ConsumerId, Why};

impl Group {
    /// Leases that have run out, at most `limit`, each leased anew to the system.
    pub(crate) fn run_out(&mut self, now: Now, limit: usize, tokens: &mut Tokens) -> Vec<Picked> {
        if now.tick < self.earliest || limit == 0 {
            return Vec::new();
        }
        let mut earliest = Tick::NEVER;
        let mut over = Vec::new();
        for (&position, lease) in self.leases.iter() {
            if lease.until <= now.tick {
                over.push(position);
            } else {
                earliest = earliest.min(lease.until);
            }
        }
        over.sort_unstable();
        if over.len() > limit {
            over.truncate(limit);
            earliest = now.tick;
        }
        self.earliest = earliest;
        let mut picked = Vec::with_capacity(over.len());
        for position in over {
            let Some(old) = self.leases.remove(position) else { continue };
            self.counts.expired_leases += 1;
            // The system's hand-out is none of a consumer's.
            let lease = self.system_lease(now, old.level, old.size, tokens);
            let lease = Lease { handouts: old.handouts, ..lease };
            picked.push(self.hand_out(position, lease, Why::LeaseExpired, old.consumer, tokens));
        }
        picked
    }

    /// Records that were found expired, at most `limit`, each leased to the system. `size` tells the bytes
    /// of one.
    pub(crate) fn tell_expired(
        &mut self,
        now: Now,
        limit: usize,
        size: impl Fn(u64) -> u64,
        tokens: &mut Tokens,
    ) -> Vec<Picked> {
        let mut picked = Vec::new();
        while picked.len() < limit
            && let Some((position, level)) = self.expired.pop_first()
        {
            let handouts = self.history(position).0;
            let size = self.measured(position, || size(position));
            let lease = Lease { handouts, ..self.system_lease(now, level, size, tokens) };
            picked.push(self.hand_out(position, lease, Why::Expired, ConsumerId::SYSTEM, tokens));
        }
        picked
    }

    /// A record's time is over: unless it is leased or settled it is set apart, to be told. A leased
    /// one is looked at again when it comes back.
    pub(crate) fn expire(&mut self, position: u64) {
        if self.settled(position)
            || self.leases.contains_key(&position)
            || self.expired.contains_key(&position)
        {
            return;
        }
        let level = self.take_out(position).unwrap_or(0);
        if position >= self.cursor {
            self.ahead.insert(position);
        }
        self.expired.insert(position, level);
    }

    /// Has a record told to the system next, whatever it waits for, and keeps those behind it of its key
    /// waiting; `false` if it is settled, leased, or stands behind another of its key.
    pub(crate) fn recall(&mut self, position: u64, key: Bytes) -> bool {
        if self.settled(position) || self.leases.contains_key(&position) {
            return false;
        }
        if let Some(keys) = &mut self.keys {
            if keys.aside(position) {
                return false;
            }
            if position >= self.cursor
                && !key.is_empty()
                && !keys.holds(position)
                && !keys.hold(key, position)
            {
                keys.remove_aside(position);
                return false;
            }
        }
        self.unlooked.remove(position);
        self.expire(position);
        true
    }

    fn system_lease(&self, now: Now, level: u8, size: u32, tokens: &mut Tokens) -> Lease {
        Lease {
            lease: tokens.next(),
            until: now.tick.plus(self.options.lease),
            consumer: ConsumerId::SYSTEM,
            handouts: 0,
            level,
            settled_by: 0,
            size,
        }
    }
}

//! Handing out: which records go next, and the leases that run.

use std::time::Duration;

use bytes::Bytes;
use weft_kernel::Tick;

use super::{Found, Group, Now, Sight, cursor::Looked};
use crate::record::{ConsumerId, Token, Why};

/// A running lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) lease: u64,
    pub(crate) until: Tick,
    pub(crate) consumer: ConsumerId,
    pub(crate) handouts: u32,
    pub(crate) level: u8,
    /// The last transaction that was checked and settles it.
    pub(crate) settled_by: u64,
    /// The bytes of the record; 0 if they are not known.
    pub(crate) size: u32,
}

/// Where tokens come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens {
    pub(crate) epoch: u32,
    pub(crate) last: u64,
}

impl Tokens {
    pub(super) const fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

/// A record that was handed out; its bytes are not known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picked {
    pub(crate) position: u64,
    pub(crate) token: Token,
    pub(crate) handouts: u32,
    pub(crate) failures: u32,
    pub(crate) note: Bytes,
    pub(crate) why: Why,
    pub(crate) consumer: ConsumerId,
    /// Whether it goes to somebody who was there when it came, although its time may be over.
    pub(crate) offered: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) consumer: ConsumerId,
    pub(crate) records: u32,
    pub(crate) bytes: u64,
    /// Whether one is handed out even if it has more bytes.
    pub(crate) one: bool,
    pub(crate) lease: Duration,
}

enum Next {
    Take(u64, u8),
    Load(u64),
    None,
}

impl Group {
    /// Hands out what is ready, in order; if nothing could be because a record must be loaded first,
    /// its position.
    pub(crate) fn pick(
        &mut self,
        sight: &impl Sight,
        wanted: &Wanted,
        now: Now,
        tokens: &mut Tokens,
        picked: &mut Vec<Picked>,
    ) -> Option<u64> {
        self.wake_due(now, sight.end());
        let until = now.tick.plus(wanted.lease);
        let mut bytes = 0;
        let one = |picked: &[Picked]| wanted.one && picked.is_empty();
        while picked.len() < wanted.records as usize && (bytes < wanted.bytes || one(picked)) {
            let (position, level) = match self.next(sight, now) {
                Next::Take(position, level) => (position, level),
                Next::Load(position) => return picked.is_empty().then_some(position),
                Next::None => break,
            };
            let size = self.measured(position, || sight.size(position));
            if !one(picked) && bytes + u64::from(size) > wanted.bytes {
                self.give_back(position, level);
                break;
            }
            bytes += u64::from(size);
            let handouts = self.history(position).0.saturating_add(1);
            let consumer = wanted.consumer;
            let (lease, settled_by) = (tokens.next(), 0);
            let lease = Lease { lease, until, consumer, handouts, level, settled_by, size };
            self.counts.handouts += 1;
            // What came back was offered already.
            let first = handouts == 1 && consumer != ConsumerId::SYSTEM;
            let offered = first && self.offered(position, now);
            let handed = self.hand_out(position, lease, Why::Ready, consumer, tokens);
            picked.push(Picked { offered, ..handed });
        }
        None
    }

    fn next(&mut self, sight: &impl Sight, now: Now) -> Next {
        if self.levels.is_some() {
            // Only who has seen all knows which is the highest.
            loop {
                match self.look(sight, now) {
                    Looked::Ready(position, level) => self.give_back(position, level),
                    Looked::Skipped => {}
                    Looked::Load(position) => return Next::Load(position),
                    Looked::End => break,
                }
            }
            while let Some((position, level)) =
                self.levels.as_mut().and_then(|levels| levels.take())
            {
                if let Some(next) = self.play(sight, position, level) {
                    return next;
                }
            }
            return Next::None;
        }
        while let Some(position) = self.back.pop_first() {
            if let Some(next) = self.play(sight, position, 0) {
                return next;
            }
        }
        loop {
            match self.look(sight, now) {
                Looked::Ready(position, level) => return Next::Take(position, level),
                Looked::Skipped => {}
                Looked::Load(position) => return Next::Load(position),
                Looked::End => return Next::None,
            }
        }
    }

    /// Takes a record that is ready; `None` if it stands behind another one of its key, or is not there.
    /// One that was due later was singled out before its key was looked at.
    fn play(&mut self, sight: &impl Sight, position: u64, level: u8) -> Option<Next> {
        let Some(keys) = self.keys.as_mut().filter(|keys| !keys.holds(position)) else {
            return Some(Next::Take(position, level));
        };
        match sight.at(position, true) {
            Found::Unknown => {
                self.give_back(position, level);
                Some(Next::Load(position))
            }
            Found::Hole(_) => {
                self.finish(position);
                None
            }
            Found::Here { key, .. } => {
                let plays = key.is_empty() || keys.hold(key, position);
                plays.then_some(Next::Take(position, level))
            }
        }
    }

    /// The bytes of a record: what is known of it, or what `size` tells.
    pub(super) fn measured(&self, position: u64, size: impl FnOnce() -> u64) -> u32 {
        match self.retries.get(&position).map_or(0, |retry| retry.size) {
            0 => u32::try_from(size()).unwrap_or(u32::MAX),
            known => known,
        }
    }

    /// Enters a lease and tells it.
    pub(super) fn hand_out(
        &mut self,
        position: u64,
        lease: Lease,
        why: Why,
        consumer: ConsumerId,
        tokens: &Tokens,
    ) -> Picked {
        let (_, failures, note) = self.history(position);
        self.leases.insert(position, lease);
        self.earliest = self.earliest.min(lease.until);
        let token = Token { epoch: tokens.epoch, lease: lease.lease };
        let (handouts, offered) = (lease.handouts, false);
        Picked { position, token, handouts, failures, note, why, consumer, offered }
    }

    /// Starts a lease anew; `false` if the token is not that of the running one.
    pub(crate) fn renew(&mut self, position: u64, token: u64, until: Tick) -> bool {
        match self.leases.get_mut(position) {
            Some(lease) if lease.lease == token => {
                lease.until = until;
                self.earliest = self.earliest.min(until);
                true
            }
            _ => false,
        }
    }

    /// Whether a token is that of the running lease, and no operation of the transaction `attempt`
    /// has settled it; notes that this one does.
    pub(crate) fn claim(&mut self, position: u64, token: u64, attempt: u64) -> bool {
        if self.moved_by == attempt {
            return false;
        }
        match self.leases.get_mut(position) {
            Some(lease) if lease.lease == token && lease.settled_by != attempt => {
                lease.settled_by = attempt;
                true
            }
            _ => false,
        }
    }

    /// Notes that an operation of the transaction `attempt` removes a record: its lease cannot be
    /// settled behind it.
    pub(crate) fn void(&mut self, position: u64, attempt: u64) {
        if let Some(lease) = self.leases.get_mut(position) {
            lease.settled_by = attempt;
        }
    }

    /// Ends a lease: the record is dealt with.
    pub(crate) fn settle_done(&mut self, position: u64) {
        if self.leases.remove(position).is_some() {
            self.counts.done += 1;
            self.finish(position);
        }
    }

    /// Takes back hand-outs that did not reach anybody: they count as none.
    pub(crate) fn take_back(&mut self, position: u64, token: u64) {
        if let Some(lease) = self.lease_of(position, token) {
            self.counts.handouts = self.counts.handouts.saturating_sub(1);
            self.give_back(position, lease.level);
        }
    }

    /// A record that was picked turns out to be due later.
    pub(crate) fn not_yet(&mut self, position: u64, token: u64, due_ms: u64) {
        if let Some(lease) = self.lease_of(position, token) {
            self.counts.handouts = self.counts.handouts.saturating_sub(1);
            // Until it is due it keeps nothing of its key from going on.
            if let Some(keys) = &mut self.keys
                && let Some(next) = keys.release(position)
            {
                self.give_back(next, 0);
            }
            self.waiting.insert_wall(position, due_ms, lease.level, lease.size);
        }
    }

    /// A record that was picked turns out to have expired.
    pub(crate) fn too_late(&mut self, position: u64, token: u64) {
        if let Some(lease) = self.lease_of(position, token) {
            self.counts.handouts = self.counts.handouts.saturating_sub(1);
            self.expired.insert(position, lease.level);
        }
    }

    /// A record that was picked cannot be read: it is passed over, and counted.
    pub(crate) fn lost(&mut self, position: u64, token: u64) {
        if self.lease_of(position, token).is_some() {
            self.counts.lost += 1;
            self.finish(position);
        }
    }

    fn lease_of(&mut self, position: u64, token: u64) -> Option<Lease> {
        let lease = *self.leases.get(&position).filter(|lease| lease.lease == token)?;
        self.leases.remove(position);
        Some(lease)
    }

    /// Makes everything ready again that anybody has, so that a store that is closed remembers that it
    /// was handed out.
    pub(crate) fn requeue_all(&mut self) {
        let had: Vec<u64> = self.leases.keys().copied().collect();
        for position in had {
            let Some(lease) = self.leases.remove(position) else { continue };
            let retry = self.retries.entry(position).or_default();
            (retry.handouts, retry.size) = (lease.handouts, lease.size);
            self.touch_retry(position);
            self.give_back(position, lease.level);
        }
    }

    /// Makes everything ready again that a consumer has; how much it was.
    pub(crate) fn requeue(&mut self, consumer: ConsumerId) -> usize {
        let mut had: Vec<u64> = Vec::new();
        had.extend(self.leases.iter().filter(|(_, at)| at.consumer == consumer).map(|(&at, _)| at));
        for &position in &had {
            let Some(lease) = self.leases.remove(position) else { continue };
            let retry = self.retries.entry(position).or_default();
            (retry.handouts, retry.size) = (lease.handouts, lease.size);
            self.touch_retry(position);
            self.give_back(position, lease.level);
        }
        had.len()
    }
}

//! Messages that were given up and whose dead letter has no room yet.
//!
//! What becomes of such a message is decided, so nobody is handed it again: it stays leased, and the
//! lease is the broker's as soon as the keeper has seen it. When that lease runs out, the keeper tries
//! again to bury it, until there is room. A crash forgets what was decided, and loses nothing: the
//! message is handed out once more.

use std::{collections::HashMap, time::Duration};

use weft_kernel::Tick;
use weft_ledger::{ConsumerId, GroupId};

use crate::{
    broker::Broker,
    consume::Lease,
    settle::{Event, Outcome},
    settlement::Settlement,
    source::Source,
};

/// How long a message waits whose dead letter could not be taken.
pub(crate) const UNBURIED: Duration = Duration::from_secs(10);
/// For so long after a refusal no other dead letter of the same source is tried.
const REFUSED: Duration = Duration::from_millis(500);

/// The messages of a queue or subscription that wait for room among the dead letters.
#[derive(Debug, Default)]
pub(crate) struct Unburied {
    waiting: HashMap<(GroupId, u64), Outcome>,
    /// Until then it is not worth trying.
    until: Tick,
    /// Whether it was told that they wait.
    told: bool,
}

impl Unburied {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What was decided about a message.
    pub(crate) fn decided(&self, lease: &Lease) -> Option<Outcome> {
        self.waiting.get(&(lease.group, lease.position)).cloned()
    }

    /// Whether it waits.
    pub(crate) fn has(&self, group: GroupId, position: u64) -> bool {
        self.waiting.contains_key(&(group, position))
    }

    /// Forgets what was dealt with otherwise.
    pub(crate) fn forget(&mut self, group: GroupId, position: u64) {
        if !self.waiting.is_empty() {
            self.waiting.remove(&(group, position));
            self.rest();
        }
    }

    /// Forgets all of a group.
    pub(crate) fn forget_group(&mut self, group: GroupId) {
        self.waiting.retain(|(of, _), _| *of != group);
        self.rest();
    }

    fn rest(&mut self) {
        if self.waiting.is_empty() {
            *self = Self::default();
        }
    }
}

impl Broker {
    /// Keeps messages whose dead letters were refused: each with what was decided about it.
    pub(crate) fn hold_unburied<'a>(
        &self,
        source: &Source,
        refused: impl Iterator<Item = (&'a Lease, Outcome)>,
    ) {
        let now = self.clock().now();
        let (mut count, mut tell) = (0usize, false);
        for (lease, outcome) in refused {
            // A consumer's lease goes to the keeper at once, so that it does not end with the consumer.
            let span = if lease.is_of(ConsumerId::SYSTEM) { UNBURIED } else { Duration::ZERO };
            let mut unburied = source.unburied().lock();
            if self.store().renew(lease.group, lease.position, lease.token, span).is_err() {
                unburied.forget(lease.group, lease.position);
                continue;
            }
            unburied.waiting.insert((lease.group, lease.position), outcome);
            unburied.until = now.plus(REFUSED);
            tell |= !std::mem::replace(&mut unburied.told, true);
            count += 1;
        }
        if tell {
            tracing::warn!(
                source = %source.name(), messages = count,
                "dead letters wait: a queue that is to take them is full"
            );
        }
    }

    /// Parts deliveries whose lease ran out while they wait for room from the others; those for which
    /// it is too soon to try again are leased on.
    pub(crate) fn lease_on<'a>(
        &self,
        source: &Source,
        settlements: Vec<Settlement<'a>>,
    ) -> Vec<Settlement<'a>> {
        let now = self.clock().now();
        let unburied = source.unburied().lock();
        if unburied.len() == 0 || now >= unburied.until {
            return settlements;
        }
        let mut tried = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            let lease = settlement.lease;
            if !matches!(settlement.event, Event::Unburied)
                || self.store().renew(lease.group, lease.position, lease.token, UNBURIED).is_err()
            {
                tried.push(settlement);
            }
        }
        tried
    }
}

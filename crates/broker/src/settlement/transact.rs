//! Publishes, and settlements of any number of sources, as one transaction.

use weft_kernel::{Reason, Result};

use super::{Settlement, hold, leases_of};
use crate::{
    broker::Broker,
    consume::{Lease, Settler},
    counters::add,
    history::History,
    parked::Parking,
    publish::{Batch, BatchReceipt},
    settle::{Event, Gone, Known, Outcome, Verdict, decide},
};

/// What one source has settled in a transaction.
struct Part<'a> {
    settler: &'a Settler,
    settlements: Vec<Settlement<'a>>,
    outcomes: Vec<Outcome>,
    /// What was decided, and waits for room among the dead letters.
    held: Vec<(usize, Outcome)>,
}

impl Broker {
    /// Publishes a batch and settles deliveries, all of it or nothing, without waiting for the disk;
    /// `None` if there was nothing to do. What is given up becomes a dead letter in the same transaction.
    /// Settlements of a queue or subscription that was deleted meanwhile are left out.
    ///
    /// # Errors
    /// [`Reason::LeaseLost`] when one of the deliveries is somebody else's by now, [`Reason::QueueFull`]
    /// and what else the store refuses, but never [`Reason::StorageBusy`]. Nothing has happened then.
    pub async fn transact(
        &self,
        publishes: Batch,
        settled: &[(Settler, Vec<(Lease, Verdict)>)],
    ) -> Result<Option<BatchReceipt>> {
        let now_ms = self.now_ms();
        let mut rng = self.rng();
        let mut parts = Vec::with_capacity(settled.len());
        for (settler, verdicts) in settled {
            let policy = settler.source().policy();
            let settlements = verdicts
                .iter()
                .map(|(lease, verdict)| Settlement {
                    lease,
                    event: Event::Said(verdict),
                    record: None,
                })
                .collect::<Vec<_>>();
            let outcomes = settlements
                .iter()
                .map(|Settlement { lease, event, .. }| {
                    if matches!(event, Event::Said(Verdict::Accept)) {
                        return Outcome::Done(Gone::Accepted);
                    }
                    let history = History::from_stored(lease.note.clone());
                    let (failures, keyed) = (lease.failures, lease.keyed);
                    let known = Known { failures, history: &history, keyed };
                    decide(&policy, known, *event, now_ms, &mut rng)
                })
                .collect();
            parts.push(Part { settler, settlements, outcomes, held: Vec::new() });
        }
        loop {
            parts.retain(|part| !part.settler.source().usage().is_deleted());
            let mut batch = publishes.clone();
            let mut parkings = Vec::with_capacity(parts.len());
            // Which settlement of which part each operation behind the publishes belongs to.
            let first = batch.transaction.ops.len();
            let mut of_op = Vec::new();
            for (index, part) in parts.iter().enumerate() {
                let source = part.settler.source();
                let level = self.level(source);
                let mut parking = Parking::new(self, source);
                let decided = part.settlements.iter().zip(&part.outcomes);
                for (at, (settlement, outcome)) in decided.enumerate() {
                    self.add(&mut parking, settlement, outcome, level, &mut batch).await?;
                    of_op.resize(batch.transaction.ops.len() - first, (index, at));
                }
                parkings.push(parking);
            }
            if batch.is_empty() {
                drop(parkings);
                parts.into_iter().for_each(|part| self.settled(part));
                return Ok(None);
            }
            let refused = match self.store().submit_now(batch.transaction.clone()) {
                Ok(receipt) => {
                    for parking in parkings {
                        parking.keep(&batch.appends, &receipt.appended);
                    }
                    for part in parts {
                        let source = part.settler.source();
                        self.given_back(source, &part.outcomes, receipt.seen);
                        self.settled(part);
                    }
                    return Ok(Some(self.taken(receipt, &batch.appends)));
                }
                Err(refused) => refused,
            };
            drop(parkings);
            let at = refused.op.and_then(|op| op.checked_sub(first));
            let at = at.and_then(|op| of_op.get(op)).copied();
            let part = at.and_then(|(index, at)| Some((parts.get_mut(index)?, at)));
            match (part, refused.error.reason()) {
                (_, Reason::StorageBusy) => self.room().await,
                // Deleted since it was looked at: its turn is to be left out.
                (Some((part, _)), Reason::NoMessage)
                    if part.settler.source().usage().is_deleted() => {}
                (Some((part, at)), _)
                    if matches!(part.outcomes.get(at), Some(Outcome::DeadLetter { .. }))
                        && refused.error.reason() != Reason::LeaseLost =>
                {
                    hold(&mut part.outcomes, at, &mut part.held);
                }
                (Some((part, _)), Reason::LeaseLost) => {
                    add(&part.settler.source().counters().lost_leases, 1);
                    return Err(refused.into());
                }
                (None, _) => return Err(self.refused(refused, &publishes.appends)),
                _ => return Err(refused.into()),
            }
        }
    }

    /// Counts what a part of a transaction has settled, and makes room for more.
    fn settled(&self, part: Part<'_>) {
        let Part { settler, settlements, outcomes, held } = part;
        let source = settler.source();
        self.count(source, &settlements, &outcomes, &[]);
        self.hold_dead_letters(source, leases_of(&settlements, held));
        settler.let_go(settlements.iter().map(|one| one.lease));
    }
}

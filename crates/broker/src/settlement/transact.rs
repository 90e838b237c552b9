//! Publishes, and settlements of any number of sources, as one transaction.

use weft_kernel::{Reason, Result};
use weft_ledger::LogId;

use super::{Parking, Settlement};
use crate::{
    broker::Broker,
    consume::{Lease, Settler},
    counters::add,
    history::History,
    publish::{Batch, Receipt},
    settle::{Event, Gone, Known, Outcome, Verdict, decide},
};

/// What one source has settled in a transaction.
struct Part<'a> {
    settler: &'a Settler,
    settlements: Vec<Settlement<'a>>,
    outcomes: Vec<Outcome>,
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
    ) -> Result<Option<Receipt>> {
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
            parts.push(Part { settler, settlements, outcomes });
        }
        let mut full: Vec<LogId> = Vec::new();
        loop {
            parts.retain(|part| !part.settler.source().usage().is_deleted());
            let mut batch = publishes.clone();
            let mut parkings = Vec::with_capacity(parts.len());
            // Which part each operation behind the publishes belongs to.
            let first = batch.transaction.ops.len();
            let mut of_op = Vec::new();
            for (index, part) in parts.iter().enumerate() {
                let source = part.settler.source();
                let level = self.level(source);
                let mut parking = Parking { source, keys: Vec::new(), new: Vec::new() };
                for (settlement, outcome) in part.settlements.iter().zip(&part.outcomes) {
                    self.add(&mut parking, settlement, outcome, level, &full, &mut batch).await?;
                }
                parkings.push(parking);
                of_op.resize(batch.transaction.ops.len() - first, index);
            }
            if batch.is_empty() {
                return Ok(None);
            }
            let refused = match self.store().submit(batch.transaction.clone()) {
                Ok(receipt) => {
                    parkings.into_iter().for_each(Parking::keep);
                    for part in &parts {
                        let source = part.settler.source();
                        self.count(source, &part.settlements, &part.outcomes, &[]);
                        part.settler.let_go(part.settlements.iter().map(|one| one.lease));
                    }
                    return Ok(Some(self.taken(receipt, &batch.appends)));
                }
                Err(refused) => refused,
            };
            drop(parkings);
            let part = refused.op.and_then(|op| op.checked_sub(first));
            let part = part.and_then(|op| of_op.get(op)).and_then(|index| parts.get(*index));
            match (part, refused.error.reason()) {
                (_, Reason::StorageBusy) => self.room().await,
                // Deleted since it was looked at: its turn is to be left out.
                (Some(part), Reason::NoMessage) if part.settler.source().usage().is_deleted() => {}
                (Some(part), Reason::QueueFull) if part.settler.source().has_hook() => {
                    let appends = batch.appends_at();
                    let log = appends.iter().find(|(at, _)| refused.op == Some(*at));
                    match log {
                        Some((_, log)) if !full.contains(log) => {
                            add(&part.settler.source().counters().dropped, 1);
                            full.push(*log);
                        }
                        _ => return Err(refused.into()),
                    }
                }
                (Some(part), Reason::LeaseLost) => {
                    add(&part.settler.source().counters().lost_leases, 1);
                    return Err(refused.into());
                }
                (None, _) => return Err(self.refused(refused, &publishes.appends)),
                _ => return Err(refused.into()),
            }
        }
    }
}

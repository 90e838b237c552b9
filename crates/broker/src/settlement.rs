//! Carries out what [`decide`](crate::settle) decides: any number of deliveries in one transaction.
//!
//! A message that is given up and the dead letter that it becomes are one transaction, so it is never
//! lost between the two and never in both. Where a queue that is to have the dead letter cannot take it
//! (it is full, the disk is), the message stays and waits for room ([`crate::dead_letters_waiting`]); of several such
//! queues all get it, or none.

mod transact;

use weft_kernel::{Error, Reason, Result};
use weft_ledger::{Due, Durability, Limits, Op, ReadItem, Receipt, Record, Seen, Settle};

use crate::{
    broker::Broker,
    consume::{Lease, Settled, open},
    counters::add,
    dead::DeadMessage,
    history::History,
    message::{Cause, Death},
    parked::Parking,
    publish::{Batch, PublishTarget},
    settle::{Event, Gone, Known, Outcome, Verdict, decide},
    source::MessageSource,
};

/// One delivery and what has happened to it.
pub(crate) struct Settlement<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) event: Event<'a>,
    /// The record, if it is at hand; it is read when it is needed.
    pub(crate) record: Option<&'a Record>,
}

impl Broker {
    /// Settles deliveries of one source in one transaction, without waiting for the disk.
    pub(crate) async fn settle_all(
        &self,
        source: &MessageSource,
        settlements: &[Settlement<'_>],
    ) -> Result<Settled> {
        let policy = source.policy();
        let level = self.level(source);
        if settlements.is_empty() {
            let lost = Vec::new();
            return Ok(Settled { seq: 0, durability: level, seen: Seen::default(), lost });
        }
        let now_ms = self.now_ms();
        let mut rng = None;
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            // The common case, without its history and without chance.
            if matches!(settlement.event, Event::Said(Verdict::Accept)) {
                outcomes.push(Outcome::Done(Gone::Accepted));
                continue;
            }
            let history = History::from_stored(settlement.lease.note.clone());
            let known = Known {
                failures: settlement.lease.failures,
                history: &history,
                keyed: settlement.lease.keyed,
            };
            if policy.dead_letters && matches!(settlement.event, Event::DeadLetterWaiting) {
                let decided = source.dead_letters_waiting().lock().decided(settlement.lease);
                if let Some(decided) = decided {
                    outcomes.push(decided);
                    continue;
                }
            }
            let rng = rng.get_or_insert_with(|| self.rng());
            outcomes.push(decide(&policy, known, settlement.event, now_ms, rng));
        }
        // What was decided, and has to wait.
        let mut held: Vec<(usize, Outcome)> = Vec::new();
        // Whose lease is lost.
        let mut lost = vec![false; settlements.len()];
        loop {
            let mut batch = self.batch();
            let mut parking = Parking::new(self, source);
            // Which settlement each operation belongs to.
            let mut of_op: Vec<usize> = Vec::with_capacity(settlements.len());
            for (index, (settlement, outcome)) in settlements.iter().zip(&outcomes).enumerate() {
                if lost[index] || matches!(outcome, Outcome::Held) {
                    continue;
                }
                self.add(&mut parking, settlement, outcome, level, &mut batch).await?;
                of_op.resize(batch.transaction.ops.len(), index);
            }
            if batch.is_empty() {
                if !held.is_empty() {
                    self.count(source, settlements, &outcomes, &lost);
                    self.hold_dead_letters(source, leases_of(settlements, held));
                } else {
                    add(&source.counters().lost_leases, which(&lost).len() as u64);
                }
                let lost = which(&lost);
                return Ok(Settled { seq: 0, durability: level, seen: Seen::default(), lost });
            }
            let durability = batch.transaction.durability;
            let (appends, targets) = (batch.appends_at(), batch.appends);
            let refused = match self.store().submit_now(batch.transaction) {
                Ok(Receipt { seq, seen, appended, .. }) => {
                    parking.keep(&targets, &appended);
                    self.given_back(source, &outcomes, seen);
                    for (target, _) in &targets {
                        if let PublishTarget::Queue(queue) = target {
                            self.may_be_full(queue, seen);
                        }
                    }
                    self.count(source, settlements, &outcomes, &lost);
                    self.hold_dead_letters(source, leases_of(settlements, held));
                    let lost = which(&lost);
                    return Ok(Settled { seq, durability, seen, lost });
                }
                Err(refused) => refused,
            };
            drop(parking);
            let index = refused.op.and_then(|op| of_op.get(op)).copied();
            match (index, refused.error.reason()) {
                (_, Reason::StorageBusy) => self.room().await,
                (Some(index), Reason::LeaseLost) => {
                    lost[index] = true;
                    self.find_lost(settlements, &outcomes, &mut lost);
                }
                (Some(index), _)
                    if matches!(outcomes.get(index), Some(Outcome::DeadLetter { .. })) =>
                {
                    hold(&mut outcomes, index, &mut held);
                    // What goes to the same queue behind it finds no room either.
                    let full = refused.op.and_then(|op| appends.iter().find(|(at, _)| *at == op));
                    let Some((first, full)) =
                        full.filter(|_| refused.error.reason() == Reason::QueueFull)
                    else {
                        continue;
                    };
                    for (op, _) in appends.iter().filter(|(op, log)| op > first && log == full) {
                        if let Some(index) = of_op.get(*op) {
                            hold(&mut outcomes, *index, &mut held);
                        }
                    }
                }
                (None, Reason::StorageFull | Reason::StorageUnavailable)
                    if outcomes.iter().any(|one| matches!(one, Outcome::DeadLetter { .. })) =>
                {
                    (0..outcomes.len()).for_each(|index| hold(&mut outcomes, index, &mut held));
                }
                // One dead letter for so many queues that no transaction takes them.
                (None, Reason::MessageTooLarge)
                    if matches!(outcomes.as_slice(), [Outcome::DeadLetter { .. }]) =>
                {
                    hold(&mut outcomes, 0, &mut held);
                }
                // Dead letters are copies: too many of them do not fit one transaction.
                (None, Reason::MessageTooLarge) if settlements.len() > 1 => {
                    return self.settle_halves(source, settlements).await;
                }
                _ => return Err(refused.into()),
            }
        }
    }

    /// Finds all whose lease is lost at once: each would refuse the whole transaction anew.
    fn find_lost(&self, settlements: &[Settlement<'_>], outcomes: &[Outcome], lost: &mut [bool]) {
        let left: Vec<usize> = (0..settlements.len())
            .filter(|&index| !lost[index] && !matches!(outcomes[index], Outcome::Held))
            .collect();
        let ops = left.iter().map(|&index| done(settlements[index].lease)).collect::<Vec<_>>();
        for (op, error) in self.refused_alone(&ops) {
            lost[left[op]] |= error.reason() == Reason::LeaseLost;
        }
    }

    /// Which of some operations are refused, each for itself.
    fn refused_alone(&self, ops: &[Op]) -> Vec<(usize, Error)> {
        let each: Vec<u32> = (0..ops.len() as u32).collect();
        self.store().refusals_now(ops, &each)
    }

    /// What is given back, or has become a dead letter, may be too much for its queue.
    fn given_back(&self, source: &MessageSource, outcomes: &[Outcome], seen: Seen) {
        if let MessageSource::Queue(queue) = source
            && outcomes.iter().any(|outcome| matches!(outcome, Outcome::Again { .. }))
        {
            self.may_be_full(queue, seen);
        }
    }

    /// Settles deliveries in two transactions, because they are too large for one.
    async fn settle_halves(
        &self,
        source: &MessageSource,
        settlements: &[Settlement<'_>],
    ) -> Result<Settled> {
        let (first, second) = settlements.split_at(settlements.len() / 2);
        let mut settled = Box::pin(self.settle_all(source, first)).await?;
        let rest = Box::pin(self.settle_all(source, second)).await?;
        settled.seq = settled.seq.max(rest.seq);
        settled.durability = settled.durability.max(rest.durability);
        settled.seen = settled.seen.and(rest.seen);
        settled.lost.extend(rest.lost.into_iter().map(|index| index + first.len()));
        Ok(settled)
    }

    /// The level at which a settlement counts as done.
    fn level(&self, source: &MessageSource) -> Durability {
        match source {
            MessageSource::Queue(queue) => {
                let settings = queue.settings.read();
                if settings.options.transient {
                    Durability::Memory
                } else {
                    settings.options.durability
                }
            }
            MessageSource::Subscription(_) => Durability::Fsync,
        }
    }

    /// Adds the operations of one outcome; the settlement itself comes first.
    async fn add(
        &self,
        parking: &mut Parking<'_>,
        settlement: &Settlement<'_>,
        outcome: &Outcome,
        level: Durability,
        batch: &mut Batch,
    ) -> Result<()> {
        let source = parking.source;
        let lease = settlement.lease;
        let how = match outcome {
            Outcome::Held => return Ok(()),
            Outcome::Done(_) | Outcome::DeadLetter { .. } => Settle::Done,
            Outcome::Again { after, failed, history } => Settle::Retry {
                due: if after.is_zero() { Due::Now } else { Due::After(*after) },
                failed: *failed,
                note: history.stored().clone(),
            },
        };
        let settle =
            Op::Settle { group: lease.group, position: lease.position, token: lease.token, how };
        batch.op(settle, level);
        let Outcome::DeadLetter { cause, reason, failures, history, park } = outcome else {
            return Ok(());
        };
        let read;
        let record = match settlement.record {
            Some(record) => record,
            None => {
                let Some(record) = self.record(lease).await? else {
                    // Its settlement tells that the lease is lost.
                    return Ok(());
                };
                read = record;
                &read
            }
        };
        let death = Death {
            cause: *cause,
            reason: reason.clone(),
            origin: source.origin(lease.group),
            position: lease.position,
            published_ms: record.time_ms,
            died_ms: self.now_ms(),
            failures: *failures,
            handouts: lease.handouts,
            key: record.key.clone(),
            priority: record.priority,
            history: history.clone(),
        };
        let first = batch.len();
        self.dead_letter(source, DeadMessage { message: open(record), death }, batch).await?;
        // What follows to the dead letters keeps the key parked, also where it was freed meanwhile.
        if *park || *cause == Cause::Parked {
            parking.park(&record.key, first..batch.len());
            batch.op(self.parks(source, &record.key), level);
        }
        Ok(())
    }

    /// The record of a lease; `None` if it is gone.
    async fn record(&self, lease: &Lease) -> Result<Option<Record>> {
        let limits = Limits { records: 1, bytes: 1 };
        match self.store().read(lease.log, lease.position, limits).await?.pop() {
            Some(ReadItem::Record(record)) if record.position == lease.position => Ok(Some(record)),
            Some(ReadItem::Lost { position, why, .. }) if position == lease.position => {
                Err(Error::new(Reason::StorageCorrupt, "the message cannot be read").note(why))
            }
            _ => Ok(None),
        }
    }

    fn count(
        &self,
        source: &MessageSource,
        settlements: &[Settlement<'_>],
        outcomes: &[Outcome],
        lost: &[bool],
    ) {
        let counters = source.counters();
        let mut accepted = 0;
        for (index, (settlement, outcome)) in settlements.iter().zip(outcomes).enumerate() {
            if lost.get(index) == Some(&true) {
                add(&counters.lost_leases, 1);
                continue;
            }
            match settlement.event {
                Event::Said(Verdict::Accept) => accepted += 1,
                Event::Said(Verdict::Release) => add(&counters.released, 1),
                Event::Said(Verdict::Lost)
                    if matches!(outcome, Outcome::Again { failed: false, .. }) =>
                {
                    add(&counters.released, 1);
                }
                Event::Said(Verdict::Fail { .. } | Verdict::Lost) | Event::LeaseExpired => {
                    add(&counters.failed, 1);
                }
                Event::Said(Verdict::Reject { .. }) => add(&counters.rejected, 1),
                Event::Expired => add(&counters.expired, 1),
                Event::Overflowed | Event::Parked | Event::DeadLetterWaiting => {}
            }
            match outcome {
                Outcome::DeadLetter { .. } => add(&counters.dead_lettered, 1),
                Outcome::Done(Gone::Dropped(cause)) if *cause != Cause::Expired => {
                    add(&counters.dropped, 1);
                }
                _ => {}
            }
        }
        add(&counters.accepted, accepted);
        let mut dead_letters_waiting = source.dead_letters_waiting().lock();
        if dead_letters_waiting.len() > 0 {
            for (settlement, outcome) in settlements.iter().zip(outcomes) {
                if !matches!(outcome, Outcome::Held) {
                    dead_letters_waiting.forget(settlement.lease.group, settlement.lease.position);
                }
            }
        }
    }

    /// Settles what a filter does not take; whose lease is lost needs nothing.
    pub(crate) fn pass_over(&self, source: &MessageSource, passed: &[Lease]) -> Result<()> {
        let mut passed: Vec<&Lease> = passed.iter().collect();
        while !passed.is_empty() {
            let mut batch = self.batch();
            for lease in &passed {
                // A crash before it is written only means that the filter looks again.
                batch.op(done(lease), Durability::Memory);
            }
            match self.store().submit_now(batch.transaction) {
                Ok(_) => {
                    add(&source.counters().filtered, passed.len() as u64);
                    return Ok(());
                }
                Err(refused) => match refused.op {
                    Some(op) if refused.error.reason() == Reason::LeaseLost => {
                        passed.remove(op);
                        let ops: Vec<Op> = passed.iter().map(|lease| done(lease)).collect();
                        let mut lost = self.refused_alone(&ops);
                        lost.retain(|(_, error)| error.reason() == Reason::LeaseLost);
                        let mut lost = lost.into_iter().map(|(op, _)| op).peekable();
                        let mut at = 0..;
                        passed.retain(|_| lost.next_if(|op| Some(*op) == at.next()).is_none());
                    }
                    _ => return Err(refused.into()),
                },
            }
        }
        Ok(())
    }
}

/// Settles a delivery as done.
fn done(lease: &Lease) -> Op {
    let Lease { group, position, token, .. } = *lease;
    Op::Settle { group, position, token, how: Settle::Done }
}

/// Which of some are so.
fn which(these: &[bool]) -> Vec<usize> {
    these.iter().enumerate().filter(|(_, so)| **so).map(|(index, _)| index).collect()
}

/// Lets a message wait whose dead letter was refused.
fn hold(outcomes: &mut [Outcome], index: usize, held: &mut Vec<(usize, Outcome)>) {
    if let Some(outcome) = outcomes.get_mut(index)
        && matches!(outcome, Outcome::DeadLetter { .. })
    {
        held.push((index, std::mem::replace(outcome, Outcome::Held)));
    }
}

fn leases_of<'a>(
    settlements: &'a [Settlement<'_>],
    held: Vec<(usize, Outcome)>,
) -> impl Iterator<Item = (&'a Lease, Outcome)> {
    held.into_iter().filter_map(|(index, outcome)| Some((settlements.get(index)?.lease, outcome)))
}

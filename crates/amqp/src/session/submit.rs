//! Submitting: what one read brought goes to the broker as one transaction, and comes back as confirms.
//!
//! A publish that is refused, because one of its queues is full, is nacked and keeps no other from being
//! stored. What is too much for one transaction becomes several. A disk that is full refuses nobody: what
//! was published waits here, nothing more is read, and the client is told.

use std::sync::Arc;

use smallvec::SmallVec;
use weft_broker::{BatchReceipt, Publish, Refusal, Submitted};
use weft_kernel::{Error, Reason};
use weft_ledger::has_ended;
use weft_wire::amqp::Method;

use super::{Phase, Session};
use crate::{arguments::Full, confirms::Confirm, fault::Fault, route::Targets, vhost::Entry};

/// What was published and not submitted.
#[derive(Debug, Default)]
pub(crate) struct Publishing {
    pub(super) pending: Vec<Pending>,
    pub(super) bytes: usize,
    pub(super) copies: usize,
    pub(super) marks: Vec<Mark>,
    /// Whether the disk had no room when it was tried last.
    pub(crate) stalled: bool,
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) channel: u16,
    pub(super) serial: u64,
    /// Its number among the confirms of the channel; 0 if it is not confirmed.
    pub(super) tag: u64,
    pub(super) targets: Targets,
    pub(super) publish: Publish,
    pub(super) priority: Option<u8>,
}

/// All publishes of a channel up to this one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(super) channel: u16,
    pub(super) serial: u64,
    pub(super) tag: u64,
}

/// What was submitted together, and is on its way to the disk.
#[derive(Debug)]
pub(crate) struct Flight {
    /// `None` if nothing of it went to any queue.
    pub(crate) receipt: Option<BatchReceipt>,
    pub(crate) marks: Vec<Mark>,
}

/// What came of publishes that were submitted.
#[derive(Debug, Default)]
struct Taken {
    /// How many are done with, from the first on.
    count: usize,
    /// Stands for all that were stored.
    receipt: Option<BatchReceipt>,
    /// Which of them were refused, in order.
    refused: Vec<Refusal>,
}

impl Taken {
    fn add(&mut self, count: usize, submitted: Submitted, mut refused: Vec<Refusal>) {
        let Submitted { seq, durability, seen, refused: more } = submitted;
        let more = more.into_iter();
        refused.extend(more.map(|one| Refusal { index: self.count + one.index, ..one }));
        refused.sort_unstable_by_key(|one| one.index);
        self.refused.append(&mut refused);
        self.count += count;
        if seq != 0 {
            let (durability, seen) = match &self.receipt {
                None => (durability, seen),
                Some(before) => (durability.max(before.durability), seen.and(before.seen)),
            };
            self.receipt = Some(BatchReceipt { seq, durability, seen, appended: SmallVec::new() });
        }
    }
}

impl Session {
    /// Whether publishes wait for room on the disk; nothing more is to be read then.
    pub(crate) fn is_stalled(&self) -> bool {
        self.publishing.stalled
    }

    /// Submits what was published, and settles what was settled.
    pub(crate) async fn flush(&mut self) {
        self.flush_publishes().await;
        self.flush_settlements().await;
    }

    /// Submits what was published.
    pub(crate) async fn flush_publishes(&mut self) {
        let mut pending = std::mem::take(&mut self.publishing.pending);
        let marks = std::mem::take(&mut self.publishing.marks);
        if pending.is_empty() && marks.is_empty() {
            return;
        }
        (self.publishing.bytes, self.publishing.copies) = (0, 0);
        let (taken, failed) = self.submit(&pending).await;
        let Taken { count, receipt, refused } = taken;
        let refused: Vec<(Pending, Refusal)> = {
            let mut refused = refused.into_iter().peekable();
            let done = pending.drain(..count).enumerate();
            done.filter_map(|(at, one)| {
                Some((one, refused.next_if(|refusal| refusal.index == at)?))
            })
            .collect()
        };
        match failed {
            Some(error)
                if matches!(error.reason(), Reason::StorageFull | Reason::StorageUnavailable) =>
            {
                // The rest waits, and so do the confirms, for what was taken as well.
                self.publishing.pending = pending;
                self.publishing.marks = marks;
                if receipt.is_some() {
                    self.flights.push_back(Flight { receipt, marks: Vec::new() });
                }
                self.stall();
            }
            Some(error) => {
                let fault = Fault::from(error);
                Box::pin(self.end_connection(&fault, (60, 40))).await;
                return;
            }
            None => {
                if std::mem::take(&mut self.publishing.stalled) && std::mem::take(&mut self.blocked)
                {
                    Method::ConnectionUnblocked {}.write(0, &mut self.out);
                }
                self.flights.push_back(Flight { receipt, marks });
            }
        }
        for (one, refusal) in refused {
            self.refuse(&one, refusal).await;
        }
    }

    /// The disk has no room: the client is told, and what it published waits here.
    fn stall(&mut self) {
        self.publishing.stalled = true;
        if self.abilities.blocked && !self.blocked && self.phase == Phase::Running {
            self.blocked = true;
            Method::ConnectionBlocked { reason: "low on disk" }.write(0, &mut self.out);
        }
    }

    /// Submits publishes in as few transactions as may be. An error is one of the store as a whole, met
    /// behind those that were taken.
    async fn submit(&self, pending: &[Pending]) -> (Taken, Option<Error>) {
        let broker = &self.server.broker;
        let mut taken = Taken::default();
        let mut together = pending.len();
        while taken.count < pending.len() {
            let end = pending.len().min(taken.count + together);
            let some = &pending[taken.count..end];
            let mut refused = Vec::new();
            let mut batch = broker.batch();
            for (at, one) in (taken.count..).zip(some) {
                let queues = one.targets.iter();
                let queues = queues.map(|to| (&to.queue, to.arguments.priority(one.priority)));
                if let Err(error) = batch.publish(queues, &one.publish) {
                    refused.push(Refusal::new(at, error));
                    // One that goes nowhere stands in for it: those behind it keep their numbers.
                    let _ = batch.publish([], &one.publish);
                }
            }
            match broker.submit_each(batch) {
                Ok(submitted) => taken.add(some.len(), submitted, refused),
                Err(error) if has_ended(&error) => return (taken, Some(error)),
                Err(error) => match error.reason() {
                    Reason::StorageBusy => broker.room().await,
                    Reason::StorageFull | Reason::StorageUnavailable => {
                        return (taken, Some(error));
                    }
                    _ if some.len() > 1 => together = some.len() / 2,
                    _ => {
                        taken.refused.push(Refusal::new(taken.count, error));
                        taken.count += 1;
                    }
                },
            }
        }
        (taken, None)
    }

    /// Nacks a publish, and sends it where a queue wants what it refuses for want of room.
    async fn refuse(&mut self, one: &Pending, refusal: Refusal) {
        let Refusal { error, full, .. } = refusal;
        tracing::debug!(error = %error, "a publish was refused");
        if let Some(channel) = self.channels.get_mut(&one.channel)
            && channel.serial == one.serial
            && let Some(confirms) = &mut channel.confirms
        {
            confirms.refuse(one.tag);
        }
        for entry in one.targets.iter() {
            if entry.arguments.full == Full::RejectPublishDlx
                && full.iter().any(|queue| Arc::ptr_eq(queue, &entry.queue))
                && let Err(error) = self.dead_letter(entry, one).await
            {
                tracing::debug!(error = %error, "a refused publish could not be dead-lettered");
            }
        }
        let channel = self.channels.get(&one.channel);
        let open = channel.is_some_and(|channel| channel.serial == one.serial);
        if error.reason() == Reason::MessageTooLarge && open && self.is_live(one.channel) {
            // Without confirms nothing else would tell the publisher.
            let fault = Fault::precondition(error);
            Box::pin(self.fail(one.channel, &fault, (60, 40))).await;
        }
    }

    async fn dead_letter(&self, entry: &Entry, one: &Pending) -> Result<(), Error> {
        let broker = &self.server.broker;
        let dead = self.server.dead_letters(entry, &one.publish.message, "maxlen");
        loop {
            let mut batch = broker.batch();
            for (queue, publish) in &dead {
                batch.publish([(queue, publish.priority)], publish)?;
            }
            match broker.submit_each(batch) {
                Ok(_submitted) => return Ok(()),
                Err(error) if error.reason() == Reason::StorageBusy => broker.room().await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Confirms what a flight carried.
    pub(crate) fn landed(&mut self, flight: Flight) {
        for mark in flight.marks {
            let Some(channel) = self.channels.get_mut(&mark.channel) else { continue };
            if channel.serial != mark.serial {
                continue;
            }
            let Some(confirms) = &mut channel.confirms else { continue };
            confirms.settle(mark.tag, |confirm| {
                match confirm {
                    Confirm::Ack { tag, multiple } => {
                        Method::BasicAck { delivery_tag: tag, multiple }
                    }
                    Confirm::Nack { tag } => {
                        Method::BasicNack { delivery_tag: tag, multiple: false, requeue: false }
                    }
                }
                .write(mark.channel, &mut self.out);
            });
        }
    }

    /// Waits until everything that was submitted is done, for somebody who is told nothing of it.
    pub(super) async fn sink(&mut self) {
        for flight in std::mem::take(&mut self.flights) {
            if let Some(receipt) = &flight.receipt
                && self.server.broker.until_durable(receipt).await.is_err()
            {
                return;
            }
        }
        // What cannot be seen was not taken, and nobody is left to be told.
        let _ = self.until_dead_lettered().await;
    }

    /// Waits until everything that was submitted is done and seen, and confirms it.
    pub(super) async fn land(&mut self) {
        while let Some(flight) = self.flights.pop_front() {
            if let Some(receipt) = &flight.receipt
                && let Err(error) = self.server.broker.until_durable(receipt).await
            {
                let fault = Fault::from(error);
                Box::pin(self.end_connection(&fault, (60, 40))).await;
                return;
            }
            self.landed(flight);
        }
        if let Err(error) = self.until_dead_lettered().await {
            Box::pin(self.end_connection(&Fault::from(error), (0, 0))).await;
        }
    }
}

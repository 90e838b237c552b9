//! Submitting: what one read brought goes to the broker as one transaction, and comes back as confirms.
//!
//! If that is refused as a whole, each message is submitted by itself, so that one full queue refuses
//! nobody else's messages. A disk that is full refuses nobody: what was published waits here, nothing
//! more is read, and the client is told.

use smallvec::SmallVec;
use weft_broker::{Publish, Receipt};
use weft_kernel::{Error, Reason};
use weft_wire::amqp::Method;

use super::{Phase, Session};
use crate::{arguments::Full, confirms::Confirm, fault::Fault, route::Targets};

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
    pub(crate) receipt: Option<Receipt>,
    pub(crate) marks: Vec<Mark>,
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
        let pending = std::mem::take(&mut self.publishing.pending);
        if pending.is_empty() && self.publishing.marks.is_empty() {
            return;
        }
        (self.publishing.bytes, self.publishing.copies) = (0, 0);
        let submitted = match &pending[..] {
            [] => Ok(None),
            pending => self.submit(pending).await.map(Some),
        };
        let receipt = match submitted {
            Ok(receipt) => receipt,
            Err(error) if error.reason() == Reason::StorageFull => {
                self.publishing.pending = pending;
                self.stall();
                return;
            }
            Err(error) if error.reason() == Reason::StoragePoisoned => {
                let fault = Fault::from(error);
                Box::pin(self.end_connection(&fault, (60, 40))).await;
                return;
            }
            Err(_error) => self.submit_each(&pending).await,
        };
        if std::mem::take(&mut self.publishing.stalled) && std::mem::take(&mut self.blocked) {
            Method::ConnectionUnblocked {}.write(0, &mut self.out);
        }
        // Which positions they got is of no interest any more.
        let receipt = receipt.map(|receipt| Receipt { appended: SmallVec::new(), ..receipt });
        let marks = std::mem::take(&mut self.publishing.marks);
        self.flights.push_back(Flight { receipt, marks });
    }

    /// The disk has no room: the client is told, and what it published waits here.
    fn stall(&mut self) {
        self.publishing.stalled = true;
        if self.abilities.blocked && !self.blocked && self.phase == Phase::Running {
            self.blocked = true;
            Method::ConnectionBlocked { reason: "low on disk" }.write(0, &mut self.out);
        }
    }

    async fn submit(&self, pending: &[Pending]) -> Result<Receipt, Error> {
        let broker = &self.server.broker;
        loop {
            let mut batch = broker.batch();
            for one in pending {
                for entry in one.targets.iter() {
                    if entry.arguments.priority_max.is_some() {
                        let priority = entry.arguments.priority(one.priority);
                        let publish = Publish { priority, ..one.publish.clone() };
                        batch.queue(&entry.queue, &publish)?;
                    } else {
                        batch.queue(&entry.queue, &one.publish)?;
                    }
                }
            }
            match broker.submit(batch) {
                Err(error) if error.reason() == Reason::StorageBusy => broker.room().await,
                done => return done,
            }
        }
    }

    /// Submits each by itself, and refuses those that are refused. The receipt stands for all others.
    async fn submit_each(&mut self, pending: &[Pending]) -> Option<Receipt> {
        let mut all: Option<Receipt> = None;
        for one in pending {
            match self.submit(std::slice::from_ref(one)).await {
                Ok(receipt) => {
                    all = Some(match all {
                        None => receipt,
                        Some(before) => {
                            let durability = before.durability.max(receipt.durability);
                            Receipt { durability, ..receipt }
                        }
                    });
                }
                // The queue went meanwhile: as if it had not been bound.
                Err(error) if error.reason() == Reason::NoQueue => {}
                Err(error) => {
                    tracing::debug!(error = %error, "a publish was refused");
                    self.refuse(one).await;
                    if error.reason() == Reason::MessageTooLarge {
                        // Without confirms nothing else would tell the publisher.
                        let fault = Fault::precondition(error);
                        Box::pin(self.fail(one.channel, &fault, (60, 40))).await;
                    }
                }
            }
        }
        all
    }

    async fn refuse(&mut self, one: &Pending) {
        if let Some(channel) = self.channels.get_mut(&one.channel)
            && channel.serial == one.serial
            && let Some(confirms) = &mut channel.confirms
        {
            confirms.refuse(one.tag);
        }
        for entry in one.targets.iter() {
            if entry.arguments.full == Full::RejectPublishDlx {
                let dead = self.server.dead_letters(entry, &one.publish.message, "maxlen");
                let mut batch = self.server.broker.batch();
                let added: Result<(), Error> =
                    dead.iter().try_for_each(|(queue, publish)| batch.queue(queue, publish));
                let done = added.and_then(|()| self.server.broker.submit(batch));
                if let Err(error) = done {
                    tracing::debug!(error = %error, "a refused publish could not be dead-lettered");
                }
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

    /// Waits until everything that was submitted is done, and confirms it.
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
    }
}

//! Settles deliveries, wherever the consumer is that took them.

use std::{sync::Arc, time::Duration};

use weft_kernel::{Code, Result};
use weft_ledger::{ConsumerId, Durability, LeaseLimits, Seen};

use super::{Delivery, Held, Lease, lease::delivery};
use crate::{
    broker::Broker,
    counters::add,
    settle::{Event, Verdict},
    settlement::Settlement,
    source::{MessageSource, Queue},
    trim::Taken,
};

/// Settles what a consumer took; cheap to clone.
#[derive(Clone, Debug)]
pub struct Settler {
    pub(super) broker: Broker,
    pub(super) source: MessageSource,
    /// Whose deliveries it mostly settles.
    pub(super) consumer: ConsumerId,
    pub(super) held: Arc<Held>,
}

/// What became of settlements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The number of the transaction; 0 if every lease was lost.
    pub seq: u64,
    /// The level at which it counts as done.
    pub durability: Durability,
    /// When the dead letters of it are seen.
    pub seen: Seen,
    /// Which of them, counted from 0, came too late: their lease had run out or was void.
    pub lost: Vec<usize>,
}

impl Broker {
    /// What settles deliveries of a source, whoever took them.
    pub(crate) fn settler(&self, source: &MessageSource) -> Settler {
        Settler {
            broker: self.clone(),
            source: source.clone(),
            consumer: ConsumerId::SYSTEM,
            held: Arc::default(),
        }
    }

    /// Takes up to `max` messages that are ready now without being a consumer: for who asks for single
    /// messages. It takes past pause, and beside the active consumer of a single-active queue.
    ///
    /// # Errors
    /// `no_queue` once it is deleted, `queue_locked` if it belongs to another connection than `owner`.
    pub async fn take_ready(
        &self,
        queue: &Arc<Queue>,
        max: u32,
        owner: Option<u64>,
    ) -> Result<(Vec<Delivery>, Settler)> {
        queue.check_owner(owner)?;
        queue.usage.touch(self.clock().now());
        let source = MessageSource::Queue(Arc::clone(queue));
        let ask = LeaseLimits {
            consumer: ConsumerId::SYSTEM,
            records: max,
            bytes: u64::MAX,
            lease: None,
        };
        let leased =
            self.store().lease_fully(queue.group, ask).await.map_err(|error| {
                if error.code() == Code::NotFound { source.gone() } else { error }
            })?;
        // Given back if nobody waits for the answer any more.
        let mut leased = Taken { broker: self, deliveries: leased };
        if !leased.deliveries.is_empty() {
            self.note_taken(queue.group).await;
        }
        let mut taken: Vec<Delivery> =
            leased.deliveries.drain(..).map(|one| delivery(&one, None)).collect();
        taken.iter_mut().for_each(|one| self.suspect(&mut one.lease));
        add(&queue.counters.delivered, taken.len() as u64);
        let settler = self.settler(&source);
        Ok((taken, settler))
    }
}

impl Settler {
    /// What it settles deliveries of.
    pub fn source(&self) -> &MessageSource {
        &self.source
    }

    /// Settles deliveries in one transaction, without waiting for the disk; those whose lease is lost
    /// are told and keep no other from being settled.
    ///
    /// A message that is given up is moved to the dead letters in the same transaction.
    ///
    /// # Errors
    /// What the store refuses; nothing is settled then, and it may be tried again.
    pub async fn settle(&self, verdicts: &[(Lease, Verdict)]) -> Result<Settled> {
        let settlements: Vec<_> = verdicts
            .iter()
            .map(|(lease, verdict)| Settlement { lease, event: Event::Said(verdict), record: None })
            .collect();
        let settled = self.broker.settle_all(&self.source, &settlements).await?;
        self.let_go(verdicts.iter().map(|(lease, _)| lease));
        Ok(settled)
    }

    /// Gives room to the consumers that took what is settled.
    pub(crate) fn let_go<'a>(&self, leases: impl Iterator<Item = &'a Lease> + Clone) {
        self.held.let_go(leases.clone().filter(|lease| lease.consumer == self.consumer));
        for lease in leases.filter(|lease| lease.consumer != self.consumer) {
            if let Some(held) = self.broker.held(lease.consumer) {
                held.let_go(std::iter::once(lease));
            }
        }
    }

    /// Settles deliveries and waits until that is done at the level of the queue or topic.
    ///
    /// # Errors
    /// As [`Settler::settle`], and `storage_poisoned`.
    pub async fn settle_durably(&self, verdicts: &[(Lease, Verdict)]) -> Result<Settled> {
        let settled = self.settle(verdicts).await?;
        if settled.seq != 0 {
            weft_ledger::until_durable(self.broker.store(), settled.seq, settled.durability)
                .await?;
            self.broker.until_seen(settled.seen).await?;
        }
        Ok(settled)
    }

    /// Waits until [`Settler::settle`] has room. Cancel-safe.
    pub async fn room(&self) {
        self.broker.room().await;
    }

    /// Starts the lease of a delivery anew.
    ///
    /// # Errors
    /// `lease_lost` if it is not this delivery's any more.
    pub fn renew(&self, lease: &Lease, span: Duration) -> Result<()> {
        self.broker.store().renew_now(lease.group, lease.position, lease.token, span)
    }
}

//! Subscriptions that lead to a queue: maintenance moves their messages, each batch settled and
//! published in one transaction.

use std::{
    future::poll_fn,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use weft_kernel::{Reason, Result};
use weft_ledger::{Due, Durability, Op, Settle};

use crate::{
    broker::Broker,
    consume::{Consumer, ConsumerOptions, Delivery, Lease},
    maintenance::gone_is_fine,
    options::SubscriptionTarget,
    publish::Publish,
    settle::Verdict,
    source::{Queue, Subscription},
};

/// How many messages, and bytes of them, are moved in one transaction.
const AT_ONCE: u32 = 256;
const BYTES_AT_ONCE: u64 = 1 << 20;
/// How many batches of a subscription are moved before others get their turn.
const BATCHES_AT_ONCE: usize = 16;
/// How long messages wait that the queue does not take.
const HELD_BACK: Duration = Duration::from_secs(1);

/// A subscription that leads to a queue, and what consumes it.
#[derive(Debug)]
pub(crate) struct Forwarder {
    subscription: Arc<Subscription>,
    consumer: Consumer,
}

impl Forwarder {
    fn target(&self) -> Option<String> {
        match &self.subscription.settings.read().options.target {
            SubscriptionTarget::Queue(name) if !self.subscription.is_deleted() => {
                Some(name.clone())
            }
            _ => None,
        }
    }
}

impl Broker {
    /// Moves what is there to be moved.
    ///
    /// # Errors
    /// The first error; what the others are to move is moved all the same.
    pub(crate) async fn forward(&self) -> Result<()> {
        let mut done = Ok(());
        let mut forwarders = self.inner().forwarders.lock().await;
        let new = std::mem::take(&mut self.inner().maintenance.lock().forwarded);
        for subscription in new.iter().filter_map(Weak::upgrade) {
            if forwarders.iter().any(|other| Arc::ptr_eq(&other.subscription, &subscription)) {
                continue;
            }
            let options = ConsumerOptions { prefetch: AT_ONCE, ..ConsumerOptions::default() };
            match gone_is_fine(self.consume(Arc::clone(&subscription), options)) {
                Ok(Some(consumer)) => forwarders.push(Forwarder { subscription, consumer }),
                Ok(None) => {}
                Err(error) => {
                    self.inner().maintenance.lock().forwarded.push(Arc::downgrade(&subscription));
                    done = done.and(Err(error));
                }
            }
        }
        forwarders.retain(|forwarder| forwarder.target().is_some());
        for forwarder in forwarders.iter_mut() {
            let Some(name) = forwarder.target() else { continue };
            // Until the queue is there, the messages wait.
            let key = forwarder.subscription.key.topic.sibling(&name);
            let Ok(queue) = key.and_then(|key| self.queue(&key)) else { continue };
            let moved = gone_is_fine(self.forward_all(&mut forwarder.consumer, &queue).await);
            done = done.and(moved.map(|_| ()));
        }
        done
    }

    /// Waits until there may be something to be moved.
    pub(crate) async fn forwardable(&self) {
        let mut forwarders = self.inner().forwarders.lock().await;
        let waits: Vec<bool> = forwarders
            .iter()
            .map(|forwarder| {
                let key = forwarder
                    .target()
                    .and_then(|name| forwarder.subscription.key.topic.sibling(&name).ok());
                key.is_some_and(|key| self.queue(&key).is_ok())
            })
            .collect();
        let waiting = Turns(&mut forwarders);
        poll_fn(|context| {
            let mut ready = Poll::Pending;
            for (forwarder, waits) in waiting.0.iter_mut().zip(&waits) {
                if *waits && forwarder.consumer.poll_ready(context).is_ready() {
                    ready = Poll::Ready(());
                }
            }
            ready
        })
        .await;
    }

    /// Moves what is there, as far as its turn goes and the queue has room.
    async fn forward_all(&self, consumer: &mut Consumer, queue: &Arc<Queue>) -> Result<()> {
        for _ in 0..BATCHES_AT_ONCE {
            let taken = consumer.try_batch_within(AT_ONCE, BYTES_AT_ONCE).await?;
            if taken.is_empty() {
                return Ok(());
            }
            let (moved, left) = self.forward_some(consumer, queue, &taken).await;
            let held = self.hold_back(left).await;
            consumer.let_go(taken.iter().map(|delivery| &delivery.lease));
            match moved {
                Ok(()) => {}
                Err(error) => match error.reason() {
                    Reason::QueueFull
                    | Reason::StorageFull
                    | Reason::StorageUnavailable
                    | Reason::LeaseLost => return held,
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Moves as many of a batch as the queue has room for, in order; what is left, and why.
    async fn forward_some<'a>(
        &self,
        consumer: &Consumer,
        queue: &Arc<Queue>,
        mut left: &'a [Delivery],
    ) -> (Result<()>, &'a [Delivery]) {
        let mut step = left.len();
        while !left.is_empty() {
            let (some, rest) = left.split_at(step.min(left.len()));
            match self.forward_batch(consumer, queue, some).await {
                Ok(()) => left = rest,
                Err(error) if error.reason() == Reason::QueueFull && some.len() > 1 => {
                    step = some.len().div_ceil(2);
                }
                Err(error) => return (Err(error), left),
            }
        }
        (Ok(()), left)
    }

    /// Moves a batch in one transaction; what the queue will never take is rejected.
    async fn forward_batch(
        &self,
        consumer: &Consumer,
        queue: &Arc<Queue>,
        taken: &[Delivery],
    ) -> Result<()> {
        let mut batch = self.batch();
        for delivery in taken {
            let publish = Publish {
                key: delivery.key.clone(),
                priority: delivery.priority,
                ..Publish::new(delivery.message.clone())
            };
            match batch.queue(queue, &publish) {
                Ok(()) => batch.op(settle(&delivery.lease, Settle::Done), Durability::Memory),
                Err(error) if error.reason() == Reason::NoQueue => return Err(error),
                Err(error) => {
                    let reason = error.said().to_owned().into();
                    let verdict = [(delivery.lease.clone(), Verdict::Reject { reason })];
                    consumer.settle(&verdict).await?;
                }
            }
        }
        if !batch.is_empty() {
            self.submit_with_room(batch).await?;
        }
        Ok(())
    }

    /// Lets messages wait that the queue does not take now: nothing failed, and nothing is lost.
    async fn hold_back(&self, taken: &[Delivery]) -> Result<()> {
        for delivery in taken {
            let how = Settle::Retry {
                due: Due::After(HELD_BACK),
                failed: false,
                note: delivery.lease.note.clone(),
            };
            let mut back = self.batch();
            back.op(settle(&delivery.lease, how), Durability::Memory);
            match self.submit_with_room(back).await {
                Err(error) if !matches!(error.reason(), Reason::LeaseLost | Reason::NoMessage) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Passes the turns on that nobody has used.
struct Turns<'a>(&'a mut Vec<Forwarder>);

impl Drop for Turns<'_> {
    fn drop(&mut self) {
        for forwarder in self.0.iter() {
            forwarder.consumer.pass_turn();
        }
    }
}

fn settle(lease: &Lease, how: Settle) -> Op {
    Op::Settle { group: lease.group, position: lease.position, token: lease.token, how }
}

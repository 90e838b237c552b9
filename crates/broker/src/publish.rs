//! Publishing: messages for any number of queues and topics, and settlements, in one transaction.
//!
//! A [`Batch`] gathers; [`Broker::submit`] puts it into the store without waiting, [`Broker::commit`]
//! waits for the level that its strictest target asks for. All of a batch happens or nothing of it.

mod batch;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use smallvec::SmallVec;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{
    Appended, Durability, LogId, Refused, Seen, Storage, has_ended, room, until_durable, until_seen,
};

pub use batch::Batch;
pub(crate) use batch::check as check_publish;

use crate::{
    broker::Broker,
    counters::add,
    message::Message,
    options::{Overflow, QueueOptions},
    source::{Queue, Topic},
};

/// A message to be published.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The message.
    pub message: Message,
    /// What it is ordered by and compacted by; at most 1 KiB, empty for none.
    pub key: Bytes,
    /// Not handed out before: wall milliseconds, 0 for at once.
    pub due_ms: u64,
    /// How long it may wait to be handed out, from `due_ms` on.
    pub ttl: Option<Duration>,
    /// The higher the sooner in a queue with priorities.
    pub priority: u8,
    /// When it counts as done; `None` for what the queue or topic says.
    pub durability: Option<Durability>,
    /// Whether its id was made for this publish: nobody can publish it again, so that it is not
    /// remembered.
    pub new_id: bool,
}

impl Publish {
    /// A message with nothing else asked for.
    pub fn new(message: Message) -> Self {
        Self {
            message,
            key: Bytes::new(),
            due_ms: 0,
            ttl: None,
            priority: 0,
            durability: None,
            new_id: false,
        }
    }

    /// The same with an ordering key.
    #[must_use]
    pub fn keyed(self, key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), ..self }
    }
}

/// Where a message goes.
#[derive(Clone, Debug)]
pub enum PublishTarget {
    /// A queue.
    Queue(Arc<Queue>),
    /// A topic.
    Topic(Arc<Topic>),
}

impl PublishTarget {
    pub(crate) fn log(&self) -> LogId {
        match self {
            Self::Queue(queue) => queue.log,
            Self::Topic(topic) => topic.log,
        }
    }

    /// The largest message that it takes, in bytes.
    pub(crate) fn message_bytes_max(&self) -> u64 {
        match self {
            Self::Queue(queue) => queue.options().message_bytes_max,
            Self::Topic(topic) => topic.settings().message_bytes_max,
        }
    }

    fn counters(&self) -> &crate::counters::Counters {
        match self {
            Self::Queue(queue) => &queue.counters,
            Self::Topic(topic) => &topic.counters,
        }
    }
}

impl From<Arc<Queue>> for PublishTarget {
    fn from(queue: Arc<Queue>) -> Self {
        Self::Queue(queue)
    }
}

impl From<Arc<Topic>> for PublishTarget {
    fn from(topic: Arc<Topic>) -> Self {
        Self::Topic(topic)
    }
}

/// What became of a batch that was submitted.
#[derive(Clone, Debug)]
pub struct BatchReceipt {
    /// The number of its transaction.
    pub seq: u64,
    /// The level at which it counts as done.
    pub durability: Durability,
    /// When its messages are seen.
    pub seen: Seen,
    /// One per message and target, in order.
    pub appended: SmallVec<[Appended; 1]>,
}

/// What became of a batch of publishes.
#[derive(Debug)]
pub struct Submitted {
    /// The number of their transaction; 0 if none was stored, because all were refused or went nowhere.
    pub seq: u64,
    /// The level at which it counts as done.
    pub durability: Durability,
    /// When they are seen.
    pub seen: Seen,
    /// Which of the publishes were refused, in order.
    pub refused: Vec<Refusal>,
}

/// A publish that was refused.
#[derive(Debug)]
pub struct Refusal {
    /// Which of a batch, counted from 0.
    pub index: usize,
    /// Why.
    pub error: Error,
    /// The queues of it that have no room; the others would have taken it.
    pub full: SmallVec<[Arc<Queue>; 1]>,
}

impl Refusal {
    /// A publish that was refused for what it is, and not by a queue.
    pub fn new(index: usize, error: Error) -> Self {
        Self { index, error, full: SmallVec::new() }
    }
}

/// What became of messages that were published to one queue or topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The first and the last position that they got; `None` if all were there already. Messages of one
    /// publish stand side by side, in their order.
    pub stored: Option<(u64, u64)>,
    /// Which of them, counted from 0, were there already, and at which position.
    pub duplicates: Vec<(u32, u64)>,
    /// The level that was reached.
    pub durability: Durability,
    /// How many subscriptions read the topic; 0 for a queue.
    pub subscriptions: u32,
}

impl Broker {
    /// An empty batch.
    pub fn batch(&self) -> Batch {
        Batch::new(self.now_ms(), self.inner().secret, self.inner().payload_check.get().cloned())
    }

    /// Puts a batch into the store without waiting for the disk: it is done once
    /// [`Broker::until_durable`] answers for the receipt.
    ///
    /// # Errors
    /// [`Reason::StorageBusy`] when too much waits to be written ([`Broker::room`] tells when to try
    /// again), [`Reason::QueueFull`], [`Reason::PositionConflict`], and what else the store refuses.
    /// Nothing is stored then.
    pub fn submit(&self, batch: Batch) -> Result<BatchReceipt> {
        let Batch { transaction, appends, .. } = batch;
        match self.store().submit_now(transaction) {
            Ok(receipt) => Ok(self.taken(receipt, &appends)),
            Err(refused) => Err(self.refused(refused, &appends)),
        }
    }

    /// As [`Broker::submit`], but waits for room first.
    pub(crate) async fn submit_with_room(&self, batch: Batch) -> Result<BatchReceipt> {
        let appends = batch.appends.clone();
        self.submit_untouched(batch).await.map_err(|refused| self.refused(refused, &appends))
    }

    /// As [`Broker::submit_with_room`]; tells which operation was refused, and counts no refusal.
    pub(crate) async fn submit_untouched(&self, batch: Batch) -> Result<BatchReceipt, Refused> {
        let Batch { transaction, appends, .. } = batch;
        loop {
            match self.store().submit_now(transaction.clone()) {
                Ok(receipt) => return Ok(self.taken(receipt, &appends)),
                Err(refused) if refused.error.reason() == Reason::StorageBusy => self.room().await,
                Err(refused) => return Err(refused),
            }
        }
    }

    /// Puts a batch of publishes ([`Batch::publish`]) into the store without waiting for the disk; those
    /// that are refused (a queue is full) are told and keep no other from being stored.
    ///
    /// # Errors
    /// What is wrong with the store as a whole ([`Reason::StorageBusy`], [`Reason::StorageFull`], [`Reason::StorageUnavailable`],
    /// [`Reason::StoragePoisoned`]), or with the batch ([`Reason::MessageTooLarge`]); nothing is stored then.
    pub fn submit_each(&self, mut batch: Batch) -> Result<Submitted> {
        let mut refused = Vec::new();
        // Which of the publishes are left.
        let mut left: Vec<usize> = (0..batch.publishes.len()).collect();
        loop {
            if batch.is_empty() {
                return Ok(Submitted {
                    seq: 0,
                    durability: Durability::Memory,
                    seen: Seen::default(),
                    refused,
                });
            }
            let error = match self.store().submit_now(batch.transaction.clone()) {
                Ok(receipt) => {
                    let receipt = self.taken(receipt, &batch.appends);
                    refused.sort_unstable_by_key(|refusal: &Refusal| refusal.index);
                    let BatchReceipt { seq, durability, seen, .. } = receipt;
                    return Ok(Submitted { seq, durability, seen, refused });
                }
                Err(error) => error,
            };
            let global = has_ended(&error.error)
                || matches!(
                    error.error.reason(),
                    Reason::StorageBusy | Reason::StorageFull | Reason::StorageUnavailable
                );
            let (Some(op), false) = (error.op, global) else {
                return Err(error.into());
            };
            // All at once: a burst into a full queue costs no more than one into an empty one.
            let mut found = self.store().refusals_now(&batch.transaction.ops, &batch.publishes);
            if found.is_empty() {
                // There is room meanwhile, but there was none when its turn had come.
                found.push((op, error.error));
            }
            refused.extend(batch.leave_out(found, &mut left));
        }
    }

    /// Puts a batch into the store, waits for room first, and afterwards until it is done and seen, as
    /// [`Broker::until_durable`]. Dropped, it may
    /// have happened or not.
    ///
    /// # Errors
    /// As [`Broker::submit`], but never [`Reason::StorageBusy`].
    pub async fn commit(&self, batch: Batch) -> Result<BatchReceipt> {
        let Batch { transaction, appends, .. } = batch;
        let receipt = loop {
            match self.store().submit_now(transaction.clone()) {
                Ok(receipt) => break receipt,
                Err(refused) if refused.error.reason() == Reason::StorageBusy => self.room().await,
                Err(refused) => return Err(self.refused(refused, &appends)),
            }
        };
        // Whoever follows a topic is told when a message is taken, and waits for the disk itself: who
        // waits here may leave before that.
        for (target, _) in &appends {
            if let PublishTarget::Topic(topic) = target {
                topic.newest.tell(receipt.seq, receipt.durability);
            }
        }
        until_durable(self.store(), receipt.seq, receipt.durability).await?;
        until_seen(self.store(), receipt.seen).await?;
        let receipt = self.taken(receipt, &appends);
        self.trim_published().await;
        Ok(receipt)
    }

    /// Waits until what a receipt stands for is done at its level and seen: what is acknowledged is there
    /// for whoever asks next, however weak its level. Queues that drop their oldest when
    /// full are within their limit again when it answers, unless that failed: maintenance sees to it then.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`Reason::StoragePoisoned`] if it never will be.
    pub async fn until_durable(&self, receipt: &BatchReceipt) -> Result<()> {
        until_durable(self.store(), receipt.seq, receipt.durability).await?;
        until_seen(self.store(), receipt.seen).await?;
        self.trim_published().await;
        Ok(())
    }

    /// Waits until what was settled is seen where it became a dead letter, and queues that drop their
    /// oldest are within their limits again with what was given back. Cancel-safe.
    ///
    /// # Errors
    /// [`Reason::StoragePoisoned`] if it never will be.
    pub async fn until_seen(&self, seen: Seen) -> Result<()> {
        until_seen(self.store(), seen).await?;
        self.trim_published().await;
        Ok(())
    }

    /// Trims queues after a publish. An error is none of the publisher's: its message is stored, and
    /// would be stored twice if it came again. Maintenance tries again, and warns.
    async fn trim_published(&self) {
        if let Err(error) = self.trim_full().await {
            tracing::debug!(error = %error.detail(), "a full queue could not give up its oldest");
        }
    }

    /// Waits until [`Broker::submit`] has room. Cancel-safe.
    pub async fn room(&self) {
        room(self.store()).await;
    }

    /// Publishes messages to one queue or topic in one transaction, and waits for its level.
    ///
    /// With `expect` the first of them must get that position, or nothing is stored.
    ///
    /// # Errors
    /// As [`Broker::commit`] and [`Batch::topic`].
    pub async fn publish(
        &self,
        target: &PublishTarget,
        messages: &[Publish],
        expect: Option<u64>,
    ) -> Result<Published> {
        let mut batch = self.batch();
        let mut expect = expect;
        for publish in messages {
            match target {
                PublishTarget::Queue(queue) => batch.queue(queue, publish)?,
                PublishTarget::Topic(topic) => batch.topic(topic, publish, expect.take())?,
            }
        }
        if batch.is_empty() {
            return Err(Error::new(Reason::MalformedMessage, "there is nothing to publish"));
        }
        let receipt = self.commit(batch).await?;
        Ok(published(target, &receipt))
    }

    pub(crate) fn taken(
        &self,
        receipt: weft_ledger::Receipt,
        appends: &[(PublishTarget, u32)],
    ) -> BatchReceipt {
        for ((target, bytes), appended) in appends.iter().zip(&receipt.appended) {
            let counters = target.counters();
            if appended.duplicate {
                add(&counters.duplicates, 1);
                continue;
            }
            add(&counters.published, 1);
            add(&counters.published_bytes, u64::from(*bytes));
            match target {
                PublishTarget::Queue(queue) => self.may_be_full(queue, receipt.seen),
                PublishTarget::Topic(topic) => topic.newest.tell(receipt.seq, receipt.durability),
            }
        }
        let weft_ledger::Receipt { seq, durability, seen, appended, .. } = receipt;
        BatchReceipt { seq, durability, seen, appended }
    }

    pub(crate) fn refused(&self, refused: Refused, appends: &[(PublishTarget, u32)]) -> Error {
        // Which target was full is only known when there is one.
        let only = match appends {
            [(target, _)] => Some(target),
            [(first, _), rest @ ..] => {
                rest.iter().all(|(other, _)| other.log() == first.log()).then_some(first)
            }
            [] => None,
        };
        if let Some(target) = only {
            add(&target.counters().refused, appends.len() as u64);
            let place = match target {
                PublishTarget::Queue(queue) => format!("queue {}", queue.key),
                PublishTarget::Topic(topic) => format!("topic {}", topic.key),
            };
            return Error::from(Refused { op: None, ..refused }).at(place);
        }
        refused.into()
    }
}

fn published(target: &PublishTarget, receipt: &BatchReceipt) -> Published {
    let mut stored: Option<(u64, u64)> = None;
    let mut duplicates = Vec::new();
    for (appended, index) in receipt.appended.iter().zip(0u32..) {
        if appended.duplicate {
            duplicates.push((index, appended.position));
        } else {
            let first = stored.map_or(appended.position, |(first, _)| first);
            stored = Some((first, appended.position));
        }
    }
    Published {
        stored,
        duplicates,
        durability: receipt.durability,
        subscriptions: match target {
            PublishTarget::Topic(topic) => topic.subscriptions(),
            PublishTarget::Queue(_) => 0,
        },
    }
}

/// Where the records of a queue live.
pub(crate) fn storage(options: &QueueOptions) -> Storage {
    if options.transient { Storage::Memory } else { Storage::Disk }
}

/// Whether a queue gives up its oldest when it is full.
pub(crate) fn drops(options: &QueueOptions) -> bool {
    matches!(options.limit.overflow, Overflow::DropOldest { .. })
}

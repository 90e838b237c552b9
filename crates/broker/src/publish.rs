//! Publishing: messages for any number of queues and topics, and settlements, in one transaction.
//!
//! A [`Batch`] gathers; [`Broker::submit`] puts it into the store without waiting, [`Broker::commit`]
//! waits for the level that its strictest target asks for. All of a batch happens or nothing of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use smallvec::SmallVec;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{
    Appended, Durability, Expect, LogId, NewRecord, Op, Refused, Storage, Transaction, room,
    transaction::{KEY_BYTES_MAX, PRIORITY_MAX},
    until_durable,
};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::{
    broker::Broker,
    counters::add,
    message::{Form, Message},
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
    /// 0 to 31; the higher the sooner in a queue with priorities.
    pub priority: u8,
    /// When it counts as done; `None` for what the queue or topic says.
    pub durability: Option<Durability>,
}

impl Publish {
    /// A message with nothing else asked for.
    pub fn new(message: Message) -> Self {
        Self { message, key: Bytes::new(), due_ms: 0, ttl: None, priority: 0, durability: None }
    }

    /// The same with an ordering key.
    #[must_use]
    pub fn keyed(self, key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), ..self }
    }
}

/// Where a message goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// A queue.
    Queue(Arc<Queue>),
    /// A topic.
    Topic(Arc<Topic>),
}

impl Target {
    pub(crate) fn log(&self) -> LogId {
        match self {
            Self::Queue(queue) => queue.log,
            Self::Topic(topic) => topic.log,
        }
    }

    fn counters(&self) -> &crate::counters::Counters {
        match self {
            Self::Queue(queue) => &queue.counters,
            Self::Topic(topic) => &topic.counters,
        }
    }
}

impl From<Arc<Queue>> for Target {
    fn from(queue: Arc<Queue>) -> Self {
        Self::Queue(queue)
    }
}

impl From<Arc<Topic>> for Target {
    fn from(topic: Arc<Topic>) -> Self {
        Self::Topic(topic)
    }
}

/// What is published in one transaction.
#[derive(Debug)]
pub struct Batch {
    pub(crate) transaction: Transaction,
    /// One per append, with the bytes of the message.
    appends: SmallVec<[(Target, u32); 1]>,
    /// With which operation each publish begins, for [`Broker::submit_each`].
    publishes: SmallVec<[u32; 1]>,
    now_ms: u64,
    secret: u64,
}

/// What became of a batch that was submitted.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The number of its transaction.
    pub seq: u64,
    /// The level at which it counts as done.
    pub durability: Durability,
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
    /// Which of the publishes, counted from 0, were refused, and why.
    pub refused: Vec<(u32, Error)>,
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

impl Batch {
    pub(crate) fn new(now_ms: u64, secret: u64) -> Self {
        Self {
            transaction: Transaction::new(Durability::Memory),
            appends: SmallVec::new(),
            publishes: SmallVec::new(),
            now_ms,
            secret,
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.transaction.ops.is_empty()
    }

    /// How many messages it has, each target counted.
    pub fn len(&self) -> usize {
        self.appends.len()
    }

    /// The bytes of its messages, each target counted.
    pub fn bytes(&self) -> u64 {
        self.appends.iter().map(|(_, bytes)| u64::from(*bytes)).sum()
    }

    /// Adds a message for several queues: one publish, which happens for all of them or not at all.
    ///
    /// Queues that were deleted meanwhile are left out.
    ///
    /// # Errors
    /// [`Reason::MessageTooLarge`] beyond the bound of one of them; nothing is added then.
    pub fn publish(&mut self, queues: &[Arc<Queue>], publish: &Publish) -> Result<()> {
        let (ops, appends) = (self.transaction.ops.len(), self.appends.len());
        for queue in queues {
            match self.queue(queue, publish) {
                Err(error) if error.reason() != Reason::NoQueue => {
                    self.transaction.ops.truncate(ops);
                    self.appends.truncate(appends);
                    return Err(error);
                }
                _ => {}
            }
        }
        self.publishes.push(u32::try_from(ops).unwrap_or(u32::MAX));
        Ok(())
    }

    /// Which operations append, and to which log.
    pub(crate) fn appends_at(&self) -> SmallVec<[(usize, LogId); 1]> {
        let ops = self.transaction.ops.iter().enumerate();
        ops.filter_map(|(at, op)| match op {
            Op::Append { log, .. } => Some((at, *log)),
            _ => None,
        })
        .collect()
    }

    /// Adds a message for a queue.
    ///
    /// # Errors
    /// [`Reason::NoQueue`] when it was deleted, [`Reason::MessageTooLarge`] beyond its bound.
    pub fn queue(&mut self, queue: &Arc<Queue>, publish: &Publish) -> Result<()> {
        if queue.is_deleted() {
            return Err(Error::new(Reason::NoQueue, format!("queue {} was deleted", queue.key)));
        }
        let (ttl, level, record_id) = {
            let settings = queue.settings.read();
            let options = &settings.options;
            check(publish, options.message_bytes_max)?;
            let level = if options.transient {
                Durability::Memory
            } else {
                publish.durability.unwrap_or(options.durability)
            };
            let id = options.dedupe.is_some().then(|| self.id(&publish.message)).flatten();
            (shorter(options.message_ttl, publish.ttl), level, id)
        };
        self.append(Target::Queue(Arc::clone(queue)), publish, ttl, level, record_id, Expect::Any);
        Ok(())
    }

    /// Adds a message for a topic; with `expect` only if it gets that position.
    ///
    /// # Errors
    /// [`Reason::NoTopic`] when it was deleted, [`Reason::MessageTooLarge`] beyond its bound,
    /// [`Reason::MalformedMessage`] when a compacted topic gets a message without a key.
    pub fn topic(
        &mut self,
        topic: &Arc<Topic>,
        publish: &Publish,
        expect: Option<u64>,
    ) -> Result<()> {
        if topic.is_deleted() {
            return Err(Error::new(Reason::NoTopic, format!("topic {} was deleted", topic.key)));
        }
        let (level, id) = {
            let options = topic.settings.read();
            check(publish, options.message_bytes_max)?;
            if options.compact && publish.key.is_empty() {
                return Err(Error::new(
                    Reason::MalformedMessage,
                    format!("topic {} keeps the last message of each key: give it one", topic.key),
                ));
            }
            let id = options.dedupe.is_some().then(|| self.id(&publish.message)).flatten();
            (publish.durability.unwrap_or(options.durability), id)
        };
        let expect = expect.map_or(Expect::Any, Expect::Next);
        self.append(Target::Topic(Arc::clone(topic)), publish, publish.ttl, level, id, expect);
        Ok(())
    }

    fn append(
        &mut self,
        target: Target,
        publish: &Publish,
        ttl: Option<Duration>,
        level: Durability,
        dedupe: Option<u128>,
        expect: Expect,
    ) {
        let expires_ms = ttl.map_or(0, |ttl| {
            let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            // 0 means never, so a message without any time to live expires at the first moment.
            publish.due_ms.max(self.now_ms).saturating_add(ttl).max(1)
        });
        self.push(
            target,
            publish.message.len(),
            NewRecord {
                key: publish.key.clone(),
                data: publish.message.stored().clone(),
                due_ms: publish.due_ms,
                expires_ms,
                priority: publish.priority,
                dedupe,
            },
            level,
            expect,
        );
    }

    /// Adds a record as it is.
    pub(crate) fn push(
        &mut self,
        target: Target,
        bytes: usize,
        record: NewRecord,
        level: Durability,
        expect: Expect,
    ) {
        self.require(level);
        self.transaction.ops.push(Op::Append { log: target.log(), expect, record });
        self.appends.push((target, u32::try_from(bytes).unwrap_or(u32::MAX)));
    }

    /// Lets the message added last be stored although its id is known: it was there before.
    pub(crate) fn known_again(&mut self) {
        if let Some(Op::Append { record, .. }) = self.transaction.ops.last_mut() {
            record.dedupe = None;
        }
    }

    /// Adds another operation.
    pub(crate) fn op(&mut self, op: Op, level: Durability) {
        self.require(level);
        self.transaction.ops.push(op);
    }

    fn require(&mut self, level: Durability) {
        self.transaction.durability = self.transaction.durability.max(level);
    }

    /// Who a message is: its id among those of its source, keyed so that nobody can make two meet.
    fn id(&self, message: &Message) -> Option<u128> {
        if message.form() != Form::Event {
            return None;
        }
        let event = message.event()?;
        let source = xxh3_64_with_seed(event.source().as_bytes(), self.secret);
        Some(xxh3_128_with_seed(event.id().as_bytes(), source))
    }
}

fn check(publish: &Publish, bytes_max: u64) -> Result<()> {
    if publish.message.len() as u64 > bytes_max {
        return Err(Error::new(
            Reason::MessageTooLarge,
            format!(
                "the message has {} bytes, and at most {bytes_max} are taken",
                publish.message.len()
            ),
        ));
    }
    if publish.key.len() > KEY_BYTES_MAX {
        return Err(Error::new(Reason::MalformedMessage, "a key has at most 1 KiB"));
    }
    if publish.priority > PRIORITY_MAX {
        return Err(Error::new(Reason::MalformedMessage, "a priority is from 0 to 31"));
    }
    Ok(())
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl Broker {
    /// An empty batch.
    pub fn batch(&self) -> Batch {
        Batch::new(self.now_ms(), self.inner().secret)
    }

    /// Puts a batch into the store without waiting for the disk: it is done once
    /// [`Broker::until_durable`] answers for the receipt.
    ///
    /// # Errors
    /// [`Reason::StorageBusy`] when too much waits to be written ([`Broker::room`] tells when to try
    /// again), [`Reason::QueueFull`], [`Reason::PositionConflict`], and what else the store refuses.
    /// Nothing is stored then.
    pub fn submit(&self, batch: Batch) -> Result<Receipt> {
        let Batch { transaction, appends, .. } = batch;
        match self.store().submit(transaction) {
            Ok(receipt) => Ok(self.taken(receipt, &appends)),
            Err(refused) => Err(self.refused(refused, &appends)),
        }
    }

    /// Puts a batch of publishes ([`Batch::publish`]) into the store without waiting for the disk; those
    /// that are refused (a queue is full) are told and keep no other from being stored.
    ///
    /// # Errors
    /// What is wrong with the store as a whole ([`Reason::StorageBusy`], [`Reason::StorageFull`],
    /// [`Reason::StoragePoisoned`]), and the batch, to be submitted again.
    pub fn submit_each(&self, mut batch: Batch) -> Result<Submitted, Box<(Error, Batch)>> {
        let mut refused = Vec::new();
        // Which of the publishes are left.
        let mut left: SmallVec<[u32; 1]> = (0..batch.publishes.len() as u32).collect();
        loop {
            if batch.is_empty() {
                return Ok(Submitted { seq: 0, durability: Durability::Memory, refused });
            }
            let error = match self.store().submit(batch.transaction.clone()) {
                Ok(receipt) => {
                    let receipt = self.taken(receipt, &batch.appends);
                    refused.sort_unstable_by_key(|(index, _)| *index);
                    let (seq, durability) = (receipt.seq, receipt.durability);
                    return Ok(Submitted { seq, durability, refused });
                }
                Err(error) => error,
            };
            let global = matches!(
                error.error.reason(),
                Reason::StorageBusy | Reason::StorageFull | Reason::StoragePoisoned
            );
            let op = error.op.and_then(|op| u32::try_from(op).ok());
            let (Some(op), false) = (op, global) else {
                return Err(Box::new((error.into(), batch)));
            };
            let at = batch.publishes.partition_point(|first| *first <= op).saturating_sub(1);
            let first = batch.publishes.get(at).copied().unwrap_or_default();
            let end = batch.publishes.get(at + 1).copied();
            let end = end.unwrap_or(batch.transaction.ops.len() as u32);
            if let Some((target, _)) = batch.appends.get(op as usize) {
                add(&target.counters().refused, 1);
            }
            batch.transaction.ops.drain(first as usize..end as usize);
            batch.appends.drain(first as usize..end as usize);
            batch.publishes.remove(at);
            batch.publishes.iter_mut().skip(at).for_each(|start| *start -= end - first);
            refused.push((left.remove(at), error.error));
        }
    }

    /// Puts a batch into the store, waits for room first and for its level afterwards. Dropped, it may
    /// have happened or not.
    ///
    /// # Errors
    /// As [`Broker::submit`], but never [`Reason::StorageBusy`].
    pub async fn commit(&self, batch: Batch) -> Result<Receipt> {
        let Batch { transaction, appends, .. } = batch;
        match self.store().commit(transaction).await {
            Ok(receipt) => {
                let receipt = self.taken(receipt, &appends);
                self.trim_full().await?;
                Ok(receipt)
            }
            Err(refused) => Err(self.refused(refused, &appends)),
        }
    }

    /// Waits until what a receipt stands for is done at its level. Queues that drop their oldest when
    /// full are within their limit again when it answers. Cancel-safe.
    ///
    /// # Errors
    /// [`Reason::StoragePoisoned`] if it never will be.
    pub async fn until_durable(&self, receipt: &Receipt) -> Result<()> {
        until_durable(self.store(), receipt.seq, receipt.durability).await?;
        self.trim_full().await
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
        target: &Target,
        messages: &[Publish],
        expect: Option<u64>,
    ) -> Result<Published> {
        let mut batch = self.batch();
        let mut expect = expect;
        for publish in messages {
            match target {
                Target::Queue(queue) => batch.queue(queue, publish)?,
                Target::Topic(topic) => batch.topic(topic, publish, expect.take())?,
            }
        }
        if batch.is_empty() {
            return Err(Error::new(Reason::MalformedMessage, "there is nothing to publish"));
        }
        let receipt = self.commit(batch).await?;
        Ok(published(target, &receipt))
    }

    fn taken(&self, receipt: weft_ledger::Receipt, appends: &[(Target, u32)]) -> Receipt {
        for ((target, bytes), appended) in appends.iter().zip(&receipt.appended) {
            let counters = target.counters();
            if appended.duplicate {
                add(&counters.duplicates, 1);
                continue;
            }
            add(&counters.published, 1);
            add(&counters.published_bytes, u64::from(*bytes));
            match target {
                Target::Queue(queue) => self.may_be_full(queue),
                Target::Topic(topic) => topic.newest.tell(receipt.seq, receipt.durability),
            }
        }
        Receipt { seq: receipt.seq, durability: receipt.durability, appended: receipt.appended }
    }

    fn refused(&self, refused: Refused, appends: &[(Target, u32)]) -> Error {
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
                Target::Queue(queue) => format!("queue {}", queue.key),
                Target::Topic(topic) => format!("topic {}", topic.key),
            };
            return Error::from(Refused { op: None, ..refused }).at(place);
        }
        refused.into()
    }
}

fn published(target: &Target, receipt: &Receipt) -> Published {
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
            Target::Topic(topic) => topic.subscriptions(),
            Target::Queue(_) => 0,
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

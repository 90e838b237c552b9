//! What is published and settled in one transaction, as it is put together.

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{
    Durability, Expect, LogId, NewRecord, Op, Transaction, transaction::KEY_BYTES_MAX,
};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use super::{Publish, PublishTarget, Refusal};
use crate::{
    counters::add,
    payload::{self, PayloadCheck},
    source::{Queue, Topic},
};

/// What is published in one transaction.
#[derive(Clone)]
pub struct Batch {
    pub(crate) transaction: Transaction,
    /// One per append, with the bytes of the message.
    pub(crate) appends: SmallVec<[(PublishTarget, u32); 1]>,
    /// With which operation each publish begins, for [`Broker::submit_each`].
    pub(super) publishes: SmallVec<[u32; 1]>,
    now_ms: u64,
    secret: u64,
    payload_check: Option<Arc<dyn PayloadCheck>>,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("appends", &self.appends).finish_non_exhaustive()
    }
}

impl Batch {
    pub(crate) fn new(
        now_ms: u64,
        secret: u64,
        payload_check: Option<Arc<dyn PayloadCheck>>,
    ) -> Self {
        Self {
            transaction: Transaction::new(Durability::Memory),
            appends: SmallVec::new(),
            publishes: SmallVec::new(),
            now_ms,
            secret,
            payload_check,
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
    /// Each queue comes with the priority that the message has there. Queues that were deleted meanwhile
    /// are left out.
    ///
    /// # Errors
    /// [`Reason::MessageTooLarge`] beyond the bound of one of them; nothing is added then.
    pub fn publish<'q>(
        &mut self,
        queues: impl IntoIterator<Item = (&'q Arc<Queue>, u8)>,
        publish: &Publish,
    ) -> Result<()> {
        let (ops, appends) = (self.transaction.ops.len(), self.appends.len());
        for (queue, priority) in queues {
            let added = if priority == publish.priority {
                self.queue(queue, publish)
            } else {
                self.queue(queue, &Publish { priority, ..publish.clone() })
            };
            match added {
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

    /// Takes out the publishes of which operations are refused, given in order; `left` are the numbers
    /// of the publishes that are in it.
    pub(super) fn leave_out(
        &mut self,
        refused: Vec<(usize, Error)>,
        left: &mut Vec<usize>,
    ) -> Vec<Refusal> {
        let mut ops = std::mem::take(&mut self.transaction.ops).into_iter();
        let mut appends = std::mem::take(&mut self.appends).into_iter();
        let publishes = std::mem::take(&mut self.publishes);
        let mut refused = refused.into_iter().peekable();
        let mut out: Vec<Refusal> = Vec::new();
        let ends = publishes.iter().skip(1).map(|end| *end as usize).chain([ops.len()]);
        let numbers = std::mem::take(left);
        for ((number, first), end) in numbers.into_iter().zip(&publishes).zip(ends) {
            let (first, count) = (*first as usize, end - *first as usize);
            if refused.peek().is_none_or(|(op, _)| *op >= end) {
                self.publishes.push(self.transaction.ops.len() as u32);
                self.transaction.ops.extend(ops.by_ref().take(count));
                self.appends.extend(appends.by_ref().take(count));
                left.push(number);
                continue;
            }
            let mut whole: Option<Refusal> = None;
            ops.by_ref().take(count).for_each(drop);
            for (at, (target, _)) in (first..end).zip(appends.by_ref()) {
                let Some((_, error)) = refused.next_if(|(op, _)| *op == at) else { continue };
                add(&target.counters().refused, 1);
                let full = error.reason() == Reason::QueueFull;
                let refusal = whole.get_or_insert_with(|| Refusal::new(number, error));
                if let (PublishTarget::Queue(queue), true) = (target, full) {
                    refusal.full.push(queue);
                }
            }
            out.extend(whole);
        }
        out
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
        let record_id = {
            let settings = queue.settings.read();
            check(publish, settings.options.message_bytes_max)?;
            settings.options.dedupe.and_then(|_| self.id(publish))
        };
        let (ttl, level) = self.terms(queue, publish);
        self.append(
            PublishTarget::Queue(Arc::clone(queue)),
            publish,
            ttl,
            level,
            record_id,
            Expect::Any,
        );
        Ok(())
    }

    /// Adds a dead letter for a queue that a hook names. What could be published once is taken again,
    /// whatever bound this queue has for messages.
    pub(crate) fn dead_letter(&mut self, queue: &Arc<Queue>, publish: &Publish) {
        let (ttl, level) = self.terms(queue, publish);
        let target = PublishTarget::Queue(Arc::clone(queue));
        self.append(target, publish, ttl, level, None, Expect::Any);
    }

    /// The time to live of a message in a queue, and the level at which it counts as done.
    fn terms(&self, queue: &Queue, publish: &Publish) -> (Option<Duration>, Durability) {
        let settings = queue.settings.read();
        let options = &settings.options;
        let level = if options.transient {
            Durability::Memory
        } else {
            publish.durability.unwrap_or(options.durability)
        };
        (shorter(options.message_ttl, publish.ttl), level)
    }

    /// Adds a message for a topic; with `expect` only if it gets that position.
    ///
    /// # Errors
    /// [`Reason::NoTopic`] when it was deleted, [`Reason::MessageTooLarge`] beyond its bound,
    /// [`Reason::MalformedMessage`] when a compacted topic gets a message without a key,
    /// [`Reason::SchemaMismatch`] when the message does not fit the schema of the topic.
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
            if let Some(schema) = &options.schema {
                payload::check(self.payload_check.as_ref(), &topic.key, schema, &publish.message)?;
            }
            let id = options.dedupe.and_then(|_| self.id(publish));
            (publish.durability.unwrap_or(options.durability), id)
        };
        let expect = expect.map_or(Expect::Any, Expect::Next);
        self.append(
            PublishTarget::Topic(Arc::clone(topic)),
            publish,
            publish.ttl,
            level,
            id,
            expect,
        );
        Ok(())
    }

    fn append(
        &mut self,
        target: PublishTarget,
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
        target: PublishTarget,
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

    /// Adds an operation of who publishes, such as the position that the messages were read from: it happens with
    /// them or not at all. What it is on is the publisher's own, and no log, group or map of the broker.
    pub fn with(&mut self, op: Op, level: Durability) {
        self.op(op, level);
    }

    /// Adds another operation.
    pub(crate) fn op(&mut self, op: Op, level: Durability) {
        self.require(level);
        self.transaction.ops.push(op);
    }

    fn require(&mut self, level: Durability) {
        self.transaction.durability = self.transaction.durability.max(level);
    }

    /// Who a message is, if it may come again: its id among those of its source, keyed so that nobody can
    /// make two meet. An event is the same in whatever form it comes.
    fn id(&self, publish: &Publish) -> Option<u128> {
        let of = |source: &str, id: &str| {
            let source = xxh3_64_with_seed(source.as_bytes(), self.secret);
            xxh3_128_with_seed(id.as_bytes(), source)
        };
        match publish.message.event() {
            _ if publish.new_id => None,
            Some(event) => Some(of(event.source(), event.id())),
            None => publish.message.carried(|event| of(&event.source, &event.id)),
        }
    }
}

/// Checks what a queue or topic with this bound would refuse of a message, whenever it came.
pub(crate) fn check(publish: &Publish, bytes_max: u64) -> Result<()> {
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
    Ok(())
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

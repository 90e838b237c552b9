//! Looking at what is there without taking it: numbers, messages, positions; and moving past it:
//! purge, seek, skip, remove.

use std::sync::Arc;

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{
    Durability, GroupId, GroupStats, Limits, LogId, LogStats, Op, ReadItem, Standing, Transaction,
    until_durable,
};

use crate::{
    broker::Broker,
    consume::open,
    counters::Counts,
    history::History,
    message::Message,
    source::{Queue, Source, Subscription, Topic},
};

/// The numbers of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueView {
    /// Messages that can be handed out now.
    pub ready: u64,
    /// Messages handed out and not settled.
    pub leased: u64,
    /// Messages that wait for their retry or their due time.
    pub waiting: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// When the oldest was published: wall milliseconds, 0 without one.
    pub oldest_ms: u64,
    /// Consumers.
    pub consumers: u32,
    /// How many keys are parked.
    pub parked: usize,
    /// What has happened since the broker was opened.
    pub counts: Counts,
}

/// The numbers of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicView {
    /// The position of the oldest message.
    pub first: u64,
    /// The position after the newest.
    pub end: u64,
    /// Messages that are there.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the oldest was published: wall milliseconds, 0 without one.
    pub oldest_ms: u64,
    /// When the newest was published: wall milliseconds, 0 without one.
    pub last_ms: u64,
    /// Subscriptions that read it.
    pub subscriptions: u32,
    /// What has happened since the broker was opened.
    pub counts: Counts,
}

/// The numbers of a subscription, over all its topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionView {
    /// Messages that can be handed out now, as far as the filter takes them.
    pub ready: u64,
    /// Messages handed out and not settled.
    pub leased: u64,
    /// Messages that wait for their retry or their due time.
    pub waiting: u64,
    /// Messages that are not settled.
    pub lag: u64,
    /// When the oldest of them was published: wall milliseconds, 0 without one.
    pub oldest_ms: u64,
    /// The next position never looked at; of several topics the first's.
    pub cursor: u64,
    /// How many topics it reads.
    pub topics: usize,
    /// Consumers.
    pub consumers: u32,
    /// Whether it hands out nothing until it is resumed.
    pub paused: bool,
    /// How many keys are parked.
    pub parked: usize,
    /// What has happened since the broker was opened.
    pub counts: Counts,
}

/// How a message stands that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// To be handed out when its turn comes.
    Ready,
    /// Ready, behind an earlier message of its key.
    Blocked,
    /// Handed out.
    Leased,
    /// Waiting for its retry or its due time, in wall milliseconds.
    Waiting(u64),
}

/// A message that was looked at.
#[derive(Clone, Debug)]
pub struct Peeked {
    /// Its position.
    pub position: u64,
    /// How it stands.
    pub state: State,
    /// How often it was handed out.
    pub handouts: u32,
    /// How often it failed.
    pub failures: u32,
    /// What was tried.
    pub history: History,
    /// When it was published: wall milliseconds.
    pub published_ms: u64,
    /// When it expires: wall milliseconds, 0 for never.
    pub expires_ms: u64,
    /// Its ordering key.
    pub key: Bytes,
    /// Its priority.
    pub priority: u8,
    /// The message; `None` if its bytes are damaged.
    pub message: Option<Message>,
}

/// A message of a topic that was read.
#[derive(Clone, Debug)]
pub struct Browsed {
    /// Its position.
    pub position: u64,
    /// When it was published: wall milliseconds.
    pub published_ms: u64,
    /// Its ordering key.
    pub key: Bytes,
    /// The message; `None` if its bytes are damaged.
    pub message: Option<Message>,
}

/// Where a subscription is moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// The oldest message.
    First,
    /// Behind the newest.
    End,
    /// A position; for a subscription of one topic.
    Position(u64),
    /// The first message of this time on, in wall milliseconds.
    Time(u64),
}

impl Broker {
    /// The numbers of a queue.
    pub fn queue_view(&self, queue: &Queue) -> QueueView {
        let group = self.group_stats(queue.group);
        let log = self.log_stats(queue.log);
        QueueView {
            ready: group.ready,
            leased: group.leased,
            waiting: group.waiting,
            bytes: log.bytes,
            oldest_ms: log.oldest_ms,
            consumers: queue.consumers(),
            parked: queue.parked.lock().len(),
            counts: queue.counts(),
        }
    }

    /// The numbers of a topic.
    pub fn topic_view(&self, topic: &Topic) -> TopicView {
        let log = self.log_stats(topic.log);
        TopicView {
            first: log.first,
            end: log.end,
            messages: log.records,
            bytes: log.bytes,
            oldest_ms: log.oldest_ms,
            last_ms: log.last_ms,
            subscriptions: topic.subscriptions(),
            counts: topic.counts(),
        }
    }

    /// The numbers of a subscription.
    pub fn subscription_view(&self, subscription: &Subscription) -> SubscriptionView {
        let members = subscription.members();
        let mut view = SubscriptionView {
            topics: members.len(),
            consumers: subscription.consumers(),
            paused: subscription.settings.read().options.paused,
            parked: subscription.parked.lock().len(),
            counts: subscription.counts(),
            ..SubscriptionView::default()
        };
        for (member, index) in members.iter().zip(0usize..) {
            let group = self.group_stats(member.group);
            view.ready += group.ready;
            view.leased += group.leased;
            view.waiting += group.waiting;
            view.lag += group.ready + group.leased + group.waiting;
            if index == 0 {
                view.cursor = group.cursor;
            }
            if group.oldest_ms != 0 && (view.oldest_ms == 0 || group.oldest_ms < view.oldest_ms) {
                view.oldest_ms = group.oldest_ms;
            }
        }
        view
    }

    /// What is deleted meanwhile has no numbers.
    fn group_stats(&self, group: GroupId) -> GroupStats {
        self.store().group_stats(group).unwrap_or_default()
    }

    fn log_stats(&self, log: LogId) -> LogStats {
        self.store().log_stats(log).unwrap_or_default()
    }

    /// Messages of a queue or subscription that are not settled, from a position on, at most `limit`;
    /// none is leased by it. Of a subscription of several topics, those of `topic`.
    ///
    /// # Errors
    /// [`Reason::NoTopic`] when the subscription does not read it, and what the store says.
    pub async fn peek(
        &self,
        source: &Source,
        topic: Option<&Topic>,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Peeked>> {
        let group = self.one_group(source, topic)?;
        let found = self.store().peek(group, from, limit).await?;
        Ok(found
            .into_iter()
            .map(|(exception, item)| {
                let record = if let ReadItem::Record(record) = item { Some(record) } else { None };
                Peeked {
                    position: exception.position,
                    state: match exception.standing {
                        Standing::Ready => State::Ready,
                        Standing::Blocked => State::Blocked,
                        Standing::Leased { .. } => State::Leased,
                        Standing::Waiting { due_ms } => State::Waiting(due_ms),
                    },
                    handouts: exception.handouts,
                    failures: exception.failures,
                    history: History::from_stored(exception.note),
                    published_ms: record.as_ref().map_or(0, |record| record.time_ms),
                    expires_ms: record.as_ref().map_or(0, |record| record.expires_ms),
                    key: record.as_ref().map(|record| record.key.clone()).unwrap_or_default(),
                    priority: record.as_ref().map_or(0, |record| record.priority),
                    message: record.as_ref().map(open),
                }
            })
            .collect())
    }

    fn one_group(&self, source: &Source, topic: Option<&Topic>) -> Result<GroupId> {
        match (source, topic) {
            (Source::Queue(queue), _) => Ok(queue.group),
            (Source::Subscription(subscription), topic) => subscription
                .members()
                .iter()
                .find(|member| topic.is_none_or(|topic| topic.log == member.topic.log))
                .map(|member| member.group)
                .ok_or_else(|| {
                    Error::new(
                        Reason::NoTopic,
                        format!("subscription {} does not read it", subscription.key),
                    )
                }),
        }
    }

    /// Messages of a topic from a position on, as far as the limits go; empty at its end.
    ///
    /// # Errors
    /// What the store says.
    pub async fn browse(&self, topic: &Topic, from: u64, limits: Limits) -> Result<Vec<Browsed>> {
        let items = self.store().read(topic.log, from, limits).await?;
        Ok(items
            .into_iter()
            .map(|item| match item {
                ReadItem::Record(record) => Browsed {
                    position: record.position,
                    published_ms: record.time_ms,
                    message: Some(open(&record)),
                    key: record.key,
                },
                ReadItem::Lost { position, .. } => {
                    Browsed { position, published_ms: 0, key: Bytes::new(), message: None }
                }
            })
            .collect())
    }

    /// The position of the first message of a topic that was published at or after a time; its end if
    /// there is none.
    ///
    /// # Errors
    /// What the store says.
    pub async fn position_at(&self, topic: &Topic, time_ms: u64) -> Result<u64> {
        self.store().position_at(topic.log, time_ms).await
    }

    /// Waits until a topic has a message at or beyond a position. Cancel-safe.
    ///
    /// # Errors
    /// [`Reason::NoTopic`] once it is deleted, [`Reason::StoragePoisoned`].
    pub async fn until_beyond(&self, topic: &Topic, position: u64) -> Result<()> {
        loop {
            let mut told = std::pin::pin!(topic.newest.told.notified());
            told.as_mut().enable();
            if topic.is_deleted() {
                return Err(Error::new(
                    Reason::NoTopic,
                    format!("topic {} was deleted", topic.key),
                ));
            }
            let beyond = tokio::select! {
                biased;
                beyond = self.is_beyond(topic, position) => beyond?,
                // It may wait for a sync that only a later message brings.
                () = told.as_mut() => continue,
            };
            if beyond {
                return Ok(());
            }
            told.await;
        }
    }

    /// Whether a topic has a message at or beyond a position once all is seen that was submitted.
    async fn is_beyond(&self, topic: &Topic, position: u64) -> Result<bool> {
        let (seq, level) = topic.newest.get();
        // What counts as done in memory is seen when it is written, and what is written together with
        // something stricter is seen when that is synced.
        for level in [Durability::Memory, level.max(Durability::Os), Durability::Fsync] {
            until_durable(self.store(), seq, level).await?;
            if self.store().log_stats(topic.log)?.end > position {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Drops all messages of a queue or subscription that nobody holds, and waits until that is done;
    /// says how many they were.
    ///
    /// # Errors
    /// What the store says.
    pub async fn purge(&self, source: &Source) -> Result<u64> {
        let groups: Vec<GroupId> = match source {
            Source::Queue(queue) => vec![queue.group],
            Source::Subscription(subscription) => {
                subscription.members().iter().map(|member| member.group).collect()
            }
        };
        let mut transaction = Transaction::new(Durability::Fsync);
        transaction.ops.extend(groups.into_iter().map(|group| Op::Purge { group }));
        Ok(self.store().commit(transaction).await?.purged)
    }

    /// Removes one message from a queue, whatever its state; who holds it finds its lease lost.
    ///
    /// # Errors
    /// [`Reason::NoMessage`] when it is not there.
    pub async fn remove(&self, queue: &Arc<Queue>, position: u64) -> Result<()> {
        let found = self.store().peek(queue.group, position, 1).await?;
        if found.first().is_none_or(|(exception, _)| exception.position != position) {
            return Err(Error::new(
                Reason::NoMessage,
                format!("queue {} has no message at position {position}", queue.key),
            ));
        }
        let remove =
            Transaction::new(Durability::Fsync).with(Op::Remove { log: queue.log, position });
        self.store().commit(remove).await?;
        Ok(())
    }

    /// Moves a subscription; retries and leases of it are forgotten.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] for a position in a subscription of several topics, and what the
    /// store says.
    pub async fn seek(&self, subscription: &Subscription, to: SeekTo) -> Result<()> {
        let members = subscription.members();
        if matches!(to, SeekTo::Position(_)) && subscription.pattern.is_some() {
            return Err(Error::new(
                Reason::MalformedRequest,
                "a position is one of a single topic: seek by time, or to the first or the end",
            ));
        }
        let mut transaction = Transaction::new(Durability::Fsync);
        for member in members.iter() {
            let to = match to {
                SeekTo::First => 0,
                SeekTo::End => u64::MAX,
                SeekTo::Position(position) => position,
                SeekTo::Time(ms) => self.position_at(&member.topic, ms).await?,
            };
            transaction.ops.push(Op::Seek { group: member.group, to });
        }
        if !transaction.ops.is_empty() {
            self.store().commit(transaction).await?;
        }
        Ok(())
    }

    /// Skips the next `messages` that a subscription of one topic has not settled, retries among them;
    /// says to which position it went.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] for a subscription of several topics or more than 10,000 messages.
    pub async fn skip(&self, subscription: &Subscription, messages: usize) -> Result<u64> {
        let members = subscription.members();
        let ([member], 1..=10_000) = (members.as_slice(), messages) else {
            return Err(Error::new(
                Reason::MalformedRequest,
                "1 to 10,000 messages of a subscription of one topic can be skipped",
            ));
        };
        let next = self.store().peek(member.group, 0, messages).await?;
        let Some((last, _)) = next.last() else {
            return Ok(self.group_stats(member.group).cursor);
        };
        let to = last.position + 1;
        let seek = Transaction::new(Durability::Fsync).with(Op::Seek { group: member.group, to });
        self.store().commit(seek).await?;
        Ok(to)
    }
}

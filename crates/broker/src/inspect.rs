//! Looking at what is there without taking it: numbers, messages, positions; and moving past it:
//! purge, seek, skip, remove.

use std::{sync::Arc, time::Duration};

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
    options::Start,
    source::{MessageSource, Queue, Subscription, Topic},
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
    /// Messages that were given up, and wait for room among the dead letters.
    pub dead_letters_waiting: u64,
    /// Messages that could not be read from the disk when they were to be handed out, since the broker was
    /// opened.
    pub lost: u64,
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
    /// Messages that were given up, and wait for room among the dead letters.
    pub dead_letters_waiting: u64,
    /// Messages that could not be read from the disk when they were to be handed out, since the broker was
    /// opened.
    pub lost: u64,
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
    /// The newest message, of each topic.
    Last,
    /// Behind the newest.
    End,
    /// A position; for a subscription of one topic.
    Position(u64),
    /// The first message of this time on, in wall milliseconds.
    Time(u64),
}

/// How many messages are skipped in one transaction.
const SKIPPED_AT_ONCE: usize = 1_000;
/// How long who waits for a message goes without asking whether the store still takes any.
const LOOK: Duration = Duration::from_secs(1);

impl Broker {
    /// The numbers of a queue.
    pub fn queue_view(&self, queue: &Queue) -> QueueView {
        let group = self.group_stats(queue.group);
        let log = self.log_stats(queue.log);
        let dead_letters_waiting = queue.dead_letters_waiting.lock().len() as u64;
        QueueView {
            ready: group.ready,
            leased: group.leased.saturating_sub(dead_letters_waiting),
            dead_letters_waiting,
            lost: group.lost,
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
            dead_letters_waiting: subscription.dead_letters_waiting.lock().len() as u64,
            counts: subscription.counts(),
            ..SubscriptionView::default()
        };
        for (member, index) in members.iter().zip(0usize..) {
            let group = self.group_stats(member.group);
            view.ready += group.ready;
            view.leased += group.leased;
            view.waiting += group.waiting;
            view.lost += group.lost;
            view.lag += group.ready + group.leased + group.waiting;
            if index == 0 {
                view.cursor = group.cursor;
            }
            if group.oldest_ms != 0 && (view.oldest_ms == 0 || group.oldest_ms < view.oldest_ms) {
                view.oldest_ms = group.oldest_ms;
            }
        }
        view.leased = view.leased.saturating_sub(view.dead_letters_waiting);
        view
    }

    /// Whether something is ready in a queue for a consumer that waits: it is about to be handed out.
    pub fn is_awaited(&self, queue: &Queue) -> bool {
        self.group_stats(queue.group).awaited
    }

    /// What is deleted meanwhile has no numbers.
    fn group_stats(&self, group: GroupId) -> GroupStats {
        self.store().group_stats_now(group).unwrap_or_default()
    }

    fn log_stats(&self, log: LogId) -> LogStats {
        self.store().log_stats_now(log).unwrap_or_default()
    }

    /// Messages of a queue or subscription that are not settled, from a position on, as far as the limits
    /// go, but one if there is any; none is leased by it. Of a subscription of several topics, those of
    /// `topic`.
    ///
    /// # Errors
    /// [`Reason::NoTopic`] when the subscription does not read it, and what the store says.
    pub async fn peek(
        &self,
        source: &MessageSource,
        topic: Option<&Topic>,
        from: u64,
        limits: Limits,
    ) -> Result<Vec<Peeked>> {
        let group = self.one_group(source, topic)?;
        let found = self.store().peek(group, from, limits).await?;
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

    fn one_group(&self, source: &MessageSource, topic: Option<&Topic>) -> Result<GroupId> {
        match (source, topic) {
            (MessageSource::Queue(queue), _) => Ok(queue.group),
            (MessageSource::Subscription(subscription), topic) => subscription
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

    /// The position that a start stands for.
    ///
    /// # Errors
    /// As [`Broker::check_position`], and what the store says.
    pub async fn position(&self, topic: &Topic, start: Start) -> Result<u64> {
        Ok(match start {
            Start::First => self.topic_view(topic).first,
            Start::Last => self.topic_view(topic).end.saturating_sub(1),
            Start::Next => self.topic_view(topic).end,
            Start::Position(position) => {
                self.check_position(topic, position)?;
                position
            }
            Start::Time(ms) => self.position_at(topic, ms).await?,
        })
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
            if let Some(ended) = self.store().ended_now() {
                return Err(ended.note("nothing can be published any more, so nothing will come"));
            }
            let _late = tokio::time::timeout(LOOK, told).await;
        }
    }

    /// Whether a topic has a message at or beyond a position once all is seen that was submitted.
    async fn is_beyond(&self, topic: &Topic, position: u64) -> Result<bool> {
        let (seq, level) = topic.newest.get();
        // What counts as done in memory is seen when it is written, and what is written together with
        // something stricter is seen when that is synced.
        for level in [Durability::Memory, level.max(Durability::Os), Durability::Fsync] {
            until_durable(self.store(), seq, level).await?;
            if self.store().log_stats_now(topic.log)?.end > position {
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
    pub async fn purge(&self, source: &MessageSource) -> Result<u64> {
        let groups: Vec<GroupId> = match source {
            MessageSource::Queue(queue) => vec![queue.group],
            MessageSource::Subscription(subscription) => {
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
        let none = || {
            let say = format!("queue {} has no message at position {position}", queue.key);
            Error::new(Reason::NoMessage, say)
        };
        self.discard(queue.group, position, none).await?;
        queue.dead_letters_waiting.lock().forget(queue.group, position);
        Ok(())
    }

    async fn discard(&self, group: GroupId, position: u64, none: impl Fn() -> Error) -> Result<()> {
        let discard = Op::Discard { group, position, held: true };
        match self.store().commit(Transaction::new(Durability::Fsync).with(discard)).await {
            Ok(_) => Ok(()),
            Err(refused) if refused.op.is_some() && refused.error.reason() == Reason::NoMessage => {
                Err(none())
            }
            Err(refused) => Err(refused.into()),
        }
    }

    /// Checks that a position is one of a topic or the one behind its newest message.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] beyond that.
    pub fn check_position(&self, topic: &Topic, position: u64) -> Result<()> {
        let end = self.store().log_stats_now(topic.log)?.end;
        if position <= end {
            return Ok(());
        }
        let say = format!("position {position} is beyond topic {}, which ends at {end}", topic.key);
        Err(Error::new(Reason::PositionConflict, say))
    }

    /// Moves a subscription; retries and leases of it are forgotten. A time that is still to come is
    /// behind the newest message.
    ///
    /// # Errors
    /// [`Reason::PositionConflict`] for a position beyond the end, [`Reason::MalformedRequest`] for one in
    /// a subscription of several topics, and what the store says.
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
                SeekTo::Last => self.store().log_stats_now(member.topic.log)?.end.saturating_sub(1),
                SeekTo::End => u64::MAX,
                SeekTo::Position(position) => {
                    self.check_position(&member.topic, position)?;
                    position
                }
                SeekTo::Time(ms) => self.position_at(&member.topic, ms).await?,
            };
            transaction.ops.push(Op::Seek { group: member.group, to });
        }
        if !transaction.ops.is_empty() {
            self.store().commit(transaction).await?;
            for member in members.iter() {
                subscription.dead_letters_waiting.lock().forget_group(member.group);
            }
        }
        Ok(())
    }

    /// Skips the next `messages` that a subscription of one topic has not settled, whoever holds them and
    /// retries among them; what stands behind them stays as it is. Says to which position it went.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] for a subscription of several topics or more than 10,000 messages.
    pub async fn skip(&self, subscription: &Subscription, messages: usize) -> Result<u64> {
        let members = subscription.members();
        let ([member], None, 1..=10_000) = (members.as_slice(), &subscription.pattern, messages)
        else {
            return Err(Error::new(
                Reason::MalformedRequest,
                "1 to 10,000 messages of a subscription of one topic can be skipped",
            ));
        };
        let group = member.group;
        let mut next: Vec<u64> = Vec::new();
        let mut to = 0;
        while next.len() < messages {
            let left = u32::try_from(messages - next.len()).unwrap_or(u32::MAX);
            let limits = Limits { records: left, ..Limits::default() };
            let page = self.store().peek(group, to, limits).await?;
            let Some((last, _)) = page.last() else { break };
            to = last.position + 1;
            next.extend(page.iter().map(|(exception, _)| exception.position));
        }
        if next.is_empty() {
            return Ok(self.group_stats(group).cursor);
        }
        for next in next.chunks(SKIPPED_AT_ONCE) {
            let mut next = next.to_vec();
            while !next.is_empty() {
                let mut transaction = Transaction::new(Durability::Fsync);
                let discard = |&position: &u64| Op::Discard { group, position, held: true };
                transaction.ops.extend(next.iter().map(discard));
                match self.store().commit(transaction).await {
                    Ok(_) => break,
                    Err(refused) => match refused.op {
                        // Settled by its consumer meanwhile.
                        Some(at) if refused.error.reason() == Reason::NoMessage => {
                            next.remove(at);
                        }
                        _ => return Err(refused.into()),
                    },
                }
            }
        }
        let mut dead_letters_waiting = subscription.dead_letters_waiting.lock();
        next.iter().for_each(|position| dead_letters_waiting.forget(group, *position));
        Ok(to)
    }

    /// Settles the one message of a position, whoever holds it, and leaves every other as it is.
    ///
    /// # Errors
    /// [`Reason::NoMessage`] when it is settled or not there, [`Reason::MalformedRequest`] for a
    /// subscription of several topics.
    pub async fn skip_one(&self, subscription: &Subscription, position: u64) -> Result<()> {
        let members = subscription.members();
        let ([member], None) = (members.as_slice(), &subscription.pattern) else {
            return Err(Error::new(
                Reason::MalformedRequest,
                "a position is one of a single topic, and this subscription reads several",
            ));
        };
        let none = || {
            let say = format!(
                "subscription {} has no message to settle at position {position}",
                subscription.key
            );
            Error::new(Reason::NoMessage, say)
        };
        self.discard(member.group, position, none).await?;
        subscription.dead_letters_waiting.lock().forget(member.group, position);
        Ok(())
    }
}

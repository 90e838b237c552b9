//! Consuming: deliveries with a lease, prefetch by messages and bytes, and settling them.
//!
//! A [`Consumer`] takes; its [`Settler`], which can be cloned and sent elsewhere, settles. A delivery
//! counts against the prefetch until it is settled or its lease has run out. Dropping the consumer gives
//! back what is not settled; whether that counts against the messages is said when it joins.

mod held;
mod lease;
mod settler;
mod waiting;

use std::{
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use weft_kernel::{Code, Error, Reason, Result};
use weft_ledger::{ConsumerId, GroupId, LeaseLimits, Record, Seen};

pub(crate) use held::Held;
pub use lease::{Delivery, Lease, lease_lost};
pub(crate) use lease::{lease_of, open};
pub use settler::{Settled, Settler};

use crate::{
    broker::Broker,
    counters::add,
    filter::Judged,
    settle::{Event, Verdict},
    settlement::Settlement,
    source::MessageSource,
};
use waiting::Waiting;

/// How many messages [`Consumer::try_batch`] looks at to find what a filter takes.
const LOOKED_MAX: u64 = 100_000;

/// How much is taken of what is ready.
#[derive(Clone, Copy)]
enum Take {
    /// All that is asked for, wherever it is.
    Fully,
    /// What is at hand: who finds nothing since another one reads has its turn when that is read.
    AtHand,
}

/// How a consumer consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// How many messages it may hold unsettled (32).
    pub prefetch: u32,
    /// How many bytes of messages it may hold unsettled, but always one message (8 MiB).
    pub prefetch_bytes: u64,
    /// How long it may take for each; `None` for what the queue or subscription says.
    pub lease: Option<Duration>,
    /// The higher the sooner it is given something (0).
    pub priority: i32,
    /// Wants to be the only one.
    pub exclusive: bool,
    /// The connection it belongs to, for queues that belong to one.
    pub owner: Option<u64>,
    /// Whether what is unsettled when it is dropped was lost with its client: a failure of each message
    /// ([`Verdict::Lost`]), so that one that ends its client again and again dies. Else it is given back
    /// without fault.
    pub counts_loss: bool,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            prefetch: 32,
            prefetch_bytes: 8 << 20,
            lease: None,
            priority: 0,
            exclusive: false,
            owner: None,
            counts_loss: false,
        }
    }
}

/// Takes messages from a queue or subscription.
#[derive(Debug)]
pub struct Consumer {
    broker: Broker,
    source: MessageSource,
    groups: Vec<GroupId>,
    id: ConsumerId,
    options: ConsumerOptions,
    held: Arc<Held>,
    /// Which group is asked first the next time.
    turn: usize,
    /// How many messages it was handed, those among them that a filter does not take.
    looked: u64,
    /// Leased and not taken by the filter: still to be settled.
    passed: Vec<Lease>,
    /// What was taken by a call that was given up before it could answer.
    stash: Vec<Delivery>,
    /// Leased behind a dead message of their key: still to follow it.
    parked: Vec<(Lease, Record)>,
    /// Whether what is leased stays leased when it leaves.
    detached: bool,
    /// Whether it counts as a consumer.
    joined: bool,
}

impl Broker {
    /// Joins a queue or subscription.
    ///
    /// # Errors
    /// [`Reason::QueueLocked`] if it belongs to another connection, or another consumer is alone on it
    /// or wants to be; [`Reason::NoQueue`] or [`Reason::NoSubscription`] once it is deleted.
    pub fn consume(
        &self,
        source: impl Into<MessageSource>,
        options: ConsumerOptions,
    ) -> Result<Consumer> {
        let source = source.into();
        if let MessageSource::Queue(queue) = &source {
            queue.check_owner(options.owner)?;
        }
        if source.usage().is_deleted() {
            return Err(source.gone());
        }
        let options = ConsumerOptions { prefetch: options.prefetch.max(1), ..options };
        let held = Arc::new(Held::default());
        let id = self.next_consumer();
        let mut consumer = Consumer {
            broker: self.clone(),
            source,
            groups: Vec::new(),
            id,
            options,
            held: Arc::clone(&held),
            turn: 0,
            looked: 0,
            passed: Vec::new(),
            stash: Vec::new(),
            parked: Vec::new(),
            detached: false,
            joined: false,
        };
        self.inner().held.lock().insert(id, Arc::downgrade(&held));
        consumer.join()?;
        consumer.joined = true;
        consumer.source.usage().enter(self.clock().now());
        Ok(consumer)
    }

    /// What a consumer holds, if it is still there.
    pub(crate) fn held(&self, consumer: ConsumerId) -> Option<Arc<Held>> {
        self.inner().held.lock().get(&consumer).and_then(Weak::upgrade)
    }
}

impl Consumer {
    /// What it consumes from.
    pub fn source(&self) -> &MessageSource {
        &self.source
    }

    /// What settles its deliveries.
    pub fn settler(&self) -> Settler {
        Settler {
            broker: self.broker.clone(),
            source: self.source.clone(),
            consumer: self.id,
            held: Arc::clone(&self.held),
        }
    }

    /// How many deliveries it holds unsettled.
    pub fn unsettled(&self) -> usize {
        self.held.len()
    }

    /// Joins the groups of its source that it has not joined yet, and forgets those that are gone.
    fn join(&mut self) -> Result<()> {
        let now: Vec<GroupId> = match &self.source {
            MessageSource::Queue(queue) => vec![queue.group],
            MessageSource::Subscription(subscription) => {
                subscription.members().iter().map(|member| member.group).collect()
            }
        };
        if now == self.groups {
            return Ok(());
        }
        let consumer = weft_ledger::GroupConsumer {
            id: self.id,
            priority: self.options.priority,
            exclusive: self.options.exclusive,
        };
        self.groups.retain(|group| now.contains(group));
        for group in now {
            if !self.groups.contains(&group) {
                self.broker
                    .store()
                    .join_now(group, consumer)
                    .map_err(|error| self.explain(error))?;
                self.groups.push(group);
            }
        }
        Ok(())
    }

    fn explain(&self, error: Error) -> Error {
        if error.code() == Code::NotFound || self.source.usage().is_deleted() {
            return self.source.gone();
        }
        error
    }

    /// Ready when [`Consumer::try_batch`] could give something, or would fail. Wakes the task otherwise.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Pending;
        for group in &self.groups {
            if self.broker.store().poll_ready(*group, self.id, context).is_ready() {
                ready = Poll::Ready(());
            }
        }
        ready
    }

    /// Gives up waiting after [`Consumer::poll_ready`] was pending, so that another consumer is woken.
    pub fn pass_turn(&self) {
        for group in &self.groups {
            self.broker.store().pass_turn(*group, self.id);
        }
    }

    /// How many messages to take at a time, so that others that wait as well have their part.
    pub fn share(&self) -> u32 {
        let shares = self.groups.iter().map(|group| self.broker.store().share_now(*group, self.id));
        shares.min().unwrap_or(u32::MAX)
    }

    /// Takes up to `max` messages that are ready now, as far as the prefetch allows, and waits for those
    /// that must be read from the disk. Empty if none is ready, or if a filter has passed over
    /// 100,000 messages.
    ///
    /// Dropped while it waits for the disk, it gives back what it had leased.
    ///
    /// # Errors
    /// [`Reason::NoQueue`] or [`Reason::NoSubscription`] once the source is deleted.
    pub async fn try_batch(&mut self, max: u32) -> Result<Vec<Delivery>> {
        let looked_max = self.looked + LOOKED_MAX;
        loop {
            let (taken, looked) = self.take(max, u64::MAX, Take::Fully).await?;
            if !taken.is_empty() || !looked || self.looked >= looked_max {
                return Ok(taken);
            }
        }
    }

    /// Takes up to `max` messages of at most `bytes`, but always one, that are ready and at hand; for who
    /// was told by [`Consumer::poll_ready`] and comes again.
    ///
    /// # Errors
    /// As [`Consumer::try_batch`].
    pub async fn try_batch_within(&mut self, max: u32, bytes: u64) -> Result<Vec<Delivery>> {
        let (mut taken, _) = self.take(max, bytes, Take::AtHand).await?;
        // What a filter passes over leaves room to look further, once; the rest waits its turn.
        if taken.is_empty() {
            taken = self.take(max, bytes, Take::AtHand).await?.0;
        }
        Ok(taken)
    }

    /// Waits for messages and takes up to `max` of them, as far as the prefetch allows. While there is no
    /// room for one more, it waits until something is settled. Cancel-safe.
    ///
    /// # Errors
    /// As [`Consumer::try_batch`].
    pub async fn next_batch(&mut self, max: u32) -> Result<Vec<Delivery>> {
        loop {
            let held = Arc::clone(&self.held);
            let mut freed = std::pin::pin!(held.freed.notified());
            freed.as_mut().enable();
            if self.held.room(&self.options).0 == 0 {
                freed.await;
                continue;
            }
            let (taken, looked) = self.take(max, u64::MAX, Take::AtHand).await?;
            if !taken.is_empty() {
                return Ok(taken);
            }
            if !looked {
                self.wait().await?;
            }
        }
    }

    /// Waits until a lease could give something, or the groups of the subscription have changed.
    async fn wait(&mut self) -> Result<()> {
        let source = self.source.clone();
        let changed = async {
            match &source {
                MessageSource::Subscription(subscription) => {
                    let mut changed = std::pin::pin!(subscription.changed.notified());
                    changed.as_mut().enable();
                    if members(&source) == self.groups && !source.usage().is_deleted() {
                        changed.await;
                    }
                }
                MessageSource::Queue(_) => std::future::pending().await,
            }
        };
        let ready = Waiting {
            store: self.broker.store(),
            groups: &self.groups,
            id: self.id,
            waiting: false,
        };
        let at = tokio::select! {
            at = ready => Some(at),
            () = changed => None,
        };
        if let Some(at) = at {
            self.turn = at;
        }
        self.join()
    }

    /// Takes what is ready: what is to be handed out, and whether anything was looked at at all.
    async fn take(&mut self, max: u32, bytes_max: u64, how: Take) -> Result<(Vec<Delivery>, bool)> {
        if !self.stash.is_empty() {
            self.clear_aside().await?;
            return Ok((std::mem::take(&mut self.stash), true));
        }
        let (room, bytes) = self.held.room(&self.options);
        let (records, bytes) = (room.min(max), bytes.min(bytes_max).max(1));
        if records == 0 {
            return Ok((Vec::new(), false));
        }
        if self.source.usage().is_deleted() {
            return Err(self.source.gone());
        }
        self.clear_aside().await?;
        let mut looked = false;
        for step in 0..self.groups.len() {
            let at = (self.turn + step) % self.groups.len();
            let Some(&group) = self.groups.get(at) else { break };
            let ask = LeaseLimits { consumer: self.id, records, bytes, lease: self.options.lease };
            let broker = self.broker.clone();
            let leased = match how {
                Take::Fully => broker.store().lease_fully(group, ask).await,
                Take::AtHand => match broker.store().lease_now(group, ask) {
                    Ok(leased) => leased.wait().await,
                    Err(error) => Err(error),
                },
            };
            let leased = leased.map_err(|error| self.explain(error))?;
            if leased.is_empty() {
                continue;
            }
            looked = true;
            self.looked += leased.len() as u64;
            self.stash = self.sort_out(group, leased);
            self.broker.note_taken(group).await;
            // At once, and not when more is asked for: who asked may take its time, or not come again,
            // and what it never sees must not stay leased until then.
            self.clear_aside().await?;
            if !self.stash.is_empty() {
                self.turn = at + 1;
                return Ok((std::mem::take(&mut self.stash), true));
            }
        }
        Ok((Vec::new(), looked))
    }

    /// Keeps what is to be handed out; sets aside what a filter does not take and what follows a dead
    /// message of its key.
    fn sort_out(
        &mut self,
        group: GroupId,
        leased: Vec<weft_ledger::LeasedRecord>,
    ) -> Vec<Delivery> {
        let topic = self.source.topic(group);
        let settings = match &self.source {
            MessageSource::Queue(_) => None,
            MessageSource::Subscription(subscription) => Some(subscription.settings()),
        };
        let filter = settings.as_ref().map(|settings| &settings.filter).filter(|f| !f.takes_all());
        let parks = self.source.policy().parks;
        let mut taken = Vec::with_capacity(leased.len());
        for delivery in leased {
            let mut lease = lease_of(&delivery);
            self.broker.suspect(&mut lease);
            let record = delivery.record;
            if parks && !record.key.is_empty() && self.source.parked().lock().contains(&record.key)
            {
                self.parked.push((lease, record));
                continue;
            }
            let message = open(&record);
            if let Some(filter) = filter {
                let judged = filter.judge(&message);
                if judged == Judged::Failed {
                    add(&self.source.counters().filter_failed, 1);
                }
                if judged != Judged::Takes {
                    self.passed.push(lease);
                    continue;
                }
            }
            let bytes = record.key.len() + record.data.len();
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.held.hold(&lease, bytes, self.options.counts_loss);
            taken.push(Delivery {
                message,
                lease,
                key: record.key,
                published_ms: record.time_ms,
                priority: record.priority,
                topic: topic.clone(),
            });
        }
        add(&self.source.counters().delivered, taken.len() as u64);
        taken
    }

    /// Settles what was set aside. What is not done when this is dropped is done the next time.
    async fn clear_aside(&mut self) -> Result<()> {
        while !self.passed.is_empty() {
            match self.broker.pass_over(&self.source, &self.passed) {
                Ok(()) => self.passed.clear(),
                Err(error) if error.reason() == Reason::StorageBusy => self.broker.room().await,
                Err(error) => return Err(error),
            }
        }
        if !self.parked.is_empty() {
            let settlements: Vec<_> = self
                .parked
                .iter()
                .map(|(lease, record)| Settlement {
                    lease,
                    event: Event::Parked,
                    record: Some(record),
                })
                .collect();
            self.broker.settle_all(&self.source, &settlements).await?;
            self.parked.clear();
        }
        Ok(())
    }

    /// Lets go what was settled in a transaction of somebody else.
    pub(crate) fn let_go<'a>(&self, settled: impl Iterator<Item = &'a Lease>) {
        self.held.let_go(settled);
    }

    /// Settles deliveries; see [`Settler::settle`].
    ///
    /// # Errors
    /// As [`Settler::settle`].
    pub async fn settle(&self, verdicts: &[(Lease, Verdict)]) -> Result<Settled> {
        self.settler().settle(verdicts).await
    }

    /// Leaves, but what it holds stays leased until it is settled or its lease runs out: for an API
    /// without a connection, whose client settles by [`Lease::to_text`].
    pub fn detach(mut self) {
        self.detached = true;
    }

    /// What is unsettled when it leaves counts for nothing: its client was told to go.
    pub fn forgive(&mut self) {
        self.options.counts_loss = false;
    }

    /// What is to be settled of what it holds because its client went away.
    fn lost(&mut self) -> Vec<(Lease, Verdict)> {
        if !self.options.counts_loss || self.detached {
            return Vec::new();
        }
        let unseen: Vec<u64> = self.stash.drain(..).map(|delivery| delivery.lease.id()).collect();
        let held = self.held.take().into_iter().map(|lease| {
            // What it never was given does not count.
            let verdict =
                if unseen.contains(&lease.id()) { Verdict::Release } else { Verdict::Lost };
            (lease, verdict)
        });
        let aside = self.passed.drain(..).chain(self.parked.drain(..).map(|(lease, _)| lease));
        held.chain(aside.map(|lease| (lease, Verdict::Release))).collect()
    }

    /// Leaves at once, giving back what is not settled; what dropping does too, but an auto-delete queue
    /// is gone when this answers.
    ///
    /// # Errors
    /// What the store says when the queue is deleted.
    pub async fn close(self) -> Result<()> {
        let broker = self.broker.clone();
        drop(self);
        broker.delete_unused().await
    }
}

fn members(source: &MessageSource) -> Vec<GroupId> {
    match source {
        MessageSource::Queue(queue) => vec![queue.group],
        MessageSource::Subscription(subscription) => {
            subscription.members().iter().map(|member| member.group).collect()
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let lost = self.lost();
        for group in &self.groups {
            self.broker.store().leave_now(*group, self.id, !self.detached && lost.is_empty());
        }
        if !lost.is_empty() {
            self.broker.lost(&self.source, lost);
        } else if let MessageSource::Queue(queue) = &self.source {
            self.broker.may_be_full(queue, Seen::default());
        }
        self.broker.inner().held.lock().remove(&self.id);
        if !self.joined {
            return;
        }
        let last = self.source.usage().leave(self.broker.clock().now());
        if last
            && let MessageSource::Queue(queue) = &self.source
            && queue.settings.read().options.auto_delete
        {
            self.broker.auto_delete(queue);
        }
    }
}

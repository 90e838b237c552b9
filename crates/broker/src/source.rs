//! The things a broker has: queues, topics and subscriptions, as front-ends hold them.
//!
//! A front-end looks a thing up once and keeps the [`Arc`]: publishing to it or consuming from it
//! takes no lookup. What has been deleted says so ([`Queue::is_deleted`]), and the store refuses it.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use weft_kernel::{Error, Reason, Result, Tick};
use weft_ledger::{Durability, GroupId, LogId};

use crate::{
    counters::{Counters, Counts},
    dead_letters_waiting::DeadLettersWaiting,
    filter::Filter,
    message::DeadLetterSource,
    name::{Key, Pattern, SubscriptionKey},
    options::{QueueOptions, SubscriptionOptions, TopicOptions},
    parked::Parked,
    settle::Policy,
};

/// Whether somebody uses a thing, and when somebody last did.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    consumers: AtomicU32,
    /// Whether it ever had a consumer.
    had: AtomicBool,
    last: AtomicU64,
    deleted: AtomicBool,
}

impl Usage {
    pub(crate) fn touch(&self, now: Tick) {
        self.last.fetch_max(now.nanos(), Ordering::Relaxed);
    }

    pub(crate) fn last(&self) -> Tick {
        Tick::from_nanos(self.last.load(Ordering::Relaxed))
    }

    pub(crate) fn enter(&self, now: Tick) {
        self.touch(now);
        self.had.store(true, Ordering::Relaxed);
        self.consumers.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether that was the last one.
    pub(crate) fn leave(&self, now: Tick) -> bool {
        self.touch(now);
        self.consumers.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(crate) fn consumers(&self) -> u32 {
        self.consumers.load(Ordering::Acquire)
    }

    pub(crate) fn had_consumer(&self) -> bool {
        self.had.load(Ordering::Relaxed)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Whether it was not deleted before.
    pub(crate) fn delete(&self) -> bool {
        !self.deleted.swap(true, Ordering::AcqRel)
    }
}

/// A queue.
#[derive(Debug)]
pub struct Queue {
    pub(crate) key: Key,
    pub(crate) log: LogId,
    pub(crate) group: GroupId,
    pub(crate) settings: RwLock<Arc<QueueSettings>>,
    pub(crate) counters: Counters,
    pub(crate) usage: Usage,
    /// The keys of which a message has died, if the queue parks them.
    pub(crate) parked: Mutex<Parked>,
    /// Messages whose dead letters wait for room.
    pub(crate) dead_letters_waiting: Mutex<DeadLettersWaiting>,
    /// Held while the oldest messages of a full queue are given up.
    pub(crate) trimming: parking_lot::Mutex<crate::trim::Running>,
}

/// The options of a queue, and what follows from them.
#[derive(Debug)]
pub(crate) struct QueueSettings {
    pub(crate) options: QueueOptions,
    pub(crate) policy: Policy,
}

impl QueueSettings {
    pub(crate) fn new(options: QueueOptions) -> Arc<Self> {
        let policy = Policy::of_queue(&options);
        Arc::new(Self { options, policy })
    }
}

impl Queue {
    /// Its name.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its options.
    pub fn options(&self) -> QueueOptions {
        self.settings.read().options.clone()
    }

    /// What a front-end wrote down about it.
    pub fn annotation(&self) -> String {
        self.settings.read().options.annotation.clone()
    }

    /// The connection it belongs to.
    pub fn exclusive(&self) -> Option<u64> {
        self.settings.read().options.exclusive
    }

    /// Whether somebody else may not use it.
    ///
    /// # Errors
    /// [`Reason::QueueLocked`] if it belongs to another connection than `owner`.
    pub fn check_owner(&self, owner: Option<u64>) -> Result<()> {
        match self.exclusive() {
            Some(of) if owner != Some(of) => Err(Error::new(
                Reason::QueueLocked,
                format!("queue {} belongs to another connection", self.key),
            )),
            _ => Ok(()),
        }
    }

    /// Whether it is gone.
    pub fn is_deleted(&self) -> bool {
        self.usage.is_deleted()
    }

    /// How many consumers it has.
    pub fn consumers(&self) -> u32 {
        self.usage.consumers()
    }

    /// What has happened to its messages.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    pub(crate) fn settings(&self) -> Arc<QueueSettings> {
        Arc::clone(&self.settings.read())
    }
}

/// Which transaction has last published, for who waits for a message that is not there yet.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// The number of the transaction, and in the lowest two bits its level.
    seq: AtomicU64,
    pub(crate) told: Notify,
}

impl Newest {
    pub(crate) fn tell(&self, seq: u64, level: Durability) {
        let level = Durability::ALL.iter().position(|one| *one == level).unwrap_or_default();
        self.seq.fetch_max(seq << 2 | level as u64, Ordering::AcqRel);
        self.told.notify_waiters();
    }

    pub(crate) fn get(&self) -> (u64, Durability) {
        let packed = self.seq.load(Ordering::Acquire);
        let level = Durability::ALL.get((packed & 3) as usize).copied().unwrap_or_default();
        (packed >> 2, level)
    }
}

/// A topic.
#[derive(Debug)]
pub struct Topic {
    pub(crate) key: Key,
    pub(crate) log: LogId,
    pub(crate) settings: RwLock<Arc<TopicOptions>>,
    pub(crate) counters: Counters,
    pub(crate) usage: Usage,
    /// How many subscriptions read it, wildcard ones included.
    pub(crate) subscriptions: AtomicU32,
    /// The newest transaction that published to it, and told when there is one.
    pub(crate) newest: Newest,
    /// Where the last message of each key stands, as far as somebody has asked.
    pub(crate) last: tokio::sync::Mutex<crate::last::Index>,
}

impl Topic {
    /// Its name.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its options.
    pub fn options(&self) -> TopicOptions {
        TopicOptions::clone(&self.settings.read())
    }

    /// Whether it is gone.
    pub fn is_deleted(&self) -> bool {
        self.usage.is_deleted()
    }

    /// How many subscriptions read it, wildcard ones included.
    pub fn subscriptions(&self) -> u32 {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// What has happened to its messages.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    pub(crate) fn settings(&self) -> Arc<TopicOptions> {
        Arc::clone(&self.settings.read())
    }
}

/// One topic that a subscription reads.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) topic: Arc<Topic>,
    pub(crate) group: GroupId,
}

/// A subscription: of one topic, or of all that a pattern takes.
#[derive(Debug)]
pub struct Subscription {
    pub(crate) key: SubscriptionKey,
    /// `None` for one topic.
    pub(crate) pattern: Option<Pattern>,
    pub(crate) settings: RwLock<Arc<SubscriptionSettings>>,
    pub(crate) members: RwLock<Arc<Vec<Member>>>,
    /// Told when its members have changed.
    pub(crate) changed: Notify,
    pub(crate) counters: Counters,
    pub(crate) usage: Usage,
    pub(crate) parked: Mutex<Parked>,
    /// Messages whose dead letters wait for room.
    pub(crate) dead_letters_waiting: Mutex<DeadLettersWaiting>,
}

/// The options of a subscription, and what follows from them.
#[derive(Debug)]
pub(crate) struct SubscriptionSettings {
    pub(crate) options: SubscriptionOptions,
    pub(crate) policy: Policy,
    pub(crate) filter: Filter,
}

impl SubscriptionSettings {
    /// The settings of options that were checked, or were when they were declared.
    pub(crate) fn new(options: SubscriptionOptions) -> Result<Arc<Self>> {
        let policy = Policy::of_subscription(&options);
        let filter = options.filter.compile_declared()?;
        Ok(Arc::new(Self { options, policy, filter }))
    }
}

impl Subscription {
    /// Its name.
    pub fn key(&self) -> &SubscriptionKey {
        &self.key
    }

    /// Its options.
    pub fn options(&self) -> SubscriptionOptions {
        self.settings.read().options.clone()
    }

    /// Whether it is gone.
    pub fn is_deleted(&self) -> bool {
        self.usage.is_deleted()
    }

    /// How many consumers it has.
    pub fn consumers(&self) -> u32 {
        self.usage.consumers()
    }

    /// What has happened to its messages.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    pub(crate) fn settings(&self) -> Arc<SubscriptionSettings> {
        Arc::clone(&self.settings.read())
    }

    pub(crate) fn members(&self) -> Arc<Vec<Member>> {
        Arc::clone(&self.members.read())
    }
}

/// What is consumed from.
#[derive(Clone, Debug)]
pub enum MessageSource {
    /// A queue.
    Queue(Arc<Queue>),
    /// A subscription.
    Subscription(Arc<Subscription>),
}

impl MessageSource {
    /// Whether another is the same queue or subscription, by name.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Queue(one), Self::Queue(other)) => one.key == other.key,
            (Self::Subscription(one), Self::Subscription(other)) => one.key == other.key,
            _ => false,
        }
    }

    pub(crate) fn usage(&self) -> &Usage {
        match self {
            Self::Queue(queue) => &queue.usage,
            Self::Subscription(subscription) => &subscription.usage,
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        match self {
            Self::Queue(queue) => &queue.counters,
            Self::Subscription(subscription) => &subscription.counters,
        }
    }

    pub(crate) fn parked(&self) -> &Mutex<Parked> {
        match self {
            Self::Queue(queue) => &queue.parked,
            Self::Subscription(subscription) => &subscription.parked,
        }
    }

    pub(crate) fn dead_letters_waiting(&self) -> &Mutex<DeadLettersWaiting> {
        match self {
            Self::Queue(queue) => &queue.dead_letters_waiting,
            Self::Subscription(subscription) => &subscription.dead_letters_waiting,
        }
    }

    /// What it is called in a log.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Queue(queue) => format!("queue {}", queue.key),
            Self::Subscription(subscription) => format!("subscription {}", subscription.key),
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        match self {
            Self::Queue(queue) => queue.settings.read().policy,
            Self::Subscription(subscription) => subscription.settings.read().policy,
        }
    }

    /// The topic that a group of this source reads; `None` for a queue.
    pub(crate) fn topic(&self, group: GroupId) -> Option<Arc<Topic>> {
        match self {
            Self::Queue(_) => None,
            Self::Subscription(subscription) => subscription
                .members()
                .iter()
                .find(|member| member.group == group)
                .map(|member| Arc::clone(&member.topic)),
        }
    }

    pub(crate) fn origin(&self, group: GroupId) -> DeadLetterSource {
        match self {
            Self::Queue(queue) => DeadLetterSource::Queue(queue.key.clone()),
            Self::Subscription(subscription) => {
                let on = self
                    .topic(group)
                    .map_or_else(|| subscription.key.topic.clone(), |topic| topic.key.clone());
                DeadLetterSource::Subscription(subscription.key.clone(), on)
            }
        }
    }

    /// How its parked keys are found in the map of them.
    pub(crate) fn stored_name(&self) -> String {
        match self {
            Self::Queue(queue) => crate::name::stored::queue(&queue.key),
            Self::Subscription(subscription) => {
                crate::name::stored::subscription(&subscription.key.topic, &subscription.key.name)
            }
        }
    }

    /// That it is not there any more.
    pub(crate) fn gone(&self) -> Error {
        match self {
            Self::Queue(queue) => {
                Error::new(Reason::NoQueue, format!("queue {} was deleted", queue.key))
            }
            Self::Subscription(subscription) => Error::new(
                Reason::NoSubscription,
                format!("subscription {} was deleted", subscription.key),
            ),
        }
    }

    pub(crate) fn downgrade(&self) -> WeakSource {
        match self {
            Self::Queue(queue) => WeakSource::Queue(Arc::downgrade(queue)),
            Self::Subscription(subscription) => {
                WeakSource::Subscription(Arc::downgrade(subscription))
            }
        }
    }
}

impl From<Arc<Queue>> for MessageSource {
    fn from(queue: Arc<Queue>) -> Self {
        Self::Queue(queue)
    }
}

impl From<Arc<Subscription>> for MessageSource {
    fn from(subscription: Arc<Subscription>) -> Self {
        Self::Subscription(subscription)
    }
}

/// A source that may be gone.
#[derive(Clone, Debug)]
pub(crate) enum WeakSource {
    Queue(Weak<Queue>),
    Subscription(Weak<Subscription>),
}

impl WeakSource {
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Queue(one), Self::Queue(other)) => one.ptr_eq(other),
            (Self::Subscription(one), Self::Subscription(other)) => one.ptr_eq(other),
            _ => false,
        }
    }

    pub(crate) fn upgrade(&self) -> Option<MessageSource> {
        match self {
            Self::Queue(queue) => queue.upgrade().map(MessageSource::Queue),
            Self::Subscription(subscription) => {
                subscription.upgrade().map(MessageSource::Subscription)
            }
        }
    }
}

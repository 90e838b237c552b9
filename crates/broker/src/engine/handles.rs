//! Handles of queues, topics and subscriptions, whichever engine keeps them.
//!
//! What the embedded engine keeps is the broker's own handle, and costs what that costs. What another
//! engine keeps is its definition, by which it is asked.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;

use super::{EMBEDDED, Engine, From as Place, To};
use crate::{
    name::{Key, SubscriptionKey},
    options::{QueueOptions, SubscriptionOptions, TopicOptions},
    publish::PublishTarget,
    source::{MessageSource, Queue, Subscription, Topic},
};

/// A queue, topic or subscription that another engine keeps: its definition.
pub struct Elsewhere<K, O> {
    pub(super) key: K,
    pub(super) options: RwLock<O>,
    pub(super) engine: Arc<dyn Engine>,
    /// Whether the engine has made it as it is defined, since this node started.
    pub(super) is_made: AtomicBool,
}

/// A queue of another engine.
pub type ElsewhereQueue = Elsewhere<Key, QueueOptions>;
/// A topic of another engine.
pub type ElsewhereTopic = Elsewhere<Key, TopicOptions>;
/// A subscription of another engine.
pub type ElsewhereSubscription = Elsewhere<SubscriptionKey, SubscriptionOptions>;

impl<K, O: Clone> Elsewhere<K, O> {
    pub(super) fn new(key: K, options: O, engine: &Arc<dyn Engine>, is_made: bool) -> Arc<Self> {
        Arc::new(Self {
            key,
            options: RwLock::new(options),
            engine: Arc::clone(engine),
            is_made: AtomicBool::new(is_made),
        })
    }

    /// Its name.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Its options.
    pub fn options(&self) -> O {
        self.options.read().clone()
    }

    /// The engine that keeps it.
    pub fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    pub(super) fn is_made(&self) -> bool {
        self.is_made.load(Ordering::Acquire)
    }

    /// The engine has it with these options.
    pub(super) fn made(&self, options: O) {
        *self.options.write() = options;
        self.is_made.store(true, Ordering::Release);
    }
}

impl<K: fmt::Debug, O> fmt::Debug for Elsewhere<K, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere")
            .field("key", &self.key)
            .field("engine", &self.engine.name())
            .finish_non_exhaustive()
    }
}

macro_rules! any {
    ($(#[doc = $doc:literal])+ $Any:ident of $Own:ident or $Other:ident, $Key:ident, $Options:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug)]
        pub enum $Any {
            /// The embedded engine keeps it.
            Embedded(Arc<$Own>),
            /// Another engine keeps it.
            Other(Arc<$Other>),
        }

        impl $Any {
            /// Its name.
            pub fn key(&self) -> &$Key {
                match self {
                    Self::Embedded(own) => own.key(),
                    Self::Other(other) => other.key(),
                }
            }

            /// Its options.
            pub fn options(&self) -> $Options {
                match self {
                    Self::Embedded(own) => own.options(),
                    Self::Other(other) => other.options(),
                }
            }

            /// The name of the engine that keeps it.
            pub fn engine(&self) -> &str {
                match self {
                    Self::Embedded(_) => EMBEDDED,
                    Self::Other(other) => other.engine().name(),
                }
            }
        }
    };
}

any!(
    /// A queue of any engine.
    AnyQueue of Queue or ElsewhereQueue, Key, QueueOptions
);
any!(
    /// A topic of any engine.
    AnyTopic of Topic or ElsewhereTopic, Key, TopicOptions
);
any!(
    /// A subscription of any engine.
    AnySubscription of Subscription or ElsewhereSubscription, SubscriptionKey, SubscriptionOptions
);

/// What is consumed from, of any engine.
#[derive(Clone, Debug)]
pub enum AnySource {
    /// The embedded engine keeps it.
    Embedded(MessageSource),
    /// Another engine keeps it.
    Other(ElsewhereSource),
}

/// What is consumed from, of another engine.
#[derive(Clone, Debug)]
pub enum ElsewhereSource {
    /// A queue.
    Queue(Arc<ElsewhereQueue>),
    /// A subscription.
    Subscription(Arc<ElsewhereSubscription>),
}

/// What is published to, of any engine.
#[derive(Clone, Debug)]
pub enum AnyTarget {
    /// The embedded engine keeps it.
    Embedded(PublishTarget),
    /// Another engine keeps it.
    Other(ElsewhereTarget),
}

/// What is published to, of another engine.
#[derive(Clone, Debug)]
pub enum ElsewhereTarget {
    /// A queue.
    Queue(Arc<ElsewhereQueue>),
    /// A topic.
    Topic(Arc<ElsewhereTopic>),
}

impl ElsewhereSource {
    pub(super) fn engine(&self) -> &dyn Engine {
        match self {
            Self::Queue(queue) => queue.engine(),
            Self::Subscription(subscription) => subscription.engine(),
        }
    }

    /// The same by name.
    pub(super) fn place(&self) -> Place<'_> {
        match self {
            Self::Queue(queue) => Place::Queue(&queue.key),
            Self::Subscription(subscription) => Place::Subscription(&subscription.key),
        }
    }
}

impl ElsewhereTarget {
    pub(super) fn engine(&self) -> &dyn Engine {
        match self {
            Self::Queue(queue) => queue.engine(),
            Self::Topic(topic) => topic.engine(),
        }
    }

    /// The same by name.
    pub(super) fn place(&self) -> To<'_> {
        match self {
            Self::Queue(queue) => To::Queue(&queue.key),
            Self::Topic(topic) => To::Topic(&topic.key),
        }
    }
}

impl AnySource {
    /// How long a delivery may take, unless its consumer says otherwise.
    pub fn lease(&self) -> Duration {
        match self {
            Self::Embedded(MessageSource::Queue(queue)) => queue.settings().options.lease,
            Self::Embedded(MessageSource::Subscription(of)) => of.settings().options.lease,
            Self::Other(ElsewhereSource::Queue(queue)) => queue.options.read().lease,
            Self::Other(ElsewhereSource::Subscription(of)) => of.options.read().lease,
        }
    }
}

impl AnyTarget {
    /// Whether it is a topic.
    pub fn is_topic(&self) -> bool {
        matches!(
            self,
            Self::Embedded(PublishTarget::Topic(_)) | Self::Other(ElsewhereTarget::Topic(_))
        )
    }
}

impl From<AnyQueue> for AnySource {
    fn from(queue: AnyQueue) -> Self {
        match queue {
            AnyQueue::Embedded(queue) => Self::Embedded(queue.into()),
            AnyQueue::Other(queue) => Self::Other(ElsewhereSource::Queue(queue)),
        }
    }
}

impl From<AnySubscription> for AnySource {
    fn from(subscription: AnySubscription) -> Self {
        match subscription {
            AnySubscription::Embedded(subscription) => Self::Embedded(subscription.into()),
            AnySubscription::Other(subscription) => {
                Self::Other(ElsewhereSource::Subscription(subscription))
            }
        }
    }
}

impl From<AnyQueue> for AnyTarget {
    fn from(queue: AnyQueue) -> Self {
        match queue {
            AnyQueue::Embedded(queue) => Self::Embedded(queue.into()),
            AnyQueue::Other(queue) => Self::Other(ElsewhereTarget::Queue(queue)),
        }
    }
}

impl From<AnyTopic> for AnyTarget {
    fn from(topic: AnyTopic) -> Self {
        match topic {
            AnyTopic::Embedded(topic) => Self::Embedded(topic.into()),
            AnyTopic::Other(topic) => Self::Other(ElsewhereTarget::Topic(topic)),
        }
    }
}

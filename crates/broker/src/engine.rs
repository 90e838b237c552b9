//! What any engine of messages offers, and what each of them can: the embedded one is
//! [`Broker`](crate::Broker).
//!
//! A driver does not hide what its engine cannot do: [`Engine::capabilities`] says of each capability
//! whether the engine has it, the driver makes it up, or it is missing. What is missing is refused when
//! the configuration is checked ([`Capabilities::refuse`]), never when a message comes. The suite
//! `conformance` runs against every engine as it is.

mod embedded;

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use weft_kernel::Result;

use crate::{
    consume::ConsumerOptions,
    inspect::{QueueView, SubscriptionView, TopicView},
    message::Message,
    name::{Key, SubscriptionKey},
    options::{Order, QueueOptions, SubscriptionOptions, TopicOptions},
    publish::{Publish, Published},
    settle::Verdict,
};

/// An answer that may take a while.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Whether an engine can do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Support {
    /// The engine does it.
    Native,
    /// The driver makes it up from what the engine does.
    Emulated,
    /// It cannot be had.
    Missing,
}

impl Support {
    /// The stable word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Emulated => "emulated",
            Self::Missing => "missing",
        }
    }
}

macro_rules! capabilities {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal;)+) => {
        /// Something that engines differ in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Capability { $($(#[doc = $doc])+ $name,)+ }

        impl Capability {
            /// Every capability, for tables.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The stable word.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// What it means, in one sentence.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

capabilities! {
    /// Several consumers share the messages of one queue or subscription.
    CompetingConsumers = "competing_consumers";
    /// A message that failed waits before it is handed out again, in place.
    DelayedRetry = "delayed_retry";
    /// A consumer can ask for more time for a delivery.
    LeaseRenewal = "lease_renewal";
    /// Dead letters tell why and what was tried.
    DeadLetterReason = "dead_letter_reason";
    /// A message can be published for a later time, however far.
    Schedules = "schedules";
    /// Messages of higher priority go first.
    Priorities = "priorities";
    /// Messages of one key go in order, also under retry, while others go side by side.
    KeyOrder = "key_order";
    /// A subscription can be moved to a time.
    ReplayByTime = "replay_by_time";
    /// A message that is published twice is stored once.
    Dedupe = "dedupe";
    /// Messages are filtered before they are sent to a subscription.
    Filters = "filters";
    /// Messages for several queues and topics, and settlements, are one transaction.
    Transactions = "transactions";
    /// An acknowledged publish survives the loss of power.
    DurableConfirms = "durable_confirms";
}

/// What an engine can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities(Vec<(Capability, Support)>);

impl Capabilities {
    /// What `of` says of each capability.
    pub fn new(of: impl Fn(Capability) -> Support) -> Self {
        Self(Capability::ALL.iter().map(|capability| (*capability, of(*capability))).collect())
    }

    /// Whether it can do something.
    pub fn get(&self, capability: Capability) -> Support {
        self.0
            .iter()
            .find(|(one, _)| *one == capability)
            .map_or(Support::Missing, |(_, support)| *support)
    }

    /// All of them, in the order of [`Capability::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Capability, Support)> + '_ {
        self.0.iter().copied()
    }

    /// What the options of a queue ask for and is missing, for the check of a configuration.
    pub fn refuse(&self, options: &QueueOptions) -> Vec<Capability> {
        let asked = [
            (options.order != Order::None, Capability::KeyOrder),
            (options.priorities, Capability::Priorities),
            (options.dedupe.is_some(), Capability::Dedupe),
        ];
        asked
            .into_iter()
            .filter(|(asked, capability)| *asked && self.get(*capability) == Support::Missing)
            .map(|(_, capability)| capability)
            .collect()
    }
}

/// What is published to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To<'a> {
    /// A queue.
    Queue(&'a Key),
    /// A topic.
    Topic(&'a Key),
}

/// What is consumed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From<'a> {
    /// A queue.
    Queue(&'a Key),
    /// A subscription.
    Subscription(&'a SubscriptionKey),
}

/// A message handed out by an engine.
#[derive(Clone, Debug)]
pub struct Handed {
    /// What settles it; of no meaning to another taker.
    pub handle: u64,
    /// The message.
    pub message: Message,
    /// Its ordering key.
    pub key: Bytes,
    /// How often it had failed.
    pub failures: u32,
    /// How often it was handed out, this time included, as far as the engine knows.
    pub handouts: u32,
}

/// Takes messages from an engine; dropped, it gives back what is not settled.
pub trait Taker: Send {
    /// Waits for messages and takes up to `max`. Cancel-safe.
    fn next(&mut self, max: u32) -> Answer<'_, Vec<Handed>>;
    /// What is there now, without waiting for more.
    fn now(&mut self, max: u32) -> Answer<'_, Vec<Handed>>;
    /// Settles, and answers once that is as durable as the queue or topic asks for; gives the handles
    /// whose lease was lost.
    fn settle(&mut self, verdicts: Vec<(u64, Verdict)>) -> Answer<'_, Vec<u64>>;
    /// Asks for more time.
    ///
    /// # Errors
    /// [`LeaseLost`](weft_kernel::Reason::LeaseLost), and
    /// [`NotSupported`](weft_kernel::Reason::NotSupported) where it is missing.
    fn renew(&mut self, handle: u64, span: Duration) -> Result<()>;
}

/// What keeps messages. Object-safe; errors have the reasons that [`Broker`](crate::Broker) documents.
pub trait Engine: Send + Sync {
    /// The engine's word in configuration.
    fn name(&self) -> &str;
    /// What it can.
    fn capabilities(&self) -> Capabilities;
    /// Declares a queue; one that is there with the same options is left.
    fn declare_queue<'a>(&'a self, key: &'a Key, options: QueueOptions) -> Answer<'a, ()>;
    /// Declares a topic.
    fn declare_topic<'a>(&'a self, key: &'a Key, options: TopicOptions) -> Answer<'a, ()>;
    /// Declares a subscription.
    fn declare_subscription<'a>(
        &'a self,
        key: &'a SubscriptionKey,
        options: SubscriptionOptions,
    ) -> Answer<'a, ()>;
    /// Deletes a queue and its messages.
    fn delete_queue<'a>(&'a self, key: &'a Key) -> Answer<'a, ()>;
    /// Deletes a topic, its messages and its subscriptions.
    fn delete_topic<'a>(&'a self, key: &'a Key) -> Answer<'a, ()>;
    /// Deletes a subscription.
    fn delete_subscription<'a>(&'a self, key: &'a SubscriptionKey) -> Answer<'a, ()>;
    /// The numbers of a queue.
    fn inspect_queue<'a>(&'a self, key: &'a Key) -> Answer<'a, QueueView>;
    /// The numbers of a topic.
    fn inspect_topic<'a>(&'a self, key: &'a Key) -> Answer<'a, TopicView>;
    /// The numbers of a subscription.
    fn inspect_subscription<'a>(&'a self, key: &'a SubscriptionKey)
    -> Answer<'a, SubscriptionView>;
    /// Publishes messages to one queue or topic and waits until they are acknowledged.
    fn publish<'a>(&'a self, to: To<'a>, messages: &'a [Publish]) -> Answer<'a, Published>;
    /// Joins a queue or subscription.
    fn consume<'a>(
        &'a self,
        from: From<'a>,
        options: ConsumerOptions,
    ) -> Answer<'a, Box<dyn Taker>>;
}

//! What any engine of messages offers, and the handles by which front-ends use whichever it is.
//!
//! The embedded engine is [`Broker`](crate::Broker). Another one stands across a network: all that is asked
//! of it is a future ([`Answer`]), things are told to it by name, and a delivery is settled by its
//! lease and not by its connection. A front-end holds [`Engines`], the engines of a node with what is kept
//! where, and takes from it handles ([`AnyQueue`], [`AnyTopic`], [`AnySubscription`], [`AnyConsumer`]) that
//! are the broker's own where the embedded engine keeps a thing: nothing is boxed then, and nothing is
//! looked up by name for a message.
//!
//! A driver does not hide what its engine cannot do: [`Engine::capabilities`] says of each
//! [`Capability`] whether the engine has it, the driver makes it up, or it is missing. What is missing is
//! refused when the configuration is checked or something is declared, and operations with
//! [`Reason::NotSupported`]. The suite `conformance` runs against every engine as it is.
//!
//! Reading order: `capability`, the trait below, `embedded`; `handles`, `directory`, `engines`,
//! `definitions`, `together`, `operations`, `consumer`.

mod capability;
mod consumer;
mod definitions;
mod directory;
mod embedded;
mod engines;
mod handles;
mod kept;
mod operations;
mod together;

use std::{future::Future, pin::Pin, time::Duration};

use weft_kernel::{Error, Reason, Result};
use weft_ledger::Limits;

pub use self::{
    capability::{Capabilities, Capability, Lack, Support},
    consumer::{AnyConsumer, AnyDelivery, AnyLease},
    engines::Engines,
    handles::{
        AnyQueue, AnySource, AnySubscription, AnyTarget, AnyTopic, Elsewhere, ElsewhereQueue,
        ElsewhereSource, ElsewhereSubscription, ElsewhereTarget, ElsewhereTopic,
    },
    together::PreparedAnywhere,
};
use crate::{
    consume::ConsumerOptions,
    inspect::{Browsed, Peeked, QueueView, SeekTo, SubscriptionView, TopicView},
    name::{Key, SubscriptionKey},
    options::{QueueOptions, Start, SubscriptionOptions, TopicOptions},
    publish::{Publish, Published},
    redrive::{RedriveOptions, Redriven},
    settle::Verdict,
};

/// The embedded engine's word in configuration.
pub const EMBEDDED: &str = "embedded";

/// An answer that may take a while.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

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

/// What a subscription passes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The next messages, so many.
    Messages(usize),
    /// The one message of this position.
    Position(u64),
}

/// A consumer of an engine. Dropped, it leaves and gives back what is not settled.
pub trait EngineConsumer: Send {
    /// Waits for messages and takes up to `max`, as far as the prefetch allows. Cancel-safe.
    fn next(&mut self, max: u32) -> Answer<'_, Vec<AnyDelivery>>;
    /// What is there now, without waiting for more.
    fn now(&mut self, max: u32) -> Answer<'_, Vec<AnyDelivery>>;
    /// What is unsettled when it leaves counts for nothing: its client was told to go.
    fn forgive(&mut self);
    /// Leaves, but what it holds stays leased until it is settled or its lease runs out.
    fn detach(self: Box<Self>);
}

/// What keeps messages. Object-safe; errors have the reasons that [`Broker`](crate::Broker) documents, and
/// [`Reason::EngineUnavailable`] while it cannot be reached.
///
/// What is declared is told without the name of the engine in its options. Operations that need a capability
/// have a default that refuses, for engines where it is missing. They
/// are only called with what the capabilities allow.
pub trait Engine: Send + Sync {
    /// The engine's name in configuration.
    fn name(&self) -> &str;
    /// What it can.
    fn capabilities(&self) -> &Capabilities;

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
    /// Changes the options of a queue, as far as that can be.
    fn alter_queue<'a>(&'a self, key: &'a Key, options: QueueOptions) -> Answer<'a, ()>;
    /// Changes the options of a topic.
    fn alter_topic<'a>(&'a self, key: &'a Key, options: TopicOptions) -> Answer<'a, ()>;
    /// Changes the options of a subscription, and whether it is paused.
    fn alter_subscription<'a>(
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

    /// Publishes messages to one queue or topic and waits until they are acknowledged. With `expect` the
    /// first of them must get that position, or nothing is stored.
    fn publish<'a>(
        &'a self,
        to: To<'a>,
        messages: &'a [Publish],
        expect: Option<u64>,
    ) -> Answer<'a, Published>;
    /// Joins a queue or subscription.
    fn consume<'a>(
        &'a self,
        from: From<'a>,
        options: ConsumerOptions,
    ) -> Answer<'a, Box<dyn EngineConsumer>>;
    /// Settles deliveries, whoever took them, and answers once that is as durable as the queue or topic
    /// asks for. One result for each: [`Reason::LeaseLost`] for what came too late, which keeps no other
    /// from being settled.
    fn settle<'a>(
        &'a self,
        from: From<'a>,
        verdicts: Vec<(AnyLease, Verdict)>,
    ) -> Answer<'a, Vec<Result<()>>>;
    /// Starts a lease anew.
    ///
    /// # Errors
    /// [`Reason::LeaseLost`] if it is over.
    fn renew<'a>(&'a self, _: From<'a>, _: &'a AnyLease, _: Duration) -> Answer<'a, ()> {
        lacks(self.name(), Capability::LeaseRenewal)
    }

    /// Messages of a queue from a position on, with how they stand, as far as the limits go.
    fn peek<'a>(&'a self, _: &'a Key, _from: u64, _: Limits) -> Answer<'a, Vec<Peeked>> {
        lacks(self.name(), Capability::Peek)
    }
    /// Drops the messages of a queue that nobody holds, and says how many they were.
    fn purge<'a>(&'a self, _: &'a Key) -> Answer<'a, u64> {
        lacks(self.name(), Capability::Purge)
    }
    /// Sends the dead letters of a queue back, or to `to`.
    fn redrive<'a>(
        &'a self,
        _dead: &'a Key,
        _to: Option<To<'a>>,
        _: RedriveOptions,
    ) -> Answer<'a, Redriven> {
        lacks(self.name(), Capability::Redrive)
    }

    /// Messages of a topic from a position on, as far as the limits go; empty at its end.
    fn browse<'a>(&'a self, _: &'a Key, _from: u64, _: Limits) -> Answer<'a, Vec<Browsed>> {
        lacks(self.name(), Capability::Browse)
    }
    /// The position in a topic that a start stands for.
    ///
    /// # Errors
    /// [`Reason::PositionConflict`] for a position beyond the end.
    fn position<'a>(&'a self, _: &'a Key, _: Start) -> Answer<'a, u64> {
        lacks(self.name(), Capability::Browse)
    }
    /// Waits until a topic has a message at or beyond a position. Cancel-safe.
    fn until_beyond<'a>(&'a self, _: &'a Key, _position: u64) -> Answer<'a, ()> {
        lacks(self.name(), Capability::Browse)
    }
    /// The last message of a key of a compacted topic.
    fn last<'a>(&'a self, _: &'a Key, _message_key: &'a [u8]) -> Answer<'a, Option<Browsed>> {
        lacks(self.name(), Capability::Compaction)
    }

    /// Moves a subscription; retries and leases of it are forgotten.
    fn seek<'a>(&'a self, _: &'a SubscriptionKey, _: SeekTo) -> Answer<'a, ()> {
        lacks(self.name(), Capability::Replay)
    }
    /// Passes over messages of a subscription.
    fn skip<'a>(&'a self, _: &'a SubscriptionKey, _: Skip) -> Answer<'a, ()> {
        lacks(self.name(), Capability::Skip)
    }
}

/// The refusal of an operation whose capability is missing.
fn lacks<'a, T: Send + 'a>(engine: &str, capability: Capability) -> Answer<'a, T> {
    let refusal = Error::new(Reason::NotSupported, capability::missing(engine, capability));
    Box::pin(std::future::ready(Err(refusal)))
}

/// That an engine cannot be reached.
pub fn unavailable(engine: &str) -> Error {
    Error::new(Reason::EngineUnavailable, format!("engine `{engine}` cannot be reached"))
}

/// That something would have to be done across engines.
fn across(why: &'static str) -> Error {
    Error::new(Reason::NotSupported, why)
}

//! Declaring, altering and deleting, with whichever engine the options name.
//!
//! A name is of one engine: what is declared with one is not declared with another before it is deleted.
//! What is declared alone is made by its engine first and remembered then, so that an engine that is away
//! refuses it. A subscription is kept by the engine of its topic. Declarations of a whole configuration are
//! in `together`.

use std::{fmt::Display, sync::Arc};

use weft_kernel::{Error, Reason, Result};

use super::{
    AnyQueue, AnySubscription, AnyTopic, EMBEDDED, Engine, Engines, capability,
    directory::{defining, undefine},
    handles::Elsewhere,
    kept::Kept,
};
use crate::{
    name::{Key, SubscriptionKey},
    options::{QueueOptions, SubscriptionOptions, TopicOptions},
};

/// The engine that options name, if it is not the embedded one.
pub(super) fn named(engine: Option<&str>) -> Option<&str> {
    engine.filter(|name| *name != EMBEDDED)
}

/// That a name is of another engine.
pub(super) fn kept_by(what: &str, key: &dyn Display, engine: &str) -> Error {
    let say = format!("{what} {key} is kept by engine `{engine}`: delete it first");
    Error::new(Reason::DefinitionConflict, say)
}

/// Refuses to move a thing from one engine to another.
fn stays(what: &str, key: &dyn Display, is: &str, asked: Option<&str>) -> Result<()> {
    if is == asked.unwrap_or(EMBEDDED) { Ok(()) } else { Err(kept_by(what, key, is)) }
}

/// Checks that an engine can keep what options ask for.
pub(super) fn check<O: Kept>(key: &O::Key, options: &O, engine: &dyn Engine) -> Result<()> {
    options.check(key)?;
    capability::verdict(engine.name(), &options.lacks(key, engine.capabilities()))
}

/// Refuses what would send messages from one engine to a queue of another; `keeper` is the engine of a queue,
/// if it is known.
pub(super) fn within<O: Kept>(
    key: &O::Key,
    options: &O,
    engine: &str,
    keeper: impl Fn(&Key) -> Option<String>,
) -> Result<()> {
    for queue in options.queues(key) {
        if let Some(other) = keeper(&queue).filter(|other| other != engine) {
            let say = format!(
                "{} {key} sends messages to queue {queue}, which engine `{other}` keeps, and messages stay \
                 within `{engine}`",
                O::WHAT
            );
            return Err(Error::new(Reason::NotSupported, say));
        }
    }
    Ok(())
}

impl Engines {
    /// Declares a queue with the engine that its options name; one that is there with the same options is
    /// answered as it is.
    ///
    /// # Errors
    /// As [`Broker::declare_queue`](crate::Broker::declare_queue); [`Reason::NotSupported`] for options that
    /// the engine does not have.
    pub async fn declare_queue(&self, key: &Key, options: QueueOptions) -> Result<AnyQueue> {
        let _one = self.change().await;
        match named(options.engine.as_deref()).map(str::to_owned) {
            None => {
                self.is_free::<QueueOptions>(key)?;
                self.stays_within(key, &options, EMBEDDED)?;
                let options = QueueOptions { engine: None, ..options };
                self.0.embedded.declare_queue(key, options).await.map(AnyQueue::Embedded)
            }
            Some(_) if self.0.embedded.queue(key).is_ok() => Err(kept_by("queue", key, EMBEDDED)),
            Some(engine) => {
                let engine = self.other(&engine)?;
                self.declare_elsewhere(key, options, engine).await.map(AnyQueue::Other)
            }
        }
    }

    /// Declares a topic with the engine that its options name.
    ///
    /// # Errors
    /// As [`Engines::declare_queue`].
    pub async fn declare_topic(&self, key: &Key, options: TopicOptions) -> Result<AnyTopic> {
        let _one = self.change().await;
        match named(options.engine.as_deref()).map(str::to_owned) {
            None => {
                self.is_free::<TopicOptions>(key)?;
                let options = TopicOptions { engine: None, ..options };
                self.0.embedded.declare_topic(key, options).await.map(AnyTopic::Embedded)
            }
            Some(_) if self.0.embedded.topic(key).is_ok() => Err(kept_by("topic", key, EMBEDDED)),
            Some(engine) => {
                let engine = self.other(&engine)?;
                self.declare_elsewhere(key, options, engine).await.map(AnyTopic::Other)
            }
        }
    }

    /// Declares a subscription with the engine that keeps its topic.
    ///
    /// # Errors
    /// As [`Engines::declare_queue`], and [`Reason::NoTopic`].
    pub async fn declare_subscription(
        &self,
        key: &SubscriptionKey,
        options: SubscriptionOptions,
    ) -> Result<AnySubscription> {
        let _one = self.change().await;
        let topic = self.0.directory.read().topics.get(&key.topic).cloned();
        if let Ok(other) = self.subscription_named(&key.topic.sibling(&key.name)?)
            && other.key() != key
            && (topic.is_some() || other.engine() != EMBEDDED)
        {
            let say = format!("there is a subscription of this name, {}", other.key());
            return Err(Error::new(Reason::DefinitionConflict, say));
        }
        let Some(topic) = topic else {
            self.stays_within(key, &options, EMBEDDED)?;
            let declared = self.0.embedded.declare_subscription(key, options).await;
            return declared.map(AnySubscription::Embedded);
        };
        let declared = self.declare_elsewhere(key, options, &topic.engine).await;
        declared.map(AnySubscription::Other)
    }

    /// Changes what can be changed of a queue.
    ///
    /// # Errors
    /// As [`Broker::alter_queue`](crate::Broker::alter_queue); the engine cannot be changed.
    pub async fn alter_queue(&self, queue: &AnyQueue, options: QueueOptions) -> Result<()> {
        stays("queue", queue.key(), queue.engine(), options.engine.as_deref())?;
        match queue {
            AnyQueue::Embedded(queue) => {
                self.stays_within(queue.key(), &options, EMBEDDED)?;
                let options = QueueOptions { engine: None, ..options };
                self.0.embedded.alter_queue(queue.key(), options).await
            }
            AnyQueue::Other(queue) => self.alter_elsewhere(queue, options).await,
        }
    }

    /// Changes the options of a topic.
    ///
    /// # Errors
    /// As [`Broker::alter_topic`](crate::Broker::alter_topic); the engine cannot be changed.
    pub async fn alter_topic(&self, topic: &AnyTopic, options: TopicOptions) -> Result<()> {
        stays("topic", topic.key(), topic.engine(), options.engine.as_deref())?;
        match topic {
            AnyTopic::Embedded(topic) => {
                let options = TopicOptions { engine: None, ..options };
                self.0.embedded.alter_topic(topic.key(), options).await
            }
            AnyTopic::Other(topic) => self.alter_elsewhere(topic, options).await,
        }
    }

    /// Changes the options of a subscription.
    ///
    /// # Errors
    /// As [`Broker::alter_subscription`](crate::Broker::alter_subscription).
    pub async fn alter_subscription(
        &self,
        of: &AnySubscription,
        options: SubscriptionOptions,
    ) -> Result<()> {
        match of {
            AnySubscription::Embedded(of) => {
                self.stays_within(of.key(), &options, EMBEDDED)?;
                self.0.embedded.alter_subscription(of.key(), options).await
            }
            AnySubscription::Other(of) => self.alter_elsewhere(of, options).await,
        }
    }

    /// Pauses a subscription, or resumes it.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn pause(&self, of: &AnySubscription, paused: bool) -> Result<()> {
        match of {
            AnySubscription::Embedded(of) => self.0.embedded.pause(of.key(), paused).await,
            AnySubscription::Other(of) => {
                let options = SubscriptionOptions { paused, ..of.options() };
                self.alter_elsewhere(of, options).await
            }
        }
    }

    /// Deletes a queue and its messages.
    ///
    /// # Errors
    /// As [`Broker::delete_queue`](crate::Broker::delete_queue).
    pub async fn delete_queue(&self, queue: &AnyQueue) -> Result<()> {
        match queue {
            AnyQueue::Embedded(queue) => self.0.embedded.delete_queue(queue.key(), None).await,
            AnyQueue::Other(queue) => self.delete_elsewhere(queue, Vec::new()).await,
        }
    }

    /// Deletes a topic, its messages and its subscriptions.
    ///
    /// # Errors
    /// As [`Broker::delete_topic`](crate::Broker::delete_topic).
    pub async fn delete_topic(&self, topic: &AnyTopic) -> Result<()> {
        match topic {
            AnyTopic::Embedded(topic) => self.0.embedded.delete_topic(topic.key()).await,
            AnyTopic::Other(topic) => {
                let readers = self.0.directory.read().readers(topic.key());
                let readers = readers.iter().map(<SubscriptionOptions as Kept>::stored).collect();
                self.delete_elsewhere(topic, readers).await
            }
        }
    }

    /// Deletes a subscription.
    ///
    /// # Errors
    /// As [`Broker::delete_subscription`](crate::Broker::delete_subscription).
    pub async fn delete_subscription(&self, of: &AnySubscription) -> Result<()> {
        match of {
            AnySubscription::Embedded(of) => self.0.embedded.delete_subscription(of.key()).await,
            AnySubscription::Other(of) => self.delete_elsewhere(of, Vec::new()).await,
        }
    }

    /// Refuses a name that another engine keeps.
    pub(super) fn is_free<O: Kept>(&self, key: &O::Key) -> Result<()> {
        match O::all(&self.0.directory.read()).get(key) {
            Some(there) => Err(kept_by(O::WHAT, key, there.engine().name())),
            None => Ok(()),
        }
    }

    /// Refuses what would send messages from one engine to a queue of another.
    fn stays_within<O: Kept>(&self, key: &O::Key, options: &O, engine: &str) -> Result<()> {
        if self.0.others.is_empty() {
            return Ok(());
        }
        within(key, options, engine, |queue| {
            self.queue(queue).ok().map(|queue| queue.engine().to_owned())
        })
    }

    async fn declare_elsewhere<O: Kept>(
        &self,
        key: &O::Key,
        options: O,
        engine: &Arc<dyn Engine>,
    ) -> Result<Arc<Elsewhere<O::Key, O>>> {
        check(key, &options, &**engine)?;
        self.stays_within(key, &options, engine.name())?;
        let there = O::all(&self.0.directory.read()).get(key).cloned();
        if let Some(there) = &there
            && there.options() != options
        {
            let say = format!("{} {key} is there with other options", O::WHAT);
            return Err(Error::new(Reason::DefinitionConflict, say));
        }
        options.clone().declare(key, &**engine).await?;
        if let Some(there) = there {
            there.made(options);
            return Ok(there);
        }
        let of = Elsewhere::new(key.clone(), options, engine, true);
        self.remember(&of).await?;
        self.enter::<O>(Arc::clone(&of));
        Ok(of)
    }

    async fn alter_elsewhere<O: Kept>(
        &self,
        of: &Arc<Elsewhere<O::Key, O>>,
        options: O,
    ) -> Result<()> {
        let _one = self.change().await;
        check(of.key(), &options, of.engine())?;
        self.stays_within(of.key(), &options, of.engine().name())?;
        options.clone().alter(of.key(), of.engine()).await?;
        of.made(options);
        self.remember(of).await
    }

    /// Deletes a thing, and definitions that go with it. One that its engine does not have is forgotten.
    async fn delete_elsewhere<O: Kept>(
        &self,
        of: &Arc<Elsewhere<O::Key, O>>,
        with: Vec<String>,
    ) -> Result<()> {
        let _one = self.change().await;
        match O::delete(of.key(), of.engine()).await {
            Err(error) if error.reason() != O::NONE => return Err(error),
            _ => {}
        }
        let stored = with.into_iter().chain([O::stored(of.key())]);
        undefine(&self.0.embedded, self.0.map, stored).await?;
        O::forget(&mut self.0.directory.write(), of.key());
        Ok(())
    }

    /// Writes a definition down.
    async fn remember<O: Kept>(&self, of: &Elsewhere<O::Key, O>) -> Result<()> {
        let definition = of.options().definition(of.key());
        let put = defining(self.0.map, [(O::stored(of.key()), definition)])?;
        self.0.embedded.store().commit(put).await?;
        Ok(())
    }
}

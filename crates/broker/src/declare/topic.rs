//! Topics: a log that subscriptions read.

use std::sync::{Arc, atomic::AtomicU32};

use weft_kernel::{Error, Reason, Result};
use weft_ledger::{LogOptions, LogRetention, Storage};

use super::{Definition, check_engine, queue::window};
use crate::{
    broker::Broker,
    name::{Key, Pattern, stored},
    options::TopicOptions,
    source::{Subscription, Topic},
    watch::{Aftermaths, Deleted},
};

fn log_options(options: &TopicOptions) -> LogOptions {
    LogOptions {
        storage: Storage::Disk,
        retention: LogRetention {
            age: options.retention.age,
            bytes: options.retention.bytes,
            keep_unread: options.retention.keep_unread,
            bytes_max: options.retention.bytes_max,
        },
        compact: options.compact,
        ordered: false,
        dedupe: window(options.dedupe),
        limit: None,
    }
}

/// Checks what is said of a topic by itself.
pub(super) fn check(key: &Key, options: &TopicOptions) -> Result<()> {
    options.check()?;
    check_engine(options.engine.as_deref())?;
    if Pattern::is_one(&key.name) {
        return Err(Error::new(
            Reason::MalformedRequest,
            format!("`{}` is a pattern of topics, not the name of one", key.name),
        ));
    }
    Ok(())
}

impl Broker {
    /// Declares a topic; one that is there with the same options is answered as it is. Wildcard
    /// subscriptions that take its name read it from its first message on.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] with every fault of the options, or when the name is a pattern;
    /// [`Reason::DefinitionConflict`] if it is there with other options.
    pub async fn declare_topic(&self, key: &Key, options: TopicOptions) -> Result<Arc<Topic>> {
        check(key, &options)?;
        let _one = self.inner().changing.lock().await;
        if let Ok(topic) = self.topic(key) {
            if *topic.settings() != options {
                return Err(Error::new(
                    Reason::DefinitionConflict,
                    format!("topic {key} is there with other options"),
                ));
            }
            return Ok(topic);
        }
        self.sweep_log(&stored::topic(key)).await?;
        let topic = self.make_topic(key, options.clone()).await?;
        // Before it is defined, so that a crash between leaves no topic that a subscription misses.
        let joined = self.join_wildcards(&topic).await;
        let defined = match joined {
            Ok(()) => self.define(stored::topic(key), &Definition::of_topic(key, options)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = defined {
            self.detach_topic(&topic).await?;
            return Err(error);
        }
        // Not before it is defined: what is acknowledged in it must be there after a crash.
        self.enter_topic(&topic);
        Ok(topic)
    }

    /// Finds a defined topic again.
    pub(super) async fn attach_topic(&self, key: &Key, options: TopicOptions) -> Result<()> {
        let topic = self.make_topic(key, options).await?;
        self.enter_topic(&topic);
        Ok(())
    }

    pub(super) fn enter_topic(&self, topic: &Arc<Topic>) {
        self.inner().registry.write().topics.insert(topic.key.clone(), Arc::clone(topic));
    }

    /// A topic and its log, which nobody finds yet.
    pub(super) async fn make_topic(&self, key: &Key, options: TopicOptions) -> Result<Arc<Topic>> {
        let log = self.log_as_defined(&stored::topic(key), log_options(&options)).await?;
        Ok(Arc::new(Topic {
            key: key.clone(),
            log,
            settings: parking_lot::RwLock::new(Arc::new(options)),
            counters: Default::default(),
            usage: Default::default(),
            subscriptions: AtomicU32::new(0),
            newest: Default::default(),
            last: Default::default(),
        }))
    }

    /// Changes the options of a topic.
    ///
    /// # Errors
    /// [`Reason::NoTopic`], [`Reason::MalformedRequest`], and what the store cannot change.
    pub async fn alter_topic(&self, key: &Key, options: TopicOptions) -> Result<()> {
        options.check()?;
        let _one = self.inner().changing.lock().await;
        let topic = self.topic(key)?;
        self.alter_topic_log(&topic, &options).await?;
        self.define(stored::topic(key), &Definition::of_topic(key, options.clone())).await?;
        *topic.settings.write() = Arc::new(options);
        Ok(())
    }

    pub(super) async fn alter_topic_log(
        &self,
        topic: &Topic,
        options: &TopicOptions,
    ) -> Result<()> {
        self.store().alter_log(topic.log, log_options(options)).await
    }

    /// Deletes a topic, its messages and its subscriptions; wildcard subscriptions only lose it.
    ///
    /// # Errors
    /// [`Reason::NoTopic`].
    pub async fn delete_topic(&self, key: &Key) -> Result<()> {
        let mut aftermaths = Aftermaths::default();
        let deleted = {
            let _one = self.inner().changing.lock().await;
            self.delete_topic_alone(key, &mut aftermaths).await
        };
        aftermaths.finish().await;
        deleted
    }

    /// Deletes a topic while nobody else changes definitions.
    async fn delete_topic_alone(&self, key: &Key, aftermaths: &mut Aftermaths) -> Result<()> {
        let topic = self.topic(key)?;
        let mut subscriptions = self.subscriptions();
        subscriptions.retain(|one| one.key.topic == *key && one.pattern.is_none());
        let named = |one: &Arc<Subscription>| stored::subscription(&one.key.topic, &one.key.name);
        let of_it = subscriptions.iter().map(named);
        self.undefine(std::iter::once(stored::topic(key)).chain(of_it)).await?;
        for subscription in &subscriptions {
            self.remove_subscription(subscription, aftermaths).await?;
        }
        let detached = self.detach_topic(&topic).await;
        self.tell_deleted(Deleted::Topic(key), aftermaths);
        detached
    }

    pub(super) async fn detach_topic(&self, topic: &Arc<Topic>) -> Result<()> {
        topic.usage.delete();
        // Who waits for its next message waits for nothing.
        topic.newest.told.notify_waiters();
        self.leave_wildcards(topic);
        {
            let mut registry = self.inner().registry.write();
            if registry.topics.get(&topic.key).is_some_and(|now| Arc::ptr_eq(now, topic)) {
                registry.topics.remove(&topic.key);
            }
        }
        self.store().drop_log(topic.log).await
    }
}

//! In what queues, topics and subscriptions differ where they are declared with another engine.

use std::{collections::HashMap, fmt::Display, hash::Hash, sync::Arc};

use weft_kernel::{Reason, Result};

use super::{Answer, Capabilities, Engine, Lack, directory::Directory, handles::Elsewhere};
use crate::{
    dead::{check_dead_key, dead_key_of},
    declare::Definition,
    name::{Key, SubscriptionKey, stored},
    options::{QueueOptions, SubscriptionOptions, SubscriptionTarget, TopicOptions},
};

/// Options of a thing that another engine can keep.
pub(super) trait Kept: Clone + PartialEq + Send + Sync + 'static {
    type Key: Clone + Eq + Hash + Display + Send + Sync + 'static;
    /// What it is.
    const WHAT: &'static str;
    /// That it is not there.
    const NONE: Reason;

    /// Checks them, but for what the engine has.
    fn check(&self, key: &Self::Key) -> Result<()>;
    /// The queues that it sends messages to, which the same engine must keep.
    fn queues(&self, key: &Self::Key) -> Vec<Key>;
    /// The options that ask for what an engine does not have.
    fn lacks(&self, key: &Self::Key, of: &Capabilities) -> Vec<Lack>;
    /// The name of its definition.
    fn stored(key: &Self::Key) -> String;
    fn definition(self, key: &Self::Key) -> Definition;
    fn all(directory: &Directory) -> &HashMap<Self::Key, Arc<Elsewhere<Self::Key, Self>>>;
    fn enter(directory: &mut Directory, of: Arc<Elsewhere<Self::Key, Self>>);
    fn forget(directory: &mut Directory, key: &Self::Key);
    /// An engine is told options without its own name.
    fn declare<'a>(self, key: &'a Self::Key, with: &'a dyn Engine) -> Answer<'a, ()>;
    fn alter<'a>(self, key: &'a Self::Key, with: &'a dyn Engine) -> Answer<'a, ()>;
    fn delete<'a>(key: &'a Self::Key, with: &'a dyn Engine) -> Answer<'a, ()>;
}

impl Kept for QueueOptions {
    type Key = Key;
    const WHAT: &'static str = "queue";
    const NONE: Reason = Reason::NoQueue;

    fn check(&self, key: &Key) -> Result<()> {
        Self::check(self)?;
        check_dead_key(&self.dead_letter, key, &key.name)
    }

    fn queues(&self, key: &Key) -> Vec<Key> {
        dead_key_of(&self.dead_letter, key, &key.name).into_iter().flatten().collect()
    }

    fn lacks(&self, _key: &Key, of: &Capabilities) -> Vec<Lack> {
        of.lacks_of_queue(self)
    }

    fn stored(key: &Key) -> String {
        stored::queue(key)
    }

    fn definition(self, key: &Key) -> Definition {
        Definition::of_queue(key, self)
    }

    fn all(directory: &Directory) -> &HashMap<Key, Arc<Elsewhere<Key, Self>>> {
        &directory.queues
    }

    fn enter(directory: &mut Directory, of: Arc<Elsewhere<Key, Self>>) {
        directory.enter_queue(of);
    }

    fn forget(directory: &mut Directory, key: &Key) {
        directory.queues.remove(key);
    }

    fn declare<'a>(self, key: &'a Key, with: &'a dyn Engine) -> Answer<'a, ()> {
        with.declare_queue(key, Self { engine: None, ..self })
    }

    fn alter<'a>(self, key: &'a Key, with: &'a dyn Engine) -> Answer<'a, ()> {
        with.alter_queue(key, Self { engine: None, ..self })
    }

    fn delete<'a>(key: &'a Key, with: &'a dyn Engine) -> Answer<'a, ()> {
        with.delete_queue(key)
    }
}

impl Kept for TopicOptions {
    type Key = Key;
    const WHAT: &'static str = "topic";
    const NONE: Reason = Reason::NoTopic;

    fn check(&self, _key: &Key) -> Result<()> {
        Self::check(self)
    }

    fn queues(&self, _key: &Key) -> Vec<Key> {
        Vec::new()
    }

    fn lacks(&self, _key: &Key, of: &Capabilities) -> Vec<Lack> {
        of.lacks_of_topic(self)
    }

    fn stored(key: &Key) -> String {
        stored::topic(key)
    }

    fn definition(self, key: &Key) -> Definition {
        Definition::of_topic(key, self)
    }

    fn all(directory: &Directory) -> &HashMap<Key, Arc<Elsewhere<Key, Self>>> {
        &directory.topics
    }

    fn enter(directory: &mut Directory, of: Arc<Elsewhere<Key, Self>>) {
        directory.enter_topic(of);
    }

    fn forget(directory: &mut Directory, key: &Key) {
        directory.forget_topic(key);
    }

    fn declare<'a>(self, key: &'a Key, with: &'a dyn Engine) -> Answer<'a, ()> {
        with.declare_topic(key, Self { engine: None, ..self })
    }

    fn alter<'a>(self, key: &'a Key, with: &'a dyn Engine) -> Answer<'a, ()> {
        with.alter_topic(key, Self { engine: None, ..self })
    }

    fn delete<'a>(key: &'a Key, with: &'a dyn Engine) -> Answer<'a, ()> {
        with.delete_topic(key)
    }
}

impl Kept for SubscriptionOptions {
    type Key = SubscriptionKey;
    const WHAT: &'static str = "subscription";
    const NONE: Reason = Reason::NoSubscription;

    fn check(&self, key: &SubscriptionKey) -> Result<()> {
        Self::check(self)?;
        check_dead_key(&self.dead_letter, &key.topic, &key.name)
    }

    fn queues(&self, key: &SubscriptionKey) -> Vec<Key> {
        let dead = dead_key_of(&self.dead_letter, &key.topic, &key.name).ok().flatten();
        let led = match &self.target {
            SubscriptionTarget::Queue(name) => key.topic.sibling(name).ok(),
            SubscriptionTarget::Pull | SubscriptionTarget::Push(_) => None,
        };
        dead.into_iter().chain(led).collect()
    }

    fn lacks(&self, key: &SubscriptionKey, of: &Capabilities) -> Vec<Lack> {
        of.lacks_of_subscription(&key.topic.name, self)
    }

    fn stored(key: &SubscriptionKey) -> String {
        stored::subscription(&key.topic, &key.name)
    }

    fn definition(self, key: &SubscriptionKey) -> Definition {
        Definition::of_subscription(key, self)
    }

    fn all(
        directory: &Directory,
    ) -> &HashMap<SubscriptionKey, Arc<Elsewhere<SubscriptionKey, Self>>> {
        &directory.subscriptions
    }

    fn enter(directory: &mut Directory, of: Arc<Elsewhere<SubscriptionKey, Self>>) {
        directory.enter_subscription(of);
    }

    fn forget(directory: &mut Directory, key: &SubscriptionKey) {
        directory.forget_subscription(key);
    }

    fn declare<'a>(self, key: &'a SubscriptionKey, with: &'a dyn Engine) -> Answer<'a, ()> {
        with.declare_subscription(key, self)
    }

    fn alter<'a>(self, key: &'a SubscriptionKey, with: &'a dyn Engine) -> Answer<'a, ()> {
        with.alter_subscription(key, self)
    }

    fn delete<'a>(key: &'a SubscriptionKey, with: &'a dyn Engine) -> Answer<'a, ()> {
        with.delete_subscription(key)
    }
}

//! The engines of a node by name, and what each of them keeps.
//!
//! A name is looked for in the embedded engine first: where it is the only one, that is all that a look-up
//! costs.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};
use weft_kernel::{Error, Reason, Result};
use weft_ledger::MapId;

use super::{
    AnyQueue, AnySubscription, AnyTopic, EMBEDDED, Engine,
    directory::{self, Directory},
    handles::Elsewhere,
    kept::Kept,
};
use crate::{
    broker::Broker,
    name::{Key, SubscriptionKey},
};

/// The engines of a node; a handle that is cheap to clone.
#[derive(Clone)]
pub struct Engines(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) embedded: Broker,
    /// By name.
    pub(super) others: Vec<Arc<dyn Engine>>,
    pub(super) map: MapId,
    pub(super) directory: RwLock<Directory>,
    /// Told when another engine keeps a new subscription.
    pub(super) subscribed: Notify,
    /// Held by who changes definitions, so that a name is of one engine only.
    changing: Arc<Mutex<()>>,
}

impl Engines {
    /// Opens the engines of a node, and finds again what the others keep.
    ///
    /// # Errors
    /// [`Reason::DefinitionConflict`] for two engines of one name, and what the store says.
    pub async fn open(embedded: Broker, mut others: Vec<Arc<dyn Engine>>) -> Result<Self> {
        others.sort_by(|one, other| one.name().cmp(other.name()));
        let mut names = vec![EMBEDDED];
        for other in &others {
            if names.contains(&other.name()) {
                let say = format!("there are two engines `{}`", other.name());
                return Err(Error::new(Reason::DefinitionConflict, say));
            }
            names.push(other.name());
        }
        let of = |name: &str| others.iter().find(|other| other.name() == name).cloned();
        let (map, directory) = directory::load(&embedded, of).await?;
        Ok(Self(Arc::new(Inner {
            embedded,
            others,
            map,
            directory: RwLock::new(directory),
            subscribed: Notify::new(),
            changing: Arc::default(),
        })))
    }

    /// The embedded engine: what it alone can do is asked of it.
    pub fn embedded(&self) -> &Broker {
        &self.0.embedded
    }

    /// Whether there are others than the embedded one.
    pub fn has_others(&self) -> bool {
        !self.0.others.is_empty()
    }

    /// Every engine, the embedded one first.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Engine> {
        let embedded: &dyn Engine = &self.0.embedded;
        std::iter::once(embedded).chain(self.0.others.iter().map(|other| &**other))
    }

    /// The engine of a name.
    ///
    /// # Errors
    /// [`Reason::NotFound`].
    pub fn get(&self, name: &str) -> Result<&dyn Engine> {
        let found = self.iter().find(|engine| engine.name() == name);
        found.ok_or_else(|| self.no_engine(name))
    }

    pub(super) fn other(&self, name: &str) -> Result<&Arc<dyn Engine>> {
        let found = self.0.others.iter().find(|other| other.name() == name);
        found.ok_or_else(|| self.no_engine(name))
    }

    fn no_engine(&self, name: &str) -> Error {
        let names: Vec<&str> = self.iter().map(|engine| engine.name()).collect();
        let say = format!("there is no engine `{name}`; there is {}", names.join(", "));
        Error::new(Reason::NotFound, say)
    }

    /// Holds off other changes of definitions; nothing where the embedded engine alone has them.
    pub(super) async fn change(&self) -> Option<OwnedMutexGuard<()>> {
        if self.0.others.is_empty() {
            return None;
        }
        Some(Arc::clone(&self.0.changing).lock_owned().await)
    }

    /// Lets something be found that another engine keeps.
    pub(super) fn enter<O: Kept>(&self, of: Arc<Elsewhere<O::Key, O>>) {
        O::enter(&mut self.0.directory.write(), of);
        self.0.subscribed.notify_waiters();
    }

    /// Looks into what other engines keep, if there are any.
    fn elsewhere<T>(&self, find: impl FnOnce(&Directory) -> Option<T>) -> Option<T> {
        if self.0.others.is_empty() {
            return None;
        }
        find(&self.0.directory.read())
    }

    /// The queue of a name.
    ///
    /// # Errors
    /// [`Reason::NoQueue`].
    pub fn queue(&self, key: &Key) -> Result<AnyQueue> {
        self.0.embedded.queue(key).map(AnyQueue::Embedded).or_else(|none| {
            let found = self.elsewhere(|directory| directory.queue(key).cloned());
            found.map(AnyQueue::Other).ok_or(none)
        })
    }

    /// The topic of a name.
    ///
    /// # Errors
    /// [`Reason::NoTopic`].
    pub fn topic(&self, key: &Key) -> Result<AnyTopic> {
        self.0.embedded.topic(key).map(AnyTopic::Embedded).or_else(|none| {
            let found = self.elsewhere(|directory| directory.topics.get(key).cloned());
            found.map(AnyTopic::Other).ok_or(none)
        })
    }

    /// The subscription of a name.
    ///
    /// # Errors
    /// [`Reason::NoSubscription`].
    pub fn subscription(&self, key: &SubscriptionKey) -> Result<AnySubscription> {
        self.0.embedded.subscription(key).map(AnySubscription::Embedded).or_else(|none| {
            let found = self.elsewhere(|directory| directory.subscriptions.get(key).cloned());
            found.map(AnySubscription::Other).ok_or(none)
        })
    }

    /// A subscription of a space by its own name alone.
    ///
    /// # Errors
    /// [`Reason::NoSubscription`].
    pub fn subscription_named(&self, key: &Key) -> Result<AnySubscription> {
        self.0.embedded.subscription_named(key).map(AnySubscription::Embedded).or_else(|none| {
            let found = self.elsewhere(|directory| directory.named.get(key).cloned());
            found.map(AnySubscription::Other).ok_or(none)
        })
    }

    /// Waits until a subscription is declared, and returns it. Cancel-safe.
    pub async fn subscription_declared(&self, key: &SubscriptionKey) -> AnySubscription {
        loop {
            let mut elsewhere = std::pin::pin!(self.0.subscribed.notified());
            elsewhere.as_mut().enable();
            if let Ok(subscription) = self.subscription(key) {
                return subscription;
            }
            tokio::select! {
                subscription = self.0.embedded.subscription_declared(key) => {
                    return AnySubscription::Embedded(subscription);
                }
                () = elsewhere => {}
            }
        }
    }

    /// All queues, by name; those included in which another engine may keep dead letters.
    pub fn queues(&self) -> Vec<AnyQueue> {
        let mut all: Vec<AnyQueue> =
            self.0.embedded.queues().into_iter().map(AnyQueue::Embedded).collect();
        if !self.0.others.is_empty() {
            all.extend(self.0.directory.read().queues().cloned().map(AnyQueue::Other));
            all.sort_by(|one, other| one.key().cmp(other.key()));
        }
        all
    }

    /// All topics, by name.
    pub fn topics(&self) -> Vec<AnyTopic> {
        let mut all: Vec<AnyTopic> =
            self.0.embedded.topics().into_iter().map(AnyTopic::Embedded).collect();
        if !self.0.others.is_empty() {
            all.extend(self.0.directory.read().topics.values().cloned().map(AnyTopic::Other));
            all.sort_by(|one, other| one.key().cmp(other.key()));
        }
        all
    }

    /// All subscriptions, by topic and name.
    pub fn subscriptions(&self) -> Vec<AnySubscription> {
        let embedded = self.0.embedded.subscriptions().into_iter();
        let mut all: Vec<AnySubscription> = embedded.map(AnySubscription::Embedded).collect();
        if !self.0.others.is_empty() {
            let directory = self.0.directory.read();
            all.extend(directory.subscriptions.values().cloned().map(AnySubscription::Other));
            drop(directory);
            all.sort_by(|one, other| one.key().cmp(other.key()));
        }
        all
    }
}

impl std::fmt::Debug for Engines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|engine| engine.name())).finish()
    }
}

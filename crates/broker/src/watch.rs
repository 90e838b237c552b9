//! Hooks on definitions: who keeps something about queues, topics or subscriptions hears of each that is
//! deleted, by whomever, and a task can wait for one to be declared.
//!
//! A watcher hears of a deletion after the definition is off the disk and before a definition of that
//! name can be made again, so that nothing it keeps about the former is taken for the latter's.

use std::{future::Future, pin::Pin, sync::Arc};

use crate::{
    broker::Broker,
    name::{Key, SubscriptionKey},
    source::Subscription,
};

/// A definition that was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted<'a> {
    /// A queue.
    Queue(&'a Key),
    /// A topic. Its subscriptions are told of before it, each by itself.
    Topic(&'a Key),
    /// A subscription.
    Subscription(&'a SubscriptionKey),
}

/// Work that a deletion leaves behind.
pub type Aftermath = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Is told of each queue, topic and subscription that is deleted.
pub trait DefinitionWatcher: Send + Sync {
    /// A definition is not there any more, and none of its name can be made until this returns: it must
    /// be quick, must not wait, and must not call the broker. The work that it returns is awaited by
    /// whoever deletes, once other definitions may be changed again.
    fn deleted(&self, what: Deleted<'_>) -> Option<Aftermath>;
}

/// The work that the watchers of a deletion have left.
#[derive(Default)]
#[must_use = "the watchers' work is done by awaiting it"]
pub(crate) struct Aftermaths(Vec<Aftermath>);

impl Aftermaths {
    /// Does the work, one after another.
    pub(crate) async fn finish(self) {
        for aftermath in self.0 {
            aftermath.await;
        }
    }
}

impl Broker {
    /// Has a watcher told of every definition that is deleted from now on.
    pub fn watch_definitions(&self, watcher: Arc<dyn DefinitionWatcher>) {
        self.inner().watchers.write().push(watcher);
    }

    /// Tells every watcher of a deletion; what is left to be done is added to `aftermaths`.
    pub(crate) fn tell_deleted(&self, what: Deleted<'_>, aftermaths: &mut Aftermaths) {
        let watchers = self.inner().watchers.read();
        aftermaths.0.extend(watchers.iter().filter_map(|watcher| watcher.deleted(what)));
    }

    /// Waits until a subscription is declared, and returns it. Cancel-safe.
    pub async fn subscription_declared(&self, key: &SubscriptionKey) -> Arc<Subscription> {
        loop {
            let mut declared = std::pin::pin!(self.inner().subscribed.notified());
            declared.as_mut().enable();
            if let Ok(subscription) = self.subscription(key) {
                return subscription;
            }
            declared.await;
        }
    }
}

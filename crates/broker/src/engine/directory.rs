//! What other engines keep, by name: definitions that the node remembers in the ledger.
//!
//! An engine across a network need not tell what it has, nor which of Weft's options a thing was declared
//! with, and may be away when that is asked. So the node keeps the definitions itself, in the map
//! `broker/elsewhere`, and an engine only has to make and remove things.

use std::{collections::HashMap, sync::Arc};

use weft_kernel::Result;
use weft_ledger::{Durability, ExpectValue, MapId, MapOptions, Transaction};

use super::{
    Engine,
    handles::{Elsewhere, ElsewhereQueue, ElsewhereSubscription, ElsewhereTopic},
};
use crate::{
    broker::Broker,
    dead::{dead_key_of, dead_queue_options},
    declare::{Definition, decode, encode},
    name::{Key, SubscriptionKey},
};

/// The map of definitions that other engines keep.
const MAP: &str = "broker/elsewhere";
/// How many definitions are read at a time.
const PAGE: usize = 256;

/// What other engines keep.
#[derive(Default)]
pub(super) struct Directory {
    pub(super) queues: HashMap<Key, Arc<ElsewhereQueue>>,
    pub(super) topics: HashMap<Key, Arc<ElsewhereTopic>>,
    pub(super) subscriptions: HashMap<SubscriptionKey, Arc<ElsewhereSubscription>>,
    /// Subscriptions of a space by their own name.
    pub(super) named: HashMap<Key, Arc<ElsewhereSubscription>>,
    /// Queues of dead letters, which their engine makes when it needs them.
    dead: HashMap<Key, Arc<ElsewhereQueue>>,
}

impl Directory {
    pub(super) fn queue(&self, key: &Key) -> Option<&Arc<ElsewhereQueue>> {
        self.queues.get(key).or_else(|| self.dead.get(key))
    }

    /// All queues, those of dead letters included.
    pub(super) fn queues(&self) -> impl Iterator<Item = &Arc<ElsewhereQueue>> {
        let dead = self.dead.iter().filter(|(key, _)| !self.queues.contains_key(*key));
        self.queues.values().chain(dead.map(|(_, queue)| queue))
    }

    pub(super) fn enter_queue(&mut self, queue: Arc<ElsewhereQueue>) {
        let dead = dead_key_of(&queue.options.read().dead_letter, &queue.key, &queue.key.name);
        self.enter_dead(dead, &queue.engine);
        self.queues.insert(queue.key.clone(), queue);
    }

    pub(super) fn enter_topic(&mut self, topic: Arc<ElsewhereTopic>) {
        self.topics.insert(topic.key.clone(), topic);
    }

    pub(super) fn enter_subscription(&mut self, of: Arc<ElsewhereSubscription>) {
        let dead = dead_key_of(&of.options.read().dead_letter, &of.key.topic, &of.key.name);
        self.enter_dead(dead, &of.engine);
        if let Ok(name) = of.key.topic.sibling(&of.key.name) {
            self.named.insert(name, Arc::clone(&of));
        }
        self.subscriptions.insert(of.key.clone(), of);
    }

    /// The queue of the dead letters of something. Names that have no room for one were refused before.
    fn enter_dead(&mut self, key: Result<Option<Key>>, engine: &Arc<dyn Engine>) {
        if let Ok(Some(key)) = key {
            let queue = Elsewhere::new(key.clone(), dead_queue_options(), engine, true);
            self.dead.entry(key).or_insert(queue);
        }
    }

    /// The subscriptions of a topic.
    pub(super) fn readers(&self, topic: &Key) -> Vec<SubscriptionKey> {
        self.subscriptions.keys().filter(|key| key.topic == *topic).cloned().collect()
    }

    /// Forgets a topic and its subscriptions.
    pub(super) fn forget_topic(&mut self, topic: &Key) {
        self.topics.remove(topic);
        self.subscriptions.retain(|key, _| key.topic != *topic);
        self.named.retain(|_, of| of.key.topic != *topic);
    }

    pub(super) fn forget_subscription(&mut self, key: &SubscriptionKey) {
        self.subscriptions.remove(key);
        self.named.retain(|_, of| of.key != *key);
    }
}

/// Opens the map, and finds again what the engines keep; `engine` is the one of a name.
pub(super) async fn load(
    broker: &Broker,
    engine: impl Fn(&str) -> Option<Arc<dyn Engine>>,
) -> Result<(MapId, Directory)> {
    let map = broker.store().create_map(MAP, MapOptions::default()).await?;
    let mut directory = Directory::default();
    let mut subscriptions = Vec::new();
    let mut after = None;
    loop {
        let page = broker.store().scan(map, b"", after.take(), PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (stored, value) in page {
            let what = String::from_utf8_lossy(&stored).into_owned();
            let find = |name: Option<&str>| {
                let found = name.and_then(&engine);
                if found.is_none() {
                    tracing::warn!(
                        definition = %what,
                        engine = name.unwrap_or_default(),
                        "the engine of this definition is not configured, so it cannot be used"
                    );
                }
                found
            };
            match decode(&what, &value.data)? {
                Definition::Queue { space, name, options } => {
                    let Some(engine) = find(options.engine.as_deref()) else { continue };
                    let key = Key::new(&space, &name)?;
                    directory.enter_queue(Elsewhere::new(key, *options, &engine, false));
                }
                Definition::Topic { space, name, options } => {
                    let Some(engine) = find(options.engine.as_deref()) else { continue };
                    let key = Key::new(&space, &name)?;
                    directory.enter_topic(Elsewhere::new(key, *options, &engine, false));
                }
                // Topics come after subscriptions in the map's order.
                Definition::Subscription { space, topic, name, options } => {
                    let topic = Key::new(&space, &topic)?;
                    subscriptions.push((SubscriptionKey::new(&topic, &name)?, *options));
                }
            }
        }
    }
    for (key, options) in subscriptions {
        // Without its topic its engine is not there, which was told.
        if let Some(topic) = directory.topics.get(&key.topic) {
            let of = Elsewhere::new(key, options, &topic.engine, false);
            directory.enter_subscription(of);
        }
    }
    Ok((map, directory))
}

/// The transaction that writes definitions.
pub(super) fn defining(
    map: MapId,
    definitions: impl IntoIterator<Item = (String, Definition)>,
) -> Result<Transaction> {
    definitions.into_iter().try_fold(
        Transaction::new(Durability::Fsync),
        |put, (stored, definition)| {
            Ok(put.put(map, stored, encode(&definition)?, ExpectValue::Any))
        },
    )
}

/// Takes definitions back, all at once.
pub(super) async fn undefine(
    broker: &Broker,
    map: MapId,
    stored: impl IntoIterator<Item = String>,
) -> Result<()> {
    let delete = stored.into_iter().fold(Transaction::new(Durability::Fsync), |delete, one| {
        delete.delete(map, one, ExpectValue::Any)
    });
    broker.store().commit(delete).await?;
    Ok(())
}

//! The broker on a store: what front-ends hold.
//!
//! [`Broker`] is a handle; clones share everything. Queues, topics and subscriptions are found by name
//! once ([`Broker::queue`], [`Broker::topic`], [`Broker::subscription`]) and then held. Maintenance
//! ([`Broker::maintain`]) does what is due; without it nothing expires, is retried or fires.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use weft_kernel::{Clock, Error, Reason, Result, Rng};
use weft_ledger::{
    ConsumerId, Durability, EmbeddedStore, ExpectValue, GroupId, MapId, MapOptions, Transaction,
};

use crate::{
    consume::Held,
    dead::DeadLetterRoute,
    forward::Forwarder,
    maintenance::Maintenance,
    name::{Key, SubscriptionKey},
    payload::PayloadCheck,
    request::Inbox,
    schedule::Schedules,
    source::{MessageSource, Queue, Subscription, Topic, WeakSource},
    suspect::Suspects,
    watch::DefinitionWatcher,
};

/// The broker; a handle that is cheap to clone.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

pub(crate) struct Inner {
    store: Arc<dyn EmbeddedStore>,
    clock: Arc<dyn Clock>,
    rng: Mutex<Rng>,
    pub(crate) maps: Maps,
    /// What ids of messages are keyed with.
    pub(crate) secret: u64,
    pub(crate) registry: RwLock<Registry>,
    /// Held by who declares or deletes, so that one change of definitions happens at a time.
    pub(crate) changing: Arc<tokio::sync::Mutex<()>>,
    pub(crate) route: OnceLock<Arc<dyn DeadLetterRoute>>,
    pub(crate) payload_check: OnceLock<Arc<dyn PayloadCheck>>,
    pub(crate) watchers: RwLock<Vec<Arc<dyn DefinitionWatcher>>>,
    /// Told when a subscription is declared.
    pub(crate) subscribed: Notify,
    next_consumer: AtomicU64,
    pub(crate) held: Mutex<HashMap<ConsumerId, Weak<Held>>>,
    pub(crate) maintenance: Mutex<Maintenance>,
    /// Told when maintenance has something new to do.
    pub(crate) stir: Notify,
    pub(crate) suspects: Suspects,
    pub(crate) inbox: Inbox,
    pub(crate) schedules: Mutex<Schedules>,
    /// Held for reading by who changes one schedule, until the store has taken it; and for writing while
    /// those of a configuration are put in force.
    pub(crate) scheduling: Arc<tokio::sync::RwLock<()>>,
    /// What maintenance consumes subscriptions with that lead to a queue.
    pub(crate) forwarders: tokio::sync::Mutex<Vec<Forwarder>>,
}

/// The broker's maps in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maps {
    pub(crate) definitions: MapId,
    pub(crate) schedules: MapId,
    pub(crate) parked: MapId,
    /// What has handed out something in a life that did not end in order.
    pub(crate) taken: MapId,
    /// What was decided about messages whose dead letters waited for room when a life ended in order.
    pub(crate) dead_letters_waiting: MapId,
}

/// What exists.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) queues: HashMap<Key, Arc<Queue>>,
    pub(crate) topics: HashMap<Key, Arc<Topic>>,
    pub(crate) subscriptions: HashMap<SubscriptionKey, Arc<Subscription>>,
    pub(crate) groups: HashMap<GroupId, WeakSource>,
    /// The subscriptions of a space by their own name.
    pub(crate) named: HashMap<Key, Arc<Subscription>>,
}

impl Broker {
    /// Opens the broker on a store and finds again what was declared.
    ///
    /// # Errors
    /// What the store says, and [`Reason::StorageCorrupt`] for a definition that cannot be read.
    pub async fn open(
        store: Arc<dyn EmbeddedStore>,
        clock: Arc<dyn Clock>,
        mut rng: Rng,
    ) -> Result<Self> {
        let maps = Maps {
            definitions: store.create_map("broker/definitions", MapOptions::default()).await?,
            schedules: store.create_map("broker/schedules", MapOptions::default()).await?,
            parked: store.create_map("broker/parked", MapOptions::default()).await?,
            taken: store.create_map("broker/taken", MapOptions::default()).await?,
            dead_letters_waiting: store
                .create_map("broker/dead_letters_waiting", MapOptions::default())
                .await?,
        };
        let secret = secret(&*store, maps.definitions, &mut rng).await?;
        let node = rng.next_u64();
        let broker = Self(Arc::new(Inner {
            store,
            clock,
            rng: Mutex::new(rng),
            maps,
            secret,
            registry: RwLock::default(),
            changing: Arc::default(),
            route: OnceLock::new(),
            payload_check: OnceLock::new(),
            watchers: RwLock::default(),
            subscribed: Notify::new(),
            next_consumer: AtomicU64::new(1),
            held: Mutex::default(),
            maintenance: Mutex::default(),
            stir: Notify::new(),
            suspects: Suspects::default(),
            inbox: Inbox::new(node),
            schedules: Mutex::default(),
            scheduling: Arc::default(),
            forwarders: tokio::sync::Mutex::default(),
        }));
        broker.load().await?;
        broker.load_suspects().await?;
        broker.load_dead_letters_waiting().await?;
        broker.load_schedules().await?;
        broker.begin_anew(broker.now_ms()).await?;
        Ok(broker)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The store beneath; for front-ends that keep definitions of their own in it.
    pub fn store(&self) -> &dyn EmbeddedStore {
        &*self.0.store
    }

    /// The store beneath, shared.
    pub fn shared_store(&self) -> Arc<dyn EmbeddedStore> {
        Arc::clone(&self.0.store)
    }

    /// The broker's clock.
    pub fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    /// The wall-clock time in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        let since = self.0.clock.wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// A generator of its own, so that nobody decides under a lock.
    pub(crate) fn rng(&self) -> Rng {
        Rng::seeded(self.0.rng.lock().next_u64())
    }

    pub(crate) fn next_consumer(&self) -> ConsumerId {
        ConsumerId(self.0.next_consumer.fetch_add(1, Ordering::Relaxed))
    }

    /// Says where messages go whose queue has a hook for its dead letters; once.
    ///
    /// # Errors
    /// [`Reason::DefinitionConflict`] when it was said before.
    pub fn set_dead_letter_route(&self, route: Arc<dyn DeadLetterRoute>) -> Result<()> {
        self.0.route.set(route).map_err(|_route| {
            Error::new(Reason::DefinitionConflict, "dead letters have a route already")
        })
    }

    /// The queue of a name.
    ///
    /// # Errors
    /// [`Reason::NoQueue`].
    pub fn queue(&self, key: &Key) -> Result<Arc<Queue>> {
        self.0
            .registry
            .read()
            .queues
            .get(key)
            .cloned()
            .ok_or_else(|| Error::new(Reason::NoQueue, format!("there is no queue {key}")))
    }

    /// The topic of a name.
    ///
    /// # Errors
    /// [`Reason::NoTopic`].
    pub fn topic(&self, key: &Key) -> Result<Arc<Topic>> {
        self.0
            .registry
            .read()
            .topics
            .get(key)
            .cloned()
            .ok_or_else(|| Error::new(Reason::NoTopic, format!("there is no topic {key}")))
    }

    /// The subscription of a name.
    ///
    /// # Errors
    /// [`Reason::NoSubscription`].
    pub fn subscription(&self, key: &SubscriptionKey) -> Result<Arc<Subscription>> {
        self.0.registry.read().subscriptions.get(key).cloned().ok_or_else(|| {
            Error::new(Reason::NoSubscription, format!("there is no subscription {key}"))
        })
    }

    /// A subscription of a space by its own name alone; the one declared last, if several have it.
    ///
    /// # Errors
    /// [`Reason::NoSubscription`].
    pub fn subscription_named(&self, key: &Key) -> Result<Arc<Subscription>> {
        self.0.registry.read().named.get(key).cloned().ok_or_else(|| {
            Error::new(Reason::NoSubscription, format!("there is no subscription {key}"))
        })
    }

    /// All queues, by name.
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        let mut all: Vec<_> = self.0.registry.read().queues.values().cloned().collect();
        all.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        all
    }

    /// All topics, by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        let mut all: Vec<_> = self.0.registry.read().topics.values().cloned().collect();
        all.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        all
    }

    /// All subscriptions, by topic and name.
    pub fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        let mut all: Vec<_> = self.0.registry.read().subscriptions.values().cloned().collect();
        all.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        all
    }

    /// The queue or subscription that a group belongs to.
    pub(crate) fn source_of(&self, group: GroupId) -> Option<MessageSource> {
        self.0.registry.read().groups.get(&group).and_then(WeakSource::upgrade)
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let registry = self.0.registry.read();
        f.debug_struct("Broker")
            .field("queues", &registry.queues.len())
            .field("topics", &registry.topics.len())
            .field("subscriptions", &registry.subscriptions.len())
            .finish_non_exhaustive()
    }
}

const SECRET: &[u8] = b"secret";

/// The secret of this store, made at the first opening.
async fn secret(store: &dyn EmbeddedStore, map: MapId, rng: &mut Rng) -> Result<u64> {
    for _ in 0..3 {
        if let Some(value) = store.get(map, SECRET).await? {
            let bytes: [u8; 8] = value.data.as_ref().try_into().map_err(|_error| {
                Error::new(Reason::StorageCorrupt, "the secret of message ids cannot be read")
            })?;
            return Ok(u64::from_le_bytes(bytes));
        }
        let bytes = Bytes::copy_from_slice(&rng.next_u64().to_le_bytes());
        let put = Transaction::new(Durability::Fsync).put(map, SECRET, bytes, ExpectValue::Absent);
        if let Err(refused) = store.commit(put).await
            && refused.error.reason() != Reason::VersionConflict
        {
            return Err(refused.into());
        }
    }
    Err(Error::new(Reason::VersionConflict, "somebody else opens this broker at the same time"))
}

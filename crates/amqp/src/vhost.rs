//! A virtual host: its exchanges and bindings, and the broker's queues as AMQP knows them.
//!
//! `/` is the broker's default space, so that queues of the configuration and of the HTTP API are there
//! under their own names; any other virtual host is the space of its name. Queues are the broker's;
//! exchanges and bindings are kept here, the durable ones in a map of the ledger. A change is written
//! before it is followed and before it is answered.
//!
//! Invariants: one change at a time; a route never leads to a queue that was deleted; the version moves
//! with every change of routes.

mod stored;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use weft_broker::{
    Broker, Key, Queue,
    engine::{AnyQueue, Capability, Engines},
};
use weft_kernel::{Reason, Result};
use weft_ledger::MapId;
use weft_wire::amqp::Table;

pub(crate) use crate::topology::Destination;
use crate::{
    arguments::{Arguments, Declared, message_bytes_max},
    fault::Fault,
    topology::{Binding, Definition, Matcher, Removed, Topology},
};

/// A queue as AMQP knows it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Arc<str>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) declared: Declared,
    pub(crate) arguments: Arguments,
    /// How many connections fetch from it at this moment.
    fetching: AtomicU32,
}

/// A connection fetches from a queue while this is there.
#[derive(Debug)]
pub(crate) struct Fetching(Arc<Entry>);

impl Entry {
    /// Begins to fetch.
    pub(crate) fn fetch(self: &Arc<Self>) -> Fetching {
        self.fetching.fetch_add(1, Ordering::AcqRel);
        Fetching(Arc::clone(self))
    }

    /// Whether anybody fetches from it.
    pub(crate) fn is_fetched(&self) -> bool {
        self.fetching.load(Ordering::Acquire) > 0
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.fetching.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A virtual host.
pub(crate) struct Vhost {
    pub(crate) name: Arc<str>,
    space: Arc<str>,
    engines: Engines,
    broker: Broker,
    map: MapId,
    message_bytes_max: u64,
    topology: RwLock<Topology>,
    queues: RwLock<HashMap<Arc<str>, Arc<Entry>>>,
    version: AtomicU64,
    /// Bindings and exchanges that went with a queue, and are to be erased yet.
    gone: Mutex<Vec<Removed>>,
    /// Held by who changes something.
    changing: tokio::sync::Mutex<()>,
}

impl Vhost {
    /// Opens a virtual host and finds again what was declared.
    pub(crate) async fn open(
        engines: &Engines,
        map: MapId,
        name: &str,
        message_bytes_max: u64,
    ) -> Result<Self> {
        let broker = engines.embedded();
        let space = if name == "/" { "" } else { name };
        let vhost = Self {
            name: name.into(),
            space: space.into(),
            engines: engines.clone(),
            broker: broker.clone(),
            map,
            message_bytes_max,
            topology: RwLock::new(stored::load(broker.store(), map, name).await?),
            queues: RwLock::default(),
            version: AtomicU64::new(1),
            gone: Mutex::default(),
            changing: tokio::sync::Mutex::new(()),
        };
        // Queues may have gone while nobody was there to take their bindings along.
        let bound = vhost.topology.read().bound_queues();
        for queue in bound {
            if vhost.entry(&queue).is_none() {
                vhost.forget_queue(&queue).await?;
            }
        }
        Ok(vhost)
    }

    /// Moves whenever routes may have changed.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    fn key(&self, queue: &str) -> Result<Key> {
        Ok(Key { space: Arc::clone(&self.space), ..Key::plain(queue)? })
    }

    /// Whether a queue of the broker is in this virtual host.
    pub(crate) fn owns(&self, key: &Key) -> bool {
        key.space == self.space
    }

    /// The queue of a name.
    pub(crate) fn entry(&self, name: &str) -> Option<Arc<Entry>> {
        if let Some(entry) = self.queues.read().get(name)
            && !entry.queue.is_deleted()
        {
            return Some(Arc::clone(entry));
        }
        let found = self.key(name).and_then(|key| self.broker.queue(&key)).ok();
        let mut queues = self.queues.write();
        let Some(queue) = found.filter(|queue| !queue.is_deleted()) else {
            queues.remove(name);
            return None;
        };
        if let Some(entry) = queues.get(name)
            && Arc::ptr_eq(&entry.queue, &queue)
        {
            return Some(Arc::clone(entry));
        }
        let declared = Declared::of_queue(&queue.options());
        let arguments = declared.arguments(name, &self.name).unwrap_or_default();
        let name: Arc<str> = name.into();
        let fetching = AtomicU32::new(0);
        let entry =
            Arc::new(Entry { name: Arc::clone(&name), queue, declared, arguments, fetching });
        queues.insert(name, Arc::clone(&entry));
        Some(entry)
    }

    /// The refusal of a queue that another engine keeps: transactions, exclusive queues and the order of
    /// confirms are of the embedded one.
    pub(crate) fn elsewhere(&self, name: &str) -> Option<Fault> {
        if !self.engines.has_others() {
            return None;
        }
        let AnyQueue::Other(queue) = self.engines.queue(&self.key(name).ok()?).ok()? else {
            return None;
        };
        let (vhost, engine, amqp) = (&self.name, queue.engine().name(), Capability::Amqp.word());
        Some(Fault::precondition(format_args!(
            "queue '{name}' in vhost '{vhost}' is kept by engine '{engine}', which does not have '{amqp}'"
        )))
    }

    /// That a queue is not there, or not for AMQP.
    fn absent(&self, name: &str) -> Fault {
        self.elsewhere(name).unwrap_or_else(|| Fault::no_queue(name, &self.name))
    }

    /// The queue of a name, if `owner` may use it.
    pub(crate) fn usable(&self, name: &str, owner: u64) -> Result<Arc<Entry>, Fault> {
        let entry = self.entry(name).ok_or_else(|| self.absent(name))?;
        match entry.queue.exclusive() {
            Some(of) if of != owner => Err(Fault::locked(name, &self.name)),
            _ => Ok(entry),
        }
    }

    /// Declares a queue, or finds it as it was declared before.
    pub(crate) async fn declare_queue(
        &self,
        name: &str,
        declared: Declared,
        owner: u64,
    ) -> Result<Arc<Entry>, Fault> {
        let _one = self.changing.lock().await;
        if self.entry(name).is_some() {
            let entry = self.usable(name, owner)?;
            if entry.declared.exclusive != declared.exclusive {
                return Err(Fault::locked(name, &self.name));
            }
            entry.declared.same(&declared, name, &self.name)?;
            self.touch(&entry).await;
            self.widen(&entry).await?;
            return Ok(entry);
        }
        if let Some(fault) = self.elsewhere(name) {
            return Err(fault);
        }
        let arguments = declared.arguments(name, &self.name)?;
        self.forget_queue(name).await?;
        self.erase_gone().await?;
        let owner = declared.exclusive.then_some(owner);
        let options = declared.options(&arguments, owner, self.message_bytes_max);
        self.broker.declare_queue(&self.key(name)?, options).await?;
        self.changed();
        self.entry(name).ok_or_else(|| Fault::no_queue(name, &self.name))
    }

    /// Lets a queue that was declared under another limit take messages as large as may be published now.
    async fn widen(&self, entry: &Entry) -> Result<(), Fault> {
        let mut options = entry.queue.options();
        let bytes_max = message_bytes_max(self.message_bytes_max);
        if !options.annotation.starts_with("amqp:") || options.message_bytes_max == bytes_max {
            return Ok(());
        }
        options.message_bytes_max = bytes_max;
        Ok(self.broker.alter_queue(entry.queue.key(), options).await?)
    }

    /// Notes that a queue was looked at, which puts off its expiry.
    pub(crate) async fn touch(&self, entry: &Entry) {
        if entry.arguments.expires.is_some() {
            // Declaring it as it is changes nothing but that; it may be gone by now.
            let _ = self.broker.declare_queue(entry.queue.key(), entry.queue.options()).await;
        }
    }

    /// Deletes a queue; its bindings go with it ([`Vhost::queue_deleted`]).
    pub(crate) async fn delete_queue(&self, entry: &Entry, owner: u64) -> Result<(), Fault> {
        match self.broker.delete_queue(entry.queue.key(), Some(owner)).await {
            Err(error) if error.reason() != Reason::NoQueue => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The broker has deleted a queue, for whomever. Its bindings go at once, so that the next queue of
    /// its name begins without; from the disk they go by [`Vhost::erase_deleted`].
    pub(crate) fn queue_deleted(&self, name: &str) {
        {
            let mut queues = self.queues.write();
            if queues.get(name).is_some_and(|entry| entry.queue.is_deleted()) {
                queues.remove(name);
            }
        }
        let removed = self.topology.write().forget_queue(name);
        self.changed();
        if removed != Removed::default() {
            self.gone.lock().push(removed);
        }
    }

    /// Erases what went with queues that were deleted.
    pub(crate) async fn erase_deleted(&self) -> Result<()> {
        if self.gone.lock().is_empty() {
            return Ok(());
        }
        let _one = self.changing.lock().await;
        self.erase_gone().await
    }

    /// As [`Vhost::erase_deleted`], for who changes something. What cannot be erased now is later.
    async fn erase_gone(&self) -> Result<()> {
        let gone = std::mem::take(&mut *self.gone.lock());
        for (at, removed) in gone.iter().enumerate() {
            // What was made anew meanwhile has an entry again.
            let left = self.topology.read().without(removed);
            if let Err(error) = self.erase(left).await {
                self.gone.lock().extend(gone.into_iter().skip(at));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes the bindings of a queue along that is gone.
    pub(crate) async fn queue_gone(&self, name: &str) -> Result<()> {
        let _one = self.changing.lock().await;
        if self.entry(name).is_none() {
            self.forget_queue(name).await?;
        }
        Ok(())
    }

    async fn forget_queue(&self, name: &str) -> Result<()> {
        let removed = self.topology.write().forget_queue(name);
        self.changed();
        self.erase(removed).await
    }

    async fn erase(&self, removed: Removed) -> Result<()> {
        stored::erase(self.broker.store(), self.map, &self.name, &removed).await
    }

    /// What an exchange was declared as.
    pub(crate) fn exchange(&self, name: &str) -> Option<Definition> {
        self.topology.read().get(name).cloned()
    }

    /// Declares an exchange that was not there; its caller has looked. Answers what is there now.
    pub(crate) async fn declare_exchange(
        &self,
        name: &str,
        definition: Definition,
    ) -> Result<Definition> {
        let _one = self.changing.lock().await;
        if let Some(there) = self.exchange(name) {
            return Ok(there);
        }
        if definition.durable {
            stored::put_exchange(self.broker.store(), self.map, &self.name, name, &definition)
                .await?;
        }
        self.topology.write().declare(name, definition.clone());
        self.changed();
        Ok(definition)
    }

    /// Deletes an exchange; `false` if it is in use and may only go unused.
    pub(crate) async fn delete_exchange(&self, name: &str, if_unused: bool) -> Result<bool> {
        let _one = self.changing.lock().await;
        let removed = {
            let mut topology = self.topology.write();
            if if_unused && topology.in_use(name) {
                return Ok(false);
            }
            topology.delete(name)
        };
        self.changed();
        self.erase(removed).await?;
        Ok(true)
    }

    /// Binds. The exchange and the destination were there a moment ago.
    pub(crate) async fn bind(
        &self,
        source: &str,
        binding: Binding,
        matcher: Option<Matcher>,
    ) -> Result<(), Fault> {
        let _one = self.changing.lock().await;
        let exchange =
            self.exchange(source).ok_or_else(|| Fault::no_exchange(source, &self.name))?;
        let mut bound = None;
        let durable = match &binding.to {
            Destination::Queue(name) => {
                let entry = self.entry(name).ok_or_else(|| self.absent(name))?;
                let durable = entry.declared.durable && !entry.declared.exclusive;
                bound = Some(entry);
                durable
            }
            Destination::Exchange(name) => {
                self.exchange(name).ok_or_else(|| Fault::no_exchange(name, &self.name))?.durable
            }
        };
        if exchange.durable && durable {
            stored::put_binding(self.broker.store(), self.map, &self.name, source, &binding)
                .await?;
        }
        self.topology.write().bind(source, binding.clone(), matcher);
        self.changed();
        // Its queue may have gone while the binding was being written.
        if let Some(entry) = bound.filter(|entry| entry.queue.is_deleted()) {
            let removed = self.topology.write().unbind(source, &binding);
            self.changed();
            self.erase(removed).await?;
            return Err(Fault::no_queue(&entry.name, &self.name));
        }
        Ok(())
    }

    /// Unbinds; nothing happens if there is no such binding.
    pub(crate) async fn unbind(&self, source: &str, binding: &Binding) -> Result<()> {
        let _one = self.changing.lock().await;
        let removed = self.topology.write().unbind(source, binding);
        self.changed();
        self.erase(removed).await
    }

    /// Appends the queues that a message reaches by its keys, each once. `false` if there is no such
    /// exchange. The default exchange, without a name, reaches the queues that the keys name.
    pub(crate) fn route(
        &self,
        exchange: &str,
        keys: &[&str],
        headers: Table<'_>,
        out: &mut Vec<Arc<Entry>>,
    ) -> bool {
        if exchange.is_empty() {
            let first = |at: usize| !keys[..at].contains(&keys[at]);
            let keys = keys.iter().enumerate().filter(|(at, _)| first(*at));
            out.extend(keys.filter_map(|(_, key)| self.entry(key)));
            return true;
        }
        let mut names = Vec::new();
        if !self.topology.read().route(exchange, keys, headers, &mut names) {
            return false;
        }
        out.extend(names.iter().filter_map(|name| self.entry(name)));
        true
    }

    /// Whether routes of an exchange cannot be told by the key alone.
    pub(crate) fn reads_headers(&self, exchange: &str) -> bool {
        self.topology.read().reads_headers(exchange)
    }
}

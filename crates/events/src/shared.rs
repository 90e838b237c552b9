//! Shared subscriptions: several consumers have the events of a stream, a category, a type, or of all, each event for
//! one of them, until it is done.
//!
//! Events stay where they are, in the log: a subscription is a row that says up to where they were handed out, and
//! which before that are not done. So it costs nothing for an event that it does not read, and what is not done of it
//! is bounded. What a consumer settles is on the disk when it is answered; what is lost by a crash is how often an event
//! was tried by consumers that went or hung, and nothing else.
//!
//! Groups of the ledger, on which subscriptions of topics stand, would have each subscription settle each event of the
//! log, whatever stream it is of; here a stream is read by its head, and the rest by the index.

mod core;
pub mod definition;
mod running;

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{
    Durability,
    options::MapOptions,
    record::Value,
    transaction::{ExpectValue, Op, Transaction},
};

use self::{
    core::{Core, Progress},
    running::{Maps, Running},
};
pub use self::{
    core::{Handed, MemberInfo},
    definition::{Definition, SharedName, Source, Strategy},
    running::{Consumer, GiveBack},
};
use crate::{
    event::Recorded,
    name::StreamName,
    row::{decode, encode},
    store::EventStore,
};

/// The most shared subscriptions of a store.
pub const SUBSCRIPTIONS_MAX: usize = 1_000;
/// Rows that are removed at once.
const ROWS: usize = 1_000;

/// Which events are wanted of what is read.
pub type Wanted = Arc<dyn Fn(&Recorded) -> bool + Send + Sync>;

/// The shared subscriptions of a store; a clone is a handle to the same.
#[derive(Clone)]
pub struct SharedSubscriptions(Arc<Inner>);

struct Inner {
    events: EventStore,
    maps: Maps,
    /// Those that are or were in use. Held while one is created, changed or deleted.
    running: tokio::sync::Mutex<HashMap<Bytes, Arc<Running>>>,
}

/// A shared subscription as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedInfo {
    /// Its name.
    pub name: SharedName,
    /// What it is.
    pub definition: Definition,
    /// The version or position before which all is done.
    pub done: u64,
    /// The version or position up to which events were read.
    pub read: u64,
    /// Events that were read and that nobody has.
    pub waiting: usize,
    /// Events that somebody has.
    pub held: usize,
    /// Events that are parked.
    pub parked: u64,
    /// Its consumers, in the order in which they came.
    pub consumers: Vec<MemberInfo>,
}

impl SharedSubscriptions {
    /// Opens those of a store of events, in its namespace.
    ///
    /// # Errors
    /// What the store says.
    pub async fn open(events: EventStore) -> Result<Self> {
        let store = &events.0.store;
        let maps = Maps {
            definitions: store.create_map("shared", MapOptions::default()).await?,
            progress: store.create_map("shared-progress", MapOptions::default()).await?,
            parked: store.create_map("shared-parked", MapOptions::default()).await?,
        };
        let running = tokio::sync::Mutex::default();
        Ok(Self(Arc::new(Inner { events, maps, running })))
    }

    /// Creates one.
    ///
    /// # Errors
    /// `definition_conflict` if it is there, `malformed_request` for one that cannot be or one too many.
    pub async fn create(&self, name: &SharedName, definition: &Definition) -> Result<()> {
        let _running = self.0.running.lock().await;
        definition.check()?;
        let (key, store) = (name.key(), &self.0.events.0.store);
        if store.get(self.0.maps.definitions, &key).await?.is_some() {
            let say = format!(
                "stream `{}` has a shared subscription `{}` already",
                name.stream, name.group
            );
            return Err(Error::new(Reason::DefinitionConflict, say));
        }
        let count = store.scan(self.0.maps.definitions, &[], None, SUBSCRIPTIONS_MAX).await?.len();
        if count >= SUBSCRIPTIONS_MAX {
            let say = "there are 1,000 shared subscriptions, which is the most there may be";
            return Err(Error::new(Reason::MalformedRequest, say));
        }
        let progress = encode(&Progress::from(definition.from))?;
        let transaction = Transaction::new(Durability::Fsync)
            .put(self.0.maps.definitions, key.clone(), encode(definition)?, ExpectValue::Absent)
            .put(self.0.maps.progress, key, progress, ExpectValue::Any);
        store.commit(transaction).await.map_err(|refused| refused.error)?;
        Ok(())
    }

    /// Changes how one hands out. It goes on from where it is; its consumers have to come again.
    ///
    /// # Errors
    /// `no_subscription` if it is not there, `malformed_request` for one that cannot be.
    pub async fn update(
        &self,
        name: &SharedName,
        change: impl FnOnce(Definition) -> Definition,
    ) -> Result<()> {
        let mut running = self.0.running.lock().await;
        let definition = change(self.definition(name).await?);
        definition.check()?;
        let key = name.key();
        self.stop(&mut running, &key, true).await?;
        let transaction = Transaction::new(Durability::Fsync).put(
            self.0.maps.definitions,
            key,
            encode(&definition)?,
            ExpectValue::Present,
        );
        self.commit(transaction).await
    }

    /// Deletes one, and what is parked of it.
    ///
    /// # Errors
    /// `no_subscription` if it is not there.
    pub async fn delete(&self, name: &SharedName) -> Result<()> {
        let mut running = self.0.running.lock().await;
        self.definition(name).await?;
        let (key, maps) = (name.key(), self.0.maps);
        self.stop(&mut running, &key, false).await?;
        let prefix = [&key[..], b"\0"].concat();
        loop {
            let store = &self.0.events.0.store;
            let rows = store.scan(maps.parked, &prefix, None, ROWS).await?;
            let mut transaction = Transaction::new(Durability::Fsync);
            let is_last = rows.len() < ROWS;
            for (key, _) in rows {
                let expect = ExpectValue::Any;
                transaction.ops.push(Op::Delete { map: maps.parked, key, expect });
            }
            if is_last {
                let transaction = transaction
                    .delete(maps.definitions, key.clone(), ExpectValue::Any)
                    .delete(maps.progress, key, ExpectValue::Any);
                return self.commit(transaction).await;
            }
            self.commit(transaction).await?;
        }
    }

    /// Those of a stream, or all, by name.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list(&self, stream: Option<&StreamName>) -> Result<Vec<SharedInfo>> {
        let prefix = SharedName::prefix(stream);
        let store = &self.0.events.0.store;
        let rows = store.scan(self.0.maps.definitions, &prefix, None, SUBSCRIPTIONS_MAX).await?;
        let mut all = Vec::with_capacity(rows.len());
        for (key, _) in rows {
            all.push(self.info(&SharedName::of_key(&key)?).await?);
        }
        Ok(all)
    }

    /// One as it stands.
    ///
    /// # Errors
    /// `no_subscription` if it is not there.
    pub async fn info(&self, name: &SharedName) -> Result<SharedInfo> {
        let known = self.0.running.lock().await.get(&name.key()).cloned();
        let info = |definition: &Definition, core: &Core| {
            let (waiting, held) = core.counts();
            SharedInfo {
                name: name.clone(),
                definition: definition.clone(),
                done: core.floor(),
                read: core.next,
                waiting,
                held,
                parked: core.parked,
                consumers: core.members().collect(),
            }
        };
        if let Some(known) = known {
            // What is told has happened, whatever happens next.
            known.store().await?;
            return Ok(known.with(|core| info(&known.definition, core)));
        }
        let definition = self.definition(name).await?;
        let progress = self.progress(&name.key()).await?;
        Ok(info(&definition, &Core::new(&definition, &progress)))
    }

    /// Has parked events handed out again, at most so many.
    ///
    /// # Errors
    /// `no_subscription` if it is not there.
    pub async fn replay(
        &self,
        name: &SharedName,
        most: Option<u64>,
        wanted: impl FnOnce(&Definition) -> Result<Option<Wanted>>,
    ) -> Result<()> {
        let running = self.running(name, wanted).await?;
        running.with(|core| {
            core.replay = core.parked.min(most.unwrap_or(u64::MAX));
            core.version += 1;
        });
        running.store().await?;
        running.wake();
        Ok(())
    }

    /// Joins one as a consumer that takes so many events at once. Which events are wanted is made of its definition, by
    /// the first that comes.
    ///
    /// # Errors
    /// `no_subscription` if it is not there, `conflict` if it has its most consumers.
    pub async fn join(
        &self,
        name: &SharedName,
        room: usize,
        wanted: impl FnOnce(&Definition) -> Result<Option<Wanted>>,
    ) -> Result<Consumer> {
        Consumer::join(self.running(name, wanted).await?, room)
    }

    async fn running(
        &self,
        name: &SharedName,
        wanted: impl FnOnce(&Definition) -> Result<Option<Wanted>>,
    ) -> Result<Arc<Running>> {
        let mut running = self.0.running.lock().await;
        let key = name.key();
        if let Some(known) = running.get(&key) {
            return Ok(Arc::clone(known));
        }
        let definition = self.definition(name).await?;
        let (progress, wanted) = (self.progress(&key).await?, wanted(&definition)?);
        let (events, maps) = (self.0.events.clone(), self.0.maps);
        let made = Running::of(key.clone(), definition, &progress, events, maps, wanted)?;
        let made = Arc::new(made);
        running.insert(key, Arc::clone(&made));
        Ok(made)
    }

    /// Ends one that is in use, if it is; what it has not stored is stored first if it is to go on.
    async fn stop(
        &self,
        running: &mut HashMap<Bytes, Arc<Running>>,
        key: &Bytes,
        goes_on: bool,
    ) -> Result<()> {
        let Some(known) = running.get(key).cloned() else { return Ok(()) };
        if goes_on {
            known.store().await?;
        }
        // Whoever stores is waited for, and nobody does after it.
        let stored = known.storing.lock().await;
        known.end();
        running.remove(key);
        drop(stored);
        Ok(())
    }

    async fn definition(&self, name: &SharedName) -> Result<Definition> {
        let row = self.0.events.0.store.get(self.0.maps.definitions, &name.key()).await?;
        let Some(row) = row else {
            let say =
                format!("stream `{}` has no shared subscription `{}`", name.stream, name.group);
            return Err(Error::new(Reason::NoSubscription, say));
        };
        decode(&row.data)
    }

    async fn progress(&self, key: &[u8]) -> Result<Progress> {
        let row: Option<Value> = self.0.events.0.store.get(self.0.maps.progress, key).await?;
        row.map_or_else(|| Ok(Progress::default()), |row| decode(&row.data))
    }

    async fn commit(&self, transaction: Transaction) -> Result<()> {
        self.0.events.0.store.commit(transaction).await.map_err(|refused| refused.error)?;
        Ok(())
    }
}

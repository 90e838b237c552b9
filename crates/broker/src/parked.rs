//! Parked keys: once a message of a key is dead, what comes of it follows to the dead letters.
//!
//! A key is parked while a dead letter of it is there. Whoever deals with the last one (takes it, deletes
//! it, sends it elsewhere, lets it expire) frees the key; a redrive frees it with the first one that it
//! sends back. Which keys are parked is kept in a map of the store. Where their dead letters are is kept in
//! memory, no more than there are, and found again after a restart by looking through them once.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ops::Range,
    time::Duration,
};

use bytes::Bytes;
use weft_kernel::{Reason, Result, Tick};
use weft_ledger::{
    Appended, Durability, EmbeddedStore, ExpectValue, GroupId, Limits, Op, ReadItem, Transaction,
};

use crate::{
    broker::Broker, consume::open, message::DeadLetterSource, publish::PublishTarget,
    source::MessageSource,
};

/// How long a key stays parked at most once its last dead letter was dealt with.
const LOOK: Duration = Duration::from_secs(1);
/// How many keys are freed in one transaction.
const AT_ONCE: usize = 256;

/// Where a dead letter is: the group of its queue, and its position there.
type Place = (GroupId, u64);

/// The parked keys of a queue or subscription.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    keys: HashMap<Bytes, Dead>,
    /// Whether dead letters of an earlier life are still to be found.
    unknown: bool,
    /// How the groups of the dead letters stood at the last look: the position below which all is settled,
    /// and how many are above it.
    stood: HashMap<GroupId, Option<(u64, u64)>>,
    /// Whether keys came or dead letters were added since.
    changed: bool,
}

/// The dead letters of one key.
#[derive(Debug, Default)]
pub(crate) struct Dead {
    /// The oldest first; those that were dealt with behind an older one are among them.
    places: VecDeque<Place>,
    /// How many transactions are on their way that may add one.
    coming: u32,
    /// Whether the store knows that the key is parked.
    stored: bool,
}

impl Parked {
    /// Whether a key is parked.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key)
    }

    /// How many keys are parked.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys.
    pub(crate) fn keys(&self) -> HashSet<Bytes> {
        self.keys.keys().cloned().collect()
    }

    /// Takes a key out; what puts it back.
    pub(crate) fn take(&mut self, key: &[u8]) -> Option<Dead> {
        self.keys.remove(key)
    }

    /// Puts a key back that was taken out.
    pub(crate) fn put_back(&mut self, key: Bytes, mut dead: Dead) {
        let now = self.keys.entry(key).or_default();
        dead.places.append(&mut now.places);
        dead.coming += now.coming;
        *now = dead;
        self.changed = true;
    }

    /// Notes dead letters of a key, if it is parked.
    pub(crate) fn note(&mut self, key: &[u8], places: impl IntoIterator<Item = Place>) {
        if let Some(dead) = self.keys.get_mut(key) {
            dead.places.extend(places);
            self.changed = true;
        }
    }

    /// The keys whose dead letters have all been dealt with, if that can have changed since the last time.
    fn dealt_with(&mut self, store: &dyn EmbeddedStore) -> Vec<Bytes> {
        if self.unknown {
            return Vec::new();
        }
        let mut stand = HashMap::new();
        for (group, _) in self.keys.values().filter_map(|dead| dead.places.front()) {
            stand.entry(*group).or_insert_with(|| {
                store.group_stats_now(*group).ok().map(|group| (group.low, group.done_above))
            });
        }
        if !self.changed && stand == self.stood {
            return Vec::new();
        }
        let mut free = Vec::new();
        for (key, dead) in &mut self.keys {
            while let Some((group, position)) = dead.places.front()
                && !store.holds_now(*group, *position)
            {
                dead.places.pop_front();
            }
            if dead.places.is_empty() && dead.coming == 0 {
                free.push(key.clone());
            }
        }
        self.stood = stand;
        self.changed = false;
        free
    }
}

/// The keys that a transaction parks. They are known before it is submitted, so that nothing of them is
/// handed out between, and forgotten if nothing comes of it.
pub(crate) struct Parking<'a> {
    broker: &'a Broker,
    pub(crate) source: &'a MessageSource,
    /// With which of what the transaction appends are dead letters of the key.
    keys: Vec<(Bytes, Range<usize>)>,
}

impl<'a> Parking<'a> {
    pub(crate) fn new(broker: &'a Broker, source: &'a MessageSource) -> Self {
        Self { broker, source, keys: Vec::new() }
    }

    /// Parks a key; `appends` says which of what is appended are dead letters of it.
    pub(crate) fn park(&mut self, key: &Bytes, appends: Range<usize>) {
        self.source.parked().lock().keys.entry(key.clone()).or_default().coming += 1;
        self.keys.push((key.clone(), appends));
    }

    /// The transaction takes place: these are its targets, and what was appended to them.
    pub(crate) fn keep(mut self, targets: &[(PublishTarget, u32)], appended: &[Appended]) {
        if self.keys.is_empty() {
            return;
        }
        let mut parked = self.source.parked().lock();
        for (key, appends) in self.keys.drain(..) {
            // It may have been freed meanwhile.
            let dead = parked.keys.entry(key).or_default();
            dead.coming = dead.coming.saturating_sub(1);
            dead.stored = true;
            dead.places.extend(places(targets, appended, appends));
        }
        parked.changed = true;
        drop(parked);
        self.broker.watch_parked(self.source);
    }
}

impl Drop for Parking<'_> {
    fn drop(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        let mut parked = self.source.parked().lock();
        for (key, _) in self.keys.drain(..) {
            let Some(dead) = parked.keys.get_mut(&key) else { continue };
            dead.coming = dead.coming.saturating_sub(1);
            if dead.coming == 0 && !dead.stored {
                parked.keys.remove(&key);
            }
        }
        parked.changed = true;
    }
}

/// Where those of what was appended are that went to queues.
pub(crate) fn places<'a>(
    targets: &'a [(PublishTarget, u32)],
    appended: &'a [Appended],
    which: Range<usize>,
) -> impl Iterator<Item = Place> + 'a {
    let all = targets.iter().zip(appended).skip(which.start).take(which.len());
    all.filter_map(|((target, _), appended)| match target {
        PublishTarget::Queue(queue) => Some((queue.group, appended.position)),
        PublishTarget::Topic(_) => None,
    })
}

impl Broker {
    /// Has maintenance free the parked keys of a source once their dead letters are dealt with.
    fn watch_parked(&self, source: &MessageSource) {
        let weak = source.downgrade();
        let mut maintenance = self.inner().maintenance.lock();
        if !maintenance.parked.iter().any(|other| other.same(&weak)) {
            maintenance.parked.push(weak);
            drop(maintenance);
            self.inner().stir.notify_one();
        }
    }

    /// Frees the keys whose dead letters have all been dealt with; says when to look again.
    ///
    /// # Errors
    /// The first error; the other sources are seen to all the same.
    pub(crate) async fn free_parked(&self) -> Result<Option<Tick>> {
        let now = self.clock().now();
        let sources = {
            let mut maintenance = self.inner().maintenance.lock();
            if maintenance.parked.is_empty() {
                return Ok(None);
            }
            if now < maintenance.parked_at {
                return Ok(Some(maintenance.parked_at));
            }
            maintenance.parked_at = now.plus(LOOK);
            maintenance.parked.clone()
        };
        let mut done = Ok(());
        for source in sources.iter().filter_map(|weak| weak.upgrade()) {
            done = done.and(self.free(&source).await);
        }
        let mut maintenance = self.inner().maintenance.lock();
        maintenance.parked.retain(|weak| {
            weak.upgrade().is_some_and(|source| {
                !source.usage().is_deleted() && source.parked().lock().len() > 0
            })
        });
        done.map(|()| (!maintenance.parked.is_empty()).then_some(maintenance.parked_at))
    }

    async fn free(&self, source: &MessageSource) -> Result<()> {
        let unknown = source.parked().lock().unknown;
        if unknown {
            self.find_dead(source).await?;
        }
        while let Some(error) = self.free_now(source) {
            if error.reason() != Reason::StorageBusy {
                return Err(error);
            }
            self.room().await;
        }
        Ok(())
    }

    /// Frees what is to be freed, as far as the store takes it.
    fn free_now(&self, source: &MessageSource) -> Option<weft_kernel::Error> {
        // Held meanwhile, so that a key that is parked again is parked behind this.
        let mut parked = source.parked().lock();
        for keys in parked.dealt_with(self.store()).chunks(AT_ONCE) {
            let mut free = Transaction::new(Durability::Fsync);
            free.ops.extend(keys.iter().map(|key| self.unparking(source, key)));
            if let Err(refused) = self.store().submit_now(free) {
                parked.changed = true;
                return Some(refused.error);
            }
            for key in keys {
                parked.keys.remove(key);
            }
        }
        None
    }

    /// Finds the dead letters of parked keys that died in an earlier life.
    async fn find_dead(&self, source: &MessageSource) -> Result<()> {
        let mut from = 0;
        while let Ok(dead) = self.dead_letters(source) {
            let page = self.store().peek(dead.group, from, Limits::default()).await?;
            let Some((last, _)) = page.last() else { break };
            from = last.position + 1;
            let mut parked = source.parked().lock();
            for (_, item) in page {
                let ReadItem::Record(record) = item else { continue };
                if !parked.contains(&record.key) {
                    continue;
                }
                let death = open(&record).death();
                if death.is_some_and(|death| is_of(&death.origin, source)) {
                    parked.note(&record.key, [(dead.group, record.position)]);
                }
            }
        }
        let mut parked = source.parked().lock();
        for dead in parked.keys.values_mut() {
            // Those that have died meanwhile were found as well.
            let mut places = Vec::from(std::mem::take(&mut dead.places));
            places.sort_unstable();
            places.dedup();
            dead.places = places.into();
        }
        parked.unknown = false;
        parked.changed = true;
        Ok(())
    }

    /// Finds again which keys are parked.
    pub(crate) async fn load_parked(&self) -> Result<()> {
        let sources: Vec<MessageSource> = self
            .queues()
            .into_iter()
            .map(MessageSource::Queue)
            .chain(self.subscriptions().into_iter().map(MessageSource::Subscription))
            .filter(|source| source.policy().parks)
            .collect();
        for source in sources {
            let keys = self.stored_parked(&source).await?;
            if keys.is_empty() {
                continue;
            }
            let known = |key| (key, Dead { stored: true, ..Dead::default() });
            let keys = keys.into_iter().map(known).collect();
            *source.parked().lock() = Parked { keys, unknown: true, ..Parked::default() };
            self.watch_parked(&source);
        }
        Ok(())
    }

    async fn stored_parked(&self, source: &MessageSource) -> Result<Vec<Bytes>> {
        let prefix = parked_prefix(source);
        let map = self.inner().maps.parked;
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let page = self.store().scan(map, &prefix, after, 256).await?;
            let Some((last, _)) = page.last() else { return Ok(keys) };
            after = Some(last.clone());
            keys.extend(page.iter().map(|(entry, _)| entry.slice(prefix.len()..)));
        }
    }

    /// The keys of a queue or subscription whose messages go to the dead letters, because one of them is
    /// there.
    pub fn parked_keys(&self, source: &MessageSource) -> Vec<Bytes> {
        let mut keys: Vec<Bytes> = source.parked().lock().keys.keys().cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// Forgets the parked keys of what was deleted.
    pub(crate) async fn forget_parked(&self, source: &MessageSource) -> Result<()> {
        if !source.policy().parks {
            return Ok(());
        }
        for key in self.stored_parked(source).await? {
            let forget = Transaction::new(Durability::Fsync).with(self.unparking(source, &key));
            self.store().commit(forget).await?;
        }
        Ok(())
    }

    /// What parks a key in the store.
    pub(crate) fn parks(&self, source: &MessageSource, key: &[u8]) -> Op {
        Op::Put {
            map: self.inner().maps.parked,
            key: parked_key(source, key),
            value: Bytes::from_static(b"1"),
            expires_ms: 0,
            expect: ExpectValue::Any,
        }
    }

    /// What frees a key in the store.
    pub(crate) fn unparking(&self, source: &MessageSource, key: &[u8]) -> Op {
        Op::Delete {
            map: self.inner().maps.parked,
            key: parked_key(source, key),
            expect: ExpectValue::Any,
        }
    }
}

/// Whether a dead letter came from a source.
fn is_of(origin: &DeadLetterSource, source: &MessageSource) -> bool {
    match (origin, source) {
        (DeadLetterSource::Queue(key), MessageSource::Queue(queue)) => *key == queue.key,
        (DeadLetterSource::Subscription(key, _), MessageSource::Subscription(subscription)) => {
            *key == subscription.key
        }
        _ => false,
    }
}

/// The entry of a parked key in the map of them.
fn parked_key(source: &MessageSource, key: &[u8]) -> Bytes {
    let mut entry = parked_prefix(source);
    entry.extend_from_slice(key);
    entry.into()
}

/// What the entries of a source's parked keys begin with.
fn parked_prefix(source: &MessageSource) -> Vec<u8> {
    let mut prefix = source.stored_name().into_bytes();
    // Names hold no NUL.
    prefix.push(0);
    prefix
}

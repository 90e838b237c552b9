//! A shared subscription that is in use: what its consumers do to its state, and what of that is stored.
//!
//! Nothing runs by itself: consumers that wait read ahead, end leases and store, one at a time. A consumer that is
//! dropped at any moment leaves nothing undone that another would not do.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Duration, Instant},
};
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{
    Durability,
    record::MapId,
    store::until_seen,
    transaction::{ExpectValue, Op, Transaction},
};

use super::{
    Wanted,
    core::{Core, Handed, Progress},
    definition::{Definition, Source},
};
use crate::{
    event::Recorded,
    name::StreamName,
    query::{EventQuery, QueryItem},
    read::{Direction, PageLimits},
    row::encode,
    store::{EventStore, Tail},
};

/// Parked events that are looked up at once.
const UNPARKED: usize = 256;

/// What is followed.
enum Followed {
    All,
    Stream(StreamName),
    Matching(EventQuery),
}

impl Followed {
    fn of(source: &Source) -> Result<Self> {
        let matching = |item| EventQuery::new(vec![item]).map(Self::Matching);
        match source {
            Source::All => Ok(Self::All),
            Source::Stream(name) => StreamName::new(name).map(Self::Stream),
            Source::Category(category) => {
                matching(QueryItem { category: Some(category.clone()), ..QueryItem::default() })
            }
            Source::Type(kind) => {
                matching(QueryItem { types: vec![kind.clone()], ..QueryItem::default() })
            }
        }
    }
}

/// Maps of a store that shared subscriptions are in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maps {
    pub(super) definitions: MapId,
    pub(super) progress: MapId,
    pub(super) parked: MapId,
}

pub(super) struct Running {
    pub(super) key: Bytes,
    pub(super) definition: Definition,
    events: EventStore,
    maps: Maps,
    followed: Followed,
    wanted: Option<Wanted>,
    core: Mutex<Core>,
    /// Held by who reads ahead.
    filling: tokio::sync::Mutex<()>,
    /// Held by who stores, with the version that is stored.
    pub(super) storing: tokio::sync::Mutex<u64>,
    changed: Notify,
    has_ended: AtomicBool,
    begun: Instant,
    ids: Mutex<u64>,
}

impl Running {
    pub(super) fn of(
        key: Bytes,
        definition: Definition,
        progress: &Progress,
        events: EventStore,
        maps: Maps,
        wanted: Option<Wanted>,
    ) -> Result<Self> {
        Ok(Self {
            key,
            followed: Followed::of(&definition.source)?,
            core: Mutex::new(Core::new(&definition, progress)),
            definition,
            events,
            maps,
            wanted,
            filling: tokio::sync::Mutex::default(),
            storing: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            has_ended: AtomicBool::new(false),
            begun: Instant::now(),
            ids: Mutex::new(0),
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Looks at the state, and changes it.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Core) -> T) -> T {
        change(&mut self.core.lock())
    }

    /// Ends it for its consumers; nothing is stored any more.
    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(super) fn wake(&self) {
        self.changed.notify_waiters();
    }

    fn check(&self) -> Result<()> {
        if self.has_ended.load(Ordering::Acquire) {
            let say = "the shared subscription was changed or deleted";
            return Err(Error::new(Reason::NoSubscription, say));
        }
        Ok(())
    }

    /// Stores what has changed. On return it is on the disk.
    pub(super) async fn store(&self) -> Result<()> {
        let mut stored = self.storing.lock().await;
        self.check()?;
        let (version, progress, parking, unparking) = {
            let mut core = self.core.lock();
            if core.version <= *stored {
                return Ok(());
            }
            (core.version, core.progress(), core.parking.clone(), core.unparking.clone())
        };
        let map = self.maps.parked;
        let mut transaction = Transaction::new(Durability::Fsync).put(
            self.maps.progress,
            self.key.clone(),
            encode(&progress)?,
            ExpectValue::Any,
        );
        for place in &unparking {
            let (key, expect) = (parked_key(&self.key, *place), ExpectValue::Any);
            transaction.ops.push(Op::Delete { map, key, expect });
        }
        for (place, why) in &parking {
            let (key, value) = (parked_key(&self.key, *place), encode(why)?);
            let expect = ExpectValue::Any;
            transaction.ops.push(Op::Put { map, key, value, expires_ms: 0, expect });
        }
        self.events.0.store.commit(transaction).await.map_err(|refused| refused.error)?;
        *stored = version;
        let mut core = self.core.lock();
        core.is_owing &= core.version != version;
        core.parking.retain(|parked| !parking.contains(parked));
        core.unparking.retain(|place| !unparking.contains(place));
        Ok(())
    }

    /// Reads ahead what is wanted; whether anything has come.
    async fn fill(&self, tail: Tail) -> Result<bool> {
        let (unread, replay) = self.with(|core| (core.unread(), core.replay));
        if !unread.is_empty() {
            for place in unread {
                let event = self.one(place).await?;
                self.with(|core| core.read_again(place, event));
            }
            return Ok(true);
        }
        if replay > 0 && self.with(|core| core.wants()) > 0 {
            return self.unpark(replay).await.map(|()| true);
        }
        let (wants, from, upto) = self.with(|core| (core.wants(), core.next, core.looked_upto));
        if wants == 0 || upto >= tail.next {
            return Ok(false);
        }
        until_seen(&*self.events.0.store, tail.seen).await?;
        let limits = PageLimits { events: wants, bytes: 1 << 20, ..PageLimits::default() };
        let (events, next) = self.page(from, limits).await?;
        let is_more = next > from;
        let wanted = |event: &Recorded| self.wanted.as_ref().is_none_or(|wanted| wanted(event));
        let is_by_version = matches!(self.followed, Followed::Stream(_));
        let place = |event: &Recorded| if is_by_version { event.version } else { event.position };
        let events = events.into_iter().filter(wanted).map(|event| (place(&event), event));
        let events = events.collect();
        self.with(|core| {
            core.read(events, next);
            if !is_more {
                core.looked_upto = tail.next;
            }
        });
        Ok(is_more)
    }

    /// Events from a place on, and the place to go on with.
    async fn page(&self, from: u64, limits: PageLimits) -> Result<(Vec<Recorded>, u64)> {
        let events = match &self.followed {
            Followed::All => self.events.read_all(from, Direction::Forward, limits).await?.events,
            Followed::Matching(query) => {
                let (page, end) = self.events.0.find_forward(query, from, limits).await?;
                if page.next.is_none() {
                    return Ok((page.events, end.max(from)));
                }
                page.events
            }
            Followed::Stream(name) => {
                if self.events.stream(name).await?.is_none_or(|info| info.next <= from) {
                    return Ok((Vec::new(), from));
                }
                let page = self.events.read(name, from, Direction::Forward, limits).await;
                let events = found(page.map(|page| page.events))?.unwrap_or_default();
                let next = events.last().map_or(from, |last| last.version + 1);
                return Ok((events, next));
            }
        };
        let next = events.last().map_or(from, |last| last.position + 1);
        Ok((events, next))
    }

    /// The event at a place, if it is still there.
    async fn one(&self, place: u64) -> Result<Option<Recorded>> {
        let limits = PageLimits { events: 1, before: place + 1, ..PageLimits::default() };
        let page = match &self.followed {
            Followed::Stream(name) => {
                self.events.read(name, place, Direction::Forward, limits).await
            }
            _ => self.events.read_all(place, Direction::Forward, limits).await,
        };
        Ok(found(page)?.and_then(|page| page.events.into_iter().next()))
    }

    /// Has some parked events handed out again.
    async fn unpark(&self, count: u64) -> Result<()> {
        self.store().await?;
        let prefix = [&self.key[..], b"\0"].concat();
        let count = usize::try_from(count).unwrap_or(UNPARKED).min(UNPARKED);
        let rows = self.events.0.store.scan(self.maps.parked, &prefix, None, count).await?;
        let place = |(key, _): &(Bytes, _)| key.last_chunk().map(|last| u64::from_be_bytes(*last));
        self.with(|core| {
            if rows.is_empty() {
                core.replay = 0;
            }
            core.unpark(rows.iter().filter_map(place));
        });
        self.store().await
    }
}

fn found<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.reason() == Reason::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The key of the row of a parked event.
pub(super) fn parked_key(key: &[u8], place: u64) -> Bytes {
    [key, b"\0", &place.to_be_bytes()].concat().into()
}

/// What becomes of an event that a consumer could not deal with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GiveBack {
    /// It is handed out again, and parked if that was tried too often.
    Retry(String),
    /// It is handed out again, and that it was does not count.
    Untried,
    /// It is parked.
    Park(String),
}

/// A consumer of a shared subscription. Who drops it gives back what it has.
pub struct Consumer {
    running: Arc<Running>,
    id: u64,
    tail: watch::Receiver<Tail>,
}

impl Consumer {
    pub(super) fn join(running: Arc<Running>, room: usize) -> Result<Self> {
        running.check()?;
        let id = {
            let mut ids = running.ids.lock();
            *ids += 1;
            *ids
        };
        let (now_ms, most) = (running.now_ms(), running.definition.consumers_max());
        running.with(|core| {
            if core.members().count() >= most {
                let say = format!("the shared subscription has {most} consumers already");
                return Err(Error::new(Reason::Conflict, say));
            }
            core.join(id, room, now_ms);
            Ok(())
        })?;
        running.wake();
        let tail = running.events.0.tail();
        Ok(Self { running, id, tail })
    }

    /// Waits until there is something to [`take`](Self::take). Cancel-safe.
    ///
    /// # Errors
    /// `no_subscription` once the subscription was changed or deleted, and what the store says.
    pub async fn ready(&mut self) -> Result<()> {
        let running = Arc::clone(&self.running);
        loop {
            // Listened for before it is looked at: what comes after that wakes.
            let changed = running.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let tail = *self.tail.borrow_and_update();
            running.check()?;
            if self.step().await? {
                return Ok(());
            }
            {
                let filling = running.filling.lock().await;
                if self.step().await? {
                    return Ok(());
                }
                if running.fill(tail).await? {
                    drop(filling);
                    self.step().await?;
                    running.wake();
                    continue;
                }
            }
            let due = running.with(|core| core.next_due());
            let until = due.and_then(|due| running.begun.checked_add(Duration::from_millis(due)));
            tokio::select! {
                () = &mut changed => {}
                Ok(()) = self.tail.changed() => {}
                () = async {
                    match until {
                        Some(until) => tokio::time::sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    /// Goes a step on; whether there is something for this consumer.
    async fn step(&self) -> Result<bool> {
        let now_ms = self.running.now_ms();
        let (has, is_owing) = self.running.with(|core| {
            core.step(now_ms);
            (core.has(self.id), core.is_owing)
        });
        if is_owing {
            self.running.store().await?;
            self.running.wake();
        }
        Ok(has)
    }

    /// The subscription that it is of.
    pub fn definition(&self) -> &Definition {
        &self.running.definition
    }

    /// The next event for it.
    pub fn take(&mut self) -> Option<Handed> {
        self.running.with(|core| core.take(self.id))
    }

    /// Whether an event is not done.
    pub fn waits(&self, place: u64) -> bool {
        self.running.with(|core| core.waits(place))
    }

    /// Events are done. On return that is on the disk.
    ///
    /// # Errors
    /// What the store says.
    pub async fn accept(&self, places: &[u64]) -> Result<()> {
        self.settle(|core| places.iter().for_each(|place| core.done(*place))).await
    }

    /// Events are not dealt with. On return that is on the disk.
    ///
    /// # Errors
    /// What the store says.
    pub async fn give_back(&self, places: &[u64], how: &GiveBack) -> Result<()> {
        self.settle(|core| {
            for place in places {
                match how {
                    GiveBack::Retry(why) => core.give_back(*place, true, why),
                    GiveBack::Untried => core.give_back(*place, false, ""),
                    GiveBack::Park(why) => core.park(*place, why),
                }
            }
        })
        .await
    }

    async fn settle(&self, change: impl FnOnce(&mut Core)) -> Result<()> {
        self.running.check()?;
        self.running.with(change);
        self.running.wake();
        self.running.store().await
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let now_ms = self.running.now_ms();
        self.running.with(|core| core.leave(self.id, now_ms));
        self.running.wake();
    }
}

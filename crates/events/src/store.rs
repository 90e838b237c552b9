//! The store of events: what is appended and changed.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::watch;
use weft_kernel::{Error, Reason, Result, Rng};
use weft_ledger::{
    Durability, EmbeddedStore, Transaction,
    options::{LogOptions, MapOptions},
    record::{LogId, MapId, Value},
    store::{room, until_durable, until_seen},
    transaction::{ExpectValue, Receipt, Seen as SeenAt},
};

use crate::{
    append::{Append, AppendBatch, AppendReceipt, Conflict, Expected, Matched, Rejected},
    event::identity,
    head::{Head, Life},
    index::{EPOCH, Recent, UPTO},
    name::StreamName,
    order::{Order, Seen},
    query::AppendCondition,
    read::PageLimits,
    row::{decode, encode},
    submit::{Knowledge, Tried},
};

/// Events that a conflict shows, and how much of them.
const SHOWN: PageLimits = PageLimits { events: 16, bytes: 1 << 20, before: u64::MAX };

/// Holds events to what they must be, whoever knows that: a seam, since streams know no schemas.
pub trait EventCheck: Send + Sync {
    /// Holds an event to what its type asks for. Must be quick and must not wait.
    ///
    /// # Errors
    /// Why it is refused, such as [`Reason::SchemaMismatch`].
    fn check(&self, event: &weft_broker::Message) -> Result<()>;
}

/// All events of a store; a clone is a handle to the same.
#[derive(Clone)]
pub struct EventStore(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn EmbeddedStore>,
    pub(crate) log: LogId,
    pub(crate) heads: MapId,
    pub(crate) chunks: MapId,
    /// What is to be removed of streams.
    pub(crate) waste: MapId,
    /// Where events of a category, type, correlation id or tag are.
    pub(crate) index: MapId,
    /// What this history of events is told apart by from those of other stores.
    pub(crate) epoch: u64,
    pub(crate) order: Mutex<Order>,
    /// Held by who removes events: two may have something in one row of the index.
    pub(crate) removing: tokio::sync::Mutex<()>,
    /// What was appended last.
    pub(crate) tail: watch::Sender<Tail>,
    check: OnceLock<Arc<dyn EventCheck>>,
}

/// The end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The position of the next event.
    pub(crate) next: u64,
    /// When all before it are seen.
    pub(crate) seen: SeenAt,
}

/// A stream as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// The version that the next event will have.
    pub next: u64,
    /// The first version that is there.
    pub first: u64,
    /// Whether it takes events.
    pub life: Life,
}

impl From<&Head> for StreamInfo {
    fn from(head: &Head) -> Self {
        Self { next: head.next, first: head.first, life: head.life }
    }
}

/// What becomes of a stream by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its events before this version go.
    Truncate(u64),
    /// All of its events go, and the next begins it again, with the version after the last.
    Delete,
    /// All of its events go, and it never takes another.
    End,
}

impl EventStore {
    /// Opens what a namespace of a ledger has of streams, or begins it.
    ///
    /// # Errors
    /// What the store says.
    pub async fn open(store: Arc<dyn EmbeddedStore>) -> Result<Self> {
        let log = store.create_log("events", LogOptions::default()).await?;
        let heads = store.create_map("heads", MapOptions::default()).await?;
        let chunks = store.create_map("chunks", MapOptions::default()).await?;
        let waste = store.create_map("waste", MapOptions::default()).await?;
        let next = store.log_stats_now(log)?.end;
        let (index, upto) = open_index(&*store, next).await?;
        let epoch = open_epoch(&*store, index).await?;
        let order = Mutex::new(Order::at(next, Recent::behind(upto)));
        let tail = watch::Sender::new(Tail { next, seen: SeenAt::default() });
        let removing = tokio::sync::Mutex::default();
        let check = OnceLock::new();
        let inner =
            Inner { store, log, heads, chunks, waste, index, epoch, order, tail, removing, check };
        inner.recall().await?;
        inner.remove_waste().await?;
        Ok(Self(Arc::new(inner)))
    }

    /// Appends to streams, all of it or nothing. On return it is done at its level, and seen by who reads.
    ///
    /// # Errors
    /// `message_too_large` for more than a batch has; [`Rejected::Conflict`] if a stream is not as expected, [`Rejected::Matched`] if events have come that a condition
    /// does not allow, `position_conflict` if one names a position that is not there yet; nothing is changed then.
    pub async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Rejected> {
        batch.check()?;
        // What is there already is known again, whatever its schema has become since.
        let refusal = self.0.refusal(&batch);
        let mut knowledge = Knowledge::of(&batch, refusal.is_some());
        loop {
            // Heads that have to be read from the disk are read at once.
            try_join_all(batch.appends.iter().map(|append| self.0.head(&append.stream))).await?;
            match self.0.try_append(&batch, &knowledge) {
                Tried::Done(appended, receipt) => {
                    if let Some(receipt) = receipt {
                        self.0.until_done(&receipt).await?;
                    }
                    return Ok(appended);
                }
                Tried::Cold => {}
                Tried::Busy => room(&*self.0.store).await,
                Tried::Look(at, from) => {
                    let append = &batch.appends[at];
                    match self.is_there(append, from).await? {
                        true => knowledge.there[at] = Some(from),
                        false => knowledge.known[at].not_before = from + 1,
                    }
                }
                Tried::Search(at) => {
                    let AppendCondition { fail_if_events_match, after } = &batch.conditions[at];
                    let from = knowledge.clear[at];
                    let (page, end) =
                        self.0.find_forward(fail_if_events_match, from, SHOWN).await?;
                    if !page.events.is_empty() {
                        let matched = Matched { after: *after, events: page.events };
                        return Err(Rejected::Matched(Box::new(matched)));
                    }
                    knowledge.clear[at] = end.max(from);
                }
                Tried::Conflict(at, from, head) => {
                    return Err(self.conflict(&batch.appends[at], from, &head).await?);
                }
                Tried::Refused => {
                    if let Some(error) = refusal {
                        return Err(error.into());
                    }
                }
                Tried::Failed(error) => return Err(error.into()),
            }
        }
    }

    /// Has events that are appended from now on checked; the first who checks stays.
    pub fn check_by(&self, check: Arc<dyn EventCheck>) {
        let _ = self.0.check.set(check);
    }

    /// A stream as it stands; `None` if there never was one.
    ///
    /// # Errors
    /// What the store says.
    pub async fn stream(&self, name: &StreamName) -> Result<Option<StreamInfo>> {
        let head = self.0.head(name).await?;
        Ok((head.next > 0).then(|| StreamInfo::from(&*head)))
    }

    /// Streams whose name begins with a text, in their order, after one, at most so many: those that there ever were.
    ///
    /// # Errors
    /// What the store says.
    pub async fn streams(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(StreamName, StreamInfo)>> {
        let after = after.map(|after| Bytes::copy_from_slice(after.as_bytes()));
        let rows = self.0.store.scan(self.0.heads, prefix.as_bytes(), after, limit).await?;
        let info = |(key, value): &(Bytes, Value)| {
            let corrupt =
                || Error::new(Reason::StorageCorrupt, "the name of a stream cannot be read");
            let head: Head = decode(&value.data)?;
            Ok((StreamName::of_bytes(key).ok_or_else(corrupt)?, StreamInfo::from(&head)))
        };
        rows.iter().map(info).collect()
    }

    /// The position that the next event will have.
    pub fn next_position(&self) -> u64 {
        self.0.tail.borrow().next
    }

    /// The number by which this history of events is told apart from those of other stores, and from its own before
    /// events of it were lost.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// Changes a stream by hand. What goes has gone on return, also from among all events.
    ///
    /// # Errors
    /// [`Rejected::Conflict`] if it is not as expected; `malformed_request` for a version that it has not got to.
    pub async fn change(
        &self,
        name: &StreamName,
        expected: Expected,
        change: Change,
    ) -> Result<StreamInfo, Rejected> {
        loop {
            self.0.head(name).await?;
            let append = Append { stream: name.clone(), expected, events: Vec::new() };
            match self.0.try_change(&append, change) {
                Ok((info, receipt)) => {
                    self.0.until_done(&receipt).await?;
                    self.0.remove_waste_of(name).await?;
                    return Ok(info);
                }
                Err(Tried::Conflict(_, from, head)) => {
                    return Err(self.conflict(&append, from, &head).await?);
                }
                Err(Tried::Failed(error)) => return Err(error.into()),
                Err(Tried::Busy) => room(&*self.0.store).await,
                Err(_) => {}
            }
        }
    }

    /// Whether the events of an append stand in its stream from a version on.
    async fn is_there(&self, append: &Append, from: u64) -> Result<bool> {
        self.0.seen().await?;
        let limits =
            PageLimits { events: append.events.len(), bytes: u64::MAX, ..PageLimits::default() };
        let found = self.versions(&append.stream, from, limits).await?;
        Ok(found.len() == append.events.len()
            && found
                .iter()
                .zip(&append.events)
                .all(|(there, new)| identity(&there.message) == identity(new.message())))
    }

    async fn conflict(&self, append: &Append, from: u64, head: &Head) -> Result<Rejected> {
        self.0.seen().await?;
        let events = self.versions(&append.stream, from, SHOWN).await?;
        Ok(Rejected::Conflict(Box::new(Conflict {
            stream: append.stream.clone(),
            expected: append.expected,
            actual: head.is_there().then(|| head.next - 1),
            is_ended: head.life == Life::Ended,
            events,
        })))
    }
}

/// The map of rows, and the position before which all events are in them.
async fn open_index(store: &dyn EmbeddedStore, next: u64) -> Result<(MapId, u64)> {
    let index = store.create_map("index", MapOptions::default()).await?;
    let upto = store.get(index, UPTO).await?.map_or(Ok(0), |row| decode(&row.data))?;
    if upto <= next {
        return Ok((index, upto));
    }
    // Events were lost, and whoever repaired the ledger has accepted it: rows tell of what is not there, and are made anew.
    store.drop_map(index).await?;
    Ok((store.create_map("index", MapOptions::default()).await?, 0))
}

/// The epoch, which goes with the rows when events were lost.
async fn open_epoch(store: &dyn EmbeddedStore, index: MapId) -> Result<u64> {
    if let Some(row) = store.get(index, EPOCH).await? {
        return decode(&row.data);
    }
    let epoch = Rng::from_entropy().next_u64();
    let (key, value) = (Bytes::from_static(EPOCH), encode(&epoch)?);
    let put = Transaction::new(Durability::Fsync).put(index, key, value, ExpectValue::Absent);
    store.commit(put).await.map_err(Error::from)?;
    Ok(epoch)
}

/// Gives up the reading of a head that nobody has finished.
struct Loading<'a>(&'a Inner, &'a StreamName, bool);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        if !self.2 {
            self.0.order.lock().loaded(self.1, None);
        }
    }
}

impl Inner {
    /// The head of a stream, from memory or the disk; an empty one if there is none.
    pub(crate) async fn head(&self, name: &StreamName) -> Result<Arc<Head>> {
        loop {
            let seen = {
                let mut order = self.order.lock();
                match order.claim(name) {
                    // Listened for before the lock goes, so that it is not missed.
                    Seen::Loading(notify) => Err(notify.notified_owned()),
                    seen => Ok(seen),
                }
            };
            match seen {
                Ok(Seen::Known(head)) => return Ok(head),
                Err(loaded) => loaded.await,
                Ok(_) => {
                    let mut loading = Loading(self, name, false);
                    let value = self.store.get(self.heads, name.as_str().as_bytes()).await?;
                    let head = match value {
                        Some(value) => decode(&value.data)?,
                        None => Head::default(),
                    };
                    loading.2 = true;
                    self.order.lock().loaded(name, Some(head));
                }
            }
        }
    }

    /// What was appended last, again and again.
    pub(crate) fn tail(&self) -> watch::Receiver<Tail> {
        self.tail.subscribe()
    }

    /// Waits until everything is seen that was appended by now; gives where the log ended.
    pub(crate) async fn seen(&self) -> Result<u64> {
        let Tail { next, seen } = *self.tail.borrow();
        until_seen(&*self.store, seen).await?;
        Ok(next)
    }

    /// Why an event of a batch is refused for what it is, if one is.
    fn refusal(&self, batch: &AppendBatch) -> Option<Error> {
        let check = self.check.get()?;
        let mut events = batch.appends.iter().flat_map(|append| &append.events);
        events.find_map(|event| check.check(event.message()).err())
    }

    async fn until_done(&self, receipt: &Receipt) -> Result<()> {
        until_durable(&*self.store, receipt.seq, receipt.durability).await?;
        until_seen(&*self.store, receipt.seen).await
    }
}

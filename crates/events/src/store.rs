//! The store of events: what is appended and changed.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::watch;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{
    Durability, EmbeddedStore,
    options::{LogOptions, MapOptions},
    record::{LogId, MapId, Value},
    store::{room, until_durable, until_seen},
    transaction::{Expect, ExpectValue, NewRecord, Op, Receipt, Seen as SeenAt, Transaction},
};

use crate::{
    append::{
        Append, AppendBatch, AppendReceipt, Conflict, Decision, Expected, Known, Rejected, Written,
        decide,
    },
    head::{Chunk, Head, Life},
    name::StreamName,
    order::{Order, Seen},
    read::PageLimits,
    row::{decode, encode, row_key},
};

/// Events that a conflict shows, and how much of them.
const SHOWN_MAX: usize = 16;
const SHOWN_BYTES: u64 = 1 << 20;

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
    order: Mutex<Order>,
    /// What was appended last.
    tail: watch::Sender<Tail>,
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

/// What came of trying.
enum Tried {
    Done(AppendReceipt, Option<Receipt>),
    /// A head went out of memory meanwhile.
    Cold,
    /// Too much waits to be written.
    Busy,
    /// The events of an append have to be looked at, from a version on.
    Look(usize, u64),
    Conflict(usize, u64, Arc<Head>),
    /// An event that would be written is refused for what it is.
    Refused,
    Failed(Error),
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
        let order = Mutex::new(Order::at(next));
        let tail = watch::Sender::new(Tail { next, seen: SeenAt::default() });
        let check = OnceLock::new();
        let inner = Inner { store, log, heads, chunks, waste, order, tail, check };
        inner.remove_waste().await?;
        Ok(Self(Arc::new(inner)))
    }

    /// Appends to streams, all of it or nothing. On return it is done at its level, and seen by who reads.
    ///
    /// # Errors
    /// [`Rejected::Conflict`] if a stream is not as expected; nothing is changed then.
    pub async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Rejected> {
        // What is there already is known again, whatever its schema has become since.
        let refusal = self.0.refusal(&batch);
        let mut known = vec![Known::default(); batch.appends.len()];
        let mut there = vec![None; batch.appends.len()];
        loop {
            // Heads that have to be read from the disk are read at once.
            try_join_all(batch.appends.iter().map(|append| self.0.head(&append.stream))).await?;
            match self.0.try_append(&batch, &known, &there, refusal.is_some()) {
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
                        true => there[at] = Some(from),
                        false => known[at].not_before = from + 1,
                    }
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
        let limits = PageLimits { events: append.events.len(), bytes: u64::MAX };
        let found = self.versions(&append.stream, from, limits).await?;
        let id =
            |message: &weft_broker::Message| message.event().map(|event| event.id().to_owned());
        Ok(found.len() == append.events.len()
            && found
                .iter()
                .zip(&append.events)
                .all(|(there, new)| id(&there.message) == id(new.message())))
    }

    async fn conflict(&self, append: &Append, from: u64, head: &Head) -> Result<Rejected> {
        self.0.seen().await?;
        let limits = PageLimits { events: SHOWN_MAX, bytes: SHOWN_BYTES };
        let events = self.versions(&append.stream, from, limits).await?;
        Ok(Rejected::Conflict(Box::new(Conflict {
            stream: append.stream.clone(),
            expected: append.expected,
            actual: head.is_there().then(|| head.next - 1),
            is_ended: head.life == Life::Ended,
            events,
        })))
    }
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

    /// Appends, if all heads are here and as they are expected. `there` says from which version on the events of an
    /// append are known to be there.
    fn try_append(
        &self,
        batch: &AppendBatch,
        known: &[Known],
        there: &[Option<u64>],
        is_refused: bool,
    ) -> Tried {
        let mut order = self.order.lock();
        let mut heads: HashMap<&StreamName, Head> = HashMap::new();
        for append in &batch.appends {
            let Some(head) = order.head(&append.stream) else { return Tried::Cold };
            heads.entry(&append.stream).or_insert_with(|| Head::clone(head));
        }
        // A batch that was done already is done, whatever has become of its streams since.
        let is_again = match again(batch, &heads, known, there) {
            Again::Look(at, from) => return Tried::Look(at, from),
            Again::Yes => true,
            Again::No => false,
        };
        let (first, mut next) = (order.next, order.next);
        let (mut ops, mut written) = (Vec::new(), Vec::with_capacity(batch.appends.len()));
        for (at, append) in batch.appends.iter().enumerate() {
            let Some(head) = heads.get_mut(&append.stream) else { return Tried::Cold };
            let stream = append.stream.clone();
            let count = append.events.len() as u64;
            if let Some(from) = there[at] {
                written.push(Written { stream, versions: from..from + count, is_known: true });
                continue;
            }
            if is_again {
                written.push(Written { stream, versions: head.next..head.next, is_known: true });
                continue;
            }
            let ids: Vec<u64> = append.events.iter().map(|event| event.hash()).collect();
            match decide(head, append.expected, &ids, known[at]) {
                Decision::Go if is_refused => return Tried::Refused,
                Decision::Go => {}
                Decision::Look(from) => return Tried::Look(at, from),
                Decision::Conflict(from) => {
                    let head = order.head(&append.stream).cloned().unwrap_or_default();
                    return Tried::Conflict(at, from, head);
                }
            }
            let began = head.next;
            for (event, id) in append.events.iter().zip(ids) {
                let key = Bytes::copy_from_slice(stream.as_str().as_bytes());
                let record = NewRecord::new(event.stored(head.next)).keyed(key);
                let expect = if next == first { Expect::Next(first) } else { Expect::Any };
                ops.push(Op::Append { log: self.log, expect, record });
                if let Some(chunk) = head.push(next, id) {
                    match self.put_chunk(&stream, &chunk) {
                        Ok(op) => ops.push(op),
                        Err(error) => return Tried::Failed(error),
                    }
                }
                next += 1;
            }
            written.push(Written { stream, versions: began..head.next, is_known: false });
        }
        let position = |next: u64| (next > first).then(|| next - 1);
        if is_again || (ops.is_empty() && batch.with.is_empty()) {
            return Tried::Done(AppendReceipt { written, position: None }, None);
        }
        let changed =
            written.iter().filter(|written| !written.is_known && !written.versions.is_empty());
        let mut changed: Vec<&StreamName> = changed.map(|written| &written.stream).collect();
        changed.sort_unstable();
        changed.dedup();
        for name in &changed {
            match self.put_head(name, &heads[name]) {
                Ok(op) => ops.push(op),
                Err(error) => return Tried::Failed(error),
            }
        }
        ops.extend(batch.with.iter().cloned());
        let transaction = Transaction { ops: ops.into(), durability: batch.durability };
        let receipt = match self.submit(transaction) {
            Ok(receipt) => receipt,
            Err(tried) => return tried,
        };
        for name in changed {
            if let Some(head) = heads.remove(name) {
                order.changed(name.clone(), head);
            }
        }
        order.next = next;
        self.tail.send_modify(|tail| {
            tail.next = next;
            tail.seen = later(tail.seen, receipt.seen);
        });
        drop(order);
        Tried::Done(AppendReceipt { written, position: position(next) }, Some(receipt))
    }

    fn try_change(&self, append: &Append, change: Change) -> Result<(StreamInfo, Receipt), Tried> {
        let mut order = self.order.lock();
        let Some(head) = order.head(&append.stream) else { return Err(Tried::Cold) };
        if let Decision::Conflict(from) | Decision::Look(from) =
            decide(head, append.expected, &[], Known::default())
        {
            return Err(Tried::Conflict(0, from, Arc::clone(head)));
        }
        let mut head = Head::clone(head);
        let before = head.first;
        match change {
            Change::Truncate(before) if before > head.next => {
                let say =
                    format!("the stream has {} events, and cannot begin with {before}", head.next);
                return Err(Tried::Failed(Error::new(Reason::MalformedRequest, say)));
            }
            Change::Truncate(before) => head.first = head.first.max(before),
            Change::Delete => (head.first, head.life) = (head.next, Life::Deleted),
            Change::End => (head.first, head.life) = (head.next, Life::Ended),
        }
        let put = self.put_head(&append.stream, &head).map_err(Tried::Failed)?;
        let mut transaction = Transaction::new(Durability::Fsync).with(put);
        if head.first > before {
            transaction
                .ops
                .push(self.put_waste(&append.stream, before, head.first).map_err(Tried::Failed)?);
        }
        let receipt = self.submit(transaction)?;
        let info = StreamInfo::from(&head);
        order.changed(append.stream.clone(), head);
        drop(order);
        Ok((info, receipt))
    }

    fn submit(&self, transaction: Transaction) -> Result<Receipt, Tried> {
        self.store.submit_now(transaction).map_err(|refused| match refused.error.reason() {
            Reason::StorageBusy => Tried::Busy,
            _ => Tried::Failed(refused.error),
        })
    }

    fn put_head(&self, name: &StreamName, head: &Head) -> Result<Op> {
        let (map, key) = (self.heads, Bytes::copy_from_slice(name.as_str().as_bytes()));
        Ok(Op::Put { map, key, value: encode(head)?, expires_ms: 0, expect: ExpectValue::Any })
    }

    fn put_chunk(&self, name: &StreamName, chunk: &Chunk) -> Result<Op> {
        let (map, key) = (self.chunks, row_key(name, chunk.end));
        Ok(Op::Put { map, key, value: encode(chunk)?, expires_ms: 0, expect: ExpectValue::Any })
    }
}

/// Whether a batch was done already.
enum Again {
    Yes,
    No,
    /// It looks so: these events have to be looked at.
    Look(usize, u64),
}

/// Whether all events of a batch are there already, as far as that is known.
fn again(
    batch: &AppendBatch,
    heads: &HashMap<&StreamName, Head>,
    known: &[Known],
    there: &[Option<u64>],
) -> Again {
    if let ([_], [there]) = (&*batch.appends, there) {
        return if there.is_some() { Again::Yes } else { Again::No };
    }
    let mut look = Again::No;
    for (at, append) in batch.appends.iter().enumerate().filter(|(_, of)| !of.events.is_empty()) {
        if there[at].is_some() {
            look = if matches!(look, Again::No) { Again::Yes } else { look };
            continue;
        }
        let ids: Vec<u64> = append.events.iter().map(|event| event.hash()).collect();
        match decide(&heads[&append.stream], append.expected, &ids, known[at]) {
            Decision::Look(from) if !matches!(look, Again::Look(..)) => {
                look = Again::Look(at, from)
            }
            Decision::Look(_) => {}
            Decision::Go | Decision::Conflict(_) => return Again::No,
        }
    }
    look
}

/// The later of two.
fn later(one: SeenAt, other: SeenAt) -> SeenAt {
    SeenAt { written: one.written.max(other.written), synced: one.synced.max(other.synced) }
}

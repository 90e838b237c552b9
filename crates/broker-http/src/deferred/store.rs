//! Where operations are kept: heads in a map, bodies in a log, both changed in one transaction.
//!
//! An operation is there from the moment its request is durable until its answer has been kept as long
//! as it was to be. What is under way is known in memory alone: after a crash every operation without an
//! outcome has to begin anew.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use weft_kernel::{Error, Reason, Result, Retry};
use weft_ledger::{
    Durability, EmbeddedStore, Expect, ExpectValue, Limits, LogId, LogOptions, MapId, MapOptions,
    NewRecord, Op, ReadItem, Transaction, room, until_durable,
};

use super::record::{Head, Id, Outcome, PIECE_BYTES, Pieces, unknown};

/// The most operations without an outcome.
const OPEN_MAX: usize = 4096;
/// How many heads are read at once.
const PAGE: usize = 256;
/// How many operations one transaction forgets.
const SWEPT_AT_ONCE: usize = 256;

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has not begun.
    Waiting,
    /// It has begun.
    Running,
    /// It is over.
    Over,
}

/// The operations of this node.
pub(crate) struct DeferredResponses {
    store: Arc<dyn EmbeddedStore>,
    heads: MapId,
    bodies: LogId,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The position of the next body's first record: bodies are appended by nobody else.
    next: u64,
    open: HashMap<Id, watch::Sender<Standing>>,
    /// When answers are to be forgotten, in wall milliseconds.
    expiries: BTreeSet<(u64, Id)>,
}

impl DeferredResponses {
    /// Opens what is kept in a store; the second answer is what has no outcome, or was to be told to
    /// somebody and was not, oldest first.
    ///
    /// # Errors
    /// What the store says, and [`Reason::StorageCorrupt`] for a head that cannot be read.
    pub(crate) async fn open(store: Arc<dyn EmbeddedStore>) -> Result<(Self, Vec<Id>)> {
        let heads = store.create_map("messages/operations", MapOptions::default()).await?;
        let bodies = store.create_log("messages/operation-bodies", LogOptions::default()).await?;
        let mut inner = Inner { next: store.log_stats_now(bodies)?.end, ..Inner::default() };
        let mut open = Vec::new();
        let mut after = None;
        loop {
            let page = store.scan(heads, b"", after.clone(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in page {
                let Some(id) = std::str::from_utf8(&key).ok().and_then(|text| text.parse().ok())
                else {
                    continue;
                };
                let head = Head::read(&value.data)?;
                match &head.outcome {
                    Some(outcome) => {
                        if head.callback.is_some() && !outcome.told {
                            open.push((head.taken_ms, id));
                        }
                        inner.expiries.insert((outcome.done_ms.saturating_add(head.keep_ms), id));
                    }
                    None => {
                        inner.open.insert(id, watch::Sender::new(Standing::Waiting));
                        open.push((head.taken_ms, id));
                    }
                }
            }
        }
        open.sort_unstable();
        let open = open.into_iter().map(|(_, id)| id).collect();
        Ok((Self { store, heads, bodies, inner: Mutex::new(inner) }, open))
    }

    /// Keeps a request; it is durable when this answers.
    ///
    /// # Errors
    /// [`Reason::Overload`] when too many wait already, and what the store says.
    pub(super) async fn keep(&self, head: Head, body: &Bytes) -> Result<Id> {
        let id = Id::new()?;
        {
            let mut inner = self.inner.lock();
            if inner.open.len() >= OPEN_MAX {
                let say = "too many requests wait to be carried out";
                return Err(Error::new(Reason::Overload, say)
                    .retry(Retry::After(std::time::Duration::from_secs(1))));
            }
            inner.open.insert(id, watch::Sender::new(Standing::Waiting));
        }
        let kept = self
            .write(id, body, ExpectValue::Absent, None, |pieces| Head {
                body: pieces,
                ..head.clone()
            })
            .await;
        if kept.is_err() {
            self.inner.lock().open.remove(&id);
        }
        kept.map(|()| id)
    }

    /// Marks an operation as begun; `false` if it is over, or somebody else has begun it.
    pub(crate) fn begin(&self, id: Id) -> bool {
        let inner = self.inner.lock();
        inner.open.get(&id).is_some_and(|standing| {
            standing.send_if_modified(|now| {
                let waits = *now == Standing::Waiting;
                if waits {
                    *now = Standing::Running;
                }
                waits
            })
        })
    }

    /// Marks an operation as begun as soon as nobody else is at it; `false` if it is over. Cancel-safe.
    pub(super) async fn begin_next(&self, id: Id) -> bool {
        while !self.begin(id) {
            let watched = self.inner.lock().open.get(&id).map(watch::Sender::subscribe);
            let Some(mut watched) = watched else { return false };
            if watched.wait_for(|standing| *standing != Standing::Running).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Marks an operation as not begun after all, so that it can begin anew.
    pub(crate) fn put_back(&self, id: Id) {
        let inner = self.inner.lock();
        if let Some(standing) = inner.open.get(&id) {
            standing.send_replace(Standing::Waiting);
        }
    }

    /// Keeps what came of an operation, and lets go of its request; durable when this answers.
    ///
    /// # Errors
    /// What the store says.
    pub(super) async fn finish(&self, id: Id, outcome: Outcome, body: &Bytes) -> Result<()> {
        let head = self.head(id).await?;
        let request = head.body;
        let expiry = outcome.done_ms.saturating_add(head.keep_ms);
        let done = |pieces| Head {
            body: Pieces::default(),
            outcome: Some(Outcome { body: pieces, ..outcome.clone() }),
            ..head.clone()
        };
        self.write(id, body, ExpectValue::Present, Some(request), done).await?;
        let mut inner = self.inner.lock();
        inner.expiries.insert((expiry, id));
        if let Some(standing) = inner.open.remove(&id) {
            standing.send_replace(Standing::Over);
        }
        Ok(())
    }

    /// Notes that the outcome was told to whom it was to be told.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn told(&self, id: Id) -> Result<()> {
        let mut head = self.head(id).await?;
        if let Some(outcome) = &mut head.outcome {
            outcome.told = true;
        }
        let put = Transaction::new(Durability::Os).put(
            self.heads,
            id.key(),
            head.write()?,
            ExpectValue::Present,
        );
        self.store.commit(put).await?;
        Ok(())
    }

    /// The head of an operation.
    ///
    /// # Errors
    /// [`Reason::NoMessage`] if there is none, or none any more.
    pub(super) async fn head(&self, id: Id) -> Result<Head> {
        let value = self.store.get(self.heads, &id.key()).await?.ok_or_else(unknown)?;
        Head::read(&value.data)
    }

    /// How an operation stands; what is not known here is over.
    pub(crate) fn standing(&self, id: Id) -> Standing {
        self.inner.lock().open.get(&id).map_or(Standing::Over, |standing| *standing.borrow())
    }

    /// Waits until an operation is over. Cancel-safe.
    pub(crate) async fn over(&self, id: Id) {
        let watched = self.inner.lock().open.get(&id).map(watch::Sender::subscribe);
        let Some(mut watched) = watched else { return };
        // An error says that the sender is gone, and so the operation is over.
        let _ = watched.wait_for(|standing| *standing == Standing::Over).await;
    }

    /// A body.
    ///
    /// # Errors
    /// [`Reason::StorageCorrupt`] if a piece of it is lost.
    pub(super) async fn body(&self, pieces: Pieces) -> Result<Bytes> {
        let mut parts: Vec<Bytes> = Vec::new();
        let end = pieces.first.saturating_add(pieces.count);
        let mut at = pieces.first;
        while at < end {
            let limits = Limits { records: u32::MAX, bytes: 4 << 20 };
            let items = self.store.read(self.bodies, at, limits).await?;
            let before = at;
            for item in items {
                match item {
                    ReadItem::Record(record) if record.position == at && at < end => {
                        parts.push(record.data);
                        at += 1;
                    }
                    ReadItem::Record(_) => break,
                    ReadItem::Lost { why, .. } => {
                        return Err(Error::new(
                            Reason::StorageCorrupt,
                            "a body that was kept is lost",
                        )
                        .note(why));
                    }
                }
            }
            if at == before {
                return Err(unknown());
            }
        }
        if parts.len() == 1 {
            return Ok(parts.swap_remove(0));
        }
        Ok(parts.concat().into())
    }

    /// Forgets some of what has been kept long enough, in one transaction; whether there is more. Dropped
    /// while it waits, it forgets them the next time.
    ///
    /// # Errors
    /// What the store says; nothing is forgotten then.
    pub(crate) async fn sweep(&self, now_ms: u64) -> Result<bool> {
        let due: Vec<(u64, Id)> = {
            let inner = self.inner.lock();
            let due = inner.expiries.iter().take_while(|(expiry, _)| *expiry <= now_ms);
            due.take(SWEPT_AT_ONCE).copied().collect()
        };
        if due.is_empty() {
            return Ok(false);
        }
        let mut gone = Transaction::new(Durability::Os);
        for (_, id) in &due {
            let body = match self.head(*id).await {
                Ok(head) => head.outcome.map(|outcome| outcome.body).unwrap_or_default(),
                Err(error) if error.reason() == Reason::NoMessage => continue,
                Err(error) if error.reason() == Reason::StorageCorrupt => {
                    tracing::error!(%id, error = %error.detail(), "an operation that is damaged is forgotten");
                    Pieces::default()
                }
                Err(error) => return Err(error),
            };
            gone = gone.delete(self.heads, id.key(), ExpectValue::Any);
            gone.ops.extend(self.removal(body));
        }
        if !gone.ops.is_empty() {
            room(&*self.store).await;
            self.store.commit(gone).await?;
        }
        let mut inner = self.inner.lock();
        for due in &due {
            inner.expiries.remove(due);
        }
        Ok(due.len() == SWEPT_AT_ONCE)
    }

    /// When the next answer is to be forgotten, in wall milliseconds.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.inner.lock().expiries.first().map(|(expiry, _)| *expiry)
    }

    fn removal(&self, pieces: Pieces) -> impl Iterator<Item = Op> {
        let log = self.bodies;
        (pieces.first..pieces.first.saturating_add(pieces.count)).map(move |position| Op::Remove {
            log,
            position,
            required: false,
        })
    }

    /// Appends a body and puts the head that says where it is.
    async fn write(
        &self,
        id: Id,
        body: &Bytes,
        expect: ExpectValue,
        remove: Option<Pieces>,
        head: impl Fn(Pieces) -> Head,
    ) -> Result<()> {
        let count = body.len().div_ceil(PIECE_BYTES);
        let receipt = loop {
            room(&*self.store).await;
            let mut inner = self.inner.lock();
            let pieces = Pieces { first: inner.next, count: count as u64 };
            let mut write = Transaction::new(Durability::Fsync);
            for index in 0..count {
                let from = index * PIECE_BYTES;
                let piece = body.slice(from..body.len().min(from + PIECE_BYTES));
                write = write.with(Op::Append {
                    log: self.bodies,
                    expect: Expect::Next(pieces.first + index as u64),
                    record: NewRecord::new(piece),
                });
            }
            write = write.put(self.heads, id.key(), head(pieces).write()?, expect);
            write.ops.extend(remove.into_iter().flat_map(|pieces| self.removal(pieces)));
            match self.store.submit_now(write) {
                Ok(receipt) => {
                    inner.next += count as u64;
                    break receipt;
                }
                Err(refused) if refused.error.reason() == Reason::StorageBusy => {}
                Err(refused) => return Err(refused.into()),
            }
        };
        until_durable(&*self.store, receipt.seq, receipt.durability).await
    }
}

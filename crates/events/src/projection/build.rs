//! A build of a projection: its map, how far it has got, and its next events.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use futures_util::future::try_join_all;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{
    Durability, Op, Transaction, options::MapOptions, record::MapId, transaction::ExpectValue,
};

use super::{
    definition::{Compiled, Definition},
    document::Document,
    fold::{Applied, Fold, Keys},
    rows::{BuildRow, DOCUMENTS, Parked, STATE, State, map_name, row},
};
use crate::{
    event::Recorded,
    query::EventQuery,
    read::{Direction, PageLimits},
    row::{decode, encode},
    store::EventStore,
};

/// Events that are read at once, and how much of them.
const PAGE: PageLimits = PageLimits { events: 8_192, bytes: 8 << 20, before: u64::MAX };
/// Events whose documents are looked for at once, and after how many others have their turn.
const AT_ONCE: usize = 256;
const TURN: usize = 32;
/// Documents that are read at once, and about how much memory all take that are kept.
const DOCUMENTS_AT_ONCE: usize = 32;
const MEMORY_BYTES: usize = 64 << 20;
/// So many positions may pass without an event that is meant until it is written how far that was.
const UNWRITTEN: u64 = 100_000;
/// Rows that are read at once.
const ROWS: usize = 256;

/// What a step has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more.
    More,
    /// It is where the log ends.
    CaughtUp,
    /// Too much is parked.
    Full,
}

/// What is done about something that is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// Its event is applied again, and what has come since.
    Resume,
    /// Its event is left out; what has come since is applied.
    Skip,
}

/// A build, as its service has it.
pub(super) struct Build {
    pub(super) row: BuildRow,
    pub(super) definition: Arc<Compiled>,
    pub(super) map: MapId,
    store: EventStore,
    pub(super) state: State,
    /// Whether it had folded events that are not there any more: whoever repaired the ledger has accepted their loss.
    pub(super) is_ahead: bool,
    /// How far is written.
    written: u64,
    pub(super) fold: Fold,
    /// When the event was appended that it looked at last.
    pub(super) time_ms: u64,
}

impl Build {
    pub(super) async fn open(store: EventStore, projection: &str, row: BuildRow) -> Result<Self> {
        let corrupt = |error| {
            Error::new(Reason::StorageCorrupt, "the definition of a projection cannot be read")
                .because(error)
        };
        let definition: Definition = serde_json::from_str(&row.definition).map_err(corrupt)?;
        let definition = Arc::new(definition.compile_as(true)?);
        let name = map_name(projection, row.id);
        let map = store.0.store.create_map(&name, MapOptions::default()).await?;
        let found = store.0.store.get(map, STATE).await?;
        let mut state: State = found.map_or(Ok(State::default()), |of| decode(&of.data))?;
        let is_ahead = state.position > store.next_position();
        if is_ahead {
            (state.position, state.keys) = (store.next_position(), 0);
        }
        let mut parked: Vec<Parked> = Vec::new();
        for kind in [b"e", b"k"] {
            let mut after = None;
            loop {
                let rows = store.0.store.scan(map, kind, after.take(), ROWS).await?;
                for (_, value) in &rows {
                    parked.push(decode(&value.data)?);
                }
                match rows.into_iter().nth(ROWS - 1) {
                    Some((last, _)) => after = Some(last),
                    None => break,
                }
            }
        }
        let mut fold = Fold::new(parked);
        fold.applied = state.applied;
        let written = state.position;
        Ok(Self { row, definition, map, store, state, is_ahead, written, fold, time_ms: 0 })
    }

    /// Applies the next events, and has it on the disk on return.
    pub(super) async fn step(&mut self) -> Result<Step> {
        let begun = self.state;
        let first =
            |event: &Recorded| if event.position == begun.position { begun.keys } else { 0 };
        let (events, upto) = self.store.page(self.definition.query(), begun.position, PAGE).await?;
        let (mut next, mut is_full) = ((upto, 0), false);
        'all: for events in events.chunks(AT_ONCE) {
            let keys: Vec<Keys> = events.iter().map(|event| self.definition.keys(event)).collect();
            let wanted = events.iter().zip(&keys).flat_map(|(event, keys)| {
                keys.as_ref().ok().and_then(|keys| keys.get(first(event)..)).unwrap_or_default()
            });
            self.load(wanted).await?;
            for (at, (event, keys)) in events.iter().zip(&keys).enumerate() {
                let applied = self.fold.apply(&self.definition, event, keys, first(event));
                is_full = matches!(applied, Applied::Full(_));
                if let Applied::Part(done) | Applied::Full(done) = applied {
                    next = (event.position, done);
                    break 'all;
                }
                self.time_ms = event.time_ms;
                if self.fold.is_due() {
                    next = (event.position + 1, 0);
                    break 'all;
                }
                if at % TURN == TURN - 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
        let (position, keys) = next;
        self.state = State { position, keys, applied: self.fold.applied };
        if self.fold.is_changed() || position - self.written > UNWRITTEN {
            self.write().await?;
        }
        self.fold.forget_above(MEMORY_BYTES);
        Ok(match position >= self.store.next_position() {
            _ if is_full => Step::Full,
            true => Step::CaughtUp,
            false => Step::More,
        })
    }

    /// Reads documents that are not here, in their order, as far as there is room; those that come first at least.
    async fn load(&mut self, wanted: impl Iterator<Item = &String>) -> Result<()> {
        let mut missing: Vec<&String> = Vec::new();
        let mut asked = HashSet::new();
        missing.extend(wanted.filter(|key| !self.fold.has(key) && asked.insert(*key)));
        for some in missing.chunks(DOCUMENTS_AT_ONCE) {
            let read = |key: &&String| {
                let (key, store, map) = ((*key).clone(), &self.store, self.map);
                async move { document(store, map, &key).await.map(|document| (key, document)) }
            };
            for (key, document) in try_join_all(some.iter().map(read)).await? {
                self.fold.load(key, document);
            }
            if self.fold.is_above(MEMORY_BYTES) {
                break;
            }
        }
        Ok(())
    }

    /// Writes what has changed, and how far it has got, in one transaction.
    async fn write(&mut self) -> Result<()> {
        let mut transaction = Transaction::new(Durability::Fsync);
        let (map, changed) = (self.map, self.fold.changed());
        for (key, document) in changed.documents {
            let key = row(DOCUMENTS, key.as_bytes());
            transaction.ops.push(put(map, key, document.map(Document::stored).transpose()?));
        }
        for (key, parked) in changed.parked {
            let value = parked.map(encode).transpose()?;
            transaction.ops.push(put(map, key, value));
        }
        let state = Bytes::from_static(STATE);
        transaction.ops.push(put(map, state, Some(encode(&self.state)?)));
        self.store.0.store.commit(transaction).await.map_err(Error::from)?;
        self.fold.written();
        self.written = self.state.position;
        Ok(())
    }

    /// Goes on with what is parked, or without it; gives what is parked of it then, as it may fail again.
    pub(super) async fn resolve(
        &mut self,
        key: Option<&str>,
        position: Option<u64>,
        how: Resolve,
    ) -> Result<Option<Parked>> {
        let is_meant = |parked: &&Parked| {
            parked.key.as_deref() == key && position.is_none_or(|at| at == parked.position)
        };
        let Some(parked) = self.fold.parked().find(is_meant).cloned() else {
            return Err(Error::new(Reason::NotFound, "nothing is parked there"));
        };
        let (row, mut left, mut applied) = (parked.row(), None, 0);
        let document = match key {
            Some(key) => {
                let begin = parked.position + u64::from(how == Resolve::Skip);
                let (document, count, again) = self.replay(key, begin).await?;
                (applied, left) = (count, again);
                Some((key.to_owned(), document))
            }
            // An event whose documents could not be worked out cannot be by the same definition: it is only left out.
            None if how == Resolve::Resume => return Ok(Some(parked)),
            None => None,
        };
        let mut transaction = Transaction::new(Durability::Fsync);
        if let Some((key, document)) = &document {
            let key = super::rows::row(DOCUMENTS, key.as_bytes());
            let stored = document.as_ref().map(Document::stored).transpose()?;
            transaction.ops.push(put(self.map, key, stored));
        }
        transaction.ops.push(put(self.map, row.clone(), left.as_ref().map(encode).transpose()?));
        let state = State { applied: self.state.applied + applied, ..self.state };
        transaction.ops.push(put(self.map, Bytes::from_static(STATE), Some(encode(&state)?)));
        self.store.0.store.commit(transaction).await.map_err(Error::from)?;
        (self.state, self.fold.applied, self.written) = (state, state.applied, state.position);
        self.fold.resolve(&row, left.clone(), document);
        Ok(left)
    }

    /// A document with what has come of it from a position on, up to where the build is; how often something was
    /// applied, and what is parked of it then.
    async fn replay(
        &self,
        key: &str,
        begin: u64,
    ) -> Result<(Option<Document>, u64, Option<Parked>)> {
        let (mut document, mut applied) = (self.document(key).await?, 0);
        let mut left: Option<Parked> = None;
        let State { position, keys: done, .. } = self.state;
        let before = position + u64::from(done > 0);
        let mut at = begin;
        while at < before {
            let limits = PageLimits { before, ..PAGE };
            let (events, upto) = self.store.page(self.definition.query(), at, limits).await?;
            for (number, event) in events.iter().enumerate() {
                if number % TURN == TURN - 1 {
                    tokio::task::yield_now().await;
                }
                let keys = self.definition.keys(event).unwrap_or_default();
                // Of the one at which the build is, the rest of its documents are to come.
                let done = if event.position == position { done } else { keys.len() };
                if !keys.iter().take(done).any(|of| of == key) {
                    continue;
                }
                if let Some(left) = &mut left {
                    left.waiting += 1;
                    continue;
                }
                match self.definition.apply(event, &mut document) {
                    Ok(()) => applied += 1,
                    Err(fault) => {
                        let (key, why) = (Some(key.to_owned()), fault.why().to_owned());
                        left = Some(Parked { key, position: event.position, why, waiting: 1 });
                    }
                }
            }
            at = upto.max(at + 1);
        }
        Ok((document, applied, left))
    }

    /// A document as it is on the disk.
    async fn document(&self, key: &str) -> Result<Option<Document>> {
        document(&self.store, self.map, key).await
    }
}

fn put<T: Into<Bytes>>(map: MapId, key: Bytes, value: Option<T>) -> Op {
    let expect = ExpectValue::Any;
    match value {
        Some(value) => Op::Put { map, key, value: value.into(), expires_ms: 0, expect },
        None => Op::Delete { map, key, expect },
    }
}

async fn document(store: &EventStore, map: MapId, key: &str) -> Result<Option<Document>> {
    let found = store.0.store.get(map, &row(DOCUMENTS, key.as_bytes())).await?;
    found.map(|value| Document::read(&value.data)).transpose()
}

impl EventStore {
    /// Events that match a query, or all of them, from a position on, and the position up to which these are all.
    pub(super) async fn page(
        &self,
        query: Option<&EventQuery>,
        from: u64,
        limits: PageLimits,
    ) -> Result<(Vec<Recorded>, u64)> {
        let end = self.0.seen().await?.min(limits.before);
        if from >= end {
            return Ok((Vec::new(), from));
        }
        let limits = PageLimits { before: end, ..limits };
        let page = match query {
            Some(query) => self.0.find_forward(query, from, limits).await?.0,
            None => self.read_all(from, Direction::Forward, limits).await?,
        };
        Ok((page.events, page.next.unwrap_or(end)))
    }
}

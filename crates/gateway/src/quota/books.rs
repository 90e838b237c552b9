//! All quotas of a node, and what is put down of them in the ledger.
//!
//! One task writes, in one transaction whatever waits by then: while the disk takes that, the next gathers. What
//! people do to an account goes the same way, so that none of it is lost.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, futures::Notified};
use weft_kernel::{Error, Name, Reason, Result};
use weft_ledger::{Durability, ExpectValue, MapId, MapOptions, Op, Store, Transaction};

use super::{
    Quota,
    account::{Account, Kept},
    book::Book,
    now_ms,
};

/// The map of the accounts.
const MAP: &str = "accounts";
/// Accounts of one transaction, and of one page.
const BATCH: usize = 1_000;
/// The pause before what was refused is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// How often what is over is forgotten.
const TRIM: Duration = Duration::from_secs(60);

/// All quotas; a clone is a handle to the same.
#[derive(Clone, Default)]
pub struct Books(Arc<Inner>);

#[derive(Default)]
struct Inner {
    books: Mutex<HashMap<Name, Arc<Book>>>,
    store: OnceLock<(Arc<dyn Store>, MapId)>,
    wake: Notify,
    done: Notify,
    /// Rings when there may be something to be told.
    tell: Notify,
    /// Held by who writes.
    turn: tokio::sync::Mutex<()>,
}

/// Quotas with what the ledger has of them, to be put in force.
#[derive(Default)]
pub struct Recalled(Vec<(Arc<Quota>, Rows)>);

/// Keys, each with what is kept of its account.
type Rows = Vec<(Box<str>, Kept)>;

impl Books {
    /// The accounts of a quota.
    pub fn book(&self, name: &Name) -> Arc<Book> {
        let mut books = self.0.books.lock();
        let book = books.entry(name.clone()).or_insert_with(|| Arc::new(Book::new(name.clone())));
        Arc::clone(book)
    }

    /// Every quota that has rules, by name.
    pub fn all(&self) -> Vec<Arc<Book>> {
        let books = self.0.books.lock();
        let mut all: Vec<_> =
            books.values().filter(|book| book.terms().is_some()).cloned().collect();
        all.sort_by(|one, other| one.name().cmp(other.name()));
        all
    }

    /// Has the accounts kept there.
    ///
    /// # Errors
    /// What the store says.
    pub async fn open(&self, store: Arc<dyn Store>) -> Result<()> {
        let map = store.create_map(MAP, MapOptions::default()).await?;
        // A node opens it once.
        let _ = self.0.store.set((store, map));
        Ok(())
    }

    fn store(&self) -> Result<&(Arc<dyn Store>, MapId)> {
        let missing = || Error::new(Reason::StorageUnavailable, "no store is open for quotas");
        self.0.store.get().ok_or_else(missing)
    }

    /// Reads what the ledger has of quotas that are to be put in force and are not yet.
    ///
    /// # Errors
    /// What the store says.
    pub async fn recall(&self, quotas: &[Arc<Quota>]) -> Result<Recalled> {
        let mut recalled = Vec::new();
        for quota in quotas {
            let former = self.book(&quota.name).terms();
            let is_there = former.is_some_and(|former| former.scope() == quota.scope());
            let rows = if is_there { Vec::new() } else { self.rows(quota, now_ms()).await? };
            recalled.push((Arc::clone(quota), rows));
        }
        Ok(Recalled(recalled))
    }

    /// What is kept of the accounts of a quota: all that say something about now, and others as far as there is room.
    async fn rows(&self, quota: &Quota, now: u64) -> Result<Rows> {
        let (store, map) = self.store()?;
        let (prefix, mut after) = (prefix(quota), None);
        // What is over is of use to a clock that is set back.
        let (mut rows, mut over) = (Rows::new(), Rows::new());
        loop {
            let page = store.scan(*map, &prefix, after.take(), BATCH).await?;
            let is_last = page.len() < BATCH;
            after = page.last().map(|(key, _)| key.clone());
            for (key, value) in page {
                let text = std::str::from_utf8(&key[prefix.len()..]).ok();
                let kept = serde_json::from_slice::<Kept>(&value.data).ok();
                match text.zip(kept) {
                    Some((text, kept)) if !kept.is_over(now) => rows.push((text.into(), kept)),
                    Some((text, kept)) if over.len() < quota.keys_max => {
                        over.push((text.into(), kept));
                    }
                    Some(_) => {}
                    None => {
                        let say = format!("an account of quota {} cannot be read", quota.name);
                        return Err(Error::new(Reason::StorageCorrupt, say));
                    }
                }
            }
            if is_last {
                over.truncate(quota.keys_max.saturating_sub(rows.len()));
                rows.append(&mut over);
                return Ok(rows);
            }
        }
    }

    /// Puts quotas in force, and those out of it that are not among them.
    pub fn put_in_force(&self, Recalled(recalled): Recalled) {
        let mut gone: HashMap<Name, Arc<Book>> = self.0.books.lock().clone();
        for (quota, rows) in recalled {
            gone.remove(&quota.name);
            let book = self.book(&quota.name);
            book.set_terms(Some(quota));
            for (key, kept) in &rows {
                book.recall(key, kept);
            }
        }
        for book in gone.values() {
            book.set_terms(None);
            book.clear();
        }
    }

    /// Has what waits put down and told.
    pub(super) fn wake(&self) {
        self.0.wake.notify_one();
        self.0.tell.notify_one();
    }

    /// Completes when there may be something to be told.
    pub(super) fn to_tell(&self) -> Notified<'_> {
        self.0.tell.notified()
    }

    /// Completes when something was put down, or could not be.
    pub(super) fn done(&self) -> Notified<'_> {
        self.0.done.notified()
    }

    /// Puts down what may be used, for as long as it is polled.
    pub async fn run(&self) {
        let mut trimmed = tokio::time::Instant::now();
        loop {
            let woken = tokio::time::timeout(TRIM, self.0.wake.notified()).await.is_ok();
            if woken && !self.put_down().await {
                tokio::time::sleep(PAUSE).await;
            }
            if trimmed.elapsed() >= TRIM {
                trimmed = tokio::time::Instant::now();
                self.all().iter().for_each(|book| book.trim(now_ms()));
            }
        }
    }

    /// Puts down all slices that are waited for; `false` if something was refused.
    async fn put_down(&self) -> bool {
        let _turn = self.0.turn.lock().await;
        let now = now_ms();
        let mut went_well = true;
        for book in self.all() {
            let slices = book.slices(now);
            let Some(quota) = book.terms() else { continue };
            for slices in slices.chunks(BATCH) {
                let written = self.write(&quota, slices).await;
                if let Err(error) = &written
                    && !book.is_away()
                {
                    let say = error.detail();
                    tracing::warn!(quota = %quota.name, "what a quota has left cannot be put down: {say}");
                }
                book.set_away(written.is_err());
                match written {
                    Ok(()) => book.put_down(slices),
                    Err(_) => went_well = false,
                }
            }
        }
        self.0.done.notify_waiters();
        went_well
    }

    async fn write(&self, quota: &Quota, rows: &[(Box<str>, Kept)]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (store, map) = self.store()?;
        let mut transaction = Transaction::new(Durability::Fsync);
        for (key, kept) in rows {
            let value = serde_json::to_vec(kept).map_err(|error| {
                Error::new(Reason::Internal, "an account could not be written").because(error)
            })?;
            transaction = transaction.with(Op::Put {
                map: *map,
                key: row(quota, key),
                value: value.into(),
                expires_ms: kept.expires_ms(),
                expect: ExpectValue::Any,
            });
        }
        store.commit(transaction).await.map_err(|refused| refused.error)?;
        Ok(())
    }

    /// Writes what was used exactly, so that a start finds it so. Nothing may be used any more.
    pub async fn settle(&self) {
        let _turn = self.0.turn.lock().await;
        for book in self.all() {
            let Some(quota) = book.terms() else { continue };
            for rows in book.all().chunks(BATCH) {
                if let Err(error) = self.write(&quota, rows).await {
                    let say = error.detail();
                    tracing::warn!(quota = %quota.name, "its slices count as used: {say}");
                    return;
                }
            }
        }
    }

    /// Changes the account of a key by hand, and keeps that.
    ///
    /// # Errors
    /// What the store says; nothing is changed then.
    pub async fn change(
        &self,
        book: &Book,
        key: &str,
        with: impl FnOnce(&mut Account),
    ) -> Result<Account> {
        let _turn = self.0.turn.lock().await;
        let gone = || Error::new(Reason::NotFound, "the quota is gone");
        let quota = book.terms().ok_or_else(gone)?;
        let now = now_ms();
        let mut changed = book.account(key).unwrap_or_default();
        changed.turn(&quota.terms(), now);
        let before = changed.clone();
        with(&mut changed);
        // What is used meanwhile is used from the slice that is on the disk already.
        let slice = before.reserved.saturating_sub(before.used);
        let kept = changed.kept_with(slice.min(changed.left(&quota.terms())));
        self.write(&quota, &[(key.into(), kept)]).await?;
        Ok(book.change(key, &quota, now, |account, terms| {
            if account.period == changed.period {
                let since = account.used.saturating_sub(before.used);
                changed.used = changed.used.saturating_add(since);
                changed.reserved = changed.used.max(kept.used());
                changed.warn_anew(terms);
                *account = changed;
            }
            account.clone()
        }))
    }
}

/// What the rows of a quota begin with.
fn prefix(quota: &Quota) -> Vec<u8> {
    format!("{}\0{}\0", quota.name, quota.scope()).into_bytes()
}

fn row(quota: &Quota, key: &str) -> Bytes {
    let mut row = prefix(quota);
    row.extend_from_slice(key.as_bytes());
    row.into()
}

#[cfg(test)]
mod tests;

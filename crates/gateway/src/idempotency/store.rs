//! The keys of a node: what is being carried out, in memory, and what has been, in the store.
//!
//! A request is in memory from when its key is claimed until what came of it is with the operating system, so
//! that of many with one key, on whatever worker and connection, one runs. That it runs is on disk before
//! anybody is asked: a claim is one transaction that expects the key to be absent, and so one sync. The
//! outcome need not be on disk before it is answered: if it is lost with the machine, the claim is still
//! there, and says that the outcome is unknown, never that nothing has begun.

mod claim;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::watch;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{Durability, ExpectValue, MapId, MapOptions, Store, Transaction, Value};
use weft_net::{Tasks, clock};

pub(super) use self::claim::Claim;
use self::claim::Stage;
use super::{
    accounts::{Accounts, Sum},
    key::{EntryKey, Fingerprint},
    places::{Place, Places},
    record::{Answer, Head, Standing},
};

/// The time that a request is taken to end within: what says that it runs is kept as much longer.
const RUN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How many heads are read at once.
const PAGE: usize = 1000;
/// How often a claim looks again at what changes under it.
const LOOKS_MAX: usize = 8;

/// Wall milliseconds.
fn now_ms() -> u64 {
    let since = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// How far a request is that is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its key is being looked up.
    Checking,
    /// It is being carried out.
    Running,
}

/// What is asked of a key.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) key: EntryKey,
    pub(super) fingerprint: Fingerprint,
    /// Number that nobody else has.
    pub(super) nonce: u64,
    pub(super) keep: Duration,
    /// Whether what is unknown is begun anew.
    pub(super) run_again: bool,
    /// The most entries of one consumer of the route, and of their bytes.
    pub(super) most: Sum,
}

/// How a key stands.
pub(super) enum Found {
    /// It is this request's.
    Claimed(Claim),
    /// Another request with it is being looked up, or carried out: to be asked again when that has changed.
    Busy(watch::Receiver<Phase>),
    /// Its answer is kept.
    Answered(Box<Answer>),
    /// It was used for another request.
    Reused,
    /// It is done with this status, and the answer is not kept.
    NotKept(u16),
    /// It was begun, and nobody knows what came of it.
    Unknown,
}

struct Running {
    fingerprint: Fingerprint,
    /// Dropped when it is over.
    phase: watch::Sender<Phase>,
}

#[derive(Default)]
struct State {
    running: HashMap<EntryKey, Running>,
    accounts: Accounts,
}

/// The keys of a node.
pub struct Keys {
    store: Arc<dyn Store>,
    heads: MapId,
    answers: MapId,
    state: Mutex<State>,
    places: Places,
    waiting: AtomicUsize,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("heads", &self.heads).finish_non_exhaustive()
    }
}

/// An entry, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Route, scope and key.
    pub key: EntryKey,
    /// How it stands.
    pub standing: Standing,
    /// Whether it is being carried out now.
    pub is_running: bool,
    /// The status that was answered; 0 for none.
    pub status: u16,
    /// Bytes of the answer that is kept.
    pub bytes: u64,
    /// When it began, in wall milliseconds.
    pub began_ms: u64,
    /// When it was done, in wall milliseconds; 0 if it is not.
    pub done_ms: u64,
    /// When it is forgotten, in wall milliseconds.
    pub expires_ms: u64,
}

/// What a node has of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries, and their bytes.
    pub kept: Sum,
    /// Requests that are carried out.
    pub running: usize,
    /// Requests that wait for another with their key.
    pub waiting: usize,
}

impl Keys {
    /// Opens what is kept in a namespace of a store.
    ///
    /// # Errors
    /// What the store says, and [`Reason::StorageCorrupt`] for an entry that cannot be read.
    pub async fn open(store: Arc<dyn Store>) -> Result<Self> {
        let heads = store.create_map("keys", MapOptions::default()).await?;
        let answers = store.create_map("answers", MapOptions::default()).await?;
        let mut accounts = Accounts::default();
        let mut after = None;
        loop {
            let page = store.scan(heads, b"", after.clone(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in page {
                let (key, head) = (EntryKey::of_store(key), Head::read(&value.data)?);
                accounts.add(key.owner(), value.expires_ms, head.bytes.into());
            }
        }
        let state = Mutex::new(State { accounts, ..State::default() });
        let (places, waiting) = (Places::default(), AtomicUsize::new(0));
        Ok(Self { store, heads, answers, state, places, waiting })
    }

    /// A place for a request with a key, to be taken before its body is read.
    ///
    /// # Errors
    /// [`Reason::Overload`] if its consumer has as many on the route as are free.
    pub(super) fn place(&self, key: &EntryKey) -> Result<Place> {
        self.places.take(key.owner())
    }

    /// Claims a key, or says how it stands. Dropped, it claims nothing.
    ///
    /// # Errors
    /// [`Reason::IdempotencyFull`] beyond the bounds, and what the store says.
    pub(super) async fn claim(self: &Arc<Self>, wanted: Wanted, tasks: &Tasks) -> Result<Found> {
        let began_ms = now_ms();
        {
            let mut state = self.state.lock();
            if let Some(running) = state.running.get(&wanted.key) {
                let phase = *running.phase.borrow();
                let is_other = running.fingerprint != wanted.fingerprint;
                return Ok(match phase {
                    Phase::Running if is_other => Found::Reused,
                    _ => Found::Busy(running.phase.subscribe()),
                });
            }
            let (phase, _) = watch::channel(Phase::Checking);
            let running = Running { fingerprint: wanted.fingerprint, phase };
            state.running.insert(wanted.key.clone(), running);
        }
        let mut claim = Claim {
            keys: Arc::clone(self),
            tasks: tasks.clone(),
            expires_ms: began_ms.saturating_add(millis(wanted.keep.saturating_add(RUN_MAX))),
            wanted,
            stage: Stage::Looking,
            began_ms,
            replaces: None,
            is_counted: false,
        };
        let mut expect = ExpectValue::Absent;
        for _ in 0..LOOKS_MAX {
            // Who has too many is still told of those that there are.
            let is_full = !claim.count(expect == ExpectValue::Absent);
            if !is_full && claim.put(expect).await? {
                return Ok(Found::Claimed(claim));
            }
            let Some(value) = self.store.get(self.heads, claim.wanted.key.bytes()).await? else {
                if is_full {
                    let say = "as many idempotency keys are kept as may be";
                    return Err(Error::new(Reason::IdempotencyFull, say));
                }
                expect = ExpectValue::Absent;
                continue;
            };
            let head = Head::read(&value.data)?;
            if head.fingerprint != claim.wanted.fingerprint {
                return Ok(Found::Reused);
            }
            match head.standing {
                Standing::NotKept => return Ok(Found::NotKept(head.status)),
                Standing::Running if claim.wanted.run_again => {
                    expect = ExpectValue::Version(value.version);
                    claim.replaces = Some((value.expires_ms, head.bytes.into()));
                }
                Standing::Running => return Ok(Found::Unknown),
                Standing::Kept => {
                    // Gone between the two looks, if not there: its time is over.
                    if let Some(answer) =
                        self.store.get(self.answers, claim.wanted.key.bytes()).await?
                    {
                        return Ok(Found::Answered(Box::new(Answer::read(answer.data)?)));
                    }
                }
            }
        }
        let say = "what is kept under the idempotency key changes all the time";
        Err(Error::new(Reason::StorageBusy, say))
    }

    /// Counts one that waits for another with its key.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(self))
    }

    /// What there is. To be asked now and then: it lets go of what is over.
    pub fn counts(&self) -> Counts {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let mut state = self.state.lock();
        Counts { kept: state.accounts.trim(now_ms()), running: state.running.len(), waiting }
    }

    fn entry(&self, key: EntryKey, value: &Value) -> Result<Entry> {
        let head = Head::read(&value.data)?;
        let is_running = self.state.lock().running.contains_key(&key);
        Ok(Entry {
            key,
            standing: head.standing,
            is_running,
            status: head.status,
            bytes: head.bytes.into(),
            began_ms: head.began_ms,
            done_ms: head.done_ms,
            expires_ms: value.expires_ms,
        })
    }

    /// Entries by route, scope and key, behind one, at most `limit`.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list(&self, after: Option<EntryKey>, limit: usize) -> Result<Vec<Entry>> {
        let after = after.map(|key| key.bytes().clone());
        let page = self.store.scan(self.heads, b"", after, limit).await?;
        page.into_iter().map(|(key, value)| self.entry(EntryKey::of_store(key), &value)).collect()
    }

    /// One entry.
    ///
    /// # Errors
    /// [`Reason::NotFound`], and what the store says.
    pub async fn show(&self, key: EntryKey) -> Result<Entry> {
        let value = self.store.get(self.heads, key.bytes()).await?.ok_or_else(missing)?;
        self.entry(key, &value)
    }

    /// Forgets an entry, so that its key is free again.
    ///
    /// # Errors
    /// [`Reason::NotFound`], [`Reason::Conflict`] while it is being carried out, and what the store says.
    pub async fn delete(&self, key: EntryKey) -> Result<()> {
        let running = || {
            let say =
                "the request is being carried out; its key can be deleted once it is answered";
            Error::new(Reason::Conflict, say)
        };
        let value = self.store.get(self.heads, key.bytes()).await?.ok_or_else(missing)?;
        let entry = self.entry(key, &value)?;
        if entry.is_running {
            return Err(running());
        }
        let key = entry.key.bytes();
        let gone = Transaction::new(Durability::Fsync)
            .delete(self.heads, key.clone(), ExpectValue::Version(value.version))
            .delete(self.answers, key.clone(), ExpectValue::Any);
        match self.store.commit(gone).await {
            Ok(_) => {}
            Err(refused) if refused.error.reason() == Reason::VersionConflict => {
                // It has been begun anew since, or its time is over.
                let is_there = self.store.get(self.heads, key).await?.is_some();
                return Err(if is_there { running() } else { missing() });
            }
            Err(refused) => return Err(refused.error),
        }
        let mut state = self.state.lock();
        state.accounts.remove(entry.key.owner(), entry.expires_ms, entry.bytes);
        Ok(())
    }

    /// Nobody is at it any more. Who waits looks again.
    fn release(&self, key: &EntryKey) {
        self.state.lock().running.remove(key);
    }
}

fn missing() -> Error {
    Error::new(Reason::NotFound, "there is no such idempotency key, or it is kept no longer")
}

/// One of those that wait.
pub(super) struct Waiting(Arc<Keys>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests;

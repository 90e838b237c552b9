//! Schemas that were read lately, and the reading of others, apart from who waits for it.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use weft_kernel::{Error, Reason};

use crate::{error::Result, schema::Schema};

/// The most schemas that are kept read.
const ENTRIES_MAX: usize = 256;
/// The most text of theirs, in bytes.
const BYTES_MAX: usize = 8 << 20;
/// How many are read or compared at once.
const AT_ONCE: usize = 2;
/// How many of them for those who only ask.
const ASKED_AT_ONCE: usize = 1;

/// Schemas by id.
#[derive(Default)]
pub(super) struct Parsed(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    all: HashMap<u32, Entry>,
    bytes: usize,
    turn: u64,
}

struct Entry {
    schema: Arc<Schema>,
    bytes: usize,
    used: u64,
}

impl Parsed {
    pub(super) fn get(&self, id: u32) -> Option<Arc<Schema>> {
        let mut entries = self.0.lock();
        entries.turn += 1;
        let turn = entries.turn;
        let entry = entries.all.get_mut(&id)?;
        entry.used = turn;
        Some(Arc::clone(&entry.schema))
    }

    pub(super) fn put(&self, id: u32, schema: Arc<Schema>, bytes: usize) {
        let mut entries = self.0.lock();
        let used = entries.turn;
        if let Some(old) = entries.all.insert(id, Entry { schema, bytes, used }) {
            entries.bytes -= old.bytes;
        }
        entries.bytes += bytes;
        while entries.all.len() > ENTRIES_MAX || entries.bytes > BYTES_MAX && entries.all.len() > 1
        {
            let oldest = entries.all.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(id, _)| *id) else { break };
            if let Some(gone) = entries.all.remove(&oldest) {
                entries.bytes -= gone.bytes;
            }
        }
    }

    pub(super) fn remove(&self, id: u32) {
        let mut entries = self.0.lock();
        if let Some(gone) = entries.all.remove(&id) {
            entries.bytes -= gone.bytes;
        }
    }
}

/// Does work that may take a while on a thread for such, a few at a time.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);
    let turn = TURNS.acquire().await.map_err(|error| failed(&error))?;
    let done = tokio::task::spawn_blocking(move || {
        // Held by the work itself: who waits may leave.
        let _turn = turn;
        work()
    });
    Ok(done.await.map_err(|error| failed(&error))?)
}

/// The same for those who only ask: who registers waits for one of them at most.
pub(super) async fn asked<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    static TURNS: Semaphore = Semaphore::const_new(ASKED_AT_ONCE);
    let turn = TURNS.acquire().await.map_err(|error| failed(&error))?;
    let work = move || {
        let _turn = turn;
        work()
    };
    apart(work).await
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::new(Reason::Internal, format!("a schema could not be worked on: {error}"))
}

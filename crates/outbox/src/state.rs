//! How an outbox is, for who asks while it works: counters and marks without locks, words under one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::{fault::Fault, lsn::Lsn};

/// What an outbox does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It connects, and looks whether the server is the one that was read.
    Connecting,
    /// The slot is being made, which waits for transactions that run.
    Creating,
    /// It reads and publishes.
    Reading,
    /// The store or a queue takes nothing at the moment; nothing is read meanwhile.
    Waiting(String),
    /// The server cannot be reached, and is tried again.
    Away(String),
    /// It stands still.
    Stopped(Fault),
}

impl State {
    /// Stable word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Creating => "creating",
            Self::Reading => "reading",
            Self::Waiting(_) => "waiting",
            Self::Away(_) => "away",
            Self::Stopped(_) => "stopped",
        }
    }

    /// Why, if there is more to say.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Connecting | Self::Creating | Self::Reading => None,
            Self::Waiting(why) | Self::Away(why) => Some(why.clone()),
            Self::Stopped(fault) => Some(fault.to_string()),
        }
    }
}

/// What was counted since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that were published.
    pub published: u64,
    /// Events that went to the queue for what topics refuse.
    pub refused: u64,
    /// Messages of the log that belong to no transaction, and are not published.
    pub ignored: u64,
    /// Connections that were opened for reading.
    pub connections: u64,
}

/// What is shared between who reads and who asks.
pub(crate) struct Shared {
    state: Mutex<State>,
    published: AtomicU64,
    refused: AtomicU64,
    ignored: AtomicU64,
    connections: AtomicU64,
    /// Whether the log is known to be the one that was read.
    pub(crate) proven: AtomicBool,
    /// Up to where the server has sent.
    received: AtomicU64,
    /// Behind the last transaction that was published; 0 if there is none.
    done: AtomicU64,
    /// Where the server's log ends, as it said last.
    server: AtomicU64,
    /// From where on the server keeps its log for the slot.
    kept_from: AtomicU64,
    /// Since when something may wait to be published: wall milliseconds, 0 if nothing does.
    behind: AtomicU64,
    wal_status: Mutex<String>,
}

impl Shared {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            state: Mutex::new(State::Connecting),
            published: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            proven: AtomicBool::new(false),
            received: AtomicU64::new(0),
            done: AtomicU64::new(0),
            server: AtomicU64::new(0),
            kept_from: AtomicU64::new(0),
            behind: AtomicU64::new(now_ms),
            wal_status: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state.lock().clone()
    }

    /// Sets the state; tells whether it was another one.
    pub(crate) fn set(&self, state: State) -> bool {
        let mut now = self.state.lock();
        let is_new = *now != state;
        *now = state;
        is_new
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            published: self.published.load(Relaxed),
            refused: self.refused.load(Relaxed),
            ignored: self.ignored.load(Relaxed),
            connections: self.connections.load(Relaxed),
        }
    }

    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
        self.proven.store(false, Relaxed);
    }

    pub(crate) fn published(&self, published: u64, refused: u64) {
        self.published.fetch_add(published, Relaxed);
        self.refused.fetch_add(refused, Relaxed);
    }

    pub(crate) fn ignored(&self) {
        self.ignored.fetch_add(1, Relaxed);
    }

    pub(crate) fn set_received(&self, at: Lsn) {
        self.received.store(at.0, Relaxed);
        self.server.fetch_max(at.0, Relaxed);
    }

    pub(crate) fn set_done(&self, end: Option<Lsn>) {
        self.done.store(end.map_or(0, |end| end.0), Relaxed);
    }

    pub(crate) fn done(&self) -> Option<Lsn> {
        let end = self.done.load(Relaxed);
        (end > 0).then_some(Lsn(end))
    }

    /// What the server says of its log and of the slot.
    pub(crate) fn set_server(&self, end: Lsn, kept_from: Lsn, wal_status: &str) -> bool {
        self.server.store(end.0, Relaxed);
        self.kept_from.store(kept_from.0, Relaxed);
        let mut now = self.wal_status.lock();
        let is_new = *now != wal_status;
        if is_new {
            wal_status.clone_into(&mut now);
        }
        is_new
    }

    pub(crate) fn wal_status(&self) -> String {
        self.wal_status.lock().clone()
    }

    /// Something that was committed at a time is to be published.
    pub(crate) fn behind(&self, since_ms: u64) {
        self.behind.store(since_ms.max(1), Relaxed);
    }

    /// Everything was published that is known.
    pub(crate) fn caught_up(&self) {
        self.behind.store(0, Relaxed);
    }

    /// From now on nobody knows what there is to be published.
    pub(crate) fn lost_sight(&self, now_ms: u64) {
        let _ = self.behind.compare_exchange(0, now_ms.max(1), Relaxed, Relaxed);
    }

    pub(crate) fn lag_ms(&self, now_ms: u64) -> u64 {
        match self.behind.load(Relaxed) {
            0 => 0,
            since => now_ms.saturating_sub(since),
        }
    }

    /// Bytes of the server's log that have not come yet, and that it keeps for the slot.
    pub(crate) fn lag_bytes(&self) -> (u64, u64) {
        let server = Lsn(self.server.load(Relaxed));
        let kept = match self.kept_from.load(Relaxed) {
            0 => 0,
            from => server.since(Lsn(from)),
        };
        (server.since(Lsn(self.received.load(Relaxed))), kept)
    }
}

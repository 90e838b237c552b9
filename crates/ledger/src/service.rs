//! How the core reaches the disk: one thread writes and syncs, one keeps house, two read.
//!
//! Everything that a thread does is a step that can be called by hand ([`Service::step`]), so that a
//! simulation runs the very same code without any thread. Locks are taken in one order: the writer,
//! then the core; nobody waits for the disk while holding the core.

mod files;
mod keeper;
mod readers;
mod syncer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use weft_kernel::{Clock, Error, Result};

use crate::{
    core::Now,
    disk::Disk,
    flush::Flusher,
    ledger::Shared,
    options::Options,
    recover::{self, DiskLock, Recovered},
    store::Stats,
    wal::Writer,
};
pub(crate) use files::{Files, quarantine};
use readers::Readers;

/// How long after the last sync it is proven by a marker.
const IDLE: Duration = Duration::from_millis(20);
/// How often the keeper looks whether there is something to do when nobody tells it.
const KEEP: Duration = Duration::from_millis(250);
/// Threads that read what is not in memory.
const READERS: usize = 2;

/// Tells a thread that there is something to do.
#[derive(Debug, Default)]
struct Signal {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    fn set(&self) {
        let mut set = self.set.lock();
        if !*set {
            *set = true;
            self.changed.notify_one();
        }
    }

    /// Waits until it is set, and unsets it; false if `most` passed first.
    fn wait(&self, most: Duration) -> bool {
        let mut set = self.set.lock();
        if !*set {
            let _ = self.changed.wait_for(&mut set, most);
        }
        std::mem::take(&mut *set)
    }
}

/// What is written, and what of it is proven.
#[derive(Debug)]
struct Writing {
    writer: Writer,
    /// The last transaction that was written.
    last_seq: u64,
    /// Whether something was synced that no later frame proves.
    unproven: bool,
}

/// The service of one ledger.
#[derive(Debug)]
pub(crate) struct Service {
    shared: Arc<Shared>,
    options: Options,
    files: Arc<Files>,
    writing: Mutex<Writing>,
    flusher: Mutex<Flusher>,
    readers: Arc<Readers>,
    work: Arc<Signal>,
    house: Signal,
    stopping: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    damaged: AtomicU64,
    /// Held from the opening to the stop.
    lock: Mutex<Option<DiskLock>>,
}

impl Service {
    /// Recovers what is on `disk`; nothing runs yet.
    ///
    /// # Errors
    /// What [`recover::recover`] says.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<Shared>, Arc<Self>, Recovered)> {
        let now = Now::read(&*clock);
        let found = recover::recover(disk, &options, now)?;
        let files = Arc::new(found.files);
        let shared = Arc::new(Shared::new(found.core, clock));
        let readers = Arc::new(Readers::new(files.clone()));
        let work = Arc::new(Signal::default());
        let kick = work.clone();
        // Both are set here and nowhere else.
        let _ = shared.cold.set(readers.clone());
        let _ = shared.kick.set(Box::new(move || kick.set()));
        let service = Arc::new(Self {
            shared: shared.clone(),
            options,
            files,
            writing: Mutex::new(Writing {
                writer: found.writer,
                last_seq: found.report.seq,
                unproven: false,
            }),
            flusher: Mutex::new(Flusher::new(found.next_segment, found.first_file)),
            readers,
            work,
            house: Signal::default(),
            stopping: AtomicBool::new(false),
            threads: Mutex::default(),
            damaged: AtomicU64::new(found.report.damage.len() as u64),
            lock: Mutex::new(Some(found.lock)),
        });
        // The new life is on the disk before anything is handed out in it.
        service.write_all()?;
        Ok((shared, service, found.report))
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// `internal` when the machine gives no thread.
    pub(crate) fn start(self: &Arc<Self>) -> Result<()> {
        let mut threads = self.threads.lock();
        if !threads.is_empty() {
            return Ok(());
        }
        self.readers.start();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| {
                Error::new(weft_kernel::Reason::Internal, "the machine gives no thread")
                    .because(error)
            })
        };
        let service = self.clone();
        threads.push(spawn("ledger-sync", Box::new(move || service.run_syncer()))?);
        let service = self.clone();
        threads.push(spawn("ledger-keep", Box::new(move || service.run_keeper()))?);
        for _ in 0..READERS {
            let readers = self.readers.clone();
            threads.push(spawn("ledger-read", Box::new(move || readers.run()))?);
        }
        Ok(())
    }

    /// Ends the threads once all that was submitted is written, and stores a checkpoint, so that the next opening has little to do.
    ///
    /// # Errors
    /// What failed of it; the threads have ended in any case.
    pub(crate) fn stop(&self) -> Result<()> {
        self.stopping.store(true, Ordering::Release);
        self.work.set();
        self.house.set();
        self.readers.stop();
        let mine = std::thread::current().id();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.thread().id() != mine {
                // A thread that panicked has nothing more to give.
                let _ = thread.join();
            }
        }
        let done = self.write_all().and_then(|()| self.prove()).and_then(|_| self.checkpoint());
        // Whatever came of it: nothing is written from here on, so another opener may have the disk.
        let wakes = self.shared.core.lock().poison("the ledger was closed");
        wakes.wake();
        self.shared.poisoned();
        // The tables write a last time when they are let go, which clones of the handle must not put off.
        self.files.checkpoint.close();
        self.lock.lock().take();
        done
    }

    /// Does everything that there is to do, once and in this thread; whether there was anything.
    pub(crate) fn step(&self) -> bool {
        let mut did = false;
        while self.sync_step() {
            did = true;
        }
        did |= self.idle_step();
        did |= self.keep_step();
        did
    }

    fn now(&self) -> Now {
        Now::read(&*self.shared.clock)
    }

    /// Tells the writer that something waits.
    pub(crate) fn kick(&self) {
        self.work.set();
    }

    /// Adds what the core does not know.
    pub(crate) fn stats(&self, stats: &mut Stats) {
        stats.wal_bytes = self.files.wal.bytes();
        stats.segment_bytes = self.files.segments.bytes();
        stats.index_bytes = self.files.checkpoint_bytes();
        stats.damaged = self.damaged.load(Ordering::Relaxed);
        let mut core = self.shared.core.lock();
        stats.full = core.cursor().is_full();
        stats.poisoned = core.poisoned().is_some();
    }

    /// Counts records that were found damaged.
    pub(crate) fn count_damaged(&self, records: u64) {
        self.damaged.fetch_add(records, Ordering::Relaxed);
    }

    /// The files, for those who look at them.
    pub(crate) fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// Nothing more is taken: tells everybody who waits.
    fn poison(&self, error: &Error) {
        tracing::error!(error = %error.detail(), "the ledger takes nothing more: a write has failed");
        let wakes = self.shared.core.lock().poison(error.detail());
        wakes.wake();
        self.shared.poisoned();
    }
}

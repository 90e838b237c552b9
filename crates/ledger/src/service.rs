//! How the core reaches the disk: one thread writes and syncs, one keeps house, two read.
//!
//! Everything that a thread does is a step that can be called by hand ([`Service::step`]), so that a
//! simulation runs the very same code without any thread. Locks are taken in one order: the writer,
//! then the core; nobody waits for the disk while holding the core.

mod damage;
mod files;
mod maintenance;
mod readers;
mod syncer;
mod watchdog;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use weft_kernel::{Clock, Error, Reason, Result};

use crate::{
    core::{Ended, Now, WriteGroup},
    disk::Disk,
    flush::Flusher,
    ledger::Shared,
    options::Options,
    recover::{self, DiskLock, Recovered},
    store::Stats,
    wal::Writer,
};
pub(crate) use damage::{Damages, LostRecord};
pub(crate) use files::{Files, QUARANTINE, quarantine};
use readers::Readers;
pub(crate) use watchdog::Health;
use watchdog::Pulses;

/// How long after the last sync it is proven by a marker.
const IDLE: Duration = Duration::from_millis(20);
/// How often maintenance looks whether there is something to do when nobody tells it.
const KEEP: Duration = Duration::from_millis(250);
/// How long a thread sleeps that waits for nothing but being told.
const LONG: Duration = Duration::from_secs(3600);
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
    /// What a full disk has no room for; it is written again before anything else.
    held: Option<WriteGroup>,
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
    watch: Signal,
    pulses: Pulses,
    stopping: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Whether maintenance is suspended because a file cannot be opened, read or made.
    unread: AtomicBool,
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
        let damages = files.damages.clone();
        let shared = Arc::new(Shared::new(found.core, clock, damages));
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
                held: None,
            }),
            flusher: Mutex::new(Flusher::new(found.next_segment, found.start, &found.gone)),
            readers,
            work,
            house: Signal::default(),
            watch: Signal::default(),
            pulses: Pulses::default(),
            stopping: AtomicBool::new(false),
            threads: Mutex::default(),
            unread: AtomicBool::new(false),
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
        let mut spawn = |name: &'static str, run: fn(&Self)| -> Result<()> {
            let service = self.clone();
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || service.run_thread(name, run))
                .map_err(|error| {
                    Error::new(Reason::Internal, "the machine gives no thread").because(error)
                })?;
            threads.push(thread);
            Ok(())
        };
        spawn("ledger-sync", Self::run_syncer)?;
        spawn("ledger-keep", Self::run_maintenance)?;
        spawn("ledger-watch", Self::run_watchdog)?;
        for _ in 0..READERS {
            spawn("ledger-read", |service| service.readers.run())?;
        }
        Ok(())
    }

    /// Runs a thread's loop. One that dies of a panic takes the ledger with it: nobody would do its work.
    fn run_thread(&self, name: &'static str, run: fn(&Self)) {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(self)));
        if ended.is_err() {
            let text = "a thread of the ledger has died of a fault in the program";
            self.poison(&Error::new(Reason::Internal, text).note(name));
        }
    }

    /// Ends the threads once all that was submitted is written, and stores a checkpoint, so that the next opening
    /// has little to do. A second time does nothing.
    ///
    /// # Errors
    /// What failed of it; the threads have ended in any case.
    pub(crate) fn stop(&self) -> Result<()> {
        if self.stopping.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.work.set();
        self.house.set();
        self.watch.set();
        self.readers.stop();
        self.end_threads()?;
        // From here on nothing more is taken, so that what was taken can be written to its end.
        self.shared.core.lock().close();
        self.shared.core.lock().requeue_all();
        let done = self
            .write_all()
            .and_then(|()| self.prove())
            .and_then(|_| self.last_checkpoint())
            .and_then(|()| self.mark_end());
        // Whatever came of it: nothing is written from here on, so another opener may have the disk.
        self.shared.end(Ended::Closed);
        // The tables write a last time when they are let go, which clones of the handle must not put off.
        self.files.checkpoint.close();
        self.lock.lock().take();
        done
    }

    /// Stores a checkpoint, unless the disk has no room for it: the log holds everything, and the next start reads
    /// more of it.
    fn last_checkpoint(&self) -> Result<()> {
        match self.checkpoint() {
            Err(full) if full.reason() == Reason::StorageFull => {
                tracing::warn!(
                    error = %full.detail(),
                    "the disk has no room for a last checkpoint: the next start reads the log instead"
                );
                Ok(())
            }
            stored => stored,
        }
    }

    /// Waits until the threads have ended.
    ///
    /// # Errors
    /// `storage_stalled` for one that hangs. The locks it may hold are not waited for.
    fn end_threads(&self) -> Result<()> {
        let mine = std::thread::current().id();
        let threads = std::mem::take(&mut *self.threads.lock());
        let until = Instant::now() + self.options.stall;
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != mine) {
            while !thread.is_finished() {
                if Instant::now() >= until {
                    let name = thread.thread().name().unwrap_or_default().to_owned();
                    let text = "a thread of the ledger hangs, and is left behind";
                    return Err(Error::new(Reason::StorageStalled, text).note(name));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            // It has ended, and a panic of it was told.
            let _ = thread.join();
        }
        Ok(())
    }

    /// Does everything that there is to do, once and in this thread; whether there was anything.
    pub(crate) fn step(&self) -> bool {
        let mut did = false;
        while self.sync_step() {
            did = true;
        }
        did |= self.idle_step();
        did |= self.maintenance_step();
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
        stats.damaged = self.files.damages.count();
        let mut core = self.shared.core.lock();
        stats.full = core.cursor().is_full();
        stats.unavailable = self.unread.load(Ordering::Relaxed);
        stats.poisoned = matches!(core.ended(), Some(Ended::Failed(_)));
    }

    /// The files, for those who look at them.
    pub(crate) fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// Nothing more is taken: tells everybody who waits.
    fn poison(&self, error: &Error) {
        tracing::error!(error = %error.detail(), "the ledger takes nothing more: a write has failed");
        self.shared.end(Ended::Failed(error.detail()));
    }
}

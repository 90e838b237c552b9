//! The ledger as it runs in a node: its own threads, on a real folder or on a disk that misbehaves.

use std::{
    any::Any,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use weft_kernel::{ByteSize, Reason, Result, SystemClock};
use weft_ledger::{
    Durability, EmbeddedStore, Ledger, LogId, LogOptions, NewRecord, Options, Receipt, Refused,
    Store, Transaction,
    disk::{Disk, File, SimulatedDisk},
};

/// How long anything here may take before it counts as hanging.
const MOST: Duration = Duration::from_secs(20);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

fn options() -> Options {
    Options { wal_file_bytes: ByteSize(1 << 20), ..Options::default() }
}

fn open(folder: &std::path::Path) -> Ledger {
    Ledger::open_folder(folder, options(), Arc::new(SystemClock)).unwrap().0
}

async fn publish(ledger: &Ledger, log: LogId, level: Durability) -> Result<Receipt, Refused> {
    let publish = Transaction::new(level).append(log, NewRecord::new(&b"hello"[..]));
    tokio::time::timeout(MOST, ledger.commit(publish)).await.expect("the ledger hangs")
}

/// Until `done` says so.
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + MOST;
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_needs_no_sync_does_not_stop_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    runtime().block_on(async {
        let log = ledger.create_log("log", LogOptions::default()).await.unwrap();
        for weak in [Durability::Memory, Durability::Os] {
            // Long enough for a sync to be due in the middle of it.
            let until = Instant::now() + Duration::from_millis(100);
            while Instant::now() < until {
                publish(&ledger, log, weak).await.unwrap();
            }
            publish(&ledger, log, Durability::Fsync).await.unwrap();
        }
    });
    ledger.close().unwrap();
}

#[test]
fn every_mixture_of_levels_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    runtime().block_on(async {
        let log = ledger.create_log("log", LogOptions::default()).await.unwrap();
        let publishers = (0..6usize).map(|publisher| {
            let ledger = ledger.clone();
            #[expect(clippy::disallowed_methods, reason = "a test has no drain to wait for it")]
            tokio::spawn(async move {
                for number in 0..400 {
                    let level = Durability::ALL[(publisher + number / 7) % 3];
                    publish(&ledger, log, level).await.unwrap();
                }
            })
        });
        for publisher in publishers.collect::<Vec<_>>() {
            publisher.await.unwrap();
        }
        let stats = ledger.log_stats_now(log).unwrap();
        assert!(stats.records <= 2400);
    });
    ledger.close().unwrap();
    let ledger = open(folder.path());
    let log = runtime().block_on(ledger.find_log("log")).unwrap().unwrap().0;
    assert_eq!(ledger.log_stats_now(log).unwrap().records, 2400, "a close writes what waits");
    ledger.close().unwrap();
}

/// What a disk does besides what it should.
#[derive(Debug, Default)]
struct Faults {
    hangs: AtomicBool,
    panics: AtomicBool,
    /// Writes find no room, also where there are bytes already.
    full: AtomicBool,
    /// No file can be opened, as when there is no descriptor left; with its number of the system.
    shut: AtomicI32,
}

#[derive(Debug)]
struct FaultyDisk(SimulatedDisk, Arc<Faults>);

#[derive(Debug)]
struct FaultyFile(Arc<dyn File>, Arc<Faults>);

impl FaultyDisk {
    fn shut(&self) -> io::Result<()> {
        match self.1.shut.load(Ordering::Acquire) {
            0 => Ok(()),
            number => Err(io::Error::from_raw_os_error(number)),
        }
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn File>> {
        self.shut()?;
        Ok(Arc::new(FaultyFile(self.0.open(path, create)?, self.1.clone())))
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.shut()?;
        self.0.list(dir)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.remove(path)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.shut()?;
        self.0.sync_dir(dir)
    }
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.0.lock()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
}

impl File for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, bytes)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(!self.1.panics.load(Ordering::Acquire), "a fault of the test's disk");
        if self.1.full.load(Ordering::Acquire) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.write_at(offset, bytes)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn allocate_zeroed(&self, len: u64) -> io::Result<()> {
        self.0.allocate_zeroed(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        while self.1.hangs.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.0.sync_data()
    }
}

fn faulty() -> (Ledger, LogId, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let disk = FaultyDisk(SimulatedDisk::new(), faults.clone());
    let options = Options { stall: Duration::from_millis(300), ..options() };
    let (ledger, _) = Ledger::open(Arc::new(disk), options, Arc::new(SystemClock)).unwrap();
    ledger.start().unwrap();
    let log = runtime().block_on(ledger.create_log("log", LogOptions::default())).unwrap();
    (ledger, log, faults)
}

#[test]
fn a_disk_that_hangs_is_seen_and_forgiven_when_it_goes_on() {
    let (ledger, log, faults) = faulty();
    wait("a new ledger is not well", || ledger.health().is_ok());
    faults.hangs.store(true, Ordering::Release);
    let publish = Transaction::new(Durability::Fsync).append(log, NewRecord::new(&b"hello"[..]));
    let receipt = ledger.submit_now(publish).unwrap();
    wait("a hanging disk is not seen", || {
        ledger.health().is_err_and(|error| error.reason() == Reason::StorageStalled)
    });
    faults.hangs.store(false, Ordering::Release);
    wait("a disk that goes on is not seen", || ledger.health().is_ok());
    wait("it does not go on", || ledger.durable_now(Durability::Fsync) >= receipt.seq);
    // With so short a time a busy machine alone can make a thread late.
    let _ = ledger.close();
}

#[test]
fn a_write_in_place_that_finds_no_room_is_tried_again() {
    let (ledger, log, faults) = faulty();
    faults.full.store(true, Ordering::Release);
    let publish = Transaction::new(Durability::Fsync).append(log, NewRecord::new(&b"hello"[..]));
    let receipt = ledger.submit_now(publish).unwrap();
    wait("a full disk is not seen", || ledger.stats().full);
    assert!(ledger.ended_now().is_none(), "a full disk is no disk that fails");
    assert!(ledger.durable_now(Durability::Fsync) < receipt.seq);
    faults.full.store(false, Ordering::Release);
    wait("it does not go on", || ledger.durable_now(Durability::Fsync) >= receipt.seq);
    wait("it stays full", || !ledger.stats().full);
    assert_eq!(ledger.log_stats_now(log).unwrap().records, 1);
    let _ = ledger.close();
}

#[test]
fn files_that_cannot_be_opened_for_now_are_waited_for_and_poison_nothing() {
    // ENOMEM, EAGAIN, ENFILE, EMFILE.
    for number in [12, 11, 23, 24] {
        let (ledger, log, faults) = faulty();
        faults.shut.store(number, Ordering::Release);
        let piece = Bytes::from(vec![b'x'; 100_000]);
        let (mut taken, mut refused) = (0, None);
        runtime().block_on(async {
            while refused.is_none() {
                let publish =
                    Transaction::new(Durability::Fsync).append(log, NewRecord::new(piece.clone()));
                match tokio::time::timeout(MOST, ledger.commit(publish)).await.unwrap() {
                    Ok(_) => taken += 1,
                    Err(error) => refused = Some(error.error.reason()),
                }
                assert!(taken < 100, "files are made out of nothing");
            }
        });
        assert_eq!(refused, Some(Reason::StorageUnavailable), "{number}");
        assert!(ledger.ended_now().is_none() && ledger.stats().unavailable && !ledger.stats().full);
        assert!(ledger.health().is_ok(), "{number}");
        assert_eq!(ledger.stats().damaged, 0, "what cannot be opened is not damaged");
        faults.shut.store(0, Ordering::Release);
        wait("it does not go on", || !ledger.stats().unavailable);
        runtime().block_on(publish(&ledger, log, Durability::Fsync)).unwrap();
        assert_eq!(ledger.log_stats_now(log).unwrap().records, taken + 1);
        let _ = ledger.close();
    }
}

#[test]
fn a_disk_that_hangs_does_not_keep_a_ledger_from_ending() {
    let (ledger, log, faults) = faulty();
    faults.hangs.store(true, Ordering::Release);
    let publish = Transaction::new(Durability::Fsync).append(log, NewRecord::new(&b"hello"[..]));
    ledger.submit_now(publish).unwrap();
    wait("a hanging disk is not seen", || ledger.health().is_err());
    let error = ledger.close().unwrap_err();
    assert_eq!(error.reason(), Reason::StorageStalled);
    faults.hangs.store(false, Ordering::Release);
}

#[test]
fn a_thread_that_dies_takes_the_ledger_with_it_in_words() {
    let (ledger, log, faults) = faulty();
    faults.panics.store(true, Ordering::Release);
    let refused = runtime().block_on(publish(&ledger, log, Durability::Fsync)).unwrap_err();
    assert_eq!(refused.error.reason(), Reason::StoragePoisoned);
    assert_eq!(ledger.health().unwrap_err().reason(), Reason::StoragePoisoned);
    faults.panics.store(false, Ordering::Release);
    let refused = runtime().block_on(publish(&ledger, log, Durability::Memory)).unwrap_err();
    assert_eq!(refused.error.reason(), Reason::StoragePoisoned);
}

//! The suite for stores, on the embedded one: over a simulated disk that loses power at each restart,
//! and in a real folder.

use std::{path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use weft_kernel::{ByteSize, Clock, ManualClock, Rng};
use weft_ledger::{
    Durability, EmbeddedStore, ExpectValue, Ledger, MapOptions, Options, Pending, Store,
    Transaction,
    conformance::{Subject, run},
    disk::SimulatedDisk,
};

/// What a restart does.
pub(crate) enum Place {
    Simulated(SimulatedDisk, Mutex<Rng>),
    Folder(PathBuf),
}

/// The embedded store in its place.
pub(crate) struct Embedded {
    place: Place,
    options: Options,
    clock: Arc<ManualClock>,
    ledger: Mutex<Option<Ledger>>,
}

impl Embedded {
    pub(crate) fn new(place: Place, options: Options) -> Self {
        let clock = Arc::new(ManualClock::default());
        let embedded = Self { place, options, clock, ledger: Mutex::new(None) };
        embedded.open();
        embedded
    }

    fn open(&self) {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let ledger = match &self.place {
            Place::Simulated(disk, _) => {
                let disk = Arc::new(disk.clone());
                let (ledger, _) = Ledger::open(disk, self.options.clone(), clock).unwrap();
                ledger.start().unwrap();
                ledger
            }
            Place::Folder(folder) => {
                Ledger::open_folder(folder, self.options.clone(), clock).unwrap().0
            }
        };
        *self.ledger.lock() = Some(ledger);
    }
}

impl Subject for Embedded {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.ledger.lock().clone().unwrap())
    }

    fn embedded(&self) -> Option<Arc<dyn EmbeddedStore>> {
        Some(Arc::new(self.ledger.lock().clone().unwrap()))
    }

    fn pass(&self, span: Duration) -> Pending<'_, ()> {
        self.clock.advance(span);
        Box::pin(std::future::ready(()))
    }

    fn restart(&self) -> Pending<'_, ()> {
        let ledger = self.ledger.lock().take().unwrap();
        match &self.place {
            Place::Simulated(disk, rng) => {
                disk.halt();
                assert!(ledger.close().is_err(), "the power is off");
                disk.restart(&mut rng.lock());
            }
            Place::Folder(_) => ledger.close().unwrap(),
        }
        self.open();
        Box::pin(std::future::ready(()))
    }
}

fn conforms(place: Place, options: Options) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let subject = Embedded::new(place, options);
    runtime.block_on(async {
        let suite = run(&subject, |name| println!("{name}"));
        tokio::time::timeout(Duration::from_secs(120), suite).await.expect("a case hangs");
    });
}

/// Small files, which a restart makes quickly.
pub(crate) fn small() -> Options {
    Options {
        wal_file_bytes: ByteSize(256 << 10),
        transaction_bytes_max: ByteSize(128 << 10),
        ..Options::default()
    }
}

#[test]
fn the_suite_passes_on_a_disk_that_loses_power() {
    for seed in 0..4 {
        println!("seed {seed}");
        let rng = Mutex::new(Rng::seeded(seed));
        conforms(Place::Simulated(SimulatedDisk::new(), rng), small());
    }
}

#[test]
fn the_suite_passes_with_next_to_no_memory() {
    // Nothing recent is in memory, so that deliveries and reads come from files.
    for seed in 0..4 {
        println!("seed {seed}");
        let rng = Mutex::new(Rng::seeded(seed));
        let options = Options { recent_bytes: ByteSize(1 << 10), ..small() };
        conforms(Place::Simulated(SimulatedDisk::new(), rng), options);
    }
}

#[test]
fn the_suite_passes_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    conforms(Place::Folder(folder.path().join("ledger")), small());
}

#[test]
fn a_handle_that_outlives_its_closing_writes_nothing() {
    // A clone that was left once let the tables write a last time, into what a successor had open.
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let mut left = Vec::new();
    for life in 0..8u32 {
        let (ledger, _) = Ledger::open_folder(folder.path(), small(), clock.clone()).unwrap();
        let store: Arc<dyn Store> = Arc::new(ledger.clone());
        runtime.block_on(async {
            let map = store.create_map("lives", MapOptions::default()).await.unwrap();
            let entries = store.scan(map, b"", None, 1000).await.unwrap();
            assert_eq!(entries.len() as u32, life * 50);
            let put = (0..50).fold(Transaction::new(Durability::Fsync), |put, entry| {
                let key = format!("{life}/{entry}");
                put.put(map, key, vec![7; 2000], ExpectValue::Absent)
            });
            store.commit(put).await.unwrap();
        });
        // The handle of the life before goes while this one is open.
        left.clear();
        ledger.checkpoint().unwrap();
        ledger.close().unwrap();
        left.push(store);
    }
}

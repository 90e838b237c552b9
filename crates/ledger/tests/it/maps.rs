//! Maps that are on the disk: random operations against a model, with checkpoints and crashes at random
//! moments, and memory that is bounded whatever a map holds.

mod memory;
mod model;
mod races;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use model::{Change, MAPS, Model};
use weft_kernel::{ByteSize, Clock, Error, ManualClock, Reason, Rng};
use weft_ledger::{
    Durability, EmbeddedStore, ExpectValue, Ledger, MapId, MapOptions, Op, Options, Refused, Store,
    Transaction,
    disk::{SimulatedDisk, simulated::Faults},
};

use crate::simulation::block;

fn options() -> Options {
    Options {
        wal_file_bytes: ByteSize(32 << 10),
        wal_files_kept: 1,
        map_changes_bytes: ByteSize(12 << 10),
        map_cache_bytes: ByteSize(8 << 10),
        ..Options::default()
    }
}

fn fsync() -> Transaction {
    Transaction::new(Durability::Fsync)
}

fn wall_ms(clock: &ManualClock) -> u64 {
    clock.wall().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

/// One opening of the ledger.
struct Life<'a> {
    ledger: Ledger,
    disk: &'a SimulatedDisk,
    clock: Arc<ManualClock>,
    maps: [MapId; 2],
    model: &'a mut Model,
}

const LEASE: Duration = Duration::from_millis(700);

impl<'a> Life<'a> {
    /// `None` when the power fails meanwhile.
    fn open(
        disk: &'a SimulatedDisk,
        clock: &Arc<ManualClock>,
        model: &'a mut Model,
    ) -> Option<Self> {
        let opened = Ledger::open(Arc::new(disk.clone()), options(), clock.clone());
        let (ledger, recovered) = match opened {
            Ok(opened) => opened,
            Err(_) if disk.halted() => return None,
            Err(error) => panic!("cannot open: {}", error.detail()),
        };
        assert_eq!(recovered.damage, Vec::<String>::new());
        model.cut(recovered.seq);
        let make = async {
            let entries = ledger.create_map(MAPS[0], MapOptions::default()).await?;
            let timers = ledger.create_map(MAPS[1], MapOptions::TIMERS).await?;
            weft_kernel::Result::<_>::Ok([entries, timers])
        };
        let maps = match block(&ledger, make) {
            Ok(maps) => maps,
            Err(_) if disk.halted() => return None,
            Err(error) => panic!("cannot define: {}", error.detail()),
        };
        Some(Self { ledger, disk, clock: clock.clone(), maps, model })
    }

    fn now(&self) -> u64 {
        wall_ms(&self.clock)
    }

    fn key(rng: &mut Rng) -> Bytes {
        Bytes::from(format!("{}/{:02}", b"abc"[rng.below(3) as usize] as char, rng.below(40)))
    }

    fn change(&self, rng: &mut Rng) -> Change {
        let (map, key, now) = (rng.below(2) as usize, Self::key(rng), self.now());
        let version = self.model.get(map, &key, now).map(|value| value.version);
        let expect = match (rng.below(8), version) {
            (0, _) => ExpectValue::Absent,
            (1, _) => ExpectValue::Present,
            (2, _) => ExpectValue::Version(rng.below(50)),
            (3, None) => ExpectValue::Absent,
            (3 | 4, Some(version)) => ExpectValue::Version(version),
            _ => ExpectValue::Any,
        };
        let size = if rng.chance(0.03) { 5_000 } else { rng.below(60) };
        let expires_ms = if rng.chance(0.5) { now + rng.below(4_000) } else { 0 };
        let value = rng
            .chance(0.7)
            .then(|| (Bytes::from(vec![rng.next_u64() as u8; size as usize]), expires_ms));
        Change { map, key, value, expect }
    }

    fn op(&self, change: &Change) -> Op {
        let Change { map, key, value, expect } = change.clone();
        let map = self.maps[map];
        match value {
            Some((value, expires_ms)) => Op::Put { map, key, value, expires_ms, expect },
            None => Op::Delete { map, key, expect },
        }
    }

    /// Begins a commit, and gives up its answer: the number of the transaction.
    fn begin(&self, transaction: Transaction) -> Result<u64, Refused> {
        let before = self.ledger.stats().submitted;
        let mut commit = self.ledger.commit(transaction);
        let polled = Pin::new(&mut commit).poll(&mut Context::from_waker(Waker::noop()));
        match polled {
            Poll::Ready(done) => done.map(|receipt| receipt.seq),
            Poll::Pending if self.ledger.stats().submitted > before => Ok(before + 1),
            Poll::Pending => Err(Error::new(Reason::StorageBusy, "it waits for room").into()),
        }
    }

    fn transact(&mut self, rng: &mut Rng) {
        let changes: Vec<Change> = (0..1 + rng.below(4)).map(|_| self.change(rng)).collect();
        let mut transaction = fsync();
        transaction.ops.extend(changes.iter().map(|change| self.op(change)));
        let fits = self.model.fits(&changes, self.now());
        let submitted = if rng.chance(0.3) {
            self.begin(transaction)
        } else {
            self.ledger.submit_now(transaction).map(|receipt| receipt.seq)
        };
        match submitted {
            Ok(seq) => {
                assert!(fits, "{changes:?}");
                self.model.taken(seq, changes);
            }
            Err(refused) if refused.error.reason() == Reason::VersionConflict => {
                assert!(!fits, "{changes:?}");
            }
            Err(refused) => {
                let reason = refused.error.reason();
                let known = [Reason::StorageBusy, Reason::StorageFull, Reason::StoragePoisoned];
                assert!(
                    known.contains(&reason) || self.disk.halted(),
                    "{}",
                    refused.error.detail()
                );
            }
        }
    }

    /// Something is as the model says.
    fn look(&mut self, rng: &mut Rng) {
        let (map, now) = (rng.below(2) as usize, self.now());
        match rng.below(4) {
            0 => {
                let key = Self::key(rng);
                let found = block(&self.ledger, self.ledger.get(self.maps[map], &key));
                if !self.disk.halted() {
                    assert_eq!(found.unwrap(), self.model.get(map, &key, now), "{map} {key:?}");
                }
            }
            1 => {
                let limit = [1, 9, 1_000][rng.below(3) as usize];
                let prefix = ["", "a", "b/", "c/1"][rng.below(4) as usize].as_bytes();
                let after = rng.chance(0.5).then(|| Self::key(rng));
                self.scan(map, prefix, after, limit);
            }
            _ => {
                let limit = 1 + rng.below(6) as usize;
                let taken = block(&self.ledger, self.ledger.take_timers(limit, LEASE));
                if self.disk.halted() {
                    return;
                }
                let taken: Vec<_> =
                    taken.unwrap().into_iter().map(|timer| (timer.key, timer.version)).collect();
                let until = now + LEASE.as_millis() as u64;
                let expected = self.model.take(limit, until, now);
                let expected: Vec<_> =
                    expected.into_iter().map(|(key, value)| (key, value.version)).collect();
                assert_eq!(taken, expected);
                for (key, version) in taken {
                    if rng.chance(0.6) {
                        let expect = ExpectValue::Version(version);
                        let end = Change { map: 1, key, value: None, expect };
                        let transaction = fsync().with(self.op(&end));
                        if let Ok(receipt) = self.ledger.submit_now(transaction) {
                            self.model.taken(receipt.seq, vec![end]);
                        }
                    }
                }
            }
        }
    }

    fn scan(&self, map: usize, prefix: &[u8], after: Option<Bytes>, limit: usize) {
        let scan = self.ledger.scan(self.maps[map], prefix, after.clone(), limit);
        let found = block(&self.ledger, scan);
        if !self.disk.halted() {
            let now = self.now();
            let expected = self.model.scan(map, prefix, after.as_ref(), limit, now);
            assert_eq!(found.unwrap(), expected, "{map} {prefix:?} {after:?} {limit}");
        }
    }

    fn run(&mut self, rng: &mut Rng, count: usize) -> u64 {
        for _ in 0..count {
            if self.ledger.stats().poisoned {
                break;
            }
            match rng.below(12) {
                0..=5 => self.transact(rng),
                6..=9 => self.look(rng),
                10 if rng.chance(0.3) => drop(self.ledger.checkpoint()),
                // What was captured and cannot be stored is known all the same.
                10 if rng.chance(0.1) => {
                    let used = self.disk.files().iter().map(|(_, len)| len).sum();
                    let halt_at_sync = Some(self.disk.syncs() + 20);
                    let faults =
                        Faults { bytes_max: Some(used), halt_at_sync, ..Faults::default() };
                    self.disk.set_faults(faults);
                    let _ = self.ledger.checkpoint();
                }
                _ => drop(self.ledger.step()),
            }
            self.clock.advance(Duration::from_millis(rng.below(60)));
        }
        self.ledger.durable_now(Durability::Fsync)
    }
}

fn lives(seed: u64) {
    let mut rng = Rng::seeded(seed);
    let disk = SimulatedDisk::new();
    let clock = Arc::new(ManualClock::default());
    let mut model = Model::default();
    for _ in 0..4 {
        let halt = disk.syncs() + 1 + rng.below(150);
        disk.set_faults(Faults { halt_at_sync: Some(halt), ..Faults::default() });
        let acknowledged = match Life::open(&disk, &clock, &mut model) {
            Some(mut life) => life.run(&mut rng, 300),
            None => 0,
        };
        if rng.chance(0.5) || disk.halted() {
            disk.halt();
            disk.restart(&mut rng);
        } else {
            disk.reopen();
        }
        disk.set_faults(Faults::default());
        let life = Life::open(&disk, &clock, &mut model).unwrap();
        assert!(life.ledger.durable_now(Durability::Fsync) >= acknowledged);
        for map in 0..2 {
            life.scan(map, b"", None, 1_000);
        }
        drop(life);
        disk.reopen();
        let found = weft_ledger::admin::verify_disk(
            Arc::new(disk.clone()),
            &weft_ledger::crypt::Keys::none(),
            &mut |_, _| {},
        );
        assert_eq!(found.unwrap().damage, Vec::<String>::new());
    }
}

#[test]
fn maps_are_what_the_model_says_whatever_is_stored_and_whenever_the_power_fails() {
    let asked = std::env::var("LEDGER_SEEDS").ok().and_then(|text| text.parse().ok());
    let from = std::env::var("LEDGER_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    for seed in from..from + asked.unwrap_or(60) {
        let told = std::panic::catch_unwind(|| lives(seed));
        if let Err(panic) = told {
            eprintln!("failed with LEDGER_SEED={seed} LEDGER_SEEDS=1");
            std::panic::resume_unwind(panic);
        }
    }
}

//! Maps under threads: what is read and changed while checkpoints are stored is one state.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use weft_kernel::{ByteSize, Reason, SystemClock};
use weft_ledger::{
    ExpectValue, Ledger, MapId, MapOptions, Op, Options, Store, disk::SimulatedDisk,
};

use super::fsync;

const PAIRS: u32 = 200;
const ROUNDS: u64 = 1_500;

fn key(half: &str, number: u32) -> Bytes {
    Bytes::from(format!("{half}{number:03}"))
}

/// Sets both halves of a pair to the same, one more than the number that is in them.
async fn count(ledger: &Ledger, map: MapId, number: u32) -> bool {
    let now = ledger.get(map, &key("a", number)).await.unwrap();
    let before =
        now.as_ref().map_or(0, |value| u64::from_le_bytes(value.data[..8].try_into().unwrap()));
    let expect = now.map_or(ExpectValue::Absent, |value| ExpectValue::Version(value.version));
    let mut add = fsync();
    add.ops.extend(["a", "z"].map(|half| {
        let value = Bytes::from((before + 1).to_le_bytes().to_vec());
        Op::Put { map, key: key(half, number), value, expires_ms: 0, expect }
    }));
    match ledger.commit(add).await {
        Ok(_) => true,
        Err(refused) => {
            assert_eq!(refused.error.reason(), Reason::VersionConflict);
            false
        }
    }
}

/// The numbers in both halves, from one scan.
async fn halves(ledger: &Ledger, map: MapId) -> [Vec<u64>; 2] {
    let found = ledger.scan(map, b"", None, 10_000).await.unwrap();
    ["a", "z"].map(|half| {
        let of = found.iter().filter(|(key, _)| key.starts_with(half.as_bytes()));
        of.map(|(_, value)| u64::from_le_bytes(value.data[..8].try_into().unwrap())).collect()
    })
}

#[test]
fn what_is_counted_and_scanned_while_checkpoints_are_stored_is_one_state() {
    let options = Options {
        wal_file_bytes: ByteSize(1 << 20),
        map_changes_bytes: ByteSize(4 << 10),
        map_cache_bytes: ByteSize(4 << 10),
        ..Options::default()
    };
    let clock = Arc::new(SystemClock);
    let disk = SimulatedDisk::new();
    let (ledger, _) = Ledger::open(Arc::new(disk), options, clock).unwrap();
    ledger.start().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    let map = runtime.block_on(ledger.create_map("pairs", MapOptions::default())).unwrap();
    let (counted, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = Vec::new();
    for task in 0..3u64 {
        let (ledger, counted) = (ledger.clone(), counted.clone());
        tasks.push(runtime.spawn(async move {
            for round in 0..ROUNDS {
                let number = ((round * 7 + task * round) % u64::from(PAIRS)) as u32;
                let added = count(&ledger, map, number).await;
                counted.fetch_add(u64::from(added), Ordering::Relaxed);
            }
        }));
    }
    let storing = std::thread::spawn({
        let (ledger, over) = (ledger.clone(), over.clone());
        move || {
            while !over.load(Ordering::Relaxed) {
                ledger.checkpoint().unwrap();
            }
        }
    });
    runtime.block_on(async {
        let mut scans = 0;
        while tasks.iter().any(|task| !task.is_finished()) {
            let [a, z] = halves(&ledger, map).await;
            assert_eq!(a, z, "both halves are of one transaction");
            scans += 1;
        }
        assert!(scans > 0);
        for task in tasks {
            task.await.unwrap();
        }
    });
    over.store(true, Ordering::Relaxed);
    storing.join().unwrap();
    let [a, z] = runtime.block_on(halves(&ledger, map));
    assert_eq!(a, z);
    assert_eq!(a.iter().sum::<u64>(), counted.load(Ordering::Relaxed), "nothing is counted twice");
    assert!(counted.load(Ordering::Relaxed) > ROUNDS);
    ledger.close().unwrap();
}

//! What a map that does not fit into memory costs: resident memory, opening, commits beside cold reads.
//!
//! `maps FOLDER [ENTRIES]` puts so many entries of 200 bytes into a map (default: ten million), in
//! transactions of 500 and in no order of their keys, closes the ledger and opens it again. Then it
//! commits, one after the other, alone and while other tasks read entries that nothing has read before. The
//! folder is made, should be on the disk in question, and is removed at the end.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use weft_kernel::SystemClock;
use weft_ledger::{
    Durability, ExpectValue, Ledger, MapId, MapOptions, Op, Options, Store, Transaction,
};

const BATCH: u64 = 500;
const READERS: u64 = 4;
const SPAN: Duration = Duration::from_secs(10);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(|| PathBuf::from("maps.tmp"), PathBuf::from);
    let entries = arguments.next().map_or(10_000_000, |text| text.parse().unwrap());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ledger = open(&folder);
    let map = runtime.block_on(fill(&ledger, entries));
    memory("filled");
    let begun = Instant::now();
    ledger.close().unwrap();
    drop(ledger);
    println!("closed in {:.1} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let ledger = open(&folder);
    println!("opened in {:.1} s", begun.elapsed().as_secs_f64());
    memory("opened");
    runtime.block_on(async {
        commits(&ledger, map, entries, "alone").await;
        beside_reads(&ledger, map, entries).await;
        scan(&ledger, map).await;
    });
    memory("at the end");
    let stats = ledger.stats();
    println!(
        "maps in memory {} KiB, tables {} MiB",
        stats.map_bytes >> 10,
        stats.index_bytes >> 20
    );
    ledger.close().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

fn open(folder: &std::path::Path) -> Ledger {
    Ledger::open_folder(folder, Options::default(), Arc::new(SystemClock)).unwrap().0
}

/// What the process has in memory, and has had at most.
fn memory(when: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    };
    println!("{when}: {} MiB resident, {} MiB at most", of("VmRSS"), of("VmHWM"));
}

/// The key of an entry; neighbours are far from each other.
fn key(number: u64) -> Bytes {
    Bytes::from(format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn put(map: MapId, number: u64, expect: ExpectValue) -> Op {
    let value = Bytes::from(vec![number as u8; 200]);
    Op::Put { map, key: key(number), value, expires_ms: 0, expect }
}

async fn fill(ledger: &Ledger, entries: u64) -> MapId {
    let map = ledger.create_map("map", MapOptions::default()).await.unwrap();
    let begun = Instant::now();
    for first in (0..entries).step_by(BATCH as usize) {
        let mut batch = Transaction::new(Durability::Fsync);
        let numbers = first..entries.min(first + BATCH);
        batch.ops.extend(numbers.map(|number| put(map, number, ExpectValue::Any)));
        ledger.commit(batch).await.unwrap();
        if first % 1_000_000 == 0 && first > 0 {
            memory(&format!("{first} entries, {:.0} s", begun.elapsed().as_secs_f64()));
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{entries} entries in {seconds:.0} s, {:.0} a second", entries as f64 / seconds);
    map
}

/// Commits one after the other, each with an expectation of an entry that was not read before.
async fn commits(ledger: &Ledger, map: MapId, entries: u64, how: &str) {
    let (begun, mut spans) = (Instant::now(), Vec::new());
    while begun.elapsed() < SPAN {
        let number = (spans.len() as u64).wrapping_mul(7_919_111) % entries;
        let change =
            Transaction::new(Durability::Fsync).with(put(map, number, ExpectValue::Present));
        let begun = Instant::now();
        ledger.commit(change).await.unwrap();
        spans.push(begun.elapsed());
    }
    spans.sort();
    let at = |share: f64| spans[((spans.len() - 1) as f64 * share) as usize].as_micros();
    println!(
        "commits {how}: {} in {} s, median {} µs, p99 {} µs, most {} µs",
        spans.len(),
        SPAN.as_secs(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

async fn beside_reads(ledger: &Ledger, map: MapId, entries: u64) {
    let (over, read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut reading = tokio::task::JoinSet::new();
    for reader in 0..READERS {
        let (ledger, over, read) = (ledger.clone(), over.clone(), read.clone());
        reading.spawn(async move {
            let mut number = reader * 1_000_003;
            while !over.load(Ordering::Relaxed) {
                number = (number + 15_485_863) % entries;
                let found = ledger.get(map, &key(number)).await.unwrap().unwrap();
                assert_eq!(found.data.len(), 200);
                read.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    commits(ledger, map, entries, "beside cold reads").await;
    over.store(true, Ordering::Relaxed);
    reading.join_all().await;
    let read = read.load(Ordering::Relaxed);
    println!("cold reads: {read}, {} a second", read / SPAN.as_secs());
}

async fn scan(ledger: &Ledger, map: MapId) {
    let (begun, mut after, mut found) = (Instant::now(), None, 0);
    while begun.elapsed() < SPAN {
        let page = ledger.scan(map, b"", after.take(), 1_000).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        found += page.len();
    }
    println!(
        "a scan in pages of 1000: {:.0} a second",
        found as f64 / begun.elapsed().as_secs_f64()
    );
}

//! Every byte of a small ledger is changed once, every file cut and lost: what was acknowledged is there as it was, or its loss is told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use weft_kernel::{ByteSize, Clock, ManualClock};
use weft_ledger::{
    ConsumerId, DedupeWindow, Due, Durability, EmbeddedStore, ExpectValue, GroupOptions,
    LeaseLimits, Ledger, Limits, LogOptions, MapOptions, NewRecord, Op, Options, ReadItem, Settle,
    Store, Transaction, admin,
    crypt::Keys,
    disk::{Disk, SimulatedDisk},
};

use crate::simulation::block;

fn options(encrypted: bool) -> Options {
    let keys = if encrypted { Keys::none().with("k", [5; 32]).unwrap() } else { Keys::none() };
    Options {
        wal_file_bytes: ByteSize(16 << 10),
        wal_files_kept: 0,
        recent_bytes: ByteSize(0),
        keys,
        ..Options::default()
    }
}

/// What a ledger holds, as far as anybody outside can tell.
type Contents = BTreeMap<String, Vec<u8>>;

fn ask(records: u32) -> LeaseLimits {
    LeaseLimits { consumer: ConsumerId::SYSTEM, records, bytes: u64::MAX, lease: None }
}

/// A ledger with something of everything, in segments and in the log; closed, or as a kill leaves it.
fn make(options: &Options, close: bool) -> (SimulatedDisk, Contents) {
    let disk = SimulatedDisk::new();
    let clock = Arc::new(ManualClock::default());
    let wall = clock.wall().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let (ledger, _) = Ledger::open(Arc::new(disk.clone()), options.clone(), clock.clone()).unwrap();
    let dedupe = DedupeWindow { time: Duration::from_secs(600), ids_max: 100 };
    let queued = LogOptions { dedupe: Some(dedupe), ..LogOptions::default() };
    let queue = block(&ledger, ledger.create_log("queue", queued)).unwrap();
    let topic = block(&ledger, ledger.create_log("topic", LogOptions::default())).unwrap();
    let owner = block(&ledger, ledger.create_group("owner", GroupOptions::owning(queue))).unwrap();
    let reader = block(&ledger, ledger.create_group("reader", GroupOptions::over(topic))).unwrap();
    let map = block(&ledger, ledger.create_map("map", MapOptions::default())).unwrap();
    for round in 0..3u64 {
        for number in 0..8u64 {
            let text = |what: &str| format!("{what} {round} {number} ").repeat(3).into_bytes();
            let record = NewRecord {
                expires_ms: wall + 600_000 + number,
                dedupe: Some(u128::from(round * 100 + number)),
                ..NewRecord::new(text("queue"))
            };
            let key = format!("key {}", number % 5).into();
            let publish = Transaction::new(Durability::Fsync)
                .append(queue, record)
                .append(topic, NewRecord { key, ..NewRecord::new(text("topic")) })
                .with(Op::Put {
                    map,
                    key: format!("{round} {number}").into(),
                    value: text("map").into(),
                    expires_ms: 0,
                    expect: ExpectValue::Any,
                });
            block(&ledger, ledger.commit(publish)).unwrap();
        }
        for group in [owner, reader] {
            let leased = block(&ledger, ledger.lease_now(group, ask(4)).unwrap().wait()).unwrap();
            let mut settle = Transaction::new(Durability::Fsync);
            settle.ops.extend(leased.iter().map(|delivery| Op::Settle {
                group,
                position: delivery.position,
                token: delivery.token,
                how: if delivery.position % 3 == 0 {
                    let due = Due::After(Duration::ZERO);
                    Settle::Retry { due, failed: true, note: "why it failed".into() }
                } else {
                    Settle::Done
                },
            }));
            block(&ledger, ledger.commit(settle)).unwrap();
        }
        if round == 0 {
            // Fills the file, so that what lives of it goes into a segment; it is gone before.
            let filler =
                block(&ledger, ledger.create_log("filler", LogOptions::default())).unwrap();
            let fill = NewRecord::new(vec![7; 10 << 10]);
            block(&ledger, ledger.commit(Transaction::new(Durability::Fsync).append(filler, fill)))
                .unwrap();
            block(&ledger, ledger.drop_log(filler)).unwrap();
        }
        while ledger.step() {}
    }
    let found = contents(&ledger);
    if close {
        ledger.close().unwrap();
    }
    drop(ledger);
    disk.reopen();
    // It only takes time to copy.
    disk.lose("checkpoint/reserve");
    assert!(!disk.list("segments").unwrap().is_empty() && disk.list("wal").unwrap().len() > 2);
    (disk, found)
}

/// Everything that is there, read in each way there is.
fn contents(ledger: &Ledger) -> Contents {
    let mut found = Contents::new();
    for name in ["queue", "topic"] {
        let Some((log, options)) = block(ledger, ledger.find_log(name)).unwrap() else { continue };
        found.insert(format!("log {name}"), format!("{options:?}").into_bytes());
        let mut from = 0;
        loop {
            let items = block(ledger, ledger.read(log, from, Default::default())).unwrap();
            let Some(last) = items.last().map(ReadItem::position) else { break };
            from = last + 1;
            for item in items {
                let ReadItem::Record(record) = item else { continue };
                let of = (record.expires_ms, record.time_ms, &record.key, &record.data);
                found.insert(format!("{name} {}", record.position), format!("{of:?}").into_bytes());
            }
        }
    }
    for name in ["owner", "reader"] {
        let Some((group, options)) = block(ledger, ledger.find_group(name)).unwrap() else {
            continue;
        };
        found.insert(format!("group {name}"), format!("{:?}", options.lease).into_bytes());
        let mut from = 0;
        loop {
            let peeked = block(
                ledger,
                ledger.peek(group, from, Limits { records: 1000, ..Limits::default() }),
            )
            .unwrap();
            let Some((last, _)) = peeked.last() else { break };
            from = last.position + 1;
            for (exception, _) in peeked {
                let of = (exception.failures, exception.note);
                found.insert(
                    format!("{name} {}", exception.position),
                    format!("{of:?}").into_bytes(),
                );
            }
        }
    }
    if let Ok(map) = block(ledger, ledger.create_map("map", MapOptions::default())) {
        for (key, value) in block(ledger, ledger.scan(map, b"", None, 10_000)).unwrap() {
            found.insert(format!("map {key:?}"), value.data.to_vec());
        }
    }
    found
}

/// What consumers are handed: the payloads, by group and position.
fn consumed(ledger: &Ledger) -> Contents {
    let mut found = Contents::new();
    for (name, log) in [("owner", "queue"), ("reader", "topic")] {
        let Some((group, _)) = block(ledger, ledger.find_group(name)).unwrap() else { continue };
        loop {
            let leased = match ledger.lease_now(group, ask(100)) {
                Ok(leased) => block(ledger, leased.wait()),
                Err(error) => Err(error),
            };
            let Ok(leased) = leased else { break };
            if leased.is_empty() {
                break;
            }
            for delivery in leased {
                let record = delivery.record;
                let of = (record.expires_ms, record.time_ms, &record.key, &record.data);
                found.insert(format!("{log} {}", record.position), format!("{of:?}").into_bytes());
            }
        }
    }
    found
}

/// Opens a damaged ledger and holds it to what it held.
fn check(disk: &SimulatedDisk, options: &Options, whole: &Contents, what: &str) -> bool {
    let damaged = disk.fork();
    let clock = Arc::new(ManualClock::default());
    let opened = Ledger::open(Arc::new(disk.clone()), options.clone(), clock);
    let Ok((ledger, recovered)) = opened else { return true };
    let handed = consumed(&ledger);
    let found = contents(&ledger);
    let told = !recovered.damage.is_empty() || !ledger.damage_now().is_empty();
    for (name, payload) in handed.iter().chain(&found) {
        if let Some(had) = whole.get(name)
            && had != payload
        {
            assert!(told, "{what}: {name} has changed");
            // A state may be an older one when that is told; a payload is never another one.
            assert!(
                !name.starts_with("queue ") && !name.starts_with("topic "),
                "{what}: {name} is handed out with other bytes"
            );
        }
    }
    let open = |name: &&String| {
        let (log, position) = name.split_once(' ').unwrap_or_default();
        let group = if log == "queue" { "owner" } else { "reader" };
        (log == "queue" || log == "topic") && whole.contains_key(&format!("{group} {position}"))
    };
    let missing: Vec<&String> = whole
        .keys()
        .filter(|name| !found.contains_key(*name))
        .chain(whole.keys().filter(open).filter(|name| !handed.contains_key(*name)))
        .collect();
    let new: Vec<&String> = found.keys().filter(|name| !whole.contains_key(*name)).collect();
    if missing.is_empty() && new.is_empty() {
        return told;
    }
    assert!(told, "{what}: untold, missing {missing:?}, back again {new:?}");
    let verified = admin::verify_disk(Arc::new(damaged), &options.keys, &mut |_, _| {});
    let verified = verified.map_or(true, |found| !found.damage.is_empty());
    assert!(verified, "{what}: verify does not tell that {missing:?} {new:?}");
    true
}

/// Flips one bit of every byte in turn of the files whose names begin with `prefix`.
fn flips(prefix: &str, encrypted: bool, close: bool) {
    // A block of the checkpoint is whole or not, whichever of its bytes has changed: of each sector a few
    // stand for all, unless all are asked for.
    let all = prefix != "checkpoint/" || std::env::var_os("LEDGER_FLIPS").is_some();
    let step = match (all, close) {
        (true, true) => 1,
        (true, false) => 5,
        (false, _) => 101,
    };
    let options = options(encrypted);
    let (disk, whole) = make(&options, close);
    assert!(!check(&disk.fork(), &options, &whole, "nothing"), "a sound ledger tells of damage");
    let (mut tried, mut told) = (0u64, 0u64);
    for (name, _) in disk.files() {
        // What waits to be used again holds nothing.
        if !name.starts_with(prefix) || name.contains("spare") {
            continue;
        }
        let bytes = disk.contents(&name).unwrap();
        for (sector, of) in bytes.chunks(512).enumerate() {
            // Of what was never written one byte stands for all.
            let blank = of.iter().all(|&byte| byte == 0);
            for byte in (0..if blank { 1 } else { of.len() }).step_by(step) {
                let at = (sector * 512 + byte) as u64;
                let damaged = disk.fork();
                assert!(damaged.flip(&name, at * 8 + at % 8));
                let what = format!("{name} byte {at}");
                tried += 1;
                told += u64::from(check(&damaged, &options, &whole, &what));
            }
        }
    }
    println!("{prefix}: of {tried} flips {told} were told");
    assert!(tried > 300 && told > 0);
}

#[test]
fn no_flip_in_the_log_is_silent() {
    flips("wal/", false, true);
}

#[test]
fn no_flip_in_the_log_of_a_ledger_that_was_killed_is_silent() {
    flips("wal/", false, false);
}

#[test]
fn no_flip_in_a_segment_is_silent() {
    flips("segments/", false, true);
}

#[test]
fn no_flip_in_the_checkpoint_is_silent() {
    flips("checkpoint/", false, true);
}

#[test]
fn no_file_that_is_cut_or_lost_is_missed_in_silence() {
    for (encrypted, close) in [(false, true), (false, false), (true, true)] {
        let options = options(encrypted);
        let (disk, whole) = make(&options, close);
        for (name, len) in disk.files() {
            for cut in (0..8).map(|eighth| len * eighth / 8).chain([len.saturating_sub(1)]) {
                let damaged = disk.fork();
                damaged.cut(&name, cut);
                check(&damaged, &options, &whole, &format!("{name} cut at {cut} of {len}"));
            }
            let damaged = disk.fork();
            damaged.lose(&name);
            check(&damaged, &options, &whole, &format!("{name} lost"));
        }
        for folder in ["wal/", "segments/", "checkpoint/"] {
            let damaged = disk.fork();
            for (name, _) in disk.files().into_iter().filter(|(name, _)| name.starts_with(folder)) {
                damaged.lose(&name);
            }
            let names = || damaged.files().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
            let before = names();
            let clock = Arc::new(ManualClock::default());
            let opened = Ledger::open(Arc::new(damaged.clone()), options.clone(), clock);
            assert!(opened.is_err(), "{folder} is missing, and nothing says so");
            assert_eq!(names(), before, "{folder} is missing, and more is removed");
        }
    }
}

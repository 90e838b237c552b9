//! What one life leaves to the next, when something was damaged in between.

use std::sync::Arc;

use weft_kernel::{ByteSize, ManualClock};
use weft_ledger::{
    ConsumerId, Durability, EmbeddedStore, GroupId, GroupOptions, LeaseLimits, LeasedRecord,
    Ledger, LogOptions, NewRecord, Op, Options, Settle, Store, Transaction, disk::SimulatedDisk,
};

use crate::simulation::block;

fn open(disk: &SimulatedDisk) -> Ledger {
    let clock = Arc::new(ManualClock::default());
    let options = Options { wal_file_bytes: ByteSize(64 << 10), ..Options::default() };
    Ledger::open(Arc::new(disk.clone()), options, clock).unwrap().0
}

fn lease(ledger: &Ledger, group: GroupId) -> Vec<LeasedRecord> {
    let ask =
        LeaseLimits { consumer: ConsumerId::SYSTEM, records: 100, bytes: u64::MAX, lease: None };
    block(ledger, ledger.lease_now(group, ask).unwrap().wait()).unwrap()
}

/// The place of bytes in the write-ahead log.
fn find(disk: &SimulatedDisk, bytes: &[u8]) -> (String, u64) {
    let files = disk.files().into_iter().filter(|(name, _)| name.starts_with("wal/"));
    let mut found = files.filter_map(|(name, _)| {
        let contents = disk.contents(&name)?;
        let at = contents.windows(bytes.len()).position(|window| window == bytes)?;
        Some((name, at as u64))
    });
    found.next().unwrap()
}

#[test]
fn positions_of_a_damaged_transaction_are_not_given_to_others() {
    let disk = SimulatedDisk::new();
    let ledger = open(&disk);
    let log = block(&ledger, ledger.create_log("log", LogOptions::default())).unwrap();
    let group = block(&ledger, ledger.create_group("group", GroupOptions::owning(log))).unwrap();
    let mut publish = Transaction::new(Durability::Fsync);
    for number in 0..20 {
        publish = publish.append(log, NewRecord::new(format!("damaged {number}")));
    }
    block(&ledger, ledger.commit(publish)).unwrap();
    let mut settle = Transaction::new(Durability::Fsync);
    settle.ops.extend(lease(&ledger, group)[5..15].iter().map(|delivery| Op::Settle {
        group,
        position: delivery.position,
        token: delivery.token,
        how: Settle::Done,
    }));
    block(&ledger, ledger.commit(settle)).unwrap();
    let (file, at) = find(&disk, b"damaged 7");
    drop(ledger);
    disk.reopen();
    assert!(disk.flip(&file, at * 8));

    let ledger = open(&disk);
    let mut publish = Transaction::new(Durability::Fsync);
    for number in 0..20 {
        publish = publish.append(log, NewRecord::new(format!("new {number}")));
    }
    block(&ledger, ledger.commit(publish)).unwrap();
    let found: Vec<String> = lease(&ledger, group)
        .iter()
        .map(|delivery| String::from_utf8(delivery.record.data.to_vec()).unwrap())
        .collect();
    let all: Vec<String> = (0..20).map(|number| format!("new {number}")).collect();
    assert_eq!(found, all);
}

/// What was acknowledged is there again, however large its transaction was.
#[test]
fn a_large_record_is_there_after_a_restart() {
    let disk = SimulatedDisk::new();
    let open = |transaction_bytes_max| {
        let options = Options {
            wal_file_bytes: ByteSize(80 << 20),
            record_bytes_max: ByteSize(34 << 20),
            transaction_bytes_max,
            ..Options::default()
        };
        Ledger::open(Arc::new(disk.clone()), options, Arc::new(ManualClock::default()))
    };
    let ledger = open(ByteSize(40 << 20)).unwrap().0;
    let log = block(&ledger, ledger.create_log("log", LogOptions::default())).unwrap();
    let group = block(&ledger, ledger.create_group("group", GroupOptions::owning(log))).unwrap();
    for size in [31, 33] {
        let record = NewRecord::new(vec![size; usize::from(size) << 20]);
        let transaction = Transaction::new(Durability::Fsync).append(log, record);
        block(&ledger, ledger.commit(transaction)).unwrap();
    }
    drop(ledger);
    disk.reopen();
    // Also where none of that size would be taken any more.
    let (ledger, recovered) = open(ByteSize(8 << 20)).unwrap();
    assert_eq!(recovered.damage, Vec::<String>::new());
    let found: Vec<usize> =
        lease(&ledger, group).iter().map(|leased| leased.record.data.len() >> 20).collect();
    assert_eq!(found, [31, 33]);
    drop(ledger);
    disk.reopen();
    let refused = open(ByteSize(1 << 30)).unwrap_err();
    assert_eq!(refused.reason(), weft_kernel::Reason::Misconfigured);
}

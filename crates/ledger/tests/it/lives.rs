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

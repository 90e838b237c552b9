//! A ledger is copied while it runs, verified, copied back, and looked at.

use std::sync::Arc;

use weft_kernel::{ByteSize, ManualClock, Reason};
use weft_ledger::{
    Durability, GroupOptions, Ledger, LogOptions, NewRecord, Options, ReadItem, Store, Transaction,
    admin, crypt::Keys, disk::SimulatedDisk,
};

use crate::simulation::block;

pub(crate) fn options(keys: &Keys) -> Options {
    Options {
        wal_file_bytes: ByteSize(32 << 10),
        wal_files_kept: 1,
        keys: keys.clone(),
        ..Options::default()
    }
}

pub(crate) fn open(disk: &SimulatedDisk, keys: &Keys) -> Ledger {
    let clock = Arc::new(ManualClock::default());
    Ledger::open(Arc::new(disk.clone()), options(keys), clock).unwrap().0
}

pub(crate) fn fill(ledger: &Ledger, records: std::ops::Range<usize>) {
    let log = block(ledger, ledger.create_log("log", LogOptions::default())).unwrap();
    block(ledger, ledger.create_group("group", GroupOptions::over(log))).unwrap();
    for n in records {
        let transaction =
            Transaction::new(Durability::Fsync).append(log, NewRecord::new(vec![n as u8; 500]));
        block(ledger, ledger.commit(transaction)).unwrap();
    }
}

pub(crate) fn count(ledger: &Ledger) -> usize {
    let (log, _) = block(ledger, ledger.find_log("log")).unwrap().unwrap();
    let mut from = 0;
    let mut whole = 0;
    loop {
        let items = block(ledger, ledger.read(log, from, weft_ledger::Limits::default())).unwrap();
        if items.is_empty() {
            return whole;
        }
        for item in items {
            let ReadItem::Record(record) = item else { panic!("{item:?}") };
            assert!(record.data.iter().all(|&byte| byte == record.position as u8));
            from = record.position + 1;
            whole += 1;
        }
    }
}

#[test]
fn a_backup_of_a_running_ledger_is_restored_with_all_that_was_acknowledged() {
    for keys in [Keys::none(), Keys::none().with("k", [9; 32]).unwrap()] {
        let (disk, copy, back) = (SimulatedDisk::new(), SimulatedDisk::new(), SimulatedDisk::new());
        let ledger = open(&disk, &keys);
        fill(&ledger, 0..300);
        ledger.backup_to(Arc::new(copy.clone())).unwrap();
        assert!(ledger.backup_to(Arc::new(copy.clone())).is_err(), "a backup is not overwritten");
        let (from, to) = (Arc::new(copy.clone()), Arc::new(back.clone()));
        let found = admin::restore_disk(from, to, &keys, &mut |_, _| {}).unwrap();
        assert!(found.records > 0 && found.transactions > 0);
        assert_eq!(count(&open(&back, &keys)), 300);
        // What came after the backup is in the first alone.
        fill(&ledger, 300..310);
        assert_eq!(count(&ledger), 310);
    }
}

#[test]
fn damage_is_found_and_a_running_ledger_is_left_alone() {
    let keys = Keys::none();
    let disk = SimulatedDisk::new();
    let ledger = open(&disk, &keys);
    fill(&ledger, 0..300);
    let busy = admin::verify_disk(Arc::new(disk.clone()), &keys, &mut |_, _| {}).unwrap_err();
    assert_eq!(busy.reason(), Reason::StorageBusy);
    ledger.close().unwrap();
    let mut steps = Vec::new();
    let mut progress = |done, of| steps.push((done, of));
    let whole = admin::verify_disk(Arc::new(disk.clone()), &keys, &mut progress).unwrap();
    assert_eq!(whole.damage, Vec::<String>::new());
    assert_eq!(steps.last().map(|(done, of)| done == of), Some(true), "{steps:?}");
    let segment = disk.files().into_iter().find(|(name, _)| name.ends_with(".seg")).unwrap().0;
    disk.flip(&segment, 8 * 5000);
    let damaged = admin::verify_disk(Arc::new(disk.clone()), &keys, &mut |_, _| {}).unwrap();
    assert_eq!(damaged.damage.len(), 1, "{:?}", damaged.damage);
    assert_eq!(damaged.records, whole.records - 1);
    let to = Arc::new(SimulatedDisk::new());
    let refused = admin::restore_disk(Arc::new(disk), to, &keys, &mut |_, _| {}).unwrap_err();
    assert_eq!(refused.reason(), Reason::StorageCorrupt);
}

#[test]
fn an_inspection_names_files_and_keys_and_rewrap_changes_the_keys() {
    let old = Keys::none().with("old", [1; 32]).unwrap();
    let disk = SimulatedDisk::new();
    let ledger = open(&disk, &old);
    fill(&ledger, 0..300);
    ledger.close().unwrap();
    let seen = admin::inspect_disk(Arc::new(disk.clone()), &old).unwrap();
    assert!(seen.last_seq >= 302 && seen.checkpoint_seq == seen.last_seq, "{seen:?}");
    let of = |kind| seen.files.iter().filter(|file| file.kind == kind).collect::<Vec<_>>();
    assert!(!of("wal").is_empty() && !of("segment").is_empty());
    assert!(
        of("segment").iter().all(|file| file.key.as_deref() == Some("old") && file.entries > 0)
    );
    assert!(seen.rows.contains(&("logs".to_owned(), 1)));
    let both = old.with("new", [2; 32]).unwrap();
    assert!(admin::rewrap_disk(Arc::new(disk.clone()), &both).unwrap() > 2);
    assert_eq!(admin::rewrap_disk(Arc::new(disk.clone()), &both).unwrap(), 0);
    let new = Keys::none().with("new", [2; 32]).unwrap();
    assert_eq!(count(&open(&disk, &new)), 300);
}

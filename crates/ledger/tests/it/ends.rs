//! The end of the log is lost, or the checkpoint is, or a part of either was never written: it is told, and
//! going on knowingly goes on with what is left.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use weft_kernel::{ManualClock, Reason, Result};
use weft_ledger::{
    Ledger, Options, Recovered, admin,
    crypt::Keys,
    disk::{Disk, SimulatedDisk, simulated::Faults},
};

use crate::admin::{count, fill, open, options};

const RECORDS: usize = 40;

fn write(disk: &SimulatedDisk, path: &str, bytes: &[u8]) {
    let file = Disk::open(disk, path, true).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    file.write_at(0, bytes).unwrap();
}

fn reopen(disk: &SimulatedDisk, accept_loss: bool) -> Result<(Ledger, Recovered)> {
    let clock = Arc::new(ManualClock::default());
    let options = Options { accept_loss, ..options(&Keys::none()) };
    Ledger::open(Arc::new(disk.clone()), options, clock)
}

fn damage(disk: &SimulatedDisk) -> Vec<String> {
    admin::verify_disk(Arc::new(disk.clone()), &Keys::none(), &mut |_, _| {}).unwrap().damage
}

/// The newest file of the log with anything in it, and where what it holds ends.
fn newest(disk: &SimulatedDisk) -> (String, Vec<u8>, usize) {
    let logs = disk.files().into_iter().filter(|(path, _)| path.ends_with(".wal"));
    let logs = logs.map(|(path, _)| {
        let bytes = disk.contents(&path).unwrap();
        let end = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0) + 1;
        (path, bytes, end)
    });
    logs.filter(|(_, _, end)| *end > 4096).max().unwrap()
}

fn zero(disk: &SimulatedDisk, from: usize) {
    let (path, mut bytes, _) = newest(disk);
    bytes[from..].fill(0);
    write(disk, &path, &bytes);
}

#[test]
fn a_log_that_ends_before_the_checkpoint_is_told() {
    let whole = SimulatedDisk::new();
    let ledger = open(&whole, &Keys::none());
    fill(&ledger, 0..RECORDS);
    ledger.checkpoint().unwrap();
    whole.halt();
    drop(ledger);
    whole.reopen();
    assert_eq!(damage(&whole), Vec::<String>::new());
    let (_, _, end) = newest(&whole);
    for from in [4096, (4096 + end) / 2 / 512 * 512] {
        let disk = whole.fork();
        zero(&disk, from);
        let told = damage(&disk);
        assert!(told.iter().any(|told| told.contains("had been safe up to")), "{from}: {told:?}");
        let (ledger, recovered) = reopen(&disk, false).unwrap();
        assert_eq!(recovered.damage, told, "a start tells what a look tells");
        ledger.close().unwrap();
        drop(ledger);
        // What comes after it is told from what was lost.
        let (ledger, _) = reopen(&disk, false).unwrap();
        fill(&ledger, 0..1);
    }
}

#[test]
fn the_last_transaction_is_missed_once_the_log_has_rested() {
    let (disk, clock) = (SimulatedDisk::new(), Arc::new(ManualClock::default()));
    let start = || {
        let disk = Arc::new(disk.clone());
        Ledger::open(disk, options(&Keys::none()), Arc::clone(&clock) as _)
    };
    let (ledger, _) = start().unwrap();
    fill(&ledger, 0..5);
    for _ in 0..3 {
        clock.advance(Duration::from_millis(700));
        while ledger.step() {}
    }
    disk.halt();
    drop(ledger);
    disk.reopen();
    assert_eq!(damage(&disk), Vec::<String>::new());
    let (_, _, end) = newest(&disk);
    zero(&disk, (end - 1) / 512 * 512);
    let told = damage(&disk);
    assert!(told.iter().any(|told| told.contains("had been safe up to")), "{told:?}");
    let (ledger, recovered) = start().unwrap();
    assert_eq!(recovered.damage, told);
    ledger.close().unwrap();
    drop(ledger);
    // Told once: the numbers that were lost are given again.
    assert_eq!(start().unwrap().1.damage, Vec::<String>::new());
}

#[test]
fn a_page_of_the_checkpoint_that_was_never_written_is_missed() {
    const BLOCK: usize = 4096 + 8;
    const HEAD: usize = 4096;
    let disk = SimulatedDisk::new();
    let tables = "checkpoint/tables";
    let ledger = open(&disk, &Keys::none());
    fill(&ledger, 0..300);
    ledger.close().unwrap();
    drop(ledger);
    let former = disk.contents(tables).unwrap();
    let ledger = open(&disk, &Keys::none());
    fill(&ledger, 300..600);
    ledger.close().unwrap();
    drop(ledger);
    assert_eq!(count(&open(&disk.fork(), &Keys::none())), 600);
    let latter = disk.contents(tables).unwrap();
    let mut missed = 0;
    for at in (HEAD..former.len().min(latter.len()) - BLOCK).step_by(BLOCK) {
        let mut mixed = latter.clone();
        mixed[at..at + BLOCK].copy_from_slice(&former[at..at + BLOCK]);
        if mixed == latter {
            continue;
        }
        let disk = disk.fork();
        write(&disk, tables, &mixed);
        let told = damage(&disk);
        match reopen(&disk, false) {
            Err(error) => {
                assert_eq!(error.reason(), Reason::StorageCorrupt);
                assert!(!told.is_empty(), "{at}");
                missed += 1;
            }
            // What the tables do not use any more is nobody's loss.
            Ok((ledger, recovered)) => {
                assert!(recovered.damage.is_empty() && told.is_empty(), "{at}: {told:?}");
                assert_eq!(count(&ledger), 600, "{at}");
            }
        }
    }
    assert!(missed > 0, "no page was in use");
}

#[test]
fn a_repair_that_fails_is_begun_again_and_nothing_starts_before() {
    let disk = SimulatedDisk::new();
    let ledger = open(&disk, &Keys::none());
    fill(&ledger, 0..300);
    ledger.close().unwrap();
    drop(ledger);
    for block in 0..20 {
        disk.flip("checkpoint/tables", 8 * (4096 + block * 4104 + 700));
    }
    assert_eq!(reopen(&disk, false).unwrap_err().reason(), Reason::StorageCorrupt);
    // Killed at each change in turn.
    for change in disk.changed().. {
        let disk = disk.fork();
        disk.set_faults(Faults { halt_at_change: Some(change), ..Faults::default() });
        let ended = reopen(&disk, true).and_then(|(ledger, _)| ledger.close()).is_ok();
        let killed = disk.halted();
        disk.reopen();
        disk.set_faults(Faults::default());
        if ended && !killed {
            assert_eq!(reopen(&disk, false).unwrap().1.damage, Vec::<String>::new());
            break;
        }
        match reopen(&disk, false) {
            Err(error) => {
                let detail = error.detail();
                assert!(detail.contains("weft ledger repair --accept-loss"), "{change}: {detail}");
                assert!(!damage(&disk).is_empty(), "{change}");
            }
            // All that was left was to end in order.
            Ok(_) => continue,
        }
        let (ledger, recovered) = reopen(&disk, true).unwrap();
        ledger.close().unwrap();
        drop(ledger);
        let told = recovered.damage.join("\n");
        assert!(told.contains("what was defined"), "{change}: {told}");
        assert!(disk.files().iter().any(|(path, _)| path == "quarantine/0000000001.seg"));
        let told = reopen(&disk, false).map(|(_, recovered)| recovered.damage);
        assert_eq!(told.unwrap(), Vec::<String>::new(), "{change}");
    }
}

#[test]
fn a_checkpoint_without_its_header_is_refused_and_repaired_without_loss() {
    let disk = SimulatedDisk::new();
    let ledger = open(&disk, &Keys::none());
    fill(&ledger, 0..RECORDS);
    ledger.close().unwrap();
    drop(ledger);
    disk.lose("checkpoint/header");
    let refused = reopen(&disk, false).unwrap_err();
    assert_eq!(refused.reason(), Reason::StorageCorrupt);
    assert!(refused.detail().contains("--accept-loss"), "{}", refused.detail());
    let (ledger, recovered) = reopen(&disk, true).unwrap();
    assert!(recovered.damage[0].contains("checkpoint/header is made anew"), "{recovered:?}");
    assert_eq!(count(&ledger), RECORDS);
}

#[test]
fn a_repair_without_the_log_names_the_file_that_was_needed() {
    let disk = SimulatedDisk::new();
    let ledger = open(&disk, &Keys::none());
    fill(&ledger, 0..RECORDS);
    disk.halt();
    drop(ledger);
    disk.reopen();
    for (path, _) in disk.files() {
        if path.starts_with("wal/") {
            disk.lose(&path);
        }
    }
    let told: BTreeMap<bool, _> = [false, true]
        .map(|accept| match reopen(&disk, accept) {
            Err(error) => (accept, error.detail()),
            Ok((_, recovered)) => (accept, recovered.damage.join("\n")),
        })
        .into();
    for told in told.values() {
        assert!(told.contains("wal/0000000001.wal") && told.contains("wal/made"), "{told}");
    }
}

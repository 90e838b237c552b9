//! The ids of records are let go once their time is over, also when nothing comes after them.

use std::{sync::Arc, time::Duration};

use weft_kernel::{ByteSize, ManualClock};
use weft_ledger::{
    DedupeWindow, Durability, Ledger, LogOptions, NewRecord, Options, Store, Transaction,
    disk::SimulatedDisk,
};

use crate::simulation::block;

#[test]
fn a_log_that_nothing_comes_to_keeps_no_ids() {
    let clock = Arc::new(ManualClock::default());
    let disk = Arc::new(SimulatedDisk::new());
    let options = Options { wal_file_bytes: ByteSize(64 << 10), ..Options::default() };
    let (ledger, _) = Ledger::open(disk, options, clock.clone()).unwrap();
    let window = DedupeWindow { time: Duration::from_secs(600), ids_max: 1000 };
    let options = LogOptions { dedupe: Some(window), ..LogOptions::default() };
    let log = block(&ledger, ledger.create_log("log", options)).unwrap();
    let append = || {
        let record = NewRecord { dedupe: Some(7), ..NewRecord::new("x") };
        let transaction = Transaction::new(Durability::Fsync).append(log, record);
        block(&ledger, ledger.commit(transaction)).unwrap().appended[0].duplicate
    };
    // All that maintenance does a while after the last append.
    let rest = |span: u64| {
        clock.advance(Duration::from_secs(span));
        let did = ledger.step();
        while ledger.step() {}
        did
    };
    assert!(!append() && append());
    // What was written last is let go as well, and soon.
    while rest(10) {}
    assert!(!rest(500) && append(), "its time is not over");
    while rest(10) {}
    let turns = std::iter::repeat_with(|| rest(500)).take(6);
    assert_eq!(turns.filter(|did| *did).count(), 2, "from the present to the former, and away");
    assert!(!rest(600) && !rest(600), "there are none");
    assert!(!append() && append());
}

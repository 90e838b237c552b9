//! What waits for its time waits in the next life too, and counts so; and how old a queue is stays known.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use weft_kernel::{ByteSize, Clock, ManualClock};
use weft_ledger::{
    ConsumerId, Due, Durability, EmbeddedStore, GroupId, GroupOptions, GroupStats, LeaseLimits,
    LeasedRecord, Ledger, Limits, LogOptions, NewRecord, Op, Options, Settle, Standing, Store,
    Transaction, disk::SimulatedDisk,
};

use crate::simulation::block;

const HOUR: Duration = Duration::from_secs(3_600);

struct Node {
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    ledger: Ledger,
    group: GroupId,
}

fn open(disk: &SimulatedDisk, clock: &Arc<ManualClock>) -> Ledger {
    let options = Options {
        wal_file_bytes: ByteSize(64 << 10),
        wal_files_kept: 0,
        recent_bytes: ByteSize(0),
        ..Options::default()
    };
    Ledger::open(Arc::new(disk.clone()), options, clock.clone()).unwrap().0
}

fn commit(ledger: &Ledger, transaction: Transaction) {
    block(ledger, ledger.commit(transaction)).unwrap();
}

/// A queue with two records that are due in an hour, two that have failed and are due again then, and two
/// that are ready; they were appended ten seconds apart.
fn node(options: impl Fn(GroupOptions) -> GroupOptions) -> Node {
    let (disk, clock) = (SimulatedDisk::new(), Arc::new(ManualClock::default()));
    let ledger = open(&disk, &clock);
    let log = block(&ledger, ledger.create_log("queue", LogOptions::default())).unwrap();
    let group = options(GroupOptions::owning(log));
    let group = block(&ledger, ledger.create_group("queue", group)).unwrap();
    let due = clock.wall().duration_since(UNIX_EPOCH).unwrap() + HOUR;
    let due_ms = u64::try_from(due.as_millis()).unwrap();
    for number in 0..6 {
        let due_ms = if number < 2 { due_ms } else { 0 };
        let record = NewRecord { key: vec![number].into(), due_ms, ..NewRecord::new("record") };
        commit(&ledger, Transaction::new(Durability::Fsync).append(log, record));
        clock.advance(Duration::from_secs(10));
    }
    let node = Node { disk, clock, ledger, group };
    let mut transaction = Transaction::new(Durability::Fsync);
    transaction.ops.extend(node.lease().iter().take(2).map(|delivery| Op::Settle {
        group,
        position: delivery.position,
        token: delivery.token,
        how: Settle::Retry { due: Due::After(HOUR), failed: true, note: "no".into() },
    }));
    commit(&node.ledger, transaction);
    node
}

impl Node {
    fn lease(&self) -> Vec<LeasedRecord> {
        let ask =
            LeaseLimits { consumer: ConsumerId::SYSTEM, records: 9, bytes: u64::MAX, lease: None };
        block(&self.ledger, self.ledger.lease_now(self.group, ask).unwrap().wait()).unwrap()
    }

    fn stats(&self) -> GroupStats {
        self.ledger.group_stats_now(self.group).unwrap()
    }

    /// Brings all that was written into a segment.
    fn write_behind(&self) {
        let other = block(&self.ledger, self.ledger.create_log("other", LogOptions::default()));
        let other = other.unwrap();
        while self.ledger.stats().segment_bytes == 0 {
            let filler = NewRecord::new(vec![7; 8 << 10]);
            commit(&self.ledger, Transaction::new(Durability::Fsync).append(other, filler));
            while self.ledger.step() {}
        }
    }

    /// The next life, after an orderly end or without one.
    fn reopen(&mut self, orderly: bool) {
        if orderly {
            self.ledger.close().unwrap();
        }
        self.disk.reopen();
        self.ledger = open(&self.disk, &self.clock);
    }
}

#[test]
fn what_waits_is_no_more_ready_for_a_restart() {
    type Kind = fn(GroupOptions) -> GroupOptions;
    let kinds: [Kind; 3] = [
        |plain| plain,
        |plain| GroupOptions { keyed: true, ..plain },
        |plain| GroupOptions { prioritized: true, ..plain },
    ];
    for (kind, in_segment, orderly) in kinds
        .iter()
        .flat_map(|kind| [(kind, false, false), (kind, true, false), (kind, true, true)])
    {
        let mut node = node(kind);
        let expected: Vec<u64> = node.lease().iter().map(|delivery| delivery.position).collect();
        assert_eq!(expected.len(), 0, "the two that are ready are leased");
        if in_segment {
            node.write_behind();
        }
        node.reopen(orderly);
        let stats = node.stats();
        assert_eq!((stats.ready, stats.waiting), (2, 4), "{stats:?}");
        let seen = block(&node.ledger, node.ledger.peek(node.group, 0, Limits::default())).unwrap();
        let waits = |at: &Standing| matches!(at, Standing::Waiting { .. });
        assert_eq!(seen.iter().filter(|(at, _)| waits(&at.standing)).count(), 4, "{seen:?}");
        let got: Vec<(u64, u32)> =
            node.lease().iter().map(|delivery| (delivery.position, delivery.failures)).collect();
        assert_eq!(got, [(4, 0), (5, 0)]);
        let stats = node.stats();
        assert_eq!((stats.ready, stats.leased, stats.waiting), (0, 2, 4), "{stats:?}");

        // Their time comes though nobody looks.
        node.reopen(orderly);
        node.clock.advance(HOUR);
        block(&node.ledger, node.ledger.overdue(9)).unwrap();
        let stats = node.stats();
        assert_eq!((stats.ready, stats.waiting), (6, 0), "{stats:?}");
        let mut got: Vec<(u64, u32)> =
            node.lease().iter().map(|delivery| (delivery.position, delivery.failures)).collect();
        got.sort_unstable();
        assert_eq!(got, [(0, 0), (1, 0), (2, 1), (3, 1), (4, 0), (5, 0)]);
    }
}

#[test]
fn how_old_a_queue_is_stays_known_when_its_records_leave_memory() {
    for in_segment in [false, true] {
        let mut node = node(|plain| plain);
        let oldest = node.stats().oldest_ms;
        assert_ne!(oldest, 0);
        if in_segment {
            node.write_behind();
        }
        node.ledger.checkpoint().unwrap();
        while node.ledger.step() {}
        assert_eq!(node.stats().oldest_ms, oldest);
        node.reopen(false);
        assert_eq!(node.stats().oldest_ms, oldest);
    }
}

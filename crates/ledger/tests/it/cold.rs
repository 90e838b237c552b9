//! What has left memory is read back whole, whatever becomes of its place meanwhile.

use std::{sync::Arc, time::Duration};

use weft_kernel::{ByteSize, ManualClock, Reason};
use weft_ledger::{
    Ask, Consumer, ConsumerId, Delivery, Durability, GroupId, GroupOptions, Leased, Ledger,
    LogOptions, NewRecord, Op, Options, Settle, Store, Transaction,
    disk::{SimulatedDisk, simulated::Faults},
};

use crate::simulation::block;

struct Queue {
    ledger: Ledger,
    disk: SimulatedDisk,
    group: GroupId,
}

/// A queue of so many records of so many bytes, all of them in a segment.
fn queue(records: u64, bytes: usize) -> Queue {
    let disk = SimulatedDisk::new();
    // A file that they fill.
    let wal_file = ByteSize(records * (bytes as u64 + 64) + (16 << 10));
    let options = Options {
        wal_file_bytes: wal_file,
        wal_files_kept: 0,
        recent_bytes: ByteSize(0),
        ..Options::default()
    };
    let clock = Arc::new(ManualClock::default());
    let (ledger, _) = Ledger::open(Arc::new(disk.clone()), options, clock).unwrap();
    let log = block(&ledger, ledger.create_log("queue", LogOptions::default())).unwrap();
    let group = GroupOptions::owning(log);
    let group = block(&ledger, ledger.create_group("queue", group)).unwrap();
    ledger.join(group, Consumer { id: ConsumerId(1), priority: 0, exclusive: false }).unwrap();
    let append = |log, bytes: usize| {
        let transaction =
            Transaction::new(Durability::Fsync).append(log, NewRecord::new(vec![7; bytes]));
        block(&ledger, ledger.commit(transaction)).unwrap();
    };
    for _ in 0..records {
        append(log, bytes);
    }
    // What comes behind it turns to the next file, so that the one before is written behind.
    let other = block(&ledger, ledger.create_log("other", LogOptions::default())).unwrap();
    while ledger.stats().segment_bytes <= records * bytes as u64 {
        append(other, 8 << 10);
        while ledger.step() {}
    }
    Queue { ledger, disk, group }
}

impl Queue {
    fn ask(&self, records: u32) -> Leased<'_> {
        let lease = Some(Duration::from_secs(60));
        let ask = Ask { consumer: ConsumerId(1), records, bytes: u64::MAX, lease };
        self.ledger.lease(self.group, ask).unwrap()
    }

    fn lease(&self, records: u32) -> Vec<Delivery> {
        block(&self.ledger, self.ask(records).wait()).unwrap()
    }

    fn settle(&self, deliveries: &[Delivery]) {
        let mut transaction = Transaction::new(Durability::Fsync);
        transaction.ops.extend(deliveries.iter().map(|delivery| Op::Settle {
            group: self.group,
            position: delivery.position,
            token: delivery.token,
            how: Settle::Done,
        }));
        block(&self.ledger, self.ledger.commit(transaction)).unwrap();
    }

    /// Takes all that is there, in order: how many.
    fn drain(&self, from: u64) -> u64 {
        let mut next = from;
        loop {
            let taken = self.lease(50);
            if taken.is_empty() {
                return next;
            }
            for delivery in &taken {
                assert_eq!(delivery.position, next);
                next += 1;
            }
            self.settle(&taken);
        }
    }
}

#[test]
fn records_of_more_bytes_than_are_loaded_at_once_are_all_handed_out() {
    // Three of them fit into a load, and a fourth does not.
    for (records, bytes) in [(12, 300 << 10), (300, 12_000), (2000, 100)] {
        assert_eq!(queue(records, bytes).drain(0), records, "of {bytes} bytes");
    }
}

#[test]
fn a_segment_that_is_rewritten_while_it_is_read_loses_nothing() {
    let queue = queue(2000, 100);
    let mut taken = Vec::new();
    while taken.len() < 1500 {
        taken.extend(queue.lease(256));
    }
    let next = taken.len() as u64;
    // It is decided where to read, and not read before the segment has gone.
    let reading = queue.ask(10);
    assert!(matches!(reading, Leased::Later(_)), "nothing of it is in memory");
    let before = queue.ledger.stats().segment_bytes;
    queue.settle(&taken);
    while queue.ledger.step() {}
    assert!(queue.ledger.stats().segment_bytes < before, "the segment was written anew");
    let read = block(&queue.ledger, reading.wait()).unwrap();
    assert_eq!(read.first().map(|delivery| delivery.position), Some(next));
    queue.settle(&read);
    assert_eq!(queue.drain(next + read.len() as u64), 2000);
    assert_eq!(queue.ledger.group_stats(queue.group).unwrap().lost, 0);
}

#[test]
fn a_disk_that_cannot_be_read_for_a_while_loses_nothing() {
    let queue = queue(1000, 100);
    queue.disk.set_faults(Faults { unreadable: Some("segments".into()), ..Faults::default() });
    for _ in 0..3 {
        let refused = block(&queue.ledger, queue.ask(10).wait()).unwrap_err();
        assert_eq!(refused.reason(), Reason::StoragePoisoned);
    }
    queue.disk.set_faults(Faults::default());
    assert_eq!(queue.drain(0), 1000);
    assert_eq!(queue.ledger.group_stats(queue.group).unwrap().lost, 0);
}

#[test]
fn a_segment_that_is_gone_is_told_and_does_not_stop_the_queue() {
    use weft_ledger::disk::Disk;
    let queue = queue(1000, 100);
    for name in queue.disk.list("segments").unwrap() {
        queue.disk.remove(&format!("segments/{name}")).unwrap();
    }
    assert_eq!(queue.lease(10).len(), 0);
    assert_eq!(queue.ledger.group_stats(queue.group).unwrap().lost, 1000);
}

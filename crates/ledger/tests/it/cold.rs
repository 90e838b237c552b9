//! What has left memory is read back whole, whatever becomes of its place meanwhile.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use weft_kernel::{ByteSize, Clock, ManualClock, Reason, Result};
use weft_ledger::{
    ConsumerId, Durability, EmbeddedStore, GroupConsumer, GroupId, GroupOptions, LeaseLimits,
    Leased, LeasedRecord, Ledger, Limits, LogId, LogOptions, LogRetention, NewRecord, Op, Options,
    ReadItem, Settle, Store, Transaction, Why,
    crypt::Keys,
    disk::{SimulatedDisk, simulated::Faults},
};

use crate::simulation::block;

struct Queue {
    ledger: Ledger,
    options: Options,
    clock: Arc<ManualClock>,
    disk: SimulatedDisk,
    log: LogId,
    group: GroupId,
}

/// A queue of so many records of so many bytes, all of them in a segment.
fn queue(records: u64, bytes: usize) -> Queue {
    queue_of(records, NewRecord::new(vec![7; bytes]))
}

fn queue_of(records: u64, record: NewRecord) -> Queue {
    queue_with(&vec![record; records as usize])
}

fn queue_with(records: &[NewRecord]) -> Queue {
    let queue = unmoved(records);
    queue.write_behind();
    queue
}

/// The same before they are in a segment.
fn unmoved(records: &[NewRecord]) -> Queue {
    unmoved_under(Keys::none().with("k", [3; 32]).unwrap(), records)
}

fn unmoved_under(keys: Keys, records: &[NewRecord]) -> Queue {
    let bytes: u64 = records.iter().map(|record| record.data.len() as u64).sum();
    let disk = SimulatedDisk::new();
    // A file that they fill.
    let wal_file = ByteSize(bytes + records.len() as u64 * 96 + (16 << 10));
    let options = Options {
        keys,
        wal_file_bytes: wal_file,
        wal_files_kept: 0,
        recent_bytes: ByteSize(0),
        ..Options::default()
    };
    let clock = Arc::new(ManualClock::default());
    let (ledger, _) = Ledger::open(Arc::new(disk.clone()), options.clone(), clock.clone()).unwrap();
    let log = block(&ledger, ledger.create_log("queue", LogOptions::default())).unwrap();
    let group = GroupOptions::owning(log);
    let group = block(&ledger, ledger.create_group("queue", group)).unwrap();
    ledger
        .join_now(group, GroupConsumer { id: ConsumerId(1), priority: 0, exclusive: false })
        .unwrap();
    let append = |log, record: NewRecord| {
        let transaction = Transaction::new(Durability::Fsync).append(log, record);
        block(&ledger, ledger.commit(transaction)).unwrap();
    };
    for record in records {
        append(log, record.clone());
    }
    Queue { ledger, options, clock, disk, log, group }
}

impl Queue {
    /// What comes behind it turns to the next file, so that the one before is written behind.
    fn write_behind(&self) {
        let bytes = self.ledger.log_stats_now(self.log).unwrap().bytes;
        let name = format!("other {}", self.ledger.stats().segment_bytes);
        let other = block(&self.ledger, self.ledger.create_log(&name, LogOptions::default()));
        let other = other.unwrap();
        let before = self.ledger.stats().segment_bytes;
        while self.ledger.stats().segment_bytes < before + bytes {
            let record = NewRecord::new(vec![7; 8 << 10]);
            let transaction = Transaction::new(Durability::Fsync).append(other, record);
            block(&self.ledger, self.ledger.commit(transaction)).unwrap();
            while self.ledger.step() {}
        }
    }

    fn ask(&self, records: u32) -> Leased<'_> {
        let lease = Some(Duration::from_secs(60));
        let ask = LeaseLimits { consumer: ConsumerId(1), records, bytes: u64::MAX, lease };
        self.ledger.lease_now(self.group, ask).unwrap()
    }

    fn lease(&self, records: u32) -> Vec<LeasedRecord> {
        block(&self.ledger, self.ask(records).wait()).unwrap()
    }

    fn settle(&self, deliveries: &[LeasedRecord]) {
        let mut transaction = Transaction::new(Durability::Fsync);
        transaction.ops.extend(deliveries.iter().map(|delivery| Op::Settle {
            group: self.group,
            position: delivery.position,
            token: delivery.token,
            how: Settle::Done,
        }));
        block(&self.ledger, self.ledger.commit(transaction)).unwrap();
    }

    /// Opens it anew, as after the end of the process.
    fn reopen(&mut self) -> Result<()> {
        let _ = self.ledger.close();
        self.disk.reopen();
        let disk = Arc::new(self.disk.clone());
        (self.ledger, _) = Ledger::open(disk, self.options.clone(), self.clock.clone())?;
        self.ledger.join_now(
            self.group,
            GroupConsumer { id: ConsumerId(1), priority: 0, exclusive: false },
        )?;
        Ok(())
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

/// How many bytes of memory a payload keeps alive, if nothing else shares them.
fn kept(data: Bytes) -> usize {
    data.try_into_mut().map_or(usize::MAX, |whole| whole.capacity())
}

#[test]
fn one_record_keeps_no_more_in_memory_than_it_has() {
    let now = ManualClock::default().wall().duration_since(std::time::UNIX_EPOCH).unwrap();
    let expires_ms = now.as_millis() as u64 + 60_000;
    let record = NewRecord { expires_ms, ..NewRecord::new(vec![7; 200]) };
    for keys in [Keys::none(), Keys::none().with("k", [3; 32]).unwrap()] {
        let queue = unmoved_under(keys, &vec![record.clone(); 5000]);
        queue.write_behind();
        for from in [0, 2500, 4999] {
            let one = Limits { records: 1, bytes: u64::MAX };
            let mut seen = block(&queue.ledger, queue.ledger.peek(queue.group, from, one)).unwrap();
            let Some((_, ReadItem::Record(record))) = seen.pop() else {
                panic!("nothing at {from}")
            };
            assert!(kept(record.data) < 1000, "at {from}");
        }
        queue.clock.advance(Duration::from_secs(61));
        let over = block(&queue.ledger, queue.ledger.overdue(100)).unwrap();
        assert_eq!(over.len(), 100);
        for delivery in over {
            assert!(kept(delivery.record.data) < 1000, "at {}", delivery.position);
        }
    }
}

#[test]
fn looking_at_what_is_cold_ends_with_its_bytes_and_passes_over_nothing() {
    let queue = queue(40, 300 << 10);
    // Some of them are settled, so that what is left has gaps; and some stand behind the segment.
    let mut taken = Vec::new();
    while taken.len() < 40 {
        taken.extend(queue.lease(40));
    }
    let settled: Vec<LeasedRecord> =
        taken.into_iter().filter(|delivery| delivery.position % 5 == 2).collect();
    queue.settle(&settled);
    for size in [10, 500_000, 20] {
        let append = Transaction::new(Durability::Fsync);
        let append = append.append(queue.log, NewRecord::new(vec![7; size]));
        block(&queue.ledger, queue.ledger.commit(append)).unwrap();
    }
    let all: Vec<u64> = (0..43).filter(|at| *at >= 40 || at % 5 != 2).collect();
    for limits in [
        Limits { records: 1000, bytes: 1 << 20 },
        Limits { records: 1000, bytes: 1 },
        Limits { records: 3, bytes: u64::MAX },
        Limits { records: 1000, bytes: u64::MAX },
    ] {
        let (mut from, mut found) = (0, Vec::new());
        loop {
            let seen = block(&queue.ledger, queue.ledger.peek(queue.group, from, limits)).unwrap();
            let Some((last, _)) = seen.last() else { break };
            from = last.position + 1;
            let bytes = |item: &ReadItem| match item {
                ReadItem::Record(record) => record.data.len() as u64,
                ReadItem::Lost { .. } => panic!("{item:?}"),
            };
            let bytes: u64 = seen.iter().map(|(_, item)| bytes(item)).sum();
            assert!(seen.len() <= limits.records as usize, "{limits:?}");
            assert!(seen.len() == 1 || bytes <= limits.bytes, "{limits:?}: {bytes}");
            found.extend(seen.iter().map(|(exception, _)| exception.position));
        }
        assert_eq!(found, all, "{limits:?}");
    }
    assert_eq!(queue.ledger.stats().damaged, 0);
}

#[test]
fn what_expires_at_once_is_read_in_parts() {
    let now = ManualClock::default().wall().duration_since(std::time::UNIX_EPOCH).unwrap();
    let expires_ms = now.as_millis() as u64 + 60_000;
    let queue = queue_of(40, NewRecord { expires_ms, ..NewRecord::new(vec![7; 300 << 10]) });
    queue.clock.advance(Duration::from_secs(61));
    let mut expired = Vec::new();
    while expired.len() < 40 {
        assert!(
            queue.ledger.next_due_now().is_some_and(|due| due <= queue.clock.now()),
            "more is due"
        );
        let over = block(&queue.ledger, queue.ledger.overdue(256)).unwrap();
        let bytes: usize = over.iter().map(|delivery| delivery.record.data.len()).sum();
        assert!(!over.is_empty() && bytes <= 9 << 20, "{bytes}");
        queue.settle(&over);
        expired.extend(over.into_iter().map(|delivery| delivery.position));
    }
    expired.sort_unstable();
    assert_eq!(expired, (0..40).collect::<Vec<u64>>());
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
    queue.clock.advance(Duration::from_secs(1));
    while queue.ledger.step() {}
    assert!(queue.ledger.stats().segment_bytes < before, "the segment was written anew");
    let read = block(&queue.ledger, reading.wait()).unwrap();
    assert_eq!(read.first().map(|delivery| delivery.position), Some(next));
    queue.settle(&read);
    assert_eq!(queue.drain(next + read.len() as u64), 2000);
    assert_eq!(queue.ledger.group_stats_now(queue.group).unwrap().lost, 0);
}

#[test]
fn a_disk_that_cannot_be_read_for_a_while_loses_nothing() {
    let queue = queue(1000, 100);
    queue.disk.set_faults(Faults { unreadable: Some("segments".into()), ..Faults::default() });
    for _ in 0..3 {
        let refused = block(&queue.ledger, queue.ask(10).wait()).unwrap_err();
        assert_eq!(refused.reason(), Reason::StorageUnavailable);
    }
    queue.disk.set_faults(Faults::default());
    assert_eq!(queue.drain(0), 1000);
    assert_eq!(queue.ledger.group_stats_now(queue.group).unwrap().lost, 0);
}

#[test]
fn a_segment_that_is_gone_is_told_and_does_not_stop_the_queue() {
    use weft_ledger::disk::Disk;
    let mut queue = queue(1000, 100);
    for name in queue.disk.list("segments").unwrap() {
        queue.disk.remove(&format!("segments/{name}")).unwrap();
    }
    let refused = queue.reopen().unwrap_err();
    assert_eq!(refused.reason(), Reason::StorageCorrupt);
    assert!(refused.said().contains("segments/0000000001.seg"), "{refused}");
    assert!(refused.detail().contains("--accept-loss"), "{}", refused.detail());
    queue.options.accept_loss = true;
    queue.reopen().unwrap();
    assert!(queue.ledger.damage_now().iter().any(|told| told.contains("1000 records of `queue`")));
    assert_eq!(queue.lease(10).len(), 0);
    queue.ledger.close().unwrap();
    queue.options.accept_loss = false;
    queue.reopen().unwrap();
    assert_eq!(queue.ledger.damage_now(), Vec::<String>::new());
}

#[test]
fn a_segment_that_vanishes_is_told_and_does_not_stop_the_queue() {
    use weft_ledger::disk::Disk;
    let queue = queue(1000, 100);
    for name in queue.disk.list("segments").unwrap() {
        queue.disk.remove(&format!("segments/{name}")).unwrap();
    }
    assert_eq!(queue.lease(10).len(), 0);
    assert_eq!(queue.ledger.group_stats_now(queue.group).unwrap().lost, 1000);
    assert_eq!(queue.ledger.stats().damaged, 1000);
}

#[test]
fn a_lease_that_nobody_waits_for_leaves_the_queue_to_others() {
    let queue = queue(1000, 100);
    drop(queue.ask(10));
    assert_eq!(queue.drain(0), 1000);
}

#[test]
fn a_ledger_is_not_opened_without_the_keys_of_its_segments() {
    let mut queue = queue(1000, 100);
    let keys = std::mem::replace(&mut queue.options.keys, Keys::none());
    assert_eq!(queue.reopen().unwrap_err().reason(), Reason::Misconfigured);
    queue.options.keys = keys;
    queue.reopen().unwrap();
    assert_eq!(queue.drain(0), 1000);
}

#[test]
fn records_in_segments_expire_also_after_a_restart() {
    let now = ManualClock::default().wall().duration_since(std::time::UNIX_EPOCH).unwrap();
    let expires_ms = now.as_millis() as u64 + 60_000;
    let record = NewRecord { expires_ms, ..NewRecord::new(vec![7; 100]) };
    let mut queue = queue_of(500, record);
    queue.reopen().unwrap();
    while queue.ledger.step() {}
    assert!(block(&queue.ledger, queue.ledger.overdue(1000)).unwrap().is_empty());
    queue.clock.advance(Duration::from_secs(61));
    let mut expired = 0;
    loop {
        let over = block(&queue.ledger, queue.ledger.overdue(100)).unwrap();
        if over.is_empty() {
            break;
        }
        assert!(over.iter().all(|delivery| delivery.why == Why::Expired));
        expired += over.len();
        queue.settle(&over);
    }
    assert_eq!(expired, 500);
}

/// Two large records and many small ones.
fn uneven() -> Vec<NewRecord> {
    let sizes = [90_000, 90_000].into_iter().chain([100; 50]);
    sizes.map(|bytes| NewRecord::new(vec![7; bytes])).collect()
}

#[test]
fn the_bytes_of_what_is_handed_out_from_a_segment_are_known() {
    let queue = queue_with(&uneven());
    let bytes = || queue.ledger.log_stats_now(queue.log).unwrap().bytes;
    let leased = || queue.ledger.group_stats_now(queue.group).unwrap().leased_bytes;
    let all = bytes();
    let large = queue.lease(2);
    assert!((180_000..180_200).contains(&leased()), "{}", leased());
    assert_eq!(all - leased(), 50 * ((all - leased()) / 50), "the small ones are of one size");
    // Given back and taken again it is still known.
    queue.ledger.leave_now(queue.group, ConsumerId(1), true);
    queue
        .ledger
        .join_now(queue.group, GroupConsumer { id: ConsumerId(1), priority: 0, exclusive: false })
        .unwrap();
    assert_eq!(leased(), 0);
    drop(large);
    let large = queue.lease(2);
    assert!((180_000..180_200).contains(&leased()), "{}", leased());
    queue.settle(&large);
    assert!((5_000..8_000).contains(&bytes()), "{}", bytes());
    let small = queue.lease(60);
    assert_eq!((small.len(), leased()), (50, bytes()));
    queue.settle(&small);
    assert_eq!((leased(), bytes()), (0, 0));
}

#[test]
fn the_bytes_of_what_went_to_a_segment_while_it_was_handed_out_are_known() {
    let queue = unmoved(&uneven());
    let bytes = || queue.ledger.log_stats_now(queue.log).unwrap().bytes;
    let leased = || queue.ledger.group_stats_now(queue.group).unwrap().leased_bytes;
    let large = queue.lease(2);
    let held = leased();
    queue.write_behind();
    assert_eq!(leased(), held);
    let small = bytes() - held;
    queue.settle(&large);
    assert_eq!((leased(), bytes()), (0, small));
}

#[test]
fn the_newest_bytes_stay_that_retention_promises() {
    let queue = queue(1000, 100);
    // A log that no group owns has retention.
    block(&queue.ledger, queue.ledger.drop_group(queue.group)).unwrap();
    let bytes = queue.ledger.log_stats_now(queue.log).unwrap().bytes;
    let retention = LogRetention { bytes: Some(bytes / 4), ..LogRetention::default() };
    let options = LogOptions { retention, ..LogOptions::default() };
    block(&queue.ledger, queue.ledger.alter_log(queue.log, options)).unwrap();
    queue.clock.advance(Duration::from_secs(10));
    while queue.ledger.step() {}
    let kept = queue.ledger.log_stats_now(queue.log).unwrap();
    assert!((240..=260).contains(&kept.records), "{kept:?}");
}

#[test]
fn of_a_compacted_log_the_last_record_of_each_key_stays() {
    let mut queue = queue(1000, 100);
    let options = LogOptions { compact: true, ..LogOptions::default() };
    let log = block(&queue.ledger, queue.ledger.create_log("states", options)).unwrap();
    let put = |queue: &Queue, number: u32| {
        let record = NewRecord::new(number.to_le_bytes().to_vec()).keyed(vec![(number % 10) as u8]);
        let transaction = Transaction::new(Durability::Fsync).append(log, record);
        block(&queue.ledger, queue.ledger.commit(transaction)).unwrap();
    };
    let mut number = 0;
    // Until some have gone to a segment.
    let before = queue.ledger.stats().segment_bytes;
    while queue.ledger.stats().segment_bytes == before {
        put(&queue, number);
        number += 1;
        while queue.ledger.step() {}
    }
    queue.clock.advance(Duration::from_secs(10));
    while queue.ledger.step() {}
    let read = |queue: &Queue| {
        let (mut from, mut found) = (0, Vec::new());
        loop {
            let items = queue.ledger.read(log, from, Limits::default());
            let items = block(&queue.ledger, items).unwrap();
            let Some(last) = items.last() else { return found };
            from = last.position() + 1;
            for item in items {
                let ReadItem::Record(record) = item else { panic!("{item:?}") };
                found.push((record.position, record.key[0]));
            }
        }
    };
    let kept = read(&queue);
    assert!(kept.len() < number as usize / 2, "{} of {number}", kept.len());
    for key in 0..10 {
        let last = (0..number).rev().find(|other| other % 10 == key).map(u64::from);
        assert_eq!(kept.iter().rev().find(|(_, of)| u32::from(*of) == key).map(|at| at.0), last);
    }
    queue.reopen().unwrap();
    assert_eq!(read(&queue), kept, "what went stays gone");
}

#[test]
fn damage_in_a_segment_is_found_before_it_is_read() {
    let queue = queue(1000, 100);
    let (name, len) = {
        let files = queue.disk.files();
        files.into_iter().find(|(name, _)| name.starts_with("segments/")).unwrap()
    };
    assert!(queue.disk.flip(&name, len / 3 * 8));
    let before = queue.ledger.stats().damaged;
    for _ in 0..10 {
        queue.clock.advance(Duration::from_secs(600));
        while queue.ledger.step() {}
    }
    assert!(queue.ledger.stats().damaged > before);
}

/// Changes a byte of the first file of the log that holds `text`.
fn spoil(disk: &SimulatedDisk, text: &str) {
    let (path, at) = disk
        .files()
        .into_iter()
        .filter(|(path, _)| path.starts_with("wal/"))
        .find_map(|(path, _)| {
            let bytes = disk.contents(&path)?;
            let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())?;
            Some((path, at as u64))
        })
        .unwrap();
    assert!(disk.flip(&path, at * 8));
}

#[test]
fn what_a_damaged_frame_held_is_counted_as_lost_and_never_as_ready() {
    for stored in [true, false] {
        let disk = SimulatedDisk::new();
        let options = Options { wal_file_bytes: ByteSize(64 << 10), ..Options::default() };
        let clock = Arc::new(ManualClock::default());
        let open = || {
            let disk = Arc::new(disk.clone());
            Ledger::open(disk, options.clone(), clock.clone()).unwrap().0
        };
        let ledger = open();
        let queue = block(&ledger, ledger.create_log("queue", LogOptions::default())).unwrap();
        let topic = block(&ledger, ledger.create_log("topic", LogOptions::default())).unwrap();
        let owner = GroupOptions::owning(queue);
        let owner = block(&ledger, ledger.create_group("owner", owner)).unwrap();
        let reader = GroupOptions::over(topic);
        let reader = block(&ledger, ledger.create_group("reader", reader)).unwrap();
        for number in 0..12 {
            for (log, what) in [(queue, "queued"), (topic, "topical")] {
                let record = NewRecord::new(format!("{what} {number:03}").into_bytes());
                let append = Transaction::new(Durability::Fsync).append(log, record);
                block(&ledger, ledger.commit(append)).unwrap();
            }
        }
        // What was removed or settled is no loss.
        let gone = Transaction::new(Durability::Fsync)
            .with(Op::Remove { log: topic, position: 3, required: false })
            .with(Op::Remove { log: queue, position: 4, required: false });
        block(&ledger, ledger.commit(gone)).unwrap();
        if stored {
            ledger.checkpoint().unwrap();
        }
        drop(ledger);
        disk.reopen();
        spoil(&disk, "queued 005");
        spoil(&disk, "topical 006");
        let mut ledger = open();
        for _ in 0..2 {
            // What was removed from a topic a reader passes over when it gets there.
            for (log, group, ready) in [(queue, owner, 10), (topic, reader, 11)] {
                let stats = ledger.group_stats_now(group).unwrap();
                assert_eq!((stats.ready, stats.lost), (ready, 1), "{log} {stored}");
                assert_eq!(ledger.log_stats_now(log).unwrap().records, 10);
            }
            let told = ledger.damage_now();
            for what in ["`queue` are lost, at positions 5", "`topic` are lost, at positions 6"] {
                assert!(told.iter().any(|told| told.ends_with(what)), "{told:?}");
            }
            // Where nothing was stored in between the loss is found again.
            drop(ledger);
            disk.reopen();
            ledger = open();
        }
        for group in [owner, reader] {
            let ask = LeaseLimits {
                consumer: ConsumerId::SYSTEM,
                records: 100,
                bytes: u64::MAX,
                lease: None,
            };
            let leased = block(&ledger, ledger.lease_now(group, ask).unwrap().wait()).unwrap();
            assert_eq!(leased.len(), 10);
            assert_eq!(ledger.group_stats_now(group).unwrap().ready, 0);
        }
        ledger.close().unwrap();
    }
}

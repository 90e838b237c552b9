//! Maps that do not fit into memory: what is cold is found, what is due comes in its order, and memory
//! stays within its bound.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use weft_kernel::{ByteSize, ManualClock, Reason, Rng};
use weft_ledger::{
    EmbeddedStore, ExpectValue, Ledger, MapId, MapOptions, Op, Options, Store, admin,
    crypt::Keys,
    disk::{SimulatedDisk, simulated::Faults},
};

use super::{block, fsync, wall_ms};

const CHANGES: u64 = 128 << 10;
const CACHE: u64 = 64 << 10;
/// Of changes three times as much may wait, and what one transaction adds.
const MOST: u64 = 3 * CHANGES + 2 * CACHE + (64 << 10);

fn options() -> Options {
    Options {
        map_changes_bytes: ByteSize(CHANGES),
        map_cache_bytes: ByteSize(CACHE),
        wal_file_bytes: ByteSize(1 << 20),
        ..Options::default()
    }
}

fn open(disk: &SimulatedDisk, clock: &Arc<ManualClock>) -> Ledger {
    Ledger::open(Arc::new(disk.clone()), options(), clock.clone()).unwrap().0
}

fn key(number: u32) -> Bytes {
    Bytes::from(format!("{:08}", number.wrapping_mul(2_654_435_761) % 100_000_000))
}

/// Puts so many entries of 200 bytes; each with a time, if one is given for it.
fn fill(ledger: &Ledger, map: MapId, count: u32, time: impl Fn(u32) -> u64) {
    for first in (0..count).step_by(100) {
        let mut put = fsync();
        put.ops.extend((first..count.min(first + 100)).map(|number| Op::Put {
            map,
            key: key(number),
            value: Bytes::from(vec![number as u8; 200]),
            expires_ms: time(number),
            expect: ExpectValue::Any,
        }));
        block(ledger, ledger.commit(put)).unwrap();
        ledger.step();
        assert!(ledger.stats().map_bytes <= MOST, "{}", ledger.stats().map_bytes);
    }
}

#[test]
fn memory_does_not_grow_with_a_map() {
    const COUNT: u32 = 20_000;
    let disk = SimulatedDisk::new();
    let clock = Arc::new(ManualClock::default());
    let ledger = open(&disk, &clock);
    let map = block(&ledger, ledger.create_map("large", MapOptions::default())).unwrap();
    fill(&ledger, map, COUNT, |_| 0);
    ledger.close().unwrap();
    drop(ledger);
    let ledger = open(&disk, &clock);
    assert_eq!(ledger.stats().map_bytes, 0, "an opening reads no entries");
    for number in (0..COUNT).step_by(7) {
        let found = block(&ledger, ledger.get(map, &key(number))).unwrap().unwrap();
        assert_eq!(found.data, vec![number as u8; 200]);
        assert!(block(&ledger, ledger.get(map, b"nothing")).unwrap().is_none());
    }
    assert!(ledger.stats().map_bytes <= MOST);
    let mut after = None;
    let mut found = 0;
    loop {
        let page = block(&ledger, ledger.scan(map, b"", after.clone(), 1_000)).unwrap();
        let Some((last, _)) = page.last() else { break };
        assert!(page.is_sorted_by(|(a, _), (b, _)| a < b) && after.is_none_or(|a| a < page[0].0));
        after = Some(last.clone());
        found += page.len() as u32;
    }
    assert_eq!(found, COUNT);
    assert!(ledger.stats().map_bytes <= MOST);
    // What is dropped leaves nothing behind, also if the power fails in the middle.
    block(&ledger, ledger.drop_map(map)).unwrap();
    let rows = |table: &str| {
        let disk = Arc::new(disk.fork());
        let rows = admin::inspect_disk(disk.clone(), &Keys::none()).unwrap().rows;
        let found = admin::verify_disk(disk, &Keys::none(), &mut |_, _| {}).unwrap();
        assert_eq!(found.damage, Vec::<String>::new());
        rows.iter().find(|(name, _)| name == table).unwrap().1
    };
    ledger.close().unwrap();
    drop(ledger);
    let left = rows("entries");
    assert!(left > 0 && left < u64::from(COUNT), "{left}");
    assert_eq!(rows("maps"), 1, "it is known that there are more");
    let ledger = open(&disk, &clock);
    for _ in 0..10 {
        ledger.step();
    }
    ledger.close().unwrap();
    drop(ledger);
    assert_eq!((rows("entries"), rows("times"), rows("maps")), (0, 0, 0));
}

#[test]
fn what_is_expected_of_a_cold_entry_is_held_right_after_an_opening() {
    let disk = SimulatedDisk::new();
    let clock = Arc::new(ManualClock::default());
    let ledger = open(&disk, &clock);
    let map = block(&ledger, ledger.create_map("map", MapOptions::default())).unwrap();
    let large = vec![7; 20_000];
    let put = fsync()
        .put(map, "small", "1", ExpectValue::Absent)
        .put(map, "large", large.clone(), ExpectValue::Absent)
        .put(map, "gone", "1", ExpectValue::Absent);
    let receipt = block(&ledger, ledger.commit(put)).unwrap();
    ledger.checkpoint().unwrap();
    block(&ledger, ledger.commit(fsync().delete(map, "gone", ExpectValue::Present))).unwrap();
    ledger.close().unwrap();
    drop(ledger);
    let ledger = open(&disk, &clock);
    let conflict = |transaction| {
        let refused = ledger.submit_now(transaction).unwrap_err();
        assert_eq!(refused.error.reason(), Reason::VersionConflict);
        refused.op
    };
    for key in ["small", "large"] {
        let other = ExpectValue::Version(receipt.seq + 1);
        assert_eq!(conflict(fsync().put(map, key, "2", ExpectValue::Absent)), Some(0));
        assert_eq!(conflict(fsync().put(map, key, "2", other)), Some(0));
    }
    let three = fsync()
        .put(map, "large", "2", ExpectValue::Version(receipt.seq))
        .put(map, "gone", "2", ExpectValue::Absent)
        .delete(map, "never", ExpectValue::Present);
    assert_eq!(conflict(three.clone()), Some(2));
    let refusals = ledger.refusals_now(&three.ops, &[0, 1, 2]);
    assert_eq!(refusals.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [2]);
    // What memory knows only in part is read again as a whole.
    let found = block(&ledger, ledger.get(map, b"large")).unwrap().unwrap();
    assert_eq!((found.data, found.version), (large.into(), receipt.seq));
    let mut two = three;
    two.ops.pop();
    ledger.submit_now(two).unwrap();
    let again = block(&ledger, ledger.get(map, b"large")).unwrap().unwrap();
    assert_eq!(again.data, "2");
}

#[test]
fn what_cannot_be_read_is_told_and_nothing_is_done_until_it_can_be() {
    let disk = SimulatedDisk::new();
    let clock = Arc::new(ManualClock::default());
    let ledger = open(&disk, &clock);
    let map = block(&ledger, ledger.create_map("map", MapOptions::default())).unwrap();
    let timers = block(&ledger, ledger.create_map("timers", MapOptions::TIMERS)).unwrap();
    // More than the tables keep of their pages.
    const COUNT: usize = 120;
    let large = Bytes::from(vec![7; 100_000]);
    for number in 0..COUNT {
        let (key, due_ms) = (format!("{number:03}"), 1 + number as u64);
        let put = fsync().put(map, key.clone(), large.clone(), ExpectValue::Absent);
        block(&ledger, ledger.commit(put.set_timer(timers, key, due_ms, large.clone()))).unwrap();
    }
    ledger.close().unwrap();
    drop(ledger);
    let ledger = open(&disk, &clock);
    let unreadable = Some("checkpoint/tables".to_owned());
    disk.set_faults(Faults { unreadable, ..Faults::default() });
    let change = || {
        (0..COUNT).fold(fsync(), |change, number| {
            change.put(map, format!("{number:03}"), "2", ExpectValue::Present)
        })
    };
    let all = Duration::from_secs(9);
    let (before, mut taken) = (ledger.stats().submitted, 0);
    for _ in 0..3 {
        let mut told = vec![
            block(&ledger, ledger.scan(map, b"", None, 999)).unwrap_err(),
            block(&ledger, ledger.commit(change())).unwrap_err().error,
            ledger.submit_now(change()).unwrap_err().error,
            ledger.refusals_now(&change().ops, &[0]).remove(0).1,
        ];
        for number in 0..COUNT {
            match block(&ledger, ledger.get(map, format!("{number:03}").as_bytes())) {
                Ok(found) => assert_eq!(found.unwrap().data, large),
                Err(error) => told.push(error),
            }
        }
        assert!(told.len() > 4, "all of it is in memory");
        match block(&ledger, ledger.take_timers(COUNT, all)) {
            Ok(timers) => taken += timers.len(),
            Err(error) => told.push(error),
        }
        for error in told {
            assert_eq!(error.reason(), Reason::StorageUnavailable, "{}", error.detail());
        }
    }
    assert_eq!(ledger.stats().submitted, before);
    assert!(taken < COUNT);
    disk.set_faults(Faults::default());
    taken += block(&ledger, ledger.take_timers(COUNT, all)).unwrap().len();
    assert_eq!(taken, COUNT, "nobody has had the rest");
    block(&ledger, ledger.commit(change())).unwrap();
    let found = block(&ledger, ledger.scan(map, b"", None, 999)).unwrap();
    assert_eq!(found.len(), COUNT);
    assert!(found.iter().all(|(_, value)| value.data == "2"));
}

#[test]
fn an_entry_that_is_damaged_while_the_ledger_runs_is_told_and_never_another_one() {
    let disk = SimulatedDisk::new();
    let clock = Arc::new(ManualClock::default());
    let ledger = open(&disk, &clock);
    let map = block(&ledger, ledger.create_map("map", MapOptions::default())).unwrap();
    const COUNT: u8 = 150;
    let data = |number: u8| Bytes::from(vec![number; 100_000]);
    for number in 0..COUNT {
        let put = fsync().put(map, vec![number], data(number), ExpectValue::Absent);
        block(&ledger, ledger.commit(put)).unwrap();
    }
    ledger.close().unwrap();
    drop(ledger);
    let ledger = open(&disk, &clock);
    assert_eq!(ledger.stats().damaged, 0);
    let tables = "checkpoint/tables";
    let len = disk.files().into_iter().find(|(name, _)| name == tables).unwrap().1;
    let mut rng = Rng::seeded(1);
    for _ in 0..100 {
        disk.flip(tables, 8 * 4096 + rng.below(8 * (len - 4096)));
    }
    let mut damaged = 0;
    for number in 0..COUNT {
        match block(&ledger, ledger.get(map, &[number])) {
            Ok(found) => assert_eq!(found.unwrap().data, data(number)),
            Err(error) => {
                assert_eq!(error.reason(), Reason::StorageCorrupt, "{}", error.detail());
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0 && ledger.stats().damaged > 0, "{damaged}");
    assert!(ledger.damage_now().iter().any(|told| told.contains("entries of maps")));
}

#[test]
fn timers_behind_the_window_come_due_in_order() {
    const COUNT: u32 = 3_000;
    let disk = SimulatedDisk::new();
    let clock = Arc::new(ManualClock::default());
    let ledger = open(&disk, &clock);
    let map = block(&ledger, ledger.create_map("timers", MapOptions::TIMERS)).unwrap();
    let other = block(&ledger, ledger.create_map("entries", MapOptions::default())).unwrap();
    let begun = wall_ms(&clock);
    let time = |number: u32| begun + 1_000 + u64::from(number.wrapping_mul(40_503) % COUNT);
    fill(&ledger, map, COUNT, time);
    fill(&ledger, other, COUNT, time);
    ledger.close().unwrap();
    drop(ledger);
    let ledger = open(&disk, &clock);
    assert!(ledger.next_due_now().is_some());
    clock.advance(Duration::from_millis(999));
    assert!(block(&ledger, ledger.take_timers(10, Duration::from_secs(60))).unwrap().is_empty());
    let (mut taken, mut keys) = (Vec::new(), BTreeSet::new());
    for _ in 0..10 * COUNT {
        clock.advance(Duration::from_millis(7));
        let timers = block(&ledger, ledger.take_timers(10, Duration::from_secs(6_000))).unwrap();
        for (at, timer) in timers.iter().enumerate() {
            assert_eq!(timer.data.len(), 200);
            assert!(timer.due_ms <= wall_ms(&clock));
            taken.push(timer.due_ms);
            assert!(keys.insert(timer.key.clone()), "nobody else is handed what is taken");
            // One that comes before all that wait is next, and ends at once.
            if at == 0 && taken.len() % 50 == 1 {
                let due = fsync().set_timer(map, "late", begun + 1, "");
                block(&ledger, ledger.commit(due)).unwrap();
                let next = block(&ledger, ledger.take_timers(1, Duration::from_secs(9))).unwrap();
                assert_eq!(next[0].key, "late");
                block(&ledger, ledger.commit(fsync().end_timer(&next[0]))).unwrap();
            }
        }
        let ends = timers.iter().filter(|timer| timer.version % 3 != 0);
        let ends = ends.fold(fsync(), |ends, timer| ends.end_timer(timer));
        if !ends.ops.is_empty() {
            block(&ledger, ledger.commit(ends)).unwrap();
        }
        ledger.step();
        assert!(ledger.stats().map_bytes <= MOST);
        if taken.len() as u32 >= COUNT {
            break;
        }
    }
    assert_eq!(taken.len() as u32, COUNT);
    assert!(taken.is_sorted());
    // Entries whose time is over are gone from the tables too, however many they were.
    for _ in 0..100 {
        ledger.step();
    }
    assert!(block(&ledger, ledger.scan(other, b"", None, 9)).unwrap().is_empty());
    ledger.close().unwrap();
    drop(ledger);
    let rows = admin::inspect_disk(Arc::new(disk.clone()), &Keys::none()).unwrap().rows;
    let left = rows.iter().find(|(name, _)| name == "entries").unwrap().1;
    let of_timers = rows.iter().find(|(name, _)| name == "times").unwrap().1;
    assert_eq!(left, of_timers, "only timers that were not ended are left");
    assert!(left < u64::from(COUNT) / 2 && left > 0, "{left}");
}

#[test]
fn what_outruns_the_checkpoint_waits_for_it() {
    let disk = SimulatedDisk::new();
    let clock = Arc::new(ManualClock::default());
    let ledger = open(&disk, &clock);
    let map = block(&ledger, ledger.create_map("map", MapOptions::default())).unwrap();
    let put = |number: u32| fsync().put(map, key(number), vec![1; 200], ExpectValue::Any);
    let mut taken = 0;
    let refused = loop {
        match ledger.submit_now(put(taken)) {
            Ok(_) => taken += 1,
            Err(refused) => break refused,
        }
        assert!(ledger.stats().map_bytes <= MOST);
    };
    assert_eq!(refused.error.reason(), Reason::StorageBusy);
    assert!(taken > 500, "{taken}");
    // What gives room is taken.
    ledger.submit_now(fsync().delete(map, key(0), ExpectValue::Present)).unwrap();
    block(&ledger, ledger.commit(put(taken))).unwrap();
    let found = block(&ledger, ledger.scan(map, b"", None, 10_000)).unwrap();
    assert_eq!(found.len() as u32, taken);
}

//! Rows are stored together or not at all, also when the power fails, and not in the clear when there is a key.

use std::sync::Arc;

use weft_kernel::Rng;

use super::{Capture, Checkpoint, LogStart, Row, Table, Tables};
use crate::{
    crypt::Keys,
    disk::{Disk, SimulatedDisk, simulated::Faults},
};

fn open(disk: &SimulatedDisk, keys: &Keys) -> weft_kernel::Result<Checkpoint> {
    Checkpoint::open(Arc::new(disk.clone()), keys.clone())
}

fn capture(seq: u64, rows: &[(Table, &str, Option<&str>)]) -> Capture {
    let row = |&(table, key, value): &(Table, &str, Option<&str>)| Row {
        table,
        key: key.as_bytes().to_vec(),
        value: value.map(|value| value.as_bytes().to_vec()),
    };
    Capture { seq, rows: rows.iter().map(row).collect(), ..Capture::default() }
}

fn from(file: u32) -> LogStart {
    LogStart { file, before: 0 }
}

fn all(checkpoint: &Checkpoint, table: Table) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    checkpoint
        .each(table, &mut |key, value| {
            rows.push((text(key), text(value)));
            Ok(())
        })
        .unwrap();
    rows
}

#[test]
fn rows_come_back_sorted_and_the_last_word_counts() {
    let plain = Keys::none();
    let keyed = Keys::none().with("k", [3; 32]).unwrap();
    for keys in [plain, keyed] {
        let disk = SimulatedDisk::new();
        let checkpoint = open(&disk, &keys).unwrap();
        assert_eq!((checkpoint.seq().unwrap(), checkpoint.first_file().unwrap()), (0, 0));
        let big = "secret".repeat(5000);
        let rows = [
            (Table::Logs, "b", Some("2")),
            (Table::Entries, "x", Some(&big[..])),
            (Table::Logs, "a", Some("1")),
        ];
        checkpoint.store(&capture(7, &rows), from(3)).unwrap();
        checkpoint
            .store(&capture(9, &[(Table::Logs, "b", None), (Table::Logs, "c", Some("3"))]), from(4))
            .unwrap();
        drop(checkpoint);
        let checkpoint = open(&disk, &keys).unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(all(&checkpoint, Table::Logs), [pair("a", "1"), pair("c", "3")]);
        assert_eq!(all(&checkpoint, Table::Groups), []);
        assert_eq!(checkpoint.get(Table::Entries, b"x").unwrap().unwrap(), big.as_bytes());
        assert_eq!(checkpoint.get(Table::Entries, b"y").unwrap(), None);
        assert_eq!((checkpoint.seq().unwrap(), checkpoint.first_file().unwrap()), (9, 4));
        let stored = disk.contents(super::DATABASE).unwrap();
        let clear = stored.windows(12).any(|window| window == b"secretsecret");
        assert_eq!(clear, !keys.encrypt());
        if keys.encrypt() {
            drop(checkpoint);
            assert!(open(&disk, &Keys::none()).is_err());
            let new = keys.clone().with("new", [4; 32]).unwrap();
            assert!(Checkpoint::rewrap(&disk, &new).unwrap());
            let new = Keys::none().with("new", [4; 32]).unwrap();
            assert_eq!(open(&disk, &new).unwrap().seq().unwrap(), 9);
        }
    }
}

#[test]
fn a_crash_at_any_sync_leaves_the_state_before_or_after() {
    for seed in 0..60 {
        let mut rng = Rng::seeded(seed);
        let disk = SimulatedDisk::new();
        let keys =
            if seed % 2 == 0 { Keys::none() } else { Keys::none().with("k", [3; 32]).unwrap() };
        let halt = 1 + rng.below(30);
        disk.set_faults(Faults { halt_at_sync: Some(halt), ..Faults::default() });
        let mut stored = 0;
        if let Ok(checkpoint) = open(&disk, &keys) {
            for seq in 1..10 {
                let value = seq.to_string().repeat(seq as usize * 300);
                let rows = [(Table::Logs, "a", Some(&value[..])), (Table::Maps, "b", Some(&value))];
                if checkpoint.store(&capture(seq, &rows), from(seq as u32)).is_err() {
                    break;
                }
                stored = seq;
            }
        }
        disk.halt();
        disk.restart(&mut rng);
        let checkpoint = open(&disk, &keys).unwrap_or_else(|error| {
            panic!("seed {seed}: {}", error.detail());
        });
        let seq = checkpoint.seq().unwrap();
        assert!(seq == stored || seq == stored + 1, "seed {seed}: {seq} after {stored}");
        if seq > 0 {
            let value = seq.to_string().repeat(seq as usize * 300).into_bytes();
            assert_eq!(checkpoint.get(Table::Logs, b"a").unwrap(), Some(value.clone()));
            assert_eq!(checkpoint.get(Table::Maps, b"b").unwrap(), Some(value));
            assert_eq!(checkpoint.first_file().unwrap(), seq as u32);
        }
    }
}

#[test]
fn a_failed_sync_is_told() {
    let disk = SimulatedDisk::new();
    let checkpoint = open(&disk, &Keys::none()).unwrap();
    disk.set_faults(Faults { fail_sync_from: Some(0), ..Faults::default() });
    let error = checkpoint.store(&capture(1, &[]), from(1)).unwrap_err();
    assert_eq!(error.reason(), weft_kernel::Reason::StoragePoisoned);
    assert!(disk.list("checkpoint").is_ok());
}

#[test]
fn a_full_disk_is_told_and_what_was_not_stored_is_stored_when_there_is_room() {
    let disk = SimulatedDisk::new();
    let checkpoint = open(&disk, &Keys::none()).unwrap();
    checkpoint.store(&capture(1, &[(Table::Logs, "a", Some("1"))]), from(1)).unwrap();
    let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
    disk.set_faults(Faults { bytes_max: Some(used + 100), ..Faults::default() });
    let big = "x".repeat(8 << 20);
    let rows = [(Table::Entries, "big", Some(&big[..])), (Table::Logs, "a", Some("2"))];
    let error = checkpoint.store(&capture(2, &rows), from(2)).unwrap_err();
    assert_eq!(error.reason(), weft_kernel::Reason::StorageFull, "{}", error.detail());
    assert_eq!(checkpoint.get(Table::Logs, b"a").unwrap().unwrap(), b"1");
    disk.set_faults(Faults::default());
    checkpoint.store(&capture(2, &rows), from(2)).unwrap();
    assert_eq!(checkpoint.get(Table::Logs, b"a").unwrap().unwrap(), b"2");
}

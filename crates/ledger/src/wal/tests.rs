//! What was synced is found again whatever the crash did; what was damaged is told from what was torn.

use std::sync::Arc;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use weft_kernel::{Reason, Rng};

use super::{
    Closed, Cursor, FrameAt, HEADER_LEN, Known, Purpose, Recent, Refused, WalFile, WalSet, Writer,
    name, scan,
};
use crate::{
    crypt::Keys,
    disk::{SimulatedDisk, simulated::Faults},
    format::{FrameWriter, Kind, NewImage, Place, frame, payload_crc},
};

const FILE: u64 = 64 << 10;

fn group(seqs: std::ops::Range<u64>, tag: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for seq in seqs {
        let mut frame = FrameWriter::begin(&mut bytes, seq, tag);
        frame.trim(1, seq);
        frame.finish();
    }
    bytes
}

fn set(disk: &SimulatedDisk, keys: &Keys) -> WalSet {
    WalSet::new(Arc::new(disk.clone()), keys.clone(), FILE)
}

/// A file with groups of transactions 1..=3, 4..=6, 7..=9, each synced.
fn three_groups(disk: &SimulatedDisk) -> Vec<u8> {
    let set = set(disk, &Keys::none());
    set.prepare(1).unwrap();
    let mut writer = Writer::new(set.get(1).unwrap());
    for from in [1, 4, 7] {
        writer.write(&mut group(from..from + 3, false)).unwrap();
        assert!(writer.unsynced());
        writer.sync().unwrap();
    }
    set.get(1).unwrap().read_all().unwrap()
}

fn known(before: u64, next: Option<u64>) -> Known {
    Known { before, next, ..Known::default() }
}

fn seqs(scan: &scan::Scan) -> Vec<u64> {
    scan.frames.iter().map(|frame| frame.seq).collect()
}

#[test]
fn a_cursor_fills_files_and_holds_the_last_one_back_when_the_disk_is_full() {
    let mut cursor = Cursor::new(1, HEADER_LEN + 100, 2);
    assert_eq!(cursor.reserve(101, Purpose::Essential), Err(Refused::TooLarge));
    assert_eq!(cursor.reserve(60, Purpose::Append), Ok(FrameAt { file: 1, offset: HEADER_LEN }));
    assert_eq!(
        cursor.reserve(40, Purpose::Append),
        Ok(FrameAt { file: 1, offset: HEADER_LEN + 60 })
    );
    cursor.set_full(true);
    assert_eq!(cursor.reserve(8, Purpose::Append), Err(Refused::Full));
    assert_eq!(cursor.reserve(8, Purpose::Essential), Ok(FrameAt { file: 2, offset: HEADER_LEN }));
    assert_eq!(cursor.reserve(100, Purpose::Essential), Err(Refused::Full));
    cursor.set_full(false);
    assert_eq!(cursor.reserve(100, Purpose::Append), Err(Refused::Busy));
    cursor.ready(3);
    assert_eq!(cursor.reserve(100, Purpose::Append), Ok(FrameAt { file: 3, offset: HEADER_LEN }));
}

#[test]
fn a_start_on_a_full_disk_goes_on_right_before_what_was_held_back() {
    let capacity = HEADER_LEN + 100;
    let mut cursor = Cursor::new(1, capacity, 1);
    cursor.set_full(true);
    // A quarter of the file is held back; frames of maps and others fill the rest to the last byte.
    assert_eq!(cursor.reserve(40, Purpose::Put), Ok(FrameAt { file: 1, offset: HEADER_LEN }));
    assert!(cursor.reserve(35, Purpose::Essential).is_ok());
    for purpose in [Purpose::Append, Purpose::Put, Purpose::Essential] {
        assert_eq!(cursor.reserve(1, purpose), Err(Refused::Full), "{purpose:?}");
    }
    let mut cursor = Cursor::resume(1, HEADER_LEN + 75, capacity);
    for purpose in [Purpose::Append, Purpose::Put] {
        assert_eq!(cursor.reserve(1, purpose), Err(Refused::Full), "{purpose:?}");
    }
    let begun = cursor.reserve(8, Purpose::Essential);
    assert_eq!(begun, Ok(FrameAt { file: 1, offset: HEADER_LEN + 75 }));
}

#[test]
fn recent_groups_are_read_as_slices_until_they_are_pushed_out() {
    // Two groups with what each takes beside its bytes.
    let mut recent = Recent::new(10 + 2 * super::recent::EXTRA);
    recent.push(1, 100, Bytes::from_static(b"abcdef"));
    recent.push(2, 50, Bytes::from_static(b"ghij"));
    let at = |file, frame, record, len| Place { file, frame, record, len };
    assert_eq!(recent.get(&at(1, 100, 2, 3)).unwrap(), "cde");
    assert_eq!(recent.get(&at(1, 102, 0, 4)).unwrap(), "cdef");
    assert_eq!(recent.get(&at(2, 50, 1, 1)).unwrap(), "h");
    for missing in [at(1, 102, 0, 5), at(1, 99, 0, 1), at(2, 49, 0, 1), at(3, 50, 0, 1)] {
        assert_eq!(recent.get(&missing), None, "{missing:?}");
    }
    recent.push(2, 54, Bytes::from_static(b"k"));
    assert_eq!(recent.get(&at(1, 100, 0, 1)), None);
    assert_eq!(recent.get(&at(2, 54, 0, 1)).unwrap(), "k");
}

#[test]
fn a_bad_frame_below_a_later_sync_is_damage_and_what_follows_is_kept() {
    let disk = SimulatedDisk::new();
    let mut bytes = three_groups(&disk);
    assert_eq!(seqs(&scan(&bytes, 1, Known::default())), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let whole = scan(&bytes, 1, Known::default());
    let third = whole.frames[2].offset as usize;
    bytes[third + frame::HEADER] ^= 1;
    let found = scan(&bytes, 1, Known::default());
    assert_eq!(seqs(&found), [1, 2, 4, 5, 6, 7, 8, 9]);
    assert_eq!(found.damage.len(), 1);
    assert_eq!(found.damage[0].lost, Some(3..4));
    assert_eq!(found.damage[0].bytes, whole.frames[2].offset..whole.frames[3].offset);
    // Also when the damaged frame's length leads nowhere.
    bytes[third + 5] ^= 0xff;
    assert_eq!(seqs(&scan(&bytes, 1, Known::default())), [1, 2, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_bad_frame_of_the_last_group_ends_the_file_unless_a_later_file_proves_it_safe() {
    let mut bytes = three_groups(&SimulatedDisk::new());
    let whole = scan(&bytes, 1, Known::default());
    let eighth = whole.frames[7].offset as usize;
    bytes[eighth + frame::HEADER] ^= 1;
    let torn = scan(&bytes, 1, Known::default());
    assert_eq!((seqs(&torn), torn.damage.len()), (vec![1, 2, 3, 4, 5, 6, 7], 0));
    assert_eq!((torn.end, torn.torn), (eighth as u32, whole.end - eighth as u32));
    let proven = scan(&bytes, 1, known(0, Some(10)));
    assert_eq!(seqs(&proven), [1, 2, 3, 4, 5, 6, 7, 9]);
    assert_eq!(proven.damage[0].lost, Some(8..9));
    // The very last frame, of which only the numbers tell that it is missing.
    let mut bytes = three_groups(&SimulatedDisk::new());
    bytes[whole.frames[8].offset as usize + 1] ^= 1;
    let proven = scan(&bytes, 1, known(0, Some(10)));
    assert_eq!((seqs(&proven).len(), proven.damage[0].lost.clone()), (8, Some(9..10)));
}

#[test]
fn after_a_failed_sync_nothing_is_taken_for_safe() {
    let disk = SimulatedDisk::new();
    let set = set(&disk, &Keys::none());
    set.prepare(1).unwrap();
    let mut writer = Writer::new(set.get(1).unwrap());
    writer.write(&mut group(1..4, false)).unwrap();
    disk.set_faults(Faults { fail_sync_from: Some(disk.syncs() + 1), ..Faults::default() });
    assert_eq!(writer.sync().unwrap_err().reason(), Reason::StoragePoisoned);
    // The disk says yes again, and has dropped what it could not write.
    disk.set_faults(Faults::default());
    assert_eq!(writer.sync().unwrap_err().reason(), Reason::StoragePoisoned);
    assert!(writer.write(&mut group(4..7, false)).is_err() && writer.unsynced());
}

#[test]
fn nothing_of_a_former_life_fits_and_a_closed_file_ends_where_it_was_closed() {
    let disk = SimulatedDisk::new();
    let set = set(&disk, &Keys::none());
    set.prepare(1).unwrap();
    let mut writer = Writer::new(set.get(1).unwrap());
    writer.write(&mut group(1..50, false)).unwrap();
    writer.sync().unwrap();
    set.recycle(1, 1).unwrap();
    assert!(set.get(1).is_none() && disk.contents(&name(1)).is_none());
    set.prepare(2).unwrap();
    let file = set.get(2).unwrap();
    assert_eq!(disk.files().len(), 2, "the spare was used");
    assert_eq!(seqs(&scan(&file.read_all().unwrap(), 2, Known::default())), Vec::<u64>::new());
    let mut writer = Writer::new(file.clone());
    writer.write(&mut group(50..60, false)).unwrap();
    writer.sync().unwrap();
    let end = scan(&file.read_all().unwrap(), 2, known(49, None)).frames[5].offset;
    file.close(Closed { end, seq: 54 }).unwrap();
    let (file, whole) = WalFile::open(&disk, 2, &Keys::none()).unwrap();
    assert!(whole);
    let found = scan(&file.read_all().unwrap(), 2, known(49, Some(55)));
    assert_eq!((seqs(&found), found.damage.len(), found.torn), (vec![50, 51, 52, 53, 54], 0, 0));
}

#[test]
fn an_encrypted_file_is_read_with_its_key_and_by_its_copy_of_the_header() {
    let disk = SimulatedDisk::new();
    let keys = Keys::none().with("k", [7; 32]).unwrap();
    let set = set(&disk, &keys);
    set.prepare(1).unwrap();
    let mut bytes = Vec::new();
    let mut frame = FrameWriter::begin(&mut bytes, 1, true);
    frame.marker();
    let record = frame.append(&NewImage {
        log: 1,
        position: 2,
        time_ms: 3,
        due_ms: 0,
        expires_ms: 0,
        priority: 0,
        dedupe: None,
        global: None,
        key: b"",
        data: b"very secret",
        payload_crc: payload_crc(b"", b"very secret"),
    });
    frame.finish();
    let plain = bytes.clone();
    let mut writer = Writer::new(set.get(1).unwrap());
    writer.write(&mut bytes).unwrap();
    assert_eq!(bytes, plain, "what readers get stays in the clear");
    writer.sync().unwrap();
    let stored = disk.contents(&name(1)).unwrap();
    assert!(!stored.windows(11).any(|window| window == b"very secret"));
    disk.flip(&name(1), 40 * 8);
    let (file, whole) = WalFile::open(&disk, 1, &keys).unwrap();
    assert!(whole);
    let place = Place { file: 1, frame: HEADER_LEN, record: record.record, len: record.len };
    assert_eq!(
        file.read(&place).unwrap()[..],
        plain[record.record as usize..][..record.len as usize]
    );
    assert!(WalFile::open(&disk, 1, &Keys::none()).is_err());
    assert!(file.rewrap(&keys.clone().with("new", [8; 32]).unwrap()).unwrap());
    let new = Keys::none().with("new", [8; 32]).unwrap();
    let (file, _) = WalFile::open(&disk, 1, &new).unwrap();
    assert_eq!(file.read(&place).unwrap().len(), record.len as usize);
    // Another version is refused with a text that says what to do.
    disk.flip(&name(1), 8 * 8);
    assert!(WalFile::open(&disk, 1, &new).unwrap().1, "one copy is enough");
    disk.flip(&name(1), (2048 + 8) * 8);
    let refused = WalFile::open(&disk, 1, &new).unwrap_err();
    assert!(refused.said().contains("format version 2"), "{refused}");
}

#[test]
fn a_full_disk_refuses_a_new_file_and_leaves_nothing_behind() {
    let disk = SimulatedDisk::new();
    disk.set_faults(crate::disk::simulated::Faults {
        bytes_max: Some(FILE + 8192),
        ..Default::default()
    });
    let set = set(&disk, &Keys::none());
    set.prepare(1).unwrap();
    let full = set.prepare(2).unwrap_err();
    assert_eq!(full.reason(), weft_kernel::Reason::StorageFull);
    let names: Vec<String> = disk.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [name(1), "wal/made".to_owned()]);
}

#[test]
fn a_file_of_format_version_3_is_these_bytes() {
    let disk = SimulatedDisk::new();
    let set = WalSet::new(Arc::new(disk.clone()), Keys::none(), 16 << 10);
    set.prepare(7).unwrap();
    let mut writer = Writer::new(set.get(7).unwrap());
    let mut bytes = Vec::new();
    let mut frame = FrameWriter::begin(&mut bytes, 100, false);
    frame.epoch(3);
    frame.finish();
    let mut frame = FrameWriter::begin(&mut bytes, 101, false);
    frame.define(Kind::Log, 1, b"orders", b"options");
    let image = NewImage {
        log: 1,
        position: 300,
        time_ms: 1_764_000_000_000,
        due_ms: 1_764_000_001_000,
        expires_ms: 1_764_000_002_000,
        priority: 9,
        dedupe: Some(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        global: Some(70_000),
        key: b"key",
        data: b"data",
        payload_crc: payload_crc(b"key", b"data"),
    };
    frame.append(&image);
    let plain =
        NewImage { due_ms: 0, expires_ms: 0, priority: 0, dedupe: None, global: None, ..image };
    frame.append(&NewImage { key: b"", payload_crc: payload_crc(b"", b"data"), ..plain });
    frame.settled(2, &[(1, 3), (300, 300)]);
    frame.remove(1, &[(5, 5)]);
    frame.retry(2, 9, 1_764_000_003_000, 1, 4, b"note");
    frame.trim(1, 4);
    frame.seek(2, 6);
    frame.put_value(3, b"k", b"v", 0);
    frame.delete(3, b"k");
    frame.alter(Kind::Group, 2, b"others");
    frame.drop_kind(Kind::Map, 3);
    frame.finish();
    writer.write(&mut bytes).unwrap();
    writer.sync().unwrap();
    let mut marker = Vec::new();
    let mut frame = FrameWriter::begin(&mut marker, 101, false);
    frame.marker();
    frame.finish();
    writer.write(&mut marker).unwrap();
    let end = writer.offset();
    set.get(7).unwrap().close(Closed { end, seq: 101 }).unwrap();
    let stored = disk.contents(&name(7)).unwrap();
    crate::format::tests::golden("wal-3.txt", &stored);
    let found = scan(&stored, 7, known(99, None));
    assert_eq!((seqs(&found), found.end), (vec![100, 101, 101], end));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn after_a_crash_a_prefix_is_found_that_holds_all_that_was_synced(
        groups in vec((1u64..6, any::<bool>()), 1..12), seed in any::<u64>(),
    ) {
        let disk = SimulatedDisk::new();
        let set = set(&disk, &Keys::none());
        set.prepare(1).unwrap();
        let mut writer = Writer::new(set.get(1).unwrap());
        let (mut next, mut safe) = (1, 0);
        for (count, sync) in groups {
            writer.write(&mut group(next..next + count, false)).unwrap();
            next += count;
            if sync {
                writer.sync().unwrap();
                safe = next - 1;
            }
        }
        disk.halt();
        disk.restart(&mut Rng::seeded(seed));
        let (file, whole) = WalFile::open(&disk, 1, &Keys::none()).unwrap();
        prop_assert!(whole);
        let found = scan(&file.read_all().unwrap(), 1, Known::default());
        let kept = found.frames.len() as u64;
        prop_assert_eq!(seqs(&found), (1..=kept).collect::<Vec<_>>());
        prop_assert!(kept >= safe && kept < next, "{kept} of {safe} safe and {next}");
        prop_assert_eq!(found.damage.len(), 0);
    }

    #[test]
    fn any_bytes_are_scanned_without_a_panic(bytes in vec(any::<u8>(), 0..9000), later in any::<bool>()) {
        let found = scan(&bytes, 1, known(0, later.then_some(9)));
        prop_assert!(found.frames.len() <= bytes.len());
    }
}

//! What is written into a segment is read from it, and damage costs only the records that it hit.

use std::sync::Arc;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::{Segment, SegmentSet, SegmentWriter, Sizes, index::Index, name};
use crate::{
    crypt::Keys,
    disk::SimulatedDisk,
    format::{Image, NewImage, payload_crc},
    record::{Limits, ReadItem},
};

const ALL: Limits = Limits { records: u32::MAX, bytes: u64::MAX };

fn image(log: u32, position: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    NewImage {
        log,
        position,
        time_ms: 1000 + position,
        due_ms: 0,
        expires_ms: 0,
        priority: 0,
        dedupe: None,
        global: None,
        key: b"",
        data,
        payload_crc: payload_crc(b"", data),
    }
    .put(&mut bytes);
    bytes
}

fn write(disk: &SimulatedDisk, keys: &Keys, records: &[(u32, u64, usize)]) {
    let mut writer = SegmentWriter::create(disk, 1, keys).unwrap();
    for &(log, position, len) in records {
        let bytes = image(log, position, &vec![position as u8; len]);
        writer.push(&Image::parse(&bytes).unwrap(), &bytes).unwrap();
    }
    writer.finish(disk).unwrap();
}

/// Positions that were read, and those that were lost.
fn read(segment: &Segment, log: u32, from: u64, to: u64) -> (Vec<u64>, Vec<u64>) {
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    for item in segment.read(log, from, to, ALL, &mut |_| {}).unwrap().items {
        match item {
            ReadItem::Record(record) => {
                assert!(record.data.iter().all(|&byte| byte == record.position as u8));
                assert_eq!(record.time_ms, 1000 + record.position);
                found.push(record.position);
            }
            ReadItem::Lost { position, .. } => lost.push(position),
        }
    }
    (found, lost)
}

fn dense(logs: u32, each: u64, len: usize) -> Vec<(u32, u64, usize)> {
    (0..logs).flat_map(|log| (0..each).map(move |position| (log, position, len))).collect()
}

#[test]
fn ranges_are_read_in_the_clear_and_encrypted() {
    for keys in [Keys::none(), Keys::none().with("k", [1; 32]).unwrap()] {
        let disk = SimulatedDisk::new();
        write(&disk, &keys, &dense(3, 1000, 200));
        let segment = Segment::open(&disk, 1, &keys).unwrap();
        assert_eq!(segment.extents().map(|extent| extent.records).collect::<Vec<_>>(), [1000; 3]);
        assert!(segment.index.extents[0].sparse.len() > 10 && !segment.rebuilt());
        for (from, to) in [(0, 999), (0, 0), (999, 2000), (77, 600), (1000, 1001)] {
            let expected: Vec<u64> = (from..=to.min(999)).collect();
            assert_eq!(read(&segment, 1, from, to), (expected, vec![]), "{from}..={to}");
        }
        assert_eq!(read(&segment, 3, 0, 10).0.len(), 0);
        let few =
            segment.read(2, 5, 999, Limits { records: 2, bytes: 1 << 20 }, &mut |_| {}).unwrap();
        assert_eq!((few.items.len(), few.to), (2, 7), "what lies behind is not known");
        let some = segment.read(2, 5, 999, Limits { records: 9, bytes: 1 }, &mut |_| {}).unwrap();
        assert_eq!((some.items.len(), some.to), (1, 6), "at least one");
        let fit = segment.read(2, 5, 999, Limits { records: 9, bytes: 500 }, &mut |_| {}).unwrap();
        assert_eq!((fit.items.len(), fit.to), (2, 7), "no more than fit");
        assert_eq!(segment.read(2, 5, 2000, ALL, &mut |_| {}).unwrap().to, 2001);
    }
}

#[test]
fn a_record_larger_than_a_chunk_is_read_whole() {
    let disk = SimulatedDisk::new();
    write(&disk, &Keys::none(), &[(1, 0, 10), (1, 1, 3 << 20), (1, 2, 10)]);
    let segment = Segment::open(&disk, 1, &Keys::none()).unwrap();
    assert_eq!(read(&segment, 1, 0, 2).0, [0, 1, 2]);
}

#[test]
fn a_flipped_bit_costs_one_record_and_is_told() {
    let keys = [Keys::none(), Keys::none().with("k", [1; 32]).unwrap()];
    for (keys, extra) in keys.into_iter().zip([0, 20]) {
        let disk = SimulatedDisk::new();
        write(&disk, &keys, &dense(2, 500, 200));
        let segment = Segment::open(&disk, 1, &keys).unwrap();
        let size = image(0, 200, &[0; 200]).len() as u64 + extra;
        // Somewhere in the data of a record in the middle.
        let hit = segment.index.extents[0].sparse[3];
        disk.flip(&name(1), (hit.1 + size * 2 + 40) * 8);
        let (found, lost) = read(&segment, 0, 0, 499);
        assert_eq!((found.len(), lost), (499, vec![hit.0 + 2]));
        // The length of one: the next place of the index is where it goes on.
        disk.flip(&name(1), (hit.1 + size) * 8 + 6);
        let (found, lost) = read(&segment, 0, 0, 499);
        assert!(lost.contains(&(hit.0 + 1)) && found.len() + lost.len() == 500, "{lost:?}");
        assert!(lost.len() < 100, "{lost:?}");
        assert_eq!(read(&segment, 1, 0, 499).0.len(), 500);
        // The last record of an extent.
        disk.flip(&name(1), (segment.index.extents[1].to - 20) * 8);
        assert_eq!(read(&segment, 1, 490, 499).1, [499]);
    }
}

#[test]
fn a_damaged_index_is_made_anew_and_a_damaged_header_has_a_copy() {
    let disk = SimulatedDisk::new();
    write(&disk, &Keys::none(), &dense(3, 100, 50));
    let whole = Segment::open(&disk, 1, &Keys::none()).unwrap();
    disk.flip(&name(1), (whole.len + 1) * 8);
    disk.flip(&name(1), 3);
    let rebuilt = Segment::open(&disk, 1, &Keys::none()).unwrap();
    assert!(rebuilt.rebuilt());
    assert_eq!(rebuilt.index, whole.index);
    let end = disk.contents(&name(1)).unwrap().len() as u64;
    disk.flip(&name(1), end * 8 - 9);
    assert_eq!(Segment::open(&disk, 1, &Keys::none()).unwrap().extents().count(), 3);
}

#[test]
fn a_set_opens_what_is_read_and_forgets_what_is_removed() {
    let disk = SimulatedDisk::new();
    write(&disk, &Keys::none(), &dense(1, 10, 50));
    let set = SegmentSet::new(Arc::new(disk.clone()), Keys::none());
    let sizes = Sizes { file: 1234, records: 1000 };
    set.insert(1, sizes);
    let segment = set.get(1).unwrap();
    assert_eq!((set.all(), set.bytes()), (vec![(1, sizes)], 1234));
    set.remove(1).unwrap();
    assert_eq!(read(&segment, 0, 0, 9).0.len(), 10, "who has it open may go on");
    assert!(set.get(1).is_err() && set.all().is_empty());
}

#[test]
fn a_segment_of_format_version_3_is_these_bytes() {
    let disk = SimulatedDisk::new();
    write(&disk, &Keys::none(), &[(1, 10, 20), (1, 11, 5), (1, 13, 17_000), (1, 14, 1), (7, 0, 3)]);
    let stored = disk.contents(&name(1)).unwrap();
    crate::format::tests::golden("segment-3.txt", &stored);
    let segment = Segment::open(&disk, 1, &Keys::none()).unwrap();
    assert_eq!(read(&segment, 1, 0, 20).0, [10, 11, 13, 14]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sparse_logs_of_all_sizes_are_read_back(
        logs in vec(vec((1u64..5, 0usize..9000), 1..60), 1..5),
        encrypted in any::<bool>(), from in 0u64..150, count in 0u64..150,
    ) {
        let keys = if encrypted { Keys::none().with("k", [1; 32]).unwrap() } else { Keys::none() };
        let mut records = Vec::new();
        for (log, steps) in logs.iter().enumerate() {
            let mut position = 0;
            for (step, len) in steps {
                position += step;
                records.push((log as u32, position, *len));
            }
        }
        let disk = SimulatedDisk::new();
        write(&disk, &keys, &records);
        let segment = Segment::open(&disk, 1, &keys).unwrap();
        for log in 0..logs.len() as u32 {
            let expected: Vec<u64> = records.iter()
                .filter(|record| record.0 == log && (from..=from + count).contains(&record.1))
                .map(|record| record.1).collect();
            prop_assert_eq!(read(&segment, log, from, from + count), (expected, vec![]));
        }
    }

    #[test]
    fn any_bytes_are_no_index_or_one_that_can_be_read(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(index) = Index::decode(&bytes) {
            prop_assert!(index.extents.len() <= bytes.len());
        }
        let image = Bytes::from(bytes);
        let _ = crate::format::record::trusted(&image);
    }
}

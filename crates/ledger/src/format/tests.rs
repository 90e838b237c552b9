//! Everything that is written is read again, and nothing that is read can make the reader panic.

use proptest::{collection::vec, option, prelude::*};

use super::{
    Entry, FrameWriter, Image, Kind, NewImage,
    frame::{self, Found},
    payload_crc, varint,
};

fn image<'a>(log: u32, position: u64, key: &'a [u8], data: &'a [u8]) -> NewImage<'a> {
    NewImage {
        log,
        position,
        time_ms: 1_764_000_000_000,
        due_ms: 0,
        expires_ms: 0,
        priority: 0,
        dedupe: None,
        global: None,
        key,
        data,
        payload_crc: payload_crc(key, data),
    }
}

/// The buffer holds one frame; gives it sealed.
fn sealed(fill: impl FnOnce(&mut FrameWriter<'_>)) -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut writer = FrameWriter::begin(&mut buffer, 7, false);
    fill(&mut writer);
    let size = writer.finish();
    assert_eq!(buffer.len(), size);
    frame::seal(&mut buffer, 3, 4096);
    buffer
}

fn body(bytes: &[u8]) -> &[u8] {
    match frame::read(bytes, 3) {
        Found::Frame(frame) => {
            assert_eq!((frame.seq, frame.synced, frame.size), (7, 4096, bytes.len()));
            frame.body
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn varints_have_the_length_that_is_foretold() {
    for shift in 0..64 {
        for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
            let mut buffer = Vec::new();
            varint::put(&mut buffer, value);
            assert_eq!(buffer.len(), varint::len(value), "{value}");
            let mut reader = varint::Reader::new(&buffer);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.left(), 0);
        }
    }
}

#[test]
fn a_small_message_costs_at_most_sixty_bytes_more() {
    let data = [1; 100];
    let frame = sealed(|writer| {
        writer.append(&image(1000, 1_000_000, b"", &data));
    });
    assert!(frame.len() <= 160, "{}", frame.len());
}

#[test]
fn every_entry_is_read_as_it_was_written() {
    let many: Vec<(u64, u64)> = (0..200).map(|n| (n * 3, n * 3)).collect();
    let frame = sealed(|writer| {
        writer.trim(1, 2);
        writer.remove(2, &[(5, 5)]);
        writer.settled(3, &[(0, 0), (1, 2), (7, 7), (9, 10)]);
        writer.settled(3, &many);
        writer.retry(4, 5, 6, 7, 8, b"why");
        writer.seek(5, u64::MAX);
        writer.put_value(6, b"key", b"value", 9);
        writer.delete(6, b"key");
        writer.define(Kind::Group, 7, b"name", b"options");
        writer.drop_kind(Kind::Log, 8);
        writer.alter(Kind::Map, 9, b"others");
        writer.epoch(10);
        writer.marker();
    });
    let read: Vec<Entry<'_>> = frame::entries(body(&frame)).map(|entry| entry.unwrap().0).collect();
    assert_eq!(read.len(), 13);
    assert_eq!(read[0], Entry::Trim { log: 1, before: 2 });
    let Entry::Remove { log: 2, positions } = read[1] else { panic!("{:?}", read[1]) };
    assert_eq!(positions.runs().collect::<Vec<_>>(), [(5, 5)]);
    let Entry::Settled { group: 3, positions } = read[2] else { panic!("{:?}", read[2]) };
    assert_eq!(positions.runs().collect::<Vec<_>>(), [(0, 2), (7, 7), (9, 10)]);
    let Entry::Settled { group: 3, positions } = read[3] else { panic!("{:?}", read[3]) };
    assert_eq!(positions.runs().collect::<Vec<_>>(), many);
    assert_eq!(
        read[4],
        Entry::Retry { group: 4, position: 5, due_ms: 6, failures: 7, handouts: 8, note: b"why" }
    );
    assert_eq!(read[5], Entry::Seek { group: 5, to: u64::MAX });
    assert_eq!(read[6], Entry::Put { map: 6, key: b"key", value: b"value", expires_ms: 9 });
    assert_eq!(read[7], Entry::Delete { map: 6, key: b"key" });
    assert_eq!(
        read[8],
        Entry::Define { kind: Kind::Group, id: 7, name: b"name", options: b"options" }
    );
    assert_eq!(read[9], Entry::Drop { kind: Kind::Log, id: 8 });
    assert_eq!(read[10], Entry::Alter { kind: Kind::Map, id: 9, options: b"others" });
    assert_eq!(read[11], Entry::Epoch(10));
    assert_eq!(read[12], Entry::Marker);
}

#[test]
fn a_frame_of_another_file_or_with_a_changed_bit_does_not_fit() {
    let frame = sealed(|writer| writer.trim(1, 2));
    assert_eq!(frame::read(&frame, 4), Found::Bad);
    assert_eq!(frame::read(&[0; 64], 3), Found::Blank);
    assert_eq!(frame::read(&[], 3), Found::Blank);
    for bit in 0..8 * (frame::HEADER + 3) {
        let mut broken = frame.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(frame::read(&broken, 3), Found::Bad, "bit {bit}");
    }
}

#[test]
fn a_transaction_that_changes_nothing_is_a_frame_all_the_same() {
    let frame = sealed(|_| {});
    assert_eq!(body(&frame), b"");
}

#[test]
fn a_tag_has_its_room() {
    let mut buffer = Vec::new();
    let mut writer = FrameWriter::begin(&mut buffer, 1, true);
    writer.marker();
    assert_eq!(writer.finish(), frame::padded(1 + frame::TAG));
    assert_eq!(frame::walk(&buffer).collect::<Vec<_>>(), [(0, 1 + frame::TAG)]);
}

/// Bytes as text: rows of 16 that are not all zero, each behind its offset.
pub(crate) fn dump(bytes: &[u8]) -> String {
    let mut text = format!("length {}\n", bytes.len());
    for (row, chunk) in bytes.chunks(16).enumerate() {
        if chunk.iter().any(|&byte| byte != 0) {
            text.push_str(&format!("{:06x}:", row * 16));
            chunk.iter().for_each(|byte| text.push_str(&format!(" {byte:02x}")));
            text.push('\n');
        }
    }
    text
}

/// The bytes of a [`dump`].
pub(crate) fn undump(text: &str) -> Vec<u8> {
    let mut lines = text.lines();
    let len = lines.next().unwrap().strip_prefix("length ").unwrap().parse().unwrap();
    let mut bytes = vec![0; len];
    for line in lines {
        let (offset, row) = line.split_once(": ").unwrap();
        let offset = usize::from_str_radix(offset, 16).unwrap();
        for (index, byte) in row.split(' ').enumerate() {
            bytes[offset + index] = u8::from_str_radix(byte, 16).unwrap();
        }
    }
    bytes
}

/// Holds bytes to a golden file; `LEDGER_GOLDEN=write` writes it.
pub(crate) fn golden(name: &str, bytes: &[u8]) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var("LEDGER_GOLDEN").is_ok_and(|word| word == "write") {
        std::fs::write(&path, dump(bytes)).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap();
    assert_eq!(dump(bytes), stored, "{name}: the format has changed; a change needs a new version");
    assert_eq!(undump(&stored), bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn records_round_trip_and_a_changed_bit_is_seen(
        (log, position, time_ms, due_ms, expires_ms, priority) in
            (any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u8>()),
        dedupe in option::of(any::<u128>()),
        global in option::of(any::<u64>()),
        key in vec(any::<u8>(), 0..40),
        data in vec(any::<u8>(), 0..300),
        flip in any::<u32>(),
    ) {
        let new = NewImage {
            log, position, time_ms, due_ms, expires_ms, priority, dedupe, global,
            key: &key, data: &data, payload_crc: payload_crc(&key, &data),
        };
        let mut bytes = Vec::new();
        new.put(&mut bytes);
        prop_assert_eq!(Image::len_of(&bytes), Ok(bytes.len() as u64));
        let read = Image::checked(&bytes).unwrap();
        prop_assert_eq!(read.len, bytes.len());
        prop_assert_eq!(
            (read.log, read.position, read.time_ms, read.due_ms, read.expires_ms, read.priority),
            (log, position, time_ms, due_ms, expires_ms, priority)
        );
        prop_assert_eq!((read.dedupe, read.global, read.key, read.data),
            (dedupe, global, &key[..], &data[..]));
        let bit = flip as usize % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Image::checked(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Image::checked(&bytes);
        let _ = frame::read(&bytes, 0);
        let mut seen = 0;
        for entry in frame::entries(&bytes) {
            if let Ok((Entry::Remove { positions, .. } | Entry::Settled { positions, .. }, _)) = entry {
                prop_assert!(positions.runs().is_sorted());
            }
            seen += 1;
        }
        prop_assert!(seen <= bytes.len());
    }
}

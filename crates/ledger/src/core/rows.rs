//! The bytes of options, as definitions in the write-ahead log and rows of checkpoints carry them.
//!
//! Each but that of a map begins with a form number, so that a later version can tell; fields are varints, an absent
//! number is 0 and a present one is written plus one.

use std::time::Duration;

use crate::{
    format::{
        Malformed,
        varint::{self, Reader},
    },
    options::{
        DedupeWindow, GroupOptions, GroupStart, Limit, LogOptions, LogRetention, MapOptions,
        Storage,
    },
    record::LogId,
};

const FORM: u8 = 1;

fn span(buffer: &mut Vec<u8>, span: Option<Duration>) {
    let nanos = span.map(|span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX - 1));
    maybe(buffer, nanos);
}

fn maybe(buffer: &mut Vec<u8>, number: Option<u64>) {
    varint::put(buffer, number.map_or(0, |number| number.saturating_add(1)));
}

fn read_maybe(reader: &mut Reader<'_>) -> Result<Option<u64>, Malformed> {
    Ok(reader.varint()?.checked_sub(1))
}

fn read_span(reader: &mut Reader<'_>) -> Result<Option<Duration>, Malformed> {
    Ok(read_maybe(reader)?.map(Duration::from_nanos))
}

fn form(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    if reader.byte()? == FORM { Ok(()) } else { Err(Malformed("an unknown form of options")) }
}

/// Writes the options of a log.
pub(super) fn put_log(buffer: &mut Vec<u8>, options: &LogOptions) {
    let LogOptions { storage, retention, compact, ordered, dedupe, limit } = options;
    buffer.push(FORM);
    let flags = [
        *storage == Storage::Memory,
        retention.keep_unread,
        *compact,
        *ordered,
        dedupe.is_some(),
        limit.is_some(),
    ];
    buffer.push(bits(&flags));
    span(buffer, retention.age);
    maybe(buffer, retention.bytes);
    maybe(buffer, retention.bytes_max);
    if let Some(window) = dedupe {
        span(buffer, Some(window.time));
        varint::put(buffer, u64::from(window.ids_max));
    }
    if let Some(limit) = limit {
        maybe(buffer, limit.records);
        maybe(buffer, limit.bytes);
    }
}

/// Reads the options of a log.
pub(super) fn read_log(reader: &mut Reader<'_>) -> Result<LogOptions, Malformed> {
    form(reader)?;
    let flags = reader.byte()?;
    let has = |bit: u8| flags & (1 << bit) != 0;
    Ok(LogOptions {
        storage: if has(0) { Storage::Memory } else { Storage::Disk },
        retention: LogRetention {
            age: read_span(reader)?,
            bytes: read_maybe(reader)?,
            keep_unread: has(1),
            bytes_max: read_maybe(reader)?,
        },
        compact: has(2),
        ordered: has(3),
        dedupe: if has(4) {
            let time = read_span(reader)?.unwrap_or_default();
            Some(DedupeWindow { time, ids_max: reader.varint32()? })
        } else {
            None
        },
        limit: if has(5) {
            Some(Limit { records: read_maybe(reader)?, bytes: read_maybe(reader)? })
        } else {
            None
        },
    })
}

/// Writes the options of a group. Where it started is of no use later: it is kept as the first record.
pub(super) fn put_group(buffer: &mut Vec<u8>, options: &GroupOptions) {
    let GroupOptions { log, owner, start: _, lease, keyed, prioritized, single } = options;
    buffer.push(FORM);
    buffer.push(bits(&[*owner, *keyed, *prioritized, *single]));
    varint::put(buffer, u64::from(log.0));
    span(buffer, Some(*lease));
}

/// Reads the options of a group.
pub(super) fn read_group(reader: &mut Reader<'_>) -> Result<GroupOptions, Malformed> {
    form(reader)?;
    let flags = reader.byte()?;
    let has = |bit: u8| flags & (1 << bit) != 0;
    Ok(GroupOptions {
        log: LogId(reader.varint32()?),
        owner: has(0),
        start: GroupStart::First,
        lease: read_span(reader)?.unwrap_or_default(),
        keyed: has(1),
        prioritized: has(2),
        single: has(3),
    })
}

/// The first byte of a map's options, which is in no text: who does not know options of maps takes them
/// for damage, and not for a name.
const OPTIONS: u8 = 0xff;

/// The options of a map; nothing for one that has none, as before there were any.
pub(super) fn put_map(options: MapOptions) -> Vec<u8> {
    match bits(&[options.timers]) {
        0 => Vec::new(),
        flags => vec![OPTIONS, flags],
    }
}

/// The options of a map.
pub(super) fn read_map(bytes: &[u8]) -> Result<MapOptions, Malformed> {
    match *bytes {
        [] => Ok(MapOptions::default()),
        [OPTIONS, flags @ 0..=1] => Ok(MapOptions { timers: flags & 1 != 0 }),
        _ => Err(Malformed("the options of a map")),
    }
}

fn bits(flags: &[bool]) -> u8 {
    flags.iter().enumerate().fold(0, |bits, (at, &flag)| bits | (u8::from(flag) << at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_they_were_written() {
        let full = LogOptions {
            storage: Storage::Memory,
            retention: LogRetention {
                age: Some(Duration::from_secs(7)),
                bytes: Some(0),
                keep_unread: true,
                bytes_max: Some(9),
            },
            compact: true,
            ordered: true,
            dedupe: Some(DedupeWindow { time: Duration::from_secs(600), ids_max: 5 }),
            limit: Some(Limit { records: Some(3), bytes: None }),
        };
        for options in [LogOptions::default(), full] {
            let mut bytes = Vec::new();
            put_log(&mut bytes, &options);
            assert_eq!(read_log(&mut Reader::new(&bytes)), Ok(options));
            for end in 0..bytes.len() {
                assert!(read_log(&mut Reader::new(&bytes[..end])).is_err());
            }
        }
        let mut options = GroupOptions::owning(LogId(7));
        options.single = true;
        let mut bytes = Vec::new();
        put_group(&mut bytes, &options);
        assert_eq!(read_group(&mut Reader::new(&bytes)), Ok(options));
    }
}

//! Entries of maps in the tables, and the index of their times, which goes with them.
//!
//! A row of `entries` is under the map's id and the entry's key. If it has a time, `times` has a row under
//! the id, the time and the key, without a value. Both are written in one commit, and the one from what
//! the other had: nobody has to know what an entry was before.

use std::ops::Bound;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, WriteTransaction};
use weft_kernel::{Error, Reason, Result};

use super::{Capture, Checkpoint, SEQ, Table, Tables, rows};
use crate::{
    core::{KeyRange, Time},
    format::{
        Malformed,
        varint::{self, Reader},
    },
    record::{Limits, MapId, Value},
};

/// Key and value of a row, as they are.
type Raw<'a> = (&'a [u8], &'a [u8]);

fn entry_key(buffer: &mut Vec<u8>, map: u32, key: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(&map.to_be_bytes());
    buffer.extend_from_slice(key);
}

fn time_key(buffer: &mut Vec<u8>, map: u32, time: u64, key: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(&map.to_be_bytes());
    buffer.extend_from_slice(&time.to_be_bytes());
    buffer.extend_from_slice(key);
}

/// The key of the row of an entry.
pub(crate) fn key_of(map: u32, key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(4 + key.len());
    entry_key(&mut row, map, key);
    row
}

/// The version and the expiry of an entry.
pub(crate) fn head(row: &[u8]) -> Result<(u64, u64), Malformed> {
    let mut reader = Reader::new(row);
    Ok((reader.varint()?, reader.varint()?))
}

fn value(row: &[u8]) -> Result<Value, Malformed> {
    let mut reader = Reader::new(row);
    let (version, expires_ms) = (reader.varint()?, reader.varint()?);
    let data = Bytes::copy_from_slice(reader.bytes(reader.left())?);
    Ok(Value { data, version, expires_ms })
}

/// The map, the time and the key of a row of `times`.
pub(crate) fn time_of(row: &[u8]) -> Result<(u32, u64, &[u8]), Malformed> {
    let short = Malformed("the key of a row");
    let (map, rest) = row.split_first_chunk::<4>().ok_or(short)?;
    let (time, key) = rest.split_first_chunk::<8>().ok_or(short)?;
    Ok((u32::from_be_bytes(*map), u64::from_be_bytes(*time), key))
}

fn damaged(table: Table, error: Malformed) -> Error {
    Error::new(Reason::StorageCorrupt, format!("a row of the table `{}` is damaged", table.word()))
        .because(error)
}

/// So many entries of maps that were dropped are removed with one commit: more would keep what else is to
/// be stored waiting.
const REMOVED_MAX: usize = 4_000;

/// What the key of the row ends with that says of a map that it was dropped, and has entries still.
pub(crate) const DROPPED: &[u8] = b"d";

/// Removes what a map has in a table, at most `most`; how many there were.
fn remove(
    table: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
    map: u32,
    most: usize,
) -> Result<usize, redb::Error> {
    let (first, next) = (map.to_be_bytes(), map.checked_add(1).map(u32::to_be_bytes));
    let end = next.as_ref().map_or(Bound::Unbounded, |next| Bound::Excluded(&next[..]));
    let mut removed = 0;
    let range = (Bound::Included(&first[..]), end);
    for row in table.extract_from_if::<&[u8], _>(range, |_, _| true)?.take(most) {
        row?;
        removed += 1;
    }
    Ok(removed)
}

/// Writes what has changed in maps; gives those that were dropped and have entries still.
pub(super) fn write(
    transaction: &WriteTransaction,
    capture: &Capture,
) -> Result<Vec<u32>, redb::Error> {
    let mut left = Vec::new();
    if capture.maps.is_empty() && capture.dropped.is_empty() {
        return Ok(left);
    }
    let mut entries = transaction.open_table(Table::Entries.definition())?;
    let mut times = transaction.open_table(Table::Times.definition())?;
    let mut room = REMOVED_MAX;
    for &map in &capture.dropped {
        let mut maps = transaction.open_table(Table::Maps.definition())?;
        room -= remove(&mut times, map, room)?;
        room -= remove(&mut entries, map, room)?;
        let row = key_of(map, DROPPED);
        // That it is done is known once there is room for one more.
        if room == 0 {
            maps.insert(&row[..], &[][..])?;
            left.push(map);
        } else {
            maps.remove(&row[..])?;
        }
    }
    let (mut row, mut at, mut stored) = (Vec::new(), Vec::new(), Vec::new());
    for (map, changes) in &capture.maps {
        for (key, change) in &**changes {
            entry_key(&mut row, *map, key);
            let new = change.value.as_ref().map_or(0, |value| value.expires_ms);
            let had = match &change.value {
                Some(value) => {
                    stored.clear();
                    varint::put(&mut stored, value.version);
                    varint::put(&mut stored, value.expires_ms);
                    stored.extend_from_slice(&value.data);
                    entries.insert(&row[..], &stored[..])?
                }
                None => entries.remove(&row[..])?,
            };
            let old = had.and_then(|had| head(had.value()).ok()).map_or(0, |(_, expires)| expires);
            if old == new {
                continue;
            }
            if old != 0 {
                time_key(&mut at, *map, old, key);
                times.remove(&at[..])?;
            }
            if new != 0 {
                time_key(&mut at, *map, new, key);
                times.insert(&at[..], &[][..])?;
            }
        }
    }
    Ok(left)
}

/// Times of a map behind one, in order, at most `limit`.
///
/// # Errors
/// `storage_corrupt` for a row that is none, and what the disk says.
pub(crate) fn times(
    tables: &dyn Tables,
    map: u32,
    after: Option<&Time>,
    limit: usize,
) -> Result<Vec<Time>> {
    let mut from = map.to_be_bytes().to_vec();
    let begin = match after {
        Some((time, key)) => {
            time_key(&mut from, map, *time, key);
            Bound::Excluded(&from[..])
        }
        None => Bound::Included(&from[..]),
    };
    let most = Limits { records: u32::try_from(limit).unwrap_or(u32::MAX), bytes: u64::MAX };
    let mut found = Vec::new();
    for (row, _) in tables.page(Table::Times, begin, most)? {
        let (of, time, key) = time_of(&row).map_err(|error| damaged(Table::Times, error))?;
        if of != map {
            break;
        }
        found.push((time, Bytes::copy_from_slice(key)));
    }
    Ok(found)
}

/// A scan that is to be done.
#[derive(Debug)]
pub(crate) struct Scan {
    /// The map.
    pub(crate) map: MapId,
    /// Which keys.
    pub(crate) range: KeyRange,
    /// What memory knows of them: it counts instead of what is stored.
    pub(crate) overlay: Vec<(Bytes, Option<Value>)>,
    /// At most so many entries.
    pub(crate) limit: usize,
    /// Entries that expire up to this time are not there.
    pub(crate) over_ms: u64,
}

impl Scan {
    /// Brings the rows together with what memory knows.
    fn merge(
        mut self,
        mut next: impl FnMut(&mut dyn FnMut(Raw<'_>) -> bool) -> Result<bool, redb::Error>,
    ) -> Result<Result<Vec<(Bytes, Value)>>, redb::Error> {
        let mut overlay = std::mem::take(&mut self.overlay).into_iter().peekable();
        let mut found = Vec::new();
        let mut broken = None;
        while found.len() < self.limit && broken.is_none() {
            let more = next(&mut |(row, stored)| {
                let Some(key) = row.strip_prefix(&self.map.0.to_be_bytes()) else { return false };
                if !key.starts_with(&self.range.prefix) {
                    return false;
                }
                while let Some((key, value)) = overlay.next_if(|(other, _)| **other < *key) {
                    found.extend(value.map(|value| (key, value)));
                }
                if let Some((key, value)) = overlay.next_if(|(other, _)| **other == *key) {
                    found.extend(value.map(|value| (key, value)));
                    return true;
                }
                match value(stored) {
                    Ok(value) if value.expires_ms != 0 && value.expires_ms <= self.over_ms => {}
                    Ok(value) => found.push((Bytes::copy_from_slice(key), value)),
                    Err(error) => broken = Some(damaged(Table::Entries, error)),
                }
                true
            })?;
            if !more {
                break;
            }
        }
        found.extend(overlay.filter_map(|(key, value)| Some((key, value?))));
        found.truncate(self.limit);
        Ok(broken.map_or(Ok(found), Err))
    }
}

impl Checkpoint {
    /// Entries, in the order in which they are asked for; all as of one commit.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn entries(&self, keys: &[(MapId, Bytes)]) -> Result<Vec<Option<Value>>> {
        let read = |database: &Database| -> Result<Vec<_>, redb::Error> {
            let transaction = database.begin_read()?;
            let Some(table) = rows::open(&transaction, Table::Entries)? else {
                return Ok(vec![Ok(None); keys.len()]);
            };
            let mut row = Vec::new();
            let mut found = Vec::with_capacity(keys.len());
            for (map, key) in keys {
                entry_key(&mut row, map.0, key);
                let stored = table.get(&row[..])?;
                found.push(stored.map(|stored| value(stored.value())).transpose());
            }
            Ok(found)
        };
        let found = self.reading(read)?;
        found
            .into_iter()
            .map(|found| found.map_err(|error| damaged(Table::Entries, error)))
            .collect()
    }

    /// Entries of a map in order, and the last transaction that is in what is stored of them.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn scan(&self, scan: Scan) -> Result<(u64, Vec<(Bytes, Value)>)> {
        let read = |database: &Database| {
            let transaction = database.begin_read()?;
            let seq = match rows::open(&transaction, Table::Meta)? {
                Some(meta) => meta.get(SEQ)?.and_then(|seq| seq.value().try_into().ok()),
                None => None,
            };
            let seq = seq.map_or(0, u64::from_le_bytes);
            let Some(table) = rows::open(&transaction, Table::Entries)? else {
                return Ok((seq, scan.merge(|_| Ok(false))?));
            };
            let mut from = Vec::new();
            let begin = match scan.range.begin() {
                Bound::Excluded(key) => {
                    entry_key(&mut from, scan.map.0, key);
                    Bound::Excluded(&from[..])
                }
                Bound::Included(key) => {
                    entry_key(&mut from, scan.map.0, key);
                    Bound::Included(&from[..])
                }
                Bound::Unbounded => Bound::Unbounded,
            };
            let mut rows = table.range::<&[u8]>((begin, Bound::Unbounded))?;
            let found = scan.merge(|visit| match rows.next() {
                Some(row) => {
                    let (key, value) = row?;
                    Ok(visit((key.value(), value.value())))
                }
                None => Ok(false),
            })?;
            Ok((seq, found))
        };
        let (seq, found) = self.reading(read)?;
        Ok((seq, found?))
    }
}

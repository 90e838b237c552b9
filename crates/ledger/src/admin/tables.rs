//! The rows of a checkpoint, one by one: each has to decode, and to refer to what is there.

use std::{collections::BTreeSet, ops::Bound};

use weft_kernel::Result;

use crate::{
    checkpoint::{Table, Tables, maps},
    format::{Malformed, varint::Reader},
    record::Limits,
    segment::Sizes,
};

/// Segments by number, with their sizes where these are known.
pub(super) type Known = Vec<(u32, Option<Sizes>)>;

fn id(key: &[u8]) -> Option<u32> {
    key.first_chunk().map(|id| u32::from_be_bytes(*id))
}

/// The segments that the tables name, with their sizes; rows that are none are damage.
pub(super) fn segments(tables: &dyn Tables, damage: &mut Vec<String>) -> Known {
    let mut known = Vec::new();
    let each = tables.each(Table::Segments, &mut |key, value| {
        match segment(key, value) {
            Ok((number, sizes)) => known.push((number, Some(sizes))),
            Err(error) => damage.push(told(Table::Segments, key, error.0)),
        }
        Ok(())
    });
    unread(Table::Segments, each, damage);
    known
}

fn segment(key: &[u8], value: &[u8]) -> Result<(u32, Sizes), Malformed> {
    let key: [u8; 4] = key.try_into().map_err(|_error| Malformed("the key of a row"))?;
    let mut reader = Reader::new(value);
    let sizes = Sizes { file: reader.varint()?, records: reader.varint()? };
    Ok((u32::from_be_bytes(key), sizes))
}

fn told(table: Table, key: &[u8], what: &str) -> String {
    let key: String = key.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("checkpoint/tables: row {key} of `{}` is damaged: {what}", table.word())
}

fn unread(table: Table, read: Result<()>, damage: &mut Vec<String>) {
    if let Err(error) = read {
        damage.push(format!("the table `{}` cannot be read: {}", table.word(), error.detail()));
    }
}

/// Holds rows that recovery is lenient with, or does not keep, to what they refer to.
pub(super) fn check(tables: &dyn Tables, damage: &mut Vec<String>) {
    let mut ids = |table| {
        let mut ids = BTreeSet::new();
        let each = tables.each(table, &mut |key, _| {
            let options = table == Table::Maps && key.len() == 5;
            match id(key).filter(|_| key.len() == 4 || options) {
                Some(id) => drop(ids.insert(id)),
                None => damage.push(told(table, key, "its key is no id")),
            }
            Ok(())
        });
        unread(table, each, damage);
        ids
    };
    let (logs, groups, maps) = (ids(Table::Logs), ids(Table::Groups), ids(Table::Maps));
    let children: [(Table, &BTreeSet<u32>, usize, Decode); 3] = [
        (Table::Exceptions, &groups, 12, exception),
        (Table::Dedupe, &logs, 16, chunk),
        (Table::Entries, &maps, 4, entry),
    ];
    for (table, parents, key_len, decode) in children {
        let each = tables.each(table, &mut |key, value| {
            let parent = id(key).filter(|id| parents.contains(id));
            let exact = table != Table::Entries;
            let what = if key.len() < key_len || (exact && key.len() != key_len) {
                Some("its key has another length")
            } else if parent.is_none() {
                Some("what it belongs to is not there")
            } else {
                decode(value).err().map(|error| error.0)
            };
            damage.extend(what.map(|what| told(table, key, what)));
            Ok(())
        });
        unread(table, each, damage);
    }
    unread(Table::Times, times(tables, damage), damage);
}

/// So many rows are read at once.
const PAGE: Limits = Limits { records: 4096, bytes: 4 << 20 };

/// Holds the times of entries to the entries: each has the one that it says, and there is no other.
fn times(tables: &dyn Tables, damage: &mut Vec<String>) -> Result<()> {
    let mut timed = 0u64;
    tables.each(Table::Entries, &mut |_, value| {
        timed += u64::from(maps::head(value).is_ok_and(|(_, expires_ms)| expires_ms != 0));
        Ok(())
    })?;
    let mut found = 0;
    let mut last: Option<Vec<u8>> = None;
    loop {
        let from = last.as_ref().map_or(Bound::Unbounded, |last| Bound::Excluded(&last[..]));
        let page = tables.page(Table::Times, from, PAGE)?;
        for (row, _) in &page {
            let expires_ms = match maps::time_of(row) {
                Ok((map, time, key)) => {
                    let entry = tables.get(Table::Entries, &maps::key_of(map, key))?;
                    let head = entry.and_then(|entry| maps::head(&entry).ok());
                    head.filter(|(_, expires_ms)| *expires_ms == time)
                }
                Err(_) => None,
            };
            if expires_ms.is_some() {
                found += 1;
            } else {
                damage.push(told(Table::Times, row, "no entry has this time"));
            }
        }
        let Some((row, _)) = page.last() else { break };
        last = Some(row.clone());
    }
    if found < timed {
        let say = format!("{} entries of maps are not in the table `times`", timed - found);
        damage.push(format!("checkpoint/tables: {say}"));
    }
    Ok(())
}

type Decode = fn(&[u8]) -> Result<(), Malformed>;

fn exception(value: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(value);
    reader.varint()?;
    reader.varint32()?;
    reader.varint32().map(|_| ())
}

fn chunk(value: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(value);
    reader.varint()?;
    while reader.left() > 0 {
        reader.array::<16>()?;
        reader.u64()?;
        reader.varint()?;
    }
    Ok(())
}

fn entry(value: &[u8]) -> Result<(), Malformed> {
    maps::head(value).map(|_| ())
}

//! Looking at the files of a ledger that nobody has open, without changing them.

use std::sync::Arc;

use weft_kernel::Result;

use super::{FileView, Inspection, Verification};
use crate::{
    checkpoint::{Checkpoint, Table, Tables},
    crypt::{self, Keys},
    disk::{Disk, failed, read_up_to},
    format::{Entry, VERSION, frame, header},
    segment::{self, Segment, Visited},
    wal::{self, WalFile},
};

pub(super) fn length(disk: &dyn Disk, path: &str) -> Result<u64> {
    let cannot = |error| failed("cannot open a file", path, error);
    disk.open(path, false).and_then(|file| file.len()).map_err(cannot)
}

fn list(disk: &dyn Disk, folder: &str) -> Result<Vec<String>> {
    disk.list(folder).map_err(|error| failed("cannot list", folder, error))
}

fn numbers(disk: &dyn Disk, folder: &str, number: fn(&str) -> Option<u32>) -> Result<Vec<u32>> {
    Ok(list(disk, folder)?.iter().filter_map(|name| number(name)).collect())
}

/// The write-ahead files that a recovery would read.
fn needed(disk: &dyn Disk, first: u32) -> Result<Vec<u32>> {
    let mut found = numbers(disk, wal::FOLDER, wal::number)?;
    found.retain(|number| *number >= first);
    Ok(found)
}

pub(super) fn inspect(disk: Arc<dyn Disk>, keys: &Keys) -> Result<Inspection> {
    let checkpoint = Checkpoint::open(disk.clone(), keys.clone())?;
    let checkpoint_seq = checkpoint.seq()?;
    let first_file = checkpoint.first_file()?;
    let mut found = Inspection {
        version: VERSION,
        checkpoint_seq,
        last_seq: checkpoint_seq,
        first_file,
        ..Inspection::default()
    };
    for &table in Table::ALL {
        let mut rows = 0;
        checkpoint.each(table, &mut |_, _| {
            rows += 1;
            Ok(())
        })?;
        found.rows.push((table.word().to_owned(), rows));
    }
    for folder in ["checkpoint", "quarantine", segment::FOLDER, wal::FOLDER] {
        for name in list(&*disk, folder)? {
            let path = format!("{folder}/{name}");
            let bytes = length(&*disk, &path)?;
            let (mut kind, mut entries) = ("other", 0);
            match folder {
                "checkpoint" => kind = "checkpoint",
                "quarantine" => kind = "quarantine",
                _ if segment::number(&name).is_some() => {
                    kind = "segment";
                    let number = segment::number(&name).unwrap_or_default();
                    let segment = Segment::open(&*disk, number, keys)?;
                    entries = segment.extents().map(|extent| extent.records).sum();
                }
                _ if name.starts_with("spare-") => kind = "spare",
                _ => {
                    if let Some(number) = wal::number(&name) {
                        kind = "wal";
                        let (file, _) = WalFile::open(&*disk, number, keys)?;
                        let scan = wal::scan(&file.read_all()?, number, 0, None);
                        entries = scan.frames.len() as u64;
                        let last = scan.frames.last().map_or(0, |whole| whole.seq);
                        found.last_seq = found.last_seq.max(last);
                    }
                }
            }
            let key = key(&*disk, &path, kind)?;
            found.files.push(FileView { path, bytes, kind, key, entries });
        }
    }
    Ok(found)
}

/// The id of the master key that a file's header names.
fn key(disk: &dyn Disk, path: &str, kind: &str) -> Result<Option<String>> {
    if !matches!(kind, "wal" | "segment") && path != "checkpoint/header" {
        return Ok(None);
    }
    let cannot = |error| failed("cannot read a file", path, error);
    let file = disk.open(path, false).map_err(cannot)?;
    let block = read_up_to(&*file, 0, header::SECTOR).map_err(cannot)?;
    Ok(block.get(16..).and_then(crypt::key_id))
}

pub(super) fn verify(
    disk: Arc<dyn Disk>,
    keys: &Keys,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verification> {
    let mut found = Verification::default();
    let checkpoint = Checkpoint::open(disk.clone(), keys.clone())?;
    let first = checkpoint.first_file()?;
    let mut known = Vec::new();
    for &table in Table::ALL {
        checkpoint.each(table, &mut |key, _| {
            if let (Table::Segments, Ok(number)) = (table, <[u8; 4]>::try_from(key)) {
                known.push(u32::from_be_bytes(number));
            }
            Ok(())
        })?;
    }
    let files = needed(&*disk, first)?;
    let there = numbers(&*disk, segment::FOLDER, segment::number)?;
    let mut of = 0;
    for number in &files {
        of += length(&*disk, &wal::name(*number))?;
    }
    for number in known.iter().filter(|number| there.contains(number)) {
        of += length(&*disk, &segment::name(*number))?;
    }
    for number in known {
        let path = segment::name(number);
        if there.contains(&number) {
            verify_segment(&*disk, number, keys, &mut found);
            found.bytes += length(&*disk, &path)?;
        } else {
            found.damage.push(format!("{path} is missing"));
        }
        progress(found.bytes, of);
    }
    verify_wal(&*disk, &files, keys, &mut found, &mut |bytes| progress(bytes, of))?;
    Ok(found)
}

fn verify_segment(disk: &dyn Disk, number: u32, keys: &Keys, found: &mut Verification) {
    let path = segment::name(number);
    let segment = match Segment::open(disk, number, keys) {
        Ok(segment) => segment,
        Err(error) => {
            found.damage.push(format!("{path} cannot be read: {}", error.detail()));
            return;
        }
    };
    if segment.rebuilt() {
        found.damage.push(format!("the index of {path} is damaged"));
    }
    let extents: Vec<_> = segment.extents().copied().collect();
    for extent in extents {
        let mut whole = 0;
        let (from, to) = (extent.first, extent.last);
        let read = segment.visit(extent.log, from, to, u64::MAX, &mut |visited| {
            whole += u64::from(matches!(visited, Visited::Record(_)));
            true
        });
        if let Err(error) = read {
            found.damage.push(format!("{path} cannot be read: {}", error.detail()));
        }
        found.records += whole;
        if whole < extent.records {
            let lost = extent.records - whole;
            found.damage.push(format!("{path}: {lost} records of log {} are lost", extent.log));
        }
    }
}

fn verify_wal(
    disk: &dyn Disk,
    numbers: &[u32],
    keys: &Keys,
    found: &mut Verification,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut files = Vec::new();
    for &number in numbers {
        let (file, whole) = WalFile::open(disk, number, keys)?;
        match wal::first_seq(&file.read_all()?, number) {
            Some(first) => files.push((file, whole, first)),
            None => found.bytes += length(disk, &wal::name(number))?,
        }
    }
    let firsts: Vec<u64> = files.iter().map(|(_, _, first)| *first).collect();
    let mut before = 0;
    for (index, (file, whole, _)) in files.into_iter().enumerate() {
        let path = wal::name(file.number);
        if !whole {
            found.damage.push(format!("the header of {path} is damaged"));
        }
        let mut bytes = file.read_all()?;
        found.bytes += bytes.len() as u64;
        let scan = wal::scan(&bytes, file.number, before, firsts.get(index + 1).copied());
        for damage in scan.damage {
            found.damage.push(format!(
                "{path}: bytes {}..{} do not fit their checksums; {} transactions are lost",
                damage.bytes.start,
                damage.bytes.end,
                damage.lost.end - damage.lost.start,
            ));
        }
        found.torn_bytes += u64::from(scan.torn);
        for whole in scan.frames {
            before = whole.seq;
            let offset = whole.offset;
            match file.open_body(offset, &mut bytes[whole.body]) {
                Some(body) if entries_whole(body) => found.transactions += 1,
                _ => found.damage.push(format!("{path}: the transaction at {offset} is damaged")),
            }
        }
        progress(found.bytes);
    }
    Ok(())
}

fn entries_whole(body: &[u8]) -> bool {
    frame::entries(body).all(|entry| match entry {
        Ok((Entry::Append(image), _)) => image.whole(),
        entry => entry.is_ok(),
    })
}

pub(super) fn rewrap(disk: &dyn Disk, keys: &Keys) -> Result<u64> {
    let mut changed = u64::from(Checkpoint::rewrap(disk, keys)?);
    for number in numbers(disk, wal::FOLDER, wal::number)? {
        let (file, whole) = WalFile::open(disk, number, keys)?;
        changed += u64::from(whole && file.rewrap(keys)?);
    }
    for number in numbers(disk, segment::FOLDER, segment::number)? {
        changed += u64::from(segment::rewrap(disk, number, keys)?);
    }
    Ok(changed)
}

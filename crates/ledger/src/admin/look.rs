//! Looking at the files of a ledger that nobody has open, without changing them.
//!
//! What has to be opened to be read (the tables of the checkpoint), and recovery itself, run over an
//! [`Overlay`]: what they write stays in memory. So a verification finds whatever the next start
//! would find, by the same code, and reads besides what a start leaves for later.

use std::sync::Arc;

use weft_kernel::{Error, Reason, Result, SystemClock};

use super::{FileView, Inspection, Quarantined, Verification, tables};
use crate::{
    checkpoint::{self, Checkpoint, HEADER, LogStart, Table, Tables},
    core::{LiveRuns, Now},
    crypt::{self, Keys},
    disk::{Disk, Overlay, read_up_to, unreadable},
    format::{Entry, VERSION, frame, header},
    manifest::{self, FOLDERS, MANIFEST, MARKER, Manifest},
    options::Options,
    recover::{Found, describe, recover},
    segment::{self, Segment, Sizes, Visited},
    wal::{self, WalFile},
};

const TABLES: &str = "checkpoint/tables";

pub(super) fn length(disk: &dyn Disk, path: &str) -> Result<u64> {
    let cannot = |error| unreadable("cannot open a file", path, error);
    disk.open(path, false).and_then(|file| file.len()).map_err(cannot)
}

fn list(disk: &dyn Disk, folder: &str) -> Result<Vec<String>> {
    disk.list(folder).map_err(|error| unreadable("cannot list", folder, error))
}

fn numbers(disk: &dyn Disk, folder: &str, number: fn(&str) -> Option<u32>) -> Result<Vec<u32>> {
    Ok(list(disk, folder)?.iter().filter_map(|name| number(name)).collect())
}

fn is_there(disk: &dyn Disk, path: &str) -> Result<bool> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    Ok(list(disk, folder)?.iter().any(|there| there == name))
}

/// Refuses a folder that has nothing of a ledger: to look there is a mistake.
pub(super) fn refuse_empty(disk: &dyn Disk) -> Result<()> {
    let holds = !manifest::folders_in_use(disk)?.is_empty();
    if holds || is_there(disk, MARKER)? || is_there(disk, MANIFEST)? {
        return Ok(());
    }
    let error = Error::new(Reason::Misconfigured, "there is no ledger in the folder");
    match disk.folder() {
        Some(folder) => Err(error.at(folder.display().to_string())),
        None => Err(error),
    }
}

/// The disk as something that may be written to: as a ledger, whatever of a copy it is.
fn over(disk: &Arc<dyn Disk>) -> Result<Arc<dyn Disk>> {
    let over = Overlay::new(disk.clone());
    for name in [MARKER, MANIFEST] {
        if is_there(&over, name)? {
            over.remove(name).map_err(|error| unreadable("cannot look at", name, error))?;
        }
    }
    Ok(Arc::new(over))
}

/// What the folder is: a ledger, a backup, or a copy that did not end.
fn state(disk: &dyn Disk) -> Result<String> {
    Ok(match manifest::marked(disk)? {
        Some(copying) => format!("unfinished {copying}"),
        None if is_there(disk, MANIFEST)? => "backup".to_owned(),
        None => "ledger".to_owned(),
    })
}

/// Whether an error says that nothing can be told of the files: another version, or no key.
fn blind(error: &Error) -> bool {
    error.reason() == Reason::Misconfigured
}

pub(super) fn inspect(disk: &Arc<dyn Disk>, keys: &Keys) -> Result<Inspection> {
    refuse_empty(&**disk)?;
    let mut found =
        Inspection { version: VERSION, state: state(&**disk)?, ..Inspection::default() };
    if is_there(&**disk, TABLES)? {
        match tables_of(disk, keys, &mut found) {
            Err(error) if blind(&error) => return Err(error),
            Err(error) => found.damage.push(error.detail()),
            Ok(()) => {}
        }
    } else {
        found.damage.push(format!("{TABLES} is missing"));
    }
    found.last_seq = found.checkpoint_seq;
    for folder in FOLDERS {
        for name in list(&**disk, folder)? {
            let path = format!("{folder}/{name}");
            match file_of(&**disk, keys, folder, &name, &mut found.last_seq) {
                Ok(view) => found.files.push(view),
                Err(error) if blind(&error) => return Err(error),
                Err(error) => found.damage.push(format!("{path}: {}", error.detail())),
            }
        }
    }
    Ok(found)
}

fn tables_of(disk: &Arc<dyn Disk>, keys: &Keys, found: &mut Inspection) -> Result<()> {
    let checkpoint = Checkpoint::open(over(disk)?, keys.clone())?;
    found.checkpoint_seq = checkpoint.seq()?;
    found.first_file = checkpoint.first_file()?;
    for &table in Table::ALL {
        let mut rows = 0;
        checkpoint.each(table, &mut |_, _| {
            rows += 1;
            Ok(())
        })?;
        found.rows.push((table.word().to_owned(), rows));
    }
    Ok(())
}

fn file_of(
    disk: &dyn Disk,
    keys: &Keys,
    folder: &str,
    name: &str,
    last_seq: &mut u64,
) -> Result<FileView> {
    let path = format!("{folder}/{name}");
    let bytes = length(disk, &path)?;
    let (mut kind, mut entries) = ("other", 0);
    if folder == "checkpoint" || folder == "quarantine" {
        kind = if folder == "checkpoint" { "checkpoint" } else { "quarantine" };
    } else if let (Some(number), true) = (segment::number(name), folder == segment::FOLDER) {
        kind = "segment";
        let segment = Segment::open(disk, number, keys)?;
        entries = segment.extents().map(|extent| extent.records).sum();
    } else if name.starts_with("spare-") {
        kind = "spare";
    } else if let Some(number) = wal::number(name) {
        kind = "wal";
        let (file, _) = WalFile::open(disk, number, keys)?;
        let scan = wal::scan(&file.read_all()?, number, wal::Known::default());
        entries = scan.frames.len() as u64;
        *last_seq = (*last_seq).max(scan.frames.last().map_or(0, |whole| whole.seq));
    }
    let key = key(disk, &path, kind)?;
    Ok(FileView { path, bytes, kind, key, entries })
}

/// The id of the master key that a file's header names.
fn key(disk: &dyn Disk, path: &str, kind: &str) -> Result<Option<String>> {
    if !matches!(kind, "wal" | "segment") && path != "checkpoint/header" {
        return Ok(None);
    }
    let cannot = |error| unreadable("cannot read a file", path, error);
    let file = disk.open(path, false).map_err(cannot)?;
    let block = read_up_to(&*file, 0, header::SECTOR).map_err(cannot)?;
    Ok(block.get(header::KEY_AT..).and_then(crypt::key_id))
}

/// Verifies whatever the folder is: a copy that did not end is never whole, and a backup is held to its
/// manifest.
pub(super) fn verify(
    disk: &Arc<dyn Disk>,
    keys: &Keys,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verification> {
    refuse_empty(&**disk)?;
    let mut told = Vec::new();
    told.extend(manifest::marked(&**disk)?.map(manifest::Copying::refusal));
    match Manifest::load(&**disk) {
        Ok(None) => {}
        Ok(Some(manifest)) => told.extend(manifest.differences(&**disk)?),
        Err(error) => told.push(error.detail()),
    }
    let mut found = verify_ledger(disk, keys, progress)?;
    told.append(&mut found.damage);
    found.damage = told;
    Ok(found)
}

/// Verifies the files of a ledger.
pub(super) fn verify_ledger(
    disk: &Arc<dyn Disk>,
    keys: &Keys,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verification> {
    let mut found = Verification::default();
    for name in list(&**disk, "quarantine")? {
        let path = format!("quarantine/{name}");
        let bytes = length(&**disk, &path)?;
        found.quarantine.push(Quarantined { path, bytes });
    }
    if is_there(&**disk, HEADER)? && !intact(&**disk, HEADER, checkpoint::MAGIC, 0).unwrap_or(true)
    {
        found.tell(format!("{HEADER} is damaged"));
    }
    let recovered = recovered(disk, keys, &mut found)?;
    let (known, start) = match &recovered {
        Some(Found { files, .. }) => {
            tables::check(&files.checkpoint, &mut found.damage);
            let known = tables::segments(&files.checkpoint, &mut found.damage);
            (known, files.checkpoint.start().unwrap_or_default())
        }
        None => blindly(disk, keys, &mut found)?,
    };
    let files = {
        let mut files = numbers(&**disk, wal::FOLDER, wal::number)?;
        files.retain(|number| *number >= start.file);
        files
    };
    let there = numbers(&**disk, segment::FOLDER, segment::number)?;
    let mut of = 0;
    for number in &files {
        of += length(&**disk, &wal::name(*number))?;
    }
    for (number, _) in known.iter().filter(|(number, _)| there.contains(number)) {
        of += length(&**disk, &segment::name(*number))?;
    }
    for (number, sizes) in known {
        let path = segment::name(number);
        if there.contains(&number) {
            let live = recovered.as_ref().map(|found| found.core.plan_segment(number));
            verify_segment(&**disk, number, sizes, live, keys, &mut found);
            found.bytes += length(&**disk, &path)?;
        } else {
            found.tell(format!("{path} is missing"));
        }
        progress(found.bytes, of);
    }
    let told = recovered.is_some();
    verify_wal(&**disk, start, keys, told, &mut found, &mut |bytes| progress(bytes, of))?;
    Ok(found)
}

/// What the next start would find; `None`, and the reason told, if it would be refused.
fn recovered(disk: &Arc<dyn Disk>, keys: &Keys, found: &mut Verification) -> Result<Option<Found>> {
    let missing = !is_there(&**disk, TABLES)?;
    let begun =
        !list(&**disk, wal::FOLDER)?.is_empty() || !list(&**disk, segment::FOLDER)?.is_empty();
    let options = Options { keys: keys.clone(), ..Options::default() };
    let recovered = match recover(over(disk)?, &options, Now::read(&SystemClock)) {
        Ok(recovered) => Some(recovered),
        Err(error) if blind(&error) => return Err(error),
        Err(error) => {
            found.tell(error.detail());
            None
        }
    };
    if missing && begun {
        if !found.damage.iter().any(|told| told.contains(TABLES)) {
            found.tell(format!("{TABLES} is missing"));
        }
        // What would be begun anew says nothing of the files that are there.
        return Ok(None);
    }
    if let Some(recovered) = &recovered {
        found.torn_bytes = recovered.report.torn_bytes;
        for told in &recovered.report.damage {
            found.tell(told.clone());
        }
    }
    Ok(recovered)
}

/// What the tables say of segments and files where no start is possible; without tables, whatever is there.
fn blindly(
    disk: &Arc<dyn Disk>,
    keys: &Keys,
    found: &mut Verification,
) -> Result<(tables::Known, LogStart)> {
    if is_there(&**disk, TABLES)? {
        let opened = Checkpoint::open(over(disk)?, keys.clone());
        let opened = opened.and_then(|checkpoint| Ok((checkpoint.start()?, checkpoint)));
        match opened {
            Ok((start, checkpoint)) => {
                tables::check(&checkpoint, &mut found.damage);
                return Ok((tables::segments(&checkpoint, &mut found.damage), start));
            }
            Err(error) if blind(&error) => return Err(error),
            Err(error) => found.tell(error.detail()),
        }
    }
    let there = numbers(&**disk, segment::FOLDER, segment::number)?;
    Ok((there.into_iter().map(|number| (number, None)).collect(), LogStart::default()))
}

/// Whether the block that a file begins with is as it was written, both copies of its header included.
fn intact(disk: &dyn Disk, path: &str, magic: &[u8; 8], number: u32) -> Result<bool> {
    let cannot = |error| unreadable("cannot read a file", path, error);
    let file = disk.open(path, false).map_err(cannot)?;
    let block = read_up_to(&*file, 0, header::LEN).map_err(cannot)?;
    Ok(header::intact(&block, magic, number))
}

/// Whether what no record and no index vouches for is as it was written.
fn trimmings(disk: &dyn Disk, path: &str, number: u32) -> Result<bool> {
    let cannot = |error| unreadable("cannot read a file", path, error);
    let file = disk.open(path, false).map_err(cannot)?;
    let block = read_up_to(&*file, 0, 2 * header::SECTOR).map_err(cannot)?;
    let end = file.len().map_err(cannot)?.saturating_sub(segment::TRAILER as u64);
    let trailer = read_up_to(&*file, end, segment::TRAILER).map_err(cannot)?;
    let zero =
        |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0));
    Ok(intact(disk, path, segment::MAGIC, number)?
        && zero(block.get(header::SECTOR..))
        && zero(trailer.get(28..32)))
}

fn verify_segment(
    disk: &dyn Disk,
    number: u32,
    sizes: Option<Sizes>,
    live: Option<Vec<LiveRuns>>,
    keys: &Keys,
    found: &mut Verification,
) {
    let path = segment::name(number);
    let segment = match Segment::open(disk, number, keys) {
        Ok(segment) => segment,
        Err(error) => {
            found.tell(format!("{path} cannot be read: {}", error.detail()));
            return;
        }
    };
    if let (Some(sizes), Ok(len)) = (sizes, length(disk, &path))
        && sizes.file != len
    {
        found.tell(format!("{path} has {len} bytes, {} were written", sizes.file));
    }
    if segment.rebuilt() {
        found.tell(format!("the index of {path} is damaged"));
    }
    match trimmings(disk, &path, number) {
        Ok(true) => {}
        Ok(false) => found.tell(format!("the header or the trailer of {path} is damaged")),
        Err(error) => found.tell(format!("{path} cannot be read: {}", error.detail())),
    }
    let extents: Vec<_> = segment.extents().copied().collect();
    for extent in &extents {
        let mut whole = 0;
        let (from, to) = (extent.first, extent.last);
        let read = segment.visit(extent.log, from, to, u64::MAX, &mut |visited| {
            whole += u64::from(matches!(visited, Visited::Record(_)));
            true
        });
        if let Err(error) = read {
            found.tell(format!("{path} cannot be read: {}", error.detail()));
        }
        found.records += whole;
        if whole < extent.records {
            let lost = extent.records - whole;
            found.tell(format!("{path}: {lost} records of log {} are lost", extent.log));
        }
    }
    // What is still wanted of it has to be where its index says that something is.
    for (log, runs) in live.unwrap_or_default() {
        let extent = extents.iter().find(|extent| extent.log == log);
        let covers = |&&(first, last): &&(u64, u64)| {
            extent.is_some_and(|extent| extent.first <= first && last <= extent.last)
        };
        for (first, last) in runs.iter().filter(|run| !covers(run)) {
            found.tell(format!("{path}: of records {first} to {last} of log {log} some are lost"));
        }
    }
}

/// Reads every frame. What does not fit is told only if recovery has not told it already (`told`).
fn verify_wal(
    disk: &dyn Disk,
    start: LogStart,
    keys: &Keys,
    told: bool,
    found: &mut Verification,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let survey = match wal::survey(disk, keys, start.file) {
        Ok(survey) => survey,
        Err(error) if blind(&error) => return Err(error),
        Err(error) => {
            found.tell(format!("the log cannot be read: {}", error.detail()));
            return Ok(());
        }
    };
    for number in &survey.unused {
        found.bytes += length(disk, &wal::name(*number))?;
    }
    let mut before = start.before;
    for index in 0..survey.used.len() {
        let file = &survey.used[index].file;
        let path = wal::name(file.number);
        if !intact(disk, &path, wal::MAGIC, file.number)? {
            found.tell(format!("the header of {path} is damaged"));
        }
        let (mut bytes, scan) = survey.scan(index, before)?;
        found.bytes += length(disk, &path)?;
        if !told {
            survey.faults(index).into_iter().for_each(|fault| found.tell(fault));
            for damage in &scan.damage {
                found.tell(describe(file.number, damage));
            }
            found.torn_bytes += u64::from(scan.torn);
        }
        for whole in scan.frames {
            before = whole.seq;
            let offset = whole.offset;
            match file.open_body(offset, &mut bytes[whole.body]) {
                Some(body) if entries_whole(body) => found.transactions += 1,
                _ if told => {}
                _ => found.tell(format!("{path}: the transaction at {offset} is damaged")),
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

/// Names the newest master key in every file; a backup stays one.
pub(super) fn rewrap(disk: &dyn Disk, keys: &Keys) -> Result<u64> {
    if let Some(copying) = manifest::marked(disk)? {
        return Err(Error::new(Reason::StorageCorrupt, copying.refusal()));
    }
    let backup = Manifest::load(disk)?;
    if let Some(backup) = &backup {
        let wrong = backup.differences(disk)?;
        if !wrong.is_empty() {
            return Err(manifest::damaged(&wrong));
        }
        // Cut short, it is a ledger without a manifest, and not one whose manifest is not true.
        manifest::remove(disk)?;
    }
    let mut changed = u64::from(Checkpoint::rewrap(disk, keys)?);
    for number in numbers(disk, wal::FOLDER, wal::number)? {
        let (file, whole) = WalFile::open(disk, number, keys)?;
        changed += u64::from(whole && file.rewrap(keys)?);
    }
    for number in numbers(disk, segment::FOLDER, segment::number)? {
        changed += u64::from(segment::rewrap(disk, number, keys)?);
    }
    if let Some(mut backup) = backup {
        backup.sum_again(disk)?;
        backup.store(disk)?;
    }
    Ok(changed)
}

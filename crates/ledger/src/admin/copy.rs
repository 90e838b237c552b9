//! Copies of a ledger: out of one that runs, and back.
//!
//! A backup has the layout of a ledger's folder. The checkpoint is copied row by row, segments and
//! write-ahead files byte by byte while maintenance stands still, up to where the writer was.
//! Either way the marker of an unfinished copy is safe in the target before anything else is, and
//! goes last ([`crate::manifest`]); what fails removes what it wrote.

use std::{
    ops::Bound,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use weft_kernel::{Error, Reason, Result};

use crate::{
    checkpoint::{Capture, Checkpoint, Row, Table, Tables},
    disk::{Disk, failed_copy, unreadable},
    manifest::{self, Copying, FOLDERS, Listed, Manifest},
    record::Limits,
    recover::lock,
    segment,
    service::Service,
    wal::{self, Closed, WalFile},
};

const CHUNK: usize = 1 << 20;
/// So much of a table is copied at once.
const PAGE: Limits = Limits { records: 100_000, bytes: 8 << 20 };

/// Copies the ledger that `service` runs to an empty disk.
pub(crate) fn backup(service: &Service, to: &Arc<dyn Disk>) -> Result<()> {
    refuse_full(&**to)?;
    refuse_others(&**to)?;
    let _lock = lock(&**to)?;
    refuse_full(&**to)?;
    // The less is in the log, the less there is to copy and to replay.
    service.checkpoint()?;
    complete(&**to, Copying::Backup, || copy_out(service, to)?.store(&**to))?;
    let damaged = service.files().damages.count();
    if damaged > 0 {
        tracing::warn!(
            damaged,
            "the backup holds what is damaged as it is: the rest of it is whole"
        );
    }
    Ok(())
}

/// Runs `copy` between the setting of the marker and its removal; what fails is cleared away.
pub(super) fn complete<T>(
    to: &dyn Disk,
    copying: Copying,
    copy: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let done = manifest::mark(to, copying).and_then(|()| copy()).and_then(|done| {
        manifest::unmark(to)?;
        Ok(done)
    });
    // Where clearing away fails too, the marker stays and says what this is.
    if done.is_err() && clear(to).is_ok() {
        to.unmake();
    }
    done
}

/// Removes what a copy has written, the marker last.
fn clear(to: &dyn Disk) -> std::io::Result<()> {
    for folder in FOLDERS {
        for name in to.list(folder)? {
            to.remove(&format!("{folder}/{name}"))?;
        }
        to.sync_dir(folder)?;
        // What else somebody has put there is not of the copy.
        let _ = to.remove_dir(folder);
    }
    let there = to.list("")?;
    for name in [manifest::NEW, manifest::MANIFEST, manifest::MARKER] {
        if there.iter().any(|there| there == name) {
            to.sync_dir("")?;
            to.remove(name)?;
        }
    }
    to.sync_dir("")
}

fn copy_out(service: &Service, to: &Arc<dyn Disk>) -> Result<Manifest> {
    service.still(|service| {
        let files = service.files();
        let mut manifest = Manifest::default();
        copy_tables(service, to, &mut manifest)?;
        for (number, _) in files.segments.all() {
            let path = segment::name(number);
            let listed = copy_file(&*files.disk, &**to, &path, u64::MAX, &mut |_| {})?;
            manifest.files.insert(path, listed);
        }
        // Of the file that is being written no more than is there now: of what comes meanwhile a later
        // part might be copied without an earlier one.
        let (current, end, seq) = service.written_to();
        for number in files.wal.numbers().into_iter().filter(|number| *number <= current) {
            let most = if number == current { u64::from(end) } else { u64::MAX };
            let path = wal::name(number);
            let listed = copy_file(&*files.disk, &**to, &path, most, &mut |_| {})?;
            manifest.files.insert(path, listed);
        }
        end_log(&**to, current, Closed { end, seq }, service, &mut manifest)?;
        sync_folders(&**to)?;
        Ok(manifest)
    })
}

/// Marks in a copy where its log ends, and which file is the last.
fn end_log(
    to: &dyn Disk,
    number: u32,
    end: Closed,
    service: &Service,
    manifest: &mut Manifest,
) -> Result<()> {
    let mark = || {
        let (last, _) = WalFile::open(to, number, &service.files().keys)?;
        last.close(end)?;
        wal::made::write(to, wal::made::Made { newest: number, safe: end.seq })
    };
    mark().map_err(of_the_copy)?;
    for path in [wal::name(number), wal::made::PATH.to_owned()] {
        let cannot = |error| failed_copy(&path, error);
        let file = to.open(&path, false).map_err(cannot)?;
        let listed = manifest::sum(&*file).map_err(cannot)?;
        manifest.files.insert(path, listed);
    }
    Ok(())
}

/// That a write to a copy has failed poisons nothing here.
fn of_the_copy(error: Error) -> Error {
    match error.reason() {
        Reason::StoragePoisoned => {
            Error::new(Reason::StorageUnavailable, "the copy cannot be written").because(error)
        }
        _ => error,
    }
}

/// Copies the checkpoint, row by row.
fn copy_tables(service: &Service, to: &Arc<dyn Disk>, manifest: &mut Manifest) -> Result<()> {
    let files = service.files();
    let seq = files.checkpoint.seq()?;
    let start = files.checkpoint.start()?;
    let copy = Checkpoint::open(to.clone(), files.keys.clone()).map_err(of_the_copy)?;
    for &table in Table::ALL {
        let mut last: Option<Vec<u8>> = None;
        loop {
            let from = last.as_ref().map_or(Bound::Unbounded, |last| Bound::Excluded(&last[..]));
            let page = files.checkpoint.page(table, from, PAGE)?;
            let Some((key, _)) = page.last() else { break };
            last = Some(key.clone());
            let row = |(key, value)| Row { table, key, value: Some(value) };
            let rows = page.into_iter().map(row).collect();
            let capture = Capture { seq, rows, ..Capture::default() };
            copy.store(&capture, start).map_err(of_the_copy)?;
        }
    }
    copy.close();
    let folder = FOLDERS[0];
    let cannot = |error| failed_copy(folder, error);
    for name in to.list(folder).map_err(cannot)? {
        let path = format!("{folder}/{name}");
        let file = to.open(&path, false).map_err(cannot)?;
        // The tables write a last time when they are let go.
        file.sync_data().map_err(cannot)?;
        manifest.files.insert(path, manifest::sum(&*file).map_err(cannot)?);
    }
    Ok(())
}

/// Copies every file of a ledger that matters; whether it is what a backup has written, to the byte.
pub(super) fn restore(
    from: &dyn Disk,
    to: &dyn Disk,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<bool> {
    let manifest = whole(from)?;
    let mut paths = Vec::new();
    let mut of = 0;
    for folder in FOLDERS {
        for name in from.list(folder).map_err(|error| unreadable("cannot list", folder, error))? {
            let path = format!("{folder}/{name}");
            of += super::look::length(from, &path)?;
            paths.push(path);
        }
    }
    let (mut done, mut wrong) = (0, Vec::new());
    for path in &paths {
        let found = copy_file(from, to, path, u64::MAX, &mut |bytes| {
            done += bytes;
            progress(done, of);
        })?;
        let listed = manifest.as_ref().and_then(|manifest| manifest.files.get(path));
        if listed.is_some_and(|listed| *listed != found) {
            wrong.push(manifest::changed(path));
        }
    }
    if !wrong.is_empty() {
        return Err(manifest::damaged(&wrong));
    }
    sync_folders(to)?;
    Ok(manifest.is_some())
}

/// The manifest of a backup, of which every file is there; `None` if it is a ledger.
fn whole(from: &dyn Disk) -> Result<Option<Manifest>> {
    if let Some(copying) = manifest::marked(from)? {
        let text = format!("the folder to restore from holds an unfinished {copying}");
        return Err(Error::new(Reason::StorageCorrupt, text).note("take another backup"));
    }
    let manifest = Manifest::load(from)?;
    if let Some(manifest) = &manifest {
        let wrong = manifest.lengths(from)?;
        if !wrong.is_empty() {
            return Err(manifest::damaged(&wrong));
        }
    }
    Ok(manifest)
}

/// The refusal of a folder to copy to.
fn refused(to: &dyn Disk, what: &str) -> Result<()> {
    let which = match to.folder() {
        Some(folder) => folder.display().to_string(),
        None => "the folder to copy to".to_owned(),
    };
    let text = format!("{which} holds {what} already: name a folder that is empty or not there");
    Err(Error::new(Reason::DefinitionConflict, text))
}

/// Refuses a folder for a backup that holds anything else: it would be taken for a part of the backup, and
/// go with it. What a file system or a former lock has left there is nothing.
fn refuse_others(to: &dyn Disk) -> Result<()> {
    let Some(folder) = to.folder() else { return Ok(()) };
    let cannot = |error| unreadable("cannot list", "", error);
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        let name = name.to_string_lossy();
        // A folder of a ledger without a file in it was looked into.
        if !["lock", "lost+found"].contains(&&*name) && !FOLDERS.contains(&&*name) {
            return refused(to, &format!("`{name}`"));
        }
    }
    Ok(())
}

/// Refuses a folder to copy to that holds anything of a ledger.
pub(super) fn refuse_full(to: &dyn Disk) -> Result<()> {
    let refused = |what: &str| refused(to, what);
    if let Some(copying) = manifest::marked(to)? {
        return refused(&format!("an unfinished {copying}"));
    }
    let top = to.list("").map_err(|error| unreadable("cannot list", "", error))?;
    if top.iter().any(|name| name == manifest::MANIFEST) {
        return refused("a backup");
    }
    if manifest::folders_in_use(to)?.is_empty() { Ok(()) } else { refused("a ledger") }
}

/// Refuses a folder to copy to that lies in the folder that is copied, around it, or is the same, by
/// whatever way it is reached. Makes nothing.
pub(crate) fn refuse_own(own: &Path, to: &Path) -> Result<()> {
    let cannot = |error| {
        let text = "the folder to copy to cannot be looked at";
        Error::new(Reason::MalformedRequest, text).because(error).at(to.display().to_string())
    };
    let own = own.canonicalize().map_err(cannot)?;
    let resolved = resolve(to).map_err(cannot)?;
    // A folder that is mounted at two places is known by its number.
    let inner = FOLDERS.iter().map(|folder| own.join(folder));
    let inside = std::iter::once(own.clone()).chain(inner).filter_map(|folder| id(&folder));
    let inside: Vec<_> = inside.collect();
    let around = id(&resolved);
    if resolved.starts_with(&own)
        || own.starts_with(&resolved)
        || resolved.ancestors().filter_map(id).any(|found| inside.contains(&found))
        || own.ancestors().filter_map(id).any(|found| Some(found) == around)
    {
        let text = format!(
            "{} is, is in, or holds the ledger's own folder {}: a copy goes elsewhere",
            to.display(),
            own.display()
        );
        return Err(Error::new(Reason::MalformedRequest, text));
    }
    Ok(())
}

/// The device and number of a folder that is there.
fn id(folder: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(folder).ok().map(|found| (found.dev(), found.ino()))
}

/// Where a path leads, of which the last parts need not be there.
fn resolve(path: &Path) -> std::io::Result<PathBuf> {
    let mut found = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        match part {
            // Of what is there everything was followed already; the rest leads nowhere else.
            Component::ParentDir => drop(found.pop()),
            part => {
                found.push(part);
                match found.canonicalize() {
                    Ok(there) => found = there,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(found)
}

fn sync_folders(to: &dyn Disk) -> Result<()> {
    for folder in FOLDERS {
        to.sync_dir(folder).map_err(|error| failed_copy(folder, error))?;
    }
    Ok(())
}

/// Copies the first `most` bytes of a file; gives what was copied.
fn copy_file(
    from: &dyn Disk,
    to: &dyn Disk,
    path: &str,
    most: u64,
    step: &mut dyn FnMut(u64),
) -> Result<Listed> {
    let cannot = |error| unreadable("cannot read a file to copy", path, error);
    let source = from.open(path, false).map_err(cannot)?;
    let target = to.open(path, true).map_err(|error| failed_copy(path, error))?;
    let mut buffer = vec![0; CHUNK];
    let mut copied = Listed { len: 0, crc: 0 };
    loop {
        let left = usize::try_from(most - copied.len).unwrap_or(CHUNK).min(CHUNK);
        let read = source.read_at(copied.len, &mut buffer[..left]).map_err(cannot)?;
        if read == 0 {
            break;
        }
        let bytes = &buffer[..read];
        target.write_at(copied.len, bytes).map_err(|error| failed_copy(path, error))?;
        copied.crc = crc32c::crc32c_append(copied.crc, bytes);
        copied.len += read as u64;
        step(read as u64);
    }
    target.sync_data().map_err(|error| failed_copy(path, error))?;
    Ok(copied)
}

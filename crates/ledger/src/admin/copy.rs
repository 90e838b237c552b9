//! Copies of a ledger: out of one that runs, and back.
//!
//! A backup has the layout of a ledger's folder. The checkpoint is copied row by row, segments and
//! write-ahead files byte by byte while the housekeeper stands still, up to where the writer was.

use std::sync::Arc;

use weft_kernel::{Error, Reason, Result};

use crate::{
    checkpoint::{Capture, Checkpoint, Row, Table, Tables},
    disk::{Disk, failed},
    segment,
    service::Service,
    wal,
};

const CHUNK: usize = 1 << 20;
/// The folders whose files are copied as they are.
const FOLDERS: [&str; 4] = [segment::FOLDER, wal::FOLDER, "checkpoint", "quarantine"];

/// Copies the ledger that `service` runs to an empty disk.
pub(crate) fn backup(service: &Service, to: &Arc<dyn Disk>) -> Result<()> {
    refuse_full(&**to)?;
    // The less is in the log, the less there is to copy and to replay.
    service.checkpoint()?;
    service.still(|service| {
        let files = service.files();
        let copy = Checkpoint::open(to.clone(), files.keys.clone())?;
        let mut rows = Vec::new();
        for &table in Table::ALL {
            files.checkpoint.each(table, &mut |key, value| {
                rows.push(Row { table, key: key.to_vec(), value: Some(value.to_vec()) });
                Ok(())
            })?;
        }
        let seq = files.checkpoint.seq()?;
        let first_file = files.checkpoint.first_file()?;
        copy.store(&Capture { seq, rows }, first_file)?;
        for (number, _) in files.segments.all() {
            copy_file(&*files.disk, &**to, &segment::name(number), u64::MAX, &mut |_| {})?;
        }
        // Of the file that is being written no more than is there now: of what comes meanwhile a later
        // part might be copied without an earlier one.
        let (current, end) = service.written_to();
        for number in files.wal.numbers().into_iter().filter(|number| *number <= current) {
            let most = if number == current { u64::from(end) } else { u64::MAX };
            copy_file(&*files.disk, &**to, &wal::name(number), most, &mut |_| {})?;
        }
        sync_folders(&**to)
    })
}

/// Copies every file of a ledger that matters.
pub(super) fn restore(
    from: &dyn Disk,
    to: &dyn Disk,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    refuse_full(to)?;
    let mut paths = Vec::new();
    let mut of = 0;
    for folder in FOLDERS {
        for name in from.list(folder).map_err(|error| failed("cannot list", folder, error))? {
            let path = format!("{folder}/{name}");
            of += super::look::length(from, &path)?;
            paths.push(path);
        }
    }
    if !paths.iter().any(|path| path.starts_with("checkpoint/")) {
        let text = "the folder to restore from holds no backup of a ledger";
        return Err(Error::new(Reason::Misconfigured, text));
    }
    let mut done = 0;
    for path in &paths {
        copy_file(from, to, path, u64::MAX, &mut |bytes| {
            done += bytes;
            progress(done, of);
        })?;
    }
    sync_folders(to)
}

fn refuse_full(to: &dyn Disk) -> Result<()> {
    for folder in FOLDERS {
        let names = to.list(folder).map_err(|error| failed("cannot list", folder, error))?;
        if !names.is_empty() {
            let text = "the folder to copy to holds a ledger already";
            return Err(Error::new(Reason::Misconfigured, text).at(folder));
        }
    }
    Ok(())
}

fn sync_folders(to: &dyn Disk) -> Result<()> {
    for folder in FOLDERS {
        to.sync_dir(folder).map_err(|error| failed("cannot sync a folder", folder, error))?;
    }
    Ok(())
}

/// Copies the first `most` bytes of a file.
fn copy_file(
    from: &dyn Disk,
    to: &dyn Disk,
    path: &str,
    most: u64,
    step: &mut dyn FnMut(u64),
) -> Result<()> {
    let cannot = |error| failed("cannot copy a file", path, error);
    let source = from.open(path, false).map_err(cannot)?;
    let target = to.open(path, true).map_err(cannot)?;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let left = usize::try_from(most - at).unwrap_or(CHUNK).min(CHUNK);
        let read = source.read_at(at, &mut buffer[..left]).map_err(cannot)?;
        if read == 0 {
            break;
        }
        target.write_at(at, &buffer[..read]).map_err(cannot)?;
        at += read as u64;
        step(read as u64);
    }
    target.sync_data().map_err(cannot)
}

//! Opening a ledger: what the checkpoint says, then what the write-ahead log says beyond it.
//!
//! Transactions up to the checkpoint's own only tell where records are that still live; later ones
//! are applied in full. What was torn by a crash is cut off, by a mark in the file, before anything
//! new is written; what had been safe and is damaged is set aside and reported. Each opening begins a
//! new file, so that recovery can itself be cut short at any point and done again.

use std::{any::Any, fmt, io, sync::Arc};

use weft_kernel::{Error, Reason, Result};

use crate::{
    checkpoint::{Checkpoint, Table, Tables},
    core::{Core, Now},
    disk::{Disk, failed, unreadable},
    format::{Entry, RecordAt, frame, varint::Reader},
    manifest,
    options::Options,
    segment::{self, SegmentSet, Sizes},
    service::{Files, quarantine},
    wal::{self, Cursor, Damage, FrameAt, WalFile, WalSet, Writer},
};

/// What was found when the ledger was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// The last transaction that is there.
    pub seq: u64,
    /// Transactions that were read from the write-ahead log.
    pub replayed: u64,
    /// Bytes that were being written when the last life ended; never acknowledged.
    pub torn_bytes: u64,
    /// What had been safe and is damaged, a sentence each; the bytes are under `quarantine/`.
    pub damage: Vec<String>,
}

/// Held while a ledger has its disk.
pub(crate) struct DiskLock(
    #[expect(dead_code, reason = "it is held, not read")] Box<dyn Any + Send + Sync>,
);

impl fmt::Debug for DiskLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskLock")
    }
}

/// A ledger that can go on.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) core: Core,
    pub(crate) files: Files,
    pub(crate) writer: Writer,
    pub(crate) next_segment: u32,
    pub(crate) first_file: u32,
    pub(crate) lock: DiskLock,
    pub(crate) report: Recovered,
}

/// Recovers what is on `disk`, and begins a new life on it.
///
/// # Errors
/// `storage_busy` while another opener has the disk; `misconfigured` for a size of files that cannot be;
/// `misconfigured` for a format version or key that is not understood; `storage_corrupt` for a checkpoint that is damaged,
/// and for a copy that is not complete;
/// `storage_full` without room for a new write-ahead file.
pub(crate) fn recover(disk: Arc<dyn Disk>, options: &Options, now: Now) -> Result<Found> {
    let capacity = options.wal_file_bytes.0;
    if !(wal::FILE_BYTES_MIN..=wal::FILE_BYTES_MAX).contains(&capacity) {
        let text = "a write-ahead file has 16 KiB to 1 GiB";
        return Err(Error::new(Reason::Misconfigured, text).note(format!("{capacity} bytes")));
    }
    let lock = lock(&*disk)?;
    manifest::adopt(&*disk)?;
    let keys = options.keys.clone();
    let checkpoint = Checkpoint::open(disk.clone(), keys.clone())?;
    let first_file = checkpoint.first_file()?;
    let mut report = Recovered::default();
    let (segments, next_segment) = find_segments(&disk, options, &checkpoint, &mut report)?;
    let wal = WalSet::new(disk.clone(), keys.clone(), capacity);
    let seq = checkpoint.seq()?;
    // Its place is known once the files are: nothing is written before.
    let mut core = Core::new(options.clone(), Cursor::new(0, 0, 0), keys.encrypt());
    core.load(&checkpoint, seq)?;
    let last = replay(&*disk, &wal, options, first_file, seq, &mut core, &mut report)?;
    wal.find_spares()?;
    let number = last.max(first_file.saturating_sub(1)) + 1;
    for ahead in number..=number + 1 {
        wal.prepare(ahead)?;
    }
    let file = wal.get(number).ok_or_else(|| Error::new(Reason::Internal, "a file is missing"))?;
    let bytes = u32::try_from(capacity).unwrap_or(u32::MAX);
    *core.cursor() = Cursor::new(number, bytes, number + 1);
    core.recovered(now);
    report.seq = core.seq();
    core.begin_life()?;
    for damage in &report.damage {
        tracing::error!(damage, "stored bytes are damaged");
    }
    let files = Files { disk, keys, wal, segments, checkpoint };
    let writer = Writer::new(file);
    Ok(Found { core, files, writer, next_segment, first_file, lock, report })
}

/// Takes the disk for this opener alone.
pub(crate) fn lock(disk: &dyn Disk) -> Result<DiskLock> {
    disk.lock().map(DiskLock).map_err(|error| not_taken(disk, error))
}

/// Takes the disk together with others who only read; changes nothing on it.
pub(crate) fn lock_shared(disk: &dyn Disk) -> Result<DiskLock> {
    disk.lock_shared().map(DiskLock).map_err(|error| not_taken(disk, error))
}

fn not_taken(disk: &dyn Disk, error: io::Error) -> Error {
    if error.kind() != io::ErrorKind::WouldBlock {
        return unreadable("cannot take the ledger's folder", "lock", error);
    }
    let text = match disk.holder() {
        Some(pid) => format!("process {pid} has this ledger open"),
        None => "another process has this ledger open".to_owned(),
    };
    let busy = Error::new(Reason::StorageBusy, text);
    match disk.folder() {
        Some(folder) => busy.at(folder.display().to_string()),
        None => busy,
    }
}

/// The segments that the checkpoint knows; others were never finished, or are no longer needed.
fn find_segments(
    disk: &Arc<dyn Disk>,
    options: &Options,
    checkpoint: &Checkpoint,
    report: &mut Recovered,
) -> Result<(SegmentSet, u32)> {
    let set = SegmentSet::new(disk.clone(), options.keys.clone());
    let mut known = Vec::new();
    checkpoint.each(Table::Segments, &mut |key, value| {
        let mut reader = Reader::new(value);
        if let (Ok(key), Ok(file), Ok(records)) =
            (<[u8; 4]>::try_from(key), reader.varint(), reader.varint())
        {
            known.push((u32::from_be_bytes(key), Sizes { file, records }));
        }
        Ok(())
    })?;
    let cannot = |error| unreadable("cannot list", segment::FOLDER, error);
    let mut there = Vec::new();
    for name in disk.list(segment::FOLDER).map_err(cannot)? {
        match segment::number(&name) {
            Some(number) if known.iter().any(|(known, _)| *known == number) => there.push(number),
            _ => {
                let path = format!("{}/{name}", segment::FOLDER);
                disk.remove(&path).map_err(|error| failed("cannot remove", &path, error))?;
            }
        }
    }
    for &(number, sizes) in &known {
        if there.contains(&number) {
            segment::check(&**disk, number, &options.keys)?;
        } else {
            report.damage.push(format!("{} is missing", segment::name(number)));
        }
        set.insert(number, sizes);
    }
    let next = known.iter().map(|(number, _)| number + 1).max().unwrap_or(1);
    Ok((set, next))
}

/// Reads all write-ahead files that are needed; gives the number of the last one that there is.
fn replay(
    disk: &dyn Disk,
    wal: &WalSet,
    options: &Options,
    first_file: u32,
    checkpoint: u64,
    core: &mut Core,
    report: &mut Recovered,
) -> Result<u32> {
    let cannot = |error| unreadable("cannot list", wal::FOLDER, error);
    let names = disk.list(wal::FOLDER).map_err(cannot)?;
    let numbers: Vec<u32> = names.iter().filter_map(|name| wal::number(name)).collect();
    let last = numbers.last().copied().unwrap_or(0);
    let mut files = Vec::new();
    for number in numbers {
        let file = if number < first_file {
            None
        } else {
            let (file, whole) = WalFile::open(disk, number, &options.keys)?;
            let first = wal::first_seq(&file.read_all()?, number);
            first.map(|first| (file, whole, first))
        };
        match file {
            Some(found) => files.push(found),
            // Written behind already, or made ready and never used.
            None => {
                let path = wal::name(number);
                disk.remove(&path).map_err(|error| failed("cannot remove", &path, error))?;
            }
        }
    }
    let mut before = 0;
    let firsts: Vec<u64> = files.iter().map(|(_, _, first)| *first).collect();
    for (index, (file, whole, _)) in files.into_iter().enumerate() {
        if !whole {
            report.damage.push(format!("the header of {} is damaged", wal::name(file.number)));
        }
        let mut bytes = file.read_all()?;
        let next = firsts.get(index + 1).copied();
        let scan = wal::scan(&bytes, file.number, before, next);
        for damage in &scan.damage {
            set_aside(disk, &file, &bytes, damage, report)?;
        }
        for whole in &scan.frames {
            let body = &mut bytes[whole.body.clone()];
            let at = FrameAt { file: file.number, offset: whole.offset };
            match read(&file, at.offset, body) {
                Some(entries) => {
                    // A marker repeats the number of what it proves.
                    if !matches!(entries[..], [(Entry::Marker, _)]) {
                        core.replay(whole.seq, &entries, at, whole.seq > checkpoint);
                        report.replayed += 1;
                    }
                }
                None => {
                    let lost = whole.seq..whole.seq + 1;
                    let to = (whole.body.end) as u32;
                    let damage = Damage { bytes: whole.offset..to, lost };
                    let bytes = file.read_all()?;
                    set_aside(disk, &file, &bytes, &damage, report)?;
                }
            }
            before = whole.seq;
        }
        report.torn_bytes += u64::from(scan.torn);
        if next.is_none() {
            file.close(scan.end)?;
        }
        wal.insert(file);
    }
    Ok(last)
}

type Entries<'a> = Vec<(Entry<'a>, RecordAt)>;

/// The entries of a frame; `None` if it was tampered with, or not written by this program.
fn read<'a>(file: &WalFile, offset: u32, body: &'a mut [u8]) -> Option<Entries<'a>> {
    frame::entries(file.open_body(offset, body)?).collect::<Result<_, _>>().ok()
}

fn set_aside(
    disk: &dyn Disk,
    file: &WalFile,
    bytes: &[u8],
    damage: &Damage,
    report: &mut Recovered,
) -> Result<()> {
    let range = damage.bytes.start as usize..(damage.bytes.end as usize).min(bytes.len());
    let name = format!("wal-{}-{}", file.number, damage.bytes.start);
    quarantine(disk, &name, bytes.get(range).unwrap_or_default())?;
    let lost = damage.lost.end - damage.lost.start;
    report.damage.push(format!(
        "{}: bytes {}..{} had been safe and do not fit their checksums; {lost} transactions are lost",
        wal::name(file.number),
        damage.bytes.start,
        damage.bytes.end,
    ));
    Ok(())
}

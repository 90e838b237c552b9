//! Opening a ledger: what the checkpoint says, then what the write-ahead log says beyond it.
//!
//! Transactions up to the checkpoint's own only tell where records are that still live; later ones
//! are applied in full. What was torn by a crash is cut off, by a mark in the file, before anything
//! new is written; what had been safe and is damaged is set aside and reported. Each opening begins a
//! new file, so that recovery can itself be cut short at any point and done again.

use std::{any::Any, fmt, io, sync::Arc};

use weft_kernel::{Error, Reason, Result};

use crate::{
    checkpoint::{Capture, Checkpoint, LogStart, Table, Tables},
    core::{Core, Now},
    disk::{Disk, failed, unreadable},
    format::{Entry, RecordAt, frame, varint::Reader},
    manifest::{self, Copying},
    options::{Options, WAL_FILE_SIZES},
    segment::{self, SegmentSet, Sizes},
    service::{Damages, Files, QUARANTINE, quarantine},
    wal::{self, Closed, Cursor, Damage, FrameAt, WalFile, WalSet, Writer},
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
    pub(crate) start: LogStart,
    /// Segments that are missing, knowingly gone on without.
    pub(crate) gone: Vec<u32>,
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
    if !WAL_FILE_SIZES.contains(&options.wal_file_bytes) {
        let (least, most) = WAL_FILE_SIZES.into_inner();
        let text = format!("a write-ahead file has {least} to {most}");
        return Err(Error::new(Reason::Misconfigured, text).note(format!("{capacity} bytes")));
    }
    let most = crate::format::TRANSACTION_BYTES_MAX;
    if options.transaction_bytes_max.0 > most {
        let text = format!("a transaction has at most {}", weft_kernel::ByteSize(most));
        return Err(Error::new(Reason::Misconfigured, text));
    }
    // Before the lock is there in any case.
    let vanished = had_a_ledger(&*disk)?;
    let lock = lock(&*disk)?;
    let repairing = manifest::adopt(&*disk, options.accept_loss)?;
    let keys = options.keys.clone();
    let mut report = Recovered::default();
    let (checkpoint, mut core, without) = load(&disk, options, &mut report)?;
    let mut start = checkpoint.start()?;
    if repairing && start.file == 0 && report.damage.is_empty() {
        report.damage.push(GONE.to_owned());
    }
    let without = without || repairing;
    if vanished {
        let told = "nothing is left of the ledger that was in the folder before: it begins empty";
        report.damage.push(told.to_owned());
    }
    let survey = wal::survey(&*disk, &keys, start.file)?;
    let known = segments_known(&checkpoint)?;
    let missing_segments = segments_missing(&*disk, &known)?;
    let missing = missing(&survey, start, &missing_segments);
    if !missing.is_empty() && !options.accept_loss {
        return Err(incomplete(&missing));
    }
    report.damage.extend(missing.iter().map(|path| format!("{path} is missing")));
    let (segments, next_segment) =
        find_segments(&disk, options, &known, &missing_segments, without, &mut report)?;
    let wal = WalSet::new(disk.clone(), keys.clone(), capacity);
    let seq = checkpoint.seq()?;
    for (log, records) in core.without_segments(&missing_segments) {
        report
            .damage
            .push(format!("{records} records of `{log}` were in segments that are missing"));
    }
    let made = survey.made;
    let log = replay(&*disk, survey, start, seq, &mut core, &mut report)?;
    let had_been_safe = if start.file > 0 { seq.max(made.safe) } else { 0 };
    if had_been_safe > log.seq {
        report.damage.push(format!(
            "the log ends at transaction {}, and had been safe up to {had_been_safe}: what was in the {} \
             between is lost, but for what the checkpoint keeps of it",
            log.seq,
            had_been_safe - log.seq
        ));
    }
    let was_in = if without { "the checkpoint" } else { "a transaction that is damaged" };
    for (id, records) in core.homeless() {
        report
            .damage
            .push(format!("{records} records of {id} are lost: its definition was in {was_in}"));
    }
    wal.find_spares()?;
    wal.recorded(made);
    for number in log.missing {
        // So that numbers are gapless again.
        wal.prepare(number)?;
    }
    for number in log.stale {
        let path = wal::name(number);
        disk.remove(&path).map_err(|error| failed("cannot remove", &path, error))?;
    }
    let last = log.used.last().map(|file| (file.number, log.end));
    for file in log.used {
        wal.insert(file);
    }
    let (cursor, writer) = begin(&wal, options, start, last, &log.unused)?;
    if start.file == 0 {
        // From here on what is missing is missed.
        start.file = wal.numbers().first().copied().unwrap_or(1);
        checkpoint.store(&Capture { seq, ..Capture::default() }, start)?;
    }
    *core.cursor() = cursor;
    core.recovered(now);
    // What is lost of it was told, and its numbers are given again.
    wal.record_safe(core.seq())?;
    report.seq = core.seq();
    core.begin_life()?;
    report.damage.extend(core.lose_holes());
    let damages = Arc::<Damages>::default();
    report.damage.iter().cloned().for_each(|damage| damages.tell(damage));
    if options.accept_loss {
        manifest::unmark_repair(&*disk)?;
    }
    let files = Files { disk, keys, wal, segments, checkpoint, damages };
    let gone = missing_segments;
    Ok(Found { core, files, writer, next_segment, start, gone, lock, report })
}

/// The tables and the state that they hold, and whether they had to be made anew although a ledger was
/// there.
fn load(
    disk: &Arc<dyn Disk>,
    options: &Options,
    report: &mut Recovered,
) -> Result<(Checkpoint, Core, bool)> {
    let load = || -> Result<(Checkpoint, Core)> {
        if Checkpoint::there(&**disk)? {
            Checkpoint::check(disk, &options.keys)?;
        }
        let checkpoint = Checkpoint::open(disk.clone(), options.keys.clone())?;
        // Its place is known once the files are: nothing is written before.
        let mut core = Core::new(options.clone(), Cursor::new(0, 0, 0), options.keys.encrypt());
        core.load(&checkpoint, checkpoint.seq()?)?;
        Ok((checkpoint, core))
    };
    let cannot = |error| unreadable("cannot list the files of the ledger", "", error);
    let mut without = false;
    if !Checkpoint::there(&**disk)? {
        let log = disk.list(wal::FOLDER).map_err(cannot)?;
        let segments = disk.list(segment::FOLDER).map_err(cannot)?;
        without = !log.is_empty() || !segments.is_empty();
        if without && !options.accept_loss {
            return Err(incomplete(&["checkpoint/tables".to_owned()]));
        }
        if without {
            report.damage.push(GONE.to_owned());
            manifest::mark(&**disk, Copying::Repair)?;
        }
    }
    if options.accept_loss && !options.keys.encrypt() && Checkpoint::there(&**disk)? {
        // Without encryption it holds nothing that cannot be told again.
        report.damage.extend(Checkpoint::mend_header(&**disk)?);
    }
    let loaded = match load() {
        Err(error) if error.reason() == Reason::StorageCorrupt && options.accept_loss => {
            report.damage.push(format!(
                "the checkpoint is damaged, and what was defined is lost: {}",
                error.detail()
            ));
            // Until it is done, nothing starts on what it has begun.
            manifest::mark(&**disk, Copying::Repair)?;
            Checkpoint::set_aside(&**disk)?;
            without = true;
            load()
        }
        Err(error) if error.reason() == Reason::StorageCorrupt => Err(error.note(GO_ON)),
        loaded => loaded,
    };
    loaded.map(|(checkpoint, core)| (checkpoint, core, without))
}

/// What is lost with the checkpoint.
const GONE: &str = "the checkpoint is missing, and with it what was defined";

/// Whether a ledger was in a folder of which nothing is left but its lock, or what was found damaged.
fn had_a_ledger(disk: &dyn Disk) -> Result<bool> {
    match manifest::folders_in_use(disk)?[..] {
        [] => {
            let top = disk.list("").map_err(|error| unreadable("cannot list", "", error))?;
            Ok(top.iter().any(|name| name == "lock"))
        }
        [folder] => Ok(folder == QUARANTINE),
        _ => Ok(false),
    }
}

/// What an operator can do about a loss.
const GO_ON: &str = "put back what is missing, restore a backup, or go on without what is lost: \
                     `weft ledger repair --accept-loss`";

/// The error of a ledger of which files are missing.
fn incomplete(missing: &[String]) -> Error {
    const NAMED_MAX: usize = 10;
    let mut named = missing.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if missing.len() > NAMED_MAX {
        named.push_str(&format!(" and {} more", missing.len() - NAMED_MAX));
    }
    Error::new(Reason::StorageCorrupt, format!("files of the ledger are missing: {named}"))
        .note(GO_ON)
}

/// What has to be there and is not.
pub(crate) fn missing(survey: &wal::Survey, start: LogStart, segments: &[u32]) -> Vec<String> {
    let mut missing: Vec<String> = survey.missing.iter().map(|number| wal::name(*number)).collect();
    if survey.end_unknown && start.file > 0 {
        missing.push(
            "wal/made (without it nothing tells whether later files of wal/ are missing too)"
                .to_owned(),
        );
    }
    missing.extend(segments.iter().map(|number| segment::name(*number)));
    missing
}

/// The place where the log goes on: a file that is ready, a new one, or, on a full disk, the rest of the
/// last one (its number and where it ends).
fn begin(
    wal: &WalSet,
    options: &Options,
    start: LogStart,
    last: Option<(u32, u32)>,
    unused: &[u32],
) -> Result<(Cursor, Writer)> {
    let capacity = u32::try_from(options.wal_file_bytes.0).unwrap_or(u32::MAX);
    let ready = |number: u32| {
        if unused.contains(&number) { wal.prepare_again(number) } else { wal.prepare(number) }
    };
    let missing = || Error::new(Reason::Internal, "a write-ahead file is missing");
    let number = last.map_or(start.file.max(1), |(number, _)| number + 1);
    match ready(number) {
        Err(error) if error.reason() == Reason::StorageFull => {
            let Some((number, end)) = last else { return Err(error) };
            let file = wal.get(number).ok_or_else(missing)?;
            if file.size() != u64::from(capacity) || end >= capacity {
                return Err(error);
            }
            tracing::error!("the disk is full: appends are refused until there is room");
            file.reopen(end)?;
            return Ok((Cursor::resume(number, end, capacity), Writer::resume(file, end)));
        }
        made => made?,
    }
    let file = wal.get(number).ok_or_else(missing)?;
    let mut cursor = Cursor::new(number, capacity, number);
    for ahead in number + 1.. {
        if ahead > number + 1 && !unused.contains(&ahead) {
            break;
        }
        match ready(ahead) {
            Err(error) if error.reason() == Reason::StorageFull => {
                cursor.set_full(true);
                break;
            }
            made => made?,
        }
        cursor.ready(ahead);
    }
    Ok((cursor, Writer::new(file)))
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

/// The segments that the checkpoint knows.
pub(crate) fn segments_known(checkpoint: &Checkpoint) -> Result<Vec<(u32, Sizes)>> {
    let mut known = Vec::new();
    checkpoint.each(Table::Segments, &mut |key, value| {
        let mut reader = Reader::new(value);
        let (Ok(key), Ok(file), Ok(records)) =
            (<[u8; 4]>::try_from(key), reader.varint(), reader.varint())
        else {
            return Err(Error::new(Reason::StorageCorrupt, "the row of a segment is damaged"));
        };
        known.push((u32::from_be_bytes(key), Sizes { file, records }));
        Ok(())
    })?;
    Ok(known)
}

/// Which of them are not there.
pub(crate) fn segments_missing(disk: &dyn Disk, known: &[(u32, Sizes)]) -> Result<Vec<u32>> {
    let names = disk.list(segment::FOLDER);
    let names = names.map_err(|error| unreadable("cannot list", segment::FOLDER, error))?;
    let there: Vec<u32> = names.iter().filter_map(|name| segment::number(name)).collect();
    Ok(known.iter().map(|(number, _)| *number).filter(|number| !there.contains(number)).collect())
}

/// Opens the segments that are known. Others were never finished, or are no longer needed, and are
/// removed; but they are set aside where the checkpoint that knew them is lost.
fn find_segments(
    disk: &Arc<dyn Disk>,
    options: &Options,
    known: &[(u32, Sizes)],
    missing: &[u32],
    without: bool,
    report: &mut Recovered,
) -> Result<(SegmentSet, u32)> {
    let set = SegmentSet::new(disk.clone(), options.keys.clone());
    let cannot = |error| unreadable("cannot list", segment::FOLDER, error);
    let mut next = 1;
    for name in disk.list(segment::FOLDER).map_err(cannot)? {
        let path = format!("{}/{name}", segment::FOLDER);
        let cannot = |error| failed("cannot remove", &path, error);
        match segment::number(&name) {
            Some(number) if known.iter().any(|(known, _)| *known == number) => {
                segment::check(&**disk, number, &options.keys)?;
            }
            number if without => {
                next = next.max(number.unwrap_or_default() + 1);
                let to = format!("{QUARANTINE}/{name}");
                let held = number.and_then(|number| records_in(&**disk, number, options));
                let held =
                    held.map_or_else(|| "what it held".to_owned(), |n| format!("{n} records"));
                report.damage.push(format!(
                    "{path}: {held} that the checkpoint knew of are lost; the file is {to} now"
                ));
                // The folder is made with its first file.
                disk.open(&to, true).and_then(|_| disk.rename(&path, &to)).map_err(cannot)?;
            }
            _ => disk.remove(&path).map_err(cannot)?,
        }
    }
    for &(number, sizes) in known {
        next = next.max(number + 1);
        if !missing.contains(&number) {
            set.insert(number, sizes);
        }
    }
    Ok((set, next))
}

/// How many records a segment holds, if that can be told.
fn records_in(disk: &dyn Disk, number: u32, options: &Options) -> Option<u64> {
    let segment = segment::Segment::open(disk, number, &options.keys).ok()?;
    Some(segment.extents().map(|extent| extent.records).sum())
}

/// What of the log a recovery leaves to go on with.
struct Replayed {
    used: Vec<WalFile>,
    /// Where the last of them ends.
    end: u32,
    /// The last transaction that is there, or of which it was told that it is lost.
    seq: u64,
    missing: Vec<u32>,
    unused: Vec<u32>,
    stale: Vec<u32>,
}

/// Reads all write-ahead files that are needed.
fn replay(
    disk: &dyn Disk,
    survey: wal::Survey,
    start: LogStart,
    checkpoint: u64,
    core: &mut Core,
    report: &mut Recovered,
) -> Result<Replayed> {
    let (mut before, mut end) = (start.before, wal::HEADER_LEN);
    let mut told = start.before;
    for index in 0..survey.used.len() {
        let file = &survey.used[index].file;
        report.damage.extend(survey.faults(index));
        let (mut bytes, scan) = survey.scan(index, before)?;
        for damage in &scan.damage {
            set_aside(disk, file, &bytes, damage, report)?;
            told = told.max(damage.lost.as_ref().map_or(0, |lost| lost.end.saturating_sub(1)));
        }
        for whole in &scan.frames {
            let body = &mut bytes[whole.body.clone()];
            let at = FrameAt { file: file.number, offset: whole.offset };
            match read(file, at.offset, body) {
                Some(entries) => {
                    // A marker repeats the number of what it proves.
                    if !matches!(entries[..], [(Entry::Marker, _)]) {
                        core.replay(whole.seq, &entries, at, whole.seq > checkpoint);
                        report.replayed += 1;
                    }
                }
                None => {
                    let lost = Some(whole.seq..whole.seq + 1);
                    let to = (whole.body.end) as u32;
                    let damage = Damage { bytes: whole.offset..to, lost };
                    let bytes = file.read_all()?;
                    set_aside(disk, file, &bytes, &damage, report)?;
                }
            }
            before = whole.seq;
        }
        file.set_last(before);
        report.torn_bytes += u64::from(scan.torn);
        end = scan.end;
        if index + 1 == survey.used.len() {
            file.close(Closed { end, seq: before })?;
        }
    }
    let wal::Survey { used, missing, unused, stale, .. } = survey;
    let used = used.into_iter().map(|at| at.file).collect();
    Ok(Replayed { used, end, seq: told.max(before), missing, unused, stale })
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
    let found = bytes.get(range).unwrap_or_default();
    if !found.is_empty() {
        quarantine(disk, &format!("wal-{}-{}", file.number, damage.bytes.start), found)?;
    }
    report.damage.push(describe(file.number, damage));
    Ok(())
}

/// Damage to a write-ahead file, in words.
pub(crate) fn describe(file: u32, damage: &Damage) -> String {
    format!(
        "{}: bytes {}..{} had been safe and do not fit their checksums; {}",
        wal::name(file),
        damage.bytes.start,
        damage.bytes.end,
        damage.lost(),
    )
}

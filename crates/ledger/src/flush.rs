//! Write-behind: what lives of a full write-ahead file goes into a segment, the state into the checkpoint, and the file is given free.
//!
//! The order is what makes it safe: the segment is on the disk before anything points to it; the
//! state is captured as of one transaction, which is made durable before the state is stored; only
//! then is a file used again, or a segment removed. A crash in between leaves what was there before.

mod compact;
mod expiry;
mod scrub;

use std::collections::{HashMap, hash_map::Entry};

use weft_kernel::{Error, Reason, Result, Tick};

use crate::{
    checkpoint::{Capture, LogStart, Row, Table},
    core::{Live, Now, shown},
    disk::Disk,
    format::{Image, varint},
    ledger::Shared,
    options::Durability,
    record::LogId,
    segment::{Segment, SegmentWriter, Sizes, Visited},
    service::{Files, LostRecord, Service},
    transaction::{Op, Transaction},
};
use scrub::Scrub;

/// The most bytes of segments that are written anew in one round.
const REWRITE_BYTES_MAX: u64 = 64 << 20;
/// Spare write-ahead files that are kept to be used again. With the file that is written, the two that
/// are ready, those that are kept and the one that is being written behind, that is all of the log.
const SPARES_MAX: usize = 1;
/// What has to be free before a checkpoint is begun: it does not fail half way for want of a page.
const FREE_BYTES_MIN: u64 = 1 << 20;
/// How often retention looks at the logs, and at the ids that they remember.
const RETENTION: std::time::Duration = std::time::Duration::from_secs(5);
/// How long nothing is written before it is on record up to where the log is safe, apart from the log.
const RECORDED: std::time::Duration = std::time::Duration::from_secs(1);
/// How long nothing is written before what memory keeps of the log is let go: who reads it now reads
/// something old. It is before the threads give back what they have freed (`weft_kernel::memory`).
const QUIET: std::time::Duration = std::time::Duration::from_secs(3);
/// How often it is looked what of the segments is dead, which goes through all logs.
const REWRITE: std::time::Duration = std::time::Duration::from_secs(1);

/// What a round works on.
pub(crate) struct House<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) files: &'a Files,
    pub(crate) now: Now,
    pub(crate) service: &'a Service,
}

/// What a segment was written from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The write-ahead log.
    Log,
    /// Another segment.
    Segment(u32),
}

/// What is under way between two checkpoints.
#[derive(Debug)]
pub(crate) struct Flusher {
    next_segment: u32,
    /// Where the write-ahead log begins that is needed once the next checkpoint is stored.
    start: LogStart,
    /// Rows that no checkpoint has yet.
    rows: Vec<Row>,
    /// Maps that were dropped, of which it has entries.
    dropped: Vec<u32>,
    /// Segments that nothing points to once the next checkpoint is stored.
    doomed: Vec<u32>,
    retained: Tick,
    rewritten: Tick,
    /// The last transaction that was seen, and since when.
    quiet: (u64, Tick),
    scrub: Scrub,
}

/// A segment that is being written: removed unless it is kept, for another one is begun the next time.
struct Partial<'a> {
    disk: &'a dyn Disk,
    number: Option<u32>,
}

impl<'a> Partial<'a> {
    fn new(disk: &'a dyn Disk, number: u32) -> Self {
        Self { disk, number: Some(number) }
    }

    fn keep(mut self) {
        self.number = None;
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // What stays all the same is removed by the next start.
            let _ = self.disk.remove(&crate::segment::name(number));
        }
    }
}

/// The row that says that a segment is there.
fn row(number: u32, sizes: Option<Sizes>) -> Row {
    let value = sizes.map(|sizes| {
        let mut value = Vec::new();
        varint::put(&mut value, sizes.file);
        varint::put(&mut value, sizes.records);
        value
    });
    Row { table: Table::Segments, key: number.to_be_bytes().to_vec(), value }
}

impl Flusher {
    /// The next segment gets number `next_segment`; `start` is the first write-ahead file there is.
    /// Segments in `gone` are missing, and no longer known once the next checkpoint is stored.
    pub(crate) fn new(next_segment: u32, start: LogStart, gone: &[u32]) -> Self {
        Self {
            next_segment,
            start,
            rows: gone.iter().map(|number| row(*number, None)).collect(),
            dropped: Vec::new(),
            doomed: Vec::new(),
            retained: Tick::ZERO,
            rewritten: Tick::ZERO,
            quiet: (0, Tick::ZERO),
            scrub: Scrub::default(),
        }
    }

    /// Writes what lives of `file` and of those before it into a segment, stores the state, and gives the files free.
    ///
    /// # Errors
    /// `storage_full` when there is no room: nothing is lost, and it may be tried again.
    pub(crate) fn flush(&mut self, house: &House<'_>, file: u32) -> Result<()> {
        let live = house.shared.core.lock().plan(file);
        if !live.is_empty() {
            self.write_behind(house, &live)?;
        }
        if file >= self.start.file {
            let before = house.files.wal.get(file).map_or(0, |file| file.last());
            self.start = LogStart { file: file + 1, before };
        }
        self.store(house)?;
        for number in house.files.wal.numbers() {
            if number < self.start.file {
                house.files.wal.recycle(number, SPARES_MAX)?;
            }
        }
        Ok(())
    }

    fn write_behind(&mut self, house: &House<'_>, live: &[Live]) -> Result<()> {
        let needed: u64 = live.iter().map(|live| u64::from(live.place.len)).sum();
        room(house, needed)?;
        let mut bytes: HashMap<u32, Vec<u8>> = HashMap::new();
        let number = self.next_segment;
        self.next_segment += 1;
        let partial = Partial::new(&*house.files.disk, number);
        let mut writer = SegmentWriter::create(&*house.files.disk, number, &house.files.keys)?;
        let mut lost = 0;
        for Live { log, position, place } in live {
            let bytes = match bytes.entry(place.file) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(missing) => missing.insert(match house.files.wal.get(place.file) {
                    Some(file) => file.read_plain()?,
                    None => Vec::new(),
                }),
            };
            let from = place.frame as usize + place.record as usize;
            let image = bytes.get(from..from + place.len as usize).unwrap_or_default();
            match Image::checked(image) {
                Ok(found) if (found.log, found.position) == (log.0, *position) => {
                    writer.push(&found, image)?;
                }
                _ => {
                    lost += 1;
                    house.files.set_aside(&format!("wal-{}-{from}", place.file), image);
                    lose(house, *log, *position, "its bytes in the log do not fit their checksum");
                }
            }
        }
        if lost == live.len() {
            return Ok(());
        }
        self.finish(house, writer, number, Source::Log)?;
        partial.keep();
        Ok(())
    }

    /// Ends a segment and lets the core know.
    fn finish(
        &mut self,
        house: &House<'_>,
        writer: SegmentWriter,
        number: u32,
        source: Source,
    ) -> Result<()> {
        let (extents, file) = writer.finish(&*house.files.disk)?;
        let sizes = Sizes { file, records: extents.iter().map(|extent| extent.bytes).sum() };
        house.files.segments.insert(number, sizes);
        self.rows.push(row(number, Some(sizes)));
        let mut core = house.shared.core.lock();
        match source {
            Source::Log => core.moved(number, &extents),
            Source::Segment(old) => core.moved_segment(old, number, &extents),
        }
        Ok(())
    }

    /// Stores everything that has changed since the last time, as of one transaction, and removes what nothing points to any more.
    ///
    /// # Errors
    /// `storage_full` when there is no room: what was to be stored is kept for the next time.
    pub(crate) fn store(&mut self, house: &House<'_>) -> Result<()> {
        if room(house, 0).is_err() {
            // Without it there may still be pages in the tables that are free; if not, nothing is stored.
            house.files.checkpoint.give_reserve();
        }
        let captured = house.shared.core.lock().capture();
        self.rows.extend(captured.rows);
        self.dropped.extend(captured.dropped);
        // What the rows reflect must not be seen after a crash unless it was durable.
        house.service.make_safe()?;
        let doomed = std::mem::take(&mut self.doomed);
        self.rows.extend(doomed.iter().map(|number| row(*number, None)));
        let capture = Capture {
            seq: captured.seq,
            rows: std::mem::take(&mut self.rows),
            maps: captured.maps,
            dropped: std::mem::take(&mut self.dropped),
        };
        match house.files.checkpoint.store(&capture, self.start) {
            Ok(left) => self.dropped = left,
            Err(error) => {
                // What has changed in maps the core has still.
                self.rows = capture.rows;
                self.dropped = capture.dropped;
                self.doomed = doomed;
                return Err(error);
            }
        }
        drop(capture);
        let (stored, wakes) = house.shared.core.lock().stored();
        drop(stored);
        wakes.wake();
        for number in doomed {
            house.files.segments.remove(number)?;
        }
        Ok(())
    }

    /// Whether a checkpoint is due before the next file is full: much has changed in maps, or one was
    /// dropped and has entries still.
    pub(crate) fn due(&self, house: &House<'_>) -> bool {
        !self.dropped.is_empty() || house.shared.core.lock().maps_changed()
    }

    /// Gives space back: what retention says goes, segments that are mostly dead are written anew, one is looked over. Whether anything was done.
    ///
    /// # Errors
    /// As [`Flusher::flush`].
    pub(crate) fn tidy(&mut self, house: &House<'_>) -> Result<bool> {
        let tick = house.now.tick;
        let mut did = false;
        if tick.since(self.retained) >= RETENTION {
            self.retained = tick;
            self.retain(house);
            compact::compact(house);
            did |= house.shared.core.lock().forget_ids(house.now);
        }
        did |= self.rest(house)?;
        did |= expiry::look(house);
        did |= expiry::entries(house);
        if tick.since(self.rewritten) >= REWRITE {
            self.rewritten = tick;
            did |= self.rewrite(house)?;
        }
        self.scrub.step(house);
        Ok(did)
    }

    /// Once nothing more is written, puts on record up to where all is safe, and lets go of what was
    /// written last; whether there was anything to let go of.
    fn rest(&mut self, house: &House<'_>) -> Result<bool> {
        let mut core = house.shared.core.lock();
        let (seq, safe) = (core.seq(), core.safe());
        if seq != self.quiet.0 {
            self.quiet = (seq, house.now.tick);
        }
        let rested = house.now.tick.since(self.quiet.1);
        let let_go = rested >= QUIET && core.recent.clear();
        drop(core);
        if rested >= RECORDED {
            house.files.wal.record_safe(safe)?;
        }
        Ok(let_go)
    }

    fn retain(&self, house: &House<'_>) {
        let mut core = house.shared.core.lock();
        let trims = core.retention(house.now);
        if trims.is_empty() {
            return;
        }
        let mut transaction = Transaction::new(Durability::Os);
        transaction.ops.extend(trims.into_iter().map(|(log, before)| Op::Trim { log, before }));
        // Refused, it is tried again the next time.
        if let Ok((_, wakes)) = core.submit(transaction, &[], house.now) {
            drop(core);
            wakes.wake();
            house.service.kick();
        }
    }

    fn rewrite(&mut self, house: &House<'_>) -> Result<bool> {
        let segments = house.files.segments.all();
        if segments.is_empty() {
            return Ok(false);
        }
        let live: HashMap<u32, u64> = {
            let core = house.shared.core.lock();
            core.dead().into_iter().map(|(segment, _, bytes)| (segment, bytes)).collect()
        };
        let (mut done, mut changed) = (0, false);
        for (number, sizes) in segments {
            if self.doomed.contains(&number) {
                continue;
            }
            match live.get(&number) {
                None => self.doomed.push(number),
                Some(&bytes) if bytes * 2 < sizes.records && done < REWRITE_BYTES_MAX => {
                    done += sizes.file;
                    self.rewrite_one(house, number, bytes)?;
                    self.doomed.push(number);
                }
                Some(_) => continue,
            }
            changed = true;
        }
        if changed {
            self.store(house)?;
        }
        Ok(changed)
    }

    /// Writes what lives of segment `old` into a new one.
    fn rewrite_one(&mut self, house: &House<'_>, old: u32, needed: u64) -> Result<()> {
        room(house, needed)?;
        let plan = house.shared.core.lock().plan_segment(old);
        let segment = house.files.segments.get(old)?;
        let number = self.next_segment;
        self.next_segment += 1;
        let partial = Partial::new(&*house.files.disk, number);
        let mut writer = SegmentWriter::create(&*house.files.disk, number, &house.files.keys)?;
        for (log, runs) in plan {
            for (first, last) in runs {
                self.copy(house, &segment, log, first, last, &mut writer)?;
            }
        }
        self.finish(house, writer, number, Source::Segment(old))?;
        partial.keep();
        Ok(())
    }

    fn copy(
        &mut self,
        house: &House<'_>,
        segment: &Segment,
        log: u32,
        first: u64,
        last: u64,
        writer: &mut SegmentWriter,
    ) -> Result<()> {
        let mut result = Ok(());
        let (mut lost, mut torn) = (Vec::new(), Vec::new());
        segment.visit(log, first, last, u64::MAX, &mut |visited| {
            match visited {
                Visited::Record(image) => {
                    let found = Image::parse(&image).map_err(|error| {
                        Error::new(Reason::StorageCorrupt, "a record is malformed").because(error)
                    });
                    result = found.and_then(|found| writer.push(&found, &image));
                }
                Visited::Lost { position, why } => lost.push((position, why)),
                Visited::Torn(range) => torn.push(range),
            }
            result.is_ok()
        })?;
        torn.into_iter().for_each(|range| house.files.set_segment_aside(segment, range));
        for (position, why) in lost {
            lose(house, LogId(log), position, &why);
        }
        result
    }
}

/// Tells of a record that is damaged, if it is still there.
fn tell(house: &House<'_>, log: LogId, position: u64, why: &str) {
    let name = {
        let core = house.shared.core.lock();
        if !core.is_there(log, position) {
            return;
        }
        core.log(log).map(|log| shown(&log.name)).unwrap_or_default()
    };
    house.files.damages.tell_record(&LostRecord { log, name, position, why: why.to_owned() });
}

/// Tells of a record that is damaged and cannot be carried on, if it is still there, and lets nobody wait
/// for it.
fn lose(house: &House<'_>, log: LogId, position: u64, why: &str) {
    tell(house, log, position, why);
    let mut core = house.shared.core.lock();
    if core.is_there(log, position) {
        core.lose(log, position);
    }
}

/// Fails unless `needed` bytes and some more are free.
fn room(house: &House<'_>, needed: u64) -> Result<()> {
    let free = house
        .files
        .disk
        .free_bytes()
        .map_err(|error| crate::disk::unreadable("cannot ask for the free space", "", error))?;
    if free < needed + FREE_BYTES_MIN {
        return Err(Error::new(Reason::StorageFull, "the disk has no room to write behind"));
    }
    Ok(())
}

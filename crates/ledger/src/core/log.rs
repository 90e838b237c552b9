//! A log: where each of its records is, what it holds, and how far it is visible.

use std::{collections::VecDeque, sync::Arc};

use smallvec::SmallVec;

use super::{dedupe::Dedupe, runs::Runs, times::Times};
use crate::{
    format::Place,
    options::{LogOptions, Storage},
    record::{GroupId, Limits, LogId, Record},
};

/// A run of records in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) log: u32,
    pub(crate) segment: u32,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    /// When the first of them expires; 0 if none does.
    pub(crate) expires_ms: u64,
}

impl Extent {
    /// How many bytes a record of it takes, as far as known without reading it.
    pub(crate) fn average(&self) -> u64 {
        (self.bytes / self.records.max(1)).max(1)
    }

    /// How much is read for one record of it.
    pub(crate) fn one(&self) -> Limits {
        Limits { records: 1, bytes: self.average() }
    }
}

/// Where a record is in the write-ahead log, and what a group must know of it before it reads it;
/// 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    file: u32,
    /// 27 bits of the frame's offset in units of eight, the lower 5 bits of the priority.
    frame: u32,
    /// 28 bits of the image's offset in the frame, whether it has a key, the upper 3 bits of the priority.
    record: u32,
    /// 0 for a hole.
    len: u32,
}

const FRAME_BITS: u32 = 27;
const RECORD_BITS: u32 = 28;
const KEYED: u32 = 1 << RECORD_BITS;
/// How many bits of the priority stand above the frame's offset; the others stand above [`KEYED`].
const LOWER_BITS: u32 = u32::BITS - FRAME_BITS;
const UPPER_AT: u32 = RECORD_BITS + 1;
const UPPER: u32 = 0b111;

impl Slot {
    /// Nothing is there (any more).
    pub(crate) const HOLE: Self = Self { file: 0, frame: 0, record: 0, len: 0 };

    pub(crate) const fn new(place: Place, priority: u8, keyed: bool) -> Self {
        Self {
            file: place.file,
            frame: (place.frame / 8) | ((priority as u32) << FRAME_BITS),
            record: place.record
                | if keyed { KEYED } else { 0 }
                | ((priority as u32) >> LOWER_BITS << UPPER_AT),
            len: place.len,
        }
    }

    pub(crate) const fn place(self) -> Place {
        Place {
            file: self.file,
            frame: (self.frame & ((1 << FRAME_BITS) - 1)) * 8,
            record: self.record & (KEYED - 1),
            len: self.len,
        }
    }

    pub(crate) const fn is_hole(self) -> bool {
        self.len == 0
    }

    pub(crate) const fn priority(self) -> u8 {
        let upper = (self.record >> UPPER_AT) & UPPER;
        ((self.frame >> FRAME_BITS) | (upper << LOWER_BITS)) as u8
    }

    pub(crate) const fn keyed(self) -> bool {
        self.record & KEYED != 0
    }

    pub(crate) const fn len(self) -> u32 {
        self.len
    }

    pub(crate) const fn file(self) -> u32 {
        self.file
    }
}

/// The newest records: those that no segment holds.
#[derive(Debug)]
pub(crate) enum Tail {
    Disk(VecDeque<Slot>),
    Memory(VecDeque<Option<Record>>),
}

/// A log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) id: LogId,
    pub(crate) name: Arc<str>,
    pub(crate) options: LogOptions,
    /// The next position.
    pub(crate) next: u64,
    /// Positions below can be read.
    pub(crate) visible: u64,
    /// Positions below are gone.
    pub(crate) first: u64,
    pub(crate) records: u64,
    /// Bytes of the images; of records in segments an estimate once some of them are gone.
    pub(crate) bytes: u64,
    /// Those of them that cannot be read yet.
    pub(crate) unseen: u64,
    pub(crate) last_ms: u64,
    /// Ascending; where the tail begins they end.
    pub(crate) extents: Vec<Extent>,
    pub(crate) tail_first: u64,
    pub(crate) tail: Tail,
    /// When about the records of the tail were appended, if it is on disk.
    pub(super) times: Times,
    /// Records that were removed from the middle, of a log that no group owns.
    pub(crate) removed: Runs,
    pub(crate) owner: Option<GroupId>,
    pub(crate) groups: SmallVec<[GroupId; 2]>,
    pub(crate) dedupe: Option<Box<Dedupe>>,
    pub(crate) expiring: Option<Box<super::expiring::Expiring>>,
    pub(crate) dirty: bool,
    /// Whether records went to a segment since compaction looked at it.
    pub(crate) moved: bool,
    /// The transaction that is being checked, and what it would append.
    pub(crate) staged: Staged,
    /// The position behind the newest record whose time was over when it was appended: it is for who waits.
    pub(crate) instant: u64,
    /// The newest transaction that has appended here and counts as done once it is synced.
    pub(crate) unsynced: u64,
}

/// What the transaction under check would add.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Staged {
    pub(crate) attempt: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// What is at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At<'a> {
    /// Nothing, up to the given position.
    Hole(u64),
    /// In the write-ahead log.
    Slot(Slot),
    /// In memory.
    Memory(&'a Record),
    /// In a segment.
    Extent(Extent),
}

impl Log {
    /// An empty log.
    pub(crate) fn new(id: LogId, name: Arc<str>, options: LogOptions) -> Self {
        let tail = match options.storage {
            Storage::Disk => Tail::Disk(VecDeque::new()),
            Storage::Memory => Tail::Memory(VecDeque::new()),
        };
        Self {
            id,
            name,
            dedupe: options.dedupe.map(|window| Box::new(Dedupe::new(window))),
            options,
            next: 0,
            visible: 0,
            first: 0,
            records: 0,
            bytes: 0,
            unseen: 0,
            last_ms: 0,
            extents: Vec::new(),
            tail_first: 0,
            tail,
            times: Times::default(),
            removed: Runs::default(),
            owner: None,
            groups: SmallVec::new(),
            expiring: None,
            dirty: true,
            moved: false,
            staged: Staged::default(),
            instant: 0,
            unsynced: 0,
        }
    }

    /// Whether nothing of it is ever written.
    pub(crate) const fn is_memory(&self) -> bool {
        matches!(self.tail, Tail::Memory(_))
    }

    fn tail_len(&self) -> u64 {
        match &self.tail {
            Tail::Disk(slots) => slots.len() as u64,
            Tail::Memory(records) => records.len() as u64,
        }
    }

    /// What is at a position.
    pub(crate) fn at(&self, position: u64) -> At<'_> {
        if position < self.first {
            return At::Hole(self.first);
        }
        if position >= self.tail_first {
            let index = (position - self.tail_first) as usize;
            return match &self.tail {
                Tail::Disk(slots) => match slots.get(index) {
                    Some(slot) if !slot.is_hole() => At::Slot(*slot),
                    Some(_) => At::Hole(position + 1),
                    None => At::Hole(self.next.max(position + 1)),
                },
                Tail::Memory(records) => match records.get(index) {
                    Some(Some(record)) => At::Memory(record),
                    Some(None) => At::Hole(position + 1),
                    None => At::Hole(self.next.max(position + 1)),
                },
            };
        }
        if self.removed.contains(position) {
            return At::Hole(self.removed.next_out(position));
        }
        let index = self.extents.partition_point(|extent| extent.last < position);
        match self.extents.get(index) {
            Some(extent) if extent.first <= position => At::Extent(*extent),
            Some(extent) => At::Hole(extent.first),
            None => At::Hole(self.tail_first),
        }
    }

    /// The bytes of the record at a position as far as known; 0 if not.
    pub(crate) fn size(&self, position: u64) -> u64 {
        match self.at(position) {
            At::Slot(slot) => u64::from(slot.len()),
            At::Memory(record) => (record.key.len() + record.data.len()) as u64,
            At::Extent(extent) => extent.average(),
            At::Hole(_) => 0,
        }
    }

    /// Adds a record that the write-ahead log has.
    pub(crate) fn push(&mut self, slot: Slot, time_ms: u64) {
        if let Tail::Disk(slots) = &mut self.tail {
            slots.push_back(slot);
            self.times.note(self.next, time_ms);
        }
        self.pushed(u64::from(slot.len()), time_ms);
    }

    /// Adds a record that is nowhere but in memory.
    pub(crate) fn push_memory(&mut self, record: Record) {
        let (size, time_ms) = ((record.key.len() + record.data.len()) as u64, record.time_ms);
        if let Tail::Memory(records) = &mut self.tail {
            records.push_back(Some(record));
        }
        self.pushed(size, time_ms);
    }

    fn pushed(&mut self, size: u64, time_ms: u64) {
        self.next += 1;
        self.records += 1;
        self.bytes += size;
        self.unseen += size;
        self.last_ms = time_ms;
        self.dirty = true;
    }

    /// The place of a record that a recovery has found; what lies between is a hole.
    pub(crate) fn place(&mut self, position: u64, slot: Slot, time_ms: u64) {
        let Tail::Disk(slots) = &mut self.tail else { return };
        if position < self.tail_first {
            return;
        }
        let index = (position - self.tail_first) as usize;
        while slots.len() <= index {
            slots.push_back(Slot::HOLE);
        }
        slots[index] = slot;
        self.times.note(position, time_ms);
    }

    /// When about a record was appended, within a second, as far as memory tells; 0 if it does not.
    pub(crate) fn time_near(&self, position: u64) -> u64 {
        match self.at(position) {
            At::Memory(record) => record.time_ms,
            At::Extent(extent) => extent.first_ms,
            At::Slot(_) => self.times.at(position),
            At::Hole(_) => 0,
        }
    }

    /// What is below `end` can be read.
    pub(crate) fn show(&mut self, end: u64) {
        let shown: u64 = (self.visible..end.min(self.next)).map(|at| self.size(at)).sum();
        self.visible = end;
        self.unseen = if end < self.next { self.unseen.saturating_sub(shown) } else { 0 };
    }

    /// Takes a record out of the counts and the tail, if it is there.
    pub(crate) fn drop_record(&mut self, position: u64) {
        self.drop_sized(position, 0);
    }

    /// The same of a record whose bytes are known, if they are not 0: of records in segments only their
    /// sum is.
    pub(crate) fn drop_sized(&mut self, position: u64, known: u32) {
        let size = match self.at(position) {
            At::Hole(_) => return,
            // The last takes with it what the guesses before have left.
            At::Extent(extent) if extent.records <= 1 => extent.bytes,
            At::Extent(extent) if known > 0 => u64::from(known).min(extent.bytes),
            _ => self.size(position),
        };
        if position >= self.visible {
            self.unseen = self.unseen.saturating_sub(size);
        }
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        if self.records == 0 {
            self.bytes = 0;
        }
        self.dirty = true;
        if position >= self.tail_first {
            let index = (position - self.tail_first) as usize;
            match &mut self.tail {
                Tail::Disk(slots) => {
                    if let Some(slot) = slots.get_mut(index) {
                        *slot = Slot::HOLE;
                    }
                }
                Tail::Memory(records) => {
                    if let Some(record) = records.get_mut(index) {
                        *record = None;
                    }
                }
            }
            return;
        }
        let index = self.extents.partition_point(|extent| extent.last < position);
        if let Some(extent) = self.extents.get_mut(index).filter(|at| at.first <= position) {
            extent.bytes = extent.bytes.saturating_sub(size);
            extent.records = extent.records.saturating_sub(1);
        }
    }

    /// Everything below a position is gone: lets go of what was kept of it. The counts were seen to.
    pub(crate) fn advance(&mut self, first: u64) {
        if first <= self.first {
            return;
        }
        self.first = first;
        self.dirty = true;
        let gone = self.extents.partition_point(|extent| extent.last < first);
        self.extents.drain(..gone);
        self.removed.remove_below(first);
        let below = first.min(self.tail_first + self.tail_len()).saturating_sub(self.tail_first);
        if first > self.tail_first {
            match &mut self.tail {
                Tail::Disk(slots) => {
                    slots.drain(..below as usize);
                    shrink(slots);
                }
                Tail::Memory(records) => {
                    records.drain(..below as usize);
                    shrink(records);
                }
            }
            self.tail_first = first.max(self.tail_first + below);
            self.times.advance(self.tail_first);
        }
    }

    /// Removes all records below a position from counts and places.
    pub(crate) fn trim(&mut self, before: u64) {
        let before = before.min(self.next);
        let mut position = self.first;
        while position < before.min(self.tail_first) {
            // Whole extents go by their sums, one that is cut by what is left of it.
            match self.at(position) {
                At::Extent(extent) if extent.last < before && extent.first == position => {
                    self.records = self.records.saturating_sub(extent.records);
                    self.bytes = self.bytes.saturating_sub(extent.bytes);
                    position = extent.last + 1;
                }
                At::Extent(_) => {
                    self.drop_record(position);
                    position += 1;
                }
                At::Hole(next) => position = next,
                At::Slot(_) | At::Memory(_) => break,
            }
        }
        for position in self.tail_first.max(self.first)..before {
            if !matches!(self.at(position), At::Hole(_)) {
                self.drop_record(position);
            }
        }
        self.advance(before);
    }

    /// The first position at or after `from` where a record may be, below `end`.
    pub(crate) fn next_record(&self, from: u64, end: u64) -> Option<u64> {
        let mut position = from;
        while position < end {
            match self.at(position) {
                At::Hole(next) => position = next,
                _ => return Some(position),
            }
        }
        None
    }
}

/// Gives memory back that a burst has taken.
fn shrink<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > 1024 && queue.len() < queue.capacity() / 8 {
        queue.shrink_to(queue.len() * 2);
    } else if queue.is_empty() && queue.capacity() > 64 {
        queue.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_small_and_keeps_what_it_is_given() {
        assert_eq!(size_of::<Slot>(), 16);
        let least = Place { file: 1, frame: 0, record: 0, len: 1 };
        let most = Place {
            file: u32::MAX,
            frame: ((1 << FRAME_BITS) - 1) * 8,
            record: (1 << RECORD_BITS) - 1,
            len: u32::MAX,
        };
        for priority in 0..=u8::MAX {
            for (place, keyed) in [(least, false), (least, true), (most, false), (most, true)] {
                let slot = Slot::new(place, priority, keyed);
                assert_eq!((slot.place(), slot.priority(), slot.keyed()), (place, priority, keyed));
            }
        }
    }
}

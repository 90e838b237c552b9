//! From a checkpoint and the write-ahead log back to the state.
//!
//! The tables of the checkpoint are read first ([`Core::load`]); then every frame that the log still
//! has is replayed in order: of those that the checkpoint reflects only the places of living records,
//! of the later ones everything. [`Core::recovered`] ends it.

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};

use super::{
    Core, Now, Wakes,
    capture::{CORE, MAP_OPTIONS, TIMED},
    dedupe::Chunk,
    group::Retry,
    log::{Extent, Log, Slot, Tail},
    map::WINDOW,
    rows,
};
use crate::{
    checkpoint::{
        Table, Tables,
        maps::{DROPPED, times},
    },
    format::{Entry, Image, Kind, Malformed, Place, RecordAt, varint::Reader},
    options::{MapOptions, Storage},
    record::{GroupId, LogId, MapId, Value},
    wal::FrameAt,
};

fn corrupt(table: Table, error: Malformed) -> Error {
    Error::new(Reason::StorageCorrupt, format!("a row of the table `{}` is damaged", table.word()))
        .because(error)
}

fn id_of(key: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    let (id, rest) = key.split_first_chunk::<4>().ok_or(Malformed("the key of a row"))?;
    Ok((u32::from_be_bytes(*id), rest))
}

fn number_of(key: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let (number, rest) = key.split_first_chunk::<8>().ok_or(Malformed("the key of a row"))?;
    Ok((u64::from_be_bytes(*number), rest))
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_error| Malformed("a name that is not UTF-8"))
}

fn runs(reader: &mut Reader<'_>, mut visit: impl FnMut(u64, u64)) -> Result<(), Malformed> {
    let beyond = Malformed("a position beyond the last");
    let mut at = 0u64;
    while reader.left() > 0 {
        let first = at.checked_add(reader.varint()?).ok_or(beyond)?;
        let last = first.checked_add(reader.varint()?).ok_or(beyond)?;
        visit(first, last);
        at = last;
    }
    Ok(())
}

/// Takes in one row: its key and its value.
type Reading = fn(&mut Core, &[u8], &[u8]) -> Result<(), Malformed>;

impl Core {
    /// Reads the tables of a checkpoint that reflects everything up to `seq`.
    ///
    /// # Errors
    ///
    /// `storage_corrupt` for a row that cannot be read.
    pub(crate) fn load(&mut self, tables: &dyn Tables, seq: u64) -> Result<()> {
        self.seq = seq;
        self.written = seq;
        self.durable = seq;
        if let Some(meta) = tables.get(Table::Meta, CORE)? {
            self.load_meta(&meta).map_err(|error| corrupt(Table::Meta, error))?;
        }
        let mut each = |table, visit: Reading| {
            tables.each(table, &mut |key, value| {
                visit(self, key, value).map_err(|error| corrupt(table, error))
            })
        };
        each(Table::Logs, Self::load_log)?;
        each(Table::Groups, Self::load_group)?;
        each(Table::Exceptions, Self::load_retry)?;
        each(Table::Dedupe, Self::load_chunk)?;
        each(Table::Maps, Self::load_map)?;
        self.load_times(tables)
    }

    fn load_meta(&mut self, meta: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(meta);
        for made in &mut self.made {
            *made = reader.varint32()?;
        }
        self.next_global = reader.varint()?;
        self.tokens.epoch = reader.varint32()?;
        Ok(())
    }

    fn load_log(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let (id, _) = id_of(key)?;
        let mut reader = Reader::new(value);
        let options = rows::read_log(&mut reader)?;
        let name = text(reader.counted()?)?.into();
        let mut log = Log::new(LogId(id), name, options);
        log.next = reader.varint()?;
        log.first = reader.varint()?;
        log.records = reader.varint()?;
        log.bytes = reader.varint()?;
        log.last_ms = reader.varint()?;
        let extents = reader.varint()?;
        for _ in 0..extents {
            log.extents.push(Extent {
                log: id,
                segment: reader.varint32()?,
                first: reader.varint()?,
                last: reader.varint()?,
                records: reader.varint()?,
                bytes: reader.varint()?,
                first_ms: reader.varint()?,
                last_ms: reader.varint()?,
                expires_ms: reader.varint()?,
            });
        }
        runs(&mut reader, |first, last| {
            log.removed.insert_run(first, last);
        })?;
        log.tail_first = log.extents.last().map_or(0, |extent| extent.last + 1).max(log.first);
        log.visible = log.next;
        log.dirty = false;
        self.log_names.insert(log.name.clone(), log.id);
        self.logs.insert(id, Box::new(log));
        Ok(())
    }

    fn load_group(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let (id, _) = id_of(key)?;
        let mut reader = Reader::new(value);
        let options = rows::read_group(&mut reader)?;
        let name = text(reader.counted()?)?.into();
        let low = reader.varint()?;
        if !self.logs.contains_key(&options.log.0) {
            return Err(Malformed("a group over a log that is not there"));
        }
        self.add_group(GroupId(id), name, options, low);
        let Some(queue) = self.queues.get_mut(&id) else { return Ok(()) };
        let mut done = Vec::new();
        runs(&mut reader, |first, last| done.push((first, last)))?;
        queue.group.settle_runs(&done);
        queue.group.dirty = false;
        Ok(())
    }

    fn load_retry(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let (id, rest) = id_of(key)?;
        let (position, _) = number_of(rest)?;
        let mut reader = Reader::new(value);
        let retry = Retry {
            due_ms: reader.varint()?,
            failures: reader.varint32()?,
            handouts: reader.varint32()?,
            note: Bytes::copy_from_slice(reader.bytes(reader.left())?),
            size: 0,
        };
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.group.restore_retry(position, retry);
        }
        Ok(())
    }

    fn load_chunk(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let (id, rest) = id_of(key)?;
        let (generation, rest) = number_of(rest)?;
        let (number, _) = id_of(rest)?;
        let mut reader = Reader::new(value);
        let began = reader.varint()?;
        let (began_ms, timed) = (began & !TIMED, began & TIMED != 0);
        let Some(dedupe) = self.logs.get_mut(&id).and_then(|log| log.dedupe.as_mut()) else {
            return Ok(());
        };
        let mut ids = Vec::with_capacity(reader.left() / 24);
        while reader.left() > 0 {
            let (id, position) = (u128::from_le_bytes(reader.array()?), reader.u64()?);
            let late_ms = if timed { reader.varint()? } else { dedupe.window_ms() };
            ids.push((id, position, began_ms.saturating_add(late_ms)));
        }
        dedupe.restore(Chunk { generation, number, began_ms, ids });
        Ok(())
    }

    fn load_map(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let (id, rest) = id_of(key)?;
        if rest == DROPPED {
            self.gone.map(id);
            return Ok(());
        }
        match self.maps.get(&id).filter(|_| rest == MAP_OPTIONS) {
            Some(map) => {
                let (name, options) = (map.name.clone(), rows::read_map(value)?);
                self.add_map(MapId(id), name, options);
            }
            None if rest.is_empty() => {
                self.add_map(MapId(id), text(value)?.into(), MapOptions::default());
            }
            None => return Err(Malformed("options of a map that is not there")),
        }
        if let Some(map) = self.maps.get_mut(&id) {
            map.dirty = false;
            map.stored = true;
        }
        Ok(())
    }

    /// Reads of each map what is due first. Its entries stay where they are.
    fn load_times(&mut self, tables: &dyn Tables) -> Result<()> {
        for (&id, map) in &mut self.maps {
            let times = times(tables, id, None, WINDOW)?;
            if !times.is_empty() && map.timers.is_none() {
                self.expiring.insert(id);
            }
            map.refill(None, times);
        }
        Ok(())
    }

    /// Replays one frame: everything that it did, or (`full` false) only where its records are.
    pub(crate) fn replay(
        &mut self,
        seq: u64,
        entries: &[(Entry<'_>, RecordAt)],
        at: FrameAt,
        full: bool,
    ) {
        for (entry, record) in entries {
            if let Entry::Append(image) = entry {
                let place = Place {
                    file: at.file,
                    frame: at.offset,
                    record: record.record,
                    len: record.len,
                };
                let slot = Slot::new(place, image.priority, !image.key.is_empty());
                if full {
                    self.replay_append(image, slot);
                } else {
                    self.replay_place(image, slot);
                }
            } else if full {
                self.replay_entry(entry, seq);
            }
        }
        if full {
            self.seq = self.seq.max(seq);
            self.written = self.seq;
            self.durable = self.seq;
        }
    }

    /// Whether a record of a log is still wanted.
    pub(super) fn lives(&self, log: &Log, position: u64) -> bool {
        let owner = log.owner.and_then(|owner| self.queues.get(&owner.0));
        position >= log.first
            && position < log.next
            && !log.removed.contains(position)
            && !owner.is_some_and(|queue| queue.group.settled(position))
    }

    fn replay_place(&mut self, image: &Image<'_>, slot: Slot) {
        let Some(log) = self.logs.get(&image.log) else { return };
        if !self.lives(log, image.position) {
            return;
        }
        if let Some(log) = self.logs.get_mut(&image.log) {
            log.place(image.position, slot, image.time_ms);
            self.note_expiry(image);
        }
    }

    fn replay_append(&mut self, image: &Image<'_>, slot: Slot) {
        let Some(log) = self.logs.get_mut(&image.log) else {
            // The definition was in a transaction that is damaged.
            *self.homeless.entry(image.log).or_default() += 1;
            return;
        };
        if image.position < log.next {
            return;
        }
        // What a damaged frame had between is lost: positions without a record.
        log.fill(image.position);
        log.push(slot, image.time_ms);
        log.show(log.next);
        if let (Some(id), Some(dedupe)) = (image.dedupe, &mut log.dedupe) {
            dedupe.insert(id, image.position, image.time_ms);
        }
        if let Some(global) = image.global {
            self.next_global = self.next_global.max(global + 1);
        }
        self.note_expiry(image);
    }

    fn replay_entry(&mut self, entry: &Entry<'_>, seq: u64) {
        match *entry {
            Entry::Append(_) | Entry::Marker => {}
            Entry::Trim { log, before } => {
                self.existed(LogId(log), before);
                self.trimmed(LogId(log), before);
            }
            Entry::Remove { log, positions } => {
                for (first, last) in positions.runs() {
                    self.existed(LogId(log), last + 1);
                    self.removed(LogId(log), first, last);
                }
            }
            Entry::Settled { group, positions } => self.replay_settled(group, positions.runs()),
            Entry::Retry { group, position, due_ms, failures, handouts, note } => {
                self.existed_for(group, position + 1);
                if let Some(queue) = self.queues.get_mut(&group) {
                    let note = Bytes::copy_from_slice(note);
                    let retry = Retry { due_ms, failures, handouts, note, size: 0 };
                    queue.group.restore_retry(position, retry);
                    queue.group.touch_retry(position);
                }
            }
            Entry::Seek { group, to } => {
                self.existed_for(group, to);
                self.sought(GroupId(group), to);
            }
            Entry::Put { map: id, key, value, expires_ms } => {
                let key = Bytes::copy_from_slice(key);
                let data = Bytes::copy_from_slice(value);
                self.put_entry(id, key, Value { data, version: seq, expires_ms });
            }
            Entry::Delete { map, key } => {
                self.delete_entry(map, &Bytes::copy_from_slice(key), seq);
            }
            Entry::Define { kind, id, name, options } => {
                self.replay_define(kind, id, name, options)
            }
            Entry::Drop { kind, id } => match kind {
                Kind::Log => self.dropped_log(LogId(id), &mut Wakes::default()),
                Kind::Group => self.dropped_group(GroupId(id), &mut Wakes::default()),
                Kind::Map => self.dropped_map(MapId(id)),
            },
            Entry::Alter { kind, id, options } => {
                let mut reader = Reader::new(options);
                match kind {
                    Kind::Log => {
                        if let Ok(options) = rows::read_log(&mut reader) {
                            self.altered_log(LogId(id), options);
                        }
                    }
                    Kind::Group => {
                        if let Ok(options) = rows::read_group(&mut reader) {
                            self.altered_group(GroupId(id), options);
                        }
                    }
                    Kind::Map => {}
                }
            }
            Entry::Epoch(epoch) => self.tokens.epoch = self.tokens.epoch.max(epoch),
        }
    }

    /// An entry names positions below `end`: they were there, even if the frame that appended them is
    /// damaged, and must not be given to other records.
    fn existed(&mut self, id: LogId, end: u64) {
        if let Some(log) = self.logs.get_mut(&id.0).filter(|log| log.next < end) {
            log.fill(end);
        }
    }

    fn existed_for(&mut self, group: u32, end: u64) {
        if let Some(log) = self.queues.get(&group).map(|queue| queue.group.options.log) {
            self.existed(log, end);
        }
    }

    fn replay_settled(&mut self, id: u32, settled: impl Iterator<Item = (u64, u64)>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(log) = self.logs.get_mut(&queue.group.options.log.0) else { return };
        let owner = queue.group.options.owner;
        for (first, last) in settled {
            if last >= log.next {
                log.fill(last + 1);
            }
            if owner {
                let mut at = first;
                while let Some(position) = log.next_record(at, last + 1) {
                    if !queue.group.settled(position) {
                        log.drop_record(position);
                    }
                    at = position + 1;
                }
            }
            queue.group.settle_runs(&[(first, last)]);
        }
        if owner {
            log.advance(queue.group.low());
        }
    }

    fn replay_define(&mut self, kind: Kind, id: u32, name: &[u8], options: &[u8]) {
        // A frame's checksum vouches for what it holds: what cannot be read is of another version,
        // which the file's header has ruled out.
        let Ok(name) = text(name) else { return };
        let mut reader = Reader::new(options);
        let made = &mut self.made[match kind {
            Kind::Log => 0,
            Kind::Group => 1,
            Kind::Map => 2,
        }];
        *made = (*made).max(id + 1);
        match kind {
            Kind::Log => {
                if let Ok(options) = rows::read_log(&mut reader) {
                    self.add_log(LogId(id), name.into(), options);
                }
            }
            Kind::Group => {
                if let Ok(options) = rows::read_group(&mut reader) {
                    self.add_group(GroupId(id), name.into(), options, 0);
                }
            }
            Kind::Map => {
                if let Ok(options) = rows::read_map(options) {
                    self.add_map(MapId(id), name.into(), options);
                }
            }
        }
    }

    /// Records that were replayed of logs that nothing defines: (log, how many).
    pub(crate) fn homeless(&mut self) -> Vec<(LogId, u64)> {
        std::mem::take(&mut self.homeless)
            .into_iter()
            .map(|(id, count)| (LogId(id), count))
            .collect()
    }

    /// Ends a recovery: everything is visible, and what waits for its time is entered.
    pub(crate) fn recovered(&mut self, now: Now) {
        for log in self.logs.values_mut() {
            debug_assert!(log.options.storage == Storage::Disk, "memory is not recovered");
            log.fill(log.next);
            log.show(log.next);
        }
        for log in self.logs.values().filter(|log| log.owner.is_some()) {
            let expire = log.extents.iter().filter(|extent| extent.expires_ms != 0);
            self.unseen.extend(expire.map(|extent| (log.id, extent.first, extent.last)));
        }
        let ids: Vec<u32> = self.queues.keys().copied().collect();
        for id in ids {
            if let Some(queue) = self.queues.get_mut(&id) {
                if let Some(log) = self.logs.get(&queue.group.options.log.0) {
                    queue.group.measure(|position| log.size(position));
                }
                queue.group.wake_due(now, u64::MAX);
            }
            self.arm_group(id, now, &mut Wakes::default());
        }
    }

    /// Begins a new life: tokens of the former ones do not fit. Not to be used before the transaction
    /// of the number is durable.
    ///
    /// # Errors
    ///
    /// As for a transaction.
    pub(crate) fn begin_life(&mut self) -> Result<u64> {
        let epoch = self.tokens.epoch + 1;
        let seq = self.write_definition(|frame| frame.epoch(epoch))?;
        self.tokens.epoch = epoch;
        Ok(seq)
    }
}

impl Log {
    /// Lets go of places below a position, and of holes behind them.
    pub(super) fn let_go(&mut self, before: u64) {
        let Tail::Disk(slots) = &mut self.tail else { return };
        while let Some(slot) = slots.front()
            && (slot.is_hole() || self.tail_first < before)
        {
            slots.pop_front();
            self.tail_first += 1;
        }
        self.times.advance(self.tail_first);
    }

    /// Makes the tail reach up to a position, with holes; the log goes on there.
    pub(super) fn fill(&mut self, position: u64) {
        if let Tail::Disk(slots) = &mut self.tail {
            while slots.front().is_some_and(|slot| slot.is_hole()) {
                slots.pop_front();
                self.tail_first += 1;
            }
            if slots.is_empty() {
                self.tail_first = position.max(self.tail_first);
            }
            while self.tail_first + (slots.len() as u64) < position {
                slots.push_back(Slot::HOLE);
            }
        }
        self.next = self.next.max(position);
    }
}

//! Applying a transaction that was checked, and encoding it as it is applied; neither can fail.

use weft_kernel::{Error, Reason};

use super::{
    Core, Now, Wakes, check::Checked, expiring::Expiring, log::Slot, progress::PendingBytes,
};
use crate::{
    format::{FrameWriter, NewImage, Place, frame, payload_crc},
    options::Durability,
    record::{GroupId, LogId, Record, Value},
    transaction::{Appended, Due, NewRecord, Op, Receipt, Refused, Seen, Settle, Transaction},
    wal::{self, FrameAt},
};

/// What is under way while a transaction is applied.
struct Writing<'a> {
    frame: Option<FrameWriter<'a>>,
    at: FrameAt,
    seq: u64,
    level: Durability,
    now: Now,
    receipt: Receipt,
    /// Runs of the group that is being settled, not written yet.
    settled: (u32, Vec<(u64, u64)>),
    /// Groups that may have become ready or wait for another time.
    touched: Vec<u32>,
    wakes: Wakes,
}

impl Writing<'_> {
    fn touch(&mut self, group: u32) {
        if self.touched.last() != Some(&group) {
            self.touched.push(group);
        }
    }

    fn done(&mut self, group: u32, position: u64) {
        if self.settled.0 != group {
            self.flush();
            self.settled.0 = group;
        }
        match self.settled.1.last_mut() {
            Some((_, last)) if *last + 1 == position => *last = position,
            Some((_, last)) if *last >= position => {
                self.flush();
                self.settled.1.push((position, position));
            }
            _ => self.settled.1.push((position, position)),
        }
    }

    fn flush(&mut self) {
        if let Some(frame) = &mut self.frame
            && !self.settled.1.is_empty()
        {
            frame.settled(self.settled.0, &self.settled.1);
        }
        self.settled.1.clear();
    }
}

/// Whether a record was over from the first moment on: for nobody but who waits.
pub(crate) const fn is_instant(time_ms: u64, due_ms: u64, expires_ms: u64) -> bool {
    expires_ms != 0 && due_ms <= time_ms && expires_ms <= time_ms
}

impl Core {
    /// Checks, applies and encodes a transaction. `crcs` has [`payload_crc`] of each append, so that
    /// it is not computed under the lock.
    pub(crate) fn submit(
        &mut self,
        transaction: Transaction,
        crcs: &[u32],
        now: Now,
    ) -> Result<(Receipt, Wakes), Refused> {
        self.refuse_if_ended()?;
        let checked = self.check(&transaction, now).inspect_err(|_| self.stats.refused += 1)?;
        let at = if checked.writes { self.reserve(&checked)? } else { None };
        // What is only in memory is done at once.
        let level = if checked.writes { transaction.durability } else { Durability::Memory };
        self.seq += u64::from(checked.writes);
        let receipt = Receipt {
            seq: self.seq,
            durability: level,
            seen: Seen::default(),
            appended: smallvec::SmallVec::new(),
            purged: 0,
        };
        let (at, upper) = at.unwrap_or((FrameAt { file: 0, offset: 0 }, 0));
        let mut buffer = self.pending.back_mut().map(|back| std::mem::take(&mut back.bytes));
        let begun = buffer.as_ref().map_or(0, Vec::len);
        let frame = match &mut buffer {
            Some(buffer) if checked.writes => Some(FrameWriter::begin(buffer, self.seq, self.tag)),
            _ => None,
        };
        let mut writing = Writing {
            frame,
            at,
            seq: self.seq,
            level,
            now,
            receipt,
            settled: (0, Vec::new()),
            touched: Vec::new(),
            wakes: Wakes::default(),
        };
        let mut crcs = crcs.iter().copied();
        for op in transaction.ops {
            self.apply(op, &mut crcs, &mut writing);
        }
        writing.flush();
        let Writing { frame, receipt, touched, mut wakes, .. } = writing;
        if let Some(frame) = frame {
            let size = frame.finish();
            self.cursor.give_back((upper - size) as u32);
            self.pending_bytes += size;
        }
        if let (Some(back), Some(buffer)) = (self.pending.back_mut(), buffer) {
            debug_assert!(buffer.len() >= begun, "a buffer only grows");
            back.bytes = buffer;
            if checked.writes {
                back.last_seq = self.seq;
                back.level = back.level.max(level);
            }
        }
        self.stats.transactions += 1;
        for group in touched {
            self.rouse(group, now, &mut wakes);
        }
        Ok((receipt, wakes))
    }

    /// Takes room for the frame: where it goes, and the bytes that were taken.
    pub(super) fn reserve(
        &mut self,
        checked: &Checked,
    ) -> Result<Option<(FrameAt, usize)>, Refused> {
        if self.pending_bytes > self.options.pending_bytes_max.as_usize() {
            let say = "more waits to be written than may wait";
            return Err(Error::new(Reason::StorageBusy, say).into());
        }
        if checked.puts && self.maps_full() {
            let (reason, say) = if self.cursor.is_full() {
                (Reason::StorageFull, "the disk has no room for more")
            } else {
                (Reason::StorageBusy, "more entries of maps wait for a checkpoint than may wait")
            };
            return Err(Error::new(reason, say).into());
        }
        let upper = frame::padded(checked.bytes + frame::TAG);
        let purpose = match (checked.appends, checked.puts) {
            (true, _) => wal::Purpose::Append,
            (false, true) => wal::Purpose::Put,
            (false, false) => wal::Purpose::Essential,
        };
        let reserved = self.cursor.reserve(upper, purpose);
        self.busy |= reserved == Err(wal::Refused::Busy);
        let at = reserved.map_err(|refused| {
            let (reason, say) = match refused {
                wal::Refused::Busy => (Reason::StorageBusy, "the next file is not ready yet"),
                wal::Refused::Full => (Reason::StorageFull, "the disk has no room for more"),
                wal::Refused::Short => {
                    (Reason::StorageUnavailable, "the next log file cannot be made for now")
                }
                wal::Refused::TooLarge => {
                    (Reason::MessageTooLarge, "the transaction is larger than a write-ahead file")
                }
            };
            Refused::from(Error::new(reason, say))
        })?;
        if self.pending.back().is_none_or(|back| back.file != at.file) {
            self.pending.push_back(PendingBytes::new(at, self.group_bytes));
        }
        Ok(Some((at, upper)))
    }

    fn apply(&mut self, op: Op, crcs: &mut impl Iterator<Item = u32>, writing: &mut Writing<'_>) {
        if !matches!(op, Op::Settle { how: Settle::Done, .. }) {
            writing.flush();
        }
        match op {
            Op::Append { log, record, .. } => {
                let crc = crcs.next().unwrap_or_else(|| payload_crc(&record.key, &record.data));
                self.append(log, record, crc, writing);
            }
            Op::Trim { log, before } => self.trim(log, before, writing),
            Op::Remove { log, position, .. } => self.remove(log, position, writing),
            Op::Settle { group, position, how, .. } => {
                self.settle(group, position, how, writing);
            }
            Op::Discard { group, position, .. } => self.discard(group, position, writing),
            Op::Seek { group, to } => self.seek(group, to, writing),
            Op::Purge { group } => self.purge(group, writing),
            Op::Put { map: id, key, value, expires_ms, .. } => {
                let Some(map) = self.maps.get(&id.0) else { return };
                if let Some(frame) = &mut writing.frame {
                    frame.put_value(id.0, &key, &value, expires_ms);
                }
                let space = map.space;
                self.put_entry(id.0, key, Value { data: value, version: writing.seq, expires_ms });
                if let Some(at) = self.maps.get(&id.0).and_then(|map| map.next_timer(writing.now)) {
                    writing.wakes.push(self.spaces.get(space).tell(at));
                }
            }
            Op::Delete { map: id, key, .. } => {
                if let Some(frame) = &mut writing.frame {
                    frame.delete(id.0, &key);
                }
                self.delete_entry(id.0, &key, writing.seq);
            }
        }
    }

    fn append(&mut self, id: LogId, record: NewRecord, crc: u32, writing: &mut Writing<'_>) {
        let Some(log) = self.logs.get_mut(&id.0) else { return };
        if let (Some(dedupe), Some(dedupe_id)) = (&log.dedupe, record.dedupe)
            && let Some(position) = dedupe.find(dedupe_id, writing.now.wall_ms)
        {
            self.stats.duplicates += 1;
            writing.receipt.appended.push(Appended { position, duplicate: true });
            return;
        }
        let position = log.next;
        // Times ascend within a log, whatever the wall clock does.
        let time_ms = writing.now.wall_ms.max(log.last_ms);
        let global = log.options.ordered.then_some(self.next_global);
        self.next_global += u64::from(log.options.ordered);
        if let (Some(dedupe), Some(dedupe_id)) = (&mut log.dedupe, record.dedupe) {
            dedupe.insert(dedupe_id, position, writing.now.wall_ms);
        }
        writing.receipt.appended.push(Appended { position, duplicate: false });
        self.stats.appended += 1;
        let NewRecord { key, data, due_ms, expires_ms, priority, dedupe } = record;
        let instant = is_instant(time_ms, due_ms, expires_ms);
        if instant {
            log.instant = position + 1;
        }
        match (&mut writing.frame, log.is_memory()) {
            (Some(frame), false) => {
                let image = NewImage {
                    log: id.0,
                    position,
                    time_ms,
                    due_ms,
                    expires_ms,
                    priority,
                    dedupe,
                    global,
                    key: &key,
                    data: &data,
                    payload_crc: crc,
                };
                let at = frame.append(&image);
                let place = Place {
                    file: writing.at.file,
                    frame: writing.at.offset,
                    record: at.record,
                    len: at.len,
                };
                log.push(Slot::new(place, priority, !key.is_empty()), time_ms);
                let seen = self.visible.appended(log, writing.seq, writing.level, self.durable);
                writing.receipt.seen = writing.receipt.seen.and(seen);
            }
            _ => {
                log.push_memory(Record {
                    log: id,
                    position,
                    time_ms,
                    key,
                    data,
                    due_ms,
                    expires_ms,
                    priority,
                    global,
                });
                log.show(log.next);
                for group in &log.groups {
                    if instant && let Some(queue) = self.queues.get_mut(&group.0) {
                        queue.group.offer(position, position + 1, writing.now);
                    }
                    writing.touch(group.0);
                }
            }
        }
        let Some(owner) = log.owner.filter(|_| due_ms != 0 || expires_ms != 0) else { return };
        let Some(queue) = self.queues.get_mut(&owner.0) else { return };
        if due_ms > writing.now.wall_ms {
            let size = u32::try_from(log.size(position)).unwrap_or(u32::MAX);
            queue.group.delay(position, due_ms, priority, size);
        }
        if expires_ms != 0 {
            let group = &queue.group;
            let expiring = log.expiring.get_or_insert_with(Box::<Expiring>::default);
            expiring.insert(expires_ms, position, log.records, |at| !group.settled(at));
        }
        writing.touch(owner.0);
    }

    fn settle(&mut self, id: GroupId, position: u64, how: Settle, writing: &mut Writing<'_>) {
        let Some(queue) = self.queues.get_mut(&id.0) else { return };
        match how {
            Settle::Done => {
                let size = queue.group.size(position);
                queue.group.settle_done(position);
                if queue.group.options.owner
                    && let Some(log) = self.logs.get_mut(&queue.group.options.log.0)
                {
                    log.drop_sized(position, size);
                    log.advance(queue.group.low());
                }
                if !queue.memory {
                    writing.done(id.0, position);
                }
            }
            Settle::Retry { due, failed, note } => {
                let delayed = !matches!(due, Due::Now);
                let Some(retry) = queue.group.retry_lease(position, due, failed, note, writing.now)
                else {
                    return;
                };
                if let Some(frame) = &mut writing.frame
                    && !queue.memory
                {
                    frame.retry(
                        id.0,
                        position,
                        if delayed { retry.due_ms } else { 0 },
                        retry.failures,
                        retry.handouts,
                        &retry.note,
                    );
                }
            }
        }
        writing.touch(id.0);
    }

    fn discard(&mut self, id: GroupId, position: u64, writing: &mut Writing<'_>) {
        let Some(queue) = self.queues.get_mut(&id.0) else { return };
        let size = queue.group.size(position);
        if !queue.group.remove(position) {
            return;
        }
        if queue.group.options.owner
            && let Some(log) = self.logs.get_mut(&queue.group.options.log.0)
        {
            log.drop_sized(position, size);
            log.advance(queue.group.low());
        }
        if let Some(frame) = &mut writing.frame
            && !queue.memory
        {
            frame.settled(id.0, &[(position, position)]);
        }
        writing.touch(id.0);
    }

    fn trim(&mut self, id: LogId, before: u64, writing: &mut Writing<'_>) {
        let Some(log) = self.logs.get_mut(&id.0) else { return };
        let before = before.min(log.next);
        if before <= log.first {
            return;
        }
        if let Some(frame) = &mut writing.frame
            && !log.is_memory()
        {
            frame.trim(id.0, before);
        }
        let groups = log.groups.clone();
        self.trimmed(id, before);
        groups.iter().for_each(|group| writing.touch(group.0));
    }

    /// What a trim does to a log and its groups; also at a replay.
    pub(super) fn trimmed(&mut self, id: LogId, before: u64) {
        let Some(log) = self.logs.get_mut(&id.0) else { return };
        let before = before.min(log.next);
        log.trim(before);
        for group in log.groups.clone() {
            if let Some(queue) = self.queues.get_mut(&group.0) {
                queue.group.trim(before);
                if queue.group.options.owner
                    && let Some(log) = self.logs.get_mut(&id.0)
                {
                    log.advance(queue.group.low());
                }
            }
        }
    }

    fn remove(&mut self, id: LogId, position: u64, writing: &mut Writing<'_>) {
        let Some(log) = self.logs.get(&id.0) else { return };
        if position >= log.next || matches!(log.at(position), super::log::At::Hole(_)) {
            return;
        }
        if let Some(frame) = &mut writing.frame
            && !log.is_memory()
        {
            frame.remove(id.0, &[(position, position)]);
        }
        if let Some(owner) = log.owner {
            writing.touch(owner.0);
        }
        self.removed(id, position, position);
    }

    /// What the removal of a run does to a log and its owner; also at a replay.
    pub(super) fn removed(&mut self, id: LogId, first: u64, last: u64) {
        let Some(log) = self.logs.get_mut(&id.0) else { return };
        let mut queue = log.owner.and_then(|owner| self.queues.get_mut(&owner.0));
        let mut at = first;
        while let Some(position) = log.next_record(at, (last + 1).min(log.next)) {
            at = position + 1;
            // A segment does not know what was settled of it.
            if queue.as_ref().is_some_and(|queue| queue.group.settled(position)) {
                continue;
            }
            log.drop_record(position);
            if queue.is_none() {
                log.removed.insert(position);
            }
        }
        let Some(queue) = &mut queue else { return };
        queue.group.settle_runs(&[(first, last)]);
        log.advance(queue.group.low());
    }

    fn seek(&mut self, id: GroupId, to: u64, writing: &mut Writing<'_>) {
        let Some(to) = self.sought(id, to) else { return };
        let memory = self.queues.get(&id.0).is_none_or(|queue| queue.memory);
        if let Some(frame) = &mut writing.frame
            && !memory
        {
            frame.seek(id.0, to);
        }
        writing.touch(id.0);
    }

    /// What a seek does to a group and, if it owns it, its log; also at a replay. Where it came to be.
    pub(super) fn sought(&mut self, id: GroupId, to: u64) -> Option<u64> {
        let queue = self.queues.get_mut(&id.0)?;
        let log = self.logs.get_mut(&queue.group.options.log.0)?;
        let to = to.clamp(log.first, log.next.max(log.first));
        queue.loaded = None;
        if queue.group.options.owner {
            // What was settled out of order is gone from the log: it must not come back.
            let done = queue.group.done().clone();
            let to = to.max(queue.group.low());
            log.trim(to);
            queue.group.seek(to);
            let runs: Vec<(u64, u64)> = done.iter().filter(|(_, last)| *last >= to).collect();
            queue.group.settle_runs(&runs);
            log.advance(queue.group.low());
            return Some(to);
        }
        queue.group.seek(to);
        Some(to)
    }

    fn purge(&mut self, id: GroupId, writing: &mut Writing<'_>) {
        let Some(queue) = self.queues.get_mut(&id.0) else { return };
        let Some(log) = self.logs.get_mut(&queue.group.options.log.0) else { return };
        let runs = queue.group.purge(log.visible);
        if runs.is_empty() {
            return;
        }
        if let Some(frame) = &mut writing.frame
            && !queue.memory
        {
            frame.settled(id.0, &runs);
        }
        for (first, last) in runs {
            let mut at = first;
            while let Some(position) = log.next_record(at, last + 1) {
                writing.receipt.purged += 1;
                if queue.group.options.owner {
                    log.drop_record(position);
                }
                at = position + 1;
            }
        }
        if queue.group.options.owner {
            log.advance(queue.group.low());
        }
        writing.touch(id.0);
    }
}

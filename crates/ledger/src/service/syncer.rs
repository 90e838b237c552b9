//! The writer: takes what has gathered, writes it with one call, syncs it, and tells the core.

use std::{sync::atomic::Ordering, time::Instant};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result, SystemClock, memory::Spare};

use super::{IDLE, KEEP, LONG, Service, Writing};
use crate::{
    core::WriteGroup,
    format::{FrameWriter, frame},
    options::Durability,
    wal::Purpose,
};

impl Service {
    /// Writes and syncs until it is told to stop.
    pub(super) fn run_syncer(&self) {
        // Since when something is written and not safe. Records that are behind one that is to be safe
        // are not seen before it is, so that it must not wait for a moment without work.
        let mut unsafe_since = None;
        let mut spare = Spare::default();
        loop {
            self.pulses.syncer.beat();
            while self.sync_step() {
                spare.worked(SystemClock::tick());
                self.pulses.syncer.beat();
                unsafe_since = self.sync_what_waits(unsafe_since);
            }
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
            let idle = match (self.holds_back(), self.unproven()) {
                (true, _) => KEEP,
                (false, true) => IDLE,
                (false, false) => LONG,
            };
            self.pulses.syncer.rest();
            let told = self.work.wait(spare.sleep(idle));
            self.pulses.syncer.beat();
            spare.look(SystemClock::tick());
            if !told {
                self.idle_step();
            }
        }
    }

    /// Syncs what was written and waits for its sync longer than [`IDLE`]; since when something waits.
    fn sync_what_waits(&self, since: Option<Instant>) -> Option<Instant> {
        // The guard ends here: the sync below takes the lock again.
        let unsynced = self.writing.lock().writer.unsynced();
        if !unsynced {
            return None;
        }
        let since = since.unwrap_or_else(Instant::now);
        if since.elapsed() < IDLE {
            return Some(since);
        }
        self.sync_rest();
        None
    }

    fn unproven(&self) -> bool {
        let writing = self.writing.lock();
        writing.unproven || writing.writer.unsynced()
    }

    /// Writes one group, and syncs it if any of its transactions asks for that; whether there was one.
    pub(super) fn sync_step(&self) -> bool {
        let mut writing = self.writing.lock();
        let group = match writing.held.take() {
            Some(group) => group,
            None => {
                let taken = {
                    let mut core = self.shared.core.lock();
                    if core.ended().is_some() { None } else { core.take_group() }
                };
                let Some((group, wakes)) = taken else { return false };
                wakes.wake();
                group
            }
        };
        if let Err((error, group)) = self.put(&mut writing, group) {
            if error.reason() == Reason::StorageFull {
                // It may be written again, and nothing before it.
                writing.held = group;
                drop(writing);
                self.set_full(true);
                return false;
            }
            drop(writing);
            self.poison(&error);
        }
        true
    }

    /// Writes a group at its place.
    ///
    /// # Errors
    /// What the disk says, with the group if it can be written again.
    fn put(
        &self,
        writing: &mut Writing,
        group: WriteGroup,
    ) -> std::result::Result<(), (Error, Option<WriteGroup>)> {
        let for_good = |error| (error, None);
        let WriteGroup { file, offset, mut bytes, last_seq, level } = group;
        if file != writing.writer.number() {
            let next = self.files.wal.get(file).ok_or_else(|| for_good(gap(file, offset)))?;
            let last = writing.last_seq;
            writing.writer.turn_to(next, last).map_err(for_good)?;
            self.house.set();
        }
        if offset != writing.writer.offset() {
            return Err(for_good(gap(file, offset)));
        }
        if let Err(error) = writing.writer.write(&mut bytes) {
            return Err((error, Some(WriteGroup { file, offset, bytes, last_seq, level })));
        }
        writing.last_seq = last_seq;
        let bytes = fitted(bytes);
        if level == Durability::Fsync {
            let begun = Instant::now();
            writing.writer.sync().map_err(for_good)?;
            let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            writing.unproven = true;
            let now = self.now();
            let mut core = self.shared.core.lock();
            core.recent.push(file, offset, bytes);
            let wakes = core.durable(last_seq, nanos, now);
            drop(core);
            wakes.wake();
            self.shared.durable(last_seq);
        } else {
            let now = self.now();
            let mut core = self.shared.core.lock();
            core.recent.push(file, offset, bytes);
            let wakes = core.written(last_seq, now);
            drop(core);
            wakes.wake();
            self.shared.written(last_seq);
        }
        Ok(())
    }

    /// Makes safe what was only written, and proves what was safe by a marker behind it; whether there was anything.
    pub(super) fn idle_step(&self) -> bool {
        match self.prove() {
            Ok(did) => did,
            Err(error) => {
                self.poison(&error);
                true
            }
        }
    }

    /// Syncs what is written and proves it; nothing while something waits to be written, which proves it as well.
    pub(super) fn prove(&self) -> Result<bool> {
        let mut writing = self.writing.lock();
        // What waits for room lies where a marker would go.
        if writing.held.is_some() || self.shared.core.lock().ended().is_some() {
            return Ok(false);
        }
        let mut did = false;
        if writing.writer.unsynced() {
            self.sync(&mut writing)?;
            did = true;
        }
        if !writing.unproven {
            return Ok(did);
        }
        let mut bytes = Vec::new();
        let mut frame = FrameWriter::begin(&mut bytes, writing.last_seq, self.files.keys.encrypt());
        frame.marker();
        let size = frame.finish();
        debug_assert_eq!(size % frame::ALIGN, 0);
        {
            let mut core = self.shared.core.lock();
            // The start of the next file will prove what this one holds.
            if core.has_pending() || !core.cursor().fits(size) {
                return Ok(did);
            }
            if core.cursor().reserve(size, Purpose::Essential).is_err() {
                return Ok(did);
            }
        }
        if let Err(error) = writing.writer.write(&mut bytes) {
            if error.reason() != Reason::StorageFull {
                return Err(error);
            }
            let (file, offset) = (writing.writer.number(), writing.writer.offset());
            let (last_seq, level) = (writing.last_seq, Durability::Os);
            writing.held = Some(WriteGroup { file, offset, bytes, last_seq, level });
            drop(writing);
            self.set_full(true);
            return Ok(did);
        }
        writing.writer.sync()?;
        writing.unproven = false;
        Ok(true)
    }

    /// Marks where the log ends, so that a file that is cut later is told from one that never had more.
    pub(super) fn mark_end(&self) -> Result<()> {
        let mut writing = self.writing.lock();
        let last = writing.last_seq;
        writing.writer.close(last)
    }

    /// Whether something waits for room on the disk.
    pub(super) fn holds_back(&self) -> bool {
        self.writing.lock().held.is_some()
    }

    fn sync(&self, writing: &mut Writing) -> Result<()> {
        let begun = Instant::now();
        writing.writer.sync()?;
        writing.unproven = true;
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let now = self.now();
        let wakes = self.shared.core.lock().durable(writing.last_seq, nanos, now);
        wakes.wake();
        self.shared.durable(writing.last_seq);
        Ok(())
    }

    /// Writes and syncs all that was submitted so far.
    ///
    /// # Errors
    /// `storage_poisoned` when that failed, now or before; `storage_full` while there is no room.
    pub(super) fn write_all(&self) -> Result<()> {
        while self.sync_step() {}
        self.sync_rest();
        if self.holds_back() {
            return Err(Error::new(Reason::StorageFull, "the disk has no room to write the log"));
        }
        match self.shared.core.lock().ended() {
            Some(why) => Err(why.error()),
            None => Ok(()),
        }
    }

    /// Syncs what is only written.
    fn sync_rest(&self) {
        let mut writing = self.writing.lock();
        if writing.writer.unsynced()
            && self.shared.core.lock().ended().is_none()
            && let Err(error) = self.sync(&mut writing)
        {
            drop(writing);
            self.poison(&error);
        }
    }

    /// The file that is being written, where it ends now, and the last transaction in it.
    pub(crate) fn written_to(&self) -> (u32, u32, u64) {
        let writing = self.writing.lock();
        (writing.writer.number(), writing.writer.offset(), writing.last_seq)
    }

    /// The file that is being written.
    pub(super) fn writing_file(&self) -> u32 {
        self.writing.lock().writer.number()
    }
}

/// The bytes of a group without the room that was left for more: they stay in memory for readers, and
/// what memory holds is counted by their length.
fn fitted(bytes: Vec<u8>) -> Bytes {
    let spare = bytes.capacity() - bytes.len();
    if spare > bytes.len() / 8 { Bytes::copy_from_slice(&bytes) } else { Bytes::from(bytes) }
}

fn gap(file: u32, offset: u32) -> Error {
    let text = "the core and the writer disagree about where the log ends";
    Error::new(Reason::Internal, text).note(format!("file {file} offset {offset}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_in_memory_has_no_room_for_more() {
        let mut bytes = Vec::with_capacity(8 << 10);
        bytes.extend_from_slice(b"a small group");
        let fitted = fitted(bytes);
        assert_eq!(fitted, &b"a small group"[..]);
        // Only bytes that nobody else holds are given back as they are, with their room.
        let back: Vec<u8> = fitted.try_into_mut().map(|bytes| bytes.into()).unwrap_or_default();
        assert!(back.capacity() < 64, "{}", back.capacity());
    }
}

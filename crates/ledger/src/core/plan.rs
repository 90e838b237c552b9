//! Write-behind, as the core sees it: what lives in old files, where it went, and what is to be thrown away.

use std::collections::BTreeMap;

use super::{
    Core, Now,
    log::{At, Extent, Log, Tail},
    runs::Runs,
};
use crate::{format::Place, record::LogId, segment};

/// A living record of the write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) log: LogId,
    pub(crate) position: u64,
    pub(crate) place: Place,
}

/// A log of which the last record of each key is enough.
#[derive(Debug)]
pub(crate) struct Compactable {
    pub(crate) log: LogId,
    /// The living records with keys in the write-ahead log, ascending.
    pub(crate) tail: Vec<(u64, Place)>,
    /// The living runs in segments, ascending.
    pub(crate) segments: Vec<(u32, Vec<(u64, u64)>)>,
}

/// Positions of a log that live in a segment, as runs of first and last.
pub(crate) type LiveRuns = (u32, Vec<(u64, u64)>);

impl Core {
    /// The living records of the write-ahead files up to `file`, by log and position.
    pub(crate) fn plan(&self, file: u32) -> Vec<Live> {
        let mut ids: Vec<u32> = self.logs.keys().copied().collect();
        ids.sort_unstable();
        let mut live = Vec::new();
        for log in ids.iter().filter_map(|id| self.logs.get(id)) {
            let Tail::Disk(slots) = &log.tail else { continue };
            for (position, slot) in (log.tail_first..).zip(slots) {
                if slot.is_hole() {
                    continue;
                }
                if slot.file() > file {
                    break;
                }
                live.push(Live { log: log.id, position, place: slot.place() });
            }
        }
        live
    }

    /// What was planned is in a segment now.
    pub(crate) fn moved(&mut self, segment: u32, extents: &[segment::Extent]) {
        for extent in extents {
            let Some(log) = self.logs.get_mut(&extent.log) else { continue };
            let (mut records, mut bytes) = (0, 0);
            for position in extent.first..=extent.last {
                // What was removed since the plan was made does not count.
                if let At::Slot(slot) = log.at(position) {
                    records += 1;
                    bytes += u64::from(slot.len());
                }
            }
            if records > 0 {
                log.extents.push(held(segment, extent, records, bytes));
                log.moved = true;
                log.dirty = true;
            }
            log.let_go(extent.last + 1);
        }
        for log in self.logs.values_mut() {
            log.let_go(log.tail_first);
        }
    }

    /// Living records and bytes, as far as known, of each segment that any log has an extent in.
    pub(crate) fn dead(&self) -> Vec<(u32, u64, u64)> {
        let mut living = BTreeMap::new();
        for extent in self.logs.values().flat_map(|log| &log.extents) {
            let (records, bytes) = living.entry(extent.segment).or_insert((0, 0));
            *records += extent.records;
            *bytes += extent.bytes;
        }
        living.into_iter().map(|(segment, (records, bytes))| (segment, records, bytes)).collect()
    }

    /// What lives in a segment.
    pub(crate) fn plan_segment(&self, segment: u32) -> Vec<LiveRuns> {
        let mut ids: Vec<u32> = self.logs.keys().copied().collect();
        ids.sort_unstable();
        let mut live = Vec::new();
        for log in ids.iter().filter_map(|id| self.logs.get(id)) {
            let extents = log.extents.iter().filter(|extent| extent.segment == segment);
            let runs: Vec<(u64, u64)> =
                extents.flat_map(|extent| self.live_runs(log, extent)).collect();
            if !runs.is_empty() {
                live.push((log.id.0, runs));
            }
        }
        live
    }

    /// The positions of a log that are gone from its middle.
    fn gone_from<'a>(&'a self, log: &'a Log) -> Option<&'a Runs> {
        match log.owner {
            Some(owner) => self.queues.get(&owner.0).map(|queue| queue.group.done()),
            None => Some(&log.removed),
        }
    }

    /// What lived in the segment `old` is in `new` now.
    pub(crate) fn moved_segment(&mut self, old: u32, new: u32, extents: &[segment::Extent]) {
        for log in self.logs.values_mut() {
            let had = log.extents.len();
            log.extents.retain(|extent| extent.segment != old);
            log.dirty |= had != log.extents.len();
        }
        for extent in extents {
            let Some(log) = self.logs.get_mut(&extent.log) else { continue };
            if extent.last < log.first {
                continue;
            }
            let index = log.extents.partition_point(|other| other.last < extent.first);
            log.extents.insert(index, held(new, extent, extent.records, extent.bytes));
            log.dirty = true;
        }
    }

    /// Logs of which the last record of each key is enough, and that have had records moved to
    /// segments since the last call.
    pub(crate) fn compactable(&mut self) -> Vec<Compactable> {
        let mut ids = Vec::new();
        for log in self.logs.values_mut().filter(|log| log.options.compact) {
            if std::mem::take(&mut log.moved) {
                ids.push(log.id.0);
            }
        }
        ids.iter().filter_map(|id| self.logs.get(id)).map(|log| self.keyed(log)).collect()
    }

    /// A log could not be gone through to its end: it has its turn again.
    pub(crate) fn compact_again(&mut self, id: LogId) {
        if let Some(log) = self.logs.get_mut(&id.0) {
            log.moved = true;
        }
    }

    fn keyed(&self, log: &Log) -> Compactable {
        let mut tail = Vec::new();
        if let Tail::Disk(slots) = &log.tail {
            let keyed = (log.tail_first..).zip(slots);
            let keyed = keyed.filter(|(_, slot)| !slot.is_hole() && slot.keyed());
            tail.extend(keyed.map(|(position, slot)| (position, slot.place())));
        }
        let segments =
            log.extents.iter().map(|extent| (extent.segment, self.live_runs(log, extent)));
        Compactable { log: log.id, tail, segments: segments.collect() }
    }

    /// The runs of an extent that live.
    fn live_runs(&self, log: &Log, extent: &Extent) -> Vec<(u64, u64)> {
        let dead = self.gone_from(log);
        let mut runs = Vec::new();
        let mut at = extent.first.max(log.first);
        while at <= extent.last {
            at = dead.map_or(at, |dead| dead.next_out(at));
            if at > extent.last {
                break;
            }
            let next = dead.and_then(|dead| dead.next_in(at)).unwrap_or(u64::MAX);
            let last = extent.last.min(next - 1);
            runs.push((at, last));
            at = last + 1;
        }
        runs
    }

    /// Lets go of the ids of records whose time is over, in logs that nothing comes to; whether there were
    /// any.
    pub(crate) fn forget_ids(&mut self, now: Now) -> bool {
        let windows = self.logs.values_mut().filter_map(|log| log.dedupe.as_mut());
        windows.filter_map(|window| window.forget(now).then_some(())).count() > 0
    }

    /// Before which positions retention asks logs to be trimmed.
    pub(crate) fn retention(&self, now: Now) -> Vec<(LogId, u64)> {
        let logs = self.logs.values().filter(|log| log.owner.is_none());
        logs.filter_map(|log| {
            let before = self.retained(log, now);
            (before > log.first).then_some((log.id, before))
        })
        .collect()
    }

    /// The first position that a log keeps.
    fn retained(&self, log: &Log, now: Now) -> u64 {
        let retention = log.options.retention;
        let mut before = log.first;
        if let Some(age) = retention.age {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            before = self.older(log, now.wall_ms.saturating_sub(age));
        }
        if let Some(most) = retention.bytes {
            before = before.max(self.beyond(log, most));
        }
        if retention.keep_unread {
            let groups = log.groups.iter().filter_map(|id| self.queues.get(&id.0));
            before = before.min(groups.map(|queue| queue.group.low()).min().unwrap_or(u64::MAX));
        }
        if let Some(most) = retention.bytes_max {
            before = before.max(self.beyond(log, most));
        }
        before.min(log.visible)
    }

    /// The first position appended at or after a time; where memory does not know, an earlier one.
    fn older(&self, log: &Log, time_ms: u64) -> u64 {
        let gone = log.extents.partition_point(|extent| extent.last_ms < time_ms);
        if let Some(extent) = log.extents.get(gone) {
            return extent.first.max(log.first);
        }
        let mut at = log.tail_first.max(log.first);
        while let Some(position) = log.next_record(at, log.visible) {
            let time = self.time_of(log, position);
            if time == 0 || time >= time_ms {
                return position;
            }
            at = position + 1;
        }
        log.visible
    }

    /// The first position to keep so that a log has at most so many bytes.
    fn beyond(&self, log: &Log, most: u64) -> u64 {
        let mut bytes = log.bytes;
        let mut at = log.first;
        while bytes > most
            && let Some(position) = log.next_record(at, log.visible)
        {
            match log.at(position) {
                At::Extent(extent) if bytes - most >= extent.bytes => {
                    bytes -= extent.bytes;
                    at = extent.last + 1;
                }
                // Of the last run as much as it takes, as if its records were of one size.
                At::Extent(extent) => {
                    let each = (extent.bytes / extent.records.max(1)).max(1);
                    return (position + (bytes - most).div_ceil(each)).min(extent.last + 1);
                }
                _ => {
                    bytes = bytes.saturating_sub(log.size(position));
                    at = position + 1;
                }
            }
        }
        at
    }
}

fn held(segment: u32, extent: &segment::Extent, records: u64, bytes: u64) -> Extent {
    Extent {
        log: extent.log,
        segment,
        first: extent.first,
        last: extent.last,
        records,
        bytes,
        first_ms: extent.first_ms,
        last_ms: extent.last_ms,
        expires_ms: extent.expires_ms,
    }
}

//! Looking at logs and groups: how they stand, what of them is unsettled, and when something was appended.

use weft_kernel::Result;

use super::{
    Core, Now, Source, Want,
    consume::source,
    group::Group,
    log::{At, Extent, Log},
};
use crate::{
    format::Image,
    record::{GroupId, Limits, LogId},
    store::{Exception, GroupStats, LogStats, Standing},
};

/// So many bytes of what is settled are read through rather than passed over with another read.
const GAP_BYTES: u64 = 4 << 10;

/// Some of what a group has not settled.
#[derive(Debug)]
pub(crate) struct Unsettled {
    pub(crate) log: LogId,
    pub(crate) found: Vec<Exception>,
    /// Where their bytes are, by position.
    pub(crate) sources: Vec<(u64, Source)>,
}

/// Unsettled records of a segment that are read in one go.
struct Run {
    extent: Extent,
    first: u64,
    last: u64,
}

impl Run {
    /// Whether a record lies in the same segment, and near enough.
    fn takes(&self, extent: &Extent, position: u64) -> bool {
        let between = (position - self.last - 1).saturating_mul(extent.average());
        extent.segment == self.extent.segment && between <= GAP_BYTES
    }
}

/// How an unsettled record of a group stands.
fn exception(group: &Group, position: u64, now: Now) -> Exception {
    let standing = if let Some(lease) = group.lease(position) {
        Standing::Leased { consumer: lease.consumer, until: lease.until }
    } else if let Some(due_ms) = group.waits_until(position, now) {
        Standing::Waiting { due_ms }
    } else if group.blocked(position) {
        Standing::Blocked
    } else {
        Standing::Ready
    };
    let retry = group.retry(position);
    let leased = group.lease(position).map(|lease| lease.handouts);
    Exception {
        position,
        standing,
        handouts: leased.or(retry.map(|retry| retry.handouts)).unwrap_or(0),
        failures: retry.map_or(0, |retry| retry.failures),
        note: retry.map(|retry| retry.note.clone()).unwrap_or_default(),
    }
}

impl Core {
    /// Whether a position of a log is still there.
    pub(crate) fn is_there(&self, id: LogId, position: u64) -> bool {
        self.log(id)
            .is_ok_and(|log| self.lives(log, position) && !matches!(log.at(position), At::Hole(_)))
    }

    /// Positions that a group has not settled, with how they stand, and what is to be read for them: as
    /// far as the limits go, but no further than one run of a segment, which is read in one go up to the
    /// limit of bytes.
    pub(crate) fn exceptions(
        &self,
        id: GroupId,
        from: u64,
        limits: Limits,
        now: Now,
    ) -> Result<Unsettled> {
        let group = self.group(id)?;
        let log = self.log(group.options.log)?;
        let (mut found, mut sources) = (Vec::new(), Vec::new());
        let mut run: Option<Run> = None;
        let (mut at, mut bytes) = (from.max(group.low()), 0);
        while found.len() < limits.records as usize
            && let Some(position) = log.next_record(group.done().next_out(at), log.visible)
        {
            at = position + 1;
            if group.settled(position) {
                continue;
            }
            let size = log.size(position);
            if !found.is_empty() && bytes + size > limits.bytes {
                break;
            }
            match (log.at(position), &mut run) {
                (At::Extent(extent), Some(run)) if run.takes(&extent, position) => {
                    run.last = position;
                }
                (_, Some(_)) => break,
                (At::Extent(extent), None) => {
                    run = Some(Run { extent, first: position, last: position })
                }
                (_, None) => sources.push((position, source(log, None, &self.recent, position))),
            }
            bytes += size;
            found.push(exception(group, position, now));
        }
        if let Some(run) = run {
            let before: u64 = sources.iter().map(|(position, _)| log.size(*position)).sum();
            let limits = Limits {
                records: u32::try_from(run.last - run.first + 1).unwrap_or(u32::MAX),
                bytes: limits.bytes.saturating_sub(before),
            };
            let (segment, from, to) = (run.extent.segment, run.first, run.last);
            let want = Want::Segment { segment, log: log.id, from, to, limits };
            sources.push((from, Source::Cold(want)));
        }
        Ok(Unsettled { log: log.id, found, sources })
    }

    /// Whether a group has a record that it has not settled; one that is not visible yet counts.
    pub(crate) fn holds(&self, id: GroupId, position: u64) -> bool {
        let Ok(group) = self.group(id) else { return false };
        let Ok(log) = self.log(group.options.log) else { return false };
        position >= log.visible
            || !group.settled(position) && !matches!(log.at(position), At::Hole(_))
    }

    /// How a group stands.
    pub(crate) fn group_stats(&self, id: GroupId) -> Result<GroupStats> {
        let group = self.group(id)?;
        let log = self.log(group.options.log)?;
        let oldest = log.next_record(group.done().next_out(group.low()), log.visible);
        Ok(GroupStats {
            ready: group.ready_below(log.visible),
            leased: group.leased() as u64,
            waiting: group.waiting() as u64,
            leased_bytes: group.leased_bytes(),
            waiting_bytes: group.waiting_bytes(),
            done_above: group.done().len(),
            low: group.low(),
            cursor: group.cursor(),
            oldest_ms: oldest.map_or(0, |position| log.time_near(position)),
            handouts: group.counts.handouts,
            done: group.counts.done,
            failures: group.counts.failures,
            expired_leases: group.counts.expired_leases,
            lost: group.counts.lost,
            consumers: group.consumers.len() as u32,
            paused: group.consumers.paused,
            awaited: group.ready(log.visible) && group.consumers.wait(),
        })
    }

    /// What a log holds.
    pub(crate) fn log_stats(&self, id: LogId) -> Result<LogStats> {
        let log = self.log(id)?;
        let first = log.next_record(log.first, log.next);
        Ok(LogStats {
            first: first.unwrap_or(log.next).min(log.visible),
            end: log.visible,
            records: log.records,
            bytes: log.bytes,
            unseen_bytes: log.unseen,
            oldest_ms: first.map_or(0, |position| log.time_near(position)),
            last_ms: if first.is_some() { log.last_ms } else { 0 },
        })
    }

    /// When a record was appended, as far as memory tells.
    pub(super) fn time_of(&self, log: &Log, position: u64) -> u64 {
        match log.at(position) {
            At::Memory(record) => record.time_ms,
            At::Extent(extent) => extent.first_ms,
            At::Slot(slot) => self
                .image(&slot.place())
                .and_then(|bytes| Image::parse(&bytes).ok().map(|image| image.time_ms))
                .unwrap_or(0),
            At::Hole(_) => 0,
        }
    }

    /// The first position that may have been appended at or after a time: exact within the write-ahead
    /// log as far as memory has it, else the beginning of a run in a segment.
    pub(crate) fn position_near(&self, id: LogId, time_ms: u64) -> Result<u64> {
        let log = self.log(id)?;
        let index = log.extents.partition_point(|extent| extent.last_ms < time_ms);
        if let Some(extent) = log.extents.get(index) {
            return Ok(extent.first.max(log.first));
        }
        let (mut low, mut high) = (log.tail_first.max(log.first), log.visible);
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(position) = log.next_record(middle, high) else {
                high = middle;
                continue;
            };
            match self.time_of(log, position) {
                // One whose time memory does not tell may be the first: whoever reads from here finds it.
                time if time != 0 && time < time_ms => low = position + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

//! Loading for a group what is not in memory: what is to be read, what is known once it was, and where
//! something went that could not be read at its place.

use std::collections::VecDeque;

use weft_kernel::Result;

use super::{
    Core, Now, Wakes, Want,
    log::{At, Log},
    shown,
};
use crate::{
    record::{ConsumerId, GroupId, Limits, ReadItem, Record, Told},
    service::LostRecord,
};

/// How much is loaded for a group at once.
const LOAD: Limits = Limits { records: 256, bytes: 1 << 20 };

/// Records that were loaded from the disk for a group that comes to them next.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// What is known: positions from here up to, not including, `to`.
    pub(super) from: u64,
    pub(super) to: u64,
    records: VecDeque<Record>,
}

impl Loaded {
    pub(super) fn get(&self, position: u64) -> Option<&Record> {
        let index = self.records.partition_point(|record| record.position < position);
        self.records.get(index).filter(|record| record.position == position)
    }

    pub(super) fn next(&self, position: u64) -> u64 {
        let index = self.records.partition_point(|record| record.position < position);
        self.records.get(index).map_or(self.to, |record| record.position)
    }
}

/// What must be read before a group can hand out anything.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(super) from: u64,
    /// If all that is wanted is there, up to this position all is known.
    pub(super) to: u64,
    pub(crate) wants: Vec<Want>,
}

/// Where something is that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// Where it was thought to be.
    There,
    /// Elsewhere meanwhile.
    Moved(Want),
    /// Nowhere: there is nothing up to a position.
    Gone(u64),
}

impl Core {
    /// What was to be loaded is here, in the order of the wants, or is given up (no answers). What is lost
    /// of it was the group's to hand out, and is to be told.
    ///
    /// # Errors
    /// What the disk says, if it gave nothing.
    pub(crate) fn loaded(
        &mut self,
        id: GroupId,
        consumer: ConsumerId,
        load: &Load,
        answers: Vec<Result<Told>>,
        now: Now,
    ) -> (Result<()>, Wakes, Vec<LostRecord>) {
        let mut wakes = Wakes::default();
        let mut lost = Vec::new();
        let Some(queue) = self.queues.get_mut(&id.0) else { return (Ok(()), wakes, lost) };
        queue.loading = false;
        wakes.0.append(&mut queue.awaiting);
        let mut loaded = Loaded { from: load.from, to: load.from, records: VecDeque::new() };
        let mut failed = Ok(());
        let all = answers.len() == load.wants.len();
        let mut whole = all;
        for (want, told) in load.wants.iter().zip(answers) {
            let told = match told {
                Ok(told) => told,
                Err(error) => {
                    whole = false;
                    failed = Err(error);
                    break;
                }
            };
            loaded.to = told.to;
            for item in told.items {
                match item {
                    ReadItem::Record(record) => loaded.records.push_back(record),
                    ReadItem::Lost { position, why, .. } => {
                        let Some(log) = self.logs.get_mut(&queue.group.options.log.0) else {
                            continue;
                        };
                        // What was removed before it was damaged is no loss.
                        let there = !matches!(log.at(position), At::Hole(_));
                        if !queue.group.remove(position) || !there {
                            continue;
                        }
                        queue.group.counts.lost += 1;
                        lost.push(LostRecord {
                            log: log.id,
                            name: shown(&log.name),
                            position,
                            why,
                        });
                        if queue.group.options.owner {
                            log.drop_record(position);
                            log.advance(queue.group.low());
                        }
                    }
                }
            }
            if told.to < want.end() {
                whole = false;
                break;
            }
        }
        if whole {
            // Between and behind what was wanted nothing is.
            loaded.to = load.to;
        }
        if loaded.to > loaded.from {
            failed = Ok(());
            queue.loaded = Some(Box::new(loaded));
        } else {
            // Who loaded will not take now: another one may.
            queue.group.consumers.stand_down(consumer);
        }
        self.rouse(id.0, now, &mut wakes);
        (failed, wakes, lost)
    }

    /// Segments that are missing, knowingly gone on without: what was in them is no longer waited for.
    /// Gives how many records each log has lost by that.
    pub(crate) fn without_segments(&mut self, missing: &[u32]) -> Vec<(String, u64)> {
        let mut lost = Vec::new();
        for log in self.logs.values_mut() {
            let gone: Vec<_> =
                log.extents.iter().filter(|at| missing.contains(&at.segment)).copied().collect();
            if gone.is_empty() {
                continue;
            }
            log.extents.retain(|at| !missing.contains(&at.segment));
            let records = gone.iter().map(|at| at.records).sum();
            log.records = log.records.saturating_sub(records);
            log.bytes = log.bytes.saturating_sub(gone.iter().map(|at| at.bytes).sum());
            log.dirty = true;
            lost.push((shown(&log.name), records));
            for id in log.groups.clone() {
                let Some(queue) = self.queues.get_mut(&id.0) else { continue };
                let runs: Vec<_> = gone.iter().map(|at| (at.first, at.last)).collect();
                queue.group.settle_runs(&runs);
                queue.group.dirty = true;
                if queue.group.options.owner {
                    log.advance(queue.group.low());
                }
            }
        }
        lost
    }

    /// Where something is that could not be read at its place.
    pub(crate) fn whereabouts(&self, want: &Want) -> Whereabouts {
        let (id, first) = want.first();
        let Ok(log) = self.log(id) else { return Whereabouts::Gone(want.end()) };
        let now = match log.at(first) {
            At::Hole(next) => return Whereabouts::Gone(next.min(want.end())),
            At::Memory(_) => return Whereabouts::There,
            At::Slot(slot) => Want::Place(id, first, slot.place()),
            At::Extent(extent) => {
                let limits = match want {
                    Want::Place(..) => extent.one(),
                    Want::Segment { limits, .. } => *limits,
                };
                let to = extent.last.min(want.end() - 1);
                Want::Segment { segment: extent.segment, log: id, from: first, to, limits }
            }
        };
        if now == *want { Whereabouts::There } else { Whereabouts::Moved(now) }
    }
}

/// What to read so that a group can look at `position` and some further.
pub(super) fn wants(log: &Log, position: u64) -> Load {
    match log.at(position) {
        At::Extent(extent) => {
            let to = extent.last.min(log.visible.saturating_sub(1));
            let segment = extent.segment;
            let limits = LOAD;
            let want = Want::Segment { segment, log: log.id, from: position, to, limits };
            Load { from: position, to: to + 1, wants: vec![want] }
        }
        _ => {
            let mut wants: Vec<Want> = Vec::new();
            let (mut to, mut bytes) = (position, 0);
            while wants.len() < LOAD.records as usize - 1
                && bytes < LOAD.bytes / 2
                && to < log.visible
            {
                match log.at(to) {
                    At::Slot(slot) => {
                        bytes += u64::from(slot.len());
                        wants.push(Want::Place(log.id, to, slot.place()));
                    }
                    At::Hole(_) => {}
                    _ => break,
                }
                to += 1;
            }
            Load { from: position, to, wants }
        }
    }
}

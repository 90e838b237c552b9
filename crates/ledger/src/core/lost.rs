//! Records that are lost for good: no consumer waits for them, and no count has them.
//!
//! A damaged frame of the log, or a record that could not be carried into a segment, leaves a position
//! without a record. What was settled or removed leaves one as well, but that is known: in a log that a
//! group owns the group has settled it, in any other it is among what was removed. Everything else was
//! acknowledged, and is a loss.

use super::{
    Core,
    log::{At, Log, Tail},
    runs::Runs,
    shown,
};
use crate::record::LogId;

/// The most runs of positions that are named of one log.
const NAMED_MAX: usize = 20;

impl Core {
    /// Takes a record that cannot be read any more out of its log and out of every group that has not
    /// settled it, which count it as lost.
    pub(crate) fn lose(&mut self, id: LogId, position: u64) {
        let Some(log) = self.logs.get_mut(&id.0) else { return };
        log.drop_record(position);
        if log.owner.is_none() {
            log.removed.insert(position);
        }
        log.dirty = true;
        for group in log.groups.clone() {
            let Some(queue) = self.queues.get_mut(&group.0) else { continue };
            if queue.group.remove(position) {
                queue.group.counts.lost += 1;
                queue.group.dirty = true;
            }
            if queue.group.options.owner {
                log.advance(queue.group.low());
            }
        }
    }

    /// After a recovery: loses the positions that have no record and should have one. A sentence for each
    /// log that has any.
    pub(crate) fn lose_holes(&mut self) -> Vec<String> {
        let mut ids: Vec<u32> = self.logs.keys().copied().collect();
        ids.sort_unstable();
        let mut told = Vec::new();
        for id in ids {
            let Some(log) = self.logs.get(&id) else { continue };
            let holes = self.holes(log);
            if holes.is_empty() {
                continue;
            }
            told.push(sentence(&shown(&log.name), &holes));
            for (first, last) in holes.iter() {
                (first..=last).for_each(|position| self.lose(LogId(id), position));
            }
            if let Some(log) = self.logs.get_mut(&id) {
                log.count_again();
            }
        }
        told
    }

    /// The positions of a log that have no record and should have one.
    fn holes(&self, log: &Log) -> Runs {
        let mut found = Runs::default();
        if log.is_memory() {
            return found;
        }
        let owner = log.owner.and_then(|owner| self.queues.get(&owner.0));
        let mut position = log.first;
        while position < log.next {
            position = match log.at(position) {
                At::Hole(next) => {
                    let to = next.clamp(position + 1, log.next);
                    for position in position..to {
                        let settled = owner.is_some_and(|queue| queue.group.settled(position));
                        if !settled && !log.removed.contains(position) {
                            found.insert(position);
                        }
                    }
                    to
                }
                At::Extent(extent) => extent.last + 1,
                At::Slot(_) | At::Memory(_) => position + 1,
            };
        }
        found
    }
}

impl Log {
    /// Counts anew what it holds: what was lost may have been counted or not.
    fn count_again(&mut self) {
        let Tail::Disk(slots) = &self.tail else { return };
        let living = slots.iter().filter(|slot| !slot.is_hole());
        let (mut records, mut bytes) = (0, 0);
        for slot in living {
            records += 1;
            bytes += u64::from(slot.len());
        }
        for extent in &self.extents {
            records += extent.records;
            bytes += extent.bytes;
        }
        (self.records, self.bytes, self.dirty) = (records, bytes, true);
    }
}

fn sentence(name: &str, lost: &Runs) -> String {
    let mut named: Vec<String> = lost
        .iter()
        .take(NAMED_MAX)
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            _ => format!("{first} to {last}"),
        })
        .collect();
    if lost.gaps() > NAMED_MAX {
        named.push("others".to_owned());
    }
    format!("{} records of `{name}` are lost, at positions {}", lost.len(), named.join(", "))
}

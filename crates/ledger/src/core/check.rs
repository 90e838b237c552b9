//! Checking a transaction: every operation against the newest submitted state and what the operations
//! before it would do. Nothing is changed but notes that the next check overwrites.

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};

use super::{Core, Now, fast::Numbers, log::Staged, missing};
use crate::{
    record::{GroupId, LogId, MapId},
    transaction::{
        Expect, ExpectValue, KEY_BYTES_MAX, MAP_KEY_BYTES_MAX, MAP_VALUE_BYTES_MAX, NOTE_BYTES_MAX,
        NewRecord, Op, Refused, Settle, Transaction,
    },
};

/// What stays of a check.
#[derive(Debug, Default)]
pub(super) struct Check {
    /// The number of the check: what notes are told apart by.
    pub(super) attempt: u64,
    /// Ids that the transaction under check would append.
    ids: Numbers<(u32, u128), ()>,
    /// Positions of groups that it discards.
    discards: Numbers<(u32, u64), ()>,
    /// Positions of logs that it removes.
    removes: Numbers<(u32, u64), ()>,
    /// Logs that it trims, and to where.
    trims: Vec<(LogId, u64)>,
}

/// What was noted of a log before an append was checked, and the id that the check notes.
type Unstaged = (LogId, Staged, Option<(u32, u128)>);

/// What a transaction that may be applied takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checked {
    /// At most so many bytes of entries.
    pub(super) bytes: usize,
    /// Whether it appends anything, or adds an entry to a map that must not be there, which a full disk refuses.
    pub(super) appends: bool,
    /// Whether anything of it is to be written.
    pub(super) writes: bool,
    /// Whether it sets an entry of a map, which waits for a checkpoint if too much does.
    pub(super) puts: bool,
}

/// The most bytes of an entry besides what it carries.
const ENTRY: usize = 128;

fn invalid(say: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Reason::MalformedRequest, say)
}

fn too_large(what: &str, bytes: usize, most: usize) -> Error {
    let say = format!("{what} has {bytes} bytes, and may have {most}");
    Error::new(Reason::MessageTooLarge, say)
}

impl Core {
    /// Checks a whole transaction.
    pub(super) fn check(
        &mut self,
        transaction: &Transaction,
        now: Now,
    ) -> Result<Checked, Refused> {
        let ops = &transaction.ops;
        if ops.is_empty() {
            return Err(invalid("a transaction has at least one operation").into());
        }
        if ops.len() > self.options.operations_max {
            let most = self.options.operations_max;
            let say = format!("a transaction has at most {most} operations, not {}", ops.len());
            return Err(Error::new(Reason::MessageTooLarge, say).into());
        }
        self.begin_check();
        let mut checked = Checked::default();
        for (index, op) in ops.iter().enumerate() {
            self.check_op(op, &mut checked, now)
                .map_err(|error| Refused { op: Some(index), error })?;
        }
        let most = self.options.transaction_bytes_max.as_usize();
        if checked.bytes > most {
            return Err(too_large("the transaction", checked.bytes, most).into());
        }
        Ok(checked)
    }

    fn begin_check(&mut self) {
        self.check.attempt += 1;
        if !self.check.ids.is_empty() {
            self.check.ids.clear();
        }
        self.check.discards.clear();
        self.check.removes.clear();
        self.check.trims.clear();
    }

    /// Which of some operations are refused, and why, if each part of them is done as a whole or left
    /// out: the parts begin at `parts`.
    pub(crate) fn refusals(&mut self, ops: &[Op], parts: &[u32], now: Now) -> Vec<(usize, Error)> {
        self.begin_check();
        let mut refused = Vec::new();
        let ends = parts.iter().skip(1).map(|next| *next as usize).chain([ops.len()]);
        for (first, end) in parts.iter().map(|first| *first as usize).zip(ends) {
            let before = refused.len();
            let mut staged = Vec::new();
            for (index, op) in ops.iter().enumerate().take(end).skip(first) {
                staged.extend(self.staged(op));
                if let Err(error) = self.check_op(op, &mut Checked::default(), now) {
                    refused.push((index, error));
                }
            }
            if refused.len() == before {
                continue;
            }
            for (id, before, new) in staged.into_iter().rev() {
                if let Some(log) = self.logs.get_mut(&id.0) {
                    log.staged = before;
                }
                if let Some(new) = new {
                    self.check.ids.remove(&new);
                }
            }
        }
        refused
    }

    /// What the check of an append will change: what its log would take so far, and the id if it is new.
    fn staged(&self, op: &Op) -> Option<Unstaged> {
        let Op::Append { log: id, record, .. } = op else { return None };
        let log = self.logs.get(&id.0)?;
        let new = record.dedupe.map(|dedupe| (id.0, dedupe));
        let new = new.filter(|new| !self.check.ids.contains_key(new));
        Some((*id, log.staged, new))
    }

    fn check_op(&mut self, op: &Op, checked: &mut Checked, now: Now) -> Result<()> {
        let attempt = self.check.attempt;
        let mut bytes = ENTRY;
        let mut memory = false;
        match op {
            Op::Append { log, expect, record } => {
                memory = self.check_append(*log, *expect, record, now)?;
                bytes += record.key.len() + record.data.len();
                checked.appends |= !memory;
            }
            Op::Trim { log, before } => {
                let (owner, of_memory) = self.owner(*log)?;
                memory = of_memory;
                self.check.trims.push((*log, *before));
                if let Some(queue) = owner.and_then(|id| self.queues.get_mut(&id)) {
                    queue.group.moved_by = attempt;
                }
            }
            Op::Remove { log, position, required } => {
                let (owner, of_memory) = self.owner(*log)?;
                memory = of_memory;
                let again = self.check.removes.insert((log.0, *position), ()).is_some();
                if *required && (again || !self.stays(*log, *position)) {
                    let say = format!("there is no record at position {position}");
                    return Err(Error::new(Reason::NoMessage, say));
                }
                if let Some(queue) = owner.and_then(|id| self.queues.get_mut(&id)) {
                    queue.group.void(*position, attempt);
                }
            }
            Op::Settle { group, position, token, how } => {
                let epoch = self.tokens.epoch;
                let queue = self.queues.get_mut(&group.0).ok_or_else(|| missing(group))?;
                if token.epoch != epoch || !queue.group.claim(*position, token.lease, attempt) {
                    return Err(lease_lost(*position));
                }
                if let Settle::Retry { note, .. } = how {
                    if note.len() > NOTE_BYTES_MAX {
                        return Err(too_large("the note", note.len(), NOTE_BYTES_MAX));
                    }
                    bytes += note.len();
                }
                memory = queue.memory;
            }
            Op::Discard { group, position, held } => {
                memory = self.check_discard(*group, *position, *held)?;
            }
            Op::Seek { group, .. } => {
                let queue = self.queues.get_mut(&group.0).ok_or_else(|| missing(group))?;
                queue.group.moved_by = attempt;
                memory = queue.memory;
            }
            Op::Purge { group } => {
                let queue = self.queues.get_mut(&group.0).ok_or_else(|| missing(group))?;
                self.check.trims.push((queue.group.options.log, u64::MAX));
                // A settled run and a lease each part what is purged, at 20 bytes a part.
                bytes += 20 * (queue.group.leased() + queue.group.done().gaps() + 2);
                memory = queue.memory;
            }
            Op::Put { map, key, value, expect, .. } => {
                self.has_map(*map)?;
                if key.is_empty() || key.len() > MAP_KEY_BYTES_MAX {
                    return Err(invalid(format!(
                        "the key of an entry has 1 to {MAP_KEY_BYTES_MAX} bytes, not {}",
                        key.len()
                    )));
                }
                if value.len() > MAP_VALUE_BYTES_MAX {
                    return Err(too_large("the value", value.len(), MAP_VALUE_BYTES_MAX));
                }
                self.stage(*map, key, *expect, true, now)?;
                checked.puts = true;
                checked.appends |= *expect == ExpectValue::Absent;
                bytes += key.len() + value.len();
            }
            Op::Delete { map, key, expect } => {
                self.stage(*map, key, *expect, false, now)?;
                bytes += key.len();
            }
        }
        if !memory {
            checked.bytes += bytes;
            checked.writes = true;
        }
        Ok(())
    }

    /// Checks what is expected of an entry.
    fn stage(
        &mut self,
        id: MapId,
        key: &Bytes,
        expect: ExpectValue,
        put: bool,
        now: Now,
    ) -> Result<()> {
        let version = match expect {
            ExpectValue::Any => None,
            _ => self.version_of(id, key, now)?,
        };
        let attempt = self.check.attempt;
        let map = self.maps.get_mut(&id.0).ok_or_else(|| missing(id))?;
        map.stage(key, expect, version, put, attempt)
    }

    /// Whether the group is one of memory.
    fn check_discard(&mut self, id: GroupId, position: u64, held: bool) -> Result<bool> {
        let attempt = self.check.attempt;
        let queue = self.queues.get_mut(&id.0).ok_or_else(|| missing(id))?;
        let log = self.logs.get(&queue.group.options.log.0).ok_or_else(|| missing(id))?;
        let there = position < log.next
            && !queue.group.settled(position)
            && !matches!(log.at(position), super::log::At::Hole(_))
            && queue.group.moved_by != attempt
            && queue.group.lease(position).is_none_or(|lease| lease.settled_by != attempt);
        if !there || self.check.discards.insert((id.0, position), ()).is_some() {
            let say = format!("position {position} is settled, or was never there");
            return Err(Error::new(Reason::NoMessage, say));
        }
        if queue.group.lease(position).is_some() && !held {
            let say = format!("the record at position {position} is leased");
            return Err(Error::new(Reason::VersionConflict, say));
        }
        queue.group.void(position, attempt);
        Ok(queue.memory)
    }

    /// Whether a record is there, also after what was checked before it in the transaction.
    fn stays(&self, id: LogId, position: u64) -> bool {
        let attempt = self.check.attempt;
        let settled = |owner: GroupId| {
            self.queues.get(&owner.0).is_some_and(|queue| {
                queue.group.moved_by == attempt
                    || self.check.discards.contains_key(&(owner.0, position))
                    || (queue.group.lease(position))
                        .is_some_and(|lease| lease.settled_by == attempt)
            })
        };
        let owner = self.log(id).ok().and_then(|log| log.owner);
        self.is_there(id, position)
            && !self.check.trims.iter().any(|(log, before)| *log == id && position < *before)
            && !owner.is_some_and(settled)
    }

    fn owner(&self, id: LogId) -> Result<(Option<u32>, bool)> {
        let log = self.log(id)?;
        Ok((log.owner.map(|owner| owner.0), log.is_memory()))
    }

    /// Whether the log is one of memory.
    fn check_append(
        &mut self,
        id: LogId,
        expect: Expect,
        record: &NewRecord,
        now: Now,
    ) -> Result<bool> {
        let log = self.logs.get_mut(&id.0).ok_or_else(|| missing(id))?;
        let size = record.key.len() + record.data.len();
        let most = self.options.record_bytes_max.as_usize();
        if size > most {
            return Err(too_large("the record", size, most));
        }
        if record.key.len() > KEY_BYTES_MAX {
            return Err(too_large("the record's key", record.key.len(), KEY_BYTES_MAX));
        }
        if log.staged.attempt != self.check.attempt {
            log.staged = Staged { attempt: self.check.attempt, records: 0, bytes: 0 };
        }
        if let Expect::Next(wanted) = expect
            && wanted != log.next + log.staged.records
        {
            let next = log.next + log.staged.records;
            let say = format!("the next position is {next}, not {wanted}");
            return Err(Error::new(Reason::PositionConflict, say));
        }
        if let (Some(dedupe), Some(dedupe_id)) = (&mut log.dedupe, record.dedupe) {
            dedupe.observe(now);
            if dedupe.find(dedupe_id, now.wall_ms).is_some() {
                return Ok(log.is_memory());
            }
            if self.check.ids.insert((id.0, dedupe_id), ()).is_some() {
                return Ok(log.is_memory());
            }
        }
        log.staged.records += 1;
        log.staged.bytes += size as u64;
        if let Some(limit) = log.options.limit {
            // What somebody holds does not count.
            let owner = log.owner.and_then(|owner| self.queues.get(&owner.0));
            let leased = owner.map_or(0, |queue| queue.group.leased() as u64).min(log.records);
            let held = owner.map_or(0, |queue| queue.group.leased_bytes());
            let records = log.records - leased + log.staged.records;
            let bytes = log.bytes.saturating_sub(held) + log.staged.bytes;
            if limit.records.is_some_and(|most| records > most) {
                return Err(Error::new(Reason::QueueFull, "it holds as many records as it may"));
            }
            if limit.bytes.is_some_and(|most| bytes > most) {
                return Err(Error::new(Reason::QueueFull, "it holds as many bytes as it may"));
            }
        }
        Ok(log.is_memory())
    }
}

/// The error for a token that is not that of the running lease.
pub(super) fn lease_lost(position: u64) -> Error {
    let say = format!("the lease of position {position} is over, or was never this caller's");
    Error::new(Reason::LeaseLost, say)
}

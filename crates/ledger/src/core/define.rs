//! Making, altering and dropping logs, groups and maps. Each is a transaction of its own.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use weft_kernel::{Error, Reason, Result};

use super::{
    Core, Now, Queue, Wakes, check::Checked, dedupe::Dedupe, group::Group, log::Log, map::Map,
    rows, split,
};
use crate::{
    format::{FrameWriter, Kind},
    options::{
        Durability, GroupOptions, GroupStart, LogOptions, MapOptions, NAME_BYTES_MAX, Storage,
    },
    record::{GroupId, LogId, MapId},
};

fn conflict(say: &'static str) -> Error {
    Error::new(Reason::DefinitionConflict, say)
}

fn named(name: &str) -> Result<Arc<str>> {
    let (_, within) = split(name);
    if within.is_empty() || within.len() > NAME_BYTES_MAX {
        let say = format!("a name has 1 to {NAME_BYTES_MAX} bytes, not {}", within.len());
        return Err(Error::new(Reason::MalformedRequest, say));
    }
    Ok(name.into())
}

/// Names of a prefix behind a name.
pub(super) fn listed<'a, T: Copy>(
    names: &'a BTreeMap<Arc<str>, T>,
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
) -> impl Iterator<Item = (&'a str, T)> {
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        // Names of other namespaces come first.
        _ if prefix.is_empty() => Bound::Included("\u{1}"),
        _ => Bound::Included(prefix),
    };
    names
        .range::<str, _>((from, Bound::Unbounded))
        .take_while(move |(name, _)| name.starts_with(prefix))
        .take(limit)
        .map(|(name, id)| (&**name, *id))
}

impl Core {
    /// Writes a frame that makes a definition durable; its number.
    pub(super) fn write_definition(
        &mut self,
        fill: impl FnOnce(&mut FrameWriter<'_>),
    ) -> Result<u64> {
        self.refuse_if_ended()?;
        let checked =
            Checked { bytes: 3 * NAME_BYTES_MAX, appends: false, writes: true, puts: false };
        let Some((_, upper)) = self.reserve(&checked).map_err(Error::from)? else {
            return Ok(self.seq);
        };
        self.seq += 1;
        if let Some(back) = self.pending.back_mut() {
            let mut frame = FrameWriter::begin(&mut back.bytes, self.seq, self.tag);
            fill(&mut frame);
            let size = frame.finish();
            back.last_seq = self.seq;
            back.level = Durability::Fsync;
            self.cursor.give_back((upper - size) as u32);
            self.pending_bytes += size;
        }
        Ok(self.seq)
    }

    /// Makes a log; its id and the number of the transaction to wait for.
    pub(crate) fn create_log(&mut self, name: &str, options: LogOptions) -> Result<(LogId, u64)> {
        if let Some(&id) = self.log_names.get(name) {
            return if self.log(id)?.options == options {
                Ok((id, self.seq))
            } else {
                Err(conflict("a log of this name has other options"))
            };
        }
        let name = named(name)?;
        let id = LogId(self.made[0]);
        let mut seq = self.seq;
        if options.storage == Storage::Disk {
            let mut bytes = Vec::new();
            rows::put_log(&mut bytes, &options);
            seq = self.write_definition(|frame| {
                frame.define(Kind::Log, id.0, name.as_bytes(), &bytes);
            })?;
        }
        self.made[0] += 1;
        self.add_log(id, name, options);
        Ok((id, seq))
    }

    pub(super) fn add_log(&mut self, id: LogId, name: Arc<str>, options: LogOptions) {
        self.log_names.insert(name.clone(), id);
        self.logs.insert(id.0, Box::new(Log::new(id, name, options)));
    }

    /// Changes a log's options; the number of the transaction to wait for.
    pub(crate) fn alter_log(&mut self, id: LogId, options: LogOptions) -> Result<u64> {
        let log = self.log(id)?;
        if log.options.storage != options.storage || log.options.ordered != options.ordered {
            return Err(conflict("the storage and the order of a log cannot be altered"));
        }
        let mut seq = self.seq;
        if !log.is_memory() {
            let mut bytes = Vec::new();
            rows::put_log(&mut bytes, &options);
            seq = self.write_definition(|frame| frame.alter(Kind::Log, id.0, &bytes))?;
        }
        self.altered_log(id, options);
        Ok(seq)
    }

    pub(super) fn altered_log(&mut self, id: LogId, options: LogOptions) {
        let Some(log) = self.logs.get_mut(&id.0) else { return };
        match (options.dedupe, &mut log.dedupe) {
            (Some(window), Some(dedupe)) => dedupe.set_window(window),
            (Some(window), none) => *none = Some(Box::new(Dedupe::new(window))),
            (None, some) => {
                if let Some(dedupe) = some.take() {
                    self.gone.dedupe(id.0, dedupe.rows());
                }
            }
        }
        log.options = options;
        log.dirty = true;
    }

    /// Drops a log and its groups.
    pub(crate) fn drop_log(&mut self, id: LogId) -> Result<(u64, Wakes)> {
        let memory = self.log(id)?.is_memory();
        let mut seq = self.seq;
        if !memory {
            seq = self.write_definition(|frame| frame.drop_kind(Kind::Log, id.0))?;
        }
        let mut wakes = Wakes::default();
        self.dropped_log(id, &mut wakes);
        Ok((seq, wakes))
    }

    pub(super) fn dropped_log(&mut self, id: LogId, wakes: &mut Wakes) {
        let Some(log) = self.logs.remove(&id.0) else { return };
        self.log_names.remove(&log.name);
        for group in &log.groups {
            self.dropped_group(*group, wakes);
        }
        // Of what lives in memory no checkpoint has anything.
        if !log.is_memory() {
            let generations = log.dedupe.as_ref().map(|dedupe| dedupe.rows());
            self.gone.log(id.0, generations.unwrap_or_default());
        }
    }

    /// The log of a name.
    pub(crate) fn find_log(&self, name: &str) -> Option<(LogId, LogOptions)> {
        let id = *self.log_names.get(name)?;
        Some((id, self.log(id).ok()?.options.clone()))
    }

    /// Logs by name.
    pub(crate) fn logs(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<(String, LogId, LogOptions)> {
        listed(&self.log_names, prefix, after, limit)
            .filter_map(|(name, id)| {
                Some((name.to_owned(), id, self.log(id).ok()?.options.clone()))
            })
            .collect()
    }

    /// Makes a group.
    pub(crate) fn create_group(
        &mut self,
        name: &str,
        options: GroupOptions,
    ) -> Result<(GroupId, u64)> {
        if let Some(&id) = self.group_names.get(name) {
            let had = &self.group(id)?.options;
            return if (GroupOptions { start: had.start, ..options.clone() }) == *had {
                Ok((id, self.seq))
            } else {
                Err(conflict("a group of this name has other options"))
            };
        }
        if options.keyed && options.prioritized {
            let say = "a group keeps order per key or goes by priority, not both";
            return Err(Error::new(Reason::MalformedRequest, say));
        }
        let name = named(name)?;
        let log = self.log(options.log)?;
        if log.owner.is_some() || (options.owner && !log.groups.is_empty()) {
            return Err(conflict("a log that a group owns has no other group"));
        }
        let memory = log.is_memory();
        let low = match options.start {
            _ if options.owner => log.first,
            GroupStart::First => log.first,
            GroupStart::Last => log.visible.saturating_sub(1).max(log.first),
            GroupStart::Next => log.visible,
            GroupStart::Position(position) => position.clamp(log.first, log.visible),
            GroupStart::Time(_) => {
                let say = "a time must be looked up before a group can start there";
                return Err(Error::new(Reason::MalformedRequest, say));
            }
        };
        let id = GroupId(self.made[1]);
        let mut seq = self.seq;
        if !memory {
            let mut bytes = Vec::new();
            rows::put_group(&mut bytes, &options);
            seq = self.write_definition(|frame| {
                frame.define(Kind::Group, id.0, name.as_bytes(), &bytes);
                frame.seek(id.0, low);
            })?;
        }
        self.made[1] += 1;
        self.add_group(id, name, options, low);
        Ok((id, seq))
    }

    pub(super) fn add_group(
        &mut self,
        id: GroupId,
        name: Arc<str>,
        options: GroupOptions,
        low: u64,
    ) {
        let Some(log) = self.logs.get_mut(&options.log.0) else { return };
        log.groups.push(id);
        if options.owner {
            log.owner = Some(id);
        }
        self.group_names.insert(name.clone(), id);
        let space = self.spaces.of(&name);
        let memory = log.is_memory();
        let group = Group::new(options, low, !memory);
        self.queues.insert(
            id.0,
            Box::new(Queue {
                name,
                space,
                group,
                memory,
                loaded: None,
                loading: false,
                awaiting: Vec::new(),
            }),
        );
    }

    /// Changes a group's options.
    pub(crate) fn alter_group(
        &mut self,
        id: GroupId,
        options: GroupOptions,
        now: Now,
    ) -> Result<(u64, Wakes)> {
        let queue = self.queue(id)?;
        let had = &queue.group.options;
        let same = GroupOptions {
            start: had.start,
            lease: had.lease,
            single: had.single,
            ..options.clone()
        };
        if same != *had {
            return Err(conflict("of a group only the lease and `single` can be altered"));
        }
        let mut seq = self.seq;
        if !queue.memory {
            let mut bytes = Vec::new();
            rows::put_group(&mut bytes, &options);
            seq = self.write_definition(|frame| frame.alter(Kind::Group, id.0, &bytes))?;
        }
        self.altered_group(id, options);
        let mut wakes = Wakes::default();
        self.rouse(id.0, now, &mut wakes);
        Ok((seq, wakes))
    }

    pub(super) fn altered_group(&mut self, id: GroupId, options: GroupOptions) {
        let Some(queue) = self.queues.get_mut(&id.0) else { return };
        queue.group.options.lease = options.lease;
        queue.group.options.single = options.single;
        queue.group.consumers.set_single(options.single);
        queue.group.dirty = true;
    }

    /// Drops a group; its log stays.
    pub(crate) fn drop_group(&mut self, id: GroupId) -> Result<(u64, Wakes)> {
        let memory = self.queue(id)?.memory;
        let mut seq = self.seq;
        if !memory {
            seq = self.write_definition(|frame| frame.drop_kind(Kind::Group, id.0))?;
        }
        let mut wakes = Wakes::default();
        self.dropped_group(id, &mut wakes);
        Ok((seq, wakes))
    }

    pub(super) fn dropped_group(&mut self, id: GroupId, wakes: &mut Wakes) {
        let Some(mut queue) = self.queues.remove(&id.0) else { return };
        self.group_names.remove(&queue.name);
        self.spaces.get(queue.space).on_wall.remove(&id.0);
        if let Some(log) = self.logs.get_mut(&queue.group.options.log.0) {
            log.groups.retain(|other| *other != id);
            if queue.group.options.owner {
                // What is removed from its middle the group knew; now the log has to.
                for (first, last) in queue.group.done().iter() {
                    log.removed.insert_run(first, last);
                }
                log.owner = None;
                log.dirty = true;
            }
        }
        wakes.0.extend(queue.group.consumers.dismiss());
        wakes.0.append(&mut queue.awaiting);
        if !queue.memory {
            self.gone.group(id.0, queue.group.retried());
        }
    }

    /// The group of a name.
    pub(crate) fn find_group(&self, name: &str) -> Option<(GroupId, GroupOptions)> {
        let id = *self.group_names.get(name)?;
        Some((id, self.group(id).ok()?.options.clone()))
    }

    /// Groups by name.
    pub(crate) fn groups(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<(String, GroupId, GroupOptions)> {
        listed(&self.group_names, prefix, after, limit)
            .filter_map(|(name, id)| {
                Some((name.to_owned(), id, self.group(id).ok()?.options.clone()))
            })
            .collect()
    }

    /// Makes a map.
    pub(crate) fn create_map(&mut self, name: &str, options: MapOptions) -> Result<(MapId, u64)> {
        if let Some(&id) = self.map_names.get(name) {
            return if self.map(id)?.options() == options {
                Ok((id, self.seq))
            } else {
                Err(conflict("a map of this name has other options"))
            };
        }
        let name = named(name)?;
        let id = MapId(self.made[2]);
        let bytes = rows::put_map(options);
        let seq = self.write_definition(|frame| {
            frame.define(Kind::Map, id.0, name.as_bytes(), &bytes);
        })?;
        self.made[2] += 1;
        self.add_map(id, name, options);
        Ok((id, seq))
    }

    pub(super) fn add_map(&mut self, id: MapId, name: Arc<str>, options: MapOptions) {
        self.map_names.insert(name.clone(), id);
        let space = self.spaces.of(&name);
        if options.timers {
            self.spaces.get(space).timer_maps.push(id.0);
        }
        self.maps.insert(id.0, Box::new(Map::new(name, space, options)));
    }

    /// Drops a map.
    pub(crate) fn drop_map(&mut self, id: MapId) -> Result<u64> {
        self.map(id)?;
        let seq = self.write_definition(|frame| frame.drop_kind(Kind::Map, id.0))?;
        self.dropped_map(id);
        Ok(seq)
    }

    pub(super) fn dropped_map(&mut self, id: MapId) {
        let Some(map) = self.maps.remove(&id.0) else { return };
        self.map_names.remove(&map.name);
        self.spaces.get(map.space).timer_maps.retain(|other| *other != id.0);
        self.expiring.remove(&id.0);
        self.cache.remove_map(id.0);
        self.changed_bytes -= map.bytes();
        self.gone.map(id.0);
    }
}

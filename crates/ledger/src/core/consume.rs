//! Consuming: who waits, what is handed out, and where its bytes are.

use std::task::{Context, Poll};

use bytes::Bytes;
use weft_kernel::{Result, Tick};

use super::{
    Core, Now, Wakes, Want,
    group::{Found, Picked, Sight, Wanted},
    loading::{Load, Loaded, wants},
    log::{At, Log},
    missing,
};
use crate::{
    format::{Image, image_len},
    record::{ConsumerId, GroupId, Limits, LogId, Record, Token},
    store::{GroupConsumer, Joined, LeaseLimits},
    wal::Recent,
};

/// Where the bytes of something handed out are.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// An image in memory.
    Image(Bytes),
    /// Decoded already.
    Record(Record),
    /// On disk.
    Cold(Want),
    /// Nowhere: it was removed meanwhile.
    Gone,
}

/// Something handed out, and where its bytes are.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) picked: Picked,
    pub(crate) source: Source,
}

/// Why a record that was picked is not delivered after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is due later: wall-clock milliseconds.
    Due(u64),
    /// It has expired.
    Expired,
    /// It cannot be read, or was removed.
    Lost,
    /// Nobody is there to take it any more.
    Returned,
}

/// Why no more was picked.
#[derive(Debug)]
pub(crate) enum Ahead {
    /// There is no more, or it is enough.
    Nothing,
    /// This must be read first, and nothing was picked.
    Load(Load),
    /// Another consumer reads what comes next, and nothing was picked.
    Busy,
}

struct LogSight<'a> {
    log: &'a Log,
    loaded: Option<&'a Loaded>,
    recent: &'a Recent,
}

impl Sight for LogSight<'_> {
    fn at(&self, position: u64, key: bool) -> Found {
        let loaded = self.loaded.filter(|loaded| (loaded.from..loaded.to).contains(&position));
        let of = |record: &Record| Found::Here {
            priority: record.priority,
            key: if key { record.key.clone() } else { Bytes::new() },
        };
        match self.log.at(position) {
            At::Hole(next) => Found::Hole(next),
            At::Memory(record) => of(record),
            At::Slot(slot) if !(key && slot.keyed()) => {
                Found::Here { priority: slot.priority(), key: Bytes::new() }
            }
            At::Slot(slot) => {
                if let Some(record) = loaded.and_then(|loaded| loaded.get(position)) {
                    return of(record);
                }
                match self.recent.get(&slot.place()) {
                    Some(bytes) => {
                        Image::parse(&bytes).map_or(Found::Unknown, |image| Found::Here {
                            priority: image.priority,
                            key: Bytes::copy_from_slice(image.key),
                        })
                    }
                    None => Found::Unknown,
                }
            }
            At::Extent(_) => match loaded {
                Some(loaded) => match loaded.get(position) {
                    Some(record) => of(record),
                    None => Found::Hole(loaded.next(position)),
                },
                None => Found::Unknown,
            },
        }
    }

    fn size(&self, position: u64) -> u64 {
        let loaded = self.loaded.filter(|loaded| (loaded.from..loaded.to).contains(&position));
        match (self.log.at(position), loaded.and_then(|loaded| loaded.get(position))) {
            (At::Extent(_), Some(record)) => image_len(record, self.log.dedupe.is_some()) as u64,
            _ => self.log.size(position),
        }
    }

    fn end(&self) -> u64 {
        self.log.visible
    }
}

/// In how many turns each of several consumers takes its part of what is ready.
const TURNS: u64 = 8;

impl Core {
    /// Lets a consumer into a group.
    pub(crate) fn join(&mut self, id: GroupId, consumer: GroupConsumer) -> Result<Joined> {
        let queue = self.queues.get_mut(&id.0).ok_or_else(|| missing(id))?;
        let active = queue.group.consumers.join(consumer)?;
        Ok(Joined { active, consumers: queue.group.consumers.len() as u32 })
    }

    /// Takes a consumer out of a group.
    pub(crate) fn leave(
        &mut self,
        id: GroupId,
        consumer: ConsumerId,
        requeue: bool,
        now: Now,
    ) -> Wakes {
        let mut wakes = Wakes::default();
        if let Some(queue) = self.queues.get_mut(&id.0) {
            queue.group.consumers.leave(consumer);
            if requeue {
                queue.group.requeue(consumer);
            }
            self.rouse(id.0, now, &mut wakes);
        }
        wakes
    }

    /// Whether a consumer is handed anything.
    pub(crate) fn served(&self, id: GroupId, consumer: ConsumerId) -> bool {
        self.group(id).is_ok_and(|group| group.consumers.served(consumer))
    }

    /// Stops or resumes handing out.
    pub(crate) fn pause(&mut self, id: GroupId, paused: bool, now: Now) -> Result<Wakes> {
        let queue = self.queues.get_mut(&id.0).ok_or_else(|| missing(id))?;
        queue.group.consumers.paused = paused;
        let mut wakes = Wakes::default();
        self.rouse(id.0, now, &mut wakes);
        Ok(wakes)
    }

    /// Something about a group has changed: gives the turn to who waits, and enters when it is to be
    /// looked at again.
    pub(super) fn rouse(&mut self, id: u32, now: Now, wakes: &mut Wakes) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let end = self.logs.get(&queue.group.options.log.0).map_or(0, |log| log.visible);
        if queue.group.ready(end) {
            wakes.push(queue.group.consumers.turn());
        }
        self.arm_group(id, now, wakes);
    }

    /// Whether a lease by a consumer could give something; else it waits for its turn.
    pub(crate) fn poll_ready(
        &mut self,
        id: GroupId,
        consumer: ConsumerId,
        context: &Context<'_>,
    ) -> (Poll<()>, Wakes) {
        let mut wakes = Wakes::default();
        let Some(queue) = self.queues.get_mut(&id.0) else { return (Poll::Ready(()), wakes) };
        let end = self.logs.get(&queue.group.options.log.0).map_or(0, |log| log.visible);
        let ready = queue.group.ready(end) && !queue.loading;
        let poll = queue.group.consumers.poll(consumer, ready, context);
        if poll.is_pending() && ready {
            wakes.push(queue.group.consumers.turn());
        }
        (poll, wakes)
    }

    /// How much of what is ready is a consumer's turn.
    pub(crate) fn share(&self, id: GroupId, consumer: ConsumerId) -> u32 {
        let Some(queue) = self.queues.get(&id.0) else { return u32::MAX };
        let others = queue.group.consumers.others(consumer) as u64;
        if others == 0 {
            return u32::MAX;
        }
        let end = self.logs.get(&queue.group.options.log.0).map_or(0, |log| log.visible);
        let share = queue.group.ready_below(end) / ((others + 1) * TURNS);
        u32::try_from(share).unwrap_or(u32::MAX).max(1)
    }

    /// A consumer does not wait any more.
    pub(crate) fn pass_turn(&mut self, id: GroupId, consumer: ConsumerId, now: Now) -> Wakes {
        let mut wakes = Wakes::default();
        if let Some(queue) = self.queues.get_mut(&id.0) {
            queue.group.consumers.stand_down(consumer);
            self.rouse(id.0, now, &mut wakes);
        }
        wakes
    }

    /// Ready when nothing is being read for a group; wakes the task otherwise.
    pub(crate) fn poll_loaded(&mut self, id: GroupId, context: &Context<'_>) -> Poll<()> {
        let Some(queue) = self.queues.get_mut(&id.0).filter(|queue| queue.loading) else {
            return Poll::Ready(());
        };
        if !queue.awaiting.iter().any(|waker| waker.will_wake(context.waker())) {
            queue.awaiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Hands out what is ready, with `one` at least one record whatever its size; says what must be read
    /// first if that is all there is.
    pub(crate) fn pick(
        &mut self,
        id: GroupId,
        ask: &LeaseLimits,
        one: bool,
        now: Now,
        items: &mut Vec<Item>,
    ) -> Result<(Ahead, Wakes)> {
        let queue = self.queues.get_mut(&id.0).ok_or_else(|| missing(id))?;
        let mut wakes = Wakes::default();
        if !queue.group.consumers.has(ask.consumer) {
            return Err(missing(format_args!("consumer {} in {id}", ask.consumer.0)));
        }
        if !queue.group.consumers.served(ask.consumer) || ask.records == 0 {
            return Ok((Ahead::Nothing, wakes));
        }
        let log = self.logs.get(&queue.group.options.log.0).ok_or_else(|| missing(id))?;
        let wanted = Wanted {
            consumer: ask.consumer,
            records: ask.records,
            bytes: ask.bytes,
            one,
            lease: ask.lease.unwrap_or(queue.group.options.lease),
        };
        let sight = LogSight { log, loaded: queue.loaded.as_deref(), recent: &self.recent };
        let mut picked = Vec::with_capacity((ask.records as usize).min(64));
        let load = queue.group.pick(&sight, &wanted, now, &mut self.tokens, &mut picked);
        items.extend(picked.into_iter().map(|picked| {
            let source = source(log, queue.loaded.as_deref(), &self.recent, picked.position);
            Item { picked, source }
        }));
        if queue.loaded.as_ref().is_some_and(|loaded| queue.group.cursor() >= loaded.to) {
            queue.loaded = None;
        }
        let mut ahead = Ahead::Nothing;
        if let Some(position) = load {
            if queue.loading {
                return Ok((Ahead::Busy, wakes));
            }
            queue.loading = true;
            ahead = Ahead::Load(wants(log, position));
        } else {
            queue.group.consumers.took(ask.consumer);
        }
        self.rouse(id.0, now, &mut wakes);
        Ok((ahead, wakes))
    }

    /// Records that were picked and are not delivered.
    pub(crate) fn unfit(&mut self, id: GroupId, which: &[(u64, Token, Unfit)], now: Now) -> Wakes {
        let mut wakes = Wakes::default();
        if let Some(queue) = self.queues.get_mut(&id.0) {
            for &(position, token, unfit) in which {
                match unfit {
                    Unfit::Due(due_ms) => queue.group.not_yet(position, token.lease, due_ms),
                    Unfit::Expired => queue.group.too_late(position, token.lease),
                    Unfit::Lost => {
                        queue.group.lost(position, token.lease);
                        if queue.group.options.owner
                            && let Some(log) = self.logs.get_mut(&queue.group.options.log.0)
                        {
                            log.drop_record(position);
                            log.advance(queue.group.low());
                        }
                    }
                    Unfit::Returned => queue.group.take_back(position, token.lease),
                }
            }
            self.rouse(id.0, now, &mut wakes);
        }
        wakes
    }

    /// Where the bytes of a record are now.
    pub(crate) fn source(&self, id: LogId, position: u64) -> Source {
        self.log(id).map_or(Source::Gone, |log| source(log, None, &self.recent, position))
    }

    /// Starts a lease anew.
    pub(crate) fn renew(
        &mut self,
        id: GroupId,
        position: u64,
        token: Token,
        until: Tick,
        now: Now,
    ) -> Result<Wakes> {
        let epoch = self.tokens.epoch;
        let queue = self.queues.get_mut(&id.0).ok_or_else(|| missing(id))?;
        if token.epoch != epoch || !queue.group.renew(position, token.lease, until) {
            return Err(super::check::lease_lost(position));
        }
        let mut wakes = Wakes::default();
        self.arm_group(id.0, now, &mut wakes);
        Ok(wakes)
    }

    /// What is to be read for a range of a log: positions in order, with where each is.
    pub(crate) fn sources(
        &self,
        id: LogId,
        from: u64,
        limits: Limits,
    ) -> Result<Vec<(u64, Source)>> {
        let log = self.log(id)?;
        let mut found = Vec::new();
        let (mut at, mut bytes) = (from.max(log.first), 0);
        while found.len() < limits.records as usize
            && let Some(position) = log.next_record(at, log.visible)
        {
            let size = log.size(position);
            if !found.is_empty() && bytes + size > limits.bytes {
                break;
            }
            bytes += size;
            at = position + 1;
            if let At::Extent(extent) = log.at(position) {
                // A run of a segment is read in one go.
                let to = extent.last.min(log.visible - 1);
                let left = Limits {
                    records: limits.records - found.len() as u32,
                    bytes: limits.bytes.saturating_sub(bytes - size),
                };
                let segment = extent.segment;
                let want = Want::Segment { segment, log: id, from: position, to, limits: left };
                found.push((position, Source::Cold(want)));
                break;
            }
            found.push((position, source(log, None, &self.recent, position)));
        }
        Ok(found)
    }
}

pub(super) fn source(log: &Log, loaded: Option<&Loaded>, recent: &Recent, position: u64) -> Source {
    match log.at(position) {
        At::Memory(record) => Source::Record(record.clone()),
        At::Hole(_) => Source::Gone,
        at => {
            if let Some(record) = loaded.and_then(|loaded| loaded.get(position)) {
                return Source::Record(record.clone());
            }
            match at {
                At::Slot(slot) => match recent.get(&slot.place()) {
                    Some(image) => Source::Image(image),
                    None => Source::Cold(Want::Place(log.id, position, slot.place())),
                },
                At::Extent(extent) => Source::Cold(Want::Segment {
                    segment: extent.segment,
                    log: log.id,
                    from: position,
                    to: position,
                    limits: extent.one(),
                }),
                At::Memory(_) | At::Hole(_) => Source::Gone,
            }
        }
    }
}

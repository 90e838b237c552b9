//! Which event of a shared subscription is where: read, handed out, done, or to be parked. Pure; time is an argument.
//!
//! Known are the place up to which events were read (`next`), and of those before it the ones that are not done. That
//! is also what is stored, and so a crash loses nothing and hands out again only what was not done. Events that were
//! read and never handed out are stored as not read.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use weft_broker::Message;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::definition::{Definition, HELD_MAX, Strategy};
use crate::{event::Recorded, index::CORRELATION};

/// The most events that are read and not done.
pub(crate) const WAITING_MAX: usize = 5_000;
/// How much of events is held.
const BYTES_MAX: usize = 8 << 20;
/// Places that are passed without an event until that is worth storing.
const PASSED: u64 = 10_000;

/// How far it has got, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Nothing from here on was handed out.
    pub(crate) next: u64,
    /// What before it is not done, in order, each by its distance from the one before, and how often it was tried.
    waiting: Vec<(u64, u32)>,
    /// Events that are parked.
    pub(crate) parked: u64,
    /// Parked events that are to be handed out again.
    pub(crate) replay: u64,
}

impl Progress {
    /// From a place on.
    pub(crate) fn from(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// The places that are not done, and how often each was tried.
    fn places(&self) -> impl Iterator<Item = (u64, u32)> {
        let mut at = 0_u64;
        self.waiting.iter().map(move |(gap, tries)| {
            at = at.saturating_add(*gap);
            (at, *tries)
        })
    }
}

/// An event that is not done.
#[derive(Debug, Default)]
struct Waiting {
    /// How often it was handed out in vain.
    tries: u32,
    /// The event, if it is here.
    event: Option<Arc<Recorded>>,
    /// Who has it, and until when.
    holder: Option<(u64, u64)>,
}

/// A consumer.
#[derive(Debug)]
struct Member {
    /// Events that it takes at once.
    room: usize,
    held: usize,
    /// What is for it and was not taken.
    outbox: VecDeque<u64>,
    /// What it was told.
    told: u64,
}

/// An event that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Its place, by which it is settled.
    pub place: u64,
    /// How often it was handed out in vain before.
    pub tries: u32,
    /// The event.
    pub event: Arc<Recorded>,
}

/// What a consumer of a subscription has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Events that it takes at once.
    pub room: usize,
    /// Those that it has.
    pub held: usize,
    /// All that it was told.
    pub told: u64,
}

/// The state of a shared subscription.
#[derive(Debug)]
pub(crate) struct Core {
    strategy: Strategy,
    lease_ms: u64,
    retries_max: u32,
    ahead: usize,
    pub(crate) next: u64,
    /// Nothing from here on was handed out; what was before it and does not wait is done.
    handed: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Those that are here and nobody has.
    ready: BTreeSet<u64>,
    /// Those that nobody has and that are not here.
    unread: BTreeSet<u64>,
    /// When leases end.
    due: BTreeSet<(u64, u64)>,
    members: BTreeMap<u64, Member>,
    /// The member that was given something last.
    last: u64,
    /// How much of events is here.
    bytes: usize,
    pub(crate) parked: u64,
    pub(crate) replay: u64,
    /// What is to be parked and is not stored: the place, and why.
    pub(crate) parking: Vec<(u64, String)>,
    /// Parked rows that have become waiting and are still stored.
    pub(crate) unparking: Vec<u64>,
    /// Counts what has to be stored.
    pub(crate) version: u64,
    stored_next: u64,
    /// Whether something has to be stored that nobody waits for.
    pub(crate) is_owing: bool,
    /// Where the log ended when nothing more was found in it.
    pub(crate) looked_upto: u64,
}

impl Core {
    pub(crate) fn new(of: &Definition, progress: &Progress) -> Self {
        let fill = |(place, tries)| (place, Waiting { tries, ..Waiting::default() });
        let waiting: BTreeMap<_, _> = progress.places().map(fill).collect();
        Self {
            strategy: of.strategy,
            lease_ms: of.lease_ms,
            retries_max: of.retries_max,
            ahead: of.ahead(),
            next: progress.next,
            handed: progress.next,
            unread: waiting.keys().copied().collect(),
            waiting,
            ready: BTreeSet::new(),
            due: BTreeSet::new(),
            members: BTreeMap::new(),
            last: 0,
            bytes: 0,
            parked: progress.parked,
            replay: progress.replay,
            parking: Vec::new(),
            unparking: Vec::new(),
            version: 0,
            stored_next: progress.next,
            is_owing: false,
            looked_upto: 0,
        }
    }

    /// What is to be stored.
    pub(crate) fn progress(&mut self) -> Progress {
        let next = self.untouched();
        self.stored_next = next;
        let mut at = 0;
        let gap = |(place, one): (&u64, &Waiting)| {
            let gap = place - std::mem::replace(&mut at, *place);
            (gap, one.tries)
        };
        let waiting = self.waiting.range(..next).map(gap).collect();
        Progress { next, waiting, parked: self.parked, replay: self.replay }
    }

    /// A consumer comes.
    pub(crate) fn join(&mut self, id: u64, room: usize, now_ms: u64) {
        let room = room.clamp(1, HELD_MAX);
        self.members.insert(id, Member { room, held: 0, outbox: VecDeque::new(), told: 0 });
        self.assign(now_ms);
    }

    /// A consumer goes. What it was told and has not settled counts as tried.
    pub(crate) fn leave(&mut self, id: u64, now_ms: u64) {
        let Some(member) = self.members.get(&id) else { return };
        let untold: BTreeSet<u64> = member.outbox.iter().copied().collect();
        let held = |(_, one): &(&u64, &Waiting)| one.holder.is_some_and(|(holder, _)| holder == id);
        let places: Vec<u64> = self.waiting.iter().filter(held).map(|(place, _)| *place).collect();
        for place in places {
            self.give_back(place, !untold.contains(&place), "its consumers went");
            self.is_owing = true;
        }
        self.members.remove(&id);
        if self.members.is_empty() {
            self.forget();
        }
        self.assign(now_ms);
    }

    /// Lets go of the events that are here.
    fn forget(&mut self) {
        for place in std::mem::take(&mut self.ready) {
            self.unread.insert(place);
            if let Some(one) = self.waiting.get_mut(&place) {
                one.event = None;
            }
        }
        (self.bytes, self.looked_upto) = (0, 0);
        // What never was handed out is read again in its order.
        self.next = self.untouched();
        drop(self.waiting.split_off(&self.next));
        drop(self.unread.split_off(&self.next));
    }

    /// The first place that is not done and never was handed out.
    fn untouched(&self) -> u64 {
        self.waiting.range(self.handed..).next().map_or(self.next, |(place, _)| *place)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = MemberInfo> {
        self.members.values().map(|one| MemberInfo {
            room: one.room,
            held: one.held,
            told: one.told,
        })
    }

    /// How many events are to be read ahead.
    pub(crate) fn wants(&self) -> usize {
        if self.members.is_empty() || self.bytes >= BYTES_MAX || self.ready.len() > self.ahead / 2 {
            return 0;
        }
        let most = WAITING_MAX.saturating_sub(self.waiting.len());
        most.min(self.ahead.saturating_sub(self.ready.len()))
    }

    /// Some of those that are to be read again.
    pub(crate) fn unread(&self) -> Vec<u64> {
        let room = self.ahead.saturating_sub(self.ready.len()).min(64);
        let room = if self.bytes >= BYTES_MAX || self.members.is_empty() { 0 } else { room };
        self.unread.iter().copied().take(room).collect()
    }

    /// One was read again, or is not there any more.
    pub(crate) fn read_again(&mut self, place: u64, event: Option<Recorded>) {
        if !self.unread.remove(&place) {
            return;
        }
        match event {
            Some(event) => self.put(place, event),
            None => self.done(place),
        }
    }

    /// Events were read, and everything before a place with them.
    pub(crate) fn read(&mut self, events: Vec<(u64, Recorded)>, next: u64) {
        let from = self.next;
        for (place, event) in events.into_iter().filter(|(place, _)| *place >= from) {
            self.waiting.insert(place, Waiting::default());
            self.put(place, event);
        }
        self.next = self.next.max(next);
        if self.waiting.is_empty() && self.next >= self.stored_next.saturating_add(PASSED) {
            self.version += 1;
            self.is_owing = true;
        }
    }

    fn put(&mut self, place: u64, event: Recorded) {
        if let Some(one) = self.waiting.get_mut(&place) {
            self.bytes += event.message.len();
            one.event = Some(Arc::new(event));
            self.ready.insert(place);
        }
    }

    /// Parked events are to be handed out again.
    pub(crate) fn unpark(&mut self, places: impl Iterator<Item = u64>) {
        for place in places {
            self.replay = self.replay.saturating_sub(1);
            self.parked = self.parked.saturating_sub(1);
            self.unparking.push(place);
            self.waiting.entry(place).or_insert_with(|| {
                self.unread.insert(place);
                Waiting::default()
            });
        }
        self.version += 1;
    }

    /// Ends leases whose time has come, and gives what is ready to those who have room.
    pub(crate) fn step(&mut self, now_ms: u64) {
        while let Some((until, place)) = self.due.first().copied().filter(|(at, _)| *at <= now_ms) {
            self.due.remove(&(until, place));
            let is_told = self.waiting.get(&place).is_some_and(|one| one.event.is_none());
            self.give_back(place, is_told, "its time was over");
            self.is_owing = true;
        }
        self.assign(now_ms);
    }

    /// When the next lease ends.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at).filter(|at| *at < u64::MAX)
    }

    fn assign(&mut self, now_ms: u64) {
        if self.members.values().all(|one| one.held >= one.room) {
            return;
        }
        let mut given = Vec::new();
        let mut free: usize = self.members.values().map(|one| one.room - one.held).sum();
        for place in &self.ready {
            if free == 0 {
                break;
            }
            let Some(id) = self.member_for(*place) else { continue };
            if let Some(member) = self.members.get_mut(&id) {
                member.held += 1;
                member.outbox.push_back(*place);
                given.push((*place, id));
                (self.last, free) = (id, free - 1);
            }
        }
        let until =
            if self.lease_ms == 0 { u64::MAX } else { now_ms.saturating_add(self.lease_ms) };
        for (place, id) in given {
            self.ready.remove(&place);
            self.due.insert((until, place));
            if let Some(one) = self.waiting.get_mut(&place) {
                one.holder = Some((id, until));
            }
        }
    }

    /// The consumer that an event is for; `None` if that one has no room.
    fn member_for(&self, place: u64) -> Option<u64> {
        let has_room = |(_, one): &(&u64, &Member)| one.held < one.room;
        let pinned = |seed: u64| {
            let weight = |id: u64| xxh3_64_with_seed(&id.to_be_bytes(), seed);
            let (id, member) = self.members.iter().max_by_key(|(id, _)| weight(**id))?;
            (member.held < member.room).then_some(*id)
        };
        let event = || self.waiting.get(&place).and_then(|one| one.event.as_ref());
        match self.strategy {
            Strategy::RoundRobin => {
                let later = self.members.range(self.last + 1..).find(has_room);
                later.or_else(|| self.members.iter().find(has_room)).map(|(id, _)| *id)
            }
            Strategy::First => self.members.iter().find(has_room).map(|(id, _)| *id),
            Strategy::Pinned => pinned(xxh3_64(event()?.stream.as_str().as_bytes())),
            Strategy::PinnedByCorrelation => {
                let event = event()?;
                let seed = correlation(&event.message).unwrap_or(event.stream.as_str());
                pinned(xxh3_64(seed.as_bytes()))
            }
        }
    }

    /// Whether there is something for a consumer.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.members.get(&id).is_some_and(|one| !one.outbox.is_empty())
    }

    /// Tells a consumer what is for it.
    pub(crate) fn take(&mut self, id: u64) -> Option<Handed> {
        let member = self.members.get_mut(&id)?;
        while let Some(place) = member.outbox.pop_front() {
            let Some(one) = self.waiting.get_mut(&place) else { continue };
            if one.holder.is_none_or(|(holder, _)| holder != id) {
                continue;
            }
            let Some(event) = one.event.take() else { continue };
            member.told += 1;
            self.handed = self.handed.max(place + 1);
            self.bytes = self.bytes.saturating_sub(event.message.len());
            return Some(Handed { place, tries: one.tries, event });
        }
        None
    }

    /// Whether a place is not done.
    pub(crate) fn waits(&self, place: u64) -> bool {
        self.waiting.contains_key(&place)
    }

    /// An event is done, whoever says so.
    pub(crate) fn done(&mut self, place: u64) {
        self.release(place);
        if let Some(one) = self.waiting.remove(&place) {
            self.bytes -= one.event.map_or(0, |event| event.message.len()).min(self.bytes);
            self.handed = self.handed.max(place + 1);
            self.version += 1;
        }
    }

    /// An event is to be parked.
    pub(crate) fn park(&mut self, place: u64, why: &str) {
        if self.waits(place) {
            self.done(place);
            self.unparking.retain(|unparked| *unparked != place);
            self.parking.push((place, why.to_owned()));
            self.parked += 1;
        }
    }

    /// An event is to be handed out again, or parked if that has been tried too often.
    pub(crate) fn give_back(&mut self, place: u64, is_tried: bool, why: &str) {
        self.release(place);
        let Some(one) = self.waiting.get_mut(&place) else { return };
        if is_tried {
            self.version += 1;
            one.tries += 1;
            if one.tries > self.retries_max {
                self.park(place, why);
                return;
            }
        }
        match one.event {
            Some(_) => self.ready.insert(place),
            None => self.unread.insert(place),
        };
    }

    /// Nobody has an event any more.
    fn release(&mut self, place: u64) {
        let Some(one) = self.waiting.get_mut(&place) else { return };
        if let Some((id, until)) = one.holder.take() {
            self.due.remove(&(until, place));
            if let Some(member) = self.members.get_mut(&id) {
                member.held = member.held.saturating_sub(1);
                if one.event.is_some() {
                    member.outbox.retain(|one| *one != place);
                }
            }
        }
        self.ready.remove(&place);
        self.unread.remove(&place);
    }

    /// Counts of events that nobody has, and that somebody has.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let held = self.members.values().map(|one| one.held).sum();
        (self.waiting.len().saturating_sub(held), held)
    }

    /// The first place that is not done.
    pub(crate) fn floor(&self) -> u64 {
        self.waiting.keys().next().map_or(self.next, |first| *first)
    }
}

fn correlation(message: &Message) -> Option<&str> {
    message.event().and_then(|event| event.get(CORRELATION)?.as_text())
}

#[cfg(test)]
#[path = "core/tests.rs"]
mod tests;

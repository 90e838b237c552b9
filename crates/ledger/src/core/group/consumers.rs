//! Who consumes from a group, and whose turn it is.
//!
//! Consumers that wait stand in one line: the highest priority first, among equals who waited longest.
//! When something is ready the first of the line is given the turn and woken, and nobody else; when it
//! has leased and something is left, the next one is. A turn that is not used is passed on.

use std::{
    collections::{BTreeMap, HashMap},
    task::{Context, Poll, Waker},
};

use weft_kernel::{Error, Reason, Result};

use crate::{record::ConsumerId, store::GroupConsumer};

/// What waking comes to: whom to wake, once the lock is released.
pub(crate) type Turn = Option<Waker>;

#[derive(Debug)]
struct Member {
    priority: i32,
    exclusive: bool,
    /// The order of joining.
    joined: u64,
    /// The place in the line, while it waits.
    ticket: Option<u64>,
    /// It has leased, and will look for more.
    looking: bool,
    waker: Option<Waker>,
}

/// The consumers of a group.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    single: bool,
    pub(crate) paused: bool,
    members: HashMap<ConsumerId, Member>,
    /// Priority (negated, so that the highest is first) and ticket to who waits.
    line: BTreeMap<(i64, u64), ConsumerId>,
    tickets: u64,
    /// How many have leased and will look for more.
    looking: usize,
    turn: Option<ConsumerId>,
    active: Option<ConsumerId>,
}

impl Consumers {
    pub(super) fn new(single: bool) -> Self {
        Self { single, ..Self::default() }
    }

    /// How many have joined.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether one has joined.
    pub(crate) fn has(&self, id: ConsumerId) -> bool {
        id == ConsumerId::SYSTEM || self.members.contains_key(&id)
    }

    /// Whether one is handed anything.
    pub(crate) fn served(&self, id: ConsumerId) -> bool {
        id == ConsumerId::SYSTEM
            || (!self.paused
                && self.members.contains_key(&id)
                && (!self.single || self.active == Some(id)))
    }

    /// Sets whether one at a time is active.
    pub(crate) fn set_single(&mut self, single: bool) {
        self.single = single;
        self.elect();
    }

    /// Lets one in; whether it is handed anything.
    pub(crate) fn join(&mut self, consumer: GroupConsumer) -> Result<bool> {
        let GroupConsumer { id, priority, exclusive } = consumer;
        if self.has(id) {
            return Err(Error::new(
                Reason::DefinitionConflict,
                "a consumer with this id has joined already",
            ));
        }
        let alone = self.members.values().any(|member| member.exclusive);
        if alone || (exclusive && !self.members.is_empty()) {
            return Err(Error::new(
                Reason::QueueLocked,
                if alone {
                    "a consumer that wants to be alone has joined"
                } else {
                    "to be alone there must be no other consumer, and there is"
                },
            ));
        }
        self.tickets += 1;
        let joined = self.tickets;
        let (ticket, waker, looking) = (None, None, false);
        self.members.insert(id, Member { priority, exclusive, joined, ticket, looking, waker });
        self.elect_among(id, priority);
        Ok(!self.single || self.active == Some(id))
    }

    /// Takes one out.
    pub(crate) fn leave(&mut self, id: ConsumerId) {
        self.stand_down(id);
        if self.members.remove(&id).is_some() && self.active == Some(id) {
            self.active = None;
            self.elect();
        }
    }

    fn elect_among(&mut self, id: ConsumerId, priority: i32) {
        let current = self.active.and_then(|active| self.members.get(&active));
        if current.is_none_or(|current| current.priority < priority) {
            self.active = Some(id);
        }
    }

    fn elect(&mut self) {
        if self.active.is_none() {
            let members = self.members.iter();
            let best = members.min_by_key(|(_, at)| (-i64::from(at.priority), at.joined));
            self.active = best.map(|(&id, _)| id);
        }
    }

    /// Whether a consumer may lease now without going before another; else it waits in line.
    pub(crate) fn poll(&mut self, id: ConsumerId, ready: bool, context: &Context<'_>) -> Poll<()> {
        let served = self.served(id);
        let others = self.turn.is_some_and(|turn| turn != id)
            || self.line.first_key_value().is_some_and(|(_, &first)| first != id);
        let Some(member) = self.members.get_mut(&id) else { return Poll::Ready(()) };
        if served && ready && (self.turn == Some(id) || !others) {
            return Poll::Ready(());
        }
        match &mut member.waker {
            Some(waker) => waker.clone_from(context.waker()),
            empty => *empty = Some(context.waker().clone()),
        }
        if std::mem::take(&mut member.looking) {
            self.looking -= 1;
        }
        if member.ticket.is_none() {
            self.tickets += 1;
            member.ticket = Some(self.tickets);
            self.line.insert((-i64::from(member.priority), self.tickets), id);
        }
        if self.turn == Some(id) {
            // It was woken, and somebody was faster: the turn is void, the place in line is kept.
            self.turn = None;
        }
        Poll::Pending
    }

    /// How many others wait, or are about to, that are handed something as soon as this one.
    pub(crate) fn others(&self, id: ConsumerId) -> usize {
        let Some(member) = self.members.get(&id) else { return 0 };
        if self.single || self.paused {
            return 0;
        }
        let mine = -i64::from(member.priority);
        let own = usize::from(member.ticket.is_some()) + usize::from(member.looking);
        let waiting = match self.line.last_key_value() {
            Some(((lowest, _), _)) if *lowest <= mine => self.line.len(),
            _ => self.line.range(..=(mine, u64::MAX)).count(),
        };
        waiting + self.looking - own
    }

    /// Whether one waits that is handed something once there is anything.
    pub(crate) fn wait(&self) -> bool {
        !self.paused && self.line.values().any(|&id| self.served(id))
    }

    /// Something is ready: whom to wake.
    pub(crate) fn turn(&mut self) -> Turn {
        if self.paused || self.turn.is_some_and(|turn| self.served(turn)) {
            return None;
        }
        self.turn = None;
        let next = self.line.values().copied().find(|&id| self.served(id))?;
        self.turn = Some(next);
        self.members.get_mut(&next)?.waker.take()
    }

    /// A consumer has leased: it is out of the line, and the turn is free.
    pub(crate) fn took(&mut self, id: ConsumerId) {
        if self.turn == Some(id) || self.members.get(&id).is_some_and(|at| at.ticket.is_some()) {
            self.stand_down(id);
        }
        if let Some(member) = self.members.get_mut(&id)
            && !std::mem::replace(&mut member.looking, true)
        {
            self.looking += 1;
        }
    }

    /// Takes one out of the line, and the turn from it.
    pub(crate) fn stand_down(&mut self, id: ConsumerId) {
        if self.turn == Some(id) {
            self.turn = None;
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.waker = None;
            if std::mem::take(&mut member.looking) {
                self.looking -= 1;
            }
            if let Some(ticket) = member.ticket.take() {
                self.line.remove(&(-i64::from(member.priority), ticket));
            }
        }
    }

    /// Everyone who waits, when the group is no more.
    pub(crate) fn dismiss(&mut self) -> Vec<Waker> {
        self.line.clear();
        self.turn = None;
        self.looking = 0;
        self.members.drain().filter_map(|(_, member)| member.waker).collect()
    }
}

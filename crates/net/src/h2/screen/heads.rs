//! What the header blocks of a connection's streams were, for those who read the streams.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use super::{Sender, look::Look};

/// What is remembered of streams that nobody asks for.
const FAULTS_MAX: usize = 1024;

/// What is wrong with a head or with trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::h2) enum Fault {
    /// It breaks the rules of HTTP.
    Malformed(&'static str),
    /// It is larger than the limit.
    TooLarge,
}

/// What the blocks of a connection's streams were, for those who read the streams.
#[derive(Clone, Default)]
pub(in crate::h2) struct Heads(Rc<RefCell<Seen>>);

#[derive(Default)]
struct Seen {
    /// The last stream that a client has opened.
    last: u32,
    /// Of a client, those with a fault; of a service, those that wait for a response. In the order of
    /// their numbers: they come with rising ones, and the oldest go first.
    streams: VecDeque<Stream>,
}

impl Seen {
    /// Where a stream is, or where it would be.
    fn find(&self, id: u32) -> Result<usize, usize> {
        if self.streams.is_empty() {
            return Err(0);
        }
        self.streams.binary_search_by_key(&id, |stream| stream.id)
    }

    fn get(&self, id: u32) -> Option<&Stream> {
        self.streams.get(self.find(id).ok()?)
    }

    fn add(&mut self, id: u32) {
        if let Err(at) = self.find(id) {
            let stream = Stream { id, answered: false, head: None, trailers: None };
            self.streams.insert(at, stream);
        }
    }
}

struct Stream {
    id: u32,
    /// The final head of a response was there.
    answered: bool,
    head: Option<Fault>,
    trailers: Option<Fault>,
}

impl Heads {
    /// Has a response looked for on a stream.
    pub(in crate::h2) fn expect(&self, stream: u32) {
        self.0.borrow_mut().add(stream);
    }

    pub(in crate::h2) fn forget(&self, stream: u32) {
        let mut seen = self.0.borrow_mut();
        if let Ok(at) = seen.find(stream) {
            seen.streams.remove(at);
        }
    }

    /// What was wrong with the head of a stream.
    pub(in crate::h2) fn of_head(&self, stream: u32) -> Option<Fault> {
        self.0.borrow().get(stream)?.head
    }

    /// What was wrong with the trailers of a stream.
    pub(in crate::h2) fn of_trailers(&self, stream: u32) -> Option<Fault> {
        self.0.borrow().get(stream)?.trailers
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().streams.is_empty()
    }

    /// Which part of a stream comes next.
    pub(super) fn part(&self, sender: Sender, stream: u32) -> Part {
        let seen = self.0.borrow();
        if sender == Sender::Client {
            return if stream <= seen.last { Part::Trailers } else { Part::Head };
        }
        match seen.get(stream) {
            None => Part::Late,
            Some(stream) if stream.answered => Part::Trailers,
            Some(_) => Part::Head,
        }
    }

    pub(super) fn note(&self, sender: Sender, id: u32, look: &Look) {
        let mut seen = self.0.borrow_mut();
        if sender == Sender::Client {
            seen.last = seen.last.max(id);
            if look.fault.is_some() {
                seen.add(id);
                if seen.streams.len() > FAULTS_MAX {
                    seen.streams.pop_front();
                }
            }
        }
        let Ok(at) = seen.find(id) else { return };
        let Some(stream) = seen.streams.get_mut(at) else { return };
        match look.part {
            Part::Head => {
                stream.answered |= look.fault.is_some() || look.status >= 200;
                stream.head = look.fault;
            }
            Part::Trailers => stream.trailers = look.fault,
            Part::Late => {}
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Head,
    Trailers,
    /// Either, of a stream for which nobody waits any more.
    Late,
}

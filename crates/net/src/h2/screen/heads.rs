//! What the header blocks of a connection's streams were, for those who read the streams.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use weft_kernel::Reason;
use weft_wire::RequestHead;

use super::{Sender, look::Look, request::Refused};

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
#[derive(Clone)]
pub(in crate::h2) struct Heads(Rc<RefCell<Seen>>);

#[derive(Default)]
struct Seen {
    /// The last stream that a client has opened.
    last: u32,
    /// Requests that nobody has taken yet, in the order of their streams.
    requests: VecDeque<(u32, Result<RequestHead, Refused>)>,
    /// How many bytes they hold.
    held: usize,
    /// Most of them, and of their bytes.
    room: (usize, usize),
    /// Of a client, those whose trailers have a fault; of a service, those that wait for a response. In the order of
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
    /// Of a connection on which so many requests, of so many bytes together, may wait to be accepted.
    pub(super) fn new(room: (usize, usize)) -> Self {
        Self(Rc::new(RefCell::new(Seen { room, ..Seen::default() })))
    }

    /// Holds a request until its stream is accepted. A client that has more of them waiting than the library accepts is
    /// refused the others; they are told by that nothing is here of them.
    pub(super) fn hold(&self, stream: u32, request: Result<RequestHead, Refused>) {
        let mut seen = self.0.borrow_mut();
        let bytes = size(&request);
        if seen.requests.len() < seen.room.0 && seen.held + bytes <= seen.room.1 {
            seen.held += bytes;
            seen.requests.push_back((stream, request));
        }
    }

    /// The request of a stream that was accepted. Streams are accepted in the order of their numbers: what is here of
    /// those before was refused.
    pub(in crate::h2) fn take(&self, stream: u32) -> Result<RequestHead, Refused> {
        let mut seen = self.0.borrow_mut();
        while let Some((id, request)) = seen.requests.pop_front_if(|(id, _)| *id <= stream) {
            seen.held -= size(&request);
            if id == stream {
                return request;
            }
        }
        Err((Reason::Overload, "too many requests of this connection wait"))
    }

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
        self.0.borrow().streams.is_empty() && self.0.borrow().requests.is_empty()
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
            if look.fault.is_some() && look.part == Part::Trailers {
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

/// How many bytes a request holds.
fn size(request: &Result<RequestHead, Refused>) -> usize {
    request.as_ref().map_or(0, |head| head.target.len() + head.fields.text().len())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Head,
    Trailers,
    /// Either, of a stream for which nobody waits any more.
    Late,
}

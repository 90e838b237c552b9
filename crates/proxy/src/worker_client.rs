//! Requests that begin inside Weft: deliveries that are pushed to services, and what was deferred.
//!
//! They go the way of every other request, policies and accounts included; only there is no client whose
//! connection they came by. They belong to the pseudo-listener [`LISTENER`], which has no socket.

use std::{pin::pin, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use weft_kernel::{Error, Name, Reason, Result, Tick};
use weft_net::{
    Address,
    body::{Body, Frame},
    clock,
    message::{InterimSender, Peer},
    timer::TaskTimer,
};
use weft_wire::{Fields, Known, RequestHead, h1};

use crate::{
    answer,
    exchange::Exchange,
    front,
    local::{Local, ViewCache},
    prepare,
    route::Route,
    router::{Captures, Found},
};

/// The name of the listener under which such requests are counted and logged.
pub const LISTENER: &str = "internal";

/// The time that a route's own limits have to end a request, which say more, before it is given up.
const GRACE: Duration = Duration::from_secs(1);

/// A response that has been read.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The status; Weft's own if no service answered.
    pub status: u16,
    /// The fields.
    pub fields: Fields,
    /// The body, as far as it was read.
    pub body: Bytes,
    /// The trailers, if they came.
    pub trailers: Option<Fields>,
    /// How the reading of the body ended.
    pub end: BodyEnd,
    /// Why Weft itself answered, if it did.
    pub reason: Option<Reason>,
}

/// How the reading of a response's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// The body is whole.
    Whole,
    /// The body is longer than was to be read, and the rest was not waited for.
    Cut,
    /// The body broke off, or did not end in time.
    Broken(Reason),
}

/// Bounds within which a response is read. A route's own timeout ends with the head of the response;
/// these end with its body, since nobody waits for a stream here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The most bytes of the body that are read.
    pub bytes_max: usize,
    /// The time for request and response together.
    pub whole_max: Option<Duration>,
    /// The time for the body, once the head has come.
    pub body_max: Duration,
}

impl Reading {
    /// The instant at which a response that began at `began`, and whose head came at `head`, is given up.
    fn until(&self, began: Tick, head: Tick) -> Tick {
        let whole = self.whole_max.map_or(Tick::NEVER, |span| began.plus(span));
        whole.min(head.plus(self.body_max))
    }
}

/// The head as HTTP wants it: with the length of its body, and a host.
fn addressed(mut head: RequestHead, route: &Route, length: usize) -> RequestHead {
    head.fields.remove(Known::TransferEncoding);
    let mut text = Vec::with_capacity(8);
    h1::push_decimal(&mut text, length as u64);
    head.fields.set(Known::ContentLength, &text);
    if !head.fields.has(Known::Host) {
        let service = route.plan.services().next().unwrap_or(&route.name);
        head.fields.set(Known::Host, service.as_str().as_bytes());
    }
    head
}

/// Sends requests from inside Weft, on one worker.
pub struct WorkerClient {
    local: Rc<Local>,
    views: ViewCache,
    peer: Rc<Peer>,
}

impl WorkerClient {
    /// The client of a worker's own requests.
    pub fn new(local: Rc<Local>) -> Result<Self> {
        let name = Name::new(LISTENER).map_err(|error| {
            Error::new(Reason::Internal, "no name for a listener").because(error)
        })?;
        let address = Address::Unix(std::path::PathBuf::new());
        let peer = Rc::new(Peer { address, local: None, tls: None });
        Ok(Self { local, views: ViewCache::new(name), peer })
    }

    /// Sends a request by a route, and reads the answer within bounds.
    ///
    /// The head's target is a normal path. Not sending is an answer too, with a
    /// [`reason`](Answered::reason), and so is one whose body does not end well; an error is only what
    /// kept the request from being led along its route.
    pub async fn send(
        &self,
        route: &Name,
        head: RequestHead,
        body: Bytes,
        reading: Reading,
    ) -> Result<Answered> {
        let view = self.views.look(&self.local).ok_or_else(gone)?;
        let found = view.snapshot.route(route).cloned().ok_or_else(|| {
            Error::new(Reason::Misconfigured, format!("there is no route `{route}`"))
        })?;
        let now = clock::now();
        let head = addressed(head, &found, body.len());
        let listener = Arc::clone(&view.listener);
        let mut exchange = Exchange::begin(self.local.clone(), view, self.peer.clone(), head, now);
        // A call of gRPC says so, and is handed on as one.
        if exchange.received.head.fields.has(Known::Te) {
            exchange.received.grpc = prepare::grpc_of(&exchange.received.head.fields);
        }
        prepare::identify(&mut exchange.received, &listener, &self.local);
        // What the head says of the client is Weft's own word.
        exchange.received.depth = 1;
        exchange.received.said = 1;
        let (timer, interim_sender) = (TaskTimer::default(), InterimSender::default());
        let whole = Found { route: 0, match_index: 0, prefix_len: 0 };
        let captures = Captures::default();
        let way = front::Walk { route: found, found: whole, captures: &captures };
        let body = Body::full(body);
        let followed = {
            let until = reading.whole_max.map_or(Tick::NEVER, |span| now.plus(span).plus(GRACE));
            let follows = pin!(front::follow(&mut exchange, way, body, &timer, &interim_sender));
            timer.within(until, follows).await
        };
        let late = || Error::new(Reason::RequestTimeout, "there was no answer in time");
        let answer = match followed.unwrap_or_else(|_elapsed| Err(late())) {
            Ok(answer) => answer,
            Err(error) => answer::problem(&mut exchange, &error, None),
        };
        let reason = exchange.record.reason;
        let mut response = answer.send(exchange).await;
        let done = response.done.take();
        let until = reading.until(now, clock::now());
        let (mut read, mut trailers) = (Vec::new(), None);
        let end = {
            let bytes_max = reading.bytes_max;
            let reads = pin!(read_body(response.body, bytes_max, &mut read, &mut trailers));
            // The body goes with the future that reads it, and its connection with the body.
            timer.within(until, reads).await.unwrap_or(BodyEnd::Broken(Reason::RequestTimeout))
        };
        if let Some(done) = done {
            let outcome = match end {
                BodyEnd::Whole | BodyEnd::Cut => Ok(()),
                BodyEnd::Broken(reason) => Err(reason),
            };
            done.end(read.len() as u64, outcome);
        }
        Ok(Answered {
            status: response.head.status,
            fields: response.head.fields,
            body: read.into(),
            trailers,
            end,
            reason,
        })
    }
}

/// That the node has no place for a request of its own any more.
pub(crate) fn gone() -> Error {
    Error::new(Reason::Draining, "no request can begin here any more")
}

/// Reads a body up to so many bytes.
async fn read_body(
    mut body: Body,
    bytes_max: usize,
    into: &mut Vec<u8>,
    trailers: &mut Option<Fields>,
) -> BodyEnd {
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(Frame::Data(bytes)) => {
                let room = bytes_max - into.len();
                into.extend_from_slice(&bytes[..bytes.len().min(room)]);
                if bytes.len() > room {
                    return BodyEnd::Cut;
                }
            }
            Ok(Frame::Trailers(fields)) => *trailers = Some(fields),
            Err(error) => return BodyEnd::Broken(error.reason()),
        }
    }
    BodyEnd::Whole
}

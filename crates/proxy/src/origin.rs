//! Requests that begin inside Weft: deliveries that are pushed to services, and what was deferred.
//!
//! They go the way of every other request, policies and accounts included; only there is no client whose
//! connection they came by. They belong to the pseudo-listener [`LISTENER`], which has no socket.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use weft_kernel::{Error, Name, Reason, Result, SystemClock};
use weft_net::{
    Address,
    alarm::Alarm,
    body::Body,
    message::{Inform, Peer},
};
use weft_wire::{Fields, Known, RequestHead, h1};

use crate::{
    answer,
    exchange::Exchange,
    front,
    local::{Local, Window},
    prepare,
    route::Route,
    router::{Captures, Found},
};

/// The name of the listener under which such requests are counted and logged.
pub const LISTENER: &str = "internal";

/// A whole response.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The status; Weft's own if no service answered.
    pub status: u16,
    /// The fields.
    pub fields: Fields,
    /// The body.
    pub body: Bytes,
    /// Why Weft itself answered, if it did.
    pub reason: Option<Reason>,
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
pub struct Origin {
    local: Rc<Local>,
    window: Window,
    peer: Rc<Peer>,
}

impl Origin {
    /// The origin of a worker's own requests.
    pub fn new(local: Rc<Local>) -> Result<Self> {
        let name = Name::new(LISTENER).map_err(|error| {
            Error::new(Reason::Internal, "no name for a listener").because(error)
        })?;
        let address = Address::Unix(std::path::PathBuf::new());
        let peer = Rc::new(Peer { address, local: None, tls: None });
        Ok(Self { local, window: Window::new(name), peer })
    }

    /// Sends a request by a route, and reads the answer up to `bytes_max`.
    ///
    /// The head's target is a normal path. Not sending is an answer too, with a
    /// [`reason`](Answered::reason); an error is only what kept the answer from being read.
    pub async fn send(
        &self,
        route: &Name,
        head: RequestHead,
        body: Bytes,
        bytes_max: usize,
    ) -> Result<Answered> {
        let gone = || Error::new(Reason::Draining, "no request can begin here any more");
        let view = self.window.look(&self.local).ok_or_else(gone)?;
        let found = view.snapshot.route(route).cloned().ok_or_else(|| {
            Error::new(Reason::Misconfigured, format!("there is no route `{route}`"))
        })?;
        let now = SystemClock::tick();
        let head = addressed(head, &found, body.len());
        let listener = Arc::clone(&view.listener);
        let mut exchange = Exchange::begin(self.local.clone(), view, self.peer.clone(), head, now);
        prepare::identify(&mut exchange, &listener);
        // What the head says of the client is Weft's own word.
        exchange.depth = 1;
        let (alarm, inform) = (Alarm::default(), Inform::default());
        let whole = Found { route: 0, match_index: 0, prefix_len: 0 };
        let captures = Captures::default();
        let way = front::Walk { route: found, found: whole, captures: &captures };
        let body = Body::full(body);
        let answer = match front::follow(&mut exchange, way, body, &alarm, &inform).await {
            Ok(answer) => answer,
            Err(error) => answer::problem(&mut exchange, &error, None),
        };
        let reason = exchange.reason;
        let mut response = answer.send(exchange);
        let done = response.done.take();
        let read = response.body.collect(bytes_max).await;
        if let Some(done) = done {
            match &read {
                Ok(body) => done.end(body.len() as u64, Ok(())),
                Err(error) => done.end(0, Err(error.reason())),
            }
        }
        Ok(Answered {
            status: response.head.status,
            fields: response.head.fields,
            body: read?,
            reason,
        })
    }
}

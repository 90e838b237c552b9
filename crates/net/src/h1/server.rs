//! The server side of a client's HTTP/1.1 connection.
//!
//! A request is read, handed to the [`Handler`], and its response written, one after the other; what a
//! client sends ahead waits. While the handler works the connection is watched, so that a client that
//! goes away ends the work. Every wait has a limit: for a head, for the next request, for a body that
//! stops, for a client that does not read.

mod closing;
mod head;
mod incoming;
mod watch;
mod writer;

use std::{cell::RefCell, future::poll_fn, pin::pin, rc::Rc, task::Poll, time::Duration};

use bytes::BytesMut;
use weft_kernel::Tick;
use weft_wire::{
    Length, Method, ResponseHead, Version,
    h1::{ChunkedDecoder, Framing, HeadLimits, ParsedRequest},
};

pub(crate) use self::incoming::{RequestBody, Shared};
use self::{
    closing::{drain_body, linger, may_follow},
    head::{Head, read_head},
    incoming::{Incoming, check_waiting},
    watch::Client,
    writer::{Then, Writer},
};
use super::link::Link;
use crate::{
    age::retires,
    body::Body,
    clock,
    io::{Io, Rewound},
    message::{Handler, InterimSender, OnEnd, Peer, Request, Response, Tunnel},
    relay::relay,
    tasks::Stop,
    timer::TaskTimer,
};

/// How a connection is served.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limits of a request head.
    pub head: HeadLimits,
    /// Time for a whole head, from its first byte; for the first request, from the beginning.
    pub header_timeout: Duration,
    /// Longest time between two requests.
    pub idle_timeout: Duration,
    /// Longest silence within a request body, or of a client that does not read.
    pub stream_idle_timeout: Duration,
    /// Age after which the connection is closed at the next response.
    pub age_max: Option<Duration>,
}

/// How a connection ended.
pub enum Ended {
    /// It is over.
    Closed,
    /// The client speaks HTTP/2 by prior knowledge; these bytes have been read.
    Http2(Io, BytesMut),
}
/// Serves a connection until it ends. `early` are bytes that have already been read from it.
pub async fn serve<H: Handler>(
    io: Io,
    early: BytesMut,
    peer: Rc<Peer>,
    settings: &Settings,
    handler: &H,
    stop: &Stop,
) -> Ended {
    let shared = Rc::new(RefCell::new(Shared {
        link: Link::new(io, early),
        incoming: Incoming::Done,
        owes_continue: false,
        touched: false,
        begins: None,
        waiting: None,
        responding: false,
        informable: true,
        watcher: None,
    }));
    let timer = TaskTimer::default();
    let began = clock::now();
    let retires = retires(began, settings.age_max);
    // Kept from request to request: to enlist and to leave takes a lock that all workers share.
    let mut draining = stop.draining();
    let mut first = true;
    loop {
        let parsed =
            match read_head(&shared, settings, &timer, (&mut draining, retires), first).await {
                Head::Request(parsed) => parsed,
                Head::Preface => return unwrap_http2(shared),
                Head::Closed => return Ended::Closed,
                Head::Refused(reason, detail) => {
                    let response = handler.refuse(&peer, reason, &detail);
                    let writer =
                        Writer { shared: &shared, settings, timer: &timer, method: &Method::Get };
                    let _ = writer.write(response, false, Version::Http11).await;
                    linger(&shared, &timer).await;
                    return Ended::Closed;
                }
            };
        first = false;
        let ParsedRequest { head, framing, keep_alive, expects_continue, .. } = *parsed;
        let (method, version) = (head.method.clone(), head.version);
        let body = {
            let mut state = shared.borrow_mut();
            state.owes_continue = expects_continue;
            state.touched = false;
            state.begins = None;
            state.responding = false;
            state.informable = version == Version::Http11;
            state.waiting = None;
            let length = match framing {
                Framing::None | Framing::Length(0) => None,
                Framing::Length(length) => {
                    state.incoming = Incoming::Length(length);
                    Some(Length::Exact(length))
                }
                Framing::Chunked | Framing::Close => {
                    state.incoming = Incoming::Chunked(ChunkedDecoder::default());
                    Some(Length::Unknown)
                }
            };
            match length {
                Some(length) => Body::H1Request(RequestBody { shared: shared.clone(), length }),
                None => Body::Empty,
            }
        };
        let interim_sender = InterimSender::h1(&shared);
        let request =
            Request { head, body, peer: peer.clone(), timer: timer.clone(), interim_sender };
        let mut response = match handle(handler, request, &shared, settings, &timer).await {
            Ok(response) => response,
            Err(client) => {
                if client == Client::Short {
                    // It may still read that its request was not whole (RFC 9112 section 8).
                    let response = Response::new(ResponseHead::new(400), Body::Empty);
                    let writer =
                        Writer { shared: &shared, settings, timer: &timer, method: &method };
                    let _ = writer.write(response, false, version).await;
                    linger(&shared, &timer).await;
                }
                return Ended::Closed;
            }
        };
        if response.tunnel.is_some() && !drain_body(&shared, &timer).await {
            // What comes next is still the body: it would be taken for the other protocol.
            response.tunnel = None;
            response.head = ResponseHead::new(400);
        }
        // Who waits for the end of a tunnel is not told of the head that opens it.
        let tunnel = response.tunnel.take().map(|tunnel| (tunnel, response.done.take()));
        let more = may_follow(&shared.borrow(), &response.body);
        let retired = retires != Tick::NEVER && clock::now() >= retires;
        let stays = keep_alive && more && !stop.is_draining() && !retired;
        let writer = Writer { shared: &shared, settings, timer: &timer, method: &method };
        let then = writer.write(response, stays || tunnel.is_some(), version).await;
        if let Some((tunnel, done)) = tunnel {
            if then == Then::Stays {
                join(shared, *tunnel, done, stop).await;
            }
            return Ended::Closed;
        }
        if then == Then::Stays && drain_body(&shared, &timer).await {
            continue;
        }
        if then != Then::Cut {
            linger(&shared, &timer).await;
        }
        return Ended::Closed;
    }
}
/// Lets the handler work, watching the client meanwhile; an error if the client has gone.
async fn handle<H: Handler>(
    handler: &H,
    request: Request,
    shared: &RefCell<Shared>,
    settings: &Settings,
    timer: &TaskTimer,
) -> Result<Response, Client> {
    let mut work = pin!(handler.call(request));
    let mut asked = Tick::NEVER;
    poll_fn(|cx| {
        if let Poll::Ready(response) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(response));
        }
        let mut state = shared.borrow_mut();
        if !state.link.is_flushed() && matches!(state.link.poll_flush(cx), Poll::Ready(Err(_))) {
            return Poll::Ready(Err(Client::Gone));
        }
        match watch::look(&mut state, cx) {
            Client::There => {}
            client => return Poll::Ready(Err(client)),
        }
        if watch::poll_unread(&state, timer, &mut asked, cx).is_ready() {
            return Poll::Ready(Err(Client::Gone));
        }
        check_waiting(&mut state, settings, timer, cx);
        Poll::Pending
    })
    .await
}
fn take_io(shared: Rc<RefCell<Shared>>) -> Option<(Io, BytesMut)> {
    let shared = Rc::try_unwrap(shared).ok()?.into_inner();
    Some((shared.link.io, shared.link.inbuf))
}

fn unwrap_http2(shared: Rc<RefCell<Shared>>) -> Ended {
    match take_io(shared) {
        Some((io, early)) => Ended::Http2(io, early),
        None => Ended::Closed,
    }
}

/// Joins the client's connection to the service's.
async fn join(shared: Rc<RefCell<Shared>>, tunnel: Tunnel, done: Option<OnEnd>, stop: &Stop) {
    if let Some((io, early)) = take_io(shared) {
        let mut client = Rewound::with(early, io);
        let mut service = Rewound::with(tunnel.early.into(), tunnel.io);
        let relayed = relay(&mut client, &mut service, tunnel.idle_timeout, stop).await;
        if let Some(done) = done {
            done.relayed(relayed);
        }
    }
}

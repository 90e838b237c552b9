//! A request and its response, between a connection and whoever handles it.

use std::{cell::RefCell, future::Future, rc::Rc, rc::Weak};

use bytes::Bytes;
use h2::server::SendResponse;
use weft_kernel::Reason;
use weft_wire::{Fields, RequestHead, ResponseHead};

use crate::{
    address::Address,
    body::Body,
    h1, h2 as http2,
    io::{Io, TlsInfo},
    relay::Relayed,
    timer::TaskTimer,
};

/// Who is on the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address the connection came from, or what a PROXY protocol header said.
    pub address: Address,
    /// The address it came to.
    pub local: Option<Address>,
    /// The TLS session, if there is one.
    pub tls: Option<Rc<TlsInfo>>,
}

/// A request with all that belongs to it.
pub struct Request {
    /// The head; the target is as it came, not yet normalised.
    pub head: RequestHead,
    /// The body.
    pub body: Body,
    /// Who sent it.
    pub peer: Rc<Peer>,
    /// The timer of the task that handles it.
    pub timer: TaskTimer,
    /// Takes interim responses (1xx) to the client.
    pub interim_sender: InterimSender,
}

/// The answer.
pub struct Response {
    /// The head, without what frames the body or concerns the connection.
    pub head: ResponseHead,
    /// The body. Its length decides the framing; for a response to HEAD, and for 304, the
    /// `Content-Length` field in the head is passed on and the body is not sent.
    pub body: Body,
    /// The stream to which the client's connection is joined after this response (101 or CONNECT).
    pub tunnel: Option<Box<Tunnel>>,
    /// Whom to tell when it has been sent; with a tunnel, when that has ended.
    pub done: Option<OnEnd>,
}

impl Response {
    /// A response with a head and a body.
    pub fn new(head: ResponseHead, body: Body) -> Self {
        Self { head, body, tunnel: None, done: None }
    }
}

/// A connection to a service that has left HTTP.
pub struct Tunnel {
    /// The connection.
    pub io: Io,
    /// Bytes that came with the service's last head.
    pub early: bytes::Bytes,
    /// Longest silence in both directions.
    pub idle_timeout: std::time::Duration,
}

/// Told once when a response has been sent, or could not be.
pub struct OnEnd(Option<Box<dyn End>>);

/// What happens when a response has been sent.
pub trait End {
    /// `sent` bytes of body have left; with a reason if that was not all.
    fn end(self: Box<Self>, sent: u64, outcome: Result<(), Reason>);
    /// The tunnel behind the response has ended.
    fn relayed(self: Box<Self>, relayed: Relayed);
}

impl OnEnd {
    /// Calls `end` once; with [`Reason::CallerGone`] if it is dropped before.
    pub fn new(end: Box<dyn End>) -> Self {
        Self(Some(end))
    }

    /// Tells that it is over.
    pub fn end(mut self, sent: u64, outcome: Result<(), Reason>) {
        if let Some(end) = self.0.take() {
            end.end(sent, outcome);
        }
    }

    /// Tells that the tunnel is over.
    pub fn relayed(mut self, relayed: Relayed) {
        if let Some(end) = self.0.take() {
            end.relayed(relayed);
        }
    }
}

impl Drop for OnEnd {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end.end(0, Err(Reason::CallerGone));
        }
    }
}

/// Takes interim responses to a client that can read them.
#[derive(Clone, Default)]
pub struct InterimSender(To);

#[derive(Clone, Default)]
enum To {
    #[default]
    Nobody,
    H1(Weak<RefCell<h1::server::Shared>>),
    H2(Weak<RefCell<SendResponse<Bytes>>>),
}

impl InterimSender {
    pub(crate) fn h1(connection: &Rc<RefCell<h1::server::Shared>>) -> Self {
        Self(To::H1(Rc::downgrade(connection)))
    }

    pub(crate) fn h2(stream: &Rc<RefCell<SendResponse<Bytes>>>) -> Self {
        Self(To::H2(Rc::downgrade(stream)))
    }

    /// Sends a 1xx head (not 101) ahead of the response; HTTP/1.0 clients get none.
    pub fn send(&self, head: &ResponseHead) {
        match &self.0 {
            To::Nobody => {}
            To::H1(connection) => {
                if let Some(connection) = connection.upgrade() {
                    connection.borrow_mut().send_interim(head);
                }
            }
            To::H2(stream) => {
                if let Some(stream) = stream.upgrade() {
                    http2::server::send_interim(&mut stream.borrow_mut(), head);
                }
            }
        }
    }

    /// Tells a client that waits for it to send its body.
    pub(crate) fn go_on(&self) {
        self.send(&ResponseHead { status: 100, fields: Fields::default() });
    }
}

/// Answers requests. One handler serves all connections of a worker.
pub trait Handler: 'static {
    /// Answers one request. The future is dropped if the client goes away.
    fn call(&self, request: Request) -> impl Future<Output = Response>;
    /// A connection broke the rules of its protocol before there was a request to handle: says what to
    /// answer, if it can still be answered.
    fn refuse(&self, peer: &Rc<Peer>, reason: Reason, detail: &str) -> Response;
}

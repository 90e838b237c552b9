//! Where the request path meets messages: requests that end inside Weft.
//!
//! The request path knows nothing of topics and queues. Whoever keeps them gives each worker an
//! [`Inside`], and routes with such a target hand their requests to it.

use std::{future::Future, net::IpAddr, pin::Pin, rc::Rc};

use weft_kernel::{Error, Name, Reason, Result};
use weft_net::{
    Io, Stop,
    alarm::Alarm,
    body::Body,
    message::{Peer, Tunnel},
};
use weft_wire::{RequestHead, ResponseHead};

use crate::{local::Local, plan};

/// A future of one worker.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A request for somebody inside Weft.
pub struct Call {
    /// The route by which it came.
    pub route: Name,
    /// Its head, normalised.
    pub head: RequestHead,
    /// Its body, limited as the route says.
    pub body: Body,
    /// The client, as far as it can be believed.
    pub client: Option<IpAddr>,
    /// Whether it came by TLS.
    pub secure: bool,
    /// The trace that it belongs to, as `traceparent`.
    pub traceparent: [u8; 55],
    /// The id by which it is found in every log.
    pub request_id: String,
    /// The timer of the task that handles it.
    pub alarm: Alarm,
}

/// A response from inside Weft.
pub struct Reply {
    /// The head, without what frames the body.
    pub head: ResponseHead,
    /// The body.
    pub body: Body,
    /// What the connection is joined to after a 101.
    pub tunnel: Option<Box<Tunnel>>,
}

impl Reply {
    /// A response with a head and a body.
    pub const fn new(head: ResponseHead, body: Body) -> Self {
        Self { head, body, tunnel: None }
    }
}

/// Answers requests inside Weft.
pub trait Inside: Send + Sync {
    /// Answers a request to a target. Dropped if the client goes away.
    fn call<'a>(
        &'a self,
        local: &'a Rc<Local>,
        target: &'a plan::Inside,
        call: Call,
    ) -> LocalFuture<'a, Result<Reply>>;

    /// Takes a request that its client wants to be answered later, keeps it, and answers in its stead;
    /// [`Origin::send`](crate::Origin::send) carries it out on its route.
    fn defer<'a>(
        &'a self,
        local: &'a Rc<Local>,
        how: &'a plan::RespondAsync,
        call: Call,
    ) -> LocalFuture<'a, Result<Reply>>;

    /// Speaks with a client that does not speak HTTP, until the connection ends or `stop` says so.
    fn accept<'a>(
        &'a self,
        local: &'a Rc<Local>,
        listener: &'a Name,
        io: Io,
        peer: Peer,
        stop: Stop,
    ) -> LocalFuture<'a, Result<()>>;
}

/// Nobody is there to answer.
pub(crate) fn nobody() -> Error {
    Error::new(Reason::Misconfigured, "nothing keeps messages on this node")
}

/// Whether a client asks to be answered later: `Prefer: respond-async` (RFC 7240 section 4.1).
pub(crate) fn asks_later(head: &RequestHead) -> bool {
    head.fields.all_named("prefer").any(|value| {
        value.split(|byte| *byte == b',').any(|preference| {
            let name = preference.split(|byte| b";=".contains(byte)).next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(b"respond-async")
        })
    })
}

#[cfg(test)]
mod tests {
    use weft_wire::{Fields, Method, Version};

    use super::*;

    #[test]
    fn a_preference_is_found_among_others() {
        for (value, asks) in [
            ("respond-async", true),
            ("return=minimal, Respond-Async; x=1, wait=10", true),
            ("respond-asynchronously", false),
            ("wait=10", false),
            ("", false),
        ] {
            let mut fields = Fields::new();
            fields.append("prefer", value.as_bytes());
            let head = RequestHead {
                method: Method::Post,
                target: "/".into(),
                version: Version::Http11,
                fields,
                upgrade: None,
            };
            assert_eq!(asks_later(&head), asks, "{value}");
        }
    }
}

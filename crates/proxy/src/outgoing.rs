//! A request as one service is asked it: made of what was received, anew for each service, so that no
//! service is told what was meant for another.
//!
//! What the listener, the route and the service say is written once; what depends on the endpoint, the
//! number of the try and the time that is left, before each try.

use std::net::IpAddr;

use weft_discovery::Endpoint;
use weft_kernel::{Deadline, Result, Rng, Tick};
use weft_net::Address;
use weft_wire::{Fields, Known, RequestHead, Version, forwarded, grpc, h1};

use crate::{hash::Hashed, received::Received, tunnel, upstream::Upstream};

/// A request as one service is asked it.
pub(crate) struct Outgoing {
    pub(crate) head: RequestHead,
    /// What a hashing balancer goes by, and the cookie that the answer must set for it.
    pub(crate) hashed: Hashed,
    /// The key that the service must answer to, if Weft itself asks for a WebSocket.
    pub(crate) key: Option<String>,
    /// What is done as soon as an endpoint is found for the first try.
    pub(crate) on_try: Option<Box<dyn FnOnce()>>,
    is_grpc: bool,
    /// Whether each endpoint is asked by its own name.
    by_endpoint: bool,
}

/// One try of a request.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// The service.
    pub(crate) upstream: &'a Upstream,
    /// Which of its tries it is, from 1.
    pub(crate) number: u32,
    /// By when there must be an answer.
    pub(crate) deadline: Deadline,
    /// When it begins.
    pub(crate) now: Tick,
}

impl Outgoing {
    /// Nothing: no service is asked yet.
    #[inline]
    pub(crate) const fn none() -> Self {
        let head = RequestHead::none();
        let hashed = Hashed { value: None, cookie: None };
        Self { head, hashed, key: None, on_try: None, is_grpc: false, by_endpoint: false }
    }

    /// Begins anew with the head that was received, which may be `needed` again.
    pub(crate) fn begin(&mut self, received: &mut Received, needed: bool, hashed: Hashed) {
        received.hand_head(needed, &mut self.head);
        self.hashed = hashed;
        self.key = None;
        self.on_try = None;
        self.by_endpoint = false;
    }

    /// Asks for an upgrade by HTTP/1.1, takes off what belongs to the client's connection, and writes what
    /// whoever is asked is to know of the client and the way; `name` is this node's in `Via`.
    pub(crate) fn lead(&mut self, received: &Received, name: &str, rng: &mut Rng) -> Result<()> {
        self.key = tunnel::prepare(&mut self.head, rng)?;
        hand_on(received, name, &mut self.head);
        self.is_grpc = received.grpc.is_some();
        Ok(())
    }

    /// Ends the part that is the same for all endpoints; `by_endpoint` is to name each in `Host`.
    pub(crate) fn complete(&mut self, by_endpoint: bool) {
        // A client of HTTP/1.0 need not say a host; HTTP/1.1 must.
        self.by_endpoint = by_endpoint || !self.head.fields.has(Known::Host);
    }

    /// Writes what is for one try alone.
    pub(crate) fn address(&mut self, attempt: &Attempt<'_>, endpoint: &Endpoint) {
        address(&mut self.head, self.is_grpc, self.by_endpoint, attempt, endpoint);
    }

    /// The head of another try beside the one that was addressed last.
    pub(crate) fn beside(&self, attempt: &Attempt<'_>, endpoint: &Endpoint) -> RequestHead {
        let mut head = self.head.clone();
        address(&mut head, self.is_grpc, self.by_endpoint, attempt, endpoint);
        head
    }
}

fn address(
    head: &mut RequestHead,
    is_grpc: bool,
    by_endpoint: bool,
    attempt: &Attempt<'_>,
    endpoint: &Endpoint,
) {
    pass_deadline(&mut head.fields, is_grpc, attempt.deadline, attempt.now);
    if attempt.number > 1 {
        // The first try has asked.
        head.fields.remove(Known::Expect);
        let mut text = Vec::new();
        h1::push_decimal(&mut text, u64::from(attempt.number));
        head.fields.set(Known::XAttempt, &text);
    }
    if by_endpoint {
        head.fields.set(Known::Host, attempt.upstream.host(endpoint).as_bytes());
    }
}

/// Takes off what belongs to the client's connection and writes what the service is to know: who the
/// client is, which way the request came, its id and trace.
pub(crate) fn hand_on(received: &Received, name: &str, head: &mut RequestHead) {
    let is_grpc = received.grpc.is_some();
    let trusted = received.said > 0;
    let named = received.depth > 0;
    let told = received.forwarded.as_deref();
    head.fields.strip_hop_by_hop(is_grpc);
    // Whether a body is to come is for the service to decide, if there is one.
    if received.bodiless || head.version == Version::Http10 {
        head.fields.remove(Known::Expect);
    }
    // How often Weft has tried is Weft's to say.
    head.fields.remove(Known::XAttempt);
    let mut text = Vec::with_capacity(64);
    if let Some(peer) = peer_ip(&received.peer.address) {
        if let Some(told) = told {
            forwarded::write_chain(&told.chain, peer, &mut text);
        } else if named {
            forwarded::write_x_forwarded_for(
                head.fields.all(Known::XForwardedFor),
                peer,
                &mut text,
            );
        } else {
            forwarded::write_x_forwarded_for([], peer, &mut text);
        }
        head.fields.set(Known::XForwardedFor, &text);
        text.clear();
    }
    // Forwarded would have to agree with the fields above; one way of telling is enough.
    head.fields.remove(Known::Forwarded);
    let proto: &[u8] = if received.secure { b"https" } else { b"http" };
    if told.is_some() || !(trusted && head.fields.has(Known::XForwardedProto)) {
        head.fields.set(Known::XForwardedProto, proto);
    }
    if let Some(host) = told.and_then(|told| told.host.as_ref()) {
        head.fields.set(Known::XForwardedHost, host.as_bytes());
    } else if !(trusted && head.fields.has(Known::XForwardedHost))
        && let Some(host) = head.fields.get(Known::Host)
    {
        text.extend_from_slice(host);
        head.fields.set(Known::XForwardedHost, &text);
        text.clear();
    }
    via(&mut head.fields, head.version, name, &mut text);
    head.fields.set(Known::XRequestId, received.request_id.as_bytes());
    for known in [
        Known::B3,
        Known::XB3TraceId,
        Known::XB3SpanId,
        Known::XB3Sampled,
        Known::XB3Flags,
        Known::XB3ParentSpanId,
    ] {
        head.fields.remove(known);
    }
    head.fields.set(Known::Traceparent, &received.trace.traceparent());
    // One that is good belongs to the trace that goes on, and stays as it came.
    if received.trace.tracestate.is_none() {
        head.fields.remove(Known::Tracestate);
    }
}

fn via(fields: &mut Fields, version: Version, name: &str, text: &mut Vec<u8>) {
    text.clear();
    text.extend_from_slice(version.short().as_bytes());
    text.push(b' ');
    text.extend_from_slice(name.as_bytes());
    fields.add(Known::Via, text);
}

fn peer_ip(address: &Address) -> Option<IpAddr> {
    match address {
        Address::Tcp(address) => Some(address.ip()),
        Address::Unix(_) => None,
    }
}

/// Tells the service how much time is left, in the field of its protocol; what the caller said in another,
/// or in words that say nothing, goes no further.
fn pass_deadline(fields: &mut Fields, is_grpc: bool, deadline: Deadline, now: Tick) {
    let (own, other) = match is_grpc {
        true => (Known::GrpcTimeout, Known::XRequestTimeout),
        false => (Known::XRequestTimeout, Known::GrpcTimeout),
    };
    fields.remove(other);
    let Some(left) = deadline.left(now) else {
        fields.remove(own);
        return;
    };
    let mut text = Vec::with_capacity(12);
    if is_grpc {
        grpc::format_timeout(left, &mut text);
    } else {
        h1::push_decimal(&mut text, u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    }
    fields.set(own, &text);
}

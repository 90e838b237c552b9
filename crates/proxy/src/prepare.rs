//! What is done to every request before a route is looked for, and what it tells the service of its way.

use std::{borrow::Cow, net::IpAddr, rc::Rc, time::Duration};

use weft_kernel::{Deadline, Error, Reason, Result, Tick};
use weft_net::{Address, message::Peer};
use weft_telemetry::trace;
use weft_wire::{Fields, Known, Method, forwarded, grpc, h1, path};

use crate::{
    exchange::{Exchange, RequestId},
    listener::Listener,
    plan,
};

/// Finds out who sent a request, then checks and normalises it.
pub(crate) fn check(exchange: &mut Exchange) -> Result<()> {
    let view = exchange.view.clone();
    let listener = &view.listener;
    // First of all, so that a refusal too is told in the caller's protocol, and says whom it refused.
    exchange.grpc = (exchange.head.fields.get(Known::ContentType))
        .and_then(grpc::ContentType::of)
        .map(|content_type| content_type.kind);
    identify(exchange, listener);
    // Only Weft has seen the handshake: whoever else sends this field may have made it up.
    exchange.head.fields.remove(Known::XForwardedClientCert);
    if let Some(certificate) = exchange.certificate.take() {
        exchange.head.fields.add(Known::XForwardedClientCert, certificate.as_bytes());
    }
    let head = &mut exchange.head;
    let (mut underscore, mut forwarded, mut settings) = (false, false, false);
    let text = head.fields.text();
    // No name that is known has an underscore, or speaks of a way that strangers could make up.
    for (_, name, _) in head.fields.places().filter(|(known, ..)| known.is_none()) {
        let name = &text[name];
        underscore |= name.contains(&b'_');
        forwarded |= tells_of_a_way(name);
        settings |= name == b"http2-settings";
    }
    if settings {
        // No service is asked for the protocol that these are for (RFC 7540 section 3.2.1).
        head.fields.remove_named("http2-settings");
    }
    if forwarded && exchange.said == 0 {
        forget_way(&mut head.fields);
    }
    if underscore && !listener.http.underscores {
        return Err(Error::new(
            Reason::MalformedRequest,
            "a header name holds an underscore, which servers may read as a hyphen",
        ));
    }
    match (&head.method, &head.upgrade) {
        (Method::Trace, _) => {
            return Err(Error::new(Reason::NotSupported, "TRACE is not offered"));
        }
        (Method::Connect, None) => {
            return Err(Error::new(Reason::NotSupported, "CONNECT is not offered"));
        }
        _ => {}
    }
    if head.target != "*" {
        let rules = path::Rules {
            encoded_slash: match listener.http.encoded_slash {
                plan::EncodedSlash::Reject => path::EncodedSlash::Reject,
                plan::EncodedSlash::Keep => path::EncodedSlash::Keep,
            },
            ..path::Rules::default()
        };
        let normal = path::normalise(&head.target, rules).map_err(|reason| {
            Error::new(
                reason,
                "the path holds an encoded slash, backslash or control character, or leaves the root",
            )
        })?;
        if let Cow::Owned(normal) = normal {
            exchange.original = Some(std::mem::replace(&mut head.target, normal));
        }
    }
    Ok(())
}

/// Whether a field speaks of the way that a request came, which only a trusted proxy may.
fn tells_of_a_way(name: &[u8]) -> bool {
    name.starts_with(b"x-forwarded") || name == b"x-real-ip"
}

/// Takes off what a stranger says of its way.
#[cold]
fn forget_way(fields: &mut Fields) {
    let told =
        |name: &&str| Known::of(name.as_bytes()).is_none() && tells_of_a_way(name.as_bytes());
    let names: Vec<String> =
        fields.iter().map(|(name, _)| name).filter(told).map(str::to_owned).collect();
    for name in names {
        fields.remove_named(&name);
    }
}

/// The value of `x-forwarded-client-cert` for a connection; `None` if the client showed no certificate.
pub(crate) fn client_certificate(peer: &Peer) -> Option<Rc<str>> {
    let shown = peer.tls.as_ref()?.peer_certificates.first()?;
    Some(weft_identity::peer::names(shown)?.forwarded_client_cert().into())
}

/// Finds the client's address, the request's id and its trace.
pub(crate) fn identify(exchange: &mut Exchange, listener: &Listener) {
    let fields = &exchange.head.fields;
    if let Address::Tcp(peer) = &exchange.peer.address {
        let peer = peer.ip();
        let client = if listener.trust == forwarded::Trust::Nobody {
            forwarded::client(peer, &forwarded::Trust::Nobody, [])
        } else if fields.has(Known::XForwardedFor) || !fields.has(Known::Forwarded) {
            forwarded::client(peer, &listener.trust, fields.all(Known::XForwardedFor))
        } else {
            forwarded::client_by_forwarded(peer, &listener.trust, fields.all(Known::Forwarded))
        };
        exchange.client = Some(client.address);
        exchange.depth = client.depth;
        exchange.said = client.said;
        if client.said > 0 && !fields.has(Known::XForwardedFor) && fields.has(Known::Forwarded) {
            exchange.forwarded =
                Some(Box::new(forwarded::told(client.said, fields.all(Known::Forwarded))));
        }
    }
    if exchange.said > 0
        && let Some(secure) =
            forwarded::is_secure(exchange.said, fields.all(Known::XForwardedProto))
    {
        exchange.secure = secure;
    }
    match exchange.forwarded.as_deref().and_then(|told| told.proto.as_deref()) {
        Some("https" | "wss") => exchange.secure = true,
        Some("http" | "ws") => exchange.secure = false,
        _ => {}
    }
    let local = exchange.local.clone();
    let mut rng = local.rng.borrow_mut();
    exchange.request_id = match fields.get(Known::XRequestId).and_then(trace::request_id::accept) {
        Some(given) => RequestId::Given(given.into()),
        None => RequestId::made(&mut rng),
    };
    const TRACE: [Known; 3] = [Known::Traceparent, Known::B3, Known::XB3TraceId];
    let incoming = if TRACE.iter().any(|known| fields.has(*known)) {
        let states = fields.all(Known::Tracestate);
        trace::Context::extract(|name| fields.only_named(name), states)
    } else {
        trace::Context::default()
    };
    exchange.parent_span = if incoming.is_valid() { incoming.span_id } else { 0 };
    exchange.trace = local.observers.sampler.start(&incoming, &mut rng);
}

/// Takes off what belongs to the client's connection and writes what the service is to know: who the
/// client is, which way the request came, its id and trace.
pub(crate) fn hand_on(exchange: &mut Exchange) {
    let view = exchange.view.clone();
    let is_grpc = exchange.grpc.is_some();
    let trusted = exchange.said > 0;
    let named = exchange.depth > 0;
    let told = exchange.forwarded.take();
    let head = &mut exchange.head;
    head.fields.strip_hop_by_hop(is_grpc);
    // Whether a body is to come is for the service to decide, if there is one.
    if exchange.bodiless || head.version == weft_wire::Version::Http10 {
        head.fields.remove(Known::Expect);
    }
    // How often Weft has tried is Weft's to say.
    head.fields.remove(Known::XAttempt);
    let mut text = Vec::with_capacity(64);
    if let Some(peer) = peer_ip(&exchange.peer.address) {
        if let Some(told) = &told {
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
    let proto: &[u8] = if exchange.secure { b"https" } else { b"http" };
    if told.is_some() || !(trusted && head.fields.has(Known::XForwardedProto)) {
        head.fields.set(Known::XForwardedProto, proto);
    }
    if let Some(host) = told.as_ref().and_then(|told| told.host.as_ref()) {
        head.fields.set(Known::XForwardedHost, host.as_bytes());
    } else if !(trusted && head.fields.has(Known::XForwardedHost))
        && let Some(host) = head.fields.get(Known::Host)
    {
        text.extend_from_slice(host);
        head.fields.set(Known::XForwardedHost, &text);
        text.clear();
    }
    via(&mut head.fields, head.version, &view.listener.http.via, &mut text);
    head.fields.set(Known::XRequestId, exchange.request_id.as_bytes());
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
    head.fields.set(Known::Traceparent, &exchange.trace.traceparent());
    // One that is good belongs to the trace that goes on, and stays as it came.
    if exchange.trace.tracestate.is_none() {
        head.fields.remove(Known::Tracestate);
    }
}

fn via(
    fields: &mut weft_wire::Fields,
    version: weft_wire::Version,
    name: &str,
    text: &mut Vec<u8>,
) {
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

/// The deadline that the caller of a request set itself.
pub(crate) fn asked(exchange: &Exchange) -> Deadline {
    let mut deadline = Deadline::NONE;
    let fields = &exchange.head.fields;
    if exchange.grpc.is_some()
        && let Some(span) = fields.get(Known::GrpcTimeout).and_then(grpc::parse_timeout)
    {
        deadline = Deadline::after(exchange.began, span);
    }
    if let Some(millis) = fields.get_str(Known::XRequestTimeout).and_then(|text| text.parse().ok())
    {
        deadline = deadline.min(Deadline::after(exchange.began, Duration::from_millis(millis)));
    }
    deadline
}

/// Tells the service how much time is left, in the field of its protocol; what the caller said in another,
/// or in words that say nothing, goes no further.
pub(crate) fn pass_deadline(exchange: &mut Exchange, deadline: Deadline, now: Tick) {
    let is_grpc = exchange.grpc.is_some();
    let fields = &mut exchange.head.fields;
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

//! What is done to every request before a route is looked for: who sent it and by when it must be
//! answered, whether it may be passed on, and what its path is.

use std::{borrow::Cow, time::Duration};

use weft_kernel::{Deadline, Error, Reason, Result};
use weft_net::Address;
use weft_telemetry::trace;
use weft_wire::{
    Fields, Known, Method,
    fields::{begins_alike, is_alike, is_odd},
    forwarded, grpc, path,
};

use crate::{
    listener::Listener,
    local::Local,
    plan,
    received::{Received, RequestId},
};

/// Which gRPC a request speaks, if any.
pub(crate) fn grpc_of(fields: &Fields) -> Option<grpc::Kind> {
    let content_type = grpc::ContentType::of(fields.get(Known::ContentType)?)?;
    Some(content_type.kind)
}

/// Finds out who sent a request, then checks and normalises it.
pub(crate) fn check(received: &mut Received, listener: &Listener, local: &Local) -> Result<()> {
    // First of all, so that a refusal too is told in the caller's protocol, and says whom it refused.
    received.grpc = grpc_of(&received.head.fields);
    identify(received, listener, local);
    let head = &mut received.head;
    let (mut odd, mut underscore, mut forwarded, mut settings) = (false, false, false, false);
    let text = head.fields.text();
    // No name that is known has an underscore, or speaks of a way that strangers could make up.
    for (_, name, _) in head.fields.places().filter(|(known, ..)| known.is_none()) {
        let name = &text[name];
        if is_odd(name) {
            odd = true;
            underscore |= name.contains(&b'_');
        }
        forwarded |= tells_of_a_way(name);
        settings |= name == b"http2-settings";
    }
    if settings {
        // No service is asked for the protocol that these are for (RFC 7540 section 3.2.1).
        head.fields.remove_named("http2-settings");
    }
    if odd {
        forget_alike(&mut head.fields);
    }
    if forwarded && received.said == 0 {
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
            received.original = Some(std::mem::replace(&mut head.target, normal));
        }
    }
    Ok(())
}

/// Whether a field speaks of the way that a request came, which only a trusted proxy may.
fn tells_of_a_way(name: &[u8]) -> bool {
    name.starts_with(b"x-forwarded") || name == b"x-real-ip"
}

/// Takes off what reads, to a service behind CGI, like a field that Weft itself says or that frames a message. No
/// proxy that is trusted says it under such a name.
#[cold]
fn forget_alike(fields: &mut Fields) {
    const BEGINNINGS: [&str; 2] = ["x-forwarded-", "x-real-ip"];
    const NAMES: [Known; 6] = [
        Known::ContentLength,
        Known::TransferEncoding,
        Known::GrpcTimeout,
        Known::XAttempt,
        Known::XRequestId,
        Known::XRequestTimeout,
    ];
    fields.retain(|name, _| {
        !is_odd(name.as_bytes())
            || !(BEGINNINGS.iter().any(|of| begins_alike(name, of))
                || NAMES.iter().any(|of| is_alike(name, of.text())))
    });
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

/// Finds the client's address, its deadline, the request's id and its trace.
pub(crate) fn identify(received: &mut Received, listener: &Listener, local: &Local) {
    let fields = &received.head.fields;
    if let Address::Tcp(peer) = &received.peer.address {
        let peer = peer.ip();
        let client = if listener.trust == forwarded::Trust::Nobody {
            forwarded::client(peer, &forwarded::Trust::Nobody, [])
        } else if fields.has(Known::XForwardedFor) || !fields.has(Known::Forwarded) {
            forwarded::client(peer, &listener.trust, fields.all(Known::XForwardedFor))
        } else {
            forwarded::client_by_forwarded(peer, &listener.trust, fields.all(Known::Forwarded))
        };
        received.client = Some(client.address);
        received.depth = client.depth;
        received.said = client.said;
        if client.said > 0 && !fields.has(Known::XForwardedFor) && fields.has(Known::Forwarded) {
            received.forwarded =
                Some(Box::new(forwarded::told(client.said, fields.all(Known::Forwarded))));
        }
    }
    if received.said > 0
        && let Some(secure) =
            forwarded::is_secure(received.said, fields.all(Known::XForwardedProto))
    {
        received.secure = secure;
    }
    match received.forwarded.as_deref().and_then(|told| told.proto.as_deref()) {
        Some("https" | "wss") => received.secure = true,
        Some("http" | "ws") => received.secure = false,
        _ => {}
    }
    let mut rng = local.rng.borrow_mut();
    received.request_id = match fields.get(Known::XRequestId).and_then(trace::request_id::accept) {
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
    received.parent_span = if incoming.is_valid() { incoming.span_id } else { 0 };
    received.trace = local.observers.sampler.start(&incoming, &mut rng);
    received.deadline = deadline(received);
}

/// The deadline that the caller of a request set itself.
fn deadline(received: &Received) -> Deadline {
    let mut deadline = Deadline::NONE;
    let fields = &received.head.fields;
    if received.grpc.is_some()
        && let Some(span) = fields.get(Known::GrpcTimeout).and_then(grpc::parse_timeout)
    {
        deadline = Deadline::after(received.began, span);
    }
    if let Some(millis) = fields.get_str(Known::XRequestTimeout).and_then(|text| text.parse().ok())
    {
        deadline = deadline.min(Deadline::after(received.began, Duration::from_millis(millis)));
    }
    deadline
}

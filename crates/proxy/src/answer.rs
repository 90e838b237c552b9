//! Responses that Weft itself gives: problems, redirects, fixed responses.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime},
};

use weft_kernel::{Error, Reason, Retry, Tick};
use weft_net::{
    body::Body,
    clock,
    message::{OnEnd, Response, Tunnel},
};
use weft_wire::{
    Fields, Known, ResponseHead, Version, grpc, h1,
    problem::{self, Problem},
    proxy_status::ProxyStatus,
};

use crate::{exchange::Exchange, handler::Reply, plan, policy};

/// A response on its way to the client.
pub(crate) struct Answer {
    pub(crate) head: ResponseHead,
    pub(crate) body: Body,
    pub(crate) tunnel: Option<Box<Tunnel>>,
}

impl Answer {
    pub(crate) const fn new(head: ResponseHead, body: Body) -> Self {
        Self { head, body, tunnel: None }
    }

    /// The response, with the exchange to be told of its end. Whoever has answered, the service or Weft
    /// itself, the policies of the route see it.
    pub(crate) async fn send(mut self, mut exchange: Box<Exchange>) -> Response {
        if exchange.record.route.as_ref().is_some_and(|route| !route.policies.responses.is_empty())
        {
            policy::responses(&mut exchange, &mut self).await;
        }
        exchange.record.status = match self.head.status {
            // By HTTP/2 a tunnel is opened with 200 (RFC 8441 section 5): what the client sees is told.
            101 if exchange.received.head.version == Version::Http2 => 200,
            // What a client that broke off is told, if it still reads, is not what became of its request.
            400 if exchange.record.reason == Some(Reason::CallerGone) => Reason::CallerGone.http(),
            status => status,
        };
        Response {
            head: self.head,
            body: self.body,
            tunnel: self.tunnel,
            done: Some(OnEnd::new(exchange)),
        }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        let Reply { mut head, body, tunnel } = reply;
        if head.status != 101 && !head.fields.has(Known::Date) {
            date(&mut head.fields);
        }
        Self { head, body, tunnel }
    }
}

thread_local! {
    /// Until when the text of the second that was written last is right, and how it reads.
    static DATE: RefCell<(Tick, String)> = const { RefCell::new((Tick::from_nanos(0), String::new())) };
}

/// Says when Weft answered (RFC 9110 section 6.6.1).
fn date(fields: &mut Fields) {
    date_at(fields, clock::now());
}

/// Says that it was now; the text is made once a second, and the wall clock looked at as often.
fn date_at(fields: &mut Fields, now: Tick) {
    DATE.with_borrow_mut(|(until, text)| {
        if now >= *until {
            let wall = clock::wall();
            let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let left = 1_000_000_000 - since.subsec_nanos();
            *until = now.plus(Duration::from_nanos(u64::from(left)));
            *text = httpdate::fmt_http_date(wall);
        }
        fields.add(Known::Date, text.as_bytes());
    });
}

/// How many more steps a request may go, if it says so in one field (RFC 9110 section 7.6.2).
pub(crate) fn steps_left(fields: &Fields) -> Option<u64> {
    let text = std::str::from_utf8(fields.only_named("max-forwards")?).ok()?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// What an OPTIONS that may go no further is answered.
#[cold]
pub(crate) fn options() -> Answer {
    let mut head = ResponseHead::new(200);
    date(&mut head.fields);
    Answer::new(head, Body::Empty)
}

/// A fixed response.
pub(crate) fn respond(respond: &plan::Respond) -> Answer {
    let mut head = ResponseHead::new(respond.status);
    date(&mut head.fields);
    for (name, value) in &respond.headers {
        head.fields.append(&name.to_ascii_lowercase(), value.as_bytes());
    }
    Answer::new(head, Body::full(respond.body.to_vec()))
}

/// A redirect.
pub(crate) fn redirect(status: u16, location: &str) -> Answer {
    let mut head = ResponseHead::new(status);
    date(&mut head.fields);
    head.fields.add(Known::Location, location.as_bytes());
    Answer::new(head, Body::Empty)
}

/// What Weft says when it cannot do what was asked: problem+json (RFC 9457), or a gRPC status, with
/// `Proxy-Status` (RFC 9209) and, where waiting helps, `Retry-After`.
pub(crate) fn problem(exchange: &mut Exchange, error: &Error, allow: Option<&str>) -> Answer {
    exchange.failed(error);
    let incomplete;
    let error = if error.reason() == Reason::CallerGone {
        // 499 is for the log. A client that has ended its direction within its body may still read that
        // its request was not whole (RFC 9112 section 8).
        incomplete = Error::new(Reason::MalformedRequest, error.said().to_owned());
        &incomplete
    } else {
        error
    };
    let mut fields = Fields::with_capacity(8, 512);
    date(&mut fields);
    let mut text = Vec::with_capacity(256);
    let mut status = ProxyStatus::error(error.reason()).details(error.said());
    if let Some(endpoint) = &exchange.record.endpoint {
        status = status.next_hop(endpoint.label());
    }
    status.write(&mut text);
    fields.add(Known::ProxyStatus, &text);
    text.clear();
    if let Retry::After(span) = error.retryable() {
        // Rounded up: a second before its time it is refused again.
        let seconds = span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0));
        h1::push_decimal(&mut text, seconds.max(1));
        fields.add(Known::RetryAfter, &text);
        text.clear();
    }
    if let Some(allow) = allow {
        fields.append("allow", allow.as_bytes());
    }
    let request_id = exchange.received.request_id.as_str();
    if !request_id.is_empty() {
        fields.add(Known::XRequestId, request_id.as_bytes());
    }
    if let Some(kind) = exchange.received.grpc {
        return grpc_problem(exchange, error, kind, fields);
    }
    fields.add(Known::ContentType, problem::CONTENT_TYPE.as_bytes());
    let status = exchange.record.forced_status.unwrap_or(error.reason().http());
    Problem::of(error).instance(request_id).with_status(status).write(&mut text);
    let head = ResponseHead { status, fields };
    Answer::new(head, Body::full(text))
}

/// A response of trailers alone: what a gRPC client reads as the status of its call.
fn grpc_problem(
    exchange: &Exchange,
    error: &Error,
    kind: grpc::Kind,
    mut fields: Fields,
) -> Answer {
    let number = grpc::Status::of_code(error.code()).number();
    exchange.upload.note_status(Some(number));
    let mut text = Vec::new();
    h1::push_decimal(&mut text, u64::from(number));
    fields.add(Known::GrpcStatus, &text);
    text.clear();
    grpc::encode_message(error.said(), &mut text);
    fields.add(Known::GrpcMessage, &text);
    fields.add(Known::ContentType, kind.text().as_bytes());
    Answer::new(ResponseHead { status: 200, fields }, Body::Empty)
}

/// A refusal before there was a request: nothing is known but the reason, and an id to ask after it.
pub(crate) fn refuse(reason: Reason, detail: &str, request_id: &str) -> Response {
    let error = Error::new(reason, detail.to_owned());
    let mut head = ResponseHead::new(reason.http());
    date(&mut head.fields);
    let mut text = Vec::with_capacity(256);
    ProxyStatus::error(reason).details(detail).write(&mut text);
    head.fields.add(Known::ProxyStatus, &text);
    head.fields.add(Known::ContentType, problem::CONTENT_TYPE.as_bytes());
    head.fields.add(Known::XRequestId, request_id.as_bytes());
    text.clear();
    Problem::of(&error).instance(request_id).write(&mut text);
    Response::new(head, Body::full(text))
}

/// Makes a service's response the client's: without what belongs to the service's connection, and with the
/// time that it came if it tells none (RFC 9110 section 6.6.1).
pub(crate) fn hand_on(head: &mut ResponseHead, now: Tick) {
    hand_back(head);
    if !head.fields.has(Known::Date) && head.status != 101 {
        date_at(&mut head.fields, now);
    }
}

/// Takes off a response what belongs to the connection that it came by.
pub(crate) fn hand_back(head: &mut ResponseHead) {
    head.fields.strip_hop_by_hop(false);
    head.fields.remove(Known::Trailer);
}

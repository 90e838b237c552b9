//! The server side of a client's HTTP/2 connection.

use std::{future::poll_fn, pin::pin, rc::Rc, task::Poll, time::Duration};

use bytes::BytesMut;
use hyper::body::Incoming as HyperBody;
use hyper_util::rt::{TokioIo, TokioTimer};
use weft_kernel::{Error, Reason, Result, SystemClock, Tick};
use weft_wire::{Known, Method, RequestHead, Version};

use super::{Incoming, Local, Side, append_from, append_to, guard::Guard};
use crate::{
    alarm::Alarm,
    body::{Body, Frame, Outgoing, Source},
    io::{Io, Rewound},
    message::{Handler, Inform, OnEnd, Peer, Request, Response, Tunnel},
    relay::relay,
    tasks::Stop,
};

/// How a connection is served.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most concurrent streams.
    pub streams_max: u32,
    /// Most resets, and most frames without progress (SETTINGS, PING, empty DATA …) in ten times that
    /// number, within 30 s.
    pub resets_max: u32,
    /// Largest header section.
    pub header_bytes_max: usize,
    /// Most fields in a header section.
    pub header_count_max: usize,
    /// Longest time without a stream.
    pub idle_timeout: Duration,
    /// Longest silence within a body.
    pub stream_idle_timeout: Duration,
    /// Age after which the connection is ended with GOAWAY.
    pub age_max: Option<Duration>,
}

/// How many bytes of one stream a client may send ahead.
const STREAM_WINDOW: u32 = 256 * 1024;
/// How many bytes of all streams a client may send ahead.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How often a silent connection is asked whether it lives, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// Serves a connection until it ends; an error if the client broke the rules. `early` are bytes that have
/// already been read from it.
pub async fn serve<H: Handler>(
    io: Io,
    early: BytesMut,
    peer: Rc<Peer>,
    settings: &Settings,
    handler: Rc<H>,
    stop: &Stop,
) -> Result<()> {
    let alarm = Alarm::default();
    let open = Rc::new(std::cell::Cell::new(0usize));
    let last_end = Rc::new(std::cell::Cell::new(SystemClock::tick()));
    let (io, tripped) = Guard::new(io, early, settings.resets_max);
    let idle = settings.stream_idle_timeout;
    let count_max = settings.header_count_max;
    let service = {
        let (open, last_end, stop) = (open.clone(), last_end.clone(), stop.clone());
        hyper::service::service_fn(move |request: http::Request<HyperBody>| {
            let (handler, peer, stop) = (handler.clone(), peer.clone(), stop.clone());
            let counted = Counted::new(open.clone(), last_end.clone());
            async move {
                let answer = answer(request, peer, &*handler, count_max, idle, counted, stop).await;
                Ok::<_, std::convert::Infallible>(answer)
            }
        })
    };
    let connection = hyper::server::conn::http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.streams_max)
        .max_header_list_size(u32::try_from(settings.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(settings.resets_max.min(1000) as usize)
        .max_local_error_reset_streams(settings.resets_max as usize)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(128 * 1024)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .auto_date_header(false)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let mut draining = pin!(stop.draining());
    let retires = settings.age_max.map_or(Tick::NEVER, |age| SystemClock::tick().plus(age));
    let mut leaving = false;
    poll_fn(|cx| {
        let ended = connection.as_mut().poll(cx);
        if tripped.closed(cx) {
            let say = "too many resets or control frames by HTTP/2";
            return Poll::Ready(Err(Error::new(Reason::MalformedRequest, say)));
        }
        if let Poll::Ready(ended) = ended {
            return Poll::Ready(ended.or_else(judge));
        }
        if !leaving {
            let silent = if open.get() == 0 {
                last_end.get().plus(settings.idle_timeout)
            } else {
                Tick::NEVER
            };
            let rings = alarm.poll(cx, silent.min(retires)).is_ready();
            if rings || draining.as_mut().poll(cx).is_ready() {
                leaving = true;
                connection.as_mut().graceful_shutdown();
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    })
    .await
}

/// What ended a connection: the network and the client may, and are no fault; the library does for what
/// breaks the protocol or floods it.
fn judge(error: hyper::Error) -> Result<()> {
    let source = std::error::Error::source(&error);
    match source.and_then(|source| source.downcast_ref::<h2::Error>()) {
        Some(broken) if broken.is_library() => {
            let say = "the client broke the rules of HTTP/2";
            Err(Error::new(Reason::MalformedRequest, say).because(error))
        }
        _ => Ok(()),
    }
}

/// Counts a stream for as long as it lives.
struct Counted {
    open: Rc<std::cell::Cell<usize>>,
    last_end: Rc<std::cell::Cell<Tick>>,
}

impl Counted {
    fn new(open: Rc<std::cell::Cell<usize>>, last_end: Rc<std::cell::Cell<Tick>>) -> Self {
        open.set(open.get() + 1);
        Self { open, last_end }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
        self.last_end.set(SystemClock::tick());
    }
}

async fn answer<H: Handler>(
    request: http::Request<HyperBody>,
    peer: Rc<Peer>,
    handler: &H,
    count_max: usize,
    idle: Duration,
    counted: Counted,
    stop: Stop,
) -> http::Response<Outgoing> {
    let (mut parts, body) = request.into_parts();
    let on_upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let alarm = Alarm::default();
    let response = match request_head(&parts, count_max) {
        Ok(head) => {
            let is_tunnel = head.upgrade.is_some() || head.method == Method::Connect;
            let incoming = Incoming::new(body, Side::Client, None);
            let body = match incoming.length().is_none() || is_tunnel {
                true => Body::Empty,
                false => Patient::wrap(Body::H2(incoming), idle, Reason::BodyTimeout, None),
            };
            let inform = Inform::default();
            handler.call(Request { head, body, peer, alarm, inform }).await
        }
        Err((reason, detail)) => handler.refuse(&peer, reason, detail),
    };
    let Response { mut head, body, tunnel, done } = response;
    let status = if tunnel.is_some() && head.status == 101 { 200 } else { head.status };
    if let (Some(tunnel), Some(on_upgrade)) = (tunnel, on_upgrade) {
        tokio::task::spawn_local(join(on_upgrade, *tunnel, done, counted, stop));
        head.fields.remove(Known::SecWebSocketAccept);
        return build(status, &head.fields, Outgoing::new(Body::Empty, None));
    }
    let body = match body {
        Body::Empty | Body::Full(_) => body,
        other => Patient::wrap(other, idle, Reason::StreamIdle, Some(counted)),
    };
    build(status, &head.fields, Outgoing::new(body, done))
}

fn build(status: u16, fields: &weft_wire::Fields, body: Outgoing) -> http::Response<Outgoing> {
    let mut response = http::Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    response.headers_mut().reserve(fields.len());
    append_to(fields, response.headers_mut());
    response
}

fn request_head(
    parts: &http::request::Parts,
    count_max: usize,
) -> Result<RequestHead, (Reason, &'static str)> {
    if parts.headers.len() > count_max {
        return Err((Reason::HeadersTooLarge, "the header section has too many fields"));
    }
    let mut fields =
        weft_wire::Fields::with_capacity(parts.headers.len() + 8, parts.headers.len() * 40 + 256);
    match parts.uri.authority() {
        Some(authority) => {
            if authority.as_str().contains('@') {
                return Err((Reason::MalformedRequest, "the authority names a user"));
            }
            // It stands for Host, which must not say anything else (RFC 9113 section 8.3.1).
            let mut hosts = parts.headers.get_all(http::header::HOST).iter();
            if hosts
                .any(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()))
            {
                return Err((Reason::MalformedRequest, ":authority and Host differ"));
            }
            fields.add(Known::Host, authority.as_str().as_bytes());
            append_from(&parts.headers, &mut fields);
            if fields.all(Known::Host).nth(1).is_some() {
                fields.set(Known::Host, authority.as_str().as_bytes());
            }
        }
        None => append_from(&parts.headers, &mut fields),
    }
    if fields.all(Known::Host).nth(1).is_some() {
        return Err((Reason::MalformedRequest, "Host is there more than once"));
    }
    if !fields.get(Known::Host).is_some_and(weft_wire::h1::is_authority) {
        return Err((Reason::MalformedRequest, "Host is missing, or not a host"));
    }
    let method = Method::of(parts.method.as_str());
    let upgrade =
        parts.extensions.get::<hyper::ext::Protocol>().map(|protocol| protocol.as_str().into());
    let target = match (parts.uri.path_and_query(), &method, &upgrade) {
        (None, Method::Connect, None) => fields.get_str(Known::Host).unwrap_or_default().to_owned(),
        (Some(target), ..) if target.as_str().is_empty() => "/".into(),
        (Some(target), ..) => target.as_str().into(),
        (None, ..) => "/".into(),
    };
    Ok(RequestHead { method, target, version: Version::Http2, fields, upgrade })
}

/// A body whose silence has a limit; a response's keeps its stream counted as well.
struct Patient {
    body: Body,
    alarm: Alarm,
    idle: Duration,
    limit: Option<Tick>,
    reason: Reason,
    _counted: Option<Counted>,
}

impl Patient {
    fn wrap(body: Body, idle: Duration, reason: Reason, counted: Option<Counted>) -> Body {
        let alarm = Alarm::default();
        Body::Source(Box::new(Self { body, alarm, idle, limit: None, reason, _counted: counted }))
    }
}

impl Source for Patient {
    fn poll_frame(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<weft_kernel::Result<Frame>>> {
        if let Poll::Ready(frame) = self.body.poll_frame(cx) {
            self.limit = None;
            return Poll::Ready(frame);
        }
        let idle = self.idle;
        let limit = *self.limit.get_or_insert_with(|| SystemClock::tick().plus(idle));
        self.alarm
            .poll(cx, limit)
            .map(|()| Some(Err(weft_kernel::Error::new(self.reason, "the body stopped arriving"))))
    }

    fn length(&self) -> weft_wire::Length {
        self.body.length()
    }
}

/// Joins an extended CONNECT stream (RFC 8441) to the service's connection.
async fn join(
    on_upgrade: hyper::upgrade::OnUpgrade,
    tunnel: Tunnel,
    done: Option<OnEnd>,
    _counted: Counted,
    stop: Stop,
) {
    if let Ok(upgraded) = on_upgrade.await {
        let mut client = TokioIo::new(upgraded);
        let mut service = Rewound::with(tunnel.early.into(), tunnel.io);
        let relayed = relay(&mut client, &mut service, tunnel.idle_timeout, &stop).await;
        if let Some(done) = done {
            done.relayed(relayed);
        }
    }
}

//! The client side of a connection to a service that speaks HTTP/2.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::task::AbortHandle;
use weft_kernel::{Error, Reason, Result, Retry, Tick};
use weft_wire::{
    Fields, Known, Method, RequestHead, ResponseHead,
    h1::{self, HeadLimits},
};

use super::{
    From, Incoming,
    cut::{self, Cut},
    fields::{Told, declare, from_header_map, to_header_map},
    keep_alive::KeepAlive,
    screen::{Fault, Heads, Limits, Screen, Sender},
    sending::{Broken, Sending},
    server::connection_window,
};
use crate::{
    body::Body,
    clock,
    expect::{INTERIM_MAX, Waits},
    io::Io,
    message::InterimSender,
    pool::Freed,
    tasks::Stop,
    timer::TaskTimer,
};

/// How a connection to a service is spoken.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Largest header section of a response.
    pub header_bytes_max: usize,
    /// Most concurrent streams.
    pub streams_max: usize,
    /// How many streams are taken to be allowed until the service says so.
    pub streams_first: usize,
}

/// The largest header block in the code of HPACK that is read at all.
const BLOCK_MAX: usize = 512 * 1024;
/// How many bytes of one stream a service may send ahead.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What small DATA frames that nobody has read yet may cost beyond their bytes, at 256 a frame; more ends
/// the connection. Two streams' windows full of the smallest gRPC messages fit.
const SMALL_FRAMES_MAX: usize = 64 * 1024 * 1024;
/// How many bytes of a request wait for the connection.
const SEND_BUFFER_MAX: usize = 128 * 1024;
/// How often a busy connection is asked whether its process lives, and how long that may take to say so; the
/// kernel asks for the machine. A gRPC server ends the connection of a client that asks a quiet one more
/// often than each five minutes.
const PING: (Duration, Duration) = (Duration::from_secs(330), Duration::from_secs(20));

/// A connection to a service, shared by many streams.
#[derive(Clone)]
pub struct Connection {
    send: SendRequest<Bytes>,
    heads: Heads,
    streams: Rc<Cell<usize>>,
    /// When it was opened.
    pub opened: Tick,
    /// Since when it has no stream.
    pub idle_since: Rc<Cell<Tick>>,
    /// How many streams it has carried.
    pub served: Rc<Cell<u64>>,
    told: Rc<Told>,
    /// As many streams as its window has room for, though nobody reads them.
    pub streams_max: usize,
    /// Whom to tell of a stream that has ended.
    pub(crate) freed: Freed,
    cut: Cut,
    secure: bool,
}

/// Counts a stream on its connection for as long as it lives.
pub struct Stream {
    streams: Rc<Cell<usize>>,
    idle_since: Rc<Cell<Tick>>,
    freed: Freed,
    /// Its number, once it has one, and where it is known by it.
    id: Option<u32>,
    heads: Heads,
    /// Whether the service has said all that it had to.
    pub(super) whole: bool,
    cut: Cut,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.heads.forget(id);
            if !self.whole {
                self.cut.count();
            }
        }
        self.streams.set(self.streams.get().saturating_sub(1));
        if self.streams.get() == 0 {
            self.idle_since.set(clock::now());
        }
        self.freed.tell();
    }
}

/// The rest of a request that goes on while its response comes; ends with that.
pub(super) struct Pipe {
    task: AbortHandle,
    failed: Rc<RefCell<Option<Error>>>,
}

impl Pipe {
    /// Why the rest could not be sent, if that was the client's doing, which reset the stream.
    pub(super) fn failed(&self) -> Option<Error> {
        self.failed.borrow_mut().take()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why there is no response.
pub struct Failed {
    /// What went wrong.
    pub error: Error,
}

impl Connection {
    /// Opens a connection over a fresh stream and keeps it going on this worker until it ends.
    pub async fn open(io: Io, settings: Settings, stop: &Stop) -> Result<Self> {
        let secure = io.tls_info().is_some();
        let limits = Limits {
            fields: HeadLimits {
                bytes_max: settings.header_bytes_max,
                count_max: settings.header_bytes_max / 4,
            },
            list_max: settings.header_bytes_max,
            block_max: BLOCK_MAX,
            waiting: (0, 0),
        };
        let (io, heads) = Screen::new(io, Sender::Service, limits);
        let (send, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_max_send_streams(settings.streams_first)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(connection_window(STREAM_WINDOW, settings.streams_max))
            .data_frame_budget(SMALL_FRAMES_MAX)
            .max_concurrent_reset_streams(cut::KEPT.0)
            .reset_stream_duration(cut::KEPT.1)
            .max_header_list_size(u32::try_from(settings.header_bytes_max).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER_MAX)
            .handshake::<_, Bytes>(io)
            .await
            .map_err(|error| {
                Error::new(
                    Reason::UpstreamMalformed,
                    "the HTTP/2 handshake with the service failed",
                )
                .because(error)
            })?;
        let streams = Rc::<Cell<usize>>::default();
        tokio::task::spawn_local(keep_going(connection, streams.clone(), stop.clone()));
        let now = clock::now();
        Ok(Self {
            send,
            heads,
            streams,
            opened: now,
            idle_since: Rc::new(Cell::new(now)),
            served: Rc::default(),
            told: Rc::default(),
            streams_max: settings.streams_max,
            freed: Freed::default(),
            cut: Cut::default(),
            secure,
        })
    }

    /// How many streams are under way.
    pub fn streams(&self) -> usize {
        self.streams.get()
    }

    /// How many streams the service allows.
    pub fn streams_allowed(&self) -> usize {
        self.send.current_max_send_streams()
    }

    /// Whether it has ended, or is about to.
    pub fn is_closed(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.send.poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// Whether so many of its streams were cut that it should carry no more.
    pub fn is_worn(&self) -> bool {
        self.cut.is_enough()
    }

    /// Counts a stream that is about to be sent.
    pub fn begin(&self) -> Stream {
        self.streams.set(self.streams.get() + 1);
        self.served.set(self.served.get() + 1);
        Stream {
            streams: self.streams.clone(),
            idle_since: self.idle_since.clone(),
            freed: self.freed.clone(),
            id: None,
            heads: self.heads.clone(),
            whole: false,
            cut: self.cut.clone(),
        }
    }

    /// Sends a request and reads the head of its response.
    pub async fn send(
        &mut self,
        head: &RequestHead,
        body: Body,
        interim_sender: &InterimSender,
        mut stream: Stream,
    ) -> Result<(ResponseHead, Body), Failed> {
        let request = self.request(head, &body).map_err(|error| Failed { error })?;
        let unsent = |error: h2::Error| Failed {
            error: Error::new(
                Reason::UpstreamRefused,
                "the connection ended before the request was sent",
            )
            .because(error),
        };
        poll_fn(|cx| self.send.poll_ready(cx)).await.map_err(unsent)?;
        let ends = body.is_empty();
        let (mut response, out) = self.send.send_request(request, ends).map_err(unsent)?;
        let id = response.stream_id().into();
        stream.id = Some(id);
        self.heads.expect(id);
        let mut pipe = (!ends).then(|| Sending::new(out, body));
        let mut waits = Waits::of(head, ends);
        let mut interims = 0;
        let received = poll_fn(|cx| {
            while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
                let (parts, ()) = interim.into_parts();
                interims += 1;
                if interims > INTERIM_MAX {
                    let say = format!("the service sent more than {INTERIM_MAX} interim responses");
                    return Poll::Ready(Err(Error::new(Reason::UpstreamMalformed, say)));
                }
                let status = parts.status.as_u16();
                if status == 100 {
                    // What it says was said to Weft, which tells the client when it takes the body.
                    waits = Waits::No;
                } else {
                    let mut fields = from_header_map(&parts.headers);
                    fields.strip_hop_by_hop(false);
                    interim_sender.send(&ResponseHead { status, fields });
                }
            }
            if let Some(sending) = &mut pipe
                && sending.poll_wanted(&mut waits, cx).is_ready()
                && let Poll::Ready(sent) = sending.poll(cx)
            {
                if let Err(Broken::Body(error)) = sent {
                    sending.fail(&error);
                    return Poll::Ready(Err(error));
                }
                pipe = None;
            }
            Pin::new(&mut response).poll(cx).map_err(failure)
        })
        .await
        .map_err(|error| Failed { error })?;
        if let Some(fault) = self.heads.of_head(id) {
            return Err(Failed { error: malformed(fault) });
        }
        let (parts, received) = received.into_parts();
        let fields = from_header_map(&parts.headers);
        check_length(&fields).map_err(|error| Failed { error })?;
        let head = ResponseHead { status: parts.status.as_u16(), fields };
        if received.is_end_stream() {
            stream.whole = true;
            // What is left of the request, if anything, is dropped, which resets the stream.
            return Ok((head, Body::Empty));
        }
        // A body that was waited with, and is refused by the answer, stays unsent: to give up its half of
        // the stream now would end the other.
        let refused = waits.is_waiting() && head.status >= 400;
        let (pipe, unsent) = if refused { (None, pipe) } else { (pipe, None) };
        let pipe = pipe.map(|mut sending| {
            let failed = Rc::<RefCell<Option<Error>>>::default();
            let tell = failed.clone();
            let rest = tokio::task::spawn_local(async move {
                // What the service makes of it shows in the response.
                let sent = poll_fn(|cx| sending.poll(cx)).await;
                if let Err(Broken::Body(error)) = sent {
                    sending.fail(&error);
                    *tell.borrow_mut() = Some(error);
                }
            });
            Pipe { task: rest.abort_handle(), failed }
        });
        let from = From::Service { stream, pipe, _unsent: unsent.map(Box::new) };
        let incoming = Incoming::new(received, &head.fields, from, self.heads.clone());
        Ok((head, Body::H2(Box::new(incoming))))
    }

    fn request(&self, head: &RequestHead, body: &Body) -> Result<http::Request<()>> {
        let unusable = |error: http::Error| {
            Error::new(Reason::MalformedRequest, "the request cannot be told in HTTP/2")
                .because(error)
        };
        let host = head.fields.get_str(Known::Host).unwrap_or_default();
        let method = http::Method::from_bytes(head.method.as_str().as_bytes())
            .map_err(|error| unusable(error.into()))?;
        let uri = http::Uri::builder().authority(host);
        let uri = if head.method == Method::Connect {
            uri.build()
        } else {
            let scheme = if self.secure { "https" } else { "http" };
            uri.scheme(scheme).path_and_query(head.target.as_str()).build()
        }
        .map_err(unusable)?;
        let mut request = http::Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = http::Version::HTTP_2;
        // The authority says it.
        let mut headers = to_header_map(&head.fields, Some(Known::Host), Some(&self.told));
        declare(body.length(), &head.fields, &mut headers);
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// The length that a response declares must be one number, as by HTTP/1.1.
fn check_length(fields: &Fields) -> Result<()> {
    let mut lengths = fields.all(Known::ContentLength);
    match lengths.next() {
        Some(one) if h1::parse_length(one).is_err() || lengths.next().is_some() => {
            let say = "the Content-Length of the response is not one number";
            Err(Error::new(Reason::UpstreamMalformed, say).retry(Retry::No))
        }
        _ => Ok(()),
    }
}

/// Reads and writes for all streams of a connection, until it ends or no longer answers.
async fn keep_going(
    mut connection: h2::client::Connection<Screen<Io>, Bytes>,
    streams: Rc<Cell<usize>>,
    stop: Stop,
) {
    let mut keep_alive = KeepAlive::new(connection.ping_pong(), TaskTimer::default(), PING);
    let mut closed = pin!(stop.closed());
    poll_fn(|cx| {
        if Pin::new(&mut connection).poll(cx).is_ready() || closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if streams.get() == 0 { Poll::Pending } else { keep_alive.poll(cx) }
    })
    .await;
}

/// Why a head is no response.
fn malformed(fault: Fault) -> Error {
    match fault {
        Fault::Malformed(say) => Error::new(
            Reason::UpstreamMalformed,
            format!("the head of the response is malformed: {say}"),
        ),
        Fault::TooLarge => Error::new(
            Reason::UpstreamHeadersTooLarge,
            "the header section of the response is too large",
        ),
    }
}

/// Names what the library reports. What the service refused (REFUSED_STREAM, or a stream beyond the
/// last that its GOAWAY names) has had no effect.
fn failure(error: h2::Error) -> Error {
    let made = match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => {
            Error::new(Reason::UpstreamRefused, "the service refused the stream")
        }
        Some(h2::Reason::NO_ERROR) if error.is_go_away() => Error::new(
            Reason::UpstreamRefused,
            "the service ended the connection before it took the request",
        ),
        Some(h2::Reason::HTTP_1_1_REQUIRED) => {
            Error::new(Reason::UpstreamRefused, "the service wants HTTP/1.1").retry(Retry::No)
        }
        Some(reason) if error.is_library() => {
            Error::new(Reason::UpstreamMalformed, "the service broke the rules of HTTP/2")
                .note(reason.description())
        }
        Some(reason) if reason != h2::Reason::CANCEL => {
            Error::new(Reason::UpstreamClosed, "the service reset the stream before its response")
                .note(reason.description())
        }
        _ => Error::new(
            Reason::UpstreamClosed,
            "the connection to the service broke before its response",
        ),
    };
    made.because(error)
}

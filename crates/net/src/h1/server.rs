//! The server side of a client's HTTP/1.1 connection.
//!
//! A request is read, handed to the [`Handler`], and its response written, one after the other; what a
//! client sends ahead waits. While the handler works the connection is watched, so that a client that
//! goes away ends the work. Every wait has a limit: for a head, for the next request, for a body that
//! stops, for a client that does not read.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use weft_kernel::{Error, Reason, Result, SystemClock, Tick};
use weft_wire::{
    Known, Length, Method, ResponseHead, Version,
    h1::{
        ChunkedDecoder, Decoded, Framing, HeadError, HeadLimits, ParsedRequest, encode_response,
        parse_request,
    },
};

use super::link::{Link, Read};
use crate::{
    alarm::Alarm,
    body::{Body, Frame},
    io::{Io, Rewound},
    message::{Handler, Inform, OnEnd, Peer, Request, Response, Tunnel},
    relay::relay,
    tasks::{Reached, Stop},
};

/// What opens an HTTP/2 connection (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most bytes of an unread request body that are read away to keep a connection.
const DRAIN_BYTES_MAX: u64 = 256 * 1024;
/// How long a connection without a request is still listened to once it drains.
const DRAIN_GRACE: Duration = Duration::from_millis(500);
/// Longest time that a closing connection is still read from.
const LINGER: Duration = Duration::from_secs(2);

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

enum Incoming {
    /// Read to its end, or there was none.
    Done,
    Length(u64),
    Chunked(ChunkedDecoder),
    /// It broke; what follows cannot be told from it.
    Broken(Reason),
}

/// A connection, shared by its task and the body of the request under way.
pub struct Shared {
    link: Link,
    incoming: Incoming,
    /// The client waits for `100 Continue`.
    owes_continue: bool,
    /// Since when the body has been waited for, and who waits.
    waiting: Option<(Tick, Waker)>,
    /// The final response has begun: nothing may be put before it.
    responding: bool,
    /// The client can read interim responses.
    informable: bool,
}

impl Shared {
    pub(crate) fn inform(&mut self, head: &ResponseHead) {
        if self.responding || !self.informable || !(100..200).contains(&head.status) {
            return;
        }
        encode_response(head, Framing::None, None, self.link.queue());
    }

    fn fail_body(&mut self, reason: Reason) {
        self.incoming = Incoming::Broken(reason);
        if let Some((_, waker)) = self.waiting.take() {
            waker.wake();
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        if self.owes_continue {
            self.owes_continue = false;
            if !self.responding {
                self.link.queue().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
        }
        if !self.responding && !self.link.is_flushed() {
            // The body is what the client sends next: it must hear that it may.
            let _ = self.link.poll_flush(cx);
        }
        loop {
            let want = match &mut self.incoming {
                Incoming::Done => return Poll::Ready(None),
                Incoming::Broken(reason) => {
                    return Poll::Ready(Some(Err(broken(*reason))));
                }
                Incoming::Length(left) => {
                    if !self.link.inbuf.is_empty() {
                        let len =
                            usize::try_from(*left).unwrap_or(usize::MAX).min(self.link.inbuf.len());
                        let data = self.link.inbuf.split_to(len).freeze();
                        *left -= len as u64;
                        if *left == 0 {
                            self.incoming = Incoming::Done;
                        }
                        return Poll::Ready(Some(Ok(Frame::Data(data))));
                    }
                    *left
                }
                Incoming::Chunked(decoder) => match decoder.decode(&self.link.inbuf) {
                    Ok(Decoded::Data { skip, len }) => {
                        let _ = self.link.inbuf.split_to(skip);
                        let data = self.link.inbuf.split_to(len).freeze();
                        return Poll::Ready(Some(Ok(Frame::Data(data))));
                    }
                    Ok(Decoded::End { skip, trailers }) => {
                        let _ = self.link.inbuf.split_to(skip);
                        self.incoming = Incoming::Done;
                        return Poll::Ready(trailers.map(|fields| Ok(Frame::Trailers(fields))));
                    }
                    Ok(Decoded::More { skip }) => {
                        let _ = self.link.inbuf.split_to(skip);
                        u64::MAX
                    }
                    Err(_) => {
                        self.incoming = Incoming::Broken(Reason::MalformedRequest);
                        continue;
                    }
                },
            };
            match self.link.poll_read_body(cx, want) {
                Poll::Pending => {
                    // Being polled again is no sign of life: the wait began with the last byte.
                    let since =
                        self.waiting.take().map_or_else(SystemClock::tick, |(since, _)| since);
                    self.waiting = Some((since, cx.waker().clone()));
                    return Poll::Pending;
                }
                Poll::Ready(Ok(1..)) => self.waiting = None,
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.waiting = None;
                    self.incoming = Incoming::Broken(Reason::CallerGone);
                }
            }
        }
    }
}

fn broken(reason: Reason) -> Error {
    Error::new(
        reason,
        match reason {
            Reason::BodyTimeout => "the request body stopped arriving",
            Reason::MalformedRequest => "the chunks of the request body are malformed",
            _ => "the client closed the connection within the request body",
        },
    )
}

/// The body of the request under way.
pub struct RequestBody {
    shared: Rc<RefCell<Shared>>,
    length: Length,
}

impl RequestBody {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        self.shared.borrow_mut().poll_body(cx)
    }

    pub(crate) const fn length(&self) -> Length {
        self.length
    }
}

enum Head {
    Request(Box<ParsedRequest>),
    Preface,
    Closed,
    Refused(Reason, String),
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
        waiting: None,
        responding: false,
        informable: true,
    }));
    let alarm = Alarm::default();
    let began = SystemClock::tick();
    let retires = settings.age_max.map_or(Tick::NEVER, |age| began.plus(age));
    // Kept from request to request: to enlist and to leave takes a lock that all workers share.
    let mut draining = stop.draining();
    let mut first = true;
    loop {
        let parsed = match read_head(&shared, settings, &alarm, &mut draining, first).await {
            Head::Request(parsed) => parsed,
            Head::Preface => return unwrap_http2(shared),
            Head::Closed => return Ended::Closed,
            Head::Refused(reason, detail) => {
                let response = handler.refuse(&peer, reason, &detail);
                let writer =
                    Writer { shared: &shared, settings, alarm: &alarm, method: &Method::Get };
                let _ = writer.write(response, false, Version::Http11).await;
                linger(&shared, &alarm).await;
                return Ended::Closed;
            }
        };
        first = false;
        let ParsedRequest { head, framing, keep_alive, expects_continue, .. } = *parsed;
        let (method, version) = (head.method.clone(), head.version);
        let body = {
            let mut state = shared.borrow_mut();
            state.owes_continue = expects_continue;
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
        let inform = Inform(Rc::downgrade(&shared));
        let request = Request { head, body, peer: peer.clone(), alarm: alarm.clone(), inform };
        let Some(mut response) = handle(handler, request, &shared, settings, &alarm).await else {
            return Ended::Closed;
        };
        // Who waits for the end of a tunnel is not told of the head that opens it.
        let tunnel = response.tunnel.take().map(|tunnel| (tunnel, response.done.take()));
        let stays = keep_alive && !stop.is_draining() && SystemClock::tick() < retires;
        let writer = Writer { shared: &shared, settings, alarm: &alarm, method: &method };
        let kept = writer.write(response, stays || tunnel.is_some(), version).await;
        if let Some((tunnel, done)) = tunnel {
            if kept {
                join(shared, *tunnel, done, stop).await;
            }
            return Ended::Closed;
        }
        if !kept || !drain_body(&shared, &alarm).await {
            linger(&shared, &alarm).await;
            return Ended::Closed;
        }
    }
}

/// Reads the next head, within its time and size.
async fn read_head(
    shared: &RefCell<Shared>,
    settings: &Settings,
    alarm: &Alarm,
    draining: &mut Reached,
    first: bool,
) -> Head {
    let mut limit = {
        let state = shared.borrow();
        let begun = first || !state.link.inbuf.is_empty();
        let wait = if begun { settings.header_timeout } else { settings.idle_timeout };
        SystemClock::tick().plus(wait)
    };
    let mut begun = !shared.borrow().link.inbuf.is_empty();
    // A head is parsed again only when a line has been completed since, so that one that trickles in
    // does not cost its square.
    let mut parse = begun;
    let mut watch_drain = !begun;
    poll_fn(|cx| {
        let mut state = shared.borrow_mut();
        loop {
            if parse {
                let link = &mut state.link;
                match inspect(&link.inbuf, settings.head) {
                    Ok(None) => {}
                    Ok(Some(Found::Preface)) if first => return Poll::Ready(Head::Preface),
                    Ok(Some(Found::Preface)) => return Poll::Ready(refused(HeadError::Version)),
                    Ok(Some(Found::Request(parsed))) => {
                        let _ = link.inbuf.split_to(parsed.used);
                        return Poll::Ready(Head::Request(parsed));
                    }
                    Err(error) => return Poll::Ready(refused(error)),
                }
                parse = false;
            }
            if watch_drain && Pin::new(&mut *draining).poll(cx).is_ready() && !begun {
                // A request may be on its way: closing at once would leave it without an answer.
                watch_drain = false;
                limit = limit.min(SystemClock::tick().plus(DRAIN_GRACE));
            }
            let before = state.link.inbuf.len();
            let mut failed = None;
            let read = state.link.poll_read_head(cx, |seen| match inspect(seen, settings.head) {
                Ok(Some(Found::Request(parsed))) => Some((parsed.used, Found::Request(parsed))),
                Ok(Some(Found::Preface)) => Some((0, Found::Preface)),
                Ok(None) => None,
                Err(error) => {
                    failed = Some(error);
                    None
                }
            });
            if let Some(error) = failed {
                return Poll::Ready(refused(error));
            }
            match read {
                Poll::Ready(Ok(Read::Found(Found::Request(parsed)))) => {
                    return Poll::Ready(Head::Request(parsed));
                }
                Poll::Ready(Ok(Read::Found(Found::Preface))) if first => {
                    return Poll::Ready(Head::Preface);
                }
                Poll::Ready(Ok(Read::Found(Found::Preface))) => {
                    return Poll::Ready(refused(HeadError::Version));
                }
                Poll::Ready(Ok(Read::More)) => {
                    if !begun {
                        begun = true;
                        watch_drain = false;
                        limit = limit.min(SystemClock::tick().plus(settings.header_timeout));
                        if !first {
                            limit = SystemClock::tick().plus(settings.header_timeout);
                        }
                    }
                    let fresh = &state.link.inbuf[before..];
                    let full = state.link.inbuf.len() >= settings.head.bytes_max;
                    parse = before != 0 && (full || memchr::memchr(b'\n', fresh).is_some());
                }
                Poll::Ready(Ok(Read::End) | Err(_)) => return Poll::Ready(Head::Closed),
                Poll::Pending => break,
            }
        }
        if !begun {
            state.link.rest();
        }
        drop(state);
        if alarm.poll(cx, limit).is_ready() {
            return Poll::Ready(if begun {
                Head::Refused(
                    Reason::HeadersTimeout,
                    format!("the request head did not arrive within {:?}", settings.header_timeout),
                )
            } else {
                Head::Closed
            });
        }
        Poll::Pending
    })
    .await
}

enum Found {
    Request(Box<ParsedRequest>),
    Preface,
}

fn inspect(bytes: &[u8], limits: HeadLimits) -> Result<Option<Found>, HeadError> {
    if bytes.starts_with(b"PRI ") {
        let seen = bytes.len().min(PREFACE.len());
        if bytes[..seen] == PREFACE[..seen] {
            return Ok((seen == PREFACE.len()).then_some(Found::Preface));
        }
    }
    Ok(parse_request(bytes, limits)?.map(|parsed| Found::Request(Box::new(parsed))))
}

fn refused(error: HeadError) -> Head {
    let reason = match error {
        HeadError::TooLarge(_) | HeadError::TooMany(_) => Reason::HeadersTooLarge,
        HeadError::Coding | HeadError::Version => Reason::NotSupported,
        HeadError::Malformed(_) => Reason::MalformedRequest,
    };
    Head::Refused(reason, error.to_string())
}

/// Lets the handler work, watching the client meanwhile; `None` if the client has gone.
async fn handle<H: Handler>(
    handler: &H,
    request: Request,
    shared: &RefCell<Shared>,
    settings: &Settings,
    alarm: &Alarm,
) -> Option<Response> {
    let mut work = pin!(handler.call(request));
    let mut watch = true;
    poll_fn(|cx| {
        if let Poll::Ready(response) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        let mut state = shared.borrow_mut();
        if !state.link.is_flushed() && state.link.poll_flush(cx).ready_and(|r| r.is_err()) {
            return Poll::Ready(None);
        }
        if watch && matches!(state.incoming, Incoming::Done) {
            match state.link.poll_read_head::<()>(cx, |_| None) {
                // Requests sent ahead wait in the buffer; enough to know that the client is there.
                Poll::Ready(Ok(Read::More | Read::Found(()))) => watch = false,
                Poll::Ready(Ok(Read::End) | Err(_)) => return Poll::Ready(None),
                Poll::Pending => {}
            }
        }
        check_waiting(&mut state, settings, alarm, cx);
        Poll::Pending
    })
    .await
}

/// Breaks off a request body that has been silent for too long.
fn check_waiting(state: &mut Shared, settings: &Settings, alarm: &Alarm, cx: &mut Context<'_>) {
    if let Some((since, _)) = &state.waiting {
        let limit = since.plus(settings.stream_idle_timeout);
        if alarm.poll(cx, limit).is_ready() {
            state.fail_body(Reason::BodyTimeout);
        }
    }
}

trait ReadyAnd<T> {
    fn ready_and(self, test: impl FnOnce(T) -> bool) -> bool;
}

impl<T> ReadyAnd<T> for Poll<T> {
    fn ready_and(self, test: impl FnOnce(T) -> bool) -> bool {
        match self {
            Self::Ready(value) => test(value),
            Self::Pending => false,
        }
    }
}

struct Writer<'a> {
    shared: &'a RefCell<Shared>,
    settings: &'a Settings,
    alarm: &'a Alarm,
    method: &'a Method,
}

impl Writer<'_> {
    /// Writes a response; says whether the connection can go on.
    async fn write(&self, response: Response, stays: bool, version: Version) -> bool {
        let Response { mut head, mut body, done, .. } = response;
        let bodiless = *self.method == Method::Head
            || head.status == 304
            || head.status == 204
            || head.status < 200
            || (*self.method == Method::Connect && (200..300).contains(&head.status));
        let length = body.length();
        let framing = match length {
            _ if bodiless => Framing::None,
            Length::Exact(length) => Framing::Length(length),
            Length::Unknown if version == Version::Http10 => Framing::Close,
            Length::Unknown => Framing::Chunked,
        };
        let stays = stays && framing != Framing::Close;
        {
            let mut state = self.shared.borrow_mut();
            state.responding = true;
            if let Framing::Length(length) = framing {
                if !head.fields.has(Known::ContentLength) {
                    let mut text = Vec::with_capacity(20);
                    weft_wire::h1::push_decimal(&mut text, length);
                    head.fields.add(Known::ContentLength, &text);
                }
            } else if !bodiless || head.status == 204 || head.status < 200 {
                head.fields.remove(Known::ContentLength);
            }
            let connection = match (stays, version) {
                _ if head.status == 101 => None,
                (false, _) => Some("close"),
                (true, Version::Http10) => Some("keep-alive"),
                (true, _) => None,
            };
            encode_response(&head, framing, connection, state.link.queue());
        }
        let mut sent = 0;
        let outcome = if bodiless {
            drop(body);
            self.flush().await.map_err(|_error: io::Error| Reason::CallerGone)
        } else {
            self.write_body(&mut body, framing, &mut sent).await
        };
        if let Some(done) = done {
            done.end(sent, outcome);
        }
        stays && outcome.is_ok()
    }

    async fn flush(&self) -> io::Result<()> {
        let limit = SystemClock::tick().plus(self.settings.stream_idle_timeout);
        poll_fn(|cx| {
            if let Poll::Ready(done) = self.shared.borrow_mut().link.poll_flush(cx) {
                return Poll::Ready(done);
            }
            self.alarm.poll(cx, limit).map(|()| Err(io::ErrorKind::TimedOut.into()))
        })
        .await
    }

    async fn write_body(
        &self,
        body: &mut Body,
        framing: Framing,
        sent: &mut u64,
    ) -> Result<(), Reason> {
        let mut left = match framing {
            Framing::Length(length) => length,
            _ => u64::MAX,
        };
        let mut over = left == 0;
        let mut limit = SystemClock::tick().plus(self.settings.stream_idle_timeout);
        let mut progress = u64::MAX;
        poll_fn(|cx| {
            loop {
                let full = self.shared.borrow().link.is_full();
                if full || over {
                    let mut state = self.shared.borrow_mut();
                    match state.link.poll_flush(cx) {
                        Poll::Ready(Ok(())) if over => return Poll::Ready(Ok(())),
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(Reason::CallerGone)),
                        Poll::Pending => break,
                    }
                }
                // The body may read from this very connection: it must not be borrowed here.
                match body.poll_frame(cx) {
                    Poll::Ready(Some(Ok(Frame::Data(bytes)))) => {
                        let bytes = take_at_most(bytes, left);
                        left -= bytes.len() as u64;
                        *sent += bytes.len() as u64;
                        self.shared.borrow_mut().link.queue_data(framing, bytes);
                        if left == 0 {
                            // Lets the body see its own end, so that its connection can be kept.
                            let _ = body.poll_frame(cx);
                            over = true;
                        }
                    }
                    Poll::Ready(Some(Ok(Frame::Trailers(fields)))) => {
                        if framing == Framing::Chunked {
                            let mut state = self.shared.borrow_mut();
                            let out = state.link.queue();
                            out.extend_from_slice(b"0\r\n");
                            fields.encode(out);
                            out.extend_from_slice(b"\r\n");
                            over = true;
                        }
                    }
                    Poll::Ready(Some(Err(error))) => {
                        // What came so far is given to the client; the missing end tells the rest.
                        let _ = self.shared.borrow_mut().link.poll_flush(cx);
                        return Poll::Ready(Err(error.reason()));
                    }
                    Poll::Ready(None) => {
                        if framing == Framing::Chunked && !over {
                            let mut state = self.shared.borrow_mut();
                            state.link.queue().extend_from_slice(b"0\r\n\r\n");
                        } else if left != 0 && matches!(framing, Framing::Length(_)) {
                            return Poll::Ready(Err(Reason::UpstreamIncomplete));
                        }
                        over = true;
                    }
                    Poll::Pending => {
                        let mut state = self.shared.borrow_mut();
                        if state.link.poll_flush(cx).ready_and(|done| done.is_err()) {
                            return Poll::Ready(Err(Reason::CallerGone));
                        }
                        break;
                    }
                }
            }
            let mut state = self.shared.borrow_mut();
            let now_at = state.link.sent + *sent;
            if now_at != progress {
                progress = now_at;
                limit = SystemClock::tick().plus(self.settings.stream_idle_timeout);
            }
            check_waiting(&mut state, self.settings, self.alarm, cx);
            if self.alarm.poll(cx, limit).is_ready() {
                let stuck = !state.link.is_flushed();
                return Poll::Ready(Err(if stuck {
                    Reason::CallerGone
                } else {
                    Reason::StreamIdle
                }));
            }
            Poll::Pending
        })
        .await
    }
}

fn take_at_most(mut bytes: Bytes, left: u64) -> Bytes {
    if bytes.len() as u64 > left {
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
    }
    bytes
}

/// Reads away what is left of a request body, if that is little; says whether the next request follows.
async fn drain_body(shared: &RefCell<Shared>, alarm: &Alarm) -> bool {
    {
        let state = shared.borrow();
        match &state.incoming {
            Incoming::Done => return true,
            // A client that was never told to continue will not send the body.
            _ if state.owes_continue => return false,
            Incoming::Length(left) if *left > DRAIN_BYTES_MAX => return false,
            Incoming::Broken(_) => return false,
            _ => {}
        }
    }
    let limit = SystemClock::tick().plus(LINGER);
    let mut drained = 0;
    let all = poll_fn(|cx| {
        loop {
            match std::task::ready!(shared.borrow_mut().poll_body(cx)) {
                Some(Ok(Frame::Data(bytes))) => drained += bytes.len() as u64,
                Some(Ok(Frame::Trailers(_))) => {}
                Some(Err(_)) => return Poll::Ready(false),
                None => return Poll::Ready(true),
            }
            if drained > DRAIN_BYTES_MAX {
                return Poll::Ready(false);
            }
        }
    });
    alarm.within(limit, all).await.unwrap_or(false)
}

/// Closes the way out and reads on for a moment, since closing with unread input would reset the
/// connection and could take the last response with it.
async fn linger(shared: &RefCell<Shared>, alarm: &Alarm) {
    let limit = SystemClock::tick().plus(LINGER);
    let mut discarded = 0;
    let close = poll_fn(|cx| {
        let mut state = shared.borrow_mut();
        if std::task::ready!(state.link.poll_flush(cx)).is_err()
            || std::task::ready!(state.link.poll_shutdown(cx)).is_err()
        {
            return Poll::Ready(());
        }
        loop {
            match std::task::ready!(state.link.poll_discard(cx)) {
                Ok(read @ 1..) if discarded < DRAIN_BYTES_MAX => discarded += read as u64,
                _ => return Poll::Ready(()),
            }
        }
    });
    let _ = alarm.within(limit, close).await;
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

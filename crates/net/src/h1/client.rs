//! The client side of a connection to a service that speaks HTTP/1.1.
//!
//! A [`Connection`] carries one exchange at a time. It belongs to the exchange while that is under way:
//! first to [`send`], then to the [`ResponseBody`], which gives it back to where it came from once both
//! directions have ended cleanly; in all other cases it is closed by being dropped. Sending and receiving
//! overlap: a service may answer before it has read all, and the rest of the request then goes on
//! leaving while the response is read.

mod body;
mod upload;

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use weft_kernel::{Error, Reason, Result, Retry, Tick};
use weft_wire::{
    Known, Length, Method, RequestHead, ResponseHead,
    h1::{
        ChunkedDecoder, Framing, HeadError, HeadLimits, ParsedResponse, connection_has,
        encode_request, parse_response,
    },
};

pub use self::body::ResponseBody;
use self::{
    body::Decoding,
    upload::{Sending, Upload},
};
use super::link::{Link, Read};
use crate::{
    body::Body,
    clock,
    expect::{INTERIM_MAX, Waits},
    io::Io,
    message::InterimSender,
    pool::{Home, Lease},
};

/// A connection to a service, between exchanges.
pub struct Connection {
    link: Link,
    /// When it was opened.
    pub opened: Tick,
    /// When its last exchange ended.
    pub idle_since: Tick,
    /// How many exchanges it has carried.
    pub served: u64,
    /// How long the service said that it keeps the connection (`Keep-Alive: timeout=…`).
    kept: Option<Duration>,
    /// Counts it as open.
    pub(crate) lease: Option<Lease>,
}

impl Connection {
    /// A connection over a fresh stream.
    pub fn new(io: Io) -> Self {
        let now = clock::now();
        Self {
            link: Link::new(io, BytesMut::new()),
            opened: now,
            idle_since: now,
            served: 0,
            kept: None,
            lease: None,
        }
    }

    /// Until when it may be used again: `idle_timeout` from its last exchange, or a second before the
    /// service said that it would close it.
    pub fn idle_until(&self, idle_timeout: Duration) -> Tick {
        let kept = self.kept.map_or(idle_timeout, |kept| {
            idle_timeout.min(kept.saturating_sub(Duration::from_secs(1)))
        });
        self.idle_since.plus(kept)
    }

    /// Whether the service has neither closed it nor sent anything unasked. Looks without waiting.
    pub fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        self.link.inbuf.is_empty() && self.link.poll_discard(cx).is_pending()
    }
}

/// What the exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Limits of a response head.
    pub head: HeadLimits,
}

/// A response, its head read.
pub struct Answer {
    /// The head, with the fields of the connection still in it.
    pub head: ResponseHead,
    /// What follows.
    pub then: Then,
}

/// What follows a response head.
pub enum Then {
    /// A body.
    Body(Body),
    /// The connection has left HTTP (101, or 2xx to CONNECT).
    Tunnel(Io, bytes::Bytes),
}

/// Why there is no response.
pub struct Failed {
    /// What went wrong.
    pub error: Error,
    /// No byte of a response has come, and the connection had served before: the service may have
    /// closed it while the request was on its way.
    pub stale: bool,
    /// The request body, if none of it has been used.
    pub body: Option<Body>,
}

/// Sends a request and reads the head of its response. Dropping the future closes the connection.
///
/// The fields of `head` are sent as they are, beside what frames the body. Interim responses other than
/// 100 go to `interim_sender`.
pub async fn send(
    mut connection: Box<Connection>,
    head: &RequestHead,
    body: Body,
    settings: Settings,
    interim_sender: &InterimSender,
    home: Home,
) -> Result<Answer, Failed> {
    let framing = match body.length() {
        Length::Exact(0) => Framing::None,
        Length::Exact(length) => Framing::Length(length),
        Length::Unknown => Framing::Chunked,
    };
    let before = connection.link.received;
    encode_request(head, framing, connection.link.queue());
    let mut upload = Upload {
        body,
        framing,
        left: match framing {
            Framing::Length(length) => length,
            Framing::None => 0,
            _ => u64::MAX,
        },
        state: if framing == Framing::None { Sending::Flush } else { Sending::Body },
        waits: Waits::of(head, framing == Framing::None),
        touched: false,
    };
    let mut interim = 0;
    let mut broken: Option<io::Error> = None;
    let parsed = poll_fn(|cx| {
        loop {
            if upload.state != Sending::Done {
                match upload.poll(&mut connection.link, cx) {
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    // The service may have answered before it stopped reading: that answer counts.
                    Poll::Ready(Ok(Err(error))) => broken = Some(error),
                    _ => {}
                }
            }
            let (link, waits) = (&mut connection.link, &mut upload.waits);
            let waited = waits.is_waiting();
            let interim_sender = Interim { interim_sender, seen: &mut interim, waits };
            let head = poll_response_head(link, &head.method, settings, interim_sender, cx);
            if head.is_ready() || waited == upload.waits.is_waiting() {
                return head;
            }
        }
    })
    .await;
    let parsed = match parsed {
        // The request comes first, to its end and in the framing that it began in (RFC 9110 section 7.8).
        Ok(parsed) if parsed.head.status == 101 && upload.state != Sending::Done => {
            upload.waits = Waits::No;
            match poll_fn(|cx| upload.poll(&mut connection.link, cx)).await {
                Ok(Ok(())) => Ok(parsed),
                Ok(Err(error)) => Err(Error::new(
                    Reason::UpstreamClosed,
                    "the service switched protocols and took no more of the request",
                )
                .because(error)
                .retry(Retry::No)),
                Err(error) => Err(error),
            }
        }
        parsed => parsed,
    };
    match parsed {
        Ok(parsed) if parsed.head.status == 101 && !consents(&parsed.head, head) => {
            let say = "the service switched to a protocol that it was not asked for";
            let error = Error::new(Reason::UpstreamMalformed, say).retry(Retry::No);
            Err(Failed { error, stale: false, body: None })
        }
        Ok(parsed) => {
            let clean = broken.is_none();
            Ok(answer(connection, parsed, upload, clean, home, &head.method))
        }
        Err(error) => {
            let silent = connection.link.received == before;
            let stale = silent && connection.served > 0 && error.reason() == Reason::UpstreamClosed;
            let error = match broken {
                Some(cause) if silent => error.because(cause),
                _ => error,
            };
            let body = (!upload.touched).then_some(upload.body);
            Err(Failed { error, stale, body })
        }
    }
}

/// Whether a 101 says that the protocol is one of those that the request asked for (RFC 9110 section 7.8),
/// and for a WebSocket with the fields that its client will look for (RFC 6455 section 4.1).
fn consents(answer: &ResponseHead, request: &RequestHead) -> bool {
    fn parts(list: &[u8]) -> impl Iterator<Item = &[u8]> {
        list.split(|b| *b == b',').map(<[u8]>::trim_ascii)
    }
    let Some(asked) = &request.upgrade else { return false };
    let mut said = answer.fields.all(Known::Upgrade).flat_map(parts).peekable();
    let mut switches = said.peek().is_some()
        && said.all(|one| parts(asked.as_bytes()).any(|asked| asked.eq_ignore_ascii_case(one)));
    if asked.eq_ignore_ascii_case("websocket") {
        switches &= connection_has(&answer.fields, "upgrade");
    }
    switches
}

/// What becomes of interim responses.
struct Interim<'a> {
    interim_sender: &'a InterimSender,
    seen: &'a mut u32,
    waits: &'a mut Waits,
}

fn poll_response_head(
    link: &mut Link,
    method: &Method,
    settings: Settings,
    interim: Interim<'_>,
    cx: &mut Context<'_>,
) -> Poll<Result<ParsedResponse>> {
    loop {
        let mut found = None;
        if !link.inbuf.is_empty() {
            match parse_response(&link.inbuf, method, settings.head) {
                Ok(Some(parsed)) => {
                    let _ = link.inbuf.split_to(parsed.used);
                    found = Some(parsed);
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(malformed(error))),
            }
        }
        let parsed = match found {
            Some(parsed) => parsed,
            None => {
                let mut failed = None;
                let read = link.poll_read_head(cx, |seen| {
                    match parse_response(seen, method, settings.head) {
                        Ok(Some(parsed)) => Some((parsed.used, parsed)),
                        Ok(None) => None,
                        Err(error) => {
                            failed = Some(error);
                            None
                        }
                    }
                });
                if let Some(error) = failed {
                    return Poll::Ready(Err(malformed(error)));
                }
                match std::task::ready!(read) {
                    Ok(Read::Found(parsed)) => parsed,
                    Ok(Read::More) => continue,
                    Ok(Read::End) => {
                        return Poll::Ready(Err(Error::new(
                            Reason::UpstreamClosed,
                            "the service closed the connection before its response",
                        )));
                    }
                    Err(error) => {
                        return Poll::Ready(Err(Error::new(
                            Reason::UpstreamClosed,
                            "the connection to the service broke before its response",
                        )
                        .because(error)));
                    }
                }
            }
        };
        if parsed.head.status >= 200 || parsed.head.status == 101 {
            return Poll::Ready(Ok(parsed));
        }
        *interim.seen += 1;
        if *interim.seen > INTERIM_MAX {
            return Poll::Ready(Err(Error::new(
                Reason::UpstreamMalformed,
                format!("the service sent more than {INTERIM_MAX} interim responses"),
            )));
        }
        if parsed.head.status == 100 {
            if interim.waits.is_waiting() {
                // The body may go. The client is told when that is taken from it.
                *interim.waits = Waits::No;
                return Poll::Pending;
            }
            continue;
        }
        let mut head = parsed.head;
        head.fields.strip_hop_by_hop(false);
        head.fields.remove(Known::ContentLength);
        interim.interim_sender.send(&head);
    }
}

fn malformed(error: HeadError) -> Error {
    let reason = match error {
        HeadError::TooLarge(_) | HeadError::TooMany(_) => Reason::UpstreamHeadersTooLarge,
        _ => Reason::UpstreamMalformed,
    };
    Error::new(reason, format!("the response of the service is refused: {error}")).retry(Retry::No)
}

fn answer(
    mut connection: Box<Connection>,
    parsed: ParsedResponse,
    mut upload: Upload,
    clean: bool,
    home: Home,
    method: &Method,
) -> Answer {
    let ParsedResponse { head, framing, keep_alive, .. } = parsed;
    let joined =
        head.status == 101 || (*method == Method::Connect && (200..300).contains(&head.status));
    if joined {
        let Connection { link, .. } = *connection;
        return Answer { head, then: Then::Tunnel(link.io, link.inbuf.freeze()) };
    }
    match &mut upload.waits {
        // Refused: the body is not sent any more.
        Waits::Until(until, _) if head.status >= 400 => *until = Tick::NEVER,
        waits => *waits = Waits::No,
    }
    if let Some(text) = head.fields.get_str(Known::KeepAlive) {
        connection.kept = kept_for(text);
    }
    let mut body = ResponseBody {
        decoding: match framing {
            Framing::None | Framing::Length(0) => Decoding::Done,
            Framing::Length(length) => Decoding::Length(length),
            Framing::Chunked => Decoding::Chunked(ChunkedDecoder::default()),
            Framing::Close => Decoding::Close,
        },
        length: match framing {
            Framing::None => Length::Exact(0),
            Framing::Length(length) => Length::Exact(length),
            _ => Length::Unknown,
        },
        connection: Some(connection),
        upload: Some(upload),
        failed: None,
        home: (keep_alive && clean).then_some(home),
    };
    if matches!(body.decoding, Decoding::Done) {
        body.finish();
        return Answer { head, then: Then::Body(Body::Empty) };
    }
    Answer { head, then: Then::Body(Body::H1Response(Box::new(body))) }
}

/// Reads `timeout=5, max=100`.
fn kept_for(text: &str) -> Option<Duration> {
    text.split(',')
        .find_map(|part| part.trim().strip_prefix("timeout="))
        .and_then(|seconds| seconds.trim().parse().ok())
        .map(Duration::from_secs)
}

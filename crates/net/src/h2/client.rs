//! The client side of a connection to a service that speaks HTTP/2.

use std::{cell::Cell, pin::pin, rc::Rc, time::Duration};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use weft_kernel::{Error, Reason, Result, Retry, SystemClock, Tick};
use weft_wire::{Known, Method, RequestHead, ResponseHead};

use super::{Incoming, Local, Side, append_to, from_header_map};
use crate::{
    body::{Body, Outgoing},
    io::Io,
    tasks::Stop,
};

/// How a connection to a service is spoken.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Largest header section of a response.
    pub header_bytes_max: usize,
}

/// How many bytes of one stream a service may send ahead.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// How many bytes of all streams a service may send ahead.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// How often a busy connection is asked whether it lives, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// A connection to a service, shared by many streams.
#[derive(Clone)]
pub struct Connection {
    send: http2::SendRequest<Outgoing>,
    streams: Rc<Cell<usize>>,
    /// When it was opened.
    pub opened: Tick,
    /// When its last stream ended.
    pub idle_since: Rc<Cell<Tick>>,
    /// How many streams it has carried.
    pub served: Rc<Cell<u64>>,
    secure: bool,
}

/// Counts a stream on its connection for as long as it lives.
pub struct Stream {
    streams: Rc<Cell<usize>>,
    idle_since: Rc<Cell<Tick>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.set(self.streams.get().saturating_sub(1));
        self.idle_since.set(SystemClock::tick());
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
        let (send, connection) = http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(settings.header_bytes_max).unwrap_or(u32::MAX))
            .max_send_buf_size(128 * 1024)
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .handshake::<_, Outgoing>(TokioIo::new(io))
            .await
            .map_err(|error| {
                Error::new(
                    Reason::UpstreamMalformed,
                    "the HTTP/2 handshake with the service failed",
                )
                .because(error)
            })?;
        let stop = stop.clone();
        tokio::task::spawn_local(async move {
            let mut connection = pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = stop.closed() => {}
            }
        });
        let now = SystemClock::tick();
        Ok(Self {
            send,
            streams: Rc::default(),
            opened: now,
            idle_since: Rc::new(Cell::new(now)),
            served: Rc::default(),
            secure,
        })
    }

    /// How many streams are under way.
    pub fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Whether it has ended, or is about to.
    pub fn is_closed(&self) -> bool {
        self.send.is_closed()
    }

    /// Counts a stream that is about to be sent.
    pub fn begin(&self) -> Stream {
        self.streams.set(self.streams.get() + 1);
        self.served.set(self.served.get() + 1);
        Stream { streams: self.streams.clone(), idle_since: self.idle_since.clone() }
    }

    /// Sends a request and reads the head of its response.
    pub async fn send(
        &mut self,
        head: &RequestHead,
        body: Body,
        stream: Stream,
    ) -> Result<(ResponseHead, Body), Failed> {
        let request = self.request(head, body).map_err(|error| Failed { error })?;
        match self.send.send_request(request).await {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                let fields = from_header_map(&parts.headers);
                let incoming = Incoming::new(body, Side::Service, Some(stream));
                let body =
                    if incoming.length().is_none() { Body::Empty } else { Body::H2(incoming) };
                Ok((ResponseHead { status: parts.status.as_u16(), fields }, body))
            }
            Err(error) => Err(Failed { error: failure(error) }),
        }
    }

    fn request(&self, head: &RequestHead, body: Body) -> Result<http::Request<Outgoing>> {
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
        let mut request = http::Request::new(Outgoing::new(body, None));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = http::Version::HTTP_2;
        request.headers_mut().reserve(head.fields.len());
        append_to(&head.fields, request.headers_mut());
        request.headers_mut().remove(http::header::HOST);
        Ok(request)
    }
}

/// Names what hyper and h2 report. What the service refused (REFUSED_STREAM, or a stream beyond the
/// last that its GOAWAY names) has had no effect.
fn failure(error: hyper::Error) -> Error {
    let reset = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .map(|reset| (reset.reason(), reset.is_remote(), reset.is_go_away()));
    let made = match reset {
        Some((Some(h2::Reason::REFUSED_STREAM), ..)) => {
            Error::new(Reason::UpstreamRefused, "the service refused the stream")
        }
        Some((Some(h2::Reason::NO_ERROR), _, true)) => Error::new(
            Reason::UpstreamRefused,
            "the service ended the connection before it took the request",
        ),
        Some((Some(h2::Reason::HTTP_1_1_REQUIRED), ..)) => {
            Error::new(Reason::UpstreamRefused, "the service wants HTTP/1.1").retry(Retry::No)
        }
        Some((Some(reason), ..)) if reason != h2::Reason::CANCEL => {
            Error::new(Reason::UpstreamClosed, "the service reset the stream before its response")
                .note(reason.description())
        }
        _ if error.is_canceled() || error.is_closed() => {
            Error::new(Reason::UpstreamRefused, "the connection ended before the request was sent")
        }
        _ if is_body_error(&error) => Error::new(Reason::CallerGone, "the request body broke off"),
        _ => Error::new(
            Reason::UpstreamClosed,
            "the connection to the service broke before its response",
        ),
    };
    made.because(error)
}

fn is_body_error(error: &hyper::Error) -> bool {
    error.is_user()
}

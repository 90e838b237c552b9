//! HTTP/2 connections, over hyper.
//!
//! hyper keeps the frames, HPACK and flow control; here its types meet ours. Each stream is a task of its
//! worker, and a body passes from one connection to the other without being gathered.

pub mod client;
mod guard;
pub mod server;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body as _;
use weft_kernel::{Error, Reason, Result};
use weft_wire::{Fields, Known, Length};

use crate::body::Frame;

/// Runs hyper's tasks on the worker's own thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A body that arrives on an HTTP/2 stream.
pub struct Incoming {
    body: hyper::body::Incoming,
    side: Side,
    /// Keeps the count of the connection's streams while the stream lives.
    _stream: Option<client::Stream>,
}

#[derive(Clone, Copy)]
pub(crate) enum Side {
    Client,
    Service,
}

impl Incoming {
    pub(crate) fn new(
        body: hyper::body::Incoming,
        side: Side,
        stream: Option<client::Stream>,
    ) -> Self {
        Self { body, side, _stream: stream }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        loop {
            let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
            return Poll::Ready(match frame {
                None => None,
                Some(Err(error)) => Some(Err(self.broken(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => Some(Ok(Frame::Data(data))),
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => Some(Ok(Frame::Trailers(from_header_map(&trailers)))),
                        Err(_) => continue,
                    },
                },
            });
        }
    }

    fn broken(&self, error: hyper::Error) -> Error {
        match self.side {
            Side::Client => Error::new(Reason::CallerGone, "the client reset the stream"),
            Side::Service => Error::new(
                Reason::UpstreamIncomplete,
                "the service reset the stream within its response",
            ),
        }
        .because(error)
    }

    pub(crate) fn length(&self) -> Length {
        if self.body.is_end_stream() {
            return Length::Exact(0);
        }
        match self.body.size_hint().exact() {
            Some(length) => Length::Exact(length),
            None => Length::Unknown,
        }
    }
}

/// Our fields as hyper's. What is no name or value there is left out; our parsers let none through.
pub(crate) fn to_header_map(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len());
    append_to(fields, &mut map);
    map
}

pub(crate) fn append_to(fields: &Fields, map: &mut HeaderMap) {
    for (name, value) in fields.iter() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        {
            map.append(name, value);
        }
    }
}

/// hyper's fields as ours.
pub(crate) fn from_header_map(map: &HeaderMap) -> Fields {
    let mut fields = Fields::with_capacity(map.len() + 6, map.len() * 40 + 256);
    append_from(map, &mut fields);
    fields
}

fn append_from(map: &HeaderMap, fields: &mut Fields) {
    for (name, value) in map {
        // Several cookie fields are one in HTTP/1.1 (RFC 9113 section 8.2.3); joined below.
        if name == http::header::COOKIE {
            continue;
        }
        fields.append(name.as_str(), value.as_bytes());
    }
    let mut cookies = map.get_all(http::header::COOKIE).iter();
    if let Some(first) = cookies.next() {
        let mut all = first.as_bytes().to_vec();
        for cookie in cookies {
            all.extend_from_slice(b"; ");
            all.extend_from_slice(cookie.as_bytes());
        }
        fields.add(Known::Cookie, &all);
    }
}

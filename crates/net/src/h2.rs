//! HTTP/2 connections, over the `h2` crate.
//!
//! It keeps the frames, HPACK and flow control; here its streams meet our messages. Each stream of a
//! client is a task of its worker, and a body passes from one connection to the other without being
//! gathered: what is not read is not asked for.

pub mod client;
mod duplex;
mod fields;
mod guard;
mod keep_alive;
mod sending;
pub mod server;

use std::{
    task::{Context, Poll},
    time::Duration,
};

use h2::RecvStream;
use http::HeaderMap;
use weft_kernel::{Error, Reason, Result, SystemClock, Tick};
use weft_wire::Length;

pub(crate) use self::duplex::Duplex;
use self::fields::from_header_map;
use crate::{alarm::Alarm, body::Frame, message::Inform};

/// A body that arrives on an HTTP/2 stream.
pub struct Incoming {
    stream: RecvStream,
    length: Length,
    from: From,
    all_data: bool,
}

/// Who sends a body, and what is kept while it comes.
enum From {
    Client {
        /// Longest silence.
        idle: Duration,
        silence: Option<(Tick, Alarm)>,
        /// Tells the client to go on, if it waits for that.
        owes_continue: Option<Inform>,
    },
    Service {
        /// Keeps the count of the connection's streams.
        _stream: client::Stream,
        /// What is left of the request, which is sent meanwhile.
        _pipe: Option<client::Pipe>,
    },
}

impl Incoming {
    fn new(stream: RecvStream, headers: &HeaderMap, from: From) -> Self {
        let length = match headers.get(http::header::CONTENT_LENGTH) {
            _ if stream.is_end_stream() => Length::Exact(0),
            // The library holds the stream to it.
            Some(length) => length
                .to_str()
                .ok()
                .and_then(|length| length.parse().ok())
                .map_or(Length::Unknown, Length::Exact),
            None => Length::Unknown,
        };
        Self { stream, length, from, all_data: false }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        if let From::Client { owes_continue, .. } = &mut self.from
            && let Some(inform) = owes_continue.take()
        {
            inform.go_on();
        }
        while !self.all_data {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    // Room for as much again: the reader has taken this.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    if data.is_empty() {
                        continue;
                    }
                    self.stir();
                    if let Length::Exact(left) = &mut self.length {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::Data(data))));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(self.broken(error)),
                Poll::Ready(None) => self.all_data = true,
                Poll::Pending => return self.poll_silence(cx),
            }
        }
        match self.stream.poll_trailers(cx) {
            Poll::Ready(Ok(Some(trailers))) => {
                self.stir();
                Poll::Ready(Some(Ok(Frame::Trailers(from_header_map(&trailers)))))
            }
            Poll::Ready(Ok(None)) => Poll::Ready(None),
            Poll::Ready(Err(error)) => Poll::Ready(self.broken(error)),
            Poll::Pending => self.poll_silence(cx),
        }
    }

    fn stir(&mut self) {
        if let From::Client { silence, .. } = &mut self.from
            && let Some((limit, _)) = silence
        {
            *limit = Tick::NEVER;
        }
    }

    /// Waits on, but not for ever.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let From::Client { idle, silence, .. } = &mut self.from else { return Poll::Pending };
        let (limit, alarm) = silence.get_or_insert_with(|| (Tick::NEVER, Alarm::default()));
        if *limit == Tick::NEVER {
            *limit = SystemClock::tick().plus(*idle);
        }
        alarm
            .poll(cx, *limit)
            .map(|()| Some(Err(Error::new(Reason::BodyTimeout, "the body stopped arriving"))))
    }

    fn broken(&self, error: h2::Error) -> Option<Result<Frame>> {
        let made = match &self.from {
            From::Client { .. } => Error::new(Reason::CallerGone, "the client reset the stream"),
            // A service that wants no more of the request may say so once its response is whole.
            From::Service { .. }
                if error.reason() == Some(h2::Reason::NO_ERROR)
                    && error.is_reset()
                    && matches!(self.length, Length::Unknown | Length::Exact(0)) =>
            {
                return None;
            }
            From::Service { .. } => Error::new(
                Reason::UpstreamIncomplete,
                "the service reset the stream within its response",
            ),
        };
        Some(Err(made.because(error)))
    }

    pub(crate) fn length(&self) -> Length {
        if self.stream.is_end_stream() { Length::Exact(0) } else { self.length }
    }
}

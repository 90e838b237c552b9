//! HTTP/2 connections, over the `h2` crate.
//!
//! It keeps the frames, HPACK and flow control; here its streams meet our messages. Each stream of a
//! client is a task of its worker, and a body passes from one connection to the other without being
//! gathered: what is not read is not asked for.

pub mod client;
mod cut;
mod duplex;
mod fields;
mod guard;
mod keep_alive;
mod screen;
mod sending;
pub mod server;

use std::{
    collections::VecDeque,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;
use weft_kernel::{Error, Reason, Result, Tick};
use weft_wire::{Fields, Known, Length};

pub(crate) use self::duplex::Duplex;
use self::{
    cut::Cut,
    fields::from_header_map,
    screen::{Fault, Heads},
};
use crate::{body::Frame, clock, message::InterimSender, timer::TaskTimer};

/// A body that arrives on an HTTP/2 stream.
pub struct Incoming {
    stream: RecvStream,
    length: Length,
    from: From,
    /// What is known of its trailers.
    heads: Heads,
    all_data: bool,
    /// What was read while nobody could take it; rare.
    ahead: Option<Box<Ahead>>,
}

#[derive(Default)]
struct Ahead {
    pieces: VecDeque<Piece>,
    /// Why nothing comes after them.
    broken: Option<h2::Error>,
}

/// What was read ahead.
enum Piece {
    /// Small frames, put together.
    Small(BytesMut),
    /// A frame as it came.
    Large(Bytes),
}

/// A frame of fewer bytes is put together with others: each costs more than its bytes.
const SMALL: usize = 1024;

/// Who sends a body, and what is kept while it comes.
enum From {
    Client {
        /// Longest silence.
        idle: Duration,
        silence: Option<(Tick, TaskTimer)>,
        /// Tells the client to go on, if it waits for that.
        owes_continue: Option<InterimSender>,
        /// How many streams of the connection were cut.
        cut: Cut,
    },
    Service {
        /// Keeps the count of the connection's streams.
        stream: client::Stream,
        /// What is left of the request, which is sent meanwhile.
        pipe: Option<client::Pipe>,
        /// What the service did not want of the request; to drop it would end the stream.
        _unsent: Option<Box<sending::Sending>>,
    },
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let whole = self.all_data || self.stream.is_end_stream();
        match &mut self.from {
            From::Service { stream, .. } => stream.whole = whole,
            From::Client { cut, .. } if !whole => cut.count(),
            From::Client { .. } => {}
        }
    }
}

impl Incoming {
    /// The body of a stream that has not ended yet.
    fn new(stream: RecvStream, fields: &Fields, from: From, heads: Heads) -> Self {
        // The library holds the stream to it.
        let length = fields.get_str(Known::ContentLength).and_then(|length| length.parse().ok());
        let length = length.map_or(Length::Unknown, Length::Exact);
        Self { stream, length, from, heads, all_data: false, ahead: None }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        if let From::Client { owes_continue, .. } = &mut self.from
            && let Some(interim_sender) = owes_continue.take()
        {
            interim_sender.go_on();
        }
        if let Some(ahead) = &mut self.ahead {
            if let Some(piece) = ahead.pieces.pop_front() {
                let data = match piece {
                    Piece::Small(bytes) => bytes.freeze(),
                    Piece::Large(bytes) => bytes,
                };
                return Poll::Ready(Some(Ok(self.taken(data))));
            }
            let broken = ahead.broken.take();
            self.ahead = None;
            if let Some(error) = broken {
                return Poll::Ready(self.broken(error));
            }
        }
        while !self.all_data {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    if data.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(self.taken(data))));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(self.broken(error)),
                Poll::Ready(None) => self.all_data = true,
                Poll::Pending => return self.poll_silence(cx),
            }
        }
        match self.stream.poll_trailers(cx) {
            Poll::Ready(Ok(Some(trailers))) => {
                self.stir();
                Poll::Ready(self.trailers(&trailers))
            }
            Poll::Ready(Ok(None)) => Poll::Ready(None),
            Poll::Ready(Err(error)) => Poll::Ready(self.broken(error)),
            Poll::Pending => self.poll_silence(cx),
        }
    }

    /// The trailers, if they are any; they are not the end of a whole message if they break its rules.
    fn trailers(&self, trailers: &HeaderMap) -> Option<Result<Frame>> {
        let Some(fault) = self.heads.of_trailers(self.stream.stream_id().into()) else {
            let mut fields: Fields = from_header_map(trailers);
            fields.keep_trailers();
            return (!fields.is_empty()).then_some(Ok(Frame::Trailers(fields)));
        };
        let (sender, reasons) = match &self.from {
            From::Client { .. } => ("client", [Reason::MalformedRequest; 2]),
            From::Service { .. } => {
                ("service", [Reason::UpstreamMalformed, Reason::UpstreamHeadersTooLarge])
            }
        };
        Some(Err(match fault {
            Fault::Malformed(say) => {
                Error::new(reasons[0], format!("the trailers of the {sender} are malformed: {say}"))
            }
            Fault::TooLarge => {
                Error::new(reasons[1], format!("the trailers of the {sender} are too large"))
            }
        }))
    }

    /// A piece that its reader takes: there is room for as much again.
    fn taken(&mut self, data: Bytes) -> Frame {
        let _ = self.stream.flow_control().release_capacity(data.len());
        self.stir();
        if let Length::Exact(left) = &mut self.length {
            *left = left.saturating_sub(data.len() as u64);
        }
        Frame::Data(data)
    }

    /// Takes from the library what has come, in as few pieces as may be, and gives no room for more: what
    /// the library holds in small frames is bounded for the whole connection, and would end it.
    pub(crate) fn read_ahead(&mut self, cx: &mut Context<'_>) {
        while !self.all_data && self.ahead.as_ref().is_none_or(|ahead| ahead.broken.is_none()) {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => {
                    let pieces = &mut self.ahead.get_or_insert_default().pieces;
                    match pieces.back_mut() {
                        _ if data.len() >= SMALL => pieces.push_back(Piece::Large(data)),
                        Some(Piece::Small(bytes)) => bytes.extend_from_slice(&data),
                        _ => pieces.push_back(Piece::Small(BytesMut::from(&data[..]))),
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.ahead.get_or_insert_default().broken = Some(error);
                }
                Poll::Ready(None) => self.all_data = true,
                Poll::Pending => return,
            }
        }
    }

    /// See [`crate::body::Body::poll_begun`].
    pub(crate) fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.read_ahead(cx);
        if self.all_data || self.ahead.is_some() { Poll::Ready(()) } else { Poll::Pending }
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
        let (limit, timer) = silence.get_or_insert_with(|| (Tick::NEVER, TaskTimer::default()));
        if *limit == Tick::NEVER {
            *limit = clock::now().plus(*idle);
        }
        timer
            .poll(cx, *limit)
            .map(|()| Some(Err(Error::new(Reason::BodyTimeout, "the body stopped arriving"))))
    }

    fn broken(&self, error: h2::Error) -> Option<Result<Frame>> {
        let made = match &self.from {
            From::Client { .. } => Error::new(Reason::CallerGone, "the client reset the stream"),
            // It was reset from here, since the rest of the request cannot come.
            From::Service { pipe: Some(pipe), .. } if let Some(failed) = pipe.failed() => {
                return Some(Err(failed));
            }
            // Whatever the code: before END_STREAM the response is not whole (RFC 9113 section 8.1), and
            // after it the library tells of no reset.
            From::Service { .. } => Error::new(
                Reason::UpstreamIncomplete,
                "the service reset the stream within its response",
            ),
        };
        Some(Err(made.because(error)))
    }

    pub(crate) fn length(&self) -> Length {
        match self.stream.is_end_stream() && self.ahead.is_none() {
            true => Length::Exact(0),
            false => self.length,
        }
    }
}

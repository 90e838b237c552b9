//! A body on its way out on an HTTP/2 stream.

use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use weft_kernel::{Error, Side};

use super::fields::to_header_map;
use crate::{
    body::{Body, Frame},
    expect::Waits,
};

/// A body and the stream that it leaves by, no faster than the peer's window allows.
///
/// It is read a frame ahead where one is there already, so that the last byte carries the end of its
/// stream whether or not a length was declared.
pub(super) struct Sending {
    stream: SendStream<Bytes>,
    body: Body,
    /// What waits for the window.
    data: Bytes,
    /// What was read ahead; `Some(None)` is the end.
    next: Option<Option<weft_kernel::Result<Frame>>>,
    /// Bytes that have left.
    pub(super) sent: u64,
}

/// Why a body was not sent to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// It broke off by itself: the stream is to be reset, which drops what has not left yet.
    Body(Error),
    /// The peer wants no more, or has gone.
    Peer,
}

impl Sending {
    pub(super) fn new(stream: SendStream<Bytes>, body: Body) -> Self {
        Self { stream, body, data: Bytes::new(), next: None, sent: 0 }
    }

    /// Whether it is the peer's window that is waited for.
    pub(super) fn is_held(&self) -> bool {
        !self.data.is_empty()
    }

    /// Breaks it off because of what became of its body.
    pub(super) fn fail(&mut self, error: &Error) {
        self.reset(match error.side() {
            Side::Caller => h2::Reason::CANCEL,
            _ => h2::Reason::INTERNAL_ERROR,
        });
    }

    /// Breaks it off.
    pub(super) fn reset(&mut self, reason: h2::Reason) {
        self.stream.send_reset(reason);
    }

    /// Ready when the peer wants the body, if its sender waits for that.
    pub(super) fn poll_wanted(&mut self, waits: &mut Waits, cx: &mut Context<'_>) -> Poll<()> {
        waits.poll(&mut self.body, cx)
    }

    /// Sends what can be sent; ready at the end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            if !self.data.is_empty() {
                if self.poll_data(cx)?.is_pending() {
                    self.body.read_ahead(cx);
                    return self.poll_reset(cx);
                }
                if matches!(self.next, Some(None)) {
                    return Poll::Ready(Ok(()));
                }
            }
            let next = match self.next.take() {
                Some(next) => next,
                None => match self.body.poll_frame(cx) {
                    Poll::Ready(next) => next,
                    Poll::Pending => return self.poll_reset(cx),
                },
            };
            match next {
                Some(Ok(Frame::Data(data))) => self.data = data,
                Some(Ok(Frame::Trailers(fields))) => {
                    let sent = self.stream.send_trailers(to_header_map(&fields, None, None));
                    return Poll::Ready(sent.map_err(|_error| Broken::Peer));
                }
                None => {
                    let sent = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(sent.map_err(|_error| Broken::Peer));
                }
                Some(Err(error)) => return Poll::Ready(Err(Broken::Body(error))),
            }
        }
    }

    /// Sends the data at hand; with its end, if that is known to be here.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.data.is_empty() {
            let room = match std::task::ready!(poll_room(&mut self.stream, self.data.len(), cx)) {
                Some(Ok(room)) => room,
                Some(Err(_)) | None => return Poll::Ready(Err(Broken::Peer)),
            };
            let piece = self.data.split_to(room);
            if self.data.is_empty()
                && self.next.is_none()
                && let Poll::Ready(next) = self.body.poll_frame(cx)
            {
                self.next = Some(next);
            }
            let ends = self.data.is_empty() && matches!(self.next, Some(None));
            self.sent += piece.len() as u64;
            if self.stream.send_data(piece, ends).is_err() {
                return Poll::Ready(Err(Broken::Peer));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// While there is nothing to do the peer may still say that it wants no more.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.stream.poll_reset(cx).map(|_| Err(Broken::Peer))
    }
}

/// How much of `want` the peer's window takes now, which is not nothing; `None` if the stream takes no
/// more at all.
pub(super) fn poll_room(
    stream: &mut SendStream<Bytes>,
    want: usize,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<usize, h2::Error>>> {
    stream.reserve_capacity(want);
    // What is there already is not told of again.
    let mut room = stream.capacity();
    while room == 0 {
        room = match std::task::ready!(stream.poll_capacity(cx)) {
            Some(Ok(room)) => room,
            ended => return Poll::Ready(ended),
        };
    }
    Poll::Ready(Some(Ok(room.min(want))))
}

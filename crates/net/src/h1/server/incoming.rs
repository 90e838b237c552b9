//! What a connection is while it is served, and the body of the request under way.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use weft_kernel::{Error, Reason, Result, Tick};
use weft_wire::{
    Length, ResponseHead,
    h1::{ChunkedDecoder, Decoded, Framing, encode_response},
};

use super::Settings;
use crate::{body::Frame, clock, h1::link::Link, timer::TaskTimer};

pub(super) enum Incoming {
    /// Read to its end, or there was none.
    Done,
    Length(u64),
    Chunked(ChunkedDecoder),
    /// It broke; what follows cannot be told from it.
    Broken(Reason),
}

/// A connection, shared by its task and the body of the request under way.
pub(crate) struct Shared {
    pub(super) link: Link,
    pub(super) incoming: Incoming,
    /// The client waits for `100 Continue`.
    pub(super) owes_continue: bool,
    /// Somebody has begun to read the body.
    pub(super) touched: bool,
    /// Who waits for the first of the body to be here, and does not read it.
    pub(super) begins: Option<Waker>,
    /// Since when the body has been waited for, and who waits.
    pub(super) waiting: Option<(Tick, Waker)>,
    /// The final response has begun: nothing may be put before it.
    pub(super) responding: bool,
    /// The client can read interim responses.
    pub(super) informable: bool,
    /// Who watches the client once the body has ended.
    pub(super) watcher: Option<Waker>,
}

impl Shared {
    pub(crate) fn send_interim(&mut self, head: &ResponseHead) {
        if self.responding || !self.informable || !(100..200).contains(&head.status) {
            return;
        }
        encode_response(head, Framing::None, None, self.link.queue());
    }

    /// Notes that some of the body, or its end, is here though nobody reads it.
    pub(super) fn begun(&mut self) {
        if let Some(waiter) = self.begins.take() {
            waiter.wake();
        }
    }

    /// Whether all that is left of the body has been read ahead, so far as its framing is good.
    pub(super) fn is_whole(&self) -> bool {
        let mut ahead = &self.link.inbuf[..];
        match &self.incoming {
            Incoming::Done | Incoming::Broken(_) => true,
            Incoming::Length(left) => ahead.len() as u64 >= *left,
            Incoming::Chunked(decoder) => {
                let mut decoder = decoder.clone();
                loop {
                    match decoder.decode(ahead) {
                        Ok(Decoded::Data { skip, len }) => ahead = &ahead[skip + len..],
                        Ok(Decoded::More { .. }) => return false,
                        // Whoever reads it sees what is wrong with it.
                        Ok(Decoded::End { .. }) | Err(_) => return true,
                    }
                }
            }
        }
    }

    /// Notes that nothing more of the body is to be read.
    fn end_body(&mut self, end: Incoming) {
        self.incoming = end;
        if let Some(watcher) = self.watcher.take() {
            watcher.wake();
        }
    }

    fn fail_body(&mut self, reason: Reason) {
        self.end_body(Incoming::Broken(reason));
        if let Some((_, waker)) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Ready once some of the body, or its end, is here; the client is not told to continue.
    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let want = match &self.incoming {
            Incoming::Done | Incoming::Broken(_) => return Poll::Ready(()),
            Incoming::Length(left) => *left,
            Incoming::Chunked(_) => u64::MAX,
        };
        if self.link.inbuf.is_empty() {
            match self.link.poll_read_body(cx, want) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => self.end_body(Incoming::Broken(Reason::CallerGone)),
                Poll::Pending => {
                    // The connection's own task reads too as long as nobody reads the body.
                    self.begins = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }

    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        self.touched = true;
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
                            self.end_body(Incoming::Done);
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
                        self.end_body(Incoming::Done);
                        return Poll::Ready(trailers.map(|fields| Ok(Frame::Trailers(fields))));
                    }
                    Ok(Decoded::More { skip }) => {
                        let _ = self.link.inbuf.split_to(skip);
                        u64::MAX
                    }
                    Err(_) => {
                        self.end_body(Incoming::Broken(Reason::MalformedRequest));
                        continue;
                    }
                },
            };
            match self.link.poll_read_body(cx, want) {
                Poll::Pending => {
                    // Being polled again is no sign of life: the wait began with the last byte.
                    let since = self.waiting.take().map_or_else(clock::now, |(since, _)| since);
                    self.waiting = Some((since, cx.waker().clone()));
                    return Poll::Pending;
                }
                Poll::Ready(Ok(1..)) => self.waiting = None,
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.waiting = None;
                    self.end_body(Incoming::Broken(Reason::CallerGone));
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
    pub(super) shared: Rc<RefCell<Shared>>,
    pub(super) length: Length,
}

impl RequestBody {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        self.shared.borrow_mut().poll_body(cx)
    }

    pub(crate) fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.borrow_mut().poll_begun(cx)
    }

    pub(crate) const fn length(&self) -> Length {
        self.length
    }
}

/// Breaks off a request body that has been silent for too long.
pub(super) fn check_waiting(
    state: &mut Shared,
    settings: &Settings,
    timer: &TaskTimer,
    cx: &mut Context<'_>,
) {
    if let Some((since, _)) = &state.waiting {
        let limit = since.plus(settings.stream_idle_timeout);
        if timer.poll(cx, limit).is_ready() {
            state.fail_body(Reason::BodyTimeout);
        }
    }
}

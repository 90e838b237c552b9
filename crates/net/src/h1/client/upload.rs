//! A request on its way to the service: what is still to be sent of it.

use std::{
    io,
    task::{Context, Poll},
};

use weft_kernel::{Error, Reason, Result};
use weft_wire::h1::Framing;

use super::Link;
use crate::{
    body::{Body, Frame},
    expect::Waits,
};

/// What is still to be sent.
pub(super) struct Upload {
    pub(super) body: Body,
    pub(super) framing: Framing,
    pub(super) left: u64,
    pub(super) state: Sending,
    /// Whether the service is still to say that it wants the body.
    pub(super) waits: Waits,
    /// Whether any of the body was taken.
    pub(super) touched: bool,
}

#[derive(PartialEq, Clone, Copy)]
pub(super) enum Sending {
    Body,
    Flush,
    Done,
}

impl Upload {
    /// Moves the request on; an error is the caller's, one of the service shows when reading.
    pub(super) fn poll(
        &mut self,
        link: &mut Link,
        cx: &mut Context<'_>,
    ) -> Poll<Result<io::Result<()>>> {
        if self.waits.poll(&mut self.body, cx).is_pending() {
            if let Poll::Ready(Err(error)) = link.poll_flush(cx) {
                self.state = Sending::Done;
                return Poll::Ready(Ok(Err(error)));
            }
            return Poll::Pending;
        }
        loop {
            match self.state {
                Sending::Done => return Poll::Ready(Ok(Ok(()))),
                Sending::Flush => {
                    match std::task::ready!(link.poll_flush(cx)) {
                        Ok(()) => self.state = Sending::Done,
                        Err(error) => {
                            self.state = Sending::Done;
                            return Poll::Ready(Ok(Err(error)));
                        }
                    }
                    continue;
                }
                Sending::Body => {}
            }
            if link.is_full() {
                match link.poll_flush(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        self.state = Sending::Done;
                        return Poll::Ready(Ok(Err(error)));
                    }
                    Poll::Pending => {
                        self.body.read_ahead(cx);
                        return Poll::Pending;
                    }
                }
            }
            match self.body.poll_frame(cx) {
                Poll::Ready(Some(Ok(Frame::Data(bytes)))) => {
                    self.touched = true;
                    if self.left < bytes.len() as u64 {
                        return Poll::Ready(Err(Error::new(
                            Reason::MalformedRequest,
                            "the request body is longer than it was said to be",
                        )));
                    }
                    self.left -= bytes.len() as u64;
                    link.queue_data(self.framing, bytes);
                    if self.left == 0 {
                        self.state = Sending::Flush;
                    }
                }
                Poll::Ready(Some(Ok(Frame::Trailers(fields)))) => {
                    if self.framing == Framing::Chunked {
                        let out = link.queue();
                        out.extend_from_slice(b"0\r\n");
                        fields.encode(out);
                        out.extend_from_slice(b"\r\n");
                    }
                    self.state = Sending::Flush;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => {
                    if self.framing == Framing::Chunked {
                        link.queue().extend_from_slice(b"0\r\n\r\n");
                    } else if self.left != 0 && self.framing != Framing::None {
                        return Poll::Ready(Err(Error::new(
                            Reason::MalformedRequest,
                            "the request body is shorter than it was said to be",
                        )));
                    }
                    self.state = Sending::Flush;
                }
                Poll::Pending => {
                    if let Poll::Ready(Err(error)) = link.poll_flush(cx) {
                        self.state = Sending::Done;
                        return Poll::Ready(Ok(Err(error)));
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

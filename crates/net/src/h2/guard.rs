//! Counts the frames of an HTTP/2 client on their way in.
//!
//! The library bounds what it stores for a flood of frames, but goes on answering it. Here frames are
//! counted by kind as they pass: a client that resets streams faster than any use of them explains, or
//! sends control frames without end, is cut off with GOAWAY (`ENHANCE_YOUR_CALM`). Only the nine bytes of
//! a frame's head are looked at.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_kernel::Tick;

use crate::{clock, io::Io, timer::TaskTimer};

const PREFACE_LEN: usize = 24;
const HEAD_LEN: usize = 9;
/// What a window of counting lasts.
const WINDOW: std::time::Duration = std::time::Duration::from_secs(30);
/// A CONTINUATION of so many bytes carries a head on; the last one of a head may have fewer.
const CONTINUATION_MIN: usize = 8 * 1024;
/// How long a connection that is closed is still read from, and how much.
const LINGER: std::time::Duration = std::time::Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;
/// GOAWAY, last stream 2^31-1, ENHANCE_YOUR_CALM (RFC 9113 sections 6.8 and 7).
const GOAWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0xb];

/// A stream that counts frames.
pub(super) struct Guard {
    io: Io,
    early: BytesMut,
    /// What is read, after the preface.
    inward: Walk,
    frames: Frames,
    /// What is written, so that GOAWAY can be put between two frames.
    outward: Walk,
    /// How much of GOAWAY has left.
    goaway: usize,
    /// Until when a connection that is closed is still read from, and how much has been.
    lingers: Option<(Tick, TaskTimer, usize)>,
    tripped: Tripped,
}

/// Whether the client was cut off, and what else the connection's task and its streams tell each other.
#[derive(Clone, Default)]
pub(super) struct Tripped(Rc<Told>);

#[derive(Default)]
struct Told {
    tripped: Cell<bool>,
    /// What was last to be written was not taken.
    blocked: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Tripped {
    /// Whether GOAWAY has left, and the connection is to be dropped.
    pub(super) fn closed(&self, cx: &Context<'_>) -> bool {
        self.0.waker.set(Some(cx.waker().clone()));
        self.0.tripped.get()
    }

    /// Whether the client takes no more bytes for now.
    pub(super) fn is_blocked(&self) -> bool {
        self.0.blocked.get()
    }

    /// Has the connection's task go on.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }

    fn trip(&self) {
        self.0.tripped.set(true);
        self.wake();
    }
}

/// Finds the heads of frames in a stream that comes in pieces.
struct Walk {
    /// Bytes to pass over before the next frame head.
    skip: usize,
    head: [u8; HEAD_LEN],
    have: usize,
}

impl Walk {
    /// A walk that begins after `skip` bytes.
    const fn after(skip: usize) -> Self {
        Self { skip, head: [0; HEAD_LEN], have: 0 }
    }

    /// Walks on over the next piece; stops, and is false, at the first head that `look` does not like.
    /// `look` sees the head and the length of what follows it.
    fn see(
        &mut self,
        mut bytes: &[u8],
        mut look: impl FnMut(&[u8; HEAD_LEN], usize) -> bool,
    ) -> bool {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skip = self.skip.min(bytes.len());
                self.skip -= skip;
                bytes = &bytes[skip..];
                continue;
            }
            let take = (HEAD_LEN - self.have).min(bytes.len());
            self.head[self.have..self.have + take].copy_from_slice(&bytes[..take]);
            self.have += take;
            bytes = &bytes[take..];
            if self.have == HEAD_LEN {
                self.have = 0;
                let [a, b, c, ..] = self.head;
                self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                if !look(&self.head, self.skip) {
                    return false;
                }
            }
        }
        true
    }

    const fn is_between(&self) -> bool {
        self.skip == 0 && self.have == 0
    }
}

/// Counts what a client sends without getting on.
struct Frames {
    began: Tick,
    resets: u32,
    control: u32,
    resets_max: u32,
    /// A head or a piece of a body has passed, either way, since the last control frame: clients that send
    /// one with each of these, as gRPC's do to measure the line, flood nobody.
    moved: bool,
}

impl Frames {
    /// Counts a frame; false once there were too many.
    fn count(&mut self, head: &[u8; HEAD_LEN], len: usize) -> bool {
        if Self::moves(head, len) {
            self.moved = true;
            return true;
        }
        let [_, _, _, kind, flags, ..] = *head;
        let resets = kind == 3;
        let ends_head = flags & 4 != 0;
        // SETTINGS, PING, PRIORITY and small CONTINUATION; DATA and HEADERS that carry nothing.
        let idle = match kind {
            2 | 4 | 6 => !std::mem::take(&mut self.moved),
            9 => len < CONTINUATION_MIN && !ends_head,
            0 | 1 => true,
            _ => false,
        };
        if !resets && !idle {
            return true;
        }
        let now = clock::now();
        if now.since(self.began) > WINDOW {
            self.began = now;
            self.resets = 0;
            self.control = 0;
        }
        self.resets += u32::from(resets);
        self.control += u32::from(idle);
        self.resets <= self.resets_max && self.control <= self.resets_max.saturating_mul(10)
    }

    /// Whether a frame is DATA or HEADERS that carry something, or end something.
    const fn moves(head: &[u8; HEAD_LEN], len: usize) -> bool {
        let [_, _, _, kind, flags, ..] = *head;
        kind <= 1 && (len > 0 || flags & 1 != 0)
    }
}

impl Guard {
    pub(super) fn new(io: Io, early: BytesMut, resets_max: u32) -> (Self, Tripped) {
        let tripped = Tripped::default();
        let frames =
            Frames { began: clock::now(), resets: 0, control: 0, resets_max, moved: false };
        let (inward, outward) = (Walk::after(PREFACE_LEN), Walk::after(0));
        (
            Self {
                io,
                early,
                inward,
                frames,
                outward,
                goaway: 0,
                lingers: None,
                tripped: tripped.clone(),
            },
            tripped,
        )
    }

    /// Looks at bytes that were read; false once there was too much.
    fn look(&mut self, bytes: &[u8]) -> bool {
        let Self { inward, frames, .. } = self;
        inward.see(bytes, |head, len| frames.count(head, len))
    }

    /// Looks at bytes that were written.
    fn look_out(&mut self, bytes: &[u8]) {
        let Self { outward, frames, .. } = self;
        outward.see(bytes, |head, len| {
            frames.moved |= Frames::moves(head, len);
            true
        });
    }

    /// Says GOAWAY, if that can be said between two frames, and gives up.
    fn cut_off(&mut self, cx: &mut Context<'_>) -> io::Error {
        if self.outward.is_between() {
            while self.goaway < GOAWAY.len() {
                match Pin::new(&mut self.io).poll_write(cx, &GOAWAY[self.goaway..]) {
                    Poll::Ready(Ok(written @ 1..)) => self.goaway += written,
                    _ => break,
                }
            }
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
        self.tripped.trip();
        io::Error::new(io::ErrorKind::ConnectionAborted, "too many resets or control frames")
    }
}

impl AsyncRead for Guard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.early.is_empty() {
            std::task::ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        } else {
            let take = this.early.len().min(buf.remaining());
            buf.put_slice(&this.early[..take]);
            this.early.advance(take);
        }
        if !this.look(&buf.filled()[before..]) {
            buf.set_filled(before);
            return Poll::Ready(Err(this.cut_off(cx)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.tripped.0.blocked.set(written.is_pending());
        let written = std::task::ready!(written)?;
        self.look_out(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.tripped.0.blocked.set(written.is_pending());
        let written = std::task::ready!(written)?;
        let mut left = written;
        for buf in bufs {
            let seen = left.min(buf.len());
            self.look_out(&buf[..seen]);
            left -= seen;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Closes the way out and reads on for a moment: what the client has just sent, if nobody read it,
    /// would reset the connection, and could take what it was told last with it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, lingers, .. } = &mut *self;
        let (until, timer, read) = match lingers {
            Some(lingers) => lingers,
            None => {
                std::task::ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
                lingers.insert((clock::now().plus(LINGER), TaskTimer::default(), 0))
            }
        };
        let mut room = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut room);
            match Pin::new(&mut *io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && *read < LINGER_BYTES => {
                    *read += buf.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return timer.poll(cx, *until).map(Ok),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of these frames pass, if each group of them is preceded by so many that move something.
    fn passed(kind: u8, len: usize, moving: usize) -> usize {
        let began = clock::now();
        let mut frames = Frames { began, resets: 0, control: 0, resets_max: 20, moved: false };
        let head = |kind| [0, 0, 0, kind, 0, 0, 0, 0, 1];
        let passes = |frames: &mut Frames| {
            (0..moving).all(|_| frames.count(&head(0), 10)) && frames.count(&head(kind), len)
        };
        (0..1000).take_while(|_| passes(&mut frames)).count()
    }

    #[test]
    fn control_frames_are_a_flood_only_when_nothing_else_moves() {
        for kind in [2, 4, 6] {
            assert_eq!(passed(kind, 8, 0), 200, "kind {kind}");
            assert_eq!(passed(kind, 8, 1), 1000, "kind {kind}");
        }
    }

    #[test]
    fn a_head_that_goes_on_is_no_flood_but_crumbs_of_it_are() {
        assert_eq!(passed(9, 16_000, 1), 1000);
        assert_eq!(passed(9, 1, 1), 200);
        assert_eq!(passed(1, 0, 1), 200);
        assert_eq!(passed(3, 4, 1), 20);
    }
}

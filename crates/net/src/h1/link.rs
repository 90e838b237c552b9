//! A byte stream with what has been read from it and what is to be written.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_wire::h1::{Framing, encode_chunk_head};

use crate::io::Io;

/// Bytes read at once while looking for a head.
const HEAD_READ: usize = 16 * 1024;
/// Bytes read at once within a body.
const BODY_READ: usize = 64 * 1024;
/// A piece of a body up to this size is copied behind what is queued, so that both leave in one call.
const COPY_MAX: usize = 8 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; HEAD_READ].into());
}

pub(super) struct Link {
    pub(super) io: Io,
    /// Read, and not yet used.
    pub(super) inbuf: BytesMut,
    /// To be written, from `written` on.
    out: Vec<u8>,
    written: usize,
    /// To be written after `out`.
    chunk: Bytes,
    /// To be written after `chunk`: the CRLF of a chunk.
    after: &'static [u8],
    /// Bytes written since the connection began.
    pub(super) sent: u64,
    /// Bytes read since the connection began.
    pub(super) received: u64,
}

impl Link {
    pub(super) fn new(io: Io, early: BytesMut) -> Self {
        Self {
            io,
            inbuf: early,
            out: Vec::new(),
            written: 0,
            chunk: Bytes::new(),
            after: b"",
            sent: 0,
            received: 0,
        }
    }

    /// Reads some bytes behind those that are there, and says how many; 0 at the end of the stream.
    /// While `inbuf` is empty, `look` sees the bytes first and says how many it used.
    pub(super) fn poll_read_head<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut look: impl FnMut(&[u8]) -> Option<(usize, T)>,
    ) -> Poll<io::Result<Read<T>>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            let seen = buf.filled();
            self.received += seen.len() as u64;
            if seen.is_empty() {
                return Poll::Ready(Ok(Read::End));
            }
            if !self.inbuf.is_empty() {
                self.inbuf.extend_from_slice(seen);
                return Poll::Ready(Ok(Read::More));
            }
            match look(seen) {
                Some((used, found)) => {
                    self.inbuf.extend_from_slice(&seen[used..]);
                    Poll::Ready(Ok(Read::Found(found)))
                }
                None => {
                    self.inbuf.extend_from_slice(seen);
                    Poll::Ready(Ok(Read::More))
                }
            }
        })
    }

    /// Reads up to `want` bytes of a body behind those that are there; 0 at the end of the stream.
    pub(super) fn poll_read_body(
        &mut self,
        cx: &mut Context<'_>,
        want: u64,
    ) -> Poll<io::Result<usize>> {
        let room = usize::try_from(want).unwrap_or(BODY_READ).clamp(512, BODY_READ);
        if room <= HEAD_READ / 4 {
            return match std::task::ready!(self.poll_read_head::<()>(cx, |_| None))? {
                Read::End => Poll::Ready(Ok(0)),
                _ => Poll::Ready(Ok(self.inbuf.len())),
            };
        }
        self.inbuf.reserve(room);
        let read = {
            let Self { io, inbuf, .. } = self;
            let mut reader = std::pin::pin!(tokio::io::AsyncReadExt::read_buf(io, inbuf));
            std::task::ready!(reader.as_mut().poll(cx))?
        };
        self.received += read as u64;
        Poll::Ready(Ok(read))
    }

    /// Where a head, or anything small, is put to be written.
    pub(super) fn queue(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.chunk.is_empty(), "a chunk is under way");
        if self.out.capacity() == 0 {
            self.out.reserve(1024);
        }
        &mut self.out
    }

    /// Puts a piece of a body to be written. Nothing else may be queued until it has left.
    pub(super) fn queue_data(&mut self, framing: Framing, bytes: Bytes) {
        let chunked = framing == Framing::Chunked;
        let out = self.queue();
        if chunked {
            encode_chunk_head(bytes.len(), out);
        }
        if bytes.len() <= COPY_MAX {
            out.extend_from_slice(&bytes);
            if chunked {
                out.extend_from_slice(b"\r\n");
            }
        } else {
            self.chunk = bytes;
            self.after = if chunked { b"\r\n" } else { b"" };
        }
    }

    /// Whether so much is queued that it should leave before more is added.
    pub(super) fn is_full(&self) -> bool {
        !self.chunk.is_empty() || self.out.len() - self.written >= COPY_MAX
    }

    /// Whether nothing is queued.
    pub(super) fn is_flushed(&self) -> bool {
        self.out.is_empty() && self.chunk.is_empty()
    }

    /// Writes all that is queued.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wrote = false;
        while !self.is_flushed() {
            let head = &self.out[self.written..];
            let written = if self.chunk.is_empty() {
                std::task::ready!(Pin::new(&mut self.io).poll_write(cx, head))?
            } else {
                let slices = [io::IoSlice::new(head), io::IoSlice::new(&self.chunk)];
                let slices = if head.is_empty() { &slices[1..] } else { &slices[..] };
                std::task::ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            wrote = true;
            self.sent += written as u64;
            let of_head = written.min(head.len());
            self.written += of_head;
            let _ = self.chunk.split_to((written - of_head).min(self.chunk.len()));
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
                if self.chunk.is_empty() && !self.after.is_empty() {
                    self.out.extend_from_slice(self.after);
                    self.after = b"";
                }
            }
        }
        if wrote {
            return Pin::new(&mut self.io).poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the buffers back while nothing is under way.
    pub(super) fn rest(&mut self) {
        if self.inbuf.is_empty() {
            self.inbuf = BytesMut::new();
        }
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    /// Reads away what still comes, without keeping it, so that a last response is not lost to a reset.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            Poll::Ready(Ok(buf.filled().len()))
        })
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What reading gave.
pub(super) enum Read<T> {
    /// What was looked for.
    Found(T),
    /// Bytes, behind those that were there.
    More,
    /// The end of the stream.
    End,
}

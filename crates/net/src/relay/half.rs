//! One direction of a relay: what is held on its way, and when it ends.

use std::{
    cell::RefCell,
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Bare, pipe::Pipe};

/// How much is read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// How many spare buffers a thread keeps.
const SPARE_MAX: usize = 16;
/// How much moves before other connections get their turn.
const TURN_BYTES: u64 = 1024 * 1024;
/// A splice that brings less than this was not worth it.
const BULK_BYTES_MIN: usize = 16 * 1024;

#[derive(Default)]
enum Stage {
    #[default]
    Open,
    /// The reader has ended, which the writer has still to be told.
    Ending,
    /// The reader has failed; what it said before is still to be flushed.
    Broken(io::Error),
    /// The writer takes nothing more. What still comes is thrown away: a socket closed on unread bytes
    /// resets, and the reader's peer would lose what the other direction has just brought it.
    Refused,
    Ended,
}

/// What was read and is still to be written.
#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Bytes(Box<[u8]>, Range<usize>),
    Piped(Pipe, usize),
}

/// One direction.
#[derive(Default)]
pub(super) struct Half {
    stage: Stage,
    held: Held,
    /// A whole buffer came at once, so more is likely to wait.
    bulk: bool,
    /// The kernel will not splice between these two.
    unsuited: bool,
    unflushed: bool,
    /// How many bytes were written.
    pub(super) bytes: u64,
    /// What the writer failed with.
    pub(super) refusal: Option<io::Error>,
}

impl Half {
    /// Moves what can be moved; ready once the end was passed on, or with what the reader failed with.
    ///
    /// A writer that fails is no end: its peer may have said something before it left, which the other
    /// direction has still to read.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Bare + Unpin,
        W: AsyncWrite + Bare + Unpin,
    {
        let turn_ends = self.bytes + TURN_BYTES;
        loop {
            if let Err(refusal) = ready!(self.poll_out(cx, writer)) {
                self.refused(refusal);
            }
            match &mut self.stage {
                Stage::Open => {}
                Stage::Refused => return self.poll_discard(cx, reader),
                Stage::Broken(error) => {
                    return Poll::Ready(Err(std::mem::replace(error, io::ErrorKind::Other.into())));
                }
                Stage::Ending | Stage::Ended => return Poll::Ready(Ok(())),
            }
            if self.bytes >= turn_ends {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let read = if self.bulk && !self.unsuited {
                self.poll_splice(cx, reader, writer)
            } else {
                self.poll_read(cx, reader)
            };
            if read.is_pending() && self.unflushed {
                // TLS holds records back; nothing more comes for now, so send them.
                if let Err(refusal) = ready!(self.poll_flush(cx, writer)) {
                    self.refused(refusal);
                    continue;
                }
            }
            if let Err(error) = ready!(read) {
                self.stage = Stage::Broken(error);
            }
        }
    }

    fn refused(&mut self, refusal: io::Error) {
        self.held = Held::Nothing;
        self.stage = if let Stage::Ending = self.stage { Stage::Ended } else { Stage::Refused };
        self.refusal = Some(refusal);
    }

    /// Writes what is held, and tells the writer of an end.
    fn poll_out<W>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Bare + Unpin,
    {
        ready!(self.poll_write(cx, writer))?;
        match self.stage {
            Stage::Ending => {
                match ready!(Pin::new(writer).poll_shutdown(cx)) {
                    // The other end has gone altogether: nobody is left to be told.
                    Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                        return Poll::Ready(Err(error));
                    }
                    _ => self.stage = Stage::Ended,
                }
            }
            Stage::Broken(_) if self.unflushed => ready!(self.poll_flush(cx, writer))?,
            _ => {}
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush<W>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        ready!(Pin::new(writer).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Throws away what comes; ready at its end, whichever.
    fn poll_discard<R>(&mut self, cx: &mut Context<'_>, reader: &mut R) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
    {
        for _ in 0..TURN_BYTES / BUFFER_BYTES as u64 {
            let mut buffer = borrow();
            let mut read = ReadBuf::new(&mut buffer);
            let polled = Pin::new(&mut *reader).poll_read(cx, &mut read);
            let ended = read.filled().is_empty();
            give_back(buffer);
            if ready!(polled).is_err() || ended {
                self.stage = Stage::Ended;
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what is held; ready when nothing is.
    fn poll_write<W>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Bare + Unpin,
    {
        loop {
            let written = match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Bytes(buffer, range) => {
                    let bytes = &buffer[range.clone()];
                    let written = ready!(Pin::new(&mut *writer).poll_write(cx, bytes))?;
                    range.start += written;
                    self.unflushed = true;
                    written
                }
                Held::Piped(pipe, left) => {
                    let Some(socket) = writer.bare() else {
                        return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
                    };
                    let written = ready!(pipe.poll_empty(cx, socket, *left))?;
                    *left = left.saturating_sub(written);
                    written
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.bytes += written as u64;
            match std::mem::take(&mut self.held) {
                Held::Bytes(buffer, range) if range.start >= range.end => give_back(buffer),
                Held::Piped(pipe, 0) => pipe.give_back(),
                unfinished => self.held = unfinished,
            }
        }
    }

    /// Reads into a buffer that is held until it is written, or given back if nothing came.
    fn poll_read<R>(&mut self, cx: &mut Context<'_>, reader: &mut R) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
    {
        let mut buffer = borrow();
        let mut read = ReadBuf::new(&mut buffer);
        let polled = Pin::new(reader).poll_read(cx, &mut read);
        let count = read.filled().len();
        if let Poll::Ready(Ok(())) = polled
            && count > 0
        {
            self.bulk = count == buffer.len();
            self.held = Held::Bytes(buffer, 0..count);
            return Poll::Ready(Ok(()));
        }
        give_back(buffer);
        ready!(polled)?;
        self.stage = Stage::Ending;
        Poll::Ready(Ok(()))
    }

    /// Reads into a pipe, if both ends are bare sockets.
    fn poll_splice<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Bare + Unpin,
        W: Bare,
    {
        let (Some(from), Some(_)) = (reader.bare(), writer.bare()) else {
            // For now: bytes that were read ahead may have to go first.
            self.bulk = false;
            return self.poll_read(cx, reader);
        };
        let Ok(pipe) = Pipe::borrow() else {
            // No descriptor is free: copying needs none.
            self.bulk = false;
            return self.poll_read(cx, reader);
        };
        match pipe.poll_fill(cx, from) {
            Poll::Ready(Ok(0)) => {
                pipe.give_back();
                self.stage = Stage::Ending;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(count)) => {
                self.bulk = count >= BULK_BYTES_MIN;
                self.held = Held::Piped(pipe, count);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                self.unsuited = true;
                self.poll_read(cx, reader)
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                pipe.give_back();
                Poll::Pending
            }
        }
    }
}

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

fn borrow() -> Box<[u8]> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
}

fn give_back(buffer: Box<[u8]>) {
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    });
}

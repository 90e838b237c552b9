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

/// Which stream has failed.
pub(super) enum Failure {
    Reader(io::Error),
    Writer(io::Error),
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    Ending,
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
}

impl Half {
    /// Moves what can be moved; ready once the end was passed on.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead + Bare + Unpin,
        W: AsyncWrite + Bare + Unpin,
    {
        let turn_ends = self.bytes + TURN_BYTES;
        loop {
            ready!(self.poll_write(cx, writer))?;
            match self.stage {
                Stage::Ended => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    match ready!(Pin::new(&mut *writer).poll_shutdown(cx)) {
                        // The other end has gone altogether: nobody is left to be told.
                        Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                            return Poll::Ready(Err(Failure::Writer(error)));
                        }
                        _ => self.stage = Stage::Ended,
                    }
                    continue;
                }
                Stage::Open => {}
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
                ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(Failure::Writer)?;
                self.unflushed = false;
            }
            ready!(read)?;
        }
    }

    /// Writes what is held; ready when nothing is.
    fn poll_write<W>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<Result<(), Failure>>
    where
        W: AsyncWrite + Bare + Unpin,
    {
        loop {
            let written = match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Bytes(buffer, range) => {
                    let bytes = &buffer[range.clone()];
                    let written = ready!(Pin::new(&mut *writer).poll_write(cx, bytes))
                        .map_err(Failure::Writer)?;
                    range.start += written;
                    self.unflushed = true;
                    written
                }
                Held::Piped(pipe, left) => {
                    let Some(socket) = writer.bare() else {
                        return Poll::Ready(Err(Failure::Writer(
                            io::ErrorKind::Unsupported.into(),
                        )));
                    };
                    let written =
                        ready!(pipe.poll_empty(cx, socket, *left)).map_err(Failure::Writer)?;
                    *left = left.saturating_sub(written);
                    written
                }
            };
            if written == 0 {
                return Poll::Ready(Err(Failure::Writer(io::ErrorKind::WriteZero.into())));
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
    fn poll_read<R>(&mut self, cx: &mut Context<'_>, reader: &mut R) -> Poll<Result<(), Failure>>
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
        ready!(polled).map_err(Failure::Reader)?;
        self.stage = Stage::Ending;
        Poll::Ready(Ok(()))
    }

    /// Reads into a pipe, if both ends are bare sockets.
    fn poll_splice<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &W,
    ) -> Poll<Result<(), Failure>>
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
            Poll::Ready(Err(error)) => Poll::Ready(Err(Failure::Reader(error))),
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

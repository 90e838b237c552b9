//! A pipe between two sockets: the kernel moves pages through it without copying them (splice(2)).

use std::{
    cell::RefCell,
    io,
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
};

use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::{io::Interest, net::TcpStream};

/// How much a pipe takes: fewer, larger moves, within what an unprivileged process may have.
const PIPE_BYTES: usize = 256 * 1024;
/// How many spare pipes a thread keeps; each has two descriptors.
const SPARE_MAX: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe; borrowed and given back empty.
#[derive(Debug)]
pub(super) struct Pipe {
    from: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    /// An empty pipe of this thread.
    pub(super) fn borrow() -> io::Result<Self> {
        if let Some(pipe) = SPARE.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (from, into) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // The kernel refuses beyond a user's allowance; the usual 64 KiB does as well.
        let _ = rustix::pipe::fcntl_setpipe_size(&into, PIPE_BYTES);
        Ok(Self { from, into })
    }

    /// Gives an empty pipe back; one with bytes in it is dropped instead.
    pub(super) fn give_back(self) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_MAX {
                spare.push(self);
            }
        });
    }

    /// Moves what has arrived on a socket into this empty pipe; 0 at the end of the stream.
    pub(super) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        socket: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(socket.poll_read_ready(cx))?;
            let moved = socket.try_io(Interest::READABLE, || {
                let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                Ok(rustix::pipe::splice(socket, None, &self.into, None, PIPE_BYTES, flags)?)
            });
            match moved {
                // The pipe is empty, so it is the socket that would block.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return Poll::Ready(other),
            }
        }
    }

    /// Moves up to `left` bytes, all that is in the pipe, on to a socket.
    pub(super) fn poll_empty(
        &self,
        cx: &mut Context<'_>,
        socket: &TcpStream,
        left: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(socket.poll_write_ready(cx))?;
            let moved = socket.try_io(Interest::WRITABLE, || {
                let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                Ok(rustix::pipe::splice(&self.from, None, socket, None, left, flags)?)
            });
            match moved {
                // The pipe has bytes, so it is the socket that would block.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

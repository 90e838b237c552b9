//! Bytes both ways between two streams, until both have ended or neither has moved for too long.
//!
//! For raw TCP listeners, TLS pass-through, and what HTTP has upgraded (WebSocket, CONNECT). An end
//! of one direction is passed on as a half-close and the other direction goes on; so it does, for as long
//! as it moves, when a stream takes nothing more, since its peer may have spoken before it left. Buffers
//! are 64 KiB,
//! because each read costs a system call, and are lent by the thread for as long as bytes are in
//! them: an idle connection holds none. Between two bare TCP sockets, bulk goes from socket to socket
//! by way of a pipe (splice(2)), uncopied: a third of the processor time for each megabyte; what is
//! small is quicker to copy.

mod half;
mod pipe;

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpStream,
};
use weft_kernel::Tick;

use self::half::Half;
use crate::{Io, Rewound, Socket, Stop, clock, h2::Duplex, tasks::Reached, timer::TaskTimer};

/// How long a relay of which one direction has failed waits for the other to move.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A stream that may, at the moment, be nothing but a TCP socket.
pub trait Bare {
    /// The socket, if it is bare: no TLS, and no byte read ahead that is still to come.
    fn bare(&self) -> Option<&TcpStream>;
}

impl Bare for Socket {
    fn bare(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::Unix(_) | Self::Memory(_) => None,
        }
    }
}

impl Bare for Io {
    fn bare(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::Rewound(rewound) => rewound.bare(),
            Self::Unix(_) | Self::Memory(_) | Self::ServerTls(_) | Self::ClientTls(_) => None,
        }
    }
}

impl<T: Bare> Bare for Rewound<T> {
    fn bare(&self) -> Option<&TcpStream> {
        if self.ahead().is_empty() { self.get_ref().bare() } else { None }
    }
}

impl Bare for DuplexStream {
    fn bare(&self) -> Option<&TcpStream> {
        None
    }
}

impl Bare for Duplex {
    fn bare(&self) -> Option<&TcpStream> {
        None
    }
}

/// What was relayed, and why it ended.
#[derive(Debug)]
pub struct Relayed {
    /// Bytes from the caller to the upstream.
    pub up_bytes: u64,
    /// Bytes from the upstream to the caller.
    pub down_bytes: u64,
    /// Why it ended.
    pub end: End,
}

/// Why a relay ended.
#[derive(Debug)]
pub enum End {
    /// Both sides had nothing more to say.
    Closed,
    /// No byte moved for the idle time.
    Idle,
    /// Drain was over.
    Cut,
    /// The caller's stream failed.
    CallerFailed(io::Error),
    /// The upstream's stream failed.
    UpstreamFailed(io::Error),
}

/// Relays until both directions have ended, nothing has moved for `idle`, or `stop` is closed.
///
/// What was counted is lost if the future is dropped; end it by `stop` instead.
pub async fn relay<C, U>(caller: &mut C, upstream: &mut U, idle: Duration, stop: &Stop) -> Relayed
where
    C: AsyncRead + AsyncWrite + Bare + Unpin,
    U: AsyncRead + AsyncWrite + Bare + Unpin,
{
    let mut relay = Relay {
        caller,
        upstream,
        up: Half::default(),
        down: Half::default(),
        idle,
        moved: clock::now(),
        failed: false,
        timer: TaskTimer::default(),
        closed: stop.closed(),
    };
    let end = std::future::poll_fn(|cx| relay.poll(cx)).await;
    Relayed { up_bytes: relay.up.bytes, down_bytes: relay.down.bytes, end }
}

struct Relay<'a, C, U> {
    caller: &'a mut C,
    upstream: &'a mut U,
    up: Half,
    down: Half,
    idle: Duration,
    moved: Tick,
    /// One of the two takes nothing more.
    failed: bool,
    timer: TaskTimer,
    closed: Reached,
}

impl<C, U> Relay<'_, C, U>
where
    C: AsyncRead + AsyncWrite + Bare + Unpin,
    U: AsyncRead + AsyncWrite + Bare + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if Pin::new(&mut self.closed).poll(cx).is_ready() {
            return Poll::Ready(End::Cut);
        }
        let before = self.up.bytes + self.down.bytes;
        let up = match self.up.poll(cx, self.caller, self.upstream) {
            Poll::Ready(Err(error)) => return Poll::Ready(End::CallerFailed(error)),
            other => other.is_ready(),
        };
        let down = match self.down.poll(cx, self.upstream, self.caller) {
            Poll::Ready(Err(error)) => return Poll::Ready(End::UpstreamFailed(error)),
            other => other.is_ready(),
        };
        if up && down {
            return Poll::Ready(self.refusal().unwrap_or(End::Closed));
        }
        if !self.failed && (self.up.refusal.is_some() || self.down.refusal.is_some()) {
            self.failed = true;
            self.idle = self.idle.min(LAST_WORDS);
            self.moved = clock::now();
        }
        if self.up.bytes + self.down.bytes != before {
            self.moved = clock::now();
        }
        std::task::ready!(self.timer.poll(cx, self.moved.plus(self.idle)));
        Poll::Ready(self.refusal().unwrap_or(End::Idle))
    }

    /// What a stream that takes nothing more has failed with.
    fn refusal(&mut self) -> Option<End> {
        let caller = self.down.refusal.take().map(End::CallerFailed);
        caller.or_else(|| self.up.refusal.take().map(End::UpstreamFailed))
    }
}

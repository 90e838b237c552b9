//! Bytes both ways between two streams, until both have ended or neither has moved for too long.
//!
//! For raw TCP listeners, TLS pass-through, and what HTTP has upgraded (WebSocket, CONNECT). An end
//! of one direction is passed on as a half-close and the other direction goes on. Buffers are 64 KiB,
//! because each read costs a system call, and are lent by the thread for as long as bytes are in
//! them: an idle connection holds none.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use crate::{Stop, tasks::Reached};

/// How much is read at once.
pub const BUFFER_BYTES: usize = 64 * 1024;
/// How many spare buffers a thread keeps.
const SPARE_MAX: usize = 16;

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
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut relay = Relay {
        caller,
        upstream,
        up: Half::default(),
        down: Half::default(),
        idle,
        moved: Instant::now(),
        timer: Box::pin(tokio::time::sleep(idle)),
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
    moved: Instant,
    timer: Pin<Box<Sleep>>,
    closed: Reached,
}

impl<C, U> Relay<'_, C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if Pin::new(&mut self.closed).poll(cx).is_ready() {
            return Poll::Ready(End::Cut);
        }
        let before = self.up.bytes + self.down.bytes;
        let up = self.up.poll(cx, self.caller, self.upstream);
        if let Poll::Ready(Err(failure)) = up {
            return Poll::Ready(match failure {
                Failure::Reader(error) => End::CallerFailed(error),
                Failure::Writer(error) => End::UpstreamFailed(error),
            });
        }
        let down = self.down.poll(cx, self.upstream, self.caller);
        if let Poll::Ready(Err(failure)) = down {
            return Poll::Ready(match failure {
                Failure::Reader(error) => End::UpstreamFailed(error),
                Failure::Writer(error) => End::CallerFailed(error),
            });
        }
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(End::Closed);
        }
        if self.up.bytes + self.down.bytes != before {
            self.moved = Instant::now();
        }
        // The timer is only moved when it fires: a busy relay never touches the timer wheel.
        while self.timer.as_mut().poll(cx).is_ready() {
            let until = self.moved + self.idle;
            if until <= Instant::now() {
                return Poll::Ready(End::Idle);
            }
            self.timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}

enum Failure {
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

/// One direction.
#[derive(Default)]
struct Half {
    stage: Stage,
    /// The buffer and which of its bytes are still to be written; only while there are some.
    held: Option<(Box<[u8]>, std::ops::Range<usize>)>,
    unflushed: bool,
    bytes: u64,
}

impl Half {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if let Some((buffer, range)) = &mut self.held {
                let written = ready!(Pin::new(&mut *writer).poll_write(cx, &buffer[range.clone()]))
                    .map_err(Failure::Writer)?;
                if written == 0 {
                    return Poll::Ready(Err(Failure::Writer(io::ErrorKind::WriteZero.into())));
                }
                range.start += written;
                self.bytes += written as u64;
                self.unflushed = true;
                if range.start >= range.end
                    && let Some((buffer, _)) = self.held.take()
                {
                    give_back(buffer);
                }
                continue;
            }
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
            let mut buffer = borrow();
            let mut read = ReadBuf::new(&mut buffer);
            let polled = Pin::new(&mut *reader).poll_read(cx, &mut read);
            let count = read.filled().len();
            match polled {
                Poll::Ready(Ok(())) if count > 0 => self.held = Some((buffer, 0..count)),
                Poll::Ready(Ok(())) => {
                    give_back(buffer);
                    self.stage = Stage::Ending;
                }
                Poll::Ready(Err(error)) => {
                    give_back(buffer);
                    return Poll::Ready(Err(Failure::Reader(error)));
                }
                Poll::Pending => {
                    give_back(buffer);
                    if self.unflushed {
                        // TLS holds records back; nothing more comes for now, so send them.
                        ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(Failure::Writer)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
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

//! The shell around a [`Session`]: reads, writes and waits, and keeps heartbeats.
//!
//! One task a connection. Each turn works off what was read, hands publishes and settlements to the
//! broker together, fetches for consumers, and writes everything that came of it at once. While much
//! waits to be sent, or publishes wait for the disk, nothing is followed and little is read: the client's
//! own socket is what slows it down.
//!
//! A connection ends that was agreed to beat and is silent for twice that time, whether it reads or not;
//! and one that takes nothing of what waits for it for as long as a delivery may go unacknowledged. Its
//! last frame reaches the client: what that still sends is read and dropped for a while, because a socket
//! that is closed on unread bytes takes back what was sent. Who has asked for the end closes the socket: a
//! client that finds it closed before it has followed the answer takes that for a failure.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::io::poll_read_buf;
use weft_kernel::{Result, SystemClock, Tick};
use weft_net::Stop;
use weft_wire::amqp::{ReplyCode, frame};

use crate::{
    arguments::CONSUMER_TIMEOUT,
    fault::Fault,
    server::Inner,
    session::{ClientPeer, Flight, OUT_BYTES_MAX, Phase, Session},
};

/// How much is read at once.
const READ_BYTES: usize = 64 << 10;
/// How long a client may take until its connection is open.
const OPENING_TIME: Duration = Duration::from_secs(10);
/// How long a connection works before others of its worker have their turn, and after how many frames that
/// is looked at: a read may bring thousands of methods that each take their time.
const TURN_TIME: Duration = Duration::from_millis(5);
const TURN_FRAMES: u32 = 32;
/// How long the end of a connection may go unacknowledged.
const CLOSING_TIME: Duration = Duration::from_secs(5);
/// How often it is looked whether deliveries were settled in time.
const OVERDUE_EVERY: Duration = Duration::from_secs(10);
/// How often a queue that could not be read is tried again.
const UNREAD_EVERY: Duration = Duration::from_secs(1);
/// How often publishes that found the disk full are tried again.
const STALLED_EVERY: Duration = Duration::from_millis(250);
/// How long a client may take nothing of what waits for it: as long as a delivery may go unacknowledged.
const UNTAKEN_TIME: Duration = CONSUMER_TIMEOUT;
/// How much is read and not followed while much waits to be sent: enough to hear that a client lives.
const AHEAD_BYTES_MAX: usize = 128 << 10;
/// What buffers keep of their room while a connection rests.
const RESTING_BYTES_MAX: usize = 4 << 10;

/// What a turn begins with.
enum Happened {
    /// Bytes were read, a consumer was woken, a write went through.
    Progress,
    /// The flight at the front is done, or never will be.
    Landed(Result<()>),
    /// A timer.
    Time,
    /// Weft is draining.
    Draining,
    /// The client is gone.
    Gone,
}

/// The flight that is waited for, by the number of its transaction. Whoever lands flights meanwhile
/// leaves this one behind.
struct Waiting {
    seq: u64,
    done: Pin<Box<dyn Future<Output = Result<()>>>>,
}

struct Shell<IO> {
    io: IO,
    session: Session,
    input: BytesMut,
    written: usize,
    /// Whether whole frames may be left in the input.
    unfinished: bool,
    /// What the front of the flights waits for.
    waiting: Option<Waiting>,
    timer: Pin<Box<Sleep>>,
    began: Instant,
    last_read: Instant,
    last_written: Instant,
    last_look: Instant,
    /// Since when the client takes nothing of what waits.
    untaken_since: Option<Instant>,
    closing_since: Option<Instant>,
    ended: bool,
}

/// Speaks with a client until the connection ends.
pub(crate) async fn run(
    server: Arc<Inner>,
    io: impl AsyncRead + AsyncWrite + Unpin,
    peer: ClientPeer,
    stop: Stop,
) {
    let now = Instant::now();
    let mut shell = Shell {
        io,
        session: Session::new(server, peer),
        input: BytesMut::with_capacity(READ_BYTES),
        written: 0,
        unfinished: false,
        waiting: None,
        timer: Box::pin(sleep_until(now + OPENING_TIME)),
        began: now,
        last_read: now,
        last_written: now,
        last_look: now,
        untaken_since: None,
        closing_since: None,
        ended: false,
    };
    shell.talk(stop).await;
    shell.session.release().await;
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Shell<IO> {
    async fn talk(&mut self, stop: Stop) {
        let mut draining = pin!(stop.draining());
        let mut drained = false;
        let mut turn_ends = SystemClock::tick().plus(TURN_TIME);
        loop {
            self.work(turn_ends).await;
            if SystemClock::tick() >= turn_ends {
                tokio::task::yield_now().await;
                turn_ends = SystemClock::tick().plus(TURN_TIME);
            }
            if self.session.phase == Phase::Over {
                // What is left is sent if the client takes it soon.
                let end = Instant::now() + CLOSING_TIME;
                let _ = tokio::time::timeout_at(end, self.finish()).await;
                return;
            }
            self.arm();
            let happened = poll_fn(|context| {
                if !drained && draining.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Happened::Draining);
                }
                self.poll(context)
            })
            .await;
            match happened {
                Happened::Progress => {}
                Happened::Landed(Ok(())) => {
                    if let Some(flight) = self.session.flights.pop_front() {
                        self.session.landed(flight);
                    }
                }
                Happened::Landed(Err(error)) => {
                    self.session.end_connection(&Fault::from(error), (60, 40)).await;
                }
                Happened::Draining => {
                    drained = true;
                    let fault = Fault::new(
                        ReplyCode::ConnectionForced,
                        "broker forced connection closure with reason 'shutdown'",
                    );
                    self.session.end_connection(&fault, (0, 0)).await;
                }
                Happened::Gone => return,
                Happened::Time => {
                    if self.ticked().await {
                        return;
                    }
                }
            }
        }
    }

    /// Works off what was read until a time, and what follows from it.
    async fn work(&mut self, until: Tick) {
        let mut used = 0;
        let mut whole = true;
        let mut frames = 0u32;
        while whole && self.session.phase != Phase::Over && !self.session.is_stalled() {
            frames += 1;
            if frames.is_multiple_of(TURN_FRAMES) && SystemClock::tick() >= until {
                break;
            }
            let bytes = &self.input[used..];
            if self.is_full() {
                // A beat is heard all the same, so that many of them do not add up.
                if !bytes.starts_with(&frame::HEARTBEAT) {
                    break;
                }
                used += frame::HEARTBEAT.len();
                continue;
            }
            if self.session.phase == Phase::Greeting {
                match self.session.greeting(bytes) {
                    Some(taken) => used += taken,
                    None => whole = false,
                }
                continue;
            }
            match frame::parse(bytes, self.session.tuned.frame_bytes_max) {
                Ok(Some((frame, taken))) => {
                    used += taken;
                    let rest = &self.input[used..];
                    used += self.session.frame(frame, rest).await;
                }
                Ok(None) => whole = false,
                Err(error) => {
                    // What follows cannot be told apart any more.
                    used = self.input.len();
                    self.session.end_connection(&Fault::from(error), (0, 0)).await;
                    whole = false;
                }
            }
        }
        self.input.advance(used);
        self.unfinished = whole;
        self.session.flush().await;
        self.session.feed().await;
        if self.session.phase == Phase::Closing && self.closing_since.is_none() {
            self.closing_since = Some(Instant::now());
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Happened> {
        let mut progress = false;
        match self.poll_write(context) {
            Poll::Ready(Err(_error)) => self.deafened(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if let Poll::Ready(done) = self.poll_landed(context) {
            return Poll::Ready(Happened::Landed(done));
        }
        if self.unfinished && self.takes_more() {
            progress = true;
        }
        if self.session.is_hungry() {
            progress = true;
        }
        if self.session.ready.poll(context).is_ready() {
            progress = true;
        }
        while self.session.out.len() < OUT_BYTES_MAX
            && let Poll::Ready(Some(reply)) = self.session.inbox.poll_recv(context)
        {
            self.session.replied(reply);
            progress = true;
        }
        let reads = !self.ended && self.hears();
        if reads {
            match self.poll_read(context) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(_)) => progress = true,
                Poll::Ready(Err(_error)) => return Poll::Ready(Happened::Gone),
                Poll::Pending => {}
            }
        }
        // The client may still read what is on its way, and what it has sent is followed.
        if self.ended && self.session.out.is_empty() && !self.unfinished {
            return Poll::Ready(Happened::Gone);
        }
        if progress {
            return Poll::Ready(Happened::Progress);
        }
        self.timer.as_mut().poll(context).map(|()| Happened::Time)
    }

    /// Whether much waits to be sent.
    fn is_full(&self) -> bool {
        self.session.out.len() - self.written >= OUT_BYTES_MAX
    }

    /// Whether more may be read and followed: not while much waits to be sent or to be stored.
    fn takes_more(&self) -> bool {
        !self.session.is_stalled() && !self.is_full()
    }

    /// Whether more is read, if only to know that the client lives.
    fn hears(&self) -> bool {
        self.takes_more() || !self.session.is_stalled() && self.input.len() < AHEAD_BYTES_MAX
    }

    /// The client takes nothing more. What it has sent is followed all the same.
    fn deafened(&mut self) {
        self.session.deaf = true;
        self.session.out.clear();
        self.written = 0;
        self.closing_since.get_or_insert_with(Instant::now);
    }

    fn poll_landed(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(Flight { receipt, .. }) = self.session.flights.front() else {
            self.waiting = None;
            return Poll::Pending;
        };
        let Some(receipt) = receipt else {
            self.waiting = None;
            return Poll::Ready(Ok(()));
        };
        let seq = receipt.seq;
        let waiting = match self.waiting.take() {
            Some(waiting) if waiting.seq == seq => waiting,
            _ => {
                let (broker, receipt) = (self.session.server.broker.clone(), receipt.clone());
                let done = async move { broker.until_durable(&receipt).await };
                Waiting { seq, done: Box::pin(done) }
            }
        };
        let waiting = self.waiting.insert(waiting);
        let done = ready!(waiting.done.as_mut().poll(context));
        self.waiting = None;
        Poll::Ready(done)
    }

    /// Reads once into the buffer; 0 is the end.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(READ_BYTES);
        let count = ready!(poll_read_buf(Pin::new(&mut self.io), context, &mut self.input))?;
        self.last_read = Instant::now();
        Poll::Ready(Ok(count))
    }

    /// Writes what waits; ready when nothing does.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.session.deaf {
            self.session.out.clear();
        }
        while self.written < self.session.out.len() {
            let rest = &self.session.out[self.written..];
            let Poll::Ready(count) = Pin::new(&mut self.io).poll_write(context, rest)? else {
                self.untaken_since.get_or_insert_with(Instant::now);
                return Poll::Pending;
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.last_written = Instant::now();
            self.untaken_since = None;
            if self.written >= OUT_BYTES_MAX {
                // It would grow for ever under a client that never catches up.
                self.session.out.drain(..self.written);
                self.written = 0;
            }
        }
        self.written = 0;
        self.session.out.clear();
        if self.session.out.capacity() > 2 * OUT_BYTES_MAX {
            // A large message went through; its room is not kept for the next.
            self.session.out.shrink_to(READ_BYTES);
        }
        if self.session.deaf {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_flush(context)
    }

    /// Sends what is left, says that nothing more follows if the end is not the client's own, and drops
    /// what still comes until the client closes as well.
    async fn finish(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_write(context)).await?;
        if !self.session.left {
            poll_fn(|context| Pin::new(&mut self.io).poll_shutdown(context)).await?;
        }
        loop {
            self.input.clear();
            if poll_fn(|context| self.poll_read(context)).await? == 0 {
                return Ok(());
            }
        }
    }

    /// The half of the agreed heartbeat; `None` without one.
    fn beat(&self) -> Option<Duration> {
        match self.session.tuned.heartbeat {
            0 => None,
            seconds => Some(Duration::from_millis(u64::from(seconds) * 500)),
        }
    }

    /// When the client gave its last sign of life. One that sends so much that its beats are stuck behind
    /// it lives as long as it takes something.
    fn heard(&self) -> Instant {
        if self.hears() { self.last_read } else { self.last_read.max(self.last_written) }
    }

    /// Gives back the room of buffers in which nothing is.
    fn rest(&mut self) {
        if self.session.out.is_empty() {
            self.session.out.shrink_to(RESTING_BYTES_MAX);
        }
        if self.input.is_empty() && self.input.capacity() > READ_BYTES {
            self.input = BytesMut::new();
        }
    }

    /// Sets the timer to the next moment at which something may be due.
    fn arm(&mut self) {
        let mut next = self.last_look + OVERDUE_EVERY;
        if !matches!(self.session.phase, Phase::Running | Phase::Closing | Phase::Over) {
            next = next.min(self.began + OPENING_TIME);
        }
        if let Some(since) = self.closing_since {
            next = next.min(since + CLOSING_TIME);
        }
        if let Some(beat) = self.beat() {
            // Nothing needs to be said while something waits to be sent.
            let quiet =
                if self.session.out.is_empty() { self.last_written } else { Instant::now() };
            next = next.min(quiet + beat);
            if !self.session.is_stalled() {
                next = next.min(self.heard() + beat * 4);
            }
        }
        if let Some(since) = self.untaken_since {
            next = next.min(since + UNTAKEN_TIME);
        }
        if self.session.is_stalled() {
            next = next.min(Instant::now() + STALLED_EVERY);
        }
        if self.session.is_unread() {
            next = next.min(Instant::now() + UNREAD_EVERY);
        }
        // A timer that is set for later than it could be costs nothing; one that is moved does.
        if self.timer.deadline() > next || self.timer.is_elapsed() {
            self.timer.as_mut().reset(next);
        }
    }

    /// Does what is due; whether the connection is over.
    async fn ticked(&mut self) -> bool {
        let now = Instant::now();
        let opening = !matches!(self.session.phase, Phase::Running | Phase::Closing | Phase::Over);
        if opening && now >= self.began + OPENING_TIME {
            return true;
        }
        if self.closing_since.is_some_and(|since| now >= since + CLOSING_TIME) {
            return true;
        }
        if self.session.is_stalled() {
            // What is not read cannot be missed.
            self.last_read = now;
        }
        if self.untaken_since.is_some_and(|since| now >= since + UNTAKEN_TIME) {
            tracing::debug!(peer = self.session.peer.address, "nothing is taken, closing");
            return true;
        }
        if let Some(beat) = self.beat() {
            if now >= self.heard() + beat * 4 {
                tracing::debug!(peer = self.session.peer.address, "missed heartbeats, closing");
                return true;
            }
            if now >= self.last_written + beat && self.session.out.is_empty() {
                self.session.out.extend_from_slice(&frame::HEARTBEAT);
            }
        }
        if self.session.is_stalled() {
            self.session.flush_publishes().await;
        }
        self.session.read_again();
        if now >= self.last_look + OVERDUE_EVERY {
            self.last_look = now;
            self.rest();
            if let Some((channel, timeout)) = self.session.overdue(now) {
                self.session.time_out(channel, timeout).await;
            }
        }
        false
    }
}

//! The server side of a client's HTTP/2 connection.

mod stream;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use weft_kernel::{Error, Reason, Result, Tick};
use weft_wire::{ResponseHead, h1::HeadLimits};

use super::{
    cut::{self, Cut},
    fields::{Told, to_header_map},
    guard::{Guard, Tripped},
    keep_alive::KeepAlive,
    screen::{Heads, Limits, Screen, Sender},
};
use crate::{
    age::retires,
    clock,
    io::Io,
    message::{Handler, Peer},
    tasks::Stop,
    timer::TaskTimer,
};

/// How a connection is served.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most concurrent streams.
    pub streams_max: u32,
    /// Most resets, and most frames without progress (SETTINGS, PING, empty DATA …) in ten times that
    /// number, within 30 s.
    pub resets_max: u32,
    /// Largest header section.
    pub header_bytes_max: usize,
    /// Most fields in a header section.
    pub header_count_max: usize,
    /// Longest time without a stream.
    pub idle_timeout: Duration,
    /// Longest silence within a body, or of a client that does not read.
    pub stream_idle_timeout: Duration,
    /// Age after which the connection is ended with GOAWAY.
    pub age_max: Option<Duration>,
}

/// How many bytes of one stream a client may send ahead.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What the window of a connection has beyond those of all its streams, so that streams which nobody reads
/// never hold up another.
const WINDOW_SPARE: u32 = 1024 * 1024;
/// How often the limit of a header section its fields may count in HPACK's way, by which each crumb of a
/// cookie is a field with 32 bytes of its own; by the fields' own bytes the limit is held exactly.
const HEADER_LIST_FACTOR: usize = 4;
/// What a header block in the code of HPACK may have beyond that.
const BLOCK_SPARE: usize = 64 * 1024;
/// How long a client may take to hear of GOAWAY while it has no stream.
const GOAWAY_GRACE: Duration = Duration::from_secs(1);
/// How long a broken response waits for what came of it to leave.
const FLUSH_TIME: Duration = Duration::from_secs(2);
/// What small DATA frames that nobody has read yet may cost beyond their bytes, at 256 a frame; more ends
/// the connection. One stream's window full of the smallest gRPC messages fits: it is held back.
const SMALL_FRAMES_MAX: usize = 16 * 1024 * 1024;
/// How many timers a connection keeps for streams to come, as long as it has any stream.
const TIMERS_MAX: usize = 16;
/// How many bytes of a response wait for the connection.
const SEND_BUFFER_MAX: usize = 128 * 1024;
/// How often a silent connection is asked whether it lives, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// What all streams of a connection share.
struct Shared<H> {
    handler: Rc<H>,
    peer: Rc<Peer>,
    stop: Stop,
    heads: Heads,
    told: Told,
    idle: Duration,
    cut: Cut,
    open: Cell<usize>,
    /// Since when none is open.
    last_end: Cell<Tick>,
    /// Those that streams have left: armed as they are, they serve the next.
    timers: RefCell<Vec<TaskTimer>>,
    tripped: Tripped,
    /// How often all that waited has been written.
    flushes: Cell<u64>,
    flushing: RefCell<Vec<Waker>>,
}

impl<H> Shared<H> {
    /// Ready once what is queued now has been written.
    async fn flushed(&self) {
        let before = self.flushes.get();
        poll_fn(|cx| {
            if self.flushes.get() != before {
                return Poll::Ready(());
            }
            self.flushing.borrow_mut().push(cx.waker().clone());
            self.tripped.wake();
            Poll::Pending
        })
        .await;
    }

    /// Tells those who wait that all has been written.
    fn tell_flushed(&self) {
        let flushing = std::mem::take(&mut *self.flushing.borrow_mut());
        if !flushing.is_empty() {
            self.flushes.set(self.flushes.get() + 1);
            flushing.into_iter().for_each(Waker::wake);
        }
    }
}

/// The window of a connection whose every stream has this one.
pub(super) fn connection_window(stream_window: u32, streams_max: usize) -> u32 {
    const MOST: u32 = (1 << 31) - 1;
    let streams = u32::try_from(streams_max).unwrap_or(u32::MAX);
    stream_window.saturating_mul(streams).saturating_add(WINDOW_SPARE).min(MOST)
}

/// Serves a connection until it ends; an error if the client broke the rules. `early` are bytes that have
/// already been read from it.
pub async fn serve<H: Handler>(
    io: Io,
    early: BytesMut,
    peer: Rc<Peer>,
    settings: &Settings,
    handler: Rc<H>,
    stop: &Stop,
) -> Result<()> {
    let timer = TaskTimer::default();
    let fields =
        HeadLimits { bytes_max: settings.header_bytes_max, count_max: settings.header_count_max };
    let list_max = settings.header_bytes_max.saturating_mul(HEADER_LIST_FACTOR);
    let (io, tripped) = Guard::new(io, early, settings.resets_max);
    let block_max = list_max.saturating_add(BLOCK_SPARE);
    // Those that the library accepts, and as many as the client may have reset before they were.
    let streams_max = settings.streams_max as usize;
    let waiting = (
        streams_max.saturating_add(settings.resets_max as usize),
        streams_max.saturating_mul(settings.header_bytes_max),
    );
    let (io, heads) =
        Screen::new(io, Sender::Client, Limits { fields, list_max, block_max, waiting });
    let mut draining = stop.draining();
    let began = clock::now();
    let mut handshake = pin!(
        h2::server::Builder::new()
            .max_concurrent_streams(settings.streams_max)
            .max_header_list_size(u32::try_from(list_max).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(settings.resets_max.min(1000) as usize)
            .max_concurrent_reset_streams(cut::KEPT.0)
            .reset_stream_duration(cut::KEPT.1)
            .max_local_error_reset_streams(Some(settings.resets_max as usize))
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(connection_window(
                STREAM_WINDOW,
                settings.streams_max as usize,
            ))
            .data_frame_budget(SMALL_FRAMES_MAX)
            .max_send_buffer_size(SEND_BUFFER_MAX)
            .enable_connect_protocol()
            .handshake::<_, Bytes>(io)
    );
    let shaken = poll_fn(|cx| {
        if let Poll::Ready(shaken) = handshake.as_mut().poll(cx) {
            return Poll::Ready(Some(shaken));
        }
        let late = timer.poll(cx, began.plus(settings.idle_timeout)).is_ready();
        if late || tripped.closed(cx) || Pin::new(&mut draining).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await;
    let mut connection = match shaken {
        None => return Ok(()),
        Some(Ok(connection)) => connection,
        Some(Err(error)) => return judge(error),
    };
    let shared = Rc::new(Shared {
        handler,
        peer,
        stop: stop.clone(),
        heads,
        told: Told::default(),
        idle: settings.stream_idle_timeout,
        cut: Cut::default(),
        open: Cell::new(0),
        last_end: Cell::new(clock::now()),
        timers: RefCell::default(),
        tripped: tripped.clone(),
        flushes: Cell::new(0),
        flushing: RefCell::default(),
    });
    let mut keep_alive = KeepAlive::new(connection.ping_pong(), timer.clone(), PING);
    let retires = retires(began, settings.age_max);
    let mut leaving = None;
    poll_fn(|cx| {
        loop {
            let accepted = connection.poll_accept(cx);
            if tripped.closed(cx) {
                let say = "too many resets or control frames by HTTP/2";
                return Poll::Ready(Err(Error::new(Reason::MalformedRequest, say)));
            }
            match accepted {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let head = shared.heads.take(request.body().stream_id().into());
                    // In a box, since a task is moved several times before it runs.
                    tokio::task::spawn_local(Box::pin(stream::serve(
                        head,
                        request.into_body(),
                        respond,
                        Counted::new(shared.clone()),
                    )));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(judge(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        if !tripped.is_blocked() {
            shared.tell_flushed();
        }
        if keep_alive.poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if let Some(since) = leaving {
            // The library waits for the client to acknowledge that it has heard; not every client does.
            let grace = shared.last_end.get().max(since).plus(GOAWAY_GRACE);
            if shared.open.get() == 0 && timer.poll(cx, grace).is_ready() {
                return Poll::Ready(Ok(()));
            }
        } else {
            let silent = if shared.open.get() == 0 {
                shared.last_end.get().plus(settings.idle_timeout)
            } else {
                Tick::NEVER
            };
            let rings = timer.poll(cx, silent.min(retires)).is_ready();
            if rings || shared.cut.is_enough() || Pin::new(&mut draining).poll(cx).is_ready() {
                leaving = Some(clock::now());
                connection.graceful_shutdown();
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    })
    .await
}

/// What ended a connection: the network and the client may, and are no fault; the library does for what
/// breaks the protocol or floods it.
fn judge(error: h2::Error) -> Result<()> {
    if error.is_library() {
        let say = "the client broke the rules of HTTP/2";
        return Err(Error::new(Reason::MalformedRequest, say).because(error));
    }
    Ok(())
}

/// Sends a 1xx head ahead of the response of a stream, if it is not too late for that.
pub(crate) fn send_interim(respond: &mut SendResponse<Bytes>, head: &ResponseHead) {
    let interim = matches!(head.status, 100 | 102..=199);
    if let (true, Ok(status)) = (interim, http::StatusCode::from_u16(head.status)) {
        let mut response = http::Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = to_header_map(&head.fields, None, None);
        // A client that has gone needs no word.
        let _ = respond.send_informational(response);
    }
}

/// Counts a stream for as long as it lives, and lends it a timer.
struct Counted<H> {
    shared: Rc<Shared<H>>,
    timer: TaskTimer,
}

impl<H> Counted<H> {
    fn new(shared: Rc<Shared<H>>) -> Self {
        shared.open.set(shared.open.get() + 1);
        let timer = shared.timers.borrow_mut().pop().unwrap_or_default();
        Self { shared, timer }
    }
}

impl<H> Drop for Counted<H> {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.open.set(shared.open.get() - 1);
        let mut timers = shared.timers.borrow_mut();
        if shared.open.get() > 0 {
            if self.timer.is_alone() && timers.len() < TIMERS_MAX {
                timers.push(self.timer.clone());
            }
            return;
        }
        timers.clear();
        drop(timers);
        shared.last_end.set(clock::now());
        if shared.stop.is_draining() {
            shared.tripped.wake();
        }
    }
}

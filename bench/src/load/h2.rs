//! HTTP/2 and gRPC load: a few connections with many requests in flight on each.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    runtime::Runtime,
    task::{JoinSet, LocalSet},
};

use super::{Asked, Due, LATE, Outcome, Pace, Progress, Schedule};
use crate::{
    certificates::HOST,
    scenario::{Protocol, Scenario},
    stop,
};

/// Room for whatever is asked for, so that the client's windows are never what is measured.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// How often a run looks whether it stalls.
const LOOK: Duration = Duration::from_millis(100);
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// Open HTTP/2 connections.
pub(crate) struct Driver {
    senders: Vec<(Rc<Call>, SendRequest<Full<Bytes>>)>,
    streams: usize,
    local: LocalSet,
    runtime: Runtime,
}

/// What every request on a connection is.
struct Call {
    uri: http::Uri,
    message: Option<Bytes>,
    token: Option<HeaderValue>,
    length: usize,
}

/// What the workers of one run share.
struct Shared {
    schedule: RefCell<Schedule>,
    outcome: RefCell<Outcome>,
    /// Open loop: what is due and not yet taken.
    waiting: RefCell<std::collections::VecDeque<Instant>>,
    wake: tokio::sync::Notify,
    /// Open loop: nothing more will be due.
    over: Cell<bool>,
}

impl Driver {
    pub(super) fn connect(
        scenario: &Scenario,
        asked: Asked<'_>,
        to: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self> {
        let scheme = if scenario.tls { "https" } else { "http" };
        let grpc = scenario.protocol == Protocol::Grpc;
        let call = |connection| {
            let token = asked.token(connection).map(|token| format!("Bearer {token}"));
            anyhow::Ok(Call {
                uri: format!("{scheme}://{HOST}{}", asked.path).parse()?,
                message: grpc.then(|| message(scenario.size)),
                token: token.as_deref().map(HeaderValue::from_str).transpose()?,
                length: if grpc { scenario.size + 5 } else { scenario.size },
            })
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = LocalSet::new();
        let senders = local.block_on(&runtime, async {
            let mut senders = Vec::with_capacity(scenario.connections);
            for connection in 0..scenario.connections {
                senders.push((Rc::new(call(connection)?), open(to, tls.clone()).await?));
            }
            anyhow::Ok(senders)
        })?;
        Ok(Self { senders, streams: scenario.streams, local, runtime })
    }

    pub(super) fn run(&mut self, pace: Pace) -> Result<Outcome> {
        let began = Instant::now();
        let shared = Rc::new(Shared {
            schedule: RefCell::new(Schedule::new(pace, began)),
            outcome: RefCell::default(),
            waiting: RefCell::default(),
            wake: tokio::sync::Notify::new(),
            over: Cell::new(false),
        });
        let Self { senders, streams, local, runtime } = self;
        local.block_on(runtime, async {
            let mut workers = JoinSet::new();
            for _ in 0..*streams {
                for (call, sender) in senders.iter() {
                    let (call, shared, sender) = (call.clone(), shared.clone(), sender.clone());
                    workers.spawn_local(async move { work(&call, &shared, sender).await });
                }
            }
            let open = shared.schedule.borrow().is_open();
            if open {
                pace_out(&shared).await?;
            }
            let mut progress = Progress::new();
            while !workers.is_empty() {
                // Those that wait for nothing more are woken to find that out.
                if open {
                    shared.wake.notify_waiters();
                }
                // Out of time is as good as done: the loop looks again.
                let _ = tokio::time::timeout(LOOK, workers.join_next()).await;
                stop::check()?;
                if progress.has_stalled(&shared.outcome.borrow()) {
                    let mut outcome = shared.outcome.borrow_mut();
                    for _ in 0..workers.len() {
                        outcome.complain(|| format!("no response within {LATE:?}"));
                    }
                    workers.abort_all();
                    break;
                }
            }
            anyhow::Ok(())
        })?;
        let mut outcome = shared.outcome.take();
        outcome.time = began.elapsed();
        if outcome.good == 0 {
            bail!("nothing came back: {}", outcome.complaint.as_deref().unwrap_or("no complaint"));
        }
        Ok(outcome)
    }
}

/// A message in its gRPC frame.
pub(crate) fn message(length: usize) -> Bytes {
    let mut framed = BytesMut::with_capacity(length + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    framed.put_bytes(b'g', length);
    framed.freeze()
}

async fn open(to: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Result<SendRequest<Full<Bytes>>> {
    let socket = TcpStream::connect(to).await.with_context(|| format!("connect {to}"))?;
    socket.set_nodelay(true)?;
    let mut builder = Builder::new(Local);
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(64 * 1024);
    match tls {
        None => {
            let (sender, connection) = builder.handshake(TokioIo::new(socket)).await?;
            tokio::task::spawn_local(connection);
            Ok(sender)
        }
        Some(config) => {
            let name = ServerName::try_from(HOST).context("server name")?;
            let stream = tokio_rustls::TlsConnector::from(config).connect(name, socket).await?;
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
            tokio::task::spawn_local(connection);
            Ok(sender)
        }
    }
}

/// Hands out requests at their instants. A thread of its own keeps the time: the runtime's timers round
/// to a millisecond, and would hand them out in heaps.
async fn pace_out(shared: &Shared) -> Result<()> {
    let (hand_out, mut handed_out) = tokio::sync::mpsc::channel(1_024);
    let mut schedule = shared.schedule.borrow().clone();
    let clock = thread::spawn(move || {
        loop {
            match schedule.next(Instant::now()) {
                // A reader that lags delays the hand-out, never the instant that latency is counted from.
                Due::Now(due) if hand_out.blocking_send(due).is_ok() => {}
                Due::At(when) => thread::sleep(when.saturating_duration_since(Instant::now())),
                Due::Now(_) | Due::Never => return,
            }
        }
    });
    while let Some(due) = handed_out.recv().await {
        shared.waiting.borrow_mut().push_back(due);
        shared.wake.notify_one();
        stop::check()?;
    }
    if clock.join().is_err() {
        bail!("the clock panicked");
    }
    shared.over.set(true);
    Ok(())
}

/// One request after another, as they are due.
async fn work(call: &Call, shared: &Shared, mut sender: SendRequest<Full<Bytes>>) {
    let open = shared.schedule.borrow().is_open();
    loop {
        let due = if open {
            let woken = shared.wake.notified();
            let next = shared.waiting.borrow_mut().pop_front();
            let Some(due) = next else {
                if shared.over.get() {
                    return;
                }
                woken.await;
                continue;
            };
            due
        } else {
            let due = shared.schedule.borrow_mut().next(Instant::now());
            let Due::Now(due) = due else { return };
            due
        };
        match once(call, &mut sender).await {
            Ok(()) => {
                let mut outcome = shared.outcome.borrow_mut();
                outcome.good += 1;
                if open {
                    outcome.latencies.push(due.elapsed());
                }
            }
            Err(error) => {
                shared.outcome.borrow_mut().complain(|| format!("{error:#}"));
                // A connection that is gone fails all that follows: one complaint is enough.
                if sender.is_closed() {
                    return;
                }
            }
        }
    }
}

async fn once(call: &Call, sender: &mut SendRequest<Full<Bytes>>) -> Result<()> {
    poll_fn(|context| sender.poll_ready(context)).await?;
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = call.uri.clone();
    request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("weft-bench"));
    if let Some(token) = &call.token {
        request.headers_mut().insert(header::AUTHORIZATION, token.clone());
    }
    if let Some(message) = &call.message {
        *request.method_mut() = Method::POST;
        let fields = request.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
        *request.body_mut() = Full::new(message.clone());
    }
    let response = sender.send_request(request).await?;
    if response.status() != http::StatusCode::OK {
        bail!("status {}", response.status());
    }
    // A call that fails at once has its status in the head.
    let mut ended = ended_well(response.headers());
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        if let Some(data) = frame.data_ref() {
            length += data.len();
        } else if let Some(trailers) = frame.trailers_ref() {
            ended = ended_well(trailers);
        }
    }
    if call.message.is_some() && !ended {
        bail!("a call without grpc-status 0");
    }
    if length != call.length {
        bail!("{length} bytes instead of {}", call.length);
    }
    Ok(())
}

fn ended_well(fields: &HeaderMap) -> bool {
    fields.get("grpc-status").is_some_and(|status| status.as_bytes() == b"0")
}

/// Runs hyper's tasks where they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

//! One try: an endpoint, a connection, a request, the head of a response.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use weft_discovery::{Endpoint, InFlight, Outcome};
use weft_kernel::{Deadline, Error, Reason, Retry, Tick};
use weft_net::{
    body::Body,
    clock,
    h1::client::{Settings, Then, send},
    message::InterimSender,
    pool::{Home, Lent, Wanted},
    timer::TaskTimer,
};
use weft_resilience::retry::{self, Failure, Kind};
use weft_telemetry::metrics::{Count, Method as MethodClass, Sample};
use weft_wire::{Known, Method, RequestHead, ResponseHead, proxy_protocol::Ends};

use crate::{
    body::grpc_status,
    exchange::{Exchange, is_fault},
    local::Local,
    upload::{Limit, LimitOf, Pace, Place, Stage, Times},
    upstream::Upstream,
};

/// What a try needs to know.
pub(crate) struct Try<'a> {
    pub(crate) local: &'a Local,
    pub(crate) upstream: &'a Arc<Upstream>,
    pub(crate) timer: &'a TaskTimer,
    pub(crate) interim_sender: &'a InterimSender,
    pub(crate) wanted: Wanted,
    pub(crate) is_grpc: bool,
    pub(crate) idempotent: bool,
    /// When the connection must be there.
    pub(crate) connect: Duration,
    /// When the head of the response must be there.
    pub(crate) times: &'a Times,
    /// Both ends of the client's connection, for a PROXY protocol header.
    pub(crate) ends: Option<Ends>,
}

/// A response, its head read.
pub(crate) struct Success {
    /// When that was.
    pub(crate) at: Tick,
    pub(crate) head: ResponseHead,
    pub(crate) then: Then,
    pub(crate) in_flight: InFlight,
    pub(crate) endpoint: Arc<Endpoint>,
    /// What it says about its endpoint.
    pub(crate) outcome: Outcome,
    /// Why another try may do better, if it may.
    pub(crate) failure: Option<Failure>,
}

/// How long a place among the connections is waited for at most.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How much earlier than the request the wait for a place ends.
const WAIT_MARGIN: Duration = Duration::from_millis(100);

/// No response.
pub(crate) struct Miss {
    pub(crate) error: Error,
    pub(crate) failure: Failure,
    /// Whether it is the client's doing, whatever the reason is called.
    pub(crate) blameless: bool,
    /// Whether it says something of the service and its endpoint; what waited in Weft's own queues does not.
    pub(crate) tells: bool,
    /// The request body, if none of it has been used.
    pub(crate) body: Option<Body>,
}

impl Success {
    /// Gives up an answer that nobody wants; its endpoint has answered all the same.
    pub(crate) fn discard(self, local: &Local, upstream: &Upstream, now: Tick) {
        Exchange::settle(local, upstream, self.in_flight, self.outcome, now);
    }
}

impl Try<'_> {
    /// Sends a request to an endpoint, now that it begins, and waits for the head of its response.
    pub(crate) async fn run(
        &self,
        endpoint: Arc<Endpoint>,
        head: &RequestHead,
        body: Body,
        began: Tick,
    ) -> Result<Success, Miss> {
        let in_flight = endpoint.clone().begin(began);
        // A try that is given up must still be counted by its endpoint: as slow, not as forgotten.
        let place = Place::default();
        let mut mark = Mark {
            try_: self,
            in_flight: Some(in_flight),
            place: &place,
            began,
            done: Cell::new(false),
        };
        let result = {
            let mut sent = pin!(self.exchange(&endpoint, head, body, &place, began));
            let mut pace = Pace::new(began);
            poll_fn(|cx| {
                if let Poll::Ready(result) = sent.as_mut().poll(cx) {
                    return Poll::Ready(result);
                }
                let limit = self.times.limit(began, &mut pace);
                std::task::ready!(self.timer.poll(cx, limit.at));
                Poll::Ready(Err(self.too_late(limit, &place)))
            })
            .await
        };
        mark.done.set(true);
        let now = clock::now();
        match result {
            Ok((answer, then)) => {
                let mut in_flight = match mark.in_flight.take() {
                    Some(in_flight) => in_flight,
                    None => endpoint.clone().begin(began),
                };
                in_flight.handed(self.times.upload.handed(place.left(began)));
                in_flight.responded(now);
                let grpc = if self.is_grpc { grpc_status(&answer.fields) } else { None };
                self.sample(&head.method, answer.status, grpc, None, now.since(began));
                let (outcome, failure) = judge(&answer, self.is_grpc, self.times.asked);
                Ok(Success { at: now, head: answer, then, in_flight, endpoint, outcome, failure })
            }
            Err(mut miss) => {
                if miss.failure.kind == Kind::ResetBeforeHeaders && self.times.upload.is_stalled() {
                    let say = "the service gave up waiting for more of the request body";
                    miss.error = Error::new(Reason::BodyTimeout, say).because(miss.error);
                    miss.failure = miss.failure.with_effect(miss.error.retryable());
                }
                let at_fault = miss.tells
                    && miss.error.side() == weft_kernel::Side::Upstream
                    && !miss.blameless;
                if let Some(in_flight) = mark.in_flight.take().filter(|_| at_fault) {
                    let outcome = match miss.failure.kind {
                        Kind::Connect => Outcome::UNREACHABLE,
                        _ => Outcome::FAILED,
                    };
                    Exchange::settle(self.local, self.upstream, in_flight, outcome, now);
                }
                if miss.failure.kind == Kind::Connect && miss.tells {
                    self.upstream.meter.count(self.local.index, Count::ConnectFailure);
                }
                let reason = Some(miss.error.reason());
                self.sample(&head.method, 0, None, reason, now.since(began));
                Err(Miss {
                    error: miss
                        .error
                        .at(format!("endpoint {}", endpoint.label()))
                        .at(format!("service {}", self.upstream.name)),
                    ..miss
                })
            }
        }
    }

    /// Counts the try. Its bytes are counted when they have passed.
    fn sample(
        &self,
        method: &Method,
        status: u16,
        grpc: Option<u8>,
        reason: Option<Reason>,
        duration: Duration,
    ) {
        let method = MethodClass::of(method.as_str().as_bytes());
        let sample = Sample { method, status, grpc, reason, duration, ..Sample::default() };
        self.upstream.meter.record(self.local.index, &sample);
    }

    fn too_late(&self, limit: Limit, place: &Place) -> Miss {
        let millis = u64::try_from(limit.at.since(limit.from).as_millis()).unwrap_or(u64::MAX);
        let waited = weft_kernel::format_duration(Duration::from_millis(millis));
        let is_whole = self.times.upload.stage() == Stage::Whole;
        let tells = self.times.is_telling(limit, place);
        let (reason, say) = match limit.of {
            LimitOf::Caller => (
                Reason::RequestTimeout,
                format!("no response within the deadline of the caller, {waited}"),
            ),
            LimitOf::Request if is_whole => {
                (Reason::RequestTimeout, format!("no response within the deadline, after {waited}"))
            }
            LimitOf::Try if is_whole => {
                (Reason::TryTimeout, format!("no response within {waited}"))
            }
            LimitOf::Request => {
                (Reason::RequestTimeout, format!("no more of the request was taken for {waited}"))
            }
            LimitOf::Try => {
                (Reason::TryTimeout, format!("no more of the request was taken for {waited}"))
            }
        };
        let failure = Failure::new(Kind::TryTimeout);
        let blameless = limit.of == LimitOf::Caller;
        let mut error = Error::new(reason, say);
        if !tells && !blameless {
            error = error.note("most of that passed in Weft's own queue");
        }
        Miss { error, failure, blameless, tells, body: None }
    }

    /// A connection and an exchange over it; once more over a fresh connection if a kept one turns out
    /// to have been closed before any byte of a response.
    async fn exchange(
        &self,
        endpoint: &Arc<Endpoint>,
        head: &RequestHead,
        mut body: Body,
        place: &Place,
        mut now: Tick,
    ) -> Result<(ResponseHead, Then), Miss> {
        let mut fresh = self.upstream.tells_client();
        let mut effect = Retry::Safe;
        loop {
            let lent = self.lend(endpoint, fresh, place, now).await;
            let lent = match lent {
                Ok(lent) => lent,
                Err(error) => {
                    let failure = Failure::new(Kind::Connect).with_effect(effect);
                    let tells = error.side() != weft_kernel::Side::Weft;
                    return Err(Miss { error, failure, blameless: false, tells, body: Some(body) });
                }
            };
            let count = if lent.is_reused() { Count::PoolReused } else { Count::PoolOpened };
            self.upstream.meter.count(self.local.index, count);
            match lent {
                Lent::H1 { connection, home } => {
                    let home = if self.upstream.tells_client() { Home::nowhere() } else { home };
                    let settings = Settings { head: self.upstream.pool.head };
                    match send(connection, head, body, settings, self.interim_sender, home).await {
                        Ok(answer) => return Ok((answer.head, answer.then)),
                        Err(failed) => match failed.body {
                            Some(unused) if failed.stale && self.idempotent && !fresh => {
                                fresh = true;
                                // It may have been closed behind the request.
                                effect = Retry::Idempotent;
                                now = clock::now();
                                body = unused;
                            }
                            unused => return Err(miss(failed.error, unused)),
                        },
                    }
                }
                Lent::H2 { mut connection, stream } => {
                    return match connection.send(head, body, self.interim_sender, stream).await {
                        Ok((head, body)) => Ok((head, Then::Body(body))),
                        Err(failed) => Err(miss(failed.error, None)),
                    };
                }
            }
        }
    }

    /// Until when a place among the connections may be waited for: nearly as long as the request may, so
    /// that it is told of the wait and the service is not.
    fn patience(&self, now: Tick) -> Tick {
        let spans = [self.times.request, self.times.per_try, Some(WAIT_MAX)];
        let span = spans.into_iter().flatten().min().unwrap_or(WAIT_MAX);
        let until = self.times.deadline(now).tick().min(now.plus(span));
        let left = until.since(now);
        now.plus(left - (left / 10).min(WAIT_MARGIN))
    }

    async fn lend(
        &self,
        endpoint: &Arc<Endpoint>,
        fresh: bool,
        place: &Place,
        now: Tick,
    ) -> Result<Lent, Error> {
        let pool = &self.local.pool;
        let upstream = self.upstream;
        if !fresh && let Some(lent) = pool.at_hand(endpoint, self.wanted, &upstream.pool, now) {
            return Ok(lent);
        }
        let times = (self.connect, self.patience(now));
        let queued = &self.times.queued;
        place.begin(now);
        // In a box: it is rare, and large.
        let lent = Box::pin(pool.lend(endpoint, self.wanted, &upstream.pool, times, fresh, || {
            // To connect is the endpoint's part.
            place.end(queued, clock::now());
            upstream.target(endpoint, self.wanted, self.ends)
        }))
        .await;
        place.end(queued, clock::now());
        lent
    }
}

fn miss(error: Error, body: Option<Body>) -> Miss {
    let kind = match error.reason() {
        Reason::UpstreamRefused => Kind::RefusedStream,
        _ => Kind::ResetBeforeHeaders,
    };
    let failure = Failure::new(kind).with_effect(error.retryable());
    Miss { error, failure, blameless: false, tells: true, body }
}

/// Settles a try whose future was dropped: the client went away, or another try won.
struct Mark<'a> {
    try_: &'a Try<'a>,
    in_flight: Option<InFlight>,
    place: &'a Place,
    began: Tick,
    done: Cell<bool>,
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        if self.done.get() {
            return;
        }
        let Some(mut in_flight) = self.in_flight.take() else { return };
        let upload = &self.try_.times.upload;
        if upload.stage() != Stage::Whole {
            return;
        }
        // The endpoint knows nothing of a try that had no connection yet.
        if self.place.is_waiting() {
            return;
        }
        let now = clock::now();
        let handed = upload.handed(self.place.left(self.began));
        // That it took longer than the caller waited is no verdict, but it is a latency.
        in_flight.handed(handed);
        in_flight.responded(now);
        if now.since(handed) > Duration::from_secs(1) {
            let outcome = Outcome { counts_for_ejection: false, ..Outcome::OK };
            Exchange::settle(self.try_.local, self.try_.upstream, in_flight, outcome, now);
        }
    }
}

/// What a response says about its endpoint, and whether it calls for another try.
fn judge(head: &ResponseHead, is_grpc: bool, asked: Deadline) -> (Outcome, Option<Failure>) {
    if is_grpc && head.status == 200 {
        let Some(status) = grpc_status(&head.fields) else { return (Outcome::OK, None) };
        let outcome = match status {
            8 => Outcome::limited(None),
            _ if is_fault(status, asked) => Outcome::FAILED,
            4 => Outcome::OK,
            _ => return (Outcome::OK, None),
        };
        let hint = head.fields.get_str(Known::GrpcRetryPushback).map(retry::pushback);
        return (outcome, Some(Failure::new(Kind::Grpc(status)).with_hint(hint)));
    }
    let status = head.status;
    if status != 425 && status != 429 && status < 500 {
        return (Outcome::OK, None);
    }
    let hint = head
        .fields
        .get_str(Known::RetryAfter)
        .and_then(|text| retry::retry_after(text, clock::wall()));
    let after = match hint {
        Some(retry::Hint::After(span)) => Some(span),
        _ => None,
    };
    let outcome = match status {
        429 => Outcome::limited(after),
        503 => Outcome::unavailable(after),
        // Not implemented, and a version not spoken, are answers, not faults.
        425 | 501 | 505 => Outcome::OK,
        _ => Outcome::FAILED,
    };
    (outcome, Some(Failure::new(Kind::Status(status)).with_hint(hint)))
}

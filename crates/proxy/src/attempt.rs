//! One try: an endpoint, a connection, a request, the head of a response.

use std::{cell::Cell, pin::pin, sync::Arc, time::Duration};

use weft_discovery::{Endpoint, InFlight, Outcome};
use weft_kernel::{Error, Reason, Retry, SystemClock, Tick};
use weft_net::{
    alarm::Alarm,
    body::Body,
    h1::client::{Settings, Then, send},
    message::Inform,
    pool::{Home, Lent, Wanted},
};
use weft_resilience::retry::{self, Failure, Kind};
use weft_telemetry::metrics::{Count, Method as MethodClass, Sample};
use weft_wire::{Known, Method, RequestHead, ResponseHead, proxy_protocol::Ends};

use crate::{body::grpc_status, exchange::Exchange, local::Local, upstream::Upstream};

/// What a try needs to know.
pub(crate) struct Try<'a> {
    pub(crate) local: &'a Local,
    pub(crate) upstream: &'a Arc<Upstream>,
    pub(crate) alarm: &'a Alarm,
    pub(crate) inform: &'a Inform,
    pub(crate) wanted: Wanted,
    pub(crate) is_grpc: bool,
    pub(crate) idempotent: bool,
    /// When the connection must be there.
    pub(crate) connect: Duration,
    /// When the head of the response must be there.
    pub(crate) until: Tick,
    /// Whether `until` is the deadline of the whole request, not of this try.
    pub(crate) is_last_moment: bool,
    /// Both ends of the client's connection, for a PROXY protocol header.
    pub(crate) ends: Option<Ends>,
}

/// A response, its head read.
pub(crate) struct Success {
    pub(crate) head: ResponseHead,
    pub(crate) then: Then,
    pub(crate) in_flight: InFlight,
    pub(crate) endpoint: Arc<Endpoint>,
    /// What it says about its endpoint.
    pub(crate) outcome: Outcome,
    /// Why another try may do better, if it may.
    pub(crate) failure: Option<Failure>,
}

/// No response.
pub(crate) struct Miss {
    pub(crate) error: Error,
    pub(crate) failure: Failure,
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
    /// Sends a request to an endpoint and waits for the head of its response.
    pub(crate) async fn run(
        &self,
        endpoint: Arc<Endpoint>,
        head: &RequestHead,
        body: Body,
    ) -> Result<Success, Miss> {
        let began = SystemClock::tick();
        let in_flight = endpoint.clone().begin(began);
        // A try that is given up must still be counted by its endpoint: as slow, not as forgotten.
        let mut mark =
            Mark { try_: self, in_flight: Some(in_flight), began, done: Cell::new(false) };
        let result = {
            let sent = pin!(self.exchange(&endpoint, head, body));
            match self.alarm.within(self.until, sent).await {
                Ok(result) => result,
                Err(_) => Err(self.too_late(began)),
            }
        };
        mark.done.set(true);
        let now = SystemClock::tick();
        match result {
            Ok((answer, then)) => {
                let mut in_flight = match mark.in_flight.take() {
                    Some(in_flight) => in_flight,
                    None => endpoint.clone().begin(began),
                };
                in_flight.responded(now);
                let grpc = if self.is_grpc { grpc_status(&answer.fields) } else { None };
                self.sample(&head.method, answer.status, grpc, None, now.since(began));
                let (outcome, failure) = judge(&answer, self.is_grpc);
                Ok(Success { head: answer, then, in_flight, endpoint, outcome, failure })
            }
            Err(miss) => {
                let at_fault = miss.error.side() == weft_kernel::Side::Upstream;
                if let Some(in_flight) = mark.in_flight.take().filter(|_| at_fault) {
                    Exchange::settle(self.local, self.upstream, in_flight, Outcome::FAILED, now);
                }
                if miss.failure.kind == Kind::Connect {
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

    fn too_late(&self, began: Tick) -> Miss {
        let waited = weft_kernel::format_duration(Duration::from_millis(
            u64::try_from(self.until.since(began).as_millis()).unwrap_or(u64::MAX),
        ));
        let (reason, say) = if self.is_last_moment {
            (Reason::RequestTimeout, format!("no response within the deadline, after {waited}"))
        } else {
            (Reason::TryTimeout, format!("no response within {waited}"))
        };
        let failure = Failure::new(Kind::TryTimeout);
        Miss { error: Error::new(reason, say), failure, body: None }
    }

    /// A connection and an exchange over it; once more over a fresh connection if a kept one turns out
    /// to have been closed before any byte of a response.
    async fn exchange(
        &self,
        endpoint: &Arc<Endpoint>,
        head: &RequestHead,
        mut body: Body,
    ) -> Result<(ResponseHead, Then), Miss> {
        let mut fresh = self.upstream.tells_client();
        loop {
            let lent = self.lend(endpoint, fresh).await;
            let lent = match lent {
                Ok(lent) => lent,
                Err(error) => {
                    let failure = Failure::new(Kind::Connect).with_effect(Retry::Safe);
                    return Err(Miss { error, failure, body: Some(body) });
                }
            };
            let count = if lent.is_reused() { Count::PoolReused } else { Count::PoolOpened };
            self.upstream.meter.count(self.local.index, count);
            match lent {
                Lent::H1 { connection, home } => {
                    let home = if self.upstream.tells_client() { Home::nowhere() } else { home };
                    let settings = Settings { head: self.upstream.pool.head };
                    match send(connection, head, body, settings, self.inform, home).await {
                        Ok(answer) => return Ok((answer.head, answer.then)),
                        Err(failed) => match failed.body {
                            Some(unused) if failed.stale && self.idempotent && !fresh => {
                                fresh = true;
                                body = unused;
                            }
                            unused => return Err(miss(failed.error, unused)),
                        },
                    }
                }
                Lent::H2 { mut connection, stream } => {
                    return match connection.send(head, body, self.inform, stream).await {
                        Ok((head, body)) => Ok((head, Then::Body(body))),
                        Err(failed) => Err(miss(failed.error, None)),
                    };
                }
            }
        }
    }

    async fn lend(&self, endpoint: &Arc<Endpoint>, fresh: bool) -> Result<Lent, Error> {
        let pool = &self.local.pool;
        let upstream = self.upstream;
        pool.lend(endpoint, self.wanted, &upstream.pool, self.connect, fresh, || {
            upstream.target(endpoint, self.wanted, self.ends)
        })
        .await
    }
}

fn miss(error: Error, body: Option<Body>) -> Miss {
    let kind = match error.reason() {
        Reason::UpstreamRefused => Kind::RefusedStream,
        _ => Kind::ResetBeforeHeaders,
    };
    let failure = Failure::new(kind).with_effect(error.retryable());
    Miss { error, failure, body }
}

/// Settles a try whose future was dropped: the client went away, or another try won.
struct Mark<'a> {
    try_: &'a Try<'a>,
    in_flight: Option<InFlight>,
    began: Tick,
    done: Cell<bool>,
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        if self.done.get() {
            return;
        }
        let Some(mut in_flight) = self.in_flight.take() else { return };
        let now = SystemClock::tick();
        // That it took longer than the caller waited is no verdict, but it is a latency.
        in_flight.responded(now);
        if now.since(self.began) > Duration::from_secs(1) {
            let outcome = Outcome { counts_for_ejection: false, ..Outcome::OK };
            Exchange::settle(self.try_.local, self.try_.upstream, in_flight, outcome, now);
        }
    }
}

/// What a response says about its endpoint, and whether it calls for another try.
fn judge(head: &ResponseHead, is_grpc: bool) -> (Outcome, Option<Failure>) {
    let wall = std::time::SystemTime::now;
    if is_grpc && head.status == 200 {
        let Some(status) = grpc_status(&head.fields) else { return (Outcome::OK, None) };
        let outcome = match status {
            8 => Outcome::limited(None),
            2 | 4 | 13..=15 => Outcome::FAILED,
            _ => return (Outcome::OK, None),
        };
        let hint = head.fields.get_str(Known::GrpcRetryPushback).map(retry::pushback);
        return (outcome, Some(Failure::new(Kind::Grpc(status)).with_hint(hint)));
    }
    let status = head.status;
    if status != 425 && status != 429 && status < 500 {
        return (Outcome::OK, None);
    }
    let hint =
        head.fields.get_str(Known::RetryAfter).and_then(|text| retry::retry_after(text, wall()));
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

//! A request on its way to a service: admitted, tried, tried again, answered.
//!
//! The order is fixed: load shedding and bulkheads, breaker, deadline, retries and hedging around each
//! try, balancing and connecting within it. One deadline spans everything, and what is left of it is
//! passed on.

use std::{future::poll_fn, pin::pin, rc::Rc, sync::Arc, task::Poll, time::Duration};

use weft_discovery::{Endpoint, Outcome, Pick};
use weft_kernel::{Deadline, Error, Reason, Result, Retry, SystemClock, Tick};
use weft_net::{
    alarm::Alarm,
    body::Body,
    h1::client::Then,
    message::{Inform, Tunnel},
};
use weft_resilience::{
    adaptive, breaker, bulkhead,
    retry::{Decision, StopReason},
};
use weft_telemetry::metrics::Count;
use weft_wire::{Known, RequestHead, proxy_protocol::Ends};

use crate::{
    answer::{self, Answer},
    attempt::{Miss, Success, Try, judge},
    body::{Replay, Watched},
    exchange::Exchange,
    plan::{self, HostRewrite},
    prepare,
    route::Route,
    upstream::Upstream,
};

/// A request that goes to a service.
pub(crate) struct Forward<'a> {
    pub(crate) route: &'a Arc<Route>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) alarm: &'a Alarm,
    pub(crate) inform: &'a Inform,
    pub(crate) hash: Option<u64>,
}

impl Forward<'_> {
    /// Admits the request, sends it, and gives its answer.
    pub(crate) async fn run(&self, exchange: &mut Exchange, body: Body) -> Result<Answer> {
        exchange.upstream = Some(self.upstream.clone());
        let timeout = &self.route.policy.timeout;
        let deadline = prepare::deadline(exchange, timeout.request);
        let permit = self.admit(exchange, deadline).await?;
        let began = SystemClock::tick();
        let result = self.tries(exchange, body, deadline).await;
        let now = SystemClock::tick();
        if let (Some(permit), Some(outcome)) = (permit, verdict(&result)) {
            permit.finish(outcome, now.since(began), now);
        }
        let Success { mut head, then, in_flight, endpoint } = result?;
        exchange.answered = Some(now);
        exchange.endpoint = Some(endpoint);
        exchange.in_flight = Some(in_flight);
        exchange.outcome = judge(&head, exchange.grpc.is_some()).0;
        answer::hand_back(exchange, &mut head);
        Ok(match then {
            Then::Tunnel(io, early) => {
                // The fields of the handshake were the connection's, and are the client's now.
                let protocol = exchange.head.upgrade.clone().unwrap_or_default();
                head.fields.add(Known::Connection, b"upgrade");
                head.fields.add(Known::Upgrade, protocol.as_bytes());
                let tunnel = Tunnel { io, early, idle_timeout: timeout.idle };
                Answer { head, body: Body::Empty, tunnel: Some(Box::new(tunnel)) }
            }
            Then::Body(body) if exchange.grpc.is_some() => {
                exchange.grpc_status.set(crate::body::grpc_status(&head.fields));
                let body = match body {
                    Body::Empty => Body::Empty,
                    body => Watched::wrap(body, &exchange.grpc_status),
                };
                let body = within(body, self.grpc_deadline(exchange, deadline));
                Answer::new(head, body)
            }
            Then::Body(body) => Answer::new(head, body),
        })
    }

    /// The deadline that holds for a whole call: what a gRPC client asked for. The route's own limit
    /// ends with the head of the response, so that streams may last.
    fn grpc_deadline(&self, exchange: &Exchange, deadline: Deadline) -> Deadline {
        if exchange.head.fields.has(Known::GrpcTimeout) && exchange.asked_deadline {
            deadline
        } else {
            Deadline::NONE
        }
    }

    /// Takes the places that the request needs, outermost first.
    async fn admit(
        &self,
        exchange: &mut Exchange,
        deadline: Deadline,
    ) -> Result<Option<breaker::Permit>> {
        let upstream = &self.upstream;
        let index = exchange.local.index;
        let now = SystemClock::tick();
        if let Some(limiter) = &upstream.adaptive {
            let criticality = criticality(&self.route.policy.criticality, exchange);
            match limiter.admit(criticality, now) {
                Ok(permit) => exchange.admitted = Some(permit),
                Err(_) => {
                    upstream.meter.count(index, Count::Shed);
                    return Err(Error::new(
                        Reason::Overload,
                        "the service has no room for more requests now",
                    )
                    .retry(Retry::After(Duration::from_secs(1)))
                    .at(format!("service {}", upstream.name)));
                }
            }
        }
        let bulkheads = [(&self.route.bulkhead, "route"), (&upstream.bulkhead, "service")];
        for (place, (bulkhead, what)) in bulkheads.into_iter().enumerate() {
            if let Some(bulkhead) = bulkhead {
                let left = deadline.left(SystemClock::tick());
                match bulkhead.acquire(left).await {
                    Ok(permit) => exchange.places[place] = Some(permit),
                    Err(refused) => {
                        upstream.meter.count(index, Count::Shed);
                        return Err(full(what, refused, self.route, upstream));
                    }
                }
            }
        }
        let Some(breaker) = &upstream.breaker else { return Ok(None) };
        match breaker.admit(SystemClock::tick()) {
            Ok(permit) => Ok(Some(permit)),
            Err(refused) => Err(Error::new(Reason::BreakerOpen, "the circuit breaker is open")
                .retry(Retry::After(refused.retry_after))
                .at(format!("service {}", upstream.name))),
        }
    }

    /// Tries until there is an answer, or no reason to hope for one.
    async fn tries(
        &self,
        exchange: &mut Exchange,
        body: Body,
        deadline: Deadline,
    ) -> Result<Success> {
        let policy = &self.route.policy;
        let is_grpc = exchange.grpc.is_some();
        let upgrades = exchange.head.upgrade.is_some();
        let idempotent =
            exchange.head.method.is_idempotent() || exchange.head.fields.has(Known::IdempotencyKey);
        let local = exchange.local.clone();
        let retries = policy.retry.as_ref().filter(|retry| retry.retries > 0 && !upgrades);
        let replays = (retries.is_some() || policy.hedge.is_some()) && !body.is_empty();
        let bytes_max = policy.retry.as_ref().map_or(64 * 1024, |retry| retry.replay_bytes_max);
        let (mut body, replay) =
            if replays { (Body::Empty, Some(Replay::new(body, bytes_max))) } else { (body, None) };
        let now = SystemClock::tick();
        if retries.is_some() {
            self.upstream.budget.deposit(now);
        }
        let ends = self.ends(exchange);
        let mut tried: Vec<u64> = Vec::new();
        loop {
            exchange.attempts += 1;
            let now = SystemClock::tick();
            if deadline.passed(now) {
                return Err(Error::new(
                    Reason::RequestTimeout,
                    "the deadline passed before the request could be sent",
                ));
            }
            let endpoint = self.pick(&local, &tried, now)?;
            exchange.endpoint = Some(endpoint.clone());
            self.address(exchange, &endpoint, deadline, now);
            let try_until = policy.timeout.try_deadline(now, deadline);
            let attempt = Try {
                local: &local,
                upstream: &self.upstream,
                alarm: self.alarm,
                inform: self.inform,
                wanted: self.upstream.wanted(is_grpc, upgrades),
                is_grpc,
                idempotent,
                connect: policy.timeout.connect,
                until: try_until.tick(),
                is_last_moment: try_until == deadline,
                ends,
            };
            let sent = match &replay {
                Some(replay) => replay.body(),
                None => std::mem::take(&mut body),
            };
            let hedges = idempotent
                && !upgrades
                && replay.as_ref().is_none_or(Replay::is_complete)
                && self.route.hedger.is_some();
            let result = if hedges {
                self.hedged(&attempt, exchange, endpoint.clone(), sent, replay.as_ref(), &tried)
                    .await
            } else {
                attempt.run(endpoint.clone(), &exchange.head, sent).await
            };
            let now = SystemClock::tick();
            let failure = match &result {
                Ok(success) => judge(&success.head, is_grpc).1,
                Err(miss) => Some(miss.failure),
            };
            let (Some(failure), Some(retry)) = (failure, retries) else {
                return result.map_err(|miss| miss.error);
            };
            let replayable = match (&replay, &result) {
                (Some(replay), _) => replay.is_whole(),
                (None, Err(Miss { body: Some(_), .. })) => true,
                (None, _) => exchange.bodiless,
            };
            let decision = retry.decide(
                exchange.attempts,
                &failure,
                replayable,
                idempotent,
                deadline,
                now,
                &mut local.rng.borrow_mut(),
                &self.upstream.budget,
            );
            let after = match decision {
                Decision::Again { after } => after,
                Decision::Stop(why) => {
                    if why == StopReason::Budget {
                        self.upstream.meter.count(local.index, Count::RetryBudgetExhausted);
                    }
                    return result
                        .map_err(|miss| miss.error.note(format!("not retried: {}", why.word())));
                }
            };
            match result {
                // The response is not wanted; its endpoint has answered all the same.
                Ok(success) => {
                    let outcome = judge(&success.head, is_grpc).0;
                    Exchange::settle(&local, &self.upstream, success.in_flight, outcome, now);
                }
                Err(miss) => {
                    if let (None, Some(unused)) = (&replay, miss.body) {
                        body = unused;
                    }
                }
            }
            self.upstream.meter.count(local.index, Count::Retry);
            tried.push(endpoint.id());
            if !after.is_zero() {
                self.alarm.until(now.plus(after)).await;
            }
        }
    }

    fn pick(&self, local: &Rc<crate::Local>, tried: &[u64], now: Tick) -> Result<Arc<Endpoint>> {
        let mut rng = local.rng.borrow_mut();
        let mut pick =
            Pick { hash: self.hash, tried, zone: local.zone.as_deref(), now, rng: &mut rng };
        self.upstream.discovered.pick(&mut pick).map_err(|reason| {
            let say = match reason {
                Reason::NoEndpoint => "the service has no endpoint",
                _ => "no endpoint of the service may be used now",
            };
            Error::new(reason, say).at(format!("service {}", self.upstream.name))
        })
    }

    /// Writes what depends on the endpoint and the time.
    fn address(&self, exchange: &mut Exchange, endpoint: &Endpoint, deadline: Deadline, now: Tick) {
        prepare::pass_deadline(exchange, deadline, now);
        if exchange.attempts > 1 {
            let mut text = Vec::new();
            weft_wire::h1::push_decimal(&mut text, u64::from(exchange.attempts));
            exchange.head.fields.set(Known::XAttempt, &text);
        }
        if self.route.plan.rewrite.host == Some(HostRewrite::Endpoint) {
            let name = endpoint.hostname().unwrap_or_else(|| endpoint.label());
            exchange.head.fields.set(Known::Host, name.as_bytes());
        }
    }

    fn ends(&self, exchange: &Exchange) -> Option<Ends> {
        if !self.upstream.tells_client() {
            return None;
        }
        let source = match &exchange.peer.address {
            weft_net::Address::Tcp(address) => *address,
            weft_net::Address::Unix(_) => return None,
        };
        let destination = match &exchange.peer.local {
            Some(weft_net::Address::Tcp(address)) => *address,
            _ => return None,
        };
        Some(Ends { source, destination })
    }

    /// Runs a try and, if it is slower than most, another one beside it; the first good answer counts.
    async fn hedged(
        &self,
        first: &Try<'_>,
        exchange: &Exchange,
        endpoint: Arc<Endpoint>,
        body: Body,
        replay: Option<&Replay>,
        tried: &[u64],
    ) -> Result<Success, Miss> {
        let began = SystemClock::tick();
        let Some(hedger) = &self.route.hedger else {
            return first.run(endpoint, &exchange.head, body).await;
        };
        let delay = hedger.delay();
        let head: &RequestHead = &exchange.head;
        let taken = endpoint.id();
        let mut one = pin!(first.run(endpoint, head, body));
        let Some(delay) = delay else {
            let result = one.await;
            self.learn(&result, began);
            return result;
        };
        let starts = began.plus(delay);
        let early = poll_fn(|cx| {
            if let Poll::Ready(result) = one.as_mut().poll(cx) {
                return Poll::Ready(Some(result));
            }
            self.alarm.poll(cx, starts).map(|()| None)
        })
        .await;
        if let Some(result) = early {
            self.learn(&result, began);
            return result;
        }
        let mut avoid = tried.to_vec();
        avoid.push(taken);
        let local = exchange.local.clone();
        let other = self.pick(&local, &avoid, SystemClock::tick()).ok();
        let other = other.filter(|other| other.id() != taken && hedger.allow());
        let Some(other) = other else {
            let result = one.await;
            self.learn(&result, began);
            return result;
        };
        self.upstream.meter.count(local.index, Count::Hedge);
        let again = replay.map_or(Body::Empty, Replay::body);
        let mut two = pin!(first.run(other, head, again));
        let (mut one_over, mut two_over) = (false, false);
        let result = poll_fn(|cx| {
            if !one_over && let Poll::Ready(result) = one.as_mut().poll(cx) {
                one_over = true;
                if let Some(result) = settle_or_wait(result, two_over) {
                    return Poll::Ready(result);
                }
            }
            if !two_over && let Poll::Ready(result) = two.as_mut().poll(cx) {
                two_over = true;
                if let Some(result) = settle_or_wait(result, one_over) {
                    return Poll::Ready(result);
                }
            }
            Poll::Pending
        })
        .await;
        self.learn(&result, began);
        result
    }

    fn learn(&self, result: &Result<Success, Miss>, began: Tick) {
        if let (Some(hedger), Ok(_)) = (&self.route.hedger, result) {
            hedger.record(SystemClock::tick().since(began));
        }
    }
}

/// An answer ends the race; a miss only if it was the last.
fn settle_or_wait(
    result: Result<Success, Miss>,
    other_is_over: bool,
) -> Option<Result<Success, Miss>> {
    match result {
        Ok(success) => Some(Ok(success)),
        Err(miss) if other_is_over => Some(Err(miss)),
        Err(_) => None,
    }
}

fn full(what: &str, refused: bulkhead::Refused, route: &Route, upstream: &Upstream) -> Error {
    let name = if what == "route" { route.name.as_str() } else { upstream.name.as_str() };
    let say = match refused {
        bulkhead::Refused::Full => "the bulkhead and its queue are full",
        bulkhead::Refused::TimedOut => "no place in the bulkhead became free in time",
    };
    Error::new(Reason::BulkheadFull, say)
        .retry(Retry::After(Duration::from_secs(1)))
        .at(format!("{what} {name}"))
}

/// What the service breaker makes of the end of a request; nothing, if that was not the service's doing.
fn verdict(result: &Result<Success>) -> Option<breaker::Outcome> {
    match result {
        Ok(success) => match judge(&success.head, success.head.fields.has(Known::GrpcStatus)).0 {
            Outcome { ok: true, .. } => Some(breaker::Outcome::Ok),
            _ => Some(breaker::Outcome::Failed),
        },
        Err(error) if error.side() == weft_kernel::Side::Upstream => Some(breaker::Outcome::Failed),
        Err(_) => None,
    }
}

/// Which class the request belongs to.
fn criticality(of: &plan::CriticalityOf, exchange: &Exchange) -> adaptive::Criticality {
    let said = of.header.as_deref().and_then(|name| exchange.head.fields.named(name));
    match said {
        Some(b"critical") => adaptive::Criticality::Critical,
        Some(b"default") => adaptive::Criticality::Default,
        Some(b"sheddable") => adaptive::Criticality::Sheddable,
        _ => of.default,
    }
}

/// A body that must end by a deadline.
fn within(body: Body, deadline: Deadline) -> Body {
    if deadline == Deadline::NONE || body.is_empty() {
        return body;
    }
    Body::Source(Box::new(crate::body::Timed::new(body, deadline)))
}

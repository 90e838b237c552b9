//! A request on its way to a service: admitted, tried, tried again, answered.
//!
//! The order is fixed: load shedding and bulkheads, breaker, deadline, retries and hedging around each
//! try, balancing and connecting within it. One deadline spans everything, and what is left of it is
//! passed on.

use std::{sync::Arc, time::Duration};

use weft_discovery::{Endpoint, Pick};
use weft_kernel::{Error, Reason, Result, Retry, Tick};
use weft_net::{
    body::Body,
    clock,
    h1::client::Then,
    message::{InterimSender, Tunnel},
    pool::Wanted,
    timer::TaskTimer,
};
use weft_resilience::{
    adaptive, breaker, bulkhead,
    retry::{Condition, Decision, Kind, StopReason},
};
use weft_telemetry::metrics::Count;
use weft_wire::{Known, grpc, proxy_protocol::Ends};

use crate::{
    answer::{self, Answer},
    attempt::{Miss, Success, Try},
    body::{Replay, Watched},
    exchange::Exchange,
    local::Local,
    outgoing::Attempt,
    plan,
    race::Race,
    route::Route,
    upload::{Answering, Queued, Times},
    upstream::Upstream,
};

/// A request that goes to a service.
pub(crate) struct Forward<'a> {
    pub(crate) route: &'a Arc<Route>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) timer: &'a TaskTimer,
    pub(crate) interim_sender: &'a InterimSender,
}

impl Forward<'_> {
    /// Admits the request, sends it, and gives its answer.
    pub(crate) async fn run(&self, exchange: &mut Exchange, body: Body) -> Result<Answer> {
        let record = &mut exchange.record;
        record.upstream = Some(self.upstream.clone());
        // Another service may have been asked before.
        record.endpoint = None;
        record.answered = None;
        record.sending.begin();
        let timeout = &self.route.policy.timeout;
        let times = Times {
            began: exchange.received.began,
            asked: exchange.received.deadline,
            request: timeout.request,
            per_try: timeout.per_try,
            upload: exchange.upload.clone(),
            queued: Queued::default(),
        };
        self.check_protocol(exchange)?;
        let permit = self.admit(exchange, &times).await?;
        let began = exchange.now;
        times.queued.admit(began);
        let result = self.tries(exchange, body, &times).await;
        let now = match &result {
            Ok(success) => success.at,
            Err(_) => clock::now(),
        };
        exchange.now = now;
        // How long the caller took to send its body, how short a deadline it set, and how long Weft's own
        // queues were, says nothing about the service.
        let took = now.since(times.upload.handed(began)).saturating_sub(times.queued.pooled());
        let is_callers = matches!(&result, Err(lost) if lost.error.reason() == Reason::RequestTimeout)
            && times.asked.passed(now);
        let tells = !matches!(&result, Err(lost) if !lost.tells);
        let result = result.map_err(|lost| lost.error);
        if tells && !is_callers {
            if let (Some(permit), Some(outcome)) = (permit, verdict(&result)) {
                permit.finish(outcome, took, now);
            }
            if let (Some(admitted), Some(ok)) = (&exchange.record.admitted, pressure(&result)) {
                admitted.record(ok, took, now);
            }
        }
        let Success { mut head, then, in_flight, endpoint, outcome, .. } = result?;
        exchange.record.answered = Some(now);
        exchange.record.endpoint = Some(endpoint);
        exchange.record.in_flight = Some(in_flight);
        exchange.record.outcome = outcome;
        let protocol = match then {
            Then::Tunnel(..) => head.fields.get(Known::Upgrade).map(<[u8]>::to_vec),
            Then::Body(_) => None,
        };
        answer::hand_on(&mut head, now);
        Ok(match then {
            Then::Tunnel(io, early) => {
                // The fields of the handshake were the connection's, and are the client's now.
                head.fields.add(Known::Connection, b"upgrade");
                head.fields.add(Known::Upgrade, &protocol.unwrap_or_default());
                let tunnel = Tunnel { io, early, idle_timeout: timeout.idle };
                Answer { head, body: Body::Empty, tunnel: Some(Box::new(tunnel)) }
            }
            Then::Body(body) if exchange.received.grpc.is_some() => {
                exchange.upload.note_status(crate::body::grpc_status(&head.fields));
                let body = match body {
                    Body::Empty => Body::Empty,
                    body => {
                        let body = Answering::wrap(body, &exchange.upload);
                        // The route's limit ends with the head of the response, so that streams may
                        // last; what a gRPC client asks for holds for the whole call.
                        Watched::by(body, exchange.received.deadline, &exchange.upload)
                    }
                };
                Answer::new(head, body)
            }
            Then::Body(body) => Answer::new(head, Answering::wrap(body, &exchange.upload)),
        })
    }

    /// A gRPC call to a service that speaks HTTP/1.1 alone would lose the trailers that it ends with.
    fn check_protocol(&self, exchange: &Exchange) -> Result<()> {
        let upgrades = exchange.sent.head.upgrade.is_some();
        if exchange.received.grpc == Some(grpc::Kind::Grpc)
            && self.upstream.wanted(true, upgrades) == Wanted::H1
        {
            let say = "gRPC needs HTTP/2, and the service is configured to speak HTTP/1.1 alone";
            return Err(Error::new(Reason::Misconfigured, say)
                .at(format!("service {}", self.upstream.name)));
        }
        Ok(())
    }

    /// Takes the places that the request needs, outermost first.
    async fn admit(
        &self,
        exchange: &mut Exchange,
        times: &Times,
    ) -> Result<Option<breaker::Permit>> {
        let upstream = &self.upstream;
        let index = exchange.local.index;
        if let Some(limiter) = &upstream.adaptive {
            let criticality = criticality(&self.route.policy.criticality, exchange);
            match limiter.admit(criticality, exchange.now) {
                Ok(permit) => exchange.record.admitted = Some(permit),
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
                let left = times.deadline(exchange.now).left(exchange.now);
                let acquired = bulkhead.acquire(left).await;
                // A fallback counts on from here, also after a wait in vain.
                exchange.now = clock::now();
                match acquired {
                    Ok(permit) => exchange.record.places[place] = Some(permit),
                    Err(refused) => {
                        upstream.meter.count(index, Count::Shed);
                        return Err(full(what, refused, self.route, upstream));
                    }
                }
            }
        }
        let Some(breaker) = &upstream.breaker else { return Ok(None) };
        match breaker.admit(exchange.now) {
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
        times: &Times,
    ) -> Result<Success, Lost> {
        let mut now = exchange.now;
        let policy = &self.route.policy;
        let is_grpc = exchange.received.grpc.is_some();
        let upgrades = exchange.sent.head.upgrade.is_some();
        let idempotent = exchange.record.sending.is_idempotent(&exchange.sent.head);
        let local = exchange.local.clone();
        let retries = policy.retry.as_ref().filter(|retry| retry.retries > 0 && !upgrades);
        let replays = (retries.is_some() || policy.hedge.is_some()) && !body.is_empty();
        let bytes_max = policy.retry.as_ref().map_or(64 * 1024, |retry| retry.replay_bytes_max);
        let (mut body, replay) =
            if replays { (Body::Empty, Some(Replay::new(body, bytes_max))) } else { (body, None) };
        let ends = self.ends(exchange);
        let mut tried: Vec<u64> = Vec::new();
        let mut unreached = Unreached { began: now, tries: 0 };
        let mut number = 0;
        loop {
            number += 1;
            exchange.record.attempts += 1;
            let deadline = times.deadline(now);
            if deadline.passed(now) {
                let say = "the deadline passed before the request could be sent";
                let error = Error::new(Reason::RequestTimeout, say);
                return Err(Lost { error, tells: number > 1 });
            }
            if number == 1 && retries.is_some() {
                self.upstream.budget.deposit(now);
            }
            let hash = exchange.sent.hashed.value;
            let endpoint = self.pick(&local, hash, &tried, true, now)?;
            exchange.record.endpoint = Some(endpoint.clone());
            if let Some(begin) = exchange.sent.on_try.take() {
                begin();
            }
            exchange
                .sent
                .address(&Attempt { upstream: &self.upstream, number, deadline, now }, &endpoint);
            let attempt = Try {
                local: &local,
                upstream: &self.upstream,
                timer: self.timer,
                interim_sender: self.interim_sender,
                wanted: self.upstream.wanted(is_grpc, upgrades),
                is_grpc,
                idempotent,
                connect: policy.timeout.connect,
                times,
                ends,
            };
            let sent = match &replay {
                Some(replay) => replay.body(),
                None => std::mem::take(&mut body),
            };
            let may_hedge = idempotent && !upgrades;
            let before = tried.len();
            let result = match self.route.hedger.as_deref().filter(|_| may_hedge) {
                Some(hedger) => {
                    let race = Race {
                        forward: self,
                        attempt: &attempt,
                        sent: &exchange.sent,
                        number,
                        replay: replay.as_ref(),
                        hedger,
                    };
                    // Large, and rare.
                    Box::pin(race.run(endpoint.clone(), sent, &mut tried, now)).await
                }
                None => attempt.run(endpoint.clone(), &exchange.sent.head, sent, now).await,
            };
            exchange.record.sending.tried(&result, tried.len() - before);
            exchange.record.counted = result.as_ref().err().map(|miss| miss.error.reason());
            let failure = match &result {
                Ok(success) => success.failure,
                Err(miss) => Some(miss.failure),
            };
            let (Some(failure), Some(retry)) = (failure, retries) else {
                return result.map_err(Lost::from);
            };
            // What the client did wrong no other endpoint makes good.
            if let Err(miss) = &result
                && (miss.blameless || miss.error.side() == weft_kernel::Side::Caller)
            {
                return result.map_err(Lost::from);
            }
            now = clock::now();
            let deadline = times.deadline(now);
            let replayable = match (&replay, &result) {
                (Some(replay), _) => replay.is_whole(),
                (None, Err(Miss { body: Some(_), .. })) => true,
                (None, _) => exchange.received.bodiless,
            };
            let detour = (failure.kind == Kind::Connect
                && result.is_err()
                && replayable
                && retry.on.contains(Condition::ConnectFailure))
            .then(|| unreached.detour(&self.upstream, tried.len() + 1, policy.timeout.connect, now))
            .flatten()
            .filter(|wait| !deadline.passed(now.plus(*wait)));
            let after = match detour {
                Some(wait) => {
                    if !wait.is_zero() {
                        tried.clear();
                    }
                    wait
                }
                None => {
                    let decision = retry.decide(
                        number.saturating_sub(unreached.tries).max(1),
                        &exchange.record.sending.weigh(failure, &exchange.sent.head, retry),
                        replayable,
                        idempotent,
                        deadline,
                        now,
                        &mut local.rng.borrow_mut(),
                        &self.upstream.budget,
                    );
                    match decision {
                        Decision::Again { after } => after,
                        Decision::Stop(why) => {
                            if why == StopReason::Budget {
                                let count = Count::RetryBudgetExhausted;
                                self.upstream.meter.count(local.index, count);
                            }
                            let why = format!("not retried: {}", why.word());
                            return match result {
                                Ok(success) => {
                                    exchange.record.detail = Some(why);
                                    Ok(success)
                                }
                                Err(Miss { error, tells, .. }) => {
                                    Err(Lost { error: error.note(why), tells })
                                }
                            };
                        }
                    }
                }
            };
            match result {
                Ok(unwanted) => unwanted.discard(&local, &self.upstream, now),
                Err(miss) => {
                    if let (None, Some(unused)) = (&replay, miss.body) {
                        body = unused;
                    }
                }
            }
            self.upstream.meter.count(local.index, Count::Retry);
            tried.push(endpoint.id());
            if !after.is_zero() {
                self.timer.until(now.plus(after)).await;
                now = clock::now();
            }
        }
    }

    /// An endpoint, other than those that were tried if there is another; to `insist` is to take one
    /// that is ejected rather than none.
    pub(crate) fn pick(
        &self,
        local: &Local,
        hash: Option<u64>,
        tried: &[u64],
        insist: bool,
        now: Tick,
    ) -> Result<Arc<Endpoint>> {
        let mut rng = local.rng.borrow_mut();
        let zone = local.zone.as_deref();
        let mut pick = Pick { hash, tried, zone, insist, now, rng: &mut rng };
        self.upstream.discovered.pick(&mut pick).map_err(|reason| {
            let say = match reason {
                Reason::NoEndpoint => "the service has no endpoint",
                Reason::DnsFailed => "the names of the service's endpoints are not resolved",
                _ => "no endpoint of the service may be used now",
            };
            Error::new(reason, say).at(format!("service {}", self.upstream.name))
        })
    }

    fn ends(&self, exchange: &Exchange) -> Option<Ends> {
        if !self.upstream.tells_client() {
            return None;
        }
        let source = match &exchange.received.peer.address {
            weft_net::Address::Tcp(address) => *address,
            weft_net::Address::Unix(_) => return None,
        };
        let destination = match &exchange.received.peer.local {
            Some(weft_net::Address::Tcp(address)) => *address,
            _ => return None,
        };
        Some(Ends { source, destination })
    }
}

/// Most tries of a request that reached nobody and are not counted against its retries.
const DETOURS_MAX: u32 = 8;

/// Tries that reached nobody. They have cost nothing but time, so a request is not given up for them
/// while there is another endpoint, or while endpoints may just be restarting.
struct Unreached {
    began: Tick,
    /// Those that are not counted as tries.
    tries: u32,
}

impl Unreached {
    /// How long to wait before another try that is not counted, if there is one: not at all for an
    /// endpoint that was not tried yet; a little longer each time for endpoints that were, as long as a
    /// slow connection would be waited for.
    fn detour(
        &mut self,
        upstream: &Upstream,
        tried: usize,
        connect: Duration,
        now: Tick,
    ) -> Option<Duration> {
        if self.tries >= DETOURS_MAX {
            return None;
        }
        let wait = if tried < upstream.discovered.set().serving() {
            Duration::ZERO
        } else if upstream.discovered.is_restarting() {
            let spent = now.since(self.began);
            // So each wait is as long as all that went before, but at first.
            let wait = spent.clamp(Duration::from_millis(25), Duration::from_millis(300));
            if spent.saturating_add(wait) > connect {
                return None;
            }
            wait
        } else {
            return None;
        };
        self.tries += 1;
        Some(wait)
    }
}

/// A request that no answer came for.
struct Lost {
    error: Error,
    /// Whether that says something of the service.
    tells: bool,
}

impl From<Miss> for Lost {
    fn from(miss: Miss) -> Self {
        Self { error: miss.error, tells: miss.tells }
    }
}

impl From<Error> for Lost {
    fn from(error: Error) -> Self {
        Self { error, tells: true }
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
        Ok(success) if success.outcome.ok => Some(breaker::Outcome::Ok),
        Ok(_) => Some(breaker::Outcome::Failed),
        Err(error) if error.side() == weft_kernel::Side::Upstream => Some(breaker::Outcome::Failed),
        Err(_) => None,
    }
}

/// What adaptive concurrency makes of it: `false` for a service that is too busy; nothing, if the time
/// that it took says nothing about its load.
fn pressure(result: &Result<Success>) -> Option<bool> {
    match result {
        Ok(success) => match success.failure.map(|failure| failure.kind) {
            Some(Kind::Status(429 | 503) | Kind::Grpc(8 | 14)) => Some(false),
            Some(_) => None,
            None => Some(true),
        },
        Err(error) => {
            matches!(error.reason(), Reason::TryTimeout | Reason::RequestTimeout).then_some(false)
        }
    }
}

/// Which class the request belongs to.
fn criticality(of: &plan::CriticalityOf, exchange: &Exchange) -> adaptive::Criticality {
    let said = of.header.as_deref().and_then(|name| exchange.sent.head.fields.named(name));
    match said {
        Some(b"critical") => adaptive::Criticality::Critical,
        Some(b"default") => adaptive::Criticality::Default,
        Some(b"sheddable") => adaptive::Criticality::Sheddable,
        _ => of.default,
    }
}

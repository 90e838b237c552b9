//! Tries that run beside each other: a hedge is sent when the answer takes longer than most do, and
//! the first good answer counts.
//!
//! A bad answer, or none, waits for the others, and no hedge is sent because of it: to try again after
//! a failure is a retry's decision. If all go wrong, what a service said is worth more than that
//! nothing came, and the last word counts. Each hedge goes to an endpoint that has none of them.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use weft_discovery::Endpoint;
use weft_kernel::Tick;
use weft_net::{body::Body, clock};
use weft_resilience::hedge::Hedger;
use weft_telemetry::metrics::Count;
use weft_wire::RequestHead;

use crate::{
    attempt::{Miss, Success, Try},
    body::Replay,
    forward::Forward,
    outgoing::{Attempt, Outgoing},
};

type Result = std::result::Result<Success, Miss>;

/// A request that may be sent several times at once.
pub(crate) struct Race<'a> {
    pub(crate) forward: &'a Forward<'a>,
    pub(crate) attempt: &'a Try<'a>,
    pub(crate) sent: &'a Outgoing,
    /// Which of the tries the first is.
    pub(crate) number: u32,
    pub(crate) replay: Option<&'a Replay>,
    pub(crate) hedger: &'a Hedger,
}

/// The best that is there until something good comes; given back to its endpoint if it is not used.
struct Spare<'a>(&'a Try<'a>, Option<Result>);

impl Spare<'_> {
    fn keep(&mut self, result: Result) {
        match (&result, &self.1) {
            (Err(_), Some(Ok(_))) => {}
            _ => self.put(Some(result)),
        }
    }

    fn put(&mut self, result: Option<Result>) {
        if let Some(Ok(unwanted)) = std::mem::replace(&mut self.1, result) {
            unwanted.discard(self.0.local, self.0.upstream, clock::now());
        }
    }
}

impl Drop for Spare<'_> {
    fn drop(&mut self) {
        self.put(None);
    }
}

impl Race<'_> {
    /// Sends the request, and beside it what hedges it may have; `tried` learns of their endpoints.
    pub(crate) async fn run(
        &self,
        endpoint: Arc<Endpoint>,
        body: Body,
        tried: &mut Vec<u64>,
        began: Tick,
    ) -> Result {
        self.hedger.begin();
        let mut taken = tried.clone();
        taken.push(endpoint.id());
        let mut first = pin!(self.attempt.run(endpoint, &self.sent.head, body, began));
        let mut first_is_over = false;
        let mut hedges = Vec::new();
        let mut left = self.hedger.max();
        let mut next = self.next(began, left);
        let mut spare = Spare(self.attempt, None);
        loop {
            // `None` is a delay that is over.
            let result = poll_fn(|cx| {
                if !first_is_over && let Poll::Ready(result) = first.as_mut().poll(cx) {
                    first_is_over = true;
                    return Poll::Ready(Some(result));
                }
                if let Some(result) = poll_any(&mut hedges, cx) {
                    return Poll::Ready(Some(result));
                }
                match next {
                    Some(at) => self.attempt.timer.poll(cx, at).map(|()| None),
                    None => Poll::Pending,
                }
            })
            .await;
            match result {
                Some(Ok(success)) if success.failure.is_none() => {
                    let handed = self.attempt.times.upload.handed(began);
                    self.hedger.record(success.at.since(handed));
                    return Ok(success);
                }
                Some(result) if first_is_over && hedges.is_empty() => {
                    spare.keep(result);
                    if let Some(result) = spare.1.take() {
                        return result;
                    }
                }
                Some(result) => spare.keep(result),
                None => {
                    let now = clock::now();
                    match self.due(began, now) {
                        Some(due) if due <= now => {}
                        due => {
                            next = due;
                            continue;
                        }
                    }
                    let Some(other) = self.other(&taken, now) else {
                        next = None;
                        continue;
                    };
                    taken.push(other.id());
                    tried.push(other.id());
                    let local = self.attempt.local;
                    self.attempt.upstream.meter.count(local.index, Count::Hedge);
                    let body = self.replay.map_or(Body::Empty, Replay::body);
                    let head = self.beside(&other, now);
                    let attempt = self.attempt;
                    hedges
                        .push(Box::pin(async move { attempt.run(other, &head, body, now).await }));
                    left -= 1;
                    next = self.next(now, left);
                }
            }
        }
    }

    /// What an endpoint is told beside the first.
    fn beside(&self, endpoint: &Endpoint, now: Tick) -> RequestHead {
        let upstream = self.attempt.upstream;
        let deadline = self.attempt.times.deadline(now);
        self.sent.beside(&Attempt { upstream, number: self.number, deadline, now }, endpoint)
    }

    /// When the next hedge is due, if one may be sent.
    fn next(&self, from: Tick, left: u32) -> Option<Tick> {
        self.hedger.delay().filter(|_| left > 0).map(|delay| from.plus(delay))
    }

    /// When a hedge whose delay is over by the clock is due: its delay begins when the service has the
    /// whole request, and only what is kept whole can be sent beside itself.
    fn due(&self, began: Tick, now: Tick) -> Option<Tick> {
        let Some(replay) = self.replay else { return Some(now) };
        let delay = self.hedger.delay()?;
        if !replay.is_whole() {
            return None;
        }
        if !replay.is_complete() {
            return Some(now.plus(delay));
        }
        Some(self.attempt.times.upload.handed(began).plus(delay))
    }

    /// An endpoint that has none of the tries, and a hedge out of the budget for it.
    fn other(&self, taken: &[u64], now: Tick) -> Option<Arc<Endpoint>> {
        let other = self
            .forward
            .pick(self.attempt.local, self.sent.hashed.value, taken, false, now)
            .ok()?;
        (!taken.contains(&other.id()) && self.hedger.allow()).then_some(other)
    }
}

/// The result of any that is over, which is then no longer among them.
fn poll_any<F: Future>(all: &mut Vec<Pin<Box<F>>>, cx: &mut Context<'_>) -> Option<F::Output> {
    for index in 0..all.len() {
        if let Poll::Ready(result) = all[index].as_mut().poll(cx) {
            drop(all.swap_remove(index));
            return Some(result);
        }
    }
    None
}

//! Drives one subscription that is pushed.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use weft_broker::{
    Backoff, ConsumerOptions, Verdict,
    engine::{AnyConsumer, AnyDelivery, AnyLease, Engines},
};
use weft_kernel::{Reason, Result, Rng, SystemClock, Tick};
use weft_net::Stop;
use weft_proxy::Reading;
use weft_wire::{
    Fields, Known, Method, RequestHead, Version,
    cloudevents::{Attribute, http},
};

use super::{
    PushSubscription, Sender,
    judge::judge,
    pace::{Begun, Ended, Pace, Room},
};
use crate::event;

/// How much of a subscriber's answer is read; nobody looks at it, and what is longer is cut.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What a lease has beyond the time for one delivery.
const LEASE_MORE: Duration = Duration::from_secs(15);
/// Time before a subscription is driven again that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// Pushes until `stop` drains. A subscription that is not there yet, or goes, is waited for.
pub(crate) async fn run(
    engines: &Engines,
    push: &PushSubscription,
    sender: &dyn Sender,
    stop: &Stop,
) {
    let mut rng = Rng::from_entropy();
    while !stop.is_draining() {
        match once(engines, push, sender, stop, &mut rng).await {
            Ok(()) => return,
            Err(error) if error.reason() == Reason::NoSubscription => {
                tokio::select! {
                    _declared = engines.subscription_declared(&push.subscription) => {}
                    () = stop.draining() => {}
                }
                continue;
            }
            Err(error) => {
                let subscription = &*push.subscription.name;
                tracing::warn!(subscription, error = %error.detail(), "push delivery paused");
            }
        }
        let _ = tokio::time::timeout(AGAIN, stop.draining()).await;
    }
}

/// The time, as the runtime's timers count it.
fn now() -> Tick {
    SystemClock::at(tokio::time::Instant::now().into_std())
}

/// A delivery that has ended.
struct Done {
    begun: Begun,
    ended: Ended,
    lease: AnyLease,
    failures: u32,
    verdict: Verdict,
}

async fn once(
    engines: &Engines,
    push: &PushSubscription,
    sender: &dyn Sender,
    stop: &Stop,
    rng: &mut Rng,
) -> Result<()> {
    let subscription = engines.subscription(&push.subscription)?;
    let lease = subscription.options().lease.max(push.timeout.saturating_add(LEASE_MORE));
    let options = ConsumerOptions {
        prefetch: push.concurrency,
        lease: Some(lease),
        ..ConsumerOptions::default()
    };
    let mut consumer = engines.consume(subscription.clone(), options).await?;
    let mut pace = Pace::new(push.concurrency);
    let mut under_way = FuturesUnordered::new();
    loop {
        let now = now();
        let room = if stop.is_draining() { Room::Full } else { pace.room(now) };
        if stop.is_draining() && under_way.is_empty() {
            return Ok(());
        }
        let taken = tokio::select! {
            biased;
            Some(first) = under_way.next(), if !under_way.is_empty() => {
                let mut done: Vec<Done> = vec![first];
                while let Some(Some(more)) = under_way.next().now_or_never() {
                    done.push(more);
                }
                let retry = subscription.options().retry;
                settle(push, &retry, &mut consumer, &mut pace, done, rng).await?;
                continue;
            }
            () = stop.draining(), if !stop.is_draining() => continue,
            taken = take(&mut consumer, room) => taken?,
        };
        for delivery in taken {
            under_way.push(deliver(push, sender, delivery, pace.begin()));
        }
    }
}

/// Takes as many deliveries as there is room for; waits while there is none.
async fn take(consumer: &mut AnyConsumer, room: Room) -> Result<Vec<AnyDelivery>> {
    match room {
        Room::For(room) => consumer.next_batch(room).await,
        Room::Full => std::future::pending().await,
        Room::Not(until) => {
            match SystemClock::instant(until) {
                Some(instant) => tokio::time::sleep_until(instant.into()).await,
                None => std::future::pending().await,
            }
            Ok(Vec::new())
        }
    }
}

async fn deliver(
    push: &PushSubscription,
    sender: &dyn Sender,
    delivery: AnyDelivery,
    begun: Begun,
) -> Done {
    let lease = delivery.lease.clone();
    let reading = Reading {
        bytes_max: ANSWER_BYTES_MAX,
        whole_max: Some(push.timeout),
        body_max: push.timeout,
    };
    let (verdict, ended) = match request(push, &delivery) {
        Ok((head, body)) => judge(&sender.send(&push.route, head, body, reading).await),
        // What cannot be written as a request never can.
        Err(error) => (Verdict::Reject { reason: error.said().to_owned().into() }, Ended::Answered),
    };
    Done { begun, ended, lease, failures: delivery.failures, verdict }
}

/// The request of a delivery: the event in binary mode.
fn request(push: &PushSubscription, delivery: &AnyDelivery) -> Result<(RequestHead, Bytes)> {
    let mut fields = Fields::with_capacity(16, 1024);
    let mut body = Bytes::new();
    let message = &delivery.message;
    event::with(message, delivery.position, |event, data| {
        http::write(event, |name, value| {
            fields.append(name, value.as_bytes());
        });
        body = data.clone();
        // The delivery belongs to the trace of who published.
        if let Some(Attribute::Text(trace)) = event.extension(event::TRACEPARENT) {
            fields.add(Known::Traceparent, trace.as_bytes());
        }
    })?;
    fields.append("weft-subscription", push.subscription.name.as_bytes());
    let attempt = delivery.failures.saturating_add(1);
    fields.append("weft-delivery-attempt", attempt.to_string().as_bytes());
    fields.append("weft-position", delivery.position.to_string().as_bytes());
    let head = RequestHead {
        method: Method::Post,
        target: push.path.clone(),
        version: Version::Http11,
        fields,
        upgrade: None,
    };
    Ok((head, body))
}

/// Settles deliveries that have ended, and lets the pace know.
async fn settle(
    push: &PushSubscription,
    retry: &Backoff,
    consumer: &mut AnyConsumer,
    pace: &mut Pace,
    done: Vec<Done>,
    rng: &mut Rng,
) -> Result<()> {
    let now = now();
    let was_down = pace.is_down();
    let mut verdicts = Vec::with_capacity(done.len());
    for Done { begun, ended, lease, failures, mut verdict } in done {
        pace.end(begun, ended, now, rng);
        if let Verdict::Fail { delay: Some(hint), .. } = &mut verdict {
            // A hint may make the back-off longer, and never shorter.
            *hint = retry.wait(failures.saturating_add(1), rng).max(*hint);
        }
        verdicts.push((lease, verdict));
    }
    if was_down != pace.is_down() {
        let subscription = &*push.subscription.name;
        if was_down {
            tracing::info!(subscription, "the subscriber can be reached again");
        } else {
            tracing::warn!(
                subscription,
                "no endpoint of the subscriber can be reached: its messages wait"
            );
        }
    }
    consumer.settle(verdicts).await
}

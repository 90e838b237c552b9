//! Push delivery against a subscriber that follows a script.

use weft_broker::{
    Key, MessageBuilder, Publish, PublishTarget, SubscriptionOptions, SubscriptionTarget,
    TopicOptions, message::Value,
};
use weft_kernel::Reason;
use weft_wire::Known;

use super::*;
use crate::{
    fixture::{Fixture, Line, Script},
    handle::Hooks,
};

const FINE: Line = Line::Status(204, &[], "");

async fn fixture(failures_max: u32) -> (Fixture, PushSubscription, PublishTarget) {
    let fixture = Fixture::new(Hooks::default()).await;
    let topic = Key::plain("orders").unwrap();
    let target = PublishTarget::Topic(
        fixture.broker.declare_topic(&topic, TopicOptions::default()).await.unwrap(),
    );
    let subscription = SubscriptionKey::new(&topic, "billing").unwrap();
    let options = SubscriptionOptions {
        target: SubscriptionTarget::Push("billing".into()),
        failures_max: Some(failures_max),
        retry: weft_broker::Backoff::NONE,
        ..SubscriptionOptions::default()
    };
    fixture.broker.declare_subscription(&subscription, options).await.unwrap();
    let push = PushSubscription {
        subscription,
        route: Name::new("push/billing").unwrap(),
        path: "/in".into(),
        concurrency: 8,
        timeout: Duration::from_secs(15),
    };
    (fixture, push, target)
}

async fn publish(fixture: &Fixture, target: &PublishTarget, ids: std::ops::Range<u32>) {
    let messages: Vec<Publish> = ids
        .map(|id| {
            let message = MessageBuilder::event(64)
                .attribute("id", Value::Text(&id.to_string()))
                .attribute("source", Value::Text("/shop"))
                .attribute("type", Value::Text("order.placed"))
                .attribute("datacontenttype", Value::Text("text/plain"))
                .attribute("traceparent", Value::Text("00-1-2-01"))
                .body(b"hello")
                .finish()
                .unwrap();
            Publish::new(message)
        })
        .collect();
    fixture.broker.publish(target, &messages, None).await.unwrap();
}

/// Pushes until `done`, then drains and lets it end.
async fn pushing(
    fixture: &Fixture,
    push: &PushSubscription,
    script: &Script,
    done: impl Future<Output = ()>,
) {
    let drive = drive::run(fixture.handle.engines(), push, script, &fixture.stop);
    let keep = async {
        tokio::select! {
            ended = fixture.broker.maintain() => panic!("{ended:?}"),
            () = fixture.stop.draining() => {}
        }
    };
    let done = async {
        done.await;
        fixture.stop.drain(weft_kernel::Tick::NEVER);
    };
    tokio::join!(drive, keep, done);
}

/// Waits until nothing of the subscription is left.
async fn settled(fixture: &Fixture, push: &PushSubscription) {
    let subscription = fixture.broker.subscription(&push.subscription).unwrap();
    while fixture.broker.subscription_view(&subscription).lag > 0 {
        // Not a yield: a clock that stands still moves on only when nobody runs.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn messages_are_posted_as_binary_events_and_accepted() {
    let (fixture, push, target) = fixture(3).await;
    publish(&fixture, &target, 0..20).await;
    let script = Script::new(&[FINE]);
    pushing(&fixture, &push, &script, settled(&fixture, &push)).await;
    let sent = script.sent();
    assert_eq!(sent.len(), 20);
    let first = &sent[0];
    assert_eq!((first.route.as_str(), &*first.head.target), ("push/billing", "/in"));
    assert_eq!(&first.body[..], b"hello");
    for (name, value) in [
        ("ce-id", "0"),
        ("ce-type", "order.placed"),
        ("content-type", "text/plain"),
        ("weft-subscription", "billing"),
        ("weft-delivery-attempt", "1"),
        ("weft-position", "0"),
        ("traceparent", "00-1-2-01"),
    ] {
        assert_eq!(first.head.fields.named(name), Some(value.as_bytes()), "{name}");
    }
    assert!(!first.head.fields.has(Known::ContentLength));
}

#[tokio::test]
async fn what_fails_is_tried_again_and_what_is_rejected_is_dead_at_once() {
    let (fixture, push, target) = fixture(3).await;
    publish(&fixture, &target, 0..1).await;
    let script = Script::new(&[
        Line::Status(500, &[], ""),
        Line::Status(503, &[("retry-after", "0")], ""),
        FINE,
    ]);
    pushing(&fixture, &push, &script, settled(&fixture, &push)).await;
    let attempts: Vec<_> = script
        .sent()
        .iter()
        .map(|sent| sent.head.fields.named("weft-delivery-attempt").unwrap().to_vec())
        .collect();
    assert_eq!(attempts, [b"1", b"2", b"3"]);

    let (fixture, push, target) = self::fixture(3).await;
    publish(&fixture, &target, 0..2).await;
    let script = Script::new(&[Line::Status(400, &[], ""), Line::Status(302, &[], "")]);
    pushing(&fixture, &push, &script, settled(&fixture, &push)).await;
    assert_eq!(script.sent().len(), 2);
    let dead = fixture.broker.queue(&push.subscription.dead().unwrap()).unwrap();
    // They are seen once they are on the disk.
    let seen = async {
        while fixture.broker.queue_view(&dead).ready < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_is_down_costs_nothing_and_kills_nothing() {
    let (fixture, push, target) = fixture(2).await;
    publish(&fixture, &target, 0..5).await;
    let mut lines = vec![Line::Weft(Reason::NoHealthyEndpoint); 12];
    lines.push(FINE);
    let script = Script::new(&lines);
    pushing(&fixture, &push, &script, settled(&fixture, &push)).await;
    let sent = script.sent();
    // The first burst, then probes one at a time, and then each message once.
    assert!(sent.len() <= 12 + 5, "{}", sent.len());
    assert!(
        sent.iter().all(|sent| { sent.head.fields.named("weft-delivery-attempt") == Some(b"1") })
    );
    assert!(fixture.broker.queue(&push.subscription.dead().unwrap()).is_err());
}

#[tokio::test]
async fn a_drain_lets_deliveries_end_and_gives_the_rest_back() {
    let (fixture, push, target) = fixture(2).await;
    publish(&fixture, &target, 0..50).await;
    let script = Script::new(&[FINE]);
    pushing(&fixture, &push, &script, script.until_sent(1)).await;
    let subscription = fixture.broker.subscription(&push.subscription).unwrap();
    let view = fixture.broker.subscription_view(&subscription);
    assert_eq!((view.leased, view.lag), (0, 50 - script.sent().len() as u64));
}

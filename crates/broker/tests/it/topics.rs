//! Topics and subscriptions: fan-out, filters, wildcards, seek, last values, forwarding.

use std::{future::Future, sync::Arc, task::Poll, time::Duration};

use weft_broker::{
    Compare, Durability, FilterOptions, MessageSource, Publish, PublishTarget, QueueOptions,
    SeekTo, Start, Subscription, SubscriptionKey, SubscriptionOptions, SubscriptionTarget, Topic,
    TopicOptions, Verdict,
};
use weft_kernel::{Reason, Rng};
use weft_ledger::Limits;

use crate::node::{Node, event, ids, key, publish};

const START_MS: u64 = 3_600_000;

fn topic(node: &Node, name: &str) -> Arc<Topic> {
    node.run(node.broker.declare_topic(&key(name), TopicOptions::default())).unwrap()
}

fn subscribe(
    node: &Node,
    topic: &str,
    name: &str,
    options: SubscriptionOptions,
) -> Arc<Subscription> {
    let key = SubscriptionKey::new(&key(topic), name).unwrap();
    node.run(node.broker.declare_subscription(&key, options)).unwrap()
}

#[test]
fn each_subscription_gets_everything_once_and_survives_a_crash() {
    let node = Node::new();
    let orders = topic(&node, "orders");
    let billing = subscribe(&node, "orders", "billing", SubscriptionOptions::default());
    let target = PublishTarget::Topic(orders.clone());
    let published =
        node.run(node.broker.publish(&target, &[publish("1"), publish("2")], None)).unwrap();
    assert_eq!((published.stored, published.subscriptions), (Some((0, 1)), 1));
    let first = SubscriptionOptions { start: Start::First, ..SubscriptionOptions::default() };
    let audit = subscribe(&node, "orders", "audit", first);
    let mut consumer = node.consumer(billing);
    let taken = node.take(&mut consumer);
    assert_eq!(ids(&taken), ["1", "2"]);
    assert_eq!(taken[0].topic.as_ref().unwrap().key(), &key("orders"));
    node.settle(&consumer, &taken[0], Verdict::Accept);
    let mut other = node.consumer(audit);
    assert_eq!(ids(&node.take(&mut other)), ["1", "2"]);
    drop((consumer, other));
    let node = node.crash(&mut Rng::seeded(5));
    let billing = node.broker.subscription_named(&key("billing")).unwrap();
    let mut consumer = node.consumer(billing.clone());
    assert_eq!(ids(&node.take(&mut consumer)), ["2"]);
    assert_eq!(node.broker.subscription_view(&billing).lag, 1);
    node.run(node.broker.delete_topic(&key("orders"))).unwrap();
    assert_eq!(node.run(consumer.next_batch(1)).unwrap_err().reason(), Reason::NoSubscription);
    assert!(node.broker.subscriptions().is_empty());
}

#[test]
fn an_expected_position_must_fit() {
    let node = Node::new();
    let target = PublishTarget::Topic(topic(&node, "t"));
    node.run(node.broker.publish(&target, &[publish("1")], Some(0))).unwrap();
    let wrong = node.run(node.broker.publish(&target, &[publish("2")], Some(0)));
    assert_eq!(wrong.unwrap_err().reason(), Reason::PositionConflict);
    node.run(node.broker.publish(&target, &[publish("2"), publish("3")], Some(1))).unwrap();
}

#[test]
fn a_filter_passes_over_what_it_does_not_take() {
    let node = Node::new();
    let orders = topic(&node, "orders");
    let filter = FilterOptions {
        types: vec!["order.*".into()],
        attributes: vec![("source".into(), Compare::Prefix("/te".into()))],
        expression: Some("data.total > 10".into()),
    };
    let options = SubscriptionOptions { filter, ..SubscriptionOptions::default() };
    let subscription = subscribe(&node, "orders", "big", options);
    let messages: Vec<Publish> = [
        ("1", "order.created", "{\"total\": 5}"),
        ("2", "order.created", "{\"total\": 50}"),
        ("3", "invoice.created", "{\"total\": 50}"),
        ("4", "order.paid", "{\"total\": 11}"),
        ("5", "order.paid", "none"),
    ]
    .into_iter()
    .map(|(id, kind, body)| Publish::new(event(id, kind, body)))
    .collect();
    node.publish(orders, &messages);
    let mut consumer = node.consumer(subscription.clone());
    let taken = node.run(consumer.next_batch(10)).unwrap();
    assert_eq!(ids(&taken), ["2", "4"]);
    let view = node.broker.subscription_view(&subscription);
    assert_eq!((view.leased, view.lag), (2, 2), "what is not taken stays leased to nobody");
    assert!(node.try_run(consumer.next_batch(10)).is_none(), "the rest is passed over");
    let view = node.broker.subscription_view(&subscription);
    assert_eq!((view.counts.filtered, view.lag), (3, 2));
}

#[test]
fn a_pattern_takes_topics_that_come_later() {
    let node = Node::new();
    let created = topic(&node, "orders.created");
    let options = SubscriptionOptions::default();
    let all = subscribe(&node, "orders.*", "all", options);
    let mut consumer = node.consumer(all.clone());
    node.publish(created, &[publish("1")]);
    assert_eq!(ids(&node.run(consumer.next_batch(5)).unwrap()), ["1"]);
    // A topic that is made while somebody waits is read from its first message on.
    let later = async {
        let name = key("orders.deleted");
        let deleted = node.broker.declare_topic(&name, TopicOptions::default()).await.unwrap();
        let deleted = PublishTarget::Topic(deleted);
        node.broker.publish(&deleted, &[publish("2")], None).await.unwrap();
    };
    let (taken, ()) = node.run(async { tokio::join!(consumer.next_batch(5), later) });
    assert_eq!(ids(&taken.unwrap()), ["2"]);
    topic(&node, "invoices.created");
    assert_eq!(node.broker.subscription_view(&all).topics, 2);
    drop(consumer);
    let node = node.crash(&mut Rng::seeded(9));
    let all = node.broker.subscription_named(&key("all")).unwrap();
    assert_eq!(node.broker.subscription_view(&all).topics, 2);
    node.run(node.broker.delete_topic(&key("orders.created"))).unwrap();
    assert_eq!(node.broker.subscription_view(&all).topics, 1);
    let mut consumer = node.consumer(all);
    assert_eq!(ids(&node.take(&mut consumer)), ["2"]);
}

#[test]
fn who_was_given_something_on_one_topic_holds_nobody_up_on_the_others() {
    let node = Node::new();
    let (a, b) = (topic(&node, "t.a"), topic(&node, "t.b"));
    let all = subscribe(&node, "t.*", "all", SubscriptionOptions::default());
    let (mut first, mut second) = (node.consumer(all.clone()), node.consumer(all));
    let publishing = async {
        for (topic, id) in [(a, "1"), (b, "2")] {
            node.broker.publish(&PublishTarget::Topic(topic), &[publish(id)], None).await.unwrap();
        }
    };
    // The first takes one message and does not come again.
    let all = async { tokio::join!(first.next_batch(1), second.next_batch(1), publishing) };
    let (first, second, ()) = node.run(all);
    assert_eq!((ids(&first.unwrap()), ids(&second.unwrap())), (vec!["1".into()], vec!["2".into()]));
}

#[test]
fn a_subscription_seeks_skips_and_pauses() {
    let node = Node::new();
    let log = topic(&node, "t");
    let subscription = subscribe(&node, "t", "s", SubscriptionOptions::default());
    for n in 0..6 {
        node.publish(log.clone(), &[publish(&n.to_string())]);
        node.clock.advance(Duration::from_secs(10));
    }
    let mut consumer = node.consumer(subscription.clone());
    let taken = node.take(&mut consumer);
    assert_eq!(taken.len(), 6);
    node.run(node.broker.seek(&subscription, SeekTo::Position(4))).unwrap();
    let lost = node.run(consumer.settle(&[(taken[5].lease.clone(), Verdict::Accept)])).unwrap();
    assert_eq!(lost.lost, [0], "seeking voids leases");
    assert_eq!(ids(&node.take(&mut consumer)), ["4", "5"]);
    let time = 3_600_000 + 15_000;
    assert_eq!(node.run(node.broker.position_at(&log, time)).unwrap(), 2);
    node.run(node.broker.seek(&subscription, SeekTo::Time(time))).unwrap();
    assert_eq!(node.run(node.broker.skip(&subscription, 1)).unwrap(), 3);
    assert_eq!(ids(&node.run(consumer.try_batch(1)).unwrap()), ["3"]);
    node.run(node.broker.pause(subscription.key(), true)).unwrap();
    assert!(node.take(&mut consumer).is_empty());
    drop(consumer);
    let node = node.crash(&mut Rng::seeded(1));
    let subscription = node.broker.subscription_named(&key("s")).unwrap();
    let mut consumer = node.consumer(subscription.clone());
    assert!(node.take(&mut consumer).is_empty(), "a pause survives");
    node.run(node.broker.pause(subscription.key(), false)).unwrap();
    assert_eq!(ids(&node.take(&mut consumer)), ["3", "4", "5"]);
    node.run(node.broker.seek(&subscription, SeekTo::End)).unwrap();
    assert!(node.take(&mut consumer).is_empty());
    let browsed =
        node.run(node.broker.browse(&node.broker.topic(&key("t")).unwrap(), 4, Limits::default()));
    assert_eq!(browsed.unwrap().len(), 2);
}

#[test]
fn who_waits_beyond_the_end_is_told() {
    let node = Node::new();
    let log = topic(&node, "t");
    node.publish(log.clone(), &[publish("1")]);
    node.run(node.broker.until_beyond(&log, 0)).unwrap();
    assert!(node.try_run(node.broker.until_beyond(&log, 1)).is_none());
    let target = PublishTarget::Topic(log.clone());
    let messages = [publish("2")];
    let both = async {
        tokio::join!(
            node.broker.until_beyond(&log, 1),
            node.broker.publish(&target, &messages, None)
        )
    };
    let (waited, published) = node.run(both);
    waited.unwrap();
    published.unwrap();
}

#[test]
fn who_waits_is_told_of_what_counts_as_done_before_it_is_seen() {
    let node = Node::new();
    for durability in [Durability::Memory, Durability::Os, Durability::Fsync] {
        let options = TopicOptions { durability, ..TopicOptions::default() };
        let name = key(durability.word());
        let log = node.run(node.broker.declare_topic(&name, options)).unwrap();
        for position in 0..3 {
            let mut batch = node.broker.batch();
            batch.topic(&log, &publish(&position.to_string()), None).unwrap();
            node.broker.submit(batch).unwrap();
            node.run(node.broker.until_beyond(&log, position)).unwrap();
            assert_eq!(node.broker.topic_view(&log).end, position + 1);
        }
    }
}

#[test]
fn the_last_message_of_each_key_is_found() {
    let node = Node::new();
    let options = TopicOptions { compact: true, ..TopicOptions::default() };
    let prices = node.run(node.broker.declare_topic(&key("prices"), options)).unwrap();
    let of = |id: &str, key: &'static str| publish(id).keyed(key);
    node.publish(prices.clone(), &[of("1", "a"), of("2", "b"), of("3", "a")]);
    let last = node.run(node.broker.last(&prices, b"a")).unwrap().unwrap();
    assert_eq!(
        (crate::node::id(last.message.as_ref().unwrap()), last.position),
        ("3".to_owned(), 2)
    );
    node.publish(prices.clone(), &[of("4", "a")]);
    for (name, id) in [("a", "4"), ("b", "2")] {
        let last = node.run(node.broker.last(&prices, name.as_bytes())).unwrap().unwrap();
        assert_eq!(crate::node::id(last.message.as_ref().unwrap()), id);
    }
    assert!(node.run(node.broker.last(&prices, b"none")).unwrap().is_none());
    let keyless =
        node.run(node.broker.publish(&PublishTarget::Topic(prices), &[publish("5")], None));
    assert_eq!(keyless.unwrap_err().reason(), Reason::MalformedMessage);
    let plain = topic(&node, "plain");
    let error = node.run(node.broker.last(&plain, b"a")).unwrap_err();
    assert_eq!(error.reason(), Reason::DefinitionConflict);
}

#[test]
fn a_last_value_that_is_damaged_is_told_and_no_older_one_is_given_for_it() {
    for asked_before in [false, true] {
        let node = Node::new();
        let options = TopicOptions { compact: true, ..TopicOptions::default() };
        let prices = node.run(node.broker.declare_topic(&key("prices"), options)).unwrap();
        let of = |id: &str, key: &'static str| {
            Publish::new(event(id, "test", &format!("{id} {}", "x".repeat(20_000)))).keyed(key)
        };
        node.publish(prices.clone(), &[of("old", "a"), of("other", "b")]);
        node.publish(prices.clone(), &[of("spoiled", "a"), of("later", "c")]);
        let last =
            |node: &Node, name: &'static str| node.run(node.broker.last(&prices, name.as_bytes()));
        if asked_before {
            assert_eq!(last(&node, "a").unwrap().unwrap().position, 2);
        }
        // Written behind, and out of memory.
        let filler = topic(&node, "filler");
        let find = || {
            node.disk.files().into_iter().find_map(|(path, _)| {
                let bytes = node.disk.contents(&path).filter(|_| path.starts_with("segments/"))?;
                let at = bytes.windows(11).position(|window| window == b"spoiled xxx")?;
                Some((path, at as u64))
            })
        };
        let mut segment = None;
        for number in 0..500 {
            node.publish(filler.clone(), &[of(&number.to_string(), "f")]);
            node.settle_down();
            segment = find();
            if segment.is_some() {
                break;
            }
        }
        let (path, at) = segment.expect("the topic is in a segment");
        assert!(node.disk.flip(&path, (at + 100) * 8));
        let error = last(&node, "a").unwrap_err();
        assert_eq!(error.reason(), Reason::StorageCorrupt);
        assert!(error.detail().contains("position 2"), "{}", error.detail());
        // Whose it was is known where it was read before.
        assert_eq!(last(&node, "b").is_ok(), asked_before);
        assert_eq!(last(&node, "c").unwrap().unwrap().position, 3);
        node.publish(prices.clone(), &[of("new", "a")]);
        assert_eq!(last(&node, "a").unwrap().unwrap().position, 4);
    }
}

/// A subscription of the topic `t` that leads to the queue `work`.
fn subscribe_to_work(node: &Node) -> Arc<Subscription> {
    let target = SubscriptionTarget::Queue("work".into());
    subscribe(node, "t", "s", SubscriptionOptions { target, ..SubscriptionOptions::default() })
}

#[test]
fn a_subscription_that_leads_to_a_queue_is_forwarded_and_held_back_when_it_is_full() {
    let node = Node::new();
    let log = topic(&node, "t");
    let subscription = subscribe_to_work(&node);
    node.publish(log.clone(), &[publish("1"), publish("2")]);
    node.pass(Duration::ZERO);
    assert_eq!(node.broker.subscription_view(&subscription).lag, 2, "the queue is not there");
    let limit = weft_broker::QueueLimit { messages: Some(2), ..Default::default() };
    let queue = node
        .run(node.broker.declare_queue(&key("work"), QueueOptions { limit, ..Default::default() }))
        .unwrap();
    node.pass(Duration::ZERO);
    assert_eq!(node.broker.subscription_view(&subscription).lag, 0);
    node.publish(log, &[publish("3")]);
    node.pass(Duration::ZERO);
    assert_eq!(node.broker.subscription_view(&subscription).waiting, 1, "the queue is full");
    let mut consumer = node.consumer(queue);
    let taken = node.take(&mut consumer);
    assert_eq!(ids(&taken), ["1", "2"]);
    node.settle(&consumer, &taken[0], Verdict::Accept);
    node.pass(Duration::from_secs(2));
    assert_eq!(ids(&node.take(&mut consumer)), ["3"]);
}

#[test]
fn forwarding_waits_while_the_store_is_busy() {
    let node = Node::new();
    let log = topic(&node, "t");
    let subscription = subscribe_to_work(&node);
    let declare = |name| node.run(node.broker.declare_queue(&key(name), QueueOptions::default()));
    let (work, other) = (declare("work").unwrap(), declare("other").unwrap());
    node.pass(Duration::ZERO);
    node.publish(log, &[publish("1"), publish("2")]);
    node.fill(&other);
    node.run(node.broker.maintain_once()).unwrap();
    let view = node.broker.subscription_view(&subscription);
    assert_eq!((view.leased, view.lag), (0, 0));
    let mut consumer = node.consumer(work);
    assert_eq!(ids(&node.take(&mut consumer)), ["1", "2"]);
}

#[test]
fn an_ephemeral_subscription_goes_when_it_is_unused() {
    let node = Node::new();
    topic(&node, "t");
    let options = SubscriptionOptions {
        ephemeral: Some(Duration::from_secs(30)),
        ..SubscriptionOptions::default()
    };
    let subscription = subscribe(&node, "t", "s", options);
    node.pass(Duration::from_secs(20));
    let consumer = node.consumer(subscription.clone());
    node.pass(Duration::from_secs(20));
    drop(consumer);
    node.pass(Duration::from_secs(20));
    assert!(!subscription.is_deleted());
    node.pass(Duration::from_secs(15));
    assert!(subscription.is_deleted());
    let source = MessageSource::Subscription(subscription);
    let error = node.broker.consume(source, Default::default()).unwrap_err();
    assert_eq!(error.reason(), Reason::NoSubscription);
}

#[test]
fn a_start_beyond_the_end_is_refused() {
    let node = Node::new();
    let t = topic(&node, "t");
    node.publish(t.clone(), &[publish("0"), publish("1"), publish("2")]);
    let declare = |name: &str, start: Start| {
        let options = SubscriptionOptions { start, ..Default::default() };
        let name = SubscriptionKey::new(&key("t"), name).unwrap();
        node.run(node.broker.declare_subscription(&name, options))
    };
    for beyond in [4, 5, u64::MAX] {
        let refused = declare("s", Start::Position(beyond)).unwrap_err();
        assert_eq!(refused.reason(), Reason::PositionConflict);
        assert!(refused.said().contains("ends at 3"), "{}", refused.said());
    }
    // The end itself is where the next message will be, and a time may be one that is to come.
    let at_end = declare("s", Start::Position(3)).unwrap();
    let future = declare("f", Start::Time(START_MS + 1_000)).unwrap();
    node.publish(t.clone(), &[publish("3")]);
    assert_eq!(ids(&node.take(&mut node.consumer(at_end.clone()))), ["3"]);
    let sought = node.run(node.broker.seek(&at_end, SeekTo::Position(9))).unwrap_err();
    assert_eq!(sought.reason(), Reason::PositionConflict);
    node.run(node.broker.seek(&at_end, SeekTo::Position(4))).unwrap();
    drop(future);
    // What was declared when it could be starts where it did, whatever the topic holds now.
    let node = node.crash(&mut Rng::seeded(1));
    node.broker.subscription(&SubscriptionKey::new(&key("t"), "s").unwrap()).unwrap();
}

#[test]
fn a_topic_is_found_once_it_is_defined_and_not_before() {
    let node = Node::new();
    let name = key("t");
    let wild = SubscriptionKey::new(&key("*"), "w").unwrap();
    let options = SubscriptionOptions { start: Start::First, ..Default::default() };
    node.run(node.broker.declare_subscription(&wild, options)).unwrap();
    {
        let mut declaring =
            std::pin::pin!(node.broker.declare_topic(&name, TopicOptions::default()));
        let publishing = async {
            let topic = std::future::poll_fn(|context| {
                let done = declaring.as_mut().poll(context).is_ready();
                match node.broker.topic(&name) {
                    Ok(topic) => Poll::Ready(topic),
                    Err(_) if done => panic!("it is declared and cannot be found"),
                    Err(_) => Poll::Pending,
                }
            })
            .await;
            let messages = [publish("1")];
            node.broker.publish(&PublishTarget::Topic(topic), &messages, None).await.unwrap();
        };
        node.run(publishing);
    }
    let node = node.crash(&mut Rng::seeded(1));
    assert!(node.broker.topic(&key("t")).is_ok(), "what was acknowledged in it is there");
    let mut consumer = node.consumer(node.broker.subscription(&wild).unwrap());
    assert_eq!(ids(&node.take(&mut consumer)), ["1"]);
}

#[test]
fn skipping_passes_over_what_somebody_holds_and_leaves_what_comes_behind() {
    let node = Node::new();
    let t = topic(&node, "t");
    let s = subscribe(&node, "t", "s", SubscriptionOptions::default());
    node.publish(t.clone(), &[publish("0"), publish("1"), publish("2"), publish("3")]);
    let mut consumer = node.consumer(s.clone());
    let taken = node.take(&mut consumer);
    // 2 and 3 are settled; 1 fails and waits; 0 is held.
    node.settle(&consumer, &taken[2], Verdict::Accept);
    node.settle(&consumer, &taken[1], crate::node::fail("x"));
    node.run(node.broker.skip_one(&s, 0)).unwrap();
    let late = node.run(consumer.settle(&[(taken[0].lease.clone(), Verdict::Accept)])).unwrap();
    assert_eq!(late.lost, [0], "who held it is told");
    let view = node.broker.subscription_view(&s);
    assert_eq!((view.lag, view.leased, view.waiting), (2, 1, 1), "1 waits, and 3 is held");
    let history = node
        .run(node.broker.peek(&MessageSource::Subscription(s.clone()), None, 1, Limits::default()))
        .unwrap();
    assert_eq!(history[0].failures, 1);
    node.run(node.broker.skip_one(&s, 1)).unwrap();
    let gone = node.run(node.broker.skip_one(&s, 2)).unwrap_err();
    assert_eq!(gone.reason(), Reason::NoMessage);
    node.settle(&consumer, &taken[3], Verdict::Accept);
    assert_eq!(node.broker.subscription_view(&s).lag, 0);
}

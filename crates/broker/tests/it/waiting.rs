//! What waits for room among the dead letters waits on after the node was stopped in order.

use std::{sync::Arc, time::Duration};

use weft_broker::{
    Cause, DeadLetter, MessageSource, OnFailure, Order, Queue, QueueLimit, QueueOptions,
    SubscriptionKey, SubscriptionOptions, TopicOptions, Verdict,
};

use crate::node::{Node, fail, ids, key, publish};

/// A queue for dead letters without room.
fn full(node: &Node) -> Arc<Queue> {
    let limit = QueueLimit { messages: Some(1), ..Default::default() };
    let options = QueueOptions { limit, ..Default::default() };
    let full = node.run(node.broker.declare_queue(&key("full"), options)).unwrap();
    node.publish(full.clone(), &[publish("in the way")]);
    full
}

/// How many wait, and how many are ready.
fn waiting(node: &Node, source: &MessageSource) -> (u64, u64) {
    match source {
        MessageSource::Queue(queue) => {
            let view = node.broker.queue_view(queue);
            assert_eq!((view.leased, view.waiting), (0, 0));
            (view.dead_letters_waiting, view.ready)
        }
        MessageSource::Subscription(subscription) => {
            let view = node.broker.subscription_view(subscription);
            assert_eq!((view.leased, view.waiting), (0, 0));
            (view.dead_letters_waiting, view.ready)
        }
    }
}

#[test]
fn a_stop_in_order_keeps_what_waits_for_room_and_its_story() {
    let parks = Order::Key { on_failure: OnFailure::Park };
    for (topic, order) in [(false, Order::None), (false, parks), (true, Order::None), (true, parks)]
    {
        let mut node = Node::new();
        let to = DeadLetter::To("full".into());
        full(&node);
        let name = SubscriptionKey::new(&key("t"), "work").unwrap();
        if topic {
            let topic =
                node.run(node.broker.declare_topic(&key("t"), TopicOptions::default())).unwrap();
            let options = SubscriptionOptions {
                order,
                dead_letter: to,
                failures_max: Some(1),
                ..Default::default()
            };
            node.run(node.broker.declare_subscription(&name, options)).unwrap();
            node.publish(topic, &[publish("1").keyed("a"), publish("2").keyed("a")]);
        } else {
            let options = QueueOptions {
                order,
                dead_letter: to,
                failures_max: Some(1),
                ..Default::default()
            };
            let queue = node.run(node.broker.declare_queue(&key("work"), options)).unwrap();
            node.publish(queue, &[publish("1").keyed("a"), publish("2").keyed("a")]);
        }
        let source = |node: &Node| {
            if topic {
                MessageSource::Subscription(node.broker.subscription(&name).unwrap())
            } else {
                MessageSource::Queue(node.broker.queue(&key("work")).unwrap())
            }
        };
        let mut consumer = node.consumer(source(&node));
        let taken = node.run(consumer.try_batch(1)).unwrap();
        node.settle(&consumer, &taken[0], fail("no stock"));
        // Maintenance has it before its consumer goes.
        node.pass(Duration::ZERO);
        drop(consumer);
        assert_eq!(waiting(&node, &source(&node)), (1, 1));
        for _ in 0..2 {
            node = node.stop();
            node.pass(Duration::ZERO);
            assert_eq!(waiting(&node, &source(&node)), (1, 1), "topic {topic}, {order:?}");
            // What stands behind it in its order waits with it.
            let mut consumer = node.consumer(source(&node));
            let next: &[&str] = if order == Order::None { &["2"] } else { &[] };
            let taken = node.take(&mut consumer);
            assert_eq!(ids(&taken), next, "topic {topic}, {order:?}");
            for delivery in &taken {
                node.settle(&consumer, delivery, Verdict::Release);
            }
        }
        let full = node.broker.queue(&key("full")).unwrap();
        node.run(node.broker.purge(&MessageSource::Queue(full.clone()))).unwrap();
        node.pass(Duration::from_secs(11));
        assert_eq!(waiting(&node, &source(&node)), (0, 1));
        let mut dead = node.consumer(full);
        let taken = node.take(&mut dead);
        let death = taken[0].message.death().unwrap();
        assert_eq!(
            (death.cause, &*death.reason, death.failures, death.handouts, death.history.count()),
            (Cause::Failures, "no stock", 1, 1, 1)
        );
        assert_eq!(node.broker.parked_keys(&source(&node)).len(), usize::from(order == parks));
    }
}

#[test]
fn what_was_dealt_with_after_a_stop_stays_so() {
    let mut node = Node::new();
    full(&node);
    let to = DeadLetter::To("full".into());
    let options = QueueOptions { dead_letter: to, failures_max: Some(1), ..Default::default() };
    let work = node.run(node.broker.declare_queue(&key("work"), options)).unwrap();
    node.publish(work.clone(), &[publish("1")]);
    let mut consumer = node.consumer(work);
    let taken = node.take(&mut consumer);
    node.settle(&consumer, &taken[0], fail("no stock"));
    node.pass(Duration::ZERO);
    drop(consumer);
    node = node.stop();
    node.pass(Duration::ZERO);
    let work = node.broker.queue(&key("work")).unwrap();
    node.run(node.broker.remove(&work, 0)).unwrap();
    for _ in 0..2 {
        node.pass(Duration::from_secs(11));
        let work = MessageSource::Queue(node.broker.queue(&key("work")).unwrap());
        assert_eq!(waiting(&node, &work), (0, 0));
        node = node.stop();
    }
}

//! What a consumer held that went away, and what may have been out before a crash.

use std::{sync::Arc, time::Duration};

use weft_broker::{
    ConsumerOptions, MessageSource, Queue, QueueOptions, SubscriptionKey, SubscriptionOptions,
    TopicOptions, Verdict,
};
use weft_kernel::Rng;

use crate::node::{Node, ids, key, publish};

fn lossy() -> ConsumerOptions {
    ConsumerOptions { counts_loss: true, ..ConsumerOptions::default() }
}

fn declare(node: &Node, name: &str, failures_max: Option<u32>) -> Arc<Queue> {
    let options = QueueOptions { failures_max, ..QueueOptions::default() };
    node.run(node.broker.declare_queue(&key(name), options)).unwrap()
}

#[test]
fn a_message_that_ends_its_consumer_again_and_again_dies() {
    let node = Node::new();
    let queue = declare(&node, "q", Some(3));
    node.publish(Arc::clone(&queue), &[publish("killer")]);
    for failures in 0..3 {
        let mut consumer = node.broker.consume(Arc::clone(&queue), lossy()).unwrap();
        let taken = node.take(&mut consumer);
        assert_eq!(ids(&taken), ["killer"]);
        assert_eq!(taken[0].lease.failures, failures);
        drop(consumer);
        // The first time it is there at once, later after a while.
        node.pass(Duration::ZERO);
        let mut other = node.consumer(Arc::clone(&queue));
        assert_eq!(node.take(&mut other).len(), usize::from(failures == 0));
        drop(other);
        node.pass(Duration::from_secs(60));
    }
    let mut consumer = node.consumer(Arc::clone(&queue));
    assert!(node.take(&mut consumer).is_empty());
    let dead = node.broker.queue(&key("q.dead")).unwrap();
    let mut consumer = node.consumer(dead);
    assert_eq!(node.take(&mut consumer).len(), 1);
}

#[test]
fn what_is_forgiven_or_may_fail_for_ever_is_given_back_without_fault() {
    let node = Node::new();
    let (bounded, unbounded) = (declare(&node, "bounded", Some(2)), declare(&node, "un", None));
    for queue in [&bounded, &unbounded] {
        node.publish(Arc::clone(queue), &[publish("m")]);
        for handouts in 1..10 {
            let mut consumer = node.broker.consume(Arc::clone(queue), lossy()).unwrap();
            let taken = node.take(&mut consumer);
            assert_eq!((taken[0].lease.failures, taken[0].lease.handouts), (0, handouts));
            if Arc::ptr_eq(queue, &bounded) {
                consumer.forgive();
            }
            drop(consumer);
            node.pass(Duration::ZERO);
        }
    }
}

#[test]
fn what_was_settled_before_the_consumer_went_away_is_settled() {
    let node = Node::new();
    let queue = declare(&node, "q", Some(1));
    node.publish(Arc::clone(&queue), &[publish("a"), publish("b"), publish("c")]);
    let mut consumer = node.broker.consume(Arc::clone(&queue), lossy()).unwrap();
    let taken = node.take(&mut consumer);
    node.settle(&consumer, &taken[0], Verdict::Accept);
    node.settle(&consumer, &taken[1], Verdict::Release);
    drop(consumer);
    node.pass(Duration::ZERO);
    let mut left = node.consumer(Arc::clone(&queue));
    assert_eq!(ids(&node.take(&mut left)), ["b"]);
    let dead = node.broker.queue(&key("q.dead")).unwrap();
    let mut dead = node.consumer(dead);
    assert_eq!(ids(&node.take(&mut dead)), ["c"]);
}

#[test]
fn what_may_have_been_out_before_a_crash_is_told() {
    let mut node = Node::new();
    let topic = node.run(node.broker.declare_topic(&key("t"), TopicOptions::default())).unwrap();
    let of = |name: &str| SubscriptionKey::new(&key("t"), name).unwrap();
    for name in ["read", "idle"] {
        let options = SubscriptionOptions::default();
        node.run(node.broker.declare_subscription(&of(name), options)).unwrap();
    }
    let queue = declare(&node, "q", Some(10));
    node.publish(queue, &[publish("a"), publish("b")]);
    node.publish(topic, &[publish("a"), publish("b")]);
    let sources = |node: &Node| -> [MessageSource; 3] {
        [
            node.broker.queue(&key("q")).unwrap().into(),
            node.broker.subscription(&of("read")).unwrap().into(),
            node.broker.subscription(&of("idle")).unwrap().into(),
        ]
    };
    for source in &sources(&node)[..2] {
        let mut consumer = node.consumer(source.clone());
        let taken = node.run(consumer.try_batch(1)).unwrap();
        assert_eq!(taken[0].lease.handouts, 1);
        consumer.detach();
    }
    node = node.crash(&mut Rng::seeded(3));
    // What was found out at one opening is known at the next.
    node.broker.close();
    node.settle_down();
    node = node.crash(&mut Rng::seeded(4));
    node.publish(node.broker.queue(&key("q")).unwrap(), &[publish("c")]);
    node.publish(node.broker.topic(&key("t")).unwrap(), &[publish("c")]);
    let [queue, read, idle] = sources(&node);
    for (source, handouts) in [(queue, [2, 2, 1]), (read, [2, 2, 1]), (idle, [1, 1, 1])] {
        let mut consumer = node.consumer(source);
        let taken = node.take(&mut consumer);
        assert_eq!(ids(&taken), ["a", "b", "c"]);
        let found: Vec<_> = taken.iter().map(|one| one.lease.handouts).collect();
        assert_eq!(found, handouts);
    }
}

//! Limits by bytes: what is ready counts, to the byte, and nothing else does.

use std::{sync::Arc, time::Duration};

use weft_broker::{Overflow, Publish, PublishTarget, Queue, QueueLimit, QueueOptions, Verdict};
use weft_kernel::{Reason, Rng};

use crate::node::{Node, event, fail, key};

const LIMIT: u64 = 100_000;

fn of(bytes: usize) -> Publish {
    Publish::new(event("1", "test", &"x".repeat(bytes)))
}

fn queue(node: &Node, name: &str, transient: bool, overflow: Overflow) -> Arc<Queue> {
    let limit = QueueLimit { bytes: Some(LIMIT), overflow, ..QueueLimit::default() };
    let options = QueueOptions { limit, transient, dedupe: None, ..QueueOptions::default() };
    node.run(node.broker.declare_queue(&key(name), options)).unwrap()
}

/// Publishes one after another: how many were taken.
fn publish(node: &Node, queue: &Arc<Queue>, count: usize, bytes: usize) -> usize {
    let publish = |_: &usize| {
        let target = PublishTarget::Queue(Arc::clone(queue));
        match node.run(node.broker.publish(&target, &[of(bytes)], None)) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.reason(), Reason::QueueFull);
                false
            }
        }
    };
    (0..count).filter(publish).count()
}

fn all(check: impl Fn(&Node, Arc<Queue>, bool)) {
    let node = Node::new();
    for transient in [false, true] {
        for drops in [false, true] {
            let overflow =
                if drops { Overflow::DropOldest { dead_letter: false } } else { Overflow::Refuse };
            let queue = queue(&node, &format!("q{transient}{drops}"), transient, overflow);
            check(&node, queue, drops);
        }
    }
}

#[test]
fn small_messages_beside_large_ones_that_are_handed_out_are_kept() {
    all(|node, queue, _| {
        let mut consumer = node.consumer(queue.clone());
        let mut held = Vec::new();
        for _ in 0..3 {
            publish(node, &queue, 1, 45_000);
            held.extend(node.take(&mut consumer));
        }
        assert_eq!(held.len(), 3);
        assert_eq!(publish(node, &queue, 50, 100), 50);
        let view = node.broker.queue_view(&queue);
        assert_eq!((view.ready, view.leased, view.counts.dropped), (50, 3, 0), "{}", queue.key());
        // Given back they count, and there is room for two of them.
        let last = held.pop().unwrap();
        node.settle(&consumer, &last, Verdict::Accept);
        for delivery in &held {
            node.settle(&consumer, delivery, Verdict::Release);
        }
        let view = node.broker.queue_view(&queue);
        assert_eq!((view.ready, view.leased, view.counts.dropped), (52, 0, 0), "{}", queue.key());
    });
}

#[test]
fn large_messages_beside_small_ones_that_are_handed_out_stay_within_the_limit() {
    all(|node, queue, drops| {
        let mut consumer = node.consumer(queue.clone());
        publish(node, &queue, 30, 100);
        let held: Vec<_> = (0..3).flat_map(|_| node.take(&mut consumer)).collect();
        assert_eq!(held.len(), 30);
        assert_eq!(publish(node, &queue, 8, 30_000), if drops { 8 } else { 3 });
        let view = node.broker.queue_view(&queue);
        assert_eq!((view.ready, view.leased), (3, 30), "{}", queue.key());
    });
}

#[test]
fn small_messages_beside_large_ones_that_wait_for_their_retry_are_kept() {
    for (transient, restarts) in [(false, false), (true, false), (false, true)] {
        let mut node = Node::new();
        let mut queue = queue(&node, "q", transient, Overflow::DropOldest { dead_letter: false });
        let mut consumer = node.consumer(queue.clone());
        publish(&node, &queue, 2, 45_000);
        for delivery in node.take(&mut consumer) {
            let later =
                Verdict::Fail { reason: "later".into(), delay: Some(Duration::from_secs(3600)) };
            node.settle(&consumer, &delivery, later);
        }
        if restarts {
            drop((consumer, queue));
            node = node.crash(&mut Rng::seeded(1));
            queue = node.broker.queue(&key("q")).unwrap();
        }
        assert_eq!(publish(&node, &queue, 100, 100), 100);
        let view = node.broker.queue_view(&queue);
        assert_eq!(
            (view.ready, view.waiting, view.counts.dropped),
            (100, 2, 0),
            "{transient} {restarts}"
        );
    }
}

#[test]
fn large_messages_that_are_given_up_by_their_failure_leave_the_count_right() {
    all(|node, queue, drops| {
        let mut consumer = node.consumer(queue.clone());
        publish(node, &queue, 2, 45_000);
        for delivery in node.take(&mut consumer) {
            node.settle(&consumer, &delivery, fail("no"));
        }
        // Of the large ones that wait there may be others by the time that they are ready.
        node.pass(Duration::from_secs(60));
        publish(node, &queue, 3, 45_000);
        let view = node.broker.queue_view(&queue);
        assert_eq!((view.ready, view.waiting), (2, 0), "{}", queue.key());
        assert_eq!(view.counts.dropped, if drops { 3 } else { 0 });
    });
}

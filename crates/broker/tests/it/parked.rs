//! Parked keys are free again once nobody has a dead letter of them to deal with.

use std::{sync::Arc, time::Duration};

use weft_broker::{
    DeadLetter, MessageSource, OnFailure, Order, Publish, PublishTarget, Queue, QueueOptions,
    RedriveOptions, SubscriptionKey, SubscriptionOptions, TopicOptions, Verdict, dead::DEAD_FOR,
};
use weft_kernel::Rng;

use crate::node::{Node, ids, key, publish, reject};

const PARK: Order = Order::Key { on_failure: OnFailure::Park };

fn queue(node: &Node, name: &str, options: QueueOptions) -> Arc<Queue> {
    node.run(node.broker.declare_queue(&key(name), options)).unwrap()
}

fn of(id: &str, key: &'static str) -> Publish {
    publish(id).keyed(key)
}

/// Rejects all that is handed out.
fn kill(node: &Node, source: impl Into<MessageSource>) -> Vec<String> {
    let mut consumer = node.consumer(source);
    let taken = node.take(&mut consumer);
    for delivery in &taken {
        node.settle(&consumer, delivery, reject("bad"));
    }
    ids(&taken)
}

/// Accepts so many of what is there.
fn accept(node: &Node, source: impl Into<MessageSource>, most: usize) -> Vec<String> {
    let mut consumer = node.consumer(source);
    let mut taken = node.take(&mut consumer);
    let rest = taken.split_off(most.min(taken.len()));
    taken.iter().for_each(|delivery| node.settle(&consumer, delivery, Verdict::Accept));
    rest.iter().for_each(|delivery| node.settle(&consumer, delivery, Verdict::Release));
    ids(&taken)
}

fn accepted(node: &Node, dead: &Arc<Queue>) {
    assert_eq!(accept(node, dead.clone(), 1), ["a1"]);
}

fn purged(node: &Node, dead: &Arc<Queue>) {
    node.run(node.broker.purge(&MessageSource::Queue(dead.clone()))).unwrap();
}

fn removed(node: &Node, dead: &Arc<Queue>) {
    node.run(node.broker.remove(dead, 0)).unwrap();
}

fn deleted(node: &Node, dead: &Arc<Queue>) {
    node.run(node.broker.delete_queue(dead.key(), None)).unwrap();
}

fn expired(node: &Node, _: &Arc<Queue>) {
    node.pass(DEAD_FOR);
}

fn sent_elsewhere(node: &Node, dead: &Arc<Queue>) {
    let other = queue(node, "other", QueueOptions::default());
    let (to, options) = (PublishTarget::Queue(other), RedriveOptions::default());
    let back = node.run(node.broker.redrive(dead, Some(&to), &options)).unwrap();
    assert_eq!(back.redriven, 1);
}

type Deal = fn(&Node, &Arc<Queue>);

#[test]
fn whoever_deals_with_the_dead_letter_of_a_key_frees_it() {
    let ways: [(&str, Deal); 6] = [
        ("accepted", accepted),
        ("purged", purged),
        ("removed", removed),
        ("deleted", deleted),
        ("expired", expired),
        ("sent elsewhere", sent_elsewhere),
    ];
    for (how, deal) in ways {
        for crash in [false, true] {
            let mut node = Node::new();
            let work = queue(&node, "work", QueueOptions { order: PARK, ..Default::default() });
            node.publish(work.clone(), &[of("a1", "a"), of("b1", "b")]);
            assert_eq!(kill(&node, work), ["a1", "b1"]);
            let dead = node.broker.queue(&key("work.dead")).unwrap();
            node.run(node.broker.remove(&dead, 1)).unwrap();
            if crash {
                node = node.crash(&mut Rng::seeded(3));
            }
            let work = node.broker.queue(&key("work")).unwrap();
            let dead = node.broker.queue(&key("work.dead")).unwrap();
            let source = MessageSource::Queue(work.clone());
            for _ in 0..3 {
                node.pass(Duration::from_secs(1));
                assert_eq!(
                    node.broker.parked_keys(&source),
                    ["a"],
                    "{how}: its dead letter is there"
                );
            }
            deal(&node, &dead);
            node.pass(Duration::from_secs(1));
            assert!(node.broker.parked_keys(&source).is_empty(), "{how}, crash {crash}");
            node.publish(work.clone(), &[of("a2", "a")]);
            assert_eq!(accept(&node, work, 9), ["a2"], "{how}: the key goes on");
            let node = node.crash(&mut Rng::seeded(4));
            let work = node.broker.queue(&key("work")).unwrap();
            assert!(
                node.broker.parked_keys(&MessageSource::Queue(work)).is_empty(),
                "{how}: for good"
            );
        }
    }
}

#[test]
fn a_key_stays_parked_while_another_dead_letter_of_it_is_there() {
    for crash in [false, true] {
        let mut node = Node::new();
        let morgue = DeadLetter::To("morgue".into());
        let options = QueueOptions { order: PARK, dead_letter: morgue, ..Default::default() };
        for name in ["one", "two"] {
            let queue = queue(&node, name, options.clone());
            node.publish(queue.clone(), &[of(&format!("{name} 1"), "a")]);
            assert_eq!(kill(&node, queue.clone()).len(), 1);
            node.publish(queue.clone(), &[of(&format!("{name} 2"), "a")]);
            assert!(kill(&node, queue).is_empty(), "it follows");
        }
        node.settle_down();
        if crash {
            node = node.crash(&mut Rng::seeded(5));
        }
        let source = |name: &str| MessageSource::Queue(node.broker.queue(&key(name)).unwrap());
        let parked = || ["one", "two"].map(|name| node.broker.parked_keys(&source(name)).len());
        let morgue = node.broker.queue(&key("morgue")).unwrap();
        let mut left = Vec::new();
        for expected in [[1, 1], [1, 1], [0, 1], [0, 1], [0, 0]] {
            node.pass(Duration::from_secs(1));
            assert_eq!(parked(), expected, "crash {crash}, after {left:?}");
            left.extend(accept(&node, morgue.clone(), 1));
        }
        assert_eq!(left, ["one 1", "one 2", "two 1", "two 2"]);
    }
}

#[test]
fn a_subscription_is_free_again_as_a_queue_is() {
    let node = Node::new();
    let topic = node.run(node.broker.declare_topic(&key("t"), TopicOptions::default())).unwrap();
    let name = SubscriptionKey::new(&key("t"), "s").unwrap();
    let options = SubscriptionOptions { order: PARK, ..Default::default() };
    let subscription = node.run(node.broker.declare_subscription(&name, options)).unwrap();
    node.publish(topic.clone(), &[of("a1", "a")]);
    assert_eq!(kill(&node, subscription.clone()), ["a1"]);
    let source = MessageSource::Subscription(subscription.clone());
    node.pass(Duration::from_secs(1));
    assert_eq!(node.broker.parked_keys(&source), ["a"]);
    accepted(&node, &node.broker.queue(&key("s.dead")).unwrap());
    node.pass(Duration::from_secs(1));
    assert!(node.broker.parked_keys(&source).is_empty());
    node.publish(topic, &[of("a2", "a")]);
    assert_eq!(accept(&node, subscription, 9), ["a2"]);
}

#[test]
fn a_key_that_dies_again_is_parked_again() {
    let node = Node::new();
    let work = queue(&node, "work", QueueOptions { order: PARK, ..Default::default() });
    let source = MessageSource::Queue(work.clone());
    for n in 0..3 {
        node.publish(work.clone(), &[of("a1", "a")]);
        assert_eq!(kill(&node, work.clone()), ["a1"], "round {n}");
        node.pass(Duration::from_secs(1));
        assert_eq!(node.broker.parked_keys(&source), ["a"], "round {n}");
        let dead = node.broker.queue(&key("work.dead")).unwrap();
        if n == 1 {
            // Sent back, it is free with its first message, and nothing of it is left to free.
            node.run(node.broker.redrive(&dead, None, &RedriveOptions::default())).unwrap();
            assert!(node.broker.parked_keys(&source).is_empty());
            assert_eq!(accept(&node, work.clone(), 9), ["a1"]);
        } else {
            accepted(&node, &dead);
        }
        node.pass(Duration::from_secs(1));
        assert!(node.broker.parked_keys(&source).is_empty(), "round {n}");
    }
}

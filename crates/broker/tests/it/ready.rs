//! What is ready is handed out, wherever it is and whoever else is about to take some of it.

use weft_broker::{
    Consumer, ConsumerOptions, Publish, QueueOptions, SubscriptionKey, SubscriptionOptions,
    TopicOptions, filter::FilterOptions,
};
use weft_ledger::{ConsumerId, LeaseLimits};

use crate::node::{Node, event, key, publish};

/// So much that it is not kept in memory.
const BODY: usize = 4_000;

/// So many more are still in the write-ahead log.
const BEHIND: usize = 3_000;

/// A node that has begun anew with at least so many messages in a queue, all of them on the disk.
fn cold(messages: usize) -> Node {
    let node = Node::new();
    let queue = node.run(node.broker.declare_queue(&key("q"), QueueOptions::default())).unwrap();
    let body = "x".repeat(BODY);
    let publish = |number: usize| Publish::new(event(&number.to_string(), "test", &body));
    let all: Vec<_> = (0..messages + BEHIND).map(publish).collect();
    for some in all.chunks(50) {
        node.publish(queue.clone(), some);
        node.settle_down();
    }
    node.stop()
}

fn consumer(node: &Node, options: ConsumerOptions) -> Consumer {
    node.broker.consume(node.broker.queue(&key("q")).unwrap(), options).unwrap()
}

#[test]
fn who_asks_while_another_reads_from_the_disk_is_not_told_there_is_nothing() {
    let node = cold(600);
    let mut consumer = consumer(&node, ConsumerOptions::default());
    let queue = node.broker.queue(&key("q")).unwrap();
    let store = node.broker.shared_store();
    let (group, _) = node.run(store.find_group("q//q")).unwrap().unwrap();
    let ask =
        LeaseLimits { consumer: ConsumerId::SYSTEM, records: 1, bytes: u64::MAX, lease: None };
    // It has begun to read, and reads on when it is polled.
    let reading = store.lease(group, ask);
    assert!(node.try_run(consumer.try_batch(5)).is_none(), "it waits for what is being read");
    let single = async || node.broker.take_ready(&queue, 1, None).await.unwrap().0.len();
    let (first, taken, one) =
        node.run(async { tokio::join!(reading, consumer.try_batch(5), single()) });
    assert_eq!((first.unwrap().len(), taken.unwrap().len(), one), (1, 5, 1));
    // Who gives up while it reads leaves the others nothing to wait for.
    for _ in 0..300 {
        drop(store.lease(group, ask));
        assert_eq!(node.run(single()), 1);
    }
}

#[test]
fn a_batch_is_as_large_as_was_asked_for_within_the_bytes() {
    let node = cold(900);
    let options = ConsumerOptions { prefetch: 700, ..ConsumerOptions::default() };
    let taken = node.run(consumer(&node, options).try_batch(700)).unwrap();
    assert_eq!(taken.len(), 700);
    // Each has a few bytes more than its body.
    let bytes = 500 * BODY as u64;
    let options = ConsumerOptions { prefetch: 900, prefetch_bytes: bytes, ..options };
    let taken = node.run(consumer(&node, options).try_batch(900)).unwrap();
    assert!((400..500).contains(&taken.len()), "{}", taken.len());
    // One is handed out however large it is.
    let options = ConsumerOptions { prefetch_bytes: 10, ..options };
    assert_eq!(node.run(consumer(&node, options).try_batch(900)).unwrap().len(), 1);
}

#[test]
fn what_a_filter_takes_is_found_behind_all_that_it_passes_over() {
    let node = Node::new();
    let topic = node.run(node.broker.declare_topic(&key("t"), TopicOptions::default())).unwrap();
    let filter =
        FilterOptions { expression: Some("event.id == '299'".into()), ..Default::default() };
    let subscription = SubscriptionKey::new(&key("t"), "s").unwrap();
    let options = SubscriptionOptions { filter, ..SubscriptionOptions::default() };
    let subscription = node.run(node.broker.declare_subscription(&subscription, options)).unwrap();
    let many: Vec<_> = (0..300).map(|number| publish(&number.to_string())).collect();
    node.publish(topic, &many);
    let mut consumer = node.consumer(subscription);
    assert_eq!(node.take(&mut consumer).len(), 1);
}

//! Queues: handing out, settling, prefetch, order, limits, expiry, and what belongs to a connection.

use std::{future::Future, sync::Arc, task::Poll, time::Duration};

use smallvec::SmallVec;
use weft_broker::{
    ConsumerOptions, DeadLetter, DeadLetterRoute, DeadMessage, Dedupe, MessageBuilder,
    MessageSource, OnFailure, Order, Overflow, Publish, PublishTarget, Queue, QueueLimit,
    QueueOptions, State, TopicOptions, Verdict,
};
use weft_kernel::{Reason, Rng};
use weft_ledger::Limits;
use weft_wire::amqp::Properties;

use crate::node::{Node, event, fail, ids, key, publish};

fn queue(node: &Node, options: QueueOptions) -> Arc<Queue> {
    node.run(node.broker.declare_queue(&key("q"), options)).unwrap()
}

#[test]
fn what_is_accepted_is_gone_and_what_is_released_comes_back() {
    let node = Node::new();
    let queue = queue(&node, QueueOptions::default());
    node.publish(queue.clone(), &[publish("1"), publish("2"), publish("3")]);
    let mut consumer = node.consumer(queue.clone());
    let taken = node.take(&mut consumer);
    assert_eq!(ids(&taken), ["1", "2", "3"]);
    node.settle(&consumer, &taken[0], Verdict::Accept);
    node.settle(&consumer, &taken[1], Verdict::Release);
    let again = node.take(&mut consumer);
    assert_eq!(ids(&again), ["2"]);
    assert_eq!((again[0].lease.failures, again[0].lease.handouts), (0, 2));
    node.settle(&consumer, &again[0], Verdict::Accept);
    node.settle(&consumer, &taken[2], Verdict::Accept);
    let view = node.broker.queue_view(&queue);
    assert_eq!((view.ready, view.leased, view.waiting), (0, 0, 0));
    assert_eq!((view.counts.published, view.counts.accepted, view.counts.released), (3, 3, 1));
}

#[test]
fn a_dropped_consumer_gives_back_and_a_detached_one_does_not() {
    let node = Node::new();
    let queue = queue(&node, QueueOptions::default());
    node.publish(queue.clone(), &[publish("1"), publish("2")]);
    let mut first = node.consumer(queue.clone());
    assert_eq!(node.run(first.try_batch(1)).unwrap().len(), 1);
    drop(first);
    let mut second = node.consumer(queue.clone());
    let taken = node.run(second.try_batch(1)).unwrap();
    assert_eq!(ids(&taken), ["1"]);
    let text = taken[0].lease.to_text();
    second.detach();
    let mut third = node.consumer(queue.clone());
    assert_eq!(ids(&node.take(&mut third)), ["2"]);
    // The client without a connection settles by the text it was given.
    let (settler, lease) = node.run(node.broker.lease_of_text(&text)).unwrap();
    let settled = node.run(settler.settle(&[(lease.clone(), Verdict::Accept)])).unwrap();
    assert!(settled.lost.is_empty());
    let again = node.run(settler.settle(&[(lease, Verdict::Accept)])).unwrap();
    assert_eq!((again.seq, again.lost), (0, vec![0]));
    for text in ["", "1.2.3", "x.y.z.a.b.c.d.1", "ffffffffff.1.1.1.1.1.1.1"] {
        let error = node.run(node.broker.lease_of_text(text)).unwrap_err();
        assert_eq!(error.reason(), Reason::LeaseLost, "{text}");
    }
}

#[test]
fn one_lost_lease_keeps_no_other_from_being_settled() {
    let node = Node::new();
    let queue = queue(&node, QueueOptions::default());
    node.publish(queue.clone(), &[publish("1"), publish("2"), publish("3")]);
    let mut consumer = node.consumer(queue.clone());
    let taken = node.take(&mut consumer);
    node.settle(&consumer, &taken[1], Verdict::Accept);
    let all: Vec<_> =
        taken.iter().map(|delivery| (delivery.lease.clone(), Verdict::Accept)).collect();
    let settled = node.run(consumer.settle(&all)).unwrap();
    assert_eq!(settled.lost, [1]);
    assert_eq!(node.broker.queue_view(&queue).leased, 0);
    assert_eq!(queue.counts().lost_leases, 1);
}

#[test]
fn prefetch_bounds_what_is_held_and_settling_makes_room() {
    let node = Node::new();
    let queue = queue(&node, QueueOptions::default());
    let many: Vec<Publish> = (0..10).map(|n| publish(&n.to_string())).collect();
    node.publish(queue.clone(), &many);
    let options = ConsumerOptions { prefetch: 3, ..ConsumerOptions::default() };
    let mut consumer = node.broker.consume(queue.clone(), options).unwrap();
    let taken = node.run(consumer.next_batch(10)).unwrap();
    assert_eq!(taken.len(), 3);
    assert!(node.try_run(consumer.next_batch(10)).is_none(), "there is no room");
    node.settle(&consumer, &taken[0], Verdict::Accept);
    assert_eq!(ids(&node.run(consumer.next_batch(10)).unwrap()), ["3"]);
    // By bytes, but one always.
    let options = ConsumerOptions { prefetch_bytes: 1, ..ConsumerOptions::default() };
    let mut small = node.broker.consume(queue, options).unwrap();
    assert_eq!(node.run(small.next_batch(10)).unwrap().len(), 1);
    assert!(node.try_run(small.next_batch(10)).is_none());
}

#[test]
fn whoever_settles_makes_room_for_the_consumer_that_took() {
    let node = Node::new();
    let queue = queue(&node, QueueOptions::default());
    node.publish(queue.clone(), &[publish("1"), publish("2"), publish("3")]);
    let options = ConsumerOptions { prefetch: 1, ..ConsumerOptions::default() };
    let mut first = node.broker.consume(queue.clone(), options).unwrap();
    let mut second = node.broker.consume(queue, options).unwrap();
    let mut taken = node.take(&mut first);
    taken.extend(node.take(&mut second));
    assert_eq!(ids(&taken), ["1", "2"]);
    let all: Vec<_> =
        taken.iter().map(|delivery| (delivery.lease.clone(), Verdict::Accept)).collect();
    // The second waits for room while the first settles for both.
    let settling = async { first.settler().settle(&all).await.unwrap() };
    let (third, settled) = node.run(async { tokio::join!(second.next_batch(1), settling) });
    assert!(settled.lost.is_empty());
    assert_eq!(ids(&third.unwrap()), ["3"]);
    assert_eq!((first.unsettled(), second.unsettled()), (0, 1));
}

#[test]
fn a_consumer_that_waits_is_woken_by_a_publish() {
    let node = Node::new();
    let queue = queue(&node, QueueOptions::default());
    let mut consumer = node.consumer(queue.clone());
    let target = PublishTarget::Queue(queue);
    let messages = [publish("1")];
    let both = async {
        tokio::join!(consumer.next_batch(5), node.broker.publish(&target, &messages, None))
    };
    let (taken, published) = node.run(both);
    assert_eq!(ids(&taken.unwrap()), ["1"]);
    published.unwrap();
}

#[test]
fn a_lease_that_runs_out_counts_as_a_failure_and_frees_the_prefetch() {
    let node = Node::new();
    let queue = queue(&node, QueueOptions::default());
    node.publish(queue.clone(), &[publish("1")]);
    let options = ConsumerOptions { prefetch: 1, ..ConsumerOptions::default() };
    let mut consumer = node.broker.consume(queue.clone(), options).unwrap();
    let taken = node.take(&mut consumer);
    node.pass(Duration::from_secs(29));
    assert_eq!(consumer.unsettled(), 1);
    node.pass(Duration::from_secs(2));
    assert_eq!(consumer.unsettled(), 0);
    let late = node.run(consumer.settle(&[(taken[0].lease.clone(), Verdict::Accept)])).unwrap();
    assert_eq!(late.lost, [0]);
    node.pass(Duration::from_secs(2));
    let again = node.take(&mut consumer);
    assert_eq!((ids(&again), again[0].lease.failures), (vec!["1".to_owned()], 1));
    // Renewing keeps it.
    node.clock.advance(Duration::from_secs(20));
    consumer.settler().renew(&again[0].lease, Duration::from_secs(30)).unwrap();
    node.pass(Duration::from_secs(20));
    node.settle(&consumer, &again[0], Verdict::Accept);
}

#[test]
fn a_failure_waits_longer_each_time_and_keeps_its_place() {
    let node = Node::new();
    let queue = queue(&node, QueueOptions::default());
    node.publish(queue.clone(), &[publish("1"), publish("2")]);
    let mut consumer = node.consumer(queue.clone());
    let taken = node.take(&mut consumer);
    node.settle(&consumer, &taken[0], fail("no stock"));
    node.settle(&consumer, &taken[1], Verdict::Release);
    node.pass(Duration::from_millis(700));
    assert_eq!(node.broker.queue_view(&queue).waiting, 1);
    node.pass(Duration::from_millis(600));
    let again = node.take(&mut consumer);
    assert_eq!(ids(&again), ["1", "2"], "its old place is before the second");
    node.settle(&consumer, &again[0], fail("still none"));
    node.pass(Duration::from_millis(1_500));
    assert_eq!(node.broker.queue_view(&queue).waiting, 1);
    node.pass(Duration::from_secs(1));
    let third = node.take(&mut consumer);
    let peeked = node
        .run(node.broker.peek(
            &MessageSource::Queue(queue),
            None,
            third[0].lease.position,
            Limits::default(),
        ))
        .unwrap();
    let reasons: Vec<&str> = peeked[0].history.attempts().map(|attempt| attempt.reason).collect();
    assert_eq!(reasons, ["no stock", "still none"]);
    assert_eq!(peeked[0].state, State::Leased);
}

#[test]
fn a_key_goes_in_order_also_under_retry() {
    let node = Node::new();
    let order = Order::Key { on_failure: OnFailure::Block };
    let queue = queue(&node, QueueOptions { order, ..QueueOptions::default() });
    let of = |id: &str, key: &'static str| publish(id).keyed(key);
    node.publish(queue.clone(), &[of("a1", "a"), of("b1", "b"), of("a2", "a"), of("b2", "b")]);
    let mut consumer = node.consumer(queue.clone());
    let taken = node.take(&mut consumer);
    assert_eq!(ids(&taken), ["a1", "b1"]);
    node.settle(&consumer, &taken[0], fail("x"));
    node.settle(&consumer, &taken[1], Verdict::Accept);
    let next = node.take(&mut consumer);
    assert_eq!(ids(&next), ["b2"], "a waits for its retry");
    node.settle(&consumer, &next[0], Verdict::Accept);
    node.pass(Duration::from_secs(2));
    let retried = node.take(&mut consumer);
    assert_eq!(ids(&retried), ["a1"]);
    node.settle(&consumer, &retried[0], Verdict::Accept);
    assert_eq!(ids(&node.take(&mut consumer)), ["a2"]);
}

#[test]
fn a_full_queue_refuses_or_gives_up_its_oldest() {
    let node = Node::new();
    let limit = QueueLimit { messages: Some(2), ..QueueLimit::default() };
    let refusing = queue(&node, QueueOptions { limit, ..QueueOptions::default() });
    node.publish(refusing.clone(), &[publish("1"), publish("2")]);
    let third = node.run(node.broker.publish(
        &PublishTarget::Queue(refusing.clone()),
        &[publish("3")],
        None,
    ));
    assert_eq!(third.unwrap_err().reason(), Reason::QueueFull);
    assert_eq!(refusing.counts().refused, 1);

    let limit = QueueLimit { overflow: Overflow::DropOldest { dead_letter: true }, ..limit };
    let options = QueueOptions { limit, ..QueueOptions::default() };
    let dropping = node.run(node.broker.declare_queue(&key("d"), options)).unwrap();
    for id in ["1", "2", "3", "4"] {
        node.publish(dropping.clone(), &[publish(id)]);
    }
    let view = node.broker.queue_view(&dropping);
    assert_eq!((view.ready, view.counts.dead_lettered), (2, 2));
    let mut consumer = node.consumer(dropping);
    assert_eq!(ids(&node.take(&mut consumer)), ["3", "4"]);
    let dead = node.broker.queue(&key("d.dead")).unwrap();
    let mut consumer = node.consumer(dead);
    assert_eq!(ids(&node.take(&mut consumer)), ["1", "2"]);
}

#[test]
fn a_publish_that_is_stored_is_told_so_whatever_becomes_of_the_oldest() {
    let node = Node::new();
    // Nobody is there to route what is given up.
    let limit = QueueLimit {
        messages: Some(1),
        overflow: Overflow::DropOldest { dead_letter: true },
        ..QueueLimit::default()
    };
    let dead_letter = DeadLetter::Hook("nowhere".into());
    let options = QueueOptions { limit, dead_letter, ..QueueOptions::default() };
    let queue = queue(&node, options);
    node.publish(queue.clone(), &[publish("1")]);
    node.publish(queue.clone(), &[publish("2")]);
    let view = node.broker.queue_view(&queue);
    assert_eq!((view.ready, view.leased), (2, 0), "what could not be given up is held by nobody");
    let kept = node.run(node.broker.maintain_once());
    assert_eq!(kept.unwrap_err().reason(), Reason::Misconfigured, "it is still to be done");
    node.broker.set_dead_letter_route(Arc::new(Nowhere)).unwrap();
    node.pass(Duration::ZERO);
    let mut consumer = node.consumer(queue);
    assert_eq!(ids(&node.take(&mut consumer)), ["2"]);
}

struct Nowhere;

impl DeadLetterRoute for Nowhere {
    fn route(&self, _: &Queue, _: &str, _: &DeadMessage) -> SmallVec<[(Arc<Queue>, Publish); 1]> {
        SmallVec::new()
    }
}

#[test]
fn a_publisher_that_gives_up_leaves_the_oldest_to_maintenance() {
    let node = Node::new();
    let limit = QueueLimit {
        messages: Some(1),
        overflow: Overflow::DropOldest { dead_letter: true },
        ..QueueLimit::default()
    };
    let queue = queue(&node, QueueOptions { limit, ..QueueOptions::default() });
    let target = PublishTarget::Queue(queue.clone());
    let messages = [publish("1"), publish("2"), publish("3")];
    {
        let mut publishing = std::pin::pin!(node.broker.publish(&target, &messages, None));
        // Until the oldest are taken, while the queue of dead letters is being made.
        node.run(std::future::poll_fn(|context| {
            assert!(publishing.as_mut().poll(context).is_pending());
            match node.broker.queue_view(&queue).leased {
                0 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        }));
    }
    assert_eq!(node.broker.queue_view(&queue).leased, 0, "nobody holds them");
    node.pass(Duration::ZERO);
    let view = node.broker.queue_view(&queue);
    assert_eq!((view.ready, view.counts.dead_lettered), (1, 2));
    let mut consumer = node.consumer(queue);
    let taken = node.take(&mut consumer);
    assert_eq!((ids(&taken), taken[0].lease.failures), (vec!["3".to_owned()], 0));
}

#[test]
fn publishes_that_are_refused_keep_no_other_from_being_stored() {
    let node = Node::new();
    let limit = QueueLimit { messages: Some(1), ..QueueLimit::default() };
    let small = queue(&node, QueueOptions { limit, ..QueueOptions::default() });
    let big = node.run(node.broker.declare_queue(&key("big"), QueueOptions::default())).unwrap();
    let mut batch = node.broker.batch();
    batch.publish([(&small, 0), (&big, 0)], &publish("1")).unwrap();
    batch.publish([(&big, 0), (&small, 0)], &publish("2")).unwrap();
    batch.publish([], &publish("nowhere")).unwrap();
    batch.publish([(&big, 0)], &publish("3")).unwrap();
    let submitted = node.broker.submit_each(batch).unwrap();
    let refused: Vec<_> =
        submitted.refused.iter().map(|one| (one.index, one.error.reason())).collect();
    assert_eq!(refused, [(1, Reason::QueueFull)]);
    let full = &submitted.refused[0].full;
    assert!(full.len() == 1 && Arc::ptr_eq(&full[0], &small), "the other one has room");
    let mut consumer = node.consumer(big);
    // It is all one transaction, so it is seen once that is done.
    let wait = weft_ledger::until_durable(node.broker.store(), submitted.seq, submitted.durability);
    node.run(wait).unwrap();
    assert_eq!(ids(&node.take(&mut consumer)), ["1", "3"]);
    assert_eq!(node.broker.queue_view(&small).ready, 1);
}

#[test]
fn a_burst_into_a_full_queue_is_refused_at_once() {
    let node = Node::new();
    for bytes in [false, true] {
        let limit = match bytes {
            true => QueueLimit { bytes: Some(30), ..QueueLimit::default() },
            false => QueueLimit { messages: Some(1), ..QueueLimit::default() },
        };
        let dedupe = Some(Dedupe::default());
        let options = QueueOptions { limit, dedupe, ..QueueOptions::default() };
        let name = format!("full-{bytes}");
        let full = node.run(node.broker.declare_queue(&key(&name), options)).unwrap();
        let name = format!("other-{bytes}");
        let options = QueueOptions { dedupe, ..QueueOptions::default() };
        let other = node.run(node.broker.declare_queue(&key(&name), options)).unwrap();
        let mut batch = node.broker.batch();
        for number in 0..600 {
            let id = number.to_string();
            // Every third goes to both, every third to the one with room.
            match number % 3 {
                0 => batch.publish([(&full, 0)], &publish(&id)).unwrap(),
                1 => batch.publish([(&other, 0), (&full, 0)], &publish(&id)).unwrap(),
                _ => batch.publish([(&other, 0)], &publish(&id)).unwrap(),
            }
        }
        // One that was known already is no longer, if the publish that brought it was refused.
        batch.publish([(&other, 0)], &publish("1")).unwrap();
        let before = node.ledger.stats().refused;
        let submitted = node.broker.submit_each(batch).unwrap();
        assert_eq!(node.ledger.stats().refused - before, 1, "all are found with the first");
        let refused: Vec<usize> = submitted.refused.iter().map(|one| one.index).collect();
        let expected: Vec<usize> = (1..600).filter(|number| number % 3 != 2).collect();
        assert_eq!(refused, expected);
        assert!(submitted.refused.iter().all(|one| one.full.len() == 1));
        node.settle_down();
        assert_eq!(node.broker.queue_view(&full).ready, 1);
        assert_eq!(node.broker.queue_view(&other).ready, 201);
        assert_eq!(full.counts().refused, 399);
    }
}

#[test]
fn a_burst_of_leases_that_are_lost_is_told_at_once() {
    let node = Node::new();
    let queue = queue(&node, QueueOptions::default());
    let ids: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let messages: Vec<Publish> = ids.iter().map(|id| publish(id)).collect();
    node.publish(queue.clone(), &messages);
    let wide = ConsumerOptions { prefetch: 500, ..ConsumerOptions::default() };
    let mut consumer = node.broker.consume(queue.clone(), wide).unwrap();
    let mut taken = Vec::new();
    for _ in 0..20 {
        taken.extend(node.take(&mut consumer));
    }
    assert_eq!(taken.len(), 200);
    // Every second one is settled, and so lost to whoever settles it again.
    let verdicts = [Verdict::Accept, Verdict::Release, fail("no"), Verdict::Accept];
    let said = |step: usize| {
        let every = taken.iter().zip(verdicts.iter().cycle()).step_by(step);
        every.map(|(delivery, verdict)| (delivery.lease.clone(), verdict.clone())).collect()
    };
    let some: Vec<_> = said(2);
    let settler = consumer.settler();
    assert!(node.run(settler.settle_durably(&some)).unwrap().lost.is_empty());
    let all: Vec<_> = said(1);
    let before = node.ledger.stats().refused;
    let settled = node.run(settler.settle_durably(&all)).unwrap();
    assert_eq!(settled.lost, (0..200).step_by(2).collect::<Vec<_>>());
    assert_eq!(node.ledger.stats().refused - before, 1, "all are found with the first");
    assert_eq!(queue.counts().lost_leases, 100);
}

#[test]
fn messages_expire_and_are_late_where_asked_for() {
    let node = Node::new();
    let options = QueueOptions {
        message_ttl: Some(Duration::from_secs(10)),
        expired_to_dead_letter: true,
        ..QueueOptions::default()
    };
    let queue = queue(&node, options);
    let soon = Publish { ttl: Some(Duration::from_secs(2)), ..publish("soon") };
    let now_ms = 3_600_000;
    let late = Publish { due_ms: now_ms + 5_000, ..publish("late") };
    node.publish(queue.clone(), &[soon, late, publish("1")]);
    node.pass(Duration::from_secs(3));
    let mut consumer = node.consumer(queue.clone());
    assert_eq!(ids(&node.take(&mut consumer)), ["1"]);
    assert_eq!(queue.counts().expired, 1);
    node.pass(Duration::from_secs(2));
    assert_eq!(ids(&node.take(&mut consumer)), ["late"]);
    let dead = node.broker.queue(&key("q.dead")).unwrap();
    let mut consumer = node.consumer(dead);
    let expired = node.take(&mut consumer);
    assert_eq!(expired[0].message.death().unwrap().cause.word(), "expired");
}

#[test]
fn an_id_that_is_known_is_not_stored_again() {
    let node = Node::new();
    let options = QueueOptions { dedupe: Some(Dedupe::default()), ..QueueOptions::default() };
    let queue = queue(&node, options);
    let target = PublishTarget::Queue(queue.clone());
    let first =
        node.run(node.broker.publish(&target, &[publish("1"), publish("2")], None)).unwrap();
    assert_eq!((first.stored, first.duplicates), (Some((0, 1)), vec![]));
    let other = event("2", "other", "another body");
    let messages = [publish("3"), Publish::new(other), publish("1")];
    let second = node.run(node.broker.publish(&target, &messages, None)).unwrap();
    assert_eq!(second.stored, Some((2, 2)));
    assert_eq!(second.duplicates, [(1, 1), (2, 0)]);
    assert_eq!(queue.counts().duplicates, 2);
    let node = node.crash(&mut Rng::seeded(1));
    let target = PublishTarget::Queue(node.broker.queue(&key("q")).unwrap());
    let third = node.run(node.broker.publish(&target, &[publish("3")], None)).unwrap();
    assert_eq!((third.stored, third.duplicates), (None, vec![(0, 2)]));
}

#[test]
fn an_event_is_known_in_whatever_form_it_comes() {
    let node = Node::new();
    let options = QueueOptions { dedupe: Some(Dedupe::default()), ..QueueOptions::default() };
    let queue = queue(&node, options);
    let topic = TopicOptions { dedupe: Some(Dedupe::default()), ..TopicOptions::default() };
    let topic = node.run(node.broker.declare_topic(&key("t"), topic)).unwrap();
    let binary = |id: &str| event(id, "test", "x").to_amqp("", "q").unwrap();
    let structured = |id: &str| {
        let json = format!(r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"test"}}"#);
        let mut raw = Vec::new();
        let content_type = Some("application/cloudevents+json");
        Properties { content_type, ..Properties::default() }.write(&mut raw);
        MessageBuilder::amqp("", "q", &raw, 100).unwrap().body(json.as_bytes()).finish().unwrap()
    };
    let plain = MessageBuilder::amqp("", "q", &[0, 0], 1).unwrap().body(b"x").finish().unwrap();
    for target in [PublishTarget::Queue(queue), PublishTarget::Topic(topic)] {
        let messages = [
            event("1", "test", "x"),
            binary("1"),
            structured("1"),
            binary("2"),
            structured("2"),
            event("2", "test", "x"),
            structured("3"),
            // What is no event is never the same.
            plain.clone(),
            plain.clone(),
        ];
        let stored: Vec<bool> = messages
            .into_iter()
            .map(|message| {
                let publish = [Publish::new(message)];
                let published = node.run(node.broker.publish(&target, &publish, None)).unwrap();
                published.stored.is_some()
            })
            .collect();
        assert_eq!(stored, [true, false, false, true, false, false, true, true, true]);
    }
}

#[test]
fn queues_go_when_they_are_unused_abandoned_or_their_connection_ends() {
    let node = Node::new();
    let expires = Some(Duration::from_secs(60));
    queue(&node, QueueOptions { expires, ..QueueOptions::default() });
    node.pass(Duration::from_secs(50));
    let consumer = node.consumer(node.broker.queue(&key("q")).unwrap());
    node.pass(Duration::from_secs(50));
    drop(consumer);
    node.pass(Duration::from_secs(50));
    assert!(node.broker.queue(&key("q")).is_ok());
    node.pass(Duration::from_secs(11));
    assert_eq!(node.broker.queue(&key("q")).unwrap_err().reason(), Reason::NoQueue);

    let auto = queue(&node, QueueOptions { auto_delete: true, ..QueueOptions::default() });
    node.pass(Duration::from_secs(1));
    let (first, second) = (node.consumer(auto.clone()), node.consumer(auto.clone()));
    node.run(first.close()).unwrap();
    assert!(!auto.is_deleted());
    node.run(second.close()).unwrap();
    assert!(auto.is_deleted() && node.broker.queue(&key("q")).is_err());

    let options = QueueOptions { exclusive: Some(7), transient: true, ..QueueOptions::default() };
    let own = queue(&node, options.clone());
    let foreign = node
        .run(node.broker.declare_queue(&key("q"), QueueOptions { exclusive: Some(8), ..options }));
    assert_eq!(foreign.unwrap_err().reason(), Reason::QueueLocked);
    let error = node.broker.consume(own.clone(), ConsumerOptions::default()).unwrap_err();
    assert_eq!(error.reason(), Reason::QueueLocked);
    let owner = ConsumerOptions { owner: Some(7), ..ConsumerOptions::default() };
    let mut consumer = node.broker.consume(own, owner).unwrap();
    let foreign = node.run(node.broker.delete_queue(&key("q"), Some(8)));
    assert_eq!(foreign.unwrap_err().reason(), Reason::QueueLocked);
    node.run(node.broker.delete_queue(&key("q"), Some(7))).unwrap();
    let error = node.run(consumer.next_batch(1)).unwrap_err();
    assert_eq!(error.reason(), Reason::NoQueue);
}

#[test]
fn one_consumer_is_active_and_the_next_takes_over() {
    let node = Node::new();
    let queue = queue(&node, QueueOptions { single_active: true, ..QueueOptions::default() });
    node.publish(queue.clone(), &[publish("1"), publish("2")]);
    let mut first = node.consumer(queue.clone());
    let mut second = node.consumer(queue.clone());
    assert!(node.take(&mut second).is_empty());
    assert_eq!(ids(&node.run(first.try_batch(1)).unwrap()), ["1"]);
    drop(first);
    assert_eq!(ids(&node.take(&mut second)), ["1", "2"]);
}

#[test]
fn definitions_survive_and_the_same_declaration_twice_is_one() {
    let node = Node::new();
    let options = QueueOptions {
        annotation: "{\"x\":1}".into(),
        dead_letter: DeadLetter::To("morgue".into()),
        ..QueueOptions::default()
    };
    queue(&node, options.clone());
    queue(&node, options.clone());
    let other = node.run(node.broker.declare_queue(&key("q"), QueueOptions::default()));
    assert_eq!(other.unwrap_err().reason(), Reason::DefinitionConflict);
    let altered = QueueOptions { failures_max: Some(3), ..options };
    node.run(node.broker.alter_queue(&key("q"), altered.clone())).unwrap();
    let transient = QueueOptions { transient: true, ..QueueOptions::default() };
    node.run(node.broker.declare_queue(&key("gone"), transient)).unwrap();
    let node = node.crash(&mut Rng::seeded(3));
    assert_eq!(node.broker.queue(&key("q")).unwrap().options(), altered);
    assert!(node.broker.queue(&key("gone")).is_err());
    node.run(node.broker.delete_queue(&key("q"), None)).unwrap();
    let node = node.crash(&mut Rng::seeded(4));
    assert!(node.broker.queues().is_empty());
}

#[test]
fn purging_and_removing_take_what_nobody_holds() {
    let node = Node::new();
    let queue = queue(&node, QueueOptions::default());
    let positions = node.publish(queue.clone(), &[publish("1"), publish("2"), publish("3")]);
    let mut consumer = node.consumer(queue.clone());
    let held = node.run(consumer.try_batch(1)).unwrap();
    node.run(node.broker.remove(&queue, positions[1])).unwrap();
    let twice = node.run(node.broker.remove(&queue, positions[1]));
    assert_eq!(twice.unwrap_err().reason(), Reason::NoMessage);
    assert_eq!(node.run(node.broker.purge(&MessageSource::Queue(queue.clone()))).unwrap(), 1);
    assert_eq!(node.broker.queue_view(&queue).leased, 1);
    node.settle(&consumer, &held[0], Verdict::Accept);
    let (taken, _) = node.run(node.broker.take_ready(&queue, 1, None)).unwrap();
    assert!(taken.is_empty());
}

#[test]
fn a_request_ends_at_its_deadline_while_it_is_being_published() {
    use weft_kernel::{Clock, Deadline};
    let node = Node::new();
    let queue = queue(&node, QueueOptions::default());
    let _consumer = node.consumer(queue.clone());
    let deadline = Deadline::after(node.clock.now(), Duration::from_millis(20));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    // Nobody steps the ledger: nothing gets to the disk.
    let late = runtime.block_on(async {
        let target = PublishTarget::Queue(queue);
        let asked = node.broker.request(&target, publish("1"), deadline);
        tokio::time::timeout(Duration::from_secs(10), asked).await
    });
    assert_eq!(late.unwrap().unwrap_err().reason(), Reason::ReplyTimeout);
}

#[test]
fn a_request_is_answered_or_told_that_nobody_listens() {
    use weft_kernel::{Clock, Deadline};
    let node = Node::new();
    let queue = queue(&node, QueueOptions::default());
    let target = PublishTarget::Queue(queue.clone());
    let deadline = Deadline::after(node.clock.now(), Duration::from_secs(5));
    let alone = node.run(node.broker.request(&target, publish("1"), deadline));
    assert_eq!(alone.unwrap_err().reason(), Reason::NoListener);
    let mut consumer = node.consumer(queue);
    let answer = async {
        let taken = consumer.next_batch(1).await.unwrap();
        let event = taken[0].message.event().unwrap();
        let text = |name: &str| event.get(name).unwrap().as_text().unwrap().to_owned();
        let reply = crate::node::event("r", "reply", "42");
        assert!(!node.broker.reply("_inbox.0", &text("correlationid"), reply.clone()));
        assert!(node.broker.reply(&text("replyto"), &text("correlationid"), reply.clone()));
        assert!(!node.broker.reply(&text("replyto"), &text("correlationid"), reply));
        consumer.settle(&[(taken[0].lease.clone(), Verdict::Accept)]).await.unwrap();
    };
    let both =
        async { tokio::join!(node.broker.request(&target, publish("1"), deadline), answer).0 };
    assert_eq!(&node.run(both).unwrap().body()[..], b"42");
    let passed = Deadline::at(node.clock.now());
    let late = node.run(node.broker.request(&target, publish("2"), passed));
    assert_eq!(late.unwrap_err().reason(), Reason::ReplyTimeout);
}

/// A caller that rests with a half done publish, as a connection does that has something else to wait for
/// first, holds nobody up: neither other callers nor itself.
#[test]
fn a_publish_that_nobody_polls_holds_up_no_other() {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };
    for polls in 0..30 {
        let node = Node::new();
        let limit = QueueLimit {
            messages: Some(3),
            overflow: Overflow::DropOldest { dead_letter: true },
            ..QueueLimit::default()
        };
        let options = QueueOptions { limit, ..QueueOptions::default() };
        let full = node.run(node.broker.declare_queue(&key("full"), options)).unwrap();
        let other = QueueOptions::default();
        let other = node.run(node.broker.declare_queue(&key("other"), other)).unwrap();
        let mut batch = node.broker.batch();
        for number in 0..40 {
            batch.queue(&full, &publish(&format!("m{number}"))).unwrap();
        }
        let receipt = node.broker.submit(batch).unwrap();
        let mut resting = pin!(node.broker.until_durable(&receipt));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..polls {
            if resting.as_mut().poll(&mut context).is_ready() {
                break;
            }
            node.ledger.step();
        }
        let publish = [publish("other")];
        let target = PublishTarget::Queue(other);
        let published = node.try_run(node.broker.publish(&target, &publish, None));
        assert!(published.is_some(), "after {polls} polls another publish hangs");
    }
}

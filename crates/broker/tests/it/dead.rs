//! Dead letters: their story, hooks, redrive, parked keys, and that none is ever in two places.

use std::{future::Future, sync::Arc, time::Duration};

use smallvec::{SmallVec, smallvec};
use weft_broker::{
    Broker, Cause, DeadLetter, DeadLetterRoute, DeadMessage, FilterOptions, MessageSource,
    OnFailure, Order, Publish, PublishTarget, Queue, QueueLimit, QueueOptions, RedriveOptions,
    SubscriptionKey, SubscriptionOptions, TopicOptions, Verdict,
};
use weft_kernel::{Reason, Rng};

use crate::node::{Node, fail, id, ids, key, publish, reject};

fn queue(node: &Node, name: &str, options: QueueOptions) -> Arc<Queue> {
    node.run(node.broker.declare_queue(&key(name), options)).unwrap()
}

#[test]
fn the_tenth_failure_tells_the_whole_story() {
    let node = Node::new();
    let work = queue(&node, "work", QueueOptions::default());
    let message = Publish { priority: 4, ..publish("1").keyed("k") };
    node.publish(work.clone(), std::slice::from_ref(&message));
    let mut consumer = node.consumer(work.clone());
    for _ in 0..10 {
        let taken = node.take(&mut consumer);
        assert_eq!(taken.len(), 1);
        node.settle(&consumer, &taken[0], fail("no stock"));
        node.pass(Duration::from_secs(800));
    }
    assert!(node.take(&mut consumer).is_empty());
    assert_eq!((work.counts().failed, work.counts().dead_lettered), (10, 1));
    let node = node.crash(&mut Rng::seeded(2));
    let work = node.broker.queue(&key("work")).unwrap();
    let dead = node.broker.dead_letters(&MessageSource::Queue(work.clone())).unwrap();
    let mut consumer = node.consumer(dead.clone());
    let taken = node.take(&mut consumer);
    let death = taken[0].message.death().unwrap();
    assert_eq!((death.cause, death.reason.as_str()), (Cause::Failures, "no stock"));
    assert_eq!((death.position, death.failures, death.handouts >= 10), (0, 10, true));
    assert_eq!((&death.key[..], death.priority), (&b"k"[..], 4));
    assert_eq!((death.published_ms, death.history.count()), (3_600_000, 10));
    node.settle(&consumer, &taken[0], Verdict::Release);
    drop(consumer);

    let back = node.run(node.broker.redrive(&dead, None, &RedriveOptions::default())).unwrap();
    assert_eq!((back.redriven, back.left), (1, 0));
    let mut consumer = node.consumer(work);
    let taken = node.take(&mut consumer);
    assert_eq!(taken[0].message, message.message, "the very bytes");
    assert_eq!((&taken[0].key[..], taken[0].priority, taken[0].lease.failures), (&b"k"[..], 4, 0));
    assert_eq!(node.broker.queue_view(&dead).ready, 0);
}

#[test]
fn a_rejected_message_dies_at_once_and_without_a_place_it_is_dropped_and_counted() {
    let node = Node::new();
    let work = queue(&node, "work", QueueOptions::default());
    let none = QueueOptions { dead_letter: DeadLetter::None, ..QueueOptions::default() };
    let lossy = queue(&node, "lossy", none);
    let named = QueueOptions { dead_letter: DeadLetter::To("morgue".into()), ..Default::default() };
    let named = queue(&node, "named", named);
    for queue in [&work, &lossy, &named] {
        node.publish(queue.clone(), &[publish("1")]);
        let mut consumer = node.consumer(queue.clone());
        let taken = node.take(&mut consumer);
        node.settle(&consumer, &taken[0], reject("bad"));
    }
    assert_eq!((work.counts().rejected, work.counts().dead_lettered), (1, 1));
    assert_eq!((lossy.counts().rejected, lossy.counts().dropped), (1, 1));
    assert!(node.broker.queue(&key("lossy.dead")).is_err());
    for dead in ["work.dead", "morgue"] {
        let dead = node.broker.queue(&key(dead)).unwrap();
        assert_eq!(node.broker.queue_view(&dead).ready, 1);
        // Dead letters are kept for two weeks, and then they are gone for good.
        node.clock.advance(Duration::from_secs(1));
    }
    node.pass(Duration::from_secs(14 * 86_400));
    let dead = node.broker.queue(&key("morgue")).unwrap();
    assert_eq!((node.broker.queue_view(&dead).ready, dead.counts().expired), (0, 1));
}

#[test]
fn a_subscription_has_dead_letters_of_its_own() {
    let node = Node::new();
    let topic = node.run(node.broker.declare_topic(&key("t"), TopicOptions::default())).unwrap();
    let name = SubscriptionKey::new(&key("t"), "s").unwrap();
    let options = SubscriptionOptions { failures_max: Some(1), ..Default::default() };
    let subscription = node.run(node.broker.declare_subscription(&name, options)).unwrap();
    node.publish(topic, &[publish("1")]);
    let mut consumer = node.consumer(subscription.clone());
    let taken = node.take(&mut consumer);
    node.settle(&consumer, &taken[0], fail("x"));
    let dead = node.broker.queue(&key("s.dead")).unwrap();
    let (taken, settler) = node.run(node.broker.take_ready(&dead, 5, None)).unwrap();
    assert_eq!(taken[0].message.death().unwrap().origin.text(), "s of t");
    node.run(settler.settle_durably(&[(taken[0].lease.clone(), Verdict::Release)])).unwrap();
    // It would go to every subscription, so it goes only where it is told to.
    let back = node.run(node.broker.redrive(&dead, None, &RedriveOptions::default())).unwrap();
    assert_eq!((back.redriven, back.left), (0, 1));
    let other = queue(&node, "other", QueueOptions::default());
    let to = PublishTarget::Queue(other.clone());
    let options = RedriveOptions::default();
    let back = node.run(node.broker.redrive(&dead, Some(&to), &options)).unwrap();
    assert_eq!(back.redriven, 1);
    assert_eq!(node.broker.queue_view(&other).ready, 1);
}

#[test]
fn a_redrive_takes_only_what_it_was_asked_for() {
    let node = Node::new();
    let work = queue(&node, "work", QueueOptions::default());
    node.publish(work.clone(), &[publish("1"), publish("2"), publish("3"), publish("4")]);
    let mut consumer = node.consumer(work.clone());
    for delivery in node.take(&mut consumer) {
        node.settle(&consumer, &delivery, reject("bad"));
    }
    let dead = node.broker.queue(&key("work.dead")).unwrap();
    let redrive = |options: RedriveOptions| {
        let done = node.run(node.broker.redrive(&dead, None, &options)).unwrap();
        (done.redriven, done.left)
    };
    let expression = Some("event.id == '2' || event.id == '3'".to_owned());
    let filter = FilterOptions { expression, ..Default::default() };
    let some = RedriveOptions { filter, ..Default::default() };
    assert_eq!(redrive(RedriveOptions { dry_run: true, ..some.clone() }), (2, 2));
    assert_eq!(node.broker.queue_view(&dead).ready, 4);
    assert_eq!(
        redrive(RedriveOptions { cause: Some(Cause::Expired), ..Default::default() }),
        (0, 4)
    );
    assert_eq!(redrive(some), (2, 2));
    assert_eq!(ids(&node.take(&mut consumer)), ["2", "3"]);
    assert_eq!(redrive(RedriveOptions { max: Some(1), ..Default::default() }), (1, 1));
    assert_eq!(ids(&node.take(&mut consumer)), ["1"]);
}

#[test]
fn a_parked_key_follows_its_dead_message_and_comes_back_in_order() {
    let node = Node::new();
    let order = Order::Key { on_failure: OnFailure::Park };
    let work = queue(&node, "work", QueueOptions { order, ..QueueOptions::default() });
    let of = |id: &str, key: &'static str| publish(id).keyed(key);
    node.publish(work.clone(), &[of("a1", "a"), of("b1", "b"), of("a2", "a")]);
    let mut consumer = node.consumer(work.clone());
    let taken = node.take(&mut consumer);
    assert_eq!(ids(&taken), ["a1", "b1"]);
    node.settle(&consumer, &taken[0], reject("bad"));
    node.settle(&consumer, &taken[1], Verdict::Accept);
    assert!(node.take(&mut consumer).is_empty(), "a2 follows a1");
    let source = MessageSource::Queue(work.clone());
    assert_eq!(node.broker.parked_keys(&source), ["a"]);
    drop(consumer);
    let node = node.crash(&mut Rng::seeded(6));
    let work = node.broker.queue(&key("work")).unwrap();
    let source = MessageSource::Queue(work.clone());
    assert_eq!(node.broker.parked_keys(&source), ["a"], "parking survives");
    // Nobody has looked at a3 when the redrive comes.
    node.publish(work.clone(), &[of("a3", "a"), of("b2", "b")]);
    let dead = node.broker.queue(&key("work.dead")).unwrap();
    let options = RedriveOptions { key: Some("a".into()), ..Default::default() };
    let back = node.run(node.broker.redrive(&dead, None, &options)).unwrap();
    assert_eq!((back.redriven, back.left), (3, 0));
    assert!(node.broker.parked_keys(&source).is_empty());
    let mut consumer = node.consumer(work);
    let mut order = Vec::new();
    loop {
        let taken = node.take(&mut consumer);
        if taken.is_empty() {
            break;
        }
        for delivery in &taken {
            order.push(id(&delivery.message));
            node.settle(&consumer, delivery, Verdict::Accept);
        }
    }
    order.retain(|id| id.starts_with('a'));
    assert_eq!(order, ["a1", "a2", "a3"]);
}

/// A queue with two parked keys, of a small message and of a large one.
fn parked(node: &Node) -> (Arc<Queue>, Arc<Queue>) {
    let order = Order::Key { on_failure: OnFailure::Park };
    let work = queue(node, "work", QueueOptions { order, ..QueueOptions::default() });
    let large = Publish::new(crate::node::event("b1", "test", &"x".repeat(500))).keyed("b");
    node.publish(work.clone(), &[publish("a1").keyed("a"), large]);
    let mut consumer = node.consumer(work.clone());
    for delivery in node.take(&mut consumer) {
        node.settle(&consumer, &delivery, reject("bad"));
    }
    (work, node.broker.queue(&key("work.dead")).unwrap())
}

#[test]
fn a_key_stays_parked_when_its_dead_letter_cannot_go_back() {
    let node = Node::new();
    let (work, dead) = parked(&node);
    // The second of them does not fit any more.
    let small = QueueOptions { message_bytes_max: 300, ..work.options() };
    node.run(node.broker.alter_queue(&key("work"), small)).unwrap();
    let refused = node.run(node.broker.redrive(&dead, None, &RedriveOptions::default()));
    assert_eq!(refused.unwrap_err().reason(), Reason::MessageTooLarge);
    assert_eq!(node.broker.parked_keys(&MessageSource::Queue(work)), ["a", "b"]);
}

#[test]
fn a_redrive_that_is_given_up_frees_the_keys_of_what_it_has_sent() {
    for busy in [true, false] {
        let node = Node::new();
        let (work, dead) = parked(&node);
        let source = MessageSource::Queue(work.clone());
        if busy {
            node.fill(&queue(&node, "other", QueueOptions::default()));
        }
        {
            let all = RedriveOptions::default();
            let mut redriving = std::pin::pin!(node.broker.redrive(&dead, None, &all));
            let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
            assert!(redriving.as_mut().poll(context).is_pending());
            assert!(node.broker.parked_keys(&source).is_empty());
        }
        let (ready, keys) = if busy { (0, 2) } else { (2, 0) };
        assert_eq!(node.broker.parked_keys(&source).len(), keys);
        node.settle_down();
        assert_eq!(node.broker.queue_view(&work).ready, ready);
    }
}

#[test]
fn a_key_is_parked_only_by_a_message_that_dies() {
    let node = Node::new();
    let order = Order::Key { on_failure: OnFailure::Park };
    let options = QueueOptions { order, ..QueueOptions::default() };
    let limit = QueueLimit { messages: Some(1), ..Default::default() };
    let morgue = queue(&node, "work.dead", QueueOptions { limit, ..Default::default() });
    let work = queue(&node, "work", options);
    let source = MessageSource::Queue(work.clone());
    node.publish(work.clone(), &[publish("a1").keyed("a")]);
    let mut consumer = node.consumer(work.clone());
    // Its lease has run out when it is rejected.
    let late = node.take(&mut consumer);
    node.pass(Duration::from_secs(31));
    let settled = node.run(consumer.settle(&[(late[0].lease.clone(), reject("bad"))])).unwrap();
    assert_eq!(settled.lost, [0]);
    assert!(node.broker.parked_keys(&source).is_empty(), "it is not dead");
    // The dead letters are full when it is rejected.
    node.publish(morgue.clone(), &[publish("in the way")]);
    node.pass(Duration::from_secs(2));
    let taken = node.take(&mut consumer);
    node.settle(&consumer, &taken[0], reject("bad"));
    node.publish(work.clone(), &[publish("a2").keyed("a")]);
    for _ in 0..3 {
        assert_eq!(node.broker.queue_view(&work).dead_letters_waiting, 1);
        assert!(node.broker.parked_keys(&source).is_empty(), "it is not dead");
        assert!(node.take(&mut consumer).is_empty(), "a2 stands behind it");
        node.pass(Duration::from_secs(11));
    }
    node.run(node.broker.purge(&MessageSource::Queue(morgue.clone()))).unwrap();
    node.pass(Duration::from_secs(11));
    assert_eq!(node.broker.parked_keys(&source), ["a"]);
    assert!(node.take(&mut consumer).is_empty(), "a2 follows it");
    assert_eq!(node.broker.queue_view(&work).dead_letters_waiting, 1);
    node.run(node.broker.purge(&MessageSource::Queue(morgue.clone()))).unwrap();
    node.pass(Duration::ZERO);
    node.pass(Duration::from_secs(11));
    assert_eq!(work.counts().dead_lettered, 2);
}

struct ToBoth(Broker);

impl DeadLetterRoute for ToBoth {
    fn route(
        &self,
        queue: &Queue,
        hook: &str,
        dead_message: &DeadMessage,
    ) -> SmallVec<[(Arc<Queue>, Publish); 1]> {
        assert_eq!((&*queue.key().name, dead_message.death.cause), ("work", Cause::Rejected));
        let mut to = smallvec![];
        for name in hook.split(',').filter(|name| !name.is_empty()) {
            if let Ok(queue) = self.0.queue(&key(name)) {
                to.push((queue, Publish::new(dead_message.message.clone())));
            }
        }
        to
    }
}

#[test]
fn a_dead_letter_for_several_queues_waits_until_all_of_them_have_room() {
    let node = Node::new();
    node.broker.set_dead_letter_route(Arc::new(ToBoth(node.broker.clone()))).unwrap();
    let hook = DeadLetter::Hook("big,small,none".into());
    let work = queue(&node, "work", QueueOptions { dead_letter: hook, ..Default::default() });
    let big = queue(&node, "big", QueueOptions::default());
    let limit = QueueLimit { messages: Some(1), ..Default::default() };
    let small = queue(&node, "small", QueueOptions { limit, ..Default::default() });
    node.publish(work.clone(), &[publish("1"), publish("2"), publish("3")]);
    let mut consumer = node.consumer(work.clone());
    for delivery in node.take(&mut consumer) {
        node.settle(&consumer, &delivery, reject("bad"));
    }
    for there in 1..=3 {
        assert_eq!(node.broker.queue_view(&big).ready, there);
        assert_eq!(node.broker.queue_view(&small).ready, 1);
        assert_eq!((work.counts().dead_lettered, work.counts().dropped), (there, 0));
        assert!(node.take(&mut consumer).is_empty(), "what was rejected is not handed out again");
        node.run(node.broker.purge(&MessageSource::Queue(small.clone()))).unwrap();
        node.pass(Duration::ZERO);
        node.pass(Duration::from_secs(10));
    }
    assert_eq!(work.counts().rejected, 3);
}

#[test]
fn dead_letters_wait_for_room_whatever_they_died_of() {
    let one = QueueLimit { messages: Some(1), ..Default::default() };
    let drops = QueueLimit {
        messages: Some(1),
        overflow: weft_broker::options::Overflow::DropOldest { dead_letter: true },
        ..Default::default()
    };
    let ttl = Some(Duration::from_secs(5));
    for (cause, options) in [
        (Cause::Rejected, QueueOptions::default()),
        (Cause::Failures, QueueOptions { failures_max: Some(1), ..Default::default() }),
        (
            Cause::Expired,
            QueueOptions { message_ttl: ttl, expired_to_dead_letter: true, ..Default::default() },
        ),
        (Cause::Overflow, QueueOptions { limit: drops, ..Default::default() }),
    ] {
        let node = Node::new();
        let morgue = queue(&node, "work.dead", QueueOptions { limit: one, ..Default::default() });
        let work = queue(&node, "work", options);
        node.publish(work.clone(), &[publish("1"), publish("2"), publish("3"), publish("4")]);
        let mut died = Vec::new();
        {
            let mut consumer = node.consumer(work.clone());
            for delivery in match cause {
                Cause::Rejected | Cause::Failures => node.take(&mut consumer),
                _ => Vec::new(),
            } {
                let verdict = if cause == Cause::Rejected { reject("bad") } else { fail("bad") };
                node.settle(&consumer, &delivery, verdict);
            }
            node.pass(Duration::ZERO);
        }
        node.pass(Duration::from_secs(6));
        for _ in 0..4 {
            for taken in node.take(&mut node.consumer(morgue.clone())) {
                assert_eq!(taken.message.death().unwrap().cause, cause);
                died.push(id(&taken.message));
                node.run(node.broker.remove(&morgue, taken.lease.position)).unwrap();
            }
            node.pass(Duration::from_secs(10));
        }
        let alive = if cause == Cause::Overflow { 3 } else { 4 };
        assert_eq!(died, ["1", "2", "3", "4"][..alive], "{cause:?}");
        let view = node.broker.queue_view(&work);
        assert_eq!((view.ready, view.leased, view.waiting), (4 - alive as u64, 0, 0), "{cause:?}");
        assert_eq!((view.counts.dead_lettered, view.counts.dropped), (alive as u64, 0));
    }
}

#[test]
fn a_queue_whose_messages_cannot_be_decided_keeps_no_other_from_being_kept() {
    let node = Node::new();
    let options = QueueOptions {
        message_ttl: Some(Duration::from_secs(10)),
        expired_to_dead_letter: true,
        ..QueueOptions::default()
    };
    // Nobody is there to route what dies in it.
    let hook = QueueOptions { dead_letter: DeadLetter::Hook("x".into()), ..options.clone() };
    let stuck = queue(&node, "stuck", hook);
    let work = queue(&node, "work", options);
    let unused = QueueOptions { expires: Some(Duration::from_secs(5)), ..QueueOptions::default() };
    queue(&node, "unused", unused);
    node.publish(stuck.clone(), &[publish("1")]);
    node.publish(work.clone(), &[publish("1")]);
    node.clock.advance(Duration::from_secs(11));
    let kept = node.run(node.broker.maintain_once());
    assert_eq!(kept.unwrap_err().reason(), Reason::Misconfigured);
    assert_eq!(node.broker.queue_view(&work).counts.dead_lettered, 1);
    assert!(node.broker.queue(&key("unused")).is_err(), "the other maintenance is done");
    let view = node.broker.queue_view(&stuck);
    assert_eq!((view.leased, view.waiting), (0, 1), "nobody holds what could not be decided");
}

#[test]
fn a_dead_letter_that_cannot_be_taken_leaves_the_message_where_it_is() {
    let node = Node::new();
    let limit = QueueLimit { messages: Some(1), ..Default::default() };
    let morgue = queue(&node, "work.dead", QueueOptions { limit, ..Default::default() });
    let work = queue(&node, "work", QueueOptions::default());
    node.publish(work.clone(), &[publish("1"), publish("2")]);
    let mut consumer = node.consumer(work.clone());
    let taken = node.take(&mut consumer);
    let both: Vec<_> =
        taken.iter().map(|delivery| (delivery.lease.clone(), reject("bad"))).collect();
    assert!(node.run(consumer.settler().settle_durably(&both)).unwrap().lost.is_empty());
    node.pass(Duration::ZERO);
    assert_eq!(node.broker.queue_view(&morgue).ready, 1);
    let view = node.broker.queue_view(&work);
    assert_eq!((view.ready, view.leased, view.dead_letters_waiting), (0, 0, 1));
    // A crash forgets what its consumer said, and loses nothing.
    drop(consumer);
    let node = node.crash(&mut Rng::seeded(4));
    let work = node.broker.queue(&key("work")).unwrap();
    let morgue = node.broker.queue(&key("work.dead")).unwrap();
    let mut consumer = node.consumer(work.clone());
    let again = node.take(&mut consumer);
    assert_eq!((ids(&again), again[0].lease.failures), (vec!["2".to_owned()], 0));
    node.settle(&consumer, &again[0], reject("bad"));
    // It waits also when its consumer has gone.
    node.pass(Duration::ZERO);
    drop(consumer);
    node.run(node.broker.purge(&MessageSource::Queue(morgue.clone()))).unwrap();
    node.pass(Duration::from_secs(11));
    assert_eq!(node.broker.queue_view(&morgue).ready, 1);
    assert_eq!(node.broker.queue_view(&work).dead_letters_waiting, 0);
    let again = node.broker.set_dead_letter_route(Arc::new(ToBoth(node.broker.clone())));
    again.unwrap();
    let twice = node.broker.set_dead_letter_route(Arc::new(ToBoth(node.broker.clone())));
    assert_eq!(twice.unwrap_err().reason(), Reason::DefinitionConflict);
}

#[test]
fn two_redrives_at_once_send_each_dead_letter_back_once() {
    let node = Node::new();
    let work = queue(&node, "work", QueueOptions::default());
    let messages: Vec<_> = (0..100).map(|n| publish(&n.to_string())).collect();
    node.publish(work.clone(), &messages);
    let options = weft_broker::ConsumerOptions { prefetch: 100, ..Default::default() };
    let mut consumer = node.broker.consume(work.clone(), options).unwrap();
    node.settle_down();
    for delivery in node.run(consumer.try_batch(100)).unwrap() {
        node.settle(&consumer, &delivery, reject("bad"));
    }
    let dead = node.broker.queue(&key("work.dead")).unwrap();
    let options = RedriveOptions::default();
    let (one, other) = node.run(async {
        tokio::join!(
            node.broker.redrive(&dead, None, &options),
            node.broker.redrive(&dead, None, &options)
        )
    });
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(node.broker.queue_view(&work).ready, 100);
    assert_eq!(node.broker.queue_view(&dead).ready, 0);
    assert_eq!(one.redriven + other.redriven, 100);
}

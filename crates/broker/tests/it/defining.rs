//! Definitions: what a crash leaves of a change, and what is refused.

use std::{future::Future, sync::Arc, task::Poll, time::Duration};

use weft_broker::{
    DeadLetter, PublishTarget, QueueLimit, QueueOptions, Retention, Start, SubscriptionKey,
    SubscriptionOptions, TopicOptions,
    watch::{Aftermath, DefinitionWatcher, Deleted},
};
use weft_kernel::{Reason, Result, Rng};
use weft_ledger::disk::simulated::Faults;

use crate::node::{Node, ids, key, publish};

/// Lets the power fail at each sync of a change in turn, and checks what is there afterwards; the last
/// time the change is done.
pub(crate) fn at_each_sync(
    prepare: impl Fn(&Node),
    change: impl AsyncFn(&Node) -> Result<()>,
    check: impl Fn(&Node),
) {
    for sync in 1.. {
        let node = Node::new();
        prepare(&node);
        node.settle_down();
        let halt_at_sync = Some(node.disk.syncs() + sync);
        node.disk.set_faults(Faults { halt_at_sync, ..Faults::default() });
        let done = node.try_run(change(&node)).is_some_and(|done| done.is_ok());
        let node = node.crash(&mut Rng::seeded(sync));
        check(&node);
        if done {
            assert!(sync > 2, "the change takes more than one step");
            return;
        }
    }
}

#[test]
fn a_crash_amid_altering_a_queue_leaves_it_as_it_was_or_as_it_was_to_be() {
    let old = QueueOptions::default();
    let new = QueueOptions {
        limit: QueueLimit { messages: Some(5), ..QueueLimit::default() },
        lease: Duration::from_secs(7),
        single_active: true,
        ..QueueOptions::default()
    };
    let prepare = |node: &Node| {
        let queue = node.run(node.broker.declare_queue(&key("q"), old.clone())).unwrap();
        node.publish(queue, &[publish("first")]);
    };
    let change = async |node: &Node| node.broker.alter_queue(&key("q"), new.clone()).await;
    at_each_sync(prepare, change, |node| {
        let queue = node.broker.queue(&key("q")).unwrap();
        let found = queue.options();
        assert!(found == old || found == new, "{found:?}");
        // The store goes by the definition too.
        let target = PublishTarget::Queue(queue.clone());
        let refused = ["1", "2", "3", "4", "5"]
            .into_iter()
            .any(|id| node.run(node.broker.publish(&target, &[publish(id)], None)).is_err());
        assert_eq!(refused, found == new);
        let mut consumer = node.consumer(queue);
        assert_eq!(ids(&node.take(&mut consumer))[0], "first");
    });
}

#[test]
fn a_crash_amid_altering_a_topic_leaves_it_as_it_was_or_as_it_was_to_be() {
    let old = TopicOptions::default();
    let retention = Retention { bytes: Some(1 << 20), ..Retention::default() };
    let new = TopicOptions { retention, ..TopicOptions::default() };
    let prepare = |node: &Node| {
        node.run(node.broker.declare_topic(&key("t"), old.clone())).unwrap();
    };
    let change = async |node: &Node| node.broker.alter_topic(&key("t"), new.clone()).await;
    at_each_sync(prepare, change, |node| {
        let found = node.broker.topic(&key("t")).unwrap().options();
        assert!(found == old || found == new, "{found:?}");
    });
}

#[test]
fn a_crash_amid_altering_a_subscription_leaves_it_as_it_was_or_as_it_was_to_be() {
    let start = Start::Time(1);
    let old = SubscriptionOptions { start, ..SubscriptionOptions::default() };
    let new = SubscriptionOptions { lease: Duration::from_secs(7), ..old.clone() };
    let name = SubscriptionKey::new(&key("t.*"), "s").unwrap();
    let prepare = |node: &Node| {
        for topic in ["t.a", "t.b"] {
            node.run(node.broker.declare_topic(&key(topic), TopicOptions::default())).unwrap();
        }
        node.run(node.broker.declare_subscription(&name, old.clone())).unwrap();
    };
    let change = async |node: &Node| node.broker.alter_subscription(&name, new.clone()).await;
    at_each_sync(prepare, change, |node| {
        let found = node.broker.subscription(&name).unwrap().options();
        assert!(found == old || found == new, "{found:?}");
    });
}

#[test]
fn a_name_must_leave_room_for_that_of_its_dead_letters() {
    let node = Node::new();
    node.run(node.broker.declare_topic(&key("t"), TopicOptions::default())).unwrap();
    let (fits, long) = ("x".repeat(250), "x".repeat(251));
    let subscription = |name: &str| SubscriptionKey::new(&key("t"), name).unwrap();
    node.run(node.broker.declare_queue(&key(&fits), QueueOptions::default())).unwrap();
    let options = SubscriptionOptions::default();
    node.run(node.broker.declare_subscription(&subscription(&fits), options.clone())).unwrap();
    let queue = node.run(node.broker.declare_queue(&key(&long), QueueOptions::default()));
    assert_eq!(queue.unwrap_err().reason(), Reason::MalformedRequest);
    let read = node.run(node.broker.declare_subscription(&subscription(&long), options.clone()));
    assert_eq!(read.unwrap_err().reason(), Reason::MalformedRequest);
    // Without dead letters any name will do, and they cannot be had later.
    let none = QueueOptions { dead_letter: DeadLetter::None, ..QueueOptions::default() };
    node.run(node.broker.declare_queue(&key(&long), none)).unwrap();
    let altered = node.run(node.broker.alter_queue(&key(&long), QueueOptions::default()));
    assert_eq!(altered.unwrap_err().reason(), Reason::MalformedRequest);
    let none = SubscriptionOptions { dead_letter: DeadLetter::None, ..options.clone() };
    node.run(node.broker.declare_subscription(&subscription(&long), none)).unwrap();
    let altered = node.run(node.broker.alter_subscription(&subscription(&long), options));
    assert_eq!(altered.unwrap_err().reason(), Reason::MalformedRequest);
}

#[test]
fn what_is_acknowledged_in_a_new_queue_survives_at_once() {
    let node = Node::new();
    let other = node.run(node.broker.declare_queue(&key("o"), QueueOptions::default())).unwrap();
    {
        let name = key("q");
        let mut declaring =
            std::pin::pin!(node.broker.declare_queue(&name, QueueOptions::default()));
        let mut polls = 0;
        // Somebody finds the queue as soon as it can be found, and publishes to it.
        let publishing = async {
            let queue = std::future::poll_fn(|context| {
                // For a while there is room for its group, but not for its definition.
                if node.broker.store().stats_now().consumption_groups == 2 && polls < 50 {
                    node.fill(&other);
                    polls += 1;
                }
                let done = declaring.as_mut().poll(context).is_ready();
                match node.broker.queue(&name) {
                    Ok(queue) => Poll::Ready(queue),
                    Err(_) if done => panic!("it is declared and cannot be found"),
                    Err(_) => Poll::Pending,
                }
            })
            .await;
            let messages = [publish("1")];
            node.broker.publish(&PublishTarget::Queue(queue), &messages, None).await.unwrap();
        };
        node.run(publishing);
    }
    drop(other);
    let node = node.crash(&mut Rng::seeded(1));
    let mut consumer = node.consumer(node.broker.queue(&key("q")).unwrap());
    assert_eq!(ids(&node.take(&mut consumer)), ["1"]);
}

/// Notes the deletions that it is told of, and has one note more written once each is over.
#[derive(Default)]
struct Notes(Arc<parking_lot::Mutex<Vec<String>>>);

impl DefinitionWatcher for Notes {
    fn deleted(&self, what: Deleted<'_>) -> Option<Aftermath> {
        self.0.lock().push(format!("{what:?}"));
        let notes = Arc::clone(&self.0);
        let Deleted::Queue(key) = what else { return None };
        let after = format!("after {key}");
        Some(Box::pin(async move { notes.lock().push(after) }))
    }
}

#[test]
fn every_deletion_is_told_of_by_whomever() {
    let node = Node::new();
    let broker = &node.broker;
    let notes = Arc::new(Notes::default());
    broker.watch_definitions(notes.clone());
    // A second one is told as well.
    let others = Arc::new(Notes::default());
    broker.watch_definitions(others.clone());
    let subscription = SubscriptionKey::new(&key("t"), "s").unwrap();
    let expires = Some(Duration::from_secs(60));
    let unused = QueueOptions { expires, ..QueueOptions::default() };
    node.run(async {
        broker.declare_queue(&key("q"), QueueOptions::default()).await?;
        broker.declare_queue(&key("unused"), unused).await?;
        broker.declare_topic(&key("t"), TopicOptions::default()).await?;
        broker.declare_subscription(&subscription, SubscriptionOptions::default()).await?;
        broker.delete_queue(&key("q"), None).await?;
        broker.delete_topic(&key("t")).await
    })
    .unwrap();
    node.pass(Duration::from_secs(61));
    let told: Vec<String> = std::mem::take(&mut *notes.0.lock());
    let expected = [
        format!("{:?}", Deleted::Queue(&key("q"))),
        "after q".into(),
        format!("{:?}", Deleted::Subscription(&subscription)),
        format!("{:?}", Deleted::Topic(&key("t"))),
        format!("{:?}", Deleted::Queue(&key("unused"))),
        "after unused".into(),
    ];
    assert_eq!(told, expected);
    assert_eq!(*others.0.lock(), expected);
}

#[test]
fn a_task_can_wait_for_a_subscription() {
    let node = Node::new();
    let broker = &node.broker;
    let wanted = SubscriptionKey::new(&key("t"), "s").unwrap();
    node.run(broker.declare_topic(&key("t"), TopicOptions::default())).unwrap();
    let (found, declared) = node.run(async {
        tokio::join!(
            broker.subscription_declared(&wanted),
            broker.declare_subscription(&wanted, SubscriptionOptions::default())
        )
    });
    assert!(Arc::ptr_eq(&found, &declared.unwrap()));
}

//! Many declarations as one: everything that is wrong is told before anything is changed, and a crash
//! leaves all of it or nothing.

use std::time::Duration;

use weft_broker::{
    Declarations, DeclaredSchedule, Missed, OnFailure, Order, Publish, PublishTarget, QueueOptions,
    Retention, ScheduleTarget, Start, SubscriptionKey, SubscriptionOptions, TopicOptions, When,
};
use weft_kernel::{Reason, Rng};

use crate::{
    defining::at_each_sync,
    node::{Node, event, key, publish},
};

fn name(topic: &str, name: &str) -> SubscriptionKey {
    SubscriptionKey::new(&key(topic), name).unwrap()
}

fn old() -> Declarations {
    Declarations {
        topics: vec![(key("a"), TopicOptions::default())],
        queues: vec![(key("b"), QueueOptions::default())],
        subscriptions: vec![
            (name("a", "s"), SubscriptionOptions::default()),
            (name(">", "all"), SubscriptionOptions::default()),
        ],
        schedules: vec![
            schedule("gone", ScheduleTarget::Queue("b".into()), "0 0 1 1 *"),
            schedule("moved", ScheduleTarget::Queue("b".into()), "0 0 1 1 *"),
        ],
    }
}

pub(crate) fn schedule(id: &str, target: ScheduleTarget, cron: &str) -> DeclaredSchedule {
    let when = When::Recurring {
        cron: cron.into(),
        zone: String::new(),
        missed: Missed::Once,
        jitter: Duration::ZERO,
    };
    (key(id), target, when, Publish::new(event(id, "test", id)))
}

/// Everything of [`old`] otherwise, and more.
fn new() -> Declarations {
    let lease = Duration::from_secs(7);
    let retention = Retention { age: Some(Duration::from_secs(60)), ..Retention::default() };
    let mut new = old();
    new.topics[0].1.retention = retention;
    new.queues[0].1.lease = lease;
    new.subscriptions[0].1.lease = lease;
    new.topics.push((key("c"), TopicOptions::default()));
    new.queues.push((key("d"), QueueOptions::default()));
    new.subscriptions.push((name("c", "t"), SubscriptionOptions::default()));
    let queue = || ScheduleTarget::Queue("d".into());
    new.schedules = vec![
        schedule("j", queue(), "0 0 1 1 *"),
        schedule("k", ScheduleTarget::Topic("c".into()), "@every 1h"),
        schedule("moved", queue(), "0 0 2 1 *"),
    ];
    new
}

pub(crate) fn commit(node: &Node, declarations: Declarations) {
    node.run(async {
        let prepared =
            node.broker.prepare(declarations).await.map_err(|faults| format!("{faults:?}"));
        assert!(prepared.unwrap().commit().await.unwrap().is_empty());
    });
}

/// What there is, as words.
fn state(node: &Node) -> String {
    let broker = &node.broker;
    let topics: Vec<_> =
        broker.topics().iter().map(|topic| (topic.key().clone(), topic.options())).collect();
    let queues: Vec<_> =
        broker.queues().iter().map(|queue| (queue.key().clone(), queue.options())).collect();
    let subscriptions: Vec<_> =
        broker.subscriptions().iter().map(|one| (one.key().clone(), one.options())).collect();
    let schedules: Vec<_> = node
        .run(broker.schedules("", None, 10))
        .unwrap()
        .into_iter()
        .map(|one| (one.id, one.target, one.when))
        .collect();
    format!("{topics:?} {queues:?} {subscriptions:?} {schedules:?}")
}

#[test]
fn everything_that_is_wrong_is_told_and_nothing_is_changed() {
    let node = Node::new();
    commit(&node, old());
    let before = state(&node);
    let mut wrong = new();
    wrong.topics.push((key("x.*"), TopicOptions::default()));
    wrong.queues[0].1.order = Order::Key { on_failure: OnFailure::Park };
    wrong.queues[0].1.dedupe = Some(Default::default());
    wrong
        .queues
        .push((key("e"), QueueOptions { lease: Duration::ZERO, ..QueueOptions::default() }));
    wrong.subscriptions[0].1.start = Start::First;
    wrong.subscriptions.push((name("nowhere", "u"), SubscriptionOptions::default()));
    // The same subscription, on another topic.
    wrong.subscriptions.push((name("c", "s"), SubscriptionOptions::default()));
    let beyond =
        SubscriptionOptions { start: Start::Position(9), ..SubscriptionOptions::default() };
    wrong.subscriptions.push((name("a", "v"), beyond.clone()));
    wrong.subscriptions.push((name("c", "w"), beyond));
    wrong.schedules.push(schedule("n", ScheduleTarget::Topic("nowhere".into()), "0 0 * * *"));
    wrong.schedules.push(schedule("l", ScheduleTarget::Topic("a".into()), "0 0 30 2 *"));
    let faults = node.run(node.broker.prepare(wrong)).unwrap_err();
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    for (object, why) in [
        ("topic x.*", "pattern"),
        ("queue b", "order and dedupe"),
        ("queue e", "lease"),
        ("subscription s of a", "start"),
        ("subscription u of nowhere", "no topic nowhere"),
        ("subscription v of a", "beyond"),
        ("subscription w of c", "is new"),
        ("subscription s of c", "stays with its topic"),
        ("schedule n", "no topic nowhere"),
        ("schedule l", "never fires"),
    ] {
        let found = told.iter().any(|told| told.starts_with(object) && told.contains(why));
        assert!(found, "{object}: {why} is missing in {told:#?}");
    }
    assert_eq!(told.len(), 10, "{told:#?}");
    assert_eq!(state(&node), before);
    // Nor is anything held up by it.
    commit(&node, new());
    assert_ne!(state(&node), before);
}

#[test]
fn nobody_else_changes_what_was_checked() {
    let node = Node::new();
    commit(&node, old());
    let prepared = node.run(node.broker.prepare(new())).unwrap();
    let other = QueueOptions { priorities: true, ..QueueOptions::default() };
    let name = key("d");
    assert!(node.try_run(node.broker.declare_queue(&name, other.clone())).is_none());
    node.run(prepared.commit()).unwrap();
    let refused = node.run(node.broker.declare_queue(&name, other));
    assert_eq!(refused.unwrap_err().reason(), Reason::DefinitionConflict);
    // What is only checked holds nobody up for longer.
    drop(node.run(node.broker.prepare(new())).unwrap());
    node.run(node.broker.declare_queue(&key("e"), QueueOptions::default())).unwrap();
}

#[test]
fn a_subscription_stays_paused() {
    let node = Node::new();
    commit(&node, old());
    node.run(node.broker.pause(&name("a", "s"), true)).unwrap();
    commit(&node, new());
    let options = node.broker.subscription(&name("a", "s")).unwrap().options();
    assert!(options.paused && options.lease == Duration::from_secs(7));
}

#[test]
fn a_crash_amid_a_commit_leaves_all_of_it_or_nothing() {
    let states = |declarations: Declarations| {
        let node = Node::new();
        commit(&node, old());
        commit(&node, declarations);
        state(&node)
    };
    let (before, after) = (states(old()), states(new()));
    let prepare = |node: &Node| {
        commit(node, old());
        let topic = node.broker.topic(&key("a")).unwrap();
        node.publish(topic, &[publish("first")]);
    };
    let change = async |node: &Node| {
        let missing = node.broker.prepare(new()).await.unwrap().commit().await?;
        missing.into_iter().next().map_or(Ok(()), Err)
    };
    at_each_sync(prepare, change, |node| {
        let found = state(node);
        assert!(found == before || found == after, "{found}");
        let subscription = node.broker.subscription(&name(">", "all")).unwrap();
        assert_eq!(
            node.broker.subscription_view(&subscription).topics,
            if found == after { 2 } else { 1 }
        );
        // What is there works, and the same again completes it.
        commit(node, new());
        assert_eq!(state(node), after);
        for target in [
            PublishTarget::Topic(node.broker.topic(&key("c")).unwrap()),
            PublishTarget::Queue(node.broker.queue(&key("d")).unwrap()),
        ] {
            node.publish(target, &[publish("second")]);
        }
        assert_eq!(node.broker.subscription_view(&subscription).ready, 2);
    });
}

#[test]
fn what_a_crash_left_under_a_name_is_not_taken_for_it() {
    let node = Node::new();
    node.run(node.broker.declare_queue(&key("d"), QueueOptions::default())).unwrap();
    let queue = node.broker.queue(&key("d")).unwrap();
    node.publish(queue, &[publish("of the former")]);
    // Its definition goes first, and its log does not follow any more.
    let halt_at_sync = Some(node.disk.syncs() + 2);
    let faults = weft_ledger::disk::simulated::Faults { halt_at_sync, ..Default::default() };
    node.disk.set_faults(faults);
    let _cut_short = node.try_run(node.broker.delete_queue(&key("d"), None));
    let node = node.crash(&mut Rng::seeded(3));
    assert!(node.broker.queue(&key("d")).is_err(), "it was deleted");
    commit(&node, old());
    commit(&node, new());
    let queue = node.broker.queue(&key("d")).unwrap();
    assert_eq!(node.broker.queue_view(&queue).ready, 0);
}

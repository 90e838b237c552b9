//! Each option that not every engine has asks for its capability, and the plainest options for none.

use std::time::Duration;

use weft_kernel::Reason;

use super::*;
use crate::{
    options::{Dedupe, PushTarget, QueueLimit},
    retry::Backoff,
};

fn nothing() -> Capabilities {
    Capabilities::new(|_| Support::Missing)
}

fn at_once() -> Backoff {
    Backoff { first: Duration::ZERO, ..Backoff::default() }
}

fn plain_queue() -> QueueOptions {
    QueueOptions {
        durability: Durability::Memory,
        failures_max: None,
        retry: at_once(),
        dead_letter: DeadLetter::None,
        ..QueueOptions::default()
    }
}

fn plain_topic() -> TopicOptions {
    TopicOptions {
        durability: Durability::Memory,
        retention: Retention { age: None, ..Retention::default() },
        dedupe: None,
        ..TopicOptions::default()
    }
}

fn plain_subscription() -> SubscriptionOptions {
    SubscriptionOptions {
        failures_max: None,
        retry: at_once(),
        dead_letter: DeadLetter::None,
        ..SubscriptionOptions::default()
    }
}

#[test]
fn the_words_are_distinct() {
    let mut words: Vec<_> = Capability::ALL.iter().map(|one| one.word()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Capability::ALL.len());
    for (at, capability) in Capability::ALL.iter().enumerate() {
        assert_eq!(*capability as usize, at);
    }
}

#[test]
fn the_plainest_options_ask_for_nothing() {
    assert_eq!(nothing().lacks_of_queue(&plain_queue()), []);
    assert_eq!(nothing().lacks_of_topic(&plain_topic()), []);
    assert_eq!(nothing().lacks_of_subscription("t", &plain_subscription()), []);
    let pushed = SubscriptionOptions {
        target: SubscriptionTarget::Push(PushTarget::from("service")),
        ..plain_subscription()
    };
    assert_eq!(nothing().lacks_of_subscription("t", &pushed), [], "Weft pushes, not the engine");
}

#[test]
fn each_option_of_a_queue_asks_for_its_capability() {
    let plain = plain_queue;
    let limit = |overflow| QueueLimit { messages: Some(1), bytes: None, overflow };
    let drop = Overflow::DropOldest { dead_letter: false };
    let parks = Order::Key { on_failure: OnFailure::Park };
    let blocks = Order::Key { on_failure: OnFailure::Block };
    let second = Some(Duration::from_secs(1));
    let cases = [
        (QueueOptions { durability: Durability::Os, ..plain() }, Capability::DurableConfirms),
        (QueueOptions { failures_max: Some(1), ..plain() }, Capability::FailureLimit),
        (QueueOptions { retry: Backoff::default(), ..plain() }, Capability::DelayedRetry),
        (QueueOptions { dead_letter: DeadLetter::Queue, ..plain() }, Capability::DeadLetters),
        (QueueOptions { lease: Duration::from_secs(1), ..plain() }, Capability::LeaseTime),
        (QueueOptions { order: blocks, ..plain() }, Capability::KeyOrder),
        (QueueOptions { order: parks, ..plain() }, Capability::KeyParking),
        (QueueOptions { priorities: true, ..plain() }, Capability::Priorities),
        (QueueOptions { message_ttl: second, ..plain() }, Capability::TimeToLive),
        (QueueOptions { expires: second, ..plain() }, Capability::Expiry),
        (QueueOptions { auto_delete: true, ..plain() }, Capability::Expiry),
        (QueueOptions { limit: limit(Overflow::Refuse), ..plain() }, Capability::QueueLimit),
        (QueueOptions { limit: limit(drop), ..plain() }, Capability::DropOldest),
        (QueueOptions { single_active: true, ..plain() }, Capability::SingleActive),
        (QueueOptions { dedupe: Some(Dedupe::default()), ..plain() }, Capability::Dedupe),
        (QueueOptions { transient: true, ..plain() }, Capability::ConnectionQueues),
    ];
    for (options, capability) in cases {
        let lacks: Vec<_> =
            nothing().lacks_of_queue(&options).iter().map(|lack| lack.capability).collect();
        assert_eq!(lacks, [capability], "{options:?}");
        let all = Capabilities::new(|_| Support::Emulated);
        assert_eq!(all.lacks_of_queue(&options), [], "{options:?}");
    }
}

#[test]
fn each_option_of_a_topic_or_subscription_asks_for_its_capability() {
    let topic = |options: TopicOptions| nothing().lacks_of_topic(&options);
    let retention = Retention { keep_unread: true, age: None, ..Retention::default() };
    let age = Retention::default();
    for (options, capability) in [
        (TopicOptions { retention: age, ..plain_topic() }, Capability::Retention),
        (TopicOptions { retention, ..plain_topic() }, Capability::KeepUnread),
        (TopicOptions { compact: true, ..plain_topic() }, Capability::Compaction),
        (TopicOptions { dedupe: Some(Dedupe::default()), ..plain_topic() }, Capability::Dedupe),
    ] {
        assert_eq!(
            topic(options).iter().map(|lack| lack.capability).collect::<Vec<_>>(),
            [capability]
        );
    }
    let plain = plain_subscription;
    let filter = crate::FilterOptions { expression: Some("true".into()), ..Default::default() };
    let queue = SubscriptionTarget::Queue("q".into());
    for (name, options, capability) in [
        ("a.*", plain(), Capability::TopicPatterns),
        ("t", SubscriptionOptions { start: Start::First, ..plain() }, Capability::Replay),
        ("t", SubscriptionOptions { start: Start::Time(1), ..plain() }, Capability::ReplayByTime),
        ("t", SubscriptionOptions { filter, ..plain() }, Capability::Filters),
        ("t", SubscriptionOptions { target: queue, ..plain() }, Capability::Forwarding),
        ("t", SubscriptionOptions { paused: true, ..plain() }, Capability::Pause),
        (
            "t",
            SubscriptionOptions { ephemeral: Some(Duration::from_secs(1)), ..plain() },
            Capability::Expiry,
        ),
    ] {
        let lacks = nothing().lacks_of_subscription(name, &options);
        assert_eq!(lacks.iter().map(|lack| lack.capability).collect::<Vec<_>>(), [capability]);
    }
}

#[test]
fn a_refusal_says_the_option_the_engine_and_the_capability() {
    let lacks = nothing().lacks_of_queue(&QueueOptions { priorities: true, ..plain_queue() });
    let error = verdict("far", &lacks).unwrap_err();
    assert_eq!(error.reason(), Reason::NotSupported);
    for part in ["priorities: ", "`far`", "`priorities`", "(messages of higher priority go first)"]
    {
        assert!(error.said().contains(part), "{part} is missing in: {error}");
    }
    let publish = crate::message::MessageBuilder::event(0)
        .attribute("id", crate::message::Value::Text("1"))
        .attribute("source", crate::message::Value::Text("/"))
        .attribute("type", crate::message::Value::Text("t"))
        .finish()
        .map(Publish::new)
        .unwrap();
    nothing().check_publish("far", &publish, None).unwrap();
    let late = Publish { due_ms: 1, ..publish };
    let error = nothing().check_publish("far", &late, Some(1)).unwrap_err();
    assert!(error.said().contains("`schedules`") && error.said().contains("`expected_position`"));
}

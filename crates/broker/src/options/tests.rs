//! Defaults pass, faults are told all at once, and what is stored comes back.

use std::time::Duration;

use super::*;
use crate::{filter::FilterOptions, retry::Backoff};

#[test]
fn the_defaults_pass_and_come_back() {
    let (topic, queue, subscription) =
        (TopicOptions::default(), QueueOptions::default(), SubscriptionOptions::default());
    topic.check().unwrap();
    queue.check().unwrap();
    subscription.check().unwrap();
    let queue = QueueOptions {
        order: Order::Key { on_failure: OnFailure::Park },
        dead_letter: DeadLetter::Hook("dlx".into()),
        limit: QueueLimit {
            messages: Some(5),
            bytes: None,
            overflow: Overflow::DropOldest { dead_letter: true },
        },
        durability: Durability::Os,
        ..queue
    };
    let stored = serde_json::to_string(&queue).unwrap();
    assert_eq!(serde_json::from_str::<QueueOptions>(&stored).unwrap(), queue);
    let stored = serde_json::to_string(&topic).unwrap();
    assert_eq!(serde_json::from_str::<TopicOptions>(&stored).unwrap(), topic);
    let stored = serde_json::to_string(&subscription).unwrap();
    assert_eq!(serde_json::from_str::<SubscriptionOptions>(&stored).unwrap(), subscription);
    assert_eq!(serde_json::from_str::<TopicOptions>("{}").unwrap(), topic);
    let target =
        SubscriptionTarget::Push(PushTarget { concurrency: 7, ..PushTarget::from("hook") });
    let stored = serde_json::to_string(&target).unwrap();
    assert_eq!(serde_json::from_str::<SubscriptionTarget>(&stored).unwrap(), target);
    // As a target was stored when a configuration alone could declare it.
    let was: SubscriptionTarget = serde_json::from_str(r#"{"push":"hook"}"#).unwrap();
    let configured = PushTarget { configured: true, ..PushTarget::from("hook") };
    assert_eq!(was, SubscriptionTarget::Push(configured));
}

#[test]
fn every_fault_is_told_at_once() {
    let queue = QueueOptions {
        lease: Duration::ZERO,
        failures_max: Some(0),
        retry: Backoff { factor: 0.5, ..Backoff::default() },
        priorities: true,
        order: Order::Key { on_failure: OnFailure::Block },
        exclusive: Some(1),
        expired_to_dead_letter: true,
        dead_letter: DeadLetter::None,
        ..QueueOptions::default()
    };
    let error = queue.check().unwrap_err();
    for part in ["lease:", "failures_max:", "factor", "not both", "exclusive:", "dead_letter:"] {
        assert!(error.said().contains(part), "{part} is missing in: {error}");
    }
    let subscription = SubscriptionOptions {
        filter: FilterOptions { expression: Some("1 +".into()), ..FilterOptions::default() },
        dead_letter: DeadLetter::Hook(String::new()),
        target: SubscriptionTarget::Push("no name".into()),
        ..SubscriptionOptions::default()
    };
    let error = subscription.check().unwrap_err();
    for part in ["not CEL", "dead_letter:", "no name"] {
        assert!(error.said().contains(part), "{part} is missing in: {error}");
    }
    let topic = TopicOptions {
        message_bytes_max: 0,
        dedupe: Some(Dedupe { ids: 0, ..Dedupe::default() }),
        retention: Retention { bytes: Some(2), bytes_max: Some(1), ..Retention::default() },
        ..TopicOptions::default()
    };
    let error = topic.check().unwrap_err();
    for part in ["message_bytes_max:", "dedupe:", "bytes_max"] {
        assert!(error.said().contains(part), "{part} is missing in: {error}");
    }
}

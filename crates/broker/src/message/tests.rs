//! Messages come back as they were stored, and what is not one is told.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    history::{Attempt, Ended, History},
    name::{Key, SubscriptionKey},
};

fn event() -> MessageBuilder {
    MessageBuilder::event(64)
        .attribute("id", Value::Text("1"))
        .attribute("source", Value::Text("/shop"))
        .attribute("type", Value::Text("order.created"))
}

#[test]
fn an_attribute_is_added_and_all_else_stays() {
    let message = event().header("x-a", "b").body(b"body").finish().unwrap();
    let more = message.with_attribute("streamversion", Value::Text("7"));
    let event = more.event().unwrap();
    assert_eq!(event.get("streamversion"), Some(Value::Text("7")));
    assert_eq!((event.id(), event.header("x-a"), &*more.body()), ("1", Some("b"), &b"body"[..]));
    assert_eq!(event.items().count(), message.event().unwrap().items().count() + 1);
    assert_eq!(Message::from_stored(more.stored().clone()).unwrap(), more);
    let amqp = MessageBuilder::amqp("", "key", &[0, 0], 0).unwrap().finish().unwrap();
    assert_eq!(amqp.with_attribute("a", Value::Integer(1)), amqp);
}

#[test]
fn an_event_comes_back_item_by_item() {
    let message = event()
        .attribute("time", Value::Text("2026-01-02T03:04:05.678Z"))
        .attribute("count", Value::Integer(-7))
        .attribute("urgent", Value::Boolean(true))
        .attribute("blob", Value::Binary(&[0, 255]))
        .attribute("link", Value::Text("https://example.org/"))
        .header("x-a", "b")
        .no_data()
        .body(b"he")
        .body(b"llo")
        .finish()
        .unwrap();
    let read = Message::from_stored(message.stored().clone()).unwrap();
    assert_eq!(read, message);
    let view = read.event().unwrap();
    let items: Vec<_> = view.items().collect();
    assert_eq!(
        items,
        [
            Item::Attribute("id", Value::Text("1")),
            Item::Attribute("source", Value::Text("/shop")),
            Item::Attribute("type", Value::Text("order.created")),
            Item::Attribute("time", Value::Text("2026-01-02T03:04:05.678Z")),
            Item::Attribute("count", Value::Integer(-7)),
            Item::Attribute("urgent", Value::Boolean(true)),
            Item::Attribute("blob", Value::Binary(&[0, 255])),
            Item::Attribute("link", Value::Text("https://example.org/")),
            Item::Header("x-a", "b"),
            Item::NoData,
        ]
    );
    assert_eq!((view.id(), view.source(), view.kind()), ("1", "/shop", "order.created"));
    assert_eq!(view.header("X-A"), Some("b"));
    assert_eq!(&read.body()[..], b"hello");
    assert!(read.amqp().is_none() && read.death().is_none());
}

#[test]
fn an_event_without_id_source_or_type_is_refused() {
    let message = MessageBuilder::event(0).attribute("id", Value::Text("1")).finish();
    assert_eq!(message.unwrap_err().reason(), Reason::MalformedMessage);
}

#[test]
fn an_amqp_message_keeps_its_properties_to_the_byte() {
    let message = MessageBuilder::amqp("orders", "eu.created", &[0x90, 0, 4, b't'], 5)
        .unwrap()
        .body(b"hello")
        .finish()
        .unwrap();
    let read = Message::from_stored(message.stored().clone()).unwrap();
    let amqp = read.amqp().unwrap();
    assert_eq!((amqp.exchange, amqp.routing_key), ("orders", "eu.created"));
    assert_eq!(amqp.properties, [0x90, 0, 4, b't']);
    assert_eq!(&read.body()[..], b"hello");
    assert!(MessageBuilder::amqp(&"x".repeat(256), "", &[], 0).is_err());
}

#[test]
fn heads_have_a_bound() {
    let long = "x".repeat(HEAD_BYTES_MAX);
    assert_eq!(event().header("a", &long).finish().unwrap_err().reason(), Reason::MessageTooLarge);
    assert!(MessageBuilder::amqp("", "", &vec![0; HEAD_BYTES_MAX], 0).is_err());
}

#[test]
fn a_dead_letter_tells_its_story_and_gives_back_the_very_bytes() {
    let message = event().body(b"{}").finish().unwrap();
    let topic = Key::new("/", "orders").unwrap();
    let origins = [
        DeadLetterSource::Queue(topic.clone()),
        DeadLetterSource::Subscription(
            SubscriptionKey { topic: Key::new("/", "orders.*").unwrap(), name: Arc::from("audit") },
            topic,
        ),
    ];
    for origin in origins {
        let history =
            History::default().with(Attempt { at_ms: 3, ended: Ended::Failed, reason: "no stock" });
        let death = Death {
            cause: Cause::Failures,
            reason: "no stock".into(),
            origin,
            position: 42,
            published_ms: 1,
            died_ms: 4,
            failures: 10,
            handouts: 11,
            key: Bytes::from_static(b"customer-7"),
            priority: 3,
            history,
        };
        let dead = Message::from_stored(message.dead_lettered(&death)).unwrap();
        assert_eq!(dead.death(), Some(death.clone()));
        assert_eq!(dead.event().unwrap().id(), "1");
        assert_eq!(dead.revived(), message);
        // What dies again tells the last death, not a death within a death.
        let again = Message::from_stored(dead.dead_lettered(&death)).unwrap();
        assert_eq!(again.revived(), message);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        if let Ok(message) = Message::from_stored(bytes.into()) {
            if let Some(event) = message.event() {
                event.items().count();
            }
            message.amqp();
            message.death();
            message.body();
        }
    }

    #[test]
    fn a_cut_message_is_never_read_beyond_its_end(cut in 0usize..60) {
        let whole = event().header("a", "b").body(b"hello").finish().unwrap();
        let end = cut.min(whole.len());
        if let Ok(message) = Message::from_stored(whole.stored().slice(..end)) {
            prop_assert!(message.body_len() <= 5);
        }
    }
}

//! Whatever is turned into the other form and back is what it was.

use proptest::prelude::*;

use super::*;

fn properties(fill: impl FnOnce(&mut TableWriter<'_>), others: Properties<'_>) -> Vec<u8> {
    let mut table = Vec::new();
    fill(&mut TableWriter::new(&mut table));
    let headers = Table::parse(&table[4..]).unwrap();
    let mut bytes = Vec::new();
    Properties { headers: Some(headers), ..others }.write(&mut bytes);
    bytes
}

fn amqp(properties: &[u8], body: &[u8]) -> Message {
    MessageBuilder::amqp("orders", "eu.created", properties, body.len())
        .unwrap()
        .body(body)
        .finish()
        .unwrap()
}

#[test]
fn an_event_goes_to_amqp_and_back() {
    let event = MessageBuilder::event(0)
        .attribute("id", Value::Text("1"))
        .attribute("source", Value::Text("/shop"))
        .attribute("type", Value::Text("order.created"))
        .attribute("subject", Value::Text("order/1"))
        .attribute("time", Value::Text("2026-01-02T03:04:05.678Z"))
        .attribute("datacontenttype", Value::Text("application/json"))
        .attribute("count", Value::Integer(-7))
        .attribute("urgent", Value::Boolean(true))
        .attribute("blob", Value::Binary(&[0, 255]))
        .header("x-region", "eu")
        .body(b"{}")
        .finish()
        .unwrap();
    let message = event.to_amqp("orders", "order.created").unwrap();
    let head = message.amqp().unwrap();
    assert_eq!((head.exchange, head.routing_key), ("orders", "order.created"));
    let read = Properties::parse(head.properties).unwrap();
    assert_eq!((read.content_type, read.message_id), (Some("application/json"), Some("1")));
    assert_eq!((read.kind, read.delivery_mode), (Some("order.created"), Some(2)));
    let back = message.to_event("unused").unwrap();
    let items = |message: &Message| {
        let mut items: Vec<String> =
            message.event().unwrap().items().map(|item| format!("{item:?}")).collect();
        items.sort();
        items
    };
    assert_eq!(items(&back), items(&event));
    assert_eq!(back.body(), event.body());
    assert_eq!(event.to_event("x").unwrap(), event);
    assert_eq!(message.to_amqp("other", "key").unwrap(), message, "what is AMQP stays as it came");
}

#[test]
fn a_plain_amqp_message_becomes_an_event_of_its_own() {
    let others = Properties {
        content_type: Some("text/plain"),
        correlation_id: Some("c"),
        reply_to: Some("r"),
        timestamp: Some(1_767_323_045),
        app_id: Some("shop"),
        ..Properties::default()
    };
    let bytes = properties(
        |table| {
            table.text("x-region", "eu").entry("n", Field::I32(7)).entry("b", Field::Bool(true));
        },
        others,
    );
    let event = amqp(&bytes, b"hello").to_event("q/42").unwrap();
    let view = event.event().unwrap();
    assert_eq!((view.id(), view.source(), view.kind()), ("q/42", "/amqp/orders", "amqp.message"));
    for (name, value) in [
        ("subject", "eu.created"),
        ("time", "2026-01-02T03:04:05Z"),
        ("datacontenttype", "text/plain"),
        ("correlationid", "c"),
        ("replyto", "r"),
        ("appid", "shop"),
    ] {
        assert_eq!(view.get(name).unwrap().as_text(), Some(value), "{name}");
    }
    for (name, value) in [("x-region", "eu"), ("n", "7"), ("b", "true")] {
        assert_eq!(view.header(name), Some(value), "{name}");
    }
    assert_eq!(&event.body()[..], b"hello");
}

#[test]
fn an_event_that_is_none_is_handed_out_as_the_message_it_is() {
    let headers = |table: &mut TableWriter<'_>| {
        table.text("cloudEvents:specversion", "1.0").text("cloudEvents:id", "1").text("a", "b");
    };
    let structured =
        Properties { content_type: Some("application/cloudevents+json"), ..Properties::default() };
    for (bytes, body) in [
        (properties(headers, Properties::default()), &b"no event"[..]),
        (properties(|_| {}, structured), b"no event"),
        (properties(|_| {}, structured), b"{}"),
        (properties(headers, structured), b""),
    ] {
        let event = amqp(&bytes, body).to_event("q/42").unwrap();
        let view = event.event().unwrap();
        assert_eq!((view.id(), view.kind()), ("q/42", "amqp.message"));
        assert_eq!(&event.body()[..], body);
    }
    let event = amqp(&properties(headers, Properties::default()), b"").to_event("x").unwrap();
    let view = event.event().unwrap();
    assert_eq!((view.header("cloudEvents:id"), view.header("a")), (Some("1"), Some("b")));
}

#[test]
fn attributes_and_headers_that_no_event_has_room_for_do_not_stop_a_message() {
    let structured =
        Properties { content_type: Some("application/cloudevents+json"), ..Properties::default() };
    let long = "x".repeat(300 << 10);
    let body =
        format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","long":"{long}"}}"#);
    let event = amqp(&properties(|_| {}, structured), body.as_bytes()).to_event("x").unwrap();
    assert_eq!(event.event().unwrap().kind(), "amqp.message");
    let many = properties(
        |table| {
            for _ in 0..40_000 {
                table.entry("n", Field::I8(-128));
            }
        },
        Properties::default(),
    );
    let event = amqp(&many, b"hello").to_event("x").unwrap();
    assert_eq!(&event.body()[..], b"hello");
}

#[test]
fn properties_that_are_none_are_told() {
    assert_eq!(amqp(&[255], b"").to_event("x").unwrap_err().reason(), Reason::MalformedMessage);
    let foreign = Message::foreign(b"anything".to_vec().into());
    assert_eq!(&foreign.to_event("x").unwrap().body()[..], b"anything");
}

proptest! {
    #[test]
    fn no_properties_bring_the_conversion_down(properties: Vec<u8>, body: Vec<u8>) {
        if let Ok(event) = amqp(&properties, &body).to_event("id") {
            prop_assert!(event.event().is_some());
            prop_assert!(event.to_amqp("", "").is_ok());
        }
    }
}

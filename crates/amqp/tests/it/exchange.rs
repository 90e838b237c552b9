//! Messages between front-ends: an event is an AMQP message, and an AMQP message is read as it came.

use weft_broker::{Key, MessageBuilder, Publish, message::Value};

use crate::{
    client::{PERSISTENT, header},
    node::{Node, run},
};

#[test]
fn an_event_of_another_front_end_is_an_amqp_message() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        let queue = node.broker.queue(&Key::plain("q").unwrap()).unwrap();
        let message = MessageBuilder::event(100)
            .attribute("id", Value::Text("A-1"))
            .attribute("source", Value::Text("/orders"))
            .attribute("type", Value::Text("order.placed"))
            .attribute("datacontenttype", Value::Text("application/json"))
            .body(b"{}")
            .finish()
            .unwrap();
        node.broker.publish(&queue.into(), &[Publish::new(message)], None).await.unwrap();
        let content = client.get("q").await;
        assert_eq!(content.body, b"{}");
        assert_eq!(header(&content, "cloudEvents:id").as_deref(), Some("A-1"));
        assert_eq!(header(&content, "cloudEvents:type").as_deref(), Some("order.placed"));
        assert_eq!(header(&content, "cloudEvents:specversion").as_deref(), Some("1.0"));
    });
}

#[test]
fn a_queue_of_the_broker_is_there_by_its_name() {
    run(|| async {
        let node = Node::new().await;
        let options = weft_broker::QueueOptions::default();
        node.broker.declare_queue(&Key::plain("mine").unwrap(), options).await.unwrap();
        let mut client = node.connect().await;
        assert_eq!(client.queue("mine", true, b"").await, 0);
        client.publish("", "mine", &PERSISTENT, b"hello").await;
        let content = client.get("mine").await;
        assert_eq!((&content.body[..], &content.properties[..]), (&b"hello"[..], &PERSISTENT[..]));
    });
}

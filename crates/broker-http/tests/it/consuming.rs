//! Receiving and settling without a connection.

use futures_util::StreamExt;
use serde_json::{Value, json};
use weft_api::{Content, Request};
use weft_broker::{Key, MessageBuilder, Publish, PublishTarget};
use weft_wire::{Method, amqp::Properties};

use crate::node::{Node, data};

fn ids(got: &Value) -> Vec<String> {
    let all = got["deliveries"].as_array().unwrap();
    all.iter().map(|delivery| delivery["id"].as_str().unwrap().to_owned()).collect()
}

fn settle(ids: &[String], how: &str) -> String {
    let each: Vec<_> = ids.iter().map(|id| json!({"id": id, "how": how})).collect();
    json!({"settle": each}).to_string()
}

#[tokio::test]
async fn deliveries_outlive_their_request_and_are_settled_by_their_text() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    node.publish("/v1/queues/q", 0..5).await;
    let got = node.post("/v1/queues/q/receive", r#"{"max": 3, "lease": "10m"}"#).await.expect(200);
    assert_eq!(data(&got["deliveries"]), [0, 1, 2]);
    let delivery = &got["deliveries"][0];
    assert_eq!((&delivery["handouts"], &delivery["failures"]), (&json!(1), &json!(0)));
    assert!(delivery["lease_until"].is_string() && delivery["time"].is_string());
    let again = node.post("/v1/queues/q/receive", "").await.expect(200);
    assert_eq!(data(&again["deliveries"]), [3, 4]);

    let ids = ids(&got);
    let said = json!({"settle": [
        {"id": ids[0], "how": "accept"},
        {"id": ids[1], "how": "release"},
        {"id": ids[2], "how": "renew", "lease": "1h"},
    ]});
    let told = node.post("/v1/queues/q/settle", &said.to_string()).await.expect(200);
    assert!(told["settled"].as_array().unwrap().iter().all(|one| one["ok"] == true), "{told}");
    let third = node.post("/v1/queues/q/receive", r#"{"wait": "30s"}"#).await.expect(200);
    assert_eq!(data(&third["deliveries"]), [1]);
    assert_eq!(third["deliveries"][0]["handouts"], 2);
    assert_eq!(node.get("/v1/queues/q").await.expect(200)["leased"], 4);
}

#[tokio::test]
async fn what_came_too_late_keeps_no_other_from_being_settled() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    node.put("/v1/queues/other", "{}").await.expect(201);
    node.publish("/v1/queues/q", 0..2).await;
    let got = node.post("/v1/queues/q/receive", "").await.expect(200);
    let ids = ids(&got);
    node.post("/v1/queues/q/settle", &settle(&ids[..1], "accept")).await.expect(200);
    // Alone it has its own status.
    node.post("/v1/queues/q/settle", &settle(&ids[..1], "accept")).await.refused(409, "lease_lost");
    node.post("/v1/queues/other/settle", &settle(&ids[1..], "accept"))
        .await
        .refused(409, "lease_lost");
    let mut all = ids.clone();
    all.push("nonsense".into());
    let told = node.post("/v1/queues/q/settle", &settle(&all, "accept")).await.expect(200);
    let oks: Vec<_> =
        told["settled"].as_array().unwrap().iter().map(|one| one["ok"].clone()).collect();
    assert_eq!(oks, [json!(false), json!(true), json!(false)]);
    assert_eq!(told["settled"][0]["reason"], "lease_lost");
    assert_eq!(node.get("/v1/queues/q").await.expect(200)["leased"], 0);
}

#[tokio::test]
async fn a_poll_waits_for_the_first_message() {
    let node = Node::new().await;
    node.put("/v1/topics/t", "{}").await.expect(201);
    node.put("/v1/subscriptions/s", r#"{"topic": "t"}"#).await.expect(201);
    let (got, _) = tokio::join!(
        node.post("/v1/subscriptions/s/receive", r#"{"wait": "60s"}"#),
        node.publish("/v1/topics/t", 0..1),
    );
    let got = got.expect(200);
    assert_eq!(data(&got["deliveries"]), [0]);
    assert_eq!(got["deliveries"][0]["topic"], "t");
    node.post("/v1/subscriptions/s/settle", &settle(&ids(&got), "accept")).await.expect(200);
}

#[tokio::test]
async fn a_poll_that_is_given_up_holds_nothing() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    {
        let poll = node.post("/v1/queues/q/receive", r#"{"wait": "60s"}"#);
        let mut poll = std::pin::pin!(poll);
        // Polled once, so that it waits, and then dropped.
        assert!(futures_util::poll!(poll.as_mut()).is_pending());
    }
    node.publish("/v1/queues/q", 0..1).await;
    let got = node.post("/v1/queues/q/receive", r#"{"wait": "30s"}"#).await.expect(200);
    assert_eq!(data(&got["deliveries"]), [0]);
}

#[tokio::test]
async fn polls_end_at_the_drain() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    node.stop.drain(weft_kernel::Tick::NEVER);
    let got = node.post("/v1/queues/q/receive", r#"{"wait": "60s"}"#).await.expect(200);
    assert_eq!(got["deliveries"], json!([]));
}

#[tokio::test]
async fn a_message_that_claims_to_be_an_event_and_is_none_holds_up_nobody() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    let mut properties = Vec::new();
    Properties { content_type: Some("application/cloudevents+json"), ..Properties::default() }
        .write(&mut properties);
    let message = MessageBuilder::amqp("", "q", &properties, 5).unwrap().body(b"hello");
    let queue = PublishTarget::Queue(node.broker.queue(&Key::plain("q").unwrap()).unwrap());
    let publish = Publish::new(message.finish().unwrap());
    node.broker.publish(&queue, &[publish], None).await.unwrap();
    node.publish("/v1/queues/q", 1..2).await;
    let peeked = node.get("/v1/queues/q/messages").await.expect(200);
    assert_eq!(peeked["messages"].as_array().unwrap().len(), 2);
    let got = node.post("/v1/queues/q/receive", "").await.expect(200);
    let event = &got["deliveries"][0]["event"];
    assert_eq!(
        (&event["type"], &event["data_base64"]),
        (&json!("amqp.message"), &json!("aGVsbG8="))
    );
    assert_eq!(got["deliveries"][1]["event"]["data"], 1);
}

#[tokio::test]
async fn a_message_that_cannot_be_shown_stands_in_nobodys_way() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    // A table of headers that ends in its middle.
    let broken = [0x20, 0x00, 0x00, 0x00, 0x00, 0x09, 0x01];
    let message = MessageBuilder::amqp("", "q", &broken, 5).unwrap().body(b"hello");
    let queue = PublishTarget::Queue(node.broker.queue(&Key::plain("q").unwrap()).unwrap());
    let publish = Publish::new(message.finish().unwrap());
    node.broker.publish(&queue, &[publish], None).await.unwrap();
    node.publish("/v1/queues/q", 1..2).await;
    let peeked = node.get("/v1/queues/q/messages").await.expect(200);
    assert!(peeked["messages"][0]["unreadable"].is_string(), "{peeked}");
    let stream = Request::new(Method::Get, "/v1/queues/q/stream?prefetch=1")
        .with_field("accept", "text/event-stream");
    let Content::Stream(mut chunks) = node.send(stream).await.content else { panic!() };
    let mut text = String::new();
    while !text.contains("\ndata: ") {
        text += std::str::from_utf8(&chunks.next().await.unwrap().unwrap()).unwrap();
    }
    assert!(text.contains("event: weft.unreadable"), "{text}");
    drop(chunks);
    node.broker.maintain_once().await.unwrap();
    let got = node.post("/v1/queues/q/receive", "").await.expect(200);
    let one = &got["deliveries"][0];
    assert!(one["event"].is_null() && one["unreadable"].is_string(), "{one}");
    assert_eq!(got["deliveries"][1]["event"]["data"], 1);
    let reject = settle(&ids(&got)[..1], "reject");
    node.post("/v1/queues/q/settle", &reject).await.expect(200);
}

#[tokio::test]
async fn a_subscription_is_moved_to_the_last_message_of_each_topic_that_it_reads() {
    let node = Node::new().await;
    for topic in ["a.x", "a.y", "a.none"] {
        node.put(&format!("/v1/topics/{topic}"), "{}").await.expect(201);
    }
    node.publish("/v1/topics/a.x", 0..3).await;
    node.publish("/v1/topics/a.y", 10..12).await;
    for (name, topic, last) in [("s", "a.x", vec![2]), ("p", "a.>", vec![2, 11])] {
        let body = format!(r#"{{"topic": "{topic}", "start": "last"}}"#);
        node.put(&format!("/v1/subscriptions/{name}"), &body).await.expect(201);
        let path = format!("/v1/subscriptions/{name}");
        let read = async || {
            let mut all = Vec::new();
            loop {
                let body = r#"{"max": 10}"#;
                let got = node.post(&format!("{path}/receive"), body).await.expect(200);
                let taken = data(&got["deliveries"]);
                if taken.is_empty() {
                    break;
                }
                all.extend(taken);
            }
            all.sort_unstable();
            all
        };
        assert_eq!(read().await, last, "{topic}: where it starts");
        for to in ["first", "last"] {
            let moved = node.post(&format!("{path}/seek"), &json!({"to": to}).to_string()).await;
            moved.expect(200);
        }
        assert_eq!(read().await, last, "{topic}: where it is moved");
    }
}

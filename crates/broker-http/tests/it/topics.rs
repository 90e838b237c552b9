//! Topics and subscriptions: declared, published to, read.

use std::time::Duration;

use serde_json::json;
use weft_api::Request;
use weft_broker::{
    Declarations, Key, MessageBuilder, Missed, Publish, ScheduleTarget, SubscriptionKey, When,
    message::Value,
};
use weft_broker_http::Declared;
use weft_wire::{Known, Method};

use crate::node::{Answer, Node, data};

#[tokio::test]
async fn a_topic_is_declared_seen_and_deleted() {
    let node = Node::new().await;
    let options = r#"{"retention": {"age": "1d"}, "message_max": "4KiB"}"#;
    let made = node.put("/v1/topics/orders", options).await.expect(201);
    assert_eq!(made["name"], "orders");
    assert_eq!(made["options"]["retention"]["age"], "1d");
    node.put("/v1/topics/orders", options).await.expect(200);
    node.put("/v1/topics/orders", "{}").await.refused(409, "definition_conflict");
    node.put("/v1/topics/a.%3E", "{}").await.refused(400, "malformed_request");
    assert_eq!(node.get("/v1/topics").await.expect(200)["topics"].as_array().unwrap().len(), 1);
    node.publish("/v1/topics/orders", 0..3).await;
    let seen = node.get("/v1/topics/orders").await.expect(200);
    assert_eq!(
        (&seen["messages"], &seen["first"], &seen["end"]),
        (&json!(3), &json!(0), &json!(3))
    );
    assert_eq!(seen["published"], 3);
    node.delete("/v1/topics/orders").await.expect(204);
    node.get("/v1/topics/orders").await.refused(404, "no_topic");
    node.post("/v1/topics/orders/messages", "x").await.refused(404, "no_topic");
}

#[tokio::test]
async fn what_the_configuration_declares_is_changed_there() {
    let node = Node::new().await;
    node.put("/v1/topics/t", "{}").await.expect(201);
    node.put("/v1/queues/q", "{}").await.expect(201);
    node.put("/v1/subscriptions/s", r#"{"topic": "t"}"#).await.expect(201);
    let topic = Key::plain("t").unwrap();
    node.handle.declare(Declared {
        topics: [topic.clone()].into(),
        queues: [Key::plain("q").unwrap()].into(),
        subscriptions: [SubscriptionKey::new(&topic, "s").unwrap()].into(),
    });
    let daily = When::Recurring {
        cron: "@daily".into(),
        zone: String::new(),
        missed: Missed::Once,
        jitter: Duration::ZERO,
    };
    let message = MessageBuilder::event(64)
        .attribute("id", Value::Text("1"))
        .attribute("source", Value::Text("/test"))
        .attribute("type", Value::Text("test"))
        .no_data()
        .finish()
        .unwrap();
    let to = ScheduleTarget::Queue("q".into());
    let nightly = (Key::plain("nightly").unwrap(), to, daily, Publish::new(message));
    let all = Declarations { schedules: vec![nightly], ..Declarations::default() };
    node.broker.prepare(all).await.unwrap().commit().await.unwrap();
    let yearly = r#"{"cron": "@yearly", "to": {"queue": "q"}}"#;
    node.put("/v1/schedules/mine", yearly).await.expect(201);
    let origin =
        async |id| node.get(&format!("/v1/schedules/{id}")).await.expect(200)["origin"].clone();
    assert_eq!(
        (origin("nightly").await, origin("mine").await),
        (json!("configuration"), json!("api"))
    );
    node.put("/v1/schedules/nightly", yearly).await.refused(409, "definition_conflict");
    // One of the same name in another space is another one.
    node.put("/v1/queues/q?space=other", "{}").await.expect(201);
    node.put("/v1/schedules/nightly?space=other", yearly).await.expect(201);
    node.delete("/v1/schedules/nightly?space=other").await.expect(204);
    node.put("/v1/topics/t", "{}").await.expect(200);
    node.put("/v1/topics/t", r#"{"compact": true}"#).await.refused(409, "definition_conflict");
    for path in ["/v1/topics/t", "/v1/queues/q", "/v1/subscriptions/s", "/v1/schedules/nightly"] {
        let why = node.delete(path).await.refused(409, "definition_conflict");
        assert!(why.contains("declared by the configuration"), "{why}");
    }
}

#[tokio::test]
async fn a_message_is_stored_once_and_duplicates_are_told() {
    let node = Node::new().await;
    node.put("/v1/topics/t", "{}").await.expect(201);
    node.put("/v1/subscriptions/s", r#"{"topic": "t", "start": "first"}"#).await.expect(201);
    let first = node.publish("/v1/topics/t", 0..3).await;
    assert_eq!(
        first,
        json!({"first": 0, "last": 2, "count": 3, "duplicates": [], "subscriptions": 1, "durability": "fsync"})
    );
    let again = node.publish("/v1/topics/t", 1..5).await;
    assert_eq!(again["duplicates"], json!([[0, 1], [1, 2]]));
    assert_eq!(
        (&again["first"], &again["last"], &again["count"]),
        (&json!(3), &json!(4), &json!(4))
    );
    let none = node.publish("/v1/topics/t", 0..1).await;
    assert!(none.get("first").is_none(), "{none}");
}

#[tokio::test]
async fn an_id_is_remembered_if_the_publisher_named_it() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    // Weft makes an id, and nobody but it can: there is nothing to remember.
    node.post("/v1/queues/q/messages", "x").await.expect(200);
    let seen = node.get("/v1/queues/q/messages").await.expect(200);
    let event = seen["messages"][0]["event"].to_string();
    // Whoever was handed the event publishes it again, and names its id.
    for duplicates in [json!([]), json!([[0, 1]])] {
        let request = Request::new(Method::Post, "/v1/queues/q/messages")
            .with_field("content-type", "application/cloudevents+json")
            .with_body(event.clone());
        let told = Answer::of(node.send(request).await).await.expect(200);
        assert_eq!(told["duplicates"], duplicates, "{told}");
    }
}

#[tokio::test]
async fn engines_tell_what_they_can_do() {
    let node = Node::new().await;
    assert_eq!(node.get("/v1/engines").await.expect(200), json!({"engines": ["embedded"]}));
    let engine = node.get("/v1/engines/embedded").await.expect(200);
    assert_eq!(engine["capabilities"]["key_order"], "native");
    node.get("/v1/engines/kafka").await.refused(404, "not_found");
}

#[tokio::test]
async fn a_position_is_expected() {
    let node = Node::new().await;
    node.put("/v1/topics/t", "{}").await.expect(201);
    let publish = async |position: &str| {
        let request = Request::new(Method::Post, "/v1/topics/t/messages")
            .with_field("weft-expected-position", position)
            .with_body("x");
        Answer::of(node.send(request).await).await
    };
    publish("0").await.expect(200);
    publish("0").await.refused(409, "position_conflict");
    publish("1").await.expect(200);
    publish("one").await.refused(400, "malformed_request");
}

#[tokio::test]
async fn a_topic_is_browsed_filtered_replayed_and_waited_for() {
    let node = Node::new().await;
    node.put("/v1/topics/t", "{}").await.expect(201);
    node.publish("/v1/topics/t", 0..20).await;
    let page = node.get("/v1/topics/t/messages?from=5&max=3").await.expect(200);
    assert_eq!(data(&page["messages"]), [5, 6, 7]);
    assert_eq!(page["next"], 8);
    let page = node.get("/v1/topics/t/messages?from=last").await.expect(200);
    assert_eq!(data(&page["messages"]), [19]);
    let page = node.get("/v1/topics/t/messages?filter=data%20%3E%3D%2017").await.expect(200);
    assert_eq!(data(&page["messages"]), [17, 18, 19]);
    let page = node.get("/v1/topics/t/messages?from=1970-01-01T00:00:00Z&max=2").await.expect(200);
    assert_eq!(data(&page["messages"]), [0, 1]);
    assert!(page["messages"][0]["time"].as_str().unwrap().ends_with('Z'));
    let page = node.get("/v1/topics/t/messages?from=next").await.expect(200);
    assert_eq!(page, json!({"messages": [], "next": 20}));
    let (page, _) = tokio::join!(
        node.get("/v1/topics/t/messages?from=20&wait=30s"),
        node.publish("/v1/topics/t", 20..21),
    );
    assert_eq!(data(&page.expect(200)["messages"]), [20]);
    let request = Request::new(Method::Get, "/v1/topics/t/messages")
        .with_field("accept", "application/x-ndjson");
    let replay = Answer::of(node.send(request).await).await;
    assert_eq!(replay.fields.get_str(Known::ContentType), Some("application/x-ndjson"));
    let lines: Vec<serde_json::Value> = replay
        .body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 21);
    assert_eq!(lines[20]["position"], 20);
    node.get("/v1/topics/t/messages?filter=%28").await.refused(400, "malformed_request");
    node.get("/v1/topics/t/messages?from=soon").await.refused(400, "malformed_request");
}

#[tokio::test]
async fn the_last_message_of_a_key() {
    let node = Node::new().await;
    node.put("/v1/topics/prices", r#"{"compact": true}"#).await.expect(201);
    node.get("/v1/topics/prices/last").await.refused(404, "no_message");
    node.post("/v1/topics/prices/messages", "1").await.refused(400, "malformed_message");
    for (key, price) in [("a", "1"), ("b", "2"), ("a", "3")] {
        node.post(&format!("/v1/topics/prices/messages?key={key}"), price).await.expect(200);
    }
    let last = node.get("/v1/topics/prices/last?key=a").await.expect(200);
    assert_eq!((&last["position"], &last["key"]), (&json!(2), &json!("a")));
    assert_eq!(node.get("/v1/topics/prices/last").await.expect(200)["position"], 2);
    node.get("/v1/topics/prices/last?key=c").await.refused(404, "no_message");
}

#[tokio::test]
async fn a_subscription_is_declared_steered_and_deleted() {
    let node = Node::new().await;
    node.put("/v1/topics/t", "{}").await.expect(201);
    node.put("/v1/subscriptions/s", "{}").await.refused(400, "malformed_request");
    node.put("/v1/subscriptions/s", r#"{"topic": "missing"}"#).await.refused(404, "no_topic");
    let options = r#"{"topic": "t", "start": "first", "filter": {"type": "number"}}"#;
    let made = node.put("/v1/subscriptions/s", options).await.expect(201);
    assert_eq!(made["state"], "active");
    node.put("/v1/subscriptions/s", options).await.expect(200);
    node.put("/v1/topics/u", "{}").await.expect(201);
    node.put("/v1/subscriptions/s", r#"{"topic": "u"}"#).await.refused(409, "definition_conflict");
    node.publish("/v1/topics/t", 0..10).await;
    let seen = node.get("/v1/subscriptions/s").await.expect(200);
    assert_eq!((&seen["ready"], &seen["lag_messages"]), (&json!(10), &json!(10)));
    assert_eq!(node.get("/v1/topics/t").await.expect(200)["subscriptions"], json!(["s"]));
    node.put("/v1/subscriptions/all", r#"{"topic": ">"}"#).await.expect(201);
    assert_eq!(node.get("/v1/topics/t").await.expect(200)["subscriptions"], json!(["s", "all"]));
    assert_eq!(node.get("/v1/topics/u").await.expect(200)["subscriptions"], json!(["all"]));

    let paused = node.post("/v1/subscriptions/s/pause", "").await.expect(200);
    assert_eq!(paused["state"], "paused");
    let got = node.post("/v1/subscriptions/s/receive", "").await.expect(200);
    assert_eq!(got["deliveries"], json!([]));
    // Declaring it again does not resume it.
    assert_eq!(node.put("/v1/subscriptions/s", options).await.expect(200)["state"], "paused");
    node.post("/v1/subscriptions/s/resume", "").await.expect(200);
    node.post("/v1/subscriptions/s/seek", r#"{"to": 7}"#).await.expect(200);
    let got = node.post("/v1/subscriptions/s/receive", r#"{"max": 1}"#).await.expect(200);
    assert_eq!(data(&got["deliveries"]), [7]);
    let moved = node.post("/v1/subscriptions/s/seek", r#"{"to": "next"}"#).await.expect(200);
    assert_eq!(moved["lag_messages"], 0);
    node.post("/v1/subscriptions/s/seek", r#"{"to": "first"}"#).await.expect(200);
    node.post("/v1/subscriptions/s/skip", r#"{"messages": 2}"#).await.expect(200);
    let got = node.post("/v1/subscriptions/s/receive", r#"{"max": 2}"#).await.expect(200);
    assert_eq!(data(&got["deliveries"]), [2, 3]);
    node.post("/v1/subscriptions/s/seek", r#"{"to": "soon"}"#)
        .await
        .refused(400, "malformed_request");
    node.delete("/v1/subscriptions/s").await.expect(204);
    node.get("/v1/subscriptions/s").await.refused(404, "no_subscription");
}

#[tokio::test]
async fn one_message_is_passed_over_and_no_other() {
    let node = Node::new().await;
    node.put("/v1/topics/t", "{}").await.expect(201);
    node.publish("/v1/topics/t", 0..8).await;
    node.put("/v1/subscriptions/s", r#"{"topic": "t", "start": "first"}"#).await.expect(201);
    let skip = async |position: u64| {
        let body = format!(r#"{{"position": {position}}}"#);
        node.post("/v1/subscriptions/s/skip", &body).await
    };
    let receive = async |max: u32| {
        let body = format!(r#"{{"max": {max}}}"#);
        node.post("/v1/subscriptions/s/receive", &body).await.expect(200)
    };
    let left = async || node.get("/v1/subscriptions/s").await.expect(200)["lag_messages"].clone();

    assert_eq!(skip(5).await.expect(200)["lag_messages"], 7);
    assert_eq!(skip(0).await.expect(200)["lag_messages"], 6);
    skip(5).await.refused(404, "no_message");
    skip(100).await.refused(404, "no_message");
    assert_eq!(left().await, 6);

    let got = receive(2).await;
    assert_eq!(data(&got["deliveries"]), [1, 2]);
    let accept = json!({"settle": [{"id": got["deliveries"][1]["id"], "how": "accept"}]});
    node.post("/v1/subscriptions/s/settle", &accept.to_string()).await.expect(200);
    assert_eq!(left().await, 5);
    // Somebody holds it, and what stands behind it is settled.
    skip(1).await.expect(200);
    skip(1).await.refused(404, "no_message");
    assert_eq!(left().await, 4);
    assert_eq!(data(&receive(8).await["deliveries"]), [3, 4, 6, 7]);
}

#[tokio::test]
async fn the_next_message_is_passed_over_even_if_somebody_holds_it() {
    let node = Node::new().await;
    node.put("/v1/topics/t", "{}").await.expect(201);
    node.publish("/v1/topics/t", 0..3).await;
    node.put("/v1/subscriptions/s", r#"{"topic": "t", "start": "first"}"#).await.expect(201);
    let got = node.post("/v1/subscriptions/s/receive", r#"{"max": 1}"#).await.expect(200);
    assert_eq!(data(&got["deliveries"]), [0]);
    node.post("/v1/subscriptions/s/skip", r#"{"position": 0}"#).await.expect(200);
    let got = node.post("/v1/subscriptions/s/receive", "").await.expect(200);
    assert_eq!(data(&got["deliveries"]), [1, 2]);
}

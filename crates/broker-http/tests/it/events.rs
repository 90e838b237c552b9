//! CloudEvents in their three modes, and bodies that become events.

use serde_json::{Value, json};
use weft_api::Request;
use weft_wire::Method;

use crate::node::{Answer, Node};

async fn node() -> Node {
    let node = Node::new().await;
    node.put("/v1/topics/t", r#"{"dedupe": "off"}"#).await.expect(201);
    node
}

async fn send(node: &Node, fields: &[(&str, &str)], body: &str, query: &str) -> Answer {
    let mut request = Request::new(Method::Post, &format!("/v1/topics/t/messages{query}"));
    for (name, value) in fields {
        request = request.with_field(name, value);
    }
    Answer::of(node.send(request.with_body(body.to_owned())).await).await
}

async fn last(node: &Node) -> Value {
    node.get("/v1/topics/t/last").await.expect(200)
}

#[tokio::test]
async fn the_three_modes_mean_the_same() {
    let node = node().await;
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed",
        "subject": "42", "time": "2026-01-31T00:00:00Z", "datacontenttype": "application/json",
        "partitionkey": "k", "data": {"total": 1.50},
    });
    let text = event.to_string();
    let structured = [("content-type", "application/cloudevents+json; charset=utf-8")];
    send(&node, &structured, &text, "").await.expect(200);
    let one = last(&node).await;
    let batch = [("content-type", "application/cloudevents-batch+json")];
    send(&node, &batch, &format!("[{text}]"), "").await.expect(200);
    let two = last(&node).await;
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/shop"),
        ("ce-type", "order.placed"),
        ("ce-subject", "42"),
        ("ce-time", "2026-01-31T00:00:00Z"),
        ("ce-partitionkey", "k"),
        ("content-type", "application/json"),
    ];
    send(&node, &binary, &event["data"].to_string(), "").await.expect(200);
    let three = last(&node).await;
    for seen in [one, two, three] {
        assert_eq!(seen["event"], event);
        assert_eq!(seen["key"], "k");
    }
}

#[tokio::test]
async fn any_body_becomes_an_event() {
    let node = node().await;
    for (media, body, name, data) in [
        (Some("application/json"), r#"{"a":1}"#, "data", json!({"a": 1})),
        (Some("text/plain"), "hi", "data", json!("hi")),
        (Some("image/png"), "abc", "data_base64", json!("YWJj")),
        (None, "abc", "data_base64", json!("YWJj")),
        (None, "", "data", Value::Null),
    ] {
        let fields: Vec<_> = media.iter().map(|media| ("content-type", *media)).collect();
        send(&node, &fields, body, "?key=k%2F1&type=thing").await.expect(200);
        let seen = last(&node).await;
        let event = &seen["event"];
        assert_eq!((&event["type"], &seen["key"]), (&json!("thing"), &json!("k/1")));
        assert_eq!(event["source"], "/v1/topics/t");
        assert_eq!(event["datacontenttype"].as_str(), media);
        assert_eq!(event[name], data, "{media:?}");
        assert_eq!(event["id"].as_str().unwrap().len(), 32);
    }
}

#[tokio::test]
async fn the_trace_of_the_request_is_that_of_its_messages() {
    let node = node().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    send(&node, &[("traceparent", trace)], "x", "").await.expect(200);
    assert_eq!(last(&node).await["event"]["traceparent"], trace);
    send(&node, &[("traceparent", "nonsense")], "x", "").await.expect(200);
    assert_eq!(last(&node).await["event"]["traceparent"], Value::Null);
}

#[tokio::test]
async fn what_says_it_is_an_event_and_is_none_is_refused_whole() {
    let node = node().await;
    let batch = [("content-type", "application/cloudevents-batch+json")];
    let good = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let why = send(&node, &batch, &format!(r#"[{good},{{"specversion":"1.0"}}]"#), "")
        .await
        .refused(400, "malformed_message");
    assert!(why.starts_with("event 1: id"), "{why}");
    for (fields, body) in [
        (&[("content-type", "application/cloudevents+json")][..], "{"),
        (&[("content-type", "application/cloudevents+avro")], "x"),
        (&[("ce-specversion", "1.0")], "x"),
        (&[("ce-specversion", "0.3"), ("ce-id", "1"), ("ce-source", "s"), ("ce-type", "t")], "x"),
        (&batch, "[]"),
    ] {
        send(&node, fields, body, "").await.refused(400, "malformed_message");
    }
    assert_eq!(node.get("/v1/topics/t").await.expect(200)["messages"], 0);
}

#[tokio::test]
async fn a_publisher_can_ask_for_more_durability_but_not_for_less() {
    let node = node().await;
    node.put("/v1/topics/loose", r#"{"durability": "memory"}"#).await.expect(201);
    let answer = node.post("/v1/topics/loose/messages", "x").await.expect(200);
    assert_eq!(answer["durability"], "memory");
    let answer = node.post("/v1/topics/loose/messages?durability=fsync", "x").await.expect(200);
    assert_eq!(answer["durability"], "fsync");
    send(&node, &[], "x", "?durability=memory").await.refused(400, "malformed_request");
    send(&node, &[], "x", "?durability=iron").await.refused(400, "malformed_request");
}

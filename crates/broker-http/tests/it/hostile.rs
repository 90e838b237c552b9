//! Bodies, queries and paths that nobody should send.

use proptest::prelude::*;
use serde_json::json;
use weft_api::Request;
use weft_broker_http::OPERATIONS;
use weft_wire::Method;

use crate::node::Node;

#[tokio::test]
async fn every_operation_refuses_what_it_does_not_know() {
    let node = Node::new().await;
    node.put("/v1/topics/a", "{}").await.expect(201);
    node.put("/v1/queues/a", "{}").await.expect(201);
    node.put("/v1/subscriptions/a", r#"{"topic": "a"}"#).await.expect(201);
    for operation in OPERATIONS.iter().map(|row| &row.operation) {
        let path = ["{topic}", "{queue}", "{name}", "{id}"]
            .iter()
            .fold(operation.path.to_owned(), |path, name| path.replace(name, "a"))
            .replace("{position}", "0");
        for (target, body) in [
            (format!("{path}?surprise=1"), ""),
            (format!("{path}?surprise=%ff"), ""),
            (path.clone(), "{\"surprise\": 1}"),
            (path.clone(), "\u{0}[[[["),
        ] {
            let takes_any = operation.takes.iter().all(|(media, _)| *media == "*/*");
            if !target.contains('?') && takes_any {
                continue;
            }
            let answer = node.ask(operation.method, &target, body).await;
            assert!(
                (400..500).contains(&answer.status),
                "{operation:?} {target} {body}: {}",
                answer.status
            );
            assert!(answer.json()["type"].as_str().unwrap().starts_with("urn:weft:problem:"));
        }
    }
}

#[tokio::test]
async fn settlements_are_checked_before_any_is_done() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    node.publish("/v1/queues/q", 0..1).await;
    let got = node.post("/v1/queues/q/receive", "").await.expect(200);
    let id = got["deliveries"][0]["id"].clone();
    let good = json!({"id": id, "how": "accept"});
    for odd in [
        json!({"id": id, "how": "shrug"}),
        json!({"id": id, "how": "accept", "delay": "1s"}),
        json!({"id": id, "how": "fail", "lease": "1s"}),
        json!({"id": id, "how": "fail", "delay": "1000d"}),
        json!({"id": id, "how": "accept", "reason": "x"}),
        json!({"id": id, "how": "reject", "reason": "x".repeat(2000)}),
        json!({"id": 7, "how": "accept"}),
        json!({"how": "accept"}),
    ] {
        let said = json!({"settle": [good, odd]}).to_string();
        node.post("/v1/queues/q/settle", &said).await.refused(400, "malformed_request");
    }
    node.post("/v1/queues/q/settle", r#"{"settle": []}"#).await.refused(400, "malformed_request");
    assert_eq!(node.get("/v1/queues/q").await.expect(200)["leased"], 1);
    for body in [r#"{"max": 0}"#, r#"{"max": 1001}"#, r#"{"wait": "1h"}"#, r#"{"lease": "1d"}"#] {
        node.post("/v1/queues/q/receive", body).await.refused(400, "malformed_request");
    }
}

#[tokio::test]
async fn names_are_taken_as_they_are() {
    let node = Node::new().await;
    for name in ["a%2Fb", "%E2%82%AC", "a%20b", "a%25", "%22"] {
        node.put(&format!("/v1/queues/{name}"), "{}").await.expect(201);
        node.post(&format!("/v1/queues/{name}/messages"), "x").await.expect(200);
        assert_eq!(node.get(&format!("/v1/queues/{name}")).await.expect(200)["ready"], 1, "{name}");
    }
    for name in ["%00", "a%0Ab", &"x".repeat(256)] {
        let answer = node.put(&format!("/v1/queues/{name}"), "{}").await;
        assert_eq!(answer.status, 400, "{name}");
    }
    node.put("/v1/queues/a?space=%2Fhost", "{}").await.expect(201);
    node.get("/v1/queues/a").await.refused(404, "no_queue");
    node.get("/v1/queues/a?space=%2Fhost").await.expect(200);
}

#[tokio::test]
async fn heads_have_no_body_and_other_methods_are_named() {
    let node = Node::new().await;
    let head = node.ask("HEAD", "/v1/topics", "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let wrong = node.ask("PATCH", "/v1/topics/a", "").await;
    assert_eq!(wrong.status, 405);
    assert_eq!(wrong.fields.named("allow"), Some(&b"GET, PUT, DELETE"[..]));
    node.ask("GET", "/v1/topics", "x").await.refused(413, "body_too_large");
    let large = format!("{{\"topic\": \"{}\"}}", "x".repeat(1 << 20));
    node.put("/v1/subscriptions/s", &large).await.refused(413, "body_too_large");
}

#[test]
fn no_request_makes_it_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let node = runtime.block_on(Node::new());
    runtime.block_on(async { node.put("/v1/queues/a", "{}").await.expect(201) });
    let paths: Vec<&str> = OPERATIONS.iter().map(|row| row.operation.path).collect();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let inputs = (
        proptest::sample::select(vec!["GET", "PUT", "POST", "DELETE", "HEAD", "X"]),
        proptest::sample::select(paths),
        "[a%.]{1,6}",
        "[a-z=&%0-9]{0,20}",
        proptest::option::of(proptest::sample::select(vec![
            "application/cloudevents+json",
            "application/cloudevents-batch+json",
            "text/plain",
        ])),
        proptest::collection::vec(any::<u8>(), 0..64),
    );
    runner
        .run(&inputs, |(method, path, name, query, media, body)| {
            let path = ["{topic}", "{queue}", "{name}", "{id}", "{position}"]
                .iter()
                .fold(path.to_owned(), |path, template| path.replace(template, &name));
            let mut request =
                Request::new(Method::of(method), &format!("{path}?{query}")).with_body(body);
            if let Some(media) = media {
                request = request.with_field("content-type", media);
            }
            let response = runtime.block_on(node.send(request));
            prop_assert!((100..600).contains(&response.status));
            Ok(())
        })
        .unwrap();
}

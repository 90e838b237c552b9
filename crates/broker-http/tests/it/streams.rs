//! Server-sent events: tails of topics, and deliveries.

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use weft_api::{Chunks, Content, Request};
use weft_ledger::{Durability, Op, Transaction};
use weft_wire::{Known, Method};

use crate::node::Node;

async fn open(node: &Node, target: &str, last: Option<&str>) -> Chunks {
    let mut request = Request::new(Method::Get, target).with_field("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.with_field("last-event-id", last);
    }
    let response = node.send(request).await;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.fields.get_str(Known::ContentType), Some("text/event-stream"));
    let Content::Stream(mut chunks) = response.content else { panic!("no stream") };
    let hello = chunks.next().await.unwrap().unwrap();
    assert_eq!(&hello[..], b"retry: 3000\n\n");
    chunks
}

/// The id, event and data of each event of a chunk.
fn events(chunk: &Bytes) -> Vec<(String, String, Value)> {
    let text = std::str::from_utf8(chunk).unwrap();
    text.split_terminator("\n\n")
        .map(|event| {
            let field = |name: &str| {
                event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default()
            };
            let data = serde_json::from_str(field("data: ")).unwrap();
            (field("id: ").to_owned(), field("event: ").to_owned(), data)
        })
        .collect()
}

#[tokio::test]
async fn a_tail_follows_and_resumes_where_it_was() {
    let node = Node::new().await;
    node.put("/v1/topics/t", "{}").await.expect(201);
    node.publish("/v1/topics/t", 0..2).await;
    let mut tail = open(&node, "/v1/topics/t/messages", None).await;
    node.publish("/v1/topics/t", 2..4).await;
    let got = events(&tail.next().await.unwrap().unwrap());
    let seen: Vec<_> =
        got.iter().map(|(id, kind, event)| (&**id, &**kind, &event["data"])).collect();
    assert_eq!(seen, [("2", "number", &json!(2)), ("3", "number", &json!(3))]);
    drop(tail);
    let mut tail = open(&node, "/v1/topics/t/messages?from=first", Some("2")).await;
    let got = events(&tail.next().await.unwrap().unwrap());
    assert_eq!(got[0].0, "3");
    node.stop.drain(weft_kernel::Tick::NEVER);
    assert!(tail.next().await.is_none());
}

#[tokio::test]
async fn a_reader_beyond_the_end_is_told() {
    let node = Node::new().await;
    node.put("/v1/topics/t", "{}").await.expect(201);
    node.publish("/v1/topics/t", 0..2).await;
    let ask = |target: &str, accept: &str, last: Option<&str>| {
        let request = Request::new(Method::Get, target).with_field("accept", accept);
        match last {
            Some(last) => request.with_field("last-event-id", last),
            None => request,
        }
    };
    let (sse, lines, json) = ("text/event-stream", "application/x-ndjson", "application/json");
    // The end itself is where the next message will be.
    for (target, accept, last, status) in [
        ("/v1/topics/t/messages", sse, Some("1"), 200),
        ("/v1/topics/t/messages", sse, Some("2"), 409),
        ("/v1/topics/t/messages", sse, Some("18446744073709551615"), 409),
        ("/v1/topics/t/messages?from=2", sse, None, 200),
        ("/v1/topics/t/messages?from=3", sse, None, 409),
        ("/v1/topics/t/messages?from=2", lines, None, 200),
        ("/v1/topics/t/messages?from=3", lines, None, 409),
        ("/v1/topics/t/messages?from=2", json, None, 200),
        ("/v1/topics/t/messages?from=3", json, None, 409),
        ("/v1/topics/t/messages?from=3&wait=1s", json, None, 409),
    ] {
        let response = node.send(ask(target, accept, last)).await;
        assert_eq!(response.status, status, "{target} {accept} {last:?}");
        if status != 200 {
            let reason = if status == 409 { "position_conflict" } else { "malformed_request" };
            let detail = crate::node::Answer::of(response).await.refused(status, reason);
            assert!(detail.contains("ends at 2"), "{detail}");
        }
    }
}

#[tokio::test]
async fn a_reader_that_comes_back_too_late_is_told_what_is_gone() {
    let node = Node::new().await;
    node.put("/v1/topics/t", "{}").await.expect(201);
    node.publish("/v1/topics/t", 0..6).await;
    // What retention does in its time.
    let store = node.broker.shared_store();
    let (log, _) = store.find_log("t//t").await.unwrap().unwrap();
    let trim = Transaction::new(Durability::Fsync).with(Op::Trim { log, before: 3 });
    store.commit(trim).await.unwrap();
    let first = node.get("/v1/topics/t").await.expect(200)["first"].as_u64().unwrap();
    assert_eq!(first, 3);
    let mut tail = open(&node, "/v1/topics/t/messages", Some("0")).await;
    let told = events(&tail.next().await.unwrap().unwrap());
    assert_eq!(told, [(String::new(), "weft.gap".into(), json!({"from": 1, "first": first}))]);
    let got = events(&tail.next().await.unwrap().unwrap());
    assert_eq!(got[0].0, first.to_string());
    // Who has missed nothing is told of nothing.
    let mut tail = open(&node, "/v1/topics/t/messages", Some(&(first - 1).to_string())).await;
    assert_eq!(events(&tail.next().await.unwrap().unwrap())[0].0, first.to_string());
}

#[tokio::test]
async fn a_reader_is_told_of_what_retention_takes_wherever_it_is() {
    let node = Node::new().await;
    node.put("/v1/topics/t", "{}").await.expect(201);
    let store = node.broker.shared_store();
    let (log, _) = store.find_log("t//t").await.unwrap().unwrap();
    let trim = async |before| {
        let trim = Transaction::new(Durability::Fsync).with(Op::Trim { log, before });
        store.commit(trim).await.unwrap();
    };
    let ids = |chunk: Bytes| -> Vec<String> { events(&chunk).into_iter().map(|e| e.0).collect() };
    let gap = |from: u64, first: u64| {
        vec![(String::new(), "weft.gap".to_owned(), json!({"from": from, "first": first}))]
    };
    node.publish("/v1/topics/t", 0..2).await;
    let mut tail = open(&node, "/v1/topics/t/messages?from=first", None).await;
    assert_eq!(ids(tail.next().await.unwrap().unwrap()), ["0", "1"]);
    // It is slow, and comes back when some of what it has not seen is gone.
    node.publish("/v1/topics/t", 2..6).await;
    trim(4).await;
    assert_eq!(events(&tail.next().await.unwrap().unwrap()), gap(2, 4));
    assert_eq!(ids(tail.next().await.unwrap().unwrap()), ["4", "5"]);
    // Who begins at a position that is gone is told; who wants the first that there is, is not.
    let mut named = open(&node, "/v1/topics/t/messages?from=1", None).await;
    assert_eq!(events(&named.next().await.unwrap().unwrap()), gap(1, 4));
    assert_eq!(ids(named.next().await.unwrap().unwrap()), ["4", "5"]);
    let mut first = open(&node, "/v1/topics/t/messages?from=first", None).await;
    assert_eq!(ids(first.next().await.unwrap().unwrap()), ["4", "5"]);
    let page = node.get("/v1/topics/t/messages?from=1&max=1").await.expect(200);
    assert_eq!((&page["gap"], &page["next"]), (&json!({"from": 1, "first": 4}), &json!(5)));
    assert_eq!(page["messages"][0]["position"], 4);
    for target in ["/v1/topics/t/messages", "/v1/topics/t/messages?from=4"] {
        let page = node.get(target).await.expect(200);
        assert_eq!((&page["gap"], page["messages"].as_array().unwrap().len()), (&Value::Null, 2));
    }
    let lines = Request::new(Method::Get, "/v1/topics/t/messages?from=1")
        .with_field("accept", "application/x-ndjson");
    let lines = node.send(lines).await.collect().await.unwrap();
    let mut lines = lines
        .split(|byte| *byte == b'\n')
        .map(|line| serde_json::from_slice::<Value>(line).unwrap());
    assert_eq!(lines.next().unwrap(), json!({"gap": {"from": 1, "first": 4}}));
    assert_eq!(lines.next().unwrap()["position"], 4);
    // Nothing is kept: that is told at once, and not with the next message.
    node.publish("/v1/topics/t", 6..8).await;
    trim(8).await;
    assert_eq!(events(&tail.next().await.unwrap().unwrap()), gap(6, 8));
    let page = node.get("/v1/topics/t/messages?from=6&wait=20s").await.expect(200);
    assert_eq!((&page["gap"], &page["next"]), (&json!({"from": 6, "first": 8}), &json!(8)));
}

#[tokio::test(start_paused = true)]
async fn a_tail_with_nothing_to_say_shows_that_it_is_alive() {
    let node = Node::new().await;
    node.put("/v1/topics/t", "{}").await.expect(201);
    let mut tail = open(&node, "/v1/topics/t/messages", None).await;
    assert_eq!(&tail.next().await.unwrap().unwrap()[..], b": alive\n\n");
}

#[tokio::test]
async fn a_stream_of_deliveries_is_bounded_and_goes_on_as_they_are_settled() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    node.publish("/v1/queues/q", 0..5).await;
    let mut stream = open(&node, "/v1/queues/q/stream?prefetch=2", None).await;
    let mut ids = Vec::new();
    while ids.len() < 2 {
        ids.extend(events(&stream.next().await.unwrap().unwrap()).into_iter().map(|event| event.0));
    }
    assert!(futures_util::poll!(stream.next()).is_pending());
    let settle: Vec<_> = ids.iter().map(|id| json!({"id": id, "how": "accept"})).collect();
    node.post("/v1/queues/q/settle", &json!({"settle": settle}).to_string()).await.expect(200);
    let more = events(&stream.next().await.unwrap().unwrap());
    assert_eq!(more[0].2["event"]["data"], 2);
    // What it holds goes back when it ends, as what has lost its consumer.
    drop(stream);
    node.broker.maintain_once().await.unwrap();
    let seen = node.get("/v1/queues/q").await.expect(200);
    assert_eq!((&seen["ready"], &seen["leased"]), (&json!(3), &json!(0)));
    let request = Request::new(Method::Get, "/v1/queues/q/stream");
    assert_eq!(node.send(request).await.status, 400);
}

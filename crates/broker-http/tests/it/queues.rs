//! Queues: looked into, emptied, redriven; schedules; request and reply.

use serde_json::json;
use weft_api::Request;
use weft_wire::{Known, Method};

use crate::node::{Answer, Node, data};

#[tokio::test]
async fn a_queue_is_looked_into_and_emptied() {
    let node = Node::new().await;
    node.put("/v1/queues/q", r#"{"limit": {"messages": 4}}"#).await.expect(201);
    node.publish("/v1/queues/q", 0..3).await;
    node.post("/v1/queues/q/messages?delay=1h&type=later&priority=3", "x").await.expect(200);
    node.post("/v1/queues/q/messages", "x").await.refused(503, "queue_full");
    let got = node.post("/v1/queues/q/receive", r#"{"max": 1}"#).await.expect(200);
    assert_eq!(data(&got["deliveries"]), [0]);
    let seen = node.get("/v1/queues/q").await.expect(200);
    assert_eq!(
        (&seen["ready"], &seen["leased"], &seen["waiting"]),
        (&json!(2), &json!(1), &json!(1))
    );
    let states = async |query: &str| {
        let peeked = node.get(&format!("/v1/queues/q/messages{query}")).await.expect(200);
        let states: Vec<_> = peeked["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["state"].as_str().unwrap().to_owned())
            .collect();
        states
    };
    assert_eq!(states("").await, ["leased", "ready", "ready", "waiting"]);
    assert_eq!(states("?state=waiting").await, ["waiting"]);
    assert_eq!(states("?from=2&max=1").await, ["ready"]);
    node.get("/v1/queues/q/messages?state=odd").await.refused(400, "malformed_request");
    let one = node.get("/v1/queues/q/messages/3").await.expect(200);
    assert_eq!((&one["event"]["type"], &one["priority"]), (&json!("later"), &json!(3)));
    assert!(one["due"].is_string() && one["attempts"] == json!([]));
    node.get("/v1/queues/q/messages/9").await.refused(404, "no_message");
    node.get("/v1/queues/q/messages/x").await.refused(404, "no_message");

    node.delete("/v1/queues/q/messages").await.refused(400, "malformed_request");
    node.delete("/v1/queues/q/messages?confirm=r").await.refused(400, "malformed_request");
    let purged = node.delete("/v1/queues/q/messages?confirm=q").await.expect(200);
    assert_eq!(purged["purged"], 3);
    assert_eq!(states("").await, ["leased"]);
    node.delete("/v1/queues/q").await.expect(204);
    node.get("/v1/queues/q").await.refused(404, "no_queue");
}

#[tokio::test]
async fn dead_letters_tell_their_story_and_go_back() {
    let node = Node::new().await;
    node.put("/v1/queues/q", r#"{"retry": {"failures_max": 2, "first": "1ms", "max": "1ms"}}"#)
        .await
        .expect(201);
    node.publish("/v1/queues/q", 0..2).await;
    for _ in 0..2 {
        let got =
            node.post("/v1/queues/q/receive", r#"{"max": 1, "wait": "30s"}"#).await.expect(200);
        let id = got["deliveries"][0]["id"].as_str().unwrap();
        let settle =
            json!({"settle": [{"id": id, "how": "fail", "reason": "no stock", "delay": "0"}]});
        node.post("/v1/queues/q/settle", &settle.to_string()).await.expect(200);
    }
    let got = node.post("/v1/queues/q/receive", r#"{"max": 1, "wait": "30s"}"#).await.expect(200);
    let id = got["deliveries"][0]["id"].as_str().unwrap();
    let settle = json!({"settle": [{"id": id, "how": "reject", "reason": "odd"}]});
    node.post("/v1/queues/q/settle", &settle.to_string()).await.expect(200);

    let peeked = node.get("/v1/queues/q.dead/messages").await.expect(200);
    let causes: Vec<_> = peeked["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| {
            (message["event"]["data"].as_u64().unwrap(), message["dead"]["cause"].as_str().unwrap())
        })
        .collect();
    assert_eq!(causes, [(0, "failures"), (1, "rejected")]);
    let one = node.get("/v1/queues/q.dead/messages/0").await.expect(200);
    let attempts = one["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    assert_eq!(
        (&attempts[0]["reason"], &attempts[0]["ended"]),
        (&json!("no stock"), &json!("failed"))
    );

    let dry = node.post("/v1/queues/q.dead/redrive", r#"{"dry_run": true}"#).await.expect(200);
    assert_eq!(dry, json!({"redriven": 2, "left": 0, "dry_run": true}));
    let some =
        node.post("/v1/queues/q.dead/redrive", r#"{"filter": "data == 1"}"#).await.expect(200);
    assert_eq!(some["redriven"], 1);
    node.put("/v1/queues/other", "{}").await.expect(201);
    node.post("/v1/queues/q.dead/redrive", r#"{"to": "other", "rate": 100}"#).await.expect(200);
    let got = node.post("/v1/queues/q/receive", r#"{"wait": "30s"}"#).await.expect(200);
    assert_eq!(data(&got["deliveries"]), [1]);
    let got = node.post("/v1/queues/other/receive", r#"{"wait": "30s"}"#).await.expect(200);
    assert_eq!(data(&got["deliveries"]), [0]);
    node.post("/v1/queues/q.dead/redrive", r#"{"to": "nowhere"}"#).await.refused(404, "no_queue");
    node.post("/v1/queues/q.dead/redrive", r#"{"filter": "("}"#)
        .await
        .refused(400, "malformed_request");
}

#[tokio::test]
async fn schedules_are_made_seen_and_cancelled() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    let nightly = r#"{"cron": "0 3 * * *", "time_zone": "Europe/Berlin", "to": {"queue": "q"}, "type": "report", "data": {"a": 1}}"#;
    let made = node.put("/v1/schedules/nightly", nightly).await.expect(201);
    assert_eq!((&made["kind"], &made["cron"]), (&json!("recurring"), &json!("0 3 * * *")));
    assert_eq!(
        (&made["event"]["type"], &made["event"]["data"]),
        (&json!("report"), &json!({"a": 1}))
    );
    node.put("/v1/schedules/nightly", nightly).await.expect(200);
    node.put("/v1/schedules/soon", r#"{"delay": "1ms", "to": {"queue": "q"}, "data": 7}"#)
        .await
        .expect(201);
    let got = node.post("/v1/queues/q/receive", r#"{"wait": "30s"}"#).await.expect(200);
    assert_eq!(data(&got["deliveries"]), [7]);
    let listed = node.get("/v1/schedules").await.expect(200);
    assert_eq!(listed["schedules"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed.get("next"), None, "that is all");
    for name in ["p1", "p2", "p3"] {
        node.put(&format!("/v1/schedules/{name}"), nightly).await.expect(201);
    }
    let listed = node.get("/v1/schedules?max=2").await.expect(200);
    assert_eq!((listed["schedules"].as_array().unwrap().len(), &listed["next"]), (2, &"p1".into()));
    let listed = node.get("/v1/schedules?max=2&after=p1").await.expect(200);
    assert_eq!(listed["schedules"][0]["id"], "p2");
    assert_eq!(listed.get("next"), None, "there is exactly as much as was asked for");
    for name in ["p1", "p2", "p3"] {
        node.delete(&format!("/v1/schedules/{name}")).await.expect(204);
    }
    node.get("/v1/schedules/soon").await.refused(404, "no_message");
    node.put("/v1/schedules/x", r#"{"cron": "never", "to": {"queue": "q"}}"#)
        .await
        .refused(400, "malformed_request");
    node.put("/v1/schedules/x", r#"{"every": "1h", "to": {"queue": "none"}}"#)
        .await
        .refused(404, "no_queue");
    node.delete("/v1/schedules/nightly").await.expect(204);
    node.delete("/v1/schedules/nightly").await.refused(404, "no_message");
}

#[tokio::test]
async fn a_request_is_answered_by_who_listens() {
    let node = Node::new().await;
    node.put("/v1/queues/work", "{}").await.expect(201);
    node.post("/v1/queues/work/request", "x").await.refused(503, "no_listener");
    let listen = async {
        let got = node.post("/v1/queues/work/receive", r#"{"wait": "30s"}"#).await.expect(200);
        let event = &got["deliveries"][0]["event"];
        let reply_to = event["replyto"].as_str().unwrap();
        let reply = Request::new(Method::Post, &format!("/v1/queues/{reply_to}/messages"))
            .with_field("ce-specversion", "1.0")
            .with_field("ce-id", "1")
            .with_field("ce-source", "/worker")
            .with_field("ce-type", "done")
            .with_field("ce-correlationid", event["correlationid"].as_str().unwrap())
            .with_field("content-type", "text/plain")
            .with_body("pong");
        let sent = Answer::of(node.send(reply.clone()).await).await;
        assert_eq!(sent.status, 204);
        // Nobody waits for a second one.
        Answer::of(node.send(reply).await).await.refused(503, "no_listener");
    };
    let ask = async {
        // Once the other side has been seen to listen.
        loop {
            let answer = node.post("/v1/queues/work/request?timeout=30s", "ping").await;
            if answer.status != 503 {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    let (answer, ()) = tokio::join!(ask, listen);
    assert_eq!((answer.status, &answer.body[..]), (200, &b"pong"[..]));
    assert_eq!(answer.fields.named("ce-type"), Some(&b"done"[..]));
    assert_eq!(answer.fields.get_str(Known::ContentType), Some("text/plain"));
}

#[tokio::test]
async fn a_look_into_a_queue_ends_with_its_bytes_and_says_where_to_go_on() {
    let node = Node::new().await;
    node.put("/v1/queues/q", "{}").await.expect(201);
    let large = "x".repeat(900_000);
    for _ in 0..12 {
        node.post("/v1/queues/q/messages", &large).await.expect(200);
    }
    node.post("/v1/queues/q/messages", "small").await.expect(200);
    for query in ["max=1000", "max=1000&state=ready"] {
        let (mut next, mut seen, mut pages) = (0, Vec::new(), 0);
        loop {
            let path = format!("/v1/queues/q/messages?{query}&from={next}");
            let answer = node.get(&path).await;
            assert!(answer.body.len() < 10 << 20, "{} bytes", answer.body.len());
            let page = answer.expect(200);
            let found = page["messages"].as_array().unwrap();
            if found.is_empty() {
                assert_eq!(page["next"], next, "that is the end");
                break;
            }
            seen.extend(found.iter().map(|message| message["position"].as_u64().unwrap()));
            next = page["next"].as_u64().unwrap();
            pages += 1;
        }
        assert_eq!((seen, pages), ((0..13).collect(), 2), "{query}");
    }
    let none = node.get("/v1/queues/q/messages?state=waiting&max=1000").await.expect(200);
    assert_eq!((none["messages"].as_array().unwrap().len(), &none["next"]), (0, &json!(13)));
}

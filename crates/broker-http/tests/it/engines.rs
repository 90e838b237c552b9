//! A second engine behind the API: what it keeps is served as what the embedded one keeps, what it lacks is
//! refused, and that it is away is told.

use serde_json::{Value, json};
use weft_broker::engine::Capability;

use crate::node::Node;

/// A node on which the engine `far` keeps a queue, a topic and its subscription.
async fn node() -> Node {
    let node = Node::with_far(&[Capability::Priorities, Capability::Compaction]).await;
    node.put("/v1/queues/work", r#"{"engine": "far"}"#).await.expect(201);
    node.put("/v1/topics/orders", r#"{"engine": "far"}"#).await.expect(201);
    node.put("/v1/subscriptions/billing", r#"{"topic": "orders"}"#).await.expect(201);
    node
}

fn ids(received: &Value) -> Vec<String> {
    let deliveries = received["deliveries"].as_array().unwrap();
    deliveries.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

async fn receive(node: &Node, path: &str) -> Value {
    node.post(&format!("{path}/receive"), r#"{"max": 10, "wait": "10s"}"#).await.expect(200)
}

async fn settle(node: &Node, path: &str, id: &str, how: &str) -> Value {
    let said = json!({"settle": [{"id": id, "how": how}]}).to_string();
    node.post(&format!("{path}/settle"), &said).await.expect(200)
}

#[tokio::test]
async fn what_another_engine_keeps_is_published_received_and_settled() {
    let node = node().await;
    for (path, published) in
        [("/v1/queues/work", "/v1/queues/work"), ("/v1/subscriptions/billing", "/v1/topics/orders")]
    {
        let kept = node.post(&format!("{published}/messages"), "one").await.expect(200);
        assert_eq!((&kept["first"], &kept["durability"]), (&json!(0), &json!("fsync")));
        let received = receive(&node, path).await;
        assert_eq!(received["deliveries"][0]["event"]["data_base64"], "b25l", "{received}");
        let [id] = &ids(&received)[..] else { panic!("{received}") };
        settle(&node, path, id, "renew").await;
        settle(&node, path, id, "release").await;
        let again = receive(&node, path).await;
        let [id] = &ids(&again)[..] else { panic!("{again}") };
        settle(&node, path, id, "reject").await;
        let late = json!({"settle": [{"id": id, "how": "accept"}]}).to_string();
        node.post(&format!("{path}/settle"), &late).await.refused(409, "lease_lost");
    }
    // Its dead letters are kept there too, are found by their name, and go back.
    for dead in ["work.dead", "billing.dead"] {
        let shown = node.get(&format!("/v1/queues/{dead}")).await.expect(200);
        assert_eq!((&shown["engine"], &shown["ready"]), (&json!("far"), &json!(1)), "{shown}");
    }
    let back = node.post("/v1/queues/work.dead/redrive", "{}").await.expect(200);
    assert_eq!(back["redriven"], 1);
    assert_eq!(ids(&receive(&node, "/v1/queues/work").await).len(), 1);
    // A topic is read and looked into there, and a subscription moved.
    let page = node.get("/v1/topics/orders/messages").await.expect(200);
    assert_eq!(page["messages"].as_array().unwrap().len(), 1, "{page}");
    let moved = node.post("/v1/subscriptions/billing/seek", r#"{"to": "first"}"#).await.expect(200);
    assert_eq!((&moved["engine"], &moved["lag_messages"]), (&json!("far"), &json!(1)), "{moved}");
    let paused = node.post("/v1/subscriptions/billing/pause", "{}").await.expect(200);
    assert_eq!(paused["state"], "paused");
}

#[tokio::test]
async fn a_definition_is_of_one_engine_and_what_is_shown_can_be_said_again() {
    let node = node().await;
    let shown = node.get("/v1/queues/work").await.expect(200);
    assert_eq!((&shown["engine"], &shown["options"]["engine"]), (&json!("far"), &json!("far")));
    node.put("/v1/queues/work", &shown.to_string()).await.expect(200);
    let other = node.put("/v1/queues/work?change=true", "{}").await;
    other.refused(409, "definition_conflict");
    // What is advised is what helps.
    let why = node.put("/v1/queues/work", "{}").await.refused(409, "definition_conflict");
    assert!(why.contains("deleted first") && !why.contains("?change=true"), "{why}");
    let larger = r#"{"engine": "far", "message_max": "2MiB"}"#;
    let altered = node.put("/v1/queues/work?change=true", larger).await.expect(200);
    assert_eq!(altered["options"]["message_max"], "2MiB");
    let nobody = node.put("/v1/queues/new", r#"{"engine": "fra"}"#).await;
    assert!(nobody.refused(404, "not_found").contains("there is embedded, far"));
    let listed = node.get("/v1/queues").await.expect(200);
    let names: Vec<_> = listed["queues"].as_array().unwrap().iter().map(|of| &of["name"]).collect();
    assert_eq!(names, ["work"], "a queue of dead letters is there once it has some");
    node.delete("/v1/topics/orders").await.expect(204);
    node.get("/v1/subscriptions/billing").await.refused(404, "no_subscription");
    node.delete("/v1/queues/work").await.expect(204);
    node.get("/v1/queues/work").await.refused(404, "no_queue");
}

#[tokio::test]
async fn what_an_engine_lacks_is_refused_by_name() {
    let node = node().await;
    let urgent = node.put("/v1/queues/urgent", r#"{"engine": "far", "priorities": true}"#).await;
    let told = urgent.refused(501, "not_supported");
    assert!(told.starts_with("priorities: engine `far`"), "{told}");
    let urgent = node.post("/v1/queues/work/messages?priority=3", "one").await;
    urgent.refused(501, "not_supported");
    let compact = node.put("/v1/topics/last", r#"{"engine": "far", "compact": true}"#).await;
    compact.refused(501, "not_supported");
    let engine = node.get("/v1/engines/far").await.expect(200);
    assert_eq!(engine["capabilities"]["priorities"], "missing", "{engine}");
    assert_eq!(engine["capabilities"]["dedupe"], "native", "{engine}");
    assert_eq!(node.get("/v1/engines").await.expect(200), json!({"engines": ["embedded", "far"]}));
    node.get("/v1/engines/fra").await.refused(404, "not_found");
}

#[tokio::test]
async fn an_engine_that_is_away_is_told_and_hides_nothing_of_the_others() {
    let node = node().await;
    node.put("/v1/queues/near", "{}").await.expect(201);
    node.far().set_away(true);
    for (method, path) in [
        ("POST", "/v1/queues/work/messages"),
        ("POST", "/v1/queues/work/receive"),
        ("GET", "/v1/queues/work"),
        ("GET", "/v1/topics/orders/messages"),
        ("DELETE", "/v1/queues/work"),
    ] {
        node.ask(method, path, "").await.refused(503, "engine_unavailable");
    }
    let listed = node.get("/v1/queues").await.expect(200);
    let of = |name: &str| {
        let all = listed["queues"].as_array().unwrap();
        all.iter().find(|of| of["name"] == name).cloned().unwrap_or_default()
    };
    assert!(of("work")["unavailable"].as_str().unwrap().contains("`far`"), "{listed}");
    assert_eq!(of("near")["unavailable"], Value::Null, "{listed}");
    node.post("/v1/queues/near/messages", "one").await.expect(200);
    node.far().set_away(false);
    node.post("/v1/queues/work/messages", "one").await.expect(200);
    assert_eq!(ids(&receive(&node, "/v1/queues/work").await).len(), 1);
}

//! Messages through the real binary: kept over kill -9, pulled, pushed, by AMQP, and handed over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use serde_json::{Value, json};
use weft_testkit::{HttpMessage, Upstream, Weft, until, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// A node with a topic, a queue and the API of messages; `more` is added to it.
fn config(more: &str) -> String {
    format!(
        "admin: off
ledger: {{ path: '@@/data', wal_file: 4MiB }}
listeners:
  web: {{ address: '@web' }}
  rabbit: {{ address: '@rabbit', protocol: amqp }}
topics: {{ order.placed: {{}} }}
queues: {{ emails: {{ retry: {{ first: 50ms, max: 100ms, failures_max: 3 }} }} }}
routes:
  - {{ name: messages, match: /v1/*, messages: / }}
  - {{ name: placed, match: /events, publish: order.placed }}
{more}"
    )
}

/// Sends JSON to the API, and reads what it answers.
fn ask(weft: &Weft, method: &str, path: &str, body: &Value) -> HttpMessage {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    weft.ask(format!(
        "{method} {path} HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn json_of(message: &HttpMessage) -> Value {
    serde_json::from_str(&message.text()).unwrap_or_else(|error| {
        panic!("{error}: {} {}", message.status(), message.text());
    })
}

/// What is handed out within a while.
fn receive(weft: &Weft, from: &str, max: usize) -> Vec<Value> {
    let asked = json!({ "max": max, "wait": "5s" });
    let answer = json_of(&ask(weft, "POST", &format!("/v1/{from}/receive"), &asked));
    answer["deliveries"].as_array().unwrap().clone()
}

fn settle(weft: &Weft, from: &str, delivery: &Value, how: &str) -> HttpMessage {
    let mut one = json!({ "id": delivery["id"], "how": how });
    if how == "fail" {
        one["reason"] = json!("test");
    }
    let settle = json!({ "settle": [one] });
    ask(weft, "POST", &format!("/v1/{from}/settle"), &settle)
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let weft =
        Weft::start(BIN, &config("subscriptions: { all: { topic: order.placed, start: first } }"));
    for number in 0..200 {
        let answer = ask(&weft, "POST", "/events", &json!({ "number": number }));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(json_of(&answer)["durability"], "fsync");
    }
    for number in 0..50 {
        assert_eq!(ask(&weft, "POST", "/v1/queues/emails/messages", &json!(number)).status(), 200);
    }
    let taken = receive(&weft, "queues/emails", 10);
    assert_eq!(taken.len(), 10);
    for delivery in &taken {
        assert_eq!(settle(&weft, "queues/emails", delivery, "accept").status(), 200);
    }
    weft.kill();
    let weft = weft.successor();
    let mut seen = Vec::new();
    while seen.len() < 200 {
        let some = receive(&weft, "subscriptions/all", 64);
        assert!(!some.is_empty(), "after {} nothing more comes", seen.len());
        for delivery in &some {
            assert_eq!(settle(&weft, "subscriptions/all", delivery, "accept").status(), 200);
            seen.push(delivery["event"]["data"]["number"].as_u64().unwrap());
        }
    }
    assert_eq!(seen, (0..200).collect::<Vec<u64>>());
    // What was accepted does not come back, and what was not is there.
    let left = receive(&weft, "queues/emails", 100);
    let left: Vec<u64> =
        left.iter().map(|delivery| delivery["event"]["data"].as_u64().unwrap()).collect();
    assert_eq!(left, (10..50).collect::<Vec<u64>>());
}

#[test]
fn a_delivery_that_is_settled_twice_or_late_is_refused() {
    let weft = Weft::start(BIN, &config(""));
    assert_eq!(ask(&weft, "POST", "/v1/queues/emails/messages", &json!(1)).status(), 200);
    let first = receive(&weft, "queues/emails", 1).remove(0);
    assert_eq!(settle(&weft, "queues/emails", &first, "accept").status(), 200);
    let again = settle(&weft, "queues/emails", &first, "accept");
    assert_eq!(again.status(), 409, "{}", again.text());
    assert!(again.text().contains("lease_lost"), "{}", again.text());
}

#[test]
fn what_fails_too_often_is_dead_with_its_story_and_can_be_redriven() {
    let weft = Weft::start(BIN, &config(""));
    assert_eq!(ask(&weft, "POST", "/v1/queues/emails/messages", &json!("x")).status(), 200);
    for _ in 0..3 {
        let delivery = receive(&weft, "queues/emails", 1).remove(0);
        assert_eq!(settle(&weft, "queues/emails", &delivery, "fail").status(), 200);
    }
    let dead = until("the message is dead", || {
        let peek = ask(&weft, "GET", "/v1/queues/emails.dead/messages", &Value::Null);
        if peek.status() != 200 {
            return None;
        }
        json_of(&peek)["messages"].as_array()?.first().cloned()
    });
    assert_eq!(dead["event"]["data"], "x", "{dead}");
    assert!(dead.to_string().contains("test"), "the reason is in its story: {dead}");
    let dry = ask(&weft, "POST", "/v1/queues/emails.dead/redrive", &json!({ "dry_run": true }));
    assert_eq!(dry.status(), 200, "{}", dry.text());
    let redriven = ask(&weft, "POST", "/v1/queues/emails.dead/redrive", &json!({}));
    assert_eq!(redriven.status(), 200, "{}", redriven.text());
    let back = receive(&weft, "queues/emails", 1).remove(0);
    assert_eq!(back["event"]["data"], "x");
    assert_eq!(back["failures"], 0);
}

#[test]
fn a_subscriber_that_is_down_loses_nothing_and_is_pushed_to_when_it_is_back() {
    let well = Arc::new(AtomicBool::new(false));
    let service = Upstream::answering({
        let well = well.clone();
        move |_| {
            if well.load(Ordering::Relaxed) {
                ok("")
            } else {
                "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".into()
            }
        }
    });
    let more = format!(
        "services: {{ billing: {{ endpoints: '{}' }} }}
subscriptions:
  billing:
    topic: order.placed
    retry: {{ first: 50ms, max: 100ms, failures_max: 1000 }}
    push: {{ service: billing, path: /paid }}
",
        service.address()
    );
    let weft = Weft::start(BIN, &config(&more));
    for number in 0..20 {
        assert_eq!(ask(&weft, "POST", "/events", &json!({ "number": number })).status(), 200);
    }
    until("it was tried", || (service.seen().len() > 3).then_some(()));
    well.store(true, Ordering::Relaxed);
    until("all were pushed", || {
        let view = json_of(&ask(&weft, "GET", "/v1/subscriptions/billing", &Value::Null));
        (view["lag_messages"] == 0).then_some(())
    });
    let seen = service.seen();
    let last = seen.last().unwrap();
    assert_eq!((last.method(), last.target()), ("POST", "/paid"));
    assert_eq!(last.get("ce-type"), Some("placed"));
    let mut numbers: Vec<u64> = seen
        .iter()
        .map(|request| {
            let body: Value = serde_json::from_str(&request.text()).unwrap();
            body["number"].as_u64().unwrap()
        })
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..20).collect::<Vec<u64>>());
}

#[test]
fn amqp_and_http_share_a_queue() {
    let weft = Weft::start(BIN, &config(""));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = format!("amqp://guest:guest@{}/%2f", weft.address("rabbit"));
    runtime.block_on(async {
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare("emails".into(), options, FieldTable::default()).await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let confirm = channel
            .basic_publish(
                "".into(),
                "emails".into(),
                BasicPublishOptions::default(),
                b"\"by amqp\"",
                BasicProperties::default()
                    .with_content_type("application/json".into())
                    .with_delivery_mode(2),
            )
            .await
            .unwrap()
            .await
            .unwrap();
        assert!(confirm.is_ack());
    });
    let delivery = receive(&weft, "queues/emails", 1).remove(0);
    assert_eq!(delivery["event"]["data"], "by amqp", "{delivery}");
    assert_eq!(settle(&weft, "queues/emails", &delivery, "accept").status(), 200);
    assert_eq!(ask(&weft, "POST", "/v1/queues/emails/messages", &json!("by http")).status(), 200);
    runtime.block_on(async {
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let mut consumer = channel
            .basic_consume(
                "emails".into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        let delivery = tokio::time::timeout(Duration::from_secs(10), consumer.next())
            .await
            .expect("nothing is delivered")
            .unwrap()
            .unwrap();
        assert_eq!(delivery.data, b"\"by http\"");
        delivery.ack(BasicAckOptions::default()).await.unwrap();
        connection.close(200, "bye".into()).await.unwrap();
    });
    until("the queue is empty", || {
        let view = json_of(&ask(&weft, "GET", "/v1/queues/emails", &Value::Null));
        (view["ready"] == 0 && view["leased"] == 0).then_some(())
    });
}

#[test]
fn a_topic_is_added_by_a_reload() {
    let weft = Weft::start(BIN, &config(""));
    assert_eq!(ask(&weft, "GET", "/v1/topics/more", &Value::Null).status(), 404);
    let more = config("").replace("order.placed: {}", "order.placed: {}, more: { dedupe: off }");
    weft.reload(&more).unwrap();
    assert_eq!(ask(&weft, "GET", "/v1/topics/more", &Value::Null).status(), 200);
    assert_eq!(ask(&weft, "POST", "/v1/topics/more/messages", &json!(1)).status(), 200);
}

#[test]
fn a_successor_takes_the_ledger_over_with_the_sockets() {
    let mut former = Weft::with(BIN, &config(""), &["--handover", "@@/handover.sock"]);
    assert_eq!(ask(&former, "POST", "/v1/queues/emails/messages", &json!(7)).status(), 200);
    let successor = former.successor();
    assert!(former.wait().success());
    let delivery = receive(&successor, "queues/emails", 1).remove(0);
    assert_eq!(delivery["event"]["data"], 7);
}

#[test]
fn a_deferred_request_is_answered_later() {
    let service = Upstream::answering(|request| {
        assert_eq!((request.method(), request.target()), ("POST", "/work"));
        ok("done")
    });
    let more = format!(
        "  - {{ name: work, match: /work, to: work, respond_async: on }}
services: {{ work: {{ endpoints: '{}' }} }}
",
        service.address()
    );
    let weft = Weft::start(BIN, &config(&more));
    let accepted = weft.ask(
        "POST /work HTTP/1.1\r\nhost: t\r\nprefer: respond-async\r\ncontent-length: 2\r\n\r\nhi",
    );
    assert_eq!(accepted.status(), 202, "{}", accepted.text());
    let place = accepted.get("location").unwrap().to_owned();
    let operation = until("it is done", || {
        let operation = json_of(&ask(&weft, "GET", &place, &Value::Null));
        (operation["state"] == "done").then_some(operation)
    });
    assert_eq!(operation["status"], 200);
    assert_eq!(ask(&weft, "GET", &format!("{place}/result"), &Value::Null).text(), "done");
    let waited = weft.ask(
        "POST /work HTTP/1.1\r\nhost: t\r\nprefer: respond-async, wait=5\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!((waited.status(), waited.text()), (200, "done".to_owned()));
}

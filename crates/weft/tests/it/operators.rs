//! Who operates a node, beside those who use its API: neither consumers that wait nor bodies that do not come
//! keep the operator out, and what a command takes is not gone when nobody reads what it prints.

use std::{
    io::Read as _,
    process::{Command, Stdio},
};

use serde_json::Value;
use weft_testkit::{Conn, HttpMessage, Weft, until};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
const YAML: &str =
    "admin: { listen: '@admin' }\nledger: data\nqueues: { q: {} }\ntopics: { t: {} }\n";

fn ask(node: &Weft, request: &str, body: &str) -> HttpMessage {
    node.connect("admin").ask(format!(
        "{request} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// The member of a queue's counts.
fn count(node: &Weft, member: &str) -> u64 {
    let shown: Value = serde_json::from_slice(&ask(node, "GET /v1/queues/q", "").body).unwrap();
    shown[member].as_u64().unwrap()
}

fn publish(node: &Weft, to: &str, messages: usize) {
    let one = |id| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/a","type":"t","data":"{id:0>400}"}}"#
        )
    };
    let batch: Vec<String> = (0..messages).map(one).collect();
    let answer = node.connect("admin").ask(format!(
        "POST /v1/{to}/messages HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\
         content-type: application/cloudevents-batch+json\r\n\r\n[{}]",
        batch.join(",").len() + 2,
        batch.join(",")
    ));
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

#[test]
fn consumers_that_wait_keep_out_neither_publishers_nor_the_operator() {
    let node = Weft::start(BIN, YAML);
    let poll = r#"{"wait":"60s"}"#;
    let request = format!(
        "POST /v1/queues/q/receive HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n{poll}",
        poll.len()
    );
    let polls: Vec<Conn> = (0..64)
        .map(|_| {
            let mut conn = node.connect("admin");
            conn.send(&request);
            conn
        })
        .collect();
    until("64 consumers wait", || (count(&node, "consumers") == 64).then_some(()));
    let one_more = ask(&node, "POST /v1/queues/q/receive", poll);
    assert_eq!(one_more.status(), 503, "{}", one_more.text());
    assert!(one_more.text().contains("64 requests (consume)"), "{}", one_more.text());
    for (request, body) in [
        ("GET /v1/status", ""),
        ("POST /v1/reload", ""),
        ("PUT /v1/queues/other", "{}"),
        ("POST /v1/topics/t/messages", "x"),
    ] {
        let answer = ask(&node, request, body);
        assert!(answer.status() < 300, "{request}: {}", answer.text());
    }
    drop(polls);
    until("nobody waits", || (count(&node, "consumers") == 0).then_some(()));
}

#[test]
fn a_body_that_does_not_come_makes_way() {
    let node = Weft::start(BIN, YAML);
    let slow: Vec<Conn> = (0..16)
        .map(|_| {
            let mut conn = node.connect("admin");
            conn.send(
                "PUT /v1/queues/slow HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{ ",
            );
            conn
        })
        .collect();
    // Refused as long as the others may still be in time, and served from then on.
    for name in ["a", "b", "c"] {
        until("a place for the operator", || {
            let answer = ask(&node, &format!("PUT /v1/queues/{name}"), "{}");
            assert!([201, 503].contains(&answer.status()), "{}", answer.text());
            (answer.status() == 201).then_some(())
        });
    }
    drop(slow);
}

fn weft(node: &Weft, arguments: &[&str]) -> Command {
    let mut command = Command::new(BIN);
    command.args(arguments).env("WEFT_ADMIN", format!("http://{}", node.address("admin")));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn what_nobody_reads_is_given_back() {
    let node = Weft::start(BIN, YAML);
    publish(&node, "queues/q", 20);
    let mut child =
        weft(&node, &["queue", "receive", "q", "--max", "20", "--wait", "0s"]).spawn().unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut said = String::new();
    child.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("nobody reads the output: 20 of 20 messages were given back"), "{said}");
    assert_eq!((count(&node, "ready"), count(&node, "leased")), (20, 0));
}

#[test]
fn a_tail_ends_when_nobody_reads_it_any_more() {
    let node = Weft::start(BIN, YAML);
    // More than a pipe holds, and nothing.
    for messages in [1_000, 0] {
        if messages > 0 {
            publish(&node, "topics/t", messages);
        }
        let from = if messages > 0 { "first" } else { "next" };
        let mut child = weft(&node, &["topic", "tail", "t", "--from", from]).spawn().unwrap();
        drop(child.stdout.take());
        let status = until("the tail ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{messages}");
    }
}

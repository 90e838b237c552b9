//! Operations of the messages API.

use std::io::Write;

use anyhow::{Context, Result, ensure};

use super::testbed::Testbed;
use crate::http::Client;

/// A message that is put into an empty queue, handed out and accepted.
pub(super) fn passes(testbed: &mut Testbed, queue: &str) -> Result<()> {
    passes_with(testbed, queue, "")
}

/// The same with an id that its publisher names, which Weft remembers for a while.
pub(super) fn passes_by_name(testbed: &mut Testbed) -> Result<()> {
    let id = testbed.next();
    let head =
        format!("ce-specversion: 1.0\r\nce-id: {id}\r\nce-source: /soak\r\nce-type: soak\r\n");
    passes_with(testbed, "named", &head)
}

fn passes_with(testbed: &mut Testbed, queue: &str, head: &str) -> Result<()> {
    let queue = format!("/messages/v1/queues/{queue}");
    let to = format!("{queue}/messages");
    let answer = testbed.client.send_with("POST", &to, head, r#"{"total": 9.5}"#)?;
    ensure!(matches!(answer.status, 200 | 201), "POST {to}: {answer:?}");
    let answer = testbed.client.send("POST", &format!("{queue}/receive"), r#"{"wait": "5s"}"#)?;
    let id = answer.body.split_once(r#""id":""#).and_then(|(_, rest)| rest.split('"').next());
    let id = id.with_context(|| format!("nothing was handed out: {answer:?}"))?;
    let settle = format!(r#"{{"settle": [{{"id": "{id}", "how": "accept"}}]}}"#);
    let answer = testbed.client.send("POST", &format!("{queue}/settle"), &settle)?;
    ensure!(answer.body.contains(r#""ok":true"#), "not settled: {answer:?}");
    Ok(())
}

/// A message that is pushed to a service.
pub(super) fn pushed(testbed: &mut Testbed) -> Result<()> {
    testbed.ask("POST", "/messages/v1/topics/pushed/messages", r#"{"total": 9.5}"#, &[200, 201])
}

/// A queue that is declared and deleted.
pub(super) fn queue(testbed: &mut Testbed) -> Result<()> {
    made_and_deleted(testbed, "queues", "{}")
}

/// A schedule that is cancelled before it fires.
pub(super) fn schedule(testbed: &mut Testbed) -> Result<()> {
    let what = r#"{"delay": "1h", "to": {"queue": "memory"}, "type": "soak", "data": {"a": 1}}"#;
    made_and_deleted(testbed, "schedules", what)
}

/// A subscription that is made and deleted.
pub(super) fn subscription(testbed: &mut Testbed) -> Result<()> {
    made_and_deleted(testbed, "subscriptions", r#"{"topic": "news"}"#)
}

fn made_and_deleted(testbed: &mut Testbed, what: &str, body: &str) -> Result<()> {
    // Another name each time, as clients that make names up do.
    let path = format!("/messages/v1/{what}/soak-{}", testbed.next());
    testbed.ask("PUT", &path, body, &[201])?;
    testbed.ask("DELETE", &path, "", &[200, 204])
}

/// An event stream that its client leaves.
pub(super) fn events(testbed: &mut Testbed) -> Result<()> {
    Client::new(testbed.web).events("/messages/v1/queues/idle/stream")?;
    Ok(())
}

/// A WebSocket that its client leaves, with a goodbye or, every other time, without.
pub(super) fn web_socket(testbed: &mut Testbed) -> Result<()> {
    let mut socket = Client::new(testbed.web).web_socket("/messages/v1/queues/idle/stream")?;
    if testbed.next().is_multiple_of(2) {
        // A close frame with code 1000 and a mask of zeros.
        socket.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8])?;
    }
    Ok(())
}

/// A response that is kept for a client that never asks for it.
pub(super) fn deferred(testbed: &mut Testbed) -> Result<()> {
    // While 4,096 have no response yet, more are refused.
    let answer =
        testbed.client.send_with("POST", "/later", "prefer: respond-async\r\n", r#"{"a": 1}"#)?;
    ensure!(matches!(answer.status, 202 | 503), "{answer:?}");
    Ok(())
}

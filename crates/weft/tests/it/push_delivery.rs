//! Push delivery through the real binary, to subscribers whose answers are not as they should be.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;
use weft_testkit::{Conn, Upstream, Weft, until};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// A node that pushes one message at a time, each within a second.
fn node(service: &Upstream) -> Weft {
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
ledger: {{ path: '@@/data', wal_file: 4MiB }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ hook: {{ endpoints: '{}' }} }}
topics: {{ t: {{}} }}
subscriptions:
  s: {{ topic: t, start: first, push: {{ service: hook, timeout: 1s, concurrency: 1 }},
       retry: {{ failures_max: 5, first: 500ms, max: 2s, jitter: 0 }} }}
routes:
  - {{ name: messages, match: /v1/*, messages: / }}
  - {{ name: in, match: /events, publish: t }}
",
            service.address()
        ),
    );
    for text in ["one", "two"] {
        let answer = weft.ask(format!(
            "POST /events HTTP/1.1\r\nhost: t\r\ncontent-type: text/plain\r\ncontent-length: \
             3\r\n\r\n{text}"
        ));
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
    weft
}

/// What a subscription or queue says of itself; null if it is not there.
fn view(weft: &Weft, path: &str) -> Value {
    let answer = weft.get(&format!("/v1/{path}"), "");
    serde_json::from_str(&answer.text()).unwrap_or_default()
}

/// Waits until both messages are accepted, and no other way.
fn accepted(weft: &Weft) {
    until("both are accepted", || {
        (view(weft, "subscriptions/s")["lag_messages"] == 0).then_some(())
    });
    assert!(view(weft, "queues/s.dead")["ready"].as_u64().unwrap_or(0) == 0);
}

/// What was posted, in its order: the text, and which attempt it was.
type Posted = Arc<Mutex<Vec<(String, String)>>>;

/// Answers the first message's first attempt badly, and all others well.
fn badly(bad: &'static str) -> (Upstream, Posted) {
    let posted = Posted::default();
    let seen = posted.clone();
    let service = Upstream::raw(move |mut conn: Conn| {
        while let Some(request) = conn.request() {
            let attempt = request.get("weft-delivery-attempt").unwrap().to_owned();
            let is_bad = (request.text().as_str(), &*attempt) == ("one", "1");
            seen.lock().unwrap().push((request.text(), attempt));
            if is_bad {
                conn.send(bad);
                // The connection stays open, and what is missing does not come.
                let _ = conn.rest();
                return;
            }
            conn.send("HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    (service, posted)
}

#[test]
fn an_answer_that_does_not_end_in_time_is_a_failure_and_holds_nobody_up() {
    for bad in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\n\r\nuntil the connection closes",
        "HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n",
    ] {
        let (service, posted) = badly(bad);
        let weft = node(&service);
        accepted(&weft);
        let posted = posted.lock().unwrap().clone();
        let seen: Vec<_> = posted.iter().map(|(text, tries)| (&**text, &**tries)).collect();
        assert_eq!(seen, [("one", "1"), ("two", "1"), ("one", "2")], "{bad}");
    }
}

#[test]
fn an_answer_that_is_longer_than_anybody_reads_is_an_answer() {
    // Endless, and with a length.
    for head in ["transfer-encoding: chunked", "content-length: 1000000"] {
        let service = Upstream::raw(move |mut conn: Conn| {
            if conn.request().is_none() {
                return;
            }
            conn.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
            let piece = "x".repeat(1 << 10);
            let piece = match head {
                "transfer-encoding: chunked" => format!("400\r\n{piece}\r\n"),
                _ => piece,
            };
            for _ in 0..970 {
                if !conn.send(&piece) {
                    return;
                }
            }
            // It is cut, and so the connection ends.
            let _ = conn.rest();
        });
        let weft = node(&service);
        accepted(&weft);
        assert_eq!(service.connections(), 2, "{head}");
    }
}

#[test]
fn a_hint_makes_the_pause_longer_and_never_shorter() {
    for (hint, least) in
        [("0", 450), ("Thu, 01 Jan 1970 00:00:00 GMT", 450), ("2", 1_900), ("nonsense", 450)]
    {
        let service = Upstream::answering(move |request| {
            if request.get("weft-delivery-attempt") == Some("1") && request.text() == "one" {
                format!("HTTP/1.1 503 No\r\nretry-after: {hint}\r\ncontent-length: 0\r\n\r\n")
            } else {
                "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
            }
        });
        let began = Instant::now();
        let weft = node(&service);
        accepted(&weft);
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(least), "{hint}: {took:?}");
        assert_eq!(service.seen().len(), 3, "{hint}");
        // The second message does not wait for the first.
        assert_eq!(service.seen()[1].text(), "two", "{hint}");
    }
}

//! Clients and services that misbehave: the right status, the reason said, and others unharmed.

use weft_testkit::{Conn, HttpMessage, Upstream, Weft, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// A node with a service that misbehaves at `/bad` and one that does not at `/good`.
fn beside(bad: &Upstream, good: &Upstream) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: off
telemetry: {{ access_log: all }}
listeners:
  web:
    address: '@web'
    timeouts: {{ headers: 300ms, stream_idle: 400ms }}
    limits: {{ header_bytes_max: 8KiB, header_count_max: 20 }}
services:
  bad: {{ endpoints: '{}', ejection: off }}
  good: {{ endpoints: '{}' }}
routes:
  - {{ name: bad, match: /bad/*, to: bad, timeout: {{ request: 600ms, idle: 400ms }}, body_max: 64KiB }}
  - {{ name: good, match: /good, to: good }}
",
            bad.address(),
            good.address()
        ),
    )
}

/// That requests beside the fault are answered.
fn is_unharmed(weft: &Weft) {
    let mut conn = weft.connect("web");
    for _ in 0..3 {
        assert_eq!(conn.ask("GET /good HTTP/1.1\r\nhost: t\r\n\r\n").text(), "good");
    }
}

fn error(response: &HttpMessage) -> &str {
    let status = response.get("proxy-status").unwrap_or_default();
    let word = status.split("error=").nth(1).unwrap_or_default();
    word.split(';').next().unwrap_or_default()
}

#[test]
fn slow_heads_are_told_408() {
    let good = Upstream::saying("good");
    let weft = beside(&good, &good);
    let mut conn = weft.connect("web");
    conn.send("GET /good HTTP/1.1\r\nhost: t\r\nx-slow: ");
    is_unharmed(&weft);
    let response = conn.response();
    assert_eq!(response.status(), 408);
    assert_eq!(error(&response), "http_request_error");
    assert!(conn.is_closed());
}

#[test]
fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let good = Upstream::saying("good");
    let weft = beside(&good, &good);
    assert!(weft.connect("web").is_closed());
}

#[test]
fn slow_bodies_are_told_408() {
    let service = Upstream::answering(|_| ok("never"));
    let good = Upstream::saying("good");
    let weft = beside(&service, &good);
    let mut conn = weft.connect("web");
    conn.send("POST /bad/a HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\nhalf");
    let response = conn.response();
    assert_eq!(response.status(), 408, "{response:?}");
    assert!(conn.is_closed());
    assert!(weft.wait_line("body_timeout").contains("\"status\":408"));
    assert_eq!(service.seen().len(), 0, "the service saw no whole request");
    is_unharmed(&weft);
}

#[test]
fn large_heads_are_told_431() {
    let good = Upstream::saying("good");
    let weft = beside(&good, &good);
    let long = "x".repeat(9000);
    for request in [
        format!("GET /good HTTP/1.1\r\nhost: t\r\nx-long: {long}\r\n\r\n"),
        format!("GET /good HTTP/1.1\r\nhost: t\r\n{}\r\n", "x-many: 1\r\n".repeat(30)),
        format!("GET /good HTTP/1.1\r\nhost: t\r\nx-unended: {long}"),
    ] {
        let response = weft.ask(&request);
        assert_eq!(response.status(), 431, "{response:?}");
    }
    assert_eq!(good.seen().len(), 0);
    is_unharmed(&weft);
}

#[test]
fn large_bodies_are_told_413_whether_announced_or_not() {
    let service = Upstream::saying("never");
    let good = Upstream::saying("good");
    let weft = beside(&service, &good);
    let announced = weft.ask("POST /bad/ HTTP/1.1\r\nhost: t\r\ncontent-length: 70000\r\n\r\n");
    assert_eq!(announced.status(), 413);
    assert_eq!(service.connections(), 0, "an announced one is refused before the service is asked");
    let mut conn = weft.connect("web");
    conn.send("POST /bad/ HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    for _ in 0..5 {
        conn.send(&chunk);
    }
    let response = conn.response();
    assert_eq!(response.status(), 413, "{response:?}");
    assert_eq!(service.seen().len(), 0);
    is_unharmed(&weft);
}

/// What a service does with a connection, and what the client is told of it.
type Case = (&'static str, fn(Conn), u16, &'static str);

#[test]
fn services_that_fail_before_a_response_are_told_by_their_fault() {
    let cases: &[Case] = &[
        ("closes", |mut conn| drop(conn.request()), 502, "upstream_closed"),
        (
            "resets",
            |mut conn| {
                conn.request();
                conn.reset();
            },
            502,
            "upstream_closed",
        ),
        (
            "never answers",
            |mut conn| {
                conn.request();
                conn.is_closed();
            },
            504,
            "request_timeout",
        ),
        (
            "speaks no HTTP",
            |mut conn| answer(&mut conn, "220 smtp ready\r\n\r\n"),
            502,
            "upstream_malformed",
        ),
        (
            "dies within the head",
            |mut conn| answer(&mut conn, "HTTP/1.1 200 OK\r\nx-a: "),
            502,
            "upstream_closed",
        ),
        (
            "says two lengths",
            |mut conn| {
                answer(
                    &mut conn,
                    "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
                );
            },
            502,
            "upstream_malformed",
        ),
        (
            "says a length that is none",
            |mut conn| answer(&mut conn, "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"),
            502,
            "upstream_malformed",
        ),
        (
            "splits the head by a bare line feed",
            |mut conn| answer(&mut conn, "HTTP/1.1 200 OK\nx: y\n\n"),
            502,
            "upstream_malformed",
        ),
        (
            "sends a head without end",
            |mut conn| {
                conn.request();
                conn.send("HTTP/1.1 200 OK\r\n");
                while conn.send(format!("x-more: {}\r\n", "x".repeat(4000))) {}
            },
            502,
            "upstream_headers_too_large",
        ),
        (
            "switches protocols unasked",
            |mut conn| {
                answer(&mut conn, "HTTP/1.1 101 Yes\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")
            },
            502,
            "upstream_malformed",
        ),
    ];
    for (what, script, status, reason) in cases {
        let bad = Upstream::raw(script);
        let good = Upstream::saying("good");
        let weft = beside(&bad, &good);
        // POST, so that nothing is tried again.
        let response = weft.ask("POST /bad/x HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\nab");
        assert_eq!(response.status(), *status, "a service that {what}: {response:?}");
        assert!(response.get("proxy-status").is_some(), "{what}");
        let line = weft.wait_line("/bad/x");
        assert!(line.contains(&format!("\"{reason}\"")), "a service that {what}: {line}");
        is_unharmed(&weft);
    }
}

fn answer(conn: &mut Conn, text: &str) {
    conn.request();
    conn.send(text);
}

#[test]
fn services_that_fail_within_a_body_leave_it_visibly_incomplete() {
    type Case = (&'static str, fn(Conn), &'static str);
    let cases: &[Case] = &[
        (
            "dies half-way",
            |mut conn| answer(&mut conn, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
            "upstream_incomplete",
        ),
        (
            "dies within a chunk",
            |mut conn| {
                answer(&mut conn, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nhalf")
            },
            "upstream_incomplete",
        ),
        (
            "sends chunks that are none",
            |mut conn| {
                answer(
                    &mut conn,
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n",
                )
            },
            "upstream_malformed",
        ),
        (
            "stops",
            |mut conn| {
                answer(&mut conn, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
                conn.is_closed();
            },
            "stream_idle",
        ),
    ];
    for (what, script, reason) in cases {
        let bad = Upstream::raw(script);
        let good = Upstream::saying("good");
        let weft = beside(&bad, &good);
        let mut conn = weft.connect("web");
        let response = conn.ask("GET /bad/x HTTP/1.1\r\nhost: t\r\n\r\n");
        assert_eq!(response.status(), 200, "{what}");
        assert!(!response.complete, "a service that {what} must not look whole: {response:?}");
        assert!(conn.is_closed(), "{what}");
        let line = weft.wait_line("/bad/x");
        assert!(line.contains(&format!("\"{reason}\"")), "a service that {what}: {line}");
        is_unharmed(&weft);
    }
}

#[test]
fn a_service_that_sends_too_much_poisons_no_other_response() {
    let bad = Upstream::raw(|mut conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
        }
    });
    let good = Upstream::saying("good");
    let weft = beside(&bad, &good);
    let mut conn = weft.connect("web");
    for _ in 0..10 {
        assert_eq!(conn.ask("GET /bad/x HTTP/1.1\r\nhost: t\r\n\r\n").text(), "ok");
    }
}

#[test]
fn a_service_that_answers_early_is_heard() {
    let bad = Upstream::raw(|mut conn| {
        if conn.head().is_some() {
            conn.send("HTTP/1.1 403 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
            conn.finish();
            conn.rest();
        }
    });
    let good = Upstream::saying("good");
    let weft = beside(&bad, &good);
    let mut conn = weft.connect("web");
    conn.send("POST /bad/x HTTP/1.1\r\nhost: t\r\ncontent-length: 50000\r\n\r\nonly the beginning");
    let response = conn.response();
    assert_eq!((response.status(), response.text()), (403, "no".to_owned()));
    is_unharmed(&weft);
}

#[test]
fn a_service_that_trickles_is_passed_on_as_it_comes() {
    let bad = Upstream::raw(|mut conn| {
        if conn.request().is_none() {
            return;
        }
        conn.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        for byte in b'a'..=b'e' {
            conn.send(format!("1\r\n{}\r\n", char::from(byte)));
            // The client says when it has seen this much; the service waits for nothing else.
            if conn.take(1).is_empty() {
                return;
            }
        }
        conn.send("0\r\n\r\n");
    });
    let good = Upstream::saying("good");
    let weft = beside(&bad, &good);
    let mut conn = weft.connect("web");
    conn.send("GET /bad/x HTTP/1.1\r\nhost: t\r\n\r\n");
    let head = conn.head().unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(conn.take(6), b"1\r\na\r\n", "the first byte does not wait for the second");
    is_unharmed(&weft);
}

#[test]
fn a_client_that_goes_away_ends_the_work() {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let bad = Upstream::raw(move |mut conn| {
        if conn.request().is_some() {
            let _ = tell.try_send(conn.is_closed());
        }
    });
    let good = Upstream::saying("good");
    let weft = beside(&bad, &good);
    let mut conn = weft.connect("web");
    conn.send("GET /bad/gone HTTP/1.1\r\nhost: t\r\n\r\n");
    weft_testkit::until("the service is asked", || (bad.connections() > 0).then_some(()));
    conn.reset();
    assert!(told.recv_timeout(weft_testkit::PATIENCE).unwrap());
    assert!(weft.wait_line("/bad/gone").contains("caller_gone"));
    is_unharmed(&weft);
}

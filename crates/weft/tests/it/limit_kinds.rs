//! Limits of requests at once and of bytes within a time, as clients meet them.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use weft_testkit::{
    PATIENCE, Upstream, Weft,
    http2::{self, Client, request},
    until,
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(service: &Upstream, limits: &str) -> String {
    format!(
        "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ s: {{ endpoints: '{}' }} }}
routes:
  - {{ name: limited, match: '/limited', to: s, rate_limits: {limits} }}
  - {{ name: free, match: '/*', to: s }}
",
        service.address()
    )
}

/// A service that answers when it is told to.
fn gated() -> (Upstream, mpsc::SyncSender<()>) {
    let (open, gate) = mpsc::sync_channel::<()>(64);
    let gate = Mutex::new(gate);
    // What it has been asked is on record once it has answered: until then its connections tell.
    let service = Upstream::answering(move |_| {
        let _ = gate.lock().unwrap().recv_timeout(PATIENCE);
        ok("late")
    });
    (service, open)
}

/// Waits until so many requests that hang have come to the service.
fn reached(service: &Upstream, connections: usize) {
    until("requests at the service", || (service.connections() >= connections).then_some(()));
}

#[test]
fn requests_at_once_are_bounded_by_key_and_a_place_is_free_when_the_response_has_ended() {
    let (service, open) = gated();
    let limits = "{ concurrent: 2, by: [{ header: x-tenant }] }";
    let node = Weft::start(BIN, &config(&service, limits));
    let mut waiting: Vec<_> = (0..2).map(|_| node.connect("web")).collect();
    for conn in &mut waiting {
        conn.send("GET /limited HTTP/1.1\r\nhost: t\r\nx-tenant: a\r\n\r\n");
    }
    reached(&service, 2);
    let refused = node.get("/limited", "x-tenant: a\r\n");
    assert_eq!((refused.status(), refused.get("retry-after")), (429, Some("1")));
    assert!(refused.text().contains("2 requests are under way"), "{}", refused.text());
    let policy = "\"default\";q=2;qu=\"concurrent-requests\"";
    assert_eq!(refused.get("ratelimit-policy"), Some(policy));
    assert_eq!(refused.get("ratelimit"), Some("\"default\";r=0"));
    // Whichever of them is answered first.
    for _ in 0..3 {
        open.send(()).unwrap();
    }
    let other = node.get("/limited", "x-tenant: b\r\n");
    assert_eq!((other.status(), other.get("ratelimit")), (200, Some("\"default\";r=1")));
    for conn in &mut waiting {
        assert_eq!(conn.response().text(), "late");
    }
    node.wait_metric("weft_route_fact_requests_total", &["rate_limited", "default"], 1.0);
    // A response has ended a moment after its last byte was read.
    let free = until("both places", || {
        let _ = open.try_send(());
        let answer = node.get("/limited", "x-tenant: a\r\n");
        (answer.get("ratelimit") == Some("\"default\";r=1")).then_some(answer)
    });
    assert_eq!(free.status(), 200);
}

#[test]
fn whoever_leaves_gives_the_place_back() {
    let (_open, gate) = mpsc::sync_channel::<()>(64);
    let gate = Mutex::new(gate);
    // Hangs where it is told to, whether its client is there or not.
    let service = Upstream::answering(move |request| {
        if request.get("x-hang").is_some() {
            let _ = gate.lock().unwrap().recv_timeout(PATIENCE);
        }
        ok("at once")
    });
    let node = Weft::start(BIN, &config(&service, "{ concurrent: 1 }"));
    let mut conn = node.connect("web");
    conn.send("GET /limited HTTP/1.1\r\nhost: t\r\nx-hang: 1\r\n\r\n");
    reached(&service, 1);
    assert_eq!(node.get("/limited", "").status(), 429);
    conn.reset();
    until("the place is free", || (node.get("/limited", "").status() == 200).then_some(()));
    let address = node.address("web");
    http2::run(async {
        let client = Client::to(address).await;
        let hangs = request("GET", "/limited").header("x-hang", "1").body(()).unwrap();
        let response = client.open(hangs).await.unwrap();
        // In the order in which they were sent.
        assert_eq!(client.get("/limited").await.unwrap().status, 429);
        // Dropped, its stream is reset.
        drop(response);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while client.get("/limited").await.unwrap().status != 200 {
            assert!(tokio::time::Instant::now() < deadline, "the place is free");
        }
    });
}

#[test]
fn a_limit_that_refuses_later_leaves_no_place_taken() {
    let service = Upstream::saying("ok");
    let limits = "[{ name: few, concurrent: 1 }, { name: hour, rate: 2/h }]";
    let node = Weft::start(BIN, &config(&service, limits));
    // By one connection, on which a request has ended before the next begins.
    let mut conn = node.connect("web");
    for status in [200, 200, 429, 429, 429] {
        let answer = conn.ask("GET /limited HTTP/1.1\r\nhost: t\r\n\r\n");
        assert_eq!(answer.status(), status);
        let left = if status == 200 { "\"few\";r=0" } else { "\"few\";r=1" };
        assert!(
            answer.get("ratelimit").unwrap().starts_with(left),
            "{:?}",
            answer.get("ratelimit")
        );
    }
}

#[test]
fn a_shadow_of_a_limit_at_once_tells_what_it_would_refuse() {
    let (service, open) = gated();
    let node = Weft::start(BIN, &config(&service, "{ concurrent: 1, shadow: true }"));
    let mut waiting: Vec<_> = (0..3).map(|_| node.connect("web")).collect();
    for conn in &mut waiting {
        conn.send("GET /limited HTTP/1.1\r\nhost: t\r\n\r\n");
    }
    reached(&service, 3);
    for _ in &waiting {
        open.send(()).unwrap();
    }
    for conn in &mut waiting {
        assert_eq!(conn.response().status(), 200);
    }
    node.wait_metric("weft_route_fact_requests_total", &["default (shadow)"], 2.0);
}

#[test]
fn bytes_of_responses_are_slowed_down_and_not_gathered() {
    static PIECE: [u8; 65_536] = [b'x'; 65_536];
    const PIECES: usize = 1_024;
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let service = Upstream::raw(move |mut conn| {
        conn.request();
        conn.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", PIECES * PIECE.len()));
        for _ in 0..PIECES {
            if !conn.send(PIECE) {
                return;
            }
            count.fetch_add(PIECE.len(), Ordering::Relaxed);
        }
    });
    let limits = "{ bandwidth: { rate: 2MiB/s, burst: 512KiB } }";
    let node = Weft::start(BIN, &config(&service, limits));
    http2::run(async {
        let client = Client::to(node.address("web")).await;
        let response = client.open(request("GET", "/limited").body(()).unwrap()).await.unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut read = 0;
        while read < 3 * 1_024 * 1_024 {
            let data = body.data().await.unwrap().unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            read += data.len();
            // What is in buffers of sockets, and no more, is ahead of the client.
            let ahead = written.load(Ordering::Relaxed).saturating_sub(read);
            assert!(ahead < 16 * 1_024 * 1_024, "{ahead} ahead of {read}");
        }
    });
    node.wait_metric("weft_route_fact_requests_total", &["slowed", "default"], 1.0);
}

#[test]
fn bodies_pass_whole_whichever_way_they_are_slowed_down() {
    let service = Upstream::answering(|request| ok(&request.text()));
    let limits =
        "[{ bandwidth: { rate: 1MiB/s, burst: 8KiB, of: both } }, { name: day, rate: 9/d }]";
    // One worker has one pool of connections.
    let node = Weft::with(BIN, &config(&service, limits), &["--workers", "1"]);
    let body = "0123456789abcdef".repeat(4_096);
    let mut conn = node.connect("web");
    for _ in 0..2 {
        let length = body.len();
        conn.send(format!(
            "POST /limited HTTP/1.1\r\nhost: t\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        let answer = conn.response();
        assert_eq!(answer.status(), 200);
        assert!(answer.text() == body);
        assert_eq!(answer.get("ratelimit-policy"), Some("\"day\";q=9;w=86400"));
    }
    // Chunked, and over HTTP/2.
    let chunks: String = body
        .as_bytes()
        .chunks(1_000)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
        .collect();
    conn.send(format!(
        "POST /limited HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    ));
    assert!(conn.response().text() == body);
    let address = node.address("web");
    let reply = http2::run(async move {
        let post = request("POST", "/limited").body(body.clone().into_bytes()).unwrap();
        let reply = Client::to(address).await.ask(post).await.unwrap();
        (reply.text() == body, reply.status)
    });
    assert_eq!(reply, (true, 200));
    // Connections to the service are kept, as each body has been seen to its end.
    assert_eq!(service.connections(), 1);
}

#[test]
fn what_does_not_belong_together_is_told_where_it_stands() {
    for (limits, said) in [
        ("{ concurrent: 2, rate: 1/s }", "one of `rate`, `concurrent` and `bandwidth`"),
        ("{ name: none }", "one of `rate`, `concurrent` and `bandwidth`"),
        ("{ concurrent: 2, burst: 3 }", "`burst` is of a `rate`"),
        ("{ concurrent: 2, algorithm: gcra }", "`algorithm` is of a `rate`"),
        ("{ bandwidth: 1MiB/s, cost: 3 }", "`cost` is of a `rate`"),
        ("{ bandwidth: 1MiB/s, shadow: true }", "refuses nothing"),
        ("{ bandwidth: { rate: 1MiB/s, burst: 0 } }", "at least a byte"),
        ("{ bandwidth: 1MiB }", "a size within a time"),
        ("{ bandwidth: { rat: 1MiB/s } }", "rate"),
        ("{ concurrent: 2, keys_max: 3 }", "`keys_max`"),
        ("{ rate: 3/s, cost: 4 }", "costs more than the limit ever grants"),
        ("{ rate: 3/s, algorithm: sliding_window, burst: 2 }", "has no `burst`"),
        ("{ concurent: 2 }", "concurrent"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weft.yaml");
        std::fs::write(&file, format!("routes:\n  - respond: 200\n    rate_limits: {limits}\n"))
            .unwrap();
        let out = std::process::Command::new(BIN)
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stderr).into_owned()
            + &String::from_utf8_lossy(&out.stdout);
        assert!(!out.status.success(), "{limits}: {text}");
        assert!(text.contains(said) && text.contains("weft.yaml:3:"), "{limits}: {text}");
    }
}

//! Connections that do nothing: many of them cost little, and they end when their time is over.

use std::time::{Duration, Instant};

use weft_testkit::{Conn, Upstream, Weft, limit, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
/// As many as clients may have of twenty thousand descriptors, a common limit of a process.
const CONNECTIONS: usize = 9_900;
/// What an idle connection of HTTP/1.1 may cost, after its first request. Measured are 7 KiB, in a debug
/// build as in a release one; the rest is for allocators and toolchains that round up otherwise.
const BYTES_MAX: u64 = 24 << 10;
const GET: &str = "GET / HTTP/1.1\r\nhost: t\r\n\r\n";

fn node(service: &Upstream, listener: &str) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: none }}
listeners: {{ web: {{ address: '@web'{listener} }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
    )
}

#[test]
fn thousands_of_idle_connections_cost_little_and_harm_nobody() {
    limit::descriptors(CONNECTIONS as u64 + 1_000);
    let service = Upstream::raw(|mut conn: Conn| {
        while conn.request().is_some() {
            conn.send(ok("well"));
        }
    });
    let mut weft = node(&service, ", timeouts: { idle: 10m }");
    for _ in 0..50 {
        assert_eq!(weft.get("/", "").text(), "well");
    }
    let before = weft.memory();
    let mut idle: Vec<Conn> = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut conn = weft.connect("web");
        assert_eq!(conn.ask(GET).status(), 200);
        idle.push(conn);
    }
    weft.wait_metric("weft_listener_connections_active", &["listener=\"web\""], CONNECTIONS as f64);
    let each = weft.memory().saturating_sub(before) / CONNECTIONS as u64;
    assert!(each <= BYTES_MAX, "{each} bytes for each connection");
    let began = Instant::now();
    for _ in 0..200 {
        assert_eq!(weft.get("/", "").text(), "well");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?} for 200 requests", began.elapsed());
    // Any of them may wake up.
    for conn in idle.iter_mut().step_by(97) {
        assert_eq!(conn.ask(GET).text(), "well");
    }
    weft.terminate();
    for conn in &mut idle {
        assert!(conn.is_closed());
    }
    assert!(weft.wait().success());
}

#[test]
fn idle_connections_end_when_their_time_is_over() {
    let service = Upstream::saying("well");
    let weft = node(&service, ", timeouts: { idle: 500ms, headers: 500ms }");
    // Asked at once, since a connection that is not is closed soon.
    let mut idle: Vec<Conn> = (0..500)
        .map(|at| {
            let mut conn = weft.connect("web");
            if at % 2 == 0 {
                assert_eq!(conn.ask(GET).status(), 200);
            }
            conn
        })
        .collect();
    let began = Instant::now();
    for conn in &mut idle {
        assert!(conn.is_closed(), "without a word");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(weft.get("/", "").text(), "well");
}

#[test]
fn a_connection_that_is_idle_ends_with_its_age() {
    let service = Upstream::saying("well");
    let weft = node(&service, ", timeouts: { idle: 10m, connection_age: 500ms }");
    let mut conn = weft.connect("web");
    assert_eq!(conn.ask(GET).status(), 200);
    let began = Instant::now();
    assert!(conn.is_closed(), "without a word");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

//! What a second service is told of a request that a first one has had: the deadline that is left, and
//! nothing that was for the first one alone.

use std::time::Duration;

use weft_testkit::{
    Upstream, Weft, grpc,
    http2::{self, Client, Service},
    upstream::{ok, status},
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// A node with an access log, from its services and its routes.
fn node(services: &str, routes: &str) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: off
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
services:
{services}
routes:
{routes}
"
        ),
    )
}

/// A service that hears requests and never answers them.
fn silent() -> Upstream {
    Upstream::raw(|mut conn| {
        conn.request();
        conn.is_closed();
    })
}

/// A service that says which of some fields it was sent, in their order.
fn telling(names: &'static [&'static str]) -> Upstream {
    Upstream::answering(move |request| {
        let told = names.iter().map(|name| format!("{name}={}", request.all(name).join(",")));
        ok(&told.collect::<Vec<_>>().join("\n"))
    })
}

/// The value of a field as [`telling`] said it.
fn told<'a>(said: &'a str, name: &str) -> &'a str {
    said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap()
}

#[test]
fn a_fallback_has_what_is_left_of_the_callers_deadline() {
    let slow = silent();
    let spare = telling(&["x-request-timeout-ms", "x-request-attempt"]);
    let weft = node(
        &format!(
            "  slow: {{ endpoints: '{}', ejection: off }}\n  spare: {{ endpoints: '{}' }}",
            slow.address(),
            spare.address()
        ),
        "  - { name: one, match: /one, to: slow, retry: off,
      timeout: { request: 20s, per_try: 400ms }, fallback: { to: spare } }
  - { name: two, match: /two, to: slow, timeout: { request: 20s, per_try: 400ms },
      retry: { retries: 1, on: [try-timeout], backoff: { base: 1ms } }, fallback: { to: spare } }",
    );
    for (path, spent, attempts) in [("/one", 400, 2), ("/two", 800, 3)] {
        let said = weft.get(path, "x-request-timeout-ms: 5000\r\n");
        assert_eq!(said.status(), 200, "{path}");
        let said = said.text();
        let left: u64 = told(&said, "x-request-timeout-ms").parse().unwrap();
        assert!((1..=5000 - spent).contains(&left), "{path}: {left} ms are left of 5000");
        assert_eq!(told(&said, "x-request-attempt"), "", "{path}: its first try");
        let line = weft.wait_line(&format!("\"path\":\"{path}\""));
        assert!(line.contains("\"service\":\"spare\""), "{line}");
        assert!(line.contains(&format!("\"attempts\":{attempts}")), "{line}");
    }
    // One deadline spans both: none is left for the second.
    let late = weft.get("/two", "x-request-timeout-ms: 600\r\n");
    assert_eq!(late.status(), 504);
    assert_eq!(spare.seen().len(), 2, "the spare is not asked when there is no time for it");
}

#[test]
fn a_call_of_grpc_has_what_is_left_with_a_fallback_too() {
    // The first is no service at all: its connections stay silent.
    let slow = Upstream::raw(|mut conn| {
        conn.rest();
    });
    let spare = Service::new(grpc::serve);
    let weft = node(
        &format!(
            "  slow: {{ endpoints: '{}', protocol: http2, ejection: off }}
  spare: {{ endpoints: '{}', protocol: http2 }}",
            slow.address(),
            spare.address()
        ),
        "  - { name: all, to: slow, retry: off, timeout: { request: 20s, per_try: 400ms },
      fallback: { to: spare } }",
    );
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        // Without a body it can go elsewhere.
        let request = grpc::call("/One/Unary").header("grpc-timeout", "5S").body(vec![]).unwrap();
        let reply = client.ask(request).await.unwrap();
        let left = reply.trailer("x-timeout");
        let span = weft_wire::grpc::parse_timeout(left.as_bytes()).unwrap_or_default();
        let range = Duration::from_millis(1)..=Duration::from_millis(4600);
        assert!(range.contains(&span), "{left:?} is left of 5 s: {reply:?}");
    });
}

#[test]
fn a_fallback_is_told_nothing_that_was_for_the_first_service() {
    let bad = Upstream::answering(|_| status(503));
    let spare = telling(&["host", "x-request-attempt", "via", "x-forwarded-for", "x-mark", "mark"]);
    let weft = node(
        &format!(
            "  bad: {{ endpoints: '{}', ejection: off }}\n  spare: {{ endpoints: '{}' }}",
            bad.address(),
            spare.address()
        ),
        "  - { name: all, to: bad, fallback: { to: spare, statuses: [5xx] },
      retry: { retries: 1, backoff: { base: 1ms } },
      headers: { request: { remove: [mark], add: { x-mark: one } } } }",
    );
    let said = weft.get("/", "x-request-attempt: 7\r\nmark: gone\r\n").text();
    let firsts = bad.seen();
    assert_eq!(firsts.len(), 2);
    assert_eq!(firsts[1].get("x-request-attempt"), Some("2"));
    assert_eq!(told(&said, "x-request-attempt"), "", "it is its first try");
    assert_eq!(told(&said, "host"), "test");
    assert_eq!(told(&said, "via"), "1.1 weft", "said once");
    assert!(!told(&said, "x-forwarded-for").contains(','), "{said}");
    assert_eq!((told(&said, "x-mark"), told(&said, "mark")), ("one", ""));
    let line = weft.wait_line("\"path\":\"/\"");
    assert!(line.contains("\"attempts\":3"), "{line}");
    // Who came without a host is sent on with that of each service.
    let mut conn = weft.connect("web");
    let said = conn.ask("GET /old HTTP/1.0\r\n\r\n").text();
    assert_eq!(told(&said, "host"), spare.address().to_string());
}

#[test]
fn each_try_is_told_its_own_endpoint_and_time() {
    let slow = silent();
    let fast = telling(&["host", "x-request-timeout-ms", "x-request-attempt"]);
    let weft = node(
        &format!(
            "  it: {{ endpoints: ['{}', '{}'], balancer: round_robin, ejection: off }}",
            slow.address(),
            fast.address()
        ),
        "  - { name: hedged, match: /hedged, to: it, retry: off, timeout: 10s,
      hedge: { delay: 300ms, budget: 100% }, rewrite: { host: endpoint } }
  - { name: again, match: /again, to: it, timeout: { request: 10s, per_try: 300ms },
      retry: { retries: 1, on: [try-timeout], backoff: { base: 1ms } } }",
    );
    // Whichever endpoint is the first: half of the requests meet the silent one.
    let mut late = 0;
    for _ in 0..4 {
        let said = weft.get("/hedged", "x-request-timeout-ms: 5000\r\n").text();
        assert_eq!(told(&said, "host"), fast.address().to_string());
        assert_eq!(told(&said, "x-request-attempt"), "");
        let left: u64 = told(&said, "x-request-timeout-ms").parse().unwrap();
        late += usize::from(left <= 4700);
    }
    assert!(late > 0, "a hedge is told what is left when it is sent");
    let mut again = 0;
    for _ in 0..4 {
        let mut conn = weft.connect("web");
        let said = conn.ask("GET /again HTTP/1.0\r\nx-request-timeout-ms: 5000\r\n\r\n").text();
        assert_eq!(told(&said, "host"), fast.address().to_string());
        let left: u64 = told(&said, "x-request-timeout-ms").parse().unwrap();
        if told(&said, "x-request-attempt") == "2" {
            again += 1;
            assert!(left <= 4700, "{left}");
        }
    }
    assert!(again > 0, "some were tried again");
}

#[test]
fn a_copy_carries_neither_a_deadline_nor_a_try() {
    let bad = Upstream::answering(|_| status(503));
    let copies = Upstream::saying("copied");
    let weft = node(
        &format!(
            "  bad: {{ endpoints: '{}', ejection: off }}\n  copies: {{ endpoints: '{}' }}",
            bad.address(),
            copies.address()
        ),
        "  - { name: all, to: bad, mirror: { to: copies },
      retry: { retries: 1, backoff: { base: 1ms } }, fallback: { to: bad, statuses: [5xx] } }",
    );
    let fields = "x-request-timeout-ms: 5000\r\nx-request-attempt: 7\r\n";
    assert_eq!(weft.get("/", fields).status(), 503);
    let seen = copies.wait_seen(1);
    assert_eq!(seen.len(), 1, "one copy, whoever is asked after it");
    assert_eq!(
        (seen[0].get("x-request-timeout-ms"), seen[0].get("x-request-attempt")),
        (None, None)
    );
    assert_eq!(seen[0].get("host"), Some("test-shadow"));
}

#[test]
fn an_operation_is_not_bound_by_the_deadline_of_who_was_told_to_come_back() {
    let work = telling(&["x-request-timeout-ms", "grpc-timeout", "x-request-attempt"]);
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
ledger: {{ path: ledger }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ work: {{ endpoints: '{}' }} }}
routes: [{{ name: work, to: work, respond_async: on, timeout: 9s }}]
",
            work.address()
        ),
    );
    let asked = "POST / HTTP/1.1\r\nhost: t\r\nprefer: respond-async\r\nx-request-timeout-ms: 1\r\n\
        grpc-timeout: 1m\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(weft.ask(asked).status(), 202);
    let seen = work.wait_seen(1);
    let left: u64 = seen[0].get("x-request-timeout-ms").unwrap().parse().unwrap();
    let least = u64::try_from(Duration::from_secs(5).as_millis()).unwrap();
    assert!(left > least, "{left} ms are left of the route's own 9 s");
    assert_eq!(seen[0].get("grpc-timeout"), None);
}

//! Costs of requests that are worked out, and those that are only known when the response has ended.

use std::path::Path;

use serde_json::Value;
use weft_testkit::{
    Conn, HttpMessage, Upstream, Weft,
    http2::{self, Client, request},
    until,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(service: &Upstream, limits: &str) -> String {
    format!(
        "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ s: {{ endpoints: '{}' }} }}
routes:
  - {{ name: limited, match: '/limited/*', to: s, rate_limits: {limits} }}
",
        service.address()
    )
}

/// A service that says in its response what the request has asked it to: a status, and tokens that were used.
fn model() -> Upstream {
    Upstream::answering(|request| {
        let status = request.get("x-status").unwrap_or("200");
        let tokens = request.get("x-use").map_or(String::new(), |of| format!("x-tokens: {of}\r\n"));
        format!("HTTP/1.1 {status} Said\r\n{tokens}content-length: 2\r\n\r\nok")
    })
}

/// Asks over one connection, on which a request has been settled before the next is read.
fn ask(conn: &mut Conn, method: &str, path: &str, fields: &str) -> HttpMessage {
    conn.ask(format!("{method} {path} HTTP/1.1\r\nhost: t\r\n{fields}content-length: 0\r\n\r\n"))
}

fn get(conn: &mut Conn, fields: &str) -> HttpMessage {
    ask(conn, "GET", "/limited/a", fields)
}

fn left(answer: &HttpMessage) -> &str {
    let said = answer.get("ratelimit").unwrap();
    said.split(';').find_map(|part| part.strip_prefix("r=")).unwrap()
}

#[test]
fn a_request_costs_what_an_expression_makes_of_it() {
    let service = Upstream::saying("ok");
    let cost = "request.method == 'POST' ? 5 : request.path.startsWith('/limited/free') ? 0 : 1";
    let limits = format!("{{ rate: 10/d, cost: \"{cost}\" }}");
    let node = Weft::start(BIN, &config(&service, &limits));
    let mut conn = node.connect("web");
    for (method, path, status, rest) in [
        ("POST", "/limited/a", 200, "5"),
        ("GET", "/limited/a?b=c", 200, "4"),
        ("POST", "/limited/a", 429, "4"),
        ("GET", "/limited/free/a", 200, "4"),
        ("GET", "/limited/a", 200, "3"),
    ] {
        let answer = ask(&mut conn, method, path, "");
        assert_eq!((answer.status(), left(&answer)), (status, rest), "{method} {path}");
    }
}

#[test]
fn a_request_whose_cost_nobody_can_tell_is_refused_and_shows_no_value() {
    let service = Upstream::saying("ok");
    let cost = "cost: \"has(request.headers.n) ? int(request.headers.n) : 1\"";
    let limits = format!("[{{ name: all, rate: 9/d }}, {{ name: n, rate: 100/d, {cost} }}]");
    let node = Weft::start(BIN, &config(&service, &limits));
    let mut conn = node.connect("web");
    let answer = get(&mut conn, "n: 30\r\n");
    assert_eq!(answer.status(), 200);
    let said = answer.get("ratelimit").unwrap();
    assert!(said.contains("\"all\";r=8") && said.contains("\"n\";r=70"), "{said}");
    for fields in ["n: secret\r\n", "n: -1\r\n", "n: 2\r\nn: 3\r\n", "n: 9999999999999\r\n"] {
        let refused = get(&mut conn, fields);
        assert_eq!((refused.status(), refused.get("retry-after")), (429, None), "{fields}");
        assert!(refused.text().contains("cannot tell what the request costs"), "{fields}");
        assert!(!refused.text().contains("secret"), "{}", refused.text());
    }
    // More than is ever granted is told as that.
    let refused = get(&mut conn, "n: 101\r\n");
    assert_eq!((refused.status(), refused.get("retry-after")), (429, None));
    // What was refused cost nothing, also with the limit before.
    let said = get(&mut conn, "").get("ratelimit").unwrap().to_owned();
    assert!(said.contains("\"all\";r=7") && said.contains("\"n\";r=69"), "{said}");
    node.wait_metric("weft_route_fact_requests_total", &["rate_limited", "n"], 5.0);
    assert_eq!(service.seen().len(), 2);
}

#[test]
fn tokens_that_a_response_tells_of_are_charged_and_a_debt_is_waited_for() {
    let service = model();
    let limits = "{ rate: 1000/d, by: [{ header: x-tenant }], charge: \"int(response.headers['x-tokens'])\" }";
    let node = Weft::start(BIN, &config(&service, limits));
    let mut conn = node.connect("web");
    let a = |tokens: u32| format!("x-tenant: a\r\nx-use: {tokens}\r\n");
    for (tokens, rest) in [(600, "999"), (0, "399"), (700, "399")] {
        let answer = get(&mut conn, &a(tokens));
        assert_eq!((answer.status(), left(&answer)), (200, rest), "{tokens}");
    }
    // It had 400 left and used 700, which were under way: the debt of 300 is 7.2 hours.
    let refused = get(&mut conn, &a(1));
    assert_eq!((refused.status(), left(&refused)), (429, "0"));
    let wait: u64 = refused.get("retry-after").unwrap().parse().unwrap();
    assert!((25_900..=26_007).contains(&wait), "{wait}");
    assert_eq!(get(&mut conn, "x-tenant: b\r\nx-use: 5\r\n").status(), 200);
    // By HTTP/2 as well.
    let address = node.address("web");
    let said = http2::run(async move {
        let client = Client::to(address).await;
        let mut said = Vec::new();
        for tokens in ["990", "50", "1"] {
            let asked = request("GET", "/limited/a").header("x-tenant", "h2");
            let reply = client.ask(asked.header("x-use", tokens).body(Vec::new()).unwrap()).await;
            said.push(reply.unwrap().status);
        }
        said
    });
    assert_eq!(said, [200, 200, 429]);
}

#[test]
fn what_a_service_failed_at_is_given_back() {
    let service = model();
    let limits = "{ rate: 2/d, charge: \"response.status >= 500 ? 0 : 1\" }";
    let node = Weft::start(BIN, &config(&service, limits));
    let mut conn = node.connect("web");
    for _ in 0..5 {
        assert_eq!(get(&mut conn, "x-status: 500\r\n").status(), 500);
    }
    let said: Vec<u16> = (0..3).map(|_| get(&mut conn, "").status()).collect();
    assert_eq!(said, [200, 200, 429]);
}

#[test]
fn a_charge_that_nobody_can_tell_leaves_the_cost_and_is_counted() {
    let service = model();
    let limits =
        "{ rate: 100/d, cost: 10, charge: \"int(response.headers['x-tokens'])\", name: llm }";
    let node = Weft::start(BIN, &config(&service, limits));
    let mut conn = node.connect("web");
    for (fields, rest) in
        [("", "90"), ("x-use: none\r\n", "80"), ("x-use: -5\r\n", "70"), ("x-use: 5\r\n", "60")]
    {
        assert_eq!(left(&get(&mut conn, fields)), rest, "{fields}");
    }
    assert_eq!(left(&get(&mut conn, "")), "55");
    node.wait_metric("weft_route_fact_requests_total", &["uncharged", "llm"], 4.0);
    assert!(node.wait_line("\"uncharged\"").contains("llm"));
}

#[test]
fn a_client_that_leaves_is_charged_all_the_same() {
    let service = Upstream::raw(|mut conn| {
        while let Some(request) = conn.request() {
            let tokens = request.get("x-use").unwrap_or("0");
            // Half of what is announced: the rest never comes.
            let length = if tokens == "0" { 1 } else { 2 };
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nx-tokens: {tokens}\r\ncontent-length: {length}\r\n\r\nx"
            ));
        }
    });
    let limits = "{ rate: 100/d, charge: \"int(response.headers['x-tokens'])\" }";
    let node = Weft::start(BIN, &config(&service, limits));
    let mut leaver = node.connect("web");
    leaver.send("GET /limited/a HTTP/1.1\r\nhost: t\r\nx-use: 500\r\n\r\n");
    assert_eq!(leaver.head().unwrap().status(), 200);
    leaver.reset();
    until("what was begun is charged", || {
        (node.get("/limited/a", "").status() == 429).then_some(())
    });
}

#[test]
fn a_quota_of_tokens_is_charged_beyond_its_limit_and_keeps_that_over_a_crash() {
    let (service, folder) = (model(), tempfile::tempdir().unwrap());
    let yaml = |folder: &Path| {
        format!(
            "ledger: {{ path: '{}', wal_file: 1MiB }}
quotas:
  tokens: {{ limit: 1000/month, by: [{{ header: x-tenant }}], charge: \"int(response.headers['x-tokens'])\" }}
{}",
            folder.join("data").display(),
            config(&service, "off").replace("rate_limits: off", "quotas: tokens")
        )
    };
    let yaml = yaml(folder.path());
    let mut node = Weft::start(BIN, &yaml);
    let used = |node: &Weft, tenant: &str| {
        let path = format!("/v1/quotas/tokens/keys/{tenant}");
        let answer =
            node.connect("admin").ask(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        let key: Value = serde_json::from_str(&answer.text()).unwrap();
        key["used"].as_u64().unwrap()
    };
    // What is charged in the end is charged when the response has left.
    let comes_to = |node: &Weft, units: u64| {
        until("it is charged", || (used(node, "a") == units).then_some(()));
    };
    let mut conn = node.connect("web");
    for (tokens, rest) in [(3, "999"), (4, "996"), (593, "992"), (0, "399")] {
        let answer = get(&mut conn, &format!("x-tenant: a\r\nx-use: {tokens}\r\n"));
        assert_eq!((answer.status(), left(&answer)), (200, rest), "{tokens}");
    }
    comes_to(&node, 600);
    // The cost of a request that tells of none stays.
    assert_eq!(get(&mut conn, "x-tenant: a\r\n").status(), 200);
    comes_to(&node, 601);
    assert_eq!(get(&mut conn, "x-tenant: a\r\nx-use: 2000\r\n").status(), 200);
    comes_to(&node, 2_601);
    let refused = get(&mut conn, "x-tenant: a\r\nx-use: 1\r\n");
    assert_eq!(refused.status(), 429);
    // A request of another key is answered when its slice is on the disk, and what waited before it with it.
    assert_eq!(get(&mut conn, "x-tenant: b\r\nx-use: 1\r\n").status(), 200);
    node.kill();
    node.wait();
    let node = node.again(&yaml);
    assert!(used(&node, "a") >= 2_601, "{}", used(&node, "a"));
    let mut conn = node.connect("web");
    assert_eq!(get(&mut conn, "x-tenant: a\r\nx-use: 1\r\n").status(), 429);
    node.wait_metric("weft_route_fact_requests_total", &["quota_exceeded", "tokens"], 1.0);
}

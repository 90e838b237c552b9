//! Authorization by rules through the real binary: who may ask for what, over every protocol, in shadow, and while
//! rules change.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use weft_testkit::{
    HttpMessage, Upstream, Weft,
    http2::{self, Client},
    until,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

const SECRET: &str = "0123456789abcdef0123456789abcdef";

const RULES: &str = r#"
      - { name: no-deletes, when: "request.method == 'DELETE'", then: deny }
      - { name: staff, when: "'staff' in consumer.groups", then: allow }
      - { name: own, when: "request.captures.user == consumer.name", then: allow }
      - { name: inside, when: "cidr('10.0.0.0/8').containsIP(client.address)", then: allow }
      - { name: asked-so, when: "has(request.query.role) && request.query.role == ['guest']", then: allow }
      - { name: header, when: "request.headers['x-long'].matches('^y+$')", then: allow }
"#;

fn config(service: &Upstream, rules: &str, more: &str) -> String {
    format!(
        "
admin: {{ listen: '@admin' }}
telemetry: {{ access_log: {{ include: all, output: '@@/access.log' }} }}
listeners: {{ web: {{ address: '@web', trusted_proxies: 127.0.0.0/8 }} }}
services: {{ app: {{ endpoints: '{}' }} }}
issuers:
  id: {{ issuer: 'https://id.example', algorithms: HS256, audiences: orders, keys: {{ secret: {SECRET} }} }}
consumers:
  ada: {{ api_keys: key-of-ada-0123456789, groups: staff }}
  bob: {{ api_keys: key-of-bob-0123456789 }}
  'guest': {{}}
routes:
  - name: files
    match: '/files/{{user}}/{{*rest}}'
    authentication: {{ any: api_key, anonymous: guest }}
    authorization:
      rules: {rules}
{more}
    to: app
  - name: roles
    match: /roles/*
    authentication: {{ any: {{ jwt: {{ issuers: id }} }} }}
    authorization:
      - {{ name: sales, when: \"claims.department == 'sales'\", then: allow }}
    to: app
  - {{ name: free, match: /*, authorization: off, to: app }}
",
        service.address()
    )
}

fn token(claims: Value) -> String {
    let mut all = json!({"iss": "https://id.example", "aud": "orders", "exp": 4_102_444_800_u64});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    let part = |of: Value| URL_SAFE_NO_PAD.encode(of.to_string());
    let text = format!("{}.{}", part(json!({"alg": "HS256"})), part(all));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn ask(weft: &Weft, method: &str, target: &str, fields: &str) -> HttpMessage {
    weft.ask(format!("{method} {target} HTTP/1.1\r\nhost: t\r\n{fields}content-length: 0\r\n\r\n"))
}

const ADA: &str = "x-api-key: key-of-ada-0123456789\r\n";
const BOB: &str = "x-api-key: key-of-bob-0123456789\r\n";

#[test]
fn the_first_rule_that_is_true_decides() {
    let service = Upstream::saying("ok");
    let weft = Weft::start(BIN, &config(&service, RULES, ""));
    let long = format!("{BOB}x-long: {}\r\n", "y".repeat(10_240));
    for (method, target, fields, status) in [
        ("GET", "/files/x/1", ADA, 200),
        ("DELETE", "/files/x/1", ADA, 403),
        ("GET", "/files/bob/1", BOB, 200),
        ("GET", "/files/%62ob/1", BOB, 200),
        ("GET", "/files/x/../bob/1", BOB, 200),
        ("GET", "/files/bob/../x/1", BOB, 403),
        ("GET", "/files/bob%2F..%2Fx/1", BOB, 400),
        ("GET", "/files/Bob/1", BOB, 403),
        ("GET", "/files/x/1", "x-forwarded-for: 10.1.2.3\r\n", 200),
        ("GET", "/files/x/1", "x-forwarded-for: ::ffff:10.1.2.3\r\n", 200),
        ("GET", "/files/x/1", "x-forwarded-for: 11.1.2.3\r\n", 403),
        ("GET", "/files/x/1?role=guest", "", 200),
        // A rule does not look at the first of two where a service may read the last.
        ("GET", "/files/x/1?role=guest&role=admin", "", 403),
        ("GET", "/files/x/1", &long, 200),
        ("GET", "/free", "", 200),
    ] {
        let answer = ask(&weft, method, target, fields);
        assert_eq!(answer.status(), status, "{method} {target}: {}", answer.text());
    }
    let passed = service.seen().len();
    let refused = ask(&weft, "DELETE", "/files/x/1", ADA);
    assert_eq!(service.seen().len(), passed, "what is refused is not passed on");
    let problem: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(problem["type"], "urn:weft:problem:forbidden");
    assert!(!refused.text().contains("no-deletes"), "{}", refused.text());
    until("the log tells the rule", || {
        let log = std::fs::read_to_string(weft.folder().join("access.log")).unwrap();
        let line =
            log.lines().find(|line| line.contains("\"authorization_rule\":\"no-deletes\""))?;
        let all = ["\"authorization\":\"denied\"", "forbidden", "\"consumer\":\"ada\""];
        assert!(all.iter().all(|part| line.contains(part)), "{line}");
        Some(())
    });
    // What a rule reads is not there, and then nobody is let through by one behind it.
    assert_eq!(ask(&weft, "GET", "/files/x/1", "").status(), 403);
    weft.wait_metric("weft_route_fact_requests_total", &["authorization", "failed"], 1.0);
    weft.wait_metric("weft_route_fact_requests_total", &["authorization_rule", "no-deletes"], 2.0);
    weft.wait_metric("weft_route_fact_requests_total", &["authorization_rule", "staff"], 1.0);
}

#[test]
fn claims_decide_and_missing_ones_refuse() {
    let service = Upstream::saying("ok");
    let weft = Weft::start(BIN, &config(&service, RULES, ""));
    for (claims, status) in [
        (json!({"department": "sales"}), 200),
        (json!({"department": "other"}), 403),
        (json!({"department": ["sales"]}), 403),
        (json!({}), 403),
    ] {
        let fields = format!("authorization: Bearer {}\r\n", token(claims.clone()));
        assert_eq!(ask(&weft, "GET", "/roles/1", &fields).status(), status, "{claims}");
    }
    assert_eq!(ask(&weft, "GET", "/roles/1", "").status(), 401);
}

#[test]
fn it_decides_alike_over_http2_and_for_calls_of_grpc() {
    let service = Upstream::saying("ok");
    let weft = Weft::start(BIN, &config(&service, RULES, ""));
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let ask = |method: &str, key: &str, kind: &str| {
            let request = http2::request(method, "/files/x/1").header("content-type", kind);
            let request = request.header("te", "trailers").header("x-api-key", key);
            client.ask(request.body(Vec::new()).unwrap())
        };
        let (ada, bob) = ("key-of-ada-0123456789", "key-of-bob-0123456789");
        assert_eq!(ask("GET", ada, "text/plain").await.unwrap().status, 200);
        assert_eq!(ask("GET", bob, "text/plain").await.unwrap().status, 403);
        let call = ask("POST", bob, "application/grpc").await.unwrap();
        // PERMISSION_DENIED.
        assert_eq!((call.status, call.get("grpc-status")), (200, "7"));
    });
}

#[test]
fn a_shadow_refuses_nothing_and_tells() {
    let service = Upstream::saying("ok");
    let more = "      shadow: true\n      on_failure: skip\n";
    let weft = Weft::start(BIN, &config(&service, RULES, more));
    for (method, fields) in [("DELETE", ADA), ("GET", BOB), ("GET", ADA)] {
        assert_eq!(ask(&weft, method, "/files/x/1", fields).status(), 200);
    }
    let counted = |value: &str, count| {
        weft.wait_metric("weft_route_fact_requests_total", &["authorization", value], count);
    };
    counted("denied (shadow)", 2.0);
    counted("allowed", 1.0);
    weft.wait_metric("weft_route_fact_requests_total", &["authorization_rule", "default"], 1.0);
}

#[test]
fn rules_change_under_load_and_wrong_ones_never_come_into_force() {
    let service = Upstream::saying("ok");
    let rules = |then: &str| {
        format!(
            "[{{ name: gets, when: \"request.method == 'GET'\", then: {then}, examples: [{{ expect: {then} }}, \
             {{ method: PUT, expect: deny }}] }}]"
        )
    };
    let weft = Weft::start(BIN, &config(&service, &rules("allow"), ""));
    let (done, [allowed, denied]) = (AtomicBool::new(false), [(); 2].map(|()| AtomicU32::new(0)));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                match ask(&weft, "GET", "/files/x/1", ADA).status() {
                    200 => &allowed,
                    403 => &denied,
                    other => panic!("{other}"),
                }
                .fetch_add(1, Ordering::Relaxed);
                // Whatever is in force, this is refused.
                assert_eq!(ask(&weft, "PUT", "/files/x/1", ADA).status(), 403);
            }
        });
        for round in 0..10 {
            let then = if round % 2 == 0 { "deny" } else { "allow" };
            let of = if round % 2 == 0 { &denied } else { &allowed };
            let before = of.load(Ordering::Relaxed);
            weft.reload(&config(&service, &rules(then), "")).unwrap();
            until("it is in force", || (of.load(Ordering::Relaxed) > before).then_some(()));
        }
        let wrong = rules("allow").replace("{ expect: allow }", "{ method: POST, expect: allow }");
        let why = weft.reload(&config(&service, &wrong, "")).unwrap_err();
        done.store(true, Ordering::Relaxed);
        assert!(why.contains("this example is denied, and `allow` is expected"), "{why}");
    });
    assert_eq!(ask(&weft, "GET", "/files/x/1", ADA).status(), 200);
}

//! Idempotency of routes, as clients meet it: one of many runs, its answer is given again, and nobody is given
//! that of somebody else.

mod ends;
mod races;
mod sent;

use std::sync::{
    Arc, Condvar, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use weft_testkit::{HttpMessage, Upstream, Weft, until, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
const FACT: &str = "weft_route_fact_requests_total";

fn config(service: &Upstream, idempotency: &str) -> String {
    format!(
        "admin: {{ listen: '@admin' }}
ledger: {{ path: '@@/data', wal_file: 16MiB }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ s: {{ endpoints: '{}' }} }}
consumers: {{ ada: {{ api_keys: [the-key-of-ada-12345] }}, bob: {{ api_keys: [the-key-of-bob-12345] }} }}
policies:
  once: {{ idempotency: {idempotency} }}
routes:
  - name: pay
    match: '/pay/*'
    to: s
    policies: once
    headers: {{ response: {{ add: {{ x-route: pay }} }} }}
  - {{ name: keyed, match: '/keyed/*', to: s, policies: once, authentication: api_key }}
  - {{ name: free, match: '/*', to: s }}
",
        service.address()
    )
}

/// A request with a key and a body.
fn post(path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: test\r\n{fields}content-length: {length}\r\n\r\n{body}")
}

fn keyed(path: &str, key: &str, body: &str) -> String {
    post(path, &format!("idempotency-key: {key}\r\n"), body)
}

/// The reason word of a problem.
fn reason(answer: &HttpMessage) -> String {
    let text = answer.text();
    let from = text.find("urn:weft:problem:").map_or(0, |at| at + 17);
    text[from..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect()
}

/// A service that counts what it is asked, and answers each with its number.
fn counting() -> (Upstream, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let service = Upstream::answering(move |_| {
        let number = counter.fetch_add(1, Ordering::AcqRel) + 1;
        let body = format!("charge {number}\n");
        format!(
            "HTTP/1.1 201 Created\r\nlocation: /charges/{number}\r\nset-cookie: s={number}\r\n\
             content-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    });
    (service, count)
}

/// A gate that a service waits at.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }
}

/// A service that answers once its gate is open, and how many requests have come to it.
fn gated() -> (Upstream, Gate, Arc<AtomicUsize>) {
    let (gate, count) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (waits, counter) = (gate.clone(), count.clone());
    let service = Upstream::answering(move |_| {
        counter.fetch_add(1, Ordering::AcqRel);
        waits.wait();
        ok("done")
    });
    (service, gate, count)
}

fn wait_count(count: &AtomicUsize, at_least: usize) {
    until("the service is asked", || (count.load(Ordering::Acquire) >= at_least).then_some(()));
}

#[test]
fn the_same_request_again_is_given_the_same_answer() {
    let (service, count) = counting();
    let node = Weft::start(BIN, &config(&service, "on"));
    let first = node.ask(keyed("/pay/a?x=1", "\"k-1\"", "{\"amount\":5}"));
    assert_eq!((first.status(), first.get("idempotent-replayed")), (201, None));
    assert_eq!(first.get("set-cookie"), Some("s=1"), "the first has all of it");
    for key in ["\"k-1\"", "k-1"] {
        let again = node.ask(keyed("/pay/a?x=1", key, "{\"amount\":5}"));
        assert_eq!((again.status(), again.text()), (201, first.text()));
        assert_eq!(again.get("idempotent-replayed"), Some("true"));
        assert_eq!(again.get("location"), Some("/charges/1"));
        assert_eq!(again.get("content-type"), Some("text/plain"));
        assert_eq!(again.get("set-cookie"), None, "a cookie is for whoever was answered first");
        assert_eq!(again.all("x-route"), ["pay"], "the policies of responses see it once");
    }
    assert_eq!(count.load(Ordering::Acquire), 1);
    // Without a key, by another method, or on another route nothing is kept.
    for (request, status) in [
        (post("/pay/a", "", "x"), 201),
        (post("/pay/a", "", "x"), 201),
        (keyed("/free", "k-1", "{\"amount\":5}"), 201),
        ("GET /pay/a HTTP/1.1\r\nhost: test\r\nidempotency-key: k-1\r\n\r\n".to_owned(), 201),
    ] {
        let answer = node.ask(request);
        assert_eq!((answer.status(), answer.get("idempotent-replayed")), (status, None));
    }
    assert_eq!(count.load(Ordering::Acquire), 5);
    let seen = service.seen();
    assert_eq!(seen[0].get("idempotency-key"), Some("\"k-1\""), "the service is told the key");
    node.wait_metric(FACT, &["idempotency", "first", "pay"], 1.0);
    node.wait_metric(FACT, &["idempotency", "replayed", "pay"], 2.0);
    node.wait_metric("weft_idempotency_keys", &[], 1.0);
    assert!(node.metric("weft_idempotency_bytes", &[]) > 0.0);
}

#[test]
fn another_request_with_the_key_is_refused() {
    let (service, count) = counting();
    let node = Weft::start(BIN, &config(&service, "on"));
    assert_eq!(node.ask(keyed("/pay/a", "k", "5")).status(), 201);
    for request in [
        keyed("/pay/a", "k", "6"),
        keyed("/pay/b", "k", "5"),
        keyed("/pay/a?b", "k", "5"),
        keyed("/pay/a", "k", "5").replace("host: test", "host: other"),
        keyed("/pay/a", "k", "5").replace("POST", "PATCH"),
    ] {
        let answer = node.ask(&request);
        assert_eq!(
            (answer.status(), &*reason(&answer)),
            (422, "idempotency_key_reused"),
            "{request}"
        );
        assert_eq!(answer.get("content-type"), Some("application/problem+json"));
    }
    assert_eq!(count.load(Ordering::Acquire), 1);
}

#[test]
fn nobody_is_given_the_answer_of_somebody_else() {
    let (service, count) = counting();
    let node = Weft::start(BIN, &config(&service, "on"));
    let of = |who: &str| {
        let fields = format!("x-api-key: the-key-of-{who}-12345\r\nidempotency-key: k\r\n");
        node.ask(post("/keyed/a", &fields, "5"))
    };
    assert_eq!((of("ada").text(), of("bob").text()), ("charge 1\n".into(), "charge 2\n".into()));
    let (ada, bob) = (of("ada"), of("bob"));
    assert_eq!((ada.text(), bob.text()), ("charge 1\n".into(), "charge 2\n".into()));
    assert!([ada, bob].iter().all(|one| one.get("idempotent-replayed") == Some("true")));
    assert_eq!(of("eve").status(), 401);
    assert_eq!(node.ask(keyed("/pay/a", "k", "5")).text(), "charge 3\n");
    assert_eq!(count.load(Ordering::Acquire), 3);
}

#[test]
fn what_is_no_key_is_refused_with_a_reason() {
    let (service, count) = counting();
    let node = Weft::start(BIN, &config(&service, "{ required: true, body_max: 1KiB }"));
    let missing = node.ask(post("/pay/a", "", "5"));
    assert_eq!((missing.status(), &*reason(&missing)), (400, "idempotency_key_missing"));
    let long = "k".repeat(256);
    let huge = format!("\"{}\"", "k".repeat(10_240));
    for key in
        ["", "\"\"", "\"open", "a b", "a,b", "\u{e4}", &long, &huge, "a\r\nidempotency-key: a"]
    {
        let answer = node.ask(keyed("/pay/a", key, "5"));
        assert_eq!((answer.status(), &*reason(&answer)), (400, "malformed_request"), "{key}");
        assert!(key.len() < 3 || !answer.text().contains(key));
    }
    assert_eq!(node.ask(keyed("/pay/a", "\"a\0b\"", "5")).status(), 400);
    let large = node.ask(keyed("/pay/a", "k", &"x".repeat(2048)));
    assert_eq!((large.status(), &*reason(&large)), (413, "body_too_large"));
    assert_eq!(count.load(Ordering::Acquire), 0);
    // Other methods need none.
    assert_eq!(node.get("/pay/a", "").status(), 201);
    node.wait_metric(FACT, &["idempotency", "missing"], 1.0);
}

#[test]
fn only_what_can_join_connections_passes_for_an_upgrade() {
    let (service, count) = counting();
    let node = Weft::start(BIN, &config(&service, "{ required: true, methods: [GET, POST] }"));
    for protocol in ["foo", "websocket"] {
        let fields = format!("connection: upgrade\r\nupgrade: {protocol}\r\n");
        let missing = node.ask(post("/pay/a", &fields, "5"));
        assert_eq!((missing.status(), &*reason(&missing)), (400, "idempotency_key_missing"));
        let with = |key: &str| {
            let fields = format!("{fields}idempotency-key: {key}\r\n");
            node.ask(post("/pay/a", &fields, "5")).get("idempotent-replayed").is_some()
        };
        assert_eq!([with(protocol), with(protocol)], [false, true], "it is carried out once");
        let get = format!("GET /pay/a HTTP/1.1\r\nhost: test\r\n{fields}");
        let missing = node.ask(format!("{get}\r\n"));
        assert_eq!((missing.status(), &*reason(&missing)), (400, "idempotency_key_missing"));
        let passed = node.ask(format!("{get}idempotency-key: {protocol}\r\n\r\n"));
        assert_eq!((passed.status(), passed.get("idempotent-replayed")), (201, None));
    }
    assert_eq!(count.load(Ordering::Acquire), 4);
}

#[test]
fn a_body_has_the_time_of_its_request() {
    let (service, count) = counting();
    let yaml = config(&service, "on").replacen(
        "policies: once\n",
        "policies: once\n    timeout: { request: 1s }\n",
        1,
    );
    let node = Weft::start(BIN, &yaml);
    let mut slow = node.connect("web");
    slow.send(
        "POST /pay/a HTTP/1.1\r\nhost: test\r\nidempotency-key: k\r\ncontent-length: 9\r\n\r\nhal",
    );
    let refused = slow.response();
    assert_eq!((refused.status(), &*reason(&refused)), (408, "body_timeout"));
    assert_eq!(count.load(Ordering::Acquire), 0);
    assert_eq!(node.ask(keyed("/pay/a", "k", "5")).status(), 201, "the key is free");
}

#[test]
fn an_operator_sees_keys_and_frees_them() {
    let (service, gate, count) = gated();
    let node = Weft::start(BIN, &config(&service, "on"));
    let mut first = node.connect("web");
    first.send(keyed("/pay/a", "\"a b\"", "secret-of-the-request"));
    wait_count(&count, 1);
    let admin = |method: &str, path: &str| {
        node.connect("admin").ask(format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
    };
    let path = "/v1/idempotency-keys/pay:-:a%20b";
    let shown = admin("GET", path).text();
    assert!(shown.contains("\"state\":\"running\""), "{shown}");
    assert_eq!(admin("DELETE", path).status(), 409);
    gate.open();
    assert_eq!(first.response().status(), 200);
    let shown = admin("GET", path).text();
    for said in ["\"state\":\"kept\"", "\"status\":200", "\"consumer\":\"-\"", "\"key\":\"a b\""] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    assert_eq!(node.ask(keyed("/pay/a", "k2", "")).status(), 200);
    let list = admin("GET", "/v1/idempotency-keys?max=1").text();
    assert!(list.contains("\"next\":\"pay:-:a b\"") && !list.contains("k2"), "{list}");
    let rest = admin("GET", "/v1/idempotency-keys?after=pay:-:a%20b").text();
    assert!(rest.contains("k2") && !rest.contains("next"), "{rest}");
    assert_eq!(admin("GET", "/v1/idempotency-keys?after=x").status(), 404);

    let cli = |arguments: &[&str]| {
        let mut command = std::process::Command::new(BIN);
        let admin = format!("http://{}", node.address("admin"));
        command.arg("idempotency-key").args(arguments).args(["--admin", &admin]);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
    };
    let (code, told) = cli(&["list"]);
    assert!(code == Some(0) && told.contains("pay:-:k2") && told.contains("kept"), "{told}");
    let (code, told) = cli(&["delete", "pay:-:a b"]);
    assert_eq!((code, &*told), (Some(0), "deleted idempotency-key pay:-:a b\n"));
    let (code, told) = cli(&["show", "pay:-:a b"]);
    assert!(code == Some(1) && told.contains("kept no longer"), "{told}");
    assert_eq!(node.ask(keyed("/pay/a", "\"a b\"", "another")).get("idempotent-replayed"), None);
    assert_eq!(count.load(Ordering::Acquire), 3);
    assert!(!node.output().contains("secret-of-the-request"));
}

#[test]
fn keys_and_bytes_of_a_consumer_are_bounded() {
    let (service, count) = counting();
    let node = Weft::start(BIN, &config(&service, "{ keys_max: 2 }"));
    for key in ["a", "b"] {
        assert_eq!(node.ask(keyed("/pay/a", key, "")).status(), 201);
    }
    let full = node.ask(keyed("/pay/a", "c", ""));
    assert_eq!((full.status(), &*reason(&full)), (503, "idempotency_full"));
    assert_eq!(node.ask(keyed("/pay/a", "a", "")).get("idempotent-replayed"), Some("true"));
    let fields = "x-api-key: the-key-of-ada-12345\r\nidempotency-key: c\r\n";
    assert_eq!(node.ask(post("/keyed/a", fields, "")).status(), 201, "others have their own");
    assert_eq!(count.load(Ordering::Acquire), 3);
    // An answer that has no room is passed on, and told as what it is.
    let other = Weft::start(BIN, &config(&service, "{ bytes_max: 300B }"));
    assert_eq!(other.ask(keyed("/pay/a", "a", "")).status(), 201);
    let again = other.ask(keyed("/pay/a", "a", ""));
    assert_eq!((again.status(), &*reason(&again)), (409, "idempotency_not_kept"));
}

#[test]
fn a_reload_loses_nothing() {
    let (service, gate, count) = gated();
    let yaml = config(&service, "on");
    let node = Weft::start(BIN, &yaml);
    let mut first = node.connect("web");
    first.send(keyed("/pay/a", "k", "5"));
    wait_count(&count, 1);
    node.reload(&yaml.replace("idempotency: on", "idempotency: { keep: 1h }")).unwrap();
    assert_eq!(reason(&node.ask(keyed("/pay/a", "k", "5"))), "idempotency_running");
    gate.open();
    assert_eq!(first.response().text(), "done");
    let again = node.ask(keyed("/pay/a", "k", "5"));
    assert_eq!((again.get("idempotent-replayed"), &*again.text()), (Some("true"), "done"));
    assert_eq!(count.load(Ordering::Acquire), 1);
}

#[test]
fn a_keyed_request_costs_one_group_commit() {
    const REQUESTS: usize = 20;
    let (service, count) = counting();
    let node = Weft::start(BIN, &config(&service, "on"));
    let syncs = || node.metric("weft_ledger_syncs_total", &[]);
    let before = syncs();
    for number in 0..REQUESTS {
        assert_eq!(node.ask(post("/pay/1", "", &number.to_string())).status(), 201);
    }
    assert_eq!(syncs(), before, "one without a key costs none");
    for number in 0..REQUESTS {
        assert_eq!(node.ask(keyed("/pay/1", &format!("k-{number}"), "x")).status(), 201);
    }
    let cost = syncs() - before;
    assert!((1.0..=REQUESTS as f64).contains(&cost), "{cost} syncs");
    assert_eq!(count.load(Ordering::Relaxed), 2 * REQUESTS);
}

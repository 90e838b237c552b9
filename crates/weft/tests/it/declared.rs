//! What a configuration declares of messages is put in force as a whole, or not at all.

use std::{fs, net::TcpListener, process::Command};

use serde_json::{Value, json};
use weft_testkit::{HttpMessage, Upstream, Weft, until, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// A node whose every declaration can be told from another.
const CONFIG: &str = "admin: { listen: '@admin' }
telemetry: { access_log: errors }
ledger: { path: '@@/data' }
listeners:
  web: { address: '@web' }
  rabbit: { address: '@rabbit', protocol: amqp }
topics:
  a: { retention: { age: 30d } }
  z: { retention: { age: 30d } }
queues:
  b: { lease: 10s }
  y: { lease: 10s }
subscriptions:
  s: { topic: a, lease: 10s }
  t: { topic: a, lease: 10s }
schedules:
  j: { cron: '0 0 1 1 *', to: { queue: y }, data: old }
routes:
  - { name: messages, match: /v1/*, messages: / }
";

/// As [`CONFIG`], with everything changed that can be changed, and a topic and a queue more.
fn changed() -> String {
    CONFIG
        .replace("age: 30d", "age: 1s")
        .replace("lease: 10s", "lease: 20s")
        .replace("data: old", "data: new")
        .replace("topics:\n", "topics:\n  more: {}\n")
        .replace("queues:\n", "queues:\n  others: {}\n")
}

fn ask(weft: &Weft, method: &str, path: &str, body: &Value) -> HttpMessage {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    weft.connect("admin").ask(format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn get(weft: &Weft, path: &str) -> Value {
    let answer = ask(weft, "GET", path, &Value::Null);
    assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
    serde_json::from_str(&answer.text()).unwrap()
}

/// All that is declared, and how many messages there are.
fn state(weft: &Weft) -> Value {
    let of = |noun: &str, fields: &[&str]| -> Value {
        let listed = get(weft, &format!("/v1/{noun}"));
        let listed = listed[noun].as_array().unwrap_or_else(|| panic!("{listed}")).clone();
        let shown = |one: &Value| -> Value {
            fields.iter().map(|field| ((*field).to_owned(), one[field].clone())).collect()
        };
        listed.iter().map(shown).collect()
    };
    json!({
        "topics": of("topics", &["name", "options", "messages", "subscriptions"]),
        "queues": of("queues", &["name", "options", "ready"]),
        "subscriptions": of("subscriptions", &["name", "topic", "options", "lag_messages"]),
        "schedules": of("schedules", &["id", "cron", "to", "made", "event"]),
    })
}

fn publish(weft: &Weft) {
    for path in ["topics/a", "queues/b"] {
        let answer = ask(weft, "POST", &format!("/v1/{path}/messages"), &json!("kept"));
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
}

/// A configuration as a node has it, with its folder and its addresses.
fn placed(weft: &Weft, yaml: &str) -> String {
    let mut yaml = yaml.replace("@@", &weft.folder().display().to_string());
    for name in ["admin", "web", "rabbit"] {
        yaml = yaml.replace(&format!("'@{name}'"), &format!("'{}'", weft.address(name)));
    }
    yaml
}

#[test]
fn a_reload_that_the_broker_refuses_changes_nothing_and_tells_everything() {
    let weft = Weft::start(BIN, CONFIG);
    publish(&weft);
    let before = state(&weft);
    // What cannot be changed stands behind what could, and before it.
    let refused = changed()
        .replace("y: { lease: 20s }", "y: { lease: 20s, dedupe: 5m }")
        .replace("t: { topic: a, lease: 20s }", "t: { topic: a, lease: 20s, order: key }");
    let why = weft.reload(&refused).expect_err("what was declared cannot become that");
    for part in ["queue y", "dedupe", "subscription t", "order"] {
        assert!(why.contains(part), "{part} is missing in: {why}");
    }
    assert_eq!(state(&weft), before);
    // Nor is anything left behind that a new start would find.
    weft.kill();
    let weft = weft.again(CONFIG);
    assert_eq!(state(&weft), before);
    // What can be done is done, as one.
    weft.reload(&changed()).unwrap();
    let after = state(&weft).to_string();
    assert!(after.contains("more") && after.contains("others"), "{after}");
    assert!(!after.contains("10s") && !after.contains("\"old\""), "{after}");
}

#[test]
fn a_reload_that_something_else_refuses_declares_nothing() {
    let weft = Weft::start(BIN, CONFIG);
    publish(&weft);
    let before = state(&weft);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = format!("more: {{ address: '{}' }}\n", taken.local_addr().unwrap());
    weft.write("bad.pem", "nothing");
    let tls =
        "more: { address: '@more', tls: { certificates: [{ cert: bad.pem, key: bad.pem }] } }\n";
    for listener in [socket.as_str(), tls] {
        let refused = changed().replace("listeners:\n", &format!("listeners:\n  {listener}"));
        weft.reload(&refused).expect_err("the listener cannot be opened");
        assert_eq!(state(&weft), before);
    }
}

#[test]
fn what_was_made_otherwise_than_a_reload_declares_it_is_told() {
    let weft = Weft::start(BIN, CONFIG);
    let made = ask(&weft, "PUT", "/v1/queues/others", &json!({ "order": "key" }));
    assert_eq!(made.status(), 201, "{}", made.text());
    let before = state(&weft);
    let why = weft.reload(&changed()).expect_err("the queue has an order");
    assert!(why.contains("queue others"), "{why}");
    assert_eq!(state(&weft), before);
}

#[test]
fn a_start_that_fails_declares_nothing() {
    let mut weft = Weft::start(BIN, CONFIG);
    publish(&weft);
    let before = state(&weft);
    weft.terminate();
    assert!(weft.wait().success());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let file = weft.folder().join("weft.yaml");
    let web = weft.address("web").to_string();
    let admin = weft.address("admin").to_string();
    let cannot = [
        placed(&weft, &changed()).replace(&web, &taken.to_string()),
        placed(&weft, &changed()).replace(&admin, &taken.to_string()),
        placed(&weft, &changed()).replace("y: { lease: 20s }", "y: { lease: 20s, dedupe: 5m }"),
    ];
    for yaml in cannot {
        fs::write(&file, yaml).unwrap();
        let output = Command::new(BIN).args(["up", "--config"]).arg(&file).output().unwrap();
        assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let weft = weft.again(CONFIG);
    assert_eq!(state(&weft), before);
}

#[test]
fn a_successor_that_cannot_begin_leaves_the_former_what_it_has() {
    let weft = Weft::with(BIN, CONFIG, &["--handover", "@@/handover"]);
    let handover = weft.folder().join("handover");
    until("sockets are offered", || handover.exists().then_some(()));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("listeners:\n  more: {{ address: '{}' }}\n", taken.local_addr().unwrap());
    let cannot = changed().replace("listeners:\n", &more);
    let file = weft.write("successor.yaml", &placed(&weft, &cannot));
    let output = Command::new(BIN)
        .args(["up", "--config"])
        .arg(&file)
        .arg("--handover")
        .arg(&handover)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("listener more"), "{said}");
    publish(&weft);
    assert!(state(&weft).to_string().contains("10s"));
}

#[test]
fn a_subscription_is_pushed_as_before_after_a_reload_that_is_refused() {
    let service = Upstream::answering(|_| ok(""));
    let config = |path: &str| {
        let push = format!("push: {{ service: svc, path: {path} }}");
        let services = format!("services: {{ svc: {{ endpoints: '{}' }} }}\n", service.address());
        CONFIG.replace("s: { topic: a", &format!("s: {{ {push}, topic: a")) + &services
    };
    let weft = Weft::start(BIN, &config("/old"));
    let refused = config("/new").replace("y: { lease: 10s }", "y: { lease: 10s, dedupe: 5m }");
    weft.reload(&refused).expect_err("the queue remembers no ids");
    publish(&weft);
    let seen = until("the message is pushed", || service.seen().first().cloned());
    assert_eq!(seen.target(), "/old");
    // What is declared no more is pushed no more, also when nothing is declared any more.
    weft.reload(&config("/new")).unwrap();
    let bare = "admin: { listen: '@admin' }\nlisteners: { web: { address: '@web' } }\n";
    weft.reload(bare).unwrap();
    publish(&weft);
    let gone = ask(&weft, "DELETE", "/v1/subscriptions/t", &Value::Null);
    assert_eq!(gone.status(), 204, "{}", gone.text());
    assert_eq!(service.seen().len(), 1, "nobody is asked any more");
}

#[test]
fn a_node_without_messages_opens_its_store_with_the_first_reload_that_asks_for_one() {
    let service = Upstream::answering(|_| ok(""));
    let nothing = "admin: { listen: '@admin' }
listeners: { web: { address: '@web' }, rabbit: { address: '@rabbit' } }
";
    let first = format!(
        "admin: {{ listen: '@admin' }}
ledger: {{ path: '@@/data' }}
listeners: {{ web: {{ address: '@web' }}, rabbit: {{ address: '@rabbit', protocol: amqp }} }}
services: {{ svc: {{ endpoints: '{}' }} }}
topics: {{ a: {{}} }}
subscriptions: {{ s: {{ topic: a, push: {{ service: svc }} }}, t: {{ topic: a }} }}
routes: [ {{ name: placed, match: /placed, publish: a }} ]
",
        service.address()
    );
    let mut weft = Weft::start(BIN, nothing);
    let folder = weft.folder().join("data");
    let absent = ask(&weft, "GET", "/v1/topics", &Value::Null);
    assert_eq!(absent.status(), 404, "{}", absent.text());
    assert!(absent.text().contains("keeps no messages"), "{}", absent.text());

    // What is refused for something else has opened nothing.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = format!("'{}' }}", taken.local_addr().unwrap());
    let refused = first.replace("'@web' }", &elsewhere);
    weft.reload(&refused).unwrap_err();
    assert!(!folder.exists());

    weft.reload(&first).unwrap();
    assert!(get(&weft, "/v1/status")["config"]["restart"] == json!([]), "nothing waits");
    assert_eq!(get(&weft, "/v1/topics")["topics"][0]["name"], "a");
    assert!(get(&weft, "/v1/openapi.json")["paths"]["/v1/ledger"].is_object());
    let placed = weft.connect("web").ask(
        "POST /placed HTTP/1.1\r\nhost: t\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nkept",
    );
    assert_eq!(placed.status(), 200, "{}", placed.text());
    // It is pushed by a worker that had begun before there was anything to push, and what the component
    // does of itself is done.
    let seen = until("the message is pushed", || service.seen().first().cloned());
    assert_eq!(seen.text(), "kept");
    weft.wait_metric("weft_ledger_transactions_total", &[], 1.0);

    // And it is kept: also a node that no configuration asks any more to keep something lets it be.
    weft.reload(nothing).unwrap();
    assert_eq!(get(&weft, "/v1/status")["config"]["restart"], json!(["amqp", "ledger"]));
    weft.terminate();
    assert!(weft.wait().success());
    let weft = weft.again(&first);
    let left = get(&weft, "/v1/subscriptions/t");
    assert_eq!(left["lag_messages"], 1, "{left}");
}

/// A start waits for a former process that is about to let go of its ledger; a reload has none.
#[test]
fn a_reload_that_asks_for_the_ledger_of_another_process_is_refused_at_once() {
    let nothing = "admin: { listen: '@admin' }
listeners: { web: { address: '@web' } }
";
    let holder =
        Weft::start(BIN, &format!("{nothing}ledger: {{ path: '@@/data' }}\ntopics: {{ a: {{}} }}"));
    let weft = Weft::start(BIN, nothing);
    let held = holder.folder().join("data");
    let asked = format!("{nothing}ledger: {{ path: '{}' }}\ntopics: {{ a: {{}} }}", held.display());
    let refused = weft.reload(&asked).unwrap_err();
    assert!(refused.contains("has this ledger open"), "{refused}");
    assert_eq!(weft.find("waiting for the ledger"), None);
}

/// A schedule that is declared no more ends with the reload that takes it away, or with the start.
#[test]
fn a_schedule_that_is_declared_no_more_is_removed_and_none_that_the_api_has_made() {
    let ids = |weft: &Weft| -> Vec<(String, String)> {
        let listed = get(weft, "/v1/schedules?max=1000");
        let listed = listed["schedules"].as_array().unwrap().clone();
        let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
        listed.iter().map(|one| (text(one, "id"), text(one, "origin"))).collect()
    };
    let bare = "admin: { listen: '@admin' }\nledger: { path: '@@/data' }\nqueues: { q: {} }\n";
    let with = |lines: &str| format!("{bare}schedules:\n{lines}");
    let line =
        |id: &str, every: &str| format!("  {id}: {{ every: {every}, to: {{ queue: q }} }}\n");
    let both = with(&(line("often", "1s") + &line("seldom", "1h")));
    let weft = Weft::start(BIN, &both);
    let mine = json!({ "every": "1h", "to": { "queue": "q" } });
    assert_eq!(ask(&weft, "PUT", "/v1/schedules/mine", &mine).status(), 201);
    let of = |origins: &[(&str, &str)]| -> Vec<(String, String)> {
        origins.iter().map(|(id, of)| ((*id).to_owned(), (*of).to_owned())).collect()
    };
    let (declared, made) = ("configuration", "api");
    assert_eq!(ids(&weft), of(&[("mine", made), ("often", declared), ("seldom", declared)]));
    let refused = ask(&weft, "DELETE", "/v1/schedules/often", &Value::Null);
    assert_eq!(refused.status(), 409, "{}", refused.text());
    weft.reload(&with(&line("seldom", "1h"))).unwrap();
    weft.wait_line("declared no more: often");
    assert_eq!(ids(&weft), of(&[("mine", made), ("seldom", declared)]));
    // It is taken away while the node is down.
    weft.kill();
    let weft = weft.again(bare);
    weft.wait_line("declared no more: seldom");
    assert_eq!(ids(&weft), of(&[("mine", made)]));
}

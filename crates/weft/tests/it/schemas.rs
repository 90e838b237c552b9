//! The schema registry, as clients and operators meet it.

use std::process::Command;

use serde_json::{Value, json};
use weft_testkit::Weft;

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(folder: &std::path::Path) -> String {
    format!(
        "admin: {{ listen: '@admin' }}
ledger: {{ path: '{}', wal_file: 1MiB }}
listeners: {{ web: {{ address: '@web' }} }}
routes:
  - {{ name: schemas, match: '/schemas/*', schemas: /schemas }}
",
        folder.join("data").display()
    )
}

/// A request on a route, and its answer as JSON.
fn ask(node: &Weft, method: &str, path: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let answer = node.ask(format!(
        "{method} /schemas{path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/vnd.schemaregistry.v1+json\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    (answer.status(), serde_json::from_str(&answer.text()).unwrap_or_default())
}

fn register(node: &Weft, subject: &str, schema: &str) -> (u16, Value) {
    let body = json!({ "schema": schema }).to_string();
    ask(node, "POST", &format!("/subjects/{subject}/versions"), &body)
}

#[test]
fn what_was_registered_is_there_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = config(folder.path());
    let mut node = Weft::start(BIN, &yaml);
    assert_eq!(register(&node, "orders-value", "\"int\"").1["id"], 1);
    assert_eq!(register(&node, "orders-value", "\"long\"").1["version"], 2);
    assert_eq!(register(&node, "orders%20key", "\"int\"").1["id"], 1);
    node.kill();
    node.wait();
    node = node.again(&yaml);
    assert_eq!(ask(&node, "GET", "/subjects", ""), (200, json!(["orders key", "orders-value"])));
    let (status, said) = register(&node, "orders-value", "\"string\"");
    assert_eq!((status, &said["error_code"]), (409, &json!(409)), "{said}");
    let (status, said) = ask(&node, "GET", "/subjects/none/versions", "");
    assert_eq!((status, &said["error_code"]), (404, &json!(40401)), "{said}");
    let (status, said) = ask(&node, "GET", "/nothing", "");
    assert_eq!((status, &said["error_code"]), (404, &json!(404)), "{said}");
}

#[test]
fn the_command_line_lists_shows_and_checks() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path()));
    register(&node, "orders-value", "\"long\"");
    let run = |arguments: &[&str]| {
        let admin = format!("http://{}", node.address("admin"));
        let mut command = Command::new(BIN);
        let output =
            command.arg("subject").args(arguments).args(["--admin", &admin]).output().unwrap();
        let text =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (output.status.code().unwrap(), text)
    };
    let check = |arguments: &[&str], code: i32, said: &str| {
        let (status, text) = run(arguments);
        assert!(status == code && text.contains(said), "{arguments:?}: {status} {text}");
    };
    check(&["list"], 0, "orders-value");
    check(&["show", "orders-value"], 0, "BACKWARD");
    check(&["show", "none"], 1, "Subject 'none' not found.");
    let file = folder.path().join("order.avsc");
    std::fs::write(&file, "\"double\"").unwrap();
    let file = file.display().to_string();
    check(&["check", "orders-value", &file], 0, "it fits\n");
    check(&["check", "none", &file], 0, "the subject is not there yet");
    std::fs::write(&file, "\"string\"").unwrap();
    check(&["check", "orders-value", &file], 1, "TYPE_MISMATCH");
    std::fs::write(&file, "nonsense").unwrap();
    check(&["check", "orders-value", &file], 1, "Invalid schema");
    check(&["check", "orders-value", "/nowhere.txt"], 1, "--format");
    check(&["delete", "orders-value", "--confirm", "orders-value"], 0, "deleted subject");
    check(&["list"], 0, "");
}

#[test]
fn a_topic_holds_its_messages_to_the_registry() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!(
        "{}  - {{ name: messages, match: '/m/*', messages: /m }}
topics:
  strict: {{ schema: {{ subject: s-value, enforce: reject }} }}
  easy: {{ schema: {{ subject: s-value, enforce: warn }} }}
  open: {{ schema: s-value }}
",
        config(folder.path())
    );
    let node = Weft::start(BIN, &yaml);
    let publish = |topic: &str, body: &str| {
        let length = body.len();
        let answer = node.ask(format!(
            "POST /m/v1/topics/{topic}/messages HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        (answer.status(), answer.text())
    };
    let schema =
        r#"{"type":"object","properties":{"total":{"type":"integer"}},"required":["total"]}"#;
    let body = json!({ "schema": schema, "schemaType": "JSON" }).to_string();
    let (status, said) = ask(&node, "POST", "/subjects/s-value/versions", &body);
    assert_eq!(status, 200, "{said}");
    let good = r#"{"total":7}"#;
    let wait = std::time::Instant::now();
    while publish("strict", good).0 == 503 {
        assert!(wait.elapsed() < std::time::Duration::from_secs(10), "the subject is never read");
    }
    for (topic, body, status, said) in [
        ("strict", good, 200, ""),
        ("strict", r#"{"total":"7"}"#, 422, "/total"),
        ("strict", "{}", 422, "required"),
        ("strict", "nonsense", 422, "no JSON"),
        ("easy", "{}", 200, ""),
        ("open", "{}", 200, ""),
    ] {
        let (was, text) = publish(topic, body);
        assert!(was == status && text.contains(said), "{topic} {body}: {was} {text}");
        assert_eq!(text.contains("schema_mismatch"), status == 422, "{text}");
    }
    node.wait_metric("weft_schema_mismatches_total", &["outcome=\"refused\""], 3.0);
    node.wait_metric("weft_schema_mismatches_total", &["outcome=\"warned\""], 1.0);
}

#[test]
fn events_are_held_to_the_schema_of_their_type() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!(
        "{}  - {{ name: streams, match: '/e/*', streams: /e }}
event_schemas: {{ order.placed: {{ subject: placed, enforce: reject }}, order.seen: placed }}
",
        config(folder.path())
    );
    let node = Weft::start(BIN, &yaml);
    let append = |id: &str, kind: &str, data: &Value| {
        let event = json!({
            "specversion": "1.0", "id": id, "source": "/shop", "type": kind, "data": data,
        });
        let body = json!([event]).to_string();
        let length = body.len();
        let answer = node.ask(format!(
            "POST /e/v1/streams/order-1/events HTTP/1.1\r\nhost: test\r\ncontent-type: application/cloudevents-batch+json\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        (answer.status(), answer.text())
    };
    let integer = json!({ "schema": r#"{"type":"integer"}"#, "schemaType": "JSON" }).to_string();
    assert_eq!(ask(&node, "POST", "/subjects/placed/versions", &integer).0, 200);
    let wait = std::time::Instant::now();
    while append("1", "order.placed", &json!(7)).0 == 503 {
        assert!(wait.elapsed() < std::time::Duration::from_secs(10), "the subject is never read");
    }
    let (status, said) = append("2", "order.placed", &json!("seven"));
    assert!(status == 422 && said.contains("schema_mismatch"), "{status} {said}");
    assert_eq!(append("3", "order.seen", &json!("seven")).0, 200);
    assert_eq!(append("4", "order.other", &json!("seven")).0, 200);
}

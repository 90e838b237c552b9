//! Streams of events, as services and operators meet them.

mod queries;

use std::process::Command;

use serde_json::{Value, json};
use weft_testkit::{Conn, Weft, until};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(folder: &std::path::Path) -> String {
    format!(
        "admin: {{ listen: '@admin' }}
ledger: {{ path: '{}', wal_file: 1MiB }}
listeners: {{ web: {{ address: '@web' }} }}
routes:
  - {{ name: streams, match: '/shop/*', streams: /shop }}
",
        folder.join("data").display()
    )
}

/// A request on a route, with a body of a media type, and its answer as JSON.
fn ask(node: &Weft, method: &str, path: &str, media: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let answer = node.ask(format!(
        "{method} /shop/v1{path} HTTP/1.1\r\nhost: test\r\ncontent-type: {media}\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    (answer.status(), serde_json::from_str(&answer.text()).unwrap_or_default())
}

fn event(id: &str, kind: &str) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/shop", "type": kind, "data": { "id": id } })
}

fn append(node: &Weft, stream: &str, expected: &str, events: &[Value]) -> (u16, Value) {
    let path = format!("/streams/{stream}/events?expected={expected}");
    ask(node, "POST", &path, "application/cloudevents-batch+json", &json!(events).to_string())
}

fn get(node: &Weft, path: &str) -> (u16, Value) {
    ask(node, "GET", path, "application/json", "")
}

fn versions(page: &Value) -> Vec<u64> {
    let events = page["events"].as_array().unwrap();
    events.iter().map(|event| event["version"].as_u64().unwrap()).collect()
}

#[test]
fn events_are_appended_with_an_expectation_and_are_there_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = config(folder.path());
    let mut node = Weft::start(BIN, &yaml);
    let first = [event("1", "order.placed"), event("2", "order.paid")];
    let (status, said) = append(&node, "order-1", "none", &first);
    assert_eq!(status, 200, "{said}");
    let one = json!({ "stream": "order-1", "first": 0, "last": 1, "known": false });
    assert_eq!(said, json!({ "appends": [one], "position": 1 }));
    // A body that is no event becomes one.
    let path = "/streams/order-1/events?expected=1&type=order.shipped";
    let (status, said) = ask(&node, "POST", path, "application/json", r#"{"by":"bike"}"#);
    assert_eq!((status, &said["appends"][0]["first"]), (200, &json!(2)), "{said}");
    node.kill();
    node.wait();
    node = node.again(&yaml);
    // Whoever has not heard of it sends it again.
    let (status, said) = append(&node, "order-1", "none", &first);
    assert_eq!((status, &said["appends"][0]["known"]), (200, &json!(true)), "{said}");
    // Who did not know of the others is told them.
    let (status, said) = append(&node, "order-1", "0", &[event("7", "order.cancelled")]);
    assert_eq!((status, &said["code"]), (409, &json!("conflict")), "{said}");
    assert_eq!(said["type"], "urn:weft:problem:version_conflict");
    assert_eq!((&said["actual"], &said["expected"]), (&json!(2), &json!("0")));
    let kinds: Vec<_> =
        said["events"].as_array().unwrap().iter().map(|event| &event["event"]["type"]).collect();
    assert_eq!(kinds, ["order.paid", "order.shipped"]);
    let (_, page) = get(&node, "/streams/order-1/events?max=2");
    assert_eq!((versions(&page), &page["next"]), (vec![0, 1], &json!(2)));
    assert_eq!(page["events"][0]["event"]["data"], json!({ "id": "1" }));
    assert_eq!(page["events"][0]["event"]["streamversion"], "0");
    let (_, page) = get(&node, "/streams/order-1/events?from=end&direction=backward");
    assert_eq!((versions(&page), &page["next"]), (vec![2, 1, 0], &Value::Null));
    let (status, stream) = get(&node, "/streams/order-1");
    assert_eq!(status, 200);
    let expected = json!({
        "name": "order-1", "category": "order", "events": 3, "first": 0, "next": 3, "state": "open"
    });
    assert_eq!(stream, expected);
}

#[test]
fn several_streams_change_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path()));
    let transfer = |from: u64, id: &str| {
        let body = json!({ "appends": [
            { "stream": "account-a", "expected": from, "events": [event(&format!("{id}-out"), "debited")] },
            { "stream": "account-b", "events": [event(&format!("{id}-in"), "credited")] },
            { "stream": "bank", "expected": "exists" },
        ] });
        ask(&node, "POST", "/events", "application/json", &body.to_string())
    };
    append(&node, "account-a", "none", &[event("open", "opened")]);
    let (status, said) = transfer(0, "x");
    assert_eq!((status, &said["stream"]), (409, &json!("bank")), "{said}");
    append(&node, "bank", "none", &[event("founded", "founded")]);
    let (status, said) = transfer(0, "x");
    assert_eq!((status, said["appends"].as_array().map(Vec::len)), (200, Some(3)), "{said}");
    // The same again is known; another one from before is a conflict, and nothing of it is done.
    let (status, said) = transfer(0, "x");
    assert_eq!((status, &said["appends"][1]["known"]), (200, &json!(true)), "{said}");
    assert_eq!(transfer(0, "y").0, 409);
    let (_, all) = get(&node, "/events?max=1000");
    let streams: Vec<_> =
        all["events"].as_array().unwrap().iter().map(|event| &event["stream"]).collect();
    assert_eq!(streams, ["account-a", "bank", "account-a", "account-b"]);
}

/// The next event of a stream of server-sent events: number, type, data.
fn next(conn: &mut Conn, held: &mut String) -> (String, String, Value) {
    loop {
        if let Some((event, rest)) = held.split_once("\n\n") {
            let (event, rest) = (event.to_owned(), rest.to_owned());
            *held = rest;
            let of = |name: &str| {
                let lines = event.lines().filter_map(|line| line.strip_prefix(name));
                lines.collect::<Vec<_>>().join("\n")
            };
            let kind = of("event: ");
            if !kind.is_empty() {
                return (of("id: "), kind, serde_json::from_str(&of("data: ")).unwrap());
            }
            continue;
        }
        // Chunks: a size, the bytes, and a line's end.
        let mut size = String::new();
        while !size.ends_with("\r\n") {
            size.push_str(&String::from_utf8_lossy(&conn.take(1)));
        }
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        held.push_str(&String::from_utf8_lossy(&conn.take(size)));
        conn.take(2);
    }
}

fn follow(node: &Weft, path: &str, fields: &str) -> Conn {
    let mut conn = node.connect("web");
    conn.send(format!(
        "GET /shop/v1{path} HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\n{fields}\r\n"
    ));
    let head = conn.head().unwrap();
    assert_eq!(head.status(), 200);
    conn
}

#[test]
fn events_are_followed_from_history_to_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path()));
    let add = |stream: &str, id: u64| {
        let event = event(&id.to_string(), "counted");
        assert_eq!(append(&node, stream, "any", &[event]).0, 200);
    };
    (0..3).for_each(|id| add("a", id));
    let (mut all, mut held) = (follow(&node, "/events", ""), String::new());
    for position in 0..3 {
        let (id, kind, data) = next(&mut all, &mut held);
        assert_eq!((id.parse(), &*kind), (Ok(position), "counted"));
        assert_eq!(data["version"], json!(position));
    }
    assert_eq!(next(&mut all, &mut held).1, "weft.caught-up");
    let (mut one, mut of_one) = (follow(&node, "/streams/b/events", ""), String::new());
    assert_eq!(next(&mut one, &mut of_one).1, "weft.caught-up");
    add("a", 3);
    add("b", 4);
    assert_eq!(next(&mut all, &mut held).0, "3");
    let (id, _, data) = next(&mut one, &mut of_one);
    assert_eq!((&*id, &data["stream"], &data["position"]), ("0", &json!("b"), &json!(4)));
    // Who comes again goes on behind what it has seen.
    drop(all);
    let mut again = follow(&node, "/events", "last-event-id: 3\r\n");
    assert_eq!(next(&mut again, &mut String::new()).0, "4");
    let ahead = node.get("/shop/v1/events", "accept: text/event-stream\r\nlast-event-id: 99\r\n");
    assert_eq!(ahead.status(), 409, "{}", ahead.text());
}

#[test]
fn operators_see_truncate_and_delete_streams() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path()));
    for stream in ["a-1", "a-2", "b-1"] {
        let events: Vec<_> = (0..5).map(|id| event(&id.to_string(), "counted")).collect();
        assert_eq!(append(&node, stream, "none", &events).0, 200);
    }
    let admin = format!("http://{}", node.address("admin"));
    let weft = |arguments: &[&str]| {
        let output = Command::new(BIN).args(arguments).args(["--admin", &admin]).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{text}");
        text
    };
    let list = weft(&["stream", "list"]);
    assert!(list.contains("a-1") && list.contains("b-1") && list.contains("open"), "{list}");
    let (status, stream) =
        ask(&node, "POST", "/streams/a-1/truncate", "application/json", r#"{"before":3}"#);
    assert_eq!((status, &stream["events"]), (200, &json!(2)), "{stream}");
    assert_eq!(versions(&get(&node, "/streams/a-1/events").1), [3, 4]);
    let (status, stream) = ask(&node, "DELETE", "/streams/a-2?expected=4", "application/json", "");
    assert_eq!((status, &stream["state"]), (200, &json!("deleted")), "{stream}");
    let (status, stream) = ask(&node, "DELETE", "/streams/b-1?end=true", "application/json", "");
    assert_eq!((status, &stream["state"]), (200, &json!("ended")), "{stream}");
    assert_eq!(get(&node, "/streams/a-2/events").0, 404);
    let (_, all) = get(&node, "/events");
    assert_eq!(versions(&all), [3, 4]);
    let (status, said) = append(&node, "a-2", "none", &[event("9", "counted")]);
    assert_eq!((status, &said["appends"][0]["first"]), (200, &json!(5)), "{said}");
    assert_eq!(append(&node, "b-1", "any", &[event("9", "counted")]).0, 409);
    let shown = weft(&["stream", "show", "a-2"]);
    assert!(shown.contains("deleted") || shown.contains("open"), "{shown}");
    let (_, page) = get(&node, "/streams?prefix=a-&max=1");
    assert_eq!((&page["streams"][0]["name"], &page["next"]), (&json!("a-1"), &json!("a-1")));
    let (_, page) = get(&node, "/streams?prefix=a-&after=a-1");
    assert_eq!((&page["streams"][0]["name"], &page["next"]), (&json!("a-2"), &Value::Null));
}

#[test]
fn events_of_a_category_go_when_they_are_old_and_those_of_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = config(folder.path());
    let node = Weft::start(BIN, &format!("{yaml}event_retention: {{ session: 1ms }}\n"));
    for stream in ["session-1", "order-1"] {
        let (status, said) = append(&node, stream, "none", &[event(stream, "begun")]);
        assert_eq!(status, 200, "{said}");
    }
    until("the session to go", || {
        let (_, page) = get(&node, "/events");
        let left = page["events"].as_array().unwrap();
        (left.len() == 1).then(|| assert_eq!(left[0]["stream"], "order-1"))
    });
    node.wait_metric("weft_stream_events_expired_total", &[], 1.0);
    // The stream goes on with its versions.
    let (status, said) = append(&node, "session-1", "0", &[event("again", "begun")]);
    assert_eq!((status, &said["appends"][0]["first"]), (200, &json!(1)), "{said}");
}

#[test]
fn what_is_wrong_is_told_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path()));
    let good = json!([event("1", "x")]).to_string();
    let batch = "application/cloudevents-batch+json";
    for (method, path, media, body, status, reason) in [
        ("GET", "/streams/none", "", "", 404, "not_found"),
        ("GET", "/streams/none/events", "", "", 404, "not_found"),
        ("GET", "/events?from=-1", "", "", 400, "malformed_request"),
        ("GET", "/events?max=0", "", "", 400, "malformed_request"),
        ("GET", "/events?direction=up", "", "", 400, "malformed_request"),
        ("POST", "/streams/a/events?expected=-1", batch, &*good, 400, "malformed_request"),
        ("POST", "/streams/a/events?expected=exists", batch, &*good, 409, "version_conflict"),
        ("POST", "/streams/a/events?expected=7", batch, &*good, 409, "version_conflict"),
        ("POST", "/streams/a/events", batch, "[{}]", 400, "malformed_message"),
        ("POST", "/streams/a/events", batch, "[", 400, "malformed_message"),
        ("POST", "/streams/%00/events", batch, &*good, 400, "unsafe_path"),
        (
            "POST",
            "/streams/a/truncate",
            "application/json",
            r#"{"before":1}"#,
            409,
            "version_conflict",
        ),
        ("DELETE", "/streams/a", "", "", 409, "version_conflict"),
        ("POST", "/events", "application/json", r#"{"appends":[]}"#, 400, "malformed_request"),
        (
            "POST",
            "/events",
            "application/json",
            r#"{"appends":[{"stream":""}]}"#,
            400,
            "malformed_request",
        ),
        ("PUT", "/events", "application/json", "{}", 405, "method_not_allowed"),
    ] {
        let (found, said) = ask(&node, method, path, media, body);
        let is = said["type"].as_str().unwrap_or_default().trim_start_matches("urn:weft:problem:");
        assert_eq!((found, is), (status, reason), "{method} {path}: {said}");
    }
    let forged = r#"[{"specversion":"1.0","id":"1","source":"/x","type":"x","streamversion":"9"}]"#;
    let (status, said) = ask(&node, "POST", "/streams/a/events", batch, forged);
    assert_eq!(status, 400, "{said}");
    let (_, all) = get(&node, "/events");
    assert_eq!(versions(&all), Vec::<u64>::new());
}

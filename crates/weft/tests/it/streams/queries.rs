//! Events by what they have, by time, and appends under a condition, over HTTP.

use std::process::Command;

use serde_json::{Value, json};
use weft_testkit::Weft;

use super::{BIN, ask, config, follow, get, next};

/// Appends an event, with attributes and fields of the request.
fn append(node: &Weft, stream: &str, attributes: Value, fields: &str) -> Value {
    let mut event = json!({ "specversion": "1.0", "source": "/shop", "type": "order.placed" });
    event.as_object_mut().unwrap().extend(attributes.as_object().unwrap().clone());
    let body = event.to_string();
    let length = body.len();
    let answer = node.ask(format!(
        "POST /shop/v1/streams/{stream}/events HTTP/1.1\r\nhost: test\r\n{fields}content-type: \
         application/cloudevents+json\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    serde_json::from_str(&answer.text()).unwrap()
}

fn ids(page: &Value) -> Vec<String> {
    let events = page["events"].as_array().unwrap_or_else(|| panic!("{page}"));
    events.iter().map(|event| event["event"]["id"].as_str().unwrap().to_owned()).collect()
}

fn shop(node: &Weft) {
    for (stream, id, kind, tags) in [
        ("order-1", "1", "order.placed", "customer:7,sku:a"),
        ("order-1", "2", "order.paid", "customer:7"),
        ("order-2", "3", "order.placed", "customer:8,sku:a"),
        ("account-7", "4", "debited", "customer:7"),
        ("order-2", "5", "order.sent", ""),
    ] {
        let attributes =
            json!({ "id": id, "type": kind, "tags": tags, "correlationid": format!("c{id}") });
        append(node, stream, attributes, "");
    }
}

#[test]
fn events_are_read_and_followed_by_what_they_have() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = config(folder.path());
    let mut node = Weft::start(BIN, &yaml);
    shop(&node);
    let read = |node: &Weft| {
        for (query, expected) in [
            ("category=order", &["1", "2", "3", "5"][..]),
            ("type=order.placed", &["1", "3"]),
            ("type=order.paid,debited", &["2", "4"]),
            ("correlation=c4", &["4"]),
            ("tags=customer:7", &["1", "2", "4"]),
            ("tags=customer:7,sku:a", &["1"]),
            ("category=order&tags=customer:7", &["1", "2"]),
            ("stream=order-2", &["3", "5"]),
            ("stream=order-2&type=order.placed", &["3"]),
            ("category=none", &[]),
            ("category=order&from=1&max=2", &["2", "3"]),
            ("category=order&from=end&direction=backward&max=2", &["5", "3"]),
        ] {
            let (status, page) = get(node, &format!("/events?{query}"));
            assert!(status == 200 && ids(&page) == expected, "{query}: {page}");
        }
    };
    read(&node);
    node.kill();
    node.wait();
    node = node.again(&yaml);
    read(&node);
    let (_, page) = get(&node, "/events?category=order&max=2");
    assert_eq!(page["next"], json!(2));
    // From history to what comes, and again behind it.
    let (mut paid, mut held) = (follow(&node, "/events?tags=customer:7", ""), String::new());
    for position in ["0", "1", "3"] {
        assert_eq!(next(&mut paid, &mut held).0, position);
    }
    assert_eq!(next(&mut paid, &mut held).1, "weft.caught-up");
    append(&node, "order-9", json!({ "id": "6", "tags": "customer:8" }), "");
    append(&node, "order-9", json!({ "id": "7", "tags": "customer:7" }), "");
    loop {
        let (id, kind, _) = next(&mut paid, &mut held);
        if kind != "weft.caught-up" {
            assert_eq!(id, "6");
            break;
        }
    }
    let mut again = follow(&node, "/events?tags=customer:7", "last-event-id: 3\r\n");
    assert_eq!(next(&mut again, &mut String::new()).0, "6");
    // What is removed is not found any more.
    assert_eq!(ask(&node, "DELETE", "/streams/order-1", "application/json", "").0, 200);
    assert_eq!(ids(&get(&node, "/events?tags=customer:7").1), ["4", "7"]);
}

#[test]
fn correlation_and_causation_are_filled_in() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path()));
    let given = "x-correlation-id: order-77\r\nx-causation-id: click-1\r\n";
    append(&node, "a", json!({ "id": "1" }), given);
    append(&node, "a", json!({ "id": "2", "correlationid": "own", "causationid": "mine" }), given);
    let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    append(&node, "a", json!({ "id": "3" }), trace);
    append(&node, "b", json!({ "id": "4" }), trace);
    let (_, page) = get(&node, "/streams/a/events");
    let of = |at: usize, name: &str| page["events"][at]["event"][name].clone();
    assert_eq!(
        (of(0, "correlationid"), of(0, "causationid")),
        (json!("order-77"), json!("click-1"))
    );
    assert_eq!((of(1, "correlationid"), of(1, "causationid")), (json!("own"), json!("mine")));
    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    assert_eq!((of(2, "correlationid"), of(2, "causationid")), (json!(trace_id), Value::Null));
    assert_eq!(ids(&get(&node, &format!("/events?correlation={trace_id}")).1), ["3", "4"]);
}

fn under(node: &Weft, id: &str, tag: &str, after: Option<u64>) -> (u16, Value) {
    let event = json!({ "specversion": "1.0", "id": id, "source": "/users", "type": "registered", "tags": tag });
    let query = json!({ "items": [{ "types": ["registered"], "tags": [tag] }] });
    let body = json!({
        "appends": [{ "stream": format!("user-{id}"), "events": [event] }],
        "condition": { "fail_if_events_match": query, "after": after },
    });
    ask(node, "POST", "/events", "application/json", &body.to_string())
}

#[test]
fn an_append_fails_if_events_match_that_its_caller_has_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path()));
    let (status, said) = under(&node, "1", "name:ada", None);
    assert_eq!((status, &said["position"]), (200, &json!(0)), "{said}");
    let (status, said) = under(&node, "1", "name:ada", None);
    assert_eq!((status, &said["appends"][0]["known"]), (200, &json!(true)), "{said}");
    let (status, said) = under(&node, "2", "name:ada", None);
    assert_eq!(
        (status, &said["type"]),
        (409, &json!("urn:weft:problem:condition_conflict")),
        "{said}"
    );
    assert_eq!((ids(&said), &said["after"]), (vec!["1".to_owned()], &Value::Null));
    assert_eq!(get(&node, "/streams/user-2").0, 404, "nothing of it was done");
    assert_eq!(under(&node, "2", "name:bob", None).0, 200);
    assert_eq!(under(&node, "3", "name:ada", Some(0)).0, 200, "that one was read");
    let (status, said) = under(&node, "4", "name:ada", Some(1));
    assert_eq!(
        (status, ids(&said), &said["after"]),
        (409, vec!["3".to_owned()], &json!(1)),
        "{said}"
    );
    let (status, said) = under(&node, "5", "name:eve", Some(99));
    assert_eq!(
        (status, &said["type"]),
        (409, &json!("urn:weft:problem:position_conflict")),
        "{said}"
    );
}

#[test]
fn events_are_read_from_a_time_and_as_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path()));
    shop(&node);
    // Times are those of events; two that stand side by side may have the same.
    let (_, all) = get(&node, "/events");
    let events = all["events"].as_array().unwrap();
    let time = |at: usize| events[at]["time"].as_str().unwrap().to_owned();
    let of = |fits: &dyn Fn(&str) -> bool, is_meant: &dyn Fn(&Value) -> bool| -> Vec<String> {
        let meant =
            events.iter().filter(|event| fits(event["time"].as_str().unwrap()) && is_meant(event));
        meant.map(|event| event["event"]["id"].as_str().unwrap().to_owned()).collect()
    };
    let (any, one) = (|_: &Value| true, |event: &Value| event["stream"] == "order-2");
    let order = |event: &Value| event["stream"].as_str().unwrap().starts_with("order-");
    let mid = time(2);
    let (since, until) = (|time: &str| *time >= *mid, |time: &str| *time <= *mid);
    let reversed = |mut ids: Vec<String>| {
        ids.reverse();
        ids
    };
    for (query, expected) in [
        (format!("/events?since={mid}"), of(&since, &any)),
        (format!("/events?until={mid}"), of(&until, &any)),
        (format!("/events?category=order&since={mid}"), of(&since, &order)),
        (format!("/events?category=order&until={mid}"), of(&until, &order)),
        (format!("/streams/order-2/events?since={mid}"), of(&since, &one)),
        (format!("/streams/order-2/events?until={mid}"), of(&until, &one)),
        (format!("/events?direction=backward&until={mid}"), reversed(of(&until, &any))),
        (format!("/events?direction=backward&since={mid}"), reversed(of(&since, &any))),
        ("/events?until=2020-01-01T00:00:00Z".into(), vec![]),
        ("/events?direction=backward&until=2020-01-01T00:00:00Z".into(), vec![]),
        ("/streams/order-2/events?until=2020-01-01T00:00:00Z".into(), vec![]),
        ("/events?since=2999-01-01T00:00:00Z".into(), vec![]),
    ] {
        let (status, page) = get(&node, &query);
        assert_eq!((status, ids(&page), &page["next"]), (200, expected, &Value::Null), "{query}");
    }
    let mut follower = follow(&node, "/events?since=2999-01-01T00:00:00Z", "");
    assert_eq!(next(&mut follower, &mut String::new()).1, "weft.caught-up");
}

#[test]
fn operators_read_events_at_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path()));
    shop(&node);
    let admin = format!("http://{}", node.address("admin"));
    let weft = |arguments: &[&str]| {
        let arguments = [&["stream", "events"], arguments].concat();
        let output = Command::new(BIN).args(arguments).args(["--admin", &admin]).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let id = |line: &str| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["event"]["id"].as_str().unwrap().to_owned()
        };
        (output.status.code(), lines.lines().map(id).collect::<Vec<_>>().join(" "))
    };
    for (arguments, expected) in [
        (&[][..], "1 2 3 4 5"),
        (&["order-2"], "3 5"),
        (&["order-2", "--from", "1"], "5"),
        (&["order-2", "--until", "2020-01-01T00:00:00Z"], ""),
        (&["--category", "order", "--max", "2"], "1 2"),
        (&["--tags", "customer:7,sku:a"], "1"),
        (&["--type", "order.paid,debited", "--backward"], "4 2"),
        (&["--correlation", "c4", "--since", "2020-01-01T00:00:00Z"], "4"),
    ] {
        assert_eq!(weft(arguments), (Some(0), expected.to_owned()), "{arguments:?}");
    }
    assert_eq!(weft(&["none"]).0, Some(1));
}

#[test]
fn what_is_wrong_of_a_query_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path()));
    for (path, status) in [
        ("/events?since=yesterday", 400),
        ("/events?tags=,", 400),
        ("/events?tags=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", 400),
        ("/streams/a/events?category=order", 400),
        ("/events?categories=order", 400),
    ] {
        let (found, said) = get(&node, path);
        assert_eq!(found, status, "{path}: {said}");
    }
    let until =
        node.get("/shop/v1/events?until=2026-01-01T00:00:00Z", "accept: text/event-stream\r\n");
    assert_eq!(until.status(), 400, "{}", until.text());
    let appends = json!([{ "stream": "a" }]);
    for condition in [
        json!({}),
        json!({ "fail_if_events_match": { "items": [] } }),
        json!({ "fail_if_events_match": { "items": [{}] } }),
        json!({ "fail_if_events_match": { "items": [{ "tags": ["a,b"] }] } }),
        json!({ "fail_if_events_match": { "items": [{ "kind": "x" }] } }),
        json!({ "failIfEventsMatch": { "items": [{ "types": ["x"] }] } }),
        json!({ "fail_if_events_match": { "items": [{ "types": ["x"] }] }, "after": -1 }),
    ] {
        let body = json!({ "appends": appends, "condition": condition }).to_string();
        let (status, said) = ask(&node, "POST", "/events", "application/json", &body);
        assert_eq!(status, 400, "{body}: {said}");
    }
    let tagged = |tags: &str| {
        let event =
            json!([{ "specversion": "1.0", "id": "1", "source": "/x", "type": "x", "tags": tags }]);
        ask(
            &node,
            "POST",
            "/streams/a/events",
            "application/cloudevents-batch+json",
            &event.to_string(),
        )
        .0
    };
    assert_eq!((tagged(&"x".repeat(65)), tagged(&"x".repeat(64))), (400, 200));
}

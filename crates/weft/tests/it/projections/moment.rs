//! Documents as they were, and what has become of them.

use std::time::Duration;

use serde_json::{Value, json};
use weft_testkit::Weft;

use super::{BIN, append, config, get};

/// When the last event of a stream was appended.
fn time(node: &Weft, stream: &str) -> String {
    let answer = node.get(&format!("/shop/v1/streams/{stream}/events"), "");
    let page: Value = serde_json::from_str(&answer.text()).unwrap();
    page["events"].as_array().unwrap().last().unwrap()["time"].as_str().unwrap().to_owned()
}

#[test]
fn a_document_is_shown_as_it_was_and_what_has_become_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path(), 1));
    let mut times = Vec::new();
    for (id, kind, data) in [
        ("1", "placed", json!({ "total": 9 })),
        ("2", "line", json!({ "sku": "a" })),
        ("3", "paid", json!({ "amount": 9 })),
        ("4", "erased", json!({})),
    ] {
        append(&node, "order-1", id, kind, &data);
        times.push(time(&node, "order-1"));
        // Times are to the millisecond.
        std::thread::sleep(Duration::from_millis(3));
    }
    let at = |time: &str| get(&node, &format!("/documents/order-1?until={time}"), "");
    let placed = json!({ "status": "placed", "total": 9 });
    let (status, said) = at(&times[0]);
    assert_eq!((status, &said["document"], &said["position"]), (200, &placed, &json!(0)));
    assert_eq!(at(&times[1]).1["document"]["lines"], json!([{ "sku": "a" }]));
    assert_eq!(at(&times[2]).1["document"]["status"], "paid");
    assert_eq!(at(&times[3]).0, 404);
    assert_eq!(at("2020-01-01T00:00:00Z").0, 404);

    let between = |since: &str, until: &str| {
        let path = format!("/documents/order-1/difference?since={since}{until}");
        let (status, said) = get(&node, &path, "");
        assert_eq!(status, 200, "{said}");
        said
    };
    let said = between(&times[0], &format!("&until={}", times[2]));
    assert_eq!(said["since"]["document"], placed);
    let mut patch: Vec<_> = said["patch"].as_array().unwrap().clone();
    patch.sort_by_key(|step| step["path"].as_str().unwrap().to_owned());
    let expected = json!([
        { "op": "add", "path": "/count", "value": 1 },
        { "op": "add", "path": "/lines", "value": [{ "sku": "a" }] },
        { "op": "add", "path": "/paid", "value": 9 },
        { "op": "replace", "path": "/status", "value": "paid" },
    ]);
    assert_eq!(Value::Array(patch), expected);
    // Gone by now.
    let said = between(&times[2], "");
    assert_eq!((&said["until"], said["patch"][0]["op"].as_str()), (&Value::Null, Some("replace")));
    assert_eq!(get(&node, "/documents/order-1/difference", "").0, 400);
    assert_eq!(at("yesterday").0, 400);
}

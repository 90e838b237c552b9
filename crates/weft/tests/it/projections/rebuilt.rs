//! A changed definition takes over under reads, wherever the process is killed.

use std::{thread, time::Duration};

use serde_json::{Value, json};
use weft_testkit::Weft;

use super::{BIN, append, config, get, until};

const EVENTS: u64 = 400;

/// Reads a document again and again; what its counter was, each once, in order.
fn counts(node: &Weft, reads: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    for _ in 0..reads {
        let (status, said) = get(node, "/documents/order-1", "");
        assert_eq!(status, 200, "{said}");
        let count = said["document"]["count"].as_u64().unwrap();
        if seen.last() != Some(&count) {
            seen.push(count);
        }
    }
    seen
}

#[test]
fn readers_see_the_old_build_or_the_new_and_nothing_in_between() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Weft::start(BIN, &config(folder.path(), 1));
    for number in 0..EVENTS {
        append(&node, "order-1", &number.to_string(), "paid", &json!({ "amount": 1 }));
    }
    let mut count = 1;
    until(&node, "/documents/order-1", |said| said["document"]["count"] == EVENTS);
    for changed in [3, 5, 7] {
        // It is killed while it builds, some time, and goes on.
        for wait in [0, 5, 20] {
            node.kill();
            node.wait();
            node = node.again(&config(folder.path(), changed));
            let seen = counts(&node, 10);
            let (old, new) = (count * EVENTS, changed * EVENTS);
            assert!(seen == [old] || seen == [new] || seen == [old, new], "{seen:?}: {old}, {new}");
            thread::sleep(Duration::from_millis(wait));
        }
        until(&node, "/documents/order-1", |said| said["document"]["count"] == changed * EVENTS);
        let said: Value = until(&node, "", |said| said["state"] == "following");
        assert_eq!(said["applied"], EVENTS, "each once");
        count = changed;
    }
    assert_eq!(node.metric("weft_projection_rebuilt_ratio", &["orders"]), 1.0);
}

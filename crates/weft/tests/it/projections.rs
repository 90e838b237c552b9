//! Projections, as services and operators meet them.

mod consistency;
mod moment;
mod queries;
mod rebuilt;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use weft_testkit::{Conn, Weft};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(folder: &std::path::Path, count: u64) -> String {
    format!(
        "admin: {{ listen: '@admin' }}
ledger: {{ path: '{}', wal_file: 1MiB }}
listeners: {{ web: {{ address: '@web' }} }}
routes:
  - {{ name: streams, match: '/shop/*', streams: /shop }}
  - {{ name: views, match: '/views/*', projections: /views }}
projections:
  orders:
    from: {{ category: order }}
    on:
      placed: {{ set: {{ status: \"'placed'\", total: data.total }} }}
      paid: {{ set: {{ status: \"'paid'\" }}, add: {{ paid: data.amount, count: '{count}' }} }}
      line: {{ append: {{ lines: data }}, max: 3 }}
      erased: delete
",
        folder.join("data").display()
    )
}

/// Appends an event; gives the token of it.
fn append(node: &Weft, stream: &str, id: &str, kind: &str, data: &Value) -> String {
    let event =
        json!({ "specversion": "1.0", "id": id, "source": "/shop", "type": kind, "data": data });
    let body = event.to_string();
    let length = body.len();
    let answer = node.ask(format!(
        "POST /shop/v1/streams/{stream}/events HTTP/1.1\r\nhost: test\r\ncontent-type: \
         application/cloudevents+json\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.get("weft-consistency-token").unwrap().to_owned()
}

/// Reads below the projection.
fn get(node: &Weft, path: &str, fields: &str) -> (u16, Value) {
    let answer = node.get(&format!("/views/v1/projections/orders{path}"), fields);
    (answer.status(), serde_json::from_str(&answer.text()).unwrap_or_default())
}

fn until(node: &Weft, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let (_, said) = get(node, path, "");
        if is_so(&said) {
            return said;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{said}");
        std::thread::yield_now();
    }
}

/// The keys of documents that are listed.
fn keys(listed: &Value) -> Vec<&str> {
    let documents = listed["documents"].as_array().unwrap().iter();
    documents.map(|document| document["key"].as_str().unwrap()).collect()
}

#[test]
fn who_reads_with_its_token_sees_what_it_has_written() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path(), 1));
    for number in 0..50 {
        let stream = format!("order-{}", number % 5);
        let data = json!({ "total": number, "amount": 1 });
        let kind = if number < 5 { "placed" } else { "paid" };
        let token = append(&node, &stream, &number.to_string(), kind, &data);
        let fields = format!("weft-consistency-token: {token}\r\n");
        let (status, said) = get(&node, &format!("/documents/{stream}?wait=10s"), &fields);
        assert_eq!((status, &said["position"]), (200, &json!(number)), "{said}");
    }
    let (status, listed) =
        get(&node, "/documents?prefix=order-&filter=document.total%20%3E%202&sort=-total", "");
    assert_eq!((status, keys(&listed)), (200, vec!["order-4", "order-3"]), "{listed}");
    assert_eq!(listed["cut"], false);
    let (_, page) = get(&node, "/documents?limit=2&after=order-1", "");
    assert_eq!(
        (&page["documents"][0]["key"], &page["next"]),
        (&json!("order-2"), &json!("order-3"))
    );
    // What has not changed is not sent again.
    let answer = node.get("/views/v1/projections/orders/documents/order-1", "");
    let fields = format!("if-none-match: {}\r\n", answer.get("etag").unwrap());
    assert_eq!(node.get("/views/v1/projections/orders/documents/order-1", &fields).status(), 304);
    // Of several tokens the farthest counts; what is no token is refused.
    let token = append(&node, "order-1", "last", "paid", &json!({ "amount": 1 }));
    let epoch = token.rsplit_once('.').unwrap().0;
    let fields = format!("weft-consistency-token: {epoch}.0, {token}\r\n");
    assert_eq!(get(&node, "/documents/order-1?wait=10s", &fields).1["position"], 50);
    assert_eq!(get(&node, "/documents", "weft-consistency-token: mine\r\n").0, 400);
    // Of events that are not there, and of another store.
    for token in [format!("{epoch}.fff"), "e1.1.0".to_owned()] {
        let fields = format!("weft-consistency-token: {token}\r\n");
        let (status, said) = get(&node, "/documents", &fields);
        assert_eq!(
            (status, &said["type"]),
            (409, &json!("urn:weft:problem:position_conflict")),
            "{said}"
        );
    }
    assert_eq!(get(&node, "/documents/order-9", "").0, 404);
}

#[test]
fn what_was_folded_is_there_after_a_crash_and_a_changed_definition_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = config(folder.path(), 1);
    let mut node = Weft::start(BIN, &yaml);
    for round in 0..6 {
        for number in 0..40 {
            let id = format!("{round}-{number}");
            append(&node, &format!("order-{}", number % 4), &id, "paid", &json!({ "amount": 2 }));
        }
        node.kill();
        node.wait();
        // Half of the time it is killed while it builds anew.
        node = node.again(&config(folder.path(), if round < 3 { 1 } else { 10 + round }));
    }
    let said = until(&node, "/documents/order-1", |said| said["document"]["count"] == 900);
    assert_eq!(said["document"], json!({ "status": "paid", "paid": 120, "count": 900 }));
    let said = until(&node, "", |said| said["state"] == "following" && said["lag_events"] == 0);
    assert_eq!(said["applied"], 240, "each once");
}

#[test]
fn operators_see_what_is_parked_and_go_on_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path(), 1));
    append(&node, "order-1", "a", "paid", &json!({ "amount": "much" }));
    append(&node, "order-1", "b", "paid", &json!({ "amount": 2 }));
    append(&node, "order-2", "c", "paid", &json!({ "amount": 3 }));
    until(&node, "/documents/order-2", |said| said["document"]["paid"] == 3);
    let parked = until(&node, "/parked", |said| said[0]["waiting"] == 2);
    assert_eq!(
        (&parked[0]["key"], &parked[0]["position"], &parked[0]["waiting"]),
        (&json!("order-1"), &json!(0), &json!(2))
    );
    let weft = |arguments: &[&str]| {
        let admin = format!("http://{}", node.address("admin"));
        let mut command = Command::new(BIN);
        command.args(arguments).args(["--admin", &admin]);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text + &String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = weft(&["projection", "list"]);
    assert!(code == Some(0) && said.contains("orders") && said.contains("following"), "{said}");
    // The same again fails again, and nothing is lost or put in another order by it.
    let resume = "POST /views/v1/projections/orders/parked/resume HTTP/1.1\r\nhost: test\r\n\
                  content-type: application/json\r\ncontent-length: 17\r\n\r\n{\"key\":\"order-1\"}";
    let answer = node.ask(resume);
    let said: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!((answer.status(), &said["parked"]["waiting"]), (200, &json!(2)), "{said}");
    let (code, said) = weft(&["projection", "parked", "orders"]);
    assert!(code == Some(0) && said.contains("order-1") && said.contains("paid: "), "{said}");
    let (code, said) = weft(&["projection", "skip", "orders", "--key", "order-1"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(get(&node, "/documents/order-1", "").1["document"]["paid"], 2);
    let (code, said) = weft(&["projection", "rebuild", "orders"]);
    assert_eq!(code, Some(0), "{said}");
    // A build of its own meets the event again.
    until(&node, "/parked", |said| said[0]["key"] == "order-1");
    assert_eq!(node.metric("weft_projection_parked", &["orders"]), 1.0);
}

#[test]
fn changes_are_told_as_they_come_and_again_from_where_a_client_was() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path(), 1));
    append(&node, "order-1", "a", "placed", &json!({ "total": 1 }));
    let follow = |fields: &str| {
        let mut conn = node.connect("web");
        conn.send(format!(
            "GET /views/v1/projections/orders/documents?from=start HTTP/1.1\r\nhost: test\r\naccept: \
             text/event-stream\r\n{fields}\r\n"
        ));
        assert_eq!(conn.head().unwrap().status(), 200);
        conn
    };
    let next = |conn: &mut Conn, held: &mut String| crate::streams::next(conn, held);
    let (mut conn, mut held) = (follow(""), String::new());
    let (id, kind, data) = next(&mut conn, &mut held);
    assert_eq!((&*id, &*kind, &data["document"]["total"]), ("0", "document", &json!(1)));
    append(&node, "order-2", "b", "placed", &json!({ "total": 2 }));
    assert_eq!(next(&mut conn, &mut held).2["key"], "order-2");
    append(&node, "order-2", "c", "erased", &json!({}));
    let (id, kind, data) = next(&mut conn, &mut held);
    assert_eq!((&*id, &*kind, data), ("2", "deleted", json!({ "key": "order-2" })));
    drop(conn);
    let (id, kind, _) = next(&mut follow("last-event-id: 1\r\n"), &mut String::new());
    assert_eq!((&*id, &*kind), ("2", "deleted"));
}

//! Lists of documents: filters, orders, pages, and what is cut; changes that are followed over a crash.

use serde_json::{Value, json};
use weft_testkit::{Conn, Weft};

use super::{BIN, append, config, keys, until};

/// Documents of which an event may be about many.
fn many(folder: &std::path::Path) -> String {
    let more = "
  many:
    key: data.keys
    on: { made: { set: { number: data.number } } }
";
    format!("{}{}", config(folder, 1), more.trim_start_matches('\n'))
}

fn list(node: &Weft, query: &str) -> Value {
    let answer = node.get(&format!("/views/v1/projections/many/documents?{query}"), "");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    serde_json::from_str(&answer.text()).unwrap()
}

fn made(number: u64, count: u64) -> Value {
    let keys: Vec<String> = (0..count).map(|at| format!("k{:05}", number * 64 + at)).collect();
    json!({ "keys": keys, "number": if number.is_multiple_of(3) { json!(format!("n{number}")) } else { json!(number) } })
}

/// Waits until all of the events are folded.
fn settled(node: &Weft) {
    until(node, "", |said| said["lag_events"] == 0);
    let answer = || node.get("/views/v1/projections/many", "").text();
    while !answer().contains("\"lag_events\":0") {
        std::thread::yield_now();
    }
}

#[test]
fn pages_of_documents_show_each_once_in_the_order_of_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &many(folder.path()));
    for number in 0..10 {
        append(&node, "made-1", &number.to_string(), "made", &made(number, 7));
    }
    settled(&node);
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = list(&node, &format!("limit=9&prefix=k{after}"));
        seen.extend(keys(&page).into_iter().map(ToOwned::to_owned));
        assert_eq!(page["cut"], false);
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let all: Vec<_> = (0..10).flat_map(|of| (0..7).map(move |at| of * 64 + at)).collect();
    assert_eq!(seen, all.iter().map(|at| format!("k{at:05}")).collect::<Vec<_>>());
    assert_eq!(keys(&list(&node, "prefix=k0000")), seen[..7]);
    // Numbers stand before texts, and where a filter fails a document is left out.
    let sorted = list(&node, "sort=number&limit=1000");
    let numbers: Vec<_> = sorted["documents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| &of["document"]["number"])
        .collect();
    let expected = [json!(1), json!(2), json!(4), json!(5), json!(7), json!(8)];
    let texts = [json!("n0"), json!("n3"), json!("n6"), json!("n9")];
    let each = |of: &[Value]| of.iter().flat_map(|of| vec![of.clone(); 7]).collect::<Vec<_>>();
    let expected = [each(&expected), each(&texts)].concat();
    assert_eq!(numbers, expected.iter().collect::<Vec<_>>());
    assert_eq!(list(&node, "sort=-number&limit=1")["documents"][0]["document"]["number"], "n9");
    let filtered =
        list(&node, "filter=document.number%20%3E%207%20%26%26%20key%20!%3D%20%27k00512%27");
    assert_eq!(keys(&filtered), (513..519).map(|at| format!("k{at:05}")).collect::<Vec<_>>());
    for wrong in ["filter=document.number%20%3E", "limit=0", "sort=number&after=k", "order=up"] {
        let answer = node.get(&format!("/views/v1/projections/many/documents?{wrong}"), "");
        assert_eq!(answer.status(), 400, "{wrong}: {}", answer.text());
    }
}

#[test]
fn a_question_looks_at_ten_thousand_documents_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &many(folder.path()));
    for number in 0..160 {
        append(&node, "made-1", &number.to_string(), "made", &made(number, 64));
    }
    settled(&node);
    let found = list(&node, "filter=key%20%3D%3D%20%27k10239%27");
    assert_eq!(
        (found["cut"].clone(), keys(&found).len(), &found["next"]),
        (json!(true), 0, &json!("k09999"))
    );
    let found = list(&node, "filter=key%20%3D%3D%20%27k10239%27&after=k09999");
    assert_eq!((found["cut"].clone(), keys(&found)), (json!(false), vec!["k10239"]));
    // An order of a part says that it is one.
    assert_eq!(list(&node, "sort=-number&limit=1")["cut"], true);
}

#[test]
fn who_follows_goes_on_behind_what_came_last_over_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Weft::start(BIN, &config(folder.path(), 1));
    let follow = |node: &Weft, fields: &str| {
        let mut conn = node.connect("web");
        conn.send(format!(
            "GET /views/v1/projections/orders/documents HTTP/1.1\r\nhost: test\r\naccept: \
             text/event-stream\r\n{fields}\r\n"
        ));
        assert_eq!(conn.head().unwrap().status(), 200);
        conn
    };
    let next = |conn: &mut Conn, held: &mut String| crate::streams::next(conn, held);
    let (mut last, mut seen) = (None, Vec::new());
    for life in 0..3_u64 {
        let fields = last.as_ref().map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
        if life > 0 {
            // While nobody follows.
            append(
                &node,
                &format!("order-{life}-a"),
                &format!("{life}-a"),
                "placed",
                &json!({ "total": 1 }),
            );
        }
        let (mut conn, mut held) = (follow(&node, &fields), String::new());
        append(
            &node,
            &format!("order-{life}-b"),
            &format!("{life}-b"),
            "placed",
            &json!({ "total": 1 }),
        );
        for _ in 0..if life > 0 { 2 } else { 1 } {
            let (id, kind, data) = next(&mut conn, &mut held);
            assert_eq!(kind, "document");
            seen.push(data["key"].as_str().unwrap().to_owned());
            last = Some(id);
        }
        node.kill();
        node.wait();
        node = node.again(&config(folder.path(), 1));
    }
    assert_eq!(seen, ["order-0-b", "order-1-a", "order-1-b", "order-2-a", "order-2-b"]);
}

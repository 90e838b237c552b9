//! Consistency tokens across the gateway: commands and queries of services that know nothing of them.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use serde_json::{Value, json};
use weft_testkit::{Conn, HttpMessage, Upstream, Weft, upstream::ok};

use super::{BIN, append, config, until};

/// Where the node is that the services ask.
type Node = Arc<OnceLock<SocketAddr>>;

fn ask(node: &Node, request: String) -> HttpMessage {
    Conn::to(*node.get().unwrap()).ask(request)
}

/// A service that appends an event for each command, and one that shows the document of a stream.
fn services(node: &Node) -> (Upstream, Upstream) {
    let (at, number) = (Arc::clone(node), std::sync::atomic::AtomicU64::new(0));
    let commands = Upstream::answering(move |request| {
        let id = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let stream = request.target().rsplit('/').next().unwrap();
        let body = json!({ "specversion": "1.0", "id": id.to_string(), "source": "/shop", "type": "paid", "data": { "amount": 1 } });
        let (body, path) = (body.to_string(), format!("/shop/v1/streams/{stream}/events"));
        let length = body.len();
        let answer = ask(
            &at,
            format!(
                "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: \
                 application/cloudevents+json\r\ncontent-length: {length}\r\n\r\n{body}"
            ),
        );
        assert_eq!(answer.status(), 200, "{}", answer.text());
        ok("done")
    });
    let at = Arc::clone(node);
    let queries = Upstream::answering(move |request| {
        let stream = request.target().rsplit('/').next().unwrap();
        let path = format!("/views/v1/projections/orders/documents/{stream}");
        ok(&ask(&at, format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).text())
    });
    (commands, queries)
}

fn start(folder: &std::path::Path) -> (Weft, Upstream, Upstream) {
    let node = Node::default();
    let (commands, queries) = services(&node);
    let yaml = config(folder, 1).replace(
        "routes:\n",
        &format!(
            "services:
  commands: {{ endpoints: '{}' }}
  queries: {{ endpoints: '{}' }}
routes:
  - {{ name: commands, match: '/commands/*', to: commands, consistency: {{ issue: true, cookie: true }} }}
  - {{ name: queries, match: '/queries/*', to: queries, consistency: {{ projections: orders, cookie: true, wait: 10s }} }}
  - {{ name: strict, match: '/strict/*', to: queries, consistency: {{ projections: orders, wait: 1ms }} }}
  - {{ name: hasty, match: '/hasty/*', to: queries, consistency: {{ projections: orders, wait: 1ms, on_stale: serve }} }}
",
            commands.address(),
            queries.address()
        ),
    );
    let weft = Weft::start(BIN, &yaml);
    node.set(weft.address("web")).unwrap();
    (weft, commands, queries)
}

fn command(node: &Weft, stream: &str) -> HttpMessage {
    let answer = node.ask(format!(
        "POST /commands/{stream} HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n"
    ));
    assert_eq!((answer.status(), &*answer.text()), (200, "done"));
    answer
}

#[test]
fn clients_read_what_they_have_written_through_services_that_know_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (node, _commands, _queries) = start(folder.path());
    for number in 1..=60_u64 {
        let answer = command(&node, "order-1");
        // As a program does it, and as a browser does it by itself.
        let fields = if number % 2 == 0 {
            format!("weft-consistency-token: {}\r\n", answer.get("weft-consistency-token").unwrap())
        } else {
            let line = answer.get("set-cookie").unwrap();
            assert!(
                line.contains("; HttpOnly; SameSite=Lax") && !line.contains("Secure"),
                "{line}"
            );
            format!("cookie: a=b; {}\r\n", line.split(';').next().unwrap())
        };
        let answer = node.get("/queries/order-1", &fields);
        let said: Value = serde_json::from_str(&answer.text()).unwrap();
        assert_eq!((answer.status(), &said["document"]["count"]), (200, &json!(number)), "{said}");
        assert_eq!(answer.get("weft-stale"), None);
        // What changes nothing tells nothing.
        assert_eq!(answer.get("weft-consistency-token"), None);
    }
}

#[test]
fn what_is_not_there_in_time_is_refused_or_told_of_as_stale() {
    let folder = tempfile::tempdir().unwrap();
    let (node, _commands, queries) = start(folder.path());
    // So much at once that no projection has folded it right away.
    let event = |id: usize| json!({ "specversion": "1.0", "id": id.to_string(), "source": "/shop", "type": "paid", "data": { "amount": 1 } });
    let batch = |first: usize| -> String {
        let body = Value::from((first..first + 2_000).map(event).collect::<Vec<_>>()).to_string();
        let length = body.len();
        let answer = node.ask(format!(
            "POST /shop/v1/streams/order-1/events HTTP/1.1\r\nhost: test\r\ncontent-type: \
             application/cloudevents-batch+json\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        format!("weft-consistency-token: {}\r\n", answer.get("weft-consistency-token").unwrap())
    };
    let answer = node.get("/strict/order-1", &batch(0));
    assert_eq!(answer.status(), 503, "{}", answer.text());
    let said: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(said["type"], "urn:weft:problem:projection_behind", "{said}");
    let answer = node.get("/hasty/order-1", &batch(2_000));
    assert_eq!((answer.status(), answer.get("weft-stale")), (200, Some("true")));
    let seen = queries.seen();
    assert_eq!(
        (seen.len(), seen[0].get("weft-stale")),
        (1, Some("true")),
        "the refused one did not get there"
    );
    // A client cannot tell a service that it is asked for what is stale.
    until(&node, "", |said| said["lag_events"] == 0);
    let answer = node.get("/hasty/order-1", "weft-stale: true\r\n");
    assert_eq!((answer.status(), answer.get("weft-stale")), (200, None));
    assert_eq!(queries.wait_seen(2)[1].get("weft-stale"), None);
}

#[test]
fn a_token_of_another_store_is_refused_and_its_cookie_passed_over() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (node, _commands, _queries) = start(folders[0].path());
    let other = Weft::start(BIN, &config(folders[1].path(), 1));
    let token = append(&other, "order-1", "a", "paid", &json!({ "amount": 1 }));
    command(&node, "order-1");
    until(&node, "", |said| said["lag_events"] == 0);
    for (fields, status, reason) in [
        (
            format!("weft-consistency-token: {token}\r\n"),
            409,
            Some("urn:weft:problem:position_conflict"),
        ),
        (
            "weft-consistency-token: mine\r\n".to_owned(),
            400,
            Some("urn:weft:problem:malformed_request"),
        ),
        (format!("cookie: weft-consistency-token={token}\r\n"), 200, None),
        ("cookie: weft-consistency-token=mine\r\n".to_owned(), 200, None),
    ] {
        let answer = node.get("/queries/order-1", &fields);
        let said: Value = serde_json::from_str(&answer.text()).unwrap();
        assert_eq!((answer.status(), said["type"].as_str()), (status, reason), "{fields}: {said}");
    }
}

#[test]
fn a_configuration_that_names_no_projection_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = |policy: &str| {
        config(folder.path(), 1).replace(
            "routes:\n",
            &format!(
                "routes:\n  - {{ name: a, match: '/a', respond: {{ status: 204 }}, consistency: {policy} }}\n"
            ),
        )
    };
    let node = Weft::start(BIN, &yaml("{ projections: orders }"));
    for (policy, say) in [
        ("{ projections: order }", "waits for projection `order`, which is not there"),
        ("{ cookie: true }", "neither a token that is told nor a projection"),
    ] {
        let refused = node.reload(&yaml(policy)).unwrap_err();
        assert!(refused.contains(say), "{refused}");
    }
}

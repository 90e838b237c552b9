//! KurrentDB's protocol through the real binary, with messages that are written by hand. The suite of its clients
//! (`cargo xtask suite "KurrentDB clients"`) judges the rest.

use std::{path::Path, time::Duration};

use tokio::time::timeout;
use weft_testkit::{
    PATIENCE, Weft,
    grpc::{self, Inbox, message, messages},
    http2::{self, Client, Reply},
};

pub(crate) const BIN: &str = env!("CARGO_BIN_EXE_weft");
const STREAMS: &str = "/event_store.client.streams.Streams";

pub(crate) fn config(folder: &Path) -> String {
    format!(
        "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
ledger: {{ path: '{}' }}
listeners:
  web: {{ address: '@web' }}
  other: {{ address: '@other' }}
routes:
  - {{ name: kurrent, listeners: web, match: '/*', kurrent: true }}
  - {{ name: streams, listeners: other, match: '/*', streams: / }}
",
        folder.join("data").display()
    )
}

/// A field of bytes: a text, or another message.
pub(crate) fn field(number: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut out = vec![number << 3 | 2];
    let mut len = bytes.len();
    while len > 127 {
        out.push(len as u8 | 128);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
    out
}

/// A field of a small number.
pub(crate) fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

fn stream(name: &str) -> Vec<u8> {
    field(1, field(3, name))
}

/// An append with what is expected, and events of these types.
pub(crate) fn append(name: &str, expected: &[u8], kinds: &[&str]) -> Vec<u8> {
    let options = [stream(name), expected.to_vec()].concat();
    let mut body = message(field(1, options)).to_vec();
    for (at, kind) in kinds.iter().enumerate() {
        let id = field(1, field(2, format!("00000000-0000-4000-8000-{at:012}")));
        let pair = |name: &str, value: &str| field(2, [field(1, name), field(2, value)].concat());
        let of = [pair("type", kind), pair("content-type", "application/json")].concat();
        let event = [id, of, field(3, r#"{"by":"me"}"#), field(4, r#"{"n":1}"#)].concat();
        body.extend_from_slice(&message(field(2, event)));
    }
    body
}

/// A read of a stream from its start.
pub(crate) fn read(name: &str, until: &[u8]) -> Vec<u8> {
    let of = field(1, [stream(name), field(3, b"")].concat());
    let rest = [until, &field(8, b""), &field(9, field(2, b""))].concat();
    message(field(1, [of, rest].concat())).to_vec()
}

pub(crate) async fn call(client: &Client, method: &str, body: Vec<u8>) -> Reply {
    client.ask(grpc::call(&format!("{STREAMS}/{method}")).body(body).unwrap()).await.unwrap()
}

pub(crate) fn has(message: &[u8], text: &str) -> bool {
    message.windows(text.len()).any(|window| window == text.as_bytes())
}

const NO_STREAM: &[u8] = &[3 << 3 | 2, 0];
pub(crate) const ANY: &[u8] = &[4 << 3 | 2, 0];

#[test]
fn what_was_appended_is_read_after_a_crash_and_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = config(folder.path());
    let mut node = Weft::start(BIN, &yaml);
    http2::run(async {
        let client = Client::to(node.address("web")).await;
        let events = append("order-1", NO_STREAM, &["placed", "paid"]);
        for _ in 0..2 {
            let said = call(&client, "Append", events.clone()).await;
            assert_eq!(said.trailer("grpc-status"), "0", "{said:?}");
            // Success: the last revision is 1, and the place 2.
            let place = field(3, [number(1, 2), number(2, 2)].concat());
            let success = field(1, [number(1, 1), place].concat());
            assert_eq!(messages(&said.body), [success]);
        }
        // One that expects what is not so: the revision is 1, and 0 was expected.
        let late = call(&client, "Append", append("order-1", &number(2, 0), &["lost"])).await;
        assert_eq!(messages(&late.body), [field(2, [number(6, 1), number(8, 0)].concat())]);
        assert_eq!(late.trailer("grpc-status"), "0");
        // A deletion tells the same in trailers.
        let late = message(field(1, [stream("order-1"), number(2, 0)].concat())).to_vec();
        let late = call(&client, "Delete", late).await;
        assert_eq!((late.get("grpc-status"), late.get("actual-version")), ("9", "1"), "{late:?}");
        assert_eq!(late.get("exception"), "wrong-expected-version");
    });
    node.kill();
    node.wait();
    node = node.again(&yaml);
    http2::run(async {
        let client = Client::to(node.address("web")).await;
        let found = call(&client, "Read", read("order-1", &number(5, 9))).await;
        let found = messages(&found.body);
        assert_eq!(found.len(), 2);
        assert!(has(&found[1], "paid") && has(&found[1], r#"{"by":"me"}"#), "{found:?}");
        let absent = call(&client, "Read", read("nobody", &number(5, 9))).await;
        assert_eq!(messages(&absent.body), [field(4, stream("nobody"))]);
    });
    let mut conn = node.connect("other");
    let page = conn.ask("GET /v1/streams/order-1/events HTTP/1.1\r\nhost: test\r\n\r\n").text();
    assert!(page.contains(r#""type":"paid""#) && page.contains(r#""data":{"n":1}"#), "{page}");
    assert!(page.contains(r#""kurrentmetadata":"{\"by\":\"me\"}""#), "{page}");
}

#[test]
fn a_subscription_follows_and_ends_at_the_drain() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Weft::start(BIN, &config(folder.path()));
    http2::run(async {
        let client = Client::to(node.address("web")).await;
        call(&client, "Append", append("order-1", ANY, &["placed"])).await;
        let request = grpc::call(&format!("{STREAMS}/Read")).body(()).unwrap();
        let (response, mut out) = client.begin(request).await.unwrap();
        http2::send_all(&mut out, read("order-1", &field(6, b"")).into(), None).await.unwrap();
        let mut inbox = Inbox::of(response.await.unwrap().into_body());
        let mut next = async || timeout(PATIENCE, inbox.next()).await.expect("at once").unwrap();
        // The confirmation, the event, and that there is no more.
        assert_eq!(next().await[0], 2 << 3 | 2);
        assert!(has(&next().await, "placed"));
        assert_eq!(next().await[0], 8 << 3 | 2);
        call(&client, "Append", append("order-1", &number(2, 0), &["paid", "shipped"])).await;
        assert!(has(&next().await, "paid"));
        assert!(has(&next().await, "shipped"));
        node.terminate();
        assert_eq!(timeout(PATIENCE, inbox.next()).await.expect("at once"), None);
        assert_eq!(inbox.trailers().await.unwrap()["grpc-status"], "14");
    });
    assert!(node.wait().success());
}

#[test]
fn a_subscription_ends_at_the_deadline_of_its_client() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path()));
    http2::run(async {
        let client = Client::to(node.address("web")).await;
        let request = grpc::call(&format!("{STREAMS}/Read")).header("grpc-timeout", "300m");
        let ended = client.ask(request.body(read("later", &field(6, b""))).unwrap()).await.unwrap();
        assert_eq!(ended.trailer("grpc-status"), "4", "{ended:?}");
    });
}

#[test]
fn who_does_not_read_costs_little() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path()));
    http2::run(async {
        let client = Client::to(node.address("web")).await;
        let kinds: Vec<String> = (0..1000).map(|n| format!("{n}-{}", "x".repeat(2000))).collect();
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
        for round in 0..10 {
            let said = call(&client, "Append", append(&format!("a-{round}"), ANY, &kinds)).await;
            assert_eq!(said.trailer("grpc-status"), "0", "{said:?}");
        }
        let before = node.memory();
        // Fifty subscriptions to 20 MiB, of which nothing is taken.
        let mut held = Vec::new();
        for _ in 0..50 {
            let client = Client::to(node.address("web")).await;
            let request = grpc::call(&format!("{STREAMS}/Read")).body(()).unwrap();
            let (response, mut out) = client.begin(request).await.unwrap();
            let all = [field(2, field(2, b"")), field(6, b""), field(8, b"")].concat();
            http2::send_all(&mut out, message(field(1, all)), None).await.unwrap();
            held.push((response.await.unwrap().into_body(), client));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let grown = node.memory().saturating_sub(before);
        assert!(grown < 200 << 20, "{grown} bytes");
        drop(held);
        assert_eq!(
            call(&client, "Append", append("b", ANY, &["x"])).await.trailer("grpc-status"),
            "0"
        );
    });
}

#[test]
fn what_is_no_call_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path()));
    http2::run(async {
        let client = Client::to(node.address("web")).await;
        for (method, body, status) in [
            ("Read", Vec::new(), "3"),
            ("Read", b"no frame at all".to_vec(), "3"),
            ("Read", message(b"\xff\xff\xff").to_vec(), "3"),
            ("Read", message(b"").to_vec(), "3"),
            ("Read", vec![0, 0, 0, 0, 9, 1], "3"),
            ("Read", vec![1, 0, 0, 0, 0], "12"),
            ("Read", vec![0, 0xff, 0, 0, 0], "8"),
            ("Append", message(field(2, b"")).to_vec(), "3"),
            ("Append", append("", ANY, &["x"]), "3"),
            ("Append", append("a", b"", &["x"]), "3"),
            ("Append", append("a", ANY, &[""]), "3"),
            ("Append", append("$ce-a", ANY, &["x"]), "3"),
            ("Delete", message(b"").to_vec(), "3"),
            ("Read", read("$streams", &number(5, 9)), "12"),
            ("Nothing", message(b"").to_vec(), "12"),
        ] {
            let said = call(&client, method, body.clone()).await;
            let text = (said.status, said.get("grpc-status"));
            assert_eq!(text, (200, status), "{method} {body:?} {said:?}");
        }
        let batch = call(&client, "BatchAppend", b"no frame at all".to_vec()).await;
        assert_eq!(batch.trailer("grpc-status"), "3");
        let absent = "/event_store.client.projections.Projections/Create";
        let absent = client.ask(grpc::call(absent).body(Vec::new()).unwrap()).await.unwrap();
        assert_eq!(absent.get("grpc-status"), "12");
        let plain = client.get("/").await.unwrap();
        assert_eq!(plain.status, 501);
    });
    // The log knows how calls end, at the head and behind the body.
    assert!(node.wait_line("Streams/Nothing").contains("\"grpc_status\":12"));
    assert!(node.wait_line("Streams/BatchAppend").contains("\"grpc_status\":3"));
}

#[test]
fn a_route_speaks_it_or_does_not_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = config(folder.path());
    let node = Weft::start(BIN, &yaml);
    let refused = node.reload(&yaml.replace("kurrent: true", "kurrent: false")).unwrap_err();
    assert!(refused.contains("`kurrent` at a route is `true`"), "{refused}");
}

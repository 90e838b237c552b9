//! gRPC and gRPC-Web through the real binary.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::time::timeout;
use weft_testkit::{
    PATIENCE, Upstream, Weft,
    grpc::{self, Inbox, message, messages},
    http2::{self, Client, Reply, Service},
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// A node before a service of gRPC, one that is not there, and perhaps one that does not speak HTTP/2.
fn node(service: &Service, old: Option<&Upstream>) -> Weft {
    let old = old.map_or_else(|| "@nowhere".to_owned(), |old| old.address().to_string());
    Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
services:
  one: {{ endpoints: '{}' }}
  gone: {{ endpoints: '@nowhere' }}
  old: {{ endpoints: '{old}' }}
routes:
  - {{ name: one, match: /One/*, to: one }}
  - {{ name: gone, match: /Gone/*, to: gone }}
  - {{ name: old, match: /Old/*, to: old }}
",
            service.address()
        ),
    )
}

async fn call(client: &Client, path: &str, body: impl AsRef<[u8]>) -> Reply {
    let request = grpc::call(path).body(body.as_ref().to_vec()).unwrap();
    client.ask(request).await.unwrap()
}

#[test]
fn calls_of_all_four_kinds_pass() {
    let service = Service::new(grpc::serve);
    let weft = node(&service, None);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let unary = call(&client, "/One/Unary", message("abc")).await;
        assert_eq!((unary.status, messages(&unary.body)), (200, vec![b"cba".to_vec()]));
        assert_eq!((unary.trailer("grpc-status"), unary.get("grpc-status")), ("0", ""));
        assert_eq!(unary.get("content-type"), grpc::CONTENT_TYPE);

        let server = call(&client, "/One/Server", message("abc")).await;
        assert_eq!(messages(&server.body), [b"a", b"b", b"c"]);
        assert_eq!(server.trailer("grpc-status"), "0");

        let many = [message("a"), message(""), message("bc")].concat();
        let joined = call(&client, "/One/Client", many).await;
        assert_eq!(messages(&joined.body), [b"abc"]);

        // Each answer is waited for before the next message is sent.
        let request = grpc::call("/One/Bidi").body(()).unwrap();
        let (response, mut out) = client.begin(request).await.unwrap();
        let mut inbox = Inbox::of(response.await.unwrap().into_body());
        for turn in 0..20u32 {
            http2::send(&mut out, message(turn.to_be_bytes())).await.unwrap();
            let back = timeout(PATIENCE, inbox.next()).await.expect("at once").unwrap();
            assert_eq!(back, turn.to_be_bytes());
        }
        http2::send_all(&mut out, Bytes::new(), None).await.unwrap();
        assert_eq!(inbox.next().await, None);
        assert_eq!(inbox.trailers().await.unwrap()["grpc-status"], "0");
    });
    let line = weft.wait_line("/One/Bidi");
    assert!(
        line.contains("\"grpc_status\":0") && line.contains("\"protocol\":\"HTTP/2\""),
        "{line}"
    );
}

#[test]
fn statuses_of_the_service_pass_and_are_counted() {
    let service = Service::new(grpc::serve);
    let weft = node(&service, None);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let failed = call(&client, "/One/Fail", message("x")).await;
        assert_eq!((failed.status, failed.get("grpc-status")), (200, "9"));
        assert_eq!(failed.get("grpc-message"), "not like that");
        assert!(failed.body.is_empty());
        let unknown = call(&client, "/One/Unknown", message("x")).await;
        assert_eq!(unknown.trailer("grpc-status"), "12");
    });
    assert!(weft.wait_line("/One/Fail").contains("\"grpc_status\":9"));
    for (name, code) in [("9", 1.0), ("12", 1.0)] {
        let label = format!("rpc_grpc_status_code=\"{name}\"");
        weft.wait_metric("http_server_request_duration_seconds_count", &[&label], code);
    }
}

/// How long a `grpc-timeout` is.
fn span(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().unwrap();
    match unit {
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => panic!("{text}"),
    }
}

#[test]
fn a_timeout_is_passed_on_with_what_is_left() {
    let service = Service::new(grpc::serve);
    let weft = node(&service, None);
    let table = [
        ("", Duration::from_secs(14), Duration::from_secs(15)),
        ("1H", Duration::from_secs(14), Duration::from_secs(15)),
        ("5S", Duration::from_secs(4), Duration::from_secs(5)),
        ("900m", Duration::from_millis(300), Duration::from_millis(900)),
    ];
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        for (given, least, most) in table {
            let mut request = grpc::call("/One/Unary").body(message("x").to_vec()).unwrap();
            if !given.is_empty() {
                request.headers_mut().insert("grpc-timeout", given.parse().unwrap());
            }
            let reply = client.ask(request).await.unwrap();
            let got = span(reply.trailer("x-timeout"));
            assert!((least..=most).contains(&got), "{given}: {got:?}");
        }
    });
}

#[test]
fn own_refusals_are_statuses_of_trailers_alone() {
    let service = Service::new(|_, mut respond| async move {
        // Hears, and says nothing until the stream is reset.
        std::future::poll_fn(|cx| respond.poll_reset(cx)).await.map(drop)
    });
    let old = Upstream::raw(|mut conn| {
        conn.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        conn.rest();
    });
    let weft = node(&service, Some(&old));
    let table = [
        ("/Nobody/Here", "5", "no_route"),
        ("/Gone/Away", "14", "connect_refused"),
        ("/One/Late", "4", "request_timeout"),
        ("/Old/Service", "14", "upstream"),
    ];
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        for (path, status, reason) in table {
            let request = grpc::call(path).header("grpc-timeout", "400m");
            let (response, mut out) = client.begin(request.body(()).unwrap()).await.unwrap();
            // Refused already, perhaps, so that nobody wants it any more.
            let _ = http2::send_all(&mut out, message("x"), None).await;
            let head = response.await.unwrap();
            assert!(head.body().is_end_stream(), "{path}: trailers alone");
            assert_eq!(head.status(), 200, "{path}");
            assert_eq!(head.headers()["content-type"], grpc::CONTENT_TYPE, "{path}");
            assert_eq!(head.headers()["grpc-status"], status, "{path}: {head:?}");
            assert!(!head.headers()["grpc-message"].is_empty(), "{path}");
            assert!(head.headers().contains_key("proxy-status"), "{path}");
            let line = weft.wait_line(path);
            assert!(line.contains(&format!("\"reason\":\"{reason}")), "{line}");
            assert!(line.contains(&format!("\"grpc_status\":{status}")), "{line}");
        }
    });
}

/// A body of gRPC-Web: its messages, and its trailers as text.
fn web(mut body: &[u8]) -> (Vec<Vec<u8>>, String) {
    let (mut found, mut trailers) = (Vec::new(), String::new());
    while !body.is_empty() {
        let length = 5 + u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        let (frame, rest) = body.split_at(length);
        match frame[0] {
            0 => found.push(frame[5..].to_vec()),
            0x80 => trailers = String::from_utf8(frame[5..].to_vec()).unwrap(),
            flags => panic!("flags {flags}"),
        }
        body = rest;
    }
    (found, trailers)
}

fn post(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: t\r\ncontent-type: {content_type}\r\nx-grpc-web: 1\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

#[test]
fn browsers_call_by_grpc_web() {
    let service = Service::new(grpc::serve);
    let weft = node(&service, None);
    let binary = weft.ask(post("/One/Server", "application/grpc-web+proto", &message("abc")));
    assert_eq!((binary.status(), binary.get("content-type")), (200, Some("application/grpc-web")));
    let (found, trailers) = web(&binary.body);
    assert_eq!(found, [b"a", b"b", b"c"]);
    assert!(
        trailers.contains("grpc-status: 0") || trailers.contains("grpc-status:0"),
        "{trailers}"
    );

    // "AAAAAANhYmM=" is the message `abc` in its frame.
    let text = weft.ask(post("/One/Unary", "application/grpc-web-text", b"AAAAAANhYmM="));
    assert_eq!((text.status(), text.get("content-type")), (200, Some("application/grpc-web-text")));
    // Each padded piece ends on its own.
    assert!(text.text().starts_with("AAAAAANjYmE="), "{}", text.text());
    let broken = weft.ask(post("/One/Unary", "application/grpc-web-text", b"AAAA*"));
    assert_ne!(broken.get("grpc-status").unwrap_or_default(), "0", "{broken:?}");
    assert!(broken.get("proxy-status").is_some(), "{broken:?}");

    let failed = weft.ask(post("/Gone/Away", "application/grpc-web", &message("abc")));
    assert_eq!((failed.status(), failed.get("grpc-status")), (200, Some("14")), "{failed:?}");
}

#[test]
fn a_call_by_http1_gets_trailers_by_http1() {
    let service = Service::new(grpc::serve);
    let weft = node(&service, None);
    let request = post("/One/Unary", "application/grpc\r\nte: trailers", &message("abc"));
    let response = weft.ask(request);
    assert_eq!((response.status(), messages(&response.body)), (200, vec![b"cba".to_vec()]));
    assert_eq!(response.trailer("grpc-status"), Some("0"), "{response:?}");
}

/// Small messages that nobody reads are held back like any others; a library may take them for an attack
/// before its windows are full.
#[test]
fn a_reader_of_small_messages_that_stops_keeps_its_connection() {
    let service = Service::new(|request, mut respond| async move {
        if request.uri().path() == "/One/Stop" {
            return std::future::poll_fn(|cx| respond.poll_reset(cx)).await.map(drop);
        }
        let head = Response::builder().header("content-type", grpc::CONTENT_TYPE).body(()).unwrap();
        let mut out = respond.send_response(head, false)?;
        out.send_trailers(grpc::status(0, ""))
    });
    let weft = node(&service, None);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let (_response, mut out) =
            client.begin(grpc::call("/One/Stop").body(()).unwrap()).await.unwrap();
        let one = message("twenty-four bytes of it.");
        let mut sent = 0;
        while let Ok(done) =
            timeout(Duration::from_millis(400), http2::send(&mut out, one.clone())).await
        {
            done.unwrap_or_else(|error| panic!("after {sent} messages: {error}"));
            sent += 1;
            assert!(sent < 4_000_000, "never held back");
        }
        let reply = call(&client, "/One/Other", message("x")).await;
        assert_eq!(reply.trailer("grpc-status"), "0", "another call of the same connection");
    });
}

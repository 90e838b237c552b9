//! What a service is asked is plain, and what it answers is taken for no more than it says: hosts, lengths,
//! deadlines, expectations, upgrades, and places among its connections.

use std::{
    future::poll_fn,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use http::Response;
use weft_testkit::{
    PATIENCE, Upstream, Weft,
    http2::{self, Client, Service, request},
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn node(service: &str, more: &str, route: &str) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{service}'{more} }} }}
routes: [{{ name: all, to: it{route} }}]
"
        ),
    )
}

#[test]
fn a_service_is_always_told_one_host_and_one_length() {
    let service = Upstream::saying("ok");
    let weft = node(&service.address().to_string(), "", "");
    for (asked, host, length) in [
        ("GET / HTTP/1.0\r\n\r\n", service.address().to_string(), None),
        ("GET / HTTP/1.0\r\nhost: a\r\n\r\n", "a".to_owned(), None),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 010\r\n\r\n0123456789",
            "a".to_owned(),
            Some("10"),
        ),
        ("POST / HTTP/1.1\r\nhost: a\r\n\r\n", "a".to_owned(), Some("0")),
        ("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 00\r\n\r\n", "a".to_owned(), Some("0")),
        ("DELETE / HTTP/1.1\r\nhost: a\r\n\r\n", "a".to_owned(), None),
    ] {
        let before = service.seen().len();
        assert_eq!(weft.ask(asked).status(), 200, "{asked:?}");
        let seen = &service.wait_seen(before + 1)[before];
        assert_eq!(seen.all("host"), [host.as_str()], "{asked:?}");
        assert_eq!(seen.all("content-length"), length.as_slice(), "{asked:?}");
    }
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let before = service.seen().len();
        client.ask(request("PUT", "/").body(Vec::new()).unwrap()).await.unwrap();
        assert_eq!(service.wait_seen(before + 1)[before].get("content-length"), Some("0"));
    });
}

#[test]
fn a_deadline_is_told_in_the_field_of_the_protocol_alone() {
    let service = Upstream::answering(|asked| {
        let told = ["x-request-timeout-ms", "grpc-timeout"].map(|name| asked.all(name).join(","));
        ok(&told.join(" "))
    });
    let weft = node(&service.address().to_string(), "", ", timeout: 1s");
    for given in ["x-request-timeout-ms: 99999999999", "x-request-timeout-ms: soon", "x: 1"] {
        let told = weft.get("/", &format!("{given}\r\ngrpc-timeout: 9H\r\n")).text();
        let (millis, other) = told.split_once(' ').unwrap();
        assert!(millis.parse::<u64>().unwrap() <= 1000 && other.is_empty(), "{given}: {told}");
    }
    let endless = node(&service.address().to_string(), "", ", timeout: off");
    assert_eq!(endless.get("/", "x-request-timeout-ms: soon\r\ngrpc-timeout: 9H\r\n").text(), " ");
    let service = Service::new(|asked, mut respond| async move {
        let told = |name: &str| {
            asked.headers().get(name).map_or("-", |value| value.to_str().unwrap()).to_owned()
        };
        let text = format!("{} {}", told("x-request-timeout-ms"), told("grpc-timeout"));
        let head = Response::builder()
            .header("content-type", "application/grpc")
            .header("x-told", text)
            .header("grpc-status", "0");
        respond.send_response(head.body(()).unwrap(), true).map(drop)
    });
    let weft = node(&service.address().to_string(), ", protocol: http2", ", timeout: 1s");
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let asked = request("POST", "/s.S/M")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-request-timeout-ms", "99999999999");
        let reply = client.ask(asked.body(b"\0\0\0\0\0".to_vec()).unwrap()).await.unwrap();
        assert!(
            reply.get("x-told").starts_with("- ") && reply.get("x-told").len() > 3,
            "{reply:?}"
        );
    });
}

/// Only a 101 to what was asked for is consent.
#[test]
fn an_upgrade_is_taken_only_as_it_was_asked_for() {
    let service = Upstream::answering(|asked| match asked.target() {
        "/200" => ok("plain"),
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "/403" => "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".to_owned(),
        "/bare" => "HTTP/1.1 101 X\r\n\r\n".to_owned(),
        "/no-upgrade" => "HTTP/1.1 101 X\r\nconnection: upgrade\r\n\r\n".to_owned(),
        "/no-connection" => "HTTP/1.1 101 X\r\nupgrade: websocket\r\n\r\n".to_owned(),
        "/two" => {
            "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket, other\r\n\r\n".to_owned()
        }
        _ => "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n".to_owned(),
    });
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes:
  - {{ name: fixed, match: /fixed, respond: {{ status: 200, body: fine }} }}
  - {{ name: all, to: it }}
",
            service.address()
        ),
    );
    for (path, old, new) in [
        ("/200", 200, 502),
        ("/204", 204, 502),
        ("/403", 403, 403),
        ("/bare", 502, 502),
        ("/no-upgrade", 502, 502),
        ("/no-connection", 502, 502),
        ("/other", 502, 502),
        ("/two", 502, 502),
        ("/fixed", 200, 501),
    ] {
        let fields = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                      sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        assert_eq!(weft.get(path, fields).status(), old, "{path} by HTTP/1.1");
        http2::run(async {
            let client = Client::to(weft.address("web")).await;
            // The first exchange brings the server's settings, and with them the protocol.
            client.get("/403").await.unwrap();
            assert!(client.may_connect());
            let asked = request("CONNECT", path)
                .extension(h2::ext::Protocol::from_static("websocket"))
                .header("sec-websocket-version", "13");
            let (response, _out) = client.begin(asked.body(()).unwrap()).await.unwrap();
            assert_eq!(response.await.unwrap().status(), new, "{path} by HTTP/2");
        });
    }
}

/// Whether a body is to come is for the service to say.
#[test]
fn a_service_decides_whether_a_body_is_to_come() {
    let old = Upstream::raw(|mut conn| {
        while let Some(mut asked) = conn.head() {
            assert_eq!(asked.get("expect"), Some("100-continue"));
            match asked.target() {
                "/refused" => {
                    conn.send("HTTP/1.1 401 X\r\ncontent-length: 2\r\n\r\nno");
                    assert!(conn.is_closed(), "not a byte of the body");
                    return;
                }
                "/wanted" => conn.send("HTTP/1.1 100 Continue\r\n\r\n"),
                "/at-once" => {
                    conn.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                    conn.body(&mut asked, false);
                    conn.send(format!("4\r\n{}\r\n0\r\n\r\n", asked.text()));
                    continue;
                }
                _ => true,
            };
            conn.body(&mut asked, false);
            conn.send(ok(&asked.text()));
        }
    });
    let new = Service::new(|asked, mut respond| async move {
        assert_eq!(asked.headers()["expect"], "100-continue");
        let path = asked.uri().path().to_owned();
        if path == "/refused" {
            let head = Response::builder().status(401).body(()).unwrap();
            let mut out = respond.send_response(head, false)?;
            return http2::send_all(&mut out, "no".into(), None).await;
        }
        if path == "/wanted" {
            respond.send_informational(Response::builder().status(100).body(()).unwrap())?;
        }
        if path == "/at-once" {
            let mut out = respond.send_response(Response::new(()), false)?;
            let (body, _) = http2::gather(asked.into_body()).await?;
            return http2::send_all(&mut out, body.into(), None).await;
        }
        let (body, _) = http2::gather(asked.into_body()).await?;
        let mut out = respond.send_response(Response::new(()), false)?;
        http2::send_all(&mut out, body.into(), None).await
    });
    let by_old = node(&old.address().to_string(), "", "");
    let by_new = node(&new.address().to_string(), ", protocol: http2", "");
    for weft in [&by_old, &by_new] {
        for path in ["/refused", "/wanted", "/silent", "/at-once"] {
            let mut conn = weft.connect("web");
            conn.send(format!(
                "PUT {path} HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
            ));
            let first = conn.head().unwrap();
            match path {
                "/refused" => assert_eq!(first.status(), 401),
                "/at-once" => {
                    // The answer has begun: nothing can come before it any more.
                    assert_eq!(first.status(), 200);
                    conn.send("body");
                    assert!(String::from_utf8_lossy(&conn.take(7)).contains("body"));
                }
                _ => {
                    assert_eq!(first.status(), 100, "{path}");
                    conn.send("body");
                    assert_eq!(conn.response().text(), "body", "{path}");
                }
            }
            http2::run(async {
                let client = Client::to(weft.address("web")).await;
                let asked = request("PUT", path).header("expect", "100-continue").body(()).unwrap();
                let (mut response, mut out) = client.begin(asked).await.unwrap();
                if matches!(path, "/wanted" | "/silent") {
                    let said =
                        poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
                    assert_eq!(said.status(), 100);
                }
                if path != "/refused" {
                    out.send_data("body".into(), true).unwrap();
                }
                let reply = http2::reply(response).await.unwrap();
                let expect = if path == "/refused" { (401, "no") } else { (200, "body") };
                assert_eq!((reply.status, reply.text().as_str()), expect, "{path}");
            });
        }
    }
}

/// Who finds no place among the connections waits for one, as long as its request may.
#[test]
fn a_full_pool_is_waited_for() {
    let slow = Duration::from_millis(30);
    let old = Upstream::answering(move |_| {
        std::thread::park_timeout(slow);
        ok("done")
    });
    let new = Service::new(move |_, mut respond| async move {
        tokio::time::sleep(slow).await;
        let mut out = respond.send_response(Response::new(()), false)?;
        http2::send_all(&mut out, "done".into(), None).await
    });
    let pool = ", pool: { connections_max: 1, streams_max: 1 }";
    let by_old = node(&old.address().to_string(), pool, ", timeout: 15s");
    let more = format!("{pool}, protocol: http2");
    let by_new = node(&new.address().to_string(), &more, ", timeout: 15s");
    for weft in [&by_old, &by_new] {
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..80 {
                scope.spawn(|| assert_eq!(weft.get("/", "").status(), 200));
            }
        });
        assert!(began.elapsed() > slow * 30, "they waited for each other");
    }
}

/// Who waits in vain is told so, and the service is not blamed for it.
#[test]
fn a_full_pool_is_waited_for_no_longer_than_the_request_may() {
    let (go, may_go) = mpsc::sync_channel::<()>(16);
    let may_go = Arc::new(std::sync::Mutex::new(may_go));
    let service = Upstream::answering(move |_| {
        let _ = may_go.lock().unwrap().recv_timeout(PATIENCE);
        ok("done")
    });
    let weft = node(
        &service.address().to_string(),
        ", pool: { connections_max: 1 }",
        ", timeout: 2s, retry: off",
    );
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..12).map(|_| scope.spawn(|| weft.get("/", "").status())).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    drop(go);
    let in_vain = statuses.iter().filter(|status| **status == 503).count();
    assert!(in_vain >= 10, "{statuses:?}");
    assert!(weft.wait_line("pool_exhausted").contains("\"status\":503"));
    assert_eq!(weft.metric("weft_service_ejections_total", &[]), 0.0);
}

/// By an upgrade to another HTTP a client would speak past the routes and policies.
#[test]
fn no_list_of_protocols_smuggles_http_past_the_routes() {
    let service = Upstream::raw(|mut conn| {
        while let Some(asked) = conn.head() {
            let to = if asked.target() == "/h2c" { "h2c" } else { "websocket" };
            let said = asked.get("upgrade").unwrap_or("-").to_owned();
            let settings = asked.get("http2-settings").unwrap_or("-").to_owned();
            if asked.target() == "/say" {
                conn.send(ok(&format!("{said} {settings}")));
                continue;
            }
            conn.send(format!("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: {to}\r\n\r\n"));
            let _ = conn.take(1);
        }
    });
    let weft = node(&service.address().to_string(), "", "");
    let key = "http2-settings: AAMAAABk\r\nsec-websocket-version: 13\r\n\
               sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (asked, passed) in [
        ("upgrade: h2c", "-"),
        ("upgrade: websocket, h2c", "websocket"),
        ("upgrade: h2c\r\nupgrade: websocket", "websocket"),
        ("upgrade: foo, h2c", "foo"),
        ("upgrade: TLS/1.0, HTTP/2.0", "-"),
    ] {
        for named in ["Upgrade", "Upgrade, HTTP2-Settings"] {
            let fields = format!("connection: {named}\r\n{asked}\r\n{key}");
            assert_eq!(weft.get("/say", &fields).text(), format!("{passed} -"), "{asked}");
            assert_eq!(weft.get("/h2c", &fields).status(), 502, "{asked}");
        }
    }
    let mut conn = weft.connect("web");
    conn.send(format!(
        "GET /ws HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: h2c, websocket\r\n{key}\r\n"
    ));
    let head = conn.head().unwrap();
    assert_eq!((head.status(), head.get("upgrade")), (101, Some("websocket")));
}

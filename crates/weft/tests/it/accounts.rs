//! What Weft tells of the traffic that it carried: lines, counts and names that must be true.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use weft_testkit::{
    Authority, Conn, Upstream, Weft, grpc,
    http2::{self, Client, Service, request},
    until,
    upstream::{ok, status},
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn node(listener: &str, services: &str, routes: &str) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web'{listener} }} }}
services:
{services}
routes:
{routes}
"
        ),
    )
}

const ALL: &str = "  - { name: all, to: it }";
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nhost: t\r\nupgrade: websocket\r\n\
    connection: upgrade\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A service that accepts an upgrade, takes three bytes and sends five, and then does what it is told.
fn chatting(then: impl Fn(Conn) + Send + Sync + 'static) -> Upstream {
    Upstream::raw(move |mut conn| {
        let Some(request) = conn.request() else { return };
        let key = request.get("sec-websocket-key").unwrap_or_default().to_owned();
        let digest = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
            format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
        );
        let accept = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest);
        conn.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        ));
        if conn.take(3).len() == 3 && conn.send("hello") {
            then(conn);
        }
    })
}

/// Opens a tunnel through which three bytes have gone and five have come.
fn open_tunnel(weft: &Weft) -> Conn {
    let mut conn = weft.connect("web");
    conn.send(UPGRADE);
    assert_eq!(conn.head().unwrap().status(), 101);
    conn.send("abc");
    assert_eq!(conn.take(5), b"hello");
    conn
}

const LABEL: &[&str] = &["weft_service=\"it\""];
const ROUTE: &[&str] = &["http_route=\"all\""];

#[test]
fn a_tunnel_is_in_progress_until_it_ends_and_told_of_then() {
    let service = chatting(|mut conn| drop(conn.rest()));
    let weft =
        node("", &format!("  it: {{ endpoints: '{}', bulkhead: 1 }}", service.address()), ALL);
    let mut conn = open_tunnel(&weft);
    assert_eq!(weft.metric("http_client_active_requests", LABEL), 1.0);
    assert_eq!(weft.metric("http_server_active_requests", ROUTE), 1.0);
    assert_eq!(weft.metric("weft_endpoint_active_requests", LABEL), 1.0);
    assert!(weft.find("/chat").is_none(), "no line before the end");
    // It keeps its place in the bulkhead, which has no queue.
    assert_eq!(weft.get("/second", "").status(), 503);

    conn.finish();
    assert!(conn.rest().is_empty());
    let line = weft.wait_line("/chat");
    for part in ["\"status\":101", "\"bytes_in\":3", "\"bytes_out\":5", "\"service\":\"it\""] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains("\"reason\""), "both sides were done: {line}");
    until("the place is free", || {
        (weft.metric("http_client_active_requests", LABEL) == 0.0).then_some(())
    });
    assert_eq!(weft.metric("http_server_active_requests", ROUTE), 0.0);
    for (name, labels, count) in [
        ("weft_service_request_bytes_total", LABEL, 3.0),
        ("weft_service_response_bytes_total", LABEL, 5.0),
        ("weft_route_request_bytes_total", ROUTE, 3.0),
        ("weft_listener_received_bytes_total", &["listener=\"web\""], 3.0),
        ("weft_listener_sent_bytes_total", &["listener=\"web\""], 5.0),
    ] {
        assert_eq!(weft.metric(name, labels), count, "{name}");
    }
    drop(open_tunnel(&weft));
}

#[test]
fn the_end_of_a_tunnel_has_a_reason() {
    // The service goes away rudely, the client does, neither says a word, the drain is over.
    let service = chatting(|conn| conn.reset());
    let weft = node("", &format!("  it: {{ endpoints: '{}' }}", service.address()), ALL);
    let mut conn = open_tunnel(&weft);
    conn.rest();
    assert!(weft.wait_line("/chat").contains("\"reason\":\"upstream_incomplete\""));

    let service = chatting(|mut conn| drop(conn.rest()));
    let services = format!("  it: {{ endpoints: '{}' }}", service.address());
    let weft = node("", &services, ALL);
    open_tunnel(&weft).reset();
    assert!(weft.wait_line("/chat").contains("\"reason\":\"caller_gone\""));

    let weft = node("", &services, "  - { name: all, to: it, timeout: { idle: 300ms } }");
    assert!(open_tunnel(&weft).rest().is_empty());
    let line = weft.wait_line("/chat");
    assert!(line.contains("\"reason\":\"stream_idle\""), "{line}");
    assert!(line.contains("\"bytes_out\":5"), "{line}");
    assert_eq!(weft.metric("weft_service_ejections_total", LABEL), 0.0);
}

#[test]
fn a_tunnel_that_outlasts_the_drain_is_cut_and_told_of() {
    let service = chatting(|mut conn| drop(conn.rest()));
    let mut weft = Weft::with(
        BIN,
        &format!(
            "admin: off
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
        &["--drain", "300ms"],
    );
    let mut conn = open_tunnel(&weft);
    weft.terminate();
    conn.rest();
    let line = weft.wait_line("/chat");
    assert!(line.contains("\"reason\":\"draining\"") && line.contains("\"bytes_in\":3"), "{line}");
    assert!(weft.wait().success());
}

#[test]
fn a_request_that_outlasts_the_drain_is_told_as_cut() {
    let service = Upstream::raw(|mut conn| {
        conn.request();
        conn.rest();
    });
    let mut weft = Weft::with(
        BIN,
        &format!(
            "admin: off
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
        &["--drain", "300ms"],
    );
    let mut conn = weft.connect("web");
    conn.send("GET /held HTTP/1.1\r\nhost: t\r\n\r\n");
    until("the service was asked", || (service.connections() == 1).then_some(()));
    weft.terminate();
    conn.rest();
    let line = weft.wait_line("/held");
    assert!(line.contains("\"reason\":\"draining\""), "{line}");
    assert!(weft.wait().success());
}

#[test]
fn a_tunnel_over_http2_is_told_of_at_its_end() {
    let service = chatting(|mut conn| drop(conn.rest()));
    let weft = node("", &format!("  it: {{ endpoints: '{}' }}", service.address()), ALL);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let mut head = request("CONNECT", "/chat").body(()).unwrap();
        head.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (response, mut out) = client.begin(head).await.unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        http2::send(&mut out, "abc".into()).await.unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), "hello");
        assert_eq!(weft.metric("http_client_active_requests", LABEL), 1.0);
        assert!(weft.find("/chat").is_none());
        out.send_data(bytes::Bytes::new(), true).unwrap();
        while let Some(rest) = body.data().await {
            assert!(rest.unwrap().is_empty());
        }
    });
    let line = weft.wait_line("/chat");
    for part in ["\"protocol\":\"HTTP/2\"", "\"method\":\"CONNECT\"", "\"bytes_in\":3"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(line.contains("\"bytes_out\":5") && !line.contains("\"reason\""), "{line}");
}

#[test]
fn a_raw_connection_has_a_line_too() {
    let service = Upstream::raw(|mut conn| {
        let all = conn.rest();
        conn.send([&all[..], &all[..]].concat());
    });
    let gone = Upstream::nowhere();
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners:
  raw: {{ address: '@raw', protocol: tcp, to: it }}
  lost: {{ address: '@lost', protocol: tcp, to: gone }}
services: {{ it: {{ endpoints: '{}' }}, gone: {{ endpoints: '{}' }} }}
",
            service.address(),
            gone.address()
        ),
    );
    let mut conn = weft.connect("raw");
    let from = conn.stream().local_addr().unwrap();
    conn.send("abc");
    conn.finish();
    assert_eq!(conn.rest(), b"abcabc");
    let line = weft.wait_line("\"listener\":\"raw\"");
    for part in [
        "\"protocol\":\"TCP\"",
        "\"bytes_in\":3",
        "\"bytes_out\":6",
        "\"service\":\"it\"",
        &format!("\"client\":\"{from}\""),
        &format!("\"endpoint\":\"{}\"", service.address()),
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(weft.metric("weft_service_response_bytes_total", LABEL), 6.0);

    assert!(weft.connect("lost").rest().is_empty());
    let line = weft.wait_line("\"listener\":\"lost\"");
    assert!(line.contains("\"reason\":\"connect_refused\""), "{line}");
}

#[test]
fn services_count_methods_bytes_and_the_openings_of_their_breaker() {
    let service = Upstream::answering(|request| match request.target() {
        "/bad" => status(500),
        _ => ok("12345"),
    });
    let weft = node(
        "",
        &format!(
            "  it: {{ endpoints: '{}', ejection: off,
        breaker: {{ calls: 4, calls_min: 4, open: 20s }} }}",
            service.address()
        ),
        "  - { name: all, to: it, retry: off }",
    );
    let post = "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\n\r\nabc";
    for _ in 0..2 {
        assert_eq!(weft.ask(post).status(), 200);
        assert_eq!(weft.get("/", "").status(), 200);
    }
    let duration = "http_client_request_duration_seconds_count";
    assert_eq!(weft.metric(duration, &["http_request_method=\"POST\""]), 2.0);
    assert_eq!(weft.metric(duration, &["http_request_method=\"GET\""]), 2.0);
    assert_eq!(weft.metric(duration, &["_OTHER"]), 0.0);
    assert_eq!(weft.metric("weft_service_request_bytes_total", LABEL), 6.0);
    assert_eq!(weft.metric("weft_service_response_bytes_total", LABEL), 20.0);
    assert_eq!(weft.metric("weft_service_breaker_opens_total", LABEL), 0.0);
    for _ in 0..4 {
        weft.get("/bad", "");
    }
    assert_eq!(weft.get("/", "").status(), 503);
    assert_eq!(weft.metric("weft_service_breaker_opens_total", LABEL), 1.0);
    weft.wait_line("service breaker opened");
}

#[test]
fn a_request_in_progress_is_counted_at_its_service() {
    let (send, receive) = std::sync::mpsc::sync_channel::<()>(1);
    let receive = std::sync::Mutex::new(receive);
    let service = Upstream::answering(move |_| {
        receive.lock().unwrap().recv().ok();
        ok("late")
    });
    let weft = node("", &format!("  it: {{ endpoints: '{}' }}", service.address()), ALL);
    let mut conn = weft.connect("web");
    conn.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    weft.wait_metric("http_client_active_requests", LABEL, 1.0);
    send.send(()).unwrap();
    assert_eq!(conn.response().text(), "late");
    until("nothing is in progress", || {
        (weft.metric("http_client_active_requests", LABEL) == 0.0).then_some(())
    });
}

#[test]
fn what_is_refused_before_it_is_routed_has_a_client_an_id_and_a_trace() {
    let weft = node(", trusted_proxies: 127.0.0.0/8", "  it: { endpoints: '127.0.0.1:9' }", ALL);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let response = weft.ask(format!(
        "GET /a%2fb HTTP/1.1\r\nhost: t\r\nx-forwarded-for: 192.0.2.9\r\nx-request-id: mine\r\n\
         traceparent: 00-{trace}-b7ad6b7169203331-01\r\n\r\n"
    ));
    assert_eq!((response.status(), response.get("x-request-id")), (400, Some("mine")));
    let line = weft.wait_line("unsafe_path");
    for part in ["\"client\":\"192.0.2.9:0\"", "\"request_id\":\"mine\"", trace, "/a%2fb"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    // In the caller's protocol.
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let call = grpc::call("/a%2fb").body(grpc::message("x").to_vec()).unwrap();
        let reply = client.ask(call).await.unwrap();
        assert_eq!((reply.status, reply.get("grpc-status")), (200, "3"), "{reply:?}");
    });
}

#[test]
fn what_is_no_request_at_all_is_told_of_with_an_id() {
    let weft = node("", "  it: { endpoints: '127.0.0.1:9' }", ALL);
    let mut conn = weft.connect("web");
    let from = conn.stream().local_addr().unwrap();
    let response = conn.ask("GET / HTTP/1.1\r\nhost: t\r\nbroken line\r\n\r\n");
    assert_eq!(response.status(), 400);
    let id = response.get("x-request-id").unwrap().to_owned();
    assert!(response.text().contains(&id), "{}", response.text());
    let line = weft.wait_line(&id);
    for part in ["\"reason\":\"malformed_request\"", "\"status\":400", &from.to_string()] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn services_hear_of_client_certificates_only_from_weft_and_only_if_asked() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("here");
    authority.write(folder.path(), "ca");
    authority.issue(&["shop.test"]).write(folder.path(), "shop");
    let own = authority.issue(&["caller.test", "other.test"]);
    let at = folder.path().display();
    let service =
        Upstream::answering(|request| ok(&request.all("x-forwarded-client-cert").join("|")));
    let listener = |name: &str, forward: bool| {
        format!(
            "  {name}:
    address: '@{name}'
    tls:
      certificates: [{{ cert: '{at}/shop.crt', key: '{at}/shop.key' }}]
      client_auth: {{ ca: '{at}/ca.crt', mode: optional, forward: {forward} }}
"
        )
    };
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
listeners:
{}{}  plain: {{ address: '@plain', trusted_proxies: 127.0.0.0/8 }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
            listener("told", true),
            listener("untold", false),
            service.address()
        ),
    );
    let forged = "GET / HTTP/1.1\r\nhost: t\r\nx-forwarded-client-cert: Hash=forged\r\n\
         X-FORWARDED-CLIENT-CERT: By=me\r\n\r\n";
    let shows = authority.client_of(rustls::ALL_VERSIONS, &["http/1.1"], Some(&own));
    let mute = authority.client(&["http/1.1"]);
    let mut conn = Conn::secure(weft.address("told"), "shop.test", &shows).unwrap();
    for _ in 0..2 {
        let told = conn.ask(forged).text();
        let hash = told.strip_prefix("Hash=").unwrap_or_default().get(..64).unwrap_or_default();
        assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()) && hash.len() == 64, "{told}");
        assert!(told.contains(";Subject=\""), "{told}");
        assert!(told.ends_with(";DNS=caller.test;DNS=other.test"), "{told}");
    }
    for (listener, tls) in [("told", &mute), ("untold", &shows), ("untold", &mute)] {
        let mut conn = Conn::secure(weft.address(listener), "shop.test", tls).unwrap();
        assert_eq!(conn.ask(forged).text(), "", "{listener}");
    }
    assert_eq!(weft.connect("plain").ask(forged).text(), "", "nor from a trusted proxy");
}

#[test]
fn the_first_good_answer_wins_and_hedges_go_on_until_their_number() {
    // The first two endpoints that are asked are slow, one of them to fail; the third is quick.
    let turn = Arc::new(AtomicUsize::new(0));
    let one = || {
        let turn = turn.clone();
        Upstream::answering(move |_| match turn.fetch_add(1, Ordering::AcqRel) {
            0 => {
                std::thread::park_timeout(std::time::Duration::from_secs(3));
                ok("late")
            }
            1 => status(503),
            _ => ok("third"),
        })
    };
    let services = [one(), one(), one()];
    let endpoints: Vec<_> =
        services.iter().map(|service| format!("'{}'", service.address())).collect();
    let weft = node(
        "",
        &format!("  it: {{ endpoints: [{}], ejection: off }}", endpoints.join(", ")),
        "  - { name: all, to: it, retry: off, hedge: { delay: 50ms, max: 2, budget: 100% } }",
    );
    // Two requests have earned two hedges once the next begins: these are answered at once.
    turn.store(2, Ordering::Release);
    for _ in 0..4 {
        assert_eq!(weft.get("/", "").text(), "third");
    }
    // On a busy machine one of them may have been hedged too.
    let before = weft.metric("weft_service_hedges_total", LABEL);
    turn.store(0, Ordering::Release);
    let response = weft.get("/", "");
    assert_eq!((response.status(), response.text()), (200, "third".to_owned()));
    assert_eq!(weft.metric("weft_service_hedges_total", LABEL), before + 2.0);
    until("those that lost are counted out", || {
        (weft.metric("http_client_active_requests", LABEL) == 0.0).then_some(())
    });
}

#[test]
fn if_no_answer_is_good_what_a_service_said_is_passed_on() {
    let turn = AtomicUsize::new(0);
    let service = Upstream::answering(move |_| {
        if turn.fetch_add(1, Ordering::AcqRel) == 0 {
            std::thread::park_timeout(std::time::Duration::from_millis(300));
            return String::new();
        }
        status(503)
    });
    let other = service.address();
    let weft = node(
        "",
        &format!("  it: {{ endpoints: ['{other}', 'localhost:{}'], ejection: off }}", other.port()),
        "  - { name: all, to: it, retry: off, hedge: { delay: 50ms, budget: 100% } }",
    );
    // A hedge needs both endpoints to be known.
    weft.wait_line("endpoints changed");
    // The first breaks off after its hedge was told 503: that is the better word.
    assert_eq!(weft.get("/", "").status(), 503);
}

#[test]
fn grpc_to_a_service_of_http1_is_refused_in_words() {
    let service = Upstream::saying("never");
    let weft =
        node("", &format!("  it: {{ endpoints: '{}', protocol: http1 }}", service.address()), ALL);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let call = grpc::call("/it/Do").body(grpc::message("x").to_vec()).unwrap();
        let reply = client.ask(call).await.unwrap();
        assert_eq!((reply.status, reply.get("grpc-status")), (200, "13"), "{reply:?}");
        assert!(reply.get("grpc-message").contains("HTTP/2"), "{reply:?}");
    });
    assert!(service.seen().is_empty());
    assert_eq!(weft.get("/plain", "").text(), "never", "all else goes on");
    assert!(weft.wait_line("/it/Do").contains("\"reason\":\"misconfigured\""));

    // A service of which it is not known until it is asked.
    let weft = node("", &format!("  it: {{ endpoints: '{}' }}", service.address()), ALL);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let call = grpc::call("/it/Do").body(grpc::message("x").to_vec()).unwrap();
        let reply = client.ask(call).await.unwrap();
        assert_eq!((reply.status, reply.get("grpc-status")), (200, "14"), "{reply:?}");
    });
}

#[test]
fn grpc_web_that_is_not_translated_may_go_by_http1() {
    let service = Upstream::saying("spoken");
    let weft = node(
        ", grpc_web: false",
        &format!("  it: {{ endpoints: '{}', protocol: http1 }}", service.address()),
        ALL,
    );
    let call = "POST /it/Do HTTP/1.1\r\nhost: t\r\ncontent-type: application/grpc-web+proto\r\n\
         content-length: 1\r\n\r\nx";
    assert_eq!(weft.ask(call).text(), "spoken");
}

#[test]
fn two_ways_to_trust_proxies_are_refused_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weft.yaml");
    std::fs::write(
        &path,
        "listeners: { web: { address: '127.0.0.1:0', trusted_hops: 1, trusted_proxies: 10.0.0.0/8 } }\n",
    )
    .unwrap();
    let run =
        std::process::Command::new(BIN).args(["check", "--config"]).arg(&path).output().unwrap();
    let said =
        String::from_utf8_lossy(&run.stderr).into_owned() + &String::from_utf8_lossy(&run.stdout);
    assert!(!run.status.success(), "{said}");
    assert!(said.contains("two ways to say who is believed"), "{said}");
}

#[test]
fn callers_in_a_closed_loop_are_not_shed_by_default() {
    let service = Service::echoing();
    let weft =
        node("", &format!("  it: {{ endpoints: '{}', protocol: http2 }}", service.address()), ALL);
    http2::run(async {
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(Arc::new(Client::to(weft.address("web")).await));
        }
        let callers: Vec<_> = (0..128)
            .map(|number| {
                let client = clients[number % clients.len()].clone();
                http2::beside(async move {
                    for _ in 0..20 {
                        let call = grpc::call("/it/Do").body(grpc::message("x").to_vec()).unwrap();
                        assert_eq!(client.ask(call).await.unwrap().status, 200);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    });
    assert_eq!(weft.metric("weft_service_shed_total", LABEL), 0.0);
    assert_eq!(weft.metric("http_client_request_duration_seconds_count", LABEL), 2_560.0);
}

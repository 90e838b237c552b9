//! HTTP/1.1 through the real binary, byte by byte on both sides.

use weft_testkit::{Conn, HttpMessage, Upstream, Weft, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// A node with one service behind every path.
fn before(service: &Upstream) -> Weft {
    Weft::start(
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
    )
}

#[test]
fn bodies_pass_both_ways_in_either_framing() {
    let service = Upstream::answering(|request| {
        let mut response =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len())
                .into_bytes();
        response.extend_from_slice(&request.body);
        response
    });
    let weft = before(&service);
    for size in [0, 1, 100, 65_535, 1_000_003] {
        let body: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let mut request =
            format!("POST /a HTTP/1.1\r\nhost: t\r\ncontent-length: {size}\r\n\r\n").into_bytes();
        request.extend_from_slice(&body);
        let response = weft.ask(&request);
        assert_eq!(response.status(), 200);
        assert!(response.body == body, "a body of {size} by length");

        let mut request =
            b"POST /a HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in body.chunks(7_919) {
            request.extend_from_slice(format!("{:x};ignored=1\r\n", chunk.len()).as_bytes());
            request.extend_from_slice(chunk);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        let response = weft.ask(&request);
        assert_eq!(response.status(), 200);
        assert!(response.body == body, "a body of {size} by chunks");
    }
}

#[test]
fn chunks_and_trailers_pass_in_both_directions() {
    let service = Upstream::answering(|_| {
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
         3\r\nabc\r\n4\r\ndefg\r\n0\r\nx-sum: 7\r\n\r\n"
    });
    let weft = before(&service);
    let response = weft.ask(
        "POST / HTTP/1.1\r\nhost: t\r\nte: trailers\r\nconnection: te\r\n\
         transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-mine: 1\r\n\r\n",
    );
    assert_eq!(response.text(), "abcdefg");
    assert!(response.complete);
    assert_eq!(response.trailer("x-sum"), Some("7"), "{response:?}");
    let seen = &service.wait_seen(1)[0];
    assert_eq!(seen.text(), "hi");
    assert_eq!(seen.trailer("x-mine"), Some("1"), "{seen:?}");
}

#[test]
fn a_client_that_expects_continue_gets_it_before_its_body() {
    let service = Upstream::answering(|request| ok(&request.text()));
    let weft = before(&service);
    let mut conn = weft.connect("web");
    conn.send("PUT / HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    let interim = conn.head().unwrap();
    assert_eq!(interim.status(), 100);
    conn.send("body");
    assert_eq!(conn.response().text(), "body");
    assert_eq!(conn.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n").status(), 200, "it is kept");
}

#[test]
fn head_has_the_length_and_no_body() {
    let service = Upstream::answering(|request| match request.method() {
        "HEAD" => "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n".to_owned(),
        _ => ok("after"),
    });
    let weft = before(&service);
    let mut conn = weft.connect("web");
    conn.send("HEAD / HTTP/1.1\r\nhost: t\r\n\r\n");
    let head = conn.head().unwrap();
    assert_eq!((head.status(), head.get("content-length")), (200, Some("1234")));
    assert_eq!(conn.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n").text(), "after");
    let connections = service.connections();
    assert_eq!(connections, 1, "the service's connection is kept after HEAD");
}

#[test]
fn statuses_without_a_body_do_not_wait_for_one() {
    let service = Upstream::answering(|request| {
        format!("HTTP/1.1 {} X\r\netag: \"e\"\r\n\r\n", &request.target()[1..])
    });
    let weft = before(&service);
    let mut conn = weft.connect("web");
    for status in [204, 304] {
        let response = conn.ask(format!("GET /{status} HTTP/1.1\r\nhost: t\r\n\r\n"));
        assert_eq!(response.status(), status);
        assert_eq!(response.get("transfer-encoding"), None);
        assert_eq!(response.get("etag"), Some("\"e\""));
    }
}

#[test]
fn early_hints_come_before_the_response() {
    let service = Upstream::answering(|_| {
        format!("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n{}", ok("done"))
    });
    let weft = before(&service);
    let mut conn = weft.connect("web");
    conn.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    let hints = conn.head().unwrap();
    assert_eq!((hints.status(), hints.get("link")), (103, Some("</a.css>")));
    assert_eq!(conn.response().text(), "done");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let service = Upstream::answering(|request| ok(request.target()));
    let weft = before(&service);
    let mut conn = weft.connect("web");
    let all: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: t\r\n\r\n")).collect();
    conn.send(all);
    for n in 0..50 {
        assert_eq!(conn.response().text(), format!("/{n}"));
    }
}

#[test]
fn connections_are_kept_and_closed_as_asked() {
    let service = Upstream::saying("x");
    let weft = before(&service);
    let mut conn = weft.connect("web");
    for _ in 0..3 {
        let response = conn.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
        assert_eq!(response.get("connection"), None);
    }
    let last = conn.ask("GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
    assert_eq!(last.get("connection"), Some("close"));
    assert!(conn.is_closed());
    assert!(service.connections() <= 2, "connections to services are kept too");
}

#[test]
fn old_clients_get_bodies_that_they_can_read() {
    let service = Upstream::answering(|request| match request.target() {
        "/chunked" => {
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".into()
        }
        _ => ok("plain"),
    });
    let weft = before(&service);
    let mut conn = weft.connect("web");
    let response = conn.ask("GET /chunked HTTP/1.0\r\nhost: t\r\n\r\n");
    assert_eq!(response.get("transfer-encoding"), None);
    assert_eq!(response.text(), "abc");
    assert!(conn.is_closed());

    let mut conn = weft.connect("web");
    for _ in 0..2 {
        let kept = conn.ask("GET / HTTP/1.0\r\nhost: t\r\nconnection: keep-alive\r\n\r\n");
        assert_eq!(kept.text(), "plain");
        assert!(kept.get("connection").is_some_and(|said| said.contains("keep-alive")), "{kept:?}");
    }
}

#[test]
fn what_belongs_to_a_connection_stays_there() {
    let service = Upstream::answering(|_| {
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: x-private, keep-alive\r\n\
         keep-alive: timeout=5\r\nx-private: 1\r\nproxy-authenticate: Basic\r\nx-public: 2\r\n\r\n"
    });
    let weft = before(&service);
    let response = weft.get(
        "/",
        "connection: keep-alive, x-secret\r\nkeep-alive: 9\r\nx-secret: 1\r\nte: trailers\r\n\
         proxy-connection: keep-alive\r\nx-mine: 3\r\n",
    );
    assert_eq!(response.get("x-public"), Some("2"));
    for name in ["x-private", "keep-alive", "connection"] {
        assert_eq!(response.get(name), None, "{name}");
    }
    let seen = &service.wait_seen(1)[0];
    assert_eq!(seen.get("x-mine"), Some("3"));
    for name in ["x-secret", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(seen.get(name), None, "{name} in {seen:?}");
    }
}

#[test]
fn the_service_learns_who_asked_and_by_which_way() {
    let service = Upstream::saying("x");
    let weft = before(&service);
    weft.get(
        "/",
        "x-forwarded-for: 6.6.6.6\r\nx-forwarded-proto: https\r\nx-forwarded-host: evil\r\n\
         forwarded: for=6.6.6.6\r\n",
    );
    let seen = service.wait_seen(1).remove(0);
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"], "nobody in front is trusted");
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.all("x-forwarded-host"), ["test"]);
    assert_eq!(seen.all("forwarded"), [""; 0]);
    assert_eq!(seen.all("via"), ["1.1 weft"]);
    assert_eq!(seen.all("host"), ["test"]);
}

#[test]
fn trusted_proxies_are_believed() {
    let service = Upstream::saying("x");
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web', trusted_hops: 1 }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
    );
    weft.get("/", "x-forwarded-for: 6.6.6.6, 203.0.113.9\r\nx-forwarded-proto: https\r\n");
    let seen = service.wait_seen(1).remove(0);
    assert_eq!(seen.all("x-forwarded-for"), ["6.6.6.6, 203.0.113.9, 127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
    let line = weft.wait_line("203.0.113.9");
    assert!(!line.contains("\"6.6.6.6"), "the client is the last that a trusted proxy saw: {line}");
}

#[test]
fn ids_and_traces_go_on_or_begin() {
    let service = Upstream::saying("x");
    let weft = before(&service);
    weft.get(
        "/",
        "x-request-id: mine-1\r\n\
         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
         tracestate: a=b\r\n",
    );
    weft.get("/", "");
    let [one, two] = &service.wait_seen(2)[..] else { panic!("two requests") };
    assert_eq!(one.all("x-request-id"), ["mine-1"]);
    let parent = one.get("traceparent").unwrap();
    assert!(parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{parent}");
    assert!(!parent.contains("00f067aa0ba902b7"), "the service's parent is Weft's span: {parent}");
    assert_eq!(one.get("tracestate"), Some("a=b"));
    assert!(two.get("x-request-id").is_some_and(|id| id.len() >= 16), "{two:?}");
    assert_eq!(two.get("traceparent").map(str::len), Some(55), "{two:?}");
    assert!(weft.wait_line("mine-1").contains("4bf92f3577b34da6a3ce929d0e0e4736"));
}

#[test]
fn a_response_without_length_ends_with_its_connection() {
    let service = Upstream::raw(|mut conn: Conn| {
        if conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\nuntil the end");
        }
    });
    let weft = before(&service);
    let mut conn = weft.connect("web");
    for _ in 0..2 {
        let response: HttpMessage = conn.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
        assert_eq!(response.text(), "until the end");
        assert_eq!(response.get("transfer-encoding"), Some("chunked"));
        assert!(response.complete);
    }
}

#[test]
fn a_response_may_have_as_many_fields_as_its_bytes_allow() {
    let service = Upstream::answering(|request| {
        let count: usize = request.get("x-count").unwrap().parse().unwrap();
        let fields: String = (0..count).map(|at| format!("x-{at}: v\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{fields}\r\nok")
    });
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}', protocol: http1 }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
    );
    for count in [99, 101, 300, 3000] {
        let response = weft.get("/", &format!("x-count: {count}\r\n"));
        assert_eq!((response.status(), response.text()), (200, "ok".to_owned()), "{count}");
        assert_eq!(response.get(&format!("x-{}", count - 1)), Some("v"));
    }
    assert_eq!(weft.get("/", "x-count: 8000\r\n").status(), 502);
}

/// Who cannot send another request on its connection is told so.
#[test]
fn a_connection_that_will_be_closed_is_said_to_close() {
    let service = Upstream::raw(|mut conn| {
        while conn.head().is_some() {
            conn.send("HTTP/1.1 401 E\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes:
  - {{ name: own, match: /own, respond: {{ status: 403 }} }}
  - {{ name: all, match: /*, to: it }}
",
            service.address()
        ),
    );
    for (path, fields, closes) in [
        ("/", "expect: 100-continue\r\ncontent-length: 9\r\n", true),
        ("/", "expect: 100-continue\r\ntransfer-encoding: chunked\r\n", true),
        ("/own", "expect: 100-continue\r\ncontent-length: 9\r\n", true),
        ("/own", "content-length: 99999999\r\n", true),
        ("/own", "content-length: 0\r\n", false),
    ] {
        let mut conn = weft.connect("web");
        conn.send(format!("POST {path} HTTP/1.1\r\nhost: t\r\n{fields}\r\n"));
        let response = conn.response();
        assert_eq!(response.get("connection"), closes.then_some("close"), "{path} {fields}");
        if !closes {
            assert_eq!(conn.ask("GET /own HTTP/1.1\r\nhost: t\r\n\r\n").status(), 403);
        }
    }
    // Who has begun to send all the same is read to its end, and goes on.
    let mut conn = weft.connect("web");
    conn.send(
        "POST /own HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nab",
    );
    assert_eq!(conn.response().get("connection"), None);
    assert_eq!(conn.ask("GET /own HTTP/1.1\r\nhost: t\r\n\r\n").status(), 403);
}

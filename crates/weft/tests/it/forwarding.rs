//! What a service is told of the way that a request came, and what a client is told by Weft itself.

use weft_testkit::{
    HttpMessage, Upstream, Weft,
    http2::{self, Client, request},
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn node(listener: &str, service: &Upstream, route: &str) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: off
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web'{listener} }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: it, match: /*, to: it{route} }}]
",
            service.address()
        ),
    )
}

fn told(weft: &Weft, service: &Upstream, fields: &str) -> HttpMessage {
    let before = service.seen().len();
    assert_eq!(weft.get("/", fields).status(), 200);
    service.wait_seen(before + 1).pop().unwrap()
}

#[test]
fn what_a_trusted_proxy_says_by_forwarded_is_told_to_the_service() {
    let service = Upstream::saying("ok");
    let weft = node(", trusted_proxies: [127.0.0.1/32, 10.0.0.0/8]", &service, "");
    let seen = told(
        &weft,
        &service,
        "forwarded: for=6.6.6.6, for=1.2.3.4;proto=https;host=\"shop.example:8443\", for=10.0.0.9;proto=http\r\n",
    );
    assert_eq!(seen.get("x-forwarded-for"), Some("1.2.3.4, 10.0.0.9, 127.0.0.1"));
    assert_eq!(seen.get("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.get("x-forwarded-host"), Some("shop.example:8443"));
    assert_eq!(seen.get("forwarded"), None);
    assert!(weft.wait_line("1.2.3.4").contains("\"client\":\"1.2.3.4"));
    // What is trusted by X-Forwarded-For is so as before, and Forwarded beside it is not looked at.
    let seen =
        told(&weft, &service, "x-forwarded-for: 5.5.5.5\r\nforwarded: for=1.2.3.4;proto=https\r\n");
    assert_eq!(seen.get("x-forwarded-for"), Some("5.5.5.5, 127.0.0.1"));
    assert_eq!(seen.get("x-forwarded-proto"), Some("http"));
}

const WAY: &str = "x-forwarded-prefix: /p\r\nx-forwarded-port: 1\r\nx-forwarded-server: s\r\n\
x-forwarded-ssl: on\r\nx-real-ip: 6.6.6.6\r\nforwarded: for=6.6.6.6;proto=https;host=h\r\n\
x-forwarded-proto: https\r\nx-forwarded-host: h\r\nx-forwarded-for: 6.6.6.6\r\n";

#[test]
fn what_strangers_say_of_their_way_does_not_pass() {
    let service = Upstream::saying("ok");
    let names = [
        "x-forwarded-prefix",
        "x-forwarded-port",
        "x-forwarded-server",
        "x-forwarded-ssl",
        "x-real-ip",
    ];
    for (listener, trusted) in [
        ("", false),
        (", trusted_proxies: 10.0.0.0/8", false),
        (", trusted_proxies: 127.0.0.1/32", true),
    ] {
        let weft = node(listener, &service, "");
        let seen = told(&weft, &service, WAY);
        for name in names {
            assert_eq!(seen.get(name).is_some(), trusted, "{listener} {name}");
        }
        assert_eq!(seen.get("x-forwarded-for").unwrap().contains("6.6.6.6"), trusted);
        assert_eq!(seen.get("x-forwarded-proto") == Some("https"), trusted);
    }
}

#[test]
fn a_trace_is_joined_by_the_rules_of_its_specification() {
    let service = Upstream::saying("ok");
    let weft = node("", &service, "");
    let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let joins = |fields: String, joined: bool, states: &[&str]| {
        let seen = told(&weft, &service, &fields);
        let context = seen.get("traceparent").unwrap();
        assert_eq!(context.contains("0af7651916cd43dd8448eb211c80319c"), joined, "{fields}");
        let got = seen.all("tracestate");
        assert_eq!(got, states, "{fields}");
    };
    joins(format!("{parent}tracestate: foo=1,bar=2\r\n"), true, &["foo=1,bar=2"]);
    joins(format!("{parent}tracestate: foo=1\r\ntracestate: bar=2\r\n"), true, &["foo=1", "bar=2"]);
    joins(format!("{parent}{parent}tracestate: foo=1\r\n"), false, &[]);
    joins("tracestate: foo=1\r\n".into(), false, &[]);
    joins("traceparent: 00-xyz-1-01\r\ntracestate: foo=1\r\n".into(), false, &[]);
    joins(format!("{parent}tracestate: foo =1\r\n"), true, &[]);
    joins(format!("{parent}tracestate: foo@=1,bar=2\r\n"), true, &[]);
    joins(format!("{parent}tracestate: {}\r\n", vec!["a=1"; 33].join(",")), true, &[]);
    joins(format!("{parent}tracestate: foo=1\r\ntracestate: bad\r\n"), true, &[]);
}

#[test]
fn the_dot_of_the_root_names_the_same_host() {
    let service = Upstream::saying("ok");
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes:
  - {{ name: shop, match: {{ host: shop.example }}, respond: {{ body: shop }} }}
  - {{ name: dot, match: {{ host: dot.example. }}, respond: {{ body: dot }} }}
  - {{ name: any, match: {{ host: '*.wild.example' }}, respond: {{ body: wild }} }}
  - {{ name: rest, match: /*, respond: {{ body: rest }} }}
",
            service.address()
        ),
    );
    for (host, body) in [
        ("shop.example", "shop"),
        ("shop.example.", "shop"),
        ("Shop.Example.:80", "shop"),
        ("dot.example", "dot"),
        ("dot.example.", "dot"),
        ("a.wild.example.", "wild"),
        ("other.example.", "rest"),
        ("shop.example..", "rest"),
    ] {
        let response = weft.ask(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        assert_eq!(response.text(), body, "{host}");
    }
}

#[test]
fn changes_to_responses_hold_for_the_answers_of_weft_too() {
    let service =
        Upstream::answering(
            |request| if request.target() == "/" { ok("ok") } else { String::new() },
        );
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
listeners: {{ web: {{ address: '@web' }} }}
policies: {{ own: {{ headers: {{ response: {{ set: {{ x-own: 'yes' }}, remove: server, add: {{ x-more: [a, b] }} }} }} }} }}
services:
  it: {{ endpoints: '{}' }}
  gone: {{ endpoints: '@nowhere' }}
routes:
  - {{ name: served, match: /, policies: own, to: it }}
  - {{ name: fixed, match: /fixed, policies: own, respond: {{ body: fixed, headers: {{ x-own: no }} }} }}
  - {{ name: moved, match: /moved, policies: own, redirect: {{ path: /there }} }}
  - {{ name: gone, match: /gone, policies: own, to: gone }}
  - {{ name: large, match: /large, policies: own, to: it, body_max: 1KiB }}
  - {{ name: fault, match: /fault, policies: own, to: it, fault: {{ abort: 418 }} }}
  - {{ name: fallen, match: /fallen, policies: own, to: gone, fallback: {{ respond: {{ body: instead }} }} }}
",
            service.address()
        ),
    );
    for (path, fields, status) in [
        ("/", "", 200),
        ("/fixed", "", 200),
        ("/moved", "", 302),
        ("/gone", "", 502),
        ("/large", "content-length: 5000\r\n", 413),
        ("/fault", "", 418),
        ("/fallen", "", 200),
        ("/gone", "content-type: application/grpc\r\n", 200),
    ] {
        let response = weft.get(path, fields);
        assert_eq!(response.status(), status, "{path}: {response:?}");
        assert_eq!(response.all("x-own"), ["yes"], "{path}: {response:?}");
        assert_eq!(response.all("x-more"), ["a", "b"], "{path}");
    }
}

#[test]
fn a_trusted_proxy_that_names_no_client_is_believed_in_the_rest() {
    let service = Upstream::saying("ok");
    for listener in [", trusted_proxies: 127.0.0.1/32", ", trusted_hops: 1"] {
        let weft = node(listener, &service, "");
        for fields in [
            "x-forwarded-proto: https\r\n",
            "forwarded: proto=https;host=e.example\r\n",
            "forwarded: for=unknown;proto=https\r\n",
            "forwarded: for=_gazonk;proto=https\r\n",
            "x-forwarded-for: unknown\r\nx-forwarded-proto: https\r\n",
        ] {
            let way = "x-forwarded-port: 444\r\nx-forwarded-prefix: /p\r\nx-real-ip: 9.9.9.9\r\n";
            let seen = told(&weft, &service, &format!("{fields}{way}"));
            assert_eq!(seen.get("x-forwarded-proto"), Some("https"), "{listener} {fields}");
            assert_eq!(seen.get("x-forwarded-for"), Some("127.0.0.1"), "{listener} {fields}");
            assert_eq!(seen.get("x-forwarded-port"), Some("444"), "{listener} {fields}");
            assert_eq!(seen.get("x-forwarded-prefix"), Some("/p"), "{listener} {fields}");
            assert_eq!(seen.get("x-real-ip"), Some("9.9.9.9"), "{listener} {fields}");
            let host = if fields.contains("host=") { "e.example" } else { "test" };
            assert_eq!(seen.get("x-forwarded-host"), Some(host), "{listener} {fields}");
        }
    }
}

#[test]
fn an_options_goes_as_many_steps_as_it_may() {
    let service = Upstream::answering(|_| ok("far"));
    let weft = node("", &service, "");
    for (steps, left) in [("5", Some("4")), ("1", Some("0")), ("x", Some("x"))] {
        let before = service.seen().len();
        let head = format!("OPTIONS / HTTP/1.1\r\nhost: t\r\nmax-forwards: {steps}\r\n\r\n");
        assert_eq!(weft.ask(head).text(), "far");
        assert_eq!(service.wait_seen(before + 1)[before].get("max-forwards"), left);
    }
    let before = service.seen().len();
    let here = weft.ask("OPTIONS / HTTP/1.1\r\nhost: t\r\nmax-forwards: 0\r\n\r\n");
    assert_eq!((here.status(), here.text().as_str()), (200, ""));
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let head = request("OPTIONS", "/").header("max-forwards", "0").body(Vec::new()).unwrap();
        let reply = client.ask(head).await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, ""));
    });
    assert_eq!(service.seen().len(), before);
    // For other methods it says nothing.
    weft.ask("GET / HTTP/1.1\r\nhost: t\r\nmax-forwards: 0\r\n\r\n");
    assert_eq!(service.wait_seen(before + 1)[before].get("max-forwards"), Some("0"));
    // In absolute form without a path it is for the server as a whole (RFC 9112 section 3.2.4).
    weft.ask("OPTIONS http://t HTTP/1.1\r\nhost: t\r\n\r\n");
    assert_eq!(service.wait_seen(before + 2)[before + 1].target(), "*");
}

#[test]
fn a_response_tells_when_it_came() {
    let service = Upstream::answering(|request| match request.target() {
        "/dated" => {
            "HTTP/1.1 200 OK\r\ndate: Tue, 15 Nov 1994 08:12:31 GMT\r\ncontent-length: 0\r\n\r\n"
                .to_owned()
        }
        _ => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
    });
    let weft = node("", &service, "");
    assert_eq!(weft.get("/dated", "").all("date"), ["Tue, 15 Nov 1994 08:12:31 GMT"]);
    let bare = weft.get("/bare", "");
    assert_eq!(bare.all("date").len(), 1);
    assert!(bare.get("date").is_some_and(|date| date.ends_with(" GMT")), "{bare:?}");
}

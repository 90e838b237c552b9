//! What is not request and response: upgrades, raw connections, and the PROXY protocol.

use weft_testkit::{Conn, Upstream, Weft, until};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// Sends back what comes, after a first word.
fn echo(mut conn: Conn) {
    conn.send("hello ");
    loop {
        let byte = conn.take(1);
        if byte.is_empty() || !conn.send(byte) {
            return;
        }
    }
}

#[test]
fn a_websocket_is_joined_to_its_service() {
    let service = Upstream::raw(|mut conn| {
        let request = conn.request().unwrap();
        assert_eq!(request.get("upgrade"), Some("websocket"), "{request:?}");
        assert_eq!(request.get("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
        conn.send(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        echo(conn);
    });
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
    );
    let mut conn = weft.connect("web");
    conn.send(
        "GET /chat HTTP/1.1\r\nhost: t\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly ",
    );
    let head = conn.head().unwrap();
    assert_eq!(head.status(), 101);
    assert_eq!(head.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(conn.take(12), b"hello early ");
    let data = vec![7; 200_000];
    let mut writer = Conn::of(conn.stream().try_clone().unwrap());
    let sent = data.clone();
    let writing = std::thread::spawn(move || writer.send(sent));
    assert!(conn.take(200_000) == data);
    assert!(writing.join().unwrap());
}

#[test]
fn a_service_that_refuses_an_upgrade_is_heard() {
    let service =
        Upstream::answering(|_| "HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno".to_owned());
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
    );
    let mut conn = weft.connect("web");
    let upgrade = "GET / HTTP/1.1\r\nhost: t\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    let response = conn.ask(upgrade);
    assert_eq!((response.status(), response.text()), (403, "no".to_owned()));
    assert_eq!(conn.ask(upgrade).status(), 403, "the connection is kept");
}

#[test]
fn raw_connections_are_relayed_and_half_closes_are_kept() {
    let service = Upstream::raw(|mut conn| {
        let all = conn.rest();
        conn.send(all.iter().rev().copied().collect::<Vec<_>>());
    });
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
listeners: {{ raw: {{ address: '@raw', protocol: tcp, to: it }} }}
services: {{ it: {{ endpoints: '{}' }} }}
",
            service.address()
        ),
    );
    let mut conn = weft.connect("raw");
    conn.send("abc");
    conn.finish();
    assert_eq!(conn.rest(), b"cba");
}

#[test]
fn proxy_protocol_is_read_and_written() {
    let service = Upstream::raw(|mut conn| {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let byte = conn.take(1);
            if byte.is_empty() {
                return;
            }
            line.extend(byte);
        }
        if let Some(request) = conn.request() {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let from = request.get("x-forwarded-for").unwrap_or_default();
            conn.send(weft_testkit::upstream::ok(&format!("{line}|{from}")));
        }
    });
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
listeners: {{ web: {{ address: '@web', proxy_protocol: require }} }}
services: {{ it: {{ endpoints: '{}', proxy_protocol: v1 }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
    );
    let request = "GET / HTTP/1.1\r\nhost: t\r\n\r\n";
    let response = weft.ask(format!("PROXY TCP4 203.0.113.7 192.0.2.1 5000 443\r\n{request}"));
    assert_eq!(response.text(), "PROXY TCP4 203.0.113.7 192.0.2.1 5000 443|203.0.113.7");
    for wrong in [request.to_owned(), format!("PROXY TCP4 a b c d\r\n{request}")] {
        let mut conn = weft.connect("web");
        conn.send(wrong);
        assert!(conn.rest().is_empty(), "a connection without its header is closed");
    }
}

/// What asks for another protocol begins with it where its body ends (RFC 9110 section 7.8).
#[test]
fn a_request_is_whole_before_its_connection_leaves_http() {
    for (framing, parts) in [
        ("transfer-encoding: chunked", ["5\r\nhel", "lo\r\n3\r\nabc\r\n0\r\n\r\n"]),
        ("content-length: 8", ["hel", "loabc"]),
        ("expect: 100-continue\r\ncontent-length: 8", ["", "helloabc"]),
    ] {
        let service = Upstream::raw(|mut conn| {
            let mut request = conn.head().unwrap();
            conn.send(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\n",
            );
            conn.body(&mut request, false);
            conn.send(request.text());
            let rest = conn.take(6);
            conn.send(rest);
        });
        let weft = Weft::start(
            BIN,
            &format!(
                "admin: off
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
                service.address()
            ),
        );
        let mut conn = weft.connect("web");
        conn.send(format!(
            "POST / HTTP/1.1\r\nhost: t\r\nupgrade: foo\r\nconnection: upgrade\r\n{framing}\r\n\r\n{}",
            parts[0]
        ));
        if parts[0].is_empty() {
            assert_eq!(conn.head().unwrap().status(), 100);
        } else {
            // The service has answered the head by now, or does within the body.
            until("the service is asked", || (service.connections() > 0).then_some(()));
        }
        conn.send(parts[1]);
        conn.send("TUNNEL");
        assert_eq!(conn.head().unwrap().status(), 101, "{framing}");
        assert_eq!(conn.take(14), b"helloabcTUNNEL", "{framing}");
    }
}

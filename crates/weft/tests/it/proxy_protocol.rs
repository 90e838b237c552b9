//! The PROXY protocol, both ways, in both forms.

use weft_testkit::{Conn, HttpMessage, Upstream, Weft, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
const GET: &str = "GET / HTTP/1.1\r\nhost: t\r\n\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of the second form.
fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    out.extend_from_slice(&[command, family]);
    out.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// 203.0.113.7:5000 to 192.0.2.1:443.
const FOUR: &[u8] = &[203, 0, 113, 7, 192, 0, 2, 1, 0x13, 0x88, 1, 0xbb];

fn node(mode: &str) -> (Upstream, Weft) {
    let service = Upstream::answering(|request| ok(request.get("x-forwarded-for").unwrap()));
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web', proxy_protocol: {mode} }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
    );
    (service, weft)
}

/// Sends a header and a request in one; what comes back, if anything does.
fn ask(weft: &Weft, header: &[u8]) -> Option<HttpMessage> {
    let mut conn = weft.connect("web");
    conn.send([header, GET.as_bytes()].concat());
    let mut head = conn.head()?;
    conn.body(&mut head, false);
    Some(head)
}

#[test]
fn headers_of_a_trusted_balancer_are_believed() {
    let (_service, weft) = node("{ mode: require, from: 127.0.0.0/8 }");
    let mut six = vec![0x20, 1, 0xd, 0xb8];
    six.extend([0; 11]);
    six.push(9);
    six.extend([0; 16]);
    six.extend(&FOUR[8..]);
    // A field of the header that nobody here knows, after the addresses.
    let extended = [FOUR, &[0xe0, 0, 3, 1, 2, 3]].concat();
    let table = [
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 443\r\n".to_vec(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 5000 443\r\n".to_vec(), "2001:db8::9"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(0x21, 0x11, FOUR), "203.0.113.7"),
        (v2(0x21, 0x11, &extended), "203.0.113.7"),
        (v2(0x21, 0x21, &six), "2001:db8::9"),
        (v2(0x20, 0, &[]), "127.0.0.1"),
        (v2(0x20, 0x11, FOUR), "127.0.0.1"),
    ];
    for (header, client) in &table {
        let response = ask(&weft, header).unwrap_or_else(|| panic!("nothing for {header:?}"));
        assert_eq!((response.status(), response.text().as_str()), (200, *client), "{header:?}");
    }
    assert!(weft.wait_line("203.0.113.7").contains("\"status\":200"));
    // A byte at a time, as a network may deliver it.
    let mut conn = weft.connect("web");
    for byte in v2(0x21, 0x11, FOUR) {
        conn.send([byte]);
    }
    assert_eq!(conn.ask(GET).text(), "203.0.113.7");
    assert_eq!(conn.ask(GET).text(), "203.0.113.7", "for every request of the connection");
}

#[test]
fn malformed_headers_end_their_connection_without_an_answer() {
    let (service, weft) = node("{ mode: require, from: 127.0.0.0/8 }");
    let long = format!("PROXY TCP4 {} 192.0.2.1 1 2\r\n", "1".repeat(100));
    let table: [(&str, Vec<u8>); 10] = [
        ("none", Vec::new()),
        ("no addresses", b"PROXY TCP4 a b c d\r\n".to_vec()),
        ("too few words", b"PROXY TCP4 203.0.113.7\r\n".to_vec()),
        ("another family", b"PROXY TCP5 203.0.113.7 192.0.2.1 1 2\r\n".to_vec()),
        ("a port too high", b"PROXY TCP4 203.0.113.7 192.0.2.1 70000 2\r\n".to_vec()),
        ("a bare line feed", b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n".to_vec()),
        ("too long", long.into_bytes()),
        ("another version", v2(0x31, 0x11, FOUR)),
        ("another command", v2(0x2f, 0x11, FOUR)),
        ("addresses cut off", v2(0x21, 0x11, &FOUR[..8])),
    ];
    for (what, header) in &table {
        let mut conn = weft.connect("web");
        conn.send([header, GET.as_bytes()].concat());
        conn.finish();
        assert_eq!(String::from_utf8_lossy(&conn.rest()), "", "{what}");
    }
    weft.wait_metric("weft_listener_protocol_errors_total", &["listener=\"web\""], 10.0);
    for cut in [1, 11, 12, 15, 20, 27] {
        let mut conn = weft.connect("web");
        conn.send(&v2(0x21, 0x11, FOUR)[..cut]);
        conn.finish();
        assert_eq!(conn.rest(), b"", "cut at {cut}");
    }
    assert_eq!(service.seen(), []);
    assert_eq!(ask(&weft, &v2(0x21, 0x11, FOUR)).unwrap().status(), 200);
}

#[test]
fn nobody_else_may_say_who_the_client_is() {
    let v1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 443\r\n";
    let (service, weft) = node("{ mode: require, from: 10.0.0.0/8 }");
    assert_eq!(ask(&weft, v1), None);
    assert_eq!(service.seen(), []);
    let (service, weft) = node("{ mode: accept, from: 10.0.0.0/8 }");
    assert_eq!(ask(&weft, b"").unwrap().text(), "127.0.0.1");
    let refused = ask(&weft, v1).unwrap().status();
    assert!(matches!(refused, 400 | 501 | 505), "it is no request either: {refused}");
    assert_eq!(service.seen().len(), 1);
    let (_service, weft) = node("accept");
    assert_eq!(ask(&weft, v1).unwrap().text(), "203.0.113.7");
    assert_eq!(ask(&weft, b"").unwrap().text(), "127.0.0.1");
}

#[test]
fn services_are_told_the_client_in_the_second_form() {
    let service = Upstream::raw(|mut conn: Conn| {
        let header = conn.take(16);
        let payload = conn.take(usize::from(header[14]) << 8 | usize::from(header[15]));
        while conn.request().is_some() {
            let all: Vec<String> =
                header.iter().chain(&payload).map(|byte| format!("{byte:02x}")).collect();
            conn.send(ok(&all.concat()));
        }
    });
    let yaml = format!(
        "admin: off
listeners:
  web: {{ address: '@web', proxy_protocol: require }}
  raw: {{ address: '@raw', protocol: tcp, to: it }}
services: {{ it: {{ endpoints: '{}', proxy_protocol: v2 }} }}
routes: [{{ name: all, to: it }}]
",
        service.address()
    );
    let weft = Weft::start(BIN, &yaml);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for _ in 0..2 {
        let response = ask(&weft, b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 443\r\n").unwrap();
        assert_eq!(response.text(), hex(&v2(0x21, 0x11, FOUR)));
    }
    assert_eq!(service.connections(), 2, "a connection belongs to one client");
    let mut conn = weft.connect("raw");
    let ports = [conn.stream().local_addr().unwrap().port(), weft.address("raw").port()];
    let ports: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
    let ends = [&[127, 0, 0, 1, 127, 0, 0, 1][..], &ports].concat();
    assert_eq!(conn.ask(GET).text(), hex(&v2(0x21, 0x11, &ends)));
}

//! Requests that two servers could read differently: each is refused, and the service sees nothing.

use weft_testkit::{Upstream, Weft};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// What is wrong, the bytes, and the statuses that are a refusal of it.
const TABLE: &[(&str, &str, &[u16])] = &[
    (
        "both framings",
        "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "both framings, turned round",
        "POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "two lengths",
        "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        &[400],
    ),
    ("a list of lengths", "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 1, 2\r\n\r\nab", &[400]),
    ("a signed length", "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: +1\r\n\r\na", &[400]),
    ("a negative length", "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: -1\r\n\r\na", &[400]),
    ("a hexadecimal length", "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 0x1\r\n\r\na", &[400]),
    ("an empty length", "POST / HTTP/1.1\r\nhost: t\r\ncontent-length:\r\n\r\n", &[400]),
    (
        "a length beyond 64 bits",
        "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 99999999999999999999999\r\n\r\na",
        &[400, 413],
    ),
    (
        "an unknown coding",
        "POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: gzip\r\n\r\n",
        &[400, 501],
    ),
    (
        "chunked not last",
        "POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "chunked twice",
        "POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "chunked in two fields",
        "POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "a coding with a tail",
        "POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "a coding behind a vertical tab",
        "POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "chunked in HTTP/1.0",
        "POST / HTTP/1.0\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "space before the colon",
        "POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    ("a folded line", "GET / HTTP/1.1\r\nhost: t\r\nx-a: 1\r\n 2\r\n\r\n", &[400]),
    ("a field that begins with space", "GET / HTTP/1.1\r\n host: t\r\n\r\n", &[400]),
    ("bare line feeds", "GET / HTTP/1.1\nhost: t\n\n", &[400]),
    (
        "a bare line feed among fields",
        "GET / HTTP/1.1\r\nhost: t\r\nx: 1\ntransfer-encoding: chunked\r\n\r\n",
        &[400],
    ),
    ("a bare carriage return", "GET / HTTP/1.1\r\nhost: t\r\nx: a\rb: c\r\n\r\n", &[400]),
    ("NUL in a value", "GET / HTTP/1.1\r\nhost: t\r\nx: a\0b\r\n\r\n", &[400]),
    ("an empty name", "GET / HTTP/1.1\r\nhost: t\r\n: a\r\n\r\n", &[400]),
    ("no colon", "GET / HTTP/1.1\r\nhost: t\r\nnothing\r\n\r\n", &[400]),
    ("an odd name", "GET / HTTP/1.1\r\nhost: t\r\nx@y: 1\r\n\r\n", &[400]),
    ("an underscore in a name", "GET / HTTP/1.1\r\nhost: t\r\ncontent_length: 1\r\n\r\n", &[400]),
    ("no host", "GET / HTTP/1.1\r\nx: y\r\n\r\n", &[400]),
    ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", &[400]),
    ("a host that is none", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", &[400]),
    ("a host with a user", "GET / HTTP/1.1\r\nhost: u@a\r\n\r\n", &[400]),
    ("two targets", "GET / / HTTP/1.1\r\nhost: t\r\n\r\n", &[400, 501]),
    ("a tab in the request line", "GET\t/ HTTP/1.1\r\nhost: t\r\n\r\n", &[400]),
    ("a target that is no path", "GET a HTTP/1.1\r\nhost: t\r\n\r\n", &[400]),
    ("an odd method", "GE(T / HTTP/1.1\r\nhost: t\r\n\r\n", &[400]),
    ("an unknown version", "GET / HTTP/1.2\r\nhost: t\r\n\r\n", &[400, 501, 505]),
    ("no version", "GET /\r\n\r\n", &[400, 501, 505]),
    ("HTTP/2 in words", "GET / HTTP/2.0\r\nhost: t\r\n\r\n", &[400, 501, 505]),
    ("empty lines ahead", "\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: t\r\n\r\n", &[400]),
    ("CONNECT", "CONNECT t:80 HTTP/1.1\r\nhost: t:80\r\n\r\n", &[400, 405, 501]),
    ("TRACE", "TRACE / HTTP/1.1\r\nhost: t\r\n\r\n", &[405, 501]),
    ("an encoded slash", "GET /a%2fb HTTP/1.1\r\nhost: t\r\n\r\n", &[400]),
    ("an encoded NUL", "GET /a%00b HTTP/1.1\r\nhost: t\r\n\r\n", &[400]),
    ("a way out of the root", "GET /../../etc HTTP/1.1\r\nhost: t\r\n\r\n", &[400]),
    ("an encoded way out", "GET /%2e%2e/%2e%2e/etc HTTP/1.1\r\nhost: t\r\n\r\n", &[400]),
    ("a fragment", "GET /a#b HTTP/1.1\r\nhost: t\r\n\r\n", &[400]),
    ("an unknown expectation", "GET / HTTP/1.1\r\nhost: t\r\nexpect: wonders\r\n\r\n", &[400, 417]),
    ("TLS to a clear port", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", &[400]),
    ("a hundred and one fields", MANY, &[431]),
];

/// Built at compile time, to stand in the table.
const MANY: &str = concat!(
    "GET / HTTP/1.1\r\nhost: t\r\n",
    "a:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\n",
    "a:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\n",
    "a:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\n",
    "a:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\n",
    "a:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\n",
    "a:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\n",
    "a:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\n",
    "a:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\n",
    "a:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\n",
    "a:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\na:1\r\n\r\n",
);

/// Bodies whose chunks are not chunks. Their heads are fine, so the service may see a beginning, but
/// never a whole request.
const CHUNKS: &[(&str, &str)] = &[
    ("no number", "zz\r\nab\r\n0\r\n\r\n"),
    ("a sign", "+2\r\nab\r\n0\r\n\r\n"),
    ("hexadecimal marked so", "0x2\r\nab\r\n0\r\n\r\n"),
    ("a number beyond 64 bits", "ffffffffffffffffff\r\nab\r\n0\r\n\r\n"),
    ("data longer than said", "2\r\nabc\r\n0\r\n\r\n"),
    ("a bare line feed after the size", "2\nab\r\n0\r\n\r\n"),
    ("a bare line feed after the data", "2\r\nab\n0\r\n\r\n"),
    ("space before the size", " 2\r\nab\r\n0\r\n\r\n"),
    ("a bare line feed in an extension", "2;a\nb\r\nab\r\n0\r\n\r\n"),
    ("a trailer without a colon", "2\r\nab\r\n0\r\nnothing\r\n\r\n"),
];

fn before(service: &Upstream) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: off
listeners: {{ web: {{ address: '@web', timeouts: {{ headers: 1s }} }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it, retry: off, timeout: 2s }}]
",
            service.address()
        ),
    )
}

#[test]
fn ambiguous_heads_are_refused_before_the_service_is_asked() {
    let service = Upstream::saying("seen");
    let weft = before(&service);
    let mut wrong = Vec::new();
    for (what, bytes, statuses) in TABLE {
        let mut conn = weft.connect("web");
        conn.send(bytes);
        conn.send("GET /smuggled HTTP/1.1\r\nhost: t\r\n\r\n");
        let status = conn.head().map_or(0, |head| head.status());
        if !statuses.contains(&status) {
            wrong.push(format!("{what}: {status}, not {statuses:?}"));
        }
    }
    let seen: Vec<_> =
        service.seen().into_iter().filter(|seen| seen.target() != "/smuggled").collect();
    assert!(wrong.is_empty() && seen.is_empty(), "{wrong:#?}; the service saw {seen:#?}");
    assert_eq!(weft.get("/", "").text(), "seen");
}

#[test]
fn a_refused_head_ends_its_connection() {
    let service = Upstream::saying("seen");
    let weft = before(&service);
    for (what, bytes, _) in TABLE {
        // These are refused by what they ask for, and where they end is beyond doubt.
        if what.contains("CONNECT")
            || what.contains("TRACE")
            || bytes.contains("%")
            || bytes.contains("..")
            || bytes.contains('_')
            || bytes.contains('#')
        {
            continue;
        }
        let mut conn = weft.connect("web");
        conn.send(bytes);
        conn.send("GET /smuggled HTTP/1.1\r\nhost: t\r\n\r\n");
        conn.finish();
        let text = String::from_utf8_lossy(&conn.rest()).into_owned();
        assert_eq!(text.matches("\r\nproxy-status: ").count(), 1, "{what}: {text}");
        assert!(!text.contains("HTTP/1.1 200"), "{what}: {text}");
        assert!(service.seen().is_empty(), "{what}: {:?}", service.seen());
    }
}

#[test]
fn malformed_chunks_never_make_a_whole_request() {
    let service = Upstream::saying("seen");
    let weft = before(&service);
    for (what, chunks) in CHUNKS {
        let mut conn = weft.connect("web");
        conn.send("POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n");
        conn.send(chunks);
        conn.send("GET /smuggled HTTP/1.1\r\nhost: t\r\n\r\n");
        let text = String::from_utf8_lossy(&conn.rest()).into_owned();
        assert!(text.starts_with("HTTP/1.1 400 "), "{what}: {text}");
        assert_eq!(text.matches("\r\nproxy-status: ").count(), 1, "{what}: {text}");
    }
    assert_eq!(service.seen().len(), 0, "{:?}", service.seen());
    assert_eq!(weft.get("/", "").text(), "seen");
}

//! What the strict reader takes, what it refuses, and that it holds at every cut.

use super::*;
use crate::head::{Method, RequestHead, ResponseHead, Version};

const LIMITS: HeadLimits = HeadLimits { bytes_max: 4096, count_max: 16 };

fn request(text: &str) -> Result<Option<ParsedRequest>, HeadError> {
    parse_request(text.as_bytes(), LIMITS)
}

fn refused(text: &str) -> String {
    match request(text) {
        Err(error) => error.to_string(),
        Ok(parsed) => panic!("{text:?} was taken: {parsed:?}"),
    }
}

#[test]
fn a_plain_request_is_read_and_written_back() {
    let text = "POST /a/b?c=d HTTP/1.1\r\nHost: shop.example:8080\r\nX-Thing: 1\r\nContent-Length: 5\r\n\r\nhello";
    let parsed = request(text).unwrap().unwrap();
    assert_eq!(parsed.used, text.len() - 5);
    assert_eq!(parsed.framing, Framing::Length(5));
    assert!(parsed.keep_alive);
    assert_eq!(parsed.head.path(), "/a/b");
    assert_eq!(parsed.head.query(), Some("c=d"));
    let mut out = Vec::new();
    encode_request(&parsed.head, parsed.framing, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "POST /a/b?c=d HTTP/1.1\r\nhost: shop.example:8080\r\nx-thing: 1\r\ncontent-length: 5\r\n\r\n"
    );
}

#[test]
fn every_cut_of_a_head_is_incomplete() {
    let text = "\r\nGET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
    for cut in 0..text.len() {
        assert!(request(&text[..cut]).unwrap().is_none(), "{cut}");
    }
    assert!(request(text).unwrap().is_some());
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let cases = [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", "bare LF"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", "bare LF"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", "bare LF"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "not a token"),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "not a token"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", "not a token"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "more than once"),
        ("GET / HTTP/1.1\r\n\r\n", "Host is missing"),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "not a host"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "not a host"),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "not a host"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "more than once",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", "not a number"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", "not a number"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", "not a number"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "not a number"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "not a number",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "both",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "only the transfer coding",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
            "does not end in",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", "does not end in"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
            "does not end in",
        ),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n", "does not end in"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            "only the transfer coding",
        ),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "HTTP/1.0 and HTTP/1.1"),
        ("GET / HTTP/1.9\r\nHost: a\r\n\r\n", "HTTP/1.0 and HTTP/1.1"),
        ("GET / HTTP/11\r\nHost: a\r\n\r\n", ""),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", "request line"),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "request line"),
        ("GET /a HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "not a host"),
        ("GET / HTTP/1.0\r\nHost:\r\n\r\n", "not a host"),
        ("AMETHODWITHANAMETHATISLONGERTHANANY / HTTP/1.1\r\nHost: a\r\n\r\n", "the method"),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: x\r\n\r\n", "expectation"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "control"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", ""),
        ("GET foo HTTP/1.1\r\nHost: a\r\n\r\n", "neither a path nor a URL"),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS"),
        ("CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", "host and port"),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", "no host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-maybe\r\n\r\n", "expectation"),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "empty lines"),
        ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        ("\x16\x03\x01\x02\x00\x01\x00", ""),
    ];
    for (text, expected) in cases {
        let said = refused(text);
        assert!(said.contains(expected), "{text:?}: {said}");
    }
}

#[test]
fn limits_are_kept_even_before_the_head_is_complete() {
    let many: String = (0..20).map(|i| format!("X-{i}: 1\r\n")).collect();
    assert_eq!(
        request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")).unwrap_err(),
        HeadError::TooMany(16)
    );
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(5000));
    assert_eq!(request(&long).unwrap_err(), HeadError::TooLarge(4096));
}

#[test]
fn forms_of_the_target() {
    let absolute =
        request("GET http://Other.example/x?y HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().unwrap();
    assert_eq!(absolute.head.target, "/x?y");
    assert_eq!(absolute.head.fields.get(Known::Host), Some(&b"Other.example"[..]));
    let bare = request("GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().unwrap();
    assert_eq!(bare.head.target, "/?q");
    let options = request("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().unwrap();
    assert_eq!(options.head.target, "*");
    for (url, target) in [("http://b", "*"), ("http://b/", "/"), ("http://b?q", "/?q")] {
        let text = format!("OPTIONS {url} HTTP/1.1\r\nHost: b\r\n\r\n");
        assert_eq!(request(&text).unwrap().unwrap().head.target, target, "{url}");
    }
    let old = request("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap();
    assert_eq!((old.head.version, old.keep_alive), (Version::Http10, false));
    let kept = request("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap().unwrap();
    assert!(kept.keep_alive);
}

#[test]
fn upgrades_and_expectations_are_seen() {
    let parsed = request(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
    )
    .unwrap()
    .unwrap();
    assert_eq!(parsed.head.upgrade.as_deref(), Some("websocket"));
    for (lines, asked) in [
        (&["h2c"][..], None),
        (&["H2C"], None),
        (&["websocket, h2c"], Some("websocket")),
        (&["h2c,websocket"], Some("websocket")),
        (&["h2c", "websocket"], Some("websocket")),
        (&["websocket", "h2c"], Some("websocket")),
        (&["foo, h2c"], Some("foo")),
        (&["foo, , WebSocket"], Some("websocket")),
        (&["SPDY/3.1, bar"], Some("spdy/3.1")),
        (&["TLS/1.0, HTTP/1.1, HTTP/2.0, h2, h2c/1, http2"], None),
        (&["a b, \"h2c\", ;x, /, a/b/c"], None),
        (&[""], None),
    ] {
        let lines: String = lines.iter().map(|line| format!("Upgrade: {line}\r\n")).collect();
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n{lines}\r\n");
        let parsed = request(&text).unwrap().unwrap();
        assert_eq!(parsed.head.upgrade.as_deref(), asked, "{lines}");
    }
    let waits =
        request("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n")
            .unwrap()
            .unwrap();
    assert!(waits.expects_continue);
}

#[test]
fn responses_are_framed_by_status_and_method() {
    let parse = |text: &str, method: Method| {
        parse_response(text.as_bytes(), &method, LIMITS).unwrap().unwrap()
    };
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(parse(length, Method::Get).framing, Framing::Length(3));
    assert_eq!(parse(length, Method::Head).framing, Framing::None);
    let open = parse("HTTP/1.1 200 OK\r\n\r\n", Method::Get);
    assert_eq!((open.framing, open.keep_alive), (Framing::Close, false));
    assert_eq!(parse("HTTP/1.1 204 No Content\r\n\r\n", Method::Get).framing, Framing::None);
    assert_eq!(
        parse("HTTP/1.1 304\r\nContent-Length: 9\r\n\r\n", Method::Get).framing,
        Framing::None
    );
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.1 20x OK\r\n\r\n",
        "HTTP/1.1 200 OK\nX: 1\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
    ] {
        assert!(parse_response(text.as_bytes(), &Method::Get, LIMITS).is_err(), "{text:?}");
    }
    let mut out = Vec::new();
    let mut head = ResponseHead::new(418);
    head.fields.append("x-tea", b"pot");
    encode_response(&head, Framing::Chunked, Some("close"), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 418 \r\nx-tea: pot\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    );
}

#[test]
fn a_message_is_framed_by_its_body_whatever_its_fields_say() {
    let written = |method: &str, fields: &[(&str, &str)], framing| {
        let mut head = RequestHead {
            method: Method::of(method),
            target: "/".into(),
            version: Version::Http2,
            fields: Fields::new(),
            upgrade: None,
        };
        let mut answer = ResponseHead::new(200);
        for (name, value) in fields {
            head.fields.append(name, value.as_bytes());
            answer.fields.append(name, value.as_bytes());
        }
        let (mut request, mut response) = (Vec::new(), Vec::new());
        encode_request(&head, framing, &mut request);
        encode_response(&answer, framing, None, &mut response);
        [request, response].map(|bytes| {
            let text = String::from_utf8(bytes).unwrap();
            text.split_once("\r\n").unwrap().1.trim_end().replace("\r\n", " | ")
        })
    };
    for said in [
        &[][..],
        &[("content-length", "4")],
        &[("content-length", "05")],
        &[("content-length", "5"), ("content-length", "5")],
        &[("content-length", "5, 5")],
        &[("content-length", "")],
        &[("transfer-encoding", "chunked")],
        &[("transfer-encoding", "gzip"), ("content-length", "5")],
    ] {
        let length = written("POST", said, Framing::Length(5));
        assert_eq!(length, ["content-length: 5", "content-length: 5"], "{said:?}");
        let chunked = written("POST", said, Framing::Chunked);
        assert_eq!(chunked, ["transfer-encoding: chunked"; 2], "{said:?}");
    }
    let plain = [("content-length", "5"), ("x", "1")];
    assert_eq!(written("PUT", &plain, Framing::Length(5))[0], "content-length: 5 | x: 1");
    for (method, said, expect) in [
        ("POST", &[][..], "content-length: 0"),
        ("PUT", &[("content-length", "7")], "content-length: 0"),
        ("PROPFIND", &[], "content-length: 0"),
        ("GET", &[], ""),
        ("DELETE", &[], ""),
        ("GET", &[("content-length", "0")], "content-length: 0"),
        ("GET", &[("transfer-encoding", "chunked")], ""),
    ] {
        assert_eq!(written(method, said, Framing::None)[0], expect, "{method} {said:?}");
    }
    let told = written("HEAD", &[("content-length", "5")], Framing::None);
    assert_eq!(told[1], "content-length: 5", "HEAD may be told a length without a body");
}

#[test]
fn chunk_extensions_are_passed_over_only_if_they_are_extensions() {
    for (line, fine) in [
        ("2;a", true),
        ("2;a=b", true),
        ("2 ; a = b ; c", true),
        ("2;a=\"b c;\\\"d\"", true),
        ("2;a=\"\";b", true),
        ("2;", false),
        ("2;;a", false),
        ("2;a=", false),
        ("2;=a", false),
        ("2;a b", false),
        ("2;a ", false),
        ("2;a=\"b", false),
        ("2;a=\"b\"c", false),
        ("2;a=\"\u{1}\"", false),
        ("2;a\u{0}", false),
        ("2 a", false),
        ("2 ", false),
    ] {
        let text = format!("{line}\r\nhi\r\n0\r\n\r\n");
        for step in [1, 64] {
            assert_eq!(unchunk(text.as_bytes(), step).is_ok(), fine, "{line:?} by {step}");
        }
    }
}

/// Feeds `text` in steps of `step` bytes and gives back the body and trailers.
fn unchunk(text: &[u8], step: usize) -> Result<(Vec<u8>, Option<Fields>), HeadError> {
    let mut decoder = ChunkedDecoder::default();
    let (mut body, mut held, mut fed) = (Vec::new(), Vec::new(), 0);
    loop {
        match decoder.decode(&held)? {
            Decoded::Data { skip, len } => {
                body.extend_from_slice(&held[skip..skip + len]);
                held.drain(..skip + len);
            }
            Decoded::End { skip, trailers } => {
                held.drain(..skip);
                assert!(decoder.is_done());
                return Ok((body, trailers));
            }
            Decoded::More { skip } => {
                held.drain(..skip);
                if fed == text.len() {
                    return Err(HeadError::Malformed("cut off"));
                }
                let end = (fed + step).min(text.len());
                held.extend_from_slice(&text[fed..end]);
                fed = end;
            }
        }
    }
}

#[test]
fn chunks_are_decoded_at_every_step() {
    let text = b"5\r\nhello\r\n6;ext=\"x\"\r\n world\r\n0A \t;q\r\n0123456789\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n";
    for step in 1..text.len() {
        let (body, trailers) = unchunk(text, step).unwrap();
        assert_eq!(body, b"hello world0123456789");
        let trailers = trailers.unwrap();
        assert_eq!(trailers.named("x-sum"), Some(&b"1"[..]));
        assert!(!trailers.has(Known::Host));
    }
}

#[test]
fn chunks_that_two_readers_could_read_differently_are_refused() {
    for text in [
        &b"0x5\r\nhello\r\n0\r\n\r\n"[..],
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFF\r\nhello\r\n",
        b"11111111111111111\r\nhello\r\n",
        b"0\r\nX : 1\r\n\r\n",
        b"0\r\nX: 1\n\r\n",
    ] {
        for step in [1, 3, text.len()] {
            assert!(unchunk(text, step).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }
    let long = [b"5;".to_vec(), vec![b'a'; 5000]].concat();
    assert!(unchunk(&long, 100).is_err());
}

#[test]
fn chunk_heads_are_hexadecimal() {
    for (len, text) in [(1, "1\r\n"), (255, "ff\r\n"), (65_536, "10000\r\n")] {
        let mut out = Vec::new();
        encode_chunk_head(len, &mut out);
        assert_eq!(out, text.as_bytes());
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = parse_request(&bytes, LIMITS);
        let _ = parse_response(&bytes, &Method::Get, LIMITS);
        let _ = unchunk(&bytes, 7);
    }

    #[test]
    fn whatever_is_chunked_comes_back(parts: Vec<Vec<u8>>, step in 1usize..50) {
        let mut text = Vec::new();
        for part in parts.iter().filter(|part| !part.is_empty()) {
            encode_chunk_head(part.len(), &mut text);
            text.extend_from_slice(part);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\n\r\n");
        let (body, _) = unchunk(&text, step).unwrap();
        proptest::prop_assert_eq!(body, parts.concat());
    }
}

#[test]
fn a_body_that_is_nearly_all_framing_is_refused() {
    let extended = |length: usize| format!("1;a={}\r\nx\r\n", "b".repeat(length));
    for (chunk, count, fine) in [
        (extended(1000), 16, true),
        (extended(1000), 5000, false),
        (format!("{:0>16}\r\nx\r\n", "1"), 20_000, false),
        // However small they are, chunks that say no more than they must are never too many.
        ("1\r\nx\r\n".into(), 20_000, true),
        (format!("400;a=b\r\n{}\r\n", "x".repeat(1024)), 1000, true),
    ] {
        let text = chunk.repeat(count) + "0\r\n\r\n";
        assert_eq!(unchunk(text.as_bytes(), 4096).is_ok(), fine, "{count} chunks");
    }
}

#[test]
fn a_host_is_spelt_in_one_way() {
    for (host, fine) in [
        ("shop.example", true),
        ("shop.example:", true),
        ("shop.example:65535", true),
        ("[::1]:8080", true),
        ("shop.example:65536", false),
        ("shop.example:99999", false),
        ("shop.example:4294967376", false),
        ("shop.example:99999999999999999999", false),
        ("[::1]:99999", false),
        ("shop.example:080808", false),
        ("%73hop.example", false),
        ("user@shop.example", false),
        ("", false),
    ] {
        assert_eq!(is_authority(host.as_bytes()), fine, "{host}");
    }
}

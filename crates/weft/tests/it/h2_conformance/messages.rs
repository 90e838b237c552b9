//! Requests as frames: pseudo-fields, fields that HTTP/2 forbids, lengths and trailers (RFC 9113 section
//! 8).

use weft_testkit::frames::{self, END_HEADERS, END_STREAM, HEADERS};

use super::{
    Case, Expect, PROTOCOL_ERROR, Step, block, case, data, frame, get, hold, post, request, with,
};

const MALFORMED: Expect = Expect::Refused(1, &[PROTOCOL_ERROR]);

/// A GET with one pseudo-field changed: given another value, or left out.
fn pseudo<'a>(name: &str, value: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let usual = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "test")];
    let changed = |(own, usual)| {
        let value = if own == name { value } else { Some(usual) };
        value.map(|value| (own, value))
    };
    usual.into_iter().filter_map(changed).collect()
}

#[test]
fn pseudo_fields() {
    let changed =
        |about, name, value, expect| case(about, request(1, &pseudo(name, value)), expect);
    let more = |about, name, value| case(about, request(1, &with(&[(name, value)])), MALFORMED);
    let twice = |about, name, value| {
        let mut fields = with(&[]);
        fields.insert(1, (name, value));
        case(about, request(1, &fields), MALFORMED)
    };
    hold(vec![
        changed("8.3.1: no :method", ":method", None, MALFORMED),
        changed("8.3.1: no :scheme", ":scheme", None, MALFORMED),
        changed("8.3.1: no :path", ":path", None, MALFORMED),
        changed("8.3.1: an empty :path", ":path", Some(""), MALFORMED),
        changed("8.3.1: a :path without a slash", ":path", Some("nowhere"), MALFORMED),
        changed("8.3.1: an empty :method", ":method", Some(""), MALFORMED),
        changed("8.3.1: a :method that is no token", ":method", Some("G ET"), MALFORMED),
        changed("8.3.1: an :authority with a user", ":authority", Some("me@test"), MALFORMED),
        twice("8.3.1: :method twice", ":method", "POST"),
        twice("8.3.1: :scheme twice", ":scheme", "http"),
        twice("8.3.1: :path twice", ":path", "/"),
        twice("8.3.1: :authority twice", ":authority", "test"),
        more("8.3: an unknown pseudo-field", ":test", "ok"),
        more("8.3: one of a response", ":status", "200"),
        case(
            "8.3: one after a field",
            request(1, &[&[("x-before", "1")], &with(&[])[..]].concat()),
            MALFORMED,
        ),
        case(
            "8.5: CONNECT with a :path",
            request(1, &pseudo(":method", Some("CONNECT"))),
            MALFORMED,
        ),
        case(
            "8.5: CONNECT without an :authority",
            request(1, &[(":method", "CONNECT")]),
            MALFORMED,
        ),
        more("8.3.1: a Host that differs from :authority", "host", "other"),
        case(
            "8.3.1: a Host that does not",
            request(1, &with(&[("host", "test")])),
            Expect::Answered(1),
        ),
    ]);
}

#[test]
fn fields() {
    let refused = |about, name, value| case(about, request(1, &with(&[(name, value)])), MALFORMED);
    let taken =
        |about, name, value| case(about, request(1, &with(&[(name, value)])), Expect::Answered(1));
    hold(vec![
        refused("8.2: a name in upper case", "X-Test", "ok"),
        refused("8.2.1: a space in a name", "x test", "ok"),
        refused("8.2.1: a colon in a name", "x:test", "ok"),
        refused("8.2.1: no name", "", "ok"),
        refused("8.2.1: a control character in a name", "x\u{1}test", "ok"),
        refused("8.2.1: a line feed in a value", "x-test", "a\nb: c"),
        refused("8.2.1: a carriage return in a value", "x-test", "a\rb"),
        refused("8.2.1: a null in a value", "x-test", "a\0b"),
        refused("8.2.2: Connection", "connection", "keep-alive"),
        refused("8.2.2: Keep-Alive", "keep-alive", "timeout=5"),
        refused("8.2.2: Proxy-Connection", "proxy-connection", "keep-alive"),
        refused("8.2.2: Transfer-Encoding", "transfer-encoding", "chunked"),
        refused("8.2.2: Upgrade", "upgrade", "h2c"),
        refused("8.2.2: a TE that is not trailers", "te", "trailers, deflate"),
        taken("8.2.2: a TE that is", "te", "trailers"),
        taken("8.2.1: a value without a character", "x-test", ""),
        case(
            "8.2.3: a Cookie in crumbs",
            request(1, &with(&[("cookie", "a=1"), ("cookie", "b=2")])),
            Expect::Answered(1),
        ),
    ]);
}

#[test]
fn bodies_and_trailers() {
    let sized = |length, parts: &[Vec<u8>]| {
        let head = frame(HEADERS, END_HEADERS, 1, block(&with(&[("content-length", length)])));
        [head, parts.concat()].concat()
    };
    let trailers = |fields: &[(&str, &str)], flags| {
        let last = frame(HEADERS, END_HEADERS | flags, 1, block(fields));
        [post(1), data(1, 0, b"x"), last].concat()
    };
    let part = |bytes| data(1, 0, bytes);
    let end = |bytes| data(1, END_STREAM, bytes);
    hold(vec![
        case("8.1: a GET", get(1), Expect::Answered(1)),
        case("8.1: a HEAD", request(1, &pseudo(":method", Some("HEAD"))), Expect::Answered(1)),
        case("8.1: a POST", [post(1), end(b"some")].concat(), Expect::Answered(1)),
        case(
            "8.1: a POST in parts",
            [post(1), part(b"so"), end(b"me")].concat(),
            Expect::Answered(1),
        ),
        case(
            "8.1: a POST with trailers",
            trailers(&[("x-sum", "1")], END_STREAM),
            Expect::Answered(1),
        ),
        case("8.1: trailers that do not end the stream", trailers(&[("x-sum", "1")], 0), MALFORMED),
        // The library takes them off without a word, so that no service sees them.
        case(
            "8.1: pseudo-fields in trailers",
            trailers(&[(":method", "GET")], END_STREAM),
            Expect::RefusedOrIgnored(1, &[PROTOCOL_ERROR]),
        ),
        case("8.2: upper case in trailers", trailers(&[("X-Sum", "1")], END_STREAM), MALFORMED),
        case(
            "8.1.1: the length that was said",
            sized("4", &[part(b"so"), end(b"me")]),
            Expect::Answered(1),
        ),
        case("8.1.1: less DATA than was said", sized("5", &[end(b"some")]), MALFORMED),
        case("8.1.1: more DATA than was said", sized("3", &[end(b"some")]), MALFORMED),
        case("8.1.1: the same in parts", sized("3", &[part(b"so"), end(b"me")]), MALFORMED),
        case("8.1.1: DATA where none was said", sized("0", &[end(b"some")]), MALFORMED),
        case("8.1.1: a length that is no number", sized("4x", &[end(b"some")]), MALFORMED),
        case("8.1.1: a negative length", sized("-4", &[end(b"some")]), MALFORMED),
        case(
            "8.1.1: two lengths that differ",
            [
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    block(&with(&[("content-length", "4"), ("content-length", "5")])),
                ),
                end(b"some"),
            ]
            .concat(),
            MALFORMED,
        ),
        case(
            "8.1.1: a length, and no DATA at all",
            request(1, &with(&[("content-length", "4")])),
            MALFORMED,
        ),
        Case {
            about: "8.1: a second request on the connection",
            steps: vec![Step::Send(get(1)), Step::Ended(1), Step::Send(get(3))],
            expect: Expect::Answered(3),
        },
        case(
            "8.1: a request that ends while it is answered",
            [super::post_to(1, "/"), frames::Frame::new(frames::DATA, END_STREAM, 1, []).bytes()]
                .concat(),
            Expect::Answered(1),
        ),
    ]);
}

//! What passes, what is replaced, and that it is the same however the bytes are cut.

use std::future::poll_fn;

use super::*;

/// A connection that gives so many bytes at once.
struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    step: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let end = self.bytes.len().min(self.at + self.step.min(buf.remaining()));
        buf.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

const LIMITS: Limits = Limits {
    fields: HeadLimits { bytes_max: 100, count_max: 3 },
    list_max: 400,
    block_max: 40_000,
    waiting: (3, 400),
};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A field that is kept in the table.
fn kept(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    hpack::encode_plain(name.as_bytes(), value.as_bytes(), &mut out);
    out[0] = 0x40;
    out
}

fn plain(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    hpack::encode_plain(name.as_bytes(), value.as_bytes(), &mut out);
    out
}

/// What comes of bytes that are read in pieces, and what is known of their streams.
fn read(sender: Sender, bytes: &[u8], step: usize) -> (Vec<u8>, Heads) {
    let (mut screen, heads) =
        Screen::new(Pieces { bytes: bytes.to_vec(), at: 0, step }, sender, LIMITS);
    if sender == Sender::Client {
        screen.sight.skip = 0;
    } else {
        (1..20).step_by(2).for_each(|stream| heads.expect(stream));
    }
    let mut out = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        loop {
            let mut room = [0; 64];
            let mut buf = ReadBuf::new(&mut room);
            poll_fn(|cx| Pin::new(&mut screen).poll_read(cx, &mut buf)).await.unwrap();
            if buf.filled().is_empty() {
                return;
            }
            out.extend_from_slice(buf.filled());
        }
    });
    (out, heads)
}

fn check(sender: Sender, bytes: &[u8], expect: &[u8]) -> Heads {
    let whole = read(sender, bytes, usize::MAX);
    assert_eq!(whole.0, expect);
    for step in 1..80 {
        assert_eq!(read(sender, bytes, step).0, expect, "by {step}");
    }
    whole.1
}

const WHOLE: u8 = END_HEADERS | END_STREAM;

/// A request with these fields.
fn get(fields: &[Vec<u8>]) -> Vec<u8> {
    [ANY_REQUEST, &fields.concat()].concat()
}

/// What is read of a request, in a line.
fn taken(heads: &Heads, stream: u32) -> String {
    match heads.take(stream) {
        Ok(head) => format!("{} {} {:?}", head.method, head.target, head.fields),
        Err((reason, why)) => format!("{reason:?}: {why}"),
    }
}

#[test]
fn a_request_is_held_and_one_that_stands_for_it_passes() {
    let first =
        [&[0x82, 0x86][..], &plain(":path", "/a"), &kept(":authority", "t"), &kept("x-a", "1")]
            .concat();
    let third = [&get(&[])[..], &[0xbf], &plain("content-length", "300")].concat();
    let padded = [&[2][..], &third, &[0, 0]].concat();
    let bytes = [
        frame(4, 0, 0, &[]),
        frame(HEADERS, END_STREAM, 1, &first[..5]),
        frame(CONTINUATION, 0, 1, &[]),
        frame(CONTINUATION, END_HEADERS, 1, &first[5..]),
        frame(HEADERS, END_HEADERS | PADDED, 3, &padded),
        frame(0, 0, 3, &[HEADERS; 300]),
        frame(HEADERS, WHOLE, 3, &[0xbe]),
        frame(7, 0, 0, &[0; 8])[..12].to_vec(),
    ]
    .concat();
    let expect = [
        frame(4, 0, 0, &[]),
        frame(HEADERS, WHOLE, 1, ANY_REQUEST),
        frame(HEADERS, END_HEADERS, 3, &get(&[plain("content-length", "300")])),
        frame(0, 0, 3, &[HEADERS; 300]),
        frame(HEADERS, WHOLE, 3, &plain("x-a", "1")),
        frame(7, 0, 0, &[0; 8])[..12].to_vec(),
    ]
    .concat();
    let heads = check(Sender::Client, &bytes, &expect);
    assert_eq!(taken(&heads, 1), r#"GET /a {"host": "t", "x-a": "1"}"#);
    assert_eq!(taken(&heads, 3), r#"GET / {"host": "t", "content-length": "300"}"#);
    assert!(heads.is_empty());
}

#[test]
fn what_a_service_sends_passes_as_it_came() {
    let bytes = [
        frame(HEADERS, END_HEADERS, 1, &[&[0x88][..], &kept("x-a", "1")].concat()),
        frame(0, 0, 1, &[HEADERS; 300]),
        frame(HEADERS, WHOLE, 1, &[0xbe]),
    ]
    .concat();
    check(Sender::Service, &bytes, &bytes);
    // Trailers of a stream that was given up have no status.
    let late = frame(HEADERS, WHOLE, 99, &[&kept("x-a", "1")[..], &[0xbe]].concat());
    check(Sender::Service, &late, &late);
}

#[test]
fn a_malformed_request_is_one_that_the_library_resets_and_the_tables_go_on() {
    let host = plain(":authority", "t");
    let bad = get(&[kept("x-a", "good"), kept("X-B", "bad")]);
    let bytes = [
        frame(HEADERS, WHOLE, 1, &bad),
        frame(HEADERS, WHOLE, 3, &get(&[host, vec![0xbf]])),
        frame(HEADERS, WHOLE, 5, &get(&[vec![0xbe]])),
    ]
    .concat();
    let reset = get(&[plain("te", "malformed")]);
    let expect = [
        frame(HEADERS, WHOLE, 1, &reset),
        frame(HEADERS, WHOLE, 3, ANY_REQUEST),
        frame(HEADERS, WHOLE, 5, &reset),
    ]
    .concat();
    let heads = check(Sender::Client, &bytes, &expect);
    assert_eq!(taken(&heads, 3), r#"GET / {"host": "t", "x-a": "good"}"#);
}

#[test]
fn requests_are_taken_in_the_order_of_their_streams_and_not_all_of_a_flood_are_held() {
    let host = plain(":authority", "t");
    let one = |stream| frame(HEADERS, WHOLE, stream, &get(std::slice::from_ref(&host)));
    let bytes: Vec<u8> = (1..12).step_by(2).flat_map(one).collect();
    let expect: Vec<u8> =
        (1..12).step_by(2).flat_map(|id| frame(HEADERS, WHOLE, id, ANY_REQUEST)).collect();
    let heads = check(Sender::Client, &bytes, &expect);
    // The library has refused the first.
    assert_eq!(taken(&heads, 3), r#"GET / {"host": "t"}"#);
    assert_eq!(taken(&heads, 5), r#"GET / {"host": "t"}"#);
    for stream in [7, 9, 11] {
        let say = "Overload: too many requests of this connection wait";
        assert_eq!(taken(&heads, stream), say);
    }
    assert!(heads.is_empty());
    let long = "x".repeat(70);
    let one = |stream| {
        let fields = [host.clone(), plain("a", &long)];
        frame(HEADERS, WHOLE, stream, &get(&fields))
    };
    let bytes: Vec<u8> = (1..8).step_by(2).flat_map(one).collect();
    let heads = read(Sender::Client, &bytes, usize::MAX).1;
    assert!(taken(&heads, 1).starts_with("GET"));
    assert_eq!(taken(&heads, 7), "Overload: too many requests of this connection wait");
}

#[test]
fn a_request_is_refused_for_what_one_by_http1_is_refused_for() {
    let host = || plain(":authority", "t");
    let long = "x".repeat(120);
    for (fields, expect) in [
        (vec![], "MalformedRequest: Host is missing, or not a host"),
        (vec![plain(":authority", "u@t")], "MalformedRequest: the authority names a user"),
        (vec![host(), plain("host", "u")], "MalformedRequest: :authority and Host differ"),
        (vec![host(), plain("host", "T")], r#"GET / {"host": "t"}"#),
        (
            vec![plain("host", "t"), plain("host", "t")],
            "MalformedRequest: Host is there more than once",
        ),
        (
            vec![host(), plain("a", " b")],
            "MalformedRequest: a field value begins or ends with white space",
        ),
        (
            vec![host(), plain("content-length", "1x")],
            "MalformedRequest: Content-Length is not one number",
        ),
        (
            vec![host(), plain("content-length", "1"), plain("content-length", "1")],
            "MalformedRequest: Content-Length is not one number",
        ),
        (
            vec![host(), plain("expect", "x")],
            "ExpectationFailed: an expectation other than 100-continue",
        ),
        (vec![host(), plain("a", &long)], "HeadersTooLarge: the header section is too large"),
        (
            vec![host(), plain("a", "1"), plain("b", "1"), plain("c", "1"), plain("d", "1")],
            "HeadersTooLarge: the header section has too many fields",
        ),
        (
            vec![
                host(),
                plain("cookie", "a=1"),
                plain("a", "1"),
                plain("cookie", "b=2"),
                plain("b", "1"),
            ],
            r#"GET / {"host": "t", "a": "1", "b": "1", "cookie": "a=1; b=2"}"#,
        ),
    ] {
        let heads = read(Sender::Client, &frame(HEADERS, WHOLE, 1, &get(&fields)), usize::MAX).1;
        assert_eq!(taken(&heads, 1), expect);
    }
    for (fields, expect) in [
        (vec![(":method", "CONNECT"), (":authority", "t:1")], r#"CONNECT t:1 {"host": "t:1"}"#),
        (
            vec![
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "http"),
                (":path", "/c"),
                (":authority", "t"),
            ],
            r#"CONNECT /c {"host": "t"}"#,
        ),
        (
            vec![(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "t")],
            r#"OPTIONS * {"host": "t"}"#,
        ),
        (
            vec![(":method", "GET"), (":scheme", "http"), (":path", "*"), (":authority", "t")],
            "MalformedRequest: only OPTIONS asks for `*`",
        ),
        (
            vec![(":method", "GET"), (":scheme", "ftp"), (":path", "/"), (":authority", "t")],
            "MalformedRequest: the scheme is neither http nor https",
        ),
        (
            vec![(":method", &long), (":scheme", "http"), (":path", "/"), (":authority", "t")],
            "NotSupported: the name of the method is too long to be one",
        ),
    ] {
        let block: Vec<u8> = fields.iter().flat_map(|(name, value)| plain(name, value)).collect();
        let heads = read(Sender::Client, &frame(HEADERS, WHOLE, 1, &block), usize::MAX).1;
        assert_eq!(taken(&heads, 1), expect, "{fields:?}");
    }
}

#[test]
fn every_breach_is_that_of_one_stream() {
    let long = "x".repeat(400);
    let reset = frame(HEADERS, END_HEADERS, 1, &get(&[plain("te", "malformed")]));
    let of_itself = [&[0, 0, 0, 1, 9][..], ANY_REQUEST].concat();
    check(Sender::Client, &frame(HEADERS, END_HEADERS | PRIORITY, 1, &of_itself), &reset);
    for fields in [
        &[("Ab", "c")][..],
        &[("", "c")],
        &[("a b", "c")],
        &[("a", "b\u{1}")],
        &[("a", "b\n")],
        &[("a", "b\u{7f}")],
        &[("connection", "close")],
        &[(":foo", "x")],
        &[(":status", "200")],
        &[(":method", "GE T")],
        &[(":path", "/a#b")],
        &[(":path", "/a b")],
        &[(":path", "")],
        &[(":authority", "a b")],
        &[(":scheme", "1")],
        &[("a", "b"), (":authority", "t")],
        &[(":authority", "t"), (":authority", "t")],
        &[(":protocol", "websocket")],
    ] {
        let block: Vec<u8> = fields.iter().flat_map(|(name, value)| plain(name, value)).collect();
        check(Sender::Client, &frame(HEADERS, END_HEADERS, 1, &get(&[block])), &reset);
    }
    // Without one of those that have to be there, or with one that CONNECT has not.
    for without in [&[0x86, 0x84][..], &[0x82, 0x84], &[0x82, 0x86]] {
        check(Sender::Client, &frame(HEADERS, END_HEADERS, 1, without), &reset);
    }
    let connect = [&plain(":method", "CONNECT")[..], &[0x84], &plain(":authority", "t:1")].concat();
    check(Sender::Client, &frame(HEADERS, END_HEADERS, 1, &connect), &reset);
    // One that is too large is told so.
    let bytes = frame(HEADERS, END_HEADERS, 1, &get(&[plain("a", &long)]));
    let heads = check(Sender::Client, &bytes, &frame(HEADERS, END_HEADERS, 1, ANY_REQUEST));
    assert_eq!(taken(&heads, 1), "HeadersTooLarge: the header section is too large");
    for (fields, fault) in [
        (&[("Ab", "c")][..], None),
        (&[("a", "b\u{1}")], None),
        (&[(":path", "/")], None),
        (&[(":status", "101")], None),
        (&[(":status", "2x")], None),
        (&[(":status", "099")], None),
        (&[(":status", "200"), (":status", "200")], None),
        (&[("a", "b"), (":status", "200")], None),
        (&[("a", "b")], None),
        (&[(":status", "103")], None),
        (&[(":status", "200"), ("a", &long)], Some(Fault::TooLarge)),
    ] {
        let block: Vec<u8> = fields.iter().flat_map(|(name, value)| plain(name, value)).collect();
        let heads = check(
            Sender::Service,
            &frame(HEADERS, WHOLE, 1, &block),
            &frame(HEADERS, WHOLE, 1, &[&[0x20], ANY_RESPONSE].concat()),
        );
        let found = heads.of_head(1).unwrap();
        assert!(fault.map_or(found != Fault::TooLarge, |fault| fault == found), "{fields:?}");
    }
}

#[test]
fn trailers_are_held_to_their_own_limits() {
    let head = frame(HEADERS, END_HEADERS, 1, &[0x88]);
    let long = "x".repeat(100);
    let many = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")];
    for (fields, fault) in [
        (&[("a", "1")][..], false),
        (&many[..3], false),
        (&many, true),
        (&[("a", &long)], true),
        (&[(":status", "200")], true),
        (&[("A", "1")], true),
    ] {
        let block: Vec<u8> = fields.iter().flat_map(|(name, value)| plain(name, value)).collect();
        let sent = frame(HEADERS, WHOLE, 1, &block);
        let none = frame(HEADERS, WHOLE, 1, &[0x20]);
        let bytes = [head.clone(), sent.clone()].concat();
        let expect = [head.clone(), if fault { none } else { sent }].concat();
        let heads = check(Sender::Service, &bytes, &expect);
        assert_eq!((heads.of_head(1), heads.of_trailers(1).is_some()), (None, fault), "{fields:?}");
    }
}

#[test]
fn an_interim_response_loses_its_length_alone() {
    let interim = [kept(":status", "103"), kept("content-length", "5"), kept("link", "<a>")];
    let bytes = [
        frame(HEADERS, END_HEADERS, 1, &interim.concat()),
        frame(HEADERS, END_HEADERS, 1, &[&[0x88, 0xbe][..], &kept("content-length", "2")].concat()),
    ]
    .concat();
    let plain_interim = [&[0x20][..], &plain(":status", "103"), &plain("link", "<a>")].concat();
    let last = [plain(":status", "200"), plain("link", "<a>"), plain("content-length", "2")];
    let expect = [
        frame(HEADERS, END_HEADERS, 1, &plain_interim),
        frame(HEADERS, END_HEADERS, 1, &last.concat()),
    ]
    .concat();
    let heads = check(Sender::Service, &bytes, &expect);
    assert_eq!(heads.of_head(1), None);
}

#[test]
fn what_cannot_be_decoded_ends_all() {
    let get = frame(HEADERS, WHOLE, 1, ANY_REQUEST);
    let lost = frame(HEADERS, END_HEADERS, 3, NOTHING);
    for broken in [
        frame(HEADERS, WHOLE, 3, &[0xff]),
        frame(HEADERS, WHOLE | PADDED, 3, &[9]),
        [frame(HEADERS, END_STREAM, 3, &[0x82]), get.clone()].concat(),
        frame(CONTINUATION, END_HEADERS, 3, &[]),
    ] {
        let bytes = [&get[..], &broken, &get].concat();
        let whole = read(Sender::Client, &bytes, usize::MAX).0;
        assert_eq!(whole, [&get[..], &lost].concat());
        // One that is cut off is passed on cut off, and the library sees that.
        assert_eq!(read(Sender::Client, &bytes, 7).0, whole);
    }
}

#[test]
fn a_block_that_does_not_end_ends_all() {
    let first = frame(HEADERS, 0, 3, &[0x82]);
    for more in [
        frame(CONTINUATION, 0, 3, &[0x82]).repeat(4010),
        frame(CONTINUATION, 0, 3, &[0x82; 9000]).repeat(5),
        frame(CONTINUATION, 0, 3, &[]).repeat(5000),
    ] {
        let bytes = [&first[..], &more].concat();
        let endless =
            [frame(HEADERS, 0, 3, &[]), frame(CONTINUATION, 0, 3, &[]).repeat(10)].concat();
        for step in [usize::MAX, 7] {
            assert_eq!(read(Sender::Client, &bytes, step).0, endless);
        }
    }
}

#[test]
fn a_large_block_is_written_in_frames_that_the_library_takes() {
    let mut out = Vec::new();
    write_block(1, true, &[b'x'; 40_000], &mut out);
    let mut at = 0;
    let mut seen = Vec::new();
    while at < out.len() {
        let frame = Frame::read(&out[at..]).unwrap();
        seen.push((frame.kind, frame.flags, frame.len));
        at += HEAD_LEN + frame.len;
    }
    assert_eq!(
        seen,
        [
            (HEADERS, END_STREAM, FRAME_MAX),
            (CONTINUATION, 0, FRAME_MAX),
            (CONTINUATION, END_HEADERS, 40_000 - 2 * FRAME_MAX)
        ]
    );
}

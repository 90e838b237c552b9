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
    trailers: HeadLimits { bytes_max: 100, count_max: 3 },
    list_max: 400,
    block_max: 40_000,
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

#[test]
fn what_is_fine_passes_as_it_came() {
    let request = [ANY_REQUEST, &kept(":authority", "t"), &kept("x-a", "1")].concat();
    let bytes = [
        frame(4, 0, 0, &[]),
        frame(HEADERS, END_STREAM, 1, &request[..5]),
        frame(CONTINUATION, 0, 1, &[]),
        frame(CONTINUATION, END_HEADERS, 1, &request[5..]),
        frame(HEADERS, END_HEADERS | PADDED, 3, &[&[2][..], ANY_REQUEST, &[0xbe, 0, 0]].concat()),
        frame(0, 0, 3, &[HEADERS; 300]),
        frame(HEADERS, WHOLE, 3, &[0xbe]),
        frame(7, 0, 0, &[0; 8])[..12].to_vec(),
    ]
    .concat();
    let heads = check(Sender::Client, &bytes, &bytes);
    assert!(heads.is_empty());
    // Trailers of a stream that was given up have no status.
    let late = frame(HEADERS, WHOLE, 99, &[&kept("x-a", "1")[..], &[0xbe]].concat());
    check(Sender::Service, &late, &late);
}

#[test]
fn a_malformed_request_is_one_that_the_library_resets_and_the_tables_go_on() {
    let bad = [ANY_REQUEST, &kept("x-a", "good"), &kept("X-B", "bad")].concat();
    let next = [ANY_REQUEST, &[0xbf]].concat();
    let again = [ANY_REQUEST, &[0xbe]].concat();
    let bytes = [
        frame(HEADERS, WHOLE, 1, &bad),
        frame(HEADERS, WHOLE, 3, &next),
        frame(HEADERS, WHOLE, 5, &again),
    ]
    .concat();
    let reset = [ANY_REQUEST, &plain("te", "malformed")].concat();
    let anew: Vec<u8> = [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("x-a", "good")]
        .iter()
        .flat_map(|(name, value)| plain(name, value))
        .collect();
    let expect = [
        frame(HEADERS, WHOLE, 1, &[&[0x20], &reset[..]].concat()),
        frame(HEADERS, WHOLE, 3, &anew),
        frame(HEADERS, WHOLE, 5, &reset),
    ]
    .concat();
    check(Sender::Client, &bytes, &expect);
}

#[test]
fn every_breach_is_that_of_one_stream() {
    let long = "x".repeat(400);
    for (name, value) in [
        ("Ab", "c"),
        ("", "c"),
        ("a b", "c"),
        ("a", "b\u{1}"),
        ("a", "b\n"),
        ("a", "b\u{7f}"),
        ("connection", "close"),
        (":foo", "x"),
        (":status", "200"),
        (":method", "GE T"),
        (":path", "/a#b"),
    ] {
        let bytes = frame(HEADERS, END_HEADERS, 1, &plain(name, value));
        let heads = check(
            Sender::Client,
            &bytes,
            &frame(
                HEADERS,
                END_HEADERS,
                1,
                &[&[0x20], ANY_REQUEST, &plain("te", "malformed")].concat(),
            ),
        );
        assert!(matches!(heads.of_head(1), Some(Fault::Malformed(_))), "{name}: {value}");
    }
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

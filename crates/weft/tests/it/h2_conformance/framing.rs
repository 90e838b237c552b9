//! Frames as such: their size, their kind, their padding, and header blocks in pieces (RFC 9113 sections
//! 4, 5.5, 6.1, 6.2, 6.6 and 6.10).

use weft_testkit::frames::{self, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS};

use super::{
    COMPRESSION, Case, Expect, PADDED, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, SIZE, STATE, Step,
    WITH_PRIORITY, block, case, data, frame, get, hold, post, settings, window, with,
};

const ENDED: Expect = Expect::Ended(&[PROTOCOL_ERROR]);

#[test]
fn sizes_and_kinds() {
    let whole = block(&with(&[]));
    let large = vec![b'x'; 1 << 14];
    hold(vec![
        case("4.1: a frame of an unknown kind", frame(0x16, 0xff, 0, [0; 8]), Expect::Works),
        case("4.1: the same on a stream", frame(0x16, 0xff, 1, [0; 8]), Expect::Works),
        case("5.5: an unknown kind of any length", frame(0xf0, 0, 0, []), Expect::Works),
        case(
            "4.2: DATA of 2^14",
            [post(1), data(1, END_STREAM, &large)].concat(),
            Expect::Answered(1),
        ),
        case(
            "4.2: DATA of 2^14 + 1",
            [post(1), frame(DATA, END_STREAM, 1, [&large[..], b"x"].concat())].concat(),
            Expect::Refused(1, SIZE),
        ),
        case(
            "4.2: HEADERS of 2^14 + 1",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, [&whole[..], &large[..]].concat()),
            Expect::Ended(SIZE),
        ),
        case("4.2: SETTINGS of more than 2^14", settings(&[(3, 100); 2731]), Expect::Ended(SIZE)),
        case(
            "4.3: a header block that is none",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, [0x40]),
            Expect::Ended(COMPRESSION),
        ),
        case(
            "6.6: PUSH_PROMISE of a client",
            [
                post(1),
                frame(
                    PUSH_PROMISE,
                    END_HEADERS,
                    1,
                    [&[0, 0, 0, 2][..], &frames::get("/")].concat(),
                ),
            ]
            .concat(),
            ENDED,
        ),
    ]);
}

#[test]
fn padding() {
    let whole = frames::get("/");
    let padded = |count: u8, length: usize| {
        let payload = [&[count][..], &whole, &vec![0; length]].concat();
        frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, payload)
    };
    let padded_data = |payload: &[u8]| [post(1), data(1, END_STREAM | PADDED, payload)].concat();
    let with_priority = |on: u32| {
        let payload = [&on.to_be_bytes()[..], &[15], &whole].concat();
        frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, payload)
    };
    let both = {
        let payload = [&[4][..], &0x8000_0000_u32.to_be_bytes(), &[255], &whole, &[0; 4]].concat();
        frame(HEADERS, END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY, 1, payload)
    };
    hold(vec![
        case("6.1: DATA with padding", padded_data(b"\x05hello\0\0\0\0\0"), Expect::Answered(1)),
        case("6.1: DATA with no padding", padded_data(b"\0hello"), Expect::Answered(1)),
        case("6.1: DATA of padding alone", padded_data(&[3, 0, 0, 0]), Expect::Answered(1)),
        case("6.1: padding as long as DATA", padded_data(b"\x06hello"), ENDED),
        case("6.1: padding longer than DATA", padded_data(b"\xffhello"), ENDED),
        case("6.1: padded DATA without a length", padded_data(b""), Expect::Ended(SIZE)),
        case("6.2: HEADERS with padding", padded(5, 5), Expect::Answered(1)),
        case("6.2: HEADERS with no padding", padded(0, 0), Expect::Answered(1)),
        case("6.2: padding longer than HEADERS", padded(255, 0), ENDED),
        case("6.2: HEADERS with a priority", with_priority(0), Expect::Answered(1)),
        case("6.2: HEADERS with both", both, Expect::Answered(1)),
        case(
            "5.3.1: HEADERS that depend on themselves",
            with_priority(1),
            Expect::RefusedOrIgnored(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "6.2: a priority that is cut short",
            frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, [0, 0]),
            Expect::Ended(SIZE),
        ),
    ]);
}

#[test]
fn header_blocks_in_pieces() {
    let whole = frames::get("/");
    let (head, tail) = whole.split_at(10);
    let begin = |stream: u32| frame(HEADERS, END_STREAM, stream, head);
    let go_on = |stream: u32, flags: u8, bytes: &[u8]| frame(CONTINUATION, flags, stream, bytes);
    let end = go_on(1, END_HEADERS, tail);
    // More of them, and smaller ones, would count as an attack.
    let crumbs: Vec<u8> = tail.chunks(16).flat_map(|bytes| go_on(1, 0, bytes)).collect();
    let between = |frame: Vec<u8>| [begin(1), frame, end.clone()].concat();
    hold(vec![
        case("6.10: one CONTINUATION", [begin(1), end.clone()].concat(), Expect::Answered(1)),
        case(
            "6.10: several, the last of them empty",
            [begin(1), crumbs, go_on(1, END_HEADERS, &[])].concat(),
            Expect::Answered(1),
        ),
        case(
            "6.10: HEADERS without a byte, then all",
            [frame(HEADERS, END_STREAM, 1, []), go_on(1, END_HEADERS, &whole)].concat(),
            Expect::Answered(1),
        ),
        case("6.10: DATA between", between(data(1, 0, b"x")), ENDED),
        case("6.10: PRIORITY between", between(frame(PRIORITY, 0, 1, [0, 0, 0, 0, 9])), ENDED),
        case("6.10: SETTINGS between", between(settings(&[])), ENDED),
        case("6.10: PING between", between(frame(frames::PING, 0, 0, [0; 8])), ENDED),
        case("6.10: WINDOW_UPDATE between", between(window(0, 1)), ENDED),
        case("6.10: RST_STREAM between", between(frame(3, 0, 1, [0; 4])), ENDED),
        case("5.5: an unknown kind between", between(frame(0x16, 0, 0, [0; 8])), ENDED),
        case("6.2: HEADERS of another stream between", between(get(3)), ENDED),
        case("6.10: CONTINUATION of another stream", between(go_on(3, END_HEADERS, tail)), ENDED),
        case("6.10: CONTINUATION on no stream", between(go_on(0, END_HEADERS, tail)), ENDED),
        case("6.10: CONTINUATION out of nothing", go_on(1, END_HEADERS, tail), ENDED),
        case(
            "6.10: CONTINUATION after a whole block",
            [post(1), go_on(1, END_HEADERS, &frames::literal("x-more", "1"))].concat(),
            ENDED,
        ),
        case(
            "6.10: CONTINUATION after the end of a block",
            [begin(1), end.clone(), go_on(1, END_HEADERS, &[])].concat(),
            Expect::Ended(STATE),
        ),
        case(
            "6.10: CONTINUATION after DATA",
            [post(1), data(1, 0, b"x"), go_on(1, END_HEADERS, &[])].concat(),
            ENDED,
        ),
        case("6.2: HEADERS on no stream", get(0), ENDED),
        case("6.1: DATA on no stream", data(0, END_STREAM, b"x"), ENDED),
        Case {
            about: "5.4.1: nothing is read after an error of the connection",
            steps: vec![Step::Send([data(0, 0, b"x"), get(1)].concat())],
            expect: ENDED,
        },
    ]);
}

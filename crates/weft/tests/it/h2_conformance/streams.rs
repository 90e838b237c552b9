//! Streams: their states, their numbers, how many, and frames that come when they may not (RFC 9113
//! sections 5.1, 5.3, 6.3 and 6.4).

use weft_testkit::frames::{CONTINUATION, END_HEADERS, END_STREAM, RST_STREAM};

use super::{
    Case, Expect, PRIORITY, PROTOCOL_ERROR, REFUSED_STREAM, SIZE, STATE, Step, case, data, frame,
    get, held, hold, post, window,
};

const ENDED: Expect = Expect::Ended(&[PROTOCOL_ERROR]);
const CLOSED: Expect = Expect::Refused(1, STATE);

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, 8_u32.to_be_bytes())
}

fn priority(stream: u32, on: u32, weight: u8) -> Vec<u8> {
    frame(PRIORITY, 0, stream, [&on.to_be_bytes()[..], &[weight]].concat())
}

#[test]
fn states() {
    // The stream is answered to its end, and only then more is sent on it.
    let after = |about, more: Vec<u8>, expect| Case {
        about,
        steps: vec![Step::Send(get(1)), Step::Ended(1), Step::Send(more)],
        expect,
    };
    let on_held = |more: Vec<u8>| [held(1), more].concat();
    let on_reset = |more: Vec<u8>| [held(1), reset(1), more].concat();
    hold(vec![
        case("5.1: idle: DATA", data(1, END_STREAM, b"x"), ENDED),
        case("5.1: idle: RST_STREAM", reset(1), ENDED),
        case("5.1: idle: WINDOW_UPDATE", window(1, 100), ENDED),
        case("5.1: idle: CONTINUATION", frame(CONTINUATION, END_HEADERS, 1, []), ENDED),
        case("5.1: idle: PRIORITY", priority(1, 0, 255), Expect::Works),
        case("5.1: half-closed: DATA", on_held(data(1, END_STREAM, b"x")), CLOSED),
        case("5.1: half-closed: HEADERS", on_held(get(1)), CLOSED),
        case("5.1: half-closed: WINDOW_UPDATE", on_held(window(1, 100)), Expect::Works),
        case("5.1: half-closed: PRIORITY", on_held(priority(1, 0, 255)), Expect::Works),
        case("5.1: half-closed: RST_STREAM", on_held(reset(1)), Expect::Works),
        case("5.1: after RST_STREAM: DATA", on_reset(data(1, END_STREAM, b"x")), CLOSED),
        case("5.1: after RST_STREAM: HEADERS", on_reset(get(1)), CLOSED),
        case("5.1: after RST_STREAM: PRIORITY", on_reset(priority(1, 0, 9)), Expect::Works),
        case("5.1: after RST_STREAM: WINDOW_UPDATE", on_reset(window(1, 9)), Expect::Works),
        case("5.1: after RST_STREAM: another", on_reset(reset(1)), Expect::Works),
        after("5.1: closed: DATA", data(1, END_STREAM, b"x"), CLOSED),
        after("5.1: closed: HEADERS", get(1), Expect::Refused(1, STATE)),
        after("5.1: closed: PRIORITY", priority(1, 0, 255), Expect::Works),
        after("5.1: closed: WINDOW_UPDATE", window(1, 100), Expect::Works),
        after("5.1: closed: RST_STREAM", reset(1), Expect::Works),
        after(
            "5.1: closed: CONTINUATION",
            frame(CONTINUATION, END_HEADERS, 1, []),
            Expect::Ended(STATE),
        ),
    ]);
}

#[test]
fn numbers_and_how_many() {
    // A hundred may be open; no settings say otherwise.
    let full: Vec<u8> = (0..100).flat_map(|at| post(at * 2 + 1)).collect();
    let all_end: Vec<u8> = (0..100).flat_map(|at| data(at * 2 + 1, END_STREAM, b"x")).collect();
    hold(vec![
        case("5.1.1: an even stream", get(2), ENDED),
        case("5.1.1: a lower stream", [get(5), get(3)].concat(), Expect::Ended(STATE)),
        case("5.1.1: streams may be left out", [get(1), get(901)].concat(), Expect::Answered(901)),
        Case {
            about: "5.1.2: one stream too many",
            steps: vec![
                Step::Send([full.clone(), get(201), all_end.clone()].concat()),
                Step::Ended(199),
            ],
            expect: Expect::Refused(201, &[REFUSED_STREAM, PROTOCOL_ERROR]),
        },
        case("5.1.2: as many as allowed", [full, all_end].concat(), Expect::Answered(199)),
    ]);
}

#[test]
fn priority_and_reset() {
    let bytes = |kind, stream, length: usize| frame(kind, 0, stream, vec![0; length]);
    let refused = |code| Expect::Refused(1, code);
    hold(vec![
        case("6.3: PRIORITY on no stream", priority(0, 0, 9), ENDED),
        case("6.3: PRIORITY of 4 bytes", [post(1), bytes(PRIORITY, 1, 4)].concat(), refused(SIZE)),
        case("5.3: the highest weight", priority(1, 0, 255), Expect::Works),
        case("5.3: alone below another", priority(3, (1 << 31) | 1, 0), Expect::Works),
        case(
            "5.3.1: PRIORITY on itself",
            [held(1), priority(1, 1, 9)].concat(),
            Expect::RefusedOrIgnored(1, &[PROTOCOL_ERROR]),
        ),
        case("6.4: RST_STREAM on no stream", reset(0), ENDED),
        case(
            "6.4: RST_STREAM of 3 bytes",
            [post(1), bytes(RST_STREAM, 1, 3)].concat(),
            Expect::Ended(SIZE),
        ),
        case(
            "6.4: RST_STREAM of 5 bytes",
            [post(1), bytes(RST_STREAM, 1, 5)].concat(),
            Expect::Ended(SIZE),
        ),
        case("6.4: a request that is given up", [post(1), reset(1)].concat(), Expect::Works),
    ]);
}

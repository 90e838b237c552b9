//! Flow control (RFC 9113 section 6.9).

use weft_testkit::frames::END_STREAM;

use super::{
    Case, Expect, FLOW, PROTOCOL_ERROR, SIZE, Step, WINDOW_UPDATE, case, data, frame, get, held,
    hold, post, settings, window,
};

const WINDOW: u16 = 4;
const MOST: u32 = (1 << 31) - 1;

#[test]
fn windows() {
    let bytes = |stream, length: usize| frame(WINDOW_UPDATE, 0, stream, vec![0; length]);
    // What waits is sent by and by; the answer has four bytes.
    let waits = |about, steps| Case { about, steps, expect: Expect::Answered(1) };
    let pong = *b"quietly.";
    let ping = || frame(weft_testkit::frames::PING, 0, 0, pong);
    hold(vec![
        waits(
            "6.9.1: a window of 1",
            vec![
                Step::Send([settings(&[(WINDOW, 1)]), get(1)].concat()),
                Step::Data(1, 1),
                Step::Send(ping()),
                Step::Pong(pong),
                Step::Data(1, 1),
                Step::Send(window(1, 3)),
            ],
        ),
        waits(
            "6.9.2: a window that was 0 when the request came",
            vec![
                Step::Send([settings(&[(WINDOW, 0)]), get(1)].concat()),
                Step::Send(ping()),
                Step::Pong(pong),
                Step::Data(1, 0),
                Step::Send(settings(&[(WINDOW, 4)])),
            ],
        ),
        waits(
            "6.9.2: a window that was made less than nothing",
            vec![
                Step::Send([settings(&[(WINDOW, 3)]), get(1)].concat()),
                Step::Data(1, 3),
                Step::Send([settings(&[(WINDOW, 2)]), window(1, 1), ping()].concat()),
                Step::Pong(pong),
                Step::Data(1, 3),
                Step::Send(window(1, 1)),
                Step::Data(1, 4),
            ],
        ),
        waits(
            "6.5.3: the last of two values in one frame holds",
            vec![
                Step::Send([settings(&[(WINDOW, 100), (WINDOW, 1)]), get(1)].concat()),
                Step::Data(1, 1),
                Step::Send(ping()),
                Step::Pong(pong),
                Step::Data(1, 1),
                Step::Send(window(1, 3)),
            ],
        ),
        case("6.9: an increment on the connection", window(0, 100), Expect::Works),
        case("6.9: none on the connection", window(0, 0), Expect::Ended(&[PROTOCOL_ERROR])),
        case(
            "6.9: none on a stream",
            [held(1), window(1, 0)].concat(),
            Expect::Refused(1, &[PROTOCOL_ERROR]),
        ),
        case("6.9: WINDOW_UPDATE of 3 bytes", bytes(0, 3), Expect::Ended(SIZE)),
        case("6.9: WINDOW_UPDATE of 5 bytes", [held(1), bytes(1, 5)].concat(), Expect::Ended(SIZE)),
        case(
            "6.9.1: too large a window of the connection",
            [window(0, MOST), window(0, MOST)].concat(),
            Expect::Ended(FLOW),
        ),
        case(
            "6.9.1: too large a window of a stream",
            [held(1), window(1, MOST), window(1, MOST)].concat(),
            Expect::Refused(1, FLOW),
        ),
        case(
            "6.9.2: SETTINGS that make a window too large",
            [held(1), window(1, MOST - 65_535), settings(&[(WINDOW, 65_536)])].concat(),
            Expect::Ended(FLOW),
        ),
        case("6.9: the reserved bit", frame(WINDOW_UPDATE, 0, 0, [0x80, 0, 0, 1]), Expect::Works),
    ]);
}

#[test]
fn more_than_the_window_allows_is_refused() {
    // What is delayed is not read, so that nothing is credited.
    let flood: Vec<u8> = (0..17).flat_map(|_| data(1, 0, &[b'x'; 16_000])).collect();
    hold(vec![
        case(
            "6.9: a stream beyond its window",
            [super::post_to(1, "/deaf"), flood].concat(),
            Expect::Refused(1, FLOW),
        ),
        case(
            "6.9: empty DATA needs no window",
            [post(1), data(1, 0, b""), data(1, END_STREAM, b"")].concat(),
            Expect::Answered(1),
        ),
    ]);
}

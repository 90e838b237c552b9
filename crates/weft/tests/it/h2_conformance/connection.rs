//! SETTINGS, PING, GOAWAY, and what they may not be (RFC 9113 sections 3.4, 6.5, 6.7, 6.8 and 7).

use weft_testkit::{Upstream, Weft, frames};

use super::{
    BIN, Case, Expect, FLOW, PROTOCOL_ERROR, SIZE, Step, case, frame, hold, post, settings,
};

const ACK: u8 = frames::END_STREAM;

#[test]
fn another_preface_is_not_http2() {
    let service = Upstream::saying("well");
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
    // What is no preface of HTTP/2 is HTTP/1.1, of a version that is not spoken.
    let mut conn = weft.connect("web");
    conn.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    let answer = conn.rest();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
}

#[test]
fn settings_and_their_values() {
    let odd = |length: usize| frame(frames::SETTINGS, 0, 0, vec![0; length]);
    let set = |about, id, value, expect| case(about, settings(&[(id, value)]), expect);
    hold(vec![
        Case {
            about: "6.5: SETTINGS are acknowledged",
            steps: vec![
                Step::Send([settings(&[(3, 100)]), settings(&[])].concat()),
                // The first ones stand in the preface.
                Step::Settled(3),
            ],
            expect: Expect::Works,
        },
        case(
            "6.5: an acknowledgement with a payload",
            frame(frames::SETTINGS, ACK, 0, [0; 6]),
            Expect::Ended(SIZE),
        ),
        case(
            "6.5: SETTINGS on a stream",
            [post(1), frame(frames::SETTINGS, 0, 1, [])].concat(),
            Expect::Ended(&[PROTOCOL_ERROR]),
        ),
        case("6.5: a length of 5", odd(5), Expect::Ended(SIZE)),
        case("6.5: a length of 7", odd(7), Expect::Ended(SIZE)),
        set("6.5.2: ENABLE_PUSH of 2", 2, 2, Expect::Ended(&[PROTOCOL_ERROR])),
        set("6.5.2: ENABLE_PUSH of 0", 2, 0, Expect::Works),
        set("6.5.2: a window of 2^31", 4, 1 << 31, Expect::Ended(FLOW)),
        set("6.5.2: a window of 2^31 - 1", 4, (1 << 31) - 1, Expect::Works),
        set("6.5.2: frames of 2^14 - 1", 5, (1 << 14) - 1, Expect::Ended(&[PROTOCOL_ERROR])),
        set("6.5.2: frames of 2^24", 5, 1 << 24, Expect::Ended(&[PROTOCOL_ERROR])),
        set("6.5.2: frames of 2^24 - 1", 5, (1 << 24) - 1, Expect::Works),
        set("6.5.2: an unknown setting", 0xff, 7, Expect::Works),
        set("6.5.2: a table of no size", 1, 0, Expect::Works),
        set("6.5.2: a table of the largest size", 1, u32::MAX, Expect::Works),
        set("8441 3: ENABLE_CONNECT_PROTOCOL of 2", 8, 2, Expect::Ended(&[PROTOCOL_ERROR])),
    ]);
}

#[test]
fn ping_goaway_and_error_codes() {
    let ping = |flags, stream, payload: &[u8]| frame(frames::PING, flags, stream, payload);
    let goaway =
        |stream, code: u32| frame(frames::GOAWAY, 0, stream, [[0; 4], code.to_be_bytes()].concat());
    let payload = *b"weft-now";
    hold(vec![
        Case {
            about: "6.7: a PING comes back as it was",
            steps: vec![Step::Send(ping(0, 0, &payload)), Step::Pong(payload)],
            expect: Expect::Works,
        },
        Case {
            about: "4.1: flags that a PING does not have, and the reserved bit, mean nothing",
            steps: vec![Step::Send(ping(0x16, 1 << 31, &payload)), Step::Pong(payload)],
            expect: Expect::Works,
        },
        case("6.7: an acknowledgement nobody asked for", ping(ACK, 0, &payload), Expect::Works),
        case("6.7: PING on a stream", ping(0, 1, &payload), Expect::Ended(&[PROTOCOL_ERROR])),
        case("6.7: PING of 6 bytes", ping(0, 0, &[0; 6]), Expect::Ended(SIZE)),
        case("6.7: PING of 9 bytes", ping(0, 0, &[0; 9]), Expect::Ended(SIZE)),
        case("6.8: GOAWAY on a stream", goaway(1, 0), Expect::Ended(&[PROTOCOL_ERROR])),
        case("6.8: GOAWAY of 7 bytes", frame(7, 0, 0, [0; 7]), Expect::Ended(SIZE)),
        case("6.8: GOAWAY ends an idle connection", goaway(0, 0), Expect::Left),
        case("7: GOAWAY of an unknown code", goaway(0, 0xff), Expect::Left),
        case(
            "7: RST_STREAM of an unknown code",
            [post(1), frame(frames::RST_STREAM, 0, 1, 0xff_u32.to_be_bytes())].concat(),
            Expect::Works,
        ),
    ]);
}

//! HTTP/2 clients that attack: the connection ends with GOAWAY, memory is bounded, others are unharmed.

use weft_testkit::{
    Conn, Upstream, Weft,
    frames::{self, Frame},
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn before(service: &Upstream) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: off
telemetry: {{ access_log: none }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
    )
}

/// Opens a connection and sends `count` times what `next` gives for its turn, until it is closed.
/// Gives the code of the GOAWAY, if one came.
fn flood(weft: &Weft, count: u32, next: impl Fn(u32) -> Vec<u8> + Send + 'static) -> Option<u32> {
    let mut conn = weft.connect("web");
    let mut hello = frames::PREFACE.to_vec();
    Frame::new(frames::SETTINGS, 0, 0, []).write(&mut hello);
    conn.send(hello);
    let mut writer = Conn::of(conn.stream().try_clone().unwrap());
    let writing = std::thread::spawn(move || {
        for turn in 0..count {
            if !writer.send(next(turn)) {
                return;
            }
        }
    });
    let code = Frame::read_goaway(&mut conn);
    drop(conn);
    writing.join().unwrap();
    code
}

#[test]
fn floods_end_their_connection_and_harm_nobody() {
    let service = Upstream::saying("well");
    let weft = before(&service);
    let mut other = weft.connect("web");
    assert_eq!(other.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n").text(), "well");
    let memory = weft.memory();
    let ended = frames::END_STREAM | frames::END_HEADERS;

    let rapid_reset = flood(&weft, 20_000, move |turn| {
        let stream = turn * 2 + 1;
        let mut out = Frame::new(frames::HEADERS, ended, stream, frames::get("/")).bytes();
        Frame::new(frames::RST_STREAM, 0, stream, 8u32.to_be_bytes()).write(&mut out);
        out
    });
    assert!(rapid_reset.is_some_and(|code| code != 0), "rapid reset: {rapid_reset:?}");

    let continuation = flood(&weft, 20_000, |turn| match turn {
        0 => Frame::new(frames::HEADERS, frames::END_STREAM, 1, frames::get("/")).bytes(),
        _ => {
            let field = frames::literal("x-filler", &"x".repeat(100)).repeat(100);
            Frame::new(frames::CONTINUATION, 0, 1, field).bytes()
        }
    });
    assert!(continuation.is_some_and(|code| code != 0), "CONTINUATION: {continuation:?}");

    let grown = weft.memory().saturating_sub(memory);
    assert!(grown < 64 << 20, "grown by {grown} bytes");
    assert_eq!(other.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n").text(), "well");
    assert_eq!(weft.get("/", "").text(), "well");
}

//! HTTP/2 clients that attack: the connection ends with GOAWAY, memory is bounded, others are unharmed.

use weft_testkit::{
    Conn, Upstream, Weft,
    frames::{self, Frame},
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
/// The error code by which a client is told that it is too much.
const ENHANCE_YOUR_CALM: u32 = 11;
/// How far the node may grow for an attack.
const GROWTH_MAX: u64 = 64 << 20;
const ENDED: u8 = frames::END_STREAM | frames::END_HEADERS;
const WINDOW_UPDATE: u8 = 8;

fn before(service: &Upstream) -> Weft {
    before_with(service, "")
}

/// A node whose listener has more settings than an address.
fn before_with(service: &Upstream, listener: &str) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all, log: debug }}
listeners: {{ web: {{ address: '@web'{listener} }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
    )
}

/// The preface and settings.
fn hello(settings: &[u8]) -> Vec<u8> {
    let mut hello = frames::PREFACE.to_vec();
    Frame::new(frames::SETTINGS, 0, 0, settings).write(&mut hello);
    hello
}

/// Opens a connection and sends `count` times what `next` gives for its turn, until it is closed.
/// Gives the code of the GOAWAY, if one came.
fn flood(weft: &Weft, count: u32, next: &(dyn Fn(u32) -> Vec<u8> + Sync)) -> Option<u32> {
    let mut conn = weft.connect("web");
    conn.send(hello(&[]));
    let mut writer = Conn::of(conn.stream().try_clone().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || (0..count).all(|turn| writer.send(next(turn))));
        let code = Frame::read_goaway(&mut conn);
        drop(conn);
        code
    })
}

type Attack = Box<dyn Fn(u32) -> Vec<u8> + Sync>;

fn attacks() -> Vec<(&'static str, Attack)> {
    let open =
        |turn: u32| Frame::new(frames::HEADERS, ENDED, turn * 2 + 1, frames::get("/")).bytes();
    let unended = |turn: u32| {
        (turn == 0)
            .then(|| Frame::new(frames::HEADERS, frames::END_HEADERS, 1, frames::get("/")).bytes())
    };
    vec![
        (
            "rapid reset",
            Box::new(move |turn| {
                let mut out = open(turn);
                let code = 8u32.to_be_bytes();
                Frame::new(frames::RST_STREAM, 0, turn * 2 + 1, code).write(&mut out);
                out
            }),
        ),
        (
            // The server is made to reset each stream by what breaks a rule.
            "made to reset",
            Box::new(move |turn| {
                let mut out = open(turn);
                let beyond = 0x7fff_ffff_u32.to_be_bytes();
                Frame::new(WINDOW_UPDATE, 0, turn * 2 + 1, beyond).write(&mut out);
                out
            }),
        ),
        ("SETTINGS", Box::new(|_| Frame::new(frames::SETTINGS, 0, 0, []).bytes())),
        ("PING", Box::new(|turn| Frame::new(frames::PING, 0, 0, [turn as u8; 8]).bytes())),
        (
            "empty DATA",
            Box::new(move |turn| {
                unended(turn).unwrap_or_else(|| Frame::new(frames::DATA, 0, 1, []).bytes())
            }),
        ),
        (
            "CONTINUATION",
            Box::new(|turn| match turn {
                0 => Frame::new(frames::HEADERS, frames::END_STREAM, 1, frames::get("/")).bytes(),
                _ => {
                    let field = frames::literal("x-filler", &"x".repeat(100)).repeat(100);
                    Frame::new(frames::CONTINUATION, 0, 1, field).bytes()
                }
            }),
        ),
        (
            "empty CONTINUATION",
            Box::new(|turn| match turn {
                0 => Frame::new(frames::HEADERS, frames::END_STREAM, 1, frames::get("/")).bytes(),
                _ => Frame::new(frames::CONTINUATION, 0, 1, []).bytes(),
            }),
        ),
    ]
}

#[test]
fn floods_end_their_connection_and_harm_nobody() {
    let service = Upstream::saying("well");
    let weft = before(&service);
    let mut other = weft.connect("web");
    assert_eq!(other.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n").text(), "well");
    let memory = weft.memory();
    let mut wrong = Vec::new();
    for (what, attack) in attacks() {
        let code = flood(&weft, 50_000, &attack);
        let grown = weft.memory().saturating_sub(memory);
        if code != Some(ENHANCE_YOUR_CALM) || grown > GROWTH_MAX {
            wrong.push(format!("{what}: GOAWAY {code:?}, grown by {grown} bytes"));
        }
        assert_eq!(other.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n").text(), "well", "{what}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let count = attacks().len() as f64;
    weft.wait_metric("weft_listener_protocol_errors_total", &["listener=\"web\""], count);
    for why in ["too many resets or control frames", "the client broke the rules of HTTP/2"] {
        assert!(weft.wait_line(why).contains("malformed_request"), "{why}");
    }
    assert_eq!(weft.get("/", "").text(), "well");
}

#[test]
fn a_header_bomb_is_refused_before_it_unfolds() {
    let service = Upstream::saying("well");
    let weft = before(&service);
    let memory = weft.memory();
    let mut conn = weft.connect("web");
    conn.send(hello(&[]));
    for turn in 0..50 {
        let mut block = frames::get("/");
        // A long field that is kept in the table (3,900 bytes), and four thousand times a byte for it.
        block.extend([0x40, 1, b'x', 0x7f, 0xbd, 0x1d]);
        block.extend([b'y'; 3_900]);
        block.extend([0xbe; 4_000]);
        conn.send(Frame::new(frames::HEADERS, ENDED, turn * 2 + 1, block).bytes());
    }
    let mut answers = 0;
    while let Some(frame) = Frame::read(&mut conn) {
        match frame.kind {
            // `:status: 200` is the eighth of the static table.
            frames::HEADERS => assert_ne!(frame.payload[0], 0x88, "it was taken"),
            frames::RST_STREAM => {}
            frames::GOAWAY => break,
            _ => continue,
        }
        answers += 1;
        if answers == 50 {
            break;
        }
    }
    let grown = weft.memory().saturating_sub(memory);
    assert!(grown < GROWTH_MAX, "grown by {grown} bytes");
    assert_eq!(service.seen(), []);
    assert_eq!(weft.get("/", "").text(), "well");
}

#[test]
fn streams_whose_client_takes_nothing_cost_little() {
    let service = Upstream::answering(|request| match request.target() {
        "/large" => ok(&"x".repeat(1 << 20)),
        _ => ok("well"),
    });
    let weft = before(&service);
    let memory = weft.memory();
    let mut conn = weft.connect("web");
    // SETTINGS_INITIAL_WINDOW_SIZE (4) of nothing.
    let mut out = hello(&[0, 4, 0, 0, 0, 0]);
    for turn in 0..100 {
        Frame::new(frames::HEADERS, ENDED, turn * 2 + 1, frames::get("/large")).write(&mut out);
    }
    conn.send(out);
    let mut heads = 0;
    while heads < 100 {
        let frame = Frame::read(&mut conn).unwrap();
        heads += u32::from(frame.kind == frames::HEADERS);
        assert!(frame.kind != frames::DATA || frame.payload.is_empty(), "{frame:?}");
    }
    let grown = weft.memory().saturating_sub(memory);
    assert!(grown < GROWTH_MAX, "grown by {grown} bytes");
    assert_eq!(weft.get("/", "").text(), "well");
    // Once it takes something, it is sent what was kept for it.
    conn.send(Frame::new(WINDOW_UPDATE, 0, 1, (4u32 << 20).to_be_bytes()).bytes());
    conn.send(Frame::new(WINDOW_UPDATE, 0, 0, (4u32 << 20).to_be_bytes()).bytes());
    let mut read = 0;
    while read < 1 << 20 {
        let frame = Frame::read(&mut conn).unwrap();
        assert!(frame.kind != frames::RST_STREAM, "{frame:?}");
        if frame.kind == frames::DATA {
            assert_eq!(frame.stream, 1);
            read += frame.payload.len();
        }
    }
    conn.reset();
    let line = weft.wait_line("\"reason\":\"caller_gone\"");
    assert!(line.contains("/large"), "{line}");
}

/// What is sent to a client that gives no room for it is given up, and the service with it.
#[test]
fn streams_whose_client_takes_nothing_are_given_up() {
    let service = Upstream::answering(|_| ok(&"x".repeat(1 << 20)));
    let weft = before_with(&service, ", timeouts: { stream_idle: 300ms }");
    let mut conn = weft.connect("web");
    let mut out = hello(&[0, 4, 0, 0, 0, 0]);
    Frame::new(frames::HEADERS, ENDED, 1, frames::get("/large")).write(&mut out);
    conn.send(out);
    let mut given_up = false;
    while let Some(frame) = Frame::read(&mut conn) {
        if frame.kind == frames::RST_STREAM {
            given_up = true;
            break;
        }
    }
    assert!(given_up, "the stream was neither read nor reset, and yet kept");
    let line = weft.wait_line("/large");
    assert!(line.contains("caller_gone") && line.contains("200"), "{line}");
}

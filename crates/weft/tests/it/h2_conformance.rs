//! HTTP/2 by the letter: each rule of RFC 9113 and RFC 7541 about what a server does with a frame, as
//! bytes that are sent to the real binary and what must come of them.
//!
//! The cases are tables by section. A case runs on a connection of its own, all of them against one node;
//! every case that fails is told, not the first alone. Where the RFC leaves a choice, each of its ways
//! passes: an error of a stream may end the connection (section 5.4.2), and a malformed request may be
//! answered with 400 (section 8.1.1).

mod connection;
mod flow;
mod framing;
mod hpack;
mod messages;
mod streams;

use std::thread;

use weft_testkit::{
    Conn, Upstream, Weft,
    frames::{self, Frame},
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

// The kinds of frames and the flags that the frames of the kit do not name.
const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
const WINDOW_UPDATE: u8 = 8;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;

// Error codes (RFC 9113 section 7).
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;

// The RFC names one code for each of these. The library often says PROTOCOL_ERROR, which tells a client no
// less about what to do; what counts is that the frame has no effect and the connection or stream ends.
const FLOW: &[u32] = &[3, PROTOCOL_ERROR];
const STATE: &[u32] = &[5, PROTOCOL_ERROR];
const SIZE: &[u32] = &[6, PROTOCOL_ERROR];
const COMPRESSION: &[u32] = &[9, PROTOCOL_ERROR];

/// The stream of the request that shows that a connection still works.
const LAST: u32 = 1001;

/// One rule.
struct Case {
    /// What is done.
    about: &'static str,
    /// How.
    steps: Vec<Step>,
    /// What must come of it.
    expect: Expect,
}

/// One step of a case.
enum Step {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Waits until the server has ended a stream.
    Ended(u32),
    /// Waits for so many bytes of a stream, and not one more of what was allowed.
    Data(u32, usize),
    /// Waits for the acknowledgement of a ping with this payload.
    Pong([u8; 8]),
    /// Waits until so many SETTINGS were acknowledged.
    Settled(usize),
}

/// What must come of a case.
enum Expect {
    /// The connection goes on working, and no stream was reset.
    Works,
    /// A stream is answered with 200, and the connection goes on working.
    Answered(u32),
    /// A stream is reset with one of these codes, or its request answered with 400; or the whole
    /// connection is ended with one of these codes.
    Refused(u32, &'static [u32]),
    /// The connection is ended, by a GOAWAY with one of these codes.
    Ended(&'static [u32]),
    /// The connection is closed without a word of error.
    Left,
    /// A stream is refused, or what was sent is ignored.
    RefusedOrIgnored(u32, &'static [u32]),
}

fn case(about: &'static str, bytes: impl Into<Vec<u8>>, expect: Expect) -> Case {
    Case { about, steps: vec![Step::Send(bytes.into())], expect }
}

/// The bytes of one frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Vec<u8> {
    Frame::new(kind, flags, stream, payload).bytes()
}

/// A whole GET.
fn get(stream: u32) -> Vec<u8> {
    get_of(stream, "/")
}

/// A whole GET of a path.
fn get_of(stream: u32, path: &str) -> Vec<u8> {
    frame(frames::HEADERS, frames::END_STREAM | frames::END_HEADERS, stream, frames::get(path))
}

/// A whole GET of what is answered, but never to its end.
fn held(stream: u32) -> Vec<u8> {
    get_of(stream, "/held")
}

/// A request of these fields without a body.
fn request(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    let flags = frames::END_STREAM | frames::END_HEADERS;
    frame(frames::HEADERS, flags, stream, block(fields))
}

/// The head of a POST; its body is still to come.
fn post(stream: u32) -> Vec<u8> {
    post_to(stream, "/")
}

/// The head of a POST to a path.
fn post_to(stream: u32, path: &str) -> Vec<u8> {
    let mut fields = with(&[]);
    fields[2].1 = path;
    frame(frames::HEADERS, frames::END_HEADERS, stream, block(&fields))
}

/// A header block.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| frames::literal(name, value)).collect()
}

/// The fields of a POST, and more.
fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields =
        vec![(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "test")];
    fields.extend_from_slice(more);
    fields
}

/// DATA.
fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(frames::DATA, flags, stream, bytes)
}

/// `WINDOW_UPDATE`.
fn window(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, by.to_be_bytes())
}

/// SETTINGS with one value after the other.
fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let pair = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(frames::SETTINGS, 0, 0, values.iter().flat_map(pair).collect::<Vec<u8>>())
}

/// What a connection has shown so far.
#[derive(Default)]
struct Seen {
    /// The status of streams, as far as it has a place in the static table.
    status: Vec<(u32, u16)>,
    ended: Vec<u32>,
    reset: Vec<(u32, u32)>,
    data: Vec<(u32, usize)>,
    pongs: Vec<Vec<u8>>,
    settled: usize,
    goaway: Option<u32>,
    closed: bool,
}

struct Session {
    conn: Conn,
    seen: Seen,
}

impl Session {
    fn open(weft: &Weft) -> Self {
        let mut conn = weft.connect("web");
        conn.send([frames::PREFACE, &settings(&[])].concat());
        let first = Frame::read(&mut conn).expect("the server's preface");
        assert_eq!((first.kind, first.flags, first.stream), (frames::SETTINGS, 0, 0));
        conn.send(frame(frames::SETTINGS, frames::END_STREAM, 0, []));
        Self { conn, seen: Seen::default() }
    }

    /// Takes one more frame in.
    fn next(&mut self) {
        let Some(frame) = Frame::read(&mut self.conn) else {
            self.seen.closed = true;
            return;
        };
        let stream = frame.stream;
        let ends = frame.flags & frames::END_STREAM != 0;
        let code = |at: usize| {
            let bytes = frame.payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_be_bytes(bytes.expect("a code"))
        };
        match frame.kind {
            frames::HEADERS => {
                // A change of the table's size may stand before (RFC 7541 section 4.2).
                let first = frame.payload.iter().find(|byte| **byte & 0xe0 != 0x20);
                let status = match first {
                    Some(0x88) => 200,
                    Some(0x8c) => 400,
                    _ => 0,
                };
                self.seen.status.push((stream, status));
            }
            frames::DATA => self.seen.data.push((stream, frame.payload.len())),
            frames::RST_STREAM => self.seen.reset.push((stream, code(0))),
            frames::GOAWAY => self.seen.goaway = Some(code(4)),
            frames::PING if ends => self.seen.pongs.push(frame.payload.clone()),
            frames::SETTINGS if ends => self.seen.settled += 1,
            _ => {}
        }
        if ends && matches!(frame.kind, frames::HEADERS | frames::DATA) {
            self.seen.ended.push(stream);
        }
    }

    /// Takes frames in until it is so; false if the connection ends before.
    fn until(&mut self, so: impl Fn(&Seen) -> bool) -> bool {
        while !so(&self.seen) {
            if self.seen.closed {
                return false;
            }
            self.next();
        }
        true
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        let happened = match step {
            // A server may close while something is still being sent.
            Step::Send(bytes) => {
                self.conn.send(bytes);
                true
            }
            Step::Ended(stream) => self.until(|seen| seen.ended.contains(&stream)),
            Step::Data(stream, length) => {
                self.until(|seen| seen.length(stream) >= length)
                    && self.seen.length(stream) == length
            }
            Step::Pong(payload) => {
                self.until(|seen| seen.pongs.iter().any(|pong| **pong == payload))
            }
            Step::Settled(count) => self.until(|seen| seen.settled >= count),
        };
        if happened { Ok(()) } else { Err(format!("a step did not come about: {}", self.told())) }
    }

    /// Asks for one thing more, which shows that all before was dealt with.
    fn works(&mut self) -> bool {
        self.conn.send([settings(&[(4, 65_535)]), window(0, 65_535), get(LAST)].concat());
        self.until(|seen| seen.ended.contains(&LAST))
            && self.seen.status.contains(&(LAST, 200))
            && self.seen.goaway.is_none()
    }

    fn judge(&mut self, expect: &Expect) -> Result<(), String> {
        let well = match expect {
            Expect::Works => self.works() && self.seen.reset.is_empty(),
            Expect::Answered(stream) => {
                self.until(|seen| seen.ended.contains(stream))
                    && self.seen.status.contains(&(*stream, 200))
                    && self.works()
            }
            Expect::Refused(stream, codes) => self.refused(*stream, codes),
            Expect::RefusedOrIgnored(stream, codes) => {
                self.refused(*stream, codes)
                    || (self.seen.goaway.is_none() && self.seen.reset.is_empty())
            }
            Expect::Ended(codes) => {
                // The rest is read, so that the end of the connection is seen as well.
                self.until(|seen| seen.closed)
                    && self.seen.goaway.is_some_and(|code| codes.contains(&code))
            }
            Expect::Left => {
                self.until(|seen| seen.closed) && self.seen.goaway.is_none_or(|code| code == 0)
            }
        };
        if well { Ok(()) } else { Err(self.told()) }
    }

    fn refused(&mut self, stream: u32, codes: &[u32]) -> bool {
        let works = self.works();
        if let Some(code) = self.seen.goaway {
            return codes.contains(&code);
        }
        let reset = self.seen.reset.iter().any(|(on, code)| *on == stream && codes.contains(code));
        works && (reset || self.seen.status.contains(&(stream, 400)))
    }

    fn told(&self) -> String {
        let Seen { status, ended, reset, goaway, closed, data, .. } = &self.seen;
        format!(
            "status {status:?}, ended {ended:?}, reset {reset:?}, GOAWAY {goaway:?}, \
             closed {closed}, data {data:?}"
        )
    }
}

impl Seen {
    fn length(&self, stream: u32) -> usize {
        self.data.iter().filter(|(on, _)| *on == stream).map(|(_, length)| length).sum()
    }
}

fn run(weft: &Weft, case: Case) -> Result<(), String> {
    let mut session = Session::open(weft);
    for step in case.steps {
        session.step(step)?;
    }
    session.judge(&case.expect)
}

/// Runs every case of a section, a few at a time, and tells of all that fail.
fn hold(cases: Vec<Case>) {
    let service = Upstream::answering(|request| match request.target() {
        "/held" => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n".to_owned(),
        _ => ok("well"),
    });
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off
telemetry: {{ access_log: none }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes:
- {{ name: deaf, match: /deaf, to: it, fault: {{ delay: {{ for: 30s, share: 100% }} }} }}
- {{ name: all, to: it }}
",
            service.address()
        ),
    );
    let count = cases.len();
    let failed: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> =
            cases.into_iter().map(|case| (case.about, scope.spawn(|| run(&weft, case)))).collect();
        running
            .into_iter()
            .filter_map(|(about, running)| match running.join() {
                Ok(Ok(())) => None,
                Ok(Err(what)) => Some(format!("{about}: {what}")),
                Err(_) => Some(format!("{about}: it panicked, which is told above")),
            })
            .collect()
    });
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
}

//! What a peer still has under way on a stream that was ended from here costs the other streams of the
//! connection nothing (RFC 9113 section 5.1), however many such streams there are.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use weft_testkit::{
    Conn, Upstream, Weft,
    frames::{self, Frame},
    http2::{self, Client, request},
    until,
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// One worker, so that all of a service's streams share a connection.
fn node(service: SocketAddr, more: &str) -> Weft {
    Weft::with(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{service}', ejection: off{more} }} }}
routes:
- {{ name: fixed, match: /fixed, respond: {{ status: 401, body: no }} }}
- {{ name: all, to: it, retry: off }}
"
        ),
        &["--workers", "1"],
    )
}

fn data(stream: u32, text: &str, ends: bool) -> Frame {
    Frame::new(frames::DATA, u8::from(ends), stream, text)
}

#[test]
fn uploads_that_were_answered_early_do_not_end_their_connection() {
    let (tell, told) = mpsc::sync_channel::<()>(1);
    let told = Mutex::new(told);
    let service = Upstream::answering(move |asked| {
        if asked.target() == "/slow" {
            told.lock().unwrap().recv().unwrap();
        }
        ok("whole")
    });
    let weft = node(service.address(), "");
    let mut conn = Conn::to(weft.address("web"));
    conn.send(frames::PREFACE);
    conn.send(Frame::new(frames::SETTINGS, 0, 0, []).bytes());
    let ask = |stream: u32, method: &str, path: &str, ends: bool| {
        let flags = frames::END_HEADERS | if ends { frames::END_STREAM } else { 0 };
        let head = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x")];
        let block: Vec<u8> =
            head.iter().flat_map(|(name, value)| frames::literal(name, value)).collect();
        Frame::new(frames::HEADERS, flags, stream, block)
    };
    conn.send(ask(1, "GET", "/slow", true).bytes());
    let mut stream = 3;
    for _ in 0..5 {
        let batch: Vec<u32> = (0..80).map(|number| stream + 2 * number).collect();
        stream += 160;
        let mut out = Vec::new();
        for &stream in &batch {
            ask(stream, "POST", "/fixed", false).write(&mut out);
        }
        conn.send(&out);
        let mut left: HashSet<u32> = batch.iter().copied().collect();
        while !left.is_empty() {
            let frame = Frame::read(&mut conn).expect("the connection lives");
            assert_ne!(frame.kind, frames::GOAWAY, "{frame:?}");
            if frame.kind == frames::RST_STREAM {
                assert_eq!(frame.payload, [0; 4], "NO_ERROR for {}", frame.stream);
                left.remove(&frame.stream);
            }
        }
        out.clear();
        for &stream in &batch {
            for _ in 0..3 {
                data(stream, "late", false).write(&mut out);
            }
        }
        conn.send(&out);
    }
    tell.send(()).unwrap();
    let mut body = Vec::new();
    loop {
        let frame = Frame::read(&mut conn).expect("the connection lives");
        assert_ne!(frame.kind, frames::GOAWAY, "{frame:?}");
        assert_ne!(frame.kind, frames::RST_STREAM, "{frame:?}");
        if frame.kind == frames::DATA && frame.stream == 1 {
            body.extend_from_slice(&frame.payload);
            if frame.flags & frames::END_STREAM != 0 {
                break;
            }
        }
    }
    assert_eq!(body, b"whole");
}

/// A service that sends on for a stream after it was reset, and counts those; its first stream ends when it
/// is told to.
fn unheeding(told: mpsc::Receiver<()>, resets: Arc<AtomicUsize>) -> Upstream {
    let told = Mutex::new(told);
    Upstream::raw(move |mut conn| {
        if conn.take(24) != frames::PREFACE {
            return;
        }
        conn.send(Frame::new(frames::SETTINGS, 0, 0, []).bytes());
        let mut first = None;
        while let Some(frame) = Frame::read(&mut conn) {
            let mut out = Vec::new();
            match frame.kind {
                frames::SETTINGS if frame.flags & 1 == 0 => {
                    Frame::new(frames::SETTINGS, 1, 0, []).write(&mut out);
                }
                frames::HEADERS => {
                    first.get_or_insert(frame.stream);
                    let head = frames::literal(":status", "200");
                    Frame::new(frames::HEADERS, frames::END_HEADERS, frame.stream, head)
                        .write(&mut out);
                    data(frame.stream, "begun", false).write(&mut out);
                }
                frames::RST_STREAM => {
                    resets.fetch_add(1, Ordering::Relaxed);
                    for _ in 0..3 {
                        data(frame.stream, "late", false).write(&mut out);
                    }
                }
                _ => {}
            }
            conn.send(out);
            if told.lock().unwrap().try_recv().is_ok() {
                conn.send(data(first.unwrap(), ", whole", true).bytes());
            }
        }
    })
}

#[test]
fn clients_that_leave_do_not_end_the_connection_to_their_service() {
    let (tell, told) = mpsc::sync_channel(1);
    let resets = Arc::<AtomicUsize>::default();
    let service = unheeding(told, resets.clone());
    let weft = node(service.address(), ", protocol: http2");
    http2::run(async {
        let staying = Client::to(weft.address("web")).await;
        let response = staying.open(request("GET", "/stays").body(()).unwrap()).await.unwrap();
        let response = response.await.unwrap();
        for turn in 1..=6 {
            // A client may reset no more than 200.
            let leaving = Client::to(weft.address("web")).await;
            let mut held = Vec::new();
            for _ in 0..90 {
                let open = leaving.open(request("GET", "/leaves").body(()).unwrap());
                held.push(open.await.unwrap().await.unwrap());
            }
            drop(held);
            until("the service hears of all", || {
                (resets.load(Ordering::Relaxed) == 90 * turn).then_some(())
            });
        }
        tell.send(()).unwrap();
        // Something for the service to read, so that it looks.
        let other = Client::to(weft.address("web")).await;
        let open = other.open(request("GET", "/other").body(()).unwrap()).await.unwrap();
        open.await.unwrap();
        let (body, _) = http2::gather(response.into_body()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&body), "begun, whole");
    });
}

//! What one stream of HTTP/2 gets wrong is held against that stream: the connection, and what others have on
//! it, goes on; and a service decides how many streams a connection of its has.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use weft_testkit::{
    Conn, PATIENCE, Upstream, Weft, certs,
    frames::{self, Frame},
    http2::{self, Client, request},
    until,
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
const WHOLE: u8 = frames::END_HEADERS | frames::END_STREAM;

fn node(service: std::net::SocketAddr, more: &str) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{service}'{more} }} }}
routes: [{{ name: all, to: it }}]
"
        ),
    )
}

/// A service that answers by hand, each request by its stream and the number of its connection.
fn service(
    settings: &'static [u8],
    answer: impl Fn(usize, u32) -> Vec<Frame> + Send + Sync + 'static,
) -> Upstream {
    let connections = AtomicUsize::new(0);
    Upstream::raw(move |mut conn| {
        if conn.take(24) != frames::PREFACE {
            return;
        }
        let number = connections.fetch_add(1, Ordering::AcqRel);
        conn.send(Frame::new(frames::SETTINGS, 0, 0, settings).bytes());
        while let Some(frame) = Frame::read(&mut conn) {
            match frame.kind {
                frames::SETTINGS if frame.flags & 1 == 0 => {
                    conn.send(Frame::new(frames::SETTINGS, 1, 0, []).bytes());
                }
                frames::HEADERS => {
                    let mut out = Vec::new();
                    for frame in answer(number, frame.stream) {
                        frame.write(&mut out);
                    }
                    conn.send(out);
                }
                _ => {}
            }
        }
    })
}

/// A field that both tables keep.
fn indexed(name: &str, value: &str) -> Vec<u8> {
    let mut field = frames::literal(name, value);
    field[0] = 0x40;
    field
}

/// A field of any length.
fn long(name: &str, length: usize) -> Vec<u8> {
    let mut out = vec![0, name.len() as u8];
    out.extend_from_slice(name.as_bytes());
    let mut left = length - 127;
    out.push(127);
    while left > 127 {
        out.push((left & 127) as u8 | 128);
        left >>= 7;
    }
    out.push(left as u8);
    out.resize(out.len() + length, b'x');
    out
}

/// HEADERS and as many CONTINUATION frames as it takes.
fn block(stream: u32, flags: u8, block: &[u8]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = block
        .chunks(16384)
        .map(|piece| Frame::new(frames::CONTINUATION, 0, stream, piece))
        .collect();
    frames[0].kind = frames::HEADERS;
    frames[0].flags = flags & frames::END_STREAM;
    frames.last_mut().unwrap().flags |= frames::END_HEADERS;
    frames
}

fn greeted(weft: &Weft) -> Conn {
    let mut conn = weft.connect("web");
    conn.send(frames::PREFACE);
    conn.send(Frame::new(frames::SETTINGS, 0, 0, []).bytes());
    conn
}

/// Reads until a stream is answered (true) or reset.
fn is_answered(conn: &mut Conn, stream: u32) -> Option<bool> {
    loop {
        let frame = Frame::read(conn)?;
        if frame.kind == frames::GOAWAY {
            return None;
        }
        if frame.stream == stream && matches!(frame.kind, frames::HEADERS | frames::RST_STREAM) {
            return Some(frame.kind == frames::HEADERS);
        }
    }
}

#[test]
fn a_malformed_request_is_the_matter_of_its_stream() {
    let upstream = Upstream::answering(|asked| {
        if asked.target() == "/slow" {
            thread::sleep(Duration::from_millis(300));
        }
        ok(asked.get("x-kept").unwrap_or_default())
    });
    let weft = node(upstream.address(), "");
    let mut conn = greeted(&weft);
    conn.send(Frame::new(frames::HEADERS, WHOLE, 1, frames::get("/slow")).bytes());
    let mut stream = 1;
    for bad in [
        indexed("Ab", "c"),
        frames::literal("a", "b\u{1}"),
        indexed("a", "b\n"),
        frames::literal(":foo", "x"),
        frames::literal(":status", "200"),
        frames::literal("a b", "c"),
    ] {
        stream += 2;
        let block = [frames::get("/bad"), indexed("x-kept", "good"), bad].concat();
        conn.send(Frame::new(frames::HEADERS, WHOLE, stream, block).bytes());
    }
    let mut method = frames::get("/bad");
    method.splice(..frames::literal(":method", "GET").len(), frames::literal(":method", "GE T"));
    conn.send(Frame::new(frames::HEADERS, WHOLE, stream + 2, method).bytes());
    assert_eq!(is_answered(&mut conn, stream + 2), Some(false), "reset alone");
    assert_eq!(is_answered(&mut conn, 1), Some(true), "the other stream goes on");
    // The tables of both sides have stayed the same: the newest field of the malformed requests.
    let last = [frames::get("/last"), vec![0xbe]].concat();
    conn.send(Frame::new(frames::HEADERS, WHOLE, stream + 4, last).bytes());
    assert_eq!(is_answered(&mut conn, stream + 4), Some(true));
    let seen = upstream.seen();
    let targets: Vec<&str> = seen.iter().map(|asked| asked.target()).collect();
    assert_eq!(targets, ["/slow", "/last"]);
    assert_eq!(seen[1].get("x-kept"), Some("good"));
}

#[test]
fn a_malformed_response_is_the_matter_of_its_stream_and_is_named() {
    let status = |status: &str| indexed(":status", status);
    let ok = || status("200");
    for (bad, reason) in [
        ([ok(), indexed("Ab", "c")].concat(), "upstream_malformed"),
        ([ok(), indexed("a", "b\u{1}")].concat(), "upstream_malformed"),
        ([ok(), frames::literal(":path", "/")].concat(), "upstream_malformed"),
        (status("2x"), "upstream_malformed"),
        (status("101"), "upstream_malformed"),
        (frames::literal("a", "b"), "upstream_malformed"),
        ([ok(), long("a", 70_000)].concat(), "upstream_headers_too_large"),
        ([ok(), long("a", 200_000)].concat(), "upstream_headers_too_large"),
    ] {
        let shown = String::from_utf8_lossy(&bad[..bad.len().min(40)]).into_owned();
        let upstream = service(&[], move |_, stream| match stream {
            // Answered after the malformed one.
            3 => Vec::new(),
            5 => [
                block(5, WHOLE, &bad),
                block(3, 0, &frames::literal(":status", "200")),
                vec![Frame::new(frames::DATA, 1, 3, "first")],
            ]
            .concat(),
            _ => block(stream, WHOLE, &frames::literal(":status", "204")),
        });
        let weft = node(upstream.address(), ", protocol: http2, ejection: off");
        http2::run(async {
            let client = Client::to(weft.address("web")).await;
            tokio::time::timeout(PATIENCE, async {
                // On a connection that is there, the worker sends them in the order in which they came.
                let reply = client.ask(request("GET", "/").body(Vec::new()).unwrap()).await;
                assert_eq!(reply.unwrap().status, 204, "{shown}");
                let first = request("POST", "/first").body(()).unwrap();
                let first = client.open(first).await.unwrap();
                let bad = client.ask(request("POST", "/bad").body(Vec::new()).unwrap()).await;
                assert_eq!(bad.unwrap().status, 502, "{shown}");
                let reply = http2::reply(first).await.unwrap();
                assert_eq!((reply.status, reply.text().as_str()), (200, "first"), "{shown}");
                let reply = client.ask(request("POST", "/").body(Vec::new()).unwrap()).await;
                assert_eq!(reply.unwrap().status, 204, "{shown}");
            })
            .await
            .unwrap();
        });
        assert_eq!(upstream.connections(), 1, "{shown}");
        let line = weft.wait_line("/bad");
        assert!(line.contains(reason), "{shown}: {line}");
    }
}

#[test]
fn an_interim_response_says_nothing_of_the_length() {
    for length in ["5", "0"] {
        let upstream = service(&[], move |_, stream| {
            let interim = [
                indexed(":status", "103"),
                indexed("link", "<a>"),
                indexed("content-length", length),
            ];
            let head = [frames::literal(":status", "200"), frames::literal("x-a", " b\t")];
            [
                block(stream, 0, &interim.concat()),
                block(stream, 0, &head.concat()),
                vec![Frame::new(frames::DATA, 1, stream, "ok")],
            ]
            .concat()
        });
        let weft = node(upstream.address(), ", protocol: http2");
        let mut old = weft.connect("web");
        old.send("GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
        let text = String::from_utf8(old.rest()).unwrap();
        let (interim, rest) = text.split_once("\r\n\r\n").unwrap();
        assert!(interim.starts_with("HTTP/1.1 103 "), "{text}");
        assert!(interim.contains("link: <a>") && !interim.contains("content-length"), "{text}");
        assert!(rest.starts_with("HTTP/1.1 200 ") && rest.contains("x-a: b\r\n"), "{text}");
        assert!(rest.contains("ok\r\n0\r\n\r\n"), "{text}");
        http2::run(async {
            let reply = Client::to(weft.address("web")).await.get("/").await.unwrap();
            assert_eq!(reply.text(), "ok");
        });
    }
    let upstream = Upstream::answering(|_| {
        format!("HTTP/1.1 103 Early Hints\r\ncontent-length: 5\r\nlink: <a>\r\n\r\n{}", ok("fine"))
    });
    let weft = node(upstream.address(), "");
    let mut old = weft.connect("web");
    old.send("GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
    let text = String::from_utf8(old.rest()).unwrap();
    let (interim, rest) = text.split_once("\r\n\r\n").unwrap();
    assert!(interim.contains("link: <a>") && !interim.contains("content-length"), "{text}");
    assert!(rest.ends_with("fine"), "{text}");
}

#[test]
fn trailers_that_are_too_many_are_no_end_of_a_request() {
    let upstream = Upstream::saying("ok");
    let weft = node(upstream.address(), "");
    let many: Vec<u8> = (0..200).flat_map(|at| frames::literal(&format!("x-{at}"), "1")).collect();
    let around =
        [frames::literal("x-first", "1"), long("x-a", 100_000), frames::literal("x-z", "2")];
    for trailers in [
        many,
        long("x-a", 70_000),
        around.concat(),
        long("x-a", 260_000),
        frames::literal(":path", "/"),
        frames::literal("X-A", "1"),
    ] {
        let mut conn = greeted(&weft);
        let post = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "t")];
        let post: Vec<u8> =
            post.iter().flat_map(|(name, value)| frames::literal(name, value)).collect();
        let mut out = Frame::new(frames::HEADERS, frames::END_HEADERS, 1, post).bytes();
        Frame::new(frames::DATA, 0, 1, "abc").write(&mut out);
        block(1, frames::END_STREAM, &trailers).iter().for_each(|frame| frame.write(&mut out));
        Frame::new(frames::HEADERS, WHOLE, 3, frames::get("/good")).write(&mut out);
        conn.send(out);
        assert!(is_answered(&mut conn, 3).unwrap(), "the other stream goes on");
        let line = weft.wait_line("\"method\":\"POST\"");
        assert!(line.contains("\"status\":400"), "{line}");
    }
    let whole: Vec<_> = upstream.seen().iter().map(|asked| asked.target().to_owned()).collect();
    assert!(whole.iter().all(|target| target == "/good"), "{whole:?}");
}

#[test]
fn trailers_that_are_too_many_are_no_end_of_a_response() {
    let around =
        [frames::literal("x-first", "1"), long("x-a", 100_000), frames::literal("x-z", "2")];
    for (trailers, reason) in [
        (around.concat(), "upstream_headers_too_large"),
        (long("x-a", 62_000), "upstream_headers_too_large"),
        (frames::literal(":path", "/"), "upstream_malformed"),
        (frames::literal(":status", "200"), "upstream_malformed"),
    ] {
        let upstream = service(&[], move |_, stream| {
            [
                block(stream, 0, &frames::literal(":status", "200")),
                vec![Frame::new(frames::DATA, 0, stream, "body")],
                block(stream, frames::END_STREAM, &trailers),
            ]
            .concat()
        });
        let weft = node(upstream.address(), ", protocol: http2, ejection: off");
        http2::run(async {
            let client = Client::to(weft.address("web")).await;
            assert!(client.get("/new").await.is_err());
            assert!(client.get("/new").await.is_err());
        });
        assert_eq!(upstream.connections(), 1, "the connection goes on");
        let mut old = weft.connect("web");
        old.send("GET /old HTTP/1.1\r\nhost: t\r\n\r\n");
        let text = String::from_utf8(old.rest()).unwrap();
        assert!(text.ends_with("4\r\nbody\r\n"), "the last chunk is missing: {text}");
        let line = weft.wait_line("/old");
        assert!(line.contains(reason), "{line}");
    }
}

/// All of six requests must be there before one of them is answered.
#[test]
fn a_service_that_allows_few_streams_is_given_more_connections() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (count, peak) = (arrived.clone(), most.clone());
    let upstream = Upstream::raw(move |mut conn| {
        if conn.take(24) != frames::PREFACE {
            return;
        }
        conn.send(Frame::new(frames::SETTINGS, 0, 0, [0, 3, 0, 0, 0, 2]).bytes());
        let mut here = 0;
        while let Some(frame) = Frame::read(&mut conn) {
            if frame.kind != frames::HEADERS {
                continue;
            }
            let first = count.fetch_add(1, Ordering::AcqRel) == 0;
            here += usize::from(!first);
            peak.fetch_max(here, Ordering::AcqRel);
            let (mut out, count) = (conn.stream().try_clone().unwrap(), count.clone());
            thread::spawn(move || {
                if !first {
                    until("all are there", || (count.load(Ordering::Acquire) >= 7).then_some(()));
                }
                for frame in block(frame.stream, WHOLE, &frames::literal(":status", "204")) {
                    out.write_all(&frame.bytes()).unwrap();
                }
            });
        }
    });
    let weft = node(upstream.address(), ", protocol: http2");
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        assert_eq!(client.get("/").await.unwrap().status, 204);
        let mut open = Vec::new();
        for _ in 0..6 {
            open.push(client.open(request("GET", "/").body(()).unwrap()).await.unwrap());
        }
        for response in open {
            let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
            assert_eq!(response.status(), 204);
        }
    });
    assert_eq!(most.load(Ordering::Acquire), 2, "no more than the service allows");
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn a_connection_that_allows_no_more_streams_is_left() {
    let upstream = service(&[], move |number, stream| {
        let mut out = block(stream, WHOLE, &frames::literal(":status", "204"));
        if number == 0 {
            out.insert(0, Frame::new(frames::SETTINGS, 0, 0, [0, 3, 0, 0, 0, 0]));
        }
        out
    });
    let weft = node(upstream.address(), ", protocol: http2");
    let began = Instant::now();
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        for _ in 0..4 {
            assert_eq!(client.get("/").await.unwrap().status, 204);
        }
    });
    assert!(began.elapsed() < PATIENCE / 2);
    assert_eq!(upstream.connections(), 2);
}

/// What cannot be decoded ends a connection: what others have on it, and may be asked twice, is asked again.
#[test]
fn what_ends_a_connection_is_asked_again_on_another() {
    let upstream = service(&[], move |number, stream| match (number, stream) {
        (0, 1) => Vec::new(),
        (0, _) => block(stream, WHOLE, &[0x80]),
        _ => block(stream, WHOLE, &frames::literal(":status", "204")),
    });
    let weft = node(upstream.address(), ", protocol: http2, ejection: off");
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let first = client.open(request("GET", "/first").body(()).unwrap()).await.unwrap();
        let bad = client.ask(request("POST", "/bad").body(Vec::new()).unwrap()).await;
        assert_eq!(bad.unwrap().status, 502);
        let first = tokio::time::timeout(PATIENCE, first).await.unwrap().unwrap();
        assert_eq!(first.status(), 204);
    });
    assert_eq!(upstream.connections(), 2);
    assert!(weft.wait_line("/bad").contains("upstream_malformed"));
}

/// A service behind TLS whose connections take a while to open, or never do after the first `well`.
fn slow_to_open(
    wait: Duration,
    well: usize,
    answer_after: Duration,
) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let tls = certs::Authority::new("ca").issue(&["localhost"]).server(&["h2"], None);
    let opened = Arc::new(AtomicUsize::new(0));
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let counted = opened.clone();
    thread::spawn(move || {
        http2::run(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = counted.fetch_add(1, Ordering::AcqRel);
                let tls = tls.clone();
                http2::beside(async move {
                    tokio::time::sleep(wait).await;
                    if number >= well {
                        std::future::pending::<()>().await;
                    }
                    let stream = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await.unwrap();
                    let mut settings = h2::server::Builder::new();
                    settings.max_concurrent_streams(100);
                    let mut connection =
                        settings.handshake::<_, bytes::Bytes>(stream).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        http2::beside(async move {
                            tokio::time::sleep(answer_after).await;
                            let _ = respond.send_response(http::Response::new(()), true);
                        });
                    }
                });
            }
        });
    });
    (address, opened)
}

/// The statuses of so many requests at once over a connection.
async fn at_once(client: &Client, count: usize) -> Vec<u16> {
    let mut asked = Vec::new();
    for _ in 0..count {
        let response = client.open(request("POST", "/").body(()).unwrap()).await.unwrap();
        asked.push(http2::beside(async move {
            response.await.map_or(0, |head| head.status().as_u16())
        }));
    }
    let mut statuses = Vec::new();
    for one in asked {
        statuses.push(one.await.unwrap());
    }
    statuses
}

/// A node whose clients may have many streams on one connection, and so at one worker.
fn wide(service: std::net::SocketAddr, more: &str) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web', limits: {{ streams_max: 600 }} }} }}
services: {{ it: {{ endpoints: '{service}'{more} }} }}
routes: [{{ name: all, to: it, retry: off }}]
"
        ),
    )
}

const SECURE: &str = ", protocol: http2, tls: { insecure_skip_verify: true }";

#[test]
fn a_burst_has_its_connections_opened_side_by_side() {
    // Opened one after the other they would take as long as three times the limit of one.
    let (address, opened) =
        slow_to_open(Duration::from_millis(600), usize::MAX, Duration::from_secs(4));
    let weft = wide(address, SECURE);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        assert_eq!(at_once(&client, 500).await, [200; 500]);
    });
    assert_eq!(opened.load(Ordering::Acquire), 5, "no more than are needed");
}

#[test]
fn who_waits_for_a_connection_hears_of_streams_that_become_free_on_another() {
    let (address, opened) = slow_to_open(Duration::ZERO, 1, Duration::from_millis(600));
    let weft = wide(address, SECURE);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        assert_eq!(at_once(&client, 1).await, [200]);
        // The last are answered after the limit of the connection that is being opened.
        assert_eq!(at_once(&client, 250).await, [200; 250]);
    });
    assert!(opened.load(Ordering::Acquire) > 1, "another connection was tried");
    assert_eq!(weft.metric("weft_service_ejections_total", &[]), 0.0);
}

#[test]
fn a_connection_that_cannot_be_opened_is_told_to_all_who_wait_for_it() {
    let (address, _) = slow_to_open(Duration::ZERO, 0, Duration::ZERO);
    let weft = wide(address, &format!("{SECURE}, ejection: off"));
    let began = Instant::now();
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        assert_eq!(at_once(&client, 60).await, [504; 60]);
    });
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(weft.wait_line("connect_timeout").contains("504"));
}

#[test]
fn refused_connections_are_not_waited_for_beside_one_that_is_there() {
    // Its listener is closed once it has one connection, on which each answer takes a while.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        http2::run(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            drop(listener);
            let mut settings = h2::server::Builder::new();
            settings.max_concurrent_streams(100);
            let mut connection = settings.handshake::<_, bytes::Bytes>(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                http2::beside(async move {
                    tokio::time::sleep(Duration::from_millis(600)).await;
                    let _ = respond.send_response(http::Response::new(()), true);
                });
            }
        });
    });
    let weft = wide(address, ", protocol: http2");
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        assert_eq!(at_once(&client, 1).await, [200]);
        assert_eq!(at_once(&client, 200).await, [200; 200]);
    });
}

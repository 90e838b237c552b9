//! Streams that share a connection of HTTP/2: what becomes of one is nothing to the others, and how it ends
//! is told as it was.

use std::{future::poll_fn, time::Instant};

use h2::{Reason, client};
use http::Response;
use weft_testkit::{
    Conn, PATIENCE, Upstream, Weft,
    frames::{self, Frame},
    http2::{self, Client, Service, request},
    until,
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn node(service: &str, more: &str) -> Weft {
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

fn before_h2(address: std::net::SocketAddr) -> Weft {
    node(&address.to_string(), ", protocol: http2")
}

/// A service that answers each request with frames by hand, which leave in one write.
fn framed(answer: impl Fn(u32) -> Vec<Frame> + Send + Sync + 'static) -> Upstream {
    Upstream::raw(move |mut conn| {
        if conn.take(24) != frames::PREFACE {
            return;
        }
        conn.send(Frame::new(frames::SETTINGS, 0, 0, []).bytes());
        while let Some(frame) = Frame::read(&mut conn) {
            match frame.kind {
                frames::SETTINGS if frame.flags & 1 == 0 => {
                    conn.send(Frame::new(frames::SETTINGS, 1, 0, []).bytes());
                }
                frames::HEADERS => {
                    let mut out = Vec::new();
                    for frame in answer(frame.stream) {
                        frame.write(&mut out);
                    }
                    conn.send(out);
                }
                _ => {}
            }
        }
    })
}

fn head(stream: u32, ends: bool) -> Frame {
    let flags = frames::END_HEADERS | if ends { frames::END_STREAM } else { 0 };
    Frame::new(frames::HEADERS, flags, stream, frames::literal(":status", "200"))
}

fn data(stream: u32, text: &str, ends: bool) -> Frame {
    Frame::new(frames::DATA, u8::from(ends), stream, text)
}

fn reset(stream: u32, reason: Reason) -> Frame {
    Frame::new(frames::RST_STREAM, 0, stream, u32::from(reason).to_be_bytes())
}

/// A client that reads nothing of many responses costs others nothing, in however small pieces they come.
#[test]
fn streams_that_nobody_reads_hold_up_no_other() {
    for (piece, streams) in [(16 * 1024, 40), (16, 24)] {
        let service = Service::new(move |asked, mut respond| async move {
            let mut out = respond.send_response(Response::new(()), false)?;
            if asked.uri().path() == "/small" {
                return http2::send_all(&mut out, "small".into(), None).await;
            }
            let piece = bytes::Bytes::from(vec![b'x'; piece]);
            loop {
                http2::send(&mut out, piece.clone()).await?;
            }
        });
        let weft = before_h2(service.address());
        http2::run(async {
            let mut settings = client::Builder::new();
            settings.initial_window_size(0);
            let idle = Client::with(weft.address("web"), &settings).await;
            let mut held = Vec::new();
            for _ in 0..streams {
                let response = idle.open(request("GET", "/big").body(()).unwrap()).await.unwrap();
                held.push(response.await.unwrap());
            }
            // All of their windows are used up when the node no longer grows.
            let mut before = 0;
            let filled = Instant::now();
            while filled.elapsed() < PATIENCE / 2 {
                let sent = weft.memory();
                if sent == before && filled.elapsed() > PATIENCE / 10 {
                    break;
                }
                before = sent;
                tokio::time::sleep(PATIENCE / 20).await;
            }
            // Some of them on the same worker, which has one connection to the service.
            for _ in 0..8 {
                let other = Client::to(weft.address("web")).await;
                assert_eq!(other.get("/small").await.unwrap().text(), "small", "{piece}");
            }
            assert!(service.connections() <= 2, "the connection that they share lives");
            drop(held);
        });
    }
}

/// Uploads that a service does not read hold up no other upload of their connection.
#[test]
fn uploads_that_nobody_reads_hold_up_no_other() {
    let service = Upstream::raw(|mut conn| {
        let Some(mut asked) = conn.head() else { return };
        if asked.target() == "/held" {
            // Until the client goes.
            let _ = conn.stream().set_read_timeout(None);
            std::thread::park_timeout(PATIENCE);
            return;
        }
        conn.body(&mut asked, false);
        conn.send(ok(&asked.body.len().to_string()));
    });
    let weft = node(&service.address().to_string(), "");
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let mut held = Vec::new();
        for _ in 0..12 {
            let (response, mut out) =
                client.begin(request("PUT", "/held").body(()).unwrap()).await.unwrap();
            let sending = http2::beside(async move {
                let _ = http2::send(&mut out, vec![b'x'; 9 << 20].into()).await;
                out
            });
            held.push((response, sending));
        }
        until("all are asked for", || (service.connections() >= 12).then_some(()));
        let reply = client.ask(request("PUT", "/read").body(vec![b'x'; 1 << 20]).unwrap()).await;
        assert_eq!(reply.unwrap().text(), (1 << 20).to_string());
    });
}

/// A reset before END_STREAM is no end, whatever its code; one after it takes nothing back.
#[test]
fn a_response_is_whole_only_after_its_end() {
    for (reason, ends, whole) in [
        (Reason::NO_ERROR, false, false),
        (Reason::CANCEL, false, false),
        (Reason::INTERNAL_ERROR, false, false),
        (Reason::NO_ERROR, true, true),
        (Reason::CANCEL, true, true),
    ] {
        let service = framed(move |stream| {
            vec![head(stream, false), data(stream, "partial", ends), reset(stream, reason)]
        });
        let weft = before_h2(service.address());
        http2::run(async {
            let client = Client::to(weft.address("web")).await;
            for method in ["GET", "POST"] {
                let asked = request(method, "/two").body(()).unwrap();
                let (response, mut out) = client.begin(asked).await.unwrap();
                if method == "GET" {
                    out.send_data(bytes::Bytes::new(), true).unwrap();
                }
                // Head and data come before what broke them off.
                let response = response.await.unwrap();
                assert_eq!(response.status(), 200);
                let mut body = response.into_body();
                assert_eq!(body.data().await.unwrap().unwrap(), "partial", "{reason:?} {ends}");
                match body.data().await {
                    None => assert!(whole, "{method} {reason:?} {ends}"),
                    Some(Err(error)) => assert!(!whole && error.is_reset(), "{method} {reason:?}"),
                    Some(Ok(more)) => assert!(whole && more.is_empty()),
                }
            }
        });
        let mut old = weft.connect("web");
        old.send("GET /one HTTP/1.1\r\nhost: t\r\n\r\n");
        assert_eq!(old.head().unwrap().status(), 200);
        assert_eq!(old.take(12), b"7\r\npartial\r\n");
        if whole {
            assert_eq!(old.take(5), b"0\r\n\r\n");
        } else {
            assert_eq!(old.rest(), b"", "{reason:?}: the last chunk is missing");
            assert!(weft.wait_line("/one").contains("upstream_incomplete"));
        }
    }
}

/// The same for a response that is its head alone, and for one whose length was declared.
#[test]
fn a_reset_after_the_head_is_no_end_either() {
    for ends in [false, true] {
        let service =
            framed(move |stream| vec![head(stream, ends), reset(stream, Reason::NO_ERROR)]);
        let weft = before_h2(service.address());
        http2::run(async {
            let client = Client::to(weft.address("web")).await;
            let response = client.open(request("GET", "/").body(()).unwrap()).await.unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(http2::gather(response.into_body()).await.is_ok(), ends);
        });
    }
    let service = framed(|stream| {
        let length = [frames::literal(":status", "200"), frames::literal("content-length", "9")];
        let head = Frame::new(frames::HEADERS, frames::END_HEADERS, stream, length.concat());
        vec![head, data(stream, "partial", false), reset(stream, Reason::NO_ERROR)]
    });
    let weft = before_h2(service.address());
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        assert!(client.get("/").await.is_err());
    });
    let mut old = weft.connect("web");
    old.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    assert_eq!(old.head().unwrap().get("content-length"), Some("9"));
    assert_eq!(old.rest(), b"partial");
}

/// A client without a stream is told that it is over, and not waited for beyond a moment.
#[test]
fn a_drain_does_not_wait_for_clients_that_have_no_stream() {
    let service = Upstream::saying("ok");
    let mut weft = node(&service.address().to_string(), "");
    // One that acknowledges nothing, one that has had a stream, and one that has one.
    let mut silent = weft.connect("web");
    silent.send(frames::PREFACE);
    silent.send(Frame::new(frames::SETTINGS, 0, 0, []).bytes());
    assert_eq!(Frame::read(&mut silent).unwrap().kind, frames::SETTINGS);
    let mut used = weft.connect("web");
    let mut hello = frames::PREFACE.to_vec();
    Frame::new(frames::SETTINGS, 0, 0, []).write(&mut hello);
    Frame::new(frames::HEADERS, frames::END_HEADERS | frames::END_STREAM, 1, frames::get("/"))
        .write(&mut hello);
    used.send(hello);
    while Frame::read(&mut used).is_some_and(|frame| frame.kind != frames::DATA) {}
    let began = Instant::now();
    weft.terminate();
    for conn in [&mut silent, &mut used] {
        assert_eq!(goaway(conn), Some(0));
        while Frame::read(conn).is_some() {}
    }
    assert!(weft.wait().success());
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

fn goaway(conn: &mut Conn) -> Option<u32> {
    Frame::read_goaway(conn)
}

/// What a client may not send by HTTP/1.1 does not reach a service by way of HTTP/2.
#[test]
fn fields_are_held_to_the_rules_of_either_version() {
    let service = Upstream::saying("ok");
    let weft = node(&service.address().to_string(), "");
    type Fields = &'static [(&'static str, &'static str)];
    let refused: &[(&str, Fields, u16)] = &[
        ("POST", &[("content-length", "")], 400),
        ("POST", &[("content-length", "+0")], 400),
        ("POST", &[("content-length", "0"), ("content-length", "0")], 400),
        ("POST", &[("content-length", "0, 0")], 400),
        ("POST", &[("content-length", "0x0")], 400),
        ("GET", &[("x", " a")], 400),
        ("GET", &[("x", "a\t")], 400),
        ("GET", &[("host", "t"), ("host", "t")], 400),
        ("GET", &[("expect", "wonders")], 417),
        ("AMETHODWITHANAMETHATISLONGERTHANANY", &[], 501),
    ];
    for (method, fields, status) in refused {
        let mut conn = weft.connect("web");
        let mut block: Vec<u8> = [(":method", *method), (":scheme", "http"), (":path", "/")]
            .iter()
            .chain(&[(":authority", "t")])
            .chain(*fields)
            .flat_map(|(name, value)| frames::literal(name, value))
            .collect();
        let mut hello = frames::PREFACE.to_vec();
        Frame::new(frames::SETTINGS, 0, 0, []).write(&mut hello);
        let flags = frames::END_HEADERS | frames::END_STREAM;
        Frame::new(frames::HEADERS, flags, 1, std::mem::take(&mut block)).write(&mut hello);
        conn.send(hello);
        let answer = loop {
            let frame = Frame::read(&mut conn).unwrap();
            if matches!(frame.kind, frames::HEADERS | frames::RST_STREAM) {
                break frame;
            }
        };
        // The library itself refuses some with a reset.
        if answer.kind == frames::HEADERS {
            let line = weft.wait_line(&format!("\"status\":{status}"));
            assert!(!line.is_empty(), "{method} {fields:?}");
        }
        assert!(service.seen().is_empty(), "{method} {fields:?} reached the service");
    }
    for (scheme, path, authority) in [
        ("ftp", "/", "t"),
        ("http", "a", "t"),
        ("http", "/", ""),
        ("http", "*", "t"),
        ("http", "/a#b", "t"),
    ] {
        let mut conn = weft.connect("web");
        let block: Vec<u8> =
            [(":method", "GET"), (":scheme", scheme), (":path", path), (":authority", authority)]
                .iter()
                .flat_map(|(name, value)| frames::literal(name, value))
                .collect();
        let mut hello = frames::PREFACE.to_vec();
        Frame::new(frames::SETTINGS, 0, 0, []).write(&mut hello);
        let flags = frames::END_HEADERS | frames::END_STREAM;
        Frame::new(frames::HEADERS, flags, 1, block).write(&mut hello);
        conn.send(hello);
        loop {
            let frame = Frame::read(&mut conn);
            if frame.is_none_or(|frame| matches!(frame.kind, frames::HEADERS | frames::RST_STREAM))
            {
                break;
            }
        }
        assert!(service.seen().is_empty(), "{scheme} {path} {authority} reached the service");
    }
}

/// Crumbs of a cookie are one field, as by HTTP/1.1 (RFC 9113 section 8.2.3).
#[test]
fn a_cookie_in_crumbs_is_one_field() {
    let service = Upstream::answering(|asked| ok(asked.get("cookie").unwrap_or_default()));
    let weft = node(&service.address().to_string(), "");
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let mut asked = request("GET", "/");
        for at in 0..1000 {
            asked = asked.header("cookie", format!("c{at}=v"));
        }
        let reply = client.ask(asked.body(Vec::new()).unwrap()).await.unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.text().split("; ").count(), 1000);
        let mut asked = request("GET", "/");
        for at in 0..101 {
            asked = asked.header(format!("x-{at}"), "v");
        }
        let reply = client.ask(asked.body(Vec::new()).unwrap()).await.unwrap();
        assert_eq!(reply.status, 431, "other fields count each");
        let large = request("GET", "/").header("cookie", "c".repeat(62 * 1024));
        let reply = client.ask(large.body(Vec::new()).unwrap()).await.unwrap();
        assert_eq!(reply.status, 431, "and the bytes count as ever");
    });
}

/// Trailers are held to the rules of fields in both directions and both versions.
#[test]
fn trailers_bring_nothing_that_belongs_before_the_body() {
    let service = Service::new(|asked, mut respond| async move {
        let (_, trailers) = http2::gather(asked.into_body()).await?;
        let names: Vec<&str> = trailers.keys().map(http::HeaderName::as_str).collect();
        let mut out = respond.send_response(Response::new(()), false)?;
        let mut back = http::HeaderMap::new();
        for name in ["x-sum", "set-cookie", "host", "via", "content-length", "x-forwarded-for"] {
            back.insert(name, "1".parse().unwrap());
        }
        http2::send_all(&mut out, names.join(" ").into(), Some(back)).await
    });
    let old = Upstream::answering(|asked| {
        let names = ["x-sum", "host", "x-forwarded-for", "keep-alive", "x-real-ip"];
        let there: Vec<&str> =
            names.into_iter().filter(|name| asked.trailer(name).is_some()).collect();
        let text = there.join(" ");
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\n\
             keep-alive: x\r\nconnection: x\r\nhost: x\r\nset-cookie: a=1\r\nx-sum: 1\r\n\r\n",
            text.len()
        )
    });
    for weft in [before_h2(service.address()), node(&old.address().to_string(), "")] {
        http2::run(async {
            let client = Client::to(weft.address("web")).await;
            let (response, mut out) =
                client.begin(request("POST", "/").body(()).unwrap()).await.unwrap();
            let mut trailers = http::HeaderMap::new();
            for name in ["x-sum", "host", "x-forwarded-for", "x-real-ip", "x-forwarded-client-cert"]
            {
                trailers.insert(name, "evil".parse().unwrap());
            }
            http2::send_all(&mut out, "hello".into(), Some(trailers)).await.unwrap();
            let reply = http2::reply(response).await.unwrap();
            assert_eq!(reply.text(), "x-sum");
            let names: Vec<&str> = reply.trailers.keys().map(http::HeaderName::as_str).collect();
            assert_eq!(names, ["x-sum"]);
        });
        let response = weft.ask(
            "POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\
             host: evil\r\nx-forwarded-for: evil\r\nX_Real_IP: evil\r\nx-sum: 1\r\n\r\n",
        );
        assert_eq!(response.text(), "x-sum");
        assert_eq!(response.trailer("x-sum"), Some("1"));
        for name in ["keep-alive", "host", "set-cookie", "via", "content-length"] {
            assert_eq!(response.trailer(name), None, "{name}");
        }
    }
}

/// A reset by the service while the client still sends is heard by the client, and blamed on nobody else.
#[test]
fn a_service_that_wants_no_more_may_answer_in_whole() {
    let service = framed(|stream| {
        vec![head(stream, false), data(stream, "enough", true), reset(stream, Reason::NO_ERROR)]
    });
    let weft = before_h2(service.address());
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let (response, mut out) =
            client.begin(request("POST", "/").body(()).unwrap()).await.unwrap();
        out.send_data("a".into(), false).unwrap();
        let reply = http2::reply(response).await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "enough"));
        // The rest is not wanted: the stream is over.
        let _ = poll_fn(|cx| out.poll_reset(cx)).await;
    });
}

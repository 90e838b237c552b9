//! HTTP/2 through the real binary, on either side of it.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use h2::Reason;
use http::{HeaderMap, Response};
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};
use weft_testkit::{
    Authority, Conn, PATIENCE, Upstream, Weft,
    frames::{self, Frame},
    http2::{self, Client, Service, request},
    until,
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// How long a sender must find no room before it counts as stopped.
const STILL: Duration = Duration::from_millis(400);

fn config(listener: &str, service: &str) -> String {
    format!(
        "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web'{listener} }} }}
services: {{ it: {{ {service} }} }}
routes: [{{ name: all, to: it, body_max: 256MiB }}]
"
    )
}

/// A node before a service that speaks HTTP/1.1.
fn before_h1(service: &Upstream) -> Weft {
    Weft::start(BIN, &config("", &format!("endpoints: '{}'", service.address())))
}

/// A node before a service that speaks HTTP/2.
fn before_h2(service: &Service) -> Weft {
    Weft::start(BIN, &config("", &format!("endpoints: '{}', protocol: http2", service.address())))
}

#[test]
fn one_port_speaks_both_versions_by_alpn() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("here");
    authority.issue(&["shop.test"]).write(folder.path(), "shop");
    let at = folder.path().display();
    let service = Upstream::answering(|request| ok(request.get("x-forwarded-proto").unwrap()));
    let weft = Weft::start(
        BIN,
        &config(
            &format!(
                ", tls: {{ certificates: {{ cert: '{at}/shop.crt', key: '{at}/shop.key' }} }}"
            ),
            &format!("endpoints: '{}'", service.address()),
        ),
    );
    http2::run(async {
        let tls = authority.client(&["h2", "http/1.1"]);
        let client = Client::secure(weft.address("web"), "shop.test", &tls).await;
        let reply = client.get("/by-h2").await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "https"));
    });
    for alpn in [&["http/1.1"][..], &[]] {
        let tls = authority.client(alpn);
        let mut conn = Conn::secure(weft.address("web"), "shop.test", &tls).unwrap();
        let response = conn.ask("GET /by-h1 HTTP/1.1\r\nhost: shop.test\r\n\r\n");
        assert_eq!((response.status(), response.text().as_str()), (200, "https"));
    }
    let line = weft.wait_line("/by-h2");
    assert!(line.contains("\"protocol\":\"HTTP/2\""), "{line}");
    assert!(line.contains("\"sni\":\"shop.test\"") && line.contains("TLSv1.3"), "{line}");
    assert!(weft.wait_line("/by-h1").contains("\"protocol\":\"HTTP/1.1\""));
    weft.wait_metric("weft_listener_tls_handshakes_total", &["listener=\"web\""], 3.0);
}

#[test]
fn trailers_pass_both_ways_to_either_version() {
    let by_h1 = Upstream::answering(|request| {
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\nx-mine: {}\r\n\r\n",
            request.body.len(),
            request.text(),
            request.trailer("x-mine").unwrap_or("none"),
        )
    });
    let by_h2 = Service::echoing();
    for weft in [before_h1(&by_h1), before_h2(&by_h2)] {
        http2::run(async {
            let client = Client::to(weft.address("web")).await;
            let request = request("POST", "/").header("te", "trailers").body(()).unwrap();
            let (response, mut out) = client.begin(request).await.unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-mine", "seven".parse().unwrap());
            http2::send_all(&mut out, "some data".into(), Some(trailers)).await.unwrap();
            let reply = http2::reply(response).await.unwrap();
            assert_eq!((reply.status, reply.text().as_str()), (200, "some data"));
            assert_eq!(reply.trailer("x-mine"), "seven", "{reply:?}");
        });
    }
}

#[test]
fn large_bodies_pass_both_ways_at_once() {
    let by_h1 = Upstream::answering(|request| {
        let mut response =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len())
                .into_bytes();
        response.extend_from_slice(&request.body);
        response
    });
    let by_h2 = Service::echoing();
    let body: Vec<u8> = (0..8_000_003_u32).map(|at| (at % 251) as u8).collect();
    for weft in [before_h1(&by_h1), before_h2(&by_h2)] {
        http2::run(async {
            let client = Client::to(weft.address("web")).await;
            let request = request("POST", "/").body(()).unwrap();
            let (response, mut out) = client.begin(request).await.unwrap();
            let sent = body.clone();
            let sending =
                http2::beside(async move { http2::send_all(&mut out, sent.into(), None).await });
            let reply = http2::reply(response).await.unwrap();
            sending.await.unwrap().unwrap();
            assert_eq!(reply.status, 200);
            assert!(reply.body == body, "{} of {} bytes", reply.body.len(), body.len());
        });
        weft.wait_metric("weft_route_response_bytes_total", &["http_route=\"all\""], 8_000_003.0);
    }
}

#[test]
fn trailers_come_after_a_declared_length_too() {
    let service = Service::new(|_, mut respond| async move {
        let head = Response::builder().header("content-length", "4").body(()).unwrap();
        let mut out = respond.send_response(head, false)?;
        http2::send(&mut out, "four".into()).await?;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-mine", "kept".parse().unwrap());
        out.send_trailers(trailers)
    });
    let weft = before_h2(&service);
    http2::run(async {
        let reply = Client::to(weft.address("web")).await.get("/").await.unwrap();
        assert_eq!((reply.text().as_str(), reply.trailer("x-mine")), ("four", "kept"), "{reply:?}");
    });
}

/// More than all windows and socket buffers in between can hold.
const MUCH: usize = 128 << 20;
/// What windows and socket buffers in between may hold, and a bound of the node's own memory.
const LITTLE: usize = 32 << 20;

#[test]
fn a_client_that_does_not_read_stops_the_service() {
    let stopped_at = Arc::new(AtomicUsize::new(0));
    let told = stopped_at.clone();
    let by_h1 = Upstream::raw(move |mut conn: Conn| {
        if conn.request().is_none_or(|request| request.target() == "/other") {
            conn.send(ok("well"));
            return;
        }
        conn.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {MUCH}\r\n\r\n"));
        let (chunk, mut sent) = (vec![b'x'; 64 << 10], 0);
        while sent < MUCH {
            conn.stream().set_write_timeout(Some(STILL)).unwrap();
            match std::io::Write::write(&mut conn.stream(), &chunk[..chunk.len().min(MUCH - sent)])
            {
                Ok(written) => sent += written,
                Err(_full) => {
                    // Told once; from then on the client reads.
                    let _ = told.compare_exchange(0, sent, Ordering::AcqRel, Ordering::Acquire);
                }
            }
        }
    });
    let told = stopped_at.clone();
    let by_h2 = Service::new(move |request, mut respond| {
        let told = told.clone();
        async move {
            let mut out = respond.send_response(Response::new(()), false)?;
            if request.uri().path() == "/other" {
                return http2::send_all(&mut out, "well".into(), None).await;
            }
            let (mut sent, chunk) = (0, bytes::Bytes::from(vec![b'x'; 64 << 10]));
            while sent < MUCH {
                out.reserve_capacity(chunk.len());
                let room = match timeout(STILL, poll_fn(|cx| out.poll_capacity(cx))).await {
                    Ok(room) => room.unwrap_or(Err(Reason::CANCEL.into()))?,
                    Err(_full) => {
                        let _ = told.compare_exchange(0, sent, Ordering::AcqRel, Ordering::Acquire);
                        continue;
                    }
                };
                let room = room.min(chunk.len()).min(MUCH - sent);
                out.send_data(chunk.slice(..room), false)?;
                sent += room;
            }
            out.send_data(bytes::Bytes::new(), true)
        }
    });
    for weft in [before_h1(&by_h1), before_h2(&by_h2)] {
        stopped_at.store(0, Ordering::Release);
        http2::run(async {
            let client = Client::to(weft.address("web")).await;
            let before = weft.memory();
            let response = client.open(request("GET", "/").body(()).unwrap()).await.unwrap();
            let mut body = response.await.unwrap().into_body();
            let sent = until("the service is stopped", || {
                Some(stopped_at.load(Ordering::Acquire)).filter(|sent| *sent > 0)
            });
            assert!(sent < LITTLE, "{sent} bytes were sent to nobody");
            let grown = weft.memory().saturating_sub(before);
            assert!(grown < 8 << 20, "grown by {grown} bytes");
            assert_eq!(client.get("/other").await.unwrap().text(), "well");
            let mut read = 0;
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                read += data.len();
            }
            assert_eq!(read, MUCH);
        });
    }
}

#[test]
fn a_service_that_does_not_read_stops_the_client() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let by_h1 = Upstream::raw(move |mut conn: Conn| {
        let Some(mut request) = conn.head() else { return };
        until("the service may read", || gate.load(Ordering::Acquire).then_some(()));
        conn.body(&mut request, false);
        conn.send(ok(&request.body.len().to_string()));
    });
    let gate = open.clone();
    let by_h2 = Service::new(move |request, mut respond| {
        let gate = gate.clone();
        async move {
            while !gate.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            let (body, _) = http2::gather(request.into_body()).await?;
            let mut out = respond.send_response(Response::new(()), false)?;
            http2::send_all(&mut out, body.len().to_string().into(), None).await
        }
    });
    for weft in [before_h1(&by_h1), before_h2(&by_h2)] {
        open.store(false, Ordering::Release);
        http2::run(async {
            let client = Client::to(weft.address("web")).await;
            let before = weft.memory();
            let (response, mut out) =
                client.begin(request("POST", "/").body(()).unwrap()).await.unwrap();
            let (mut sent, chunk) = (0, bytes::Bytes::from(vec![b'x'; 64 << 10]));
            while sent < MUCH {
                match timeout(STILL, http2::send(&mut out, chunk.clone())).await {
                    Ok(done) => done.unwrap(),
                    Err(_full) => break,
                }
                sent += chunk.len();
            }
            assert!(sent < LITTLE, "{sent} bytes were sent to nobody");
            let grown = weft.memory().saturating_sub(before);
            assert!(grown < 8 << 20, "grown by {grown} bytes");
            open.store(true, Ordering::Release);
            // A part of the chunk that was stopped may have left.
            http2::send_all(&mut out, "the end".into(), None).await.unwrap();
            let reply = http2::reply(response).await.unwrap();
            let arrived: usize = reply.text().parse().unwrap();
            assert!((sent + 7..sent + 7 + chunk.len()).contains(&arrived), "{arrived} of {sent}");
        });
    }
}

#[test]
fn a_short_response_ends_with_its_data() {
    let by_h1 = Upstream::answering(|_| ok("short"));
    let by_h2 = Service::new(|_, mut respond| async move {
        respond.send_response(Response::new(()), false)?.send_data("short".into(), true)
    });
    for weft in [before_h1(&by_h1), before_h2(&by_h2)] {
        let mut conn = weft.connect("web");
        let mut hello = frames::PREFACE.to_vec();
        Frame::new(frames::SETTINGS, 0, 0, []).write(&mut hello);
        let flags = frames::END_STREAM | frames::END_HEADERS;
        Frame::new(frames::HEADERS, flags, 1, frames::get("/")).write(&mut hello);
        conn.send(hello);
        let mut of_stream = Vec::new();
        while of_stream.last().is_none_or(|frame: &Frame| frame.flags & frames::END_STREAM == 0) {
            let frame = Frame::read(&mut conn).unwrap();
            if frame.stream == 1 {
                of_stream.push(frame);
            }
        }
        let kinds: Vec<_> = of_stream.iter().map(|frame| frame.kind).collect();
        assert_eq!(kinds, [frames::HEADERS, frames::DATA], "{of_stream:?}");
        assert_eq!(of_stream[1].payload, b"short");
    }
}

/// A service that answers nobody until so many are waiting; how many waited at most.
fn gathering(count: usize) -> (Service, Arc<AtomicUsize>) {
    let (here, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    let all = Arc::new((Notify::new(), Semaphore::new(0)));
    let service = Service::new(move |_, mut respond| {
        let (here, most, all) = (here.clone(), most.clone(), all.clone());
        async move {
            let now = here.fetch_add(1, Ordering::AcqRel) + 1;
            most.fetch_max(now, Ordering::AcqRel);
            if now == count {
                all.1.add_permits(1_000_000);
            }
            let _open = all.1.acquire().await;
            here.fetch_sub(1, Ordering::AcqRel);
            let mut out = respond.send_response(Response::new(()), false)?;
            http2::send_all(&mut out, "here".into(), None).await
        }
    });
    (service, seen)
}

async fn ask_at_once(weft: &Weft, count: usize) {
    let client = Arc::new(Client::to(weft.address("web")).await);
    let asking: Vec<_> = (0..count)
        .map(|at| {
            let client = client.clone();
            http2::beside(async move {
                loop {
                    match client.get(&format!("/{at}")).await {
                        // A limit that was met a moment too early: nothing was done.
                        Err(refused) if refused.reason() == Some(Reason::REFUSED_STREAM) => {}
                        other => return other,
                    }
                }
            })
        })
        .collect();
    for one in asking {
        let reply = one.await.unwrap().unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "here"));
    }
}

#[test]
fn two_hundred_streams_pass_at_once_on_one_connection() {
    let (service, most) = gathering(200);
    let weft = Weft::start(
        BIN,
        &config(
            ", limits: { streams_max: 200 }",
            &format!("endpoints: '{}', protocol: http2, concurrency: off", service.address()),
        ),
    );
    http2::run(ask_at_once(&weft, 200));
    assert_eq!(most.load(Ordering::Acquire), 200);
    // A hundred on each connection to the service.
    assert!((2..=3).contains(&service.connections()), "{}", service.connections());
}

#[test]
fn a_client_may_have_only_so_many_streams_at_once() {
    let (service, most) = gathering(100);
    let weft = before_h2(&service);
    http2::run(ask_at_once(&weft, 300));
    assert_eq!(most.load(Ordering::Acquire), 100);
}

#[test]
fn what_is_under_way_by_tls_ends_well_at_a_drain() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("here");
    authority.issue(&["shop.test"]).write(folder.path(), "shop");
    let at = folder.path().display();
    let (asked, open) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (asked_, open_) = (asked.clone(), open.clone());
    let service = Service::new(move |_, mut respond| {
        let (asked, open) = (asked_.clone(), open_.clone());
        async move {
            asked.notify_one();
            let _open = open.acquire().await;
            let mut out = respond.send_response(Response::new(()), false)?;
            http2::send_all(&mut out, "finished".into(), None).await
        }
    });
    let mut weft = Weft::start(
        BIN,
        &config(
            &format!(
                ", tls: {{ certificates: {{ cert: '{at}/shop.crt', key: '{at}/shop.key' }} }}"
            ),
            &format!("endpoints: '{}', protocol: http2", service.address()),
        ),
    );
    http2::run(async {
        let tls = authority.client(&["h2"]);
        let client = Client::secure(weft.address("web"), "shop.test", &tls).await;
        let response = client.open(request("GET", "/").body(()).unwrap()).await.unwrap();
        asked.notified().await;
        weft.terminate();
        weft.wait_line("draining");
        open.add_permits(1);
        assert_eq!(http2::reply(response).await.unwrap().text(), "finished");
        client.ended().await.unwrap();
    });
    assert!(weft.wait().success());
}

#[test]
fn a_stream_that_a_service_refuses_is_sent_again_whatever_its_method() {
    let turn = Arc::new(AtomicUsize::new(0));
    let turns = turn.clone();
    let service = Service::new(move |request, mut respond| {
        let refuse = turns.fetch_add(1, Ordering::AcqRel).is_multiple_of(2);
        async move {
            if refuse {
                respond.send_reset(Reason::REFUSED_STREAM);
                return Ok(());
            }
            http2::echo(request, respond).await
        }
    });
    let weft = before_h2(&service);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let reply = client.ask(request("POST", "/").body(b"once".to_vec()).unwrap()).await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "once"));
    });
    assert_eq!(turn.load(Ordering::Acquire), 2);
    assert!(weft.wait_line("\"method\":\"POST\"").contains("\"attempts\":2"));
}

#[test]
fn a_service_that_breaks_off_leaves_the_stream_visibly_incomplete() {
    let service = Service::new(|request, mut respond| async move {
        if request.uri().path() == "/before" {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
        let mut out = respond.send_response(Response::new(()), false)?;
        http2::send(&mut out, "half".into()).await?;
        // Gone only when it has arrived, so that there is a half.
        poll_fn(|cx| out.poll_reset(cx)).await.map(drop)
    });
    let weft = before_h2(&service);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let post = request("POST", "/before").body(b"x".to_vec()).unwrap();
        let reply = client.ask(post).await.unwrap();
        assert_eq!(reply.status, 502);
        assert!(reply.get("proxy-status").contains("connection_terminated"), "{reply:?}");
        assert!(reply.text().contains("upstream_closed"), "{}", reply.text());

        let response = client.open(request("GET", "/within").body(()).unwrap()).await.unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "half");
        drop(service);
        let broken = body.data().await.unwrap().unwrap_err();
        assert!(broken.is_reset(), "{broken:?}");
    });
    assert!(weft.wait_line("/before").contains("\"reason\":\"upstream_closed\""));
    assert!(weft.wait_line("/within").contains("\"reason\":\"upstream_incomplete\""));
}

#[test]
fn a_stream_that_its_client_gives_up_is_given_up_at_the_service() {
    let (asked, reset) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (asked_, reset_) = (asked.clone(), reset.clone());
    let service = Service::new(move |_, mut respond| {
        let (asked, reset) = (asked_.clone(), reset_.clone());
        async move {
            asked.notify_one();
            let reason = poll_fn(|cx| respond.poll_reset(cx)).await?;
            assert_eq!(reason, Reason::CANCEL);
            reset.notify_one();
            Ok(())
        }
    });
    let weft = before_h2(&service);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let response = client.open(request("GET", "/left").body(()).unwrap()).await.unwrap();
        asked.notified().await;
        drop(response);
        timeout(PATIENCE, reset.notified()).await.expect("the service hears of it");
    });
    assert!(weft.wait_line("/left").contains("\"reason\":\"caller_gone\""));
}

#[test]
fn a_service_by_tls_is_spoken_to_as_it_prefers() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("services");
    authority.write(folder.path(), "ca");
    let own = authority.issue(&["127.0.0.1"]);
    let by_h2 =
        Service::with(Some(own.server(&["h2", "http/1.1"], None)), |_, mut respond| async move {
            let mut out = respond.send_response(Response::new(()), false)?;
            http2::send_all(&mut out, "two".into(), None).await
        });
    let by_h1 = Upstream::secure(own.server(&["http/1.1"], None), |_| ok("one"));
    let bare = Upstream::secure(own.server(&[], None), |_| ok("bare"));
    let at = folder.path().display();
    let table = [("two", by_h2.address()), ("one", by_h1.address()), ("bare", bare.address())];
    let services: String = table
        .iter()
        .map(|(name, at_)| {
            format!("  {name}: {{ endpoints: '{at_}', tls: {{ ca: '{at}/ca.crt' }} }}\n")
        })
        .collect();
    let routes: String = table
        .iter()
        .map(|(name, _)| format!("  - {{ name: {name}, match: /{name}, to: {name} }}\n"))
        .collect();
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: off\nlisteners: {{ web: {{ address: '@web' }} }}\nservices:\n{services}routes:\n{routes}"
        ),
    );
    for (name, _) in table {
        let response = weft.get(&format!("/{name}"), "");
        assert_eq!((response.status(), response.text().as_str()), (200, name), "{response:?}");
    }
}

#[test]
fn interim_responses_come_before_the_answer() {
    let hints = |done: String| format!("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n{done}");
    let old = Upstream::answering(move |_| hints(ok("done")));
    let new = Service::new(|_, mut respond| async move {
        let interim = Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
        respond.send_informational(interim)?;
        respond.send_response(Response::new(()), true).map(drop)
    });
    for weft in [before_h1(&old), before_h2(&new)] {
        http2::run(async {
            let client = Client::to(weft.address("web")).await;
            let mut response = client.open(request("GET", "/").body(()).unwrap()).await.unwrap();
            let seen = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
            assert_eq!(
                (seen.status().as_u16(), seen.headers()["link"].as_bytes()),
                (103, &b"</a.css>"[..])
            );
            assert_eq!(http2::reply(response).await.unwrap().status, 200);
        });
    }
}

/// A client that waits for it is told to send its body, once somebody wants to read that.
#[test]
fn a_client_that_waits_is_told_to_go_on() {
    let service = Upstream::answering(|request| ok(&request.text()));
    let weft = before_h1(&service);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let asked = request("POST", "/").header("expect", "100-continue").body(()).unwrap();
        let (mut response, mut out) = client.begin(asked).await.unwrap();
        let seen = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(seen.status().as_u16(), 100);
        out.send_data("hello".into(), true).unwrap();
        let reply = http2::reply(response).await.unwrap();
        assert_eq!((reply.status, reply.text()), (200, "hello".into()));
    });
}

#[test]
fn head_has_the_length_and_no_body() {
    let service =
        Upstream::answering(|_| "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n".to_owned());
    let weft = before_h1(&service);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let ask =
            async |path| client.ask(request("HEAD", path).body(Vec::new()).unwrap()).await.unwrap();
        let reply = ask("/").await;
        assert_eq!((reply.status, reply.get("content-length"), reply.body.len()), (200, "1234", 0));
        // Nor has what Weft itself says.
        let refused = ask("/a%00b").await;
        assert_eq!((refused.status, refused.body.len()), (400, 0));
        assert_eq!(refused.get("content-type"), "application/problem+json");
    });
}

//! Clients that leave, end their direction or break their upload once the response has begun.

use std::{io::Write as _, net::Shutdown, sync::mpsc};

use weft_testkit::{
    Conn, PATIENCE, Upstream, Weft,
    http2::{self, Client, Service, request},
    until,
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// The head of an event stream and its first event.
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    transfer-encoding: chunked\r\n\r\n7\r\ndata: 1\r\n";

fn node(service: &str, more: &str) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{service}'{more} }} }}
routes: [{{ name: all, to: it, body_max: 64KiB, timeout: {{ idle: 60s }} }}]
"
        ),
    )
}

/// A service that begins a stream for each request and says nothing more; it tells when each has ended.
fn quiet() -> (Upstream, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::sync_channel(1024);
    let service = Upstream::raw(move |mut conn| {
        if conn.head().is_none() {
            return;
        }
        conn.send(STREAM);
        while !conn.take(1).is_empty() {}
        let _ = tell.try_send(());
    });
    (service, told)
}

/// A client that has begun a stream with these bytes and has read its first event.
fn begun(weft: &Weft, asked: &str) -> Conn {
    let mut conn = weft.connect("web");
    conn.send(asked);
    let head = conn.head().unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(conn.take(12), b"7\r\ndata: 1\r\n");
    conn
}

const GET: &str = "GET /stream HTTP/1.1\r\nhost: t\r\n\r\n";

#[test]
fn a_client_that_leaves_a_quiet_stream_is_noticed() {
    let (service, told) = quiet();
    let weft = node(&service.address().to_string(), "");
    let many: Vec<Conn> = (0..20).map(|_| begun(&weft, GET)).collect();
    drop(many);
    // One that has sent more requests ahead, and one that is reset.
    drop(begun(&weft, &GET.repeat(3)));
    begun(&weft, GET).reset();
    for _ in 0..22 {
        told.recv_timeout(PATIENCE).unwrap();
    }
    assert!(weft.wait_line("/stream").contains("caller_gone"));
    until("nothing is in progress", || {
        (weft.metric("weft_endpoint_active_requests", &[]) == 0.0).then_some(())
    });
}

/// What breaks an upload after the head of the response ends that response, whoever the service is.
#[test]
fn an_upload_that_breaks_within_the_response_ends_it() {
    let (service, told) = quiet();
    let old = node(&service.address().to_string(), "");
    let modern = Service::new(|asked, mut respond| async move {
        let mut out = respond.send_response(http::Response::new(()), false)?;
        out.send_data("data: 1".into(), false)?;
        let mut body = asked.into_body();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len())?;
        }
        // Held until the stream is over.
        std::future::poll_fn(|cx| out.poll_reset(cx)).await.map(drop)
    });
    let new = node(&modern.address().to_string(), ", protocol: http2");
    let large = format!("12000\r\n{}\r\n", "x".repeat(0x12000));
    for weft in [&old, &new] {
        for (name, more, ends) in [
            ("malformed_request", "zz\r\n", false),
            ("malformed_request", "2;\r\nhi\r\n", false),
            ("body_too_large", large.as_str(), false),
            ("caller_gone", "5\r\nab", true),
        ] {
            let asked =
                "POST /up HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
            let mut conn = begun(weft, asked);
            conn.send(more);
            if ends {
                conn.stream().shutdown(Shutdown::Write).unwrap();
            }
            assert_eq!(conn.rest(), b"", "{name}: the response ends without its last chunk");
            until(name, || weft.output().lines().any(|line| line.contains(name)).then_some(()));
        }
        assert_eq!(weft.metric("weft_service_ejections_total", &[]), 0.0);
    }
    for _ in 0..4 {
        told.recv_timeout(PATIENCE).unwrap();
    }
    http2::run(async {
        let client = Client::to(old.address("web")).await;
        let (response, mut out) =
            client.begin(request("POST", "/h2").body(()).unwrap()).await.unwrap();
        out.send_data("a".into(), false).unwrap();
        let body = response.await.unwrap().into_body();
        let _ = http2::send(&mut out, vec![b'x'; 0x12000].into()).await;
        assert!(http2::gather(body).await.is_err());
    });
    assert!(old.wait_line("/h2").contains("body_too_large"));
}

/// A client of HTTP/1.0 reads the end of the connection as that of the response: a cut one must not end so.
#[test]
fn a_cut_response_to_an_old_client_ends_in_a_reset() {
    let service = Upstream::raw(|mut conn| {
        if conn.head().is_some() {
            conn.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n");
        }
    });
    let weft = node(&service.address().to_string(), "");
    let conn = weft.connect("web");
    let mut stream = conn.stream();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.0\r\nhost: t\r\n\r\n").unwrap();
    let mut all = Vec::new();
    let error = std::io::Read::read_to_end(&mut stream, &mut all).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_client_that_ends_within_its_upload_is_told_so_and_the_log_says_that_it_left() {
    let service = Upstream::answering(|_| ok("whole"));
    let weft = node(&service.address().to_string(), "");
    let upload = "PUT /half HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\n\r\nabc";
    let mut conn = weft.connect("web");
    conn.send(upload);
    conn.finish();
    assert_eq!(conn.response().status(), 400);
    assert!(weft.wait_line("/half").contains("\"status\":499,\"reason\":\"caller_gone\""));
    for number in 0..8 {
        let mut conn = weft.connect("web");
        conn.send(upload.replace("/half", &format!("/left{number}")));
        conn.reset();
        let line = weft.wait_line(&format!("/left{number}"));
        assert!(line.contains("\"status\":499"), "{line}");
    }
}

/// Requests with a body, each as much of one as a client may have sent before it leaves.
const UPLOADS: [&str; 6] = [
    "POST /gone HTTP/1.1\r\nhost: t\r\nx-slow: yes\r\ncontent-length: 3\r\n\r\nabc",
    "POST /gone HTTP/1.1\r\nhost: t\r\nx-slow: yes\r\ncontent-length: 9\r\n\r\nabc",
    "POST /gone HTTP/1.1\r\nhost: t\r\nx-slow: yes\r\ncontent-length: 9\r\n\r\n",
    "POST /gone HTTP/1.1\r\nhost: t\r\nx-slow: yes\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "POST /gone HTTP/1.1\r\nhost: t\r\nx-slow: yes\r\ntransfer-encoding: chunked\r\n\r\n\
     3\r\nabc\r\n0\r\n\r\n",
    "POST /gone HTTP/1.1\r\nhost: t\r\nx-slow: yes\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n",
];

/// The places where a request waits before anybody reads its body: what the service has, and the route.
const WAITS: [(&str, &str); 3] = [
    (", bulkhead: { in_flight_max: 1, queue_max: 8, queue_timeout: 50s }", ""),
    (", pool: { connections_max: 1 }", ""),
    ("", ", fault: { delay: { for: 50s, header: { x-slow: yes } } }"),
];

/// A node with a request of each of its two workers on the way to a service that answers when it is told to.
fn waiting(service: &Upstream, (of_service, of_route): (&str, &str)) -> (Weft, [Conn; 2]) {
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}'{of_service} }} }}
routes: [{{ name: all, to: it, timeout: 55s{of_route} }}]
",
            service.address()
        ),
    );
    let first = [(); 2].map(|()| {
        let mut conn = weft.connect("web");
        conn.send("GET /first HTTP/1.1\r\nhost: t\r\n\r\n");
        conn
    });
    until("the service is asked", || (service.connections() > 0).then_some(()));
    active(&weft, 2.0);
    (weft, first)
}

fn active(weft: &Weft, count: f64) {
    until(&format!("{count} requests are under way"), || {
        (weft.metric("http_server_active_requests", &[]) == count).then_some(())
    });
}

#[test]
fn a_client_with_a_body_that_leaves_before_it_is_read_is_noticed() {
    for wait in WAITS {
        let (go, may_go) = mpsc::sync_channel::<()>(8);
        let may_go = std::sync::Mutex::new(may_go);
        let service = Upstream::answering(move |request| {
            if request.target() == "/first" {
                may_go.lock().unwrap().recv().unwrap();
            }
            ok(&request.text())
        });
        let (weft, first) = waiting(&service, wait);
        let clients: Vec<Conn> = UPLOADS
            .iter()
            .map(|upload| {
                let mut conn = weft.connect("web");
                conn.send(upload);
                conn
            })
            .collect();
        active(&weft, 8.0);
        for client in clients {
            client.reset();
        }
        active(&weft, 2.0);
        assert!(weft.wait_line("/gone").contains("\"status\":499,\"reason\":\"caller_gone\""));
        // What is not whole when its client ends its direction never will be.
        for upload in [UPLOADS[1], UPLOADS[2], UPLOADS[3], UPLOADS[5]] {
            let mut conn = weft.connect("web");
            conn.send(upload);
            active(&weft, 3.0);
            conn.stream().shutdown(Shutdown::Write).unwrap();
            assert_eq!(conn.response().status(), 400, "{upload}");
            active(&weft, 2.0);
        }
        go.send(()).unwrap();
        go.send(()).unwrap();
        for mut conn in first {
            assert_eq!(conn.response().status(), 200);
        }
        assert_eq!(service.seen().len(), 2, "what the gone asked for is done: {wait:?}");
    }
}

/// What is not read ahead any more is asked after.
#[test]
fn a_client_that_leaves_a_long_upload_that_nobody_reads_is_noticed() {
    let service = Upstream::raw(|mut conn| {
        conn.head();
        std::thread::park_timeout(PATIENCE * 2);
    });
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: ['@web', 'unix:@@/web.sock'] }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes:
  - {{ name: slow, match: /slow, to: it, timeout: 55s, body_max: off,
       fault: {{ delay: {{ for: 50s }} }} }}
  - {{ name: all, to: it, timeout: 55s, body_max: off }}
",
            service.address()
        ),
    );
    for path in ["/slow", "/stuck"] {
        let conn = weft.connect("web");
        conn.stream().set_nonblocking(true).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: 1000000000\r\n\r\n");
        conn.stream().write_all(head.as_bytes()).unwrap();
        let part = vec![b'x'; 1 << 20];
        let mut still = std::time::Instant::now();
        until("no more is taken", || {
            if conn.stream().write(&part).is_ok() {
                still = std::time::Instant::now();
            }
            (still.elapsed() > std::time::Duration::from_millis(300)).then_some(())
        });
        conn.reset();
        assert!(weft.wait_line(path).contains("\"status\":499,\"reason\":\"caller_gone\""));
    }
    // A whole body of which some stays with the kernel, and the end behind it.
    let body = "x".repeat(100_000);
    let unix = Conn::unix(&weft.folder().join("web.sock"));
    for (number, mut conn) in [weft.connect("web"), unix].into_iter().enumerate() {
        let path = format!("/slow?{number}");
        conn.send(format!(
            "POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: 100000\r\n\r\n{body}"
        ));
        drop(conn);
        assert!(weft.wait_line(&path).contains("\"status\":499,\"reason\":\"caller_gone\""));
    }
}

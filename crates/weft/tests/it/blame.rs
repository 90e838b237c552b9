//! What clients do wrong, or slowly, is theirs: no endpoint is put out for it, and the log says so.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use weft_testkit::{
    Upstream, Weft,
    grpc::{self, Inbox, message},
    http2::{self, Client, Service},
    upstream::ok,
    wait::until,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// More failures in a row than an endpoint may have.
const ENOUGH: usize = 7;

/// A node before a service of two endpoints, so that one of them might be put out.
fn node(ends: [SocketAddr; 2], service: &str, route: &str) -> Weft {
    let [a, b] = ends;
    Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web', timeouts: {{ stream_idle: 700ms }} }} }}
services:
  it: {{ endpoints: ['{a}', '{b}'], balancer: round_robin{service} }}
routes:
  - {{ name: it, match: /*, to: it{route} }}
",
        ),
    )
}

/// That nobody was put out, and nothing counted as the service's failure.
fn is_spotless(weft: &Weft) {
    assert_eq!(weft.metric("weft_service_ejections_total", &[]), 0.0, "{}", weft.output());
    assert_eq!(weft.metric("weft_service_breaker_state", &[]), 0.0);
}

/// A service that answers the head at once and then sends back what comes, byte for byte.
fn echoing() -> Upstream {
    Upstream::raw(|mut conn| {
        let _ = conn.head();
        conn.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        loop {
            let bytes = conn.take(1);
            if bytes.is_empty() || !conn.send([b"1\r\n", bytes.as_slice(), b"\r\n"].concat()) {
                return;
            }
        }
    })
}

const BREAKER: &str = ", breaker: { calls_min: 2, failure_ratio: 10% }";

#[test]
fn a_call_that_sends_too_much_is_told_so_by_its_status() {
    let pair = [(); 2].map(|()| Service::new(grpc::serve));
    let weft = node(pair.each_ref().map(Service::address), BREAKER, ", body_max: 32KiB");
    http2::run(async {
        for _ in 0..ENOUGH {
            let client = Client::to(weft.address("web")).await;
            let request = grpc::call("/One/Bidi").body(()).unwrap();
            let (response, mut out) = client.begin(request).await.unwrap();
            let mut inbox = Inbox::of(response.await.unwrap().into_body());
            http2::send(&mut out, message("first")).await.unwrap();
            assert_eq!(inbox.next().await.unwrap(), b"first");
            let _ = http2::send(&mut out, message([b'x'; 40 * 1024])).await;
            while inbox.next().await.is_some() {}
            let trailers = inbox.trailers().await.expect("a status");
            assert_eq!(trailers["grpc-status"], "8", "{trailers:?}");
            assert!(!trailers["grpc-message"].is_empty());
        }
    });
    let line = weft.wait_line("\"reason\":\"body_too_large\"");
    assert!(line.contains("\"grpc_status\":8"), "{line}");
    is_spotless(&weft);
}

/// How a client frames its body, and how that goes on once the response has begun. Then it falls silent.
const FAULTS: [(&str, &str, &str); 4] = [
    ("transfer-encoding: chunked", "4\r\nabcd\r\n800\r\n", "body_too_large"),
    ("transfer-encoding: chunked", "4\r\nabcd\r\nzz\r\n", "malformed_request"),
    ("content-length: 100", "half", "body_timeout"),
    ("transfer-encoding: chunked", "4\r\nabcd\r\n", "body_timeout"),
];

#[test]
fn a_body_that_goes_wrong_after_the_head_of_the_response_is_the_clients() {
    for (framing, body, reason) in FAULTS {
        let pair = [(); 2].map(|()| echoing());
        let weft = node(pair.each_ref().map(Upstream::address), BREAKER, ", body_max: 1KiB");
        for _ in 0..ENOUGH {
            let mut conn = weft.connect("web");
            conn.send(format!("POST / HTTP/1.1\r\nhost: t\r\n{framing}\r\n\r\n"));
            assert_eq!(conn.head().unwrap().status(), 200);
            conn.send(body);
            if body.ends_with("800\r\n") {
                conn.send("x".repeat(0x800));
            }
            assert!(!conn.rest().ends_with(b"0\r\n\r\n"), "the response is not whole");
        }
        until("all of them are told", || {
            let told = weft.output().matches(&format!("\"reason\":\"{reason}\"")).count();
            (told == ENOUGH).then_some(())
        });
        is_spotless(&weft);
    }
}

#[test]
fn clients_that_leave_within_their_body_are_no_fault_of_the_service() {
    let pair = [(); 2].map(|()| echoing());
    let weft = node(pair.each_ref().map(Upstream::address), BREAKER, "");
    for _ in 0..ENOUGH {
        let mut conn = weft.connect("web");
        conn.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 100\r\n\r\nhalf");
        assert_eq!(conn.head().unwrap().status(), 200);
        conn.reset();
    }
    let others = [(); 2].map(|()| Service::echoing());
    let other = node(others.each_ref().map(Service::address), ", protocol: http2", "");
    http2::run(async {
        for turn in 1..=ENOUGH {
            let client = Client::to(other.address("web")).await;
            let request = http2::request("POST", "/").body(()).unwrap();
            let (_response, mut out) = client.begin(request).await.unwrap();
            http2::send(&mut out, Bytes::from_static(b"half")).await.unwrap();
            out.send_reset(h2::Reason::CANCEL);
            while other.output().matches("caller_gone").count() < turn {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    for weft in [&weft, &other] {
        until("all have ended", || {
            (weft.output().matches("caller_gone").count() >= ENOUGH).then_some(())
        });
        is_spotless(weft);
    }
}

#[test]
fn an_upload_that_moves_may_take_longer_than_the_service() {
    let pair = [(); 2].map(|()| Upstream::answering(|request| ok(&request.text())));
    let weft = node(
        pair.each_ref().map(Upstream::address),
        BREAKER,
        ", timeout: { request: 400ms, per_try: 300ms }, retry: { retries: 1 }",
    );
    let slow = |version: u8| {
        let weft = &weft;
        move || {
            if version == 1 {
                let mut conn = weft.connect("web");
                conn.send("PUT / HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\n");
                for _ in 0..10 {
                    thread::sleep(Duration::from_millis(100));
                    conn.send("x");
                }
                let response = conn.response();
                assert_eq!((response.status(), response.text()), (200, "x".repeat(10)));
                return;
            }
            http2::run(async {
                let client = Client::to(weft.address("web")).await;
                let request = http2::request("PUT", "/").body(()).unwrap();
                let (response, mut out) = client.begin(request).await.unwrap();
                for _ in 0..10 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    http2::send(&mut out, Bytes::from_static(b"x")).await.unwrap();
                }
                http2::send_all(&mut out, Bytes::new(), None).await.unwrap();
                let reply = http2::reply(response).await.unwrap();
                assert_eq!((reply.status, reply.text()), (200, "x".repeat(10)));
            });
        }
    };
    thread::scope(|scope| {
        for _ in 0..ENOUGH {
            scope.spawn(slow(1));
            scope.spawn(slow(2));
        }
    });
    is_spotless(&weft);
    // The latency that balancers go by is the service's too.
    let latency = weft.metric("weft_endpoint_latency_seconds", &["127.0.0.1"]);
    assert!(latency < 0.5, "{latency}");
}

#[test]
fn the_services_time_begins_when_it_has_the_request_and_then_it_is_short() {
    let pair = [(); 2].map(|()| {
        Upstream::raw(|mut conn| {
            conn.request();
            conn.rest();
        })
    });
    let weft = node(pair.each_ref().map(Upstream::address), "", ", timeout: 300ms, retry: off");
    let mut conn = weft.connect("web");
    conn.send("PUT / HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\n\r\n");
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(150));
        conn.send("x");
    }
    let whole = Instant::now();
    assert_eq!(conn.response().status(), 504);
    let took = whole.elapsed();
    assert!((200..600).contains(&took.as_millis()), "{took:?}");
    assert!(weft.wait_line("request_timeout").contains("\"status\":504"));
}

#[test]
fn a_service_that_takes_nothing_is_given_up_while_the_client_would_send() {
    let pair = [(); 2].map(|()| {
        Upstream::raw(|mut conn| {
            conn.head();
            thread::sleep(Duration::from_secs(5));
        })
    });
    let weft = node(
        pair.each_ref().map(Upstream::address),
        "",
        ", timeout: 500ms, retry: off, body_max: off",
    );
    let mut client = TcpStream::connect(weft.address("web")).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    client.write_all(b"PUT / HTTP/1.1\r\nhost: t\r\ncontent-length: 100000000\r\n\r\n").unwrap();
    let mut sender = client.try_clone().unwrap();
    let sending = thread::spawn(move || while sender.write_all(&[b'x'; 64 * 1024]).is_ok() {});
    let mut answer = [0; 12];
    client.read_exact(&mut answer).expect("an answer while the client still sends");
    assert_eq!(&answer, b"HTTP/1.1 504");
    // The connection may have been reset already.
    let _ = client.shutdown(std::net::Shutdown::Both);
    sending.join().unwrap();
}

#[test]
fn an_upload_has_a_limit_of_its_own() {
    let service = Upstream::answering(|_| ok("whole"));
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web', timeouts: {{ body: 500ms }} }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: it, to: it }}]
",
            service.address()
        ),
    );
    let mut conn = weft.connect("web");
    conn.send("PUT / HTTP/1.1\r\nhost: t\r\ncontent-length: 1000\r\n\r\n");
    for _ in 0..12 {
        thread::sleep(Duration::from_millis(50));
        conn.send("x");
    }
    assert_eq!(conn.response().status(), 408);
    assert!(weft.wait_line("body_timeout").contains("500ms"));
    assert_eq!(weft.metric("weft_service_ejections_total", &[]), 0.0);
}

#[test]
fn a_deadline_that_the_caller_set_speaks_against_nobody() {
    let pair = [(); 2].map(|()| {
        Upstream::raw(|mut conn| {
            conn.head();
            conn.rest();
        })
    });
    let weft = node(pair.each_ref().map(Upstream::address), BREAKER, ", retry: off");
    for _ in 0..ENOUGH {
        assert_eq!(weft.get("/", "x-request-timeout-ms: 20\r\n").status(), 504);
    }
    is_spotless(&weft);

    // And over gRPC: before the head, within the response, and told by the service itself.
    let pair = [(); 2].map(|()| {
        Service::new(
            |request: http::Request<h2::RecvStream>,
             mut respond: h2::server::SendResponse<Bytes>| async move {
                match request.uri().path() {
                    "/One/Silent" => {
                        std::future::poll_fn(|cx| respond.poll_reset(cx)).await?;
                    }
                    "/One/Says" => {
                        let mut response = http::Response::builder()
                            .header("content-type", grpc::CONTENT_TYPE)
                            .body(())
                            .unwrap();
                        response.headers_mut().extend(grpc::status(4, "too late"));
                        respond.send_response(response, true)?;
                    }
                    _ => {
                        let mut out = grpc::begin(&mut respond)?;
                        std::future::poll_fn(|cx| out.poll_reset(cx)).await?;
                    }
                }
                Ok(())
            },
        )
    });
    let weft = node(pair.each_ref().map(Service::address), BREAKER, ", retry: off");
    http2::run(async {
        for path in ["/One/Silent", "/One/Says", "/One/Begins"] {
            for _ in 0..ENOUGH {
                let client = Client::to(weft.address("web")).await;
                let request =
                    grpc::call(path).header("grpc-timeout", "50m").body(vec![0; 5]).unwrap();
                let reply = client.ask(request).await.unwrap();
                let status = [reply.get("grpc-status"), reply.trailer("grpc-status")].concat();
                assert_eq!(status, "4", "{path}");
            }
        }
    });
    is_spotless(&weft);
}

/// A service that sends much, and gives up a reader that takes nothing for a while; `given_up` counts them.
fn impatient(given_up: &Arc<AtomicUsize>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let given_up = given_up.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let given_up = given_up.clone();
            thread::spawn(move || {
                let mut head = [0; 1024];
                if stream.read(&mut head).unwrap_or(0) == 0 {
                    return;
                }
                stream.set_write_timeout(Some(Duration::from_millis(1_500))).unwrap();
                let length = 200 << 20;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                let _ = stream.write_all(head.as_bytes());
                while stream.write_all(&[b'x'; 64 * 1024]).is_ok() {}
                given_up.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    address
}

#[test]
fn a_service_that_gives_up_a_reader_who_does_not_read_is_not_blamed() {
    let given_up = Arc::new(AtomicUsize::new(0));
    let all_given_up = || given_up.load(Ordering::SeqCst) >= ENOUGH;
    let ends = [impatient(&given_up), impatient(&given_up)];
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web', timeouts: {{ stream_idle: 20s }} }} }}
services: {{ it: {{ endpoints: ['{}', '{}'], balancer: round_robin{BREAKER} }} }}
routes: [{{ name: it, match: /*, to: it }}]
",
            ends[0], ends[1]
        ),
    );
    thread::scope(|scope| {
        for turn in 0..ENOUGH {
            let (weft, all_given_up) = (&weft, &all_given_up);
            scope.spawn(move || {
                if turn % 2 == 0 {
                    let mut stream = TcpStream::connect(weft.address("web")).unwrap();
                    stream.write_all(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n").unwrap();
                    let mut first = [0; 12];
                    stream.read_exact(&mut first).unwrap();
                    assert_eq!(&first, b"HTTP/1.1 200");
                    until("the service gives it up", || all_given_up().then_some(()));
                    // It reads on, to where that was.
                    let mut rest = vec![0; 1 << 20];
                    while stream.read(&mut rest).is_ok_and(|count| count > 0) {}
                } else {
                    http2::run(async {
                        let client = Client::to(weft.address("web")).await;
                        let request = http2::request("GET", "/").body(()).unwrap();
                        let (response, _out) = client.begin(request).await.unwrap();
                        let mut body = response.await.unwrap().into_body();
                        while !all_given_up() {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        while let Some(Ok(data)) = body.data().await {
                            let _ = body.flow_control().release_capacity(data.len());
                        }
                    });
                }
            });
        }
    });
    until("all of them are told", || {
        (weft.output().matches("\"reason\":\"caller_slow\"").count() == ENOUGH).then_some(())
    });
    is_spotless(&weft);
}

/// A service that gives up whoever keeps it waiting for the rest of a request.
fn hasty(answers_first: bool) -> Upstream {
    Upstream::raw(move |mut conn| {
        if conn.head().is_none() {
            return;
        }
        if answers_first {
            conn.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        }
        thread::sleep(Duration::from_millis(1_500));
    })
}

#[test]
fn a_service_that_gives_up_a_sender_who_does_not_send_is_not_blamed() {
    for answers_first in [false, true] {
        let pair = [(); 2].map(|()| hasty(answers_first));
        let [a, b] = pair.each_ref().map(Upstream::address);
        let weft = Weft::start(
            BIN,
            &format!(
                "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web', timeouts: {{ stream_idle: 20s }} }} }}
services: {{ it: {{ endpoints: ['{a}', '{b}'], balancer: round_robin{BREAKER} }} }}
routes: [{{ name: it, match: /*, to: it, retry: off }}]
"
            ),
        );
        thread::scope(|scope| {
            for _ in 0..ENOUGH {
                let weft = &weft;
                scope.spawn(move || {
                    let mut conn = weft.connect("web");
                    conn.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\nhalf");
                    let expected = if answers_first { 200 } else { 408 };
                    assert_eq!(conn.head().unwrap().status(), expected);
                    conn.rest();
                });
            }
        });
        until("all of them are told", || {
            (weft.output().matches("\"reason\":\"body_timeout\"").count() == ENOUGH).then_some(())
        });
        is_spotless(&weft);
    }
}

#[test]
fn a_body_that_is_held_back_for_a_service_costs_the_service_nothing() {
    // Services that know nothing of expectations, by both versions.
    let old = [(); 2].map(|()| Upstream::answering(|_| ok("whole")));
    let new = [(); 2].map(|()| {
        Service::new(|asked, mut respond| async move {
            let (body, _) = http2::gather(asked.into_body()).await?;
            let mut out = respond.send_response(http::Response::new(()), false)?;
            http2::send_all(&mut out, body.into(), None).await
        })
    });
    let by_new = format!("{BREAKER}, protocol: http2");
    for (ends, service) in [
        (old.each_ref().map(Upstream::address), BREAKER),
        (new.each_ref().map(Service::address), by_new.as_str()),
    ] {
        for times in [", timeout: 400ms", ", timeout: { request: 5s, per_try: 400ms }"] {
            let weft = node(ends, service, times);
            for _ in 0..ENOUGH {
                let mut conn = weft.connect("web");
                // It does not wait to be asked.
                conn.send(
                    "PUT / HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\nwhole",
                );
                let began = Instant::now();
                let head =
                    until("the final response", || conn.head().filter(|head| head.status() != 100));
                assert_eq!(head.status(), 200, "{times}");
                assert!(began.elapsed() < Duration::from_millis(900), "nothing is waited for");
            }
            http2::run(async {
                let client = Client::to(weft.address("web")).await;
                for _ in 0..ENOUGH {
                    let asked = http2::request("PUT", "/").header("expect", "100-continue");
                    let asked = asked.body(b"whole".to_vec()).unwrap();
                    assert_eq!(client.ask(asked).await.unwrap().status, 200, "{times}");
                }
            });
            // And one of each that does wait.
            let mut conn = weft.connect("web");
            conn.send(
                "PUT / HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
            );
            assert_eq!(conn.head().unwrap().status(), 100);
            conn.send("whole");
            assert_eq!(conn.response().text(), "whole");
            is_spotless(&weft);
        }
    }
}

/// A service that is well, and answers late.
fn late() -> Upstream {
    Upstream::answering(|_| {
        thread::sleep(Duration::from_millis(200));
        ok("late")
    })
}

#[test]
fn what_waits_out_its_time_in_a_queue_of_weft_speaks_against_nobody() {
    for queue in
        [", bulkhead: { in_flight_max: 1, queue_timeout: 10s }", ", pool: { connections_max: 1 }"]
    {
        let pair = [late(), late()];
        let service = format!(", breaker: {{ calls: 20, calls_min: 8 }}{queue}");
        let weft = node(pair.each_ref().map(Upstream::address), &service, ", timeout: 500ms");
        let statuses: Vec<u16> = thread::scope(|scope| {
            let asking: Vec<_> =
                (0..24).map(|_| scope.spawn(|| weft.get("/", "").status())).collect();
            asking.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        assert!(statuses.iter().all(|status| [200, 503, 504].contains(status)), "{statuses:?}");
        assert!(statuses.contains(&200), "{statuses:?}");
        is_spotless(&weft);
        assert_eq!(weft.get("/", "").status(), 200, "{queue}");
    }
    let pair = [(); 2].map(|()| Upstream::saying("well"));
    let weft = node(
        pair.each_ref().map(Upstream::address),
        ", breaker: { calls: 20, calls_min: 8 }",
        ", timeout: 100ms, fault: { delay: { for: 150ms, header: { x-slow: yes } } }",
    );
    for _ in 0..12 {
        assert_eq!(weft.get("/", "x-slow: yes\r\n").status(), 504);
    }
    assert_eq!(pair.iter().map(|one| one.seen().len()).sum::<usize>(), 0);
    is_spotless(&weft);
    assert_eq!(weft.get("/", "").status(), 200);
}

#[test]
fn a_service_that_hangs_is_given_up_though_others_wait_for_its_places() {
    let pair = [(); 2].map(|()| {
        Upstream::raw(|mut conn| {
            conn.head();
            conn.rest();
        })
    });
    let service = ", breaker: { calls: 20, calls_min: 4 }, pool: { connections_max: 2 }";
    let weft =
        node(pair.each_ref().map(Upstream::address), service, ", timeout: 200ms, retry: off");
    until("the breaker opens", || {
        weft.get("/", "");
        (weft.metric("weft_service_breaker_state", &[]) == 2.0).then_some(())
    });
}

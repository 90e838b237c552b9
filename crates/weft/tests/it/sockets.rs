//! Sockets that are not of HTTP over TCP: Unix sockets on both sides, and raw bytes.

use std::{os::unix::net::UnixListener, thread};

use weft_testkit::{Conn, Upstream, Weft, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// Serves requests at a Unix socket until the test ends.
fn serve(listener: UnixListener) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut conn = Conn::of_unix(stream.unwrap());
            thread::spawn(move || {
                while let Some(request) = conn.request() {
                    let from = request.get("x-forwarded-for").unwrap_or("nobody");
                    conn.send(ok(&format!("{} from {from}", request.target())));
                }
            });
        }
    });
}

#[test]
fn unix_sockets_listen_and_are_connected_to() {
    let folder = tempfile::tempdir().unwrap();
    let (front, back) = (folder.path().join("front.sock"), folder.path().join("back.sock"));
    serve(UnixListener::bind(&back).unwrap());
    let mut weft = Weft::start(
        BIN,
        &format!(
            "admin: off
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: ['unix:{}', '@web'] }} }}
services:
  it: {{ endpoints: 'unix:{}' }}
  gone: {{ endpoints: 'unix:{}/none.sock' }}
routes:
  - {{ name: all, to: it }}
  - {{ name: gone, match: /gone, to: gone }}
",
            front.display(),
            back.display(),
            folder.path().display()
        ),
    );
    let mut conn = Conn::unix(&front);
    for path in ["/one", "/two"] {
        let response = conn.ask(format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n"));
        assert_eq!(response.text(), format!("{path} from nobody"));
    }
    assert_eq!(weft.get("/three", "").text(), "/three from 127.0.0.1");
    let gone = conn.ask("GET /gone HTTP/1.1\r\nhost: t\r\n\r\n");
    assert_eq!(gone.status(), 502);
    assert!(gone.text().contains("connect_failed"), "{}", gone.text());
    weft.terminate();
    assert!(weft.wait().success());
    assert!(conn.is_closed());
}

#[test]
fn bulk_passes_raw_both_ways_at_once() {
    let service = Upstream::raw(|mut conn: Conn| {
        let _ = std::io::copy(&mut conn.stream(), &mut conn.stream());
        conn.finish();
    });
    let mut weft = Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
listeners: {{ raw: {{ address: '@raw', protocol: tcp, to: it }} }}
services: {{ it: {{ endpoints: ['@nowhere', '{}'], balancer: round_robin }} }}
",
            service.address()
        ),
    );
    let data: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 251) as u8).collect();
    for _ in 0..2 {
        let mut conn = weft.connect("raw");
        let mut writer = Conn::of(conn.stream().try_clone().unwrap());
        let sent = data.clone();
        let writing = thread::spawn(move || {
            let all = writer.send(sent);
            writer.finish();
            all
        });
        let back = conn.rest();
        assert!(writing.join().unwrap());
        assert!(back == data, "{} of {} bytes", back.len(), data.len());
    }
    let moved = 2.0 * data.len() as f64;
    weft.wait_metric("weft_listener_received_bytes_total", &["listener=\"raw\""], moved);
    weft.wait_metric("weft_listener_sent_bytes_total", &["listener=\"raw\""], moved);
    assert!(weft.metric("weft_service_connect_failures_total", &[]) >= 1.0, "one was passed over");
    // A connection that is cut off is cut off on the other side.
    let mut conn = weft.connect("raw");
    conn.send("x");
    assert_eq!(conn.take(1), b"x");
    weft.terminate();
    let mut other = conn;
    other.finish();
    assert!(other.is_closed());
    assert!(weft.wait().success());
}

#[test]
fn clients_that_take_every_descriptor_are_refused_and_those_before_them_are_served() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("limited");
    std::fs::write(&script, format!("#!/bin/sh\nulimit -n 300\nexec {BIN} \"$@\"\n")).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let service = Upstream::saying("served");
    let weft = Weft::start(
        script.to_str().unwrap(),
        &format!(
            "admin: off
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}', protocol: http1 }} }}
routes: [{{ name: all, to: it }}]
",
            service.address()
        ),
    );
    assert!(weft.wait_line("ulimit").contains("clients_max=75"), "{}", weft.output());
    // Three times as many as there is room for; each of those that came first can reach the service.
    let mut all: Vec<Conn> = (0..260).map(|_| weft.connect("web")).collect();
    let request = "GET / HTTP/1.1\r\nhost: t\r\n\r\n";
    let (served, refused): (Vec<usize>, Vec<usize>) = (0..all.len()).partition(|at| {
        let conn = &mut all[*at];
        conn.send(request);
        let head = conn.head();
        head.is_some_and(|mut head| {
            conn.body(&mut head, false);
            (head.status(), head.text()) == (200, "served".to_owned())
        })
    });
    assert_eq!((served.len(), refused.len()), (75, 185));
    for at in served {
        assert_eq!(all[at].ask(request).text(), "served");
    }
    drop(all);
    weft_testkit::wait::until("there is room again", || {
        let mut conn = weft.connect("web");
        conn.send(request);
        conn.head().map(drop)
    });
}

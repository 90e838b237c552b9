//! The end of a process: what is under way finishes, and a successor takes over without a refusal.

use std::{
    io::ErrorKind,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use weft_testkit::{
    Conn, Upstream, Weft,
    frames::{self, Frame},
    until,
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(service: &Upstream) -> String {
    format!(
        "admin: off
telemetry: {{ access_log: errors }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
        service.address()
    )
}

#[test]
fn what_is_under_way_finishes_and_nothing_new_is_taken() {
    let (open, gate) = std::sync::mpsc::sync_channel::<()>(1);
    let gate = std::sync::Mutex::new(gate);
    let slow = Upstream::answering(move |_| {
        let _ = gate.lock().unwrap().recv_timeout(weft_testkit::PATIENCE);
        ok("finished")
    });
    let mut weft = Weft::start(BIN, &config(&slow));
    let mut idle = weft.connect("web");
    let mut busy = weft.connect("web");
    busy.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    until("the service is asked", || (slow.connections() > 0).then_some(()));
    weft.terminate();
    weft.wait_line("draining");
    let address = weft.address("web");
    until("new connections are refused", || TcpStream::connect(address).is_err().then_some(()));
    assert!(idle.is_closed(), "an idle connection is ended");
    open.send(()).unwrap();
    let response = busy.response();
    assert_eq!(response.text(), "finished");
    assert_eq!(response.get("connection"), Some("close"), "the client is told");
    assert!(busy.is_closed());
    assert!(weft.wait().success());
}

#[test]
fn http2_is_told_goaway_and_its_streams_finish() {
    let (open, gate) = std::sync::mpsc::sync_channel::<()>(1);
    let gate = std::sync::Mutex::new(gate);
    let slow = Upstream::answering(move |_| {
        let _ = gate.lock().unwrap().recv_timeout(weft_testkit::PATIENCE);
        ok("finished")
    });
    let mut weft = Weft::start(BIN, &config(&slow));
    let mut conn = weft.connect("web");
    let mut hello = frames::PREFACE.to_vec();
    Frame::new(frames::SETTINGS, 0, 0, []).write(&mut hello);
    let flags = frames::END_STREAM | frames::END_HEADERS;
    Frame::new(frames::HEADERS, flags, 1, frames::get("/")).write(&mut hello);
    conn.send(hello);
    until("the service is asked", || (slow.connections() > 0).then_some(()));
    weft.terminate();
    let (mut told, mut body, mut open) = (false, Vec::new(), Some(open));
    while let Some(frame) = Frame::read(&mut conn) {
        match frame.kind {
            frames::GOAWAY => {
                assert_eq!(frame.payload[4..8], [0; 4], "no error");
                told = true;
                if let Some(open) = open.take() {
                    open.send(()).unwrap();
                }
            }
            // The library finds out how much is under way before it says its last GOAWAY.
            frames::PING if frame.flags == 0 => {
                conn.send(Frame::new(frames::PING, 1, 0, frame.payload).bytes());
            }
            frames::DATA => body.extend(frame.payload),
            _ => {}
        }
    }
    assert!(told);
    assert_eq!(body, b"finished");
    assert!(weft.wait().success());
}

#[test]
fn work_that_does_not_end_is_cut_at_the_end_of_the_drain() {
    let stuck = Upstream::raw(|mut conn| {
        conn.request();
        conn.is_closed();
    });
    let mut weft = Weft::with(BIN, &config(&stuck), &["--drain", "300ms"]);
    let mut conn = weft.connect("web");
    conn.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    until("the service is asked", || (stuck.connections() > 0).then_some(()));
    weft.terminate();
    assert!(weft.wait().success());
    assert!(conn.rest().is_empty());
    weft.wait_line("were cut at the end of the drain");
}

/// What became of the connections made while processes changed.
#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    refused: AtomicUsize,
    broken: AtomicUsize,
}

#[test]
fn a_successor_takes_over_without_a_refused_connection() {
    let service = Upstream::saying("here");
    let mut weft = Weft::with(BIN, &config(&service), &["--handover", "@@/handover.sock"]);
    let tally = Arc::new(Tally::default());
    let stop = Arc::new(AtomicBool::new(false));
    let address = weft.address("web");
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (tally, stop) = (tally.clone(), stop.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    let mut conn = match TcpStream::connect(address) {
                        Ok(stream) => Conn::of(stream),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
                            tally.refused.fetch_add(1, Ordering::AcqRel);
                            continue;
                        }
                    };
                    conn.send("GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
                    match conn.head() {
                        Some(head) if head.status() == 200 => &tally.answered,
                        _ => &tally.broken,
                    }
                    .fetch_add(1, Ordering::AcqRel);
                }
            })
        })
        .collect();
    let more = |count: usize| {
        let goal = tally.answered.load(Ordering::Acquire) + count;
        until("answers", || (tally.answered.load(Ordering::Acquire) >= goal).then_some(()));
    };
    more(20);
    for _ in 0..3 {
        let next = weft.successor();
        assert!(weft.wait().success(), "the former one has drained and ended");
        weft = next;
        more(20);
    }
    stop.store(true, Ordering::Release);
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(tally.refused.load(Ordering::Acquire), 0, "refused");
    assert_eq!(tally.broken.load(Ordering::Acquire), 0, "closed without an answer");
    weft.terminate();
    assert!(weft.wait().success());
}

#[test]
fn a_successor_takes_over_what_is_kept_without_a_refused_message() {
    let config = "admin: { listen: '@admin' }
ledger: data
listeners: { web: { address: '@web' } }
queues: { q: {} }
routes: [{ name: m, match: '/m/*', messages: /m }]
";
    let mut weft = Weft::with(BIN, config, &["--handover", "@@/handover.sock"]);
    let (taken, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let address = weft.address("web");
    let publishers: Vec<_> = (0..3)
        .map(|publisher| {
            let (taken, stop) = (taken.clone(), stop.clone());
            thread::spawn(move || {
                for message in 0.. {
                    if stop.load(Ordering::Acquire) {
                        break;
                    }
                    let answer = Conn::of(TcpStream::connect(address).unwrap()).ask(format!(
                        "POST /m/v1/queues/q/messages HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\
                         ce-specversion: 1.0\r\nce-id: {publisher}-{message}\r\nce-source: /t\r\nce-type: t\r\n\
                         content-length: 1\r\n\r\nx"
                    ));
                    assert_eq!(answer.status(), 200, "{}", answer.text());
                    taken.fetch_add(1, Ordering::AcqRel);
                }
            })
        })
        .collect();
    let more = |count: usize| {
        let goal = taken.load(Ordering::Acquire) + count;
        until("messages", || (taken.load(Ordering::Acquire) >= goal).then_some(()));
    };
    more(20);
    for _ in 0..3 {
        let next = weft.successor();
        assert!(weft.wait().success(), "the former one has drained and ended");
        assert!(weft.find(" ERROR ").is_none(), "{}", weft.output());
        weft = next;
        more(20);
    }
    stop.store(true, Ordering::Release);
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    let ready = weft.metric("weft_queue_messages", &["state=\"ready\""]);
    assert_eq!(ready as usize, taken.load(Ordering::Acquire));
}

#[test]
fn a_node_that_is_told_to_end_while_it_starts_ends() {
    let service = Upstream::saying("ok");
    let text = config(&service).replace("'@web'", "'127.0.0.1:0'") + "topics: { t: {} }\n";
    for signal in ["-TERM", "-INT"] {
        // The signal comes at another moment of the start each time; what comes before Weft has begun
        // ends the process by itself.
        for delay in 0..6 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("weft.yaml");
            std::fs::write(&path, &text).unwrap();
            let mut child = std::process::Command::new(BIN)
                .args(["up", "--workers", "1", "--drain", "100ms", "--config"])
                .arg(&path)
                .current_dir(folder.path())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            until("the ledger is opened", || {
                folder.path().join("weft-data").exists().then_some(())
            });
            thread::sleep(std::time::Duration::from_millis(3 * delay));
            let id = child.id().to_string();
            assert!(
                std::process::Command::new("kill").args([signal, &id]).status().unwrap().success()
            );
            let status = until("weft ends", || child.try_wait().unwrap());
            assert!(status.success(), "{signal} {delay}: {status}");
        }
    }
}

//! Changes of the configuration while requests are under way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use weft_testkit::{Conn, Upstream, Weft, until, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(listener: &str, services: &[(&str, &Upstream)], routes: &str) -> String {
    let services: String = services
        .iter()
        .map(|(name, service)| format!("  {name}: {{ endpoints: '{}' }}\n", service.address()))
        .collect();
    format!(
        "admin: off
telemetry: {{ access_log: errors }}
listeners: {{ web: {{ address: '@web'{listener} }} }}
services:
{services}routes:
{routes}"
    )
}

#[test]
fn a_route_is_added_and_taken_away_while_a_connection_lives() {
    let (one, two) = (Upstream::saying("one"), Upstream::saying("two"));
    let before = config("", &[("one", &one)], "  - { name: one, match: /one, to: one }\n");
    let weft = Weft::start(BIN, &before);
    let mut conn = weft.connect("web");
    assert_eq!(conn.ask("GET /two HTTP/1.1\r\nhost: t\r\n\r\n").status(), 404);
    let after = config(
        "",
        &[("one", &one), ("two", &two)],
        "  - { name: one, match: /one, to: one }\n  - { name: two, match: /two, to: two }\n",
    );
    weft.reload(&after).unwrap();
    assert_eq!(conn.ask("GET /two HTTP/1.1\r\nhost: t\r\n\r\n").text(), "two");
    weft.reload(&before).unwrap();
    assert_eq!(conn.ask("GET /two HTTP/1.1\r\nhost: t\r\n\r\n").status(), 404);
    assert_eq!(conn.ask("GET /one HTTP/1.1\r\nhost: t\r\n\r\n").text(), "one");
}

#[test]
fn a_refused_reload_keeps_the_last_good_configuration() {
    let one = Upstream::saying("one");
    let good = config("", &[("one", &one)], "  - { name: one, match: /one, to: one }\n");
    let weft = Weft::start(BIN, &good);
    for bad in [
        "listeners: {",
        "",
        "routes: [{ name: x, to: nobody }]\n",
        &good.replace("to: one", "to: one, retry: { retries: many }"),
    ] {
        let why = weft.reload(bad).expect_err("it must be refused");
        assert!(why.contains("the last good one stays in force"), "{why}");
        assert_eq!(weft.get("/one", "").text(), "one");
    }
    weft.reload(&good.replace("/one", "/uno")).unwrap();
    assert_eq!(weft.get("/uno", "").text(), "one");
}

#[test]
fn listeners_come_and_go() {
    let one = Upstream::saying("one");
    let base = config("", &[("one", &one)], "  - { name: one, to: one }\n");
    let weft = Weft::start(BIN, &base);
    let more =
        base.replace("web: { address: '@web' }", "web: { address: '@web' }, b: { address: '@b' }");
    weft.reload(&more).unwrap();
    let mut kept = weft.connect("b");
    assert_eq!(kept.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n").text(), "one");
    weft.reload(&base).unwrap();
    until("the listener refuses", || {
        std::net::TcpStream::connect(weft.address("b")).is_err().then_some(())
    });
    assert!(kept.is_closed(), "an idle connection of a listener that is gone ends");
    assert_eq!(weft.get("/", "").text(), "one");
}

/// Clients that ask without a pause, each over kept connections and over new ones.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(weft: &Weft, clients: usize) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..clients)
            .map(|client| {
                let (stop, asked, address) = (stop.clone(), asked.clone(), weft.address("web"));
                thread::spawn(move || {
                    let mut failed = Vec::new();
                    while !stop.load(Ordering::Acquire) {
                        let mut conn = Conn::to(address);
                        let turns = if client % 2 == 0 { 1 } else { 20 };
                        for _ in 0..turns {
                            let response = conn.ask("GET /x HTTP/1.1\r\nhost: t\r\n\r\n");
                            asked.fetch_add(1, Ordering::AcqRel);
                            if response.status() != 200 || response.text() != "here" {
                                failed.push(format!("{response:?}"));
                            }
                            if response.get("connection") == Some("close") {
                                break;
                            }
                        }
                    }
                    failed
                })
            })
            .collect();
        Self { stop, asked, threads }
    }

    /// Waits for so many more requests.
    fn more(&self, count: usize) {
        let goal = self.asked.load(Ordering::Acquire) + count;
        until("the load goes on", || (self.asked.load(Ordering::Acquire) >= goal).then_some(()));
    }

    fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Release);
        let failed = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (self.asked.load(Ordering::Acquire), failed)
    }
}

#[test]
fn routes_and_endpoints_change_under_load_without_a_failed_request() {
    let services: Vec<_> = (0..4).map(|_| Upstream::answering(|_| ok("here"))).collect();
    let turn = |n: usize| {
        let named: Vec<(String, &Upstream)> = (0..4)
            .filter(|at| at % 4 != n % 4)
            .map(|at| (format!("s{at}"), &services[at]))
            .collect();
        let named: Vec<(&str, &Upstream)> =
            named.iter().map(|(name, service)| (name.as_str(), *service)).collect();
        let routes: String = (0..n % 7)
            .map(|at| format!("  - {{ name: r{at}, match: /other{at}, to: s{} }}\n", (n + 1) % 4))
            .collect();
        let to = (n + 1 + n % 3) % 4;
        config("", &named, &format!("{routes}  - {{ name: x, match: /x, to: s{to} }}\n"))
    };
    let weft = Weft::start(BIN, &turn(0));
    let load = Load::start(&weft, 4);
    for n in 1..=40 {
        weft.reload(&turn(n)).unwrap();
        load.more(10);
    }
    let (asked, failed) = load.end();
    assert!(asked >= 400, "{asked}");
    assert!(failed.is_empty(), "{} of {asked} failed: {:?}", failed.len(), failed.first());
}

#[test]
fn what_a_listener_speaks_changes_under_load_without_a_refused_connection() {
    let service = Upstream::answering(|_| ok("here"));
    let turn = |n: usize| {
        let mode = if n.is_multiple_of(2) {
            ""
        } else {
            ", proxy_protocol: { mode: accept, from: 10.0.0.0/8 }"
        };
        config(mode, &[("s", &service)], "  - { name: x, match: /x, to: s }\n")
    };
    let weft = Weft::start(BIN, &turn(0));
    let load = Load::start(&weft, 3);
    for n in 1..=20 {
        weft.reload(&turn(n)).unwrap();
        load.more(6);
    }
    let (asked, failed) = load.end();
    assert!(failed.is_empty(), "{} of {asked} failed: {:?}", failed.len(), failed.first());
}

#[test]
fn a_request_under_way_ends_on_the_configuration_it_began_with() {
    let (open, gate) = std::sync::mpsc::sync_channel::<()>(1);
    let gate = std::sync::Mutex::new(gate);
    let slow = Upstream::answering(move |_| {
        let _ = gate.lock().unwrap().recv_timeout(weft_testkit::PATIENCE);
        ok("old")
    });
    let new = Upstream::saying("new");
    let weft = Weft::start(BIN, &config("", &[("slow", &slow)], "  - { name: x, to: slow }\n"));
    let mut conn = weft.connect("web");
    conn.send("GET /x HTTP/1.1\r\nhost: t\r\n\r\n");
    until("the old service is asked", || (slow.connections() > 0).then_some(()));
    weft.reload(&config("", &[("new", &new)], "  - { name: x, to: new }\n")).unwrap();
    assert_eq!(weft.get("/x", "").text(), "new");
    open.send(()).unwrap();
    assert_eq!(conn.response().text(), "old");
    assert_eq!(conn.ask("GET /x HTTP/1.1\r\nhost: t\r\n\r\n").text(), "new");
}

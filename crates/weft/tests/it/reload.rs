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

#[test]
fn an_address_goes_from_one_listener_to_another() {
    let one = Upstream::saying("here");
    let base = config("", &[("one", &one)], "  - { name: one, match: /x, to: one }\n");
    let two = |listeners: &str| base.replace("web: { address: '@web' }", listeners);
    let weft = Weft::start(BIN, &two("web: { address: '@web' }, b: { address: '@b' }"));
    let (web, b) = (weft.address("web"), weft.address("b"));
    let turn = |listeners: &str| {
        weft.reload(&two(listeners)).unwrap_or_else(|why| panic!("{listeners}: {why}"));
        for address in [web, b] {
            let response = Conn::to(address).ask("GET /x HTTP/1.1\r\nhost: t\r\n\r\n");
            assert_eq!(response.text(), "here", "{listeners} {address}");
        }
    };
    for listeners in [
        "other: { address: '@web' }, b: { address: '@b' }",
        "other: { address: '@b' }, b: { address: '@web' }",
        "both: { address: ['@b', '@web'] }",
    ] {
        turn(listeners);
    }
    turn(&format!("wide: {{ address: '0.0.0.0:{}' }}, b: {{ address: '@b' }}", web.port()));
    turn("web: { address: '@web' }, b: { address: '@b' }");
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

/// What the admin API tells.
fn told(weft: &Weft, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    weft.connect("admin").ask(request).text().to_owned()
}

fn with_admin(config: &str) -> String {
    config.replace("admin: off", "admin: { listen: '@admin' }")
}

#[test]
fn a_service_that_is_gone_serves_what_began_before_to_its_end() {
    let (open, gate) = std::sync::mpsc::sync_channel::<()>(1);
    let (gate, asked) = (std::sync::Mutex::new(gate), AtomicUsize::new(0));
    let slow = Upstream::answering(move |_| {
        if asked.fetch_add(1, Ordering::AcqRel) > 0 {
            return ok("second try");
        }
        let _ = gate.lock().unwrap().recv_timeout(weft_testkit::PATIENCE);
        weft_testkit::upstream::status(503)
    });
    let new = Upstream::saying("new");
    let one = |name: &str, service: &Upstream| {
        let routes = format!("  - {{ name: x, to: {name} }}\n");
        with_admin(&config("", &[(name, service)], &routes))
    };
    let weft = Weft::start(BIN, &one("slow", &slow));
    let mut idle = weft.connect("web");
    let mut conn = weft.connect("web");
    conn.send("GET /x HTTP/1.1\r\nhost: t\r\n\r\n");
    until("the service is asked", || (slow.connections() > 0).then_some(()));
    // A service that comes and goes meanwhile shows when one that nobody asks is let go of, and a
    // connection that is kept does not hold it back.
    weft.reload(&one("passing", &new)).unwrap();
    assert_eq!(idle.ask("GET /x HTTP/1.1\r\nhost: t\r\n\r\n").text(), "new");
    weft.reload(&one("last", &new)).unwrap();
    let names = || told(&weft, "/v1/services");
    until("the passing service is let go of", || (!names().contains("passing")).then_some(()));
    assert!(names().contains("slow"), "{}", names());
    open.send(()).unwrap();
    assert_eq!(conn.response().text(), "second try");
    until("the slow service is let go of", || (!names().contains("slow")).then_some(()));
    assert_eq!(conn.ask("GET /x HTTP/1.1\r\nhost: t\r\n\r\n").text(), "new");
}

#[test]
fn a_reload_that_is_refused_late_has_changed_nothing() {
    let (one, two) = (Upstream::saying("one"), Upstream::saying("two"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let weft = Weft::start(BIN, &config("", &[("s", &one)], "  - { name: x, to: s }\n"));
    assert_eq!(weft.get("/", "").text(), "one");
    let listener = format!(" }}, more: {{ address: '{}'", taken.local_addr().unwrap());
    let other = config(&listener, &[("s", &two)], "  - { name: x, to: s }\n");
    let why = weft.reload(&other).expect_err("the address is taken");
    assert!(why.contains("listener more"), "{why}");
    for _ in 0..4 {
        assert_eq!(weft.get("/", "").text(), "one");
    }
    drop(taken);
    weft.reload(&config("", &[("s", &two)], "  - { name: x, to: s }\n")).unwrap();
    assert_eq!(weft.get("/", "").text(), "two");
}

#[test]
fn what_takes_a_restart_is_said() {
    let one = Upstream::saying("one");
    let before = with_admin(&config("", &[("one", &one)], "  - { name: x, to: one }\n"));
    let weft = Weft::start(BIN, &before);
    assert!(told(&weft, "/v1/status").contains("\"restart\":[]"));
    let after = before.replace("access_log: errors", "access_log: off, tracing: { sample: 50% }");
    weft.reload(&after).unwrap();
    weft.wait_line("telemetry.access_log has changed");
    let status = told(&weft, "/v1/status");
    let expect = "\"restart\":[\"telemetry.access_log\",\"telemetry.tracing\"]";
    assert!(status.contains(expect), "{status}");
    weft.reload(&before).unwrap();
    assert!(told(&weft, "/v1/status").contains("\"restart\":[]"));
}

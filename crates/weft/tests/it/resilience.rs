//! Retries, breakers, bulkheads, hedges and their like, end to end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use weft_testkit::{
    HttpMessage, Upstream, Weft,
    upstream::{ok, status},
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// A node from its services and its routes.
fn node(services: &str, routes: &str) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: off
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
services:
{services}
routes:
{routes}
"
        ),
    )
}

fn post(weft: &Weft, path: &str) -> HttpMessage {
    weft.ask(format!("POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\nhi"))
}

#[test]
fn an_endpoint_that_refuses_connections_is_passed_over_for_any_method() {
    let (good, dead) = (Upstream::saying("good"), Upstream::nowhere());
    let weft = node(
        &format!(
            "  it: {{ endpoints: ['{}', '{}'], balancer: round_robin, ejection: off }}",
            dead.address(),
            good.address()
        ),
        "  - { name: all, to: it }",
    );
    for turn in 0..6 {
        assert_eq!(weft.get("/", "").text(), "good", "GET {turn}");
        assert_eq!(post(&weft, "/").text(), "good", "nothing was sent, so POST {turn} is safe too");
    }
}

#[test]
fn a_503_is_tried_again_but_never_for_post() {
    let bad = Upstream::answering(|_| status(503));
    let weft = node(
        &format!("  it: {{ endpoints: '{}', ejection: off }}", bad.address()),
        "  - { name: all, to: it, retry: { retries: 2, backoff: { base: 1ms, max: 2ms } } }",
    );
    assert_eq!(weft.get("/get", "").status(), 503, "the service's last word is passed on");
    let seen = bad.seen();
    assert_eq!(seen.len(), 3, "one try and two more");
    assert_eq!(post(&weft, "/post").status(), 503);
    let posts = bad.seen().iter().filter(|seen| seen.method() == "POST").count();
    assert_eq!(posts, 1, "POST is sent once");
    let with_key = weft
        .ask("POST /key HTTP/1.1\r\nhost: t\r\nidempotency-key: k\r\ncontent-length: 2\r\n\r\nhi");
    assert_eq!(with_key.status(), 503);
    let keyed: Vec<_> = bad.seen().into_iter().filter(|seen| seen.target() == "/key").collect();
    assert_eq!(keyed.len(), 3, "an idempotency key makes it safe");
    assert!(keyed.iter().all(|seen| seen.text() == "hi"), "the body is sent again whole");
    assert!(weft.wait_line("/get").contains("\"attempts\":3"));
}

#[test]
fn a_retry_that_succeeds_is_all_that_the_client_sees() {
    let turns = AtomicUsize::new(0);
    let flaky = Upstream::answering(move |request| match turns.fetch_add(1, Ordering::Relaxed) {
        0 => status(502),
        1 => String::new(),
        _ => ok(request.get("x-request-attempt").unwrap_or("none")),
    });
    let weft = node(
        &format!("  it: {{ endpoints: '{}', ejection: off }}", flaky.address()),
        "  - { name: all, to: it, retry: { retries: 3, backoff: { base: 1ms } } }",
    );
    let response = weft.get("/", "");
    // That a kept connection turned out to be closed is no try of its own.
    assert_eq!((response.status(), response.text()), (200, "2".to_owned()));
    assert_eq!(flaky.seen().len(), 3);
}

#[test]
fn the_retry_budget_holds() {
    let bad = Upstream::answering(|_| status(503));
    let weft = node(
        &format!(
            "  it: {{ endpoints: '{}', ejection: off, concurrency: off,
        retry_budget: {{ ratio: 10%, per_second: 0 }} }}",
            bad.address()
        ),
        "  - { name: all, to: it, retry: { retries: 3, backoff: { base: 1ms } } }",
    );
    let mut conn = weft.connect("web");
    for _ in 0..100 {
        conn.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n");
    }
    let tries = bad.seen().len();
    assert!((101..=115).contains(&tries), "{tries} tries of 100 requests at 10 %");
}

#[test]
fn an_open_breaker_refuses_and_says_when_to_come_again() {
    let bad = Upstream::answering(|_| status(500));
    let weft = node(
        &format!(
            "  it:
    endpoints: '{}'
    ejection: off
    breaker: {{ calls: 10, calls_min: 10, open: 20s }}",
            bad.address()
        ),
        "  - { name: all, to: it, retry: off }",
    );
    let statuses: Vec<_> = (0..20).map(|_| weft.get("/", "").status()).collect();
    assert_eq!(statuses[..10], [500; 10]);
    assert_eq!(statuses[10..], [503; 10]);
    assert_eq!(bad.seen().len(), 10, "the service is left alone");
    let refused = weft.get("/", "");
    let after: u64 = refused.get("retry-after").unwrap().parse().unwrap();
    assert!((15..=20).contains(&after), "{after}");
    assert!(refused.get("proxy-status").unwrap().contains("destination_unavailable"));
    assert_eq!(refused.get("content-type"), Some("application/problem+json"));
}

#[test]
fn an_endpoint_that_fails_is_put_out_and_comes_back() {
    let well = Arc::new(AtomicBool::new(false));
    let heals = well.clone();
    let sick =
        Upstream::answering(
            move |_| {
                if heals.load(Ordering::Acquire) { ok("healed") } else { status(500) }
            },
        );
    let good = Upstream::saying("good");
    let weft = node(
        &format!(
            "  it:
    endpoints: ['{}', '{}']
    balancer: round_robin
    ejection: {{ consecutive: 3, base: 300ms, jitter: 0 }}",
            sick.address(),
            good.address()
        ),
        "  - { name: all, to: it, retry: off }",
    );
    let statuses: Vec<_> = (0..10).map(|_| weft.get("/", "").status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 3, "{statuses:?}");
    weft.wait_line("endpoint ejected");
    well.store(true, Ordering::Release);
    weft_testkit::until("the healed endpoint is asked again", || {
        let response = weft.get("/", "");
        assert_eq!(response.status(), 200);
        (response.text() == "healed").then_some(())
    });
}

#[test]
fn a_full_bulkhead_refuses_at_once_and_others_pass() {
    let (open, gate) = std::sync::mpsc::sync_channel::<()>(8);
    let gate = std::sync::Mutex::new(gate);
    let slow = Upstream::answering(move |_| {
        let _ = gate.lock().unwrap().recv_timeout(weft_testkit::PATIENCE);
        ok("slow")
    });
    let good = Upstream::saying("good");
    let weft = node(
        &format!(
            "  slow: {{ endpoints: '{}', bulkhead: {{ in_flight_max: 2, queue_max: 0 }} }}
  good: {{ endpoints: '{}' }}",
            slow.address(),
            good.address()
        ),
        "  - { name: slow, match: /slow, to: slow }
  - { name: good, match: /good, to: good }",
    );
    let mut waiting: Vec<_> = (0..2).map(|_| weft.connect("web")).collect();
    for conn in &mut waiting {
        conn.send("GET /slow HTTP/1.1\r\nhost: t\r\n\r\n");
    }
    weft_testkit::until("both are in flight", || (slow.connections() == 2).then_some(()));
    let refused = weft.get("/slow", "");
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.get("retry-after"), Some("1"));
    assert!(weft.wait_line("bulkhead_full").contains("/slow"));
    assert_eq!(weft.get("/good", "").text(), "good");
    for _ in 0..3 {
        open.send(()).unwrap();
    }
    for conn in &mut waiting {
        assert_eq!(conn.response().text(), "slow");
    }
    assert_eq!(weft.get("/slow", "").text(), "slow", "the places are free again");
}

#[test]
fn injected_faults_fall_where_they_are_asked_for() {
    let good = Upstream::saying("good");
    let weft = node(
        &format!("  it: {{ endpoints: '{}' }}", good.address()),
        "  - name: all
    to: it
    fault:
      abort: { status: 418, header: { x-abort: '1' } }
      delay: { for: 300ms, header: { x-delay: '1' } }",
    );
    assert_eq!(weft.get("/", "").status(), 200);
    let aborted = weft.get("/", "x-abort: 1\r\n");
    assert_eq!(aborted.status(), 418);
    assert!(aborted.text().contains("\"status\":418"), "{}", aborted.text());
    assert!(weft.wait_line("fault_injected").contains("418"));
    let began = Instant::now();
    assert_eq!(weft.get("/", "x-delay: 1\r\n").status(), 200);
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(good.seen().len(), 2);
}

#[test]
fn fallbacks_answer_when_the_target_cannot() {
    let dead = Upstream::nowhere();
    let bad = Upstream::answering(|_| status(500));
    let spare = Upstream::saying("spare");
    let weft = node(
        &format!(
            "  dead: {{ endpoints: '{}', ejection: off }}
  bad: {{ endpoints: '{}', ejection: off }}
  spare: {{ endpoints: '{}' }}",
            dead.address(),
            bad.address(),
            spare.address()
        ),
        "  - { name: dead, match: /dead, to: dead, fallback: { to: spare } }
  - { name: said, match: /said, to: dead, fallback: { respond: { status: 200, body: sorry } } }
  - { name: bad, match: /bad, to: bad, fallback: { to: spare, statuses: [5xx] } }
  - { name: plain, match: /plain, to: bad, fallback: { to: spare } }",
    );
    assert_eq!(weft.get("/dead", "").text(), "spare");
    assert_eq!(weft.get("/said", "").text(), "sorry");
    assert_eq!(weft.get("/bad", "").text(), "spare");
    assert_eq!(weft.get("/plain", "").status(), 500, "a status that was not named is an answer");
}

#[test]
fn deadlines_are_kept_and_passed_on() {
    let service = Upstream::raw(|mut conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/quick" {
                conn.send(ok(request.get("x-request-timeout-ms").unwrap_or("none")));
            } else {
                conn.is_closed();
            }
        }
    });
    let weft = node(
        &format!("  it: {{ endpoints: '{}', ejection: off }}", service.address()),
        "  - { name: all, to: it, timeout: 5s }
  - { name: short, match: /short, to: it, timeout: 300ms }
  - { name: tries, match: /tries, to: it, timeout: { request: 5s, per_try: 100ms },
      retry: { retries: 1, on: [try-timeout], backoff: { base: 1ms } } }",
    );
    let left: u64 = weft.get("/quick", "").text().parse().unwrap();
    assert!((4000..=5000).contains(&left), "{left} ms are left");
    let left: u64 = weft.get("/quick", "x-request-timeout-ms: 700\r\n").text().parse().unwrap();
    assert!(left <= 700, "{left} ms are left of the caller's own");
    let began = Instant::now();
    let late = weft.get("/short", "");
    assert_eq!(late.status(), 504);
    assert!(late.get("proxy-status").unwrap().contains("http_response_timeout"));
    let took = began.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert_eq!(weft.get("/tries", "").status(), 504);
    assert!(weft.wait_line("try_timeout").contains("\"attempts\":2"));
}

#[test]
fn a_request_with_a_small_body_is_hedged_once_the_body_is_here() {
    let slow = Upstream::raw(|mut conn| {
        conn.request();
        conn.is_closed();
    });
    let fast = Upstream::answering(|request| ok(&request.text()));
    let weft = node(
        &format!(
            "  it: {{ endpoints: ['{}', '{}'], balancer: round_robin, ejection: off }}",
            slow.address(),
            fast.address()
        ),
        "  - { name: all, to: it, retry: off, hedge: { delay: 50ms, budget: 100% }, timeout: 10s }",
    );
    for turn in 0..8 {
        // At once, and in two pieces of which the second comes later than a hedge is due.
        for pause in [0, 120] {
            let began = Instant::now();
            let mut conn = weft.connect("web");
            conn.send("PUT / HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\nab");
            std::thread::sleep(Duration::from_millis(pause));
            conn.send("cd");
            assert_eq!(conn.response().text(), "abcd", "{turn} {pause}");
            assert!(began.elapsed() < Duration::from_secs(5), "{turn} {pause}");
        }
    }
    assert!(slow.connections() > 0, "some began at the slow one");
}

#[test]
fn a_slow_try_is_hedged_and_the_faster_one_counts() {
    let stuck = Arc::new(AtomicBool::new(false));
    let sticks = stuck.clone();
    let slow = Upstream::raw(move |mut conn| {
        while conn.request().is_some() {
            if sticks.load(Ordering::Acquire) {
                conn.is_closed();
            }
            conn.send(ok("fast"));
        }
    });
    let fast = Upstream::saying("fast");
    let weft = node(
        &format!(
            "  it: {{ endpoints: ['{}', '{}'], balancer: round_robin, ejection: off }}",
            slow.address(),
            fast.address()
        ),
        "  - { name: all, to: it, hedge: { delay: 50ms, budget: 1 }, timeout: 10s }",
    );
    // The budget is a share of the requests that were answered.
    for _ in 0..20 {
        assert_eq!(weft.get("/", "").text(), "fast");
    }
    stuck.store(true, Ordering::Release);
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let began = Instant::now();
        assert_eq!(weft.get("/", "").text(), "fast");
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest >= Duration::from_millis(50), "some began at the slow one: {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "none waited for it: {slowest:?}");
}

/// Whether a service answers; while it does not, nobody listens at its address.
struct Restarted {
    address: std::net::SocketAddr,
    running: Option<std::thread::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Restarted {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut it = Self { address, running: None, stop: Arc::default() };
        it.start();
        it
    }

    fn start(&mut self) {
        let listener = std::net::TcpListener::bind(self.address).unwrap();
        let stop = Arc::<AtomicBool>::default();
        self.stop = stop.clone();
        self.running = Some(std::thread::spawn(move || {
            let mut serving = Vec::new();
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let mut conn = weft_testkit::Conn::of(stream.try_clone().unwrap());
                let stop = stop.clone();
                let served = std::thread::spawn(move || {
                    while let Some(_request) = conn.request().filter(|request| request.complete) {
                        if stop.load(Ordering::Relaxed) || !conn.send(ok("up")) {
                            break;
                        }
                    }
                });
                serving.push((stream, served));
            }
            drop(listener);
            for (stream, served) in serving {
                let _ = stream.shutdown(std::net::Shutdown::Both);
                served.join().unwrap();
            }
        }));
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect(self.address);
        if let Some(running) = self.running.take() {
            running.join().unwrap();
        }
    }
}

impl Drop for Restarted {
    fn drop(&mut self) {
        self.end();
    }
}

/// Restarts two endpoints while 2,000 GETs are sent; says how many were not answered with 200.
fn lost_while_restarting(steps: &[(u64, usize, bool)], pace: Duration) -> Vec<u16> {
    let mut ends = [Restarted::new(), Restarted::new()];
    let weft = node(
        &format!("  it: {{ endpoints: ['{}', '{}'] }}", ends[0].address, ends[1].address),
        "  - { name: all, to: it }",
    );
    let weft = &weft;
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let mut conn = weft.connect("web");
                    let mut bad = Vec::new();
                    for _ in 0..500 {
                        let status = conn.ask("GET / HTTP/1.1\r\nhost: t\r\n\r\n").status();
                        bad.extend((status != 200).then_some(status));
                        std::thread::sleep(pace);
                    }
                    bad
                })
            })
            .collect();
        let began = Instant::now();
        for (at, which, up) in steps {
            std::thread::sleep(Duration::from_millis(*at).saturating_sub(began.elapsed()));
            if *up { ends[*which].start() } else { ends[*which].end() }
        }
        asking.into_iter().flat_map(|asked| asked.join().unwrap()).collect()
    })
}

#[test]
fn two_endpoints_that_are_restarted_in_turn_lose_no_request() {
    let steps = [(300, 0, false), (1300, 0, true), (1800, 1, false), (2800, 1, true)];
    let lost = lost_while_restarting(&steps, Duration::from_millis(6));
    assert!(lost.is_empty(), "{} of 2,000: {lost:?}", lost.len());
}

#[test]
fn two_endpoints_whose_restarts_overlap_lose_no_request() {
    let steps = [(300, 0, false), (800, 1, false), (1300, 0, true), (1800, 1, true)];
    let lost = lost_while_restarting(&steps, Duration::from_millis(6));
    assert!(lost.is_empty(), "{} of 2,000: {lost:?}", lost.len());
}

#[test]
fn an_endpoint_that_was_ejected_is_tried_before_a_failure_is_answered() {
    let failing = Arc::new(AtomicBool::new(true));
    let turned = failing.clone();
    let first =
        Upstream::answering(
            move |_| {
                if turned.load(Ordering::Relaxed) { status(500) } else { ok("back") }
            },
        );
    let second = Upstream::nowhere();
    let weft = node(
        &format!(
            "  it: {{ endpoints: ['{}', '{}'], balancer: round_robin, ejection: {{ base: 60s }} }}",
            first.address(),
            second.address()
        ),
        "  - { name: all, to: it }",
    );
    for _ in 0..20 {
        weft.get("/", "");
    }
    failing.store(false, Ordering::Relaxed);
    let began = Instant::now();
    for turn in 0..10 {
        assert_eq!(weft.get("/", "").text(), "back", "{turn}");
    }
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_endpoint_that_cannot_be_connected_to_is_not_asked_by_everybody() {
    let (good, dead) = (Upstream::saying("good"), Upstream::nowhere());
    let weft = Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: ['{}', '{}'], balancer: round_robin, retry_budget: {{ ratio: 0%, per_second: 0 }} }} }}
routes: [{{ name: all, to: it }}]
",
            dead.address(),
            good.address()
        ),
    );
    for _ in 0..100 {
        assert_eq!(weft.get("/", "").text(), "good");
    }
    let failures = weft.metric("weft_service_connect_failures_total", &[]);
    assert!((1.0..20.0).contains(&failures), "{failures}");
}

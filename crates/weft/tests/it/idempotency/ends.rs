//! How a request may end otherwise than with an answer that is kept: crashes, clients that leave, services that
//! fail, answers that are too long or a stream.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use weft_testkit::{
    Upstream, Weft,
    http2::{self, Client, Service},
    until,
    upstream::{ok, status},
};

use super::{BIN, Gate, config, counting, gated, keyed, reason, wait_count};

/// Waits until Weft has no connection of a client any more.
fn wait_gone(node: &Weft) {
    until("the client is gone", || {
        let open = node.metric("weft_listener_connections_active", &["listener=\"web\""]);
        (open < 1.0).then_some(())
    });
}

#[test]
fn an_answer_outlives_a_crash() {
    let (service, count) = counting();
    let yaml = config(&service, "on");
    let mut node = Weft::start(BIN, &yaml);
    let first = node.ask(keyed("/pay/a", "k", "5"));
    node.kill();
    node.wait();
    let node = node.successor();
    let again = node.ask(keyed("/pay/a", "k", "5"));
    assert_eq!((again.status(), again.text()), (201, first.text()));
    assert_eq!(again.get("idempotent-replayed"), Some("true"));
    assert_eq!(reason(&node.ask(keyed("/pay/a", "k", "6"))), "idempotency_key_reused");
    assert_eq!(count.load(Ordering::Acquire), 1);
    assert_eq!(node.metric("weft_idempotency_keys", &[]) as i64, 1);
}

#[test]
fn after_a_crash_in_the_middle_nobody_takes_it_for_new() {
    let (service, gate, count) = gated();
    let yaml = config(&service, "on");
    let mut node = Weft::start(BIN, &yaml);
    let mut first = node.connect("web");
    first.send(keyed("/pay/a", "k", "5"));
    wait_count(&count, 1);
    node.kill();
    node.wait();
    gate.open();
    let mut node = node.again(&yaml);
    for _ in 0..2 {
        let answer = node.ask(keyed("/pay/a", "k", "5"));
        assert_eq!((answer.status(), &*reason(&answer)), (409, "idempotency_unknown"));
    }
    assert_eq!(reason(&node.ask(keyed("/pay/a", "k", "6"))), "idempotency_key_reused");
    let path = "/v1/idempotency-keys/pay:-:k";
    let ask = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let shown = node.connect("admin").ask(ask).text();
    assert!(shown.contains("\"state\":\"unknown\""), "{shown}");
    assert_eq!(count.load(Ordering::Acquire), 1);
    // A route may say that it is to run again; then it has an answer.
    node.kill();
    node.wait();
    let node =
        node.again(&yaml.replace("idempotency: on", "idempotency: { when_unknown: run_again }"));
    let ran = node.ask(keyed("/pay/a", "k", "5"));
    assert_eq!((&*ran.text(), ran.get("idempotent-replayed")), ("done", None));
    let again = node.ask(keyed("/pay/a", "k", "5"));
    assert_eq!((&*again.text(), again.get("idempotent-replayed")), ("done", Some("true")));
    assert_eq!(count.load(Ordering::Acquire), 2);
}

#[test]
fn a_client_that_leaves_takes_nothing_back() {
    let (service, gate, count) = gated();
    let node = Weft::start(BIN, &config(&service, "on"));
    let mut first = node.connect("web");
    first.send(keyed("/pay/a", "k", "5"));
    wait_count(&count, 1);
    first.reset();
    wait_gone(&node);
    assert_eq!(reason(&node.ask(keyed("/pay/a", "k", "5"))), "idempotency_running");
    gate.open();
    let again = until("the answer is kept", || {
        let answer = node.ask(keyed("/pay/a", "k", "5"));
        (answer.status() == 200).then_some(answer)
    });
    assert_eq!((&*again.text(), again.get("idempotent-replayed")), ("done", Some("true")));
    assert_eq!(count.load(Ordering::Acquire), 1);
}

#[test]
fn a_client_that_leaves_within_the_answer_is_given_all_of_it_later() {
    let (gate, count) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (waits, counter) = (gate.clone(), count.clone());
    let service = Upstream::raw(move |mut conn| {
        while conn.request().is_some() {
            counter.fetch_add(1, Ordering::AcqRel);
            conn.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
            waits.wait();
            conn.send("6\r\n world\r\n0\r\nx-sum: 11\r\n\r\n");
        }
    });
    let node = Weft::start(BIN, &config(&service, "on"));
    let mut first = node.connect("web");
    first.send(keyed("/pay/a", "k", "5"));
    assert_eq!(first.head().map(|head| head.status()), Some(200));
    first.reset();
    node.wait_line("caller_gone");
    gate.open();
    let again = until("the answer is kept", || {
        let answer = node.ask(keyed("/pay/a", "k", "5"));
        (answer.status() == 200).then_some(answer)
    });
    assert_eq!((&*again.text(), again.trailer("x-sum")), ("hello world", Some("11")));
    assert_eq!(count.load(Ordering::Acquire), 1);
}

#[test]
fn failures_are_not_kept_unless_that_is_said() {
    let answers = Arc::new(AtomicUsize::new(0));
    let counter = answers.clone();
    let service = Upstream::answering(move |_| match counter.fetch_add(1, Ordering::AcqRel) {
        0 => status(500),
        1 => status(429),
        2 => status(404),
        _ => ok("done"),
    });
    let node = Weft::start(BIN, &config(&service, "on"));
    let ask = || node.ask(keyed("/pay/a", "k", "5")).status();
    assert_eq!([ask(), ask(), ask(), ask()], [500, 429, 404, 404]);
    assert_eq!(answers.load(Ordering::Acquire), 3);
    answers.store(0, Ordering::Release);
    let node = Weft::start(BIN, &config(&service, "{ keep_failures: true }"));
    let ask = || node.ask(keyed("/pay/a", "k", "5")).status();
    assert_eq!([ask(), ask()], [500, 500]);
    assert_eq!(answers.load(Ordering::Acquire), 1);
}

#[test]
fn what_has_reached_nobody_is_tried_again_and_what_may_have_is_not() {
    let port = Upstream::nowhere();
    let closes = Upstream::answering(|_| "");
    let away = format!("services: {{ away: {{ endpoints: '{}' }}, ", port.address());
    let routes = "routes:
  - { name: away, match: '/away', to: away, idempotency: on }
  - { name: twice, match: '/twice', to: s, idempotency: { service_deduplicates: true }, retry: { retries: 2 } }
";
    let yaml = config(&closes, "on")
        .replacen("services: {", &away, 1)
        .replacen("routes:\n", routes, 1)
        .replacen("policies: once\n", "policies: once\n    retry: { retries: 2 }\n", 1);
    let node = Weft::start(BIN, &yaml);
    for _ in 0..2 {
        let answer = node.ask(keyed("/away", "k", "5"));
        assert_eq!((answer.status(), &*reason(&answer)), (502, "connect_refused"));
    }
    // A connection that closes after the request was sent says nothing of what the service has done.
    let first = node.ask(keyed("/pay/a", "k", "5"));
    assert_eq!((first.status(), &*reason(&first)), (502, "upstream_closed"));
    assert_eq!(closes.seen().len(), 1, "a keyed request is sent once alone");
    let again = node.ask(keyed("/pay/a", "k", "5"));
    assert_eq!((again.status(), &*reason(&again)), (409, "idempotency_unknown"));
    assert_eq!(closes.seen().len(), 1);
    // A service that knows keys may be asked again.
    assert_eq!(node.ask(keyed("/twice", "k", "5")).status(), 502);
    assert_eq!(closes.seen().len(), 4);
}

#[test]
fn what_is_too_long_or_a_stream_is_passed_on_and_told_the_next_time() {
    let service = Upstream::answering(|request| {
        match request.target() {
        "/pay/long" => ok(&"x".repeat(300_000)),
        "/pay/chunked" => {
            let piece = "x".repeat(65_536);
            let chunk = format!("10000\r\n{piece}\r\n");
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(5))
        }
        _ => "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n".to_owned(),
    }
    });
    let node = Weft::start(BIN, &config(&service, "on"));
    for (path, length) in [("/pay/long", 300_000), ("/pay/chunked", 327_680), ("/pay/events", 9)] {
        let key = path.replace('/', "-");
        let first = node.ask(keyed(path, &key, "5"));
        assert_eq!((first.status(), first.text().len()), (200, length), "{path}");
        let again = node.ask(keyed(path, &key, "5"));
        assert_eq!((again.status(), &*reason(&again)), (409, "idempotency_not_kept"), "{path}");
        assert!(again.text().contains("answered with 200"), "{}", again.text());
    }
    assert_eq!(service.seen().len(), 3);
}

#[test]
fn hints_of_the_service_reach_the_client() {
    let service = Upstream::answering(|_| {
        format!("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n{}", ok("done"))
    });
    let node = Weft::start(BIN, &config(&service, "on"));
    let mut conn = node.connect("web");
    conn.send(keyed("/pay/a", "k", "5"));
    let hints = conn.head().unwrap();
    assert_eq!((hints.status(), hints.get("link")), (103, Some("</a.css>")));
    assert_eq!(conn.response().text(), "done");
}

#[test]
fn an_answer_is_there_although_its_first_client_does_not_read_it() {
    let answer = "x".repeat(200_000);
    let body = answer.clone();
    let asked = Arc::new(AtomicBool::new(false));
    let is_asked = asked.clone();
    let service = Service::new(move |request, mut respond| {
        let body = body.clone();
        is_asked.store(true, Ordering::Relaxed);
        async move {
            http2::gather(request.into_body()).await?;
            let mut out = respond.send_response(http::Response::new(()), false)?;
            http2::send_all(&mut out, body.into(), None).await
        }
    });
    let unasked = Upstream::saying("unasked");
    let yaml = config(&unasked, "on").replacen(
        "services: { s: ",
        &format!(
            "services: {{ two: {{ endpoints: '{}', protocol: http2 }}, s: ",
            service.address()
        ),
        1,
    );
    let node = Weft::start(BIN, &yaml.replacen("    to: s\n", "    to: two\n", 1));
    http2::run(async {
        let client = Client::to(node.address("web")).await;
        let request = || http2::request("POST", "/pay/a").header("idempotency-key", "k");
        // Its window is full after 64 KiB, and nobody opens it.
        let silent = client.open(request().body(()).unwrap()).await.unwrap();
        while !asked.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let other = Client::to(node.address("web")).await;
        let again = loop {
            let again = other.ask(request().body(Vec::new()).unwrap()).await.unwrap();
            if again.status != 409 {
                break again;
            }
        };
        assert_eq!((again.status, again.get("idempotent-replayed")), (200, "true"));
        assert_eq!(again.text(), answer);
        drop(silent);
    });
}

#[test]
fn a_drain_waits_for_a_request_whose_client_has_left() {
    let (service, gate, count) = gated();
    let yaml = config(&service, "on");
    let mut node = Weft::start(BIN, &yaml);
    let mut first = node.connect("web");
    first.send(keyed("/pay/a", "k", "5"));
    wait_count(&count, 1);
    first.reset();
    wait_gone(&node);
    node.terminate();
    node.wait_line("draining");
    gate.open();
    assert!(node.wait().success());
    let node = node.successor();
    let again = node.ask(keyed("/pay/a", "k", "5"));
    assert_eq!((&*again.text(), again.get("idempotent-replayed")), ("done", Some("true")));
    assert_eq!(count.load(Ordering::Acquire), 1);
}

#[test]
fn a_key_is_forgotten_when_its_time_is_over() {
    let (service, count) = counting();
    let node = Weft::start(BIN, &config(&service, "{ keep: 1s }"));
    assert_eq!(node.ask(keyed("/pay/a", "k", "5")).text(), "charge 1\n");
    until("it is carried out again", || {
        (node.ask(keyed("/pay/a", "k", "5")).text() == "charge 2\n").then_some(())
    });
    assert_eq!(count.load(Ordering::Acquire), 2);
}

//! Many at once with one key, by both versions and on all workers.

use std::{sync::atomic::Ordering, thread};

use weft_testkit::{
    Upstream, Weft, grpc,
    http2::{self, Client, Service},
};

use super::{BIN, config, gated, keyed, reason, wait_count};

/// What each of `clients` over HTTP/1.1 and as many streams over HTTP/2 is answered.
fn all_at_once(node: &Weft, clients: usize) -> Vec<(u16, String, bool)> {
    thread::scope(|scope| {
        let ones: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let answer = node.ask(keyed("/pay/a", "race", "5"));
                    let text = match answer.status() {
                        200 => answer.text(),
                        _ => reason(&answer),
                    };
                    (answer.status(), text, answer.get("idempotent-replayed").is_some())
                })
            })
            .collect();
        let mut all = http2::run(async {
            let address = node.address("web");
            let mut streams = Vec::new();
            for _ in 0..4 {
                let client = std::sync::Arc::new(Client::to(address).await);
                for _ in 0..clients / 4 {
                    let client = client.clone();
                    streams.push(http2::beside(async move {
                        let request = http2::request("POST", "/pay/a")
                            .header("idempotency-key", "\"race\"")
                            .body(b"5".to_vec())
                            .unwrap();
                        client.ask(request).await.unwrap()
                    }));
                }
            }
            let mut replies = Vec::new();
            for stream in streams {
                let reply = stream.await.unwrap();
                let replayed = reply.get("idempotent-replayed") == "true";
                let refused = reply.text().contains("urn:weft:problem:idempotency_running");
                let text = if refused { "idempotency_running".to_owned() } else { reply.text() };
                replies.push((reply.status, text, replayed));
            }
            replies
        });
        all.extend(ones.into_iter().map(|one| one.join().unwrap()));
        all
    })
}

#[test]
fn of_a_hundred_that_wait_one_reaches_the_service_and_all_have_its_answer() {
    let (service, gate, count) = gated();
    let node = Weft::start(BIN, &config(&service, "{ while_running: wait }"));
    let answers = thread::scope(|scope| {
        let asking = scope.spawn(|| all_at_once(&node, 52));
        wait_count(&count, 1);
        node.wait_metric("weft_idempotency_requests", &["waiting"], 103.0);
        gate.open();
        asking.join().unwrap()
    });
    assert_eq!(answers.len(), 104);
    assert!(
        answers.iter().all(|(status, text, _)| (*status, &**text) == (200, "done")),
        "{answers:?}"
    );
    assert_eq!(answers.iter().filter(|(.., replayed)| !replayed).count(), 1);
    assert_eq!(count.load(Ordering::Acquire), 1);
    assert_eq!(node.metric("weft_idempotency_requests", &["waiting"]) as i64, 0);
}

#[test]
fn of_a_hundred_that_do_not_wait_one_runs_and_the_others_are_told() {
    let (service, gate, count) = gated();
    let node = Weft::start(BIN, &config(&service, "on"));
    let answers = thread::scope(|scope| {
        let asking = scope.spawn(|| all_at_once(&node, 52));
        node.wait_metric(super::FACT, &["idempotency", "running"], 103.0);
        gate.open();
        asking.join().unwrap()
    });
    let ran: Vec<_> = answers.iter().filter(|(status, ..)| *status == 200).collect();
    assert_eq!(ran.len(), 1, "{answers:?}");
    let told = |one: &&(u16, String, bool)| (one.0, &*one.1) == (409, "idempotency_running");
    assert_eq!(answers.iter().filter(told).count(), 103);
    assert_eq!(count.load(Ordering::Acquire), 1);
}

#[test]
fn who_waits_is_refused_when_that_takes_too_long() {
    let (service, gate, count) = gated();
    let node = Weft::start(BIN, &config(&service, "{ while_running: wait, wait_max: 100ms }"));
    let mut first = node.connect("web");
    first.send(keyed("/pay/a", "k", ""));
    wait_count(&count, 1);
    let refused = node.ask(keyed("/pay/a", "k", ""));
    assert_eq!((refused.status(), &*reason(&refused)), (409, "idempotency_running"));
    assert_eq!(refused.get("retry-after"), Some("1"));
    gate.open();
    assert_eq!(first.response().status(), 200);
}

#[test]
fn a_call_of_grpc_is_made_once_and_answered_again_with_its_trailers() {
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = calls.clone();
    let service = Service::new(move |request, mut respond| {
        let number = counter.fetch_add(1, Ordering::AcqRel) + 1;
        async move {
            let path = request.uri().path().to_owned();
            http2::gather(request.into_body()).await?;
            let mut out = grpc::begin(&mut respond)?;
            let status = if path.ends_with("Fails") { 13 } else { 0 };
            http2::send_all(
                &mut out,
                grpc::message(number.to_string()),
                Some(grpc::status(status, "")),
            )
            .await
        }
    });
    let yaml = format!(
        "admin: {{ listen: '@admin' }}
ledger: {{ path: '@@/data', wal_file: 16MiB }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ s: {{ endpoints: '{}', protocol: http2 }} }}
routes: [{{ name: pay, match: '/*', to: s, idempotency: on }}]
",
        service.address()
    );
    let node = Weft::start(BIN, &yaml);
    http2::run(async {
        let client = Client::to(node.address("web")).await;
        let call = |path: &str, key: &str, body: &str| {
            let body = grpc::message(body).to_vec();
            grpc::call(path).header("idempotency-key", key).body(body).unwrap()
        };
        let first = client.ask(call("/p.Pay/Charge", "k", "x")).await.unwrap();
        let again = client.ask(call("/p.Pay/Charge", "k", "x")).await.unwrap();
        assert_eq!((first.trailer("grpc-status"), first.get("idempotent-replayed")), ("0", ""));
        assert_eq!((again.trailer("grpc-status"), again.get("idempotent-replayed")), ("0", "true"));
        assert_eq!(first.body, again.body);
        assert_eq!(again.get("content-type"), "application/grpc");
        let other = client.ask(call("/p.Pay/Charge", "k", "y")).await.unwrap();
        assert_eq!(other.get("grpc-status"), "3", "{other:?}");
        // A call that fails is made again.
        for number in ["2", "3"] {
            let failed = client.ask(call("/p.Pay/Fails", "f", "x")).await.unwrap();
            assert_eq!(failed.trailer("grpc-status"), "13");
            assert_eq!(grpc::messages(&failed.body), [number.as_bytes()]);
        }
    });
    assert_eq!(calls.load(Ordering::Acquire), 3);
}

#[test]
fn who_leaves_while_the_key_is_claimed_leaves_nothing_behind() {
    let service = Upstream::saying("done");
    let node = Weft::start(BIN, &config(&service, "on"));
    for number in 0..200 {
        let mut conn = node.connect("web");
        conn.send(keyed("/pay/a", &format!("k{number}"), "5"));
        conn.reset();
    }
    for number in 0..200 {
        // Carried out before or now, but never unknown, and never twice.
        let answer = weft_testkit::until("an answer", || {
            let answer = node.ask(keyed("/pay/a", &format!("k{number}"), "5"));
            (reason(&answer) != "idempotency_running").then_some(answer)
        });
        assert_eq!((answer.status(), &*answer.text()), (200, "done"), "{number}");
    }
    let keys: Vec<_> = service.seen();
    assert_eq!(keys.len(), 200);
}

//! The steps of the tour, each with what it expects of Weft.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{
    Step, edge,
    fleet::{CALM, Fleet},
    messages,
    traffic::{Tally, Traffic},
};

/// Long for a thing that happens within a second or two.
pub(super) const SOON: Duration = Duration::from_secs(15);
const STOCK: &str = "/internal/inventory/stock/tea";
pub(super) const ORDER: &str = r#"{"user_id":1,"lines":[{"sku":"tea","quantity":2}]}"#;

/// The tour.
pub(super) const TOUR: &[Step] = &[
    Step {
        what: "REST: to place an order, its service calls two others, through Weft as well",
        run: rest,
    },
    Step {
        what: "gRPC on the same port: unary and streaming, statuses as the service says",
        run: grpc,
    },
    Step { what: "Server-sent events pass as they come: Weft buffers no response", run: events },
    Step {
        what: "Load balancing: each request, not each connection, goes to the endpoint with least to do",
        run: spread,
    },
    Step {
        what: "A canary: weights on a route send a tenth of the requests to the next version",
        run: canary,
    },
    Step {
        what: "An instance is killed: what it had not answered is tried at another, and no request fails",
        run: crash,
    },
    Step {
        what: "An instance answers errors: retries hide them, then it is ejected until it is well",
        run: failing,
    },
    Step {
        what: "A service hangs: the deadline answers 504, then the breaker answers 503 at once",
        run: slow,
    },
    Step {
        what: "A saved file is in force at once; one that is wrong is refused, and the last good one stays",
        run: reload,
    },
    Step {
        what: "An order is told as a message: pushed to a service, taken by AMQP, and pulled by HTTP",
        run: messages::three,
    },
    Step {
        what: "A subscriber fails: the message waits for it, with back-off, and holds up nobody else",
        run: messages::recovers,
    },
    Step {
        what: "A message that is rejected becomes a dead letter with its reason, to be redriven",
        run: messages::redriven,
    },
    Step {
        what: "Weft itself is killed: what it had acknowledged is on the disk, and delivered after the start",
        run: messages::crash,
    },
    Step {
        what: "A door for partners: a key says who calls, and without one nobody gets in",
        run: edge::who,
    },
    Step {
        what: "A limit by consumer: who asks too often is told when to come back",
        run: edge::how_often,
    },
    Step {
        what: "An order with an idempotency key is placed once, however often it is sent",
        run: edge::once,
    },
    Step {
        what: "A quota by month, on the disk: used up, and raised by hand",
        run: edge::how_much,
    },
    Step {
        what: "People log in at an OpenID provider; the service is told who they are, and clients cannot say it",
        run: edge::login,
    },
    Step { what: "Weft tells about itself: status, services, metrics", run: report },
];

fn rest(fleet: &mut Fleet) -> Result<String> {
    let answer = fleet.client().send("POST", "/orders", ORDER)?;
    ensure!(answer.status == 201, "{}: {}", answer.status, answer.body);
    ensure!(answer.body.contains("\"total_cents\":900"), "the price is wrong: {}", answer.body);
    let place = answer.field("location").context("the answer has no Location")?.to_owned();
    let read = fleet.client().get(&place)?;
    ensure!(read.body == answer.body, "{place} reads {}", read.body);
    Ok(format!(
        "POST /orders → {} from {}; the same is at http://{}{place}",
        answer.status,
        answer.instance(),
        fleet.web()
    ))
}

fn grpc(fleet: &mut Fleet) -> Result<String> {
    let user = fleet.grpc(&["users", "GetUser", r#"{"id":1}"#])?;
    ensure!(user.contains("Ada"), "GetUser gave {user}");
    let users = fleet.grpc(&["users", "StreamUsers"])?;
    ensure!(users.lines().count() >= 5, "StreamUsers gave {users}");
    let order = fleet.grpc(&["orders", "CreateOrder", ORDER])?;
    ensure!(order.contains("\"payment\":\""), "CreateOrder gave {order}");
    let orders = fleet.grpc(&["orders", "StreamOrders"])?;
    ensure!(orders.contains(order.trim()), "the order is not in the stream");
    let refused = fleet.grpc(&["users", "GetUser", r#"{"id":999}"#]);
    let refused = refused.err().context("an unknown user was found")?.to_string();
    ensure!(refused.contains("NotFound"), "an unknown user gave {refused}");
    Ok(format!(
        "GetUser → {}; StreamUsers → {} messages; GetUser of nobody → NotFound",
        user.trim(),
        users.lines().count()
    ))
}

fn events(fleet: &mut Fleet) -> Result<String> {
    let mut events = fleet.client().events("/orders?follow=true")?;
    // The stream begins with what is known; the order of before is the sign that it is open.
    events.next()?;
    let began = Instant::now();
    let placed = fleet.client().send("POST", "/orders", ORDER)?;
    ensure!(placed.status == 201, "{}: {}", placed.status, placed.body);
    while events.next()? != placed.body.trim() {}
    let ms = began.elapsed().as_millis();
    Ok(format!("GET /orders?follow=true stays open; a new order came over it after {ms} ms"))
}

fn spread(fleet: &mut Fleet) -> Result<String> {
    let tally = count(fleet, STOCK, 90)?;
    for instance in ["inventory-1", "inventory-2", "inventory-3"] {
        ensure!(tally.of(instance) > 0, "{instance} got nothing: {}", tally.shares());
    }
    let arguments = ["users", "GetUser", r#"{"id":1}"#, "--repeat", "60", "--instances"];
    let grpc = fleet.grpc(&arguments)?;
    ensure!(grpc.lines().count() == 2, "one gRPC connection reached {grpc}");
    Ok(format!(
        "90 requests: {}; 60 gRPC calls on one connection: {}",
        tally.shares(),
        grpc.trim().replace('\n', ", ")
    ))
}

fn canary(fleet: &mut Fleet) -> Result<String> {
    let tally = count(fleet, "/stock/tea", 400)?;
    let next = tally.of("inventory-canary");
    // Five standard deviations around 40.
    ensure!((10..=70).contains(&next), "of 400 requests {next} went to the canary");
    Ok(format!("GET /stock/tea 400 times: {next} answers are from inventory-canary"))
}

fn crash(fleet: &mut Fleet) -> Result<String> {
    let traffic = Traffic::start(fleet.web(), STOCK);
    fleet.stop().wait_until(SOON, || traffic.tally().of("inventory-2") > 20)?;
    fleet.kill("inventory-2")?;
    let killed = traffic.tally();
    fleet.stop().wait_until(SOON, || traffic.tally().since(&killed).answers > 500)?;
    fleet.revive("inventory-2")?;
    let revived = traffic.tally();
    let back = fleet
        .stop()
        .wait_until(SOON, || traffic.tally().since(&revived).of("inventory-2") > 0)
        .context("the instance got no request after it was started again")?;
    let all = none_failed(traffic)?;
    Ok(format!(
        "kill -9 inventory-2, started again, asked again after {} ms; of {} requests meanwhile 0 failed",
        back.as_millis(),
        all.answers
    ))
}

fn failing(fleet: &mut Fleet) -> Result<String> {
    let traffic = Traffic::start(fleet.web(), STOCK);
    fleet.stop().wait_until(SOON, || traffic.tally().of("inventory-1") > 20)?;
    fleet.turn("inventory-1", r#"{"fail_ratio":1}"#)?;
    let broken = traffic.tally();
    fleet.stop().wait_until(SOON, || traffic.tally().since(&broken).answers > 300)?;
    let (ejected, asked) = (traffic.tally(), fleet.asked("inventory-1")?);
    fleet.stop().wait_until(SOON, || traffic.tally().since(&ejected).answers > 300)?;
    let answers = traffic.tally().since(&ejected).answers;
    let probes = fleet.asked("inventory-1")? - asked;
    // A third of them would be asked of it if nobody had noticed.
    ensure!(probes < answers / 10, "of {answers} requests {probes} still went to inventory-1");
    fleet.turn("inventory-1", CALM)?;
    let mended = traffic.tally();
    let back = fleet
        .stop()
        .wait_until(SOON, || traffic.tally().since(&mended).of("inventory-1") > 0)
        .context("the instance got no request after it was mended")?;
    let all = none_failed(traffic)?;
    Ok(format!(
        "inventory-1 answers 503: callers saw 0 of {} fail, and {probes} of {answers} requests still \
         tried it; asked again {} ms after it was well",
        all.answers,
        back.as_millis()
    ))
}

fn slow(fleet: &mut Fleet) -> Result<String> {
    let turn = |knobs: &str| {
        ["payments-1", "payments-2"].iter().try_for_each(|name| fleet.turn(name, knobs).map(drop))
    };
    turn(r#"{"latency_ms":3000}"#)?;
    let mut client = fleet.client();
    let began = Instant::now();
    let late = client.send("POST", "/orders", ORDER)?;
    let took = began.elapsed();
    ensure!(late.status == 504, "a slow payment gave {}: {}", late.status, late.body);
    ensure!(took < Duration::from_millis(2_500), "it took {} ms", took.as_millis());

    let mut calls = 1;
    let mut fast = Duration::MAX;
    fleet
        .stop()
        .wait_until(Duration::from_secs(30), || {
            calls += 1;
            let began = Instant::now();
            let refused =
                client.send("POST", "/orders", ORDER).is_ok_and(|answer| answer.status == 503);
            fast = began.elapsed();
            refused && fast < Duration::from_millis(250)
        })
        .context("the breaker did not open")?;

    turn(CALM)?;
    let back = fleet
        .stop()
        .wait_until(SOON, || {
            client.send("POST", "/orders", ORDER).is_ok_and(|answer| answer.status == 201)
        })
        .context("the breaker did not close")?;
    Ok(format!(
        "payments take 3 s: 504 after {} ms, after {calls} calls 503 within {} ms, 201 again {} ms after \
         they are well",
        took.as_millis(),
        fast.as_millis(),
        back.as_millis()
    ))
}

fn reload(fleet: &mut Fleet) -> Result<String> {
    let before = fleet.shipped_config()?;
    let traffic = Traffic::start(fleet.web(), STOCK);
    let mut client = fleet.client();
    ensure!(client.get("/hello")?.status == 404, "/hello is there already");
    let mut with_hello = before.clone();
    write!(
        with_hello,
        "\n  - name: hello\n    match: /hello\n    respond: {{ status: 200, body: hello }}\n"
    )?;
    fleet.write_config(&with_hello)?;
    let live = fleet
        .stop()
        .wait_until(SOON, || client.get("/hello").is_ok_and(|answer| answer.status == 200))
        .context("the new route did not come alive")?;

    let broken = with_hello.replace("to: inventory\n", "to: inventroy\n");
    ensure!(broken != with_hello, "there is nothing to misspell");
    fleet.write_config(&broken)?;
    let file = fleet.config_file();
    let (good, said) = fleet.weft(&["check", "--config", &file.to_string_lossy()])?;
    ensure!(!good, "`weft check` accepts a service that does not exist:\n{said}");
    ensure!(said.contains("inventroy"), "`weft check` does not say what is wrong:\n{said}");
    let refused = traffic.tally();
    fleet.stop().wait_until(SOON, || traffic.tally().since(&refused).answers > 200)?;
    ensure!(client.get("/hello")?.status == 200, "the last good configuration is gone");

    fleet.write_config(&before)?;
    fleet
        .stop()
        .wait_until(SOON, || client.get("/hello").is_ok_and(|answer| answer.status == 404))
        .context("the route did not go away")?;
    let all = none_failed(traffic)?;
    let wrong = said.lines().next().unwrap_or_default();
    Ok(format!(
        "a new route is live after {} ms; `weft check` of the next says \"{wrong}\" and the line; of {} \
         requests meanwhile 0 failed",
        live.as_millis(),
        all.answers
    ))
}

fn report(fleet: &mut Fleet) -> Result<String> {
    let admin = format!("http://{}", fleet.admin());
    let (good, status) = fleet.weft(&["status", "--admin", &admin])?;
    ensure!(good, "`weft status` failed:\n{status}");
    ensure!(status.contains("of 12 endpoints"), "`weft status` misses endpoints:\n{status}");
    let (good, services) = fleet.weft(&["service", "--admin", &admin])?;
    ensure!(good, "`weft service` failed:\n{services}");
    ensure!(services.contains("inventory"), "`weft service` names no service:\n{services}");
    let metrics = crate::http::Client::new(fleet.admin()).get("/metrics")?;
    ensure!(metrics.status == 200, "/metrics gave {}", metrics.status);
    let name = "http_server_request_duration_seconds_count";
    ensure!(metrics.body.contains(name), "/metrics has no {name}");
    let first = status.lines().next().unwrap_or_default();
    Ok(format!(
        "`weft status --admin {admin}` → {first} …; `weft service`; {} lines at {admin}/metrics",
        metrics.body.lines().count()
    ))
}

/// Asks so many times on one connection; every answer must be good.
fn count(fleet: &Fleet, path: &str, times: u64) -> Result<Tally> {
    let mut client = fleet.client();
    let mut tally = Tally::default();
    for _ in 0..times {
        let answer = client.get(path)?;
        ensure!(answer.status == 200, "{path}: {}: {}", answer.status, answer.body);
        tally.answers += 1;
        *tally.by_instance.entry(answer.instance().to_owned()).or_default() += 1;
    }
    Ok(tally)
}

/// Ends the traffic; not one request may have failed.
fn none_failed(traffic: Traffic) -> Result<Tally> {
    let tally = traffic.end();
    ensure!(
        tally.failed == 0,
        "{} of {} requests failed, such as:\n{}",
        tally.failed,
        tally.answers,
        tally.failures.join("\n")
    );
    Ok(tally)
}

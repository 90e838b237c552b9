//! What publishing and receiving over the API cost in CPU: batches of small events, without sockets.
//!
//! `cargo run --release -p weft-broker-http --example publish -- FOLDER`

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::{path::PathBuf, sync::Arc, time::Duration};

use weft_api::{Request, Response};
use weft_broker::{Broker, engine::Engines};
use weft_broker_http::{Handle, Hooks, Surface};
use weft_kernel::{Rng, SystemClock};
use weft_ledger::{Ledger, Options};
use weft_net::Stop;
use weft_wire::Method;

const EVENTS: usize = 1_000;
const ROUNDS: usize = 300;

/// CPU time of this process so far, all threads.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 =
        after.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

async fn ask(handle: &Handle, request: Request) -> Response {
    let response = handle.answer(Surface::Admin, request).await;
    assert!(response.status < 300, "{response:?}");
    response
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = std::env::args().nth(1).map(PathBuf::from).expect("a folder");
    let clock = Arc::new(SystemClock);
    let (ledger, _) =
        Ledger::open_folder(&folder, Options::default(), Arc::clone(&clock) as _).unwrap();
    let broker = Broker::open(Arc::new(ledger.clone()), clock, Rng::from_entropy()).await.unwrap();
    let engines = Engines::open(broker, Vec::new()).await.unwrap();
    let handle = Handle::open(engines, 1, Hooks::default(), Stop::new()).await.unwrap();
    for (options, what) in [("{\"dedupe\": \"off\"}", "without dedupe"), ("{}", "with dedupe")] {
        let name = what.replace(' ', "-");
        ask(&handle, Request::new(Method::Put, &format!("/v1/queues/{name}")).with_body(options))
            .await;
        let bodies: Vec<_> = (0..ROUNDS)
            .map(|round| {
                let events: Vec<_> = (0..EVENTS)
                    .map(|event| {
                        format!(
                            r#"{{"specversion":"1.0","id":"{round}-{event}","source":"/shop","type":"order.placed","datacontenttype":"application/json","data":{{"text":"{}"}}}}"#,
                            "x".repeat(88)
                        )
                    })
                    .collect();
                bytes::Bytes::from(format!("[{}]", events.join(",")))
            })
            .collect();
        let (before, wall) = (cpu(), std::time::Instant::now());
        for body in bodies {
            let request = Request::new(Method::Post, &format!("/v1/queues/{name}/messages"))
                .with_field("content-type", "application/cloudevents-batch+json")
                .with_body(body);
            ask(&handle, request).await;
        }
        report(what, "published", cpu() - before, wall.elapsed());
        let (before, wall) = (cpu(), std::time::Instant::now());
        for _ in 0..ROUNDS {
            let receive = Request::new(Method::Post, &format!("/v1/queues/{name}/receive"))
                .with_body(format!("{{\"max\": {EVENTS}}}"));
            let got = ask(&handle, receive).await.collect().await.unwrap();
            let got: serde_json::Value = serde_json::from_slice(&got).unwrap();
            let settle: Vec<_> = got["deliveries"]
                .as_array()
                .unwrap()
                .iter()
                .map(|delivery| serde_json::json!({"id": delivery["id"], "how": "accept"}))
                .collect();
            assert_eq!(settle.len(), EVENTS);
            let settle = serde_json::json!({"settle": settle}).to_string();
            let path = format!("/v1/queues/{name}/settle");
            ask(&handle, Request::new(Method::Post, &path).with_body(settle)).await;
        }
        report(what, "received and accepted", cpu() - before, wall.elapsed());
    }
    ledger.close().unwrap();
}

fn report(what: &str, done: &str, cpu: Duration, wall: Duration) {
    let events = (EVENTS * ROUNDS) as f64;
    println!(
        "{what}, {done}: {:.2} us CPU per event, {:.0} events/s",
        cpu.as_secs_f64() * 1e6 / events,
        events / wall.as_secs_f64()
    );
}

//! What projections cost: events a second through a simple one, from the first event on.
//!
//! `project FOLDER [EVENTS] [STREAMS]` appends so many events (1,000,000) of 60 bytes of JSON to so many streams
//! (10,000), then folds a counter and a field of each stream's document. The folder is made, and removed at the end.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Instant};

use weft_broker::{MessageBuilder, message::Value};
use weft_events::{
    Append, AppendBatch, EventStore, Expected, NewEvent, StreamName,
    projection::{Definition, Projections, Rule, Source},
};
use weft_kernel::SystemClock;
use weft_ledger::{EmbeddedStore as _, Ledger, Options};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(|| PathBuf::from("project.tmp"), PathBuf::from);
    let mut number = |default: u64| arguments.next().map_or(default, |text| text.parse().unwrap());
    let (events, streams) = (number(1_000_000), number(10_000));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (ledger, _) =
        Ledger::open_folder(&folder, Options::default(), Arc::new(SystemClock)).unwrap();
    ledger.start().unwrap();
    runtime.block_on(async {
        let store = EventStore::open(ledger.embedded_namespace("events").unwrap()).await.unwrap();
        for first in (0..events).step_by(1_000) {
            let append = |number: u64| Append {
                stream: StreamName::new(&format!("order-{}", number * 7_919 % streams)).unwrap(),
                expected: Expected::Any,
                events: vec![event(number)],
            };
            let appends = (first..(first + 1_000).min(events)).map(append).collect();
            store.append(AppendBatch { appends, ..AppendBatch::default() }).await.unwrap();
        }
        let fields = |field: &str, text: &str| BTreeMap::from([(field.into(), text.into())]);
        let rule = Rule {
            set: fields("status", "data.status"),
            add: fields("total", "data.amount"),
            ..Rule::default()
        };
        let definition = Definition {
            from: vec![Source { category: Some("order".into()), tags: Vec::new() }],
            key: "stream.name".into(),
            on: BTreeMap::from([("order.paid".to_owned(), rule)]),
        };
        let declared = BTreeMap::from([("orders".to_owned(), definition)]);
        let (projections, runners) = Projections::open(&store, declared).await.unwrap();
        let begun = Instant::now();
        let reached = projections.get("orders").unwrap().reached(events);
        let running = futures_util::future::join_all(runners.into_iter().map(|of| of.run()));
        tokio::select! {
            _ = running => {}
            () = reached => {}
        }
        let took = begun.elapsed().as_secs_f64();
        println!(
            "{events} events into {streams} documents in {took:.1} s: {:.0} events/s",
            events as f64 / took
        );
    });
    ledger.close().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

fn event(number: u64) -> NewEvent {
    let body = format!(
        "{{\"status\":\"paid\",\"amount\":{},\"by\":\"card\",\"to\":\"shop\"}}",
        number % 100
    );
    let message = MessageBuilder::event(200)
        .attribute("id", Value::Text(&number.to_string()))
        .attribute("source", Value::Text("/bench"))
        .attribute("type", Value::Text("order.paid"));
    NewEvent::new(message.body(body.as_bytes()).finish().unwrap()).unwrap()
}

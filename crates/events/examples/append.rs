//! What streams cost: appends with an expected version from many writers, over few streams and over many.
//!
//! `append FOLDER [STREAMS] [SECONDS] [WRITERS] [EVENTS] [IDS]` fills so many streams (default: 100,000) with an event each, then has so
//! many writers (64) append to streams by chance, so many events (1) of 200 bytes at a time, each when the last one is
//! on the disk. Each event has a correlation id, one of so many
//! (without bound, unless said), or none with 0: one of its own costs the index most. The folder is made, should be on the disk in question, and is removed at the end.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use weft_broker::{MessageBuilder, message::Value};
use weft_events::{
    Append, AppendBatch, AppendCondition, Direction, EventQuery, EventStore, Expected, NewEvent,
    PageLimits, QueryItem, Rejected, StreamName,
};
use weft_kernel::{Rng, SystemClock};
use weft_ledger::{Durability, EmbeddedStore as _, Ledger, Options};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(|| PathBuf::from("append.tmp"), PathBuf::from);
    let mut number = |default: u64| arguments.next().map_or(default, |text| text.parse().unwrap());
    let (streams, seconds, writers, events) = (number(100_000), number(10), number(64), number(1));
    let ids = number(u64::MAX);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (ledger, _) =
        Ledger::open_folder(&folder, Options::default(), Arc::new(SystemClock)).unwrap();
    ledger.start().unwrap();
    let store = runtime.block_on(async {
        let store = EventStore::open(ledger.embedded_namespace("events").unwrap()).await.unwrap();
        fill(&store, streams, ids).await;
        store
    });
    memory("filled");
    let span = Duration::from_secs(seconds);
    runtime.block_on(load(&store, (streams, ids), span, writers, events));
    runtime.block_on(look_up(&store));
    memory("at the end");
    ledger.close().unwrap();
    drop((store, ledger));
    let begun = Instant::now();
    let (ledger, _) =
        Ledger::open_folder(&folder, Options::default(), Arc::new(SystemClock)).unwrap();
    println!("opened again in {:.1} s", begun.elapsed().as_secs_f64());
    ledger.close().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

fn event(rng: &mut Rng, ids: u64) -> NewEvent {
    let id = format!("{:016x}", rng.next_u64());
    let mut message = MessageBuilder::event(300)
        .attribute("id", Value::Text(&id))
        .attribute("source", Value::Text("/bench"))
        .attribute("type", Value::Text("bench.happened"));
    if ids > 0 {
        let correlation = format!("{:016x}", rng.below(ids));
        message = message.attribute("correlationid", Value::Text(&correlation));
    }
    NewEvent::new(message.body(&[b'x'; 200]).finish().unwrap()).unwrap()
}

/// Names in no order.
fn name(number: u64) -> StreamName {
    StreamName::new(&format!("order-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))).unwrap()
}

async fn fill(store: &EventStore, streams: u64, ids: u64) {
    let begun = Instant::now();
    let mut rng = Rng::seeded(1);
    for first in (0..streams).step_by(500) {
        let append = |number| Append {
            stream: name(number),
            expected: Expected::Any,
            events: vec![event(&mut rng, ids)],
        };
        let appends = (first..(first + 500).min(streams)).map(append).collect();
        store.append(AppendBatch { appends, ..AppendBatch::default() }).await.unwrap();
    }
    let took = begun.elapsed().as_secs_f64();
    println!("{streams} streams in {took:.1} s: {:.0} events/s", streams as f64 / took);
}

async fn load(
    store: &EventStore,
    (streams, ids): (u64, u64),
    span: Duration,
    writers: u64,
    events: u64,
) {
    let (done, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, done, refused) = (store.clone(), Arc::clone(&done), Arc::clone(&refused));
            #[expect(clippy::disallowed_methods, reason = "an example has no node")]
            tokio::spawn(async move {
                let mut rng = Rng::seeded(writer + 2);
                while begun.elapsed() < span {
                    let stream = name(rng.below(streams));
                    let next = store.stream(&stream).await.unwrap().unwrap().next;
                    let new = (0..events).map(|_| event(&mut rng, ids)).collect();
                    match store
                        .append(AppendBatch::of(stream, Expected::Version(next - 1), new))
                        .await
                    {
                        Ok(_) => done.fetch_add(1, Relaxed),
                        Err(Rejected::Conflict(_) | Rejected::Matched(_)) => {
                            refused.fetch_add(1, Relaxed)
                        }
                        Err(Rejected::Failed(error)) => panic!("{}", error.detail()),
                    };
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let took = begun.elapsed().as_secs_f64();
    let (done, refused) = (done.load(Relaxed), refused.load(Relaxed));
    println!(
        "{writers} writers: {:.0} appends/s, {:.0} events/s, each on the disk; {refused} conflicts",
        done as f64 / took,
        (done * events) as f64 / took
    );
}

/// How long it takes to find events: a page of what all have, one that is alone, and none; and to append where a
/// condition has to be looked up among all.
async fn look_up(store: &EventStore) {
    let query = |item: QueryItem| EventQuery::new(vec![item]).unwrap();
    let page = PageLimits { events: 100, ..PageLimits::default() };
    let middle = store.next_position() / 2;
    let some = store.read_all(middle, Direction::Forward, page).await.unwrap().events;
    let correlations: Vec<_> = some
        .iter()
        .filter_map(|event| {
            Some(event.message.event()?.get("correlationid")?.as_text()?.to_owned())
        })
        .collect();
    let types = query(QueryItem { types: vec!["bench.happened".into()], ..QueryItem::default() });
    let begun = Instant::now();
    for direction in [Direction::Forward, Direction::Backward] {
        for at in 0..50 {
            let from = store.next_position() / 50 * at;
            store.read_by(&types, from, direction, page).await.unwrap();
        }
    }
    println!("a page of 100 of a type: {:.0} µs", begun.elapsed().as_micros() as f64 / 100.0);
    let begun = Instant::now();
    for id in &correlations {
        let one = query(QueryItem { correlation: Some(id.clone()), ..QueryItem::default() });
        let found = store.read_by(&one, 0, Direction::Forward, page).await.unwrap();
        assert!(!found.events.is_empty());
    }
    let each = begun.elapsed().as_micros() as f64 / correlations.len().max(1) as f64;
    println!("all of a correlation id: {each:.0} µs");
    let begun = Instant::now();
    let mut rng = Rng::seeded(7);
    for number in 0..200 {
        let tags = vec![format!("name:{number}")];
        let condition = AppendCondition {
            fail_if_events_match: query(QueryItem { tags, ..QueryItem::default() }),
            after: None,
        };
        let batch = AppendBatch {
            conditions: vec![condition],
            durability: Durability::Os,
            ..AppendBatch::of(name(number), Expected::Any, vec![event(&mut rng, 1)])
        };
        store.append(batch).await.unwrap();
    }
    let each = begun.elapsed().as_micros() as f64 / 200.0;
    println!("an append under a condition over all {} events: {each:.0} µs", store.next_position());
}

/// What the process has in memory, and has had at most.
fn memory(when: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    };
    println!("{when}: {} MiB resident, {} MiB at most", of("VmRSS"), of("VmHWM"));
}

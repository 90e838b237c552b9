//! Projections held against a fold written out by hand: whatever the batches, whenever the power fails.

mod large;
mod moment;
mod parked;
mod rebuild;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use weft_broker::{MessageBuilder, message};
use weft_events::{
    AppendBatch, Direction, EventStore, Expected, NewEvent, PageLimits,
    projection::{Definition, Listing, Projection, Projections, Rule, Source},
};
use weft_kernel::Rng;
use weft_ledger::{Durability, disk::SimulatedDisk};

use crate::streams::{Opened, block, name};

pub(crate) fn fields(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(field, text)| ((*field).to_owned(), (*text).to_owned())).collect()
}

/// Orders, and payments that are joined to them by the number of the order.
pub(crate) fn orders() -> Definition {
    let category = |name: &str| Source { category: Some(name.into()), tags: Vec::new() };
    let on = [
        (
            "placed",
            Rule {
                set: fields(&[("status", "'placed'"), ("total", "data.total")]),
                ..Rule::default()
            },
        ),
        (
            "paid",
            Rule {
                key: Some("'order-' + data.order".into()),
                add: fields(&[("paid", "data.amount"), ("payments", "1")]),
                ..Rule::default()
            },
        ),
        ("line", Rule { append: fields(&[("lines", "data")]), max: Some(3), ..Rule::default() }),
        ("erased", Rule { delete: true, ..Rule::default() }),
    ];
    Definition {
        from: vec![category("order"), category("payment")],
        key: "stream.name".into(),
        on: on.into_iter().map(|(kind, rule)| (kind.to_owned(), rule)).collect(),
    }
}

pub(crate) fn event(id: &str, kind: &str, data: &Value) -> NewEvent {
    let message = MessageBuilder::event(64)
        .attribute("id", message::Value::Text(id))
        .attribute("source", message::Value::Text("/test"))
        .attribute("type", message::Value::Text(kind))
        .body(data.to_string().as_bytes())
        .finish()
        .unwrap();
    NewEvent::new(message).unwrap()
}

pub(crate) async fn append(
    store: &EventStore,
    stream: &str,
    id: &str,
    kind: &str,
    data: Value,
) -> u64 {
    let batch = AppendBatch::of(name(stream), Expected::Any, vec![event(id, kind, &data)]);
    store.append(batch).await.unwrap().position.unwrap()
}

/// Runs projections while something else is done.
pub(crate) async fn with<T>(
    store: &EventStore,
    definition: Definition,
    act: impl AsyncFnOnce(Projection) -> T,
) -> T {
    let declared = BTreeMap::from([("orders".to_owned(), definition)]);
    let (projections, runners) = Projections::open(store, declared).await.unwrap();
    let running = futures_util::future::join_all(runners.into_iter().map(|runner| runner.run()));
    let projection = projections.get("orders").unwrap().clone();
    tokio::select! {
        _ = running => unreachable!("runners run for ever"),
        done = act(projection) => done,
    }
}

/// All documents.
pub(crate) async fn documents(projection: &Projection) -> BTreeMap<String, Value> {
    let all = projection.list(&Listing { limit: 10_000, ..Listing::default() }).await.unwrap();
    assert!(!all.is_cut && all.next.is_none());
    let read = |json: &[u8]| serde_json::from_slice(json).unwrap();
    all.documents.into_iter().map(|shown| (shown.key, read(&shown.json))).collect()
}

/// What a fold by hand has.
#[derive(Default, Debug, PartialEq)]
struct Folded {
    documents: BTreeMap<String, Map<String, Value>>,
    /// By key: the position, and how many wait.
    parked: BTreeMap<Option<String>, (u64, u64)>,
    applied: u64,
}

async fn fold(store: &EventStore) -> Folded {
    let limits = PageLimits { events: 100_000, bytes: 1 << 30, ..PageLimits::default() };
    let all = store.read_all(0, Direction::Forward, limits).await.unwrap().events;
    let mut folded = Folded::default();
    for event in all {
        let data: Value = serde_json::from_slice(&event.message.body()).unwrap();
        let kind = event.message.event().unwrap().kind().to_owned();
        if !matches!(event.stream.category(), "order" | "payment") {
            continue;
        }
        let key = match &*kind {
            "paid" => format!("order-{}", data["order"].as_str().unwrap()),
            "placed" | "line" | "erased" => event.stream.to_string(),
            _ => continue,
        };
        if let Some((_, waiting)) = folded.parked.get_mut(&Some(key.clone())) {
            *waiting += 1;
            continue;
        }
        let is_wrong = kind == "paid" && !data["amount"].is_number()
            || kind == "placed" && data.get("total").is_none();
        if is_wrong {
            folded.parked.insert(Some(key), (event.position, 1));
            continue;
        }
        folded.applied += 1;
        if kind == "erased" {
            folded.documents.remove(&key);
            continue;
        }
        let document = folded.documents.entry(key).or_default();
        match &*kind {
            "placed" => {
                document.insert("status".into(), json!("placed"));
                document.insert("total".into(), data["total"].clone());
            }
            "paid" => {
                let paid = document.get("paid").cloned();
                let sum =
                    match (paid.as_ref().map_or(Some(0), Value::as_i64), data["amount"].as_i64()) {
                        (Some(paid), Some(amount)) => json!(paid + amount),
                        _ => json!(
                            paid.map_or(0.0, |paid| paid.as_f64().unwrap())
                                + data["amount"].as_f64().unwrap()
                        ),
                    };
                document.insert("paid".into(), sum);
                let count = document.get("payments").and_then(Value::as_i64).unwrap_or(0);
                document.insert("payments".into(), json!(count + 1));
            }
            _ => {
                let lines = document.entry("lines").or_insert_with(|| json!([]));
                let lines = lines.as_array_mut().unwrap();
                lines.push(data);
                if lines.len() > 3 {
                    lines.remove(0);
                }
            }
        }
    }
    folded
}

/// An event by chance, and its stream; a few of them cannot be applied.
fn drawn(rng: &mut Rng, id: &str) -> (String, NewEvent) {
    let order = rng.below(40);
    let stream = format!("order-{order}");
    match rng.below(100) {
        0..30 => (stream, event(id, "placed", &json!({ "total": rng.below(1_000) }))),
        30..40 => (format!("other-{order}"), event(id, "placed", &json!({ "total": 1 }))),
        40..70 => {
            let amount = match rng.below(400) {
                0 => json!("much"),
                1..100 => json!(rng.below(1_000_000) as f64 / 7.0),
                _ => json!(rng.below(50)),
            };
            let data = json!({ "order": order.to_string(), "amount": amount });
            (format!("payment-{}", rng.below(1_000)), event(id, "paid", &data))
        }
        70..90 => (stream, event(id, "line", &json!({ "item": id, "count": rng.below(9) }))),
        90..95 => (stream, event(id, "erased", &json!({}))),
        _ => (stream, event(id, "unknown", &json!({}))),
    }
}

/// Appends in batches of any size until there is enough or the power fails.
async fn write(store: &EventStore, rng: &mut Rng, prefix: &str, count: u64) {
    for round in 0..count {
        let size = 1 + rng.below(30);
        let mut batch = AppendBatch { durability: Durability::Fsync, ..AppendBatch::default() };
        for number in 0..size {
            let (stream, event) = drawn(rng, &format!("{prefix}-{round}-{number}"));
            let one = AppendBatch::of(name(&stream), Expected::Any, vec![event]);
            batch.appends.extend(one.appends);
        }
        if store.append(batch).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn documents_are_the_fold_of_all_events_whenever_the_power_fails() {
    for seed in 0..8 {
        let (disk, mut rng) = (SimulatedDisk::new(), Rng::seeded(seed));
        for life in 0..6 {
            block(async {
                let opened = Opened::on(&disk).await;
                let store = &opened.events;
                with(store, orders(), async |projection| {
                    let target = projection.status().position + rng.below(800);
                    let prefix = format!("{seed}-{life}");
                    let mut writer = Rng::seeded(seed * 100 + life);
                    let halt = async {
                        projection.reached(target).await;
                        disk.halt();
                    };
                    tokio::select! {
                        () = halt => {}
                        () = write(store, &mut writer, &prefix, 60) => disk.halt(),
                    }
                })
                .await;
            });
            disk.restart(&mut rng);
        }
        block(async {
            let opened = Opened::on(&disk).await;
            let folded = fold(&opened.events).await;
            assert!(folded.documents.len() > 20 && folded.applied > 500, "{}", folded.applied);
            with(&opened.events, orders(), async |projection| {
                projection.reached(opened.events.next_position()).await;
                let found = documents(&projection).await;
                for (key, document) in &folded.documents {
                    assert_eq!(found.get(key), Some(&Value::Object(document.clone())), "{key}");
                }
                assert_eq!(found.len(), folded.documents.len());
                let parked = projection.parked();
                let parked: BTreeMap<_, _> =
                    parked.iter().map(|of| (of.key.clone(), (of.position, of.waiting))).collect();
                assert_eq!(parked, folded.parked);
                assert_eq!(projection.status().applied, folded.applied, "each once");
            })
            .await;
        });
    }
}

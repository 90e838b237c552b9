//! Reading by category, type, tag and correlation id.

use std::sync::Arc;

use weft_broker::{MessageBuilder, message::Value};
use weft_events::{
    Append, AppendBatch, Direction, EventQuery, EventStore, Expected, NewEvent, PageLimits,
    QueryItem,
    follow::{Followed, Told},
    store::Change,
};
use weft_kernel::{Reason, Rng};
use weft_ledger::{
    EmbeddedStore as _,
    disk::SimulatedDisk,
    options::MapOptions,
    transaction::{ExpectValue, Transaction},
};

use crate::{
    rows::{all, check, check_query},
    streams::{Opened, block, name},
};

/// An event with everything that it can be looked up by.
pub(crate) fn tagged(id: &str, kind: &str, correlation: &str, tags: &str) -> NewEvent {
    let message = MessageBuilder::event(64)
        .attribute("id", Value::Text(id))
        .attribute("source", Value::Text("/test"))
        .attribute("type", Value::Text(kind))
        .attribute("correlationid", Value::Text(correlation))
        .attribute("tags", Value::Text(tags))
        .body(id.as_bytes())
        .finish()
        .unwrap();
    NewEvent::new(message).unwrap()
}

/// Events by chance over a few streams, categories, types, tags and correlation ids, some of them rare.
pub(crate) fn drawn(rng: &mut Rng, id: &str) -> (String, NewEvent) {
    let rare = rng.below(500) == 0;
    let category = if rare { "rare" } else { ["order", "account"][rng.below(2) as usize] };
    let kind = if rare { "rarely" } else { ["placed", "paid", "sent"][rng.below(3) as usize] };
    let correlation = format!("c-{}", rng.below(200));
    let tags = format!("a:{},b:{}", rng.below(5), rng.below(300));
    let stream = format!("{category}-{}", rng.below(12));
    (stream, tagged(id, kind, &correlation, &tags))
}

/// Appends so many of them, a few at a time.
async fn fill(store: &EventStore, rng: &mut Rng, count: u64) {
    let mut left = count;
    while left > 0 {
        let together = (1 + rng.below(120)).min(left);
        let append = |number| {
            let (stream, event) = drawn(rng, &format!("{left}-{number}"));
            Append { stream: name(&stream), expected: Expected::Any, events: vec![event] }
        };
        let appends = (0..together).map(append).collect();
        store.append(AppendBatch { appends, ..AppendBatch::default() }).await.unwrap();
        left -= together;
    }
}

pub(crate) fn items() -> Vec<QueryItem> {
    let of = |change: &dyn Fn(&mut QueryItem)| {
        let mut item = QueryItem::default();
        change(&mut item);
        item
    };
    vec![
        of(&|item| item.category = Some("order".into())),
        of(&|item| item.category = Some("rare".into())),
        of(&|item| item.category = Some("none".into())),
        of(&|item| item.types = vec!["placed".into()]),
        of(&|item| item.types = vec!["paid".into(), "rarely".into()]),
        of(&|item| item.correlation = Some("c-7".into())),
        of(&|item| item.tags = vec!["a:1".into()]),
        of(&|item| item.tags = vec!["a:1".into(), "b:2".into()]),
        of(&|item| item.stream = Some(name("order-3"))),
        of(&|item| (item.stream, item.types) = (Some(name("account-3")), vec!["paid".into()])),
        of(&|item| (item.stream, item.category) = (Some(name("order-3")), Some("account".into()))),
        of(&|item| {
            (item.category, item.types) = (Some("order".into()), vec!["sent".into(), "paid".into()])
        }),
        // Much of both, and never together.
        of(&|item| (item.category, item.types) = (Some("order".into()), vec!["rarely".into()])),
    ]
}

#[test]
fn events_are_read_by_what_they_have_also_after_a_restart() {
    block(async {
        let (disk, mut rng) = (SimulatedDisk::new(), Rng::seeded(1));
        let mut opened = Opened::on(&disk).await;
        for part in 0..3 {
            fill(&opened.events, &mut rng, 3_000).await;
            let all = all(&opened.events).await;
            for (at, item) in items().into_iter().enumerate() {
                check_query(&opened.events, &all, item, [7, 300, 10_000][(part + at) % 3]).await;
            }
            assert!(check(&opened).await > 1_000 + 3_000 * part as u64);
            drop(opened);
            disk.reopen();
            opened = Opened::on(&disk).await;
        }
    });
}

#[test]
fn what_is_removed_is_in_no_row() {
    block(async {
        let (disk, mut rng) = (SimulatedDisk::new(), Rng::seeded(2));
        let opened = Opened::on(&disk).await;
        fill(&opened.events, &mut rng, 6_000).await;
        for round in 0..10 {
            let stream = name(&format!("order-{round}"));
            let next = opened.events.stream(&stream).await.unwrap().unwrap().next;
            let change = match round % 3 {
                0 => Change::Truncate(next * 2 / 3),
                1 => Change::Delete,
                _ => Change::End,
            };
            opened.events.change(&stream, Expected::Exists, change).await.unwrap();
            check(&opened).await;
        }
        fill_others(&opened.events).await;
        check(&opened).await;
        let all = all(&opened.events).await;
        for item in items() {
            check_query(&opened.events, &all, item, 100).await;
        }
        drop(opened);
        disk.reopen();
        check(&Opened::on(&disk).await).await;
    });
}

async fn fill_others(store: &EventStore) {
    let events = (0..1_500).map(|id| tagged(&id.to_string(), "placed", "c-7", "a:1")).collect();
    store.append(AppendBatch::of(name("order-77"), Expected::Any, events)).await.unwrap();
}

#[test]
fn two_that_remove_at_once_leave_nothing_behind() {
    block(async {
        let (opened, mut rng) = (Opened::on(&SimulatedDisk::new()).await, Rng::seeded(3));
        fill(&opened.events, &mut rng, 3_000).await;
        let remove = (0..12).map(|number| {
            let store = opened.events.clone();
            async move {
                let stream = name(&format!("account-{number}"));
                store.change(&stream, Expected::Exists, Change::Delete).await.unwrap();
            }
        });
        futures_util::future::join_all(remove).await;
        check(&opened).await;
    });
}

#[test]
fn a_query_is_followed_from_history_to_what_comes_without_a_gap() {
    block(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        let store = opened.events.clone();
        let append = async |ids: std::ops::Range<u64>| {
            for id in ids {
                let kind = if id % 3 == 0 { "placed" } else { "paid" };
                let event = tagged(&id.to_string(), kind, "c", "t");
                let stream = name(&format!("order-{}", id % 5));
                store.append(AppendBatch::of(stream, Expected::Any, vec![event])).await.unwrap();
            }
        };
        append(0..1_500).await;
        let item = QueryItem { types: vec!["placed".into()], ..QueryItem::default() };
        let query = Arc::new(EventQuery::new(vec![item]).unwrap());
        let limits = PageLimits { events: 10, ..PageLimits::default() };
        let mut placed = store.follow(Followed::Matching { query, from: 300 }, limits);
        let follow = async {
            let mut positions = Vec::new();
            while positions.last() != Some(&2_997) {
                if let Told::Event(event) = placed.next().await.unwrap() {
                    positions.push(event.position);
                }
            }
            assert!(positions.into_iter().eq((300..3_000).step_by(3)));
            // It may have caught up before, and has now.
            assert_eq!(placed.next().await.unwrap(), Told::CaughtUp);
        };
        tokio::join!(append(1_500..3_000), follow);
    });
}

/// A ledger that was repaired may have lost events of which there are rows.
#[test]
fn rows_that_tell_of_more_than_there_is_are_made_anew() {
    block(async {
        let (disk, mut rng) = (SimulatedDisk::new(), Rng::seeded(4));
        let opened = Opened::on(&disk).await;
        fill(&opened.events, &mut rng, 2_500).await;
        let store = opened.ledger.embedded_namespace("events").unwrap();
        let map = store.create_map("index", MapOptions::default()).await.unwrap();
        let beyond = postcard::to_allocvec(&9_999_u64).unwrap();
        let ahead = Transaction::default().put(map, &[0][..], beyond, ExpectValue::Any);
        store.commit(ahead).await.unwrap();
        drop((store, opened));
        disk.reopen();
        let opened = Opened::on(&disk).await;
        fill(&opened.events, &mut rng, 2_500).await;
        assert!((3_000..5_000).contains(&check(&opened).await));
        let all = all(&opened.events).await;
        for item in items() {
            check_query(&opened.events, &all, item, 1_000).await;
        }
    });
}

/// A batch of as many events as there may be, each with values of its own, becomes more rows than one transaction holds.
#[test]
fn batches_of_thousands_become_rows_in_several_transactions() {
    block(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        for first in (0..5_000_u64).step_by(1_000) {
            let event = |id: u64| {
                let tags: Vec<_> = (0..15).map(|tag| format!("t{tag}:{id}")).collect();
                tagged(&id.to_string(), "placed", &id.to_string(), &tags.join(","))
            };
            let events = (first..first + 1_000).map(event).collect();
            opened
                .events
                .append(AppendBatch::of(name("order-1"), Expected::Any, events))
                .await
                .unwrap();
        }
        assert!(check(&opened).await > 3_000);
        let item = QueryItem { tags: vec!["t3:77".into()], ..QueryItem::default() };
        let query = EventQuery::new(vec![item]).unwrap();
        let found =
            opened.events.read_by(&query, 0, Direction::Forward, PageLimits::default()).await;
        assert_eq!(found.unwrap().events[0].position, 77);
    });
}

#[test]
fn an_event_has_a_bounded_number_of_tags() {
    for (tags, is_good) in [
        ("", true),
        ("a:1", true),
        ("a:1, b:2,,", true),
        ("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", true),
        ("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", false),
        (&"x".repeat(64), true),
        (&"x".repeat(65), false),
    ] {
        let message = MessageBuilder::event(64)
            .attribute("id", Value::Text("1"))
            .attribute("source", Value::Text("/test"))
            .attribute("type", Value::Text("t"))
            .attribute("tags", Value::Text(tags));
        let event = NewEvent::new(message.finish().unwrap());
        assert_eq!(event.is_ok(), is_good, "{tags}");
        assert!(is_good || event.unwrap_err().reason() == Reason::MalformedMessage);
    }
}

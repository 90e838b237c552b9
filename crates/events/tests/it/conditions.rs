//! Appends that fail if events match a query.

use weft_events::{
    AppendBatch, AppendCondition, EventQuery, Expected, NewEvent, QueryItem, Rejected,
    store::Change,
};
use weft_kernel::Reason;
use weft_ledger::disk::SimulatedDisk;

use crate::{
    index::tagged,
    rows::all,
    streams::{Opened, block, name},
};

fn of_tag(tag: &str) -> EventQuery {
    EventQuery::new(vec![QueryItem { tags: vec![tag.into()], ..QueryItem::default() }]).unwrap()
}

pub(crate) fn unless(
    stream: &str,
    events: Vec<NewEvent>,
    query: EventQuery,
    after: Option<u64>,
) -> AppendBatch {
    AppendBatch {
        conditions: vec![AppendCondition { fail_if_events_match: query, after }],
        ..AppendBatch::of(name(stream), Expected::Any, events)
    }
}

fn seat(id: &str) -> Vec<NewEvent> {
    vec![tagged(id, "subscribed", id, "course:1")]
}

#[test]
fn what_matches_and_came_later_is_told_and_nothing_is_done() {
    block(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        let store = &opened.events;
        // Nobody may have a seat yet.
        let first = store.append(unless("s-1", seat("1"), of_tag("course:1"), None)).await.unwrap();
        assert_eq!(first.position, Some(0));
        let again = store.append(unless("s-1", seat("1"), of_tag("course:1"), None)).await.unwrap();
        assert!(again.written[0].is_known, "the same again");
        for id in 2..30 {
            let batch = unless("s-2", seat(&id.to_string()), of_tag("course:1"), Some(id - 2));
            store.append(batch).await.unwrap();
        }
        for (after, first, count) in [(None, 0, 16), (Some(9), 10, 16), (Some(27), 28, 1)] {
            let batch = unless("s-3", seat("x"), of_tag("course:1"), after);
            let Err(Rejected::Matched(matched)) = store.append(batch).await else { panic!() };
            let positions: Vec<_> = matched.events.iter().map(|event| event.position).collect();
            assert!(positions.iter().copied().eq(first..first + count), "{positions:?}");
            assert_eq!(matched.after, after);
            let error = weft_kernel::Error::from(Rejected::Matched(matched));
            assert_eq!(error.reason(), Reason::ConditionConflict);
        }
        assert!(store.stream(&name("s-3")).await.unwrap().is_none());
        // What does not match does not matter.
        let other = unless("s-3", seat("x"), of_tag("course:2"), None);
        store.append(other).await.unwrap();
        // Who has read what is not there has read from another life of the store.
        let ahead = unless("s-3", seat("y"), of_tag("course:2"), Some(30));
        let Err(Rejected::Failed(error)) = store.append(ahead).await else { panic!() };
        assert_eq!(error.reason(), Reason::PositionConflict);
        // A batch may only ask.
        let asks = |tag| unless("s-9", Vec::new(), of_tag(tag), None);
        assert!(store.append(asks("course:1")).await.is_err());
        assert!(store.append(asks("course:9")).await.is_ok());
        assert!(store.stream(&name("s-9")).await.unwrap().is_none());
    });
}

#[test]
fn what_is_long_ago_and_what_was_removed_is_known() {
    block(async {
        let disk = SimulatedDisk::new();
        let opened = Opened::on(&disk).await;
        opened
            .events
            .append(AppendBatch::of(name("user-1"), Expected::Any, seat("1")))
            .await
            .unwrap();
        let many = |first: u64| {
            (first..first + 4_000).map(|id| tagged(&id.to_string(), "filled", "c", "x")).collect()
        };
        for first in [0, 4_000] {
            let batch = AppendBatch::of(name("fill-1"), Expected::Any, many(first));
            opened.events.append(batch).await.unwrap();
        }
        drop(opened);
        disk.reopen();
        let opened = Opened::on(&disk).await;
        let taken = || unless("user-2", seat("2"), of_tag("course:1"), None);
        let Err(Rejected::Matched(matched)) = opened.events.append(taken()).await else { panic!() };
        assert_eq!(matched.events[0].position, 0);
        opened.events.change(&name("user-1"), Expected::Exists, Change::Delete).await.unwrap();
        opened.events.append(taken()).await.unwrap();
        // The newest was removed as well, and memory still knows of it.
        let Err(Rejected::Matched(_)) =
            opened.events.append(unless("u", seat("3"), of_tag("course:1"), None)).await
        else {
            panic!()
        };
        opened.events.change(&name("user-2"), Expected::Exists, Change::Delete).await.unwrap();
        opened.events.append(unless("u", seat("3"), of_tag("course:1"), None)).await.unwrap();
    });
}

/// Hundreds have read the same and append at once, each under the condition that nothing has come since.
#[test]
fn of_hundreds_who_race_exactly_one_wins_each_round() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        let mut after = None;
        for round in 0..30_u64 {
            let writers: Vec<_> = (0..300)
                .map(|writer: u64| {
                    let store = opened.events.clone();
                    let id = format!("{round}-{writer}");
                    let batch =
                        unless(&format!("s-{writer}"), seat(&id), of_tag("course:1"), after);
                    #[expect(clippy::disallowed_methods, reason = "a test has no node")]
                    tokio::spawn(async move { store.append(batch).await })
                })
                .collect();
            let mut won = Vec::new();
            for writer in writers {
                match writer.await.unwrap() {
                    Ok(receipt) => won.push(receipt.position),
                    Err(Rejected::Matched(matched)) => assert_eq!(matched.events.len(), 1),
                    Err(other) => panic!("{other:?}"),
                }
            }
            assert_eq!(won.len(), 1, "round {round}");
            after = won[0];
        }
        assert_eq!(all(&opened.events).await.len(), 30);
    });
}

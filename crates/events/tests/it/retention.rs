//! Events of a category that go when they are old.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use weft_events::{
    AppendBatch, Direction, EventQuery, EventStore, Expected, PageLimits, QueryItem, StreamInfo,
    head::Life,
};
use weft_kernel::{Clock as _, ManualClock};

use crate::{
    index::tagged,
    rows,
    streams::{Opened, block, name},
};

const LIMITS: PageLimits = PageLimits { events: 10_000, bytes: 1 << 30, before: u64::MAX };

/// The ids of all events, or of those of a category.
async fn ids(store: &EventStore, category: Option<&str>) -> Vec<String> {
    let page = match category {
        None => store.read_all(0, Direction::Forward, LIMITS).await.unwrap(),
        Some(category) => {
            let item = QueryItem { category: Some(category.into()), ..QueryItem::default() };
            let query = EventQuery::new(vec![item]).unwrap();
            store.read_by(&query, 0, Direction::Forward, LIMITS).await.unwrap()
        }
    };
    let id = |event: &weft_events::Recorded| event.message.event().unwrap().id().to_owned();
    page.events.iter().map(id).collect()
}

#[test]
fn what_is_old_goes_by_category_and_nothing_else_does() {
    block(async {
        let clock = Arc::new(ManualClock::default());
        let now = || clock.wall().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let opened = Opened::by(&clock).await;
        let store = &opened.events;
        let began = now();
        // One a second: of a hundred sessions by turns, and of two orders, so many that rows of the index tell of them.
        for at in 0..3_000_u64 {
            let stream = match at % 3 {
                2 => name(&format!("order-{}", at % 2)),
                _ => name(&format!("session-{}", at / 3 % 100)),
            };
            let event = tagged(&at.to_string(), "happened", "c", "t");
            store.append(AppendBatch::of(stream, Expected::Any, vec![event])).await.unwrap();
            clock.advance(Duration::from_secs(1));
        }
        let all = || (0..3_000_u64).map(|at| at.to_string());
        assert_eq!(store.expire("none", now()).await.unwrap(), 0);
        assert_eq!(store.expire("session", began).await.unwrap(), 0);
        // Sessions older than the last thousand seconds.
        assert_eq!(store.expire("session", began + 2_000_000).await.unwrap(), 1_334);
        let is_left = |id: &String| {
            let at: u64 = id.parse().unwrap();
            at % 3 == 2 || at >= 2_000
        };
        assert_eq!(ids(store, None).await, all().filter(is_left).collect::<Vec<_>>());
        let sessions: Vec<String> =
            all().filter(|id| is_left(id) && id.parse::<u64>().unwrap() % 3 != 2).collect();
        assert_eq!(ids(store, Some("session")).await, sessions);
        rows::check(&opened).await;
        // Again there is nothing to do.
        assert_eq!(store.expire("session", began + 2_000_000).await.unwrap(), 0);
        // All of them: a stream that has lost all events goes on with its versions.
        assert_eq!(store.expire("session", now() + 1).await.unwrap(), 666);
        assert!(ids(store, Some("session")).await.is_empty());
        assert_eq!(ids(store, Some("order")).await.len(), 1_000);
        let info = store.stream(&name("session-7")).await.unwrap();
        assert_eq!(info, Some(StreamInfo { next: 20, first: 20, life: Life::Open }));
        let event = tagged("again", "happened", "c", "t");
        let append = AppendBatch::of(name("session-7"), Expected::Version(19), vec![event]);
        assert_eq!(store.append(append).await.unwrap().written[0].versions, 20..21);
    });
}

#[test]
fn a_clock_that_was_set_back_lets_no_young_event_go() {
    block(async {
        let clock = Arc::new(ManualClock::default());
        let now = || clock.wall().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let opened = Opened::by(&clock).await;
        let store = &opened.events;
        let began = now();
        let append = async |stream: &str, id: &str| {
            let event = tagged(id, "happened", "c", "t");
            store.append(AppendBatch::of(name(stream), Expected::Any, vec![event])).await.unwrap();
        };
        append("session-1", "old").await;
        append("session-2", "old too").await;
        clock.set_wall_by(100_000);
        append("session-1", "young").await;
        // Those behind it are told to be as old as it is.
        clock.set_wall_by(-99_000);
        append("session-1", "behind it").await;
        append("session-2", "behind it too").await;
        assert_eq!(store.expire("session", began + 2_000).await.unwrap(), 2);
        assert_eq!(ids(store, None).await, ["young", "behind it", "behind it too"]);
        assert_eq!(store.expire("session", began + 100_001).await.unwrap(), 3);
    });
}

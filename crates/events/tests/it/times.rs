//! Reading from a time and up to one.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use weft_events::{AppendBatch, Direction, EventQuery, Expected, PageLimits, QueryItem};
use weft_kernel::{Clock as _, ManualClock};

use crate::{
    index::tagged,
    streams::{Opened, block, name},
};

#[test]
fn events_are_found_by_their_time() {
    block(async {
        let clock = Arc::new(ManualClock::default());
        let began = clock.wall().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let Opened { events: store, .. } = &Opened::by(&clock).await;
        // Ten events a second, of two streams by turns; the even ones of the first stream.
        for id in 0..2_500_u64 {
            let stream = name(if id % 2 == 0 { "a-1" } else { "b-1" });
            let event = tagged(&id.to_string(), "ticked", "c", "t");
            store.append(AppendBatch::of(stream, Expected::Any, vec![event])).await.unwrap();
            clock.advance(Duration::from_millis(100));
        }
        for (after_ms, position) in [
            (0, 0),
            (1, 1),
            (100, 1),
            (101, 2),
            (100_000, 1_000),
            (249_900, 2_499),
            (250_000, 2_500),
        ] {
            assert_eq!(store.position_at(began + after_ms).await.unwrap(), position, "{after_ms}");
            let version = store.version_at(&name("a-1"), began + after_ms).await.unwrap();
            assert_eq!(version, position.div_ceil(2), "{after_ms}");
        }
        // As of a moment: up to it and no further, whatever is read.
        let before = store.position_at(began + 60_000).await.unwrap();
        let limits = PageLimits { events: 10_000, bytes: 1 << 30, before };
        let page = store.read_all(590, Direction::Forward, limits).await.unwrap();
        assert_eq!((page.events.len(), page.next), (10, None));
        let query =
            EventQuery::new(vec![QueryItem { tags: vec!["t".into()], ..QueryItem::default() }]);
        let page = store.read_by(&query.unwrap(), 590, Direction::Forward, limits).await.unwrap();
        assert_eq!((page.events.len(), page.next), (10, None));
        let before = store.version_at(&name("a-1"), began + 60_000).await.unwrap();
        let limits = PageLimits { before, events: 7, ..limits };
        let page = store.read(&name("a-1"), 290, Direction::Forward, limits).await.unwrap();
        assert_eq!((page.events.len(), page.next), (7, Some(297)));
        let page = store.read(&name("a-1"), 297, Direction::Forward, limits).await.unwrap();
        assert_eq!((page.events.len(), page.next), (3, None));
    });
}

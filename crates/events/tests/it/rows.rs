//! The rows of the index, held against the log.

use std::collections::{BTreeMap, BTreeSet};

use weft_events::{Direction, EventQuery, EventStore, PageLimits, QueryItem, Recorded};
use weft_ledger::{EmbeddedStore as _, options::MapOptions};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::streams::Opened;

/// Kind and hash of a value, in the parts that rows have of it, and where it is.
type Rows = BTreeMap<(u8, u64, u32), BTreeSet<u64>>;

/// The rows as they are stored, and the position before which everything is in them.
async fn stored(opened: &Opened) -> (Rows, u64) {
    let store = opened.ledger.embedded_namespace("events").unwrap();
    let map = store.create_map("index", MapOptions::default()).await.unwrap();
    let (mut rows, mut upto) = (Rows::new(), 0);
    for (key, value) in store.scan(map, &[], None, usize::MAX).await.unwrap() {
        if *key == [0] {
            upto = postcard::from_bytes(&value.data).unwrap();
            continue;
        }
        if key[0] == 0 {
            continue;
        }
        let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
        let (hash, mut at) = (number(&key[1..9]), number(&key[9..]));
        let (gaps, rests): (Vec<u64>, Vec<u32>) = postcard::from_bytes(&value.data).unwrap();
        assert!(!gaps.is_empty(), "a row without anything");
        for (number, gap) in gaps.into_iter().enumerate() {
            at -= gap;
            let rest = rests.get(number).copied().unwrap_or(0);
            assert!(
                rows.entry((key[0], hash, rest)).or_default().insert(at),
                "{at} is there twice"
            );
        }
    }
    (rows, upto)
}

pub(crate) async fn all(store: &EventStore) -> Vec<Recorded> {
    let limits = PageLimits { events: usize::MAX, bytes: u64::MAX, ..PageLimits::default() };
    store.read_all(0, Direction::Forward, limits).await.unwrap().events
}

/// An attribute of an event.
pub(crate) fn attribute<'a>(event: &'a Recorded, name: &str) -> Option<&'a str> {
    event.message.event().unwrap().get(name)?.as_text()
}

/// Rows and log say the same: nothing is missing, and nothing is there of what has gone. Gives how much is in rows.
pub(crate) async fn check(opened: &Opened) -> u64 {
    let (rows, upto) = stored(opened).await;
    let mut expected = Rows::new();
    let all = all(&opened.events).await;
    for event in all.iter().filter(|event| event.position < upto) {
        let mut put = |kind: u8, value: &str| {
            let hash = xxh3_64_with_seed(value.as_bytes(), kind.into());
            let key = if kind == 3 { (3, hash % 64, (hash >> 32) as u32) } else { (kind, hash, 0) };
            expected.entry(key).or_default().insert(event.position);
        };
        put(1, event.stream.category());
        put(2, attribute(event, "type").unwrap());
        attribute(event, "correlationid").iter().for_each(|id| put(3, id));
        attribute(event, "tags")
            .iter()
            .flat_map(|tags| tags.split(','))
            .for_each(|tag| put(4, tag));
    }
    assert_eq!(rows.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "values");
    for (key, positions) in &rows {
        assert!(*positions == expected[key], "{key:?}: {positions:?}, not {:?}", expected[key]);
    }
    upto
}

/// What is read by a query is what of all events matches it, both ways, in pages and from anywhere.
pub(crate) async fn check_query(
    store: &EventStore,
    all: &[Recorded],
    item: QueryItem,
    page: usize,
) {
    let query = EventQuery::new(vec![item]).unwrap();
    let meant: Vec<&Recorded> = all.iter().filter(|event| query.matches(event)).collect();
    let limits = PageLimits { events: page, bytes: 1 << 20, ..PageLimits::default() };
    let middle = all.get(all.len() / 2).map_or(0, |event| event.position);
    for from in [0, middle] {
        let (mut found, mut next) = (Vec::new(), Some(from));
        while let Some(from) = next {
            let page = store.read_by(&query, from, Direction::Forward, limits).await.unwrap();
            found.extend(page.events);
            next = page.next;
        }
        let expected = meant.iter().filter(|event| event.position >= from);
        assert!(found.iter().eq(expected.copied()), "{query:?} from {from}: {}", found.len());
    }
    for from in [u64::MAX, middle] {
        let (mut found, mut next) = (Vec::new(), Some(from));
        while let Some(from) = next {
            let page = store.read_by(&query, from, Direction::Backward, limits).await.unwrap();
            found.extend(page.events);
            next = page.next;
        }
        let expected = meant.iter().rev().filter(|event| event.position <= from);
        assert!(found.iter().eq(expected.copied()), "{query:?} back from {from}: {}", found.len());
    }
}

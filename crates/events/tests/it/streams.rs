//! What streams promise, case by case.

use std::sync::Arc;

use weft_broker::{MessageBuilder, message::Value};
use weft_events::{
    AppendBatch, Direction, EventStore, Expected, NewEvent, PageLimits, Rejected, StreamName,
    append::Append,
    follow::{Followed, Told},
    store::Change,
};
use weft_kernel::{ByteSize, Clock, ManualClock, Reason, Rng, SystemClock};
use weft_ledger::{Durability, EmbeddedStore, Ledger, Options, disk::SimulatedDisk};

pub(crate) fn name(text: &str) -> StreamName {
    StreamName::new(text).unwrap()
}

pub(crate) fn event(id: &str) -> NewEvent {
    let message = MessageBuilder::event(64)
        .attribute("id", Value::Text(id))
        .attribute("source", Value::Text("/test"))
        .attribute("type", Value::Text("test.happened"))
        .body(id.as_bytes())
        .finish()
        .unwrap();
    NewEvent::new(message).unwrap()
}

pub(crate) fn events(ids: std::ops::Range<u64>) -> Vec<NewEvent> {
    ids.map(|id| event(&id.to_string())).collect()
}

pub(crate) struct Opened {
    pub(crate) ledger: Ledger,
    pub(crate) events: EventStore,
}

impl Opened {
    pub(crate) async fn on(disk: &SimulatedDisk) -> Self {
        Self::with(disk, Arc::new(SystemClock)).await
    }

    /// On a disk of its own, at times that are set by hand.
    pub(crate) async fn by(clock: &Arc<ManualClock>) -> Self {
        Self::with(&SimulatedDisk::new(), Arc::clone(clock) as Arc<_>).await
    }

    async fn with(disk: &SimulatedDisk, clock: Arc<dyn Clock>) -> Self {
        let options = Options { wal_file_bytes: ByteSize(1 << 20), ..Options::default() };
        let disk = Arc::new(disk.clone());
        let (ledger, _) = Ledger::open(disk, options, clock).unwrap();
        ledger.start().unwrap();
        let store = ledger.embedded_namespace("events").unwrap();
        let events = EventStore::open(store).await.unwrap();
        Self { ledger, events }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = self.ledger.close();
    }
}

pub(crate) fn block<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// The bodies of a stream's events from a version on.
async fn bodies(store: &EventStore, stream: &str, from: u64, direction: Direction) -> Vec<String> {
    let (mut found, mut next) = (Vec::new(), Some(from));
    while let Some(from) = next {
        let limits = PageLimits { events: 7, bytes: 1 << 20, ..PageLimits::default() };
        let page = store.read(&name(stream), from, direction, limits).await.unwrap();
        assert!(page.events.len() <= 7);
        found.extend(
            page.events
                .iter()
                .map(|event| String::from_utf8(event.message.body().to_vec()).unwrap()),
        );
        next = page.next;
    }
    found
}

fn numbers(ids: impl Iterator<Item = u64>) -> Vec<String> {
    ids.map(|id| id.to_string()).collect()
}

#[test]
fn what_is_appended_is_read_both_ways_also_after_a_restart() {
    block(async {
        let disk = SimulatedDisk::new();
        let opened = Opened::on(&disk).await;
        let store = &opened.events;
        // Two streams by turns, so that the events of one do not stand together.
        for id in 0..200 {
            for stream in ["a-1", "b-1"] {
                let expected = if id == 0 { Expected::None } else { Expected::Version(id - 1) };
                let batch = AppendBatch::of(name(stream), expected, events(id..id + 1));
                let appended = store.append(batch).await.unwrap();
                assert_eq!(appended.written[0].versions, id..id + 1);
            }
        }
        store.append(AppendBatch::of(name("a-1"), Expected::Any, events(200..500))).await.unwrap();
        drop(opened);
        disk.reopen();
        let opened = Opened::on(&disk).await;
        let store = &opened.events;
        assert_eq!(bodies(store, "a-1", 0, Direction::Forward).await, numbers(0..500));
        assert_eq!(bodies(store, "a-1", 77, Direction::Forward).await, numbers(77..500));
        assert_eq!(
            bodies(store, "a-1", u64::MAX, Direction::Backward).await,
            numbers((0..500).rev())
        );
        assert_eq!(bodies(store, "b-1", 130, Direction::Backward).await, numbers((0..=130).rev()));
        let gone = store.read(&name("c-1"), 0, Direction::Forward, PageLimits::default()).await;
        assert_eq!(gone.unwrap_err().reason(), Reason::NotFound);
        // All in the order in which they came.
        let limits = PageLimits { events: 1_000, bytes: 1 << 30, ..PageLimits::default() };
        let all = store.read_all(0, Direction::Forward, limits).await.unwrap();
        assert_eq!((all.events.len(), all.next), (700, None));
        assert!(all.events.windows(2).all(|pair| pair[0].position + 1 == pair[1].position));
        let back = store.read_all(u64::MAX, Direction::Backward, limits).await.unwrap();
        assert!(back.events.iter().rev().eq(&all.events) && back.next.is_none());
        let few = store
            .read_all(10, Direction::Backward, PageLimits { events: 3, ..limits })
            .await
            .unwrap();
        let positions: Vec<_> = few.events.iter().map(|event| event.position).collect();
        assert_eq!((positions, few.next), (vec![10, 9, 8], Some(7)));
    });
}

#[test]
fn what_is_left_of_many_is_found_backward_however_much_was_removed() {
    block(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        let store = &opened.events;
        let append = async |stream: &str, ids: std::ops::Range<u64>| {
            let batch = AppendBatch::of(name(stream), Expected::Any, events(ids));
            store.append(batch).await.unwrap();
        };
        append("a", 0..3).await;
        for first in (0..20_000).step_by(1_000) {
            append("gone", first..first + 1_000).await;
        }
        append("b", 0..700).await;
        store.change(&name("gone"), Expected::Any, Change::Delete).await.unwrap();
        let (mut found, mut next, mut pages) = (Vec::new(), Some(u64::MAX), 0);
        while let Some(from) = next {
            let limits = PageLimits { events: 50, bytes: 1 << 20, ..PageLimits::default() };
            let page = store.read_all(from, Direction::Backward, limits).await.unwrap();
            found.extend(
                page.events.into_iter().map(|event| (event.stream.to_string(), event.version)),
            );
            (next, pages) = (page.next, pages + 1);
        }
        let expected = (0..700).rev().map(|version| ("b".to_owned(), version));
        assert!(
            found
                .into_iter()
                .eq(expected.chain((0..3).rev().map(|version| ("a".to_owned(), version))))
        );
        assert!(pages <= 17, "{pages}");
    });
}

#[test]
fn a_conflict_changes_nothing_and_shows_what_was_not_known() {
    block(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        let store = &opened.events;
        store.append(AppendBatch::of(name("a"), Expected::None, events(0..5))).await.unwrap();
        let both = AppendBatch {
            appends: vec![
                Append { stream: name("b"), expected: Expected::None, events: events(50..51) },
                Append {
                    stream: name("a"),
                    expected: Expected::Version(2),
                    events: events(60..61),
                },
            ],
            ..AppendBatch::default()
        };
        let Err(Rejected::Conflict(conflict)) = store.append(both).await else { panic!() };
        assert_eq!((conflict.stream.as_str(), conflict.actual), ("a", Some(4)));
        let versions: Vec<_> = conflict.events.iter().map(|event| event.version).collect();
        assert_eq!(versions, [3, 4]);
        assert!(store.stream(&name("b")).await.unwrap().is_none(), "nothing of it was done");
        // A stream that is only checked.
        let checked = |version| AppendBatch {
            appends: vec![
                Append { stream: name("a"), expected: Expected::Version(version), events: vec![] },
                Append { stream: name("b"), expected: Expected::Any, events: events(70..71) },
            ],
            ..AppendBatch::default()
        };
        assert!(store.append(checked(3)).await.is_err());
        assert!(store.append(checked(4)).await.is_ok());
    });
}

#[test]
fn the_same_again_is_known_and_something_else_is_not() {
    block(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        let store = &opened.events;
        for (stream, expected, count) in [
            ("v", Expected::None, 3),
            ("v", Expected::Version(2), 30),
            ("any", Expected::Any, 3),
            ("any", Expected::Any, 30),
            ("any", Expected::Exists, 1),
        ] {
            let start = count * 1_000;
            let batch = AppendBatch::of(name(stream), expected, events(start..start + count));
            let first = store.append(batch.clone()).await.unwrap();
            let again = store.append(batch).await.unwrap();
            assert!(again.written[0].is_known && !first.written[0].is_known);
            assert_eq!(again.written[0].versions, first.written[0].versions);
        }
        let others = AppendBatch::of(name("v"), Expected::Version(2), events(7..9));
        assert!(matches!(store.append(others).await, Err(Rejected::Conflict(_))));
        // A whole batch is known though what it checked has changed.
        let batch = AppendBatch {
            appends: vec![
                Append { stream: name("v"), expected: Expected::Version(32), events: vec![] },
                Append { stream: name("w"), expected: Expected::None, events: events(0..2) },
            ],
            ..AppendBatch::default()
        };
        store.append(batch.clone()).await.unwrap();
        store.append(AppendBatch::of(name("v"), Expected::Any, events(900..901))).await.unwrap();
        let again = store.append(batch).await.unwrap();
        assert!(again.written.iter().all(|written| written.is_known));
        assert_eq!(store.stream(&name("w")).await.unwrap().unwrap().next, 2);
    });
}

#[test]
fn what_is_truncated_or_deleted_is_gone_everywhere_at_once() {
    block(async {
        let disk = SimulatedDisk::new();
        let opened = Opened::on(&disk).await;
        let store = &opened.events;
        for id in 0..300 {
            for stream in ["a", "b"] {
                store
                    .append(AppendBatch::of(name(stream), Expected::Any, events(id..id + 1)))
                    .await
                    .unwrap();
            }
        }
        store.append(AppendBatch::of(name("a"), Expected::Any, events(300..3_500))).await.unwrap();
        let (a, b) = (name("a"), name("b"));
        store.change(&a, Expected::Exists, Change::Truncate(3_000)).await.unwrap();
        assert_eq!(bodies(store, "a", 0, Direction::Forward).await, numbers(3_000..3_500));
        assert_eq!(
            bodies(store, "a", u64::MAX, Direction::Backward).await,
            numbers((3_000..3_500).rev())
        );
        let beyond = store.change(&a, Expected::Any, Change::Truncate(3_501)).await.unwrap_err();
        assert!(
            matches!(beyond, Rejected::Failed(error) if error.reason() == Reason::MalformedRequest)
        );
        let wrong = store.change(&b, Expected::Version(7), Change::Delete).await.unwrap_err();
        assert!(matches!(wrong, Rejected::Conflict(_)));
        store.change(&b, Expected::Version(299), Change::Delete).await.unwrap();
        let left = |all: Vec<weft_events::Recorded>| {
            all.into_iter().map(|event| event.stream.to_string()).collect::<Vec<_>>()
        };
        let limits = PageLimits { events: 10_000, bytes: 1 << 30, ..PageLimits::default() };
        let all = store.read_all(0, Direction::Forward, limits).await.unwrap();
        assert_eq!(left(all.events), vec!["a"; 500]);
        // It begins again where it was; one that has ended does not.
        let again =
            store.append(AppendBatch::of(b.clone(), Expected::None, events(7..8))).await.unwrap();
        assert_eq!(again.written[0].versions, 300..301);
        assert_eq!(bodies(store, "b", 0, Direction::Forward).await, ["7"]);
        store.change(&a, Expected::Any, Change::End).await.unwrap();
        let ended =
            store.append(AppendBatch::of(a, Expected::Any, events(1..2))).await.unwrap_err();
        assert!(matches!(ended, Rejected::Conflict(conflict) if conflict.is_ended));
        drop(opened);
        disk.reopen();
        let opened = Opened::on(&disk).await;
        let all = opened.events.read_all(0, Direction::Forward, limits).await.unwrap();
        assert_eq!(left(all.events), ["b"]);
    });
}

/// Whatever moment the machine stops in: either nothing has gone, or all of it has with the next start.
#[test]
fn a_crash_while_events_are_removed_leaves_none_of_them_behind() {
    let (mut whole, mut gone) = (0, 0);
    for round in 0..24_u64 {
        let (disk, stream) = (SimulatedDisk::new(), name("a"));
        block(async {
            let opened = Opened::on(&disk).await;
            for first in (0..3_000).step_by(500) {
                let batch =
                    AppendBatch::of(stream.clone(), Expected::Any, events(first..first + 500));
                opened.events.append(batch).await.unwrap();
                // So that they do not all stand together.
                opened
                    .events
                    .append(AppendBatch::of(name("b"), Expected::Any, events(0..1)))
                    .await
                    .unwrap();
            }
            // Before anything is written, after so many writes, or once all is done.
            let until = match round {
                23 => u64::MAX,
                _ => disk.writes() + round,
            };
            let stops = async {
                while disk.writes() < until {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                () = stops => {}
                done = opened.events.change(&stream, Expected::Any, Change::Truncate(2_700)) => drop(done),
            }
            disk.halt();
        });
        disk.restart(&mut Rng::seeded(round));
        block(async {
            let opened = Opened::on(&disk).await;
            let first = opened.events.stream(&stream).await.unwrap().unwrap().first;
            let limits = PageLimits { events: 10_000, bytes: 1 << 30, ..PageLimits::default() };
            let all = opened.events.read_all(0, Direction::Forward, limits).await.unwrap().events;
            let of_it =
                all.iter().filter(|event| event.stream == stream).map(|event| event.version);
            assert!(of_it.eq(first..3_000), "{first}");
            assert_eq!(
                bodies(&opened.events, "a", 0, Direction::Forward).await,
                numbers(first..3_000)
            );
            match first {
                0 => whole += 1,
                2_700 => gone += 1,
                other => panic!("{other}"),
            }
        });
    }
    assert!(whole > 0 && gone > 0, "{whole} {gone}");
}

#[test]
fn a_follower_goes_from_history_to_what_comes_without_a_gap() {
    block(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        let store = opened.events.clone();
        store.append(AppendBatch::of(name("a"), Expected::None, events(0..100))).await.unwrap();
        let limits = PageLimits { events: 10, bytes: 1 << 20, ..PageLimits::default() };
        let mut all = store.follow(Followed::All { from: 50 }, limits);
        let mut one = store.follow(Followed::Stream { name: name("b"), from: 1 }, limits);
        let append = async {
            for id in 100..400 {
                let stream = if id % 2 == 0 { "a" } else { "b" };
                let mut batch = AppendBatch::of(name(stream), Expected::Any, events(id..id + 1));
                batch.durability = if id % 3 == 0 { Durability::Memory } else { Durability::Fsync };
                store.append(batch).await.unwrap();
            }
        };
        let follow = async {
            let mut positions = Vec::new();
            while positions.last() != Some(&399) {
                if let Told::Event(event) = all.next().await.unwrap() {
                    positions.push(event.position);
                }
            }
            assert_eq!(positions, (50..400).collect::<Vec<_>>());
            // It may have caught up before, and has now.
            assert_eq!(all.next().await.unwrap(), Told::CaughtUp);
        };
        let other = async {
            let mut versions = Vec::new();
            while versions.last() != Some(&149) {
                if let Told::Event(event) = one.next().await.unwrap() {
                    assert_eq!(event.stream, name("b"));
                    versions.push(event.version);
                }
            }
            assert!(versions.into_iter().eq(1..150));
        };
        tokio::join!(append, follow, other);
    });
}

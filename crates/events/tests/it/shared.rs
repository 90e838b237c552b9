//! Shared subscriptions on a simulated disk: consumers that come and go, and power that fails.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use weft_events::{
    AppendBatch, Expected,
    shared::{Consumer, Definition, GiveBack, SharedName, SharedSubscriptions, Source, Strategy},
    store::Change,
};
use weft_kernel::{Reason, Rng};
use weft_ledger::disk::SimulatedDisk;

use crate::streams::{Opened, block, event, events, name};

fn definition(source: Source) -> Definition {
    Definition {
        source,
        from: 0,
        strategy: Strategy::RoundRobin,
        lease_ms: 0,
        retries_max: 3,
        consumers_max: 3,
        ahead: 20,
        note: b"note".to_vec(),
    }
}

fn orders() -> SharedName {
    SharedName { stream: name("orders-1"), group: name("mail") }
}

async fn append(opened: &Opened, stream: &str, ids: std::ops::Range<u64>) {
    let batch = AppendBatch::of(name(stream), Expected::Any, events(ids));
    opened.events.append(batch).await.unwrap();
}

async fn join(shared: &SharedSubscriptions, room: usize) -> Consumer {
    shared.join(&orders(), room, |_| Ok(None)).await.unwrap()
}

/// The places of the next so many events.
async fn next(consumer: &mut Consumer, count: usize) -> Vec<u64> {
    let mut places = Vec::new();
    while places.len() < count {
        let ready = tokio::time::timeout(Duration::from_secs(30), consumer.ready());
        ready.await.expect("in time").unwrap();
        while places.len() < count
            && let Some(handed) = consumer.take()
        {
            places.push(handed.place);
        }
    }
    places
}

#[test]
fn events_are_shared_and_go_on_after_a_restart() {
    block(async {
        let disk = SimulatedDisk::new();
        let opened = Opened::on(&disk).await;
        let shared = SharedSubscriptions::open(opened.events.clone()).await.unwrap();
        append(&opened, "orders-1", 0..10).await;
        append(&opened, "other-1", 0..10).await;
        let of = definition(Source::Stream("orders-1".into()));
        shared.create(&orders(), &of).await.unwrap();
        let again = shared.create(&orders(), &of).await.unwrap_err();
        assert_eq!(again.reason(), Reason::DefinitionConflict);
        let mut one = join(&shared, 4).await;
        let mut two = join(&shared, 4).await;
        assert_eq!(next(&mut one, 4).await, [0, 2, 4, 6]);
        assert_eq!(next(&mut two, 4).await, [1, 3, 5, 7]);
        one.accept(&[0, 4]).await.unwrap();
        two.accept(&[1]).await.unwrap();
        two.give_back(&[3], &GiveBack::Park("broken".into())).await.unwrap();
        let info = shared.info(&orders()).await.unwrap();
        assert_eq!((info.done, info.parked, info.consumers.len()), (2, 1, 2));
        // The power fails: what was not settled comes again, and nothing else.
        disk.halt();
        drop((one, two, shared, opened));
        disk.reopen();
        let opened = Opened::on(&disk).await;
        let shared = SharedSubscriptions::open(opened.events.clone()).await.unwrap();
        let info = shared.info(&orders()).await.unwrap();
        assert_eq!((info.done, info.parked, info.definition), (2, 1, of));
        let mut one = join(&shared, 100).await;
        assert_eq!(next(&mut one, 6).await, [2, 5, 6, 7, 8, 9]);
        append(&opened, "orders-1", 10..12).await;
        assert_eq!(next(&mut one, 2).await, [10, 11]);
        shared.replay(&orders(), None, |_| Ok(None)).await.unwrap();
        assert_eq!(next(&mut one, 1).await, [3]);
        one.accept(&[2, 3, 5, 6, 7, 8, 9, 10, 11]).await.unwrap();
        let info = shared.info(&orders()).await.unwrap();
        assert_eq!((info.done, info.parked, info.held), (12, 0, 0));
        let all = shared.list(None).await.unwrap();
        assert_eq!(all.len(), 1);
        assert!(shared.list(Some(&name("orders"))).await.unwrap().is_empty());
    });
}

#[test]
fn who_hangs_or_goes_loses_what_it_has_and_what_is_broken_is_parked() {
    block(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        let shared = SharedSubscriptions::open(opened.events.clone()).await.unwrap();
        append(&opened, "orders-1", 0..3).await;
        let source = Source::Category("orders".into());
        let of = Definition { lease_ms: 1_000, retries_max: 2, ..definition(source) };
        shared.create(&orders(), &of).await.unwrap();
        let mut hangs = join(&shared, 2).await;
        assert_eq!(next(&mut hangs, 2).await, [0, 1]);
        let mut works = join(&shared, 5).await;
        assert_eq!(next(&mut works, 1).await, [2]);
        works.accept(&[2]).await.unwrap();
        // In turn means that who hangs is asked again; it loses that, too.
        let mut found = BTreeSet::new();
        for _ in 0..2 {
            let one = next(&mut works, 1).await;
            works.accept(&one).await.unwrap();
            found.extend(one);
        }
        assert_eq!(found, BTreeSet::from([0, 1]));
        append(&opened, "orders-1", 3..4).await;
        for _ in 0..3 {
            assert_eq!(next(&mut works, 1).await, [3]);
            works.give_back(&[3], &GiveBack::Retry("no".into())).await.unwrap();
        }
        let info = shared.info(&orders()).await.unwrap();
        assert_eq!((info.parked, info.done), (1, 4));
        append(&opened, "orders-1", 4..5).await;
        assert_eq!(next(&mut works, 1).await, [4]);
        drop(works);
        assert_eq!(next(&mut hangs, 1).await, [4]);
        let mut works = join(&shared, 5).await;
        let (found, ()) = tokio::join!(next(&mut works, 1), async { drop(hangs) });
        assert_eq!(found, [4]);
    });
}

#[test]
fn what_was_changed_or_deleted_ends_for_its_consumers() {
    block(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        let shared = SharedSubscriptions::open(opened.events.clone()).await.unwrap();
        append(&opened, "orders-1", 0..5).await;
        shared.create(&orders(), &definition(Source::Type("test.happened".into()))).await.unwrap();
        let mut one = join(&shared, 2).await;
        assert_eq!(next(&mut one, 2).await, [0, 1]);
        one.accept(&[0]).await.unwrap();
        shared.update(&orders(), |old| Definition { consumers_max: 1, ..old }).await.unwrap();
        assert_eq!(one.ready().await.unwrap_err().reason(), Reason::NoSubscription);
        assert_eq!(one.accept(&[1]).await.unwrap_err().reason(), Reason::NoSubscription);
        let mut two = join(&shared, 1).await;
        let full = shared.join(&orders(), 1, |_| Ok(None)).await.err().unwrap();
        assert_eq!(full.reason(), Reason::Conflict);
        assert_eq!(next(&mut two, 1).await, [1]);
        two.give_back(&[1], &GiveBack::Park(String::new())).await.unwrap();
        assert_eq!(next(&mut two, 1).await, [2]);
        let orders = orders();
        let (ended, deleted) = tokio::join!(two.ready(), shared.delete(&orders));
        deleted.unwrap();
        assert_eq!(ended.unwrap_err().reason(), Reason::NoSubscription);
        assert_eq!(shared.info(&orders).await.unwrap_err().reason(), Reason::NoSubscription);
        // One of the same name begins anew, and has nothing parked.
        shared.create(&orders, &definition(Source::All)).await.unwrap();
        assert_eq!(shared.info(&orders).await.unwrap().parked, 0);
        assert_eq!(next(&mut join(&shared, 2).await, 2).await, [0, 1]);
    });
}

#[test]
fn events_that_have_gone_are_passed_over() {
    block(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        let shared = SharedSubscriptions::open(opened.events.clone()).await.unwrap();
        append(&opened, "orders-1", 0..6).await;
        let of = definition(Source::Stream("orders-1".into()));
        shared.create(&orders(), &of).await.unwrap();
        let mut one = join(&shared, 2).await;
        assert_eq!(next(&mut one, 2).await, [0, 1]);
        drop(one);
        let stream = name("orders-1");
        let changed = opened.events.change(&stream, Expected::Any, Change::Truncate(4));
        changed.await.unwrap();
        let mut one = join(&shared, 9).await;
        assert_eq!(next(&mut one, 2).await, [4, 5]);
        one.accept(&[4, 5]).await.unwrap();
        assert_eq!(shared.info(&orders()).await.unwrap().done, 6);
    });
}

/// What was acknowledged over all lives.
#[derive(Default)]
struct Told {
    appended: Mutex<u64>,
    done: Mutex<BTreeSet<u64>>,
    parked: Mutex<BTreeSet<u64>>,
    /// What somebody has tried to settle.
    tried: Mutex<BTreeSet<u64>>,
}

async fn work(
    opened: &Opened,
    shared: &SharedSubscriptions,
    told: &Told,
    rng: &mut Rng,
    disk: &SimulatedDisk,
) {
    let mut left = 15 + rng.below(25);
    let Ok(mut consumer) = shared.join(&orders(), 1 + rng.below(9) as usize, |_| Ok(None)).await
    else {
        return;
    };
    while left > 0 && !disk.halted() {
        left -= 1;
        let ready = tokio::time::timeout(Duration::from_millis(5), consumer.ready()).await;
        if !matches!(ready, Ok(Ok(()))) {
            continue;
        }
        let mut places = Vec::new();
        while let Some(handed) = consumer.take() {
            assert!(!told.done.lock().unwrap().contains(&handed.place), "{} again", handed.place);
            places.push(handed.place);
        }
        match rng.below(10) {
            0 => {
                if consumer.give_back(&places, &GiveBack::Park("x".into())).await.is_ok() {
                    told.parked.lock().unwrap().extend(&places);
                }
            }
            1 => drop(consumer.give_back(&places, &GiveBack::Untried).await),
            2 => return,
            _ => {
                told.tried.lock().unwrap().extend(&places);
                if consumer.accept(&places).await.is_ok() {
                    told.done.lock().unwrap().extend(&places);
                }
            }
        }
        if rng.below(30) == 0 {
            disk.halt();
        }
        if rng.below(3) == 0 {
            let id = { *told.appended.lock().unwrap() };
            let batch = AppendBatch::of(
                name("orders-1"),
                Expected::Any,
                vec![event(&format!("n{id}-{left}-{}", rng.below(1 << 40)))],
            );
            if opened.events.append(batch).await.is_ok() {
                *told.appended.lock().unwrap() += 1;
            }
        }
    }
}

#[test]
fn nothing_is_lost_and_nothing_done_comes_again_whenever_the_power_fails() {
    for seed in 0..6 {
        block(async {
            let (disk, told) = (SimulatedDisk::new(), Told::default());
            for life in 0..6 {
                let opened = Opened::on(&disk).await;
                let shared = SharedSubscriptions::open(opened.events.clone()).await.unwrap();
                if life == 0 {
                    append(&opened, "orders-1", 0..100).await;
                    *told.appended.lock().unwrap() = 100;
                    let of = Definition { retries_max: 1_000, ..definition(Source::All) };
                    shared.create(&orders(), &of).await.unwrap();
                }
                let mut rngs = [1, 2, 3].map(|one| Rng::seeded(seed * 1_000 + life * 10 + one));
                let [one, two, three] = &mut rngs;
                tokio::join!(
                    work(&opened, &shared, &told, one, &disk),
                    work(&opened, &shared, &told, two, &disk),
                    work(&opened, &shared, &told, three, &disk),
                );
                drop((shared, opened));
                disk.reopen();
            }
            // In peace each event that is not done or parked comes, and no other.
            let opened = Opened::on(&disk).await;
            let shared = SharedSubscriptions::open(opened.events.clone()).await.unwrap();
            shared.replay(&orders(), None, |_| Ok(None)).await.unwrap();
            let mut consumer = join(&shared, 50).await;
            let mut found = BTreeSet::new();
            while tokio::time::timeout(Duration::from_millis(300), consumer.ready()).await.is_ok() {
                let mut places = Vec::new();
                while let Some(handed) = consumer.take() {
                    places.push(handed.place);
                }
                consumer.accept(&places).await.unwrap();
                found.extend(places);
            }
            let done = told.done.lock().unwrap().clone();
            assert!(done.is_disjoint(&found), "seed {seed}: {found:?}");
            for place in 0..opened.events.next_position() {
                // What was settled and not told so may be either.
                let is_open = told.tried.lock().unwrap().contains(&place);
                assert!(
                    done.contains(&place) || found.contains(&place) || is_open,
                    "seed {seed}: {place}"
                );
            }
            let parked = told.parked.lock().unwrap().clone();
            assert!(
                parked.iter().all(|place| done.contains(place) || found.contains(place)),
                "seed {seed}"
            );
            let info = shared.info(&orders()).await.unwrap();
            assert_eq!((info.done, info.parked), (opened.events.next_position(), 0), "seed {seed}");
        });
    }
}

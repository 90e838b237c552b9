//! Timers: set, moved and cancelled by key, handed out when they are due, over with a transaction.

use std::time::Duration;

use weft_kernel::Reason;

use super::{Subject, fsync, listed, now_ms, publish, queue, reason, refusal};
use crate::{ExpectValue, MapId, MapOptions, NewRecord, Store, Timer};

listed! {
    a_timer_is_handed_out_when_it_is_due_until_it_is_ended
    a_timer_is_moved_and_cancelled_by_its_key
    what_a_timer_does_and_its_end_are_one_transaction
    timers_are_there_after_a_restart_and_come_again
    timers_come_to_their_own_namespace_alone
    entries_of_a_map_of_timers_do_not_expire
}

const LEASE: Duration = Duration::from_secs(30);

fn keys(timers: &[Timer]) -> Vec<String> {
    timers.iter().map(|timer| String::from_utf8(timer.key.to_vec()).unwrap()).collect()
}

async fn take(store: &dyn Store, limit: usize) -> Vec<Timer> {
    store.take_timers(limit, LEASE).await.unwrap()
}

async fn timers(store: &dyn Store, name: &str) -> MapId {
    store.create_map(name, MapOptions::TIMERS).await.unwrap()
}

async fn a_timer_is_handed_out_when_it_is_due_until_it_is_ended(subject: &dyn Subject) {
    let store = subject.store().namespace("timers-taken").unwrap();
    let map = timers(&*store, "t").await;
    let plain = store.create_map("t", MapOptions::default()).await;
    assert_eq!(reason(plain), Reason::DefinitionConflict);
    let now = now_ms(subject).await;
    assert_eq!(store.next_due().await.unwrap(), None);
    let set = fsync()
        .set_timer(map, "late", now + 20_000, "l")
        .set_timer(map, "soon", now + 5_000, "s")
        .set_timer(map, "sooner", now + 4_000, "r");
    let receipt = store.commit(set).await.unwrap();
    let due = store.next_due().await.unwrap().unwrap();
    assert!(take(&*store, 9).await.is_empty());
    subject.pass(Duration::from_secs(6)).await;
    let first = take(&*store, 1).await;
    assert_eq!(keys(&first), ["sooner"]);
    let timer = Timer {
        map,
        key: "sooner".into(),
        due_ms: now + 4_000,
        version: receipt.seq,
        data: "r".into(),
    };
    assert_eq!(first[0], timer);
    let second = take(&*store, 9).await;
    assert_eq!(keys(&second), ["soon"]);
    assert!(take(&*store, 9).await.is_empty(), "both are somebody's");
    assert!(store.next_due().await.unwrap().unwrap() > due);
    store.commit(fsync().end_timer(&second[0])).await.unwrap();
    let twice = store.commit(fsync().end_timer(&second[0])).await;
    assert_eq!(refusal(twice).1, Reason::VersionConflict);
    subject.pass(LEASE + Duration::from_secs(1)).await;
    assert_eq!(keys(&take(&*store, 9).await), ["sooner", "late"], "who had it did nothing");
    assert!(store.get(map, b"sooner").await.unwrap().is_some());
}

async fn a_timer_is_moved_and_cancelled_by_its_key(subject: &dyn Subject) {
    let store = subject.store().namespace("timers-moved").unwrap();
    let map = timers(&*store, "t").await;
    let now = now_ms(subject).await;
    let set =
        |key: &'static str, seconds: u64| fsync().set_timer(map, key, now + seconds * 1000, "");
    for key in ["moved", "cancelled", "taken"] {
        store.commit(set(key, 5)).await.unwrap();
    }
    store.commit(set("moved", 60)).await.unwrap();
    store.commit(fsync().delete(map, "cancelled", ExpectValue::Present)).await.unwrap();
    subject.pass(Duration::from_secs(6)).await;
    let taken = take(&*store, 9).await;
    assert_eq!(keys(&taken), ["taken"]);
    // It is set anew while somebody has it: who has it cannot end the new one.
    store.commit(set("taken", 30)).await.unwrap();
    let ended = store.commit(fsync().end_timer(&taken[0])).await;
    assert_eq!(refusal(ended).1, Reason::VersionConflict);
    assert!(take(&*store, 9).await.is_empty());
    subject.pass(Duration::from_secs(30)).await;
    assert_eq!(keys(&take(&*store, 9).await), ["taken"]);
    subject.pass(Duration::from_secs(25)).await;
    let moved = take(&*store, 9).await;
    assert_eq!(keys(&moved), ["moved"]);
    // Never due.
    store.commit(fsync().set_timer(map, "moved", 0, "")).await.unwrap();
    subject.pass(Duration::from_secs(6)).await;
    assert_eq!(keys(&take(&*store, 9).await), ["taken"]);
    subject.pass(Duration::from_secs(1000)).await;
    assert_eq!(keys(&take(&*store, 9).await), ["taken"]);
}

async fn what_a_timer_does_and_its_end_are_one_transaction(subject: &dyn Subject) {
    let store = subject.store().namespace("timers-once").unwrap();
    let map = timers(&*store, "t").await;
    let (log, _) = queue(&*store, "q").await;
    let now = now_ms(subject).await;
    store.commit(fsync().set_timer(map, "t", now + 1_000, "")).await.unwrap();
    subject.pass(Duration::from_secs(2)).await;
    let timer = take(&*store, 9).await.remove(0);
    subject.pass(LEASE + Duration::from_secs(1)).await;
    let again = take(&*store, 9).await.remove(0);
    assert_eq!(again, timer);
    let act = |timer: &Timer| fsync().append(log, NewRecord::new("done")).end_timer(timer);
    store.commit(act(&timer)).await.unwrap();
    assert_eq!(refusal(store.commit(act(&again)).await), (Some(1), Reason::VersionConflict));
    assert_eq!(store.log_stats(log).await.unwrap().records, 1, "it was done once");
    publish(&*store, log, &["other"]).await;
}

async fn timers_are_there_after_a_restart_and_come_again(subject: &dyn Subject) {
    let store = subject.store().namespace("timers-kept").unwrap();
    let map = timers(&*store, "t").await;
    let now = now_ms(subject).await;
    let set = fsync()
        .set_timer(map, "taken", now + 1_000, "a")
        .set_timer(map, "ended", now + 1_000, "")
        .set_timer(map, "later", now + 50_000, "b");
    store.commit(set).await.unwrap();
    subject.pass(Duration::from_secs(2)).await;
    let taken = take(&*store, 9).await;
    assert_eq!(keys(&taken), ["ended", "taken"]);
    store.commit(fsync().end_timer(&taken[0])).await.unwrap();
    subject.restart().await;
    let store = subject.store().namespace("timers-kept").unwrap();
    assert_eq!(timers(&*store, "t").await, map);
    let again = take(&*store, 9).await;
    assert_eq!(again, taken[1..], "nobody has it any more");
    subject.pass(Duration::from_secs(60)).await;
    let all = take(&*store, 9).await;
    assert_eq!(keys(&all), ["taken", "later"]);
    assert_eq!(all[1].data, "b");
    store.drop_map(map).await.unwrap();
    subject.pass(LEASE).await;
    assert!(take(&*store, 9).await.is_empty());
    assert_eq!(store.next_due().await.unwrap(), None);
}

async fn timers_come_to_their_own_namespace_alone(subject: &dyn Subject) {
    let root = subject.store();
    let (one, two) = (root.namespace("own-1").unwrap(), root.namespace("own-2").unwrap());
    let map = timers(&*one, "t").await;
    timers(&*two, "t").await;
    let now = now_ms(subject).await;
    two.commit(fsync().set_timer(map, "t", now + 1_000, "")).await.unwrap();
    subject.pass(Duration::from_secs(2)).await;
    assert_eq!(two.next_due().await.unwrap(), None);
    assert!(take(&*two, 9).await.is_empty() && take(&*root, 9).await.is_empty());
    assert_eq!(keys(&take(&*one, 9).await), ["t"]);
}

async fn entries_of_a_map_of_timers_do_not_expire(subject: &dyn Subject) {
    let store = subject.store().namespace("timers-stay").unwrap();
    let map = timers(&*store, "t").await;
    let now = now_ms(subject).await;
    store.commit(fsync().set_timer(map, "t", now + 1_000, "")).await.unwrap();
    subject.pass(Duration::from_secs(3600)).await;
    let value = store.get(map, b"t").await.unwrap().unwrap();
    assert_eq!(value.expires_ms, now + 1_000);
    assert_eq!(store.scan(map, b"", None, 9).await.unwrap().len(), 1);
    let absent = fsync().put(map, "t", "", ExpectValue::Absent);
    assert_eq!(refusal(store.commit(absent).await).1, Reason::VersionConflict);
}

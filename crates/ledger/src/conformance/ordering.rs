//! Order per key, and priorities.

use super::{Subject, accept, done, fsync, lease, listed, now_ms, queue_with, retry, texts};
use crate::{Due, GroupOptions, LogOptions, NewRecord, Op, options::AGEING};

listed! {
    one_record_of_a_key_is_out_at_a_time
    a_key_waits_for_its_retry_also_after_a_restart
    a_delayed_record_takes_its_place_in_its_key
    higher_priorities_go_first_and_none_starves
}

async fn one_record_of_a_key_is_out_at_a_time(subject: &dyn Subject) {
    let store = subject.store();
    let set = |options: &mut GroupOptions| options.keyed = true;
    let (log, group) = queue_with(&*store, "keys", LogOptions::default(), set).await;
    let mut publish = fsync();
    for (key, text) in
        [("x", "x1"), ("x", "x2"), ("y", "y1"), ("", "free"), ("x", "x3"), ("", "f2")]
    {
        publish = publish.append(log, NewRecord::new(text).keyed(key));
    }
    store.commit(publish).await.unwrap();
    let first = lease(&*store, group, 9).await;
    assert_eq!(texts(&first), ["x1", "y1", "free", "f2"]);
    assert!(lease(&*store, group, 9).await.is_empty());
    let stats = store.group_stats(group).await.unwrap();
    assert_eq!((stats.ready, stats.leased), (2, 4));
    accept(&*store, &first[..1]).await;
    let second = lease(&*store, group, 9).await;
    assert_eq!(texts(&second), ["x2"]);
    store.commit(fsync().with(retry(&second[0], Due::Now, true, ""))).await.unwrap();
    let again = lease(&*store, group, 9).await;
    assert_eq!(texts(&again), ["x2"], "a retry keeps the key");
    // The last of a key may be removed while it stands behind.
    store.commit(fsync().with(Op::Remove { log, position: 4, required: false })).await.unwrap();
    accept(&*store, &again).await;
    assert!(lease(&*store, group, 9).await.is_empty());
}

async fn a_delayed_record_takes_its_place_in_its_key(subject: &dyn Subject) {
    let store = subject.store();
    let set = |options: &mut GroupOptions| options.keyed = true;
    let (log, group) = queue_with(&*store, "keys/delayed", LogOptions::default(), set).await;
    let due_ms = now_ms(subject).await + 10_000;
    let delayed = NewRecord { due_ms, ..NewRecord::new("late").keyed("x") };
    let publish = fsync().append(log, delayed).append(log, NewRecord::new("x1").keyed("x"));
    store.commit(publish.append(log, NewRecord::new("x2").keyed("x"))).await.unwrap();
    let first = lease(&*store, group, 9).await;
    assert_eq!(texts(&first), ["x1"], "what is due later keeps nothing waiting");
    subject.pass(std::time::Duration::from_secs(11)).await;
    store.overdue(100).await.unwrap();
    assert!(lease(&*store, group, 9).await.is_empty(), "one of a key at a time");
    accept(&*store, &first).await;
    let mut rest = Vec::new();
    for _ in 0..2 {
        let next = lease(&*store, group, 9).await;
        assert_eq!(next.len(), 1);
        rest.extend(texts(&next));
        assert!(lease(&*store, group, 9).await.is_empty());
        accept(&*store, &next).await;
    }
    rest.sort_unstable();
    assert_eq!(rest, ["late", "x2"]);
}

async fn a_key_waits_for_its_retry_also_after_a_restart(subject: &dyn Subject) {
    let store = subject.store();
    let set = |options: &mut GroupOptions| options.keyed = true;
    let (log, group) = queue_with(&*store, "keys/retry", LogOptions::default(), set).await;
    let publish = ["x1", "x2", "y1"].iter().fold(fsync(), |transaction, text| {
        transaction.append(log, NewRecord::new(*text).keyed(text[..1].to_owned()))
    });
    store.commit(publish).await.unwrap();
    let leased = lease(&*store, group, 1).await;
    let due = Due::After(std::time::Duration::from_secs(60));
    store.commit(fsync().with(retry(&leased[0], due, true, ""))).await.unwrap();
    subject.restart().await;
    let store = subject.store();
    assert_eq!(texts(&lease(&*store, group, 9).await), ["y1"]);
    subject.pass(std::time::Duration::from_secs(61)).await;
    store.overdue(100).await.unwrap();
    let leased = lease(&*store, group, 9).await;
    assert_eq!(texts(&leased)[..1], ["x1".to_owned()]);
    accept(&*store, &leased[..1]).await;
    assert_eq!(texts(&lease(&*store, group, 9).await), ["x2"]);
}

async fn higher_priorities_go_first_and_none_starves(subject: &dyn Subject) {
    let store = subject.store();
    let set = |options: &mut GroupOptions| options.prioritized = true;
    let (log, group) = queue_with(&*store, "priorities", LogOptions::default(), set).await;
    let record = |text: &str, priority| NewRecord { priority, ..NewRecord::new(text.to_owned()) };
    let publish = fsync()
        .append(log, record("low", 0))
        .append(log, record("middle", 4))
        .append(log, record("high", 9))
        .append(log, record("high too", 9));
    store.commit(publish).await.unwrap();
    let first = lease(&*store, group, 3).await;
    assert_eq!(texts(&first), ["high", "high too", "middle"]);
    store.commit(fsync().with(retry(&first[2], Due::Now, false, ""))).await.unwrap();
    let again = lease(&*store, group, 1).await;
    assert_eq!(texts(&again), ["middle"], "a retry keeps its priority");
    store.commit(fsync().with(done(&again[0])).with(done(&first[0]))).await.unwrap();
    let flood =
        (0..100).fold(fsync(), |transaction, _| transaction.append(log, record("flood", 9)));
    store.commit(flood).await.unwrap();
    let leased = texts(&lease(&*store, group, 2 * AGEING).await);
    let place = leased.iter().position(|text| text == "low");
    assert!(place.is_some_and(|place| place <= AGEING as usize), "{place:?}");
}

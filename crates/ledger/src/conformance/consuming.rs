//! Consuming: queues, subscriptions, retries, who is served.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use weft_kernel::Reason;

use super::{
    Subject, accept, consumer, done, fsync, lease, lease_as, listed, polled, publish, queue,
    queue_with, reason, retry, texts,
};
use crate::{
    ConsumerId, Due, GroupConsumer, GroupOptions, GroupStart, LeaseLimits, Limits, LogOptions, Op,
    Settle, Standing,
};

listed! {
    a_queue_hands_out_in_order_and_forgets_what_is_done
    subscriptions_read_one_log_each_at_its_own_place
    what_is_given_back_comes_at_its_old_place
    notes_and_counts_survive_a_restart
    consumers_that_leave_give_back
    one_consumer_is_active_and_the_next_takes_over
    one_consumer_may_be_alone
    consumers_are_woken_one_by_one_in_order
    a_turn_that_is_not_used_is_passed_on
    a_paused_group_hands_out_nothing
    a_purge_leaves_what_is_leased
    bytes_bound_a_lease_but_for_the_first
    a_removed_record_voids_its_lease
    one_record_is_discarded_whatever_its_state
    peeking_tells_how_each_stands
}

async fn a_queue_hands_out_in_order_and_forgets_what_is_done(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "order").await;
    publish(&*store, log, &["a", "b", "c"]).await;
    let first = lease(&*store, group, 2).await;
    assert_eq!(texts(&first), ["a", "b"]);
    assert_eq!((first[0].handouts, first[0].failures), (1, 0));
    let second = lease(&*store, group, 9).await;
    assert_eq!(texts(&second), ["c"]);
    assert!(lease(&*store, group, 9).await.is_empty());
    accept(&*store, &second).await;
    accept(&*store, &first[..1]).await;
    let stats = store.group_stats(group).await.unwrap();
    assert_eq!((stats.ready, stats.leased, stats.done, stats.low), (0, 1, 2, 1));
    assert_eq!(store.log_stats(log).await.unwrap().records, 1);
    subject.restart().await;
    let store = subject.store();
    let left = lease(&*store, group, 9).await;
    assert_eq!(
        texts(&left),
        ["b"],
        "what was leased and not settled comes back, what is done does not"
    );
    accept(&*store, &left).await;
    assert_eq!(store.log_stats(log).await.unwrap().records, 0);
    assert_eq!(store.group_stats(group).await.unwrap().low, 3);
}

async fn subscriptions_read_one_log_each_at_its_own_place(subject: &dyn Subject) {
    let store = subject.store();
    let log = store.create_log("shared", LogOptions::default()).await.unwrap();
    let first = store.create_group("shared/first", GroupOptions::over(log)).await.unwrap();
    publish(&*store, log, &["a", "b"]).await;
    let start = |start| GroupOptions { start, ..GroupOptions::over(log) };
    let last = store.create_group("shared/last", start(GroupStart::Last)).await.unwrap();
    let next = store.create_group("shared/next", start(GroupStart::Next)).await.unwrap();
    publish(&*store, log, &["c"]).await;
    let leased = lease(&*store, first, 9).await;
    assert_eq!(texts(&leased), ["a", "b", "c"]);
    accept(&*store, &leased).await;
    subject.restart().await;
    let store = subject.store();
    assert_eq!(texts(&lease(&*store, last, 9).await), ["b", "c"]);
    assert_eq!(texts(&lease(&*store, next, 9).await), ["c"]);
    assert!(lease(&*store, first, 9).await.is_empty());
    assert_eq!(store.log_stats(log).await.unwrap().records, 3, "a shared log keeps what is done");
    store.commit(fsync().with(Op::Trim { log, before: 2 })).await.unwrap();
    assert_eq!(store.group_stats(last).await.unwrap().leased, 1);
}

async fn what_is_given_back_comes_at_its_old_place(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "place").await;
    publish(&*store, log, &["a", "b", "c", "d"]).await;
    let leased = lease(&*store, group, 3).await;
    let back = fsync().with(retry(&leased[2], Due::Now, false, "")).with(retry(
        &leased[0],
        Due::Now,
        true,
        "why",
    ));
    store.commit(back).await.unwrap();
    let again = lease(&*store, group, 9).await;
    assert_eq!(texts(&again), ["a", "c", "d"]);
    assert_eq!((again[0].handouts, again[0].failures), (2, 1));
    assert_eq!(again[0].note, "why");
    assert_eq!((again[1].handouts, again[1].failures), (2, 0));
}

async fn notes_and_counts_survive_a_restart(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "notes").await;
    publish(&*store, log, &["a", "b"]).await;
    for attempt in 1..=3 {
        let store = subject.store();
        let leased = lease(&*store, group, 1).await;
        assert_eq!((leased[0].handouts, leased[0].failures), (attempt, attempt - 1));
        store.commit(fsync().with(retry(&leased[0], Due::Now, true, "again"))).await.unwrap();
        subject.restart().await;
    }
    let store = subject.store();
    let leased = lease(&*store, group, 9).await;
    assert_eq!((leased[0].handouts, leased[0].failures), (4, 3));
    assert_eq!(leased[0].note, "again");
    assert_eq!((leased[1].handouts, leased[1].failures), (1, 0));
}

async fn consumers_that_leave_give_back(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "leave").await;
    publish(&*store, log, &["a", "b", "c"]).await;
    assert_eq!(store.join(group, consumer(1, 0)).await.unwrap().consumers, 1);
    assert_eq!(store.join(group, consumer(2, 0)).await.unwrap().consumers, 2);
    assert_eq!(reason(store.join(group, consumer(2, 0)).await), Reason::DefinitionConflict);
    let ask = LeaseLimits { consumer: ConsumerId(9), records: 1, bytes: 1, lease: None };
    assert_eq!(reason(store.lease(group, ask).await), Reason::NoMessage);
    let first = lease_as(&*store, group, 1, 2).await;
    let second = lease_as(&*store, group, 2, 2).await;
    assert_eq!((texts(&first), texts(&second)), (vec!["a".into(), "b".into()], vec!["c".into()]));
    store.leave(group, ConsumerId(1), true).await.unwrap();
    let again = lease_as(&*store, group, 2, 9).await;
    assert_eq!(texts(&again), ["a", "b"]);
    assert_eq!((again[0].handouts, again[0].failures), (2, 0));
    store.leave(group, ConsumerId(2), false).await.unwrap();
    assert_eq!(store.group_stats(group).await.unwrap().leased, 3);
    accept(&*store, &again).await;
}

async fn one_consumer_is_active_and_the_next_takes_over(subject: &dyn Subject) {
    let store = subject.store();
    let set = |options: &mut GroupOptions| options.single = true;
    let (log, group) = queue_with(&*store, "single", LogOptions::default(), set).await;
    publish(&*store, log, &["a", "b"]).await;
    assert!(store.join(group, consumer(1, 0)).await.unwrap().active);
    assert!(!store.join(group, consumer(2, 0)).await.unwrap().active);
    assert!(lease_as(&*store, group, 2, 9).await.is_empty());
    assert_eq!(texts(&lease_as(&*store, group, 1, 1).await), ["a"]);
    assert!(
        store.join(group, consumer(3, 5)).await.unwrap().active,
        "a higher priority takes over"
    );
    assert!(!store.active(group, ConsumerId(1)).await.unwrap());
    store.leave(group, ConsumerId(3), true).await.unwrap();
    assert!(store.active(group, ConsumerId(1)).await.unwrap(), "then the one that joined first");
    store.leave(group, ConsumerId(1), true).await.unwrap();
    assert!(store.active(group, ConsumerId(2)).await.unwrap());
    assert_eq!(texts(&lease_as(&*store, group, 2, 9).await), ["a", "b"]);
    store.leave(group, ConsumerId(2), true).await.unwrap();
}

async fn one_consumer_may_be_alone(subject: &dyn Subject) {
    let store = subject.store();
    let (_, group) = queue(&*store, "alone").await;
    let alone = |id| GroupConsumer { exclusive: true, ..consumer(id, 0) };
    store.join(group, alone(1)).await.unwrap();
    assert_eq!(reason(store.join(group, consumer(2, 0)).await), Reason::QueueLocked);
    store.leave(group, ConsumerId(1), true).await.unwrap();
    store.join(group, consumer(2, 0)).await.unwrap();
    assert_eq!(reason(store.join(group, alone(1)).await), Reason::QueueLocked);
    store.leave(group, ConsumerId(2), true).await.unwrap();
}

async fn consumers_are_woken_one_by_one_in_order(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "turns").await;
    for (id, priority) in [(1, 0), (2, 0), (3, 1)] {
        store.join(group, consumer(id, priority)).await.unwrap();
    }
    let mut first = pin!(store.ready(group, ConsumerId(1)));
    let mut second = pin!(store.ready(group, ConsumerId(2)));
    let mut third = pin!(store.ready(group, ConsumerId(3)));
    assert!(polled(first.as_mut()).await.is_pending());
    assert!(polled(second.as_mut()).await.is_pending());
    assert!(polled(third.as_mut()).await.is_pending());
    publish(&*store, log, &["a", "b", "c"]).await;
    assert!(polled(first.as_mut()).await.is_pending(), "a higher priority comes first");
    third.await.unwrap();
    assert_eq!(texts(&lease_as(&*store, group, 3, 1).await), ["a"]);
    assert!(polled(second.as_mut()).await.is_pending(), "who waited longer comes first");
    first.await.unwrap();
    assert_eq!(texts(&lease_as(&*store, group, 1, 1).await), ["b"]);
    second.await.unwrap();
    assert_eq!(texts(&lease_as(&*store, group, 2, 1).await), ["c"]);
    for id in 1..=3 {
        store.leave(group, ConsumerId(id), true).await.unwrap();
    }
}

async fn a_turn_that_is_not_used_is_passed_on(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "passed").await;
    store.join(group, consumer(1, 0)).await.unwrap();
    store.join(group, consumer(2, 0)).await.unwrap();
    let mut second = pin!(store.ready(group, ConsumerId(2)));
    {
        let mut first = pin!(store.ready(group, ConsumerId(1)));
        assert!(polled(first.as_mut()).await.is_pending());
        assert!(polled(second.as_mut()).await.is_pending());
        publish(&*store, log, &["a"]).await;
        // The first has the turn, and goes away without looking.
    }
    second.await.unwrap();
    assert_eq!(texts(&lease_as(&*store, group, 2, 1).await), ["a"]);
    store.leave(group, ConsumerId(1), true).await.unwrap();
    // Who is not there is not left waiting.
    store.ready(group, ConsumerId(1)).await.unwrap();
    store.leave(group, ConsumerId(2), true).await.unwrap();
}

async fn a_paused_group_hands_out_nothing(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "paused").await;
    store.join(group, consumer(1, 0)).await.unwrap();
    store.pause(group, true).await.unwrap();
    publish(&*store, log, &["a"]).await;
    assert!(store.group_stats(group).await.unwrap().paused);
    assert!(lease_as(&*store, group, 1, 1).await.is_empty());
    assert_eq!(texts(&lease(&*store, group, 0).await), [""; 0]);
    let mut waiting = pin!(store.ready(group, ConsumerId(1)));
    assert!(polled(waiting.as_mut()).await.is_pending());
    store.pause(group, false).await.unwrap();
    waiting.await.unwrap();
    assert_eq!(texts(&lease_as(&*store, group, 1, 1).await), ["a"]);
    store.leave(group, ConsumerId(1), true).await.unwrap();
}

async fn a_purge_leaves_what_is_leased(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "purge").await;
    publish(&*store, log, &["a", "b", "c", "d", "e"]).await;
    let leased = lease(&*store, group, 3).await;
    let mixed = fsync()
        .with(done(&leased[0]))
        .with(retry(&leased[2], Due::After(std::time::Duration::from_secs(60)), true, "x"))
        .with(Op::Purge { group });
    assert_eq!(store.commit(mixed).await.unwrap().purged, 3);
    let stats = store.group_stats(group).await.unwrap();
    assert_eq!((stats.ready, stats.leased, stats.waiting), (0, 1, 0));
    assert_eq!(store.log_stats(log).await.unwrap().records, 1);
    assert_eq!(store.commit(fsync().with(Op::Purge { group })).await.unwrap().purged, 0);
    publish(&*store, log, &["f"]).await;
    subject.restart().await;
    let left = lease(&*subject.store(), group, 9).await;
    assert_eq!(texts(&left), ["b", "f"]);
}

async fn bytes_bound_a_lease_but_for_the_first(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "bytes").await;
    let large = "x".repeat(1000);
    publish(&*store, log, &[&large, &large, &large]).await;
    let ask = |bytes| LeaseLimits { consumer: ConsumerId::SYSTEM, records: 9, bytes, lease: None };
    let one = store.lease(group, ask(1)).await.unwrap();
    assert_eq!(one.len(), 1);
    let two = store.lease(group, ask(3000)).await.unwrap();
    assert_eq!(two.len(), 2);
    assert_eq!(two[0].position, 1);
}

async fn a_removed_record_voids_its_lease(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "void").await;
    publish(&*store, log, &["a", "b", "c"]).await;
    let leased = lease(&*store, group, 2).await;
    let remove =
        fsync().with(Op::Remove { log, position: 0, required: false }).with(done(&leased[0]));
    assert_eq!(super::refusal(store.commit(remove).await), (Some(1), Reason::LeaseLost));
    store.commit(fsync().with(Op::Remove { log, position: 0, required: false })).await.unwrap();
    let late = store.commit(fsync().with(done(&leased[0]))).await;
    assert_eq!(super::refusal(late).1, Reason::LeaseLost);
    store.commit(fsync().with(Op::Trim { log, before: 2 })).await.unwrap();
    let late = store.commit(fsync().with(done(&leased[1]))).await;
    assert_eq!(super::refusal(late).1, Reason::LeaseLost);
    assert_eq!(texts(&lease(&*store, group, 9).await), ["c"]);
    assert_eq!(store.log_stats(log).await.unwrap().records, 1);
}

async fn one_record_is_discarded_whatever_its_state(subject: &dyn Subject) {
    let store = subject.store();
    for owns in [true, false] {
        let name = format!("discard {owns}");
        let log = store.create_log(&name, LogOptions::default()).await.unwrap();
        let options = if owns { GroupOptions::owning(log) } else { GroupOptions::over(log) };
        let group = store.create_group(&name, options).await.unwrap();
        publish(&*store, log, &["a", "b", "c", "d", "e"]).await;
        let leased = lease(&*store, group, 3).await;
        let later = Settle::Retry {
            due: Due::After(Duration::from_secs(60)),
            failed: true,
            note: Bytes::new(),
        };
        let waits = fsync().settle(group, 1, leased[1].token, later);
        store.commit(waits.with(done(&leased[2]))).await.unwrap();
        let discard = |position, held| Op::Discard { group, position, held };
        for (position, held, reason) in [
            (0, false, Reason::VersionConflict),
            (2, true, Reason::NoMessage),
            (5, true, Reason::NoMessage),
        ] {
            let refused = store.commit(fsync().with(discard(position, held))).await;
            assert_eq!(super::refusal(refused), (Some(0), reason), "{position}");
        }
        let twice = fsync().with(discard(3, false)).with(discard(3, false));
        assert_eq!(super::refusal(store.commit(twice).await), (Some(1), Reason::NoMessage));
        let settled = fsync().with(discard(0, true)).with(done(&leased[0]));
        assert_eq!(super::refusal(store.commit(settled).await), (Some(1), Reason::LeaseLost));
        let all = fsync().with(discard(0, true)).with(discard(1, false)).with(discard(3, false));
        store.commit(all).await.unwrap();
        let late = store.commit(fsync().with(done(&leased[0]))).await;
        assert_eq!(super::refusal(late).1, Reason::LeaseLost);
        let records = if owns { 1 } else { 5 };
        assert_eq!(store.log_stats(log).await.unwrap().records, records);
    }
    subject.restart().await;
    let store = subject.store();
    for owns in [true, false] {
        let (group, _) = store.find_group(&format!("discard {owns}")).await.unwrap().unwrap();
        assert_eq!(texts(&lease(&*store, group, 9).await), ["e"], "{owns}");
    }
}

async fn peeking_tells_how_each_stands(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "peek").await;
    publish(&*store, log, &["a", "b", "c", "d"]).await;
    let leased = lease(&*store, group, 3).await;
    let due = Due::After(std::time::Duration::from_secs(60));
    let settle = fsync().with(done(&leased[0])).with(retry(&leased[2], due, true, "note"));
    store.commit(settle).await.unwrap();
    let seen = store.peek(group, 0, Limits::default()).await.unwrap();
    let found: Vec<u64> = seen.iter().map(|(exception, _)| exception.position).collect();
    assert_eq!(found, [1, 2, 3]);
    assert!(matches!(seen[0].0.standing, Standing::Leased { consumer: ConsumerId::SYSTEM, .. }));
    assert!(matches!(seen[1].0.standing, Standing::Waiting { .. }));
    assert_eq!((seen[1].0.failures, &seen[1].0.note[..]), (1, &b"note"[..]));
    assert_eq!(seen[2].0.standing, Standing::Ready);
    let items: Vec<_> = seen.into_iter().map(|(_, item)| item).collect();
    assert_eq!(super::read_texts(&items), ["b", "c", "d"]);
    assert_eq!(
        store.peek(group, 2, Limits { records: 1, bytes: 1 }).await.unwrap()[0].0.position,
        2
    );
}

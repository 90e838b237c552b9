//! Namespaces: names and what is due are apart, transactions are not.

use std::{pin::Pin, time::Duration};

use weft_kernel::Reason;

use super::{
    Subject, fsync, lease, listed, now_ms, polled, publish, queue, reason, refusal, texts,
};
use crate::{ExpectValue, GroupOptions, LogOptions, MapOptions, NewRecord, Why};

listed! {
    names_of_a_namespace_are_its_own
    a_namespace_is_there_after_a_restart
    a_transaction_spans_namespaces
    what_is_due_comes_to_its_own_namespace_alone
    a_namespace_hears_of_what_is_due_sooner_in_it
}

async fn names_of_a_namespace_are_its_own(subject: &dyn Subject) {
    let root = subject.store();
    let (one, two) = (root.namespace("one").unwrap(), root.namespace("two").unwrap());
    let options = LogOptions::default();
    let mut logs = Vec::new();
    for store in [&root, &one, &two] {
        let log = store.create_log("apart", options.clone()).await.unwrap();
        store.create_group("apart", GroupOptions::owning(log)).await.unwrap();
        assert!(!logs.contains(&log), "each has a log of its own");
        logs.push(log);
        assert_eq!(store.find_log("apart").await.unwrap().map(|(id, _)| id), Some(log));
    }
    let listed = one.logs("", None, 9).await.unwrap();
    assert_eq!(listed.iter().map(|(name, ..)| &name[..]).collect::<Vec<_>>(), ["apart"]);
    assert!(one.logs("", Some("apart"), 9).await.unwrap().is_empty());
    assert_eq!(two.groups("ap", None, 9).await.unwrap().len(), 1);
    let all = root.logs("", None, 1000).await.unwrap();
    let of_root = all.iter().filter(|(name, ..)| name.contains("apart"));
    assert_eq!(of_root.count(), 1, "the root lists no names of others");
    let maps = [
        one.create_map("apart", MapOptions::default()).await.unwrap(),
        two.create_map("apart", MapOptions::default()).await.unwrap(),
    ];
    assert_ne!(maps[0], maps[1]);
    // The same namespace, from wherever it is asked for.
    let again = two.namespace("one").unwrap();
    assert_eq!(again.find_log("apart").await.unwrap().map(|(id, _)| id), Some(logs[1]));
    one.drop_log(logs[1]).await.unwrap();
    assert!(one.find_log("apart").await.unwrap().is_none());
    assert!(root.find_log("apart").await.unwrap().is_some());
    for wrong in ["", "One", "a/b", "\0one"] {
        assert_eq!(reason(root.namespace(wrong).map(|_| ())), Reason::MalformedRequest, "{wrong}");
    }
    let inside = root.create_log("\0one\0apart", options).await;
    assert_eq!(reason(inside), Reason::MalformedRequest, "no name reaches into a namespace");
}

async fn a_namespace_is_there_after_a_restart(subject: &dyn Subject) {
    let store = subject.store().namespace("kept").unwrap();
    let (log, _) = queue(&*store, "q").await;
    let map = store.create_map("m", MapOptions::default()).await.unwrap();
    publish(&*store, log, &["a"]).await;
    store.commit(fsync().put(map, "k", "v", ExpectValue::Any)).await.unwrap();
    subject.restart().await;
    let store = subject.store().namespace("kept").unwrap();
    let (again, group) = queue(&*store, "q").await;
    assert_eq!(again, log);
    assert_eq!(texts(&lease(&*store, group, 9).await), ["a"]);
    assert_eq!(store.create_map("m", MapOptions::default()).await.unwrap(), map);
    assert_eq!(store.get(map, b"k").await.unwrap().unwrap().data, "v");
}

async fn a_transaction_spans_namespaces(subject: &dyn Subject) {
    let root = subject.store();
    let (one, two) = (root.namespace("from").unwrap(), root.namespace("to").unwrap());
    let (from, group) = queue(&*one, "q").await;
    let (to, _) = queue(&*two, "q").await;
    let map = two.create_map("m", MapOptions::default()).await.unwrap();
    publish(&*one, from, &["a"]).await;
    let leased = lease(&*one, group, 1).await;
    let moved = || {
        fsync().with(super::done(&leased[0])).append(to, NewRecord::new("a")).put(
            map,
            "moved",
            "1",
            ExpectValue::Absent,
        )
    };
    two.commit(moved()).await.unwrap();
    assert_eq!(one.log_stats(from).await.unwrap().records, 0);
    assert_eq!(two.log_stats(to).await.unwrap().records, 1);
    assert_eq!(refusal(one.commit(moved()).await).1, Reason::LeaseLost);
    assert_eq!(two.log_stats(to).await.unwrap().records, 1);
}

async fn what_is_due_comes_to_its_own_namespace_alone(subject: &dyn Subject) {
    let root = subject.store();
    let (one, two) = (root.namespace("due-1").unwrap(), root.namespace("due-2").unwrap());
    let (log, group) = queue(&*one, "q").await;
    let (other_log, other) = queue(&*two, "q").await;
    let expires_ms = now_ms(subject).await + 5_000;
    let expiring = |text: &'static str| NewRecord { expires_ms, ..NewRecord::new(text) };
    let both = fsync().append(log, expiring("one")).append(other_log, expiring("two"));
    root.commit(both).await.unwrap();
    subject.pass(Duration::from_secs(6)).await;
    let foreign = root.overdue(1000).await.unwrap();
    assert!(foreign.iter().all(|delivery| ![group, other].contains(&delivery.group)));
    // That nobody asks for what is due in the first keeps nothing from the second.
    let over = two.overdue(100).await.unwrap();
    assert_eq!((texts(&over), over[0].why), (vec!["two".to_owned()], Why::Expired));
    assert_eq!(over[0].group, other);
    assert!(two.overdue(100).await.unwrap().is_empty());
    assert!(one.next_due().await.unwrap().is_some());
    assert_eq!(texts(&one.overdue(100).await.unwrap()), ["one"], "it has waited");
}

async fn a_namespace_hears_of_what_is_due_sooner_in_it(subject: &dyn Subject) {
    let root = subject.store();
    let (one, two) = (root.namespace("hears-1").unwrap(), root.namespace("hears-2").unwrap());
    let (log, _) = queue(&*one, "q").await;
    let (other, _) = queue(&*two, "q").await;
    let now = now_ms(subject).await;
    assert_eq!((one.next_due().await.unwrap(), two.next_due().await.unwrap()), (None, None));
    let later = |seconds: u64| NewRecord { due_ms: now + seconds * 1000, ..NewRecord::new("m") };
    let (mut first, mut second) = (one.due_changed(), two.due_changed());
    assert!(polled(Pin::new(&mut first)).await.is_pending());
    assert!(polled(Pin::new(&mut second)).await.is_pending());
    one.commit(fsync().append(log, later(8))).await.unwrap();
    first.await.unwrap();
    assert!(polled(Pin::new(&mut second)).await.is_pending(), "that is of the other");
    let due = one.next_due().await.unwrap().unwrap();
    let mut first = one.due_changed();
    one.commit(fsync().append(log, later(9))).await.unwrap();
    assert!(polled(Pin::new(&mut first)).await.is_pending(), "that is later");
    one.commit(fsync().append(log, later(3))).await.unwrap();
    first.await.unwrap();
    assert!(one.next_due().await.unwrap().unwrap() < due);
    two.commit(fsync().append(other, later(2))).await.unwrap();
    second.await.unwrap();
}

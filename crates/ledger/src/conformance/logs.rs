//! Logs: definitions, appending, reading, trimming, removing.

use std::time::Duration;

use weft_kernel::Reason;

use super::{Subject, accept, fsync, lease, listed, publish, queue, read_texts, reason, refusal};
use crate::{
    DedupeWindow, Expect, GroupOptions, Limit, Limits, LogId, LogOptions, NewRecord, Op, Storage,
};

listed! {
    definitions_are_found_by_name_and_do_not_change_in_passing
    positions_are_gapless_and_expected_ones_are_checked
    a_log_is_read_from_anywhere_within_its_limits
    what_is_trimmed_or_removed_is_gone
    a_record_that_must_be_there_is_removed_once
    a_full_log_refuses_and_takes_nothing
    an_id_in_the_window_is_not_appended_twice
    a_log_in_memory_is_gone_after_a_restart
    a_log_of_disk_is_there_after_a_restart
    a_position_is_found_by_its_time
    names_are_listed_by_prefix
}

async fn definitions_are_found_by_name_and_do_not_change_in_passing(subject: &dyn Subject) {
    let store = subject.store();
    let log = store.create_log("define", LogOptions::default()).await.unwrap();
    assert_eq!(store.create_log("define", LogOptions::default()).await.unwrap(), log);
    let other = LogOptions { ordered: true, ..LogOptions::default() };
    assert_eq!(reason(store.create_log("define", other).await), Reason::DefinitionConflict);
    assert_eq!(store.find_log("define").await.unwrap(), Some((log, LogOptions::default())));
    let limited = LogOptions {
        limit: Some(Limit { records: Some(1), bytes: None }),
        ..LogOptions::default()
    };
    store.alter_log(log, limited.clone()).await.unwrap();
    let memory = LogOptions { storage: Storage::Memory, ..LogOptions::default() };
    assert_eq!(reason(store.alter_log(log, memory).await), Reason::DefinitionConflict);
    let group = store.create_group("define", GroupOptions::owning(log)).await.unwrap();
    let second = store.create_group("define/2", GroupOptions::over(log)).await;
    assert_eq!(reason(second), Reason::DefinitionConflict);
    subject.restart().await;
    let store = subject.store();
    assert_eq!(store.find_log("define").await.unwrap(), Some((log, limited)));
    assert_eq!(store.find_group("define").await.unwrap().unwrap().0, group);
    store.drop_log(log).await.unwrap();
    assert_eq!(store.find_log("define").await.unwrap(), None);
    assert_eq!(store.find_group("define").await.unwrap(), None);
    assert_eq!(reason(store.log_stats(log).await), Reason::NoMessage);
    let again = store.create_log("define", LogOptions::default()).await.unwrap();
    assert_ne!(again, log, "a number is not given twice");
    for name in ["", &"x".repeat(513)] {
        let made = store.create_log(name, LogOptions::default()).await;
        assert_eq!(reason(made), Reason::MalformedRequest);
    }
}

async fn positions_are_gapless_and_expected_ones_are_checked(subject: &dyn Subject) {
    let store = subject.store();
    let log = store.create_log("positions", LogOptions::default()).await.unwrap();
    assert_eq!(publish(&*store, log, &["a", "b"]).await, [0, 1]);
    let expect =
        |position| Op::Append { log, expect: Expect::Next(position), record: NewRecord::new("c") };
    let refused = store.commit(fsync().with(expect(2)).with(expect(2))).await;
    assert_eq!(refusal(refused), (Some(1), Reason::PositionConflict));
    assert_eq!(store.log_stats(log).await.unwrap().end, 2, "nothing of it was applied");
    store.commit(fsync().with(expect(2)).with(expect(3))).await.unwrap();
    let nowhere = store.commit(fsync().append(LogId(u32::MAX), NewRecord::new("x"))).await;
    assert_eq!(refusal(nowhere), (Some(0), Reason::NoMessage));
    let large = store.commit(fsync().append(log, NewRecord::new(vec![0; 64 << 20]))).await;
    assert_eq!(refusal(large).1, Reason::MessageTooLarge);
    assert_eq!(refusal(store.commit(fsync()).await).1, Reason::MalformedRequest);
}

async fn a_log_is_read_from_anywhere_within_its_limits(subject: &dyn Subject) {
    let store = subject.store();
    let log = store.create_log("read", LogOptions::default()).await.unwrap();
    publish(&*store, log, &["a", "b", "c", "d"]).await;
    let all = store.read(log, 0, Limits::default()).await.unwrap();
    assert_eq!(read_texts(&all), ["a", "b", "c", "d"]);
    let two = store.read(log, 1, Limits { records: 2, bytes: 1 << 20 }).await.unwrap();
    assert_eq!(read_texts(&two), ["b", "c"]);
    let one = store.read(log, 1, Limits { records: 9, bytes: 1 }).await.unwrap();
    assert_eq!(read_texts(&one), ["b"], "one at least");
    assert!(store.read(log, 4, Limits::default()).await.unwrap().is_empty());
}

async fn what_is_trimmed_or_removed_is_gone(subject: &dyn Subject) {
    let store = subject.store();
    let log = store.create_log("trim", LogOptions::default()).await.unwrap();
    publish(&*store, log, &["a", "b", "c", "d", "e"]).await;
    let cut = fsync()
        .with(Op::Trim { log, before: 2 })
        .with(Op::Remove { log, position: 3, required: false })
        .with(Op::Remove { log, position: 3, required: false });
    store.commit(cut).await.unwrap();
    for _ in 0..2 {
        let store = subject.store();
        let items = store.read(log, 0, Limits::default()).await.unwrap();
        assert_eq!(read_texts(&items), ["c", "e"]);
        let stats = store.log_stats(log).await.unwrap();
        assert_eq!((stats.first, stats.end, stats.records), (2, 5, 2));
        subject.restart().await;
    }
    let store = subject.store();
    store.commit(fsync().with(Op::Trim { log, before: u64::MAX })).await.unwrap();
    let stats = store.log_stats(log).await.unwrap();
    assert_eq!((stats.first, stats.end, stats.records, stats.bytes), (5, 5, 0, 0));
    assert_eq!(publish(&*store, log, &["f"]).await, [5], "positions are not given twice");
}

async fn a_record_that_must_be_there_is_removed_once(subject: &dyn Subject) {
    let store = subject.store();
    let log = store.create_log("required", LogOptions::default()).await.unwrap();
    publish(&*store, log, &["a", "b", "c", "d"]).await;
    let remove = |position| Op::Remove { log, position, required: true };
    let missing = |result| assert_eq!(refusal(result), (Some(1), Reason::NoMessage));
    store.commit(fsync().with(remove(1))).await.unwrap();
    for none in [1, 4] {
        missing(store.commit(fsync().with(remove(0)).with(remove(none))).await);
    }
    missing(store.commit(fsync().with(remove(0)).with(remove(0))).await);
    let trim = fsync().with(Op::Trim { log, before: 3 });
    missing(store.commit(trim.with(remove(2))).await);
    let items = store.read(log, 0, Limits::default()).await.unwrap();
    assert_eq!(read_texts(&items), ["a", "c", "d"], "what is refused removes nothing");
    let (log, group) = queue(&*store, "required/queue").await;
    publish(&*store, log, &["a", "b"]).await;
    let leased = lease(&*store, group, 1).await;
    let remove = |position| Op::Remove { log, position, required: true };
    missing(store.commit(fsync().with(super::done(&leased[0])).with(remove(0))).await);
    accept(&*store, &leased).await;
    let gone = store.commit(fsync().with(remove(0))).await;
    assert_eq!(refusal(gone), (Some(0), Reason::NoMessage));
    store.commit(fsync().with(remove(1))).await.unwrap();
    assert_eq!(store.log_stats(log).await.unwrap().records, 0);
}

async fn a_full_log_refuses_and_takes_nothing(subject: &dyn Subject) {
    let store = subject.store();
    let limit = Some(Limit { records: Some(2), bytes: None });
    let options = LogOptions { limit, ..LogOptions::default() };
    let log = store.create_log("limit", options).await.unwrap();
    publish(&*store, log, &["a"]).await;
    let two = fsync().append(log, NewRecord::new("b")).append(log, NewRecord::new("c"));
    assert_eq!(refusal(store.commit(two).await), (Some(1), Reason::QueueFull));
    assert_eq!(store.log_stats(log).await.unwrap().records, 1);
    publish(&*store, log, &["b"]).await;
    store.commit(fsync().with(Op::Remove { log, position: 0, required: false })).await.unwrap();
    publish(&*store, log, &["c"]).await;
}

async fn an_id_in_the_window_is_not_appended_twice(subject: &dyn Subject) {
    let store = subject.store();
    let window = DedupeWindow { time: Duration::from_secs(60), ids_max: 1000 };
    let options = LogOptions { dedupe: Some(window), ..LogOptions::default() };
    let log = store.create_log("dedupe", options).await.unwrap();
    let record = |id: u128| NewRecord { dedupe: Some(id), ..NewRecord::new("x") };
    let receipt =
        store.commit(fsync().append(log, record(1)).append(log, record(1))).await.unwrap();
    assert_eq!((receipt.appended[0].position, receipt.appended[0].duplicate), (0, false));
    assert_eq!((receipt.appended[1].position, receipt.appended[1].duplicate), (0, true));
    subject.pass(Duration::from_secs(30)).await;
    subject.restart().await;
    let store = subject.store();
    subject.pass(Duration::from_secs(29)).await;
    let receipt =
        store.commit(fsync().append(log, record(1)).append(log, record(2))).await.unwrap();
    assert!(receipt.appended[0].duplicate && !receipt.appended[1].duplicate);
    assert_eq!(store.log_stats(log).await.unwrap().records, 2);
    subject.pass(Duration::from_secs(2)).await;
    let receipt =
        store.commit(fsync().append(log, record(1)).append(log, record(2))).await.unwrap();
    assert!(!receipt.appended[0].duplicate, "after the window it is new again");
    assert!(receipt.appended[1].duplicate, "each has its own time");
    subject.pass(Duration::from_secs(59)).await;
    let receipt =
        store.commit(fsync().append(log, record(2)).append(log, record(1))).await.unwrap();
    assert!(!receipt.appended[0].duplicate && receipt.appended[1].duplicate);
}

async fn a_log_in_memory_is_gone_after_a_restart(subject: &dyn Subject) {
    let store = subject.store();
    let options = LogOptions { storage: Storage::Memory, ..LogOptions::default() };
    let log = store.create_log("memory", options).await.unwrap();
    let group = store.create_group("memory", GroupOptions::owning(log)).await.unwrap();
    publish(&*store, log, &["a", "b"]).await;
    let leased = super::lease(&*store, group, 9).await;
    assert_eq!(super::texts(&leased), ["a", "b"]);
    super::accept(&*store, &leased[..1]).await;
    assert_eq!(store.log_stats(log).await.unwrap().records, 1);
    subject.restart().await;
    let store = subject.store();
    assert_eq!(store.find_log("memory").await.unwrap(), None);
    assert_eq!(store.find_group("memory").await.unwrap(), None);
}

async fn a_log_of_disk_is_there_after_a_restart(subject: &dyn Subject) {
    let store = subject.store();
    let log = store.create_log("disk", LogOptions::default()).await.unwrap();
    let record = NewRecord {
        key: "key".into(),
        data: "data".into(),
        due_ms: 3,
        expires_ms: u64::MAX,
        priority: 7,
        dedupe: Some(9),
    };
    store.commit(fsync().append(log, record)).await.unwrap();
    let before = store.read(log, 0, Limits::default()).await.unwrap();
    subject.restart().await;
    let after = subject.store().read(log, 0, Limits::default()).await.unwrap();
    assert_eq!(before, after);
    assert_eq!(before.len(), 1);
}

async fn a_position_is_found_by_its_time(subject: &dyn Subject) {
    let store = subject.store();
    let log = store.create_log("time", LogOptions::default()).await.unwrap();
    let mut times = Vec::new();
    for text in ["a", "b", "c"] {
        publish(&*store, log, &[text]).await;
        times.push(store.log_stats(log).await.unwrap().last_ms);
        subject.pass(Duration::from_millis(100)).await;
    }
    for (position, time) in times.iter().enumerate() {
        assert_eq!(store.position_at(log, *time).await.unwrap(), position as u64);
        assert_eq!(store.position_at(log, time + 1).await.unwrap(), position as u64 + 1);
    }
}

async fn names_are_listed_by_prefix(subject: &dyn Subject) {
    let store = subject.store();
    for name in ["list/b", "list/a", "list/c", "lisu"] {
        store.create_log(name, LogOptions::default()).await.unwrap();
    }
    let names = |listed: Vec<(String, LogId, LogOptions)>| -> Vec<String> {
        listed.into_iter().map(|(name, ..)| name).collect()
    };
    let all = names(store.logs("list/", None, 9).await.unwrap());
    assert_eq!(all, ["list/a", "list/b", "list/c"]);
    let some = names(store.logs("list/", Some("list/a"), 1).await.unwrap());
    assert_eq!(some, ["list/b"]);
}

//! Time: leases that run out, retries and records that are due, records that expire.

use std::time::Duration;

use weft_kernel::Reason;

use super::{Subject, accept, fsync, lease, listed, now_ms, publish, queue, reason, retry, texts};
use crate::{
    ConsumerId, Due, ExpectValue, LeaseLimits, LogId, MapOptions, NewRecord, Op, Store, Why,
};

listed! {
    a_lease_that_runs_out_goes_to_the_keeper
    a_renewed_lease_lasts
    a_retry_waits_for_its_time
    a_retry_of_what_was_due_once_waits_also_after_a_restart
    a_record_due_later_is_not_seen_before
    an_expired_record_is_told_and_not_delivered
    an_entry_that_expires_is_gone
}

async fn a_retry_of_what_was_due_once_waits_also_after_a_restart(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "retry/due").await;
    let due_ms = now_ms(subject).await + 5_000;
    let delayed = NewRecord { due_ms, ..NewRecord::new("a") };
    store.commit(fsync().append(log, delayed)).await.unwrap();
    subject.pass(Duration::from_secs(6)).await;
    store.overdue(100).await.unwrap();
    let leased = lease(&*store, group, 1).await;
    let due = Due::After(Duration::from_secs(60));
    store.commit(fsync().with(retry(&leased[0], due, true, ""))).await.unwrap();
    subject.restart().await;
    let store = subject.store();
    subject.pass(Duration::from_secs(10)).await;
    store.overdue(100).await.unwrap();
    assert!(lease(&*store, group, 1).await.is_empty(), "its back-off goes on");
    subject.pass(Duration::from_secs(60)).await;
    store.overdue(100).await.unwrap();
    assert_eq!(lease(&*store, group, 1).await[0].failures, 1);
}

async fn a_lease_that_runs_out_goes_to_the_keeper(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "run-out").await;
    publish(&*store, log, &["a", "b"]).await;
    let span = |seconds| Some(Duration::from_secs(seconds));
    let ask = |lease| LeaseLimits { consumer: ConsumerId::SYSTEM, records: 1, bytes: 9, lease };
    let short = store.lease(group, ask(span(5))).await.unwrap();
    let long = store.lease(group, ask(span(500))).await.unwrap();
    subject.pass(Duration::from_secs(4)).await;
    assert!(of(group, store.overdue(100).await.unwrap()).is_empty());
    assert!(store.next_due().await.unwrap().is_some());
    subject.pass(Duration::from_secs(2)).await;
    let over = of(group, store.overdue(100).await.unwrap());
    assert_eq!(texts(&over), ["a"]);
    assert_eq!((over[0].why, over[0].handouts), (Why::LeaseExpired, 1));
    let late = store.commit(fsync().with(super::done(&short[0]))).await;
    assert_eq!(super::refusal(late).1, Reason::LeaseLost);
    store.commit(fsync().with(retry(&over[0], Due::Now, true, "ran out"))).await.unwrap();
    let again = lease(&*store, group, 1).await;
    assert_eq!((again[0].handouts, again[0].failures), (2, 1));
    assert_eq!(store.group_stats(group).await.unwrap().expired_leases, 1);
    accept(&*store, &long).await;
}

fn of(group: crate::GroupId, deliveries: Vec<crate::LeasedRecord>) -> Vec<crate::LeasedRecord> {
    deliveries.into_iter().filter(|delivery| delivery.group == group).collect()
}

async fn a_renewed_lease_lasts(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "renew").await;
    publish(&*store, log, &["a"]).await;
    let leased = lease(&*store, group, 1).await;
    let (position, token) = (leased[0].position, leased[0].token);
    for _ in 0..5 {
        subject.pass(Duration::from_secs(20)).await;
        store.renew(group, position, token, Duration::from_secs(30)).await.unwrap();
        assert!(of(group, store.overdue(100).await.unwrap()).is_empty());
    }
    subject.pass(Duration::from_secs(31)).await;
    assert_eq!(of(group, store.overdue(100).await.unwrap()).len(), 1);
    let late = store.renew(group, position, token, Duration::from_secs(30)).await;
    assert_eq!(reason(late), Reason::LeaseLost);
}

async fn a_retry_waits_for_its_time(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "retry").await;
    publish(&*store, log, &["a", "b"]).await;
    let leased = lease(&*store, group, 1).await;
    let due = Due::After(Duration::from_secs(10));
    store.commit(fsync().with(retry(&leased[0], due, true, ""))).await.unwrap();
    assert_eq!(store.group_stats(group).await.unwrap().waiting, 1);
    let next = lease(&*store, group, 9).await;
    assert_eq!(texts(&next), ["b"]);
    accept(&*store, &next).await;
    subject.pass(Duration::from_secs(9)).await;
    store.overdue(100).await.unwrap();
    assert!(lease(&*store, group, 9).await.is_empty());
    subject.pass(Duration::from_secs(2)).await;
    store.overdue(100).await.unwrap();
    assert_eq!(store.group_stats(group).await.unwrap().ready, 1);
    assert_eq!(texts(&lease(&*store, group, 9).await), ["a"]);
}

async fn a_record_due_later_is_not_seen_before(subject: &dyn Subject) {
    let now = now_ms(subject).await;
    let store = subject.store();
    let (log, group) = queue(&*store, "due").await;
    let later = |text: &str, seconds: u64| NewRecord {
        due_ms: now + seconds * 1000,
        ..NewRecord::new(text.to_owned())
    };
    let publish = fsync()
        .append(log, later("a", 20))
        .append(log, later("b", 10))
        .append(log, NewRecord::new("c"));
    store.commit(publish).await.unwrap();
    let stats = store.group_stats(group).await.unwrap();
    assert_eq!((stats.ready, stats.waiting), (1, 2));
    let first = lease(&*store, group, 9).await;
    assert_eq!(texts(&first), ["c"]);
    accept(&*store, &first).await;
    subject.restart().await;
    let store = subject.store();
    assert!(lease(&*store, group, 9).await.is_empty());
    subject.pass(Duration::from_secs(11)).await;
    store.overdue(100).await.unwrap();
    assert_eq!(texts(&lease(&*store, group, 9).await), ["b"]);
    subject.pass(Duration::from_secs(11)).await;
    store.overdue(100).await.unwrap();
    assert_eq!(texts(&lease(&*store, group, 9).await), ["a"]);
}

async fn expiring(store: &dyn Store, log: LogId, text: &str, expires_ms: u64) {
    let record = NewRecord { expires_ms, ..NewRecord::new(text.to_owned()) };
    store.commit(fsync().append(log, record)).await.unwrap();
}

async fn an_expired_record_is_told_and_not_delivered(subject: &dyn Subject) {
    let now = now_ms(subject).await;
    let store = subject.store();
    let (log, group) = queue(&*store, "expire").await;
    publish(&*store, log, &["stays"]).await;
    expiring(&*store, log, "leased", now + 5_000).await;
    expiring(&*store, log, "goes", now + 5_000).await;
    expiring(&*store, log, "restarted", now + 50_000).await;
    let leased = lease(&*store, group, 2).await;
    assert_eq!(texts(&leased), ["stays", "leased"]);
    subject.pass(Duration::from_secs(6)).await;
    let over = of(group, store.overdue(100).await.unwrap());
    assert_eq!(texts(&over), ["goes"], "behind a live one too, and not what is leased");
    assert_eq!(over[0].why, Why::Expired);
    accept(&*store, &over).await;
    store.commit(fsync().with(retry(&leased[1], Due::Now, false, ""))).await.unwrap();
    let next = lease(&*store, group, 1).await;
    assert_eq!(texts(&next), ["restarted"], "what comes back expired is not delivered");
    let over = of(group, store.overdue(100).await.unwrap());
    assert_eq!(texts(&over), ["leased"]);
    accept(&*store, &over).await;
    expiring(&*store, log, "nobody asks", now + 10_000).await;
    let unseen = lease(&*store, group, 1).await;
    subject.pass(Duration::from_secs(6)).await;
    assert!(of(group, store.overdue(100).await.unwrap()).is_empty(), "it is leased");
    store.commit(fsync().with(retry(&unseen[0], Due::Now, false, ""))).await.unwrap();
    subject.pass(Duration::from_secs(2)).await;
    let over = of(group, store.overdue(100).await.unwrap());
    assert_eq!(texts(&over), ["nobody asks"], "told although nobody asks for it");
    accept(&*store, &over).await;
    subject.restart().await;
    let store = subject.store();
    subject.pass(Duration::from_secs(60)).await;
    let over = of(group, store.overdue(100).await.unwrap());
    assert_eq!(texts(&over), ["restarted"]);
    assert_eq!(texts(&lease(&*store, group, 9).await), ["stays"]);
}

async fn an_entry_that_expires_is_gone(subject: &dyn Subject) {
    let now = now_ms(subject).await;
    let store = subject.store();
    let map = store.create_map("expire", MapOptions::default()).await.unwrap();
    let put = |key: &'static str, expires_ms, expect| Op::Put {
        map,
        key: key.into(),
        value: "v".into(),
        expires_ms,
        expect,
    };
    let both = fsync().with(put("short", now + 5_000, ExpectValue::Any)).with(put(
        "long",
        0,
        ExpectValue::Any,
    ));
    store.commit(both).await.unwrap();
    assert!(store.get(map, b"short").await.unwrap().is_some());
    subject.restart().await;
    let store = subject.store();
    subject.pass(Duration::from_secs(6)).await;
    assert_eq!(store.get(map, b"short").await.unwrap(), None);
    assert_eq!(store.scan(map, b"", None, 9).await.unwrap().len(), 1);
    store.overdue(100).await.unwrap();
    store.commit(fsync().with(put("short", 0, ExpectValue::Absent))).await.unwrap();
}

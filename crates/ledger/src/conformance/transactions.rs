//! Transactions: all or nothing, over anything.

use weft_kernel::Reason;

use super::{
    Subject, accept, done, foreign, fsync, lease, listed, publish, queue, refusal, retry, texts,
};
use crate::{
    Due, ExpectValue, GroupOptions, GroupStart, LogOptions, MapOptions, NewRecord, Op, Settle,
};

listed! {
    one_commit_moves_a_message_and_notes_it
    what_fails_leaves_no_trace
    a_delivery_is_settled_once_by_its_token
    a_seek_voids_leases_in_the_same_transaction_too
}

async fn one_commit_moves_a_message_and_notes_it(subject: &dyn Subject) {
    let store = subject.store();
    let (from, source) = queue(&*store, "move/from").await;
    let (to, target) = queue(&*store, "move/to").await;
    let map = store.create_map("move", MapOptions::default()).await.unwrap();
    publish(&*store, from, &["order"]).await;
    let leased = lease(&*store, source, 1).await;
    let transaction = fsync().with(done(&leased[0])).append(to, NewRecord::new("order")).put(
        map,
        "order",
        "moved",
        ExpectValue::Absent,
    );
    store.commit(transaction).await.unwrap();
    subject.restart().await;
    let store = subject.store();
    assert!(lease(&*store, source, 9).await.is_empty());
    assert_eq!(texts(&lease(&*store, target, 9).await), ["order"]);
    assert_eq!(store.get(map, b"order").await.unwrap().unwrap().data, "moved");
}

async fn what_fails_leaves_no_trace(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "trace").await;
    let map = store.create_map("trace", MapOptions::default()).await.unwrap();
    publish(&*store, log, &["a"]).await;
    let leased = lease(&*store, group, 1).await;
    let refused = store
        .commit(
            fsync()
                .append(log, NewRecord::new("b"))
                .with(done(&leased[0]))
                .put(map, "k", "1", ExpectValue::Any)
                .put(map, "k", "2", ExpectValue::Absent),
        )
        .await;
    assert_eq!(refusal(refused), (Some(3), Reason::VersionConflict));
    assert_eq!(store.get(map, b"k").await.unwrap(), None);
    let stats = store.group_stats(group).await.unwrap();
    assert_eq!((stats.ready, stats.leased, stats.done), (0, 1, 0));
    assert_eq!(store.log_stats(log).await.unwrap().end, 1);
    accept(&*store, &leased).await;
}

async fn a_delivery_is_settled_once_by_its_token(subject: &dyn Subject) {
    let store = subject.store();
    let (log, group) = queue(&*store, "token").await;
    publish(&*store, log, &["a", "b"]).await;
    let leased = lease(&*store, group, 2).await;
    let twice = store.commit(fsync().with(done(&leased[0])).with(done(&leased[0]))).await;
    assert_eq!(refusal(twice), (Some(1), Reason::LeaseLost));
    let stranger = Op::Settle {
        group,
        position: leased[0].position,
        token: foreign(leased[0].token),
        how: Settle::Done,
    };
    assert_eq!(refusal(store.commit(fsync().with(stranger)).await).1, Reason::LeaseLost);
    accept(&*store, &leased[..1]).await;
    let late = store.commit(fsync().with(done(&leased[0]))).await;
    assert_eq!(refusal(late).1, Reason::LeaseLost);
    store.commit(fsync().with(retry(&leased[1], Due::Now, false, ""))).await.unwrap();
    let again = lease(&*store, group, 2).await;
    assert_eq!(texts(&again), ["b"]);
    assert_eq!(again[0].handouts, 2);
    let old = store.commit(fsync().with(done(&leased[1]))).await;
    assert_eq!(refusal(old).1, Reason::LeaseLost, "a former hand-out's token does not fit");
    subject.restart().await;
    let store = subject.store();
    let earlier = store.commit(fsync().with(done(&again[0]))).await;
    assert_eq!(refusal(earlier).1, Reason::LeaseLost, "nor does one of an earlier life");
    assert_eq!(texts(&lease(&*store, group, 2).await), ["b"]);
}

async fn a_seek_voids_leases_in_the_same_transaction_too(subject: &dyn Subject) {
    let store = subject.store();
    let log = store.create_log("seek", LogOptions::default()).await.unwrap();
    let options = GroupOptions { start: GroupStart::First, ..GroupOptions::over(log) };
    let group = store.create_group("seek", options).await.unwrap();
    publish(&*store, log, &["a", "b", "c"]).await;
    let leased = lease(&*store, group, 2).await;
    let seek = |to| Op::Seek { group, to };
    let refused = store.commit(fsync().with(seek(0)).with(done(&leased[0]))).await;
    assert_eq!(refusal(refused), (Some(1), Reason::LeaseLost));
    store.commit(fsync().with(done(&leased[0])).with(seek(0))).await.unwrap();
    assert_eq!(texts(&lease(&*store, group, 9).await), ["a", "b", "c"]);
    store.commit(fsync().with(seek(2))).await.unwrap();
    subject.restart().await;
    let store = subject.store();
    assert_eq!(texts(&lease(&*store, group, 9).await), ["c"]);
    store.commit(fsync().with(seek(u64::MAX))).await.unwrap();
    publish(&*store, log, &["d"]).await;
    assert_eq!(texts(&lease(&*store, group, 9).await), ["d"]);
}

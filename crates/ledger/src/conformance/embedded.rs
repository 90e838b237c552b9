//! What only a store within this process can do: submitting without waiting, and shares of what is ready.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use super::{Subject, accept, consumer, lease, lease_as, publish, queue, texts};
use crate::{ConsumerId, Durability, EmbeddedStore, Limits, NewRecord, Transaction, until_durable};

super::listed! {
    those_that_wait_have_their_part
    levels_are_kept_apart_and_order_is_not
}

/// The store, which is within this process: other subjects do not run these cases.
fn embedded(subject: &dyn Subject) -> Arc<dyn EmbeddedStore> {
    subject.embedded().unwrap()
}

async fn those_that_wait_have_their_part(subject: &dyn Subject) {
    let store = embedded(subject);
    let (log, group) = queue(&*store, "part").await;
    for id in 1..=3 {
        store.join_now(group, consumer(id, i32::from(id != 3))).unwrap();
    }
    let waits = |id| {
        let mut context = Context::from_waker(Waker::noop());
        store.poll_ready(group, ConsumerId(id), &mut context).is_pending()
    };
    assert_eq!(store.share_now(group, ConsumerId(1)), u32::MAX, "nobody else waits");
    assert!(waits(1) && waits(2) && waits(3));
    publish(&*store, log, &["m"; 160]).await;
    assert!(store.group_stats_now(group).unwrap().awaited);
    // Who is of a lower priority has no part before the others.
    assert_eq!(store.share_now(group, ConsumerId(1)), 10);
    assert_eq!(store.share_now(group, ConsumerId(3)), 160 / 24);
    assert!(!waits(1), "its turn came first");
    assert_eq!(lease_as(&*store, group, 1, 10).await.len(), 10);
    // Who has just taken looks for more, and has its part of it as well.
    assert_eq!(store.share_now(group, ConsumerId(2)), 150 / 16);
    assert!(waits(1), "the other's turn comes before the next of its own");
    assert!(!waits(2));
    assert_eq!(lease_as(&*store, group, 2, 149).await.len(), 149);
    assert_eq!(store.share_now(group, ConsumerId(2)), 1, "one is left");
    store.pass_turn(group, ConsumerId(1));
    store.pass_turn(group, ConsumerId(3));
    assert!(!store.group_stats_now(group).unwrap().awaited);
    assert_eq!(store.share_now(group, ConsumerId(2)), u32::MAX);
    for id in 1..=3 {
        store.leave_now(group, ConsumerId(id), true);
    }
    accept(&*store, &lease(&*store, group, 200).await).await;
    assert!(!store.group_stats_now(group).unwrap().awaited);
}

async fn levels_are_kept_apart_and_order_is_not(subject: &dyn Subject) {
    let store = embedded(subject);
    let (log, group) = queue(&*store, "levels").await;
    let mut last = 0;
    for (index, level) in [Durability::Fsync, Durability::Memory, Durability::Os, Durability::Fsync]
        .into_iter()
        .enumerate()
    {
        let record = NewRecord::new(index.to_string());
        let receipt = store.submit_now(Transaction::new(level).append(log, record)).unwrap();
        assert_eq!(receipt.durability, level);
        assert!(receipt.seq > last);
        last = receipt.seq;
    }
    until_durable(&*store, last, Durability::Fsync).await.unwrap();
    assert!(store.durable_now(Durability::Fsync) >= last);
    assert_eq!(texts(&lease(&*store, group, 9).await), ["0", "1", "2", "3"]);
    subject.restart().await;
    let items = subject.store().read(log, 0, Limits::default()).await.unwrap();
    assert_eq!(items.len(), 4, "what a later sync covers is safe as well");
}

//! The suite that every store has to pass as it is.
//!
//! A [`Subject`] gives the store and moves its time on; [`run`] runs every case and panics at the first
//! that fails, with its name. Cases use names of their own, so that one store serves all.

#![allow(clippy::unwrap_used, reason = "a suite of tests fails by panicking")]

mod consuming;
mod embedded;
mod logs;
mod maps;
mod namespaces;
mod ordering;
mod timers;
mod timing;
mod transactions;

use std::{pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use weft_kernel::{Reason, Result};

use crate::{
    options::{Durability, GroupOptions, LogOptions},
    record::{ConsumerId, GroupId, LeasedRecord, LogId, ReadItem, Record, Token},
    store::{EmbeddedStore, GroupConsumer, LeaseLimits, Pending, Store},
    transaction::{NewRecord, Op, Receipt, Refused, Settle, Transaction},
};

/// A store under test.
pub trait Subject: Send + Sync {
    /// The store as it is open now.
    fn store(&self) -> Arc<dyn Store>;
    /// The same, if it is within this process; it has some cases more then.
    fn embedded(&self) -> Option<Arc<dyn EmbeddedStore>> {
        None
    }
    /// Lets time pass, on both clocks.
    fn pass(&self, span: Duration) -> Pending<'_, ()>;
    /// Closes the store and opens it again, as after a crash: what was acknowledged at
    /// [`Durability::Fsync`] is there.
    fn restart(&self) -> Pending<'_, ()>;
}

/// A case: its name, and what it does.
pub type Case = (&'static str, for<'a> fn(&'a dyn Subject) -> Pending<'a, ()>);

/// Every case.
pub fn cases() -> Vec<Case> {
    [
        logs::CASES,
        transactions::CASES,
        consuming::CASES,
        ordering::CASES,
        timing::CASES,
        maps::CASES,
        namespaces::CASES,
        timers::CASES,
    ]
    .concat()
}

/// Runs every case, and calls `begin` with the name of each before.
pub async fn run(subject: &dyn Subject, mut begin: impl FnMut(&'static str)) {
    let embedded = subject.embedded().map_or(&[][..], |_| embedded::CASES);
    for (name, case) in cases().iter().chain(embedded) {
        begin(name);
        case(subject).await;
    }
}

macro_rules! listed {
    ($($name:ident)+) => {
        pub(super) const CASES: &[$crate::conformance::Case] = &[
            $((stringify!($name), |subject| Box::pin($name(subject))),)+
        ];
    };
}
use listed;

fn reason<T: std::fmt::Debug>(result: Result<T>) -> Reason {
    match result {
        Ok(value) => panic!("expected an error, got {value:?}"),
        Err(error) => error.reason(),
    }
}

fn refusal(result: Result<Receipt, Refused>) -> (Option<usize>, Reason) {
    match result {
        Ok(receipt) => panic!("expected a refusal, got {receipt:?}"),
        Err(refused) => (refused.op, refused.error.reason()),
    }
}

async fn queue(store: &dyn Store, name: &str) -> (LogId, GroupId) {
    queue_with(store, name, LogOptions::default(), |_| {}).await
}

async fn queue_with(
    store: &dyn Store,
    name: &str,
    options: LogOptions,
    set: impl FnOnce(&mut GroupOptions),
) -> (LogId, GroupId) {
    let log = store.create_log(name, options).await.unwrap();
    let mut options = GroupOptions::owning(log);
    set(&mut options);
    let group = store.create_group(name, options).await.unwrap();
    (log, group)
}

/// The wall clock as the store sees it.
async fn now_ms(subject: &dyn Subject) -> u64 {
    let store = subject.store();
    let log = store.create_log("clock", LogOptions::default()).await.unwrap();
    publish(&*store, log, &["tick"]).await;
    store.log_stats(log).await.unwrap().last_ms
}

fn fsync() -> Transaction {
    Transaction::new(Durability::Fsync)
}

async fn publish(store: &dyn Store, log: LogId, texts: &[&str]) -> Vec<u64> {
    let mut transaction = fsync();
    for text in texts {
        transaction = transaction.append(log, NewRecord::new(text.to_string()));
    }
    let receipt = store.commit(transaction).await.unwrap();
    receipt.appended.iter().map(|appended| appended.position).collect()
}

async fn lease(store: &dyn Store, group: GroupId, records: u32) -> Vec<LeasedRecord> {
    let ask = LeaseLimits { consumer: ConsumerId::SYSTEM, records, bytes: u64::MAX, lease: None };
    store.lease(group, ask).await.unwrap()
}

async fn lease_as(
    store: &dyn Store,
    group: GroupId,
    consumer: u64,
    records: u32,
) -> Vec<LeasedRecord> {
    let consumer = ConsumerId(consumer);
    let ask = LeaseLimits { consumer, records, bytes: u64::MAX, lease: None };
    store.lease(group, ask).await.unwrap()
}

fn consumer(id: u64, priority: i32) -> GroupConsumer {
    GroupConsumer { id: ConsumerId(id), priority, exclusive: false }
}

fn done(delivery: &LeasedRecord) -> Op {
    Op::Settle {
        group: delivery.group,
        position: delivery.position,
        token: delivery.token,
        how: Settle::Done,
    }
}

async fn accept(store: &dyn Store, deliveries: &[LeasedRecord]) {
    let mut transaction = fsync();
    transaction.ops.extend(deliveries.iter().map(done));
    store.commit(transaction).await.unwrap();
}

fn retry(delivery: &LeasedRecord, due: crate::Due, failed: bool, note: &'static str) -> Op {
    Op::Settle {
        group: delivery.group,
        position: delivery.position,
        token: delivery.token,
        how: Settle::Retry { due, failed, note: Bytes::from_static(note.as_bytes()) },
    }
}

fn texts(deliveries: &[LeasedRecord]) -> Vec<String> {
    deliveries.iter().map(|delivery| text(&delivery.record)).collect()
}

fn text(record: &Record) -> String {
    String::from_utf8(record.data.to_vec()).unwrap()
}

fn read_texts(items: &[ReadItem]) -> Vec<String> {
    items
        .iter()
        .map(|item| match item {
            ReadItem::Record(record) => text(record),
            ReadItem::Lost { position, why, .. } => panic!("position {position} is lost: {why}"),
        })
        .collect()
}

fn foreign(token: Token) -> Token {
    Token { epoch: token.epoch, lease: token.lease + 1_000_000 }
}

/// Polls a future once.
async fn polled<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    let mut future = Some(future);
    std::future::poll_fn(move |context| {
        Poll::Ready(match future.take() {
            Some(future) => future.poll(context),
            None => Poll::Pending,
        })
    })
    .await
}

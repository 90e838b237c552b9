//! How many messages a second the ledger takes and hands out, and what each costs in CPU.
//!
//! `throughput [FOLDER] [SECONDS]` publishes 100-byte messages with 1, 64 and 1,000 in flight, each a
//! transaction of its own that waits for its fdatasync, and then publishes, leases and settles in
//! batches of 64. The folder should be on the disk in question (default: one in the working folder).
//! On a virtual machine keep the CPUs awake (`chrt -i 0 sh -c 'while :; do :; done'` for each), or
//! one measures how long they take to wake up.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use weft_kernel::SystemClock;
use weft_ledger::{
    ConsumerId, Durability, EmbeddedStore, GroupConsumer, GroupId, GroupOptions, LeaseLimits,
    Ledger, LogId, LogOptions, NewRecord, Op, Options, Settle, Transaction, until_durable,
    wait_ready,
};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(|| PathBuf::from("throughput.tmp"), PathBuf::from);
    let seconds = arguments.next().map_or(3, |text| text.parse().unwrap());
    let span = Duration::from_secs(seconds);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let clock = Arc::new(SystemClock);
    let (ledger, _) = Ledger::open_folder(&folder, Options::default(), clock).unwrap();
    for in_flight in [1, 64, 1000] {
        let name = format!("publish, {in_flight} in flight");
        runtime.block_on(measure(&ledger, &name, span, publish(&ledger, in_flight, span)));
    }
    for in_flight in [64, 1000] {
        let name = format!("publish from one task, {in_flight} in flight");
        runtime.block_on(measure(&ledger, &name, span, pipeline(&ledger, in_flight, span)));
    }
    let name = "publish, lease and settle in batches of 64";
    runtime.block_on(measure(&ledger, name, span, round_trip(&ledger, span)));
    let name = "lease and settle in one transaction with the next 64";
    runtime.block_on(measure(&ledger, name, span, queue_commits(&ledger, span)));
    ledger.close().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

/// User and system time of the process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

async fn measure(ledger: &Ledger, name: &str, span: Duration, work: impl Future<Output = u64>) {
    let (begun, used, before) = (Instant::now(), cpu(), ledger.stats());
    let messages = work.await;
    let (took, used, after) = (begun.elapsed(), cpu() - used, ledger.stats());
    let syncs = after.syncs - before.syncs;
    println!(
        "{name}: {:.0} messages/s, {:.2} us CPU each, {:.0} messages and {:.0} us a sync ({:.1} s of {:.0} s)",
        messages as f64 / took.as_secs_f64(),
        used.as_secs_f64() * 1e6 / messages as f64,
        messages as f64 / syncs.max(1) as f64,
        (after.sync_nanos - before.sync_nanos) as f64 / 1e3 / syncs.max(1) as f64,
        took.as_secs_f64(),
        span.as_secs_f64(),
    );
}

async fn log(ledger: &Ledger) -> LogId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("log {}", NEXT.fetch_add(1, Ordering::Relaxed));
    let store: &dyn EmbeddedStore = ledger;
    store.create_log(&name, LogOptions::default()).await.unwrap()
}

async fn queue(ledger: &Ledger) -> (LogId, GroupId) {
    let log = log(ledger).await;
    let store: &dyn EmbeddedStore = ledger;
    let group = store.create_group(&format!("{log}"), GroupOptions::owning(log)).await.unwrap();
    (log, group)
}

fn message() -> NewRecord {
    NewRecord::new(Bytes::from_static(&[7; 100]))
}

/// So many tasks, each with one message in flight.
async fn publish(ledger: &Ledger, in_flight: usize, span: Duration) -> u64 {
    let log = log(ledger).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let (ledger, over) = (ledger.clone(), over.clone());
        tasks.spawn(async move {
            let mut messages = 0;
            while !over.load(Ordering::Relaxed) {
                let transaction = Transaction::new(Durability::Fsync).append(log, message());
                let receipt = ledger.submit_now(transaction).unwrap();
                until_durable(&ledger, receipt.seq, Durability::Fsync).await.unwrap();
                messages += 1;
            }
            messages
        });
    }
    tokio::time::sleep(span).await;
    over.store(true, Ordering::Relaxed);
    tasks.join_all().await.into_iter().sum()
}

/// One task, as a connection with so many unconfirmed messages.
async fn pipeline(ledger: &Ledger, in_flight: u64, span: Duration) -> u64 {
    let log = log(ledger).await;
    let begun = Instant::now();
    let (mut sent, mut confirmed, mut first) = (0, 0, None);
    while begun.elapsed() < span {
        while sent - confirmed < in_flight {
            let transaction = Transaction::new(Durability::Fsync).append(log, message());
            let receipt = ledger.submit_now(transaction).unwrap();
            first.get_or_insert(receipt.seq);
            sent += 1;
        }
        let first = first.unwrap();
        until_durable(ledger, first + confirmed, Durability::Fsync).await.unwrap();
        confirmed = (ledger.durable_now(Durability::Fsync) + 1 - first).min(sent);
    }
    confirmed
}

/// One task publishes in batches of 64, another leases and settles in batches of 64.
async fn round_trip(ledger: &Ledger, span: Duration) -> u64 {
    let (log, group) = queue(ledger).await;
    let over = Arc::new(AtomicBool::new(false));
    let publisher = {
        let (ledger, over) = (ledger.clone(), over.clone());
        async move {
            let mut seqs = std::collections::VecDeque::new();
            while !over.load(Ordering::Relaxed) {
                let mut transaction = Transaction::new(Durability::Fsync);
                for _ in 0..64 {
                    transaction = transaction.append(log, message());
                }
                seqs.push_back(ledger.submit_now(transaction).unwrap().seq);
                if seqs.len() >= 16 {
                    let seq = seqs.pop_front().unwrap();
                    until_durable(&ledger, seq, Durability::Fsync).await.unwrap();
                }
            }
            0
        }
    };
    let consumer = {
        let (ledger, over) = (ledger.clone(), over.clone());
        async move {
            let id = ConsumerId(1);
            ledger.join_now(group, GroupConsumer { id, priority: 0, exclusive: false }).unwrap();
            let (mut messages, mut next) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                wait_ready(&ledger, group, id).await;
                let ask = LeaseLimits { consumer: id, records: 64, bytes: u64::MAX, lease: None };
                let deliveries = ledger.lease_now(group, ask).unwrap().wait().await.unwrap();
                let mut transaction = Transaction::new(Durability::Fsync);
                for delivery in &deliveries {
                    assert_eq!(delivery.position, next, "in order, none missing");
                    next += 1;
                    transaction =
                        transaction.settle(group, delivery.position, delivery.token, Settle::Done);
                }
                messages += deliveries.len() as u64;
                if !transaction.ops.is_empty() {
                    ledger.submit_now(transaction).unwrap();
                }
            }
            messages
        }
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(publisher);
    tasks.spawn(consumer);
    tokio::time::sleep(span).await;
    over.store(true, Ordering::Relaxed);
    // The consumer may wait for more.
    let store: &dyn EmbeddedStore = ledger;
    store.commit(Transaction::new(Durability::Fsync).append(log, message())).await.unwrap();
    let messages = tasks.join_all().await.into_iter().sum();
    ledger.leave_now(group, ConsumerId(1), true);
    messages
}

/// Each commit publishes 64 and settles the 64 that were leased before, behind a backlog.
async fn queue_commits(ledger: &Ledger, span: Duration) -> u64 {
    let (log, group) = queue(ledger).await;
    let mut backlog = Transaction::new(Durability::Fsync);
    for _ in 0..10_000 {
        backlog.ops.push(append(log));
    }
    ledger.submit_now(backlog).unwrap();
    let store: &dyn EmbeddedStore = ledger;
    store.commit(Transaction::new(Durability::Fsync).append(log, message())).await.unwrap();
    let begun = Instant::now();
    let (mut messages, mut seqs) = (0, std::collections::VecDeque::new());
    while begun.elapsed() < span {
        let ask =
            LeaseLimits { consumer: ConsumerId::SYSTEM, records: 64, bytes: u64::MAX, lease: None };
        let deliveries = ledger.lease_now(group, ask).unwrap().wait().await.unwrap();
        let mut transaction = Transaction::new(Durability::Fsync);
        transaction.ops.reserve(128);
        for delivery in &deliveries {
            let (position, token) = (delivery.position, delivery.token);
            transaction.ops.push(Op::Settle { group, position, token, how: Settle::Done });
        }
        for _ in 0..64 {
            transaction.ops.push(append(log));
        }
        messages += deliveries.len() as u64;
        seqs.push_back(ledger.submit_now(transaction).unwrap().seq);
        if seqs.len() >= 16 {
            let seq = seqs.pop_front().unwrap();
            until_durable(ledger, seq, Durability::Fsync).await.unwrap();
        }
    }
    messages
}

fn append(log: LogId) -> Op {
    Op::Append { log, expect: weft_ledger::Expect::Any, record: message() }
}

//! What the broker adds to the ledger's cost per message: the same publish, hand-out and accept on a
//! queue in memory, once on the ledger alone and once through the broker.
//!
//! `cargo run --release -p weft-broker --example cost`

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{sync::Arc, time::Instant};

use weft_broker::{Broker, ConsumerOptions, Key, MessageBuilder, Publish, QueueOptions, Verdict};
use weft_kernel::{ManualClock, Rng};
use weft_ledger::{
    ConsumerId, Durability, EmbeddedStore, GroupConsumer, GroupOptions, LeaseLimits, Ledger,
    LogOptions, NewRecord, Options, Settle, Storage, Store, Transaction, disk::SimulatedDisk,
};

const MESSAGES: u32 = 400_000;
const BATCH: u32 = 64;

fn main() {
    let clock = Arc::new(ManualClock::default());
    let disk = Arc::new(SimulatedDisk::new());
    let (ledger, _) = Ledger::open(disk, Options::default(), Arc::clone(&clock) as _).unwrap();
    ledger.start().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for _ in 0..3 {
            let alone = alone(&ledger).await;
            let store = Arc::new(ledger.clone());
            let broker = Broker::open(store, Arc::clone(&clock) as _, Rng::seeded(1)).await;
            let through = through(&broker.unwrap()).await;
            println!(
                "ledger alone {alone:5.0} ns, through the broker {through:5.0} ns: {:5.0} ns more per message",
                through - alone
            );
        }
    });
}

fn message() -> weft_broker::Message {
    MessageBuilder::amqp("orders", "created", &[0x10, 0, 2], 100)
        .unwrap()
        .body(&[7; 100])
        .finish()
        .unwrap()
}

async fn alone(ledger: &Ledger) -> f64 {
    let options = LogOptions { storage: Storage::Memory, ..LogOptions::default() };
    let log = ledger.create_log("cost", options).await.unwrap();
    let group = ledger.create_group("cost", GroupOptions::owning(log)).await.unwrap();
    let id = ConsumerId(1);
    ledger.join_now(group, GroupConsumer { id, priority: 0, exclusive: false }).unwrap();
    let begun = Instant::now();
    for _ in 0..MESSAGES / BATCH {
        let mut publish = Transaction::new(Durability::Memory);
        for _ in 0..BATCH {
            publish = publish.append(log, NewRecord::new(message().stored().clone()));
        }
        ledger.submit_now(publish).unwrap();
        let ask = LeaseLimits { consumer: id, records: BATCH, bytes: u64::MAX, lease: None };
        let taken = ledger.lease_now(group, ask).unwrap().wait().await.unwrap();
        assert_eq!(taken.len(), BATCH as usize);
        let mut accept = Transaction::new(Durability::Memory);
        for one in &taken {
            accept = accept.settle(group, one.position, one.token, Settle::Done);
        }
        ledger.submit_now(accept).unwrap();
    }
    let spent = begun.elapsed().as_nanos() as f64 / f64::from(MESSAGES);
    ledger.drop_log(log).await.unwrap();
    spent
}

async fn through(broker: &Broker) -> f64 {
    let key = Key::plain("cost").unwrap();
    let options = QueueOptions { transient: true, ..QueueOptions::default() };
    let queue = broker.declare_queue(&key, options).await.unwrap();
    let options = ConsumerOptions { prefetch: BATCH, ..ConsumerOptions::default() };
    let mut consumer = broker.consume(Arc::clone(&queue), options).unwrap();
    let settler = consumer.settler();
    let begun = Instant::now();
    for _ in 0..MESSAGES / BATCH {
        let mut batch = broker.batch();
        for _ in 0..BATCH {
            batch.queue(&queue, &Publish::new(message())).unwrap();
        }
        broker.submit(batch).unwrap();
        let taken = consumer.try_batch(BATCH).await.unwrap();
        assert_eq!(taken.len(), BATCH as usize);
        let accept: Vec<_> = taken.into_iter().map(|one| (one.lease, Verdict::Accept)).collect();
        assert!(settler.settle(&accept).await.unwrap().lost.is_empty());
    }
    let spent = begun.elapsed().as_nanos() as f64 / f64::from(MESSAGES);
    drop(consumer);
    broker.delete_queue(&key, None).await.unwrap();
    spent
}

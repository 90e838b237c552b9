//! One node: a broker on a ledger on a disk in memory, with a clock that stands still.
//!
//! Futures are polled and the ledger is stepped in turn, on one thread, so that a test runs the same
//! every time.

use std::{future::Future, pin::pin, sync::Arc, task::Poll, time::Duration};

use weft_broker::{
    Broker, Consumer, ConsumerOptions, Delivery, Key, Message, MessageBuilder, MessageSource,
    Publish, PublishTarget, Queue, Verdict, message::Value,
};
use weft_kernel::{ByteSize, ManualClock, Reason, Rng};
use weft_ledger::{Ledger, Options, disk::SimulatedDisk};

pub(crate) struct Node {
    pub(crate) disk: SimulatedDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ledger: Ledger,
    pub(crate) broker: Broker,
}

fn options() -> Options {
    Options {
        wal_file_bytes: ByteSize(1 << 20),
        transaction_bytes_max: ByteSize(256 << 10),
        record_bytes_max: ByteSize(64 << 10),
        recent_bytes: ByteSize(1 << 20),
        // Small enough that a test can fill it and find all of it in memory.
        pending_bytes_max: ByteSize(512 << 10),
        ..Options::default()
    }
}

/// Polls a future and steps the ledger in turn until the future is done; `None` when nothing moves.
pub(crate) fn drive<F: Future>(ledger: &Ledger, future: F) -> Option<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut future = pin!(future);
    let mut still = 0;
    runtime.block_on(std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        still = if ledger.step() { 0 } else { still + 1 };
        if still > 200 {
            return Poll::Ready(None);
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }))
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::on(SimulatedDisk::new(), Arc::new(ManualClock::default()))
    }

    /// A node on a disk that may hold something.
    pub(crate) fn on(disk: SimulatedDisk, clock: Arc<ManualClock>) -> Self {
        // So that times of day are ones that people know.
        let (ledger, _) =
            Ledger::open(Arc::new(disk.clone()), options(), Arc::clone(&clock) as _).unwrap();
        let store = Arc::new(ledger.clone());
        let open = Broker::open(store, Arc::clone(&clock) as _, Rng::seeded(7));
        let broker = drive(&ledger, open).expect("opening goes on").unwrap();
        Self { disk, clock, ledger, broker }
    }

    /// The power fails, and comes back.
    pub(crate) fn crash(self, rng: &mut Rng) -> Self {
        let Self { disk, clock, ledger, broker } = self;
        disk.halt();
        drop(broker);
        drop(ledger);
        disk.restart(rng);
        Self::on(disk, clock)
    }

    /// It is stopped in order, and started again.
    pub(crate) fn stop(self) -> Self {
        let Self { disk, clock, ledger, broker } = self;
        broker.close();
        ledger.close().unwrap();
        drop((broker, ledger));
        disk.reopen();
        Self::on(disk, clock)
    }

    /// Runs a future to its end.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        drive(&self.ledger, future).expect("the future goes on")
    }

    /// Whether a future goes on.
    pub(crate) fn try_run<F: Future>(&self, future: F) -> Option<F::Output> {
        drive(&self.ledger, future)
    }

    /// Time goes by, and maintenance does what is due.
    pub(crate) fn pass(&self, span: Duration) {
        self.clock.advance(span);
        self.run(self.broker.maintain_once()).unwrap();
        self.settle_down();
    }

    /// Everything that was submitted gets to the disk.
    pub(crate) fn settle_down(&self) {
        while self.ledger.step() {}
    }

    pub(crate) fn publish(
        &self,
        target: impl Into<PublishTarget>,
        messages: &[Publish],
    ) -> Vec<u64> {
        let published = self.run(self.broker.publish(&target.into(), messages, None)).unwrap();
        published.stored.map(|(first, last)| (first..=last).collect()).unwrap_or_default()
    }

    /// Publishes until the store is busy, because nothing is written meanwhile.
    pub(crate) fn fill(&self, queue: &Arc<Queue>) {
        let much = Publish::new(event("much", "test", &"x".repeat(60_000)));
        let refused = loop {
            let mut batch = self.broker.batch();
            batch.queue(queue, &much).unwrap();
            if let Err(error) = self.broker.submit(batch) {
                break error;
            }
        };
        assert_eq!(refused.reason(), Reason::StorageBusy);
    }

    pub(crate) fn consumer(&self, source: impl Into<MessageSource>) -> Consumer {
        self.broker.consume(source, ConsumerOptions::default()).unwrap()
    }

    /// What is there now, at most ten.
    pub(crate) fn take(&self, consumer: &mut Consumer) -> Vec<Delivery> {
        self.settle_down();
        self.run(consumer.try_batch(10)).unwrap()
    }

    pub(crate) fn settle(&self, consumer: &Consumer, delivery: &Delivery, verdict: Verdict) {
        let settled =
            self.run(consumer.settler().settle_durably(&[(delivery.lease.clone(), verdict)]));
        assert!(settled.unwrap().lost.is_empty(), "the lease runs");
    }
}

pub(crate) fn key(name: &str) -> Key {
    Key::plain(name).unwrap()
}

pub(crate) fn event(id: &str, kind: &str, body: &str) -> Message {
    MessageBuilder::event(128)
        .attribute("id", Value::Text(id))
        .attribute("source", Value::Text("/test"))
        .attribute("type", Value::Text(kind))
        .body(body.as_bytes())
        .finish()
        .unwrap()
}

pub(crate) fn publish(id: &str) -> Publish {
    Publish::new(event(id, "test", id))
}

pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| id(&delivery.message)).collect()
}

pub(crate) fn id(message: &Message) -> String {
    message.event().unwrap().id().to_owned()
}

pub(crate) fn fail(reason: &'static str) -> Verdict {
    Verdict::Fail { reason: reason.into(), delay: None }
}

pub(crate) fn reject(reason: &'static str) -> Verdict {
    Verdict::Reject { reason: reason.into() }
}

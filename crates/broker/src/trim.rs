//! Queues that give up their oldest: held to their limit however their messages came to be ready.
//!
//! What was published counts once it is seen, and what was given back or has waited for its retry counts
//! again. So a queue that may come to hold too much is noted when that begins, and stays noted until all
//! is seen and it holds what it may. Whoever publishes waits for that with the publish; maintenance sees to
//! the rest.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::time::Instant;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{ConsumerId, Due, Durability, LeaseLimits, Seen, until_seen};

use crate::{
    broker::Broker,
    consume::lease_of,
    maintenance::{AT_ONCE, gone_is_fine},
    publish::drops,
    settle::Event,
    settlement::Settlement,
    source::{MessageSource, Queue},
};

/// How long consumers that wait may take to have what would be given up.
const HANDING_TIME: Duration = Duration::from_millis(250);
/// How often they are looked at before time goes by between two looks.
const HANDING_TURNS: u32 = 64;

/// The trimming of a queue; what failed of it.
type Trim = BoxFuture<'static, Result<(), (Reason, String)>>;
/// The same, to be waited for by many.
type Trimming = Shared<Trim>;

/// The trimming of a queue that is under way, if one is.
#[derive(Default)]
pub(crate) struct Running(Option<WeakShared<Trim>>);

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Running")
    }
}

/// A queue that may hold more than it should.
#[derive(Clone, Debug)]
pub(crate) struct Full {
    queue: Weak<Queue>,
    /// When all is seen that was published to it.
    seen: Seen,
}

impl Full {
    fn is(&self, other: &Weak<Queue>) -> bool {
        self.queue.ptr_eq(other)
    }
}

/// What a queue holds beyond its limit.
#[derive(Clone, Copy, Debug)]
struct Excess {
    records: u64,
    bytes: u64,
}

impl Excess {
    fn is_any(self) -> bool {
        self.records > 0 || self.bytes > 0
    }
}

impl Broker {
    /// Notes a queue that gives up its oldest and may have to, once what was published to it is seen.
    pub(crate) fn may_be_full(&self, queue: &Arc<Queue>, seen: Seen) {
        if !drops(&queue.settings.read().options) || !self.excess(queue, true).is_any() {
            return;
        }
        let weak = Arc::downgrade(queue);
        let mut maintenance = self.inner().maintenance.lock();
        match maintenance.full.iter_mut().find(|full| full.is(&weak)) {
            Some(full) => full.seen = full.seen.and(seen),
            None => maintenance.full.push(Full { queue: weak, seen }),
        }
        drop(maintenance);
        self.inner().stir.notify_one();
    }

    /// How much of its oldest a queue holds beyond its limit; with `all` also what is not seen yet, or
    /// waits for its time.
    fn excess(&self, queue: &Queue, all: bool) -> Excess {
        let none = Excess { records: 0, bytes: 0 };
        let limit = queue.settings.read().options.limit;
        let Ok(log) = self.store().log_stats_now(queue.log) else { return none };
        let Ok(group) = self.store().group_stats_now(queue.group) else { return none };
        // What somebody holds cannot be given up, and does not count.
        let most = log.records.saturating_sub(group.leased);
        let held = log.bytes.saturating_sub(group.leased_bytes);
        let (ready, bytes) = if all {
            (most, held)
        } else {
            let later = group.waiting_bytes + log.unseen_bytes;
            (group.ready.min(most), held.saturating_sub(later))
        };
        Excess {
            records: limit.messages.map_or(0, |max| ready.saturating_sub(max)),
            bytes: limit.bytes.map_or(0, |max| bytes.saturating_sub(max)),
        }
    }

    fn is_seen(&self, seen: Seen) -> bool {
        let store = self.store();
        store.durable_now(Durability::Os) >= seen.written
            && store.durable_now(Durability::Fsync) >= seen.synced
    }

    /// Brings queues that give up their oldest within their limits, as far as all is seen. What fails, or
    /// is cut short, stays to be done.
    ///
    /// # Errors
    /// The first error; the other queues are trimmed all the same.
    pub(crate) async fn trim_full(&self) -> Result<()> {
        let full = self.inner().maintenance.lock().full.clone();
        let mut done = Ok(());
        for Full { queue: weak, seen } in full {
            // Before it is looked at: what becomes visible behind the look is still to be looked at.
            let seen_all = self.is_seen(seen);
            let finished = match weak.upgrade() {
                None => true,
                Some(queue) => match gone_is_fine(self.trim(&queue).await) {
                    Ok(gone) => {
                        gone.is_none()
                            || queue.is_deleted()
                            || seen_all && !self.excess(&queue, true).is_any()
                    }
                    Err(error) => {
                        done = done.and(Err(error));
                        false
                    }
                },
            };
            if finished {
                let mut maintenance = self.inner().maintenance.lock();
                maintenance.full.retain(|full| !full.is(&weak) || full.seen != seen);
            }
        }
        done
    }

    /// Waits until more is seen of a queue that may be full.
    pub(crate) async fn fuller(&self) {
        let full = self.inner().maintenance.lock().full.clone();
        let next = full.into_iter().map(|full| full.seen).find(|seen| !self.is_seen(*seen));
        match next {
            // A store that is poisoned lets nothing more be seen.
            Some(seen) if until_seen(self.store(), seen).await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }

    /// Brings a queue within its limit; one at a time, however many ask for it.
    async fn trim(&self, queue: &Arc<Queue>) -> Result<()> {
        loop {
            let (begun, trimming) = self.trimming(queue);
            if let Err((reason, detail)) = trimming.await {
                let text = "a queue could not give up its oldest";
                return Err(Error::new(reason, text).note(detail));
            }
            // What was under way may have looked before what is to be trimmed now was seen.
            if begun {
                return Ok(());
            }
        }
    }

    /// The trimming of a queue that is under way, or one that is begun by this. Whoever waits drives it:
    /// a caller that rests with it half done, as a connection does that waits for something else first,
    /// holds nobody up. It ends with the last who waits.
    fn trimming(&self, queue: &Arc<Queue>) -> (bool, Trimming) {
        let mut running = queue.trimming.lock();
        if let Some(trimming) = running.0.as_ref().and_then(WeakShared::upgrade)
            && trimming.peek().is_none()
        {
            return (false, trimming);
        }
        let (broker, queue) = (self.clone(), Arc::clone(queue));
        let trim = async move {
            broker.trim_now(&queue).await.map_err(|error| (error.reason(), error.detail()))
        };
        let trimming: Trimming = trim.boxed().shared();
        running.0 = trimming.downgrade();
        (true, trimming)
    }

    /// Lets consumers that wait have what is ready, as far as it would be given up: what goes to them
    /// counts for no limit.
    async fn hand_out(&self, queue: &Queue) {
        let end = Instant::now() + HANDING_TIME;
        for turn in 0u32.. {
            let goes = self.is_awaited(queue) && self.excess(queue, false).is_any();
            if !goes || Instant::now() >= end {
                return;
            }
            if turn < HANDING_TURNS {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn trim_now(&self, queue: &Arc<Queue>) -> Result<()> {
        self.hand_out(queue).await;
        let source = MessageSource::Queue(Arc::clone(queue));
        loop {
            let excess = self.excess(queue, false);
            if !excess.is_any() || queue.is_deleted() {
                return Ok(());
            }
            // Never more than has to go: the last of it is asked for alone.
            let (records, bytes) = match excess {
                Excess { records: 0, bytes } => (AT_ONCE as u64, bytes),
                Excess { records, .. } => (records.min(AT_ONCE as u64), u64::MAX),
            };
            let records = records as u32;
            let ask = LeaseLimits { consumer: ConsumerId::SYSTEM, records, bytes, lease: None };
            let taken = self.store().lease_now(queue.group, ask)?.wait().await?;
            let mut oldest = Taken { broker: self, deliveries: taken };
            if oldest.deliveries.is_empty() {
                return Ok(());
            }
            let leases: Vec<_> = oldest.deliveries.iter().map(lease_of).collect();
            let settlements: Vec<_> = leases
                .iter()
                .zip(&oldest.deliveries)
                .map(|(lease, delivery)| Settlement {
                    lease,
                    event: Event::Overflowed,
                    record: Some(&delivery.record),
                })
                .collect();
            self.settle_all(&source, &settlements).await?;
            oldest.deliveries.clear();
        }
    }
}

/// Messages taken for the system; what is not done with them when this is dropped is given back.
pub(crate) struct Taken<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) deliveries: Vec<weft_ledger::LeasedRecord>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // At the worst they count as failed once their leases run out.
        let _given = self.broker.give_back(&self.deliveries, Due::Now);
    }
}

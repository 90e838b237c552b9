//! Maintenance: one task that does what is due.
//!
//! Leases that ran out and messages that expired are decided like any settlement; schedules fire; what
//! nobody has used for its time is deleted; full queues give up their oldest; subscriptions that lead to
//! a queue are forwarded. [`Broker::maintain_once`] does all of it once and says when to come again, so that
//! a test or a simulation drives it; [`Broker::maintain`] is the task.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use weft_kernel::{Code, Reason, Result, Tick};
use weft_ledger::{Due, Durability, Settle, Transaction, Why, due_changed, has_ended};

use crate::{
    broker::Broker,
    consume::{Lease, lease_of},
    options::SubscriptionTarget,
    settle::{Event, Verdict},
    settlement::Settlement,
    source::{MessageSource, Queue, Subscription, WeakSource},
    trim::Full,
    watch::Aftermaths,
};

/// How much is done in one go before others get their turn.
pub(crate) const AT_ONCE: usize = 256;
/// The longest time without a look at the wall clock, which may jump.
const LOOK: Duration = Duration::from_secs(1);
/// The longest time without a look while nothing depends on the wall clock.
const REST: Duration = Duration::from_secs(30);
/// How long a delivery waits that cannot be decided, or belongs to nothing the broker knows.
const LATER: Duration = Duration::from_secs(1);

/// What maintenance watches.
#[derive(Default)]
pub(crate) struct Maintenance {
    /// Auto-delete queues whose last consumer has left.
    abandoned: Vec<Weak<Queue>>,
    /// Queues that may hold more than they should.
    pub(crate) full: Vec<Full>,
    /// What is deleted when it is not used for its time.
    expiring: Vec<WeakSource>,
    /// Before this none of it goes, because use only puts that off; zero when something is new.
    expires_at: Tick,
    /// What consumers held that went away without a word.
    lost: Vec<(MessageSource, Vec<(Lease, Verdict)>)>,
    /// Subscriptions that lead to a queue and are not consumed yet.
    pub(crate) forwarded: Vec<Weak<Subscription>>,
    /// What has parked keys.
    pub(crate) parked: Vec<WeakSource>,
    /// Before this they are not looked at again.
    pub(crate) parked_at: Tick,
}

impl Maintenance {
    fn watch(&mut self, source: WeakSource) {
        if !self.expiring.iter().any(|other| other.same(&source)) {
            self.expiring.push(source);
        }
        self.expires_at = Tick::ZERO;
    }
}

impl Broker {
    /// Does what is due until the future is dropped. One at a time.
    ///
    /// # Errors
    /// [`Reason::StoragePoisoned`] or [`Reason::Draining`] once nothing can be kept any more. Other failures are tried again.
    pub async fn maintain(&self) -> Result<()> {
        loop {
            let stirred = self.inner().stir.notified();
            let next = match self.maintain_once().await {
                Ok(next) => next,
                Err(error) if has_ended(&error) => return Err(error),
                // What could not be done is still due, and nothing is gained by hurrying.
                Err(error) => {
                    tracing::warn!(error = %error.detail(), "maintenance of the broker failed, and is tried again");
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
            };
            let rest = if self.looks_at_the_wall() { LOOK } else { REST };
            let wait = next.map_or(rest, |next| next.since(self.clock().now()).min(rest));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = due_changed(self.store()) => {}
                () = stirred => {}
                () = self.forwardable() => {}
                () = self.fuller() => {}
            }
        }
    }

    /// Does all that is due now, and says when something will be next.
    ///
    /// # Errors
    /// What the store refuses; what was not done is still due.
    pub async fn maintain_once(&self) -> Result<Option<Tick>> {
        // One chore that fails keeps no other from being done.
        let done = [
            self.overdue().await,
            self.fire_schedules().await,
            self.delete_unused().await,
            self.settle_lost().await,
            self.trim_full().await,
            self.forward().await,
        ];
        let next_expiry = self.delete_expired().await;
        let parked = self.free_parked().await;
        done.into_iter().collect::<Result<()>>()?;
        let next = [self.store().next_due_now(), self.next_schedule(), next_expiry?, parked?];
        Ok(next.into_iter().flatten().min())
    }

    fn looks_at_the_wall(&self) -> bool {
        self.next_schedule().is_some() || self.store().waits_for_wall_now()
    }

    /// Decides leases that ran out and messages that expired. Those of a group that cannot be decided are
    /// given back.
    ///
    /// # Errors
    /// The first error; the other groups are decided all the same.
    async fn overdue(&self) -> Result<()> {
        let mut done = Ok(());
        loop {
            let mut any = false;
            let mut due = self.store().overdue(AT_ONCE).await?;
            let many = due.len() == AT_ONCE;
            due.sort_by_key(|delivery| delivery.group);
            for of_group in due.chunk_by(|a, b| a.group == b.group) {
                let Some(first) = of_group.first() else { continue };
                for delivery in of_group {
                    if delivery.why == Why::LeaseExpired {
                        self.lease_ended(delivery);
                    }
                }
                let decided = match self.source_of(first.group) {
                    Some(source) => self.decide_due(&source, of_group).await,
                    None => self.give_back(of_group, Due::After(LATER)),
                };
                any |= decided.is_ok();
                if let Err(error) = decided {
                    done = done.and(Err(error));
                    // Where not even that can be done they come again once their leases run out.
                    let _given = self.give_back(of_group, Due::After(LATER));
                }
            }
            if !many || !any {
                return done;
            }
        }
    }

    async fn decide_due(
        &self,
        source: &MessageSource,
        due: &[weft_ledger::LeasedRecord],
    ) -> Result<()> {
        let leases: Vec<_> = due.iter().map(lease_of).map(Lease::taken_over).collect();
        let waits = |delivery: &weft_ledger::LeasedRecord| {
            source.dead_letters_waiting().lock().has(delivery.group, delivery.position)
        };
        let settlements = leases
            .iter()
            .zip(due)
            .map(|(lease, delivery)| Settlement {
                lease,
                event: match delivery.why {
                    _ if waits(delivery) => Event::DeadLetterWaiting,
                    Why::Expired => Event::Expired,
                    Why::LeaseExpired | Why::Ready => Event::LeaseExpired,
                },
                record: Some(&delivery.record),
            })
            .collect();
        let settlements = self.lease_on(source, settlements);
        self.settle_all(source, &settlements).await?;
        Ok(())
    }

    /// Gives back what was handed to the system, without fault.
    pub(crate) fn give_back(
        &self,
        deliveries: &[weft_ledger::LeasedRecord],
        due: Due,
    ) -> Result<()> {
        for delivery in deliveries {
            let how = Settle::Retry { due, failed: false, note: delivery.note.clone() };
            let settle = Transaction::new(Durability::Memory).settle(
                delivery.group,
                delivery.position,
                delivery.token,
                how,
            );
            if let Err(refused) = self.store().submit_now(settle)
                && !matches!(refused.error.reason(), Reason::LeaseLost | Reason::NoMessage)
            {
                return Err(refused.into());
            }
        }
        Ok(())
    }

    /// Notes what a consumer held that went away, to be settled.
    pub(crate) fn lost(&self, source: &MessageSource, held: Vec<(Lease, Verdict)>) {
        self.inner().maintenance.lock().lost.push((source.clone(), held));
        self.inner().stir.notify_one();
    }

    /// Settles what consumers held that went away.
    ///
    /// # Errors
    /// The first error; what could not be settled is tried again.
    async fn settle_lost(&self) -> Result<()> {
        let mut done = Ok(());
        let all = std::mem::take(&mut self.inner().maintenance.lock().lost);
        let mut left = Lost { broker: self, all };
        while let Some((source, held)) = left.all.last() {
            let settlements: Vec<_> = held
                .iter()
                .map(|(lease, verdict)| {
                    let event = Event::Said(verdict);
                    Settlement { lease, event, record: None }
                })
                .collect();
            let settled = gone_is_fine(self.settle_all(source, &settlements).await);
            // At the worst their leases run out, which counts as well.
            left.all.pop();
            done = done.and(settled.map(|_| ()));
        }
        done
    }

    /// Lets a consumer take another message for one whose lease ran out.
    fn lease_ended(&self, delivery: &weft_ledger::LeasedRecord) {
        if let Some(held) = self.held(delivery.consumer) {
            held.expired(delivery.group, delivery.position);
        }
    }

    /// Notes that the last consumer of an auto-delete queue has left.
    pub(crate) fn auto_delete(&self, queue: &Arc<Queue>) {
        self.inner().maintenance.lock().abandoned.push(Arc::downgrade(queue));
        self.inner().stir.notify_one();
    }

    /// Deletes auto-delete queues that nobody consumes any more.
    pub(crate) async fn delete_unused(&self) -> Result<()> {
        loop {
            let Some(queue) = self.inner().maintenance.lock().abandoned.pop() else {
                return Ok(());
            };
            let Some(queue) = queue.upgrade() else { continue };
            let mut aftermaths = Aftermaths::default();
            let deleted = {
                let _one = self.inner().changing.lock().await;
                if queue.is_deleted() || queue.consumers() > 0 || !queue.usage.had_consumer() {
                    continue;
                }
                gone_is_fine(self.delete_queue_alone(&queue, &mut aftermaths).await)
            };
            aftermaths.finish().await;
            if let Err(error) = deleted {
                // It is still to be done.
                self.inner().maintenance.lock().abandoned.push(Arc::downgrade(&queue));
                return Err(error);
            }
        }
    }

    pub(crate) fn watch_queue(&self, queue: &Arc<Queue>) {
        if queue.settings.read().options.expires.is_some() {
            let source = MessageSource::Queue(Arc::clone(queue)).downgrade();
            self.inner().maintenance.lock().watch(source);
            self.inner().stir.notify_one();
        }
    }

    pub(crate) fn watch_subscription(&self, subscription: &Arc<Subscription>) {
        let settings = subscription.settings();
        let mut maintenance = self.inner().maintenance.lock();
        if settings.options.ephemeral.is_some() {
            maintenance.watch(MessageSource::Subscription(Arc::clone(subscription)).downgrade());
        }
        if matches!(settings.options.target, SubscriptionTarget::Queue(_)) {
            maintenance.forwarded.push(Arc::downgrade(subscription));
        }
        drop(maintenance);
        self.inner().stir.notify_one();
    }

    /// Deletes what nobody has used for its time; says when the next one may go.
    async fn delete_expired(&self) -> Result<Option<Tick>> {
        let now = self.clock().now();
        let watched = {
            let mut maintenance = self.inner().maintenance.lock();
            if maintenance.expiring.is_empty() {
                return Ok(None);
            }
            if now < maintenance.expires_at {
                return Ok(Some(maintenance.expires_at));
            }
            maintenance.expires_at = Tick::NEVER;
            std::mem::take(&mut maintenance.expiring)
        };
        let (mut next, mut keep) = (None::<Tick>, Vec::with_capacity(watched.len()));
        let mut gone = Vec::new();
        for weak in watched {
            let Some(source) = weak.upgrade() else { continue };
            let span = match &source {
                MessageSource::Queue(queue) => queue.settings.read().options.expires,
                MessageSource::Subscription(subscription) => {
                    subscription.settings.read().options.ephemeral
                }
            };
            let Some(span) = span.filter(|_| !source.usage().is_deleted()) else { continue };
            keep.push(weak);
            if source.usage().consumers() > 0 {
                source.usage().touch(now);
            }
            let at = source.usage().last().plus(span);
            if at <= now {
                // Looked at again at once, should it not go after all.
                next = Some(now);
                gone.push(source);
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        {
            let mut maintenance = self.inner().maintenance.lock();
            maintenance.expiring.append(&mut keep);
            maintenance.expires_at = maintenance.expires_at.min(next.unwrap_or(Tick::NEVER));
        }
        for source in gone {
            let mut aftermaths = Aftermaths::default();
            let deleted = {
                let _one = self.inner().changing.lock().await;
                if source.usage().consumers() > 0 || source.usage().is_deleted() {
                    continue;
                }
                match &source {
                    MessageSource::Queue(queue) => {
                        self.delete_queue_alone(queue, &mut aftermaths).await
                    }
                    MessageSource::Subscription(subscription) => {
                        self.delete_subscription_alone(subscription, &mut aftermaths).await
                    }
                }
            };
            aftermaths.finish().await;
            gone_is_fine(deleted)?;
        }
        Ok(next)
    }
}

/// What consumers held that went away; put back if this is cut short.
struct Lost<'a> {
    broker: &'a Broker,
    all: Vec<(MessageSource, Vec<(Lease, Verdict)>)>,
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        self.broker.inner().maintenance.lock().lost.append(&mut self.all);
    }
}

/// What was deleted by somebody else meanwhile needs nothing more.
pub(crate) fn gone_is_fine<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

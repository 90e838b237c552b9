//! What is done with queues, topics and subscriptions, whichever engine keeps them.
//!
//! The embedded engine is called as it is. Another one is asked by name, after it is known that it has what
//! the operation needs.

use std::time::Duration;

use weft_kernel::{Deadline, Result};
use weft_ledger::Limits;

use super::{
    AnyLease, AnyQueue, AnySource, AnySubscription, AnyTarget, AnyTopic, Capability, Engine,
    Engines, Skip,
};
use crate::{
    inspect::{Browsed, Peeked, QueueView, SeekTo, SubscriptionView, TopicView},
    message::Message,
    name::Key,
    options::Start,
    publish::{Publish, Published},
    redrive::{RedriveOptions, Redriven},
    schedule::{Schedule, ScheduleTarget, When},
    settle::Verdict,
};

/// Refuses what an engine cannot do.
fn need(engine: &dyn Engine, capability: Capability) -> Result<()> {
    engine.capabilities().need(engine.name(), capability)
}

impl Engines {
    /// The numbers of a queue.
    ///
    /// # Errors
    /// Of another engine: what it says.
    pub async fn queue_view(&self, queue: &AnyQueue) -> Result<QueueView> {
        match queue {
            AnyQueue::Embedded(queue) => Ok(self.0.embedded.queue_view(queue)),
            AnyQueue::Other(queue) => queue.engine().inspect_queue(queue.key()).await,
        }
    }

    /// The numbers of a topic.
    ///
    /// # Errors
    /// Of another engine: what it says.
    pub async fn topic_view(&self, topic: &AnyTopic) -> Result<TopicView> {
        match topic {
            AnyTopic::Embedded(topic) => Ok(self.0.embedded.topic_view(topic)),
            AnyTopic::Other(topic) => topic.engine().inspect_topic(topic.key()).await,
        }
    }

    /// The numbers of a subscription.
    ///
    /// # Errors
    /// Of another engine: what it says.
    pub async fn subscription_view(&self, of: &AnySubscription) -> Result<SubscriptionView> {
        match of {
            AnySubscription::Embedded(of) => Ok(self.0.embedded.subscription_view(of)),
            AnySubscription::Other(of) => of.engine().inspect_subscription(of.key()).await,
        }
    }

    /// Publishes messages to one queue or topic, and waits for their level.
    ///
    /// # Errors
    /// As [`Broker::publish`](crate::Broker::publish), and `not_supported` for what the engine lacks.
    pub async fn publish(
        &self,
        target: &AnyTarget,
        messages: &[Publish],
        expect: Option<u64>,
    ) -> Result<Published> {
        match target {
            AnyTarget::Embedded(target) => self.0.embedded.publish(target, messages, expect).await,
            AnyTarget::Other(target) => {
                let engine = target.engine();
                for publish in messages {
                    engine.capabilities().check_publish(engine.name(), publish, expect)?;
                }
                engine.publish(target.place(), messages, expect).await
            }
        }
    }

    /// Publishes a request, waits for its reply until the deadline, and gives it. Whether anybody listens is
    /// known beforehand of the embedded engine alone.
    ///
    /// # Errors
    /// As [`Broker::request`](crate::Broker::request).
    pub async fn request(
        &self,
        target: &AnyTarget,
        publish: Publish,
        deadline: Deadline,
    ) -> Result<Message> {
        match target {
            AnyTarget::Embedded(target) => self.0.embedded.request(target, publish, deadline).await,
            AnyTarget::Other(of) => {
                let ttl = publish.ttl;
                let expires = of.engine().capabilities().has(Capability::TimeToLive);
                let send = async |request: Publish| {
                    // That it goes with its deadline is good to have, and was not asked for.
                    let ttl = if expires { request.ttl } else { ttl };
                    self.publish(target, &[Publish { ttl, ..request }], None).await
                };
                self.0.embedded.ask(publish, deadline, send).await
            }
        }
    }

    /// Settles deliveries by the texts of their leases, in one transaction where the engine has that, and
    /// waits for the level of the queue or topic. One result for each.
    ///
    /// # Errors
    /// What the engine says; nothing is settled then.
    pub async fn settle(
        &self,
        source: &AnySource,
        verdicts: Vec<(AnyLease, Verdict)>,
    ) -> Result<Vec<Result<()>>> {
        match source {
            AnySource::Embedded(source) => self.0.embedded.settle_any(source, verdicts).await,
            AnySource::Other(source) => source.engine().settle(source.place(), verdicts).await,
        }
    }

    /// Starts a lease anew.
    ///
    /// # Errors
    /// `lease_lost` if it is over.
    pub async fn renew(&self, source: &AnySource, lease: AnyLease, span: Duration) -> Result<()> {
        match source {
            AnySource::Embedded(source) => {
                let (settler, lease) = self.0.embedded.lease_of(source, lease).await?;
                settler.renew(&lease, span)
            }
            AnySource::Other(source) => {
                need(source.engine(), Capability::LeaseRenewal)?;
                source.engine().renew(source.place(), &lease, span).await
            }
        }
    }

    /// Messages of a queue from a position on, with how they stand, as far as the limits go.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn peek(&self, queue: &AnyQueue, from: u64, limits: Limits) -> Result<Vec<Peeked>> {
        match queue {
            AnyQueue::Embedded(queue) => {
                self.0.embedded.peek(&queue.clone().into(), None, from, limits).await
            }
            AnyQueue::Other(queue) => {
                need(queue.engine(), Capability::Peek)?;
                queue.engine().peek(queue.key(), from, limits).await
            }
        }
    }

    /// Drops the messages of a queue that nobody holds, and says how many they were.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn purge(&self, queue: &AnyQueue) -> Result<u64> {
        match queue {
            AnyQueue::Embedded(queue) => self.0.embedded.purge(&queue.clone().into()).await,
            AnyQueue::Other(queue) => {
                need(queue.engine(), Capability::Purge)?;
                queue.engine().purge(queue.key()).await
            }
        }
    }

    /// Sends dead letters of a queue back, or to a target of the same engine.
    ///
    /// # Errors
    /// As [`Broker::redrive`](crate::Broker::redrive); `not_supported` for a target of another engine.
    pub async fn redrive(
        &self,
        dead: &AnyQueue,
        to: Option<&AnyTarget>,
        options: RedriveOptions,
    ) -> Result<Redriven> {
        match (dead, to) {
            (AnyQueue::Embedded(dead), None) => self.0.embedded.redrive(dead, None, &options).await,
            (AnyQueue::Embedded(dead), Some(AnyTarget::Embedded(to))) => {
                self.0.embedded.redrive(dead, Some(to), &options).await
            }
            (AnyQueue::Other(dead), None) => {
                need(dead.engine(), Capability::Redrive)?;
                dead.engine().redrive(dead.key(), None, options).await
            }
            (AnyQueue::Other(dead), Some(AnyTarget::Other(to)))
                if to.engine().name() == dead.engine().name() =>
            {
                need(dead.engine(), Capability::Redrive)?;
                dead.engine().redrive(dead.key(), Some(to.place()), options).await
            }
            (_, Some(_)) => Err(super::across("dead letters are sent on within their engine")),
        }
    }

    /// Messages of a topic from a position on, as far as the limits go; empty at its end.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn browse(
        &self,
        topic: &AnyTopic,
        from: u64,
        limits: Limits,
    ) -> Result<Vec<Browsed>> {
        match topic {
            AnyTopic::Embedded(topic) => self.0.embedded.browse(topic, from, limits).await,
            AnyTopic::Other(topic) => {
                need(topic.engine(), Capability::Browse)?;
                topic.engine().browse(topic.key(), from, limits).await
            }
        }
    }

    /// The position in a topic that a start stands for.
    ///
    /// # Errors
    /// `position_conflict` for a position beyond the end.
    pub async fn position(&self, topic: &AnyTopic, start: Start) -> Result<u64> {
        match topic {
            AnyTopic::Embedded(topic) => self.0.embedded.position(topic, start).await,
            AnyTopic::Other(topic) => {
                need(topic.engine(), Capability::Browse)?;
                topic.engine().position(topic.key(), start).await
            }
        }
    }

    /// Waits until a topic has a message at or beyond a position. Cancel-safe.
    ///
    /// # Errors
    /// `no_topic` once it is deleted.
    pub async fn until_beyond(&self, topic: &AnyTopic, position: u64) -> Result<()> {
        match topic {
            AnyTopic::Embedded(topic) => self.0.embedded.until_beyond(topic, position).await,
            AnyTopic::Other(topic) => {
                need(topic.engine(), Capability::Browse)?;
                topic.engine().until_beyond(topic.key(), position).await
            }
        }
    }

    /// The last message of a key of a compacted topic, `None` if there is none.
    ///
    /// # Errors
    /// As [`Broker::last`](crate::Broker::last).
    pub async fn last(&self, topic: &AnyTopic, key: &[u8]) -> Result<Option<Browsed>> {
        match topic {
            AnyTopic::Embedded(topic) => self.0.embedded.last(topic, key).await,
            AnyTopic::Other(topic) => {
                need(topic.engine(), Capability::Compaction)?;
                topic.engine().last(topic.key(), key).await
            }
        }
    }

    /// Moves a subscription; retries and leases of it are forgotten.
    ///
    /// # Errors
    /// As [`Broker::seek`](crate::Broker::seek).
    pub async fn seek(&self, of: &AnySubscription, to: SeekTo) -> Result<()> {
        match of {
            AnySubscription::Embedded(of) => self.0.embedded.seek(of, to).await,
            AnySubscription::Other(of) => {
                let needed = match to {
                    SeekTo::Time(_) => Capability::ReplayByTime,
                    _ => Capability::Replay,
                };
                need(of.engine(), needed)?;
                of.engine().seek(of.key(), to).await
            }
        }
    }

    /// Passes over messages of a subscription.
    ///
    /// # Errors
    /// As [`Broker::skip`](crate::Broker::skip) and [`Broker::skip_one`](crate::Broker::skip_one).
    pub async fn skip(&self, of: &AnySubscription, skip: Skip) -> Result<()> {
        match of {
            AnySubscription::Embedded(of) => self.0.embedded.skip_by(of, skip).await,
            AnySubscription::Other(of) => {
                need(of.engine(), Capability::Skip)?;
                of.engine().skip(of.key(), skip).await
            }
        }
    }

    /// Makes a schedule, or changes the one that has this id.
    ///
    /// # Errors
    /// As [`Broker::schedule`](crate::Broker::schedule); `not_supported` for a target that another engine
    /// keeps.
    pub async fn schedule(
        &self,
        id: &Key,
        target: ScheduleTarget,
        when: When,
        publish: &Publish,
    ) -> Result<Schedule> {
        if let AnyTarget::Other(found) = self.schedule_target(id, &target)? {
            need(found.engine(), Capability::NamedSchedules)?;
        }
        self.0.embedded.schedule(id, target, when, publish).await
    }

    /// What a schedule leads to.
    pub(super) fn schedule_target(&self, id: &Key, target: &ScheduleTarget) -> Result<AnyTarget> {
        Ok(match target {
            ScheduleTarget::Queue(name) => self.queue(&id.sibling(name)?)?.into(),
            ScheduleTarget::Topic(name) => self.topic(&id.sibling(name)?)?.into(),
        })
    }
}

//! The embedded engine: the broker on its own store. It has every capability.
//!
//! Here it is asked as any engine is, by name and with boxed answers, for who does not know which it is.
//! Front-ends have the broker itself, by [`Engines`](super::Engines).

use std::{sync::LazyLock, time::Duration};

use weft_kernel::{Error, Reason, Result};
use weft_ledger::Limits;

use super::{
    Answer, AnyDelivery, AnyLease, Capabilities, EMBEDDED, Engine, EngineConsumer, From, Skip,
    Support, To, consumer::any,
};
use crate::{
    broker::Broker,
    consume::{Consumer, ConsumerOptions, Lease, Settler, lease_lost},
    inspect::{Browsed, Peeked, QueueView, SeekTo, SubscriptionView, TopicView},
    name::{Key, SubscriptionKey},
    options::{QueueOptions, Start, SubscriptionOptions, TopicOptions},
    publish::{Publish, PublishTarget, Published},
    redrive::{RedriveOptions, Redriven},
    settle::Verdict,
    source::{MessageSource, Subscription},
};

static CAPABILITIES: LazyLock<Capabilities> =
    LazyLock::new(|| Capabilities::new(|_capability| Support::Native));

impl Capabilities {
    /// What the embedded engine can: everything.
    pub fn embedded() -> &'static Self {
        &CAPABILITIES
    }
}

impl Broker {
    fn target(&self, to: To<'_>) -> Result<PublishTarget> {
        Ok(match to {
            To::Queue(key) => PublishTarget::Queue(self.queue(key)?),
            To::Topic(key) => PublishTarget::Topic(self.topic(key)?),
        })
    }

    fn source(&self, from: From<'_>) -> Result<MessageSource> {
        Ok(match from {
            From::Queue(key) => MessageSource::Queue(self.queue(key)?),
            From::Subscription(key) => MessageSource::Subscription(self.subscription(key)?),
        })
    }
}

impl Engine for Broker {
    fn name(&self) -> &str {
        EMBEDDED
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn declare_queue<'a>(&'a self, key: &'a Key, options: QueueOptions) -> Answer<'a, ()> {
        Box::pin(async move { Self::declare_queue(self, key, options).await.map(drop) })
    }

    fn declare_topic<'a>(&'a self, key: &'a Key, options: TopicOptions) -> Answer<'a, ()> {
        Box::pin(async move { Self::declare_topic(self, key, options).await.map(drop) })
    }

    fn declare_subscription<'a>(
        &'a self,
        key: &'a SubscriptionKey,
        options: SubscriptionOptions,
    ) -> Answer<'a, ()> {
        Box::pin(async move { Self::declare_subscription(self, key, options).await.map(drop) })
    }

    fn alter_queue<'a>(&'a self, key: &'a Key, options: QueueOptions) -> Answer<'a, ()> {
        Box::pin(Self::alter_queue(self, key, options))
    }

    fn alter_topic<'a>(&'a self, key: &'a Key, options: TopicOptions) -> Answer<'a, ()> {
        Box::pin(Self::alter_topic(self, key, options))
    }

    fn alter_subscription<'a>(
        &'a self,
        key: &'a SubscriptionKey,
        options: SubscriptionOptions,
    ) -> Answer<'a, ()> {
        Box::pin(Self::alter_subscription(self, key, options))
    }

    fn delete_queue<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        Box::pin(Self::delete_queue(self, key, None))
    }

    fn delete_topic<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        Box::pin(Self::delete_topic(self, key))
    }

    fn delete_subscription<'a>(&'a self, key: &'a SubscriptionKey) -> Answer<'a, ()> {
        Box::pin(Self::delete_subscription(self, key))
    }

    fn inspect_queue<'a>(&'a self, key: &'a Key) -> Answer<'a, QueueView> {
        Box::pin(async move { Ok(self.queue_view(&*self.queue(key)?)) })
    }

    fn inspect_topic<'a>(&'a self, key: &'a Key) -> Answer<'a, TopicView> {
        Box::pin(async move { Ok(self.topic_view(&*self.topic(key)?)) })
    }

    fn inspect_subscription<'a>(
        &'a self,
        key: &'a SubscriptionKey,
    ) -> Answer<'a, SubscriptionView> {
        Box::pin(async move { Ok(self.subscription_view(&*self.subscription(key)?)) })
    }

    fn publish<'a>(
        &'a self,
        to: To<'a>,
        messages: &'a [Publish],
        expect: Option<u64>,
    ) -> Answer<'a, Published> {
        Box::pin(async move { Self::publish(self, &self.target(to)?, messages, expect).await })
    }

    fn consume<'a>(
        &'a self,
        from: From<'a>,
        options: ConsumerOptions,
    ) -> Answer<'a, Box<dyn EngineConsumer>> {
        Box::pin(async move {
            let consumer = Self::consume(self, self.source(from)?, options)?;
            Ok(Box::new(consumer) as Box<dyn EngineConsumer>)
        })
    }

    fn settle<'a>(
        &'a self,
        from: From<'a>,
        verdicts: Vec<(AnyLease, Verdict)>,
    ) -> Answer<'a, Vec<Result<()>>> {
        Box::pin(async move {
            let source = self.source(from)?;
            self.settle_any(&source, verdicts).await
        })
    }

    fn renew<'a>(&'a self, from: From<'a>, lease: &'a AnyLease, span: Duration) -> Answer<'a, ()> {
        Box::pin(async move {
            let source = self.source(from)?;
            let (settler, lease) = self.lease_of(&source, lease.clone()).await?;
            settler.renew(&lease, span)
        })
    }

    fn peek<'a>(&'a self, key: &'a Key, from: u64, limits: Limits) -> Answer<'a, Vec<Peeked>> {
        Box::pin(
            async move { Self::peek(self, &self.queue(key)?.into(), None, from, limits).await },
        )
    }

    fn purge<'a>(&'a self, key: &'a Key) -> Answer<'a, u64> {
        Box::pin(async move { Self::purge(self, &self.queue(key)?.into()).await })
    }

    fn redrive<'a>(
        &'a self,
        dead: &'a Key,
        to: Option<To<'a>>,
        options: RedriveOptions,
    ) -> Answer<'a, Redriven> {
        Box::pin(async move {
            let to = to.map(|to| self.target(to)).transpose()?;
            Self::redrive(self, &self.queue(dead)?, to.as_ref(), &options).await
        })
    }

    fn browse<'a>(&'a self, key: &'a Key, from: u64, limits: Limits) -> Answer<'a, Vec<Browsed>> {
        Box::pin(async move { Self::browse(self, &*self.topic(key)?, from, limits).await })
    }

    fn position<'a>(&'a self, key: &'a Key, start: Start) -> Answer<'a, u64> {
        Box::pin(async move { Self::position(self, &*self.topic(key)?, start).await })
    }

    fn until_beyond<'a>(&'a self, key: &'a Key, position: u64) -> Answer<'a, ()> {
        Box::pin(async move { Self::until_beyond(self, &*self.topic(key)?, position).await })
    }

    fn last<'a>(&'a self, key: &'a Key, of: &'a [u8]) -> Answer<'a, Option<Browsed>> {
        Box::pin(async move { Self::last(self, &*self.topic(key)?, of).await })
    }

    fn seek<'a>(&'a self, key: &'a SubscriptionKey, to: SeekTo) -> Answer<'a, ()> {
        Box::pin(async move { Self::seek(self, &*self.subscription(key)?, to).await })
    }

    fn skip<'a>(&'a self, key: &'a SubscriptionKey, skip: Skip) -> Answer<'a, ()> {
        Box::pin(async move { self.skip_by(&*self.subscription(key)?, skip).await })
    }
}

impl Broker {
    /// A lease of a source, and what settles it; one that was handed out as a text is found again by it.
    pub(super) async fn lease_of(
        &self,
        source: &MessageSource,
        lease: AnyLease,
    ) -> Result<(Settler, Lease)> {
        let text = match lease {
            AnyLease::Embedded(lease) => return Ok((self.settler(source), lease)),
            AnyLease::Other(text) => text,
        };
        let (settler, lease) = self.lease_of_text(&text).await?;
        if !settler.source().is(source) {
            return Err(Error::new(Reason::LeaseLost, "the delivery is not one of this path"));
        }
        Ok((settler, lease))
    }

    /// Passes over messages of a subscription.
    pub(super) async fn skip_by(&self, subscription: &Subscription, skip: Skip) -> Result<()> {
        match skip {
            Skip::Messages(count) => Self::skip(self, subscription, count).await.map(drop),
            Skip::Position(position) => self.skip_one(subscription, position).await,
        }
    }

    /// Settles deliveries of a source in one transaction, whoever took them, and waits for its level.
    pub(super) async fn settle_any(
        &self,
        source: &MessageSource,
        verdicts: Vec<(AnyLease, Verdict)>,
    ) -> Result<Vec<Result<()>>> {
        let mut settler: Option<Settler> = None;
        let mut results = Vec::with_capacity(verdicts.len());
        // Which result each of those belongs to that are still leased.
        let mut of = Vec::with_capacity(verdicts.len());
        let mut running = Vec::with_capacity(verdicts.len());
        for (lease, verdict) in verdicts {
            match self.lease_of(source, lease).await {
                Ok((holder, lease)) => {
                    settler.get_or_insert(holder);
                    of.push(results.len());
                    running.push((lease, verdict));
                    results.push(Ok(()));
                }
                Err(error) => results.push(Err(error)),
            }
        }
        let Some(settler) = settler else { return Ok(results) };
        for lost in settler.settle_durably(&running).await?.lost {
            if let (Some(&at), Some((lease, _))) = (of.get(lost), running.get(lost))
                && let Some(result) = results.get_mut(at)
            {
                *result = Err(lease_lost(lease.position));
            }
        }
        Ok(results)
    }
}

impl EngineConsumer for Consumer {
    fn next(&mut self, max: u32) -> Answer<'_, Vec<AnyDelivery>> {
        Box::pin(async move { Ok(any(self.next_batch(max).await?)) })
    }

    fn now(&mut self, max: u32) -> Answer<'_, Vec<AnyDelivery>> {
        Box::pin(async move { Ok(any(self.try_batch(max).await?)) })
    }

    fn forgive(&mut self) {
        Self::forgive(self);
    }

    fn detach(self: Box<Self>) {
        Self::detach(*self);
    }
}

//! The embedded engine: the broker on its own store. It can everything.

use std::{collections::HashMap, time::Duration};

use weft_kernel::Result;

use super::{Answer, Capabilities, Engine, From, Handed, Support, Taker, To};
use crate::{
    broker::Broker,
    consume::{Consumer, ConsumerOptions, Delivery, Lease, lease_lost},
    inspect::{QueueView, SubscriptionView, TopicView},
    name::{Key, SubscriptionKey},
    options::{QueueOptions, SubscriptionOptions, TopicOptions},
    publish::{Publish, Published, Target},
    settle::Verdict,
};

impl Engine for Broker {
    fn name(&self) -> &str {
        "embedded"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(|_capability| Support::Native)
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

    fn publish<'a>(&'a self, to: To<'a>, messages: &'a [Publish]) -> Answer<'a, Published> {
        Box::pin(async move {
            let target = match to {
                To::Queue(key) => Target::Queue(self.queue(key)?),
                To::Topic(key) => Target::Topic(self.topic(key)?),
            };
            Self::publish(self, &target, messages, None).await
        })
    }

    fn consume<'a>(
        &'a self,
        from: From<'a>,
        options: ConsumerOptions,
    ) -> Answer<'a, Box<dyn Taker>> {
        Box::pin(async move {
            let consumer = match from {
                From::Queue(key) => Self::consume(self, self.queue(key)?, options)?,
                From::Subscription(key) => Self::consume(self, self.subscription(key)?, options)?,
            };
            Ok(Box::new(Embedded { consumer, running: HashMap::new() }) as Box<dyn Taker>)
        })
    }
}

struct Embedded {
    consumer: Consumer,
    running: HashMap<u64, Lease>,
}

impl Embedded {
    fn hand(&mut self, taken: Vec<Delivery>) -> Vec<Handed> {
        taken
            .into_iter()
            .map(|delivery| {
                let handed = Handed {
                    handle: delivery.lease.id(),
                    message: delivery.message,
                    key: delivery.key,
                    failures: delivery.lease.failures,
                    handouts: delivery.lease.handouts,
                };
                self.running.insert(handed.handle, delivery.lease);
                handed
            })
            .collect()
    }
}

impl Taker for Embedded {
    fn next(&mut self, max: u32) -> Answer<'_, Vec<Handed>> {
        Box::pin(async move {
            let taken = self.consumer.next_batch(max).await?;
            Ok(self.hand(taken))
        })
    }

    fn now(&mut self, max: u32) -> Answer<'_, Vec<Handed>> {
        Box::pin(async move {
            let taken = self.consumer.try_batch(max).await?;
            Ok(self.hand(taken))
        })
    }

    fn settle(&mut self, verdicts: Vec<(u64, Verdict)>) -> Answer<'_, Vec<u64>> {
        Box::pin(async move {
            let mut lost = Vec::new();
            let mut handles = Vec::with_capacity(verdicts.len());
            let mut running = Vec::with_capacity(verdicts.len());
            for (handle, verdict) in verdicts {
                match self.running.get(&handle) {
                    Some(lease) => {
                        handles.push(handle);
                        running.push((lease.clone(), verdict));
                    }
                    None => lost.push(handle),
                }
            }
            let settled = self.consumer.settler().settle_durably(&running).await?;
            lost.extend(settled.lost.iter().filter_map(|at| handles.get(*at)));
            for handle in handles {
                self.running.remove(&handle);
            }
            Ok(lost)
        })
    }

    fn renew(&mut self, handle: u64, span: Duration) -> Result<()> {
        let lease = self.running.get(&handle).ok_or_else(|| lease_lost(handle))?;
        self.consumer.settler().renew(lease, span)
    }
}

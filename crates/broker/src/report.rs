//! Every number of every topic, queue and subscription at once, for the scrape.

use crate::{
    broker::Broker,
    inspect::{QueueView, SubscriptionView, TopicView},
    name::{Key, SubscriptionKey},
};

/// The numbers of all that there is. Its size is bounded by what was declared.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Each topic.
    pub topics: Vec<(Key, TopicView)>,
    /// Each queue that is kept.
    pub queues: Vec<(Key, QueueView)>,
    /// Queues that live in memory, summed: they come and go with their connections.
    pub transient: QueueView,
    /// How many of those there are.
    pub transient_queues: usize,
    /// Each subscription.
    pub subscriptions: Vec<(SubscriptionKey, SubscriptionView)>,
}

impl Broker {
    /// The numbers of all topics, queues and subscriptions.
    pub fn report(&self) -> Report {
        let mut report = Report {
            topics: self
                .topics()
                .iter()
                .map(|topic| (topic.key().clone(), self.topic_view(topic)))
                .collect(),
            subscriptions: self
                .subscriptions()
                .iter()
                .map(|one| (one.key().clone(), self.subscription_view(one)))
                .collect(),
            ..Report::default()
        };
        for queue in self.queues() {
            let view = self.queue_view(&queue);
            if queue.settings.read().options.transient {
                report.transient_queues += 1;
                add(&mut report.transient, &view);
            } else {
                report.queues.push((queue.key().clone(), view));
            }
        }
        report
    }
}

fn add(sum: &mut QueueView, view: &QueueView) {
    sum.ready += view.ready;
    sum.leased += view.leased;
    sum.waiting += view.waiting;
    sum.bytes += view.bytes;
    sum.consumers += view.consumers;
    sum.parked += view.parked;
    sum.counts.add(&view.counts);
    if view.oldest_ms != 0 && (sum.oldest_ms == 0 || view.oldest_ms < sum.oldest_ms) {
        sum.oldest_ms = view.oldest_ms;
    }
}

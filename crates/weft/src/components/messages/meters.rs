//! The metrics of topics, queues and subscriptions, asked for at each scrape.
//!
//! Queues that live in memory alone come and go with their connections, so that they are told as one,
//! and only by what they hold: what one has counted goes with it, and a counter must never fall.

use std::time::{SystemTime, UNIX_EPOCH};

use weft_broker::{Counts, QueueView};
use weft_telemetry::metrics::{Metric, Writer};

use super::Messages;

/// The label of all queues that live in memory.
const TRANSIENT: &str = "(transient)";

impl Messages {
    /// Writes them.
    pub fn write(&self, to: &mut Writer) {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.topics(to);
        self.queues(now_ms, to);
        self.subscriptions(now_ms, to);
    }

    fn topics(&self, to: &mut Writer) {
        for topic in self.broker.topics() {
            let name = topic.key().to_string();
            let of = [("topic", &*name)];
            let view = self.broker.topic_view(&topic);
            to.counter(Metric::TopicPublished, &of, view.counts.published);
            to.counter(Metric::TopicDuplicates, &of, view.counts.duplicates);
            to.gauge(Metric::TopicMessages, &of, view.messages as f64);
            to.gauge(Metric::TopicBytes, &of, view.bytes as f64);
        }
    }

    fn queues(&self, now_ms: u128, to: &mut Writer) {
        let mut transient: Option<QueueView> = None;
        for queue in self.broker.queues() {
            let view = self.broker.queue_view(&queue);
            if queue.options().transient {
                let sum = transient.get_or_insert_default();
                sum.ready += view.ready;
                sum.leased += view.leased;
                sum.waiting += view.waiting;
                sum.dead_letters_waiting += view.dead_letters_waiting;
                sum.consumers += view.consumers;
                sum.oldest_ms = match (sum.oldest_ms, view.oldest_ms) {
                    (0, oldest) | (oldest, 0) => oldest,
                    (one, other) => one.min(other),
                };
                continue;
            }
            let name = queue.key().to_string();
            counted(&name, &view.counts, to);
            held(&name, &view, now_ms, to);
        }
        if let Some(view) = transient {
            held(TRANSIENT, &view, now_ms, to);
        }
    }

    fn subscriptions(&self, now_ms: u128, to: &mut Writer) {
        for subscription in self.broker.subscriptions() {
            let key = subscription.key();
            let topic = key.topic.to_string();
            let of = [("topic", &*topic), ("subscription", &*key.name)];
            let view = self.broker.subscription_view(&subscription);
            to.counter(Metric::SubscriptionDelivered, &of, view.counts.delivered);
            settled(Metric::SubscriptionSettled, &of, &view.counts, to);
            to.counter(Metric::SubscriptionDead, &of, view.counts.dead_lettered);
            to.counter(Metric::SubscriptionFilterFailed, &of, view.counts.filter_failed);
            let states = [
                ("ready", view.ready),
                ("leased", view.leased),
                ("waiting", view.waiting),
                ("dead_letter", view.dead_letters_waiting),
            ];
            for (state, count) in states {
                to.gauge(
                    Metric::SubscriptionMessages,
                    &[of[0], of[1], ("state", state)],
                    count as f64,
                );
            }
            to.gauge(Metric::SubscriptionLag, &of, age(now_ms, view.oldest_ms));
            to.gauge(Metric::SubscriptionConsumers, &of, f64::from(view.consumers));
        }
    }
}

/// What has happened to the messages of a queue.
fn counted(name: &str, counts: &Counts, to: &mut Writer) {
    let of = [("queue", name)];
    to.counter(Metric::QueuePublished, &of, counts.published);
    to.counter(Metric::QueueDuplicates, &of, counts.duplicates);
    to.counter(Metric::QueueRefused, &of, counts.refused);
    to.counter(Metric::QueueDelivered, &of, counts.delivered);
    settled(Metric::QueueSettled, &of, counts, to);
    to.counter(Metric::QueueDead, &of, counts.dead_lettered);
    for (cause, count) in [("expired", counts.expired), ("given_up", counts.dropped)] {
        to.counter(Metric::QueueDropped, &[of[0], ("cause", cause)], count);
    }
}

/// What a queue holds now.
fn held(name: &str, view: &QueueView, now_ms: u128, to: &mut Writer) {
    let of = [("queue", name)];
    for (state, count) in [
        ("ready", view.ready),
        ("leased", view.leased),
        ("waiting", view.waiting),
        ("dead_letter", view.dead_letters_waiting),
    ] {
        to.gauge(Metric::QueueMessages, &[of[0], ("state", state)], count as f64);
    }
    to.gauge(Metric::QueueOldest, &of, age(now_ms, view.oldest_ms));
    to.gauge(Metric::QueueConsumers, &of, f64::from(view.consumers));
}

fn settled(metric: Metric, of: &[(&'static str, &str)], counts: &Counts, to: &mut Writer) {
    for (how, count) in [
        ("accepted", counts.accepted),
        ("released", counts.released),
        ("failed", counts.failed),
        ("rejected", counts.rejected),
    ] {
        let labels: Vec<_> = of.iter().copied().chain([("how", how)]).collect();
        to.counter(metric, &labels, count);
    }
}

/// How old the oldest is, in seconds; 0 without one.
fn age(now_ms: u128, oldest_ms: u64) -> f64 {
    match oldest_ms {
        0 => 0.0,
        oldest => now_ms.saturating_sub(u128::from(oldest)) as f64 / 1_000.0,
    }
}

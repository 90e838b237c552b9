//! Topics: declared, seen, deleted.

use std::{collections::HashMap, sync::Arc};

use weft_api::Settings as _;
use weft_broker::{Broker, Key, Pattern, Subscription, Topic};
use weft_kernel::Result;

use super::view::TopicView;
use super::{Ask, ask};
use crate::{body, handle::is_declared, response::Response, settings::topic::TopicSettings, time};

/// `GET /v1/topics`
pub(super) async fn list(ask: Ask<'_>) -> Result<Response> {
    let broker = ask.handle.broker();
    let readers = Readers::of(broker);
    ask::list(
        &ask,
        "topics",
        broker.topics(),
        |topic| &topic.key().space,
        |topic| view(broker, &readers, topic),
    )
}

/// `GET /v1/topics/{topic}`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let topic = ask.topic(&mut query)?;
    let broker = ask.handle.broker();
    Response::json(200, &view(broker, &Readers::of(broker), &topic))
}

/// `PUT /v1/topics/{topic}`
pub(super) async fn put(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let key = ask.key(&mut query)?;
    let change = ask::change(&mut query)?;
    let settings: TopicSettings = ask.body()?;
    let broker = ask.handle.broker();
    if let Ok(was) = broker.topic(&key) {
        let is = TopicSettings::of(&was.options());
        if is != settings {
            body::refuse(&settings.faults())?;
            ask.may_change(
                &format!("topic {key}"),
                ask.handle.declared().topics.contains(&key),
                change,
                &is,
                &settings,
            )?;
            broker.alter_topic(&key, settings.options()).await?;
        }
        return Response::json(200, &view(broker, &Readers::of(broker), &was));
    }
    body::refuse(&settings.faults())?;
    let topic = broker.declare_topic(&key, settings.options()).await?;
    Response::json(201, &view(broker, &Readers::of(broker), &topic))
}

/// `DELETE /v1/topics/{topic}`
pub(super) async fn delete(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let key = ask.key(&mut query)?;
    if ask.handle.declared().topics.contains(&key) {
        return Err(is_declared(&format!("topic {key}")));
    }
    ask.handle.broker().delete_topic(&key).await?;
    ask.handle.look_for_pushes();
    Ok(Response::empty(204))
}

/// Who reads which topic.
struct Readers {
    subscriptions: Vec<Arc<Subscription>>,
    by_topic: HashMap<Key, Vec<usize>>,
    patterns: Vec<(Pattern, usize)>,
}

impl Readers {
    fn of(broker: &Broker) -> Self {
        let subscriptions = broker.subscriptions();
        let mut by_topic: HashMap<Key, Vec<usize>> = HashMap::new();
        let mut patterns = Vec::new();
        for (index, subscription) in subscriptions.iter().enumerate() {
            let topic = &subscription.key().topic;
            match Pattern::new(&topic.name) {
                Ok(pattern) if Pattern::is_one(&topic.name) => patterns.push((pattern, index)),
                _ => by_topic.entry(topic.clone()).or_default().push(index),
            }
        }
        Self { subscriptions, by_topic, patterns }
    }

    /// The names of those that read a topic.
    fn names(&self, topic: &Key) -> Vec<&str> {
        let by_pattern = self.patterns.iter().filter_map(|(pattern, index)| {
            let subscription = self.subscriptions.get(*index)?;
            let fits = subscription.key().topic.space == topic.space && pattern.takes(&topic.name);
            fits.then_some(index)
        });
        self.by_topic
            .get(topic)
            .into_iter()
            .flatten()
            .chain(by_pattern)
            .filter_map(|index| self.subscriptions.get(*index))
            .map(|subscription| &*subscription.key().name)
            .collect()
    }
}

fn view(broker: &Broker, readers: &Readers, topic: &Topic) -> TopicView {
    let stats = broker.topic_view(topic);
    let moment = |ms: u64| (ms > 0).then(|| time::text(ms));
    TopicView {
        name: topic.key().name.to_string(),
        engine: "embedded",
        options: TopicSettings::of(&topic.options()),
        first: stats.first,
        end: stats.end,
        messages: stats.messages,
        bytes: stats.bytes,
        oldest: moment(stats.oldest_ms),
        newest: moment(stats.last_ms),
        published: stats.counts.published,
        duplicates: stats.counts.duplicates,
        subscriptions: readers.names(topic.key()).into_iter().map(Into::into).collect(),
    }
}

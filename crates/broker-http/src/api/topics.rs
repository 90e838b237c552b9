//! Topics: declared, seen, deleted.

use std::collections::HashMap;

use weft_api::Settings as _;
use weft_broker::{
    Key, Pattern,
    engine::{AnySubscription, AnyTopic, Engines},
};
use weft_kernel::Result;

use super::view::TopicView;
use super::{Ask, ask};
use crate::{body, handle::is_declared, response::Response, settings::topic::TopicSettings, time};

/// `GET /v1/topics`
pub(super) async fn list(ask: Ask<'_>) -> Result<Response> {
    let engines = ask.handle.engines();
    let readers = &Readers::of(engines);
    let view = |topic: AnyTopic| async move {
        let told = ask::numbers(engines.topic_view(&topic).await)?;
        Ok(told.map(|(stats, away)| shown(readers, &topic, &stats, away)))
    };
    ask::list(&ask, "topics", engines.topics(), |topic| &topic.key().space, view).await
}

/// `GET /v1/topics/{topic}`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let topic = ask.topic(&mut query)?;
    Response::json(200, &view(ask.handle.engines(), &topic).await?)
}

/// `PUT /v1/topics/{topic}`
pub(super) async fn put(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let key = ask.key(&mut query)?;
    let change = ask::change(&mut query)?;
    let settings: TopicSettings = ask.body()?;
    let engines = ask.handle.engines();
    if let Ok(was) = engines.topic(&key) {
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
            engines.alter_topic(&was, settings.options()).await?;
        }
        return Response::json(200, &view(engines, &was).await?);
    }
    body::refuse(&settings.faults())?;
    let topic = engines.declare_topic(&key, settings.options()).await?;
    Response::json(201, &view(engines, &topic).await?)
}

/// `DELETE /v1/topics/{topic}`
pub(super) async fn delete(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let key = ask.key(&mut query)?;
    if ask.handle.declared().topics.contains(&key) {
        return Err(is_declared(&format!("topic {key}")));
    }
    let engines = ask.handle.engines();
    engines.delete_topic(&engines.topic(&key)?).await?;
    ask.handle.look_for_pushes();
    Ok(Response::empty(204))
}

/// Who reads which topic.
struct Readers {
    subscriptions: Vec<AnySubscription>,
    by_topic: HashMap<Key, Vec<usize>>,
    patterns: Vec<(Pattern, usize)>,
}

impl Readers {
    fn of(engines: &Engines) -> Self {
        let subscriptions = engines.subscriptions();
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

async fn view(engines: &Engines, topic: &AnyTopic) -> Result<TopicView> {
    let stats = engines.topic_view(topic).await?;
    Ok(shown(&Readers::of(engines), topic, &stats, None))
}

/// A topic with its numbers, or why there are none.
fn shown(
    readers: &Readers,
    topic: &AnyTopic,
    stats: &weft_broker::TopicView,
    unavailable: Option<String>,
) -> TopicView {
    let moment = |ms: u64| (ms > 0).then(|| time::text(ms));
    TopicView {
        name: topic.key().name.to_string(),
        engine: topic.engine().to_owned(),
        unavailable,
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

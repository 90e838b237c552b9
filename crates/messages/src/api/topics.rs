//! Topics: declared, seen, deleted.

use serde_json::{Value, json};
use weft_broker::{Broker, Pattern, Topic};
use weft_kernel::Result;

use super::{Ask, ask::space};
use crate::{
    desk::is_declared,
    response::Response,
    settings::{self, topic::TopicSettings},
    time,
};

/// `GET /v1/topics`
pub(super) async fn list(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let space = space(&mut query);
    query.done()?;
    let broker = ask.desk.broker();
    let mut views = Vec::new();
    for topic in broker.topics() {
        if *topic.key().space == *space {
            views.push(view(broker, &topic));
        }
    }
    Response::json(200, &json!({"topics": views}))
}

/// `GET /v1/topics/{topic}`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let topic = ask.topic(&mut query)?;
    query.done()?;
    Response::json(200, &view(ask.desk.broker(), &topic))
}

/// `PUT /v1/topics/{topic}`
pub(super) async fn put(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let key = ask.key(&mut query)?;
    query.done()?;
    let options = settings::read::<TopicSettings>(&ask.request.body)?.options();
    let broker = ask.desk.broker();
    let was = broker.topic(&key).ok();
    if was.as_ref().is_some_and(|was| was.options() != options)
        && ask.desk.declared().topics.contains(&key)
    {
        return Err(is_declared(&format!("topic {key}")));
    }
    let topic = broker.declare_topic(&key, options).await?;
    Response::json(if was.is_some() { 200 } else { 201 }, &view(broker, &topic))
}

/// `DELETE /v1/topics/{topic}`
pub(super) async fn delete(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let key = ask.key(&mut query)?;
    query.done()?;
    if ask.desk.declared().topics.contains(&key) {
        return Err(is_declared(&format!("topic {key}")));
    }
    ask.desk.broker().delete_topic(&key).await?;
    Ok(Response::empty(204))
}

fn view(broker: &Broker, topic: &Topic) -> Value {
    let stats = broker.topic_view(topic);
    let names: Vec<String> = broker
        .subscriptions()
        .iter()
        .filter(|subscription| {
            let on = &subscription.key().topic;
            on.space == topic.key().space
                && (on.name == topic.key().name
                    || Pattern::new(&on.name).is_ok_and(|pattern| pattern.takes(&topic.key().name)))
        })
        .map(|subscription| subscription.key().name.to_string())
        .collect();
    let moment = |ms: u64| if ms == 0 { Value::Null } else { time::text(ms).into() };
    json!({
        "name": *topic.key().name,
        "engine": "embedded",
        "options": TopicSettings::of(&topic.options()),
        "first": stats.first,
        "end": stats.end,
        "messages": stats.messages,
        "bytes": stats.bytes,
        "oldest": moment(stats.oldest_ms),
        "newest": moment(stats.last_ms),
        "published": stats.counts.published,
        "duplicates": stats.counts.duplicates,
        "subscriptions": names,
    })
}

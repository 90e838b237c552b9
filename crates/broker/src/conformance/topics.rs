//! What every engine has to do with topics and subscriptions.

use std::time::Duration;

use weft_kernel::Reason;
use weft_ledger::Limits;

use super::{Client, Fault, Pass, ensure, id_of, ids, key, one, publishes, told};
use crate::{
    engine::{Engine, Skip, To},
    filter::FilterOptions,
    inspect::SeekTo,
    name::{Key, SubscriptionKey},
    options::{Start, SubscriptionOptions, TopicOptions},
    publish::Publish,
    settle::Verdict,
};

/// A new topic.
async fn topic(engine: &dyn Engine, name: &str, options: TopicOptions) -> Result<Key, Fault> {
    let topic = key(name)?;
    told("declare", engine.declare_topic(&topic, options).await)?;
    Ok(topic)
}

async fn publish(engine: &dyn Engine, topic: &Key, names: &[&str]) -> Result<(), Fault> {
    let messages = publishes(names)?;
    told("publish", engine.publish(To::Topic(topic), &messages, None).await).map(drop)
}

pub(super) async fn each_subscription_gets_everything(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let topic = topic(engine, "everything", TopicOptions::default()).await?;
    let options = SubscriptionOptions::default();
    let mut first = Client::subscribed(engine, &topic, "first", options.clone()).await?;
    let mut second = Client::subscribed(engine, &topic, "second", options.clone()).await?;
    publish(engine, &topic, &["1", "2"]).await?;
    let mut late = Client::subscribed(engine, &topic, "late", options).await?;
    for client in [&mut first, &mut second] {
        let taken = client.next().await?;
        ensure(ids(&taken) == ["1", "2"], format!("handed out {:?}", ids(&taken)))?;
        let on = taken.iter().all(|delivery| delivery.topic.as_ref() == Some(&topic));
        ensure(on, "a delivery does not say its topic")?;
    }
    late.empty("it was handed what was there before it").await?;
    let view = told("inspect", engine.inspect_topic(&topic).await)?;
    ensure(view.messages == 2, "a message is stored once however many read it")
}

pub(super) async fn an_old_message_is_replayed(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let topic = topic(engine, "replayed", TopicOptions::default()).await?;
    publish(engine, &topic, &["1", "2"]).await?;
    let options = SubscriptionOptions { start: Start::First, ..SubscriptionOptions::default() };
    let taken = Client::subscribed(engine, &topic, "all", options).await?.next().await?;
    ensure(ids(&taken) == ["1", "2"], format!("handed out {:?}", ids(&taken)))
}

pub(super) async fn a_filter_is_kept(engine: &dyn Engine, _pass: Pass<'_>) -> Result<(), Fault> {
    let topic = topic(engine, "filtered", TopicOptions::default()).await?;
    let expression = Some("event.id == '2'".to_owned());
    let filter = FilterOptions { expression, ..FilterOptions::default() };
    let options = SubscriptionOptions { filter, ..SubscriptionOptions::default() };
    let mut client = Client::subscribed(engine, &topic, "some", options).await?;
    publish(engine, &topic, &["1", "2", "3"]).await?;
    let taken = client.next().await?;
    ensure(ids(&taken) == ["2"], format!("handed out {:?}", ids(&taken)))
}

pub(super) async fn a_topic_is_read_without_a_subscription(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let topic = topic(engine, "browsed", TopicOptions::default()).await?;
    publish(engine, &topic, &["1", "2", "3"]).await?;
    let first = told("position", engine.position(&topic, Start::First).await)?;
    let all = told("browse", engine.browse(&topic, first, Limits::default()).await)?;
    let seen: Vec<String> = all.iter().filter_map(|one| one.message.as_ref().map(id_of)).collect();
    ensure(seen == ["1", "2", "3"], format!("{seen:?} was read"))?;
    let end = told("position", engine.position(&topic, Start::Next).await)?;
    let rest = told("browse", engine.browse(&topic, end, Limits::default()).await)?;
    ensure(rest.is_empty(), "something stands behind the end")?;
    let beyond = engine.position(&topic, Start::Position(end + 1)).await;
    let reason = beyond.err().map(|error| error.reason());
    ensure(reason == Some(Reason::PositionConflict), "a position beyond the end is one")?;
    let more = async {
        told("until", engine.until_beyond(&topic, end).await)?;
        told("browse", engine.browse(&topic, end, Limits::default()).await)
    };
    let (more, published) = tokio::join!(more, publish(engine, &topic, &["4"]));
    published?;
    ensure(more?.len() == 1, "what is waited for is not there then")
}

pub(super) async fn a_position_can_be_expected(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let topic = topic(engine, "expected", TopicOptions::default()).await?;
    publish(engine, &topic, &["1"]).await?;
    let end = told("inspect", engine.inspect_topic(&topic).await)?.end;
    let next = publishes(&["2"])?;
    let stored = engine.publish(To::Topic(&topic), &next, Some(end)).await;
    ensure(told("publish", stored)?.stored == Some((end, end)), "it got another position")?;
    let late = engine.publish(To::Topic(&topic), &publishes(&["3"])?, Some(end)).await;
    let reason = late.err().map(|error| error.reason());
    ensure(reason == Some(Reason::PositionConflict), "who came later got the same position")
}

pub(super) async fn the_last_of_a_key_is_found(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let options = TopicOptions { compact: true, ..TopicOptions::default() };
    let topic = topic(engine, "compacted", options).await?;
    let messages: Vec<Publish> =
        publishes(&["1", "2"])?.into_iter().map(|publish| publish.keyed("k")).collect();
    told("publish", engine.publish(To::Topic(&topic), &messages, None).await)?;
    let last = told("last", engine.last(&topic, b"k").await)?;
    let last = last.and_then(|last| last.message).map(|message| id_of(&message));
    ensure(last.as_deref() == Some("2"), format!("the last is {last:?}"))?;
    let other = told("last", engine.last(&topic, b"other").await)?;
    ensure(other.is_none(), "a key without a message has a last one")
}

pub(super) async fn a_subscription_is_moved(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let topic = topic(engine, "moved", TopicOptions::default()).await?;
    let options = SubscriptionOptions::default();
    let mut client = Client::subscribed(engine, &topic, "mover", options).await?;
    publish(engine, &topic, &["1", "2"]).await?;
    for delivery in &client.next().await? {
        client.settle(delivery, Verdict::Accept).await?;
    }
    let key = told("a name", SubscriptionKey::new(&topic, "mover"))?;
    told("seek", engine.seek(&key, SeekTo::First).await)?;
    let taken = client.next().await?;
    ensure(ids(&taken) == ["1", "2"], format!("handed out {:?}", ids(&taken)))?;
    told("seek", engine.seek(&key, SeekTo::End).await)?;
    client.empty("it was moved to the end, and handed something out").await
}

pub(super) async fn messages_are_skipped(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let topic = topic(engine, "skipped", TopicOptions::default()).await?;
    let options = SubscriptionOptions::default();
    let mut client = Client::subscribed(engine, &topic, "skipper", options).await?;
    publish(engine, &topic, &["1", "2"]).await?;
    let key = told("a name", SubscriptionKey::new(&topic, "skipper"))?;
    told("skip", engine.skip(&key, Skip::Messages(1)).await)?;
    let taken = client.next().await?;
    ensure(ids(&taken) == ["2"], format!("handed out {:?}", ids(&taken)))?;
    let position = one(&taken)?.position;
    told("skip", engine.skip(&key, Skip::Position(position)).await)?;
    let late = client.try_settle(one(&taken)?, Verdict::Accept).await?;
    let reason = late.err().map(|error| error.reason());
    ensure(reason == Some(Reason::LeaseLost), "what was skipped can be settled")
}

pub(super) async fn what_is_paused_hands_out_nothing(
    engine: &dyn Engine,
    pass: Pass<'_>,
) -> Result<(), Fault> {
    let topic = topic(engine, "paused", TopicOptions::default()).await?;
    let options = SubscriptionOptions::default();
    let mut client = Client::subscribed(engine, &topic, "pauser", options.clone()).await?;
    let key = told("a name", SubscriptionKey::new(&topic, "pauser"))?;
    let paused = SubscriptionOptions { paused: true, ..options.clone() };
    told("pause", engine.alter_subscription(&key, paused).await)?;
    publish(engine, &topic, &["1"]).await?;
    client.empty("it is paused, and handed something out").await?;
    told("resume", engine.alter_subscription(&key, options).await)?;
    told("pass", pass(Duration::from_secs(1)).await)?;
    ensure(ids(&client.next().await?) == ["1"], "it hands out nothing after its pause")
}

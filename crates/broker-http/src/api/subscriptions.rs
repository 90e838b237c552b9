//! Subscriptions: declared, seen, steered, deleted.

use serde::Deserialize;
use serde_json::Value;
use weft_api::Settings as _;
use weft_broker::{
    Key, SeekTo, Start, SubscriptionKey, SubscriptionOptions, SubscriptionTarget,
    engine::{self, AnySubscription, Engines},
};
use weft_kernel::{Error, Reason, Result};

use super::{
    Ask,
    ask::{self, space},
    view::SubscriptionView,
};
use crate::{
    body::{self, Body, Nothing},
    handle::is_declared,
    response::Response,
    schema::{Form, Member, Object, Shape, text::START},
    settings::subscription::{SubscriptionSettings, start},
    time,
};

/// `GET /v1/subscriptions`
pub(super) async fn list(ask: Ask<'_>) -> Result<Response> {
    let engines = ask.handle.engines();
    let view = |subscription: AnySubscription| async move {
        let told = ask::numbers(engines.subscription_view(&subscription).await)?;
        Ok(told.map(|(stats, away)| shown(&subscription, &stats, away)))
    };
    let all = engines.subscriptions();
    ask::list(&ask, "subscriptions", all, |of| &of.key().topic.space, view).await
}

/// `GET /v1/subscriptions/{name}`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let subscription = ask.subscription(&mut query)?;
    Response::json(200, &view(ask.handle.engines(), &subscription).await?)
}

/// `PUT /v1/subscriptions/{name}`
pub(super) async fn put(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let space = space(&mut query)?;
    let change = ask::change(&mut query)?;
    let settings: SubscriptionSettings = ask.body()?;
    let name = ask.names.at(0);
    let key = SubscriptionKey::new(&Key::new(&space, settings.topic())?, name)?;
    let engines = ask.handle.engines();
    let was = engines.subscription_named(&Key::new(&space, name)?).ok();
    if let Some(was) = was {
        if *was.key() != key {
            let say = format!("there is a subscription of this name, {}", was.key());
            return Err(Error::new(Reason::DefinitionConflict, say));
        }
        // As it would be shown: a time may be written in many ways.
        let settings = SubscriptionSettings::of(settings.topic(), &settings.options()?);
        let options = was.options();
        // To declare it again is to use it.
        engines.declare_subscription(&key, options.clone()).await?;
        let is = SubscriptionSettings::of(&key.topic.name, &options);
        let is_declared = ask.handle.declared().subscriptions.contains(&key);
        // One that a configuration pushed, and that it says no more, is the API's to go on with.
        let orphaned = !is_declared && is_configured(&options);
        if is != settings || orphaned {
            check(&ask, &settings)?;
            if is != settings {
                let what = format!("subscription {key}");
                ask.may_change(&what, is_declared, change, &is, &settings)?;
            }
            // Whether it is paused is no part of its definition here.
            let asked = SubscriptionOptions { paused: options.paused, ..settings.options()? };
            engines.alter_subscription(&was, asked).await?;
            ask.handle.look_for_pushes();
        }
        return Response::json(200, &view(engines, &was).await?);
    }
    check(&ask, &settings)?;
    let subscription = engines.declare_subscription(&key, settings.options()?).await?;
    ask.handle.look_for_pushes();
    Response::json(201, &view(engines, &subscription).await?)
}

/// Whether it is pushed by word of a configuration.
fn is_configured(options: &SubscriptionOptions) -> bool {
    matches!(&options.target, SubscriptionTarget::Push(target) if target.configured)
}

/// Refuses what the shapes of settings cannot say.
fn check(ask: &Ask<'_>, settings: &SubscriptionSettings) -> Result<()> {
    let mut faults = settings.faults();
    if let Some(push) = settings.push() {
        faults.extend(ask.handle.no_service(&push.service));
    }
    body::refuse(&faults)
}

/// `DELETE /v1/subscriptions/{name}`
pub(super) async fn delete(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let subscription = ask.subscription(&mut query)?;
    let key = subscription.key();
    if ask.handle.declared().subscriptions.contains(key) {
        return Err(is_declared(&format!("subscription {key}")));
    }
    ask.handle.engines().delete_subscription(&subscription).await?;
    ask.handle.look_for_pushes();
    Ok(Response::empty(204))
}

/// `POST /v1/subscriptions/{name}/pause`
pub(super) async fn pause(ask: Ask<'_>) -> Result<Response> {
    set_paused(ask, true).await
}

/// `POST /v1/subscriptions/{name}/resume`
pub(super) async fn resume(ask: Ask<'_>) -> Result<Response> {
    set_paused(ask, false).await
}

async fn set_paused(ask: Ask<'_>, paused: bool) -> Result<Response> {
    let mut query = ask.query()?;
    let subscription = ask.subscription(&mut query)?;
    let Nothing {} = ask.body()?;
    let engines = ask.handle.engines();
    engines.pause(&subscription, paused).await?;
    Response::json(200, &view(engines, &subscription).await?)
}

/// Where a subscription is moved.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seek {
    to: Value,
}

impl Body for Seek {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[Member::must(
        "to",
        Shape::Either(&[Shape::Text(&START), Shape::Int(0, u64::MAX)]),
    )]));
}

/// `POST /v1/subscriptions/{name}/seek`
pub(super) async fn seek(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let subscription = ask.subscription(&mut query)?;
    let asked: Seek = ask.body()?;
    let text = match &asked.to {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let engines = ask.handle.engines();
    let to = match start("to", &text)? {
        Start::First => SeekTo::First,
        Start::Next => SeekTo::End,
        Start::Position(position) => SeekTo::Position(position),
        Start::Time(ms) => SeekTo::Time(ms),
        Start::Last => SeekTo::Last,
    };
    engines.seek(&subscription, to).await?;
    Response::json(200, &view(engines, &subscription).await?)
}

/// What is passed over: the next messages, or the one of a position.
#[derive(Debug, Deserialize)]
#[serde(try_from = "EitherSkip")]
pub(super) enum Skip {
    Messages(u64),
    Position(u64),
}

/// The same as it is written: the other may be null.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EitherSkip {
    messages: Option<u64>,
    position: Option<u64>,
}

impl TryFrom<EitherSkip> for Skip {
    type Error = &'static str;

    fn try_from(skip: EitherSkip) -> Result<Self, Self::Error> {
        match (skip.messages, skip.position) {
            (Some(messages), None) => Ok(Self::Messages(messages)),
            (None, Some(position)) => Ok(Self::Position(position)),
            _ => Err("exactly one of `messages` and `position` is needed"),
        }
    }
}

impl Body for Skip {
    const SHAPE: &'static Shape = &Shape::Object(&Object {
        members: &[
            Member::may("messages", Shape::Int(0, u64::MAX)),
            Member::may("position", Shape::Int(0, u64::MAX)),
        ],
        forms: &[
            Form { only: None, required: &["messages"], without: &["position"] },
            Form { only: None, required: &["position"], without: &["messages"] },
        ],
        rule: "exactly one of `messages` and `position` is needed",
    });
}

/// `POST /v1/subscriptions/{name}/skip`
pub(super) async fn skip(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let subscription = ask.subscription(&mut query)?;
    let engines = ask.handle.engines();
    let skip = match ask.body()? {
        Skip::Messages(messages) => {
            engine::Skip::Messages(usize::try_from(messages).unwrap_or(usize::MAX))
        }
        Skip::Position(position) => engine::Skip::Position(position),
    };
    engines.skip(&subscription, skip).await?;
    Response::json(200, &view(engines, &subscription).await?)
}

async fn view(engines: &Engines, subscription: &AnySubscription) -> Result<SubscriptionView> {
    let stats = engines.subscription_view(subscription).await?;
    Ok(shown(subscription, &stats, None))
}

/// A subscription with its numbers, or why there are none.
fn shown(
    subscription: &AnySubscription,
    stats: &weft_broker::SubscriptionView,
    unavailable: Option<String>,
) -> SubscriptionView {
    let counts = stats.counts;
    let options = subscription.options();
    let key = subscription.key();
    SubscriptionView {
        name: key.name.to_string(),
        topic: key.topic.name.to_string(),
        engine: subscription.engine().to_owned(),
        unavailable,
        options: SubscriptionSettings::of(&key.topic.name, &options),
        state: if options.paused { "paused" } else { "active" },
        ready: stats.ready,
        leased: stats.leased,
        waiting: stats.waiting,
        lag_messages: stats.lag,
        lag_seconds: if stats.oldest_ms == 0 {
            0.0
        } else {
            time::now_ms().saturating_sub(stats.oldest_ms) as f64 / 1000.0
        },
        cursor: stats.cursor,
        consumers: stats.consumers,
        topics: stats.topics,
        dead_letters_waiting: stats.dead_letters_waiting,
        lost: stats.lost,
        parked_keys: stats.parked,
        delivered: counts.delivered,
        accepted: counts.accepted,
        failed: counts.failed,
        dead_lettered: counts.dead_lettered,
        filtered: counts.filtered,
        filter_failed: counts.filter_failed,
    }
}

//! What every engine has to do, whatever it is: the suite runs against any [`Engine`] as it is.
//!
//! A check that needs a capability which the engine says is missing is left out. The caller passes
//! time: a clock that stands still is moved, a real one is waited for.

use std::time::Duration;

use weft_kernel::{Reason, Result};

use crate::{
    consume::ConsumerOptions,
    engine::{Answer, Capability, Engine, From, Handed, Support, Taker, To},
    filter::FilterOptions,
    message::{Message, MessageBuilder, Value},
    name::{Key, SubscriptionKey},
    options::{Dedupe, OnFailure, Order, QueueOptions, Start, SubscriptionOptions, TopicOptions},
    publish::Publish,
    settle::Verdict,
};

/// What a check found wrong, in a sentence.
pub type Fault = String;

/// Lets time go by, and the engine do what is due.
pub type Pass<'a> = &'a (dyn Fn(Duration) -> Answer<'a, ()> + Send + Sync);

/// Runs every check against an engine whose names are free; gives the names of those that ran.
///
/// # Errors
/// With the name of the first check that failed, and why.
pub async fn run(engine: &dyn Engine, pass: Pass<'_>) -> Result<Vec<&'static str>, Fault> {
    let mut ran = Vec::new();
    macro_rules! check {
        ($name:ident) => {
            $name(engine, pass).await.map_err(|fault| format!("{}: {fault}", stringify!($name)))?;
            ran.push(stringify!($name));
        };
        ($name:ident needs $capability:ident) => {
            if engine.capabilities().get(Capability::$capability) != Support::Missing {
                check!($name);
            }
        };
    }
    check!(every_capability_is_told);
    check!(what_is_accepted_stays_gone);
    check!(what_is_released_comes_back_without_fault);
    check!(what_fails_comes_back_and_dies_in_the_end);
    check!(what_is_rejected_dies_at_once);
    check!(a_lost_lease_is_told);
    check!(a_taker_that_goes_gives_back);
    check!(two_takers_share needs CompetingConsumers);
    check!(a_key_keeps_its_order needs KeyOrder);
    check!(a_known_id_is_stored_once needs Dedupe);
    check!(a_priority_goes_first needs Priorities);
    check!(a_due_message_waits needs Schedules);
    check!(a_lease_can_be_renewed needs LeaseRenewal);
    check!(each_subscription_gets_everything);
    check!(a_filter_is_kept needs Filters);
    check!(what_is_not_there_is_told);
    Ok(ran)
}

fn ensure(truth: bool, otherwise: impl Into<Fault>) -> Result<(), Fault> {
    if truth { Ok(()) } else { Err(otherwise.into()) }
}

fn told<T>(what: &str, result: Result<T>) -> Result<T, Fault> {
    result.map_err(|error| format!("{what}: {}", error.detail()))
}

fn key(name: &str) -> Result<Key, Fault> {
    told("a name", Key::plain(name))
}

fn message(id: &str) -> Result<Message, Fault> {
    let built = MessageBuilder::event(64)
        .attribute("id", Value::Text(id))
        .attribute("source", Value::Text("/conformance"))
        .attribute("type", Value::Text("test"))
        .body(id.as_bytes())
        .finish();
    told("a message", built)
}

fn id(handed: &Handed) -> String {
    handed.message.event().map(|event| event.id().to_owned()).unwrap_or_default()
}

fn ids(handed: &[Handed]) -> Vec<String> {
    handed.iter().map(id).collect()
}

/// A queue with messages, and a taker.
async fn filled(
    engine: &dyn Engine,
    name: &str,
    options: QueueOptions,
    messages: &[Publish],
) -> Result<(Key, Box<dyn Taker>), Fault> {
    let key = key(name)?;
    told("declare", engine.declare_queue(&key, options).await)?;
    if !messages.is_empty() {
        told("publish", engine.publish(To::Queue(&key), messages).await)?;
    }
    let taker = engine.consume(From::Queue(&key), ConsumerOptions::default()).await;
    Ok((key, told("consume", taker)?))
}

fn publishes(names: &[&str]) -> Result<Vec<Publish>, Fault> {
    names.iter().map(|name| message(name).map(Publish::new)).collect()
}

async fn take(taker: &mut dyn Taker, max: u32) -> Result<Vec<Handed>, Fault> {
    told("take", taker.now(max).await)
}

async fn settle(taker: &mut dyn Taker, handed: &Handed, verdict: Verdict) -> Result<(), Fault> {
    let lost = told("settle", taker.settle(vec![(handed.handle, verdict)]).await)?;
    ensure(lost.is_empty(), format!("the lease of {} was lost", id(handed)))
}

fn fail() -> Verdict {
    Verdict::Fail { reason: "conformance".into(), delay: Some(Duration::from_secs(1)) }
}

async fn every_capability_is_told(engine: &dyn Engine, _pass: Pass<'_>) -> Result<(), Fault> {
    let told: Vec<Capability> = engine.capabilities().iter().map(|(one, _)| one).collect();
    ensure(told == Capability::ALL, "a capability is missing in the map or there twice")?;
    ensure(!engine.name().is_empty(), "the engine has no name")
}

async fn what_is_accepted_stays_gone(engine: &dyn Engine, pass: Pass<'_>) -> Result<(), Fault> {
    let messages = publishes(&["1", "2"])?;
    let (key, mut taker) = filled(engine, "accepted", QueueOptions::default(), &messages).await?;
    let taken = take(&mut *taker, 10).await?;
    ensure(ids(&taken) == ["1", "2"], format!("handed out {:?}", ids(&taken)))?;
    for handed in &taken {
        ensure(handed.message.body() == id(handed), "the body is another")?;
        settle(&mut *taker, handed, Verdict::Accept).await?;
    }
    told("pass", pass(Duration::from_secs(60)).await)?;
    ensure(take(&mut *taker, 10).await?.is_empty(), "what was accepted came back")?;
    let view = told("inspect", engine.inspect_queue(&key).await)?;
    ensure(view.ready + view.leased + view.waiting == 0, "the queue is not empty")
}

async fn what_is_released_comes_back_without_fault(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let options = QueueOptions { failures_max: Some(1), ..QueueOptions::default() };
    let (_, mut taker) = filled(engine, "released", options, &publishes(&["1"])?).await?;
    for _ in 0..5 {
        let taken = told("next", taker.next(10).await)?;
        let [handed] = taken.as_slice() else { return Err("it did not come back".into()) };
        ensure(handed.failures == 0, "releasing counted as a failure")?;
        settle(&mut *taker, handed, Verdict::Release).await?;
    }
    Ok(())
}

async fn what_fails_comes_back_and_dies_in_the_end(
    engine: &dyn Engine,
    pass: Pass<'_>,
) -> Result<(), Fault> {
    let options = QueueOptions { failures_max: Some(3), ..QueueOptions::default() };
    let (_, mut taker) = filled(engine, "failing", options, &publishes(&["1"])?).await?;
    for failures in 0..3 {
        let taken = take(&mut *taker, 10).await?;
        let [handed] = taken.as_slice() else {
            return Err(format!("it did not come back after {failures} failures"));
        };
        settle(&mut *taker, handed, fail()).await?;
        if engine.capabilities().get(Capability::DelayedRetry) != Support::Missing && failures < 2 {
            ensure(take(&mut *taker, 10).await?.is_empty(), "it came back at once")?;
        }
        told("pass", pass(Duration::from_secs(2)).await)?;
    }
    ensure(take(&mut *taker, 10).await?.is_empty(), "it outlived its failures")?;
    dead(engine, "failing.dead", "failures").await
}

async fn what_is_rejected_dies_at_once(engine: &dyn Engine, _pass: Pass<'_>) -> Result<(), Fault> {
    let options = QueueOptions::default();
    let (_, mut taker) = filled(engine, "rejected", options, &publishes(&["1"])?).await?;
    let taken = take(&mut *taker, 10).await?;
    let [handed] = taken.as_slice() else { return Err("it was not handed out".into()) };
    settle(&mut *taker, handed, Verdict::Reject { reason: "bad".into() }).await?;
    ensure(take(&mut *taker, 10).await?.is_empty(), "it came back")?;
    dead(engine, "rejected.dead", "rejected").await
}

/// Whether a queue of dead letters has one that died of `cause`.
async fn dead(engine: &dyn Engine, name: &str, cause: &str) -> Result<(), Fault> {
    let key = key(name)?;
    let taker = engine.consume(From::Queue(&key), ConsumerOptions::default()).await;
    let mut taker = told("consume the dead", taker)?;
    let taken = take(&mut *taker, 10).await?;
    let [handed] = taken.as_slice() else {
        return Err(format!("{} dead letters, not one", taken.len()));
    };
    if engine.capabilities().get(Capability::DeadLetterReason) != Support::Missing {
        let death = handed.message.death().ok_or("the dead letter tells nothing")?;
        ensure(death.cause.word() == cause, format!("it died of {}", death.cause.word()))?;
    }
    settle(&mut *taker, handed, Verdict::Accept).await
}

async fn a_lost_lease_is_told(engine: &dyn Engine, pass: Pass<'_>) -> Result<(), Fault> {
    let options = QueueOptions::default();
    let (_, mut taker) = filled(engine, "lost", options, &publishes(&["1"])?).await?;
    let taken = take(&mut *taker, 10).await?;
    let [handed] = taken.as_slice() else { return Err("it was not handed out".into()) };
    told("pass", pass(Duration::from_secs(31)).await)?;
    let lost = told("settle", taker.settle(vec![(handed.handle, Verdict::Accept)]).await)?;
    ensure(lost == [handed.handle], "a settlement that came too late was taken")?;
    told("pass", pass(Duration::from_secs(2)).await)?;
    ensure(take(&mut *taker, 10).await?.len() == 1, "it did not come back")
}

async fn a_taker_that_goes_gives_back(engine: &dyn Engine, _pass: Pass<'_>) -> Result<(), Fault> {
    let options = QueueOptions::default();
    let (key, mut taker) = filled(engine, "gone", options, &publishes(&["1"])?).await?;
    ensure(take(&mut *taker, 10).await?.len() == 1, "it was not handed out")?;
    drop(taker);
    let taker = engine.consume(From::Queue(&key), ConsumerOptions::default()).await;
    let taken = told("next", told("consume", taker)?.next(10).await)?;
    ensure(ids(&taken) == ["1"], "it was not given back")
}

async fn two_takers_share(engine: &dyn Engine, _pass: Pass<'_>) -> Result<(), Fault> {
    let messages = publishes(&["1", "2", "3", "4"])?;
    let (key, mut first) = filled(engine, "shared", QueueOptions::default(), &messages).await?;
    let second = engine.consume(From::Queue(&key), ConsumerOptions::default()).await;
    let mut second = told("consume", second)?;
    let mut all = ids(&take(&mut *first, 2).await?);
    all.extend(ids(&take(&mut *second, 10).await?));
    all.sort();
    ensure(all == ["1", "2", "3", "4"], format!("together they were handed {all:?}"))
}

async fn a_key_keeps_its_order(engine: &dyn Engine, pass: Pass<'_>) -> Result<(), Fault> {
    let order = Order::Key { on_failure: OnFailure::Block };
    let options = QueueOptions { order, ..QueueOptions::default() };
    let messages: Vec<Publish> =
        publishes(&["1", "2"])?.into_iter().map(|publish| publish.keyed("k")).collect();
    let (_, mut taker) = filled(engine, "keyed", options, &messages).await?;
    for _ in 0..2 {
        let taken = take(&mut *taker, 10).await?;
        ensure(ids(&taken) == ["1"], format!("handed out {:?}", ids(&taken)))?;
        let Some(handed) = taken.first() else { return Ok(()) };
        settle(&mut *taker, handed, fail()).await?;
        ensure(take(&mut *taker, 10).await?.is_empty(), "the second overtook the first")?;
        told("pass", pass(Duration::from_secs(2)).await)?;
    }
    Ok(())
}

async fn a_known_id_is_stored_once(engine: &dyn Engine, _pass: Pass<'_>) -> Result<(), Fault> {
    let options = QueueOptions { dedupe: Some(Dedupe::default()), ..QueueOptions::default() };
    let (key, mut taker) = filled(engine, "known", options, &publishes(&["1"])?).await?;
    let again = engine.publish(To::Queue(&key), &publishes(&["1", "2"])?).await;
    let again = told("publish", again)?;
    ensure(again.duplicates.len() == 1, "the duplicate is not told")?;
    let taken = take(&mut *taker, 10).await?;
    ensure(ids(&taken) == ["1", "2"], format!("handed out {:?}", ids(&taken)))
}

async fn a_priority_goes_first(engine: &dyn Engine, _pass: Pass<'_>) -> Result<(), Fault> {
    let options = QueueOptions { priorities: true, ..QueueOptions::default() };
    let mut messages = publishes(&["1", "2", "3"])?;
    if let Some(last) = messages.last_mut() {
        last.priority = 9;
    }
    let (_, mut taker) = filled(engine, "urgent", options, &messages).await?;
    let taken = take(&mut *taker, 10).await?;
    ensure(ids(&taken) == ["3", "1", "2"], format!("handed out {:?}", ids(&taken)))
}

async fn a_due_message_waits(engine: &dyn Engine, pass: Pass<'_>) -> Result<(), Fault> {
    let (key, mut taker) =
        filled(engine, "due", QueueOptions::default(), &publishes(&["1"])?).await?;
    // When "now" is for the engine is told by what it has stored last.
    let stored = told("inspect", engine.inspect_queue(&key).await)?.oldest_ms;
    let late = Publish { due_ms: stored + 60_000, ..Publish::new(message("late")?) };
    told("publish", engine.publish(To::Queue(&key), &[late]).await)?;
    ensure(ids(&take(&mut *taker, 10).await?) == ["1"], "it came before its time")?;
    told("pass", pass(Duration::from_secs(62)).await)?;
    let taken = take(&mut *taker, 10).await?;
    ensure(ids(&taken).contains(&"late".to_owned()), "it did not come at its time")
}

async fn a_lease_can_be_renewed(engine: &dyn Engine, pass: Pass<'_>) -> Result<(), Fault> {
    let options = QueueOptions::default();
    let (_, mut taker) = filled(engine, "renewed", options, &publishes(&["1"])?).await?;
    let taken = take(&mut *taker, 10).await?;
    let [handed] = taken.as_slice() else { return Err("it was not handed out".into()) };
    for _ in 0..3 {
        told("pass", pass(Duration::from_secs(20)).await)?;
        told("renew", taker.renew(handed.handle, Duration::from_secs(30)))?;
    }
    settle(&mut *taker, handed, Verdict::Accept).await
}

async fn subscribed(
    engine: &dyn Engine,
    topic: &Key,
    name: &str,
    options: SubscriptionOptions,
) -> Result<Box<dyn Taker>, Fault> {
    let subscription = told("a name", SubscriptionKey::new(topic, name))?;
    told("declare", engine.declare_subscription(&subscription, options).await)?;
    let from = From::Subscription(&subscription);
    told("consume", engine.consume(from, ConsumerOptions::default()).await)
}

async fn each_subscription_gets_everything(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let topic = key("everything")?;
    told("declare", engine.declare_topic(&topic, TopicOptions::default()).await)?;
    let mut early = subscribed(engine, &topic, "early", SubscriptionOptions::default()).await?;
    told("publish", engine.publish(To::Topic(&topic), &publishes(&["1", "2"])?).await)?;
    let first = SubscriptionOptions { start: Start::First, ..SubscriptionOptions::default() };
    let mut late = subscribed(engine, &topic, "late", first).await?;
    let mut new = subscribed(engine, &topic, "new", SubscriptionOptions::default()).await?;
    for taker in [&mut early, &mut late] {
        let taken = told("next", taker.next(10).await)?;
        ensure(ids(&taken) == ["1", "2"], format!("handed out {:?}", ids(&taken)))?;
    }
    ensure(take(&mut *new, 10).await?.is_empty(), "it was handed what was there before it")?;
    let view = told("inspect", engine.inspect_topic(&topic).await)?;
    ensure(view.messages == 2, "a message is stored once however many read it")
}

async fn a_filter_is_kept(engine: &dyn Engine, _pass: Pass<'_>) -> Result<(), Fault> {
    let topic = key("filtered")?;
    told("declare", engine.declare_topic(&topic, TopicOptions::default()).await)?;
    let expression = Some("event.id == '2'".to_owned());
    let filter = FilterOptions { expression, ..FilterOptions::default() };
    let options = SubscriptionOptions { filter, ..SubscriptionOptions::default() };
    let mut taker = subscribed(engine, &topic, "some", options).await?;
    told("publish", engine.publish(To::Topic(&topic), &publishes(&["1", "2", "3"])?).await)?;
    let taken = told("next", taker.next(10).await)?;
    ensure(ids(&taken) == ["2"], format!("handed out {:?}", ids(&taken)))
}

async fn what_is_not_there_is_told(engine: &dyn Engine, _pass: Pass<'_>) -> Result<(), Fault> {
    let nowhere = key("nowhere")?;
    let subscription = told("a name", SubscriptionKey::new(&nowhere, "nobody"))?;
    let reasons = [
        (engine.inspect_queue(&nowhere).await.err(), Reason::NoQueue),
        (engine.inspect_topic(&nowhere).await.err(), Reason::NoTopic),
        (engine.inspect_subscription(&subscription).await.err(), Reason::NoSubscription),
        (engine.delete_queue(&nowhere).await.err(), Reason::NoQueue),
        (engine.publish(To::Queue(&nowhere), &publishes(&["1"])?).await.err(), Reason::NoQueue),
    ];
    for (error, wanted) in reasons {
        let reason = error.map(|error| error.reason());
        ensure(reason == Some(wanted), format!("{reason:?} where {wanted:?} was due"))?;
    }
    let (key, mut taker) = filled(engine, "deleted", QueueOptions::default(), &[]).await?;
    told("delete", engine.delete_queue(&key).await)?;
    let error = taker.next(1).await.err().map(|error| error.reason());
    ensure(error == Some(Reason::NoQueue), "who consumes a queue that is deleted is not told")
}

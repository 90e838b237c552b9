//! What every engine has to do, whatever it is: the suite runs against any [`Engine`] as it is.
//!
//! A check that needs a capability which the engine says is missing is left out. The caller passes
//! time: a clock that stands still is moved, a real one is waited for. [`remote`] is an engine across a task
//! boundary, for tests of who uses engines.

mod queues;
pub mod remote;
mod topics;

use std::time::Duration;

use weft_kernel::Result;

use crate::{
    consume::ConsumerOptions,
    engine::{Answer, AnyDelivery, Capability, Engine, EngineConsumer, From, To},
    message::{Message, MessageBuilder, Value},
    name::{Key, SubscriptionKey},
    options::{QueueOptions, SubscriptionOptions},
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
        ($($of:ident)::+) => {
            let name = stringify!($($of)::+).rsplit("::").next().unwrap_or_default();
            $($of)::+(engine, pass).await.map_err(|fault| format!("{name}: {fault}"))?;
            ran.push(name);
        };
        ($($of:ident)::+ needs $($capability:ident),+) => {
            if [$(Capability::$capability),+].iter().all(|one| engine.capabilities().has(*one)) {
                check!($($of)::+);
            }
        };
    }
    check!(every_capability_is_told);
    check!(queues::what_is_accepted_stays_gone);
    check!(queues::what_is_released_comes_back_without_fault);
    check!(queues::what_fails_comes_back_and_dies_in_the_end needs FailureLimit, DeadLetters);
    check!(queues::what_is_rejected_dies_at_once needs DeadLetters);
    check!(queues::a_lost_lease_is_told);
    check!(queues::a_consumer_that_goes_gives_back);
    check!(queues::what_is_detached_is_settled_by_its_text);
    check!(queues::two_consumers_share needs CompetingConsumers);
    check!(queues::a_key_keeps_its_order needs KeyOrder);
    check!(queues::a_known_id_is_stored_once needs Dedupe);
    check!(queues::a_priority_goes_first needs Priorities);
    check!(queues::a_due_message_waits needs Schedules);
    check!(queues::a_lease_can_be_renewed needs LeaseRenewal);
    check!(queues::a_message_that_waits_too_long_expires needs TimeToLive);
    check!(queues::a_full_queue_refuses needs QueueLimit);
    check!(queues::what_is_looked_at_stays needs Peek);
    check!(queues::what_waits_can_be_dropped needs Purge);
    check!(queues::dead_letters_go_back needs DeadLetters, Redrive);
    check!(queues::options_can_be_altered);
    check!(topics::each_subscription_gets_everything);
    check!(topics::an_old_message_is_replayed needs Replay);
    check!(topics::a_filter_is_kept needs Filters);
    check!(topics::a_topic_is_read_without_a_subscription needs Browse);
    check!(topics::a_position_can_be_expected needs ExpectedPosition);
    check!(topics::the_last_of_a_key_is_found needs Compaction);
    check!(topics::a_subscription_is_moved needs Replay);
    check!(topics::messages_are_skipped needs Skip);
    check!(topics::what_is_paused_hands_out_nothing needs Pause);
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

fn publishes(names: &[&str]) -> Result<Vec<Publish>, Fault> {
    names.iter().map(|name| message(name).map(Publish::new)).collect()
}

fn id_of(message: &Message) -> String {
    message.event().map(|event| event.id().to_owned()).unwrap_or_default()
}

fn ids(taken: &[AnyDelivery]) -> Vec<String> {
    taken.iter().map(|delivery| id_of(&delivery.message)).collect()
}

fn one(taken: &[AnyDelivery]) -> Result<&AnyDelivery, Fault> {
    match taken {
        [one] => Ok(one),
        other => {
            Err(format!("{} messages were handed out, not one: {:?}", other.len(), ids(other)))
        }
    }
}

fn fail() -> Verdict {
    Verdict::Fail { reason: "conformance".into(), delay: Some(Duration::from_secs(1)) }
}

/// What is consumed from, by name.
#[derive(Clone)]
enum MessageSource {
    Queue(Key),
    Subscription(SubscriptionKey),
}

impl MessageSource {
    fn from(&self) -> From<'_> {
        match self {
            Self::Queue(key) => From::Queue(key),
            Self::Subscription(key) => From::Subscription(key),
        }
    }
}

/// A consumer, and what it consumes from.
struct Client<'e> {
    engine: &'e dyn Engine,
    source: MessageSource,
    consumer: Box<dyn EngineConsumer>,
}

impl<'e> Client<'e> {
    async fn of(engine: &'e dyn Engine, source: MessageSource) -> Result<Self, Fault> {
        let consumer = engine.consume(source.from(), ConsumerOptions::default()).await;
        let consumer = told("consume", consumer)?;
        Ok(Self { engine, source, consumer })
    }

    /// Of a queue with messages.
    async fn filled(
        engine: &'e dyn Engine,
        name: &str,
        options: QueueOptions,
        messages: &[Publish],
    ) -> Result<Self, Fault> {
        let key = key(name)?;
        told("declare", engine.declare_queue(&key, options).await)?;
        if !messages.is_empty() {
            told("publish", engine.publish(To::Queue(&key), messages, None).await)?;
        }
        Self::of(engine, MessageSource::Queue(key)).await
    }

    /// Of a new subscription.
    async fn subscribed(
        engine: &'e dyn Engine,
        topic: &Key,
        name: &str,
        options: SubscriptionOptions,
    ) -> Result<Self, Fault> {
        let key = told("a name", SubscriptionKey::new(topic, name))?;
        told("declare", engine.declare_subscription(&key, options).await)?;
        Self::of(engine, MessageSource::Subscription(key)).await
    }

    async fn next(&mut self) -> Result<Vec<AnyDelivery>, Fault> {
        told("next", self.consumer.next(10).await)
    }

    async fn now(&mut self, max: u32) -> Result<Vec<AnyDelivery>, Fault> {
        told("now", self.consumer.now(max).await)
    }

    async fn settle(&self, delivery: &AnyDelivery, verdict: Verdict) -> Result<(), Fault> {
        told("settle", self.try_settle(delivery, verdict).await?)
    }

    async fn try_settle(
        &self,
        delivery: &AnyDelivery,
        verdict: Verdict,
    ) -> Result<Result<()>, Fault> {
        let verdicts = vec![(delivery.lease.clone(), verdict)];
        let results = self.engine.settle(self.source.from(), verdicts).await;
        told("settle", results)?.pop().ok_or_else(|| "a settlement has no result".into())
    }

    async fn empty(&mut self, otherwise: &str) -> Result<(), Fault> {
        ensure(self.now(10).await?.is_empty(), otherwise)
    }
}

async fn every_capability_is_told(engine: &dyn Engine, _pass: Pass<'_>) -> Result<(), Fault> {
    let told: Vec<Capability> = engine.capabilities().iter().map(|(one, _)| one).collect();
    ensure(told == Capability::ALL, "a capability is missing in the map or there twice")?;
    ensure(!engine.name().is_empty(), "the engine has no name")
}

async fn what_is_not_there_is_told(engine: &dyn Engine, _pass: Pass<'_>) -> Result<(), Fault> {
    use weft_kernel::Reason::{NoQueue, NoSubscription, NoTopic};

    let nowhere = key("nowhere")?;
    let subscription = told("a name", SubscriptionKey::new(&nowhere, "nobody"))?;
    let publish = publishes(&["1"])?;
    let queue = engine.publish(To::Queue(&nowhere), &publish, None).await.err();
    let topic = engine.publish(To::Topic(&nowhere), &publish, None).await.err();
    let reasons = [
        (engine.inspect_queue(&nowhere).await.err(), NoQueue),
        (engine.inspect_topic(&nowhere).await.err(), NoTopic),
        (engine.inspect_subscription(&subscription).await.err(), NoSubscription),
        (engine.delete_queue(&nowhere).await.err(), NoQueue),
        (engine.delete_topic(&nowhere).await.err(), NoTopic),
        (engine.delete_subscription(&subscription).await.err(), NoSubscription),
        (queue, NoQueue),
        (topic, NoTopic),
    ];
    for (error, wanted) in reasons {
        let reason = error.map(|error| error.reason());
        ensure(reason == Some(wanted), format!("{reason:?} where {wanted:?} was due"))?;
    }
    let mut client = Client::filled(engine, "deleted", QueueOptions::default(), &[]).await?;
    told("delete", engine.delete_queue(&key("deleted")?).await)?;
    let error = client.consumer.next(1).await.err().map(|error| error.reason());
    ensure(error == Some(NoQueue), "who consumes a queue that is deleted is not told")
}

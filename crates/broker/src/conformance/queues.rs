//! What every engine has to do with queues.

use std::time::Duration;

use weft_kernel::Reason;
use weft_ledger::Limits;

use super::{
    Client, Fault, MessageSource, Pass, ensure, fail, id_of, ids, key, message, one, publishes,
    told,
};
use crate::{
    engine::{AnyLease, Capability, Engine, To},
    options::{Dedupe, OnFailure, Order, QueueLimit, QueueOptions},
    publish::Publish,
    redrive::RedriveOptions,
    settle::Verdict,
};

pub(super) async fn what_is_accepted_stays_gone(
    engine: &dyn Engine,
    pass: Pass<'_>,
) -> Result<(), Fault> {
    let messages = publishes(&["1", "2"])?;
    let mut client = Client::filled(engine, "accepted", QueueOptions::default(), &messages).await?;
    let taken = client.now(10).await?;
    ensure(ids(&taken) == ["1", "2"], format!("handed out {:?}", ids(&taken)))?;
    for delivery in &taken {
        ensure(delivery.message.body() == id_of(&delivery.message), "the body is another")?;
        client.settle(delivery, Verdict::Accept).await?;
    }
    told("pass", pass(Duration::from_secs(60)).await)?;
    client.empty("what was accepted came back").await?;
    let view = told("inspect", engine.inspect_queue(&key("accepted")?).await)?;
    ensure(view.ready + view.leased + view.waiting == 0, "the queue is not empty")
}

pub(super) async fn what_is_released_comes_back_without_fault(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let mut options = QueueOptions::default();
    if engine.capabilities().has(Capability::FailureLimit) {
        options.failures_max = Some(1);
    }
    let mut client = Client::filled(engine, "released", options, &publishes(&["1"])?).await?;
    for _ in 0..5 {
        let taken = client.next().await?;
        let delivery = one(&taken)?;
        ensure(delivery.failures == 0, "releasing counted as a failure")?;
        client.settle(delivery, Verdict::Release).await?;
    }
    Ok(())
}

pub(super) async fn what_fails_comes_back_and_dies_in_the_end(
    engine: &dyn Engine,
    pass: Pass<'_>,
) -> Result<(), Fault> {
    let options = QueueOptions { failures_max: Some(3), ..QueueOptions::default() };
    let mut client = Client::filled(engine, "failing", options, &publishes(&["1"])?).await?;
    for failures in 0..3 {
        let taken = client.now(10).await?;
        let delivery = one(&taken).map_err(|fault| format!("after {failures} failures {fault}"))?;
        client.settle(delivery, fail()).await?;
        if engine.capabilities().has(Capability::DelayedRetry) && failures < 2 {
            client.empty("it came back at once").await?;
        }
        told("pass", pass(Duration::from_secs(2)).await)?;
    }
    client.empty("it outlived its failures").await?;
    dead(engine, "failing.dead", "failures").await
}

pub(super) async fn what_is_rejected_dies_at_once(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let options = QueueOptions::default();
    let mut client = Client::filled(engine, "rejected", options, &publishes(&["1"])?).await?;
    let taken = client.now(10).await?;
    client.settle(one(&taken)?, Verdict::Reject { reason: "bad".into() }).await?;
    client.empty("it came back").await?;
    dead(engine, "rejected.dead", "rejected").await
}

/// Whether a queue of dead letters has one that died of `cause`.
async fn dead(engine: &dyn Engine, name: &str, cause: &str) -> Result<(), Fault> {
    let mut client = Client::of(engine, MessageSource::Queue(key(name)?)).await?;
    let taken = client.now(10).await?;
    let delivery = one(&taken)?;
    if engine.capabilities().has(Capability::DeadLetterReason) {
        let death = delivery.message.death().ok_or("the dead letter tells nothing")?;
        ensure(death.cause.word() == cause, format!("it died of {}", death.cause.word()))?;
    }
    client.settle(delivery, Verdict::Accept).await
}

pub(super) async fn a_lost_lease_is_told(engine: &dyn Engine, pass: Pass<'_>) -> Result<(), Fault> {
    let options = QueueOptions::default();
    let mut client = Client::filled(engine, "lost", options, &publishes(&["1"])?).await?;
    let taken = client.now(10).await?;
    let delivery = one(&taken)?;
    told("pass", pass(Duration::from_secs(31)).await)?;
    let late = client.try_settle(delivery, Verdict::Accept).await?;
    let reason = late.err().map(|error| error.reason());
    ensure(reason == Some(Reason::LeaseLost), "a settlement that came too late was taken")?;
    told("pass", pass(Duration::from_secs(2)).await)?;
    one(&client.now(10).await?).map(|_again| ())
}

pub(super) async fn a_consumer_that_goes_gives_back(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let options = QueueOptions::default();
    let mut client = Client::filled(engine, "gone", options, &publishes(&["1"])?).await?;
    one(&client.now(10).await?)?;
    let source = client.source.clone();
    drop(client);
    let taken = Client::of(engine, source).await?.next().await?;
    ensure(ids(&taken) == ["1"], "it was not given back")
}

pub(super) async fn what_is_detached_is_settled_by_its_text(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let options = QueueOptions::default();
    let mut client = Client::filled(engine, "detached", options, &publishes(&["1"])?).await?;
    let taken = client.now(10).await?;
    let text = one(&taken)?.lease.to_text();
    let source = client.source.clone();
    client.consumer.detach();
    let mut client = Client::of(engine, source).await?;
    client.empty("what is leased was handed out again").await?;
    let leases = [text.as_str(), "nonsense"].map(|text| AnyLease::Other(text.into()));
    let verdicts = leases.map(|lease| (lease, Verdict::Accept)).to_vec();
    let results = told("settle", engine.settle(client.source.from(), verdicts).await)?;
    let [settled, nonsense] = results.as_slice() else {
        return Err("there is not one result for each settlement".into());
    };
    ensure(settled.is_ok(), "a lease is not known by its text")?;
    let reason = nonsense.as_ref().err().map(|error| error.reason());
    ensure(reason == Some(Reason::LeaseLost), "a text that is no lease was taken for one")
}

pub(super) async fn two_consumers_share(engine: &dyn Engine, _pass: Pass<'_>) -> Result<(), Fault> {
    let messages = publishes(&["1", "2", "3", "4"])?;
    let mut first = Client::filled(engine, "shared", QueueOptions::default(), &messages).await?;
    let mut second = Client::of(engine, first.source.clone()).await?;
    let mut all = ids(&first.now(2).await?);
    all.extend(ids(&second.now(10).await?));
    all.sort();
    ensure(all == ["1", "2", "3", "4"], format!("together they were handed {all:?}"))
}

pub(super) async fn a_key_keeps_its_order(
    engine: &dyn Engine,
    pass: Pass<'_>,
) -> Result<(), Fault> {
    let order = Order::Key { on_failure: OnFailure::Block };
    let options = QueueOptions { order, ..QueueOptions::default() };
    let messages: Vec<Publish> =
        publishes(&["1", "2"])?.into_iter().map(|publish| publish.keyed("k")).collect();
    let mut client = Client::filled(engine, "keyed", options, &messages).await?;
    for _ in 0..2 {
        let taken = client.now(10).await?;
        ensure(ids(&taken) == ["1"], format!("handed out {:?}", ids(&taken)))?;
        client.settle(one(&taken)?, fail()).await?;
        client.empty("the second overtook the first").await?;
        told("pass", pass(Duration::from_secs(2)).await)?;
    }
    Ok(())
}

pub(super) async fn a_known_id_is_stored_once(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let options = QueueOptions { dedupe: Some(Dedupe::default()), ..QueueOptions::default() };
    let mut client = Client::filled(engine, "known", options, &publishes(&["1"])?).await?;
    let again = publishes(&["1", "2"])?;
    let again = engine.publish(To::Queue(&key("known")?), &again, None).await;
    ensure(told("publish", again)?.duplicates.len() == 1, "the duplicate is not told")?;
    let taken = client.now(10).await?;
    ensure(ids(&taken) == ["1", "2"], format!("handed out {:?}", ids(&taken)))
}

pub(super) async fn a_priority_goes_first(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let options = QueueOptions { priorities: true, ..QueueOptions::default() };
    let mut messages = publishes(&["1", "2", "3"])?;
    if let Some(last) = messages.last_mut() {
        last.priority = 9;
    }
    let mut client = Client::filled(engine, "urgent", options, &messages).await?;
    let taken = client.now(10).await?;
    ensure(ids(&taken) == ["3", "1", "2"], format!("handed out {:?}", ids(&taken)))
}

pub(super) async fn a_due_message_waits(engine: &dyn Engine, pass: Pass<'_>) -> Result<(), Fault> {
    let options = QueueOptions::default();
    let mut client = Client::filled(engine, "due", options, &publishes(&["1"])?).await?;
    let key = key("due")?;
    // When "now" is for the engine is told by what it has stored last.
    let stored = told("inspect", engine.inspect_queue(&key).await)?.oldest_ms;
    let late = Publish { due_ms: stored + 60_000, ..Publish::new(message("late")?) };
    told("publish", engine.publish(To::Queue(&key), &[late], None).await)?;
    ensure(ids(&client.now(10).await?) == ["1"], "it came before its time")?;
    told("pass", pass(Duration::from_secs(62)).await)?;
    let taken = client.now(10).await?;
    ensure(ids(&taken).contains(&"late".to_owned()), "it did not come at its time")
}

pub(super) async fn a_lease_can_be_renewed(
    engine: &dyn Engine,
    pass: Pass<'_>,
) -> Result<(), Fault> {
    let options = QueueOptions::default();
    let mut client = Client::filled(engine, "renewed", options, &publishes(&["1"])?).await?;
    let taken = client.now(10).await?;
    let delivery = one(&taken)?;
    for _ in 0..3 {
        told("pass", pass(Duration::from_secs(20)).await)?;
        let span = Duration::from_secs(30);
        told("renew", engine.renew(client.source.from(), &delivery.lease, span).await)?;
    }
    client.settle(delivery, Verdict::Accept).await
}

pub(super) async fn a_message_that_waits_too_long_expires(
    engine: &dyn Engine,
    pass: Pass<'_>,
) -> Result<(), Fault> {
    let ttl = Some(Duration::from_secs(5));
    let messages = [Publish { ttl, ..Publish::new(message("short")?) }];
    let options = QueueOptions::default();
    let mut client = Client::filled(engine, "expiring", options, &messages).await?;
    told("pass", pass(Duration::from_secs(10)).await)?;
    client.empty("it was handed out after its time").await
}

pub(super) async fn a_full_queue_refuses(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let limit = QueueLimit { messages: Some(2), ..QueueLimit::default() };
    let options = QueueOptions { limit, ..QueueOptions::default() };
    let mut client = Client::filled(engine, "full", options, &publishes(&["1", "2"])?).await?;
    let more = engine.publish(To::Queue(&key("full")?), &publishes(&["3"])?, None).await;
    let reason = more.err().map(|error| error.reason());
    ensure(reason == Some(Reason::QueueFull), format!("{reason:?} where it was full"))?;
    ensure(ids(&client.now(10).await?) == ["1", "2"], "what was taken is not there")
}

pub(super) async fn what_is_looked_at_stays(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let options = QueueOptions::default();
    let mut client = Client::filled(engine, "peeked", options, &publishes(&["1", "2"])?).await?;
    let seen = told("peek", engine.peek(&key("peeked")?, 0, Limits::default()).await)?;
    let seen: Vec<String> =
        seen.iter().filter_map(|peeked| peeked.message.as_ref().map(id_of)).collect();
    ensure(seen == ["1", "2"], format!("{seen:?} was seen"))?;
    ensure(ids(&client.now(10).await?) == ["1", "2"], "what was looked at is not there")
}

pub(super) async fn what_waits_can_be_dropped(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let options = QueueOptions::default();
    let mut client = Client::filled(engine, "purged", options, &publishes(&["1", "2"])?).await?;
    let purged = told("purge", engine.purge(&key("purged")?).await)?;
    ensure(purged == 2, format!("{purged} were dropped, not 2"))?;
    client.empty("what was dropped came").await
}

pub(super) async fn dead_letters_go_back(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let options = QueueOptions::default();
    let mut client = Client::filled(engine, "again", options, &publishes(&["1"])?).await?;
    let taken = client.now(10).await?;
    client.settle(one(&taken)?, Verdict::Reject { reason: "bad".into() }).await?;
    let dead = key("again.dead")?;
    let done = engine.redrive(&dead, None, RedriveOptions::default()).await;
    let done = told("redrive", done)?;
    ensure((done.redriven, done.left) == (1, 0), format!("{done:?}"))?;
    ensure(ids(&client.next().await?) == ["1"], "it did not come back")
}

pub(super) async fn options_can_be_altered(
    engine: &dyn Engine,
    _pass: Pass<'_>,
) -> Result<(), Fault> {
    let name = key("altered")?;
    let options = QueueOptions::default();
    told("declare", engine.declare_queue(&name, options.clone()).await)?;
    told("declare again", engine.declare_queue(&name, options.clone()).await)?;
    let larger = QueueOptions { message_bytes_max: 2 << 20, ..options.clone() };
    told("alter", engine.alter_queue(&name, larger.clone()).await)?;
    told("declare as altered", engine.declare_queue(&name, larger).await)
}

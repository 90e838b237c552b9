//! Several engines on one node: what is declared where, what is refused, and one that is away.

use std::sync::Arc;

use weft_broker::{
    Broker, ConsumerOptions, DeadLetter, Declarations, Key, Publish, QueueOptions, ScheduleTarget,
    SubscriptionKey, SubscriptionOptions, TopicOptions, Verdict, When,
    conformance::remote::{Remote, Server, Switch},
    engine::{
        AnyConsumer, AnyQueue, AnySource, Capabilities, Capability, Engine, Engines, Support,
    },
};
use weft_kernel::{Error, Reason, Result};

use crate::node::{Node, drive, id, key, publish};

/// A node, and another one behind a channel on which the engine `far` keeps messages.
struct Fleet {
    near: Node,
    far: Node,
    engines: Engines,
    switch: Switch,
    server: Option<Server>,
}

fn capabilities() -> Capabilities {
    Capabilities::new(|capability| match capability {
        Capability::Priorities | Capability::Schedules | Capability::NamedSchedules => {
            Support::Missing
        }
        _ => Support::Native,
    })
}

impl Fleet {
    fn new() -> Self {
        Self::of(Node::new(), Node::new())
    }

    fn of(near: Node, far: Node) -> Self {
        let behind: Arc<dyn Engine> = Arc::new(far.broker.clone());
        let (remote, server, switch) = Remote::new("far", capabilities(), behind);
        let open = Engines::open(near.broker.clone(), vec![Arc::new(remote)]);
        let engines = near.run(open).unwrap();
        Self { near, far, engines, switch, server: Some(server) }
    }

    /// Runs a future, with both nodes and what is between them.
    fn run<F: Future>(&mut self, future: F) -> F::Output {
        let server = self.server.take().expect("it is run once");
        let both = async {
            let mut far = std::pin::pin!(async {
                loop {
                    self.far.ledger.step();
                    tokio::task::yield_now().await;
                }
            });
            let mut serve = std::pin::pin!(server.serve());
            tokio::select! {
                output = future => output,
                () = &mut serve => panic!("nobody serves it any more"),
                () = &mut far => unreachable!("it has no end"),
            }
        };
        drive(&self.near.ledger, both).expect("the future goes on")
    }
}

fn far_queue() -> QueueOptions {
    QueueOptions { engine: Some("far".into()), ..QueueOptions::default() }
}

fn far_topic() -> TopicOptions {
    TopicOptions { engine: Some("far".into()), ..TopicOptions::default() }
}

fn reason<T>(result: Result<T>) -> Option<Reason> {
    result.err().map(|error| error.reason())
}

async fn take_one(consumer: &mut AnyConsumer, verdict: Verdict) -> Result<String> {
    let taken = consumer.next_batch(1).await?;
    let [delivery] = taken.as_slice() else { panic!("{taken:?}") };
    consumer.settle(vec![(delivery.lease.clone(), verdict)]).await?;
    Ok(id(&delivery.message))
}

#[test]
fn a_name_is_found_with_the_engine_that_keeps_it() {
    let mut fleet = Fleet::new();
    let engines = fleet.engines.clone();
    fleet.run(async {
        let near = engines.declare_queue(&key("near"), QueueOptions::default()).await.unwrap();
        let far = engines.declare_queue(&key("far"), far_queue()).await.unwrap();
        assert_eq!((near.engine(), far.engine()), ("embedded", "far"));
        for queue in [near, far] {
            let name = queue.key().name.to_string();
            engines.publish(&queue.clone().into(), &[publish(&name)], None).await.unwrap();
            assert_eq!(engines.queue_view(&queue).await.unwrap().ready, 1);
            let mut consumer = engines.consume(queue, ConsumerOptions::default()).await.unwrap();
            assert_eq!(take_one(&mut consumer, Verdict::Accept).await.unwrap(), name);
        }
        let names: Vec<_> = engines.queues().iter().map(|all| all.key().name.to_string()).collect();
        assert_eq!(names, ["far", "far.dead", "near"]);
        // A name is of one engine.
        let other = engines.declare_queue(&key("far"), QueueOptions::default()).await;
        assert_eq!(reason(other), Some(Reason::DefinitionConflict));
        let other = engines.declare_queue(&key("near"), far_queue()).await;
        assert_eq!(reason(other), Some(Reason::DefinitionConflict));
        let nobody = QueueOptions { engine: Some("fra".into()), ..QueueOptions::default() };
        let error = engines.declare_queue(&key("new"), nobody).await.unwrap_err();
        assert!(
            error.said().contains("there is no engine `fra`; there is embedded, far"),
            "{error}"
        );
        engines.delete_queue(&engines.queue(&key("far")).unwrap()).await.unwrap();
        assert_eq!(reason(engines.queue(&key("far"))), Some(Reason::NoQueue));
    });
    assert!(fleet.far.broker.queue(&key("far")).is_err());
    assert!(fleet.near.broker.queue(&key("near")).is_ok());
}

#[test]
fn a_subscription_is_kept_by_the_engine_of_its_topic_and_its_dead_letters_too() {
    let mut fleet = Fleet::new();
    let engines = fleet.engines.clone();
    fleet.run(async {
        let topic = engines.declare_topic(&key("orders"), far_topic()).await.unwrap();
        let name = SubscriptionKey::new(topic.key(), "billing").unwrap();
        let of = engines.declare_subscription(&name, SubscriptionOptions::default()).await.unwrap();
        assert_eq!(of.engine(), "far");
        engines.publish(&topic.clone().into(), &[publish("1")], None).await.unwrap();
        let mut consumer = engines.consume(of.clone(), ConsumerOptions::default()).await.unwrap();
        let bad = Verdict::Reject { reason: "bad".into() };
        take_one(&mut consumer, bad).await.unwrap();
        let dead = engines.queue(&key("billing.dead")).unwrap();
        assert_eq!((dead.engine(), engines.queue_view(&dead).await.unwrap().ready), ("far", 1));
        engines.pause(&of, true).await.unwrap();
        assert!(engines.subscription_view(&of).await.unwrap().paused);
        engines.delete_topic(&topic).await.unwrap();
        assert_eq!(reason(engines.subscription(&name)), Some(Reason::NoSubscription));
        let named = engines.subscription_named(&key("billing"));
        assert_eq!(reason(named), Some(Reason::NoSubscription));
    });
}

#[test]
fn what_an_engine_lacks_is_refused_and_not_passed_over() {
    let mut fleet = Fleet::new();
    let engines = fleet.engines.clone();
    fleet.run(async {
        let urgent = QueueOptions { priorities: true, ..far_queue() };
        let error = engines.declare_queue(&key("urgent"), urgent.clone()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::NotSupported);
        assert!(error.said().starts_with("priorities: engine `far`"), "{error}");
        let queue = engines.declare_queue(&key("plain"), far_queue()).await.unwrap();
        let late = Publish { due_ms: 1, ..publish("1") };
        let late = engines.publish(&queue.clone().into(), &[late], None).await;
        assert_eq!(reason(late), Some(Reason::NotSupported));
        let altered = engines.alter_queue(&queue, urgent).await;
        assert_eq!(reason(altered), Some(Reason::NotSupported));
        let id = key("nightly");
        let target = ScheduleTarget::Queue("plain".into());
        let named = engines.schedule(&id, target, When::At(1), &publish("1")).await;
        assert_eq!(reason(named), Some(Reason::NotSupported));
        let first = ConsumerOptions { priority: 1, ..ConsumerOptions::default() };
        engines.consume(queue.clone(), first).await.map(drop).unwrap();
        // What dies on one engine does not go to another.
        let to_far = DeadLetter::To("plain".into());
        let dying = QueueOptions { dead_letter: to_far.clone(), ..QueueOptions::default() };
        let across = engines.declare_queue(&key("dying"), dying.clone()).await;
        assert_eq!(reason(across), Some(Reason::NotSupported));
        let all = Declarations { queues: vec![(key("dying"), dying)], ..Declarations::default() };
        let across = engines.prepare(all).await.map(drop).unwrap_err();
        assert!(
            across[0].said().contains("queue dying sends messages to queue plain"),
            "{across:?}"
        );
        let near = engines.declare_queue(&key("near"), QueueOptions::default()).await.unwrap();
        let across = engines.redrive(&queue, Some(&near.into()), Default::default()).await;
        assert_eq!(reason(across), Some(Reason::NotSupported));
    });
}

#[test]
fn an_engine_that_is_away_is_told_and_comes_back() {
    let mut fleet = Fleet::new();
    let (engines, switch) = (fleet.engines.clone(), fleet.switch.clone());
    fleet.run(async {
        let queue = engines.declare_queue(&key("far"), far_queue()).await.unwrap();
        let mut consumer =
            engines.consume(queue.clone(), ConsumerOptions::default()).await.unwrap();
        // One that waits is told too.
        let (waited, ()) = tokio::join!(consumer.next_batch(1), async {
            tokio::task::yield_now().await;
            switch.set_away(true);
        });
        assert_eq!(reason(waited), Some(Reason::EngineUnavailable));
        let refused = engines.publish(&queue.clone().into(), &[publish("1")], None).await;
        assert_eq!(reason(refused), Some(Reason::EngineUnavailable));
        let refused = engines.declare_queue(&key("other"), far_queue()).await;
        assert_eq!(reason(refused), Some(Reason::EngineUnavailable));
        // What it keeps is known all the same, and the embedded engine goes on.
        assert_eq!(engines.queue(&key("far")).unwrap().engine(), "far");
        assert_eq!(reason(engines.queue(&key("other"))), Some(Reason::NoQueue));
        engines.declare_queue(&key("near"), QueueOptions::default()).await.unwrap();
        switch.set_away(false);
        engines.publish(&queue.clone().into(), &[publish("2")], None).await.unwrap();
        assert_eq!(take_one(&mut consumer, Verdict::Accept).await.unwrap(), "2");
    });
}

fn declared(far: QueueOptions) -> Declarations {
    Declarations {
        topics: vec![(key("orders"), far_topic()), (key("local"), TopicOptions::default())],
        queues: vec![(key("work"), far), (key("here"), QueueOptions::default())],
        subscriptions: vec![
            (SubscriptionKey::new(&key("orders"), "billing").unwrap(), Default::default()),
            (SubscriptionKey::new(&key("local"), "audit").unwrap(), Default::default()),
        ],
        schedules: Vec::new(),
    }
}

async fn commit(engines: &Engines, all: Declarations) -> Vec<Error> {
    engines.prepare(all).await.unwrap().commit().await.unwrap()
}

#[test]
fn a_configuration_is_declared_with_each_engine_and_follows_where_one_is_away() {
    let mut fleet = Fleet::new();
    let (engines, switch) = (fleet.engines.clone(), fleet.switch.clone());
    fleet.run(async {
        switch.set_away(true);
        let missing = commit(&engines, declared(far_queue())).await;
        let reasons: Vec<_> = missing.iter().map(Error::reason).collect();
        assert_eq!(reasons, [Reason::EngineUnavailable; 3], "{missing:?}");
        assert_eq!(engines.queue(&key("here")).unwrap().engine(), "embedded");
        assert_eq!(engines.queue(&key("work")).unwrap().engine(), "far");
        switch.set_away(false);
        assert!(commit(&engines, declared(far_queue())).await.is_empty());
        engines.queue_view(&engines.queue(&key("work")).unwrap()).await.unwrap();
        // What is otherwise is altered there.
        let larger = QueueOptions { message_bytes_max: 1 << 21, ..far_queue() };
        assert!(commit(&engines, declared(larger)).await.is_empty());
    });
    let there = fleet.far.broker.queue(&key("work")).unwrap();
    assert_eq!(there.options().message_bytes_max, 1 << 21);
    // Started again, it is known at once.
    let Fleet { near, far, engines, .. } = fleet;
    drop(engines);
    let mut fleet = Fleet::of(near.stop(), far);
    let engines = fleet.engines.clone();
    let names = |all: Vec<AnyQueue>| -> Vec<(String, String)> {
        all.iter().map(|of| (of.key().name.to_string(), of.engine().to_owned())).collect()
    };
    let kept =
        [("billing.dead", "far"), ("here", "embedded"), ("work", "far"), ("work.dead", "far")];
    assert_eq!(names(engines.queues()), kept.map(|(name, of)| (name.to_owned(), of.to_owned())));
    fleet.run(async {
        let of = engines.subscription_named(&key("billing")).unwrap();
        assert_eq!(engines.subscription_view(&of).await.unwrap().lag, 0);
        assert!(matches!(AnySource::from(of), AnySource::Other(_)));
    });
}

#[test]
fn everything_that_is_wrong_with_declarations_is_told_at_once() {
    let mut fleet = Fleet::new();
    let engines = fleet.engines.clone();
    fleet.run(async {
        engines.declare_queue(&key("here"), QueueOptions::default()).await.unwrap();
        let nobody = QueueOptions { engine: Some("nobody".into()), ..QueueOptions::default() };
        let urgent = QueueOptions { priorities: true, ..far_queue() };
        let target = ScheduleTarget::Queue("work".into());
        let all = Declarations {
            queues: vec![
                (key("work"), far_queue()),
                (key("here"), far_queue()),
                (key("lost"), nobody),
                (key("urgent"), urgent),
            ],
            schedules: vec![(key("nightly"), target, When::At(1), publish("1"))],
            ..Declarations::default()
        };
        let faults = engines.prepare(all).await.map(drop).unwrap_err();
        let told: Vec<String> = faults.iter().map(Error::detail).collect();
        let wanted = [
            "queue here: ",
            "queue lost: there is no engine `nobody`",
            "queue urgent: priorities: engine `far`",
            "schedule nightly: ",
        ];
        assert_eq!(told.len(), wanted.len(), "{told:?}");
        for (told, wanted) in told.iter().zip(wanted) {
            assert!(told.contains(wanted), "{told}");
        }
        assert_eq!(
            reason(engines.queue(&key("work"))),
            Some(Reason::NoQueue),
            "nothing is changed"
        );
    });
}

#[test]
fn the_broker_itself_keeps_only_what_is_its_own() {
    let node = Node::new();
    let refused = node.run(Broker::declare_queue(&node.broker, &key("q"), far_queue()));
    assert_eq!(reason(refused), Some(Reason::NotSupported));
    let key: Key = key("t");
    let refused = node.run(Broker::declare_topic(&node.broker, &key, far_topic()));
    assert_eq!(reason(refused), Some(Reason::NotSupported));
}

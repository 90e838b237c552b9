//! Schedules: once and recurring, listed and cancelled, across a crash and a long absence.

use std::time::Duration;

use weft_broker::{Missed, QueueOptions, ScheduleTarget, Verdict, When};
use weft_kernel::{Reason, Rng};

use crate::node::{Node, ids, key, publish};

const START_MS: u64 = 3_600_000;

fn every(cron: &str, missed: Missed) -> When {
    When::Recurring { cron: cron.into(), zone: String::new(), missed, jitter: Duration::ZERO }
}

#[test]
fn a_schedule_fires_once_at_its_time_also_after_a_crash() {
    let node = Node::new();
    node.run(node.broker.declare_queue(&key("q"), QueueOptions::default())).unwrap();
    let to = ScheduleTarget::Queue("q".into());
    let at = When::At(START_MS + 60_000);
    node.run(node.broker.schedule(&key("reminder"), to.clone(), at, &publish("1"))).unwrap();
    let later = When::At(START_MS + 90_000);
    node.run(node.broker.schedule(&key("second"), to.clone(), later, &publish("2"))).unwrap();
    let listed = node.run(node.broker.schedules("", None, 10)).unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!((&*listed[0].id.name, listed[0].due_ms), ("reminder", START_MS + 60_000));
    let node = node.crash(&mut Rng::seeded(1));
    node.pass(Duration::from_secs(59));
    let queue = node.broker.queue(&key("q")).unwrap();
    assert_eq!(node.broker.queue_view(&queue).ready, 0);
    node.pass(Duration::from_secs(1));
    node.pass(Duration::ZERO);
    assert_eq!(node.broker.queue_view(&queue).ready, 1);
    assert!(node.run(node.broker.schedule_of(&key("reminder"))).unwrap().is_none());
    node.run(node.broker.cancel_schedule(&key("second"))).unwrap();
    let twice = node.run(node.broker.cancel_schedule(&key("second")));
    assert_eq!(twice.unwrap_err().reason(), Reason::NoMessage);
    node.pass(Duration::from_secs(100));
    let node = node.crash(&mut Rng::seeded(2));
    let queue = node.broker.queue(&key("q")).unwrap();
    let mut consumer = node.consumer(queue);
    assert_eq!(ids(&node.take(&mut consumer)), ["1"]);
}

#[test]
fn a_recurring_schedule_gives_each_firing_an_id_and_catches_up_as_it_says() {
    let node = Node::new();
    let queue = node.run(node.broker.declare_queue(&key("q"), QueueOptions::default())).unwrap();
    let to = ScheduleTarget::Queue("q".into());
    for (id, missed) in [("once", Missed::Once), ("skip", Missed::Skip)] {
        let when = every("*/10 * * * *", missed);
        node.run(node.broker.schedule(&key(id), to.clone(), when, &publish(id))).unwrap();
    }
    node.pass(Duration::from_secs(600));
    let mut consumer = node.consumer(queue.clone());
    let taken = node.take(&mut consumer);
    let due = START_MS + 600_000;
    assert_eq!(ids(&taken), [format!("once-{due}"), format!("skip-{due}")]);
    let time = taken[0].message.event().unwrap().get("time").unwrap();
    assert_eq!(time.as_text(), Some("1970-01-01T01:10:00Z"));
    for delivery in &taken {
        node.settle(&consumer, delivery, Verdict::Accept);
    }
    drop(consumer);
    // Two hours without a keeper: twelve firings were missed.
    let node = node.crash(&mut Rng::seeded(3));
    node.clock.advance(Duration::from_secs(7_260 + 90));
    node.pass(Duration::ZERO);
    let queue = node.broker.queue(&key("q")).unwrap();
    let mut consumer = node.consumer(queue.clone());
    assert_eq!(ids(&node.take(&mut consumer)), [format!("once-{}", due + 600_000)]);
    let listed = node.run(node.broker.schedules("", None, 10)).unwrap();
    let fired: Vec<_> = listed.iter().map(|one| (one.fired, one.due_ms)).collect();
    let next = START_MS + 600_000 + 7_800_000;
    assert_eq!(fired, [(2, next), (1, next)]);
}

#[test]
fn what_never_fires_or_leads_nowhere_is_refused_and_a_lost_target_is_waited_for() {
    let node = Node::new();
    let to = ScheduleTarget::Queue("q".into());
    let (a, message) = (key("a"), publish("1"));
    let none = node.broker.schedule(&a, to.clone(), When::At(1), &message);
    assert_eq!(node.run(none).unwrap_err().reason(), Reason::NoQueue);
    node.run(node.broker.declare_queue(&key("q"), QueueOptions::default())).unwrap();
    for cron in ["0 0 31 2 *", "nonsense"] {
        let when = every(cron, Missed::Once);
        let never = node.broker.schedule(&a, to.clone(), when, &message);
        assert_eq!(node.run(never).unwrap_err().reason(), Reason::MalformedRequest, "{cron}");
    }
    let at = When::At(START_MS + 1_000);
    node.run(node.broker.schedule(&key("a"), to, at, &publish("1"))).unwrap();
    node.run(node.broker.delete_queue(&key("q"), None)).unwrap();
    node.pass(Duration::from_secs(2));
    let queue = node.run(node.broker.declare_queue(&key("q"), QueueOptions::default())).unwrap();
    node.pass(Duration::from_secs(11));
    assert_eq!(node.broker.queue_view(&queue).ready, 1);
}

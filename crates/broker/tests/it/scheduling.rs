//! Schedules: once and recurring, listed and cancelled, across a crash and a long absence.

use std::time::Duration;

use weft_broker::{Missed, Publish, QueueOptions, ScheduleTarget, Verdict, When};
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
    // Two hours without maintenance: twelve firings were missed.
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
fn what_the_node_comes_to_late_was_not_missed() {
    let node = Node::new();
    let queue = node.run(node.broker.declare_queue(&key("q"), QueueOptions::default())).unwrap();
    let to = ScheduleTarget::Queue("q".into());
    // More than fire in one turn of maintenance.
    for nth in 0..1_200 {
        let (id, when) = (key(&format!("s{nth}")), every("*/10 * * * *", Missed::Skip));
        node.run(node.broker.schedule(&id, to.clone(), when, &publish("s"))).unwrap();
    }
    node.pass(Duration::from_secs(600));
    assert_eq!(node.broker.queue_view(&queue).ready, 1_000);
    // As long as that turn took, or others after it.
    node.pass(Duration::from_secs(90));
    assert_eq!(node.broker.queue_view(&queue).ready, 1_200);
    // At rest again, and then away for as long: that is missed.
    node.pass(Duration::ZERO);
    node.pass(Duration::from_secs(600));
    assert_eq!(node.broker.queue_view(&queue).ready, 1_200);
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
    // It would be put off for ever.
    let (b, options) =
        (key("b"), QueueOptions { message_bytes_max: 10, ..QueueOptions::default() });
    node.run(node.broker.declare_queue(&b, options)).unwrap();
    for when in [When::At(START_MS + 1_000), every("@daily", Missed::Once)] {
        let large = node.broker.schedule(&a, ScheduleTarget::Queue("b".into()), when, &message);
        assert_eq!(node.run(large).unwrap_err().reason(), Reason::MessageTooLarge);
    }
    let at = When::At(START_MS + 1_000);
    node.run(node.broker.schedule(&key("a"), to, at, &publish("1"))).unwrap();
    node.run(node.broker.delete_queue(&key("q"), None)).unwrap();
    node.pass(Duration::from_secs(2));
    let queue = node.run(node.broker.declare_queue(&key("q"), QueueOptions::default())).unwrap();
    node.pass(Duration::from_secs(11));
    assert_eq!(node.broker.queue_view(&queue).ready, 1);
}

#[test]
fn what_was_missed_fires_once_or_not_at_all_however_short_the_interval() {
    // Nobody keeps for fifty minutes and some.
    let (soon, late) = (3_003_300, 3_090_000);
    for (cron, missed, away_ms, fires) in [
        ("@every 1s", Missed::Once, soon, Some(1_000)),
        // What is due this very moment is no miss.
        ("@every 1s", Missed::Skip, soon, Some(3_003_000)),
        ("*/5 * * * * *", Missed::Once, soon, Some(5_000)),
        ("*/5 * * * * *", Missed::Skip, soon, Some(3_000_000)),
        ("@every 40s", Missed::Once, late, Some(40_000)),
        ("@every 40s", Missed::Skip, late, Some(3_080_000)),
        ("@every 10m", Missed::Once, soon, Some(600_000)),
        ("@every 10m", Missed::Skip, soon, Some(3_000_000)),
        ("@every 10m", Missed::Once, late, Some(600_000)),
        ("@every 10m", Missed::Skip, late, None),
        ("0 * * * *", Missed::Skip, 3_600_000 + 61_000, None),
    ] {
        for crash in [false, true] {
            let node = Node::new();
            node.run(node.broker.declare_queue(&key("q"), QueueOptions::default())).unwrap();
            let to = ScheduleTarget::Queue("q".into());
            let when = every(cron, missed);
            node.run(node.broker.schedule(&key("s"), to, when, &publish("1"))).unwrap();
            let node = if crash { node.crash(&mut Rng::seeded(3)) } else { node };
            node.clock.advance(Duration::from_millis(away_ms));
            node.pass(Duration::ZERO);
            node.pass(Duration::ZERO);
            let mut consumer = node.consumer(node.broker.queue(&key("q")).unwrap());
            let expected: Vec<_> =
                fires.map(|at: u64| format!("1-{}", START_MS + at)).into_iter().collect();
            assert_eq!(ids(&node.take(&mut consumer)), expected, "{cron} {missed:?}");
            let listed = node.run(node.broker.schedules("", None, 10)).unwrap();
            let now = START_MS + away_ms;
            assert!(listed[0].due_ms > now && listed[0].due_ms <= now + 3_600_000, "{cron}");
        }
    }
}

#[test]
fn a_clock_that_is_set_back_silences_no_schedule() {
    for crash in [false, true] {
        let node = Node::new();
        node.run(node.broker.declare_queue(&key("q"), QueueOptions::default())).unwrap();
        let to = ScheduleTarget::Queue("q".into());
        for (id, cron) in [("cron", "* * * * *"), ("every", "@every 30s")] {
            let when = every(cron, Missed::Once);
            node.run(node.broker.schedule(&key(id), to.clone(), when, &publish(id))).unwrap();
        }
        node.pass(Duration::from_secs(60));
        node.clock.set_wall_by(-1_800_000);
        let node = if crash { node.crash(&mut Rng::seeded(3)) } else { node };
        let queue = node.broker.queue(&key("q")).unwrap();
        node.run(node.broker.purge(&queue.clone().into())).unwrap();
        node.pass(Duration::ZERO);
        for _ in 0..6 {
            node.pass(Duration::from_secs(10));
        }
        let mut consumer = node.consumer(queue);
        let ids = ids(&node.take(&mut consumer));
        assert_eq!(ids.iter().filter(|id| id.starts_with("cron")).count(), 1, "{ids:?}");
        assert_eq!(ids.iter().filter(|id| id.starts_with("every")).count(), 2, "{ids:?}");
    }
}

#[test]
fn a_schedule_that_is_made_again_as_it_is_goes_on() {
    let node = Node::new();
    node.run(node.broker.declare_queue(&key("q"), QueueOptions::default())).unwrap();
    let to = ScheduleTarget::Queue("q".into());
    let when = every("@every 10m", Missed::Once);
    let make = |when: &When, message| {
        node.run(node.broker.schedule(&key("s"), to.clone(), when.clone(), &message)).unwrap()
    };
    make(&when, publish("1"));
    node.pass(Duration::from_secs(601));
    let before = node.run(node.broker.schedule_of(&key("s"))).unwrap().unwrap();
    assert_eq!((before.fired, before.due_ms), (1, START_MS + 1_200_000));
    node.pass(Duration::from_secs(300));
    // Who declares it anew gives its message an id of its own.
    let again = make(&when, publish("1"));
    assert_eq!(
        (again.fired, again.due_ms, again.made_ms),
        (before.fired, before.due_ms, before.made_ms)
    );
    // With another message it goes on in its rhythm; with another rhythm it begins anew.
    let other = make(&when, publish("2"));
    assert_eq!((other.fired, other.due_ms, other.made_ms), (1, before.due_ms, before.made_ms));
    let faster = make(&every("@every 5m", Missed::Once), publish("2"));
    assert_eq!(faster.due_ms, START_MS + 901_000 + 300_000);
}

#[test]
fn what_a_set_back_clock_held_is_looked_at_once_it_is_right_again() {
    let node = Node::new();
    node.clock.advance(Duration::from_secs(86_400));
    let queue = node.run(node.broker.declare_queue(&key("q"), QueueOptions::default())).unwrap();
    let to = ScheduleTarget::Queue("q".into());
    node.run(node.broker.schedule(&key("s"), to, every("@every 1h", Missed::Once), &publish("s")))
        .unwrap();
    let now_ms = START_MS + 86_400_000;
    let ttl = Publish { ttl: Some(Duration::from_secs(6)), ..publish("ttl") };
    let delayed = Publish { due_ms: now_ms + 6_000, ..publish("delayed") };
    node.publish(queue.clone(), &[ttl, delayed]);
    node.pass(Duration::ZERO);
    node.clock.set_wall_by(-7_200_000);
    for _ in 0..6 {
        node.pass(Duration::from_secs(3));
    }
    let view = node.broker.queue_view(&queue);
    assert_eq!((view.ready, view.waiting), (1, 1), "times are those of the wall clock");
    node.clock.set_wall_by(7_200_000);
    // The first look is within a second.
    node.pass(Duration::ZERO);
    let mut consumer = node.consumer(queue.clone());
    let ids = ids(&node.take(&mut consumer));
    let (fired, rest): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| id.starts_with("s-"));
    assert_eq!((fired.len(), rest), (1, vec!["delayed".to_owned()]));
    assert_eq!(node.broker.queue_view(&queue).ready, 0);
}

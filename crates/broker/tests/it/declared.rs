//! Schedules that a configuration declares: put in force and removed with all else that it declares, and told
//! from those that were made otherwise.

use std::time::Duration;

use weft_broker::{Declarations, Missed, QueueOptions, ScheduleTarget, When};
use weft_kernel::{Reason, Rng};
use weft_ledger::{Durability, ExpectValue, MapOptions, Transaction};

use crate::{
    node::{Node, ids, key, publish},
    together::{commit, schedule},
};

fn to_queue() -> ScheduleTarget {
    ScheduleTarget::Queue("q".into())
}

fn every(cron: &str) -> When {
    let (missed, jitter) = (Missed::Once, Duration::ZERO);
    When::Recurring { cron: cron.into(), zone: String::new(), missed, jitter }
}

/// A queue, and schedules to it: ids, each with its rule.
fn declarations(schedules: &[(&str, &str)]) -> Declarations {
    Declarations {
        queues: vec![(key("q"), QueueOptions::default())],
        schedules: schedules.iter().map(|(id, cron)| schedule(id, to_queue(), cron)).collect(),
        ..Declarations::default()
    }
}

/// Which schedules there are: ids, whether the configuration declares them, and how often they fired.
fn found(node: &Node) -> Vec<(String, bool, u64)> {
    let all = node.run(node.broker.schedules("", None, 10_000)).unwrap();
    all.into_iter().map(|one| (one.id.name.to_string(), one.declared, one.fired)).collect()
}

/// What has been published, which is taken.
fn fired(node: &Node) -> Vec<String> {
    let queue = node.broker.queue(&key("q")).unwrap();
    let mut consumer = node.consumer(queue.clone());
    let taken = ids(&node.take(&mut consumer));
    drop(consumer);
    node.run(node.broker.purge(&queue.into())).unwrap();
    taken
}

#[test]
fn many_schedules_are_one_transaction() {
    let node = Node::new();
    let many: Vec<String> = (0..400).map(|n| format!("s{n}")).collect();
    let all: Vec<_> = many.iter().map(|id| (id.as_str(), "@every 1h")).collect();
    commit(&node, declarations(&[]));
    let before = node.ledger.stats().transactions;
    commit(&node, declarations(&all));
    assert_eq!(node.ledger.stats().transactions, before + 1);
    assert_eq!(found(&node).len(), 400);
    // Nothing is written of what is as it was, and what is gone is one write as well.
    commit(&node, declarations(&all));
    assert_eq!(node.ledger.stats().transactions, before + 1);
    commit(&node, declarations(&[]));
    assert_eq!(node.ledger.stats().transactions, before + 2);
    assert_eq!(found(&node), []);
}

#[test]
fn what_is_declared_no_more_fires_no_more() {
    for restart in [false, true] {
        let node = Node::new();
        commit(&node, declarations(&[("a", "@every 10s"), ("b", "@every 10s")]));
        node.run(node.broker.schedule(
            &key("mine"),
            to_queue(),
            every("@every 10s"),
            &publish("m"),
        ))
        .unwrap();
        node.pass(Duration::from_secs(10));
        assert_eq!(fired(&node).len(), 3);
        // It is taken away while the node runs, or while it is down.
        let node = if restart { node.crash(&mut Rng::seeded(3)) } else { node };
        let removed = node.run(async {
            let all = declarations(&[("b", "@every 10s")]);
            let mut prepared = node.broker.prepare(all).await.unwrap();
            let mut transaction = Transaction::new(Durability::Fsync);
            prepared.stage(&mut transaction).await.unwrap();
            assert_eq!(transaction.ops.len(), 1, "b is as it was");
            node.broker.store().commit(transaction).await.unwrap();
            let removed = prepared.removed_schedules().to_vec();
            assert!(prepared.enforce().await.is_empty());
            removed
        });
        assert_eq!(removed, [key("a")]);
        let left = [("b".to_owned(), true, 1), ("mine".to_owned(), false, 1)];
        assert_eq!(found(&node), left);
        node.pass(Duration::from_secs(10));
        assert_eq!(fired(&node).len(), 2);
        let node = node.crash(&mut Rng::seeded(4));
        assert_eq!(found(&node).len(), 2);
    }
}

#[test]
fn what_is_declared_as_it_was_keeps_its_rhythm_whoever_had_made_it() {
    let node = Node::new();
    commit(&node, declarations(&[]));
    node.run(node.broker.schedule(&key("s"), to_queue(), every("@every 10m"), &publish("1")))
        .unwrap();
    node.pass(Duration::from_secs(601));
    let of = |node: &Node| node.run(node.broker.schedule_of(&key("s"))).unwrap().unwrap();
    let before = of(&node);
    node.pass(Duration::from_secs(300));
    // The configuration takes it over.
    commit(&node, declarations(&[("s", "@every 10m")]));
    let taken = of(&node);
    assert_eq!(
        (taken.declared, taken.fired, taken.due_ms, taken.made_ms),
        (true, 1, before.due_ms, before.made_ms)
    );
    node.pass(Duration::from_secs(100));
    commit(&node, declarations(&[("s", "@every 10m")]));
    assert_eq!((of(&node).due_ms, of(&node).fired), (before.due_ms, 1));
    // With another rhythm it begins anew.
    commit(&node, declarations(&[("s", "@every 5m")]));
    assert!(of(&node).due_ms < before.due_ms + 300_000 && of(&node).fired == 0);
    // What the configuration took over goes with it.
    commit(&node, declarations(&[]));
    assert_eq!(found(&node), []);
}

#[test]
fn nobody_else_changes_or_cancels_what_is_declared() {
    for restart in [false, true] {
        let node = Node::new();
        commit(&node, declarations(&[("s", "@every 10m")]));
        let node = if restart { node.crash(&mut Rng::seeded(3)) } else { node };
        let (id, message) = (key("s"), publish("1"));
        let change = node.broker.schedule(&id, to_queue(), every("@every 5m"), &message);
        for refused in
            [node.run(change).map(|_| ()), node.run(node.broker.cancel_schedule(&key("s")))]
        {
            let refused = refused.unwrap_err();
            assert_eq!(refused.reason(), Reason::DefinitionConflict);
            assert!(refused.said().contains("declared by the configuration"), "{refused}");
        }
        // Once it is declared no more it is as any other.
        commit(&node, declarations(&[]));
        let made = node.broker.schedule(&id, to_queue(), every("@every 5m"), &message);
        assert!(!node.run(made).unwrap().declared);
        node.run(node.broker.cancel_schedule(&key("s"))).unwrap();
    }
}

#[test]
fn a_schedule_that_fires_during_a_reload_refuses_it_not_and_is_not_set_back() {
    let node = Node::new();
    commit(&node, declarations(&[("s", "@every 10s")]));
    node.clock.advance(Duration::from_secs(10));
    let mut prepared = node.run(node.broker.prepare(declarations(&[("s", "@every 10s")]))).unwrap();
    // It is due, and fires before the others are staged.
    node.pass(Duration::ZERO);
    assert_eq!(fired(&node).len(), 1);
    node.clock.advance(Duration::from_secs(10));
    let mut transaction = Transaction::new(Durability::Fsync);
    node.run(prepared.stage(&mut transaction)).unwrap();
    assert!(transaction.ops.is_empty(), "it goes on as it was");
    // From then on firing waits, and nobody makes one.
    assert!(node.try_run(node.broker.maintain_once()).is_none());
    let (id, message) = (key("t"), publish("1"));
    let made = node.broker.schedule(&id, to_queue(), every("@every 10s"), &message);
    assert!(node.try_run(made).is_none());
    node.run(prepared.enforce());
    node.pass(Duration::ZERO);
    assert_eq!(fired(&node).len(), 1);
    assert_eq!(found(&node), [("s".to_owned(), true, 2)]);
}

#[test]
fn a_record_from_before_the_mark_was_kept_is_of_the_api() {
    let node = Node::new();
    commit(&node, declarations(&[("s", "@every 10m")]));
    // As it was stored then: without the mark.
    node.run(async {
        let store = node.broker.store();
        let map = store.create_map("broker/schedules", MapOptions::default()).await.unwrap();
        let (entry, value) = store.scan(map, b"", None, 1).await.unwrap().pop().unwrap();
        let mark = br#","declared":true"#;
        let at = value.data.windows(mark.len()).position(|part| part == mark).unwrap();
        let head = value.data.iter().position(|byte| *byte == b'{').unwrap();
        // A length in seven bits a byte stands before the head.
        let length = (at + mark.len() + 1 - head) - mark.len();
        let mut old = vec![value.data[0], (length & 0x7f) as u8 | 0x80, (length >> 7) as u8];
        old.extend_from_slice(&value.data[head..at]);
        old.extend_from_slice(&value.data[at + mark.len()..]);
        let put = Transaction::new(Durability::Fsync).put(map, entry, old, ExpectValue::Any);
        store.commit(put).await.unwrap();
    });
    let node = node.crash(&mut Rng::seeded(3));
    assert_eq!(found(&node), [("s".to_owned(), false, 0)]);
    commit(&node, declarations(&[]));
    assert_eq!(found(&node), [("s".to_owned(), false, 0)]);
}

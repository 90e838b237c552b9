//! Random lives of a queue and a topic from a seed, with crashes at any sync: nothing that was
//! acknowledged is lost, nothing accepted comes back, keys keep their order, ids are stored once, and a
//! message is never both in its queue and among the dead.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use weft_broker::{Dedupe, OnFailure, Order, PublishTarget, QueueOptions, Verdict};
use weft_kernel::Rng;
use weft_ledger::{Limits, disk::simulated::Faults};

use crate::node::{Node, fail, id, key, publish, reject};

/// What a client that keeps notes knows.
#[derive(Default)]
struct Notes {
    next: u32,
    /// Publishes that were acknowledged, and those of which nobody knows.
    acknowledged: BTreeSet<String>,
    doubtful: BTreeSet<String>,
    /// Settlements that were acknowledged.
    accepted: BTreeSet<String>,
    dead: BTreeSet<String>,
    /// Settled without an answer.
    unsure: BTreeSet<String>,
    /// The last number accepted of each key.
    last: BTreeMap<String, u32>,
}

fn options() -> QueueOptions {
    QueueOptions {
        order: Order::Key { on_failure: OnFailure::Block },
        failures_max: Some(3),
        dedupe: Some(Dedupe::default()),
        ..QueueOptions::default()
    }
}

fn live(seed: u64) -> [usize; 4] {
    let mut rng = Rng::seeded(seed);
    let mut node = Node::new();
    node.run(node.broker.declare_queue(&key("q"), options())).unwrap();
    let mut notes = Notes::default();
    for _ in 0..4 {
        let halt = node.disk.syncs() + 1 + rng.below(60);
        node.disk.set_faults(Faults { halt_at_sync: Some(halt), ..Faults::default() });
        let queue = node.broker.queue(&key("q")).unwrap();
        let mut consumer = node.consumer(queue.clone());
        for _ in 0..60 {
            if node.disk.halted() {
                break;
            }
            match rng.below(10) {
                0..4 => publish_some(&node, &mut notes, &mut rng),
                4..9 => consume_some(&node, &mut consumer, &mut notes, &mut rng, seed),
                _ => {
                    node.clock.advance(Duration::from_millis(rng.below(40_000)));
                    let _kept = node.try_run(node.broker.maintain_once());
                }
            }
        }
        drop(consumer);
        drop(queue);
        node = node.crash(&mut rng);
        check(&node, &mut notes, seed);
    }
    [notes.acknowledged.len(), notes.accepted.len(), notes.dead.len(), notes.unsure.len()]
}

fn publish_some(node: &Node, notes: &mut Notes, rng: &mut Rng) {
    let queue = node.broker.queue(&key("q")).unwrap();
    let mut names = Vec::new();
    let mut messages = Vec::new();
    for _ in 0..=rng.below(4) {
        // Now and then one again that is there already, or may be.
        let again = notes.acknowledged.iter().chain(&notes.doubtful).next_back().cloned();
        let name = match again {
            Some(name) if rng.chance(0.15) => name,
            _ => {
                notes.next += 1;
                format!("{:05}-{}", notes.next, rng.below(3))
            }
        };
        let of_key = name.rsplit_once('-').unwrap().1.to_owned();
        messages.push(publish(&name).keyed(of_key));
        names.push(name);
    }
    notes.doubtful.extend(names.iter().filter(|name| !notes.acknowledged.contains(*name)).cloned());
    let target = PublishTarget::Queue(queue);
    if let Some(Ok(_)) = node.try_run(node.broker.publish(&target, &messages, None)) {
        for name in names {
            notes.doubtful.remove(&name);
            notes.acknowledged.insert(name);
        }
    }
}

fn consume_some(
    node: &Node,
    consumer: &mut weft_broker::Consumer,
    notes: &mut Notes,
    rng: &mut Rng,
    seed: u64,
) {
    let Some(Ok(taken)) = node.try_run(consumer.try_batch(1 + rng.below(4) as u32)) else { return };
    for delivery in taken {
        let name = id(&delivery.message);
        assert!(!notes.accepted.contains(&name), "seed {seed}: {name} was accepted and came back");
        assert!(!notes.dead.contains(&name), "seed {seed}: {name} died and came back");
        let verdict = match rng.below(10) {
            0..5 => Verdict::Accept,
            5 => Verdict::Release,
            6..8 => fail("by chance"),
            8 => reject("by chance"),
            // Held until its lease runs out.
            _ => continue,
        };
        if verdict == Verdict::Accept {
            let (number, of_key) = name.split_once('-').unwrap();
            let number: u32 = number.parse().unwrap();
            let last = notes.last.insert(of_key.to_owned(), number).unwrap_or_default();
            assert!(last <= number, "seed {seed}: {name} came after {last} of its key");
        }
        let last_try = delivery.lease.failures >= 2 && matches!(verdict, Verdict::Fail { .. });
        let dies = last_try || matches!(verdict, Verdict::Reject { .. });
        let settler = consumer.settler();
        let settlement = [(delivery.lease.clone(), verdict.clone())];
        let settled = node.try_run(settler.settle_durably(&settlement));
        match settled {
            Some(Ok(settled)) if settled.lost.is_empty() => {
                if verdict == Verdict::Accept {
                    notes.accepted.insert(name);
                } else if dies {
                    notes.dead.insert(name);
                }
            }
            _ => {
                notes.unsure.insert(name);
            }
        }
    }
}

/// After a crash: each message is in exactly one place, and in none only if that is where it belongs.
fn check(node: &Node, notes: &mut Notes, seed: u64) {
    let names = |queue: &str| -> Vec<String> {
        let Ok(queue) = node.broker.queue(&key(queue)) else { return Vec::new() };
        let source = weft_broker::MessageSource::Queue(queue);
        let all = Limits { records: 10_000, bytes: u64::MAX };
        let found = node.run(node.broker.peek(&source, None, 0, all)).unwrap();
        found.iter().map(|peeked| id(peeked.message.as_ref().unwrap())).collect()
    };
    let (queue, dead) = (names("q"), names("q.dead"));
    let unique: BTreeSet<&String> = queue.iter().chain(&dead).collect();
    assert_eq!(unique.len(), queue.len() + dead.len(), "seed {seed}: twice: {queue:?} {dead:?}");
    for name in &notes.acknowledged {
        let there = unique.contains(name);
        let gone = notes.accepted.contains(name) || notes.unsure.contains(name);
        assert!(there || gone, "seed {seed}: {name} was acknowledged and is lost");
    }
    for name in &notes.accepted {
        assert!(!unique.contains(name), "seed {seed}: {name} was accepted and is there");
    }
    for name in &notes.dead {
        assert!(dead.contains(name), "seed {seed}: {name} died and is not among the dead");
    }
    for name in unique {
        let known = notes.acknowledged.contains(name) || notes.doubtful.contains(name);
        assert!(known, "seed {seed}: {name} was never published");
    }
    // What was in doubt is known now.
    let now: BTreeSet<String> = queue.into_iter().chain(dead).collect();
    for name in std::mem::take(&mut notes.doubtful) {
        if now.contains(&name) {
            notes.acknowledged.insert(name);
        } else if notes.unsure.contains(&name) {
            notes.doubtful.insert(name);
        }
    }
    // A key whose acceptance is in doubt may begin again where it was.
    notes.last.clear();
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_comes_twice() {
    let mut seen = [0; 4];
    for seed in 0..32 {
        live(seed).into_iter().zip(&mut seen).for_each(|(more, seen)| *seen += more);
    }
    // Lives in which nothing happens prove nothing.
    assert!(seen.iter().zip([1_000, 250, 50, 4]).all(|(seen, least)| *seen >= least), "{seen:?}");
}

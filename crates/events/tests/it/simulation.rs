//! Appends with conditions, reads by index and removals at once, power that fails at any moment, and what is then there:
//! rows and log say the same, nothing that was told is lost, and no condition was passed over.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use weft_events::{
    Append, AppendBatch, AppendCondition, Direction, EventQuery, Expected, PageLimits, QueryItem,
    Rejected, store::Change,
};
use weft_kernel::Rng;
use weft_ledger::disk::SimulatedDisk;

use crate::{
    index::{drawn, items},
    rows::{all, check, check_query},
    streams::{Opened, block, name},
};

/// A condition under which events were appended, and where the first of them stands.
type Passed = (EventQuery, Option<u64>, u64);

/// What was acknowledged over all lives of the store.
#[derive(Default)]
struct Told {
    /// Events by id: stream and version.
    events: Mutex<HashMap<String, (String, u64)>>,
    passed: Mutex<Vec<Passed>>,
}

struct World<'a> {
    opened: &'a Opened,
    told: &'a Told,
    disk: &'a SimulatedDisk,
    /// Acknowledgements until the power fails.
    left: AtomicI64,
}

impl World<'_> {
    fn acknowledged(&self) {
        if self.left.fetch_sub(1, Relaxed) == 1 {
            self.disk.halt();
        }
    }

    async fn append(&self, rng: &mut Rng, id: &str) -> bool {
        let drawn = (0..1 + rng.below(60)).map(|number| drawn(rng, &format!("{id}-{number}")));
        let mut appends: Vec<Append> = Vec::new();
        for (stream, event) in drawn.collect::<Vec<_>>() {
            let append =
                Append { stream: name(&stream), expected: Expected::Any, events: vec![event] };
            appends.push(append);
        }
        let mut conditions = Vec::new();
        if rng.below(2) == 0 {
            let items = items();
            let item = items[rng.below(items.len() as u64) as usize].clone();
            let next = self.opened.events.next_position();
            let after = match rng.below(8) {
                0 => None,
                1 => Some(rng.below(next.max(1))),
                _ => next.checked_sub(1),
            };
            let after = after.filter(|after| *after < next);
            conditions.push(AppendCondition { fail_if_events_match: query(item), after });
        }
        let batch = AppendBatch { appends, conditions, ..AppendBatch::default() };
        match self.opened.events.append(batch.clone()).await {
            Ok(receipt) => {
                let mut told = self.told.events.lock().unwrap();
                let (mut count, mut number) = (0, 0);
                for written in &receipt.written {
                    for version in written.versions.clone() {
                        let id = format!("{id}-{number}");
                        number += 1;
                        told.insert(id, (written.stream.to_string(), version));
                        count += 1;
                    }
                }
                let first = receipt.position.unwrap() + 1 - count;
                for AppendCondition { fail_if_events_match, after } in batch.conditions {
                    self.told.passed.lock().unwrap().push((fail_if_events_match, after, first));
                }
                self.acknowledged();
                true
            }
            Err(Rejected::Matched(matched)) => {
                let condition = &batch.conditions[0];
                assert!((1..=16).contains(&matched.events.len()), "{matched:?}");
                for event in &matched.events {
                    assert!(condition.after.is_none_or(|after| event.position > after));
                    assert!(condition.fail_if_events_match.matches(event), "{event:?}");
                }
                true
            }
            Err(Rejected::Failed(_)) if self.disk.halted() => false,
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn read(&self, rng: &mut Rng) -> bool {
        let items = items();
        let query = query(items[rng.below(items.len() as u64) as usize].clone());
        let from = rng.below(self.opened.events.next_position() + 1);
        let forward = rng.below(2) == 0;
        let direction = if forward { Direction::Forward } else { Direction::Backward };
        let limits = PageLimits { events: 1 + rng.below(200) as usize, ..PageLimits::default() };
        match self.opened.events.read_by(&query, from, direction, limits).await {
            Ok(page) => {
                assert!(page.events.iter().all(|event| query.matches(event)));
                let positions: Vec<_> = page.events.iter().map(|event| event.position).collect();
                let mut sorted = positions.clone();
                sorted.sort_unstable();
                sorted.dedup();
                if !forward {
                    sorted.reverse();
                }
                assert_eq!(positions, sorted);
                true
            }
            Err(_) if self.disk.halted() => false,
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn remove(&self, rng: &mut Rng) -> bool {
        let category = ["order", "account", "rare"][rng.below(3) as usize];
        let stream = name(&format!("{category}-{}", rng.below(12)));
        let Ok(info) = self.opened.events.stream(&stream).await else { return false };
        let next = info.map_or(0, |info| info.next);
        let change = match rng.below(3) {
            0 => Change::Delete,
            _ => Change::Truncate(rng.below(next + 1)),
        };
        match self.opened.events.change(&stream, Expected::Exists, change).await {
            Ok(_) => true,
            Err(Rejected::Conflict(_)) => true,
            Err(Rejected::Failed(_)) if self.disk.halted() => false,
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn run(&self, seed: u64, life: u64, worker: u64) {
        let mut rng = Rng::seeded(seed << 32 | life << 16 | worker);
        for round in 0..40 {
            let goes_on = match (worker, rng.below(4)) {
                (0 | 1, 0) => self.remove(&mut rng).await,
                (_, 1) => self.read(&mut rng).await,
                _ => self.append(&mut rng, &format!("{seed}-{life}-{worker}-{round}")).await,
            };
            if !goes_on {
                return;
            }
        }
    }
}

fn query(item: QueryItem) -> EventQuery {
    EventQuery::new(vec![item]).unwrap()
}

#[test]
fn rows_and_log_say_the_same_whenever_the_power_fails() {
    for seed in 0..4 {
        let (disk, told, mut rng) = (SimulatedDisk::new(), Told::default(), Rng::seeded(seed));
        let mut in_rows = 0;
        for life in 0..3 {
            let left = AtomicI64::new(1 + rng.below(220) as i64);
            block(async {
                let opened = Opened::on(&disk).await;
                let world = World { opened: &opened, told: &told, disk: &disk, left };
                let workers = (0..8).map(|worker| world.run(seed, life, worker));
                futures_util::future::join_all(workers).await;
                disk.halt();
            });
            disk.restart(&mut rng);
            block(async {
                let opened = Opened::on(&disk).await;
                in_rows = in_rows.max(check(&opened).await);
                let all = all(&opened.events).await;
                for item in items().into_iter().filter(|_| rng.below(6) == 0) {
                    check_query(&opened.events, &all, item, 1_000).await;
                }
                let there: HashMap<_, _> = all
                    .iter()
                    .map(|event| {
                        let id = event.message.event().unwrap().id().to_owned();
                        (id, (event.stream.to_string(), event.version))
                    })
                    .collect();
                let mut firsts = HashMap::new();
                let events = told.events.lock().unwrap().clone();
                for (id, place) in &events {
                    if !firsts.contains_key(&place.0) {
                        let info = opened.events.stream(&name(&place.0)).await.unwrap().unwrap();
                        firsts.insert(place.0.clone(), info.first);
                    }
                    if place.1 >= firsts[&place.0] {
                        assert_eq!(there.get(id), Some(place), "{id} is lost");
                    }
                }
                for (query, after, first) in told.passed.lock().unwrap().iter() {
                    let between = after.map_or(0, |after| after + 1)..*first;
                    let passed_over = all
                        .iter()
                        .find(|event| between.contains(&event.position) && query.matches(event));
                    assert!(passed_over.is_none(), "{query:?} {between:?} {passed_over:?}");
                }
                disk.halt();
            });
            disk.reopen();
        }
        assert!(in_rows > 2_000, "{in_rows}");
        assert!(told.passed.lock().unwrap().len() > 20);
    }
}

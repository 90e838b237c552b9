//! The limiter against a simulated service: some workers, a queue before them, and requests that
//! arrive whether or not the last were answered.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use proptest::prelude::*;
use weft_kernel::{Rng, Tick};
use weft_resilience::adaptive::{Criticality, Limiter, Options, Permit};

use crate::{START, at, millis};

/// A service and those who call it.
struct World {
    limiter: Limiter,
    rng: Rng,
    now: Tick,
    workers: usize,
    /// Mean time of one request, exponentially spread around a fixed half.
    service: Duration,
    per_second: f64,
    busy: usize,
    queue: VecDeque<(Permit, Tick)>,
    /// What ends when; the number tells requests of one instant apart.
    ends: BTreeMap<(Tick, u64), (Permit, Tick)>,
    number: u64,
}

/// What a stretch of time has seen.
#[derive(Debug, Default)]
struct Seen {
    arrived: [u64; 3],
    shed: [u64; 3],
    done: u64,
    waited: Duration,
    slowest: Duration,
}

impl Seen {
    fn mean(&self) -> Duration {
        self.waited / u32::try_from(self.done.max(1)).unwrap()
    }

    fn shed_share(&self) -> f64 {
        let shed: u64 = self.shed.iter().sum();
        shed as f64 / self.arrived.iter().sum::<u64>() as f64
    }
}

impl World {
    fn new(workers: usize, service: Duration, per_second: f64, seed: u64) -> Self {
        Self {
            limiter: Limiter::new(Options::default()),
            rng: Rng::seeded(seed),
            now: START,
            workers,
            service,
            per_second,
            busy: 0,
            queue: VecDeque::new(),
            ends: BTreeMap::new(),
            number: 0,
        }
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.rng.unit()).ln()
    }

    fn run(&mut self, span: Duration) -> Seen {
        let mut seen = Seen::default();
        let end = self.now.plus(span);
        let mut arrival = self.now;
        loop {
            let next = self.ends.keys().next().copied();
            if let Some(key) = next.filter(|(tick, _)| *tick <= arrival) {
                self.now = key.0;
                let (permit, arrived) = self.ends.remove(&key).unwrap();
                self.busy -= 1;
                let latency = self.now.since(arrived);
                seen.done += 1;
                seen.waited += latency;
                seen.slowest = seen.slowest.max(latency);
                permit.finish(true, self.now);
                self.start();
                continue;
            }
            if arrival >= end {
                self.now = end;
                return seen;
            }
            self.now = arrival;
            let class = Criticality::ALL[self.rng.below(3) as usize];
            seen.arrived[class as usize] += 1;
            match self.limiter.admit(class, self.now) {
                Ok(permit) => self.queue.push_back((permit, self.now)),
                Err(_) => seen.shed[class as usize] += 1,
            }
            self.start();
            let pause = self.exponential() / self.per_second;
            arrival = self.now.plus(Duration::from_secs_f64(pause));
        }
    }

    fn start(&mut self) {
        while self.busy < self.workers
            && let Some(request) = self.queue.pop_front()
        {
            let share = 0.5 + 0.5 * self.exponential();
            let end = self.now.plus(self.service.mul_f64(share));
            self.number += 1;
            self.busy += 1;
            self.ends.insert((end, self.number), request);
        }
    }
}

const SEEDS: std::ops::Range<u64> = 0..3;

#[test]
fn a_service_with_room_is_left_alone() {
    for seed in SEEDS {
        for share in [0.1, 0.5, 0.8] {
            // 50 workers of 10 ms do 5,000 requests a second.
            let mut world = World::new(50, millis(10), 5_000.0 * share, seed);
            world.run(millis(2_000));
            let seen = world.run(millis(20_000));
            assert!(seen.shed_share() < 0.001, "seed {seed}, load {share}: {seen:?}");
        }
    }
}

/// Callers who each wait for their answer before they ask again, at a service with that many workers.
/// One caller has the service for itself for a while, so that its best is known, before the others come.
/// Gives how many requests were refused, of how many.
fn closed_loop(callers: usize, workers: usize, service: Duration, seed: u64) -> (u64, u64) {
    let limiter = Limiter::new(Options::default());
    let mut rng = Rng::seeded(seed);
    let mut queue = VecDeque::new();
    let mut ends: BTreeMap<(Tick, u64), Permit> = BTreeMap::new();
    let (mut now, mut busy, mut number, mut refused) = (START, 0, 0u64, 0);
    // When each caller asks next; a millisecond after a refusal.
    let mut asks = BTreeSet::new();
    for caller in 0..callers {
        number += 1;
        let alone = if caller == 0 { Duration::ZERO } else { millis(500) };
        asks.insert((START.plus(alone + Duration::from_micros(rng.below(2_000))), number));
    }
    let total = 50_000;
    for _ in 0..2 * total {
        let ask = asks.first().copied();
        let end = ends.keys().next().copied();
        number += 1;
        if let Some(key) = end.filter(|end| ask.is_none_or(|ask| *end <= ask)) {
            let permit = ends.remove(&key).unwrap();
            now = key.0;
            busy -= 1;
            permit.finish(true, now);
            asks.insert((now, number));
        } else if let Some(key) = ask {
            asks.remove(&key);
            now = key.0;
            match limiter.admit(Criticality::Default, now) {
                Ok(permit) => queue.push_back(permit),
                Err(_) => {
                    refused += 1;
                    asks.insert((now.plus(millis(1)), number));
                }
            }
        }
        while busy < workers
            && let Some(permit) = queue.pop_front()
        {
            let took = service.mul_f64(0.5 - 0.5 * (1.0 - rng.unit()).ln());
            number += 1;
            busy += 1;
            ends.insert((now.plus(took), number), permit);
        }
    }
    assert!(now > START.plus(millis(1_500)), "too short to tell: {now:?}");
    (refused, total)
}

#[test]
fn callers_who_wait_for_their_answers_are_not_refused_by_a_service_that_is_fully_used() {
    // (workers, time of one request): the fast services of one machine, whose capacity is 20,000, 8,000
    // and 10,000 requests a second. Alone, a caller would wait 100 µs, 250 µs, 2 ms.
    for (workers, micros) in [(2, 100), (2, 250), (20, 2_000)] {
        for callers in [1, 16, 128, 256, 512] {
            for seed in SEEDS {
                let service = Duration::from_micros(micros);
                let (refused, of) = closed_loop(callers, workers, service, seed);
                assert_eq!(refused, 0, "of {of}, {callers} callers, {workers} × {micros} µs");
            }
        }
    }
    // And what a slower one does a second, 1,280: a hundred and twenty-eight callers wait a tenth of
    // a second each, and are let be.
    assert_eq!(closed_loop(128, 2, Duration::from_micros(1_500), 1).0, 0);
}

#[test]
fn an_overloaded_service_works_at_its_capacity_with_a_short_queue() {
    for seed in SEEDS {
        let mut world = World::new(50, millis(10), 2_000.0, seed);
        world.run(millis(5_000));
        world.per_second = 12_000.0;
        world.run(millis(5_000));
        let seen = world.run(millis(30_000));
        // A tenth of a second may be waited beyond the baseline; the rest is refused.
        assert!(seen.done > 30 * 4_750, "seed {seed}: {seen:?}");
        assert!((0.5..0.7).contains(&seen.shed_share()), "seed {seed}: {seen:?}");
        assert!(seen.mean() < millis(140), "seed {seed}: {:?}", seen.mean());
        // It lasts, and yet does not become the norm.
        world.run(millis(60_000));
        let (late, limit) = (world.run(millis(30_000)), world.limiter.limit());
        assert!(late.mean() < millis(140), "seed {seed}: {:?}", late.mean());
        assert!((50..800).contains(&limit), "seed {seed}: {limit}");
    }
}

#[test]
fn an_overload_from_the_first_request_on_is_bounded_too() {
    for seed in SEEDS {
        let mut world = World::new(50, millis(10), 12_000.0, seed);
        world.run(millis(5_000));
        let seen = world.run(millis(20_000));
        // What no load looks like is not known here, so the queue may be as long as at the start: a
        // thousand requests before a service that answers five in a millisecond.
        assert!(seen.done > 20 * 4_750, "seed {seed}: {seen:?}");
        assert!(seen.mean() < millis(220), "seed {seed}: {:?}", seen.mean());
    }
}

#[test]
fn the_limit_follows_a_service_that_loses_and_regains_workers() {
    for seed in SEEDS {
        let mut world = World::new(50, millis(10), 3_000.0, seed);
        world.run(millis(5_000));
        world.workers = 10;
        world.run(millis(10_000));
        let lost = world.run(millis(20_000));
        assert!(lost.done > 20 * 900, "seed {seed}: {lost:?}");
        assert!(lost.mean() < millis(180), "seed {seed}: {:?}", lost.mean());
        world.workers = 50;
        world.run(millis(10_000));
        let regained = world.run(millis(20_000));
        assert!(regained.shed_share() < 0.01, "seed {seed}: {regained:?}");
    }
}

#[test]
fn a_service_that_becomes_slower_by_itself_is_not_strangled() {
    for seed in SEEDS {
        let mut world = World::new(500, millis(10), 2_000.0, seed);
        world.run(millis(5_000));
        // Its own database has become slower; there is no queue.
        world.service = millis(80);
        world.run(millis(15_000));
        let seen = world.run(millis(20_000));
        assert!(seen.shed_share() < 0.02, "seed {seed}: {seen:?}");
    }
}

#[test]
fn the_less_critical_go_first() {
    let mut world = World::new(50, millis(10), 9_000.0, 1);
    world.run(millis(5_000));
    let seen = world.run(millis(20_000));
    let [critical, default, sheddable] =
        [0, 1, 2].map(|class| seen.shed[class] as f64 / seen.arrived[class] as f64);
    assert!(critical < default && default < sheddable, "{seen:?}");
    assert!(critical < 0.01 && sheddable > 0.6, "{critical} {default} {sheddable}");
    assert!(world.limiter.snapshot().shed[2] >= seen.shed[2]);
}

#[test]
fn answers_that_say_overload_cut_the_limit_whatever_the_latency() {
    let limiter = Limiter::new(Options { initial: 100, ..Options::default() });
    for round in 0..200 {
        for _ in 0..10 {
            let permit = limiter.admit(Criticality::Critical, at(round * 200)).unwrap();
            permit.finish(false, at(round * 200 + 1));
        }
    }
    assert_eq!(limiter.limit(), 3);
}

#[test]
fn a_permit_that_is_dropped_frees_its_place_and_says_nothing() {
    let limiter = Limiter::new(Options { initial: 100, ..Options::default() });
    for step in 0..1_000 {
        drop(limiter.admit(Criticality::Critical, at(step)).unwrap());
    }
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.limit, snapshot.in_flight, snapshot.baseline), (100, 0, None));
}

#[test]
fn shares_of_a_limit_fall_with_criticality_and_are_never_nothing() {
    for limit in [0, 1, 3, 10, 100, 1_000, u32::MAX] {
        let [critical, default, sheddable] = Criticality::ALL.map(|class| class.share(limit));
        assert!(critical >= default && default >= sheddable && sheddable >= 1, "{limit}");
        assert_eq!(critical, limit.max(1));
    }
}

#[test]
fn many_threads_stay_within_the_limit() {
    let limiter = Limiter::new(Options { min: 5, max: 5, ..Options::default() });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let limiter = &limiter;
            scope.spawn(move || {
                for step in 0..5_000 {
                    let now = at(step * 3 + thread);
                    if let Ok(permit) = limiter.admit(Criticality::Critical, now) {
                        permit.finish(step % 7 != 0, now.plus(millis(step % 50)));
                    }
                    assert_eq!(limiter.limit(), 5);
                }
            });
        }
    });
    assert_eq!(limiter.in_flight(), 0);
}

proptest! {
    #[test]
    fn the_limit_stays_in_its_bounds_and_is_never_exceeded(
        min in 0u32..20,
        max in 0u32..200,
        initial in 0u32..400,
        tolerance in prop_oneof![Just(f64::NAN), Just(0.0), 0.5f64..10.0],
        steps in prop::collection::vec((0u64..400, 0u8..8, any::<u16>()), 1..800),
    ) {
        let limiter = Limiter::new(Options { min, max, initial, tolerance });
        let bounds = min.max(1)..=max.max(min.max(1));
        let (mut now, mut held) = (START, Vec::new());
        for (pause, kind, pick) in steps {
            now = now.plus(millis(if kind == 0 { pause } else { pause / 40 }));
            match kind {
                0..5 => held.extend(limiter.admit(Criticality::ALL[usize::from(pick % 3)], now)),
                _ if held.is_empty() => {}
                5 => drop(held.swap_remove(usize::from(pick) % held.len())),
                _ => held.swap_remove(usize::from(pick) % held.len()).finish(kind == 6, now),
            }
            prop_assert!(bounds.contains(&limiter.limit()), "{}", limiter.limit());
            prop_assert_eq!(limiter.in_flight() as usize, held.len());
            prop_assert!(held.len() <= *bounds.end() as usize);
        }
    }
}

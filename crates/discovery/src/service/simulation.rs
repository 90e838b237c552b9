//! Seeded simulations of one service: endpoints die and recover, come and go, are drained, checked
//! and ejected, while requests are picked; after each pick the promises of the room are held to.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};
use weft_resilience::ejection;

use super::*;
use crate::{
    endpoint::{InFlight, Outcome, Usable, usable},
    health::Pulse,
    options::{Algorithm, Check, Health},
};

const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::PeakEwma,
    Algorithm::LeastRequest,
    Algorithm::WeightedRoundRobin,
    Algorithm::Random,
    Algorithm::RING_HASH,
    Algorithm::Maglev { table: 251 },
];

fn wanted(number: u8, weight: u32, priority: u16) -> Wanted {
    let zone = Some(Arc::from(if number.is_multiple_of(2) { "a" } else { "b" }));
    let address = std::net::SocketAddr::from(([10, 0, 0, number], 80)).into();
    Wanted {
        key: Key { address, hostname: None, zone },
        weight,
        priority,
        metadata: Arc::default(),
    }
}

fn options(algorithm: Algorithm) -> Arc<ServiceOptions> {
    Arc::new(ServiceOptions {
        algorithm,
        health: Some(Health::new(Check::tcp())),
        ..ServiceOptions::new(Name::new("orders").unwrap())
    })
}

/// What the simulated world knows about an endpoint.
struct Truth {
    dead: bool,
    pulse: Pulse,
    dead_since_checks: u32,
}

struct World {
    service: Arc<Service>,
    options: Arc<ServiceOptions>,
    rng: Rng,
    now: Tick,
    present: Vec<Wanted>,
    truth: HashMap<u64, Truth>,
    in_flight: Vec<(Tick, InFlight)>,
    /// Probes under way.
    probing: Vec<u64>,
    picks: u64,
    good: u64,
    refused: u64,
}

impl World {
    fn new(algorithm: Algorithm, seed: u64) -> Self {
        let options = options(algorithm);
        let service = Service::new(Arc::clone(&options), Arc::default());
        let present = (1..=8).map(|n| wanted(n, u32::from(n % 3) + 1, u16::from(n > 6))).collect();
        let mut world = Self {
            service,
            options,
            rng: Rng::seeded(seed),
            now: Tick::ZERO.plus(Duration::from_secs(3600)),
            present,
            truth: HashMap::new(),
            in_flight: Vec::new(),
            probing: Vec::new(),
            picks: 0,
            good: 0,
            refused: 0,
        };
        world.install();
        world
    }

    fn install(&mut self) {
        self.service.install(Arc::clone(&self.options), self.present.clone(), self.now);
        for member in self.service.set().members() {
            self.truth.entry(member.endpoint.id()).or_insert_with(|| Truth {
                dead: false,
                pulse: Pulse::new(Verdict::Unknown, self.now),
                dead_since_checks: 0,
            });
        }
    }

    /// Something happens to the fleet.
    fn disturb(&mut self) {
        let set = self.service.set();
        let members = set.members();
        if members.is_empty() {
            return;
        }
        let member = &members[self.rng.below(members.len() as u64) as usize];
        let id = member.endpoint.id();
        match self.rng.below(10) {
            // At most a third is dead, so that verdicts stay believed.
            0..=4 => {
                let dead =
                    members.iter().filter(|member| self.truth[&member.endpoint.id()].dead).count();
                let truth = self.truth.get_mut(&id).unwrap();
                truth.dead = !truth.dead && dead * 3 < members.len();
                truth.dead_since_checks = 0;
            }
            5 => {
                self.service.drain(id, self.rng.chance(0.3), self.now);
            }
            6 | 7 => {
                let number = self.rng.below(20) as u8 + 1;
                let new = wanted(number, u32::from(number % 3) + 1, u16::from(number > 6));
                if self.present.iter().all(|old| old.key != new.key) {
                    self.present.push(new);
                    self.install();
                }
            }
            _ => {
                if self.present.len() > 3 {
                    let index = self.rng.below(self.present.len() as u64) as usize;
                    self.present.remove(index);
                    self.install();
                }
            }
        }
    }

    fn check(&mut self) {
        let health = self.options.health.clone().unwrap();
        for member in self.service.set().members() {
            let truth = self.truth.get_mut(&member.endpoint.id()).unwrap();
            if truth.pulse.due().is_none_or(|due| due > self.now) {
                continue;
            }
            let ok = !truth.dead;
            truth.dead_since_checks += u32::from(truth.dead);
            let verdict = truth.pulse.end(ok, &health, self.now, &mut self.rng);
            self.service.judge(&member.endpoint, verdict, ok, "simulated", self.now);
        }
    }

    fn request(&mut self) {
        let set = self.service.set();
        let states: HashMap<u64, Usable> = set
            .members()
            .iter()
            .map(|member| (member.endpoint.id(), usable(member.ejection.as_deref(), self.now)))
            .collect();
        let tried: Vec<u64> = if self.rng.chance(0.2) {
            set.members().first().map(|member| member.endpoint.id()).into_iter().collect()
        } else {
            Vec::new()
        };
        let well = |member: &Member, believed: bool| {
            let flags = member.endpoint.flags();
            flags & if believed { UNWELL } else { NEVER } == 0
                && states[&member.endpoint.id()] == Usable::Yes
        };
        let fresh = |member: &&Member| !tried.contains(&member.endpoint.id());
        let best = set.members().iter().filter(fresh).any(|member| well(member, true));
        let zone = ["a", "b", "none"][self.rng.below(3) as usize];
        let hash = self.rng.next_u64();
        let picked = self.service.pick(&mut Pick {
            hash: Some(hash),
            tried: &tried,
            zone: Some(zone),
            insist: false,
            now: self.now,
            rng: &mut self.rng,
        });
        self.picks += 1;
        let endpoint = match picked {
            Ok(endpoint) => endpoint,
            Err(reason) => {
                assert_eq!(reason, Reason::NoHealthyEndpoint);
                assert!(
                    !set.members().iter().any(|member| well(member, false)),
                    "somebody could have been picked"
                );
                self.refused += 1;
                return;
            }
        };
        let id = endpoint.id();
        assert!(!endpoint.is_drained() && !endpoint.is_gone(), "{endpoint:?}");
        assert!(states[&id] != Usable::No, "{endpoint:?} is ejected");
        if states[&id] == Usable::Probe {
            assert!(!self.probing.contains(&id), "a second probe of {endpoint:?}");
            self.probing.push(id);
        }
        if tried.contains(&id) {
            assert!(!best, "{endpoint:?} was tried, and others were left");
        }
        if endpoint.verdict() == Verdict::Unhealthy && !set.panicking() {
            assert!(!best, "{endpoint:?} is unhealthy, and others are left");
        }
        let truth = &self.truth[&id];
        let known = self.options.health.as_ref().unwrap().down;
        if truth.dead && truth.dead_since_checks >= known && !set.panicking() {
            assert!(!best, "{endpoint:?} is known to be dead, and others are left");
        }
        self.good += u64::from(!truth.dead);
        let took = Duration::from_millis(1 + self.rng.below(20));
        self.in_flight.push((self.now.plus(took), endpoint.begin(self.now)));
    }

    fn finish(&mut self) {
        let mut index = 0;
        while index < self.in_flight.len() {
            if self.in_flight[index].0 > self.now {
                index += 1;
                continue;
            }
            let (_, request) = self.in_flight.swap_remove(index);
            let id = request.endpoint().id();
            let ok = !self.truth[&id].dead;
            self.probing.retain(|probing| *probing != id);
            request.finish(if ok { Outcome::OK } else { Outcome::FAILED }, self.now, &mut self.rng);
            let serving = self.service.set().serving() as u32;
            assert!(self.service.ejected() <= serving / 2, "more than half are ejected");
        }
    }

    fn run(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.now = self.now.plus(Duration::from_millis(2));
            if self.rng.chance(0.001) {
                self.disturb();
            }
            self.check();
            self.finish();
            if self.rng.chance(0.5) {
                self.request();
            }
        }
    }
}

#[test]
fn churn_and_failures_are_ridden_out() {
    for algorithm in ALGORITHMS {
        for seed in 0..4 {
            let mut world = World::new(algorithm, seed);
            world.run(15_000);
            let good = world.good as f64 / (world.picks - world.refused) as f64;
            assert!(world.refused == 0, "{algorithm:?} {seed}: {} refused", world.refused);
            assert!(good > 0.93, "{algorithm:?} {seed}: {good} reached a living endpoint");
        }
    }
}

#[test]
fn nothing_is_left_in_flight_or_held_after_a_churn() {
    let mut world = World::new(Algorithm::PeakEwma, 99);
    world.run(10_000);
    let last = world.service.set();
    world.in_flight.clear();
    assert!(last.members().iter().all(|member| member.endpoint.active() == 0));
    world.present.clear();
    world.install();
    assert_eq!(world.service.ejected(), 0);
    assert!(last.members().iter().all(|member| member.endpoint.is_gone()));
    let mut rng = Rng::seeded(1);
    let mut pick =
        Pick { hash: None, tried: &[], zone: None, insist: false, now: world.now, rng: &mut rng };
    assert_eq!(world.service.pick(&mut pick).unwrap_err(), Reason::NoEndpoint);
}

#[test]
fn an_only_endpoint_is_never_ejected_and_half_of_four_at_most() {
    for (count, most) in [(1u8, 0u32), (2, 1), (3, 1), (4, 2), (9, 4)] {
        let options = options(Algorithm::PeakEwma);
        let service = Service::new(Arc::clone(&options), Arc::default());
        let mut rng = Rng::seeded(1);
        let now = Tick::ZERO.plus(Duration::from_secs(10));
        service.install(options, (1..=count).map(|n| wanted(n, 1, 0)).collect(), now);
        let set = service.set();
        for member in set.members() {
            for _ in 0..ejection::Options::default().consecutive {
                let request = Arc::clone(&member.endpoint).begin(now);
                request.finish(Outcome::FAILED, now, &mut rng);
            }
        }
        assert_eq!(service.ejected(), most, "{count}");
        let out = set
            .members()
            .iter()
            .filter(|member| usable(member.ejection.as_deref(), now) == Usable::No);
        assert_eq!(out.count() as u32, most);
    }
}

#[test]
fn what_cannot_be_connected_to_is_out_and_tried_when_nobody_else_is_left() {
    let options = options(Algorithm::PeakEwma);
    let service = Service::new(Arc::clone(&options), Arc::default());
    let mut rng = Rng::seeded(1);
    let now = Tick::ZERO.plus(Duration::from_secs(10));
    service.install(options, (1..=2).map(|n| wanted(n, 1, 0)).collect(), now);
    let set = service.set();
    let [first, second] = set.members() else { panic!("two members") };
    assert!(!service.is_restarting());
    for member in [first, second] {
        Arc::clone(&member.endpoint).begin(now).finish(Outcome::UNREACHABLE, now, &mut rng);
    }
    assert_eq!(service.ejected(), 2, "both");
    assert!(service.is_restarting());
    let mut pick = |tried: &[u64], insist| {
        let mut pick = Pick { hash: None, tried, zone: None, insist, now, rng: &mut rng };
        service.pick(&mut pick).map(|endpoint| endpoint.id())
    };
    assert_eq!(pick(&[], false), Err(Reason::NoHealthyEndpoint));
    let (one, other) = (first.endpoint.id(), second.endpoint.id());
    assert_eq!(pick(&[one], true), Ok(other), "the one that was not tried");
    assert_eq!(pick(&[other], true), Ok(one));
    assert!(pick(&[one, other], true).is_ok());
    // An answer brings one back; then a request that failed there goes to the other, and back again only
    // when nobody else is left.
    Arc::clone(&first.endpoint).begin(now).finish(Outcome::OK, now, &mut Rng::seeded(2));
    assert_eq!(service.ejected(), 1);
    for _ in 0..20 {
        assert_eq!(pick(&[], true), Ok(one));
        assert_eq!(pick(&[one], true), Ok(other));
        assert_eq!(pick(&[other], true), Ok(one));
    }
}

#[test]
fn a_set_that_shrinks_pardons_who_is_out_beyond_half() {
    let options = options(Algorithm::Random);
    let service = Service::new(Arc::clone(&options), Arc::default());
    let mut rng = Rng::seeded(1);
    let now = Tick::ZERO.plus(Duration::from_secs(10));
    service.install(Arc::clone(&options), (1..=4).map(|n| wanted(n, 1, 0)).collect(), now);
    let set = service.set();
    for member in &set.members()[..2] {
        for _ in 0..5 {
            Arc::clone(&member.endpoint).begin(now).finish(Outcome::FAILED, now, &mut rng);
        }
    }
    assert_eq!(service.ejected(), 2);
    service.install(options, (1..=2).map(|n| wanted(n, 1, 0)).collect(), now);
    assert_eq!(service.ejected(), 1);
    let mut pick = Pick { hash: None, tried: &[], zone: None, insist: false, now, rng: &mut rng };
    assert!(service.pick(&mut pick).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the flags are, a pick honours them, and finds somebody while there is somebody.
    #[test]
    fn picks_honour_verdicts_drains_and_tries(
        algorithm in prop::sample::select(&ALGORITHMS[..]),
        members in prop::collection::vec((0u8..4, 1u32..5, 0u16..3), 1..12),
        tried in prop::collection::vec(0usize..12, 0..3),
        threshold in prop::sample::select(&[0.0, 0.5][..]),
        bounded in prop::option::of(1.0f64..2.0),
        seed: u64,
    ) {
        let mut changed = (*options(algorithm)).clone();
        changed.panic_threshold = threshold;
        changed.bounded_load = bounded;
        let options = Arc::new(changed);
        let service = Service::new(Arc::clone(&options), Arc::default());
        let now = Tick::ZERO.plus(Duration::from_secs(10));
        let all = members
            .iter()
            .enumerate()
            .map(|(n, (_, weight, priority))| wanted(n as u8 + 1, *weight, *priority))
            .collect();
        service.install(options, all, now);
        let set = service.set();
        for member in set.members() {
            let weft_net::Address::Tcp(address) = member.endpoint.address() else { continue };
            let std::net::IpAddr::V4(ip) = address.ip() else { continue };
            let (state, ..) = members[usize::from(ip.octets()[3]) - 1];
            let verdict = if state & 1 == 0 { Verdict::Healthy } else { Verdict::Unhealthy };
            service.judge(&member.endpoint, Some(verdict), state & 1 == 0, "", now);
            service.drain(member.endpoint.id(), state & 2 != 0, now);
        }
        let tried: Vec<u64> = tried
            .iter()
            .filter_map(|index| Some(set.members().get(*index)?.endpoint.id()))
            .collect();
        let mut rng = Rng::seeded(seed);
        let serving = |member: &&Member| !member.endpoint.is_drained();
        let healthy = |member: &&Member| member.endpoint.verdict() == Verdict::Healthy;
        let fresh = |member: &&Member| !tried.contains(&member.endpoint.id());
        for _ in 0..20 {
            let hash = Some(rng.next_u64());
            let picked =
                service.pick(&mut Pick { hash, tried: &tried, zone: Some("a"), insist: false, now, rng: &mut rng });
            let members = || set.members().iter().filter(serving);
            match picked {
                Err(reason) => {
                    prop_assert_eq!(reason, Reason::NoHealthyEndpoint);
                    prop_assert_eq!(members().filter(healthy).count(), 0);
                    prop_assert!(threshold == 0.0 || members().count() == 0);
                }
                Ok(endpoint) => {
                    prop_assert!(!endpoint.is_drained());
                    if endpoint.verdict() == Verdict::Unhealthy {
                        prop_assert!(threshold > 0.0);
                        prop_assert!(
                            set.panicking() || members().filter(healthy).filter(fresh).count() == 0
                        );
                    }
                    if tried.contains(&endpoint.id()) && !set.panicking() {
                        prop_assert_eq!(members().filter(healthy).filter(fresh).count(), 0);
                    }
                }
            }
        }
    }
}

#[test]
fn a_pick_beside_a_change_of_all_endpoints_finds_one() {
    use std::sync::atomic::AtomicBool;
    let options = options(Algorithm::PeakEwma);
    let service = Service::new(Arc::clone(&options), Arc::default());
    let now = Tick::ZERO.plus(Duration::from_secs(10));
    service.install(Arc::clone(&options), vec![wanted(1, 1, 0)], now);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..20_000_u32 {
                let other = wanted(if turn.is_multiple_of(2) { 1 } else { 2 }, 1, 0);
                service.install(Arc::clone(&options), vec![other], now);
            }
            over.store(true, Relaxed);
        });
        let mut rng = Rng::seeded(1);
        while !over.load(Relaxed) {
            let mut pick =
                Pick { hash: None, tried: &[], zone: None, insist: false, now, rng: &mut rng };
            assert!(service.pick(&mut pick).is_ok());
        }
    });
    assert_eq!(service.refused(), 0);
}

//! How requests spread: by weight, by load, by zone, and over time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use weft_discovery::{Algorithm, InFlight, Outcome, Pick, Service, ServiceOptions};
use weft_kernel::{Reason, Rng, Tick};

use crate::fleet::{START, addresses, options, pick, service};

const ALL: [Algorithm; 6] = [
    Algorithm::PeakEwma,
    Algorithm::LeastRequest,
    Algorithm::WeightedRoundRobin,
    Algorithm::Random,
    Algorithm::RING_HASH,
    Algorithm::MAGLEV,
];

/// Sends requests that each take `took(address)`, one beginning every millisecond; counts by address.
fn send(
    service: &Service,
    requests: u32,
    mut now: Tick,
    took: impl Fn(&str) -> Duration,
) -> BTreeMap<String, u32> {
    let mut rng = Rng::seeded(7);
    let mut counts = BTreeMap::new();
    let mut in_flight: Vec<(Tick, InFlight)> = Vec::new();
    for _ in 0..requests {
        now = now.plus(Duration::from_millis(1));
        let mut index = 0;
        while index < in_flight.len() {
            if in_flight[index].0 <= now {
                let (at, request) = in_flight.swap_remove(index);
                request.finish(Outcome::OK, at, &mut rng);
            } else {
                index += 1;
            }
        }
        let endpoint = pick(service, None, now, &mut rng).unwrap();
        let label = endpoint.label().to_string();
        in_flight.push((now.plus(took(&label)), endpoint.begin(now)));
        *counts.entry(label).or_default() += 1;
    }
    counts
}

fn with(algorithm: Algorithm, endpoints: &[(&str, u32)]) -> Arc<Service> {
    service(ServiceOptions { algorithm, ..options("orders", endpoints) })
}

#[test]
fn every_algorithm_honours_weights() {
    let endpoints =
        [("10.0.0.1:80", 1), ("10.0.0.2:80", 2), ("10.0.0.3:80", 3), ("10.0.0.4:80", 4)];
    for (algorithm, slack) in [
        (ALL[0], 0.25),
        (ALL[1], 0.25),
        (ALL[2], 0.001),
        (ALL[3], 0.04),
        (ALL[4], 0.15),
        (ALL[5], 0.04),
    ] {
        let service = with(algorithm, &endpoints);
        let requests = 50_000;
        let counts = send(&service, requests, START, |_| Duration::from_millis(3));
        for (address, weight) in endpoints {
            let expected = f64::from(requests) * f64::from(weight) / 10.0;
            let off = (f64::from(counts[address]) / expected - 1.0).abs();
            assert!(off < slack, "{algorithm:?} {address}: off by {off:.3}: {counts:?}");
        }
    }
}

#[test]
fn the_slow_one_is_avoided_by_those_who_look() {
    let endpoints = [("10.0.0.1:80", 1), ("10.0.0.2:80", 1), ("10.0.0.3:80", 1)];
    let took = |address: &str| Duration::from_millis(if address == "10.0.0.3:80" { 80 } else { 2 });
    for (algorithm, most) in [
        (Algorithm::PeakEwma, 0.05),
        (Algorithm::LeastRequest, 0.15),
        (Algorithm::WeightedRoundRobin, 0.34),
    ] {
        let counts = send(&with(algorithm, &endpoints), 20_000, START, took);
        let share = f64::from(counts["10.0.0.3:80"]) / 20_000.0;
        assert!(share < most && share > 0.0, "{algorithm:?}: {share}");
    }
}

#[test]
fn who_fails_fast_is_not_attractive() {
    let endpoints = [("10.0.0.1:80", 1), ("10.0.0.2:80", 1), ("10.0.0.3:80", 1)];
    for algorithm in [Algorithm::PeakEwma, Algorithm::LeastRequest] {
        let service =
            service(ServiceOptions { algorithm, ejection: None, ..options("orders", &endpoints) });
        let mut rng = Rng::seeded(1);
        let mut failed = 0;
        for step in 0..5_000 {
            let now = START.plus(Duration::from_millis(step));
            let endpoint = pick(&service, None, now, &mut rng).unwrap();
            let bad = &**endpoint.label() == "10.0.0.1:80";
            let mut request = endpoint.begin(now);
            request.responded(now.plus(Duration::from_micros(if bad { 50 } else { 9_000 })));
            failed += u32::from(bad);
            let outcome = if bad { Outcome::FAILED } else { Outcome::OK };
            request.finish(outcome, now.plus(Duration::from_millis(9)), &mut rng);
        }
        assert!(failed < 50, "{algorithm:?}: {failed} of 5000 went to who fails");
    }
}

#[test]
fn a_busy_endpoint_is_left_alone_for_as_long_as_it_asks() {
    let endpoints = [("10.0.0.1:80", 1), ("10.0.0.2:80", 1)];
    let service = with(Algorithm::PeakEwma, &endpoints);
    let mut rng = Rng::seeded(1);
    let busy = service.set().members()[0].endpoint.clone();
    let id = busy.id();
    busy.begin(START).finish(Outcome::limited(Some(Duration::from_secs(10))), START, &mut rng);
    let mut to_busy = |from: u64| {
        (0..1_000)
            .filter(|step| {
                let now = START.plus(Duration::from_millis(from + step));
                let endpoint = pick(&service, None, now, &mut rng).unwrap();
                let chosen = endpoint.id() == id;
                let mut request = endpoint.begin(now);
                request.responded(now.plus(Duration::from_millis(5)));
                request.finish(Outcome::OK, now.plus(Duration::from_millis(5)), &mut rng);
                chosen
            })
            .count()
    };
    assert_eq!(to_busy(0), 0);
    assert!(to_busy(60_000) > 100);
}

#[test]
fn a_new_endpoint_is_spared_and_then_takes_its_share() {
    for algorithm in &ALL[1..4] {
        let fleet = crate::fleet::Fleet::new(Arc::new(weft_kernel::ManualClock::default()));
        let old = options("orders", &[("10.0.0.1:80", 1), ("10.0.0.2:80", 1), ("10.0.0.3:80", 1)]);
        let old = ServiceOptions { algorithm: *algorithm, ..old };
        fleet.services.apply(vec![old.clone()], START);
        let mut new = old;
        new.endpoints.extend(options("orders", &[("10.0.0.4:80", 1)]).endpoints);
        let later = START.plus(Duration::from_secs(600));
        let changed = fleet.services.apply(vec![new], later);
        assert_eq!(changed.endpoints_added, 1);
        let service = fleet.services.get("orders").unwrap();
        let share = |from: u64| {
            let mut rng = Rng::seeded(from);
            let picks = 20_000;
            let mine = (0..picks).filter(|step| {
                let now = later.plus(Duration::from_secs(from) + Duration::from_micros(*step));
                &**pick(&service, None, now, &mut rng).unwrap().label() == "10.0.0.4:80"
            });
            mine.count() as f64 / picks as f64
        };
        let first = share(0);
        assert!(first < 0.06, "{algorithm:?}: {first} at once");
        let half = share(15);
        assert!(half > first && half < 0.2, "{algorithm:?}: {half} halfway");
        let last = share(30);
        assert!((0.23..0.27).contains(&last), "{algorithm:?}: {last} at the end");
    }
}

#[test]
fn a_new_endpoint_has_to_show_its_latency_first() {
    let fleet = crate::fleet::Fleet::new(Arc::new(weft_kernel::ManualClock::default()));
    let old = options("orders", &[("10.0.0.1:80", 1), ("10.0.0.2:80", 1)]);
    fleet.services.apply(vec![old], START);
    let service = fleet.services.get("orders").unwrap();
    let took = |_: &str| Duration::from_millis(4);
    send(&service, 20_000, START, took);
    let new = options("orders", &[("10.0.0.1:80", 1), ("10.0.0.2:80", 1), ("10.0.0.3:80", 1)]);
    let mut now = START.plus(Duration::from_secs(20));
    fleet.services.apply(vec![new], now);
    let shares: Vec<f64> = (0..8)
        .map(|_| {
            let counts = send(&service, 5_000, now, took);
            now = now.plus(Duration::from_secs(5));
            f64::from(counts.get("10.0.0.3:80").copied().unwrap_or(0)) / 5_000.0
        })
        .collect();
    assert!(shares[0] < 0.05, "{shares:?}");
    assert!((0.25..0.42).contains(&shares[7]), "{shares:?}");
}

#[test]
fn the_callers_zone_is_preferred_while_enough_of_it_can_be_used() {
    let mut options = options("orders", &[]);
    for (index, address) in addresses(8).iter().enumerate() {
        let mut endpoint = weft_discovery::EndpointOptions::new(address.parse().unwrap());
        endpoint.zone = Some(if index < 4 { "a".into() } else { "b".into() });
        options.endpoints.push(endpoint);
    }
    let fleet = crate::fleet::Fleet::new(Arc::new(weft_kernel::ManualClock::default()));
    fleet.services.apply(vec![options], START);
    let service = fleet.services.get("orders").unwrap();
    let mut rng = Rng::seeded(1);
    let mut share = |zone| {
        let picks = 2_000;
        let local = (0..picks).filter(|_| {
            let mut wish = Pick {
                hash: None,
                tried: &[],
                zone: Some(zone),
                insist: false,
                now: START,
                rng: &mut rng,
            };
            service.pick(&mut wish).unwrap().zone().map(|zone| &**zone) == Some(zone)
        });
        local.count() as f64 / f64::from(picks)
    };
    assert_eq!(share("a"), 1.0);
    assert_eq!(share("nowhere"), 0.0);
    let set = service.set();
    let here: Vec<u64> = set
        .members()
        .iter()
        .filter(|member| member.endpoint.zone().is_some_and(|zone| &**zone == "a"))
        .map(|member| member.endpoint.id())
        .collect();
    assert!(fleet.services.drain(here[0], true).is_some());
    assert_eq!(share("a"), 1.0, "three of four are enough");
    fleet.services.drain(here[1], true);
    let spilt = share("a");
    assert!(spilt > 0.2 && spilt < 0.5, "two of four are not: {spilt}");
    fleet.services.drain(here[1], false);
    assert_eq!(share("a"), 1.0);
    let mut rng = Rng::seeded(2);
    for member in set.members().iter().filter(|member| here[2..].contains(&member.endpoint.id())) {
        for _ in 0..5 {
            member.endpoint.clone().begin(START).finish(Outcome::FAILED, START, &mut rng);
        }
        assert!(member.endpoint.is_ejected());
    }
    assert!(share("a") < 0.3, "one is drained and two are ejected");
}

#[test]
fn a_lower_tier_is_used_only_when_the_upper_cannot_be() {
    let mut options = options("orders", &[("10.0.0.1:80", 1), ("10.0.0.2:80", 1)]);
    options.endpoints[1].priority = 1;
    let fleet = crate::fleet::Fleet::new(Arc::new(weft_kernel::ManualClock::default()));
    fleet.services.apply(vec![options], START);
    let service = fleet.services.get("orders").unwrap();
    let mut rng = Rng::seeded(1);
    let mut label = |service: &Service| {
        pick(service, None, START, &mut rng).map(|endpoint| endpoint.label().to_string())
    };
    let first = service.set().members()[0].endpoint.id();
    assert_eq!(label(&service).unwrap(), "10.0.0.1:80");
    fleet.services.drain(first, true);
    assert_eq!(label(&service).unwrap(), "10.0.0.2:80");
    fleet.services.drain(service.set().members()[1].endpoint.id(), true);
    assert_eq!(label(&service), Err(Reason::NoHealthyEndpoint));
    assert_eq!(service.refused(), 1);
}

#[test]
fn a_retry_goes_elsewhere_while_there_is_elsewhere() {
    for algorithm in ALL {
        let service =
            with(algorithm, &[("10.0.0.1:80", 1), ("10.0.0.2:80", 1), ("10.0.0.3:80", 9)]);
        let mut rng = Rng::seeded(1);
        let mut tried = Vec::new();
        for round in 0..3 {
            let mut wish = Pick {
                hash: Some(42),
                tried: &tried,
                zone: None,
                insist: false,
                now: START,
                rng: &mut rng,
            };
            let id = service.pick(&mut wish).unwrap().id();
            assert!(!tried.contains(&id), "{algorithm:?} round {round}");
            tried.push(id);
        }
        let mut wish = Pick {
            hash: None,
            tried: &tried,
            zone: None,
            insist: false,
            now: START,
            rng: &mut rng,
        };
        assert!(service.pick(&mut wish).is_ok(), "{algorithm:?}: better the same than none");
    }
}

#[test]
fn an_ejected_endpoint_gets_exactly_one_probe_and_comes_back() {
    for algorithm in ALL {
        let service =
            with(algorithm, &[("10.0.0.1:80", 1), ("10.0.0.2:80", 1), ("10.0.0.3:80", 1)]);
        let mut rng = Rng::seeded(1);
        let bad = service.set().members()[0].endpoint.clone();
        for _ in 0..5 {
            bad.clone().begin(START).finish(Outcome::FAILED, START, &mut rng);
        }
        assert!(bad.is_ejected(), "{algorithm:?}");
        let count = |now: Tick, rng: &mut Rng| {
            let picks = (0..500).map(|n| pick(&service, Some(n << 40), now, rng).unwrap());
            picks.filter(|endpoint| endpoint.id() == bad.id()).count()
        };
        assert_eq!(count(START, &mut rng), 0, "{algorithm:?} out");
        let later = START.plus(Duration::from_secs(10));
        assert_eq!(count(later, &mut rng), 1, "{algorithm:?} one probe");
        drop(bad.clone().begin(later));
        assert_eq!(count(later, &mut rng), 1, "{algorithm:?} another after one that was cancelled");
        bad.clone().begin(later).finish(Outcome::OK, later, &mut rng);
        assert!(!bad.is_ejected(), "{algorithm:?}");
        let much_later = START.plus(Duration::from_secs(60));
        assert!(count(much_later, &mut rng) > 20, "{algorithm:?} back");
    }
}

#[test]
fn dropping_a_request_only_counts_it_out() {
    let service = with(Algorithm::PeakEwma, &[("10.0.0.1:80", 1)]);
    let mut rng = Rng::seeded(1);
    let endpoint = pick(&service, None, START, &mut rng).unwrap();
    let request = endpoint.clone().begin(START);
    assert_eq!((endpoint.active(), endpoint.requests()), (1, 1));
    drop(request);
    assert_eq!((endpoint.active(), endpoint.requests(), endpoint.failures()), (0, 1, 0));
    let before = endpoint.latency(START);
    let mut request = endpoint.clone().begin(START);
    request.responded(START.plus(Duration::from_millis(90)));
    request.responded(START.plus(Duration::from_secs(9)));
    request.finish(Outcome::OK, START.plus(Duration::from_millis(90)), &mut rng);
    let after = endpoint.latency(START.plus(Duration::from_millis(90)));
    assert!(before < after && after == Duration::from_millis(90), "the head decides, once");
}

//! Reloads: who stays keeps what was learnt, who goes is told so.

use std::{sync::Arc, time::Duration};

use weft_discovery::{Algorithm, Outcome, ServiceOptions};
use weft_kernel::{ManualClock, Reason, Rng};

use crate::fleet::{Fleet, START, options, pick};

fn fleet() -> Fleet {
    Fleet::new(Arc::new(ManualClock::default()))
}

#[test]
fn a_reload_changes_only_what_differs() {
    let fleet = fleet();
    let orders = options("orders", &[("10.0.0.1:80", 1), ("10.0.0.2:80", 1)]);
    let users = options("users", &[("10.0.1.1:80", 1)]);
    let first = fleet.services.apply(vec![orders.clone(), users.clone()], START);
    assert_eq!((first.added.len(), first.endpoints_added), (2, 3));
    assert!(fleet.services.apply(vec![orders.clone(), users], START).is_empty());

    let service = fleet.services.get("orders").unwrap();
    let old = service.set();
    let kept = old.members()[1].endpoint.clone();
    let mut rng = Rng::seeded(1);
    let in_flight = kept.clone().begin(START);
    kept.clone().begin(START).finish(Outcome::FAILED, START, &mut rng);
    fleet.services.drain(kept.id(), true).unwrap();

    let later = START.plus(Duration::from_secs(60));
    let mut next = options("orders", &[("10.0.0.2:80", 5), ("10.0.0.3:80", 1)]);
    next.algorithm = Algorithm::Random;
    let changed = fleet.services.apply(vec![next], later);
    assert_eq!(changed.added, []);
    assert_eq!(changed.updated[0].as_str(), "orders");
    assert_eq!(changed.removed[0].as_str(), "users");
    assert_eq!((changed.endpoints_added, changed.endpoints_removed), (1, 2));

    let same = fleet.services.get("orders").unwrap();
    assert!(Arc::ptr_eq(&service, &same), "a snapshot made before sees the new endpoints too");
    let set = same.set();
    assert!(Arc::ptr_eq(&set.members()[0].endpoint, &kept));
    assert_eq!((kept.active(), kept.failures(), kept.requests()), (1, 1, 2));
    assert!(kept.is_drained() && !kept.is_gone());
    assert!(old.members()[0].endpoint.is_gone());
    assert_eq!(set.members()[0].weight, 5);
    assert!(fleet.services.get("users").is_none());
    drop(in_flight);
    assert_eq!(kept.active(), 0);

    for step in 0..100 {
        let now = later.plus(Duration::from_secs(step));
        let id = pick(&same, None, now, &mut rng).unwrap().id();
        assert_ne!(id, kept.id(), "it is drained");
    }
}

#[test]
fn the_same_endpoint_twice_counts_once() {
    let fleet = fleet();
    let twice = options("orders", &[("10.0.0.1:80", 3), ("10.0.0.1:80", 1), ("unix:/run/x", 1)]);
    fleet.services.apply(vec![twice], START);
    let set = fleet.services.get("orders").unwrap().set();
    let shown: Vec<_> = set
        .members()
        .iter()
        .map(|member| (member.endpoint.label().to_string(), member.weight))
        .collect();
    assert_eq!(shown, [("10.0.0.1:80".to_owned(), 3), ("unix:/run/x".to_owned(), 1)]);
}

#[test]
fn a_service_without_endpoints_says_so() {
    let fleet = fleet();
    fleet.services.apply(vec![options("orders", &[])], START);
    let service = fleet.services.get("orders").unwrap();
    let mut rng = Rng::seeded(1);
    assert_eq!(pick(&service, None, START, &mut rng).unwrap_err(), Reason::NoEndpoint);
    assert_eq!(fleet.services.status()[0].refused, 1);
}

#[test]
fn changing_the_breaker_begins_its_record_anew() {
    let fleet = fleet();
    let orders = options("orders", &[("10.0.0.1:80", 1), ("10.0.0.2:80", 1)]);
    fleet.services.apply(vec![orders.clone()], START);
    let service = fleet.services.get("orders").unwrap();
    let bad = service.set().members()[0].endpoint.clone();
    let mut rng = Rng::seeded(1);
    let mut fail = |times| {
        for _ in 0..times {
            bad.clone().begin(START).finish(Outcome::FAILED, START, &mut rng);
        }
    };
    fail(5);
    assert!(bad.is_ejected() && service.ejected() == 1);
    fleet.services.apply(vec![ServiceOptions { ejection: None, ..orders }], START);
    assert!(!bad.is_ejected() && service.ejected() == 0);
    fail(50);
    assert!(!bad.is_ejected() && bad.ejection().is_none());
}

#[test]
fn status_shows_what_a_person_needs() {
    let fleet = fleet();
    let mut orders = options("orders", &[("10.0.0.1:80", 2)]);
    orders.endpoints[0].zone = Some("a".into());
    fleet.services.apply(vec![orders], START);
    let service = fleet.services.get("orders").unwrap();
    let endpoint = service.set().members()[0].endpoint.clone();
    let request = endpoint.clone().begin(START);
    let status = fleet.services.status_of("orders").unwrap();
    assert_eq!(status.algorithm, "peak_ewma");
    let shown = &status.endpoints[0];
    assert_eq!(shown.id, endpoint.id());
    assert_eq!(shown.address.to_string(), "10.0.0.1:80");
    assert_eq!((shown.weight, shown.active, shown.requests), (2, 1, 1));
    assert_eq!(shown.zone.as_deref(), Some("a"));
    assert_eq!(shown.check, None);
    assert!(fleet.services.status_of("nobody").is_none());
    assert!(fleet.services.drain(u64::MAX, true).is_none());
    drop(request);
}

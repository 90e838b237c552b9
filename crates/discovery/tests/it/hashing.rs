//! Hashing: the same key to the same endpoint, few keys moved, and the same on every machine.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::{ProptestConfig, prop_assert, proptest};
use weft_discovery::{
    Algorithm, Service, ServiceOptions,
    balance::{Maglev, Ring},
};
use weft_kernel::Rng;

use crate::fleet::{START, addresses, options, pick, service};

fn keyed(members: &[(String, u32)]) -> Vec<(&str, u32)> {
    members.iter().map(|(key, weight)| (key.as_str(), *weight)).collect()
}

/// Who gets each of these keys.
fn owners<'a>(
    members: &[(&'a str, u32)],
    keys: u64,
    table: impl Fn(&[(&str, u32)], u64) -> u32,
) -> Vec<&'a str> {
    let mut rng = Rng::seeded(5);
    (0..keys).map(|_| members[table(members, rng.next_u64()) as usize].0).collect()
}

fn by_ring<'a>(members: &[(&'a str, u32)], keys: u64) -> Vec<&'a str> {
    let ring = Ring::new(members, 1024, 8 << 20);
    owners(members, keys, |_, hash| ring.walk(hash).next().unwrap())
}

fn by_maglev<'a>(members: &[(&'a str, u32)], keys: u64) -> Vec<&'a str> {
    let table = Maglev::new(members, 65_537);
    owners(members, keys, |_, hash| table.walk(hash).next().unwrap())
}

fn moved(before: &[&str], after: &[&str]) -> f64 {
    let moved = before.iter().zip(after).filter(|(a, b)| a != b).count();
    moved as f64 / before.len() as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn few_keys_move_when_one_goes(count in 2usize..40, gone: u16, heavy in 1u32..4) {
        let members: Vec<(String, u32)> = addresses(count)
            .into_iter()
            .enumerate()
            .map(|(index, key)| (key, if index.is_multiple_of(3) { heavy } else { 1 }))
            .collect();
        let gone = usize::from(gone) % count;
        let mut rest = members.clone();
        let (key, weight) = rest.remove(gone);
        let total: u32 = members.iter().map(|(_, weight)| weight).sum();
        let own = f64::from(weight) / f64::from(total);
        let keys = 10_000;

        let (before, after) = (by_ring(&keyed(&members), keys), by_ring(&keyed(&rest), keys));
        // Its own share, which a ring hits within a fifth, and next to nothing besides.
        prop_assert!(moved(&before, &after) < own * 1.2 + 0.01, "ring {}", moved(&before, &after));
        prop_assert!(after.iter().all(|owner| *owner != key));

        let (before, after) = (by_maglev(&keyed(&members), keys), by_maglev(&keyed(&rest), keys));
        prop_assert!(moved(&before, &after) < own * 1.1 + 0.04, "maglev {}", moved(&before, &after));
        prop_assert!(after.iter().all(|owner| *owner != key));
    }
}

#[test]
fn beyond_the_least_size_a_ring_moves_nothing_but_what_it_must() {
    let members: Vec<(String, u32)> = addresses(20).into_iter().map(|key| (key, 1)).collect();
    let rest = &members[..19];
    let (before, after) = (by_ring(&keyed(&members), 20_000), by_ring(&keyed(rest), 20_000));
    let last = members[19].0.as_str();
    for (a, b) in before.iter().zip(&after) {
        assert!(a == b || *a == last, "a key of {a} moved to {b}");
    }
}

#[test]
fn shares_follow_the_weights() {
    let members = [("a", 1), ("b", 2), ("c", 3), ("d", 4)];
    for (owners, slack) in [(by_ring(&members, 60_000), 0.15), (by_maglev(&members, 60_000), 0.04)]
    {
        for (key, weight) in members {
            let share = owners.iter().filter(|owner| **owner == key).count() as f64 / 60_000.0;
            let off = (share / (f64::from(weight) / 10.0) - 1.0).abs();
            assert!(off < slack, "{key}: {share}");
        }
    }
}

#[test]
fn sizes_are_bounded() {
    let members: Vec<(String, u32)> = addresses(50).into_iter().map(|key| (key, 1)).collect();
    assert_eq!(Ring::new(&keyed(&members), 1024, 8 << 20).len(), 50 * 512);
    assert!(Ring::new(&keyed(&members), 1024, 2_000).len() <= 2_050);
    assert!(Ring::new(&[("a", 1)], 1024, 8 << 20).len() >= 1024);
    assert!(Ring::new(&[("a", u32::MAX), ("b", 1)], 1024, 100_000).len() <= 100_002);
    assert_eq!(Ring::new(&[], 1024, 2048).walk(9).count(), 0);
    assert_eq!(Maglev::new(&keyed(&members), 65_536).len(), 65_537, "the next prime");
    assert!(Maglev::new(&keyed(&members), 1).len() >= 100);
    assert_eq!(Maglev::new(&[], 65_537).walk(9).count(), 0);
}

/// These values may never change: each node of a fleet, and each version of it, must agree on who
/// has a key.
#[test]
fn the_tables_are_the_same_everywhere_and_for_ever() {
    let members = [("10.0.0.1:80", 1), ("10.0.0.2:80", 1), ("10.0.0.3:80", 2), ("unix:/run/x", 1)];
    let hashes: Vec<u64> = (0..12u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let ring = Ring::new(&members, 1024, 8 << 20);
    let table = Maglev::new(&members, 65_537);
    let ring: Vec<u32> = hashes.iter().map(|hash| ring.walk(*hash).next().unwrap()).collect();
    let table: Vec<u32> = hashes.iter().map(|hash| table.walk(*hash).next().unwrap()).collect();
    assert_eq!(ring, RING, "ring");
    assert_eq!(table, MAGLEV, "maglev");
}

const RING: [u32; 12] = [2, 1, 1, 2, 3, 2, 0, 2, 2, 1, 1, 2];
const MAGLEV: [u32; 12] = [0, 1, 2, 0, 0, 1, 2, 1, 1, 3, 2, 2];

fn hashing(algorithm: Algorithm, count: usize, bounded_load: Option<f64>) -> Arc<Service> {
    let addresses = addresses(count);
    let endpoints: Vec<(&str, u32)> = addresses.iter().map(|key| (key.as_str(), 1)).collect();
    service(ServiceOptions { algorithm, bounded_load, ..options("orders", &endpoints) })
}

#[test]
fn a_key_stays_and_the_keys_of_who_fails_spread() {
    for algorithm in [Algorithm::RING_HASH, Algorithm::MAGLEV] {
        let service = hashing(algorithm, 10, None);
        let mut rng = Rng::seeded(1);
        let mut owner = |hash, now| pick(&service, Some(hash), now, &mut rng).unwrap();
        let keys: Vec<u64> = (0..4_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let before: Vec<_> = keys.iter().map(|key| owner(*key, START)).collect();
        let again: Vec<_> = keys.iter().map(|key| owner(*key, START)).collect();
        assert!(before.iter().zip(&again).all(|(a, b)| a.id() == b.id()));
        let bad = service.set().members()[3].endpoint.clone();
        let mut rng = Rng::seeded(2);
        for _ in 0..5 {
            bad.clone().begin(START).finish(weft_discovery::Outcome::FAILED, START, &mut rng);
        }
        let mut heirs: BTreeMap<u64, u32> = BTreeMap::new();
        for (key, old) in keys.iter().zip(&before) {
            let new = owner(*key, START);
            if old.id() == bad.id() {
                assert_ne!(new.id(), bad.id());
                *heirs.entry(new.id()).or_default() += 1;
            } else {
                assert_eq!(new.id(), old.id(), "{algorithm:?}: the others keep theirs");
            }
        }
        assert!(heirs.len() >= 7, "{algorithm:?}: {heirs:?}");
    }
}

#[test]
fn one_hot_key_spills_over_when_load_is_bounded() {
    for algorithm in [Algorithm::RING_HASH, Algorithm::MAGLEV] {
        for (bound, most) in [(None, 100), (Some(1.25), 13)] {
            let service = hashing(algorithm, 10, bound);
            let mut rng = Rng::seeded(1);
            let held: Vec<_> = (0..100)
                .map(|_| pick(&service, Some(77), START, &mut rng).unwrap().begin(START))
                .collect();
            let heaviest =
                service.set().members().iter().map(|member| member.endpoint.active()).max();
            assert_eq!(held.len(), 100);
            assert!(heaviest.is_some_and(|active| active <= most), "{algorithm:?} {heaviest:?}");
        }
    }
}

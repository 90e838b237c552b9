//! When an endpoint goes out, and how it comes back.

use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use weft_kernel::{Rng, Tick};
use weft_resilience::ejection::{
    Availability, Change, Ejection, Forced, Options, Outcome, PROBE_LEASE, Reason,
};

use crate::{START, at, millis};

fn steady() -> Options {
    Options { jitter: 0.0, ..Options::default() }
}

fn fail(endpoint: &Ejection, times: u32, now: Tick) -> Option<Change> {
    let mut rng = Rng::seeded(5);
    (0..times).filter_map(|_| endpoint.record(false, now, &mut rng)).last()
}

#[test]
fn five_failures_in_a_row_eject_and_a_success_between_does_not() {
    let endpoint = Ejection::new(steady());
    let mut rng = Rng::seeded(1);
    for _ in 0..3 {
        assert_eq!(fail(&endpoint, 4, START), None);
        assert_eq!(endpoint.record(true, START, &mut rng), None);
    }
    let until = at(1_000);
    let ejected = Change::Ejected { reason: Reason::Consecutive, until };
    assert_eq!(fail(&endpoint, 5, START), Some(ejected));
    assert_eq!(endpoint.available(at(999)), Availability::Out { until });
    assert_eq!(endpoint.available(until), Availability::Probe);
}

#[test]
fn a_small_share_of_successes_ejects_once_there_are_samples() {
    let endpoint = Ejection::new(steady());
    let mut rng = Rng::seeded(1);
    // Two of three fail, never five in a row.
    let mut ejected = Vec::new();
    for sample in 1..=30u64 {
        if let Some(change) = endpoint.record(sample % 3 == 0, at(sample * 100), &mut rng) {
            ejected.push((sample, change));
        }
    }
    let until = at(2_000 + 1_000);
    assert_eq!(ejected, [(20, Change::Ejected { reason: Reason::SuccessRatio, until })]);
}

#[test]
fn samples_spread_over_more_than_the_window_say_nothing() {
    let endpoint = Ejection::new(steady());
    let mut rng = Rng::seeded(1);
    for sample in 0..200u64 {
        let change = endpoint.record(sample % 3 == 0, at(sample * 2_000), &mut rng);
        assert_eq!(change, None, "at most 15 or so samples are in any window");
    }
}

#[test]
fn being_turned_away_counts_against_the_ratio_and_not_in_a_row() {
    let endpoint = Ejection::new(steady());
    let mut rng = Rng::seeded(1);
    let changes: Vec<_> =
        (0..20).filter_map(|_| endpoint.record(Outcome::Limited, START, &mut rng)).collect();
    let until = at(1_000);
    assert_eq!(changes, [Change::Ejected { reason: Reason::SuccessRatio, until }]);
    assert!(endpoint.take_probe(until));
    let change = endpoint.record(Outcome::Limited, until, &mut rng);
    assert!(matches!(change, Some(Change::Ejected { reason: Reason::Probe, .. })), "{change:?}");
}

#[test]
fn what_cannot_be_connected_to_is_out_at_once_and_for_a_moment() {
    let endpoint = Ejection::new(steady());
    let mut rng = Rng::seeded(1);
    let (mut now, mut spans) = (START, Vec::new());
    for turn in 0..9 {
        assert_eq!(endpoint.unreached(), turn);
        assert!(turn == 0 || endpoint.take_probe(now));
        let change = endpoint.record(Outcome::Unreachable, now, &mut rng);
        let Some(Change::Ejected { reason: Reason::Unreachable, until }) = change else {
            panic!("one miss is enough: {change:?}");
        };
        spans.push(until.since(now).as_millis());
        now = until;
    }
    assert_eq!(spans, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    // Whoever reaches it all the same brings it back, with a clean record.
    assert_eq!(endpoint.revive(), Some(Change::Restored));
    assert_eq!((endpoint.unreached(), endpoint.revive()), (0, None));
    assert_eq!(endpoint.available(now), Availability::Ready);
}

#[test]
fn failed_probes_double_the_time_and_a_good_one_starts_afresh() {
    let endpoint = Ejection::new(steady());
    let mut rng = Rng::seeded(1);
    fail(&endpoint, 5, START);
    let (mut now, mut spans) = (at(1_000), Vec::new());
    for _ in 0..8 {
        assert!(endpoint.take_probe(now));
        let Some(Change::Ejected { until, .. }) = endpoint.record(false, now, &mut rng) else {
            panic!("a failed probe ejects");
        };
        spans.push(until.since(now).as_secs());
        now = until;
    }
    assert_eq!(spans, [2, 4, 8, 16, 32, 60, 60, 60]);
    assert!(endpoint.take_probe(now));
    assert_eq!(endpoint.record(true, now, &mut rng), Some(Change::Restored));
    let snapshot = endpoint.snapshot(now);
    assert_eq!((snapshot.samples, snapshot.consecutive, snapshot.ejections), (0, 0, 9));
    let ejected = fail(&endpoint, 5, now);
    let until = now.plus(millis(1_000));
    assert_eq!(ejected, Some(Change::Ejected { reason: Reason::Consecutive, until }));
}

#[test]
fn late_outcomes_do_not_touch_an_endpoint_that_is_out() {
    let endpoint = Ejection::new(steady());
    let mut rng = Rng::seeded(1);
    fail(&endpoint, 5, START);
    assert_eq!(endpoint.record(true, at(10), &mut rng), None);
    assert_eq!(fail(&endpoint, 50, at(20)), None);
    assert_eq!(endpoint.available(at(30)), Availability::Out { until: at(1_000) });
}

#[test]
fn a_probe_that_is_never_answered_does_not_keep_the_endpoint_out_for_ever() {
    let endpoint = Ejection::new(steady());
    fail(&endpoint, 5, START);
    assert!(!endpoint.take_probe(at(999)));
    assert!(endpoint.take_probe(at(1_000)));
    let lapsed = at(1_000).plus(PROBE_LEASE);
    assert_eq!(endpoint.available(at(1_001)), Availability::Out { until: lapsed });
    assert_eq!(endpoint.available(lapsed), Availability::Probe);
    assert!(endpoint.take_probe(lapsed) && !endpoint.take_probe(lapsed));
    endpoint.release_probe(lapsed);
    assert!(endpoint.take_probe(lapsed), "what was given back can be taken at once");
}

#[test]
fn a_hand_overrides_the_record_until_it_lets_go() {
    let endpoint = Ejection::new(steady());
    endpoint.force_out();
    assert_eq!(endpoint.available(START), Availability::Out { until: Tick::NEVER });
    assert!(!endpoint.take_probe(START));
    endpoint.force_in();
    fail(&endpoint, 5, START);
    assert_eq!(endpoint.available(START), Availability::Ready);
    assert_eq!(endpoint.snapshot(START).forced, Some(Forced::In));
    endpoint.unforce();
    assert_eq!(endpoint.available(START), Availability::Out { until: at(1_000) });
}

#[test]
fn of_many_threads_one_ejects_one_probes_and_one_restores() {
    for round in 0..50 {
        let endpoint = Ejection::new(steady());
        let (ejected, probed, restored) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        let race = |work: &(dyn Fn(&mut Rng) + Sync)| {
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    scope.spawn(move || work(&mut Rng::seeded(round * 4 + thread)));
                }
            });
        };
        let add = |counter: &AtomicU32, yes: bool| {
            counter.fetch_add(u32::from(yes), Ordering::Relaxed);
        };
        race(&|rng| {
            for _ in 0..10 {
                add(&ejected, endpoint.record(false, START, rng).is_some());
            }
        });
        race(&|_| {
            for _ in 0..10 {
                add(&probed, endpoint.take_probe(at(1_000)));
            }
        });
        race(&|rng| add(&restored, endpoint.record(true, at(1_001), rng).is_some()));
        let counts = [ejected, probed, restored].map(AtomicU32::into_inner);
        assert_eq!(counts, [1, 1, 1], "round {round}");
    }
}

proptest! {
    /// Whatever happens, a success never ejects, only a won probe is under way, and no ejection
    /// lasts longer than it may.
    #[test]
    fn any_history_keeps_the_rules(
        seed: u64,
        steps in prop::collection::vec((0u64..800, 0u8..6), 1..500),
    ) {
        let options = Options::default();
        let endpoint = Ejection::new(options.clone());
        let mut rng = Rng::seeded(seed);
        let (mut now, mut probing) = (START, None::<Tick>);
        for (pause, kind) in steps {
            now = now.plus(millis(pause));
            let before = endpoint.available(now);
            if kind == 5 {
                let won = endpoint.take_probe(now);
                prop_assert_eq!(won, before == Availability::Probe);
                if won {
                    prop_assert!(probing.is_none_or(|began| now >= began.plus(PROBE_LEASE)));
                    probing = Some(now);
                }
                continue;
            }
            let ok = kind == 0;
            match endpoint.record(ok, now, &mut rng) {
                Some(Change::Ejected { until, .. }) => {
                    prop_assert!(!ok);
                    prop_assert!(until > now && until <= now.plus(options.max));
                    prop_assert_eq!(endpoint.available(now), Availability::Out { until });
                    probing = None;
                }
                Some(Change::Restored) => {
                    prop_assert!(ok && probing.is_some());
                    prop_assert_eq!(endpoint.available(now), Availability::Ready);
                    probing = None;
                }
                None => prop_assert_eq!(endpoint.available(now), before),
            }
        }
    }
}

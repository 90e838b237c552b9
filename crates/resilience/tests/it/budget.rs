//! The budget never gives more than it may, in any order and from any number of threads.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use proptest::prelude::*;
use weft_resilience::budget::{Budget, Options};

use crate::{START, at};

/// The slots of the window, as the budget cuts time.
fn slot(millis: u64, window: Duration) -> u64 {
    (3_600_000 + millis) / (window.as_millis() as u64 / 10)
}

proptest! {
    /// Against a plain list of everything that ever happened.
    #[test]
    fn in_no_window_do_retries_exceed_reserve_and_share(
        ratio in 0.0f64..1.0,
        per_second in 0u32..20,
        seconds in 1u64..20,
        steps in prop::collection::vec((0u64..3_000, 0u8..4), 1..400),
    ) {
        let window = Duration::from_secs(seconds);
        let budget = Budget::new(&Options { ratio, per_second, window });
        let gain = (ratio * 1_000.0) as i64;
        let reserve = i64::from(per_second) * seconds as i64 * 1_000;
        let (mut now, mut history) = (0, Vec::new());
        for (pause, kind) in steps {
            now += if kind == 0 { pause } else { pause / 100 };
            let here = slot(now, window);
            let held: i64 = reserve
                + history.iter().filter(|(then, _)| here - then < 10).map(|(_, x)| x).sum::<i64>();
            prop_assert_eq!(budget.balance(at(now)), (held.max(0) / 1_000) as u64);
            if kind < 2 {
                budget.deposit(at(now));
                history.push((here, gain));
            } else {
                prop_assert_eq!(budget.withdraw(at(now)), held >= 1_000);
                if held >= 1_000 {
                    history.push((here, -1_000));
                }
            }
        }
    }
}

#[test]
fn many_threads_take_no_more_than_there_is() {
    for round in 0..20 {
        let budget = Budget::new(&Options { ratio: 0.5, per_second: 1, ..Options::default() });
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (budget, taken) = (&budget, &taken);
                scope.spawn(move || {
                    for step in 0..500 {
                        // Clock readings of threads differ a little, also across the slots' edges.
                        let now = at(round * 1_000 + (step * 7 + thread * 3) % 3_000);
                        budget.deposit(now);
                        taken.fetch_add(u64::from(budget.withdraw(now)), Ordering::Relaxed);
                    }
                });
            }
        });
        let taken = taken.into_inner();
        assert!(taken <= 10 + 1_000, "{taken} taken of 1010");
        assert!(taken > 900, "{taken}: refusals under contention are rare");
    }
}

#[test]
fn a_failing_service_is_sent_a_fifth_more_and_not_twice_its_load() {
    let budget = Budget::default();
    let (mut requests, mut retries) = (0, 0);
    for milli in 0..60_000 {
        requests += 1;
        budget.deposit(at(milli));
        retries += u32::from(budget.withdraw(at(milli)));
    }
    let most = requests / 5 + 10 * 60 + 100;
    assert!((requests / 5..=most).contains(&retries), "{retries} retries of {requests} requests");
    assert_eq!(budget.balance(START.plus(Duration::from_secs(3_600))), 100);
}

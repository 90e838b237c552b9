//! What a rate grants, held against a record of everything that was granted.

use std::{collections::VecDeque, sync::Arc, thread};

use proptest::prelude::*;
use weft_kernel::Rng;

use super::*;

const START: Tick = Tick::from_nanos(3_600_000_000_000);

fn rate(units: u64, per: Duration, burst: u64, algorithm: Algorithm) -> Scale {
    let some = |of| NonZeroU64::new(of).unwrap();
    Rate { units: some(units), per, burst: some(burst), algorithm }.scale()
}

fn seconds(of: f64) -> Duration {
    Duration::from_secs_f64(of)
}

#[test]
fn a_burst_is_granted_at_once_and_comes_back_evenly() {
    let rate = rate(10, seconds(1.0), 5, Algorithm::Gcra);
    let mut state = State::default();
    for left in (0..5).rev() {
        let (verdict, next) = rate.take(state, 1, START);
        assert_eq!((verdict.granted, verdict.remaining), (true, left));
        assert_eq!(verdict.retry_after, Some(Duration::ZERO));
        state = next;
    }
    let (verdict, same) = rate.take(state, 1, START);
    assert_eq!((verdict.granted, verdict.remaining, same), (false, 0, state));
    assert_eq!((verdict.retry_after, verdict.reset), (Some(seconds(0.1)), seconds(0.5)));
    let (early, _) = rate.take(state, 1, START.plus(Duration::from_nanos(99_999_999)));
    assert!(!early.granted);
    let (verdict, state) = rate.take(state, 1, START.plus(seconds(0.1)));
    assert!(verdict.granted);
    assert_eq!(rate.take(state, 6, START).0.retry_after, None, "more than the burst never fits");
}

#[test]
fn a_cost_that_is_charged_later_is_a_debt() {
    for algorithm in [Algorithm::Gcra, Algorithm::SlidingWindow] {
        let rate = rate(10, seconds(1.0), 10, algorithm);
        let state = rate.charge(State::default(), 30, START);
        let (verdict, _) = rate.take(state, 1, START);
        assert!(!verdict.granted && verdict.remaining == 0, "{algorithm:?}");
        let wait = verdict.retry_after.unwrap();
        let before = START.plus(wait).minus(Duration::from_micros(1));
        assert!(!rate.take(state, 1, before).0.granted, "{algorithm:?}");
        assert!(rate.take(state, 1, START.plus(wait)).0.granted, "{algorithm:?}");
    }
}

#[test]
fn what_is_given_back_can_be_had_again() {
    for algorithm in [Algorithm::Gcra, Algorithm::SlidingWindow] {
        let rate = rate(10, seconds(1.0), 10, algorithm);
        let (_, state) = rate.take(State::default(), 4, START);
        let (verdict, full) = rate.take(state, 6, START);
        assert!(verdict.granted && !rate.take(full, 1, START).0.granted, "{algorithm:?}");
        assert_eq!(rate.give_back(full, 6, START), state, "{algorithm:?}");
        let none = rate.give_back(State::default(), 6, START);
        assert_eq!(rate.take(none, 10, START).0.remaining, 0, "{algorithm:?}");
    }
}

#[test]
fn a_cost_that_is_known_in_the_end_is_settled_against_what_was_taken() {
    let bucket = rate(10, seconds(10.0), 10, Algorithm::Gcra);
    let (verdict, state) = bucket.take(State::default(), 4, START);
    let taken = Taken::new(4, &verdict, START);
    let left = |state: State, now: Tick| bucket.take(state, 0, now).0.remaining;
    for (cost, expect) in [(4, 6), (0, 10), (1, 9), (9, 1), (10, 0), (30, 0)] {
        let state = bucket.settle(state, &taken, cost, START);
        assert_eq!(left(state, START), expect, "{cost}");
    }
    // A debt is paid off before more is granted.
    let state = bucket.settle(state, &taken, 15, START);
    let (verdict, _) = bucket.take(state, 1, START);
    assert_eq!((verdict.granted, verdict.retry_after), (false, Some(seconds(6.0))));
    // What has come back by itself does not come back once more.
    let (verdict, state) = bucket.take(State::default(), 4, START);
    let taken = Taken::new(4, &verdict, START);
    let later = START.plus(seconds(3.0));
    let (_, state) = bucket.take(state, 5, later);
    assert_eq!(left(state, later), 4);
    assert_eq!(left(bucket.settle(state, &taken, 0, later), later), 5, "three of four were back");
    let after = START.plus(seconds(5.0));
    let (_, state) = bucket.take(State::default(), 5, after);
    assert_eq!(left(bucket.settle(state, &taken, 0, after), after), 5, "all four were back");
}

#[test]
fn a_window_is_given_back_what_was_taken_in_it() {
    let window = rate(10, seconds(10.0), 10, Algorithm::SlidingWindow);
    let begin = Tick::ZERO.plus(seconds(1_000.0));
    let (verdict, state) = window.take(State::default(), 4, begin);
    let taken = Taken::new(4, &verdict, begin);
    let left = |state: State, now: Tick| window.take(state, 0, now).0.remaining;
    for (cost, expect) in [(4, 6), (0, 10), (3, 7), (12, 0)] {
        assert_eq!(left(window.settle(state, &taken, cost, begin), begin), expect, "{cost}");
    }
    // In the next window it still weighs, and in the one after that it is gone.
    let (next, last) = (begin.plus(seconds(10.0)), begin.plus(seconds(20.0)));
    assert_eq!(left(state, next), 6);
    assert_eq!(left(window.settle(state, &taken, 1, next), next), 9);
    let (_, state) = window.take(state, 5, last);
    assert_eq!(left(window.settle(state, &taken, 0, last), last), 5);
}

#[test]
fn a_rate_that_divides_no_second_loses_nothing_over_time() {
    let rate = rate(700_001, seconds(1.0), 1, Algorithm::Gcra);
    let (mut state, mut granted, mut now) = (State::default(), 0_u32, START);
    // As often as it may: each time when the one before says.
    let end = START.plus(seconds(1.0));
    while now < end {
        let (verdict, next) = rate.take(state, 1, now);
        granted += u32::from(verdict.granted);
        state = next;
        now = START.plus(span(state.0 - instant(START)));
    }
    assert!((699_001..=700_001).contains(&granted), "{granted}");
}

#[test]
fn the_ends_of_all_ranges_are_held() {
    for algorithm in [Algorithm::Gcra, Algorithm::SlidingWindow] {
        for per in [Duration::ZERO, Duration::MAX] {
            let rate = rate(u64::MAX, per, u64::MAX, algorithm);
            for now in [Tick::ZERO, START, Tick::NEVER] {
                let state = rate.charge(State::default(), u64::MAX, now);
                let state = rate.charge(state, u64::MAX, now);
                let _ = (rate.take(state, u64::MAX, now), rate.take(State::default(), 0, now));
            }
        }
    }
}

proptest! {
    /// In no stretch of time does a bucket grant more than its burst and what came back meanwhile.
    #[test]
    fn a_bucket_never_grants_too_much(
        units in 1_u64..50, burst in 1_u64..20, steps in prop::collection::vec((0_u64..400, 1_u64..4), 1..200)
    ) {
        let rate = rate(units, seconds(1.0), burst, Algorithm::Gcra);
        let (mut state, mut now, mut granted) = (State::default(), START, Vec::new());
        for (millis, cost) in steps {
            now = now.plus(Duration::from_millis(millis));
            let (verdict, next) = rate.take(state, cost, now);
            state = next;
            if verdict.granted {
                granted.push((now, cost));
            } else if let Some(wait) = verdict.retry_after {
                prop_assert!(!wait.is_zero());
                prop_assert!(rate.take(state, cost, now.plus(wait)).0.granted);
                prop_assert!(!rate.take(state, cost, now.plus(wait).minus(Duration::from_nanos(1))).0.granted);
            }
        }
        for (first, (from, _)) in granted.iter().enumerate() {
            let mut sum = 0;
            for (to, cost) in &granted[first..] {
                sum += cost;
                let most = burst as f64 + units as f64 * to.since(*from).as_secs_f64();
                prop_assert!(sum as f64 <= most + 1e-6, "{sum} of {most}");
            }
        }
    }

    /// Within the window of the counter nothing is granted beyond it, and what it says to wait is enough.
    #[test]
    fn a_window_never_grants_too_much(
        units in 1_u64..30, steps in prop::collection::vec((0_u64..400, 1_u64..4), 1..200)
    ) {
        let rate = rate(units, seconds(1.0), 1, Algorithm::SlidingWindow);
        let (mut state, mut now) = (State::default(), START);
        let mut fixed: VecDeque<(u64, u64)> = VecDeque::new();
        for (millis, cost) in steps {
            now = now.plus(Duration::from_millis(millis));
            let (verdict, next) = rate.take(state, cost, now);
            state = next;
            if verdict.granted {
                fixed.push_back((rate.index(now), cost));
                let within = fixed.iter().filter(|(index, _)| *index == rate.index(now));
                prop_assert!(within.map(|(_, cost)| cost).sum::<u64>() <= units);
            } else if let Some(wait) = verdict.retry_after {
                prop_assert!(rate.take(state, cost, now.plus(wait)).0.granted);
            } else {
                prop_assert!(cost > units);
            }
            prop_assert!(rate.reset(state, now.plus(verdict.reset)).is_zero());
        }
    }
}

#[test]
fn keys_are_apart_and_exact_over_threads() {
    let limiter =
        Arc::new(Limiter::new(*rate(1_000, seconds(3600.0), 1_000, Algorithm::Gcra).rate(), 100));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let limiter = limiter.clone();
            thread::spawn(move || {
                let ask = |key: &str| u64::from(limiter.take(limiter.key(key), 1, START).granted);
                (0..1_000)
                    .map(|_| [ask("a"), ask("b")])
                    .fold([0, 0], |sum, of| [sum[0] + of[0], sum[1] + of[1]])
            })
        })
        .collect();
    let sums = threads.into_iter().map(|thread| thread.join().unwrap());
    assert_eq!(sums.fold([0, 0], |sum, of| [sum[0] + of[0], sum[1] + of[1]]), [1_000, 1_000]);
    assert!(limiter.peek(limiter.key("c"), 1_000, START).granted, "a look costs nothing");
    assert!(limiter.take(limiter.key("c"), 1_000, START).granted);
    limiter.forget(limiter.key("c"), START);
    assert!(limiter.take(limiter.key("c"), 1_000, START).granted);
}

#[test]
fn a_million_keys_cost_less_than_a_hundred_bytes_each_and_are_all_remembered() {
    const KEYS: u32 = 1_000_000;
    let limiter = Limiter::new(*rate(1, seconds(3600.0), 1, Algorithm::Gcra).rate(), 1_000_000);
    for key in 0..KEYS {
        assert!(limiter.take(limiter.key(key), 1, START).granted);
        if key.is_power_of_two() && key > 4_096 {
            assert!(limiter.bytes() / (key as usize) < 100, "{} of {key}", limiter.bytes());
        }
    }
    let again = (0..KEYS)
        .step_by(97)
        .filter(|key| limiter.take(limiter.key(*key), 1, START).granted)
        .count();
    assert_eq!((again, limiter.forgotten()), (0, 0));
    assert!(limiter.bytes() < 100_000_000, "{}", limiter.bytes());
    limiter.trim(START);
    assert!(!limiter.take(limiter.key(7_u32), 1, START).granted);
    let rested = START.plus(seconds(3_600.0));
    limiter.trim(rested);
    assert!(limiter.bytes() < 4_096, "{}", limiter.bytes());
}

#[test]
fn a_flood_of_new_keys_drives_out_no_key_that_has_used_up_what_it_may() {
    for algorithm in [Algorithm::Gcra, Algorithm::SlidingWindow] {
        let limiter = Limiter::new(*rate(100, seconds(100.0), 100, algorithm).rate(), 1_000);
        for key in 0..100_u64 {
            assert!(limiter.take(limiter.key(("greedy", key)), 100, START).granted);
        }
        // Of a window little is left by then, and every new key is remembered for longer.
        let later = match algorithm {
            Algorithm::Gcra => START,
            Algorithm::SlidingWindow => START.plus(seconds(90.0)),
        };
        let mut rng = Rng::seeded(7);
        for _ in 0..200_000 {
            limiter.take(limiter.key(rng.next_u64()), 1, later);
        }
        assert!(limiter.forgotten() > 0 && limiter.bytes() < 200_000);
        for key in 0..100_u64 {
            let key = ("greedy", key);
            assert!(!limiter.take(limiter.key(key), 50, later).granted, "{algorithm:?} {key:?}");
        }
    }
}

#[test]
fn what_is_reserved_comes_after_what_was_owed_before() {
    let limiter = Limiter::new(*rate(100, seconds(1.0), 50, Algorithm::Gcra).rate(), 10);
    let key = limiter.key("all");
    let waits = [(); 5].map(|()| limiter.reserve(key, 50, START).as_millis());
    assert_eq!(waits, [0, 0, 500, 1_000, 1_500]);
    // Who leaves has had nothing.
    limiter.give_back(key, 50, START);
    assert_eq!(limiter.reserve(key, 50, START).as_millis(), 1_500);
}

#[test]
fn what_is_left_after_a_flood_is_kept_when_it_is_trimmed() {
    let limiter = Limiter::new(*rate(10, seconds(10.0), 10, Algorithm::Gcra).rate(), 100_000);
    for key in 0..50_000_u64 {
        limiter.take(limiter.key(key), 1, START);
    }
    let later = START.plus(seconds(2.0));
    for key in 0..100_u64 {
        assert!(limiter.take(limiter.key(("late", key)), 10, later).granted);
    }
    let before = limiter.bytes();
    limiter.trim(later);
    assert!(limiter.bytes() * 10 < before, "{} of {before}", limiter.bytes());
    for key in 0..100_u64 {
        assert!(!limiter.take(limiter.key(("late", key)), 1, later).granted, "{key}");
    }
}

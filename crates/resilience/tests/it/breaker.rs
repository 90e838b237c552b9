//! When a service's breaker opens, and how it closes.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;
use weft_kernel::{Rng, Tick};
use weft_resilience::breaker::{Breaker, Cause, Mode, Options, Outcome, Permit, State, Window};

use crate::{START, at, millis};

fn small() -> Options {
    Options { window: Window::Calls(10), calls_min: 10, half_open: 3, ..Options::default() }
}

fn call(breaker: &Breaker, ok: bool, now: Tick) -> bool {
    match breaker.admit(now) {
        Ok(permit) => {
            let outcome = if ok { Outcome::Ok } else { Outcome::Failed };
            permit.finish(outcome, millis(5), now);
            true
        }
        Err(_) => false,
    }
}

fn opened() -> Breaker {
    let breaker = Breaker::new(small(), START);
    for _ in 0..10 {
        call(&breaker, false, START);
    }
    assert_eq!(breaker.state(START), State::Open);
    breaker
}

#[test]
fn it_opens_at_the_share_and_not_before_it_has_calls() {
    let breaker = Breaker::new(Options::default(), START);
    for number in 0..99 {
        assert!(call(&breaker, number % 2 == 0, START));
    }
    assert_eq!(breaker.state(START), State::Closed);
    call(&breaker, false, START);
    let snapshot = breaker.snapshot(START);
    assert_eq!((snapshot.state, snapshot.calls, snapshot.opens), (State::Open, 100, 1));
    assert_eq!(snapshot.failure_ratio, Some(0.5));
    let refused = breaker.admit(at(10_000)).unwrap_err();
    assert_eq!(refused.retry_after, Duration::from_secs(20));
    assert_eq!(breaker.snapshot(START).refusals, 1);
}

#[test]
fn slow_calls_open_it_too() {
    let options = Options { slow_after: Some(millis(100)), slow_ratio: 0.8, ..small() };
    let breaker = Breaker::new(options, START);
    for number in 0..10 {
        let elapsed = if number < 2 { millis(99) } else { millis(100) };
        breaker.admit(START).unwrap().finish(Outcome::Ok, elapsed, START);
    }
    let snapshot = breaker.snapshot(START);
    assert_eq!((snapshot.state, snapshot.slow_ratio), (State::Open, Some(0.8)));
    assert_eq!(snapshot.failure_ratio, Some(0.0));
}

#[test]
fn a_window_of_time_forgets() {
    let window = Window::Time(Duration::from_secs(10));
    let breaker = Breaker::new(Options { window, ..small() }, START);
    for second in 0..60 {
        call(&breaker, false, at(second * 2_000));
    }
    assert_eq!(breaker.state(at(120_000)), State::Closed, "five calls in ten seconds are too few");
    for _ in 0..9 {
        call(&breaker, false, at(300_000));
    }
    assert_eq!(breaker.state(at(300_000)), State::Closed);
    call(&breaker, false, at(300_000));
    assert_eq!(breaker.state(at(300_000)), State::Open);
}

#[test]
fn trials_decide_as_soon_as_they_can() {
    let breaker = opened();
    assert_eq!(breaker.state(at(30_000)), State::HalfOpen, "seen before the first trial");
    let mut trials: Vec<Permit> = (0..3).map(|_| breaker.admit(at(30_000)).unwrap()).collect();
    assert!(breaker.admit(at(30_000)).is_err());
    // A trial that is given up makes room for another.
    drop(trials.pop());
    trials.push(breaker.admit(at(30_001)).unwrap());
    for trial in trials.drain(..) {
        trial.finish(Outcome::Ok, millis(1), at(30_002));
    }
    assert_eq!(breaker.state(at(30_002)), State::Closed);
    assert_eq!(breaker.snapshot(at(30_002)).calls, 0, "the record begins anew");

    let breaker = opened();
    let mut trials: Vec<Permit> = (0..3).map(|_| breaker.admit(at(30_000)).unwrap()).collect();
    for trial in trials.drain(..2) {
        trial.finish(Outcome::Failed, millis(1), at(31_000));
    }
    assert_eq!(breaker.state(at(31_000)), State::Open, "two of three cannot be made good");
    assert_eq!(breaker.admit(at(31_000)).unwrap_err().retry_after, Duration::from_secs(30));
}

#[test]
fn outcomes_count_only_in_the_state_of_their_admission() {
    let breaker = Breaker::new(small(), START);
    let late: Vec<Permit> = (0..20).map(|_| breaker.admit(START).unwrap()).collect();
    for _ in 0..10 {
        call(&breaker, false, START);
    }
    assert_eq!(breaker.state(START), State::Open);
    let trial = breaker.admit(at(30_000)).unwrap();
    for permit in late {
        permit.finish(Outcome::Failed, millis(1), at(30_000));
    }
    assert_eq!(breaker.state(at(30_000)), State::HalfOpen);
    trial.finish(Outcome::Ok, millis(1), at(30_001));
    assert_eq!(breaker.snapshot(at(30_001)).calls, 1);
}

#[test]
fn modes_say_whether_it_refuses() {
    let breaker = opened();
    breaker.isolate(START);
    assert_eq!((breaker.mode(), call(&breaker, true, at(90_000))), (Mode::Isolated, false));
    breaker.set_mode(Mode::Disabled, START);
    for _ in 0..50 {
        assert!(call(&breaker, false, START));
    }
    assert_eq!(breaker.snapshot(START).calls, 0);
    breaker.set_mode(Mode::MetricsOnly, START);
    for _ in 0..50 {
        assert!(call(&breaker, false, START));
    }
    let snapshot = breaker.snapshot(START);
    assert_eq!((snapshot.state, snapshot.refusals), (State::Open, 41), "40 of them a dry run");
    breaker.set_mode(Mode::Enforce, START);
    assert!(call(&breaker, true, START), "a new mode begins closed");
    breaker.reset(START);
    assert_eq!(breaker.snapshot(START).calls, 0);
}

#[test]
fn each_change_is_told_once_and_in_order() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let breaker = Breaker::with_hook(small(), START, move |change| {
        tell.lock().unwrap().push((change.from, change.to, change.cause));
    });
    for _ in 0..10 {
        call(&breaker, false, START);
    }
    for _ in 0..3 {
        call(&breaker, true, at(30_000));
    }
    breaker.reset(at(30_000));
    assert_eq!(
        *told.lock().unwrap(),
        [
            (State::Closed, State::Open, Cause::Failures),
            (State::Open, State::HalfOpen, Cause::Waited),
            (State::HalfOpen, State::Closed, Cause::Recovered),
        ]
    );
}

#[test]
fn many_threads_get_no_more_trials_than_there_are() {
    for round in 0..50 {
        let breaker = opened();
        let admitted = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let held: Vec<_> =
                        (0..10).filter_map(|_| breaker.admit(at(30_000)).ok()).collect();
                    admitted.fetch_add(held.len() as u32, Ordering::Relaxed);
                    // Held until all have asked.
                    std::mem::forget(held);
                });
            }
        });
        assert_eq!(admitted.into_inner(), 3, "round {round}");
    }
}

proptest! {
    /// Any interleaving of calls that begin, end well or badly, or are given up.
    #[test]
    fn trials_stay_within_their_number_and_open_means_refused(
        half_open in 1u32..6,
        by_time: bool,
        steps in prop::collection::vec((0u64..4_000, 0u8..8), 1..600),
        seed: u64,
    ) {
        let window =
            if by_time { Window::Time(Duration::from_secs(10)) } else { Window::Calls(10) };
        let options = Options { window, half_open, ..small() };
        let breaker = Breaker::new(options, START);
        let mut rng = Rng::seeded(seed);
        let mut now = START;
        // The permits out, and in which opening they were admitted as trials.
        let mut held: Vec<(Permit, Option<u64>)> = Vec::new();
        let mut done = (0u64, 0u32);
        for (pause, kind) in steps {
            if kind == 0 {
                now = now.plus(millis(pause));
            }
            let before = breaker.state(now);
            let opens = breaker.snapshot(now).opens;
            if done.0 != opens {
                done = (opens, 0);
            }
            match kind {
                0..4 => {
                    let admitted = breaker.admit(now);
                    match before {
                        State::Closed => prop_assert!(admitted.is_ok()),
                        State::Open => prop_assert!(admitted.is_err()),
                        State::HalfOpen => {
                            let out = held.iter().filter(|(_, trial)| *trial == Some(opens));
                            let used = out.count() as u32 + done.1;
                            prop_assert_eq!(admitted.is_ok(), used < half_open);
                        }
                    }
                    let trial = (before == State::HalfOpen).then_some(opens);
                    held.extend(admitted.into_iter().map(|permit| (permit, trial)));
                }
                _ if held.is_empty() => {}
                end => {
                    let (permit, trial) = held.swap_remove(rng.below(held.len() as u64) as usize);
                    match end {
                        4 => drop(permit),
                        _ => {
                            done.1 += u32::from(trial == Some(opens));
                            let outcome = if end == 5 { Outcome::Ok } else { Outcome::Failed };
                            permit.finish(outcome, millis(1), now);
                        }
                    }
                }
            }
        }
    }
}

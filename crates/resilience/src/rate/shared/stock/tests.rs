//! Stocks over a store that counts as it should, is away, or lies.

use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::rate::{Algorithm, Scale, State};

const START: Tick = Tick::ZERO.plus(Duration::from_secs(100));

fn terms(units: u64, per: u64, slice: Option<u64>) -> Terms {
    let units = NonZeroU64::new(units).unwrap();
    Terms::new(Rate::new(units, Duration::from_secs(per)), slice)
}

/// A store of one key.
struct Store {
    scale: Scale,
    state: State,
    given: u64,
}

impl Store {
    fn new(terms: &Terms) -> Self {
        Self { scale: terms.rate.scale(), state: State::default(), given: 0 }
    }

    fn answer(&mut self, ask: &Ask, now: Tick) -> Answer {
        if let Ok(charge) = u64::try_from(ask.charge) {
            self.state = self.scale.charge(self.state, charge, now);
        } else {
            self.state = self.scale.give_back(self.state, ask.charge.unsigned_abs(), now);
        }
        let room = self.scale.take(self.state, 0, now).0.remaining;
        let mut units = ask.units.min(room);
        if units < ask.least {
            units = 0;
        }
        self.given += units;
        let (verdict, state) = self.scale.take(self.state, units, now);
        self.state = state;
        let (more, _) = self.scale.take(state, ask.least, now);
        let retry_after = more.retry_after.unwrap_or(Duration::MAX);
        Answer { units, left: verdict.remaining, reset: verdict.reset, retry_after }
    }
}

/// Takes, and lets the store answer whatever it is asked.
fn take(stock: &mut Stock, store: &mut Store, cost: u64, terms: &Terms, now: Tick) -> bool {
    loop {
        let taken = stock.take(cost, terms, now);
        if let Some(ask) = stock.ask(terms, now) {
            let answer = store.answer(&ask, now);
            stock.answered(&ask, &answer, terms, now);
        }
        if let Taken::Known(verdict) = taken {
            return verdict.granted;
        }
    }
}

#[test]
fn a_slice_is_small_beside_the_limit() {
    for (units, said, slice) in [
        (1, None, 1),
        (99, None, 1),
        (1_000, None, 10),
        (10_000_000, None, 1_000),
        (10, Some(4), 4),
        (10, Some(400), 10),
    ] {
        assert_eq!(terms(units, 60, said).slice, slice, "{units} {said:?}");
    }
}

#[test]
fn a_slice_is_used_without_asking_and_the_next_is_asked_for_ahead() {
    let terms = terms(1_000, 3_600, Some(10));
    let (mut stock, now) = (Stock::default(), START);
    assert_eq!(stock.take(1, &terms, now), Taken::Waits);
    let ask = stock.ask(&terms, now).unwrap();
    assert_eq!(ask, Ask { units: 10, least: 1, charge: 0 });
    assert_eq!((stock.take(1, &terms, now), stock.ask(&terms, now)), (Taken::Waits, None));
    let (left, reset) = (990, Duration::from_secs(36));
    let answer = Answer { units: 10, left, reset, retry_after: Duration::ZERO };
    stock.answered(&ask, &answer, &terms, now);
    for used in 1..=5 {
        let Taken::Known(verdict) = stock.take(1, &terms, now) else { panic!("{used}") };
        assert_eq!((verdict.granted, verdict.remaining), (true, 1_000 - used));
        assert_eq!(stock.ask(&terms, now), None, "{used}");
    }
    assert!(matches!(stock.take(1, &terms, now), Taken::Known(verdict) if verdict.granted));
    assert_eq!(stock.ask(&terms, now), Some(Ask { units: 6, least: 1, charge: 0 }));
    // No answer: what is there is used, and then it is asked again.
    stock.failed();
    for _ in 0..4 {
        assert!(matches!(stock.take(1, &terms, now), Taken::Known(_)));
    }
    assert_eq!(stock.take(1, &terms, now), Taken::Waits);
    assert!(stock.ask(&terms, now).is_some());
}

#[test]
fn what_nobody_uses_is_given_up_and_then_nothing_is_remembered() {
    let terms = terms(1_000, 60, Some(50));
    let (mut stock, mut store) = (Stock::default(), Store::new(&terms));
    assert!(take(&mut stock, &mut store, 1, &terms, START));
    assert_eq!(stock.units, 49);
    let later = START.plus(Duration::from_secs(3));
    assert!(!stock.is_idle(START) && stock.is_idle(later));
    assert!(take(&mut stock, &mut store, 1, &terms, later));
    assert_eq!((stock.units, store.given), (49, 100));
}

#[test]
fn a_store_that_has_nothing_left_is_not_asked_again_before_it_has() {
    let terms = terms(3, 60, None);
    let (mut stock, mut store) = (Stock::default(), Store::new(&terms));
    for _ in 0..3 {
        assert!(take(&mut stock, &mut store, 1, &terms, START));
    }
    assert!(!take(&mut stock, &mut store, 1, &terms, START));
    let Taken::Known(verdict) = stock.take(1, &terms, START) else { panic!("it is known") };
    assert_eq!(verdict.retry_after, Some(Duration::from_secs(20)));
    assert_eq!(stock.ask(&terms, START), None);
    assert!(take(&mut stock, &mut store, 1, &terms, START.plus(Duration::from_secs(20))));
    // What is never granted needs no store.
    let Taken::Known(verdict) = stock.take(4, &terms, START) else { panic!("it is known") };
    assert_eq!((verdict.granted, verdict.retry_after), (false, None));
}

#[test]
fn what_was_had_beyond_is_paid_before_more_is_granted() {
    let terms = terms(1_000, 3_600, Some(10));
    let (mut stock, mut store) = (Stock::default(), Store::new(&terms));
    assert!(take(&mut stock, &mut store, 1, &terms, START));
    stock.settle(1, 5, &terms, START);
    assert_eq!((stock.units, stock.owed), (5, 0));
    stock.settle(1, 1_201, &terms, START);
    assert_eq!((stock.units, stock.owed), (0, 1_195));
    assert!(!stock.is_idle(START.plus(Duration::from_secs(900))));
    assert!(!take(&mut stock, &mut store, 1, &terms, START));
    assert_eq!(stock.owed, 0);
    // 205 units of debt, and the one that is asked for.
    let wait = stock.empty.since(START).as_secs_f64();
    assert!((wait - 3.6 * 206.0).abs() < 0.1, "{wait}");
    // What is given back stays here as far as a slice goes, which was asked for ahead.
    let (mut stock, mut store) = (Stock::default(), Store::new(&terms));
    assert!(take(&mut stock, &mut store, 500, &terms, START));
    stock.settle(500, 20, &terms, START);
    assert_eq!((stock.units, stock.owed), (10, -480));
    let ask = stock.ask(&terms, START).unwrap();
    assert_eq!(ask.charge, -480);
    let answer = store.answer(&ask, START);
    stock.answered(&ask, &answer, &terms, START);
    assert_eq!((answer.left, stock.owed), (970, 0));
}

proptest! {
    /// Whatever nodes do, all of them together grant no more than the store has given, which holds the rate; and
    /// what they do not grant of it is no more than their stocks, and what they gave up.
    #[test]
    fn nodes_together_never_grant_too_much(
        units in 1_u64..200,
        slice in 1_u64..40,
        steps in prop::collection::vec((0_usize..3, 0_u64..300, 1_u64..4, 0_u8..10), 1..600)
    ) {
        let rate = Rate {
            units: NonZeroU64::new(units).unwrap(),
            per: Duration::from_secs(1),
            burst: NonZeroU64::new(units).unwrap(),
            algorithm: Algorithm::Gcra,
        };
        let terms = Terms::new(rate, Some(slice));
        let (mut stocks, mut store) = ([Stock::default(); 3], Store::new(&terms));
        let (mut now, mut granted) = (START, 0);
        for (node, millis, cost, chance) in steps {
            now = now.plus(Duration::from_millis(millis));
            let stock = &mut stocks[node];
            if chance == 0 {
                // The answer is lost.
                stock.take(cost, &terms, now);
                if let Some(ask) = stock.ask(&terms, now) {
                    store.answer(&ask, now);
                    stock.failed();
                }
            } else if take(stock, &mut store, cost, &terms, now) {
                granted += cost;
            }
            prop_assert!(granted <= store.given);
            let most = units as f64 * (1.0 + now.since(START).as_secs_f64());
            prop_assert!(granted as f64 <= most + 1e-6, "{granted} of {most}");
        }
    }
}

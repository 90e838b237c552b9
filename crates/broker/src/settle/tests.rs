//! Every event against every policy.

use proptest::{prop_assert, proptest};

use super::*;

fn policy() -> Policy {
    Policy::of_queue(&QueueOptions::default())
}

fn after(policy: &Policy, failures: u32, event: Event<'_>) -> Outcome {
    let history = History::default();
    let known = Known { failures, history: &history, keyed: true };
    decide(policy, known, event, 5, &mut Rng::seeded(1))
}

fn fail(reason: &'static str, delay: Option<Duration>) -> Verdict {
    Verdict::Fail { reason: reason.into(), delay }
}

#[test]
fn accepting_is_done_and_releasing_is_no_failure() {
    assert_eq!(after(&policy(), 0, Event::Said(&Verdict::Accept)), Outcome::Done(Gone::Accepted));
    let Outcome::Again { after, failed, history } =
        after(&policy(), 9, Event::Said(&Verdict::Release))
    else {
        panic!("a release gives it back")
    };
    assert_eq!((after, failed, history.count()), (Duration::ZERO, false, 0));
}

#[test]
fn the_tenth_failure_is_the_last() {
    let verdict = fail("no stock", None);
    for failures in 0..9 {
        let Outcome::Again { failed, history, .. } =
            after(&policy(), failures, Event::Said(&verdict))
        else {
            panic!("failure {failures} is tried again")
        };
        assert!(failed);
        assert_eq!(history.count(), 1);
    }
    let Outcome::DeadLetter { cause, reason, failures, park, .. } =
        after(&policy(), 9, Event::Said(&verdict))
    else {
        panic!("the tenth is the last")
    };
    assert_eq!((cause, reason.as_str(), failures, park), (Cause::Failures, "no stock", 10, false));
}

#[test]
fn a_lease_that_runs_out_counts_as_a_failure() {
    assert!(matches!(
        after(&policy(), 0, Event::LeaseExpired),
        Outcome::Again { failed: true, .. }
    ));
    assert!(matches!(after(&policy(), 9, Event::LeaseExpired), Outcome::DeadLetter { .. }));
}

#[test]
fn a_delay_that_was_asked_for_wins_over_the_back_off() {
    let verdict = fail("", Some(Duration::from_secs(42)));
    let Outcome::Again { after, .. } = after(&policy(), 3, Event::Said(&verdict)) else {
        panic!("tried again")
    };
    assert_eq!(after, Duration::from_secs(42));
}

#[test]
fn without_a_place_for_dead_letters_messages_are_dropped_and_say_why() {
    let none = QueueOptions { dead_letter: DeadLetter::None, ..QueueOptions::default() };
    let none = Policy::of_queue(&none);
    let reject = Verdict::Reject { reason: "bad".into() };
    for (event, cause) in [
        (Event::Said(&reject), Cause::Rejected),
        (Event::Expired, Cause::Expired),
        (Event::Overflowed, Cause::Overflow),
    ] {
        assert_eq!(after(&none, 0, event), Outcome::Done(Gone::Dropped(cause)));
    }
    // With one, what expires and overflows is dead-lettered only when asked for.
    assert_eq!(after(&policy(), 0, Event::Expired), Outcome::Done(Gone::Dropped(Cause::Expired)));
    let asked = Policy { dead_letters_expired: true, dead_letters_overflow: true, ..policy() };
    assert!(matches!(after(&asked, 0, Event::Expired), Outcome::DeadLetter { .. }));
    assert!(matches!(after(&asked, 0, Event::Overflowed), Outcome::DeadLetter { .. }));
}

#[test]
fn a_key_is_parked_once_and_only_where_asked_for() {
    let parks = Policy { parks: true, ..policy() };
    let reject = Verdict::Reject { reason: "bad".into() };
    assert!(matches!(
        after(&parks, 0, Event::Said(&reject)),
        Outcome::DeadLetter { park: true, .. }
    ));
    assert!(matches!(after(&parks, 0, Event::Parked), Outcome::DeadLetter { park: false, .. }));
    let history = History::default();
    let free = Known { failures: 0, history: &history, keyed: false };
    assert!(matches!(
        decide(&parks, free, Event::Said(&reject), 0, &mut Rng::seeded(1)),
        Outcome::DeadLetter { park: false, .. }
    ));
}

proptest! {
    #[test]
    fn no_message_outlives_its_failures_and_none_is_lost(failures in 0u32..20, max in 1u32..12) {
        let options = QueueOptions { failures_max: Some(max), ..QueueOptions::default() };
        let outcome = after(&Policy::of_queue(&options), failures, Event::LeaseExpired);
        match outcome {
            Outcome::Again { failed, .. } => prop_assert!(failed && failures + 1 < max),
            Outcome::DeadLetter { failures: now, .. } => {
                prop_assert!(now >= max && now == failures + 1);
            }
            Outcome::Done(_) | Outcome::Held => {
                prop_assert!(false, "neither tried again nor dead-lettered");
            }
        }
    }
}

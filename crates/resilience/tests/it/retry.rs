//! What is decided about a failed try.

use std::time::Duration;

use proptest::prelude::*;
use weft_kernel::{Deadline, Retry, Rng};
use weft_resilience::{
    budget::Budget,
    retry::{Backoff, Condition, Conditions, Decision, Failure, Hint, Kind, Options, StopReason},
};

use crate::{START, at, millis};

struct Case {
    options: Options,
    attempt: u32,
    failure: Failure,
    replayable: bool,
    idempotent: bool,
}

fn case(kind: Kind) -> Case {
    Case {
        options: Options::default(),
        attempt: 1,
        failure: Failure::new(kind),
        replayable: true,
        idempotent: false,
    }
}

impl Case {
    fn decide(&self, deadline: Deadline, budget: &Budget) -> Decision {
        let Self { options, attempt, failure, replayable, idempotent } = self;
        let mut rng = Rng::seeded(3);
        options.decide(
            *attempt,
            failure,
            *replayable,
            *idempotent,
            deadline,
            START,
            &mut rng,
            budget,
        )
    }

    fn check(&self, expect: Option<StopReason>) {
        let budget = Budget::default();
        let decision = self.decide(Deadline::NONE, &budget);
        let what = format!("{:?}, idempotent {}", self.failure, self.idempotent);
        match (decision, expect) {
            (Decision::Again { .. }, None) => assert_eq!(budget.balance(START), 99, "{what}"),
            (Decision::Stop(reason), Some(expect)) => {
                assert_eq!(reason, expect, "{what}");
                assert_eq!(budget.balance(START), 100, "{what}: a refusal costs nothing");
            }
            (decision, expect) => panic!("{what}: {decision:?}, not {expect:?}"),
        }
    }
}

#[test]
fn by_default_what_has_no_effect_is_retried_for_all_and_the_rest_for_idempotent_requests() {
    use StopReason::{NotIdempotent, NotRetryable};
    for (kind, others, idempotent) in [
        (Kind::Connect, None, None),
        (Kind::RefusedStream, None, None),
        (Kind::Grpc(14), None, None),
        (Kind::ResetBeforeHeaders, Some(NotIdempotent), None),
        (Kind::Status(502), Some(NotIdempotent), None),
        (Kind::Status(503), Some(NotIdempotent), None),
        (Kind::Status(504), Some(NotIdempotent), None),
        (Kind::Status(500), Some(NotRetryable), Some(NotRetryable)),
        (Kind::Status(501), Some(NotRetryable), Some(NotRetryable)),
        (Kind::Status(429), Some(NotRetryable), Some(NotRetryable)),
        (Kind::Status(404), Some(NotRetryable), Some(NotRetryable)),
        (Kind::TryTimeout, Some(NotRetryable), Some(NotRetryable)),
        (Kind::Grpc(1), Some(NotRetryable), Some(NotRetryable)),
        (Kind::Grpc(4), Some(NotRetryable), Some(NotRetryable)),
        (Kind::Grpc(8), Some(NotRetryable), Some(NotRetryable)),
        (Kind::Grpc(13), Some(NotRetryable), Some(NotRetryable)),
        (Kind::Grpc(2), Some(NotRetryable), Some(NotRetryable)),
    ] {
        case(kind).check(others);
        Case { idempotent: true, ..case(kind) }.check(idempotent);
    }
}

#[test]
fn each_condition_covers_its_failures_and_no_others() {
    let kinds = [
        (Kind::Connect, &[Condition::ConnectFailure][..]),
        (Kind::RefusedStream, &[Condition::RefusedStream]),
        (Kind::ResetBeforeHeaders, &[Condition::ResetBeforeHeaders]),
        (Kind::TryTimeout, &[Condition::TryTimeout]),
        (Kind::Status(500), &[Condition::ServerError]),
        (Kind::Status(503), &[Condition::ServerError, Condition::GatewayError]),
        (Kind::Status(429), &[]),
        (Kind::Grpc(0), &[]),
        (Kind::Grpc(1), &[Condition::GrpcCancelled]),
        (Kind::Grpc(4), &[Condition::GrpcDeadlineExceeded]),
        (Kind::Grpc(8), &[Condition::GrpcResourceExhausted]),
        (Kind::Grpc(13), &[Condition::GrpcInternal]),
        (Kind::Grpc(14), &[Condition::GrpcUnavailable]),
    ];
    for (kind, covering) in kinds {
        for condition in Condition::ALL {
            let on = Conditions::NONE.with(*condition);
            let options = Options { on, ..Options::default() };
            assert_eq!(
                options.covers(kind),
                covering.contains(condition),
                "{kind:?} {condition:?}"
            );
        }
    }
    let listed = Options { statuses: vec![429], on: Conditions::NONE, ..Options::default() };
    assert!(listed.covers(Kind::Status(429)) && !listed.covers(Kind::Status(503)));
    // A request that was turned away by 429 may be sent again whatever its method.
    Case { options: listed, ..case(Kind::Status(429)) }.check(None);
}

#[test]
fn what_is_known_of_the_request_can_forbid_a_retry() {
    let unsafe_methods = Options { unsafe_methods: true, ..Options::default() };
    Case { options: unsafe_methods, ..case(Kind::Status(503)) }.check(None);
    Case { replayable: false, ..case(Kind::Connect) }.check(Some(StopReason::NotReplayable));
    Case { attempt: 2, ..case(Kind::Connect) }.check(Some(StopReason::Exhausted));
    let never = Options { retries: 0, ..Options::default() };
    Case { options: never, ..case(Kind::Connect) }.check(Some(StopReason::Exhausted));
    let done = Failure::new(Kind::Status(503)).with_effect(Retry::No);
    Case { failure: done, idempotent: true, ..case(Kind::Connect) }
        .check(Some(StopReason::NotRetryable));
    let harmless = Failure::new(Kind::ResetBeforeHeaders).with_effect(Retry::Safe);
    Case { failure: harmless, ..case(Kind::Connect) }.check(None);
}

#[test]
fn what_the_service_asks_for_is_heeded() {
    let hinted = |hint| Case {
        failure: Failure::new(Kind::Connect).with_hint(Some(hint)),
        ..case(Kind::Connect)
    };
    hinted(Hint::Never).check(Some(StopReason::PushedBack));
    hinted(Hint::After(millis(1_001))).check(Some(StopReason::PushedBack));
    hinted(Hint::After(Duration::MAX)).check(Some(StopReason::PushedBack));
    let asked = hinted(Hint::After(millis(800))).decide(Deadline::NONE, &Budget::default());
    let Decision::Again { after } = asked else { panic!("{asked:?}") };
    assert!((millis(800)..=millis(825)).contains(&after), "{after:?}");
    let in_effect = Failure::new(Kind::Connect).with_effect(Retry::After(millis(700)));
    let asked = Case { failure: in_effect, idempotent: true, ..case(Kind::Connect) }
        .decide(Deadline::NONE, &Budget::default());
    assert!(matches!(asked, Decision::Again { after } if after >= millis(700)), "{asked:?}");
}

#[test]
fn a_spent_budget_stops_retries() {
    let budget = Budget::default();
    while budget.withdraw(START) {}
    let decision = case(Kind::Connect).decide(Deadline::NONE, &budget);
    assert_eq!(decision, Decision::Stop(StopReason::Budget));
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Connect),
        Just(Kind::RefusedStream),
        Just(Kind::ResetBeforeHeaders),
        Just(Kind::TryTimeout),
        (0u16..1_000).prop_map(Kind::Status),
        (0u8..20).prop_map(Kind::Grpc),
    ]
}

proptest! {
    #[test]
    fn no_wait_reaches_the_deadline_and_no_effect_is_doubled(
        kind in kinds(),
        retries in 0u32..5,
        attempt in 1u32..8,
        idempotent: bool,
        replayable: bool,
        left in 0u64..2_000,
        asked in prop::option::of(0u64..2_000),
        base in 0u64..500,
        seed: u64,
    ) {
        let options = Options {
            retries,
            on: Condition::ALL.iter().copied().collect(),
            backoff: Backoff { base: millis(base), max: millis(600) },
            ..Options::default()
        };
        let hint = asked.map(|asked| Hint::After(millis(asked)));
        let failure = Failure::new(kind).with_hint(hint);
        let deadline = Deadline::at(at(left));
        let mut rng = Rng::seeded(seed);
        let budget = Budget::default();
        let decision = options.decide(
            attempt, &failure, replayable, idempotent, deadline, START, &mut rng, &budget,
        );
        if let Decision::Again { after } = decision {
            prop_assert!(START.plus(after) < deadline.tick());
            prop_assert!(after >= millis(asked.unwrap_or(0)));
            prop_assert!(attempt <= retries && replayable);
            prop_assert!(idempotent || failure.effect == Retry::Safe);
            prop_assert!(after <= millis(asked.unwrap_or(0)) + options.backoff.ceiling(attempt));
        }
    }

    #[test]
    fn a_wait_stays_below_its_ceiling(base in 0u64..10_000, max in 0u64..10_000, nth: u32, seed: u64) {
        let backoff = Backoff { base: millis(base), max: millis(max) };
        let wait = backoff.draw(nth, &mut Rng::seeded(seed));
        prop_assert!(wait <= backoff.ceiling(nth) && backoff.ceiling(nth) <= millis(max));
    }

    #[test]
    fn no_header_makes_the_readers_panic(text in "\\PC*") {
        let wall = std::time::SystemTime::UNIX_EPOCH + millis(1_700_000_000_000);
        let seconds = text.trim().parse::<u64>().ok().filter(|_| !text.contains('+'));
        let read = weft_resilience::retry::retry_after(&text, wall);
        if let Some(seconds) = seconds {
            prop_assert_eq!(read, Some(Hint::After(Duration::from_secs(seconds))));
        }
        weft_resilience::retry::pushback(&text);
    }
}

//! What clients are told of limits.

use std::num::NonZeroU64;

use weft_resilience::rate::Verdict;

use super::*;

fn limit(name: &str, units: u64, per: Duration) -> Limit {
    Limit {
        name: name.into(),
        kind: Kind::Rate {
            rate: Rate::new(NonZeroU64::new(units).unwrap(), per),
            cost: Cost::Units(1),
            charge: None,
            sharing: None,
        },
        by: vec![Part::Consumer, Part::Header("x-tenant".into())],
        shadow: false,
        tells: true,
        keys_max: 100,
    }
}

#[test]
fn fields_are_those_of_the_draft() {
    let (burst, day) = (
        limit("burst", 10, Duration::from_millis(1_500)),
        limit("day", u64::MAX, Duration::from_secs(86_400)),
    );
    let both = [&burst, &day];
    let policy = "\"burst\";q=10;w=2, \"day\";q=999999999999999;w=86400";
    assert_eq!(fields::policy(both.into_iter()), policy);
    let granted = Verdict {
        granted: true,
        remaining: 9,
        reset: Duration::from_millis(150),
        retry_after: Some(Duration::ZERO),
    };
    let refused = Verdict {
        granted: false,
        remaining: 0,
        reset: Duration::from_secs(60),
        retry_after: Some(Duration::from_millis(2_001)),
    };
    let said = fields::left([(&burst, &granted), (&day, &refused)].into_iter());
    assert_eq!(said, "\"burst\";r=9;t=1, \"day\";r=0;t=3");
    // A burst of twice the quota takes two windows to come back, which is nobody's window.
    let drained = Verdict { remaining: 9, reset: Duration::from_millis(2_900), ..granted };
    assert_eq!(fields::left([(&burst, &drained)].into_iter()), "\"burst\";r=9;t=2");
    let kind = Kind::Concurrency(NonZeroU32::new(3).unwrap());
    let few = Limit { kind, by: Vec::new(), ..limit("few", 1, Duration::from_secs(1)) };
    let policy = "\"burst\";q=10;w=2, \"few\";q=3;qu=\"concurrent-requests\"";
    assert_eq!(fields::policy([&burst, &few].into_iter()), policy);
    let said = fields::left([(&few, &granted), (&burst, &granted)].into_iter());
    assert_eq!(said, "\"few\";r=9, \"burst\";r=9;t=1");
    assert_eq!(fields::left([(&few, &refused)].into_iter()), "\"few\";r=0");
    let rate = Rate::new(NonZeroU64::new(1_024).unwrap(), Duration::from_secs(1));
    let kind = Kind::Bandwidth { rate, of: Direction::Responses };
    let wide = Limit { kind, by: Vec::new(), ..limit("wide", 1, Duration::from_secs(1)) };
    let shown = RateLimits(vec![burst, few, wide]).to_string();
    let expected = "burst: 10 in 1.5s by consumer by header x-tenant, few: 3 at once, \
                    wide: 1024 bytes of responses in 1s";
    assert_eq!(shown, expected);
}

#[test]
fn a_refusal_says_when_to_come_again_if_ever() {
    let limit = limit("burst", 10, Duration::from_secs(1));
    let error = refusal(&limit, Why::Left(Some(Duration::from_secs(3))));
    assert_eq!(error.retryable(), Retry::After(Duration::from_secs(3)));
    assert_eq!((error.reason().http(), error.said()), (429, "the limit `burst` is reached"));
    assert_eq!(refusal(&limit, Why::Left(None)).retryable(), Retry::No);
    assert_eq!(refusal(&limit, Why::Away).reason().http(), 503);
}

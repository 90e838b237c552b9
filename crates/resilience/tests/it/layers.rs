//! The tower layers, each alone and together, under a paused clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use weft_kernel::{Deadline, Error, Reason, SystemClock};
use weft_resilience::{
    adaptive::{self, Criticality, Limiter},
    breaker::{self, Breaker, Window},
    budget::{self, Budget},
    bulkhead::{self, Bulkhead},
    hedge::{self, Delay, Hedger},
    layers::{
        AdaptiveLayer, BreakerLayer, BulkheadLayer, ErrorsAreBad, HedgeLayer, Policy, RetryLayer,
        TimeoutLayer,
    },
    retry::{self, Failure, Kind},
    timeout,
};

use crate::millis;

/// A service that does what each request says, and counts its calls.
#[derive(Clone, Copy, Debug)]
enum Do {
    Answer,
    Fail,
    /// Fails the first so many times.
    FailFirst(u32),
    /// Takes so many milliseconds.
    Take(u64),
    /// Takes the time the first time only.
    TakeFirst(u64),
}

fn service(
    calls: &Arc<AtomicU32>,
) -> impl Service<Do, Response = u32, Error = Error, Future: Send> + Clone + use<> {
    let calls = Arc::clone(calls);
    service_fn(move |request| {
        let call = calls.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            let failure = || Err(Error::new(Reason::ConnectRefused, "refused"));
            match request {
                Do::Fail => failure(),
                Do::FailFirst(times) if call <= times => failure(),
                Do::Take(span) => {
                    tokio::time::sleep(millis(span)).await;
                    Ok(call)
                }
                Do::TakeFirst(span) if call == 1 => {
                    tokio::time::sleep(millis(span)).await;
                    Ok(call)
                }
                _ => Ok(call),
            }
        }
    })
}

/// Every error is a failed connection; requests can be sent again.
struct Connects {
    deadline: Deadline,
}

impl Policy<Do, u32, Error> for Connects {
    fn failure(&self, result: Result<&u32, &Error>) -> Option<Failure> {
        let error = result.err()?;
        Some(Failure::new(Kind::Connect).with_effect(error.retryable()))
    }

    fn again(&self, request: &Do) -> Option<Do> {
        Some(*request)
    }

    fn idempotent(&self, _: &Do) -> bool {
        false
    }

    fn deadline(&self, _: &Do) -> Deadline {
        self.deadline
    }
}

fn calls() -> Arc<AtomicU32> {
    Arc::new(AtomicU32::new(0))
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_fails_at_its_time() {
    let calls = calls();
    let times = timeout::Options { request: Some(millis(50)), ..Default::default() };
    let service = TimeoutLayer::request(&times).layer(service(&calls));
    assert_eq!(service.clone().oneshot(Do::Take(49)).await.unwrap(), 1);
    let began = Instant::now();
    let error = service.oneshot(Do::Take(5_000)).await.unwrap_err();
    assert_eq!((error.reason(), began.elapsed()), (Reason::RequestTimeout, millis(50)));
    let endless = timeout::Options { request: None, ..Default::default() };
    let endless = TimeoutLayer::request(&endless).layer(self::service(&calls));
    assert!(endless.oneshot(Do::Take(3_600_000)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn failed_calls_are_made_again_within_number_budget_and_deadline() {
    let options = retry::Options { retries: 2, ..Default::default() };
    let layer = |budget: &Arc<Budget>, deadline| {
        RetryLayer::new(options.clone(), Arc::clone(budget), Connects { deadline })
    };
    let budget = Arc::new(Budget::default());
    let counted = calls();
    let retrying = layer(&budget, Deadline::NONE).layer(service(&counted));
    assert_eq!(retrying.oneshot(Do::FailFirst(2)).await.unwrap(), 3);

    let counted = calls();
    let retrying = layer(&budget, Deadline::NONE).layer(service(&counted));
    assert!(retrying.oneshot(Do::Fail).await.is_err());
    assert_eq!(counted.load(Ordering::Relaxed), 3);

    let spent = budget::Options { ratio: 0.0, per_second: 0, ..Default::default() };
    let counted = calls();
    let retrying = layer(&Arc::new(Budget::new(&spent)), Deadline::NONE).layer(service(&counted));
    assert!(retrying.oneshot(Do::Fail).await.is_err());
    assert_eq!(counted.load(Ordering::Relaxed), 1);

    let over = Deadline::at(SystemClock::at(Instant::now().into_std()));
    let counted = calls();
    let retrying = layer(&budget, over).layer(service(&counted));
    assert!(retrying.oneshot(Do::Fail).await.is_err());
    assert_eq!(counted.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_refuses_and_tries_again_later() {
    let options = breaker::Options {
        window: Window::Calls(4),
        calls_min: 4,
        half_open: 1,
        ..Default::default()
    };
    let breaker = Breaker::new(options, SystemClock::at(Instant::now().into_std()));
    let counted = calls();
    let service = BreakerLayer::new(breaker, ErrorsAreBad).layer(service(&counted));
    for _ in 0..4 {
        assert!(service.clone().oneshot(Do::Fail).await.is_err());
    }
    let refused = service.clone().oneshot(Do::Answer).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::BreakerOpen);
    assert_eq!(refused.said(), "the service is failing; try again in 30s");
    assert_eq!(counted.load(Ordering::Relaxed), 4);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(service.clone().oneshot(Do::Answer).await.unwrap(), 5);
    assert_eq!(service.oneshot(Do::Answer).await.unwrap(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_judge_can_leave_a_result_out_of_account() {
    let options = breaker::Options { window: Window::Calls(2), calls_min: 2, ..Default::default() };
    let breaker = Breaker::new(options, SystemClock::at(Instant::now().into_std()));
    let blind = |_: Result<&u32, &Error>| None;
    let service = BreakerLayer::new(breaker.clone(), blind).layer(service(&calls()));
    for _ in 0..10 {
        let error = service.clone().oneshot(Do::Fail).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ConnectRefused);
    }
    assert_eq!(breaker.snapshot(SystemClock::tick()).calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_queues_and_refuses() {
    let options = bulkhead::Options { in_flight_max: 1, queue_max: 1, queue_timeout: millis(100) };
    let counted = calls();
    let service = BulkheadLayer::new(Bulkhead::new(options)).layer(service(&counted));
    let began = Instant::now();
    let (first, second, third) = tokio::join!(
        service.clone().oneshot(Do::Take(60)),
        service.clone().oneshot(Do::Take(60)),
        service.clone().oneshot(Do::Take(60)),
    );
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(third.unwrap_err().reason(), Reason::BulkheadFull);
    assert_eq!(began.elapsed(), millis(120), "one after the other");
    let (first, second) =
        tokio::join!(service.clone().oneshot(Do::Take(500)), service.clone().oneshot(Do::Answer),);
    assert!(first.is_ok());
    assert_eq!(
        second.unwrap_err().detail(),
        "too many calls at once: the bulkhead had no place in time"
    );
    assert_eq!(counted.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_full_limiter_sheds_by_criticality() {
    let limiter = Limiter::new(adaptive::Options { initial: 10, ..Default::default() });
    let critical = |request: &Do| match request {
        Do::Answer => Criticality::Critical,
        _ => Criticality::Sheddable,
    };
    let counted = calls();
    let service =
        AdaptiveLayer::new(limiter.clone(), critical, ErrorsAreBad).layer(service(&counted));
    let mut slow = service.clone();
    let held: Vec<_> = (0..6).map(|_| slow.call(Do::Take(1_000))).collect();
    let shed = service.clone().oneshot(Do::Take(1)).await.unwrap_err();
    assert_eq!((shed.reason(), shed.code().http()), (Reason::Overload, 503));
    assert!(service.oneshot(Do::Answer).await.is_ok());
    drop(held);
    assert_eq!(limiter.in_flight(), 0, "a call that is given up leaves no place behind");
}

fn hedger(delay: u64, max: u32) -> Arc<Hedger> {
    let delay = Delay::Fixed(millis(delay));
    let hedger = Arc::new(Hedger::new(hedge::Options { delay, max, budget: 1.0 }));
    for _ in 0..10 {
        hedger.begin();
    }
    hedger
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_is_hedged_and_the_first_answer_wins() {
    let counted = calls();
    let again = |request: &Do| Some(*request);
    let service_ = HedgeLayer::new(hedger(20, 1), again).layer(service(&counted));
    let began = Instant::now();
    assert_eq!(service_.oneshot(Do::TakeFirst(1_000)).await.unwrap(), 2);
    assert_eq!(began.elapsed(), millis(20));

    let counted = calls();
    let service_ = HedgeLayer::new(hedger(20, 3), again).layer(service(&counted));
    let began = Instant::now();
    assert_eq!(service_.clone().oneshot(Do::Take(50)).await.unwrap(), 1);
    assert_eq!((began.elapsed(), counted.load(Ordering::Relaxed)), (millis(50), 3));
    // A quick answer and a quick failure need no hedge.
    assert_eq!(service_.clone().oneshot(Do::Take(19)).await.unwrap(), 4);
    assert!(service_.oneshot(Do::Fail).await.is_err());
    assert_eq!(counted.load(Ordering::Relaxed), 5);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_sent_twice_is_not_hedged() {
    let counted = calls();
    let service_ = HedgeLayer::new(hedger(20, 1), |_: &Do| None).layer(service(&counted));
    assert_eq!(service_.oneshot(Do::Take(100)).await.unwrap(), 1);
    let broke = Arc::new(Hedger::new(hedge::Options {
        delay: Delay::Fixed(millis(20)),
        max: 1,
        budget: 0.0,
    }));
    let service_ = HedgeLayer::new(broke, |request: &Do| Some(*request)).layer(service(&counted));
    assert_eq!(service_.oneshot(Do::Take(100)).await.unwrap(), 2);
    assert_eq!(counted.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn all_layers_together_make_one_service() {
    let counted = calls();
    let now = SystemClock::at(Instant::now().into_std());
    let times = timeout::Options { per_try: Some(millis(200)), ..Default::default() };
    let stack = ServiceBuilder::new()
        .layer(AdaptiveLayer::new(
            Limiter::new(adaptive::Options::default()),
            |_: &Do| Criticality::Default,
            ErrorsAreBad,
        ))
        .layer(BulkheadLayer::new(Bulkhead::new(bulkhead::Options::default())))
        .layer(BreakerLayer::new(Breaker::new(breaker::Options::default(), now), ErrorsAreBad))
        .layer(TimeoutLayer::request(&times))
        .layer(RetryLayer::new(
            retry::Options::default(),
            Arc::new(Budget::default()),
            Connects { deadline: Deadline::NONE },
        ))
        .layer(HedgeLayer::new(hedger(50, 1), |request: &Do| Some(*request)))
        .layer(TimeoutLayer::per_try(&times))
        .service(service(&counted));
    // Futures of the stack may move between threads if those of the service may.
    let call =
        tokio::task::LocalSet::new().run_until(stack.clone().oneshot(Do::FailFirst(1))).await;
    assert_eq!(call.unwrap(), 2);
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    assert_eq!(is_send(stack.oneshot(Do::Take(10))).await.unwrap(), 3);
}

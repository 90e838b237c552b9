//! Calls a service that fails for a while, once bare and once through the layers, and counts what
//! its callers saw and what it had to bear: `cargo run -p weft-resilience --example calls`.
#![allow(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use weft_kernel::SystemClock;
use weft_resilience::{
    breaker::{self, Breaker, State, Window},
    budget::Budget,
    layers::{BreakerLayer, ErrorsAreBad, Policy, RetryLayer, TimeoutLayer},
    retry::{self, Failure, Kind},
    timeout,
};

/// Requests are reads and may be sent twice; what fails is a reset.
struct Reads;

impl Policy<u32, u32, BoxError> for Reads {
    fn failure(&self, result: Result<&u32, &BoxError>) -> Option<Failure> {
        result.err().map(|_| Failure::new(Kind::ResetBeforeHeaders))
    }

    fn again(&self, request: &u32) -> Option<u32> {
        Some(*request)
    }

    fn idempotent(&self, _: &u32) -> bool {
        true
    }
}

/// Fails every tenth call, and from request 400 to 599 all of them.
fn flaky(
    borne: &Arc<AtomicU32>,
) -> impl Service<u32, Response = u32, Error = BoxError, Future: Send> + Clone + use<> {
    let borne = Arc::clone(borne);
    service_fn(move |request: u32| {
        let call = borne.fetch_add(1, Relaxed);
        async move {
            tokio::time::sleep(Duration::from_micros(200)).await;
            let down = (400..600).contains(&request) || call % 10 == 9;
            if down { Err(BoxError::from("reset")) } else { Ok(request) }
        }
    })
}

async fn failures<S>(mut service: S) -> Result<u32, BoxError>
where
    S: Service<u32, Response = u32, Error = BoxError>,
{
    let mut failures = 0;
    for request in 0..1_000 {
        failures += u32::from(service.ready().await?.call(request).await.is_err());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(failures)
}

// The clock is paused and jumps to the next timer, so that this is over at once.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), BoxError> {
    let borne = Arc::new(AtomicU32::new(0));
    let seen = failures(flaky(&borne)).await?;
    println!("bare:    {seen} of 1000 callers saw a failure; the service bore {borne:?} calls");

    let borne = Arc::new(AtomicU32::new(0));
    let options = breaker::Options {
        window: Window::Calls(20),
        calls_min: 20,
        open: Duration::from_millis(250),
        half_open: 5,
        ..breaker::Options::default()
    };
    let breaker = Breaker::with_hook(options, SystemClock::tick(), |change| {
        if change.to != State::HalfOpen {
            println!("         the breaker is {} ({:?})", change.to.word(), change.cause);
        }
    });
    let service = ServiceBuilder::new()
        .layer(BreakerLayer::new(breaker, ErrorsAreBad))
        .layer(TimeoutLayer::request(&timeout::Options::default()))
        .layer(RetryLayer::new(retry::Options::default(), Arc::new(Budget::default()), Reads))
        .service(flaky(&borne));
    let seen = failures(service).await?;
    println!("layered: {seen} of 1000 callers saw a failure; the service bore {borne:?} calls");
    Ok(())
}

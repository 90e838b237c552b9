//! Thin tower layers over the state machines, for any service of requests and responses.
//!
//! A layer leaves the error type of its service alone: what it refuses itself is a
//! [`weft_kernel::Error`] with the [`weft_kernel::Reason`] that the rest of Weft uses, which the
//! service's error must be made from (`tower::BoxError` is, and so is [`weft_kernel::Error`] itself).
//!
//! The order that suits most, outermost first: [`AdaptiveLayer`], [`BulkheadLayer`],
//! [`BreakerLayer`], [`TimeoutLayer::request`], [`RetryLayer`], [`HedgeLayer`],
//! [`TimeoutLayer::per_try`].
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
//! use weft_kernel::SystemClock;
//! use weft_resilience::{
//!     breaker::{self, Breaker}, bulkhead::{self, Bulkhead},
//!     layers::{BreakerLayer, BulkheadLayer, ErrorsAreBad, TimeoutLayer},
//!     timeout,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let breaker = Breaker::new(breaker::Options::default(), SystemClock::tick());
//! let times = timeout::Options { request: Some(Duration::from_millis(20)), ..Default::default() };
//! let mut service = ServiceBuilder::new()
//!     .layer(BulkheadLayer::new(Bulkhead::new(bulkhead::Options::default())))
//!     .layer(BreakerLayer::new(breaker, ErrorsAreBad))
//!     .layer(TimeoutLayer::request(&times))
//!     .service(service_fn(|name: &'static str| async move {
//!         if name == "nobody" {
//!             std::future::pending::<()>().await;
//!         }
//!         Ok::<_, BoxError>(format!("hello {name}"))
//!     }));
//! assert_eq!(service.ready().await?.call("you").await?, "hello you");
//! let error = service.ready().await?.call("nobody").await.unwrap_err();
//! assert_eq!(error.to_string(), "no answer within 20ms");
//! # Ok(())
//! # }
//! ```

mod adaptive;
mod breaker;
mod bulkhead;
mod hedge;
mod judged;
mod retry;
mod timeout;

use weft_kernel::{SystemClock, Tick};

pub use self::{
    adaptive::{Adaptive, AdaptiveLayer},
    breaker::{Begun, BreakerLayer, Broken},
    bulkhead::{BulkheadFuture, BulkheadLayer, Bulkheaded},
    hedge::{Hedge, HedgeFuture, HedgeLayer},
    judged::{JudgedFuture, Permission},
    retry::{Policy, Retry, RetryFuture, RetryLayer},
    timeout::{Timeout, TimeoutFuture, TimeoutLayer},
};

/// Says what a result tells of the service that gave it.
///
/// Closures of this shape are judges; [`ErrorsAreBad`] is one for services whose errors say all.
pub trait Judge<Res, E> {
    /// `Some(true)` if the service works, `Some(false)` if it fails or is overloaded, `None` if the
    /// result tells nothing of it (the caller's fault, say).
    fn good(&self, result: Result<&Res, &E>) -> Option<bool>;
}

impl<F, Res, E> Judge<Res, E> for F
where
    F: Fn(Result<&Res, &E>) -> Option<bool>,
{
    fn good(&self, result: Result<&Res, &E>) -> Option<bool> {
        self(result)
    }
}

/// Judges every response good and every error bad.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorsAreBad;

impl<Res, E> Judge<Res, E> for ErrorsAreBad {
    fn good(&self, result: Result<&Res, &E>) -> Option<bool> {
        Some(result.is_ok())
    }
}

/// The time as the runtime's timers see it, so that a test that pauses them pauses this too.
fn now() -> Tick {
    SystemClock::at(tokio::time::Instant::now().into_std())
}

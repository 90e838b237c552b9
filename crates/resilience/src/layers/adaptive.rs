//! Calls under adaptive concurrency.

use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;
use weft_kernel::{Error, Reason, Retry, Tick};

use super::{Judge, JudgedFuture, Permission, now};
use crate::adaptive::{Criticality, Limiter, Permit};

/// Sheds what a service cannot do now, the least critical first.
#[derive(Clone, Debug)]
pub struct AdaptiveLayer<C, J> {
    limiter: Limiter,
    criticality: C,
    judge: J,
}

impl<C, J> AdaptiveLayer<C, J> {
    /// Calls under this limiter. `criticality` says how much a request matters; `judge` whether a
    /// result shows the service at work (`true`) or overloaded (`false`).
    pub fn new(limiter: Limiter, criticality: C, judge: J) -> Self {
        Self { limiter, criticality, judge }
    }
}

impl<S, C: Clone, J: Clone> Layer<S> for AdaptiveLayer<C, J> {
    type Service = Adaptive<S, C, J>;

    fn layer(&self, inner: S) -> Self::Service {
        Adaptive { inner, layer: self.clone() }
    }
}

/// A service under adaptive concurrency; made by [`AdaptiveLayer`].
#[derive(Clone, Debug)]
pub struct Adaptive<S, C, J> {
    inner: S,
    layer: AdaptiveLayer<C, J>,
}

impl<S, C, J, Req> Service<Req> for Adaptive<S, C, J>
where
    S: Service<Req>,
    S::Error: From<Error>,
    C: Fn(&Req) -> Criticality,
    J: Judge<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = JudgedFuture<S::Future, J, Permit>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let criticality = (self.layer.criticality)(&request);
        match self.layer.limiter.admit(criticality, now()) {
            Ok(permit) => {
                let judge = self.layer.judge.clone();
                JudgedFuture::called(self.inner.call(request), permit, judge)
            }
            Err(shed) => {
                let error = Error::new(Reason::Overload, "the service has no room for this now")
                    .retry(Retry::After(shed.retry_after));
                JudgedFuture::refused(error)
            }
        }
    }
}

impl Permission for Permit {
    fn tell(self, good: bool, now: Tick) {
        self.finish(good, now);
    }
}

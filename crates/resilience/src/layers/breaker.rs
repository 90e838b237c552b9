//! Calls under a breaker.

use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;
use weft_kernel::{Error, Reason, Retry, Tick, format_duration};

use super::{Judge, JudgedFuture, Permission, now};
use crate::breaker::{Breaker, Outcome, Permit};

/// Refuses calls while a breaker is open, and tells it how the others end.
#[derive(Clone, Debug)]
pub struct BreakerLayer<J> {
    breaker: Breaker,
    judge: J,
}

impl<J> BreakerLayer<J> {
    /// Calls under this breaker, judged by `judge`.
    pub fn new(breaker: Breaker, judge: J) -> Self {
        Self { breaker, judge }
    }
}

impl<S, J: Clone> Layer<S> for BreakerLayer<J> {
    type Service = Broken<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        Broken { inner, layer: self.clone() }
    }
}

/// A service under a breaker; made by [`BreakerLayer`].
#[derive(Clone, Debug)]
pub struct Broken<S, J> {
    inner: S,
    layer: BreakerLayer<J>,
}

impl<S, J, Req> Service<Req> for Broken<S, J>
where
    S: Service<Req>,
    S::Error: From<Error>,
    J: Judge<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = JudgedFuture<S::Future, J, Begun>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let started = now();
        match self.layer.breaker.admit(started) {
            Ok(permit) => {
                let judge = self.layer.judge.clone();
                JudgedFuture::called(self.inner.call(request), Begun(permit, started), judge)
            }
            Err(refused) => {
                let wait = refused.retry_after;
                let say = format!("the service is failing; try again in {}", format_duration(wait));
                let error = Error::new(Reason::BreakerOpen, say).retry(Retry::After(wait));
                JudgedFuture::refused(error)
            }
        }
    }
}

/// The permission of a call that began then.
#[derive(Debug)]
pub struct Begun(Permit, Tick);

impl Permission for Begun {
    fn tell(self, good: bool, now: Tick) {
        let outcome = if good { Outcome::Ok } else { Outcome::Failed };
        self.0.finish(outcome, now.since(self.1), now);
    }
}

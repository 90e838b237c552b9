//! Calls under a breaker.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use weft_kernel::{Error, Reason, Retry, Tick, format_duration};

use super::{Judge, now};
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
    type Future = BreakerFuture<S::Future, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let started = now();
        let state = match self.layer.breaker.admit(started) {
            Ok(permit) => State::Called {
                future: self.inner.call(request),
                permit: Some(permit),
                judge: self.layer.judge.clone(),
                started,
            },
            Err(refused) => {
                let wait = refused.retry_after;
                let say = format!("the service is failing; try again in {}", format_duration(wait));
                let error = Error::new(Reason::BreakerOpen, say).retry(Retry::After(wait));
                State::Refused { error: Some(error) }
            }
        };
        BreakerFuture { state }
    }
}

pin_project! {
    /// The future of a call through [`Broken`].
    #[derive(Debug)]
    pub struct BreakerFuture<F, J> {
        #[pin]
        state: State<F, J>,
    }
}

pin_project! {
    #[project = Projected]
    #[derive(Debug)]
    enum State<F, J> {
        Called {
            #[pin]
            future: F,
            permit: Option<Permit>,
            judge: J,
            started: Tick
        },
        Refused { error: Option<Error> },
    }
}

impl<F, J, Res, E> Future for BreakerFuture<F, J>
where
    F: Future<Output = Result<Res, E>>,
    E: From<Error>,
    J: Judge<Res, E>,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projected::Called { future, permit, judge, started } => {
                let result = ready!(future.poll(cx));
                if let Some(permit) = permit.take()
                    && let Some(good) = judge.good(result.as_ref())
                {
                    let outcome = if good { Outcome::Ok } else { Outcome::Failed };
                    let now = now();
                    permit.finish(outcome, now.since(*started), now);
                }
                Poll::Ready(result)
            }
            // A future that is polled after its end has nothing more to say.
            Projected::Refused { error } => match error.take() {
                Some(error) => Poll::Ready(Err(error.into())),
                None => Poll::Pending,
            },
        }
    }
}

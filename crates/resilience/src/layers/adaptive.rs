//! Calls under adaptive concurrency.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use weft_kernel::{Error, Reason, Retry};

use super::{Judge, now};
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
    type Future = AdaptiveFuture<S::Future, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let criticality = (self.layer.criticality)(&request);
        let state = match self.layer.limiter.admit(criticality, now()) {
            Ok(permit) => State::Called {
                future: self.inner.call(request),
                permit: Some(permit),
                judge: self.layer.judge.clone(),
            },
            Err(shed) => {
                let error = Error::new(Reason::Overload, "the service has no room for this now")
                    .retry(Retry::After(shed.retry_after));
                State::Shed { error: Some(error) }
            }
        };
        AdaptiveFuture { state }
    }
}

pin_project! {
    /// The future of a call through [`Adaptive`].
    #[derive(Debug)]
    pub struct AdaptiveFuture<F, J> {
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

        },
        Shed { error: Option<Error> },
    }
}

impl<F, J, Res, E> Future for AdaptiveFuture<F, J>
where
    F: Future<Output = Result<Res, E>>,
    E: From<Error>,
    J: Judge<Res, E>,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projected::Called { future, permit, judge } => {
                let result = ready!(future.poll(cx));
                if let Some(permit) = permit.take()
                    && let Some(good) = judge.good(result.as_ref())
                {
                    permit.finish(good, now());
                }
                Poll::Ready(result)
            }
            // A future that is polled after its end has nothing more to say.
            Projected::Shed { error } => match error.take() {
                Some(error) => Poll::Ready(Err(error.into())),
                None => Poll::Pending,
            },
        }
    }
}

//! Calls within a bulkhead.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use weft_kernel::{Error, Reason};

use crate::bulkhead::{Bulkhead, Permit, Refused};

/// Lets so many calls in at once, and makes others wait or refuses them.
#[derive(Clone, Debug)]
pub struct BulkheadLayer {
    bulkhead: Bulkhead,
}

impl BulkheadLayer {
    /// Calls within this bulkhead.
    pub fn new(bulkhead: Bulkhead) -> Self {
        Self { bulkhead }
    }
}

impl<S> Layer<S> for BulkheadLayer {
    type Service = Bulkheaded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Bulkheaded { inner, bulkhead: self.bulkhead.clone() }
    }
}

/// A service within a bulkhead; made by [`BulkheadLayer`].
#[derive(Clone, Debug)]
pub struct Bulkheaded<S> {
    inner: S,
    bulkhead: Bulkhead,
}

impl<S, Req> Service<Req> for Bulkheaded<S>
where
    S: Service<Req> + Clone,
    S::Error: From<Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BulkheadFuture<S, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        if let Some(permit) = self.bulkhead.take() {
            let future = self.inner.call(request);
            return BulkheadFuture { state: State::Called { future, permit: Some(permit) } };
        }
        // The service that was found ready is the one to call later; its clone was not asked.
        let clone = self.inner.clone();
        let service = mem::replace(&mut self.inner, clone);
        let bulkhead = self.bulkhead.clone();
        let wait: Wait = Box::pin(async move { bulkhead.acquire(None).await });
        BulkheadFuture { state: State::Waiting { wait, held: Some((service, request)) } }
    }
}

type Wait = Pin<Box<dyn Future<Output = Result<Permit, Refused>> + Send>>;

pin_project! {
    /// The future of a call through [`Bulkheaded`].
    pub struct BulkheadFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<S, Req>
    where
        S: Service<Req>,
    {
        Waiting { wait: Wait, held: Option<(S, Req)> },
        Called { #[pin] future: S::Future, permit: Option<Permit> },
        Over,
    }
}

impl<S, Req> Future for BulkheadFuture<S, Req>
where
    S: Service<Req>,
    S::Error: From<Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                Projected::Waiting { wait, held } => {
                    let permit = ready!(wait.as_mut().poll(cx));
                    match permit {
                        Ok(permit) => {
                            let Some((mut service, request)) = held.take() else {
                                return Poll::Pending;
                            };
                            let future = service.call(request);
                            state.set(State::Called { future, permit: Some(permit) });
                        }
                        Err(refused) => {
                            state.set(State::Over);
                            let error = Error::new(Reason::BulkheadFull, "too many calls at once");
                            return Poll::Ready(Err(error.because(refused).into()));
                        }
                    }
                }
                Projected::Called { future, permit } => {
                    let result = ready!(future.poll(cx));
                    drop(permit.take());
                    return Poll::Ready(result);
                }
                // A future that is polled after its end has nothing more to say.
                Projected::Over => return Poll::Pending,
            }
        }
    }
}

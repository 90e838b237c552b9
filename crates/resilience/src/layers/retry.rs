//! Calls that are made again when that may help.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;
use weft_kernel::{Deadline, Rng};

use super::now;
use crate::{
    budget::Budget,
    retry::{Decision, Failure, Options},
};

/// Says what requests and results mean to retries.
pub trait Policy<Req, Res, E> {
    /// The failure that the result is, if it is one that another try could mend.
    fn failure(&self, result: Result<&Res, &E>) -> Option<Failure>;

    /// The request once more; `None` if it cannot be sent twice.
    fn again(&self, request: &Req) -> Option<Req>;

    /// Whether sending the request twice has the effect of sending it once.
    fn idempotent(&self, request: &Req) -> bool;

    /// When the request must be over.
    fn deadline(&self, _request: &Req) -> Deadline {
        Deadline::NONE
    }
}

struct Shared<P> {
    options: Options,
    budget: Arc<Budget>,
    policy: P,
}

/// Makes failed calls again, within the budget.
pub struct RetryLayer<P> {
    shared: Arc<Shared<P>>,
}

impl<P> RetryLayer<P> {
    /// Retries by these options, out of this budget, which all calls to a service share.
    pub fn new(options: Options, budget: Arc<Budget>, policy: P) -> Self {
        Self { shared: Arc::new(Shared { options, budget, policy }) }
    }
}

impl<P> Clone for RetryLayer<P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S, P> Layer<S> for RetryLayer<P> {
    type Service = Retry<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry { inner, shared: Arc::clone(&self.shared) }
    }
}

/// A service whose failed calls are made again; made by [`RetryLayer`].
pub struct Retry<S, P> {
    inner: S,
    shared: Arc<Shared<P>>,
}

impl<S: Clone, P> Clone for Retry<S, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S, P, Req> Service<Req> for Retry<S, P>
where
    S: Service<Req> + Clone,
    P: Policy<Req, S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RetryFuture<S, P, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        shared.budget.deposit(now());
        let copy = (shared.options.retries > 0).then(|| shared.policy.again(&request)).flatten();
        let idempotent = shared.policy.idempotent(&request);
        let deadline = shared.policy.deadline(&request);
        let clone = self.inner.clone();
        let mut service = mem::replace(&mut self.inner, clone);
        let state = State::Calling { future: service.call(request) };
        RetryFuture { shared, service, copy, idempotent, deadline, tries: 1, rng: None, state }
    }
}

pin_project! {
    /// The future of a call through [`Retry`].
    pub struct RetryFuture<S, P, Req>
    where
        S: Service<Req>,
    {
        shared: Arc<Shared<P>>,
        service: S,
        copy: Option<Req>,
        idempotent: bool,
        deadline: Deadline,
        tries: u32,
        // Made for the first retry only: most calls need none.
        rng: Option<Rng>,
        #[pin]
        state: State<S::Future>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<F> {
        Calling { #[pin] future: F },
        Waiting { #[pin] sleep: Sleep },
        Readying,
    }
}

impl<S, P, Req> Future for RetryFuture<S, P, Req>
where
    S: Service<Req>,
    P: Policy<Req, S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                Projected::Calling { future } => {
                    let result = ready!(future.poll(cx));
                    let Some(failure) = this.shared.policy.failure(result.as_ref()) else {
                        return Poll::Ready(result);
                    };
                    let decision = this.shared.options.decide(
                        *this.tries,
                        &failure,
                        this.copy.is_some(),
                        *this.idempotent,
                        *this.deadline,
                        now(),
                        this.rng.get_or_insert_with(Rng::from_entropy),
                        &this.shared.budget,
                    );
                    match decision {
                        Decision::Stop(_) => return Poll::Ready(result),
                        Decision::Again { after } => {
                            this.state.set(State::Waiting { sleep: tokio::time::sleep(after) });
                        }
                    }
                }
                Projected::Waiting { sleep } => {
                    ready!(sleep.poll(cx));
                    this.state.set(State::Readying);
                }
                Projected::Readying => {
                    ready!(this.service.poll_ready(cx))?;
                    // There is a copy, or the decision would have been to stop.
                    let Some(request) = this.copy.take() else { return Poll::Pending };
                    if *this.tries < this.shared.options.retries {
                        *this.copy = this.shared.policy.again(&request);
                    }
                    *this.tries += 1;
                    let future = this.service.call(request);
                    this.state.set(State::Calling { future });
                }
            }
        }
    }
}

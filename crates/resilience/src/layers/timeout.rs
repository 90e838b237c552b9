//! A limit on how long a call takes.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;
use weft_kernel::{Error, Reason, format_duration};

use crate::timeout::Options;

/// Fails a call that takes longer than its time.
#[derive(Clone, Debug)]
pub struct TimeoutLayer {
    span: Option<Duration>,
    reason: Reason,
}

impl TimeoutLayer {
    /// Limits the whole request.
    pub fn request(options: &Options) -> Self {
        Self { span: options.request, reason: Reason::RequestTimeout }
    }

    /// Limits one try; stands inside the [`RetryLayer`](super::RetryLayer).
    pub fn per_try(options: &Options) -> Self {
        Self { span: options.per_try, reason: Reason::TryTimeout }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout { inner, layer: self.clone() }
    }
}

/// A service with a limit on the time of a call; made by [`TimeoutLayer`].
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
    layer: TimeoutLayer,
}

impl<S, Req> Service<Req> for Timeout<S>
where
    S: Service<Req>,
    S::Error: From<Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let TimeoutLayer { span, reason } = self.layer;
        TimeoutFuture {
            future: self.inner.call(request),
            sleep: span.map(tokio::time::sleep),
            span: span.unwrap_or(Duration::MAX),
            reason,
        }
    }
}

pin_project! {
    /// The future of a call through [`Timeout`].
    #[derive(Debug)]
    pub struct TimeoutFuture<F> {
        #[pin]
        future: F,
        #[pin]
        sleep: Option<Sleep>,
        span: Duration,
        reason: Reason,
    }
}

impl<F, Res, E> Future for TimeoutFuture<F>
where
    F: Future<Output = Result<Res, E>>,
    E: From<Error>,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.future.poll(cx) {
            return Poll::Ready(result);
        }
        let Some(sleep) = this.sleep.as_pin_mut() else { return Poll::Pending };
        ready!(sleep.poll(cx));
        let say = format!("no answer within {}", format_duration(*this.span));
        Poll::Ready(Err(Error::new(*this.reason, say).into()))
    }
}

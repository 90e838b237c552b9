//! Calls that are made a second time when the first takes long.

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
use weft_kernel::Tick;

use super::now;
use crate::hedge::Hedger;

/// Makes a slow call a second time and takes the answer that comes first.
#[derive(Clone, Debug)]
pub struct HedgeLayer<A> {
    hedger: Arc<Hedger>,
    again: A,
}

impl<A> HedgeLayer<A> {
    /// Hedges as `hedger` says. `again` gives the request once more, or `None` if it must not be
    /// sent twice.
    pub fn new(hedger: Arc<Hedger>, again: A) -> Self {
        Self { hedger, again }
    }
}

impl<S, A: Clone> Layer<S> for HedgeLayer<A> {
    type Service = Hedge<S, A>;

    fn layer(&self, inner: S) -> Self::Service {
        Hedge { inner, layer: self.clone() }
    }
}

/// A service whose slow calls are hedged; made by [`HedgeLayer`].
#[derive(Clone, Debug)]
pub struct Hedge<S, A> {
    inner: S,
    layer: HedgeLayer<A>,
}

impl<S, A, Req> Service<Req> for Hedge<S, A>
where
    S: Service<Req> + Clone,
    A: Fn(&Req) -> Option<Req> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = HedgeFuture<S, A, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let HedgeLayer { hedger, again } = self.layer.clone();
        hedger.begin();
        let spare = if hedger.max() > 0 {
            hedger.delay().and_then(|delay| Some((delay, again(&request)?)))
        } else {
            None
        };
        let (sleep, copy) = spare.map(|(delay, copy)| (tokio::time::sleep(delay), copy)).unzip();
        let clone = self.inner.clone();
        let mut service = mem::replace(&mut self.inner, clone);
        HedgeFuture {
            first: Some(service.call(request)),
            service,
            again,
            hedger,
            copy,
            sleep,
            sent: 0,
            hedges: Vec::new(),
            started: now(),
        }
    }
}

pin_project! {
    /// The future of a call through [`Hedge`].
    pub struct HedgeFuture<S, A, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        first: Option<S::Future>,
        service: S,
        again: A,
        hedger: Arc<Hedger>,
        copy: Option<Req>,
        #[pin]
        sleep: Option<Sleep>,
        sent: u32,
        hedges: Vec<Pin<Box<Call<S, Req>>>>,
        started: Tick,
    }
}

impl<S, A, Req> Future for HedgeFuture<S, A, Req>
where
    S: Service<Req> + Clone,
    A: Fn(&Req) -> Option<Req>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut failed = None;
        if let Some(first) = this.first.as_mut().as_pin_mut()
            && let Poll::Ready(result) = first.poll(cx)
        {
            this.first.set(None);
            failed = Some(result);
        }
        loop {
            // An answer wins at once; an error waits while another call may still be answered.
            let mut index = 0;
            while index < this.hedges.len() && !matches!(failed, Some(Ok(_))) {
                match this.hedges[index].as_mut().poll(cx) {
                    Poll::Ready(result) => {
                        failed = Some(result);
                        drop(this.hedges.swap_remove(index));
                    }
                    Poll::Pending => index += 1,
                }
            }
            let over = this.first.is_none() && this.hedges.is_empty();
            match failed {
                Some(result) if result.is_ok() || over => {
                    if result.is_ok() {
                        this.hedger.record(now().since(*this.started));
                    }
                    return Poll::Ready(result);
                }
                _ => failed = None,
            }
            let Some(sleep) = this.sleep.as_mut().as_pin_mut() else { return Poll::Pending };
            ready!(sleep.poll(cx));
            this.sleep.set(None);
            let Some(request) = this.copy.take() else { return Poll::Pending };
            if !this.hedger.allow() {
                return Poll::Pending;
            }
            *this.sent += 1;
            if *this.sent < this.hedger.max()
                && let Some(delay) = this.hedger.delay()
            {
                *this.copy = (this.again)(&request);
                this.sleep.set(Some(tokio::time::sleep(delay)));
            }
            let service = this.service.clone();
            this.hedges.push(Box::pin(Call::Readying { held: Some((service, request)) }));
        }
    }
}

pin_project! {
    /// One hedge: the service is asked whether it is ready, then called.
    #[project = Projected]
    enum Call<S, Req>
    where
        S: Service<Req>,
    {
        Readying { held: Option<(S, Req)> },
        Called { #[pin] future: S::Future },
    }
}

impl<S, Req> Future for Call<S, Req>
where
    S: Service<Req>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                Projected::Readying { held } => {
                    let Some((service, _)) = held else { return Poll::Pending };
                    ready!(service.poll_ready(cx))?;
                    let Some((mut service, request)) = held.take() else { return Poll::Pending };
                    let future = service.call(request);
                    self.set(Self::Called { future });
                }
                Projected::Called { future } => return future.poll(cx),
            }
        }
    }
}

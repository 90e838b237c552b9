//! A call that was let through or refused, and of which whoever let it through hears the end.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use weft_kernel::{Error, Tick};

use super::{Judge, now};

/// The permission of one call. Dropped untold, it says nothing of the service.
pub trait Permission {
    /// Tells whether the service did well.
    fn tell(self, good: bool, now: Tick);
}

pin_project! {
    /// The future of a call under a breaker or under adaptive concurrency.
    #[derive(Debug)]
    pub struct JudgedFuture<F, J, P> {
        #[pin]
        state: State<F, J, P>,
    }
}

pin_project! {
    #[project = Projected]
    #[derive(Debug)]
    enum State<F, J, P> {
        Called {
            #[pin]
            future: F,
            permission: Option<P>,
            judge: J,
        },
        Refused { error: Option<Error> },
    }
}

impl<F, J, P> JudgedFuture<F, J, P> {
    pub(super) fn called(future: F, permission: P, judge: J) -> Self {
        Self { state: State::Called { future, permission: Some(permission), judge } }
    }

    pub(super) fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }
}

impl<F, J, P, Res, E> Future for JudgedFuture<F, J, P>
where
    F: Future<Output = Result<Res, E>>,
    E: From<Error>,
    J: Judge<Res, E>,
    P: Permission,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projected::Called { future, permission, judge } => {
                let result = ready!(future.poll(cx));
                if let Some(permission) = permission.take()
                    && let Some(good) = judge.good(result.as_ref())
                {
                    permission.tell(good, now());
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

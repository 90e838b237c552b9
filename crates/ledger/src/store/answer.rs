//! Answers of a store: there at once, or later.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// An answer that may take a while. Dropping it gives up the answer, not what was asked for.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Answer of a store: a future that is ready, which costs no allocation, or one that waits for a disk or a
/// network. Dropping it gives up the answer, not what was asked for.
#[must_use = "an answer may not have been asked for before it is awaited"]
pub struct StoreAnswer<'a, T>(Inner<'a, T>);

enum Inner<'a, T> {
    Ready(Option<T>),
    Later(Pending<'a, T>),
}

impl<'a, T> StoreAnswer<'a, T> {
    /// What is known already.
    pub const fn ready(value: T) -> Self {
        Self(Inner::Ready(Some(value)))
    }

    /// What is waited for.
    pub fn later(answer: impl Future<Output = T> + Send + 'a) -> Self {
        Self(Inner::Later(Box::pin(answer)))
    }
}

// What is known is never pinned: it is moved out.
impl<T> Unpin for StoreAnswer<'_, T> {}

impl<T> Future for StoreAnswer<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut self.get_mut().0 {
            // Polled again after it was ready it is never ready, as the contract of futures allows.
            Inner::Ready(value) => value.take().map_or(Poll::Pending, Poll::Ready),
            Inner::Later(answer) => answer.as_mut().poll(context),
        }
    }
}

impl<T> std::fmt::Debug for StoreAnswer<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Inner::Ready(_) => "StoreAnswer::ready",
            Inner::Later(_) => "StoreAnswer::later",
        })
    }
}

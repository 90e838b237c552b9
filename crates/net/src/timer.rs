//! A timer that is armed rarely: one per connection, shared by all who wait on it.
//!
//! Arming and disarming a timer for each request costs more than the request's own bookkeeping. An
//! timer is left armed for the earliest instant anybody asked for, and when it rings too early it is
//! armed again; a busy connection so touches the timer wheel about once per time limit, not once per
//! request.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::time::Sleep;
use weft_kernel::Tick;

use crate::clock;

/// A timer shared by the waits of one task. Every wait must be polled by that task.
#[derive(Clone, Default)]
pub struct TaskTimer(Rc<RefCell<Option<Pin<Box<Sleep>>>>>);

/// The time had passed before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl TaskTimer {
    /// Ready once `at` has come.
    pub fn poll(&self, cx: &mut Context<'_>, at: Tick) -> Poll<()> {
        if at == Tick::NEVER {
            return Poll::Pending;
        }
        let Some(instant) = clock::instant(at) else {
            return Poll::Pending;
        };
        let mut slot = self.0.borrow_mut();
        let sleep = slot.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(instant)));
        if instant < sleep.deadline() {
            sleep.as_mut().reset(instant);
        }
        loop {
            std::task::ready!(sleep.as_mut().poll(cx));
            if clock::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(instant);
        }
    }

    /// Whether nobody else may wait on it, so that another task can have it.
    pub(crate) fn is_alone(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    /// Waits until `at`.
    pub async fn until(&self, at: Tick) {
        poll_fn(|cx| self.poll(cx, at)).await;
    }

    /// The result of `work`, unless `at` comes first. The work comes pinned: a copy in here would make
    /// the future of the caller twice as large.
    pub async fn within<T>(
        &self,
        at: Tick,
        mut work: impl Future<Output = T> + Unpin,
    ) -> Result<T, Elapsed> {
        poll_fn(|cx| {
            if let Poll::Ready(done) = Pin::new(&mut work).poll(cx) {
                return Poll::Ready(Ok(done));
            }
            self.poll(cx, at).map(|()| Err(Elapsed))
        })
        .await
    }
}

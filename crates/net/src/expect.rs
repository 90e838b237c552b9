//! A request whose sender waits for `100 Continue` (RFC 9110 section 10.1.1), on its way to a service.
//!
//! The service decides: its 100 lets the body come, and its final answer may spare it. One that knows nothing
//! of expectations is not waited for beyond a moment, and nobody is when the client has begun to send: then
//! there is nothing to spare.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use weft_kernel::Tick;
use weft_wire::{Known, RequestHead};

use crate::{body::Body, clock, timer::TaskTimer};

/// Most interim responses before a final one; more is a fault of the service.
pub(crate) const INTERIM_MAX: u32 = 16;
/// How long a service is waited for that says nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether a body waits for the service to want it.
pub(crate) enum Waits {
    No,
    Until(Tick, TaskTimer),
}

impl Waits {
    /// Whether the body of this request waits; what has none does not.
    pub(crate) fn of(head: &RequestHead, is_empty: bool) -> Self {
        if is_empty || !head.fields.has(Known::Expect) {
            return Self::No;
        }
        Self::Until(clock::now().plus(PATIENCE), TaskTimer::default())
    }

    pub(crate) const fn is_waiting(&self) -> bool {
        matches!(self, Self::Until(..))
    }

    /// Ready when the body may go.
    pub(crate) fn poll(&mut self, body: &mut Body, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Until(until, timer) = self {
            if body.poll_begun(cx).is_pending() {
                std::task::ready!(timer.poll(cx, *until));
            }
            *self = Self::No;
        }
        Poll::Ready(())
    }
}

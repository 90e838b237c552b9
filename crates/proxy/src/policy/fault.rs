//! Faults that are injected on purpose: a delay, or a status instead of an answer.

use weft_kernel::{Error, Reason, Result, Retry};

use super::{Flow, Policy, RequestContext, Sides, Stage};
use crate::plan::{Fault, Share};

/// Injects the faults of a route.
pub(crate) struct FaultInjection(pub(crate) Fault);

/// Whether a fault falls on this request.
fn falls(cx: &RequestContext<'_>, share: &Share) -> bool {
    let asked = share.header.as_ref().is_none_or(|(name, value)| {
        cx.head().fields.all_named(name).any(|found| found == value.as_bytes())
    });
    asked && cx.rng().chance(share.share)
}

impl FaultInjection {
    fn abort(&self, cx: &mut RequestContext<'_>) -> Result<()> {
        if let Some((status, share)) = &self.0.abort
            && falls(cx, share)
        {
            cx.exchange.record.forced_status = Some(*status);
            return Err(Error::new(Reason::FaultInjected, "a fault was injected").retry(Retry::No));
        }
        Ok(())
    }
}

impl Policy for FaultInjection {
    fn stage(&self) -> Stage {
        Stage::Fault
    }

    fn sides(&self) -> Sides {
        Sides { request: true, ..Sides::default() }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        if let Some((span, share)) = &self.0.delay
            && falls(cx, share)
        {
            return Flow::wait(async move {
                cx.wait(cx.now().plus(*span)).await?;
                self.abort(cx).map(|()| None)
            });
        }
        match self.abort(cx) {
            Ok(()) => Flow::Next,
            Err(error) => Flow::Refuse(error),
        }
    }
}

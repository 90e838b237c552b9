//! The bound of the request body: refused at once if it says that it is longer, else when it turns out
//! to be.

use super::{Flow, Policy, RequestContext, Sides, Stage};

/// Bounds the request body of a route, in bytes.
pub(crate) struct BodyLimit(pub(crate) u64);

impl Policy for BodyLimit {
    fn stage(&self) -> Stage {
        Stage::BodyLimit
    }

    fn sides(&self) -> Sides {
        Sides { body: true, ..Sides::default() }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        match cx.limit_body(self.0) {
            Ok(()) => Flow::Next,
            Err(error) => Flow::Refuse(error),
        }
    }
}

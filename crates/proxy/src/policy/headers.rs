//! Changes of the fields of request and response, as the configuration says them.

use std::sync::Arc;

use super::{Flow, OutgoingContext, Policy, ResponseContext, Sides, Stage};
use crate::{plan, route::apply};

/// Changes fields: of the request for whoever is asked, and of the response whoever has given it.
pub(crate) struct HeaderChanges(pub(crate) Arc<plan::RoutePolicies>);

impl Policy for HeaderChanges {
    fn stage(&self) -> Stage {
        Stage::Transform
    }

    fn sides(&self) -> Sides {
        Sides {
            outgoing: !self.0.request_headers.is_empty(),
            response: !self.0.response_headers.is_empty(),
            ..Sides::default()
        }
    }

    fn outgoing(&self, cx: &mut OutgoingContext<'_>) {
        apply(&self.0.request_headers, &mut cx.head_mut().fields);
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        apply(&self.0.response_headers, &mut cx.head_mut().fields);
        Flow::Next
    }
}

//! Changes of the fields of request and response, as the configuration says them.

use std::sync::Arc;

use weft_wire::{Fields, fields::is_alike};

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
        // What is taken off is taken off under every name that a service might read as it.
        apply(&self.0.request_headers, &mut cx.head_mut().fields, Fields::remove_alike);
    }

    fn takes_off(&self, name: &str) -> bool {
        let ops = &self.0.request_headers;
        let set = ops.set.iter().map(|(name, _)| name);
        ops.remove.iter().chain(set).any(|of| is_alike(of, name))
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        apply(&self.0.response_headers, &mut cx.head_mut().fields, Fields::remove_named);
        Flow::Next
    }
}

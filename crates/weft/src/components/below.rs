//! APIs that routes offer below a path (`streams`, `schemas`, `projections`): the key of a route, and who has it.

use weft_broker_http::ApiPath;
use weft_proxy::plan::{Binding, Target};

use crate::config::{
    catalogue::{Bound, Sections},
    setting::{At, Cx, Setting as _},
    text::PlainPath,
    tree::Node,
};

/// The target of a route whose key has a path, below which a handler offers its API.
pub(super) fn target(handler: &'static str, node: &Node, cx: &mut Cx) -> Option<Bound> {
    let path = At::<PlainPath>::read(node, cx)?;
    let prefix = path.value.0.trim_end_matches('/').to_owned();
    let binding = Binding::new(handler, ApiPath { handler, prefix });
    Some(Bound { binding, place: path.place })
}

/// Whether a route leads to one of these handlers.
pub(super) fn is_offered(said: &Sections<'_>, handlers: &[&str]) -> bool {
    said.proxy.routes.iter().any(|route| {
        matches!(&route.target, Target::Local(binding) if handlers.contains(&binding.handler))
    })
}

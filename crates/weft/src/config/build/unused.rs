//! What stands in the configuration and has no part in anything.

use std::{collections::HashSet, sync::Arc};

use weft_kernel::Name;
use weft_proxy::plan::Route;

use crate::config::{
    merge::Read, problem::Problem, routes::Built, sections::listener::Protocol, setting::Cx,
};

/// Reports services, policies and listeners that nothing refers to; `internal` are the routes that components
/// have to services that their sections name.
pub(super) fn check(read: &Read, routes: &[Built], internal: &[Arc<Route>], cx: &mut Cx) {
    let mut services: HashSet<&str> = HashSet::new();
    let mut policies: HashSet<&str> = HashSet::new();
    let mut everywhere = false;
    let mut listeners: HashSet<&str> = HashSet::new();
    for Built { item, .. } in routes {
        services.extend(item.plan.services().map(Name::as_str));
        policies.extend(item.policies.iter().map(Name::as_str));
        listeners.extend(item.plan.listeners.iter().map(Name::as_str));
        everywhere |= item.plan.listeners.is_empty();
    }
    for (_, listener) in &read.listeners {
        let sni = listener.sni.0.iter().map(|(_, to)| to);
        let to = listener.to.iter().map(|to| &to.value);
        for target in sni.chain(to).flat_map(|to| to.iter()) {
            services.insert(target.service.as_str());
        }
    }
    for route in internal {
        services.extend(route.services().map(Name::as_str));
    }
    let mut unused: Vec<Problem> = Vec::new();
    let names = &read.names;
    for (name, place) in names.services.iter().filter(|(name, _)| !services.contains(name)) {
        unused.push(Problem::warning(place, format!("nothing leads to the service `{name}`")));
    }
    for (name, place) in names.policies.iter().filter(|(name, _)| !policies.contains(name)) {
        unused.push(Problem::warning(place, format!("no route uses the policy `{name}`")));
    }
    for (name, listener) in &read.listeners {
        let http = listener.protocol.value == Protocol::Http;
        if http && !everywhere && !listeners.contains(name.as_str()) {
            unused.push(Problem::warning(
                name.place,
                format!("no route is offered on the listener `{}`", name.value),
            ));
        }
    }
    // A route that could not be read may use any of them, so nothing is said until all can be.
    let broken = cx
        .problems
        .iter()
        .any(|problem| problem.severity == crate::config::problem::Severity::Error);
    if !broken {
        cx.problems.extend(unused);
    }
}

//! What stands in the configuration and has no part in anything.

use std::collections::HashSet;

use super::route;
use crate::config::{merge::Read, problem::Problem, sections::listener::Protocol, setting::Cx};

pub(super) fn check(read: &Read, cx: &mut Cx) {
    let mut services: HashSet<&str> = HashSet::new();
    let mut policies: HashSet<&str> = HashSet::new();
    let mut everywhere = false;
    let mut listeners: HashSet<&str> = HashSet::new();
    for (section, policy) in &read.routes {
        services.extend(route::services(section, policy).map(|name| name.as_str()));
        policies.extend(section.policies.iter().map(|name| name.as_str()));
        listeners.extend(section.listeners.iter().map(|name| name.as_str()));
        everywhere |= section.listeners.is_empty();
    }
    for (_, listener) in &read.listeners {
        let sni = listener.sni.0.iter().map(|(_, to)| to);
        let to = listener.to.iter().map(|to| &to.value);
        for target in sni.chain(to).flat_map(|to| to.iter()) {
            services.insert(target.service.as_str());
        }
    }
    let mut unused: Vec<Problem> = Vec::new();
    let names = &read.names;
    for (name, place) in names.services.iter().filter(|(name, _)| !services.contains(&***name)) {
        unused.push(Problem::warning(*place, format!("nothing leads to the service `{name}`")));
    }
    for (name, place) in names.policies.iter().filter(|(name, _)| !policies.contains(&***name)) {
        unused.push(Problem::warning(*place, format!("no route uses the policy `{name}`")));
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

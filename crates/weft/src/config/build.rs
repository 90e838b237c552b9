//! From sections to the plan: references are resolved, what cannot work together is refused.
//!
//! Everything that is wrong is reported before anything is given up, so a part that cannot be built
//! is left out and the rest goes on.

mod listener;
mod policy;
mod route;
mod service;
mod shadow;
mod telemetry;
mod tls;
mod unused;

use std::collections::HashMap;

pub(super) use tls::Tls;

use weft_kernel::Name;
use weft_proxy::plan::{Host, Weighted};

use super::{
    merge::{Names, Read},
    plan::Plan,
    problem::Problem,
    sections::{listener::Protocol, target},
    setting::{At, Cx},
};

/// Builds the plan; with errors in `cx` it is incomplete and must not be used.
pub(super) fn plan(read: &Read, tls: &mut Tls, cx: &mut Cx) -> Plan {
    let protocols: HashMap<&str, Protocol> = read
        .listeners
        .iter()
        .map(|(name, listener)| (name.as_str(), listener.protocol.value))
        .collect();
    let mut proxy = weft_proxy::plan::Plan::default();
    let mut sockets = Vec::new();
    listener::distinct(&read.listeners, cx);
    for (name, section) in &read.listeners {
        let (listener, socket) = listener::build(name, section, &read.names, cx);
        proxy.listeners.push(listener);
        sockets.push(socket);
    }
    for (name, section) in &read.services {
        proxy.services.extend(service::build(name, section, tls, cx));
    }
    for (route, policy) in &read.routes {
        proxy.routes.extend(route::build(route, policy, &read.names, &protocols, cx));
    }
    shadow::check(&read.routes, &proxy.routes, cx);
    unused::check(read, cx);
    Plan {
        proxy,
        sockets,
        telemetry: telemetry::telemetry(read.telemetry.as_ref()),
        admin: telemetry::admin(read.admin.as_ref(), cx),
    }
}

/// Reports a service that is not there.
fn known_service(name: &At<Name>, names: &Names, cx: &mut Cx) {
    if !names.services.contains_key(name.as_str()) {
        cx.report(
            Problem::error(name.place, format!("there is no service `{}`", name.value))
                .near(name.as_str(), names.services.keys().map(|name| &**name)),
        );
    }
}

/// Services with their shares.
fn targets(targets: &target::Targets, names: &Names, cx: &mut Cx) -> Vec<Weighted> {
    for target in targets.iter() {
        known_service(&target.service, names, cx);
    }
    if targets.iter().all(|target| target.weight.0 == 0)
        && let Some(first) = targets.first()
    {
        cx.report(Problem::error(first.place, "all weights are 0, so nothing is led anywhere"));
    }
    targets
        .iter()
        .map(|target| Weighted {
            service: target.service.value.clone(),
            weight: target.weight.u32(),
        })
        .collect()
}

/// Hosts to match; none for any.
fn hosts(patterns: &[super::text::HostPattern]) -> Vec<Host> {
    if patterns.iter().any(|pattern| pattern.0.is_none()) {
        return Vec::new();
    }
    patterns.iter().filter_map(|pattern| pattern.0.clone()).collect()
}

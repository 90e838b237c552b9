//! From sections to the plan: references are resolved, what cannot work together is refused.
//!
//! Everything that is wrong is reported before anything is given up, so a part that cannot be built
//! is left out and the rest goes on.

mod admin;
mod listener;
mod policy;
mod route;
mod service;
mod shadow;
mod tls;
mod unused;

use std::{collections::HashMap, sync::Arc};

pub(super) use policy::build as policy;
pub(super) use route::build as route;
pub(super) use tls::Tls;

use weft_kernel::Name;
use weft_proxy::plan::{Host, RoutePolicies, Weighted};

use super::{
    catalogue::{Catalogue, Checked, Internal, Sections},
    kept::{Placed, Standing},
    merge::{Names, Read},
    plan::Plan,
    problem::Problem,
    remembered::Remembered,
    routes::{self, Around, Built},
    sections::{listener::Protocol, target},
    setting::{At, Cx},
    source::Place,
    tree::Node,
};

/// Builds the plan, and tells what each route came to; with errors in `cx` it is incomplete and must not
/// be used. `None` if a route that was kept must be read again.
pub(super) fn plan(
    root: &Node,
    read: &Read,
    catalogue: &'static Catalogue,
    (kept, remembered, standing): (Vec<Placed>, &Remembered, &Standing),
    tls: &mut Tls,
    cx: &mut Cx,
) -> Option<(Plan, Vec<Built>)> {
    let protocols: HashMap<&str, Protocol> = read
        .listeners
        .iter()
        .map(|(name, listener)| (name.as_str(), listener.protocol.value))
        .collect();
    let mut proxy = weft_proxy::plan::Plan::default();
    let mut sockets = Vec::new();
    let admin = admin::build(read.admin.as_ref(), cx);
    let at = read.admin.as_ref().map_or(Place::BUILT_IN, |(_, place)| *place);
    listener::distinct(&read.listeners, admin.as_ref().map(|admin| (&admin.listen, at)), cx);
    for (name, section) in &read.listeners {
        let (listener, socket) = listener::build(name, section, &read.names, cx);
        proxy.listeners.push(listener);
        sockets.push(socket);
    }
    for (name, section) in &read.services {
        proxy.services.extend(service::build(name, section, tls, cx));
    }
    let around = Around { names: &read.names, protocols: &protocols, catalogue };
    let routes = routes::read(root, kept, around, cx)?;
    proxy.routes = routes.iter().map(|route| Arc::clone(&route.item.plan)).collect();
    shadow::check(&routes, cx);
    let mut sections = Sections::new(root, &read.names, &proxy, (remembered, standing));
    let parts = catalogue.build(&mut sections, cx);
    let Sections { added: Internal { named, mut unnamed }, everywhere, .. } = sections;
    proxy.routes.extend(named.iter().map(Arc::clone));
    bind(&everywhere, proxy.routes.iter_mut().chain(&mut unnamed));
    let plan = Plan { proxy, sockets, admin, parts, unnamed };
    catalogue.check(&Checked { plan: &plan, root, built: &routes }, cx);
    unused::check(read, &routes, &named, cx);
    Some((plan, routes))
}

/// Binds routes to policies that all of them have. Routes that share their policies share them still.
fn bind<'a>(
    to: &[weft_proxy::plan::Binding],
    routes: impl Iterator<Item = &'a mut Arc<weft_proxy::plan::Route>>,
) {
    if to.is_empty() {
        return;
    }
    let mut bound: HashMap<*const RoutePolicies, Arc<RoutePolicies>> = HashMap::new();
    for route in routes {
        let policy = bound.entry(Arc::as_ptr(&route.policy)).or_insert_with(|| {
            let mut policy = RoutePolicies::clone(&route.policy);
            policy.policies.extend_from_slice(to);
            Arc::new(policy)
        });
        let policy = Arc::clone(policy);
        Arc::make_mut(route).policy = policy;
    }
}

/// Reports a service that is not there.
fn known_service(name: &At<Name>, names: &Names, cx: &mut Cx) {
    names.services.require("service", name.as_str(), name.place, cx);
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

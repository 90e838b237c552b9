//! One immutable view of what the request path is to do: a [`Plan`] compiled.
//!
//! A reload compiles a new snapshot beside the running one and swaps a pointer. A request finishes on the
//! snapshot with which it began, because it holds it. Routes and services that a reload does not touch are
//! shared by both, so that a snapshot that is held for long holds little.

use std::{collections::HashMap, sync::Arc};

use weft_discovery::services::Prepared;
use weft_kernel::{Name, Tick};
use weft_telemetry::metrics;

use crate::{
    handler::Handlers,
    listener::Listener,
    plan::{self, Plan},
    route::Route,
    router::{CompileError, Table},
    upstream::Upstream,
    worker_client::LISTENER,
};

/// A compiled plan.
pub struct Snapshot {
    /// Counts reloads.
    pub generation: u64,
    /// The listeners, by name.
    pub listeners: HashMap<Name, Arc<Listener>>,
    /// The routes, in the order of the configuration.
    pub routes: Vec<Arc<Route>>,
    /// The services, by name.
    pub services: HashMap<Name, Arc<Upstream>>,
    /// Where the routes are by which requests may begin inside Weft.
    origins: HashMap<Name, u32>,
}

/// What is wrong with a plan.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {what}")]
pub struct PlanError {
    /// The part of the plan.
    pub place: String,
    /// What is wrong with it.
    pub what: String,
}

impl Snapshot {
    /// Compiles a plan; `discovered` holds all of its services, and `handlers` what in the node its routes
    /// and listeners name. Nothing that is in force is changed.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn compile(
        plan: &Plan,
        discovered: &Prepared,
        handlers: &Handlers,
        metrics: &metrics::Registry,
        before: Option<&Self>,
        now: Tick,
    ) -> Result<Self, Vec<PlanError>> {
        let mut errors = Vec::new();
        let mut services = HashMap::with_capacity(plan.services.len());
        for service in &plan.services {
            let name = &service.discovery.name;
            let Some(discovered) = discovered.get(name.as_str()) else {
                errors.push(PlanError {
                    place: format!("service {name}"),
                    what: "discovery does not know it".into(),
                });
                continue;
            };
            let known = before.and_then(|before| before.services.get(name));
            if let Some(known) = known.filter(|known| known.is_still(service, discovered)) {
                services.insert(name.clone(), Arc::clone(known));
                continue;
            }
            let meter = metrics.service(name.as_str());
            let discovered = Arc::clone(discovered);
            match Upstream::new(service, discovered, meter, known.map(|known| &**known), now) {
                Ok(upstream) => {
                    services.insert(name.clone(), Arc::new(upstream));
                }
                Err(what) => errors.push(PlanError { place: format!("service {name}"), what }),
            }
        }
        let known: HashMap<&Name, &Arc<Route>> = before
            .into_iter()
            .flat_map(|before| &before.routes)
            .map(|route| (&route.name, route))
            .collect();
        let mut routes = Vec::with_capacity(plan.routes.len());
        for route in &plan.routes {
            let known = known.get(&route.name).copied();
            if let Some(known) = known.filter(|known| known.is_still(route, &services)) {
                routes.push(Arc::clone(known));
                continue;
            }
            let meter = metrics.route(route.name.as_str());
            match Route::compile(route, &services, handlers, meter, known.map(|known| &**known)) {
                Ok(compiled) => routes.push(Arc::new(compiled)),
                Err(what) => {
                    errors.push(PlanError { place: format!("route {}", route.name), what })
                }
            }
        }
        let mut listeners = HashMap::with_capacity(plan.listeners.len());
        // Most often every listener offers every route: those that offer the same share a table.
        let mut tables: HashMap<Vec<u32>, Arc<Table>> = HashMap::new();
        for listener in &plan.listeners {
            let numbered = (0..).zip(&plan.routes);
            let own = numbered.filter(|(_, route)| {
                !route.is_internal
                    && (route.listeners.is_empty() || route.listeners.contains(&listener.name))
            });
            let own: Vec<u32> = own.map(|(index, _)| index).collect();
            let known = tables.get(&own).cloned();
            let routes = own.iter().map(|index| (*index, &plan.routes[*index as usize]));
            let table = match known.map_or_else(|| Table::compile(routes).map(Arc::new), Ok) {
                Ok(table) => table,
                Err(failed) => {
                    errors.extend(failed.into_iter().map(|error: CompileError| PlanError {
                        place: format!("route {}", error.route),
                        what: error.what,
                    }));
                    continue;
                }
            };
            tables.insert(own, Arc::clone(&table));
            match Listener::compile(listener, table, &services, handlers, metrics) {
                Ok(compiled) => {
                    listeners.insert(listener.name.clone(), Arc::new(compiled));
                }
                Err(what) => {
                    errors.push(PlanError { place: format!("listener {}", listener.name), what })
                }
            }
        }
        let origins: HashMap<Name, u32> = (0..)
            .zip(&routes)
            .filter(|(_, route)| route.plan.is_internal || route.policies.begin_requests)
            .map(|(index, route)| (route.name.clone(), index))
            .collect();
        if !origins.is_empty() {
            match internal(&services, metrics) {
                Ok(internal) => {
                    listeners.entry(internal.name.clone()).or_insert_with(|| Arc::new(internal));
                }
                Err(what) => errors.push(PlanError { place: format!("listener {LISTENER}"), what }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let generation = before.map_or(1, |before| before.generation + 1);
        Ok(Self { generation, listeners, routes, services, origins })
    }

    /// A route by which requests may begin inside Weft.
    pub fn route(&self, name: &Name) -> Option<&Arc<Route>> {
        self.routes.get(*self.origins.get(name)? as usize)
    }
}

/// What requests that begin inside Weft belong to: a listener without a socket, and without routes, since
/// each of them names its own.
fn internal(
    services: &HashMap<Name, Arc<Upstream>>,
    metrics: &metrics::Registry,
) -> Result<Listener, String> {
    let plan = plan::Listener {
        name: Name::new(LISTENER).map_err(|error| error.to_string())?,
        protocol: plan::Protocol::Http,
        http: plan::Http::default(),
    };
    let table = Table::compile(std::iter::empty::<(u32, &Arc<plan::Route>)>())
        .map_err(|_none| "no table".to_owned())?;
    Listener::compile(&plan, Arc::new(table), services, &Handlers::default(), metrics)
}

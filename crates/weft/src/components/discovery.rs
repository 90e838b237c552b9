//! Discovery as a component: the services that the request path balances over.

pub mod api;
pub mod view;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use weft_api::Row;
use weft_discovery::{
    Endpoint, Services, endpoint::Verdict, health::NetProbe, services::Prepared, source::State,
};
use weft_kernel::{Rng, SystemClock, Tick};
use weft_net::Stop;
use weft_proxy::plan::Service;
use weft_telemetry::metrics::{Metric, Writer};

use crate::{
    cli,
    component::{Component, Host, Noun},
    config::Plan,
    node::{Node, STATES, state_of},
};

/// The services of a node.
pub struct Discovery {
    /// All of them; the node lets go of those that no snapshot names any more.
    pub services: Arc<Services>,
}

impl Component for Discovery {
    type Plan = Vec<Service>;
    type Ready = Prepared;
    type Fixed = ();
    type Locals = ();
    type Api = api::Seen;
    type Noun = Nouns;

    /// Services stand in the request path, which has their other half.
    fn plan(plan: &Plan) -> Option<&Vec<Service>> {
        Some(&plan.proxy.services)
    }

    async fn open(_plan: &Vec<Service>, host: &Host, (): &()) -> anyhow::Result<Self> {
        let (lookup, probe) = (Arc::new(host.dns.clone()), Arc::new(NetProbe));
        let services = Services::new(Arc::new(SystemClock), lookup, probe, Rng::from_entropy());
        Ok(Self { services: Arc::new(services) })
    }

    fn fixed(_plan: Option<&Vec<Service>>) {}

    fn awaits_restart(_fixed: &(), _plan: Option<&Vec<Service>>) -> Vec<&'static str> {
        Vec::new()
    }

    async fn prepare(&self, plan: Option<&Vec<Service>>) -> Result<Prepared, Vec<String>> {
        let services = plan.into_iter().flatten().map(|service| service.discovery.clone());
        Ok(self.services.prepare(services.collect()))
    }

    async fn commit(&self, ready: Prepared) {
        self.services.commit(ready, SystemClock::tick());
    }

    async fn run(self: Arc<Self>, stop: Stop) {
        self.services.run(stop.closed()).await;
    }

    fn operations() -> &'static [Row<api::Seen>] {
        api::OPERATIONS
    }

    fn api(self: &Arc<Self>, node: &Arc<Node>) -> api::Seen {
        api::Seen { services: self.services.clone(), node: node.clone() }
    }

    fn measure(&self, to: &mut Writer) {
        let now = SystemClock::tick();
        for service in self.services.services() {
            let name = service.name().as_str();
            let set = service.set();
            let mut states: BTreeMap<&str, u32> = STATES.map(|state| (state, 0)).into();
            let mut endpoints: BTreeMap<Arc<str>, Gauges> = BTreeMap::new();
            for member in set.members() {
                let endpoint = &member.endpoint;
                *states.entry(state_of(endpoint, now)).or_default() += 1;
                let gauges = Gauges::of(endpoint, member.weight, now);
                match endpoints.get_mut(endpoint.label()) {
                    Some(there) => there.merge(&gauges),
                    None => {
                        endpoints.insert(Arc::clone(endpoint.label()), gauges);
                    }
                }
            }
            let active: u32 = endpoints.values().map(|gauges| gauges.active).sum();
            to.gauge(Metric::ClientActive, &[("weft_service", name)], f64::from(active));
            for (state, count) in states {
                let labels = [("weft_service", name), ("state", state)];
                to.gauge(Metric::ServiceEndpoints, &labels, f64::from(count));
            }
            for (label, gauges) in &endpoints {
                let labels = [("weft_service", name), ("endpoint", &**label)];
                to.gauge(Metric::EndpointHealthy, &labels, f64::from(u8::from(gauges.healthy)));
                to.gauge(Metric::EndpointEjected, &labels, f64::from(u8::from(gauges.ejected)));
                to.gauge(Metric::EndpointActive, &labels, f64::from(gauges.active));
                to.gauge(Metric::EndpointLatency, &labels, gauges.latency.as_secs_f64());
                to.gauge(Metric::EndpointWeight, &labels, f64::from(gauges.weight));
            }
        }
        // Those that a file tells of are not bounded by the configuration.
        for source in self.services.sources().iter().filter(|source| !source.nested) {
            let labels = [("kind", &*source.kind), ("source", &*source.name)];
            let fresh = f64::from(u8::from(source.state == State::Fresh));
            to.gauge(Metric::SourceFresh, &labels, fresh);
            to.gauge(Metric::SourceEndpoints, &labels, source.endpoints as f64);
        }
    }
}

/// Its nouns.
#[derive(Debug, clap::Subcommand)]
pub enum Nouns {
    /// The noun of services.
    #[command(about = api::SERVICE.title())]
    Service(cli::service::Service),
}

impl Noun for Nouns {
    fn run(self) -> anyhow::Result<std::process::ExitCode> {
        match self {
            Self::Service(service) => service.run(),
        }
    }
}

/// The gauges of all endpoints of one service that share an address.
#[derive(Debug)]
struct Gauges {
    healthy: bool,
    ejected: bool,
    active: u32,
    latency: Duration,
    weight: u32,
}

impl Gauges {
    fn of(endpoint: &Endpoint, weight: u32, now: Tick) -> Self {
        Self {
            healthy: endpoint.verdict() != Verdict::Unhealthy,
            ejected: endpoint.is_ejected(),
            active: endpoint.active(),
            latency: endpoint.latency(now),
            weight,
        }
    }

    /// One address may stand for two host names or zones; a series must stand once.
    fn merge(&mut self, other: &Self) {
        self.healthy &= other.healthy;
        self.ejected |= other.ejected;
        self.active = self.active.saturating_add(other.active);
        self.latency = self.latency.max(other.latency);
        self.weight = self.weight.saturating_add(other.weight);
    }
}

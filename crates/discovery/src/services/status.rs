//! What people and metrics are shown: plain copies of the state at one time.

use std::{sync::Arc, time::Duration};

use weft_kernel::{Name, Tick};
use weft_net::Address;

use super::{Inner, Services, sources::Share};
use crate::{
    endpoint::Verdict,
    service::Service,
    set::Member,
    source::{Metadata, State},
};

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceStatus {
    /// Its name.
    pub name: Name,
    /// The word of its algorithm.
    pub algorithm: &'static str,
    /// Whether so few endpoints are well that verdicts are not believed.
    pub panicking: bool,
    /// Picks that found nobody.
    pub refused: u64,
    /// Its endpoints.
    pub endpoints: Vec<EndpointStatus>,
    /// Its sources, but for the addresses of the configuration.
    pub sources: Vec<SourceStatus>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointStatus {
    /// Its number, by which it is drained.
    pub id: u64,
    /// Where it listens.
    pub address: Address,
    /// The name it was resolved from.
    pub hostname: Option<Arc<str>>,
    /// The zone it stands in.
    pub zone: Option<Arc<str>>,
    /// Its weight.
    pub weight: u32,
    /// Its tier.
    pub priority: u16,
    /// What its source says of it beside.
    pub metadata: Arc<Metadata>,
    /// Requests in flight.
    pub active: u32,
    /// Requests ever begun.
    pub requests: u64,
    /// Requests that failed.
    pub failures: u64,
    /// The latency that is expected of it.
    pub latency: Duration,
    /// Whether an operator took it out of service.
    pub drained: bool,
    /// Whether its breaker took it out.
    pub ejected: bool,
    /// How long ago it came.
    pub age: Duration,
    /// What active checks say.
    pub verdict: Verdict,
    /// The last check, if there was one.
    pub check: Option<CheckStatus>,
}

/// The last check of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckStatus {
    /// How long ago it ended.
    pub ago: Duration,
    /// What it found.
    pub detail: String,
    /// How long the verdict has stood.
    pub verdict_age: Option<Duration>,
    /// How many checks were made.
    pub checks: u64,
    /// How many of them failed.
    pub failures: u64,
}

/// A source of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// The word of its kind: `dns`, `file`.
    pub kind: String,
    /// Its name, as it was configured.
    pub name: String,
    /// Whether another source told of it, and not the configuration.
    pub nested: bool,
    /// How far its endpoints can be trusted.
    pub state: State,
    /// How many endpoints stand.
    pub endpoints: usize,
    /// How long ago the last set came.
    pub pushed: Option<Duration>,
    /// How long it has failed, if it does.
    pub failing: Option<Duration>,
    /// Why it fails, if it does.
    pub error: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// When it tries next, if it knows.
    pub next: Option<Duration>,
}

impl Services {
    /// The state of every service, by name.
    pub fn status(&self) -> Vec<ServiceStatus> {
        let now = self.clock.now();
        let services = self.services.load_full();
        let inner = self.inner();
        services.values().map(|service| of_service(service, &inner, now)).collect()
    }

    /// The state of every source, but for the addresses of the configuration, by kind and name.
    pub fn sources(&self) -> Vec<SourceStatus> {
        let now = self.clock.now();
        let mut all = self.inner().sources.status(now);
        all.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
        all
    }

    /// The state of one service.
    pub fn status_of(&self, name: &str) -> Option<ServiceStatus> {
        let service = self.get(name)?;
        let now = self.clock.now();
        Some(of_service(&service, &self.inner(), now))
    }
}

fn of_service(service: &Service, inner: &Inner, now: Tick) -> ServiceStatus {
    let options = service.options();
    let set = service.set();
    let shares = inner.sources.shares(&options);
    let of = |share: &Share| inner.sources.status_of(&share.ask, now);
    let sources = shares.iter().filter_map(of).collect();
    ServiceStatus {
        name: service.name().clone(),
        algorithm: options.algorithm.word(),
        panicking: set.panicking(),
        refused: service.refused(),
        endpoints: set.members().iter().map(|member| of_endpoint(member, now)).collect(),
        sources,
    }
}

fn of_endpoint(member: &Member, now: Tick) -> EndpointStatus {
    let endpoint = &member.endpoint;
    let last = endpoint.last_check();
    EndpointStatus {
        id: endpoint.id(),
        address: endpoint.address().clone(),
        hostname: endpoint.hostname().cloned(),
        zone: endpoint.zone().cloned(),
        weight: member.weight,
        priority: member.priority,
        metadata: Arc::clone(&member.metadata),
        active: endpoint.active(),
        requests: endpoint.requests(),
        failures: endpoint.failures(),
        latency: endpoint.latency(now),
        drained: endpoint.is_drained(),
        ejected: endpoint.is_ejected(),
        age: now.since(endpoint.added()),
        verdict: endpoint.verdict(),
        check: last.at.map(|at| CheckStatus {
            ago: now.since(at),
            detail: last.detail,
            verdict_age: last.changed.map(|at| now.since(at)),
            checks: last.checks,
            failures: last.failures,
        }),
    }
}

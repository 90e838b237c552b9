//! A service as requests meet it: its endpoints, its connections' options, and what protects it.
//!
//! An [`Upstream`] outlives a reload when its settings did not change, so that breaker, budget and limiter
//! keep what they have learnt; its endpoints live in discovery and outlive even a change.

use std::sync::Arc;

use rustls_pki_types::ServerName;
use weft_discovery::{Endpoint, Service as Discovered};
use weft_kernel::{Name, Tick};
use weft_net::{
    Address, ClientTls, ConnectTarget,
    pool::{self, Wanted},
};
use weft_resilience::{adaptive, breaker, budget, bulkhead};
use weft_telemetry::metrics::{Count, ServiceMeter};
use weft_wire::{
    h1::HeadLimits,
    proxy_protocol::{Ends, Header, ProxyVersion},
};

use crate::{
    hash::Hasher,
    plan::{self, UpstreamProtocol},
};

/// A service, compiled.
pub struct Upstream {
    /// Its name.
    pub name: Name,
    /// Its endpoints and their balancing.
    pub discovered: Arc<Discovered>,
    /// Its connections.
    pub pool: Arc<pool::Options>,
    /// What a hashing balancer hashes.
    pub(crate) hasher: Hasher,
    /// The service breaker.
    pub breaker: Option<breaker::Breaker>,
    /// Adaptive concurrency.
    pub adaptive: Option<adaptive::Limiter>,
    /// A bound on what is in flight.
    pub bulkhead: Option<bulkhead::Bulkhead>,
    /// The retry budget.
    pub budget: Arc<budget::Budget>,
    /// Its metrics.
    pub meter: Arc<ServiceMeter>,
    tls: Option<Tls>,
    plan: plan::Service,
}

/// A breaker of which the operator hears when it opens and closes.
fn watched(
    options: breaker::Options,
    plan: &plan::Service,
    meter: &Arc<ServiceMeter>,
    now: Tick,
) -> breaker::Breaker {
    /// No worker: a breaker changes on whichever thread ends a call, and seldom.
    const ANYBODY: usize = usize::MAX;
    let (name, meter) = (plan.discovery.name.clone(), meter.clone());
    breaker::Breaker::with_hook(options, now, move |change| match change.to {
        breaker::State::Open => {
            meter.count(ANYBODY, Count::BreakerOpen);
            tracing::warn!(service = %name, cause = ?change.cause, "service breaker opened");
        }
        breaker::State::Closed => {
            tracing::info!(service = %name, cause = ?change.cause, "service breaker closed");
        }
        breaker::State::HalfOpen => {}
    })
}

/// TLS towards a service, once with each offer of ALPN.
struct Tls {
    any: Arc<rustls::ClientConfig>,
    h1: Arc<rustls::ClientConfig>,
    h2: Arc<rustls::ClientConfig>,
}

impl Tls {
    fn new(config: &Arc<rustls::ClientConfig>) -> Self {
        let offering = |protocols: &[&[u8]]| {
            let mut config = rustls::ClientConfig::clone(config);
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        Self {
            any: offering(&[b"h2", b"http/1.1"]),
            h1: offering(&[b"http/1.1"]),
            h2: offering(&[b"h2"]),
        }
    }
}

impl Upstream {
    /// Whether compiling `plan` anew would make just this.
    pub(crate) fn is_still(&self, plan: &plan::Service, discovered: &Arc<Discovered>) -> bool {
        Arc::ptr_eq(&self.discovered, discovered) && self.plan == *plan
    }

    /// Compiles a service; what `before` has learnt is kept where its settings are the same.
    pub(crate) fn new(
        plan: &plan::Service,
        discovered: Arc<Discovered>,
        meter: Arc<ServiceMeter>,
        before: Option<&Self>,
        now: Tick,
    ) -> Result<Self, String> {
        let same = |same: fn(&plan::Service, &plan::Service) -> bool| {
            before.filter(|before| same(&before.plan, plan))
        };
        let head = HeadLimits {
            bytes_max: weft_kernel::limits::HEADER_BYTES_MAX,
            // What services answer is bounded by its bytes; a line has four at least.
            count_max: weft_kernel::limits::HEADER_BYTES_MAX / 4,
        };
        let pool = pool::Options {
            connections_max: plan.pool.connections_max,
            idle_max: plan.pool.idle_max,
            idle_timeout: plan.pool.idle_timeout,
            age_max: plan.pool.age_max,
            requests_max: plan.pool.requests_max,
            streams_max: plan.pool.streams_max,
            head,
        };
        Ok(Self {
            name: plan.discovery.name.clone(),
            discovered,
            pool: Arc::new(pool),
            hasher: Hasher::compile(&plan.hash)?,
            breaker: match same(|a, b| a.breaker == b.breaker) {
                Some(before) => before.breaker.clone(),
                None => plan.breaker.clone().map(|options| watched(options, plan, &meter, now)),
            },
            adaptive: match same(|a, b| a.adaptive == b.adaptive) {
                Some(before) => before.adaptive.clone(),
                None => plan.adaptive.clone().map(adaptive::Limiter::new),
            },
            bulkhead: match same(|a, b| a.bulkhead == b.bulkhead) {
                Some(before) => before.bulkhead.clone(),
                None => plan.bulkhead.clone().map(bulkhead::Bulkhead::new),
            },
            budget: match same(|a, b| a.retry_budget == b.retry_budget) {
                Some(before) => before.budget.clone(),
                None => Arc::new(budget::Budget::new(&plan.retry_budget)),
            },
            meter,
            tls: plan.tls.as_ref().map(|tls| Tls::new(&tls.config)),
            plan: plan.clone(),
        })
    }

    /// Which version of HTTP a request goes by.
    pub(crate) fn wanted(&self, is_grpc: bool, upgrades: bool) -> Wanted {
        match self.plan.protocol {
            _ if upgrades => Wanted::H1,
            UpstreamProtocol::Http2 => Wanted::H2,
            UpstreamProtocol::Auto if is_grpc => Wanted::H2,
            UpstreamProtocol::Auto if self.plan.tls.is_some() => Wanted::Either,
            _ => Wanted::H1,
        }
    }

    /// Whether each connection is opened by a PROXY protocol header, and so belongs to one client.
    pub(crate) fn tells_client(&self) -> bool {
        self.plan.proxy_protocol.is_some()
    }

    /// How an endpoint is connected to; `ends` are told in a PROXY protocol header, if one is wanted.
    pub(crate) fn target(
        &self,
        endpoint: &Endpoint,
        wanted: Wanted,
        ends: Option<Ends>,
    ) -> ConnectTarget {
        let tls = self.tls.as_ref().and_then(|tls| {
            let config = match wanted {
                Wanted::H1 => &tls.h1,
                Wanted::H2 => &tls.h2,
                Wanted::Either => &tls.any,
            };
            Some(ClientTls { config: config.clone(), name: self.server_name(endpoint)? })
        });
        let proxy_header = self.plan.proxy_protocol.map(|version| Header {
            version: match version {
                plan::ProxyHeader::V1 => ProxyVersion::V1,
                plan::ProxyHeader::V2 => ProxyVersion::V2,
            },
            ends,
        });
        ConnectTarget { address: endpoint.address().clone(), tls, proxy_header }
    }

    /// The name that the endpoint's certificate must carry: the configured one, else its host name,
    /// else its address, else the name of the service.
    fn server_name(&self, endpoint: &Endpoint) -> Option<ServerName<'static>> {
        let configured = self.plan.tls.as_ref().and_then(|tls| tls.server_name.clone());
        let name = configured.or_else(|| endpoint.hostname().map(|host| host.to_string()));
        let name = name.unwrap_or_else(|| match endpoint.address() {
            Address::Tcp(address) => address.ip().to_string(),
            Address::Unix(_) => self.name.to_string(),
        });
        ServerName::try_from(name).ok()
    }

    /// The host of an endpoint, as `Host` has it: with the port, but for the usual one of the scheme.
    pub(crate) fn host(&self, endpoint: &Endpoint) -> String {
        let name = endpoint.hostname().map(|name| name.strip_suffix('.').unwrap_or(name));
        let usual = if self.tls.is_some() { 443 } else { 80 };
        match (name, endpoint.address()) {
            (Some(name), Address::Tcp(address)) if address.port() != usual => {
                format!("{name}:{}", address.port())
            }
            (None, Address::Tcp(address)) if address.port() != usual => address.to_string(),
            (None, Address::Tcp(address)) => match address.ip() {
                std::net::IpAddr::V4(ip) => ip.to_string(),
                std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            },
            (Some(name), _) => name.to_owned(),
            (None, Address::Unix(_)) => "localhost".to_owned(),
        }
    }

    /// Whether TLS is spoken to it.
    pub const fn is_secure(&self) -> bool {
        self.tls.is_some()
    }
}

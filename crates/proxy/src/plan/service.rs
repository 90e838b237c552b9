//! Services, as the request path sees them.

use std::{sync::Arc, time::Duration};

use weft_discovery::ServiceOptions;
use weft_resilience::{adaptive, breaker, bulkhead};

/// A service, as the request path sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its endpoints, balancing and health.
    pub discovery: ServiceOptions,
    /// How requests are spoken to it.
    pub protocol: UpstreamProtocol,
    /// TLS towards it.
    pub tls: Option<UpstreamTls>,
    /// Whether a PROXY protocol header opens each connection; such connections serve one client.
    pub proxy_protocol: Option<ProxyHeader>,
    /// Its connections.
    pub pool: Pool,
    /// What a hashing balancer hashes; the first input that a request has decides.
    pub hash: Vec<HashInput>,
    /// The service breaker.
    pub breaker: Option<breaker::Options>,
    /// Adaptive concurrency and load shedding.
    pub adaptive: Option<adaptive::Options>,
    /// A bound on what is in flight.
    pub bulkhead: Option<bulkhead::Options>,
    /// The retry budget, shared by all routes.
    pub retry_budget: weft_resilience::budget::Options,
}

/// How requests are spoken to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1.1, or HTTP/2 where TLS agrees on it; gRPC requests always go by HTTP/2.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, by prior knowledge without TLS.
    Http2,
}

/// TLS towards a service.
#[derive(Clone)]
pub struct UpstreamTls {
    /// How it is verified, and with which client certificate.
    pub config: Arc<rustls::ClientConfig>,
    /// The name that is asked for and verified; the endpoint's host name otherwise.
    pub server_name: Option<String>,
}

impl PartialEq for UpstreamTls {
    /// Whether connections made by one may be used as if made by the other.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.server_name == other.server_name
    }
}

impl std::fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamTls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// Which PROXY protocol header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The text form.
    V1,
    /// The binary form.
    V2,
}

/// The connections to the endpoints of a service; counted per worker and endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Most open connections per endpoint and worker; a request waits for one up to the connect
    /// timeout.
    pub connections_max: usize,
    /// Most idle connections kept per endpoint and worker.
    pub idle_max: usize,
    /// An idle connection is retired after this.
    pub idle_timeout: Duration,
    /// A connection is retired at this age, ± 10 %.
    pub age_max: Option<Duration>,
    /// A connection is retired after this many requests.
    pub requests_max: Option<u64>,
    /// Most concurrent streams on one HTTP/2 connection.
    pub streams_max: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            idle_max: 256,
            idle_timeout: Duration::from_secs(55),
            age_max: None,
            requests_max: None,
            streams_max: 100,
        }
    }
}

/// What a hashing balancer hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashInput {
    /// A header field.
    Header(String),
    /// A cookie that is there.
    Cookie(String),
    /// A cookie that Weft sets when it is missing, so that a client stays with its endpoint.
    StickyCookie {
        /// Its name.
        name: String,
        /// Its `Max-Age`; a session cookie otherwise.
        ttl: Option<Duration>,
        /// Its `Path`.
        path: String,
    },
    /// A query parameter.
    Query(String),
    /// The client's address.
    Address,
    /// The path.
    Path,
}

//! What the request path is told to do: a checked description, still without a socket or a compiled
//! pattern.
//!
//! The configuration above is read into a [`Plan`]; [`Snapshot`](crate::Snapshot) compiles it. Names
//! refer to each other and are resolved by the compiler, which refuses what does not fit.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use weft_discovery::ServiceOptions;
use weft_kernel::{Name, limits};
use weft_resilience::{adaptive, breaker, bulkhead, hedge, retry, timeout};

/// Everything the request path needs to know.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Where requests come in.
    pub listeners: Vec<Listener>,
    /// Where requests are led, in the order of the configuration; a route that a reload did not touch is
    /// the same one.
    pub routes: Vec<Arc<Route>>,
    /// Who answers them.
    pub services: Vec<Service>,
}

/// A listener, as the request path sees it; its socket and its TLS belong to the binary.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name, which routes and telemetry use.
    pub name: Name,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// How HTTP is spoken on it.
    pub http: Http,
}

/// What is spoken on a listener.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// HTTP/1.1, HTTP/2 and what they carry; led by routes.
    Http,
    /// Bytes, relayed to one of these services.
    Tcp(Vec<Weighted>),
    /// TLS that is not terminated here: led by the server name of the handshake.
    TlsPassthrough {
        /// The first pattern that fits decides.
        by_sni: Vec<(Host, Vec<Weighted>)>,
        /// For a name that nothing fits, or none; without it the connection is closed.
        otherwise: Vec<Weighted>,
    },
}

/// How HTTP is spoken on a listener.
#[derive(Clone, Debug)]
pub struct Http {
    /// Largest header section, in bytes; more is refused with 431.
    pub header_bytes_max: usize,
    /// Most header fields; more is refused with 431.
    pub header_count_max: usize,
    /// Most concurrent streams of one HTTP/2 connection.
    pub streams_max: u32,
    /// Most streams a client may reset within 30 s on one HTTP/2 connection; more ends the
    /// connection with GOAWAY (`ENHANCE_YOUR_CALM`).
    pub resets_max: u32,
    /// Time for a whole header section to arrive; then 408.
    pub header_timeout: Duration,
    /// Longest time a kept-alive connection may be without a request.
    pub idle_timeout: Duration,
    /// Longest silence within a body, a stream or a tunnel.
    pub stream_idle_timeout: Duration,
    /// Age after which a connection is ended gracefully, ± 10 %; `None` lets it live.
    pub connection_age: Option<Duration>,
    /// Most connections open at once on this listener; more are closed at once.
    pub connections_max: usize,
    /// How many proxies in front are trusted to have written `X-Forwarded-For` and `Forwarded`.
    pub trusted_hops: usize,
    /// Peers that are trusted as proxies, by address; not together with `trusted_hops`, which then
    /// counts for nothing.
    pub trusted_proxies: Vec<IpNet>,
    /// What is done with an encoded slash or backslash in a path.
    pub encoded_slash: EncodedSlash,
    /// Whether header names with an underscore are let through; they are refused otherwise, since
    /// many servers read them as the name with a hyphen.
    pub underscores: bool,
    /// Whether gRPC-Web requests are translated to gRPC.
    pub grpc_web: bool,
    /// Whether services are told of the client's certificate, in `x-forwarded-client-cert`. That field
    /// is taken off in any case if a client sends it.
    pub forward_client_cert: bool,
    /// Value for the `Via` and `Proxy-Status` fields.
    pub via: String,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            header_bytes_max: limits::HEADER_BYTES_MAX,
            header_count_max: limits::HEADER_COUNT_MAX,
            streams_max: limits::STREAMS_MAX,
            resets_max: 200,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            stream_idle_timeout: Duration::from_secs(300),
            connection_age: None,
            connections_max: 50_000,
            trusted_hops: 0,
            trusted_proxies: Vec::new(),
            encoded_slash: EncodedSlash::Reject,
            underscores: false,
            grpc_web: true,
            forward_client_cert: false,
            via: "weft".into(),
        }
    }
}

/// What is done with `%2f` and `%5c` in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EncodedSlash {
    /// The request is refused with 400.
    #[default]
    Reject,
    /// They stay encoded, and match as ordinary characters.
    Keep,
}

/// A match, its policies and a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name, the `http.route` of telemetry.
    pub name: Name,
    /// The listeners it is offered on; empty for every HTTP listener.
    pub listeners: Vec<Name>,
    /// It fits if any of these does; empty matches all requests.
    pub matches: Vec<Match>,
    /// How requests are treated; routes that say nothing of their own share it.
    pub policy: Arc<Policy>,
    /// How path and host are rewritten.
    pub rewrite: Rewrite,
    /// Where they go.
    pub target: Target,
}

impl Route {
    /// The services that it may send requests to, copies and fallbacks included.
    pub fn services(&self) -> impl Iterator<Item = &Name> {
        let to: &[Weighted] = match &self.target {
            Target::Services(weighted) => weighted,
            Target::Redirect(_) | Target::Respond(_) => &[],
        };
        let mirror = self.policy.mirror.iter().map(|mirror| &mirror.service);
        let fallback = self.policy.fallback.iter().filter_map(|fallback| match &fallback.to {
            FallbackTo::Service(name) => Some(name),
            FallbackTo::Respond(_) => None,
        });
        to.iter().map(|weighted| &weighted.service).chain(mirror).chain(fallback)
    }
}

/// Conditions that must all hold.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Match {
    /// Any of these hosts; empty for every host.
    pub hosts: Vec<Host>,
    /// The path.
    pub path: Path,
    /// Any of these methods, in upper case; empty for every method.
    pub methods: Vec<String>,
    /// All of these header fields.
    pub headers: Vec<Field>,
    /// All of these query parameters.
    pub query: Vec<Field>,
}

/// A host to match, in lower case and without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// This name.
    Exact(String),
    /// `*.example.com`, held as `example.com`: any name with one or more labels before it.
    Wildcard(String),
}

/// A path to match, always the normalised one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Path {
    /// Every path.
    #[default]
    Any,
    /// This path.
    Exact(String),
    /// This path and all below it, by whole segments: `/a` fits `/a` and `/a/b`, not `/ab`.
    Prefix(String),
    /// This regular expression, over the whole path.
    Regex(String),
    /// Segments with captures: `/orders/{id}` and, last, `{*rest}`.
    Template(String),
}

/// A header field or query parameter to match; header names in lower case.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What its value must be.
    pub value: FieldValue,
    /// Whether the condition is turned round.
    pub invert: bool,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// There, with any value.
    Present,
    /// Exactly this.
    Exact(String),
    /// Begins with this.
    Prefix(String),
    /// Fits this regular expression as a whole.
    Regex(String),
}

/// How the requests of a route are treated; the order in which it happens is fixed.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Policy {
    /// Time limits.
    pub timeout: timeout::Options,
    /// Whether and how a failed try is repeated; `None` never repeats.
    pub retry: Option<retry::Options>,
    /// Whether a second try is started beside a slow first one.
    pub hedge: Option<hedge::Options>,
    /// Largest request body in bytes; `None` is unlimited.
    pub body_bytes_max: BodyLimit,
    /// Which requests are given up first under overload.
    pub criticality: CriticalityOf,
    /// A private share of concurrency for this route.
    pub bulkhead: Option<bulkhead::Options>,
    /// Changes to the request head.
    pub request_headers: HeaderOps,
    /// Changes to the response head.
    pub response_headers: HeaderOps,
    /// A share of requests is sent there too; its answers are dropped.
    pub mirror: Option<Mirror>,
    /// Faults that are injected on purpose.
    pub fault: Option<Fault>,
    /// What answers when the target cannot.
    pub fallback: Option<Fallback>,
}

/// The largest request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimit(pub Option<u64>);

impl Default for BodyLimit {
    fn default() -> Self {
        Self(Some(limits::BODY_BYTES_MAX))
    }
}

/// Where the criticality of a request comes from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CriticalityOf {
    /// What it is without a header.
    pub default: adaptive::Criticality,
    /// A header field with `critical`, `default` or `sheddable`, if it is to be trusted.
    pub header: Option<String>,
}

/// Changes to a message head: removed first, then set, then added.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HeaderOps {
    /// Names whose fields are removed.
    pub remove: Vec<String>,
    /// Fields that replace all of their name.
    pub set: Vec<(String, String)>,
    /// Fields that are added to those of their name.
    pub add: Vec<(String, String)>,
}

impl HeaderOps {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// How path and host are rewritten before the request is sent on.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Rewrite {
    /// The path.
    pub path: Option<PathRewrite>,
    /// The host.
    pub host: Option<HostRewrite>,
}

/// How a path is rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// The matched prefix (or the whole path of another kind of match) is replaced by this.
    Prefix(String),
    /// The whole path becomes this.
    Full(String),
    /// Every match of the expression is replaced (`$1`, `${name}`).
    Regex {
        /// The expression.
        pattern: String,
        /// What replaces it.
        replace: String,
    },
    /// A path with the captures of the matched template: `/v2/orders/{id}`.
    Template(String),
}

/// How a host is rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRewrite {
    /// This host.
    Literal(String),
    /// The host name of the chosen endpoint.
    Endpoint,
}

/// A service and its share of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighted {
    /// The service.
    pub service: Name,
    /// Its weight among the others; 0 gets nothing.
    pub weight: u32,
}

/// Where the requests of a route go.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// To one of these services.
    Services(Vec<Weighted>),
    /// Elsewhere, by the client itself.
    Redirect(Redirect),
    /// Nowhere: Weft answers.
    Respond(Respond),
}

/// A redirect; what is `None` stays as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Whether the query is dropped.
    pub strip_query: bool,
}

/// A fixed response.
#[derive(Clone, Debug, PartialEq)]
pub struct Respond {
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Arc<[u8]>,
}

/// A copy of a share of the requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Where copies go.
    pub service: Name,
    /// Their share, 0 to 1.
    pub share: f64,
    /// A request with a longer body is not copied.
    pub body_bytes_max: usize,
}

/// Faults injected on purpose.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Fault {
    /// Waits before the request is handled.
    pub delay: Option<(Duration, Share)>,
    /// Answers with this status instead of handling the request.
    pub abort: Option<(u16, Share)>,
}

/// Which requests a fault is injected into.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The share of requests, 0 to 1.
    pub share: f64,
    /// Only requests that carry this field (name, value).
    pub header: Option<(String, String)>,
}

/// What answers when the target cannot: no endpoint, an open breaker, or one of the statuses.
#[derive(Clone, Debug, PartialEq)]
pub struct Fallback {
    /// Who answers.
    pub to: FallbackTo,
    /// Upstream statuses that count as failure beside Weft's own refusals.
    pub statuses: Vec<u16>,
}

/// Who answers instead.
#[derive(Clone, Debug, PartialEq)]
pub enum FallbackTo {
    /// Another service.
    Service(Name),
    /// A fixed response.
    Respond(Respond),
}

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

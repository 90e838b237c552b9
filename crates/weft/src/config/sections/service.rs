//! What is said about a service.

use std::time::Duration;

use weft_discovery::Location;
use weft_identity::Pem;

use crate::config::{
    leaf::{
        Count, Factor, FilePath, Fraction, InputFile, Int, Many, Number, Pairs, Port, Share, Span,
        Switch,
    },
    sections::{listener::TlsVersion, policy::Bulkhead},
    setting::{At, Cx, Setting, Shape, settings, words},
    text::{
        Authority, CookieName, CookiePath, FieldName, HeaderName, HeaderValue, Method, Statuses,
    },
    tree::{Kind, Node},
};

words! {
    /// Protocol of requests to a service.
    pub enum Protocol {
        /// HTTP/1.1, or HTTP/2 where ALPN agrees on it; gRPC always by HTTP/2
        Auto = "auto",
        /// HTTP/1.1
        Http1 = "http1",
        /// HTTP/2, by prior knowledge without TLS
        Http2 = "http2" | "h2c" | "grpc",
    }

    /// Load balancing.
    pub enum Algorithm {
        /// peak EWMA: of two at random, the one with the lower latency × requests in flight
        PeakEwma = "peak_ewma",
        /// of two at random, the one with fewer requests in flight
        LeastRequest = "least_request",
        /// round robin, by weight
        RoundRobin = "round_robin" | "weighted_round_robin",
        /// at random
        Random = "random",
        /// consistent hashing on a ring
        RingHash = "ring_hash",
        /// consistent hashing in a Maglev table
        Maglev = "maglev",
    }

    /// Version of the PROXY protocol header.
    pub enum ProxyHeader {
        /// version 1, text
        V1 = "v1",
        /// version 2, binary
        V2 = "v2",
    }

    /// Record type.
    pub enum DnsType {
        /// addresses (A and AAAA)
        Host = "host" | "auto",
        /// SRV, which carries port, priority and weight
        Srv = "srv",
    }

    /// Address family of a host's addresses.
    pub enum Family {
        /// IPv4, or IPv6 where there is none
        PreferIpv4 = "prefer_ipv4",
        /// IPv6, or IPv4 where there is none
        PreferIpv6 = "prefer_ipv6",
        /// all addresses of both
        Both = "both",
    }

    /// Mode of a breaker.
    pub enum BreakerMode {
        /// requests are refused while it is open
        Enforce = "enforce",
        /// it counts, and refuses nothing
        MetricsOnly = "metrics_only",
        /// every request is refused
        Isolated = "isolated",
    }

    /// Type of a breaker's sliding window.
    pub enum WindowKind {
        /// the last calls
        Count = "count",
        /// the calls of the last `span`
        Time = "time",
    }
}

settings! {
    /// A named set of running instances.
    pub struct Service = "service" {
        /// Endpoints: `10.0.0.1:80`, `host:80` (resolved by DNS), `srv:_http._tcp.orders.internal`,
        /// `unix:/run/orders.sock`, or `{ file: orders.json }` for a file of endpoints.
        endpoints: Many<Endpoint>,
        /// DNS resolution; with `name`, the service discovers further endpoints by DNS.
        dns: Dns,
        /// Protocol of requests to its endpoints.
        protocol: At<Protocol> = "auto",
        /// TLS to its endpoints; `on` verifies them by the certificate authorities of the system.
        tls: At<Switch<ClientTls>> = "off",
        /// PROXY protocol header at the start of each connection to it.
        proxy_protocol: Switch<ProxyHeader> = "off",
        /// Load balancing.
        balancer: At<Balancer> = "peak_ewma",
        /// Active health checks of each endpoint.
        health: Switch<Health> = "off",
        /// Outlier ejection: an endpoint that fails gets no requests for a while.
        ejection: Switch<Ejection> = "on",
        /// Connection pool.
        pool: Pool,
        /// Circuit breaker of the whole service.
        breaker: Switch<Breaker> = "off",
        /// Adaptive concurrency: the limit of requests in flight follows latency; what exceeds it is
        /// refused.
        concurrency: Switch<Concurrency> = "off",
        /// Bulkhead: a fixed limit of concurrent requests to the service.
        bulkhead: Switch<Bulkhead> = "off",
        /// Retry budget of all routes together.
        retry_budget: RetryBudget,
    }

    /// One endpoint, or a name or a file that gives several.
    pub struct Endpoint = "endpoint", short "address" {
        /// Address: `host:port`, `srv:NAME` or `unix:PATH`.
        address: Option<At<Location>>,
        /// File of endpoints, in Prometheus' `file_sd` format or as Envoy's `ClusterLoadAssignment`, JSON
        /// or YAML. Its changes take effect without a reload.
        file: Option<At<FilePath>>,
        /// Weight relative to the other endpoints.
        weight: Int<1, 1_000_000> = "1",
        /// Zone of the endpoint.
        zone: Option<String>,
        /// Priority: a higher number is used only while no endpoint with a lower one is available.
        priority: Int<0, 65_535> = "0",
    }

    /// DNS resolution.
    pub struct Dns = "dns" {
        /// Name whose records are endpoints of the service.
        name: Option<At<Authority>>,
        /// Port of the endpoints; SRV records carry their own.
        port: Option<Port>,
        /// Record type.
        kind("type"): DnsType = "host",
        /// Address family of a host's addresses.
        family: Family = "prefer_ipv4",
        /// Minimum time for which an answer is cached, whatever its TTL.
        ttl_min: At<Span> = "1s",
        /// Maximum time for which an answer is cached, whatever its TTL.
        ttl_max: Span = "5m",
    }

    /// TLS to a service.
    pub struct ClientTls = "client TLS" {
        /// Files with the trusted certificate authorities; those of the system otherwise.
        ca: Many<InputFile>,
        /// Server name that is sent (SNI) and verified; the endpoint's host name otherwise.
        server_name: Option<Authority>,
        /// Client certificate, for mutual TLS: a path, or PEM text.
        cert: Option<Pem>,
        /// Private key of the client certificate: a path, or PEM text.
        key: Option<Pem>,
        /// Accept any server certificate. Whoever is in between can then read and change everything.
        insecure_skip_verify: At<bool> = "false",
        /// Minimum TLS version.
        min_version: TlsVersion = "1.2",
    }

    /// Load balancing.
    pub struct Balancer = "balancer", short "algorithm" {
        /// Algorithm.
        algorithm: Algorithm = "peak_ewma",
        /// Hash keys of a hashing algorithm; the first that a request has is used.
        hash: Many<Hash>,
        /// Bounded load of a hashing algorithm: an endpoint takes at most this many times its fair share
        /// of the requests in flight; at least 1.
        bounded_load: Option<At<Factor>>,
        /// Slow start: time over which a new or recovered endpoint reaches its weight; `0s` turns it off.
        slow_start: Duration = "30s",
        /// Share of its weight that an endpoint starts with.
        slow_start_min: Share = "0.1",
        /// Panic threshold: below this share of healthy endpoints, health is ignored; 0 turns it off.
        panic_threshold: Share = "0.5",
        /// Share of available endpoints from which the zone of this node is preferred.
        zone_threshold: Share = "0.7",
        /// Minimum size of the ring of `ring_hash`, in points.
        ring_min: Int<1, 8_388_608> = "1024",
        /// Maximum size of the ring of `ring_hash`, in points.
        ring_max: Int<1, 8_388_608> = "8388608",
        /// Size of the table of `maglev`; the next prime is used.
        table: Int<2, 5_000_011> = "65537",
    }

    /// Cookie as a hash key.
    pub struct HashCookie = "hash cookie", short "name" {
        /// Name.
        name: CookieName,
        /// Lifetime of the cookie that Weft sets when it is missing; `0s` for a session cookie.
        ttl: Option<Duration>,
        /// `Path` of the cookie that Weft sets.
        path: CookiePath = "/",
    }

    /// Hash key that has a name.
    pub struct HashForms = "hash" {
        /// Header field.
        header: Option<HeaderName>,
        /// Cookie.
        cookie: Option<HashCookie>,
        /// Query parameter.
        query: Option<String>,
    }

    /// Active health checks of each endpoint; exactly one of `http`, `grpc` and `tcp`.
    pub struct Health = "health" {
        /// HTTP check: a request whose status decides.
        http: Option<HttpCheck>,
        /// gRPC check: `grpc.health.v1.Health/Check`.
        grpc: Option<GrpcCheck>,
        /// TCP check: a connection, over which bytes may be exchanged.
        tcp: Option<TcpCheck>,
        /// Interval between checks of a healthy endpoint.
        interval: At<Span> = "5s",
        /// Interval between checks of an unhealthy endpoint.
        unhealthy_interval: Span = "5s",
        /// Jitter of both intervals, as a share of them either way.
        jitter: Share = "0.15",
        /// Timeout of a check, connecting included.
        timeout: Span = "1s",
        /// Consecutive failures after which an endpoint is unhealthy.
        down: Int<1, 100> = "3",
        /// Consecutive successes after which it is healthy again.
        up: Int<1, 100> = "1",
        /// Port to check, if it is not the endpoint's own.
        port: Option<Port>,
    }

    /// HTTP check.
    pub struct HttpCheck = "http check", short "path" {
        /// Path, with a query if needed.
        path: RequestPath = "/",
        /// Method.
        method: Method = "GET",
        /// Host (`:authority`) of the request; the endpoint's otherwise.
        host: Option<Authority>,
        /// Header fields of the request.
        headers: Pairs<FieldName, HeaderValue>,
        /// Statuses of a healthy endpoint.
        statuses: Many<Statuses> = "[2xx]",
        /// Whether the request is sent by HTTP/2.
        http2: bool = "false",
    }

    /// gRPC check.
    pub struct GrpcCheck = "grpc check", short "service" {
        /// Name of the gRPC service to check; the whole server otherwise.
        service: Option<String>,
        /// `:authority` of the request; the endpoint's otherwise.
        host: Option<Authority>,
    }

    /// TCP check.
    pub struct TcpCheck = "tcp check" {
        /// Bytes that are sent after connecting.
        send: Option<String>,
        /// Bytes that the answer must begin with.
        expect: Option<String>,
    }

    /// Outlier ejection.
    pub struct Ejection = "ejection" {
        /// Consecutive failures after which an endpoint is ejected.
        consecutive: Int<1, 1_000_000> = "5",
        /// Window over which the success ratio is measured.
        window: Span = "30s",
        /// Minimum number of requests in the window for the ratio to count.
        samples_min: Int<1, 1_000_000> = "20",
        /// Success ratio below which an endpoint is ejected.
        success_ratio_min: Share = "0.5",
        /// Duration of the first ejection.
        base: At<Span> = "1s",
        /// Maximum duration of an ejection; it doubles each time.
        max: Span = "60s",
        /// Jitter of the duration, as a share of it.
        jitter: Share = "0.5",
    }

    /// Connection pool of a service; its limits count per worker and endpoint.
    pub struct Pool = "pool" {
        /// Maximum number of open connections per endpoint and worker.
        connections_max: Count = "1024",
        /// Maximum number of idle connections per endpoint and worker.
        idle_max: Number = "256",
        /// Idle timeout of a connection.
        idle_timeout: Span = "55s",
        /// Maximum age of a connection, ± 10 %.
        age_max: Switch<Span> = "off",
        /// Maximum number of requests on a connection.
        requests_max: Switch<Count> = "off",
        /// Maximum number of concurrent streams on an HTTP/2 connection.
        streams_max: Count = "100",
    }

    /// Circuit breaker of a service.
    pub struct Breaker = "breaker" {
        /// Mode.
        mode: BreakerMode = "enforce",
        /// Type of the sliding window.
        window: WindowKind = "count",
        /// Size of a `count` window, in calls.
        calls: Int<1, 65_536> = "100",
        /// Length of a `time` window.
        span: Span = "60s",
        /// Minimum number of calls in the window for a ratio to count.
        calls_min: Int<1, 100_000> = "100",
        /// Failure ratio at which it opens.
        failure_ratio: Share = "0.5",
        /// Ratio of slow calls at which it opens.
        slow_ratio: Share = "1",
        /// Latency from which a call is slow; `off` for none.
        slow_after: Switch<Span> = "off",
        /// Time for which it stays open.
        open: Span = "30s",
        /// Number of trial calls in the half-open state.
        half_open: Int<1, 10_000> = "10",
    }

    /// Adaptive concurrency limit.
    pub struct Concurrency = "concurrency" {
        /// Minimum of the limit.
        min: Count = "3",
        /// Maximum of the limit.
        max: Count = "1000",
        /// Initial limit; kept between `min` and `max`.
        initial: Count = "1000",
        /// Tolerance: how many times the lowest latency seen the mean may be, at least 1; `100ms` above it is
        /// always tolerated.
        tolerance: Fraction<1_000, 1_000_000> = "2",
    }

    /// Retry budget of all routes together.
    pub struct RetryBudget = "retry budget" {
        /// Retries as a share of the requests.
        ratio: Share = "0.2",
        /// Retries per second that are allowed beside that share.
        per_second: Number = "10",
        /// Window over which both are counted.
        window: Span = "10s",
    }
}

/// Hash key.
#[derive(Clone, Debug)]
pub enum Hash {
    /// Header field.
    Header(HeaderName),
    /// Cookie.
    Cookie(HashCookie),
    /// Query parameter.
    Query(String),
    /// Client address.
    Address,
    /// Path.
    Path,
}

impl Setting for Hash {
    fn shape() -> Shape {
        Shape::Either(vec![
            Shape::Words(&[("address", "the client's address"), ("path", "the path")]),
            HashForms::shape(),
        ])
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        if matches!(node.kind, Kind::Map(_)) {
            let forms = HashForms::read(node, cx)?;
            return match (forms.header, forms.cookie, forms.query) {
                (Some(header), None, None) => Some(Self::Header(header)),
                (None, Some(cookie), None) => Some(Self::Cookie(cookie)),
                (None, None, Some(query)) => Some(Self::Query(query)),
                _ => {
                    cx.expected(node, "exactly one of header, cookie, query");
                    None
                }
            };
        }
        match node.text() {
            Some("address") => Some(Self::Address),
            Some("path") => Some(Self::Path),
            _ => {
                cx.expected(node, "`address`, `path`, or a map of header, cookie or query");
                None
            }
        }
    }
}

/// A path with a query, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath(pub String);

impl Setting for RequestPath {
    fn shape() -> Shape {
        Shape::Text { what: "path", pattern: Some("^/") }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = cx.text(node, "a path")?;
        if text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok() {
            return Some(Self(text.to_owned()));
        }
        cx.expected(node, "a path that begins with `/`");
        None
    }
}

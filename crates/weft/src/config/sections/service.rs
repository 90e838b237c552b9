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
    /// How requests are spoken to a service.
    pub enum Protocol {
        /// HTTP/1.1, or HTTP/2 where TLS agrees on it; gRPC always by HTTP/2
        Auto = "auto",
        /// HTTP/1.1
        Http1 = "http1",
        /// HTTP/2, by prior knowledge without TLS
        Http2 = "http2" | "h2c" | "grpc",
    }

    /// How an endpoint is chosen.
    pub enum Algorithm {
        /// of two at random, the one with the lower peak-sensitive latency times what it has in flight
        PeakEwma = "peak_ewma",
        /// of two at random, the one with less in flight
        LeastRequest = "least_request",
        /// in turns
        RoundRobin = "round_robin" | "weighted_round_robin",
        /// at random
        Random = "random",
        /// by a hash of the request, on a ring
        RingHash = "ring_hash",
        /// by a hash of the request, in a table
        Maglev = "maglev",
    }

    /// Which PROXY protocol header is written.
    pub enum ProxyHeader {
        /// the text form
        V1 = "v1",
        /// the binary form
        V2 = "v2",
    }

    /// What is looked up.
    pub enum DnsType {
        /// addresses (A and AAAA)
        Host = "host" | "auto",
        /// SRV, which carries port, priority and weight
        Srv = "srv",
    }

    /// Which addresses of a host are taken.
    pub enum Family {
        /// IPv4, or IPv6 where there is none
        PreferIpv4 = "prefer_ipv4",
        /// IPv6, or IPv4 where there is none
        PreferIpv6 = "prefer_ipv6",
        /// each of both
        Both = "both",
    }

    /// What a breaker does with its verdict.
    pub enum BreakerMode {
        /// it refuses requests while it is open
        Enforce = "enforce",
        /// it only counts
        MetricsOnly = "metrics_only",
        /// it refuses every request
        Isolated = "isolated",
    }

    /// What a breaker's window counts.
    pub enum WindowKind {
        /// the last calls
        Count = "count",
        /// the calls of the last seconds
        Time = "time",
    }
}

settings! {
    /// A named set of running instances.
    pub struct Service = "service" {
        /// Its instances: `10.0.0.1:80`, `host:80` (resolved by DNS), `srv:_http._tcp.orders.internal`,
        /// `unix:/run/orders.sock`, or `{ file: orders.json }` for those that stand in a file.
        endpoints: Many<Endpoint>,
        /// How names are resolved; with `name`, further instances found by DNS.
        dns: Dns,
        /// How requests are spoken to it.
        protocol: At<Protocol> = "auto",
        /// TLS towards it; `on` verifies it by the authorities of the system.
        tls: At<Switch<ClientTls>> = "off",
        /// Whether a PROXY protocol header opens each connection to it.
        proxy_protocol: Switch<ProxyHeader> = "off",
        /// How an endpoint is chosen.
        balancer: At<Balancer> = "peak_ewma",
        /// Active checks of each endpoint.
        health: Switch<Health> = "off",
        /// The breaker of each endpoint: one that fails is left out for a while.
        ejection: Switch<Ejection> = "on",
        /// Connections to it.
        pool: Pool,
        /// The breaker of the whole service.
        breaker: Switch<Breaker> = "off",
        /// Adaptive concurrency: how much may be in flight is learned from latency, and the rest is
        /// refused.
        concurrency: Switch<Concurrency> = "off",
        /// A fixed bound on what is in flight.
        bulkhead: Switch<Bulkhead> = "off",
        /// How many retries all routes together may make.
        retry_budget: RetryBudget,
    }

    /// One instance, or a name or a file that tells of several.
    pub struct Endpoint = "endpoint", short "address" {
        /// Where it is.
        address: Option<At<Location>>,
        /// File of endpoints, in Prometheus' `file_sd` format or as Envoy's `ClusterLoadAssignment`, JSON
        /// or YAML. Its changes take effect without a reload.
        file: Option<At<FilePath>>,
        /// Its share of the traffic beside the others.
        weight: Int<1, 1_000_000> = "1",
        /// The zone it stands in.
        zone: Option<String>,
        /// A higher number is used only when no lower one can be.
        priority: Int<0, 65_535> = "0",
    }

    /// How names are resolved.
    pub struct Dns = "dns" {
        /// A name whose records are endpoints of the service.
        name: Option<At<Authority>>,
        /// The port of every address; SRV records carry their own.
        port: Option<Port>,
        /// What is looked up.
        kind("type"): DnsType = "host",
        /// Which addresses of a host are taken.
        family: Family = "prefer_ipv4",
        /// An answer is kept at least this long, whatever its TTL.
        ttl_min: At<Span> = "1s",
        /// An answer is kept at most this long, whatever its TTL.
        ttl_max: Span = "5m",
    }

    /// TLS towards a service.
    pub struct ClientTls = "client TLS" {
        /// Files with the authorities that are trusted; without any, those of the system.
        ca: Many<InputFile>,
        /// The name that is asked for and verified; the endpoint's host name otherwise.
        server_name: Option<Authority>,
        /// Weft's own certificate, for mutual TLS: a path, or PEM text.
        cert: Option<Pem>,
        /// Its private key: a path, or PEM text.
        key: Option<Pem>,
        /// Trusts any certificate. Whoever is in between can then read and change everything.
        insecure_skip_verify: At<bool> = "false",
        /// The oldest version that is spoken.
        min_version: TlsVersion = "1.2",
    }

    /// How an endpoint is chosen.
    pub struct Balancer = "balancer", short "algorithm" {
        /// The algorithm.
        algorithm: Algorithm = "peak_ewma",
        /// What a hashing algorithm hashes; the first that a request has decides.
        hash: Many<Hash>,
        /// For hashing algorithms: an endpoint takes at most this many times its fair share of what is
        /// in flight, at least 1.
        bounded_load: Option<At<Factor>>,
        /// How long a new or recovered endpoint is spared; `0s` turns it off.
        slow_start: Duration = "30s",
        /// The share of its weight that it begins with.
        slow_start_min: Share = "0.1",
        /// Below this share of endpoints that are well, verdicts are not believed; 0 turns it off.
        panic_threshold: Share = "0.5",
        /// Weft's own zone is preferred while at least this share of its endpoints may be used.
        zone_threshold: Share = "0.7",
        /// The fewest points of the ring of `ring_hash`.
        ring_min: Int<1, 8_388_608> = "1024",
        /// The most points of the ring of `ring_hash`.
        ring_max: Int<1, 8_388_608> = "8388608",
        /// The size of the table of `maglev`; the next prime is taken.
        table: Int<2, 5_000_011> = "65537",
    }

    /// A cookie that is hashed.
    pub struct HashCookie = "hash cookie", short "name" {
        /// Its name.
        name: CookieName,
        /// Weft sets it when it is missing, for this long; `0s` for a session cookie.
        ttl: Option<Duration>,
        /// Its `Path`.
        path: CookiePath = "/",
    }

    /// What is hashed, said with its name.
    pub struct HashForms = "hash" {
        /// A header field.
        header: Option<HeaderName>,
        /// A cookie.
        cookie: Option<HashCookie>,
        /// A query parameter.
        query: Option<String>,
    }

    /// Active checks of each endpoint; one of `http`, `grpc`, `tcp`.
    pub struct Health = "health" {
        /// A request whose status tells.
        http: Option<HttpCheck>,
        /// `grpc.health.v1.Health/Check`.
        grpc: Option<GrpcCheck>,
        /// A connection, over which bytes may be exchanged.
        tcp: Option<TcpCheck>,
        /// Between two checks of an endpoint that is well.
        interval: At<Span> = "5s",
        /// Between two checks of one that is not.
        unhealthy_interval: Span = "5s",
        /// Both intervals vary by this share either way.
        jitter: Share = "0.15",
        /// For a whole check, connecting included.
        timeout: Span = "1s",
        /// Failures in a row that make it unhealthy.
        down: Int<1, 100> = "3",
        /// Successes in a row that make it healthy again.
        up: Int<1, 100> = "1",
        /// Another port to check than the one that serves.
        port: Option<Port>,
    }

    /// A check by HTTP.
    pub struct HttpCheck = "http check", short "path" {
        /// The path, with a query if need be.
        path: RequestPath = "/",
        /// The method.
        method: Method = "GET",
        /// The host asked for; the endpoint's otherwise.
        host: Option<Authority>,
        /// Further fields.
        headers: Pairs<FieldName, HeaderValue>,
        /// The statuses that are well.
        statuses: Many<Statuses> = "[2xx]",
        /// Whether HTTP/2 is spoken.
        http2: bool = "false",
    }

    /// A check by gRPC.
    pub struct GrpcCheck = "grpc check", short "service" {
        /// The service asked about; the whole server otherwise.
        service: Option<String>,
        /// The authority; the endpoint's otherwise.
        host: Option<Authority>,
    }

    /// A check by connecting.
    pub struct TcpCheck = "tcp check" {
        /// What is sent first.
        send: Option<String>,
        /// What must come back first.
        expect: Option<String>,
    }

    /// The breaker of each endpoint.
    pub struct Ejection = "ejection" {
        /// Failures in a row that put it out.
        consecutive: Int<1, 1_000_000> = "5",
        /// The time over which successes are counted.
        window: Span = "30s",
        /// Fewer requests than this tell nothing.
        samples_min: Int<1, 1_000_000> = "20",
        /// Below this share of successes it is put out.
        success_ratio_min: Share = "0.5",
        /// How long it is out the first time.
        base: At<Span> = "1s",
        /// How long at most, doubling each time.
        max: Span = "60s",
        /// By how much that varies.
        jitter: Share = "0.5",
    }

    /// The connections to the endpoints of a service; counted per worker and endpoint.
    pub struct Pool = "pool" {
        /// Most open connections per endpoint and worker.
        connections_max: Count = "1024",
        /// Most idle connections kept per endpoint and worker.
        idle_max: Number = "256",
        /// An idle connection is retired after this.
        idle_timeout: Span = "55s",
        /// A connection is retired at this age, ± 10 %.
        age_max: Switch<Span> = "off",
        /// A connection is retired after this many requests.
        requests_max: Switch<Count> = "off",
        /// Most concurrent streams on one HTTP/2 connection.
        streams_max: Count = "100",
    }

    /// The breaker of a service.
    pub struct Breaker = "breaker" {
        /// What it does with its verdict.
        mode: BreakerMode = "enforce",
        /// What its window counts.
        window: WindowKind = "count",
        /// The calls of a `count` window.
        calls: Int<1, 65_536> = "100",
        /// The length of a `time` window.
        span: Span = "60s",
        /// Fewer calls than this tell nothing.
        calls_min: Int<1, 100_000> = "100",
        /// The share of failures that opens it.
        failure_ratio: Share = "0.5",
        /// The share of slow calls that opens it.
        slow_ratio: Share = "1",
        /// What is slow; `off` judges no slowness.
        slow_after: Switch<Span> = "off",
        /// How long it stays open.
        open: Span = "30s",
        /// Trial calls before it closes.
        half_open: Int<1, 10_000> = "10",
    }

    /// Adaptive concurrency.
    pub struct Concurrency = "concurrency" {
        /// The least that is always let through.
        min: Count = "3",
        /// The most.
        max: Count = "1000",
        /// What is let through before anything is known; kept between `min` and `max`.
        initial: Count = "1000",
        /// How many times the best latency seen the mean may be, at least 1; `100ms` above it is
        /// always tolerated.
        tolerance: Fraction<1_000, 1_000_000> = "2",
    }

    /// How many retries all routes together may make.
    pub struct RetryBudget = "retry budget" {
        /// As a share of the requests.
        ratio: Share = "0.2",
        /// And as many a second beside.
        per_second: Number = "10",
        /// The time over which they are counted.
        window: Span = "10s",
    }
}

/// What a hashing algorithm hashes.
#[derive(Clone, Debug)]
pub enum Hash {
    /// A header field.
    Header(HeaderName),
    /// A cookie.
    Cookie(HashCookie),
    /// A query parameter.
    Query(String),
    /// The client's address.
    Address,
    /// The path.
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

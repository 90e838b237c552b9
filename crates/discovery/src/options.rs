//! What is said about a service: its endpoints, how they are found, checked and balanced.
//!
//! Plain values with the defaults of the design; reading them from a file is done above this room.

use std::{fmt, ops::RangeInclusive, path::Path, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method};
use rustls_pki_types::ServerName;
use weft_kernel::Name;
use weft_net::Address;
use weft_resilience::ejection;

/// Everything about one service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceOptions {
    /// Its name, by which it keeps its endpoints over reloads.
    pub name: Name,
    /// Where its endpoints are.
    pub endpoints: Vec<EndpointOptions>,
    /// How one is chosen. Default: peak-EWMA.
    pub algorithm: Algorithm,
    /// For the hashing algorithms: an endpoint takes at most this many times its fair share of what
    /// is in flight, and what is over goes to the next. At least 1. Default: unbounded.
    pub bounded_load: Option<f64>,
    /// How long a new or recovered endpoint is spared; zero turns it off. Default: 30 s.
    pub slow_start: Duration,
    /// The share of its weight that it begins with, 0 to 1. Default: 0.1.
    pub slow_start_min: f64,
    /// Below this share of endpoints that are well, verdicts are not believed; 0 turns it off.
    /// Default: 0.5.
    pub panic_threshold: f64,
    /// The caller's zone is preferred while at least this share of its endpoints there may be used.
    /// The hashing algorithms ignore zones, since a key must not move with the caller. Default: 0.7.
    pub zone_threshold: f64,
    /// Active checks. Default: none.
    pub health: Option<Health>,
    /// The breaker of each endpoint; `None` turns it off. Default: on.
    pub ejection: Option<ejection::Options>,
    /// How names are resolved.
    pub dns: Dns,
    /// TLS for checks; `None` checks in clear text.
    pub tls: Option<ProbeTls>,
    /// The form of the PROXY protocol header that opens each connection, if one does.
    pub proxy_protocol: Option<weft_wire::proxy_protocol::ProxyVersion>,
}

impl ServiceOptions {
    /// A service without endpoints, with every default.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            endpoints: Vec::new(),
            algorithm: Algorithm::default(),
            bounded_load: None,
            slow_start: Duration::from_secs(30),
            slow_start_min: 0.1,
            panic_threshold: 0.5,
            zone_threshold: 0.7,
            health: None,
            ejection: Some(ejection::Options::default()),
            dns: Dns::default(),
            tls: None,
            proxy_protocol: None,
        }
    }
}

/// One address, or what tells of several.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointOptions {
    /// Where it is.
    pub location: Location,
    /// Its share of the traffic beside the others; 0 counts as 1. Default: 1.
    pub weight: u32,
    /// The zone it stands in.
    pub zone: Option<Arc<str>>,
    /// A higher number is used only when no lower one can be. Default: 0.
    pub priority: u16,
}

impl EndpointOptions {
    /// An endpoint with every default.
    pub fn new(location: Location) -> Self {
        Self { location, weight: 1, zone: None, priority: 0 }
    }
}

/// Where endpoints are, or where they are told of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// A socket address or a path.
    Address(Address),
    /// The A and AAAA records of a host.
    Host {
        /// The host.
        host: Arc<str>,
        /// The port of every address.
        port: u16,
    },
    /// The SRV records of a name, which carry port, priority and weight.
    Srv(Arc<str>),
    /// The endpoints that stand in a file, in a format of [`crate::source::file`].
    File(Arc<Path>),
    /// The endpoints that a source of another kind tells; see
    /// [`Services::add_kind`](crate::Services::add_kind).
    Other {
        /// The kind, as it was registered.
        kind: Arc<str>,
        /// What the source is asked for.
        name: Arc<str>,
    },
}

/// A text that names no endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseLocationError(String);

impl fmt::Display for ParseLocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not an endpoint: write 10.0.0.1:80, [::1]:80, a host such as orders.internal:80, \
             srv:_http._tcp.orders.internal, or unix:/run/orders.sock",
            self.0
        )
    }
}

impl std::error::Error for ParseLocationError {}

/// The longest name that DNS carries, in bytes of text.
const HOST_BYTES_MAX: usize = 253;

fn is_host(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    !text.is_empty()
        && text.len() <= HOST_BYTES_MAX
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
        // A name of digits and dots alone is a mistyped address, never a host (RFC 3696, section 2).
        && !text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

impl FromStr for Location {
    type Err = ParseLocationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseLocationError(text.chars().take(160).collect());
        if let Some(name) = text.strip_prefix("srv:") {
            return if is_host(name) { Ok(Self::Srv(name.into())) } else { Err(fail()) };
        }
        if let Ok(address) = text.parse::<Address>() {
            return Ok(Self::Address(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(fail)?;
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse::<u16>().ok().filter(|port| digits && *port > 0).ok_or_else(fail)?;
        if is_host(host) { Ok(Self::Host { host: host.into(), port }) } else { Err(fail()) }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::Srv(name) => write!(f, "srv:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Other { kind, name } => write!(f, "{kind}:{name}"),
        }
    }
}

/// How an endpoint is chosen. Every algorithm honours weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// Of two drawn at random, the one with the lower peak-sensitive moving latency times what it
    /// has in flight.
    #[default]
    PeakEwma,
    /// Of two drawn at random, the one with less in flight.
    LeastRequest,
    /// In turns, interleaved evenly.
    WeightedRoundRobin,
    /// At random.
    Random,
    /// By a hash of the request on a ring: few keys move when endpoints come and go.
    RingHash {
        /// The fewest points of the ring.
        min: u32,
        /// The most points of the ring.
        max: u32,
    },
    /// By a hash of the request in a table that every endpoint fills in turn: more even than a ring,
    /// and a few more keys move.
    Maglev {
        /// The size of the table: a prime, well above the number of endpoints.
        table: u32,
    },
}

impl Algorithm {
    /// The ring with its usual bounds.
    pub const RING_HASH: Self = Self::RingHash { min: 1024, max: 8 << 20 };
    /// The table with its usual size.
    pub const MAGLEV: Self = Self::Maglev { table: 65_537 };

    /// Whether it looks at [`Pick::hash`](crate::Pick::hash).
    pub const fn hashes(self) -> bool {
        matches!(self, Self::RingHash { .. } | Self::Maglev { .. })
    }

    /// The word for status and configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::PeakEwma => "peak_ewma",
            Self::LeastRequest => "least_request",
            Self::WeightedRoundRobin => "round_robin",
            Self::Random => "random",
            Self::RingHash { .. } => "ring_hash",
            Self::Maglev { .. } => "maglev",
        }
    }
}

/// Which addresses of a host are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Family {
    /// IPv4, or IPv6 where there is none.
    #[default]
    PreferIpv4,
    /// IPv6, or IPv4 where there is none.
    PreferIpv6,
    /// Each of both as an endpoint of its own.
    Both,
}

/// How names are resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dns {
    /// Which addresses are taken.
    pub family: Family,
    /// An answer is kept at least this long, whatever its TTL. Default: 1 s.
    pub ttl_min: Duration,
    /// An answer is kept at most this long, whatever its TTL. Default: 5 min.
    pub ttl_max: Duration,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            family: Family::default(),
            ttl_min: Duration::from_secs(1),
            ttl_max: Duration::from_secs(300),
        }
    }
}

/// Active checks of each endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// What is asked.
    pub check: Check,
    /// Between two checks of an endpoint that is well. Default: 5 s.
    pub interval: Duration,
    /// Between two checks of one that is not. Default: 5 s.
    pub unhealthy_interval: Duration,
    /// Both intervals vary by this share either way. Default: 0.15.
    pub jitter: f64,
    /// For a whole check, connecting included. Default: 1 s.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy; a new endpoint needs but one. Default: 3.
    pub down: u32,
    /// Successes in a row that make it healthy again. Default: 1.
    pub up: u32,
    /// Another port to check than the one that serves.
    pub port: Option<u16>,
}

impl Health {
    /// These checks at the usual pace.
    pub fn new(check: Check) -> Self {
        Self {
            check,
            interval: Duration::from_secs(5),
            unhealthy_interval: Duration::from_secs(5),
            jitter: 0.15,
            timeout: Duration::from_secs(1),
            down: 3,
            up: 1,
            port: None,
        }
    }
}

/// What is asked of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A request whose status tells.
    Http {
        /// The path, with a query if need be.
        path: String,
        /// The method, without a body.
        method: Method,
        /// The host asked for; the endpoint's host name or address otherwise.
        host: Option<String>,
        /// Further fields.
        headers: HeaderMap,
        /// The statuses that are well.
        statuses: Vec<RangeInclusive<u16>>,
        /// Whether HTTP/2 is spoken, by prior knowledge where there is no TLS.
        http2: bool,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The service asked about; empty asks about the whole server.
        service: String,
        /// The authority; the endpoint's host name or address otherwise.
        host: Option<String>,
    },
    /// A connection, over which bytes may be exchanged.
    Tcp {
        /// What is sent first.
        send: Bytes,
        /// What must come back first.
        expect: Bytes,
    },
}

impl Check {
    /// `GET path`, well with any 2xx.
    pub fn http(path: impl Into<String>) -> Self {
        Self::Http {
            path: path.into(),
            method: Method::GET,
            host: None,
            headers: HeaderMap::new(),
            statuses: vec![200..=299],
            http2: false,
        }
    }

    /// The health of a whole gRPC server.
    pub fn grpc() -> Self {
        Self::Grpc { service: String::new(), host: None }
    }

    /// A connection that is accepted.
    pub fn tcp() -> Self {
        Self::Tcp { send: Bytes::new(), expect: Bytes::new() }
    }

    /// The word for status and log.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http",
            Self::Grpc { .. } => "grpc",
            Self::Tcp { .. } => "tcp",
        }
    }
}

/// How a check secures its connection.
#[derive(Clone)]
pub struct ProbeTls {
    /// How the endpoint is verified, and with which client certificate.
    pub config: Arc<rustls::ClientConfig>,
    /// The name that is verified; the endpoint's host name or address otherwise.
    pub name: Option<ServerName<'static>>,
}

impl PartialEq for ProbeTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.name == other.name
    }
}

impl fmt::Debug for ProbeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeTls").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn sources_are_read_and_written_alike() {
        for text in [
            "10.0.0.1:80",
            "[::1]:8080",
            "orders:80",
            "orders.internal.:443",
            "my_db.local:5432",
            "srv:_http._tcp.orders.internal",
            "unix:/run/orders.sock",
            "1.2.3.4.example:80",
        ] {
            let source: Location = text.parse().unwrap();
            assert_eq!(source.to_string(), text);
        }
        assert!(matches!("localhost:80".parse(), Ok(Location::Host { port: 80, .. })));
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        let long = format!("{}:80", "a.".repeat(128));
        for text in [
            "",
            ":80",
            "orders",
            "orders:",
            "orders:0",
            "orders:65536",
            "orders:+80",
            "orders:80x",
            "300.0.0.1:80",
            "10.0.0:80",
            "-a:80",
            "a-:80",
            "a..b:80",
            "a b:80",
            "é:80",
            "a/b:80",
            "srv:",
            "srv:a b",
            "http://orders:80",
            &long,
        ] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>(), port in any::<u16>()) {
            for text in [text.clone(), format!("{text}:{port}"), format!("srv:{text}")] {
                if let Ok(source) = text.parse::<Location>() {
                    let again = source.to_string().parse::<Location>();
                    prop_assert_eq!(again.ok(), Some(source));
                }
            }
        }

        #[test]
        fn hosts_keep_their_port(host in "[a-z][a-z0-9]{0,20}(\\.[a-z]{1,10}){0,3}", port in 1u16..) {
            let read = format!("{host}:{port}").parse::<Location>();
            prop_assert_eq!(read, Ok(Location::Host { host: host.as_str().into(), port }));
        }

        #[test]
        fn errors_are_short(text in prop::string::string_regex("[ -~]{0,400}").unwrap()) {
            if let Err(error) = text.parse::<Location>() {
                prop_assert_eq!(error.to_string().len() < 400, true);
            }
        }
    }
}

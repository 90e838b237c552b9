//! Listeners, as the request path sees them.

use std::time::Duration;

use ipnet::IpNet;
use weft_identity::HostPattern;
use weft_kernel::{Name, limits};

use super::{Host, Weighted};

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
    /// Another, spoken by an acceptor of this name that lives in the node.
    Local(&'static str),
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
    /// Longest time for a whole request body to arrive.
    pub body_timeout: Option<Duration>,
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
    /// Hosts whose clients show certificates otherwise than those of others. A connection that was made for
    /// another is refused requests for them, and one that was made for them requests for another.
    pub client_auth_hosts: Vec<HostPattern>,
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
            body_timeout: None,
            connection_age: None,
            connections_max: 50_000,
            trusted_hops: 0,
            trusted_proxies: Vec::new(),
            encoded_slash: EncodedSlash::Reject,
            underscores: false,
            grpc_web: true,
            forward_client_cert: false,
            client_auth_hosts: Vec::new(),
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

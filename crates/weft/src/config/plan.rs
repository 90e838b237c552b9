//! What a checked configuration asks for.

use ipnet::IpNet;
use weft_kernel::Name;
use weft_net::Address;

use super::leaf::Secret;
pub use super::sections::listener::ProxyMode;

/// Everything that was asked for, checked, with no port open.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The request path.
    pub proxy: weft_proxy::plan::Plan,
    /// The sockets that its listeners accept on.
    pub sockets: Vec<Socket>,
    /// What Weft tells about itself.
    pub telemetry: Telemetry,
    /// The admin API, unless it is off.
    pub admin: Option<Admin>,
}

/// The socket of a listener.
#[derive(Clone, Debug)]
pub struct Socket {
    /// The listener.
    pub listener: Name,
    /// Where it listens; several addresses are one listener.
    pub addresses: Vec<Address>,
    /// TLS that is terminated here.
    pub tls: Option<weft_identity::server::ServerOptions>,
    /// Whether a PROXY protocol header opens each connection.
    pub proxy_protocol: ProxyMode,
    /// Peers whose PROXY protocol header is believed; empty for all.
    pub proxy_protocol_from: Vec<IpNet>,
}

/// What Weft tells about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// A line per request.
    pub access_log: weft_telemetry::access::Options,
    /// The share of traces that are kept.
    pub trace_sample: f64,
    /// Where spans are sent.
    pub otlp: Option<weft_telemetry::otlp::Options>,
    /// The log for operators.
    pub log: weft_telemetry::log::Options,
}

/// The admin API.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where it listens.
    pub listen: Address,
    /// What callers must show.
    pub token: Option<Secret>,
}

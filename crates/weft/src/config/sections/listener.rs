//! What is said about a listener.

use std::time::Duration;

use ipnet::IpNet;
use weft_identity::Pem;
use weft_kernel::ByteSize;
use weft_net::Address;

use crate::config::{
    leaf::{Count, InputFile, Int, Many, Number, Pairs, Span, Switch},
    sections::target::Targets,
    setting::{At, settings, words},
    text::{HostPattern, Pseudonym},
};

words! {
    /// What is spoken on a listener.
    pub enum Protocol {
        /// HTTP/1.1, HTTP/2, gRPC and WebSocket, led by routes
        Http = "http",
        /// bytes, relayed to the services of `to`
        Tcp = "tcp",
        /// TLS that is not terminated here, led by the server name
        TlsPassthrough = "tls-passthrough" | "tls_passthrough",
        /// AMQP 0-9-1, as RabbitMQ speaks it
        Amqp = "amqp",
    }

    /// Whether a PROXY protocol header opens a connection.
    pub enum ProxyMode {
        /// none is read
        Off = "off" | "false",
        /// one may come from a trusted source
        Accept = "accept",
        /// one must come
        Require = "require",
    }

    /// Whether clients show a certificate.
    pub enum ClientAuthMode {
        /// a client without one is refused
        Required = "required",
        /// one is verified if it is shown
        Optional = "optional",
    }

    /// A version of TLS.
    pub enum TlsVersion {
        /// TLS 1.2 and later
        V12 = "1.2",
        /// TLS 1.3
        V13 = "1.3",
    }

    /// What is done with `%2f` and `%5c` in a path.
    pub enum EncodedSlash {
        /// the request is refused with 400
        Reject = "reject",
        /// they stay encoded
        Keep = "keep",
    }
}

settings! {
    /// A socket that Weft accepts on, with its protocol and TLS.
    pub struct Listener = "listener" {
        /// Where it listens: `0.0.0.0:8080`, `[::]:8080`, `unix:/run/weft.sock`, or a list of them.
        address: Required<Address>,
        /// What is spoken.
        protocol: At<Protocol> = "http",
        /// TLS that is terminated here.
        tls: At<Switch<ServerTls>> = "off",
        /// Whether a PROXY protocol header (v1 or v2) opens each connection.
        proxy_protocol: At<ProxyProtocol> = "off",
        /// Bounds of what a client may send.
        limits: Limits,
        /// How long a client may take.
        timeouts: Timeouts,
        /// How many proxies stand in front, each of which adds the address it was called from to
        /// `X-Forwarded-For` or `Forwarded`; whoever can reach the listener past them is believed too.
        /// Not together with `trusted_proxies`.
        trusted_hops: At<Int<0, 32>> = "0",
        /// Such proxies by address: a chain is read from the right, and the first address that is not
        /// among them is the client. Not together with `trusted_hops`.
        trusted_proxies: Many<IpNet>,
        /// What is done with an encoded slash or backslash in a path.
        encoded_slash: EncodedSlash = "reject",
        /// Whether header names with an underscore are let through.
        underscores: bool = "false",
        /// Whether gRPC-Web requests are translated to gRPC.
        grpc_web: bool = "true",
        /// What Weft calls itself in `Via` and `Proxy-Status`.
        via: Pseudonym = "weft",
        /// Services that connections are relayed to: for `tcp`, and for `tls-passthrough` when no
        /// server name fits.
        to: Option<At<Targets>>,
        /// Services by server name, for `tls-passthrough`; the most specific name that fits decides.
        sni: Pairs<At<HostPattern>, Targets>,
    }

    /// TLS towards clients.
    pub struct ServerTls = "server TLS" {
        /// Certificates with their keys; the server name chooses, and the first is the default.
        certificates: Required<Certificate>,
        /// Whether and how clients show a certificate.
        client_auth: Option<ClientAuth>,
        /// The oldest version that is spoken.
        min_version: TlsVersion = "1.2",
        /// The protocols that are offered, best first.
        alpn: Many<AlpnProtocol> = "[h2, http/1.1]",
    }

    /// A certificate and its key.
    pub struct Certificate = "certificate" {
        /// The chain, leaf first: a path, or PEM text.
        cert: Pem,
        /// The private key: a path, or PEM text.
        key: Pem,
    }

    /// Certificates of clients.
    pub struct ClientAuth = "client certificate" {
        /// Files with the authorities that are trusted.
        ca: Required<InputFile>,
        /// Files with lists of certificates that are trusted no more.
        revoked: Many<InputFile>,
        /// Whether a client may come without one.
        mode: ClientAuthMode = "required",
        /// Whether services are told of it, in `x-forwarded-client-cert` (hash, subject, URIs and DNS
        /// names). What a client itself sends under that name never reaches a service.
        forward: bool = "false",
    }

    /// Who may open a connection with a PROXY protocol header.
    pub struct ProxyProtocol = "PROXY protocol", short "mode" {
        /// Whether one is read.
        mode: ProxyMode = "off",
        /// Peers whose header is believed; without any, every peer's is.
        from: Many<IpNet>,
    }

    /// Bounds of what a client may send.
    pub struct Limits = "limits" {
        /// Largest header section; more is refused with 431.
        header_bytes_max: ByteSize = "60KiB",
        /// Most header fields; more is refused with 431.
        header_count_max: Int<1, 10_000> = "100",
        /// Most concurrent streams of one HTTP/2 connection.
        streams_max: Int<1, 1_000_000> = "100",
        /// Most streams a client may reset within 30 s on one HTTP/2 connection; and a tenth of the control
        /// frames that it may send while nothing else moves.
        resets_max: Number = "200",
        /// Most connections open at once; more are closed at once.
        connections_max: Count = "50000",
    }

    /// How long a client may take.
    pub struct Timeouts = "listener timeouts" {
        /// Time for a whole header section to arrive; then 408.
        headers: Span = "10s",
        /// Longest time a kept-alive connection may be without a request.
        idle: Span = "60s",
        /// Longest silence within a body, a stream or a tunnel.
        stream_idle: Span = "5m",
        /// Longest time for a whole request body to arrive, however it moves; then 408. A call that
        /// streams its requests has until then to end.
        body: Switch<Span> = "off",
        /// Age after which a connection is ended gracefully, ± 10 %.
        connection_age: Switch<Span> = "off",
    }
}

words! {
    /// A protocol that TLS agrees on.
    pub enum AlpnProtocol {
        /// HTTP/2
        H2 = "h2",
        /// HTTP/1.1
        Http1 = "http/1.1",
    }
}

/// One or more of something: the list may not be empty.
pub type Required<T> = crate::config::leaf::Some1<T>;

/// The age of connections, if there is a bound.
pub fn age(age: &Switch<Span>) -> Option<Duration> {
    age.on().map(|span| span.0)
}

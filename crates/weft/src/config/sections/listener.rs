//! What is said about a listener.

use std::time::Duration;

use ipnet::IpNet;
use weft_identity::Pem;
use weft_kernel::ByteSize;
use weft_net::Address;

use crate::config::{
    leaf::{Count, InputFile, Int, Many, Number, Pairs, Span, Switch, Whole},
    sections::target::Targets,
    setting::{At, settings, words},
    text::{HostPattern, Pseudonym},
};

words! {
    /// Protocol of a listener.
    pub enum Protocol {
        /// HTTP/1.1, HTTP/2, gRPC and WebSocket, by routes
        Http = "http",
        /// TCP, relayed to the services of `to`
        Tcp = "tcp",
        /// TLS that is not terminated here, routed by server name (SNI)
        TlsPassthrough = "tls-passthrough" | "tls_passthrough",
        /// AMQP 0-9-1, as RabbitMQ speaks it
        Amqp = "amqp",
    }

    /// PROXY protocol mode.
    pub enum ProxyMode {
        /// no header is read
        Off = "off" | "false",
        /// a header is accepted from a trusted source
        Accept = "accept",
        /// a header is required
        Require = "require",
    }

    /// Client certificate mode.
    pub enum ClientAuthMode {
        /// a client without a certificate is refused
        Required = "required",
        /// a certificate is verified if the client shows one
        Optional = "optional",
    }

    /// TLS version.
    pub enum TlsVersion {
        /// TLS 1.2 and later
        V12 = "1.2",
        /// TLS 1.3
        V13 = "1.3",
    }

    /// Treatment of `%2f` and `%5c` in a path.
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
        /// Addresses to bind: `0.0.0.0:8080`, `[::]:8080`, `unix:/run/weft.sock`, or a list of them.
        address: Required<Address>,
        /// Protocol.
        protocol: At<Protocol> = "http",
        /// TLS termination.
        tls: At<Switch<ServerTls>> = "off",
        /// PROXY protocol (v1 and v2) of incoming connections.
        proxy_protocol: At<ProxyProtocol> = "off",
        /// Limits of what a client may send.
        limits: Limits,
        /// Timeouts of client connections.
        timeouts: Timeouts,
        /// Number of proxies in front, each of which adds the address it was called from to
        /// `X-Forwarded-For` or `Forwarded`; whoever can reach the listener past them is believed too.
        /// Not together with `trusted_proxies`.
        trusted_hops: At<Int<0, 32>> = "0",
        /// Trusted proxies by address: a chain is read from the right, and the first address that is not
        /// among them is the client. Not together with `trusted_hops`.
        trusted_proxies: Many<IpNet>,
        /// Treatment of an encoded slash or backslash in a path.
        encoded_slash: EncodedSlash = "reject",
        /// Whether header names with an underscore are accepted.
        underscores: bool = "false",
        /// Translation of gRPC-Web requests to gRPC.
        grpc_web: bool = "true",
        /// Name of this proxy in `Via` and `Proxy-Status`.
        via: Pseudonym = "weft",
        /// Services that connections are relayed to: for `tcp`, and for `tls-passthrough` when no
        /// server name fits.
        to: Option<At<Targets>>,
        /// Services by server name, for `tls-passthrough`; the most specific name that fits decides.
        sni: Pairs<At<HostPattern>, Targets>,
    }

    /// TLS of a listener.
    pub struct ServerTls = "server TLS" {
        /// Certificates with their keys, chosen by server name (SNI); the first is the default.
        certificates: Required<Certificate>,
        /// Client certificates (mutual TLS).
        client_auth: Option<ClientAuth>,
        /// The same by the host that a client asks for (SNI), in place of it; the most specific one decides.
        hosts: Pairs<At<HostPattern>, HostTls>,
        /// Minimum TLS version.
        min_version: TlsVersion = "1.2",
        /// ALPN protocols, in order of preference.
        alpn: Many<AlpnProtocol> = "[h2, http/1.1]",
    }

    /// TLS of a host.
    pub struct HostTls = "TLS of a host" {
        /// Client certificates (mutual TLS); `off` asks for none.
        client_auth: Switch<Whole<ClientAuth>>,
    }

    /// Certificate and key.
    pub struct Certificate = "certificate" {
        /// Certificate chain, leaf first: a path, or PEM text.
        cert: Pem,
        /// Private key: a path, or PEM text.
        key: Pem,
    }

    /// Client certificates.
    pub struct ClientAuth = "client certificate" {
        /// Files with the trusted certificate authorities.
        ca: Required<InputFile>,
        /// Files with certificate revocation lists (CRL).
        revoked: Many<InputFile>,
        /// Whether a client may connect without a certificate.
        mode: ClientAuthMode = "required",
        /// Whether services are told of the certificate, in `x-forwarded-client-cert` (hash, subject, URIs
        /// and DNS names). What a client itself sends under that name never reaches a service.
        forward: bool = "false",
    }

    /// PROXY protocol of incoming connections.
    pub struct ProxyProtocol = "PROXY protocol", short "mode" {
        /// Mode.
        mode: ProxyMode = "off",
        /// Sources whose header is trusted; every source if none is named.
        from: Many<IpNet>,
    }

    /// Limits of what a client may send.
    pub struct Limits = "limits" {
        /// Maximum size of the header section; more is refused with 431.
        header_bytes_max: ByteSize = "60KiB",
        /// Maximum number of header fields; more are refused with 431.
        header_count_max: Int<1, 10_000> = "100",
        /// Maximum number of concurrent streams on an HTTP/2 connection.
        streams_max: Int<1, 1_000_000> = "100",
        /// Maximum number of streams that a client may reset within 30 s on an HTTP/2 connection; and a
        /// tenth of the control frames that it may send while nothing else moves.
        resets_max: Number = "200",
        /// Maximum number of open connections; further ones are closed at once.
        connections_max: Count = "50000",
    }

    /// Timeouts of client connections.
    pub struct Timeouts = "listener timeouts" {
        /// Timeout for the header section of a request; then 408.
        headers: Span = "10s",
        /// Idle timeout of a keep-alive connection without a request.
        idle: Span = "60s",
        /// Idle timeout within a body, a stream or a tunnel.
        stream_idle: Span = "5m",
        /// Timeout for a whole request body, however it moves; then 408. A call that
        /// streams its requests has until then to end.
        body: Switch<Span> = "off",
        /// Maximum age of a connection, ± 10 %; it is then ended gracefully.
        connection_age: Switch<Span> = "off",
    }
}

words! {
    /// ALPN protocol.
    pub enum AlpnProtocol {
        /// HTTP/2
        H2 = "h2",
        /// HTTP/1.1
        Http1 = "http/1.1",
    }
}

/// A list of at least one.
pub type Required<T> = crate::config::leaf::Some1<T>;

/// The age of connections, if there is a bound.
pub fn age(age: &Switch<Span>) -> Option<Duration> {
    age.on().map(|span| span.0)
}

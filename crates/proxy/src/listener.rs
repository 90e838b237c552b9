//! A listener as the request path sees it: how it speaks, and its route table.

use std::{collections::HashMap, sync::Arc};

use weft_identity::HostPattern;
use weft_kernel::{Name, Rng};
use weft_net::{h1, h2, message::Peer};
use weft_telemetry::metrics::{self, ListenerMeter, RouteMeter};
use weft_wire::{forwarded::Trust, h1::HeadLimits};

use crate::{
    handler::{Acceptor, Handlers},
    plan::{self, Host, Protocol},
    route::Split,
    router::Table,
    upstream::Upstream,
};

/// A listener, compiled.
pub struct Listener {
    /// Its name.
    pub name: Name,
    /// How HTTP is spoken on it.
    pub http: plan::Http,
    /// Where its requests go.
    pub table: Arc<Table>,
    /// Where its connections go, if it does not speak HTTP.
    pub(crate) stream: Option<Stream>,
    /// Its metrics.
    pub meter: Arc<ListenerMeter>,
    /// The metrics of requests that no route fits.
    pub(crate) unrouted: Arc<RouteMeter>,
    pub(crate) trust: Trust,
    pub(crate) h1: h1::server::Settings,
    pub(crate) h2: h2::server::Settings,
}

/// How connections that are not HTTP are led.
pub(crate) enum Stream {
    /// All the same way.
    Tcp(Split),
    /// By the server name of the TLS handshake.
    ByServerName(Vec<(Host, Split)>, Option<Split>),
    /// To an acceptor that lives in the node.
    Local(Arc<dyn Acceptor>),
}

impl Listener {
    pub(crate) fn compile(
        plan: &plan::Listener,
        table: Arc<Table>,
        services: &HashMap<Name, Arc<Upstream>>,
        handlers: &Handlers,
        metrics: &metrics::Registry,
    ) -> Result<Self, String> {
        let http = plan.http.clone();
        let stream = match &plan.protocol {
            Protocol::Http => None,
            Protocol::Local(name) => Some(Stream::Local(handlers.acceptor(name)?)),
            Protocol::Tcp(to) => Some(Stream::Tcp(Split::compile(to, services)?)),
            Protocol::TlsPassthrough { by_sni, otherwise } => {
                let by_sni = by_sni
                    .iter()
                    .map(|(host, to)| Ok((host.clone(), Split::compile(to, services)?)))
                    .collect::<Result<_, String>>()?;
                let otherwise = match otherwise.as_slice() {
                    [] => None,
                    to => Some(Split::compile(to, services)?),
                };
                Some(Stream::ByServerName(by_sni, otherwise))
            }
        };
        let trust = match (http.trusted_proxies.as_slice(), http.trusted_hops) {
            ([], 0) => Trust::Nobody,
            ([], hops) => Trust::Hops(u8::try_from(hops).unwrap_or(u8::MAX)),
            (nets, _) => Trust::Networks(nets.to_vec()),
        };
        let head =
            HeadLimits { bytes_max: http.header_bytes_max, count_max: http.header_count_max };
        Ok(Self {
            name: plan.name.clone(),
            table,
            stream,
            meter: metrics.listener(plan.name.as_str()),
            unrouted: metrics.route("_unmatched"),
            trust,
            h1: h1::server::Settings {
                head,
                header_timeout: http.header_timeout,
                idle_timeout: http.idle_timeout,
                stream_idle_timeout: http.stream_idle_timeout,
                age_max: http.connection_age,
            },
            h2: h2::server::Settings {
                streams_max: http.streams_max,
                resets_max: http.resets_max,
                header_bytes_max: http.header_bytes_max,
                header_count_max: http.header_count_max,
                idle_timeout: http.idle_timeout,
                stream_idle_timeout: http.stream_idle_timeout,
                age_max: http.connection_age,
            },
            http,
        })
    }
}

impl Listener {
    /// Whether a request for a host came by a connection that was made for one whose clients show certificates
    /// otherwise.
    pub(crate) fn is_misdirected(&self, peer: &Peer, host: &str) -> bool {
        let hosts = &self.http.client_auth_hosts;
        if hosts.is_empty() {
            return false;
        }
        let Some(tls) = &peer.tls else { return false };
        HostPattern::best(hosts, Some(host)) != HostPattern::best(hosts, tls.sni.as_deref())
    }
}

impl Stream {
    /// The service for a connection, by the name its TLS handshake asks for.
    pub(crate) fn choose(&self, name: Option<&str>, rng: &mut Rng) -> Option<&Arc<Upstream>> {
        match self {
            Self::Local(_) => None,
            Self::Tcp(split) => split.choose(rng),
            Self::ByServerName(by_name, otherwise) => {
                let fits = |host: &Host| match (host, name) {
                    (Host::Exact(exact), Some(name)) => exact.eq_ignore_ascii_case(name),
                    (Host::Wildcard(suffix), Some(name)) => is_below(name, suffix),
                    (_, None) => false,
                };
                let split = by_name.iter().find(|(host, _)| fits(host)).map(|(_, split)| split);
                split.or(otherwise.as_ref())?.choose(rng)
            }
        }
    }
}

/// Whether a name has one or more labels before `suffix`.
fn is_below(name: &str, suffix: &str) -> bool {
    name.len() > suffix.len() + 1
        && name.is_char_boundary(name.len() - suffix.len())
        && name[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
        && name.as_bytes()[name.len() - suffix.len() - 1] == b'.'
}

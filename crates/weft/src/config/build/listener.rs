//! Listeners and their sockets.

use std::{collections::HashMap, net::SocketAddr};

use weft_kernel::Name;
use weft_net::Address;
use weft_proxy::plan::{self, Host, Http};

use super::{targets, tls};
use crate::config::{
    leaf::Switch,
    merge::Names,
    plan::{AMQP, Socket},
    problem::Problem,
    sections::{
        Listener,
        listener::{self, EncodedSlash, Protocol},
    },
    setting::{At, Cx},
    source::Place,
};

/// Refuses two listeners on one address, and one on the address of the admin API.
pub(super) fn distinct(
    listeners: &[(At<Name>, Listener)],
    admin: Option<(&Address, Place)>,
    cx: &mut Cx,
) {
    let mut seen: HashMap<&Address, Place> = HashMap::new();
    // Port 0 is another port each time.
    let fixed = |address: &&Address| address.tcp().is_none_or(|address| address.port() != 0);
    let all = listeners.iter().flat_map(|(name, listener)| {
        listener.address.iter().map(move |address| (name.place, address))
    });
    for (place, address) in all.clone().filter(|(_, address)| fixed(address)) {
        match seen.get(address) {
            Some(first) => cx.report(
                Problem::error(place, format!("another listener is on {address} already"))
                    .and(*first, "this one"),
            ),
            None => {
                seen.insert(address, place);
            }
        }
    }
    if let Some((address, place)) = admin
        && fixed(&address)
        && let Some((with, other)) = all.clone().find(|(_, other)| overlap(address, other))
    {
        let what = format!("the admin API is on {address}, and so is a listener on {other}");
        cx.report(match place.is_in_file() {
            true => Problem::error(place, what).and(with, "this one"),
            false => {
                Problem::error(with, what).help("say `admin: 127.0.0.1:PORT`, or `admin: off`")
            }
        });
    }
    // An address of one interface and the address of all interfaces cannot both be bound.
    let mut wild: HashMap<(u16, bool), Place> = HashMap::new();
    for (place, address) in all.clone() {
        if let Address::Tcp(address) = address
            && address.ip().is_unspecified()
            && address.port() != 0
        {
            wild.insert((address.port(), address.is_ipv4()), place);
        }
    }
    for (place, address) in all {
        let Address::Tcp(address @ SocketAddr::V4(_) | address @ SocketAddr::V6(_)) = address
        else {
            continue;
        };
        if !address.ip().is_unspecified()
            && let Some(first) = wild.get(&(address.port(), address.is_ipv4()))
        {
            cx.report(
                Problem::error(
                    place,
                    format!("another listener has port {} of every interface", address.port()),
                )
                .and(*first, "this one"),
            );
        }
    }
}

/// Whether two addresses cannot both be bound: they are one, or one is that of every interface.
fn overlap(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp(one), Address::Tcp(other)) => {
            let wild = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() == other.port()
                && one.is_ipv4() == other.is_ipv4()
                && (one.ip() == other.ip() || wild)
        }
        (one, other) => one == other,
    }
}

pub(super) fn build(
    name: &At<Name>,
    section: &Listener,
    names: &Names,
    cx: &mut Cx,
) -> (plan::Listener, Socket) {
    let tls = match &section.tls.value {
        Switch::On(tls) => Some(tls::server(tls, section.tls.place, cx)),
        Switch::Off => None,
    };
    combinations(name, section, cx);
    let listener = plan::Listener {
        name: name.value.clone(),
        protocol: protocol(section, names, cx),
        http: http(section),
    };
    let socket = Socket {
        listener: name.value.clone(),
        addresses: section.address.to_vec(),
        tls,
        proxy_protocol: section.proxy_protocol.mode,
        proxy_protocol_from: section.proxy_protocol.from.to_vec(),
    };
    (listener, socket)
}

fn combinations(name: &At<Name>, section: &Listener, cx: &mut Cx) {
    if section.trusted_hops.usize() > 0 && !section.trusted_proxies.is_empty() {
        cx.report(
            Problem::error(
                section.trusted_hops.place,
                "`trusted_hops` and `trusted_proxies` are two ways to say who is believed",
            )
            .help("keep `trusted_proxies`; counting hops is for proxies without fixed addresses"),
        );
    }
    let protocol = section.protocol.value;
    match protocol {
        Protocol::Http | Protocol::Amqp => {
            if let Some(to) = &section.to {
                let problem =
                    Problem::error(to.place, "`to` is for a tcp or tls-passthrough listener");
                cx.report(match protocol {
                    Protocol::Amqp => problem.help("AMQP is spoken by Weft itself"),
                    _ => problem.help("the requests of an http listener are routed by `routes`"),
                });
            }
        }
        Protocol::Tcp => {
            if section.to.is_none() {
                cx.report(
                    Problem::error(name.place, "a tcp listener needs `to`")
                        .help("name the service that connections are relayed to"),
                );
            }
        }
        Protocol::TlsPassthrough => {
            if section.to.is_none() && section.sni.0.is_empty() {
                cx.report(Problem::error(
                    name.place,
                    "a tls-passthrough listener needs `sni` or `to`",
                ));
            }
            if section.tls.on().is_some() {
                cx.report(
                    Problem::error(section.tls.place, "TLS is passed through, not terminated here")
                        .help("leave `tls` out, or make the protocol `http` or `tcp`"),
                );
            }
        }
    }
    if protocol != Protocol::TlsPassthrough
        && let Some((host, _)) = section.sni.0.first()
    {
        cx.report(Problem::error(host.place, "`sni` is for a tls-passthrough listener"));
    }
    if section.proxy_protocol.mode == listener::ProxyMode::Off
        && !section.proxy_protocol.from.is_empty()
    {
        cx.report(Problem::warning(
            section.proxy_protocol.place,
            "the PROXY protocol is off, so `from` has no effect",
        ));
    }
    if section.proxy_protocol.mode != listener::ProxyMode::Off
        && section.proxy_protocol.from.is_empty()
        && section
            .address
            .iter()
            .any(|address| address.tcp().is_some_and(|at| !at.ip().is_loopback()))
    {
        cx.report(
            Problem::warning(
                section.proxy_protocol.place,
                "every peer may claim any client address with a PROXY protocol header",
            )
            .help("name the load balancer in front under `from`"),
        );
    }
}

fn protocol(section: &Listener, names: &Names, cx: &mut Cx) -> plan::Protocol {
    match section.protocol.value {
        Protocol::Http => plan::Protocol::Http,
        Protocol::Amqp => plan::Protocol::Local(AMQP),
        Protocol::Tcp => plan::Protocol::Tcp(
            section.to.as_ref().map_or_else(Vec::new, |to| targets(&to.value, names, cx)),
        ),
        Protocol::TlsPassthrough => {
            let mut otherwise =
                section.to.as_ref().map_or_else(Vec::new, |to| targets(&to.value, names, cx));
            let mut by_sni: Vec<(Host, _)> = Vec::new();
            for (pattern, to) in &section.sni.0 {
                let to = targets(to, names, cx);
                match &pattern.value.0 {
                    Some(host) => by_sni.push((host.clone(), to)),
                    None if otherwise.is_empty() => otherwise = to,
                    None => cx.report(Problem::error(
                        pattern.place,
                        "`*` and `to` both say where the rest goes; one of them is enough",
                    )),
                }
            }
            // Among names that fit, the more specific one decides, whatever the order of the file.
            by_sni.sort_by_key(|(host, _)| match host {
                Host::Exact(_) => (0, 0),
                Host::Wildcard(suffix) => (1, usize::MAX - suffix.len()),
            });
            plan::Protocol::TlsPassthrough { by_sni, otherwise }
        }
    }
}

fn http(section: &Listener) -> Http {
    Http {
        header_bytes_max: section.limits.header_bytes_max.as_usize(),
        header_count_max: section.limits.header_count_max.usize(),
        streams_max: section.limits.streams_max.u32(),
        resets_max: section.limits.resets_max.u32(),
        header_timeout: section.timeouts.headers.0,
        idle_timeout: section.timeouts.idle.0,
        stream_idle_timeout: section.timeouts.stream_idle.0,
        body_timeout: section.timeouts.body.on().map(|span| span.0),
        connection_age: listener::age(&section.timeouts.connection_age),
        connections_max: section.limits.connections_max.usize(),
        trusted_hops: section.trusted_hops.usize(),
        trusted_proxies: section.trusted_proxies.to_vec(),
        encoded_slash: match section.encoded_slash {
            EncodedSlash::Reject => plan::EncodedSlash::Reject,
            EncodedSlash::Keep => plan::EncodedSlash::Keep,
        },
        underscores: section.underscores,
        grpc_web: section.grpc_web,
        forward_client_cert: section.tls.value.on().is_some_and(|tls| {
            let hosts = tls.hosts.0.iter().filter_map(|(_, host)| host.client_auth.on());
            let mut all = tls.client_auth.iter().chain(hosts.map(|auth| &auth.0));
            all.any(|auth| auth.forward)
        }),
        client_auth_hosts: tls::hosts_of(section.tls.value.on()),
        via: section.via.0.clone(),
    }
}

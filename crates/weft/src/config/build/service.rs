//! Services.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use weft_discovery::{
    self as discovery, Check, EndpointOptions, Location, ProbeTls, ServiceOptions,
};
use weft_kernel::Name;
use weft_proxy::plan::{self, HashInput, Pool, ProxyHeader, UpstreamProtocol};
use weft_resilience::{adaptive, breaker, budget, ejection};

use super::{policy::bulkhead_of, tls::Tls};
use crate::config::{
    leaf::{FilePath, Switch},
    problem::Problem,
    sections::{
        Service,
        service::{self, Algorithm, BreakerMode, DnsType, Family, Hash, Protocol, WindowKind},
    },
    setting::{At, Cx},
    source::Place,
};

pub(super) fn build(
    name: &At<Name>,
    section: &Service,
    tls: &mut Tls,
    cx: &mut Cx,
) -> Option<plan::Service> {
    let endpoints = endpoints(name, section, cx);
    let algorithm = balancer(section, cx);
    let protocol = match section.protocol.value {
        Protocol::Auto => UpstreamProtocol::Auto,
        Protocol::Http1 => UpstreamProtocol::Http1,
        Protocol::Http2 => UpstreamProtocol::Http2,
    };
    let upstream = match &section.tls.value {
        Switch::On(client) => {
            let client = At { value: client.clone(), place: section.tls.place };
            Some(tls.client(&client, section.protocol.value, cx)?)
        }
        Switch::Off => None,
    };
    let health = match section.health.on() {
        Some(health) => Some(health_of(health, section, cx)?),
        None => None,
    };
    if let Switch::On(breaker) = &section.breaker
        && breaker.window == WindowKind::Count
        && breaker.calls_min.0 > breaker.calls.0
    {
        cx.report(Problem::error(
            breaker.place,
            "`calls_min` is more than the window of `calls` holds, so it would never open",
        ));
    }
    if let Switch::On(concurrency) = &section.concurrency
        && concurrency.min.0 > concurrency.max.0
    {
        cx.report(Problem::error(concurrency.place, "`min` is more than `max`"));
    }
    if let Switch::On(ejection) = &section.ejection
        && ejection.base.0 > ejection.max.0
    {
        cx.report(Problem::error(ejection.place, "the first time out is longer than the longest"));
    }
    let balancer = &section.balancer.value;
    let dns = discovery::Dns {
        family: match section.dns.family {
            Family::PreferIpv4 => discovery::Family::PreferIpv4,
            Family::PreferIpv6 => discovery::Family::PreferIpv6,
            Family::Both => discovery::Family::Both,
        },
        ttl_min: section.dns.ttl_min.value.0,
        ttl_max: section.dns.ttl_max.0,
    };
    Some(plan::Service {
        discovery: ServiceOptions {
            name: name.value.clone(),
            endpoints,
            algorithm,
            bounded_load: balancer.bounded_load.as_ref().map(|factor| factor.0),
            slow_start: balancer.slow_start,
            slow_start_min: balancer.slow_start_min.0,
            panic_threshold: balancer.panic_threshold.0,
            zone_threshold: balancer.zone_threshold.0,
            health,
            ejection: section.ejection.on().map(ejection_of),
            dns,
            tls: upstream.as_ref().map(|tls| ProbeTls {
                config: Arc::clone(&tls.config),
                name: tls.server_name.clone().and_then(|name| name.try_into().ok()),
            }),
            proxy_protocol: section.proxy_protocol.on().map(|header| match header {
                service::ProxyHeader::V1 => weft_wire::proxy_protocol::ProxyVersion::V1,
                service::ProxyHeader::V2 => weft_wire::proxy_protocol::ProxyVersion::V2,
            }),
        },
        protocol,
        tls: upstream,
        proxy_protocol: section.proxy_protocol.on().map(|header| match header {
            service::ProxyHeader::V1 => ProxyHeader::V1,
            service::ProxyHeader::V2 => ProxyHeader::V2,
        }),
        pool: pool(section),
        hash: section.balancer.hash.iter().map(hash).collect(),
        breaker: section.breaker.on().map(breaker_of),
        adaptive: section.concurrency.on().map(|concurrency| adaptive::Options {
            min: concurrency.min.u32(),
            max: concurrency.max.u32(),
            initial: concurrency.initial.u32(),
            tolerance: concurrency.tolerance.0,
        }),
        bulkhead: section.bulkhead.on().map(bulkhead_of),
        retry_budget: budget::Options {
            ratio: section.retry_budget.ratio.0,
            per_second: section.retry_budget.per_second.u32(),
            window: section.retry_budget.window.0,
        },
    })
}

fn endpoints(name: &At<Name>, section: &Service, cx: &mut Cx) -> Vec<EndpointOptions> {
    let mut all: Vec<EndpointOptions> = Vec::with_capacity(section.endpoints.len());
    let mut first = HashMap::new();
    for endpoint in section.endpoints.iter() {
        let Some(At { value: location, place }) = location(endpoint, cx) else { continue };
        if let Some(before) = first.insert(location.clone(), place) {
            cx.report(
                Problem::error(place, format!("the endpoint {location} stands twice"))
                    .and(before, "first here")
                    .help("give one of them a `weight` to send it more"),
            );
        }
        all.push(EndpointOptions {
            location,
            weight: endpoint.weight.u32(),
            zone: endpoint.zone.as_deref().map(Into::into),
            priority: endpoint.priority.u16(),
        });
    }
    let dns = &section.dns;
    if let Some(host) = &dns.name {
        let text = match (dns.kind, dns.port) {
            (DnsType::Srv, None) => Some(format!("srv:{}", host.value.0)),
            (DnsType::Host, Some(port)) => Some(format!("{}:{}", host.value.0, port.0)),
            (DnsType::Srv, Some(_)) => {
                cx.report(Problem::error(
                    dns.place,
                    "SRV records carry their own port: leave `port` out",
                ));
                None
            }
            (DnsType::Host, None) => {
                cx.report(Problem::error(
                    dns.place,
                    "`port` is missing: addresses in DNS carry none",
                ));
                None
            }
        };
        if let Some(text) = text {
            match text.parse::<Location>() {
                Ok(location) => all.push(EndpointOptions::new(location)),
                Err(error) => cx.report(Problem::error(host.place, error.to_string())),
            }
        }
    } else if dns.port.is_some() {
        cx.report(Problem::error(dns.place, "`port` is for a `name`, which is missing"));
    }
    if dns.ttl_min.0 > dns.ttl_max.0 {
        cx.report(Problem::error(dns.ttl_min.place, "`ttl_min` is longer than `ttl_max`"));
    }
    if section.endpoints.is_empty() && dns.name.is_none() {
        cx.report(
            Problem::error(name.place, format!("the service `{}` has no endpoint", name.value))
                .help("say `endpoints: [10.0.0.1:8080]`, or `dns: {name: …, port: …}`"),
        );
    }
    all
}

/// Where an endpoint is; a file with endpoints that cannot be used is a warning, since it may come.
fn location(section: &service::Endpoint, cx: &mut Cx) -> Option<At<Location>> {
    match (&section.address, &section.file) {
        (Some(address), None) => Some(address.clone()),
        (None, Some(At { value: FilePath(path), place })) => {
            if let Err(why) = discovery::source::file::read(path) {
                let what = format!("the endpoints in {} cannot be used: {why}", path.display());
                cx.report(
                    Problem::warning(*place, what)
                        .help("the file is read again as soon as it changes"),
                );
            }
            Some(At { value: Location::File(path.as_path().into()), place: *place })
        }
        (None, None) => {
            cx.report(Problem::error(section.place, "an endpoint is an `address` or a `file`"));
            None
        }
        (Some(_), Some(file)) => {
            cx.report(Problem::error(file.place, "keep one of `address` and `file`"));
            None
        }
    }
}

fn balancer(section: &Service, cx: &mut Cx) -> discovery::Algorithm {
    let balancer = &section.balancer.value;
    let algorithm = match balancer.algorithm {
        Algorithm::PeakEwma => discovery::Algorithm::PeakEwma,
        Algorithm::LeastRequest => discovery::Algorithm::LeastRequest,
        Algorithm::RoundRobin => discovery::Algorithm::WeightedRoundRobin,
        Algorithm::Random => discovery::Algorithm::Random,
        Algorithm::RingHash => discovery::Algorithm::RingHash {
            min: balancer.ring_min.u32(),
            max: balancer.ring_max.u32(),
        },
        Algorithm::Maglev => discovery::Algorithm::Maglev { table: balancer.table.u32() },
    };
    let place = section.balancer.place;
    if algorithm.hashes() && balancer.hash.is_empty() {
        cx.report(
            Problem::error(place, format!("{} has nothing to hash", algorithm.word()))
                .help("say what keeps a client with its endpoint, such as `hash: address`"),
        );
    }
    if !algorithm.hashes() && !balancer.hash.is_empty() {
        cx.report(
            Problem::error(
                place,
                format!("{} does not hash, so `hash` has no effect", algorithm.word()),
            )
            .help("choose `ring_hash` or `maglev`"),
        );
    }
    if balancer.ring_min.0 > balancer.ring_max.0 {
        cx.report(Problem::error(place, "`ring_min` is more than `ring_max`"));
    }
    if let Some(factor) = &balancer.bounded_load {
        if factor.0 < 1.0 {
            cx.report(Problem::error(factor.place, "a bounded load is at least 1, the fair share"));
        } else if !algorithm.hashes() {
            cx.report(Problem::error(factor.place, "a bounded load is for ring_hash and maglev"));
        }
    }
    algorithm
}

fn hash(section: &Hash) -> HashInput {
    match section {
        Hash::Header(name) => HashInput::Header(name.0.clone()),
        Hash::Query(name) => HashInput::Query(name.clone()),
        Hash::Address => HashInput::Address,
        Hash::Path => HashInput::Path,
        Hash::Cookie(cookie) => match cookie.ttl {
            None => HashInput::Cookie(cookie.name.0.clone()),
            Some(ttl) => HashInput::StickyCookie {
                name: cookie.name.0.clone(),
                ttl: (ttl > Duration::ZERO).then_some(ttl),
                path: cookie.path.0.clone(),
            },
        },
    }
}

fn health_of(
    section: &service::Health,
    service: &Service,
    cx: &mut Cx,
) -> Option<discovery::Health> {
    let check = match (&section.http, &section.grpc, &section.tcp) {
        (Some(http), None, None) => http_check(http, section.place, cx)?,
        (None, Some(grpc), None) => {
            if service.protocol.value == Protocol::Http1 {
                cx.report(
                    Problem::error(section.place, "a gRPC check needs HTTP/2")
                        .and(service.protocol.place, "this service is spoken to by HTTP/1.1"),
                );
            }
            Check::Grpc {
                service: grpc.service.clone().unwrap_or_default(),
                host: grpc.host.as_ref().map(|host| host.0.clone()),
            }
        }
        (None, None, Some(tcp)) => Check::Tcp {
            send: Bytes::from(tcp.send.clone().unwrap_or_default()),
            expect: Bytes::from(tcp.expect.clone().unwrap_or_default()),
        },
        (None, None, None) => {
            cx.report(Problem::error(section.place, "say how: `http`, `grpc` or `tcp`"));
            return None;
        }
        _ => {
            cx.report(Problem::error(section.place, "keep one of `http`, `grpc`, `tcp`"));
            return None;
        }
    };
    if section.timeout.0 > section.interval.0 {
        cx.report(Problem::warning(
            section.interval.place,
            "a check may take longer than the time until the next",
        ));
    }
    Some(discovery::Health {
        check,
        interval: section.interval.value.0,
        unhealthy_interval: section.unhealthy_interval.0,
        jitter: section.jitter.0,
        timeout: section.timeout.0,
        down: section.down.u32(),
        up: section.up.u32(),
        port: section.port.map(|port| port.u16()),
    })
}

fn http_check(section: &service::HttpCheck, place: Place, cx: &mut Cx) -> Option<Check> {
    if section.headers.0.iter().any(|(name, _)| name.0 == "host") {
        let what = "a check has one `host`, which is not said among its `headers`";
        cx.report(Problem::error(place, what).help("say `host: shop.example` beside `path`"));
    }
    let mut headers = http::HeaderMap::new();
    for (name, value) in &section.headers.0 {
        let name: http::HeaderName = name.0.parse().ok()?;
        headers.append(name, value.0.parse().ok()?);
    }
    Some(Check::Http {
        path: section.path.0.clone(),
        method: section.method.0.parse().ok()?,
        host: section.host.as_ref().map(|host| host.0.clone()),
        headers,
        statuses: section.statuses.iter().map(|statuses| statuses.0.clone()).collect(),
        http2: section.http2,
    })
}

fn ejection_of(section: &service::Ejection) -> ejection::Options {
    ejection::Options {
        consecutive: section.consecutive.u32(),
        window: section.window.0,
        samples_min: section.samples_min.u32(),
        success_ratio_min: section.success_ratio_min.0,
        base: section.base.value.0,
        max: section.max.0,
        jitter: section.jitter.0,
    }
}

fn pool(section: &Service) -> Pool {
    let pool = &section.pool;
    Pool {
        connections_max: pool.connections_max.usize(),
        idle_max: pool.idle_max.usize(),
        idle_timeout: pool.idle_timeout.0,
        age_max: pool.age_max.on().map(|span| span.0),
        requests_max: pool.requests_max.on().map(|count| count.0),
        streams_max: pool.streams_max.usize(),
    }
}

fn breaker_of(section: &service::Breaker) -> breaker::Options {
    breaker::Options {
        window: match section.window {
            WindowKind::Count => breaker::Window::Calls(section.calls.u32()),
            WindowKind::Time => breaker::Window::Time(section.span.0),
        },
        calls_min: section.calls_min.u32(),
        failure_ratio: section.failure_ratio.0,
        slow_ratio: section.slow_ratio.0,
        slow_after: section.slow_after.on().map(|span| span.0),
        open: section.open.0,
        half_open: section.half_open.u32(),
        mode: match section.mode {
            BreakerMode::Enforce => breaker::Mode::Enforce,
            BreakerMode::MetricsOnly => breaker::Mode::MetricsOnly,
            BreakerMode::Isolated => breaker::Mode::Isolated,
        },
    }
}

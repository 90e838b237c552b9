//! What a scrape shows: only what the table names, in OpenMetrics grammar, and summed rightly.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use weft_kernel::{HandshakeFault, Reason, Tick};
use weft_telemetry::metrics::{
    Count, Def, Kind, Method, Metric, Registry, Sample, Shards, TABLE, Writer,
};

/// A sample line: its family, its whole name, its labels, its value.
struct Line {
    def: &'static Def,
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads OpenMetrics text strictly; panics on whatever the format or the table does not allow.
fn parse(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut seen = BTreeSet::new();
    let mut family: Option<&'static Def> = None;
    let body = text.strip_suffix("# EOF\n").expect("ends with EOF");
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let (word, rest) = comment.split_once(' ').unwrap();
            let (name, rest) = rest.split_once(' ').unwrap();
            match word {
                "HELP" => {
                    let def = TABLE.iter().find(|def| family_name(def) == name);
                    let def = def.unwrap_or_else(|| panic!("{name} is not in the table"));
                    assert!(seen.insert(name.to_owned()), "{name} is begun twice");
                    assert_eq!(rest, def.help);
                    family = Some(def);
                }
                "TYPE" => assert_eq!(rest, family.unwrap().kind.word()),
                "UNIT" => assert_eq!(rest, family.unwrap().unit),
                _ => panic!("{line}"),
            }
            continue;
        }
        let def = family.expect("a sample follows its family");
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let suffix = name.strip_prefix(family_name(def)).unwrap_or_else(|| panic!("{line}"));
        let allowed: &[&str] = match def.kind {
            Kind::Counter => &["_total"],
            Kind::Gauge => &[""],
            Kind::Info => &["_info"],
            Kind::Histogram => &["_bucket", "_sum", "_count"],
        };
        assert!(allowed.contains(&suffix), "{line}");
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => {
                let (labels, value) = rest.rsplit_once("} ").unwrap();
                (labels, value)
            }
            None => ("", rest.trim_start()),
        };
        let labels = read_labels(labels);
        for name in labels.keys() {
            let bucket = suffix == "_bucket" && name == "le";
            assert!(bucket || def.labels.contains(&&**name), "label {name} in {line}");
        }
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        lines.push(Line { def, name: name.to_owned(), labels, value });
    }
    lines
}

fn family_name(def: &Def) -> &'static str {
    def.name.trim_end_matches("_total").trim_end_matches("_info")
}

fn read_labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    other => other,
                }),
                (at, '"') => break at,
                (_, char) => value.push(char),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} twice");
        text = rest[end + 1..].strip_prefix(',').unwrap_or(&rest[end + 1..]);
    }
    labels
}

fn value(lines: &[Line], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let wanted = |line: &&Line| {
        line.name == name
            && labels.len() == line.labels.len()
            && labels
                .iter()
                .all(|(key, value)| line.labels.get(*key).is_some_and(|have| have == value))
    };
    let mut found = lines.iter().filter(wanted);
    let value = found.next()?.value;
    assert!(found.next().is_none(), "{name} {labels:?} twice");
    Some(value)
}

/// A registry in which everything in the table has a value.
fn everything(registry: &Registry) -> impl Sized {
    let (route, service) = (registry.route("orders \"v2\"\n\\"), registry.service("orders"));
    let listener = registry.listener("edge");
    for worker in 0..2 {
        listener.opened(worker);
        if worker == 0 {
            listener.handshake(worker);
        } else {
            listener.handshake_failed(worker, HandshakeFault::Version, Tick::ZERO);
        }
        listener.refused(worker);
        listener.protocol_error(worker);
        listener.relayed(worker, 10, 20);
        route.enter(worker);
        for status in [200, 404, 503] {
            let sample = Sample {
                method: Method::Get,
                status,
                duration: Duration::from_millis(3),
                request_bytes: 5,
                response_bytes: 7,
                ..Sample::default()
            };
            route.record(worker, &sample);
            route.record_fact(worker, "consumer", "acme", status);
            service.record(worker, &sample);
            service.passed(worker, sample.request_bytes, sample.response_bytes);
        }
        let failed =
            Sample { reason: Some(Reason::ConnectTimeout), grpc: Some(14), ..Sample::default() };
        service.record(worker, &failed);
        service.failed(worker, Reason::NoEndpoint);
        for what in [Count::Retry, Count::Hedge, Count::Ejection, Count::PoolReused] {
            service.count(worker, what);
        }
    }
    listener.closed(1);
    registry.config().applied(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
    registry.config().refused();
    registry.spans().exported.add(3);
    registry.access().full.add(4);
    registry.source(|to| {
        let at = [("weft_service", "orders"), ("endpoint", "10.0.0.7:80")];
        to.gauge(Metric::ClientActive, &at[..1], 2.0);
        to.gauge(Metric::EndpointHealthy, &at, 1.0);
        to.gauge(Metric::EndpointEjected, &at, 0.0);
        to.gauge(Metric::EndpointActive, &at, 2.0);
        to.gauge(Metric::EndpointLatency, &at, 0.0125);
        to.gauge(Metric::EndpointWeight, &[("mood", "fine"), at[0], at[1]], 0.5);
        to.gauge(Metric::CertificateExpiry, &[("certificate", "edge")], 2e9);
    });
    registry.source(|to| {
        let at = [("weft_service", "orders"), ("endpoint", "10.0.0.8:80")];
        to.gauge(Metric::EndpointHealthy, &at, 0.0);
        let service = [("weft_service", "orders"), ("state", "healthy")];
        to.gauge(Metric::ServiceEndpoints, &service, 1.0);
        let source = [("kind", "dns"), ("source", "orders.internal:80")];
        to.gauge(Metric::SourceFresh, &source, 1.0);
        to.gauge(Metric::SourceEndpoints, &source, 3.0);
        to.gauge(Metric::ServiceBreakerState, &service[..1], 0.0);
        to.gauge(Metric::ServiceConcurrencyLimit, &service[..1], 100.0);
    });
    registry.source(messages);
    (route, service, listener)
}

/// What the rooms that keep messages tell, and the node.
fn messages(to: &mut Writer) {
    const ROOMS: [&str; 5] =
        ["weft_topic_", "weft_queue_", "weft_subscription_", "weft_ledger_", "weft_tasks"];
    const OF: [(&str, &str); 8] = [
        ("thread", "control"),
        ("topic", "order.placed"),
        ("queue", "emails"),
        ("subscription", "billing"),
        ("state", "ready"),
        ("how", "accepted"),
        ("cause", "expired"),
        ("kind", "wal"),
    ];
    for metric in Metric::ALL {
        let def = metric.def();
        if !ROOMS.iter().any(|room| def.name.starts_with(room)) {
            continue;
        }
        match def.kind {
            Kind::Counter if def.unit == "seconds" => to.counter_real(*metric, 0.25),
            Kind::Counter => to.counter(*metric, &OF, 7),
            _ => to.gauge(*metric, &OF, 7.0),
        }
    }
}

#[test]
fn a_scrape_holds_the_whole_table_and_nothing_else() {
    let registry = Registry::new(Shards::new(2), "1.2.3");
    let _held = everything(&registry);
    let lines = parse(&registry.encode());
    let shown: BTreeSet<_> = lines.iter().map(|line| line.def.name).collect();
    let missing: Vec<_> =
        TABLE.iter().map(|def| def.name).filter(|name| !shown.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn workers_are_summed() {
    let registry = Registry::new(Shards::new(2), "1.2.3");
    let _held = everything(&registry);
    let lines = parse(&registry.encode());
    let route = ("http_route", "orders \"v2\"\n\\");
    let service = ("weft_service", "orders");
    let ok = [("http_request_method", "GET"), ("http_response_status_code", "200")];
    let bad = [
        ("http_request_method", "GET"),
        ("http_response_status_code", "503"),
        ("error_type", "503"),
    ];
    for (name, labels, expect) in [
        ("http_server_request_duration_seconds_count", vec![route, ok[0], ok[1]], 2.0),
        ("http_server_request_duration_seconds_sum", vec![route, ok[0], ok[1]], 0.006),
        (
            "http_server_request_duration_seconds_bucket",
            vec![route, ok[0], ok[1], ("le", "0.0025")],
            0.0,
        ),
        (
            "http_server_request_duration_seconds_bucket",
            vec![route, ok[0], ok[1], ("le", "0.005")],
            2.0,
        ),
        (
            "http_server_request_duration_seconds_bucket",
            vec![route, ok[0], ok[1], ("le", "+Inf")],
            2.0,
        ),
        ("http_server_request_duration_seconds_count", vec![route, bad[0], bad[1], bad[2]], 2.0),
        ("http_server_active_requests", vec![route], 2.0),
        ("weft_route_request_bytes_total", vec![route], 30.0),
        ("weft_route_response_bytes_total", vec![route], 42.0),
        (
            "weft_route_fact_requests_total",
            vec![route, ("fact", "consumer"), ("value", "acme"), ("status_class", "4xx")],
            2.0,
        ),
        ("http_client_active_requests", vec![service], 2.0),
        ("weft_service_retries_total", vec![service], 2.0),
        ("weft_service_shed_total", vec![service], 0.0),
        ("weft_service_failures_total", vec![service, ("reason", "no_endpoint")], 2.0),
        ("weft_service_failures_total", vec![service, ("reason", "connect_timeout")], 2.0),
        ("weft_listener_connections_total", vec![("listener", "edge")], 2.0),
        ("weft_listener_connections_active", vec![("listener", "edge")], 1.0),
        ("weft_worker_connections_active", vec![("worker", "0")], 1.0),
        ("weft_worker_connections_active", vec![("worker", "1")], 0.0),
        ("weft_config_reloads_total", vec![("outcome", "refused")], 1.0),
        ("weft_config_applied_timestamp_seconds", vec![], 1_000.0),
        ("weft_config_stale", vec![], 1.0),
        ("weft_access_log_dropped_total", vec![("cause", "full")], 4.0),
        ("weft_build_info", vec![("version", "1.2.3")], 1.0),
    ] {
        assert_eq!(value(&lines, name, &labels), Some(expect), "{name} {labels:?}");
    }
    // A server does not call 404 its error; a client does.
    let error = |family: &str| {
        let line = lines.iter().find(|line| {
            line.name == format!("{family}_count")
                && line
                    .labels
                    .get("http_response_status_code")
                    .is_some_and(|status| status == "404")
        });
        line.unwrap().labels.get("error_type").cloned()
    };
    assert_eq!(error("http_server_request_duration_seconds"), None);
    assert_eq!(error("http_client_request_duration_seconds").as_deref(), Some("404"));
}

#[test]
fn a_meter_outlives_a_reload_and_dies_with_its_last_snapshot() {
    let registry = Registry::new(Shards::new(1), "0");
    let old = registry.route("orders");
    old.record(0, &Sample { status: 200, ..Sample::default() });
    let new = registry.route("orders");
    drop(old);
    new.record(0, &Sample { status: 200, ..Sample::default() });
    let labels = [
        ("http_route", "orders"),
        ("http_request_method", "_OTHER"),
        ("http_response_status_code", "200"),
    ];
    let count = |registry: &Registry| {
        value(&parse(&registry.encode()), "http_server_request_duration_seconds_count", &labels)
    };
    assert_eq!(count(&registry), Some(2.0));
    drop(new);
    assert_eq!(count(&registry), None);
    assert!(!registry.encode().contains("http_route"));
    let again = registry.route("orders");
    again.record(0, &Sample { status: 200, ..Sample::default() });
    assert_eq!(count(&registry), Some(1.0));
}

#[test]
fn names_that_come_and_go_leave_nothing_behind() {
    let registry = Registry::new(Shards::new(1), "0");
    let kept = registry.route("kept");
    for turn in 0..10_000 {
        drop(registry.route(&format!("route-{turn}")));
    }
    kept.enter(0);
    let text = registry.encode();
    assert_eq!(text.matches("http_server_active_requests{").count(), 1);
}

#[test]
fn a_scrape_while_workers_count_is_always_consistent() {
    let registry = Registry::new(Shards::new(2), "0");
    let route = registry.route("orders");
    let labels = [
        ("http_route", "orders"),
        ("http_request_method", "GET"),
        ("http_response_status_code", "200"),
    ];
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let route = &route;
            scope.spawn(move || {
                let duration = Duration::from_millis(worker as u64 * 30);
                let sample =
                    Sample { method: Method::Get, status: 200, duration, ..Sample::default() };
                for _ in 0..50_000 {
                    route.record(worker, &sample);
                }
            });
        }
        let mut last = 0.0;
        while last < 100_000.0 {
            let lines = parse(&registry.encode());
            let name = "http_server_request_duration_seconds";
            let count = value(&lines, &format!("{name}_count"), &labels).unwrap_or(0.0);
            let all: Vec<_> = labels.iter().copied().chain([("le", "+Inf")]).collect();
            assert_eq!(value(&lines, &format!("{name}_bucket"), &all).unwrap_or(0.0), count);
            assert!(count >= last);
            last = count;
        }
    });
}

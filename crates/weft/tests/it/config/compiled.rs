//! What good configurations become.

use std::time::{Duration, Instant};

use weft::components::telemetry::plan::Telemetry;
use weft_discovery::{Algorithm, Check, Location};
use weft_proxy::plan::{
    FieldValue, Host, Http, Path, PathRewrite, Pool, Protocol, RoutePolicies, Target,
};
use weft_resilience::{adaptive, breaker, budget, bulkhead, ejection, hedge, retry, timeout};

use super::{good, load};

const MINIMAL: &str = "
listeners: {web: {address: 127.0.0.1:80}}
services: {a: {endpoints: 127.0.0.1:81}}
routes: [{name: r, to: a}]
";

#[test]
fn defaults_are_those_of_the_rooms() {
    let plan = good(MINIMAL).plan;
    let http = &plan.proxy.listeners[0].http;
    assert_eq!(format!("{http:?}"), format!("{:?}", Http::default()));
    let policy = &plan.proxy.routes[0].policy;
    assert_eq!(policy.timeout, timeout::Options::default());
    assert_eq!(policy.retry, Some(retry::Options::default()));
    assert_eq!(policy.body_bytes_max, RoutePolicies::default().body_bytes_max);
    assert_eq!(policy.criticality, RoutePolicies::default().criticality);
    assert!(policy.hedge.is_none() && policy.mirror.is_none() && policy.fallback.is_none());
    let service = &plan.proxy.services[0];
    let mut expected = weft_discovery::ServiceOptions::new(service.discovery.name.clone());
    expected.endpoints.clone_from(&service.discovery.endpoints);
    assert_eq!(service.discovery, expected);
    assert_eq!(service.discovery.ejection, Some(ejection::Options::default()));
    assert_eq!(service.pool, Pool::default());
    assert_eq!(service.retry_budget, budget::Options::default());
    assert_eq!(service.adaptive, None);
    let telemetry = plan.part::<Telemetry>().unwrap();
    assert_eq!(telemetry.access_log, weft_telemetry::access::Options::default());
    assert_eq!(
        format!("{:?}", telemetry.log),
        format!("{:?}", weft_telemetry::log::Options::default())
    );
    assert!((telemetry.trace_sample - 0.01).abs() < 1e-9 && telemetry.otlp.is_none());
    assert_eq!(plan.admin.unwrap().listen.to_string(), "127.0.0.1:9901");
}

#[test]
fn defaults_of_what_is_off_are_those_of_the_rooms_too() {
    let plan = good(
        "
listeners: {web: {address: 127.0.0.1:80}}
services:
  a: {endpoints: 127.0.0.1:81, breaker: on, bulkhead: 1024, concurrency: on, health: {http: {path: /}}}
  b: {endpoints: 127.0.0.1:81, balancer: {algorithm: ring_hash, hash: address}}
  c: {endpoints: 127.0.0.1:81, balancer: {algorithm: maglev, hash: address}}
routes: [{name: r, to: [a, b, c], hedge: on}]
",
    )
    .plan;
    let services = &plan.proxy.services;
    assert_eq!(services[0].breaker, Some(breaker::Options::default()));
    assert_eq!(services[0].bulkhead, Some(bulkhead::Options::default()));
    assert_eq!(services[0].adaptive, Some(adaptive::Options::default()));
    assert_eq!(services[0].discovery.health, Some(weft_discovery::Health::new(Check::http("/"))));
    assert_eq!(services[1].discovery.algorithm, Algorithm::RING_HASH);
    assert_eq!(services[2].discovery.algorithm, Algorithm::MAGLEV);
    assert_eq!(plan.proxy.routes[0].policy.hedge, Some(hedge::Options::default()));
}

#[test]
fn short_forms_mean_what_they_say() {
    let plan = good(include_str!("good/full.yaml")).plan;
    let [web, mysql, tls] = &plan.proxy.listeners[..] else { panic!("three listeners") };
    assert_eq!(plan.sockets[0].addresses[0].to_string(), "0.0.0.0:8080");
    assert_eq!(web.http.trusted_proxies, ["10.0.0.0/8".parse().unwrap()]);
    assert!(matches!(&mysql.protocol, Protocol::Tcp(to) if to[0].service.as_str() == "mysql"));
    let Protocol::TlsPassthrough { by_sni, otherwise } = &tls.protocol else { panic!("SNI") };
    assert_eq!(by_sni[0].0, Host::Exact("one.db.example.com".into()), "the exact name is first");
    assert_eq!(otherwise.len(), 1);

    let route = &plan.proxy.routes[0];
    assert_eq!(route.matches[0].path, Path::Prefix("/api/orders".into()));
    assert_eq!(route.matches[0].hosts[1], Host::Wildcard("shop.example".into()));
    let headers = &route.matches[0].headers;
    assert_eq!(headers[0].value, FieldValue::Exact("1".into()));
    assert_eq!((&headers[1].value, headers[1].invert), (&FieldValue::Present, false));
    assert_eq!((&headers[2].value, headers[2].invert), (&FieldValue::Present, true));
    assert_eq!(route.matches[1].path, Path::Template("/orders/{id}".into()));
    let Target::Services(to) = &route.target else { panic!("services") };
    assert_eq!((to[0].weight, to[1].weight), (90, 10));
    assert_eq!(route.rewrite.path, Some(PathRewrite::Prefix("/orders".into())));

    let orders = &plan.proxy.services[0];
    assert_eq!(orders.discovery.endpoints[1].weight, 2);
    assert_eq!(orders.hash.len(), 4);
    assert_eq!(
        plan.proxy.services[1].discovery.endpoints[0].location,
        Location::Host { host: "orders.internal".into(), port: 8080 }
    );
}

#[test]
fn the_later_policy_wins_key_by_key_and_the_route_over_all() {
    let plan = good(include_str!("good/full.yaml")).plan;
    let policy = &plan.proxy.routes[0].policy;
    assert_eq!(policy.timeout.connect, Duration::from_millis(100), "the route");
    assert_eq!(policy.timeout.request, Some(Duration::from_secs(3)), "the later policy");
    assert_eq!(policy.timeout.per_try, Some(Duration::from_secs(2)), "the earlier policy");
    let retry = policy.retry.as_ref().unwrap();
    assert_eq!((retry.retries, retry.statuses.as_slice()), (2, &[429][..]));
    assert_eq!(policy.request_headers.set[0], ("x-from".to_owned(), "weft".to_owned()));
    assert!(policy.hedge.is_some() && policy.mirror.is_some());
    // What the next route does not say, it does not inherit.
    assert_eq!(plan.proxy.routes[1].policy.timeout, timeout::Options::default());
}

#[test]
fn off_beats_what_a_policy_turned_on() {
    let plan = good(
        "
listeners: {web: {address: 127.0.0.1:80}}
services: {a: {endpoints: 127.0.0.1:81}}
policies: {p: {retry: 3, hedge: 20ms}, q: {retry: {backoff: {base: 5ms}}}}
routes:
  - {name: r, policies: p, retry: off, match: /r, to: a}
  - {name: s, policies: [p, q], match: /s, to: a}
",
    )
    .plan;
    assert_eq!(plan.proxy.routes[0].policy.retry, None);
    let both = plan.proxy.routes[1].policy.retry.clone().unwrap();
    assert_eq!((both.retries, both.backoff.base), (3, Duration::from_millis(5)));
}

#[test]
fn nearest_names_are_suggested() {
    let text = MINIMAL.replace("to: a", "to: aa").replace("{a:", "{aaa:");
    let refused = load(&text).expect_err("no such service");
    assert_eq!(refused.problems[0].help.as_deref(), Some("did you mean `aaa`?"));
    assert_eq!(refused.errors(), 1, "{refused}");
}

/// Many routes as they might be: a tenth exact, most prefixes, with a few headers and policies.
pub(super) fn many(routes: usize) -> String {
    let mut text = String::from(
        "listeners: {web: {address: 127.0.0.1:80}}\npolicies: {p: {timeout: 3s}, q: {retry: off}}\nservices:\n",
    );
    for at in 0..routes / 10 {
        text.push_str(&format!("  s{at}: {{endpoints: [10.0.0.1:80, 10.0.0.2:80]}}\n"));
    }
    text.push_str("routes:\n");
    for at in 0..routes {
        let service = at % (routes / 10);
        text.push_str(&format!(
            "  - name: r{at}\n    match: {{host: h{}.example, path: /a/{at}/*, method: [GET, POST]}}\n    policies: [p, q]\n    to: s{service}\n",
            at % 100
        ));
    }
    text
}

#[test]
fn five_thousand_routes_take_no_time_that_grows_with_their_square() {
    let time = |routes| {
        let text = many(routes);
        let begun = Instant::now();
        let loaded = good(&text);
        assert_eq!(loaded.plan.proxy.routes.len(), routes);
        begun.elapsed()
    };
    let (few, more) = (time(1_000), time(5_000));
    // Five times as much; a quadratic check would take twenty-five times as long.
    assert!(more < few * 15, "1,000 routes took {few:?}, 5,000 took {more:?}");
}

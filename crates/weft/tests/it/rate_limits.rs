//! Rate limits of routes, as clients meet them.

use weft_testkit::{HttpMessage, Upstream, Weft, until};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(service: &Upstream, limits: &str) -> String {
    format!(
        "admin: {{ listen: '@admin' }}
listeners: {{ web: {{ address: '@web', trusted_proxies: 127.0.0.0/8 }} }}
services: {{ s: {{ endpoints: '{}' }} }}
consumers: {{ ada: {{ api_keys: [the-key-of-ada-12345] }}, bob: {{ api_keys: [the-key-of-bob-12345] }} }}
routes:
  - name: limited
    match: '/limited'
    to: s
    authentication: {{ any: api_key, anonymous: ada }}
    rate_limits: {limits}
  - {{ name: free, match: '/*', to: s }}
",
        service.address()
    )
}

fn ask(node: &Weft, fields: &str) -> HttpMessage {
    node.get("/limited", fields)
}

#[test]
fn each_key_has_a_limit_of_its_own() {
    let service = Upstream::saying("ok");
    let limits = "[{ rate: 3/h, by: [consumer, { header: x-tenant }] }]";
    let node = Weft::start(BIN, &config(&service, limits));
    let (ada, bob) = ("x-api-key: the-key-of-ada-12345\r\n", "x-api-key: the-key-of-bob-12345\r\n");
    for left in [2, 1, 0] {
        let answer = ask(&node, ada);
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.get("ratelimit-policy"), Some("\"default\";q=3;w=3600"));
        let said = answer.get("ratelimit").unwrap();
        assert!(said.starts_with(&format!("\"default\";r={left};t=")), "{said}");
    }
    let refused = ask(&node, ada);
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.get("retry-after").unwrap().parse().unwrap();
    assert!((1_190..=1_200).contains(&wait), "{wait}");
    assert_eq!(refused.get("ratelimit"), Some(&*format!("\"default\";r=0;t={wait}")));
    assert_eq!(refused.get("content-type"), Some("application/problem+json"));
    assert!(refused.text().contains("urn:weft:problem:rate_limited"), "{}", refused.text());
    assert_eq!(ask(&node, &format!("{ada}x-tenant: a\r\n")).status(), 200);
    assert_eq!(ask(&node, bob).status(), 200);
    assert_eq!(node.get("/free", ada).get("ratelimit"), None);
    assert_eq!(service.seen().len(), 6, "what is refused is not passed on");
    let log = node.wait_line("rate_limited");
    assert!(log.contains("default") && log.contains("ada"), "{log}");
    node.wait_metric("weft_route_fact_requests_total", &["rate_limited", "default"], 1.0);
}

#[test]
fn what_one_limit_refuses_costs_nothing_with_the_others() {
    let service = Upstream::saying("ok");
    let limits = "[{ name: wide, rate: 4/h }, { name: narrow, rate: 1/h, by: consumer }]";
    let node = Weft::start(BIN, &config(&service, limits));
    let (ada, bob) = ("x-api-key: the-key-of-ada-12345\r\n", "x-api-key: the-key-of-bob-12345\r\n");
    assert_eq!(ask(&node, ada).status(), 200);
    for _ in 0..10 {
        let refused = ask(&node, ada);
        assert_eq!(refused.status(), 429);
        assert!(refused.text().contains("the limit `narrow`"), "{}", refused.text());
        let said = refused.get("ratelimit").unwrap();
        assert!(said.starts_with("\"wide\";r=3;t="), "{said}");
    }
    let answer = ask(&node, bob);
    assert_eq!(answer.status(), 200);
    assert!(answer.get("ratelimit").unwrap().starts_with("\"wide\";r=2;"));
}

#[test]
fn a_shadow_refuses_nothing_and_tells() {
    let service = Upstream::saying("ok");
    let node = Weft::start(BIN, &config(&service, "[{ name: later, rate: 1/h, shadow: true }]"));
    for _ in 0..3 {
        let answer = ask(&node, "");
        assert_eq!((answer.status(), answer.get("ratelimit")), (200, None));
    }
    node.wait_metric("weft_route_fact_requests_total", &["later (shadow)"], 2.0);
}

#[test]
fn clients_are_told_apart_by_network_and_a_reload_forgets_nothing() {
    let service = Upstream::saying("ok");
    let yaml = config(&service, "{ rate: 1/h, by: client, headers: false }");
    let node = Weft::start(BIN, &yaml);
    let from = |address: &str| ask(&node, &format!("x-forwarded-for: {address}\r\n"));
    for (address, status) in [
        ("2001:db8::1", 200),
        ("2001:db8::2", 429),
        ("2001:db8:0:1::1", 200),
        ("192.0.2.1", 200),
        ("192.0.2.2", 200),
        ("192.0.2.1", 429),
    ] {
        let answer = from(address);
        assert_eq!((answer.status(), answer.get("ratelimit")), (status, None), "{address}");
    }
    node.reload(&yaml.replace("name: free", "name: other")).unwrap();
    assert_eq!(from("192.0.2.1").status(), 429);
    node.reload(&yaml.replace("1/h", "2/h")).unwrap();
    until("the new limit", || (from("192.0.2.1").status() == 200).then_some(()));
}

#[test]
fn the_limit_is_exact_over_all_workers_and_connections() {
    let service = Upstream::saying("ok");
    let node = Weft::with(BIN, &config(&service, "{ rate: 100/h }"), &["--workers", "2"]);
    let node = &node;
    let passed: usize = std::thread::scope(|scope| {
        let client = || {
            let statuses = (0..50).map(|_| ask(node, "").status());
            statuses.filter(|status| *status == 200).count()
        };
        let clients: Vec<_> = (0..6).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!((passed, service.seen().len()), (100, 100));
}

//! Rate limits of several nodes, as far as that needs no server: those are the suite `shared limits`.

use weft_testkit::{Upstream, Weft};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(port: u16) -> String {
    let limit = |when_away: &str| format!("{{ rate: 2/h, store: shared, when_away: {when_away} }}");
    let route = |name: &str, limits: &str| {
        format!("  - {{ name: {name}, match: /{name}, respond: 200, rate_limits: {limits} }}\n")
    };
    let routes: String = ["closed", "open", "local"].map(|word| route(word, &limit(word))).concat();
    let shadow = route("shadow", "{ rate: 2/h, store: shared, shadow: true }");
    let behind = route("behind", "[{ name: first, rate: 3/h }, { rate: 2/h, store: shared }]");
    format!(
        "admin: {{ listen: '@admin' }}
telemetry: {{ access_log: all }}
listeners: {{ web: {{ address: '@web' }} }}
limit_stores: {{ shared: 'redis://127.0.0.1:{port}' }}
routes:
{routes}{shadow}{behind}"
    )
}

#[test]
fn a_limit_whose_store_is_away_does_what_it_was_told() {
    let nowhere = Upstream::nowhere();
    let node = Weft::start(BIN, &config(nowhere.address().port()));
    let refused = node.get("/closed", "");
    assert_eq!(refused.status(), 503);
    assert!(refused.text().contains("urn:weft:problem:limit_store_unavailable"));
    assert!(refused.text().contains("`default`"), "{}", refused.text());
    for path in ["/open", "/shadow"] {
        for _ in 0..5 {
            assert_eq!(node.get(path, "").status(), 200, "{path}");
        }
    }
    node.wait_metric("weft_route_fact_requests_total", &["uncounted", "default"], 10.0);
    let alone: Vec<u16> = (0..4).map(|_| node.get("/local", "").status()).collect();
    assert_eq!(alone, [200, 200, 429, 429]);
    // What was counted before it is given back.
    for _ in 0..5 {
        assert_eq!(node.get("/behind", "").status(), 503);
    }
    let line = node.wait_line("the limit store is away");
    assert!(line.contains("shared"), "{line}");
    assert_eq!(node.metric("weft_limit_store_up", &["shared"]), 0.0);
}

#[test]
fn a_store_comes_and_goes_with_a_reload() {
    let nowhere = Upstream::nowhere();
    let yaml = config(nowhere.address().port());
    let node = Weft::start(BIN, &yaml);
    assert_eq!(node.get("/closed", "").status(), 503);
    let alone = yaml.replace(", store: shared, when_away: closed", "");
    node.reload(&alone).unwrap();
    let said: Vec<u16> = (0..3).map(|_| node.get("/closed", "").status()).collect();
    assert_eq!(said, [200, 200, 429]);
    let gone = alone.replace("limit_stores: ", "# ");
    let refused = node.reload(&gone).unwrap_err();
    assert!(refused.contains("names store `shared`, which is not there"), "{refused}");
}

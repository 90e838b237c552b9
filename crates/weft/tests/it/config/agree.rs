//! What is told to be good runs: whatever a configuration says, loading it and compiling it agree.

use std::sync::Arc;

use proptest::prelude::*;
use weft::components::{Components, List as _};
use weft_discovery::{
    Services,
    health::{Checkup, Probe, ProbeFuture},
    resolve::{Lookup, LookupFuture, Query},
};
use weft_kernel::{Rng, SystemClock, Tick};
use weft_proxy::Snapshot;
use weft_telemetry::metrics;

/// Nobody to ask.
struct Nobody;

impl Lookup for Nobody {
    fn lookup<'a>(&'a self, _: &'a Query) -> LookupFuture<'a> {
        Box::pin(std::future::pending())
    }
}

impl Probe for Nobody {
    fn probe(&self, _: Checkup) -> ProbeFuture<'_> {
        Box::pin(std::future::pending())
    }
}

/// Holds what `weft check` says to what `weft up` does.
fn agree(text: &str) -> bool {
    let Ok(loaded) = super::load(text) else { return false };
    let plan = &loaded.plan.proxy;
    let services =
        Services::new(Arc::new(SystemClock), Arc::new(Nobody), Arc::new(Nobody), Rng::seeded(1));
    let options = plan.services.iter().map(|service| service.discovery.clone()).collect();
    let discovered = services.prepare(options);
    let metrics = metrics::Registry::new(metrics::Shards::new(1), "test");
    let handlers = Components::new(&loaded.plan).handlers();
    let compiled = Snapshot::compile(plan, &discovered, &handlers, &metrics, None, Tick::ZERO);
    if let Err(errors) = compiled {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("{text}\nwas told to be good, but: {}", errors.join("\n"));
    }
    true
}

/// Pieces that paths, replacements and values are made of.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            "/", "//", "a", "b1", "..", ".", "%41", "%2f", "%2F", "%zz", "%", "%00", "%5c", "?",
            "#", " ", "ä", "\\", "$1", "$2", "${n}", "${1}x", "$$", "{id}", "{*rest}", "*", "(",
            ")", "[a-z]+", "(?<n>x)", ";x", "~", "a{3000}", ":", "@", "&",
        ][..],
    )
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..5).prop_map(|pieces| pieces.concat())
}

fn path() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("/{text}"))
}

/// YAML in which nothing in a text means anything; a variable stays the text that it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace("${", "$${").replace('\'', "''"))
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            "x-a",
            "X-B",
            "content-length",
            "Transfer-Encoding",
            "connection",
            "te",
            "upgrade",
            "host",
            "date",
            "a b",
            "",
            "keep-alive",
            "trailer",
            "set-cookie",
            "ä",
            "a_b",
            ":path",
        ][..],
    )
}

fn matching() -> impl Strategy<Value = String> {
    (path(), 0..6u8).prop_map(|(path, kind)| match kind {
        0 => quoted(&path),
        1 => quoted(&format!("{path}/*")),
        2 => quoted(&format!("~{path}")),
        3 => format!("{{ path: {{ prefix: {} }} }}", quoted(&path)),
        4 => format!("{{ path: {{ template: {} }} }}", quoted(&path)),
        _ => format!(
            "{{ path: {{ regex: {} }}, headers: {{ x: {} }} }}",
            quoted(&path),
            quoted(&format!("~{path}"))
        ),
    })
}

fn rewriting() -> impl Strategy<Value = String> {
    (path(), text(), 0..6u8).prop_map(|(path, text, kind)| match kind {
        0 => format!("prefix: {}", quoted(&path)),
        1 => format!("path: {}", quoted(&path)),
        2 | 3 => format!("regex: {{ pattern: {}, replace: {} }}", quoted(&text), quoted(&path)),
        4 => format!("template: {}", quoted(&path)),
        _ => format!("host: {}", quoted(&text)),
    })
}

fn target() -> impl Strategy<Value = String> {
    (path(), text(), name(), 0..600u16, 0..6u8).prop_map(|(path, text, name, number, kind)| {
        match kind {
            0 => format!(
                "respond: {{ status: {number}, headers: {{ {}: {} }} }}",
                quoted(name),
                quoted(&text)
            ),
            1 => format!("redirect: {{ path: {}, status: {number} }}", quoted(&path)),
            2 => format!("redirect: {{ host: {}, port: {number} }}", quoted(&text)),
            3 => format!("redirect: {{ template: {} }}", quoted(&path)),
            4 => format!("redirect: {{ prefix: {} }}", quoted(&path)),
            _ => "to: a".to_owned(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_route_that_is_good_runs(
        matching in matching(),
        rewriting in rewriting(),
        target in target(),
        (set, add, remove) in (name(), name(), name()),
        value in text(),
        parts in 0..8u8,
    ) {
        let mut route = format!("name: r, match: {matching}");
        if parts & 1 != 0 {
            route += &format!(", {target}");
        } else {
            route += ", to: a";
            if parts & 2 != 0 {
                route += &format!(", rewrite: {{ {rewriting} }}");
            }
        }
        if parts & 4 != 0 {
            route += &format!(
                ", headers: {{ request: {{ set: {{ {}: {} }} }}, response: {{ add: {{ {}: x }}, remove: [{}] }} }}",
                quoted(set), quoted(&value), quoted(add), quoted(remove)
            );
        }
        agree(&format!(
            "listeners: {{ web: {{ address: 127.0.0.1:80 }} }}\nservices: {{ a: {{ endpoints: 10.0.0.1:80 }} }}\nroutes:\n  - {{ {route} }}\n"
        ));
    }

    #[test]
    fn a_service_and_a_listener_that_are_good_run(
        name in name(),
        value in text(),
        host in text(),
        kind in 0..6u8,
    ) {
        let service = match kind {
            0 => format!("balancer: {{ algorithm: ring_hash, hash: {{ header: {} }} }}", quoted(name)),
            1 => format!("balancer: {{ algorithm: maglev, hash: {{ cookie: {} }} }}", quoted(name)),
            2 => format!("balancer: {{ algorithm: maglev, hash: {{ query: {} }} }}", quoted(&value)),
            3 => format!("tls: {{ server_name: {} }}", quoted(&host)),
            4 => format!("health: {{ http: {{ path: {}, host: {} }} }}", quoted(&value), quoted(&host)),
            _ => "pool: {}".to_owned(),
        };
        agree(&format!(
            "listeners: {{ web: {{ address: 127.0.0.1:80, via: {} }} }}\nservices: {{ a: {{ endpoints: 10.0.0.1:80, {service} }} }}\nroutes:\n  - {{ name: r, match: {{ host: {} }}, to: a, mirror: a }}\n",
            quoted(&value), quoted(&host)
        ));
    }
}

#[test]
fn the_generator_makes_what_is_good_too() {
    assert!(agree(
        "listeners: { web: { address: 127.0.0.1:80 } }\nservices: { a: { endpoints: 10.0.0.1:80 } }\nroutes:\n  - { name: r, match: '/a', to: a, rewrite: { regex: { pattern: 'a', replace: '/b' } } }\n"
    ));
}

#[test]
fn what_cannot_run_or_be_sent_is_not_told_to_be_good() {
    let whole = |listener: &str, service: &str, route: &str, more: &str| {
        format!(
            "listeners: {{ web: {{ address: 127.0.0.1:8080{listener} }} }}\n\
             services: {{ a: {{ endpoints: [10.0.0.1:80]{service} }} }}\n\
             routes: [{{ name: a, match: /*, to: a{route} }}]\n{more}\n"
        )
    };
    let hashed = |cookie: &str| {
        format!(", balancer: {{ algorithm: maglev, hash: {{ cookie: {{ {cookie} }} }} }}")
    };
    let changed = |ops: &str| format!(", headers: {{ request: {{ {ops} }} }}");
    let replaced = |pattern: &str, replace: &str| {
        format!(", rewrite: {{ regex: {{ pattern: '{pattern}', replace: '{replace}' }} }}")
    };
    let checked = |field: &str| format!(", health: {{ http: {{ headers: {{ {field} }} }} }}");
    let logged = |path: &str| format!("telemetry: {{ access_log: {{ output: '{path}' }} }}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log").display().to_string();
    let nowhere = folder.path().join("none/access.log").display().to_string();
    for (listener, service, route, more, good) in [
        ("", hashed("name: a, ttl: 1h, path: '/x'").as_str(), "", "", true),
        ("", &hashed("name: a, ttl: 1h, path: '/;Domain=x'"), "", "", false),
        ("", &hashed("name: a, ttl: 1h, path: x"), "", "", false),
        ("", &hashed("name: 'a b', ttl: 1h"), "", "", false),
        ("", "", "", "admin: 127.0.0.1:8081", true),
        ("", "", "", "admin: 127.0.0.1:8080", false),
        ("", "", "", "admin: { listen: '0.0.0.0:8080', token: x }", false),
        (", via: gate.example:80", "", "", "", true),
        (", via: ''", "", "", "", false),
        (", via: 'a b'", "", "", "", false),
        ("", "", &changed("set: { host: 'two.example:81' }"), "", true),
        ("", "", &changed("set: { Host: 'a b/c' }"), "", false),
        ("", "", &changed("set: { host: '' }"), "", false),
        ("", "", &changed("add: { HOST: two }"), "", false),
        ("", "", "", "policies: { p: { headers: { request: { add: { host: two } } } } }", false),
        ("", "", &replaced("^/v1(/.*)?$", "$1"), "", true),
        ("", "", &replaced("^/v1", ""), "", true),
        ("", "", &replaced("old", "new"), "", true),
        ("", "", &replaced("^/(.*)$", "/x/$1%20"), "", true),
        ("", "", &replaced("^/.*", "/%zz"), "", false),
        ("", "", &replaced("^/x", "/a%2"), "", false),
        ("", "", &replaced("^/.*", "abc"), "", false),
        ("", "", &replaced("^/.*", ""), "", false),
        ("", "", &replaced(".*", ""), "", false),
        ("", "", &replaced("^/users/([a-z]+)", "$1"), "", false),
        ("", &checked("x-a: b, user-agent: c"), "", "", true),
        ("", &checked("content-length: '5'"), "", "", false),
        ("", &checked("connection: x"), "", "", false),
        ("", &checked("upgrade: h2c"), "", "", false),
        ("", &checked("Host: h"), "", "", false),
        ("", "", "", &logged(&file), true),
        ("", "", "", &logged(&nowhere), false),
        ("", "", "", &logged(&folder.path().display().to_string()), false),
    ] {
        let text = whole(listener, service, route, more);
        assert_eq!(agree(&text), good, "{text}");
    }
}

#[test]
fn the_name_of_a_cookie_stays_as_it_is_written() {
    let loaded = super::good(
        "listeners: { web: { address: 127.0.0.1:80 } }\nservices: { a: { endpoints: 10.0.0.1:80, \
         balancer: { algorithm: maglev, hash: { cookie: JSESSIONID } } } }\n\
         routes: [{ name: a, to: a }]\n",
    );
    let hash = &loaded.plan.proxy.services[0].hash;
    assert_eq!(hash[..], [weft_proxy::plan::HashInput::Cookie("JSESSIONID".into())]);
}

//! How often Weft itself sends a request with a key: once, whatever the service that was reached has said.

use std::sync::atomic::Ordering;

use weft_testkit::{
    Upstream, Weft, grpc,
    http2::{self, Client, Service},
    upstream::{ok, status},
};

use super::{BIN, keyed, reason};

/// A node with services, one list of endpoints each, and routes.
fn node(services: &[(&str, &str)], routes: &str) -> Weft {
    let services: String = services
        .iter()
        .map(|(name, more)| format!("  {name}: {{ {more}, ejection: off }}\n"))
        .collect();
    let yaml = format!(
        "admin: {{ listen: '@admin' }}
ledger: {{ path: '@@/data', wal_file: 16MiB }}
listeners: {{ web: {{ address: '@web' }} }}
services:
{services}routes:
{routes}"
    );
    Weft::start(BIN, &yaml)
}

#[test]
fn a_request_that_a_service_turns_away_is_not_sent_again() {
    let service = Upstream::answering(|request| match request.target() {
        "/busy" => status(429),
        "/early" => status(425),
        _ => status(503),
    });
    let node = node(
        &[("s", &format!("endpoints: '{}'", service.address()))],
        "  - { name: all, match: '/*', to: s, idempotency: on, \
         retry: { retries: 3, statuses: [425, 429, 503], backoff: { base: 1ms, max: 1ms } } }\n",
    );
    for (path, status) in [("/busy", 429), ("/early", 425), ("/down", 503)] {
        assert_eq!(node.ask(keyed(path, path, "5")).status(), status);
        assert_eq!(service.seen().iter().filter(|seen| seen.target() == path).count(), 1, "{path}");
        // The client may ask again.
        assert_eq!(node.ask(keyed(path, path, "5")).status(), status);
        assert_eq!(service.seen().iter().filter(|seen| seen.target() == path).count(), 2, "{path}");
    }
}

#[test]
fn a_call_of_grpc_that_ends_unavailable_is_made_once() {
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = calls.clone();
    let service = Service::new(move |request, mut respond| {
        counter.fetch_add(1, Ordering::AcqRel);
        async move {
            http2::gather(request.into_body()).await?;
            grpc::refuse(&mut respond, grpc::status(14, ""))
        }
    });
    let node = node(
        &[("s", &format!("endpoints: '{}', protocol: http2", service.address()))],
        "  - { name: all, match: '/*', to: s, idempotency: on }\n",
    );
    http2::run(async {
        let client = Client::to(node.address("web")).await;
        for key in [Some("k"), None] {
            let mut call = grpc::call("/p.Pay/Charge");
            if let Some(key) = key {
                call = call.header("idempotency-key", key);
            }
            let body = grpc::message("x").to_vec();
            let answer = client.ask(call.body(body).unwrap()).await.unwrap();
            assert_eq!(answer.get("grpc-status"), "14");
        }
    });
    assert_eq!(calls.load(Ordering::Acquire), 3, "one with the key, two without");
}

#[test]
fn a_fallback_is_sent_only_what_has_reached_nobody() {
    let nowhere = Upstream::nowhere();
    let closes = Upstream::answering(|_| "");
    let fails = Upstream::answering(|_| status(503));
    let second = Upstream::answering(|_| ok("second"));
    let node = node(
        &[
            ("nowhere", &format!("endpoints: '{}'", nowhere.address())),
            ("closes", &format!("endpoints: '{}'", closes.address())),
            ("fails", &format!("endpoints: '{}'", fails.address())),
            ("second", &format!("endpoints: '{}'", second.address())),
        ],
        "  - { name: nowhere, match: '/nowhere', to: nowhere, idempotency: on, fallback: { to: second } }
  - { name: closes, match: '/closes', to: closes, idempotency: on, fallback: { to: second } }
  - { name: fails, match: '/fails', to: fails, idempotency: on, fallback: { to: second, statuses: [503] } }
  - { name: knows, match: '/knows', to: fails, idempotency: { service_deduplicates: true }, retry: off, fallback: { to: second, statuses: [503] } }
",
    );
    let closed = node.ask(keyed("/closes", "k", ""));
    assert_eq!((closed.status(), &*reason(&closed)), (502, "upstream_closed"));
    let again = node.ask(keyed("/closes", "k", ""));
    assert_eq!((again.status(), &*reason(&again)), (409, "idempotency_unknown"));
    assert_eq!(node.ask(keyed("/fails", "k", "")).status(), 503);
    assert_eq!((closes.seen().len(), fails.seen().len(), second.seen().len()), (1, 1, 0));
    // Nobody has begun with it, or the services themselves know the key.
    for path in ["/nowhere", "/knows"] {
        for replayed in [None, Some("true")] {
            let answer = node.ask(keyed(path, "k", ""));
            assert_eq!((&*answer.text(), answer.get("idempotent-replayed")), ("second", replayed));
        }
    }
    assert_eq!((fails.seen().len(), second.seen().len()), (2, 2));
}

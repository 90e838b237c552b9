//! Client certificates as credentials, through the real binary, over both versions of HTTP.

use std::fs;

use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;
use weft_testkit::{
    Authority, Conn, Issued, Upstream, Weft,
    http2::{self, Client},
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

struct Place {
    folder: TempDir,
    authority: Authority,
    clients: Authority,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (authority, clients) = (Authority::new("here"), Authority::new("clients"));
        authority.issue(&["shop.test"]).write(folder.path(), "shop");
        clients.write(folder.path(), "clients");
        Self { folder, authority, clients }
    }

    fn config(&self, service: &Upstream, exact: &Issued) -> String {
        let at = self.folder.path().display();
        format!(
            "
admin: {{ listen: '@admin' }}
telemetry: {{ access_log: {{ include: all, output: '@@/access.log' }} }}
listeners:
  web:
    address: '@web'
    tls:
      certificates: [{{ cert: '{at}/shop.crt', key: '{at}/shop.key' }}]
      client_auth: {{ ca: '{at}/clients.crt', mode: optional }}
services: {{ app: {{ endpoints: '{}' }} }}
consumers:
  orders: {{ groups: [services], certificates: [{{ dns: Orders.Internal }}, {{ uri: 'spiffe://shop/orders' }}] }}
  exact: {{ certificates: {{ fingerprint: '{}' }}, api_keys: '${{KEY:-a-key-of-the-exact-one}}' }}
  two: {{ certificates: {{ dns: two.internal }} }}
routes:
  - {{ name: known, match: /known, authentication: client_certificate, to: app }}
  - {{ name: either, match: /either, authentication: [client_certificate, api_key], to: app }}
  - {{ name: both, match: /both, authentication: {{ all: [client_certificate, api_key] }}, to: app }}
  - {{ name: open, match: /open, to: app }}
",
            service.address(),
            weft_identity::peer::names(&exact.der()).unwrap().fingerprint.to_uppercase(),
        )
    }
}

#[test]
fn a_certificate_leads_to_its_consumer_and_nothing_else_does() {
    let place = Place::new();
    let service = Upstream::answering(|_| ok("x"));
    let exact = place.clients.issue(&["orders.internal"]);
    let weft = Weft::start(BIN, &place.config(&service, &exact));
    let orders = place.clients.issue(&["x.internal", "ORDERS.internal"]);
    let nobody = place.clients.issue(&["nobody.internal"]);
    let several = place.clients.issue(&["orders.internal", "two.internal"]);
    let key = "x-api-key: a-key-of-the-exact-one\r\n";
    // A client cannot say what its certificate holds.
    let forged = "x-forwarded-client-cert: Hash=00;URI=spiffe://shop/orders\r\n\
                  x-consumer-username: orders\r\n";
    for version in [&TLS12, &TLS13] {
        for (own, path, fields, expected) in [
            (Some(&orders), "/known", "", Some("orders")),
            (Some(&exact), "/known", "", Some("exact")),
            (Some(&exact), "/known", forged, Some("exact")),
            (Some(&nobody), "/known", forged, None),
            (Some(&several), "/known", "", None),
            (None, "/known", forged, None),
            (None, "/known", key, None),
            (None, "/either", key, Some("exact")),
            (Some(&nobody), "/either", key, Some("exact")),
            (Some(&orders), "/either", "x-api-key: nobodys\r\n", Some("orders")),
            (Some(&orders), "/both", key, None),
            (Some(&exact), "/both", key, Some("exact")),
            (Some(&exact), "/both", "", None),
        ] {
            let case = format!("{version:?} {path} {fields} {expected:?}");
            let before = service.seen().len();
            let tls = place.authority.client_of(&[version], &["http/1.1"], own);
            let mut conn = Conn::secure(weft.address("web"), "shop.test", &tls).unwrap();
            // Twice: the certificate is read once a connection.
            for _ in 0..2 {
                let request = format!("GET {path} HTTP/1.1\r\nhost: shop.test\r\n{fields}\r\n");
                let answer = conn.ask(request);
                let status = if expected.is_some() { 200 } else { 401 };
                assert_eq!(answer.status(), status, "{case}: {}", answer.text());
                if let Some(expected) = expected {
                    let told = service.seen().pop().unwrap();
                    assert_eq!(told.get("x-consumer-username"), Some(expected), "{case}");
                    assert_eq!(told.get("x-forwarded-client-cert"), None, "{case}");
                } else {
                    let challenges = answer.all("www-authenticate");
                    assert!(
                        challenges[0].starts_with("ClientCertificate realm="),
                        "{challenges:?}"
                    );
                }
            }
            assert_eq!(service.seen().len() > before, expected.is_some(), "{case}");
        }
    }
    http2::run(async {
        for (own, status) in [(Some(&orders), 200), (Some(&nobody), 401), (None, 401)] {
            let tls = place.authority.client_of(&[&TLS13], &["h2"], own);
            let client = Client::secure(weft.address("web"), "shop.test", &tls).await;
            for _ in 0..2 {
                assert_eq!(client.get("/known").await.unwrap().status, status);
            }
            assert_eq!(client.get("/open").await.unwrap().status, 200);
        }
    });
    let log = fs::read_to_string(weft.folder().join("access.log")).unwrap();
    assert!(log.contains("\"consumer\":\"orders\"") || log.contains("orders"), "{log}");
}

#[test]
fn who_the_handshake_does_not_believe_never_gets_to_a_route() {
    let place = Place::new();
    let service = Upstream::answering(|_| ok("x"));
    let exact = place.clients.issue(&["exact.internal"]);
    let weft = Weft::start(BIN, &place.config(&service, &exact));
    // The right name by an authority that is not believed.
    let stranger = Authority::new("clients").issue(&["orders.internal"]);
    for version in [&TLS12, &TLS13] {
        let tls = place.authority.client_of(&[version], &["http/1.1"], Some(&stranger));
        let answer = Conn::secure(weft.address("web"), "shop.test", &tls).and_then(|mut conn| {
            conn.send("GET /known HTTP/1.1\r\nhost: shop.test\r\n\r\n");
            conn.finish();
            let rest = conn.rest();
            if rest.is_empty() { Err(std::io::Error::other("closed")) } else { Ok(rest) }
        });
        assert!(answer.is_err(), "{version:?}");
    }
    assert_eq!(service.seen().len(), 0);
}

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
fn routes_match_the_names_in_a_certificate() {
    let place = Place::new();
    let service = Upstream::answering(|_| ok("x"));
    let exact = place.clients.issue(&["exact.internal"]);
    let fingerprint = weft_identity::peer::names(&exact.der()).unwrap().fingerprint;
    let colons: Vec<String> = fingerprint
        .as_bytes()
        .chunks(2)
        .map(|two| String::from_utf8_lossy(two).to_uppercase())
        .collect();
    let by = |name: &str, certificate: &str| {
        format!(
            "  - {{ name: {name}, match: {{ path: /who, certificate: {certificate} }}, respond: {{ body: {name} }} }}\n"
        )
    };
    let routes = [
        by("orders", "{ dns: Orders.Internal }"),
        by("below", "{ dns: '~[a-z]+\\.shop\\.internal' }"),
        by("exact", &format!("{{ fingerprint: '{}' }}", colons.join(":"))),
        by("two", "{ dns: two.internal, subject: { prefix: 'CN=' } }"),
        "  - { name: anybody, match: /who, respond: { body: anybody } }\n".to_owned(),
        by("none", "{ subject: { present: false } }").replace("/who", "/none"),
    ]
    .concat();
    let config = place.config(&service, &exact);
    let weft = Weft::start(BIN, &format!("{config}{routes}"));
    let issue = |names: &[&str]| place.clients.issue(names);
    for (own, path, expected) in [
        (Some(&issue(&["x.internal", "ORDERS.internal"])), "/who", "orders"),
        (Some(&issue(&["eu.shop.internal"])), "/who", "below"),
        (Some(&issue(&["a.eu.shop.internal"])), "/who", "anybody"),
        (Some(&exact), "/who", "exact"),
        (Some(&issue(&["exact.internal"])), "/who", "anybody"),
        (None, "/who", "anybody"),
        (None, "/none", "none"),
    ] {
        let tls = place.authority.client_of(&[&TLS13], &["http/1.1"], own);
        let mut conn = Conn::secure(weft.address("web"), "shop.test", &tls).unwrap();
        for _ in 0..2 {
            // What a client says of itself is nothing.
            let forged = "x-forwarded-client-cert: Hash=00;DNS=orders.internal\r\n";
            let request = format!("GET {path} HTTP/1.1\r\nhost: shop.test\r\n{forged}\r\n");
            assert_eq!(conn.ask(request).text(), expected, "{path}");
        }
        let tls = place.authority.client_of(&[&TLS13], &["h2"], own);
        http2::run(async {
            let client = Client::secure(weft.address("web"), "shop.test", &tls).await;
            assert_eq!(client.get(path).await.unwrap().text(), expected, "{path}");
        });
    }
    let tls = place.authority.client_of(&[&TLS13], &["http/1.1"], Some(&exact));
    let mut conn = Conn::secure(weft.address("web"), "shop.test", &tls).unwrap();
    assert_eq!(conn.ask("GET /none HTTP/1.1\r\nhost: shop.test\r\n\r\n").status(), 404);
    // A listener that asks for none cannot have such a route.
    let open =
        config.replace("mode: optional }", "mode: optional }\n  other: { address: '@other' }");
    let alone = "  - { name: alone, listeners: other, match: { certificate: { uri: x } }, respond: { body: x } }\n";
    let refused = weft.reload(&format!("{open}{alone}")).unwrap_err();
    assert!(refused.contains("no listener that it is offered on asks for them"), "{refused}");
}

#[test]
fn clients_show_certificates_by_the_host_that_they_ask_for() {
    let place = Place::new();
    let at = place.folder.path().display().to_string();
    let staff = Authority::new("staff");
    staff.write(place.folder.path(), "staff");
    let names = ["shop.test", "partners.test", "eu.staff.test"];
    place.authority.issue(&names).write(place.folder.path(), "all");
    let config = format!(
        "
admin: {{ listen: '@admin' }}
listeners:
  web:
    address: '@web'
    tls:
      certificates: {{ cert: '{at}/all.crt', key: '{at}/all.key' }}
      hosts:
        partners.test: {{ client_auth: {{ ca: '{at}/clients.crt' }} }}
        '*.staff.test': {{ client_auth: {{ ca: '{at}/staff.crt', mode: optional }} }}
routes:
  - {{ name: orders, match: {{ certificate: {{ dns: orders.internal }} }}, respond: {{ body: orders }} }}
  - {{ name: all, respond: {{ body: anybody }} }}
"
    );
    let weft = Weft::start(BIN, &config);
    let partner = place.clients.issue(&["orders.internal"]);
    let worker = staff.issue(&["orders.internal"]);
    // The host of the handshake, whose certificate, and what is answered to each host; or no handshake.
    type Case<'a> = (&'a str, Option<&'a Issued>, Option<[&'a str; 3]>);
    const AWAY: &str = "421";
    let cases: [Case<'_>; 8] = [
        ("shop.test", None, Some(["anybody", AWAY, AWAY])),
        ("shop.test", Some(&partner), Some(["anybody", AWAY, AWAY])),
        ("partners.test", Some(&partner), Some([AWAY, "orders", AWAY])),
        ("partners.test", None, None),
        ("partners.test", Some(&worker), None),
        ("eu.staff.test", Some(&worker), Some([AWAY, AWAY, "orders"])),
        ("eu.staff.test", None, Some([AWAY, AWAY, "anybody"])),
        ("eu.staff.test", Some(&partner), None),
    ];
    for version in [&TLS12, &TLS13] {
        for (host, own, expected) in &cases {
            let case = format!("{version:?} {host} {}", own.is_some());
            let tls = place.authority.client_of(&[version], &["http/1.1"], *own);
            // The same client again resumes its session where it may.
            for _ in 0..2 {
                let asked = Conn::secure(weft.address("web"), host, &tls).and_then(|mut conn| {
                    conn.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
                    conn.head().ok_or_else(|| std::io::Error::other("closed"))
                });
                assert_eq!(asked.is_ok(), expected.is_some(), "{case}");
                let Some(expected) = expected else { continue };
                let mut conn = Conn::secure(weft.address("web"), host, &tls).unwrap();
                for (name, expected) in names.iter().zip(expected) {
                    let answer = conn.ask(format!("GET / HTTP/1.1\r\nhost: {name}:8443\r\n\r\n"));
                    match *expected {
                        AWAY => {
                            assert_eq!(answer.status(), 421, "{case} {name}: {}", answer.text())
                        }
                        body => assert_eq!(answer.text(), body, "{case} {name}"),
                    }
                }
            }
        }
    }
    http2::run(async {
        for (host, own, expected) in cases {
            let Some(expected) = expected else { continue };
            let tls = place.authority.client_of(&[&TLS13], &["h2"], own);
            let client = Client::secure(weft.address("web"), host, &tls).await;
            for (name, expected) in names.iter().zip(expected) {
                let request =
                    http::Request::get(format!("https://{name}/")).body(Vec::new()).unwrap();
                let answer = client.ask(request).await.unwrap();
                match expected {
                    AWAY => assert_eq!(answer.status, 421, "{host} {name}"),
                    body => assert_eq!(answer.text(), body, "{host} {name}"),
                }
            }
        }
    });
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

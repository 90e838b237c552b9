//! Security headers through the real binary: on every response of a route, and over TLS what is for TLS alone.

use rustls::version::TLS13;
use weft_testkit::{Authority, Conn, Upstream, Weft};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

#[test]
fn every_response_has_them_and_what_a_service_has_set_stays() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("here");
    authority.issue(&["shop.test"]).write(folder.path(), "shop");
    let service = Upstream::answering(|_| {
        "HTTP/1.1 200 OK\r\nserver: made/1.2\r\nx-powered-by: magic\r\nx-frame-options: DENY\r\n\
         strict-transport-security: max-age=1\r\ncontent-length: 2\r\n\r\nok"
            .to_owned()
    });
    let at = folder.path().display();
    let weft = Weft::start(
        BIN,
        &format!(
            "
admin: {{ listen: '@admin' }}
listeners:
  web: {{ address: '@web' }}
  secure: {{ address: '@secure', tls: {{ certificates: [{{ cert: '{at}/shop.crt', key: '{at}/shop.key' }}] }} }}
services: {{ app: {{ endpoints: '{}' }} }}
policies:
  pages: {{ security_headers: {{ hsts: 1d, content_security_policy: \"default-src 'self'\" }} }}
routes:
  - {{ name: pages, match: /pages, policies: pages, to: app }}
  - {{ name: refuses, match: /refuses, policies: pages, networks: 192.0.2.1, to: app }}
  - {{ name: fixed, match: /fixed, policies: pages, respond: {{ status: 200, body: hi }} }}
  - name: all
    match: /all
    security_headers: {{ override: true, frame_options: sameorigin, hsts: off, remove: [] }}
    headers: {{ response: {{ set: {{ x-content-type-options: other }} }} }}
    to: app
  - {{ name: none, match: /none, policies: pages, security_headers: off, to: app }}
",
            service.address()
        ),
    );
    let answer = weft.get("/pages", "");
    for (name, value) in [
        ("server", None),
        ("x-powered-by", None),
        ("x-frame-options", Some("DENY")),
        ("x-content-type-options", Some("nosniff")),
        ("referrer-policy", Some("strict-origin-when-cross-origin")),
        ("content-security-policy", Some("default-src 'self'")),
        ("cross-origin-opener-policy", None),
        // The service has said so itself.
        ("strict-transport-security", Some("max-age=1")),
    ] {
        assert_eq!(answer.get(name), value, "{name}");
        assert!(answer.all(name).len() < 2, "{name}");
    }
    for (path, status) in [("/refuses", 403), ("/fixed", 200)] {
        let answer = weft.get(path, "");
        assert_eq!((answer.status(), answer.get("x-frame-options")), (status, Some("SAMEORIGIN")));
        assert_eq!(answer.get("strict-transport-security"), None, "not without TLS");
        let tls = authority.client_of(&[&TLS13], &["http/1.1"], None);
        let mut conn = Conn::secure(weft.address("secure"), "shop.test", &tls).unwrap();
        let answer = conn.ask(format!("GET {path} HTTP/1.1\r\nhost: shop.test\r\n\r\n"));
        assert_eq!(answer.get("strict-transport-security"), Some("max-age=86400"), "{path}");
    }
    let answer = weft.get("/all", "");
    assert_eq!(answer.get("x-frame-options"), Some("SAMEORIGIN"));
    assert_eq!(answer.get("server"), Some("made/1.2"));
    assert_eq!(answer.get("x-content-type-options"), Some("other"), "the route says so itself");
    let answer = weft.get("/none", "");
    assert_eq!((answer.get("server"), answer.get("referrer-policy")), (Some("made/1.2"), None));
}

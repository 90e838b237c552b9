//! CORS, as browsers meet it.

use weft_testkit::{HttpMessage, Upstream, Weft};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn node(service: &Upstream, cors: &str) -> Weft {
    let yaml = format!(
        "listeners: {{ web: {{ address: '@web' }} }}
services: {{ s: {{ endpoints: '{}' }} }}
consumers: {{ ada: {{ api_keys: '${{A:-the-key-of-ada-12345}}' }} }}
routes: [{{ name: r, match: '/*', to: s, cors: {cors}, authentication: api_key }}]
",
        service.address()
    );
    Weft::start(BIN, &yaml)
}

fn service() -> Upstream {
    Upstream::answering(|_| {
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\naccess-control-allow-origin: *\r\n\
         access-control-allow-credentials: true\r\nvary: accept\r\n\r\nok"
            .to_owned()
    })
}

fn ask(node: &Weft, method: &str, fields: &[&str]) -> HttpMessage {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    node.ask(format!("{method} /a HTTP/1.1\r\nhost: t\r\n{fields}\r\n"))
}

#[test]
fn a_preflight_is_answered_before_credentials_are_asked_for() {
    let service = service();
    let node = node(
        &service,
        "{ origins: ['https://app.example.com', 'https://*.b.net'], credentials: true, methods: PUT }",
    );
    let asks = ["access-control-request-method: PUT", "access-control-request-headers: x-api-key"];
    for (origin, allowed) in [
        ("https://app.example.com", true),
        ("https://x.b.net", true),
        ("https://b.net", false),
        ("https://evil.example", false),
    ] {
        let field = format!("origin: {origin}");
        let answer = ask(&node, "OPTIONS", &[&field, asks[0], asks[1]]);
        assert_eq!(answer.status(), 204, "{origin}");
        let told = answer.get("access-control-allow-origin");
        assert_eq!(told, allowed.then_some(origin), "{origin}");
        let expected = allowed.then_some("GET, HEAD, POST, PUT");
        assert_eq!(answer.get("access-control-allow-methods"), expected);
        assert_eq!(answer.get("access-control-allow-headers"), allowed.then_some("x-api-key"));
        assert_eq!(answer.get("access-control-allow-credentials"), allowed.then_some("true"));
        assert!(answer.get("vary").unwrap().starts_with("origin"), "{origin}");
    }
    assert!(service.seen().is_empty(), "none gets to the service");
    // Without what makes it a preflight it is a request as any other.
    assert_eq!(ask(&node, "OPTIONS", &["origin: https://app.example.com"]).status(), 401);
}

#[test]
fn a_response_tells_what_the_policy_says_and_not_what_the_service_does() {
    let service = service();
    let node = node(&service, "{ origins: 'https://app.example.com', expose: x-total }");
    let key = "x-api-key: the-key-of-ada-12345";
    let good = ask(&node, "GET", &["origin: https://app.example.com", key]);
    assert_eq!(good.status(), 200);
    assert_eq!(good.get("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(good.get("access-control-allow-credentials"), None);
    assert_eq!(good.get("access-control-expose-headers"), Some("x-total"));
    let refused = ask(&node, "GET", &["origin: https://app.example.com"]);
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.get("access-control-allow-origin"), Some("https://app.example.com"));
    for fields in [&["origin: https://evil.example", key][..], &[key]] {
        let other = ask(&node, "GET", fields);
        assert_eq!((other.status(), other.get("access-control-allow-origin")), (200, None));
        assert_eq!(other.all("vary"), ["accept", "origin"]);
    }
}

#[test]
fn a_public_api_is_for_all_and_varies_by_nothing() {
    let service = service();
    let node = node(&service, "'*'");
    let key = "x-api-key: the-key-of-ada-12345";
    let answer = ask(&node, "GET", &["origin: https://anybody.example", key]);
    assert_eq!(answer.get("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.all("vary"), ["accept"]);
}

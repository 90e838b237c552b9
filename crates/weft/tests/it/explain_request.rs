//! `weft explain request`: what would become of a request, told by a running node, which neither sends it nor counts
//! it nor asks anybody about it.

use std::process::Command;

use serde_json::{Value, json};
use weft_testkit::{Upstream, Weft};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn node(service: &Upstream, decider: &Upstream) -> Weft {
    let config = format!(
        "
admin: {{ listen: '@admin' }}
listeners: {{ web: {{ address: '@web', trusted_proxies: 127.0.0.0/8 }} }}
services: {{ app: {{ endpoints: '{}' }}, decider: {{ endpoints: '{}' }} }}
consumers:
  ada: {{ api_keys: key-of-ada-0123456789, groups: staff }}
  bob: {{ api_keys: key-of-bob-0123456789 }}
routes:
  - name: orders
    match: '/orders/{{id}}'
    networks: {{ deny: 192.0.2.66 }}
    cors: 'https://app.example'
    authentication: api_key
    rate_limits: {{ rate: 2/h, by: consumer }}
    authorization:
      - {{ name: staff, when: \"'staff' in consumer.groups && request.captures.id == '7'\", then: allow }}
    external_authorization: decider
    idempotency: {{ methods: POST, required: true }}
    security_headers: {{}}
    to: app
  - {{ name: other, match: '/orders/*', to: app }}
",
        service.address(),
        decider.address()
    );
    Weft::start(BIN, &config)
}

/// What the command says, and whether the request is let on.
fn explain(weft: &Weft, arguments: &[&str]) -> (String, Option<i32>) {
    let url = format!("http://{}", weft.address("admin"));
    let mut command = Command::new(BIN);
    command.args(["explain", "request"]).args(arguments).env("WEFT_ADMIN", url);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code())
}

/// The outcome at each policy.
fn outcomes(weft: &Weft, arguments: &[&str]) -> Vec<(String, String)> {
    let mut all = arguments.to_vec();
    all.extend(["--output", "json"]);
    let told: Value = serde_json::from_str(&explain(weft, &all).0).unwrap();
    let steps = told["listeners"][0]["policies"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    steps.iter().map(|step| (text(&step["policy"]), text(&step["outcome"]))).collect()
}

const ADA: &str = "x-api-key: key-of-ada-0123456789";
const BOB: &str = "x-api-key: key-of-bob-0123456789";
const CLIENT: [&str; 2] = ["--client", "198.51.100.1"];

#[test]
fn each_policy_says_what_it_would_decide() {
    let (service, decider) = (Upstream::saying("ok"), Upstream::saying("ok"));
    let weft = node(&service, &decider);
    let get = ["GET", "https://shop.example/orders/%37?a=b", "-H", ADA, CLIENT[0], CLIENT[1]];
    let (told, code) = explain(&weft, &get);
    assert_eq!(code, Some(0), "{told}");
    for line in [
        "GET shop.example /orders/7 on web",
        "  route orders to app",
        "  networks passes: the client may ask from its network",
        "  cors passes: no page of another origin asks",
        "  authentication passes: it comes from consumer `ada`",
        "  rate_limit passes: limit `default` would have 1 left",
        "  authorization passes: rule `staff`",
        "  external_authorization asks: service `decider` would be asked",
        "  idempotency passes: requests of this method have no key",
        "  not other (",
    ] {
        assert!(told.lines().any(|of| of.starts_with(line)), "{line} is not in\n{told}");
    }
    for (arguments, policy, outcome) in [
        (&["GET", "/orders/7", "-H", ADA, "--client", "192.0.2.66"][..], "networks", "refuses"),
        (&["GET", "/orders/7", "-H", ADA], "networks", "refuses"),
        (&["GET", "/orders/7", CLIENT[0], CLIENT[1]], "authentication", "refuses"),
        (&["GET", "/orders/7", "-H", BOB, CLIENT[0], CLIENT[1]], "authorization", "refuses"),
        (&["GET", "/orders/8", "-H", ADA, CLIENT[0], CLIENT[1]], "authorization", "refuses"),
        (&["POST", "/orders/7", "-H", ADA, CLIENT[0], CLIENT[1]], "idempotency", "refuses"),
        (
            &[
                "OPTIONS",
                "/orders/7",
                "-H",
                "origin: https://app.example",
                "-H",
                "access-control-request-method: PUT",
                CLIENT[0],
                CLIENT[1],
            ],
            "cors",
            "answers",
        ),
    ] {
        let steps = outcomes(&weft, arguments);
        let at = steps.iter().position(|(of, _)| of == policy).unwrap();
        assert_eq!(steps[at].1, outcome, "{arguments:?}: {steps:?}");
        // What a response gets it gets from everybody.
        let behind = steps[at + 1..].iter().filter(|(of, _)| of != "security_headers");
        assert!(behind.into_iter().all(|(_, of)| of == "not_reached"), "{steps:?}");
        assert_eq!(explain(&weft, arguments).1, Some(1), "{arguments:?}");
    }
    assert_eq!((service.seen().len(), decider.seen().len()), (0, 0), "nobody was asked");
    // What is foreseen is what comes, and what has come is foreseen.
    let fields = format!("{ADA}\r\nx-forwarded-for: 198.51.100.1\r\n");
    assert_eq!(weft.get("/orders/7", &fields).status(), 200);
    let told = explain(&weft, &get).0;
    assert!(told.contains("limit `default` would have 0 left"), "{told}");
    assert_eq!(weft.get("/orders/7", &fields).status(), 200);
    let (told, code) = explain(&weft, &get);
    assert!(told.contains("rate_limit refuses with 429 rate_limited"), "{told}");
    assert_eq!(code, Some(1));
    assert_eq!((service.seen().len(), decider.seen().len()), (2, 2));
}

#[test]
fn what_gets_no_route_or_cannot_be_asked_is_said() {
    let (service, decider) = (Upstream::saying("ok"), Upstream::saying("ok"));
    let weft = node(&service, &decider);
    let (told, code) = explain(&weft, &["GET", "/nowhere"]);
    assert!(told.contains("refused: no route matches: 404") && code == Some(1), "{told}");
    let (told, code) = explain(&weft, &["GET", "/orders/7", "--listener", "none"]);
    assert!(told.contains("there is no listener `none`") && code == Some(1), "{told}");
    let (told, code) = explain(&weft, &["GET", "/orders/7", "--client", "me"]);
    assert!(told.contains("--client") && code == Some(2), "{told}");
    let body = json!({ "method": "GET", "url": "/orders/7", "more": 1 }).to_string();
    let length = body.len();
    let answer = weft.connect("admin").ask(format!(
        "POST /v1/explain/request HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    assert_eq!(answer.status(), 400, "{}", answer.text());
}

#[test]
fn what_a_login_answers_itself_is_said() {
    let service = Upstream::saying("ok");
    let config = format!(
        "
admin: {{ listen: '@admin' }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ app: {{ endpoints: '{}' }} }}
logins:
  shop:
    issuer: https://id.example
    client_id: weft
    client_secret: '${{S:-shared}}'
    session_keys: '${{S:-a secret of thirty-two characters, or more}}'
    login_path: /in
routes: [{{ name: pages, authentication: {{ any: {{ oidc: shop }} }}, to: app }}]
",
        service.address()
    );
    let weft = Weft::start(BIN, &config);
    for (method, path, field, outcome, say) in [
        (
            "GET",
            "/page",
            "accept: text/html",
            "answers",
            "login `shop` sends a browser to its provider",
        ),
        ("GET", "/page", "accept: application/json", "refuses", "no credentials are shown"),
        ("GET", "/in", "accept: */*", "answers", "login `shop` answers on this path"),
        ("GET", "/oauth2/logout", "accept: */*", "answers", "login `shop` answers on this path"),
        ("DELETE", "/oauth2/logout", "accept: */*", "refuses", "login `shop` answers on this path"),
    ] {
        let arguments = [method, path, "-H", field];
        let steps = outcomes(&weft, &arguments);
        let at = steps.iter().position(|(of, _)| of == "authentication").unwrap();
        assert_eq!(steps[at].1, outcome, "{arguments:?}: {steps:?}");
        let told = explain(&weft, &arguments).0;
        assert!(told.contains(say), "{say} is not in\n{told}");
    }
    assert!(service.seen().is_empty());
}

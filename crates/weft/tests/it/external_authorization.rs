//! External authorization through the real binary: over HTTP and over Envoy's gRPC, who is let on, what of the answer
//! reaches service and client, and what becomes of requests while nobody decides.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use weft_testkit::{
    HttpMessage, Upstream, Weft,
    http2::{self, Client, Service},
    until,
    upstream::{ok, status},
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

fn config(service: &str, authz: &str, protocol: &str, policy: &str) -> String {
    format!(
        "
admin: {{ listen: '@admin' }}
telemetry: {{ access_log: {{ include: all, output: '@@/access.log' }} }}
listeners: {{ web: {{ address: '@web' }} }}
services:
  app: {{ endpoints: '{service}' }}
  authz: {{ endpoints: '{authz}'{protocol} }}
consumers: {{ mobile: {{ api_keys: '${{K:-key-of-mobile-0123456789}}' }}, guest: {{}} }}
routes:
  - {{ name: asked, match: /asked/*, external_authorization: {policy}, to: app }}
  - {{ name: known, match: /known/*, authentication: {{ any: api_key, anonymous: guest }}, external_authorization: {policy}, to: app }}
  - {{ name: free, match: /free/*, external_authorization: off, to: app }}
"
    )
}

/// Answers by what `x-say` of the question is, with the user in a field.
fn decider() -> Upstream {
    Upstream::answering(|request| {
        match request.get("x-say").unwrap_or_default() {
        "deny" => "HTTP/1.1 403 No\r\nx-why: because\r\ncontent-length: 5\r\n\r\nnever".to_owned(),
        "login" => "HTTP/1.1 302 Found\r\nlocation: https://id.example/login\r\nset-cookie: s=1\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "break" => status(500),
        "junk" => "junk".to_owned(),
        "silent" => String::new(),
        "long" => ok(&"x".repeat(1_000_000)),
        _ => "HTTP/1.1 200 OK\r\nx-user: ada\r\nx-internal: 1\r\nset-cookie: seen=1\r\ncontent-length: 2\r\n\r\nok".to_owned(),
    }
    })
}

fn told(answer: &HttpMessage) -> (u16, String) {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let word = problem["type"].as_str().unwrap_or_default().replace("urn:weft:problem:", "");
    (answer.status(), word)
}

#[test]
fn a_service_is_asked_over_http() {
    let (service, authz) = (Upstream::answering(|_| ok("x")), decider());
    let (app, it) = (service.address().to_string(), authz.address().to_string());
    let policy = "{ service: authz, path: '/verify?v=1', service_headers: [x-user, x-none], client_headers: set-cookie }";
    let weft = Weft::start(BIN, &config(&app, &it, "", policy));
    let forged =
        "x-user: root\r\nx-none: root\r\nx-forwarded-uri: /evil\r\nx-consumer-username: root\r\n";
    let answer = weft.get(
        "/asked/1?a=b",
        &format!("{forged}cookie: c=1\r\nif-none-match: \"e\"\r\nrange: bytes=0-1\r\n"),
    );
    assert_eq!((answer.status(), answer.get("set-cookie")), (200, Some("seen=1")));
    let asked = authz.seen().pop().unwrap();
    assert_eq!((asked.method(), asked.target()), ("GET", "/verify?v=1"));
    for (name, value) in [
        ("x-forwarded-method", Some("GET")),
        ("x-forwarded-uri", Some("/asked/1?a=b")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("test")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("cookie", Some("c=1")),
        ("if-none-match", None),
        ("range", None),
        ("x-consumer-username", None),
    ] {
        assert_eq!(asked.all(name).first().copied(), value, "{name}");
        assert!(asked.all(name).len() < 2, "{name}");
    }
    let seen = service.seen().pop().unwrap();
    assert_eq!(
        (seen.all("x-user"), seen.get("x-none"), seen.get("x-internal")),
        (vec!["ada"], None, None)
    );
    // What is denied is what the decider says, to the byte.
    let denied = weft.get("/asked/1", "x-say: deny\r\n");
    assert_eq!(
        (denied.status(), denied.get("x-why"), &*denied.text()),
        (403, Some("because"), "never")
    );
    let login = weft.get("/asked/1", "x-say: login\r\n");
    assert_eq!((login.status(), login.get("location")), (302, Some("https://id.example/login")));
    assert_eq!(login.get("set-cookie"), Some("s=1"));
    // The consumer is told, and nobody can say it in its place.
    let key = "x-api-key: key-of-mobile-0123456789\r\n";
    assert_eq!(weft.get("/known/1", &format!("{forged}{key}")).status(), 200);
    assert_eq!(authz.seen().pop().unwrap().all("x-consumer-username"), ["mobile"]);
    // A body is shown to nobody who does not ask for it, and gets to the service.
    let post = "POST /asked/2 HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nhi";
    assert_eq!(weft.ask(post).status(), 200);
    let asked = authz.seen().pop().unwrap();
    assert_eq!((asked.method(), &*asked.text(), asked.get("content-type")), ("GET", "", None));
    assert_eq!(service.seen().pop().unwrap().text(), "hi");
    let before = authz.seen().len();
    assert_eq!(weft.get("/free/1", "").status(), 200);
    assert_eq!(authz.seen().len(), before);
    weft.wait_metric("weft_route_fact_requests_total", &["asked", "allowed"], 2.0);
    weft.wait_metric("weft_route_fact_requests_total", &["asked", "denied"], 2.0);
}

#[test]
fn a_service_is_asked_by_the_path_of_the_request_and_shown_its_body() {
    let (service, authz) = (Upstream::answering(|_| ok("x")), decider());
    let (app, it) = (service.address().to_string(), authz.address().to_string());
    let policy =
        "{ service: authz, path_prefix: /authz/, headers: [authorization, x-say], body_max: 10B }";
    let weft = Weft::start(BIN, &config(&app, &it, "", policy));
    let put = |length: usize| {
        weft.ask(format!(
            "PUT /asked/1?q HTTP/1.1\r\nhost: t\r\nauthorization: a\r\ncookie: c=1\r\ncontent-length: {length}\r\n\r\n{}",
            "b".repeat(length)
        ))
    };
    assert_eq!(put(10).status(), 200);
    let asked = authz.seen().pop().unwrap();
    assert_eq!(
        (asked.method(), asked.target(), &*asked.text()),
        ("PUT", "/authz/asked/1?q", "bbbbbbbbbb")
    );
    assert_eq!((asked.get("host"), asked.get("cookie")), (Some("t"), None));
    assert_eq!(service.seen().pop().unwrap().text(), "bbbbbbbbbb");
    assert_eq!(told(&put(11)), (413, "body_too_large".to_owned()));
    assert_eq!((authz.seen().len(), service.seen().len()), (1, 1));
}

#[test]
fn who_cannot_decide_lets_nobody_on_unless_it_is_said() {
    let (service, authz) = (Upstream::answering(|_| ok("x")), decider());
    let (app, it) = (service.address().to_string(), authz.address().to_string());
    let closed = "{ service: authz, timeout: 300ms, service_headers: x-user }";
    let weft = Weft::start(BIN, &config(&app, &it, "", closed));
    let open = closed.replace("timeout", "on_failure: open, timeout");
    let nowhere = Upstream::nowhere();
    for (authz, opens) in [(&it, false), (&nowhere.address().to_string(), false), (&it, true)] {
        let yaml = config(&app, authz, "", if opens { &open } else { closed });
        if (authz, opens) != (&it, false) {
            weft.reload(&yaml).unwrap();
        }
        for say in ["break", "junk", "silent", "long"] {
            let answer = weft.get("/asked/1", &format!("x-say: {say}\r\nx-user: root\r\n"));
            let expected = match opens {
                true => (200, String::new()),
                false => (503, "authorization_unavailable".to_owned()),
            };
            assert_eq!(told(&answer), expected, "{authz} {say}");
            if opens {
                assert_eq!(service.seen().pop().unwrap().get("x-user"), None, "{say}");
            }
        }
    }
    weft.wait_metric("weft_route_fact_requests_total", &["asked", "failed_open"], 4.0);
    // One that hangs is waited for as long as is said.
    let hangs = Upstream::raw(|mut conn| {
        let _ = conn.rest();
    });
    weft.reload(&config(&app, &hangs.address().to_string(), "", closed)).unwrap();
    let refused = weft.get("/asked/1", "");
    assert_eq!(told(&refused), (503, "authorization_unavailable".to_owned()));
    let log = until("the log says why", || {
        let log = std::fs::read_to_string(weft.folder().join("access.log")).unwrap();
        let all = ["no answer in time", "status 500", "connect_refused", "too long"];
        all.iter().all(|why| log.contains(why)).then_some(log)
    });
    assert!(log.contains("\"external_authorization\":\"failed\""), "{log}");
}

/// A field of bytes of a protobuf message.
fn part(field: u8, of: &[u8]) -> Vec<u8> {
    let mut all = vec![field << 3 | 2];
    let mut length = of.len();
    while length > 127 {
        all.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    all.push(length as u8);
    all.extend_from_slice(of);
    all
}

fn header(name: &str, value: &str) -> Vec<u8> {
    part(1, &[part(1, name.as_bytes()), part(2, value.as_bytes())].concat())
}

/// Whether some bytes hold others.
fn holds(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_service_is_asked_over_grpc() {
    let service = Upstream::answering(|_| ok("x"));
    let questions = Arc::new(Mutex::new(Vec::<Vec<u8>>::new()));
    let kept = questions.clone();
    let authz = Service::new(move |request, mut respond| {
        let kept = kept.clone();
        async move {
            let (head, body) = request.into_parts();
            let (question, _) = http2::gather(body).await.unwrap();
            assert_eq!(head.uri.path(), "/envoy.service.auth.v3.Authorization/Check");
            // Servers of gRPC refuse a call without it.
            assert_eq!(head.headers["te"], "trailers");
            assert_eq!(
                (head.method.as_str(), &head.headers["content-type"]),
                ("POST", &"application/grpc".parse().unwrap())
            );
            let denied =
                [part(1, &[8, 0x91, 3]), part(2, &header("x-why", "no")), part(3, b"never")]
                    .concat();
            let allowed = [
                part(2, &header("x-user", "ada")),
                part(2, &header("x-free", "of the decider")),
                part(5, b"x-secret"),
                part(6, &header("x-seen", "1")),
            ]
            .concat();
            let (answer, code) = match &question {
                question if holds(question, b"say-deny") => {
                    ([part(1, &[8, 7]), part(2, &denied)].concat(), "0")
                }
                question if holds(question, b"say-fail") => (Vec::new(), "14"),
                question if holds(question, b"say-less") => (Vec::new(), "0"),
                question if holds(question, b"say-much") => {
                    (part(3, &part(2, &header("x-user", "ada")).repeat(12_000)), "0")
                }
                _ => (part(3, &allowed), "0"),
            };
            kept.lock().unwrap().push(question);
            let mut message = vec![0];
            message.extend_from_slice(&(answer.len() as u32).to_be_bytes());
            message.extend_from_slice(&answer);
            let head = http::Response::builder()
                .header("content-type", "application/grpc")
                .body(())
                .unwrap();
            let mut out = respond.send_response(head, false).unwrap();
            http2::send(&mut out, message.into()).await.unwrap();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", code.parse().unwrap());
            out.send_trailers(trailers)
        }
    });
    let (app, it) = (service.address().to_string(), authz.address().to_string());
    let policy = "{ service: authz, protocol: grpc, service_headers: [x-user, x-role], body_max: 1KiB, context: { zone: blue }, timeout: 5s }";
    let login = "logins: { corp: { issuer: 'http://127.0.0.1:9', client_id: c, session_keys: session-of-the-test-0123456789abcd } }\n";
    let weft = Weft::start(BIN, &(config(&app, &it, ", protocol: http2", policy) + login));
    let post = "POST /asked/1?a=b HTTP/1.1\r\nhost: shop.example\r\nx-user: root\r\nx.user: root\r\nx-role: admin\r\nx-free: mine\r\nx-forwarded-for: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\nx-forwarded-host: evil.example\r\nx-forwarded-proto: https\r\nx-real-ip: 6.6.6.6\r\nx-secret: s\r\ncookie: a=1; weft-corp=session\r\ncookie: b=2\r\ncontent-length: 4\r\n\r\nbody";
    let answer = weft.ask(post);
    assert_eq!((answer.status(), answer.get("x-seen")), (200, Some("1")), "{}", answer.text());
    let seen = service.seen().pop().unwrap();
    assert_eq!(
        (seen.all("x-user"), seen.get("x-secret"), &*seen.text()),
        (vec!["ada"], None, "body")
    );
    // What it may not say is the client's, and what it may and does not is nobody's.
    assert_eq!((seen.get("x-free"), seen.get("x-role")), (Some("mine"), None));
    assert_eq!(seen.get("x.user"), None);
    let question = questions.lock().unwrap().pop().unwrap();
    for made_up in ["6.6.6.6", "evil.example", "weft-corp"] {
        assert!(!holds(&question, made_up.as_bytes()), "{made_up}");
    }
    let said = [part(1, b"x-forwarded-proto"), part(2, b"http")].concat();
    assert!(holds(&question, &said), "as the service is told it");
    for there in [
        "POST",
        "/asked/1?a=b",
        "shop.example",
        "127.0.0.1",
        "a=1; b=2",
        "zone",
        "blue",
        "body",
        "HTTP/1.1",
        ":authority",
    ] {
        assert!(holds(&question, there.as_bytes()), "{there}");
    }
    let forged = "x-user: root\r\nx-role: admin\r\n";
    assert_eq!(weft.get("/asked/1", &format!("x-say: say-less\r\n{forged}")).status(), 200);
    let seen = service.seen().pop().unwrap();
    assert_eq!((seen.get("x-user"), seen.get("x-role")), (None, None));
    let much = weft.get("/asked/1", "x-say: say-much\r\n");
    assert_eq!(told(&much), (503, "authorization_unavailable".to_owned()));
    let denied = weft.get("/asked/1", "x-say: say-deny\r\n");
    assert_eq!((denied.status(), denied.get("x-why"), &*denied.text()), (401, Some("no"), "never"));
    let failed = weft.get("/asked/1", "x-say: say-fail\r\n");
    assert_eq!(told(&failed), (503, "authorization_unavailable".to_owned()));
    // By HTTP/2, and in the terms of gRPC.
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let ask = |say: &str, kind: &str| {
            let request = http2::request("POST", "/asked/1").header("x-say", say);
            client.ask(
                request
                    .header("content-type", kind)
                    .header("te", "trailers")
                    .body(Vec::new())
                    .unwrap(),
            )
        };
        let plain = ask("say-deny", "text/plain").await.unwrap();
        assert_eq!((plain.status, &*plain.text()), (401, "never"));
        let call = ask("say-deny", "application/grpc").await.unwrap();
        assert_eq!((call.status, call.get("grpc-status")), (200, "16"));
        let call = ask("say-fail", "application/grpc").await.unwrap();
        assert_eq!((call.status, call.get("grpc-status")), (200, "14"));
        assert_eq!(ask("yes", "text/plain").await.unwrap().status, 200);
    });
}

#[test]
fn what_is_kept_for_later_keeps_what_was_decided() {
    let (service, authz) = (Upstream::answering(|_| ok("x")), decider());
    let (app, it) = (service.address().to_string(), authz.address().to_string());
    let policy = "{ service: authz, service_headers: x-user }, respond_async: {}";
    let weft = Weft::start(BIN, &config(&app, &it, "", policy));
    let ask = |fields: &str| {
        weft.ask(format!("POST /asked/1 HTTP/1.1\r\nhost: t\r\nprefer: respond-async\r\ncontent-length: 0\r\nx-user: root\r\n{fields}\r\n"))
    };
    assert_eq!(ask("x-say: deny\r\n").status(), 403);
    assert_eq!(ask("").status(), 202);
    assert_eq!(service.wait_seen(1).pop().unwrap().all("x-user"), ["ada"]);
    assert_eq!(authz.seen().len(), 2, "what was let through is not asked about again");
}

#[test]
fn what_is_wrong_with_it_is_told() {
    let service = Upstream::answering(|_| ok("x"));
    let app = service.address().to_string();
    let weft = Weft::start(BIN, &config(&app, &app, "", "authz"));
    for (policy, expected) in [
        ("nobody", "service `nobody`"),
        ("{ service: authz, path: /a, path_prefix: /b }", "exclude each other"),
        ("{ service: authz, path: 'no' }", "expected a path such as /verify"),
        ("{ service: authz, service_headers: x-consumer-username }", "not for others to say"),
        ("{ service: authz, service_headers: host }", "not for others to say"),
        ("{ service: authz, protocol: grpc, path: /a }", "is for `protocol: http`"),
        ("{ service: authz, context: { a: b } }", "is for `protocol: grpc`"),
        ("{ service: authz, timeout: 2m }", "at most 60s"),
        ("{ service: authz, body_max: 1GiB }", "of a body are shown"),
        ("{ service: authz, on_fail: open }", "has no key `on_fail`"),
    ] {
        let told = weft.reload(&config(&app, &app, "", policy)).unwrap_err();
        assert!(told.contains(expected), "{policy}: {told}");
    }
    assert_eq!(weft.get("/asked/1", "").status(), 200);
}

//! Consumers and authentication through the real binary: who is let in, what the service is told, and what
//! the others are.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use weft_testkit::{
    HttpMessage, Upstream, Weft,
    grpc::{self, message},
    http2::{self, Client, Service},
    until,
    upstream::ok,
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

const CONSUMERS: &str = "
consumers:
  mobile:
    groups: [partners, apps]
    api_keys: '${MOBILE:-a-key-of-the-mobile-app}'
    basic: '${PASSWORD:-a-password-with:colon}'
  web: { api_keys: '${WEB:-a-key-of-the-web-client}' }
  guest: {}
";

fn config(service: &str, consumers: &str) -> String {
    format!(
        "
admin: {{ listen: '@admin' }}
ledger: data
telemetry: {{ access_log: {{ include: all, output: '@@/access.log' }} }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ app: {{ endpoints: '{service}' }} }}
{consumers}
policies:
  known: {{ authentication: [api_key, basic] }}
routes:
  - {{ name: known, match: /known/*, policies: known, to: app }}
  - {{ name: open, match: /open/*, policies: known, authentication: {{ any: api_key, anonymous: guest }}, to: app }}
  - {{ name: both, match: /both/*, authentication: {{ all: [api_key, basic], forward: true }}, to: app }}
  - {{ name: places, match: /places/*, authentication: {{ any: {{ api_key: {{ query: key, cookie: key }} }}, preflight: true }}, to: app }}
  - {{ name: none, match: /none/*, policies: known, authentication: off, to: app }}
  - {{ name: later, match: /later/*, policies: known, respond_async: on, to: app }}
  - {{ name: fixed, match: /fixed, policies: known, respond: {{ status: 200, body: for those who are known }} }}
"
    )
}

fn basic(username: &str, password: &str) -> String {
    let token = STANDARD.encode(format!("{username}:{password}"));
    format!("authorization: Basic {token}\r\n")
}

/// What a service saw of a consumer and its credentials.
fn seen(service: &Upstream) -> Vec<(String, String)> {
    let last = service.seen().pop().unwrap();
    let told = |name: &str| last.get(name).map(|value| (name.to_owned(), value.to_owned()));
    [
        "x-consumer-username",
        "x-consumer-groups",
        "x-anonymous-consumer",
        "x-credential-identifier",
        "x-api-key",
        "authorization",
        "cookie",
        "weft-kept-consumer",
    ]
    .into_iter()
    .filter_map(told)
    .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn refused(answer: &HttpMessage, challenges: &[&str]) {
    assert_eq!(answer.status(), 401, "{}", answer.text());
    assert_eq!(answer.all("www-authenticate"), challenges);
    let problem: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["type"], "urn:weft:problem:unauthenticated");
    // The same for whoever showed nothing and whoever showed the wrong thing.
    assert_eq!(problem["detail"], "credentials that are good here are needed");
}

const KEY: &str = "x-api-key: a-key-of-the-mobile-app\r\n";
const FORGED: &str = "x-consumer-username: admin\r\nX-Consumer-Groups: root\r\n\
                      x-credential-identifier: 1\r\nweft-kept-consumer: web\r\n";
const MOBILE: [(&str, &str); 2] =
    [("x-consumer-username", "mobile"), ("x-consumer-groups", "partners,apps")];

#[test]
fn who_is_known_is_let_in_and_the_service_is_told() {
    let service = Upstream::answering(|_| ok("x"));
    let weft = Weft::start(BIN, &config(&service.address().to_string(), CONSUMERS));
    let right = basic("mobile", "a-password-with:colon");
    for (path, fields, expected) in [
        ("/known/1", KEY.to_owned(), &MOBILE[..]),
        ("/known/1", right.clone(), &MOBILE),
        ("/known/1", format!("{FORGED}{KEY}"), &MOBILE),
        ("/known/1", format!("x-api-key: nobodys\r\n{right}"), &MOBILE),
        ("/open/1", KEY.to_owned(), &MOBILE),
        (
            "/open/1",
            FORGED.to_owned(),
            &[("x-consumer-username", "guest"), ("x-anonymous-consumer", "true")],
        ),
        // Nobody asks who it is: what a client says there is nothing to go by.
        ("/none/1", KEY.to_owned(), &[("x-api-key", "a-key-of-the-mobile-app")]),
        ("/places/1?key=a-key-of-the-web-client", String::new(), &[("x-consumer-username", "web")]),
        (
            "/places/1",
            "cookie: a=1; key=a-key-of-the-web-client; b=2\r\n".to_owned(),
            &[("x-consumer-username", "web"), ("cookie", "a=1; b=2")],
        ),
    ] {
        let answer = weft.get(path, &fields);
        assert_eq!(answer.status(), 200, "{path} {fields}: {}", answer.text());
        assert_eq!(seen(&service), pairs(expected), "{path} {fields}");
    }
    let asked = service.seen();
    assert!(asked.iter().all(|request| !request.target().contains("key=")), "{asked:?}");

    let both = weft.get("/both/1", &format!("{KEY}{right}"));
    assert_eq!(both.status(), 200);
    let shown = seen(&service);
    assert!(shown.iter().any(|(name, _)| name == "x-api-key"), "{shown:?}");
    assert!(shown.iter().any(|(name, _)| name == "authorization"), "{shown:?}");

    assert_eq!(weft.get("/fixed", KEY).text(), "for those who are known");
    assert_eq!(weft.get("/places/1?a=1&key=wrong-key-in-a-query", "").status(), 401);
    let log = until("the log names the consumer", || {
        let log = std::fs::read_to_string(weft.folder().join("access.log")).unwrap();
        let whole = log.contains(r#""consumer":"guest""#) && log.contains("/places/1?a=1\"");
        whole.then_some(log)
    });
    assert!(!log.contains("a-key-of") && !log.contains("wrong-key"), "{log}");
    weft.wait_metric("weft_route_fact_requests_total", &["known", "consumer", "mobile"], 4.0);
}

#[test]
fn who_is_not_known_is_refused_and_learns_nothing() {
    let service = Upstream::answering(|_| ok("x"));
    let weft = Weft::start(BIN, &config(&service.address().to_string(), CONSUMERS));
    let known = ["ApiKey realm=\"weft\"", "Basic realm=\"weft\", charset=\"UTF-8\""];
    for fields in [
        String::new(),
        FORGED.to_owned(),
        "x-api-key: a-key-of-the-mobile-apq\r\n".to_owned(),
        format!("{KEY}{KEY}"),
        format!("x-api-key: {}\r\n", "k".repeat(10_000)),
        basic("mobile", "wrong"),
        basic("nobody", "a-password-with:colon"),
        "authorization: Basic ***\r\n".to_owned(),
        "authorization: Bearer a-key-of-the-mobile-app\r\n".to_owned(),
    ] {
        refused(&weft.get("/known/1", &fields), &known);
        refused(&weft.get("/fixed", &fields), &known);
    }
    // What was shown and is wrong is not taken for nothing.
    refused(&weft.get("/open/1", "x-api-key: wrong\r\n"), &known[..1]);
    refused(&weft.get("/both/1", KEY), &known);
    let other = format!(
        "x-api-key: a-key-of-the-web-client\r\n{}",
        basic("mobile", "a-password-with:colon")
    );
    refused(&weft.get("/both/1", &other), &known);
    let preflight = |path: &str| {
        weft.ask(format!(
            "OPTIONS {path} HTTP/1.1\r\nhost: t\r\norigin: https://a.example\r\n\
             access-control-request-method: PUT\r\n{FORGED}\r\n"
        ))
    };
    refused(&preflight("/known/1"), &known);
    assert!(service.seen().is_empty());
    assert_eq!(preflight("/places/1").status(), 200);
    assert_eq!(seen(&service), []);
    until("the log says why", || {
        let log = std::fs::read_to_string(weft.folder().join("access.log")).unwrap();
        let all = ["nobody has this API key", "no credentials were shown", "password is wrong"];
        all.iter().all(|why| log.contains(why)).then_some(())
    });
}

#[test]
fn a_call_of_grpc_is_refused_in_its_own_terms() {
    let service = Service::new(grpc::serve);
    let yaml = config(&service.address().to_string(), CONSUMERS).replace("/known/*", "/One/*");
    let weft = Weft::start(BIN, &yaml);
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let call = grpc::call("/One/Unary").body(message("abc").to_vec()).unwrap();
        let reply = client.ask(call).await.unwrap();
        assert_eq!((reply.status, reply.get("grpc-status")), (200, "16"));
        assert_eq!(reply.get("www-authenticate"), "ApiKey realm=\"weft\"");
    });
}

#[test]
fn credentials_change_with_the_configuration() {
    let service = Upstream::answering(|_| ok("x"));
    let yaml = |keys: &str| {
        let consumers = format!("consumers: {{ web: {{ api_keys: {keys} }} }}");
        config(&service.address().to_string(), &consumers).replace(", anonymous: guest", "")
    };
    let weft = Weft::start(BIN, &yaml("'${A:-the-first-of-two-keys}'"));
    let status = |key: &str| weft.get("/known/1", &format!("x-api-key: {key}\r\n")).status();
    assert_eq!([status("the-first-of-two-keys"), status("the-second-of-two-keys")], [200, 401]);
    let both = "['${A:-the-first-of-two-keys}', '${A:-the-second-of-two-keys}']";
    weft.reload(&yaml(both)).unwrap();
    assert_eq!([status("the-first-of-two-keys"), status("the-second-of-two-keys")], [200, 200]);
    let file = weft.write("key", "the-second-of-two-keys\n");
    weft.reload(&yaml(&format!("file:{}", file.display()))).unwrap();
    assert_eq!([status("the-first-of-two-keys"), status("the-second-of-two-keys")], [401, 200]);
    // A file that is written anew is read anew.
    weft.write("key", "a-third-key-for-the-client\n");
    until("the new key is taken", || (status("a-third-key-for-the-client") == 200).then_some(()));
    // Told after it is in force: the next reload must not take it for its own.
    weft.wait_line("configuration applied generation=4");
    assert_eq!(status("the-second-of-two-keys"), 401);
    let shared =
        yaml("'${A:-a-key-for-two-of-them}' }, app: { api_keys: '${A:-a-key-for-two-of-them}'");
    let refused = weft.reload(&shared).unwrap_err();
    assert!(refused.contains("consumer `web` has this API key already"), "{refused}");
    assert_eq!(status("a-third-key-for-the-client"), 200);
}

#[test]
fn what_is_deferred_keeps_its_consumer_and_no_credentials() {
    let service = Upstream::answering(|_| ok("x"));
    let weft = Weft::start(BIN, &config(&service.address().to_string(), CONSUMERS));
    let ask = |fields: &str| {
        weft.ask(format!(
            "POST /later/1 HTTP/1.1\r\nhost: t\r\nprefer: respond-async\r\n\
             content-length: 2\r\n{FORGED}{fields}\r\nhi"
        ))
    };
    assert_eq!(ask("").status(), 401);
    assert_eq!(ask(KEY).status(), 202);
    service.wait_seen(1);
    assert_eq!(seen(&service), pairs(&MOBILE));
    // Nothing of the key is on the disk.
    let mut folders = vec![weft.folder().join("data")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // The ledger takes files away that it needs no more.
            let Ok(bytes) = std::fs::read(&path) else { continue };
            files += 1;
            let found = bytes.windows(18).any(|part| part == b"a-key-of-the-mobil");
            assert!(!found, "{}", path.display());
        }
    }
    assert!(files > 0);
}

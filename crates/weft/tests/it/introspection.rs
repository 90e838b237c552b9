//! Tokens that their issuer is asked about, through the real binary: what it says, how often it is asked, and what
//! becomes of requests while it is away.

use std::{
    collections::HashSet,
    sync::{Arc, Barrier, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use weft_testkit::{
    HttpMessage, Upstream, Weft,
    http2::{self, Client},
    until,
    upstream::{ok, status},
};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// An authorization server: it knows tokens `NAME-SCOPE`, which are revoked by name.
struct Server {
    upstream: Upstream,
    revoked: Arc<Mutex<HashSet<String>>>,
    /// What it answers to everything instead, if anything.
    instead: Arc<Mutex<Option<String>>>,
}

impl Server {
    fn new() -> Self {
        let revoked = Arc::new(Mutex::new(HashSet::<String>::new()));
        let instead = Arc::new(Mutex::new(None::<String>));
        let upstream = Upstream::answering({
            let (revoked, instead) = (revoked.clone(), instead.clone());
            move |request| {
                thread::sleep(Duration::from_millis(20));
                let instead = instead.lock().unwrap().clone();
                if let Some(answer) = instead {
                    return answer;
                }
                let form = request.text();
                let token = form.split('&').find_map(|pair| pair.strip_prefix("token=")).unwrap();
                // client_secret_basic of `weft:s%3Acret`, or the same in the form.
                let is_known = request.get("authorization") == Some("Basic d2VmdDpzJTNBY3JldA==")
                    || form.contains("&client_id=weft&client_secret=s%3Acret");
                if !is_known {
                    return status(401);
                }
                let answer = match token.split_once('-') {
                    Some((name, scope)) if !revoked.lock().unwrap().contains(name) => {
                        json!({"active": true, "sub": name, "scope": scope, "aud": "orders"})
                    }
                    _ => json!({"active": false}),
                };
                ok(&answer.to_string())
            }
        });
        Self { upstream, revoked, instead }
    }

    fn asked(&self) -> usize {
        self.upstream.seen().len()
    }
}

fn config(service: &Upstream, server: &Server, more: &str) -> String {
    format!(
        "
admin: {{ listen: '@admin' }}
telemetry: {{ access_log: {{ include: all, output: '@@/access.log' }} }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ app: {{ endpoints: '{}' }} }}
consumers:
  mobile: {{ api_keys: '${{K:-key-of-mobile-0123456789}}', subjects: {{ corp: ada }} }}
issuers:
  corp:
    issuer: https://id.example
    audiences: orders
    introspection:
      url: http://{}/introspect
      client_id: weft
      client_secret: ${{S:-s:cret}}
      {more}
routes:
  - {{ name: known, match: /known/*, authentication: {{ any: {{ introspection: {{ issuer: corp, claim_headers: {{ x-user: sub }} }} }} }}, to: app }}
  - {{ name: scoped, match: /scoped/*, authentication: {{ any: {{ introspection: {{ issuer: corp, scopes: write }} }} }}, to: app }}
  - {{ name: both, match: /both/*, authentication: [introspection: corp, api_key], to: app }}
",
        service.address(),
        server.upstream.address(),
    )
}

fn ask(weft: &Weft, path: &str, token: &str) -> HttpMessage {
    weft.get(path, &format!("authorization: Bearer {token}\r\n"))
}

fn told(answer: &HttpMessage) -> (u16, String) {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap();
    (answer.status(), problem["type"].as_str().unwrap().replace("urn:weft:problem:", ""))
}

#[test]
fn an_issuer_says_whose_a_token_is() {
    let (service, server) = (Upstream::answering(|_| ok("x")), Server::new());
    let weft = Weft::start(BIN, &config(&service, &server, ""));
    assert_eq!(ask(&weft, "/known/1", "ada-read").status(), 200);
    let seen = service.seen().pop().unwrap();
    assert_eq!(seen.all("x-consumer-username"), ["mobile"]);
    assert_eq!((seen.all("x-user"), seen.get("authorization")), (vec!["ada"], None));
    // It is remembered, on each route, and for each of them held to what it needs.
    for _ in 0..20 {
        assert_eq!(ask(&weft, "/known/1", "ada-read").status(), 200);
    }
    assert_eq!(server.asked(), 1);
    let lacks = ask(&weft, "/scoped/1", "ada-read");
    assert_eq!(told(&lacks), (403, "insufficient_scope".to_owned()));
    assert_eq!(ask(&weft, "/scoped/1", "ada-write").status(), 200);
    // No good, and that is remembered as well.
    for _ in 0..10 {
        let refused = ask(&weft, "/known/1", "junk");
        assert_eq!(told(&refused), (401, "unauthenticated".to_owned()));
        let challenge = "Bearer realm=\"weft\", error=\"invalid_token\"";
        assert_eq!(refused.all("www-authenticate"), [challenge]);
    }
    assert_eq!(server.asked(), 3);
    // What is too long, or no text, nobody is asked about.
    for bad in ["a".repeat(20_000), "a\u{fffd}".to_owned()] {
        assert_eq!(ask(&weft, "/known/1", &bad).status(), 401);
    }
    assert_eq!(weft.get("/known/1", "").status(), 401);
    assert_eq!(weft.get("/both/1", "x-api-key: key-of-mobile-0123456789\r\n").status(), 200);
    assert!(server.asked() <= 4, "{}", server.asked());
    weft.wait_metric("weft_introspections_total", &["corp", "active"], 2.0);
    weft.wait_metric("weft_introspections_total", &["corp", "inactive"], 1.0);
    let log = std::fs::read_to_string(weft.folder().join("access.log")).unwrap();
    assert!(!log.contains("ada-read") && !weft.output().contains("s:cret"));
}

#[test]
fn requests_that_show_one_token_at_once_ask_once() {
    let (service, server) = (Upstream::answering(|_| ok("x")), Server::new());
    let weft =
        Arc::new(Weft::start(BIN, &config(&service, &server, "client_authentication: post")));
    let begin = Arc::new(Barrier::new(32));
    let all: Vec<_> = (0..32)
        .map(|_| {
            let (weft, begin) = (weft.clone(), begin.clone());
            thread::spawn(move || {
                begin.wait();
                ask(&weft, "/known/1", "ada-read").status()
            })
        })
        .collect();
    assert!(all.into_iter().all(|one| one.join().unwrap() == 200));
    assert_eq!(server.asked(), 1);
    // Many of one HTTP/2 connection, of another token.
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let ask = || async {
            let request = http2::request("GET", "/known/1");
            let request = request.header("authorization", "Bearer bob-read");
            client.ask(request.body(Vec::new()).unwrap()).await.unwrap().status
        };
        let all = futures_util::future::join_all((0..32).map(|_| ask())).await;
        assert!(all.iter().all(|status| *status == 200), "{all:?}");
    });
    assert_eq!(server.asked(), 2);
}

#[test]
fn a_token_that_is_revoked_is_refused_once_its_time_in_the_cache_is_over() {
    let (service, server) = (Upstream::answering(|_| ok("x")), Server::new());
    let weft = Weft::start(BIN, &config(&service, &server, "cache: 200ms"));
    assert_eq!(ask(&weft, "/known/1", "ada-read").status(), 200);
    server.revoked.lock().unwrap().insert("ada".to_owned());
    until("it is refused", || (ask(&weft, "/known/1", "ada-read").status() == 401).then_some(()));
}

#[test]
fn an_issuer_that_is_away_opens_nothing_and_what_is_remembered_counts() {
    let (service, server) = (Upstream::answering(|_| ok("x")), Server::new());
    let weft = Weft::start(BIN, &config(&service, &server, ""));
    assert_eq!(ask(&weft, "/known/1", "ada-read").status(), 200);
    for (at, bad) in [
        status(500),
        status(401),
        ok("<html>"),
        ok("{}"),
        ok(r#"{"active":"true","sub":"ada","aud":"orders"}"#),
        "HTTP/1.1 302 Found\r\nlocation: https://evil.example\r\ncontent-length: 0\r\n\r\n".into(),
        ok(&format!(r#"{{"active":true,"x":"{}"}}"#, "x".repeat(100_000))),
        "junk".into(),
    ]
    .into_iter()
    .enumerate()
    {
        *server.instead.lock().unwrap() = Some(bad.clone());
        let refused = ask(&weft, "/known/1", &format!("ada-{at}"));
        assert_eq!(told(&refused), (503, "issuer_unavailable".to_owned()), "{bad:.60}");
        assert_eq!(ask(&weft, "/known/1", "ada-read").status(), 200, "{bad:.60}");
    }
    // A reload that changes something else keeps what is remembered; a wrong secret comes to light.
    weft.reload(&config(&service, &server, "").replace("x-user", "x-other")).unwrap();
    assert_eq!(ask(&weft, "/known/1", "ada-read").status(), 200);
    *server.instead.lock().unwrap() = None;
    until("it is asked again", || {
        (ask(&weft, "/known/1", "bob-read").status() == 200).then_some(())
    });
    assert!(weft.wait_line("it does not take the client").contains("issuer corp"));
}

#[test]
fn what_is_wrong_with_it_is_told_with_its_line() {
    let (service, server) = (Upstream::answering(|_| ok("x")), Server::new());
    let good = config(&service, &server, "");
    let weft = Weft::start(BIN, &good);
    for (before, after, expected) in [
        ("introspection: corp", "introspection: crop", "names issuer `crop`, which is not there"),
        ("introspection: corp", "jwt: corp", "needs `keys` of issuer `corp`, which has none"),
        ("client_id: weft", "client_ids: weft", "client_id"),
        ("url: http:", "url: ftp:", "expected a URL of `http` or `https`"),
        ("{ x-user: sub }", "{ x-consumer-id: sub }", "tells the consumer, and no claim may"),
        ("      client_secret: ${S:-s:cret}\n", "", "client_secret"),
    ] {
        let told = weft.reload(&good.replace(before, after)).unwrap_err();
        assert!(told.contains(expected), "{after}: {told}");
        assert!(!told.contains("s:cret"), "{told}");
    }
    weft.reload(&good.replace("x-user", "x-other")).unwrap();
    let shown = std::process::Command::new(BIN)
        .args(["config", "--config"])
        .arg(weft.folder().join("weft.yaml"))
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("client_secret") && !shown.contains("s:cret"), "{shown}");
}

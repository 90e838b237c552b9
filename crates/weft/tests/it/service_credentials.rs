//! What services are shown of who asks, through the real binary: fixed secrets, tokens that are fetched, and tokens
//! that are exchanged.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
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

fn problem(answer: &HttpMessage) -> (u16, String) {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap();
    (answer.status(), problem["type"].as_str().unwrap().replace("urn:weft:problem:", ""))
}

/// The answer to a client of HTTP/2 that shows a token of its own.
fn by_http2(weft: &Weft, path: &str) -> String {
    http2::run(async {
        let client = Client::to(weft.address("web")).await;
        let request = http2::request("GET", path)
            .header("authorization", "Bearer of-the-client")
            .header("x-api-key", "mine");
        client.ask(request.body(Vec::new()).unwrap()).await.unwrap().text()
    })
}

#[test]
fn fixed_credentials_are_for_the_services_of_the_route_alone() {
    let failing = Arc::new(AtomicBool::new(false));
    let app = Upstream::answering({
        let failing = failing.clone();
        move |_| if failing.load(Ordering::Relaxed) { status(503) } else { ok("app") }
    });
    let (spare, copies) = (Upstream::saying("spare"), Upstream::saying("copy"));
    let weft = Weft::start(
        BIN,
        &format!(
            "
listeners: {{ web: {{ address: '@web' }} }}
services:
  app: {{ endpoints: '{}' }}
  spare: {{ endpoints: '{}' }}
  copies: {{ endpoints: '{}' }}
policies:
  usual: {{ retry: off, fallback: {{ to: spare, statuses: 5xx }}, mirror: copies }}
routes:
  - {{ name: bearer, match: /bearer, policies: usual, service_credentials: {{ bearer: '${{K:-t0ken}}' }}, to: app }}
  - {{ name: basic, match: /basic, policies: usual, service_credentials: {{ basic: {{ username: weft, password: '${{K:-pa ss}}' }} }}, to: app }}
  - {{ name: headers, match: /headers, policies: usual, service_credentials: {{ headers: {{ x-api-key: '${{K:-k1}}', x-partner: '${{K:-p1}}' }} }}, to: app }}
  - {{ name: named, match: /named, policies: usual, service_credentials: {{ bearer: '${{K:-t0ken}}', services: [spare] }}, to: app }}
",
            app.address(),
            spare.address(),
            copies.address(),
        ),
    );
    let shown = |service: &Upstream, name: &str| -> Vec<String> {
        let seen = service.seen().pop().unwrap();
        seen.all(name).into_iter().map(str::to_owned).collect()
    };
    let mine = "authorization: Bearer of-the-client\r\nx-api-key: mine\r\n";
    assert_eq!(weft.get("/bearer", mine).text(), "app");
    assert_eq!(shown(&app, "authorization"), ["Bearer t0ken"]);
    assert_eq!(weft.get("/basic", mine).text(), "app");
    assert_eq!(shown(&app, "authorization"), ["Basic d2VmdDpwYSBzcw=="]);
    assert_eq!(weft.get("/headers", mine).text(), "app");
    assert_eq!(
        (shown(&app, "x-api-key"), shown(&app, "x-partner")),
        (vec!["k1".into()], vec!["p1".into()])
    );
    assert_eq!(by_http2(&weft, "/bearer"), "app");
    assert_eq!(shown(&app, "authorization"), ["Bearer t0ken"]);
    // Copies and fallbacks are sent what the client has shown.
    failing.store(true, Ordering::Relaxed);
    for (path, expected) in [("/bearer", "Bearer of-the-client"), ("/named", "Bearer t0ken")] {
        assert_eq!(weft.get(path, mine).text(), "spare", "{path}");
        assert_eq!(shown(&spare, "authorization"), [expected], "{path}");
    }
    assert_eq!(shown(&app, "authorization"), ["Bearer of-the-client"], "it is not named");
    until("all are copied", || (copies.seen().len() == 6).then_some(()));
    for copy in copies.seen() {
        assert_eq!(
            (copy.all("authorization"), copy.all("x-api-key")),
            (vec!["Bearer of-the-client"], vec!["mine"])
        );
    }
    assert!(!weft.output().contains("t0ken"));
}

/// An authorization server: it numbers the tokens that it gives for itself, gives `for-X` for `X` in exchange, and
/// nothing for `eve`.
struct Server {
    upstream: Upstream,
    is_away: Arc<AtomicBool>,
}

impl Server {
    fn new() -> Self {
        let (given, is_away) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
        let upstream = Upstream::answering({
            let is_away = is_away.clone();
            move |request| {
                thread::sleep(Duration::from_millis(20));
                if is_away.load(Ordering::Relaxed) {
                    return status(500);
                }
                if request.get("authorization") != Some("Basic d2VmdDpzJTNBY3JldA==") {
                    return status(401);
                }
                let form = request.text();
                let subject = form.split('&').find_map(|pair| pair.strip_prefix("subject_token="));
                let token = match subject {
                    Some("eve") => {
                        let refusal = r#"{"error":"invalid_request"}"#;
                        let length = refusal.len();
                        return format!(
                            "HTTP/1.1 400 No\r\ncontent-length: {length}\r\n\r\n{refusal}"
                        );
                    }
                    Some(subject) => format!("for-{subject}"),
                    None => format!("token-{}", given.fetch_add(1, Ordering::Relaxed)),
                };
                ok(&json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600})
                    .to_string())
            }
        });
        Self { upstream, is_away }
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
oauth_clients:
  billing:
    token_url: http://{}/token
    client_id: weft
    client_secret: ${{S:-s:cret}}
    scopes: [read, write]
routes:
  - {{ name: own, match: /own, service_credentials: {{ client_credentials: billing }}, to: app }}
  - {{ name: theirs, match: /theirs, service_credentials: {{ token_exchange: billing }}, to: app }}
  - {{ name: other, match: /other, service_credentials: {{ token_exchange: {{ client: billing, header: x-token }} }}, to: app }}
{more}
",
        service.address(),
        server.upstream.address(),
    )
}

/// The service shows what it was shown, and takes no token that is named.
fn service(refused: &'static str) -> Upstream {
    Upstream::answering(move |request| {
        let shown = request.get("authorization").unwrap_or_default();
        if shown == format!("Bearer {refused}") {
            return status(401);
        }
        ok(&format!("{shown} {}", request.get("x-token").unwrap_or("-")))
    })
}

#[test]
fn a_token_is_fetched_once_for_all_and_anew_when_it_is_not_taken() {
    let (app, server) = (service("token-0"), Server::new());
    let weft = Weft::start(BIN, &config(&app, &server, ""));
    let barrier = Barrier::new(32);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let ask = || {
            scope.spawn(|| {
                barrier.wait();
                weft.get("/own", "").status()
            })
        };
        let all: Vec<_> = (0..32).map(|_| ask()).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    // The first token is one that the service does not take, and some may have met the next one already.
    assert!(statuses.iter().all(|status| [401, 200].contains(status)), "{statuses:?}");
    assert_eq!(weft.get("/own", "authorization: Basic eDp5\r\n").text(), "Bearer token-1 -");
    assert_eq!(by_http2(&weft, "/own"), "Bearer token-1 -");
    assert_eq!(server.asked(), 2);
    let form = server.upstream.seen()[0].text().to_owned();
    assert_eq!(form, "grant_type=client_credentials&scope=read%20write");
    // A reload that leaves the client as it is keeps its token, also while the server is away.
    server.is_away.store(true, Ordering::Relaxed);
    let another = "  - { name: another, match: /another, respond: { body: x } }\n";
    weft.reload(&config(&app, &server, another)).unwrap();
    assert_eq!(weft.get("/another", "").text(), "x");
    assert_eq!(weft.get("/own", "").text(), "Bearer token-1 -");
    // One that changes it does not, and without a token nothing is asked of the service.
    let asked = app.seen().len();
    weft.reload(&config(&app, &server, another).replace("[read, write]", "read")).unwrap();
    assert_eq!(problem(&weft.get("/own", "")), (503, "issuer_unavailable".into()));
    assert_eq!(app.seen().len(), asked);
    weft.wait_metric("weft_token_fetches_total", &["billing", "failed"], 1.0);
    server.is_away.store(false, Ordering::Relaxed);
    until("it is asked again", || {
        (weft.get("/own", "").text() == "Bearer token-2 -").then_some(())
    });
    weft.wait_metric("weft_token_fetches_waiting", &["billing"], 0.0);
    let log = std::fs::read_to_string(weft.folder().join("access.log")).unwrap();
    assert!(!log.contains("token-") && !weft.output().contains("s:cret"));
    assert!(!weft.output().contains("token-"), "{}", weft.output());
}

#[test]
fn a_token_is_exchanged_for_one_of_the_service() {
    let (app, server) = (service("nothing"), Server::new());
    let in_cookie = "  - { name: cookie, match: /cookie, service_credentials: { token_exchange: { client: billing, cookie: tok } }, to: app }\n";
    let weft = Weft::start(BIN, &config(&app, &server, in_cookie));
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    for name in ["ada", "bob", "ada", "bob", "ada"] {
        assert_eq!(weft.get("/theirs", &bearer(name)).text(), format!("Bearer for-{name} -"));
    }
    // It does not go on from where it was found.
    let both = "x-token: ada\r\nauthorization: Bearer of-another\r\n";
    assert_eq!(weft.get("/other", both).text(), "Bearer for-ada -");
    let cookies = "cookie: theme=dark; tok=ada\r\n";
    assert_eq!(weft.get("/cookie", cookies).text(), "Bearer for-ada -");
    assert_eq!(app.seen().pop().unwrap().get("cookie"), Some("theme=dark"));
    assert_eq!(server.asked(), 2);
    for _ in 0..5 {
        assert_eq!(problem(&weft.get("/theirs", &bearer("eve"))), (401, "unauthenticated".into()));
    }
    assert_eq!(server.asked(), 3, "what is refused is remembered too");
    let long = "a".repeat(20_000);
    let two = format!("{}{}", bearer("ada"), bearer("bob"));
    for bad in
        ["", "authorization: Basic eDp5\r\n", "authorization: Bearer\r\n", &bearer(&long), &two]
    {
        assert_eq!(
            problem(&weft.get("/theirs", bad)),
            (401, "unauthenticated".into()),
            "{bad:.40}"
        );
    }
    assert_eq!(server.asked(), 3);
    weft.wait_metric("weft_token_fetches_total", &["billing", "ok"], 2.0);
    weft.wait_metric("weft_token_fetches_total", &["billing", "refused"], 1.0);
}

//! Logins of browsers through the real binary, with a provider that follows a script and a browser that keeps
//! cookies: the way in and out, and what does not lead in.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use aws_lc_rs::{
    digest,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use weft_testkit::{HttpMessage, Upstream, Weft, until, upstream};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
const PAGE: &str = "accept: text/html\r\n";

/// What the provider does.
struct Script {
    key: Ed25519KeyPair,
    /// What the next ID token says besides.
    claims: Value,
    /// What the provider answers a grant besides.
    answer: Value,
    status: u16,
    /// What it was asked for tokens.
    forms: Vec<String>,
}

struct Provider {
    upstream: Upstream,
    script: Arc<Mutex<Script>>,
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

impl Script {
    fn signed(&self, header: &Value, claims: &Value) -> String {
        let part = |of: &Value| URL_SAFE_NO_PAD.encode(of.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(self.key.sign(text.as_bytes())))
    }

    fn id_token(&self, issuer: &str) -> String {
        let mut claims =
            json!({"iss": issuer, "aud": "weft", "sub": "ada", "iat": now(), "exp": now() + 300});
        for (name, value) in self.claims.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.signed(&json!({"alg": "EdDSA"}), &claims)
    }

    fn answer(&mut self, request: &HttpMessage) -> String {
        let issuer = format!("http://{}", request.get("host").unwrap());
        let body = match request.target() {
            "/.well-known/openid-configuration" => json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/auth?tenant=1"),
                "token_endpoint": format!("{issuer}/token"),
                "jwks_uri": format!("{issuer}/keys"),
                "end_session_endpoint": format!("{issuer}/end"),
            }),
            "/keys" => {
                let x = URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref());
                json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]})
            }
            "/token" if self.status != 200 => return upstream::status(self.status),
            "/token" => {
                self.forms.push(request.text());
                let mut answer =
                    json!({"token_type": "Bearer", "id_token": self.id_token(&issuer)});
                for (name, value) in self.answer.as_object().unwrap() {
                    answer[name] = value.clone();
                }
                answer
            }
            _ => return upstream::status(404),
        };
        upstream::ok(&body.to_string())
    }
}

impl Provider {
    fn new() -> Self {
        let script = Arc::new(Mutex::new(Script {
            key: Ed25519KeyPair::generate().unwrap(),
            claims: json!({}),
            answer: json!({"access_token": "first", "expires_in": 3600}),
            status: 200,
            forms: Vec::new(),
        }));
        let of = Arc::clone(&script);
        let upstream = Upstream::answering(move |request| of.lock().unwrap().answer(request));
        Self { upstream, script }
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.upstream.address())
    }

    fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }
}

fn config(service: &Upstream, issuer: &str, more: &str) -> String {
    format!(
        "
admin: {{ listen: '@admin' }}
telemetry: {{ access_log: {{ include: all, output: '@@/access.log' }} }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ app: {{ endpoints: '{}' }} }}
consumers: {{ people: {{}} }}
logins:
  shop:
    issuer: {issuer}
    client_id: weft
    client_secret: '${{S:-shared}}'
    session_keys: '${{S:-a secret of thirty-two characters, or more}}'
    login_path: /in
    backchannel_path: /ended
    forward_access_token: x-access-token
    algorithms: EdDSA
{more}
routes:
  - {{ name: api, match: /api/*, authentication: {{ any: [api_key, {{ oidc: shop }}] }}, to: app }}
  - {{ name: staff, match: /staff, authentication: {{ any: {{ oidc: {{ login: shop, claims: {{ role: staff }} }} }} }}, to: app }}
  - {{ name: pages, authentication: {{ any: {{ oidc: {{ login: shop, claim_headers: {{ x-user: sub }} }} }} }}, to: app }}
",
        service.address()
    )
}

/// A browser: it keeps cookies.
#[derive(Clone, Default)]
struct Browser(BTreeMap<String, String>);

impl Browser {
    fn get(&mut self, weft: &Weft, path: &str) -> HttpMessage {
        self.with(weft, path, PAGE)
    }

    fn with(&mut self, weft: &Weft, path: &str, fields: &str) -> HttpMessage {
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = match pairs.is_empty() {
            true => String::new(),
            false => format!("cookie: {}\r\n", pairs.join("; ")),
        };
        let answer = weft.get(path, &format!("{cookies}{fields}"));
        for line in answer.all("set-cookie") {
            assert!(
                line.contains("; Path=/; ") && line.contains("; HttpOnly; SameSite=Lax"),
                "{line}"
            );
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            match line.contains("Max-Age=0;") {
                true => self.0.remove(name),
                false => self.0.insert(name.to_owned(), value.to_owned()),
            };
        }
        answer
    }

    /// The names of its cookies, those of logins under way without what is drawn.
    fn names(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.split_inclusive(".login-").next().unwrap()).collect()
    }
}

/// A parameter of a location.
fn parameter(location: &str, name: &str) -> String {
    let (_, query) = location.split_once('?').unwrap();
    let found = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    let found = found.unwrap_or_else(|| panic!("{name} in {location}"));
    percent_encoding::percent_decode_str(found).decode_utf8().unwrap().into_owned()
}

fn location(answer: &HttpMessage) -> String {
    assert_eq!(answer.status(), 303, "{}", answer.text());
    assert_eq!(answer.get("cache-control"), Some("no-store"));
    answer.get("location").unwrap().to_owned()
}

/// Begins a login at a path: where the browser is sent.
fn begin(weft: &Weft, provider: &Provider, browser: &mut Browser, path: &str) -> String {
    let sent = location(&browser.get(weft, path));
    assert!(sent.starts_with(&format!("{}/auth?tenant=1&", provider.issuer())), "{sent}");
    provider.change(|script| script.claims["nonce"] = parameter(&sent, "nonce").into());
    sent
}

/// The target by which the browser comes back from there.
fn back(sent: &str, code: &str) -> String {
    format!("/oauth2/callback?code={code}&state={}", parameter(sent, "state"))
}

/// Logs in.
fn enter(weft: &Weft, provider: &Provider, browser: &mut Browser) {
    let sent = begin(weft, provider, browser, "/");
    assert_eq!(location(&browser.get(weft, &back(&sent, "c"))), "/");
}

fn start(more: &str) -> (Upstream, Provider, Weft) {
    let service = Upstream::answering(|_| upstream::ok("a page"));
    let provider = Provider::new();
    let weft = Weft::start(BIN, &config(&service, &provider.issuer(), more));
    (service, provider, weft)
}

fn failed(weft: &Weft, answer: &HttpMessage, why: &str) {
    assert_eq!(answer.status(), 400, "{}", answer.text());
    let problem: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["type"], "urn:weft:problem:login_failed");
    until(&format!("the log says: {why}"), || {
        let log = std::fs::read_to_string(weft.folder().join("access.log")).unwrap();
        log.contains(why).then_some(())
    });
}

#[test]
fn a_browser_logs_in_is_known_and_logs_out() {
    let (service, provider, weft) = start("");
    let mut browser = Browser::default();
    let sent = begin(&weft, &provider, &mut browser, "/orders?page=2");
    assert_eq!(parameter(&sent, "response_type"), "code");
    assert_eq!(parameter(&sent, "client_id"), "weft");
    assert_eq!(parameter(&sent, "scope"), "openid profile email");
    assert_eq!(parameter(&sent, "redirect_uri"), "http://test/oauth2/callback");
    assert_eq!(parameter(&sent, "code_challenge_method"), "S256");
    assert_eq!(browser.names(), ["weft-shop.login-"]);
    assert_eq!(location(&browser.get(&weft, &back(&sent, "the%20code"))), "/orders?page=2");
    assert_eq!(browser.names(), ["weft-shop"]);

    let form = provider.script.lock().unwrap().forms.pop().unwrap();
    assert!(
        form.contains("grant_type=authorization_code") && form.contains("code=the%20code"),
        "{form}"
    );
    let verifier = parameter(&format!("?{form}"), "code_verifier");
    let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
    assert_eq!(parameter(&sent, "code_challenge"), challenge);

    let forged = format!("{PAGE}x-user: eve\r\nx-access-token: forged\r\n");
    assert_eq!(browser.with(&weft, "/orders?page=2", &forged).text(), "a page");
    let seen = service.seen().pop().unwrap();
    assert_eq!((seen.all("x-user"), seen.all("x-access-token")), (vec!["ada"], vec!["first"]));
    assert_eq!(seen.get("cookie"), None);
    // What asks for data is let in by the session as well, also beside other methods.
    assert_eq!(browser.with(&weft, "/api/1", "accept: application/json\r\n").status(), 200);
    let lacks = browser.get(&weft, "/staff");
    assert_eq!(lacks.status(), 403, "{}", lacks.text());

    let copied = browser.clone();
    let out = location(&browser.get(&weft, "/oauth2/logout"));
    assert!(out.starts_with(&format!("{}/end?", provider.issuer())), "{out}");
    assert_eq!(parameter(&out, "post_logout_redirect_uri"), "http://test/");
    assert_eq!(parameter(&out, "id_token_hint").split('.').count(), 3);
    assert!(browser.0.is_empty(), "{:?}", browser.0);
    for mut out in [browser, copied] {
        assert!(location(&out.get(&weft, "/orders")).contains("/auth?"));
    }
}

#[test]
fn no_service_is_shown_a_session_and_none_sets_one() {
    let planted = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nset-cookie: weft-shop=1.planted; Path=/\r\nset-cookie: =weft-shop=1.planted\r\nset-cookie: theme=dark\r\n\r\npage";
    let service = Upstream::answering(move |_| planted.to_owned());
    let copies = Upstream::answering(|_| upstream::ok("a copy"));
    let provider = Provider::new();
    let routes = "routes:
  - { name: open, match: /open/*, mirror: copies, to: app }
  - { name: keyed, match: /keyed/*, authentication: api_key, to: app }
  - { name: asked, match: /asked/*, external_authorization: { service: copies, path: /allowed }, to: app }";
    let copying = format!("services: {{ copies: {{ endpoints: '{}' }}, ", copies.address());
    let yaml = config(&service, &provider.issuer(), "")
        .replace("routes:", routes)
        .replace("services: { ", &copying)
        .replace(
            "people: {}",
            "people: { api_keys: '${S:-a key of thirty-two characters 012345}' }",
        );
    let weft = Weft::start(BIN, &yaml);
    let mut browser = Browser::default();
    enter(&weft, &provider, &mut browser);
    browser.0.insert("theme".into(), "light".into());
    let session = browser.0["weft-shop"].clone();
    let key = "x-api-key: a key of thirty-two characters 012345\r\n";
    for (path, fields) in [("/open/1", PAGE), ("/keyed/1", key), ("/asked/1", PAGE), ("/", PAGE)] {
        let pairs = format!("cookie: weft-shop={session}; theme=light\r\n{fields}");
        let answer = weft.get(path, &pairs);
        assert_eq!(answer.status(), 200, "{path} {}", answer.text());
        assert_eq!(answer.all("set-cookie"), ["theme=dark"], "{path}");
        assert_eq!(service.seen().pop().unwrap().get("cookie"), Some("theme=light"), "{path}");
    }
    until("the copy is there, and the question", || (copies.seen().len() >= 2).then_some(()));
    for copy in copies.seen() {
        assert_eq!(copy.get("cookie"), Some("theme=light"), "{}", copy.target());
    }
}

#[test]
fn what_asks_for_data_is_refused_and_not_sent_away() {
    let (service, _provider, weft) = start("");
    let mut browser = Browser::default();
    for fields in [
        "accept: application/json\r\n",
        "accept: text/html\r\nsec-fetch-mode: cors\r\n",
        "accept: text/html\r\nx-requested-with: XMLHttpRequest\r\n",
        "",
    ] {
        let refused = browser.with(&weft, "/orders", fields);
        assert_eq!(refused.status(), 401, "{fields}");
        assert_eq!(refused.get("www-authenticate"), Some("OpenID realm=\"weft\""));
        assert_eq!(refused.get("location"), None);
    }
    let posted = weft.ask(
        "POST /orders HTTP/1.1\r\nhost: test\r\naccept: text/html\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!(posted.status(), 401);
    assert!(service.seen().is_empty() && browser.0.is_empty());
}

#[test]
fn an_answer_counts_once_and_in_the_browser_that_has_asked() {
    let (_service, provider, weft) = start("");
    let elsewhere = "the login was not begun in this browser, or has ended already";
    let mut browser = Browser::default();
    let sent = begin(&weft, &provider, &mut browser, "/one");
    let stolen = back(&sent, "c");
    failed(&weft, &Browser::default().get(&weft, &stolen), elsewhere);
    // Two tabs log in beside each other.
    let nonce = parameter(&sent, "nonce");
    let other = begin(&weft, &provider, &mut browser, "/two");
    assert_eq!(browser.names(), ["weft-shop.login-", "weft-shop.login-"]);
    assert_eq!(location(&browser.get(&weft, &back(&other, "d"))), "/two");
    provider.change(|script| script.claims["nonce"] = nonce.into());
    assert_eq!(location(&browser.get(&weft, &stolen)), "/one");
    failed(&weft, &browser.get(&weft, &stolen), elsewhere);

    // A cookie of one login is none of another, whatever it is called.
    let (mut mixed, sent) = (Browser::default(), sent);
    let of_other = begin(&weft, &provider, &mut mixed, "/three");
    let (_, value) = mixed.0.pop_first().unwrap();
    let state = parameter(&sent, "state");
    mixed.0.insert(format!("weft-shop.login-{}", &state[..12]), value);
    failed(&weft, &mixed.get(&weft, &back(&sent, "c")), elsewhere);
    assert_ne!(parameter(&of_other, "state"), state);
    for (target, why) in [
        ("/oauth2/callback", "the callback has no state"),
        ("/oauth2/callback?state=a&state=b", "a parameter of the callback stands there twice"),
        ("/oauth2/callback?state=a&code=b", elsewhere),
    ] {
        failed(&weft, &browser.get(&weft, target), why);
    }
    let log = std::fs::read_to_string(weft.folder().join("access.log")).unwrap();
    assert!(!log.contains("code=") && !log.contains(&state), "{log}");
}

#[test]
fn an_id_token_that_is_not_good_lets_nobody_in() {
    let (service, provider, weft) = start("");
    for (claims, why) in [
        (json!({"nonce": "other"}), "the ID token was made for another login"),
        (json!({"nonce": null}), "the ID token was made for another login"),
        (json!({"iss": "https://evil.example"}), "the token is of another issuer"),
        (json!({"aud": "other"}), "the token is for another audience"),
        (json!({"aud": ["weft", "other"]}), "the token is for another audience"),
        (json!({"azp": "other"}), "the token is for another audience"),
        (json!({"exp": 1}), "the token has expired"),
        (json!({"at_hash": "x"}), "the ID token is of another access token"),
    ] {
        let mut browser = Browser::default();
        let sent = begin(&weft, &provider, &mut browser, "/");
        provider.change(|script| {
            for (name, value) in claims.as_object().unwrap() {
                script.claims[name] = value.clone();
            }
        });
        failed(&weft, &browser.get(&weft, &back(&sent, "c")), why);
        provider.change(|script| script.claims = json!({}));
    }
    let mut browser = Browser::default();
    let sent = begin(&weft, &provider, &mut browser, "/");
    let denied =
        format!("/oauth2/callback?error=access_denied&state={}", parameter(&sent, "state"));
    failed(&weft, &browser.get(&weft, &denied), "its error is `access_denied`");
    let mixed_up = format!("{}&iss=https://evil.example", back(&sent, "c"));
    failed(&weft, &browser.get(&weft, &mixed_up), "the answer is by another issuer");
    assert!(service.seen().is_empty());
}

#[test]
fn a_browser_is_sent_back_to_this_site_alone() {
    let (_service, provider, weft) = start("");
    for (asked, expected) in [
        ("/in?return_to=/orders", "/orders"),
        ("/in?return_to=%2Forders%3Fa%3Db", "/orders?a=b"),
        ("/in", "/"),
        ("/in?return_to=https://evil.example/", "/"),
        ("/in?return_to=//evil.example/", "/"),
        ("/in?return_to=/%5Cevil.example/", "/"),
        ("/in?return_to=/%09/evil.example/", "/"),
        ("/in?return_to=/a%0d%0aset-cookie:%20a=b", "/"),
        ("/in?return_to=/a&return_to=/b", "/"),
        ("//evil.example/", "/"),
    ] {
        let mut browser = Browser::default();
        let sent = begin(&weft, &provider, &mut browser, asked);
        let to = location(&browser.get(&weft, &back(&sent, "c")));
        let to_here = to == expected || asked.starts_with("//") && to == "/evil.example/";
        assert!(to_here, "{asked}: {to}");
    }
}

#[test]
fn while_the_provider_is_away_sessions_go_on() {
    let (service, provider, weft) = start("");
    let mut browser = Browser::default();
    // The access token is due at once.
    provider.change(|script| {
        script.answer = json!({"access_token": "first", "refresh_token": "r1", "expires_in": 0});
    });
    enter(&weft, &provider, &mut browser);
    provider.change(|script| script.status = 503);
    let sent = begin(&weft, &provider, &mut Browser::default(), "/");
    assert_eq!(browser.get(&weft, "/").status(), 200);
    assert_eq!(service.seen().pop().unwrap().get("x-access-token"), Some("first"));
    let mut other = Browser::default();
    let sent_other = begin(&weft, &provider, &mut other, "/");
    assert_ne!(sent, sent_other);
    let away = other.get(&weft, &back(&sent_other, "c"));
    assert_eq!(away.status(), 503, "{}", away.text());
    let problem: Value = serde_json::from_slice(&away.body).unwrap();
    assert_eq!(problem["type"], "urn:weft:problem:issuer_unavailable");
}

#[test]
fn a_refresh_token_is_used_once_however_many_ask() {
    let (service, provider, weft) = start("");
    let mut browser = Browser::default();
    provider.change(|script| {
        script.answer = json!({"access_token": "first", "refresh_token": "r1", "expires_in": 0});
    });
    enter(&weft, &provider, &mut browser);
    provider.change(|script| {
        script.forms.clear();
        script.answer =
            json!({"access_token": "second", "refresh_token": "r2", "expires_in": 3600});
    });
    let answers: Vec<HttpMessage> = std::thread::scope(|scope| {
        let ask = |_| {
            let mut tab = browser.clone();
            let weft = &weft;
            scope.spawn(move || tab.get(weft, "/"))
        };
        let asked: Vec<_> = (0..12).map(ask).collect();
        asked.into_iter().map(|of| of.join().unwrap()).collect()
    });
    for answer in &answers {
        assert_eq!(answer.status(), 200);
        assert!(answer.get("set-cookie").is_some());
        assert_eq!(answer.get("cache-control"), Some("private, no-cache"));
    }
    let forms = provider.script.lock().unwrap().forms.clone();
    assert_eq!(forms.len(), 1, "{forms:?}");
    assert!(forms[0].contains("grant_type=refresh_token&refresh_token=r1"), "{forms:?}");
    let tokens: Vec<_> =
        service.seen().iter().map(|seen| seen.get("x-access-token").map(str::to_owned)).collect();
    assert!(tokens.iter().all(|token| token.as_deref() == Some("second")), "{tokens:?}");
    assert_eq!(browser.get(&weft, "/").status(), 200);
    assert_eq!(browser.get(&weft, "/").get("set-cookie"), None, "it has what is new");
}

#[test]
fn a_session_that_has_changed_comes_with_every_answer() {
    let (_service, provider, weft) = start("");
    let mut browser = Browser::default();
    provider.change(|script| {
        script.answer = json!({"access_token": "first", "refresh_token": "r1", "expires_in": 0});
    });
    enter(&weft, &provider, &mut browser);
    provider.change(|script| {
        script.answer =
            json!({"access_token": "second", "refresh_token": "r2", "expires_in": "3600"});
    });
    let lacks = browser.clone().get(&weft, "/staff");
    assert_eq!(lacks.status(), 403, "{}", lacks.text());
    assert!(lacks.all("set-cookie")[0].starts_with("weft-shop="), "{:?}", lacks.all("set-cookie"));
}

#[test]
fn what_cannot_be_a_login_begins_none_and_its_code_is_in_no_log() {
    let (_service, provider, weft) = start("");
    let old = weft.ask(format!("GET / HTTP/1.0\r\n{PAGE}\r\n"));
    assert_eq!((old.status(), old.get("location")), (400, None), "{}", old.text());
    assert_eq!(old.get("set-cookie"), None);
    let mut browser = Browser::default();
    let sent = begin(&weft, &provider, &mut browser, "/");
    let target = back(&sent, "a-secret-code");
    for method in ["HEAD", "PUT"] {
        let length = if method == "PUT" { "content-length: 0\r\n" } else { "" };
        let asked = format!(
            "{method} {target} HTTP/1.1\r\nhost: test\r\n{length}connection: close\r\n\r\n"
        );
        assert_eq!(weft.ask(asked).status(), 405, "{method}");
    }
    let log = until("both are in the log", || {
        let log = std::fs::read_to_string(weft.folder().join("access.log")).unwrap();
        (log.contains("HEAD") && log.contains("PUT")).then_some(log)
    });
    assert!(!log.contains("a-secret-code") && !log.contains(&parameter(&sent, "state")), "{log}");
}

#[test]
fn a_token_of_another_kind_lets_nobody_in_and_keys_that_are_away_say_so() {
    let (service, provider, weft) = start("");
    let mut browser = Browser::default();
    let sent = begin(&weft, &provider, &mut browser, "/");
    provider.change(|script| script.answer = json!({"access_token": "a", "token_type": "DPoP"}));
    let why = "its tokens are of a type that is not known here";
    failed(&weft, &browser.get(&weft, &back(&sent, "c")), why);
    for (claims, why) in [
        (json!({"sub": ""}), "the token has no claim `sub`"),
        (json!({"iat": now() + 90}), "the token is not valid yet"),
    ] {
        provider.change(|script| {
            script.claims = claims.clone();
            script.answer = json!({"access_token": "a"});
        });
        let mut browser = Browser::default();
        let sent = begin(&weft, &provider, &mut browser, "/");
        failed(&weft, &browser.get(&weft, &back(&sent, "c")), why);
    }
    assert!(service.seen().is_empty());
}

#[test]
fn the_provider_ends_sessions_and_keys_are_changed_under_them() {
    let (_service, provider, weft) = start("");
    let (mut one, mut other) = (Browser::default(), Browser::default());
    for (browser, sid) in [(&mut one, "s1"), (&mut other, "s2")] {
        provider.change(|script| script.claims = json!({"sid": sid}));
        enter(&weft, &provider, browser);
        assert_eq!(browser.get(&weft, "/").status(), 200);
    }
    let issuer = provider.issuer();
    let began = now();
    let ended = |change: Value, kind: &str| {
        let mut claims = json!({
            "iss": issuer, "aud": "weft", "iat": now(), "exp": now() + 120, "jti": "1", "sid": "s1",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let header = json!({"alg": "EdDSA", "typ": kind});
        let token = provider.script.lock().unwrap().signed(&header, &claims);
        let form = format!("logout_token={token}");
        weft.ask(format!(
            "POST /ended HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
            form.len()
        ))
        .status()
    };
    for (change, kind) in [
        (json!({"events": {}}), "logout+jwt"),
        (json!({"nonce": "n"}), "logout+jwt"),
        (json!({"aud": "other"}), "logout+jwt"),
        (json!({"sid": null}), "logout+jwt"),
        (json!({"jti": null}), "logout+jwt"),
        (json!({"jti": ""}), "logout+jwt"),
        (json!({"iat": now() + 90}), "logout+jwt"),
        (json!({}), "JWT"),
    ] {
        assert_eq!(ended(change.clone(), kind), 400, "{change} {kind}");
    }
    assert_eq!(one.get(&weft, "/").status(), 200);
    // It was issued before the session began, and ends what was there then.
    assert_eq!(ended(json!({"iat": began - 30, "jti": "0"}), "logout+jwt"), 200);
    assert_eq!(one.get(&weft, "/").status(), 200);
    assert_eq!(ended(json!({}), "logout+jwt"), 200);
    assert!(location(&one.get(&weft, "/")).contains("/auth?"));
    assert_eq!(other.get(&weft, "/").status(), 200);

    let service = Upstream::answering(|_| upstream::ok("a page"));
    let with = |keys: &str| {
        let config = config(&service, &provider.issuer(), "");
        config.replace("session_keys: '${S:-a secret of thirty-two characters, or more}'", keys)
    };
    let both = "session_keys: ['${S:-another secret of thirty-two characters}', '${S:-a secret of thirty-two characters, or more}']";
    weft.reload(&with(both)).unwrap();
    assert_eq!(other.get(&weft, "/").status(), 200, "the former key opens still");
    weft.reload(&with("session_keys: '${S:-another secret of thirty-two characters}'")).unwrap();
    assert!(location(&other.get(&weft, "/")).contains("/auth?"));
}

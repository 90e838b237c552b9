//! Tokens through the real binary: issuers whose keys are fetched, from a host that hangs, lies and changes
//! them, and what clients and services are told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use weft_testkit::{Authority, HttpMessage, Upstream, Weft, until, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// A key of an issuer.
struct Key {
    kid: &'static str,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { kid, pair }
    }

    fn jwks(&self) -> String {
        let point = self.pair.public_key().as_ref();
        let part = |of: &[u8]| URL_SAFE_NO_PAD.encode(of);
        let (x, y) = (part(&point[1..33]), part(&point[33..]));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": self.kid, "x": x, "y": y}]})
            .to_string()
    }

    fn token(&self, claims: &Value) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut all =
            json!({"iss": "https://id.example", "aud": "orders", "exp": now + 300, "sub": "ada"});
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let part = |of: Value| URL_SAFE_NO_PAD.encode(of.to_string());
        let text = format!("{}.{}", part(json!({"alg": "ES256", "kid": self.kid})), part(all));
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A host of keys that answers what it is told to.
struct Host {
    upstream: Upstream,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Host {
    fn saying(answer: String) -> Self {
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let upstream = Upstream::raw({
            let (answer, asked) = (answer.clone(), asked.clone());
            move |mut conn| {
                while conn.request().is_some() {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let answer = answer.lock().unwrap().clone();
                    if answer == "hang" {
                        let _ = conn.rest();
                        return;
                    }
                    conn.send(answer);
                }
            }
        });
        Self { upstream, answer, asked }
    }

    fn says(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().unwrap());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn config(service: &Upstream, keys: &str) -> String {
    format!(
        "
admin: {{ listen: '@admin' }}
telemetry: {{ access_log: {{ include: all, output: '@@/access.log' }} }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ app: {{ endpoints: '{}' }} }}
consumers:
  mobile: {{ groups: partners, subjects: {{ corp: ada }} }}
issuers:
  corp:
    issuer: https://id.example
    audiences: orders
    keys: {keys}
routes:
  - {{ name: known, match: /known/*, authentication: {{ any: {{ jwt: {{ issuers: corp, claim_headers: {{ x-user: sub }} }} }} }}, to: app }}
  - {{ name: scoped, match: /scoped/*, authentication: {{ any: {{ jwt: {{ issuers: corp, scopes: [read, write] }} }} }}, to: app }}
  - {{ name: places, match: /places/*, authentication: {{ any: [{{ jwt: {{ issuers: corp, query: token }} }}, api_key], realm: shop }}, to: app }}
",
        service.address()
    )
}

fn ask(weft: &Weft, path: &str, token: &str) -> HttpMessage {
    weft.get(path, &format!("authorization: Bearer {token}\r\n"))
}

fn reason(answer: &HttpMessage) -> String {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap();
    problem["type"].as_str().unwrap().replace("urn:weft:problem:", "")
}

#[test]
fn a_token_of_an_issuer_is_believed_and_others_are_not() {
    let service = Upstream::answering(|_| ok("x"));
    let (key, other) = (Key::new("one"), Key::new("one"));
    let host = Host::saying(ok(&key.jwks()));
    let weft =
        Weft::start(BIN, &config(&service, &format!("http://{}/keys", host.upstream.address())));
    // The first request waits for the keys if they are not there yet.
    let answer = weft.get(
        "/known/1",
        &format!(
            "authorization: Bearer {}\r\nx-user: root\r\nx-consumer-username: root\r\n",
            key.token(&json!({}))
        ),
    );
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = service.seen().pop().unwrap();
    assert_eq!(seen.all("x-consumer-username"), ["mobile"]);
    assert_eq!((seen.all("x-user"), seen.get("authorization")), (vec!["ada"], None));
    // A token of nobody in particular is good as well, and has no consumer.
    assert_eq!(ask(&weft, "/known/1", &key.token(&json!({"sub": "bob"}))).status(), 200);
    let seen = service.seen().pop().unwrap();
    assert_eq!((seen.get("x-consumer-username"), seen.all("x-user")), (None, vec!["bob"]));

    let good = key.token(&json!({}));
    let (head, rest) = good.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    assert!(!head.is_empty());
    for bad in [
        other.token(&json!({})),
        Key::new("two").token(&json!({})),
        key.token(&json!({"exp": 1})),
        key.token(&json!({"aud": "payments"})),
        key.token(&json!({"iss": "https://evil.example"})),
        key.token(&json!({"nbf": 4_000_000_000_u64})),
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{head}.{claims}"),
        "a".repeat(20_000),
        "junk".to_owned(),
    ] {
        let answer = ask(&weft, "/known/1", &bad);
        assert_eq!((answer.status(), &*reason(&answer)), (401, "unauthenticated"), "{bad:.90}");
        let challenge = "Bearer realm=\"weft\", error=\"invalid_token\"";
        assert_eq!(answer.all("www-authenticate"), [challenge], "{bad:.90}");
    }
    let missing = weft.get("/known/1", "");
    assert_eq!(missing.all("www-authenticate"), ["Bearer realm=\"weft\""]);
    assert_eq!(missing.status(), 401);

    let scoped = |scope: &str| ask(&weft, "/scoped/1", &key.token(&json!({"scope": scope})));
    assert_eq!(scoped("write read more").status(), 200);
    let refused = scoped("read");
    assert_eq!((refused.status(), &*reason(&refused)), (403, "insufficient_scope"));
    let challenge = "Bearer realm=\"weft\", error=\"insufficient_scope\", scope=\"read write\"";
    assert_eq!(refused.all("www-authenticate"), [challenge]);

    assert_eq!(weft.get(&format!("/places/1?a=1&token={good}"), "").status(), 200);
    assert_eq!(service.seen().pop().unwrap().target(), "/places/1?a=1");
    let refused = weft.get("/places/1?token=junk", "");
    let both = ["Bearer realm=\"shop\", error=\"invalid_token\"", "ApiKey realm=\"shop\""];
    assert_eq!(refused.all("www-authenticate"), both);
    let log = until("the log says why", || {
        let log = std::fs::read_to_string(weft.folder().join("access.log")).unwrap();
        let all =
            ["has expired", "signature of the token is wrong", "algorithm that is not allowed"];
        all.iter().all(|why| log.contains(why)).then_some(log)
    });
    assert!(!log.contains(signature), "{log}");
    // Made-up keys have had the host asked now and then, and not each time.
    assert!(host.asked() <= 3, "{}", host.asked());
    weft.wait_metric("weft_issuer_fetches_total", &["corp", "ok"], 1.0);
}

#[test]
fn keys_change_and_are_fetched_when_a_token_has_a_new_one() {
    let service = Upstream::answering(|_| ok("x"));
    let (old, new) = (Key::new("old"), Key::new("new"));
    let host = Host::saying(ok(&old.jwks()));
    let keys = format!("http://{}/keys", host.upstream.address());
    let weft = Weft::start(BIN, &config(&service, &keys));
    let of_old = old.token(&json!({}));
    assert_eq!(ask(&weft, "/known/1", &of_old).status(), 200);
    host.says(&ok(&new.jwks()));
    // A reload keeps the keys that there are.
    weft.reload(&config(&service, &keys).replace("partners", "others")).unwrap();
    assert_eq!(ask(&weft, "/known/1", &of_old).status(), 200);
    until("the new key is there", || {
        (ask(&weft, "/known/1", &new.token(&json!({}))).status() == 200).then_some(())
    });
    // What was decided by the old one is forgotten with it.
    assert_eq!(ask(&weft, "/known/1", &of_old).status(), 401);
    assert_eq!(host.asked(), 2);
}

#[test]
fn a_host_that_hangs_or_lies_opens_nothing() {
    let service = Upstream::answering(|_| ok("x"));
    let key = Key::new("one");
    let large = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(10_000_000));
    let mut slow = Duration::ZERO;
    for answer in [
        "hang".to_owned(),
        "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 302 Found\r\nlocation: https://evil.example\r\ncontent-length: 0\r\n\r\n"
            .to_owned(),
        ok("<html>"),
        ok(r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#),
        ok(&large),
        "junk".to_owned(),
    ] {
        let host = Host::saying(answer.clone());
        let url = format!("http://{}/keys", host.upstream.address());
        let weft = Weft::start(BIN, &config(&service, &url));
        let began = SystemTime::now();
        let refused = ask(&weft, "/known/1", &key.token(&json!({})));
        slow = slow.max(began.elapsed().unwrap_or_default());
        let found = (refused.status(), reason(&refused));
        assert_eq!(found, (503, "issuer_unavailable".to_owned()), "{answer:.60}");
        assert!(weft.wait_line("could not be fetched").contains("issuer corp"));
        // It comes back.
        host.says(&ok(&key.jwks()));
        until("the keys are there", || {
            (ask(&weft, "/known/1", &key.token(&json!({}))).status() == 200).then_some(())
        });
    }
    assert!(slow < Duration::from_secs(30), "{slow:?}");
    assert!(service.seen().iter().all(|request| request.get("authorization").is_none()));
}

#[test]
fn keys_from_a_file_or_a_secret() {
    let service = Upstream::answering(|_| ok("x"));
    let key = Key::new("one");
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("keys.json");
    std::fs::write(&file, key.jwks()).unwrap();
    let weft = Weft::start(BIN, &config(&service, &format!("{{ file: {} }}", file.display())));
    assert_eq!(ask(&weft, "/known/1", &key.token(&json!({}))).status(), 200);
    let short = weft.reload(&config(&service, "{ secret: '${S:-too short}' }")).unwrap_err();
    assert!(short.contains("a secret needs 32 bytes here"), "{short}");
    let misfit = config(
        &service,
        "{ secret: '${S:-a-secret-of-at-least-32-characters}' }\n    algorithms: ES256",
    );
    let misfit = weft.reload(&misfit).unwrap_err();
    assert!(misfit.contains("this algorithm takes no secret"), "{misfit}");
    let none = weft.reload(&config(&service, "{ cache: 1m }")).unwrap_err();
    assert!(none.contains("one of `url`, `file` and `secret`"), "{none}");
    let unknown = weft.reload(
        &config(&service, "http://127.0.0.1:1/k").replace("issuers: corp,", "issuers: crop,"),
    );
    let unknown = unknown.unwrap_err();
    assert!(unknown.contains("names issuer `crop`, which is not there"), "{unknown}");
    assert_eq!(ask(&weft, "/known/1", &key.token(&json!({}))).status(), 200);
}

#[test]
fn keys_over_tls_by_an_authority_of_ones_own() {
    let service = Upstream::answering(|_| ok("x"));
    let key = Key::new("one");
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let (jwks, issued) = (key.jwks(), ours.issue(&["127.0.0.1"]));
    let host = Upstream::secure(issued.server(&["http/1.1"], None), move |_| ok(&jwks));
    other.write(folder.path(), "ca");
    let keys = format!(
        "{{ url: 'https://{}/keys', ca_file: {} }}",
        host.address(),
        folder.path().join("ca.crt").display()
    );
    let weft = Weft::start(BIN, &config(&service, &keys));
    let token = key.token(&json!({}));
    let refused = ask(&weft, "/known/1", &token);
    assert_eq!((refused.status(), &*reason(&refused)), (503, "issuer_unavailable"));
    assert!(host.seen().is_empty(), "nobody is believed whom another authority has named");
    // The file is read again with the next try.
    ours.write(folder.path(), "ca");
    until("the keys are there", || (ask(&weft, "/known/1", &token).status() == 200).then_some(()));
}

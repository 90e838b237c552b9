//! Signed requests through the real binary: who is let in, what is noticed, and what the service sees.

use std::time::SystemTime;

use aws_lc_rs::{
    digest, hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use weft_testkit::{HttpMessage, Upstream, Weft, until, upstream::ok};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
const SECRET: &str = "a secret of thirty-two characters, or more";
/// Another key, of which the tests know nothing.
const OTHER: &str =
    "algorithm: hmac-sha256, secret: '${S:-another secret of thirty-two characters}'";
const USUAL: &str = r#""@method" "@authority" "@path" "@query""#;

fn config(service: &Upstream, other: &str) -> String {
    format!(
        "
admin: {{ listen: '@admin' }}
telemetry: {{ access_log: {{ include: all, output: '@@/access.log' }} }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ app: {{ endpoints: '{}' }} }}
consumers: {{ partner: {{ groups: partners }}, other: {{}} }}
signature_keys:
  partner: {{ consumer: partner, algorithm: hmac-sha256, secret: '${{S:-{SECRET}}}' }}
  other: {{ consumer: other, id: 'https://o.example/keys#1', {other} }}
routes:
  - {{ name: signed, match: /signed/*, authentication: signature, to: app }}
  - {{ name: once, match: /once/*, authentication: {{ any: {{ signature: {{ nonce: true, tag: orders }} }} }}, to: app }}
  - {{ name: small, match: /small/*, authentication: {{ any: {{ signature: {{ body_max: 10B }} }} }}, to: app }}
  - {{ name: other, match: /other/*, authentication: {{ any: {{ signature: other }} }}, to: app }}
",
        service.address()
    )
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// A request that is signed by the shared secret.
struct Signed<'a> {
    target: &'a str,
    body: &'a str,
    components: &'a str,
    key: &'a str,
    more: &'a str,
}

impl Default for Signed<'_> {
    fn default() -> Self {
        Self { target: "/signed/1?a=%7e", body: "", components: USUAL, key: "partner", more: "" }
    }
}

impl Signed<'_> {
    fn lines(&self, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let (path, query) = self.target.split_once('?').unwrap_or((self.target, ""));
        let method = if self.body.is_empty() { "GET" } else { "POST" };
        let sum = STANDARD.encode(digest::digest(&digest::SHA256, self.body.as_bytes()));
        let sum = format!("sha-256=:{sum}:");
        let input =
            format!("({});created={};keyid=\"{}\"{}", self.components, now(), self.key, self.more);
        let mut base = String::new();
        for component in self.components.split(' ').filter(|component| !component.is_empty()) {
            let value = match component.trim_matches('"') {
                "@method" => method.to_owned(),
                "@authority" => "test".to_owned(),
                "@path" => path.to_owned(),
                "@query" => format!("?{query}"),
                "content-digest" => sum.clone(),
                other => panic!("{other}"),
            };
            base.push_str(&format!("{component}: {value}\n"));
        }
        base.push_str(&format!("\"@signature-params\": {input}"));
        let signature = STANDARD.encode(sign(base.as_bytes()));
        format!(
            "content-digest: {sum}\r\nsignature-input: sig={input}\r\nsignature: sig=:{signature}:\r\n"
        )
    }

    fn request(&self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let lines = self.lines(|base| hmac::sign(&key, base).as_ref().to_vec());
        let (method, length) = match self.body.len() {
            0 => ("GET", String::new()),
            length => ("POST", format!("content-length: {length}\r\n")),
        };
        let (target, body) = (self.target, self.body);
        format!("{method} {target} HTTP/1.1\r\nhost: TEST:80\r\n{length}{lines}\r\n{body}")
    }
}

fn refused(weft: &Weft, answer: &HttpMessage, why: &str) {
    assert_eq!(answer.status(), 401, "{}", answer.text());
    assert_eq!(answer.get("www-authenticate"), Some("Signature realm=\"weft\""));
    until(&format!("the log says: {why}"), || {
        let log = std::fs::read_to_string(weft.folder().join("access.log")).unwrap();
        log.contains(why).then_some(())
    });
}

#[test]
fn who_signs_is_let_in_and_what_is_changed_is_noticed() {
    let service = Upstream::answering(|request| ok(&request.text()));
    let weft = Weft::start(BIN, &config(&service, OTHER));
    let signed = Signed::default();
    let answer = weft.ask(signed.request());
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = service.seen().pop().unwrap();
    assert_eq!(seen.get("x-consumer-username"), Some("partner"));
    assert_eq!(seen.get("x-consumer-groups"), Some("partners"));
    assert_eq!((seen.get("signature"), seen.get("signature-input")), (None, None));

    let other = signed.request().replace("/signed/1", "/signed/2");
    refused(&weft, &weft.ask(other), "the signature is wrong");
    let unsigned = weft.get("/signed/1", "");
    refused(&weft, &unsigned, "no credentials were shown");
    let asked = r#"sig=("@method" "@authority" "@path" "@query" "content-digest");created;keyid"#;
    assert_eq!(unsigned.get("accept-signature"), Some(asked));
    let lacking = Signed { components: r#""@method""#, ..Signed::default() };
    refused(&weft, &weft.ask(lacking.request()), "does not cover what it must");
    let unknown = Signed { key: "nobody", ..Signed::default() };
    refused(&weft, &weft.ask(unknown.request()), "by a key that is not known here");
    assert_eq!(service.seen().len(), 1);
}

#[test]
fn a_body_is_the_one_that_was_signed() {
    let service = Upstream::answering(|request| ok(&request.text()));
    let weft = Weft::start(BIN, &config(&service, OTHER));
    let components = &*format!(r#"{USUAL} "content-digest""#);
    let of = |target, body| Signed { target, body, components, ..Signed::default() };
    let signed = of("/signed/1", "pay 100");
    let answer = weft.ask(signed.request());
    assert_eq!((answer.status(), &*answer.text()), (200, "pay 100"));
    let other = signed.request().replace("pay 100", "pay 900");
    refused(&weft, &weft.ask(other), "the body is not the one whose digest was signed");
    let chunked = signed.request().replace("content-length: 7", "transfer-encoding: chunked");
    let chunked = chunked.replace("pay 100", "4\r\npay \r\n3\r\n100\r\n0\r\n\r\n");
    assert_eq!(weft.ask(chunked).text(), "pay 100");
    // A body that nobody has signed, on a request that is good without.
    let added = Signed { target: "/signed/1", body: "x", ..Signed::default() };
    refused(&weft, &weft.ask(added.request()), "does not cover the digest of the body");
    let taken = signed.request().replace("content-length: 7\r\n", "").replace("pay 100", "");
    refused(&weft, &weft.ask(taken), "the body is not the one whose digest was signed");
    let large = weft.ask(of("/small/1", "eleven bytes").request());
    assert_eq!(large.status(), 413, "{}", large.text());
    assert_eq!(weft.ask(of("/small/1", "ten bytes!").request()).status(), 200);
    assert_eq!(service.seen().len(), 3);
}

#[test]
fn a_signature_with_a_nonce_is_taken_once_also_after_a_reload() {
    let service = Upstream::answering(|_| ok("x"));
    let weft = Weft::start(BIN, &config(&service, OTHER));
    let of = |more| Signed { target: "/once/1", more, ..Signed::default() };
    let request = of(";nonce=\"a\";tag=\"orders\"").request();
    assert_eq!(weft.ask(&request).status(), 200);
    refused(&weft, &weft.ask(&request), "the signature was shown before");
    assert_eq!(weft.ask(of(";nonce=\"b\";tag=\"orders\"").request()).status(), 200);
    refused(&weft, &weft.ask(of(";tag=\"orders\"").request()), "the signature has no nonce");
    refused(&weft, &weft.ask(of(";nonce=\"c\"").request()), "no signature has the `tag`");
    let asked = weft.get("/once/1", "");
    assert!(
        asked.get("accept-signature").unwrap().ends_with(";created;keyid;nonce;tag=\"orders\"")
    );

    let key = Ed25519KeyPair::generate().unwrap();
    let x = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
    weft.write("other.json", &format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#));
    weft.reload(&config(&service, "algorithm: ed25519, public_key: other.json")).unwrap();
    refused(&weft, &weft.ask(&request), "the signature was shown before");
    let by_other =
        Signed { target: "/other/1", key: "https://o.example/keys#1", ..Signed::default() };
    let lines = by_other.lines(|base| key.sign(base).as_ref().to_vec());
    assert_eq!(weft.get("/other/1", &lines).status(), 200);
    assert_eq!(service.seen().pop().unwrap().get("x-consumer-username"), Some("other"));
    // A key that is known, and not taken on this route.
    let by_partner = Signed { target: "/other/1", ..Signed::default() };
    refused(&weft, &weft.ask(by_partner.request()), "by a key that is not known here");
}

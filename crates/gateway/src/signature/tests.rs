//! Signatures of others, by the vectors of RFC 9421, and what is not taken.

use std::collections::HashMap;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use weft_wire::{Method, RequestHead};

use super::*;
use crate::fixture::{head, name};

/// The keys of RFC 9421 appendix B.1.
const RSA_PSS: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2
+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+
oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq
gDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W
Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4
aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI
2wIDAQAB
-----END PUBLIC KEY-----";
const ED25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=
-----END PUBLIC KEY-----";
const SECRET: &str =
    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
const MADE: i64 = 1_618_884_473;

fn keys() -> HashMap<Box<str>, SignatureKey> {
    let secret = STANDARD.decode(SECRET).unwrap();
    [
        (
            "test-key-rsa-pss",
            Algorithm::Ps512,
            KeySet::of_file(RSA_PSS.as_bytes(), &[Algorithm::Ps512]),
        ),
        (
            "test-key-ed25519",
            Algorithm::EdDsa,
            KeySet::of_file(ED25519.as_bytes(), &[Algorithm::EdDsa]),
        ),
        ("test-shared-secret", Algorithm::Hs256, KeySet::of_secret(&secret, &[Algorithm::Hs256])),
    ]
    .into_iter()
    .map(|(id, algorithm, key)| {
        let key = Arc::new(key.unwrap());
        (
            id.into(),
            SignatureKey { name: name(id), id: id.into(), consumer: name("ada"), algorithm, key },
        )
    })
    .collect()
}

/// The request of RFC 9421 appendix B.2, with fields besides.
fn request(more: &[(&str, &str)]) -> RequestHead {
    let fields = [
        ("host", "example.com"),
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", "application/json"),
        (
            "content-digest",
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        ),
        ("content-length", "18"),
    ];
    head(Method::Post, "/foo?param=Value&Pet=dog", &[&fields[..], more].concat())
}

fn message(head: &RequestHead) -> Message<'_> {
    Message { head, target: &head.target, host: "Example.com:443", is_secure: true, has_body: true }
}

/// What asks for nothing but a good signature.
fn anything() -> Signature {
    Signature { components: vec![], content_digest: false, ..Signature::default() }
}

/// The id of the key, `-` for none, or why not.
fn judged(settings: &Signature, message: &Message<'_>, at: i64) -> Result<String, Fault> {
    let (keys, wall) = (keys(), SystemTime::UNIX_EPOCH + Duration::from_secs(at.unsigned_abs()));
    let verified = verify(settings, |id| keys.get(id), message, wall)?;
    Ok(verified.map_or_else(|| "-".to_owned(), |verified| verified.key.id.to_string()))
}

/// Signs components of a request by the shared secret.
fn signed(head: &mut RequestHead, input: &str) {
    let list: sfv::List = Parser::new(input).parse().unwrap();
    let Some(ListEntry::InnerList(list)) = list.first() else { panic!("{input}") };
    let base = Covered::of(list).and_then(|covered| covered.base(&message(head))).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(SECRET).unwrap());
    let signature = STANDARD.encode(hmac::sign(&key, &base));
    assert!(head.fields.append("signature-input", format!("a={input}").as_bytes()));
    assert!(head.fields.append("signature", format!("a=:{signature}:").as_bytes()));
}

#[test]
fn the_vectors_of_the_standard() {
    for (input, signature, key) in [
        (
            r#"sig-b21=();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd""#,
            "sig-b21=:d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==:",
            "test-key-rsa-pss",
        ),
        (
            r#"sig-b22=("@authority" "content-digest" "@query-param";name="Pet");created=1618884473;keyid="test-key-rsa-pss";tag="header-example""#,
            "sig-b22=:LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE5qH7KT8UCMkSowOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17SARYhpTlaqwZVtR8NV7+4UKkjqpcAoFqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAoxk//0RoKUqiYY8Bh0aaUEb0rQl3/XaVe4bXTugEjHSw==:",
            "test-key-rsa-pss",
        ),
        (
            r#"sig-b23=("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss""#,
            "sig-b23=:bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==:",
            "test-key-rsa-pss",
        ),
        (
            r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
            "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:",
            "test-shared-secret",
        ),
        (
            r#"sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#,
            "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:",
            "test-key-ed25519",
        ),
    ] {
        let good = request(&[("signature-input", input), ("signature", signature)]);
        assert_eq!(judged(&anything(), &message(&good), MADE).as_deref(), Ok(key), "{input}");
        // Of any other key it is wrong.
        let other =
            if key == "test-shared-secret" { "test-key-ed25519" } else { "test-shared-secret" };
        let input = input.replace(key, other);
        let bad = request(&[("signature-input", &*input), ("signature", signature)]);
        assert_eq!(judged(&anything(), &message(&bad), MADE), Err("the signature is wrong"));
    }
}

#[test]
fn what_must_be_covered() {
    let usual = Signature::default();
    let key = r#";created=1618884473;keyid="test-shared-secret""#;
    let lacks = Err("the signature does not cover what it must");
    for (components, expected) in [
        (r#""@method" "@authority" "@path" "@query" "content-digest""#, Ok("test-shared-secret")),
        (r#""@method" "@target-uri" "content-digest""#, Ok("test-shared-secret")),
        (r#""@method" "@authority" "@request-target" "content-digest""#, Ok("test-shared-secret")),
        (r#""@method" "@authority" "@path" "content-digest""#, lacks),
        (r#""@method" "@authority" "@query-param";name="Pet" "@path" "content-digest""#, lacks),
        (r#""@authority" "@path" "@query" "content-digest""#, lacks),
        ("", lacks),
        (
            r#""@method" "@target-uri" "date""#,
            Err("the signature does not cover the digest of the body"),
        ),
        (
            r#""@method" "@target-uri" "content-digest";key="sha-512""#,
            Err("the signature does not cover the digest of the body"),
        ),
    ] {
        let mut head = request(&[]);
        signed(&mut head, &format!("({components}){key}"));
        assert_eq!(
            judged(&usual, &message(&head), MADE).as_deref(),
            expected.as_ref().map(|it| *it),
            "{components}"
        );
    }
    // A query that is not there need not be covered, and one that is added is.
    let mut head = request(&[]);
    head.target = "/foo".to_owned();
    signed(&mut head, &format!(r#"("@method" "@authority" "@path" "content-digest"){key}"#));
    assert!(judged(&usual, &message(&head), MADE).is_ok());
    head.target = "/foo?admin=1".to_owned();
    assert_eq!(judged(&usual, &message(&head), MADE), lacks.map(str::to_owned));
}

#[test]
fn what_is_changed_on_the_way_is_noticed() {
    let input = r#"("@method" "@target-uri" "date" "content-type";bs "@query-param";name="Pet" "@scheme");created=1618884473;keyid="test-shared-secret""#;
    let mut head = request(&[]);
    signed(&mut head, input);
    let good = message(&head);
    assert!(judged(&anything(), &good, MADE).is_ok());
    let wrong = Err("the signature is wrong");
    for other in [
        Message { is_secure: false, host: "example.com", ..good },
        Message { host: "evil.example", ..good },
        Message { host: "example.com:8443", ..good },
        Message { target: "/foo?param=value&Pet=dog", ..good },
        Message { target: "/bar?param=Value&Pet=dog", ..good },
    ] {
        assert_eq!(judged(&anything(), &other, MADE), wrong, "{other:?}");
    }
    let twice = Message { target: "/foo?param=Value&Pet=dog&Pet=dog", ..good };
    assert_eq!(
        judged(&anything(), &twice, MADE),
        Err("a query parameter that is covered is missing, or there twice")
    );
    for (name, value) in [("date", "Tue, 20 Apr 2021 02:07:56 GMT"), ("content-type", "text/html")]
    {
        let mut changed = head.clone();
        changed.fields.set_named(name, value.as_bytes());
        assert_eq!(judged(&anything(), &message(&changed), MADE), wrong, "{name}");
        changed.fields.remove_named(name);
        if name == "date" {
            let missing = Err("the signature covers a field that is not there");
            assert_eq!(judged(&anything(), &message(&changed), MADE), missing);
        }
    }
    let mut changed = head.clone();
    changed.method = Method::Put;
    assert_eq!(judged(&anything(), &message(&changed), MADE), wrong);
    let mut changed = head.clone();
    changed.fields.append("date", b"now");
    assert_eq!(judged(&anything(), &message(&changed), MADE), wrong, "a second line");
}

#[test]
fn the_time_of_a_signature() {
    let settings = Signature {
        age_max: Duration::from_secs(100),
        skew: Duration::from_secs(10),
        ..anything()
    };
    let of = |times: &str| format!(r#"("date"){times};keyid="test-shared-secret""#);
    let old = Err("the signature is too old");
    for (times, at, expected) in [
        (";created=1000", 1000, Ok("test-shared-secret")),
        (";created=1000", 1110, Ok("test-shared-secret")),
        (";created=1000", 1111, old),
        (";created=1000", 990, Ok("test-shared-secret")),
        (";created=1000", 989, Err("the signature was made in the future")),
        (";created=1000;expires=1050", 1060, Ok("test-shared-secret")),
        (";created=1000;expires=1050", 1061, Err("the signature has expired")),
        (";created=1000;expires=999999999999999", 1111, old),
        (";created=-999999999999999", 1000, old),
        (";created=\"1000\"", 1000, Err("a time of the signature is no whole number")),
        (";created=1000;expires=1.5", 1000, Err("a time of the signature is no whole number")),
        ("", 1000, Err("the signature does not say when it was made")),
    ] {
        let mut head = request(&[]);
        signed(&mut head, &of(times));
        let found = judged(&settings, &message(&head), at);
        assert_eq!(found.as_deref(), expected.as_ref().map(|it| *it), "{times} at {at}");
    }
}

#[test]
fn which_of_several_signatures_is_meant() {
    let key = r#";created=1618884473;keyid="test-shared-secret""#;
    let mut head = request(&[]);
    signed(&mut head, &format!(r#"("date"){key};tag="here""#));
    let good = head.fields.named("signature").unwrap().to_vec();
    for (input, tag, label, expected) in [
        // By somebody else, such as a proxy on the way.
        (r#"b=("date");created=1;keyid="unknown""#, None, None, Ok("test-shared-secret")),
        (
            r#"b=("date");created=1;keyid="test-key-ed25519""#,
            None,
            None,
            Err("there are several signatures for here; a tag tells them apart"),
        ),
        (
            r#"b=("date");created=1;keyid="test-key-ed25519""#,
            Some("here"),
            None,
            Ok("test-shared-secret"),
        ),
        (
            r#"b=("date");created=1;keyid="test-key-ed25519""#,
            None,
            Some("a"),
            Ok("test-shared-secret"),
        ),
        (
            r#"b=("date");created=1618884473;keyid="test-key-ed25519""#,
            None,
            Some("b"),
            Err("`Signature` has no bytes under the label of its input"),
        ),
        ("b=1", None, Some("b"), Err("a member of `Signature-Input` is no list of components")),
        ("b=1", None, Some("c"), Err("no signature has the label that is asked for here")),
        ("b=1", Some("there"), None, Err("no signature has the `tag` that is asked for here")),
        // Of two inputs with one label the last counts, for everybody who reads such a field.
        (
            r#"a=("date");created=1;keyid="unknown""#,
            None,
            None,
            Err("the signature is by a key that is not known here"),
        ),
    ] {
        let settings =
            Signature { tag: tag.map(Into::into), label: label.map(Into::into), ..anything() };
        let mut head = head.clone();
        if input.starts_with("b=1") && tag.is_some() {
            head.fields.set_named("signature-input", b"b=()");
        } else {
            head.fields.append("signature-input", input.as_bytes());
        }
        head.fields.set_named("signature", &good);
        let found = judged(&settings, &message(&head), MADE);
        assert_eq!(found.as_deref(), expected.as_ref().map(|it| *it), "{input} {tag:?} {label:?}");
    }
}

#[test]
fn what_is_no_signature() {
    let many = format!(
        "a=({});created=1618884473;keyid=\"test-shared-secret\"",
        "\"x\" ".repeat(65).trim()
    );
    let long = format!("a=();x=\"{}\"", "y".repeat(FIELD_BYTES_MAX));
    let of = |components: &str| {
        format!(r#"a=({components});created=1618884473;keyid="test-shared-secret""#)
    };
    let parameters = Err("the signature covers a component with parameters that are not taken");
    for (input, expected) in [
        (of(r#""date" "date""#), Err("the signature covers a component twice")),
        (of(r#""Date""#), Err("the signature covers a field that none can be")),
        (of(r#""""#), Err("the signature covers a field that none can be")),
        (of("date"), Err("the signature covers what is no component")),
        (of(r#""@status""#), Err("the signature covers what no request has")),
        (of(r#""@signature-params""#), Err("the signature covers what no request has")),
        (of(r#""@method";req"#), parameters),
        (of(r#""date";req"#), parameters),
        (of(r#""date";sf"#), parameters),
        (of(r#""date";tr"#), parameters),
        (of(r#""date";bs=?0"#), parameters),
        (of(r#""date";bs;key="a""#), parameters),
        (of(r#""@query-param""#), Err("the signature covers what no request has")),
        (of(r#""@query-param";name=1"#), parameters),
        (
            of(r#""@query-param";name="none""#),
            Err("a query parameter that is covered is missing, or there twice"),
        ),
        (of(r#""date";key="a""#), Err("a field that is covered by `key` is no dictionary")),
        (of(r#""content-digest";key="a""#), Err("the signature covers a field that is not there")),
        (of(r#""date""#), Err("the signature is wrong")),
        (
            of(r#""date""#) + r#";alg="ed25519""#,
            Err("the signature names another algorithm than that of its key"),
        ),
        (
            of(r#""date""#) + ";alg=hmac-sha256",
            Err("the signature names another algorithm than that of its key"),
        ),
        ("a=();created=1618884473".to_owned(), Err("the signature names no key")),
        ("a=(".to_owned(), Err("`Signature-Input` cannot be read")),
        (many, Err("the signature covers more than 64 components")),
        (long, Err("the fields of signatures are longer than 8 KiB")),
    ] {
        let head = request(&[("signature-input", &*input), ("signature", "a=:YWJj:")]);
        let found = judged(&anything(), &message(&head), MADE);
        assert_eq!(found.as_deref(), expected.as_ref().map(|it: &&str| *it), "{input:.100}");
    }
    let only = |field: &str| judged(&anything(), &message(&request(&[(field, "a=:YWJj:")])), MADE);
    assert!(only("signature").is_err() && only("signature-input").is_err());
    assert_eq!(only("x").as_deref(), Ok("-"));
}

#[test]
fn a_body_is_held_to_its_digests() {
    let body = br#"{"hello": "world"}"#;
    let sha256 = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    let sha512 = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
    let of = |field: &str| {
        let mut head = request(&[]);
        head.fields.set_named("content-digest", field.as_bytes());
        Content::of(&message(&head))
    };
    for field in [
        sha256.to_owned(),
        sha512.to_owned(),
        format!("{sha256}, {sha512}"),
        format!("md5=:YQ==:, {sha256}"),
    ] {
        let content = of(&field).unwrap();
        assert!(content.is(body) && !content.is(b"other") && !content.is(b""), "{field}");
    }
    // Each that is known must fit.
    let mixed = of(&format!("{sha512}, sha-256=:{}:", STANDARD.encode([0; 32]))).unwrap();
    assert!(!mixed.is(body));
    let wrong = Err("`Content-Digest` holds no digest");
    for (field, expected) in [
        ("sha-256=:YQ==:", wrong.clone()),
        ("sha-256=1", wrong.clone()),
        ("sha-256=()", wrong),
        ("md5=:YQ==:", Err("`Content-Digest` is by neither `sha-256` nor `sha-512`")),
        ("SHA-256=YQ==", Err("`Content-Digest` cannot be read")),
    ] {
        assert_eq!(of(field), expected, "{field}");
    }
}

#[test]
fn a_nonce_is_asked_for() {
    let settings = Signature { nonce: true, ..anything() };
    let of =
        |more: &str| format!(r#"("date");created=1618884473;keyid="test-shared-secret"{more}"#);
    let bad = Err("the nonce of the signature is empty or too long");
    let long = format!(";nonce=\"{}\"", "n".repeat(NONCE_BYTES_MAX + 1));
    for (more, expected) in [
        (";nonce=\"n\"", Ok("test-shared-secret")),
        (";nonce=\"\"", bad),
        (&*long, bad),
        (";nonce=1", Err("the signature has no nonce")),
        ("", Err("the signature has no nonce")),
    ] {
        let mut head = request(&[]);
        signed(&mut head, &of(more));
        let found = judged(&settings, &message(&head), MADE);
        assert_eq!(found.as_deref(), expected.as_ref().map(|it| *it), "{more:.40}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic_or_let_in(
        input in "(a=)?[(]?[ -~]{0,60}[)]?(;created=1618884473;keyid=\"test-shared-secret\")?",
        signature in "(a=:)?[ -~]{0,40}:?",
        digest in "[ -~]{0,40}",
    ) {
        let mut head = request(&[]);
        head.fields.append("signature-input", input.as_bytes());
        head.fields.append("signature", signature.as_bytes());
        head.fields.set_named("content-digest", digest.as_bytes());
        prop_assert!(judged(&anything(), &message(&head), MADE).is_err());
    }
}

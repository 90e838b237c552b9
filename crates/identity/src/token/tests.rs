//! Tokens of the RFCs and of another library, and what attackers make of them.

use aws_lc_rs::hmac;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Keys and tokens made by PyJWT: each algorithm, with one key of each kind.
const PYJWT: &str = include_str!("fixtures/pyjwt.json");
const SECRET: [u8; 64] = {
    let mut secret = [0; 64];
    let mut at = 0;
    while at < secret.len() {
        secret[at] = at as u8;
        at += 1;
    }
    secret
};

/// RFC 7515 appendix A.1: HS256.
const A1: (&str, &str) = (
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    r#"{"keys":[{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#,
);
/// RFC 7515 appendix A.2: RS256.
const A2: (&str, &str) = (
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    r#"{"keys":[{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}]}"#,
);
/// RFC 7515 appendix A.3: ES256.
const A3: (&str, &str) = (
    "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#,
);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn rules(issuer: &str, algorithms: &[Algorithm]) -> Rules {
    Rules {
        issuer: issuer.to_owned(),
        audiences: None,
        algorithms: algorithms.to_vec(),
        skew: Duration::from_secs(60),
        required: vec!["exp".to_owned()],
        kind: None,
    }
}

fn verify(
    token: &str,
    keys: &KeySet,
    rules: &Rules,
    now: SystemTime,
) -> Result<Claims, TokenFault> {
    Unverified::parse(token.as_bytes())?.verify(keys, rules, now)
}

fn jwks(text: &str) -> KeySet {
    KeySet::of_jwks(text.as_bytes(), Algorithm::ALL, true).unwrap_or_else(|why| panic!("{why}"))
}

/// A token with this header and these claims, by HS256 and [`SECRET`].
fn signed(header: &Value, claims: &Value) -> String {
    let part = |of: &Value| URL_SAFE_NO_PAD.encode(of.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes())))
}

/// What comes of such a token with claims that are good but for `claims`, at the second 1,000.
fn judged(header: &Value, claims: &Value, rules: &Rules) -> Result<(), TokenFault> {
    let mut all = json!({"iss": "i", "exp": 2_000, "aud": "a"});
    for (name, value) in claims.as_object().into_iter().flatten() {
        match value {
            Value::Null => all.as_object_mut().and_then(|all| all.remove(name)),
            value => all.as_object_mut().and_then(|all| all.insert(name.clone(), value.clone())),
        };
    }
    let keys = KeySet::of_secret(&SECRET, &[Algorithm::Hs256]).unwrap_or_default();
    verify(&signed(header, &all), &keys, rules, at(1_000)).map(drop)
}

#[test]
fn the_tokens_of_the_rfc() {
    for ((token, keys), algorithm) in
        [(A1, Algorithm::Hs256), (A2, Algorithm::Rs256), (A3, Algorithm::Es256)]
    {
        let (keys, rules) = (jwks(keys), rules("joe", &[algorithm]));
        let claims = verify(token, &keys, &rules, at(1_300_819_379));
        assert_eq!(
            claims.map(|claims| claims.get("http://example.com/is_root").cloned()),
            Ok(Some(json!(true)))
        );
        assert_eq!(verify(token, &keys, &rules, at(1_300_819_440)), Err(TokenFault::Expired));
        assert!(verify(token, &keys, &rules, at(1_300_819_439)).is_ok(), "within the skew");
        let others = Algorithm::ALL.iter().copied().filter(|other| *other != algorithm);
        let others = Rules { algorithms: others.collect(), ..rules };
        assert_eq!(verify(token, &keys, &others, at(0)), Err(TokenFault::Algorithm));
    }
    // RFC 8037 appendix A.4, whose payload is no claims.
    let key = jwks(
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
    );
    let signature = URL_SAFE_NO_PAD
        .decode("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
        .unwrap_or_default();
    let text = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let verifies = |text: &[u8]| {
        key.fitting(Algorithm::EdDsa, None)
            .any(|key| key.verifies(Algorithm::EdDsa, text, &signature))
    };
    assert!(verifies(text) && !verifies(&text[1..]));
}

#[test]
fn the_tokens_of_another_library_by_every_algorithm() {
    let made: Value = serde_json::from_str(PYJWT).unwrap_or_default();
    let set = jwks(&json!({"keys": made["keys"]}).to_string());
    let secret = KeySet::of_secret(&SECRET, Algorithm::ALL).unwrap_or_default();
    let now = at(1_500_000_000);
    for algorithm in Algorithm::ALL {
        let token = made["tokens"][algorithm.word()].as_str().unwrap_or_default();
        let keys = if algorithm.kind() == algorithm::KeyKind::Secret { &secret } else { &set };
        let rules = Rules {
            audiences: Some(vec!["orders".to_owned()]),
            ..rules("https://issuer.example", &[*algorithm])
        };
        let claims =
            verify(token, keys, &rules, now).unwrap_or_else(|why| panic!("{algorithm:?}: {why}"));
        assert_eq!((claims.text("sub"), claims.expires()), (Some("ada"), Some(2e9)));
        assert!(claims.has_scope("write") && !claims.has_scope("writ"));
        assert_eq!(claims.texts("realm.roles").collect::<Vec<_>>(), ["admin"]);
        // One bit of anything that is signed, or of the signature.
        for part in 0..3 {
            let at = token.split('.').take(part).map(|part| part.len() + 1).sum::<usize>() + 5;
            let mut bent = token.to_owned().into_bytes();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            let bent = String::from_utf8(bent).unwrap_or_default();
            assert!(verify(&bent, keys, &rules, now).is_err(), "{algorithm:?} {part}");
        }
        // The same key as PEM, without a name.
        let kid = set.fitting(*algorithm, None).next().and_then(|key| key.kid.clone());
        if let Some(pem) = kid.and_then(|kid| made["pems"][kid].as_str()) {
            let keys = KeySet::of_file(pem.as_bytes(), Algorithm::ALL).unwrap_or_default();
            assert!(verify(token, &keys, &rules, now).is_ok(), "{algorithm:?} by PEM");
            // A public key is no secret, whoever signs with it as if it were.
            let text = [r#"{"alg":"HS256"}"#, r#"{"iss":"https://issuer.example"}"#]
                .map(|part| URL_SAFE_NO_PAD.encode(part))
                .join(".");
            let key = hmac::Key::new(hmac::HMAC_SHA256, pem.as_bytes());
            let signature = hmac::sign(&key, text.as_bytes());
            let forged = format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature));
            let any = Rules { algorithms: Algorithm::ALL.to_vec(), ..rules.clone() };
            assert_eq!(verify(&forged, &keys, &any, now), Err(TokenFault::UnknownKey));
        }
    }
}

#[test]
fn what_attackers_make_of_a_header() {
    let good = rules("i", &[Algorithm::Hs256]);
    for (header, expected) in [
        (json!({"alg": "HS256"}), Ok(())),
        (json!({"alg": "HS256", "kid": "any"}), Ok(())),
        (
            json!({"alg": "HS256", "jku": "https://evil.example", "x5u": "https://evil.example"}),
            Ok(()),
        ),
        (json!({"alg": "none"}), Err(TokenFault::Algorithm)),
        (json!({"alg": "None"}), Err(TokenFault::Algorithm)),
        (json!({"alg": "hs256"}), Err(TokenFault::Algorithm)),
        (json!({"alg": "HS512"}), Err(TokenFault::Algorithm)),
        (json!({"alg": "RS256"}), Err(TokenFault::Algorithm)),
        (json!({"alg": "HS256", "crit": ["b64"], "b64": false}), Err(TokenFault::Critical)),
        (json!({"alg": "HS256", "crit": []}), Err(TokenFault::Critical)),
        (json!({"alg": 1}), Err(TokenFault::Malformed("it names no algorithm"))),
        (json!({}), Err(TokenFault::Malformed("it names no algorithm"))),
        (json!([]), Err(TokenFault::Malformed("its header is no JSON object"))),
        (
            json!({"alg": "HS256", "kid": 1}),
            Err(TokenFault::Malformed("its `kid` is no short text")),
        ),
        (
            json!({"alg": "HS256", "kid": "k".repeat(300)}),
            Err(TokenFault::Malformed("its `kid` is no short text")),
        ),
        (json!({"alg": "HS256", "kid": "../../dev/null"}), Ok(())),
        (json!({"alg": "HS256", "typ": "at+jwt"}), Ok(())),
        (json!({"alg": "HS256", "typ": "application/JWT"}), Ok(())),
        (json!({"alg": "HS256", "typ": "logout+jwt"}), Err(TokenFault::Type)),
    ] {
        assert_eq!(judged(&header, &json!({}), &good), expected, "{header}");
    }
    let access = Rules { kind: Some("at+jwt".to_owned()), ..good };
    for (kind, expected) in [
        (json!("at+jwt"), Ok(())),
        (json!("application/at+jwt"), Ok(())),
        (json!("JWT"), Err(TokenFault::Type)),
    ] {
        assert_eq!(judged(&json!({"alg": "HS256", "typ": kind}), &json!({}), &access), expected);
    }
    assert_eq!(judged(&json!({"alg": "HS256"}), &json!({}), &access), Err(TokenFault::Type));
    // A key that is sent along is not looked at.
    let (token, key) = A2;
    let set: Value = serde_json::from_str(key).unwrap_or_default();
    let (_, rest) = token.split_once('.').unwrap_or_default();
    let header = json!({"alg": "RS256", "jwk": set["keys"][0]}).to_string();
    let sent = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
    let (others, rules) = (jwks(A1.1), rules("joe", Algorithm::ALL));
    assert_eq!(verify(&sent, &others, &rules, at(0)), Err(TokenFault::UnknownKey));
}

#[test]
fn what_a_token_must_say() {
    let header = json!({"alg": "HS256"});
    let plain = rules("i", &[Algorithm::Hs256]);
    let ours = Rules { audiences: Some(vec!["x".into(), "a".into()]), ..plain.clone() };
    let asks = Rules { required: vec!["exp".into(), "realm.roles".into()], ..plain.clone() };
    let timeless = Rules { required: Vec::new(), ..plain.clone() };
    let time = Err(TokenFault::Malformed("one of its times is no number"));
    for (claims, rules, expected) in [
        (json!({}), &plain, Ok(())),
        (json!({"iss": "j"}), &plain, Err(TokenFault::Issuer)),
        (json!({"iss": null}), &plain, Err(TokenFault::Issuer)),
        (json!({"iss": ["i"]}), &plain, Err(TokenFault::Issuer)),
        (json!({}), &ours, Ok(())),
        (json!({"aud": ["b", "a"]}), &ours, Ok(())),
        (json!({"aud": ["b"]}), &ours, Err(TokenFault::Audience)),
        (json!({"aud": "ab"}), &ours, Err(TokenFault::Audience)),
        (json!({"aud": {"a": 1}}), &ours, Err(TokenFault::Audience)),
        (json!({"aud": null}), &ours, Err(TokenFault::Audience)),
        (json!({"exp": null}), &plain, Err(TokenFault::Missing("exp".into()))),
        (json!({"exp": null}), &timeless, Ok(())),
        (json!({"exp": 940}), &timeless, Err(TokenFault::Expired)),
        (json!({"exp": 941}), &plain, Ok(())),
        (json!({"exp": -1}), &plain, Err(TokenFault::Expired)),
        (json!({"exp": 1e300}), &plain, Ok(())),
        (json!({"exp": "2000"}), &plain, time.clone()),
        (json!({"nbf": 1_060}), &plain, Ok(())),
        (json!({"nbf": 1_061}), &plain, Err(TokenFault::NotYet)),
        (json!({"nbf": {}}), &plain, time),
        (json!({}), &asks, Err(TokenFault::Missing("realm.roles".into()))),
        (json!({"realm": {"roles": []}}), &asks, Ok(())),
        (json!({"realm.roles": 1}), &asks, Ok(())),
        (json!({"realm": "roles"}), &asks, Err(TokenFault::Missing("realm.roles".into()))),
    ] {
        assert_eq!(judged(&header, &claims, rules), expected, "{claims}");
    }
}

#[test]
fn keys_that_are_not_for_this_are_passed_over() {
    let key = |more: Value| {
        let mut set: Value = serde_json::from_str(A3.1).unwrap_or_default();
        for (name, value) in more.as_object().into_iter().flatten() {
            set["keys"][0][name] = value.clone();
        }
        set.to_string()
    };
    let taken = |text: &str| KeySet::of_jwks(text.as_bytes(), Algorithm::ALL, false).is_ok();
    for (more, expected) in [
        (json!({}), true),
        (json!({"use": "sig", "alg": "ES256", "key_ops": ["verify"]}), true),
        (json!({"use": "enc"}), false),
        (json!({"alg": "ES384"}), false),
        (json!({"key_ops": ["sign"]}), false),
        (json!({"crv": "P-384"}), false),
        (json!({"y": "AAAA"}), false),
        (json!({"x": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}), false),
        (json!({"kty": "future"}), false),
    ] {
        assert_eq!(taken(&key(more.clone())), expected, "{more}");
    }
    // What anybody can read is no secret.
    assert!(!taken(A1.1));
    for bad in ["", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[1,null]}"#] {
        assert!(!taken(bad), "{bad}");
    }
    let one: Value = serde_json::from_str(A3.1).unwrap_or_default();
    let many = vec![one["keys"][0].clone(); keys::KEYS_MAX + 1];
    assert!(!taken(&json!({"keys": many}).to_string()));
    assert!(KeySet::of_secret(&SECRET[..31], &[Algorithm::Hs256]).is_err());
    assert!(KeySet::of_secret(&SECRET, &[Algorithm::Rs256]).is_err());
    assert!(
        KeySet::of_file(
            b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----",
            Algorithm::ALL
        )
        .is_err()
    );
    // With a name, other names are not tried; a set without names is.
    let named = jwks(&key(json!({"kid": "one"})));
    for (kid, found) in [(Some("one"), 1), (Some("two"), 0), (None, 1)] {
        assert_eq!(named.fitting(Algorithm::Es256, kid).count(), found, "{kid:?}");
    }
    assert_eq!(jwks(A3.1).fitting(Algorithm::Es256, Some("two")).count(), 1);
}

#[test]
fn a_token_is_short_and_has_three_parts() {
    let long = "a".repeat(TOKEN_BYTES_MAX + 1);
    let parse = |text: &str| Unverified::parse(text.as_bytes()).map(drop);
    assert_eq!(parse(&long), Err(TokenFault::TooLong));
    for text in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "e30.e30.",
        &format!("{}.x", A1.0),
        &A1.0.replace('.', "=."),
    ] {
        assert!(matches!(parse(text), Err(TokenFault::Malformed(_))), "{text}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic_or_believe(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        header in "[ -~]{0,60}",
        claims in "[ -~]{0,60}",
        end in 0_usize..200,
    ) {
        let keys = jwks(A1.1);
        let rules = rules("joe", Algorithm::ALL);
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let made = format!("{}.{}.{}", part(&header), part(&claims), URL_SAFE_NO_PAD.encode(&bytes));
        let cut = &A1.0[..end.min(A1.0.len() - 1)];
        for token in [&bytes[..], made.as_bytes(), cut.as_bytes()] {
            let believed = Unverified::parse(token).and_then(|read| read.verify(&keys, &rules, at(0)));
            prop_assert!(believed.is_err());
        }
        let _ = KeySet::of_jwks(&bytes, Algorithm::ALL, true);
        let _ = KeySet::of_file(&bytes, Algorithm::ALL);
        let _ = KeySet::of_jwks(format!("{{\"keys\":[{header}]}}").as_bytes(), Algorithm::ALL, true);
    }
}

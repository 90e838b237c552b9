//! Whatever a token says, nothing is believed that was not signed, and what is believed fits the rules; keys and
//! claims of anybody are read or refused. The lines are a token, the header and the claims of another, and keys.
#![no_main]

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use weft_identity::token::{Algorithm, Claims, KeySet, Rules, TOKEN_BYTES_MAX, Unverified};

const SECRET: [u8; 64] = [7; 64];

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn rules() -> Rules {
    Rules {
        issuer: "id".into(),
        audiences: Some(vec!["orders".into()]),
        algorithms: Algorithm::ALL.to_vec(),
        skew: Duration::from_secs(60),
        required: vec!["exp".into(), "realm.roles".into()],
        kind: None,
    }
}

fn is_good(token: &[u8], keys: &KeySet) -> Option<Claims> {
    let unverified = Unverified::parse(token).ok()?;
    assert!(token.len() <= TOKEN_BYTES_MAX);
    let issuer = unverified.issuer().map(str::to_owned);
    let claims = unverified.verify(keys, &rules(), now()).ok()?;
    assert_eq!(issuer.as_deref(), Some("id"));
    Some(claims)
}

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (token, header, claims, keys) = (line(), line(), line(), line());
    let secret = KeySet::of_secret(&SECRET, &[Algorithm::Hs256]).unwrap();
    assert!(is_good(token, &secret).is_none(), "nobody else has the secret");

    let [header, payload] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let signed = format!("{header}.{payload}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    if let Some(claims) = is_good(format!("{signed}.{signature}").as_bytes(), &secret) {
        assert!(claims.is_for("orders") && claims.is_time(now(), rules().skew).is_ok());
        assert!(claims.get("exp").is_some() && claims.get("realm.roles").is_some());
        claims.names().for_each(|name| assert!(claims.exactly(name).is_some()));
        assert!(claims.weight() > 0);
        // Of another text, the signature is none.
        let other = URL_SAFE_NO_PAD.encode([payload.as_bytes(), b" "].concat());
        assert!(is_good(format!("{header}.{other}.{signature}").as_bytes(), &secret).is_none());
    }
    if let Ok(claims) = Claims::of_json(keys) {
        let _ = (claims.has_scope("read"), claims.is_for("orders"), claims.get("a.b.c"));
        let _ = (claims.is_time(now(), Duration::ZERO), claims.expires(), claims.weight());
    }
    for with_secrets in [true, false] {
        if let Ok(keys) = KeySet::of_jwks(keys, Algorithm::ALL, with_secrets) {
            let _ = is_good(token, &keys);
        }
    }
    if let Ok(keys) = KeySet::of_file(keys, Algorithm::ALL) {
        let _ = is_good(token, &keys);
    }
});

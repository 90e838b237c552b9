//! What is signed is verified, by keys of every kind and form, and what is no key is told.

use std::time::{Duration, SystemTime};

use rcgen::KeyPair;
use serde_json::json;

use super::*;
use crate::token::{KeySet, Rules, Unverified};

/// As openssl writes them, in forms that rcgen does not.
const PKCS1: (&str, &str) =
    (include_str!("../fixtures/rsa.pem"), include_str!("../fixtures/rsa.pub.pem"));
const SEC1: (&str, &str) = (
    "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIENgcQrGmawFWwOXW7A1jb76dWGch4IIMy2piEEsEsVuoAoGCCqGSM49
AwEHoUQDQgAEznb/P+6niJaR1kJekQWTBBgkwY01MZgnrzlJQIbJmSJlOlGRfGgH
SFrkz3QAtsSSwcYPAjSxd3JT5N+51zA/XA==
-----END EC PRIVATE KEY-----",
    "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEznb/P+6niJaR1kJekQWTBBgkwY01
MZgnrzlJQIbJmSJlOlGRfGgHSFrkz3QAtsSSwcYPAjSxd3JT5N+51zA/XA==
-----END PUBLIC KEY-----",
);
const WITHOUT_PUBLIC: (&str, &str) = (
    "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEILn2crM04QEmiBEmrur/Xf8gDfqWc/0YAI58izVOfEAO
-----END PRIVATE KEY-----",
    "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA6+pFZ3zNRieSN6dpYeXl26Rvqca6s7wZ8HwYtzdcyVY=
-----END PUBLIC KEY-----",
);
/// RSA of 1024 bits.
const SMALL: &str = "-----BEGIN PRIVATE KEY-----
MIICdgIBADANBgkqhkiG9w0BAQEFAASCAmAwggJcAgEAAoGBAOCTIky0c3T0IEAS
ozAG8HOGIuNaw4nbPYhUAHKjPmKZpxIEU8oIlwhR4VYGMYvR1xDVLg8XY4TCxxMS
5Kgo4Z1uiORoBnL219YXONUimSWUzv7KPgfH5lgp5Ko9jPTT4gBiWZwf3RIE1kUY
VBWkv7GkJhI+477j655ZZ2KAbk3vAgMBAAECgYAEw1og4lroihz8/ugzJpKHALtQ
syYekGXXtGBmDgxOrw+aFDlquY/qf0IWPv9iBctX8g2OCGL19+OdBfOPlX5jfDlv
fKTFXgD3rHWMDC2V6dLDdb8DT7s1lmHlYf/DeRkkzI09b3dkotPFQ7HPF8ddu3b3
Au0FXQ1g/gUN8x9xUQJBAP/Qw9RmhlezKvxmfrCIxsXJWMkoqpvLhykPHG+2hOXy
uX4GBs6rEocV6hsBwKOKhyzwnTUOYOIBuFSpZlUXLlsCQQDgvJm/aQnyU+BAiU/d
sDci4VB0Sdext9tkYe/NoGM/ObOcH6YhhrLVtgZeXflc11Pvh4Kv84SrlYoK/tHG
5Nr9AkEAqX4Kogoj7Kt7SawnOJQHDzjuqKlXEM5zCRNIBgRqXWjK2eLoU7opFnPA
npA0sKayFWZ+4o5aRqRZG075zFsFjQJAbrebyzgVZWQ7I7BCP4ZT84QrXc8PS4e3
t0GkoZo1qu1jdjQFZZj1u+G8S3tioYGX4XbSRJrlLp8ybe5SLPmMhQJAJGwI4tYo
tjH83pSj963xvyHcklaDnsILR8/yZufjQ0gN0694g2KyXMQpfepEJzl9MuG6KwrN
7afrfhJ1nohGAQ==
-----END PRIVATE KEY-----";

fn holds(private: &str, public: &str, algorithm: Algorithm) {
    let key = SigningKey::of_pem(private.as_bytes()).unwrap();
    assert_eq!(key.algorithm(), algorithm);
    assert_eq!(key, SigningKey::of_pem(private.as_bytes()).unwrap());
    let claims = json!({ "iss": "weft", "aud": "https://id.example/token", "exp": 100 });
    let claims = claims.as_object().unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
    let keys = KeySet::of_file(public.as_bytes(), Algorithm::ALL).unwrap();
    let rules = Rules {
        issuer: "weft".into(),
        audiences: Some(vec!["https://id.example/token".into()]),
        algorithms: vec![algorithm],
        ..Rules::default()
    };
    for kid in [None, Some("k1")] {
        let token = key.sign(kid, claims).unwrap();
        let verified = Unverified::parse(token.as_bytes()).unwrap().verify(&keys, &rules, now);
        assert_eq!(verified.unwrap().text("iss"), Some("weft"), "{algorithm:?}");
        let head = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        let head: Value = serde_json::from_slice(&head).unwrap();
        assert_eq!(head.get("kid").and_then(Value::as_str), kid);
    }
    assert_eq!(format!("{key:?}"), format!("SigningKey {{ algorithm: {algorithm:?}, .. }}"));
}

#[test]
fn keys_of_every_kind_sign() {
    for (of, algorithm) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::Es256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, Algorithm::Es384),
        (&rcgen::PKCS_ECDSA_P521_SHA512, Algorithm::Es512),
        (&rcgen::PKCS_ED25519, Algorithm::EdDsa),
        (&rcgen::PKCS_RSA_SHA256, Algorithm::Rs256),
    ] {
        let pair = KeyPair::generate_for(of).unwrap();
        holds(&pair.serialize_pem(), &pair.public_key_pem(), algorithm);
        let other = KeyPair::generate_for(of).unwrap().serialize_pem();
        let [one, other] =
            [pair.serialize_pem(), other].map(|pem| SigningKey::of_pem(pem.as_bytes()));
        assert_ne!(one.unwrap(), other.unwrap());
    }
    holds(PKCS1.0, PKCS1.1, Algorithm::Rs256);
    holds(SEC1.0, SEC1.1, Algorithm::Es256);
    holds(WITHOUT_PUBLIC.0, WITHOUT_PUBLIC.1, Algorithm::EdDsa);
}

#[test]
fn what_is_no_key_is_told_and_not_shown() {
    let no_pem = "a private key in PEM, without a password, is expected here";
    for (pem, expected) in [
        ("", no_pem),
        ("a secret", no_pem),
        (PKCS1.1, no_pem),
        (SMALL, "it is no key of RSA"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "it is no key of RSA"),
    ] {
        let why = SigningKey::of_pem(pem.as_bytes()).unwrap_err();
        assert!(why.starts_with(expected), "{why}");
    }
}

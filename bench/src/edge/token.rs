//! An issuer of tokens: its key, what others know of it, and what it issues.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Who it is.
pub(crate) const ISSUER: &str = "https://issuer.bench.test";
/// Whom its tokens are for.
pub(crate) const AUDIENCE: &str = "bench";

const KEY_ID: &str = "bench-1";
/// How long a token is good: longer than any run.
const LIFE_SECS: u64 = 24 * 3_600;

/// An issuer with one key.
pub(super) struct Issuer {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl Issuer {
    pub(super) fn new() -> Result<Self> {
        let key =
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok().context("make a key")?;
        Ok(Self { key, random: SystemRandom::new() })
    }

    /// Its set of keys (RFC 7517).
    pub(super) fn jwks(&self) -> Result<String> {
        // An uncompressed point: one byte that says so, and two coordinates.
        let point = self.key.public_key().as_ref();
        let (x, y) = point.get(1..).context("a point")?.split_at(32);
        let [x, y] = [x, y].map(|of| URL_SAFE_NO_PAD.encode(of));
        let key = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID, "x": x, "y": y,
        });
        Ok(serde_json::to_string(&json!({ "keys": [key] }))?)
    }

    /// A token with as much in it as is usual (RFC 9068).
    pub(super) fn token(&self, subject: &str) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let head = json!({"alg": "ES256", "typ": "at+jwt", "kid": KEY_ID});
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "client_id": "bench-client",
            "iat": now, "nbf": now, "exp": now + LIFE_SECS,
            "jti": format!("{subject}-{now}"), "scope": "orders:read orders:write",
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(&claims));
        let signature = self.key.sign(&self.random, signed.as_bytes()).ok().context("sign")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
